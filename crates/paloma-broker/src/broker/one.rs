//! The common case: a message for one session, whose client is connected; and its acknowledgements.

use paloma_codec::{Message, PubAck, Qos};
use paloma_session::{Now, Outbound};
use paloma_topic::Fault;

use super::Broker;
use super::publish::{Answer, Outcome};
use crate::connection::{ConnectionId, Phase};
use crate::effect::Effect;
use crate::memory::DELIVERY_BYTES;
use crate::session::SessionKey;
use crate::statistics::Sample;
use crate::store::MessageId;
use crate::tag::Tag;

impl Broker {
    pub(super) fn next_message_id(&mut self) -> MessageId {
        self.last_message += 1;
        MessageId(self.last_message)
    }

    /// Does with a client's message what [`route`](Self::route) does, in one look at its only recipient. Gives it back where
    /// more is to be done: something is stored or retained, somebody traces, the client is away, its queue is full.
    #[inline]
    pub(super) fn give_to_one(
        &mut self,
        message: Message,
        origin: SessionKey,
        (qos, retain): (Qos, bool),
    ) -> Result<(), Message> {
        let &[recipient] = self.recipients.list.as_slice() else {
            return Err(message);
        };
        if retain
            || (qos == Qos::ExactlyOnce && self.stored_id(origin).is_some())
            || recipient.has_more_ids
            || !self.fan_outs.is_empty()
            || !self.notices.traces.is_off()
            || Fault::EmptyDeletesRetained.is_on()
        {
            return Err(message);
        }
        let qos = self.behaviour.delivery_qos(qos, &recipient);
        let Some(session) = self.sessions.get_mut(recipient.session) else {
            return Err(message);
        };
        let is_in_memory = qos == Qos::AtMostOnce || !session.is_durable();
        let Some(connection) = session.connection else {
            return Err(message);
        };
        if !is_in_memory || session.spill.is_some() {
            return Err(message);
        }
        let number = message.id();
        let tag = Tag {
            group: recipient.share,
            is_stored: false,
        };
        let outbound = Outbound::new(message, qos).with_share(tag.pack());
        session
            .protocol
            .enqueue_in_room(outbound, recipient.id)
            .map_err(Outbound::into_message)?;
        self.accounting.copies += 1;
        self.memory.take(DELIVERY_BYTES);
        if Sample::takes(number) {
            self.take_sample(connection, number);
        }
        self.mark_transmit(connection);
        Ok(())
    }

    /// Answers the publisher of a message that one session has got, in memory.
    #[inline]
    pub(super) fn answer_one(&mut self, answer: Option<Answer>) {
        let Some(Answer {
            connection,
            receipt,
        }) = answer
        else {
            return;
        };
        let Some(entry) = self.connections.get_mut(connection.key()) else {
            return;
        };
        let Phase::Open(open) = &mut entry.phase else {
            return;
        };
        match open.protocol.acknowledge_next(receipt) {
            Ok(()) if entry.is_transmit_due => {}
            Ok(()) => {
                entry.is_transmit_due = true;
                self.effects.push_back(Effect::Transmit(connection));
            }
            Err(receipt) => {
                let answer = Answer {
                    connection,
                    receipt,
                };
                self.finish_publish(Outcome::TO_ONE, Some(answer));
            }
        }
    }

    /// Does with a PUBACK what [`handle_open_packet`](Self::handle_open_packet) does, in one look at its session. False, and
    /// nothing is done, where more is to be done: it refuses, something is sent again, somebody traces.
    #[inline]
    pub(super) fn take_pub_ack(&mut self, now: Now, id: ConnectionId, ack: &PubAck) -> bool {
        let Some(entry) = self.connections.get_mut(id.key()) else {
            return false;
        };
        let Phase::Open(open) = &mut entry.phase else {
            return false;
        };
        let key = open.session;
        let Some(session) = self.sessions.get_mut(key) else {
            return false;
        };
        if !self.notices.traces.is_off() {
            return false;
        }
        let taken = open
            .protocol
            .handle_plain_pub_ack(now, &mut session.protocol, ack);
        let Some(outbound) = taken else {
            return false;
        };
        // It may have opened the window.
        if !entry.is_transmit_due && !session.protocol.queue().is_empty() {
            entry.is_transmit_due = true;
            self.effects.push_back(Effect::Transmit(id));
        }
        self.accounting.delivered += 1;
        if Tag::unpack(outbound.share()).is_stored {
            self.forget_copy(key, &outbound);
        }
        self.messages.recycle(outbound.into_message());
        true
    }

    /// Whether nothing but its own answers could keep a connection from being read on that was read until now.
    #[inline]
    pub(super) fn takes_more(&self) -> bool {
        self.commits.bytes_waiting() <= self.limits.uncommitted_bytes_max
            && !self.commits.is_store_full()
    }
}
