//! Fixed headers, identifiers, and how packets lie in the stream.

use std::time::Duration;

use paloma_codec::{DisconnectReason, Packet, PacketId};

use super::{EITHER, MALFORMED, PROTOCOL, refuses, refuses_first};
use crate::lab::{Lab, conn_ack, message};
use crate::suite::{Section, both, v5, v311};
use crate::verdict::{Verdict, ensure, same};
use crate::wire;

// A line a test.
#[rustfmt::skip]
pub(super) fn section() -> Section {
    Section {
        name: "2 Control packet format",
        tests: vec![
            both("[MQTT-2.1.3-1] [MQTT311-2.2.2-1] [MQTT311-2.2.2-2]", reserved_flags_close_the_connection),
            both("[MQTT-3.6.1-1] [MQTT311-3.6.1-1]", wrong_flags_of_pubrel_close_the_connection),
            both("[MQTT-3.8.1-1] [MQTT311-3.8.1-1]", wrong_flags_of_subscribe_close_the_connection),
            both("[MQTT-3.10.1-1] [MQTT311-3.10.1-1]", wrong_flags_of_unsubscribe_close_the_connection),
            both("[MQTT-3.14.1-1] [MQTT311-3.14.1-1]", wrong_flags_of_disconnect_close_the_connection),
            v5("[MQTT-3.15.1-1]", wrong_flags_of_auth_close_the_connection),
            both("[MQTT-2.2.1-3] [MQTT311-2.3.1-1]", identifiers_of_zero_close_the_connection),
            both("[MQTT-2.2.1-5] [MQTT-2.2.1-6] [MQTT311-2.3.1-6] [MQTT311-2.3.1-7]", answers_repeat_the_identifier),
            both("[MQTT-2.2.1-2] [MQTT311-2.3.1-5]", a_message_of_qos_0_has_no_identifier),
            both("[MQTT-1.5.5-1] [MQTT-4.13.1-1] [MQTT311-4.8.0-1]", a_remaining_length_of_five_bytes_closes_the_connection),
            v5("[MQTT-1.5.5-1] [PALOMA-5.0-integer-minimal]", integers_longer_than_needed_close_the_connection),
            v5("[MQTT-2.2.2-1]", a_packet_without_a_property_length_closes_the_connection),
            both("[MQTT-4.13.1-1] [MQTT311-4.8.0-1]", packets_of_a_server_close_the_connection),
            both("[MQTT-4.13.1-1] [MQTT311-4.8.0-1]", the_type_0_closes_the_connection),
            v311("[MQTT311-4.8.0-1]", auth_closes_a_connection_of_3_1_1),
            both("[MQTT-4.2-1] [MQTT311-7.1.1-1]", packets_may_be_cut_anywhere),
            both("[MQTT-4.2-1] [MQTT311-7.1.1-1]", many_packets_may_come_at_once),
            both("[MQTT-4.13.1-1] [MQTT311-4.8.0-2]", the_broker_goes_on_for_others),
        ],
    }
}

fn reserved_flags_close_the_connection(lab: &Lab<'_>) -> Verdict {
    let connect = wire::connect_with(lab.version(), 0x02, &[&wire::text(lab.id("a"))]);
    for flags in 1..16 {
        let mut wrong = connect.clone();
        if let Some(first) = wrong.first_mut() {
            *first |= flags;
        }
        refuses_first(lab, &format!("CONNECT with flags {flags:#x}"), &wrong)?;
        refuses(
            lab,
            &format!("PINGREQ with flags {flags:#x}"),
            &[0xC0 | flags, 0],
            MALFORMED,
        )?;
    }
    for kind in [0x40, 0x50, 0x70] {
        let what = format!("{kind:#04x} with flags 2");
        refuses(lab, &what, &wire::ack(kind | 2, 1), MALFORMED)?;
    }
    Ok(())
}

fn wrong_flags_of_pubrel_close_the_connection(lab: &Lab<'_>) -> Verdict {
    for flags in (0..16).filter(|flags| *flags != 2) {
        let what = format!("flags {flags:#x}");
        refuses(lab, &what, &wire::ack(0x60 | flags, 1), MALFORMED)?;
    }
    Ok(())
}

fn wrong_flags_of_subscribe_close_the_connection(lab: &Lab<'_>) -> Verdict {
    let none = wire::no_properties(lab.version());
    for flags in (0..16).filter(|flags| *flags != 2) {
        let bytes = wire::subscribe(0x80 | flags, 1, &none, &[(b"a", 0)]);
        refuses(lab, &format!("flags {flags:#x}"), &bytes, MALFORMED)?;
    }
    Ok(())
}

fn wrong_flags_of_unsubscribe_close_the_connection(lab: &Lab<'_>) -> Verdict {
    let none = wire::no_properties(lab.version());
    for flags in (0..16).filter(|flags| *flags != 2) {
        let bytes = wire::unsubscribe(0xA0 | flags, 1, &none, &[b"a"]);
        refuses(lab, &format!("flags {flags:#x}"), &bytes, MALFORMED)?;
    }
    Ok(())
}

fn wrong_flags_of_disconnect_close_the_connection(lab: &Lab<'_>) -> Verdict {
    for flags in 1..16 {
        let what = format!("flags {flags:#x}");
        refuses(lab, &what, &[0xE0 | flags, 0], MALFORMED)?;
    }
    Ok(())
}

fn wrong_flags_of_auth_close_the_connection(lab: &Lab<'_>) -> Verdict {
    for flags in 1..16 {
        let what = format!("flags {flags:#x}");
        refuses(lab, &what, &[0xF0 | flags, 2, 0x18, 0], EITHER)?;
    }
    Ok(())
}

fn identifiers_of_zero_close_the_connection(lab: &Lab<'_>) -> Verdict {
    let none = wire::no_properties(lab.version());
    let cases = [
        ("PUBLISH", wire::publish(0x32, b"a", 0, &none, b"x")),
        ("PUBLISH", wire::publish(0x34, b"a", 0, &none, b"x")),
        ("SUBSCRIBE", wire::subscribe(0x82, 0, &none, &[(b"a", 0)])),
        ("UNSUBSCRIBE", wire::unsubscribe(0xA2, 0, &none, &[b"a"])),
    ];
    for (what, bytes) in cases {
        refuses(lab, what, &bytes, EITHER)?;
    }
    Ok(())
}

fn answers_repeat_the_identifier(lab: &Lab<'_>) -> Verdict {
    lab.needs_qos(2)?;
    let none = wire::no_properties(lab.version());
    let topic = lab.topic("t");
    let mut client = lab.client("a")?;
    for number in [1, 2, 255, 256, 0x8000, 65_535] {
        let id = PacketId::new(number).unwrap_or(PacketId::MIN);
        client.send_bytes(&wire::subscribe(
            0x82,
            number,
            &none,
            &[(topic.as_bytes(), 0)],
        ))?;
        client.sub_ack(id)?;
        client.send_bytes(&wire::unsubscribe(0xA2, number, &none, &[topic.as_bytes()]))?;
        client.unsub_ack(id)?;
        client.send_bytes(&wire::publish(0x32, topic.as_bytes(), number, &none, b"x"))?;
        client.pub_ack(id)?;
        client.send_bytes(&wire::publish(0x34, topic.as_bytes(), number, &none, b"x"))?;
        client.pub_rec(id)?;
        client.send_bytes(&wire::ack(0x62, number))?;
        client.pub_comp(id)?;
    }
    client.quiet()
}

fn a_message_of_qos_0_has_no_identifier(lab: &Lab<'_>) -> Verdict {
    let topic = lab.topic("t");
    let mut client = lab.client("a")?;
    client.subscribe(&[(&topic, 0)])?;
    // Decoded as an identifier, the payload's first two bytes would be missing from it.
    client.publish(&message(&topic, 0, "payload")?)?;
    client.payloads(&["payload"])
}

fn a_remaining_length_of_five_bytes_closes_the_connection(lab: &Lab<'_>) -> Verdict {
    let lengths: [&[u8]; 2] = [
        &[0x30, 0x80, 0x80, 0x80, 0x80, 0x01],
        &[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F],
    ];
    for bytes in lengths {
        refuses(lab, &format!("{bytes:02x?}"), bytes, EITHER)?;
    }
    Ok(())
}

fn integers_longer_than_needed_close_the_connection(lab: &Lab<'_>) -> Verdict {
    let topic = wire::text(lab.topic("t"));
    let property_length = [&topic[..], &[0x80, 0x00], b"x"].concat();
    let bytes = wire::packet(0x30, &property_length);
    refuses(lab, "Property Length", &bytes, EITHER)?;
    let subscribe = [&[0, 1, 3, 0x0B, 0x81, 0x00][..], &topic, &[0]].concat();
    refuses(
        lab,
        "Subscription Identifier",
        &wire::packet(0x82, &subscribe),
        EITHER,
    )
}

fn a_packet_without_a_property_length_closes_the_connection(lab: &Lab<'_>) -> Verdict {
    let topic = lab.topic("t");
    let publish = wire::publish(0x30, topic.as_bytes(), 0, &[], b"");
    refuses(lab, "PUBLISH", &publish, EITHER)?;
    let connect = wire::connect("MQTT", 5, 0x02, &[]);
    refuses_first(lab, "CONNECT", &connect)?;
    refuses(lab, "SUBSCRIBE", &[0x82, 2, 0, 1], EITHER)?;
    refuses(lab, "UNSUBSCRIBE", &[0xA2, 2, 0, 1], EITHER)
}

fn packets_of_a_server_close_the_connection(lab: &Lab<'_>) -> Verdict {
    let none = wire::no_properties(lab.version());
    let suback = [&[0, 1][..], &none, &[0]].concat();
    let cases = [
        (
            "CONNACK",
            wire::packet(0x20, &[&[0, 0][..], &none].concat()),
        ),
        ("SUBACK", wire::packet(0x90, &suback)),
        ("UNSUBACK", wire::packet(0xB0, &suback)),
        ("PINGRESP", vec![0xD0, 0]),
    ];
    for (what, bytes) in cases {
        refuses(lab, what, &bytes, EITHER)?;
    }
    Ok(())
}

fn the_type_0_closes_the_connection(lab: &Lab<'_>) -> Verdict {
    refuses(lab, "type 0", &[0x00, 0], EITHER)?;
    refuses_first(lab, "type 0 first", &[0x00, 0]).map(drop)
}

fn auth_closes_a_connection_of_3_1_1(lab: &Lab<'_>) -> Verdict {
    refuses(lab, "AUTH", &[0xF0, 2, 0x18, 0], PROTOCOL)?;
    refuses(lab, "an empty AUTH", &[0xF0, 0], PROTOCOL)
}

fn packets_may_be_cut_anywhere(lab: &Lab<'_>) -> Verdict {
    let topic = lab.topic("t");
    let none = wire::no_properties(lab.version());
    let mut client = lab.open()?;
    let id = wire::text(lab.id("a"));
    let stream = [
        wire::connect_with(lab.version(), 0x02, &[&id]),
        wire::subscribe(0x82, 1, &none, &[(topic.as_bytes(), 0)]),
        wire::publish(0x30, topic.as_bytes(), 0, &none, b"cut"),
    ]
    .concat();
    for byte in stream {
        client.send_bytes(&[byte])?;
        client.wait(Duration::from_millis(1));
    }
    conn_ack(&mut client)?;
    client.sub_ack(PacketId::MIN)?;
    client.payloads(&["cut"])
}

fn many_packets_may_come_at_once(lab: &Lab<'_>) -> Verdict {
    let topic = lab.topic("t");
    let none = wire::no_properties(lab.version());
    let mut client = lab.open()?;
    let id = wire::text(lab.id("a"));
    // All before CONNACK, which clients may do.
    let stream = [
        wire::connect_with(lab.version(), 0x02, &[&id]),
        wire::subscribe(0x82, 1, &none, &[(topic.as_bytes(), 0)]),
        wire::publish(0x30, topic.as_bytes(), 0, &none, b"one"),
        wire::publish(0x30, topic.as_bytes(), 0, &none, b"two"),
        wire::PINGREQ.to_vec(),
    ]
    .concat();
    client.send_bytes(&stream)?;
    conn_ack(&mut client)?;
    client.sub_ack(PacketId::MIN)?;
    client.answer("PINGRESP", |packet| {
        matches!(packet, Packet::PingResp).then_some(())
    })?;
    client.payloads(&["one", "two"])
}

fn the_broker_goes_on_for_others(lab: &Lab<'_>) -> Verdict {
    let topic = lab.topic("t");
    let mut reader = lab.client("reader")?;
    reader.subscribe(&[(&topic, 1)])?;
    let mut wrong = lab.client("wrong")?;
    wrong.send_bytes(&[0x36, 0])?;
    let reason = wrong.ends()?;
    ensure(
        lab.is_v5() || reason.is_none(),
        "3.1.1 has no DISCONNECT from a server",
    )?;
    ensure(
        reason.is_none_or(|reason| reason == DisconnectReason::MalformedPacket),
        "QoS 3 is malformed",
    )?;
    let mut writer = lab.client("writer")?;
    writer.publish(&message(&topic, 1, "on")?)?;
    same("the payload", reader.payload()?, "on")
}
