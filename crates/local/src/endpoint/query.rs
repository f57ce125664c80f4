//! The older protocol of SQS: a form in, XML out. A request becomes the JSON request of the same action, and its answer becomes
//! XML, so that both protocols have one meaning.
//!
//! Clients from before November 2023 speak it, such as boto3 up to 1.28 and all of the AWS SDK for JavaScript v2.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Map, Value, json};

use crate::sqs::error::SqsError;
use crate::sqs::message_attributes::valid_text;

/// A request of the older protocol.
pub(crate) struct QueryRequest {
    pub(crate) action: String,
    pub(crate) request: Map<String, Value>,
}

/// The members that are numbers in the JSON protocol.
const NUMBERS: [&str; 6] = [
    "DelaySeconds",
    "MaxNumberOfMessages",
    "MaxNumberOfMessagesPerSecond",
    "MaxResults",
    "VisibilityTimeout",
    "WaitTimeSeconds",
];
/// The lists of texts: their name in a form, and in JSON.
const LISTS: [(&str, &str); 6] = [
    ("AWSAccountId", "AWSAccountIds"),
    ("ActionName", "Actions"),
    ("AttributeName", "AttributeNames"),
    ("MessageAttributeName", "MessageAttributeNames"),
    ("MessageSystemAttributeName", "MessageSystemAttributeNames"),
    ("TagKey", "TagKeys"),
];
/// The maps: their name in a form and in JSON, and how their keys are called.
const MAPS: [(&str, &str, &str); 4] = [
    ("Attribute", "Attributes", "Name"),
    ("MessageAttribute", "MessageAttributes", "Name"),
    ("MessageSystemAttribute", "MessageSystemAttributes", "Name"),
    ("Tag", "Tags", "Key"),
];
/// The end of the names of batches.
const BATCH: &str = "BatchRequestEntry";

/// A form's names by their parts: `Attribute.1.Name` is three parts.
#[derive(Default)]
struct Node {
    text: Option<String>,
    parts: BTreeMap<Part, Node>,
}

/// Numbers in their order, and before names.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Number(u32),
    Name(String),
}

/// A batch of 10 messages with 10 attributes each has fewer than 500.
const PARAMETERS_MAX: usize = 2000;
/// Names with more parts than this have no meaning.
const PARTS_MAX: usize = 8;

/// Reads a form. `queue_url` is the address that was called, which may name the queue.
pub(crate) fn read(form: &[u8], queue_url: &str) -> Result<QueryRequest, SqsError> {
    let mut root = Node::default();
    for (number, (name, value)) in url::form_urlencoded::parse(form).enumerate() {
        if number == PARAMETERS_MAX {
            return Err(SqsError::malformed(format!("the form has more than {PARAMETERS_MAX} parameters")));
        }
        if name.split('.').count() > PARTS_MAX {
            return Err(SqsError::malformed(format!("the parameter {name:?} has too many parts")));
        }
        let mut node = &mut root;
        for part in name.split('.') {
            let part = part.parse().map_or_else(|_| Part::Name(part.to_owned()), Part::Number);
            node = node.parts.entry(part).or_default();
        }
        node.text = Some(value.into_owned());
    }
    let action = root.parts.remove(&Part::Name("Action".to_owned())).and_then(|node| node.text);
    let action = action.ok_or_else(|| SqsError::missing("Action"))?;
    root.parts.remove(&Part::Name("Version".to_owned()));
    let mut request = object(root, &action);
    // In this protocol the older of the two names overrules the newer one.
    if request.contains_key("AttributeNames") {
        request.remove("MessageSystemAttributeNames");
    }
    if !request.contains_key("QueueUrl") {
        request.insert("QueueUrl".to_owned(), queue_url.into());
    }
    Ok(QueryRequest { action, request })
}

/// The members of a request, of an entry of a batch, or of a value.
fn object(node: Node, action: &str) -> Map<String, Value> {
    let mut members = Map::new();
    for (part, node) in node.parts {
        let Part::Name(name) = part else { continue };
        let listed = |node: Node| node.parts.into_values();
        if let Some((_, json)) = LISTS.iter().find(|(form, _)| *form == name) {
            let texts = listed(node).map(|node| node.text.unwrap_or_default().into());
            members.insert((*json).to_owned(), Value::Array(texts.collect()));
        } else if let Some((_, json, key)) = MAPS.iter().find(|(form, ..)| *form == name) {
            // CreateQueue alone has a lower-case member.
            let json = if action == "CreateQueue" && *json == "Tags" { "tags" } else { json };
            let entries = listed(node).filter_map(|mut entry| {
                let key = entry.parts.remove(&Part::Name((*key).to_owned()))?.text?;
                Some((key, value(entry.parts.remove(&Part::Name("Value".to_owned()))?)))
            });
            members.insert(json.to_owned(), Value::Object(entries.collect()));
        } else if name.ends_with(BATCH) {
            let entries = listed(node).map(|entry| Value::Object(object(entry, action)));
            members.insert("Entries".to_owned(), Value::Array(entries.collect()));
        } else if LISTS.iter().any(|(_, json)| *json == name) || name == "Entries" {
            // So boto3 writes an empty list.
            members.insert(name, Value::Array(Vec::new()));
        } else if let Some(text) = node.text {
            let number = NUMBERS.contains(&name.as_str()).then(|| text.parse::<i64>().ok()).flatten();
            members.insert(name, number.map_or(Value::String(text), Value::from));
        }
    }
    members
}

/// The value of an attribute: a text, or the members of a message attribute.
fn value(node: Node) -> Value {
    match node.text {
        Some(text) => text.into(),
        None => Value::Object(object(node, "")),
    }
}

const NAMESPACE: &str = "http://queue.amazonaws.com/doc/2012-11-05/";

/// An answer as XML.
pub(crate) fn answer(action: &str, answer: &Value, request_id: &str) -> String {
    let mut xml = format!("<?xml version=\"1.0\"?><{action}Response xmlns=\"{NAMESPACE}\">");
    if let Value::Object(members) = answer {
        let _ = write!(xml, "<{action}Result>");
        write_members(&mut xml, members, action);
        let _ = write!(xml, "</{action}Result>");
    }
    let _ = write!(
        xml,
        "<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{action}Response>"
    );
    xml
}

/// An error as XML.
pub(crate) fn error(mut error: SqsError, request_id: &str) -> String {
    if error.code == SqsError::no_queue().code {
        error.message = "The specified queue does not exist for this wsdl version.".to_owned();
    }
    let kind = if error.sender_fault() { "Sender" } else { "Receiver" };
    let (code, message) = (escaped(error.code), escaped(&error.message));
    format!(
        "<?xml version=\"1.0\"?><ErrorResponse xmlns=\"{NAMESPACE}\"><Error><Type>{kind}</Type><Code>{code}</Code>\
         <Message>{message}</Message><Detail/></Error><RequestId>{request_id}</RequestId></ErrorResponse>"
    )
}

fn write_members(xml: &mut String, members: &Map<String, Value>, action: &str) {
    for (name, value) in members {
        match value {
            Value::Array(elements) => {
                let element = match name.as_str() {
                    "QueueUrls" | "queueUrls" => "QueueUrl".to_owned(),
                    "Messages" => "Message".to_owned(),
                    "Successful" | "Results" => format!("{action}ResultEntry"),
                    "Failed" => "BatchResultErrorEntry".to_owned(),
                    other => other.to_owned(),
                };
                elements.iter().for_each(|value| write_element(xml, &element, value, action));
            }
            Value::Object(entries) if MAPS.iter().any(|(_, json, _)| json == name) => {
                let (form, _, key) =
                    MAPS.iter().find(|(_, json, _)| json == name).expect("it was found before");
                for (entry, value) in entries {
                    let pair = json!({ *key: entry, "Value": value });
                    write_element(xml, form, &pair, action);
                }
            }
            value => write_element(xml, name, value, action),
        }
    }
}

fn write_element(xml: &mut String, name: &str, value: &Value, action: &str) {
    let _ = write!(xml, "<{name}>");
    match value {
        Value::Object(members) => write_members(xml, members, action),
        Value::String(text) => xml.push_str(&escaped(text)),
        value => xml.push_str(&value.to_string()),
    }
    let _ = write!(xml, "</{name}>");
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // A reader of XML would make a line feed of it.
            '\r' => escaped.push_str("&#xD;"),
            // XML has no such character.
            c if !valid_text(c.encode_utf8(&mut [0; 4])) => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(form: &str, action: &str, request: Value) {
        let read = read(form.as_bytes(), "http://localhost/000000000000/q").expect("a form");
        assert_eq!((read.action.as_str(), Value::Object(read.request)), (action, request));
    }

    const URL: &str = "http://localhost/000000000000/q";

    #[test]
    fn forms_become_json() {
        check(
            "Action=ReceiveMessage&Version=2012-11-05&MaxNumberOfMessages=10&AttributeName.1=All&MessageAttributeName.2=b&MessageAttributeName.1=a",
            "ReceiveMessage",
            json!({ "QueueUrl": URL, "MaxNumberOfMessages": 10, "AttributeNames": ["All"], "MessageAttributeNames": ["a", "b"] }),
        );
        check(
            "Action=CreateQueue&QueueName=q&Attribute.1.Name=FifoQueue&Attribute.1.Value=true&Tag.1.Key=k&Tag.1.Value=v",
            "CreateQueue",
            json!({ "QueueUrl": URL, "QueueName": "q", "Attributes": { "FifoQueue": "true" }, "tags": { "k": "v" } }),
        );
        check(
            "Action=SendMessageBatch&QueueUrl=x&SendMessageBatchRequestEntry.1.Id=a&SendMessageBatchRequestEntry.1.MessageBody=%26+%2B&SendMessageBatchRequestEntry.1.MessageAttribute.1.Name=n&SendMessageBatchRequestEntry.1.MessageAttribute.1.Value.DataType=String&SendMessageBatchRequestEntry.1.MessageAttribute.1.Value.StringValue=v&SendMessageBatchRequestEntry.10.Id=c&SendMessageBatchRequestEntry.2.Id=b",
            "SendMessageBatch",
            json!({ "QueueUrl": "x", "Entries": [
                { "Id": "a", "MessageBody": "& +", "MessageAttributes": { "n": { "DataType": "String", "StringValue": "v" } } },
                { "Id": "b" },
                { "Id": "c" },
            ] }),
        );
    }

    #[test]
    fn answers_become_xml() {
        let messages =
            json!({ "Messages": [{ "Body": "<\r\n", "Attributes": { "SenderId": "x" } }, { "Body": "" }] });
        let xml = answer("ReceiveMessage", &messages, "id");
        let inner = "<ReceiveMessageResult><Message><Body>&lt;&#xD;\n</Body><Attribute><Name>SenderId</Name><Value>x</Value></Attribute></Message><Message><Body></Body></Message></ReceiveMessageResult>";
        // The members stand in the order of their names, or in that of the answer.
        let sorted = inner.replace(
            "<Body>&lt;&#xD;\n</Body><Attribute><Name>SenderId</Name><Value>x</Value></Attribute>",
            "<Attribute><Name>SenderId</Name><Value>x</Value></Attribute><Body>&lt;&#xD;\n</Body>",
        );
        assert!(xml.contains(inner) || xml.contains(&sorted), "{xml}");
        assert!(answer("DeleteQueue", &Value::Null, "id").contains("<DeleteQueueResponse"));
    }
}
