//! Every limit that counts something: tried at it, one above it and far above it.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the whole file is a test: what should not happen may panic"
)]

mod support;

use paloma_broker::{ConnectionInfo, DropCause, Limits, QueueWhenFull};
use paloma_codec::{
    ConnAckReason, Connect, DisconnectReason, Packet, ProtocolVersion, Publish, PublishTopic, Qos,
    SubAckReason, Subscribe, SubscribeFilter, SubscribeOptions, TopicAlias, Will,
};
use support::{Handle, World, id, message, publish_packet, qos1, qos2, target, v5, will};

/// What every limit here is set to.
const LIMIT: u16 = 5;
const TRIED: [u16; 3] = [LIMIT, LIMIT + 1, LIMIT * 40];

/// Tries so much of something under a limit; `play` gives how much of it there was in the end, which is what was tried as far
/// as the limit goes. The broker serves others all the same.
#[track_caller]
fn check(name: &str, set: fn(&mut Limits), play: fn(&mut World, u16) -> usize) {
    for tried in TRIED {
        let mut world = World::with(|config| set(&mut config.limits));
        let got = play(&mut world, tried);
        assert_eq!(got, usize::from(tried.min(LIMIT)), "{name}: {tried}");
        world.check_invariants();
    }
}

/// The same for what is refused as a whole when it passes the limit: `play` says whether it was taken.
#[track_caller]
fn check_size(name: &str, set: fn(&mut Limits), play: fn(&mut World, u16) -> bool) {
    for tried in TRIED {
        let mut world = World::with(|config| set(&mut config.limits));
        let neighbour = world.client("nb");
        assert_eq!(play(&mut world, tried), tried <= LIMIT, "{name}: {tried}");
        world.send(neighbour, Packet::PingReq);
        let answer = world.next(neighbour);
        assert!(
            matches!(answer, Some(Packet::PingResp)),
            "{name}: {answer:?}"
        );
        world.check_invariants();
    }
}

/// The same for bytes. `play` says whether something of so many bytes was taken; what is kept with it costs as well, so the least
/// limit is looked for first that takes a kilobyte. One byte more is refused under it, and so are forty kilobytes.
#[track_caller]
fn check_bytes(name: &str, set: fn(&mut Limits, u16), play: fn(&mut World, usize) -> bool) {
    const SIZE: usize = 1_000;
    let is_taken = |limit: u16, size| {
        let mut world = World::with(|config| set(&mut config.limits, limit));
        let is_taken = play(&mut world, size);
        world.check_invariants();
        is_taken
    };
    let (mut refused, mut least) = (500, 4_000);
    assert!(
        is_taken(least, SIZE) && !is_taken(refused, SIZE),
        "{name}: between {refused} and {least}"
    );
    while least - refused > 1 {
        let middle = u16::midpoint(refused, least);
        if is_taken(middle, SIZE) {
            least = middle;
        } else {
            refused = middle;
        }
    }
    assert!((1_000..1_500).contains(&least), "{name}: {least}");
    for beyond in [SIZE + 1, SIZE * 40] {
        assert!(!is_taken(least, beyond), "{name}: {beyond} under {least}");
    }
}

fn durable(client_id: &str) -> Connect {
    Connect {
        clean_start: false,
        session_expiry_seconds: 3_600,
        ..v5(client_id)
    }
}

fn is_open(world: &mut World, client: Handle) -> bool {
    world.closed(client).is_none()
}

fn publish(world: &mut World, publish: Publish, expected: DisconnectReason) -> bool {
    let client = world.client("c");
    world.send(client, publish_packet(publish));
    let farewell = world.farewell(client);
    let is_open = is_open(world, client);
    assert_eq!(farewell.is_none(), is_open);
    assert!(
        farewell.is_none_or(|reason| reason == expected),
        "{farewell:?}"
    );
    is_open
}

fn define(topic: &str, alias: u16) -> Publish {
    let mut aliased = message(topic, "x");
    let name = aliased.topic.name().cloned().expect("it has a name");
    let alias = TopicAlias::new(alias).expect("not zero");
    aliased.topic = PublishTopic::Define { name, alias };
    aliased
}

#[test]
fn tables_take_as_much_as_they_may_and_no_more() {
    check(
        "connections_max",
        |limits| limits.connections_max = LIMIT.into(),
        |world, tried| {
            let opened = (0..tried).filter_map(|_| world.try_open(ProtocolVersion::V5));
            opened.count()
        },
    );
    check(
        "sessions_max",
        |limits| limits.sessions_max = LIMIT.into(),
        |world, tried| {
            let mut accepted = 0;
            for n in 0..tried {
                let (_, ack) = world.connect(durable(&format!("c{n}")));
                match ack.reason {
                    ConnAckReason::Success => accepted += 1,
                    reason => assert_eq!(reason, ConnAckReason::QuotaExceeded),
                }
            }
            assert_eq!(world.broker.tables().sessions, accepted);
            accepted
        },
    );
    check(
        "retained_messages_max",
        |limits| limits.retained_messages_max = LIMIT.into(),
        |world, tried| {
            let client = world.client("c");
            (0..tried).for_each(|n| world.retain(client, &format!("t{n}"), "x"));
            let refused = world.broker.accounting().refused;
            assert_eq!(refused, u64::from(tried.saturating_sub(LIMIT)), "counted");
            world.broker.tables().retained
        },
    );
}

#[test]
fn subscriptions_are_taken_up_to_their_number_and_their_levels() {
    fn subscribe(world: &mut World, filters: impl Iterator<Item = String>) -> usize {
        let client = world.client("c");
        let options = SubscribeOptions::new(Qos::AtMostOnce);
        let mut granted = 0;
        for filter in filters {
            let reasons = world.subscribe_with(client, &filter, options, |_| {});
            match reasons.as_slice() {
                [SubAckReason::GrantedQos0] => granted += 1,
                other => assert_eq!(other, [SubAckReason::QuotaExceeded]),
            }
        }
        assert_eq!(world.broker.tables().subscriptions, granted);
        granted
    }
    check(
        "subscriptions_per_client_max",
        |limits| limits.subscriptions_per_client_max = LIMIT.into(),
        |world, tried| subscribe(world, (0..tried).map(|n| format!("f{n}"))),
    );
    check(
        "wildcard_levels_per_client_max",
        |limits| limits.wildcard_levels_per_client_max = u32::from(LIMIT) * 2,
        |world, tried| subscribe(world, (0..tried).map(|n| format!("f{n}/+"))),
    );
    check(
        "filters_per_subscribe_max",
        |limits| limits.filters_per_subscribe_max = LIMIT,
        |world, tried| {
            let client = world.client("c");
            let filter = |n| SubscribeFilter {
                target: target(&format!("f{n}")),
                options: SubscribeOptions::new(Qos::AtMostOnce),
            };
            let subscribe = Subscribe::new(id(1), (0..tried).map(filter).collect());
            world.send(client, Packet::Subscribe(subscribe));
            let Some(Packet::SubAck(ack)) = world.next(client) else {
                panic!("no answer");
            };
            assert_eq!(ack.reasons.len(), usize::from(tried), "each is answered");
            ack.reasons
                .iter()
                .filter(|reason| !reason.is_error())
                .count()
        },
    );
}

#[test]
fn messages_wait_up_to_their_number_and_are_counted_beyond_it() {
    fn wait(world: &mut World, tried: u16) -> usize {
        let (reader, _) = world.durable("r");
        world.subscribe(reader, "t", Qos::AtLeastOnce);
        world.cut(reader);
        let writer = world.client("w");
        for n in 1..=tried {
            world.publish_qos(writer, "t", "x", qos1(n));
        }
        assert_eq!(world.broker.accounting().copies, u64::from(tried));
        let dropped = world.dropped(DropCause::QueueFull);
        assert_eq!(dropped, u64::from(tried.saturating_sub(LIMIT)), "counted");
        let (reader, _) = world.durable("r");
        world.take_all(reader).len()
    }
    check(
        "queue_messages_max",
        |limits| limits.queue_messages_max = LIMIT.into(),
        wait,
    );
    check(
        "queue_messages_max, drop_oldest",
        |limits| {
            limits.queue_messages_max = LIMIT.into();
            limits.queue_when_full = QueueWhenFull::DropOldest;
        },
        wait,
    );
    check(
        "inflight_max",
        |limits| limits.inflight_max = LIMIT,
        |world, tried| {
            let (reader, _) = world.durable("r");
            world.subscribe(reader, "t", Qos::AtLeastOnce);
            let writer = world.client("w");
            for n in 1..=tried {
                world.publish_qos(writer, "t", "x", qos1(n));
            }
            let unacknowledged = world.publishes(reader).len();
            let waiting = world.broker.queued();
            assert_eq!(waiting, u64::from(tried), "what is not sent waits");
            unacknowledged
        },
    );
}

#[test]
fn times_are_capped() {
    check(
        "session_expiry_seconds_max",
        |limits| limits.session_expiry_seconds_max = LIMIT.into(),
        |world, tried| {
            let (client, ack) = world.connect(Connect {
                session_expiry_seconds: tried.into(),
                ..durable("c")
            });
            let announced = (tried > LIMIT).then_some(u32::from(LIMIT));
            assert_eq!(ack.session_expiry_seconds, announced);
            world.cut(client);
            (0..usize::from(tried) + 1)
                .take_while(|_| {
                    world.advance(1);
                    world.broker.tables().sessions == 1
                })
                .count()
                + 1
        },
    );
    check(
        "keep_alive_seconds_max",
        |limits| limits.keep_alive_seconds_max = LIMIT,
        |world, tried| {
            let (_, ack) = world.connect(Connect {
                keep_alive_seconds: tried,
                ..v5("c")
            });
            ack.server_keep_alive_seconds.unwrap_or(tried).into()
        },
    );
    check(
        "will_delay_seconds_max",
        |limits| limits.will_delay_seconds_max = LIMIT.into(),
        |world, tried| {
            let listener = world.client("l");
            world.subscribe(listener, "gone", Qos::AtMostOnce);
            let (client, _) = world.connect(Connect {
                will: Some(Will {
                    delay_seconds: tried.into(),
                    ..will("gone", "x")
                }),
                ..durable("c")
            });
            world.cut(client);
            (0..usize::from(tried) + 1)
                .take_while(|_| {
                    world.advance(1);
                    world.payloads(listener).is_empty()
                })
                .count()
                + 1
        },
    );
}

#[test]
fn what_is_too_large_is_refused_whole() {
    check_size(
        "client_id_bytes_max",
        |limits| limits.client_id_bytes_max = LIMIT,
        |world, tried| {
            let (_, ack) = world.connect(v5(&"c".repeat(tried.into())));
            ack.reason == ConnAckReason::Success
        },
    );
    check_size(
        "topic_bytes_max",
        |limits| limits.topic_bytes_max = LIMIT,
        |world, tried| {
            let topic = "t".repeat(tried.into());
            publish(
                world,
                message(&topic, "x"),
                DisconnectReason::TopicNameInvalid,
            )
        },
    );
    check_size(
        "topic_levels_max",
        |limits| limits.topic_levels_max = LIMIT,
        |world, tried| {
            let topic = "/".repeat(usize::from(tried) - 1);
            publish(
                world,
                message(&topic, "x"),
                DisconnectReason::TopicNameInvalid,
            )
        },
    );
    check_size(
        "user_properties_max",
        |limits| limits.user_properties_max = LIMIT,
        |world, tried| {
            let mut rich = message("t", "x");
            for _ in 0..tried {
                rich.properties.user_properties.push("k", "v").unwrap();
            }
            publish(world, rich, DisconnectReason::QuotaExceeded)
        },
    );
    check_size(
        "topic_alias_maximum",
        |limits| limits.topic_alias_maximum = LIMIT,
        |world, tried| {
            let expected = DisconnectReason::TopicAliasInvalid;
            publish(world, define("t", tried), expected)
        },
    );
    check_size(
        "receive_maximum",
        |limits| limits.receive_maximum = LIMIT,
        |world, tried| {
            let client = world.client("c");
            let open = |n| {
                publish_packet(Publish {
                    delivery: qos2(n),
                    ..message("t", "x")
                })
            };
            world.send_all(client, (1..=tried).map(open).collect());
            let farewell = world.farewell(client);
            let expected = Some(DisconnectReason::ReceiveMaximumExceeded);
            assert!(farewell.is_none() || farewell == expected, "{farewell:?}");
            is_open(world, client)
        },
    );
}

#[test]
fn newcomers_are_let_in_up_to_their_rate() {
    fn knock(world: &mut World, address: [u8; 4]) -> bool {
        let info = ConnectionInfo {
            address: Some(address.into()),
            ..ConnectionInfo::default()
        };
        world.broker.open(world.now, info).is_ok()
    }
    check(
        "connections_per_second_max",
        |limits| limits.connections_per_second_max = LIMIT.into(),
        |world, tried| {
            let let_in = (0..tried).filter(|n| {
                let [high, low] = n.to_be_bytes();
                knock(world, [198, 18, high, low])
            });
            let_in.count()
        },
    );
    check(
        "connections_per_second_per_address_max",
        |limits| limits.connections_per_second_per_address_max = LIMIT.into(),
        |world, tried| {
            let let_in = (0..tried).filter(|_| knock(world, [192, 0, 2, 1])).count();
            assert!(knock(world, [192, 0, 2, 2]), "others are let in");
            let_in
        },
    );
}

#[test]
fn bytes_are_taken_up_to_their_number() {
    check_bytes(
        "packet_bytes_max",
        |limits, bytes| limits.packet_bytes_max = bytes.into(),
        |world, size| {
            let large = message("t", &"x".repeat(size));
            publish(world, large, DisconnectReason::PacketTooLarge)
        },
    );
    check_bytes(
        "will_bytes_max",
        |limits, bytes| limits.will_bytes_max = bytes.into(),
        |world, size| {
            let (_, ack) = world.connect(Connect {
                will: Some(will("w", &"x".repeat(size))),
                ..v5("c")
            });
            ack.reason == ConnAckReason::Success
        },
    );
    check_bytes(
        "user_properties_bytes_max",
        |limits, bytes| limits.user_properties_bytes_max = bytes.into(),
        |world, size| {
            let mut rich = message("t", "x");
            let value = "v".repeat(size);
            rich.properties.user_properties.push("k", &value).unwrap();
            publish(world, rich, DisconnectReason::QuotaExceeded)
        },
    );
    check_bytes(
        "topic_alias_bytes_max",
        |limits, bytes| {
            limits.topic_alias_bytes_max = bytes.into();
            limits.topic_bytes_max = u16::MAX;
        },
        |world, size| {
            let aliased = define(&"t".repeat(size), 1);
            publish(world, aliased, DisconnectReason::TopicAliasInvalid)
        },
    );
    check_bytes(
        "queue_bytes_max",
        |limits, bytes| limits.queue_bytes_max = bytes.into(),
        |world, size| {
            let (reader, _) = world.durable("r");
            world.subscribe(reader, "t", Qos::AtLeastOnce);
            world.cut(reader);
            let writer = world.client("w");
            world.publish_qos(writer, "t", &"x".repeat(size), qos1(1));
            let (queued, dropped) = (world.broker.queued(), world.dropped(DropCause::QueueFull));
            assert_eq!(queued + dropped, 1, "counted");
            queued == 1
        },
    );
    check_bytes(
        "retained_bytes_max",
        |limits, bytes| limits.retained_bytes_max = bytes.into(),
        |world, size| {
            let client = world.client("c");
            world.retain(client, "t", &"x".repeat(size));
            let refused = world.broker.accounting().retained_refused;
            let retained = world.broker.tables().retained;
            assert_eq!(retained as u64 + refused, 1, "counted");
            retained == 1
        },
    );
}
