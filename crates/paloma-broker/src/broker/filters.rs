//! SUBSCRIBE and UNSUBSCRIBE: so many filters each turn, for all clients together.
//!
//! A packet with more waits on its connection, which is not read meanwhile, and is answered when its last filter is done.
//! Packets that come while one waits queue up behind it, so that a client with few filters waits for its turn and not for
//! another client's thousands. A connection that ends leaves its packet half done, as if it had asked for less: it has got
//! no answer.

use std::collections::VecDeque;

use paloma_codec::{
    SubAck, SubAckReason, Subscribe, SubscribeFilter, UnsubAck, UnsubAckReason, Unsubscribe,
};
use paloma_session::{Gate, Now};
use paloma_topic::Target;

use super::Broker;
use crate::connection::{ConnectionId, Phase};
use crate::session::SessionKey;

/// Filters that one turn adds or removes. One costs 0.2 to 1 µs, so that they take 40 to 260 µs together.
const FILTERS_PER_TURN: usize = 256;

/// One filter counts once more for each so many that its client has, since it is looked for among them: up to 9 µs among
/// 10,000.
const HELD_PER_WEIGHT: usize = 2_000;

/// The packets that wait for their next filters, and what is left of the turn for them.
#[derive(Debug)]
pub(super) struct FilterJobs {
    left: usize,
    /// Connections with such a packet; some may have ended since.
    waiting: VecDeque<ConnectionId>,
}

impl Default for FilterJobs {
    fn default() -> Self {
        Self {
            left: FILTERS_PER_TURN,
            waiting: VecDeque::new(),
        }
    }
}

impl FilterJobs {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// A SUBSCRIBE or an UNSUBSCRIBE, as far as it has come.
#[derive(Debug)]
pub(crate) struct FilterJob {
    packet: FilterPacket,
    /// Some of it went into a batch, so that the answer waits for the commit.
    is_stored: bool,
}

/// A packet, with an answer for each of its filters that is done.
#[derive(Debug)]
pub(super) enum FilterPacket {
    Subscribe(Subscribe, Vec<SubAckReason>),
    Unsubscribe(Unsubscribe, Vec<UnsubAckReason>),
}

impl FilterPacket {
    pub(super) fn subscribe(subscribe: Subscribe) -> Self {
        let reasons = Vec::with_capacity(subscribe.filters.len());
        Self::Subscribe(subscribe, reasons)
    }

    pub(super) fn unsubscribe(unsubscribe: Unsubscribe) -> Self {
        let reasons = Vec::with_capacity(unsubscribe.filters.len());
        Self::Unsubscribe(unsubscribe, reasons)
    }

    fn is_through(&self) -> bool {
        match self {
            Self::Subscribe(packet, reasons) => reasons.len() >= packet.filters.len(),
            Self::Unsubscribe(packet, reasons) => reasons.len() >= packet.filters.len(),
        }
    }
}

impl FilterJob {
    /// About how many bytes it holds.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let bytes = match &self.packet {
            FilterPacket::Subscribe(packet, reasons) => {
                let targets = packet.filters.iter().map(|filter| &filter.target);
                packet.filters.capacity() * size_of::<SubscribeFilter>()
                    + text_bytes(targets)
                    + reasons.capacity()
            }
            FilterPacket::Unsubscribe(packet, reasons) => {
                packet.filters.capacity() * size_of::<Target>()
                    + text_bytes(packet.filters.iter())
                    + reasons.capacity()
            }
        };
        bytes as u64
    }
}

fn text_bytes<'a>(targets: impl Iterator<Item = &'a Target>) -> usize {
    targets.map(|target| target.filter().as_str().len()).sum()
}

impl Broker {
    /// Does a packet that has come, or the first part of it.
    pub(super) fn take_filters(&mut self, id: ConnectionId, key: SessionKey, packet: FilterPacket) {
        let mut job = FilterJob {
            packet,
            is_stored: false,
        };
        if self.filter_jobs.is_empty() {
            self.run_filters(key, &mut job);
        }
        if job.packet.is_through() {
            return self.finish_filters(id, job);
        }
        self.memory.take(job.memory_bytes());
        if let Some(open) = self.open_mut(id) {
            open.filters = Some(Box::new(job));
            self.filter_jobs.waiting.push_back(id);
        }
    }

    /// Goes on with the packets that wait, one after the other, as far as the turn has filters left.
    pub(super) fn run_filter_jobs(&mut self, now: Now) {
        while self.filter_jobs.left > 0
            && let Some(id) = self.filter_jobs.waiting.pop_front()
        {
            let Some(open) = self.open_mut(id) else {
                continue;
            };
            let key = open.session;
            let Some(mut job) = open.filters.take() else {
                continue;
            };
            self.run_filters(key, &mut job);
            if job.packet.is_through() {
                self.finish_filters(id, *job);
                self.resume(now, id);
            } else if let Some(open) = self.open_mut(id) {
                open.filters = Some(job);
                self.filter_jobs.waiting.push_back(id);
            }
        }
        self.filter_jobs.left = FILTERS_PER_TURN;
    }

    /// Does the next filters of a packet, as many as the turn has left.
    fn run_filters(&mut self, key: SessionKey, job: &mut FilterJob) {
        let session = self.sessions.get(key);
        let held = session.map_or(0, |session| session.filters.len() + session.groups().len());
        let weight = 1 + held / HELD_PER_WEIGHT;
        let count = self.filter_jobs.left.div_ceil(weight);
        let is_stored = &mut job.is_stored;
        let done = match &mut job.packet {
            FilterPacket::Subscribe(packet, reasons) => {
                let before = reasons.len();
                for filter in packet.filters.iter().skip(before).take(count) {
                    reasons.push(self.subscribe_to(key, filter, packet.subscription_id, is_stored));
                }
                reasons.len() - before
            }
            FilterPacket::Unsubscribe(packet, reasons) => {
                let before = reasons.len();
                for target in packet.filters.iter().skip(before).take(count) {
                    reasons.push(self.unsubscribe_from(key, target, is_stored));
                }
                reasons.len() - before
            }
        };
        self.filter_jobs.left = self.filter_jobs.left.saturating_sub(done * weight);
    }

    /// Answers a packet that is done. [MQTT-3.8.4-5]
    fn finish_filters(&mut self, id: ConnectionId, job: FilterJob) {
        let gate = if job.is_stored {
            self.commits.gate()
        } else {
            Gate::Open
        };
        if let Some(entry) = self.connections.get_mut(id.key())
            && let Phase::Open(open) = &mut entry.phase
        {
            match job.packet {
                FilterPacket::Subscribe(packet, mut reasons) => {
                    // What `filters_per_subscribe_max` left out. [MQTT-3.8.4-6]
                    let excess = packet.filters_excess as usize;
                    reasons.extend(std::iter::repeat_n(SubAckReason::QuotaExceeded, excess));
                    let ack = SubAck::new(packet.id, reasons);
                    open.protocol.answer_subscribe(ack, gate);
                }
                FilterPacket::Unsubscribe(packet, reasons) => {
                    let ack = UnsubAck::new(packet.id, reasons);
                    open.protocol.answer_unsubscribe(ack, gate);
                }
            }
        }
        self.answered(id, job.is_stored);
    }
}
