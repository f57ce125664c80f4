//! Scripted tasks, in place of wasm. A message's params are the script of its run.

use fastrand::Rng;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use wasq_protocol::{Failure, FailureKind, Message, Outcome, Timestamp};

use crate::scenario::{MAX_ATTEMPTS, Remembering};

/// The script of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// How long it takes, in milliseconds.
    pub ms: u64,
    /// The outcome of the run.
    pub says: Says,
    /// The number of children that it enqueues, with any outcome.
    #[serde(default)]
    pub children: u32,
    /// The number of steps that it takes at its beginning.
    #[serde(default)]
    pub steps: u32,
}

/// The outcomes that a script can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Says {
    /// It succeeds.
    Ok,
    /// It fails this many times, and then succeeds.
    Fails(u32),
    /// Like `Fails(1)`, and asks for a wait of this many seconds.
    Waits(u32),
    /// It always fails.
    Never,
    /// It always traps.
    Traps,
    /// It says that it can never succeed.
    Rejects,
    /// It goes on for ever.
    Hangs,
    /// It ends the process that runs it.
    Kills,
}

impl Script {
    /// A random script. Most scripts succeed, some fail in each possible way, and some take longer than a
    /// lease.
    pub fn any(rng: &mut Rng, remembering: Remembering) -> Self {
        let ms = match rng.u32(..100) {
            0..75 => rng.u64(1..500),
            75..92 => rng.u64(500..10_000),
            _ => rng.u64(10_000..100_000),
        };
        let says = match rng.u32(..100) {
            0..72 => Says::Ok,
            72..82 => Says::Fails(rng.u32(1..MAX_ATTEMPTS)),
            82..85 => Says::Waits(rng.u32(1..400)),
            85..90 => Says::Never,
            90..93 => Says::Traps,
            93..97 => Says::Rejects,
            _ => Says::Hangs,
        };
        let children = if rng.u32(..12) == 0 { rng.u32(1..15) } else { 0 };
        // Without a table of runs a step waits for one.
        let steps = if remembering != Remembering::Off && rng.u32(..4) == 0 { rng.u32(1..4) } else { 0 };
        Self { ms, says, children, steps }
    }

    /// A short run that succeeds.
    pub fn quick(rng: &mut Rng) -> Self {
        Self { ms: rng.u64(1..200), says: Says::Ok, children: 0, steps: 0 }
    }

    /// The expected result without faults.
    pub fn expected(&self) -> Expected {
        let (failures, success) = match self.says {
            Says::Ok => (0, true),
            Says::Fails(times) => (times, true),
            Says::Waits(_) => (1, true),
            Says::Never | Says::Traps | Says::Hangs => (MAX_ATTEMPTS, false),
            Says::Rejects => (1, false),
            Says::Kills => (0, false),
        };
        Expected { failures, success }
    }

    /// Whether every run of it succeeds.
    pub fn healthy(&self) -> bool {
        self.says == Says::Ok
    }

    /// The script as params.
    pub fn params(&self) -> Box<RawValue> {
        serde_json::value::to_raw_value(self).expect("string keys")
    }

    /// The body of a message that runs it.
    pub fn message(&self, task: &str, id: Option<String>, not_before: Option<Timestamp>) -> String {
        let mut message = Message::new(task.parse().expect("a name"), self.params());
        message.id = id;
        message.not_before = not_before;
        message.to_json()
    }

    /// How a run ends, after so many that failed.
    pub fn outcome(&self, failed: u32) -> Outcome {
        let failure = |kind| Outcome::Failure(Failure::new(kind, "as the script says"));
        match self.says {
            Says::Fails(times) if failed < times => failure(FailureKind::Retry),
            Says::Waits(seconds) if failed == 0 => Outcome::Failure(Failure {
                retry_after_seconds: Some(seconds),
                ..Failure::new(FailureKind::Retry, "as the script says")
            }),
            Says::Never => failure(FailureKind::Retry),
            Says::Traps => failure(FailureKind::Trap),
            Says::Rejects => failure(FailureKind::Reject),
            Says::Hangs => failure(FailureKind::OutOfTime),
            Says::Ok | Says::Fails(_) | Says::Waits(_) | Says::Kills => {
                Outcome::Success { output: RawValue::NULL.to_owned() }
            }
        }
    }
}

/// The expected result of a script without faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Failed runs.
    pub failures: u32,
    /// Whether it succeeds in the end.
    pub success: bool,
}
