//! Wills: whether, when, and as what.

mod support;

use std::sync::Arc;

use paloma_broker::{Action, CloseCause};
use paloma_codec::{
    ConnAckReason, Connect, DisconnectReason, Packet, ProtocolVersion, Publish, Qos, Will,
};
use support::{Handle, Rules, World, v3, v5, will};

/// A world where somebody listens to `w`, and a client with a will on it.
fn world_with(connect: Connect) -> (World, Handle, Handle) {
    let mut world = World::new();
    let listener = world.client("listener");
    world.subscribe(listener, "w", Qos::ExactlyOnce);
    let (client, ack) = world.connect(connect);
    assert_eq!(ack.reason, ConnAckReason::Success);
    (world, listener, client)
}

fn with_will(connect: Connect, change: impl FnOnce(&mut Will)) -> Connect {
    let mut will = will("w", "gone");
    change(&mut will);
    Connect {
        will: Some(will),
        ..connect
    }
}

fn delayed(delay_seconds: u32, expiry_seconds: u32) -> Connect {
    let connect = Connect {
        session_expiry_seconds: expiry_seconds,
        clean_start: false,
        ..v5("c")
    };
    with_will(connect, |will| will.delay_seconds = delay_seconds)
}

#[test]
fn a_cut_connection_sends_the_will_once() {
    // [MQTT-3.1.2-8] [MQTT-3.1.2-10]
    let (mut world, listener, client) = world_with(with_will(v5("c"), |_| {}));
    world.cut(client);
    assert_eq!(world.payloads(listener), ["gone"]);
    world.advance(100_000);
    assert!(world.payloads(listener).is_empty());
}

#[test]
fn a_client_that_leaves_in_peace_takes_its_will_along() {
    // [MQTT-3.14.4-3] [MQTT311-3.14.4-3]
    for connect in [v5("c"), v3("c", true)] {
        let (mut world, listener, client) = world_with(with_will(connect, |_| {}));
        world.disconnect(client, DisconnectReason::NormalDisconnection);
        assert!(world.payloads(listener).is_empty());
        world.advance(100_000);
        assert!(world.payloads(listener).is_empty());
    }
}

#[test]
fn a_client_may_ask_for_its_will_when_it_leaves() {
    let (mut world, listener, client) = world_with(with_will(v5("c"), |_| {}));
    world.disconnect(client, DisconnectReason::DisconnectWithWillMessage);
    assert_eq!(world.payloads(listener), ["gone"]);
}

#[test]
fn a_client_that_falls_silent_leaves_its_will() {
    // [MQTT-3.1.2-8] C3
    let connect = Connect {
        keep_alive_seconds: 10,
        ..v5("c")
    };
    let (mut world, listener, client) = world_with(with_will(connect, |_| {}));
    world.advance_millis(14_999);
    assert!(world.payloads(listener).is_empty());
    world.advance_millis(1);
    assert_eq!(world.closed(client), Some(CloseCause::KeepAliveTimeout));
    assert_eq!(world.payloads(listener), ["gone"]);
}

#[test]
fn a_protocol_error_leaves_the_will() {
    let (mut world, listener, client) = world_with(with_will(v5("c"), |_| {}));
    world.send(client, Packet::Connect(Box::new(v5("c"))));
    assert_eq!(world.payloads(listener), ["gone"]);
}

#[test]
fn a_takeover_sends_a_will_without_delay() {
    // [MQTT-3.1.4-3] G6
    for clean_start in [false, true] {
        let (mut world, listener, _) = world_with(delayed(0, 60));
        world.connect(Connect {
            clean_start,
            ..v5("c")
        });
        assert_eq!(world.payloads(listener), ["gone"]);
    }
}

#[test]
fn a_takeover_of_the_session_keeps_a_delayed_will_from_being_sent() {
    // [MQTT-3.1.3-9]
    let (mut world, listener, _) = world_with(delayed(10, 60));
    world.connect(Connect {
        clean_start: false,
        session_expiry_seconds: 60,
        ..v5("c")
    });
    world.advance(1_000);
    assert!(world.payloads(listener).is_empty());
}

#[test]
fn a_clean_takeover_ends_the_session_and_so_sends_a_delayed_will() {
    // [MQTT-3.1.3-9]
    let (mut world, listener, _) = world_with(delayed(10, 60));
    world.client("c");
    assert_eq!(world.payloads(listener), ["gone"]);
    world.advance(1_000);
    assert!(world.payloads(listener).is_empty());
}

fn check_due(delay: u32, expiry: u32, due: u64) {
    let (mut world, listener, client) = world_with(delayed(delay, expiry));
    world.cut(client);
    if due > 0 {
        world.advance_millis(due * 1_000 - 1);
        assert!(world.payloads(listener).is_empty(), "never early");
        world.advance_millis(1);
    }
    assert_eq!(world.payloads(listener), ["gone"], "{delay} {expiry}");
    world.advance(10_000);
    assert!(world.payloads(listener).is_empty(), "exactly one");
}

#[test]
fn a_delayed_will_is_due_after_its_delay_or_at_the_sessions_end() {
    // [MQTT-3.1.3-9] I8
    check_due(0, 0, 0);
    check_due(10, 0, 0);
    check_due(10, 60, 10);
    check_due(60, 60, 60);
    check_due(90, 60, 60);
    check_due(3_601, 100_000, 3_600);
}

#[test]
fn a_client_that_is_back_in_time_keeps_its_will_unsent() {
    // [MQTT-3.1.3-9]
    let (mut world, listener, client) = world_with(delayed(10, 60));
    world.cut(client);
    world.advance_millis(9_999);
    let (client, _) = world.connect(delayed(20, 60));
    world.advance(5);
    world.cut(client);
    world.advance_millis(19_999);
    assert!(world.payloads(listener).is_empty());
    world.advance_millis(1);
    assert_eq!(world.payloads(listener), ["gone"]);
}

#[test]
fn a_session_without_a_will_does_not_send_an_earlier_connections() {
    let (mut world, listener, client) = world_with(delayed(10, 60));
    world.cut(client);
    let (client, _) = world.durable("c");
    world.cut(client);
    world.advance(100_000);
    assert!(world.payloads(listener).is_empty());
}

#[test]
fn a_retained_will_is_found_by_later_subscribers() {
    // [MQTT-3.1.2-14] [MQTT-3.1.2-15]
    for retain in [false, true] {
        let connect = with_will(v5("c"), |will| will.retain = retain);
        let (mut world, _, client) = world_with(connect);
        world.cut(client);
        let late = world.client("late");
        world.subscribe(late, "w", Qos::AtMostOnce);
        assert_eq!(world.payloads(late).len(), usize::from(retain));
    }
}

#[test]
fn a_will_has_its_qos_and_properties() {
    let connect = with_will(v5("c"), |will| {
        will.qos = Qos::ExactlyOnce;
        will.properties.content_type = Some("text".to_owned().into());
    });
    let (mut world, listener, client) = world_with(connect);
    world.cut(client);
    let publishes = world.publishes(listener);
    let [
        Publish {
            delivery,
            properties,
            ..
        },
    ] = publishes.as_slice()
    else {
        panic!("{publishes:?}")
    };
    assert_eq!(delivery.qos(), Qos::ExactlyOnce);
    assert_eq!(properties.content_type.as_deref(), Some("text"));
}

#[test]
fn a_wills_lifetime_begins_when_it_is_published() {
    // [MQTT-3.3.2-5] [MQTT-3.3.2-6]
    let connect = with_will(v5("c"), |will| {
        will.properties.message_expiry_seconds = Some(60);
    });
    let (mut world, listener, client) = world_with(connect);
    world.advance(3_000);
    world.cut(client);
    let publishes = world.publishes(listener);
    assert_eq!(publishes.len(), 1);
    assert_eq!(publishes[0].properties.message_expiry_seconds, Some(60));
}

#[test]
fn a_will_that_the_client_may_not_publish_refuses_it() {
    // D1 D7 B14
    let rules = Arc::new(Rules::default());
    rules.deny("c", Action::Write, "w");
    let mut world = World::with(|config| config.authorizer = rules);
    let (client, ack) = world.connect(with_will(v5("c"), |_| {}));
    assert_eq!(ack.reason, ConnAckReason::NotAuthorized);
    assert_eq!(world.closed(client), Some(CloseCause::Refused));
    let (_, ack) = world.connect(Connect {
        will: Some(will("$SYS/w", "x")),
        ..v5("d")
    });
    assert_eq!(ack.reason, ConnAckReason::NotAuthorized);
    assert_eq!(world.broker.tables().sessions, 0);
}

#[test]
fn a_will_is_judged_again_when_it_is_sent() {
    // D1
    let rules = Arc::new(Rules::default());
    let authorizer = Arc::clone(&rules);
    let mut world = World::with(|config| config.authorizer = authorizer);
    let listener = world.client("listener");
    world.subscribe(listener, "w", Qos::AtMostOnce);
    let (client, _) = world.connect(delayed(10, 60));
    world.cut(client);
    rules.deny("c", Action::Write, "w");
    world.advance(100);
    assert!(world.payloads(listener).is_empty());
    assert_eq!(world.broker.accounting().refused, 1);
}

#[test]
fn what_comes_to_nothing_holds_up_nothing_that_is_due_with_it() {
    // C7
    let rules = Arc::new(Rules::default());
    let authorizer = Arc::clone(&rules);
    let mut world = World::with(|config| config.authorizer = authorizer);
    let listener = world.client("listener");
    world.subscribe(listener, "w", Qos::AtMostOnce);
    for number in 0..30 {
        let (client, _) = world.connect(Connect {
            client_id: format!("c{number}").into(),
            ..delayed(10, 20)
        });
        world.cut(client);
        if number % 3 == 0 {
            rules.deny(&format!("c{number}"), Action::Write, "w");
        }
    }
    world.advance(10);
    assert_eq!(world.payloads(listener).len(), 20);
    assert_eq!(world.broker.accounting().refused, 10);
    world.advance(10);
    let tables = world.broker.tables();
    assert_eq!(
        (tables.sessions, tables.timers),
        (1, 1),
        "the listener's own"
    );
}

#[test]
fn a_will_beyond_what_the_broker_offers_refuses_the_client() {
    // [MQTT-3.2.2-12] [MQTT-3.2.2-13]
    let check = |change: fn(&mut Will), expected| {
        let mut world = World::with(|config| {
            config.limits.qos_max = 1;
            config.limits.retain_available = false;
            config.limits.will_bytes_max = 4;
        });
        let (_, ack) = world.connect(with_will(v5("c"), change));
        assert_eq!(ack.reason, expected);
    };
    check(|_| {}, ConnAckReason::Success);
    check(|will| will.qos = Qos::AtLeastOnce, ConnAckReason::Success);
    check(
        |will| will.qos = Qos::ExactlyOnce,
        ConnAckReason::QosNotSupported,
    );
    check(|will| will.retain = true, ConnAckReason::RetainNotSupported);
    check(
        |will| will.payload = "12345".into(),
        ConnAckReason::PacketTooLarge,
    );
}

#[test]
fn a_client_that_is_not_let_in_leaves_no_will() {
    // [MQTT-3.1.4-2] B14
    let (mut world, listener, _) = world_with(v5("other"));
    world.authenticates = false;
    let client = world.open(ProtocolVersion::V5);
    let connect = with_will(v5("c"), |_| {});
    world.send(client, Packet::Connect(Box::new(connect)));
    world.cut(client);
    world.advance(1_000);
    assert!(world.payloads(listener).is_empty());
}

#[test]
fn a_will_is_not_sent_to_the_client_that_said_no_local() {
    // [MQTT-3.8.3-3]
    let mut world = World::new();
    let (client, _) = world.connect(delayed(10, 60));
    let options = paloma_codec::SubscribeOptions {
        no_local: true,
        ..paloma_codec::SubscribeOptions::new(Qos::AtLeastOnce)
    };
    world.subscribe_with(client, "w", options, |_| {});
    world.cut(client);
    world.advance(10);
    assert_eq!(world.broker.accounting().copies, 0);
}

#[test]
fn a_broker_that_stops_sends_wills_to_all_and_keeps_them_for_who_comes_back() {
    let mut world = World::new();
    // Connections end in the order in which they came: one who is told before the will is sent, one after.
    let (early, _) = world.durable("early");
    world.subscribe(early, "gone", Qos::AtLeastOnce);
    world.connect(Connect {
        will: Some(Will {
            qos: Qos::AtLeastOnce,
            ..will("gone", "x")
        }),
        ..v5("willing")
    });
    let late = world.client("late");
    world.subscribe(late, "gone", Qos::AtMostOnce);
    world.broker.shut_down(world.now);
    world.settle();
    let packets = world.drain(late);
    let [Packet::Publish(sent), Packet::Disconnect(farewell)] = packets.as_slice() else {
        panic!("{packets:?}")
    };
    assert_eq!(sent.payload, "x");
    assert_eq!(farewell.reason, DisconnectReason::ServerShuttingDown);
    let kept = world.broker.queued();
    assert_eq!(kept, 1, "the store has it for the one who may come back");
}
