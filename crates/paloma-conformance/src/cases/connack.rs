//! CONNACK.

use paloma_codec::{ConnAckReason, Connect, PublishTopic, Qos};

use crate::lab::{Lab, message, name, not_applicable, retained, will};
use crate::suite::{Section, both, v5};
use crate::verdict::{Verdict, ensure, same};
use crate::wire;

// A line a test.
#[rustfmt::skip]
pub(super) fn section() -> Section {
    Section {
        name: "3.2 CONNACK",
        tests: vec![
            both("[MQTT-3.2.0-1] [MQTT-3.2.0-2] [MQTT311-3.2.0-1]", connack_comes_first_and_once),
            both("[MQTT-3.2.2-1] [MQTT-3.2.2-2] [MQTT-3.1.2-4] [MQTT-3.1.4-4] [MQTT311-3.2.2-1] [MQTT311-3.1.4-3]", a_clean_start_has_no_session_present),
            both("[MQTT-3.2.2-3] [MQTT-3.1.2-6] [MQTT-3.1.2-5] [MQTT311-3.2.2-2] [MQTT311-3.2.2-3]", session_present_is_true_only_when_it_is),
            both("[MQTT-3.2.2-6] [MQTT-3.2.2-7] [MQTT-4.13.2-1] [MQTT311-3.2.2-4] [MQTT311-3.2.2-5] [MQTT311-3.2.2-6]", a_refusal_has_no_session_present_and_ends_the_connection),
            v5("[MQTT-3.2.2-8]", a_refusal_uses_a_code_of_connack),
            v5("[MQTT-3.2.2-9] [MQTT-3.2.2-11]", a_publish_above_the_maximum_qos_is_refused),
            v5("[MQTT-3.2.2-10]", any_qos_may_be_subscribed_to_whatever_the_maximum),
            v5("[MQTT-3.2.2-12]", a_will_above_the_maximum_qos_is_refused),
            v5("[MQTT-3.2.2-13] [MQTT-3.2.2-14]", without_retained_messages_a_retained_will_is_refused),
            v5("[MQTT-3.2.2-15]", a_packet_above_the_servers_maximum_size_ends_the_connection),
            v5("[MQTT-3.2.2-17] [MQTT-3.3.2-9]", an_alias_above_the_servers_maximum_ends_the_connection),
            v5("[MQTT-3.2.2-19] [MQTT-3.2.2-20] [MQTT-3.1.2-24]", a_connack_fits_the_clients_maximum_packet_size),
            v5("[MQTT-3.2.2-22]", without_a_server_keep_alive_the_clients_own_holds),
        ],
    }
}

fn connack_comes_first_and_once(lab: &Lab<'_>) -> Verdict {
    let topic = lab.topic("t");
    let (client, _) = lab.resume("a")?;
    let mut client = client;
    client.subscribe(&[(&topic, 1)])?;
    client.disconnect()?;
    let mut writer = lab.client("writer")?;
    writer.publish(&message(&topic, 1, "waiting")?)?;
    // `attempt` fails if the waiting message comes before CONNACK.
    let mut client = lab.back("a")?;
    client.payloads(&["waiting"])?;
    client.quiet()
}

fn a_clean_start_has_no_session_present(lab: &Lab<'_>) -> Verdict {
    let (client, _) = lab.resume("a")?;
    client.disconnect()?;
    let (_client, ack) = lab.connect(&lab.clean("a"))?;
    same("Session Present", ack.session_present, false)
}

fn session_present_is_true_only_when_it_is(lab: &Lab<'_>) -> Verdict {
    let (client, present) = lab.resume("a")?;
    same("Session Present of a new client", present, false)?;
    client.disconnect()?;
    let (client, present) = lab.resume("a")?;
    same("Session Present of one that is back", present, true)?;
    client.disconnect()?;
    let client = lab.client("a")?;
    client.disconnect()?;
    let (_client, present) = lab.resume("a")?;
    same("Session Present after a clean one", present, false)
}

fn a_refusal_has_no_session_present_and_ends_the_connection(lab: &Lab<'_>) -> Verdict {
    let (client, _) = lab.resume("a")?;
    client.disconnect()?;
    // Flags for a user name that is not there, on a client whose session is.
    let wrong = wire::connect_with(lab.version(), 0x80, &[&wire::text(lab.id("a"))]);
    super::refuses_first(lab, "no user name", &wrong)?;
    let (_client, present) = lab.resume("a")?;
    same("Session Present", present, true)
}

fn a_refusal_uses_a_code_of_connack(lab: &Lab<'_>) -> Verdict {
    // The decoder takes no code that CONNACK may not carry, and each of these has its own.
    let id = lab.id("a");
    let cases = [
        (
            "reserved flag",
            wire::connect_with(lab.version(), 0x03, &[&wire::text(&id)]),
        ),
        (
            "Receive Maximum 0",
            wire::connect_properties(&id, &[&[0x21, 0, 0]]),
        ),
        (
            "a property twice",
            wire::connect_properties(&id, &[&[0x22, 0, 1], &[0x22, 0, 1]]),
        ),
    ];
    for (what, bytes) in cases {
        let said = super::refuses_first(lab, what, &bytes)?;
        ensure(
            said.is_none_or(|reason| {
                [ConnAckReason::MalformedPacket, ConnAckReason::ProtocolError].contains(&reason)
            }),
            format!("{what}: CONNACK says {said:?}"),
        )?;
    }
    Ok(())
}

fn a_publish_above_the_maximum_qos_is_refused(lab: &Lab<'_>) -> Verdict {
    let maximum = lab.declared().maximum_qos;
    if maximum == Qos::ExactlyOnce {
        // Then the property must not be there, and QoS 2 works.
        let mut client = lab.client("a")?;
        return client.publish(&message(&lab.topic("t"), 2, "x")?);
    }
    let mut client = lab.client("a")?;
    client.send(&packet(message(&lab.topic("t"), 2, "x")?))?;
    client.is_refused(&[paloma_codec::DisconnectReason::QosNotSupported])
}

fn packet(publish: paloma_codec::Publish) -> paloma_codec::Packet {
    paloma_codec::Packet::Publish(Box::new(publish))
}

fn any_qos_may_be_subscribed_to_whatever_the_maximum(lab: &Lab<'_>) -> Verdict {
    let mut client = lab.client("a")?;
    let topics = [lab.topic("0"), lab.topic("1"), lab.topic("2")];
    let filters: Vec<(&str, u8)> = topics.iter().map(String::as_str).zip(0..).collect();
    let codes = client.subscribe_for_codes(&filters)?;
    let maximum = lab.declared().maximum_qos.bits();
    let wanted: Vec<u8> = (0..3).map(|qos: u8| qos.min(maximum)).collect();
    same("SUBACK's codes", codes, wanted)
}

fn a_will_above_the_maximum_qos_is_refused(lab: &Lab<'_>) -> Verdict {
    if lab.declared().maximum_qos == Qos::ExactlyOnce {
        let connect = Connect {
            will: Some(will(&lab.topic("w"), 2, "x")?),
            ..lab.clean("a")
        };
        return lab.connect(&connect)?.0.disconnect();
    }
    let connect = Connect {
        will: Some(will(&lab.topic("w"), 2, "x")?),
        ..lab.clean("a")
    };
    let (mut client, ack) = lab.attempt(&connect)?;
    same("CONNACK", ack.reason, ConnAckReason::QosNotSupported)?;
    client.is_refused(&[])
}

fn without_retained_messages_a_retained_will_is_refused(lab: &Lab<'_>) -> Verdict {
    if lab.declared().retain_available {
        return not_applicable("the broker retains messages");
    }
    let mut bequest = will(&lab.topic("w"), 0, "x")?;
    bequest.retain = true;
    let connect = Connect {
        will: Some(bequest),
        ..lab.clean("a")
    };
    let (mut client, ack) = lab.attempt(&connect)?;
    same("CONNACK", ack.reason, ConnAckReason::RetainNotSupported)?;
    client.is_refused(&[])?;
    let mut client = lab.client("b")?;
    client.send(&packet(retained(message(&lab.topic("t"), 0, "x")?)))?;
    client.is_refused(&[paloma_codec::DisconnectReason::RetainNotSupported])
}

fn a_packet_above_the_servers_maximum_size_ends_the_connection(lab: &Lab<'_>) -> Verdict {
    let Some(maximum) = lab.declared().maximum_packet_size else {
        return not_applicable("the broker names no Maximum Packet Size");
    };
    let mut client = lab.client("a")?;
    let size = usize::try_from(maximum.get()).unwrap_or(usize::MAX);
    if size >= 268_435_455 {
        return not_applicable("the broker takes the largest packet there is");
    }
    let mut header = vec![0x30];
    header.extend(wire::variable_int(size + 1));
    header.extend(wire::text(lab.topic("t")));
    header.push(0);
    client.send_bytes(&header)?;
    // Enough for a broker that looks only at what it has read.
    let chunk = vec![b'x'; 64 * 1024];
    let mut sent = 0;
    while sent <= size && sent < 4 * 1024 * 1024 {
        client.send_bytes(&chunk)?;
        sent += chunk.len();
    }
    client.is_refused(&[paloma_codec::DisconnectReason::PacketTooLarge])
}

fn an_alias_above_the_servers_maximum_ends_the_connection(lab: &Lab<'_>) -> Verdict {
    let maximum = lab.declared().topic_alias_maximum;
    let Some(above) = maximum
        .checked_add(1)
        .and_then(paloma_codec::TopicAlias::new)
    else {
        return not_applicable("the broker takes every alias");
    };
    let mut client = lab.client("a")?;
    let mut publish = message(&lab.topic("t"), 0, "x")?;
    publish.topic = PublishTopic::Define {
        name: name(&lab.topic("t"))?,
        alias: above,
    };
    client.send(&packet(publish))?;
    client.is_refused(&[paloma_codec::DisconnectReason::TopicAliasInvalid])
}

fn a_connack_fits_the_clients_maximum_packet_size(lab: &Lab<'_>) -> Verdict {
    // The smallest that the broker can answer in, found from above; each CONNACK that comes has to fit.
    for size in [200, 100, 60, 40] {
        let connect = Connect {
            maximum_packet_size: std::num::NonZeroU32::new(size),
            ..lab.clean("a")
        };
        let mut client = lab.open()?;
        client.send(&connect)?;
        match client.read_within(std::time::Duration::from_secs(10))? {
            crate::client::Found::Packet(packet) => {
                let length = packet.encoded_len(lab.version())?;
                ensure(
                    length <= usize::try_from(size).unwrap_or(usize::MAX),
                    format!("a packet of {length} bytes for a client that takes {size}"),
                )?;
                client.disconnect()?;
            }
            crate::client::Found::End => {}
            crate::client::Found::Nothing => {
                return Err(crate::verdict::Stop::failed("no CONNACK and no end"));
            }
        }
    }
    Ok(())
}

fn without_a_server_keep_alive_the_clients_own_holds(lab: &Lab<'_>) -> Verdict {
    let connect = Connect {
        keep_alive_seconds: 30,
        ..lab.clean("a")
    };
    let (mut client, ack) = lab.connect(&connect)?;
    if ack.server_keep_alive_seconds.is_some() {
        return not_applicable("the broker sets a keep alive of its own");
    }
    client.wait(std::time::Duration::from_millis(300));
    client.ping()?;
    Ok(())
}
