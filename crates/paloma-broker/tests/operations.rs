//! What an operator sees: counters, the `$SYS` topics and who may read them.

#![expect(
    clippy::unwrap_used,
    reason = "what should not happen may panic in a test"
)]

mod support;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use paloma_broker::store::{Committed, LoadRequest, Loaded, Recovered, StoreError};
use paloma_broker::{
    AllowAll, AuthOutcome, AuthRequest, Authenticator, CloseCause, ConnectionInfo, DropCause,
    Notice, Refusal, Store, StoreBatch,
};
use paloma_codec::{
    ConnAckReason, Connect, Packet, ProtocolVersion, Publish, Qos, SubAckReason, Subscribe,
};
use paloma_session::Transmit;
use support::{Handle, Rules, World, id, message, publish_packet, qos1, target, v5};

fn with_sys() -> World {
    World::with(|config| config.sys_interval_seconds = 10)
}

fn publishes(world: &mut World, client: Handle) -> Vec<(String, String)> {
    let publishes = world.publishes(client).into_iter();
    let pair = |publish: Publish| {
        let topic = publish.topic.name().map_or("", |name| name.as_str());
        let payload = String::from_utf8_lossy(&publish.payload).into_owned();
        (topic.to_owned(), payload)
    };
    publishes.map(pair).collect()
}

/// Subscribes from an address and gives the answer.
fn subscribe_from(
    world: &mut World,
    address: [u8; 4],
    filter: &str,
    user: Option<&str>,
) -> SubAckReason {
    let info = ConnectionInfo {
        address: Some(IpAddr::V4(Ipv4Addr::from(address))),
        ..ConnectionInfo::default()
    };
    let client = world.open_from(ProtocolVersion::V5, info).unwrap();
    let connect = Connect {
        username: user.map(Into::into),
        ..v5(&format!("{filter}{address:?}{user:?}"))
    };
    world.send(client, Packet::Connect(Box::new(connect)));
    assert!(matches!(world.next(client), Some(Packet::ConnAck(_))));
    let filter = paloma_codec::SubscribeFilter {
        target: target(filter),
        options: paloma_codec::SubscribeOptions::new(Qos::AtMostOnce),
    };
    world.send(
        client,
        Packet::Subscribe(Subscribe::new(id(1), vec![filter])),
    );
    match world.next(client) {
        Some(Packet::SubAck(ack)) => *ack.reasons.first().unwrap(),
        other => panic!("expected SUBACK, got {other:?}"),
    }
}

#[test]
fn packets_bytes_and_messages_are_counted_on_their_way() {
    let mut world = World::new();
    let (publisher, receiver) = (world.client("p"), world.client("r"));
    world.subscribe(receiver, "a", Qos::AtLeastOnce);
    world.publish_qos(publisher, "a", "12345", qos1(1));
    world.publish(publisher, "nobody", "123");
    world.take_all(receiver);
    let all = world.broker.statistics();
    let traffic = &all.traffic;
    // CONNECT twice, SUBSCRIBE, PUBLISH twice, PUBACK; CONNACK twice, SUBACK, PUBACK, PUBLISH.
    assert_eq!((traffic.packets_received, traffic.packets_sent), (6, 5));
    assert_eq!((traffic.publish_received, traffic.publish_sent), (2, 1));
    assert_eq!(traffic.publish_bytes_received, 8);
    assert_eq!(traffic.publish_bytes_sent, 5);
    assert!(traffic.bytes_sent > 5);
    assert_eq!((all.tables.connected, traffic.clients_maximum), (2, 2));
    assert_eq!(all.accounting.dropped(DropCause::QueueFull), 0);
}

#[test]
fn what_leaves_for_several_clients_in_one_piece_is_counted_once() {
    let mut world = World::new();
    let publisher = world.client("p");
    let receivers = ["a", "b", "c"].map(|name| {
        let receiver = world.client(name);
        world.subscribe(receiver, "t", Qos::AtMostOnce);
        world.set_reading(receiver, false);
        receiver
    });
    world.publish(publisher, "t", "12345");
    let before = world.broker.statistics().traffic;
    let mut out = Transmit::default();
    for receiver in receivers {
        let connection = world.connection(receiver);
        let _ = world.broker.poll_transmit(world.now, connection, &mut out);
    }
    let after = world.broker.statistics().traffic;
    assert_eq!(after.publish_sent - before.publish_sent, 3);
    assert_eq!(after.bytes_sent - before.bytes_sent, out.len() as u64);
    assert_eq!(world.broker.accounting().delivered, 3);
    world.check_invariants();
}

#[test]
fn bytes_that_came_in_add_up_for_everybody_who_asks() {
    let mut world = with_sys();
    for bytes in [100, 20, 3] {
        world.broker.count_received_bytes(bytes);
    }
    assert_eq!(world.broker.statistics().traffic.bytes_received, 123);
    world.advance(10);
    let client = world.client("c");
    let topic = "$SYS/broker/bytes/received";
    world.subscribe(client, topic, Qos::AtMostOnce);
    assert_eq!(
        publishes(&mut world, client),
        [(topic.to_owned(), "123".to_owned())]
    );
}

#[test]
fn ends_and_refusals_are_counted_by_their_cause() {
    let mut world = World::with(|config| config.limits.connections_max = 2);
    let first = world.client("a");
    let second = world.client("a");
    assert_eq!(world.closed(first), Some(CloseCause::TakenOver));
    world.client("b");
    let refused = world.broker.open(world.now, ConnectionInfo::default());
    assert_eq!(refused, Err(Refusal::TooManyConnections));
    world.cut(second);
    let all = world.broker.statistics();
    assert_eq!(all.traffic.closed(CloseCause::TakenOver), 1);
    assert_eq!(all.traffic.closed(CloseCause::SocketClosed), 1);
    assert_eq!(all.traffic.refused(Refusal::TooManyConnections), 1);
    assert_eq!(
        (all.traffic.connections_opened, all.tables.connected),
        (3, 1)
    );
}

#[test]
fn one_message_in_so_many_is_timed_until_it_is_written() {
    let mut world = World::new();
    let (publisher, receiver) = (world.client("p"), world.client("r"));
    world.subscribe(receiver, "a", Qos::AtMostOnce);
    for _ in 0..64 {
        world.publish(publisher, "a", "x");
    }
    let latency = world.broker.statistics().latency;
    assert_eq!((latency.count(), latency.sum_ns()), (4, 0));
    world.set_reading(receiver, false);
    for _ in 0..16 {
        world.publish(publisher, "a", "x");
    }
    world.advance_millis(30);
    world.set_reading(receiver, true);
    let latency = world.broker.statistics().latency;
    assert_eq!((latency.count(), latency.sum_ns()), (5, 30_000_000));
}

#[test]
fn sys_topics_are_retained_and_come_again_when_they_change() {
    let mut world = with_sys();
    world.advance(0);
    let client = world.client("c");
    world.subscribe(client, "$SYS/broker/uptime", Qos::ExactlyOnce);
    world.subscribe(client, "$SYS/broker/clients/+", Qos::AtMostOnce);
    let mut first = publishes(&mut world, client);
    first.sort_unstable();
    let uptime = ("$SYS/broker/uptime".to_owned(), "0 seconds".to_owned());
    assert!(first.contains(&uptime), "{first:?}");
    let connected = "$SYS/broker/clients/connected".to_owned();
    assert!(first.contains(&(connected.clone(), "0".to_owned())));
    world.advance(10);
    let second = publishes(&mut world, client);
    assert!(second.contains(&(connected, "1".to_owned())), "{second:?}");
    assert!(
        !second.iter().any(|(topic, _)| topic.ends_with("expired")),
        "what has not changed is not sent again: {second:?}"
    );
}

#[test]
fn messages_that_are_held_are_those_in_queues_and_the_retained_ones() {
    let mut world = with_sys();
    let client = world.client("c");
    for topic in ["a", "b", "c"] {
        world.retain(client, topic, "x");
    }
    world.advance(0);
    world.advance(10);
    let topic = "$SYS/broker/messages/stored";
    world.subscribe(client, topic, Qos::AtMostOnce);
    let [(_, held)] = &publishes(&mut world, client)[..] else {
        panic!("one retained message on {topic}");
    };
    assert!(held.parse::<u32>().unwrap() >= 3, "{held}");
}

#[test]
fn sys_topics_are_in_no_wildcard_no_store_and_no_other_counter() {
    let mut world = with_sys();
    let client = world.client("c");
    world.subscribe(client, "#", Qos::AtMostOnce);
    world.subscribe(client, "+/broker/uptime", Qos::AtMostOnce);
    world.commits = false;
    world.advance(60);
    assert_eq!(publishes(&mut world, client), []);
    assert!(world.uncommitted.is_empty());
    assert_eq!(world.broker.accounting().published, 0);
}

#[test]
fn without_an_interval_there_are_no_sys_topics() {
    let mut world = World::new();
    world.advance(100);
    assert_eq!(world.broker.tables().retained, 0);
}

#[test]
fn anonymous_clients_of_other_machines_read_no_sys_topics() {
    let mut world = with_sys();
    world.advance(0);
    let (far, near) = ([192, 0, 2, 1], [127, 0, 0, 1]);
    for filter in ["$SYS/#", "$share/g/$SYS/#"] {
        let mut check = |address, user, expected| {
            assert_eq!(
                subscribe_from(&mut world, address, filter, user),
                expected,
                "{address:?} {filter} {user:?}"
            );
        };
        check(far, None, SubAckReason::NotAuthorized);
        check(near, None, SubAckReason::GrantedQos0);
        check(far, Some("operator"), SubAckReason::GrantedQos0);
    }
}

#[test]
fn rules_of_somebody_decide_about_sys_topics_for_everybody() {
    let rules = Arc::new(Rules::default());
    let mut world = World::with(|config| config.authorizer = rules);
    let far = [192, 0, 2, 1];
    let granted = subscribe_from(&mut world, far, "$SYS/open", None);
    assert_eq!(granted, SubAckReason::GrantedQos0);
}

/// Says nothing of how long it takes.
#[derive(Debug)]
struct Taciturn;

impl Authenticator for Taciturn {
    fn authenticate(&self, _: &AuthRequest) -> AuthOutcome {
        AuthOutcome::Deny(ConnAckReason::NotAuthorized)
    }
}

impl Store for Taciturn {
    fn recover(&mut self, _: &mut dyn FnMut(Recovered)) -> Result<(), StoreError> {
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
fn who_may_take_long_is_kept_away_from_sockets_and_who_is_quick_is_not() {
    let mut world = World::new();
    world.authenticates = false;
    let client = world.open(ProtocolVersion::V5);
    world.send(client, Packet::Connect(Box::new(v5("c"))));
    let (_, request) = world.asked.pop_front().unwrap();
    assert!(!AllowAll.is_blocking());
    assert!(AllowAll.authenticate_at_once(&request).is_some());
    assert!(Authenticator::is_blocking(&Taciturn));
    assert!(Taciturn.authenticate_at_once(&request).is_none());
    assert!(!world.store.is_blocking());
    assert!(Store::is_blocking(&Taciturn));
}

#[test]
fn an_operator_hears_who_came_who_went_and_who_was_refused() {
    let mut world = World::with(|config| {
        config.limits.sessions_max = 1;
        config.limits.queue_messages_max = 2;
    });
    world.client("before anybody listens");
    world.broker.want_notices();
    let (first, _) = world.connect(v5("before anybody listens"));
    world.subscribe(first, "a", Qos::AtMostOnce);
    world.set_reading(first, false);
    for _ in 0..5 {
        world.publish(first, "a", "a payload");
    }
    let second = world.open(ProtocolVersion::V5);
    world.send(second, Packet::Connect(Box::new(v5("b"))));
    let third = world.open(ProtocolVersion::V5);
    world.cut(third);
    world.cut(first);
    let (notices, lost) = world.broker.take_notices();
    let told: Vec<String> = notices.iter().map(|notice| format!("{notice:?}")).collect();
    let expected = [
        ["Disconnected", "TakenOver"],
        ["Connected", "before anybody listens"],
        ["QueueFull", "before anybody listens"],
        ["Refused", "QuotaExceeded"],
        ["Unopened", "SocketClosed"],
        ["Disconnected", "SocketClosed"],
    ];
    assert_eq!((told.len(), lost), (expected.len(), 0), "{told:?}");
    for (told, words) in told.iter().zip(expected) {
        assert!(words.iter().all(|word| told.contains(word)), "{told}");
        assert!(!told.contains("a payload"), "{told}");
    }
}

#[test]
fn an_operator_hears_which_rule_a_client_broke() {
    let mut world = World::with(|config| config.limits.retain_available = false);
    world.broker.want_notices();
    let repeats = world.client("repeats");
    world.send(repeats, Packet::Connect(Box::new(v5("repeats"))));
    let retains = world.client("retains");
    let publish = Publish {
        retain: true,
        ..message("a", "b")
    };
    world.send(retains, publish_packet(publish));
    let begins = world.open(ProtocolVersion::V5);
    world.send(begins, Packet::PingReq);
    let (notices, _) = world.broker.take_notices();
    let mut told = Vec::new();
    for notice in notices {
        if let Notice::Disconnected { cause, offence, .. }
        | Notice::Unopened { cause, offence, .. } = notice
        {
            told.push(format!("{cause}: {}", offence.unwrap()));
        }
    }
    assert_eq!(
        told,
        [
            "malformed packet: second CONNECT",
            "protocol violation: RETAIN, which is not available",
            "malformed packet: first packet is not CONNECT",
        ]
    );
}
