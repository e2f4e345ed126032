//! From bytes to turns: decoding a read before the lock is taken, and keeping what is not a whole packet.

use std::mem;
use std::sync::Arc;

use paloma_broker::ConnectionId;
use paloma_codec::{DecodeError, Decoder, DecoderState, PacketRef, ProtocolVersion};
use tokio::time::Instant;

use crate::flush;
use crate::gauge::Gauge;
use crate::lane::PORTION;
use crate::links::Link;
use crate::shared::{Core, Shared};

/// Bytes read at a time.
pub(crate) const READ_BYTES: usize = 64 * 1024;

/// Fewer bytes than these are not timed: they cannot keep a thread busy for long.
const TIMED_BYTES_MIN: usize = 4 * 1024;

/// Packets between two looks at the clock.
const PACKETS_PER_LOOK: usize = 16;

/// A SUBSCRIBE or UNSUBSCRIBE longer than this is the last packet of its turn.
const FILTERS_BYTES_MAX: usize = 1024;

/// Room for decoded packets, each with the offset of its end.
type Batch<'a> = Vec<(PacketRef<'a>, usize)>;

/// What all connections of a thread read and decode in.
pub(crate) struct Scratch {
    pub(crate) bytes: Box<[u8]>,
    batch: Batch<'static>,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self {
            bytes: vec![0; READ_BYTES].into_boxed_slice(),
            batch: Vec::new(),
        }
    }

    /// The read buffer and the decoder's room, apart.
    pub(crate) fn split(&mut self) -> (&mut [u8], Room<'_>) {
        (&mut self.bytes, Room(&mut self.batch))
    }

    pub(crate) fn room(&mut self) -> Room<'_> {
        Room(&mut self.batch)
    }
}

/// The allocation of a batch between two uses.
pub(crate) struct Room<'s>(&'s mut Batch<'static>);

impl Room<'_> {
    fn take<'a>(&mut self) -> Batch<'a> {
        empty(mem::take(self.0))
    }

    fn put(&mut self, batch: Batch<'_>) {
        *self.0 = empty(batch);
    }
}

/// The same allocation for packets that borrow from elsewhere: collecting in place keeps it.
#[expect(
    clippy::unnecessary_filter_map,
    reason = "a filter would keep the packets' lifetime"
)]
fn empty<'b>(mut batch: Batch<'_>) -> Batch<'b> {
    batch.clear();
    batch.into_iter().filter_map(|_| None).collect()
}

/// How reading goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// With the next bytes.
    Read,
    /// Not before the core says so, or not at all.
    Pause,
    /// With the bytes that are held, once others have had their turn.
    Rest,
}

/// How long one poll may go on while more is at hand.
#[derive(Clone, Copy)]
struct Pace(Option<Instant>);

impl Pace {
    fn of(bytes: usize) -> Self {
        Self((bytes >= TIMED_BYTES_MIN).then(|| Instant::now() + PORTION))
    }

    fn is_over(self) -> bool {
        self.0.is_some_and(|end| Instant::now() >= end)
    }
}

/// The beginning of a packet; or, while paused, bytes that the core has not taken. The gauge has it down for its
/// capacity.
#[derive(Debug, Default)]
pub(crate) struct Held(Vec<u8>);

/// The receiving half of a connection while it is at work: its decoder and the bytes that wait. Between two reads no more
/// is kept than the decoder's state, and the bytes if there are any.
pub(crate) struct Input<'g> {
    decoder: Decoder,
    held: Vec<u8>,
    gauge: &'g Gauge,
    /// What the gauge has it down for.
    charged: usize,
}

impl<'g> Input<'g> {
    /// Goes on where [`suspend`](Self::suspend) left off.
    pub(crate) fn resume(decoder: Decoder, held: Option<Box<Held>>, gauge: &'g Gauge) -> Self {
        let Held(held) = held.map_or_else(Held::default, |held| *held);
        Self {
            decoder,
            charged: held.capacity(),
            held,
            gauge,
        }
    }

    /// What is to be kept until the next read.
    pub(crate) fn suspend(mut self) -> (DecoderState, Option<Box<Held>>) {
        self.report();
        let held = mem::take(&mut self.held);
        let held = (!held.is_empty()).then(|| Box::new(Held(held)));
        self.charged -= held.as_ref().map_or(0, |held| held.0.capacity());
        (self.decoder.state(), held)
    }

    /// Takes in what was read.
    pub(crate) fn handle_bytes(
        &mut self,
        shared: &Arc<Shared>,
        link: &Link,
        mut bytes: &[u8],
        mut room: Room<'_>,
    ) -> Flow {
        if !self.held.is_empty() {
            if !self.complete(&mut bytes) {
                return Flow::Read;
            }
            let held = mem::take(&mut self.held);
            let (used, flow) = self.feed(shared, link, &held, &mut room);
            if flow != Flow::Read {
                self.hold(held.get(used..).unwrap_or(&[]));
                self.hold(bytes);
                return flow;
            }
            debug_assert_eq!(used, held.len(), "exactly one packet was held");
        }
        let (used, flow) = self.feed(shared, link, bytes, &mut room);
        self.hold(bytes.get(used..).unwrap_or(&[]));
        flow
    }

    /// Goes on with what the core did not take before.
    pub(crate) fn handle_resume(
        &mut self,
        shared: &Arc<Shared>,
        link: &Link,
        mut room: Room<'_>,
    ) -> Flow {
        let held = mem::take(&mut self.held);
        let (used, flow) = self.feed(shared, link, &held, &mut room);
        self.hold(held.get(used..).unwrap_or(&[]));
        flow
    }

    fn report(&mut self) {
        let held = self.held.capacity();
        self.gauge
            .change(mem::replace(&mut self.charged, held), held);
    }

    /// Moves bytes behind the held ones until they are a packet, or cannot become one. The header is looked at as it
    /// grows, the body never before it is whole.
    fn complete(&mut self, bytes: &mut &[u8]) -> bool {
        loop {
            let missing = match self.decoder.frame_len(&self.held) {
                Ok(Some(len)) => len.saturating_sub(self.held.len()),
                Ok(None) => 1,
                Err(_) => 0,
            };
            if missing == 0 {
                return true;
            }
            let Some((taken, rest)) = bytes.split_at_checked(missing.min(bytes.len())) else {
                return false;
            };
            if taken.is_empty() {
                return false;
            }
            *bytes = rest;
            self.reserve(taken.len(), missing);
            self.held.extend_from_slice(taken);
        }
    }

    /// Makes room for `more` bytes: by doubling, but never for more than the packet still lacks, and never for what
    /// has only been announced.
    fn reserve(&mut self, more: usize, missing: usize) {
        if self.held.capacity() - self.held.len() < more {
            self.held
                .reserve_exact(more.max(self.held.len()).min(missing));
        }
    }

    fn hold(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.held.reserve_exact(bytes.len());
            self.held.extend_from_slice(bytes);
        }
    }

    /// Decodes what is whole and passes it to the core, turn by turn. Returns how many bytes are done with.
    fn feed(
        &mut self,
        shared: &Arc<Shared>,
        link: &Link,
        bytes: &[u8],
        room: &mut Room<'_>,
    ) -> (usize, Flow) {
        // One lock for so many packets, and no more before what they caused is written.
        let packets_max = shared.flush_after();
        let pace = Pace::of(bytes.len());
        let mut used = 0;
        let mut batch = room.take();
        let flow = loop {
            let decoded = self.decode(bytes, used, packets_max, &mut batch);
            if batch.is_empty() && decoded.error.is_none() {
                break Flow::Read;
            }
            let is_full = decoded.is_full;
            let (done, flow, must_flush) =
                hand_over(shared, link, (bytes, used), &mut batch, decoded, pace);
            used = done;
            if must_flush {
                flush::flush(shared, link.shard, flush::LINKS_PER_PASS);
            }
            if flow != Flow::Read || !is_full {
                break flow;
            }
            if pace.is_over() {
                break Flow::Rest;
            }
        };
        room.put(batch);
        (used, flow)
    }

    fn decode<'a>(
        &mut self,
        bytes: &'a [u8],
        from: usize,
        packets_max: usize,
        batch: &mut Batch<'a>,
    ) -> Decoded {
        let mut end = from;
        let mut is_full = false;
        let mut error = None;
        let mut topic = None;
        while !is_full {
            let rest = bytes.get(end..).unwrap_or(&[]);
            // A packet is put together in its place: to be moved there it would be written in pieces and read at once as a whole,
            // which stalls.
            let place = batch.push_mut((PacketRef::PingReq, 0));
            let put = |packet, len: usize| *place = (packet, end + len);
            match self.decoder.decode_to(rest, topic, put) {
                Ok(Some(())) => {
                    let (packet, packet_end) = &*place;
                    if let PacketRef::Publish(publish) = packet {
                        topic = publish.topic.name().copied().or(topic);
                    }
                    let is_last = is_laborious(packet, packet_end - end);
                    end = *packet_end;
                    is_full = is_last || batch.len() >= packets_max;
                }
                Ok(None) => {
                    batch.pop();
                    break;
                }
                Err(invalid) => {
                    batch.pop();
                    error = Some((invalid, self.decoder.version()));
                    break;
                }
            }
        }
        Decoded { error, is_full }
    }
}

impl Drop for Input<'_> {
    /// What was not put aside is given up.
    fn drop(&mut self) {
        self.gauge.change(self.charged, 0);
    }
}

/// What decoding a batch came to.
struct Decoded {
    error: Option<Invalid>,
    /// The turn takes no more; there may be more packets.
    is_full: bool,
}

/// Whether one packet may be as much work as hundreds of others.
fn is_laborious(packet: &PacketRef<'_>, len: usize) -> bool {
    len > FILTERS_BYTES_MAX && matches!(packet, PacketRef::Subscribe(_) | PacketRef::Unsubscribe(_))
}

/// Bytes that are no packet: why, and the version that the answer has to be in.
type Invalid = (DecodeError, Option<ProtocolVersion>);

/// One turn with a batch of what was decoded from `bytes` on. Returns where the bytes that were taken end, how to go on, and whether to flush first.
fn hand_over(
    shared: &Arc<Shared>,
    link: &Link,
    (bytes, from): (&[u8], usize),
    batch: &mut Batch<'_>,
    decoded: Decoded,
    pace: Pace,
) -> (usize, Flow, bool) {
    let id: ConnectionId = link.id;
    let flush_after = shared.flush_after();
    let input = |core: &mut Core, now| {
        let mut end = from;
        let mut flow = Flow::Read;
        let count = batch.len();
        for (at, (packet, packet_end)) in batch.iter_mut().enumerate() {
            let frame = bytes.get(end..*packet_end).unwrap_or_default();
            let goes_on = core.broker.handle_packet(now, id, packet, frame);
            end = *packet_end;
            if !goes_on && !core.broker.may_read(id) {
                flow = Flow::Pause;
                break;
            }
            if at % PACKETS_PER_LOOK == PACKETS_PER_LOOK - 1 && at + 1 < count && pace.is_over() {
                flow = Flow::Rest;
                break;
            }
        }
        if let Some((error, version)) = decoded.error
            && flow == Flow::Read
        {
            core.broker.handle_invalid(now, id, error, version);
            flow = Flow::Pause;
        }
        core.broker.count_received_bytes(end - from);
        // The effects of this turn are handed out after it: the next count sees them.
        let must_flush = core.links.count_packets(link.shard, count, flush_after);
        (end, flow, must_flush)
    };
    let outcome = shared.take_turn(input, |wakes| shared.wake(wakes));
    batch.clear();
    outcome.unwrap_or((from, Flow::Pause, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_for_packets_is_allocated_once() {
        let mut scratch = Scratch::new();
        let mut room = scratch.room();
        let mut batch = room.take();
        batch.push((PacketRef::PingReq, 2));
        let (place, capacity) = (batch.as_ptr() as usize, batch.capacity());
        room.put(batch);
        let batch = room.take();
        assert_eq!(
            (batch.as_ptr() as usize, batch.capacity()),
            (place, capacity)
        );
    }

    fn input(gauge: &Gauge) -> Input<'_> {
        let decoder = Decoder::server(paloma_codec::DecodeLimits::default());
        Input::resume(decoder, None, gauge)
    }

    #[test]
    fn what_is_held_is_counted_until_it_is_given_up() {
        let gauge = Gauge::default();
        let mut first = input(&gauge);
        first.hold(&[0x10, 0xFF]);
        let (state, held) = first.suspend();
        assert_eq!((state.version(), gauge.bytes()), (None, 2));
        let again = Input::resume(input(&gauge).decoder.clone(), held, &gauge);
        assert_eq!(
            (again.held.as_slice(), gauge.bytes()),
            (&[0x10, 0xFF][..], 2)
        );
        drop(again);
        assert_eq!(gauge.bytes(), 0);
        let (_, held) = input(&gauge).suspend();
        assert!(held.is_none(), "nothing is kept for nothing");
    }

    #[test]
    fn memory_grows_with_what_came_and_not_with_what_was_announced() {
        // A CONNECT of 60,000 bytes, byte by byte.
        let mut packet = vec![0x10, 0xE0, 0xD4, 0x03];
        packet.resize(4 + 60_000, 0);
        let gauge = Gauge::default();
        let mut input = input(&gauge);
        input.hold(&packet[..1]);
        for end in 2..=packet.len() {
            let mut bytes = &packet[end - 1..end];
            let is_whole = input.complete(&mut bytes);
            assert!(bytes.is_empty());
            assert_eq!(is_whole, end == packet.len());
            assert!(
                input.held.capacity() <= 2 * end + 4,
                "{} at {end}",
                input.held.capacity()
            );
        }
        assert_eq!(input.held.capacity(), packet.len());
    }

    #[test]
    fn packet_above_the_limit_is_told_from_its_header() {
        let gauge = Gauge::default();
        let mut input = input(&gauge);
        input.hold(&[0x10, 0xFF]);
        let mut bytes: &[u8] = &[0xFF, 0xFF, 0x7F, 0x00];
        assert!(input.complete(&mut bytes), "the decoder is to see it");
        assert_eq!(bytes, [0x00]);
        assert!(input.decoder.decode(&input.held).is_err());
    }
}
