//! Generated from `tasks-wit`: the types of the world and the traits that the host implements.
//!
//! Each interface's trait is implemented in `host/`, in the file of the same name: `context.rs`, `queue.rs`, `http.rs`, `log.rs`, `steps.rs`.

#![allow(missing_docs, reason = "the WIT file has the documentation")]

wasmtime::component::bindgen!({
    path: "../../tasks-wit/wit",
    world: "task",
    imports: {
        "wasq:task/http.send": async,
        "wasq:task/queue.enqueue": async,
        "wasq:task/steps.save": async | trappable,
    },
    exports: { default: async },
});

pub use wasq::task::log::Level as LogLevel;
