//! Properties of PUBLISH, and topic aliases.

use bytes::Bytes;
use paloma_codec::{Connect, DisconnectReason, PayloadFormat, Publish, PublishTopic, TopicAlias};

use super::publish::packet;
use super::{TOPIC_NAME, refuses};
use crate::lab::{Lab, aliased, message, name, not_applicable, text, topic_of, user_properties};
use crate::suite::{Section, v5};
use crate::verdict::{Stop, Verdict, ensure, same};
use crate::wire;

// A line a test.
#[rustfmt::skip]
pub(super) fn section() -> Section {
    Section {
        name: "3.3.2.3 Properties of PUBLISH",
        tests: vec![
            v5("[MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-20]", all_properties_are_passed_on_unaltered),
            v5("[MQTT-3.3.2-17] [MQTT-3.3.2-18]", user_properties_keep_their_order_and_their_repetitions),
            v5("[MQTT-3.3.2-14]", a_response_topic_with_wildcards_closes_the_connection),
            v5("[MQTT-3.3.2-5]", a_message_that_has_expired_is_not_delivered).slow(),
            v5("[MQTT-3.3.2-6]", message_expiry_is_reduced_by_the_time_spent_waiting).slow(),
            v5("[MQTT-3.3.2-6]", message_expiry_is_passed_on_to_a_present_subscriber),
            v5("[MQTT-4.3.3-7]", a_message_sent_once_does_not_expire_before_its_exchange_ends).slow(),
            v5("[MQTT-3.3.2-8] [PALOMA-5.0-zero-topic-alias]", an_alias_of_0_closes_the_connection),
            v5("[MQTT-3.3.2-12]", every_alias_up_to_the_maximum_is_accepted),
            v5("[MQTT-3.3.2-12]", an_alias_can_be_given_to_another_topic),
            v5("[MQTT-3.3.2-7]", an_alias_ends_with_its_connection),
            v5("[MQTT-3.3.2-7]", an_alias_that_was_not_defined_closes_the_connection),
            v5("[MQTT-3.1.2-27] [MQTT-3.3.2-11]", without_an_alias_maximum_no_alias_comes),
            v5("[MQTT-3.1.2-26] [MQTT-3.3.2-11]", aliases_of_the_broker_stay_within_the_clients_maximum_and_are_defined_first),
            v5("[MQTT-3.3.2-7]", aliases_of_a_publisher_never_reach_a_subscriber),
            v5("[MQTT-3.3.2-7]", aliases_of_the_broker_are_not_used_in_a_resent_message),
        ],
    }
}

fn all_properties_are_passed_on_unaltered(lab: &Lab<'_>) -> Verdict {
    let topic = lab.topic("t");
    let mut reader = lab.client("reader")?;
    reader.subscribe(&[(&topic, 2)])?;
    let mut writer = lab.client("writer")?;
    for qos in 0..=lab.declared().maximum_qos.bits() {
        let mut publish = message(&topic, qos, "payload")?;
        publish.properties.payload_format = PayloadFormat::Utf8;
        publish.properties.content_type = Some("text/plain; charset=€".into());
        publish.properties.response_topic = Some(name("answers/to/this")?);
        publish.properties.correlation_data = Some(Bytes::from_static(b"\0\xFF\x01"));
        publish.properties.user_properties = user_properties(&[("z", "1"), ("a", "2")])?;
        writer.publish(&publish)?;
        same(
            "the properties",
            reader.message()?.properties,
            publish.properties,
        )?;
    }
    Ok(())
}

fn user_properties_keep_their_order_and_their_repetitions(lab: &Lab<'_>) -> Verdict {
    let topic = lab.topic("t");
    let mut client = lab.client("a")?;
    client.subscribe(&[(&topic, 0)])?;
    let mut publish = message(&topic, 0, "x")?;
    let pairs = [
        ("b", "1"),
        ("a", "2"),
        ("b", "3"),
        ("b", "1"),
        ("ä", "€"),
        ("c", ""),
    ];
    publish.properties.user_properties = user_properties(&pairs)?;
    client.publish(&publish)?;
    let got = client.message()?;
    let got: Vec<(&str, &str)> = got.properties.user_properties.iter().collect();
    same("the user properties", got, pairs.to_vec())
}

fn a_response_topic_with_wildcards_closes_the_connection(lab: &Lab<'_>) -> Verdict {
    for response in ["a/+", "#", "+/b"] {
        let block = wire::block(&[&[0x08], &wire::text(response)]);
        let bytes = wire::publish(0x30, lab.topic("t").as_bytes(), 0, &block, b"x");
        refuses(lab, response, &bytes, TOPIC_NAME)?;
    }
    Ok(())
}

fn expiring(topic: &str, qos: u8, payload: &str, seconds: u32) -> Verdict<Publish> {
    let mut publish = message(topic, qos, payload)?;
    publish.properties.message_expiry_seconds = Some(seconds);
    Ok(publish)
}

fn a_message_that_has_expired_is_not_delivered(lab: &Lab<'_>) -> Verdict {
    let topic = lab.topic("t");
    let (mut reader, _) = lab.resume("reader")?;
    reader.subscribe(&[(&topic, 1)])?;
    reader.disconnect()?;
    let mut writer = lab.client("writer")?;
    writer.publish(&expiring(&topic, 1, "expires", 1)?)?;
    writer.publish(&message(&topic, 1, "stays")?)?;
    writer.wait(std::time::Duration::from_millis(2_300));
    let mut reader = lab.back("reader")?;
    reader.payloads(&["stays"])?;
    reader.quiet()
}

fn message_expiry_is_reduced_by_the_time_spent_waiting(lab: &Lab<'_>) -> Verdict {
    let topic = lab.topic("t");
    let (mut reader, _) = lab.resume("reader")?;
    reader.subscribe(&[(&topic, 1)])?;
    reader.disconnect()?;
    let mut writer = lab.client("writer")?;
    writer.publish(&expiring(&topic, 1, "ages", 100)?)?;
    writer.wait(std::time::Duration::from_millis(2_300));
    let mut reader = lab.back("reader")?;
    let left = reader.message()?.properties.message_expiry_seconds;
    ensure(
        left.is_some_and(|seconds| (60..=98).contains(&seconds)),
        format!("{left:?} seconds are left of 100 after 2.3"),
    )
}

fn message_expiry_is_passed_on_to_a_present_subscriber(lab: &Lab<'_>) -> Verdict {
    let topic = lab.topic("t");
    let mut client = lab.client("a")?;
    client.subscribe(&[(&topic, 0)])?;
    client.publish(&expiring(&topic, 0, "x", 1_000)?)?;
    let left = client.message()?.properties.message_expiry_seconds;
    ensure(
        left.is_some_and(|seconds| (940..=1_000).contains(&seconds)),
        format!("{left:?} seconds are left of 1,000"),
    )
}

fn a_message_sent_once_does_not_expire_before_its_exchange_ends(lab: &Lab<'_>) -> Verdict {
    lab.needs_qos(2)?;
    let topic = lab.topic("t");
    let (mut reader, _) = lab.resume("reader")?;
    reader.subscribe(&[(&topic, 2)])?;
    let mut writer = lab.client("writer")?;
    writer.publish(&expiring(&topic, 2, "sent", 4)?)?;
    let got = reader.unacknowledged()?;
    reader.wait(std::time::Duration::from_millis(5_300));
    let id = got.delivery.id().map_or(0, paloma_codec::PacketId::get);
    reader.send_bytes(&wire::ack(0x50, id))?;
    reader.pub_rel(got.delivery.id().unwrap_or(paloma_codec::PacketId::MIN))?;
    reader.send_bytes(&wire::ack(0x70, id))?;
    reader.quiet()
}

fn an_alias_of_0_closes_the_connection(lab: &Lab<'_>) -> Verdict {
    let block = wire::block(&[&[0x23, 0, 0]]);
    let bytes = wire::publish(0x30, lab.topic("t").as_bytes(), 0, &block, b"x");
    let reasons = [
        DisconnectReason::TopicAliasInvalid,
        DisconnectReason::ProtocolError,
        DisconnectReason::MalformedPacket,
    ];
    refuses(lab, "alias 0", &bytes, &reasons)
}

fn alias(number: u16) -> Verdict<TopicAlias> {
    TopicAlias::new(number).ok_or_else(|| Stop::failed("the suite's alias is 0"))
}

/// A PUBLISH that names its topic by an alias alone.
fn by_alias(number: u16, payload: &str) -> Verdict<Publish> {
    let mut publish = message("unnamed", 0, payload)?;
    publish.topic = PublishTopic::Alias(alias(number)?);
    Ok(publish)
}

fn every_alias_up_to_the_maximum_is_accepted(lab: &Lab<'_>) -> Verdict {
    let maximum = lab.needs_aliases()?.min(200);
    lab.needs_wildcards()?;
    let mut writer = lab.client("writer")?;
    let mut reader = lab.client("reader")?;
    reader.subscribe(&[(&lab.topic("+"), 0)])?;
    for number in 1..=maximum {
        let topic = lab.topic(&number.to_string());
        writer.send(&packet(&aliased(
            message(&topic, 0, "named")?,
            alias(number)?,
        )))?;
        same("the topic", topic_of(&reader.message()?), topic.as_str())?;
    }
    for number in 1..=maximum {
        let topic = lab.topic(&number.to_string());
        writer.send(&packet(&by_alias(number, "by alias")?))?;
        let got = reader.message()?;
        same("the topic", topic_of(&got), topic.as_str())?;
        same("the payload", text(&got), "by alias")?;
    }
    Ok(())
}

fn an_alias_can_be_given_to_another_topic(lab: &Lab<'_>) -> Verdict {
    lab.needs_aliases()?;
    lab.needs_wildcards()?;
    let mut client = lab.client("a")?;
    client.subscribe(&[(&lab.topic("+"), 0)])?;
    for level in ["first", "second"] {
        let topic = lab.topic(level);
        client.send(&packet(&aliased(message(&topic, 0, "named")?, alias(1)?)))?;
        client.send(&packet(&by_alias(1, "by alias")?))?;
        for _ in 0..2 {
            same("the topic", topic_of(&client.message()?), topic.as_str())?;
        }
    }
    Ok(())
}

fn an_alias_ends_with_its_connection(lab: &Lab<'_>) -> Verdict {
    lab.needs_aliases()?;
    let topic = lab.topic("t");
    let (mut client, _) = lab.resume("a")?;
    client.send(&packet(&aliased(message(&topic, 0, "x")?, alias(1)?)))?;
    client.ping()?;
    client.disconnect()?;
    let mut client = lab.back("a")?;
    client.send(&packet(&by_alias(1, "x")?))?;
    client.is_refused(&[
        DisconnectReason::ProtocolError,
        DisconnectReason::TopicAliasInvalid,
    ])
}

fn an_alias_that_was_not_defined_closes_the_connection(lab: &Lab<'_>) -> Verdict {
    let mut client = lab.client("a")?;
    client.send(&packet(&by_alias(1, "x")?))?;
    client.is_refused(&[
        DisconnectReason::ProtocolError,
        DisconnectReason::TopicAliasInvalid,
        DisconnectReason::TopicNameInvalid,
    ])
}

fn without_an_alias_maximum_no_alias_comes(lab: &Lab<'_>) -> Verdict {
    let topic = lab.topic("t");
    let mut client = lab.client("a")?;
    client.subscribe(&[(&topic, 0)])?;
    for _ in 0..5 {
        client.publish(&message(&topic, 0, "x")?)?;
        same("the alias", client.message()?.topic.alias(), None)?;
    }
    Ok(())
}

fn aliases_of_the_broker_stay_within_the_clients_maximum_and_are_defined_first(
    lab: &Lab<'_>,
) -> Verdict {
    lab.needs_wildcards()?;
    let connect = Connect {
        topic_alias_maximum: 2,
        ..lab.clean("reader")
    };
    let (mut reader, _) = lab.connect(&connect)?;
    reader.subscribe(&[(&lab.topic("+"), 0)])?;
    let mut writer = lab.client("writer")?;
    let mut known: Vec<(TopicAlias, String)> = Vec::new();
    for round in 0..3 {
        for level in ["a", "b", "c", "d"] {
            let topic = lab.topic(level);
            writer.publish(&message(&topic, 0, level)?)?;
            let got = reader.message()?;
            same("the payload", text(&got), level)?;
            let meant = resolve(&got, &mut known, 2)?;
            same(&format!("the topic in round {round}"), meant, topic)?;
        }
    }
    Ok(())
}

/// The topic that a client understands, with what it has learnt of aliases.
fn resolve(got: &Publish, known: &mut Vec<(TopicAlias, String)>, maximum: u16) -> Verdict<String> {
    if let Some(alias) = got.topic.alias() {
        ensure(
            alias.get() <= maximum,
            format!("alias {} of {maximum}", alias.get()),
        )?;
    }
    match &got.topic {
        PublishTopic::Name(name) => Ok(name.as_str().to_owned()),
        PublishTopic::Define { name, alias } => {
            known.retain(|(old, _)| old != alias);
            known.push((*alias, name.as_str().to_owned()));
            Ok(name.as_str().to_owned())
        }
        PublishTopic::Alias(alias) => known
            .iter()
            .find(|(old, _)| old == alias)
            .map(|(_, topic)| topic.clone())
            .ok_or_else(|| Stop::failed("an alias that the broker has not defined")),
    }
}

fn aliases_of_a_publisher_never_reach_a_subscriber(lab: &Lab<'_>) -> Verdict {
    let maximum = lab.needs_aliases()?;
    if maximum < 2 {
        return not_applicable("the broker takes one alias alone");
    }
    let topic = lab.topic("t");
    let mut reader = lab.client("reader")?;
    reader.subscribe(&[(&topic, 0)])?;
    let mut writer = lab.client("writer")?;
    writer.send(&packet(&aliased(message(&topic, 0, "named")?, alias(2)?)))?;
    writer.send(&packet(&by_alias(2, "by alias")?))?;
    for _ in 0..2 {
        let got = reader.message()?;
        same("the alias", got.topic.alias(), None)?;
        same("the topic", topic_of(&got), topic.as_str())?;
    }
    Ok(())
}

fn aliases_of_the_broker_are_not_used_in_a_resent_message(lab: &Lab<'_>) -> Verdict {
    let topic = lab.topic("t");
    let connect = Connect {
        topic_alias_maximum: 5,
        ..lab.lasting("reader")
    };
    let (mut reader, _) = lab.connect(&connect)?;
    reader.subscribe(&[(&topic, 1)])?;
    let mut writer = lab.client("writer")?;
    for _ in 0..2 {
        writer.publish(&message(&topic, 1, "x")?)?;
        reader.unacknowledged()?;
    }
    reader.cut();
    // Nothing is known on the new connection, whether it allows aliases or not.
    for maximum in [5, 0] {
        let connect = Connect {
            topic_alias_maximum: maximum,
            ..lab.lasting("reader")
        };
        let (mut reader, _) = lab.connect(&connect)?;
        let mut known = Vec::new();
        for _ in 0..2 {
            let got = reader.unacknowledged()?;
            same(
                "the topic",
                resolve(&got, &mut known, maximum)?,
                topic.clone(),
            )?;
        }
        reader.cut();
    }
    Ok(())
}
