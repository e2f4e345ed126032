//! CONNECT.

use std::time::{Duration, Instant};

use paloma_codec::{ConnAckReason, Connect, DisconnectReason};

use super::{PROTOCOL, refused_connect, refuses_first};
use crate::lab::{Lab, conn_ack, message, will};
use crate::suite::{Section, both, v5, v311};
use crate::verdict::{Verdict, ensure, same};
use crate::wire;

// A line a test.
#[rustfmt::skip]
pub(super) fn section() -> Section {
    Section {
        name: "3.1 CONNECT",
        tests: vec![
            both("[MQTT-3.1.0-1] [MQTT-3.1.4-1] [MQTT311-3.1.0-1] [MQTT311-3.1.4-1]", anything_before_connect_closes_the_connection),
            both("[MQTT-3.1.0-2] [MQTT-3.2.0-2] [MQTT311-3.1.0-2]", a_second_connect_closes_the_connection),
            both("[MQTT-3.1.2-1] [MQTT311-3.1.2-1]", a_wrong_protocol_name_is_refused),
            v5("[MQTT-3.1.2-2]", an_unknown_version_is_refused),
            v311("[MQTT311-3.1.2-2]", an_unknown_level_is_refused_with_1),
            both("[MQTT-3.1.2-3] [MQTT311-3.1.2-3]", the_reserved_flag_is_refused),
            both("[MQTT-3.1.2-9] [MQTT-3.1.2-11] [MQTT-3.1.2-13] [MQTT311-3.1.2-9] [MQTT311-3.1.2-11] [MQTT311-3.1.2-13] [MQTT311-3.1.2-15]", will_qos_and_retain_need_a_will),
            both("[MQTT-3.1.2-12] [MQTT311-3.1.2-14]", a_will_of_qos_3_is_refused),
            both("[MQTT-3.1.2-16] [MQTT-3.1.2-18] [MQTT311-3.1.2-18] [MQTT311-3.1.2-20]", user_name_and_password_that_are_not_flagged_are_refused),
            both("[MQTT-3.1.2-17] [MQTT-3.1.2-19] [MQTT311-3.1.2-19] [MQTT311-3.1.2-21]", user_name_and_password_that_are_flagged_have_to_be_there),
            v311("[MQTT311-3.1.2-22]", a_password_needs_a_user_name_in_3_1_1),
            both("[MQTT-3.1.3-1] [MQTT-3.1.3-3] [MQTT-3.1.3-12] [MQTT311-3.1.3-1] [MQTT311-3.1.3-3]", the_payload_is_read_in_its_order),
            both("[MQTT-3.1.3-3] [MQTT311-3.1.3-3]", a_connect_without_client_identifier_is_refused),
            both("[MQTT-3.1.3-5] [MQTT311-3.1.3-5]", client_identifiers_of_23_digits_and_letters_are_accepted),
            both("[MQTT-3.1.3-6] [MQTT-3.1.3-7] [MQTT-3.2.2-16] [MQTT311-3.1.3-6] [MQTT311-3.1.3-7]", an_empty_client_identifier_is_replaced),
            v5("[MQTT-3.1.3-6]", assigned_client_identifiers_differ_and_name_a_session),
            v311("[MQTT311-3.1.3-7] [MQTT311-3.1.3-8] [MQTT311-3.1.3-9] [MQTT311-3.2.2-5]", an_empty_client_identifier_without_clean_session_is_refused_with_2),
            v5("[MQTT-3.1.3-8]", a_refused_client_identifier_ends_the_connection),
            both("[MQTT-3.1.4-3] [MQTT-3.1.3-2] [MQTT311-3.1.4-2] [MQTT311-3.1.3-2]", the_same_client_identifier_ends_the_earlier_connection),
            both("[MQTT-3.1.4-5] [MQTT311-3.1.4-4]", a_right_connect_is_acknowledged_with_0),
            both("[MQTT-3.1.4-6] [MQTT311-3.1.4-5]", what_follows_a_refused_connect_is_not_processed),
            both("[MQTT-3.1.2-22] [MQTT-3.2.2-22] [MQTT311-3.1.2-24]", silence_of_one_and_a_half_keep_alives_ends_the_connection).slow(),
            both("[MQTT-3.1.2-22] [MQTT311-3.1.2-24]", pings_keep_the_connection).slow(),
            v5("[MQTT-3.1.2-21] [MQTT-3.2.2-21]", a_server_keep_alive_is_the_one_that_counts),
            v5("[MQTT-3.1.2-28]", response_information_comes_only_if_asked_for),
            v5("[MQTT-3.1.2-29]", explanations_are_withheld_without_request_problem_information),
            v5("[MQTT-3.1.4-2]", a_user_name_alone_or_a_password_alone_is_well_formed),
        ],
    }
}

fn anything_before_connect_closes_the_connection(lab: &Lab<'_>) -> Verdict {
    let none = wire::no_properties(lab.version());
    let cases = [
        ("PINGREQ", wire::PINGREQ.to_vec()),
        ("PUBLISH", wire::publish(0x30, b"a", 0, &none, b"x")),
        ("SUBSCRIBE", wire::subscribe(0x82, 1, &none, &[(b"a", 0)])),
        ("UNSUBSCRIBE", wire::unsubscribe(0xA2, 1, &none, &[b"a"])),
        ("PUBACK", wire::ack(0x40, 1)),
        ("PUBREL", wire::ack(0x62, 1)),
        ("DISCONNECT", wire::DISCONNECT.to_vec()),
        ("an HTTP request", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
    ];
    for (what, bytes) in cases {
        let said = refuses_first(lab, what, &bytes)?;
        ensure(
            said.is_none() || lab.is_v5(),
            format!("{what} is answered with {said:?}"),
        )?;
    }
    Ok(())
}

fn a_second_connect_closes_the_connection(lab: &Lab<'_>) -> Verdict {
    let connect = lab.clean("a");
    let (mut client, _) = lab.connect(&connect)?;
    client.send(&connect)?;
    client.is_refused(PROTOCOL)
}

fn a_wrong_protocol_name_is_refused(lab: &Lab<'_>) -> Verdict {
    let rest = [wire::no_properties(lab.version()), wire::text(lab.id("a"))].concat();
    for name in ["MQT", "mqtt", "MQTTX", "", "MQIsdp"] {
        let mut client = lab.open()?;
        client.send_bytes(&wire::connect(name, lab.version().level(), 0x02, &rest))?;
        ends_somehow(&mut client)?;
    }
    Ok(())
}

fn an_unknown_version_is_refused(lab: &Lab<'_>) -> Verdict {
    for level in [0, 1, 6, 127] {
        let rest = [&[0][..], &wire::text(lab.id("a"))].concat();
        let bytes = wire::connect("MQTT", level, 0x02, &rest);
        // Its CONNACK may be of 5.0 or of 3.1.1, so that only the end is sure.
        let mut client = lab.open()?;
        client.send_bytes(&bytes)?;
        ends_somehow(&mut client)?;
    }
    Ok(())
}

/// Reads to the end of a connection whose version the broker cannot know.
fn ends_somehow(client: &mut crate::client::Client) -> Verdict {
    match refused_connect(client) {
        Ok(_) => Ok(()),
        Err(stop) if stop.to_string().contains("malformed") => Ok(()),
        Err(stop) => Err(stop),
    }
}

fn an_unknown_level_is_refused_with_1(lab: &Lab<'_>) -> Verdict {
    // Levels below 3.1.1's: above it begin those of standards that answer in other ways.
    for level in [0, 1, 2] {
        let mut client = lab.open()?;
        client.send_bytes(&wire::connect(
            "MQTT",
            level,
            0x02,
            &wire::text(lab.id("a")),
        ))?;
        let ack = conn_ack(&mut client)?;
        same(
            "CONNACK",
            ack.reason,
            ConnAckReason::UnsupportedProtocolVersion,
        )?;
        client.is_refused(&[])?;
    }
    Ok(())
}

fn the_reserved_flag_is_refused(lab: &Lab<'_>) -> Verdict {
    let bytes = wire::connect_with(lab.version(), 0x03, &[&wire::text(lab.id("a"))]);
    let said = refuses_first(lab, "reserved flag", &bytes)?;
    ensure(
        said.is_none_or(|reason| {
            [ConnAckReason::MalformedPacket, ConnAckReason::ProtocolError].contains(&reason)
        }),
        format!("CONNACK says {said:?}"),
    )
}

fn will_qos_and_retain_need_a_will(lab: &Lab<'_>) -> Verdict {
    let id = wire::text(lab.id("a"));
    for flags in [0x0A, 0x12, 0x22, 0x2A] {
        let bytes = wire::connect_with(lab.version(), flags, &[&id]);
        refuses_first(lab, &format!("flags {flags:#04x}"), &bytes)?;
    }
    // A will that is flagged and not there.
    let bytes = wire::connect_with(lab.version(), 0x06, &[&id]);
    refuses_first(lab, "a will that is not there", &bytes)?;
    // One that is there and not flagged.
    let none = wire::no_properties(lab.version());
    let rest = [&id[..], &none, &wire::text("t"), &wire::text("p")];
    let bytes = wire::connect_with(lab.version(), 0x02, &rest);
    refuses_first(lab, "a will that is not flagged", &bytes).map(drop)
}

fn a_will_of_qos_3_is_refused(lab: &Lab<'_>) -> Verdict {
    let none = wire::no_properties(lab.version());
    let id = wire::text(lab.id("a"));
    let rest = [&id[..], &none, &wire::text("t"), &wire::text("p")];
    let bytes = wire::connect_with(lab.version(), 0x1E, &rest);
    refuses_first(lab, "QoS 3", &bytes).map(drop)
}

fn user_name_and_password_that_are_not_flagged_are_refused(lab: &Lab<'_>) -> Verdict {
    let id = wire::text(lab.id("a"));
    let name = wire::text("name");
    let bytes = wire::connect_with(lab.version(), 0x02, &[&id, &name]);
    refuses_first(lab, "a user name", &bytes)?;
    let bytes = wire::connect_with(lab.version(), 0x82, &[&id, &name, &wire::text("secret")]);
    refuses_first(lab, "a password", &bytes).map(drop)
}

fn user_name_and_password_that_are_flagged_have_to_be_there(lab: &Lab<'_>) -> Verdict {
    let id = wire::text(lab.id("a"));
    let bytes = wire::connect_with(lab.version(), 0x82, &[&id]);
    refuses_first(lab, "no user name", &bytes)?;
    let bytes = wire::connect_with(lab.version(), 0xC2, &[&id, &wire::text("name")]);
    refuses_first(lab, "no password", &bytes).map(drop)
}

fn a_password_needs_a_user_name_in_3_1_1(lab: &Lab<'_>) -> Verdict {
    let id = wire::text(lab.id("a"));
    let bytes = wire::connect_with(lab.version(), 0x42, &[&id, &wire::text("secret")]);
    refuses_first(lab, "a password alone", &bytes).map(drop)
}

fn the_payload_is_read_in_its_order(lab: &Lab<'_>) -> Verdict {
    let topic = lab.topic("will");
    let mut reader = lab.client("reader")?;
    reader.subscribe(&[(&topic, 0)])?;
    let none = wire::no_properties(lab.version());
    let payload = [
        &wire::text(lab.id("a"))[..],
        &none,
        &wire::text(&topic),
        &wire::text("the will"),
    ];
    let mut client = lab.open()?;
    client.send_bytes(&wire::connect_with(lab.version(), 0x06, &payload))?;
    same(
        "CONNACK",
        conn_ack(&mut client)?.reason,
        ConnAckReason::Success,
    )?;
    client.cut();
    reader.payloads(&["the will"])
}

fn a_connect_without_client_identifier_is_refused(lab: &Lab<'_>) -> Verdict {
    let bytes = wire::connect_with(lab.version(), 0x02, &[]);
    refuses_first(lab, "nothing", &bytes)?;
    let bytes = wire::connect_with(lab.version(), 0x02, &[&[0, 5, b'a']]);
    refuses_first(lab, "a part of it", &bytes).map(drop)
}

fn client_identifiers_of_23_digits_and_letters_are_accepted(lab: &Lab<'_>) -> Verdict {
    let unique = lab.id("");
    for alphabet in [
        "ABCDEFGHIJKLMNOPQRSTUVW",
        "abcdefghijklmnopqrstuvwxyz",
        "0123456789xyzXYZ",
    ] {
        let id: String = unique
            .chars()
            .chain(alphabet.chars().cycle())
            .take(23)
            .collect();
        let connect = Connect {
            client_id: id.into(),
            ..lab.clean("a")
        };
        let (client, _) = lab.connect(&connect)?;
        client.disconnect()?;
    }
    Ok(())
}

fn an_empty_client_identifier_is_replaced(lab: &Lab<'_>) -> Verdict {
    let connect = Connect {
        client_id: "".into(),
        ..lab.clean("a")
    };
    let (mut first, ack) = lab.connect(&connect)?;
    let (mut second, other) = lab.connect(&connect)?;
    if lab.is_v5() {
        let id = ack.assigned_client_id.unwrap_or_default();
        ensure(!id.is_empty(), "no client identifier is assigned")?;
        ensure(
            other.assigned_client_id != Some(id),
            "two clients got the same identifier",
        )?;
    }
    // Neither has taken the place of the other.
    first.ping()?;
    second.ping()
}

fn assigned_client_identifiers_differ_and_name_a_session(lab: &Lab<'_>) -> Verdict {
    let connect = Connect {
        client_id: "".into(),
        session_expiry_seconds: 30,
        ..lab.clean("a")
    };
    let (client, ack) = lab.connect(&connect)?;
    let id = ack.assigned_client_id.unwrap_or_default();
    ensure(!id.is_empty(), "no client identifier is assigned")?;
    client.disconnect()?;
    let resume = Connect {
        client_id: id,
        clean_start: false,
        ..lab.clean("b")
    };
    let (_client, ack) = lab.connect(&resume)?;
    same("Session Present", ack.session_present, true)
}

fn an_empty_client_identifier_without_clean_session_is_refused_with_2(lab: &Lab<'_>) -> Verdict {
    let bytes = wire::connect_with(lab.version(), 0x00, &[&[0, 0]]);
    let mut client = lab.open()?;
    client.send_bytes(&bytes)?;
    let ack = conn_ack(&mut client)?;
    same(
        "CONNACK",
        ack.reason,
        ConnAckReason::ClientIdentifierNotValid,
    )?;
    client.is_refused(&[])
}

fn a_refused_client_identifier_ends_the_connection(lab: &Lab<'_>) -> Verdict {
    // Longer than any broker need take; one that does is right too.
    let connect = Connect {
        client_id: format!("{}{}", lab.id("a"), "x".repeat(60_000)).into(),
        ..lab.clean("a")
    };
    let mut client = lab.open()?;
    client.send(&connect)?;
    match client.read_within(Duration::from_secs(10))? {
        crate::client::Found::Packet(paloma_codec::Packet::ConnAck(ack))
            if ack.reason == ConnAckReason::Success =>
        {
            client.disconnect()
        }
        crate::client::Found::Packet(paloma_codec::Packet::ConnAck(ack)) => {
            ensure(
                [
                    ConnAckReason::ClientIdentifierNotValid,
                    ConnAckReason::PacketTooLarge,
                ]
                .contains(&ack.reason),
                format!("CONNACK says {:?}", ack.reason),
            )?;
            client.is_refused(&[])
        }
        crate::client::Found::End => Ok(()),
        other => Err(crate::verdict::Stop::failed(format!("{other:?}"))),
    }
}

fn the_same_client_identifier_ends_the_earlier_connection(lab: &Lab<'_>) -> Verdict {
    let mut first = lab.client("a")?;
    let mut second = lab.client("a")?;
    first.is_refused(&[DisconnectReason::SessionTakenOver])?;
    second.ping()
}

fn a_right_connect_is_acknowledged_with_0(lab: &Lab<'_>) -> Verdict {
    let (mut client, ack) = lab.attempt(&lab.clean("a"))?;
    same("CONNACK", ack.reason, ConnAckReason::Success)?;
    same("the first byte", client.last_first_byte(), 0x20)?;
    client.quiet()
}

fn what_follows_a_refused_connect_is_not_processed(lab: &Lab<'_>) -> Verdict {
    let topic = lab.topic("t");
    let mut reader = lab.client("reader")?;
    reader.subscribe(&[(&topic, 0)])?;
    let none = wire::no_properties(lab.version());
    let mut wrong = wire::connect_with(lab.version(), 0x03, &[&wire::text(lab.id("a"))]);
    wrong.extend(wire::publish(0x30, topic.as_bytes(), 0, &none, b"never"));
    refuses_first(lab, "reserved flag", &wrong)?;
    reader.quiet()
}

fn silence_of_one_and_a_half_keep_alives_ends_the_connection(lab: &Lab<'_>) -> Verdict {
    let topic = lab.topic("will");
    let mut reader = lab.client("reader")?;
    reader.subscribe(&[(&topic, 0)])?;
    let connect = Connect {
        keep_alive_seconds: 1,
        will: Some(will(&topic, 0, "silent")?),
        ..lab.clean("a")
    };
    let (mut client, ack) = lab.connect(&connect)?;
    if ack
        .server_keep_alive_seconds
        .is_some_and(|seconds| seconds > 2)
    {
        return crate::lab::not_applicable("the broker asks for a longer keep alive");
    }
    let begin = Instant::now();
    client.is_refused(&[DisconnectReason::KeepAliveTimeout])?;
    ensure(
        begin.elapsed() >= Duration::from_millis(1_400),
        format!("it ended after {:?}", begin.elapsed()),
    )?;
    reader.payloads(&["silent"])
}

fn pings_keep_the_connection(lab: &Lab<'_>) -> Verdict {
    let connect = Connect {
        keep_alive_seconds: 4,
        ..lab.clean("a")
    };
    let (mut client, _) = lab.connect(&connect)?;
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(6_500) {
        client.wait(Duration::from_millis(300));
        client.ping()?;
    }
    client.quiet()
}

fn a_server_keep_alive_is_the_one_that_counts(lab: &Lab<'_>) -> Verdict {
    let connect = Connect {
        keep_alive_seconds: 65_535,
        ..lab.clean("a")
    };
    let (mut client, ack) = lab.connect(&connect)?;
    ensure(
        ack.server_keep_alive_seconds
            .is_none_or(|seconds| seconds < 65_535),
        "a Server Keep Alive that is the client's own says nothing",
    )?;
    client.ping()
}

fn response_information_comes_only_if_asked_for(lab: &Lab<'_>) -> Verdict {
    let (_client, ack) = lab.connect(&lab.clean("a"))?;
    same("Response Information", ack.response_information, None)
}

fn explanations_are_withheld_without_request_problem_information(lab: &Lab<'_>) -> Verdict {
    let connect = Connect {
        request_problem_information: false,
        ..lab.clean("a")
    };
    let (mut client, _) = lab.connect(&connect)?;
    let id = client.fresh_id();
    let topic = lab.topic("t");
    let mut filters = vec![crate::requests::filter(&topic, 1)?];
    filters.push(crate::requests::filter("$share/g/+/x/#", 2)?);
    let ack = client.subscribe_with(paloma_codec::Subscribe::new(id, filters))?;
    same("SUBACK's Reason String", ack.reason_string, None)?;
    ensure(ack.user_properties.is_empty(), "SUBACK has user properties")?;
    let ack = client.unsubscribe(&["never/subscribed"])?;
    same("UNSUBACK's Reason String", ack.reason_string, None)?;
    ensure(
        ack.user_properties.is_empty(),
        "UNSUBACK has user properties",
    )?;
    // Nobody subscribes to it, and nothing waits for the PUBREL: the answers that have something to explain.
    let publish = message(&lab.topic("nobody"), 1, "x")?;
    client.send(&publish_packet(publish))?;
    client.answer("PUBACK without words", |packet| match packet {
        paloma_codec::Packet::PubAck(ack)
            if ack.reason_string.is_none() && ack.user_properties.is_empty() =>
        {
            Some(())
        }
        _ => None,
    })?;
    client.send_bytes(&wire::ack(0x62, 77))?;
    client.answer("PUBCOMP without words", |packet| match packet {
        paloma_codec::Packet::PubComp(ack)
            if ack.reason_string.is_none() && ack.user_properties.is_empty() =>
        {
            Some(())
        }
        _ => None,
    })
}

fn publish_packet(publish: paloma_codec::Publish) -> paloma_codec::Packet {
    paloma_codec::Packet::Publish(Box::new(publish))
}

fn a_user_name_alone_or_a_password_alone_is_well_formed(lab: &Lab<'_>) -> Verdict {
    let wrong = [
        ConnAckReason::MalformedPacket,
        ConnAckReason::ProtocolError,
        ConnAckReason::UnsupportedProtocolVersion,
    ];
    for connect in [
        Connect {
            username: Some("somebody".into()),
            ..lab.clean("a")
        },
        Connect {
            password: Some(paloma_codec::Secret::new(bytes::Bytes::from_static(
                b"secret",
            ))),
            ..lab.clean("b")
        },
    ] {
        let (mut client, ack) = lab.attempt(&connect)?;
        ensure(
            !wrong.contains(&ack.reason),
            format!("CONNACK says {:?}", ack.reason),
        )?;
        if ack.reason.is_error() {
            client.is_refused(&[])?;
        }
    }
    Ok(())
}
