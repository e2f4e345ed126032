//! Retained messages.

use crate::lab::{Lab, message, retained, text, user_properties};
use crate::requests::{AS_PUBLISHED, IF_NEW, NEVER};
use crate::suite::{Section, both, v5};
use crate::verdict::{Verdict, ensure, same};

// A line a test.
#[rustfmt::skip]
pub(super) fn section() -> Section {
    Section {
        name: "3.3.1.3 RETAIN",
        tests: vec![
            both("[MQTT-3.3.1-5] [MQTT311-3.3.1-5] [MQTT311-3.3.1-6] [MQTT311-3.3.1-8]", a_retained_message_reaches_a_later_subscriber),
            both("[MQTT-3.3.1-5] [MQTT311-3.3.1-5] [MQTT311-3.3.1-6]", the_last_retained_message_takes_the_place_of_earlier_ones),
            both("[MQTT-3.3.1-5] [MQTT311-3.3.1-7]", a_retained_message_of_qos_0_replaces_one_of_qos_1),
            both("[MQTT-3.3.1-12] [MQTT311-3.3.1-9]", an_established_subscription_gets_it_without_retain),
            both("[MQTT-3.3.1-6] [MQTT311-3.3.1-10]", an_empty_retained_message_is_delivered_and_deletes),
            both("[MQTT-3.3.1-7] [MQTT311-3.3.1-11]", an_empty_retained_message_is_not_kept),
            both("[MQTT-3.3.1-8] [MQTT311-3.3.1-12]", a_message_without_retain_is_not_kept_and_changes_nothing),
            both("[MQTT-3.3.1-8] [MQTT-3.3.1-6] [MQTT311-3.3.1-12] [MQTT311-3.3.1-10]", an_empty_payload_without_retain_deletes_nothing),
            both("[MQTT-3.3.1-5] [MQTT311-3.1.2-7]", retained_messages_outlive_the_publishers_session),
            both("[MQTT-3.8.4-3] [MQTT-3.8.4-4] [MQTT-3.3.1-9] [MQTT311-3.8.4-3]", subscribing_again_sends_retained_messages_again),
            both("[MQTT-3.8.4-8] [MQTT311-3.8.4-6]", qos_of_a_retained_message_is_the_lower_of_both),
            both("[MQTT-3.3.1-9] [MQTT311-3.3.1-6]", a_wildcard_gets_all_retained_messages_that_match),
            v5("[MQTT-3.3.1-9]", retain_handling_0_sends_at_every_subscribe),
            v5("[MQTT-3.3.1-10]", retain_handling_1_sends_to_a_new_subscription_only),
            v5("[MQTT-3.3.1-10]", retain_handling_1_sends_nothing_to_a_subscription_of_a_resumed_session),
            v5("[MQTT-3.3.1-11]", retain_handling_2_sends_nothing),
            v5("[MQTT-3.3.1-13] [MQTT-3.3.1-12]", retain_as_published_keeps_the_flag),
            v5("[MQTT-3.3.1-12]", retained_messages_have_the_flag_whatever_the_subscription_says),
            v5("[MQTT-3.3.2-17] [MQTT-3.3.2-4] [MQTT-3.3.2-20]", properties_are_kept_with_a_retained_message),
            v5("[MQTT-3.3.2-5] [MQTT-3.3.2-6]", a_retained_message_ages_and_expires).slow(),
        ],
    }
}

fn a_retained_message_reaches_a_later_subscriber(lab: &Lab<'_>) -> Verdict {
    let topic = lab.retained_topic("t")?;
    let mut writer = lab.client("writer")?;
    writer.publish(&retained(message(&topic, 1, "kept")?))?;
    let mut reader = lab.client("reader")?;
    reader.subscribe(&[(&topic, 1)])?;
    let got = reader.message()?;
    same("the payload", text(&got), "kept")?;
    same("RETAIN", got.retain, true)?;
    same("DUP", got.delivery.is_dup(), false)?;
    reader.quiet()
}

fn the_last_retained_message_takes_the_place_of_earlier_ones(lab: &Lab<'_>) -> Verdict {
    let topic = lab.retained_topic("t")?;
    let mut writer = lab.client("writer")?;
    for payload in ["first", "second", "third"] {
        writer.publish(&retained(message(&topic, 1, payload)?))?;
    }
    let mut reader = lab.client("reader")?;
    reader.subscribe(&[(&topic, 1)])?;
    reader.payloads(&["third"])?;
    reader.quiet()
}

fn a_retained_message_of_qos_0_replaces_one_of_qos_1(lab: &Lab<'_>) -> Verdict {
    let topic = lab.retained_topic("t")?;
    let mut writer = lab.client("writer")?;
    writer.publish(&retained(message(&topic, 1, "old")?))?;
    writer.publish(&retained(message(&topic, 0, "new")?))?;
    let mut reader = lab.client("reader")?;
    reader.subscribe(&[(&topic, 1)])?;
    reader.payloads(&["new"])?;
    reader.quiet()
}

fn an_established_subscription_gets_it_without_retain(lab: &Lab<'_>) -> Verdict {
    let topic = lab.retained_topic("t")?;
    let mut reader = lab.client("reader")?;
    reader.subscribe(&[(&topic, 1)])?;
    let mut writer = lab.client("writer")?;
    writer.publish(&retained(message(&topic, 1, "x")?))?;
    same("RETAIN", reader.message()?.retain, false)?;
    reader.quiet()
}

fn an_empty_retained_message_is_delivered_and_deletes(lab: &Lab<'_>) -> Verdict {
    let topic = lab.retained_topic("t")?;
    let mut writer = lab.client("writer")?;
    writer.publish(&retained(message(&topic, 1, "kept")?))?;
    let mut present = lab.client("present")?;
    present.subscribe(&[(&topic, 1)])?;
    present.payloads(&["kept"])?;
    writer.publish(&retained(message(&topic, 1, "")?))?;
    let got = present.message()?;
    same("the payload", text(&got), "")?;
    same("RETAIN", got.retain, false)?;
    let mut later = lab.client("later")?;
    later.subscribe(&[(&topic, 1)])?;
    later.quiet()
}

fn an_empty_retained_message_is_not_kept(lab: &Lab<'_>) -> Verdict {
    let topic = lab.retained_topic("t")?;
    let mut writer = lab.client("writer")?;
    for qos in 0..=1 {
        writer.publish(&retained(message(&topic, qos, "")?))?;
    }
    let mut reader = lab.client("reader")?;
    reader.subscribe(&[(&topic, 1)])?;
    reader.quiet()
}

fn a_message_without_retain_is_not_kept_and_changes_nothing(lab: &Lab<'_>) -> Verdict {
    let kept = lab.retained_topic("kept")?;
    let other = lab.topic("other");
    let mut writer = lab.client("writer")?;
    writer.publish(&retained(message(&kept, 1, "kept")?))?;
    writer.publish(&message(&kept, 1, "passing")?)?;
    writer.publish(&message(&other, 1, "passing")?)?;
    let mut reader = lab.client("reader")?;
    reader.subscribe(&[(&other, 1)])?;
    reader.quiet()?;
    reader.subscribe(&[(&kept, 1)])?;
    reader.payloads(&["kept"])?;
    reader.quiet()
}

fn an_empty_payload_without_retain_deletes_nothing(lab: &Lab<'_>) -> Verdict {
    let topic = lab.retained_topic("t")?;
    let mut writer = lab.client("writer")?;
    writer.publish(&retained(message(&topic, 1, "kept")?))?;
    for qos in 0..=1 {
        writer.publish(&message(&topic, qos, "")?)?;
    }
    let mut reader = lab.client("reader")?;
    reader.subscribe(&[(&topic, 1)])?;
    reader.payloads(&["kept"])
}

fn retained_messages_outlive_the_publishers_session(lab: &Lab<'_>) -> Verdict {
    let topic = lab.retained_topic("t")?;
    let mut writer = lab.client("writer")?;
    writer.publish(&retained(message(&topic, 1, "kept")?))?;
    writer.disconnect()?;
    lab.client("writer")?.disconnect()?;
    let mut reader = lab.client("reader")?;
    reader.subscribe(&[(&topic, 1)])?;
    reader.payloads(&["kept"])
}

fn subscribing_again_sends_retained_messages_again(lab: &Lab<'_>) -> Verdict {
    let topic = lab.retained_topic("t")?;
    let mut client = lab.client("a")?;
    client.publish(&retained(message(&topic, 1, "kept")?))?;
    for qos in [1, 0, 1] {
        client.subscribe(&[(&topic, qos)])?;
        let got = client.message()?;
        same("RETAIN", got.retain, true)?;
        same("QoS", got.delivery.qos().bits(), qos)?;
    }
    client.quiet()
}

fn qos_of_a_retained_message_is_the_lower_of_both(lab: &Lab<'_>) -> Verdict {
    lab.needs_qos(2)?;
    let mut client = lab.client("a")?;
    for published in 0..=2 {
        let topic = lab.retained_topic(&format!("q{published}"))?;
        client.publish(&retained(message(&topic, published, "x")?))?;
        for granted in 0..=2 {
            client.subscribe(&[(&topic, granted)])?;
            let got = client.message()?;
            same(
                &format!("QoS published at {published} and granted {granted}"),
                got.delivery.qos().bits(),
                granted.min(published),
            )?;
        }
    }
    Ok(())
}

fn a_wildcard_gets_all_retained_messages_that_match(lab: &Lab<'_>) -> Verdict {
    lab.needs_wildcards()?;
    let mut client = lab.client("a")?;
    let mut wanted = Vec::new();
    for level in ["a", "a/b", "a/b/c", "b"] {
        let topic = lab.retained_topic(level)?;
        client.publish(&retained(message(&topic, 1, level)?))?;
        if level.starts_with('a') {
            wanted.push(level.to_owned());
        }
    }
    client.subscribe(&[(&lab.topic("a/#"), 1)])?;
    let mut got = (0..wanted.len())
        .map(|_| client.payload())
        .collect::<Verdict<Vec<String>>>()?;
    got.sort();
    same("the payloads", got, wanted)?;
    client.quiet()
}

fn retain_handling_0_sends_at_every_subscribe(lab: &Lab<'_>) -> Verdict {
    let topic = lab.retained_topic("t")?;
    let mut client = lab.client("a")?;
    client.publish(&retained(message(&topic, 0, "kept")?))?;
    for _ in 0..2 {
        client.subscribe(&[(&topic, 0)])?;
        client.payloads(&["kept"])?;
    }
    client.quiet()
}

fn retain_handling_1_sends_to_a_new_subscription_only(lab: &Lab<'_>) -> Verdict {
    let topic = lab.retained_topic("t")?;
    let mut client = lab.client("a")?;
    client.publish(&retained(message(&topic, 0, "kept")?))?;
    client.subscribe(&[(&topic, IF_NEW)])?;
    client.payloads(&["kept"])?;
    client.subscribe(&[(&topic, IF_NEW)])?;
    client.subscribe(&[(&topic, IF_NEW | 1)])?;
    client.quiet()?;
    client.unsubscribe(&[&topic])?;
    client.subscribe(&[(&topic, IF_NEW)])?;
    client.payloads(&["kept"])?;
    client.quiet()
}

fn retain_handling_1_sends_nothing_to_a_subscription_of_a_resumed_session(
    lab: &Lab<'_>,
) -> Verdict {
    let topic = lab.retained_topic("t")?;
    let mut writer = lab.client("writer")?;
    writer.publish(&retained(message(&topic, 0, "kept")?))?;
    let (mut reader, _) = lab.resume("reader")?;
    reader.subscribe(&[(&topic, IF_NEW)])?;
    reader.payloads(&["kept"])?;
    reader.disconnect()?;
    let mut reader = lab.back("reader")?;
    reader.subscribe(&[(&topic, IF_NEW)])?;
    reader.quiet()
}

fn retain_handling_2_sends_nothing(lab: &Lab<'_>) -> Verdict {
    let topic = lab.retained_topic("t")?;
    let mut client = lab.client("a")?;
    client.publish(&retained(message(&topic, 0, "kept")?))?;
    client.subscribe(&[(&topic, NEVER)])?;
    client.quiet()?;
    client.publish(&message(&topic, 0, "live")?)?;
    client.payloads(&["live"])
}

fn retain_as_published_keeps_the_flag(lab: &Lab<'_>) -> Verdict {
    let topic = lab.retained_topic("t")?;
    let mut client = lab.client("a")?;
    for (options, flagged) in [(AS_PUBLISHED, true), (0, false)] {
        client.subscribe(&[(&topic, options | NEVER)])?;
        client.publish(&retained(message(&topic, 0, "x")?))?;
        same(
            "RETAIN of a retained one",
            client.message()?.retain,
            flagged,
        )?;
        client.publish(&message(&topic, 0, "y")?)?;
        same("RETAIN of another", client.message()?.retain, false)?;
    }
    Ok(())
}

fn retained_messages_have_the_flag_whatever_the_subscription_says(lab: &Lab<'_>) -> Verdict {
    let topic = lab.retained_topic("t")?;
    let mut client = lab.client("a")?;
    client.publish(&retained(message(&topic, 0, "kept")?))?;
    for options in [0, AS_PUBLISHED] {
        client.subscribe(&[(&topic, options)])?;
        same("RETAIN", client.message()?.retain, true)?;
    }
    Ok(())
}

fn properties_are_kept_with_a_retained_message(lab: &Lab<'_>) -> Verdict {
    let topic = lab.retained_topic("t")?;
    let mut client = lab.client("a")?;
    let mut publish = retained(message(&topic, 0, "kept")?);
    publish.properties.content_type = Some("text/plain".into());
    publish.properties.payload_format = paloma_codec::PayloadFormat::Utf8;
    publish.properties.user_properties = user_properties(&[("b", "1"), ("a", "2"), ("b", "3")])?;
    client.publish(&publish)?;
    client.subscribe(&[(&topic, 0)])?;
    same(
        "the properties",
        client.message()?.properties,
        publish.properties,
    )
}

fn a_retained_message_ages_and_expires(lab: &Lab<'_>) -> Verdict {
    let topic = lab.retained_topic("t")?;
    let short = lab.retained_topic("short")?;
    let mut client = lab.client("a")?;
    let mut publish = retained(message(&topic, 0, "ages")?);
    publish.properties.message_expiry_seconds = Some(100);
    client.publish(&publish)?;
    let mut publish = retained(message(&short, 0, "expires")?);
    publish.properties.message_expiry_seconds = Some(1);
    client.publish(&publish)?;
    client.wait(std::time::Duration::from_millis(2_300));
    client.subscribe(&[(&short, 0)])?;
    client.quiet()?;
    client.subscribe(&[(&topic, 0)])?;
    let left = client.message()?.properties.message_expiry_seconds;
    ensure(
        left.is_some_and(|seconds| (60..=98).contains(&seconds)),
        format!("{left:?} seconds are left of 100 after 2.3"),
    )
}
