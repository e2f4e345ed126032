//! What is known of the store without reading it: the queues of all sessions, and who needs which message.

use std::collections::{BTreeMap, VecDeque};

use bytestring::ByteString;
use hashbrown::HashMap;
use paloma_broker::store::{MessageId, QueueEntry, QueueSummary, SessionId};
use paloma_codec::{PacketId, Qos, SubscriptionId};

use crate::journal::{Flight, JournalOp};
use crate::references::References;
use crate::rows::FanOutRow;

/// What a table entry costs beside its own bytes, with the room that tables keep free.
const TABLE_SHARE: u64 = 2;

/// About how long an entry and an id are in the journal.
const ENTRY_JOURNAL_BYTES: u64 = 14;
const RECEIVED_JOURNAL_BYTES: u64 = 6;

type Map<T> = HashMap<u64, T, foldhash::fast::FixedState>;

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Index {
    sessions: Map<Session>,
    messages: References,
    pub(crate) retained: BTreeMap<ByteString, MessageId>,
    pub(crate) fan_outs: BTreeMap<MessageId, FanOutRow>,
    /// No message that was ever there has a higher number.
    newest: MessageId,
    totals: Totals,
}

#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    entries: u64,
    extras: u64,
    received: u64,
    page_bytes: u64,
}

/// A session's queue and its client's QoS 2 ids.
#[derive(Debug, Default)]
pub(crate) struct Session {
    /// In ascending order of messages.
    queue: VecDeque<Slot>,
    /// What few entries have.
    extras: BTreeMap<MessageId, Extra>,
    /// In ascending order.
    received: Vec<PacketId>,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    message: MessageId,
    bytes: u32,
    packet: Option<PacketId>,
    /// The QoS in the lowest bits, and the flags below.
    flags: u8,
}

const QOS: u8 = 0x03;
const IS_RETAIN: u8 = 0x04;
const IS_RECEIVED: u8 = 0x08;
const HAS_EXTRA: u8 = 0x10;

#[derive(Debug)]
struct Extra {
    subscription_ids: Box<[SubscriptionId]>,
    share: Option<ByteString>,
}

impl Index {
    pub(crate) fn add_session(&mut self, id: SessionId) {
        self.sessions.entry(id.0).or_default();
    }

    pub(crate) fn has_session(&self, id: SessionId) -> bool {
        self.sessions.contains_key(&id.0)
    }

    pub(crate) fn session(&self, id: SessionId) -> Option<&Session> {
        self.sessions.get(&id.0)
    }

    /// The numbers of all sessions, in ascending order.
    pub(crate) fn session_ids(&self) -> Vec<SessionId> {
        let mut ids: Vec<_> = self.sessions.keys().map(|id| SessionId(*id)).collect();
        ids.sort_unstable();
        ids
    }

    /// Forgets a session; `freed` gets the messages that nobody needs any more.
    pub(crate) fn remove_session(&mut self, id: SessionId, freed: &mut Vec<MessageId>) -> bool {
        let Some(session) = self.sessions.remove(&id.0) else {
            return false;
        };
        self.totals.entries -= session.queue.len() as u64;
        self.totals.extras -= session.extras.len() as u64;
        self.totals.received -= session.received.len() as u64;
        for slot in session.queue {
            self.release(slot.message, freed);
        }
        true
    }

    pub(crate) fn has_message(&self, id: MessageId) -> bool {
        id <= self.newest && self.messages.contains(id)
    }

    /// No message that was ever there has a higher number.
    pub(crate) fn newest(&self) -> MessageId {
        self.newest
    }

    /// Counts one more who needs a message.
    pub(crate) fn refer(&mut self, id: MessageId, bytes: u32) {
        self.newest = self.newest.max(id);
        if self.messages.add(id, bytes) {
            self.totals.page_bytes += page_bytes(bytes);
        }
    }

    /// Counts one less; `freed` gets the message if it was the last.
    pub(crate) fn release(&mut self, id: MessageId, freed: &mut Vec<MessageId>) {
        if let Some(bytes) = self.messages.remove(id) {
            self.totals.page_bytes -= page_bytes(bytes);
            freed.push(id);
        }
    }

    /// Applies an op; false if it changes nothing. For an entry, the message must be there or be what `refer` may count.
    pub(crate) fn apply(&mut self, op: &JournalOp, freed: &mut Vec<MessageId>) -> bool {
        match op {
            JournalOp::Enqueue(session, entry, flight) => self.enqueue(*session, entry, *flight),
            JournalOp::Dequeue(session, message) => self.dequeue(*session, *message, freed),
            JournalOp::Assign(session, message, flight) => {
                let session = self.sessions.get_mut(&session.0);
                session.is_some_and(|session| session.assign(*message, *flight))
            }
            JournalOp::PutReceived(session, packet) => {
                let Some(session) = self.sessions.get_mut(&session.0) else {
                    return false;
                };
                let Err(at) = session.received.binary_search(packet) else {
                    return false;
                };
                session.received.insert(at, *packet);
                self.totals.received += 1;
                true
            }
            JournalOp::DeleteReceived(session, packet) => {
                let Some(session) = self.sessions.get_mut(&session.0) else {
                    return false;
                };
                let Ok(at) = session.received.binary_search(packet) else {
                    return false;
                };
                session.received.remove(at);
                self.totals.received -= 1;
                true
            }
        }
    }

    /// Whether an op of an old journal record still says something, and as what it is to be written again.
    pub(crate) fn still_counts(&self, op: JournalOp) -> Option<JournalOp> {
        match op {
            JournalOp::Enqueue(session, entry, _) => {
                let slot = self.session(session)?.slot(entry.message)?;
                Some(JournalOp::Enqueue(session, entry, slot.flight()))
            }
            JournalOp::PutReceived(session, packet) => {
                let received = &self.session(session)?.received;
                received
                    .binary_search(&packet)
                    .is_ok()
                    .then_some(JournalOp::PutReceived(session, packet))
            }
            JournalOp::Dequeue(..) | JournalOp::Assign(..) | JournalOp::DeleteReceived(..) => None,
        }
    }

    fn enqueue(&mut self, id: SessionId, entry: &QueueEntry, flight: Option<Flight>) -> bool {
        let Some(session) = self.sessions.get_mut(&id.0) else {
            return false;
        };
        let place = session.place(entry.message);
        let Err(at) = place else {
            return false;
        };
        let extra = (!entry.subscription_ids.is_empty() || entry.share.is_some()).then(|| Extra {
            subscription_ids: entry.subscription_ids.as_slice().into(),
            share: entry.share.clone(),
        });
        let slot = Slot {
            message: entry.message,
            bytes: entry.bytes,
            packet: flight.map(|flight| flight.packet),
            flags: entry.qos.bits()
                | flag(IS_RETAIN, entry.retain)
                | flag(IS_RECEIVED, flight.is_some_and(|flight| flight.is_received))
                | flag(HAS_EXTRA, extra.is_some()),
        };
        session.queue.insert(at, slot);
        if let Some(extra) = extra {
            session.extras.insert(entry.message, extra);
            self.totals.extras += 1;
        }
        self.totals.entries += 1;
        self.refer(entry.message, entry.bytes);
        true
    }

    fn dequeue(&mut self, id: SessionId, message: MessageId, freed: &mut Vec<MessageId>) -> bool {
        let Some(session) = self.sessions.get_mut(&id.0) else {
            return false;
        };
        let Ok(at) = session.place(message) else {
            return false;
        };
        let slot = session.queue.remove(at);
        if slot.is_some_and(|slot| slot.has(HAS_EXTRA)) {
            session.extras.remove(&message);
            self.totals.extras -= 1;
        }
        if session.queue.is_empty() {
            // A queue that was drained gives its memory back.
            session.queue = VecDeque::new();
        }
        self.totals.entries -= 1;
        self.release(message, freed);
        true
    }

    pub(crate) fn message_count(&self) -> u64 {
        self.messages.len()
    }

    /// Bytes of the pages that all messages need, about.
    pub(crate) fn page_bytes(&self) -> u64 {
        self.totals.page_bytes
    }

    pub(crate) fn entry_count(&self) -> u64 {
        self.totals.entries
    }

    pub(crate) fn session_count(&self) -> u64 {
        self.sessions.len() as u64
    }

    /// About how long a journal would be that holds nothing but what still counts.
    pub(crate) fn journal_bytes(&self) -> u64 {
        self.totals.entries * ENTRY_JOURNAL_BYTES + self.totals.received * RECEIVED_JOURNAL_BYTES
    }

    /// Bytes of memory, about.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let of = |count: u64, size: usize| count * size as u64 * TABLE_SHARE;
        of(self.totals.entries, size_of::<Slot>())
            + of(self.totals.extras, size_of::<Extra>() + 48)
            + of(self.totals.received, size_of::<PacketId>())
            + self.messages.memory_bytes() * TABLE_SHARE
            + of(self.session_count(), size_of::<Session>() + 8)
            + of(self.retained.len() as u64, 96)
    }
}

impl Session {
    pub(crate) fn received(&self) -> &[PacketId] {
        &self.received
    }

    /// Entries with a packet id, in ascending order of messages.
    pub(crate) fn flights(&self) -> impl Iterator<Item = (QueueEntry, Flight)> {
        self.queue
            .iter()
            .filter_map(|slot| Some((self.entry(slot), slot.flight()?)))
    }

    /// Entries without one behind `after`, in ascending order.
    pub(crate) fn waiting_after(&self, after: MessageId) -> impl Iterator<Item = QueueEntry> {
        let from = self.queue.partition_point(|slot| slot.message <= after);
        self.queue
            .range(from..)
            .filter(|slot| slot.packet.is_none())
            .map(|slot| self.entry(slot))
    }

    /// The sum over entries without one; `None` over none.
    pub(crate) fn summary(&self) -> Option<QueueSummary> {
        let mut sum: Option<QueueSummary> = None;
        for slot in self.queue.iter().filter(|slot| slot.packet.is_none()) {
            let sum = sum.get_or_insert(QueueSummary {
                count: 0,
                bytes: 0,
                first: slot.message,
                last: slot.message,
            });
            sum.count += 1;
            sum.bytes += u64::from(slot.bytes);
            sum.last = slot.message;
        }
        sum
    }

    /// All entries, with or without.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (QueueEntry, Option<Flight>)> {
        self.queue
            .iter()
            .map(|slot| (self.entry(slot), slot.flight()))
    }

    /// Takes out the entry of a message.
    pub(crate) fn entry_of(&self, message: MessageId) -> Option<(QueueEntry, Option<Flight>)> {
        let slot = self.slot(message)?;
        Some((self.entry(slot), slot.flight()))
    }

    fn entry(&self, slot: &Slot) -> QueueEntry {
        let extra = slot
            .has(HAS_EXTRA)
            .then(|| self.extras.get(&slot.message))
            .flatten();
        QueueEntry {
            message: slot.message,
            bytes: slot.bytes,
            qos: Qos::from_bits(slot.flags & QOS).unwrap_or_default(),
            retain: slot.has(IS_RETAIN),
            subscription_ids: extra.map_or_else(Vec::new, |extra| extra.subscription_ids.to_vec()),
            share: extra.and_then(|extra| extra.share.clone()),
        }
    }

    fn assign(&mut self, message: MessageId, flight: Flight) -> bool {
        let place = self.place(message).ok();
        let Some(slot) = place.and_then(|at| self.queue.get_mut(at)) else {
            return false;
        };
        slot.packet = Some(flight.packet);
        slot.flags = slot.flags & !IS_RECEIVED | flag(IS_RECEIVED, flight.is_received);
        true
    }

    fn slot(&self, message: MessageId) -> Option<&Slot> {
        self.queue.get(self.place(message).ok()?)
    }

    /// Where a message is, or would be.
    fn place(&self, message: MessageId) -> Result<usize, usize> {
        // Nearly everything happens at one of the ends.
        if self.queue.back().is_none_or(|slot| slot.message < message) {
            return Err(self.queue.len());
        }
        if self
            .queue
            .front()
            .is_some_and(|slot| slot.message == message)
        {
            return Ok(0);
        }
        self.queue
            .binary_search_by_key(&message, |slot| slot.message)
    }
}

impl Slot {
    fn flight(&self) -> Option<Flight> {
        self.packet.map(|packet| Flight {
            packet,
            is_received: self.has(IS_RECEIVED),
        })
    }

    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// What a message takes of pages: its share of one that is full of its like, or pages of its own, whose number is a power
/// of two.
fn page_bytes(message_bytes: u32) -> u64 {
    const PAGE: u64 = 4_096;
    const HEADER: u64 = 4;
    // Key, end of the value, checksum.
    const RECORD: u64 = 8 + 4 + 4;
    let record = u64::from(message_bytes) + RECORD;
    match (PAGE - HEADER) / record {
        0 | 1 => (record + HEADER).next_power_of_two().max(PAGE),
        fit => PAGE / fit,
    }
}

fn flag(flag: u8, is_set: bool) -> u8 {
    if is_set { flag } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_takes_its_share_of_a_page_or_pages_of_its_own() {
        for (bytes, taken) in [(0, 16), (200, 227), (2_030, 2_048), (2_031, 4_096)] {
            assert_eq!(page_bytes(bytes), taken, "{bytes}");
        }
        assert_eq!(page_bytes(4_076), 4_096);
        assert_eq!(page_bytes(4_077), 8_192);
        assert_eq!(page_bytes(60_000), 65_536);
    }

    #[test]
    fn a_waiting_entry_costs_sixteen_bytes() {
        assert_eq!(size_of::<Slot>(), 16);
    }
}
