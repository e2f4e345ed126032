//! The common case: a message for one session, whose client is connected; and its acknowledgements.

use paloma_codec::{Message, PacketRef, Qos};
use paloma_session::{Now, Outbound, Step};
use paloma_topic::Fault;

use super::Broker;
use super::publish::{Answer, Outcome};
use crate::connection::{ConnectionId, Phase};
use crate::memory::DELIVERY_BYTES;
use crate::session::SessionKey;
use crate::statistics::Sample;
use crate::store::MessageId;
use crate::tag::{Share, Tag};

impl Broker {
    pub(super) fn next_message_id(&mut self) -> MessageId {
        self.last_message += 1;
        MessageId(self.last_message)
    }

    /// Does with a client's message what [`route`](Self::route) does, in one look at its only recipient. Gives it back where
    /// more is to be done: something is stored or retained, somebody traces, the client is away, its queue is full.
    #[inline(always)]
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
        let share = recipient.share.map(|group| Share { group, qos, retain });
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
            share,
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
            Ok(()) => entry.mark_transmit(connection, &mut self.effects),
            Err(receipt) => {
                let answer = Answer {
                    connection,
                    receipt,
                };
                self.finish_publish(Outcome::TO_ONE, Some(answer));
            }
        }
    }

    /// Does with a PUBLISH at QoS 2 and with acknowledgements what [`handle_open_packet`](Self::handle_open_packet) does, in
    /// one look at their session, and says whether the next packet may come for certain. `None`, and nothing is done, where
    /// more is to be done: something is refused, sent again or stored, somebody traces.
    #[inline]
    pub(super) fn take_exchange(
        &mut self,
        now: Now,
        id: ConnectionId,
        packet: &PacketRef<'_>,
    ) -> Option<bool> {
        let entry = self.connections.get_mut(id.key())?;
        let Phase::Open(open) = &mut entry.phase else {
            return None;
        };
        let key = open.session;
        let session = self.sessions.get_mut(key)?;
        if !self.notices.traces.is_off() {
            return None;
        }
        let is_durable = session.is_durable();
        let (protocol, own) = (&mut open.protocol, &mut session.protocol);
        if let PacketRef::PubAck(ack) = packet {
            let outbound = protocol.handle_plain_pub_ack(now, own, ack)?;
            // It may have opened the window.
            if !own.queue().is_empty() {
                entry.mark_transmit(id, &mut self.effects);
            }
            self.accounting.delivered += 1;
            if Tag::unpack(outbound.share()).is_stored {
                self.forget_copy(key, &outbound);
            }
            self.messages.recycle(outbound.into_message());
            return Some(self.takes_more());
        }
        if is_durable {
            return None;
        }
        let has_room = protocol.has_room_for_two_answers();
        if let PacketRef::Publish(publish) = packet {
            let (topic, receipt) = protocol.handle_plain_exactly_once(now, own, publish)?;
            self.handle_publish(now, id, key, (topic, publish), Some(receipt));
            return Some(has_room && self.takes_more());
        }
        let is_due = match protocol.handle_plain_step(now, own, packet)? {
            Step::Received(outbound) => {
                self.messages.recycle(outbound.into_message());
                true
            }
            Step::Released => true,
            Step::Completed => {
                self.accounting.delivered += 1;
                !own.queue().is_empty()
            }
        };
        if is_due {
            entry.mark_transmit(id, &mut self.effects);
        }
        Some(has_room && self.takes_more())
    }

    /// Whether nothing but its own answers could keep a connection from being read on that was read until now.
    #[inline]
    pub(super) fn takes_more(&self) -> bool {
        self.commits.bytes_waiting() <= self.limits.uncommitted_bytes_max
            && !self.commits.is_store_full()
    }
}
