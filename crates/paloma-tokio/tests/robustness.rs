//! Slow, silent, broken and rude clients, failing ports, and the end of everything.
#![allow(dead_code, reason = "each suite uses its part of the support module")]

mod support;

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use paloma_broker::store::{Committed, LoadRequest, Loaded, Recovered, StoreBatch, StoreError};
use paloma_broker::{
    Action, AuthOutcome, AuthRequest, Authenticator, Authorizer, ConnectionInfo, Grant, Identity,
    MemoryStore, Store,
};
use paloma_codec::{Delivery, DisconnectReason, Packet, ProtocolVersion, Qos};
use paloma_tokio::{Config, Failure, Listener, Running, serve};
use paloma_topic::{TopicFilterRef, TopicNameRef};
use support::{
    PATIENCE, Peer, VERSIONS, config, connect, duplex, id, publish, start, subscribe, tcp,
    tcp_config,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

const V5: ProtocolVersion = ProtocolVersion::V5;

async fn stop(running: Running) {
    timeout(PATIENCE, running.stop())
        .await
        .expect("it stops")
        .expect("it has not failed");
}

/// Two clients that exchange messages while others misbehave.
struct Canary {
    publisher: Peer<DuplexStream>,
    subscriber: Peer<DuplexStream>,
    sent: u32,
}

impl Canary {
    async fn new(running: &Running) -> Self {
        let mut subscriber = Peer::join(duplex(running), V5, "canary-subscriber").await;
        subscriber.subscribe("canary", Qos::AtLeastOnce).await;
        let publisher = Peer::join(duplex(running), V5, "canary-publisher").await;
        Self {
            publisher,
            subscriber,
            sent: 0,
        }
    }

    async fn sings(&mut self) {
        self.sent += 1;
        let delivery = Delivery::AtLeastOnce {
            id: id(1),
            dup: false,
        };
        let payload = self.sent.to_string();
        self.publisher
            .send(&publish("canary", payload.clone(), delivery))
            .await;
        assert_eq!(
            self.subscriber.message().await.expect("a message")[..],
            *payload.as_bytes()
        );
        assert!(matches!(
            self.publisher.receive().await,
            Some(Packet::PubAck(_))
        ));
    }
}

/// Waits until the broker has `count` connections.
async fn until_connections(running: &Running, count: usize) {
    let reached = async {
        while running.tables().connections != count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, reached).await.expect("the others go");
}

// ---- slow and silent ------------------------------------------------------------------------------------------------

async fn check_slow_reader<S: AsyncRead + AsyncWrite + Unpin>(running: Running, slow: S, fast: S) {
    let mut canary = Canary::new(&running).await;
    let mut slow = Peer::join(slow, V5, "slow").await;
    slow.subscribe("flood", Qos::AtMostOnce).await;
    let mut publisher = Peer::join(fast, V5, "fast").await;
    let packet = publisher.encode(&publish("flood", vec![7; 1_000], Delivery::AtMostOnce));
    let burst = packet.repeat(500);
    for _ in 0..60 {
        publisher
            .stream
            .write_all(&burst)
            .await
            .expect("the broker reads");
        canary.sings().await;
    }
    publisher.send(&Packet::PingReq).await;
    assert!(matches!(publisher.receive().await, Some(Packet::PingResp)));
    let accounting = running.accounting();
    assert!(
        accounting.dropped_total() > 0,
        "30 MB do not fit: {accounting:?}"
    );
    // Whoever wakes up gets what was kept, whole packets in order.
    for _ in 0..1_000 {
        assert_eq!(slow.message().await.expect("a message").len(), 1_000);
    }
    drop((slow, publisher, canary));
    stop(running).await;
}

#[tokio::test]
async fn slow_reader_never_blocks_a_publisher_over_tcp() {
    let running = start(tcp_config()).await;
    let (slow, fast) = (tcp(&running).await, tcp(&running).await);
    check_slow_reader(running, slow, fast).await;
}

#[tokio::test]
async fn slow_reader_never_blocks_a_publisher_within_the_process() {
    let running = start(config()).await;
    let (slow, fast) = (duplex(&running), duplex(&running));
    check_slow_reader(running, slow, fast).await;
}

#[tokio::test]
async fn reader_that_takes_nothing_for_long_is_cut() {
    let mut config = config();
    config.broker.limits.stall_timeout_ms = 100;
    let running = start(config).await;
    let mut canary = Canary::new(&running).await;
    let mut stalled = Peer::join(duplex(&running), V5, "stalled").await;
    stalled.subscribe("flood", Qos::AtMostOnce).await;
    for _ in 0..200 {
        let message = publish("flood", vec![7; 1_000], Delivery::AtMostOnce);
        canary.publisher.send(&message).await;
    }
    until_connections(&running, 2).await;
    assert_eq!(running.counts().stalled, 1);
    canary.sings().await;
    drop((canary, stalled));
    stop(running).await;
}

/// A connection that sends `bytes` and then nothing is closed.
async fn check_silent(bytes: &[u8]) {
    let running = start(config()).await;
    let mut peer = Peer::new(duplex(&running), V5);
    peer.stream
        .write_all(bytes)
        .await
        .expect("the broker reads");
    // The paused clock jumps to the broker's deadline. [MQTT-3.1.4-1]
    assert!(peer.receive().await.is_none());
    assert_eq!(running.tables().connections, 0);
    stop(running).await;
}

#[tokio::test(start_paused = true)]
async fn connection_without_connect_is_closed_in_time() {
    check_silent(&[]).await;
    check_silent(&[0x10]).await;
    check_silent(&[0x10, 0x20, 0x00, 0x04, b'M', b'Q']).await;
}

#[tokio::test(start_paused = true)]
async fn silent_client_is_sent_away_after_one_and_a_half_keep_alives() {
    // [MQTT-3.1.2-22]
    let running = start(config()).await;
    let mut peer = Peer::new(duplex(&running), V5);
    let mut hello = connect(V5, "silent");
    hello.keep_alive_seconds = 10;
    peer.send(&Packet::Connect(Box::new(hello))).await;
    assert!(matches!(peer.receive().await, Some(Packet::ConnAck(_))));
    let begin = tokio::time::Instant::now();
    let farewell = peer.receive().await;
    assert!(
        matches!(&farewell, Some(Packet::Disconnect(packet))
            if packet.reason == DisconnectReason::KeepAliveTimeout),
        "{farewell:?}"
    );
    assert!(begin.elapsed() >= Duration::from_secs(15), "not before");
    drop(peer);
    stop(running).await;
}

// ---- cuts -----------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn connections_cut_at_any_byte_leave_nothing_behind() {
    let running = start(config()).await;
    let mut canary = Canary::new(&running).await;
    for version in VERSIONS {
        let probe = Peer::new(tokio::io::empty(), version);
        let mut bytes = probe.encode(&Packet::Connect(Box::new(connect(version, "cut"))));
        bytes.extend(probe.encode(&subscribe("a/#", Qos::ExactlyOnce)));
        let delivery = Delivery::ExactlyOnce {
            id: id(3),
            dup: false,
        };
        bytes.extend(probe.encode(&publish("a/b", "x", delivery)));
        bytes.extend(probe.encode(&Packet::PingReq));
        for end in 0..=bytes.len() {
            let mut stream = duplex(&running);
            stream
                .write_all(&bytes[..end])
                .await
                .expect("the broker reads");
            if end % 2 == 0 {
                tokio::task::yield_now().await;
            }
            drop(stream);
        }
        canary.sings().await;
    }
    until_connections(&running, 2).await;
    assert_eq!(running.tables().sessions, 2);
    assert_eq!(running.counts().panics, 0);
    drop(canary);
    stop(running).await;
}

#[tokio::test]
async fn will_is_sent_when_the_socket_breaks_but_not_after_disconnect() {
    // [MQTT-3.1.2-8] [MQTT-3.14.4-3]
    let running = start(tcp_config()).await;
    let mut canary = Canary::new(&running).await;
    canary.subscriber.subscribe("will", Qos::AtMostOnce).await;
    for leaves in [true, false] {
        let mut peer = Peer::new(tcp(&running).await, V5);
        let mut hello = connect(V5, "mortal");
        let topic = paloma_topic::TopicName::new("will").expect("a valid topic");
        hello.will = Some(paloma_codec::Will::new(topic, "gone".into()));
        let mut bytes = peer.encode(&Packet::Connect(Box::new(hello)));
        if leaves {
            // Sent and closed before the broker has answered: its answer meets a closed socket.
            let farewell = paloma_codec::Disconnect::new(DisconnectReason::NormalDisconnection);
            bytes.extend(peer.encode(&Packet::Disconnect(Box::new(farewell))));
        }
        peer.stream
            .write_all(&bytes)
            .await
            .expect("the broker reads");
        drop(peer);
        if leaves {
            until_connections(&running, 2).await;
            canary.sings().await;
        }
    }
    assert_eq!(
        canary.subscriber.message().await.as_deref(),
        Some(&b"gone"[..])
    );
    drop(canary);
    stop(running).await;
}

// ---- limits on connections ------------------------------------------------------------------------------------------

#[tokio::test]
async fn connection_beyond_the_limit_is_closed_at_once() {
    let mut config = config();
    config.broker.limits.connections_max = 1;
    config = config.listen(([127, 0, 0, 1], 0).into());
    let running = start(config).await;
    let first = Peer::join(tcp(&running).await, V5, "first").await;
    let mut second = Peer::new(tcp(&running).await, V5);
    assert!(second.receive().await.is_none());
    assert_eq!(running.counts().refused, 1);
    drop(first);
    until_connections(&running, 0).await;
    drop(Peer::join(tcp(&running).await, V5, "third").await);
    stop(running).await;
}

#[tokio::test]
async fn listener_keeps_its_own_limit() {
    let mut config = config();
    let address = ([127, 0, 0, 1], 0).into();
    let mut narrow = Listener::tcp(address);
    narrow.connections_max = 1;
    config.listeners = vec![narrow, Listener::tcp(address)];
    let running = start(config).await;
    let first = Peer::join(tcp(&running).await, V5, "first").await;
    let mut second = Peer::new(tcp(&running).await, V5);
    assert!(second.receive().await.is_none());
    let stream = TcpStream::connect(running.local_addresses()[1])
        .await
        .expect("it listens");
    let third = Peer::join(stream, V5, "third").await;
    drop((first, third));
    stop(running).await;
}

// ---- panics ---------------------------------------------------------------------------------------------------------

/// A transport that panics once it is told to.
struct Explosive {
    inner: DuplexStream,
    in_read: Arc<AtomicBool>,
    in_write: Arc<AtomicBool>,
}

impl AsyncRead for Explosive {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        assert!(!self.in_read.load(Ordering::Relaxed), "told to");
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Explosive {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        assert!(!self.in_write.load(Ordering::Relaxed), "told to");
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

async fn check_panic_is_isolated(explodes_in_read: bool) {
    let running = start(config()).await;
    let mut canary = Canary::new(&running).await;
    let (client, inner) = tokio::io::duplex(1_024);
    let (in_read, in_write) = <(Arc<AtomicBool>, Arc<AtomicBool>)>::default();
    let transport = Explosive {
        inner,
        in_read: Arc::clone(&in_read),
        in_write: Arc::clone(&in_write),
    };
    running
        .attach(transport, ConnectionInfo::default())
        .expect("there is room");
    let mut victim = Peer::join(client, V5, "victim").await;
    victim.subscribe("canary", Qos::AtMostOnce).await;
    if explodes_in_read {
        in_read.store(true, Ordering::Relaxed);
        victim.send(&Packet::PingReq).await;
    } else {
        in_write.store(true, Ordering::Relaxed);
        canary.sings().await;
    }
    assert!(victim.receive().await.is_none());
    assert_eq!(running.counts().panics, 1);
    canary.sings().await;
    until_connections(&running, 2).await;
    drop(canary);
    stop(running).await;
}

#[tokio::test]
async fn panic_while_reading_ends_that_connection_only() {
    check_panic_is_isolated(true).await;
}

#[tokio::test]
async fn panic_while_writing_ends_that_connection_only() {
    check_panic_is_isolated(false).await;
}

/// Panics inside a turn.
#[derive(Debug)]
struct PanickingAuthorizer;

impl Authorizer for PanickingAuthorizer {
    fn is_allowed(&self, _: &Identity, _: &str, _: Action, _: TopicNameRef<'_>) -> bool {
        panic!("told to");
    }

    fn grant(&self, _: &Identity, _: &str, _: TopicFilterRef<'_>) -> Grant {
        panic!("told to");
    }
}

#[tokio::test]
async fn panic_inside_a_turn_ends_the_broker() {
    let mut config = config();
    config.broker.authorizer = Arc::new(PanickingAuthorizer);
    let running = start(config).await;
    assert!(running.ready().await.is_ok());
    let mut bystander = Peer::join(duplex(&running), V5, "bystander").await;
    let mut peer = Peer::join(duplex(&running), V5, "trigger").await;
    peer.send(&subscribe("t", Qos::AtMostOnce)).await;
    let failure = timeout(PATIENCE, running.failed()).await.expect("it fails");
    assert!(matches!(failure, Failure::Panicked));
    assert!(peer.receive().await.is_none());
    assert!(bystander.receive().await.is_none());
    assert!(running.connect().is_err());
    assert!(running.ready().await.is_err());
    let stopped = timeout(PATIENCE, running.stop()).await.expect("it stops");
    assert!(matches!(stopped, Err(Failure::Panicked)));
}

#[test]
fn server_whose_broker_fails_returns_the_error() {
    let mut config = config();
    config.broker.authorizer = Arc::new(PanickingAuthorizer);
    let on_ready = |running: &Running| {
        let stream = duplex(running);
        tokio::spawn(async move {
            let mut peer = Peer::join(stream, V5, "trigger").await;
            peer.send(&subscribe("t", Qos::AtMostOnce)).await;
            assert!(peer.receive().await.is_none());
        });
    };
    let error = serve(config, on_ready, std::future::pending()).expect_err("it failed");
    assert!(
        error.get_ref().is_some_and(|inner| inner.is::<Failure>()),
        "{error}"
    );
}

// ---- ports that wait and fail ---------------------------------------------------------------------------------------

/// Judges on another thread: one name is refused, one panics.
#[derive(Debug)]
struct Slow;

impl Authenticator for Slow {
    fn authenticate(&self, request: &AuthRequest) -> AuthOutcome {
        match &*request.client_id {
            "stranger" => AuthOutcome::Deny(paloma_codec::ConnAckReason::NotAuthorized),
            "bomb" => panic!("told to"),
            _ => AuthOutcome::allow(Identity::ANONYMOUS),
        }
    }
}

#[tokio::test]
async fn authenticator_may_take_its_time_and_may_break() {
    let mut config = config();
    config.authenticator = Arc::new(Slow);
    let running = start(config).await;
    // What is pipelined behind CONNECT waits for the outcome, whatever it is.
    let pipelined = |name: &str| {
        let mut peer = Peer::new(duplex(&running), V5);
        let mut bytes = peer.encode(&Packet::Connect(Box::new(connect(V5, name))));
        bytes.extend(peer.encode(&subscribe("t", Qos::AtMostOnce)));
        bytes.extend(peer.encode(&Packet::PingReq));
        async move {
            peer.stream
                .write_all(&bytes)
                .await
                .expect("the broker reads");
            peer
        }
    };
    let mut friend = pipelined("friend").await;
    assert!(matches!(friend.receive().await, Some(Packet::ConnAck(ack)) if !ack.reason.is_error()));
    assert!(matches!(friend.receive().await, Some(Packet::SubAck(_))));
    assert!(matches!(friend.receive().await, Some(Packet::PingResp)));
    for name in ["stranger", "bomb"] {
        let mut peer = pipelined(name).await;
        let answer = peer.receive().await;
        assert!(
            matches!(&answer, Some(Packet::ConnAck(ack)) if ack.reason.is_error()),
            "{name}"
        );
        assert!(peer.receive().await.is_none());
    }
    assert_eq!(running.counts().panics, 1);
    drop(friend);
    stop(running).await;
}

/// A store on a thread of its own, which commits when it is told to, and fails when it is told to.
#[derive(Clone, Debug, Default)]
struct Gate(Arc<(Mutex<GateState>, Condvar)>);

#[derive(Debug, Default, PartialEq, Eq)]
enum GateState {
    #[default]
    Open,
    Shut,
    Broken,
}

impl Gate {
    fn set(&self, state: GateState) {
        *self.0.0.lock().expect("nobody panicked") = state;
        self.0.1.notify_all();
    }
}

#[derive(Debug)]
struct GatedStore {
    gate: Gate,
    inner: MemoryStore,
}

impl Store for GatedStore {
    fn recover(&mut self, each: &mut dyn FnMut(Recovered)) -> Result<(), StoreError> {
        self.inner.recover(each)
    }

    fn commit(&mut self, group: &mut Vec<StoreBatch>) -> Result<Committed, StoreError> {
        let (state, changed) = &*self.gate.0;
        let state = state.lock().expect("nobody panicked");
        let state = changed
            .wait_while(state, |state| *state == GateState::Shut)
            .expect("nobody panicked");
        if *state == GateState::Broken {
            return Err(StoreError::Io(io::ErrorKind::Other.into()));
        }
        drop(state);
        self.inner.commit(group)
    }

    fn read_queue(&mut self, request: &LoadRequest) -> Result<Loaded, StoreError> {
        self.inner.read_queue(request)
    }
}

fn gated() -> (Config, Gate) {
    let gate = Gate::default();
    let mut config = config();
    config.store = Box::new(GatedStore {
        gate: gate.clone(),
        inner: MemoryStore::new(),
    });
    (config, gate)
}

/// A durable subscriber, so that acknowledgements to others promise something.
async fn durable<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> Peer<S> {
    let mut peer = Peer::new(stream, V5);
    let mut hello = connect(V5, "durable");
    hello.session_expiry_seconds = 3_600;
    peer.send(&Packet::Connect(Box::new(hello))).await;
    assert!(matches!(peer.receive().await, Some(Packet::ConnAck(_))));
    peer.subscribe("t", Qos::AtLeastOnce).await;
    peer
}

#[tokio::test]
async fn acknowledgement_waits_for_the_commit_and_nothing_else_does() {
    let (config, gate) = gated();
    let running = start(config).await;
    let subscriber = durable(duplex(&running)).await;
    let mut publisher = Peer::join(duplex(&running), V5, "publisher").await;
    gate.set(GateState::Shut);
    publisher
        .send(&publish(
            "t",
            "x",
            Delivery::AtLeastOnce {
                id: id(1),
                dup: false,
            },
        ))
        .await;
    publisher.send(&Packet::PingReq).await;
    assert!(matches!(publisher.receive().await, Some(Packet::PingResp)));
    assert!(publisher.is_silent().await);
    gate.set(GateState::Open);
    assert!(matches!(publisher.receive().await, Some(Packet::PubAck(_))));
    drop((publisher, subscriber));
    stop(running).await;
}

#[tokio::test]
async fn store_that_fails_ends_the_broker_without_the_acknowledgement() {
    let (config, gate) = gated();
    let running = start(config).await;
    let subscriber = durable(duplex(&running)).await;
    let mut publisher = Peer::join(duplex(&running), V5, "publisher").await;
    gate.set(GateState::Broken);
    publisher
        .send(&publish(
            "t",
            "x",
            Delivery::AtLeastOnce {
                id: id(1),
                dup: false,
            },
        ))
        .await;
    assert!(publisher.receive().await.is_none());
    let failure = timeout(PATIENCE, running.failed()).await.expect("it fails");
    assert!(matches!(failure, Failure::Store(_)), "{failure}");
    drop(subscriber);
    assert!(running.stop().await.is_err());
}

// ---- the end --------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn stop_takes_leave_of_everybody() {
    let running = start(tcp_config()).await;
    let mut new = Peer::join(tcp(&running).await, V5, "new").await;
    let mut old = Peer::join(tcp(&running).await, ProtocolVersion::V3_1_1, "old").await;
    let address = running.local_addresses()[0];
    let stopping = tokio::spawn(running.stop());
    let farewell = new.receive().await;
    assert!(
        matches!(&farewell, Some(Packet::Disconnect(packet))
            if packet.reason == DisconnectReason::ServerShuttingDown),
        "{farewell:?}"
    );
    assert!(new.receive().await.is_none());
    assert!(old.receive().await.is_none());
    drop((new, old));
    let stopped = timeout(PATIENCE, stopping)
        .await
        .expect("it stops")
        .expect("no panic");
    assert!(stopped.is_ok());
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn stop_does_not_wait_for_ever_for_a_reader_that_sleeps() {
    let mut config = config();
    config.stop_timeout = Duration::from_millis(50);
    let running = start(config).await;
    let mut sleeper = Peer::join(duplex(&running), V5, "sleeper").await;
    sleeper.subscribe("t", Qos::AtMostOnce).await;
    let mut publisher = Peer::join(duplex(&running), V5, "publisher").await;
    for _ in 0..100 {
        publisher
            .send(&publish("t", vec![0; 10_000], Delivery::AtMostOnce))
            .await;
    }
    stop(running).await;
    drop((sleeper, publisher));
}

#[tokio::test]
async fn dropping_a_broker_cuts_its_connections() {
    let running = start(tcp_config()).await;
    let mut peer = Peer::join(tcp(&running).await, V5, "peer").await;
    let mut pipe = Peer::join(duplex(&running), V5, "pipe").await;
    drop(running);
    assert!(peer.receive().await.is_none());
    assert!(pipe.receive().await.is_none());
}

#[tokio::test]
async fn listener_that_cannot_be_bound_stops_the_start() {
    let running = start(tcp_config()).await;
    let taken = running.local_addresses()[0];
    let error = paloma_tokio::Broker::start(config().listen(taken))
        .await
        .expect_err("it is taken");
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&taken.to_string()), "{error}");
    stop(running).await;
}
