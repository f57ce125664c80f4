//! The host behind the other modules: wasq itself in a component, a [`World`](crate::testing::World) in
//! tests.
//!
//! This file and `context`, `http`, `queue` and `steps` import each other: they call the host, and the host speaks in their
//! types. A file of types for its sake would take each type away from its functions.

#[cfg(not(target_family = "wasm"))]
pub(crate) use crate::testing::{abandon_step, context, enqueue, load_step, log, save_step, send};
#[cfg(target_family = "wasm")]
pub(crate) use component::{abandon_step, context, enqueue, load_step, log, save_step, send};

#[cfg(target_family = "wasm")]
pub use component::bindings;

#[cfg(target_family = "wasm")]
mod component {
    use std::cell::OnceCell;
    use std::time::Duration;

    use crate::context::Context;
    use crate::http::{self, Request, Response};
    use crate::queue::{Child, EnqueueError};
    use crate::steps::StepError;

    /// Generated from the contract, `tasks-wit`.
    #[allow(missing_docs)]
    pub mod bindings {
        wit_bindgen::generate!({
            path: "wit",
            world: "task",
            pub_export_macro: true,
            export_macro_name: "export_task",
            default_bindings_module: "wasq_task::__private::bindings",
        });
    }

    use bindings::wasq::task as host;

    /// Asks the host only once: each run has its own instance.
    pub(crate) fn context<T>(get: impl FnOnce(&Context) -> T) -> T {
        thread_local!(static CONTEXT: OnceCell<Context> = const { OnceCell::new() });
        CONTEXT.with(|context| {
            get(context.get_or_init(|| Context {
                id: host::context::id(),
                task: host::context::task(),
                attempt: host::context::attempt(),
                max_attempts: host::context::max_attempts(),
                deadline_ms: host::context::deadline(),
                parent: host::context::parent(),
                root: host::context::root(),
                depth: host::context::depth(),
                traceparent: host::context::traceparent(),
            }))
        })
    }

    pub(crate) fn enqueue(child: Child) -> Result<String, EnqueueError> {
        let Child { task, params, delay, id } = child;
        let delay_seconds = delay.map(|delay| u32::try_from(delay.as_secs()).unwrap_or(u32::MAX));
        let options = host::queue::EnqueueOptions { delay_seconds, id };
        host::queue::enqueue(&task, &params.to_string(), &options).map_err(|error| match error {
            host::queue::EnqueueError::Invalid(why) => EnqueueError::Invalid(why),
            host::queue::EnqueueError::TooMany(limit) => EnqueueError::TooMany(limit),
            host::queue::EnqueueError::TooDeep(limit) => EnqueueError::TooDeep(limit),
        })
    }

    pub(crate) fn send(request: Request) -> Result<Response, http::Error> {
        let Request { method, url, headers, body, timeout, problem: _ } = request;
        let ms = |timeout: Duration| u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        let headers = headers.into_iter().map(|(name, value)| host::http::Header { name, value });
        let shown = http::without_credentials(&url, true);
        let refused = http::without_credentials(&url, false);
        let request = host::http::Request {
            method,
            url,
            headers: headers.collect(),
            body,
            timeout_ms: timeout.map(ms),
        };
        let reason = |kind| {
            let url = if matches!(kind, http::ErrorKind::Invalid(_)) { &refused } else { &shown };
            http::Error { url: url.clone(), kind }
        };
        let response = host::http::send(&request).map_err(|error| {
            reason(match error {
                host::http::HttpError::Denied(why) => http::ErrorKind::Denied(why),
                host::http::HttpError::InvalidRequest(why) => http::ErrorKind::Invalid(why),
                host::http::HttpError::Timeout => http::ErrorKind::Timeout,
                host::http::HttpError::TooLarge(limit) => http::ErrorKind::TooLarge(limit),
                host::http::HttpError::Failed(why) => http::ErrorKind::Failed(why),
            })
        })?;
        let headers = response.headers.into_iter().map(|header| (header.name, header.value));
        Ok(Response { url: shown, status: response.status, headers: headers.collect(), body: response.body })
    }

    pub(crate) fn load_step(name: &str) -> Result<Option<String>, StepError> {
        host::steps::load(name).map_err(step_error)
    }

    pub(crate) fn save_step(name: &str, value: &str) -> Result<(), StepError> {
        host::steps::save(name, value).map_err(step_error)
    }

    pub(crate) fn abandon_step(name: &str) {
        host::steps::abandon(name);
    }

    fn step_error(error: host::steps::StepError) -> StepError {
        match error {
            host::steps::StepError::Invalid(why) => StepError::Invalid(why),
            host::steps::StepError::TooMany(most) => StepError::TooMany(most),
            host::steps::StepError::Unavailable(why) => StepError::Unavailable(why),
        }
    }

    pub(crate) fn log(level: log::Level, message: &str) {
        let level = match level {
            log::Level::Trace => host::log::Level::Trace,
            log::Level::Debug => host::log::Level::Debug,
            log::Level::Info => host::log::Level::Info,
            log::Level::Warn => host::log::Level::Warn,
            log::Level::Error => host::log::Level::Error,
        };
        host::log::log(level, message);
    }
}
