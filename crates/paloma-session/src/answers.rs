//! The one queue of answers of a connection: first in, first out, each with the commit it waits for.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use paloma_codec::{AckKind, Encode, EncodeError, PacketId, ProtocolVersion};
use paloma_topic::Fault;

use crate::gate::{Gate, LogSeq};

/// Entries that a drained queue may keep while its connection is busy, 2 KiB of them: enough for windows of a hundred messages,
/// which would make room again each time they have been through.
const BUSY_ENTRIES_MAX: usize = 128;

/// Answers that wait to be written. None overtakes an earlier one [MQTT-4.6.0-2], whatever their gates.
///
/// Connections that are silent have none and so own nothing but a word; others keep the room that they have made until
/// [`Answers::compact`].
#[derive(Debug, Default)]
pub(crate) struct Answers {
    waiting: Option<Box<Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    fifo: VecDeque<Answer>,
    /// Encoded packets of the entries that have one, in order.
    packets: Vec<u8>,
    /// Where the first of them begins.
    packets_from: usize,
    /// Length of a last packet behind all of them.
    farewell_len: u32,
}

#[derive(Clone, Copy, Debug)]
struct Answer {
    gate: LogSeq,
    body: Body,
}

/// What an answer consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// One of the four acknowledgements, written when its turn comes.
    Ack(Ack),
    /// A packet of this many bytes that is encoded already.
    Packet(u32),
    /// The same, and the connection is open from there on.
    ConnAck(u32),
}

/// One of the four acknowledgements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) kind: AckKind,
    pub(crate) id: PacketId,
    /// Whether it makes room in the peer's send quota. [MQTT-4.9.0-2]
    pub(crate) frees: bool,
}

impl Answers {
    pub(crate) fn len(&self) -> usize {
        self.waiting
            .as_ref()
            .map_or(0, |waiting| waiting.fifo.len())
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.waiting.as_ref().map_or(0, |waiting| {
            let entries = waiting.fifo.capacity().saturating_mul(size_of::<Answer>());
            let packets = waiting.packets.capacity();
            size_of::<Waiting>()
                .saturating_add(entries)
                .saturating_add(packets)
        })
    }

    pub(crate) fn push_ack(&mut self, ack: Ack, gate: Gate) {
        let fifo = &mut self.waiting_mut().fifo;
        fifo.push_back(Answer {
            gate: gate.seq(),
            body: Body::Ack(ack),
        });
        let last = fifo.len().saturating_sub(1);
        if Fault::AnswersSwapped.is_on()
            && let Some(Body::Ack(_)) = fifo.get(last.wrapping_sub(1)).map(|ack| ack.body)
        {
            fifo.swap(last, last.saturating_sub(1));
        }
    }

    /// Encodes a packet of at most `packet_bytes_max` bytes as the last answer.
    pub(crate) fn push_packet(
        &mut self,
        packet: &impl Encode,
        form: (ProtocolVersion, u32),
        gate: Gate,
        body: impl FnOnce(u32) -> Body,
    ) -> Result<(), EncodeError> {
        let waiting = self.waiting_mut();
        let len = waiting.encode(packet, form)?;
        waiting.fifo.push_back(Answer {
            gate: gate.seq(),
            body: body(len),
        });
        Ok(())
    }

    /// The first answer, if it may leave.
    pub(crate) fn ready(&self, committed: LogSeq) -> Option<Body> {
        let first = self.waiting.as_ref()?.fifo.front();
        first
            .filter(|answer| answer.gate <= committed || Fault::AnswersDoNotWait.is_on())
            .map(|answer| answer.body)
    }

    /// Removes the first answer; a packet's bytes go to `out`.
    pub(crate) fn pop(&mut self, out: &mut Vec<u8>) {
        let Some(waiting) = &mut self.waiting else {
            return;
        };
        let Some(answer) = waiting.fifo.pop_front() else {
            return;
        };
        if let Body::Packet(len) | Body::ConnAck(len) = answer.body {
            waiting.write_packet(len, out);
        }
        if waiting.fifo.is_empty() && waiting.fifo.capacity() > BUSY_ENTRIES_MAX {
            waiting.fifo.shrink_to(BUSY_ENTRIES_MAX);
        }
    }

    /// Encodes the last packet of the connection. It has no place in the queue: it leaves when the queue is left behind.
    pub(crate) fn set_farewell(
        &mut self,
        packet: &impl Encode,
        form: (ProtocolVersion, u32),
    ) -> Result<(), EncodeError> {
        let waiting = self.waiting_mut();
        waiting.farewell_len = waiting.encode(packet, form)?;
        Ok(())
    }

    /// Drops what waits, and moves the last packet to `out`, if there is one.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        if let Some(waiting) = self.waiting.take() {
            let len = waiting.farewell_len as usize;
            let from = waiting.packets.len().saturating_sub(len);
            out.extend_from_slice(waiting.packets.get(from..).unwrap_or(&[]));
        }
    }

    /// Drops all answers.
    pub(crate) fn clear(&mut self) {
        self.waiting = None;
    }

    /// Gives back memory that an idle connection does not need.
    pub(crate) fn compact(&mut self) {
        let Some(waiting) = &mut self.waiting else {
            return;
        };
        if waiting.fifo.is_empty() && waiting.farewell_len == 0 {
            self.waiting = None;
        } else {
            waiting.fifo.shrink_to_fit();
            waiting.packets.shrink_to_fit();
        }
    }

    fn waiting_mut(&mut self) -> &mut Waiting {
        self.waiting.get_or_insert_default()
    }
}

impl Waiting {
    fn encode(
        &mut self,
        packet: &impl Encode,
        (version, packet_bytes_max): (ProtocolVersion, u32),
    ) -> Result<u32, EncodeError> {
        let from = self.packets.len();
        packet.encode_within(version, packet_bytes_max, &mut self.packets)?;
        let len = self.packets.len().saturating_sub(from);
        u32::try_from(len).map_err(|_| EncodeError::PacketTooLarge)
    }

    /// Moves the first packet to `out`.
    fn write_packet(&mut self, len: u32, out: &mut Vec<u8>) {
        let to = self.packets_from.saturating_add(len as usize);
        out.extend_from_slice(self.packets.get(self.packets_from..to).unwrap_or(&[]));
        self.packets_from = to;
        self.tidy();
    }

    /// Moves packets to the front once most of the bytes are written.
    fn tidy(&mut self) {
        if self.packets_from >= self.packets.len() {
            self.packets.clear();
            self.packets_from = 0;
        } else if self.packets_from > self.packets.len() / 2 {
            self.packets.drain(..self.packets_from);
            self.packets_from = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::boxed::Box;

    use paloma_codec::Packet;

    use super::*;

    #[test]
    fn an_idle_queue_gives_back_what_it_grew_to() {
        let mut answers = Answers::default();
        let packet = Packet::ConnAck(Box::default());
        for _ in 0..1_000 {
            answers
                .push_packet(
                    &packet,
                    (ProtocolVersion::V5, 100),
                    Gate::Open,
                    Body::Packet,
                )
                .unwrap();
        }
        let full = answers.heap_bytes();
        let mut out = Vec::new();
        for _ in 0..1_000 {
            answers.pop(&mut out);
        }
        assert!(answers.heap_bytes() < full / 2, "while it is busy");
        answers.compact();
        assert_eq!((answers.len(), answers.heap_bytes()), (0, 0), "of {full}");
        assert_eq!(out.len(), 1_000 * 5, "a CONNACK each");
    }

    #[test]
    fn a_queue_that_is_never_empty_does_not_grow() {
        let mut answers = Answers::default();
        let packets = [Packet::ConnAck(Box::default()), Packet::PingResp];
        let mut out = Vec::new();
        for (step, packet) in packets.iter().cycle().take(10_000).enumerate() {
            answers
                .push_packet(packet, (ProtocolVersion::V5, 100), Gate::Open, Body::Packet)
                .unwrap();
            if step >= 3 {
                answers.pop(&mut out);
            }
        }
        assert!(answers.heap_bytes() < 1_000, "{}", answers.heap_bytes());
    }
}
