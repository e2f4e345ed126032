//! A publisher that names the same topic again and again, whose recipients the broker does not look for anew: every
//! change must show all the same.

mod support;

use paloma_codec::{Publish, Qos, SubscribeOptions, SubscriptionId};
use support::{Handle, World, qos1, texts};

const TOPIC: &str = "site/7/state";

/// A publisher whose last message on the topic reached `client`.
fn steady(world: &mut World) -> (Handle, Handle) {
    let (publisher, client) = (world.client("publisher"), world.client("client"));
    world.subscribe(client, TOPIC, Qos::AtMostOnce);
    for payload in ["1", "2"] {
        world.publish(publisher, TOPIC, payload);
    }
    assert_eq!(world.payloads(client), ["1", "2"]);
    (publisher, client)
}

#[test]
fn a_new_subscription_gets_the_next_message() {
    let mut world = World::new();
    let (publisher, client) = steady(&mut world);
    let other = world.client("other");
    world.subscribe(other, "site/+/state", Qos::AtMostOnce);
    world.publish(publisher, TOPIC, "3");
    assert_eq!(world.payloads(client), ["3"]);
    assert_eq!(world.payloads(other), ["3"]);
}

#[test]
fn an_ended_subscription_gets_no_more() {
    let mut world = World::new();
    let (publisher, client) = steady(&mut world);
    world.unsubscribe(client, TOPIC);
    world.publish(publisher, TOPIC, "3");
    assert!(world.payloads(client).is_empty());
}

#[test]
fn a_changed_subscription_holds_from_the_next_message_on() {
    let mut world = World::new();
    let (publisher, client) = steady(&mut world);
    let options = SubscribeOptions::new(Qos::AtLeastOnce);
    world.subscribe_with(client, TOPIC, options, |subscribe| {
        subscribe.subscription_id = SubscriptionId::new(9);
    });
    world.publish_qos(publisher, TOPIC, "3", qos1(1));
    let publishes = world.publishes(client);
    let [publish] = publishes.as_slice() else {
        panic!("{publishes:?}")
    };
    assert_eq!(publish.delivery.qos(), Qos::AtLeastOnce);
    let ids = &publish.properties.subscription_ids;
    assert_eq!(ids.iter().map(|id| id.get()).collect::<Vec<_>>(), [9]);
}

#[test]
fn a_session_that_ends_is_passed_over_and_its_successor_starts_without_filters() {
    let mut world = World::new();
    let (publisher, client) = steady(&mut world);
    world.cut(client);
    world.publish(publisher, TOPIC, "3");
    let client = world.client("client");
    world.publish(publisher, TOPIC, "4");
    assert!(world.payloads(client).is_empty());
    world.check_invariants();
}

#[test]
fn another_publisher_is_its_own_origin() {
    // [MQTT-3.8.3-3]
    let mut world = World::new();
    let (first, second) = (world.client("first"), world.client("second"));
    let mut options = SubscribeOptions::new(Qos::AtMostOnce);
    options.no_local = true;
    for client in [first, second] {
        world.subscribe_with(client, TOPIC, options, |_| {});
    }
    for (publisher, payload) in [(first, "1"), (first, "2"), (second, "3"), (first, "4")] {
        world.publish(publisher, TOPIC, payload);
    }
    assert_eq!(world.payloads(first), ["3"]);
    assert_eq!(world.payloads(second), ["1", "2", "4"]);
}

#[test]
fn all_identifiers_come_with_every_message() {
    // [MQTT-3.3.4-3] [MQTT-3.3.4-4]
    let mut world = World::new();
    let (publisher, client) = (world.client("publisher"), world.client("client"));
    for (filter, number) in [(TOPIC, 1), ("site/+/state", 2), ("#", 3)] {
        let options = SubscribeOptions::new(Qos::AtMostOnce);
        world.subscribe_with(client, filter, options, |subscribe| {
            subscribe.subscription_id = SubscriptionId::new(number);
        });
    }
    for payload in ["1", "2", "3"] {
        world.publish(publisher, TOPIC, payload);
    }
    let publishes = world.publishes(client);
    assert_eq!(texts(&publishes), ["1", "2", "3"]);
    let ids = |publish: &Publish| {
        let ids = publish.properties.subscription_ids.iter();
        let mut ids: Vec<_> = ids.map(|id| id.get()).collect();
        ids.sort_unstable();
        ids
    };
    assert!(publishes.iter().all(|publish| ids(publish) == [1, 2, 3]));
}

#[test]
fn members_of_a_group_take_turns() {
    let mut world = World::new();
    let (publisher, client) = steady(&mut world);
    let members = ["a", "b"].map(|name| {
        let member = world.client(name);
        world.subscribe(member, "$share/group/site/7/state", Qos::AtMostOnce);
        member
    });
    for payload in ["3", "4", "5", "6"] {
        world.publish(publisher, TOPIC, payload);
    }
    assert_eq!(world.payloads(client), ["3", "4", "5", "6"]);
    for member in members {
        assert_eq!(world.payloads(member).len(), 2);
    }
}
