//! Towards one session: into its queue, out of it, and through the store when it grows long.

use paloma_codec::{Message, Qos, SubscriptionId};
use paloma_session::{Now, Outbound, Pushed, QueueLimits, WhenFull};
use paloma_topic::Fault;

use super::Broker;
use super::publish::{Outcome, Routed};
use super::recipients::Recipient;
use crate::accounting::DropCause;
use crate::auth::Action;
use crate::connection::ConnectionId;
use crate::effect::Effect;
use crate::limits::{Limits, QueueWhenFull};
use crate::memory::{DELIVERY_BYTES, MESSAGE_BYTES};
use crate::notice::Notice;
use crate::session::{SessionEntry, SessionKey, Spill};
use crate::shared::Groups;
use crate::statistics::Sample;
use crate::store::{LoadRequest, Loaded, MessageId, QueueEntry, StoreOp};
use crate::tag::{Share, Tag};

/// A queue that drops its oldest messages has more of it loaded when fewer than this are in memory, or less than half of what may.
const LOAD_BELOW: usize = 64;
/// Bytes of messages in one load.
pub(super) const LOAD_BYTES: u32 = 1_048_576;

pub(super) fn queue_limits(limits: &Limits) -> QueueLimits {
    QueueLimits {
        count_max: limits.queue_messages_max,
        bytes_max: u64::from(limits.queue_bytes_max),
        when_full: match limits.queue_when_full {
            QueueWhenFull::DropNewest => WhenFull::DropNewest,
            QueueWhenFull::DropOldest => WhenFull::DropOldest,
        },
    }
}

/// What became of one copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Copied {
    InMemory,
    InStore,
    Refused,
}

impl Broker {
    /// Gives one session its copy; false if its queue had no room for it. [MQTT-3.3.4-5]
    pub(super) fn deliver(
        &mut self,
        routed: &Routed,
        recipient: &Recipient,
        outcome: &mut Outcome,
    ) -> bool {
        self.accounting.copies += 1;
        let Some(session) = self.sessions.get_mut(recipient.session) else {
            self.accounting.count_drop(DropCause::SessionEnded);
            return true;
        };
        let qos = self.behaviour.delivery_qos(routed.qos, recipient);
        let connection = session.connection;
        let is_once = qos == Qos::AtMostOnce && !self.limits.queue_qos0;
        if connection.is_none() && (is_once || Fault::OfflineLost.is_on()) {
            self.accounting.count_drop(DropCause::Offline);
            self.trace_dropped(recipient.session, &routed.message, DropCause::Offline);
            return true;
        }
        let is_stored = qos != Qos::AtMostOnce && session.is_durable();
        if is_stored && recipient.is_second_copy {
            return self.deliver_second(routed, recipient, outcome);
        }
        let share = recipient.share.map(|group| Share {
            group,
            qos: routed.qos,
            retain: routed.retain,
        });
        let tag = Tag { share, is_stored };
        let outbound = Outbound::new(routed.message.clone(), qos)
            .with_retain(
                routed.retain && (recipient.retain_as_published || Fault::RetainKept.is_on()),
            )
            .with_share(tag.pack());
        let copied = if recipient.has_more_ids {
            let more = routed
                .more_ids
                .iter()
                .filter(|(key, _)| *key == recipient.session);
            let ids: Vec<_> = recipient
                .id
                .into_iter()
                .chain(more.map(|(_, id)| *id))
                .collect();
            self.queue_copy(recipient.session, outbound, &ids, is_stored, outcome)
        } else {
            self.queue_copy(
                recipient.session,
                outbound,
                recipient.id.as_slice(),
                is_stored,
                outcome,
            )
        };
        self.note_copy(routed, recipient.session, (copied, qos), connection);
        copied != Copied::Refused
    }

    /// What follows from what became of a copy: who is to be written to, or told that it is not.
    fn note_copy(
        &mut self,
        routed: &Routed,
        key: SessionKey,
        (copied, qos): (Copied, Qos),
        connection: Option<ConnectionId>,
    ) {
        if copied != Copied::Refused {
            let is_in_store = copied == Copied::InStore;
            self.trace_queued(key, &routed.message, qos, is_in_store);
        }
        match (copied, connection) {
            (Copied::Refused, _) => {
                self.accounting.count_drop(DropCause::QueueFull);
                self.trace_dropped(key, &routed.message, DropCause::QueueFull);
                self.tell_full(key);
            }
            (Copied::InMemory, Some(connection)) => {
                if routed.is_timed {
                    self.take_sample(connection, routed.message.id());
                }
                if qos == Qos::ExactlyOnce {
                    self.assign_ids(key);
                }
                self.mark_transmit(connection);
            }
            (Copied::InMemory, None) | (Copied::InStore, _) => {}
        }
    }

    /// A stored queue has a message once: another copy of it is a message of its own there.
    fn deliver_second(
        &mut self,
        routed: &Routed,
        recipient: &Recipient,
        outcome: &mut Outcome,
    ) -> bool {
        self.accounting.copies -= 1;
        let message = &routed.message;
        let own = Routed {
            message: message.restamped(self.next_message_id().0, message.stamp()),
            more_ids: Vec::new(),
            ..*routed
        };
        let recipient = Recipient {
            is_second_copy: false,
            ..*recipient
        };
        let mut own_outcome = Outcome::default();
        let is_queued = self.deliver(&own, &recipient, &mut own_outcome);
        outcome.is_stored |= own_outcome.is_stored;
        is_queued
    }

    fn queue_copy(
        &mut self,
        key: SessionKey,
        outbound: Outbound,
        ids: &[SubscriptionId],
        is_stored: bool,
        outcome: &mut Outcome,
    ) -> Copied {
        if !is_stored {
            return self.push_beside_spill(key, outbound, ids);
        }
        let message = outbound.message().clone();
        let share = Tag::unpack(outbound.share()).share;
        let entry = QueueEntry {
            message: MessageId(message.id()),
            bytes: u32::try_from(message.len()).unwrap_or(u32::MAX),
            qos: outbound.qos(),
            retain: outbound.retain(),
            subscription_ids: ids.to_vec(),
            share: share.and_then(|share| self.groups.target_of(share.group)),
        };
        let copied = if self.is_spilling(key, message.id()) {
            self.spill_copy(key, message.len() as u64, message.id())
        } else {
            self.push_beside_spill(key, outbound, ids)
        };
        if copied != Copied::Refused
            && let Some(session) = self.sessions.get(key)
        {
            let id = session.id;
            self.put_message(&message, outcome);
            self.commits.push(StoreOp::Enqueue(id, entry));
        }
        copied
    }

    /// A copy that goes into memory counts together with what is in the store only.
    fn push_beside_spill(
        &mut self,
        key: SessionKey,
        outbound: Outbound,
        ids: &[SubscriptionId],
    ) -> Copied {
        let limits = queue_limits(&self.limits);
        let is_full = self.sessions.get(key).is_some_and(|session| {
            let (count, bytes) = session.waiting();
            let bytes = bytes + outbound.message().len() as u64;
            session.spill.is_some()
                && (count >= limits.count_max.into() || bytes > limits.bytes_max)
        });
        if is_full {
            return Copied::Refused;
        }
        self.push_copy(key, outbound, ids)
    }

    /// Whether a stored message goes to the session's queue in the store only. One that is older than what came into
    /// memory before it (its fan-out took several turns) would not be found there any more and stays in memory.
    fn is_spilling(&self, key: SessionKey, message: u64) -> bool {
        let Some(session) = self.sessions.get(key) else {
            return false;
        };
        match &session.spill {
            Some(spill) => message > spill.after.0,
            None => {
                message > session.newest.0
                    && session.protocol.queue().len()
                        >= self.limits.queue_memory_messages_max as usize
            }
        }
    }

    fn spill_copy(&mut self, key: SessionKey, bytes: u64, message: u64) -> Copied {
        let limits = queue_limits(&self.limits);
        loop {
            let Some(session) = self.sessions.get_mut(key) else {
                return Copied::Refused;
            };
            let (count, held) = session.waiting();
            if count < u64::from(limits.count_max) && held + bytes <= limits.bytes_max {
                let after = MessageId(message - 1);
                let spill = session
                    .spill
                    .get_or_insert_with(|| Box::new(Spill::after(after)));
                spill.count += 1;
                spill.bytes += bytes;
                spill.is_stale |= spill.is_loading && message < spill.last.0;
                spill.last = spill.last.max(MessageId(message));
                return Copied::InStore;
            }
            let oldest = match limits.when_full {
                WhenFull::DropOldest => session.protocol.take_oldest(),
                WhenFull::DropNewest => None,
            };
            // What is to give way next comes from the store.
            if session.runs_low(&self.limits) && self.to_load.last() != Some(&key) {
                self.to_load.push(key);
            }
            let Some(oldest) = oldest else {
                return Copied::Refused;
            };
            self.drop_copy(key, &oldest, DropCause::QueueFull);
        }
    }

    fn push_copy(&mut self, key: SessionKey, outbound: Outbound, ids: &[SubscriptionId]) -> Copied {
        let Some(session) = self.sessions.get_mut(key) else {
            return Copied::Refused;
        };
        let message = MessageId(outbound.message().id());
        let is_stored =
            outbound.qos() != Qos::AtMostOnce && Tag::unpack(outbound.share()).is_stored;
        let mut shed = Vec::new();
        let pushed = session
            .protocol
            .enqueue(outbound, ids, |victim| shed.push(victim));
        self.memory.take(DELIVERY_BYTES);
        if is_stored {
            session.newest = session.newest.max(message);
        }
        if !shed.is_empty() {
            self.tell_full(key);
            for victim in &shed {
                self.drop_copy(key, victim, DropCause::QueueFull);
            }
        }
        match pushed {
            Pushed::Stored => Copied::InMemory,
            Pushed::Full(_) => Copied::Refused,
        }
    }

    /// A queued delivery is over without having been made.
    pub(super) fn drop_copy(&mut self, key: SessionKey, outbound: &Outbound, cause: DropCause) {
        self.accounting.count_drop(cause);
        self.trace_dropped(key, outbound.message(), cause);
        self.forget_copy(key, outbound);
    }

    /// A delivery is over: its entry leaves the store.
    pub(super) fn forget_copy(&mut self, key: SessionKey, outbound: &Outbound) {
        let is_kept = Tag::unpack(outbound.share()).is_stored;
        if outbound.qos() == Qos::AtMostOnce || !is_kept || Fault::DequeueForgotten.is_on() {
            return;
        }
        if let Some(session) = self
            .sessions
            .get(key)
            .filter(|session| session.is_durable())
        {
            let id = session.id;
            self.commits
                .push(StoreOp::Dequeue(id, MessageId(outbound.message().id())));
        }
    }

    /// Says once that the session's queue is full.
    fn tell_full(&mut self, key: SessionKey) {
        if let Some(session) = self.sessions.get_mut(key)
            && !std::mem::replace(&mut session.is_told_full, true)
        {
            let client_id = session.principal.client_id();
            self.notices.push(Notice::QueueFull { client_id });
        }
    }

    /// Begins to time the message's way to one receiver, unless one is being timed already.
    pub(super) fn take_sample(&mut self, id: ConnectionId, message: u64) {
        if let Some(entry) = self.connections.get_mut(id.key()) {
            let at = self.sampled_at;
            entry.sample.get_or_insert(Sample::new(message, at));
        }
    }

    /// Asks the store for the next part of the session's queue while the part before it is in memory: one is read while the
    /// other is sent.
    pub(super) fn load_more(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        if !session.has_room_for_part(&self.limits) {
            return;
        }
        let Some(spill) = session.spill.as_mut().filter(|spill| !spill.is_loading) else {
            return;
        };
        if self.commits.is_open() {
            // What is to be loaded may be in the batch: `finish_turn` asks for it behind that.
            self.to_load.push(key);
            return;
        }
        spill.is_loading = true;
        spill.asked_to = spill.last;
        self.effects.push_back(Effect::Load(LoadRequest {
            session: session.id,
            after: MessageId(spill.after.0 + u64::from(Fault::SpillSkipsOne.is_on())),
            count: part_max(&self.limits),
            bytes: LOAD_BYTES,
        }));
    }

    /// Takes in the next part of a session's queue. The rules are asked about each message: what was in the store when they
    /// changed has not been looked through.
    pub(super) fn handle_loaded(&mut self, _now: Now, loaded: Loaded) {
        let Some(key) = self.directory.number(&self.sessions, loaded.session) else {
            return self.handle_inherited(loaded);
        };
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let Some(spill) = session.spill.as_mut() else {
            return;
        };
        spill.is_loading = false;
        let is_stale = std::mem::take(&mut spill.is_stale);
        let entries = if is_stale { Vec::new() } else { loaded.entries };
        let mut lost = 0_u32;
        if entries.is_empty() && !is_stale && spill.asked_to == spill.last {
            for _ in 0..std::mem::take(&mut spill.count) {
                self.accounting.count_drop(DropCause::StoreLost);
                lost += 1;
            }
        }
        let (mut refused, mut forbidden) = (Vec::new(), Vec::new());
        for (entry, message) in entries {
            spill.after = entry.message;
            session.newest = session.newest.max(entry.message);
            self.memory.take(message.len() as u64 + MESSAGE_BYTES);
            spill.count = spill.count.saturating_sub(1);
            spill.bytes = spill.bytes.saturating_sub(message.len() as u64);
            let mut outbound = outbound_of(&self.groups, &entry, message);
            if entry.message <= session.maybe_sent {
                outbound = outbound.as_repeated();
            }
            let topic = outbound.message().topic();
            if !session
                .principal
                .may(&*self.authorizer, Action::Read, topic)
            {
                forbidden.push(outbound);
                continue;
            }
            let pushed = session
                .protocol
                .enqueue(outbound, &entry.subscription_ids, |victim| {
                    refused.push(victim);
                });
            if let Pushed::Full(outbound) = pushed {
                refused.push(outbound);
            }
        }
        if spill.count == 0 {
            session.spill = None;
        }
        (0..lost).for_each(|_| session.note_drop(DropCause::StoreLost));
        let connection = session.connection;
        for outbound in refused {
            self.drop_copy(key, &outbound, DropCause::QueueFull);
        }
        self.withhold(key, forbidden);
        if let Some(connection) = connection {
            self.assign_ids(key);
            self.mark_transmit(connection);
            self.load_more(key);
        }
    }
}

/// A delivery as the store has it; its group is the one that has the same name now. How its message was published is not stored: it
/// counts as published as this delivery is.
pub(super) fn outbound_of(groups: &Groups, entry: &QueueEntry, message: Message) -> Outbound {
    let target = entry.share.as_deref();
    let group = target.and_then(|target| groups.number_of(target));
    let tag = Tag {
        share: group.map(|group| Share {
            group,
            qos: entry.qos,
            retain: entry.retain,
        }),
        is_stored: true,
    };
    Outbound::new(message, entry.qos)
        .with_retain(entry.retain)
        .with_share(tag.pack())
}

/// Messages of one session's queue that are kept in memory while there are more.
fn memory_max(limits: &Limits) -> usize {
    limits.queue_memory_messages_max.max(1) as usize
}

/// Messages that are asked of the store at once: half of those, so that another half may be under way.
fn part_max(limits: &Limits) -> u32 {
    u32::try_from(memory_max(limits).div_ceil(2)).unwrap_or(u32::MAX)
}

impl SessionEntry {
    /// Whether a part of its queue may come to what is in memory.
    fn has_room_for_part(&self, limits: &Limits) -> bool {
        let queue = self.protocol.queue();
        queue.len() <= memory_max(limits) / 2 && queue.bytes() <= LOAD_BYTES.into()
    }

    /// Whether so few of its messages wait in memory that more should be loaded.
    fn runs_low(&self, limits: &Limits) -> bool {
        self.protocol.queue().len() < LOAD_BELOW.min(memory_max(limits).div_ceil(2))
    }
}
