//! A store that is full: what is refused, what is held back, and what goes on.
//!
//! A PUBLISH that would have to be stored is refused with 0x97. Before 5.0 it cannot be, and such a client does not send
//! it again on the same connection: it is held, the client is not read, and after [`HELD_FOR`] its connection is closed,
//! so that it sends the message again on the next. Everything else goes on, and so does all of it once there is room.

use std::time::Duration;

use paloma_codec::{Message, PubAckReason, Qos};
use paloma_session::Now;

use super::Broker;
use super::publish::Answer;
use crate::connection::{ConnectionId, Held, Open, Phase};
use crate::session::{SessionEntry, SessionKey};
use crate::store::Space;

/// How long a PUBLISH is held that cannot be refused.
const HELD_FOR: Duration = Duration::from_secs(10);

impl Broker {
    /// The store has run out of room, or has room again.
    pub(super) fn handle_space(&mut self, now: Now, space: Space) {
        self.commits.set_space(space);
        if space == Space::Free {
            for id in std::mem::take(&mut self.holding) {
                self.publish_held(now, id);
            }
            self.unpark_replays();
        }
    }

    /// Whether the message for `self.recipients` would take room in a store that has none.
    #[inline]
    pub(super) fn lacks_room(&self, origin: SessionKey, qos: Qos, is_kept: bool) -> bool {
        self.commits.is_store_full() && self.would_store(origin, qos, is_kept)
    }

    #[cold]
    fn would_store(&self, origin: SessionKey, qos: Qos, is_kept: bool) -> bool {
        let is_durable = |key| self.sessions.get(key).is_some_and(SessionEntry::is_durable);
        let has_stored_id = qos == Qos::ExactlyOnce && is_durable(origin);
        let mut recipients = self.recipients.list.iter();
        let mut is_queued = || {
            recipients.any(|recipient| {
                let qos = if self.behaviour.upgrade_outgoing_qos {
                    recipient.qos
                } else {
                    recipient.qos.min(qos)
                };
                qos != Qos::AtMostOnce && is_durable(recipient.session)
            })
        };
        is_kept || has_stored_id || is_queued()
    }

    /// Refuses a message for want of room, or holds it where its client cannot be told. `message` is made only then.
    #[cold]
    pub(super) fn refuse_or_hold(
        &mut self,
        now: Now,
        (qos, retain): (Qos, bool),
        answer: Option<Answer>,
        message: impl FnOnce(&mut Vec<u8>) -> Message,
    ) {
        self.accounting.store_refused += 1;
        let id = answer.as_ref().map(|answer| answer.connection);
        let Some(id) = id.filter(|id| self.cannot_be_told(*id)) else {
            return self.refuse(answer, PubAckReason::QuotaExceeded);
        };
        let message = message(&mut self.scratch);
        self.memory.take(message.len() as u64);
        let until = now.monotonic.saturating_add(HELD_FOR);
        if let Some(open) = self.open_mut(id)
            && let Some(Answer { receipt, .. }) = answer
        {
            open.held = Some(Box::new(Held {
                message,
                qos,
                retain,
                receipt,
                until,
            }));
            self.holding.push(id);
            self.arm_open(id);
        }
    }

    fn cannot_be_told(&self, id: ConnectionId) -> bool {
        let entry = self.connections.get(id.key());
        entry.is_some_and(|entry| match &entry.phase {
            Phase::Open(open) => !open.protocol.version().is_v5(),
            Phase::Handshake(_) | Phase::Authenticating(_) | Phase::Closing(_) => false,
        })
    }

    /// There is room: what was held goes its way, and the client is read again.
    fn publish_held(&mut self, now: Now, id: ConnectionId) {
        let Some(open) = self.open_mut(id) else {
            return;
        };
        let origin = open.session;
        let Some(held) = open.held.take() else {
            return;
        };
        let Held {
            message,
            qos,
            retain,
            receipt,
            until: _,
        } = *held;
        self.arm_open(id);
        let answer = Some(Answer {
            connection: id,
            receipt,
        });
        if self.may_publish(origin, message.topic()) {
            let message = message.restamped(self.next_message_id().0, message.stamp());
            self.collect_recipients(message.topic(), Some(origin));
            self.route(now, origin, (message, qos, retain), answer);
        } else {
            self.refuse(answer, PubAckReason::NotAuthorized);
        }
        self.resume(now, id);
    }

    /// A connection ends with a PUBLISH that was held: as if it had never come, so that it is a new one when it comes again.
    pub(super) fn forget_held(&mut self, open: &mut Open) {
        let Some(held) = open.held.take() else {
            return;
        };
        self.accounting.refused += 1;
        if held.qos == Qos::ExactlyOnce
            && let Some(session) = self.sessions.get_mut(open.session)
        {
            session.protocol.forget_received(held.receipt.id());
        }
    }
}
