//! AUTH, as far as it can be seen without an account.

use paloma_codec::{Authentication, ConnAckReason, Connect, DisconnectReason, Packet};

use super::{EITHER, refuses, refuses_first};
use crate::client::Found;
use crate::lab::Lab;
use crate::suite::{Section, v5};
use crate::verdict::{Stop, Verdict, ensure, same};
use crate::wire;

// A line a test.
#[rustfmt::skip]
pub(super) fn section() -> Section {
    Section {
        name: "4.12 Enhanced authentication",
        tests: vec![
            v5("[MQTT-4.12.0-1]", an_unknown_method_is_refused),
            v5("[MQTT-4.12.0-6]", without_a_method_no_auth_comes_and_connack_names_none),
            v5("[MQTT-4.12.0-7]", an_auth_without_a_method_in_connect_closes_the_connection),
            v5("[MQTT-3.15.2-1] [PALOMA-5.0-reason-auth]", codes_that_auth_may_not_carry_close_the_connection),
            v5("[MQTT-4.12.1-1] [MQTT-4.12.1-2]", reauthentication_without_a_method_closes_the_connection),
            v5("[MQTT-3.1.4-6]", an_auth_before_connect_closes_the_connection),
            v5("[PALOMA-5.0-auth-data-alone]", authentication_data_without_a_method_is_refused),
            v5("[MQTT-3.1.2-30]", other_packets_during_an_authentication_are_not_processed),
        ],
    }
}

fn with_method(lab: &Lab<'_>, method: &str) -> Connect {
    Connect {
        authentication: Some(Authentication {
            method: method.to_owned().into(),
            data: None,
        }),
        ..lab.clean("a")
    }
}

fn an_unknown_method_is_refused(lab: &Lab<'_>) -> Verdict {
    let mut client = lab.open()?;
    client.send(&with_method(lab, "PALOMA-NO-SUCH-METHOD"))?;
    let said = super::refused_connect(&mut client)?;
    ensure(
        said.is_none_or(|reason| {
            [
                ConnAckReason::BadAuthenticationMethod,
                ConnAckReason::NotAuthorized,
            ]
            .contains(&reason)
        }),
        format!("CONNACK says {said:?}"),
    )
}

fn without_a_method_no_auth_comes_and_connack_names_none(lab: &Lab<'_>) -> Verdict {
    let (mut client, ack) = lab.connect(&lab.clean("a"))?;
    same("the method", ack.authentication, None)?;
    client.quiet()
}

fn an_auth_without_a_method_in_connect_closes_the_connection(lab: &Lab<'_>) -> Verdict {
    let properties = wire::block(&[&[0x15], &wire::text("any")]);
    for code in [0x18, 0x19] {
        let bytes = wire::packet(0xF0, &[&[code], &properties[..]].concat());
        refuses(lab, &format!("{code:#04x}"), &bytes, EITHER)?;
    }
    Ok(())
}

fn codes_that_auth_may_not_carry_close_the_connection(lab: &Lab<'_>) -> Verdict {
    let properties = wire::block(&[&[0x15], &wire::text("any")]);
    for code in [0x01, 0x17, 0x1A, 0x80, 0x8C, 0xFF] {
        let bytes = wire::packet(0xF0, &[&[code], &properties[..]].concat());
        refuses(lab, &format!("{code:#04x}"), &bytes, EITHER)?;
    }
    Ok(())
}

fn reauthentication_without_a_method_closes_the_connection(lab: &Lab<'_>) -> Verdict {
    refuses(
        lab,
        "no properties",
        &[0xF0, 2, 0x19, 0],
        &[
            DisconnectReason::ProtocolError,
            DisconnectReason::MalformedPacket,
            DisconnectReason::NotAuthorized,
            DisconnectReason::BadAuthenticationMethod,
        ],
    )
}

fn an_auth_before_connect_closes_the_connection(lab: &Lab<'_>) -> Verdict {
    refuses_first(lab, "AUTH", &[0xF0, 2, 0x18, 0]).map(drop)
}

fn authentication_data_without_a_method_is_refused(lab: &Lab<'_>) -> Verdict {
    let data = [&[0x16][..], &wire::text("data")].concat();
    let bytes = wire::connect_properties(&lab.id("a"), &[&data]);
    refuses_first(lab, "data alone", &bytes).map(drop)
}

fn other_packets_during_an_authentication_are_not_processed(lab: &Lab<'_>) -> Verdict {
    let topic = lab.topic("t");
    let mut reader = lab.client("reader")?;
    reader.subscribe(&[(&topic, 0)])?;
    let mut client = lab.open()?;
    client.send(&with_method(lab, "SCRAM-SHA-256"))?;
    client.send_bytes(&wire::publish(0x30, topic.as_bytes(), 0, &[0], b"never"))?;
    // A refusal at once, or an AUTH and then the end.
    loop {
        match client.read_within(std::time::Duration::from_secs(10))? {
            Found::End => break,
            Found::Packet(Packet::ConnAck(ack)) => {
                ensure(ack.reason.is_error(), "CONNACK lets it in")?;
            }
            Found::Packet(Packet::Auth(_) | Packet::Disconnect(_)) => {}
            other => return Err(Stop::failed(format!("{other:?}"))),
        }
    }
    reader.quiet()
}
