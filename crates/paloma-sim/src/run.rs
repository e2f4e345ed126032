//! One seed, from beginning to end.

use std::panic::{self, AssertUnwindSafe};

use crate::options::{ERA, Options};
use crate::plan;
use crate::violation::{Invariant, Violation};
use crate::world::World;

/// Which part of a seed's world is lived.
#[derive(Clone, Debug)]
pub struct Run {
    /// The seed.
    pub seed: u64,
    /// The era whose worlds are lived in: a seed keeps its world in the era that it was found in.
    pub era: u32,
    /// The steps that are taken; all of them if there is no list.
    pub steps: Option<Vec<usize>>,
    /// Whether a line is written for everything that happens.
    pub wants_lines: bool,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            seed: 0,
            era: ERA,
            steps: None,
            wants_lines: false,
        }
    }
}

/// What a seed came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// What kind of world it made.
    pub options: Options,
    /// Steps that were planned.
    pub steps: usize,
    /// A hash of everything that went into the broker and came out of it, and when.
    pub trace: u64,
    /// What did not hold, if anything.
    pub violation: Option<Violation>,
    /// Nanoseconds of simulated life.
    pub nanos: u64,
    /// Faults that were injected.
    pub faults: u64,
    /// Messages that were published.
    pub messages: u64,
    /// What happened, if that was wanted.
    pub lines: Vec<String>,
}

/// Lives through a seed's world. A panic in the code under test is a violation as well.
#[must_use]
pub fn run(run: &Run) -> Report {
    let options = Options::of_seed(run.seed, run.era);
    let mut plan = plan::draw(run.seed, &options);
    let steps = plan.len();
    if let Some(kept) = &run.steps {
        plan.retain(|step| kept.contains(&step.number));
    }
    let mut world = World::new(run.seed, options.clone(), run.wants_lines);
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| world.live(&plan)));
    let violation = match outcome {
        Ok(()) => world.oracle.violation().cloned(),
        Err(cause) => Some(Violation {
            invariant: Invariant::Protocol,
            at: world.at(),
            what: format!("panicked: {}", text_of(&*cause)),
        }),
    };
    Report {
        seed: run.seed,
        options,
        steps,
        trace: world.trace.hash(),
        violation,
        nanos: world.counts.nanos,
        faults: world.counts.faults,
        messages: world.counts.messages,
        lines: world.trace.into_lines(),
    }
}

fn text_of(cause: &(dyn std::any::Any + Send)) -> &str {
    let text = cause.downcast_ref::<&str>().copied();
    text.or_else(|| cause.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

/// Leaves out steps as long as the same invariant still fails, and gives the numbers of those that have to stay.
#[must_use]
pub fn shrink(seed: u64, era: u32) -> Option<(Vec<usize>, Report)> {
    let whole = run(&Run {
        seed,
        era,
        ..Run::default()
    });
    let invariant = whole.violation.as_ref()?.invariant;
    let mut kept: Vec<usize> = (0..whole.steps).collect();
    let mut best = whole;
    let mut size = kept.len().div_ceil(2);
    while size > 0 {
        let mut start = 0;
        while start < kept.len() {
            let end = (start + size).min(kept.len());
            let without: Vec<usize> = kept
                .iter()
                .enumerate()
                .filter(|(place, _)| !(start..end).contains(place))
                .map(|(_, step)| *step)
                .collect();
            let report = run(&Run {
                seed,
                era,
                steps: Some(without.clone()),
                wants_lines: false,
            });
            let still_fails = report
                .violation
                .as_ref()
                .is_some_and(|violation| violation.invariant == invariant);
            if still_fails {
                kept = without;
                best = report;
            } else {
                start = end;
            }
        }
        size /= 2;
    }
    Some((kept, best))
}
