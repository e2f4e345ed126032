//! The one place where time is read.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use paloma_session::{Monotonic, Now, Wall};
use tokio::time::Instant;

/// Both clocks. The monotonic one is tokio's, so that a test may pause it.
#[derive(Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self {
            origin: Instant::now(),
        }
    }

    pub(crate) fn now(&self) -> Now {
        let elapsed = Instant::now().saturating_duration_since(self.origin);
        // A clock before 1970 is a broken one; messages then do not age until it is set.
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Now::new(
            Monotonic::from_nanos(saturating_u64(elapsed.as_nanos())),
            Wall::from_millis(saturating_u64(wall.as_millis())),
        )
    }

    /// The same point on tokio's clock, at most a year ahead, which every clock can say.
    pub(crate) fn instant(&self, at: Monotonic) -> Instant {
        const YEAR: Duration = Duration::from_secs(365 * 24 * 3_600);
        self.origin + at.since(Monotonic::ZERO).min(YEAR + self.origin.elapsed())
    }
}

fn saturating_u64(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}
