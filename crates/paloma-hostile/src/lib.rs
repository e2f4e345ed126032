//! Hostile clients against a broker, one kind after the other, beside a pair of clients that must not notice.
//!
//! An actor ([`ACTORS`]) is a function that does its worst and notes each answer; [`run`] starts a broker, gives each actor its
//! turn and measures: the pair's latency, the broker's memory and CPU, and whether everything was as it must be.
#![allow(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "development code like the harness it stands on: a panic of an actor is caught and reported as a finding, and \
              answers that it does not wait for are passed over"
)]

mod actors;
mod answer;
mod attack;
mod canary;
mod doors;
mod report;
mod run;
mod sampler;

pub use actors::{ACTORS, Actor};
pub use answer::{Answer, Tally};
pub use attack::{Attack, Pace};
pub use canary::Song;
pub use doors::Doors;
pub use report::{Record, Row};
pub use run::{Plan, Turn, run};
