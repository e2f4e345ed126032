//! Traces of one client or one topic: what is told, to whom, and how much at most.
#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "the whole file is a test: what should not happen may panic"
)]

mod support;

use std::sync::Arc;

use paloma_broker::{Action, Notice, TraceEvent, TraceTarget};
use paloma_codec::{Packet, Qos};
use paloma_topic::TopicFilter;
use support::{Rules, World, message, pub_ack, publish_packet, qos1};

/// What a trace was told, in short.
fn told(world: &mut World) -> Vec<String> {
    let (traced, lost) = world.broker.take_traced();
    assert_eq!(lost, 0);
    let text = traced.iter().map(|traced| {
        let client = traced.client_id.as_deref().unwrap_or("-");
        let event = match &traced.event {
            TraceEvent::Notice(Notice::Connected { .. }) => "connected".to_owned(),
            TraceEvent::Notice(Notice::Disconnected { .. }) => "disconnected".to_owned(),
            TraceEvent::Received { packet } => packet.to_string(),
            TraceEvent::Subscribed { filter, reason } => format!("{filter} {reason:?}"),
            TraceEvent::Published {
                topic,
                payload_bytes,
                payload,
                verdict,
                ..
            } => {
                let payload = payload.as_ref().map(|bytes| String::from_utf8_lossy(bytes));
                format!("{topic} {payload_bytes} {payload:?} {verdict:?}")
            }
            TraceEvent::Queued { topic, qos, .. } => format!("queued {topic} {qos:?}"),
            TraceEvent::Dropped { topic, cause } => format!("dropped {topic} {}", cause.label()),
            TraceEvent::Acknowledged { topic } => format!("taken {topic}"),
            other => format!("{other:?}"),
        };
        format!("{client}: {event}")
    });
    text.collect()
}

fn topic(filter: &str) -> TraceTarget {
    TraceTarget::Topic(TopicFilter::new(filter).unwrap())
}

#[test]
fn whether_something_was_traced_is_known_without_taking_it() {
    let mut world = World::new();
    let client = world.client("c");
    world.broker.begin_trace(topic("a"), false).unwrap();
    world.publish(client, "b", "x");
    assert!(world.broker.has_traced_nothing());
    world.publish(client, "a", "x");
    assert!(!world.broker.has_traced_nothing());
    assert!(!told(&mut world).is_empty());
    assert!(world.broker.has_traced_nothing());
}

#[test]
fn a_topics_trace_tells_who_publishes_and_who_gets_it_and_who_does_not() {
    let rules = Arc::new(Rules::default());
    rules.deny("eve", Action::Read, "a/x");
    rules.deny("eve", Action::Write, "a/x");
    let authorizer = Arc::clone(&rules);
    let mut world = World::with(|config| config.authorizer = authorizer);
    let ann = world.client("ann");
    world.subscribe(ann, "a/#", Qos::AtLeastOnce);
    let eve = world.client("eve");
    world.subscribe(eve, "a/#", Qos::AtMostOnce);
    let bob = world.client("bob");
    let trace = world.broker.begin_trace(topic("a/#"), false).unwrap();
    world.publish_qos(bob, "a/x", "secret", qos1(1));
    world.publish(bob, "b", "elsewhere");
    world.publish(eve, "a/x", "no");
    let taken = world.publishes(ann).remove(0);
    world.send(ann, pub_ack(taken.delivery.id().unwrap()));
    assert_eq!(
        told(&mut world),
        [
            "eve: dropped a/x not_authorized",
            "bob: a/x 6 None Routed(1)",
            "ann: queued a/x AtLeastOnce",
            "eve: a/x 2 None NotAuthorized",
            "ann: taken a/x",
        ]
    );
    world.broker.end_trace(trace);
    world.publish(bob, "a/y", "unseen");
    assert!(world.broker.has_traced_nothing());
}

#[test]
fn a_clients_trace_tells_what_it_does_and_what_is_done_for_it() {
    let mut world = World::new();
    let target = TraceTarget::Client("ann".into());
    world.broker.want_notices();
    world.broker.begin_trace(target, true).unwrap();
    let (ann, _) = world.durable("ann");
    world.subscribe(ann, "a/#", Qos::AtMostOnce);
    world.subscribe(ann, "$share/g/b", Qos::AtMostOnce);
    world.publish(ann, "c", "hello");
    world.send(ann, Packet::PingReq);
    world.cut(ann);
    let bob = world.client("bob");
    world.publish(bob, "a/x", "hi");
    assert_eq!(
        told(&mut world),
        [
            "ann: connected",
            "ann: SUBSCRIBE",
            "ann: a/# GrantedQos0",
            "ann: SUBSCRIBE",
            "ann: $share/g/b GrantedQos0",
            "ann: c 5 Some(\"hello\") Routed(0)",
            "ann: PINGREQ",
            "ann: disconnected",
            "ann: dropped a/x offline",
        ]
    );
}

#[test]
fn traces_are_bounded_in_number_in_events_and_in_bytes() {
    let mut world = World::new();
    let bob = world.client("bob");
    let begun: Vec<_> = (0..9)
        .map(|_| world.broker.begin_trace(topic("#"), true))
        .collect();
    assert_eq!(begun.iter().flatten().count(), 8);
    let large = "x".repeat(5_000);
    let packets = (0..2_000).map(|_| publish_packet(message("t", &large)));
    world.send_all(bob, packets.collect());
    let (traced, lost) = world.broker.take_traced();
    assert_eq!((traced.len(), lost), (1_024, 976));
    for (event, id) in traced.iter().zip(begun.iter().flatten().cycle()) {
        assert!(event.is_for(*id));
        let TraceEvent::Published {
            payload: Some(payload),
            payload_bytes: 5_000,
            ..
        } = &event.event
        else {
            panic!("{event:?}");
        };
        assert_eq!(payload.len(), 4_096);
    }
    // One that ends makes room for another.
    world.broker.end_trace(begun[3].unwrap());
    assert!(world.broker.begin_trace(topic("#"), false).is_some());
}
