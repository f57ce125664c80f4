//! The task TASK_NAME: `{"name": "Ada"}` -> `{"greeting": "Hello, Ada!"}`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wasq_task::{Failure, task};

#[derive(Deserialize, JsonSchema)]
struct Params {
    /// Who is greeted.
    name: String,
}

#[derive(Serialize, JsonSchema)]
struct Output {
    greeting: String,
}

#[task]
fn greet(Params { name }: Params) -> Result<Output, Failure> {
    if name.is_empty() {
        return Err(Failure::reject("params.name is empty"));
    }
    log::info!("greeting {name}");
    Ok(Output { greeting: format!("Hello, {name}!") })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use wasq_task::testing::World;

    use super::*;

    #[test]
    fn greets() {
        let (result, _) = World::new().run(greet, json!({"name": "Ada"}));
        assert_eq!(result, Ok(json!({"greeting": "Hello, Ada!"})));
    }
}
