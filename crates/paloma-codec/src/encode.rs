//! Encoding: from a packet to the fewest bytes that say it.

use alloc::vec::Vec;

use bytestring::ByteString;

use crate::properties::id;
use crate::publish::Plain;
use crate::write::{Count, Sink, VARIABLE_INT_MAX, Writer, variable_int_len};
use crate::{EncodeError, ProtocolVersion, UserProperties};

/// Turns a packet into bytes, in the shortest form that the standard allows.
///
/// Implemented by [`Packet`](crate::Packet) and by each packet's own struct. What a version cannot express is left
/// out where the packet keeps its meaning (properties and reason codes in 3.1.1), and is
/// [`EncodeError::NotInVersion`] where it would not.
#[expect(private_bounds, reason = "sealed: packets of this crate only")]
pub trait Encode: Body {
    /// Length on the wire, fixed header included.
    ///
    /// # Errors
    /// The packet cannot be written in this version.
    fn encoded_len(&self, version: ProtocolVersion) -> Result<usize, EncodeError> {
        let body_len = body_len(self, version, Keep::All)?;
        Ok(1 + variable_int_len(body_len) + body_len)
    }

    /// Appends the packet to `out`.
    ///
    /// # Errors
    /// The packet cannot be written in this version; `out` is as it was.
    fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.append(version, Keep::All, u32::MAX, out)
    }

    /// Appends the packet to `out` in at most `packet_bytes_max` bytes, the receiver's Maximum Packet Size.
    /// [MQTT-3.5.2-2] [MQTT-3.5.2-3] [MQTT-3.6.2-2] [MQTT-3.6.2-3] [MQTT-3.7.2-2] [MQTT-3.7.2-3]
    ///
    /// If need be the user properties are left out, then the reason string too, in the packets where the standard
    /// asks for that: CONNACK, the four acknowledgements, SUBACK, UNSUBACK, DISCONNECT and AUTH. With its reason string
    /// a CONNACK loses its response information, which no server has to give.
    /// [MQTT-3.2.2-19] [MQTT-3.2.2-20] [MQTT-3.4.2-2] [MQTT-3.4.2-3] [MQTT-3.14.2-3] [MQTT-3.14.2-4]
    ///
    /// # Errors
    /// [`EncodeError::MaximumPacketSize`] if it is too large all the same [MQTT-3.1.2-24], or the packet cannot be
    /// written in this version; `out` is as it was.
    fn encode_within(
        &self,
        version: ProtocolVersion,
        packet_bytes_max: u32,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        for keep in [Keep::All, Keep::ReasonString, Keep::Needed] {
            match self.append(version, keep, packet_bytes_max, out) {
                Err(EncodeError::MaximumPacketSize) => {}
                other => return other,
            }
        }
        Err(EncodeError::MaximumPacketSize)
    }
}

impl<T: Body + ?Sized> Encode for T {}

/// Which of a packet's explanations are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    All,
    ReasonString,
    Needed,
}

/// A packet as its encoder sees it.
pub(crate) trait Body {
    /// Packet type and flags.
    fn first_byte(&self) -> u8;

    /// A number of bytes that what stands behind the fixed header has at the least. Cheap, and best if it is near.
    fn len_min(&self) -> usize {
        0
    }

    /// Describes everything behind the fixed header. Must give the same bytes each time.
    fn write(&self, version: ProtocolVersion, keep: Keep, sink: &mut impl Sink);

    /// The packet as a PUBLISH without properties, if it is one: its length is known before it is written.
    #[inline]
    fn plain(&self, _: ProtocolVersion) -> Option<Plain<'_>> {
        None
    }

    /// Writes the packet, or leaves `out` as it was.
    #[inline]
    fn append(
        &self,
        version: ProtocolVersion,
        keep: Keep,
        packet_bytes_max: u32,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        match self.plain(version) {
            Some(plain) => plain.append(version, packet_bytes_max, out),
            None => append(self, version, keep, packet_bytes_max, out),
        }
    }
}

/// The properties of a packet, or of its will.
pub(crate) trait PropertyBlock {
    /// Describes the properties that are not at their default.
    fn write_properties(&self, keep: Keep, sink: &mut impl Sink);
}

/// Writes a property block behind its length; a single 0 if there are none. [MQTT-2.2.2-1]
#[inline]
pub(crate) fn property_block(block: &impl PropertyBlock, keep: Keep, sink: &mut impl Sink) {
    sink.block(|sink| block.write_properties(keep, sink));
}

/// Length of a property block without its own length.
pub(crate) fn property_block_len(
    block: &impl PropertyBlock,
    keep: Keep,
    sink: &mut impl Sink,
) -> usize {
    let mut count = Count::default();
    block.write_properties(keep, &mut count);
    count.finish().unwrap_or_else(|error| {
        sink.refuse(error);
        0
    })
}

/// Writes a string property.
#[inline]
pub(crate) fn text_property(id: u8, text: &str, sink: &mut impl Sink) {
    sink.byte(id);
    sink.text(text);
}

/// Writes a string property, if there is one.
pub(crate) fn optional_text(id: u8, text: Option<&ByteString>, sink: &mut impl Sink) {
    if let Some(text) = text {
        text_property(id, text, sink);
    }
}

/// Writes a flag property if it is not at its default.
pub(crate) fn flag_property(id: u8, value: bool, default: bool, sink: &mut impl Sink) {
    if value != default {
        sink.raw(&[id, u8::from(value)]);
    }
}

/// Writes a 16-bit property if it is not at its default.
pub(crate) fn u16_property(id: u8, value: u16, default: u16, sink: &mut impl Sink) {
    if value != default {
        sink.byte(id);
        sink.u16(value);
    }
}

/// Writes a 32-bit property, if there is one.
pub(crate) fn u32_property(id: u8, value: Option<u32>, sink: &mut impl Sink) {
    if let Some(value) = value {
        sink.byte(id);
        sink.u32(value);
    }
}

/// Writes what only explains, as far as it is kept.
pub(crate) fn explanation(
    reason_string: Option<&ByteString>,
    user_properties: &UserProperties,
    keep: Keep,
    sink: &mut impl Sink,
) {
    if keep != Keep::Needed {
        optional_text(id::REASON_STRING, reason_string, sink);
    }
    if keep == Keep::All {
        sink.raw(user_properties.encoded());
    }
}

/// Whether [`explanation`] writes anything.
#[inline]
pub(crate) const fn has_explanation(
    reason_string: Option<&ByteString>,
    user_properties: &UserProperties,
    keep: Keep,
) -> bool {
    match keep {
        Keep::All => reason_string.is_some() || !user_properties.is_empty(),
        Keep::ReasonString => reason_string.is_some(),
        Keep::Needed => false,
    }
}

fn body_len<B: Body + ?Sized>(
    body: &B,
    version: ProtocolVersion,
    keep: Keep,
) -> Result<usize, EncodeError> {
    let mut count = Count::default();
    body.write(version, keep, &mut count);
    let body_len = count.finish()?;
    if body_len > VARIABLE_INT_MAX {
        Err(EncodeError::PacketTooLarge)
    } else {
        Ok(body_len)
    }
}

/// [`Body::append`] of a packet whose length shows once it is written.
#[inline]
fn append<B: Body + ?Sized>(
    body: &B,
    version: ProtocolVersion,
    keep: Keep,
    packet_bytes_max: u32,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let packet_bytes_max = packet_bytes_max as usize;
    let (before, len_min) = (out.len(), body.len_min());
    if len_min > VARIABLE_INT_MAX {
        return Err(EncodeError::PacketTooLarge);
    }
    if len_min >= packet_bytes_max {
        return Err(EncodeError::MaximumPacketSize);
    }
    // Room for what most packets have besides.
    out.reserve(len_min + 32);
    out.push(body.first_byte());
    let mut writer = Writer::new(out);
    let len_bytes = variable_int_len(len_min);
    let start = writer.begin_length(len_bytes);
    body.write(version, keep, &mut writer);
    writer.end_length(start, len_bytes);
    let refused = match writer.finish() {
        Ok(()) if writer.position() - before <= packet_bytes_max => return Ok(()),
        Ok(()) => EncodeError::MaximumPacketSize,
        Err(error) => error,
    };
    out.truncate(before);
    Err(refused)
}
