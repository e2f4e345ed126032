//! Messages through a running broker: both versions, every transport, one thread and several.
#![allow(dead_code, reason = "each suite uses its part of the support module")]
#![expect(
    clippy::indexing_slicing,
    reason = "a test that panics has failed, as it should"
)]

mod support;

use std::num::NonZeroUsize;
use std::sync::mpsc;
use std::thread;

use paloma_codec::{Ack, Delivery, DisconnectReason, Packet, ProtocolVersion, PubRelReason, Qos};
use paloma_tokio::{Running, serve};
use support::{
    PATIENCE, Peer, VERSIONS, config, duplex, id, publish, roomy, start, tcp, tcp_config,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::time::timeout;

const TOPIC: &str = "a/b";

/// One message of each QoS from one client to another.
async fn check_exchange<S: AsyncRead + AsyncWrite + Unpin>(
    publisher: S,
    subscriber: S,
    version: ProtocolVersion,
) {
    let mut subscriber = Peer::join(subscriber, version, "subscriber").await;
    subscriber.subscribe("a/+", Qos::AtLeastOnce).await;
    let mut publisher = Peer::join(publisher, version, "publisher").await;
    publisher
        .send(&publish(TOPIC, "zero", Delivery::AtMostOnce))
        .await;
    assert_eq!(subscriber.message().await.as_deref(), Some(&b"zero"[..]));
    let one = Delivery::AtLeastOnce {
        id: id(7),
        dup: false,
    };
    publisher.send(&publish(TOPIC, "one", one)).await;
    let answer = publisher.receive().await;
    assert!(
        matches!(&answer, Some(Packet::PubAck(ack)) if ack.id == id(7)),
        "{answer:?}"
    );
    assert_eq!(subscriber.message().await.as_deref(), Some(&b"one"[..]));
    let two = Delivery::ExactlyOnce {
        id: id(8),
        dup: false,
    };
    publisher.send(&publish(TOPIC, "two", two)).await;
    let answer = publisher.receive().await;
    assert!(
        matches!(&answer, Some(Packet::PubRec(ack)) if ack.id == id(8)),
        "{answer:?}"
    );
    publisher
        .send(&Packet::PubRel(Ack::new(id(8), PubRelReason::Success)))
        .await;
    let answer = publisher.receive().await;
    assert!(
        matches!(&answer, Some(Packet::PubComp(ack)) if ack.id == id(8)),
        "{answer:?}"
    );
    assert_eq!(subscriber.message().await.as_deref(), Some(&b"two"[..]));
    publisher.send(&Packet::PingReq).await;
    assert!(matches!(publisher.receive().await, Some(Packet::PingResp)));
}

async fn stop(running: Running) {
    timeout(PATIENCE, running.stop())
        .await
        .expect("it stops")
        .expect("it has not failed");
}

#[tokio::test]
async fn messages_of_every_qos_pass_over_tcp() {
    for version in VERSIONS {
        let running = start(tcp_config()).await;
        check_exchange(tcp(&running).await, tcp(&running).await, version).await;
        stop(running).await;
    }
}

#[tokio::test]
async fn messages_of_every_qos_pass_within_the_process() {
    for version in VERSIONS {
        let running = start(config()).await;
        check_exchange(duplex(&running), duplex(&running), version).await;
        stop(running).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_every_qos_pass_on_a_multi_threaded_runtime() {
    for version in VERSIONS {
        let running = start(tcp_config()).await;
        check_exchange(tcp(&running).await, tcp(&running).await, version).await;
        check_exchange(duplex(&running), duplex(&running), version).await;
        stop(running).await;
    }
}

#[tokio::test]
async fn messages_pass_over_ipv6() {
    if tokio::net::TcpListener::bind("[::1]:0").await.is_err() {
        println!("skipped: no IPv6 here");
        return;
    }
    let running = start(config().listen("[::1]:0".parse().expect("an address"))).await;
    check_exchange(
        tcp(&running).await,
        tcp(&running).await,
        ProtocolVersion::V5,
    )
    .await;
    stop(running).await;
}

/// `publishers` send `count` numbered messages each; each publisher's come in order, none is lost.
async fn check_order(running: &Running, publishers: u32, count: u32) {
    let mut subscriber = Peer::join(tcp(running).await, ProtocolVersion::V5, "all").await;
    subscriber.subscribe("n/#", Qos::AtMostOnce).await;
    let mut senders = Vec::new();
    for index in 0..publishers {
        let stream = tcp(running).await;
        let name = format!("publisher-{index}");
        let mut peer = Peer::join(stream, ProtocolVersion::V3_1_1, &name).await;
        senders.push(tokio::spawn(async move {
            let mut bytes = Vec::new();
            for number in 0..count {
                let payload = number.to_be_bytes().to_vec();
                let topic = format!("n/{index}");
                bytes.extend(peer.encode(&publish(&topic, payload, Delivery::AtMostOnce)));
            }
            peer.stream
                .write_all(&bytes)
                .await
                .expect("the broker reads");
            peer
        }));
    }
    let mut next = vec![0; publishers as usize];
    for _ in 0..publishers * count {
        let Some(Packet::Publish(message)) = subscriber.receive().await else {
            panic!("a message comes");
        };
        let name = message
            .topic
            .name()
            .expect("no alias was allowed")
            .as_str()
            .to_owned();
        let publisher: usize = name[2..].parse().expect("a number");
        let number = u32::from_be_bytes(message.payload[..].try_into().expect("four bytes"));
        assert_eq!(number, next[publisher], "{name}");
        next[publisher] += 1;
    }
    for sender in senders {
        sender.await.expect("it sent everything");
    }
}

#[tokio::test]
async fn order_is_kept_on_one_thread() {
    let running = start(roomy(tcp_config())).await;
    check_order(&running, 4, 3_000).await;
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_is_kept_on_a_multi_threaded_runtime_with_two_flushers() {
    let mut config = roomy(tcp_config());
    config.threads = NonZeroUsize::new(2).expect("two");
    let running = start(config).await;
    check_order(&running, 4, 3_000).await;
    stop(running).await;
}

#[test]
fn order_is_kept_by_a_server_with_two_threads() {
    let mut config = roomy(tcp_config());
    config.threads = NonZeroUsize::new(2).expect("two");
    let (ready, is_ready) = mpsc::sync_channel(1);
    let (shut_down, shutdown) = oneshot::channel::<()>();
    let server = thread::spawn(move || {
        let on_ready = |running: &Running| {
            ready
                .send(running.local_addresses()[0])
                .expect("the test waits");
        };
        serve(config, on_ready, async {
            shutdown.await.unwrap_or_default()
        })
    });
    let address = is_ready.recv_timeout(PATIENCE).expect("it starts");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let connect = || async {
            tokio::net::TcpStream::connect(address)
                .await
                .expect("it listens")
        };
        for version in VERSIONS {
            check_exchange(connect().await, connect().await, version).await;
        }
        let mut first = Peer::join(connect().await, ProtocolVersion::V5, "first").await;
        first.subscribe("n", Qos::AtMostOnce).await;
        let mut second = Peer::join(connect().await, ProtocolVersion::V5, "second").await;
        let mut bytes = Vec::new();
        for number in 0..5_000_u32 {
            let payload = number.to_be_bytes().to_vec();
            bytes.extend(second.encode(&publish("n", payload, Delivery::AtMostOnce)));
        }
        second
            .stream
            .write_all(&bytes)
            .await
            .expect("the broker reads");
        for number in 0..5_000_u32 {
            let payload = first.message().await.expect("a message");
            assert_eq!(payload[..], number.to_be_bytes());
        }
    });
    shut_down.send(()).expect("the server waits");
    server.join().expect("no panic").expect("a clean end");
}

#[tokio::test]
async fn packets_behind_connect_in_one_write_are_served() {
    for version in VERSIONS {
        let running = start(tcp_config()).await;
        let mut peer = Peer::new(tcp(&running).await, version);
        let connect = Packet::Connect(Box::new(support::connect(version, "eager")));
        let mut bytes = peer.encode(&connect);
        bytes.extend(peer.encode(&support::subscribe("t", Qos::AtMostOnce)));
        bytes.extend(peer.encode(&publish("t", "x", Delivery::AtMostOnce)));
        peer.stream
            .write_all(&bytes)
            .await
            .expect("the broker reads");
        assert!(matches!(peer.receive().await, Some(Packet::ConnAck(_))));
        assert!(matches!(peer.receive().await, Some(Packet::SubAck(_))));
        assert_eq!(peer.message().await.as_deref(), Some(&b"x"[..]));
        stop(running).await;
    }
}

#[tokio::test]
async fn large_payloads_pass_whole() {
    let running = start(tcp_config()).await;
    let mut peer = Peer::join(tcp(&running).await, ProtocolVersion::V5, "large").await;
    peer.subscribe("t", Qos::AtMostOnce).await;
    for len in [4_095, 4_096, 65_535, 65_536, 1_000_000, 2_000_000] {
        let payload: Vec<u8> = (0..len)
            .map(|n: u32| n.to_le_bytes()[0] ^ n.to_le_bytes()[1])
            .collect();
        peer.send(&publish("t", payload.clone(), Delivery::AtMostOnce))
            .await;
        assert_eq!(
            peer.message().await.expect("it comes back")[..],
            payload,
            "{len}"
        );
    }
    stop(running).await;
}

#[tokio::test]
async fn second_connection_takes_the_session_over() {
    // [MQTT-3.1.4-3]
    let running = start(tcp_config()).await;
    let mut first = Peer::join(tcp(&running).await, ProtocolVersion::V5, "same").await;
    let mut second = Peer::join(tcp(&running).await, ProtocolVersion::V5, "same").await;
    let farewell = first.receive().await;
    assert!(
        matches!(&farewell, Some(Packet::Disconnect(packet))
            if packet.reason == DisconnectReason::SessionTakenOver),
        "{farewell:?}"
    );
    assert!(first.receive().await.is_none());
    second.send(&Packet::PingReq).await;
    assert!(matches!(second.receive().await, Some(Packet::PingResp)));
    stop(running).await;
}

#[tokio::test]
async fn malformed_packet_gets_its_reason_and_a_closed_socket() {
    let running = start(tcp_config()).await;
    let mut peer = Peer::join(tcp(&running).await, ProtocolVersion::V5, "rude").await;
    // QoS 3, with more behind it, which must not turn the farewell into a reset. [MQTT-3.3.1-4]
    let mut bytes = vec![0x36, 0x05, 0x00, 0x01, b't', 0x00, 0x01];
    bytes.extend([0xC0, 0x00].repeat(50_000));
    peer.stream
        .write_all(&bytes)
        .await
        .expect("the broker reads");
    let farewell = peer.receive().await;
    assert!(
        matches!(&farewell, Some(Packet::Disconnect(packet))
            if packet.reason == DisconnectReason::MalformedPacket),
        "{farewell:?}"
    );
    assert!(peer.receive().await.is_none());
    stop(running).await;
}
