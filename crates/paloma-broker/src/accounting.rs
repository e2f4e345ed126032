//! Where every message went.

/// Why a copy of a message was not delivered, or a publish not routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DropCause {
    /// The session's queue was full.
    QueueFull,
    /// A QoS 0 message for a client that is not connected.
    Offline,
    /// The message expired before it could be sent. [MQTT-3.3.2-5]
    Expired,
    /// The packet would pass the client's Maximum Packet Size. [MQTT-3.1.2-25]
    PacketTooLarge,
    /// The session ended first.
    SessionEnded,
    /// The rules forbid it.
    NotAuthorized,
    /// A shared subscription had nobody to take it.
    NoGroupMember,
    /// The client refused it with an error code in PUBACK or PUBREC.
    RefusedByClient,
    /// The socket or the client's write budget gave way before a QoS 0 message left.
    ConnectionLost,
    /// The store had to keep it and has not got it.
    StoreLost,
}

impl DropCause {
    /// Every cause, in the order of [`Accounting`]'s counters.
    pub const ALL: [Self; 10] = [
        Self::QueueFull,
        Self::Offline,
        Self::Expired,
        Self::PacketTooLarge,
        Self::SessionEnded,
        Self::NotAuthorized,
        Self::NoGroupMember,
        Self::RefusedByClient,
        Self::ConnectionLost,
        Self::StoreLost,
    ];

    /// The cause as a metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Offline => "offline",
            Self::Expired => "expired",
            Self::PacketTooLarge => "packet_too_large",
            Self::SessionEnded => "session_ended",
            Self::NotAuthorized => "not_authorized",
            Self::NoGroupMember => "no_group_member",
            Self::RefusedByClient => "refused_by_client",
            Self::ConnectionLost => "connection_lost",
            Self::StoreLost => "store_lost",
        }
    }
}

/// Counters that add up: `copies = delivered + dropped + queued`, where `queued` is what sessions hold right now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Accounting {
    /// PUBLISH packets taken from clients, wills included.
    pub published: u64,
    /// Of those, the ones that no subscription matched.
    pub unmatched: u64,
    /// Of those, the ones that were refused, by the rules or a limit.
    pub refused: u64,
    /// Copies made for sessions: one for each session that a message was for. Those that a store still had when the broker was
    /// started are among them.
    pub copies: u64,
    /// Copies written (QoS 0) or acknowledged (QoS 1 and 2).
    pub delivered: u64,
    /// Retained messages refused because a limit was reached.
    pub retained_refused: u64,
    /// Publishes refused because of `memory_bytes_max`.
    pub memory_refused: u64,
    /// Publishes refused, or held back, because the store had no room.
    pub store_refused: u64,
    dropped: [u64; DropCause::ALL.len()],
}

impl Accounting {
    /// Copies dropped for one cause.
    #[must_use]
    pub fn dropped(&self, cause: DropCause) -> u64 {
        self.dropped
            .get(cause as usize)
            .copied()
            .unwrap_or_default()
    }

    /// Copies dropped in all.
    #[must_use]
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().sum()
    }

    /// Copies that wait in sessions or are unacknowledged.
    #[must_use]
    pub fn queued(&self) -> u64 {
        let ended = self.delivered.saturating_add(self.dropped_total());
        self.copies.saturating_sub(ended)
    }

    pub(crate) fn count_drop(&mut self, cause: DropCause) {
        let is_counted = cause != DropCause::Expired || !paloma_topic::Fault::DropUncounted.is_on();
        if let Some(counter) = self.dropped.get_mut(cause as usize).filter(|_| is_counted) {
            *counter += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_its_own_counter_and_label() {
        let mut accounting = Accounting::default();
        for (index, cause) in DropCause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, index);
            accounting.count_drop(cause);
            assert_eq!(accounting.dropped(cause), 1, "{}", cause.label());
        }
        assert_eq!(accounting.dropped_total(), DropCause::ALL.len() as u64);
    }
}
