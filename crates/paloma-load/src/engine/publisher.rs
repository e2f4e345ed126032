//! A publishing connection: a ring of encoded packets that are patched in place and sent in one vectored write.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};

use crate::link::Link;
use crate::packet::{PublishTemplate, Qos, Version, publish};

/// Bytes that one ring takes at most unless its topics alone need more.
const RING_BYTES: usize = 256 * 1024;

/// Bytes at the start of each payload that say which message it is: flow, sequence number, stamp.
pub(crate) const MARK_BYTES: usize = 16;

/// One publishing connection and its window.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) link: Link,
    pub(crate) partial: Vec<u8>,
    /// Whether it stands on the list of those that may send.
    pub(crate) is_listed: bool,
    /// Messages given to the socket so far.
    pub(crate) sent: u64,
    /// Deliveries of its messages, lost ones included.
    pub(crate) received: u64,
    /// QoS 1 and 2 messages whose exchange is open.
    pub(crate) unacknowledged: u64,
    /// When each open exchange began, in nanoseconds, where the time to its end is what is measured.
    pub(crate) begun: VecDeque<u64>,
    ring: Ring,
    control: Vec<u8>,
    control_written: usize,
}

impl Publisher {
    pub(crate) fn new(link: Link, ring: Ring) -> Self {
        Self {
            link,
            partial: Vec::new(),
            is_listed: false,
            sent: 0,
            received: 0,
            unacknowledged: 0,
            begun: VecDeque::new(),
            ring,
            control: Vec::new(),
            control_written: 0,
        }
    }

    /// Appends a packet that leaves before any later message.
    pub(crate) fn push_control(&mut self, bytes: &[u8]) {
        self.control.extend_from_slice(bytes);
    }

    /// How many messages a call of [`Self::send`] may take; none while an earlier write is unfinished.
    pub(crate) fn room(&self) -> usize {
        if self.is_blocked() {
            0
        } else {
            self.ring.packets
        }
    }

    /// Whether the socket did not take all of an earlier write.
    pub(crate) fn is_blocked(&self) -> bool {
        self.ring.pending_bytes > 0 || self.control_written > 0 || self.link.has_pending()
    }

    /// Puts `count` messages, at most [`Self::room`], behind what waits. `stamp` gives each one's time, which is kept until
    /// its exchange ends if `is_timed`.
    pub(crate) fn push_messages(
        &mut self,
        count: usize,
        qos: Qos,
        is_timed: bool,
        stamp: impl Fn(u64) -> u64,
    ) {
        for _ in 0..count {
            let stamp = stamp(self.sent);
            self.ring.push(self.sent, stamp);
            self.sent += 1;
            if is_timed {
                self.begun.push_back(stamp);
            }
        }
        if qos != Qos::AtMostOnce {
            self.unacknowledged += u64::try_from(count).unwrap_or(0);
        }
    }

    /// Writes what waits, as far as the socket takes it.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match self.write_all() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            other => other,
        }
    }

    fn write_all(&mut self) -> io::Result<()> {
        loop {
            let (head, tail) = self.ring.pending();
            let control = self.control.get(self.control_written..).unwrap_or(&[]);
            if head.is_empty() && control.is_empty() {
                self.control.clear();
                self.control_written = 0;
                return self.link.flush();
            }
            let slices = [
                IoSlice::new(head),
                IoSlice::new(tail),
                IoSlice::new(control),
            ];
            let result = if tail.is_empty() && control.is_empty() {
                self.link.write(head)
            } else {
                self.link.write_vectored(&slices)
            };
            match result {
                Ok(written) => {
                    let of_ring = written.min(self.ring.pending_bytes);
                    self.ring.advance(of_ring);
                    self.control_written += written - of_ring;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Encoded PUBLISH packets of equal length, sent in turn.
#[derive(Debug)]
pub(crate) struct Ring {
    bytes: Vec<u8>,
    packets: usize,
    packet_bytes: usize,
    id_offset: usize,
    payload_offset: usize,
    next: usize,
    next_id: u16,
    pending_start: usize,
    pending_bytes: usize,
}

/// What the packets of a ring have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Template {
    pub(crate) version: Version,
    pub(crate) qos: Qos,
    pub(crate) retain: bool,
    pub(crate) payload_bytes: usize,
    pub(crate) flow: u32,
}

impl Ring {
    /// Encodes one packet per topic, repeated until there are about `wanted`.
    ///
    /// Every topic must have the length of the first, and `payload_bytes` room for the mark.
    pub(crate) fn new(template: Template, topics: &[String], wanted: usize) -> Self {
        let encode = |topic: &String| {
            let Template {
                version,
                qos,
                retain,
                payload_bytes,
                ..
            } = template;
            publish(version, topic, qos, retain, payload_bytes)
        };
        let encoded: Vec<PublishTemplate> = topics.iter().map(encode).collect();
        let Some(first) = encoded.first() else {
            return Self::empty();
        };
        let packet_bytes = first.bytes.len();
        let wanted = wanted.min(RING_BYTES / packet_bytes).max(1);
        let rounds = wanted.div_ceil(encoded.len());
        let mut bytes = Vec::with_capacity(packet_bytes * encoded.len() * rounds);
        for packet in encoded.iter().cycle().take(encoded.len() * rounds) {
            debug_assert_eq!(
                packet.bytes.len(),
                packet_bytes,
                "topics have equal lengths"
            );
            let start = bytes.len() + first.payload_offset;
            bytes.extend_from_slice(&packet.bytes);
            put(&mut bytes, start, &template.flow.to_le_bytes());
        }
        Self {
            packets: encoded.len() * rounds,
            packet_bytes,
            id_offset: first.id_offset,
            payload_offset: first.payload_offset,
            bytes,
            ..Self::empty()
        }
    }

    const fn empty() -> Self {
        Self {
            bytes: Vec::new(),
            packets: 0,
            packet_bytes: 0,
            id_offset: 0,
            payload_offset: 0,
            next: 0,
            next_id: 1,
            pending_start: 0,
            pending_bytes: 0,
        }
    }

    #[inline]
    fn push(&mut self, sequence: u64, stamp: u64) {
        let start = self.next * self.packet_bytes;
        if self.id_offset > 0 {
            put(
                &mut self.bytes,
                start + self.id_offset,
                &self.next_id.to_be_bytes(),
            );
            self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        }
        let mut mark = [0; MARK_BYTES - 4];
        // The sequence number on the wire wraps after 2^32 messages; receivers wrap with it.
        let (low, high) = mark.split_at_mut(4);
        low.copy_from_slice(sequence.to_le_bytes().first_chunk::<4>().unwrap_or(&[0; 4]));
        high.copy_from_slice(&stamp.to_le_bytes());
        put(&mut self.bytes, start + self.payload_offset + 4, &mark);
        self.next = if self.next + 1 == self.packets {
            0
        } else {
            self.next + 1
        };
        self.pending_bytes += self.packet_bytes;
    }

    /// The bytes that wait: up to the end of the ring, and from its start.
    fn pending(&self) -> (&[u8], &[u8]) {
        let end = self.pending_start + self.pending_bytes;
        let wrapped = end.saturating_sub(self.bytes.len());
        let head = self
            .bytes
            .get(self.pending_start..end - wrapped)
            .unwrap_or(&[]);
        (head, self.bytes.get(..wrapped).unwrap_or(&[]))
    }

    fn advance(&mut self, written: usize) {
        self.pending_bytes -= written;
        self.pending_start += written;
        if self.pending_start >= self.bytes.len() {
            self.pending_start -= self.bytes.len();
        }
    }
}

#[inline]
fn put(bytes: &mut [u8], start: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(start..start + value.len()) {
        place.copy_from_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Scan, publish_parts, scan};

    #[test]
    fn ring_hands_out_topics_in_turn_across_its_end() {
        let template = Template {
            version: Version::V311,
            qos: Qos::AtLeastOnce,
            retain: false,
            payload_bytes: 16,
            flow: 9,
        };
        let mut ring = Ring::new(template, &["a".to_owned(), "b".to_owned()], 3);
        assert_eq!(ring.packets, 4);
        let mut seen = Vec::new();
        for sequence in 0..10 {
            ring.push(sequence, sequence * 7);
            ring.push(sequence, 0);
            let (head, tail) = ring.pending();
            let bytes = [head, tail].concat();
            let Scan::Whole(frame) = scan(&bytes) else {
                panic!("a whole packet")
            };
            let parts = publish_parts(Version::V311, &frame).expect("well formed");
            assert_eq!(parts.payload.first_chunk::<4>(), Some(&9u32.to_le_bytes()));
            assert_eq!(
                parts.payload.last_chunk::<8>(),
                Some(&(sequence * 7).to_le_bytes())
            );
            seen.push((parts.topic.to_vec(), parts.id));
            // Half a packet is taken first, as a full socket would.
            ring.advance(5);
            ring.advance(bytes.len() - 5);
        }
        assert!(seen.iter().all(|(topic, _)| topic == b"a"));
        assert_eq!(
            seen.iter().map(|(_, id)| *id).collect::<Vec<_>>()[..3],
            [1, 3, 5]
        );
    }
}
