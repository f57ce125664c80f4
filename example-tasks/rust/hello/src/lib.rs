//! The smallest task: it greets the message's params.

use serde_json::{Value, json};
use wasq_task::{Failure, task};

#[task]
fn hello(params: Value) -> Result<Value, Failure> {
    println!("greeting {params}");
    Ok(json!({ "hello": params }))
}
