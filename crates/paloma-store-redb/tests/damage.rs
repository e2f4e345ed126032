//! Damaged files: what is lost is reported, and nothing that was never written is given back.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::wildcard_enum_match_arm,
    reason = "a failed test is what a panic is for"
)]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;

use paloma_broker::store::{
    FlightState, LoadRequest, MessageId, Recovered, SessionId, Store, StoreOp,
};
use paloma_store_redb::disk::sim::SimDisk;
use paloma_store_redb::{OpenError, RedbStore};
use support::{Pair, contents, open, open_with, small, steps};

/// Everything that was ever put, and the bytes of the files that hold what is left of it.
struct Original {
    is_clean: bool,
    file: Vec<u8>,
    log: Vec<u8>,
    messages: BTreeSet<Vec<u8>>,
    contents: Vec<String>,
    /// What it held after each group.
    history: Vec<Vec<String>>,
}

impl Original {
    fn new(is_clean: bool) -> Self {
        Self::with(is_clean, 0)
    }

    /// With so many groups, about half as large, before the last ones: some are in one half of the log and some in the other.
    fn between(groups: u64) -> Self {
        Self::with(false, groups)
    }

    fn with(is_clean: bool, halves: u64) -> Self {
        let disk = SimDisk::new(1);
        let mut pair = Pair::default();
        let mut store = open(&disk);
        let mut messages = BTreeSet::new();
        let large = (0..30).map(|seed| steps(seed, 60));
        let small = (0..halves).map(|seed| steps(seed + 100, 6));
        for steps in large.chain(small) {
            let mut group = pair.group(&steps);
            for op in group.iter().flat_map(|batch| &batch.ops) {
                match op {
                    StoreOp::PutMessage(message) => {
                        messages.insert(message.as_bytes().to_vec());
                    }
                    StoreOp::PutWill(_, will) => {
                        messages.insert(will.message.as_bytes().to_vec());
                    }
                    _ => {}
                }
            }
            store.commit(&mut group).unwrap();
        }
        // Some groups that are in the log alone.
        for _ in 0..6 {
            store.commit(&mut pair.group(&[(0, 0, 0)])).unwrap();
        }
        if is_clean {
            store.close().unwrap();
        }
        let left = disk.after_kill();
        Self {
            is_clean,
            file: left.to_bytes(),
            log: left.log().to_bytes(),
            messages,
            contents: pair.now().to_vec(),
            history: pair.history,
        }
    }

    /// Where the half of the log is that is in use, the last one of two, and how many records of the other half count.
    fn half(&self) -> (usize, u32) {
        let head = |at: usize| {
            let base = u64::from_le_bytes(self.log[at + 8..at + 16].try_into().unwrap());
            let after = u32::from_le_bytes(self.log[at + 28..at + 32].try_into().unwrap());
            (base, at, after)
        };
        let (_, at, after) = head(0).max(head(self.log.len() / 2));
        (at, after)
    }

    /// Opens a damaged copy, and says whether it could be.
    fn check(&self, file: &[u8], what: &str) -> bool {
        self.check_with(file, &self.log, 1, what)
    }

    /// After a crash, so many of the last groups may look like groups that were not synced, and so were not acknowledged.
    fn check_with(&self, file: &[u8], log: &[u8], unsynced: usize, what: &str) -> bool {
        let disk = SimDisk::with_files(file, log, 2);
        let mut store = match open_with(&disk, &small()) {
            Ok(store) => store,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                return false;
            }
        };
        let mut messages = Vec::new();
        let mut queues = Vec::new();
        let mut lost = 0;
        let recovered = store.recover(&mut |recovered| match recovered {
            Recovered::Will(_, will) => messages.push(will.message),
            Recovered::Retained(record) => messages.push(record.message),
            Recovered::FanOut(_, message, _) => messages.push(message),
            Recovered::Flight(_, flight) => {
                if let FlightState::Assigned(message) = flight.state {
                    messages.push(message);
                }
            }
            Recovered::Queue(session, _) => queues.push(session),
            Recovered::Lost(loss) => lost += loss.count,
            _ => {}
        });
        if recovered.is_err() {
            return false;
        }
        for session in queues {
            if !self.drain(&mut store, session, &mut messages) {
                return false;
            }
        }
        for message in &messages {
            assert!(
                self.messages.contains(message.as_bytes()),
                "{what}: {message:?} was never put"
            );
        }
        lost += store.usage().unreadable;
        if lost == 0 {
            let found = contents(&mut store);
            let unsynced = if self.is_clean { 0 } else { unsynced };
            let is_whole = (self.history.iter().rev())
                .take(1 + unsynced)
                .any(|then| *then == found);
            assert!(is_whole, "{what}: nothing was said of what is missing");
        }
        true
    }

    fn drain(
        &self,
        store: &mut RedbStore,
        session: SessionId,
        messages: &mut Vec<paloma_codec::Message>,
    ) -> bool {
        let mut after = MessageId(0);
        loop {
            let request = LoadRequest {
                session,
                after,
                count: 100,
                bytes: 100_000,
            };
            let Ok(loaded) = store.read_queue(&request) else {
                return false;
            };
            let Some((entry, _)) = loaded.entries.last() else {
                return true;
            };
            after = entry.message;
            messages.extend(loaded.entries.into_iter().map(|(_, message)| message));
        }
    }
}

/// Places of the file that hold something, spread over it.
fn place(file: &[u8], seed: u64) -> usize {
    let mut at = (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) % file.len() as u64) as usize;
    while file[at] == 0 {
        at = (at + 97) % file.len();
    }
    at
}

fn check_flips(is_clean: bool) {
    let original = Original::new(is_clean);
    assert!(original.check(&original.file, "no damage"));
    let mut opened = 0;
    for seed in 0..400 {
        let mut file = original.file.clone();
        let at = place(&file, seed);
        file[at] ^= 1 << (seed % 8);
        opened += u32::from(original.check(&file, &format!("bit {} of {at}", seed % 8)));
    }
    // A flip in a message is survived, one in the engine's own pages may not be.
    assert!(opened > 20, "{opened}");
}

#[test]
fn flips_after_a_clean_stop_give_nothing_wrong() {
    check_flips(true);
}

#[test]
fn flips_after_a_crash_give_nothing_wrong() {
    check_flips(false);
}

#[test]
fn truncations_and_overwritten_pages_give_nothing_wrong() {
    for is_clean in [true, false] {
        let original = Original::new(is_clean);
        for seed in 0..50 {
            let mut file = original.file.clone();
            file.truncate(place(&original.file, seed).max(1));
            original.check(&file, &format!("cut at {}", file.len()));
        }
        for seed in 0..50 {
            let mut file = original.file.clone();
            let (to, from) = (place(&file, seed) / 4_096, place(&file, seed + 77) / 4_096);
            if (to.max(from) + 1) * 4_096 <= file.len() {
                file.copy_within(from * 4_096..(from + 1) * 4_096, to * 4_096);
                original.check(&file, &format!("page {from} over {to}"));
            }
        }
    }
}

#[test]
fn what_is_no_store_is_left_alone() {
    let disk = SimDisk::with_bytes(&[7; 10_000], 1);
    let refused = open_with(&disk, &small()).unwrap_err();
    assert!(matches!(refused, OpenError::Store(_)), "{refused}");
    assert!(refused.to_string().contains("paloma store repair"));
    assert_eq!(disk.to_bytes(), vec![7; 10_000]);
}

#[test]
fn a_damaged_message_is_left_out_and_the_rest_comes() {
    let original = Original::new(true);
    let places = |message: &[u8]| -> Vec<usize> {
        let windows = original.file.windows(message.len()).enumerate();
        let found = windows.filter(|(_, bytes)| *bytes == message);
        found.map(|(at, _)| at + message.len() - 40).collect()
    };
    let queued = original.messages.iter().filter(|message| {
        let name = format!("{message:?}");
        let is_queued = original.contents.iter().any(|line| line.ends_with(&name));
        is_queued && message.len() >= 60
    });
    let mut places = queued.map(|message| places(message));
    let mut file = original.file.clone();
    // Pages that are in use no more may hold it as well.
    for place in places.find(|places| !places.is_empty()).unwrap() {
        file[place] ^= 4;
    }
    assert!(original.check(&file, "one payload"));
    let mut store = open(&SimDisk::with_bytes(&file, 1));
    let found = contents(&mut store);
    let kept = original.contents.iter().filter(|line| found.contains(line));
    assert!(kept.count() > original.contents.len() * 9 / 10);
    assert!(found != original.contents);
}

#[test]
fn damage_of_the_log_after_a_crash_is_said_unless_it_is_at_its_end() {
    let original = Original::new(false);
    let (half, _) = original.half();
    let mut opened = 0;
    for seed in 0..150 {
        let mut log = original.log.clone();
        let at = half + seed * 7_919 % 600;
        let unsynced = match seed % 3 {
            0 => {
                log[at] ^= 1 << (seed % 8);
                1
            }
            // Two records lie in it at most.
            1 => {
                log[at..at + 60].fill(0);
                2
            }
            _ => {
                let from = half + (at - half) / 2;
                log.copy_within(from..from + 60, at);
                2
            }
        };
        let what = format!("damage {} at {at}", seed % 3);
        opened += u32::from(original.check_with(&original.file, &log, unsynced, &what));
    }
    assert!(opened > 120, "{opened}");
}

#[test]
fn damage_of_the_first_of_two_halves_is_always_said() {
    let original = Original::between(60);
    let (half, after) = original.half();
    assert!(after > 5, "{after} records before");
    let first = original.log.len() / 2 - half;
    assert!(original.check_with(&original.file, &original.log, 0, "no damage"));
    let end = original.log[first..first + original.log.len() / 2]
        .iter()
        .rposition(|byte| *byte != 0)
        .unwrap();
    let mut opened = 0;
    for seed in 0..100 {
        let mut log = original.log.clone();
        // Its last record as well.
        let at = first + end - seed * 7_919 % 4_000;
        log[at] ^= 1 << (seed % 8);
        let what = format!("bit {} of {at}", seed % 8);
        opened += u32::from(original.check_with(&original.file, &log, 0, &what));
    }
    assert_eq!(opened, 100);
}

#[test]
fn a_log_that_is_gone_or_cut_off_after_a_crash_is_refused() {
    let original = Original::new(false);
    for len in [0, 100, original.log.len() / 2, original.log.len() - 1] {
        let disk = SimDisk::with_files(&original.file, &original.log[..len], 1);
        let refused = open_with(&disk, &small()).unwrap_err();
        assert!(
            refused
                .to_string()
                .contains("its log is missing or cut off")
        );
    }
    let file = Arc::new(SimDisk::with_bytes(&original.file, 1));
    let refused = RedbStore::on_disk(file, None, &small()).unwrap_err();
    assert!(refused.to_string().contains("paloma store repair"));
}

#[test]
fn after_a_clean_stop_the_log_holds_nothing() {
    let original = Original::new(true);
    for log in [&[][..], &[7; 100_000]] {
        assert!(original.check_with(&original.file, log, 0, "another log"));
    }
}

#[test]
fn a_file_beside_a_log_that_is_later_is_refused() {
    let disk = SimDisk::new(1);
    let mut pair = Pair::default();
    let mut store = open(&disk);
    store.commit(&mut pair.group(&steps(1, 9))).unwrap();
    let older = disk.to_bytes();
    store.commit(&mut pair.group(&steps(2, 9))).unwrap();
    // Some groups are too large for the log.
    for seed in 3..40 {
        store.commit(&mut pair.group(&steps(seed, 90))).unwrap();
    }
    store.commit(&mut pair.group(&[(0, 0, 0)])).unwrap();
    drop(store);
    let disk = SimDisk::with_files(&older, &disk.after_kill().log().to_bytes(), 1);
    let refused = open_with(&disk, &small()).unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("its file is older than its log"),
        "{refused}"
    );
}
