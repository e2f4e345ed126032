//! The tests, a file for a part of the standards.

mod acknowledgements;
mod authentication;
mod connack;
mod connect;
mod disconnect;
mod flow;
mod framing;
mod properties;
mod publish;
mod retained;
mod rules;
mod sessions;
mod shared;
mod strings;
mod subscribe;
mod topics;
mod unsubscribe;
mod websocket;
mod wills;

use std::time::Duration;

use paloma_codec::{ConnAckReason, DisconnectReason, Packet};

use crate::client::{Client, Found};
use crate::lab::Lab;
use crate::suite::Section;
use crate::verdict::{Stop, Verdict, ensure};

pub(crate) fn sections() -> Vec<Section> {
    vec![
        strings::section(),
        framing::section(),
        connect::section(),
        connack::section(),
        publish::section(),
        acknowledgements::section(),
        retained::section(),
        properties::section(),
        flow::section(),
        subscribe::section(),
        unsubscribe::section(),
        shared::section(),
        topics::section(),
        sessions::section(),
        wills::section(),
        disconnect::section(),
        authentication::section(),
        websocket::section(),
        rules::section(),
    ]
}

/// Malformed Packet.
const MALFORMED: &[DisconnectReason] = &[DisconnectReason::MalformedPacket];
/// Protocol Error.
const PROTOCOL: &[DisconnectReason] = &[DisconnectReason::ProtocolError];
/// Where the standard's words allow both.
const EITHER: &[DisconnectReason] = &[
    DisconnectReason::MalformedPacket,
    DisconnectReason::ProtocolError,
];
/// A topic name that is none.
const TOPIC_NAME: &[DisconnectReason] = &[
    DisconnectReason::TopicNameInvalid,
    DisconnectReason::MalformedPacket,
    DisconnectReason::ProtocolError,
];
/// A topic filter that is none.
const TOPIC_FILTER: &[DisconnectReason] = &[
    DisconnectReason::TopicFilterInvalid,
    DisconnectReason::MalformedPacket,
    DisconnectReason::ProtocolError,
];

/// Sends bytes after CONNECT; the connection has to end, for one of these reasons if one is given.
#[track_caller]
fn refuses(lab: &Lab<'_>, what: &str, bytes: &[u8], reasons: &[DisconnectReason]) -> Verdict {
    let mut client = lab.client("refused")?;
    client.send_bytes(bytes)?;
    client.is_refused(reasons).map_err(|stop| named(what, stop))
}

/// Sends bytes in place of a CONNECT; the connection has to end, after a CONNACK with an error or without one.
#[track_caller]
fn refuses_first(lab: &Lab<'_>, what: &str, bytes: &[u8]) -> Verdict<Option<ConnAckReason>> {
    let mut client = lab.open()?;
    client.send_bytes(bytes)?;
    refused_connect(&mut client).map_err(|stop| named(what, stop))
}

/// Reads a refusal: a CONNACK with an error or nothing, then the end.
#[track_caller]
fn refused_connect(client: &mut Client) -> Verdict<Option<ConnAckReason>> {
    let mut reason = None;
    loop {
        match client.read_within(Duration::from_secs(10))? {
            Found::End => return Ok(reason),
            Found::Packet(Packet::ConnAck(ack)) if reason.is_none() => {
                ensure(
                    ack.reason.is_error() && !ack.session_present,
                    format!("a refusal should come, not {ack:?}"),
                )?;
                reason = Some(ack.reason);
            }
            Found::Packet(other) => {
                return Err(Stop::failed(format!(
                    "a refusal should come, not {other:?}"
                )));
            }
            Found::Nothing => return Err(Stop::failed("the connection stays open")),
        }
    }
}

/// Adds which of several inputs it was.
fn named(what: &str, stop: Stop) -> Stop {
    match stop {
        Stop::Failed { problem, place } => Stop::Failed {
            problem: format!("{what}: {problem}"),
            place,
        },
        other @ Stop::NotApplicable(_) => other,
    }
}
