//! A message as a line of JSON, with mosquitto_sub's names.

use std::io::Write;

use serde_json::Value;

use super::format::{PayloadNotJson, Printed};
use crate::utc::Utc;

/// Appends the message; its payload as a string, or as it is if it is JSON itself.
///
/// Bytes that are not UTF-8 become U+FFFD in a string. A user property that occurs twice is written
/// twice. The time is in UTC and ends in `Z`.
///
/// # Errors
/// The payload should be JSON and is not.
pub(super) fn write(
    message: &Printed<'_>,
    now: &Utc,
    is_payload_json: bool,
    out: &mut Vec<u8>,
) -> Result<(), PayloadNotJson> {
    if is_payload_json && serde_json::from_slice::<Value>(message.payload).is_err() {
        return Err(PayloadNotJson);
    }
    let time = format!("{}.{:06}Z", now.date_time(), now.nanoseconds / 1_000);
    push(
        out,
        format_args!(
            "{{\"tst\":{},\"topic\":{}",
            text(&time),
            text(message.topic)
        ),
    );
    let (qos, retain) = (message.qos, u8::from(message.retain));
    let length = message.payload.len();
    push(
        out,
        format_args!(",\"qos\":{qos},\"retain\":{retain},\"payloadlen\":{length}"),
    );
    if message.id != 0 {
        push(out, format_args!(",\"mid\":{}", message.id));
    }
    let properties = properties(message);
    if !properties.is_empty() {
        push(
            out,
            format_args!(",\"properties\":{{{}}}", properties.join(",")),
        );
    }
    out.extend_from_slice(b",\"payload\":");
    if is_payload_json {
        out.extend_from_slice(message.payload);
    } else {
        push(
            out,
            format_args!("{}", text(&String::from_utf8_lossy(message.payload))),
        );
    }
    out.push(b'}');
    Ok(())
}

fn properties(message: &Printed<'_>) -> Vec<String> {
    let mut properties = Vec::new();
    let mut add = |name: &str, value: Option<String>| {
        properties.extend(value.map(|value| format!("\"{name}\":{value}")));
    };
    add(
        "payload-format-indicator",
        message.payload_format.map(|format| format.to_string()),
    );
    add(
        "message-expiry-interval",
        message.expiry_seconds.map(|seconds| seconds.to_string()),
    );
    add("content-type", message.content_type.map(text));
    add("response-topic", message.response_topic.map(text));
    let correlation = message.correlation_data.map(String::from_utf8_lossy);
    add("correlation-data", correlation.map(|data| text(&data)));
    let ids: Vec<String> = message
        .subscription_ids
        .iter()
        .map(u32::to_string)
        .collect();
    add(
        "subscription-identifier",
        match ids.as_slice() {
            [] => None,
            [id] => Some(id.clone()),
            ids => Some(format!("[{}]", ids.join(","))),
        },
    );
    let pairs = message.user_properties.iter();
    let pairs: Vec<String> = pairs
        .map(|(key, value)| format!("{}:{}", text(key), text(value)))
        .collect();
    add(
        "user-properties",
        (!pairs.is_empty()).then(|| format!("{{{}}}", pairs.join(","))),
    );
    properties
}

/// The text as a JSON string, with its quotes.
fn text(text: &str) -> String {
    Value::from(text).to_string()
}

fn push(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a Vec takes every write");
}
