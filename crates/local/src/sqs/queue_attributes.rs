//! A queue's attributes: their names, their allowed values and their defaults.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::Value;

use super::error::SqsError;

/// The attributes of a queue that were set; the others have SQS's defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct QueueAttributes(pub(crate) BTreeMap<String, String>);

/// The contents of a redrive policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Redrive {
    pub(crate) target: String,
    pub(crate) receives_max: u32,
}

/// An attribute whose value is a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    DelaySeconds,
    MaximumMessageSize,
    MessageRetentionPeriod,
    ReceiveMessageWaitTimeSeconds,
    VisibilityTimeout,
}

impl Number {
    const ALL: [Self; 5] = [
        Self::DelaySeconds,
        Self::MaximumMessageSize,
        Self::MessageRetentionPeriod,
        Self::ReceiveMessageWaitTimeSeconds,
        Self::VisibilityTimeout,
    ];

    fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|number| number.name() == name)
    }

    /// SQS's name of it.
    fn name(self) -> &'static str {
        match self {
            Self::DelaySeconds => "DelaySeconds",
            Self::MaximumMessageSize => "MaximumMessageSize",
            Self::MessageRetentionPeriod => "MessageRetentionPeriod",
            Self::ReceiveMessageWaitTimeSeconds => "ReceiveMessageWaitTimeSeconds",
            Self::VisibilityTimeout => "VisibilityTimeout",
        }
    }

    /// The values that SQS takes.
    fn range(self) -> RangeInclusive<u64> {
        match self {
            Self::DelaySeconds => 0..=900,
            Self::MaximumMessageSize => 1024..=1 << 20,
            Self::MessageRetentionPeriod => 60..=1_209_600,
            Self::ReceiveMessageWaitTimeSeconds => 0..=20,
            Self::VisibilityTimeout => 0..=43_200,
        }
    }

    fn default(self) -> u64 {
        match self {
            Self::DelaySeconds | Self::ReceiveMessageWaitTimeSeconds => 0,
            Self::MaximumMessageSize => 1 << 20,
            Self::MessageRetentionPeriod => 345_600,
            Self::VisibilityTimeout => 30,
        }
    }
}

/// An attribute whose value is one of a few words; the first word is its default. For FIFO queues only.
const FIFO_WORDS: [(&str, &[&str]); 3] = [
    ("ContentBasedDeduplication", &["false", "true"]),
    ("DeduplicationScope", &["queue", "messageGroup"]),
    ("FifoThroughputLimit", &["perQueue", "perMessageGroupId"]),
];
/// Accepted and returned, without effect on one machine.
const KEPT: [&str; 4] = ["Policy", KMS_KEY, KMS_REUSE, SQS_ENCRYPTION];
const KMS_KEY: &str = "KmsMasterKeyId";
const KMS_REUSE: &str = "KmsDataKeyReusePeriodSeconds";
const SQS_ENCRYPTION: &str = "SqsManagedSseEnabled";
/// SQS takes these in any case, such as Python's `True`.
const BOOLEANS: [&str; 3] = ["FifoQueue", "ContentBasedDeduplication", SQS_ENCRYPTION];
/// The attributes that SQS computes; they can be read, but not set.
pub(crate) const COMPUTED: [&str; 6] = [
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesDelayed",
    "ApproximateNumberOfMessagesNotVisible",
    "CreatedTimestamp",
    "LastModifiedTimestamp",
    "QueueArn",
];

impl QueueAttributes {
    /// Checks and sets new values. `exists` says that the queue exists already, so its type is fixed.
    pub(crate) fn set(&mut self, new: &BTreeMap<String, String>, exists: bool) -> Result<(), SqsError> {
        let new: BTreeMap<_, _> = new.iter().map(|(name, value)| (name, normal(name, value))).collect();
        let is_new = |name: &str, value: &str| new.iter().any(|(n, v)| *n == name && v == value);
        let fifo = if exists { self.fifo() } else { is_new("FifoQueue", "true") };
        let new_key_is_empty = is_new(KMS_KEY, "");
        let by_kms = new.iter().any(|(name, key)| *name == KMS_KEY && !key.is_empty());
        if by_kms && is_new(SQS_ENCRYPTION, "true") {
            return Err(SqsError::invalid_attribute_name(
                "You can use one type of server-side encryption (SSE) at one time. You can either enable KMS SSE or SQS SSE.",
            ));
        }
        for (name, value) in &new {
            check(name, value, fifo, exists)?;
        }
        for (name, value) in &new {
            // An empty policy tells SQS to forget the policy. The time for a key goes with the key.
            if value.is_empty() {
                self.0.remove(*name);
            } else if *name == KMS_REUSE && !by_kms && (new_key_is_empty || !self.0.contains_key(KMS_KEY)) {
                self.0.remove(KMS_REUSE);
            } else {
                self.0.insert((*name).clone(), value.clone());
            }
        }
        // The one kind of encryption ends the other.
        if by_kms {
            self.0.insert(SQS_ENCRYPTION.to_owned(), "false".to_owned());
        } else if is_new(SQS_ENCRYPTION, "true") {
            self.0.remove(KMS_KEY);
        }
        let per_group = self.0.get("FifoThroughputLimit").is_some_and(|v| v == "perMessageGroupId");
        if per_group && self.0.get("DeduplicationScope").is_none_or(|v| v != "messageGroup") {
            return Err(SqsError::invalid_attribute_value(
                "The perMessageGroupId value is allowed only when the value for DeduplicationScope is messageGroup",
            ));
        }
        Ok(())
    }

    /// Every attribute that is set or has a default, except the computed ones.
    pub(crate) fn all(&self) -> BTreeMap<String, String> {
        let mut all = self.0.clone();
        for number in Number::ALL {
            all.entry(number.name().to_owned()).or_insert_with(|| number.default().to_string());
        }
        all.entry("SqsManagedSseEnabled".to_owned()).or_insert_with(|| "true".to_owned());
        if self.fifo() {
            for (name, words) in FIFO_WORDS {
                all.entry(name.to_owned()).or_insert_with(|| words[0].to_owned());
            }
        }
        all
    }

    /// Whether a name can be asked for at all.
    pub(crate) fn known(name: &str) -> bool {
        Number::of_name(name).is_some()
            || FIFO_WORDS.iter().any(|(n, _)| *n == name)
            || KEPT.contains(&name)
            || COMPUTED.contains(&name)
            || ["All", "FifoQueue", "RedrivePolicy", "RedriveAllowPolicy"].contains(&name)
    }

    pub(crate) fn number(&self, number: Number) -> u64 {
        self.0.get(number.name()).and_then(|v| v.parse().ok()).unwrap_or_else(|| number.default())
    }

    pub(crate) fn seconds(&self, number: Number) -> Duration {
        Duration::from_secs(self.number(number))
    }

    pub(crate) fn fifo(&self) -> bool {
        self.is("FifoQueue", "true")
    }

    /// Whether the digest of a body stands for a deduplication id that the sender did not give.
    pub(crate) fn content_based_deduplication(&self) -> bool {
        self.is("ContentBasedDeduplication", "true")
    }

    /// Whether deduplication ids are compared within one message group only.
    pub(crate) fn deduplicates_by_group(&self) -> bool {
        self.is("DeduplicationScope", "messageGroup")
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.0.get(name).is_some_and(|v| v == value)
    }

    pub(crate) fn redrive(&self) -> Option<Redrive> {
        parse_redrive(self.0.get("RedrivePolicy")?).ok()
    }

    /// Whether a queue may name this one as its dead-letter queue.
    pub(crate) fn allows_redrive_from(&self, source_arn: &str) -> bool {
        let Some(policy) = self.0.get("RedriveAllowPolicy") else {
            return true;
        };
        let policy: Value = serde_json::from_str(policy).unwrap_or_default();
        match policy.get("redrivePermission").and_then(Value::as_str) {
            Some("denyAll") => false,
            Some("byQueue") => policy
                .get("sourceQueueArns")
                .and_then(Value::as_array)
                .is_some_and(|arns| arns.iter().any(|arn| arn == source_arn)),
            _ => true,
        }
    }
}

/// A value in the form in which SQS returns it, whatever form it was set in. A value that is not valid stays as it is.
pub(crate) fn normal(name: &str, value: &str) -> String {
    if BOOLEANS.contains(&name) {
        return value.to_ascii_lowercase();
    }
    if Number::of_name(name).is_some() || name == KMS_REUSE {
        let number = Some(value).filter(|value| value.bytes().all(|byte| byte.is_ascii_digit()));
        let number = number.and_then(|value| value.parse::<u64>().ok());
        return number.map_or_else(|| value.to_owned(), |number| number.to_string());
    }
    match name {
        "RedrivePolicy" => parse_redrive(value).map_or_else(
            |_| value.to_owned(),
            |Redrive { receives_max, .. }| {
                let policy: Value = serde_json::from_str(value).unwrap_or_default();
                let target = &policy["deadLetterTargetArn"];
                format!("{{\"deadLetterTargetArn\":{target},\"maxReceiveCount\":{receives_max}}}")
            },
        ),
        "RedriveAllowPolicy" => match serde_json::from_str::<Value>(value) {
            Ok(policy @ Value::Object(_)) => policy.to_string(),
            _ => value.to_owned(),
        },
        _ => value.to_owned(),
    }
}

fn check(name: &str, value: &str, fifo: bool, exists: bool) -> Result<(), SqsError> {
    let invalid = || SqsError::invalid_attribute_value(format!("Invalid value for the parameter {name}."));
    let unknown = || SqsError::invalid_attribute_name(format!("Unknown Attribute {name}."));
    if let Some(number) = Number::of_name(name) {
        let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
        let value: u64 = value.parse().map_err(|_| invalid())?;
        return if digits && number.range().contains(&value) { Ok(()) } else { Err(invalid()) };
    }
    if let Some((_, words)) = FIFO_WORDS.iter().find(|(n, _)| *n == name) {
        if !fifo {
            return Err(if name == "ContentBasedDeduplication" {
                unknown()
            } else {
                SqsError::invalid_attribute_name(format!(
                    "You can specify the {name} only when FifoQueue is set to true."
                ))
            });
        }
        return if words.contains(&value) { Ok(()) } else { Err(invalid()) };
    }
    match name {
        "FifoQueue" if !fifo => Err(unknown()),
        "FifoQueue" if value == "true" => Ok(()),
        "FifoQueue" if exists => Err(SqsError::invalid_attribute_value(
            "Invalid value for the parameter FifoQueue. Reason: Modifying queue type is not supported.",
        )),
        "FifoQueue" => Err(invalid()),
        "RedrivePolicy" if value.is_empty() => Ok(()),
        "RedrivePolicy" => parse_redrive(value).map(|_| ()),
        "RedriveAllowPolicy" => check_allow(value),
        SQS_ENCRYPTION if !["true", "false"].contains(&value) => Err(invalid()),
        KMS_REUSE if !value.parse::<u32>().is_ok_and(|seconds| (60..=86_400).contains(&seconds)) => {
            Err(invalid())
        }
        "Policy" if !value.is_empty() && !is_policy(value) => Err(invalid()),
        _ if KEPT.contains(&name) => Ok(()),
        _ => Err(unknown()),
    }
}

fn is_policy(text: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok_and(|policy| policy.is_object())
}

/// Reads a redrive policy; the dead-letter queue is named by its ARN.
fn parse_redrive(raw: &str) -> Result<Redrive, SqsError> {
    let error = |reason: &str| SqsError::value("RedrivePolicy", raw, reason);
    let policy: Value = serde_json::from_str(raw).unwrap_or_default();
    let Some(policy) = policy.as_object() else {
        return Err(SqsError::invalid_attribute_value(
            "Invalid value for the parameter RedrivePolicy. Reason: Redrive policy is not a valid JSON map.",
        ));
    };
    let mandatory = |key: &str| {
        policy
            .get(key)
            .ok_or_else(|| error(&format!("Redrive policy does not contain mandatory attribute: {key}.")))
    };
    let receives = mandatory("maxReceiveCount")?;
    let target = mandatory("deadLetterTargetArn")?;
    if policy.keys().any(|key| key != "maxReceiveCount" && key != "deadLetterTargetArn") {
        return Err(error(
            "Only following attributes are supported: [deadLetterTargetArn, maxReceiveCount].",
        ));
    }
    let number = receives.as_u64().or_else(|| receives.as_str().and_then(|text| text.parse().ok()));
    let receives_max = number.filter(|n| (1..=1000).contains(n)).ok_or_else(|| {
        error(&format!(
            "Invalid value for maxReceiveCount: {receives}, valid values are from 1 to 1000 both inclusive."
        ))
    })?;
    let target = target.as_str().and_then(queue_of_arn);
    Ok(Redrive {
        target: target.ok_or_else(|| error("Invalid value for deadLetterTargetArn."))?.to_owned(),
        receives_max: u32::try_from(receives_max).expect("at most 1000"),
    })
}

fn check_allow(raw: &str) -> Result<(), SqsError> {
    if raw.is_empty() {
        return Ok(());
    }
    let unsupported = || {
        SqsError::invalid_attribute_value(
            "Invalid value for the parameter RedriveAllowPolicy. Reason: Amazon SQS can't create the redrive allow policy, as it\u{2019}s in an unsupported format.",
        )
    };
    let error = |what: &str| {
        let reason = format!("Amazon SQS can't create the redrive allow policy. {what}");
        SqsError::value("RedriveAllowPolicy", raw, &reason)
    };
    let policy: Value = serde_json::from_str(raw).map_err(|_| unsupported())?;
    let permission = policy.get("redrivePermission").and_then(Value::as_str);
    let sources = policy.get("sourceQueueArns").and_then(Value::as_array).map_or(0, Vec::len);
    match permission {
        Some("byQueue") if sources == 0 => Err(error(
            "When you specify the byQueue permission type, you must also specify one or more sourceQueueArns values.",
        )),
        Some("byQueue") if sources > 10 => {
            Err(error("The maximum number of source queue ARNs you can specify is 10."))
        }
        Some("byQueue") => Ok(()),
        Some("allowAll" | "denyAll") if sources > 0 => {
            Err(error("To specify one or more source queue ARNs, you must set redrivePermission to byQueue."))
        }
        Some("allowAll" | "denyAll") => Ok(()),
        _ => Err(unsupported()),
    }
}

/// The ARN of a queue of ours: one account, one region.
pub(crate) fn arn_of_queue(name: &str) -> String {
    format!("arn:aws:sqs:us-east-1:000000000000:{name}")
}

/// The queue that an ARN names, whatever its account and region.
pub(crate) fn queue_of_arn(arn: &str) -> Option<&str> {
    let mut parts = arn.splitn(6, ':');
    let head = (parts.next()?, parts.next()?, parts.next()?);
    let name = parts.nth(2)?;
    (head.0 == "arn" && head.2 == "sqs" && !name.is_empty()).then_some(name)
}
