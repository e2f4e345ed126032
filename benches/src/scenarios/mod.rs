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

/// Filters of one group, each of which matches the group's topic: those of the load's scenarios with very many.
fn filters_of_group(group: usize) -> [String; 3] {
    [
        format!("load/{group:07}/+/value"),
        format!("+/{group:07}/room/value"),
        format!("load/{group:07}/#"),
    ]
}

fn topic_of_group(group: usize) -> String {
    format!("load/{group:07}/room/value")
}

/// All groups, neighbours far apart: a stride of about the golden ratio that is coprime to their number.
fn far_groups(groups: usize) -> impl Iterator<Item = usize> {
    let is_coprime = |stride: &usize| {
        let (mut a, mut b) = (*stride, groups);
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a == 1
    };
    let stride = (groups * 5 / 8..).find(is_coprime).unwrap_or(1);
    (0..groups).map(move |step| step * stride % groups)
}
