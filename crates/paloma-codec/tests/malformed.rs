//! Generated malformed packets: every rule at every place it can be broken.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

mod support;

use paloma_codec::{DecodeError, DecodeLimits, ProtocolVersion};
use support::{From, VERSIONS, block, decode, decoder, framed, prefixed, vectors};

/// Bytes that must be refused, by which rule, and with which reason code.
struct Case {
    what: String,
    version: ProtocolVersion,
    from: From,
    bytes: Vec<u8>,
    rule: DecodeError,
    code: u8,
}

fn check(cases: &[Case]) {
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|case| {
            let Case {
                what,
                version,
                from,
                bytes,
                rule,
                code,
            } = case;
            let found = decode(*version, *from, bytes);
            let is_right = found == Err(*rule) && rule.reason().code() == *code;
            if !is_right {
                return Some(format!(
                    "{version:?} {what}: {found:?}, not {rule:?} {code:#04x}"
                ));
            }
            comes_in_pieces(case).map(|wrong| format!("{version:?} {what}: {wrong}"))
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}

/// The same case byte by byte, and cut in two at every byte: until it is refused nothing else may come of it, and one decoder
/// that is shown ever more of it refuses it as one that sees it whole. What is wrong, if anything.
fn comes_in_pieces(case: &Case) -> Option<String> {
    let whole: Result<bool, DecodeError> = Err(case.rule);
    // Packets of tens of thousands of bytes are cut where something can be told, and here and there.
    let stride = if case.bytes.len() <= 256 { 1 } else { 251 };
    let mut byte_by_byte = decoder(case.version, case.from, DecodeLimits::default());
    let mut is_refused = false;
    for length in (1..case.bytes.len()).filter(|length| *length < 64 || length % stride == 0) {
        let shown = &case.bytes[..length];
        let found = byte_by_byte.decode(shown).map(|packet| packet.is_some());
        let is_right = found == Ok(false) && !is_refused || found == whole;
        is_refused |= found.is_err();
        if !is_right {
            return Some(format!("after {length} bytes {found:?}, not {whole:?}"));
        }
        if is_refused {
            return None;
        }
        // In two pieces: the second makes it whole.
        let mut halves = decoder(case.version, case.from, DecodeLimits::default());
        let _first = halves.decode(shown).map(|packet| packet.is_some());
        let second = halves.decode(&case.bytes).map(|packet| packet.is_some());
        if second != whole {
            return Some(format!("cut at {length}: {second:?}, not {whole:?}"));
        }
    }
    None
}

const MALFORMED: u8 = 0x81;
const PROTOCOL: u8 = 0x82;

/// A 5.0 packet with one property block, which is left to the case.
#[derive(Clone, Copy)]
struct Holder {
    name: &'static str,
    from: From,
    first: u8,
    before: &'static [u8],
    after: &'static [u8],
    allowed: &'static [u8],
}

const EXPLAINED: &[u8] = &[0x1F, 0x26];

const HOLDERS: &[Holder] = &[
    Holder {
        name: "CONNECT",
        from: From::First,
        first: 0x10,
        before: b"\0\x04MQTT\x05\x02\0\0",
        after: b"\0\x01c",
        allowed: &[0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27],
    },
    Holder {
        name: "will",
        from: From::First,
        first: 0x10,
        before: b"\0\x04MQTT\x05\x06\0\0\0\0\x01c",
        after: b"\0\x01w\0\0",
        allowed: &[0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26],
    },
    Holder {
        name: "CONNACK",
        from: From::Server,
        first: 0x20,
        before: b"\0\0",
        after: b"",
        allowed: &[
            0x11, 0x12, 0x13, 0x15, 0x16, 0x1A, 0x1C, 0x1F, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27,
            0x28, 0x29, 0x2A,
        ],
    },
    Holder {
        name: "PUBLISH to a server",
        from: From::Client,
        first: 0x32,
        before: b"\0\x01t\0\x01",
        after: b"hi",
        allowed: &[0x01, 0x02, 0x03, 0x08, 0x09, 0x23, 0x26],
    },
    Holder {
        name: "PUBLISH to a client",
        from: From::Server,
        first: 0x30,
        before: b"\0\x01t",
        after: b"hi",
        allowed: &[0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x23, 0x26],
    },
    Holder {
        name: "PUBACK",
        from: From::Client,
        first: 0x40,
        before: b"\0\x01\0",
        after: b"",
        allowed: EXPLAINED,
    },
    Holder {
        name: "PUBREC",
        from: From::Server,
        first: 0x50,
        before: b"\0\x01\0",
        after: b"",
        allowed: EXPLAINED,
    },
    Holder {
        name: "PUBREL",
        from: From::Client,
        first: 0x62,
        before: b"\0\x01\0",
        after: b"",
        allowed: EXPLAINED,
    },
    Holder {
        name: "PUBCOMP",
        from: From::Server,
        first: 0x70,
        before: b"\0\x01\0",
        after: b"",
        allowed: EXPLAINED,
    },
    Holder {
        name: "SUBSCRIBE",
        from: From::Client,
        first: 0x82,
        before: b"\0\x01",
        after: b"\0\x01t\0",
        allowed: &[0x0B, 0x26],
    },
    Holder {
        name: "SUBACK",
        from: From::Server,
        first: 0x90,
        before: b"\0\x01",
        after: b"\0",
        allowed: EXPLAINED,
    },
    Holder {
        name: "UNSUBSCRIBE",
        from: From::Client,
        first: 0xA2,
        before: b"\0\x01",
        after: b"\0\x01t",
        allowed: &[0x26],
    },
    Holder {
        name: "UNSUBACK",
        from: From::Server,
        first: 0xB0,
        before: b"\0\x01",
        after: b"\0",
        allowed: EXPLAINED,
    },
    Holder {
        name: "DISCONNECT of a client",
        from: From::Client,
        first: 0xE0,
        before: b"\0",
        after: b"",
        allowed: &[0x11, 0x1C, 0x1F, 0x26],
    },
    Holder {
        name: "AUTH",
        from: From::Client,
        first: 0xF0,
        before: b"\x18",
        after: b"",
        allowed: &[0x15, 0x16, 0x1F, 0x26],
    },
];

impl Holder {
    fn with(&self, properties: &[u8]) -> Vec<u8> {
        self.with_block(&block(properties))
    }

    fn with_block(&self, block: &[u8]) -> Vec<u8> {
        framed(self.first, &[self.before, block, self.after].concat())
    }

    fn case(&self, what: &str, properties: &[u8], rule: DecodeError, code: u8) -> Case {
        self.block_case(what, &block(properties), rule, code)
    }

    fn block_case(&self, what: &str, block: &[u8], rule: DecodeError, code: u8) -> Case {
        Case {
            what: format!("{}: {what}", self.name),
            version: ProtocolVersion::V5,
            from: self.from,
            bytes: self.with_block(block),
            rule,
            code,
        }
    }

    /// What must stand beside another property for the packet to be valid.
    fn company(&self, id: u8) -> &'static [u8] {
        let needs_method = self.name == "AUTH" || id == 0x16;
        if needs_method && id != 0x15 {
            b"\x15\0\x01m"
        } else {
            b""
        }
    }
}

/// Every property with a valid value.
const PROPERTIES: &[(u8, &[u8])] = &[
    (0x01, b"\x01\x01"),
    (0x02, b"\x02\0\0\0\x01"),
    (0x03, b"\x03\0\x01a"),
    (0x08, b"\x08\0\x01a"),
    (0x09, b"\x09\0\x01a"),
    (0x0B, b"\x0B\x01"),
    (0x11, b"\x11\0\0\0\x01"),
    (0x12, b"\x12\0\x01a"),
    (0x13, b"\x13\0\x01"),
    (0x15, b"\x15\0\x01m"),
    (0x16, b"\x16\0\x01a"),
    (0x17, b"\x17\x00"),
    (0x18, b"\x18\0\0\0\x01"),
    (0x19, b"\x19\x01"),
    (0x1A, b"\x1A\0\x01a"),
    (0x1C, b"\x1C\0\x01a"),
    (0x1F, b"\x1F\0\x01a"),
    (0x21, b"\x21\0\x01"),
    (0x22, b"\x22\0\x01"),
    (0x23, b"\x23\0\x01"),
    (0x24, b"\x24\x01"),
    (0x25, b"\x25\x00"),
    (0x26, b"\x26\0\x01a\0\x01b"),
    (0x27, b"\x27\0\0\0\x01"),
    (0x28, b"\x28\x00"),
    (0x29, b"\x29\x00"),
    (0x2A, b"\x2A\x00"),
];

/// Strings that are no UTF-8 strings of MQTT. [MQTT-1.5.4-1] [MQTT-1.5.4-2]
const BAD_STRINGS: &[(&[u8], DecodeError)] = &[
    (b"\0", DecodeError::Utf8Null),
    (b"a\0", DecodeError::Utf8Null),
    (b"abcdefghijklmnop\0q", DecodeError::Utf8Null),
    (b"\x80", DecodeError::Utf8Invalid),
    (b"\xBF", DecodeError::Utf8Invalid),
    (b"a\x80", DecodeError::Utf8Invalid),
    (b"\xC0\x80", DecodeError::Utf8Invalid),
    (b"\xC1\xBF", DecodeError::Utf8Invalid),
    (b"\xC2", DecodeError::Utf8Invalid),
    (b"\xC2a", DecodeError::Utf8Invalid),
    (b"\xE0\x80\xAF", DecodeError::Utf8Invalid),
    (b"\xE0\x9F\xBF", DecodeError::Utf8Invalid),
    (b"\xE2\x82", DecodeError::Utf8Invalid),
    (b"\xED\xA0\x80", DecodeError::Utf8Invalid),
    (b"\xED\xAF\xBF", DecodeError::Utf8Invalid),
    (b"\xED\xB0\x80", DecodeError::Utf8Invalid),
    (b"\xED\xBF\xBF", DecodeError::Utf8Invalid),
    (b"\xED\xA0\xBD\xED\xB8\x80", DecodeError::Utf8Invalid),
    (b"\xF0\x80\x80\x80", DecodeError::Utf8Invalid),
    (b"\xF0\x8F\xBF\xBF", DecodeError::Utf8Invalid),
    (b"\xF0\x9F\x98", DecodeError::Utf8Invalid),
    (b"\xF4\x90\x80\x80", DecodeError::Utf8Invalid),
    (b"\xF5\x80\x80\x80", DecodeError::Utf8Invalid),
    (b"\xF8\x88\x80\x80\x80", DecodeError::Utf8Invalid),
    (b"\xFC\x84\x80\x80\x80\x80", DecodeError::Utf8Invalid),
    (b"\xFE", DecodeError::Utf8Invalid),
    (b"\xFF", DecodeError::Utf8Invalid),
    (b"abcdefghijklmnopqrstuvwxyz\xFF", DecodeError::Utf8Invalid),
];

/// Variable byte integers that no packet may hold. [MQTT-1.5.5-1]
const BAD_INTS: &[(&[u8], DecodeError)] = &[
    (b"\x80\x00", DecodeError::VariableIntNotMinimal),
    (b"\x81\x00", DecodeError::VariableIntNotMinimal),
    (b"\xFF\x80\x00", DecodeError::VariableIntNotMinimal),
    (b"\xFF\xFF\xFF\x00", DecodeError::VariableIntNotMinimal),
    (b"\x80\x80\x80\x80\x01", DecodeError::VariableIntTooLong),
    (b"\xFF\xFF\xFF\xFF\x7F", DecodeError::VariableIntTooLong),
    (b"\xFF\xFF\xFF\xFF\xFF", DecodeError::VariableIntTooLong),
];

/// A1: lengths and subscription identifiers.
fn variable_ints() -> Vec<Case> {
    let mut cases = Vec::new();
    for vector in vectors().into_iter().filter(support::Vector::is_valid) {
        for (int, rule) in BAD_INTS {
            let header = if vector.bytes[1] < 0x80 { 2 } else { 3 };
            let bytes = [&vector.bytes[..1], int, &vector.bytes[header..]].concat();
            let (version, from) = (vector.version, vector.from);
            let what = format!("{} of length {int:02x?}", vector.name);
            cases.push(Case {
                what,
                version,
                from,
                bytes,
                rule: *rule,
                code: MALFORMED,
            });
        }
    }
    for holder in HOLDERS {
        for (int, rule) in BAD_INTS {
            cases.push(holder.block_case(&format!("block of {int:02x?}"), int, *rule, MALFORMED));
        }
        if holder.allowed.contains(&0x0B) {
            for (int, rule) in BAD_INTS {
                let property = [b"\x0B", *int].concat();
                cases.push(holder.case(&format!("id {int:02x?}"), &property, *rule, MALFORMED));
            }
        }
    }
    cases
}

/// A3: every packet that is not a PUBLISH, cut at every byte, under a Remaining Length that fits the cut.
fn cuts() -> Vec<Case> {
    let mut cases = Vec::new();
    for vector in vectors().into_iter().filter(support::Vector::is_valid) {
        let (first, body) = (vector.bytes[0], &vector.bytes[2..]);
        let may_end_early = first >> 4 == 3 || vector.bytes[1] >= 0x80;
        for len in 0..body.len() {
            let cut = framed(first, &body[..len]);
            // Where the grammar lets a packet end, its own cases say what that means.
            if may_end_early || ends_at(vector.version, first, &body[..len]) {
                continue;
            }
            let no_filter =
                matches!(first >> 4, 8 | 10) && !is_inside_head(vector.version, &body[..len]);
            let (rule, code) = if no_filter {
                (DecodeError::FiltersEmpty, PROTOCOL)
            } else {
                (DecodeError::Truncated, MALFORMED)
            };
            let what = format!("{} cut to a body of {len}", vector.name);
            let (version, from) = (vector.version, vector.from);
            cases.push(Case {
                what,
                version,
                from,
                bytes: cut,
                rule,
                code,
            });
        }
    }
    cases
}

/// Whether a SUBSCRIBE's or UNSUBSCRIBE's identifier or properties are cut, or its filters.
fn is_inside_head(version: ProtocolVersion, body: &[u8]) -> bool {
    let head = match (version.is_v5(), body.get(2)) {
        (true, Some(len)) => 3 + usize::from(*len),
        (true, None) => 3,
        (false, _) => 2,
    };
    body.len() != head
}

/// Whether a packet of this type may end here: optional reasons and properties, lists of entries.
fn ends_at(version: ProtocolVersion, first: u8, body: &[u8]) -> bool {
    let v5 = version.is_v5();
    match first >> 4 {
        4..=7 => v5 && matches!(body.len(), 2 | 3),
        8 | 10 => {
            // Ends behind a filter: the rest decodes without the filters that follow.
            let mut at = match (v5, body.get(2)) {
                (true, Some(len)) => 3 + usize::from(*len),
                (true, None) => return false,
                (false, _) => 2,
            };
            let entry_tail = usize::from(first >> 4 == 8);
            while let Some(len) = body.get(at..at + 2) {
                at += 2 + usize::from(u16::from_be_bytes([len[0], len[1]])) + entry_tail;
                if at == body.len() {
                    return true;
                }
            }
            false
        }
        9 | 11 => {
            let head = match (v5, body.get(2)) {
                (true, Some(len)) => 3 + usize::from(*len),
                (true, None) => return false,
                (false, _) => 2,
            };
            body.len() > head
        }
        14 => matches!(body.len(), 0 | 1),
        15 => body.is_empty(),
        _ => false,
    }
}

/// A4: properties of other packets, unknown, doubled, cut, zero, out of range.
fn properties() -> Vec<Case> {
    let mut cases = Vec::new();
    for holder in HOLDERS {
        for id in (0..=u8::MAX).filter(|id| PROPERTIES.iter().all(|(known, _)| known != id)) {
            let rule = DecodeError::PropertyUnknown;
            cases.push(holder.case(&format!("unknown {id:#04x}"), &[id, 0], rule, MALFORMED));
        }
        for (id, property) in PROPERTIES {
            if holder.allowed.contains(id) {
                cases.extend(spoilt(holder, *id, property));
            } else {
                let (rule, code) = match (holder.name, *id) {
                    ("PUBLISH to a server", 0x0B) => {
                        (DecodeError::SubscriptionIdFromClient, PROTOCOL)
                    }
                    _ => (DecodeError::PropertyNotAllowed, MALFORMED),
                };
                cases.push(holder.case(&format!("foreign {id:#04x}"), property, rule, code));
            }
        }
    }
    cases
}

fn spoilt(holder: &Holder, id: u8, property: &[u8]) -> Vec<Case> {
    let mut cases = Vec::new();
    let company = holder.company(id);
    let mut add = |what: &str, property: &[u8], rule, code| {
        let properties = [company, property].concat();
        cases.push(holder.case(&format!("{id:#04x} {what}"), &properties, rule, code));
    };
    if id != 0x26 && !(id == 0x0B && holder.name.starts_with("PUBLISH")) {
        let rule = DecodeError::PropertyRepeated;
        add("twice", &[property, property].concat(), rule, PROTOCOL);
    }
    for len in 1..property.len() {
        add(
            &format!("cut to {len}"),
            &property[..len],
            DecodeError::Truncated,
            MALFORMED,
        );
    }
    match id {
        0x01 | 0x17 | 0x19 | 0x25 | 0x28 | 0x29 | 0x2A => {
            for value in 2..=u8::MAX {
                add(
                    &format!("{value}"),
                    &[id, value],
                    DecodeError::PropertyNotFlag,
                    PROTOCOL,
                );
            }
        }
        0x24 => {
            for value in 2..=u8::MAX {
                add(
                    &format!("{value}"),
                    &[id, value],
                    DecodeError::MaximumQosInvalid,
                    PROTOCOL,
                );
            }
        }
        0x21 => add("0", &[id, 0, 0], DecodeError::PropertyZero, PROTOCOL),
        0x27 => add("0", &[id, 0, 0, 0, 0], DecodeError::PropertyZero, PROTOCOL),
        0x0B => add("0", &[id, 0], DecodeError::PropertyZero, PROTOCOL),
        0x23 => add("0", &[id, 0, 0], DecodeError::TopicAliasZero, 0x94),
        0x08 => {
            for topic in ["#", "+", "a/+/b", "a#"] {
                let property = [&[id][..], &prefixed(topic.as_bytes())].concat();
                add(topic, &property, DecodeError::TopicWildcard, MALFORMED);
            }
            add("empty", &[id, 0, 0], DecodeError::TopicEmpty, PROTOCOL);
        }
        0x16 => {
            let rule = DecodeError::AuthenticationMethodMissing;
            cases.push(holder.case("data alone", property, rule, PROTOCOL));
        }
        _ => {}
    }
    cases
}

/// A5: ill-formed strings in every string field of every packet.
fn strings() -> Vec<Case> {
    let mut cases = Vec::new();
    for (bad, rule) in BAD_STRINGS {
        let bad = prefixed(bad);
        for holder in HOLDERS {
            for id in [0x03, 0x08, 0x12, 0x15, 0x1A, 0x1C, 0x1F] {
                if holder.allowed.contains(&id) {
                    let properties = [holder.company(id), &[id], &bad].concat();
                    cases.push(holder.case(&format!("{id:#04x}"), &properties, *rule, MALFORMED));
                }
            }
            let good = prefixed(b"a");
            for (what, pair) in [("name", [&bad, &good]), ("value", [&good, &bad])] {
                let property = [holder.company(0x26), b"\x26", pair[0], pair[1]].concat();
                cases.push(holder.case(what, &property, *rule, MALFORMED));
            }
        }
        for version in VERSIONS {
            for (what, from, bytes) in fields(version, &bad) {
                let what = what.to_owned();
                cases.push(Case {
                    what,
                    version,
                    from,
                    bytes,
                    rule: *rule,
                    code: MALFORMED,
                });
            }
        }
    }
    cases
}

/// Packets with one string field left to the case.
fn fields(version: ProtocolVersion, field: &[u8]) -> Vec<(&'static str, From, Vec<u8>)> {
    let no_properties: &[u8] = if version.is_v5() { b"\0" } else { b"" };
    let name = if version == ProtocolVersion::V3_1 {
        &b"\0\x06MQIsdp"[..]
    } else {
        b"\0\x04MQTT"
    };
    let connect = |flags: u8, payload: &[&[u8]]| {
        let head = [name, &[version.level(), flags, 0, 0], no_properties].concat();
        framed(0x10, &[head, payload.concat()].concat())
    };
    let id: &[u8] = b"\0\x01c";
    vec![
        ("client id", From::First, connect(0x02, &[field])),
        (
            "will topic",
            From::First,
            connect(0x06, &[id, no_properties, field, b"\0\0"]),
        ),
        ("user name", From::First, connect(0x82, &[id, field])),
        (
            "topic",
            From::Client,
            framed(0x30, &[field, no_properties].concat()),
        ),
        (
            "topic to a client",
            From::Server,
            framed(0x32, &[field, b"\0\x01", no_properties].concat()),
        ),
        (
            "filter",
            From::Client,
            framed(0x82, &[b"\0\x01", no_properties, field, b"\0"].concat()),
        ),
        ("second filter", From::Client, {
            framed(
                0x82,
                &[b"\0\x01", no_properties, b"\0\x01t\0", field, b"\0"].concat(),
            )
        }),
        (
            "unsubscribed",
            From::Client,
            framed(0xA2, &[b"\0\x01", no_properties, field].concat()),
        ),
    ]
}

/// A6, A10: names and filters.
fn topics() -> Vec<Case> {
    let names = [
        ("", DecodeError::TopicEmpty, PROTOCOL),
        ("#", DecodeError::TopicWildcard, MALFORMED),
        ("+", DecodeError::TopicWildcard, MALFORMED),
        ("a/#", DecodeError::TopicWildcard, MALFORMED),
        ("a/+/b", DecodeError::TopicWildcard, MALFORMED),
        ("a+", DecodeError::TopicWildcard, MALFORMED),
    ];
    let filters = [
        ("", DecodeError::FilterInvalid),
        ("#/a", DecodeError::FilterInvalid),
        ("a/#/b", DecodeError::FilterInvalid),
        ("a#", DecodeError::FilterInvalid),
        ("a/b#", DecodeError::FilterInvalid),
        ("##", DecodeError::FilterInvalid),
        ("a+", DecodeError::FilterInvalid),
        ("+a/b", DecodeError::FilterInvalid),
        ("++", DecodeError::FilterInvalid),
        ("+#", DecodeError::FilterInvalid),
        ("$share/", DecodeError::ShareInvalid),
        ("$share/g", DecodeError::ShareInvalid),
        ("$share//t", DecodeError::ShareInvalid),
        ("$share/g+/t", DecodeError::ShareInvalid),
        ("$share/g#/t", DecodeError::ShareInvalid),
        ("$share/+/t", DecodeError::ShareInvalid),
        ("$share/#", DecodeError::ShareInvalid),
        ("$share/g/", DecodeError::ShareInvalid),
        ("$share/g/a#", DecodeError::FilterInvalid),
        ("$share/g/#/a", DecodeError::FilterInvalid),
    ];
    let mut cases = Vec::new();
    for version in VERSIONS {
        for (name, rule, code) in names {
            for (what, from, bytes) in fields(version, &prefixed(name.as_bytes())) {
                if what.contains("topic") {
                    let what = format!("{what} {name:?}");
                    cases.push(Case {
                        what,
                        version,
                        from,
                        bytes,
                        rule,
                        code,
                    });
                }
            }
        }
        for (filter, rule) in filters {
            for (what, from, bytes) in fields(version, &prefixed(filter.as_bytes())) {
                if what.contains("filter") || what == "unsubscribed" {
                    let what = format!("{what} {filter:?}");
                    cases.push(Case {
                        what,
                        version,
                        from,
                        bytes,
                        rule,
                        code: MALFORMED,
                    });
                }
            }
        }
    }
    cases
}

/// A7, A8: types that do not exist, flags that do not fit, packets of the other side, before and after CONNECT.
fn types_and_flags() -> Vec<Case> {
    let mut cases = Vec::new();
    for version in VERSIONS {
        for first in 0..=u8::MAX {
            for from in [From::First, From::Client, From::Server] {
                let Some((rule, code)) = header_rule(version, from, first) else {
                    continue;
                };
                let what = format!("{from:?} {first:#04x}");
                let bytes = framed(first, &[0; 3]);
                cases.push(Case {
                    what,
                    version,
                    from,
                    bytes,
                    rule,
                    code,
                });
            }
        }
    }
    cases
}

/// What is wrong with a first byte, `None` if the rest of the packet has to tell.
fn header_rule(version: ProtocolVersion, from: From, first: u8) -> Option<(DecodeError, u8)> {
    let (packet_type, flags) = (first >> 4, first & 0x0F);
    if from == From::First {
        return match (packet_type, flags) {
            (1, 0) => None,
            (1, _) => Some((DecodeError::FixedHeaderFlags, MALFORMED)),
            _ => Some((DecodeError::ConnectExpected, PROTOCOL)),
        };
    }
    let v5 = version.is_v5();
    if packet_type == 0 || packet_type == 15 && !v5 {
        return Some((DecodeError::PacketTypeReserved, MALFORMED));
    }
    if packet_type == 3 {
        // Three zero bytes are an empty topic, and an identifier cut short or a block of none.
        return match flags >> 1 & 3 {
            0 if flags & 8 != 0 => Some((DecodeError::DupWithoutQos, MALFORMED)),
            0 => Some((DecodeError::TopicEmpty, PROTOCOL)),
            3 => Some((DecodeError::QosThree, MALFORMED)),
            _ => Some((DecodeError::Truncated, MALFORMED)),
        };
    }
    let wanted = if matches!(packet_type, 6 | 8 | 10) {
        2
    } else {
        0
    };
    let is_resent = version == ProtocolVersion::V3_1 && wanted == 2 && flags == 10;
    if flags != wanted && !is_resent {
        return Some((DecodeError::FixedHeaderFlags, MALFORMED));
    }
    let by_client = matches!(packet_type, 1 | 4..=8 | 10 | 12 | 14 | 15);
    let by_server = matches!(packet_type, 2 | 4..=7 | 9 | 11 | 13 | 15) || packet_type == 14 && v5;
    match from {
        From::Client if packet_type == 1 => Some((DecodeError::ConnectRepeated, PROTOCOL)),
        From::Client if !by_client => Some((DecodeError::WrongDirection, PROTOCOL)),
        From::Server if !by_server => Some((DecodeError::WrongDirection, PROTOCOL)),
        From::First | From::Client | From::Server => None,
    }
}

/// Sender, first byte, what stands before the code and behind it, and the codes that may stand there.
type ReasonPlace = (From, u8, &'static [u8], &'static [u8], &'static [u8]);

/// Reason codes that the packet does not have.
fn reasons() -> Vec<Case> {
    let packets: [ReasonPlace; 9] = [
        (
            From::Server,
            0x20,
            b"\0",
            b"\0",
            &[
                0, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90,
                0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F,
            ],
        ),
        (
            From::Client,
            0x40,
            b"\0\x01",
            b"",
            &[0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99],
        ),
        (
            From::Client,
            0x50,
            b"\0\x01",
            b"",
            &[0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99],
        ),
        (From::Client, 0x62, b"\0\x01", b"", &[0, 0x92]),
        (From::Client, 0x70, b"\0\x01", b"", &[0, 0x92]),
        (
            From::Server,
            0x90,
            b"\0\x01\0",
            b"",
            &[
                0, 1, 2, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2,
            ],
        ),
        (
            From::Server,
            0xB0,
            b"\0\x01\0",
            b"",
            &[0, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91],
        ),
        (
            From::Client,
            0xE0,
            b"",
            b"",
            &[
                0, 4, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0x90, 0x93,
                0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1,
                0xA2,
            ],
        ),
        (From::Client, 0xF0, b"", b"\x04\x15\0\x01m", &[0x18, 0x19]),
    ];
    let mut cases = Vec::new();
    for (from, first, before, after, defined) in packets {
        for reason in (0..=u8::MAX).filter(|reason| !defined.contains(reason)) {
            cases.push(Case {
                what: format!("{first:#04x} with reason {reason:#04x}"),
                version: ProtocolVersion::V5,
                from,
                bytes: framed(first, &[before, &[reason], after].concat()),
                rule: DecodeError::ReasonCodeInvalid,
                code: PROTOCOL,
            });
        }
    }
    for (first, before, from_code) in [(0x20, &b"\0"[..], 6), (0x90, b"\0\x01", 3)] {
        for code in (from_code..=u8::MAX).filter(|code| first != 0x90 || *code != 0x80) {
            cases.push(Case {
                what: format!("{first:#04x} with code {code:#04x}"),
                version: ProtocolVersion::V3_1_1,
                from: From::Server,
                bytes: framed(first, &[before, &[code]].concat()),
                rule: DecodeError::ReasonCodeInvalid,
                code: PROTOCOL,
            });
        }
    }
    cases
}

/// A8, A9: flags of CONNECT, options of SUBSCRIBE.
fn flags_and_options() -> Vec<Case> {
    let mut cases = Vec::new();
    for version in VERSIONS {
        let v5 = version.is_v5();
        let no_properties: &[u8] = if v5 { b"\0" } else { b"" };
        for flags in 0..=u8::MAX {
            let Some(rule) = connect_flags_rule(flags, v5) else {
                continue;
            };
            let name: &[u8] = if version == ProtocolVersion::V3_1 {
                b"\0\x06MQIsdp"
            } else {
                b"\0\x04MQTT"
            };
            let body = [
                name,
                &[version.level(), flags, 0, 0],
                no_properties,
                &[0; 64],
            ]
            .concat();
            let what = format!("connect flags {flags:#010b}");
            let bytes = framed(0x10, &body);
            cases.push(Case {
                what,
                version,
                from: From::First,
                bytes,
                rule,
                code: MALFORMED,
            });
        }
        for options in 0..=u8::MAX {
            let Some((rule, code)) = options_rule(options, v5) else {
                continue;
            };
            for target in ["t", "$share/g/t"] {
                let filter = prefixed(target.as_bytes());
                let body = [b"\0\x01", no_properties, &filter, &[options]].concat();
                let what = format!("{target} with options {options:#010b}");
                let bytes = framed(0x82, &body);
                cases.push(Case {
                    what,
                    version,
                    from: From::Client,
                    bytes,
                    rule,
                    code,
                });
            }
        }
    }
    cases
}

fn connect_flags_rule(flags: u8, v5: bool) -> Option<DecodeError> {
    let (has_will, will_qos) = (flags & 4 != 0, flags >> 3 & 3);
    if flags & 1 != 0 {
        Some(DecodeError::ConnectFlagReserved)
    } else if will_qos == 3 {
        Some(DecodeError::WillQosThree)
    } else if !has_will && flags & 0x38 != 0 {
        Some(DecodeError::WillFlagsWithoutWill)
    } else if flags & 0xC0 == 0x40 && !v5 {
        Some(DecodeError::PasswordWithoutUsername)
    } else {
        None
    }
}

fn options_rule(options: u8, v5: bool) -> Option<(DecodeError, u8)> {
    let reserved = if v5 { 0xC0 } else { 0xFC };
    if options & reserved != 0 {
        Some((DecodeError::SubscriptionOptionsReserved, MALFORMED))
    } else if options >> 4 & 3 == 3 {
        Some((DecodeError::RetainHandlingThree, PROTOCOL))
    } else if options & 3 == 3 {
        Some((DecodeError::SubscriptionQosThree, PROTOCOL))
    } else {
        None
    }
}

#[test]
fn the_packets_that_properties_are_tried_in_are_valid_themselves() {
    for holder in HOLDERS {
        for (id, property) in PROPERTIES
            .iter()
            .filter(|(id, _)| holder.allowed.contains(id))
        {
            let bytes = holder.with(&[holder.company(*id), property].concat());
            let decoded = decode(ProtocolVersion::V5, holder.from, &bytes);
            assert!(
                matches!(decoded, Ok(Some(_))),
                "{} {id:#04x}: {decoded:?}",
                holder.name
            );
        }
    }
    for version in VERSIONS {
        for (what, from, bytes) in fields(version, &prefixed("a\u{feff}é".as_bytes())) {
            assert!(
                matches!(decode(version, from, &bytes), Ok(Some(_))),
                "{version:?} {what}"
            );
        }
    }
}

/// [PALOMA-5.0-integer-minimal]
#[test]
fn variable_ints_that_are_too_long_are_refused() {
    check(&variable_ints());
}

#[test]
fn packets_that_end_too_early_are_refused() {
    check(&cuts());
}

/// [PALOMA-5.0-prop-table] [PALOMA-5.0-prop-unknown] [PALOMA-5.0-prop-twice] [PALOMA-5.0-prop-length]
/// [PALOMA-5.0-prop-value-cut] [PALOMA-5.0-prop-flag] [PALOMA-5.0-payload-format] [PALOMA-5.0-zero-receive-maximum]
/// [PALOMA-5.0-zero-maximum-packet-size] [PALOMA-5.0-zero-topic-alias] [PALOMA-5.0-zero-subscription-identifier]
/// [PALOMA-5.0-auth-data-alone]
#[test]
fn properties_out_of_place_are_refused() {
    check(&properties());
}

#[test]
fn strings_that_are_ill_formed_are_refused() {
    check(&strings());
}

/// [MQTT311-4.7.3-1] [MQTT311-4.7.3-3]
#[test]
fn topics_that_are_malformed_are_refused() {
    check(&topics());
}

#[test]
fn first_bytes_that_do_not_fit_are_refused() {
    check(&types_and_flags());
}

/// [PALOMA-5.0-reason-acks] [PALOMA-5.0-reason-disconnect] [PALOMA-5.0-reason-auth]
#[test]
fn reason_codes_of_other_packets_are_refused() {
    check(&reasons());
}

#[test]
fn flags_and_options_that_contradict_themselves_are_refused() {
    check(&flags_and_options());
}

#[test]
fn there_are_thousands_of_malformed_packets() {
    let classes = [
        variable_ints(),
        cuts(),
        properties(),
        strings(),
        topics(),
        types_and_flags(),
        reasons(),
        flags_and_options(),
    ];
    let count: usize = classes.iter().map(Vec::len).sum();
    println!("{count} malformed packets");
    assert!(count >= 2_500);
}
