//! PINGREQ and DISCONNECT.

use paloma_codec::DisconnectReason;

use super::{EITHER, refuses};
use crate::lab::{Lab, message};
use crate::suite::{Section, both, v5, v311};
use crate::verdict::{Verdict, ensure, same};
use crate::wire;

// A line a test.
#[rustfmt::skip]
pub(super) fn section() -> Section {
    Section {
        name: "3.12 PINGREQ, 3.14 DISCONNECT",
        tests: vec![
            both("[MQTT-3.12.4-1] [MQTT311-3.12.4-1]", every_pingreq_is_answered),
            both("[MQTT-4.13.1-1] [MQTT311-4.8.0-1]", a_pingreq_with_a_body_closes_the_connection),
            both("[MQTT-3.14.4-1] [MQTT-3.14.4-2] [MQTT311-3.14.4-1] [MQTT311-3.14.4-2]", nothing_behind_a_disconnect_is_processed),
            v5("[MQTT-3.14.0-1]", no_disconnect_comes_before_connack),
            v5("[MQTT-3.14.2-1] [PALOMA-5.0-reason-disconnect]", codes_that_disconnect_may_not_carry_close_the_connection),
            v5("[MQTT-3.14.2-1]", every_code_that_a_client_may_use_is_accepted),
            v5("[MQTT-3.14.2-2] [MQTT-3.14.4-1] [MQTT-3.14.4-2] [MQTT-4.13.2-1]", the_broker_sends_nothing_behind_its_disconnect_and_closes),
            v311("[MQTT311-4.8.0-1]", a_disconnect_with_a_body_closes_a_connection_of_3_1_1),
        ],
    }
}

fn every_pingreq_is_answered(lab: &Lab<'_>) -> Verdict {
    let mut client = lab.client("a")?;
    for _ in 0..5 {
        client.ping()?;
    }
    client.send_bytes(&wire::PINGREQ.repeat(5))?;
    for _ in 0..5 {
        let packet = client.packet()?;
        ensure(
            matches!(packet, paloma_codec::Packet::PingResp),
            format!("wanted PINGRESP, got {packet:?}"),
        )?;
        same("the first byte", client.last_first_byte(), 0xD0)?;
    }
    client.quiet()
}

fn a_pingreq_with_a_body_closes_the_connection(lab: &Lab<'_>) -> Verdict {
    refuses(lab, "a byte", &[0xC0, 1, 0], EITHER)
}

fn nothing_behind_a_disconnect_is_processed(lab: &Lab<'_>) -> Verdict {
    let topic = lab.topic("t");
    let mut reader = lab.client("reader")?;
    reader.subscribe(&[(&topic, 0)])?;
    let mut client = lab.client("a")?;
    let none = wire::no_properties(lab.version());
    let publish = wire::publish(0x30, topic.as_bytes(), 0, &none, b"never");
    client.send_bytes(&[&wire::DISCONNECT[..], &publish].concat())?;
    client.cut();
    reader.quiet()
}

fn no_disconnect_comes_before_connack(lab: &Lab<'_>) -> Verdict {
    for bytes in [
        wire::PINGREQ.to_vec(),
        wire::connect_with(lab.version(), 0x03, &[&wire::text(lab.id("a"))]),
        vec![0xE0, 0],
        vec![0x10, 0],
    ] {
        // Reading the refusal fails if anything but CONNACK comes.
        super::refuses_first(lab, &format!("{bytes:02x?}"), &bytes)?;
    }
    Ok(())
}

fn codes_that_disconnect_may_not_carry_close_the_connection(lab: &Lab<'_>) -> Verdict {
    for code in [0x01, 0x02, 0x10, 0x18, 0x84, 0x91, 0x92, 0xA3, 0xFF] {
        let what = format!("{code:#04x}");
        refuses(lab, &what, &[0xE0, 1, code], EITHER)?;
    }
    Ok(())
}

fn every_code_that_a_client_may_use_is_accepted(lab: &Lab<'_>) -> Verdict {
    let codes = [
        0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99,
    ];
    for code in codes {
        let mut client = lab.client("a")?;
        client.send_bytes(&[0xE0, 1, code])?;
        same(&format!("the answer to {code:#04x}"), client.ends()?, None)?;
    }
    Ok(())
}

fn the_broker_sends_nothing_behind_its_disconnect_and_closes(lab: &Lab<'_>) -> Verdict {
    let topic = lab.topic("t");
    let mut client = lab.client("a")?;
    client.subscribe(&[(&topic, 0)])?;
    client.send_bytes(&[0x36, 0])?;
    // Whatever comes behind DISCONNECT, or stays open, fails here.
    let said = client.ends()?;
    let mut writer = lab.client("writer")?;
    writer.publish(&message(&topic, 0, "x")?)?;
    ensure(
        said.is_none_or(|reason| reason == DisconnectReason::MalformedPacket),
        format!("DISCONNECT says {said:?}"),
    )
}

fn a_disconnect_with_a_body_closes_a_connection_of_3_1_1(lab: &Lab<'_>) -> Verdict {
    let topic = lab.topic("will");
    let mut heir = lab.client("heir")?;
    heir.subscribe(&[(&topic, 0)])?;
    let connect = paloma_codec::Connect {
        will: Some(crate::lab::will(&topic, 0, "malformed")?),
        ..lab.clean("a")
    };
    let (mut client, _) = lab.connect(&connect)?;
    client.send_bytes(&[0xE0, 1, 0])?;
    client.is_refused(&[])?;
    // It is no DISCONNECT, so the will is due.
    heir.payloads(&["malformed"])
}
