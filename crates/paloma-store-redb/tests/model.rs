//! The store against a model in memory, restarted at any commit.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a failed test is what a panic is for"
)]

mod support;

use paloma_broker::store::Store;
use paloma_store_redb::disk::sim::SimDisk;
use proptest::prelude::*;
use support::{Pair, Step, contents, open};

/// Commits groups to the store and to the model, restarts the store after some, and compares behind each restart and now and
/// then: what is compared is taken out of the log.
fn check(groups: &[(Vec<Step>, u8)]) {
    let mut disk = SimDisk::new(1);
    let mut pair = Pair::default();
    let mut store = open(&disk);
    for (steps, restart) in groups {
        store.commit(&mut pair.group(steps)).unwrap();
        match restart % 8 {
            0 => {
                store.close().unwrap();
                drop(store);
                store = open(&disk);
            }
            1 => {
                let next = disk.after_kill();
                drop(store);
                disk = next;
                store = open(&disk);
            }
            2 => {
                let next = disk.after_power_cut(u64::from(*restart));
                drop(store);
                disk = next;
                store = open(&disk);
            }
            3 => {}
            4.. => continue,
        }
        // The mark comes first, and with the next group that changes anything.
        let found = contents(&mut store);
        assert_eq!(found[1..], pair.now()[1..]);
    }
    assert_eq!(contents(&mut store)[1..], pair.now()[1..]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_store_holds_what_the_model_holds(
        groups in prop::collection::vec(
            (prop::collection::vec(any::<Step>(), 1..40), any::<u8>()),
            1..12,
        )
    ) {
        check(&groups);
    }
}

#[test]
fn a_long_run_holds_what_the_model_holds() {
    let groups: Vec<_> = (0..120)
        .map(|group| (support::steps(group, 60), (group * 37 % 256) as u8))
        .collect();
    check(&groups);
}

#[test]
fn a_group_that_changes_nothing_writes_nothing() {
    let disk = SimDisk::new(1);
    let mut pair = Pair::default();
    let mut store = open(&disk);
    store.commit(&mut pair.group(&[(0, 0, 0)])).unwrap();
    assert_eq!(contents(&mut store), pair.now(), "the mark as well");
    let before = disk.operations();
    let mut group = vec![pair.workload.batch(&[])];
    let seq = group[0].seq;
    assert_eq!(store.commit(&mut group).unwrap().seq, seq);
    assert_eq!(disk.operations(), before);
    store.commit(&mut pair.group(&[(0, 0, 0)])).unwrap();
    assert_eq!(contents(&mut store), pair.now());
}

#[test]
fn a_drained_store_holds_no_message() {
    let disk = SimDisk::new(1);
    let mut pair = Pair::default();
    let mut store = open(&disk);
    for seed in 0..40 {
        store
            .commit(&mut pair.group(&support::steps(seed, 60)))
            .unwrap();
    }
    assert!(store.usage().messages > 0);
    let mut batch = pair.workload.batch(&[]);
    for id in 0..2_000 {
        let session = paloma_broker::store::SessionId(id);
        batch
            .ops
            .push(paloma_broker::store::StoreOp::DeleteSession(session));
        let message = paloma_broker::store::MessageId(id);
        batch
            .ops
            .push(paloma_broker::store::StoreOp::DeleteFanOut(message));
    }
    for topic in 0..16 {
        let topic = format!("topic/{topic}").into();
        batch
            .ops
            .push(paloma_broker::store::StoreOp::DeleteRetained(topic));
    }
    store.commit(&mut vec![batch]).unwrap();
    let usage = store.usage();
    assert_eq!((usage.messages, usage.entries), (0, 0));
    drop(store);
    let usage = open(&disk.after_kill()).usage();
    assert_eq!((usage.messages, usage.entries), (0, 0));
}
