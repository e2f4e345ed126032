//! The one queue of answers of a connection: first in, first out, each with the commit it waits for.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use paloma_codec::{AckKind, Encode, EncodeError, PacketId, ProtocolVersion, ack_len, encode_ack};
use paloma_topic::Fault;

use crate::gate::{Gate, LogSeq};

/// Bytes, and runs, that a drained queue may keep room for while its connection is busy, 2 KiB of them: enough for windows of
/// hundreds of messages, which would make room again each time they have been through.
const BUSY_BYTES_MAX: usize = 1024;
const BUSY_RUNS_MAX: usize = 32;

/// Most acknowledgements in a run, which is written as one: what passes the budget of a write is 320 bytes at most.
const RUN_ACKS_MAX: u16 = 64;

/// Answers that wait to be written. None overtakes an earlier one [MQTT-4.6.0-2], whatever their gates.
///
/// They are encoded as they come, and acknowledgements behind one gate are one entry. Connections that are silent have none and
/// so own nothing but a word; others keep the room that they have made until [`Answers::compact`].
#[derive(Debug, Default)]
pub(crate) struct Answers {
    waiting: Option<Box<Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    runs: VecDeque<Run>,
    /// The bytes of all runs, in order.
    bytes: Vec<u8>,
    /// Where the first of them begin.
    bytes_from: usize,
    /// Answers in all runs.
    count: usize,
    /// Length of a last packet behind all of them.
    farewell_len: u32,
}

/// Answers that leave together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    gate: LogSeq,
    bytes: u32,
    answers: u16,
    /// Those that are written: a peer may take no packet as small as an acknowledgement.
    pub(crate) packets: u16,
    /// How much room they make in the peer's send quota. [MQTT-4.9.0-2]
    pub(crate) frees: u16,
    kind: RunKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RunKind {
    /// Some of the four acknowledgements.
    Acks,
    /// One packet.
    Packet,
    /// One packet, and the connection is open from there on.
    ConnAck,
}

impl Run {
    /// Whether the connection is open once this is written.
    pub(crate) fn is_conn_ack(&self) -> bool {
        self.kind == RunKind::ConnAck
    }
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
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.waiting.as_ref().map_or(0, |waiting| waiting.count)
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.waiting.as_ref().map_or(0, |waiting| {
            let runs = waiting.runs.capacity().saturating_mul(size_of::<Run>());
            size_of::<Waiting>()
                .saturating_add(runs)
                .saturating_add(waiting.bytes.capacity())
        })
    }

    /// Puts an acknowledgement behind all other answers. A peer that takes no packet as small gets none [MQTT-3.1.2-25], which
    /// makes room all the same.
    #[inline]
    pub(crate) fn push_ack(
        &mut self,
        ack: Ack,
        (version, packet_bytes_max): (ProtocolVersion, u32),
        gate: Gate,
    ) {
        let len = ack_len(ack.kind, version);
        let is_taken = packet_bytes_max >= len;
        let waiting = self.waiting_mut();
        let run = waiting.run_behind(gate.seq());
        run.answers += 1;
        run.packets += u16::from(is_taken);
        run.frees += u16::from(ack.frees);
        let bytes_before = run.bytes;
        if is_taken {
            run.bytes += len;
            encode_ack(ack.kind, ack.id, version, &mut waiting.bytes);
        }
        waiting.count += 1;
        if Fault::AnswersSwapped.is_on() {
            let run_len = bytes_before as usize + len as usize;
            let from = waiting.bytes.len().saturating_sub(run_len);
            if let Some(run) = waiting.bytes.get_mut(from..) {
                run.rotate_right(len as usize);
            }
        }
    }

    /// Encodes a packet of at most `packet_bytes_max` bytes as the last answer.
    pub(crate) fn push_packet(
        &mut self,
        packet: &impl Encode,
        form: (ProtocolVersion, u32),
        gate: Gate,
    ) -> Result<(), EncodeError> {
        self.push_as(RunKind::Packet, packet, form, gate)
    }

    /// The same with a CONNACK, behind which the connection is open.
    pub(crate) fn push_conn_ack(
        &mut self,
        packet: &impl Encode,
        form: (ProtocolVersion, u32),
        gate: Gate,
    ) -> Result<(), EncodeError> {
        self.push_as(RunKind::ConnAck, packet, form, gate)
    }

    fn push_as(
        &mut self,
        kind: RunKind,
        packet: &impl Encode,
        form: (ProtocolVersion, u32),
        gate: Gate,
    ) -> Result<(), EncodeError> {
        let waiting = self.waiting_mut();
        let bytes = waiting.encode(packet, form)?;
        waiting.runs.push_back(Run {
            gate: gate.seq(),
            bytes,
            answers: 1,
            packets: 1,
            frees: 0,
            kind,
        });
        waiting.count += 1;
        Ok(())
    }

    /// Moves the first answers to `out`, if they may leave.
    #[inline]
    pub(crate) fn take_ready(&mut self, committed: LogSeq, out: &mut Vec<u8>) -> Option<Run> {
        let waiting = self.waiting.as_deref_mut()?;
        let is_ready = |run: &mut Run| run.gate <= committed || Fault::AnswersDoNotWait.is_on();
        let run = waiting.runs.pop_front_if(is_ready)?;
        waiting.count = waiting.count.saturating_sub(usize::from(run.answers));
        waiting.write(run.bytes, out);
        Some(run)
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
            let from = waiting.bytes.len().saturating_sub(len);
            out.extend_from_slice(waiting.bytes.get(from..).unwrap_or(&[]));
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
        if waiting.runs.is_empty() && waiting.farewell_len == 0 {
            self.waiting = None;
        } else {
            waiting.runs.shrink_to_fit();
            waiting.bytes.shrink_to_fit();
        }
    }

    fn waiting_mut(&mut self) -> &mut Waiting {
        self.waiting.get_or_insert_default()
    }
}

impl Waiting {
    /// The run that one more acknowledgement behind `gate` belongs to.
    #[inline]
    fn run_behind(&mut self, gate: LogSeq) -> &mut Run {
        let goes_on = self.runs.back().is_some_and(|run| {
            run.gate == gate && run.kind == RunKind::Acks && run.answers < RUN_ACKS_MAX
        });
        if !goes_on {
            self.runs.push_back(Run {
                gate,
                bytes: 0,
                answers: 0,
                packets: 0,
                frees: 0,
                kind: RunKind::Acks,
            });
        }
        self.runs.back_mut().expect("it goes on, or was put there")
    }

    fn encode(
        &mut self,
        packet: &impl Encode,
        (version, packet_bytes_max): (ProtocolVersion, u32),
    ) -> Result<u32, EncodeError> {
        let from = self.bytes.len();
        packet.encode_within(version, packet_bytes_max, &mut self.bytes)?;
        let len = self.bytes.len().saturating_sub(from);
        u32::try_from(len).map_err(|_| EncodeError::PacketTooLarge)
    }

    /// Moves the first bytes to `out`.
    fn write(&mut self, len: u32, out: &mut Vec<u8>) {
        let to = self.bytes_from.saturating_add(len as usize);
        out.extend_from_slice(self.bytes.get(self.bytes_from..to).unwrap_or(&[]));
        self.bytes_from = to;
        self.tidy();
    }

    /// Moves bytes to the front once most of them are written, and gives back what a burst took.
    fn tidy(&mut self) {
        if self.bytes_from >= self.bytes.len() {
            self.bytes.clear();
            self.bytes_from = 0;
            if self.bytes.capacity() > BUSY_BYTES_MAX {
                self.bytes.shrink_to(BUSY_BYTES_MAX);
            }
        } else if self.bytes_from > self.bytes.len() / 2 {
            self.bytes.drain(..self.bytes_from);
            self.bytes_from = 0;
        }
        if self.runs.is_empty() && self.runs.capacity() > BUSY_RUNS_MAX {
            self.runs.shrink_to(BUSY_RUNS_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::boxed::Box;

    use paloma_codec::{Packet, PubAckReason};

    use super::*;

    #[test]
    fn an_idle_queue_gives_back_what_it_grew_to() {
        let mut answers = Answers::default();
        let packet = Packet::ConnAck(Box::default());
        for _ in 0..1_000 {
            answers
                .push_packet(&packet, (ProtocolVersion::V5, 100), Gate::Open)
                .unwrap();
        }
        let full = answers.heap_bytes();
        let mut out = Vec::new();
        for _ in 0..1_000 {
            answers.take_ready(LogSeq::ZERO, &mut out).unwrap();
        }
        assert!(answers.heap_bytes() < full / 2, "while it is busy");
        answers.compact();
        assert_eq!((answers.len(), answers.heap_bytes()), (0, 0), "of {full}");
        assert_eq!(out.len(), 1_000 * 5, "a CONNACK each");
    }

    /// Acknowledgements 1 to `gates.len()`, each behind its gate; the packet ids that leave by and by as commits do.
    fn check(gates: &[u64], commits: &[u64], expected: &[&[u16]]) {
        let mut answers = Answers::default();
        for (id, gate) in (1_u16..).zip(gates) {
            let ack = Ack {
                kind: AckKind::PubAck(PubAckReason::Success),
                id: PacketId::new(id).unwrap(),
                frees: true,
            };
            let gate = Gate::Until(LogSeq(*gate));
            answers.push_ack(ack, (ProtocolVersion::V5, 100), gate);
        }
        assert_eq!(answers.len(), gates.len());
        for (commit, expected) in commits.iter().zip(expected) {
            let (mut out, mut frees) = (Vec::new(), 0);
            while let Some(run) = answers.take_ready(LogSeq(*commit), &mut out) {
                assert_eq!(run.packets, run.frees);
                frees += usize::from(run.frees);
            }
            let ids = out
                .chunks(4)
                .map(|ack| u16::from(ack[2]) << 8 | u16::from(ack[3]));
            assert_eq!(ids.collect::<Vec<_>>(), *expected);
            assert_eq!(frees, expected.len());
        }
        let left = commits.iter().zip(expected).map(|(_, ids)| ids.len());
        assert_eq!(answers.len(), gates.len() - left.sum::<usize>());
    }

    #[test]
    fn acknowledgements_leave_with_their_own_commit_and_in_their_order() {
        check(&[0, 0, 0], &[0], &[&[1, 2, 3]]);
        check(&[1, 1, 2, 2, 3], &[0, 1, 2], &[&[], &[1, 2], &[3, 4]]);
        check(&[2, 1, 1], &[1, 2], &[&[], &[1, 2, 3]]);
        let many: Vec<u16> = (1..=1_000).collect();
        check(&[1; 1_000], &[0, 1], &[&[], &many]);
    }

    #[test]
    fn a_run_of_acknowledgements_ends_before_it_is_long() {
        let mut answers = Answers::default();
        for id in 1..=200 {
            let ack = Ack {
                kind: AckKind::PubAck(PubAckReason::NotAuthorized),
                id: PacketId::new(id).unwrap(),
                frees: false,
            };
            answers.push_ack(ack, (ProtocolVersion::V5, 100), Gate::Open);
        }
        let mut out = Vec::new();
        let run = answers.take_ready(LogSeq::ZERO, &mut out).unwrap();
        assert_eq!((run.packets, run.frees, out.len()), (64, 0, 320));
    }

    #[test]
    fn a_peer_that_takes_no_packet_as_small_gets_none_and_has_its_room() {
        let mut answers = Answers::default();
        let ack = Ack {
            kind: AckKind::PubAck(PubAckReason::Success),
            id: PacketId::MIN,
            frees: true,
        };
        answers.push_ack(ack, (ProtocolVersion::V5, 3), Gate::Open);
        let mut out = Vec::new();
        let run = answers.take_ready(LogSeq::ZERO, &mut out).unwrap();
        assert_eq!((run.packets, run.frees, out.len()), (0, 1, 0));
    }

    #[test]
    fn a_queue_that_is_never_empty_does_not_grow() {
        let mut answers = Answers::default();
        let packets = [Packet::ConnAck(Box::default()), Packet::PingResp];
        let mut out = Vec::new();
        for (step, packet) in packets.iter().cycle().take(10_000).enumerate() {
            answers
                .push_packet(packet, (ProtocolVersion::V5, 100), Gate::Open)
                .unwrap();
            if step >= 3 {
                answers.take_ready(LogSeq::ZERO, &mut out).unwrap();
            }
        }
        assert!(answers.heap_bytes() < 1_000, "{}", answers.heap_bytes());
    }
}
