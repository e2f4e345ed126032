//! How much the broker holds, and everything it counts.

use super::Broker;
use crate::statistics::{Statistics, StoreStatistics};

impl Broker {
    /// Copies that wait in sessions or are unacknowledged, counted by looking at every session.
    #[must_use]
    pub fn queued(&self) -> u64 {
        let held: u64 = self
            .sessions
            .iter()
            .map(|(_, session)| session.queued())
            .sum();
        held + self.fan_outs.pending() + self.estates.pending()
    }

    /// How full each table is.
    #[must_use]
    pub fn tables(&self) -> Tables {
        Tables {
            connections: self.connections.len(),
            connected: self.connected,
            sessions: self.sessions.len(),
            subscriptions: self.subscriptions.len() + self.groups.members(),
            retained: self.retained.len(),
            retained_bytes: self.retained.bytes(),
            timers: self.timers.len(),
            groups: self.groups.members(),
            uncommitted_bytes: self.commits.bytes_waiting(),
        }
    }

    /// Everything that is counted, at one moment; its cost does not depend on how much the broker holds.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        Statistics {
            accounting: self.accounting.clone(),
            traffic: self.traffic.clone(),
            tables: self.tables(),
            latency: self.latency.clone(),
            store: StoreStatistics {
                is_full: self.commits.is_store_full(),
                ..StoreStatistics::default()
            },
        }
    }
}

/// How full the broker's tables are; all zero once everybody has left and time has passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tables {
    /// Open connections.
    pub connections: usize,
    /// Sessions whose client is connected.
    pub connected: usize,
    /// Sessions, connected or not.
    pub sessions: usize,
    /// Subscriptions, members of share groups included.
    pub subscriptions: usize,
    /// Retained messages.
    pub retained: usize,
    /// Bytes of retained messages.
    pub retained_bytes: u64,
    /// Timers armed.
    pub timers: usize,
    /// Memberships in share groups.
    pub groups: usize,
    /// Bytes that wait for a commit.
    pub uncommitted_bytes: u64,
}
