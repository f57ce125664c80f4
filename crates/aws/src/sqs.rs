//! One SQS queue, in our types. Every batch call answers per entry, because SQS does: a call that succeeded may still
//! carry failures.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::primitives::Blob;
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry,
    Message as SqsMessage, MessageAttributeValue, MessageSystemAttributeName as System,
    MessageSystemAttributeNameForSends, MessageSystemAttributeValue, QueueAttributeName,
    SendMessageBatchRequestEntry,
};
use wasq_protocol::{Attribute, DeadLetter, Delivery, Timestamp};

use crate::explain;

/// A queue by its address.
#[derive(Clone, Debug)]
pub struct QueueEndpoint {
    client: Client,
    url: String,
}

/// The approximate numbers of messages in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Ready to be received.
    pub visible: u64,
    /// Received, and neither deleted nor visible again.
    pub in_flight: u64,
    /// Sent with a delay that is not over.
    pub delayed: u64,
}

/// A message that is to be sent.
#[derive(Clone, Debug, Default)]
pub struct Outbound {
    /// The body.
    pub body: String,
    /// Wait this long before it becomes visible, up to 15 minutes.
    pub delay: Duration,
    /// Message attributes; at most ten.
    pub attributes: BTreeMap<String, Attribute>,
    /// The message group.
    pub group: Option<String>,
    /// The deduplication id, on a FIFO queue: SQS recognises a repetition by it.
    pub deduplication: Option<String>,
    /// X-Ray's trace header.
    pub trace_header: Option<String>,
}

/// The most entries of a batch call.
const BATCH_MAX: usize = 10;
/// The most bytes of a send batch. SQS takes 1 MiB; attributes' names and types count as well.
const BATCH_BYTES_MAX: usize = (1 << 20) - 4096;
/// A lease starts when SQS hands the message out, which is before its answer arrives: at most about this time
/// before. If an answer takes longer, its messages may run twice.
const ANSWER_TIME: Duration = Duration::from_secs(1);
/// The longest visibility that SQS knows.
const VISIBILITY_MAX: Duration = Duration::from_secs(12 * 3600);

impl QueueEndpoint {
    /// The queue at `url`.
    pub fn new(client: Client, url: impl Into<String>) -> Self {
        Self { client, url: url.into() }
    }

    /// Receives up to ten messages, waiting for the first one for up to `wait` (at most 20 s). Each is leased for
    /// `lease` from `now`.
    pub async fn receive(
        &self,
        wait: Duration,
        lease: Duration,
        now: impl Fn() -> Timestamp,
    ) -> Result<Vec<Delivery>> {
        let answer = self
            .client
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(BATCH_MAX as i32)
            .wait_time_seconds(seconds(wait))
            .visibility_timeout(seconds(lease))
            .message_system_attribute_names(System::ApproximateReceiveCount)
            .message_system_attribute_names(System::ApproximateFirstReceiveTimestamp)
            .message_system_attribute_names(System::SentTimestamp)
            .message_system_attribute_names(System::MessageGroupId)
            .message_system_attribute_names(System::AwsTraceHeader)
            .message_attribute_names("All")
            .send()
            .await
            .map_err(explain)
            .context("receive messages")?;
        let lease_until = now().plus(lease).minus(ANSWER_TIME);
        answer
            .messages
            .unwrap_or_default()
            .into_iter()
            .map(|message| delivery(message, lease_until))
            .collect()
    }

    /// Lets messages become visible again after the given times. One result per entry, in order.
    pub async fn set_visibility(&self, entries: &[(String, Duration)]) -> Vec<Result<()>> {
        let mut results = Vec::with_capacity(entries.len());
        for chunk in entries.chunks(BATCH_MAX) {
            let request = chunk.iter().enumerate().map(|(i, (receipt, after))| {
                ChangeMessageVisibilityBatchRequestEntry::builder()
                    .id(i.to_string())
                    .receipt_handle(receipt)
                    .visibility_timeout(seconds((*after).min(VISIBILITY_MAX)))
                    .build()
                    .expect("id and receipt handle are set")
            });
            let answer = self
                .client
                .change_message_visibility_batch()
                .queue_url(&self.url)
                .set_entries(Some(request.collect()))
                .send()
                .await;
            let failed = answer.map(|answer| answer.failed).map_err(explain);
            results.extend(per_entry("change visibility", chunk.len(), failed));
        }
        results
    }

    /// Deletes messages by receipt handle. One result per entry, in order.
    pub async fn delete(&self, receipts: &[String]) -> Vec<Result<()>> {
        let mut results = Vec::with_capacity(receipts.len());
        for chunk in receipts.chunks(BATCH_MAX) {
            let request = chunk.iter().enumerate().map(|(i, receipt)| {
                DeleteMessageBatchRequestEntry::builder()
                    .id(i.to_string())
                    .receipt_handle(receipt)
                    .build()
                    .expect("id and receipt handle are set")
            });
            let answer = self
                .client
                .delete_message_batch()
                .queue_url(&self.url)
                .set_entries(Some(request.collect()))
                .send()
                .await;
            let failed = answer.map(|answer| answer.failed).map_err(explain);
            results.extend(per_entry("delete", chunk.len(), failed));
        }
        results
    }

    /// Sends messages, in batches of as many as fit. One result per message, in order.
    pub async fn send(&self, messages: Vec<Outbound>) -> Vec<Result<()>> {
        let mut results = Vec::with_capacity(messages.len());
        let mut batch = Vec::new();
        let mut batch_bytes = 0;
        for message in messages {
            let bytes = message.bytes();
            if batch.len() == BATCH_MAX || batch_bytes + bytes > BATCH_BYTES_MAX && !batch.is_empty() {
                results.extend(self.send_batch(std::mem::take(&mut batch)).await);
                batch_bytes = 0;
            }
            batch_bytes += bytes;
            batch.push(message);
        }
        results.extend(self.send_batch(batch).await);
        results
    }

    async fn send_batch(&self, batch: Vec<Outbound>) -> Vec<Result<()>> {
        if batch.is_empty() {
            return Vec::new();
        }
        let count = batch.len();
        let fifo = self.is_fifo();
        let entries: Result<Vec<_>> =
            batch.into_iter().enumerate().map(|(i, message)| send_entry(i, message, fifo)).collect();
        let failed = match entries {
            Err(e) => Err(e),
            Ok(entries) => self
                .client
                .send_message_batch()
                .queue_url(&self.url)
                .set_entries(Some(entries))
                .send()
                .await
                .map(|answer| answer.failed)
                .map_err(explain),
        };
        per_entry("send", count, failed)
    }

    /// Sends copies of deliveries to this queue, a dead-letter queue, with the reasons as attributes. Does
    /// not delete the originals. One result per delivery, in order.
    pub async fn send_dead_letters(&self, letters: &[(Delivery, DeadLetter)]) -> Vec<Result<()>> {
        let copies = letters.iter().map(|(delivery, letter)| dead_letter(delivery, letter));
        self.send(copies.collect()).await
    }

    /// The dead-letter queue that this queue's redrive policy names.
    pub async fn dead_letter_queue(&self) -> Result<Self> {
        let name = QueueAttributeName::RedrivePolicy;
        let request = self.client.get_queue_attributes().queue_url(&self.url).attribute_names(name.clone());
        let answer = request.send().await.map_err(explain).context("read the queue's attributes")?;
        let policy = answer.attributes().and_then(|attributes| attributes.get(&name));
        let policy = policy.context("the queue has no redrive policy, and so no dead-letter queue")?;
        let policy: serde_json::Value = serde_json::from_str(policy).context("read the redrive policy")?;
        let arn = policy.get("deadLetterTargetArn").and_then(serde_json::Value::as_str);
        let name = arn.and_then(|arn| arn.rsplit(':').next()).context("the redrive policy names no queue")?;
        let answer = self.client.get_queue_url().queue_name(name).send().await.map_err(explain);
        let url = answer.with_context(|| format!("find the queue {name}"))?.queue_url;
        Ok(Self { client: self.client.clone(), url: url.context("the answer has no address")? })
    }

    /// The approximate numbers of messages in the queue.
    pub async fn counts(&self) -> Result<Counts> {
        let visible = QueueAttributeName::ApproximateNumberOfMessages;
        let in_flight = QueueAttributeName::ApproximateNumberOfMessagesNotVisible;
        let delayed = QueueAttributeName::ApproximateNumberOfMessagesDelayed;
        let answer = self
            .client
            .get_queue_attributes()
            .queue_url(&self.url)
            .attribute_names(visible.clone())
            .attribute_names(in_flight.clone())
            .attribute_names(delayed.clone())
            .send()
            .await
            .map_err(explain)
            .context("count messages")?;
        let count = |name| {
            let count = answer.attributes().and_then(|attributes| attributes.get(&name));
            count.and_then(|count| count.parse().ok()).with_context(|| format!("no {name} in the answer"))
        };
        Ok(Counts { visible: count(visible)?, in_flight: count(in_flight)?, delayed: count(delayed)? })
    }

    /// Whether it is a FIFO queue.
    pub fn is_fifo(&self) -> bool {
        self.url.ends_with(".fifo")
    }
}

impl Outbound {
    fn bytes(&self) -> usize {
        let attributes = self.attributes.iter().map(|(name, value)| {
            let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
            name.len() + value.data_type.len() + length(&value.string_value) + length(&value.binary_value)
        });
        self.body.len() + attributes.sum::<usize>()
    }
}

fn dead_letter(delivery: &Delivery, letter: &DeadLetter) -> Outbound {
    let (attributes, dropped) = letter.copy_attributes(delivery);
    if !dropped.is_empty() {
        tracing::warn!(
            id = letter.id,
            ?dropped,
            "some attributes of the sender do not fit into the dead letter together with ours"
        );
    }
    Outbound {
        body: delivery.body.clone(),
        delay: Duration::ZERO,
        attributes,
        group: delivery.group.clone(),
        deduplication: Some(delivery.message_id.clone()),
        trace_header: delivery.trace_header.clone(),
    }
}

fn send_entry(i: usize, message: Outbound, fifo: bool) -> Result<SendMessageBatchRequestEntry> {
    let Outbound { body, delay, attributes, group, deduplication, trace_header } = message;
    let mut entry = SendMessageBatchRequestEntry::builder()
        .id(i.to_string())
        .message_body(body)
        .set_message_group_id(group);
    if fifo {
        entry = entry.set_message_deduplication_id(deduplication);
    } else {
        entry = entry.delay_seconds(seconds(delay));
    }
    if let Some(header) = trace_header {
        let header = MessageSystemAttributeValue::builder().data_type("String").string_value(header);
        let header = header.build().expect("the data type is set");
        entry = entry.message_system_attributes(MessageSystemAttributeNameForSends::AwsTraceHeader, header);
    }
    for (name, value) in attributes {
        entry = entry.message_attributes(name, sdk_attribute(value)?);
    }
    Ok(entry.build().expect("id and body are set"))
}

fn delivery(message: SqsMessage, lease_until: Timestamp) -> Result<Delivery> {
    let attributes = message.message_attributes.unwrap_or_default();
    let attributes = attributes.into_iter().map(|(name, value)| (name, our_attribute(value)));
    let system = message.attributes.unwrap_or_default();
    let number = |name: System| -> Result<u64> {
        let text = system.get(&name).with_context(|| format!("a received message has no {name}"))?;
        text.parse().with_context(|| format!("read {name} of a received message"))
    };
    Ok(Delivery {
        receive_count: u32::try_from(number(System::ApproximateReceiveCount)?).unwrap_or(u32::MAX),
        first_received: Timestamp::from_ms(number(System::ApproximateFirstReceiveTimestamp)?),
        sent: Timestamp::from_ms(number(System::SentTimestamp)?),
        group: system.get(&System::MessageGroupId).cloned(),
        trace_header: system.get(&System::AwsTraceHeader).cloned(),
        deaths: 0,
        message_id: message.message_id.context("a received message has no id")?,
        receipt: message.receipt_handle.context("a received message has no receipt handle")?,
        body: message.body.unwrap_or_default(),
        attributes: attributes.collect(),
        lease_until,
    })
}

fn our_attribute(value: MessageAttributeValue) -> Attribute {
    Attribute {
        data_type: value.data_type,
        string_value: value.string_value,
        binary_value: value.binary_value.map(aws_smithy_types::base64::encode),
    }
}

fn sdk_attribute(value: Attribute) -> Result<MessageAttributeValue> {
    let binary = value
        .binary_value
        .map(|text| aws_smithy_types::base64::decode(text).context("read a binary attribute"))
        .transpose()?;
    MessageAttributeValue::builder()
        .data_type(value.data_type)
        .set_string_value(value.string_value)
        .set_binary_value(binary.map(Blob::new))
        .build()
        .context("build an attribute")
}

/// Spreads a batch call's answer over its entries.
fn per_entry(what: &str, count: usize, failed: Result<Vec<BatchResultErrorEntry>>) -> Vec<Result<()>> {
    let failed = match failed {
        Ok(failed) => failed,
        Err(e) => {
            let e = format!("{e:#}");
            return (0..count).map(|_| Err(anyhow!("{what}: {e}"))).collect();
        }
    };
    let mut results: Vec<_> = (0..count).map(|_| Ok(())).collect();
    for entry in failed {
        if let Some(result) = entry.id.parse().ok().and_then(|i: usize| results.get_mut(i)) {
            let message = entry.message.unwrap_or_default();
            *result = Err(anyhow!("{what}: {}: {message}", entry.code));
        }
    }
    results
}

/// SQS counts whole seconds; a part of a second counts as a whole one.
fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis().div_ceil(1000)).unwrap_or(i32::MAX)
}
