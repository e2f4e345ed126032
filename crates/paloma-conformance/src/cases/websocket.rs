//! MQTT over WebSocket.

use paloma_codec::{ConnAckReason, PacketId};

use crate::client::{Client, Patience};
use crate::lab::{Lab, conn_ack, not_applicable};
use crate::suite::{Section, both};
use crate::target::tcp;
use crate::verdict::{Stop, Verdict, ensure, same};
use crate::websocket::{BINARY, TEXT, WebSocket, check_upgrade, chosen_protocol, upgrade};
use crate::wire;

// A line a test.
#[rustfmt::skip]
pub(super) fn section() -> Section {
    Section {
        name: "6 WebSocket",
        tests: vec![
            both("[MQTT-6.0.0-1] [MQTT311-6.0.0-1]", a_text_frame_closes_the_connection),
            both("[MQTT-6.0.0-2] [MQTT311-6.0.0-2]", packets_may_be_spread_over_frames),
            both("[MQTT-6.0.0-2] [MQTT311-6.0.0-2]", a_frame_may_hold_several_packets),
            both("[MQTT-6.0.0-3] [MQTT-6.0.0-4] [MQTT311-6.0.0-3] [MQTT311-6.0.0-4]", the_subprotocol_is_mqtt),
        ],
    }
}

fn open(lab: &Lab<'_>, protocols: &[&str]) -> Verdict<(WebSocket, String)> {
    let Some((address, path)) = lab.target().web_socket_parts() else {
        return not_applicable("the broker is not asked over a WebSocket");
    };
    let mut stream = tcp(address)?;
    let head = upgrade(&mut stream, address, path, protocols)?;
    check_upgrade(&head)?;
    Ok((WebSocket::new(stream), head))
}

fn client(lab: &Lab<'_>, socket: WebSocket) -> Client {
    let patience = Patience {
        answer: std::time::Duration::from_secs(10),
        quiet: std::time::Duration::from_millis(150),
        deadline: std::time::Instant::now() + std::time::Duration::from_secs(60),
    };
    Client::new(Box::new(socket), lab.version(), patience)
}

fn connect(lab: &Lab<'_>) -> Vec<u8> {
    wire::connect_with(lab.version(), 0x02, &[&wire::text(lab.id("a"))])
}

fn a_text_frame_closes_the_connection(lab: &Lab<'_>) -> Verdict {
    let (mut socket, _) = open(lab, &["mqtt"])?;
    socket.send(TEXT, &connect(lab))?;
    let mut client = client(lab, socket);
    same("what is said", client.ends()?, None)
}

fn packets_may_be_spread_over_frames(lab: &Lab<'_>) -> Verdict {
    let (mut socket, _) = open(lab, &["mqtt"])?;
    for byte in connect(lab) {
        socket.send(BINARY, &[byte])?;
        socket.send(BINARY, &[])?;
    }
    let mut client = client(lab, socket);
    same(
        "CONNACK",
        conn_ack(&mut client)?.reason,
        ConnAckReason::Success,
    )
}

fn a_frame_may_hold_several_packets(lab: &Lab<'_>) -> Verdict {
    let topic = lab.topic("t");
    let none = wire::no_properties(lab.version());
    let (mut socket, _) = open(lab, &["mqtt"])?;
    let publish = wire::publish(0x30, topic.as_bytes(), 0, &none, b"x");
    let (half, rest) = publish
        .split_at_checked(5)
        .ok_or_else(|| Stop::failed("the suite's PUBLISH is short"))?;
    let first = [
        connect(lab),
        wire::subscribe(0x82, 1, &none, &[(topic.as_bytes(), 0)]),
        half.to_vec(),
    ];
    socket.send(BINARY, &first.concat())?;
    socket.send(BINARY, &[rest, &wire::PINGREQ].concat())?;
    let mut client = client(lab, socket);
    conn_ack(&mut client)?;
    client.sub_ack(PacketId::MIN)?;
    client.answer("PINGRESP", |packet| {
        matches!(packet, paloma_codec::Packet::PingResp).then_some(())
    })?;
    client.payloads(&["x"])
}

fn the_subprotocol_is_mqtt(lab: &Lab<'_>) -> Verdict {
    for offered in [&["mqtt"][..], &["other", "mqtt"]] {
        let (_socket, head) = open(lab, offered)?;
        same("the subprotocol", chosen_protocol(&head), Some("mqtt"))?;
    }
    // Whoever offers another alone is refused, or gets none.
    match open(lab, &["other"]) {
        Ok((_socket, head)) => ensure(
            chosen_protocol(&head).is_none_or(|chosen| chosen == "mqtt"),
            format!("{head:?}"),
        ),
        Err(not_applicable @ Stop::NotApplicable(_)) => Err(not_applicable),
        Err(Stop::Failed { .. }) => Ok(()),
    }
}
