//! The log's two halves: the engine's file takes over what one has while commits go to the other.

#![allow(clippy::unwrap_used, reason = "a failed test is what a panic is for")]

mod support;

use std::sync::Arc;

use paloma_broker::store::{
    LoadRequest, MessageId, SessionId, Store, StoreBatch, StoreError, StoreOp,
};
use paloma_codec::Qos;
use paloma_store_redb::disk::Disk;
use paloma_store_redb::disk::sim::{Fault, SimDisk};
use paloma_store_redb::{Durability, Options, RedbStore};
use redb::{Database, ReadableDatabase, StorageBackend, TableDefinition};
use support::{contents, entry, message, open, open_with, session_record, small};

const SESSION: SessionId = SessionId(1);

/// Messages for one session, one a commit, some of which are taken. With the options of these tests a checkpoint begins every
/// thirty commits or so.
struct Queue {
    disk: SimDisk,
    store: RedbStore,
    committed: u64,
}

impl Queue {
    fn new(seed: u64) -> Self {
        let disk = SimDisk::new(seed);
        Self::with(open(&disk), &disk)
    }

    fn with(mut store: RedbStore, disk: &SimDisk) -> Self {
        let ops = vec![StoreOp::PutSession(SESSION, session_record("client"))];
        store.commit(&mut vec![batch(ops)]).unwrap();
        Self {
            disk: disk.clone(),
            store,
            committed: 0,
        }
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        let id = self.committed + 1;
        let message = message(id, "a/b", &payload(id));
        let mut ops = vec![
            StoreOp::PutMessage(message.clone()),
            StoreOp::Enqueue(SESSION, entry(&message, Qos::AtLeastOnce)),
        ];
        if id.is_multiple_of(3) {
            // One that is in the file, or in the other half, or in this one.
            ops.push(StoreOp::Dequeue(SESSION, MessageId(id * 2 / 3)));
        }
        self.store.commit(&mut vec![batch(ops)])?;
        self.committed = id;
        Ok(())
    }

    /// Commits until a checkpoint is under way and the other half has some records.
    fn turn(&mut self) {
        while self.store.take_over() {}
        let before = self.halves();
        for _ in 0..200 {
            self.commit().unwrap();
            let now = self.halves();
            if now.iter().zip(&before).all(|(now, before)| now != before) {
                for _ in 0..5 {
                    self.commit().unwrap();
                }
                return;
            }
        }
        panic!("the log was never full");
    }

    /// What the halves' last records are on top of.
    fn halves(&self) -> [Vec<u8>; 2] {
        let log = self.disk.log().to_bytes();
        let half = log.len() / 2;
        [log.get(..half), log.get(half..)].map(|half| half.unwrap_or_default().to_vec())
    }

    /// The messages that are queued.
    fn queued(&self) -> Vec<u64> {
        let is_taken = |id: &u64| {
            // Taken by a message that has come as well.
            let by = id.div_ceil(2) * 3;
            by * 2 / 3 == *id && by <= self.committed
        };
        (1..=self.committed).filter(|id| !is_taken(id)).collect()
    }

    fn check(&self, store: &mut RedbStore, what: &str) {
        check_queue(store, &self.queued(), what);
    }
}

fn batch(ops: Vec<StoreOp>) -> StoreBatch {
    StoreBatch {
        ops,
        ..StoreBatch::default()
    }
}

fn payload(id: u64) -> Vec<u8> {
    id.to_le_bytes().repeat(60)
}

/// What a session's queue is read as, payloads and all.
fn check_queue(store: &mut RedbStore, expected: &[u64], what: &str) {
    let request = LoadRequest {
        session: SESSION,
        after: MessageId(0),
        count: 10_000,
        bytes: u32::MAX,
    };
    let loaded = store.read_queue(&request).unwrap();
    let found: Vec<u64> = loaded.entries.iter().map(|(_, found)| found.id()).collect();
    assert_eq!(found, expected, "{what}");
    for (_, found) in &loaded.entries {
        assert_eq!(found.payload(), payload(found.id()), "{what}");
    }
    assert_eq!(store.usage().unreadable, 0, "{what}");
    assert_eq!(store.usage().messages, expected.len() as u64, "{what}");
}

#[test]
fn queues_are_read_while_a_checkpoint_is_under_way_and_after_it() {
    let mut queue = Queue::new(1);
    for round in 0..4 {
        queue.turn();
        let expected = queue.queued();
        check_queue(&mut queue.store, &expected, &format!("under way, {round}"));
        assert!(queue.store.take_over());
        check_queue(&mut queue.store, &expected, &format!("done, {round}"));
        queue.commit().unwrap();
        let expected = queue.queued();
        check_queue(&mut queue.store, &expected, &format!("noted, {round}"));
    }
}

#[test]
fn a_crash_between_takes_nothing_of_either_half() {
    for (seed, is_done) in (0..12).map(|seed| (seed, seed % 3 == 0)) {
        let mut queue = Queue::new(seed);
        for _ in 0..=seed % 2 {
            queue.turn();
        }
        if is_done {
            assert!(queue.store.take_over());
            queue.commit().unwrap();
        }
        for next in [
            queue.disk.written(seed),
            queue.disk.fork_after_power_cut(seed),
        ] {
            let mut store = open(&next);
            queue.check(&mut store, "before the checkpoint of the start");
            // That takes over both halves, neither of which counts any more then.
            contents(&mut store);
            queue.check(&mut store, "behind it");
            let mut later = Queue {
                disk: next,
                store,
                committed: queue.committed,
            };
            for commits in 0..3 {
                let next = later.disk.fork_after_power_cut(seed);
                later.check(&mut open(&next), &format!("{commits} commits later"));
                later.commit().unwrap();
            }
            // What lies behind it in the log would have them back.
            let all = later.queued().into_iter().map(MessageId);
            let ops = all.map(|id| StoreOp::Dequeue(SESSION, id)).collect();
            later.store.commit(&mut vec![batch(ops)]).unwrap();
            let mut store = open(&later.disk.after_power_cut(seed));
            check_queue(&mut store, &[], "when all was taken");
            assert_eq!(store.losses(), []);
        }
    }
}

#[test]
fn the_power_may_go_at_every_moment_of_a_checkpoint() {
    for again in [false, true] {
        let mut operation = 0;
        loop {
            let mut queue = Queue::new(operation);
            queue.turn();
            let mut next = queue.disk.clone();
            if again {
                // The checkpoint of a start, which takes over both halves.
                next = queue.disk.after_kill();
                queue.store = open(&next);
            }
            next.schedule(next.operations() + operation, Fault::PowerCut);
            if again {
                let _ = queue.store.recover(&mut |_| {});
            } else {
                assert!(queue.store.take_over());
            }
            let is_over = next.len().is_ok();
            for seed in 0..3 {
                let survivor = next.fork_after_power_cut(seed + operation);
                queue.check(&mut open(&survivor), &format!("{again}, {operation}"));
            }
            if is_over {
                assert!(operation > 5, "{operation}");
                break;
            }
            operation += 1;
        }
    }
}

#[test]
fn nothing_is_committed_once_a_checkpoint_has_failed() {
    for operation in 0..6 {
        let mut queue = Queue::new(operation);
        queue.turn();
        let disk = queue.disk.clone();
        disk.schedule(disk.operations() + operation, Fault::Io);
        assert!(queue.store.take_over());
        let failed = queue.commit();
        assert!(matches!(failed, Err(StoreError::Io(_))), "{failed:?}");
        let operations = disk.operations();
        assert!(queue.commit().is_err());
        assert!(queue.store.rest().is_err() && queue.store.close().is_err());
        assert_eq!(disk.operations(), operations, "it was retried");
        queue.check(&mut open(&disk.after_kill()), "what was acknowledged");
    }
}

#[test]
fn a_checkpoint_that_fails_at_rest_is_noticed() {
    let mut queue = Queue::new(1);
    queue.turn();
    queue.disk.fail_next_sync();
    assert!(queue.store.take_over());
    assert!(matches!(queue.store.rest(), Err(StoreError::Io(_))));
}

#[test]
fn a_checkpoint_that_finds_no_space_takes_nothing_and_repeats_nothing() {
    for seed in 0..6 {
        let disk = SimDisk::new(seed);
        let options = Options {
            reserve_bytes: 0,
            ..small()
        };
        let mut queue = Queue::with(open_with(&disk, &options).unwrap(), &disk);
        queue.turn();
        disk.schedule(disk.operations() + seed, Fault::NoSpace);
        assert!(queue.store.take_over());
        let expected = queue.queued();
        check_queue(&mut queue.store, &expected, "without the checkpoint");
        queue.check(&mut open(&disk.written(seed)), "a crash behind it");
        for _ in 0..80 {
            queue.commit().unwrap();
        }
        let expected = queue.queued();
        check_queue(&mut queue.store, &expected, "in the end");
        queue.check(&mut open(&disk.after_power_cut(seed)), "a crash then");
    }
}

#[test]
fn what_meets_a_disk_that_a_checkpoint_found_full_may_be_asked_again() {
    for seed in 0..4 {
        let mut queue = Queue::new(seed);
        queue.turn();
        let disk = queue.disk.clone();
        // Not even the reserve has anything.
        disk.reserve(0).unwrap();
        disk.set_capacity(0);
        assert!(queue.store.take_over());
        let request = LoadRequest {
            session: SESSION,
            after: MessageId(0),
            count: 1,
            bytes: 1,
        };
        let mut full = 0;
        let mut may_fail = |outcome: Result<(), StoreError>| match outcome {
            Ok(()) => {}
            Err(StoreError::Full) => full += 1,
            Err(error) => panic!("{error}"),
        };
        for _ in 0..3 {
            may_fail(queue.store.read_queue(&request).map(drop));
            may_fail(queue.commit());
            may_fail(queue.store.rest().map(drop));
        }
        assert!(full > 0, "it was not full");
        queue.check(&mut open(&disk.written(seed)), "a crash while it is full");
        disk.set_capacity(64 << 20);
        for _ in 0..80 {
            queue.commit().unwrap();
        }
        let expected = queue.queued();
        check_queue(&mut queue.store, &expected, "with room again");
        queue.check(&mut open(&disk.after_power_cut(seed)), "a crash after it");
    }
}

#[test]
fn commits_wait_for_a_checkpoint_when_there_is_no_more_room() {
    let mut queue = Queue::new(1);
    let (mut file, mut since, mut longest) = (queue.disk.to_bytes(), 0, 0);
    for _ in 0..600 {
        // Nobody else takes anything over.
        queue.commit().unwrap();
        since += 1;
        let now = queue.disk.to_bytes();
        if now != file {
            longest = since.max(longest);
            (file, since) = (now, 0);
        }
    }
    // Messages of a quarter of a half begin a checkpoint. The other half may get full meanwhile, and is followed by as much.
    assert!((100..240).contains(&longest), "{longest}");
    assert_eq!(queue.disk.log().len().unwrap(), 128 << 10);
    let expected = queue.queued();
    check_queue(&mut queue.store, &expected, "in the end");
}

#[test]
fn a_checkpoint_syncs_in_pieces_until_a_commit_waits_for_it() {
    let disk = SimDisk::new(1);
    let options = Options {
        log_bytes: 4 << 20,
        ..small()
    };
    let mut store = open_with(&disk, &options).unwrap();
    let ops = vec![StoreOp::PutSession(SESSION, session_record("client"))];
    store.commit(&mut vec![batch(ops)]).unwrap();
    let mut ids = 1..;
    // One message of 16 KiB, and how many syncs that took.
    let mut commit = |store: &mut RedbStore| {
        let id = ids.next().unwrap();
        let message = message(id, "a/b", &[7; 16 << 10]);
        let ops = vec![
            StoreOp::PutMessage(message.clone()),
            StoreOp::Enqueue(SESSION, entry(&message, Qos::AtLeastOnce)),
        ];
        let before = disk.counts().syncs;
        store.commit(&mut vec![batch(ops)]).unwrap();
        disk.counts().syncs - before
    };
    let mut commits = 0;
    let at_leisure = loop {
        commit(&mut store);
        commits += 1;
        assert!(commits < 1_000, "no checkpoint was begun");
        let before = disk.counts().syncs;
        if store.take_over() {
            break disk.counts().syncs - before;
        }
    };
    // A mebibyte of messages, 128 KiB at a time.
    assert!(at_leisure >= 8, "{at_leisure} syncs");
    // Nobody takes anything over, until a commit has to wait for that. It has more to take over than the one above.
    let in_a_hurry = (0..1_000)
        .map(|_| commit(&mut store))
        .find(|syncs| *syncs > 1);
    let in_a_hurry = in_a_hurry.expect("one waits");
    assert!(in_a_hurry <= 4, "{in_a_hurry} syncs");
}

#[test]
fn a_stop_takes_over_both_halves() {
    let mut queue = Queue::new(1);
    queue.turn();
    queue.store.close().unwrap();
    assert!(!queue.disk.is_dirty());
    let next = queue.disk.after_power_cut(1);
    // The log has no part in it any more.
    next.log().set_len(0).unwrap();
    queue.check(&mut open(&next), "without a log");
}

#[test]
fn a_group_that_is_too_large_for_the_log_comes_behind_both_halves() {
    let mut queue = Queue::new(1);
    queue.turn();
    let id = queue.committed + 1;
    let large = message(id, "a/b", &payload(id).repeat(40));
    let ops = vec![
        StoreOp::PutMessage(large.clone()),
        StoreOp::Enqueue(SESSION, entry(&large, Qos::AtLeastOnce)),
    ];
    queue.store.commit(&mut vec![batch(ops)]).unwrap();
    let next = queue.disk.after_power_cut(1);
    // All of it is in the engine's file.
    let log = next.log();
    log.write(0, &vec![0; 128 << 10]).unwrap();
    let held = queue.queued().len() as u64 + 1;
    let usage = open(&next).usage();
    assert_eq!((usage.entries, usage.messages), (held, held));
}

#[test]
fn a_store_whose_log_has_no_halves_is_taken_over() {
    let earlier = |durability| [2, 4].map(|format| (durability, format));
    for (durability, earlier) in Durability::ALL.into_iter().flat_map(earlier) {
        let mut queue = Queue::new(1);
        for _ in 0..9 {
            queue.commit().unwrap();
        }
        // A log that has just begun looks as it always did; what tells is the format.
        let disk = queue.disk.after_kill();
        assert_eq!(format(&disk, None), 5);
        assert_eq!(format(&disk, Some(earlier)), earlier);
        let options = Options {
            durability,
            ..small()
        };
        let mut store = open_with(&disk, &options).unwrap();
        queue.check(&mut store, "as it was");
        queue.store = store;
        queue.commit().unwrap();
        let is_logged = matches!(durability, Durability::Ack | Durability::Os);
        let next = disk.written(1);
        if durability != Durability::None && durability != Durability::Interval {
            queue.check(&mut open(&next), "behind another commit");
            assert_eq!(format(&next, None), if is_logged { 5 } else { 3 });
        }
        for _ in 0..60 {
            queue.commit().unwrap();
        }
        queue.store.close().unwrap();
        let next = disk.after_power_cut(1);
        queue.check(&mut open(&next), "in the end");
    }
}

/// The format of the store on a disk that nobody uses, and another one if so wanted.
fn format(disk: &SimDisk, other: Option<u64>) -> u64 {
    let meta = TableDefinition::<&str, u64>::new("meta");
    let backend = Plain(Arc::new(disk.clone()));
    let database = Database::builder().create_with_backend(backend).unwrap();
    if let Some(other) = other {
        let transaction = database.begin_write().unwrap();
        let mut table = transaction.open_table(meta).unwrap();
        table.insert("format", other).unwrap();
        drop(table);
        transaction.commit().unwrap();
    }
    let transaction = database.begin_read().unwrap();
    let table = transaction.open_table(meta).unwrap();
    table.get("format").unwrap().unwrap().value()
}

#[derive(Debug)]
struct Plain(Arc<SimDisk>);

impl StorageBackend for Plain {
    fn len(&self) -> std::io::Result<u64> {
        Disk::len(&*self.0)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        Disk::read(&*self.0, offset, out)
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        Disk::set_len(&*self.0, len)
    }

    fn sync_data(&self) -> std::io::Result<()> {
        Disk::sync(&*self.0)
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        Disk::write(&*self.0, offset, data)
    }
}
