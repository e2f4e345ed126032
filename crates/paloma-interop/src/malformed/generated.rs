//! Malformed packets made from right ones, and right packets cut short.

use super::{Answer, Case, EITHER, MALFORMED, When, samples};
use crate::peer::Version::{self, V5};
use crate::wire;

/// Each sample with its body cut at every byte, the Remaining Length telling the cut length.
#[must_use]
pub fn truncations() -> Vec<Case> {
    let mut cases = Vec::new();
    for version in Version::ALL {
        for (name, when, bytes) in samples(version) {
            // Every sample but the longest CONNECT has a Remaining Length of one byte.
            let header = if bytes[1] & 0x80 == 0 { 2 } else { 3 };
            let body = &bytes[header..];
            for length in
                (0..body.len()).filter(|length| !stays_right(version, name, body, *length))
            {
                let cut = wire::packet(bytes[0], &body[..length]);
                let title = format!("{name} cut to {length} of {} bytes", body.len());
                cases.push(match when {
                    When::First => Case::first(title, version, cut, EITHER),
                    When::Connected => Case::connected(title, version, cut, EITHER),
                });
            }
        }
    }
    cases
}

/// Whether the first bytes of a sample's body are a right body too.
fn stays_right(version: Version, name: &str, body: &[u8], length: usize) -> bool {
    let v5 = version == V5;
    match name {
        // The payload takes what there is.
        "PUBLISH" => length >= body.len() - 4,
        "PUBACK" | "PUBREC" | "PUBREL" | "PUBCOMP" => v5 && (length == 2 || length == 3),
        "DISCONNECT" => v5 && length <= 1,
        // Between two filters.
        "SUBSCRIBE" => length == body.len() - 8,
        "UNSUBSCRIBE" => length == body.len() - 7,
        _ => false,
    }
}

/// Each prefix of each sample, for which there is no answer but silence until the client goes.
#[must_use]
pub fn prefixes() -> Vec<Case> {
    let mut cases = Vec::new();
    for version in Version::ALL {
        for (name, when, bytes) in samples(version) {
            for length in 1..bytes.len() {
                let name = format!("{length} of {} bytes of {name}", bytes.len());
                let bytes = bytes[..length].to_vec();
                cases.push(Case {
                    name,
                    version,
                    when,
                    bytes,
                    answer: Answer::End,
                });
            }
        }
    }
    cases
}

/// Each packet type with each value of the four low bits that it must not have. [MQTT-2.1.3-1]
#[must_use]
pub fn flags() -> Vec<Case> {
    let mut cases = Vec::new();
    for version in Version::ALL {
        for (name, when, bytes) in samples(version) {
            for flags in (0..16).filter(|flags| *flags != bytes[0] & 0x0F) {
                let mut changed = bytes.clone();
                changed[0] = bytes[0] & 0xF0 | flags;
                let title = format!("{name} with flags {flags:04b}");
                match when {
                    When::First => cases.push(Case::first(title, version, changed, MALFORMED)),
                    // Other flags of a PUBLISH are other packets.
                    When::Connected if name.starts_with("PUBLISH") => {}
                    When::Connected => {
                        cases.push(Case::connected(title, version, changed, MALFORMED))
                    }
                }
            }
        }
    }
    cases
}

/// Byte strings that are not UTF-8, or hold what MQTT forbids in a string. [MQTT-1.5.4-1] [MQTT-1.5.4-2]
const BAD_STRINGS: [(&str, &[u8]); 18] = [
    ("a lone continuation", b"a\x80"),
    ("a lone start", b"a\xC3"),
    ("a start before ASCII", b"\xC3a"),
    ("two of three bytes", b"\xE2\x82"),
    ("three of four bytes", b"\xF0\x9F\x98"),
    ("an overlong slash of two bytes", b"\xC0\xAF"),
    ("an overlong slash of three bytes", b"\xE0\x80\xAF"),
    ("an overlong slash of four bytes", b"\xF0\x80\x80\xAF"),
    ("an overlong zero", b"\xC0\x80"),
    ("the first surrogate", b"\xED\xA0\x80"),
    ("the last surrogate", b"\xED\xBF\xBF"),
    ("a pair of surrogates", b"\xED\xA0\xBD\xED\xB8\x80"),
    ("above U+10FFFF", b"\xF4\x90\x80\x80"),
    ("a five-byte form", b"\xF8\x88\x80\x80\x80"),
    ("a six-byte form", b"\xFC\x84\x80\x80\x80\x80"),
    ("FE", b"\xFE"),
    ("FF", b"a\xFFb"),
    ("U+0000", b"a\0b"),
];

/// Each bad string in each place where a client sends one.
#[must_use]
pub fn strings() -> Vec<Case> {
    let mut cases = Vec::new();
    for version in Version::ALL {
        for (what, bad) in BAD_STRINGS {
            for (place, bytes) in in_connect(version, bad) {
                cases.push(Case::first(
                    format!("{what} in {place}"),
                    version,
                    bytes,
                    MALFORMED,
                ));
            }
            for (place, bytes) in in_others(version, bad) {
                cases.push(Case::connected(
                    format!("{what} in {place}"),
                    version,
                    bytes,
                    MALFORMED,
                ));
            }
        }
    }
    cases
}

fn in_connect(version: Version, bad: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let right = || wire::Connect::new(version, "malformed");
    let will = right().with_will("will", "", 0);
    let block = wire::empty_properties(version);
    let mut will_topic = will.clone();
    will_topic.rest = [block, wire::string(bad), wire::string("")].concat();
    let user = wire::Connect {
        flags: 0x82,
        rest: wire::string(bad),
        ..right()
    };
    let id = wire::Connect {
        client_id: bad.to_vec(),
        ..right()
    };
    let mut places = vec![
        ("the client id", id.encode()),
        ("the will topic", will_topic.encode()),
        ("the user name", user.encode()),
    ];
    if version == V5 {
        let name = [&[0x26][..], &wire::string(bad), &wire::string("")].concat();
        let value = [&[0x26][..], &wire::string(""), &wire::string(bad)].concat();
        let content_type = [&[0x03][..], &wire::string(bad)].concat();
        let of_connect = |property: &[u8]| {
            wire::Connect {
                properties: wire::properties(&[property]),
                ..right()
            }
            .encode()
        };
        let mut of_will = will;
        of_will.rest = wire::properties(&[&content_type]);
        of_will
            .rest
            .extend([wire::string("will"), wire::string("")].concat());
        places.push(("a user property's name", of_connect(&name)));
        places.push(("a user property's value", of_connect(&value)));
        places.push(("the will's content type", of_will.encode()));
    }
    places
}

fn in_others(version: Version, bad: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let block = wire::empty_properties(version);
    let publish = |block: &[u8], topic: &[u8]| wire::publish_with(block, 0x30, 0, topic, b"");
    let filter = |first: u8, block: &[u8], options: &[u8]| {
        wire::packet(
            first,
            &[&[0, 1], block, &wire::string(bad), options].concat(),
        )
    };
    let mut places = vec![
        ("a topic", publish(&block, bad)),
        ("a filter", filter(0x82, &block, &[0])),
        ("a filter of UNSUBSCRIBE", filter(0xA2, &block, &[])),
    ];
    if version == V5 {
        let of = |id: u8| [&[id][..], &wire::string(bad)].concat();
        let user = [&[0x26][..], &wire::string("name"), &wire::string(bad)].concat();
        let with = |property: &[u8]| publish(&wire::properties(&[property]), b"topic");
        places.push(("the response topic", with(&of(0x08))));
        places.push(("the content type", with(&of(0x03))));
        places.push(("a user property", with(&user)));
        let reason = [vec![0, 9, 0], wire::properties(&[&of(0x1F)])].concat();
        places.push((
            "the reason string of PUBACK",
            wire::packet(wire::PUBACK, &reason),
        ));
        let reason = [vec![0], wire::properties(&[&of(0x1F)])].concat();
        places.push((
            "the reason string of DISCONNECT",
            wire::packet(0xE0, &reason),
        ));
    }
    places
}

/// Each property identifier up to a few beyond the last, in each packet that may not have it.
#[must_use]
pub fn foreign_properties() -> Vec<Case> {
    const LAST: u8 = 0x2F;
    let mut cases = Vec::new();
    for id in 0..=LAST {
        // Enough bytes for any property's value.
        let block = wire::properties(&[&[id, 0, 0, 0, 0]]);
        let packets = first_with(&block).into_iter().chain(connected_with(&block));
        for (packet, allowed, when, bytes) in packets {
            let name = format!("property {id:#04x} in {packet}");
            match when {
                _ if allowed.contains(&id) => {}
                When::First => cases.push(Case::first(name, V5, bytes, MALFORMED)),
                When::Connected => cases.push(Case::connected(name, V5, bytes, MALFORMED)),
            }
        }
    }
    cases
}

/// A packet's name, the properties it may have, when it is sent, and its bytes.
type WithProperties = (&'static str, &'static [u8], When, Vec<u8>);

/// CONNECT packets with a property block in one place or the other.
fn first_with(block: &[u8]) -> [WithProperties; 2] {
    const OF_CONNECT: &[u8] = &[0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27];
    const OF_WILL: &[u8] = &[0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26];
    let right = || wire::Connect::new(V5, "malformed");
    let connect = wire::Connect {
        properties: block.to_vec(),
        ..right()
    };
    let mut will = right().with_will("will", "", 0);
    will.rest = [block, &wire::string("will"), &wire::string("")].concat();
    [
        ("CONNECT", OF_CONNECT, When::First, connect.encode()),
        ("a will", OF_WILL, When::First, will.encode()),
    ]
}

/// Every other packet a client sends, with a property block.
fn connected_with(block: &[u8]) -> Vec<WithProperties> {
    const OF_PUBLISH: &[u8] = &[0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x23, 0x26];
    const OF_DISCONNECT: &[u8] = &[0x11, 0x1C, 0x1F, 0x26];
    let publish = wire::publish_with(block, 0x30, 0, b"a", b"");
    let subscribe = [&[0, 1], block, &wire::string("a"), &[0]].concat();
    let unsubscribe = [&[0, 1], block, &wire::string("a")].concat();
    let disconnect = wire::packet(0xE0, &[&[0], block].concat());
    let mut packets: Vec<WithProperties> = vec![
        ("PUBLISH", OF_PUBLISH, When::Connected, publish),
        (
            "SUBSCRIBE",
            &[0x0B, 0x26],
            When::Connected,
            wire::packet(0x82, &subscribe),
        ),
        (
            "UNSUBSCRIBE",
            &[0x26],
            When::Connected,
            wire::packet(0xA2, &unsubscribe),
        ),
        ("DISCONNECT", OF_DISCONNECT, When::Connected, disconnect),
    ];
    for (name, first) in wire::ACKS {
        let bytes = wire::packet(first, &[&[0, 9, 0], block].concat());
        packets.push((name, &[0x1F, 0x26], When::Connected, bytes));
    }
    packets
}

/// Each sample with some bytes after its end that the Remaining Length counts in.
#[must_use]
pub fn trailing_bytes() -> Vec<Case> {
    let mut cases = Vec::new();
    for version in Version::ALL {
        for (name, when, bytes) in samples(version) {
            // What follows in a PUBLISH is payload.
            if name.starts_with("PUBLISH") {
                continue;
            }
            let header = if bytes[1] & 0x80 == 0 { 2 } else { 3 };
            for count in 1..=8 {
                let body = [&bytes[header..], &vec![0; count]].concat();
                let longer = wire::packet(bytes[0], &body);
                let title = format!("{name} with {count} more bytes");
                cases.push(match when {
                    When::First => Case::first(title, version, longer, MALFORMED),
                    When::Connected => Case::connected(title, version, longer, MALFORMED),
                });
            }
        }
    }
    cases
}
