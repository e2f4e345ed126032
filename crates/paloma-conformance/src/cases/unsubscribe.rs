//! UNSUBSCRIBE and UNSUBACK.

use paloma_codec::UnsubAckReason;

use super::{EITHER, refuses};
use crate::lab::{Lab, message, text};
use crate::suite::{Section, both, v5};
use crate::verdict::{Verdict, ensure, same};
use crate::wire;

// A line a test.
#[rustfmt::skip]
pub(super) fn section() -> Section {
    Section {
        name: "3.10 UNSUBSCRIBE, 3.11 UNSUBACK",
        tests: vec![
            both("[MQTT-3.10.4-4] [MQTT-3.10.4-5] [MQTT-2.2.1-6] [MQTT311-3.10.4-4] [MQTT311-2.3.1-7]", an_unsubscribe_is_answered_with_its_identifier),
            both("[MQTT-3.10.4-5] [MQTT311-3.10.4-5]", an_unsuback_is_owed_even_if_nothing_was_deleted),
            both("[MQTT-3.10.3-2] [MQTT311-3.10.3-2]", an_unsubscribe_without_filters_closes_the_connection),
            both("[MQTT-3.10.4-1] [MQTT-3.10.4-2] [MQTT311-3.10.4-1] [MQTT311-3.10.4-2]", nothing_comes_after_unsubscribing),
            both("[MQTT-3.10.4-1] [MQTT311-3.10.4-1]", filters_are_compared_character_by_character),
            both("[MQTT-3.10.4-3] [MQTT311-3.10.4-3]", an_open_delivery_is_finished_after_unsubscribing),
            both("[MQTT-3.10.4-6] [MQTT311-3.10.4-6]", many_filters_are_one_after_the_other),
            v5("[MQTT-3.11.3-1] [MQTT-3.11.3-2]", unsuback_says_for_each_filter_whether_it_was_there),
        ],
    }
}

fn an_unsubscribe_is_answered_with_its_identifier(lab: &Lab<'_>) -> Verdict {
    let topic = lab.topic("t");
    let mut client = lab.client("a")?;
    client.subscribe(&[(&topic, 1)])?;
    // `unsubscribe` waits for an UNSUBACK of its own identifier.
    client.unsubscribe(&[&topic])?;
    client.quiet()
}

fn an_unsuback_is_owed_even_if_nothing_was_deleted(lab: &Lab<'_>) -> Verdict {
    let mut client = lab.client("a")?;
    client.unsubscribe(&["never/there", "nor/+/this"])?;
    client.quiet()
}

fn an_unsubscribe_without_filters_closes_the_connection(lab: &Lab<'_>) -> Verdict {
    let none = wire::no_properties(lab.version());
    let bytes = wire::unsubscribe(0xA2, 1, &none, &[]);
    refuses(lab, "no filter", &bytes, EITHER)
}

fn nothing_comes_after_unsubscribing(lab: &Lab<'_>) -> Verdict {
    let topic = lab.topic("t");
    let mut client = lab.client("a")?;
    let mut writer = lab.client("writer")?;
    client.subscribe(&[(&topic, 1)])?;
    writer.publish(&message(&topic, 1, "before")?)?;
    client.payloads(&["before"])?;
    client.unsubscribe(&[&topic])?;
    writer.publish(&message(&topic, 1, "after")?)?;
    client.quiet()
}

fn filters_are_compared_character_by_character(lab: &Lab<'_>) -> Verdict {
    lab.needs_wildcards()?;
    let mut client = lab.client("a")?;
    let filter = lab.topic("a/+");
    client.subscribe(&[(&filter, 0)])?;
    // All of these match the same topics, or look alike, and are not the filter.
    let others = [
        lab.topic("a/b"),
        lab.topic("a/#"),
        lab.topic("A/+"),
        lab.topic("a/+/"),
    ];
    for other in &others {
        client.unsubscribe(&[other])?;
    }
    client.publish(&message(&lab.topic("a/b"), 0, "still")?)?;
    client.payloads(&["still"])?;
    client.unsubscribe(&[&filter])?;
    client.publish(&message(&lab.topic("a/b"), 0, "gone")?)?;
    client.quiet()
}

fn an_open_delivery_is_finished_after_unsubscribing(lab: &Lab<'_>) -> Verdict {
    lab.needs_qos(2)?;
    let topic = lab.topic("t");
    let mut writer = lab.client("writer")?;
    let (mut reader, _) = lab.resume("reader")?;
    reader.subscribe(&[(&topic, 2)])?;
    writer.publish(&message(&topic, 2, "open")?)?;
    let got = reader.unacknowledged()?;
    reader.unsubscribe(&[&topic])?;
    reader.cut();
    let mut reader = lab.back("reader")?;
    let again = reader.unacknowledged()?;
    same("the identifier", again.delivery.id(), got.delivery.id())?;
    same("the payload", text(&again), "open")?;
    reader.acknowledge(&again)?;
    reader.quiet()
}

fn many_filters_are_one_after_the_other(lab: &Lab<'_>) -> Verdict {
    let topics = [lab.topic("a"), lab.topic("b"), lab.topic("c")];
    let [first, second, third] = &topics;
    let mut client = lab.client("a")?;
    client.subscribe(&[(first, 0), (second, 0), (third, 0)])?;
    client.unsubscribe(&[first, third])?;
    for topic in &topics {
        client.publish(&message(topic, 0, topic)?)?;
    }
    client.payloads(&[second])?;
    client.quiet()
}

fn unsuback_says_for_each_filter_whether_it_was_there(lab: &Lab<'_>) -> Verdict {
    let there = lab.topic("there");
    let mut client = lab.client("a")?;
    client.subscribe(&[(&there, 0)])?;
    let ack = client.unsubscribe(&["not/there", &there, "nor/this"])?;
    same(
        "the codes",
        ack.reasons.clone(),
        vec![
            UnsubAckReason::NoSubscriptionExisted,
            UnsubAckReason::Success,
            UnsubAckReason::NoSubscriptionExisted,
        ],
    )?;
    ensure(ack.reasons.len() == 3, "a code for each filter")
}
