//! The two clocks of the protocol's state.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use paloma_session::{Monotonic, Now, Wall};
use tokio::time::Instant;

/// Tells the time since the client began, and the wall's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self {
            origin: Instant::now(),
        }
    }

    pub(crate) fn now(self) -> Now {
        let monotonic = u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        let wall = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
        Now::new(Monotonic::from_nanos(monotonic), Wall::from_millis(wall))
    }

    /// The instant of a point of the monotonic clock.
    pub(crate) fn instant(self, point: Monotonic) -> Instant {
        self.origin + Duration::from_nanos(point.as_nanos())
    }
}
