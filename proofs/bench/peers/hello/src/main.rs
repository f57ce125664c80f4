//! A Lambda function that does nothing: the lower limit for every other function.

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;

#[tokio::main]
async fn main() -> Result<(), Error> {
    lambda_runtime::run(service_fn(|event: LambdaEvent<Value>| async move {
        std::hint::black_box(event.payload);
        Ok::<_, Error>(Value::Null)
    }))
    .await
}
