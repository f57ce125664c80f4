//! Message attributes: SQS's rules for them, their size and their digest.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use md5::{Digest, Md5};
use serde_json::{Map, Value};

use super::error::SqsError;

/// The characters of XML 1.0, the only ones that SQS takes.
pub(crate) fn valid_text(text: &str) -> bool {
    text.chars()
        .all(|c| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..))
}

/// SQS's error text for a text with other characters.
pub(crate) const INVALID_TEXT: &str = "Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF";

const ATTRIBUTES_MAX: usize = 10;

/// A lower-case hexadecimal MD5 digest. Clients of SQS use it to check that a text arrived whole.
pub(crate) fn md5_hex(bytes: &[u8]) -> String {
    Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Checks message attributes in SQS's own form, `{NAME: {"DataType": ..., "StringValue": ...}}`, and returns the bytes
/// that they count for.
pub(crate) fn check(attributes: &Map<String, Value>) -> Result<usize, SqsError> {
    if attributes.len() > ATTRIBUTES_MAX {
        return Err(SqsError::invalid_value(format!(
            "Number of message attributes [{}] exceeds the allowed maximum [{ATTRIBUTES_MAX}].",
            attributes.len()
        )));
    }
    let mut bytes = 0;
    for (name, value) in attributes {
        check_name(name)?;
        check_types(name, value)?;
        let data_type = value.get("DataType").and_then(Value::as_str).unwrap_or_default();
        bytes += name.len() + data_type.len() + value_bytes(name, data_type, value)?.len();
    }
    Ok(bytes)
}

/// A member of the wrong JSON type is no member that is missing.
fn check_types(name: &str, value: &Value) -> Result<(), SqsError> {
    let wrong = |what: &str| Err(SqsError::malformed(format!("MessageAttributes.{name}: {what}")));
    let Some(members) = value.as_object() else { return wrong("expected an object") };
    for member in ["DataType", "StringValue", "BinaryValue"] {
        if members.get(member).is_some_and(|value| !value.is_string() && !value.is_null()) {
            return wrong(&format!("{member}: expected a string"));
        }
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), SqsError> {
    let lower = name.to_ascii_lowercase();
    let problem = if name.is_empty() {
        "The request must contain non-empty message (user) attribute names."
    } else if name.len() > 256 {
        "Message (user) attribute name must be shorter than 256 bytes."
    } else if lower.starts_with("aws.")
        || lower.starts_with("amazon.")
        || name.starts_with('.')
        || name.ends_with('.')
    {
        "You can't use message attribute names beginning with 'AWS.' or 'Amazon.'. These strings are reserved for internal use. Additionally, they cannot start or end with '.'."
    } else if name.contains("..") || !name.chars().all(|c| c.is_alphanumeric() || "_-.".contains(c)) {
        "Message (user) attributes name can only contain upper and lower score characters, digits, periods, hyphens and underscores. "
    } else {
        return Ok(());
    };
    Err(SqsError::invalid_value(problem))
}

/// The bytes of an attribute's value, checked against its type.
fn value_bytes(name: &str, data_type: &str, value: &Value) -> Result<Vec<u8>, SqsError> {
    let error = |message: String| Err(SqsError::invalid_value(message));
    if data_type.is_empty() {
        return error(format!(
            "The message (user) attribute '{name}' must contain a non-empty message attribute value."
        ));
    }
    if data_type.len() >= 256 {
        return error("Message (user) attribute type must be shorter than 256 bytes.".to_owned());
    }
    let list = |key: &str| value.get(key).and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    if list("StringListValues") || list("BinaryListValues") {
        return error("Message attribute list values in SendMessage operation are not supported.".to_owned());
    }
    let base = data_type.split('.').next().unwrap_or_default();
    let key = if base == "Binary" { "BinaryValue" } else { "StringValue" };
    let text = value.get(key).and_then(Value::as_str).unwrap_or_default();
    match base {
        "String" | "Number" | "Binary" if text.is_empty() => error(format!(
            "Message (user) attribute '{name}' must contain a non-empty value of type '{base}'."
        )),
        "String" if !valid_text(text) => error(INVALID_TEXT.to_owned()),
        "Number" if !is_number(text) => {
            error(format!("Can't cast the value of message (user) attribute '{name}' to a number."))
        }
        "String" | "Number" => Ok(text.as_bytes().to_vec()),
        "Binary" => BASE64_STANDARD
            .decode(text)
            .map_err(|e| SqsError::malformed(format!("attribute '{name}': BinaryValue: {e}"))),
        _ => error(format!(
            "The type of message (user) attribute '{name}' is invalid. You must use only the following supported type prefixes: Binary, Number, String."
        )),
    }
}

/// Whether a text is a number of SQS: up to 38 digits, and 0 or between 1e-128 and 1e126 in size.
fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let Ok(exponent) = exponent.parse::<i64>() else { return false };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || digits.len() > 256 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return false;
    }
    let significant = digits.trim_start_matches('0');
    let zeros = digits.len() - significant.len();
    let significant = significant.trim_end_matches('0');
    // The exponent of the first digit that is not 0.
    let size = exponent.saturating_add(whole.len() as i64).saturating_sub(zeros as i64 + 1);
    match significant {
        "" => true,
        "1" if size == 126 => true,
        _ => significant.len() <= 38 && (-128..126).contains(&size),
    }
}

/// The digest of message attributes that [`check`] has passed: over each name, type and value with its length, in the
/// order of the names. `None` without attributes.
pub(crate) fn digest(attributes: &Map<String, Value>) -> Option<String> {
    if attributes.is_empty() {
        return None;
    }
    let mut names: Vec<_> = attributes.keys().collect();
    names.sort();
    let mut encoded = Vec::new();
    let field = |encoded: &mut Vec<u8>, bytes: &[u8]| {
        let length = u32::try_from(bytes.len()).expect("SQS limits messages to 1 MiB");
        encoded.extend_from_slice(&length.to_be_bytes());
        encoded.extend_from_slice(bytes);
    };
    for name in names {
        let value = &attributes[name];
        let data_type = value.get("DataType").and_then(Value::as_str).unwrap_or_default();
        let bytes = value_bytes(name, data_type, value).unwrap_or_default();
        field(&mut encoded, name.as_bytes());
        field(&mut encoded, data_type.as_bytes());
        encoded.push(if data_type.starts_with("Binary") { 2 } else { 1 });
        field(&mut encoded, &bytes);
    }
    Some(md5_hex(&encoded))
}

/// The attributes that a receiver asked for: `All`, `.*`, `prefix.*`, or names.
pub(crate) fn select(attributes: Map<String, Value>, asked: &[String]) -> Map<String, Value> {
    let wanted = |name: &str| {
        asked.iter().any(|pattern| match pattern.strip_suffix(".*") {
            Some(prefix) => name.starts_with(prefix),
            None => pattern == "All" || pattern == "*" || pattern == name,
        })
    };
    attributes.into_iter().filter(|(name, _)| wanted(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::is_number;

    #[test]
    fn numbers_of_sqs() {
        for number in [
            "0",
            "-0",
            "0e999",
            "1e5",
            "1.50",
            "+1",
            ".5",
            "5.",
            "230.000000000000000001",
            "99999999999999999999999999999999999999",
            "1e126",
            "-1E+126",
            "1e-128",
            "0.00012e-100",
        ] {
            assert!(is_number(number), "{number}");
        }
        for other in [
            "",
            "+",
            ".",
            "e5",
            "1e",
            "NaN",
            "nan",
            "inf",
            "-Infinity",
            "infinity",
            "1e127",
            "1.1e126",
            "1e400",
            "1e-129",
            "1e-400",
            "0x10",
            "1_000",
            " 1",
            "1 ",
            "--1",
            "1.2.3",
            "999999999999999999999999999999999999999",
        ] {
            assert!(!is_number(other), "{other}");
        }
    }
}
