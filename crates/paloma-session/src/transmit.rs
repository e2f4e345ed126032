//! Where outgoing packets are written: the caller's buffer and what happened while it was filled.

use alloc::vec::Vec;
use core::fmt;

use paloma_codec::{Delivery, Message, MessagePool, ProtocolVersion, Qos, SHORT_PACKET_LEN_MAX};

use crate::outbound::Outbound;
use crate::queue::Queue;

/// Bytes that one call of `poll_transmit` aims at, unless told otherwise.
const BUDGET_BYTES: usize = 64 * 1024;

/// Payloads from this size on go by reference, unless told otherwise.
const LARGE_BYTES_MIN: usize = 4 * 1024;

/// Whether to go on after a `poll_transmit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum TransmitStatus {
    /// Nothing more may leave until an input, a commit or a new delivery allows it.
    Drained,
    /// The budget is used up: write the bytes, then ask again.
    Full,
    /// The bytes are the last of this connection: write them, then close it. There may be none.
    Close,
}

/// Why a delivery ended without the receiver getting it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropCause {
    /// Its expiry passed before its delivery began. [MQTT-3.3.2-5]
    Expired,
    /// It is larger than the receiver's Maximum Packet Size. [MQTT-3.1.2-25]
    TooLarge,
    /// The server announced that it takes no such QoS, or no RETAIN. [MQTT-3.2.2-11] [MQTT-3.2.2-14]
    NotSupported,
}

impl fmt::Display for DropCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "it expired before its delivery began",
            Self::TooLarge => "it is larger than the receiver accepts",
            Self::NotSupported => "the receiver does not support its QoS or retaining",
        })
    }
}

/// A delivery that ended without the receiver getting it.
#[derive(Debug)]
pub struct Dropped {
    /// The delivery.
    pub outbound: Outbound,
    /// Why.
    pub cause: DropCause,
}

/// How many PUBLISHes were written, repeats not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// At QoS 0; these are done with.
    pub qos0: u32,
    /// At QoS 1.
    pub qos1: u32,
    /// At QoS 2.
    pub qos2: u32,
    /// PUBLISHes sent again after a resume.
    pub repeated: u32,
}

/// How much connections have written. Each number wraps, so that one that nobody takes is no trouble.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// PUBLISHes, repeats included.
    pub publishes: u32,
    /// Packets of all other kinds.
    pub others: u32,
    /// Bytes of all packets.
    pub bytes: usize,
    /// Payload bytes of PUBLISHes.
    pub payload_bytes: usize,
}

/// A buffer that `poll_transmit` fills and the caller writes to the socket.
///
/// Reuse one for all connections of a thread: [`Transmit::clear`] keeps its memory.
#[derive(Debug)]
pub struct Transmit {
    bytes: Vec<u8>,
    large: Vec<(usize, Message)>,
    large_bytes: usize,
    dropped: Vec<Dropped>,
    pool: MessagePool,
    sent: Sent,
    counts: Counts,
    budget_bytes: usize,
    large_bytes_min: usize,
}

impl Default for Transmit {
    fn default() -> Self {
        Self::new(BUDGET_BYTES, LARGE_BYTES_MIN)
    }
}

impl Transmit {
    /// An empty buffer that is full at `budget_bytes` (the last packet, or 64 acknowledgements, may pass it), and that takes payloads of
    /// `large_bytes_min` and more by reference. The default is 64 KiB and 4 KiB.
    #[must_use]
    pub const fn new(budget_bytes: usize, large_bytes_min: usize) -> Self {
        Self {
            bytes: Vec::new(),
            large: Vec::new(),
            large_bytes: 0,
            dropped: Vec::new(),
            pool: MessagePool::closed(),
            sent: Sent {
                qos0: 0,
                qos1: 0,
                qos2: 0,
                repeated: 0,
            },
            counts: Counts {
                publishes: 0,
                others: 0,
                bytes: 0,
                payload_bytes: 0,
            },
            budget_bytes,
            large_bytes_min,
        }
    }

    /// All bytes but large payloads.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Messages whose payload belongs at an offset of [`Transmit::bytes`], in ascending order.
    #[must_use]
    pub fn large(&self) -> &[(usize, Message)] {
        &self.large
    }

    /// What to write, in order: one vectored write. Pieces are never empty.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let mut from = 0;
        let ends = self
            .large
            .iter()
            .map(|(offset, message)| (*offset, message.payload()));
        ends.chain([(self.bytes.len(), [].as_slice())])
            .flat_map(move |(to, payload)| {
                let small = self.bytes.get(from..to).unwrap_or(&[]);
                from = to;
                [small, payload]
            })
            .filter(|piece| !piece.is_empty())
    }

    /// How many bytes there are to write, large payloads included.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.bytes.len() + self.large_bytes
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the budget is used up.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.len() >= self.budget_bytes
    }

    /// Deliveries that ended unsent, in their order, since the last [`Transmit::clear`].
    #[must_use]
    pub fn dropped(&self) -> &[Dropped] {
        &self.dropped
    }

    /// What was written since the last [`Transmit::clear`].
    #[must_use]
    pub const fn sent(&self) -> Sent {
        self.sent
    }

    /// What connections have written since this was last asked; [`Transmit::clear`] and [`Transmit::put`] do not matter.
    pub const fn take_counts(&mut self) -> Counts {
        core::mem::replace(
            &mut self.counts,
            Counts {
                publishes: 0,
                others: 0,
                bytes: 0,
                payload_bytes: 0,
            },
        )
    }

    /// Empties the buffer and the accounts; the memory stays.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.large.clear();
        self.large_bytes = 0;
        self.dropped.clear();
        self.sent = Sent::default();
    }

    /// Appends bytes of the caller's own: whole packets that it encoded itself.
    pub fn put(&mut self, packets: &[u8]) {
        self.bytes.extend_from_slice(packets);
    }

    /// Takes the small bytes out, which leaves the large ones without a place: for callers that checked [`Transmit::large`].
    #[must_use]
    pub fn take_bytes(&mut self) -> Vec<u8> {
        debug_assert!(
            self.large.is_empty(),
            "large payloads have their place among the bytes"
        );
        core::mem::take(&mut self.bytes)
    }

    /// Where messages go that were sent at QoS 0. It keeps nothing, unless the caller puts one here that does.
    #[inline]
    pub const fn pool_mut(&mut self) -> &mut MessagePool {
        &mut self.pool
    }

    pub(crate) const fn out(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Appends what [`Message::encode_head`] left to be appended.
    #[inline]
    pub(crate) fn put_payload(&mut self, message: &Message, payload: &[u8]) {
        let counts = &mut self.counts;
        counts.payload_bytes = counts.payload_bytes.wrapping_add(payload.len());
        if payload.len() < self.large_bytes_min {
            self.bytes.extend_from_slice(payload);
        } else {
            self.large_bytes += payload.len();
            self.large.push((self.bytes.len(), message.clone()));
        }
    }

    /// Whether short packets have no payload that goes by reference.
    pub(crate) const fn copies_short(&self) -> bool {
        self.large_bytes_min > SHORT_PACKET_LEN_MAX
    }

    /// Writes a delivery that is plain, by name, if its packet is short, and says whether it is.
    #[inline]
    pub(crate) fn put_short(
        &mut self,
        message: &Message,
        delivery: Delivery,
        version: ProtocolVersion,
    ) -> bool {
        let form = (delivery, false);
        let Some(payload) = message.encode_short_head(version, form, &mut self.bytes) else {
            return false;
        };
        self.bytes.extend_from_slice(payload);
        let counts = &mut self.counts;
        counts.payload_bytes = counts.payload_bytes.wrapping_add(payload.len());
        true
    }

    /// Writes what is plain, short and of QoS 0 at the front of `queue` as [`Transmit::put_short`] does, one after the other, and
    /// is done with it. It ends at the first delivery that is anything else, or when the budget is used up, and says whether it
    /// has written any.
    pub(crate) fn put_run(&mut self, queue: &mut Queue, version: ProtocolVersion) -> bool {
        let mut pool = core::mem::take(&mut self.pool);
        let sent = queue.take_run(
            |outbound| {
                !self.is_full()
                    && outbound.qos() == Qos::AtMostOnce
                    && outbound.is_plain()
                    && self.put_short(outbound.message(), Delivery::AtMostOnce, version)
            },
            |outbound| pool.recycle(outbound.into_message()),
        );
        self.pool = pool;
        self.sent.qos0 += sent;
        self.counts.publishes = self.counts.publishes.wrapping_add(sent);
        sent > 0
    }

    pub(crate) const fn count(&mut self, qos: Qos, repeated: bool) {
        let counter = match qos {
            _ if repeated => &mut self.sent.repeated,
            Qos::AtMostOnce => &mut self.sent.qos0,
            Qos::AtLeastOnce => &mut self.sent.qos1,
            Qos::ExactlyOnce => &mut self.sent.qos2,
        };
        *counter += 1;
        self.counts.publishes = self.counts.publishes.wrapping_add(1);
    }

    /// Counts packets that are no PUBLISHes.
    pub(crate) const fn count_others(&mut self, packets: u32) {
        self.counts.others = self.counts.others.wrapping_add(packets);
    }

    /// Counts bytes that a connection has written.
    pub(crate) const fn count_bytes(&mut self, bytes: usize) {
        self.counts.bytes = self.counts.bytes.wrapping_add(bytes);
    }

    pub(crate) fn drop_delivery(&mut self, outbound: Outbound, cause: DropCause) {
        self.dropped.push(Dropped { outbound, cause });
    }
}
