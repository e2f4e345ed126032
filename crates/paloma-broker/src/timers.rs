//! Everything that happens later, in one queue.

use std::collections::BTreeSet;

use bytestring::ByteString;
use paloma_session::Monotonic;

use crate::connection::ConnectionId;
use crate::session::SessionKey;

/// What is due. A timer is a hint: whoever handles it checks the state and arms it again when it came too early.
/// Whoever arms one keeps its deadline and disarms it once it has become pointless, so that there are never more timers
/// than things they are for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    Connection(ConnectionId),
    WillDelay(SessionKey),
    SessionExpiry(SessionKey),
    RetainedExpiry(ByteString),
    Sys,
}

/// Timers by deadline; those of one moment in a fixed order.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    queue: BTreeSet<(Monotonic, Timer)>,
}

impl Timers {
    pub(crate) fn arm(&mut self, at: Monotonic, timer: Timer) {
        self.queue.insert((at, timer));
    }

    /// Takes back what was armed for `at`.
    pub(crate) fn disarm(&mut self, at: Monotonic, timer: Timer) {
        self.queue.remove(&(at, timer));
    }

    pub(crate) fn next(&self) -> Option<Monotonic> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// The earliest timer that is due at `now`.
    pub(crate) fn pop_due(&mut self, now: Monotonic) -> Option<Timer> {
        let (at, _) = self.queue.first()?;
        if *at > now {
            return None;
        }
        self.queue.pop_first().map(|(_, timer)| timer)
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }
}
