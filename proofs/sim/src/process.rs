//! A process that can die at any await.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::sync::Notify;

use crate::queue::chance;
use crate::scenario::Kind;
use crate::world::{State, World};

/// A process: everything that dies together.
pub struct Process {
    pub world: Arc<World>,
    pub kind: Kind,
    /// Steps that are left; negative if it does not die by steps.
    fuse: AtomicI64,
    /// The time after which it dies, if it dies by time.
    at: Option<Duration>,
    dead: AtomicBool,
    died: Notify,
    /// The messages that it holds.
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    ids: Vec<String>,
    stale: BTreeSet<String>,
}

impl Process {
    /// Starts a process. In a storm, its death may already be decided.
    pub fn start(world: &Arc<World>, kind: Kind) -> Arc<Self> {
        let (fuse, at) = world.state(|state| {
            if !state.storm || state.crashes >= u64::from(world.scenario.crashes) {
                return (-1, None);
            }
            match state.rng.u32(..100) {
                0..55 => (state.rng.i64(1..50), None),
                55..85 => (-1, Some(Duration::from_millis(state.rng.u64(1..30_000)))),
                _ => (-1, None),
            }
        });
        Self::with(world, kind, (fuse, at))
    }

    /// Starts a process that never dies, because it is not part of wasq.
    pub fn immortal(world: &Arc<World>, kind: Kind) -> Arc<Self> {
        Self::with(world, kind, (-1, None))
    }

    fn with(world: &Arc<World>, kind: Kind, (fuse, at): (i64, Option<Duration>)) -> Arc<Self> {
        Arc::new(Self {
            world: world.clone(),
            kind,
            fuse: AtomicI64::new(fuse),
            at,
            dead: AtomicBool::new(false),
            died: Notify::new(),
            held: Mutex::default(),
        })
    }

    /// Runs a future in the process. Returns `None` if the process died first; the future is then dropped.
    pub async fn live<T>(&self, life: impl Future<Output = T>) -> Option<T> {
        let doom = async {
            match self.at {
                Some(at) => {
                    tokio::time::sleep(at).await;
                    self.die();
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.died.notified() => None,
            () = doom => None,
            lived = life => Some(lived),
        }
    }

    /// An await at which the process may die. If it dies, this never returns.
    pub async fn step(&self) {
        let left = self.fuse.load(Ordering::Relaxed);
        if left > 0 {
            self.fuse.store(left - 1, Ordering::Relaxed);
            if left == 1 {
                self.die();
            }
        }
        if self.is_dead() {
            std::future::pending::<()>().await;
        }
    }

    /// Ends it at once.
    pub fn die(&self) {
        if !self.dead.swap(true, Ordering::Relaxed) {
            self.world.state(|state| {
                state.crashes += 1;
                *state.crashed.entry(self.kind).or_default() += 1;
            });
            self.fault();
            if self.kind == Kind::Worker {
                let held = self.held();
                self.world.state(|state| held.ids.iter().for_each(|id| state.ledger.worker_died(id)));
            }
            self.died.notify_one();
        }
    }

    /// Whether it has ended.
    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// Ends it, because a message killed it.
    pub fn killed_by(&self, id: &str) {
        self.world.state(|state| state.ledger.killed(id));
        self.die();
    }

    /// Records the messages that the process holds. A fault of the process is a fault of each of them.
    pub fn holds(&self, ids: impl IntoIterator<Item = String>, stale: BTreeSet<String>) {
        let mut held = self.held();
        held.ids.extend(ids);
        held.stale = stale;
    }

    /// Records that the process no longer holds these messages.
    pub fn lets_go(&self, ids: &[String]) {
        self.held().ids.retain(|id| !ids.contains(id));
    }

    /// Records that the process holds no messages.
    pub fn holds_nothing(&self) {
        *self.held() = Held::default();
    }

    /// The messages with leases that were already over when the process got them.
    pub fn stale(&self) -> BTreeSet<String> {
        self.held().stale.clone()
    }

    /// Records a fault of the process for every message that it holds.
    pub fn fault(&self) {
        let held = self.held();
        self.world.state(|state| held.ids.iter().for_each(|id| state.fault(id)));
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls a service over the network. The call may be slow or refused, and the request or the answer may
    /// get lost. The process may die at every point of the call.
    pub async fn call<T: Send + 'static>(
        &self,
        name: &'static str,
        effect: impl FnOnce(&mut State) -> T + Send + 'static,
    ) -> Result<T> {
        self.call_as(name, Manners::Network, effect).await
    }

    /// Like [`Process::call`], with the given manners.
    pub async fn call_as<T: Send + 'static>(
        &self,
        name: &'static str,
        manners: Manners,
        effect: impl FnOnce(&mut State) -> T + Send + 'static,
    ) -> Result<T> {
        let fate = self.world.state(|state| {
            *state.calls.entry(name).or_default() += 1;
            Fate::draw(state, manners)
        });
        if self.fuse.load(Ordering::Relaxed) == 1 && fate.on_the_wire {
            // The process dies now, but the request that it has sent still arrives.
            let world = self.world.clone();
            tokio::spawn(async move {
                tokio::time::sleep(fate.before).await;
                world.state(|state| {
                    effect(state);
                });
            });
            self.step().await;
            unreachable!("the fuse was at its end");
        }
        self.step().await;
        tokio::time::sleep(fate.before).await;
        if fate.slow {
            self.fault();
        }
        match fate.end {
            End::Arrives => {}
            End::Refused => {
                self.fault();
                bail!("{name}: ThrottlingException");
            }
            End::LostOnTheWay => {
                self.fault();
                bail!("{name}: timeout");
            }
            End::AnswerLost => {
                self.fault();
                self.world.state(effect);
                self.step().await;
                bail!("{name}: timeout");
            }
        }
        let answer = self.world.state(effect);
        self.step().await;
        Ok(answer)
    }
}

/// How a service treats a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manners {
    /// Everything can happen.
    Network,
    /// The call can be slow, but nothing else can happen to it. Used for receives: the queue simulates their
    /// losses.
    Slow,
}

/// The fate of one call.
struct Fate {
    before: Duration,
    slow: bool,
    end: End,
    on_the_wire: bool,
}

enum End {
    Arrives,
    Refused,
    LostOnTheWay,
    AnswerLost,
}

impl Fate {
    fn draw(state: &mut State, manners: Manners) -> Self {
        let rng = &mut state.rng;
        let mut fate = Self {
            before: Duration::from_millis(rng.u64(1..15)),
            slow: false,
            end: End::Arrives,
            on_the_wire: rng.u32(..10) < 3,
        };
        if !state.storm {
            return fate;
        }
        if chance(rng, 0.01) {
            fate.slow = true;
            fate.before = Duration::from_millis(rng.u64(500..45_000));
        }
        if manners == Manners::Network {
            fate.end = match rng.u32(..1000) {
                0..8 => End::Refused,
                8..13 => End::LostOnTheWay,
                13..20 => End::AnswerLost,
                _ => End::Arrives,
            };
        }
        fate
    }
}
