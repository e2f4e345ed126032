//! Commits of the durable store beside bare redb with the same group and record shape:
//! `cargo bench -p paloma-bench --bench store`.
//!
//! Each call commits a group: so many messages of 200 bytes for one of 1,000 sessions each, and the end of those of eight
//! groups before. Bare redb writes and removes the same rows, and one row for what the journal says. Both sync every commit
//! to a file of their own under the directory for temporary files: set TMPDIR to a disk that counts.

use std::cell::Cell;
use std::collections::VecDeque;
use std::path::PathBuf;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use paloma_broker::store::{
    MessageId, Owner, QueueEntry, SessionId, SessionRecord, Store, StoreBatch, StoreOp,
};
use paloma_codec::{Message, MessageParts, PublishProperties, Qos};
use paloma_store_redb::{Options, RedbStore};
use paloma_topic::TopicNameRef;
use redb::{Database, TableDefinition};

criterion_group!(benches, commits);
criterion_main!(benches);

const GROUPS: [u64; 3] = [1, 16, 512];
const SESSIONS: u64 = 1_000;
/// Groups that are kept.
const DEPTH: usize = 8;

const MESSAGES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("messages");
const JOURNAL: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("journal");

/// What an entry and its end are in the journal.
const OPS_BYTES: usize = 16;

fn commits(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("store");
    for size in GROUPS {
        group.throughput(Throughput::Elements(size));
        group.bench_function(BenchmarkId::new("paloma", size), |bencher| {
            let scratch = Scratch::new("paloma");
            let mut commit = paloma(&scratch, size);
            bencher.iter(&mut commit);
        });
        group.bench_function(BenchmarkId::new("redb", size), |bencher| {
            let scratch = Scratch::new("redb");
            let mut commit = redb(&scratch, size);
            bencher.iter(&mut commit);
        });
    }
    group.finish();
}

/// A directory that goes with the measurement.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let name = format!("paloma-bench-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        drop(std::fs::remove_dir_all(&path));
        std::fs::create_dir_all(&path).expect("a directory can be made");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn message(id: u64) -> Message {
    let parts = MessageParts {
        id,
        stamp: 1_700_000_000_000,
        topic: TopicNameRef::new("sensors/17/temperature").expect("it is a topic"),
        properties: &PublishProperties::default(),
        payload: &[7; 200],
    };
    Message::new(&parts, &mut Vec::new()).expect("it has no properties")
}

fn paloma(scratch: &Scratch, size: u64) -> impl FnMut() + use<> {
    let mut store =
        RedbStore::open(&scratch.0, &Options::default()).expect("a store can be opened");
    let mut commit = move |ops| {
        let batch = StoreBatch {
            ops,
            ..StoreBatch::default()
        };
        store.commit(&mut vec![batch]).expect("the disk works");
    };
    let sessions = (1..=SESSIONS).map(|id| {
        let record = SessionRecord {
            owner: Owner {
                client_id: format!("client-{id}").into(),
                ..Owner::default()
            },
            expiry_seconds: u32::MAX,
            disconnected_at: None,
            maybe_sent: MessageId(0),
        };
        StoreOp::PutSession(SessionId(id), record)
    });
    commit(sessions.collect());
    let next = Cell::new(1);
    let mut kept: VecDeque<Vec<(SessionId, MessageId)>> = VecDeque::new();
    move || {
        let mut ops = Vec::new();
        let mut entries = Vec::new();
        for id in next.get()..next.get() + size {
            let message = message(id);
            let entry = QueueEntry {
                message: MessageId(id),
                bytes: u32::try_from(message.len()).unwrap_or(u32::MAX),
                qos: Qos::AtLeastOnce,
                retain: false,
                subscription_ids: Vec::new(),
                share: None,
            };
            let session = SessionId(id * 7_919 % SESSIONS + 1);
            entries.push((session, entry.message));
            ops.push(StoreOp::PutMessage(message));
            ops.push(StoreOp::Enqueue(session, entry));
        }
        next.set(next.get() + size);
        kept.push_back(entries);
        if kept.len() > DEPTH {
            let old = kept.pop_front().unwrap_or_default();
            let ends = old.into_iter();
            ops.extend(ends.map(|(session, message)| StoreOp::Dequeue(session, message)));
        }
        commit(ops);
    }
}

fn redb(scratch: &Scratch, size: u64) -> impl FnMut() + use<> {
    let database = Database::create(scratch.0.join("bare.redb")).expect("a file can be made");
    let mut next = 1;
    let mut number = 0;
    let journal = vec![7; OPS_BYTES * usize::try_from(size).unwrap_or_default() + 32];
    move || {
        let commit = || -> Result<(), redb::Error> {
            let transaction = database.begin_write()?;
            {
                let mut messages = transaction.open_table(MESSAGES)?;
                let old = DEPTH as u64 * size;
                if next > old {
                    for id in next - old..next - old + size {
                        messages.remove(id)?;
                    }
                }
                for id in next..next + size {
                    messages.insert(id, message(id).as_bytes())?;
                }
                let mut rows = transaction.open_table(JOURNAL)?;
                rows.insert(number, journal.as_slice())?;
                if number >= DEPTH as u64 {
                    rows.remove(number - DEPTH as u64)?;
                }
            }
            transaction.commit()?;
            Ok(())
        };
        commit().expect("the disk works");
        next += size;
        number += 1;
    }
}
