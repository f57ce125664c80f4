//! Results of the types that authors use. A row is chosen by its name.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use wasq_task::{Failure, task};

#[derive(Deserialize)]
struct Params {
    row: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Address<'a> {
    zip_code: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    street: Option<&'a str>,
}

#[derive(Serialize)]
struct Pair(u8, char);

#[derive(Serialize)]
struct Unit;

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Shape {
    RoundThing { radius: f32 },
    Nothing,
}

#[task]
fn rows(Params { row }: Params) -> Result<Value, Failure> {
    let value = |value: &dyn erased::Serialize| value.to_value();
    Ok(match row.as_str() {
        "null" => value(&()),
        "true" => value(&true),
        "false" => value(&false),
        "largest" => value(&i64::MAX),
        "smallest" => value(&i64::MIN),
        "double" => value(&1.5),
        "huge" => value(&1e308),
        "tiny" => value(&5e-324),
        "text" => value(&"é😀 \"\\/\n\u{0}\u{7f}\u{2028}"),
        "empty text" => value(&""),
        "list" => json!([1, "a", null, [true]]),
        "empty list" => value(&Vec::<u8>::new()),
        "object" => json!({ "a": { "b": [1] }, "": 1, "é b": 2 }),
        "empty object" => value(&BTreeMap::<String, u8>::new()),
        "deep" => (0..400).fold(json!(1), |inner, _| json!([inner])),
        "long" => value(&"x".repeat(100_000)),
        "not finite" => value(&[f64::NAN, f64::INFINITY]),
        "struct" => value(&Address { zip_code: None, street: None }),
        "tuple struct" => value(&Pair(1, 'é')),
        "unit struct" => value(&Unit),
        "enum" => value(&[Shape::RoundThing { radius: 0.5 }, Shape::Nothing]),
        "tuple" => value(&(1, "a", Some(2.5), None::<u8>)),
        "map with numbers" => value(&HashMap::from([(7, "seven")])),
        "set" => value(&HashSet::from([3])),
        "result" => value(&Ok::<_, String>(3)),
        "u64" => value(&u64::MAX),
        "bytes" => value(&b"\x00\xff"),
        "box" => value(&Box::new(std::borrow::Cow::from("text"))),
        other => return Err(Failure::reject(format!("no row {other}"))),
    })
}

/// Serialize as a trait object.
mod erased {
    use serde_json::Value;

    pub trait Serialize {
        fn to_value(&self) -> Value;
    }

    impl<T: serde::Serialize> Serialize for T {
        fn to_value(&self) -> Value {
            serde_json::to_value(self).unwrap()
        }
    }
}
