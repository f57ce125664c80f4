//! Look-ups of names. The system's look-up keeps a thread busy until it ends, and nothing can end it before. A task can ask
//! for names that nobody answers, and go on. So a look-up keeps its place until it has really ended, also if nobody waits for
//! it any more, and the names of one zone have few places. Names of other zones are not held up by them.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Semaphore;

/// Finds the addresses of a name.
pub trait Resolver: Send + Sync {
    /// Looks a name up; the port goes into each address.
    fn resolve(&self, host: String, port: u16) -> Resolving;
}

/// A look-up that is under way.
pub type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Look-ups of all names at once. tokio has 512 threads for such work.
const LOOKUPS_MAX: usize = 128;
/// Look-ups at once for the names of one zone: names that differ in their first label only.
const ZONE_LOOKUPS_MAX: usize = 8;

/// The machine's own resolver, with bounds.
pub(crate) struct System {
    look_up: fn(&str, u16) -> io::Result<Vec<SocketAddr>>,
    all: Arc<Semaphore>,
    zones: Mutex<HashMap<String, Weak<Semaphore>>>,
}

impl Default for System {
    fn default() -> Self {
        Self::with(|host, port| Ok((host, port).to_socket_addrs()?.collect()))
    }
}

impl System {
    fn with(look_up: fn(&str, u16) -> io::Result<Vec<SocketAddr>>) -> Self {
        Self { look_up, all: Arc::new(Semaphore::new(LOOKUPS_MAX)), zones: Mutex::default() }
    }

    /// The places of a name's zone.
    fn zone(&self, host: &str) -> Arc<Semaphore> {
        // `github.com` is a zone of its own: it has nothing to do with other names of `com`.
        let host = host.trim_end_matches('.');
        let zone =
            host.split_once('.').map_or(host, |(_, zone)| if zone.contains('.') { zone } else { host });
        let mut zones = self.zones.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(places) = zones.get(zone).and_then(Weak::upgrade) {
            return places;
        }
        zones.retain(|_, places| places.strong_count() > 0);
        let places = Arc::new(Semaphore::new(ZONE_LOOKUPS_MAX));
        zones.insert(zone.to_owned(), Arc::downgrade(&places));
        places
    }
}

impl Resolver for System {
    fn resolve(&self, host: String, port: u16) -> Resolving {
        let (zone, all, look_up) = (self.zone(&host), self.all.clone(), self.look_up);
        Box::pin(async move {
            let closed = |_| io::Error::other("no look-ups any more");
            let places =
                (zone.acquire_owned().await.map_err(closed)?, all.acquire_owned().await.map_err(closed)?);
            let looking = tokio::task::spawn_blocking(move || {
                let found = look_up(&host, port);
                drop(places);
                found
            });
            looking.await.map_err(io::Error::other)?
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Condvar, Mutex, PoisonError};
    use std::time::Duration;

    use super::*;

    static IS_SILENT: Mutex<bool> = Mutex::new(true);
    static ANSWERS: Condvar = Condvar::new();

    /// The server of `silent.test` is silent until this is dropped.
    struct Silence;

    impl Drop for Silence {
        fn drop(&mut self) {
            *IS_SILENT.lock().unwrap_or_else(PoisonError::into_inner) = false;
            ANSWERS.notify_all();
        }
    }

    /// A name below `silent.test` gets its answer when [`Silence`] is over, any other one at once.
    fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if host.ends_with(".silent.test") {
            let is_silent = IS_SILENT.lock().unwrap_or_else(PoisonError::into_inner);
            drop(ANSWERS.wait_while(is_silent, |silent| *silent));
        }
        Ok(vec![SocketAddr::from(([192, 0, 2, 1], port))])
    }

    #[tokio::test]
    async fn look_ups_that_were_dropped_take_few_places() {
        let resolver = System::with(look_up);
        let _silence = Silence;
        for i in 0..900 {
            let looking = resolver.resolve(format!("{i}.silent.test"), 80);
            // Long enough to begin, and then dropped.
            let _ = tokio::time::timeout(Duration::from_micros(10), looking).await;
        }
        assert_eq!(resolver.all.available_permits(), LOOKUPS_MAX - ZONE_LOOKUPS_MAX);
        let answered = resolver.resolve("neighbour.test".to_owned(), 80).await.expect("an answer");
        assert_eq!(answered, vec![SocketAddr::from(([192, 0, 2, 1], 80))]);
        let (one, other) = (resolver.zone("one.test"), resolver.zone("other.test."));
        assert!(
            !Arc::ptr_eq(&one, &other),
            "names of one top-level domain have nothing to do with each other"
        );
        assert_eq!(resolver.all.available_permits(), LOOKUPS_MAX - ZONE_LOOKUPS_MAX);
    }
}
