//! The table of runs in DynamoDB. Each field of an item is an attribute of the same name: texts, numbers and booleans as they are,
//! everything else as JSON text. Results that are too large for an item are objects in S3.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, bail};
use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use wasq_protocol::{Clock, Digest, ItemWrite, RunItem, SystemClock, UnsentChild, Written};

use crate::explain;
use crate::s3::S3Objects;

/// The table, and the bucket of large results. Its clients are made when they are needed.
#[derive(Debug)]
pub struct RunsTable {
    sdk: SdkConfig,
    table: String,
    objects: S3Objects,
    dynamodb: OnceLock<Client>,
}

/// The fields that are JSON texts.
const JSON_FIELDS: [&str; 6] = ["params_json", "result", "unsent", "steps", "children", "history"];
/// Large results are under this prefix of the registry's bucket.
const PREFIX: &str = "results/";

/// The parts of an item that may be too large for the table.
#[derive(Serialize, Deserialize)]
struct Large {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    result: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    unsent: Vec<UnsentChild>,
}

impl RunsTable {
    /// A table by its name. Large results are in the registry's bucket.
    pub fn new(sdk: &SdkConfig, table: impl Into<String>, bucket: impl Into<String>) -> Self {
        Self {
            sdk: sdk.clone(),
            table: table.into(),
            objects: S3Objects::new(sdk, bucket),
            dynamodb: OnceLock::new(),
        }
    }

    fn dynamodb(&self) -> &Client {
        self.dynamodb.get_or_init(|| Client::new(&self.sdk))
    }

    /// Writes items, each over the revision that it replaces, or over none. Returns one result for each, in order.
    pub async fn put(&self, writes: &[ItemWrite]) -> Vec<Result<Written>> {
        join_all(writes.iter().map(|write| self.put_one(write))).await
    }

    async fn put_one(&self, write: &ItemWrite) -> Result<Written> {
        let ItemWrite { item, replaces } = write;
        let item = self.put_large(item).await?;
        let put = self.dynamodb().put_item().table_name(&self.table).set_item(Some(attributes(&item)?));
        let put = match replaces {
            Some(revision) => put
                .condition_expression("#revision = :revision")
                .expression_attribute_names("#revision", "revision")
                .expression_attribute_values(":revision", AttributeValue::S(revision.clone())),
            // The time to live deletes expired items some days late.
            None => put
                .condition_expression("attribute_not_exists(#id) OR #expires <= :now")
                .expression_attribute_names("#id", "id")
                .expression_attribute_names("#expires", "expires")
                .expression_attribute_values(
                    ":now",
                    AttributeValue::N((SystemClock.now().ms() / 1000).to_string()),
                ),
        };
        let put = put.return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        match put.send().await {
            Ok(_) => Ok(Written::Yes),
            Err(SdkError::ServiceError(e)) if e.err().is_conditional_check_failed_exception() => {
                let PutItemError::ConditionalCheckFailedException(refused) = e.err() else {
                    return Err(anyhow!("an error that is two things"));
                };
                let Some(stored) = refused.item() else { return Ok(Written::Refused(None)) };
                let stored = async {
                    let mut stored = read(stored)?;
                    self.get_large(&mut stored).await?;
                    anyhow::Ok(stored)
                };
                Ok(match stored.await {
                    Ok(stored) => Written::Refused(Some(Box::new(stored))),
                    Err(e) => Written::Unreadable(format!("{e:#}")),
                })
            }
            Err(e) => Err(explain(e)).with_context(|| format!("write into the table {}", self.table)),
        }
    }

    /// Reads an item; `None` if there is none with this id, or an expired one.
    pub async fn get(&self, id: &str) -> Result<Option<RunItem>> {
        let get = self.dynamodb().get_item().table_name(&self.table).consistent_read(true);
        let answer = get.key("id", AttributeValue::S(id.to_owned())).send().await.map_err(explain);
        let Some(item) = answer.with_context(|| format!("read the table {}", self.table))?.item else {
            return Ok(None);
        };
        let mut item = read(&item)?;
        self.get_large(&mut item).await?;
        Ok(Some(item).filter(|item| !item.is_expired(SystemClock.now())))
    }

    /// Reads all items, and hands each to `look`, without its result and steps, until `look` breaks. Items that cannot be read are left
    /// out, with a warning.
    pub async fn scan(&self, mut look: impl FnMut(RunItem) -> ControlFlow<()>) -> Result<()> {
        let now = SystemClock.now();
        let mut from = None;
        let mut unreadable = (0, String::new());
        loop {
            let scan = self.dynamodb().scan().table_name(&self.table).set_exclusive_start_key(from);
            let page = scan.send().await.map_err(explain);
            let page = page.with_context(|| format!("read the table {}", self.table))?;
            for item in page.items() {
                let mut item = match read(item) {
                    Ok(item) => item,
                    Err(e) => {
                        unreadable = (unreadable.0 + 1, format!("{e:#}"));
                        continue;
                    }
                };
                (item.params_json, item.result, item.unsent, item.steps) =
                    (None, None, Vec::new(), Vec::new());
                if !item.is_expired(now) && look(item).is_break() {
                    return Ok(());
                }
            }
            from = page.last_evaluated_key;
            if from.is_none() {
                if let (count @ 1.., last) = unreadable {
                    let items = if count == 1 { "item" } else { "items" };
                    tracing::warn!("{count} {items} of the table {} cannot be read: {last}", self.table);
                }
                return Ok(());
            }
        }
    }

    /// The item as it is stored: if it is too large for the table, its result and children are moved into an object.
    async fn put_large<'a>(&self, item: &'a RunItem) -> Result<Cow<'a, RunItem>> {
        if !item.is_large() {
            return Ok(Cow::Borrowed(item));
        }
        let mut item = item.clone();
        let large = Large { result: item.result.take(), unsent: std::mem::take(&mut item.unsent) };
        let key = format!("{PREFIX}{}-{}.json", Digest::of(item.id.as_bytes()), item.revision);
        let body = serde_json::to_vec(&large).context("write a result as JSON")?;
        self.objects.put_json(&key, body).await?;
        item.large = Some(key);
        Ok(Cow::Owned(item))
    }

    async fn get_large(&self, item: &mut RunItem) -> Result<()> {
        let Some(key) = &item.large else { return Ok(()) };
        let Some(bytes) = self.objects.get_whole(key).await? else {
            bail!("{key} is missing in the bucket of the registry: it holds the result of {}", item.id);
        };
        let large: Large = serde_json::from_slice(&bytes).with_context(|| format!("read {key}"))?;
        item.result = large.result;
        item.unsent = large.unsent;
        item.large = None;
        Ok(())
    }
}

/// An item as attributes.
fn attributes(item: &RunItem) -> Result<HashMap<String, AttributeValue>> {
    // By the text: a number keeps all its digits.
    let text = serde_json::to_string(item)?;
    let fields: BTreeMap<String, &RawValue> = serde_json::from_str(&text)?;
    let attribute = |(name, value): (String, &RawValue)| {
        let text = value.get();
        let value = match text.as_bytes().first() {
            _ if JSON_FIELDS.contains(&name.as_str()) => AttributeValue::S(text.to_owned()),
            Some(b'"') => AttributeValue::S(serde_json::from_str(text)?),
            Some(b't' | b'f') => AttributeValue::Bool(text == "true"),
            _ => AttributeValue::N(text.to_owned()),
        };
        Ok((name, value))
    };
    fields.into_iter().map(attribute).collect()
}

/// An item from its attributes. Those that this version does not know are left out.
fn read(attributes: &HashMap<String, AttributeValue>) -> Result<RunItem> {
    let mut fields: BTreeMap<&str, Box<RawValue>> = BTreeMap::new();
    for (name, value) in attributes {
        let text = match value {
            AttributeValue::S(text) if JSON_FIELDS.contains(&name.as_str()) => text.clone(),
            AttributeValue::S(text) => serde_json::to_string(text)?,
            AttributeValue::N(number) => number.clone(),
            AttributeValue::Bool(flag) => flag.to_string(),
            _ => continue,
        };
        fields.insert(name, RawValue::from_string(text).with_context(|| format!("the attribute {name}"))?);
    }
    let text = serde_json::to_string(&fields)?;
    serde_json::from_str(&text).with_context(|| {
        let id = fields.get("id").map_or("without an id", |id| id.get());
        format!("the item {id} of the table of runs is not one of this version")
    })
}

#[cfg(test)]
mod tests {
    use wasq_protocol::{ItemState, Step, Timestamp};

    use super::*;

    #[test]
    fn an_item_is_the_same_after_a_journey_through_attributes() {
        let mut item = RunItem::new("order-7".to_owned(), ItemState::Done, Timestamp::from_ms(1));
        item.attempts = 2;
        item.once = true;
        item.expires = 1_800_000_000;
        item.add_step(Step {
            name: "charge".to_owned(),
            value: RawValue::from_string("12345678901234567890123".to_owned()).expect("JSON"),
            attempt: 1,
            saved: Timestamp::from_ms(1),
        });
        for result in [r#""text""#, "12345678901234567890123", "null", "true", r#"{"a":[1,2.50]}"#] {
            item.result = Some(RawValue::from_string(result.to_owned()).expect("JSON"));
            item.params_json = item.result.clone();
            let attributes = attributes(&item).expect("it can be written");
            assert_eq!(attributes["expires"], AttributeValue::N("1800000000".to_owned()));
            assert_eq!(attributes["result"], AttributeValue::S(result.to_owned()));
            let back = read(&attributes).expect("it can be read");
            assert_eq!(
                serde_json::to_string(&back).expect("JSON"),
                serde_json::to_string(&item).expect("JSON")
            );
        }
    }
}
