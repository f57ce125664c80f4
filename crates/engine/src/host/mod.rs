//! The interfaces of the world: each file implements the trait of the interface of its name.

mod context;
mod http;
mod log;
mod queue;
mod steps;

pub(crate) use queue::divide_budget;
