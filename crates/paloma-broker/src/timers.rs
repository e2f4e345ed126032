//! Everything that happens later, in one queue.

use std::collections::BTreeMap;

use bytestring::ByteString;
use paloma_session::Monotonic;

use crate::connection::ConnectionId;
use crate::session::SessionKey;

/// What is due. A timer is a hint: whoever handles it checks the state, which may have moved on, and arms it again
/// when it came too early. So nothing is ever cancelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    Connection(ConnectionId),
    WillDelay(SessionKey),
    SessionExpiry(SessionKey),
    RetainedExpiry(ByteString),
}

/// Timers by deadline, those of one moment in the order in which they were armed.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    queue: BTreeMap<(Monotonic, u64), Timer>,
    armed: u64,
}

impl Timers {
    pub(crate) fn arm(&mut self, at: Monotonic, timer: Timer) {
        self.queue.insert((at, self.armed), timer);
        self.armed += 1;
    }

    pub(crate) fn next(&self) -> Option<Monotonic> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    /// The earliest timer that is due at `now`.
    pub(crate) fn pop_due(&mut self, now: Monotonic) -> Option<Timer> {
        let entry = self.queue.first_entry()?;
        if entry.key().0 > now {
            None
        } else {
            Some(entry.remove())
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }
}
