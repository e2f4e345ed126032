//! Acknowledged means stored: which answers wait for a commit, and which do not.

mod support;

use paloma_broker::{BrokerConfig, CloseCause};
use paloma_codec::{
    Connect, Packet, ProtocolVersion, Publish, Qos, Subscribe, SubscribeFilter, SubscribeOptions,
    Unsubscribe,
};
use support::{
    Handle, World, id, message, pub_rec, pub_rel, publish_packet, qos1, qos2, target, v5,
};

/// A durable client, whose session the store knows, that subscribed to `t`; nothing is committed from here on.
fn stalled_store(change: impl FnOnce(&mut BrokerConfig)) -> (World, Handle, Handle) {
    let mut world = World::with(change);
    let (client, _) = world.durable("c");
    world.subscribe(client, "t", Qos::ExactlyOnce);
    let publisher = world.client("p");
    world.commits = false;
    (world, client, publisher)
}

/// The kinds of packets that came, in order.
fn kinds(world: &mut World, client: Handle) -> Vec<&'static str> {
    world.drain(client).iter().map(kind).collect()
}

fn kind(packet: &Packet) -> &'static str {
    match packet {
        Packet::ConnAck(_) => "CONNACK",
        Packet::Publish(_) => "PUBLISH",
        Packet::PubAck(_) => "PUBACK",
        Packet::PubRec(_) => "PUBREC",
        Packet::PubRel(_) => "PUBREL",
        Packet::PubComp(_) => "PUBCOMP",
        Packet::SubAck(_) => "SUBACK",
        Packet::UnsubAck(_) => "UNSUBACK",
        Packet::PingResp => "PINGRESP",
        Packet::Disconnect(_) => "DISCONNECT",
        Packet::Connect(_)
        | Packet::Subscribe(_)
        | Packet::Unsubscribe(_)
        | Packet::PingReq
        | Packet::Auth(_) => "none of a server's",
    }
}

fn subscribe(filter: &str) -> Packet {
    let target = target(filter);
    let options = SubscribeOptions::new(Qos::AtLeastOnce);
    Packet::Subscribe(Subscribe::new(
        id(1),
        vec![SubscribeFilter { target, options }],
    ))
}

fn unsubscribe(filter: &str) -> Packet {
    let target = target(filter);
    Packet::Unsubscribe(Unsubscribe::new(id(2), vec![target]))
}

fn at(topic: &str, delivery: paloma_codec::Delivery) -> Packet {
    publish_packet(Publish {
        delivery,
        ..message(topic, "x")
    })
}

/// Sends a packet and sees that its answer comes with the commit and not before.
fn check_waits(world: &mut World, client: Handle, packet: Packet, expected: &str) {
    world.send(client, packet);
    assert!(world.drain(client).is_empty(), "{expected} waits");
    world.commit();
    assert_eq!(kinds(world, client), [expected]);
}

#[test]
fn answers_that_promise_something_stored_wait_for_the_commit() {
    // [MQTT-4.3.2-4] [MQTT-4.3.3-8]
    let (mut world, client, publisher) = stalled_store(|_| {});
    check_waits(&mut world, publisher, at("t", qos1(1)), "PUBACK");
    check_waits(&mut world, publisher, at("t", qos2(2)), "PUBREC");
    world.drain(client);
    check_waits(&mut world, client, at("nobody", qos2(3)), "PUBREC");
    check_waits(&mut world, client, pub_rel(id(3)), "PUBCOMP");
    check_waits(&mut world, client, subscribe("u"), "SUBACK");
    check_waits(&mut world, client, unsubscribe("u"), "UNSUBACK");
}

#[test]
fn a_durable_sessions_connack_waits_for_the_commit_that_makes_it() {
    // [MQTT-3.2.0-1]
    let mut world = World::new();
    world.commits = false;
    let client = world.open(ProtocolVersion::V5);
    let connect = Connect {
        session_expiry_seconds: 60,
        ..v5("c")
    };
    let packets = vec![
        Packet::Connect(Box::new(connect)),
        Packet::PingReq,
        subscribe("t"),
        at("t", paloma_codec::Delivery::AtMostOnce),
    ];
    world.send_all(client, packets);
    assert!(world.drain(client).is_empty(), "nothing precedes CONNACK");
    world.commit();
    assert_eq!(
        kinds(&mut world, client),
        ["CONNACK", "SUBACK", "PINGRESP", "PUBLISH"]
    );
}

#[test]
fn a_clean_start_that_wipes_a_stored_session_waits_for_the_commit() {
    let (mut world, client, _) = stalled_store(|_| {});
    world.cut(client);
    world.commit();
    let client = world.open(ProtocolVersion::V5);
    world.send(client, Packet::Connect(Box::new(v5("c"))));
    assert!(world.drain(client).is_empty());
    world.commit();
    assert_eq!(kinds(&mut world, client), ["CONNACK"]);
}

#[test]
fn pings_and_messages_wait_for_nothing() {
    let (mut world, client, publisher) = stalled_store(|_| {});
    world.send(client, subscribe("u"));
    world.send(client, Packet::PingReq);
    world.publish_qos(publisher, "t", "x", qos1(1));
    assert_eq!(kinds(&mut world, client), ["PINGRESP", "PUBLISH"]);
    world.commit();
    assert_eq!(kinds(&mut world, client), ["SUBACK"]);
}

#[test]
fn answers_that_promise_nothing_leave_at_once_but_never_overtake() {
    // [MQTT-4.6.0-2]
    let (mut world, _, publisher) = stalled_store(|_| {});
    world.send(publisher, at("nobody", qos1(1)));
    world.send(publisher, at("nobody", qos2(2)));
    assert_eq!(kinds(&mut world, publisher), ["PUBACK", "PUBREC"]);
    world.send(publisher, at("t", qos1(3)));
    world.send(publisher, at("nobody", qos1(4)));
    assert!(world.drain(publisher).is_empty());
    world.commit();
    let packets = world.drain(publisher);
    let [Packet::PubAck(first), Packet::PubAck(second)] = packets.as_slice() else {
        panic!("{packets:?}")
    };
    assert_eq!((first.id, second.id), (id(3), id(4)));
}

#[test]
fn a_release_waits_until_it_is_stored_that_the_message_was_received() {
    // [MQTT-4.3.3-4]
    let (mut world, client, publisher) = stalled_store(|_| {});
    world.send(publisher, at("t", qos2(1)));
    world.commit();
    let publish = world.publishes(client).remove(0);
    check_waits(
        &mut world,
        client,
        pub_rec(publish.delivery.id().unwrap()),
        "PUBREL",
    );
}

#[test]
fn each_answer_leaves_with_its_own_commit() {
    let (mut world, _, publisher) = stalled_store(|_| {});
    world.send(publisher, at("t", qos1(1)));
    let first = world.uncommitted.len();
    world.send(publisher, at("t", qos1(2)));
    assert!(world.uncommitted.len() > first);
    let rest = world.uncommitted.split_off(first);
    world.commit();
    assert_eq!(kinds(&mut world, publisher), ["PUBACK"]);
    world.uncommitted = rest;
    world.commit();
    assert_eq!(kinds(&mut world, publisher), ["PUBACK"]);
}

#[test]
fn publishers_are_not_read_while_too_much_waits_for_the_store() {
    let (mut world, client, publisher) =
        stalled_store(|config| config.limits.uncommitted_bytes_max = 1_000);
    for n in 1..=20 {
        world.send(publisher, at("t", qos1(n)));
    }
    let taken = world.broker.accounting().published;
    assert!((1..20).contains(&taken), "{taken}");
    assert!(!world.broker.may_read(world.connection(publisher)));
    // Each commit lets some more in.
    while world.broker.accounting().published < 20 {
        let before = world.broker.accounting().published;
        world.commit();
        assert!(world.broker.accounting().published > before);
    }
    world.commit();
    assert_eq!(world.drain(publisher).len(), 20);
    assert_eq!(world.publishes(client).len(), 20);
}

#[test]
fn a_client_that_is_not_read_is_not_silent() {
    // [MQTT-3.1.2-22] [MQTT311-3.1.2-24]
    for version in [ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
        let (mut world, _, _) = stalled_store(|config| config.limits.uncommitted_bytes_max = 1_000);
        let (publisher, _) = world.connect(Connect {
            version,
            keep_alive_seconds: 10,
            ..v5("steady")
        });
        for n in 1..=20 {
            world.send(publisher, at("t", qos1(n)));
        }
        assert!(!world.broker.may_read(world.connection(publisher)));
        for _ in 0..6 {
            world.advance(10);
            world.send(publisher, Packet::PingReq);
        }
        assert_eq!(world.closed(publisher), None);
        // The store has caught up, and everything that waited in the socket is read.
        world.commits = true;
        world.commit();
        assert!(kinds(&mut world, publisher).contains(&"PINGRESP"));
        world.advance(14);
        assert_eq!(world.closed(publisher), None);
        world.advance(1);
        assert_eq!(world.closed(publisher), Some(CloseCause::KeepAliveTimeout));
    }
}

#[test]
fn a_retained_message_is_stored_before_it_is_acknowledged() {
    let (mut world, _, publisher) = stalled_store(|_| {});
    let retained = |payload: &str, n| {
        publish_packet(Publish {
            delivery: qos1(n),
            retain: true,
            ..message("nobody", payload)
        })
    };
    check_waits(&mut world, publisher, retained("x", 1), "PUBACK");
    check_waits(&mut world, publisher, retained("", 2), "PUBACK");
    // There is nothing to forget.
    world.send(publisher, retained("", 3));
    assert_eq!(kinds(&mut world, publisher), ["PUBACK"]);
}

#[test]
fn a_client_that_leaves_while_its_answers_wait_is_no_trouble() {
    let (mut world, client, publisher) = stalled_store(|_| {});
    world.send(publisher, at("t", qos1(1)));
    world.cut(publisher);
    world.cut(client);
    world.commit();
    let (client, _) = {
        world.commits = true;
        world.durable("c")
    };
    assert_eq!(world.publishes(client).len(), 1);
}
