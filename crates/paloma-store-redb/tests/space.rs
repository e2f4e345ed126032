//! Full disks and failing ones.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a failed test is what a panic is for"
)]

mod support;

use std::cell::Cell;
use std::io;
use std::time::Duration;

use paloma_broker::store::{
    Committed, LoadRequest, MessageId, SessionId, Space, Store, StoreBatch, StoreError, StoreOp,
};
use paloma_codec::Qos;
use paloma_store_redb::disk::sim::{Fault, SimDisk};
use paloma_store_redb::{Options, RedbStore};
use support::{Pair, contents, entry, message, open, open_with, session_record, small, steps};

const CAPACITY: u64 = 4 << 20;

/// Messages in a group.
const GROUP: u64 = 20;

/// One session and its queue of numbered messages.
struct Queue {
    store: RedbStore,
    next: u64,
    oldest: u64,
}

const SESSION: SessionId = SessionId(1);

impl Queue {
    fn new(disk: &SimDisk, options: &Options) -> Self {
        let mut store = open_with(disk, options).unwrap();
        let ops = vec![StoreOp::PutSession(SESSION, session_record("client"))];
        commit(&mut store, ops).unwrap();
        Self {
            store,
            next: 1,
            oldest: 1,
        }
    }

    /// A group of messages of up to 6,000 bytes.
    fn batch(&mut self) -> StoreBatch {
        let mut ops = Vec::new();
        for id in self.next..self.next + GROUP {
            let len = usize::try_from(id * 7_919 % 6_000).unwrap();
            let message = message(id, "a", &vec![id as u8; len]);
            ops.push(StoreOp::PutMessage(message.clone()));
            ops.push(StoreOp::Enqueue(SESSION, entry(&message, Qos::AtLeastOnce)));
        }
        self.next += GROUP;
        StoreBatch {
            ops,
            ..StoreBatch::default()
        }
    }

    fn fill(&mut self) -> Result<Committed, StoreError> {
        let batch = self.batch();
        self.store.commit(&mut vec![batch])
    }

    fn drain(&mut self, count: u64) -> Result<Committed, StoreError> {
        let until = self.next.min(self.oldest + count);
        let ids = self.oldest..until;
        let ops = ids.map(|id| StoreOp::Dequeue(SESSION, MessageId(id)));
        let committed = commit(&mut self.store, ops.collect())?;
        self.oldest = until;
        Ok(committed)
    }

    fn fill_up(&mut self) {
        for _ in 0..10_000 {
            if self.fill().unwrap().space == Space::Full {
                return;
            }
        }
        panic!("it never gets full");
    }
}

fn commit(store: &mut RedbStore, ops: Vec<StoreOp>) -> Result<Committed, StoreError> {
    let batch = StoreBatch {
        ops,
        ..StoreBatch::default()
    };
    store.commit(&mut vec![batch])
}

#[test]
fn fifty_fills_of_a_small_disk_leave_it_whole() {
    let mut disk = SimDisk::new(5);
    disk.set_capacity(CAPACITY);
    let mut queue = Queue::new(&disk, &small());
    for fill in 0..50 {
        queue.fill_up();
        // What was in waiting still comes.
        for _ in 0..3 {
            assert_eq!(queue.fill().unwrap().space, Space::Full);
        }
        assert!(queue.next - queue.oldest > 300, "fill {fill}");
        if fill % 10 == 9 {
            let next = disk.after_power_cut(fill);
            let Queue {
                next: n, oldest, ..
            } = queue;
            disk = next;
            let store = open(&disk);
            queue = Queue {
                store,
                next: n,
                oldest,
            };
            let held = queue.store.usage().entries;
            assert_eq!(held, queue.next - queue.oldest, "fill {fill}");
        }
        while queue.oldest < queue.next {
            queue.drain(61).unwrap();
        }
        assert_eq!(queue.drain(0).unwrap().space, Space::Free, "fill {fill}");
        assert_eq!(queue.store.usage().messages, 0);
    }
    assert!(queue.store.usage().file_bytes <= CAPACITY);
}

#[test]
fn a_full_store_has_room_again_once_it_was_drained() {
    let disk = SimDisk::new(5);
    disk.set_capacity(CAPACITY);
    let mut queue = Queue::new(&disk, &small());
    queue.fill_up();
    assert_eq!(queue.store.rest().unwrap().space, Space::Full);
    assert!(queue.store.rest().unwrap().again_after.is_some());
    let all = queue.next - queue.oldest;
    while queue.store.rest().unwrap().space == Space::Full {
        queue.drain(20).unwrap();
        assert!(queue.oldest < queue.next, "everything had to go");
    }
    assert!(queue.oldest > all / 20, "a little is not enough");
}

#[test]
fn a_drained_store_gives_its_space_back() {
    let disk = SimDisk::new(5);
    let mut queue = Queue::new(&disk, &small());
    for _ in 0..100 {
        queue.fill().unwrap();
    }
    let full = queue.store.usage().file_bytes;
    while queue.oldest < queue.next {
        queue.drain(61).unwrap();
    }
    queue.store.take_over();
    queue.store.rest().unwrap();
    let drained = queue.store.usage().file_bytes;
    assert!(drained < full / 2, "{full} {drained}");
    queue.fill().unwrap();
    assert_eq!(queue.store.usage().entries, GROUP);
    drop(queue);
    assert_eq!(open(&disk.after_power_cut(1)).usage().entries, GROUP);
}

#[test]
fn nobody_who_reads_a_queue_waits_for_the_file_to_get_shorter() {
    thread_local! {
        static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }
    let disk = SimDisk::new(5);
    let options = Options {
        clock: || NOW.with(Cell::get),
        ..small()
    };
    let mut queue = Queue::new(&disk, &options);
    for _ in 0..100 {
        queue.fill().unwrap();
    }
    while queue.oldest + GROUP < queue.next {
        queue.drain(13).unwrap();
    }
    queue.store.take_over();
    let request = LoadRequest {
        session: SESSION,
        after: MessageId(0),
        count: 1,
        bytes: 1,
    };
    assert_eq!(queue.store.read_queue(&request).unwrap().entries.len(), 1);
    let mut rest_at = |millis| {
        NOW.set(Duration::from_millis(millis));
        let again_after = queue.store.rest().unwrap().again_after;
        (queue.store.usage().file_bytes, again_after)
    };
    let (long, again_after) = rest_at(0);
    assert_eq!(again_after, Some(Duration::from_secs(1)));
    assert_eq!(rest_at(999), (long, Some(Duration::from_millis(1))));
    let (short, again_after) = rest_at(1_000);
    assert!(short < long, "{short} {long}");
    assert_eq!(again_after, None);
}

#[test]
fn a_full_store_has_room_again_once_the_disk_has() {
    let disk = SimDisk::new(5);
    disk.set_capacity(CAPACITY);
    let mut queue = Queue::new(&disk, &small());
    queue.fill_up();
    disk.set_capacity(2 * CAPACITY);
    assert_eq!(queue.store.rest().unwrap().space, Space::Free);
    queue.fill_up();
}

#[test]
fn the_limit_on_bytes_is_like_a_full_disk() {
    let disk = SimDisk::new(5);
    let options = Options {
        store_bytes_max: 3 << 20,
        ..small()
    };
    let mut queue = Queue::new(&disk, &options);
    queue.fill_up();
    assert!(queue.store.usage().file_bytes < 5 << 20);
    while queue.oldest < queue.next {
        queue.drain(50).unwrap();
    }
    assert_eq!(queue.store.rest().unwrap().space, Space::Free);
}

#[test]
fn a_group_that_met_a_full_disk_can_be_offered_again() {
    let disk = SimDisk::new(5);
    disk.set_capacity(CAPACITY);
    let mut queue = Queue::new(&disk, &small());
    // Nobody minds that the store says it is full, until the reserve is used up.
    let mut group = loop {
        let mut group = vec![queue.batch()];
        match queue.store.commit(&mut group) {
            Ok(_) => assert!(group.is_empty()),
            Err(StoreError::Full) => break group,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(group.len(), 1);
    // Nothing of it was kept.
    let before = contents(&mut queue.store);
    assert_eq!(queue.store.usage().entries, queue.next - 1 - GROUP);
    let again = queue.store.commit(&mut group);
    assert!(matches!(again, Err(StoreError::Full)), "{again:?}");
    disk.set_capacity(4 * CAPACITY);
    queue.store.commit(&mut group).unwrap();
    assert!(group.is_empty());
    let after = contents(&mut queue.store);
    assert_eq!(after.len(), before.len() + GROUP as usize);
    drop(queue);
    assert_eq!(contents(&mut open(&disk.after_kill())), after);
}

#[test]
fn after_a_failed_sync_nothing_is_written_any_more() {
    let disk = SimDisk::new(5);
    let mut pair = Pair::default();
    let mut store = open(&disk);
    store.commit(&mut pair.group(&steps(1, 100))).unwrap();
    let before = pair.now().to_vec();
    let mut next = pair.group(&steps(2, 100));
    let syncs = disk.counts().syncs;
    disk.fail_next_sync();
    let failed = store.commit(&mut next);
    assert!(matches!(failed, Err(StoreError::Io(_))), "{failed:?}");
    let counts = disk.counts();
    assert_eq!(counts.syncs, syncs + 1);
    assert!(matches!(store.commit(&mut next), Err(StoreError::Io(_))));
    assert!(store.rest().is_err());
    assert!(store.close().is_err());
    drop(store);
    let after = disk.counts();
    assert_eq!(after.operations(), counts.operations(), "it was retried");
    // Whatever reached the medium, what was acknowledged is there.
    for seed in 0..20 {
        let found = contents(&mut open(&disk.fork_after_power_cut(seed)));
        assert!(found == before || found == pair.now(), "seed {seed}");
    }
}

#[test]
fn a_failed_write_or_read_is_the_last_word() {
    for operation in 0..12 {
        let disk = SimDisk::new(operation);
        let mut pair = Pair::default();
        let mut store = open(&disk);
        store.commit(&mut pair.group(&steps(1, 100))).unwrap();
        disk.schedule(disk.operations() + operation, Fault::Io);
        let outcome = store.commit(&mut pair.group(&steps(2, 100)));
        assert!(matches!(outcome, Err(StoreError::Io(_))), "{outcome:?}");
        assert!(matches!(store.close(), Err(StoreError::Io(_))));
        drop(store);
        let found = contents(&mut open(&disk.after_kill()));
        assert!(pair.history.iter().rev().take(2).any(|then| *then == found));
    }
}

#[test]
fn a_disk_that_cannot_be_read_is_no_store() {
    let disk = SimDisk::new(5);
    drop(open(&disk));
    disk.schedule_read(disk.counts().reads, Fault::Io);
    let failed = open_with(&disk, &small()).unwrap_err();
    assert!(failed.to_string().contains("the device failed"), "{failed}");
    let _: &dyn std::error::Error = &failed;
    assert!(std::error::Error::source(&failed).is_some_and(|error| {
        error
            .source()
            .is_some_and(|error| error.downcast_ref::<io::Error>().is_some())
    }));
}

/// A store with three small groups in its log, and what it holds.
fn logged(disk: &SimDisk) -> (RedbStore, Pair) {
    let mut pair = Pair::default();
    let mut store = open(disk);
    for _ in 0..4 {
        store.commit(&mut pair.group(&[(0, 0, 0)])).unwrap();
    }
    (store, pair)
}

#[test]
fn a_full_disk_takes_nothing_from_the_log() {
    let disk = SimDisk::new(5);
    let (mut store, pair) = logged(&disk);
    let mut queue = Queue {
        store: open(&SimDisk::new(6)),
        next: 1,
        oldest: 1,
    };
    disk.set_capacity(0);
    // What is too large for the log meets the disk, reserve and all.
    let mut before = pair.now().to_vec();
    let mut group = loop {
        let mut batch = queue.batch();
        let record = session_record("client");
        batch
            .ops
            .insert(0, StoreOp::PutSession(SessionId(900), record));
        let mut group = vec![batch];
        match store.commit(&mut group) {
            Ok(_) => before.clear(),
            Err(StoreError::Full) => break group,
            Err(error) => panic!("{error}"),
        }
    };
    // Small groups have room in the log all the same.
    let batch = StoreBatch {
        ops: vec![StoreOp::PutSession(SessionId(901), session_record("small"))],
        ..StoreBatch::default()
    };
    assert!(store.commit(&mut vec![batch]).is_ok());
    disk.set_capacity(64 << 20);
    store.commit(&mut group).unwrap();
    let after = contents(&mut store);
    drop(store);
    assert_eq!(contents(&mut open(&disk.after_power_cut(1))), after);
    for client in ["client-1", "client-4", "small"] {
        let name = format!("{client:?}");
        assert!(after.iter().any(|line| line.contains(&name)), "{client}");
    }
}

#[test]
fn a_log_that_fails_is_the_last_word() {
    for (operation, seed) in (0..2).flat_map(|operation| (0..10).map(move |seed| (operation, seed)))
    {
        let disk = SimDisk::new(seed);
        let (mut store, mut pair) = logged(&disk);
        disk.schedule(disk.operations() + operation, Fault::Io);
        let mut next = pair.group(&[(0, 0, 0)]);
        let outcome = store.commit(&mut next);
        assert!(matches!(outcome, Err(StoreError::Io(_))), "{outcome:?}");
        let counts = disk.counts();
        assert!(store.commit(&mut next).is_err() && store.rest().is_err());
        assert!(store.close().is_err());
        drop(store);
        assert_eq!(
            disk.counts().operations(),
            counts.operations(),
            "it was retried"
        );
        for next in [disk.fork_after_power_cut(seed), disk.after_kill()] {
            let found = contents(&mut open(&next));
            assert!(pair.history.iter().rev().take(2).any(|then| *then == found));
        }
    }
}

#[test]
fn without_space_for_a_log_the_engine_has_it_all() {
    let disk = SimDisk::new(5);
    let options = Options {
        log_bytes: 16 << 20,
        ..small()
    };
    disk.set_capacity(CAPACITY);
    let mut queue = Queue::new(&disk, &options);
    queue.fill().unwrap();
    assert!(disk.log().to_bytes().is_empty());
    let held = queue.store.usage().entries;
    drop(queue);
    assert_eq!(
        open_with(&disk.after_kill(), &options)
            .unwrap()
            .usage()
            .entries,
        held
    );
}

#[test]
fn what_was_taken_before_a_checkpoint_never_reaches_the_engine() {
    let disk = SimDisk::new(5);
    let mut queue = Queue::new(&disk, &small());
    let before = disk.to_bytes();
    let mut commits = 0;
    for id in 1..1_000 {
        let message = message(id, "a", &[7; 60]);
        let ops = vec![
            StoreOp::PutMessage(message.clone()),
            StoreOp::Enqueue(SESSION, entry(&message, Qos::AtLeastOnce)),
        ];
        commit(&mut queue.store, ops).unwrap();
        commit(
            &mut queue.store,
            vec![StoreOp::Dequeue(SESSION, MessageId(id))],
        )
        .unwrap();
        if disk.to_bytes() != before {
            break;
        }
        commits += 2;
    }
    assert!(commits > 300, "{commits} before the log was full");
    assert_eq!(queue.store.usage().messages, 0);
    // But for one that nobody had taken when the log was full.
    let file = disk.to_bytes();
    let copies = file.windows(60).filter(|bytes| *bytes == [7; 60]).count();
    assert!(copies <= 1, "{copies}");
}

#[test]
fn what_a_drain_frees_is_taken_over_in_parts() {
    let disk = SimDisk::new(5);
    let mut queue = Queue::new(&disk, &small());
    let count = 1_000;
    for id in 1..=count {
        let message = message(id, "a", &[7; 60]);
        let ops = vec![
            StoreOp::PutMessage(message.clone()),
            StoreOp::Enqueue(SESSION, entry(&message, Qos::AtLeastOnce)),
        ];
        commit(&mut queue.store, ops).unwrap();
    }
    let mut file = disk.to_bytes();
    let mut since = 0;
    for id in 1..=count {
        commit(
            &mut queue.store,
            vec![StoreOp::Dequeue(SESSION, MessageId(id))],
        )
        .unwrap();
        queue.store.take_over();
        let now = disk.to_bytes();
        since = if now == file { since + 1 } else { 0 };
        file = now;
        // The log has room for a thousand such records, and what the engine deletes at once keeps others waiting.
        assert!(since < 150, "{since} at once, up to {id}");
    }
    assert_eq!(queue.store.usage().messages, 0);
}
