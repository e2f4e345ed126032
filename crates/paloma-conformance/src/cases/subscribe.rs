//! SUBSCRIBE and SUBACK.

use paloma_codec::{PacketId, SubAckReason, Subscribe, SubscriptionId};

use super::{EITHER, PROTOCOL, TOPIC_FILTER, refuses};
use crate::lab::{Lab, message, not_applicable, retained};
use crate::requests::{NEVER, NO_LOCAL, filter};
use crate::suite::{Section, both, v5, v311};
use crate::verdict::{Verdict, ensure, same};
use crate::wire;

// A line a test.
#[rustfmt::skip]
pub(super) fn section() -> Section {
    Section {
        name: "3.8 SUBSCRIBE, 3.9 SUBACK",
        tests: vec![
            both("[MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-2.2.1-6] [MQTT311-3.8.4-1] [MQTT311-3.8.4-2] [MQTT311-2.3.1-7]", a_subscribe_is_answered_with_its_identifier),
            both("[MQTT-3.8.3-2] [MQTT311-3.8.3-3]", a_subscribe_without_filters_closes_the_connection),
            both("[MQTT-3.8.4-5] [MQTT-3.8.4-6] [MQTT-3.8.4-7] [MQTT-3.9.3-1] [MQTT311-3.8.4-4] [MQTT311-3.8.4-5] [MQTT311-3.9.3-1]", each_filter_has_its_code_in_order),
            both("[MQTT-3.9.3-2] [MQTT311-3.9.3-2]", many_filters_in_one_packet_are_answered_each),
            v5("[MQTT-3.8.3-5] [PALOMA-5.0-options-reserved]", reserved_bits_of_the_options_close_the_connection),
            v311("[MQTT311-3-8.3-4]", options_that_3_1_1_lacks_close_the_connection),
            both("[MQTT-3.8.3-5] [MQTT311-3-8.3-4]", a_subscription_of_qos_3_closes_the_connection),
            v5("[PALOMA-5.0-options-retain-handling]", retain_handling_3_closes_the_connection),
            both("[MQTT-4.7.1-1] [MQTT311-4.7.1-2]", a_hash_that_is_not_alone_and_last_is_refused),
            both("[MQTT-4.7.1-2] [MQTT311-4.7.1-3]", a_plus_that_does_not_fill_its_level_is_refused),
            both("[MQTT-4.7.3-1] [MQTT311-4.7.3-1]", an_empty_filter_is_refused),
            both("[MQTT-3.8.4-3] [MQTT311-3.8.4-3]", the_same_filter_replaces_the_subscription),
            both("[MQTT-3.8.4-4] [MQTT311-3.8.4-3]", replacing_a_subscription_loses_no_message),
            both("[MQTT-3.8.4-5] [MQTT311-3.8.4-4]", the_same_filter_twice_in_one_packet_is_one_subscription),
            both("[MQTT311-3.8.3-2] [MQTT-3.8.4-7]", wildcards_work_or_are_declared_not_to),
            v5("[MQTT-3.8.3-3]", no_local_keeps_a_clients_own_messages_from_it),
            v5("[MQTT-3.8.3-3]", no_local_holds_for_the_connection_that_resumes),
            v5("[MQTT-3.8.3-4]", no_local_on_a_shared_subscription_closes_the_connection),
            v5("[MQTT-3.3.4-3] [MQTT-3.3.4-4] [MQTT-3.3.4-5]", subscription_identifiers_come_with_their_messages),
            v5("[MQTT-3.3.4-3] [MQTT-3.3.4-4] [MQTT-3.3.4-5]", overlapping_subscriptions_bring_all_their_identifiers),
            v5("[MQTT-3.3.4-3] [MQTT-3.8.4-3]", a_replaced_subscription_has_the_new_identifier),
            v5("[MQTT-3.3.4-3]", subscription_identifiers_are_kept_through_queue_and_resume),
            v5("[MQTT-3.3.4-3]", retained_messages_bring_the_identifier_of_their_subscription),
            v5("[PALOMA-5.0-zero-subscription-identifier]", a_subscription_identifier_of_0_closes_the_connection),
            v5("[PALOMA-5.0-prop-twice]", two_subscription_identifiers_in_one_subscribe_close_the_connection),
        ],
    }
}

fn a_subscribe_is_answered_with_its_identifier(lab: &Lab<'_>) -> Verdict {
    let mut client = lab.client("a")?;
    let id = PacketId::new(4_711).unwrap_or(PacketId::MIN);
    let filters = vec![filter(&lab.topic("t"), 1)?];
    let ack = client.subscribe_with(Subscribe::new(id, filters))?;
    same("the identifier", ack.id, id)?;
    same("the number of codes", ack.reasons.len(), 1)?;
    client.quiet()
}

fn a_subscribe_without_filters_closes_the_connection(lab: &Lab<'_>) -> Verdict {
    let none = wire::no_properties(lab.version());
    let bytes = wire::subscribe(0x82, 1, &none, &[]);
    refuses(lab, "no filter", &bytes, EITHER)
}

fn each_filter_has_its_code_in_order(lab: &Lab<'_>) -> Verdict {
    lab.needs_qos(2)?;
    let mut client = lab.client("a")?;
    let topics: Vec<String> = (0..6)
        .map(|number| lab.topic(&number.to_string()))
        .collect();
    let wanted = [2, 0, 1, 1, 0, 2];
    let filters: Vec<(&str, u8)> = topics.iter().map(String::as_str).zip(wanted).collect();
    same(
        "the codes",
        client.subscribe_for_codes(&filters)?,
        wanted.to_vec(),
    )?;
    // Each acts as if it had come alone.
    let mut writer = lab.client("writer")?;
    for (topic, qos) in filters {
        writer.publish(&message(topic, 2, "x")?)?;
        same("QoS", client.message()?.delivery.qos().bits(), qos)?;
    }
    Ok(())
}

fn many_filters_in_one_packet_are_answered_each(lab: &Lab<'_>) -> Verdict {
    let mut client = lab.client("a")?;
    for count in [1, 10, 127, 128, 300] {
        let topics: Vec<String> = (0..count)
            .map(|number| lab.topic(&number.to_string()))
            .collect();
        let filters: Vec<(&str, u8)> = topics.iter().map(|topic| (topic.as_str(), 1)).collect();
        let codes = client.subscribe_for_codes(&filters)?;
        same("the number of codes", codes.len(), count)?;
        ensure(
            codes
                .iter()
                .all(|code| SubAckReason::from_code(*code).is_some()),
            "a code that SUBACK may not carry",
        )?;
    }
    client.quiet()
}

fn reserved_bits_of_the_options_close_the_connection(lab: &Lab<'_>) -> Verdict {
    for options in [0x40, 0x80, 0xC0, 0x41] {
        let bytes = wire::subscribe(0x82, 1, &[0], &[(b"a", options)]);
        refuses(lab, &format!("{options:#04x}"), &bytes, EITHER)?;
    }
    Ok(())
}

fn options_that_3_1_1_lacks_close_the_connection(lab: &Lab<'_>) -> Verdict {
    for options in [0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xFC] {
        let bytes = wire::subscribe(0x82, 1, &[], &[(b"a", options)]);
        refuses(lab, &format!("{options:#04x}"), &bytes, &[])?;
    }
    Ok(())
}

fn a_subscription_of_qos_3_closes_the_connection(lab: &Lab<'_>) -> Verdict {
    let none = wire::no_properties(lab.version());
    let bytes = wire::subscribe(0x82, 1, &none, &[(b"a", 0), (b"b", 3)]);
    refuses(lab, "QoS 3", &bytes, EITHER)
}

fn retain_handling_3_closes_the_connection(lab: &Lab<'_>) -> Verdict {
    let bytes = wire::subscribe(0x82, 1, &[0], &[(b"a", 0x30)]);
    refuses(lab, "Retain Handling 3", &bytes, EITHER)
}

/// A filter that is none: the connection ends, or SUBACK says so.
fn refused_filters(lab: &Lab<'_>, filters: &[&str]) -> Verdict {
    let none = wire::no_properties(lab.version());
    for filter in filters {
        let mut client = lab.client("a")?;
        let bytes = wire::subscribe(0x82, 1, &none, &[(filter.as_bytes(), 0)]);
        client.send_bytes(&bytes)?;
        match client.read_within(std::time::Duration::from_secs(10))? {
            crate::client::Found::End => {}
            crate::client::Found::Packet(paloma_codec::Packet::SubAck(ack)) => ensure(
                ack.reasons.iter().all(|reason| reason.is_error()),
                format!("{filter} is granted: {ack:?}"),
            )?,
            crate::client::Found::Packet(paloma_codec::Packet::Disconnect(said)) => {
                ensure(
                    TOPIC_FILTER.contains(&said.reason),
                    format!("{filter}: {said:?}"),
                )?;
            }
            other => {
                return Err(crate::verdict::Stop::failed(format!("{filter}: {other:?}")));
            }
        }
        client.cut();
    }
    Ok(())
}

fn a_hash_that_is_not_alone_and_last_is_refused(lab: &Lab<'_>) -> Verdict {
    refused_filters(lab, &["a#", "a/#/b", "#/a", "a/b#", "##", "a/#b"])
}

fn a_plus_that_does_not_fill_its_level_is_refused(lab: &Lab<'_>) -> Verdict {
    refused_filters(lab, &["a+", "+a", "a/b+", "a/+b/c", "++", "+#"])
}

fn an_empty_filter_is_refused(lab: &Lab<'_>) -> Verdict {
    refused_filters(lab, &[""])
}

fn the_same_filter_replaces_the_subscription(lab: &Lab<'_>) -> Verdict {
    lab.needs_qos(2)?;
    let topic = lab.topic("t");
    let mut client = lab.client("a")?;
    for qos in [0, 2, 1] {
        client.subscribe(&[(&topic, qos)])?;
        client.publish(&message(&topic, 2, "x")?)?;
        same("QoS", client.message()?.delivery.qos().bits(), qos)?;
        client.quiet()?;
    }
    Ok(())
}

fn replacing_a_subscription_loses_no_message(lab: &Lab<'_>) -> Verdict {
    let topic = lab.topic("t");
    let mut reader = lab.client("reader")?;
    reader.subscribe(&[(&topic, 1)])?;
    let mut writer = lab.client("writer")?;
    let numbers: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    for number in &numbers {
        writer.publish(&message(&topic, 1, number)?)?;
        reader.subscribe(&[(&topic, 1)])?;
    }
    let wanted: Vec<&str> = numbers.iter().map(String::as_str).collect();
    reader.payloads(&wanted)?;
    reader.quiet()
}

fn the_same_filter_twice_in_one_packet_is_one_subscription(lab: &Lab<'_>) -> Verdict {
    let topic = lab.topic("t");
    let mut client = lab.client("a")?;
    client.subscribe(&[(&topic, 0), (&topic, 1)])?;
    client.publish(&message(&topic, 1, "x")?)?;
    same("QoS", client.message()?.delivery.qos().bits(), 1)?;
    client.quiet()
}

fn wildcards_work_or_are_declared_not_to(lab: &Lab<'_>) -> Verdict {
    let mut client = lab.client("a")?;
    let codes = client.subscribe_for_codes(&[(&lab.topic("+/b"), 0)])?;
    if lab.declared().wildcard_subscriptions_available {
        same("the code", codes, vec![0])?;
        client.publish(&message(&lab.topic("a/b"), 0, "x")?)?;
        return client.payloads(&["x"]);
    }
    ensure(
        codes.iter().all(|code| [0x80, 0xA2].contains(code)),
        format!("the codes are {codes:02x?}"),
    )
}

fn no_local_keeps_a_clients_own_messages_from_it(lab: &Lab<'_>) -> Verdict {
    let topic = lab.topic("t");
    let mut client = lab.client("a")?;
    let mut other = lab.client("b")?;
    client.subscribe(&[(&topic, NO_LOCAL)])?;
    client.publish(&message(&topic, 0, "own")?)?;
    other.publish(&message(&topic, 0, "another's")?)?;
    client.payloads(&["another's"])?;
    client.subscribe(&[(&topic, 0)])?;
    client.publish(&message(&topic, 0, "own")?)?;
    client.payloads(&["own"])
}

fn no_local_holds_for_the_connection_that_resumes(lab: &Lab<'_>) -> Verdict {
    let topic = lab.topic("t");
    let (mut client, _) = lab.resume("a")?;
    client.subscribe(&[(&topic, NO_LOCAL | 1)])?;
    client.disconnect()?;
    let mut client = lab.back("a")?;
    client.publish(&message(&topic, 1, "own")?)?;
    client.quiet()
}

fn no_local_on_a_shared_subscription_closes_the_connection(lab: &Lab<'_>) -> Verdict {
    lab.needs_shared()?;
    let bytes = wire::subscribe(0x82, 1, &[0], &[(b"$share/g/a", NO_LOCAL)]);
    refuses(lab, "No Local", &bytes, PROTOCOL)
}

/// Subscribes with an identifier.
fn identified(
    client: &mut crate::client::Client,
    topic: &str,
    options: u8,
    number: u32,
) -> Verdict {
    let mut subscribe = Subscribe::new(client.fresh_id(), vec![filter(topic, options)?]);
    subscribe.subscription_id = SubscriptionId::new(number);
    let ack = client.subscribe_with(subscribe)?;
    ensure(
        ack.reasons.iter().all(|reason| !reason.is_error()),
        format!("{ack:?}"),
    )
}

fn numbers(publish: &paloma_codec::Publish) -> Vec<u32> {
    let ids = publish.properties.subscription_ids.iter();
    let mut numbers: Vec<u32> = ids.map(|id| id.get()).collect();
    numbers.sort_unstable();
    numbers
}

fn subscription_identifiers_come_with_their_messages(lab: &Lab<'_>) -> Verdict {
    lab.needs_subscription_ids()?;
    let mut client = lab.client("a")?;
    for number in [1, 127, 128, 16_384, SubscriptionId::MAX] {
        let topic = lab.topic(&number.to_string());
        identified(&mut client, &topic, 0, number)?;
        client.publish(&message(&topic, 0, "x")?)?;
        same("the identifiers", numbers(&client.message()?), vec![number])?;
    }
    client.subscribe(&[(&lab.topic("none"), 0)])?;
    client.publish(&message(&lab.topic("none"), 0, "x")?)?;
    same(
        "no identifiers",
        numbers(&client.message()?),
        Vec::<u32>::new(),
    )
}

fn overlapping_subscriptions_bring_all_their_identifiers(lab: &Lab<'_>) -> Verdict {
    lab.needs_subscription_ids()?;
    lab.needs_wildcards()?;
    let mut client = lab.client("a")?;
    identified(&mut client, &lab.topic("+"), 0, 3)?;
    identified(&mut client, &lab.topic("a"), 0, 7)?;
    client.subscribe(&[(&lab.topic("#"), 0)])?;
    client.publish(&message(&lab.topic("a"), 0, "x")?)?;
    let mut all = numbers(&client.message()?);
    if all != [3, 7] {
        // One copy for each subscription, then, each with its own or with none.
        for _ in 0..2 {
            let more = numbers(&client.message()?);
            ensure(more.len() <= 1, format!("a copy with {more:?}"))?;
            all.extend(more);
        }
        all.sort_unstable();
    }
    same("the identifiers", all, vec![3, 7])?;
    client.quiet()
}

fn a_replaced_subscription_has_the_new_identifier(lab: &Lab<'_>) -> Verdict {
    lab.needs_subscription_ids()?;
    let topic = lab.topic("t");
    let mut client = lab.client("a")?;
    identified(&mut client, &topic, 0, 5)?;
    identified(&mut client, &topic, 0, 6)?;
    client.publish(&message(&topic, 0, "x")?)?;
    same("the identifiers", numbers(&client.message()?), vec![6])?;
    client.subscribe(&[(&topic, 0)])?;
    client.publish(&message(&topic, 0, "x")?)?;
    same(
        "no identifiers",
        numbers(&client.message()?),
        Vec::<u32>::new(),
    )
}

fn subscription_identifiers_are_kept_through_queue_and_resume(lab: &Lab<'_>) -> Verdict {
    lab.needs_subscription_ids()?;
    let topic = lab.topic("t");
    let (mut reader, _) = lab.resume("reader")?;
    identified(&mut reader, &topic, 1, 42)?;
    reader.disconnect()?;
    let mut writer = lab.client("writer")?;
    writer.publish(&message(&topic, 1, "waiting")?)?;
    let mut reader = lab.back("reader")?;
    let got = reader.unacknowledged()?;
    same("the identifiers", numbers(&got), vec![42])?;
    reader.cut();
    let mut reader = lab.back("reader")?;
    let again = reader.message()?;
    same("DUP", again.delivery.is_dup(), true)?;
    same("the identifiers of the resend", numbers(&again), vec![42])?;
    writer.publish(&message(&topic, 1, "live")?)?;
    same("the identifiers", numbers(&reader.message()?), vec![42])
}

fn retained_messages_bring_the_identifier_of_their_subscription(lab: &Lab<'_>) -> Verdict {
    lab.needs_subscription_ids()?;
    let topic = lab.retained_topic("t")?;
    let mut client = lab.client("a")?;
    client.publish(&retained(message(&topic, 0, "kept")?))?;
    identified(&mut client, &topic, 0, 9)?;
    same("the identifiers", numbers(&client.message()?), vec![9])?;
    identified(&mut client, &topic, NEVER, 10)?;
    client.quiet()
}

fn a_subscription_identifier_of_0_closes_the_connection(lab: &Lab<'_>) -> Verdict {
    let block = wire::block(&[&[0x0B, 0]]);
    let bytes = wire::subscribe(0x82, 1, &block, &[(b"a", 0)]);
    refuses(lab, "0", &bytes, EITHER)
}

fn two_subscription_identifiers_in_one_subscribe_close_the_connection(lab: &Lab<'_>) -> Verdict {
    if !lab.declared().subscription_ids_available {
        return not_applicable("the broker has no subscription identifiers");
    }
    let block = wire::block(&[&[0x0B, 1], &[0x0B, 2]]);
    let bytes = wire::subscribe(0x82, 1, &block, &[(b"a", 0)]);
    refuses(lab, "two", &bytes, EITHER)
}
