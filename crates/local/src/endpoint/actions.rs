//! The actions of SQS: from a JSON request to a call of [`Queues`], and back.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::batch::{self, Entry};
use super::params::Params;
use crate::db::Durability;
use crate::sqs::error::SqsError;
use crate::sqs::message_attributes;
use crate::sqs::messages::{self, Receive, Send, Sent, Visibility, body_digest};
use crate::sqs::moves::Start;
use crate::sqs::permissions::Permission;
use crate::sqs::queue_attributes::QueueAttributes;
use crate::sqs::queues::Queues;
use crate::sqs::received::Received;

/// The client of a request, as far as the request tells.
pub(crate) struct Caller {
    /// The address by which the client reached us; queue addresses start with it.
    pub(crate) base: String,
    /// X-Ray's trace header of the request. A message without one of its own gets it.
    pub(crate) trace_header: Option<String>,
}

/// Answers one request.
pub(crate) async fn answer(
    queues: &Queues,
    action: &str,
    request: &Map<String, Value>,
    caller: &Caller,
) -> Result<Value, SqsError> {
    let params = Params(request);
    let url = |name: &str| format!("{}/000000000000/{name}", caller.base);
    match action {
        "CreateQueue" => {
            let name = queue_name(&params)?;
            // CreateQueue alone has a lower-case member.
            let tags = params.texts("tags")?;
            queues.create(name.to_owned(), params.texts("Attributes")?, tags).await?;
            Ok(json!({ "QueueUrl": url(name) }))
        }
        "GetQueueUrl" => {
            let name = queue_name(&params)?;
            queues.exists(name.to_owned()).await?;
            Ok(json!({ "QueueUrl": url(name) }))
        }
        "ListQueues" => {
            let prefix = params.owned("QueueNamePrefix")?.unwrap_or_default();
            let page = Page::of(&params)?;
            let names = queues.list(prefix, page.after, page.max + 1).await?;
            Ok(page_of("QueueUrls", names, page.max, page.asked, url))
        }
        "ListDeadLetterSourceQueues" => {
            let page = Page::of(&params)?;
            let mut names = queues.dead_letter_sources(params.queue()?).await?;
            names.retain(|name| *name > page.after);
            let mut answer = page_of("queueUrls", names, page.max, page.asked, url);
            // Unlike in the other answers, SQS does not leave an empty list out here.
            answer.as_object_mut().expect("an object").entry("queueUrls").or_insert(json!([]));
            Ok(answer)
        }
        "DeleteQueue" => queues.delete(params.queue()?).await.map(|()| Value::Null),
        "GetQueueAttributes" => {
            let asked = params.list("AttributeNames")?;
            let attributes = queues.attributes(params.queue()?, asked).await?;
            Ok(without_empty(json!({ "Attributes": attributes })))
        }
        "SetQueueAttributes" => {
            let attributes = params.texts("Attributes")?;
            queues.set_attributes(params.queue()?, attributes).await.map(|()| Value::Null)
        }
        "TagQueue" => {
            let new = params.texts("Tags")?;
            if new.is_empty() {
                return Err(SqsError::missing("Tags"));
            }
            queues.change_tags(params.queue()?, |tags| tags.extend(new)).await.map(|()| Value::Null)
        }
        "UntagQueue" => {
            let keys = params.list("TagKeys")?;
            if keys.is_empty() {
                return Err(SqsError::missing("TagKeys"));
            }
            queues
                .change_tags(params.queue()?, move |tags| tags.retain(|key, _| !keys.contains(key)))
                .await
                .map(|()| Value::Null)
        }
        "ListQueueTags" => Ok(without_empty(json!({ "Tags": queues.tags(params.queue()?).await? }))),
        "SendMessage" => send_one(queues, &params, caller).await,
        "SendMessageBatch" => send_batch(queues, &params, caller).await,
        "ReceiveMessage" => receive(queues, &params).await,
        "DeleteMessage" => {
            let handle = params.required("ReceiptHandle")?.to_owned();
            only(queues.delete_messages(params.queue()?, vec![handle], Durability::Synced).await?)
                .map(|()| Value::Null)
        }
        "DeleteMessageBatch" => {
            let entries = batch::entries(&params, "DeleteMessageBatchRequestEntry")?;
            let read = |params: &Params<'_>| Ok(params.required("ReceiptHandle")?.to_owned());
            let queue = params.queue()?;
            each(
                entries,
                read,
                |handles| queues.delete_messages(queue, handles, Durability::Synced),
                |()| Map::new(),
            )
            .await
        }
        "ChangeMessageVisibility" => {
            let entry = visibility(&params)?;
            only(queues.set_visibility(params.queue()?, vec![entry]).await?).map(|()| Value::Null)
        }
        "ChangeMessageVisibilityBatch" => {
            let entries = batch::entries(&params, "ChangeMessageVisibilityBatchRequestEntry")?;
            let queue = params.queue()?;
            each(entries, visibility, |entries| queues.set_visibility(queue, entries), |()| Map::new()).await
        }
        "PurgeQueue" => queues.purge(params.queue()?).await.map(|()| Value::Null),
        "StartMessageMoveTask" => {
            let start = Start {
                source_arn: params.required("SourceArn")?.to_owned(),
                destination_arn: params.owned("DestinationArn")?,
                per_second: params.number("MaxNumberOfMessagesPerSecond")?,
            };
            Ok(json!({ "TaskHandle": queues.start_move(start).await? }))
        }
        "ListMessageMoveTasks" => {
            let reason = "MaxResults must be an integer between 1 and 10.";
            let max = params.number_in("MaxResults", 1..=10, reason)?.unwrap_or(1);
            let tasks = queues.list_moves(params.required("SourceArn")?.to_owned(), max).await?;
            Ok(without_empty(json!({ "Results": tasks })))
        }
        "CancelMessageMoveTask" => {
            let moved = queues.cancel_move(params.required("TaskHandle")?.to_owned()).await?;
            Ok(json!({ "ApproximateNumberOfMessagesMoved": moved }))
        }
        "AddPermission" => {
            let permission = Permission {
                label: params.required("Label")?.to_owned(),
                accounts: params.list("AWSAccountIds")?,
                actions: params.list("Actions")?,
            };
            queues.add_permission(params.queue()?, permission).await.map(|()| Value::Null)
        }
        "RemovePermission" => {
            let label = params.required("Label")?.to_owned();
            queues.remove_permission(params.queue()?, label).await.map(|()| Value::Null)
        }
        _ => Err(SqsError::unknown_action(format!("The action {action} is not valid for this endpoint."))),
    }
}

fn queue_name<'a>(params: &Params<'a>) -> Result<&'a str, SqsError> {
    params.text("QueueName")?.ok_or_else(|| {
        SqsError::invalid_value(
            "Value for parameter QueueName is invalid. Reason: Must specify a queue name.",
        )
    })
}

/// The part of a list that the client asks for. The token is the last name of the previous part.
struct Page {
    after: String,
    max: usize,
    asked: bool,
}

impl Page {
    fn of(params: &Params<'_>) -> Result<Self, SqsError> {
        let max = params.number("MaxResults")?;
        if max.is_some_and(|max| !(1..=1000).contains(&max)) {
            return Err(SqsError::invalid_value(
                "Value for parameter MaxResults is invalid. Reason: MaxResults must be an integer between 1 and 1000.",
            ));
        }
        Ok(Self {
            after: params.text("NextToken")?.map_or(Ok(String::new()), after)?,
            max: max.map_or(1000, |max| usize::try_from(max).expect("at most 1000")),
            asked: max.is_some(),
        })
    }
}

const TOKEN: &str = "wasq after ";

/// The token of the page after this name.
fn token(name: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(format!("{TOKEN}{name}"))
}

/// The name in a token that we gave.
fn after(token: &str) -> Result<String, SqsError> {
    let text = BASE64_URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let name = text.as_deref().and_then(|text| text.strip_prefix(TOKEN));
    name.map(str::to_owned).ok_or_else(|| SqsError::invalid_value("Invalid or expired next token."))
}

fn page_of(
    key: &str,
    mut names: Vec<String>,
    max: usize,
    asked: bool,
    url: impl Fn(&str) -> String,
) -> Value {
    let more = names.len() > max;
    names.truncate(max);
    let urls: Vec<_> = names.iter().map(|name| url(name)).collect();
    let mut page = without_empty(json!({ key: urls }));
    // SQS returns a token only if the client asked for pages.
    if more && asked {
        page["NextToken"] = names.last().map(|name| token(name)).into();
    }
    page
}

/// SQS leaves empty lists and maps out of its answers.
fn without_empty(mut answer: Value) -> Value {
    if let Some(map) = answer.as_object_mut() {
        map.retain(|_, value| match value {
            Value::Array(list) => !list.is_empty(),
            Value::Object(map) => !map.is_empty(),
            _ => true,
        });
    }
    answer
}

/// The one result of a call with one entry.
fn only<T>(results: Vec<Result<T, SqsError>>) -> Result<T, SqsError> {
    results.into_iter().next().expect("one result per entry")
}

/// Reads each entry of a batch, makes one call for those that could be read, and answers for all.
async fn each<'a, T, R, F>(
    entries: Vec<Entry<'a>>,
    read: impl Fn(&Params<'a>) -> Result<T, SqsError>,
    call: impl FnOnce(Vec<T>) -> F,
    describe: impl Fn(R) -> Map<String, Value>,
) -> Result<Value, SqsError>
where
    F: Future<Output = Result<Vec<Result<R, SqsError>>, SqsError>>,
{
    let mut good = Vec::new();
    let read: Vec<_> =
        entries.iter().map(|entry| (entry.id, read(&entry.params).map(|item| good.push(item)))).collect();
    let mut results = call(good).await?.into_iter();
    let mut next = || results.next().expect("one result per entry");
    Ok(batch::answer(read.into_iter().map(|(id, read)| (id, read.and_then(|()| next().map(&describe))))))
}

fn visibility(params: &Params<'_>) -> Result<Visibility, SqsError> {
    let handle = params.required("ReceiptHandle")?.to_owned();
    let seconds =
        params.number("VisibilityTimeout")?.ok_or_else(|| SqsError::missing("VisibilityTimeout"))?;
    Ok(Visibility { handle, seconds, held: true, ended: false })
}

fn outgoing(params: &Params<'_>) -> Result<Send, SqsError> {
    let system = params.object("MessageSystemAttributes")?;
    if let Some(name) = system.keys().find(|name| *name != "AWSTraceHeader") {
        return Err(SqsError::invalid_value(format!("Message system attribute name '{name}' is invalid.")));
    }
    let trace = system.get("AWSTraceHeader").and_then(|value| value.get("StringValue"));
    Ok(Send {
        body: params.required("MessageBody")?.to_owned(),
        delay: params.number("DelaySeconds")?,
        attributes: params.object("MessageAttributes")?,
        trace_header: trace.and_then(Value::as_str).map(str::to_owned),
        group: params.owned("MessageGroupId")?,
        deduplication: params.owned("MessageDeduplicationId")?,
    })
}

/// SQS's answer for a message that it accepted. The client uses the digests to check that the message arrived
/// whole.
fn accepted(digests: Map<String, Value>, sent: Sent) -> Map<String, Value> {
    let mut answer = digests;
    answer.insert("MessageId".to_owned(), sent.message_id.into());
    if let Some(number) = sent.sequence_number {
        answer.insert("SequenceNumber".to_owned(), number.into());
    }
    answer
}

fn digests(send: &Send) -> Map<String, Value> {
    let mut digests = Map::new();
    digests.insert("MD5OfMessageBody".to_owned(), body_digest(&send.body).into());
    if let Some(digest) = message_attributes::digest(&send.attributes) {
        digests.insert("MD5OfMessageAttributes".to_owned(), digest.into());
    }
    if let Some(trace) = &send.trace_header {
        let system = json!({ "AWSTraceHeader": { "DataType": "String", "StringValue": trace } });
        let digest = message_attributes::digest(system.as_object().expect("an object"));
        digests.insert("MD5OfMessageSystemAttributes".to_owned(), digest.into());
    }
    digests
}

async fn send_one(queues: &Queues, params: &Params<'_>, caller: &Caller) -> Result<Value, SqsError> {
    let mut message = outgoing(params)?;
    let digests = digests(&message);
    message.trace_header = message.trace_header.or_else(|| caller.trace_header.clone());
    let sent = only(queues.send(params.queue()?, vec![message]).await?)?;
    Ok(Value::Object(accepted(digests, sent)))
}

/// The most bytes that all messages of a batch together may count for.
const BATCH_BYTES_MAX: usize = 1 << 20;

async fn send_batch(queues: &Queues, params: &Params<'_>, caller: &Caller) -> Result<Value, SqsError> {
    let entries = batch::entries(params, "SendMessageBatchRequestEntry")?;
    let bytes: usize = entries
        .iter()
        .filter_map(|entry| outgoing(&entry.params).ok())
        .map(|message| messages::size(&message).unwrap_or(message.body.len()))
        .sum();
    if bytes > BATCH_BYTES_MAX {
        return Err(SqsError::batch_too_long(format!(
            "Batch requests cannot be longer than {BATCH_BYTES_MAX} bytes. You have sent {bytes} bytes."
        )));
    }
    let queue = params.queue()?;
    // One entry that is too long has a text of its own here.
    let for_entry = |mut error: SqsError| {
        error.message = error.message.replacen("parameters are invalid", "parameters cannot be validated", 1);
        error
    };
    let send = |mut messages: Vec<Send>| async move {
        let digests: Vec<_> = messages.iter().map(digests).collect();
        for message in &mut messages {
            message.trace_header = message.trace_header.take().or_else(|| caller.trace_header.clone());
        }
        let sent = queues.send(queue, messages).await.map_err(for_batch)?;
        let both = digests.into_iter().zip(sent);
        Ok(both.map(|(digests, sent)| sent.map(|sent| (digests, sent)).map_err(for_entry)).collect())
    };
    each(entries, outgoing, send, |(digests, sent)| accepted(digests, sent)).await
}

/// In a batch, SQS calls a missing group an invalid value.
fn for_batch(error: SqsError) -> SqsError {
    if error.code == "MissingParameter" { SqsError::invalid_value(error.message) } else { error }
}

async fn receive(queues: &Queues, params: &Params<'_>) -> Result<Value, SqsError> {
    let max = params.number_in("MaxNumberOfMessages", 1..=10, "Must be between 1 and 10, if provided.")?;
    let wait = params.number_in("WaitTimeSeconds", 0..=20, "Must be >= 0 and <= 20, if provided.")?;
    let visibility =
        params.number_in("VisibilityTimeout", 0..=43_200, "Must be >= 0 and <= 43200, if provided.")?;
    let seconds = |n: i64| Duration::from_secs(u64::try_from(n).expect("checked to be positive"));
    let mut system = params.list("AttributeNames")?;
    system.extend(params.list("MessageSystemAttributeNames")?);
    if let Some(unknown) =
        system.iter().find(|name| !SYSTEM_NAMES.contains(&name.as_str()) && !QueueAttributes::known(name))
    {
        return Err(SqsError::invalid_attribute_name(format!("Unknown Attribute {unknown}.")));
    }
    let names = params.list("MessageAttributeNames")?;
    let receive = Receive {
        paused: None,
        max: max.map_or(1, |max| usize::try_from(max).expect("at most 10")),
        visibility: visibility.map(seconds),
        holder: None,
        attempt_id: params.owned("ReceiveRequestAttemptId")?,
        fair: None,
    };
    let received = queues.receive(params.queue()?, receive, wait.map(seconds)).await?;
    let messages: Vec<_> = received.into_iter().map(|message| describe(message, &system, &names)).collect();
    Ok(without_empty(json!({ "Messages": messages })))
}

const SYSTEM_NAMES: [&str; 10] = [
    "All",
    "SenderId",
    "SentTimestamp",
    "ApproximateReceiveCount",
    "ApproximateFirstReceiveTimestamp",
    "SequenceNumber",
    "MessageDeduplicationId",
    "MessageGroupId",
    "AWSTraceHeader",
    "DeadLetterQueueSourceArn",
];

fn describe(message: Received, system: &[String], names: &[String]) -> Value {
    let fifo = message.deduplication.is_some();
    let values = [
        ("SenderId", Some("000000000000".to_owned())),
        ("SentTimestamp", Some(message.sent_ms.to_string())),
        ("ApproximateReceiveCount", Some(message.receive_count.to_string())),
        ("ApproximateFirstReceiveTimestamp", Some(message.first_received_ms.to_string())),
        ("SequenceNumber", fifo.then(|| messages::sequence_number(message.seq))),
        ("MessageDeduplicationId", message.deduplication),
        ("MessageGroupId", message.group),
        ("AWSTraceHeader", message.trace_header),
        (
            "DeadLetterQueueSourceArn",
            message.source.map(|queue| crate::sqs::queue_attributes::arn_of_queue(&queue)),
        ),
    ];
    let asked = |name: &str| system.iter().any(|asked| asked == "All" || asked == name);
    let values: Map<String, Value> = values
        .into_iter()
        .filter(|(name, _)| asked(name))
        .filter_map(|(name, value)| Some((name.to_owned(), value?.into())))
        .collect();
    let attributes = message_attributes::select(message.attributes, names);
    let digest = message_attributes::digest(&attributes);
    let mut described = without_empty(json!({
        "MessageId": message.message_id,
        "ReceiptHandle": message.receipt_handle,
        "MD5OfBody": body_digest(&message.body),
        "Body": message.body,
        "Attributes": values,
        "MessageAttributes": attributes,
    }));
    if let Some(digest) = digest {
        described["MD5OfMessageAttributes"] = digest.into();
    }
    described
}
