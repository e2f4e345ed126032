//! PUBLISH: the packet that everything else is for.

use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;
use paloma_topic::{TopicError, TopicLimits, TopicName, TopicNameRef};

use crate::decoder::{Context, Role};
use crate::encode::{Body, Keep, PropertyBlock, property_block, u32_property};
use crate::properties::{UserPropertyBudget, block, flag, id, not_allowed};
use crate::publish_properties::write_forwarded;
use crate::read::{self, Parsed, broken};
use crate::secret::Hidden;
use crate::subscribe::subscription_id;
use crate::write::{Sink, VARIABLE_INT_MAX, Writer, variable_int_len};
use crate::{
    DecodeError, DecodeLimits, EncodeError, PacketId, PropertiesRef, ProtocolVersion,
    PublishProperties, Qos, TopicAlias,
};

const RETAIN: u8 = 0x01;
const DUP: u8 = 0x08;

/// The QoS of a PUBLISH with what belongs to it: identifier and DUP exist above QoS 0 only.
/// [MQTT-2.2.1-2] [MQTT-3.3.1-2]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// QoS 0.
    AtMostOnce,
    /// QoS 1.
    AtLeastOnce {
        /// Repeated by the PUBACK.
        id: PacketId,
        /// Whether this may be a resend. [MQTT-3.3.1-1]
        dup: bool,
    },
    /// QoS 2.
    ExactlyOnce {
        /// Repeated by PUBREC, PUBREL and PUBCOMP.
        id: PacketId,
        /// Whether this may be a resend. [MQTT-3.3.1-1]
        dup: bool,
    },
}

impl Delivery {
    /// The QoS.
    #[must_use]
    pub const fn qos(self) -> Qos {
        match self {
            Self::AtMostOnce => Qos::AtMostOnce,
            Self::AtLeastOnce { .. } => Qos::AtLeastOnce,
            Self::ExactlyOnce { .. } => Qos::ExactlyOnce,
        }
    }

    /// The identifier, above QoS 0.
    #[must_use]
    pub const fn id(self) -> Option<PacketId> {
        match self {
            Self::AtMostOnce => None,
            Self::AtLeastOnce { id, .. } | Self::ExactlyOnce { id, .. } => Some(id),
        }
    }

    /// Whether this may be a resend.
    #[must_use]
    pub const fn is_dup(self) -> bool {
        match self {
            Self::AtMostOnce => false,
            Self::AtLeastOnce { dup, .. } | Self::ExactlyOnce { dup, .. } => dup,
        }
    }

    /// The first byte of a PUBLISH. [MQTT-4.3.1-1]
    pub(crate) const fn first_byte(self, retain: bool) -> u8 {
        let dup = if self.is_dup() { DUP } else { 0 };
        0x30 | dup | self.qos().bits() << 1 | retain as u8
    }
}

/// How a PUBLISH names its topic: `T` is a [`TopicName`] or a [`TopicNameRef`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PublishTopic<T> {
    /// By name.
    Name(T),
    /// By an alias that an earlier PUBLISH of the connection defined.
    Alias(TopicAlias),
    /// By name, which the alias stands for from this packet on.
    Define {
        /// The topic.
        name: T,
        /// What stands for it.
        alias: TopicAlias,
    },
}

impl<T> PublishTopic<T> {
    /// The name, if the packet has it.
    pub const fn name(&self) -> Option<&T> {
        match self {
            Self::Name(name) | Self::Define { name, .. } => Some(name),
            Self::Alias(_) => None,
        }
    }

    /// The alias, if the packet has one.
    pub const fn alias(&self) -> Option<TopicAlias> {
        match self {
            Self::Name(_) => None,
            Self::Alias(alias) | Self::Define { alias, .. } => Some(*alias),
        }
    }

    fn map<U>(self, convert: impl FnOnce(T) -> U) -> PublishTopic<U> {
        match self {
            Self::Name(name) => PublishTopic::Name(convert(name)),
            Self::Alias(alias) => PublishTopic::Alias(alias),
            Self::Define { name, alias } => PublishTopic::Define {
                name: convert(name),
                alias,
            },
        }
    }
}

/// A PUBLISH that borrows from the bytes it was decoded from.
#[derive(Clone, Copy)]
pub struct PublishRef<'a> {
    /// QoS, identifier and DUP.
    pub delivery: Delivery,
    /// Whether the message is, or was, retained. [MQTT-3.3.1-5]
    pub retain: bool,
    /// The topic. [MQTT-3.3.2-1]
    pub topic: PublishTopic<TopicNameRef<'a>>,
    /// The properties apart from the alias; empty before 5.0.
    pub properties: PropertiesRef<'a>,
    /// The message.
    pub payload: &'a [u8],
}

impl PublishRef<'_> {
    /// Copies what is borrowed, so that the packet may outlive its buffer.
    #[must_use]
    pub fn into_owned(self) -> Publish {
        self.into_owned_with(Bytes::copy_from_slice(self.payload))
    }

    pub(crate) fn into_owned_with(self, payload: Bytes) -> Publish {
        Publish {
            delivery: self.delivery,
            retain: self.retain,
            topic: self.topic.map(TopicNameRef::to_owned),
            properties: self.properties.into_owned(),
            payload,
        }
    }
}

impl fmt::Debug for PublishRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublishRef")
            .field("delivery", &self.delivery)
            .field("retain", &self.retain)
            .field("topic", &self.topic)
            .field("properties", &self.properties)
            .field("payload", &Hidden(self.payload.len()))
            .finish()
    }
}

/// A PUBLISH that owns what it holds.
#[derive(Clone, PartialEq, Eq)]
pub struct Publish {
    /// QoS, identifier and DUP.
    pub delivery: Delivery,
    /// Whether the message is, or was, retained. [MQTT-3.3.1-5]
    pub retain: bool,
    /// The topic. [MQTT-3.3.2-1]
    pub topic: PublishTopic<TopicName>,
    /// The properties apart from the alias; not written before 5.0.
    pub properties: PublishProperties,
    /// The message.
    pub payload: Bytes,
}

impl Publish {
    /// A QoS 0 message, not retained, without properties.
    pub fn new(topic: TopicName, payload: Bytes) -> Self {
        Self {
            delivery: Delivery::AtMostOnce,
            retain: false,
            topic: PublishTopic::Name(topic),
            properties: PublishProperties::default(),
            payload,
        }
    }
}

impl fmt::Debug for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publish")
            .field("delivery", &self.delivery)
            .field("retain", &self.retain)
            .field("topic", &self.topic)
            .field("properties", &self.properties)
            .field("payload", &Hidden(self.payload.len()))
            .finish()
    }
}

/// Reads a PUBLISH of valid or invalid `flags`. The payload is what is left, so nothing ever is. A topic that is `known`
/// to be valid is not checked again.
#[inline]
pub(crate) fn publish<'a>(
    flags: u8,
    input: &'a [u8],
    known: Option<TopicNameRef<'a>>,
    context: &Context<'_>,
) -> Result<PublishRef<'a>, nom::Err<read::Rule>> {
    let (rest, topic) = read::binary(input)?;
    let (rest, delivery) = delivery(flags, rest)?;
    let (payload, alias, properties) = if context.version.is_v5() {
        let (payload, (alias, properties)) = properties(rest, context)?;
        (payload, alias, properties)
    } else {
        (rest, None, PropertiesRef::default())
    };
    let name = |topic| match known {
        Some(known) if known.as_str().as_bytes() == topic => Ok(known),
        Some(_) | None => name(topic, &context.limits.topic),
    };
    let topic = match alias {
        Some(alias) if topic.is_empty() => PublishTopic::Alias(alias),
        Some(alias) => PublishTopic::Define {
            name: name(topic)?,
            alias,
        },
        None => PublishTopic::Name(name(topic)?),
    };
    Ok(PublishRef {
        delivery,
        retain: flags & RETAIN != 0,
        topic,
        properties,
        payload,
    })
}

#[inline]
fn delivery(flags: u8, input: &[u8]) -> Parsed<'_, Delivery> {
    let dup = flags & DUP != 0;
    match flags >> 1 & 0x03 {
        0 if dup => Err(broken(DecodeError::DupWithoutQos)),
        0 => Ok((input, Delivery::AtMostOnce)),
        1 => {
            let (rest, id) = read::packet_id(input)?;
            Ok((rest, Delivery::AtLeastOnce { id, dup }))
        }
        2 => {
            let (rest, id) = read::packet_id(input)?;
            Ok((rest, Delivery::ExactlyOnce { id, dup }))
        }
        _ => Err(broken(DecodeError::QosThree)),
    }
}

type AliasAndProperties<'a> = (Option<TopicAlias>, PropertiesRef<'a>);

#[inline]
fn properties<'a>(input: &'a [u8], context: &Context<'_>) -> Parsed<'a, AliasAndProperties<'a>> {
    if let [0, rest @ ..] = input {
        return Ok((rest, (None, PropertiesRef::default())));
    }
    some_properties(input, context.limits, context.role)
}

fn some_properties<'a>(
    input: &'a [u8],
    limits: &DecodeLimits,
    role: Role,
) -> Parsed<'a, AliasAndProperties<'a>> {
    let mut alias = None;
    let mut budget = UserPropertyBudget::new(limits);
    let repeatable = &[id::USER_PROPERTY, id::SUBSCRIPTION_IDENTIFIER];
    let (rest, block) = block(input, repeatable, |id, value| match id {
        id::PAYLOAD_FORMAT_INDICATOR => skip(flag(value)?),
        id::MESSAGE_EXPIRY_INTERVAL => skip(read::u32(value)?),
        id::TOPIC_ALIAS => {
            let (rest, value) = read::u16(value)?;
            alias = Some(TopicAlias::new(value).ok_or(broken(DecodeError::TopicAliasZero))?);
            Ok((rest, ()))
        }
        id::RESPONSE_TOPIC => skip(topic_name(value, &limits.topic)?),
        id::CORRELATION_DATA => skip(read::binary(value)?),
        id::USER_PROPERTY => budget.read(value),
        id::SUBSCRIPTION_IDENTIFIER => {
            let parsed = subscription_id(value)?;
            match role {
                Role::Server => Err(broken(DecodeError::SubscriptionIdFromClient)),
                Role::Client => skip(parsed),
            }
        }
        id::CONTENT_TYPE => skip(read::text(value)?),
        _ => not_allowed(id),
    })?;
    Ok((rest, (alias, PropertiesRef::over(block))))
}

/// Passes on what follows a value that was only checked.
pub(crate) const fn skip<T: Copy>((rest, _): (&[u8], T)) -> Parsed<'_, ()> {
    Ok((rest, ()))
}

/// A topic name behind its length. [MQTT-3.3.2-2] [MQTT-3.3.2-14]
pub(crate) fn topic_name<'a>(
    input: &'a [u8],
    limits: &TopicLimits,
) -> Parsed<'a, TopicNameRef<'a>> {
    let (rest, bytes) = read::binary(input)?;
    Ok((rest, name(bytes, limits)?))
}

#[inline]
fn name<'a>(
    bytes: &'a [u8],
    limits: &TopicLimits,
) -> Result<TopicNameRef<'a>, nom::Err<read::Rule>> {
    let text = read::utf8(bytes).map_err(broken)?;
    TopicNameRef::with_limits(text, limits).map_err(|error| broken(name_rule(error)))
}

#[cold]
fn name_rule(error: TopicError) -> DecodeError {
    match error {
        TopicError::Empty => DecodeError::TopicEmpty,
        TopicError::Null => DecodeError::Utf8Null,
        TopicError::BytesMax | TopicError::LevelsMax => DecodeError::TopicTooLarge,
        TopicError::TooLong
        | TopicError::WildcardInName
        | TopicError::MultiLevelNotAlone
        | TopicError::MultiLevelNotLast
        | TopicError::SingleLevelNotAlone
        | TopicError::ShareNameEmpty
        | TopicError::ShareNameWildcard
        | TopicError::ShareNameSeparator
        | TopicError::ShareFilterMissing => DecodeError::TopicWildcard,
    }
}

impl Body for Publish {
    fn first_byte(&self) -> u8 {
        self.delivery.first_byte(self.retain)
    }

    #[inline]
    fn len_min(&self) -> usize {
        let name = self.topic.name().map_or("", TopicName::as_str);
        2 + name.len() + self.payload.len()
    }

    #[inline]
    fn write(&self, version: ProtocolVersion, keep: Keep, sink: &mut impl Sink) {
        let name = self.topic.name().map(TopicName::borrowed);
        write_head(name, self.delivery, version, sink);
        if version.is_v5() {
            property_block(self, keep, sink);
        }
        sink.raw(&self.payload);
    }

    #[inline]
    fn plain(&self, version: ProtocolVersion) -> Option<Plain<'_>> {
        match &self.topic {
            PublishTopic::Name(name) if !version.is_v5() || self.properties.is_default() => {
                Some(Plain {
                    first_byte: self.first_byte(),
                    name: name.borrowed(),
                    id: self.delivery.id(),
                    payload: &self.payload,
                })
            }
            PublishTopic::Name(_) | PublishTopic::Alias(_) | PublishTopic::Define { .. } => None,
        }
    }
}

impl PropertyBlock for Publish {
    fn write_properties(&self, _: Keep, sink: &mut impl Sink) {
        write_alias(self.topic.alias(), sink);
        let properties = &self.properties;
        u32_property(
            id::MESSAGE_EXPIRY_INTERVAL,
            properties.message_expiry_seconds,
            sink,
        );
        for id in &properties.subscription_ids {
            sink.byte(id::SUBSCRIPTION_IDENTIFIER);
            sink.variable_int(id.get() as usize);
        }
        write_forwarded(properties, sink);
    }
}

impl Body for PublishRef<'_> {
    fn first_byte(&self) -> u8 {
        self.delivery.first_byte(self.retain)
    }

    #[inline]
    fn len_min(&self) -> usize {
        let name = self.topic.name().map_or("", |name| name.as_str());
        2 + name.len() + self.payload.len()
    }

    #[inline]
    fn write(&self, version: ProtocolVersion, keep: Keep, sink: &mut impl Sink) {
        write_head(self.topic.name().copied(), self.delivery, version, sink);
        if version.is_v5() {
            property_block(self, keep, sink);
        }
        sink.raw(self.payload);
    }

    #[inline]
    fn plain(&self, version: ProtocolVersion) -> Option<Plain<'_>> {
        match &self.topic {
            PublishTopic::Name(name) if !version.is_v5() || self.properties.is_empty() => {
                Some(Plain {
                    first_byte: self.first_byte(),
                    name: *name,
                    id: self.delivery.id(),
                    payload: self.payload,
                })
            }
            PublishTopic::Name(_) | PublishTopic::Alias(_) | PublishTopic::Define { .. } => None,
        }
    }
}

/// A PUBLISH without properties, as most are: its length is known before it is written.
pub(crate) struct Plain<'a> {
    first_byte: u8,
    name: TopicNameRef<'a>,
    id: Option<PacketId>,
    payload: &'a [u8],
}

impl Plain<'_> {
    #[inline]
    pub(crate) fn append(
        &self,
        version: ProtocolVersion,
        packet_bytes_max: u32,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let name = self.name.as_str();
        let id_len = if self.id.is_some() { 2 } else { 0 };
        let block_len = usize::from(version.is_v5());
        let body_len = 2 + name.len() + id_len + block_len + self.payload.len();
        if body_len > VARIABLE_INT_MAX {
            return Err(EncodeError::PacketTooLarge);
        }
        if 1 + variable_int_len(body_len) + body_len > packet_bytes_max as usize {
            return Err(EncodeError::MaximumPacketSize);
        }
        let Ok(name_len) = u16::try_from(name.len()) else {
            return Err(EncodeError::FieldTooLong);
        };
        out.reserve(5 + body_len);
        let mut writer = Writer::new(out);
        let [high, low] = name_len.to_be_bytes();
        match u8::try_from(body_len) {
            Ok(len @ 0..=0x7F) => writer.raw(&[self.first_byte, len, high, low]),
            Ok(_) | Err(_) => {
                writer.byte(self.first_byte);
                writer.variable_int(body_len);
                writer.raw(&[high, low]);
            }
        }
        writer.raw(name.as_bytes());
        if let Some(id) = self.id {
            writer.u16(id.get());
        }
        if version.is_v5() {
            writer.byte(0);
        }
        writer.raw(self.payload);
        Ok(())
    }
}

impl PropertyBlock for PublishRef<'_> {
    fn write_properties(&self, _: Keep, sink: &mut impl Sink) {
        write_alias(self.topic.alias(), sink);
        for property in self.properties.iter() {
            let is_default = property.whole == [id::PAYLOAD_FORMAT_INDICATOR, 0];
            if property.id != id::TOPIC_ALIAS && !is_default {
                sink.raw(property.whole);
            }
        }
    }
}

/// Writes topic and identifier. An alias alone says nothing before 5.0.
#[inline]
fn write_head(
    name: Option<TopicNameRef<'_>>,
    delivery: Delivery,
    version: ProtocolVersion,
    sink: &mut impl Sink,
) {
    if name.is_none() && !version.is_v5() {
        sink.refuse(EncodeError::NotInVersion);
    }
    sink.verified(name.map_or("", TopicNameRef::as_str));
    if let Some(id) = delivery.id() {
        sink.u16(id.get());
    }
}

fn write_alias(alias: Option<TopicAlias>, sink: &mut impl Sink) {
    if let Some(alias) = alias {
        sink.byte(id::TOPIC_ALIAS);
        sink.u16(alias.get());
    }
}
