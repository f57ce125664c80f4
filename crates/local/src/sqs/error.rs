//! SQS's errors, as its clients know them.

use crate::db::DbError;

/// An error of the SQS API.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SqsError {
    /// The name in the JSON protocol, such as `com.amazonaws.sqs#QueueDoesNotExist`.
    pub shape: &'static str,
    /// The name in the older query protocol, which most clients compare.
    pub code: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// The error text.
    pub message: String,
}

macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident = $shape:literal, $code:literal, $status:literal;)*) => {
        impl SqsError {
            $($(#[$doc])* pub(crate) fn $name(message: impl Into<String>) -> Self {
                Self { shape: $shape, code: $code, status: $status, message: message.into() }
            })*
        }
    };
}

errors! {
    /// A parameter is out of range or malformed.
    invalid_value = "com.amazon.coral.service#InvalidParameterValueException", "InvalidParameterValue", 400;
    missing_parameter = "com.amazon.coral.service#MissingRequiredParameterException", "MissingParameter", 400;
    /// The request is not the JSON that the action takes.
    malformed = "com.amazon.coral.service#SerializationException", "MalformedInput", 400;
    unknown_action = "com.amazon.coral.service#UnknownOperationException", "InvalidAction", 400;
    /// The endpoint has too much to do; clients try again.
    unavailable = "com.amazon.coral.service#ServiceUnavailableException", "ServiceUnavailable", 503;
    /// The caller may not call.
    access_denied = "com.amazon.coral.service#AccessDeniedException", "AccessDenied", 403;
    internal = "com.amazon.coral.service#InternalFailure", "InternalFailure", 500;
    queue_name_exists = "com.amazonaws.sqs#QueueNameExists", "QueueAlreadyExists", 400;
    invalid_attribute_name = "com.amazonaws.sqs#InvalidAttributeName", "InvalidAttributeName", 400;
    invalid_attribute_value = "com.amazonaws.sqs#InvalidAttributeValue", "InvalidAttributeValue", 400;
    invalid_contents = "com.amazonaws.sqs#InvalidMessageContents", "InvalidMessageContents", 400;
    invalid_receipt = "com.amazonaws.sqs#ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid", 404;
    not_in_flight = "com.amazonaws.sqs#MessageNotInflight", "AWS.SimpleQueueService.MessageNotInflight", 400;
    /// Too many messages are in flight.
    over_limit = "com.amazonaws.sqs#OverLimit", "OverLimit", 403;
    not_found = "com.amazonaws.sqs#ResourceNotFoundException", "ResourceNotFoundException", 404;
    purge_in_progress = "com.amazonaws.sqs#PurgeQueueInProgress", "AWS.SimpleQueueService.PurgeQueueInProgress", 403;
    deleted_recently = "com.amazonaws.sqs#QueueDeletedRecently", "AWS.SimpleQueueService.QueueDeletedRecently", 400;
    empty_batch = "com.amazonaws.sqs#EmptyBatchRequest", "AWS.SimpleQueueService.EmptyBatchRequest", 400;
    too_many_entries = "com.amazonaws.sqs#TooManyEntriesInBatchRequest", "AWS.SimpleQueueService.TooManyEntriesInBatchRequest", 400;
    ids_not_distinct = "com.amazonaws.sqs#BatchEntryIdsNotDistinct", "AWS.SimpleQueueService.BatchEntryIdsNotDistinct", 400;
    invalid_entry_id = "com.amazonaws.sqs#InvalidBatchEntryId", "AWS.SimpleQueueService.InvalidBatchEntryId", 400;
    batch_too_long = "com.amazonaws.sqs#BatchRequestTooLong", "AWS.SimpleQueueService.BatchRequestTooLong", 400;
}

impl SqsError {
    pub(crate) fn no_queue() -> Self {
        Self {
            shape: "com.amazonaws.sqs#QueueDoesNotExist",
            code: "AWS.SimpleQueueService.NonExistentQueue",
            status: 400,
            message: "The specified queue does not exist.".to_owned(),
        }
    }

    pub(crate) fn missing(parameter: &str) -> Self {
        Self::missing_parameter(format!("The request must contain the parameter {parameter}."))
    }

    /// SQS's usual form: `Value V for parameter P is invalid. Reason: R`.
    pub(crate) fn value(parameter: &str, value: impl std::fmt::Display, reason: &str) -> Self {
        Self::invalid_value(format!("Value {value} for parameter {parameter} is invalid. Reason: {reason}"))
    }

    /// Whether the sender of the request is to blame.
    pub(crate) fn sender_fault(&self) -> bool {
        self.status < 500
    }
}

impl From<DbError> for SqsError {
    fn from(e: DbError) -> Self {
        tracing::error!("{e}");
        Self::internal(e.to_string())
    }
}

impl From<rusqlite::Error> for SqsError {
    fn from(e: rusqlite::Error) -> Self {
        DbError::from(e).into()
    }
}
