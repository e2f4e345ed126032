//! Who gets what.

mod support;

use paloma_codec::{
    Packet, PubAckReason, Publish, PublishTopic, Qos, RetainHandling, SubAckReason,
    SubscribeOptions, SubscriptionId, UnsubAckReason, Unsubscribe,
};
use paloma_topic::Target;
use support::{World, id, message, publish_packet, qos1, qos2, v3};

#[test]
fn a_message_reaches_those_whose_filter_matches_and_nobody_else() {
    let mut world = World::new();
    let (publisher, exact) = (world.client("p"), world.client("exact"));
    let (wild, other) = (world.client("wild"), world.client("other"));
    world.subscribe(exact, "a/b", Qos::AtMostOnce);
    world.subscribe(wild, "a/#", Qos::AtMostOnce);
    world.subscribe(other, "b/+", Qos::AtMostOnce);
    world.publish(publisher, "a/b", "x");
    assert_eq!(world.payloads(exact), ["x"]);
    assert_eq!(world.payloads(wild), ["x"]);
    assert!(world.payloads(other).is_empty());
}

#[test]
fn a_wildcard_does_not_match_a_dollar_topic() {
    // [MQTT-4.7.2-1]; nobody may publish there either.
    let mut world = World::new();
    let client = world.client("c");
    world.subscribe(client, "#", Qos::AtMostOnce);
    world.publish_qos(client, "$SYS/x", "x", qos1(1));
    let packets = world.drain(client);
    let [Packet::PubAck(ack)] = packets.as_slice() else {
        panic!("{packets:?}")
    };
    assert_eq!(ack.reason, PubAckReason::NotAuthorized);
}

#[test]
fn overlapping_subscriptions_give_one_copy_at_the_highest_qos_with_all_identifiers() {
    // [MQTT-3.3.4-2] [MQTT-3.3.4-3] [MQTT-3.3.4-4]
    let mut world = World::new();
    let client = world.client("c");
    for (filter, qos, number) in [("a/+", 0, 3), ("a/b", 2, 7), ("#", 1, 5)] {
        let options = SubscribeOptions::new(Qos::from_bits(qos).unwrap());
        world.subscribe_with(client, filter, options, |subscribe| {
            subscribe.subscription_id = SubscriptionId::new(number);
        });
    }
    world.publish_qos(client, "a/b", "x", qos2(1));
    let publishes = world.publishes(client);
    let [publish] = publishes.as_slice() else {
        panic!("{publishes:?}")
    };
    assert_eq!(publish.delivery.qos(), Qos::ExactlyOnce);
    let mut ids: Vec<_> = publish
        .properties
        .subscription_ids
        .iter()
        .map(|id| id.get())
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, [3, 5, 7]);
}

#[test]
fn delivery_is_at_the_lower_of_both_qos() {
    // [MQTT-3.8.4-8]
    let mut world = World::new();
    let (publisher, client) = (world.client("p"), world.client("c"));
    world.subscribe(client, "t", Qos::AtLeastOnce);
    world.publish(publisher, "t", "0");
    world.publish_qos(publisher, "t", "1", qos1(1));
    world.publish_qos(publisher, "t", "2", qos2(2));
    let qos: Vec<_> = world
        .publishes(client)
        .iter()
        .map(|publish| publish.delivery.qos().bits())
        .collect();
    assert_eq!(qos, [0, 1, 1]);
}

#[test]
fn delivery_may_be_at_the_subscriptions_qos_whatever_the_messages_is() {
    for (upgrades, expected) in [(false, [0, 1, 1]), (true, [1, 1, 1])] {
        let mut world = World::with(|config| config.behaviour.upgrade_outgoing_qos = upgrades);
        let (publisher, client) = (world.client("p"), world.client("c"));
        world.subscribe(client, "t", Qos::AtLeastOnce);
        world.publish(publisher, "t", "0");
        world.publish_qos(publisher, "t", "1", qos1(1));
        world.publish_qos(publisher, "t", "2", qos2(2));
        let publishes = world.publishes(client);
        let qos = publishes
            .iter()
            .map(|publish| publish.delivery.qos().bits());
        assert_eq!(qos.collect::<Vec<_>>(), expected);
    }
}

#[test]
fn no_local_keeps_a_clients_own_messages_away() {
    // [MQTT-3.8.3-3]
    let mut world = World::new();
    let (one, two) = (world.client("one"), world.client("two"));
    let options = SubscribeOptions {
        no_local: true,
        ..SubscribeOptions::new(Qos::AtMostOnce)
    };
    world.subscribe_with(one, "t", options, |_| {});
    world.publish(one, "t", "own");
    world.publish(two, "t", "other");
    assert_eq!(world.payloads(one), ["other"]);
}

#[test]
fn retain_as_published_keeps_the_flag_and_only_then() {
    // [MQTT-3.3.1-12] [MQTT-3.3.1-13]
    let mut world = World::new();
    let (publisher, keeps, clears) = (world.client("p"), world.client("k"), world.client("c"));
    let options = SubscribeOptions {
        retain_as_published: true,
        ..SubscribeOptions::new(Qos::AtMostOnce)
    };
    world.subscribe_with(keeps, "t", options, |_| {});
    world.subscribe(clears, "t", Qos::AtMostOnce);
    let retained = Publish {
        retain: true,
        ..message("t", "x")
    };
    world.send(publisher, publish_packet(retained));
    assert!(world.publishes(keeps)[0].retain);
    assert!(!world.publishes(clears)[0].retain);
}

#[test]
fn a_publish_that_nobody_wants_says_so() {
    let mut world = World::new();
    let client = world.client("c");
    world.publish_qos(client, "nobody", "x", qos1(1));
    let Some(Packet::PubAck(ack)) = world.next(client) else {
        panic!()
    };
    assert_eq!(ack.reason, PubAckReason::NoMatchingSubscribers);
}

#[test]
fn unsubscribing_ends_delivery_and_tells_what_was_there() {
    // [MQTT-3.10.4-1] [MQTT-3.10.4-2] [MQTT-3.10.4-5]
    let mut world = World::new();
    let client = world.client("c");
    world.subscribe(client, "t", Qos::AtMostOnce);
    let filters = ["t", "u"]
        .map(|filter| Target::parse(filter).unwrap())
        .to_vec();
    world.send(
        client,
        Packet::Unsubscribe(Unsubscribe::new(id(5), filters)),
    );
    let Some(Packet::UnsubAck(ack)) = world.next(client) else {
        panic!()
    };
    assert_eq!(
        ack.reasons,
        [
            UnsubAckReason::Success,
            UnsubAckReason::NoSubscriptionExisted
        ]
    );
    world.publish(client, "t", "x");
    assert!(world.drain(client).is_empty());
}

#[test]
fn subscriptions_of_one_client_are_bounded() {
    let mut world = World::with(|config| config.limits.subscriptions_per_client_max = 2);
    let client = world.client("c");
    world.subscribe(client, "a", Qos::AtMostOnce);
    world.subscribe(client, "b", Qos::AtMostOnce);
    let options = SubscribeOptions::new(Qos::AtMostOnce);
    let reasons = world.subscribe_with(client, "c", options, |_| {});
    assert_eq!(reasons, [SubAckReason::QuotaExceeded]);
    world.subscribe(client, "b", Qos::AtLeastOnce);
}

#[test]
fn order_holds_per_topic() {
    // [MQTT-4.6.0-5] [MQTT-4.6.0-6]
    let mut world = World::new();
    let (publisher, client) = (world.client("p"), world.client("c"));
    world.subscribe(client, "t", Qos::ExactlyOnce);
    let packets = (1..=30).map(|n| {
        let publish = Publish {
            delivery: qos1(n),
            ..message("t", &n.to_string())
        };
        publish_packet(publish)
    });
    world.send_all(publisher, packets.collect());
    let expected: Vec<_> = (1..=30).map(|n: u16| n.to_string()).collect();
    assert_eq!(world.payloads(client), expected);
}

#[test]
fn topic_aliases_towards_the_broker_are_resolved_and_never_forwarded() {
    // [MQTT-3.3.2-7]
    let mut world = World::new();
    let (publisher, client) = (world.client("p"), world.client("c"));
    world.subscribe(client, "t", Qos::AtMostOnce);
    let alias = paloma_codec::TopicAlias::new(3).unwrap();
    let mut first = message("t", "1");
    let Some(name) = first.topic.name().cloned() else {
        panic!()
    };
    first.topic = PublishTopic::Define { name, alias };
    let second = Publish {
        topic: PublishTopic::Alias(alias),
        ..message("t", "2")
    };
    world.send_all(
        publisher,
        vec![publish_packet(first), publish_packet(second)],
    );
    let publishes = world.publishes(client);
    assert_eq!(publishes.len(), 2);
    assert!(
        publishes
            .iter()
            .all(|publish| matches!(&publish.topic, PublishTopic::Name(_)))
    );
}

#[test]
fn a_message_for_very_many_sessions_reaches_all_of_them_in_order() {
    let mut world = World::new();
    let publisher = world.client("p");
    let clients: Vec<_> = (0..5_000)
        .map(|n| {
            let client = world.connect(v3(&format!("c{n}"), true)).0;
            world.subscribe(client, "t", Qos::AtMostOnce);
            client
        })
        .collect();
    let packets = ["1", "2", "3"]
        .map(|text| publish_packet(message("t", text)))
        .to_vec();
    world.send_all(publisher, packets);
    for client in clients {
        assert_eq!(world.payloads(client), ["1", "2", "3"]);
    }
}

#[test]
fn the_publisher_of_a_large_fan_out_is_answered_at_its_end_and_in_order() {
    // [MQTT-4.6.0-2]
    let mut world = World::new();
    let publisher = world.client("p");
    for n in 0..3_000 {
        let client = world.connect(v3(&format!("c{n}"), true)).0;
        world.subscribe(client, "many", Qos::AtMostOnce);
    }
    let large = Publish {
        delivery: qos1(1),
        ..message("many", "x")
    };
    let small = Publish {
        delivery: qos1(2),
        ..message("few", "x")
    };
    world.send_all(
        publisher,
        vec![publish_packet(large), publish_packet(small)],
    );
    let packets = world.drain(publisher);
    let [Packet::PubAck(first), Packet::PubAck(second)] = packets.as_slice() else {
        panic!("{packets:?}")
    };
    assert_eq!((first.id, second.id), (id(1), id(2)));
    assert_eq!(first.reason, PubAckReason::Success);
}

fn check_retained(handling: RetainHandling, expected: [usize; 2]) {
    let mut world = World::new();
    let client = world.client("c");
    world.send(
        client,
        publish_packet(Publish {
            retain: true,
            ..message("t", "x")
        }),
    );
    for expected in expected {
        let options = SubscribeOptions {
            retain_handling: handling,
            ..SubscribeOptions::new(Qos::AtMostOnce)
        };
        world.subscribe_with(client, "t", options, |_| {});
        assert_eq!(world.publishes(client).len(), expected, "{handling:?}");
    }
}

#[test]
fn retain_handling_decides_when_retained_messages_are_sent() {
    // [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11]
    check_retained(RetainHandling::Send, [1, 1]);
    check_retained(RetainHandling::SendIfNew, [1, 0]);
    check_retained(RetainHandling::DoNotSend, [0, 0]);
}
