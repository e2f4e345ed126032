//! A broker that was killed, or stopped, and started again: what is there, and what has happened meanwhile.

mod support;

use std::sync::Arc;
use std::time::Duration;

use paloma_broker::store::{
    Committed, LoadRequest, Loaded, Loss, MessageId, QueueSummary, Recovered, SessionId,
};
use paloma_broker::{Action, Broker, BrokerConfig, DropCause, Store, StoreBatch, StoreError};
use paloma_codec::{
    ConnAckReason, Connect, DisconnectReason, PacketId, Publish, PublishProperties, Qos,
    SubAckReason, SubscribeOptions, SubscriptionId, Will,
};
use paloma_session::Wall;
use support::{
    Handle, Rules, World, id, message, pub_comp, pub_rel, publish_packet, qos1, qos2, texts, v3,
    v5, will,
};

const YEARS: u64 = 40 * 366 * 24 * 3_600 * 1_000;

/// A world in which `c` has subscribed to `t` at QoS 2 and left, and a publisher.
fn absent(change: impl FnOnce(&mut BrokerConfig)) -> (World, Handle) {
    let mut world = World::with(change);
    let (client, _) = world.durable("c");
    world.subscribe(client, "t", Qos::ExactlyOnce);
    world.cut(client);
    let publisher = world.client("p");
    (world, publisher)
}

fn resume(world: &mut World) -> Handle {
    let (client, ack) = world.durable("c");
    assert!(ack.session_present);
    client
}

#[test]
fn sessions_and_subscriptions_are_there_with_all_their_options() {
    let mut world = World::new();
    let (client, _) = world.durable("c");
    let options = SubscribeOptions {
        retain_as_published: true,
        no_local: true,
        ..SubscribeOptions::new(Qos::AtLeastOnce)
    };
    let identifier = SubscriptionId::new(77).unwrap();
    let reasons = world.subscribe_with(client, "a/+", options, |subscribe| {
        subscribe.subscription_id = Some(identifier);
    });
    assert_eq!(reasons, [SubAckReason::GrantedQos1]);
    world.subscribe(client, "gone", Qos::AtLeastOnce);
    world.unsubscribe(client, "gone");
    let recovery = world.crash();
    assert_eq!((recovery.sessions, recovery.subscriptions), (1, 1));
    let client = resume(&mut world);
    let publisher = world.client("p");
    for (topic, retain) in [("a/b", true), ("a/c", false), ("gone", false)] {
        let publish = Publish {
            retain,
            delivery: qos2(1),
            ..message(topic, "x")
        };
        world.send(publisher, publish_packet(publish));
        world.send(publisher, pub_rel(id(1)));
    }
    world.send(client, publish_packet(message("a/own", "not for me")));
    let got = world.publishes(client);
    assert_eq!(got.len(), 2);
    for (publish, retain) in got.iter().zip([true, false]) {
        assert_eq!(publish.retain, retain);
        assert_eq!(publish.delivery.qos(), Qos::AtLeastOnce);
        assert_eq!(publish.properties.subscription_ids, [identifier]);
    }
}

#[test]
fn a_session_that_ends_with_its_connection_is_not_there() {
    let mut world = World::new();
    let client = world.client("c");
    world.subscribe(client, "t", Qos::AtLeastOnce);
    let (clean, _) = world.connect(v3("old", true));
    world.subscribe(clean, "t", Qos::AtLeastOnce);
    assert_eq!(world.crash().sessions, 0);
    assert!(!world.durable("c").1.session_present);
}

#[test]
fn a_queue_waits_in_the_store_and_comes_in_its_order() {
    for in_memory_max in [4, 1_000] {
        let (mut world, publisher) = absent(|config| {
            config.limits.queue_memory_messages_max = in_memory_max;
            config.limits.inflight_max = 3;
        });
        for n in 0..50 {
            world.publish_qos(publisher, "t", &n.to_string(), qos1(1));
        }
        let recovery = world.crash();
        assert_eq!((recovery.queued, recovery.in_flight), (50, 0));
        assert_eq!(world.broker.queued(), 50);
        // New messages come behind the old ones.
        let publisher = world.client("p");
        world.publish_qos(publisher, "t", "last", qos1(1));
        let client = resume(&mut world);
        let got = texts(&world.take_all(client));
        let expected: Vec<_> = (0..50)
            .map(|n| n.to_string())
            .chain(["last".into()])
            .collect();
        assert_eq!(got, expected);
        assert_eq!(world.store.message_count(), 0);
        assert_eq!(world.broker.queued(), 0);
    }
}

#[test]
fn a_message_for_many_keeps_its_numbers_and_identifiers_on_the_way_through_the_store() {
    let mut world = World::new();
    let (client, _) = world.durable("c");
    for (filter, number) in [("t", 5), ("+", 6)] {
        let options = SubscribeOptions::new(Qos::AtLeastOnce);
        world.subscribe_with(client, filter, options, |subscribe| {
            subscribe.subscription_id = SubscriptionId::new(number);
        });
    }
    world.cut(client);
    let publisher = world.client("p");
    world.publish_qos(publisher, "t", "x", qos1(1));
    world.crash();
    let client = resume(&mut world);
    let got = world.publishes(client);
    let ids: Vec<_> = got[0]
        .properties
        .subscription_ids
        .iter()
        .map(|id| id.get())
        .collect();
    assert_eq!(ids, [5, 6]);
    // Sent, not acknowledged, and killed again: the same with the same identifiers.
    world.cut(client);
    world.crash();
    let client = resume(&mut world);
    let again = world.publishes(client);
    assert_eq!(again[0].delivery.id(), got[0].delivery.id());
    assert_eq!(
        again[0].properties.subscription_ids,
        got[0].properties.subscription_ids
    );
}

#[test]
fn what_a_client_has_not_acknowledged_comes_again_under_its_id() {
    // [MQTT-4.4.0-1] [MQTT-3.3.1-1]
    let (mut world, publisher) = absent(|_| {});
    let client = resume(&mut world);
    world.publish_qos(publisher, "t", "one", qos1(1));
    world.publish_qos(publisher, "t", "two", qos2(2));
    let before = world.publishes(client);
    assert_eq!(before.len(), 2);
    world.cut(client);
    let recovery = world.crash();
    assert_eq!(recovery.in_flight, 2);
    let client = resume(&mut world);
    let after = world.publishes(client);
    assert_eq!(texts(&after), ["one", "two"]);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(after.delivery.id(), before.delivery.id());
        assert!(after.delivery.is_dup());
    }
}

#[test]
fn what_may_have_been_sent_at_qos_1_before_a_kill_comes_again_with_dup() {
    // [MQTT-3.3.1-1]
    let (mut world, publisher) = absent(|config| config.limits.inflight_max = 2);
    let client = resume(&mut world);
    for text in ["sent", "sent too", "waiting"] {
        world.publish_qos(publisher, "t", text, qos1(1));
    }
    assert_eq!(texts(&world.publishes(client)), ["sent", "sent too"]);
    // Killed again before the client is back, and once more while it is.
    world.crash();
    world.crash();
    for _ in 0..2 {
        let client = resume(&mut world);
        let again = world.publishes(client);
        assert_eq!(texts(&again), ["sent", "sent too"]);
        assert!(again.iter().all(|publish| publish.delivery.is_dup()));
        world.crash();
    }
    let publisher = world.client("p");
    world.publish_qos(publisher, "t", "new", qos1(1));
    let client = resume(&mut world);
    let got = world.take_all(client);
    assert_eq!(texts(&got), ["sent", "sent too", "waiting", "new"]);
    let dups: Vec<_> = got
        .iter()
        .map(|publish| publish.delivery.is_dup())
        .collect();
    assert_eq!(dups, [true, true, true, false]);
}

#[test]
fn what_waits_for_an_absent_client_is_sent_for_the_first_time_after_a_restart() {
    // [MQTT-3.3.1-1]
    let (mut world, publisher) = absent(|_| {});
    world.publish_qos(publisher, "t", "one", qos1(1));
    world.publish_qos(publisher, "t", "two", qos2(2));
    world.crash();
    let client = resume(&mut world);
    let got = world.take_all(client);
    assert_eq!(texts(&got), ["one", "two"]);
    assert!(got.iter().all(|publish| !publish.delivery.is_dup()));
}

#[test]
fn an_owed_release_is_owed_after_a_restart_and_the_message_is_not_sent_again() {
    // [MQTT-4.3.3-4]
    let (mut world, publisher) = absent(|_| {});
    let client = resume(&mut world);
    world.publish_qos(publisher, "t", "x", qos2(1));
    let publish = world.publishes(client).remove(0);
    world.acknowledge(client, &publish);
    assert_eq!(world.crash().in_flight, 1);
    let client = resume(&mut world);
    let packets = world.drain(client);
    let [paloma_codec::Packet::PubRel(release)] = packets.as_slice() else {
        panic!("{packets:?}")
    };
    assert_eq!(Some(release.id), publish.delivery.id());
    world.send(client, pub_comp(release.id));
    assert_eq!(world.broker.queued(), 0);
    assert_eq!(world.crash().in_flight, 0);
    assert_eq!(world.store.message_count(), 0);
}

#[test]
fn numbers_are_never_given_twice() {
    let (mut world, publisher) = absent(|_| {});
    world.publish_qos(publisher, "t", "first", qos1(1));
    // Its session and its message are gone when the broker is killed, and so are their records.
    let (other, _) = world.durable("other");
    world.subscribe(other, "u", Qos::AtLeastOnce);
    world.publish_qos(publisher, "u", "x", qos1(1));
    world.take_all(other);
    world.connect(v5("other"));
    world.crash();
    let publisher = world.client("p");
    world.publish_qos(publisher, "t", "second", qos1(1));
    world.crash();
    let client = resume(&mut world);
    assert_eq!(texts(&world.take_all(client)), ["first", "second"]);
}

#[test]
fn retained_messages_are_there_with_their_qos_and_without_those_deleted() {
    let mut world = World::new();
    let publisher = world.client("p");
    for (topic, payload) in [
        ("a", "old"),
        ("a", "new"),
        ("b", "x"),
        ("b", ""),
        ("c", "y"),
    ] {
        let publish = Publish {
            retain: true,
            delivery: qos1(1),
            ..message(topic, payload)
        };
        world.send(publisher, publish_packet(publish));
    }
    assert_eq!(world.crash().retained, 2);
    let client = world.client("c");
    world.subscribe(client, "#", Qos::ExactlyOnce);
    let got = world.publishes(client);
    assert_eq!(texts(&got), ["new", "y"]);
    assert!(got.iter().all(|publish| publish.retain));
    assert!(
        got.iter()
            .all(|publish| publish.delivery.qos() == Qos::AtLeastOnce)
    );
}

#[test]
fn retained_messages_on_their_way_at_qos_2_come_again_each_under_its_id() {
    // [MQTT-4.4.0-1]
    let mut world = World::new();
    let publisher = world.client("p");
    for (n, topic) in (1..).zip(["a", "b", "c"]) {
        let publish = Publish {
            retain: true,
            delivery: qos2(n),
            ..message(topic, topic)
        };
        world.send(publisher, publish_packet(publish));
        world.send(publisher, pub_rel(id(n)));
    }
    let (client, _) = world.durable("c");
    world.subscribe(client, "live", Qos::ExactlyOnce);
    // Its number comes right before those of the copies that are made for the client.
    world.publish_qos(publisher, "live", "live", qos2(9));
    world.subscribe(client, "+", Qos::ExactlyOnce);
    let mut sent: Vec<_> = pairs(&world.publishes(client));
    world.crash();
    let client = resume(&mut world);
    let taken = world.take_all(client);
    let mut again = pairs(&taken);
    sent.sort();
    again.sort();
    let payloads: Vec<_> = again.iter().map(|(payload, _)| payload).collect();
    assert_eq!(payloads, ["a", "b", "c", "live"]);
    assert_eq!(again, sent);
    assert_eq!(world.broker.queued(), 0);
}

/// What came, and under which id.
fn pairs(publishes: &[Publish]) -> Vec<(String, Option<PacketId>)> {
    let ids = publishes.iter().map(|publish| publish.delivery.id());
    texts(publishes).into_iter().zip(ids).collect()
}

#[test]
fn a_message_for_a_group_is_handed_on_after_a_restart_too() {
    // [MQTT-4.8.2-4]
    for in_memory_max in [2, 1_000] {
        let mut world = World::with(|config| {
            config.limits.queue_memory_messages_max = in_memory_max;
        });
        let (client, _) = world.durable("c");
        world.subscribe(client, "$share/g/t", Qos::AtLeastOnce);
        world.cut(client);
        let publisher = world.client("p");
        for n in 0..20 {
            world.publish_qos(publisher, "t", &n.to_string(), qos1(1));
        }
        world.crash();
        let (heir, _) = world.durable("heir");
        world.subscribe(heir, "$share/g/t", Qos::AtLeastOnce);
        // The first member never comes back for what it was given.
        let leaver = resume(&mut world);
        let had = world.drain(leaver).len();
        assert!(had > 0);
        world.disconnect_for_good(leaver);
        let got = texts(&world.take_all(heir));
        assert_eq!(got, (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
        assert_eq!((world.broker.queued(), world.store.message_count()), (0, 0));
    }
}

#[test]
fn a_spilled_queue_of_a_group_is_handed_on_even_if_the_broker_dies_meanwhile() {
    let mut world = World::with(|config| config.limits.queue_memory_messages_max = 2);
    let (client, _) = world.durable("c");
    world.subscribe(client, "$share/g/t", Qos::AtLeastOnce);
    world.cut(client);
    let (heir, _) = world.durable("heir");
    let publisher = world.client("p");
    for n in 0..300 {
        world.publish_qos(publisher, "t", &n.to_string(), qos1(1));
    }
    world.subscribe(heir, "$share/g/t", Qos::AtLeastOnce);
    // The session ends; nothing that was in the store only has been read when the broker dies.
    world.loads_at_once = false;
    world.connect(v5("c"));
    world.loads_at_once = true;
    world.crash();
    assert!(!world.durable("c").1.session_present);
    let (heir, ack) = world.durable("heir");
    assert!(ack.session_present);
    let mut got = texts(&world.take_all(heir));
    got.sort_by_key(|text| text.parse::<u32>().unwrap());
    assert_eq!(got, (0..300).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!((world.broker.queued(), world.store.message_count()), (0, 0));
    assert_eq!(world.crash().sessions, 2);
}

// ---- time ------------------------------------------------------------------------------------------------------

#[test]
fn a_session_expires_while_the_broker_is_down() {
    let (mut world, publisher) = absent(|_| {});
    world.publish_qos(publisher, "t", "x", qos1(1));
    world.advance(1_800);
    world.crash_for(Duration::from_secs(1_799));
    assert_eq!(world.broker.tables().sessions, 1);
    world.crash_for(Duration::from_secs(2));
    assert_eq!(world.broker.tables().sessions, 0);
    assert_eq!(world.dropped(DropCause::SessionEnded), 1);
    assert_eq!(world.store.message_count(), 0);
    assert_eq!(world.crash().sessions, 0);
}

#[test]
fn a_session_that_was_connected_when_the_broker_died_lives_on_from_its_start() {
    let mut world = World::new();
    world.durable("c");
    world.advance(5_000);
    world.crash_for(Duration::from_secs(1_000_000));
    world.advance(3_500);
    // What was left is known to the next start as well.
    world.crash();
    world.advance(90);
    assert_eq!(world.broker.tables().sessions, 1);
    world.advance(20);
    assert_eq!(world.broker.tables().sessions, 0);
}

#[test]
fn a_clock_that_jumps_over_a_restart_expires_nothing_and_keeps_nothing_for_ever() {
    for wall in [
        Wall::from_millis(1_000),
        Wall::from_millis(1_700_000_000_000 + YEARS),
    ] {
        let (mut world, publisher) = absent(|_| {});
        let mortal = Publish {
            properties: PublishProperties {
                message_expiry_seconds: Some(600),
                ..PublishProperties::default()
            },
            retain: true,
            delivery: qos1(1),
            ..message("t", "mortal")
        };
        world.send(publisher, publish_packet(mortal));
        world.now.wall = wall;
        world.crash();
        let tables = world.broker.tables();
        assert_eq!(
            (tables.sessions, tables.retained),
            (1, 1),
            "nothing has expired"
        );
        world.advance(300);
        let client = resume(&mut world);
        let got = world.publishes(client);
        assert_eq!(got[0].properties.message_expiry_seconds, Some(300));
        world.cut(client);
        world.advance(301);
        assert_eq!(
            world.broker.tables().retained,
            0,
            "it has lived for ten minutes"
        );
        world.advance(3_300);
        assert_eq!(
            world.broker.tables().sessions,
            0,
            "and the session for an hour"
        );
    }
}

fn with_will(delay_seconds: u32) -> Connect {
    Connect {
        clean_start: false,
        session_expiry_seconds: 3_600,
        will: Some(Will {
            delay_seconds,
            qos: Qos::AtLeastOnce,
            ..will("t", "will")
        }),
        ..v5("w")
    }
}

/// What `c`, which has subscribed to `t`, has got by now.
fn wills(world: &mut World) -> Vec<String> {
    let client = resume(world);
    let got = world.take_all(client);
    world.cut(client);
    texts(&got)
}

#[test]
fn a_will_is_sent_when_the_broker_that_died_with_its_client_starts() {
    let (mut world, _) = absent(|_| {});
    world.connect(with_will(0));
    world.crash();
    assert_eq!(wills(&mut world), ["will"]);
    world.crash();
    assert_eq!(wills(&mut world), [""; 0], "once");
}

#[test]
fn a_will_that_waits_for_its_delay_is_sent_after_it_and_not_if_the_client_is_back() {
    for is_back in [false, true] {
        let (mut world, _) = absent(|_| {});
        let (client, _) = world.connect(with_will(100));
        world.cut(client);
        world.advance(40);
        world.crash_for(Duration::from_secs(40));
        world.advance(15);
        assert_eq!(wills(&mut world), [""; 0]);
        if is_back {
            world.connect(Connect {
                will: None,
                ..with_will(0)
            });
            world.crash();
        }
        world.advance(6);
        assert_eq!(wills(&mut world).len(), usize::from(!is_back));
        world.crash();
        world.advance(200);
        assert_eq!(wills(&mut world), [""; 0]);
    }
}

#[test]
fn a_will_that_came_due_while_the_broker_was_down_is_sent_at_its_start() {
    let (mut world, _) = absent(|_| {});
    let (client, _) = world.connect(with_will(100));
    world.cut(client);
    world.crash_for(Duration::from_secs(101));
    assert_eq!(wills(&mut world), ["will"]);
}

#[test]
fn a_will_that_was_discarded_is_not_sent() {
    let (mut world, _) = absent(|_| {});
    let (client, _) = world.connect(with_will(0));
    world.disconnect(client, DisconnectReason::NormalDisconnection);
    world.crash();
    assert_eq!(wills(&mut world), [""; 0]);
}

#[test]
fn nothing_is_lost_without_being_said() {
    let mut world = World::new();
    world.durable("c");
    assert_eq!(world.crash().lost, Vec::<Loss>::new());
}

/// Gives back what belongs to sessions that are gone.
#[derive(Debug)]
struct Orphans;

impl Store for Orphans {
    fn recover(&mut self, each: &mut dyn FnMut(Recovered)) -> Result<(), StoreError> {
        for n in 1..=3 {
            each(Recovered::Received(SessionId(9), id(n)));
        }
        let queue = QueueSummary {
            count: 1,
            bytes: 1,
            first: MessageId(1),
            last: MessageId(1),
        };
        each(Recovered::Queue(SessionId(9), queue));
        Ok(())
    }

    fn commit(&mut self, _: &mut Vec<StoreBatch>) -> Result<Committed, StoreError> {
        Err(StoreError::Full)
    }

    fn read_queue(&mut self, _: &LoadRequest) -> Result<Loaded, StoreError> {
        Err(StoreError::Full)
    }
}

#[test]
fn what_belongs_to_nobody_is_counted_by_its_kind() {
    let world = World::new();
    let (_, recovery) = Broker::recover(world.config.clone(), world.now, &mut Orphans).unwrap();
    let lost: Vec<_> = recovery.lost.iter().map(|loss| loss.count).collect();
    assert_eq!(lost, [3, 1], "{:?}", recovery.lost);
}

// ---- rights ----------------------------------------------------------------------------------------------------

#[test]
fn a_session_still_belongs_to_its_user() {
    let mut world = World::new();
    let of = |user: &str| Connect {
        clean_start: false,
        session_expiry_seconds: 3_600,
        username: Some(user.to_owned().into()),
        ..v5("c")
    };
    world.connect(of("alice"));
    world.crash();
    let (_, ack) = world.connect(of("mallory"));
    assert_eq!(ack.reason, ConnAckReason::ClientIdentifierNotValid);
    assert!(world.connect(of("alice")).1.session_present);
}

#[test]
fn what_waits_for_a_client_with_rules_of_its_own_is_kept_and_judged_when_it_comes() {
    for is_allowed in [true, false] {
        // Everybody else may not read the topic.
        let everybody = Arc::new(Rules::default());
        everybody.deny("c", Action::Read, "t");
        let own = Arc::new(Rules::default());
        let mut world = World::with(|config| config.authorizer = everybody);
        world.own_rules.insert("c".to_owned(), own.clone());
        let (client, _) = world.durable("c");
        world.subscribe(client, "t", Qos::AtLeastOnce);
        world.crash();
        let publisher = world.client("p");
        world.publish_qos(publisher, "t", "x", qos1(1));
        assert_eq!(world.broker.queued(), 1);
        if !is_allowed {
            own.deny("c", Action::Read, "t");
        }
        let client = resume(&mut world);
        assert_eq!(world.take_all(client).len(), usize::from(is_allowed));
        let withheld = world.dropped(DropCause::NotAuthorized);
        assert_eq!(withheld, u64::from(!is_allowed));
        assert_eq!((world.broker.queued(), world.store.message_count()), (0, 0));
    }
}

#[test]
fn a_retained_message_is_withheld_after_a_restart_once_its_author_may_not_write_its_topic() {
    for is_allowed in [true, false] {
        let rules = Arc::new(Rules::default());
        let mut world = World::with(|config| config.authorizer = rules.clone());
        let author = world.client("author");
        world.retain(author, "t", "x");
        world.crash();
        if !is_allowed {
            rules.deny("author", Action::Write, "t");
        }
        let client = world.client("c");
        world.subscribe(client, "t", Qos::AtMostOnce);
        assert_eq!(world.publishes(client).len(), usize::from(is_allowed));
    }
}
