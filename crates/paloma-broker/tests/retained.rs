//! Retained messages: kept, bounded, and sent to new subscriptions.

mod support;

use std::sync::Arc;

use paloma_broker::{Action, BrokerConfig, DropCause, Tables};
use paloma_codec::{
    Connect, Packet, PubAckReason, Publish, Qos, SubAckReason, SubscribeOptions, SubscriptionId,
};
use support::{Handle, Rules, World, message, publish_packet, qos1, texts, v3, v5};

fn retained(topic: &str, payload: &str, change: impl FnOnce(&mut Publish)) -> Packet {
    let mut publish = Publish {
        retain: true,
        ..message(topic, payload)
    };
    change(&mut publish);
    publish_packet(publish)
}

/// What a new subscription to `filter` gets, as `topic=payload`, sorted.
fn found(world: &mut World, filter: &str) -> Vec<String> {
    let client = world.client("finder");
    world.subscribe(client, filter, Qos::AtMostOnce);
    let mut found: Vec<_> = world
        .publishes(client)
        .iter()
        .map(|publish| {
            assert!(publish.retain, "[MQTT-3.3.1-8]");
            let topic = publish.topic.name().map_or("", |name| name.as_str());
            format!("{topic}={}", texts(std::slice::from_ref(publish)).concat())
        })
        .collect();
    found.sort();
    found
}

#[test]
fn a_retained_message_makes_room_for_the_next_of_its_topic() {
    let mut world = World::with(|config| config.limits.retained_bytes_max = 1_000);
    let client = world.client("c");
    for n in 0..10 {
        world.retain(client, "t", &format!("{n}{}", "x".repeat(300)));
    }
    let found = found(&mut world, "t");
    assert!(found[0].starts_with("t=9x"), "{found:?}");
}

#[test]
fn retained_messages_have_no_publisher_who_is_local() {
    // [MQTT-3.8.3-3]
    let mut world = World::new();
    let client = world.client("c");
    world.retain(client, "t", "own");
    let options = SubscribeOptions {
        no_local: true,
        ..SubscribeOptions::new(Qos::AtMostOnce)
    };
    world.subscribe_with(client, "t", options, |_| {});
    assert_eq!(world.payloads(client), ["own"]);
    world.retain(client, "t", "own again");
    assert_eq!(world.payloads(client), [""; 0]);
}

#[test]
fn the_last_retained_message_of_a_topic_is_kept() {
    // [MQTT-3.3.1-5]
    let mut world = World::new();
    let client = world.client("c");
    world.retain(client, "a", "1");
    world.retain(client, "a", "2");
    world.retain(client, "b", "3");
    world.publish(client, "a", "not retained");
    assert_eq!(found(&mut world, "#"), ["a=2", "b=3"]);
    assert_eq!(found(&mut world, "b"), ["b=3"]);
}

#[test]
fn an_empty_retained_message_clears_its_topic_and_is_still_delivered() {
    // [MQTT-3.3.1-6] [MQTT-3.3.1-7]
    let mut world = World::new();
    let client = world.client("c");
    world.subscribe(client, "a", Qos::AtMostOnce);
    world.retain(client, "a", "1");
    world.retain(client, "a", "");
    assert_eq!(world.payloads(client), ["1", ""]);
    assert!(found(&mut world, "#").is_empty());
    let tables = world.broker.tables();
    assert_eq!((tables.retained, tables.retained_bytes), (0, 0));
}

#[test]
fn an_empty_message_without_retain_deletes_nothing() {
    let mut world = World::new();
    let client = world.client("c");
    world.retain(client, "a", "1");
    world.publish(client, "a", "");
    assert_eq!(found(&mut world, "#"), ["a=1"]);
}

#[test]
fn the_number_of_retained_messages_is_bounded() {
    // B9
    let mut world = World::with(|config| config.limits.retained_messages_max = 2);
    let client = world.client("c");
    world.subscribe(client, "#", Qos::AtMostOnce);
    let mut publish = |topic: &str, payload: &str| {
        world.send(
            client,
            retained(topic, payload, |publish| publish.delivery = qos1(1)),
        );
        let packets = world.drain(client);
        let reason = packets.iter().find_map(|packet| {
            if let Packet::PubAck(ack) = packet {
                Some(ack.reason)
            } else {
                None
            }
        });
        (reason, packets.len() - 1)
    };
    assert_eq!(publish("a", "1"), (Some(PubAckReason::Success), 1));
    assert_eq!(publish("b", "1"), (Some(PubAckReason::Success), 1));
    assert_eq!(publish("c", "1"), (Some(PubAckReason::QuotaExceeded), 0));
    assert_eq!(publish("a", "2"), (Some(PubAckReason::Success), 1));
    assert_eq!(publish("b", ""), (Some(PubAckReason::Success), 1));
    assert_eq!(publish("c", "1"), (Some(PubAckReason::Success), 1));
    let accounting = world.broker.accounting();
    assert_eq!((accounting.retained_refused, accounting.refused), (1, 1));
}

#[test]
fn the_bytes_of_retained_messages_are_bounded() {
    // B9
    let mut world = World::with(|config| config.limits.retained_bytes_max = 10_000);
    let client = world.client("c");
    let payload = "x".repeat(1_000);
    for n in 0..20 {
        world.retain(client, &format!("t/{n}"), &payload);
        assert!(world.broker.tables().retained_bytes <= 10_000);
    }
    assert_eq!(world.broker.tables().retained, 9);
    assert_eq!(world.broker.accounting().retained_refused, 11);
    // A smaller one takes the place of a larger one.
    world.retain(client, "t/0", "small");
    world.retain(client, "t/19", "also small");
    assert_eq!(world.broker.tables().retained, 10);
}

#[test]
fn an_expired_retained_message_is_freed_without_anybody_asking() {
    // [MQTT-3.3.2-5] B9
    let mut world = World::new();
    let client = world.client("c");
    let expiring = |publish: &mut Publish| publish.properties.message_expiry_seconds = Some(10);
    world.send(client, retained("a", "1", expiring));
    world.advance_millis(9_999);
    assert_eq!(found(&mut world, "#"), ["a=1"]);
    world.advance_millis(1);
    let tables = world.broker.tables();
    assert_eq!((tables.retained, tables.retained_bytes), (0, 0));
}

#[test]
fn a_newer_retained_message_has_a_lifetime_of_its_own() {
    let mut world = World::new();
    let client = world.client("c");
    let expiring = |publish: &mut Publish| publish.properties.message_expiry_seconds = Some(10);
    world.send(client, retained("a", "1", expiring));
    world.advance(5);
    world.send(client, retained("a", "2", expiring));
    world.send(client, retained("b", "1", expiring));
    world.retain(client, "b", "2");
    world.advance(9);
    assert_eq!(found(&mut world, "#"), ["a=2", "b=2"]);
    world.advance(1);
    assert_eq!(found(&mut world, "#"), ["b=2"]);
}

#[test]
fn a_topic_retained_again_and_again_has_one_timer() {
    let mut world = World::new();
    let client = world.client("c");
    for _ in 0..1_000 {
        let expiring =
            |publish: &mut Publish| publish.properties.message_expiry_seconds = Some(u32::MAX);
        world.send(client, retained("a", "x", expiring));
        world.advance_millis(1);
    }
    // Its own and the client's keep alive.
    assert_eq!(world.broker.tables().timers, 2);
    world.retain(client, "a", "");
    assert_eq!(world.broker.tables().timers, 1);
}

#[test]
fn a_retained_message_tells_how_long_it_still_lives() {
    // [MQTT-3.3.2-6]
    let mut world = World::new();
    let client = world.client("c");
    let expiring = |publish: &mut Publish| publish.properties.message_expiry_seconds = Some(10);
    world.send(client, retained("a", "1", expiring));
    world.advance(4);
    world.subscribe(client, "a", Qos::AtMostOnce);
    let publishes = world.publishes(client);
    assert_eq!(publishes[0].properties.message_expiry_seconds, Some(6));
}

fn crowded(change: impl FnOnce(&mut BrokerConfig), topics: u32) -> (World, Handle) {
    let mut world = World::with(change);
    let publisher = world.client("p");
    let packets = (0..topics).map(|n| retained(&format!("t/{n}"), &n.to_string(), |_| {}));
    world.send_all(publisher, packets.collect());
    (world, publisher)
}

fn check_each_once(mut payloads: Vec<String>, topics: u32) {
    payloads.sort_by_key(|text| text.parse::<u32>().unwrap_or(u32::MAX));
    let expected: Vec<_> = (0..topics).map(|n| n.to_string()).collect();
    assert!(payloads == expected, "{} of {topics}", payloads.len());
}

#[test]
fn a_replay_waits_for_room_and_loses_nothing() {
    for queue_messages_max in [1, 4, 1_000] {
        let mut world = World::with(|config| config.limits.queue_messages_max = queue_messages_max);
        let (publisher, _) = world.connect(v3("p", true));
        let packets = (0..10_000_u16).map(|n| {
            retained(&format!("t/{n}"), &n.to_string(), |publish| {
                publish.delivery = qos1(n + 1);
            })
        });
        world.send_all(publisher, packets.collect());
        let client = world.client("c");
        world.subscribe(client, "t/+", Qos::AtLeastOnce);
        assert!(world.broker.queued() <= 300);
        check_each_once(texts(&world.take_all(client)), 10_000);
        assert_eq!(world.broker.accounting().dropped_total(), 0);
    }
}

#[test]
fn a_replay_waits_for_room_by_bytes_too() {
    let mut world = World::with(|config| {
        config.limits.queue_bytes_max = 10_000;
        config.limits.inflight_max = 2;
    });
    let client = world.client("c");
    for n in 0..50 {
        let payload = format!("{n:04}").repeat(1_000);
        let publish = retained(&format!("t/{n}"), &payload, |publish| {
            publish.delivery = qos1(1);
        });
        world.send(client, publish);
    }
    world.subscribe(client, "t/+", Qos::AtLeastOnce);
    assert_eq!(world.take_all(client).len(), 50);
    assert_eq!(world.broker.accounting().dropped_total(), 0);
}

#[test]
fn a_retained_message_that_fits_no_queue_is_counted_and_passed_over() {
    let mut world = World::with(|config| config.limits.queue_bytes_max = 1_000);
    let client = world.client("c");
    world.retain(client, "t/large", &"x".repeat(2_000));
    world.retain(client, "t/small", "x");
    assert_eq!(found(&mut world, "t/#"), ["t/small=x"]);
    assert_eq!(world.dropped(DropCause::QueueFull), 1);
}

#[test]
fn a_reader_that_does_not_read_has_its_replay_wait() {
    let (mut world, publisher) = crowded(|_| {}, 5_000);
    let client = world.client("c");
    world.set_reading(client, false);
    let filter = paloma_codec::SubscribeFilter {
        target: support::target("t/+"),
        options: SubscribeOptions::new(Qos::AtMostOnce),
    };
    let subscribe = paloma_codec::Subscribe::new(support::id(1), vec![filter]);
    world.send(client, Packet::Subscribe(subscribe));
    assert!(world.broker.queued() <= 256);
    // Others get theirs meanwhile.
    world.subscribe(publisher, "t/+", Qos::AtMostOnce);
    check_each_once(world.payloads(publisher), 5_000);
    world.set_reading(client, true);
    check_each_once(world.payloads(client), 5_000);
}

#[test]
fn a_client_never_gets_an_older_value_after_a_newer_one() {
    // G10
    let (mut world, publisher) = crowded(|config| config.limits.queue_messages_max = 4, 3_000);
    let (client, _) = world.durable("c");
    world.subscribe(client, "t/+", Qos::AtMostOnce);
    world.set_reading(client, false);
    for round in 0..10_u32 {
        for n in (0..3_000).step_by(97) {
            world.retain(publisher, &format!("t/{n}"), &(10_000 + round).to_string());
        }
        world.set_reading(client, true);
        world.set_reading(client, false);
    }
    world.set_reading(client, true);
    let mut latest = std::collections::BTreeMap::new();
    for publish in world.publishes(client) {
        let topic = publish.topic.name().map(|name| name.as_str().to_owned());
        let number: u32 = topic.as_deref().unwrap()[2..].parse().unwrap();
        let value: u32 = texts(&[publish])[0].parse().unwrap();
        let is_new = value >= 10_000 && number.is_multiple_of(97);
        assert!(is_new || value == number, "{value} of {number}");
        let earlier = latest.insert(topic, value).unwrap_or(0);
        assert!(earlier <= value);
    }
    assert_eq!(latest.len(), 3_000);
}

#[test]
fn a_replay_that_a_cut_interrupts_goes_on_after_the_resume() {
    let (mut world, publisher) = crowded(|config| config.limits.inflight_max = 4, 0);
    for n in 0..1_000 {
        let publish = retained(&format!("t/{n}"), &n.to_string(), |publish| {
            publish.delivery = qos1(1);
        });
        world.send(publisher, publish);
    }
    let (client, _) = world.durable("c");
    world.subscribe(client, "t/+", Qos::AtLeastOnce);
    let mut taken = Vec::new();
    let first = world.publishes(client);
    for publish in &first[..2] {
        world.acknowledge(client, publish);
    }
    taken.extend(texts(&first[..2]));
    world.cut(client);
    let (client, _) = world.durable("c");
    taken.extend(texts(&world.take_all(client)));
    check_each_once(taken, 1_000);
}

#[test]
fn unsubscribing_ends_the_replay() {
    let (mut world, _) = crowded(|config| config.limits.queue_messages_max = 4, 1_000);
    let client = world.client("c");
    world.set_reading(client, false);
    let filter = paloma_codec::SubscribeFilter {
        target: support::target("t/+"),
        options: SubscribeOptions::new(Qos::AtMostOnce),
    };
    let subscribe = paloma_codec::Subscribe::new(support::id(1), vec![filter]);
    world.send(client, Packet::Subscribe(subscribe));
    let unsubscribe = paloma_codec::Unsubscribe::new(support::id(2), vec![support::target("t/+")]);
    world.send(client, Packet::Unsubscribe(unsubscribe));
    world.set_reading(client, true);
    assert!(world.publishes(client).len() <= 8);
}

#[test]
fn subscribing_again_begins_the_replay_anew() {
    let (mut world, _) = crowded(|_| {}, 100);
    let client = world.client("c");
    for _ in 0..2 {
        world.subscribe(client, "t/+", Qos::AtMostOnce);
        check_each_once(world.payloads(client), 100);
    }
}

#[test]
fn a_replay_carries_the_subscriptions_identifier_and_qos() {
    // [MQTT-3.3.4-3] [MQTT-3.8.4-8]
    let mut world = World::new();
    let client = world.client("c");
    world.send(
        client,
        retained("t", "x", |publish| publish.delivery = qos1(1)),
    );
    let options = SubscribeOptions::new(Qos::ExactlyOnce);
    world.drain(client);
    world.subscribe_with(client, "t", options, |subscribe| {
        subscribe.subscription_id = SubscriptionId::new(7);
    });
    let publishes = world.publishes(client);
    assert_eq!(publishes[0].delivery.qos(), Qos::AtLeastOnce);
    assert_eq!(
        publishes[0].properties.subscription_ids,
        [SubscriptionId::new(7).unwrap()]
    );
}

#[test]
fn a_wildcard_finds_no_retained_message_of_a_denied_topic() {
    // D4
    let rules = Arc::new(Rules::default());
    rules.deny("c", Action::Read, "t/secret");
    let authorizer = Arc::clone(&rules);
    let mut world = World::with(|config| config.authorizer = authorizer);
    let publisher = world.client("p");
    world.retain(publisher, "t/secret", "1");
    world.retain(publisher, "t/open", "2");
    let client = world.client("c");
    world.subscribe(client, "t/#", Qos::AtMostOnce);
    assert_eq!(world.payloads(client), ["2"]);
    world.publish(publisher, "t/secret", "3");
    assert!(world.payloads(client).is_empty());
    let options = SubscribeOptions::new(Qos::AtMostOnce);
    let reasons = world.subscribe_with(client, "t/secret", options, |_| {});
    assert_eq!(reasons, [SubAckReason::NotAuthorized]);
}

#[test]
fn nothing_is_retained_where_that_is_not_offered() {
    // [MQTT-3.2.2-14]
    let mut world = World::with(|config| config.limits.retain_available = false);
    let (client, _) = world.connect(v3("c", true));
    world.subscribe(client, "t", Qos::AtMostOnce);
    world.retain(client, "t", "x");
    assert_eq!(world.payloads(client), ["x"]);
    assert_eq!(world.broker.tables().retained, 0);
    let client = world.client("d");
    world.retain(client, "t", "x");
    assert!(world.closed(client).is_some());
}

#[test]
fn retained_messages_outlive_their_publisher() {
    // [MQTT-3.3.1-5]
    let mut world = World::new();
    let client = world.client("c");
    world.retain(client, "a", "1");
    world.cut(client);
    assert_eq!(found(&mut world, "+"), ["a=1"]);
}

#[test]
fn cleared_topics_leave_nothing_behind() {
    // B9 I13
    let (mut world, publisher) = crowded(|_| {}, 2_000);
    let packets = (0..2_000).map(|n| retained(&format!("t/{n}"), "", |_| {}));
    world.send_all(publisher, packets.collect());
    world.cut(publisher);
    assert_eq!(world.broker.tables(), Tables::default());
    let _ = world.connect(Connect { ..v5("late") });
    assert_eq!(world.store.message_count(), 0);
}
