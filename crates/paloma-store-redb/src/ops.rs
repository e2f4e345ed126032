//! The body of a record of the log: a mark, and changes as the core gave them.
//!
//! Those of queues look as in the [journal](crate::journal). A message stands once in a record, before what refers to it.

use paloma_broker::store::{Mark, MessageId, RetainedRecord, SessionId, StoreOp};
use paloma_broker::wire::{Damaged, Reader, put_bytes, put_number, put_option, put_text};
use paloma_codec::Message;

use crate::journal::{self, Flight, JournalOp, Ops, put_mark};
use crate::log::HEADER;
use crate::rows::{self, FanOutRow};

/// What the lowest bits of the first byte are, where it is none of the journal's.
const ROW: u8 = 6;
const KIND: u8 = 0x07;
const KIND_BITS: u32 = 3;

// What the bits above are then.
const PUT_MESSAGE: u8 = 0;
const PUT_SESSION: u8 = 1;
const DELETE_SESSION: u8 = 2;
const PUT_SUBSCRIPTION: u8 = 3;
const DELETE_SUBSCRIPTION: u8 = 4;
const PUT_WILL: u8 = 5;
const DELETE_WILL: u8 = 6;
/// The message stands before it.
const PUT_RETAINED: u8 = 7;
const PUT_RETAINED_MESSAGE: u8 = 8;
const DELETE_RETAINED: u8 = 9;
const PUT_FAN_OUT: u8 = 10;
const ADVANCE_FAN_OUT: u8 = 11;
const DELETE_FAN_OUT: u8 = 12;

/// A record while it is being made.
#[derive(Debug, Default)]
pub(crate) struct Sheet {
    /// Room for the header, then the body.
    pub(crate) bytes: Vec<u8>,
    limit: usize,
    is_over: bool,
}

impl Sheet {
    /// Begins a record of at most so many bytes; with none, there will be no record.
    pub(crate) fn begin(&mut self, mark: &Mark, limit: usize) {
        self.bytes.clear();
        self.bytes.resize(HEADER, 0);
        put_mark(&mut self.bytes, mark);
        self.limit = limit;
        self.is_over = limit == 0;
    }

    /// Whether more was put than may be in it; what it holds is of no use then.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Adds a change. `is_there` says of a retained message that it stands in the record already.
    pub(crate) fn put(&mut self, op: &StoreOp, is_there: bool) {
        let message_bytes = if let StoreOp::PutMessage(message) = op {
            message.len()
        } else if let StoreOp::PutRetained(record) = op
            && !is_there
        {
            record.message.len()
        } else {
            0
        };
        self.is_over |= self.bytes.len().saturating_add(message_bytes) > self.limit;
        if self.is_over {
            return;
        }
        put_op(&mut self.bytes, op, is_there);
        self.is_over = self.bytes.len() > self.limit;
    }
}

fn put_op(out: &mut Vec<u8>, op: &StoreOp, is_there: bool) {
    if let Some(op) = journal_op(op) {
        journal::put_op(out, &op);
        return;
    }
    match op {
        StoreOp::PutMessage(message) => {
            put_kind(out, PUT_MESSAGE);
            put_bytes(out, message.as_bytes());
        }
        StoreOp::PutSession(id, record) => {
            put_kind(out, PUT_SESSION);
            put_number(out, id.0);
            put_nested(out, |out| rows::put_session(out, record));
        }
        StoreOp::DeleteSession(id) => put_id(out, DELETE_SESSION, id.0),
        StoreOp::PutSubscription(id, record) => {
            put_kind(out, PUT_SUBSCRIPTION);
            put_number(out, id.0);
            put_text(out, &record.filter);
            put_nested(out, |out| rows::put_subscription(out, record));
        }
        StoreOp::DeleteSubscription(id, filter) => {
            put_kind(out, DELETE_SUBSCRIPTION);
            put_number(out, id.0);
            put_text(out, filter);
        }
        StoreOp::PutWill(id, record) => {
            put_kind(out, PUT_WILL);
            put_number(out, id.0);
            put_nested(out, |out| rows::put_will(out, record));
        }
        StoreOp::DeleteWill(id) => put_id(out, DELETE_WILL, id.0),
        StoreOp::PutRetained(record) => put_retained(out, record, is_there),
        StoreOp::DeleteRetained(topic) => {
            put_kind(out, DELETE_RETAINED);
            put_text(out, topic);
        }
        StoreOp::PutFanOut(record) => {
            put_id(out, PUT_FAN_OUT, record.message.0);
            let row = FanOutRow {
                record: record.clone(),
                after: None,
                bytes: 0,
            };
            put_nested(out, |out| rows::put_fan_out(out, &row));
        }
        StoreOp::AdvanceFanOut(message, after) => {
            put_id(out, ADVANCE_FAN_OUT, message.0);
            put_number(out, after.0);
        }
        StoreOp::DeleteFanOut(message) => put_id(out, DELETE_FAN_OUT, message.0),
        // The journal's.
        StoreOp::Enqueue(..)
        | StoreOp::Dequeue(..)
        | StoreOp::Assign(..)
        | StoreOp::MarkReceived(..)
        | StoreOp::PutReceived(..)
        | StoreOp::DeleteReceived(..) => {}
    }
}

fn put_retained(out: &mut Vec<u8>, record: &RetainedRecord, is_there: bool) {
    if is_there {
        put_id(out, PUT_RETAINED, record.message.id());
    } else {
        put_kind(out, PUT_RETAINED_MESSAGE);
        put_bytes(out, record.message.as_bytes());
    }
    out.push(record.qos.bits());
    put_option(out, record.author.as_ref(), rows::put_owner);
}

fn put_kind(out: &mut Vec<u8>, kind: u8) {
    out.push(ROW | kind << KIND_BITS);
}

fn put_id(out: &mut Vec<u8>, kind: u8, id: u64) {
    put_kind(out, kind);
    put_number(out, id);
}

fn put_nested(out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>)) {
    let mut nested = Vec::new();
    put(&mut nested);
    put_bytes(out, &nested);
}

/// Reads the body of a record.
pub(crate) fn read(body: &[u8]) -> Result<(Mark, Vec<StoreOp>), Damaged> {
    let (mark, mut queue) = Ops::new(body)?;
    let mut ops = Vec::new();
    while let Some(first) = queue.peek() {
        let op = if first & KIND == ROW {
            row_op(queue.reader(), &ops)?
        } else {
            store_op(queue.next().ok_or(Damaged)??)?
        };
        ops.push(op);
    }
    Ok((mark, ops))
}

fn row_op(reader: &mut Reader<'_>, before: &[StoreOp]) -> Result<StoreOp, Damaged> {
    let session = |reader: &mut Reader<'_>| reader.number().map(SessionId);
    let message = |reader: &mut Reader<'_>| reader.number().map(MessageId);
    Ok(match reader.byte()? >> KIND_BITS {
        PUT_MESSAGE => StoreOp::PutMessage(rows::message(reader.bytes()?)?),
        PUT_SESSION => StoreOp::PutSession(session(reader)?, rows::session(reader.bytes()?)?),
        DELETE_SESSION => StoreOp::DeleteSession(session(reader)?),
        PUT_SUBSCRIPTION => {
            let id = session(reader)?;
            let filter = reader.text()?;
            StoreOp::PutSubscription(id, rows::subscription(&filter, reader.bytes()?)?)
        }
        DELETE_SUBSCRIPTION => StoreOp::DeleteSubscription(session(reader)?, reader.text()?),
        PUT_WILL => StoreOp::PutWill(session(reader)?, rows::will(reader.bytes()?)?),
        DELETE_WILL => StoreOp::DeleteWill(session(reader)?),
        PUT_RETAINED => {
            let id = message(reader)?;
            let message = put_before(before, id).ok_or(Damaged)?.clone();
            retained(reader, message)?
        }
        PUT_RETAINED_MESSAGE => {
            let message = rows::message(reader.bytes()?)?;
            retained(reader, message)?
        }
        DELETE_RETAINED => StoreOp::DeleteRetained(reader.text()?),
        PUT_FAN_OUT => {
            let id = message(reader)?;
            StoreOp::PutFanOut(rows::fan_out(id, reader.bytes()?)?.record)
        }
        ADVANCE_FAN_OUT => StoreOp::AdvanceFanOut(message(reader)?, session(reader)?),
        DELETE_FAN_OUT => StoreOp::DeleteFanOut(message(reader)?),
        _ => return Err(Damaged),
    })
}

fn retained(reader: &mut Reader<'_>, message: Message) -> Result<StoreOp, Damaged> {
    Ok(StoreOp::PutRetained(RetainedRecord {
        message,
        qos: rows::qos(reader.byte()?)?,
        author: reader.option(rows::owner)?,
    }))
}

/// The message that stands in the same record, nearly always close before.
fn put_before(ops: &[StoreOp], id: MessageId) -> Option<&Message> {
    ops.iter().rev().find_map(|op| {
        if let StoreOp::PutMessage(message) = op {
            Some(message).filter(|message| message.id() == id.0)
        } else {
            None
        }
    })
}

/// What the journal says of a change of a queue or of QoS 2 ids.
pub(crate) fn journal_op(op: &StoreOp) -> Option<JournalOp> {
    let assign = |session, message, packet, is_received| {
        let flight = Flight {
            packet,
            is_received,
        };
        Some(JournalOp::Assign(session, message, flight))
    };
    match op {
        StoreOp::Enqueue(session, entry) => Some(JournalOp::Enqueue(*session, entry.clone(), None)),
        StoreOp::Dequeue(session, message) => Some(JournalOp::Dequeue(*session, *message)),
        StoreOp::Assign(session, message, packet) => assign(*session, *message, *packet, false),
        StoreOp::MarkReceived(session, message, packet) => {
            assign(*session, *message, *packet, true)
        }
        StoreOp::PutReceived(session, packet) => Some(JournalOp::PutReceived(*session, *packet)),
        StoreOp::DeleteReceived(session, packet) => {
            Some(JournalOp::DeleteReceived(*session, *packet))
        }
        StoreOp::PutMessage(_)
        | StoreOp::PutSession(..)
        | StoreOp::DeleteSession(_)
        | StoreOp::PutSubscription(..)
        | StoreOp::DeleteSubscription(..)
        | StoreOp::PutWill(..)
        | StoreOp::DeleteWill(_)
        | StoreOp::PutRetained(_)
        | StoreOp::DeleteRetained(_)
        | StoreOp::PutFanOut(_)
        | StoreOp::AdvanceFanOut(..)
        | StoreOp::DeleteFanOut(_) => None,
    }
}

/// The way back. No op of the core's has an entry that is on its way already.
fn store_op(op: JournalOp) -> Result<StoreOp, Damaged> {
    Ok(match op {
        JournalOp::Enqueue(session, entry, None) => StoreOp::Enqueue(session, entry),
        JournalOp::Enqueue(_, _, Some(_)) => return Err(Damaged),
        JournalOp::Dequeue(session, message) => StoreOp::Dequeue(session, message),
        JournalOp::Assign(session, message, flight) if flight.is_received => {
            StoreOp::MarkReceived(session, message, flight.packet)
        }
        JournalOp::Assign(session, message, flight) => {
            StoreOp::Assign(session, message, flight.packet)
        }
        JournalOp::PutReceived(session, packet) => StoreOp::PutReceived(session, packet),
        JournalOp::DeleteReceived(session, packet) => StoreOp::DeleteReceived(session, packet),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytestring::ByteString;
    use paloma_broker::store::{
        FanOutRecord, Owner, QueueEntry, SessionRecord, SubscriptionRecord, WillRecord,
    };
    use paloma_codec::{MessageParts, PacketId, PublishProperties, Qos, SubscriptionId};
    use paloma_session::Wall;
    use paloma_topic::TopicNameRef;
    use proptest::prelude::*;

    fn message(id: u64, payload: &[u8]) -> Message {
        let parts = MessageParts {
            id,
            stamp: id,
            topic: TopicNameRef::new("a/b").unwrap(),
            properties: &PublishProperties::default(),
            payload,
        };
        Message::new(&parts, &mut Vec::new()).unwrap()
    }

    /// An op of each kind, made of small numbers.
    fn op((kind, id, number): (u8, u64, u16)) -> StoreOp {
        let session = SessionId(id);
        let other = MessageId(id / 3);
        let text = ByteString::from(format!("t/{number}"));
        let packet = PacketId::new(number.max(1)).unwrap();
        let is_odd = number & 1 == 1;
        let owner = Owner {
            client_id: text.clone(),
            user: is_odd.then(|| "user".into()),
            has_own_rules: is_odd,
        };
        let wall = is_odd.then(|| Wall::from_millis(id));
        let qos = Qos::from_bits(u8::try_from(number % 3).unwrap()).unwrap();
        match kind % 19 {
            0 => StoreOp::PutMessage(message(id, &vec![7; usize::from(number % 300)])),
            1 => StoreOp::Enqueue(
                session,
                QueueEntry {
                    message: other,
                    bytes: u32::from(number),
                    qos,
                    retain: is_odd,
                    subscription_ids: is_odd
                        .then(|| SubscriptionId::new(u32::from(number)).unwrap())
                        .into_iter()
                        .collect(),
                    share: (number & 2 == 2).then(|| text.clone()),
                },
            ),
            2 => StoreOp::Dequeue(session, other),
            3 => StoreOp::Assign(session, other, packet),
            4 => StoreOp::MarkReceived(session, other, packet),
            5 => StoreOp::PutReceived(session, packet),
            6 => StoreOp::DeleteReceived(session, packet),
            7 => StoreOp::PutSession(
                session,
                SessionRecord {
                    owner,
                    expiry_seconds: u32::from(number),
                    disconnected_at: wall,
                    maybe_sent: other,
                },
            ),
            8 => StoreOp::DeleteSession(session),
            9 => StoreOp::PutSubscription(
                session,
                SubscriptionRecord {
                    filter: text,
                    options: 3,
                    id: SubscriptionId::new(u32::from(number)),
                    replay_after: number
                        .is_multiple_of(3)
                        .then(|| format!("after/{number}").into()),
                },
            ),
            10 => StoreOp::DeleteSubscription(session, text),
            11 => StoreOp::PutWill(
                session,
                WillRecord {
                    message: message(0, b"gone"),
                    qos,
                    retain: is_odd,
                    delay_seconds: 5,
                    due_at: wall,
                },
            ),
            12 => StoreOp::DeleteWill(session),
            13 | 14 => StoreOp::PutRetained(RetainedRecord {
                message: message(id, b"kept"),
                qos,
                author: is_odd.then_some(owner),
            }),
            15 => StoreOp::DeleteRetained(text),
            16 => StoreOp::PutFanOut(FanOutRecord {
                message: other,
                qos,
                retain: is_odd,
                origin: is_odd.then_some(session),
                sessions_until: session,
            }),
            17 => StoreOp::AdvanceFanOut(other, session),
            _ => StoreOp::DeleteFanOut(other),
        }
    }

    /// Writes ops down and reads them; the message of every second retained one stands before it.
    fn check(seeds: &[(u8, u64, u16)]) {
        let mark = Mark {
            message: MessageId(1 << 40),
            session: SessionId(9),
            wall: Wall::from_millis(1_700_000_000_000),
        };
        let mut sheet = Sheet::default();
        sheet.begin(&mark, usize::MAX);
        let mut expected = Vec::new();
        let mut ends = Vec::new();
        let mut put = |op: StoreOp, is_there: bool| {
            sheet.put(&op, is_there);
            expected.push(format!("{op:?}"));
            ends.push(sheet.bytes.len());
        };
        for seed in seeds {
            let op = op(*seed);
            let is_there = seed.0 % 19 == 14;
            if let StoreOp::PutRetained(record) = &op
                && is_there
            {
                put(StoreOp::PutMessage(record.message.clone()), false);
            }
            put(op, is_there);
        }
        let (read_mark, ops) = read(&sheet.bytes[HEADER..]).unwrap();
        assert_eq!(read_mark, mark);
        let ops: Vec<String> = ops.iter().map(|op| format!("{op:?}")).collect();
        assert_eq!(ops, expected);
        // Cut anywhere it is damaged, or shorter by whole ops.
        for len in HEADER..sheet.bytes.len() {
            if let Ok((_, ops)) = read(&sheet.bytes[HEADER..len]) {
                let is_between = ends.contains(&len) || ops.is_empty();
                assert!(is_between, "cut at {len}");
            }
        }
    }

    #[test]
    fn an_op_of_each_kind_comes_back() {
        let seeds: Vec<(u8, u64, u16)> = (0..19)
            .flat_map(|kind| [(kind, 70_000, 1_001), (kind, u64::MAX, 2), (kind, 0, 3)])
            .collect();
        check(&seeds);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn ops_come_back_in_their_order(
            seeds in prop::collection::vec((any::<u8>(), any::<u64>(), any::<u16>()), 0..20)
        ) {
            check(&seeds);
        }
    }

    #[test]
    fn more_than_may_be_in_a_record_is_no_record() {
        let mut sheet = Sheet::default();
        sheet.begin(&Mark::default(), 200);
        sheet.put(&StoreOp::PutMessage(message(1, &[7; 50])), false);
        assert!(!sheet.is_over());
        sheet.put(&StoreOp::PutMessage(message(2, &[7; 500])), false);
        assert!(sheet.is_over() && sheet.bytes.len() <= 200);
        sheet.begin(&Mark::default(), 0);
        assert!(sheet.is_over());
    }
}
