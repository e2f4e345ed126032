//! Damage of a store's file: it is refused, or recovered without a message that was never put.
//!
//! The bytes are edits of a file that holds something of everything, and of the log beside it, both halves of which hold more: 4 bytes of place,
//! 1 of kind, 1 of value each. The highest bit of a kind says that it is the log's.

use std::collections::BTreeSet;
use std::panic;
use std::sync::{Arc, Once, OnceLock};

use paloma_broker::store::{
    FlightState, LoadRequest, MessageId, Owner, QueueEntry, Recovered, RetainedRecord, SessionId,
    SessionRecord, Store, StoreBatch, StoreOp, SubscriptionRecord, WillRecord,
};
use paloma_codec::{Message, MessageParts, PacketId, PublishProperties, Qos};
use paloma_session::{LogSeq, Wall};
use paloma_store_redb::disk::sim::SimDisk;
use paloma_store_redb::{OpenError, Options, RedbStore};
use paloma_topic::TopicNameRef;

/// Edits of one input.
const EDITS_MAX: usize = 16;

/// Damages the file, opens it and reads everything.
pub fn run(data: &[u8]) {
    let_panics_be_caught();
    let Original {
        file,
        log,
        messages,
    } = original();
    let (mut file, mut log) = (file.clone(), log.clone());
    for edit in data.chunks_exact(6).take(EDITS_MAX) {
        let is_of_log = edit.get(4).is_some_and(|kind| kind & 0x80 != 0);
        damage(if is_of_log { &mut log } else { &mut file }, edit);
    }
    let disk = SimDisk::with_files(&file, &log, 1);
    let Ok(mut store) = open(&disk) else {
        return;
    };
    let mut found = Vec::new();
    let mut sessions = Vec::new();
    let recovered = store.recover(&mut |recovered| match recovered {
        Recovered::Session(id, _) => sessions.push(id),
        Recovered::Will(_, will) => found.push(will.message),
        Recovered::Retained(record) => found.push(record.message),
        Recovered::FanOut(_, message, _) => found.push(message),
        Recovered::Flight(_, flight) => {
            if let FlightState::Assigned(message) = flight.state {
                found.push(message);
            }
        }
        Recovered::Mark(_)
        | Recovered::Subscription(..)
        | Recovered::Received(..)
        | Recovered::Queue(..)
        | Recovered::Lost(_) => {}
    });
    if recovered.is_err() {
        return;
    }
    for session in sessions {
        let request = LoadRequest {
            session,
            after: MessageId(0),
            count: 1_000,
            bytes: u32::MAX,
        };
        let Ok(loaded) = store.read_queue(&request) else {
            return;
        };
        found.extend(loaded.entries.into_iter().map(|(_, message)| message));
    }
    for message in found {
        assert!(
            messages.contains(message.as_bytes()),
            "{message:?} was never put"
        );
    }
    // It goes on working, or says that it does not.
    let batch = StoreBatch {
        ops: vec![StoreOp::DeleteSession(SessionId(1))],
        ..StoreBatch::default()
    };
    if store.commit(&mut vec![batch]).is_ok() {
        let _ = store.close();
    }
}

/// A damaged file may have the engine panic, which the store takes for damage. libFuzzer's hook ends the process before it
/// can; what nobody catches is a finding without that hook too.
fn let_panics_be_caught() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| panic::set_hook(Box::new(|panic| eprintln!("{panic}"))));
}

fn damage(file: &mut Vec<u8>, edit: &[u8]) {
    let &[a, b, c, d, kind, value] = edit else {
        return;
    };
    let place = u32::from_le_bytes([a, b, c, d]) as usize % file.len().max(1);
    match kind % 4 {
        0 => {
            if let Some(byte) = file.get_mut(place) {
                *byte ^= 1 << (value % 8);
            }
        }
        1 => {
            if let Some(byte) = file.get_mut(place) {
                *byte = value;
            }
        }
        2 => file.truncate(place.max(1)),
        _ => {
            // A page of another place.
            let (to, from) = (place / 4_096, usize::from(value));
            if (to.max(from) + 1) * 4_096 <= file.len() {
                file.copy_within(from * 4_096..(from + 1) * 4_096, to * 4_096);
            }
        }
    }
}

fn options() -> Options {
    Options {
        reserve_bytes: 0,
        // Of what there is a quarter goes to the file, and the rest is in both halves.
        log_bytes: 64 << 10,
        cache_bytes: 1 << 20,
        ..Options::default()
    }
}

fn message(id: u64, payload: &[u8]) -> Message {
    let parts = MessageParts {
        id,
        stamp: id,
        topic: TopicNameRef::new("a/b").expect("it is a topic"),
        properties: &PublishProperties::default(),
        payload,
    };
    Message::new(&parts, &mut Vec::new()).expect("it has no properties")
}

fn open(disk: &SimDisk) -> Result<RedbStore, OpenError> {
    let log = Arc::new(disk.log());
    RedbStore::on_disk(Arc::new(disk.clone()), Some(log), &options())
}

/// Files with something of everything, and every message that was ever put.
struct Original {
    file: Vec<u8>,
    log: Vec<u8>,
    messages: BTreeSet<Vec<u8>>,
}

fn original() -> &'static Original {
    static ORIGINAL: OnceLock<Original> = OnceLock::new();
    ORIGINAL.get_or_init(|| {
        let disk = SimDisk::new(1);
        let mut store = open(&disk).expect("the disk is empty");
        let mut messages = BTreeSet::new();
        let mut commit = |store: &mut RedbStore, ops: Vec<StoreOp>| {
            for op in &ops {
                match op {
                    StoreOp::PutMessage(message) => messages.insert(message.as_bytes().to_vec()),
                    StoreOp::PutWill(_, will) => messages.insert(will.message.as_bytes().to_vec()),
                    _ => false,
                };
            }
            let batch = StoreBatch {
                seq: LogSeq(1),
                ops,
                ..StoreBatch::default()
            };
            store.commit(&mut vec![batch]).expect("the disk works");
        };
        commit(&mut store, (1..20).flat_map(session).collect());
        for id in 1..200 {
            commit(&mut store, publish(id));
            if id == 100 {
                store.take_over();
            }
        }
        Original {
            file: disk.to_bytes(),
            log: disk.log().to_bytes(),
            messages,
        }
    })
}

fn session(id: u64) -> Vec<StoreOp> {
    let session = SessionId(id);
    let record = SessionRecord {
        owner: Owner {
            client_id: format!("client-{id}").into(),
            ..Owner::default()
        },
        expiry_seconds: 60,
        disconnected_at: Some(Wall::from_millis(id)),
        maybe_sent: MessageId(id),
    };
    let subscription = SubscriptionRecord {
        filter: format!("filter/{id}/#").into(),
        options: 1,
        id: None,
        replay_after: id
            .is_multiple_of(2)
            .then(|| format!("filter/{id}/a").into()),
    };
    let will = WillRecord {
        message: message(0, &[7; 40]),
        qos: Qos::AtLeastOnce,
        retain: false,
        delay_seconds: 1,
        due_at: None,
    };
    let received = PacketId::new(7).expect("it is not zero");
    vec![
        StoreOp::PutSession(session, record),
        StoreOp::PutSubscription(session, subscription),
        StoreOp::PutWill(session, will),
        StoreOp::PutReceived(session, received),
    ]
}

fn publish(id: u64) -> Vec<StoreOp> {
    let payload = vec![id as u8; (id * 37 % 700) as usize];
    let message = message(id, &payload);
    let mut ops = vec![StoreOp::PutMessage(message.clone())];
    for to in 1..=id % 4 {
        let entry = QueueEntry {
            message: MessageId(id),
            bytes: message.len() as u32,
            qos: Qos::ExactlyOnce,
            retain: false,
            subscription_ids: Vec::new(),
            share: None,
        };
        let session = SessionId((id + to) % 19 + 1);
        ops.push(StoreOp::Enqueue(session, entry));
        if id.is_multiple_of(5) {
            let packet = PacketId::new(id as u16).expect("it is not zero");
            ops.push(StoreOp::Assign(session, MessageId(id), packet));
        }
    }
    if id.is_multiple_of(3) {
        ops.push(StoreOp::PutRetained(RetainedRecord {
            message,
            qos: Qos::AtLeastOnce,
            author: None,
        }));
    }
    ops
}
