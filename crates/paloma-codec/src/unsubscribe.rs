//! UNSUBSCRIBE and UNSUBACK.

use alloc::vec::Vec;

use bytestring::ByteString;
use paloma_topic::Target;

use crate::ack::explanations;
use crate::decoder::Context;
use crate::encode::{Body, Keep, PropertyBlock, explanation, property_block};
use crate::properties::{UserPropertyBudget, block, id, not_allowed};
use crate::read::{self, Parsed, broken};
use crate::subscribe::{target, write_target};
use crate::write::Sink;
use crate::{DecodeError, EncodeError, PacketId, ProtocolVersion, UnsubAckReason, UserProperties};

/// A client no longer wants what it subscribed to. [MQTT-3.10.4-1]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe {
    /// Repeated by the UNSUBACK. [MQTT-3.10.4-5]
    pub id: PacketId,
    /// The filters as they were subscribed to; never empty on the wire. [MQTT-3.10.3-2]
    pub filters: Vec<Target>,
    /// User properties.
    pub user_properties: UserProperties,
}

impl Unsubscribe {
    /// An UNSUBSCRIBE without properties.
    #[must_use]
    pub const fn new(id: PacketId, filters: Vec<Target>) -> Self {
        Self {
            id,
            filters,
            user_properties: UserProperties::new(),
        }
    }
}

/// The server's answer to UNSUBSCRIBE. [MQTT-3.10.4-4]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsubAck {
    /// That of the UNSUBSCRIBE. [MQTT-3.10.4-5]
    pub id: PacketId,
    /// One for each filter, in the same order; none in 3.1.1. [MQTT-3.11.3-1]
    pub reasons: Vec<UnsubAckReason>,
    /// For people to read. [MQTT-3.11.2-1]
    pub reason_string: Option<ByteString>,
    /// User properties. [MQTT-3.11.2-2]
    pub user_properties: UserProperties,
}

impl UnsubAck {
    /// An answer without further words.
    #[must_use]
    pub const fn new(id: PacketId, reasons: Vec<UnsubAckReason>) -> Self {
        Self {
            id,
            reasons,
            reason_string: None,
            user_properties: UserProperties::new(),
        }
    }
}

pub(crate) fn unsubscribe<'a>(input: &'a [u8], context: &Context<'_>) -> Parsed<'a, Unsubscribe> {
    let (mut rest, id) = read::packet_id(input)?;
    let mut unsubscribe = Unsubscribe::new(id, Vec::new());
    if context.version.is_v5() {
        let mut budget = UserPropertyBudget::new(context.limits);
        (rest, _) = block(rest, &[id::USER_PROPERTY], |id, value| match id {
            id::USER_PROPERTY => budget.read_into(value, &mut unsubscribe.user_properties),
            _ => not_allowed(id),
        })?;
    }
    if rest.is_empty() {
        return Err(broken(DecodeError::FiltersEmpty));
    }
    while !rest.is_empty() {
        if unsubscribe.filters.len() >= context.limits.filters_per_unsubscribe_max as usize {
            return Err(broken(DecodeError::FiltersTooMany));
        }
        let (after, target) = target(rest, context.limits)?;
        unsubscribe.filters.push(target);
        rest = after;
    }
    Ok((rest, unsubscribe))
}

pub(crate) fn unsub_ack<'a>(input: &'a [u8], context: &Context<'_>) -> Parsed<'a, UnsubAck> {
    let (rest, id) = read::packet_id(input)?;
    let mut ack = UnsubAck::new(id, Vec::new());
    if !context.version.is_v5() {
        return Ok((rest, ack));
    }
    let (rest, ()) = explanations(
        rest,
        context,
        &mut ack.reason_string,
        &mut ack.user_properties,
    )?;
    if rest.is_empty() {
        return Err(broken(DecodeError::Truncated));
    }
    ack.reasons = rest
        .iter()
        .map(|code| UnsubAckReason::from_code(*code).ok_or(broken(DecodeError::ReasonCodeInvalid)))
        .collect::<Result<_, _>>()?;
    Ok((&[], ack))
}

impl Body for Unsubscribe {
    fn first_byte(&self) -> u8 {
        0xA2
    }

    fn write(&self, version: ProtocolVersion, keep: Keep, sink: &mut impl Sink) {
        sink.u16(self.id.get());
        if version.is_v5() {
            property_block(self, keep, sink);
        }
        if self.filters.is_empty() {
            sink.refuse(EncodeError::Empty);
        }
        for filter in &self.filters {
            write_target(filter, sink);
        }
    }
}

impl PropertyBlock for Unsubscribe {
    fn write_properties(&self, _: Keep, sink: &mut impl Sink) {
        sink.raw(self.user_properties.encoded());
    }
}

impl Body for UnsubAck {
    fn first_byte(&self) -> u8 {
        0xB0
    }

    fn write(&self, version: ProtocolVersion, keep: Keep, sink: &mut impl Sink) {
        sink.u16(self.id.get());
        if !version.is_v5() {
            return;
        }
        property_block(self, keep, sink);
        if self.reasons.is_empty() {
            sink.refuse(EncodeError::Empty);
        }
        for reason in &self.reasons {
            sink.byte(reason.code());
        }
    }
}

impl PropertyBlock for UnsubAck {
    fn write_properties(&self, keep: Keep, sink: &mut impl Sink) {
        explanation(
            self.reason_string.as_ref(),
            &self.user_properties,
            keep,
            sink,
        );
    }
}
