//! The memory account: what it says, and what happens above `memory_bytes_max`.

mod support;

use bytes::Bytes;
use paloma_broker::store::Space;
use paloma_broker::{
    AuthOutcome, Broker, BrokerConfig, CloseCause, ConnectionInfo, Effect, Identity, Reply,
};
use paloma_codec::{
    Authentication, ConnAckReason, Connect, Decoder, Packet, ProtocolVersion, PubAckReason,
    Publish, PublishTopic, Qos, Secret, SubAckReason, SubscribeOptions, TopicAlias, Unsubscribe,
};
use paloma_session::{Now, Transmit};
use paloma_topic::TopicName;
use support::{Handle, World, id, message, publish_packet, qos1, target, v3, v5, will};

const MIB: u64 = 1024 * 1024;

fn limited(memory_bytes_max: u64) -> World {
    World::with(|config| {
        config.limits.memory_bytes_max = memory_bytes_max;
        config.limits.queue_messages_max = 100_000;
        config.limits.queue_bytes_max = u32::MAX;
        config.limits.retained_bytes_max = u64::MAX;
    })
}

fn as_durable(connect: Connect) -> Connect {
    Connect {
        clean_start: false,
        session_expiry_seconds: 3_600,
        ..connect
    }
}

/// Durable sessions whose clients are away, each with the filter `t/<its number>`.
fn absent(world: &mut World, count: u32) {
    for n in 0..count {
        let (client, _) = world.connect(as_durable(v5(&format!("absent{n}"))));
        world.subscribe(client, &format!("t/{n}"), Qos::AtLeastOnce);
        world.cut(client);
    }
}

/// Publishes at QoS 1 and gives the answer's reason.
fn publish(world: &mut World, client: Handle, topic: &str, bytes: usize) -> PubAckReason {
    let publish = Publish {
        delivery: qos1(1),
        ..message(topic, &"x".repeat(bytes))
    };
    world.send(client, publish_packet(publish));
    match world.next(client) {
        Some(Packet::PubAck(ack)) => ack.reason,
        other => panic!("expected PUBACK, got {other:?}"),
    }
}

/// Publishes until that is refused, in steps as small as `bytes`.
fn fill(world: &mut World, client: Handle, bytes: usize) -> u32 {
    for n in 0..1_000_000 {
        if publish(world, client, "t/0", bytes).is_error() {
            return n;
        }
    }
    panic!("nothing is ever refused");
}

/// Moves on so that all that was given back is noticed.
fn settle_accounts(world: &mut World) {
    for _ in 0..3 {
        world.advance(11);
    }
}

#[test]
fn above_the_limit_publishes_are_refused_until_memory_is_given_back() {
    // At the limit, one above, far above: the last publish that is taken is the one that passes it.
    let mut world = limited(4 * MIB);
    absent(&mut world, 1);
    let writer = world.client("w");
    let old = world.connect(v3("old", true)).0;
    let before = fill(&mut world, writer, 1_000);
    assert!(before > 1_000, "{before}");
    assert!(world.broker.memory_bytes() > 4 * MIB);
    assert!(world.broker.memory_bytes() < 4 * MIB + 4_096);
    let taken = world.broker.queued();
    for _ in 0..1_000 {
        assert_eq!(
            publish(&mut world, writer, "t/0", 1_000),
            PubAckReason::QuotaExceeded
        );
        // 3.1.1 has no words for it: the message is acknowledged and dropped.
        assert_eq!(
            publish(&mut world, old, "t/0", 1_000),
            PubAckReason::Success
        );
        // QoS 0 is dropped in silence.
        world.publish(writer, "t/0", "x");
    }
    assert_eq!(world.broker.queued(), taken);
    assert_eq!(world.broker.accounting().memory_refused, 3_001);
    assert_eq!(world.closed(writer), None);
    // The reader comes and takes what waits: acknowledgements go on, and with them the refusal ends.
    let (reader, ack) = world.connect(as_durable(v5("absent0")));
    assert_eq!(ack.reason, ConnAckReason::Success);
    assert_eq!(world.take_all(reader).len() as u64, taken);
    settle_accounts(&mut world);
    assert!(
        world.broker.memory_bytes() < MIB,
        "{}",
        world.broker.memory_bytes()
    );
    assert_eq!(
        publish(&mut world, writer, "t/0", 1_000),
        PubAckReason::Success
    );
}

#[test]
fn a_twentieth_above_the_limit_nobody_new_is_let_in() {
    let mut world = limited(4 * MIB);
    absent(&mut world, 1);
    let writer = world.client("w");
    fill(&mut world, writer, 1_000);
    // Above the limit, but not that far.
    world.client("newcomer");
    // One message can pass both marks.
    let mut world = limited(4 * MIB);
    absent(&mut world, 1);
    let writer = world.client("w");
    assert!(!publish(&mut world, writer, "t/0", 1_500_000).is_error());
    assert!(!publish(&mut world, writer, "t/0", 1_500_000).is_error());
    fill(&mut world, writer, 1_500_000);
    for (connect, expected) in [
        (v5("newcomer"), ConnAckReason::ServerBusy),
        (v3("newcomer", true), ConnAckReason::ServerUnavailable),
        (v5(""), ConnAckReason::ServerBusy),
    ] {
        let (client, ack) = world.connect(connect);
        assert_eq!(ack.reason, expected);
        assert!(world.closed(client).is_some());
    }
    // Whose session is kept may come: nobody else can empty its queue.
    let (reader, ack) = world.connect(as_durable(v5("absent0")));
    assert_eq!(ack.reason, ConnAckReason::Success);
    assert!(world.take_all(reader).len() >= 2);
    settle_accounts(&mut world);
    world.client("newcomer");
}

#[test]
fn deletions_and_goodbyes_go_on_above_the_limit() {
    let mut world = limited(4 * MIB);
    let writer = world.client("w");
    world.subscribe(writer, "mine", Qos::AtMostOnce);
    for n in 0.. {
        let before = world.broker.tables().retained;
        world.retain(writer, &format!("r/{n}"), &"x".repeat(1_000));
        if world.broker.tables().retained == before {
            break;
        }
    }
    let options = SubscribeOptions::new(Qos::AtMostOnce);
    let refused = world.subscribe_with(writer, "more", options, |_| {});
    assert_eq!(refused, [SubAckReason::QuotaExceeded]);
    // What is there already may be subscribed to anew.
    world.subscribe(writer, "mine", Qos::AtMostOnce);
    world.unsubscribe(writer, "mine");
    let retained = world.broker.tables().retained;
    for n in 0..retained {
        world.retain(writer, &format!("r/{n}"), "");
    }
    assert_eq!(world.broker.tables().retained, 0);
    settle_accounts(&mut world);
    world.subscribe(writer, "more", Qos::AtMostOnce);
}

#[test]
fn a_message_for_many_is_charged_once() {
    // B13
    let mut world = limited(u64::MAX);
    for n in 0..500 {
        let (client, _) = world.connect(as_durable(v5(&format!("c{n}"))));
        world.subscribe(client, "t", Qos::AtLeastOnce);
        world.cut(client);
    }
    let writer = world.client("w");
    settle_accounts(&mut world);
    let before = world.broker.memory_bytes();
    publish(&mut world, writer, "t", 1_000_000);
    settle_accounts(&mut world);
    let charged = world.broker.memory_bytes() - before;
    // Once in the broker, once in a store that is in memory.
    assert!((1_000_000..2_200_000).contains(&charged), "{charged}");
}

/// Bytes that the allocator has given out for what `play` leaves behind, and the most at any time.
fn measured(play: impl FnOnce() -> World) -> (World, u64, u64) {
    let mut world = None;
    let info = allocation_counter::measure(|| world = Some(play()));
    let live = u64::try_from(info.bytes_current).unwrap_or_default();
    (world.expect("the script was played"), live, info.bytes_max)
}

#[test]
fn the_account_says_what_the_allocator_says() {
    for bytes in [10, 1_000, 50_000] {
        let (world, live, _) = measured(|| {
            let mut world = limited(u64::MAX);
            absent(&mut world, 50);
            let writer = world.client("w");
            for n in 0..1_000 {
                publish(&mut world, writer, &format!("t/{}", n % 50), bytes);
            }
            for n in 0..500 {
                world.retain(writer, &format!("r/{n}"), &"x".repeat(bytes));
            }
            settle_accounts(&mut world);
            world
        });
        let said = world.broker.memory_bytes();
        assert!(
            said * 10 > live * 7 && said * 10 < live * 25,
            "{bytes}: {said} said, {live} live"
        );
    }
}

#[test]
fn publishing_far_beyond_the_limit_holds_no_more_than_a_fifth_above_it() {
    // B7: twenty times the limit is offered.
    let max = 4 * MIB;
    for bytes in [50, 1_000, 20_000] {
        let (world, _, most) = measured(|| {
            let mut world = limited(max);
            absent(&mut world, 100);
            let writer = world.client("w");
            let count = 20 * max / (bytes as u64 + 400);
            for n in 0..count {
                let topic = format!("t/{}", n % 100);
                let publish = Publish {
                    delivery: qos1(u16::try_from(n % 8).unwrap_or_default() + 1),
                    ..message(&topic, &"x".repeat(bytes))
                };
                world.send(writer, publish_packet(publish));
                world.drain(writer);
            }
            world
        });
        assert!(world.broker.accounting().memory_refused > 0);
        assert!(most < max + max / 5, "{bytes}: {most} at most");
    }
}

/// Does what a broker asks for: everybody is let in, and every commit succeeds at once.
fn carry_out(broker: &mut Broker, out: &mut Transmit) {
    let now = Now::default();
    broker.finish_turn(now);
    while let Some(effect) = broker.poll_effect() {
        match effect {
            Effect::Transmit(id) => {
                out.clear();
                let _ = broker.poll_transmit(now, id, out);
            }
            Effect::Authenticate(id, _) => {
                let outcome = AuthOutcome::allow(Identity::ANONYMOUS);
                broker.handle_reply(now, Reply::Authenticated(id, outcome));
            }
            Effect::Persist(batch) => broker.handle_reply(now, Reply::Committed(batch.seq)),
            Effect::Resume(_) | Effect::Load(_) | Effect::Close(..) => {}
        }
    }
}

/// Durable sessions whose clients have gone, in a broker without anything around it.
fn leave_sessions(broker: &mut Broker, out: &mut Transmit, numbers: std::ops::Range<u32>) {
    let now = Now::default();
    for n in numbers {
        let id = broker.open(now, ConnectionInfo::default());
        let id = id.expect("within the limits");
        let connect = as_durable(v5(&format!("absent-{n}")));
        let mut bytes = Vec::new();
        let packet = Packet::Connect(Box::new(connect));
        packet
            .encode(ProtocolVersion::V5, &mut bytes)
            .expect("a packet that 5.0 can say");
        let mut decoder = Decoder::server(broker.decode_limits());
        let decoded = decoder.decode(&bytes).expect("a valid packet");
        let (packet, _) = decoded.expect("a whole packet");
        broker.handle_packet(now, id, packet);
        carry_out(broker, out);
        broker.handle_closed(now, id, CloseCause::SocketClosed);
        carry_out(broker, out);
    }
}

#[test]
fn a_session_alone_is_charged_what_it_takes() {
    let mut broker = Broker::new(BrokerConfig::new([1; 32]));
    let mut out = Transmit::default();
    leave_sessions(&mut broker, &mut out, 0..4_096);
    let before = broker.memory_bytes();
    let taken = allocation_counter::measure(|| {
        leave_sessions(&mut broker, &mut out, 4_096..8_192);
    });
    let charged = broker.memory_bytes() - before;
    let taken = u64::try_from(taken.bytes_current).unwrap();
    assert_eq!(broker.tables().sessions, 8_192);
    assert!(
        (taken..taken * 13 / 10).contains(&charged),
        "{charged} charged, {taken} taken"
    );
}

fn leave(world: &mut World, client: Handle, filter: &str) {
    let unsubscribe = Unsubscribe::new(id(1), vec![target(filter)]);
    world.send(client, Packet::Unsubscribe(unsubscribe));
    assert!(matches!(world.next(client), Some(Packet::UnsubAck(_))));
}

#[test]
fn hostile_filters_are_bounded_by_their_levels() {
    // B11: at the limit, one above, far above.
    for connect in [v5("c"), v3("c", true)] {
        let is_v5 = connect.version.is_v5();
        let mut world = World::with(|config| config.limits.wildcard_levels_per_client_max = 1_280);
        let (client, _) = world.connect(connect);
        let filter = |n: u32| format!("{n}/{}", vec!["+"; 127].join("/"));
        for n in 0..10 {
            world.subscribe(client, &filter(n), Qos::AtMostOnce);
        }
        let options = SubscribeOptions::new(Qos::AtMostOnce);
        let refused = if is_v5 {
            SubAckReason::QuotaExceeded
        } else {
            SubAckReason::UnspecifiedError
        };
        for wanted in ["+".to_owned(), "$share/g/+".to_owned(), filter(10)] {
            let reasons = world.subscribe_with(client, &wanted, options, |_| {});
            assert_eq!(reasons, [refused]);
        }
        // Filters without wildcards cost one lookup for all of them.
        world.subscribe(client, "a/b/c", Qos::AtMostOnce);
        world.subscribe(client, &filter(3), Qos::AtMostOnce);
        leave(&mut world, client, &filter(3));
        world.subscribe(client, "$share/g/a/+", Qos::AtMostOnce);
        leave(&mut world, client, "$share/g/a/+");
        world.subscribe(client, &filter(11), Qos::AtMostOnce);
    }
}

/// What stays behind after `play` is charged for about as the allocator counts it.
fn check_growth(what: &str, play: impl FnOnce(&mut World)) {
    let mut world = World::with(|config| {
        config.limits.connect_timeout_ms = u32::MAX;
        config.limits.topic_alias_maximum = 1_000;
        config.limits.topic_alias_bytes_max = u32::MAX;
        config.limits.inflight_max = 1_000;
    });
    // A little of everything is there before, so that timers, tables and batches are not empty.
    absent(&mut world, 1);
    let writer = world.client("w");
    world.retain(writer, "r", "x");
    publish(&mut world, writer, "t/0", 1);
    settle_accounts(&mut world);
    let before = world.broker.memory_bytes();
    let live = allocation_counter::measure(|| {
        play(&mut world);
        settle_accounts(&mut world);
    });
    let live = u64::try_from(live.bytes_current).unwrap_or_default();
    let said = world.broker.memory_bytes() - before;
    assert!(
        said * 10 > live * 7 && said * 10 < live * 16,
        "{what}: {said} said, {live} live"
    );
}

#[test]
fn each_thing_that_is_held_is_charged_for() {
    check_growth("filters", |world| {
        let client = world.client("c");
        for n in 0..1_000 {
            let filter = format!("house/{n}/floor/+/temperature/of/the/{n}");
            world.subscribe(client, &filter, Qos::AtMostOnce);
        }
    });
    check_growth("small retained messages", |world| {
        let client = world.client("c");
        for n in 0..1_000 {
            world.retain(client, &n.to_string(), "x");
        }
    });
    check_growth("aliases", |world| {
        let client = world.client("c");
        for n in 1..=500 {
            let topic = TopicName::new("a".repeat(500)).unwrap();
            let alias = TopicAlias::new(n).unwrap();
            let defined = Publish {
                topic: PublishTopic::Define { name: topic, alias },
                ..message("t", "x")
            };
            world.send(client, publish_packet(defined));
        }
    });
    check_growth("what is sent and not acknowledged", |world| {
        let (writer, reader) = (world.client("x"), world.client("y"));
        world.subscribe(reader, "u", Qos::AtLeastOnce);
        for _ in 0..100 {
            publish(world, writer, "u", 5_000);
        }
        assert_eq!(world.publishes(reader).len(), 100);
    });
    check_growth("many small messages in the store", |world| {
        let writer = world.client("x");
        for _ in 0..900 {
            publish(world, writer, "t/0", 1);
        }
    });
    check_growth("what waits for its commit", |world| {
        let writer = world.client("x");
        world.commits = false;
        for n in 1..=30 {
            let publish = Publish {
                delivery: qos1(n),
                ..message("t/0", &"x".repeat(5_000))
            };
            world.send(writer, publish_packet(publish));
        }
        assert_eq!(world.closed(writer), None);
    });
}

#[test]
fn what_waits_for_somebody_elses_word_is_charged_for() {
    let authentication = || Authentication {
        method: "M".into(),
        data: None,
    };
    let rich = |client_id: String| Connect {
        will: Some(will("w", &"w".repeat(10_000))),
        username: Some("n".repeat(1_000).into()),
        password: Some(Bytes::from("p".repeat(1_000)).into()),
        authentication: Some(authentication()),
        ..v5(&client_id)
    };
    for has_next_step in [false, true] {
        check_growth("CONNECT", |world| {
            world.authenticates = false;
            for n in 0..50 {
                let client = world.open(ProtocolVersion::V5);
                let connect = Packet::Connect(Box::new(rich(n.to_string())));
                world.send(client, connect);
                if has_next_step {
                    world.answer(AuthOutcome::Continue(Secret::default()));
                    world.drain(client);
                }
            }
        });
    }
    // A store without room: a 3.1.1 client cannot be told, so that its message is held.
    let mut world = limited(u64::MAX);
    absent(&mut world, 1);
    let clients: Vec<_> = (0..10)
        .map(|n| world.connect(v3(&n.to_string(), true)).0)
        .collect();
    world
        .broker
        .handle_reply(world.now, Reply::Space(Space::Full));
    settle_accounts(&mut world);
    let before = world.broker.memory_bytes();
    for client in clients {
        let publish = Publish {
            delivery: qos1(1),
            ..message("t/0", &"x".repeat(10_000))
        };
        world.send(client, publish_packet(publish));
    }
    // A message is held for no longer than this, and a round comes as often.
    world.advance_millis(9_999);
    let charged = world.broker.memory_bytes() - before;
    assert!((100_000..120_000).contains(&charged), "{charged}");
}
