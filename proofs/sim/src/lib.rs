#![doc = include_str!("../README.md")]

mod campaign;
mod consumer_ports;
mod cost;
mod lambda;
mod ledger;
mod process;
mod publisher;
mod queue;
mod reference;
mod run;
mod runner;
mod runs;
mod scenario;
mod scheduler;
mod script;
mod sqs;
mod system;
mod worker_ports;
mod world;

pub use campaign::{Campaign, Campaigned, campaign};
pub use cost::{Architecture, Counted, Dollars, GbSecond, LambdaPrices, PerMillion, Prices, Way, count};
pub use ledger::{Entry, Totals};
pub use run::{Report, run};
pub use scenario::{Drain, Kind, Load, Mutation, Protocol, Remembering, Scenario, TASKS_A_WORLD, Weather};
pub use script::{Expected, Says, Script};
