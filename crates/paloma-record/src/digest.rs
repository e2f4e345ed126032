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
        let large = transmit.large().iter().map(|(offset, _)| *offset);
        mix_packets(hash, transmit.bytes(), large, is_v5);
    }
}

/// Mixes in packets whose payloads belong at the offsets of `large` where they are not among the bytes.
#[inline]
fn mix_packets(hash: &mut u64, bytes: &[u8], mut large: impl Iterator<Item = usize>, is_v5: bool) {
    let mut next_large = large.next().unwrap_or(usize::MAX);
    let (mut start, mut rest) = (0, bytes);
    while !rest.is_empty() {
        let len = if let Some((len, head)) = usual_publish(rest, is_v5) {
            mix_ends(hash, head);
            len
        } else if let Some(ack) = usual_ack(rest) {
            mix(hash, ack);
            4
        } else if let Some((len, shown)) = any_packet(rest, is_v5) {
            let shown = shown.min(next_large - start);
            mix_bytes(hash, rest.get(..shown).unwrap_or(rest));
            len
        } else {
            // Not what any connection writes; then all of it counts.
            return mix_bytes(hash, rest);
        };
        mix(hash, len as u64);
        // The payload of a large packet is elsewhere: its head ends where that belongs.
        let mut end = start + len;
        if next_large <= end {
            end = next_large;
            next_large = large.next().unwrap_or(usize::MAX);
        }
        rest = rest.get(end - start..).unwrap_or_default();
        start = end;
    }
}

/// The length of a PUBLISH that is short and written in the usual way, and what is before its payload.
#[inline]
fn usual_publish(bytes: &[u8], is_v5: bool) -> Option<(usize, &[u8])> {
    let [first, len, high, low] = *bytes.first_chunk()?;
    if first >> 4 != PacketType::Publish as u8 || len >= 0x80 {
        return None;
    }
    let mut at = 4 + usize::from(u16::from_be_bytes([high, low]));
    if first & 0x06 != 0 {
        at += 2;
    }
    if is_v5 {
        let properties = bytes.get(at).filter(|len| **len < 0x80)?;
        at += 1 + usize::from(*properties);
    }
    Some((2 + usize::from(len), bytes.get(..at)?))
}

/// An acknowledgement of four bytes, as a word.
#[inline]
fn usual_ack(bytes: &[u8]) -> Option<u64> {
    let ack = *bytes.first_chunk()?;
    let [first, len, _, _] = ack;
    let acks = PacketType::PubAck as u8..=PacketType::PubComp as u8;
    (acks.contains(&(first >> 4)) && len == 2).then(|| u32::from_le_bytes(ack).into())
}

/// The length of a packet and how much of it counts.
fn any_packet(bytes: &[u8], is_v5: bool) -> Option<(usize, usize)> {
    let len = frame_len(bytes, PACKET_BYTES_MAX).ok()??;
    let kind = bytes.first()? >> 4;
    let shown = if kind == PacketType::Publish as u8 {
        publish_head(bytes, is_v5).unwrap_or(len)
    } else if kind == PacketType::ConnAck as u8 || kind == PacketType::Auth as u8 {
        1
    } else {
        len
    };
    Some((len, shown))
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

/// Two words by one multiplication, of which the next one has to wait for the result.
#[inline]
fn mix_two(hash: &mut u64, first: u64, second: u64) {
    let (low, high) = (*hash ^ first).carrying_mul(FACTOR ^ second, 0);
    *hash = low ^ high;
}

fn mix_bytes(hash: &mut u64, bytes: &[u8]) {
    let mut rest = bytes;
    while let Some((chunk, others)) = rest.split_first_chunk::<16>() {
        mix_chunk(hash, chunk);
        rest = others;
    }
    if rest.is_empty() {
        return;
    }
    // The end, with a part of what is before it if there is so much.
    match bytes.last_chunk() {
        Some(chunk) => mix_chunk(hash, chunk),
        None => {
            let mut chunk = [0; 16];
            if let Some(part) = chunk.get_mut(..rest.len()) {
                part.copy_from_slice(rest);
            }
            mix_chunk(hash, &chunk);
        }
    }
    mix(hash, rest.len() as u64);
}

/// Mixes in sixteen bytes at each end, which are all of what begins most messages.
#[inline]
fn mix_ends(hash: &mut u64, bytes: &[u8]) {
    match (bytes.first_chunk(), bytes.last_chunk()) {
        (Some(first), Some(last)) => {
            mix_chunk(hash, first);
            mix_chunk(hash, last);
        }
        (None, _) | (_, None) => mix_bytes(hash, bytes),
    }
}

#[inline(always)]
fn mix_chunk(hash: &mut u64, chunk: &[u8; 16]) {
    if let [first, second] = chunk.as_chunks().0 {
        mix_two(
            hash,
            u64::from_le_bytes(*first),
            u64::from_le_bytes(*second),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash_of(bytes: &[u8]) -> u64 {
        let mut hash = SEED;
        mix_bytes(&mut hash, bytes);
        hash
    }

    #[test]
    fn every_bit_and_the_length_count() {
        for len in 0..70 {
            let bytes: Vec<u8> = (1..).take(len).collect();
            let hash = hash_of(&bytes);
            assert_ne!(hash, hash_of(&[bytes.as_slice(), &[0]].concat()), "{len}");
            for bit in 0..8 * len {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_ne!(hash, hash_of(&flipped), "bit {bit} of {len} bytes");
            }
        }
    }

    /// The hash of these packets, written in one call.
    fn check(packets: &[&[u8]]) -> u64 {
        let mut hash = SEED;
        mix_packets(&mut hash, &packets.concat(), [].into_iter(), true);
        hash
    }

    /// A PUBLISH of QoS 0.
    fn publish(topic: u8, payload: &[u8]) -> Vec<u8> {
        let len = u8::try_from(4 + payload.len()).unwrap();
        [&[0x30, len, 0, 1, topic, 0], payload].concat()
    }

    #[test]
    fn payloads_do_not_count_and_everything_else_does() {
        let (a, b) = (publish(b'a', b"12"), publish(b'b', b"12"));
        let hash = check(&[&a, &a, &b]);
        assert_eq!(hash, check(&[&a, &publish(b'a', b"34"), &b]));
        assert_ne!(hash, check(&[&a, &a, &publish(b'b', b"1")]));
        assert_ne!(hash, check(&[&a, &b]));
        assert_ne!(hash, check(&[&a, &b, &b]));
        assert_ne!(hash, check(&[&a, &b, &a]));
        assert_ne!(hash, check(&[&a, &a, &b, &b]));
        let ping = [0xd0, 0];
        assert_ne!(hash, check(&[&a, &a, &b, &ping]));
        assert_ne!(check(&[&a, &ping, &a]), check(&[&a, &a, &ping]));
    }
}
