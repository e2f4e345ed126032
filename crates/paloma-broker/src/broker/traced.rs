//! Where the broker says what it does, for whoever traces it. Each of these returns at once while nobody does.

use std::collections::VecDeque;

use paloma_codec::{Message, PacketRef, Qos, SubAckReason};
use paloma_topic::{Target, TopicNameRef};

use super::Broker;
use crate::accounting::DropCause;
use crate::connection::{ConnectionId, Phase};
use crate::session::SessionKey;
use crate::trace::{TraceEvent, TraceId, TraceTarget, Traced, Verdict};

impl Broker {
    /// Tells what happens to one client or on one topic from here on, until [`end_trace`](Self::end_trace). `None` if eight
    /// traces are under way. The driver gets it by [`take_traced`](Self::take_traced) at the end of each turn.
    pub fn begin_trace(&mut self, target: TraceTarget, wants_payloads: bool) -> Option<TraceId> {
        self.notices.traces.begin(target, wants_payloads)
    }

    /// Ends a trace.
    pub fn end_trace(&mut self, id: TraceId) {
        self.notices.traces.end(id);
    }

    /// What happened since the last call, in its order, and how many events there was no room for.
    pub fn take_traced(&mut self) -> (VecDeque<Traced>, u64) {
        self.notices.traces.take()
    }

    /// Whether there is nothing to take.
    #[must_use]
    pub fn has_traced_nothing(&self) -> bool {
        self.notices.traces.is_empty()
    }

    // Each of these is a look at one length while nobody traces; what follows stays out of the way.

    #[inline]
    pub(super) fn trace_packet(&mut self, id: ConnectionId, packet: &PacketRef<'_>) {
        if !self.notices.traces.is_off() {
            self.tell_packet(id, packet);
        }
    }

    #[inline]
    pub(super) fn trace_publish(
        &mut self,
        origin: Option<SessionKey>,
        topic: TopicNameRef<'_>,
        kind: (Qos, bool),
        payload: &[u8],
        verdict: Verdict,
    ) {
        if !self.notices.traces.is_off() {
            self.tell_publish(origin, topic, kind, payload, verdict);
        }
    }

    #[inline]
    pub(super) fn trace_subscribe(
        &mut self,
        key: SessionKey,
        target: &Target,
        reason: SubAckReason,
    ) {
        if !self.notices.traces.is_off() {
            self.tell_subscribe(key, target, reason);
        }
    }

    #[inline]
    pub(super) fn trace_queued(
        &mut self,
        key: SessionKey,
        message: &Message,
        qos: Qos,
        is_in_store: bool,
    ) {
        if !self.notices.traces.is_off() {
            let topic = message.topic().as_str().into();
            let event = TraceEvent::Queued {
                topic,
                qos,
                is_in_store,
            };
            self.tell_of(key, message, event);
        }
    }

    /// The session takes note of it too, so that it can be asked why.
    #[inline]
    pub(super) fn trace_dropped(&mut self, key: SessionKey, message: &Message, cause: DropCause) {
        if let Some(session) = self.sessions.get_mut(key) {
            session.note_drop(cause);
        }
        if !self.notices.traces.is_off() {
            let topic = message.topic().as_str().into();
            self.tell_of(key, message, TraceEvent::Dropped { topic, cause });
        }
    }

    #[inline]
    pub(super) fn trace_acknowledged(&mut self, key: SessionKey, message: &Message) {
        if !self.notices.traces.is_off() {
            let topic = message.topic().as_str().into();
            self.tell_of(key, message, TraceEvent::Acknowledged { topic });
        }
    }

    #[cold]
    fn tell_packet(&mut self, id: ConnectionId, packet: &PacketRef<'_>) {
        // A PUBLISH is told of when its topic is known.
        if matches!(packet, PacketRef::Publish(_)) {
            return;
        }
        let event = TraceEvent::Received {
            packet: packet.packet_type(),
        };
        let entry = self.connections.get(id.key());
        let key = entry.and_then(|entry| match &entry.phase {
            Phase::Open(open) => Some(open.session),
            Phase::Handshake(_) | Phase::Authenticating(_) | Phase::Closing(_) => None,
        });
        self.trace(key, None, |_| event);
    }

    #[cold]
    fn tell_publish(
        &mut self,
        origin: Option<SessionKey>,
        topic: TopicNameRef<'_>,
        (qos, retain): (Qos, bool),
        payload: &[u8],
        verdict: Verdict,
    ) {
        self.trace(origin, Some(topic), |interest| TraceEvent::Published {
            topic: topic.as_str().into(),
            qos,
            retain,
            payload_bytes: payload.len(),
            payload: interest.payload(payload),
            verdict,
        });
    }

    #[cold]
    fn tell_subscribe(&mut self, key: SessionKey, target: &Target, reason: SubAckReason) {
        let filter = target.to_string().into();
        self.trace(Some(key), None, |_| TraceEvent::Subscribed {
            filter,
            reason,
        });
    }

    /// Tells what becomes of a copy of a message.
    #[cold]
    fn tell_of(&mut self, key: SessionKey, message: &Message, event: TraceEvent) {
        self.trace(Some(key), Some(message.topic()), |_| event);
    }

    /// Tells those who want to know about this session and this topic.
    #[cold]
    fn trace(
        &mut self,
        key: Option<SessionKey>,
        topic: Option<TopicNameRef<'_>>,
        event: impl FnOnce(crate::trace::Interest) -> TraceEvent,
    ) {
        let session = key.and_then(|key| self.sessions.get(key));
        let client_id = session.map(|session| &*session.principal.client_id);
        let interest = self.notices.traces.interest(client_id, topic);
        if !interest.is_none() {
            self.notices
                .traces
                .push(interest, client_id, event(interest));
        }
    }
}
