//! The power goes at every write and sync: what is promised holds, and what is weaker than promised is caught.
#![allow(clippy::print_stdout, reason = "figures of a run")]

use std::time::Duration;

use paloma_crash::power::{Build, Campaign, Crash, Findings, INTERVAL, Run, Syncs, campaign};
use paloma_store_redb::Durability;

/// Looks at so many states of runs that begin with this seed.
fn cut(build: Build, seed: u64, states: u64, goes_on: bool) -> Findings {
    let plan = Campaign {
        first: Run {
            build,
            seed,
            steps: 2_500,
            one_in: 12,
            goes_on,
        },
        states,
        parallel: 2,
        stops_at_failure: false,
    };
    let findings = campaign(plan, |seed, findings| {
        for words in findings.verdict.words.iter().take(5) {
            println!("seed {seed}: {words}");
        }
    });
    let Findings {
        states,
        slow,
        operations,
        verdict,
        ..
    } = &findings;
    println!(
        "{build:?}: states {states} of {operations} operations, {slow} while a sync took long, {verdict}"
    );
    findings
}

fn check_clean(build: Build, states: u64) -> Findings {
    let findings = cut(build, 7_000, states, true);
    assert!(findings.verdict.is_clean(), "{}", findings.verdict);
    assert!(findings.states >= states && findings.verdict.received > 0);
    findings
}

/// A build that is weaker than [`Durability::Ack`] promises has to be caught at once.
fn check_caught(build: Build) {
    let findings = cut(build, 8_000, 60, false);
    assert!(findings.verdict.lost > 0, "{}", findings.verdict);
}

#[test]
fn two_thousand_power_cuts_lose_repeat_and_reorder_nothing() {
    let findings = check_clean(Build::sound(Durability::Ack, Crash::PowerCut), 2_000);
    assert!(
        findings.slow > 200,
        "{} while a sync took long",
        findings.slow
    );
}

#[test]
fn a_killed_process_loses_nothing_at_the_level_that_leaves_syncs_out() {
    check_clean(Build::sound(Durability::Os, Crash::Kill), 200);
}

#[test]
fn levels_that_do_not_promise_it_are_caught_losing() {
    check_caught(Build::sound(Durability::Os, Crash::PowerCut));
    check_caught(Build::sound(Durability::Interval, Crash::PowerCut));
    check_caught(Build::sound(Durability::None, Crash::PowerCut));
    check_caught(Build::sound(Durability::None, Crash::Kill));
}

#[test]
fn the_interval_loses_its_window_and_nothing_older() {
    let build = Build::sound(Durability::Interval, Crash::PowerCut);
    let findings = cut(build, 9_000, 300, false);
    let oldest = findings.ages.iter().max().copied().unwrap_or_default();
    println!("the oldest that was lost is {oldest:?} old");
    // The run takes a step of up to two milliseconds between the store's turns, of which there is one in twelve steps.
    let slack = Duration::from_millis(200);
    assert!(
        oldest > Duration::ZERO && oldest <= INTERVAL + slack,
        "{oldest:?}"
    );
}

#[test]
fn a_sync_that_does_nothing_is_caught() {
    check_caught(Build {
        syncs: Syncs::None,
        log_syncs: Syncs::None,
        ..Build::sound(Durability::Ack, Crash::PowerCut)
    });
}

#[test]
fn a_log_that_is_not_synced_is_caught() {
    check_caught(Build {
        log_syncs: Syncs::None,
        ..Build::sound(Durability::Ack, Crash::PowerCut)
    });
}

#[test]
fn a_log_that_is_written_over_before_the_checkpoint_is_synced_is_caught() {
    check_caught(Build {
        syncs: Syncs::None,
        ..Build::sound(Durability::Ack, Crash::PowerCut)
    });
}

#[test]
fn a_sync_that_is_left_out_now_and_then_is_caught() {
    for count in [2, 5] {
        check_caught(Build {
            syncs: Syncs::OneIn(count),
            log_syncs: Syncs::OneIn(count),
            ..Build::sound(Durability::Ack, Crash::PowerCut)
        });
    }
}

#[test]
fn an_adapter_that_acknowledges_before_the_commit_is_caught() {
    for crash in [Crash::PowerCut, Crash::Kill] {
        check_caught(Build {
            is_eager: true,
            ..Build::sound(Durability::Ack, crash)
        });
    }
}

#[test]
fn retained_messages_on_their_way_that_the_store_knows_nothing_of_are_caught_missing() {
    check_caught(Build {
        forgets_marks: true,
        ..Build::sound(Durability::Ack, Crash::Kill)
    });
}
