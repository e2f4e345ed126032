//! The same generated scripts to two brokers, and whether they react alike.
//!
//! What the standards leave free is taken out of the reactions before they are compared: packet identifiers, whether a
//! closed connection was told why, the order of answers and messages of different topics, success with and without
//! matching subscribers, and whether overlapping subscriptions bring one copy or several. Scripts keep away from what
//! `docs/differences.md` lists, each place with the statement there.

mod play;
mod script;

pub use play::play;
pub use script::{Op, Script};
