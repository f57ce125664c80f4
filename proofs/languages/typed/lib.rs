//! Params of many types. The same as the other sources of this folder.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wasq_task::{Failure, task};

/// How it came.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Kind {
    New,
    Old,
}

#[derive(Deserialize, JsonSchema)]
#[allow(dead_code)]
struct Home {
    street: String,
    zip: Option<u16>,
}

#[derive(Deserialize, JsonSchema)]
#[allow(dead_code)]
struct Params {
    /// Who it is.
    user: String,
    #[serde(default)]
    count: i32,
    #[serde(default)]
    ratio: f64,
    note: Option<String>,
    kind: Option<Kind>,
    home: Option<Home>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    scores: BTreeMap<String, i64>,
    #[serde(default)]
    pair: Option<(String, bool)>,
}

#[derive(Serialize, JsonSchema)]
struct Output {
    user: String,
}

#[task]
fn typed(params: Params) -> Result<Output, Failure> {
    Ok(Output { user: params.user })
}
