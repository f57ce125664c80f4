//! Batch calls: checked as a whole, then answered per entry.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use crate::endpoint::params::Params;
use crate::sqs::error::SqsError;

/// An entry of a batch, with the id by which it is answered.
pub(crate) struct Entry<'a> {
    pub(crate) id: &'a str,
    pub(crate) params: Params<'a>,
}

const ENTRIES_MAX: usize = 10;

/// Reads the entries of a batch. `what` is SQS's own name for them.
pub(crate) fn entries<'a>(params: &Params<'a>, what: &str) -> Result<Vec<Entry<'a>>, SqsError> {
    let maps = params.entries()?;
    if maps.is_empty() {
        return Err(SqsError::empty_batch(format!("There should be at least one {what} in the request.")));
    }
    if maps.len() > ENTRIES_MAX {
        return Err(SqsError::too_many_entries(format!(
            "Maximum number of entries per request are {ENTRIES_MAX}. You have sent {}.",
            maps.len()
        )));
    }
    let mut ids = HashSet::new();
    let mut entries = Vec::new();
    for (i, map) in maps.into_iter().enumerate() {
        let params = Params(map);
        let id = params.text("Id")?.ok_or_else(|| SqsError::missing(&format!("{what}.{}.Id", i + 1)))?;
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if id.is_empty() || id.len() > 80 || !id.bytes().all(allowed) {
            return Err(SqsError::invalid_entry_id(
                "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 letters long.",
            ));
        }
        if !ids.insert(id) {
            return Err(SqsError::ids_not_distinct(format!("Id {id} repeated.")));
        }
        entries.push(Entry { id, params });
    }
    Ok(entries)
}

/// The answer to a batch: the result of each entry, with the entry's id.
pub(crate) fn answer<'a>(
    results: impl IntoIterator<Item = (&'a str, Result<Map<String, Value>, SqsError>)>,
) -> Value {
    let (mut successful, mut failed) = (Vec::new(), Vec::new());
    for (id, result) in results {
        match result {
            Ok(mut entry) => {
                entry.insert("Id".to_owned(), id.into());
                successful.push(Value::Object(entry));
            }
            Err(e) => failed.push(json!({
                "Id": id,
                "Code": e.code,
                "Message": e.message,
                "SenderFault": e.sender_fault(),
            })),
        }
    }
    let mut answer = Map::new();
    if !successful.is_empty() {
        answer.insert("Successful".to_owned(), successful.into());
    }
    if !failed.is_empty() {
        answer.insert("Failed".to_owned(), failed.into());
    }
    Value::Object(answer)
}
