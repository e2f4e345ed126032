//! What a broker may not lose, seen by its clients.
//!
//! Clients without I/O ([`publisher`], [`subscriber`], [`watcher`]) speak to a broker through whoever drives them and write
//! what they did and saw into one [`history`]. [`check`] says what is wrong with it. [`process`] drives them against the real
//! binary, which it kills; [`power`] against core and store in this process, on a disk that loses power.
#![doc = include_str!("../README.md")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::wildcard_enum_match_arm,
    reason = "a test harness: a panic is how it reports, and a printed line is how it explains"
)]

pub mod cast;
pub mod check;
pub mod client;
pub mod history;
pub mod ledger;
pub mod message;
pub mod power;
pub mod process;
pub mod publisher;
pub mod subscriber;
pub mod watcher;
