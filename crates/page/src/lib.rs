//! The page: what people look at and act on. It is rendered here from a [`Data`], which has an adapter for each place that wasq runs in.
//!
//! Everything that a task or a sender has said is text: the templates escape it, `text.rs` makes hidden characters visible, and the
//! content security policy allows no script but the page's own.

mod acts;
mod callers;
mod data;
mod family;
mod fields;
mod form;
mod guard;
mod json;
mod once;
mod pictures;
mod site;
mod stats;
mod text;
mod views;

pub use callers::Callers;
pub use data::{
    Cancelled, Data, DeadLetters, Group, Letter, LogLine, NotAPlace, Page, Search, Span, Stages, Task, Upload,
};
pub use guard::Token;
pub use site::{Body, Site, refused};
pub use stats::{EndedRun, Stats};
