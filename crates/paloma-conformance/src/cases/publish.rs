//! PUBLISH, apart from RETAIN and properties.

use paloma_codec::{Delivery, Packet, Publish, Qos};

use super::{EITHER, MALFORMED, TOPIC_NAME, refuses};
use crate::client::Client;
use crate::lab::{Lab, delivery, message, text, topic_of};
use crate::suite::{Section, both, v5};
use crate::verdict::{Verdict, ensure, same};
use crate::wire;

// A line a test.
#[rustfmt::skip]
pub(super) fn section() -> Section {
    Section {
        name: "3.3 PUBLISH",
        tests: vec![
            both("[MQTT-3.3.1-4] [MQTT311-3.3.1-4]", qos_3_closes_the_connection),
            both("[MQTT-3.3.1-2] [MQTT311-3.3.1-2]", dup_at_qos_0_closes_the_connection),
            both("[MQTT-3.3.1-3] [MQTT-3.3.1-1] [MQTT311-3.3.1-3]", dup_of_the_publisher_is_not_passed_on),
            both("[MQTT-3.3.2-2] [MQTT-4.7.0-1] [MQTT311-3.3.2-2] [MQTT311-4.7.1-1]", wildcards_in_a_topic_name_close_the_connection),
            both("[MQTT-4.7.3-1] [MQTT311-4.7.3-1]", a_topic_name_is_at_least_one_character),
            both("[MQTT-3.3.2-1] [MQTT311-3.3.2-1]", a_publish_without_a_topic_closes_the_connection),
            both("[MQTT-3.3.2-3] [MQTT311-3.3.2-3]", the_topic_that_arrives_is_the_one_published_to),
            both("[MQTT-3.3.4-1] [MQTT311-3.3.4-1]", a_publish_is_answered_as_its_qos_asks),
            both("[MQTT-3.8.4-8] [MQTT311-3.8.4-6]", qos_of_delivery_is_the_lower_of_both),
            both("[MQTT-3.3.4-2] [MQTT311-3.3.5-1]", overlapping_subscriptions_deliver_at_the_highest_qos),
            both("[MQTT-4.3.1-1] [MQTT311-4.3.1-1] [MQTT-2.2.1-2] [MQTT311-2.3.1-5]", qos_0_arrives_once_without_identifier_and_dup),
            both("[MQTT-4.5.0-1] [MQTT311-4.5.0-1]", every_matching_subscriber_gets_the_message),
            both("[MQTT-4.6.0-5] [MQTT-4.6.0-6] [MQTT311-4.6.0-5] [MQTT311-4.6.0-6]", messages_of_one_topic_arrive_in_order_at_every_qos),
            both("[MQTT-3.3.4-1] [MQTT311-3.3.5-2]", a_publish_that_nobody_wants_is_acknowledged),
            both("[MQTT-3.3.4-1] [MQTT311-3.3.4-1]", payloads_of_any_size_arrive_whole),
            both("[MQTT-4.6.0-2] [MQTT311-4.6.0-2]", pubacks_come_in_the_order_of_their_publishes),
            both("[MQTT-4.6.0-3] [MQTT-4.6.0-4] [MQTT311-4.6.0-3] [MQTT311-4.6.0-4]", pubrecs_and_pubrels_come_in_order),
            v5("[MQTT-3.3.4-6]", a_subscription_identifier_from_a_client_closes_the_connection),
            both("[MQTT-2.2.1-4] [MQTT311-2.3.1-4] [MQTT-4.3.2-1] [MQTT-4.3.3-1]", identifiers_of_the_broker_are_not_in_use_twice),
            both("[MQTT-3.1.4-1] [MQTT311-4.8.0-1]", a_packet_that_ends_too_early_closes_the_connection),
        ],
    }
}

/// A packet of a PUBLISH.
pub(super) fn packet(publish: &Publish) -> Packet {
    Packet::Publish(Box::new(publish.clone()))
}

fn qos_3_closes_the_connection(lab: &Lab<'_>) -> Verdict {
    let none = wire::no_properties(lab.version());
    for first in [0x36, 0x3E, 0x37] {
        let bytes = wire::publish(first, b"a", 1, &none, b"x");
        refuses(lab, &format!("{first:#04x}"), &bytes, MALFORMED)?;
    }
    Ok(())
}

fn dup_at_qos_0_closes_the_connection(lab: &Lab<'_>) -> Verdict {
    let none = wire::no_properties(lab.version());
    let bytes = wire::publish(0x38, b"a", 0, &none, b"x");
    refuses(lab, "DUP at QoS 0", &bytes, EITHER)
}

fn dup_of_the_publisher_is_not_passed_on(lab: &Lab<'_>) -> Verdict {
    lab.needs_qos(1)?;
    let topic = lab.topic("t");
    let mut client = lab.client("a")?;
    client.subscribe(&[(&topic, 1)])?;
    let mut publish = message(&topic, 1, "x")?;
    publish.delivery = delivery(1, 9, true);
    client.send(&packet(&publish))?;
    client.pub_ack(packet_id(9))?;
    let got = client.message()?;
    same("DUP", got.delivery.is_dup(), false)
}

fn wildcards_in_a_topic_name_close_the_connection(lab: &Lab<'_>) -> Verdict {
    let none = wire::no_properties(lab.version());
    for topic in ["a/+", "+", "#", "a/#", "a/b+", "a#"] {
        let bytes = wire::publish(0x30, topic.as_bytes(), 0, &none, b"x");
        refuses(lab, topic, &bytes, TOPIC_NAME)?;
    }
    Ok(())
}

fn a_topic_name_is_at_least_one_character(lab: &Lab<'_>) -> Verdict {
    let none = wire::no_properties(lab.version());
    for first in [0x30, 0x32] {
        let bytes = wire::publish(first, b"", 1, &none, b"x");
        refuses(lab, &format!("{first:#04x}"), &bytes, TOPIC_NAME)?;
    }
    Ok(())
}

fn a_publish_without_a_topic_closes_the_connection(lab: &Lab<'_>) -> Verdict {
    refuses(lab, "nothing", &[0x30, 0], EITHER)?;
    refuses(lab, "half a length", &[0x30, 1, 0], EITHER)?;
    refuses(lab, "half a topic", &[0x30, 3, 0, 9, b'a'], EITHER)
}

fn the_topic_that_arrives_is_the_one_published_to(lab: &Lab<'_>) -> Verdict {
    lab.needs_wildcards()?;
    let mut client = lab.client("a")?;
    client.subscribe(&[(&lab.topic("#"), 0)])?;
    for level in ["a", "a/b", "a//b", "/", "ä/€/𝄞", "a b"] {
        let topic = lab.topic(level);
        client.publish(&message(&topic, 0, level)?)?;
        let got = client.message()?;
        same("the topic", topic_of(&got), topic.as_str())?;
    }
    Ok(())
}

fn a_publish_is_answered_as_its_qos_asks(lab: &Lab<'_>) -> Verdict {
    let mut client = lab.client("a")?;
    client.send(&packet(&message(&lab.topic("t"), 0, "x")?))?;
    client.quiet()?;
    for qos in 1..=2 {
        lab.needs_qos(qos)?;
        client.publish(&message(&lab.topic("t"), qos, "x")?)?;
        client.quiet()?;
    }
    Ok(())
}

fn qos_of_delivery_is_the_lower_of_both(lab: &Lab<'_>) -> Verdict {
    lab.needs_qos(2)?;
    let mut writer = lab.client("writer")?;
    for granted in 0..=2 {
        let topic = lab.topic(&format!("t{granted}"));
        let mut reader = lab.client(&format!("r{granted}"))?;
        reader.subscribe(&[(&topic, granted)])?;
        for published in 0..=2 {
            writer.publish(&message(&topic, published, "x")?)?;
            let got = reader.message()?;
            same(
                &format!("QoS published at {published} and granted {granted}"),
                got.delivery.qos().bits(),
                granted.min(published),
            )?;
        }
    }
    Ok(())
}

fn overlapping_subscriptions_deliver_at_the_highest_qos(lab: &Lab<'_>) -> Verdict {
    lab.needs_wildcards()?;
    lab.needs_qos(2)?;
    let levels = ["+", "b", "#"];
    // Whichever of them has the highest, and whichever was first.
    for strongest in 0..3 {
        for first in 0..3 {
            let mut client = lab.client("a")?;
            let root = format!("{strongest}{first}");
            for number in (0..3).map(|number| (first + number) % 3) {
                let level = levels.get(number).copied().unwrap_or_default();
                let filter = lab.topic(&format!("{root}/{level}"));
                client.subscribe(&[(&filter, if number == strongest { 2 } else { 0 })])?;
            }
            client.publish(&message(&lab.topic(&format!("{root}/b")), 2, "x")?)?;
            let mut highest = Qos::AtMostOnce;
            // One copy, or one for each subscription.
            while let Some(got) = client.message_if_any()? {
                highest = highest.max(got.delivery.qos());
            }
            same("the highest QoS", highest, Qos::ExactlyOnce)?;
        }
    }
    Ok(())
}

fn qos_0_arrives_once_without_identifier_and_dup(lab: &Lab<'_>) -> Verdict {
    let topic = lab.topic("t");
    let mut client = lab.client("a")?;
    client.subscribe(&[(&topic, 2)])?;
    client.publish(&message(&topic, 0, "once")?)?;
    let got = client.message()?;
    same(
        "QoS, identifier and DUP",
        got.delivery,
        Delivery::AtMostOnce,
    )?;
    same("the payload", text(&got), "once")?;
    client.quiet()
}

fn every_matching_subscriber_gets_the_message(lab: &Lab<'_>) -> Verdict {
    let topic = lab.topic("t");
    let mut readers = (0..5)
        .map(|number| lab.client(&format!("r{number}")))
        .collect::<Verdict<Vec<Client>>>()?;
    for reader in &mut readers {
        reader.subscribe(&[(&topic, 1)])?;
    }
    let mut writer = lab.client("writer")?;
    writer.publish(&message(&topic, 1, "all")?)?;
    for reader in &mut readers {
        reader.payloads(&["all"])?;
        reader.quiet()?;
    }
    Ok(())
}

fn messages_of_one_topic_arrive_in_order_at_every_qos(lab: &Lab<'_>) -> Verdict {
    lab.needs_qos(2)?;
    let mut writer = lab.client("writer")?;
    let mut reader = lab.client("reader")?;
    for qos in 0..=2 {
        let topic = lab.topic(&format!("q{qos}"));
        reader.subscribe(&[(&topic, qos)])?;
        let numbers: Vec<String> = (0..20).map(|number| number.to_string()).collect();
        for number in &numbers {
            writer.publish(&message(&topic, qos, number)?)?;
        }
        let wanted: Vec<&str> = numbers.iter().map(String::as_str).collect();
        reader.payloads(&wanted)?;
    }
    reader.quiet()
}

fn a_publish_that_nobody_wants_is_acknowledged(lab: &Lab<'_>) -> Verdict {
    lab.needs_qos(2)?;
    let mut client = lab.client("a")?;
    for qos in 1..=2 {
        let reason = client.publish_for_reason(&message(&lab.topic("nobody"), qos, "x")?)?;
        ensure(
            [0x00, 0x10].contains(&reason),
            format!("the reason is {reason:#04x}"),
        )?;
    }
    client.quiet()
}

fn payloads_of_any_size_arrive_whole(lab: &Lab<'_>) -> Verdict {
    let topic = lab.topic("t");
    let mut client = lab.client("a")?;
    client.subscribe(&[(&topic, 1)])?;
    let limit = lab
        .declared()
        .maximum_packet_size
        .map_or(1 << 20, |size| size.get() - 100);
    for size in [0_u32, 1, 100, 127, 128, 16_383, 16_384, 200_000, 1_000_000] {
        if size > limit {
            continue;
        }
        let payload: String = ('a'..='z')
            .cycle()
            .take(usize::try_from(size).unwrap_or(0))
            .collect();
        client.publish(&message(&topic, 1, &payload)?)?;
        let got = client.payload()?;
        ensure(
            got == payload,
            format!("{size} bytes came as {}", got.len()),
        )?;
    }
    Ok(())
}

fn pubacks_come_in_the_order_of_their_publishes(lab: &Lab<'_>) -> Verdict {
    lab.needs_qos(1)?;
    let mut client = lab.client("a")?;
    let ids = [7, 3, 9, 1, 8];
    let mut bytes = Vec::new();
    for id in ids {
        let none = wire::no_properties(lab.version());
        bytes.extend(wire::publish(
            0x32,
            lab.topic("t").as_bytes(),
            id,
            &none,
            b"x",
        ));
    }
    client.send_bytes(&bytes)?;
    for id in ids {
        // An answer out of turn is another packet than the one waited for, and fails.
        client.pub_ack(paloma_codec::PacketId::new(id).unwrap_or(paloma_codec::PacketId::MIN))?;
    }
    client.quiet()
}

fn pubrecs_and_pubrels_come_in_order(lab: &Lab<'_>) -> Verdict {
    lab.needs_qos(2)?;
    let topic = lab.topic("t");
    let mut writer = lab.client("writer")?;
    let mut reader = lab.client("reader")?;
    reader.subscribe(&[(&topic, 2)])?;
    let ids = [7, 3, 9, 1, 8];
    for id in ids {
        let none = wire::no_properties(lab.version());
        let bytes = wire::publish(0x34, topic.as_bytes(), id, &none, b"x");
        writer.send_bytes(&bytes)?;
    }
    for id in ids {
        writer.pub_rec(packet_id(id))?;
        writer.send_bytes(&wire::ack(0x62, id))?;
    }
    for id in ids {
        writer.pub_comp(packet_id(id))?;
    }
    let got = (0..ids.len())
        .map(|_| reader.unacknowledged())
        .collect::<Verdict<Vec<Publish>>>()?;
    // Acknowledged together, so that the PUBRELs have an order to keep.
    for publish in &got {
        let id = publish.delivery.id().map_or(0, paloma_codec::PacketId::get);
        reader.send_bytes(&wire::ack(0x50, id))?;
    }
    for publish in &got {
        let id = publish.delivery.id().unwrap_or(paloma_codec::PacketId::MIN);
        reader.pub_rel(id)?;
        reader.send_bytes(&wire::ack(0x70, id.get()))?;
    }
    reader.quiet()
}

fn packet_id(number: u16) -> paloma_codec::PacketId {
    paloma_codec::PacketId::new(number).unwrap_or(paloma_codec::PacketId::MIN)
}

fn a_subscription_identifier_from_a_client_closes_the_connection(lab: &Lab<'_>) -> Verdict {
    let block = wire::block(&[&[0x0B, 1]]);
    let bytes = wire::publish(0x30, lab.topic("t").as_bytes(), 0, &block, b"x");
    refuses(lab, "Subscription Identifier", &bytes, EITHER)
}

fn identifiers_of_the_broker_are_not_in_use_twice(lab: &Lab<'_>) -> Verdict {
    lab.needs_qos(2)?;
    let topic = lab.topic("t");
    let mut writer = lab.client("writer")?;
    let mut reader = lab.client("reader")?;
    reader.subscribe(&[(&topic, 2)])?;
    let mut open = Vec::new();
    for number in 0..8 {
        let qos = 1 + number % 2;
        writer.publish(&message(&topic, qos, "x")?)?;
        let got = reader.unacknowledged()?;
        let Some(id) = got.delivery.id() else {
            return Err(crate::verdict::Stop::failed("no identifier above QoS 0"));
        };
        ensure(!open.contains(&id), format!("{id:?} is in use already"))?;
        same("DUP", got.delivery.is_dup(), false)?;
        open.push(id);
    }
    Ok(())
}

fn a_packet_that_ends_too_early_closes_the_connection(lab: &Lab<'_>) -> Verdict {
    let none = wire::no_properties(lab.version());
    let cases = [
        (
            "PUBLISH of QoS 1 without identifier",
            wire::packet(0x32, &wire::text("a")),
        ),
        ("PUBACK of one byte", wire::packet(0x40, &[1])),
        ("PUBREL of one byte", wire::packet(0x62, &[1])),
        (
            "SUBSCRIBE without options",
            wire::packet(0x82, &[&[0, 1][..], &none, &wire::text("a")].concat()),
        ),
        (
            "UNSUBSCRIBE with half a filter",
            wire::packet(0xA2, &[&[0, 1][..], &none, &[0, 4, b'a']].concat()),
        ),
        ("SUBSCRIBE without identifier", wire::packet(0x82, &[])),
    ];
    for (what, bytes) in cases {
        refuses(lab, what, &bytes, EITHER)?;
    }
    Ok(())
}
