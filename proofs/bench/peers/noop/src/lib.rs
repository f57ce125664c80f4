//! The no-op as a task of wasq's: reads its params as JSON, and returns null.

use serde_json::Value;
use wasq_task::{Failure, task};

#[task]
fn noop(params: Value) -> Result<Value, Failure> {
    std::hint::black_box(params);
    Ok(Value::Null)
}
