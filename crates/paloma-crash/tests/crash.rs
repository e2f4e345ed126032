//! The real broker, killed under load.
#![allow(clippy::print_stdout, reason = "figures of a run")]

use std::path::PathBuf;

use paloma_crash::check::Verdict;
use paloma_crash::process::{Plan, run};
use paloma_interop::broker::paloma;

fn kill(durability: &str, cycles: u64, parallel: usize) -> (u64, Verdict) {
    let plan = Plan {
        program: paloma().to_owned(),
        root: PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
        durability: durability.to_owned(),
        cycles,
        parallel,
        seed: 1_000,
        stops_at_failure: true,
    };
    let (cycles, verdict) = run(&plan, |outcome| {
        println!("seed {}: {}", outcome.seed, outcome.verdict);
        if !outcome.verdict.is_clean() {
            println!(
                "see {}: {:#?}",
                outcome.directory.display(),
                outcome.verdict.words
            );
        }
    });
    println!("{durability}: cycles {cycles}, {verdict}");
    (cycles, verdict)
}

#[test]
fn fifty_kills_lose_repeat_and_reorder_nothing() {
    let (cycles, verdict) = kill("ack", 50, 4);
    assert!(verdict.is_clean(), "{verdict}");
    assert_eq!(cycles, 50);
    assert!(verdict.acknowledged > 0 && verdict.received > verdict.acknowledged);
}

#[test]
fn kills_lose_nothing_where_only_a_power_cut_may() {
    let (_, verdict) = kill("os", 4, 1);
    assert!(verdict.is_clean(), "{verdict}");
}

#[test]
fn kills_are_caught_losing_where_nothing_is_written_before_the_end() {
    let (_, verdict) = kill("none", 2, 1);
    assert!(verdict.lost > 0, "{verdict}");
}
