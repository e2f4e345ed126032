//! A message comes in: may it, who gets it, and what its publisher is told.

use std::num::NonZeroU32;

use paloma_codec::{Message, PubAckReason, PublishRef, Qos, SubscriptionId};
use paloma_session::{Gate, LogSeq, Now, Receipt};
use paloma_topic::{Fault, TopicNameRef};

use super::Broker;
use super::fan_out::FanOut;
use crate::accounting::DropCause;
use crate::auth::Action;
use crate::connection::{ConnectionId, Phase};
use crate::memory::MESSAGE_BYTES;
use crate::mount::MountPoint;
use crate::session::SessionKey;
use crate::shared::{GroupKey, Readiness};
use crate::statistics::Sample;
use crate::store::StoreOp;
use crate::trace::Verdict;

/// Recipients above which a message is fanned out over several turns.
const RECIPIENTS_PER_TURN: usize = 2_048;

/// One session that a message is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recipient {
    pub(super) session: SessionKey,
    /// The highest QoS of its matching subscriptions. [MQTT-3.3.4-2]
    pub(super) qos: Qos,
    pub(super) retain_as_published: bool,
    pub(super) id: Option<SubscriptionId>,
    /// More identifiers stand in [`Recipients::more_ids`].
    pub(super) has_more_ids: bool,
    pub(super) share: Option<NonZeroU32>,
    /// It gets another copy of the same message, so that this one has no place of its own in the store.
    pub(super) is_second_copy: bool,
}

/// The sessions that one message is for, each once however many of its filters match. Kept between messages for its
/// allocations.
#[derive(Debug, Default)]
pub(super) struct Recipients {
    pub(super) list: Vec<Recipient>,
    pub(super) more_ids: Vec<(SessionKey, SubscriptionId)>,
    groups: Vec<GroupKey>,
    routing: u64,
    /// Whose recipients these are, if the next message may be for the same.
    route: Option<Route>,
    /// The route's topic.
    topic: String,
}

/// What recipients depend on besides the topic: the publisher, the subscriptions, and everybody's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Route {
    origin: Option<SessionKey>,
    version: u64,
    epoch: u16,
}

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
    /// Further identifiers of recipients with [`Recipient::has_more_ids`].
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
        match session.map(|session| &session.principal.mount) {
            Some(mount) if !mount.is_none() => {
                let mount = mount.clone();
                self.take_publish_behind(now, origin, (&mount, topic), publish, answer);
            }
            Some(_) | None => self.take_publish(now, origin, ("", topic), publish, answer),
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
        self.take_publish(now, origin, name, publish, answer);
    }

    /// A PUBLISH under its whole name, of which `mount` is the beginning that its client left out.
    // Each message comes through here: as a call of its own it costs 80 instructions more.
    #[inline(always)]
    fn take_publish(
        &mut self,
        now: Now,
        origin: SessionKey,
        (mount, topic): (&str, TopicNameRef<'_>),
        publish: &PublishRef<'_>,
        answer: Option<Answer>,
    ) {
        let qos = publish.delivery.qos();
        // A 3.1.1 client cannot be told that nothing is retained.
        let retain = publish.retain && self.limits.retain_available;
        let (author, kind, payload) = (Some(origin), (qos, publish.retain), publish.payload);
        if !self.may_publish(origin, topic) {
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
                Message::from_publish_behind(mount, topic, publish, 0, stamp, scratch)
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
            let scratch = &mut self.scratch;
            let message = Message::from_publish_behind(mount, topic, publish, id.0, stamp, scratch);
            self.memory.take(message.len() as u64 + MESSAGE_BYTES);
            match self.give_to_one(message, (qos, retain)) {
                Ok(()) => self.finish_publish(Outcome::TO_ONE, answer),
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

    /// Fills `self.recipients` with everybody whom a message on `topic` is for. A publisher that names its last topic
    /// again costs no matching, unless groups are among them, who take turns.
    pub(super) fn collect_recipients(
        &mut self,
        topic: TopicNameRef<'_>,
        origin: Option<SessionKey>,
    ) {
        let route = Route {
            origin,
            version: self.subscriptions.version(),
            epoch: self.authorizer.epoch(),
        };
        if self.recipients.route == Some(route) && self.recipients.topic == topic.as_str() {
            return;
        }
        let follow_everybodys_rules = self.match_recipients(topic, origin);
        let recipients = &mut self.recipients;
        if !recipients.groups.is_empty() {
            self.choose_group_members(topic);
        } else if follow_everybodys_rules {
            recipients.route = Some(route);
            recipients.topic.clear();
            recipients.topic.push_str(topic.as_str());
        }
    }

    /// The same without shared subscriptions. Says whether all subscribers follow everybody's rules, whose epoch tells of
    /// changes. [MQTT-3.3.2-3] [MQTT-4.5.0-1]
    pub(super) fn match_recipients(
        &mut self,
        topic: TopicNameRef<'_>,
        origin: Option<SessionKey>,
    ) -> bool {
        let mut follow_everybodys_rules = true;
        let Self {
            subscriptions,
            sessions,
            recipients,
            authorizer,
            notices,
            ..
        } = self;
        recipients.clear();
        subscriptions.for_each_match(topic, |subscribers| {
            recipients.groups.extend_from_slice(subscribers.groups());
            for subscription in subscribers.plain() {
                let is_own = origin == Some(subscription.session);
                if subscription.no_local() && is_own && !Fault::NoLocalIgnored.is_on() {
                    continue; // [MQTT-3.8.3-3]
                }
                let Some(session) = sessions.get_mut(subscription.session) else {
                    continue;
                };
                follow_everybodys_rules &= session.principal.follows_everybody();
                let granted = subscription.granted();
                if session.principal.may_receive(&**authorizer, granted, topic) {
                    recipients.add(&mut session.routed, subscription);
                } else {
                    notices.traces.note_denied(&session.principal, topic);
                }
            }
        });
        follow_everybodys_rules
    }

    fn choose_group_members(&mut self, topic: TopicNameRef<'_>) {
        let mut groups = std::mem::take(&mut self.recipients.groups);
        for key in groups.drain(..) {
            self.choose_group_member(key, topic);
            if Fault::GroupGetsTwo.is_on() {
                self.choose_group_member(key, topic);
            }
        }
        self.recipients.groups = groups;
    }

    /// Adds the member of one group who gets the message. [MQTT-4.8.2-3] [PALOMA-5.0-shared-one-member]
    pub(super) fn choose_group_member(&mut self, key: GroupKey, topic: TopicNameRef<'_>) {
        let Self {
            groups,
            sessions,
            recipients,
            authorizer,
            accounting,
            ..
        } = self;
        let Some(group) = groups.get_mut(key) else {
            return;
        };
        let number = group.number;
        let chosen = group.choose(|member| {
            let Some(session) = sessions.get(member.session) else {
                return Readiness::Gone;
            };
            if !session
                .principal
                .may_receive(&**authorizer, member.granted(), topic)
            {
                Readiness::Gone
            } else if session.connection.is_none() {
                Readiness::Absent
            } else {
                let window = session.window_maximum.max(1);
                let load = session.queued() * 256 / u64::from(window);
                if session.queued() < u64::from(window) {
                    Readiness::Ready { load }
                } else {
                    Readiness::Busy { load }
                }
            }
        });
        let Some(member) = chosen else {
            accounting.copies += 1;
            accounting.count_drop(DropCause::NoGroupMember);
            return;
        };
        let Some(session) = sessions.get_mut(member.session) else {
            return;
        };
        let is_second_copy = session.routed.0 == recipients.routing;
        session.routed = (recipients.routing, u32::MAX);
        recipients.list.push(Recipient {
            session: member.session,
            qos: member.qos(),
            retain_as_published: member.retain_as_published(),
            id: member.id,
            has_more_ids: false,
            share: Some(number),
            is_second_copy,
        });
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
            recipients.route = None;
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

impl Recipients {
    /// Begins a new routing.
    pub(super) fn clear(&mut self) {
        self.list.clear();
        self.more_ids.clear();
        self.groups.clear();
        self.route = None;
        self.routing += 1;
    }

    /// Adds a session, or what another matching filter of the same session brings: one copy at the highest QoS with
    /// all identifiers. [MQTT-3.3.4-2] [MQTT-3.3.4-3] [MQTT-3.3.4-4]
    fn add(&mut self, routed: &mut (u64, u32), subscription: &crate::subscriptions::Subscription) {
        if routed.0 == self.routing
            && !Fault::OverlapTwice.is_on()
            && let Some(recipient) = self.list.get_mut(routed.1 as usize)
        {
            recipient.qos = recipient.qos.max(subscription.qos());
            recipient.retain_as_published |= subscription.retain_as_published();
            match (recipient.id, subscription.id) {
                (_, None) => {}
                (None, Some(id)) => recipient.id = Some(id),
                (Some(_), Some(_)) if Fault::FirstIdOnly.is_on() => {}
                (Some(_), Some(id)) => {
                    recipient.has_more_ids = true;
                    self.more_ids.push((subscription.session, id));
                }
            }
            return;
        }
        *routed = (
            self.routing,
            u32::try_from(self.list.len()).unwrap_or(u32::MAX),
        );
        self.list.push(Recipient {
            session: subscription.session,
            qos: subscription.qos(),
            retain_as_published: subscription.retain_as_published(),
            id: subscription.id,
            has_more_ids: false,
            share: None,
            is_second_copy: false,
        });
    }
}
