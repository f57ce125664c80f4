//! A task that was built for `wasq:task@0.1.0`, and runs on every later wasq. It uses each interface of that version.

wit_bindgen::generate!({ path: "../../../tasks-wit/released/0.1.0", world: "task" });

use serde_json::json;
use wasq::task::context;
use wasq::task::http::{self, Request};
use wasq::task::log::{self, Level};
use wasq::task::queue::{self, EnqueueOptions};

struct Veteran;
export!(Veteran);

impl Guest for Veteran {
    /// Returns what the interfaces answer. The params are the URL of a request.
    fn run(params: String) -> Result<String, Failure> {
        let url: String =
            serde_json::from_str(&params).map_err(|e| Failure::Reject(format!("params: {e}")))?;
        log::log(Level::Info, "hello from 0.1.0");
        let options = EnqueueOptions { delay_seconds: Some(5), id: None };
        let child = queue::enqueue("hello", "{}", &options).map_err(|e| Failure::Reject(format!("{e:?}")))?;
        let request = Request {
            method: "GET".to_owned(),
            url,
            headers: Vec::new(),
            body: None,
            timeout_ms: Some(10_000),
        };
        let answer = http::send(&request).map_err(|e| Failure::Retry(format!("{e:?}")))?;
        Ok(json!({ "id": context::id(), "child": child, "status": answer.status }).to_string())
    }
}
