//! The no-op as a plug-in of Extism's: reads its input as JSON, and returns null.

use extism_pdk::{FnResult, Json, plugin_fn};
use serde_json::Value;

/// The function that is called.
#[plugin_fn]
pub fn run(params: Json<Value>) -> FnResult<Json<Value>> {
    std::hint::black_box(params);
    Ok(Json(Value::Null))
}
