//! Topic names, filters, and what matches what.

use crate::lab::{Lab, message, text};
use crate::suite::{Section, both};
use crate::verdict::{Verdict, ensure, same};
use crate::wire;

// A line a test.
#[rustfmt::skip]
pub(super) fn section() -> Section {
    Section {
        name: "4.7 Topics",
        tests: vec![
            both("[MQTT-4.7.1-1] [MQTT311-4.7.1-2] [MQTT-4.7.0-1] [MQTT311-4.7.1-1]", a_hash_matches_its_parent_and_everything_below),
            both("[MQTT-4.7.1-2] [MQTT311-4.7.1-3]", a_plus_matches_exactly_one_level),
            both("[MQTT-4.7.2-1] [MQTT311-4.7.2-1]", wildcards_at_the_start_do_not_match_topics_that_begin_with_a_dollar),
            both("[MQTT-4.7.3-4] [MQTT311-4.7.3-4]", topics_are_compared_byte_by_byte),
            both("[MQTT-4.7.3-4] [MQTT311-4.7.3-4]", empty_levels_count),
            both("[MQTT-4.7.3-3] [MQTT311-4.7.3-3]", a_topic_of_65_535_bytes_is_taken_or_refused_whole),
        ],
    }
}

/// Checks which of the topics a filter gets.
fn check(lab: &Lab<'_>, filter: &str, topics: &[(&str, bool)]) -> Verdict {
    lab.needs_wildcards()?;
    let mut client = lab.client("a")?;
    client.subscribe(&[(&lab.topic(filter), 0)])?;
    let mut wanted = Vec::new();
    for (topic, matches) in topics {
        client.publish(&message(&lab.topic(topic), 0, topic)?)?;
        if *matches {
            wanted.push((*topic).to_owned());
        }
    }
    let mut got = Vec::new();
    while let Some(publish) = client.message_if_any()? {
        got.push(text(&publish));
    }
    same(&format!("what {filter} gets"), got, wanted)
}

fn a_hash_matches_its_parent_and_everything_below(lab: &Lab<'_>) -> Verdict {
    check(
        lab,
        "a/#",
        &[
            ("a", true),
            ("a/", true),
            ("a/b", true),
            ("a/b/c", true),
            ("ab", false),
            ("b/a", false),
        ],
    )
}

fn a_plus_matches_exactly_one_level(lab: &Lab<'_>) -> Verdict {
    check(
        lab,
        "a/+/c",
        &[
            ("a/b/c", true),
            ("a//c", true),
            ("a/c", false),
            ("a/b/b/c", false),
            ("a/b/c/", false),
        ],
    )?;
    check(
        lab,
        "x/+",
        &[("x/", true), ("x/y", true), ("x", false), ("x/y/z", false)],
    )
}

fn wildcards_at_the_start_do_not_match_topics_that_begin_with_a_dollar(lab: &Lab<'_>) -> Verdict {
    lab.needs_wildcards()?;
    // Subscriptions of the whole tree, so that what other tests publish has to be passed over.
    let mut reader = lab.client("reader")?;
    let level = lab.id("t");
    let plus = format!("+/{level}");
    let below = format!("+/{level}/#");
    reader.subscribe(&[(&plus, 0), (&below, 0)])?;
    let mut writer = lab.client("writer")?;
    let reserved = format!("$verify/{level}");
    // Whether a broker takes it is its own affair.
    writer.send(&super::publish::packet(&message(&reserved, 0, "reserved")?))?;
    writer.read_within(std::time::Duration::from_millis(200))?;
    let mut writer = lab.client("writer2")?;
    writer.publish(&message(&format!("x/{level}"), 0, "plain")?)?;
    while let Some(publish) = reader.message_if_any()? {
        same("the payload", text(&publish), "plain")?;
    }
    // And no `#` alone brings what the broker says of itself.
    let mut all = lab.client("all")?;
    all.subscribe(&[("+/broker/uptime", 0), ("+/broker/version", 0)])?;
    all.quiet()
}

fn topics_are_compared_byte_by_byte(lab: &Lab<'_>) -> Verdict {
    // One character as one code point and as two, letters of either case.
    check(
        lab,
        "\u{C5}/#",
        &[("\u{C5}/a", true), ("A\u{30A}/a", false)],
    )?;
    check(
        lab,
        "Case",
        &[("Case", true), ("case", false), ("CASE", false)],
    )?;
    check(lab, " a ", &[(" a ", true), ("a", false)])
}

fn empty_levels_count(lab: &Lab<'_>) -> Verdict {
    check(
        lab,
        "/a//b",
        &[
            ("/a//b", true),
            ("a//b", false),
            ("/a/b", false),
            ("/a//b/", false),
        ],
    )
}

fn a_topic_of_65_535_bytes_is_taken_or_refused_whole(lab: &Lab<'_>) -> Verdict {
    let none = wire::no_properties(lab.version());
    let prefix = lab.topic("");
    let topic: String = prefix
        .chars()
        .chain(std::iter::repeat('x'))
        .take(65_535)
        .collect();
    let mut client = lab.client("a")?;
    client.send_bytes(&wire::publish(0x30, topic.as_bytes(), 0, &none, b"x"))?;
    client.send_bytes(&wire::PINGREQ)?;
    match client.read_within(std::time::Duration::from_secs(10))? {
        crate::client::Found::Packet(paloma_codec::Packet::PingResp)
        | crate::client::Found::End => Ok(()),
        crate::client::Found::Packet(paloma_codec::Packet::Disconnect(said)) => ensure(
            said.reason.is_error(),
            format!("DISCONNECT says {:?}", said.reason),
        ),
        other => Err(crate::verdict::Stop::failed(format!("{other:?}"))),
    }
}
