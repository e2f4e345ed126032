//! Malformed packets written one by one.

use super::{Answer, Case, EITHER, MALFORMED, PROTOCOL, When};
use crate::peer::Version::{self, V5, V311};
use crate::wire::{self, Connect, packet, publish_with, string};

/// Topic alias invalid.
const ALIAS: &[u8] = &[0x94];
/// A wildcard in a topic name is malformed, and also an invalid name.
const TOPIC: &[u8] = &[0x81, 0x90];
/// A filter that is malformed is also an invalid one.
const FILTER: &[u8] = &[0x81, 0x8F];
/// Limits of ours.
const QUOTA: &[u8] = &[0x97];

/// Variable byte integers that are too long or longer than they need to be. [MQTT-1.5.5-1]
#[must_use]
pub fn integers() -> Vec<Case> {
    let mut cases = Vec::new();
    for version in Version::ALL {
        let mut length = |name: &str, bytes: &[u8]| {
            let bytes = bytes.to_vec();
            cases.push(Case::connected(name, version, bytes, MALFORMED));
        };
        length(
            "Remaining Length of five bytes",
            &[0x30, 0x80, 0x80, 0x80, 0x80, 0x01],
        );
        length(
            "Remaining Length that never ends",
            &[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
        );
        length(
            "PINGREQ with a Remaining Length of two bytes",
            &[0xC0, 0x80, 0x00],
        );
        length(
            "PINGREQ with a Remaining Length of four bytes",
            &[0xC0, 0x80, 0x80, 0x80, 0x00],
        );
        length(
            "PUBLISH with a Remaining Length of two bytes where one does",
            &[0x30, 0x84, 0x00, 0x00, 0x01, b'a', 0x00],
        );
        cases.push(Case {
            name: "CONNECT with a Remaining Length of five bytes".to_owned(),
            version,
            when: When::First,
            bytes: vec![0x10, 0xFF, 0xFF, 0xFF, 0xFF, 0x01],
            answer: Answer::Refusal(MALFORMED),
        });
    }
    let mut property = |name: &str, bytes: Vec<u8>| {
        cases.push(Case::connected(name, V5, bytes, MALFORMED));
    };
    property(
        "property length of two bytes for none",
        packet(0x30, &[0, 1, b'a', 0x80, 0]),
    );
    property(
        "property length of five bytes",
        packet(0x30, &[0, 1, b'a', 0x80, 0x80, 0x80, 0x80, 0x01, 0]),
    );
    let subscribe = |id: &[u8]| {
        let block = wire::properties(&[&[&[0x0B], id].concat()]);
        packet(0x82, &[&[0, 1][..], &block, &string("a"), &[0]].concat())
    };
    property(
        "subscription identifier of five bytes",
        subscribe(&[0x80, 0x80, 0x80, 0x80, 1]),
    );
    property(
        "subscription identifier longer than it needs to be",
        subscribe(&[0x81, 0]),
    );
    cases
}

/// Property blocks that do not add up, and properties where they may not be.
#[must_use]
pub fn properties() -> Vec<Case> {
    let connected = blocks().into_iter().chain(repeated()).chain(values());
    let mut cases: Vec<Case> = connected
        .map(|(name, bytes, codes)| Case::connected(name, V5, bytes, codes))
        .collect();
    let mut data_only = vec![0x16];
    data_only.extend(string("data"));
    for (name, properties, codes) in [
        ("receive maximum 0", &[&[0x21, 0, 0][..]][..], PROTOCOL),
        ("maximum packet size 0", &[&[0x27, 0, 0, 0, 0]], PROTOCOL),
        (
            "session expiry twice",
            &[&[0x11, 0, 0, 0, 1], &[0x11, 0, 0, 0, 1]],
            PROTOCOL,
        ),
        ("request problem information 2", &[&[0x17, 2]], PROTOCOL),
        (
            "a property of PUBLISH in CONNECT",
            &[&[0x23, 0, 1]],
            MALFORMED,
        ),
        (
            "authentication data without a method",
            &[&data_only],
            PROTOCOL,
        ),
    ] {
        let properties = wire::properties(properties);
        let connect = Connect {
            properties,
            ..Connect::new(V5, "malformed")
        };
        cases.push(Case::first(name, V5, connect.encode(), codes));
    }
    cases
}

/// What is wrong, the packet, and the codes that may answer it.
type Wrong = (&'static str, Vec<u8>, &'static [u8]);

fn publish_with_block(block: &[u8]) -> Vec<u8> {
    publish_with(block, 0x30, 0, b"a", b"")
}

fn publish_with_property(property: &[u8]) -> Vec<u8> {
    publish_with_block(&wire::properties(&[property]))
}

fn subscribe_with(properties: &[&[u8]]) -> Vec<u8> {
    let block = wire::properties(properties);
    packet(0x82, &[&[0, 1][..], &block, &string("a"), &[0]].concat())
}

fn text(id: u8, value: &str) -> Vec<u8> {
    [vec![id], string(value)].concat()
}

/// Blocks that do not add up, and properties that are not of the packet.
fn blocks() -> Vec<Wrong> {
    let block = publish_with_block;
    let one = publish_with_property;
    vec![
        ("property length past the packet", block(&[9]), MALFORMED),
        (
            "property past its block",
            block(&[3, 0x02, 0, 0]),
            MALFORMED,
        ),
        (
            "string past its block",
            block(&[4, 0x03, 0, 9, b'a']),
            MALFORMED,
        ),
        (
            "user property without a value",
            block(&[4, 0x26, 0, 1, b'a']),
            MALFORMED,
        ),
        ("property 255", one(&[0xFF, 0x01, 0]), MALFORMED),
        (
            "a property of CONNECT in PUBLISH",
            one(&[0x21, 0, 1]),
            MALFORMED,
        ),
        (
            "a property of CONNACK in PUBLISH",
            one(&[0x24, 1]),
            MALFORMED,
        ),
        (
            "a property of PUBLISH in SUBSCRIBE",
            subscribe_with(&[&[0x01, 1]]),
            MALFORMED,
        ),
    ]
}

/// Properties that may stand once.
fn repeated() -> Vec<Wrong> {
    let two = |property: &[u8]| publish_with_block(&wire::properties(&[property, property]));
    vec![
        ("payload format twice", two(&[0x01, 1]), PROTOCOL),
        ("expiry twice", two(&[0x02, 0, 0, 0, 1]), PROTOCOL),
        ("content type twice", two(&text(0x03, "a")), PROTOCOL),
        ("response topic twice", two(&text(0x08, "a")), PROTOCOL),
        ("correlation data twice", two(&text(0x09, "a")), PROTOCOL),
        ("topic alias twice", two(&[0x23, 0, 1]), PROTOCOL),
        (
            "subscription identifier twice",
            subscribe_with(&[&[0x0B, 1], &[0x0B, 2]]),
            PROTOCOL,
        ),
    ]
}

/// Properties with values they must not have, and more of them than the limit.
fn values() -> Vec<Wrong> {
    let one = publish_with_property;
    let many = wire::user_property("name", "value").repeat(20_000);
    vec![
        ("payload format 2", one(&[0x01, 2]), EITHER),
        (
            "a wildcard in the response topic",
            one(&text(0x08, "a/#")),
            TOPIC,
        ),
        ("topic alias 0", one(&[0x23, 0, 0]), ALIAS),
        (
            "topic alias above the maximum",
            one(&[0x23, 0xFF, 0xFF]),
            ALIAS,
        ),
        (
            "a subscription identifier from a client",
            one(&[0x0B, 1]),
            PROTOCOL,
        ),
        (
            "subscription identifier 0",
            subscribe_with(&[&[0x0B, 0]]),
            PROTOCOL,
        ),
        (
            "session expiry in DISCONNECT, none in CONNECT",
            late_session_expiry(),
            PROTOCOL,
        ),
        ("20,000 user properties", one(&many), QUOTA),
    ]
}

fn late_session_expiry() -> Vec<u8> {
    packet(
        0xE0,
        &[&[0][..], &wire::properties(&[&[0x11, 0, 0, 0, 9]])].concat(),
    )
}

/// PUBLISH packets whose header contradicts itself.
#[must_use]
pub fn publishes() -> Vec<Case> {
    let mut cases = Vec::new();
    for version in Version::ALL {
        let block = wire::empty_properties(version);
        let with = |first: u8, id: u16, topic: &[u8]| publish_with(&block, first, id, topic, b"");
        for (name, bytes, codes) in [
            ("an empty topic", with(0x30, 0, b""), PROTOCOL),
            ("# in a topic", with(0x30, 0, b"a/#"), TOPIC),
            ("+ in a topic", with(0x30, 0, b"+/a"), TOPIC),
            ("+ inside a level of a topic", with(0x32, 1, b"a+b"), TOPIC),
            ("QoS 3", with(0x36, 1, b"a"), MALFORMED),
            ("QoS 3 and DUP", with(0x3E, 1, b"a"), MALFORMED),
            ("DUP at QoS 0", with(0x38, 0, b"a"), MALFORMED),
            ("packet identifier 0 at QoS 1", with(0x32, 0, b"a"), EITHER),
            ("packet identifier 0 at QoS 2", with(0x34, 0, b"a"), EITHER),
            (
                "a topic longer than the packet",
                packet(0x30, &[0, 9, b'a', 0]),
                MALFORMED,
            ),
            ("nothing at all", packet(0x30, &[]), MALFORMED),
        ] {
            cases.push(Case::connected(name, version, bytes, codes));
        }
    }
    let unknown = publish_with(&wire::properties(&[&[0x23, 0, 3]]), 0x30, 0, b"", b"");
    // The standard calls an alias nobody has set a protocol error.
    cases.push(Case::connected(
        "an alias nobody has set",
        V5,
        unknown,
        &[0x82, 0x94],
    ));
    cases
}

/// Packet types that a client must not send, or not then.
#[must_use]
pub fn directions() -> Vec<Case> {
    let mut cases = Vec::new();
    for version in Version::ALL {
        let v5 = version == V5;
        let with_block = |body: &[u8]| [body, &wire::empty_properties(version)].concat();
        let suback = [&with_block(&[0, 1])[..], &[0]].concat();
        let unsuback = if v5 { suback.clone() } else { vec![0, 1] };
        for (name, bytes, codes) in [
            ("type 0", packet(0x00, &[]), MALFORMED),
            ("type 0 with a body", packet(0x00, &[0, 1]), MALFORMED),
            ("CONNACK", packet(0x20, &with_block(&[0, 0])), PROTOCOL),
            ("SUBACK", packet(0x90, &suback), PROTOCOL),
            ("UNSUBACK", packet(0xB0, &unsuback), PROTOCOL),
            ("PINGRESP", packet(0xD0, &[]), PROTOCOL),
            ("AUTH", packet(0xF0, &[]), EITHER),
            ("AUTH with a reason", packet(0xF0, &[0x18, 0]), EITHER),
            (
                "a second CONNECT",
                Connect::new(version, "malformed").encode(),
                PROTOCOL,
            ),
            (
                "a CONNECT of another client",
                Connect::new(version, "other").encode(),
                PROTOCOL,
            ),
        ] {
            cases.push(Case::connected(name, version, bytes, codes));
        }
        for (name, _, bytes) in super::samples(version).into_iter().skip(1) {
            let name = format!("{name} before CONNECT");
            cases.push(Case {
                name,
                version,
                when: When::First,
                bytes,
                answer: Answer::End,
            });
        }
        for first in [0x00, 0x20, 0x90, 0xB0, 0xD0, 0xF0] {
            let name = format!("{first:#04x} before CONNECT");
            let bytes = packet(first, &[]);
            cases.push(Case {
                name,
                version,
                when: When::First,
                bytes,
                answer: Answer::End,
            });
        }
    }
    cases
}

/// CONNECT packets that are wrong.
#[must_use]
pub fn connects() -> Vec<Case> {
    let mut cases = Vec::new();
    for version in Version::ALL {
        for (name, connect, codes) in protocols(version).into_iter().chain(connect_flags(version)) {
            cases.push(Case::first(name, version, connect.encode(), codes));
        }
        let long = Connect {
            client_id: vec![b'a'; 65_535],
            ..Connect::new(version, "")
        };
        let codes = &[0x85, 0x95, 0x97];
        cases.push(Case::first(
            "a client id of 65,535 bytes",
            version,
            long.encode(),
            codes,
        ));
    }
    let right = || Connect::new(V311, "malformed");
    let password = Connect {
        flags: 0x42,
        rest: string("secret"),
        ..right()
    };
    cases.push(Case::first(
        "a password without a user name",
        V311,
        password.encode(),
        MALFORMED,
    ));
    let nameless = Connect {
        flags: 0,
        client_id: Vec::new(),
        ..right()
    };
    cases.push(Case::first(
        "no client id for a session to keep",
        V311,
        nameless.encode(),
        &[0x85],
    ));
    cases
}

/// CONNECT packets of protocols that are not ours.
fn protocols(version: Version) -> Vec<(&'static str, Connect, &'static [u8])> {
    const REFUSED: &[u8] = &[0x84, 0x81, 0x82];
    // A level before 5 is answered in the words of 3.1.1.
    const OLD: &[u8] = &[0x01];
    let right = || Connect::new(version, "malformed");
    let named = |name: &[u8]| Connect {
        name: name.to_vec(),
        ..right()
    };
    let level = |level| Connect { level, ..right() };
    vec![
        ("name MQTTX", named(b"MQTTX"), REFUSED),
        ("name mqtt", named(b"mqtt"), REFUSED),
        ("no name", named(b""), REFUSED),
        ("the name of 3.1", named(b"MQIsdp"), REFUSED),
        ("level 0", level(0), OLD),
        ("level 6", level(6), REFUSED),
        ("level 3 under the name MQTT", level(3), OLD),
        ("level 255", level(255), REFUSED),
    ]
}

/// CONNECT packets whose flags and fields contradict each other.
fn connect_flags(version: Version) -> Vec<(&'static str, Connect, &'static [u8])> {
    let right = || Connect::new(version, "malformed");
    let flagged = |flags| Connect { flags, ..right() };
    let will = Connect {
        flags: 0x1E,
        ..right().with_will("will", "payload", 0)
    };
    let wildcard = right().with_will("will/#", "payload", 0);
    let trailing = Connect {
        rest: b"more".to_vec(),
        ..right()
    };
    vec![
        ("the reserved flag", flagged(0x03), MALFORMED),
        ("will QoS without a will", flagged(0x0A), EITHER),
        ("will retain without a will", flagged(0x22), EITHER),
        ("will QoS 3", will, MALFORMED),
        ("a will that is not there", flagged(0x06), MALFORMED),
        ("a user name that is not there", flagged(0x82), MALFORMED),
        ("a password that is not there", flagged(0xC2), MALFORMED),
        ("a wildcard in the will topic", wildcard, TOPIC),
        ("bytes after its end", trailing, MALFORMED),
    ]
}

/// SUBSCRIBE and UNSUBSCRIBE packets that are wrong.
#[must_use]
pub fn subscriptions() -> Vec<Case> {
    let mut cases = Vec::new();
    for version in Version::ALL {
        let subscribe = |filter: &str, options| wire::subscribe(version, 1, &[(filter, options)]);
        let deep = "/".repeat(65_535);
        for (name, bytes, codes) in [
            (
                "SUBSCRIBE without a filter",
                wire::subscribe(version, 1, &[]),
                PROTOCOL,
            ),
            (
                "UNSUBSCRIBE without a filter",
                wire::unsubscribe(version, 1, &[]),
                PROTOCOL,
            ),
            (
                "SUBSCRIBE with identifier 0",
                wire::subscribe(version, 0, &[("a", 0)]),
                EITHER,
            ),
            (
                "UNSUBSCRIBE with identifier 0",
                wire::unsubscribe(version, 0, &["a"]),
                EITHER,
            ),
            ("maximum QoS 3", subscribe("a", 3), EITHER),
            ("reserved option bit 6", subscribe("a", 0x40), MALFORMED),
            ("reserved option bit 7", subscribe("a", 0x80), MALFORMED),
            ("an empty filter", subscribe("", 0), FILTER),
            ("# not at the end", subscribe("a/#/b", 0), FILTER),
            ("# inside a level", subscribe("a/b#", 0), FILTER),
            ("+ inside a level", subscribe("a/b+/c", 0), FILTER),
            (
                "an empty filter in UNSUBSCRIBE",
                wire::unsubscribe(version, 1, &[""]),
                FILTER,
            ),
        ] {
            cases.push(Case::connected(name, version, bytes, codes));
        }
        let mut answered = Case::connected("65,535 slashes", version, subscribe(&deep, 0), FILTER);
        answered.answer = Answer::SubAck(&[0x8F, 0x97]);
        cases.push(answered);
    }
    for (name, options) in [
        ("options of 5.0 in 3.1.1", 0x04),
        ("retain handling in 3.1.1", 0x10),
    ] {
        let bytes = wire::subscribe(V311, 1, &[("a", options)]);
        cases.push(Case::connected(name, V311, bytes, MALFORMED));
    }
    let handling = wire::subscribe(V5, 1, &[("a", 0x30)]);
    cases.push(Case::connected("retain handling 3", V5, handling, EITHER));
    cases
}

/// Shared subscriptions that are wrong. [MQTT-4.8.2-1] [MQTT-4.8.2-2]
#[must_use]
pub fn shared_subscriptions() -> Vec<Case> {
    let mut cases = Vec::new();
    for filter in [
        "$share/",
        "$share/g",
        "$share//t",
        "$share/g+/t",
        "$share/g#/t",
        "$share/g/",
    ] {
        let bytes = wire::subscribe(V5, 1, &[(filter, 0)]);
        let mut case = Case::connected(format!("the filter {filter}"), V5, bytes, FILTER);
        case.answer = Answer::SubAck(&[0x81, 0x82, 0x8F]);
        cases.push(case);
    }
    let inner = wire::subscribe(V5, 1, &[("$share/g/a/#/b", 0)]);
    let mut inner = Case::connected("# inside a shared filter", V5, inner, FILTER);
    inner.answer = Answer::SubAck(FILTER);
    cases.push(inner);
    let no_local = wire::subscribe(V5, 1, &[("$share/g/t", 0x04)]);
    cases.push(Case::connected(
        "no local on a shared subscription",
        V5,
        no_local,
        PROTOCOL,
    ));
    cases
}
