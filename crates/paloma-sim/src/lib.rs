//! A deterministic world around Paloma's broker, and an oracle that says when it does wrong.
//!
//! [`run()`] makes a world from a seed: the real [`Broker`](paloma_broker::Broker), the real
//! [`Connection`](paloma_session::Connection)s of both roles and the real codecs, over simulated byte streams, on a virtual
//! clock, beside a naive oracle. The same seed gives the same trace on every machine.
#![doc = include_str!("../README.md")]

mod clients;
mod host;
mod hostile;
mod keeper;
mod kept;
mod options;
mod oracle;
mod pipe;
mod plan;
mod random;
mod rules;
mod run;
mod sayings;
mod trace;
mod violation;
mod world;

pub use kept::{Bite, Kept, bites, kept_seeds, write_bites};
pub use options::{ERA, Options};
pub use run::{Report, Run, run, shrink};
pub use violation::{Invariant, Violation};
