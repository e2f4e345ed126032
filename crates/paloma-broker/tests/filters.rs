//! SUBSCRIBE and UNSUBSCRIBE with more filters than one turn takes.
#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "what should not come ends the test"
)]

mod support;

use paloma_codec::{
    Packet, Publish, Qos, Subscribe, SubscribeFilter, SubscribeOptions, Unsubscribe,
};
use support::{Handle, World, id, target};

/// What takes several turns.
const MANY: usize = 2_000;

/// A world that takes one turn for each thing that happens from here on, and its clients.
fn world_of<const N: usize>(names: [&str; N]) -> (World, [Handle; N]) {
    let mut world = World::with(|config| config.limits.filters_per_subscribe_max = 4_000);
    let clients = names.map(|name| world.durable(name).0);
    world.turns_max = 1;
    (world, clients)
}

fn subscribe(count: usize) -> Packet {
    let options = SubscribeOptions::new(Qos::AtMostOnce);
    let filters = (0..count).map(|number| SubscribeFilter {
        target: target(&format!("f/{number}")),
        options,
    });
    Packet::Subscribe(Subscribe::new(id(1), filters.collect()))
}

fn unsubscribe(count: usize) -> Packet {
    let targets = (0..count).map(|number| target(&format!("f/{number}")));
    Packet::Unsubscribe(Unsubscribe::new(id(2), targets.collect()))
}

/// Turns until nothing is left to do.
fn come_to_rest(world: &mut World) {
    world.turns_max = usize::MAX;
    world.settle();
    world.turns_max = 1;
}

fn subscriptions(world: &World) -> usize {
    world.broker.tables().subscriptions
}

/// What has come, by name, a SUBACK or UNSUBACK with its number of answers.
fn received(world: &mut World, client: Handle) -> Vec<String> {
    let name = |packet| match packet {
        Packet::SubAck(ack) => format!("SUBACK {}", ack.reasons.len()),
        Packet::UnsubAck(ack) => format!("UNSUBACK {}", ack.reasons.len()),
        Packet::PingResp => "PINGRESP".to_owned(),
        Packet::Publish(publish) => publish.topic.name().unwrap().as_str().to_owned(),
        other => panic!("{other:?}"),
    };
    world.drain(client).into_iter().map(name).collect()
}

#[test]
fn many_filters_are_subscribed_to_in_parts_and_answered_once() {
    let (mut world, [client]) = world_of(["client"]);
    world.send(client, subscribe(MANY));
    let mut before = 0;
    let mut turns = 1;
    while subscriptions(&world) < MANY {
        let done = subscriptions(&world);
        assert!(done > before && done - before <= 300, "{before} {done}");
        assert_eq!(received(&mut world, client), Vec::<String>::new());
        before = done;
        turns += 1;
        world.settle();
    }
    assert!(turns >= 5, "{turns}");
    assert_eq!(received(&mut world, client), ["SUBACK 2000"]);
    come_to_rest(&mut world);
    assert!(
        world
            .broker
            .poll_timeout()
            .is_none_or(|at| at > world.now.monotonic)
    );
}

#[test]
fn many_filters_are_unsubscribed_from_in_parts_and_answered_once() {
    let (mut world, [client]) = world_of(["client"]);
    world.send(client, subscribe(MANY));
    come_to_rest(&mut world);
    received(&mut world, client);
    world.send(client, unsubscribe(MANY));
    assert!((1..MANY).contains(&subscriptions(&world)));
    assert_eq!(received(&mut world, client), Vec::<String>::new());
    come_to_rest(&mut world);
    assert_eq!(subscriptions(&world), 0);
    assert_eq!(received(&mut world, client), ["UNSUBACK 2000"]);
}

#[test]
fn what_a_client_sends_behind_many_filters_waits_for_them() {
    let (mut world, [client]) = world_of(["client"]);
    let topic = paloma_topic::TopicName::new("f/1999").unwrap();
    let publish = Packet::Publish(Box::new(Publish::new(topic, "x".into())));
    world.send_all(client, vec![subscribe(MANY), publish, Packet::PingReq]);
    assert!(!world.broker.may_read(world.connection(client)));
    come_to_rest(&mut world);
    let received = received(&mut world, client);
    let [first, rest @ ..] = received.as_slice() else {
        panic!("nothing")
    };
    assert_eq!(first, "SUBACK 2000");
    assert_eq!(rest.len(), 2, "{rest:?}");
    assert!(rest.contains(&"f/1999".to_owned()), "{rest:?}");
    assert!(world.broker.may_read(world.connection(client)));
}

#[test]
fn others_are_served_between_the_parts() {
    let (mut world, [many, few, reader]) = world_of(["many", "few", "reader"]);
    world.turns_max = usize::MAX;
    world.subscribe(reader, "a", Qos::AtMostOnce);
    world.turns_max = 1;
    world.send(many, subscribe(MANY));
    world.publish(few, "a", "between");
    assert_eq!(world.payloads(reader), ["between"]);
    // Its turn comes after one part of the other's.
    world.send(few, subscribe(1));
    for _ in 0..3 {
        world.settle();
    }
    assert_eq!(received(&mut world, few), ["SUBACK 1"]);
    assert_eq!(received(&mut world, many), Vec::<String>::new());
    come_to_rest(&mut world);
    assert_eq!(received(&mut world, many), ["SUBACK 2000"]);
}

#[test]
fn packets_of_few_filters_share_a_turns_number() {
    let (mut world, clients) = world_of(["a", "b", "c", "d", "e", "f", "g", "h"]);
    world.turns_max = 0;
    for client in &clients {
        world.send(*client, subscribe(100));
    }
    let at_once = subscriptions(&world);
    assert!((100..=300).contains(&at_once), "{at_once}");
    come_to_rest(&mut world);
    for client in clients {
        assert_eq!(received(&mut world, client), ["SUBACK 100"]);
    }
    assert_eq!(subscriptions(&world), 800);
}

#[test]
fn a_client_that_leaves_half_way_leaves_no_work_behind() {
    let (mut world, [client]) = world_of(["client"]);
    world.send(client, subscribe(MANY));
    world.cut(client);
    come_to_rest(&mut world);
    let kept = subscriptions(&world);
    assert!((1..MANY).contains(&kept), "what was done stays: {kept}");
    assert!(
        world
            .broker
            .poll_timeout()
            .is_none_or(|at| at > world.now.monotonic)
    );
    world.turns_max = usize::MAX;
    let (client, ack) = world.durable("client");
    assert!(ack.session_present);
    world.send(client, subscribe(MANY));
    come_to_rest(&mut world);
    assert_eq!(received(&mut world, client), ["SUBACK 2000"]);
    assert_eq!(subscriptions(&world), MANY);
}

#[test]
fn an_answer_to_many_filters_waits_until_the_last_part_is_stored() {
    let (mut world, [client]) = world_of(["client"]);
    world.commits = false;
    world.send(client, subscribe(MANY));
    come_to_rest(&mut world);
    assert_eq!(subscriptions(&world), MANY);
    assert_eq!(received(&mut world, client), Vec::<String>::new());
    world.commit();
    assert_eq!(received(&mut world, client), ["SUBACK 2000"]);
}
