//! How connections begin, what clients ask for, and how connections end.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "helpers of tests: what is not as expected is a failed test"
)]

mod rig;

use std::time::Duration;

use paloma_codec::{
    Auth, AuthReason, Authentication, ConnAck, ConnAckReason, Connect, DecodeError, DecodeLimits,
    Decoder, Delivery, Disconnect, DisconnectReason, Packet, PacketId, PacketRef, ProtocolVersion,
    Qos, SubAck, SubAckReason, Subscribe, SubscribeFilter, SubscribeOptions, UnsubAck,
    UnsubAckReason, Unsubscribe, Will,
};
use paloma_session::{
    Closed, Gate, LogSeq, RequestError, Session, Timeout, TimeoutReason, Transmit, TransmitStatus,
    Violation, WillFate, client, server,
};
use paloma_topic::{Target, TopicName};
use rig::{Rig, Seen, brief, connect, id, publish, qos1, qos2, start};

use ProtocolVersion::{V3_1_1, V5};

fn method(name: &str) -> Option<Authentication> {
    Some(Authentication {
        method: name.into(),
        data: None,
    })
}

fn auth(reason: AuthReason, name: &str) -> Auth {
    Auth {
        reason,
        authentication: method(name),
        ..Auth::default()
    }
}

fn authenticating() -> Connect {
    Connect {
        authentication: method("scram"),
        ..connect(V5)
    }
}

fn auth_packet(reason: AuthReason, name: &str) -> PacketRef<'static> {
    PacketRef::Auth(Box::new(auth(reason, name)))
}

/// A server's handshake that has seen this CONNECT.
fn deciding(connect: &Connect) -> server::Handshake {
    let mut handshake = server::Handshake::new();
    handshake
        .handle_packet(PacketRef::Connect(Box::new(connect.clone())))
        .unwrap();
    handshake
}

/// What a handshake writes, and whether it closes after.
fn written(version: ProtocolVersion, handshake: &mut server::Handshake) -> (Vec<String>, bool) {
    let mut out = Transmit::default();
    let closes = handshake.poll_transmit(&mut out) == TransmitStatus::Close;
    let mut decoder = Decoder::client(version, DecodeLimits::default());
    let mut packets = Vec::new();
    let mut rest = out.bytes();
    while let Some((packet, used)) = decoder.decode(rest).unwrap() {
        packets.push(brief(&packet.into_owned()));
        rest = &rest[used..];
    }
    (packets, closes)
}

// The server's handshake.

/// [MQTT-3.1.0-1] [MQTT-3.1.0-2] [MQTT311-3.1.0-1] [MQTT311-3.1.0-2]
#[test]
fn connect_comes_first_and_once() {
    let mut handshake = server::Handshake::new();
    let early = handshake.handle_packet(PacketRef::PingReq).unwrap_err();
    assert_eq!(early, Violation::ConnectExpected);
    let second = deciding(&connect(V5)).handle_packet(PacketRef::Connect(Box::default()));
    assert_eq!(second.unwrap_err(), Violation::ConnectRepeated);
}

/// [MQTT-3.2.2-7] [MQTT-3.1.4-6] [MQTT311-3.2.2-5] [MQTT-4.12.0-4]
#[test]
fn a_refusal_is_told_where_the_version_has_a_code_and_closes() {
    let refuse = |version, reason| {
        let mut handshake = deciding(&connect(version));
        handshake.refuse(&ConnAck::refused(reason));
        written(version, &mut handshake)
    };
    let not_authorized = ConnAckReason::NotAuthorized;
    assert_eq!(
        refuse(V5, not_authorized),
        (vec!["CONNACK 87".to_owned()], true)
    );
    assert_eq!(
        refuse(V3_1_1, not_authorized),
        (vec!["CONNACK 87".to_owned()], true)
    );
    assert_eq!(
        refuse(V3_1_1, ConnAckReason::MalformedPacket),
        (vec![], true)
    );
}

#[test]
fn a_broken_connect_is_told_why_where_that_can_be_done() {
    let mut handshake = server::Handshake::new();
    handshake.handle_invalid(DecodeError::ClientIdTooLong, Some(V5));
    assert_eq!(
        written(V5, &mut handshake),
        (vec!["CONNACK 85".to_owned()], true)
    );
    let mut handshake = deciding(&connect(V5));
    handshake.handle_violation(Violation::ConnectRepeated);
    assert_eq!(
        written(V5, &mut handshake),
        (vec!["CONNACK 82".to_owned()], true)
    );
    let mut handshake = deciding(&connect(V3_1_1));
    handshake.handle_violation(Violation::ConnectRepeated);
    assert_eq!(written(V3_1_1, &mut handshake), (vec![], true));
}

/// [MQTT-4.12.0-2] [MQTT-4.12.0-5] [MQTT-3.1.2-30]
#[test]
fn an_authentication_waits_for_each_answer() {
    let mut handshake = deciding(&authenticating());
    // Not before it is asked.
    let early = handshake.handle_packet(auth_packet(AuthReason::ContinueAuthentication, "scram"));
    assert_eq!(early.unwrap_err(), Violation::AuthOutOfStep);
    for _ in 0..2 {
        handshake
            .challenge(auth(AuthReason::ContinueAuthentication, "scram"))
            .unwrap();
        assert_eq!(
            written(V5, &mut handshake),
            (vec!["AUTH 18".to_owned()], false)
        );
        let answer = auth_packet(AuthReason::ContinueAuthentication, "scram");
        let event = handshake.handle_packet(answer).unwrap();
        assert!(matches!(event, server::HandshakeEvent::Auth(_)));
    }
    handshake
        .challenge(auth(AuthReason::ContinueAuthentication, "scram"))
        .unwrap();
    let other = handshake.handle_packet(PacketRef::PingReq).unwrap_err();
    assert_eq!(other, Violation::BeforeConnAck);
    let wrong = auth_packet(AuthReason::ContinueAuthentication, "other");
    assert_eq!(
        handshake.handle_packet(wrong).unwrap_err(),
        Violation::AuthMethodChanged
    );
}

/// [MQTT-3.1.2-29]
#[test]
fn a_challenge_says_why_to_those_who_want_to_know() {
    for wants_to_know in [true, false] {
        let mut handshake = deciding(&Connect {
            request_problem_information: wants_to_know,
            ..authenticating()
        });
        let challenge = Auth {
            reason_string: Some("one more step".into()),
            ..auth(AuthReason::ContinueAuthentication, "scram")
        };
        handshake.challenge(challenge).unwrap();
        let mut out = Transmit::default();
        let _ = handshake.poll_transmit(&mut out);
        let mut decoder = Decoder::client(V5, DecodeLimits::default());
        let (packet, _) = decoder.decode(out.bytes()).unwrap().unwrap();
        match packet.into_owned() {
            Packet::Auth(auth) => assert_eq!(auth.reason_string.is_some(), wants_to_know),
            other => panic!("expected AUTH, got {other:?}"),
        }
    }
}

/// [MQTT-4.12.0-6]
#[test]
fn a_server_sends_no_auth_to_a_client_that_named_no_method() {
    let challenge = auth(AuthReason::ContinueAuthentication, "scram");
    let refused = deciding(&connect(V5)).challenge(challenge.clone());
    assert_eq!(refused, Err(RequestError::NotAllowed));
    let mut undecided = deciding(&authenticating());
    undecided.challenge(challenge.clone()).unwrap();
    assert_eq!(
        undecided.challenge(challenge),
        Err(RequestError::NotAllowed)
    );
    let mut session = Session::default();
    let conn_ack = ConnAck::default();
    let accepted = undecided.accept(
        start(),
        &mut session,
        &conn_ack,
        Default::default(),
        Gate::Open,
    );
    assert!(accepted.is_none(), "the client owes an AUTH");
}

// The client's handshake.

fn client_sees(
    connect: &Connect,
    packet: PacketRef<'_>,
) -> Result<client::HandshakeEvent, Violation> {
    client::Handshake::new(connect)
        .unwrap()
        .handle_packet(packet)
}

/// [MQTT-3.2.0-1] [MQTT-4.12.0-5]
#[test]
fn a_client_takes_connack_or_its_auth_first_and_nothing_else() {
    let refusal = ConnAck::refused(ConnAckReason::ServerBusy);
    let refused = client_sees(&connect(V5), PacketRef::ConnAck(Box::new(refusal))).unwrap();
    assert!(matches!(refused, client::HandshakeEvent::Refused(_)));
    let other = client_sees(&connect(V5), PacketRef::PingResp).unwrap_err();
    assert_eq!(other, Violation::ConnAckExpected);
    // A server of 5.0 may say why it goes, one of 3.1.1 only goes.
    let told = client_sees(&connect(V5), PacketRef::Disconnect(Box::default())).unwrap();
    assert!(matches!(told, client::HandshakeEvent::Disconnect(_)));
    let told = client_sees(&connect(V3_1_1), PacketRef::Disconnect(Box::default())).unwrap_err();
    assert_eq!(told, Violation::ConnAckExpected);
    let unasked = auth_packet(AuthReason::ContinueAuthentication, "scram");
    assert_eq!(
        client_sees(&connect(V5), unasked).unwrap_err(),
        Violation::AuthNotNegotiated
    );
    let without_method = PacketRef::ConnAck(Box::default());
    let violation = client_sees(&authenticating(), without_method).unwrap_err();
    assert_eq!(violation, Violation::AuthMethodChanged);
}

#[test]
fn a_client_answers_a_challenge_with_the_same_method() {
    let mut handshake = client::Handshake::new(&authenticating()).unwrap();
    let answer = auth(AuthReason::ContinueAuthentication, "scram");
    assert_eq!(handshake.answer(&answer), Err(RequestError::NotAllowed));
    let challenge = auth_packet(AuthReason::ContinueAuthentication, "scram");
    let event = handshake.handle_packet(challenge).unwrap();
    assert!(matches!(event, client::HandshakeEvent::Auth(_)));
    let other = auth(AuthReason::ContinueAuthentication, "other");
    assert_eq!(handshake.answer(&other), Err(RequestError::NotAllowed));
    handshake.answer(&answer).unwrap();
    let conn_ack = ConnAck {
        authentication: method("scram"),
        ..ConnAck::default()
    };
    let event = handshake
        .handle_packet(PacketRef::ConnAck(Box::new(conn_ack)))
        .unwrap();
    assert!(matches!(event, client::HandshakeEvent::Accepted(_)));
}

/// [MQTT-3.2.2-4]
#[test]
fn a_session_that_the_client_does_not_have_is_a_violation() {
    let conn_ack = ConnAck {
        session_present: true,
        ..ConnAck::default()
    };
    let open = |connect: &Connect, session| Rig::open(connect, &conn_ack, session).map(drop);
    assert_eq!(
        open(&connect(V5), Session::default()),
        Err(Violation::SessionUnknown)
    );
    // 3.1.1 leaves it to the client.
    assert_eq!(open(&connect(V3_1_1), Session::default()), Ok(()));
    let mut known = Session::default();
    known.set_established();
    assert_eq!(open(&connect(V5), known), Ok(()));
    let clean = Connect {
        clean_start: true,
        ..connect(V5)
    };
    let mut known = Session::default();
    known.set_established();
    assert_eq!(open(&clean, known), Err(Violation::SessionUnknown));
}

/// [MQTT-3.2.2-5]
#[test]
fn a_client_whose_session_is_lost_begins_anew_and_gets_back_what_was_open() {
    let mut rig = Rig::client(V5);
    for _ in 0..2 {
        rig.queue_qos(Qos::AtLeastOnce);
    }
    rig.sent();
    rig.receive(&qos2(9)).unwrap();
    rig.queue_qos(Qos::ExactlyOnce);
    let mut session = rig.session;
    let _ = rig.connection.handle_closed(&mut session);
    let mut handshake = client::Handshake::new(&connect(V5)).unwrap();
    handshake
        .handle_packet(PacketRef::ConnAck(Box::default()))
        .unwrap();
    let mut lost = Vec::new();
    let conn_ack = ConnAck::default();
    let options = Default::default();
    handshake
        .open(start(), &mut session, &conn_ack, options, |leftover| {
            lost.push(leftover.sent_as)
        })
        .unwrap();
    assert_eq!(lost, [Some(id(1)), Some(id(2))]);
    assert!(session.window().is_empty() && session.received().is_empty());
    assert_eq!(session.queue().len(), 1, "what was not begun stays");
}

// Requests of a client.

fn subscribe(filters: &[&str]) -> Subscribe {
    let filters = filters
        .iter()
        .map(|filter| SubscribeFilter {
            target: Target::parse(*filter).unwrap(),
            options: SubscribeOptions::new(Qos::AtLeastOnce),
        })
        .collect();
    Subscribe::new(PacketId::MIN, filters)
}

/// [MQTT-2.2.1-3] [MQTT-3.3.4-8]
#[test]
fn requests_and_publishes_share_the_packet_ids() {
    let mut rig = Rig::client(V5);
    for _ in 0..32 {
        rig.queue_qos(Qos::AtLeastOnce);
    }
    assert_eq!(rig.sent().len(), 32);
    let session = &mut rig.session;
    let subscribed = rig
        .connection
        .subscribe(session, subscribe(&["a", "b"]))
        .unwrap();
    let filters = vec![Target::parse("a").unwrap()];
    let unsubscribe = Unsubscribe::new(PacketId::MIN, filters);
    let unsubscribed = rig.connection.unsubscribe(session, unsubscribe).unwrap();
    assert_eq!((subscribed, unsubscribed), (id(33), id(34)));
    assert_eq!(rig.sent_briefly(), ["SUBSCRIBE 33", "UNSUBSCRIBE 34"]);

    let granted = SubAckReason::GrantedQos1;
    let short = Packet::SubAck(Box::new(SubAck::new(id(33), vec![granted])));
    assert_eq!(rig.receive(&short), Err(Violation::AckCountWrong));
    let wrong = UnsubAck::new(id(33), vec![UnsubAckReason::Success]);
    let wrong = Packet::UnsubAck(Box::new(wrong));
    assert_eq!(rig.receive(&wrong), Err(Violation::AckOfWrongKind));
    let right = Packet::SubAck(Box::new(SubAck::new(id(33), vec![granted; 2])));
    assert!(matches!(
        rig.receive(&right),
        Ok(Seen::Other(Packet::SubAck(_)))
    ));
    assert_eq!(
        rig.receive(&right),
        Ok(Seen::None),
        "a second one belongs to nothing"
    );
    let right = UnsubAck::new(id(34), vec![UnsubAckReason::Success]);
    let right = Packet::UnsubAck(Box::new(right));
    assert!(matches!(
        rig.receive(&right),
        Ok(Seen::Other(Packet::UnsubAck(_)))
    ));
}

#[test]
fn requests_end_with_their_connection() {
    let mut rig = Rig::client(V3_1_1);
    rig.connection
        .subscribe(&mut rig.session, subscribe(&["a"]))
        .unwrap();
    let rig = rig.reconnected(&connect(V3_1_1));
    assert!(rig.session.window().is_empty());
}

#[test]
fn a_server_makes_no_requests() {
    let mut rig = Rig::server(V5);
    let refused = rig
        .connection
        .subscribe(&mut rig.session, subscribe(&["a"]));
    assert_eq!(refused, Err(RequestError::NotAllowed));
    rig.connection.ping(rig.now.monotonic);
    assert_eq!(rig.sent(), []);
}

#[test]
fn a_server_passes_requests_on_and_sends_the_answers() {
    let mut rig = Rig::server(V5);
    let request = Packet::Subscribe(subscribe(&["a"]));
    assert!(matches!(
        rig.receive(&request),
        Ok(Seen::Other(Packet::Subscribe(_)))
    ));
    let ack = SubAck::new(id(1), vec![SubAckReason::GrantedQos1]);
    rig.connection.answer_subscribe(ack, Gate::Until(LogSeq(1)));
    assert_eq!(rig.sent(), []);
    rig.committed = LogSeq(1);
    assert_eq!(rig.sent_briefly(), ["SUBACK 1"]);
}

// Keep alive.

fn keep_alive(seconds: u16) -> Connect {
    Connect {
        keep_alive_seconds: seconds,
        ..connect(V5)
    }
}

fn after(rig: &mut Rig, millis: u64) -> Timeout {
    rig.now = rig.now.saturating_add(Duration::from_millis(millis));
    rig.connection.handle_timeout(rig.now.monotonic)
}

/// [MQTT-3.1.2-22]
#[test]
fn a_silent_client_times_out_after_one_and_a_half_keep_alives() {
    let mut rig = Rig::server_with(&keep_alive(10), &ConnAck::default());
    assert_eq!(after(&mut rig, 14_000), Timeout::Early);
    rig.receive(&qos1(1)).unwrap();
    assert_eq!(after(&mut rig, 14_999), Timeout::Early);
    assert_eq!(after(&mut rig, 1), Timeout::Expired);
    rig.connection.abort(DisconnectReason::KeepAliveTimeout);
    assert_eq!(rig.sent_briefly(), ["DISCONNECT 8d"]);
    assert_eq!(rig.transmit(), TransmitStatus::Close);
    assert_eq!(rig.connection.poll_timeout(), None);
}

/// Whether a PUBLISH is taken in without an event.
fn is_plain(rig: &mut Rig, packet: &Packet) -> bool {
    let (mut bytes, mut decoder) = (Vec::new(), rig.input.clone());
    packet.encode(rig.connection.version(), &mut bytes).unwrap();
    match decoder.decode(&bytes).unwrap().unwrap() {
        (PacketRef::Publish(publish), _) => {
            let topic = rig.connection.handle_plain_publish(rig.now, &publish);
            topic.is_some_and(|(topic, receipt)| topic.as_str() == "t" && receipt.is_none())
        }
        (other, _) => panic!("{other:?}"),
    }
}

/// [MQTT-3.1.2-22]
#[test]
fn a_plain_publish_is_a_sign_of_life_and_no_other_is_taken_for_one() {
    let mut rig = Rig::server_with(&keep_alive(10), &ConnAck::default());
    assert_eq!(after(&mut rig, 14_000), Timeout::Early);
    let plain = publish("t", Delivery::AtMostOnce);
    let mut retained = plain.clone();
    if let Packet::Publish(publish) = &mut retained {
        publish.retain = true;
    }
    assert!(!is_plain(&mut rig, &qos2(1)));
    assert!(!is_plain(&mut rig, &retained));
    assert!(is_plain(&mut rig, &plain));
    assert_eq!(after(&mut rig, 14_999), Timeout::Early);
    rig.connection.abort(DisconnectReason::NormalDisconnection);
    assert!(!is_plain(&mut rig, &plain));
}

/// [MQTT-3.1.2-21] [MQTT-3.2.2-21] [MQTT-3.2.2-22]
#[test]
fn the_servers_keep_alive_is_the_one_that_holds() {
    let announced = ConnAck {
        server_keep_alive_seconds: Some(4),
        ..ConnAck::default()
    };
    for (conn_ack, seconds) in [(ConnAck::default(), 10), (announced, 4)] {
        let server = Rig::server_with(&keep_alive(10), &conn_ack);
        let client = Rig::client_with(&keep_alive(10), &conn_ack);
        assert_eq!(server.connection.keep_alive_seconds(), seconds);
        assert_eq!(client.connection.keep_alive_seconds(), seconds);
    }
}

/// [MQTT-3.1.2-20]
#[test]
fn a_client_with_nothing_to_say_pings_and_expects_an_answer() {
    let mut rig = Rig::client_with(&keep_alive(10), &ConnAck::default());
    assert_eq!(after(&mut rig, 9_000), Timeout::Early);
    rig.queue_qos(Qos::AtMostOnce);
    rig.sent();
    assert_eq!(after(&mut rig, 9_999), Timeout::Early);
    assert_eq!(after(&mut rig, 1), Timeout::Ping);
    assert_eq!(rig.sent_briefly(), ["PINGREQ"]);
    rig.receive(&Packet::PingResp).unwrap();
    assert_eq!(after(&mut rig, 10_000), Timeout::Ping);
    assert_eq!(rig.sent_briefly(), ["PINGREQ"]);
    let (_, reason) = rig.connection.poll_timeout().unwrap();
    assert_eq!(reason, TimeoutReason::PingResponse);
    assert_eq!(after(&mut rig, 10_000), Timeout::Expired);
    rig.connection.abort(DisconnectReason::KeepAliveTimeout);
    assert_eq!(rig.sent_briefly(), ["DISCONNECT 80"]);
    assert_eq!(rig.transmit(), TransmitStatus::Close);
}

/// [MQTT-3.1.2-20]
#[test]
fn a_client_that_finds_nothing_to_say_pings_in_time() {
    let mut rig = Rig::client_with(&keep_alive(10), &ConnAck::default());
    rig.sent();
    assert_eq!(after(&mut rig, 9_000), Timeout::Early);
    assert!(rig.sent_briefly().is_empty());
    assert_eq!(after(&mut rig, 1_000), Timeout::Ping);
}

// Ends.

fn with_will(delay_seconds: u32) -> Connect {
    let topic = TopicName::new("will").unwrap();
    let will = Will {
        delay_seconds,
        ..Will::new(topic, "gone".into())
    };
    Connect {
        will: Some(will),
        session_expiry_seconds: 100,
        ..connect(V5)
    }
}

fn closed(mut rig: Rig, disconnect: Option<Disconnect>) -> Closed {
    if let Some(disconnect) = disconnect {
        let event = rig
            .receive(&Packet::Disconnect(Box::new(disconnect)))
            .unwrap();
        assert!(matches!(event, Seen::Other(Packet::Disconnect(_))));
        assert_eq!(rig.transmit(), TransmitStatus::Close);
    }
    let mut session = rig.session;
    rig.connection.handle_closed(&mut session)
}

/// [MQTT-3.1.2-8] [MQTT-3.1.2-10] [MQTT-3.14.4-3]
#[test]
fn a_will_is_discarded_by_a_normal_disconnect_alone() {
    let server = |connect: &Connect| Rig::server_with(connect, &ConnAck::default());
    let publish = |after_seconds| WillFate::Publish { after_seconds };
    let normal = Disconnect::default();
    let with_will_message = Disconnect::new(DisconnectReason::DisconnectWithWillMessage);
    assert_eq!(closed(server(&connect(V5)), None).will, WillFate::None);
    assert_eq!(closed(server(&with_will(5)), None).will, publish(5));
    assert_eq!(closed(server(&with_will(500)), None).will, publish(100));
    assert_eq!(
        closed(server(&with_will(5)), Some(normal)).will,
        WillFate::Discard
    );
    assert_eq!(
        closed(server(&with_will(5)), Some(with_will_message)).will,
        publish(5)
    );
    let mut aborted = server(&with_will(0));
    aborted.connection.abort(DisconnectReason::SessionTakenOver);
    assert_eq!(closed(aborted, None).will, publish(0));
}

#[test]
fn disconnect_may_change_the_session_expiry_but_not_from_zero() {
    let disconnect = |seconds| Disconnect {
        session_expiry_seconds: Some(seconds),
        ..Disconnect::default()
    };
    let server = |session_expiry_seconds| {
        let connect = Connect {
            session_expiry_seconds,
            ..connect(V5)
        };
        Rig::server_with(&connect, &ConnAck::default())
    };
    assert_eq!(closed(server(100), None).session_expiry_seconds, 100);
    assert_eq!(
        closed(server(100), Some(disconnect(0))).session_expiry_seconds,
        0
    );
    assert_eq!(
        closed(server(100), Some(disconnect(7))).session_expiry_seconds,
        7
    );
    assert_eq!(
        closed(server(0), Some(disconnect(0))).session_expiry_seconds,
        0
    );
    let mut rig = server(0);
    let violation = rig
        .receive(&Packet::Disconnect(Box::new(disconnect(7))))
        .unwrap_err();
    assert_eq!(violation, Violation::SessionExpiryFromZero);
}

/// [MQTT-3.14.2-2]
#[test]
fn a_disconnect_of_ours_changes_the_session_expiry_where_that_is_allowed() {
    let disconnect = Disconnect {
        session_expiry_seconds: Some(7),
        ..Disconnect::default()
    };
    let ends = |mut rig: Rig| {
        rig.connection.disconnect(&disconnect);
        match rig.sent().as_slice() {
            [Packet::Disconnect(sent)] => (
                sent.session_expiry_seconds,
                rig.connection.session_expiry_seconds(),
            ),
            other => panic!("a DISCONNECT, not {other:?}"),
        }
    };
    let expiring = |session_expiry_seconds| Connect {
        session_expiry_seconds,
        ..connect(V5)
    };
    assert_eq!(
        ends(Rig::client_with(&expiring(9), &ConnAck::default())),
        (Some(7), 7)
    );
    assert_eq!(
        ends(Rig::client_with(&expiring(0), &ConnAck::default())),
        (None, 0)
    );
    assert_eq!(
        ends(Rig::server_with(&expiring(9), &ConnAck::default())),
        (None, 9)
    );
}

#[test]
fn the_servers_session_expiry_is_the_one_that_holds() {
    let conn_ack = ConnAck {
        session_expiry_seconds: Some(30),
        ..ConnAck::default()
    };
    assert_eq!(
        closed(Rig::server_with(&with_will(60), &conn_ack), None),
        Closed {
            will: WillFate::Publish { after_seconds: 30 },
            session_expiry_seconds: 30
        }
    );
}

/// [MQTT-3.14.4-1] [MQTT-3.14.4-2]
#[test]
fn nothing_follows_a_disconnect() {
    let mut rig = Rig::client(V5);
    let receipt = rig.receive(&qos1(1)).unwrap().receipt();
    rig.acknowledge(receipt, Default::default(), Gate::Open);
    rig.queue_qos(Qos::AtMostOnce);
    rig.connection.disconnect(&Disconnect::default());
    assert_eq!(rig.receive(&qos1(2)), Ok(Seen::None));
    assert_eq!(rig.sent_briefly(), ["PUBACK 1 00", "DISCONNECT 00"]);
    assert_eq!(rig.transmit(), TransmitStatus::Close);
    assert!(rig.out.is_empty());
    let again = rig
        .connection
        .subscribe(&mut rig.session, subscribe(&["a"]));
    assert_eq!(again, Err(RequestError::Closed));
}

#[test]
fn answers_whose_commit_never_came_do_not_leave_with_a_disconnect() {
    let mut rig = Rig::server(V5);
    let receipt = rig.receive(&qos1(1)).unwrap().receipt();
    rig.acknowledge(receipt, Default::default(), Gate::Until(LogSeq(1)));
    rig.connection.abort(DisconnectReason::ServerShuttingDown);
    assert_eq!(rig.sent_briefly(), ["DISCONNECT 8b"]);
}

/// [MQTT-3.14.0-1]
#[test]
fn no_disconnect_precedes_the_connack() {
    for (committed, expected) in [(0, vec![]), (1, vec!["CONNACK 00", "DISCONNECT 82"])] {
        let gate = Gate::Until(LogSeq(1));
        let mut rig = Rig::accept(&connect(V5), &ConnAck::default(), Session::default(), gate);
        rig.connection.abort(DisconnectReason::ProtocolError);
        rig.committed = LogSeq(committed);
        assert_eq!(rig.sent_briefly(), expected);
        assert_eq!(rig.transmit(), TransmitStatus::Close);
    }
}

#[test]
fn only_those_are_told_that_can_be() {
    let abort = |mut rig: Rig, reason| {
        rig.connection.abort(reason);
        let sent = rig.sent_briefly();
        assert_eq!(rig.transmit(), TransmitStatus::Close);
        sent
    };
    let none: [&str; 0] = [];
    assert_eq!(
        abort(Rig::server(V3_1_1), DisconnectReason::ProtocolError),
        none
    );
    assert_eq!(
        abort(Rig::client(V3_1_1), DisconnectReason::ProtocolError),
        none
    );
    assert_eq!(
        abort(Rig::client(V3_1_1), DisconnectReason::NormalDisconnection),
        ["DISCONNECT 00"]
    );
    // Who has a 0x8D, and many others, is a server; silence is no protocol error.
    assert_eq!(
        abort(Rig::client(V5), DisconnectReason::KeepAliveTimeout),
        ["DISCONNECT 80"]
    );
    // What no server may send is one, whatever a server would call it.
    assert_eq!(
        abort(Rig::client(V5), DisconnectReason::TopicFilterInvalid),
        ["DISCONNECT 82"]
    );
    let mut rig = Rig::server(V5);
    rig.connection.handle_invalid(DecodeError::PacketTooLarge);
    assert_eq!(rig.sent_briefly(), ["DISCONNECT 95"]);
}

#[test]
fn a_3_1_1_server_sends_no_disconnect() {
    let mut rig = Rig::client(V3_1_1);
    let disconnect = PacketRef::Disconnect(Box::default());
    assert_eq!(
        rig.handle(disconnect, Gate::Open),
        Err(Violation::DisconnectFromServer)
    );
}

#[test]
fn a_last_packet_counts_if_there_is_one() {
    for (mut rig, packets) in [(Rig::server(V3_1_1), 0), (Rig::server(V5), 1)] {
        rig.out.take_counts();
        rig.connection.abort(DisconnectReason::ProtocolError);
        assert_eq!(rig.sent().len(), packets);
        assert_eq!(rig.out.take_counts().others as usize, packets);
    }
}

// Re-authentication.

/// [MQTT-4.12.1-1] [MQTT-4.12.0-7]
#[test]
fn a_client_authenticates_again_with_the_same_method() {
    let conn_ack = ConnAck {
        authentication: method("scram"),
        ..ConnAck::default()
    };
    let mut rig = Rig::server_with(&authenticating(), &conn_ack);
    let mut says = |reason, name| rig.handle(auth_packet(reason, name), Gate::Open);
    let (again, next) = (
        AuthReason::ReAuthenticate,
        AuthReason::ContinueAuthentication,
    );
    assert_eq!(says(next, "scram"), Err(Violation::AuthOutOfStep));
    assert_eq!(says(again, "other"), Err(Violation::AuthMethodChanged));
    assert!(matches!(
        says(again, "scram"),
        Ok(Seen::Other(Packet::Auth(_)))
    ));
    assert_eq!(says(again, "scram"), Err(Violation::AuthOutOfStep));
    rig.connection.authenticate(auth(next, "scram")).unwrap();
    assert!(rig.handle(auth_packet(next, "scram"), Gate::Open).is_ok());
    rig.connection
        .authenticate(auth(AuthReason::Success, "scram"))
        .unwrap();
    assert_eq!(rig.sent_briefly(), ["AUTH 18", "AUTH 00"]);
    let unasked = rig
        .connection
        .authenticate(auth(AuthReason::Success, "scram"));
    assert_eq!(unasked, Err(RequestError::NotAllowed));

    let mut plain = Rig::server(V5);
    let unasked = plain.handle(auth_packet(again, "scram"), Gate::Open);
    assert_eq!(unasked, Err(Violation::AuthNotNegotiated));
}

#[test]
fn the_client_begins_a_re_authentication_and_the_server_ends_it() {
    let conn_ack = ConnAck {
        authentication: method("scram"),
        ..ConnAck::default()
    };
    let mut rig = Rig::client_with(&authenticating(), &conn_ack);
    let (again, next) = (
        AuthReason::ReAuthenticate,
        AuthReason::ContinueAuthentication,
    );
    let early = rig.handle(auth_packet(AuthReason::Success, "scram"), Gate::Open);
    assert_eq!(early, Err(Violation::AuthOutOfStep));
    rig.connection.authenticate(auth(again, "scram")).unwrap();
    assert!(rig.handle(auth_packet(next, "scram"), Gate::Open).is_ok());
    rig.connection.authenticate(auth(next, "scram")).unwrap();
    assert!(
        rig.handle(auth_packet(AuthReason::Success, "scram"), Gate::Open)
            .is_ok()
    );
    assert_eq!(rig.sent_briefly(), ["AUTH 19", "AUTH 18"]);
    let mut plain = Rig::client(V5);
    assert_eq!(
        plain.connection.authenticate(auth(again, "x")),
        Err(RequestError::NotAllowed)
    );
}
