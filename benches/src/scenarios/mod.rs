//! All scenarios, a file for each crate.

mod broker;
mod codec;
mod memory;
mod session;
mod tokio;
mod topic;

pub use codec::common_packets;

use crate::Scenario;

/// Every scenario of every crate, in the order of the layers.
pub fn all() -> impl Iterator<Item = &'static Scenario> {
    [
        topic::SCENARIOS,
        codec::SCENARIOS,
        session::SCENARIOS,
        broker::SCENARIOS,
        memory::SCENARIOS,
        tokio::SCENARIOS,
    ]
    .into_iter()
    .flatten()
}
