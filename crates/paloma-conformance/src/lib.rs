//! Judges any MQTT broker by its address, statement by statement of both standards.
#![doc = include_str!("../README.md")]
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test names the packet that it waits for; every other one is a failure"
)]

mod cases;
pub mod client;
pub mod differential;
pub mod lab;
pub mod report;
pub mod requests;
mod run;
mod suite;
pub mod target;
pub mod verdict;
pub mod websocket;
pub mod wire;

use std::time::{SystemTime, UNIX_EPOCH};

pub use lab::Setting;
pub use run::{Outcome, Plan, Record, run};
pub use suite::{Section, Test, sections};
pub use target::Target;
pub use verdict::{Stop, Verdict};

/// A short name that tells this run's topics and clients from those of earlier ones.
#[must_use]
pub fn run_name() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let millis = now.map_or(0, |time| time.as_millis());
    format!("c{:06x}", millis & 0xFF_FFFF)
}
