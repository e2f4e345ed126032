//! Scenarios measured twice: in time by criterion, in instructions by `cargo xtask bench-gate`.
//!
//! A scenario prepares its world, then hands out one closure that does the measured work once. Add yours to the file of
//! its crate below `scenarios/`: a line in that file's `SCENARIOS`, and its reference by `cargo xtask bench-gate --update`.

pub mod by_hand;
pub mod scenarios;

use std::hint::black_box;

pub use scenarios::common_packets;

/// The measured work of a scenario, done once for each call; what it captures is not measured.
pub type Work = Box<dyn FnMut()>;

/// A named piece of work whose instructions are counted and compared with `instructions.tsv`.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// `crate/what/size`, unique; the key in `instructions.tsv`.
    pub name: &'static str,
    /// How many units (messages, packets, matches) one call of the work handles; counts are given per unit.
    pub units: u64,
    /// Whether the gate counts it; not if preparing it would take minutes under callgrind, some 50 times slower.
    pub is_gated: bool,
    /// Builds the world and returns the work.
    pub prepare: fn() -> Work,
}

/// Calls of the work before counting starts, so that buffers have grown and tables are warm.
const WARM_UP: u32 = 3;
/// Calls that are counted.
pub const COUNTED: u32 = 10;

impl Scenario {
    /// One that the gate counts.
    pub const fn gated(name: &'static str, units: u64, prepare: fn() -> Work) -> Self {
        Self {
            name,
            units,
            is_gated: true,
            prepare,
        }
    }

    /// One for the clock alone.
    pub const fn timed(name: &'static str, units: u64, prepare: fn() -> Work) -> Self {
        Self {
            name,
            units,
            is_gated: false,
            prepare,
        }
    }

    /// Prepares, warms up, and runs the work [`COUNTED`] times inside [`paloma_counted_region`].
    pub fn run(&self) {
        let mut work = (self.prepare)();
        for _ in 0..WARM_UP {
            work();
        }
        paloma_counted_region(&mut work);
    }
}

/// Callgrind collects from entry to exit of this function and nowhere else; its name is what the gate looks for.
#[inline(never)]
pub fn paloma_counted_region(work: &mut Work) {
    for _ in 0..COUNTED {
        black_box(&mut *work)();
    }
}
