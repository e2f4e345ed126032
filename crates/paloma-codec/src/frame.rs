//! The framing step: how long is the packet that begins here?

use crate::DecodeError;
use crate::read::parse_variable_int;

/// Largest packet that the protocol can say, fixed header included.
pub const PACKET_BYTES_MAX: u32 = 5 + 268_435_455;

/// Length of the packet at the start of `input`, fixed header included; `None` until enough of it is there.
///
/// Looks at no more than five bytes, so it may be called again with every byte that arrives. A length above
/// `packet_bytes_max` fails before anything of that size exists.
///
/// # Errors
/// The Remaining Length is malformed, or the packet is larger than `packet_bytes_max`.
#[inline]
pub fn frame_len(input: &[u8], packet_bytes_max: u32) -> Result<Option<usize>, DecodeError> {
    Ok(split(input, packet_bytes_max)?.map(|frame| frame.packet_len))
}

/// A fixed header.
#[derive(Clone, Copy)]
pub(crate) struct FixedHeader<'a> {
    /// Packet type and flags.
    pub(crate) first: u8,
    /// Whole length of the packet, header included.
    pub(crate) packet_len: usize,
    /// What the header announces.
    pub(crate) body_len: usize,
    /// Everything behind the header, which may be less or more than the body.
    pub(crate) rest: &'a [u8],
}

/// Reads the fixed header; `None` while it is incomplete.
#[inline]
pub(crate) fn split(
    input: &[u8],
    packet_bytes_max: u32,
) -> Result<Option<FixedHeader<'_>>, DecodeError> {
    let [first, after @ ..] = input else {
        return Ok(None);
    };
    let Some((body_len, rest)) = parse_variable_int(after)? else {
        return Ok(None);
    };
    let body_len = body_len as usize;
    let packet_len = input.len() - rest.len() + body_len;
    if packet_len > packet_bytes_max as usize {
        return Err(DecodeError::PacketTooLarge);
    }
    Ok(Some(FixedHeader {
        first: *first,
        packet_len,
        body_len,
        rest,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_as_long_as_it_says() {
        assert_eq!(frame_len(&[0xC0, 0x00], 2), Ok(Some(2)));
        assert_eq!(frame_len(&[0x30, 0x80, 0x01], 1000), Ok(Some(131)));
        assert_eq!(frame_len(&[0x30], 1000), Ok(None));
        assert_eq!(frame_len(&[0x30, 0x80], 1000), Ok(None));
        assert_eq!(frame_len(&[], 1000), Ok(None));
    }

    #[test]
    fn a_frame_above_the_limit_fails_at_its_header() {
        assert_eq!(frame_len(&[0x30, 0x62], 100), Ok(Some(100)));
        assert_eq!(
            frame_len(&[0x30, 0x63], 100),
            Err(DecodeError::PacketTooLarge)
        );
        let largest = [0x30, 0xFF, 0xFF, 0xFF, 0x7F];
        assert_eq!(frame_len(&largest, PACKET_BYTES_MAX), Ok(Some(268_435_460)));
        assert_eq!(
            frame_len(&largest, PACKET_BYTES_MAX - 1),
            Err(DecodeError::PacketTooLarge)
        );
    }
}
