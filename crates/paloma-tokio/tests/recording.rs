//! A record of a broker drives another core to the same state, says when it cannot, and holds no secrets.
#![allow(dead_code, reason = "each suite uses its part of the support module")]
#![expect(
    clippy::unwrap_used,
    reason = "what should not happen may panic in a test"
)]

mod support;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use paloma_broker::store::{Committed, LoadRequest, Loaded, Recovered, StoreBatch, StoreError};
use paloma_broker::{
    Action, Admission, AuthOutcome, AuthRequest, Authenticator, Authorizer, Grant, Identity,
    MemoryStore, Obstacle, Store,
};
use paloma_codec::{
    Ack, ConnAckReason, Connect, Delivery, Packet, ProtocolVersion, PubAckReason, PubCompReason,
    PubRelReason, Publish, Qos, Secret, TopicAlias, Will,
};
use paloma_record::{RecordError, Replay, ReplayError};
use paloma_tokio::{Config, Record, Running};
use paloma_topic::{TopicFilterRef, TopicName, TopicNameRef};
use tokio::io::{AsyncWriteExt, DuplexStream};

use support::{PATIENCE, Peer, config, connect, duplex, id, publish, start, subscribe};

const V5: ProtocolVersion = ProtocolVersion::V5;
const V311: ProtocolVersion = ProtocolVersion::V3_1_1;

/// Words that stand in payloads and passwords only.
const SECRETS: [&str; 3] = ["the-payload", "the-password", "the-last-will"];

/// A file that no other test has.
fn file(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.record"));
    for old in [path.clone(), path.with_extension("record.old")] {
        let _ = std::fs::remove_file(old);
    }
    path
}

fn recorded(mut config: Config, path: &Path) -> Config {
    config.record = Some(Record::new(path.to_owned()));
    config
}

/// Replays all of a record; gives the replay as it is then and how many steps it took.
fn replay(record: &[u8]) -> (Replay<'_>, u64) {
    let mut replay = Replay::new(record).expect("it is a record");
    let mut steps = 0;
    while let Some(step) = replay.step().unwrap_or_else(|error| panic!("{error}")) {
        steps = step.number;
    }
    assert!(replay.checks() > 0, "hashes were compared");
    (replay, steps)
}

/// A store that outlives brokers, and answers at once or by a thread.
#[derive(Clone, Debug)]
struct Disk(Arc<Mutex<MemoryStore>>, bool);

impl Store for Disk {
    fn recover(&mut self, each: &mut dyn FnMut(Recovered)) -> Result<(), StoreError> {
        self.0.lock().unwrap().recover(each)
    }

    fn commit(&mut self, group: &mut Vec<StoreBatch>) -> Result<Committed, StoreError> {
        self.0.lock().unwrap().commit(group)
    }

    fn read_queue(&mut self, request: &LoadRequest) -> Result<Loaded, StoreError> {
        self.0.lock().unwrap().read_queue(request)
    }

    fn is_blocking(&self) -> bool {
        self.1
    }
}

/// Lets in who knows the password, some with rules of their own.
#[derive(Debug)]
struct Door(Arc<Rules>);

impl Authenticator for Door {
    fn authenticate(&self, request: &AuthRequest) -> AuthOutcome {
        if request.password.as_deref() != Some(b"the-password".as_slice()) {
            return AuthOutcome::Deny(ConnAckReason::BadUserNameOrPassword);
        }
        let mut admission = Admission::of(Identity {
            user: request.username.clone(),
        });
        if request.username.as_deref() == Some("own") {
            admission.rules = Some(Arc::<Rules>::clone(&self.0));
        }
        AuthOutcome::Allow(Box::new(admission))
    }

    fn is_blocking(&self) -> bool {
        false
    }
}

/// Nobody may read `secret`, from the first epoch on.
#[derive(Debug, Default)]
struct Rules(AtomicU16);

impl Authorizer for Rules {
    fn is_allowed(&self, _: &Identity, _: &str, action: Action, topic: TopicNameRef<'_>) -> bool {
        self.epoch() == 0 || action == Action::Write || topic.as_str() != "secret"
    }

    fn grant(&self, _: &Identity, _: &str, _: TopicFilterRef<'_>) -> Grant {
        Grant::CheckEach
    }

    fn epoch(&self) -> u16 {
        self.0.load(Ordering::SeqCst)
    }
}

async fn join(running: &Running, connect: Connect) -> Peer<DuplexStream> {
    let mut peer = Peer::new(duplex(running), connect.version);
    peer.send(&Packet::Connect(Box::new(connect))).await;
    assert!(matches!(peer.receive().await, Some(Packet::ConnAck(_))));
    peer
}

fn durable(version: ProtocolVersion, client_id: &str) -> Connect {
    Connect {
        clean_start: false,
        session_expiry_seconds: if version == V5 { 3_600 } else { u32::MAX },
        username: Some("somebody".into()),
        password: Some(Secret::from("the-password")),
        ..connect(version, client_id)
    }
}

fn at_least_once(number: u16) -> Delivery {
    Delivery::AtLeastOnce {
        id: id(number),
        dup: false,
    }
}

/// Acknowledges a message of QoS 1.
async fn answer(peer: &mut Peer<DuplexStream>, packet: &Packet) {
    if let Packet::Publish(publish) = packet
        && let Delivery::AtLeastOnce { id, .. } = publish.delivery
    {
        peer.send(&Packet::PubAck(Ack::new(id, PubAckReason::Success)))
            .await;
    }
}

/// Subscribes; what comes before the answer was waiting since the run before.
async fn take_up(peer: &mut Peer<DuplexStream>, filter: &str, qos: Qos) {
    peer.send(&subscribe(filter, qos)).await;
    while let Some(packet) = peer.receive().await {
        if matches!(packet, Packet::SubAck(_)) {
            return;
        }
        answer(peer, &packet).await;
    }
}

/// Something of everything: every QoS, both versions, wills, retained and large messages, an alias, a shared subscription, an
/// assigned client id, a refusal, bytes that are no packet, a queue that is longer than what memory takes.
async fn play(running: &Running) {
    let mut old = join(running, durable(V311, "old")).await;
    take_up(&mut old, "a/#", Qos::AtLeastOnce).await;
    let mut new = join(running, durable(V5, "new")).await;
    take_up(&mut new, "a/+", Qos::ExactlyOnce).await;
    take_up(&mut new, "$share/g/a/b", Qos::AtMostOnce).await;
    let will = Will::new(
        TopicName::new("a/will").unwrap(),
        Bytes::from("the-last-will"),
    );
    let mut writer = join(
        running,
        Connect {
            will: Some(will),
            client_id: "".into(),
            ..durable(V5, "")
        },
    )
    .await;
    let alias = TopicAlias::new(1).unwrap();
    for number in 1..4 {
        let mut message = Publish::new(TopicName::new("a/b").unwrap(), Bytes::from("the-payload"));
        message.topic = paloma_codec::PublishTopic::Define {
            name: TopicName::new("a/b").unwrap(),
            alias,
        };
        message.delivery = at_least_once(number);
        message.retain = number == 2;
        writer.send(&Packet::Publish(Box::new(message))).await;
        assert!(matches!(writer.receive().await, Some(Packet::PubAck(_))));
    }
    let large = vec![b'x'; 20_000];
    writer
        .send(&publish("a/c", large, Delivery::AtMostOnce))
        .await;
    let twice = Delivery::ExactlyOnce {
        id: id(9),
        dup: false,
    };
    writer.send(&publish("a/d", "the-payload", twice)).await;
    assert!(matches!(writer.receive().await, Some(Packet::PubRec(_))));
    writer
        .send(&Packet::PubRel(Ack::new(id(9), PubRelReason::Success)))
        .await;
    let complete = Packet::PubComp(Ack::new(id(9), PubCompReason::Success));
    assert_eq!(writer.receive().await, Some(complete));
    // Acknowledged here, and left unacknowledged there.
    for _ in 0..3 {
        let packet = old.receive().await.expect("three messages are there");
        answer(&mut old, &packet).await;
    }
    drop(old);
    drop(new);
    let mut stranger = Peer::new(duplex(running), V5);
    stranger
        .send(&Packet::Connect(Box::new(connect(V5, "stranger"))))
        .await;
    drop(stranger.receive().await);
    let mut broken = duplex(running);
    broken.write_all(b"\x10\xff\xff\xff\xff\xff").await.unwrap();
    for number in 10..40 {
        writer
            .send(&publish("a/b", "the-payload", at_least_once(number)))
            .await;
        assert!(matches!(writer.receive().await, Some(Packet::PubAck(_))));
    }
    drop(writer);
    let mut old = join(running, durable(V311, "old")).await;
    while !old.is_silent().await {}
}

#[tokio::test]
async fn a_record_replays_to_the_same_outputs() {
    for (name, is_blocking) in [("at-once", false), ("by-thread", true)] {
        let path = file(name);
        let store = Disk(
            Arc::new(Mutex::new(MemoryStore::recoverable())),
            is_blocking,
        );
        let rules = Arc::new(Rules::default());
        for run in 0..2 {
            let mut config = recorded(config(), &path);
            config.broker.limits.queue_memory_messages_max = 8;
            config.broker.sys_interval_seconds = 1;
            config.store = Box::new(store.clone());
            config.authenticator = Arc::new(Door(Arc::clone(&rules)));
            config.broker.authorizer = Arc::<Rules>::clone(&rules);
            let running = start(config).await;
            play(&running).await;
            let own = Connect {
                username: Some("own".into()),
                ..durable(V5, "own")
            };
            let mut own = join(&running, own).await;
            take_up(&mut own, "#", Qos::AtMostOnce).await;
            rules.0.fetch_add(1, Ordering::SeqCst);
            running.rules_changed();
            let clients = running.control().clients();
            let own_rules = clients.iter().find_map(|client| client.rules.clone());
            assert!(own_rules.is_some_and(|shown| {
                std::ptr::addr_eq(Arc::as_ptr(&shown), Arc::as_ptr(&rules))
            }));
            own.send(&publish("secret", "the-payload", Delivery::AtMostOnce))
                .await;
            own.send(&publish("open", "the-payload", Delivery::AtMostOnce))
                .await;
            let is_open = |packet: &Packet| matches!(packet, Packet::Publish(publish) if publish.topic.name().is_some_and(|name| name.as_str() == "open"));
            while !own.receive().await.is_some_and(|packet| is_open(&packet)) {}
            let live = running.control().explain("own", "secret").unwrap();
            assert_eq!(live.obstacles, [Obstacle::NotAuthorized]);
            let accounting = running.accounting();
            running.stop().await.unwrap();
            let record = std::fs::read(&path).unwrap();
            let (replayed, steps) = replay(&record);
            assert!(steps > 100, "{name}, run {run}: {steps} steps");
            let end = replayed.broker().accounting();
            assert!(end.copies >= accounting.copies, "{name}, run {run}");
            for secret in SECRETS {
                let is_there = record
                    .windows(secret.len())
                    .any(|part| part == secret.as_bytes());
                assert!(!is_there, "{secret} is in the record");
            }
        }
        assert!(path.with_extension("record.old").exists());
    }
}

#[tokio::test]
async fn payloads_and_passwords_are_recorded_if_they_are_asked_for() {
    let path = file("with-secrets");
    let mut record = Record::new(path.clone());
    record.with_secrets = true;
    let mut config = config();
    config.authenticator = Arc::new(Door(Arc::default()));
    config.record = Some(record);
    let running = start(config).await;
    play(&running).await;
    running.stop().await.unwrap();
    let record = std::fs::read(&path).unwrap();
    replay(&record);
    for secret in SECRETS {
        let is_there = record
            .windows(secret.len())
            .any(|part| part == secret.as_bytes());
        assert!(is_there, "{secret}");
    }
}

/// Waits until the broker has counted the end of a record.
async fn wait_for_end(running: &Running) {
    let is_over = async {
        while running.counts().records_ended == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, is_over).await.unwrap();
}

#[tokio::test]
async fn a_record_that_is_full_ends_and_the_broker_goes_on() {
    let path = file("full");
    let mut record = Record::new(path.clone());
    record.bytes_max = 16 * 1024;
    let mut config = config();
    config.record = Some(record);
    let running = start(config).await;
    let mut peer = Peer::join(duplex(&running), V5, "one").await;
    peer.subscribe("t", Qos::AtMostOnce).await;
    for _ in 0..2_000 {
        peer.send(&publish("t", "x", Delivery::AtMostOnce)).await;
        assert!(peer.message().await.is_some());
    }
    wait_for_end(&running).await;
    peer.send(&publish("t", "x", Delivery::AtMostOnce)).await;
    assert!(peer.message().await.is_some());
    running.stop().await.unwrap();
    let record = std::fs::read(&path).unwrap();
    assert!(record.len() < 32 * 1024, "{} bytes", record.len());
    let (replayed, _) = replay(&record);
    assert_eq!(replayed.ended(), Some(paloma_record::Ended::Full));
}

#[tokio::test]
async fn a_record_that_is_cut_or_damaged_is_replayed_up_to_there() {
    let path = file("cut");
    let running = start(recorded(config(), &path)).await;
    let mut peer = Peer::join(duplex(&running), V5, "one").await;
    peer.subscribe("t", Qos::AtMostOnce).await;
    running.stop().await.unwrap();
    let record = std::fs::read(&path).unwrap();
    let last = |record: &[u8]| -> Result<u64, ReplayError> {
        let mut replay = Replay::new(record)?;
        let mut steps = 0;
        while let Some(step) = replay.step()? {
            steps = step.number;
        }
        Ok(steps)
    };
    assert!(last(&record).is_ok());
    for end in 0..record.len() {
        // What is whole is replayed; nothing panics, and nothing is made up.
        if let Err(error) = last(&record[..end]) {
            assert!(matches!(error, ReplayError::Record(_)), "{end}: {error}");
        }
    }
    let mut flipped = record;
    let at = flipped.len() - 1;
    flipped[at] ^= 1;
    let error = last(&flipped).unwrap_err();
    assert!(matches!(
        error,
        ReplayError::Record(RecordError::Checksum { .. })
    ));
}

#[tokio::test]
async fn a_replay_says_why_a_client_got_nothing() {
    let path = file("why-not");
    let rules = Arc::new(Rules(AtomicU16::new(1)));
    let mut config = recorded(config(), &path);
    config.broker.authorizer = Arc::<Rules>::clone(&rules);
    let running = start(config).await;
    let mut reader = Peer::join(duplex(&running), V5, "reader").await;
    reader.subscribe("#", Qos::AtMostOnce).await;
    let message = publish("secret", "x", Delivery::AtMostOnce);
    reader.send(&message).await;
    reader.send(&Packet::PingReq).await;
    assert_eq!(reader.receive().await, Some(Packet::PingResp));
    reader.send(&subscribe("other", Qos::AtMostOnce)).await;
    assert!(matches!(reader.receive().await, Some(Packet::SubAck(_))));
    running.stop().await.unwrap();
    let record = std::fs::read(&path).unwrap();
    let mut replay = Replay::new(&record).unwrap();
    replay.watch("reader", "secret");
    let mut before_stop = None;
    let secret = TopicNameRef::new("secret").unwrap();
    while let Some(step) = replay.step().unwrap() {
        let is_stop = step.lines.iter().any(|line| line.ends_with("is to stop"));
        if is_stop {
            break;
        }
        before_stop = Some(replay.explain("reader", secret));
    }
    let (explanation, is_certain) = before_stop.unwrap();
    assert!(is_certain);
    assert_eq!(explanation.obstacles, [Obstacle::NotAuthorized]);
    assert_eq!(explanation.filters, 2);
}
