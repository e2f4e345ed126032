//! The two clocks of the protocol's state.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use paloma_session::{Monotonic, Now, Wall, WallClock};
use tokio::time::Instant;

/// Tells the time since the client began, and the wall's, less its jumps: what waits to be sent ages by it, and a device
/// may be told today's date after it has begun to publish.
#[derive(Debug)]
pub(crate) struct Clock {
    origin: Instant,
    wall: WallClock,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self {
            origin: Instant::now(),
            wall: WallClock::default(),
        }
    }

    pub(crate) fn now(&mut self) -> Now {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        self.read(self.origin.elapsed(), wall)
    }

    fn read(&mut self, monotonic: Duration, wall: Duration) -> Now {
        let monotonic = u64::try_from(monotonic.as_nanos()).unwrap_or(u64::MAX);
        let wall = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
        let now = Now::new(Monotonic::from_nanos(monotonic), Wall::from_millis(wall));
        self.wall.read(now)
    }

    /// The instant of a point of the monotonic clock.
    pub(crate) fn instant(&self, point: Monotonic) -> Instant {
        self.origin + Duration::from_nanos(point.as_nanos())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_clock_that_is_set_from_1970_to_today_ages_nothing() {
        let mut clock = Clock::new();
        let booted = clock.read(Duration::from_secs(1), Duration::from_secs(10));
        let today = Duration::from_secs(1_800_000_000);
        let set = clock.read(Duration::from_secs(3), today);
        assert_eq!(set.wall.millis_since(booted.wall), 2_000);
    }
}
