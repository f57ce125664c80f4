//! Connections for the requests of tasks. The connector looks up the addresses of a name, leaves out those
//! that the policy refuses, and connects to one of the rest. It looks a name up only once for each
//! connection, so the answer cannot change between the check and the connection.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tower_service::Service;

use crate::addresses::{Addresses, Refused};
use crate::destination::Destination;

/// Finds the addresses of a name.
pub trait Resolver: Send + Sync {
    /// Looks a name up; the port goes into each address.
    fn resolve(&self, host: String, port: u16) -> Resolving;
}

/// A look-up that is under way.
pub type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// The machine's own resolver.
pub(crate) struct System;

impl Resolver for System {
    fn resolve(&self, host: String, port: u16) -> Resolving {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }
}

/// The time limit for connecting, for all addresses of a name together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Connects for the HTTP client.
#[derive(Clone)]
pub(crate) struct Connector {
    pub(crate) addresses: Arc<Addresses>,
    pub(crate) resolver: Arc<dyn Resolver>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Self { addresses, resolver } = self.clone();
        Box::pin(async move {
            let deadline = Instant::now() + CONNECT_TIMEOUT;
            let destination = Destination::of(&uri)?;
            let connecting = connect(&addresses, &*resolver, destination, deadline);
            let stream = timeout_at(deadline, connecting).await.map_err(|_| timed_out())??;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(stream))
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
