#![doc = include_str!("../README.md")]

pub mod context;
mod failure;
mod host;
pub mod http;
mod logging;
pub mod queue;
#[cfg(all(target_family = "wasm", feature = "schema"))]
mod schema;
mod steps;
mod task;
#[cfg(not(target_family = "wasm"))]
pub mod testing;

pub use failure::Failure;
pub use steps::step;
pub use wasq_task_macros::task;

/// For the attribute's own code.
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod __private {
    pub use crate::host::bindings;
    pub use crate::host::bindings::{Failure as WitFailure, Guest, export_task};
    #[cfg(feature = "schema")]
    pub use crate::schema::{Described, Probe, TaskResult, Undescribed, schemas};
    pub use crate::task::run_exported as run;
}

/// `wasq build` asks for the schema of the task's types. For the attribute's own code.
#[cfg(all(target_family = "wasm", feature = "schema"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __schemas {
    ($params:ty, $result:ty) => {{
        #[allow(unused_imports)]
        use $crate::__private::{Described as _, Undescribed as _};
        Ok($crate::__private::schemas(
            (&$crate::__private::Probe::<$params>::new()).schema_for(false),
            (&$crate::__private::Probe::<<$result as $crate::__private::TaskResult>::Output>::new())
                .schema_for(true),
        ))
    }};
}

/// Without the feature there is none.
#[cfg(all(target_family = "wasm", not(feature = "schema")))]
#[doc(hidden)]
#[macro_export]
macro_rules! __schemas {
    ($params:ty, $result:ty) => {
        compile_error!(
            "types that derive JsonSchema give the task its schema: add `features = [\"schema\"]` to the dependency wasq-task"
        )
    };
}
