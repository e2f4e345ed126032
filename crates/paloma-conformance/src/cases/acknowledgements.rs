//! The exchanges of QoS 1 and 2, and what a new connection resumes of them.

use paloma_codec::{Delivery, PacketId, PubCompReason, Publish};

use super::publish::packet;
use crate::client::Client;
use crate::lab::{Lab, delivery, message, text};
use crate::suite::{Section, both, v5, v311};
use crate::verdict::{Stop, Verdict, ensure, same};
use crate::wire;

// A line a test.
#[rustfmt::skip]
pub(super) fn section() -> Section {
    Section {
        name: "4.3-4.6 QoS, resume and order",
        tests: vec![
            both("[MQTT-4.3.2-2] [MQTT-4.3.2-3] [MQTT-3.3.1-1] [MQTT-4.4.0-1] [MQTT311-4.3.2-1] [MQTT311-3.3.1-1] [MQTT311-4.4.0-1] [MQTT311-2.3.1-3]", an_unacknowledged_message_of_qos_1_is_sent_again_after_resume),
            both("[MQTT-4.3.3-2] [MQTT-4.3.3-3] [MQTT-4.4.0-1] [MQTT311-4.3.3-1] [MQTT311-4.4.0-1]", an_unacknowledged_message_of_qos_2_is_sent_again_after_resume),
            both("[MQTT-4.3.3-4] [MQTT-4.3.3-5] [MQTT-4.3.3-6] [MQTT-4.4.0-1] [MQTT311-4.3.3-1] [MQTT311-4.4.0-1]", after_pubrec_only_pubrel_is_sent_again),
            both("[MQTT-4.4.0-1] [MQTT311-4.4.0-1]", an_acknowledged_message_is_not_sent_again),
            both("[MQTT-4.4.0-1] [MQTT311-4.4.0-1]", nothing_is_sent_again_while_the_connection_lives).slow(),
            both("[MQTT-4.6.0-1] [MQTT-4.6.0-5] [MQTT311-4.6.0-1] [MQTT311-4.6.0-6]", messages_keep_their_order_across_resume),
            both("[MQTT-4.3.2-4] [MQTT-4.3.2-5] [MQTT311-4.3.2-2]", an_identifier_means_a_new_message_after_puback),
            // In 5.0 a client may not send it again while the connection lives.
            v311("[MQTT311-4.3.3-2]", a_repeated_publish_of_qos_2_is_answered_and_not_delivered_again),
            both("[MQTT-4.3.3-8] [MQTT-4.3.3-10] [MQTT311-4.3.3-2]", a_second_replay_of_a_publish_of_qos_2_is_not_delivered_again_after_resume),
            both("[MQTT-4.3.3-11] [MQTT-4.3.3-12] [MQTT311-4.3.3-2]", an_identifier_means_a_new_message_after_pubcomp),
            both("[MQTT-4.3.3-11] [MQTT311-4.3.3-2] [MQTT311-2.3.1-6]", a_repeated_pubrel_is_answered_with_pubcomp),
            v5("[MQTT-3.7.2-1] [MQTT-4.3.3-11]", a_pubrel_of_an_unknown_exchange_is_answered_with_pubcomp),
            v5("[MQTT-4.4.0-2]", a_message_refused_with_an_error_is_not_sent_again),
            v5("[MQTT-4.3.3-9] [MQTT-3.5.2-1]", a_pubrec_with_an_error_ends_the_exchange),
            v5("[MQTT-3.4.2-1]", a_puback_with_every_code_of_its_own_is_accepted),
            v5("[MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1] [PALOMA-5.0-reason-acks]", a_code_that_the_acknowledgement_may_not_carry_closes_the_connection),
            both("[MQTT-4.3.2-4] [MQTT311-4.3.2-2]", a_dup_publish_never_seen_before_is_delivered),
            both("[MQTT-4.3.3-10] [MQTT311-4.3.3-2]", a_message_of_qos_2_arrives_exactly_once),
            both("[MQTT-4.1.0-1] [MQTT311-4.1.0-1] [MQTT311-4.1.0-2]", an_open_exchange_of_qos_2_survives_a_broken_connection),
            both("[MQTT-4.3.3-13] [MQTT311-4.3.3-2]", acknowledgements_of_nothing_do_no_harm),
        ],
    }
}

fn id_of(publish: &Publish) -> Verdict<PacketId> {
    publish
        .delivery
        .id()
        .ok_or_else(|| Stop::failed("no identifier above QoS 0"))
}

/// A subscriber with a session that lasts, which has been sent one message and has not acknowledged it.
fn with_one_open(lab: &Lab<'_>, qos: u8) -> Verdict<(Client, Publish)> {
    lab.needs_qos(qos)?;
    let topic = lab.topic("t");
    let (mut reader, _) = lab.resume("reader")?;
    reader.subscribe(&[(&topic, qos)])?;
    let mut writer = lab.client("writer")?;
    writer.publish(&message(&topic, qos, "open")?)?;
    let got = reader.unacknowledged()?;
    same("DUP of the first time", got.delivery.is_dup(), false)?;
    Ok((reader, got))
}

fn an_unacknowledged_message_of_qos_1_is_sent_again_after_resume(lab: &Lab<'_>) -> Verdict {
    let (reader, first) = with_one_open(lab, 1)?;
    reader.cut();
    let mut reader = lab.back("reader")?;
    let again = reader.message()?;
    let id = id_of(&first)?;
    same(
        "the resend",
        again.delivery,
        Delivery::AtLeastOnce { id, dup: true },
    )?;
    same("its payload", text(&again), "open")?;
    reader.quiet()
}

fn an_unacknowledged_message_of_qos_2_is_sent_again_after_resume(lab: &Lab<'_>) -> Verdict {
    let (reader, first) = with_one_open(lab, 2)?;
    reader.cut();
    let mut reader = lab.back("reader")?;
    let again = reader.message()?;
    let id = id_of(&first)?;
    same(
        "the resend",
        again.delivery,
        Delivery::ExactlyOnce { id, dup: true },
    )?;
    reader.quiet()
}

fn after_pubrec_only_pubrel_is_sent_again(lab: &Lab<'_>) -> Verdict {
    let (mut reader, first) = with_one_open(lab, 2)?;
    let id = id_of(&first)?;
    reader.send_bytes(&wire::ack(0x50, id.get()))?;
    reader.pub_rel(id)?;
    reader.cut();
    for _ in 0..2 {
        let mut reader = lab.back("reader")?;
        reader.pub_rel(id)?;
        reader.quiet()?;
        reader.cut();
    }
    let mut reader = lab.back("reader")?;
    reader.pub_rel(id)?;
    reader.send_bytes(&wire::ack(0x70, id.get()))?;
    reader.quiet()?;
    reader.cut();
    lab.back("reader")?.quiet()
}

fn an_acknowledged_message_is_not_sent_again(lab: &Lab<'_>) -> Verdict {
    let (mut reader, first) = with_one_open(lab, 1)?;
    reader.acknowledge(&first)?;
    reader.ping()?;
    reader.cut();
    lab.back("reader")?.quiet()
}

fn nothing_is_sent_again_while_the_connection_lives(lab: &Lab<'_>) -> Verdict {
    let (mut reader, first) = with_one_open(lab, 1)?;
    reader.wait(std::time::Duration::from_secs(3));
    reader.quiet()?;
    reader.acknowledge(&first)?;
    reader.quiet()
}

fn messages_keep_their_order_across_resume(lab: &Lab<'_>) -> Verdict {
    lab.needs_qos(2)?;
    let topic = lab.topic("t");
    let (mut reader, _) = lab.resume("reader")?;
    reader.subscribe(&[(&topic, 2)])?;
    let mut writer = lab.client("writer")?;
    for number in ["1", "2", "3"] {
        writer.publish(&message(&topic, 1, number)?)?;
        reader.unacknowledged()?;
    }
    reader.cut();
    for number in ["4", "5", "6"] {
        writer.publish(&message(&topic, 1, number)?)?;
    }
    let mut reader = lab.back("reader")?;
    reader.payloads(&["1", "2", "3", "4", "5", "6"])?;
    reader.quiet()
}

fn an_identifier_means_a_new_message_after_puback(lab: &Lab<'_>) -> Verdict {
    lab.needs_qos(1)?;
    let topic = lab.topic("t");
    let mut reader = lab.client("reader")?;
    reader.subscribe(&[(&topic, 0)])?;
    let mut writer = lab.client("writer")?;
    for (payload, dup) in [("first", false), ("second", false), ("third", true)] {
        let mut publish = message(&topic, 1, payload)?;
        publish.delivery = delivery(1, 5, dup);
        writer.send(&packet(&publish))?;
        writer.pub_ack(id(5))?;
    }
    reader.payloads(&["first", "second", "third"])
}

fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap_or(PacketId::MIN)
}

fn a_repeated_publish_of_qos_2_is_answered_and_not_delivered_again(lab: &Lab<'_>) -> Verdict {
    lab.needs_qos(2)?;
    let topic = lab.topic("t");
    let mut reader = lab.client("reader")?;
    reader.subscribe(&[(&topic, 0)])?;
    let mut writer = lab.client("writer")?;
    let mut publish = message(&topic, 2, "once")?;
    for dup in [false, true, true] {
        publish.delivery = delivery(2, 5, dup);
        writer.send(&packet(&publish))?;
        writer.pub_rec(id(5))?;
    }
    writer.send_bytes(&wire::ack(0x62, 5))?;
    writer.pub_comp(id(5))?;
    reader.payloads(&["once"])?;
    reader.quiet()
}

fn a_second_replay_of_a_publish_of_qos_2_is_not_delivered_again_after_resume(
    lab: &Lab<'_>,
) -> Verdict {
    lab.needs_qos(2)?;
    let topic = lab.topic("t");
    let mut reader = lab.client("reader")?;
    reader.subscribe(&[(&topic, 2)])?;
    let mut publish = message(&topic, 2, "once")?;
    publish.delivery = delivery(2, 5, false);
    let (mut writer, _) = lab.resume("writer")?;
    writer.send(&packet(&publish))?;
    writer.pub_rec(id(5))?;
    writer.cut();
    publish.delivery = delivery(2, 5, true);
    for _ in 0..2 {
        let mut writer = lab.back("writer")?;
        writer.send(&packet(&publish))?;
        writer.pub_rec(id(5))?;
        writer.cut();
    }
    let mut writer = lab.back("writer")?;
    writer.send_bytes(&wire::ack(0x62, 5))?;
    same("PUBCOMP", writer.pub_comp(id(5))?, PubCompReason::Success)?;
    reader.payloads(&["once"])?;
    reader.quiet()
}

fn an_identifier_means_a_new_message_after_pubcomp(lab: &Lab<'_>) -> Verdict {
    lab.needs_qos(2)?;
    let topic = lab.topic("t");
    let mut reader = lab.client("reader")?;
    reader.subscribe(&[(&topic, 0)])?;
    let mut writer = lab.client("writer")?;
    for (payload, dup) in [("first", false), ("second", false), ("third", true)] {
        let mut publish = message(&topic, 2, payload)?;
        publish.delivery = delivery(2, 5, dup);
        writer.send(&packet(&publish))?;
        writer.pub_rec(id(5))?;
        writer.send_bytes(&wire::ack(0x62, 5))?;
        writer.pub_comp(id(5))?;
    }
    reader.payloads(&["first", "second", "third"])
}

fn a_repeated_pubrel_is_answered_with_pubcomp(lab: &Lab<'_>) -> Verdict {
    lab.needs_qos(2)?;
    let mut writer = lab.client("writer")?;
    let mut publish = message(&lab.topic("t"), 2, "x")?;
    publish.delivery = delivery(2, 5, false);
    writer.send(&packet(&publish))?;
    writer.pub_rec(id(5))?;
    for _ in 0..3 {
        writer.send_bytes(&wire::ack(0x62, 5))?;
        writer.pub_comp(id(5))?;
    }
    writer.quiet()
}

fn a_pubrel_of_an_unknown_exchange_is_answered_with_pubcomp(lab: &Lab<'_>) -> Verdict {
    lab.needs_qos(2)?;
    let mut writer = lab.client("writer")?;
    writer.send_bytes(&wire::ack(0x62, 1234))?;
    let reason = writer.pub_comp(id(1234))?;
    ensure(
        [
            PubCompReason::Success,
            PubCompReason::PacketIdentifierNotFound,
        ]
        .contains(&reason),
        format!("PUBCOMP says {reason:?}"),
    )
}

fn a_message_refused_with_an_error_is_not_sent_again(lab: &Lab<'_>) -> Verdict {
    for qos in 1..=2 {
        let (mut reader, first) = with_one_open(lab, qos)?;
        let id = id_of(&first)?.get().to_be_bytes();
        let kind = if qos == 1 { 0x40 } else { 0x50 };
        reader.send_bytes(&wire::packet(kind, &[&id[..], &[0x83]].concat()))?;
        reader.quiet()?;
        reader.cut();
        let reader = lab.back("reader")?;
        let mut reader = reader;
        reader.quiet()?;
        reader.disconnect()?;
        lab.client("reader")?.disconnect()?;
    }
    Ok(())
}

fn a_pubrec_with_an_error_ends_the_exchange(lab: &Lab<'_>) -> Verdict {
    let (mut reader, first) = with_one_open(lab, 2)?;
    let id = id_of(&first)?.get().to_be_bytes();
    reader.send_bytes(&wire::packet(0x50, &[&id[..], &[0x97]].concat()))?;
    // No PUBREL follows, and the next message is not held up.
    reader.quiet()?;
    let mut writer = lab.client("writer")?;
    writer.publish(&message(&lab.topic("t"), 2, "next")?)?;
    reader.payloads(&["next"])
}

fn a_puback_with_every_code_of_its_own_is_accepted(lab: &Lab<'_>) -> Verdict {
    lab.needs_qos(1)?;
    let topic = lab.topic("t");
    let mut reader = lab.client("reader")?;
    reader.subscribe(&[(&topic, 1)])?;
    let mut writer = lab.client("writer")?;
    for reason in paloma_codec::PubAckReason::ALL {
        writer.publish(&message(&topic, 1, "x")?)?;
        let got = reader.unacknowledged()?;
        let id = id_of(&got)?.get().to_be_bytes();
        let explained = [&id[..], &[reason.code(), 7, 0x1F, 0, 4], b"why?"].concat();
        reader.send_bytes(&wire::packet(0x40, &explained))?;
        reader.ping()?;
    }
    reader.quiet()
}

fn a_code_that_the_acknowledgement_may_not_carry_closes_the_connection(lab: &Lab<'_>) -> Verdict {
    for (first, codes) in [
        (0x40, [0x01, 0x11, 0x92, 0xFF]),
        (0x50, [0x01, 0x11, 0x92, 0xFF]),
        (0x62, [0x01, 0x10, 0x80, 0xFF]),
        (0x70, [0x01, 0x10, 0x80, 0xFF]),
    ] {
        for code in codes {
            let bytes = wire::packet(first, &[0, 1, code]);
            let what = format!("{first:#04x} with {code:#04x}");
            super::refuses(lab, &what, &bytes, super::EITHER)?;
        }
    }
    Ok(())
}

fn a_dup_publish_never_seen_before_is_delivered(lab: &Lab<'_>) -> Verdict {
    lab.needs_qos(2)?;
    let topic = lab.topic("t");
    let mut reader = lab.client("reader")?;
    reader.subscribe(&[(&topic, 0)])?;
    let mut writer = lab.client("writer")?;
    for (qos, payload) in [(1, "one"), (2, "two")] {
        let mut publish = message(&topic, qos, payload)?;
        publish.delivery = delivery(qos, 5, true);
        writer.send(&packet(&publish))?;
        if qos == 1 {
            writer.pub_ack(id(5))?;
        } else {
            writer.pub_rec(id(5))?;
            writer.send_bytes(&wire::ack(0x62, 5))?;
            writer.pub_comp(id(5))?;
        }
    }
    reader.payloads(&["one", "two"])
}

fn a_message_of_qos_2_arrives_exactly_once(lab: &Lab<'_>) -> Verdict {
    lab.needs_qos(2)?;
    let topic = lab.topic("t");
    let mut client = lab.client("a")?;
    client.subscribe(&[(&topic, 2)])?;
    client.publish(&message(&topic, 2, "once")?)?;
    let got = client.message()?;
    ensure(
        matches!(got.delivery, Delivery::ExactlyOnce { dup: false, .. }),
        format!("it came as {:?}", got.delivery),
    )?;
    client.quiet()
}

fn an_open_exchange_of_qos_2_survives_a_broken_connection(lab: &Lab<'_>) -> Verdict {
    lab.needs_qos(2)?;
    let topic = lab.topic("t");
    let mut reader = lab.client("reader")?;
    reader.subscribe(&[(&topic, 2)])?;
    let (mut writer, _) = lab.resume("writer")?;
    let mut publish = message(&topic, 2, "kept")?;
    publish.delivery = delivery(2, 77, false);
    writer.send(&packet(&publish))?;
    writer.pub_rec(id(77))?;
    writer.cut();
    let mut writer = lab.back("writer")?;
    writer.send_bytes(&wire::ack(0x62, 77))?;
    same("PUBCOMP", writer.pub_comp(id(77))?, PubCompReason::Success)?;
    reader.payloads(&["kept"])?;
    reader.quiet()
}

fn acknowledgements_of_nothing_do_no_harm(lab: &Lab<'_>) -> Verdict {
    lab.needs_qos(2)?;
    // The standards say nothing of a PUBACK, PUBREC or PUBCOMP that nobody waits for: closing is allowed, silence too, and a
    // PUBREC may be answered with PUBREL. Other clients must not notice.
    let topic = lab.topic("t");
    let mut reader = lab.client("reader")?;
    reader.subscribe(&[(&topic, 1)])?;
    for first in [0x40, 0x50, 0x70] {
        let mut stray = lab.client("stray")?;
        stray.send_bytes(&wire::ack(first, 4321))?;
        stray.read_within(std::time::Duration::from_millis(100))?;
        stray.cut();
    }
    let mut writer = lab.client("writer")?;
    writer.publish(&message(&topic, 1, "on")?)?;
    reader.payloads(&["on"])
}
