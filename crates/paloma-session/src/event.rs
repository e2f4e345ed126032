//! What came of a packet, for the caller to act on.

use alloc::boxed::Box;
use core::num::NonZeroU32;

use paloma_codec::{
    Auth, Disconnect, PacketId, PubAckReason, PubCompReason, PublishRef, Qos, SubAck, Subscribe,
    UnsubAck, Unsubscribe,
};
use paloma_topic::{TopicName, TopicNameRef};

use crate::outbound::Outbound;

/// What came of a packet. What the protocol answers by itself is queued already.
#[derive(Debug)]
pub enum Event<'a> {
    /// Nothing to do.
    None,
    /// A message for the caller. One with a receipt is owed [`Connection::acknowledge`](crate::Connection::acknowledge).
    Publish(Inbound<'a>),
    /// The peer's QoS 2 exchange under this id is closed; PUBCOMP waits for the gate given. Its id is to be deleted
    /// from stored state in that commit. [MQTT-4.3.3-11]
    Released(PacketId),
    /// The peer has finished with a QoS 1 delivery, or refused one of QoS 2; the id is free. [MQTT-4.4.0-2]
    Acknowledged {
        /// The packet id it went under.
        id: PacketId,
        /// The delivery.
        outbound: Outbound,
        /// What the peer says of it; QoS 2 refusals give the PUBREC's code.
        reason: PubAckReason,
    },
    /// The peer owns a QoS 2 delivery; PUBREL waits for the gate given. That it was received is to be stored in
    /// that commit. [MQTT-4.3.3-4]
    Received {
        /// The packet id it went under, which stays in use.
        id: PacketId,
        /// The delivery.
        outbound: Outbound,
    },
    /// Our QoS 2 exchange is closed; the id is free.
    Completed {
        /// The packet id it went under.
        id: PacketId,
        /// [`Message::id`](paloma_codec::Message::id) of the message.
        message: u64,
        /// [`Outbound::share`] of the delivery.
        share: Option<NonZeroU32>,
        /// Whether the peer knew the exchange.
        reason: PubCompReason,
    },
    /// Server role: owed [`Connection::answer_subscribe`](crate::Connection::answer_subscribe).
    Subscribe(Subscribe),
    /// Server role: owed [`Connection::answer_unsubscribe`](crate::Connection::answer_unsubscribe).
    Unsubscribe(Unsubscribe),
    /// Client role: the answer to a SUBSCRIBE that is in flight.
    SubAck(Box<SubAck>),
    /// Client role: the answer to an UNSUBSCRIBE that is in flight.
    UnsubAck(Box<UnsubAck>),
    /// A step of re-authentication. In the server role owed [`Connection::authenticate`](crate::Connection::authenticate)
    /// or a disconnect.
    Auth(Box<Auth>),
    /// The peer ends the connection: close it and say so by [`Connection::handle_closed`](crate::Connection::handle_closed).
    Disconnect(Box<Disconnect>),
}

/// What a PUBREC, PUBREL or PUBCOMP came to in [`Connection::handle_plain_step`](crate::Connection::handle_plain_step).
#[derive(Debug)]
pub enum Step {
    /// As [`Event::Received`]; PUBREL waits to be written.
    Received(Outbound),
    /// As [`Event::Released`]; PUBCOMP waits to be written.
    Released,
    /// As [`Event::Completed`].
    Completed,
}

/// A PUBLISH that is to be delivered onward.
#[derive(Debug)]
pub struct Inbound<'a> {
    /// The packet. Its topic may be an alias.
    pub publish: PublishRef<'a>,
    /// The topic, an alias resolved.
    pub topic: InboundTopic<'a>,
    /// Stands for the unanswered packet; none at QoS 0.
    pub receipt: Option<Receipt>,
}

/// The topic of a PUBLISH: from the packet, or from the alias table.
#[derive(Debug)]
pub enum InboundTopic<'a> {
    /// As it stands in the packet.
    Named(TopicNameRef<'a>),
    /// What the packet's alias stands for.
    Aliased(TopicName),
}

impl InboundTopic<'_> {
    /// The topic.
    #[must_use]
    pub fn name(&self) -> TopicNameRef<'_> {
        match self {
            Self::Named(name) => *name,
            Self::Aliased(name) => name.borrowed(),
        }
    }
}

/// Stands for an unanswered PUBLISH of QoS 1 or 2. It cannot be copied, so that the answer is given once.
///
/// One that is dropped stalls the later acknowledgements of its QoS, as their order is that of the PUBLISHes
/// [MQTT-4.6.0-2] [MQTT-4.6.0-3], until the connection ends and the peer sends it again.
#[derive(Debug)]
#[must_use = "a PUBLISH of QoS 1 or 2 has to be acknowledged"]
pub struct Receipt {
    pub(crate) id: PacketId,
    pub(crate) qos: Qos,
    /// Its place among the receipts of its QoS on its connection.
    pub(crate) place: u32,
    /// Which connection of the session it belongs to.
    pub(crate) connection: u32,
}

impl Receipt {
    /// The packet id.
    #[must_use]
    pub const fn id(&self) -> PacketId {
        self.id
    }

    /// QoS 1 or 2.
    #[must_use]
    pub const fn qos(&self) -> Qos {
        self.qos
    }
}
