//! The JSON Schema of a task's params and result, for `wasq build`. A component that is uploaded has nothing of this.

use std::marker::PhantomData;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

/// Asks a type for its schema, also one that has none: the call finds [`Described`] if the type implements [`JsonSchema`], and
/// otherwise [`Undescribed`], which needs one more reference.
pub struct Probe<T>(PhantomData<T>);

impl<T> Probe<T> {
    /// Asks this type.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

/// Takes out a keyword that wasq does not know. `#[serde(flatten)]` of an enum makes it; serde itself refuses what it would.
fn without_unevaluated(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            map.remove("unevaluatedProperties");
            map.values_mut().for_each(without_unevaluated);
        }
        Value::Array(values) => values.iter_mut().for_each(without_unevaluated),
        _ => {}
    }
}

/// A type with a schema.
pub trait Described {
    /// The schema of what serde reads, or of what it writes.
    fn schema_for(&self, written: bool) -> Option<Value>;
}

impl<T: JsonSchema> Described for Probe<T> {
    fn schema_for(&self, written: bool) -> Option<Value> {
        let settings = SchemaSettings::draft2020_12().with(|settings| settings.meta_schema = None);
        let settings = if written { settings.for_serialize() } else { settings.for_deserialize() };
        let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
        without_unevaluated(&mut schema);
        Some(schema)
    }
}

/// Any type.
pub trait Undescribed {
    /// There is none.
    fn schema_for(&self, _: bool) -> Option<Value> {
        None
    }
}

impl<T> Undescribed for &Probe<T> {}

/// What a task returns.
pub trait TaskResult {
    /// The type of its result.
    type Output;
}

impl<T, E> TaskResult for Result<T, E> {
    type Output = T;
}

/// The schemas of a task as JSON.
pub fn schemas(params: Option<Value>, result: Option<Value>) -> String {
    let found = [("params", params), ("result", result)];
    let found = found.into_iter().filter_map(|(key, schema)| Some((key.to_owned(), schema?)));
    Value::Object(found.collect::<Map<_, _>>()).to_string()
}
