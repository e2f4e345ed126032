//! The journal: what every group commit changed in queues, as one record a group.
//!
//! Queues are not keyed by session: neighbours in time are far apart in such a table, and every commit would write a page
//! for each of them. They are replayed from the journal into the [index](crate::index) instead. The oldest records are
//! cleaned: what of them still counts is written again at the end, so that the journal stays at most about twice as long as
//! what it says. Since an op can only undo what an older one did, what is not an entry or an id that is still there is
//! forgotten with the record that holds it.

use paloma_broker::store::{Mark, MessageId, QueueEntry, SessionId};
use paloma_broker::wire::{Damaged, Reader, put_bytes, put_number};
use paloma_codec::{PacketId, SubscriptionId};
use paloma_session::Wall;

use crate::rows::qos;

/// One change of a queue or of a client's QoS 2 ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum JournalOp {
    Enqueue(SessionId, QueueEntry, Option<Flight>),
    Dequeue(SessionId, MessageId),
    Assign(SessionId, MessageId, Flight),
    PutReceived(SessionId, PacketId),
    DeleteReceived(SessionId, PacketId),
}

/// How far a delivery has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flight {
    pub(crate) packet: PacketId,
    /// PUBREC was seen.
    pub(crate) is_received: bool,
}

const ENQUEUE: u8 = 0;
const DEQUEUE: u8 = 1;
const ASSIGN: u8 = 2;
const ASSIGN_RECEIVED: u8 = 3;
const PUT_RECEIVED: u8 = 4;
const DELETE_RECEIVED: u8 = 5;
const KIND: u8 = 0x07;

// Of an ENQUEUE's first byte.
const QOS_SHIFT: u32 = 3;
const RETAIN: u8 = 0x20;
const IN_FLIGHT: u8 = 0x40;
const EXTRA: u8 = 0x80;

pub(crate) fn put_mark(out: &mut Vec<u8>, mark: &Mark) {
    put_number(out, mark.message.0);
    put_number(out, mark.session.0);
    put_number(out, mark.wall.as_millis());
}

pub(crate) fn put_op(out: &mut Vec<u8>, op: &JournalOp) {
    match op {
        JournalOp::Enqueue(session, entry, flight) => {
            put_enqueue(out, *session, entry, *flight);
        }
        JournalOp::Dequeue(session, message) => {
            out.push(DEQUEUE);
            put_number(out, session.0);
            put_number(out, message.0);
        }
        JournalOp::Assign(session, message, flight) => {
            out.push(if flight.is_received {
                ASSIGN_RECEIVED
            } else {
                ASSIGN
            });
            put_number(out, session.0);
            put_number(out, message.0);
            put_packet(out, flight.packet);
        }
        JournalOp::PutReceived(session, packet) => {
            out.push(PUT_RECEIVED);
            put_number(out, session.0);
            put_packet(out, *packet);
        }
        JournalOp::DeleteReceived(session, packet) => {
            out.push(DELETE_RECEIVED);
            put_number(out, session.0);
            put_packet(out, *packet);
        }
    }
}

fn put_enqueue(out: &mut Vec<u8>, session: SessionId, entry: &QueueEntry, flight: Option<Flight>) {
    let has_extra = !entry.subscription_ids.is_empty() || entry.share.is_some();
    out.push(
        ENQUEUE
            | entry.qos.bits() << QOS_SHIFT
            | if entry.retain { RETAIN } else { 0 }
            | if flight.is_some() { IN_FLIGHT } else { 0 }
            | if has_extra { EXTRA } else { 0 },
    );
    put_number(out, session.0);
    put_number(out, entry.message.0);
    put_number(out, u64::from(entry.bytes));
    if let Some(flight) = flight {
        put_packet(out, flight.packet);
        out.push(u8::from(flight.is_received));
    }
    if has_extra {
        put_number(out, entry.subscription_ids.len() as u64);
        for id in &entry.subscription_ids {
            put_number(out, u64::from(id.get()));
        }
        // An empty string is no shared subscription.
        put_bytes(
            out,
            entry.share.as_ref().map_or(&[], |share| share.as_bytes()),
        );
    }
}

fn put_packet(out: &mut Vec<u8>, packet: PacketId) {
    out.extend_from_slice(&packet.get().to_le_bytes());
}

/// Reads the body of a record: its mark, and its ops one after the other.
#[derive(Debug)]
pub(crate) struct Ops<'a> {
    reader: Reader<'a>,
}

impl<'a> Ops<'a> {
    pub(crate) fn new(body: &'a [u8]) -> Result<(Mark, Self), Damaged> {
        let mut reader = Reader::new(body);
        let mark = Mark {
            message: MessageId(reader.number()?),
            session: SessionId(reader.number()?),
            wall: Wall::from_millis(reader.number()?),
        };
        Ok((mark, Self { reader }))
    }

    /// Reads ops that have no mark before them.
    pub(crate) fn behind_mark(ops: &'a [u8]) -> Self {
        Self {
            reader: Reader::new(ops),
        }
    }

    /// The first byte of the next op, if there is one.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.reader.peek()
    }

    /// For what stands between the ops and is none.
    pub(crate) fn reader(&mut self) -> &mut Reader<'a> {
        &mut self.reader
    }

    fn op(&mut self) -> Result<JournalOp, Damaged> {
        let first = self.reader.byte()?;
        let session = SessionId(self.reader.number()?);
        if first & KIND == ENQUEUE {
            return self.enqueue(first, session);
        }
        Ok(match first {
            DEQUEUE => JournalOp::Dequeue(session, self.message()?),
            ASSIGN | ASSIGN_RECEIVED => {
                let message = self.message()?;
                let flight = Flight {
                    packet: self.packet()?,
                    is_received: first == ASSIGN_RECEIVED,
                };
                JournalOp::Assign(session, message, flight)
            }
            PUT_RECEIVED => JournalOp::PutReceived(session, self.packet()?),
            DELETE_RECEIVED => JournalOp::DeleteReceived(session, self.packet()?),
            _ => return Err(Damaged),
        })
    }

    fn enqueue(&mut self, first: u8, session: SessionId) -> Result<JournalOp, Damaged> {
        let mut entry = QueueEntry {
            message: self.message()?,
            bytes: self.reader.small()?,
            qos: qos(first >> QOS_SHIFT & 3)?,
            retain: first & RETAIN != 0,
            subscription_ids: Vec::new(),
            share: None,
        };
        let mut flight = None;
        if first & IN_FLIGHT != 0 {
            flight = Some(Flight {
                packet: self.packet()?,
                is_received: self.reader.flag()?,
            });
        }
        if first & EXTRA != 0 {
            for _ in 0..self.reader.number()? {
                let id = SubscriptionId::new(self.reader.small()?).ok_or(Damaged)?;
                entry.subscription_ids.push(id);
            }
            entry.share = Some(self.reader.text()?).filter(|share| !share.is_empty());
        }
        Ok(JournalOp::Enqueue(session, entry, flight))
    }

    fn message(&mut self) -> Result<MessageId, Damaged> {
        self.reader.number().map(MessageId)
    }

    fn packet(&mut self) -> Result<PacketId, Damaged> {
        let bytes = [self.reader.byte()?, self.reader.byte()?];
        PacketId::new(u16::from_le_bytes(bytes)).ok_or(Damaged)
    }
}

impl Iterator for Ops<'_> {
    type Item = Result<JournalOp, Damaged>;

    /// The next op; nothing comes behind a damaged one.
    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.is_empty() {
            return None;
        }
        let op = self.op();
        if op.is_err() {
            self.reader = Reader::new(&[]);
        }
        Some(op)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytestring::ByteString;
    use paloma_codec::Qos;

    fn check(ops: &[JournalOp]) {
        let mark = Mark {
            message: MessageId(1 << 40),
            session: SessionId(9),
            wall: Wall::from_millis(1_700_000_000_000),
        };
        let mut body = Vec::new();
        put_mark(&mut body, &mark);
        for op in ops {
            put_op(&mut body, op);
        }
        let (read, read_ops) = Ops::new(&body).unwrap();
        assert_eq!(read, mark);
        assert_eq!(read_ops.collect::<Result<Vec<_>, _>>().unwrap(), ops);
        for len in 0..body.len() {
            let cut = Ops::new(&body[..len]).map(|(_, ops)| ops.collect::<Result<Vec<_>, _>>());
            let is_shorter = cut.is_ok_and(|cut| cut.is_ok_and(|cut| cut.len() == ops.len()));
            assert!(!is_shorter, "cut at {len}");
        }
    }

    #[test]
    fn ops_come_back() {
        let session = SessionId(70_000);
        let packet = PacketId::new(0xfffe).unwrap();
        let flight = Flight {
            packet,
            is_received: true,
        };
        let entry = QueueEntry {
            message: MessageId(u64::MAX),
            bytes: u32::MAX,
            qos: Qos::ExactlyOnce,
            retain: true,
            subscription_ids: vec![SubscriptionId::new(SubscriptionId::MAX).unwrap()],
            share: Some(ByteString::from("$share/a/b")),
        };
        let plain = QueueEntry {
            subscription_ids: Vec::new(),
            share: None,
            qos: Qos::AtMostOnce,
            retain: false,
            message: entry.message,
            bytes: 0,
        };
        check(&[
            JournalOp::Enqueue(session, entry, Some(flight)),
            JournalOp::Enqueue(session, plain, None),
            JournalOp::Dequeue(session, MessageId(5)),
            JournalOp::Assign(session, MessageId(6), flight),
            JournalOp::PutReceived(session, packet),
            JournalOp::DeleteReceived(session, packet),
        ]);
    }
}
