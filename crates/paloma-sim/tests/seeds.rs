//! The worlds themselves: the same seed gives the same trace, what failed once does not, and neither do the first seeds.

use paloma_sim::{Report, Run, bites, kept_seeds, run};
use paloma_topic::Fault;

fn live(seed: u64) -> Report {
    run(&Run {
        seed,
        ..Run::default()
    })
}

fn check(seed: u64) -> Report {
    let report = live(seed);
    assert_eq!(report.violation, None, "seed {seed}: {}", report.options);
    report
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    // I12
    for seed in 0..40 {
        let (one, other) = (live(seed), live(seed));
        assert_eq!(one.trace, other.trace, "seed {seed}");
        assert_ne!(one.trace, live(seed + 1).trace, "seeds {seed} and the next");
    }
}

#[test]
fn seeds_that_failed_once_hold() {
    for kept in kept_seeds() {
        let report = run(&Run {
            seed: kept.seed,
            era: kept.era,
            ..Run::default()
        });
        assert_eq!(
            report.violation, None,
            "seed {}: {}",
            kept.seed, report.options
        );
    }
}

/// `cargo xtask sim --bites --known`, which CI runs, shows that they do.
#[test]
fn each_fault_has_a_seed_and_a_row_in_the_documents() {
    let table = include_str!("../../../docs/simulation.md");
    let known = bites();
    assert_eq!(known.len(), Fault::ALL.len());
    for (fault, about) in Fault::ALL {
        let name = format!("{fault:?}");
        let bite = known.iter().find(|bite| bite.fault == name);
        let bite = bite.unwrap_or_else(|| panic!("no seed is known that shows {name}"));
        let seeds = bite.seed + 1;
        let row = format!("| {about} (`{name}`) | {} | {seeds} |", bite.invariant);
        assert!(
            table.contains(&row),
            "docs/simulation.md does not say: {row}"
        );
    }
}

#[test]
fn the_first_seeds_hold() {
    let reports: Vec<_> = (0..120).map(check).collect();
    // A world in which nothing happens shows nothing.
    assert!(reports.iter().map(|report| report.messages).sum::<u64>() > 2_000);
    assert!(reports.iter().map(|report| report.faults).sum::<u64>() > 500);
}

#[test]
fn a_plan_with_steps_left_out_is_lived_the_same_way_each_time() {
    let part = |steps: Vec<usize>| {
        run(&Run {
            seed: 5,
            steps: Some(steps),
            wants_lines: true,
            ..Run::default()
        })
    };
    let steps: Vec<usize> = (0..30).step_by(2).collect();
    let (one, other) = (part(steps.clone()), part(steps));
    assert_eq!(one.lines, other.lines);
    assert!(one.lines.iter().all(|line| !line.contains("step 7 ")));
}
