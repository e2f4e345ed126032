//! SUBSCRIBE and SUBACK.

use alloc::vec::Vec;

use bytestring::ByteString;
use paloma_topic::{Target, TargetRef, TopicError};

use crate::ack::explanations;
use crate::decoder::Context;
use crate::encode::{Body, Keep, PropertyBlock, explanation, property_block};
use crate::properties::{UserPropertyBudget, block, id, not_allowed, set};
use crate::read::{self, Parsed, broken};
use crate::write::Sink;
use crate::{
    DecodeError, DecodeLimits, EncodeError, PacketId, ProtocolVersion, Qos, SubAckReason,
    SubscriptionId, UserProperties,
};

const NO_LOCAL: u8 = 0x04;
const RETAIN_AS_PUBLISHED: u8 = 0x08;
const RESERVED: u8 = 0xC0;
const RESERVED_V3: u8 = 0xFC;

/// What a filter takes on the wire, more or less; room is made for so many at once.
const FILTER_BYTES_USUAL: usize = 24;

/// A client asks for messages. [MQTT-3.8.4-1]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// Repeated by the SUBACK. [MQTT-3.8.4-2]
    pub id: PacketId,
    /// Given to all filters of the packet, and returned with their messages. [MQTT-3.3.4-3]
    pub subscription_id: Option<SubscriptionId>,
    /// What is asked for; never empty on the wire. [MQTT-3.8.3-2]
    pub filters: Vec<SubscribeFilter>,
    /// Filters behind those in [`filters`](Self::filters) that were checked and counted but not stored, because of
    /// [`DecodeLimits::filters_per_subscribe_max`]. Each is owed a failure in the SUBACK [MQTT-3.8.4-6]. Not
    /// written by the encoder.
    pub filters_excess: u32,
    /// User properties.
    pub user_properties: UserProperties,
}

impl Subscribe {
    /// A SUBSCRIBE without properties.
    #[must_use]
    pub const fn new(id: PacketId, filters: Vec<SubscribeFilter>) -> Self {
        Self {
            id,
            subscription_id: None,
            filters,
            filters_excess: 0,
            user_properties: UserProperties::new(),
        }
    }
}

/// One filter of a SUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscribeFilter {
    /// A filter, shared or not. [MQTT-3.8.3-1]
    pub target: Target,
    /// How its messages are delivered.
    pub options: SubscribeOptions,
}

/// How the messages of one subscription are delivered. The default is QoS 0 and all else off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SubscribeOptions {
    /// Highest QoS of delivery. [MQTT-3.8.4-8]
    pub qos: Qos,
    /// Whether the client's own messages are left out; never on a shared subscription. [MQTT-3.8.3-3]
    /// [MQTT-3.8.3-4]
    pub no_local: bool,
    /// Whether RETAIN stays as it was published. [MQTT-3.3.1-12] [MQTT-3.3.1-13]
    pub retain_as_published: bool,
    /// Whether retained messages are sent.
    pub retain_handling: RetainHandling,
}

impl SubscribeOptions {
    /// A QoS and all else off, which is all that 3.1.1 has.
    #[must_use]
    pub const fn new(qos: Qos) -> Self {
        Self {
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::Send,
        }
    }

    /// The options byte on the wire.
    #[must_use]
    pub const fn bits(self) -> u8 {
        let mut bits = self.qos.bits() | (self.retain_handling as u8) << 4;
        if self.no_local {
            bits |= NO_LOCAL;
        }
        if self.retain_as_published {
            bits |= RETAIN_AS_PUBLISHED;
        }
        bits
    }

    /// The options of a byte in this version's grammar.
    ///
    /// # Errors
    /// Reserved bits are set [MQTT-3.8.3-5], or QoS or Retain Handling is 3.
    pub fn from_bits(bits: u8, version: ProtocolVersion) -> Result<Self, DecodeError> {
        let reserved = if version.is_v5() {
            RESERVED
        } else {
            RESERVED_V3
        };
        if bits & reserved != 0 {
            return Err(DecodeError::SubscriptionOptionsReserved);
        }
        let retain_handling = match bits >> 4 & 0x03 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err(DecodeError::RetainHandlingThree),
        };
        Ok(Self {
            qos: Qos::from_bits(bits & 0x03).ok_or(DecodeError::SubscriptionQosThree)?,
            no_local: bits & NO_LOCAL != 0,
            retain_as_published: bits & RETAIN_AS_PUBLISHED != 0,
            retain_handling,
        })
    }
}

/// Whether a new subscription gets the retained messages that match it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RetainHandling {
    /// Always. [MQTT-3.3.1-9]
    #[default]
    Send = 0,
    /// Only if the subscription did not exist. [MQTT-3.3.1-10]
    SendIfNew = 1,
    /// Never. [MQTT-3.3.1-11]
    DoNotSend = 2,
}

/// The server's answer to SUBSCRIBE. [MQTT-3.8.4-1]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubAck {
    /// That of the SUBSCRIBE. [MQTT-3.8.4-2]
    pub id: PacketId,
    /// One for each filter, in the same order. [MQTT-3.8.4-6] [MQTT-3.9.3-1]
    pub reasons: Vec<SubAckReason>,
    /// For people to read. [MQTT-3.9.2-1]
    pub reason_string: Option<ByteString>,
    /// User properties. [MQTT-3.9.2-2]
    pub user_properties: UserProperties,
}

impl SubAck {
    /// An answer without further words.
    #[must_use]
    pub const fn new(id: PacketId, reasons: Vec<SubAckReason>) -> Self {
        Self {
            id,
            reasons,
            reason_string: None,
            user_properties: UserProperties::new(),
        }
    }
}

pub(crate) fn subscribe<'a>(input: &'a [u8], context: &Context<'_>) -> Parsed<'a, Subscribe> {
    let (mut rest, id) = read::packet_id(input)?;
    let mut subscribe = Subscribe::new(id, Vec::new());
    if context.version.is_v5() {
        (rest, ()) = properties(rest, context, &mut subscribe)?;
    }
    if rest.is_empty() {
        return Err(broken(DecodeError::FiltersEmpty));
    }
    let filters_max = context.limits.filters_per_subscribe_max as usize;
    subscribe
        .filters
        .reserve((1 + rest.len() / FILTER_BYTES_USUAL).min(filters_max));
    while !rest.is_empty() {
        let stored = subscribe.filters.len() < filters_max;
        let (after, target) = target(rest, context.limits)?;
        let (after, bits) = read::byte(after)?;
        let options = SubscribeOptions::from_bits(bits, context.version).map_err(broken)?;
        if options.no_local && matches!(target, Target::Shared { .. }) {
            return Err(broken(DecodeError::NoLocalOnShared));
        }
        rest = after;
        if stored {
            subscribe.filters.push(SubscribeFilter { target, options });
        } else {
            subscribe.filters_excess += 1;
        }
    }
    Ok((rest, subscribe))
}

fn properties<'a>(
    input: &'a [u8],
    context: &Context<'_>,
    subscribe: &mut Subscribe,
) -> Parsed<'a, ()> {
    let mut budget = UserPropertyBudget::new(context.limits);
    let (rest, _) = block(input, &[id::USER_PROPERTY], |id, value| match id {
        id::SUBSCRIPTION_IDENTIFIER => set(&mut subscribe.subscription_id, subscription_id(value)?),
        id::USER_PROPERTY => budget.read_into(value, &mut subscribe.user_properties),
        _ => not_allowed(id),
    })?;
    Ok((rest, ()))
}

/// A Subscription Identifier, which is not 0.
pub(crate) fn subscription_id(input: &[u8]) -> Parsed<'_, SubscriptionId> {
    let (rest, value) = read::variable_int(input)?;
    match SubscriptionId::new(value) {
        Some(id) => Ok((rest, id)),
        None => Err(broken(DecodeError::PropertyZero)),
    }
}

/// A filter of SUBSCRIBE or UNSUBSCRIBE. [MQTT-3.8.3-1] [MQTT-3.10.3-1]
pub(crate) fn target<'a>(input: &'a [u8], limits: &DecodeLimits) -> Parsed<'a, Target> {
    let (rest, bytes) = read::binary(input)?;
    // U+0000 is among what filters may not hold.
    let text = read::utf8(bytes).map_err(broken)?;
    match TargetRef::parse_with_limits(text, &limits.topic) {
        Ok(target) => Ok((rest, target.to_owned())),
        Err(error) => Err(broken(filter_rule(error))),
    }
}

#[cold]
fn filter_rule(error: TopicError) -> DecodeError {
    match error {
        TopicError::BytesMax | TopicError::LevelsMax => DecodeError::FilterTooLarge,
        TopicError::Null => DecodeError::Utf8Null,
        TopicError::ShareNameEmpty
        | TopicError::ShareNameWildcard
        | TopicError::ShareNameSeparator
        | TopicError::ShareFilterMissing => DecodeError::ShareInvalid,
        TopicError::Empty
        | TopicError::TooLong
        | TopicError::WildcardInName
        | TopicError::MultiLevelNotAlone
        | TopicError::MultiLevelNotLast
        | TopicError::SingleLevelNotAlone => DecodeError::FilterInvalid,
    }
}

/// Writes a filter; a shared one is not 3.1.1's, but text like any other there.
pub(crate) fn write_target(target: &Target, sink: &mut impl Sink) {
    match target {
        Target::Plain(filter) => sink.verified(filter.as_str()),
        Target::Shared { share, filter } => {
            let parts = ["$share/", share.as_str(), "/", filter.as_str()];
            let len: usize = parts.iter().map(|part| part.len()).sum();
            match u16::try_from(len) {
                Ok(len) => sink.u16(len),
                Err(_) => sink.refuse(EncodeError::FieldTooLong),
            }
            for part in parts {
                sink.raw(part.as_bytes());
            }
        }
    }
}

pub(crate) fn sub_ack<'a>(input: &'a [u8], context: &Context<'_>) -> Parsed<'a, SubAck> {
    let (mut rest, id) = read::packet_id(input)?;
    let mut ack = SubAck::new(id, Vec::new());
    if context.version.is_v5() {
        (rest, ()) = explanations(
            rest,
            context,
            &mut ack.reason_string,
            &mut ack.user_properties,
        )?;
    }
    if rest.is_empty() {
        return Err(broken(DecodeError::Truncated));
    }
    ack.reasons = rest
        .iter()
        .map(|code| reason(*code, context.version).ok_or(broken(DecodeError::ReasonCodeInvalid)))
        .collect::<Result<_, _>>()?;
    Ok((&[], ack))
}

fn reason(code: u8, version: ProtocolVersion) -> Option<SubAckReason> {
    let reason = SubAckReason::from_code(code)?;
    (version.is_v5() || reason.v3_code() == code).then_some(reason)
}

impl Body for Subscribe {
    fn first_byte(&self) -> u8 {
        0x82
    }

    fn write(&self, version: ProtocolVersion, keep: Keep, sink: &mut impl Sink) {
        sink.u16(self.id.get());
        if version.is_v5() {
            property_block(self, keep, sink);
        }
        if self.filters.is_empty() {
            sink.refuse(EncodeError::Empty);
        }
        for SubscribeFilter { target, options } in &self.filters {
            if options.no_local && matches!(target, Target::Shared { .. }) {
                sink.refuse(EncodeError::NoLocalOnShared);
            }
            write_target(target, sink);
            sink.byte(if version.is_v5() {
                options.bits()
            } else {
                options.qos.bits()
            });
        }
    }
}

impl PropertyBlock for Subscribe {
    fn write_properties(&self, _: Keep, sink: &mut impl Sink) {
        if let Some(id) = self.subscription_id {
            sink.byte(id::SUBSCRIPTION_IDENTIFIER);
            sink.variable_int(id.get() as usize);
        }
        sink.raw(self.user_properties.encoded());
    }
}

impl Body for SubAck {
    fn first_byte(&self) -> u8 {
        0x90
    }

    fn write(&self, version: ProtocolVersion, keep: Keep, sink: &mut impl Sink) {
        sink.u16(self.id.get());
        if version.is_v5() {
            property_block(self, keep, sink);
        }
        if self.reasons.is_empty() {
            sink.refuse(EncodeError::Empty);
        }
        for reason in &self.reasons {
            sink.byte(if version.is_v5() {
                reason.code()
            } else {
                reason.v3_code()
            });
        }
    }
}

impl PropertyBlock for SubAck {
    fn write_properties(&self, keep: Keep, sink: &mut impl Sink) {
        explanation(
            self.reason_string.as_ref(),
            &self.user_properties,
            keep,
            sink,
        );
    }
}
