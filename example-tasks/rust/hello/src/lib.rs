//! The smallest task: it greets whoever the message names.

use serde_json::{Value, json};
use wasq_task::{Failure, task};

#[task]
fn hello(params: Value) -> Result<Value, Failure> {
    println!("greeting {params}");
    Ok(json!({ "hello": params }))
}
