//! What clients say: passwords, riddles and their answers, payloads, wills.

use bytes::Bytes;
use paloma_codec::{Authentication, Secret, Will};
use paloma_topic::TopicName;

use crate::oracle::LARGE_BYTES;
use crate::plan::PlannedWill;

/// Everybody's password.
pub(crate) const PASSWORD: &[u8] = b"secret";

/// The method of an enhanced authentication, what the broker asks in it and what a client answers.
const METHOD: &str = "riddle";
pub(crate) const CHALLENGE: &[u8] = b"what walks on four legs?";
pub(crate) const ANSWER: &[u8] = b"man";

/// What a client says of the method.
pub(crate) fn riddle(data: &'static [u8]) -> Authentication {
    Authentication {
        method: METHOD.into(),
        data: Some(Secret::new(Bytes::from_static(data))),
    }
}

/// The will that the plan has for a client.
pub(crate) fn will_of(will: &PlannedWill, number: u64, is_v5: bool) -> Option<Will> {
    let topic = TopicName::new(will.topic.to_owned()).ok()?;
    let payload = Bytes::from(payload_of(number, false, false));
    Some(Will {
        qos: will.qos,
        retain: will.retain,
        delay_seconds: if is_v5 { will.delay_seconds } else { 0 },
        ..Will::new(topic, payload)
    })
}

/// A payload that begins with the message's number.
pub(crate) fn payload_of(number: u64, is_empty: bool, is_large: bool) -> Vec<u8> {
    if is_empty {
        return Vec::new();
    }
    let mut payload = number.to_string().into_bytes();
    payload.push(b' ');
    if is_large {
        payload.resize(LARGE_BYTES + 100, b'x');
    }
    payload
}
