//! A store on a thread of its own: groups, full and broken disks, a clean stop, another start.
#![allow(dead_code, reason = "each suite uses its part of the support module")]

mod support;

use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use paloma_broker::store::{
    Committed, LoadRequest, Loaded, Recovered, Rested, Space, StoreBatch, StoreError,
};
use paloma_broker::{MemoryStore, Store};
use paloma_codec::{Connect, Delivery, Packet, ProtocolVersion, PubAckReason, Qos};
use paloma_tokio::{Broker, Config, Failure, Running};
use support::{PATIENCE, Peer, config, connect, duplex, id, publish, start, tcp, tcp_config};
use tokio::io::DuplexStream;
use tokio::time::timeout;

const V5: ProtocolVersion = ProtocolVersion::V5;
const V311: ProtocolVersion = ProtocolVersion::V3_1_1;

/// A disk that does as it is told and outlives the brokers that use it.
#[derive(Clone, Debug)]
struct Disk(Arc<(Mutex<Platter>, Condvar)>);

#[derive(Debug)]
struct Platter {
    store: MemoryStore,
    /// Commits wait.
    is_stuck: bool,
    /// What commits and rests say of room.
    space: Space,
    /// Not even the reserve is left.
    is_out_of_space: bool,
    /// Reading fails.
    is_unreadable: bool,
    /// Batches of each commit.
    groups: Vec<usize>,
    /// Commits that were tried while there was no room at all.
    tries: usize,
    is_closed: bool,
}

impl Disk {
    fn new() -> Self {
        Self(Arc::new((
            Mutex::new(Platter {
                store: MemoryStore::recoverable(),
                is_stuck: false,
                space: Space::Free,
                is_out_of_space: false,
                is_unreadable: false,
                groups: Vec::new(),
                tries: 0,
                is_closed: false,
            }),
            Condvar::new(),
        )))
    }

    fn lock(&self) -> MutexGuard<'_, Platter> {
        self.0.0.lock().expect("nobody panicked")
    }

    fn set(&self, change: impl FnOnce(&mut Platter)) {
        change(&mut self.lock());
        self.0.1.notify_all();
    }

    fn config(&self) -> Config {
        let mut config = config();
        config.store = Box::new(self.clone());
        config
    }
}

impl Store for Disk {
    fn recover(&mut self, each: &mut dyn FnMut(Recovered)) -> Result<(), StoreError> {
        if self.lock().is_unreadable {
            return Err(StoreError::Corrupt("the first page"));
        }
        self.lock().store.recover(each)
    }

    fn commit(&mut self, group: &mut Vec<StoreBatch>) -> Result<Committed, StoreError> {
        let platter = self.lock();
        let mut platter = (self.0.1)
            .wait_while(platter, |platter| platter.is_stuck)
            .expect("nobody panicked");
        if platter.is_out_of_space {
            platter.tries += 1;
            return Err(StoreError::Full);
        }
        platter.groups.push(group.len());
        let committed = platter.store.commit(group)?;
        let space = platter.space;
        Ok(Committed { space, ..committed })
    }

    fn read_queue(&mut self, request: &LoadRequest) -> Result<Loaded, StoreError> {
        self.lock().store.read_queue(request)
    }

    fn rest(&mut self) -> Result<Rested, StoreError> {
        Ok(Rested {
            space: self.lock().space,
            again_after: Some(Duration::from_millis(10)),
        })
    }

    fn close(&mut self) -> Result<(), StoreError> {
        self.lock().is_closed = true;
        Ok(())
    }
}

async fn stop(running: Running) {
    timeout(PATIENCE, running.stop())
        .await
        .expect("it stops")
        .expect("it has not failed");
}

/// A client whose session lasts an hour; says whether it was there.
async fn durable(running: &Running, name: &str) -> (Peer<DuplexStream>, bool) {
    let mut peer = Peer::new(duplex(running), V5);
    let hello = Connect {
        clean_start: false,
        session_expiry_seconds: 3_600,
        ..connect(V5, name)
    };
    peer.send(&Packet::Connect(Box::new(hello))).await;
    let Some(Packet::ConnAck(ack)) = peer.receive().await else {
        panic!("no CONNACK")
    };
    (peer, ack.session_present)
}

fn at_least_once(payload: &str, packet: u16) -> Packet {
    let delivery = Delivery::AtLeastOnce {
        id: id(packet),
        dup: false,
    };
    publish("t", payload.as_bytes().to_vec(), delivery)
}

async fn reason(peer: &mut Peer<DuplexStream>) -> PubAckReason {
    match peer.receive().await {
        Some(Packet::PubAck(ack)) => ack.reason,
        other => panic!("expected PUBACK, got {other:?}"),
    }
}

/// A broker on the disk, with an absent subscriber of `t` and a publisher.
async fn absent(disk: &Disk, version: ProtocolVersion) -> (Running, Peer<DuplexStream>) {
    let mut config = disk.config();
    config.listeners = tcp_config().listeners;
    let running = start(config).await;
    let (mut subscriber, _) = durable(&running, "s").await;
    subscriber.subscribe("t", Qos::AtLeastOnce).await;
    drop(subscriber);
    let gone = async {
        while running.tables().connections != 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, gone).await.expect("it is noticed");
    let publisher = Peer::join(duplex(&running), version, "p").await;
    (running, publisher)
}

#[tokio::test]
async fn everything_that_waits_is_one_commit() {
    let disk = Disk::new();
    let (running, mut publisher) = absent(&disk, V5).await;
    disk.set(|platter| platter.is_stuck = true);
    // One commit is under way and stuck; what comes meanwhile waits for the next.
    for packet in 1..=20 {
        publisher.send(&at_least_once("x", packet)).await;
        publisher.send(&Packet::PingReq).await;
        assert!(matches!(publisher.receive().await, Some(Packet::PingResp)));
    }
    disk.set(|platter| {
        platter.groups.clear();
        platter.is_stuck = false;
    });
    for _ in 0..20 {
        assert_eq!(reason(&mut publisher).await, PubAckReason::Success);
    }
    let groups = disk.lock().groups.clone();
    assert!(groups.len() <= 3, "{groups:?}");
    assert!(groups.iter().sum::<usize>() >= 19, "{groups:?}");
    let statistics = running.monitor().statistics().store;
    assert!(
        statistics.commits > 0 && statistics.group_max >= 10,
        "{statistics:?}"
    );
    assert_eq!(statistics.commit_time.count(), statistics.commits);
    drop(publisher);
    stop(running).await;
}

#[tokio::test]
async fn who_waits_alone_is_answered_whatever_its_thread_is_doing() {
    let disk = Disk::new();
    let (running, _other) = absent(&disk, V311).await;
    let mut publisher = Peer::join(tcp(&running).await, V311, "alone").await;
    disk.set(|platter| platter.is_stuck = true);
    publisher.send(&at_least_once("x", 7)).await;
    publisher.send(&Packet::PingReq).await;
    assert!(matches!(publisher.receive().await, Some(Packet::PingResp)));
    let mut stream = publisher.stream.into_std().expect("it is open");
    stream.set_nonblocking(false).expect("it is open");
    stream.set_read_timeout(Some(PATIENCE)).expect("it is open");
    disk.set(|platter| platter.is_stuck = false);
    // All tasks of the broker belong to this thread, which does nothing but this.
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).expect("it comes");
    assert_eq!(answer, [0x40, 2, 0, 7]);
    stop(running).await;
}

#[tokio::test]
async fn what_nobody_waits_for_rides_along() {
    let disk = Disk::new();
    let running = start(disk.config()).await;
    let (mut subscriber, _) = durable(&running, "s").await;
    subscriber.subscribe("t", Qos::AtLeastOnce).await;
    let mut publisher = Peer::join(duplex(&running), V5, "p").await;
    let before = disk.lock().groups.len();
    for packet in 1..=50 {
        publisher.send(&at_least_once("x", packet)).await;
        assert_eq!(reason(&mut publisher).await, PubAckReason::Success);
        // Its acknowledgement is a turn of its own.
        assert_eq!(subscriber.message().await.as_deref(), Some(&b"x"[..]));
    }
    let groups = disk.lock().groups[before..].to_vec();
    // A commit for each message, and hardly one for an acknowledgement: machines that stall make some.
    assert!(groups.len() < 90, "{groups:?}");
    // In the end they are committed by themselves.
    while disk.lock().store.message_count() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop((publisher, subscriber));
    stop(running).await;
}

#[tokio::test]
async fn another_broker_goes_on_where_this_one_stopped() {
    let disk = Disk::new();
    let (running, mut publisher) = absent(&disk, V5).await;
    publisher.send(&at_least_once("kept", 1)).await;
    assert_eq!(reason(&mut publisher).await, PubAckReason::Success);
    drop(publisher);
    stop(running).await;
    assert!(disk.lock().is_closed);
    let running = start(disk.config()).await;
    let (mut subscriber, is_present) = durable(&running, "s").await;
    assert!(is_present);
    assert_eq!(subscriber.message().await.as_deref(), Some(&b"kept"[..]));
    drop(subscriber);
    stop(running).await;
}

#[tokio::test]
async fn a_full_store_refuses_what_it_would_keep_until_there_is_room() {
    let disk = Disk::new();
    let (running, mut publisher) = absent(&disk, V5).await;
    disk.set(|platter| platter.space = Space::Full);
    while !running.monitor().statistics().store.is_full {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    publisher.send(&at_least_once("refused", 1)).await;
    assert_eq!(reason(&mut publisher).await, PubAckReason::QuotaExceeded);
    // Nobody keeps this one.
    let elsewhere = Delivery::AtLeastOnce {
        id: id(2),
        dup: false,
    };
    publisher.send(&publish("u", "x", elsewhere)).await;
    assert_eq!(
        reason(&mut publisher).await,
        PubAckReason::NoMatchingSubscribers
    );
    disk.set(|platter| platter.space = Space::Free);
    while running.monitor().statistics().store.is_full {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    publisher.send(&at_least_once("taken", 3)).await;
    assert_eq!(reason(&mut publisher).await, PubAckReason::Success);
    assert_eq!(running.accounting().store_refused, 1);
    drop(publisher);
    stop(running).await;
}

#[tokio::test]
async fn a_client_that_cannot_be_refused_is_held_until_there_is_room() {
    let disk = Disk::new();
    let (running, mut publisher) = absent(&disk, V311).await;
    disk.set(|platter| platter.space = Space::Full);
    while !running.monitor().statistics().store.is_full {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    publisher.send(&at_least_once("held", 1)).await;
    publisher.send(&at_least_once("behind it", 2)).await;
    assert!(publisher.is_silent().await);
    disk.set(|platter| platter.space = Space::Free);
    for packet in 1..=2 {
        let Some(Packet::PubAck(ack)) = publisher.receive().await else {
            panic!("no PUBACK")
        };
        assert_eq!(ack.id, id(packet));
    }
    let (mut subscriber, _) = durable(&running, "s").await;
    assert_eq!(subscriber.message().await.as_deref(), Some(&b"held"[..]));
    assert_eq!(
        subscriber.message().await.as_deref(),
        Some(&b"behind it"[..])
    );
    drop((publisher, subscriber));
    stop(running).await;
}

#[tokio::test]
async fn a_group_that_finds_no_room_at_all_is_offered_again_and_nothing_is_acknowledged_meanwhile()
{
    let disk = Disk::new();
    let (running, mut publisher) = absent(&disk, V5).await;
    disk.set(|platter| platter.is_out_of_space = true);
    publisher.send(&at_least_once("x", 1)).await;
    while disk.lock().tries == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(publisher.is_silent().await);
    assert!(running.monitor().statistics().store.is_full);
    disk.set(|platter| platter.is_out_of_space = false);
    assert_eq!(reason(&mut publisher).await, PubAckReason::Success);
    drop(publisher);
    stop(running).await;
}

#[tokio::test]
async fn a_stop_without_room_for_what_was_taken_in_is_a_failure() {
    let disk = Disk::new();
    let (running, publisher) = absent(&disk, V5).await;
    disk.set(|platter| platter.is_out_of_space = true);
    drop(publisher);
    let mut peer = Peer::new(duplex(&running), V5);
    let hello = Connect {
        session_expiry_seconds: 9,
        ..connect(V5, "late")
    };
    peer.send(&Packet::Connect(Box::new(hello))).await;
    while disk.lock().tries == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(peer);
    let stopped = timeout(PATIENCE, running.stop()).await.expect("it stops");
    assert!(matches!(stopped, Err(Failure::Store(_))), "{stopped:?}");
}

#[tokio::test]
async fn a_store_that_cannot_be_read_stops_the_start() {
    let disk = Disk::new();
    disk.set(|platter| platter.is_unreadable = true);
    let error = Broker::start(disk.config())
        .await
        .expect_err("it is broken");
    assert!(error.to_string().contains("the first page"), "{error}");
}
