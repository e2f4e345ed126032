//! A message comes in: may it, who gets it, and what its publisher is told.

use paloma_codec::{Message, MessagePool, PubAckReason, PublishRef, Qos, SubscriptionId};
use paloma_session::{Gate, LogSeq, Now, Receipt};
use paloma_topic::{Fault, TopicNameRef};

use super::Broker;
use super::fan_out::FanOut;
use crate::auth::Action;
use crate::connection::{ConnectionId, Phase};
use crate::memory::MESSAGE_BYTES;
use crate::mount::MountPoint;
use crate::session::SessionKey;
use crate::statistics::Sample;
use crate::store::StoreOp;
use crate::trace::Verdict;

/// Recipients above which a message is fanned out over several turns.
const RECIPIENTS_PER_TURN: usize = 2_048;

/// Who waits for the answer to a publish.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) connection: ConnectionId,
    pub(super) receipt: Receipt,
}

/// A message, and what all its copies have in common.
#[derive(Debug)]
pub(super) struct Routed {
    pub(super) message: Message,
    pub(super) qos: Qos,
    pub(super) retain: bool,
    /// Its way to its receivers is timed.
    pub(super) is_timed: bool,
    /// The session that published it.
    pub(super) origin: Option<SessionKey>,
    /// Further identifiers of recipients with [`Recipient::has_more_ids`](super::recipients::Recipient::has_more_ids).
    pub(super) more_ids: Vec<(SessionKey, SubscriptionId)>,
}

/// What a publish did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outcome {
    /// Sessions that the message was for.
    pub(super) recipients: usize,
    /// Some of it went into a batch, so that the answer waits for the commit.
    pub(super) is_stored: bool,
    /// The batch that holds the message.
    pub(super) put_in: LogSeq,
    /// The one session it was for had no room.
    pub(super) is_refused: bool,
}

impl Outcome {
    /// The batch of a message that a fan-out keeps in the store until its end.
    pub(super) const HELD: LogSeq = LogSeq(u64::MAX);

    /// That of a message that one session has got, in memory.
    pub(super) const TO_ONE: Self = Self {
        recipients: 1,
        is_stored: false,
        put_in: LogSeq(0),
        is_refused: false,
    };
}

impl Broker {
    /// A PUBLISH from a client.
    pub(super) fn handle_publish(
        &mut self,
        now: Now,
        connection: ConnectionId,
        origin: SessionKey,
        (topic, publish): (TopicNameRef<'_>, &PublishRef<'_>),
        receipt: Option<Receipt>,
    ) {
        self.accounting.published += 1;
        self.traffic.publish_received += 1;
        self.traffic.publish_bytes_received += publish.payload.len() as u64;
        let answer = receipt.map(|receipt| Answer {
            connection,
            receipt,
        });
        let session = self.sessions.get(origin);
        match session.map(|session| &session.principal) {
            Some(principal) if !principal.mount.is_none() => {
                let mount = principal.mount.clone();
                self.take_publish_behind(now, origin, (&mount, topic), publish, answer);
            }
            Some(principal) => {
                let may = principal.may(&*self.authorizer, Action::Write, topic);
                self.take_publish(now, (origin, may), ("", topic), publish, answer);
            }
            None => self.refuse(answer, PubAckReason::NotAuthorized),
        }
    }

    /// A PUBLISH of a client whose listener has a mount point.
    #[cold]
    fn take_publish_behind(
        &mut self,
        now: Now,
        origin: SessionKey,
        (mount, topic): (&MountPoint, TopicNameRef<'_>),
        publish: &PublishRef<'_>,
        answer: Option<Answer>,
    ) {
        let response = publish.properties.response_topic();
        let has_room = response.is_none_or(|response| mount.name(response).is_some());
        let Some(topic) = mount.name(topic).filter(|_| has_room) else {
            return self.refuse(answer, PubAckReason::TopicNameInvalid);
        };
        let name = (mount.as_str(), topic.borrowed());
        let may = self.may_publish(origin, topic.borrowed());
        self.take_publish(now, (origin, may), name, publish, answer);
    }

    /// A PUBLISH under its whole name, of which `mount` is the beginning that its client left out, and whether the client may
    /// write it.
    // Each message comes through here: as a call of its own it costs 80 instructions more.
    #[inline(always)]
    fn take_publish(
        &mut self,
        now: Now,
        (origin, may): (SessionKey, bool),
        (mount, topic): (&str, TopicNameRef<'_>),
        publish: &PublishRef<'_>,
        answer: Option<Answer>,
    ) {
        let qos = publish.delivery.qos();
        // A 3.1.1 client cannot be told that nothing is retained.
        let retain = publish.retain && self.limits.retain_available;
        let (author, kind, payload) = (Some(origin), (qos, publish.retain), publish.payload);
        if !may {
            self.trace_publish(author, topic, kind, payload, Verdict::NotAuthorized);
            return self.refuse(answer, PubAckReason::NotAuthorized);
        }
        let is_deletion = retain && publish.payload.is_empty();
        if self.is_full() && !is_deletion {
            self.accounting.memory_refused += 1;
            self.trace_publish(author, topic, kind, payload, Verdict::QuotaExceeded);
            return self.refuse(answer, PubAckReason::QuotaExceeded);
        }
        self.collect_recipients(topic, Some(origin));
        let stamp = now.wall.as_millis();
        if self.lacks_room(origin, qos, retain && !is_deletion) {
            self.trace_publish(author, topic, kind, payload, Verdict::QuotaExceeded);
            return self.refuse_or_hold(now, (qos, retain), answer, |scratch| {
                let pool = &mut MessagePool::closed();
                Message::from_publish_behind((mount, topic), publish, (0, stamp), scratch, pool)
            });
        }
        let is_wanted = retain || !self.recipients.list.is_empty();
        let verdict = Verdict::Routed(self.recipients.list.len());
        self.trace_publish(author, topic, kind, payload, verdict);
        if is_wanted {
            let id = self.next_message_id();
            if Sample::takes(id.0) {
                self.sampled_at = now.monotonic;
            }
            let message = Message::from_publish_behind(
                (mount, topic),
                publish,
                (id.0, stamp),
                &mut self.scratch,
                &mut self.messages,
            );
            self.memory.take(message.len() as u64 + MESSAGE_BYTES);
            match self.give_to_one(message, origin, (qos, retain)) {
                Ok(()) => self.answer_one(answer),
                Err(message) => self.route(now, origin, (message, qos, retain), answer),
            }
        } else {
            let mut outcome = Outcome::default();
            self.note_received(origin, answer.as_ref(), &mut outcome);
            self.finish_publish(outcome, answer);
        }
    }

    /// Retains a client's message if it is to be, and gives it to all of `self.recipients`.
    #[inline]
    pub(super) fn route(
        &mut self,
        now: Now,
        origin: SessionKey,
        (message, qos, retain): (Message, Qos, bool),
        answer: Option<Answer>,
    ) {
        let mut outcome = Outcome::default();
        let is_mistaken = Fault::EmptyDeletesRetained.is_on() && message.payload().is_empty();
        if (retain || is_mistaken)
            && self
                .retain(now, &message, qos, Some(origin), &mut outcome)
                .is_err()
        {
            let (topic, payload) = (message.topic(), message.payload());
            let verdict = Verdict::QuotaExceeded;
            self.trace_publish(Some(origin), topic, (qos, retain), payload, verdict);
            return self.refuse(answer, PubAckReason::QuotaExceeded);
        }
        self.note_received(origin, answer.as_ref(), &mut outcome);
        let is_timed = Sample::takes(message.id());
        let routed = Routed {
            message,
            qos,
            retain,
            is_timed,
            origin: Some(origin),
            more_ids: Vec::new(),
        };
        self.dispatch(routed, outcome, answer);
    }

    /// Sends a message of the broker's own making, a will for example.
    pub(super) fn publish_own(
        &mut self,
        now: Now,
        origin: Option<SessionKey>,
        message: Message,
        qos: Qos,
        retain: bool,
    ) {
        self.accounting.published += 1;
        let mut outcome = Outcome::default();
        if retain {
            // A full table is counted there; the message still goes to those who are subscribed now.
            let _ = self.retain(now, &message, qos, origin, &mut outcome);
        }
        self.collect_recipients(message.topic(), origin);
        let verdict = Verdict::Routed(self.recipients.list.len());
        let (topic, payload) = (message.topic(), message.payload());
        self.trace_publish(origin, topic, (qos, retain), payload, verdict);
        let routed = Routed {
            message,
            qos,
            retain,
            is_timed: false,
            origin,
            more_ids: Vec::new(),
        };
        self.dispatch(routed, outcome, None);
    }

    pub(super) fn may_publish(&self, origin: SessionKey, topic: TopicNameRef<'_>) -> bool {
        let session = self.sessions.get(origin);
        session.is_some_and(|session| {
            session
                .principal
                .may(&*self.authorizer, Action::Write, topic)
        })
    }

    /// A QoS 2 id of a durable session is stored with what its message caused.
    fn note_received(
        &mut self,
        origin: SessionKey,
        answer: Option<&Answer>,
        outcome: &mut Outcome,
    ) {
        let receipt = answer.map(|answer| &answer.receipt);
        if let Some(receipt) = receipt.filter(|receipt| receipt.qos() == Qos::ExactlyOnce)
            && let Some(id) = self.stored_id(origin)
        {
            if !Fault::ReceivedNotStored.is_on() {
                self.commits.push(StoreOp::PutReceived(id, receipt.id()));
            }
            outcome.is_stored = true;
        }
    }

    /// [MQTT311-3.3.5-2]
    pub(super) fn refuse(&mut self, answer: Option<Answer>, reason: PubAckReason) {
        self.accounting.refused += 1;
        if let Some(answer) = answer {
            self.answer(answer, reason, false);
        }
    }

    /// Gives the message to all of `self.recipients`, at once or as a paced job, and answers its publisher.
    /// [MQTT-4.6.0-5] [MQTT-4.6.0-6]
    pub(super) fn dispatch(
        &mut self,
        mut routed: Routed,
        mut outcome: Outcome,
        answer: Option<Answer>,
    ) {
        let mut recipients = std::mem::take(&mut self.recipients);
        outcome.recipients = recipients.list.len();
        if outcome.recipients == 0 {
            self.accounting.unmatched += 1;
        }
        std::mem::swap(&mut routed.more_ids, &mut recipients.more_ids);
        let is_large = outcome.recipients > RECIPIENTS_PER_TURN;
        if is_large
            || (!self.fan_outs.is_empty() && self.fan_outs.is_busy_with(routed.message.topic()))
        {
            let list = std::mem::take(&mut recipients.list);
            recipients.forget_route();
            self.recipients = recipients;
            let job = FanOut {
                routed,
                recipients: list,
                position: 0,
                outcome,
                answer,
                is_stored: false,
            };
            return self.push_fan_out(job);
        }
        for recipient in &recipients.list {
            let is_queued = self.deliver(&routed, recipient, &mut outcome);
            outcome.is_refused |= !is_queued && outcome.recipients == 1;
        }
        std::mem::swap(&mut routed.more_ids, &mut recipients.more_ids);
        self.recipients = recipients;
        self.finish_publish(outcome, answer);
    }

    /// Answers the publisher once its message has reached every queue it was for.
    pub(super) fn finish_publish(&mut self, outcome: Outcome, answer: Option<Answer>) {
        let Some(answer) = answer else {
            return;
        };
        let reason = if outcome.is_refused {
            self.forget_refused(&answer);
            PubAckReason::QuotaExceeded
        } else if outcome.recipients == 0 {
            PubAckReason::NoMatchingSubscribers
        } else {
            PubAckReason::Success
        };
        self.answer(answer, reason, outcome.is_stored);
    }

    /// A 5.0 client whose QoS 2 message is refused is free to use its packet id for another one, also after a restart.
    /// [MQTT-4.3.3-9]
    fn forget_refused(&mut self, answer: &Answer) {
        let entry = self.connections.get(answer.connection.key());
        if let Some(Phase::Open(open)) = entry.map(|entry| &entry.phase)
            && open.protocol.version().is_v5()
            && answer.receipt.qos() == Qos::ExactlyOnce
        {
            let packet = answer.receipt.id();
            self.push_for(open.session, |session| {
                StoreOp::DeleteReceived(session, packet)
            });
        }
    }

    pub(super) fn answer(&mut self, answer: Answer, reason: PubAckReason, is_stored: bool) {
        let Answer {
            connection,
            receipt,
        } = answer;
        let Some(entry) = self.connections.get_mut(connection.key()) else {
            return;
        };
        let Phase::Open(open) = &mut entry.phase else {
            return;
        };
        let Some(session) = self.sessions.get_mut(open.session) else {
            return;
        };
        let gate = if is_stored && !Fault::PublisherToldTooSoon.is_on() {
            self.commits.gate()
        } else {
            Gate::Open
        };
        open.protocol
            .acknowledge(&mut session.protocol, receipt, reason, gate);
        if is_stored {
            self.commits.wait(connection);
        }
        self.mark_transmit(connection);
    }

    /// Puts the message into the turn's batch, once.
    pub(super) fn put_message(&mut self, message: &Message, outcome: &mut Outcome) {
        outcome.is_stored = true;
        let seq = self.commits.next_seq();
        if outcome.put_in != seq && outcome.put_in != Outcome::HELD {
            outcome.put_in = seq;
            self.commits.push(StoreOp::PutMessage(message.clone()));
        }
    }
}
