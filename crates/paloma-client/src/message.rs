//! Messages on their way out and in.

use std::fmt;

use bytes::Bytes;
use paloma_codec::{PacketId, PublishProperties, Qos};
use paloma_session::Inbound;
use paloma_topic::TopicName;

/// A message to publish.
#[derive(Clone, PartialEq, Eq)]
pub struct Publication {
    /// Where to.
    pub topic: TopicName,
    /// What.
    pub payload: Bytes,
    /// How often it may arrive.
    pub qos: Qos,
    /// Whether the broker keeps it for later subscribers.
    pub retain: bool,
    /// Properties, which only 5.0 sends. Topic aliases are chosen by themselves.
    pub properties: PublishProperties,
}

impl Publication {
    /// A message at QoS 0, not retained, without properties.
    pub fn new(topic: TopicName, payload: impl Into<Bytes>) -> Self {
        Self {
            topic,
            payload: payload.into(),
            qos: Qos::AtMostOnce,
            retain: false,
            properties: PublishProperties::default(),
        }
    }

    /// The message at another QoS.
    #[must_use]
    pub fn with_qos(self, qos: Qos) -> Self {
        Self { qos, ..self }
    }

    /// The message, retained or not.
    #[must_use]
    pub fn with_retain(self, retain: bool) -> Self {
        Self { retain, ..self }
    }
}

impl fmt::Debug for Publication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publication")
            .field("topic", &self.topic)
            .field("payload_bytes", &self.payload.len())
            .field("qos", &self.qos)
            .field("retain", &self.retain)
            .field("properties", &self.properties)
            .finish()
    }
}

/// A message that came in.
#[derive(Clone, PartialEq, Eq)]
pub struct Received {
    /// Where it was published; an alias is resolved.
    pub topic: TopicName,
    /// What was published.
    pub payload: Bytes,
    /// The QoS of this delivery.
    pub qos: Qos,
    /// Whether it was sent because it is retained, or was published so; see Retain As Published.
    pub retain: bool,
    /// Whether it may have come before. At QoS 2 it has not reached the program before.
    pub dup: bool,
    /// The packet id, above QoS 0.
    pub id: Option<PacketId>,
    /// Properties; empty before 5.0.
    pub properties: PublishProperties,
}

impl Received {
    pub(crate) fn new(inbound: &Inbound<'_>) -> Self {
        let publish = &inbound.publish;
        Self {
            topic: inbound.topic.name().to_owned(),
            payload: Bytes::copy_from_slice(publish.payload),
            qos: publish.delivery.qos(),
            retain: publish.retain,
            dup: publish.delivery.is_dup(),
            id: publish.delivery.id(),
            properties: publish.properties.into_owned(),
        }
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received")
            .field("topic", &self.topic)
            .field("payload_bytes", &self.payload.len())
            .field("qos", &self.qos)
            .field("retain", &self.retain)
            .field("dup", &self.dup)
            .field("id", &self.id)
            .field("properties", &self.properties)
            .finish()
    }
}
