//! A hash over what the core gives out, the same at recording and at replay.
//!
//! It leaves out what a record leaves out: payloads, and the data of an authentication. Of those only the length counts.

use paloma_broker::{ConnectionId, Effect, Refusal};
use paloma_codec::{PACKET_BYTES_MAX, PacketType, frame_len};
use paloma_session::{Transmit, TransmitStatus};

const SEED: u64 = 0x50A1_03A0_0000_0001;
const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;

/// Two hashes: what is polled from the queue of effects comes in its own order, whenever that is.
#[derive(Clone, Debug)]
pub(crate) struct Digest {
    effects: u64,
    others: u64,
    /// By the index of a connection: whether its packets have properties.
    is_v5: Vec<bool>,
}

impl Default for Digest {
    fn default() -> Self {
        Self {
            effects: SEED,
            others: SEED,
            is_v5: Vec::new(),
        }
    }
}

impl Digest {
    pub(crate) fn value(&self) -> u64 {
        let mut value = self.effects;
        mix(&mut value, self.others);
        value
    }

    /// The connection speaks this kind of version from here on.
    pub(crate) fn note_version(&mut self, id: ConnectionId, is_v5: bool) {
        let index = id.index();
        if self.is_v5.len() <= index {
            self.is_v5.resize(index + 1, false);
        }
        if let Some(slot) = self.is_v5.get_mut(index) {
            *slot = is_v5;
        }
    }

    pub(crate) fn opened(&mut self, opened: &Result<ConnectionId, Refusal>) {
        let word = match opened {
            Ok(id) => id.to_bits(),
            Err(refusal) => u64::MAX - (*refusal as u64),
        };
        mix(&mut self.others, word);
    }

    pub(crate) fn admitted(&mut self, admitted: Result<(), Refusal>) {
        let word = admitted.map_or_else(|refusal| refusal as u64 + 2, |()| 1);
        mix(&mut self.others, word);
    }

    pub(crate) fn answered(&mut self, answer: bool) {
        mix(&mut self.others, u64::from(answer) + 1);
    }

    pub(crate) fn effect(&mut self, effect: &Effect) {
        let hash = &mut self.effects;
        match effect {
            Effect::Transmit(id) => mix_all(hash, [1, id.to_bits()]),
            Effect::Resume(id) => mix_all(hash, [2, id.to_bits()]),
            Effect::Close(id, cause) => mix_all(hash, [3, id.to_bits(), *cause as u64]),
            Effect::Authenticate(id, request) => {
                mix_all(hash, [4, id.to_bits()]);
                mix_bytes(hash, request.client_id.as_bytes());
            }
            Effect::Persist(batch) => mix_all(
                hash,
                [
                    5,
                    batch.seq.0,
                    batch.ops.len() as u64,
                    batch.bytes,
                    u64::from(batch.is_awaited),
                ],
            ),
            Effect::Load(request) => mix_all(
                hash,
                [
                    6,
                    request.session.0,
                    request.after.0,
                    u64::from(request.count),
                    u64::from(request.bytes),
                ],
            ),
        }
    }

    /// What one call of `poll_transmit` wrote.
    pub(crate) fn transmitted(
        &mut self,
        id: ConnectionId,
        transmit: &Transmit,
        status: TransmitStatus,
    ) {
        let hash = &mut self.others;
        mix_all(hash, [id.to_bits(), status as u64, transmit.len() as u64]);
        let is_v5 = self.is_v5.get(id.index()).copied().unwrap_or_default();
        let bytes = transmit.bytes();
        let mut large = transmit
            .large()
            .iter()
            .map(|(offset, _)| *offset)
            .peekable();
        let mut start = 0;
        while let Some(rest) = bytes.get(start..).filter(|rest| !rest.is_empty()) {
            let Ok(Some(len)) = frame_len(rest, PACKET_BYTES_MAX) else {
                // Not what any connection writes; then all of it counts.
                return mix_bytes(hash, rest);
            };
            // The payload of a large packet is elsewhere: its head ends where that belongs.
            let end = large
                .next_if(|offset| *offset <= start + len)
                .unwrap_or(start + len);
            let frame = bytes.get(start..end).unwrap_or(rest);
            mix_frame(hash, frame, len, is_v5);
            start += frame.len();
        }
    }
}

fn mix_frame(hash: &mut u64, frame: &[u8], len: usize, is_v5: bool) {
    let first = frame.first().copied().unwrap_or_default();
    let kind = first >> 4;
    let shown = if kind == PacketType::Publish as u8 {
        publish_head(frame, is_v5).unwrap_or(frame.len())
    } else if kind == PacketType::ConnAck as u8 || kind == PacketType::Auth as u8 {
        1
    } else {
        frame.len()
    };
    mix(hash, len as u64);
    mix_bytes(hash, frame.get(..shown).unwrap_or(frame));
}

/// Where the payload of a PUBLISH begins.
fn publish_head(frame: &[u8], is_v5: bool) -> Option<usize> {
    let first = *frame.first()?;
    let mut at = 1 + variable_int(frame.get(1..)?)?.1;
    let (high, low) = (*frame.get(at)?, *frame.get(at + 1)?);
    at += 2 + usize::from(u16::from_be_bytes([high, low]));
    if first & 0x06 != 0 {
        at += 2;
    }
    if is_v5 {
        let (len, used) = variable_int(frame.get(at..)?)?;
        at += used + len;
    }
    Some(at)
}

/// A variable byte integer and its own length.
fn variable_int(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (place, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some((value, place + 1));
        }
    }
    None
}

#[inline]
const fn mix(hash: &mut u64, word: u64) {
    *hash = (hash.rotate_left(5) ^ word).wrapping_mul(FACTOR);
}

fn mix_all<const N: usize>(hash: &mut u64, words: [u64; N]) {
    for word in words {
        mix(hash, word);
    }
}

fn mix_bytes(hash: &mut u64, bytes: &[u8]) {
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        mix(hash, u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    for (slot, byte) in last.iter_mut().zip(rest) {
        *slot = *byte;
    }
    mix(hash, u64::from_le_bytes(last));
    mix(hash, bytes.len() as u64);
}
