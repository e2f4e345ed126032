//! How much memory the broker holds: counted where it is taken, and looked through in rounds where it is given back.
//!
//! A message is shared, so nobody who lets go of one knows whether it was the last. Therefore what is made is counted at
//! once and in full, and a round goes through sessions and connections, a few each turn, and charges each of them with its
//! share of what it holds. Whatever was made before a round began is in somebody's charge when the round ends, or gone.
//! The estimate is never below what is held by more than what changes hands within one round.

use std::time::Duration;

use paloma_session::Monotonic;

use crate::connection::Transport;

/// What a connection costs beside what it owns and its transport: its entry here, its protocol's state, its task and its
/// socket's entry in the driver. The driver's test of idle connections compares it with what is taken.
pub(crate) const CONNECTION_BYTES: u64 = 896;
/// What a session costs beside what it owns: its entry, its names, its places in tables.
pub(crate) const SESSION_BYTES: u64 = 512;
/// What a message costs beside its bytes: the header of its allocation, and the allocator's.
pub(crate) const MESSAGE_BYTES: u64 = 48;
/// What a waiting delivery costs: its place in a queue that doubles as it grows.
pub(crate) const DELIVERY_BYTES: u64 = 48;
/// What a retained message costs beside its bytes.
pub(crate) const RETAINED_BYTES: u64 = 256;
/// What a subscription costs beside its filter, which may be others' too.
pub(crate) const SUBSCRIPTION_BYTES: u64 = 48;
/// What a timer costs.
pub(crate) const TIMER_BYTES: u64 = 64;

/// Deliveries, sessions and connections that a round looks at in one turn.
const STEPS_PER_TURN: usize = 512;
/// The same while publishes are refused.
const STEPS_PER_TURN_WHEN_FULL: usize = 8_192;
/// How long what was charged may go without being looked at while there are turns at all.
const ROUND_EVERY: Duration = Duration::from_secs(10);

/// What a transport holds for a connection that is idle, beside its socket.
pub(crate) const fn transport_bytes(transport: Transport) -> u64 {
    match transport {
        Transport::Tcp | Transport::Unix | Transport::Memory => 0,
        Transport::WebSocket => 448,
        Transport::Tls => 7_936,
        Transport::SecureWebSocket => 8_384,
    }
}

/// How far memory is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pressure {
    /// Below the limit.
    None,
    /// Above the limit: nothing new is published.
    Publishes,
    /// A twentieth above the limit: nobody new is let in.
    Connections,
}

/// The broker's account.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// What sessions and connections were charged when they were looked at last.
    charged: u64,
    /// Made since the running round began, or the last one ended.
    fresh: u64,
    /// Made before the running round began.
    aging: u64,
    /// What the tables hold, as of the last turn's end.
    tables: u64,
    /// What the driver and the store hold for this broker's connections.
    outside: u64,
    /// Where the running round is.
    cursor: Option<Cursor>,
    last_round: Monotonic,
}

/// What a round looks at next: first all sessions, then all connections.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cursor {
    Session(u32),
    Connection(u32),
}

impl Memory {
    /// Memory is taken that somebody will be charged for when the next round comes by.
    pub(crate) fn take(&mut self, bytes: u64) {
        self.fresh = self.fresh.saturating_add(bytes);
    }

    /// Somebody is charged anew.
    pub(crate) fn charge(&mut self, charged: &mut u64, bytes: u64) {
        self.charged = self.charged.saturating_sub(*charged).saturating_add(bytes);
        *charged = bytes;
    }

    /// Somebody is gone.
    pub(crate) fn release(&mut self, charged: u64) {
        self.charged = self.charged.saturating_sub(charged);
    }

    pub(crate) fn set_outside(&mut self, bytes: u64) {
        self.outside = bytes;
    }

    pub(crate) fn set_tables(&mut self, bytes: u64) {
        self.tables = bytes;
    }

    /// About how many bytes are held.
    pub(crate) fn bytes(&self) -> u64 {
        self.settled()
            .saturating_add(self.fresh)
            .saturating_add(self.aging)
    }

    /// What is held for certain.
    fn settled(&self) -> u64 {
        self.charged
            .saturating_add(self.tables)
            .saturating_add(self.outside)
    }

    pub(crate) fn pressure(&self, max: u64) -> Pressure {
        let bytes = self.bytes();
        if bytes > max.saturating_add(max / 20) {
            Pressure::Connections
        } else if bytes > max {
            Pressure::Publishes
        } else {
            Pressure::None
        }
    }

    /// Begins a round if one is due: when half of what is left of the limit was used up since the last one, so that a
    /// broker far from its limit is hardly ever looked through, and when the last one is long ago. Gives its place and
    /// how many steps it may take.
    pub(crate) fn begin(&mut self, now: Monotonic, max: u64) -> Option<(Cursor, usize)> {
        let made = self.fresh.saturating_add(self.aging);
        let is_near = made > max.saturating_sub(self.settled()) / 2;
        if self.cursor.is_none() {
            let is_old = now >= self.last_round.saturating_add(ROUND_EVERY);
            if !is_near && !is_old {
                return None;
            }
            self.aging = self.aging.saturating_add(std::mem::take(&mut self.fresh));
            self.cursor = Some(Cursor::Session(0));
        }
        let steps = match self.pressure(max) {
            Pressure::None => STEPS_PER_TURN,
            Pressure::Publishes | Pressure::Connections => STEPS_PER_TURN_WHEN_FULL,
        };
        self.cursor.map(|cursor| (cursor, steps))
    }

    /// The round pauses at `cursor`, or is through.
    pub(crate) fn pause(&mut self, now: Monotonic, cursor: Option<Cursor>) {
        self.cursor = cursor;
        if cursor.is_none() {
            self.aging = 0;
            self.last_round = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Monotonic = Monotonic::ZERO;

    #[test]
    fn pressure_comes_in_stages_and_goes_by_itself() {
        let mut memory = Memory::default();
        let mut charged = 0;
        for (bytes, expected) in [
            (1_000, Pressure::None),
            (1_001, Pressure::Publishes),
            (1_050, Pressure::Publishes),
            (1_051, Pressure::Connections),
            (900, Pressure::None),
        ] {
            memory.charge(&mut charged, bytes);
            assert_eq!(memory.pressure(1_000), expected, "{bytes}");
        }
        memory.release(charged);
        assert_eq!(memory.bytes(), 0);
    }

    #[test]
    fn what_is_made_counts_until_a_round_that_began_after_it_has_ended() {
        let mut memory = Memory::default();
        memory.take(600);
        assert!(memory.begin(NOW, 1_000).is_some());
        memory.take(50);
        memory.pause(NOW, None);
        assert_eq!(memory.bytes(), 50);
        assert!(memory.begin(NOW, 1_000).is_none(), "far from the limit");
        let later = NOW.saturating_add(ROUND_EVERY);
        assert!(memory.begin(later, 1_000).is_some(), "long ago");
        memory.pause(later, None);
        assert_eq!(memory.bytes(), 0);
    }

    #[test]
    fn without_a_limit_there_is_no_pressure() {
        let mut memory = Memory::default();
        memory.take(u64::MAX);
        memory.take(u64::MAX);
        assert_eq!(memory.pressure(u64::MAX), Pressure::None);
    }
}
