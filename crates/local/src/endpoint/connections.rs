//! Connections of HTTP: how many at once, and how long a client may take for a request.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use wasq_page::Body;

/// A client that takes longer than this for the head of its request is cut off.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections at once; further ones wait.
const CONNECTIONS_MAX: usize = 1000;

/// Answers the requests of every connection, for ever. The second argument of `respond` says whether the request comes from this
/// machine.
pub(super) async fn serve<F, R>(listener: TcpListener, respond: F) -> Infallible
where
    F: Fn(Request<Incoming>, bool) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let connection = connections.clone().acquire_owned().await.expect("the semaphore is never closed");
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(e) => {
                // Most likely there are no free file descriptors: other connections must end first.
                tracing::warn!("accept a connection: {e}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        // From this machine: a client may also use one of its other addresses.
        let from = peer.ip().to_canonical();
        let is_here =
            from.is_loopback() || stream.local_addr().is_ok_and(|own| own.ip().to_canonical() == from);
        let respond = respond.clone();
        tokio::spawn(async move {
            let _connection = connection;
            let service = hyper::service::service_fn(|request| {
                let answer = respond(request, is_here);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(e) = connection.await {
                tracing::debug!("a connection ended: {e}");
            }
        });
    }
}
