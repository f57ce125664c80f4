#![doc = include_str!("../README.md")]

mod adapters;
mod campaign;
mod cost;
mod lambda;
mod ledger;
mod process;
mod queue;
mod reference;
mod run;
mod script;
mod system;
mod world;

pub use campaign::{Campaign, Campaigned, TASKS_A_WORLD, campaign};
pub use cost::{Counted, Dollars, LambdaPrices, PerMillion, Prices, Way, count};
pub use ledger::{Entry, Expected, Totals};
pub use process::Kind;
pub use run::{Report, run};
pub use script::{Says, Script};
pub use world::{Drain, Load, Mutation, Protocol, Scenario, Weather};
