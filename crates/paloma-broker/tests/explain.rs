//! Why a client gets a message or does not: every answer of `Broker::explain`.

#![expect(
    clippy::unwrap_used,
    reason = "what should not happen may panic in a test"
)]

mod support;

use std::sync::Arc;

use paloma_broker::{Action, DropCause, Explanation, Obstacle, SessionState};
use paloma_codec::{Connect, Publish, PublishProperties, Qos, SubscribeOptions};
use paloma_topic::TopicNameRef;
use support::{Rules, World, message, publish_packet, qos1, v5};

const TOPIC: &str = "a/b";

fn explain(world: &World, client_id: &str) -> Explanation {
    let topic = TopicNameRef::new(TOPIC).unwrap();
    world.broker.explain(world.now, client_id, topic)
}

/// Asks about `me`, and compares the verdict, what was found and the line that tells of it.
#[track_caller]
fn check(world: &World, is_delivered: bool, obstacles: &[Obstacle], line: &str) -> Explanation {
    let explanation = explain(world, "me");
    assert_eq!(explanation.obstacles, obstacles, "{explanation}");
    assert_eq!(explanation.is_delivered(), is_delivered, "{explanation}");
    let text = explanation.to_string();
    assert!(text.lines().any(|found| found == line), "{text}");
    explanation
}

fn small_queue(messages_max: u32) -> World {
    World::with(|config| config.limits.queue_messages_max = messages_max)
}

#[test]
fn a_client_that_never_came_has_no_session() {
    let world = World::new();
    let line = "- it has no session: it never came, or its session has ended";
    let found = check(&world, false, &[Obstacle::NoSession], line);
    assert_eq!(found.session, SessionState::None);
}

#[test]
fn a_subscriber_gets_it_by_the_filters_that_match() {
    let mut world = World::new();
    let me = world.client("me");
    world.subscribe(me, "a/+", Qos::AtLeastOnce);
    world.subscribe(me, "c", Qos::AtMostOnce);
    let line = r#"- its filter "a/+" matches, at QoS 1 at most; the rules allow it"#;
    let found = check(&world, true, &[], line);
    assert_eq!((found.filters, found.matches.len()), (2, 1));
    assert_eq!(found.session, SessionState::Connected);
    let first = format!("{found}").lines().next().map(str::to_owned);
    let expected = r#""me" gets what is published on "a/b""#;
    assert_eq!(first.as_deref(), Some(expected));
}

#[test]
fn filters_that_do_not_match_are_counted() {
    let mut world = World::new();
    let me = world.client("me");
    world.subscribe(me, "a", Qos::AtMostOnce);
    world.subscribe(me, "$share/g/a/b/c", Qos::AtMostOnce);
    let line = "- none of its 2 filters matches";
    check(&world, false, &[Obstacle::NoFilter], line);
}

#[test]
fn the_rules_that_hold_now_are_asked() {
    let rules = Arc::new(Rules::default());
    let mut world = World::with(|config| config.authorizer = rules.clone());
    let me = world.client("me");
    world.subscribe(me, "#", Qos::AtMostOnce);
    rules.deny("me", Action::Read, TOPIC);
    let line = r##"- its filter "#" matches, at QoS 0 at most; the rules forbid it"##;
    let found = check(&world, false, &[Obstacle::NotAuthorized], line);
    assert!(!found.matches.first().unwrap().is_allowed);
}

#[test]
fn no_local_keeps_only_its_own_messages_away() {
    let mut world = World::new();
    let me = world.client("me");
    let options = SubscribeOptions {
        no_local: true,
        ..SubscribeOptions::new(Qos::AtMostOnce)
    };
    world.subscribe_with(me, "a/#", options, |_| {});
    let line = "- what it publishes itself does not come back (No Local)";
    check(&world, true, &[Obstacle::NoLocal], line);
    world.subscribe(me, TOPIC, Qos::AtMostOnce);
    assert_eq!(explain(&world, "me").obstacles, []);
}

#[test]
fn a_shared_subscription_gives_a_part_to_others() {
    let mut world = World::new();
    let me = world.client("me");
    let other = world.client("other");
    world.subscribe(me, "$share/g/a/b", Qos::AtMostOnce);
    assert_eq!(explain(&world, "me").obstacles, []);
    world.subscribe(other, "$share/g/a/b", Qos::AtMostOnce);
    let line = r#"- its filter "$share/g/a/b" matches, at QoS 0 at most, and 2 share it; the rules allow it"#;
    check(&world, true, &[Obstacle::SharedOnly], line);
}

#[test]
fn a_client_that_is_away_is_waited_for_until_its_session_ends() {
    let mut world = World::new();
    let (me, _) = world.durable("me");
    world.subscribe(me, TOPIC, Qos::AtLeastOnce);
    world.cut(me);
    let line = "- while it is away QoS 0 is dropped, and QoS 1 and 2 wait";
    let found = check(&world, true, &[Obstacle::Away], line);
    assert!(matches!(found.session, SessionState::Away { .. }));
    let other = world.client("other");
    world.publish(other, TOPIC, "x");
    world.publish_qos(other, TOPIC, "y", qos1(1));
    let found = explain(&world, "me");
    assert_eq!(found.dropped, [(DropCause::Offline, 1)]);
    assert_eq!(found.on_the_way.waiting, 1);
}

#[test]
fn what_has_expired_in_the_queue_is_told() {
    let mut world = World::new();
    let (me, _) = world.durable("me");
    world.subscribe(me, TOPIC, Qos::AtLeastOnce);
    world.cut(me);
    let other = world.client("other");
    let publish = Publish {
        delivery: qos1(1),
        properties: PublishProperties {
            message_expiry_seconds: Some(5),
            ..PublishProperties::default()
        },
        ..message(TOPIC, "x")
    };
    world.send(other, publish_packet(publish));
    world.advance(6);
    let line = "- 1 of those have expired";
    check(&world, true, &[Obstacle::Away], line);
    let (me, _) = world.durable("me");
    assert!(world.publishes(me).is_empty());
    let found = explain(&world, "me");
    assert_eq!(found.dropped, [(DropCause::Expired, 1)]);
    assert_eq!(found.on_the_way.waiting, 0);
}

#[test]
fn a_full_queue_is_told_with_what_it_has_cost() {
    let mut world = small_queue(1);
    let (me, _) = world.durable("me");
    world.subscribe(me, TOPIC, Qos::AtLeastOnce);
    world.cut(me);
    let other = world.client("other");
    world.publish_qos(other, TOPIC, "x", qos1(1));
    world.publish_qos(other, TOPIC, "y", qos1(2));
    let found = explain(&world, "me");
    assert!(!found.is_delivered());
    let full = |found: &Obstacle| matches!(found, Obstacle::QueueFull { messages: 1, .. });
    assert!(found.obstacles.iter().any(full), "{found}");
    assert_eq!(found.dropped, [(DropCause::QueueFull, 1)]);
    let text = found.to_string();
    assert!(text.contains("its queue is full: 1 messages"), "{text}");
    assert!(text.contains("- 1 dropped on any topic so far: the queue was full"));
}

#[test]
fn a_window_without_acknowledgements_holds_messages_up() {
    let mut world = World::new();
    let connect = Connect {
        receive_maximum: paloma_codec::ReceiveMaximum::new(1).unwrap(),
        ..v5("me")
    };
    let (me, _) = world.connect(connect);
    world.subscribe(me, TOPIC, Qos::AtLeastOnce);
    let other = world.client("other");
    world.publish_qos(other, TOPIC, "x", qos1(1));
    world.publish_qos(other, TOPIC, "y", qos1(2));
    let line = "- 1 messages are not acknowledged: QoS 1 and 2 wait";
    let obstacles = [Obstacle::WindowFull { in_flight: 1 }];
    let found = check(&world, true, &obstacles, line);
    assert_eq!(
        (found.on_the_way.in_flight, found.on_the_way.waiting),
        (1, 1)
    );
    let text = found.to_string();
    assert!(!text.contains("- 0 "), "what there is none of: {text}");
}

#[test]
fn the_largest_packet_that_the_client_takes_is_told() {
    let mut world = World::new();
    let connect = Connect {
        maximum_packet_size: std::num::NonZeroU32::new(64),
        ..v5("me")
    };
    let (me, _) = world.connect(connect);
    world.subscribe(me, TOPIC, Qos::AtMostOnce);
    let other = world.client("other");
    world.publish(other, TOPIC, &"x".repeat(100));
    let line = "- packets above 64 bytes are dropped (Maximum Packet Size)";
    let obstacles = [Obstacle::MaximumPacketSize { bytes: 64 }];
    let found = check(&world, true, &obstacles, line);
    assert_eq!(found.dropped, [(DropCause::PacketTooLarge, 1)]);
}

#[test]
fn asking_changes_nothing() {
    let mut world = World::new();
    let (me, _) = world.durable("me");
    world.subscribe(me, TOPIC, Qos::AtLeastOnce);
    let before = explain(&world, "me");
    assert_eq!(explain(&world, "me"), before);
    assert_eq!(explain(&world, "nobody").obstacles, [Obstacle::NoSession]);
    world.check_invariants();
}
