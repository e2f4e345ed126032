//! Sessions and the connections that come and go on them.

mod support;

use std::num::NonZeroU32;

use paloma_broker::{AuthOutcome, CloseCause, DropCause, Identity, Tables};
use paloma_codec::{
    Auth, AuthReason, Authentication, ConnAckReason, Connect, Disconnect, DisconnectReason, Packet,
    ProtocolVersion, Qos, Secret,
};
use support::{World, message, publish_packet, qos1, v3, v5, will};

fn durable(client_id: &str, clean_start: bool, expiry: u32) -> Connect {
    Connect {
        clean_start,
        session_expiry_seconds: expiry,
        ..v5(client_id)
    }
}

fn as_user(user: &str, connect: Connect) -> Connect {
    Connect {
        username: Some(user.to_owned().into()),
        ..connect
    }
}

#[test]
fn session_present_is_said_only_of_a_session_that_is_there() {
    // [MQTT-3.2.2-2] [MQTT-3.2.2-3] [MQTT-3.1.2-5] [MQTT-3.1.2-6]
    let mut world = World::new();
    let (first, ack) = world.durable("c");
    assert!(!ack.session_present);
    world.cut(first);
    let (second, ack) = world.durable("c");
    assert!(ack.session_present);
    world.cut(second);
    let (_, ack) = world.connect(durable("c", true, 3_600));
    assert!(!ack.session_present);
}

#[test]
fn a_clean_start_leaves_neither_subscriptions_nor_messages() {
    // [MQTT-3.1.2-4]
    let mut world = World::new();
    let (first, _) = world.durable("c");
    world.subscribe(first, "t", Qos::AtLeastOnce);
    world.cut(first);
    let publisher = world.client("p");
    world.publish_qos(publisher, "t", "old", qos1(1));
    let (second, _) = world.connect(durable("c", true, 3_600));
    world.publish_qos(publisher, "t", "new", qos1(2));
    assert!(world.payloads(second).is_empty());
    assert_eq!(world.dropped(DropCause::SessionEnded), 1);
    assert_eq!(world.store.message_count(), 0);
}

#[test]
fn a_resumed_session_still_has_its_subscriptions() {
    let mut world = World::new();
    let (first, _) = world.durable("c");
    world.subscribe(first, "t", Qos::AtLeastOnce);
    world.cut(first);
    let (second, _) = world.durable("c");
    world.publish(second, "t", "x");
    assert_eq!(world.payloads(second), ["x"]);
}

fn check_takeover(
    version: ProtocolVersion,
    clean: bool,
    farewell_expected: Option<DisconnectReason>,
) {
    let mut world = World::new();
    let connect = Connect {
        clean_start: false,
        ..match version {
            ProtocolVersion::V5 => durable("c", false, 3_600),
            ProtocolVersion::V3_1 | ProtocolVersion::V3_1_1 => v3("c", false),
        }
    };
    let (first, _) = world.connect(connect.clone());
    world.subscribe(first, "t", Qos::AtMostOnce);
    let (second, ack) = world.connect(Connect {
        clean_start: clean,
        session_expiry_seconds: if clean {
            0
        } else {
            connect.session_expiry_seconds
        },
        ..connect
    });
    assert_eq!(world.farewell(first), farewell_expected);
    assert_eq!(world.closed(first), Some(CloseCause::TakenOver));
    assert_eq!(world.closed(second), None);
    assert_eq!(ack.session_present, !clean);
    world.publish(second, "t", "x");
    assert_eq!(world.payloads(second).len(), usize::from(!clean));
    assert_eq!(world.broker.tables().sessions, 1);
}

#[test]
fn a_second_connection_of_a_client_takes_the_session_over() {
    // [MQTT-3.1.4-3] [MQTT311-3.1.4-2]
    let taken_over = Some(DisconnectReason::SessionTakenOver);
    check_takeover(ProtocolVersion::V5, false, taken_over);
    check_takeover(ProtocolVersion::V5, true, taken_over);
    check_takeover(ProtocolVersion::V3_1_1, false, None);
    check_takeover(ProtocolVersion::V3_1_1, true, None);
}

#[test]
fn taking_over_a_session_without_expiry_finds_none() {
    // [MQTT-3.2.2-2]: the session ended with the connection that was closed for it.
    let mut world = World::new();
    let first = world.client("c");
    world.subscribe(first, "t", Qos::AtMostOnce);
    let (second, ack) = world.connect(durable("c", false, 0));
    assert!(!ack.session_present);
    world.publish(second, "t", "x");
    assert!(world.payloads(second).is_empty());
    assert_eq!(world.broker.tables().sessions, 1);
}

#[test]
fn a_taken_over_connection_takes_nothing_of_the_session_along() {
    let mut world = World::new();
    let (first, _) = world.durable("c");
    let (second, _) = world.durable("c");
    // The old socket's end is reported late.
    world.cut(first);
    assert_eq!(world.closed(second), None);
    world.subscribe(second, "t", Qos::AtMostOnce);
    world.publish(second, "t", "x");
    assert_eq!(world.payloads(second), ["x"]);
}

#[test]
fn two_connects_of_one_client_in_one_turn_leave_the_later_one() {
    // C5
    let mut world = World::new();
    world.authenticates = false;
    let (first, second) = (
        world.open(ProtocolVersion::V5),
        world.open(ProtocolVersion::V5),
    );
    for client in [first, second] {
        world.send(client, Packet::Connect(Box::new(durable("c", false, 60))));
    }
    world.answer(AuthOutcome::allow(Identity::ANONYMOUS));
    world.answer(AuthOutcome::allow(Identity::ANONYMOUS));
    assert_eq!(world.closed(first), Some(CloseCause::TakenOver));
    assert_eq!(world.closed(second), None);
    assert_eq!(world.broker.tables().connections, 1);
}

#[test]
fn connections_that_fight_for_one_client_id_leave_one_session() {
    // C5
    let mut world = World::new();
    for round in 0..500_u32 {
        let expiry = [0, 60, 3_600][round as usize % 3];
        let (client, _) = world.connect(durable("c", round % 5 == 0, expiry));
        world.subscribe(client, "t", Qos::AtLeastOnce);
        world.publish_qos(client, "t", "x", qos1(1));
    }
    let tables = world.broker.tables();
    assert_eq!((tables.connections, tables.sessions), (1, 1));
    assert_eq!(tables.subscriptions, 1);
    assert!(tables.timers < 10, "{} timers", tables.timers);
}

#[test]
fn a_session_expiry_above_the_limit_is_capped_and_announced() {
    let mut world = World::with(|config| config.limits.session_expiry_seconds_max = 100);
    let (_, ack) = world.connect(durable("at", false, 100));
    assert_eq!(ack.session_expiry_seconds, None);
    let (client, ack) = world.connect(durable("above", false, 101));
    assert_eq!(ack.session_expiry_seconds, Some(100));
    world.cut(client);
    world.advance(99);
    assert_eq!(world.broker.tables().sessions, 2);
    world.advance(1);
    assert_eq!(world.broker.tables().sessions, 1);
}

#[test]
fn an_unclean_3_1_1_session_lives_as_long_as_any_may() {
    // [MQTT311-3.1.2-4] [MQTT311-3.1.2-5]
    let mut world = World::with(|config| config.limits.session_expiry_seconds_max = 100);
    let (client, _) = world.connect(v3("c", false));
    world.cut(client);
    world.advance(99);
    let (client, ack) = world.connect(v3("c", false));
    assert!(ack.session_present);
    world.cut(client);
    world.advance(100);
    assert_eq!(world.broker.tables(), Tables::default());
}

#[test]
fn a_clean_3_1_1_session_ends_with_its_connection() {
    // [MQTT311-3.1.2-6]
    let mut world = World::new();
    let (client, _) = world.connect(v3("c", true));
    world.subscribe(client, "t", Qos::ExactlyOnce);
    world.cut(client);
    assert_eq!(world.broker.tables(), Tables::default());
    let (_, ack) = world.connect(v3("c", false));
    assert!(!ack.session_present);
}

#[test]
fn a_disconnect_may_change_how_long_the_session_lives() {
    // [MQTT-3.1.2-23]
    let mut world = World::new();
    for (expiry, left) in [(0, 0), (10, 1)] {
        let (client, _) = world.connect(durable("c", true, 3_600));
        let disconnect = Disconnect {
            session_expiry_seconds: Some(expiry),
            ..Disconnect::default()
        };
        world.send(client, Packet::Disconnect(Box::new(disconnect)));
        assert_eq!(world.broker.tables().sessions, left);
        world.advance(10);
        assert_eq!(world.broker.tables().sessions, 0);
    }
}

#[test]
fn a_disconnect_cannot_begin_an_expiry() {
    // [MQTT-3.14.2-2]
    let mut world = World::new();
    let client = world.client("c");
    let disconnect = Disconnect {
        session_expiry_seconds: Some(1),
        ..Disconnect::default()
    };
    world.send(client, Packet::Disconnect(Box::new(disconnect)));
    assert_eq!(
        world.farewell(client),
        Some(DisconnectReason::ProtocolError)
    );
    assert_eq!(world.broker.tables().sessions, 0);
}

#[test]
fn an_expired_session_leaves_nothing_behind() {
    // [MQTT-4.1.0-2] B8
    let mut world = World::new();
    let (client, _) = world.durable("c");
    world.subscribe(client, "a/+", Qos::AtLeastOnce);
    world.subscribe(client, "$share/g/b", Qos::AtLeastOnce);
    world.cut(client);
    let publisher = world.client("p");
    for n in 1..=10 {
        world.publish_qos(publisher, "a/b", "x", qos1(n));
    }
    world.disconnect(publisher, DisconnectReason::NormalDisconnection);
    assert_eq!(world.store.message_count(), 10);
    world.advance_millis(3_599_999);
    assert_eq!(world.broker.tables().sessions, 1);
    world.advance_millis(1);
    assert_eq!(world.broker.tables(), Tables::default());
    assert_eq!(world.store.message_count(), 0);
    assert_eq!(world.dropped(DropCause::SessionEnded), 10);
}

#[test]
fn a_session_that_is_resumed_does_not_expire_by_its_earlier_deadline() {
    let mut world = World::new();
    let (client, _) = world.durable("c");
    world.cut(client);
    world.advance(3_000);
    let (client, _) = world.durable("c");
    world.advance(3_000);
    assert_eq!(world.broker.tables().sessions, 1);
    world.cut(client);
    world.advance(3_599);
    assert_eq!(world.broker.tables().sessions, 1);
}

#[test]
fn timers_do_not_pile_up_while_a_client_comes_and_goes() {
    // B3
    let mut world = World::new();
    for n in 0..200 {
        let (client, _) = world.connect(Connect {
            will: Some(paloma_codec::Will {
                delay_seconds: 3_000,
                ..will("w", "x")
            }),
            keep_alive_seconds: 600,
            ..durable("c", n % 2 == 0, 3_600)
        });
        world.cut(client);
    }
    let tables = world.broker.tables();
    assert!(tables.timers <= 2, "{} timers", tables.timers);
}

#[test]
fn a_client_without_an_id_gets_one_of_its_own() {
    // [MQTT-3.1.3-6] [MQTT-3.1.3-7] [MQTT-3.2.2-16] D13
    let mut world = World::new();
    let (_, one) = world.connect(v5(""));
    let (_, two) = world.connect(v5(""));
    let (one, two) = (
        one.assigned_client_id.unwrap(),
        two.assigned_client_id.unwrap(),
    );
    assert_ne!(one, two);
    assert!(one.len() >= 32);
    let (_, named) = world.connect(v5("c"));
    assert_eq!(named.assigned_client_id, None);
    assert_eq!(world.broker.tables().sessions, 3);
}

#[test]
fn a_client_without_an_id_is_refused_where_that_is_not_allowed() {
    // [MQTT-3.1.3-8]
    let mut world = World::with(|config| config.allow_empty_client_id = false);
    let (client, ack) = world.connect(v5(""));
    assert_eq!(ack.reason, ConnAckReason::ClientIdentifierNotValid);
    assert_eq!(world.closed(client), Some(CloseCause::Refused));
    assert_eq!(world.broker.tables(), Tables::default());
}

fn check_keep_alive(
    asked: u16,
    version: ProtocolVersion,
    enforced: bool,
    told: Option<u16>,
    held_to: Option<u64>,
) {
    let mut world = World::with(|config| {
        config.limits.keep_alive_seconds_max = 100;
        config.limits.keep_alive_enforce_v3 = enforced;
    });
    let (client, ack) = world.connect(Connect {
        version,
        keep_alive_seconds: asked,
        ..v5("c")
    });
    assert_eq!(ack.server_keep_alive_seconds, told);
    let Some(seconds) = held_to else {
        world.advance(1_000_000);
        assert_eq!(world.closed(client), None);
        return;
    };
    world.advance_millis(seconds * 1_500 - 1);
    assert_eq!(world.closed(client), None, "never early");
    world.advance_millis(2);
    assert_eq!(world.closed(client), Some(CloseCause::KeepAliveTimeout));
    let reason = version
        .is_v5()
        .then_some(DisconnectReason::KeepAliveTimeout);
    assert_eq!(world.farewell(client), reason);
}

#[test]
fn a_silent_client_is_let_go_after_one_and_a_half_keep_alives() {
    // [MQTT-3.1.2-22] [MQTT-3.2.2-21] [MQTT311-3.1.2-24] C2
    use ProtocolVersion::{V3_1_1, V5};
    check_keep_alive(10, V5, false, None, Some(10));
    check_keep_alive(100, V5, false, None, Some(100));
    check_keep_alive(101, V5, false, Some(100), Some(100));
    check_keep_alive(0, V5, false, Some(100), Some(100));
    check_keep_alive(10, V3_1_1, false, None, Some(10));
    check_keep_alive(101, V3_1_1, false, None, Some(101));
    check_keep_alive(0, V3_1_1, false, None, None);
    check_keep_alive(0, V3_1_1, true, None, Some(100));
}

#[test]
fn any_packet_restarts_the_keep_alive() {
    // [MQTT-3.1.2-20]
    let mut world = World::new();
    let (client, _) = world.connect(Connect {
        keep_alive_seconds: 10,
        ..v5("c")
    });
    for _ in 0..10 {
        world.advance(14);
        world.send(client, Packet::PingReq);
        assert!(matches!(world.next(client), Some(Packet::PingResp)));
    }
    world.advance(15);
    assert_eq!(world.closed(client), Some(CloseCause::KeepAliveTimeout));
}

#[test]
fn a_socket_without_a_connect_is_closed_in_time() {
    // [MQTT-3.1.4-1] C1
    let mut world = World::new();
    let client = world.open(ProtocolVersion::V5);
    world.advance_millis(9_999);
    assert_eq!(world.closed(client), None);
    world.advance_millis(1);
    assert_eq!(world.closed(client), Some(CloseCause::ConnectTimeout));
    assert_eq!(world.broker.tables(), Tables::default());
}

#[test]
fn anything_before_connect_closes_the_connection() {
    // [MQTT-3.1.0-1] A8 B2
    let mut world = World::new();
    let client = world.open(ProtocolVersion::V5);
    world.send(client, Packet::PingReq);
    assert!(world.closed(client).is_some());
    assert_eq!(world.broker.tables(), Tables::default());
}

#[test]
fn a_second_connect_is_a_violation() {
    // [MQTT-3.1.0-2]
    let mut world = World::new();
    let client = world.client("c");
    world.send(client, Packet::Connect(Box::new(v5("c"))));
    assert_eq!(
        world.farewell(client),
        Some(DisconnectReason::ProtocolError)
    );
    assert!(world.closed(client).is_some());
}

#[test]
fn a_client_that_is_denied_changes_nothing() {
    // D10
    let mut world = World::new();
    let (owner, _) = world.durable("c");
    world.subscribe(owner, "t", Qos::AtLeastOnce);
    world.authenticates = false;
    let stranger = world.open(ProtocolVersion::V5);
    world.send(stranger, Packet::Connect(Box::new(v5("c"))));
    world.answer(AuthOutcome::Deny(ConnAckReason::BadUserNameOrPassword));
    let Some(Packet::ConnAck(ack)) = world.next(stranger) else {
        panic!()
    };
    assert_eq!(ack.reason, ConnAckReason::BadUserNameOrPassword);
    assert!(!ack.session_present); // [MQTT-3.2.2-6]
    assert_eq!(world.closed(stranger), Some(CloseCause::Refused));
    assert_eq!(world.closed(owner), None);
    world.publish(owner, "t", "x");
    assert_eq!(world.payloads(owner), ["x"]);
}

#[test]
fn an_authenticators_late_answer_to_a_socket_that_is_gone_changes_nothing() {
    let mut world = World::new();
    world.authenticates = false;
    let gone = world.open(ProtocolVersion::V5);
    world.send(gone, Packet::Connect(Box::new(durable("c", false, 60))));
    world.cut(gone);
    // Its place is another connection's when the answer comes.
    let next = world.open(ProtocolVersion::V5);
    world.answer(AuthOutcome::allow(Identity::ANONYMOUS));
    assert!(world.drain(next).is_empty());
    assert_eq!(world.broker.tables().sessions, 0);
}

#[test]
fn packets_that_follow_connect_at_once_wait_for_the_authenticator() {
    // [MQTT-3.1.4-6]
    let mut world = World::new();
    world.authenticates = false;
    let client = world.open(ProtocolVersion::V5);
    let publish = publish_packet(paloma_codec::Publish {
        delivery: qos1(1),
        ..message("t", "x")
    });
    world.send_all(client, vec![Packet::Connect(Box::new(v5("c"))), publish]);
    assert!(world.drain(client).is_empty());
    world.answer(AuthOutcome::allow(Identity::ANONYMOUS));
    let packets = world.drain(client);
    assert!(
        matches!(packets.as_slice(), [Packet::ConnAck(_), Packet::PubAck(_)]),
        "{packets:?}"
    );
}

#[test]
fn a_slow_authenticator_is_not_the_clients_fault_but_has_an_end() {
    let mut world = World::new();
    world.authenticates = false;
    let client = world.open(ProtocolVersion::V5);
    world.send(client, Packet::Connect(Box::new(v5("c"))));
    world.advance(129);
    assert_eq!(world.closed(client), None);
    world.advance(1);
    assert_eq!(world.closed(client), Some(CloseCause::ConnectTimeout));
}

fn proof(data: &str) -> Authentication {
    Authentication {
        method: "m".to_owned().into(),
        data: Some(Secret::new(data.to_owned().into())),
    }
}

#[test]
fn an_authentication_may_take_several_steps() {
    // [MQTT-4.12.0-2] [MQTT-4.12.0-3]
    let mut world = World::new();
    world.authenticates = false;
    let client = world.open(ProtocolVersion::V5);
    let connect = Connect {
        authentication: Some(proof("1")),
        ..v5("c")
    };
    world.send(client, Packet::Connect(Box::new(connect)));
    world.answer(AuthOutcome::Continue(Secret::new("2".into())));
    let Some(Packet::Auth(auth)) = world.next(client) else {
        panic!()
    };
    assert_eq!(auth.reason, AuthReason::ContinueAuthentication);
    assert_eq!(auth.authentication, Some(proof("2")));
    let auth = Auth {
        reason: AuthReason::ContinueAuthentication,
        authentication: Some(proof("3")),
        ..Auth::default()
    };
    world.send(client, Packet::Auth(Box::new(auth)));
    assert_eq!(
        world.asked[0].1.method.as_ref().unwrap().1,
        Secret::new("3".into())
    );
    world.answer(AuthOutcome::allow(Identity::ANONYMOUS));
    let Some(Packet::ConnAck(ack)) = world.next(client) else {
        panic!()
    };
    assert_eq!(ack.reason, ConnAckReason::Success);
}

#[test]
fn another_users_session_is_out_of_reach() {
    // D11
    let mut world = World::new();
    let (owner, _) = world.connect(as_user("one", durable("c", false, 3_600)));
    world.subscribe(owner, "t", Qos::AtLeastOnce);
    for clean_start in [false, true] {
        for intruder in [as_user("two", v5("c")), v5("c")] {
            let (client, ack) = world.connect(Connect {
                clean_start,
                ..intruder
            });
            assert_eq!(ack.reason, ConnAckReason::ClientIdentifierNotValid);
            assert!(!ack.session_present);
            assert_eq!(world.closed(client), Some(CloseCause::Refused));
        }
    }
    assert_eq!(world.closed(owner), None);
    world.publish(owner, "t", "x");
    assert_eq!(world.payloads(owner), ["x"]);
    world.cut(owner);
    let (_, ack) = world.connect(as_user("one", durable("c", false, 3_600)));
    assert!(ack.session_present);
}

#[test]
fn what_differs_from_the_standards_defaults_is_announced() {
    // [MQTT-3.2.2-9] [MQTT-3.2.2-15] [MQTT-3.2.2-17]
    let mut world = World::with(|config| {
        config.limits.receive_maximum = 7;
        config.limits.qos_max = 1;
        config.limits.retain_available = false;
        config.limits.packet_bytes_max = 5_000;
        config.limits.topic_alias_maximum = 3;
    });
    let (_, ack) = world.connect(v5("c"));
    assert_eq!(ack.receive_maximum.get(), 7);
    assert_eq!(ack.maximum_qos, Qos::AtLeastOnce);
    assert!(!ack.retain_available);
    assert_eq!(
        ack.maximum_packet_size.map(|bytes| bytes.get()),
        Some(5_000)
    );
    assert_eq!(ack.topic_alias_maximum, 3);
}

#[test]
fn response_information_is_given_to_those_who_ask() {
    // [MQTT-3.1.2-28]
    let mut world = World::new();
    let (_, ack) = world.connect(v5("one"));
    assert_eq!(ack.response_information, None);
    let (_, ack) = world.connect(Connect {
        request_response_information: true,
        ..v5("two")
    });
    assert_eq!(ack.response_information.as_deref(), Some("response/two"));
}

#[test]
fn response_information_is_left_out_where_there_is_no_room_for_it() {
    // [MQTT-3.1.2-24]
    let mut world = World::new();
    let (_, ack) = world.connect(Connect {
        request_response_information: true,
        maximum_packet_size: NonZeroU32::new(64),
        ..v5(&"x".repeat(60))
    });
    assert_eq!(ack.reason, ConnAckReason::Success);
    assert_eq!(ack.response_information, None);
}

#[test]
fn response_information_is_the_beginning_of_a_topic_or_none() {
    // [MQTT-3.3.2-14]
    let mut world = World::new();
    for client_id in ["a+b", "#"] {
        let (_, ack) = world.connect(Connect {
            request_response_information: true,
            ..v5(client_id)
        });
        assert_eq!(ack.response_information, None, "{client_id}");
    }
}

#[test]
fn stopping_tells_every_client_and_lets_nobody_in() {
    let mut world = World::new();
    let client = world.client("c");
    let early = world.open(ProtocolVersion::V5);
    world.broker.shut_down(world.now);
    world.settle();
    assert_eq!(
        world.farewell(client),
        Some(DisconnectReason::ServerShuttingDown)
    );
    assert_eq!(world.closed(early), Some(CloseCause::ShuttingDown));
    assert_eq!(world.broker.tables(), Tables::default());
    let refused = world
        .broker
        .open(world.now, paloma_broker::ConnectionInfo::default());
    assert!(refused.is_err());
}

#[test]
fn many_sessions_that_expire_together_are_freed_over_several_turns() {
    // B8
    let mut world = World::new();
    for n in 0..3_000 {
        let (client, _) = world.connect(durable(&format!("c{n}"), true, 60));
        world.subscribe(client, "t", Qos::AtLeastOnce);
        world.cut(client);
    }
    world.now = world.now.saturating_add(std::time::Duration::from_secs(60));
    world.broker.handle_timeout(world.now);
    let left = world.broker.tables().sessions;
    assert!(left > 0, "one call does not do everything");
    world.settle();
    assert_eq!(world.broker.tables(), Tables::default());
}

#[test]
fn a_session_with_very_many_subscriptions_ends_over_several_turns() {
    let mut world = World::new();
    let client = world.client("c");
    for n in 0..10_000 {
        world.subscribe(client, &format!("a/{n}"), Qos::AtMostOnce);
    }
    let other = world.client("o");
    world.subscribe(other, "a/5", Qos::AtMostOnce);
    let connection = world.connection(client);
    world
        .broker
        .handle_closed(world.now, connection, CloseCause::SocketClosed);
    assert!(world.broker.tables().subscriptions > 1);
    world.settle();
    assert_eq!(world.broker.tables().subscriptions, 1);
    world.publish(other, "a/5", "x");
    assert_eq!(world.payloads(other), ["x"]);
}
