//! The properties of a PUBLISH, borrowed and owned.

use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;
use bytestring::ByteString;
use paloma_topic::{TopicLimits, TopicName, TopicNameRef};

use crate::encode::{flag_property, optional_text};
use crate::properties::{
    RawProperties, RawProperty, UserPropertyBudget, flag, id, not_allowed, properties_of,
};
use crate::publish::{skip, topic_name};
use crate::read::{self, Parsed};
use crate::subscribe::subscription_id;
use crate::write::Sink;
use crate::{DecodeError, DecodeLimits, SubscriptionId, UserProperties, UserPropertyIter};

/// What a payload holds. [MQTT-3.3.2-4]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PayloadFormat {
    /// Unspecified bytes.
    #[default]
    Bytes,
    /// UTF-8 text, as its publisher says; the codec does not look.
    Utf8,
}

/// The validated properties of a PUBLISH, as they stand on the wire.
///
/// Each accessor walks the block, which is short; keep what is needed more than once.
#[derive(Clone, Copy, Default)]
pub struct PropertiesRef<'a> {
    block: &'a [u8],
}

impl<'a> PropertiesRef<'a> {
    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.block.is_empty()
    }

    /// What the payload holds. [MQTT-3.3.2-4]
    #[must_use]
    pub fn payload_format(self) -> PayloadFormat {
        match self
            .find(id::PAYLOAD_FORMAT_INDICATOR)
            .map(|property| property.value)
        {
            Some([1]) => PayloadFormat::Utf8,
            Some(_) | None => PayloadFormat::Bytes,
        }
    }

    /// Lifetime of the message in seconds. [MQTT-3.3.2-6]
    #[must_use]
    pub fn message_expiry_seconds(self) -> Option<u32> {
        self.find(id::MESSAGE_EXPIRY_INTERVAL)?.u32()
    }

    /// Describes the payload. [MQTT-3.3.2-19]
    #[must_use]
    pub fn content_type(self) -> Option<&'a str> {
        self.find(id::CONTENT_TYPE)?.text()
    }

    /// Where an answer is expected. [MQTT-3.3.2-13] [MQTT-3.3.2-14]
    #[must_use]
    pub fn response_topic(self) -> Option<TopicNameRef<'a>> {
        TopicNameRef::new(self.find(id::RESPONSE_TOPIC)?.text()?).ok()
    }

    /// Identifies the request that an answer belongs to. [MQTT-3.3.2-16]
    #[must_use]
    pub fn correlation_data(self) -> Option<&'a [u8]> {
        self.find(id::CORRELATION_DATA)?.binary()
    }

    /// The subscriptions that the message matched; from servers only. [MQTT-3.3.4-3] [MQTT-3.3.4-6]
    #[must_use]
    pub const fn subscription_ids(self) -> SubscriptionIds<'a> {
        SubscriptionIds {
            rest: RawProperties::new(self.block),
        }
    }

    /// The user properties in order. [MQTT-3.3.2-18]
    #[must_use]
    pub const fn user_properties(self) -> UserPropertyIter<'a> {
        UserPropertyIter::over(self.block)
    }

    /// Copies the properties out of the block.
    pub fn into_owned(self) -> PublishProperties {
        let mut user_properties = UserProperties::new();
        for property in self
            .iter()
            .filter(|property| property.id == id::USER_PROPERTY)
        {
            user_properties.push_pair(property.value, 0);
        }
        PublishProperties {
            payload_format: self.payload_format(),
            message_expiry_seconds: self.message_expiry_seconds(),
            content_type: self.content_type().map(ByteString::from),
            response_topic: self.response_topic().map(TopicNameRef::to_owned),
            correlation_data: self.correlation_data().map(Bytes::copy_from_slice),
            subscription_ids: self.subscription_ids().collect(),
            user_properties,
        }
    }

    /// The properties in order, the alias among them.
    pub(crate) const fn iter(self) -> RawProperties<'a> {
        RawProperties::new(self.block)
    }

    /// Over a block that is valid because a decoder or an encoder of this crate made it.
    pub(crate) const fn over(block: &'a [u8]) -> Self {
        Self { block }
    }

    fn find(self, id: u8) -> Option<RawProperty<'a>> {
        self.iter().find(|property| property.id == id)
    }
}

impl fmt::Debug for PropertiesRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PropertiesRef")
            .field("payload_format", &self.payload_format())
            .field("message_expiry_seconds", &self.message_expiry_seconds())
            .field("content_type", &self.content_type())
            .field("response_topic", &self.response_topic())
            .field("correlation_data", &self.correlation_data())
            .field("subscription_ids", &self.subscription_ids())
            .field("user_properties", &self.user_properties())
            .finish()
    }
}

/// Walks the subscription identifiers of a PUBLISH in order.
#[derive(Clone)]
pub struct SubscriptionIds<'a> {
    rest: RawProperties<'a>,
}

impl Iterator for SubscriptionIds<'_> {
    type Item = SubscriptionId;

    fn next(&mut self) -> Option<SubscriptionId> {
        let property = self
            .rest
            .find(|property| property.id == id::SUBSCRIPTION_IDENTIFIER)?;
        Some(subscription_id(property.value).ok()?.1)
    }
}

impl fmt::Debug for SubscriptionIds<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

/// The properties of a PUBLISH apart from the alias, which is part of [`PublishTopic`](crate::PublishTopic).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishProperties {
    /// What the payload holds. [MQTT-3.3.2-4]
    pub payload_format: PayloadFormat,
    /// Lifetime of the message in seconds. [MQTT-3.3.2-6]
    pub message_expiry_seconds: Option<u32>,
    /// Describes the payload. [MQTT-3.3.2-20]
    pub content_type: Option<ByteString>,
    /// Where an answer is expected. [MQTT-3.3.2-15]
    pub response_topic: Option<TopicName>,
    /// Identifies the request that an answer belongs to. [MQTT-3.3.2-16]
    pub correlation_data: Option<Bytes>,
    /// The subscriptions that the message matched; from servers only. [MQTT-3.3.4-4] [MQTT-3.3.4-6]
    pub subscription_ids: Vec<SubscriptionId>,
    /// User properties, in order. [MQTT-3.3.2-17] [MQTT-3.3.2-18]
    pub user_properties: UserProperties,
}

impl PublishProperties {
    /// Whether nothing of it stands on the wire.
    #[inline]
    pub(crate) fn is_default(&self) -> bool {
        self.payload_format == PayloadFormat::Bytes
            && self.message_expiry_seconds.is_none()
            && self.content_type.is_none()
            && self.response_topic.is_none()
            && self.correlation_data.is_none()
            && self.subscription_ids.is_empty()
            && self.user_properties.is_empty()
    }
}

/// A Payload Format Indicator.
pub(crate) fn payload_format(input: &[u8]) -> Parsed<'_, PayloadFormat> {
    let (rest, is_text) = flag(input)?;
    Ok((
        rest,
        if is_text {
            PayloadFormat::Utf8
        } else {
            PayloadFormat::Bytes
        },
    ))
}

/// Writes the properties that a message keeps on its way through a server. [MQTT-3.3.2-4] [MQTT-3.3.2-15]
/// [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-20]
pub(crate) fn write_forwarded(properties: &PublishProperties, sink: &mut impl Sink) {
    let is_text = properties.payload_format == PayloadFormat::Utf8;
    flag_property(id::PAYLOAD_FORMAT_INDICATOR, is_text, false, sink);
    optional_text(id::CONTENT_TYPE, properties.content_type.as_ref(), sink);
    if let Some(topic) = &properties.response_topic {
        sink.byte(id::RESPONSE_TOPIC);
        sink.verified(topic.as_str());
    }
    if let Some(data) = &properties.correlation_data {
        sink.byte(id::CORRELATION_DATA);
        sink.binary(data);
    }
    sink.raw(properties.user_properties.encoded());
}

/// Checks that a block without its length holds forwarded properties and nothing else.
pub(crate) fn check_forwarded(tail: &[u8]) -> Result<(), DecodeError> {
    let mut budget = UserPropertyBudget::new(&DecodeLimits::UNLIMITED);
    properties_of(tail, &[id::USER_PROPERTY], |id, value| match id {
        id::PAYLOAD_FORMAT_INDICATOR => skip(flag(value)?),
        id::RESPONSE_TOPIC => skip(topic_name(value, &TopicLimits::STANDARD)?),
        id::CORRELATION_DATA => skip(read::binary(value)?),
        id::CONTENT_TYPE => skip(read::text(value)?),
        id::USER_PROPERTY => budget.read(value),
        _ => not_allowed(id),
    })
    .map_err(read::rule)
}
