#![doc = include_str!("../README.md")]

mod build;
mod cases;
mod check;
mod component;
mod contract;
mod language;
mod languages;
mod new;
mod project;
mod schema;
mod sdk;
mod tool;
mod types;
mod watch;

pub use build::{Built, build};
pub use cases::{Case, Cases, Subject, Verdict};
pub use check::{Checked, Import, check, initial_memory};
pub use component::from_module as component_of;
pub use contract::Contract;
pub use language::Language;
pub use languages::toolchain;
pub use new::create;
pub use project::Project;
pub use schema::bad_params;
pub use types::{SenderLanguage, sender_types};
pub use watch::Projects;
