//! Permissions of other accounts, as statements of a queue's policy. They are kept and shown; on one machine there is nobody
//! whom they could keep out.

use serde_json::{Value, json};

use super::error::SqsError;
use super::queue_attributes::arn_of_queue;

/// A permission that is to be added.
#[derive(Clone, Debug)]
pub(crate) struct Permission {
    pub(crate) label: String,
    pub(crate) accounts: Vec<String>,
    pub(crate) actions: Vec<String>,
}

/// The actions that a permission can name.
const ACTIONS: [&str; 8] = [
    "*",
    "SendMessage",
    "ReceiveMessage",
    "DeleteMessage",
    "ChangeMessageVisibility",
    "GetQueueAttributes",
    "GetQueueUrl",
    "ListDeadLetterSourceQueues",
];

/// The policy of a queue with one more statement.
pub(crate) fn with(policy: Option<&str>, queue: &str, permission: Permission) -> Result<String, SqsError> {
    let Permission { label, accounts, actions } = permission;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if label.is_empty() || label.len() > 80 || !label.bytes().all(plain) {
        let reason = "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length";
        return Err(SqsError::value("Label", &label, reason));
    }
    if accounts.is_empty() {
        return Err(SqsError::missing("AWSAccountId"));
    }
    if actions.is_empty() {
        return Err(SqsError::missing("ActionName"));
    }
    if let Some(other) = actions.iter().find(|action| !ACTIONS.contains(&action.as_str())) {
        let all = ACTIONS.join(", ");
        return Err(SqsError::value(
            "ActionName",
            other,
            &format!("Only the following actions are allowed: [{all}]."),
        ));
    }
    let mut policy = read(policy, queue);
    let statements = statements(&mut policy);
    if statements.iter().any(|statement| statement["Sid"] == label.as_str()) {
        return Err(SqsError::value("Label", &label, "Already exists."));
    }
    statements.push(json!({
        "Sid": label,
        "Effect": "Allow",
        "Principal": { "AWS": one_or_all(accounts.iter().map(|account| format!("arn:aws:iam::{account}:root")).collect()) },
        "Action": one_or_all(actions.iter().map(|action| format!("SQS:{action}")).collect()),
        "Resource": arn_of_queue(queue),
    }));
    Ok(policy.to_string())
}

/// The policy of a queue without the statement of this label; empty if it was the last one.
pub(crate) fn without(policy: Option<&str>, queue: &str, label: &str) -> Result<String, SqsError> {
    let mut policy = read(policy, queue);
    let statements = statements(&mut policy);
    let count = statements.len();
    statements.retain(|statement| statement["Sid"] != label);
    if statements.len() == count {
        return Err(SqsError::value("Label", label, "can't find label."));
    }
    Ok(if statements.is_empty() { String::new() } else { policy.to_string() })
}

fn read(policy: Option<&str>, queue: &str) -> Value {
    let read = policy.and_then(|policy| serde_json::from_str::<Value>(policy).ok()).filter(Value::is_object);
    read.unwrap_or_else(|| {
        let id = format!("{}/SQSDefaultPolicy", arn_of_queue(queue));
        json!({ "Version": "2008-10-17", "Id": id, "Statement": [] })
    })
}

/// The statements of a policy. A policy with one statement may have it without a list around it.
fn statements(policy: &mut Value) -> &mut Vec<Value> {
    let statements = &mut policy["Statement"];
    if !statements.is_array() {
        let one = statements.take();
        *statements = if one.is_null() { json!([]) } else { json!([one]) };
    }
    statements.as_array_mut().expect("it was made one")
}

fn one_or_all(mut texts: Vec<String>) -> Value {
    if texts.len() == 1 { texts.remove(0).into() } else { texts.into() }
}
