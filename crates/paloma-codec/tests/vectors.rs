//! The shared vector table: bytes, the packet they are, or the rule they break.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use paloma_codec::{DecodeError, DecodeLimits};
use support::{From, Vector, decode, decoder, encode, framed, vectors};

/// What became of a vector's bytes, in the words of the table's last column.
fn outcome(vector: &Vector) -> String {
    let Vector {
        version,
        from,
        bytes,
        ..
    } = vector;
    let mut decoder = decoder(*version, *from, DecodeLimits::default());
    match decoder.decode(bytes) {
        Ok(Some((packet, used))) => {
            assert_eq!(used, bytes.len(), "all bytes are used");
            format!("{:?}", packet.into_owned())
        }
        Ok(None) => "incomplete".to_owned(),
        Err(error) if *from != From::First => {
            format!("!{error:?} {:#04x}", error.reason().code())
        }
        Err(error) => {
            let version = decoder.version().unwrap_or(*version);
            let answer = error.conn_ack(version).and_then(|reason| {
                if version.is_v5() {
                    Some(reason.code())
                } else {
                    reason.v3_code()
                }
            });
            match answer {
                Some(code) => format!("!{error:?} connack {code:#04x}"),
                None => format!("!{error:?} close"),
            }
        }
    }
}

fn check(vector: &Vector) -> Result<(), String> {
    let Vector {
        name,
        version,
        from,
        bytes,
        ..
    } = vector;
    let found = outcome(vector);
    if found != vector.expected {
        return Err(format!(
            "{name}: found    {found}\n   expected {}",
            vector.expected
        ));
    }
    let Ok(Some((packet, _))) = decode(*version, *from, bytes) else {
        return Ok(());
    };
    let canonical = vector.canonical.as_ref().unwrap_or(bytes);
    let encoded = encode(&packet, *version);
    if encoded != *canonical {
        return Err(format!(
            "{name}: encodes as {encoded:02x?}\n    expected {canonical:02x?}"
        ));
    }
    let (again, _) = decode(*version, *from, &encoded).unwrap().unwrap();
    if again != packet {
        return Err(format!("{name}: its canonical form decodes as {again:?}"));
    }
    Ok(())
}

/// Writes what the codec gives into the last column.
fn bless(vectors: &[Vector]) {
    let mut files: BTreeMap<_, String> = BTreeMap::new();
    for vector in vectors {
        let text = files.entry(&vector.file).or_insert_with(|| {
            let old = std::fs::read_to_string(&vector.file).unwrap();
            old.lines()
                .take_while(|line| line.starts_with('#'))
                .map(|l| l.to_owned() + "\n")
                .collect()
        });
        let old = std::fs::read_to_string(&vector.file).unwrap();
        let prefix = format!("{}\t", vector.name);
        let line = old.lines().find(|line| line.starts_with(&prefix)).unwrap();
        let (columns, _) = line.rsplit_once('\t').unwrap();
        writeln!(text, "{columns}\t{}", outcome(vector)).unwrap();
    }
    for (file, text) in files {
        std::fs::write(file, text).unwrap();
    }
}

#[test]
fn every_vector_decodes_and_encodes_as_the_table_says() {
    let vectors = vectors();
    if std::env::var_os("BLESS").is_some() {
        bless(&vectors);
        return;
    }
    let failures: Vec<String> = vectors
        .iter()
        .filter_map(|vector| check(vector).err())
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn vector_names_are_unique() {
    let vectors = vectors();
    let names: BTreeSet<_> = vectors.iter().map(|vector| &vector.name).collect();
    assert_eq!(names.len(), vectors.len());
}

#[test]
fn every_packet_type_has_a_valid_vector_in_each_version_that_has_it() {
    let vectors = vectors();
    for version in ["V3_1_1", "V5"] {
        for packet_type in 1..=15_u8 {
            let found = vectors.iter().any(|vector| {
                vector.is_valid()
                    && format!("{:?}", vector.version) == version
                    && vector.bytes[0] >> 4 == packet_type
            });
            assert_eq!(
                found,
                version == "V5" || packet_type < 15,
                "{version} {packet_type}"
            );
        }
    }
}

#[test]
fn every_rule_that_needs_no_limit_has_a_vector() {
    let vectors = vectors();
    let by_limit = [
        DecodeError::PacketTooLarge,
        DecodeError::UserPropertiesTooMany,
        DecodeError::ClientIdTooLong,
        DecodeError::WillTooLarge,
        DecodeError::TopicTooLarge,
        DecodeError::FiltersTooMany,
        DecodeError::FilterTooLarge,
    ];
    for rule in DecodeError::ALL
        .iter()
        .filter(|rule| !by_limit.contains(rule))
    {
        let expected = format!("!{rule:?} ");
        assert!(
            vectors
                .iter()
                .any(|vector| vector.expected.starts_with(&expected)),
            "no vector for {rule:?}"
        );
    }
}

#[test]
fn every_prefix_of_a_valid_packet_waits_for_more() {
    for vector in vectors().iter().filter(|vector| vector.is_valid()) {
        for len in 0..vector.bytes.len() {
            let decoded = decode(vector.version, vector.from, &vector.bytes[..len]);
            assert_eq!(decoded, Ok(None), "{} cut to {len}", vector.name);
        }
    }
}

#[test]
fn a_valid_packet_cut_short_under_a_fitting_length_is_refused_or_is_another_packet() {
    for vector in vectors().iter().filter(|vector| vector.is_valid()) {
        // Remaining Length takes one byte in all vectors but one, whose payload may be cut anyway.
        let body = &vector.bytes[if vector.bytes[1] < 0x80 { 2 } else { 3 }..];
        for len in 0..body.len() {
            let bytes = framed(vector.bytes[0], &body[..len]);
            match decode(vector.version, vector.from, &bytes) {
                Err(DecodeError::Truncated | DecodeError::FiltersEmpty) => {}
                // An empty AUTH means success, which is not everybody's to say.
                Err(DecodeError::ReasonCodeInvalid) if len == 0 => {}
                Ok(Some((packet, used))) => {
                    assert_eq!(used, bytes.len());
                    let encoded = encode(&packet, vector.version);
                    let again = decode(vector.version, vector.from, &encoded);
                    assert_eq!(again, Ok(Some((packet, encoded.len()))), "{}", vector.name);
                }
                other => panic!("{} with a body of {len}: {other:?}", vector.name),
            }
        }
    }
}

#[test]
fn bytes_behind_a_packet_are_never_part_of_it() {
    for vector in vectors().iter().filter(|vector| vector.is_valid()) {
        let mut bytes = vector.bytes.clone();
        let (packet, _) = decode(vector.version, vector.from, &bytes)
            .unwrap()
            .unwrap();
        bytes.extend_from_slice(&vector.bytes);
        let decoded = decode(vector.version, vector.from, &bytes);
        assert_eq!(
            decoded,
            Ok(Some((packet, vector.bytes.len()))),
            "{}",
            vector.name
        );
    }
}

#[test]
fn a_byte_too_many_under_a_fitting_length_is_refused() {
    for vector in vectors().iter().filter(|vector| vector.is_valid()) {
        let takes_any_length = [3, 8, 9, 10, 11].contains(&(vector.bytes[0] >> 4));
        if takes_any_length || vector.from == From::First && vector.bytes[1] >= 0x7F {
            continue;
        }
        let mut body = vector.bytes[2..].to_vec();
        body.push(0);
        let bytes = framed(vector.bytes[0], &body);
        match decode(vector.version, vector.from, &bytes) {
            Err(DecodeError::TrailingBytes | DecodeError::Truncated) => {}
            // An acknowledgement of 5.0 may go on with a reason and an empty block.
            Ok(Some((packet, _))) => assert!(encode(&packet, vector.version).len() < bytes.len()),
            other => panic!("{}: {other:?}", vector.name),
        }
    }
}

#[test]
fn no_debug_form_shows_a_payload_or_a_password() {
    for vector in vectors().iter().filter(|vector| vector.is_valid()) {
        let shown = &vector.expected;
        assert!(
            !shown.contains("\"pass\"") && !shown.contains("bye") && !shown.contains("b\"hi\"")
        );
    }
}
