//! Windows and sizes.

use std::num::NonZeroU32;

use paloma_codec::{Connect, DisconnectReason, ReceiveMaximum};

use super::publish::packet;
use crate::lab::{Lab, delivery, message};
use crate::suite::{Section, v5, v311};
use crate::verdict::{Verdict, ensure, same};
use crate::wire;

// A line a test.
#[rustfmt::skip]
pub(super) fn section() -> Section {
    Section {
        name: "4.9 Flow control and sizes",
        tests: vec![
            v5("[MQTT-3.3.4-9] [MQTT-4.9.0-1] [MQTT-4.9.0-2]", no_more_messages_are_open_than_the_receive_maximum),
            v5("[MQTT-3.3.4-10] [MQTT-4.9.0-3]", other_packets_are_answered_while_the_window_is_full),
            v5("[MQTT-3.3.4-9] [MQTT-3.3.4-10]", qos_0_is_sent_while_the_window_is_full),
            v5("[MQTT-4.9.0-1] [MQTT-4.9.0-2]", the_receive_maximum_holds_anew_after_resume),
            v5("[MQTT-3.3.4-7]", a_client_that_passes_the_servers_receive_maximum_is_disconnected),
            v5("[MQTT-4.9.0-2] [MQTT-3.3.4-9]", a_pubrec_with_an_error_and_a_pubcomp_open_the_window_again),
            v5("[MQTT-3.1.2-24] [MQTT-3.1.2-25]", a_message_too_large_for_its_receiver_is_dropped_and_the_rest_goes_on),
            v5("[MQTT-3.1.2-25]", a_message_too_large_for_its_receiver_is_completed_for_its_publisher),
            v5("[MQTT-3.1.2-24]", the_maximum_packet_size_counts_the_whole_packet),
            v5("[MQTT-3.9.2-1] [MQTT-3.9.2-2] [MQTT-3.11.2-1] [MQTT-3.11.2-2] [MQTT-3.4.2-2] [MQTT-3.4.2-3] [MQTT-3.5.2-2] [MQTT-3.5.2-3] [MQTT-3.7.2-2] [MQTT-3.7.2-3]", answers_fit_the_clients_maximum_packet_size),
            v5("[MQTT-3.14.2-3] [MQTT-3.14.2-4]", a_disconnect_fits_the_clients_maximum_packet_size),
            v5("[PALOMA-5.0-zero-receive-maximum] [PALOMA-5.0-zero-maximum-packet-size]", a_receive_maximum_or_packet_size_of_0_is_refused),
            v311("[MQTT311-4.3.3-2]", many_exchanges_of_qos_2_may_be_open_in_3_1_1),
        ],
    }
}

/// A client that takes so many messages at a time, which is not clean.
fn narrow(lab: &Lab<'_>, window: u16) -> Connect {
    Connect {
        receive_maximum: ReceiveMaximum::new(window).unwrap_or(ReceiveMaximum::MAX),
        ..lab.lasting("reader")
    }
}

fn no_more_messages_are_open_than_the_receive_maximum(lab: &Lab<'_>) -> Verdict {
    lab.needs_qos(2)?;
    let topic = lab.topic("t");
    let (mut reader, _) = lab.connect(&narrow(lab, 2))?;
    reader.subscribe(&[(&topic, 2)])?;
    let mut writer = lab.client("writer")?;
    for (number, qos) in [("1", 1), ("2", 2), ("3", 1), ("4", 2)] {
        writer.publish(&message(&topic, qos, number)?)?;
    }
    let first = reader.unacknowledged()?;
    let second = reader.unacknowledged()?;
    reader.quiet()?;
    reader.acknowledge(&first)?;
    let third = reader.unacknowledged()?;
    reader.quiet()?;
    reader.acknowledge(&third)?;
    reader.unacknowledged()?;
    reader.acknowledge(&second)?;
    reader.quiet()
}

fn other_packets_are_answered_while_the_window_is_full(lab: &Lab<'_>) -> Verdict {
    lab.needs_qos(1)?;
    let topic = lab.topic("t");
    let (mut reader, _) = lab.connect(&narrow(lab, 1))?;
    reader.subscribe(&[(&topic, 1)])?;
    let mut writer = lab.client("writer")?;
    for number in ["1", "2"] {
        writer.publish(&message(&topic, 1, number)?)?;
    }
    let first = reader.unacknowledged()?;
    reader.ping()?;
    reader.subscribe(&[(&lab.topic("other"), 1)])?;
    reader.unsubscribe(&[&lab.topic("other")])?;
    reader.publish(&message(&lab.topic("nobody"), 1, "x")?)?;
    reader.quiet()?;
    reader.acknowledge(&first)?;
    reader.payloads(&["2"])
}

fn qos_0_is_sent_while_the_window_is_full(lab: &Lab<'_>) -> Verdict {
    lab.needs_qos(1)?;
    let topic = lab.topic("t");
    let other = lab.topic("other");
    let (mut reader, _) = lab.connect(&narrow(lab, 1))?;
    reader.subscribe(&[(&topic, 1), (&other, 0)])?;
    let mut writer = lab.client("writer")?;
    writer.publish(&message(&topic, 1, "open")?)?;
    let first = reader.unacknowledged()?;
    writer.publish(&message(&other, 0, "passes")?)?;
    reader.payloads(&["passes"])?;
    reader.acknowledge(&first)
}

fn the_receive_maximum_holds_anew_after_resume(lab: &Lab<'_>) -> Verdict {
    lab.needs_qos(1)?;
    let topic = lab.topic("t");
    let (mut reader, _) = lab.connect(&narrow(lab, 3))?;
    reader.subscribe(&[(&topic, 1)])?;
    let mut writer = lab.client("writer")?;
    for number in ["1", "2", "3", "4", "5"] {
        writer.publish(&message(&topic, 1, number)?)?;
    }
    for _ in 0..3 {
        reader.unacknowledged()?;
    }
    reader.quiet()?;
    reader.cut();
    // Full again with what was open, whatever the earlier connection had used up.
    let (mut reader, ack) = lab.connect(&narrow(lab, 3))?;
    same("Session Present", ack.session_present, true)?;
    let mut open = Vec::new();
    for number in ["1", "2", "3"] {
        let got = reader.unacknowledged()?;
        same("the payload", crate::lab::text(&got), number)?;
        open.push(got);
    }
    reader.quiet()?;
    for got in &open {
        reader.acknowledge(got)?;
    }
    reader.payloads(&["4", "5"])?;
    reader.quiet()
}

fn a_client_that_passes_the_servers_receive_maximum_is_disconnected(lab: &Lab<'_>) -> Verdict {
    lab.needs_qos(2)?;
    let maximum = lab.declared().receive_maximum.get();
    if maximum > 5_000 {
        return crate::lab::not_applicable("the broker's Receive Maximum is very large");
    }
    let mut client = lab.client("a")?;
    let mut publish = message(&lab.topic("t"), 2, "x")?;
    for number in 1..=maximum {
        publish.delivery = delivery(2, number, false);
        client.send(&packet(&publish))?;
        client
            .pub_rec(paloma_codec::PacketId::new(number).unwrap_or(paloma_codec::PacketId::MIN))?;
    }
    // The window is full, not passed.
    client.quiet()?;
    publish.delivery = delivery(2, maximum + 1, false);
    client.send(&packet(&publish))?;
    client.is_refused(&[DisconnectReason::ReceiveMaximumExceeded])
}

fn a_pubrec_with_an_error_and_a_pubcomp_open_the_window_again(lab: &Lab<'_>) -> Verdict {
    lab.needs_qos(2)?;
    let topic = lab.topic("t");
    let (mut reader, _) = lab.connect(&narrow(lab, 1))?;
    reader.subscribe(&[(&topic, 2)])?;
    let mut writer = lab.client("writer")?;
    for number in ["1", "2", "3"] {
        writer.publish(&message(&topic, 2, number)?)?;
    }
    let first = reader.unacknowledged()?;
    let id = first.delivery.id().map_or(0, paloma_codec::PacketId::get);
    let refused = [&id.to_be_bytes()[..], &[0x80]].concat();
    reader.send_bytes(&wire::packet(0x50, &refused))?;
    let second = reader.unacknowledged()?;
    same("the payload", crate::lab::text(&second), "2")?;
    // A PUBREC alone does not open it.
    let id = second.delivery.id().unwrap_or(paloma_codec::PacketId::MIN);
    reader.send_bytes(&wire::ack(0x50, id.get()))?;
    reader.pub_rel(id)?;
    reader.quiet()?;
    reader.send_bytes(&wire::ack(0x70, id.get()))?;
    reader.payloads(&["3"])
}

/// A client that takes packets of so many bytes.
fn small(lab: &Lab<'_>, name: &str, bytes: u32) -> Connect {
    Connect {
        maximum_packet_size: NonZeroU32::new(bytes),
        ..lab.clean(name)
    }
}

fn a_message_too_large_for_its_receiver_is_dropped_and_the_rest_goes_on(lab: &Lab<'_>) -> Verdict {
    let topic = lab.topic("t");
    let (mut reader, _) = lab.connect(&small(lab, "small", 100))?;
    reader.subscribe(&[(&topic, 1)])?;
    let mut other = lab.client("other")?;
    other.subscribe(&[(&topic, 1)])?;
    let mut writer = lab.client("writer")?;
    let large = "x".repeat(200);
    for payload in ["before", &large, "after"] {
        writer.publish(&message(&topic, 1, payload)?)?;
    }
    reader.payloads(&["before", "after"])?;
    reader.quiet()?;
    other.payloads(&["before", &large, "after"])
}

fn a_message_too_large_for_its_receiver_is_completed_for_its_publisher(lab: &Lab<'_>) -> Verdict {
    lab.needs_qos(2)?;
    let topic = lab.topic("t");
    let connect = Connect {
        receive_maximum: ReceiveMaximum::new(1).unwrap_or(ReceiveMaximum::MAX),
        ..small(lab, "small", 100)
    };
    let (mut reader, _) = lab.connect(&connect)?;
    reader.subscribe(&[(&topic, 2)])?;
    let mut writer = lab.client("writer")?;
    for qos in [1, 2, 1, 2] {
        writer.publish(&message(&topic, qos, &"x".repeat(200))?)?;
    }
    // None of them takes up the window of one.
    writer.publish(&message(&topic, 2, "fits")?)?;
    reader.payloads(&["fits"])?;
    reader.quiet()
}

fn the_maximum_packet_size_counts_the_whole_packet(lab: &Lab<'_>) -> Verdict {
    let topic = lab.topic("t");
    let mut writer = lab.client("writer")?;
    let publish = message(&topic, 0, "exactly")?;
    let length = u32::try_from(packet(&publish).encoded_len(lab.version())?).unwrap_or(0);
    let (mut fits, _) = lab.connect(&small(lab, "fits", length))?;
    let (mut lacks, _) = lab.connect(&small(lab, "lacks", length - 1))?;
    for reader in [&mut fits, &mut lacks] {
        reader.subscribe(&[(&topic, 0)])?;
    }
    writer.publish(&publish)?;
    fits.payloads(&["exactly"])?;
    lacks.quiet()
}

fn answers_fit_the_clients_maximum_packet_size(lab: &Lab<'_>) -> Verdict {
    lab.needs_qos(2)?;
    let (mut client, _) = lab.connect(&small(lab, "small", 48))?;
    let fits = |length: usize| ensure(length <= 48, format!("{length} bytes for a client of 48"));
    let id = client.fresh_id();
    let filters = vec![crate::requests::filter("$share/g/a", 1)?];
    let subscribe = paloma_codec::Subscribe::new(id, filters);
    let ack = client.subscribe_with(subscribe)?;
    fits(paloma_codec::Encode::encoded_len(&ack, lab.version())?)?;
    let ack = client.unsubscribe(&["never/there"])?;
    fits(paloma_codec::Encode::encoded_len(&ack, lab.version())?)?;
    let publish = message("n", 1, "x")?;
    client.send(&packet(&publish))?;
    let length = client.answer("PUBACK", |packet| match packet {
        paloma_codec::Packet::PubAck(_) => packet.encoded_len(lab.version()).ok(),
        _ => None,
    })?;
    fits(length)?;
    client.publish(&message("n", 2, "x")?)?;
    client.send_bytes(&wire::ack(0x62, 999))?;
    let length = client.answer("PUBCOMP", |packet| match packet {
        paloma_codec::Packet::PubComp(_) => packet.encoded_len(lab.version()).ok(),
        _ => None,
    })?;
    fits(length)
}

fn a_disconnect_fits_the_clients_maximum_packet_size(lab: &Lab<'_>) -> Verdict {
    let (mut client, _) = lab.connect(&small(lab, "small", 40))?;
    client.send_bytes(&[0x36, 0])?;
    match client.read_within(std::time::Duration::from_secs(10))? {
        crate::client::Found::Packet(packet) => {
            let length = packet.encoded_len(lab.version())?;
            ensure(length <= 40, format!("{length} bytes for a client of 40"))?;
            client.ends().map(drop)
        }
        crate::client::Found::End => Ok(()),
        crate::client::Found::Nothing => Err(crate::verdict::Stop::failed("it stays open")),
    }
}

fn a_receive_maximum_or_packet_size_of_0_is_refused(lab: &Lab<'_>) -> Verdict {
    let id = lab.id("a");
    let zero = wire::connect_properties(&id, &[&[0x21, 0, 0]]);
    super::refuses_first(lab, "Receive Maximum", &zero)?;
    let zero = wire::connect_properties(&id, &[&[0x27, 0, 0, 0, 0]]);
    super::refuses_first(lab, "Maximum Packet Size", &zero).map(drop)
}

fn many_exchanges_of_qos_2_may_be_open_in_3_1_1(lab: &Lab<'_>) -> Verdict {
    lab.needs_qos(2)?;
    let mut client = lab.client("a")?;
    let mut publish = message(&lab.topic("t"), 2, "x")?;
    for number in 1..=200 {
        publish.delivery = delivery(2, number, false);
        client.send(&packet(&publish))?;
        client
            .pub_rec(paloma_codec::PacketId::new(number).unwrap_or(paloma_codec::PacketId::MIN))?;
    }
    for number in 1..=200 {
        client.send_bytes(&wire::ack(0x62, number))?;
        client
            .pub_comp(paloma_codec::PacketId::new(number).unwrap_or(paloma_codec::PacketId::MIN))?;
    }
    client.quiet()
}
