//! What the tests with real clients, broken networks and hand-made bytes stand on.
//!
//! A test starts a [`broker::Broker`] of its own on a free port, drives clients of four families through one
//! interface ([`peer::Peer`]) or sends bytes of its own ([`raw::RawClient`]), and may put a
//! [`proxy::Proxy`] in between that breaks the network in a seeded way. Every wait has a deadline.
#![doc = include_str!("../README.md")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::wildcard_enum_match_arm,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    reason = "a test harness: a panic is how it reports, and a printed line is how it explains a skip; \
              what a test does not wait for it passes over"
)]

pub mod broker;
pub mod canary;
pub mod certificates;
pub mod commands;
pub mod home;
pub mod malformed;
pub mod own;
pub mod pages;
mod patience;
pub mod peer;
pub mod process;
pub mod proxy;
pub mod random;
pub mod raw;
pub mod rumqttc;
mod scenario_tests;
pub mod scenarios;
pub mod scripted;
pub mod tools;
pub mod transport;
pub mod websocket;
pub mod wire;

use std::time::{Duration, Instant};

/// How long a test waits for one thing that should happen at once: far more than is needed on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `question` has an answer, for what cannot be awaited as an event.
///
/// # Panics
/// If there is none within [`PATIENCE`].
pub fn eventually<T>(what: &str, mut question: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = question() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
