//! Everything that happens later, by when.

use std::collections::BTreeSet;

use bytestring::ByteString;
use paloma_session::Monotonic;

use crate::connection::ConnectionId;
use crate::session::SessionKey;

/// What is due. A timer is a hint: whoever handles it checks the state and arms it again when it came too early.
/// Whoever arms one keeps its deadline and disarms it once it has become pointless, so that there are never more timers
/// than things they are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    Connection(ConnectionId),
    WillDelay(SessionKey),
    SessionExpiry(SessionKey),
    RetainedExpiry(ByteString),
    Sys,
}

/// A timer without text, which is half as long: every connection has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Short {
    Connection(ConnectionId),
    WillDelay(SessionKey),
    SessionExpiry(SessionKey),
    Sys,
}

/// Timers by deadline; those of one moment in a fixed order.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    short: BTreeSet<(Monotonic, Short)>,
    /// When retained messages expire, and on which topics.
    retained: BTreeSet<(Monotonic, ByteString)>,
}

impl Timers {
    pub(crate) fn arm(&mut self, at: Monotonic, timer: Timer) {
        match Short::try_from(timer) {
            Ok(short) => self.short.insert((at, short)),
            Err(topic) => self.retained.insert((at, topic)),
        };
    }

    /// Takes back what was armed for `at`.
    pub(crate) fn disarm(&mut self, at: Monotonic, timer: Timer) {
        match Short::try_from(timer) {
            Ok(short) => self.short.remove(&(at, short)),
            Err(topic) => self.retained.remove(&(at, topic)),
        };
    }

    pub(crate) fn next(&self) -> Option<Monotonic> {
        let short = self.short.first().map(|(at, _)| *at);
        let retained = self.retained.first().map(|(at, _)| *at);
        short.into_iter().chain(retained).min()
    }

    /// The earliest timer that is due at `now`.
    pub(crate) fn pop_due(&mut self, now: Monotonic) -> Option<Timer> {
        let next = self.next().filter(|at| *at <= now)?;
        if self.short.first().is_some_and(|(at, _)| *at == next) {
            return Some(self.short.pop_first()?.1.into());
        }
        Some(Timer::RetainedExpiry(self.retained.pop_first()?.1))
    }

    pub(crate) fn len(&self) -> usize {
        self.short.len() + self.retained.len()
    }
}

impl TryFrom<Timer> for Short {
    /// The topic of a timer that has one.
    type Error = ByteString;

    fn try_from(timer: Timer) -> Result<Self, ByteString> {
        match timer {
            Timer::Connection(id) => Ok(Self::Connection(id)),
            Timer::WillDelay(key) => Ok(Self::WillDelay(key)),
            Timer::SessionExpiry(key) => Ok(Self::SessionExpiry(key)),
            Timer::Sys => Ok(Self::Sys),
            Timer::RetainedExpiry(topic) => Err(topic),
        }
    }
}

impl From<Short> for Timer {
    fn from(short: Short) -> Self {
        match short {
            Short::Connection(id) => Self::Connection(id),
            Short::WillDelay(key) => Self::WillDelay(key),
            Short::SessionExpiry(key) => Self::SessionExpiry(key),
            Short::Sys => Self::Sys,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_s_timer_is_short() {
        assert!(size_of::<(Monotonic, Short)>() <= 24);
    }

    #[test]
    fn timers_with_and_without_a_topic_come_by_deadline() {
        let at = Monotonic::from_millis;
        let topic = |name: &'static str| Timer::RetainedExpiry(name.into());
        let expiry = |n| Timer::SessionExpiry(SessionKey::from_parts(n, 0));
        let mut timers = Timers::default();
        timers.arm(at(3), topic("third"));
        timers.arm(at(1), topic("first"));
        timers.arm(at(2), expiry(2));
        timers.arm(at(3), expiry(3));
        timers.arm(at(9), topic("later"));
        timers.disarm(at(3), topic("third"));
        timers.arm(at(4), topic("fourth"));
        assert_eq!((timers.next(), timers.len()), (Some(at(1)), 5));

        let due: Vec<Timer> = std::iter::from_fn(|| timers.pop_due(at(5))).collect();
        assert_eq!(due, [topic("first"), expiry(2), expiry(3), topic("fourth")]);
        assert_eq!((timers.next(), timers.len()), (Some(at(9)), 1));
    }
}
