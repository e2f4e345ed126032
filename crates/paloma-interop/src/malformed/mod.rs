//! Packets no broker may accept, and what it must answer to each.

mod classes;
mod generated;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub use classes::{
    connects, directions, integers, properties, publishes, shared_subscriptions, subscriptions,
};
pub use generated::{flags, foreign_properties, prefixes, strings, trailing_bytes, truncations};

use crate::peer::Version;
use crate::random::Random;
use crate::raw::{Frame, RawClient};
use crate::wire;

/// When a case's bytes are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// As the first bytes of a connection.
    First,
    /// After CONNECT and its CONNACK.
    Connected,
}

/// What must come of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// 5.0: DISCONNECT with one of these codes, then the end. 3.1.1: the end.
    Disconnect(&'static [u8]),
    /// CONNACK with one of these codes, or nothing, then the end: the standard leaves it open.
    Refusal(&'static [u8]),
    /// SUBACK whose every code is one of these, or DISCONNECT with one of them and the end.
    SubAck(&'static [u8]),
    /// Nothing but the end.
    End,
}

/// One malformed packet.
#[derive(Debug, Clone)]
pub struct Case {
    /// What is wrong with it.
    pub name: String,
    /// Version of the connection it is sent on.
    pub version: Version,
    /// When it is sent.
    pub when: When,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// What must come of it.
    pub answer: Answer,
}

/// How long an answer may take: much more than it does, since a busy machine is no broker's fault.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Malformed packet.
pub const MALFORMED: &[u8] = &[0x81];
/// Protocol error.
pub const PROTOCOL: &[u8] = &[0x82];
/// Where the standard's words allow either, depending on who reads them.
pub const EITHER: &[u8] = &[0x81, 0x82];

impl Case {
    /// A case on an open connection, answered with DISCONNECT.
    #[must_use]
    pub fn connected(
        name: impl Into<String>,
        version: Version,
        bytes: Vec<u8>,
        codes: &'static [u8],
    ) -> Self {
        let answer = Answer::Disconnect(codes);
        Self {
            name: name.into(),
            version,
            when: When::Connected,
            bytes,
            answer,
        }
    }

    /// A case of the first bytes, answered with CONNACK or silence.
    #[must_use]
    pub fn first(
        name: impl Into<String>,
        version: Version,
        bytes: Vec<u8>,
        codes: &'static [u8],
    ) -> Self {
        let answer = Answer::Refusal(codes);
        Self {
            name: name.into(),
            version,
            when: When::First,
            bytes,
            answer,
        }
    }
}

/// How the bytes of a case are cut into writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// In one write.
    Whole,
    /// Each byte in a write of its own.
    ByteByByte,
    /// In two writes, the first of so many bytes.
    Split(usize),
}

/// Sends one case to the broker and checks the answer.
///
/// # Errors
/// What was wrong about the answer.
pub fn check(address: SocketAddr, case: &Case, delivery: Delivery) -> Result<(), String> {
    // Cases are sent side by side, and none may take another's session.
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut client = match case.when {
        When::First => RawClient::open(address, case.version),
        When::Connected => {
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            RawClient::connect(address, case.version, &format!("malformed-{number}"))
        }
    };
    // The broker may close before it has all the bytes, so writing may fail.
    let _ = match delivery {
        Delivery::Whole => client.try_send(&case.bytes),
        Delivery::ByteByByte => case
            .bytes
            .iter()
            .try_for_each(|byte| client.try_send(std::slice::from_ref(byte))),
        Delivery::Split(at) => client
            .try_send(&case.bytes[..at])
            .and_then(|()| client.try_send(&case.bytes[at..])),
    };
    let mut frames = Vec::new();
    loop {
        match client.frame_within(ANSWER_MAX) {
            None => return Err(format!("still open after {frames:02x?}")),
            Some(None) => return judge(case, &frames),
            Some(Some(frame)) => frames.push(frame),
        }
        if let (Answer::SubAck(codes), [only]) = (case.answer, &frames[..])
            && only.first == 0x90
        {
            let given = only.codes(case.version);
            let right = given
                .iter()
                .all(|code| codes.contains(code) || *code == 0x80);
            return right
                .then_some(())
                .ok_or(format!("SUBACK with {given:02x?}"));
        }
    }
}

fn judge(case: &Case, frames: &[Frame]) -> Result<(), String> {
    let wrong = |expected: &str| Err(format!("{frames:02x?}, not {expected}"));
    match (case.answer, frames) {
        (Answer::End, []) => Ok(()),
        (Answer::Refusal(_), []) => Ok(()),
        (Answer::Refusal(codes), [only]) if only.connack_reason().is_some() => {
            let right = only.connack_reason().is_some_and(|code| {
                codes.contains(&code) || (case.version == Version::V311 && (1..=5).contains(&code))
            });
            if right {
                Ok(())
            } else {
                wrong(&format!("CONNACK with one of {codes:02x?}"))
            }
        }
        (Answer::Disconnect(_) | Answer::SubAck(_), []) if case.version == Version::V311 => Ok(()),
        (Answer::Disconnect(codes) | Answer::SubAck(codes), [only])
            if case.version == Version::V5
                && only
                    .disconnect_reason()
                    .is_some_and(|code| codes.contains(&code)) =>
        {
            Ok(())
        }
        (expected, _) => wrong(&format!("{expected:02x?}")),
    }
}

/// Up to here a packet is split at each of its places; of a longer one, so many at both ends and as many drawn between them.
const SHORT: usize = 1_024;
const ENDS: usize = 64;

/// Every place to split a packet at.
#[must_use]
pub fn splits(bytes: &[u8]) -> Vec<usize> {
    let end = bytes.len();
    if end <= SHORT {
        return (1..end).collect();
    }
    let mut random = Random::new(end as u64);
    let between = (0..ENDS).map(|_| random.between(ENDS, end - ENDS));
    (1..ENDS).chain(between).chain(end - ENDS..end).collect()
}

/// Every kind of packet a client sends, right and with everything that may be in it, and when it may be sent.
#[must_use]
pub fn samples(version: Version) -> Vec<(&'static str, When, Vec<u8>)> {
    let v5 = version == Version::V5;
    let user = wire::user_property("name", "value");
    let filters = [
        vec![0, 7],
        block(version, &[&[0x0B, 0x80, 0x01], &user]),
        wire::string("one/+"),
        vec![1],
        wire::string("two/#"),
        vec![2],
    ];
    let names = [
        vec![0, 8],
        block(version, &[&user]),
        wire::string("one/+"),
        wire::string("two/#"),
    ];
    let disconnect = if v5 {
        [vec![4], block(version, &[&user])].concat()
    } else {
        Vec::new()
    };
    let mut samples = vec![
        ("CONNECT", When::First, connect_sample(version)),
        (
            "PUBLISH",
            When::Connected,
            publish_sample(version, 0x30, b"text"),
        ),
        (
            "PUBLISH 1",
            When::Connected,
            publish_sample(version, 0x32, b""),
        ),
        (
            "PUBLISH 2",
            When::Connected,
            publish_sample(version, 0x34, b""),
        ),
        (
            "SUBSCRIBE",
            When::Connected,
            wire::packet(0x82, &filters.concat()),
        ),
        (
            "UNSUBSCRIBE",
            When::Connected,
            wire::packet(0xA2, &names.concat()),
        ),
        ("PINGREQ", When::Connected, wire::PINGREQ.to_vec()),
        (
            "DISCONNECT",
            When::Connected,
            wire::packet(0xE0, &disconnect),
        ),
    ];
    for (name, first) in wire::ACKS {
        let reason = if v5 { vec![0] } else { Vec::new() };
        let body = [vec![0, 9], reason, block(version, &[&user])].concat();
        samples.push((name, When::Connected, wire::packet(first, &body)));
    }
    samples
}

fn connect_sample(version: Version) -> Vec<u8> {
    let user = wire::user_property("name", "value");
    let mut connect = wire::Connect::new(version, "malformed");
    connect.flags = 0xC6 | 0x28;
    connect.properties = block(
        version,
        &[
            &[0x11, 0, 0, 0, 60],
            &[0x21, 0, 9],
            &[0x27, 0, 1, 0, 0],
            &[0x22, 0, 5],
            &user,
        ],
    );
    connect.rest = [
        block(
            version,
            &[&[0x18, 0, 0, 0, 1], &[0x01, 1], &[0x02, 0, 0, 0, 9], &user],
        ),
        wire::string("will/topic"),
        wire::string("will payload"),
        wire::string("user"),
        wire::string("password"),
    ]
    .concat();
    connect.encode()
}

fn publish_sample(version: Version, first: u8, payload: &[u8]) -> Vec<u8> {
    let block = block(
        version,
        &[
            &[0x01, 1],
            &[0x02, 0, 0, 0, 60],
            &[&[0x08], &wire::string("answer/here")[..]].concat(),
            &[&[0x09], &wire::string([0, 1, 255])[..]].concat(),
            &wire::user_property("name", "value"),
            &[&[0x03], &wire::string("text/plain")[..]].concat(),
        ],
    );
    wire::publish_with(&block, first, 9, b"a/b", payload)
}

/// A property block in 5.0, nothing in 3.1.1.
fn block(version: Version, properties: &[&[u8]]) -> Vec<u8> {
    match version {
        Version::V311 => Vec::new(),
        Version::V5 => wire::properties(properties),
    }
}
