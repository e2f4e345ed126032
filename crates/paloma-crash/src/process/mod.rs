//! The real binary on a real directory, killed again and again.

pub mod calls;
mod drive;
pub mod full;
mod series;
pub mod server;

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::check::Verdict;
pub use series::{Outcome, run_series};
pub use server::{Server, ServerSpec};

/// Cycles on one directory, with one cast, between two judgements.
pub const SERIES_CYCLES: u64 = 10;

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The `paloma` binary.
    pub program: PathBuf,
    /// Where series make their directories.
    pub root: PathBuf,
    /// The level of durability.
    pub durability: String,
    /// Kills in all.
    pub cycles: u64,
    /// Series at a time.
    pub parallel: usize,
    /// Where everything random begins.
    pub seed: u64,
    /// End with the first series that fails.
    pub stops_at_failure: bool,
}

/// Runs all series of a plan; `tell` hears of each as it ends.
///
/// # Panics
/// If a broker cannot be run at all.
pub fn run(plan: &Plan, tell: impl Fn(&Outcome) + Sync) -> (u64, Verdict) {
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let total = Mutex::new((0, Verdict::default()));
    let series = plan.cycles.div_ceil(SERIES_CYCLES);
    thread::scope(|scope| {
        for _ in 0..plan.parallel.max(1) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if number >= series || stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let cycles = SERIES_CYCLES.min(plan.cycles - number * SERIES_CYCLES);
                    let outcome = run_series(plan, plan.seed.wrapping_add(number), cycles);
                    if !outcome.verdict.is_clean() && plan.stops_at_failure {
                        stop.store(true, Ordering::SeqCst);
                    }
                    tell(&outcome);
                    let mut total = total.lock().unwrap();
                    total.0 += outcome.cycles;
                    total.1.add(&outcome.verdict);
                }
            });
        }
    });
    total.into_inner().unwrap()
}
