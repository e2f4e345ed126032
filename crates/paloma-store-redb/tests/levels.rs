//! What each level promises, and that less is noticed.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a failed test is what a panic is for"
)]

mod support;

use std::cell::Cell;
use std::time::Duration;

use paloma_broker::store::Store;
use paloma_store_redb::disk::Disk;
use paloma_store_redb::disk::sim::{Fault, SimDisk};
use paloma_store_redb::{Durability, Options, RedbStore};
use support::{Pair, contents, open_with, small, steps};

thread_local! {
    static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

fn options(durability: Durability) -> Options {
    Options {
        durability,
        interval: Duration::from_millis(100),
        clock: || NOW.with(Cell::get),
        ..small()
    }
}

fn open(disk: &SimDisk, durability: Durability) -> RedbStore {
    open_with(disk, &options(durability)).unwrap()
}

/// What happens to the machine.
#[derive(Clone, Copy)]
enum Crash {
    Kill,
    PowerCut,
}

/// Commits `commits` groups 30 ms apart, crashes, and says how many of the last groups are missing; `None` if the store
/// cannot be read or holds what it never held.
fn lost(durability: Durability, crash: Crash, commits: u64, seed: u64) -> Option<usize> {
    let disk = SimDisk::new(seed);
    let mut pair = Pair::default();
    let mut store = open(&disk, durability);
    for commit in 0..commits {
        NOW.set(NOW.get() + Duration::from_millis(30));
        store
            .commit(&mut pair.group(&steps(seed * 1_000 + commit, 12)))
            .unwrap();
        store.rest().unwrap();
    }
    let survivor = match crash {
        Crash::Kill => disk.after_kill(),
        Crash::PowerCut => disk.after_power_cut(seed),
    };
    drop(store);
    let options = options(durability);
    let mut store = open_with(&survivor, &options).ok()?;
    let found = contents(&mut store);
    let mut history = pair.history.iter().rev();
    history.position(|then| *then == found)
}

fn worst(durability: Durability, crash: Crash) -> Option<usize> {
    let outcomes = (0..24).map(|seed| lost(durability, crash, 7 + seed % 5, seed));
    outcomes.collect::<Option<Vec<_>>>()?.into_iter().max()
}

#[test]
fn ack_loses_nothing_at_a_power_cut() {
    assert_eq!(worst(Durability::Ack, Crash::PowerCut), Some(0));
    assert_eq!(worst(Durability::Ack, Crash::Kill), Some(0));
}

#[test]
fn os_loses_nothing_at_a_kill() {
    assert_eq!(worst(Durability::Os, Crash::Kill), Some(0));
}

#[test]
fn os_in_place_of_ack_is_caught() {
    assert_ne!(worst(Durability::Os, Crash::PowerCut), Some(0));
}

#[test]
fn interval_loses_its_interval_at_most() {
    // 100 ms hold three commits that are 30 ms apart, and the one that is due.
    for crash in [Crash::Kill, Crash::PowerCut] {
        let worst = worst(Durability::Interval, crash).unwrap();
        assert!(worst <= 4, "{worst}");
    }
}

#[test]
fn interval_in_place_of_ack_or_os_is_caught() {
    assert!(worst(Durability::Interval, Crash::Kill) > Some(0));
    assert!(worst(Durability::Interval, Crash::PowerCut) > Some(0));
}

#[test]
fn interval_syncs_while_nothing_is_committed() {
    let disk = SimDisk::new(3);
    let mut pair = Pair::default();
    let mut store = open(&disk, Durability::Interval);
    store.commit(&mut pair.group(&steps(3, 12))).unwrap();
    let again = store.rest().unwrap().again_after;
    assert_eq!(again, Some(Duration::from_millis(100)));
    NOW.set(NOW.get() + Duration::from_millis(100));
    assert_eq!(store.rest().unwrap().again_after, None);
    let survivor = disk.after_power_cut(3);
    drop(store);
    let found = contents(&mut open(&survivor, Durability::Interval));
    assert_eq!(found, pair.now());
}

#[test]
fn the_engine_takes_over_what_the_log_has_once_the_store_is_at_rest() {
    let disk = SimDisk::new(3);
    let mut pair = Pair::default();
    let mut store = open(&disk, Durability::Ack);
    store.commit(&mut pair.group(&[(0, 0, 0)])).unwrap();
    assert_eq!(store.rest().unwrap().again_after, None);
    // The first group goes to the engine, and tells that there is a log from there on.
    let before = disk.to_bytes();
    for _ in 0..3 {
        NOW.set(NOW.get() + Duration::from_millis(900));
        store.commit(&mut pair.group(&[(0, 0, 0)])).unwrap();
        let again = store.rest().unwrap().again_after;
        assert_eq!(again, Some(Duration::from_secs(1)));
    }
    assert_eq!(disk.to_bytes(), before);
    NOW.set(NOW.get() + Duration::from_secs(1));
    assert_eq!(store.rest().unwrap().again_after, None);
    assert_ne!(disk.to_bytes(), before);
    drop(store);
    // The log has no part in it any more.
    let next = disk.after_power_cut(3);
    next.log().write(0, &[0; 4_096]).unwrap();
    let found = contents(&mut open(&next, Durability::Ack));
    assert_eq!(found, pair.now());
}

#[test]
fn a_log_is_taken_over_by_a_store_of_any_level() {
    for durability in Durability::ALL {
        let disk = SimDisk::new(4);
        let mut pair = Pair::default();
        let mut store = open(&disk, Durability::Ack);
        for _ in 0..5 {
            store.commit(&mut pair.group(&[(0, 0, 0)])).unwrap();
        }
        drop(store);
        let disk = disk.after_power_cut(4);
        let mut store = open(&disk, durability);
        store.commit(&mut pair.group(&[(0, 0, 0)])).unwrap();
        let found = contents(&mut store);
        assert_eq!(found, pair.now(), "{durability}");
        store.close().unwrap();
        drop(store);
        let found = contents(&mut open(&disk.after_power_cut(4), durability));
        assert_eq!(found, pair.now(), "{durability}");
    }
}

#[test]
fn none_in_place_of_interval_is_caught() {
    assert!(worst(Durability::None, Crash::Kill) > Some(4));
}

#[test]
fn a_clean_stop_loses_nothing_at_any_level() {
    for durability in Durability::ALL {
        let disk = SimDisk::new(9);
        let mut pair = Pair::default();
        let mut store = open(&disk, durability);
        for commit in 0..8 {
            store.commit(&mut pair.group(&steps(commit, 12))).unwrap();
        }
        store.close().unwrap();
        drop(store);
        assert!(!disk.is_dirty(), "{durability}");
        let found = contents(&mut open(&disk.after_power_cut(9), durability));
        assert_eq!(found, pair.now(), "{durability}");
    }
}

#[test]
fn without_a_clean_stop_none_keeps_what_the_last_one_kept() {
    let disk = SimDisk::new(9);
    let mut pair = Pair::default();
    let mut store = open(&disk, Durability::None);
    store.commit(&mut pair.group(&steps(1, 12))).unwrap();
    store.close().unwrap();
    drop(store);
    let kept = pair.now().to_vec();
    let mut store = open(&disk, Durability::None);
    store.commit(&mut pair.group(&steps(2, 12))).unwrap();
    let survivor = disk.after_kill();
    drop(store);
    assert_eq!(contents(&mut open(&survivor, Durability::None)), kept);
}

#[test]
fn every_moment_of_a_commit_survives_a_power_cut() {
    let run = |disk: &SimDisk, pair: &mut Pair| {
        let options = options(Durability::Ack);
        let mut store = open_with(disk, &options).ok()?;
        for commit in 0..10 {
            store.commit(&mut pair.group(&steps(commit, 12))).ok()?;
        }
        store.close().ok()
    };
    let disk = SimDisk::new(0);
    run(&disk, &mut Pair::default()).unwrap();
    let operations = disk.operations();
    for operation in (0..operations).step_by(3) {
        let disk = SimDisk::new(operation);
        disk.schedule(operation, Fault::PowerCut);
        let mut pair = Pair::default();
        assert_eq!(run(&disk, &mut pair), None);
        for seed in 0..3 {
            let survivor = disk.fork_after_power_cut(seed + operation);
            let found = contents(&mut open(&survivor, Durability::Ack));
            let may_be = pair.history.iter().rev().take(2);
            assert!(
                may_be.clone().any(|then| *then == found),
                "operation {operation}, seed {seed}"
            );
        }
    }
}
