//! The short forms of `cargo xtask scale` and `cargo xtask load --durable`: what they check, in a size that takes seconds.
#![cfg(feature = "store")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use paloma_load::durable::large::{self, Large};
use paloma_load::durable::scale::{self, Scale};
use paloma_load::durable::{self, Durable};

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn paloma() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_paloma"))
}

#[test]
fn a_full_store_starts_after_a_kill_and_a_stop_and_is_drained_in_order() {
    let scale = Scale {
        paloma: paloma(),
        directory: directory("scale"),
        messages: 4_000,
        sessions: 200,
        drained: 10_000,
        memory_bytes_max: 192 << 20,
        ready_max: Duration::from_secs(100),
    };
    let (table, is_met) = scale::run(&scale, |_| {}).expect("nothing is lost or out of order");
    assert!(is_met, "{table}");
    assert!(
        table.contains("| one of the clients comes back | 20 messages"),
        "{table}"
    );
}

#[test]
fn a_large_file_is_opened_after_a_kill_and_a_stop() {
    let large = Large {
        paloma: paloma(),
        directory: directory("large"),
        bytes: 4_000_000,
    };
    let table = large::run(&large, |_| {}).expect("nothing is lost");
    for what in ["after `kill -9`", "after a clean stop"] {
        let row = format!("| first CONNACK {what} | ");
        assert!(table.contains(&row), "{table}");
    }
}

#[test]
fn durable_traffic_is_measured_beside_the_disk() {
    let durable = Durable {
        paloma: paloma(),
        mosquitto: None,
        directory: directory("durable"),
        rounds: 1,
        duration: Duration::from_millis(200),
        only: Some("10 × 1, offline".to_owned()),
    };
    let table = durable::run(&durable, |_| {}).expect("the broker takes everything");
    let row = table
        .lines()
        .find(|line| line.starts_with("| 10 × 1, offline |"));
    // What a slow disk leaves unmeasured in so short a span has its cell all the same.
    let cells = row.expect("the case has a row").split('|').count();
    assert_eq!(
        Some(cells),
        table.lines().nth(1).map(|head| head.split('|').count())
    );
}
