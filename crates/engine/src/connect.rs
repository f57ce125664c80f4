//! Connections for the requests of tasks. The connector looks up the addresses of a name, leaves out those
//! that the policy refuses, and connects to one of the rest. It looks a name up only once for each
//! connection, so the answer cannot change between the check and the connection.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tower_service::Service;

use crate::addresses::{Addresses, Refused};
use crate::destination::Destination;
use crate::resolver::Resolver;

/// The time limit for connecting, for all addresses of a name together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Connects for the HTTP client.
#[derive(Clone)]
pub(crate) struct Connector {
    pub(crate) addresses: Arc<Addresses>,
    pub(crate) resolver: Arc<dyn Resolver>,
    pub(crate) open: OpenConnections,
}

/// The number of open connections, of all hosts together; clones share it.
#[derive(Clone, Default)]
pub(crate) struct OpenConnections(Arc<AtomicUsize>);

impl OpenConnections {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn one_more(&self) -> OpenConnection {
        self.0.fetch_add(1, Ordering::Relaxed);
        OpenConnection(self.clone())
    }
}

/// One open connection, until dropped.
struct OpenConnection(OpenConnections);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether a connection has carried an answer; clones are about the same connection.
#[derive(Clone, Default)]
pub(crate) struct ConnectionUse(Arc<AtomicBool>);

impl ConnectionUse {
    pub(crate) fn mark_answered(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_answered(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A connection that tells the HTTP client of its use.
pub(crate) struct TrackedStream {
    stream: TokioIo<TcpStream>,
    connection_use: ConnectionUse,
    _open: OpenConnection,
}

impl Connection for TrackedStream {
    fn connected(&self) -> Connected {
        self.stream.connected().extra(self.connection_use.clone())
    }
}

impl Read for TrackedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl Write for TrackedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Service<Uri> for Connector {
    type Response = TrackedStream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Self { addresses, resolver, open } = self.clone();
        Box::pin(async move {
            let deadline = Instant::now() + CONNECT_TIMEOUT;
            let destination = Destination::of(&uri)?;
            let connecting = connect(&addresses, &*resolver, destination, deadline);
            let stream = timeout_at(deadline, connecting).await.map_err(|_| timed_out())??;
            stream.set_nodelay(true)?;
            Ok(TrackedStream {
                stream: TokioIo::new(stream),
                connection_use: ConnectionUse::default(),
                _open: open.one_more(),
            })
        })
    }
}

async fn connect(
    addresses: &Addresses,
    resolver: &dyn Resolver,
    destination: Destination,
    deadline: Instant,
) -> Result<TcpStream, BoxError> {
    let Destination { host, port, .. } = destination;
    let found = match host.parse::<IpAddr>() {
        Ok(ip) => vec![SocketAddr::new(ip, port)],
        Err(_) => resolver.resolve(host.clone(), port).await.map_err(|e| format!("look up {host}: {e}"))?,
    };
    let mut refused: Option<Refused> = None;
    let mut allowed = Vec::new();
    for address in found {
        match addresses.refused(address) {
            Some(why) => refused = refused.or(Some(why)),
            None => allowed.push(address),
        }
    }
    if let (Some(refused), true) = (refused, allowed.is_empty()) {
        return Err(refused.into());
    }
    let mut last: BoxError = format!("{host} has no address").into();
    let count = allowed.len();
    for (i, address) in allowed.into_iter().enumerate() {
        // An address that does not answer must leave time for the others.
        let left = deadline.saturating_duration_since(Instant::now());
        let share = Instant::now() + left / u32::try_from(count - i).unwrap_or(u32::MAX);
        match timeout_at(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(e)) => last = format!("connect to {address}: {e}").into(),
            Err(_) => last = format!("connect to {address}: no answer").into(),
        }
    }
    Err(last)
}

fn timed_out() -> BoxError {
    format!("no connection within {} s", CONNECT_TIMEOUT.as_secs()).into()
}
