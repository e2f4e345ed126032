//! What goes through the broker, counted; and everything it knows about itself at one moment.

use std::time::Duration;

use paloma_codec::ConnAckReason;
use paloma_session::{Counts, Monotonic};

use crate::accounting::Accounting;
use crate::broker::Tables;
use crate::effect::{CloseCause, Refusal};
use crate::store::StoreUsage;

/// Reason codes that a CONNACK refuses with have their high bit set and are all below 0xA0.
const REFUSAL_CODES: usize = 32;

/// Packets, bytes and connections since the start. Counted in the core, so that nothing is shared between threads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// MQTT packets taken from connections.
    pub packets_received: u64,
    /// MQTT packets written for connections.
    pub packets_sent: u64,
    /// Bytes of packets taken from connections, framing of TLS or WebSocket left out.
    pub bytes_received: u64,
    /// Bytes of packets written for connections.
    pub bytes_sent: u64,
    /// PUBLISH packets taken from clients.
    pub publish_received: u64,
    /// PUBLISH packets written, repeats included.
    pub publish_sent: u64,
    /// Payload bytes of PUBLISH packets taken from clients.
    pub publish_bytes_received: u64,
    /// Payload bytes of PUBLISH packets written.
    pub publish_bytes_sent: u64,
    /// Connections that were opened.
    pub connections_opened: u64,
    /// Clients that were let in.
    pub clients_accepted: u64,
    /// Most clients connected at a time.
    pub clients_maximum: u64,
    /// Sessions that ended because their expiry passed.
    pub sessions_expired: u64,
    closed: [u64; CloseCause::ALL.len()],
    refused: [u64; Refusal::ALL.len()],
    connect_refused: [u64; REFUSAL_CODES],
}

impl Traffic {
    /// Connections that ended for one cause.
    #[must_use]
    pub fn closed(&self, cause: CloseCause) -> u64 {
        self.closed.get(cause as usize).copied().unwrap_or_default()
    }

    /// Connections that were not opened, for one cause.
    #[must_use]
    pub fn refused(&self, refusal: Refusal) -> u64 {
        self.refused
            .get(refusal as usize)
            .copied()
            .unwrap_or_default()
    }

    /// Connections and CONNECTs that were refused, for all causes.
    #[must_use]
    pub fn refused_total(&self) -> u64 {
        let early: u64 = self.refused.iter().sum();
        early + self.connect_refused.iter().sum::<u64>()
    }

    /// CONNECTs that were refused, by reason; reasons that never occurred are left out.
    pub fn connect_refused(&self) -> impl Iterator<Item = (ConnAckReason, u64)> {
        let codes = (0x80_u8..).zip(self.connect_refused);
        codes
            .filter(|(_, count)| *count > 0)
            .filter_map(|(code, count)| Some((ConnAckReason::from_code(code)?, count)))
    }

    /// Counts what a connection gets before it is let in: one packet, or nothing.
    pub(crate) fn count_early(&mut self, bytes: usize) {
        self.packets_sent += u64::from(bytes > 0);
        self.bytes_sent += bytes as u64;
    }

    /// Counts what was written. It is done for every delivery that leaves alone, so nothing is checked: no sum comes near
    /// 2⁶⁴.
    pub(crate) fn count_written(&mut self, counts: Counts) {
        let add = |sum: &mut u64, more: u64| *sum = sum.wrapping_add(more);
        let publishes = u64::from(counts.publishes);
        add(&mut self.publish_sent, publishes);
        add(
            &mut self.packets_sent,
            publishes.wrapping_add(counts.others.into()),
        );
        add(&mut self.bytes_sent, counts.bytes as u64);
        add(&mut self.publish_bytes_sent, counts.payload_bytes as u64);
    }

    pub(crate) fn count_closed(&mut self, cause: CloseCause) {
        if let Some(counter) = self.closed.get_mut(cause as usize) {
            *counter += 1;
        }
    }

    pub(crate) fn count_refused(&mut self, refusal: Refusal) {
        if let Some(counter) = self.refused.get_mut(refusal as usize) {
            *counter += 1;
        }
    }

    pub(crate) fn count_connect_refused(&mut self, reason: ConnAckReason) {
        let index = usize::from(reason.code() & 0x7F);
        if let Some(counter) = self.connect_refused.get_mut(index) {
            *counter += 1;
        }
    }
}

/// A distribution of times over fixed buckets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// How many fell into each bucket of [`Histogram::BOUNDS_NS`], and behind them into no bucket.
    counts: [u64; Self::BOUNDS_NS.len() + 1],
    sum_ns: u64,
}

impl Histogram {
    /// Upper ends of the buckets, included, in nanoseconds: 50 µs to 10 s.
    pub const BOUNDS_NS: [u64; 17] = [
        50_000,
        100_000,
        250_000,
        500_000,
        1_000_000,
        2_500_000,
        5_000_000,
        10_000_000,
        25_000_000,
        50_000_000,
        100_000_000,
        250_000_000,
        500_000_000,
        1_000_000_000,
        2_500_000_000,
        5_000_000_000,
        10_000_000_000,
    ];

    /// Notes one time.
    pub fn note(&mut self, ns: u64) {
        let bucket = Self::BOUNDS_NS.partition_point(|bound| *bound < ns);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum_ns = self.sum_ns.saturating_add(ns);
    }

    /// How many times fell into each bucket, those above the last bound behind them.
    #[must_use]
    pub const fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// How many times were noted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The sum of all times, in nanoseconds.
    #[must_use]
    pub const fn sum_ns(&self) -> u64 {
        self.sum_ns
    }
}

/// A message whose way to one receiver is being timed. Eight bytes, since every connection has room for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    /// The lowest bits of the message's number.
    message: u32,
    /// When it came, in microseconds; wraps in 71 minutes, which only a sample that waited for as long would notice.
    at_us: u32,
}

impl Sample {
    /// One message in so many is timed.
    const EVERY: u64 = 16;

    /// Whether the message with this number is one of those that are timed.
    pub(crate) const fn takes(message: u64) -> bool {
        message.is_multiple_of(Self::EVERY)
    }

    pub(crate) const fn new(message: u64, at: Monotonic) -> Self {
        Self {
            message: low_bits(message),
            at_us: low_bits(at.as_nanos() / 1_000),
        }
    }

    /// Whether a message with this number came after the sample.
    pub(crate) const fn is_before(self, message: u64) -> bool {
        let ahead = low_bits(message).wrapping_sub(self.message);
        ahead != 0 && ahead < 1 << 31
    }

    /// Nanoseconds since the message came.
    pub(crate) fn elapsed_ns(self, now: Monotonic) -> u64 {
        let now_us = low_bits(now.as_nanos() / 1_000);
        u64::from(now_us.wrapping_sub(self.at_us)) * 1_000
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the lowest bits are what is wanted"
)]
const fn low_bits(number: u64) -> u32 {
    number as u32
}

/// What a store has done since the start. Counted by the driver of a store that blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreStatistics {
    /// Commits, each of a group of batches.
    pub commits: u64,
    /// Batches in them.
    pub batches: u64,
    /// Changes in those.
    pub operations: u64,
    /// Bytes of messages and changes that were given to the store, by its own measure of them.
    pub bytes: u64,
    /// The largest group, in batches.
    pub group_max: u64,
    /// How long commits took.
    pub commit_time: Histogram,
    /// It has no room for more.
    pub is_full: bool,
    /// What it holds.
    pub usage: StoreUsage,
}

impl StoreStatistics {
    /// Counts a group commit of so many batches with so many changes.
    pub fn note_commit(&mut self, (batches, operations): (u64, u64), bytes: u64, took: Duration) {
        self.commits += 1;
        self.batches += batches;
        self.operations += operations;
        self.bytes += bytes;
        self.group_max = self.group_max.max(batches);
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.commit_time.note(took);
    }
}

/// Everything that the broker counts, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// Where every message went.
    pub accounting: Accounting,
    /// Packets, bytes and connections.
    pub traffic: Traffic,
    /// How full the tables are.
    pub tables: Tables,
    /// Time from a PUBLISH's turn to the turn that wrote it for one receiver, of one message in 16.
    pub latency: Histogram,
    /// What the store has done, as far as the core or its driver knows.
    pub store: StoreStatistics,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_bucket(ns: u64, bucket: usize) {
        let mut histogram = Histogram::default();
        histogram.note(ns);
        assert_eq!(histogram.counts()[bucket], 1, "{ns} ns");
        assert_eq!((histogram.count(), histogram.sum_ns()), (1, ns));
    }

    #[test]
    fn a_bound_belongs_to_the_bucket_below_it() {
        check_bucket(0, 0);
        check_bucket(50_000, 0);
        check_bucket(50_001, 1);
        check_bucket(10_000_000_000, 16);
        check_bucket(10_000_000_001, 17);
    }

    #[test]
    fn a_sample_knows_what_came_later_and_survives_wrapping() {
        let late = u64::from(u32::MAX) + 1;
        let sample = Sample::new(late - 16, Monotonic::from_nanos(4_294_967_295_000));
        assert!(!sample.is_before(late - 17));
        assert!(!sample.is_before(late - 16));
        assert!(sample.is_before(late));
        let now = Monotonic::from_nanos(4_294_967_305_000);
        assert_eq!(sample.elapsed_ns(now), 10_000);
    }

    #[test]
    fn every_cause_has_its_own_counter() {
        let mut traffic = Traffic::default();
        for (index, cause) in CloseCause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, index);
            traffic.count_closed(cause);
            assert_eq!(traffic.closed(cause), 1, "{cause}");
        }
        for (index, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, index);
            traffic.count_refused(refusal);
            assert_eq!(traffic.refused(refusal), 1, "{refusal}");
        }
        traffic.count_connect_refused(ConnAckReason::Banned);
        traffic.count_connect_refused(ConnAckReason::ConnectionRateExceeded);
        let refused: Vec<_> = traffic.connect_refused().collect();
        assert_eq!(
            refused,
            [
                (ConnAckReason::Banned, 1),
                (ConnAckReason::ConnectionRateExceeded, 1)
            ]
        );
    }
}
