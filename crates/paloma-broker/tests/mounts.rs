//! Listeners with a mount point: their clients' names stand behind a prefix that they do not see.
#![expect(
    clippy::unwrap_used,
    reason = "the whole file is a test: what should not happen may panic"
)]

mod support;

use std::sync::Arc;

use paloma_broker::{Action, ConnectionInfo, DropCause, ListenerTerms, MountPoint};
use paloma_codec::{
    ConnAck, ConnAckReason, Connect, DisconnectReason, Packet, ProtocolVersion, PubAckReason,
    Publish, Qos, SubAckReason, SubscribeOptions, UnsubAckReason,
};
use paloma_topic::TopicName;
use support::{Handle, Rules, World, message, publish_packet, qos1, v3, v5, will};

/// The clients of one listener.
fn behind(mount: &str) -> ConnectionInfo {
    let terms = ListenerTerms {
        versions: vec![ProtocolVersion::V3_1_1, ProtocolVersion::V5],
        allow_empty_client_id: true,
        client_id_prefix: String::new(),
        mount_point: MountPoint::new(mount).unwrap(),
    };
    ConnectionInfo {
        terms: Some(Arc::new(terms)),
        ..ConnectionInfo::default()
    }
}

fn connect_behind(world: &mut World, mount: &str, connect: Connect) -> (Handle, ConnAck) {
    let client = world.open_from(connect.version, behind(mount)).unwrap();
    world.send(client, Packet::Connect(Box::new(connect)));
    match world.next(client) {
        Some(Packet::ConnAck(ack)) => (client, *ack),
        other => panic!("expected CONNACK, got {other:?}"),
    }
}

fn tenant(world: &mut World, client_id: &str) -> Handle {
    connect_behind(world, "house/", v5(client_id)).0
}

fn lasting(client_id: &str) -> Connect {
    Connect {
        clean_start: false,
        session_expiry_seconds: 3_600,
        ..v5(client_id)
    }
}

/// Topics and payloads of all that has come.
fn told(world: &mut World, client: Handle) -> Vec<String> {
    let publishes = world.take_all(client).into_iter();
    let told = publishes.map(|publish| {
        let payload = String::from_utf8_lossy(&publish.payload).into_owned();
        format!("{} {payload}", publish.topic.name().unwrap().as_str())
    });
    told.collect()
}

fn answering(topic: &str, response: &str) -> Publish {
    let mut publish = message(topic, "?");
    publish.properties.response_topic = Some(TopicName::new(response).unwrap());
    publish
}

fn response(publish: &Publish) -> Option<&str> {
    let topic = publish.properties.response_topic.as_ref();
    topic.map(TopicName::as_str)
}

#[test]
fn names_have_the_prefix_outside_and_not_inside() {
    for connect in [v5("inside"), v3("inside", true)] {
        let mut world = World::new();
        let outside = world.client("outside");
        world.subscribe(outside, "#", Qos::AtLeastOnce);
        let (inside, _) = connect_behind(&mut world, "house/", connect);
        world.subscribe(inside, "#", Qos::AtLeastOnce);
        world.publish(inside, "door", "1");
        world.publish(outside, "house/door", "2");
        world.publish(outside, "door", "3");
        world.publish(outside, "houses/door", "4");
        world.publish(outside, "house", "5");
        world.publish(outside, "house/$own", "6");
        assert_eq!(told(&mut world, inside), ["door 1", "door 2"]);
        assert_eq!(told(&mut world, outside)[0], "house/door 1");
    }
}

#[test]
fn unsubscribing_means_the_clients_own_filter() {
    let mut world = World::new();
    let outside = world.client("outside");
    let inside = tenant(&mut world, "inside");
    world.subscribe(inside, "#", Qos::AtLeastOnce);
    for expected in [
        UnsubAckReason::Success,
        UnsubAckReason::NoSubscriptionExisted,
    ] {
        assert_eq!(world.unsubscribe(inside, "#"), expected);
        world.publish(outside, "house/door", "1");
        assert_eq!(told(&mut world, inside), [""; 0]);
    }
}

#[test]
fn two_mount_points_are_two_worlds() {
    let mut world = World::new();
    let one = tenant(&mut world, "one");
    let (other, _) = connect_behind(&mut world, "yard/", v5("other"));
    for client in [one, other] {
        world.subscribe(client, "#", Qos::AtLeastOnce);
    }
    world.publish(one, "door", "of the house");
    world.publish(other, "yard/door", "of the yard's yard");
    assert_eq!(told(&mut world, one), ["door of the house"]);
    assert_eq!(told(&mut world, other), ["yard/door of the yard's yard"]);
}

#[test]
fn the_brokers_own_topics_are_out_of_reach() {
    let mut world = World::new();
    let inside = tenant(&mut world, "inside");
    let options = SubscribeOptions::new(Qos::AtLeastOnce);
    for filter in ["$SYS/#", "$own/x"] {
        let reasons = world.subscribe_with(inside, filter, options, |_| {});
        assert_eq!(reasons, [SubAckReason::NotAuthorized], "{filter}");
    }
    world.publish_qos(inside, "$SYS/x", "", qos1(1));
    match world.next(inside) {
        Some(Packet::PubAck(ack)) => assert_eq!(ack.reason, PubAckReason::NotAuthorized),
        other => panic!("expected PUBACK, got {other:?}"),
    }
}

#[test]
fn response_topics_are_translated_both_ways() {
    let mut world = World::new();
    let outside = world.client("outside");
    let inside = tenant(&mut world, "inside");
    world.subscribe(outside, "house/#", Qos::AtLeastOnce);
    world.subscribe(inside, "#", Qos::AtLeastOnce);
    world.send(inside, publish_packet(answering("ask", "answers")));
    let seen = world.take_all(outside);
    assert_eq!(response(&seen[0]), Some("house/answers"));
    let seen = world.take_all(inside);
    assert_eq!(response(&seen[0]), Some("answers"));
    // One that the client cannot publish to is none of its business.
    for (elsewhere, expected) in [("answers", None), ("house/", None), ("house/a", Some("a"))] {
        world.send(outside, publish_packet(answering("house/ask", elsewhere)));
        let seen = world.take_all(inside);
        assert_eq!(response(&seen[0]), expected, "{elsewhere}");
        assert_eq!(seen[0].payload, "?");
    }
}

#[test]
fn wills_and_retained_messages_have_the_prefix() {
    let mut world = World::new();
    let outside = world.client("outside");
    let connect = Connect {
        will: Some(will("gone", "mortal")),
        ..v5("mortal")
    };
    let (mortal, _) = connect_behind(&mut world, "house/", connect);
    world.retain(mortal, "state", "kept");
    world.subscribe(outside, "house/#", Qos::AtLeastOnce);
    assert_eq!(told(&mut world, outside), ["house/state kept"]);
    world.cut(mortal);
    assert_eq!(told(&mut world, outside), ["house/gone mortal"]);
    let inside = tenant(&mut world, "inside");
    world.subscribe(inside, "+", Qos::AtLeastOnce);
    assert_eq!(told(&mut world, inside), ["state kept"]);
}

#[test]
fn the_prefix_of_a_shared_subscription_is_its_filters() {
    let mut world = World::new();
    let members = ["a", "b"].map(|name| tenant(&mut world, name));
    for member in members {
        world.subscribe(member, "$share/crew/work/#", Qos::AtLeastOnce);
    }
    let outside = world.client("outside");
    // The same group, by whole names.
    world.subscribe(outside, "$share/crew/house/work/#", Qos::AtLeastOnce);
    for number in 0..6 {
        world.publish(outside, "house/work/x", &number.to_string());
    }
    let mut all = told(&mut world, outside);
    assert_eq!(all.len(), 2);
    for member in members {
        let own = told(&mut world, member);
        assert_eq!(own.len(), 2);
        all.extend(own);
    }
    all.retain(|line| line.starts_with("work/x "));
    assert_eq!(all.len(), 4);
    assert_eq!(
        world.unsubscribe(members[0], "$share/crew/work/#"),
        UnsubAckReason::Success
    );
}

#[test]
fn rules_speak_of_whole_names() {
    let rules = Arc::new(Rules::default());
    let authorizer = Arc::clone(&rules);
    let mut world = World::with(|config| config.authorizer = authorizer);
    rules.deny("inside", Action::Write, "house/secret");
    rules.deny("inside", Action::Read, "house/private");
    let inside = tenant(&mut world, "inside");
    let outside = world.client("outside");
    world.subscribe(inside, "#", Qos::AtLeastOnce);
    world.subscribe(outside, "#", Qos::AtLeastOnce);
    for topic in ["secret", "house/secret", "open"] {
        world.publish(inside, topic, "in");
    }
    for topic in ["house/private", "house/open"] {
        world.publish(outside, topic, "out");
    }
    assert_eq!(
        told(&mut world, inside),
        ["house/secret in", "open in", "open out"]
    );
    let whole = ["house/house/secret in", "house/open in"];
    assert_eq!(told(&mut world, outside)[..2], whole);
}

#[test]
fn what_waits_for_a_session_keeps_its_names_over_a_restart() {
    let mut world = World::new();
    let (inside, _) = connect_behind(&mut world, "house/", lasting("inside"));
    world.subscribe(inside, "door/#", Qos::AtLeastOnce);
    world.disconnect(inside, DisconnectReason::NormalDisconnection);
    let outside = world.client("outside");
    world.publish_qos(outside, "house/door/a", "1", qos1(1));
    world.crash();
    let outside = world.client("outside");
    world.publish_qos(outside, "house/door/b", "2", qos1(1));
    let (inside, ack) = connect_behind(&mut world, "house/", lasting("inside"));
    assert!(ack.session_present);
    assert_eq!(told(&mut world, inside), ["door/a 1", "door/b 2"]);
}

#[test]
fn a_session_that_comes_back_elsewhere_gets_nothing_of_where_it_was() {
    let mut world = World::new();
    let (reader, _) = connect_behind(&mut world, "house/", lasting("reader"));
    world.subscribe(reader, "#", Qos::AtLeastOnce);
    world.disconnect(reader, DisconnectReason::NormalDisconnection);
    let outside = world.client("outside");
    world.publish_qos(outside, "house/door", "1", qos1(1));
    let (reader, ack) = connect_behind(&mut world, "yard/", lasting("reader"));
    assert!(ack.session_present);
    world.publish_qos(outside, "house/door", "2", qos1(2));
    world.publish_qos(outside, "yard/door", "3", qos1(3));
    assert_eq!(told(&mut world, reader), [""; 0]);
    assert_eq!(world.dropped(DropCause::NotAuthorized), 1);
}

#[test]
fn names_that_are_too_long_with_the_prefix_are_refused() {
    let mut world = World::with(|config| {
        config.limits.topic_bytes_max = 65_535;
        config.limits.will_bytes_max = 100_000;
        config.limits.connect_bytes_max = 100_000;
    });
    let long = "x".repeat(65_530);
    let connect = Connect {
        will: Some(will(&long, "")),
        ..v5("mortal")
    };
    let (_, ack) = connect_behind(&mut world, "house/", connect);
    assert_eq!(ack.reason, ConnAckReason::TopicNameInvalid);
    let inside = tenant(&mut world, "inside");
    let options = SubscribeOptions::new(Qos::AtLeastOnce);
    let reasons = world.subscribe_with(inside, &long, options, |_| {});
    assert_eq!(reasons, [SubAckReason::TopicFilterInvalid]);
    for publish in [message(&long, ""), answering("ask", &long)] {
        let delivery = qos1(1);
        world.send(
            inside,
            publish_packet(Publish {
                delivery,
                ..publish
            }),
        );
        match world.next(inside) {
            Some(Packet::PubAck(ack)) => assert_eq!(ack.reason, PubAckReason::TopicNameInvalid),
            other => panic!("expected PUBACK, got {other:?}"),
        }
    }
}

#[test]
fn aliases_stand_for_the_clients_own_names() {
    let mut world = World::new();
    let connect = Connect {
        topic_alias_maximum: 4,
        ..v5("inside")
    };
    let (inside, _) = connect_behind(&mut world, "house/", connect);
    world.subscribe(inside, "#", Qos::AtLeastOnce);
    for payload in ["1", "2"] {
        world.publish(inside, "door", payload);
    }
    let publishes = world.take_all(inside);
    assert_eq!(publishes[0].topic.name().unwrap().as_str(), "door");
    assert!(
        publishes[1]
            .topic
            .name()
            .is_none_or(|name| name.as_str() == "door")
    );
}
