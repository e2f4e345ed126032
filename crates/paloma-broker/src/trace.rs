//! What happens to one client or on one topic, told while it happens. Off, and then free, unless an operator asks.

use std::collections::VecDeque;

use bytestring::ByteString;
use paloma_codec::{PacketType, Qos, SubAckReason};
use paloma_topic::{TopicFilter, TopicNameRef};

use crate::accounting::DropCause;
use crate::notice::Notice;
use crate::principal::Principal;

/// Traces at a time.
const TRACES_MAX: u8 = 8;
/// Events that wait for the driver, of one turn; further ones are counted only.
const WAITING_MAX: usize = 1_024;
/// Bytes of a payload that are told.
const PAYLOAD_BYTES_MAX: usize = 4_096;

/// What an operator wants to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TraceTarget {
    /// What the client with this id does, and what is done for it.
    Client(ByteString),
    /// What becomes of messages whose topic the filter matches.
    Topic(TopicFilter),
}

/// One trace of a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId(u8);

/// Something that a trace is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    traces: u8,
    /// Whose deed or session it is; `None` for the broker's own.
    pub client_id: Option<ByteString>,
    /// What happened.
    pub event: TraceEvent,
}

/// What happened. Topics, filters and names are the peers' own words: escape them before they are printed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TraceEvent {
    /// The client came, went or was refused.
    Notice(Notice),
    /// The client sent a packet, other than those below.
    Received {
        /// Which.
        packet: PacketType,
    },
    /// A filter of a SUBSCRIBE was answered.
    Subscribed {
        /// The filter, with its group if it is shared.
        filter: ByteString,
        /// The answer.
        reason: SubAckReason,
    },
    /// A message was published.
    Published {
        /// Its topic.
        topic: ByteString,
        /// Its QoS.
        qos: Qos,
        /// Whether it is to be retained.
        retain: bool,
        /// The length of its payload.
        payload_bytes: usize,
        /// The payload's beginning, if somebody who traces wants it.
        payload: Option<Box<[u8]>>,
        /// What the broker made of it.
        verdict: Verdict,
    },
    /// A copy of a message waits for the client to take it.
    Queued {
        /// The message's topic.
        topic: ByteString,
        /// The QoS of the copy.
        qos: Qos,
        /// It waits in the store only.
        is_in_store: bool,
    },
    /// A copy of a message does not reach the client.
    Dropped {
        /// The message's topic.
        topic: ByteString,
        /// Why.
        cause: DropCause,
    },
    /// The client has taken a message of QoS 1.
    Acknowledged {
        /// The message's topic.
        topic: ByteString,
    },
}

/// What the broker made of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is for so many sessions.
    Routed(usize),
    /// The rules forbid it.
    NotAuthorized,
    /// A limit is reached: memory, retained messages, or the store, which may hold the message until there is room.
    QuotaExceeded,
}

impl Traced {
    /// Whether it is for this trace.
    #[must_use]
    pub const fn is_for(&self, id: TraceId) -> bool {
        self.traces & (1 << id.0) != 0
    }
}

/// The traces under way, and what they have not been told yet.
#[derive(Debug, Default)]
pub(crate) struct Traces {
    active: Vec<Active>,
    waiting: VecDeque<Traced>,
    lost: u64,
}

#[derive(Debug)]
struct Active {
    id: TraceId,
    target: TraceTarget,
    wants_payloads: bool,
}

/// Which traces an event is for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Interest {
    traces: u8,
    wants_payload: bool,
}

impl Interest {
    pub(crate) const fn is_none(self) -> bool {
        self.traces == 0
    }

    /// The part of a payload that is told, if any is.
    pub(crate) fn payload(self, payload: &[u8]) -> Option<Box<[u8]>> {
        let end = payload.len().min(PAYLOAD_BYTES_MAX);
        self.wants_payload
            .then(|| payload.get(..end).unwrap_or_default().into())
    }
}

impl Traces {
    pub(crate) const fn is_off(&self) -> bool {
        self.active.is_empty()
    }

    /// Begins one more; `None` if there are as many as may be.
    pub(crate) fn begin(&mut self, target: TraceTarget, wants_payloads: bool) -> Option<TraceId> {
        let is_free = |id: &u8| self.active.iter().all(|active| active.id.0 != *id);
        let id = TraceId((0..TRACES_MAX).find(is_free)?);
        self.active.push(Active {
            id,
            target,
            wants_payloads,
        });
        Some(id)
    }

    pub(crate) fn end(&mut self, id: TraceId) {
        self.active.retain(|active| active.id != id);
    }

    /// Which traces want to know of something that concerns this client and this topic.
    pub(crate) fn interest(
        &self,
        client_id: Option<&str>,
        topic: Option<TopicNameRef<'_>>,
    ) -> Interest {
        let mut interest = Interest::default();
        for active in &self.active {
            let is_wanted = match &active.target {
                TraceTarget::Client(wanted) => client_id == Some(&**wanted),
                TraceTarget::Topic(filter) => topic.is_some_and(|topic| filter.matches(topic)),
            };
            if is_wanted {
                interest.traces |= 1 << active.id.0;
                interest.wants_payload |= active.wants_payloads;
            }
        }
        interest
    }

    pub(crate) fn push(&mut self, interest: Interest, client_id: Option<&str>, event: TraceEvent) {
        if self.waiting.len() >= WAITING_MAX {
            self.lost += 1;
            return;
        }
        self.waiting.push_back(Traced {
            traces: interest.traces,
            client_id: client_id.map(ByteString::from),
            event,
        });
    }

    /// Takes note of what the log is told too.
    pub(crate) fn note(&mut self, notice: &Notice) {
        let client_id = notice.client_id();
        let interest = self.interest(client_id.map(|id| &**id), None);
        if !interest.is_none() {
            let client_id = client_id.cloned();
            self.push(
                interest,
                client_id.as_deref(),
                TraceEvent::Notice(notice.clone()),
            );
        }
    }

    /// Takes note of a message that a subscriber may not have.
    pub(crate) fn note_denied(&mut self, principal: &Principal, topic: TopicNameRef<'_>) {
        if self.is_off() {
            return;
        }
        let client_id = &*principal.client_id;
        let interest = self.interest(Some(client_id), Some(topic));
        if !interest.is_none() {
            let event = TraceEvent::Dropped {
                topic: topic.as_str().into(),
                cause: DropCause::NotAuthorized,
            };
            self.push(interest, Some(client_id), event);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.lost == 0
    }

    pub(crate) fn take(&mut self) -> (VecDeque<Traced>, u64) {
        (
            std::mem::take(&mut self.waiting),
            std::mem::take(&mut self.lost),
        )
    }
}
