//! What a record consists of: the core's inputs, one after the other, and what belongs to them.

use std::net::IpAddr;
use std::ops::Range;

use bytestring::ByteString;
use paloma_broker::store::{Loaded, Recovered, Space};
use paloma_broker::wire::{Damaged, Reader, put_number, put_signed};
use paloma_broker::{CloseCause, ConnectionId, ConnectionInfo, Grant, Limits};
use paloma_codec::{DecodeError, ProtocolVersion};
use paloma_session::{LogSeq, Monotonic, Now, Wall};

use crate::recorder::Ended;
use crate::redact::{Frame, LEFT_OUT_MAX, put_frame, read_frame};
use crate::state::{
    Outcome, Start, read_address, read_info, read_limits, read_loaded, read_outcome,
    read_recovered, read_start, version_of,
};

/// The first byte of each event.
pub(crate) mod kind {
    pub(crate) const START: u8 = 1;
    pub(crate) const RECOVERED: u8 = 2;
    pub(crate) const READY: u8 = 3;
    pub(crate) const TIME: u8 = 4;
    pub(crate) const RANDOM: u8 = 5;
    pub(crate) const OUTSIDE: u8 = 6;
    pub(crate) const ADMIT: u8 = 7;
    pub(crate) const OPEN: u8 = 8;
    pub(crate) const OPEN_ADMITTED: u8 = 9;
    pub(crate) const PACKET: u8 = 10;
    pub(crate) const INVALID: u8 = 11;
    pub(crate) const MAY_NOT_READ: u8 = 12;
    pub(crate) const RECEIVED: u8 = 13;
    pub(crate) const CLOSED: u8 = 14;
    pub(crate) const AUTHENTICATED: u8 = 15;
    pub(crate) const COMMITTED: u8 = 16;
    pub(crate) const LOADED: u8 = 17;
    pub(crate) const SPACE_FREE: u8 = 18;
    pub(crate) const SPACE_FULL: u8 = 19;
    pub(crate) const TIMEOUT: u8 = 20;
    pub(crate) const FINISH_TURN: u8 = 21;
    pub(crate) const SHUT_DOWN: u8 = 22;
    pub(crate) const LIMITS: u8 = 23;
    pub(crate) const RULES_CHANGED: u8 = 24;
    pub(crate) const RENEW: u8 = 25;
    pub(crate) const DISCONNECT: u8 = 26;
    pub(crate) const TRANSMIT: u8 = 27;
    pub(crate) const DENIED: u8 = 28;
    pub(crate) const ALLOWED: u8 = 29;
    pub(crate) const GRANT_ALL: u8 = 30;
    pub(crate) const GRANT_EACH: u8 = 31;
    pub(crate) const GRANT_NONE: u8 = 32;
    pub(crate) const COVERS_NOT: u8 = 33;
    pub(crate) const COVERS: u8 = 34;
    pub(crate) const EPOCH: u8 = 35;
    pub(crate) const CHECK: u8 = 36;
    pub(crate) const END: u8 = 37;
    /// The packet before it in the block came again.
    pub(crate) const AGAIN: u8 = 38;
    /// Beside the kind: the connection is that of the event before.
    pub(crate) const SAME: u8 = 0x80;
}

/// What an authorizer said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Allowed(bool),
    Granted(Grant),
    Covers(bool),
    /// Another epoch than the last time.
    Epoch(u16),
}

impl Answer {
    pub(crate) fn put(self, out: &mut Vec<u8>) {
        out.push(match self {
            Self::Allowed(false) => kind::DENIED,
            Self::Allowed(true) => kind::ALLOWED,
            Self::Granted(Grant::AllAllowed) => kind::GRANT_ALL,
            Self::Granted(Grant::CheckEach) => kind::GRANT_EACH,
            Self::Granted(Grant::Denied) => kind::GRANT_NONE,
            Self::Covers(false) => kind::COVERS_NOT,
            Self::Covers(true) => kind::COVERS,
            Self::Epoch(epoch) => {
                out.push(kind::EPOCH);
                return out.extend_from_slice(&epoch.to_le_bytes());
            }
        });
    }
}

/// One event, as it is read.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// What the broker was made with.
    Start(Box<Start>),
    /// Something that the store gave back.
    Recovered(Box<Recovered>),
    /// The store has given everything.
    Ready,
    /// What the next client id to be assigned is made of.
    Random([u64; 2]),
    /// Bytes of memory that the adapter holds, for the turns from here on.
    Outside(u64),
    Admit(Option<IpAddr>),
    Open(ConnectionInfo),
    OpenAdmitted(ConnectionInfo),
    Packet(ConnectionId, Frame<'a>),
    Invalid(ConnectionId, DecodeError, Option<ProtocolVersion>),
    /// It was asked whether a connection may be read from, and said no. A yes changes nothing.
    MayNotRead(ConnectionId),
    ReceivedBytes(u64),
    Closed(ConnectionId, CloseCause),
    Authenticated(ConnectionId, Outcome),
    Committed(LogSeq),
    Loaded(Loaded),
    Space(Space),
    Timeout,
    FinishTurn,
    ShutDown,
    SetLimits(Box<Limits>),
    RulesChanged,
    RenewAdmissions,
    Disconnect(ByteString),
    Transmit(ConnectionId),
    /// The hash of all outputs so far.
    Check(u64),
    /// The recorder stopped.
    End(Ended),
    /// What the rules said while the input before was taken in.
    Answer(Answer),
}

impl Event<'_> {
    /// Whether an event that begins with this byte is an answer of the rules.
    pub(crate) const fn is_answer(first: u8) -> bool {
        first >= kind::DENIED && first <= kind::EPOCH
    }
}

/// Writes events.
#[derive(Debug, Default)]
pub(crate) struct Pen {
    pub(crate) out: Vec<u8>,
    now: Now,
    id: u64,
    /// Where the last packet stands in `out`, and how much is left out behind it.
    last: (Range<usize>, usize),
}

impl Pen {
    /// An event, whose fields come behind it.
    pub(crate) fn event(&mut self, kind: u8) -> &mut Vec<u8> {
        self.out.push(kind);
        &mut self.out
    }

    /// It is this late; told once while it stays the same.
    #[inline(always)]
    pub(crate) fn time(&mut self, now: Now) {
        if now != self.now {
            self.put_time(now);
        }
    }

    fn put_time(&mut self, now: Now) {
        self.out.push(kind::TIME);
        let (mono, wall) = (now.monotonic.as_nanos(), now.wall.as_millis());
        let step = mono.wrapping_sub(self.now.monotonic.as_nanos());
        put_signed(&mut self.out, step.cast_signed());
        let step = wall.wrapping_sub(self.now.wall.as_millis());
        put_signed(&mut self.out, step.cast_signed());
        self.now = now;
    }

    /// An event of a connection, which is named unless it is the same as before.
    #[inline]
    pub(crate) fn event_of(&mut self, kind: u8, id: ConnectionId) -> &mut Vec<u8> {
        let bits = id.to_bits();
        if bits == self.id {
            self.out.push(kind | kind::SAME);
        } else {
            self.id = bits;
            self.out.push(kind);
            put_number(&mut self.out, bits);
        }
        &mut self.out
    }

    /// A packet: in one byte if it is the last one again, as it is in floods.
    #[inline]
    pub(crate) fn packet(&mut self, id: ConnectionId, frame: Frame<'_>) {
        let (last, masked) = &self.last;
        if *masked == frame.masked
            && let Some(last) = self.out.get(last.clone())
            && !last.is_empty()
            && last == frame.head
        {
            self.event_of(kind::AGAIN, id);
        } else {
            self.put_packet(id, frame);
        }
    }

    fn put_packet(&mut self, id: ConnectionId, frame: Frame<'_>) {
        put_frame(self.event_of(kind::PACKET, id), frame);
        let end = self.out.len();
        self.last = (end - frame.head.len()..end, frame.masked);
    }

    /// Ends the block: what was written goes there, in exchange for room for more.
    pub(crate) fn take(&mut self, into: &mut Vec<u8>) {
        std::mem::swap(into, &mut self.out);
        self.last = Default::default();
    }
}

/// Reads what a [`Pen`] wrote, over all blocks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scan<'a> {
    pub(crate) now: Now,
    id: u64,
    /// The last packet of the block.
    last: Option<Frame<'a>>,
}

impl<'a> Scan<'a> {
    /// What comes is another block.
    pub(crate) fn begin_block(&mut self) {
        self.last = None;
    }

    /// The next event of a block that has one, or whose last one is a time.
    pub(crate) fn next(&mut self, reader: &mut Reader<'a>) -> Result<Option<Event<'a>>, Damaged> {
        while reader.peek() == Some(kind::TIME) {
            reader.byte()?;
            let mono = reader.signed()?.cast_unsigned();
            let wall = reader.signed()?.cast_unsigned();
            self.now = Now::new(
                Monotonic::from_nanos(self.now.monotonic.as_nanos().wrapping_add(mono)),
                Wall::from_millis(self.now.wall.as_millis().wrapping_add(wall)),
            );
        }
        if reader.is_empty() {
            return Ok(None);
        }
        reader.allow(LEFT_OUT_MAX);
        let kind = reader.byte()?;
        let is_same = kind & kind::SAME != 0;
        let kind = kind & !kind::SAME;
        if is_connections(kind) {
            if !is_same {
                self.id = reader.number()?;
            }
            let id = ConnectionId::from_bits(self.id);
            return self.read_of(kind, id, reader).map(Some);
        }
        if is_same {
            return Err(Damaged);
        }
        match read_answer(kind, reader)? {
            Some(answer) => Ok(Some(Event::Answer(answer))),
            None => read_other(kind, reader).map(Some),
        }
    }

    fn read_of(
        &mut self,
        kind: u8,
        id: ConnectionId,
        reader: &mut Reader<'a>,
    ) -> Result<Event<'a>, Damaged> {
        Ok(match kind {
            kind::PACKET => {
                let frame = read_frame(reader)?;
                self.last = Some(frame);
                Event::Packet(id, frame)
            }
            kind::AGAIN => Event::Packet(id, self.last.ok_or(Damaged)?),
            kind::INVALID => {
                let error = DecodeError::ALL.get(usize::from(reader.byte()?));
                let version = reader.option(|reader| version_of(reader.byte()?))?;
                Event::Invalid(id, *error.ok_or(Damaged)?, version)
            }
            kind::CLOSED => {
                let cause = CloseCause::ALL.get(usize::from(reader.byte()?));
                Event::Closed(id, *cause.ok_or(Damaged)?)
            }
            kind::AUTHENTICATED => Event::Authenticated(id, read_outcome(reader)?),
            kind::TRANSMIT => Event::Transmit(id),
            _ => Event::MayNotRead(id),
        })
    }
}

const fn is_connections(kind: u8) -> bool {
    matches!(
        kind,
        kind::PACKET
            | kind::INVALID
            | kind::AGAIN
            | kind::MAY_NOT_READ
            | kind::CLOSED
            | kind::AUTHENTICATED
            | kind::TRANSMIT
    )
}

fn read_answer(kind: u8, reader: &mut Reader<'_>) -> Result<Option<Answer>, Damaged> {
    Ok(Some(match kind {
        kind::DENIED => Answer::Allowed(false),
        kind::ALLOWED => Answer::Allowed(true),
        kind::GRANT_ALL => Answer::Granted(Grant::AllAllowed),
        kind::GRANT_EACH => Answer::Granted(Grant::CheckEach),
        kind::GRANT_NONE => Answer::Granted(Grant::Denied),
        kind::COVERS_NOT => Answer::Covers(false),
        kind::COVERS => Answer::Covers(true),
        kind::EPOCH => Answer::Epoch(u16::from_le_bytes(reader.array()?)),
        _ => return Ok(None),
    }))
}

fn read_other<'a>(kind: u8, reader: &mut Reader<'a>) -> Result<Event<'a>, Damaged> {
    Ok(match kind {
        kind::START => Event::Start(Box::new(read_start(reader)?)),
        kind::RECOVERED => Event::Recovered(Box::new(read_recovered(reader)?)),
        kind::READY => Event::Ready,
        kind::RANDOM => {
            let numbers = [reader.array()?, reader.array()?];
            Event::Random(numbers.map(u64::from_le_bytes))
        }
        kind::OUTSIDE => Event::Outside(reader.number()?),
        kind::ADMIT => Event::Admit(reader.option(read_address)?),
        kind::OPEN => Event::Open(read_info(reader)?),
        kind::OPEN_ADMITTED => Event::OpenAdmitted(read_info(reader)?),
        kind::RECEIVED => Event::ReceivedBytes(reader.number()?),
        kind::COMMITTED => Event::Committed(LogSeq(reader.number()?)),
        kind::LOADED => Event::Loaded(read_loaded(reader)?),
        kind::SPACE_FREE => Event::Space(Space::Free),
        kind::SPACE_FULL => Event::Space(Space::Full),
        kind::TIMEOUT => Event::Timeout,
        kind::FINISH_TURN => Event::FinishTurn,
        kind::SHUT_DOWN => Event::ShutDown,
        kind::LIMITS => Event::SetLimits(Box::new(read_limits(reader)?)),
        kind::RULES_CHANGED => Event::RulesChanged,
        kind::RENEW => Event::RenewAdmissions,
        kind::DISCONNECT => Event::Disconnect(reader.text()?),
        kind::CHECK => Event::Check(u64::from_le_bytes(reader.array()?)),
        kind::END => Event::End(Ended::from_code(reader.byte()?).ok_or(Damaged)?),
        _ => return Err(Damaged),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> ConnectionId {
        ConnectionId::from_bits(number)
    }

    /// Writes packets, and reads them again; gives the bytes that it took as well.
    fn check(packets: &[(u64, &[u8], usize)]) -> usize {
        let mut pen = Pen::default();
        for (number, bytes, masked) in packets {
            pen.packet(id(*number), Frame::new(bytes, *masked));
        }
        let mut block = Vec::new();
        pen.take(&mut block);
        let (mut scan, mut reader) = (Scan::default(), Reader::new(&block));
        for (number, bytes, masked) in packets {
            let read = scan.next(&mut reader).unwrap();
            let Some(Event::Packet(from, frame)) = read else {
                panic!("{read:?} is no packet");
            };
            assert_eq!((from, frame), (id(*number), Frame::new(bytes, *masked)));
        }
        assert!(scan.next(&mut reader).unwrap().is_none());
        block.len()
    }

    #[test]
    fn a_packet_that_comes_again_is_a_byte() {
        let one = check(&[(1, b"one", 0)]);
        assert_eq!(check(&[(1, b"one".as_slice(), 0); 100]), one + 99);
        // What is left out of it may be another.
        assert_eq!(check(&[(1, b"one1", 1), (1, b"one2", 1)]), one + 1);
    }

    #[test]
    fn a_packet_that_is_another_is_written_whole() {
        check(&[(1, b"one", 0), (1, b"two", 0), (1, b"one", 0)]);
        check(&[(1, b"one", 0), (1, b"one11", 2), (1, b"one1", 0)]);
        check(&[(1, b"one", 0), (2, b"one", 0), (2, b"on", 0)]);
        check(&[(1, b"", 0), (1, b"", 0), (1, b"1", 1), (1, b"", 0)]);
    }

    #[test]
    fn a_block_is_read_without_those_before_it() {
        let mut pen = Pen::default();
        let mut blocks = [Vec::new(), Vec::new()];
        for block in &mut blocks {
            pen.packet(id(1), Frame::new(b"one", 0));
            pen.take(block);
        }
        let again = [kind::AGAIN | kind::SAME];
        let mut scan = Scan::default();
        for block in &blocks {
            scan.begin_block();
            assert_eq!(scan.next(&mut Reader::new(&again)).err(), Some(Damaged));
            let read = scan.next(&mut Reader::new(block)).unwrap();
            assert!(matches!(read, Some(Event::Packet(..))), "{read:?}");
        }
    }
}
