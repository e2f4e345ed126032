//! Shared subscriptions.

use super::{PROTOCOL, TOPIC_FILTER};
use crate::client::Client;
use crate::lab::{Lab, message, retained, text};
use crate::requests::NO_LOCAL;
use crate::suite::{Section, v5};
use crate::verdict::{Stop, Verdict, ensure, same};
use crate::wire;

// A line a test.
#[rustfmt::skip]
pub(super) fn section() -> Section {
    Section {
        name: "4.8 Subscriptions",
        tests: vec![
            v5("[MQTT-4.8.2-1]", a_share_name_is_at_least_one_character),
            v5("[MQTT-4.8.2-2]", a_share_name_holds_no_wildcard_and_is_followed_by_a_filter),
            v5("[MQTT-4.8.2-3]", the_qos_of_the_chosen_member_counts),
            v5("[PALOMA-5.0-shared-one-member]", each_message_goes_to_one_member),
            v5("[MQTT-4.5.0-1]", groups_and_plain_subscriptions_each_get_the_message),
            v5("[MQTT-4.8.2-4]", an_open_qos_2_delivery_stays_with_its_member),
            v5("[MQTT-4.8.2-5]", an_open_qos_2_delivery_of_a_member_whose_session_ends_goes_to_nobody),
            v5("[MQTT-4.8.2-6]", a_message_refused_by_a_member_is_offered_to_nobody_else),
            v5("[MQTT-3.8.3-4]", no_local_with_a_shared_subscription_is_refused),
            v5("[MQTT-3.10.4-1]", a_shared_subscription_is_another_than_the_plain_one),
            v5("[PALOMA-5.0-shared-retained]", no_retained_message_is_sent_to_a_shared_subscription),
        ],
    }
}

fn refused(lab: &Lab<'_>, filters: &[&str]) -> Verdict {
    lab.needs_shared()?;
    for filter in filters {
        let mut client = lab.client("a")?;
        let bytes = wire::subscribe(0x82, 1, &[0], &[(filter.as_bytes(), 0)]);
        client.send_bytes(&bytes)?;
        match client.read_within(std::time::Duration::from_secs(10))? {
            crate::client::Found::End => {}
            crate::client::Found::Packet(paloma_codec::Packet::SubAck(ack)) => ensure(
                ack.reasons.iter().all(|reason| reason.is_error()),
                format!("{filter} is granted"),
            )?,
            crate::client::Found::Packet(paloma_codec::Packet::Disconnect(said)) => ensure(
                TOPIC_FILTER.contains(&said.reason),
                format!("{filter}: {said:?}"),
            )?,
            other => return Err(Stop::failed(format!("{filter}: {other:?}"))),
        }
        client.cut();
    }
    Ok(())
}

fn a_share_name_is_at_least_one_character(lab: &Lab<'_>) -> Verdict {
    refused(lab, &["$share//a", "$share//#"])
}

fn a_share_name_holds_no_wildcard_and_is_followed_by_a_filter(lab: &Lab<'_>) -> Verdict {
    refused(
        lab,
        &[
            "$share/a+/b",
            "$share/#/b",
            "$share/+/b",
            "$share/g",
            "$share/g/",
        ],
    )
}

fn group(lab: &Lab<'_>, name: &str, topic: &str) -> String {
    format!("$share/{}/{topic}", lab.id(name))
}

fn the_qos_of_the_chosen_member_counts(lab: &Lab<'_>) -> Verdict {
    lab.needs_shared()?;
    lab.needs_qos(2)?;
    let topic = lab.topic("t");
    let filter = group(lab, "g", &topic);
    let mut member = lab.client("member")?;
    let mut writer = lab.client("writer")?;
    for qos in 0..=2 {
        member.subscribe(&[(&filter, qos)])?;
        writer.publish(&message(&topic, 2, "x")?)?;
        same("QoS", member.message()?.delivery.qos().bits(), qos)?;
    }
    Ok(())
}

fn each_message_goes_to_one_member(lab: &Lab<'_>) -> Verdict {
    lab.needs_shared()?;
    let topic = lab.topic("t");
    let filter = group(lab, "g", &topic);
    let mut members = [lab.client("m1")?, lab.client("m2")?, lab.client("m3")?];
    for member in &mut members {
        member.subscribe(&[(&filter, 0)])?;
    }
    let mut writer = lab.client("writer")?;
    let mut wanted: Vec<String> = (0..30).map(|number| format!("{number:02}")).collect();
    for number in &wanted {
        writer.publish(&message(&topic, 0, number)?)?;
    }
    let mut got = Vec::new();
    for member in &mut members {
        got.extend(drain(member)?);
    }
    got.sort();
    wanted.sort();
    same("what the members got together", got, wanted)
}

/// The QoS 0 messages that a client is sent, until none has come for a while.
fn drain(client: &mut Client) -> Verdict<Vec<String>> {
    let mut got = Vec::new();
    client.ping()?;
    while let Some(publish) = client.message_if_any()? {
        got.push(text(&publish));
    }
    Ok(got)
}

fn groups_and_plain_subscriptions_each_get_the_message(lab: &Lab<'_>) -> Verdict {
    lab.needs_shared()?;
    let topic = lab.topic("t");
    let mut first = lab.client("m1")?;
    let mut second = lab.client("m2")?;
    let mut plain = lab.client("plain")?;
    first.subscribe(&[(&group(lab, "g1", &topic), 1)])?;
    second.subscribe(&[(&group(lab, "g2", &topic), 1)])?;
    plain.subscribe(&[(&topic, 1)])?;
    let mut writer = lab.client("writer")?;
    writer.publish(&message(&topic, 1, "x")?)?;
    for client in [&mut first, &mut second, &mut plain] {
        client.payloads(&["x"])?;
        client.quiet()?;
    }
    Ok(())
}

fn an_open_qos_2_delivery_stays_with_its_member(lab: &Lab<'_>) -> Verdict {
    lab.needs_shared()?;
    lab.needs_qos(2)?;
    let topic = lab.topic("t");
    let filter = group(lab, "g", &topic);
    let (mut member, _) = lab.resume("member")?;
    member.subscribe(&[(&filter, 2)])?;
    let mut writer = lab.client("writer")?;
    writer.publish(&message(&topic, 2, "open")?)?;
    let got = member.unacknowledged()?;
    let mut other = lab.client("other")?;
    other.subscribe(&[(&filter, 2)])?;
    member.cut();
    other.quiet()?;
    let mut member = lab.back("member")?;
    let again = member.message()?;
    same("the identifier", again.delivery.id(), got.delivery.id())?;
    other.quiet()
}

fn an_open_qos_2_delivery_of_a_member_whose_session_ends_goes_to_nobody(lab: &Lab<'_>) -> Verdict {
    lab.needs_shared()?;
    lab.needs_qos(2)?;
    let topic = lab.topic("t");
    let filter = group(lab, "g", &topic);
    let mut member = lab.client("member")?;
    member.subscribe(&[(&filter, 2)])?;
    let mut writer = lab.client("writer")?;
    writer.publish(&message(&topic, 2, "open")?)?;
    member.unacknowledged()?;
    let mut other = lab.client("other")?;
    other.subscribe(&[(&filter, 2)])?;
    member.disconnect()?;
    other.quiet()
}

fn a_message_refused_by_a_member_is_offered_to_nobody_else(lab: &Lab<'_>) -> Verdict {
    lab.needs_shared()?;
    lab.needs_qos(2)?;
    let topic = lab.topic("t");
    let filter = group(lab, "g", &topic);
    let mut writer = lab.client("writer")?;
    for qos in 1..=2 {
        let mut member = lab.client("member")?;
        member.subscribe(&[(&filter, qos)])?;
        writer.publish(&message(&topic, qos, "refused")?)?;
        let got = member.unacknowledged()?;
        let mut other = lab.client("other")?;
        other.subscribe(&[(&filter, qos)])?;
        let id = got.delivery.id().map_or(0, paloma_codec::PacketId::get);
        let kind = if qos == 1 { 0x40 } else { 0x50 };
        let refusal = [&id.to_be_bytes()[..], &[0x80]].concat();
        member.send_bytes(&wire::packet(kind, &refusal))?;
        member.quiet()?;
        member.disconnect()?;
        other.quiet()?;
        other.disconnect()?;
    }
    Ok(())
}

fn no_local_with_a_shared_subscription_is_refused(lab: &Lab<'_>) -> Verdict {
    lab.needs_shared()?;
    let filters = [(&b"a"[..], NO_LOCAL), (&b"$share/g/a"[..], NO_LOCAL)];
    let bytes = wire::subscribe(0x82, 1, &[0], &filters);
    super::refuses(lab, "one of two", &bytes, PROTOCOL)
}

fn a_shared_subscription_is_another_than_the_plain_one(lab: &Lab<'_>) -> Verdict {
    lab.needs_shared()?;
    let topic = lab.topic("t");
    let filter = group(lab, "g", &topic);
    let mut client = lab.client("a")?;
    client.subscribe(&[(&topic, 0), (&filter, 0)])?;
    client.unsubscribe(&[&filter])?;
    client.publish(&message(&topic, 0, "plain")?)?;
    client.payloads(&["plain"])?;
    client.quiet()
}

fn no_retained_message_is_sent_to_a_shared_subscription(lab: &Lab<'_>) -> Verdict {
    lab.needs_shared()?;
    let topic = lab.retained_topic("t")?;
    let mut client = lab.client("a")?;
    client.publish(&retained(message(&topic, 0, "kept")?))?;
    client.subscribe(&[(&group(lab, "g", &topic), 0)])?;
    client.quiet()
}
