//! What the standards ask of a client, against a server played packet by packet, in both versions.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "helpers of tests: what is not as expected is a failed test"
)]

mod rig;

use std::num::NonZeroU32;

use paloma_codec::{
    Ack, Auth, AuthReason, Authentication, ConnAck, Connect, DecodeError, Delivery, Disconnect,
    DisconnectReason, Packet, PacketRef, ProtocolVersion, PubAckReason, PubCompReason,
    PubRecReason, PubRelReason, Publish, PublishTopic, Qos, ReceiveMaximum, Will,
};
use paloma_session::{
    DropCause, Gate, Outbound, QueueLimits, Session, Transmit, TransmitStatus, Violation, client,
};
use paloma_topic::TopicName;
use rig::{Rig, Seen, connect, id, message, publish, qos1, qos2, start};

use ProtocolVersion::{V3_1_1, V5};

const VERSIONS: [ProtocolVersion; 2] = [V3_1_1, V5];

/// The first bytes that a client of this CONNECT sends.
fn first_bytes(connect: &Connect) -> Vec<u8> {
    let mut handshake = client::Handshake::new(connect).unwrap();
    let mut out = Transmit::default();
    assert_eq!(handshake.poll_transmit(&mut out), TransmitStatus::Drained);
    out.bytes().to_vec()
}

/// [MQTT-3.1.0-1] [MQTT-3.1.3-1] [MQTT-3.1.3-3] [MQTT-3.1.2-9] [MQTT-3.1.2-17] [MQTT-3.1.2-19] [MQTT311-3.1.0-1]
/// [MQTT311-3.1.3-1] [MQTT311-3.1.3-3] [MQTT311-3.1.2-9] [MQTT311-3.1.2-19] [MQTT311-3.1.2-21]
#[test]
fn a_client_begins_with_connect_and_its_payload_in_order() {
    for version in VERSIONS {
        let connect = Connect {
            will: Some(Will::new(TopicName::new("will").unwrap(), "gone".into())),
            username: Some("user".into()),
            password: Some("secret".into()),
            ..connect(version)
        };
        let bytes = first_bytes(&connect);
        assert_eq!(bytes.first(), Some(&0x10));
        let mut payload = b"\0\x01c".to_vec();
        if version == V5 {
            payload.push(0);
        }
        payload.extend(b"\0\x04will\0\x04gone\0\x04user\0\x06secret");
        assert!(bytes.ends_with(&payload), "{version:?}: {bytes:02x?}");
    }
}

/// [MQTT-3.1.2-11] [MQTT-3.1.2-13] [MQTT-3.1.2-16] [MQTT-3.1.2-18] [MQTT311-3.1.2-11] [MQTT311-3.1.2-13]
/// [MQTT311-3.1.2-15] [MQTT311-3.1.2-18] [MQTT311-3.1.2-20]
#[test]
fn what_a_client_does_not_have_is_neither_flagged_nor_there() {
    for version in VERSIONS {
        let bytes = first_bytes(&connect(version));
        assert_eq!(bytes.get(9), Some(&0), "connect flags of {version:?}");
        assert!(bytes.ends_with(b"\0\x01c"), "{version:?}: {bytes:02x?}");
    }
}

/// [MQTT-3.1.2-4] [MQTT311-3.1.2-6]
#[test]
fn a_clean_start_forgets_what_the_client_had() {
    for version in VERSIONS {
        let mut rig = Rig::client(version);
        rig.queue_qos(Qos::AtLeastOnce);
        rig.sent();
        rig.receive(&qos2(9)).unwrap();
        let mut session = rig.session;
        let _ = rig.connection.handle_closed(&mut session);
        let clean = Connect {
            clean_start: true,
            session_expiry_seconds: if version == V5 { 60 } else { 0 },
            ..connect(version)
        };
        let mut rig = Rig::open(&clean, &ConnAck::default(), session).unwrap();
        assert!(rig.session.window().is_empty() && rig.session.received().is_empty());
        assert_eq!(rig.sent(), []);
    }
}

/// [MQTT-3.1.3-2] [MQTT-4.1.0-1] [MQTT-4.3.2-3] [MQTT-4.3.3-3] [MQTT-4.3.3-5] [MQTT311-3.1.3-2] [MQTT311-4.1.0-1]
/// [MQTT311-4.1.0-2] [MQTT311-2.3.1-3] [MQTT311-4.6.0-1] [MQTT311-4.3.2-1] [MQTT311-4.3.3-1]
#[test]
fn the_session_of_a_client_id_outlives_the_connection_with_all_that_is_open() {
    for version in VERSIONS {
        let mut rig = Rig::client(version);
        for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce, Qos::ExactlyOnce] {
            rig.queue_qos(qos);
        }
        rig.sent();
        let received = Packet::PubRec(Ack::new(id(3), PubRecReason::Success));
        rig.receive(&received).unwrap();
        assert_eq!(rig.sent_briefly(), ["PUBREL 3 00"]);
        for _ in 0..2 {
            rig = rig.reconnected(&connect(version));
            assert_eq!(
                rig.sent_briefly(),
                ["PUBLISH t 1 dup", "PUBLISH t 2 dup", "PUBREL 3 00"]
            );
        }
    }
}

/// [MQTT-4.3.1-1] [MQTT-4.3.2-1] [MQTT-4.3.2-2] [MQTT-4.3.3-1] [MQTT-4.3.3-2] [MQTT-4.3.3-4] [MQTT311-2.3.1-2]
/// [MQTT311-4.3.1-1] [MQTT311-4.3.2-1] [MQTT311-4.3.3-1]
#[test]
fn each_message_goes_out_under_an_id_of_its_own_and_without_dup() {
    for version in VERSIONS {
        let mut rig = Rig::client(version);
        for qos in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
            rig.queue_qos(qos);
        }
        assert_eq!(
            rig.sent_briefly(),
            ["PUBLISH t 0", "PUBLISH t 1", "PUBLISH t 2"]
        );
        rig.receive(&Packet::PubAck(Ack::new(id(1), PubAckReason::Success)))
            .unwrap();
        // 1 is free again; what is in use is never given a second time.
        for _ in 0..3 {
            rig.queue_qos(Qos::AtLeastOnce);
        }
        assert_eq!(
            rig.sent_briefly(),
            ["PUBLISH t 3", "PUBLISH t 4", "PUBLISH t 5"]
        );
    }
}

/// [MQTT-3.3.4-1] [MQTT-4.5.0-2] [MQTT-4.3.2-4] [MQTT-4.3.3-8] [MQTT-4.3.3-11] [MQTT311-3.3.4-1] [MQTT311-4.5.0-2]
/// [MQTT311-4.3.2-2] [MQTT311-4.3.3-2]
#[test]
fn a_client_answers_every_publish_as_its_qos_asks() {
    for version in VERSIONS {
        let mut rig = Rig::client(version);
        let none = rig.receive(&publish("t", Delivery::AtMostOnce)).unwrap();
        assert!(matches!(none, Seen::Publish { receipt: None, .. }));
        for packet in [qos1(7), qos2(8)] {
            let receipt = rig.receive(&packet).unwrap().receipt();
            rig.acknowledge(receipt, PubAckReason::Success, Gate::Open);
        }
        assert_eq!(rig.sent_briefly(), ["PUBACK 7 00", "PUBREC 8 00"]);
        let release = Packet::PubRel(Ack::new(id(8), PubRelReason::Success));
        assert_eq!(rig.receive(&release), Ok(Seen::Released(id(8))));
        assert_eq!(rig.sent_briefly(), ["PUBCOMP 8 00"]);
    }
}

/// [MQTT-4.3.2-5] [MQTT-4.3.3-12] [MQTT311-4.3.2-2] [MQTT311-4.3.3-2]
#[test]
fn an_id_of_the_server_means_a_new_message_once_its_exchange_has_ended() {
    for version in VERSIONS {
        let mut rig = Rig::client(version);
        for _ in 0..2 {
            let receipt = rig.receive(&qos1(7)).unwrap().receipt();
            rig.acknowledge(receipt, PubAckReason::Success, Gate::Open);
            let receipt = rig.receive(&qos2(8)).unwrap().receipt();
            rig.acknowledge(receipt, PubAckReason::Success, Gate::Open);
            let release = Packet::PubRel(Ack::new(id(8), PubRelReason::Success));
            assert_eq!(rig.receive(&release), Ok(Seen::Released(id(8))));
            assert_eq!(rig.sent().len(), 3);
        }
    }
}

/// [MQTT-4.6.0-2] [MQTT-4.6.0-3] [MQTT311-4.6.0-2] [MQTT311-4.6.0-3]
#[test]
fn pubacks_and_pubrecs_leave_in_the_order_of_their_publishes() {
    for version in VERSIONS {
        let mut rig = Rig::client(version);
        let receipts: Vec<_> = [qos1(1), qos2(2), qos1(3), qos2(4)]
            .iter()
            .map(|packet| rig.receive(packet).unwrap().receipt())
            .collect();
        for receipt in receipts.into_iter().rev() {
            rig.acknowledge(receipt, PubAckReason::Success, Gate::Open);
        }
        let sent = rig.sent_briefly();
        let of = |kind: &str| -> Vec<&String> {
            sent.iter().filter(|line| line.starts_with(kind)).collect()
        };
        assert_eq!(of("PUBACK"), ["PUBACK 1 00", "PUBACK 3 00"]);
        assert_eq!(of("PUBREC"), ["PUBREC 2 00", "PUBREC 4 00"]);
    }
}

/// [MQTT-4.6.0-4] [MQTT311-4.6.0-4]
#[test]
fn pubrels_leave_in_the_order_of_their_pubrecs() {
    for version in VERSIONS {
        let mut rig = Rig::client(version);
        for _ in 0..3 {
            rig.queue_qos(Qos::ExactlyOnce);
        }
        rig.sent();
        for number in [2, 3, 1] {
            let received = Packet::PubRec(Ack::new(id(number), PubRecReason::Success));
            rig.receive(&received).unwrap();
        }
        assert_eq!(
            rig.sent_briefly(),
            ["PUBREL 2 00", "PUBREL 3 00", "PUBREL 1 00"]
        );
        let done = PubCompReason::Success;
        for number in [2, 3, 1] {
            let completed = Packet::PubComp(Ack::new(id(number), done));
            assert_eq!(
                rig.receive(&completed),
                Ok(Seen::Completed(id(number), done))
            );
        }
    }
}

/// [MQTT-4.9.0-1] [MQTT-4.9.0-2] [MQTT-3.3.4-7]
#[test]
fn the_servers_receive_maximum_is_the_window_from_the_first_message_on() {
    let conn_ack = ConnAck {
        receive_maximum: ReceiveMaximum::new(2).unwrap(),
        ..ConnAck::default()
    };
    let mut rig = Rig::client_with(&connect(V5), &conn_ack);
    for _ in 0..3 {
        rig.queue_qos(Qos::AtLeastOnce);
    }
    assert_eq!(rig.sent_briefly(), ["PUBLISH t 1", "PUBLISH t 2"]);
    rig.receive(&Packet::PubAck(Ack::new(id(1), PubAckReason::Success)))
        .unwrap();
    assert_eq!(rig.sent_briefly(), ["PUBLISH t 3"]);
}

/// [MQTT-3.2.2-15]
#[test]
fn a_client_sends_nothing_above_the_servers_maximum_packet_size() {
    let conn_ack = ConnAck {
        maximum_packet_size: NonZeroU32::new(30),
        ..ConnAck::default()
    };
    let mut rig = Rig::client_with(&connect(V5), &conn_ack);
    rig.queue(Outbound::new(
        message("t", &[0; 40], None),
        Qos::AtLeastOnce,
    ));
    rig.queue_qos(Qos::AtLeastOnce);
    let sent = rig.sent();
    assert_eq!(sent.len(), 1);
    assert!(
        sent.iter()
            .all(|packet| packet.encoded_len(V5).unwrap() <= 30)
    );
    let causes: Vec<DropCause> = rig.out.dropped().iter().map(|one| one.cause).collect();
    assert_eq!(causes, [DropCause::TooLarge]);
}

/// [MQTT-3.14.4-1] [MQTT-3.14.4-2] [MQTT311-3.14.4-1] [MQTT311-3.14.4-2]
#[test]
fn a_client_that_has_said_disconnect_says_nothing_more_and_closes() {
    for version in VERSIONS {
        let mut rig = Rig::client(version);
        rig.connection.disconnect(&Disconnect::default());
        rig.queue_qos(Qos::AtMostOnce);
        rig.queue_qos(Qos::AtLeastOnce);
        assert_eq!(rig.receive(&qos1(2)), Ok(Seen::None));
        assert_eq!(rig.sent_briefly(), ["DISCONNECT 00"]);
        assert_eq!(rig.transmit(), TransmitStatus::Close);
        assert!(rig.out.is_empty());
    }
}

/// [MQTT-4.13.1-1] [MQTT-2.1.3-1] [MQTT311-4.8.0-1] [MQTT311-4.8.0-2] [MQTT311-2.2.2-2]
#[test]
fn a_client_that_is_sent_nonsense_says_so_where_it_can_and_closes() {
    for (version, said) in [(V3_1_1, vec![]), (V5, vec!["DISCONNECT 81"])] {
        let mut rig = Rig::client(version);
        rig.connection.handle_invalid(DecodeError::FixedHeaderFlags);
        assert_eq!(rig.sent_briefly(), said);
        assert_eq!(rig.transmit(), TransmitStatus::Close);
    }
    for (version, said) in [(V3_1_1, vec![]), (V5, vec!["DISCONNECT 82"])] {
        let mut rig = Rig::client(version);
        let violation = rig.handle(PacketRef::PingReq, Gate::Open).unwrap_err();
        rig.connection.abort(violation.reason());
        assert_eq!(rig.sent_briefly(), said);
        assert_eq!(rig.transmit(), TransmitStatus::Close);
    }
}

/// [MQTT-4.13.2-1] [MQTT-3.14.4-1]
#[test]
fn a_client_that_is_told_to_go_closes_without_an_answer() {
    let mut rig = Rig::client(V5);
    rig.queue_qos(Qos::AtMostOnce);
    let told = Disconnect::new(DisconnectReason::ServerBusy);
    rig.receive(&Packet::Disconnect(Box::new(told))).unwrap();
    assert_eq!(rig.transmit(), TransmitStatus::Close);
    assert!(rig.out.is_empty());
}

/// [MQTT-4.13.2-1] [MQTT-3.2.2-7]
#[test]
fn a_client_that_is_refused_closes() {
    let refused = ConnAck::refused(paloma_codec::ConnAckReason::NotAuthorized);
    for version in VERSIONS {
        let mut handshake = client::Handshake::new(&connect(version)).unwrap();
        let event = handshake
            .handle_packet(PacketRef::ConnAck(Box::new(refused.clone())))
            .unwrap();
        assert!(matches!(event, client::HandshakeEvent::Refused(_)));
        let mut out = Transmit::default();
        assert_eq!(handshake.poll_transmit(&mut out), TransmitStatus::Close);
    }
}

fn scram(reason: AuthReason) -> Auth {
    Auth {
        reason,
        authentication: Some(Authentication {
            method: "scram".into(),
            data: None,
        }),
        ..Auth::default()
    }
}

/// [MQTT-4.12.0-3] [MQTT-4.12.0-5]
#[test]
fn a_challenge_is_answered_with_0x18_and_the_same_method() {
    let connect = Connect {
        authentication: scram(AuthReason::Success).authentication,
        ..connect(V5)
    };
    let mut handshake = client::Handshake::new(&connect).unwrap();
    let mut out = Transmit::default();
    let _ = handshake.poll_transmit(&mut out);
    let challenge = scram(AuthReason::ContinueAuthentication);
    handshake
        .handle_packet(PacketRef::Auth(Box::new(challenge)))
        .unwrap();
    for wrong in [AuthReason::Success, AuthReason::ReAuthenticate] {
        assert!(handshake.answer(&scram(wrong)).is_err());
    }
    handshake
        .answer(&scram(AuthReason::ContinueAuthentication))
        .unwrap();
    out.clear();
    let _ = handshake.poll_transmit(&mut out);
    assert_eq!(out.bytes(), b"\xF0\x0A\x18\x08\x15\0\x05scram");
}

/// [MQTT-4.12.1-2] [MQTT-4.12.1-1]
#[test]
fn a_re_authentication_that_fails_ends_the_connection() {
    let named = Connect {
        authentication: scram(AuthReason::Success).authentication,
        ..connect(V5)
    };
    let conn_ack = ConnAck {
        authentication: scram(AuthReason::Success).authentication,
        ..ConnAck::default()
    };
    // The server gives up.
    let mut rig = Rig::client_with(&named, &conn_ack);
    rig.connection
        .authenticate(scram(AuthReason::ReAuthenticate))
        .unwrap();
    assert_eq!(rig.sent_briefly(), ["AUTH 19"]);
    let told = Disconnect::new(DisconnectReason::NotAuthorized);
    rig.receive(&Packet::Disconnect(Box::new(told))).unwrap();
    assert_eq!(rig.transmit(), TransmitStatus::Close);
    // The client does.
    let mut rig = Rig::client_with(&named, &conn_ack);
    rig.connection
        .authenticate(scram(AuthReason::ReAuthenticate))
        .unwrap();
    rig.sent();
    let mut other = scram(AuthReason::ContinueAuthentication);
    other.authentication = Some(Authentication {
        method: "other".into(),
        data: None,
    });
    let violation = rig.receive(&Packet::Auth(Box::new(other))).unwrap_err();
    assert_eq!(violation, Violation::AuthMethodChanged);
    rig.connection.abort(violation.reason());
    assert_eq!(rig.sent().len(), 1);
    assert_eq!(rig.transmit(), TransmitStatus::Close);
}

/// [MQTT-1.5.4-3] [MQTT311-1.5.3-3]
#[test]
fn a_byte_order_mark_in_a_topic_is_kept() {
    for version in VERSIONS {
        let mut rig = Rig::client(version);
        let topic = "\u{FEFF}a\u{FEFF}";
        let seen = rig.receive(&publish(topic, Delivery::AtMostOnce)).unwrap();
        assert_eq!(seen.topic(), topic);
        rig.queue(Outbound::new(message(topic, b"x", None), Qos::AtMostOnce));
        let [Packet::Publish(sent)] = &rig.sent()[..] else {
            panic!("one PUBLISH");
        };
        let Publish {
            topic: PublishTopic::Name(name),
            ..
        } = &**sent
        else {
            panic!("a name");
        };
        assert_eq!(name.as_str(), topic);
    }
}

/// [MQTT-3.2.2-4] [MQTT-3.2.2-5]
#[test]
fn a_session_is_where_both_sides_say_it_is() {
    let conn_ack = ConnAck {
        session_present: true,
        ..ConnAck::default()
    };
    let unknown = Rig::open(
        &connect(V5),
        &conn_ack,
        Session::new(QueueLimits::default()),
    );
    assert_eq!(unknown.map(drop), Err(Violation::SessionUnknown));
    let mut rig = Rig::client(V5);
    rig.queue_qos(Qos::AtLeastOnce);
    rig.sent();
    let mut session = rig.session;
    let _ = rig.connection.handle_closed(&mut session);
    let rig = Rig::open(&connect(V5), &ConnAck::default(), session).unwrap();
    assert!(rig.session.window().is_empty());
    assert_eq!(rig.now, start());
}
