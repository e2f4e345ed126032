//! What a 3.1.1 client sees where 5.0 has a word that 3.1.1 lacks: one test for each row of
//! `docs/v311-differences.md`.

mod support;

use std::sync::Arc;

use paloma_broker::{Action, Authorizer, CloseCause, DropCause, Grant, Identity};
use paloma_codec::{
    ConnAckReason, Connect, Packet, PacketId, ProtocolVersion, PubRel, PubRelReason, Publish,
    PublishTopic, Qos, SubAckReason, SubscribeOptions, SubscriptionId, Will,
};
use paloma_topic::{TopicFilterRef, TopicName, TopicNameRef};
use support::{World, id, message, publish_packet, qos1, qos2, v3, v5};

/// Forbids everything under `secret`.
#[derive(Debug)]
struct NoSecrets;

impl Authorizer for NoSecrets {
    fn is_allowed(&self, _: &Identity, _: &str, _: Action, topic: TopicNameRef<'_>) -> bool {
        !topic.as_str().starts_with("secret")
    }

    fn grant(&self, _: &Identity, _: &str, filter: TopicFilterRef<'_>) -> Grant {
        if filter.as_str().starts_with("secret") {
            Grant::Denied
        } else {
            Grant::CheckEach
        }
    }
}

fn without_secrets() -> World {
    World::with(|config| config.authorizer = Arc::new(NoSecrets))
}

#[test]
fn a_refused_publish_is_acknowledged_and_dropped() {
    let mut world = without_secrets();
    let (publisher, reader) = (world.connect(v3("p", true)).0, world.client("r"));
    world.subscribe(reader, "#", Qos::AtMostOnce);
    world.publish_qos(publisher, "secret/a", "x", qos1(4));
    let Some(Packet::PubAck(ack)) = world.next(publisher) else {
        panic!("no PUBACK")
    };
    assert_eq!(ack.id, id(4));
    assert!(world.drain(reader).is_empty());
    assert_eq!(world.broker.accounting().refused, 1);
}

#[test]
fn every_subscribe_failure_is_0x80() {
    // [MQTT311-3.9.3-2]
    let mut world = without_secrets();
    let client = world.connect(v3("c", true)).0;
    let options = SubscribeOptions::new(Qos::AtMostOnce);
    let reasons = world.subscribe_with(client, "secret/#", options, |_| {});
    assert_eq!(reasons, [SubAckReason::UnspecifiedError]);
}

#[test]
fn a_refused_connect_gets_the_nearest_return_code() {
    let mut world = World::with(|config| config.limits.sessions_max = 1);
    world.client("first");
    let (client, ack) = world.connect(v3("second", true));
    assert_eq!(ack.reason, ConnAckReason::ServerUnavailable);
    assert_eq!(world.closed(client), Some(CloseCause::Refused));
}

#[test]
fn the_broker_ends_a_connection_without_a_packet() {
    // [MQTT311-3.1.4-2]
    let mut world = World::new();
    let (old, _) = world.connect(v3("same", true));
    world.connect(v3("same", true));
    assert_eq!(world.closed(old), Some(CloseCause::TakenOver));
    assert!(world.drain(old).is_empty());
}

#[test]
fn a_session_that_is_not_clean_lives_as_long_as_the_limit() {
    // [MQTT311-3.1.2-4]
    for (waits, is_present) in [(99, true), (101, false)] {
        let mut world = World::with(|config| config.limits.session_expiry_seconds_max = 100);
        let (client, _) = world.connect(v3("c", false));
        world.cut(client);
        world.advance(waits);
        assert_eq!(
            world.connect(v3("c", false)).1.session_present,
            is_present,
            "{waits} s"
        );
    }
}

#[test]
fn clean_session_discards_and_keeps_nothing() {
    // [MQTT311-3.1.2-6] [MQTT311-3.2.2-1]
    let mut world = World::new();
    for (clean, is_present) in [(false, false), (false, true), (true, false), (false, false)] {
        let (client, ack) = world.connect(v3("c", clean));
        assert_eq!(ack.session_present, is_present);
        world.cut(client);
    }
}

#[test]
fn an_empty_client_id_needs_clean_session() {
    // [MQTT311-3.1.3-7] [MQTT311-3.1.3-8]
    let mut world = World::new();
    let (_, ack) = world.connect(v3("", true));
    assert_eq!(
        (ack.reason, ack.assigned_client_id),
        (ConnAckReason::Success, None)
    );
    let (client, ack) = world.connect(v3("", false));
    assert_eq!(ack.reason, ConnAckReason::ClientIdentifierNotValid);
    assert!(world.closed(client).is_some());
}

#[test]
fn the_clients_own_keep_alive_holds() {
    let mut world = World::with(|config| config.limits.keep_alive_seconds_max = 10);
    let (none, ack) = world.connect(v3("none", true));
    assert_eq!(ack.server_keep_alive_seconds, None);
    let (long, _) = world.connect(Connect {
        keep_alive_seconds: 1_000,
        ..v3("long", true)
    });
    world.advance(1_499);
    assert_eq!((world.closed(none), world.closed(long)), (None, None));
    world.advance(2);
    assert_eq!(world.closed(none), None);
    assert_eq!(world.closed(long), Some(CloseCause::KeepAliveTimeout));
}

#[test]
fn a_publisher_may_have_any_number_of_exchanges_open() {
    let mut world = World::new();
    let (publisher, reader) = (world.connect(v3("p", true)).0, world.client("r"));
    world.subscribe(reader, "t", Qos::AtMostOnce);
    let numbers: Vec<u16> = (1..=5_000).collect();
    let send = |n: &u16| {
        publish_packet(Publish {
            delivery: qos2(*n),
            ..message("t", &n.to_string())
        })
    };
    // Fewer than a queue holds in one turn: the reader's messages leave between turns.
    for numbers in numbers.chunks(500) {
        world.send_all(publisher, numbers.iter().map(send).collect());
    }
    let release = |id: PacketId| Packet::PubRel(PubRel::new(id, PubRelReason::Success));
    world.send_all(publisher, numbers.iter().map(|n| release(id(*n))).collect());
    let answers = world.drain(publisher);
    let completed = answers
        .iter()
        .filter(|packet| matches!(packet, Packet::PubComp(_)))
        .count();
    assert_eq!((answers.len(), completed), (10_000, 5_000));
    let expected: Vec<_> = numbers.iter().map(ToString::to_string).collect();
    assert_eq!(world.payloads(reader), expected);
}

#[test]
fn a_packet_above_the_limit_closes_the_connection() {
    let mut world = World::with(|config| config.limits.packet_bytes_max = 100);
    let client = world.connect(v3("c", true)).0;
    world.publish(client, "t", &"x".repeat(100));
    assert_eq!(world.closed(client), Some(CloseCause::Malformed));
    assert!(world.drain(client).is_empty());
}

#[test]
fn topics_are_always_written_out() {
    let mut world = World::new();
    let (publisher, reader) = (world.client("p"), world.connect(v3("r", true)).0);
    world.subscribe(reader, "t", Qos::AtMostOnce);
    for _ in 0..3 {
        world.publish(publisher, "t", "x");
    }
    let publishes = world.publishes(reader);
    assert_eq!(publishes.len(), 3);
    assert!(
        publishes
            .iter()
            .all(|publish| matches!(publish.topic, PublishTopic::Name(_)))
    );
}

#[test]
fn an_expired_message_is_not_delivered() {
    // [MQTT-3.3.2-5]
    let mut world = World::new();
    let (reader, _) = world.connect(v3("r", false));
    world.subscribe(reader, "t", Qos::AtLeastOnce);
    world.cut(reader);
    let publisher = world.client("p");
    let mut short = message("t", "short");
    short.delivery = qos1(1);
    short.properties.message_expiry_seconds = Some(10);
    let mut long = message("t", "long");
    long.delivery = qos1(2);
    long.properties.message_expiry_seconds = Some(100);
    world.send_all(publisher, vec![publish_packet(short), publish_packet(long)]);
    world.advance(11);
    let (reader, _) = world.connect(v3("r", false));
    assert_eq!(world.payloads(reader), ["long"]);
    assert_eq!(world.broker.accounting().dropped(DropCause::Expired), 1);
}

#[test]
fn properties_are_kept_for_those_who_understand_them() {
    let mut world = World::new();
    let publisher = world.connect(v3("p", true)).0;
    let (old, new, sender) = (
        world.connect(v3("o", true)).0,
        world.client("n"),
        world.client("s"),
    );
    for reader in [old, new] {
        world.subscribe_with(
            reader,
            "t",
            SubscribeOptions::new(Qos::AtMostOnce),
            |subscribe| {
                subscribe.subscription_id =
                    (reader == new).then(|| SubscriptionId::new(7)).flatten();
            },
        );
    }
    let mut rich = message("t", "x");
    rich.properties.content_type = Some("text/plain".into());
    rich.properties.user_properties.push("k", "v").unwrap();
    world.send(sender, publish_packet(rich));
    let (to_old, to_new) = (world.publishes(old), world.publishes(new));
    assert_eq!(
        to_old[0].properties,
        paloma_codec::PublishProperties::default()
    );
    assert_eq!(
        to_new[0].properties.content_type.as_deref(),
        Some("text/plain")
    );
    assert_eq!(to_new[0].properties.user_properties.iter().count(), 1);
    assert_eq!(to_new[0].properties.subscription_ids.len(), 1);
    world.publish(publisher, "t", "plain");
    assert_eq!(world.payloads(new), ["plain"]);
}

#[test]
fn retained_messages_are_sent_on_every_subscribe() {
    // [MQTT311-3.8.4-3]
    let mut world = World::new();
    let client = world.connect(v3("c", true)).0;
    world.send(
        client,
        publish_packet(Publish {
            retain: true,
            ..message("t", "x")
        }),
    );
    for _ in 0..2 {
        world.subscribe(client, "t", Qos::AtMostOnce);
        assert_eq!(world.payloads(client), ["x"]);
    }
}

#[test]
fn shared_subscriptions_work() {
    let mut world = World::new();
    let (one, two) = (
        world.connect(v3("1", true)).0,
        world.connect(v3("2", true)).0,
    );
    for member in [one, two] {
        world.subscribe(member, "$share/g/t", Qos::AtMostOnce);
    }
    let publisher = world.client("p");
    world.publish(publisher, "t", "a");
    world.publish(publisher, "t", "b");
    let mut got = [world.payloads(one), world.payloads(two)].concat();
    got.sort();
    assert_eq!(got, ["a", "b"]);
}

#[test]
fn a_will_is_sent_at_once() {
    // [MQTT311-3.1.2-8]
    let mut world = World::new();
    let reader = world.client("r");
    world.subscribe(reader, "will", Qos::AtMostOnce);
    let will = Will::new(TopicName::new("will").unwrap(), "gone".into());
    let connect = Connect {
        will: Some(will),
        ..v3("c", false)
    };
    assert_eq!(connect.version, ProtocolVersion::V3_1_1);
    let (client, _) = world.connect(connect);
    world.cut(client);
    assert_eq!(world.payloads(reader), ["gone"]);
    assert!(world.connect(v5("other")).1.reason == ConnAckReason::Success);
}
