//! PUBACK, PUBREC, PUBREL and PUBCOMP: four packets of one shape.

use alloc::vec::Vec;

use bytestring::ByteString;

use crate::decoder::Context;
use crate::encode::{Body, Keep, PropertyBlock, explanation, has_explanation, property_block};
use crate::properties::{UserPropertyBudget, block, id, not_allowed, owned_text, set};
use crate::read::{self, Parsed, broken};
use crate::write::Sink;
use crate::{
    DecodeError, PacketId, ProtocolVersion, PubAckReason, PubCompReason, PubRecReason,
    PubRelReason, UserProperties,
};

/// One step of acknowledging a PUBLISH; `R` is the packet's reason code.
///
/// 3.1.1 knows the identifier only: its packets decode with the default reason and are written without one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack<R> {
    /// The exchange this belongs to. [MQTT-2.2.1-5]
    pub id: PacketId,
    /// What became of it.
    pub reason: R,
    /// For people to read. [MQTT-3.4.2-2]
    pub reason_string: Option<ByteString>,
    /// User properties. [MQTT-3.4.2-3]
    pub user_properties: UserProperties,
}

/// Ends a QoS 1 exchange.
pub type PubAck = Ack<PubAckReason>;
/// The receiver of a QoS 2 PUBLISH has it.
pub type PubRec = Ack<PubRecReason>;
/// The sender of a QoS 2 PUBLISH forgets it.
pub type PubRel = Ack<PubRelReason>;
/// Ends a QoS 2 exchange.
pub type PubComp = Ack<PubCompReason>;

impl<R> Ack<R> {
    /// An acknowledgement without further words.
    pub const fn new(id: PacketId, reason: R) -> Self {
        Self {
            id,
            reason,
            reason_string: None,
            user_properties: UserProperties::new(),
        }
    }
}

/// An acknowledgement's type and reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AckKind {
    /// A PUBACK.
    PubAck(PubAckReason),
    /// A PUBREC.
    PubRec(PubRecReason),
    /// A PUBREL.
    PubRel(PubRelReason),
    /// A PUBCOMP.
    PubComp(PubCompReason),
}

impl AckKind {
    const fn first_byte_and_code(self) -> (u8, u8) {
        match self {
            Self::PubAck(reason) => (0x40, reason.code()),
            Self::PubRec(reason) => (0x50, reason.code()),
            Self::PubRel(reason) => (0x62, reason.code()),
            Self::PubComp(reason) => (0x70, reason.code()),
        }
    }
}

/// Length of an acknowledgement without properties, as [`encode_ack`] writes it: success goes without saying.
#[inline]
#[must_use]
pub const fn ack_len(kind: AckKind, version: ProtocolVersion) -> u32 {
    let (_, code) = kind.first_byte_and_code();
    if code == 0 || !version.is_v5() { 4 } else { 5 }
}

/// Appends an acknowledgement without properties: 4 bytes, or 5 where a 5.0 packet has more to say than success.
#[inline]
pub fn encode_ack(kind: AckKind, id: PacketId, version: ProtocolVersion, out: &mut Vec<u8>) {
    let (first, code) = kind.first_byte_and_code();
    let [high, low] = id.get().to_be_bytes();
    if code == 0 || !version.is_v5() {
        out.extend_from_slice(&[first, 2, high, low]);
    } else {
        out.extend_from_slice(&[first, 3, high, low, code]);
    }
}

/// The reason code of one of the four packets.
pub(crate) trait AckReason: Copy + Default {
    /// What an acknowledgement with this reason is.
    fn kind(self) -> AckKind;

    /// The reason of a byte on the wire.
    fn of_code(code: u8) -> Option<Self>;
}

impl AckReason for PubAckReason {
    fn kind(self) -> AckKind {
        AckKind::PubAck(self)
    }

    fn of_code(code: u8) -> Option<Self> {
        Self::from_code(code)
    }
}

impl AckReason for PubRecReason {
    fn kind(self) -> AckKind {
        AckKind::PubRec(self)
    }

    fn of_code(code: u8) -> Option<Self> {
        Self::from_code(code)
    }
}

impl AckReason for PubRelReason {
    fn kind(self) -> AckKind {
        AckKind::PubRel(self)
    }

    fn of_code(code: u8) -> Option<Self> {
        Self::from_code(code)
    }
}

impl AckReason for PubCompReason {
    fn kind(self) -> AckKind {
        AckKind::PubComp(self)
    }

    fn of_code(code: u8) -> Option<Self> {
        Self::from_code(code)
    }
}

/// Reads an acknowledgement. Reason and properties may be missing from the end on.
#[inline]
pub(crate) fn ack<'a, R: AckReason>(input: &'a [u8], context: &Context<'_>) -> Parsed<'a, Ack<R>> {
    let (rest, id) = read::packet_id(input)?;
    let ack = Ack::new(id, R::default());
    if rest.is_empty() || !context.version.is_v5() {
        return Ok((rest, ack));
    }
    ack_with_reason(rest, context, ack)
}

fn ack_with_reason<'a, R: AckReason>(
    input: &'a [u8],
    context: &Context<'_>,
    mut ack: Ack<R>,
) -> Parsed<'a, Ack<R>> {
    let (mut rest, code) = read::byte(input)?;
    ack.reason = R::of_code(code).ok_or(broken(DecodeError::ReasonCodeInvalid))?;
    if !rest.is_empty() {
        (rest, ()) = explanations(
            rest,
            context,
            &mut ack.reason_string,
            &mut ack.user_properties,
        )?;
    }
    Ok((rest, ack))
}

/// Reads a property block of Reason String and User Properties, which many packets have.
pub(crate) fn explanations<'a>(
    input: &'a [u8],
    context: &Context<'_>,
    reason_string: &mut Option<ByteString>,
    user_properties: &mut UserProperties,
) -> Parsed<'a, ()> {
    let mut budget = UserPropertyBudget::new(context.limits);
    let (rest, _) = block(input, &[id::USER_PROPERTY], |id, value| match id {
        id::REASON_STRING => set(reason_string, owned_text(value)?),
        id::USER_PROPERTY => budget.read_into(value, user_properties),
        _ => not_allowed(id),
    })?;
    Ok((rest, ()))
}

impl<R: AckReason> Body for Ack<R> {
    fn first_byte(&self) -> u8 {
        self.reason.kind().first_byte_and_code().0
    }

    fn write(&self, version: ProtocolVersion, keep: Keep, sink: &mut impl Sink) {
        sink.u16(self.id.get());
        if !version.is_v5() {
            return;
        }
        let (_, code) = self.reason.kind().first_byte_and_code();
        if has_explanation(self.reason_string.as_ref(), &self.user_properties, keep) {
            sink.byte(code);
            property_block(self, keep, sink);
        } else if code != 0 {
            sink.byte(code);
        }
    }
}

impl<R> PropertyBlock for Ack<R> {
    fn write_properties(&self, keep: Keep, sink: &mut impl Sink) {
        explanation(
            self.reason_string.as_ref(),
            &self.user_properties,
            keep,
            sink,
        );
    }
}
