//! Everything that happens later, by when.

use std::collections::BTreeSet;
use std::num::NonZeroU64;

use bytestring::ByteString;
use paloma_session::Monotonic;

use crate::connection::ConnectionId;
use crate::session::SessionKey;

/// A timer is a hint: whoever handles it checks the state and arms it again when it came too early. Whoever arms one keeps
/// its deadline and disarms it once it has become pointless, so that there are never more timers than things they are for.
///
/// Every connection has one, so that they are short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    Connection(ConnectionId),
    WillDelay(SessionKey),
    SessionExpiry(SessionKey),
    Sys,
}

/// For when a timer is armed, in eight bytes also where there may be none. The clock's last point, 584 years from its
/// first, is taken for the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deadline(NonZeroU64);

impl Deadline {
    pub(crate) fn new(at: Monotonic) -> Self {
        Self(NonZeroU64::MIN.saturating_add(at.as_nanos()))
    }

    pub(crate) fn at(self) -> Monotonic {
        Monotonic::from_nanos(self.0.get() - 1)
    }
}

/// What is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Timer(Timer),
    /// The retained message on this topic may have expired.
    Retained(ByteString),
}

/// Timers by deadline; those of one moment in a fixed order.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    queue: BTreeSet<(Monotonic, Timer)>,
    /// When retained messages expire, and on which topics: with a topic an entry is twice as long.
    retained: BTreeSet<(Monotonic, ByteString)>,
}

impl Timers {
    pub(crate) fn arm(&mut self, at: Monotonic, timer: Timer) {
        self.queue.insert((at, timer));
    }

    /// Takes back what was armed for `at`.
    pub(crate) fn disarm(&mut self, at: Monotonic, timer: Timer) {
        self.queue.remove(&(at, timer));
    }

    pub(crate) fn arm_retained(&mut self, at: Monotonic, topic: ByteString) {
        self.retained.insert((at, topic));
    }

    /// Takes back what was armed for `at`.
    pub(crate) fn disarm_retained(&mut self, at: Monotonic, topic: ByteString) {
        self.retained.remove(&(at, topic));
    }

    pub(crate) fn next(&self) -> Option<Monotonic> {
        let timer = self.queue.first().map(|(at, _)| *at);
        let retained = self.retained.first().map(|(at, _)| *at);
        timer.into_iter().chain(retained).min()
    }

    /// The earliest that is due at `now`.
    pub(crate) fn pop_due(&mut self, now: Monotonic) -> Option<Due> {
        let next = self.next().filter(|at| *at <= now)?;
        if self.queue.first().is_some_and(|(at, _)| *at == next) {
            let (_, timer) = self.queue.pop_first()?;
            return Some(Due::Timer(timer));
        }
        let (_, topic) = self.retained.pop_first()?;
        Some(Due::Retained(topic))
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len() + self.retained.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_the_point_that_it_was_made_of() {
        for nanos in [0, 1, u64::MAX - 1] {
            let at = Monotonic::from_nanos(nanos);
            assert_eq!(Deadline::new(at).at(), at);
        }
        assert_eq!(size_of::<Option<Deadline>>(), 8);
    }

    #[test]
    fn timers_are_short() {
        assert!(size_of::<(Monotonic, Timer)>() <= 24);
    }

    #[test]
    fn timers_with_and_without_a_topic_come_by_deadline() {
        let at = Monotonic::from_millis;
        let expiry = |n| Timer::SessionExpiry(SessionKey::from_parts(n, 0));
        let mut timers = Timers::default();
        timers.arm_retained(at(3), "third".into());
        timers.arm_retained(at(1), "first".into());
        timers.arm(at(2), expiry(2));
        timers.arm(at(3), expiry(3));
        timers.arm_retained(at(9), "later".into());
        timers.disarm_retained(at(3), "third".into());
        timers.arm_retained(at(4), "fourth".into());
        assert_eq!((timers.next(), timers.len()), (Some(at(1)), 5));

        let due: Vec<Due> = std::iter::from_fn(|| timers.pop_due(at(5))).collect();
        let expected = [
            Due::Retained("first".into()),
            Due::Timer(expiry(2)),
            Due::Timer(expiry(3)),
            Due::Retained("fourth".into()),
        ];
        assert_eq!(due, expected);
        assert_eq!((timers.next(), timers.len()), (Some(at(9)), 1));
    }
}
