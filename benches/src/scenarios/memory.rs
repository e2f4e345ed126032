//! The memory account of `paloma-broker` apart from what it counts.

use std::time::Duration;

use paloma_session::Now;

use super::broker::{Driver, NOW, World, messages};
use crate::{Scenario, Work};

pub(super) const SCENARIOS: &[Scenario] = &[
    // What every turn pays for it, together with all else that has nothing to do.
    Scenario::gated("memory/quiet-turn", 100, || quiet_turns(100)),
    // A round over a thousand clients, for each of their sessions and connections.
    Scenario::gated("memory/round/clients", 2_000, || {
        round(&World::one_to_many_exact(1_000), 0, 4)
    }),
    // A round over what waits in queues, for each delivery.
    Scenario::gated("memory/round/deliveries", 7 * 480, || {
        round(&World::one_to_many_unread(8), 480, 5)
    }),
];

/// Turns in which nothing happens, far from the memory limit.
fn quiet_turns(count: usize) -> Work {
    let mut driver = Driver::new(&World::one_to_many_exact(100));
    Box::new(move || {
        for _ in 0..count {
            driver.broker.finish_turn(NOW);
        }
    })
}

/// A round, which takes so many turns, over `count` messages for each subscriber.
fn round(world: &World, count: u16, turns: usize) -> Work {
    /// As many as a client may have open.
    const BATCH: u16 = 32;
    let mut driver = Driver::new(world);
    let mut publisher = driver.connect("publisher");
    let batch = messages(world, BATCH);
    for _ in 0..count / BATCH {
        driver.input(&mut publisher, &batch);
        driver.settle();
    }
    let mut now = NOW.monotonic;
    Box::new(move || {
        // Longer than a round may be put off.
        now = now.saturating_add(Duration::from_secs(11));
        for _ in 0..turns {
            driver.broker.finish_turn(Now::new(now, NOW.wall));
        }
    })
}
