//! Payloads that say which message they are, and whether they are whole.

use std::fmt;

/// One message: its stream, which is one publisher's topic at one QoS, and its number in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label {
    /// Index into [`Cast::streams`](crate::cast::Cast::streams).
    pub stream: u16,
    /// Counted from 0.
    pub number: u32,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.stream, self.number)
    }
}

/// Bytes of the label at the beginning of a payload.
pub const LABEL_BYTES: usize = 10;

impl Label {
    /// A payload of `len` bytes, at least [`LABEL_BYTES`], each of which depends on the label.
    #[must_use]
    pub fn payload(self, len: usize) -> Vec<u8> {
        let len = len.max(LABEL_BYTES);
        let mut payload = Vec::with_capacity(len);
        payload.extend(self.stream.to_be_bytes());
        payload.extend(self.number.to_be_bytes());
        payload.extend((len as u32).to_be_bytes());
        payload.extend((LABEL_BYTES..len).map(|at| self.filling(at)));
        payload
    }

    /// The label of a payload; `None` if it is not one that [`payload`](Self::payload) made.
    #[must_use]
    pub fn of(payload: &[u8]) -> Option<Self> {
        let (head, rest) = payload.split_at_checked(LABEL_BYTES)?;
        let label = Self {
            stream: u16::from_be_bytes(head[..2].try_into().ok()?),
            number: u32::from_be_bytes(head[2..6].try_into().ok()?),
        };
        let len = u32::from_be_bytes(head[6..].try_into().ok()?);
        let is_whole = len as usize == payload.len()
            && (LABEL_BYTES..)
                .zip(rest)
                .all(|(at, byte)| *byte == label.filling(at));
        is_whole.then_some(label)
    }

    fn filling(self, at: usize) -> u8 {
        let seed = u32::from(self.stream).wrapping_mul(0x9E37_79B9) ^ self.number;
        (seed.wrapping_add(at as u32).wrapping_mul(0x85EB_CA6B) >> 24) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_says_which_message_it_is_unless_a_byte_is_wrong() {
        let label = Label {
            stream: 7,
            number: 70_000,
        };
        for len in [0, LABEL_BYTES, 200, 5_000] {
            let payload = label.payload(len);
            assert_eq!(Label::of(&payload), Some(label));
            for at in 0..payload.len() {
                let mut wrong = payload.clone();
                wrong[at] ^= 1;
                assert_ne!(Label::of(&wrong), Some(label), "byte {at} of {len}");
            }
            assert_eq!(Label::of(&payload[..payload.len() - 1]), None);
        }
    }
}
