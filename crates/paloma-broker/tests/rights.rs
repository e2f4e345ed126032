//! Rights on the less travelled ways, and that no way leads past the rules.
#![expect(
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    clippy::unwrap_used,
    reason = "the whole file is a test: what should not happen may panic"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};

use paloma_broker::{Action, Authorizer, DropCause, Grant, Identity};
use paloma_codec::{
    ConnAckReason, Connect, Packet, Publish, Qos, ReceiveMaximum, Subscribe, SubscribeFilter,
    SubscribeOptions, Will,
};
use paloma_topic::{TopicFilterRef, TopicNameRef};
use proptest::prelude::*;
use support::{
    Handle, Rules, World, id, message, pub_comp, pub_rec, pub_rel, publish_packet, qos1, qos2,
    target, texts, v3, v5, will,
};

fn world() -> (World, Arc<Rules>) {
    let rules = Arc::new(Rules::default());
    let authorizer = Arc::clone(&rules);
    let world = World::with(|config| {
        config.authorizer = authorizer;
        config.limits.queue_memory_messages_max = 4;
    });
    (world, rules)
}

fn change(world: &mut World) {
    world.broker.handle_rules_changed(world.now);
    world.settle();
}

fn durable(client_id: &str) -> Connect {
    Connect {
        clean_start: false,
        session_expiry_seconds: 3_600,
        ..v5(client_id)
    }
}

#[test]
fn what_the_store_gives_back_is_asked_about() {
    // D4 I4
    let (mut world, rules) = world();
    let (reader, _) = world.durable("r");
    world.subscribe(reader, "a/#", Qos::AtLeastOnce);
    world.cut(reader);
    let writer = world.client("w");
    for n in 1..=20 {
        let topic = if n % 2 == 0 { "a/open" } else { "a/secret" };
        world.publish_qos(writer, topic, &n.to_string(), qos1(n));
    }
    rules.deny("r", Action::Read, "a/secret");
    change(&mut world);
    let (reader, _) = world.durable("r");
    let got = world.take_all(reader);
    assert_eq!(got.len(), 10);
    assert!(
        got.iter()
            .all(|publish| publish.topic.name().unwrap().as_str() == "a/open")
    );
    assert_eq!(world.dropped(DropCause::NotAuthorized), 10);
    assert_eq!((world.broker.queued(), world.store.message_count()), (0, 0));
}

#[test]
fn rules_that_change_hold_for_the_next_message_of_a_steady_publisher() {
    // D3 I4
    let (mut world, rules) = world();
    let (writer, reader, other) = (world.client("w"), world.client("r"), world.client("o"));
    for client in [reader, other] {
        world.subscribe(client, "a/b", Qos::AtMostOnce);
    }
    for payload in ["1", "2"] {
        world.publish(writer, "a/b", payload);
    }
    rules.deny("r", Action::Read, "a/b");
    world.publish(writer, "a/b", "3");
    change(&mut world);
    world.publish(writer, "a/b", "4");
    assert_eq!(world.payloads(reader), ["1", "2"]);
    assert_eq!(world.payloads(other), ["1", "2", "3", "4"]);
}

#[test]
fn rules_that_change_under_a_large_fan_out_hold_for_its_rest() {
    // D4 I4
    let (mut world, rules) = world();
    let readers: Vec<_> = (0..2_100)
        .map(|n| {
            let reader = world.client(&format!("r{n}"));
            world.subscribe(reader, "t", Qos::AtMostOnce);
            reader
        })
        .collect();
    let (away, _) = world.durable("away");
    world.subscribe(away, "t", Qos::AtMostOnce);
    world.cut(away);
    let writer = world.client("w");
    let writer = world.connection(writer);
    let mut bytes = Vec::new();
    publish_packet(message("t", "x"))
        .encode(paloma_codec::ProtocolVersion::V5, &mut bytes)
        .unwrap();
    let mut decoder = paloma_codec::Decoder::client(
        paloma_codec::ProtocolVersion::V5,
        paloma_codec::DecodeLimits::default(),
    );
    let (packet, _) = decoder.decode(&bytes).unwrap().unwrap();
    world.broker.handle_packet(world.now, writer, packet);
    // The job is made, and nothing of it handed out.
    rules.deny("r2099", Action::Read, "t");
    rules.deny("away", Action::Read, "t");
    change(&mut world);
    let got: Vec<_> = readers
        .into_iter()
        .map(|reader| world.payloads(reader).len())
        .collect();
    assert_eq!(got.iter().sum::<usize>(), 2_099);
    assert_eq!(got.last(), Some(&0));
    // Whoever is away misses it for the same reason.
    assert_eq!(world.dropped(DropCause::NotAuthorized), 2);
    assert_eq!(world.dropped(DropCause::Offline), 0);
}

#[test]
fn what_was_sent_under_old_rules_is_not_sent_again_however_often_the_queue_was_looked_through() {
    // D4 I4
    let (mut world, rules) = world();
    let (reader, _) = world.durable("r");
    world.subscribe(reader, "a/#", Qos::AtLeastOnce);
    let writer = world.client("w");
    world.publish_qos(writer, "a/secret", "x", qos1(1));
    assert_eq!(world.payloads(reader), ["x"]);
    rules.deny("r", Action::Read, "a/secret");
    change(&mut world);
    // The queue is looked through while the client is connected.
    world.publish_qos(writer, "a/open", "y", qos1(1));
    assert_eq!(world.payloads(reader), ["y"]);
    world.cut(reader);
    let (reader, _) = world.durable("r");
    assert_eq!(world.payloads(reader), ["y"]);
    assert_eq!(world.dropped(DropCause::NotAuthorized), 1);
}

#[test]
fn rules_that_change_while_deliveries_are_sent_again_hold_for_the_rest_of_them() {
    // D4 I4
    let (mut world, rules) = world();
    let (reader, _) = world.durable("r");
    world.subscribe(reader, "a/#", Qos::AtLeastOnce);
    let writer = world.client("w");
    world.publish_qos(writer, "a/open", "x", qos1(1));
    world.publish_qos(writer, "a/secret", "y", qos1(1));
    assert_eq!(world.payloads(reader), ["x", "y"]);
    world.cut(reader);
    let (reader, _) = world.connect(Connect {
        receive_maximum: ReceiveMaximum::new(1).unwrap(),
        ..durable("r")
    });
    let again = world.publishes(reader);
    assert_eq!(texts(&again), ["x"]);
    rules.deny("r", Action::Read, "a/secret");
    change(&mut world);
    world.acknowledge(reader, &again[0]);
    assert!(world.payloads(reader).is_empty());
    assert_eq!(world.dropped(DropCause::NotAuthorized), 1);
    assert_eq!((world.broker.queued(), world.store.message_count()), (0, 0));
}

#[test]
fn a_qos_2_message_that_may_not_be_sent_again_frees_its_id_on_both_sides() {
    // [MQTT-4.3.3-11] D4 I4
    let (mut world, rules) = world();
    let (reader, _) = world.durable("r");
    world.subscribe(reader, "a/#", Qos::ExactlyOnce);
    let writer = world.client("w");
    world.publish_qos(writer, "a/secret", "x", qos2(1));
    let packet = world.publishes(reader).remove(0).delivery.id().unwrap();
    world.cut(reader);
    rules.deny("r", Action::Read, "a/secret");
    change(&mut world);
    let (reader, _) = world.durable("r");
    let packets = world.drain(reader);
    assert!(
        matches!(packets.as_slice(), [Packet::PubRel(ack)] if ack.id == packet),
        "{packets:?}"
    );
    world.send(reader, pub_comp(packet));
    assert_eq!((world.broker.queued(), world.store.message_count()), (0, 0));
    assert_eq!(world.closed(reader), None);
}

#[test]
fn a_shared_message_that_its_member_may_not_have_goes_to_another() {
    // D4 I1
    let (mut world, rules) = world();
    let (one, _) = world.durable("one");
    world.subscribe(one, "$share/g/t", Qos::AtLeastOnce);
    world.cut(one);
    let writer = world.client("w");
    world.publish_qos(writer, "t", "x", qos1(1));
    let two = world.client("two");
    world.subscribe(two, "$share/g/t", Qos::AtLeastOnce);
    rules.deny("one", Action::Read, "t");
    change(&mut world);
    let (one, _) = world.durable("one");
    assert!(world.payloads(one).is_empty());
    assert_eq!(world.payloads(two), ["x"]);
    assert_eq!(world.dropped(DropCause::NotAuthorized), 0);
}

#[test]
fn retained_messages_under_way_follow_the_rules_of_a_newer_login() {
    // D2 D4: both sets of rules are of epoch 0.
    let (mut world, _) = world();
    let free: Arc<Rules> = Arc::default();
    world.own_rules.insert("r".to_owned(), free);
    let (reader, _) = world.durable("r");
    let writer = world.client("w");
    for n in 0..600 {
        world.retain(writer, &format!("a/{n:03}"), "x");
    }
    world.set_reading(reader, false);
    let filter = SubscribeFilter {
        target: target("a/#"),
        options: SubscribeOptions::new(Qos::AtMostOnce),
    };
    world.send(
        reader,
        Packet::Subscribe(Subscribe::new(id(1), vec![filter])),
    );
    let nobody = Arc::new(Counting::default());
    world.own_rules.insert("r".to_owned(), nobody);
    let (again, _) = world.durable("r");
    assert!(world.publishes(again).is_empty());
    assert!(world.publishes(reader).is_empty());
}

#[test]
fn each_filter_of_a_subscribe_is_judged_alone() {
    // D5
    for connect in [v5("r"), v3("r", true)] {
        let (mut world, rules) = world();
        rules.deny("r", Action::Read, "secret");
        let (reader, _) = world.connect(connect);
        let filters = ["a", "secret", "b/#"].map(|filter| SubscribeFilter {
            target: target(filter),
            options: SubscribeOptions::new(Qos::AtMostOnce),
        });
        let subscribe = Subscribe::new(id(1), filters.to_vec());
        world.send(reader, Packet::Subscribe(subscribe));
        let Some(Packet::SubAck(ack)) = world.next(reader) else {
            panic!("SUBSCRIBE is answered");
        };
        let refused: Vec<_> = ack.reasons.iter().map(|reason| reason.is_error()).collect();
        assert_eq!(refused, [false, true, false]);
        assert_eq!(world.broker.tables().subscriptions, 2);
    }
}

#[test]
fn a_will_is_judged_at_connect_and_again_when_it_is_sent() {
    // D1 B14
    let (mut world, rules) = world();
    let reader = world.client("r");
    world.subscribe(reader, "w/#", Qos::AtMostOnce);
    rules.deny("c", Action::Write, "w/no");
    let with = |topic: &str| Connect {
        will: Some(Will {
            delay_seconds: 10,
            ..will(topic, "x")
        }),
        ..durable("c")
    };
    let (_, ack) = world.connect(with("w/no"));
    assert_eq!(ack.reason, ConnAckReason::NotAuthorized);
    assert_eq!(world.broker.tables().sessions, 1);
    let (client, ack) = world.connect(with("w/yes"));
    assert_eq!(ack.reason, ConnAckReason::Success);
    world.cut(client);
    rules.deny("c", Action::Write, "w/yes");
    change(&mut world);
    world.advance(11);
    assert!(world.payloads(reader).is_empty());
    assert_eq!(world.broker.accounting().refused, 1);
}

#[test]
fn a_retained_message_goes_with_its_authors_right() {
    // D2
    for (checks, expected) in [(true, 0), (false, 1)] {
        let rules: Arc<Rules> = Arc::default();
        let authorizer = Arc::clone(&rules);
        let mut world = World::with(|config| {
            config.authorizer = authorizer;
            config.behaviour.check_retain_source = checks;
        });
        let writer = world.client("w");
        world.retain(writer, "t", "x");
        rules.deny("w", Action::Write, "t");
        change(&mut world);
        let reader = world.client("r");
        world.subscribe(reader, "t", Qos::AtMostOnce);
        assert_eq!(world.payloads(reader).len(), expected);
    }
}

#[test]
fn nobody_writes_under_a_dollar_whatever_the_rules_say() {
    // D7
    for connect in [v5("c"), v3("c", true)] {
        for topic in ["$SYS/broker", "$CONTROL/x", "$share/g/t", "$"] {
            let mut world = World::new();
            let (reader, _) = world.connect(v5("r"));
            for filter in ["#", "$SYS/#", "$CONTROL/#", "$/#"] {
                world.subscribe(reader, filter, Qos::AtMostOnce);
            }
            let (client, _) = world.connect(connect.clone());
            world.publish(client, topic, "x");
            world.retain(client, topic, "x");
            let with_will = Connect {
                will: Some(will(topic, "x")),
                client_id: "d".into(),
                ..connect.clone()
            };
            let (_, ack) = world.connect(with_will);
            assert_eq!(ack.reason, ConnAckReason::NotAuthorized);
            assert!(world.publishes(reader).is_empty());
            assert_eq!(world.broker.tables().retained, 0);
            assert_eq!(world.broker.accounting().refused, 2);
        }
    }
}

#[test]
fn a_stranger_with_the_same_client_id_is_refused_before_anything_changes() {
    // D11: whichever clean flag, between names and namelessness both ways.
    let as_user = |user: Option<&str>, connect: Connect| Connect {
        username: user.map(Into::into),
        ..connect
    };
    let users = [Some("ann"), Some("bob"), None];
    for (owner, stranger) in users
        .into_iter()
        .flat_map(|owner| users.map(|stranger| (owner, stranger)))
        .filter(|(owner, stranger)| owner != stranger)
    {
        for stranger_connect in [durable("c"), v5("c"), v3("c", true), v3("c", false)] {
            let mut world = World::new();
            let (client, _) = world.connect(as_user(owner, durable("c")));
            world.subscribe(client, "t", Qos::AtLeastOnce);
            let (_, ack) = world.connect(as_user(stranger, stranger_connect));
            assert_eq!(ack.reason, ConnAckReason::ClientIdentifierNotValid);
            assert_eq!(world.closed(client), None);
            let writer = world.client("w");
            world.publish(writer, "t", "x");
            assert_eq!(world.payloads(client), ["x"]);
        }
    }
}

/// Says no to everything, grants every filter for checking, and counts what it was asked.
#[derive(Debug, Default)]
struct Counting {
    asked: AtomicU64,
    allows_writing: AtomicBool,
}

impl Authorizer for Counting {
    fn is_allowed(&self, _: &Identity, _: &str, action: Action, _: TopicNameRef<'_>) -> bool {
        self.asked.fetch_add(1, Ordering::Relaxed);
        action == Action::Write && self.allows_writing.load(Ordering::Relaxed)
    }

    fn grant(&self, _: &Identity, _: &str, _: TopicFilterRef<'_>) -> Grant {
        Grant::CheckEach
    }
}

/// Allows or forbids every filter as a whole, and counts the messages that it is asked about all the same.
#[derive(Debug, Default)]
struct Sweeping {
    forbids: AtomicBool,
    epoch: AtomicU16,
    asked: AtomicU64,
}

impl Sweeping {
    fn decide(&self, forbids: bool) {
        self.forbids.store(forbids, Ordering::Relaxed);
        self.epoch.fetch_add(1, Ordering::Relaxed);
    }
}

impl Authorizer for Sweeping {
    fn is_allowed(&self, _: &Identity, _: &str, action: Action, _: TopicNameRef<'_>) -> bool {
        let is_read = action == Action::Read;
        self.asked.fetch_add(u64::from(is_read), Ordering::Relaxed);
        !is_read || !self.forbids.load(Ordering::Relaxed)
    }

    fn grant(&self, _: &Identity, _: &str, _: TopicFilterRef<'_>) -> Grant {
        if self.forbids.load(Ordering::Relaxed) {
            Grant::Denied
        } else {
            Grant::AllAllowed
        }
    }

    fn epoch(&self) -> u16 {
        self.epoch.load(Ordering::Relaxed)
    }
}

#[test]
fn a_filter_that_is_decided_about_as_a_whole_is_not_asked_about_again() {
    let rules = Arc::new(Sweeping::default());
    let authorizer = Arc::clone(&rules);
    let mut world = World::with(|config| config.authorizer = authorizer);
    let (writer, reader) = (world.client("w"), world.client("r"));
    world.subscribe(reader, "a/+", Qos::AtMostOnce);
    let mut topics = 0..;
    let mut check = |expected: &[&str]| {
        // Of a topic that comes again it is known who gets it.
        for (payload, topic) in ["1", "2", "3"].into_iter().zip(&mut topics) {
            world.publish(writer, &format!("a/{topic}"), payload);
        }
        assert_eq!(world.payloads(reader), expected);
        change(&mut world);
    };
    check(&["1", "2", "3"]);
    for (forbids, expected) in [
        (false, &["1", "2", "3"][..]),
        (true, &[]),
        (false, &["1", "2", "3"]),
    ] {
        rules.decide(forbids);
        // The new rules hold at once, and messages are asked about until the filters are granted anew.
        check(expected);
        let before = rules.asked.load(Ordering::Relaxed);
        check(expected);
        assert_eq!(rules.asked.load(Ordering::Relaxed), before);
    }
}

#[test]
fn who_gets_a_topic_is_asked_once_while_its_publisher_names_it_again_and_again() {
    let rules = Arc::new(Counting::default());
    rules.allows_writing.store(true, Ordering::Relaxed);
    let authorizer = Arc::clone(&rules);
    let mut world = World::with(|config| config.authorizer = authorizer);
    let (writer, reader) = (world.client("w"), world.client("r"));
    world.subscribe(reader, "a/+", Qos::AtMostOnce);
    let before = rules.asked.load(Ordering::Relaxed);
    for _ in 0..10 {
        world.publish(writer, "a/b", "x");
    }
    // About writing each time.
    let asked = rules.asked.load(Ordering::Relaxed) - before;
    assert!(asked <= 11, "{asked}");
}

/// What clients do; the numbers choose client, topic and the like.
#[derive(Clone, Debug)]
enum Step {
    Connect {
        client: u8,
        clean: bool,
        will: bool,
    },
    Cut(u8),
    Subscribe {
        client: u8,
        filter: u8,
        qos: u8,
    },
    Publish {
        client: u8,
        topic: u8,
        qos: u8,
        retain: bool,
    },
    Answer(u8),
    Advance,
    Reload,
}

const TOPICS: [&str; 4] = ["a/b", "a/c", "d", "$SYS/x"];
const FILTERS: [&str; 6] = ["#", "a/+", "a/b", "$share/g/a/#", "$SYS/#", "+"];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..3_u8, any::<bool>(), any::<bool>()).prop_map(|(client, clean, will)| Step::Connect {
            client,
            clean,
            will
        }),
        (0..3_u8).prop_map(Step::Cut),
        (0..3_u8, 0..6_u8, 0..3_u8).prop_map(|(client, filter, qos)| Step::Subscribe {
            client,
            filter,
            qos
        }),
        (0..3_u8, 0..4_u8, 0..3_u8, any::<bool>()).prop_map(|(client, topic, qos, retain)| {
            Step::Publish {
                client,
                topic,
                qos,
                retain,
            }
        }),
        (0..3_u8).prop_map(Step::Answer),
        Just(Step::Advance),
        Just(Step::Reload),
    ]
}

fn connect_of(client: u8, clean: bool, has_will: bool) -> Connect {
    let client_id = format!("c{client}");
    let connect = if client == 0 {
        v3(&client_id, clean)
    } else {
        Connect {
            clean_start: clean,
            ..durable(&client_id)
        }
    };
    Connect {
        will: has_will.then(|| Will {
            retain: clean,
            qos: Qos::AtLeastOnce,
            ..will("a/b", "will")
        }),
        ..connect
    }
}

/// Plays the script; gives how many messages anybody got.
fn play(steps: &[Step], rules: Arc<dyn Authorizer>) -> usize {
    let mut world = World::with(|config| {
        config.authorizer = rules;
        config.limits.queue_memory_messages_max = 2;
    });
    let mut clients = [None::<Handle>; 3];
    let mut delivered = 0;
    for step in steps {
        let (Step::Connect { client, .. }
        | Step::Cut(client)
        | Step::Subscribe { client, .. }
        | Step::Publish { client, .. }
        | Step::Answer(client)) = step
        else {
            match step {
                Step::Advance => world.advance(30),
                _ => change(&mut world),
            }
            continue;
        };
        let place = &mut clients[usize::from(*client)];
        if let Step::Connect {
            client,
            clean,
            will,
        } = step
        {
            let (handle, ack) = world.connect(connect_of(*client, *clean, *will));
            *place = (ack.reason == ConnAckReason::Success).then_some(handle);
        }
        let Some(handle) = place.filter(|handle| world.closed(*handle).is_none()) else {
            continue;
        };
        match step {
            Step::Cut(_) => world.cut(handle),
            Step::Subscribe { filter, qos, .. } => {
                let filter = SubscribeFilter {
                    target: target(FILTERS[usize::from(*filter)]),
                    options: SubscribeOptions::new(Qos::from_bits(*qos).unwrap()),
                };
                let subscribe = Subscribe::new(id(60_000), vec![filter]);
                world.send(handle, Packet::Subscribe(subscribe));
            }
            Step::Publish {
                topic, qos, retain, ..
            } => {
                let delivery = match qos {
                    0 => paloma_codec::Delivery::AtMostOnce,
                    1 => qos1(5),
                    _ => qos2(6),
                };
                let publish = Publish {
                    retain: *retain,
                    delivery,
                    ..message(TOPICS[usize::from(*topic)], "x")
                };
                world.send(handle, publish_packet(publish));
                world.send(handle, pub_rel(id(6)));
            }
            Step::Answer(_) => {
                for packet in 1..4 {
                    world.send(handle, pub_rec(id(packet)));
                }
            }
            _ => {}
        }
        for handle in clients.into_iter().flatten() {
            delivered += world.publishes(handle).len();
        }
    }
    delivered
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// I4: whatever clients do, nothing reaches anybody whom the rules do not let read it, and with writing denied
    /// nothing is taken either.
    #[test]
    fn no_way_leads_past_the_rules(
        steps in prop::collection::vec(step(), 1..120),
        allows_writing: bool,
    ) {
        let rules = Arc::new(Counting::default());
        rules.allows_writing.store(allows_writing, Ordering::Relaxed);
        prop_assert_eq!(play(&steps, Arc::<Counting>::clone(&rules)), 0);
    }
}

#[test]
fn the_random_script_delivers_where_the_rules_allow_it() {
    let steps = [
        Step::Connect {
            client: 1,
            clean: true,
            will: false,
        },
        Step::Subscribe {
            client: 1,
            filter: 0,
            qos: 1,
        },
        Step::Publish {
            client: 1,
            topic: 0,
            qos: 1,
            retain: true,
        },
        Step::Connect {
            client: 2,
            clean: true,
            will: true,
        },
        Step::Subscribe {
            client: 2,
            filter: 1,
            qos: 2,
        },
        Step::Cut(2),
    ];
    assert!(play(&steps, Arc::new(paloma_broker::AllowAll)) >= 2);
}
