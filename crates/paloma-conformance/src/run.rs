//! Runs tests beside each other, each on topics and client identifiers of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use paloma_codec::{ConnAck, ProtocolVersion};

use crate::lab::{Lab, Setting, declared};
use crate::suite::{Section, Test};
use crate::verdict::{Stop, Verdict};

/// How one test ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The broker does what the statements ask for.
    Passed,
    /// It does not, with what came instead.
    Failed(String),
    /// It has declared that it lacks what the test is about.
    NotApplicable(String),
}

/// One test in one version.
#[derive(Debug)]
pub struct Record {
    /// Its section's name.
    pub section: &'static str,
    /// Its name.
    pub name: &'static str,
    /// The version it was run in.
    pub version: ProtocolVersion,
    /// The statements it proves there.
    pub statements: Vec<&'static str>,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took.
    pub time: Duration,
}

/// What to run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The broker and the deadlines.
    pub setting: Setting,
    /// One version, or both.
    pub version: Option<ProtocolVersion>,
    /// A test's name or a statement's id; all without it.
    pub only: Option<String>,
    /// How many tests run at a time.
    pub parallel: usize,
}

/// Runs the plan and tells of each test as it ends. The records are in the suite's order.
///
/// # Errors
/// The broker is not there.
pub fn run(
    plan: &Plan,
    sections: &[Section],
    tell: impl Fn(usize, usize, &Record) + Sync,
) -> Verdict<Vec<Record>> {
    let declared = declared(&plan.setting)?;
    let mut chosen = choose(plan, sections);
    let total = chosen.len();
    // Whoever waits for seconds begins first.
    chosen.sort_by_key(|(_, _, test, _)| !test.is_slow);
    let next = AtomicUsize::new(0);
    let done = AtomicUsize::new(0);
    let records = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..plan.parallel.clamp(1, 256) {
            scope.spawn(|| {
                while let Some((number, section, test, version)) =
                    chosen.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let record = judge(plan, &declared, *number, section, test, *version);
                    tell(done.fetch_add(1, Ordering::Relaxed) + 1, total, &record);
                    let mut records = records.lock().unwrap_or_else(PoisonError::into_inner);
                    records.push((*number, record));
                }
            });
        }
    });
    let mut records = records.into_inner().unwrap_or_else(PoisonError::into_inner);
    records.sort_by_key(|(number, _)| *number);
    Ok(records.into_iter().map(|(_, record)| record).collect())
}

type Chosen<'a> = (usize, &'static str, &'a Test, ProtocolVersion);

fn choose<'a>(plan: &Plan, sections: &'a [Section]) -> Vec<Chosen<'a>> {
    let mut chosen = Vec::new();
    for section in sections {
        for test in &section.tests {
            for version in test.versions {
                let is_version = plan.version.is_none_or(|only| only == *version);
                let is_named = plan.only.as_deref().is_none_or(|only| {
                    test.name == only || test.statements(*version).any(|id| id == only)
                });
                if is_version && is_named {
                    // 0 is whoever asks what the broker declares.
                    chosen.push((chosen.len() + 1, section.name, test, *version));
                }
            }
        }
    }
    chosen
}

fn judge(
    plan: &Plan,
    declared: &ConnAck,
    number: usize,
    section: &'static str,
    test: &Test,
    version: ProtocolVersion,
) -> Record {
    let begin = Instant::now();
    let lab = Lab::new(&plan.setting, declared, version, number);
    let verdict = catch_unwind(AssertUnwindSafe(|| (test.run)(&lab)))
        .unwrap_or_else(|_| Err(Stop::failed("the test has panicked")));
    let outcome = match verdict {
        Ok(()) => Outcome::Passed,
        Err(Stop::NotApplicable(reason)) => Outcome::NotApplicable(reason),
        Err(failure @ Stop::Failed { .. }) => Outcome::Failed(failure.to_string()),
    };
    lab.clean_up();
    Record {
        section,
        name: test.name,
        version,
        statements: test.statements(version).collect(),
        outcome,
        time: begin.elapsed(),
    }
}
