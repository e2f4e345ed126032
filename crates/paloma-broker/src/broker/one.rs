//! The common case: a message for one session, whose client is connected.

use paloma_codec::{Message, Qos};
use paloma_session::Outbound;
use paloma_topic::Fault;

use super::Broker;
use crate::memory::DELIVERY_BYTES;
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
        (qos, retain): (Qos, bool),
    ) -> Result<(), Message> {
        let &[recipient] = self.recipients.list.as_slice() else {
            return Err(message);
        };
        if retain
            || qos == Qos::ExactlyOnce
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
        let is_in_memory = match qos {
            Qos::AtMostOnce => true,
            Qos::AtLeastOnce => !session.is_durable(),
            Qos::ExactlyOnce => false,
        };
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
}
