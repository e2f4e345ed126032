//! What an operator does with a running broker: new rules, and sending a client away.
#![allow(dead_code, reason = "each suite uses its part of the support module")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use paloma_broker::{Action, Authorizer, Grant, Identity};
use paloma_codec::{Connect, Delivery, DisconnectReason, Packet, ProtocolVersion, Qos, Will};
use paloma_topic::{TopicFilterRef, TopicName, TopicNameRef};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use support::{Peer, VERSIONS, config, connect, duplex, publish, start};

/// Everybody may do everything, until nobody may read `secret`.
#[derive(Debug, Default)]
struct Rules {
    is_strict: AtomicBool,
    epoch: AtomicU16,
}

impl Rules {
    fn tighten(&self) {
        self.is_strict.store(true, Ordering::SeqCst);
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }
}

impl Authorizer for Rules {
    fn is_allowed(&self, _: &Identity, _: &str, action: Action, topic: TopicNameRef<'_>) -> bool {
        !self.is_strict.load(Ordering::SeqCst)
            || action == Action::Write
            || topic.as_str() != "secret"
    }

    fn grant(&self, _: &Identity, _: &str, _: TopicFilterRef<'_>) -> Grant {
        if self.is_strict.load(Ordering::SeqCst) {
            Grant::CheckEach
        } else {
            Grant::AllAllowed
        }
    }

    fn epoch(&self) -> u16 {
        self.epoch.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn new_rules_hold_for_clients_that_are_connected() {
    for version in VERSIONS {
        let rules = Arc::new(Rules::default());
        let mut config = config();
        config.broker.authorizer = Arc::<Rules>::clone(&rules);
        let running = start(config).await;
        let mut reader = Peer::join(duplex(&running), version, "reader").await;
        reader.subscribe("#", Qos::AtMostOnce).await;
        let mut writer = Peer::join(duplex(&running), version, "writer").await;
        let send = |topic, payload| publish(topic, payload, Delivery::AtMostOnce);
        writer.send(&send("secret", "before")).await;
        assert_eq!(reader.message().await.as_deref(), Some(&b"before"[..]));
        rules.tighten();
        running.rules_changed();
        writer.send(&send("secret", "after")).await;
        writer.send(&send("open", "after")).await;
        let Some(Packet::Publish(publish)) = reader.receive().await else {
            panic!("the open message comes");
        };
        let topic = publish.topic.name().map(TopicName::as_str);
        assert_eq!(topic, Some("open"), "nothing came before it");
        running.stop().await.expect("it stops");
    }
}

#[tokio::test]
async fn a_client_that_is_sent_away_leaves_its_will() {
    for version in VERSIONS {
        let running = start(config()).await;
        let mut watcher = Peer::join(duplex(&running), version, "watcher").await;
        watcher.subscribe("gone", Qos::AtMostOnce).await;
        let mut client = Peer::new(duplex(&running), version);
        let topic = TopicName::new("gone").expect("a valid topic");
        let connect = Connect {
            will: Some(Will::new(topic, "client".into())),
            ..connect(version, "client")
        };
        client.send(&Packet::Connect(Box::new(connect))).await;
        assert!(matches!(client.receive().await, Some(Packet::ConnAck(_))));
        assert!(!running.disconnect("nobody"));
        assert!(running.disconnect("client"));
        let farewell = client.receive().await;
        if version == ProtocolVersion::V5 {
            assert!(
                matches!(&farewell, Some(Packet::Disconnect(packet))
                    if packet.reason == DisconnectReason::AdministrativeAction),
                "{farewell:?}"
            );
            assert!(client.receive().await.is_none());
        } else {
            assert!(farewell.is_none(), "{farewell:?}");
        }
        assert_eq!(watcher.message().await.as_deref(), Some(&b"client"[..]));
        assert!(!running.disconnect("client"));
        running.stop().await.expect("it stops");
    }
}

#[tokio::test]
async fn packets_that_came_in_part_are_in_the_memory_account_until_their_connection_goes() {
    let running = start(config()).await;
    let mut client = Peer::join(duplex(&running), ProtocolVersion::V5, "client").await;
    let whole = client.encode(&publish("t", vec![0; 1_000_000], Delivery::AtMostOnce));
    let before = running.memory_bytes();
    let part = whole.get(..900_000).expect("it is longer");
    client
        .stream
        .write_all(part)
        .await
        .expect("the broker reads");
    // The next turn tells the core.
    let mut other = Peer::join(duplex(&running), ProtocolVersion::V5, "other").await;
    wait_until(|| running.memory_bytes() > before + 700_000, &mut other).await;
    drop(client);
    wait_until(|| running.memory_bytes() < before + 100_000, &mut other).await;
    running.stop().await.expect("it stops");
}

#[tokio::test]
async fn what_a_socket_has_not_taken_is_in_the_memory_account() {
    let running = start(config()).await;
    let mut reader = Peer::join(duplex(&running), ProtocolVersion::V5, "reader").await;
    reader.subscribe("t", Qos::AtMostOnce).await;
    let mut writer = Peer::join(duplex(&running), ProtocolVersion::V5, "writer").await;
    let before = running.memory_bytes();
    for _ in 0..3 {
        let message = publish("t", vec![0; 500_000], Delivery::AtMostOnce);
        writer.send(&message).await;
    }
    wait_until(|| running.memory_bytes() > before + 1_000_000, &mut writer).await;
    drop(reader);
    running.stop().await.expect("it stops");
}

/// Pings until the core, which looks at its account when there are turns, sees it.
async fn wait_until<S: AsyncRead + AsyncWrite + Unpin>(
    is_seen: impl Fn() -> bool,
    peer: &mut Peer<S>,
) {
    for _ in 0..10_000 {
        if is_seen() {
            return;
        }
        peer.send(&Packet::PingReq).await;
        assert!(matches!(peer.receive().await, Some(Packet::PingResp)));
    }
    panic!("the account does not see it");
}

#[tokio::test]
async fn the_broker_says_why_a_client_gets_a_message_or_not() {
    let running = start(config()).await;
    let mut reader = Peer::join(duplex(&running), ProtocolVersion::V5, "reader").await;
    reader.subscribe("a/+", Qos::AtMostOnce).await;
    let control = running.control();
    let explain = |client: &str, topic: &str| control.explain(client, topic);
    assert!(explain("reader", "a/b").is_some_and(|found| found.is_delivered()));
    let found = explain("reader", "b").unwrap();
    assert_eq!(found.obstacles, [paloma_broker::Obstacle::NoFilter]);
    let found = explain("nobody", "a/b").unwrap();
    assert_eq!(found.obstacles, [paloma_broker::Obstacle::NoSession]);
    assert!(explain("reader", "a/+").is_none());
}
