//! Batches that are not in the engine's file, as what they change in all: what came and went meanwhile is never written.

use std::collections::BTreeMap;

use bytestring::ByteString;
use hashbrown::HashMap;
use paloma_broker::store::{
    FanOutRecord, MessageId, QueueEntry, RetainedRecord, SessionId, StoreOp, SubscriptionRecord,
};
use paloma_codec::{Message, PacketId};
use redb::WriteTransaction;

use crate::engine::{FAN_OUTS, MESSAGES, RETAINED, Rows, SESSIONS, SUBSCRIPTIONS, WILLS};
use crate::index::Index;
use crate::journal::{JournalOp, Ops, put_op};
use crate::messages::{delete_messages, write_messages};
use crate::ops::{Sheet, journal_op};
use crate::record::{Kind, seal};
use crate::rows::{self, FanOutRow};

/// A row that comes or goes keeps the engine about as long as so many bytes of messages.
const ROW_BURDEN: u64 = 128;

/// Rows of one table that change; `None` is a row that goes.
type Changed<K> = BTreeMap<K, Option<Vec<u8>>>;

/// Changes that are in the index already and not in the file.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// Put, and perhaps needed by somebody.
    arriving: Messages,
    /// Needed, and not in the file.
    fresh: Messages,
    /// In the file, and needed by nobody.
    freed: Vec<MessageId>,
    sessions: Changed<u64>,
    wills: Changed<u64>,
    retained: Changed<u64>,
    fan_outs: Changed<u64>,
    subscriptions: Changed<(u64, ByteString)>,
    /// Sessions that were deleted, and how many ops of the journal came before.
    ended: Vec<(SessionId, usize)>,
    /// Ops of the journal, as they are written, and how many.
    journal: Vec<u8>,
    noted: usize,
    /// Some of them undo others.
    has_undone: bool,
    /// No message in the file, and no entry or row of one, has a higher number.
    since: MessageId,
}

impl Group {
    /// Nothing yet, beside a file that holds what the index says.
    pub(crate) fn beside(index: &Index) -> Self {
        Self {
            since: index.newest(),
            ..Self::default()
        }
    }

    /// Applies the changes of a batch, and puts those that are any on a record. False if none is.
    pub(crate) fn add(&mut self, ops: &[StoreOp], index: &mut Index, sheet: &mut Sheet) -> bool {
        let mut is_changed = false;
        for op in ops {
            if let StoreOp::PutMessage(message) = op {
                self.arriving.put(message);
                sheet.put(op, false);
                continue;
            }
            let is_there = matches!(op, StoreOp::PutRetained(record)
                if self.arriving.get(MessageId(record.message.id())).is_some());
            if self.apply(op, index) {
                is_changed = true;
                sheet.put(op, is_there);
            }
        }
        // Ops refer to what the same batch put.
        self.arriving.clear();
        is_changed
    }

    /// A message that somebody needs and that is not in the file.
    pub(crate) fn message(&self, id: MessageId) -> Option<&Message> {
        self.fresh.get(id)
    }

    /// Bytes of such messages.
    pub(crate) fn message_bytes(&self) -> u64 {
        self.fresh.bytes
    }

    /// What the engine's file will have to take over, in bytes of messages that would keep it as long.
    pub(crate) fn burden(&self) -> u64 {
        let rows = self.freed.len()
            + self.sessions.len()
            + self.wills.len()
            + self.retained.len()
            + self.fan_outs.len()
            + self.subscriptions.len();
        self.fresh.bytes.saturating_add(rows as u64 * ROW_BURDEN)
    }

    /// False if it changes nothing.
    fn apply(&mut self, op: &StoreOp, index: &mut Index) -> bool {
        match op {
            // It comes to something with what refers to it.
            StoreOp::PutMessage(_) => return false,
            StoreOp::Enqueue(session, entry) => {
                if !index.has_session(*session) || !self.arrives(entry.message, index) {
                    return false;
                }
                return journal_op(op).is_some_and(|op| self.note(index, &op));
            }
            StoreOp::Dequeue(..)
            | StoreOp::Assign(..)
            | StoreOp::MarkReceived(..)
            | StoreOp::PutReceived(..)
            | StoreOp::DeleteReceived(..) => {
                return journal_op(op).is_some_and(|op| self.note(index, &op));
            }
            StoreOp::PutSession(id, record) => {
                index.add_session(*id);
                let row = sealed(Kind::Session, id.0, |out| rows::put_session(out, record));
                self.sessions.insert(id.0, Some(row));
            }
            StoreOp::DeleteSession(id) => return self.delete_session(*id, index),
            StoreOp::PutSubscription(id, record) if index.has_session(*id) => {
                self.put_subscription(*id, record);
            }
            StoreOp::DeleteSubscription(id, filter) if index.has_session(*id) => {
                self.subscriptions.insert((id.0, filter.clone()), None);
            }
            StoreOp::PutWill(id, record) if index.has_session(*id) => {
                let row = sealed(Kind::Will, id.0, |out| rows::put_will(out, record));
                self.wills.insert(id.0, Some(row));
            }
            StoreOp::DeleteWill(id) if index.has_session(*id) => {
                self.wills.insert(id.0, None);
            }
            StoreOp::PutSubscription(..)
            | StoreOp::DeleteSubscription(..)
            | StoreOp::PutWill(..)
            | StoreOp::DeleteWill(_) => return false,
            StoreOp::PutRetained(record) => self.put_retained(record, index),
            StoreOp::DeleteRetained(topic) => {
                let Some(message) = index.retained.remove(topic) else {
                    return false;
                };
                forget(&mut self.retained, message, self.since);
                self.release(message, index);
            }
            StoreOp::PutFanOut(record) => return self.put_fan_out(record, index),
            StoreOp::AdvanceFanOut(message, after) => {
                let Some(row) = index.fan_outs.get_mut(message) else {
                    return false;
                };
                row.after = Some(*after);
                let row = sealed(Kind::FanOut, message.0, |out| rows::put_fan_out(out, row));
                self.fan_outs.insert(message.0, Some(row));
            }
            StoreOp::DeleteFanOut(message) => {
                if index.fan_outs.remove(message).is_none() {
                    return false;
                }
                forget(&mut self.fan_outs, *message, self.since);
                self.release(*message, index);
            }
        }
        true
    }

    /// Applies a change of a queue, and writes it down if it is one.
    fn note(&mut self, index: &mut Index, op: &JournalOp) -> bool {
        let mut freed = Vec::new();
        let is_changed = index.apply(op, &mut freed);
        if is_changed {
            put_op(&mut self.journal, op);
            self.noted += 1;
            self.has_undone |= matches!(op, JournalOp::Dequeue(..) | JournalOp::DeleteReceived(..));
        }
        self.free(freed);
        is_changed
    }

    /// Length of the ops of the journal, those of what came and went among them.
    pub(crate) fn journal_bytes(&self) -> u64 {
        self.journal.len() as u64
    }

    /// The ops of the journal, without those of what came and went. It looks at nothing else, so that the index may go on
    /// changing.
    pub(crate) fn journal(&self) -> Vec<u8> {
        if !self.has_undone {
            return self.journal.clone();
        }
        let undone = Undone::of(self);
        let mut kept = Vec::new();
        for (at, op) in self.ops() {
            if undone.leaves(at, &op, self.since) {
                put_op(&mut kept, &op);
            }
        }
        kept
    }

    fn ops(&self) -> impl Iterator<Item = (usize, JournalOp)> {
        (0..).zip(Ops::behind_mark(&self.journal).map_while(Result::ok))
    }

    /// Whether a message is there, or comes with this group; it is written then.
    fn arrives(&mut self, id: MessageId, index: &Index) -> bool {
        if index.has_message(id) {
            return true;
        }
        let Some(message) = self.arriving.get(id) else {
            return false;
        };
        self.fresh.put(message);
        true
    }

    fn release(&mut self, id: MessageId, index: &mut Index) {
        let mut freed = Vec::new();
        index.release(id, &mut freed);
        self.free(freed);
    }

    fn free(&mut self, freed: Vec<MessageId>) {
        for id in freed {
            if !self.fresh.remove(id) {
                self.freed.push(id);
            }
        }
    }

    fn delete_session(&mut self, id: SessionId, index: &mut Index) -> bool {
        let mut freed = Vec::new();
        if !index.remove_session(id, &mut freed) {
            return false;
        }
        self.has_undone = true;
        self.free(freed);
        self.sessions.insert(id.0, None);
        self.wills.insert(id.0, None);
        let from = (id.0, ByteString::new());
        let until = (id.0.saturating_add(1), ByteString::new());
        let mut later = self.subscriptions.split_off(&from);
        self.subscriptions.append(&mut later.split_off(&until));
        self.ended.push((id, self.noted));
        true
    }

    fn put_subscription(&mut self, id: SessionId, record: &SubscriptionRecord) {
        let mut row = Vec::new();
        let key = subscription_key(id.0, &record.filter);
        seal(Kind::Subscription, &key, &mut row, |out| {
            rows::put_subscription(out, record);
        });
        self.subscriptions
            .insert((id.0, record.filter.clone()), Some(row));
    }

    fn put_retained(&mut self, record: &RetainedRecord, index: &mut Index) {
        let id = MessageId(record.message.id());
        let topic = ByteString::from(record.message.topic().as_str());
        if index.retained.get(&topic) != Some(&id) {
            if self.arriving.get(id).is_none() {
                self.arriving.put(&record.message);
            }
            self.arrives(id, index);
            index.refer(id, length(&record.message));
        }
        if let Some(old) = index.retained.insert(topic, id).filter(|old| *old != id) {
            forget(&mut self.retained, old, self.since);
            self.release(old, index);
        }
        let row = sealed(Kind::Retained, id.0, |out| rows::put_retained(out, record));
        self.retained.insert(id.0, Some(row));
    }

    fn put_fan_out(&mut self, record: &FanOutRecord, index: &mut Index) -> bool {
        let id = record.message;
        if index.fan_outs.contains_key(&id) || !self.arrives(id, index) {
            return false;
        }
        let row = FanOutRow {
            record: record.clone(),
            after: None,
            bytes: self.arriving.get(id).map_or(0, length),
        };
        index.refer(id, row.bytes);
        let record = sealed(Kind::FanOut, id.0, |out| rows::put_fan_out(out, &row));
        self.fan_outs.insert(id.0, Some(record));
        index.fan_outs.insert(id, row);
        true
    }

    /// Writes everything but the journal.
    pub(crate) fn write(&self, transaction: &WriteTransaction) -> Result<(), redb::Error> {
        self.write_messages(transaction)?;
        if !self.ended.is_empty() || !self.subscriptions.is_empty() {
            let mut table = transaction.open_table(SUBSCRIPTIONS)?;
            for (id, _) in &self.ended {
                let until = id.0.saturating_add(1);
                table.retain_in((id.0, "")..(until, ""), |_, _| false)?;
            }
            for ((id, filter), row) in &self.subscriptions {
                match row {
                    Some(row) => drop(table.insert((*id, &**filter), row.as_slice())?),
                    None => drop(table.remove((*id, &**filter))?),
                }
            }
        }
        write_rows(transaction, SESSIONS, &self.sessions)?;
        write_rows(transaction, WILLS, &self.wills)?;
        write_rows(transaction, RETAINED, &self.retained)?;
        write_rows(transaction, FAN_OUTS, &self.fan_outs)
    }

    fn write_messages(&self, transaction: &WriteTransaction) -> Result<(), redb::Error> {
        if self.freed.is_empty() && self.fresh.is_empty() {
            return Ok(());
        }
        let mut table = transaction.open_table(MESSAGES)?;
        let mut freed = self.freed.clone();
        freed.sort_unstable();
        delete_messages(&mut table, &freed)?;
        write_messages(&mut table, self.fresh.count, self.fresh.iter())
    }
}

/// Where in a group's journal what was there before is undone for the last time.
struct Undone {
    entries: Map<(SessionId, MessageId)>,
    received: Map<(SessionId, PacketId)>,
    sessions: Map<SessionId>,
}

type Map<K> = HashMap<K, usize, foldhash::fast::FixedState>;

impl Undone {
    fn of(group: &Group) -> Self {
        let mut undone = Self {
            entries: Map::default(),
            received: Map::default(),
            sessions: group.ended.iter().copied().collect(),
        };
        for (at, op) in group.ops() {
            match op {
                JournalOp::Dequeue(id, message) => drop(undone.entries.insert((id, message), at)),
                JournalOp::DeleteReceived(id, packet) => {
                    undone.received.insert((id, packet), at);
                }
                JournalOp::Enqueue(..) | JournalOp::Assign(..) | JournalOp::PutReceived(..) => {}
            }
        }
        undone
    }

    /// Whether an op has to be in the file. An entry that is gone need not have come; that it went is for the file to know if it
    /// came before.
    fn leaves(&self, at: usize, op: &JournalOp, since: MessageId) -> bool {
        let is_last = |until: Option<&usize>| until.is_none_or(|until| at >= *until);
        let has_ended = |id: &SessionId| !is_last(self.sessions.get(id));
        match op {
            JournalOp::Enqueue(id, QueueEntry { message, .. }, _)
            | JournalOp::Assign(id, message, _) => {
                !has_ended(id) && is_last(self.entries.get(&(*id, *message)))
            }
            JournalOp::Dequeue(_, message) => *message <= since,
            JournalOp::PutReceived(id, packet) => {
                !has_ended(id) && is_last(self.received.get(&(*id, *packet)))
            }
            JournalOp::DeleteReceived(id, _) => !has_ended(id),
        }
    }
}

/// Messages in ascending order of their numbers, which is nearly always the order in which they come.
#[derive(Debug, Default)]
struct Messages {
    /// None where one has gone.
    places: Vec<(MessageId, Option<Message>)>,
    count: usize,
    bytes: u64,
}

impl Messages {
    /// Keeps a message, or has it again.
    fn put(&mut self, message: &Message) {
        let id = MessageId(message.id());
        let place = (id, Some(message.clone()));
        if self.places.last().is_none_or(|(last, _)| *last < id) {
            self.places.push(place);
        } else {
            match self.find(id) {
                Ok(at) => {
                    self.remove(id);
                    if let Some(old) = self.places.get_mut(at) {
                        *old = place;
                    }
                }
                Err(at) => self.places.insert(at, place),
            }
        }
        self.count += 1;
        self.bytes += message.len() as u64;
    }

    fn get(&self, id: MessageId) -> Option<&Message> {
        let last = self.places.last().filter(|(last, _)| *last == id);
        let place = last.or_else(|| self.places.get(self.find(id).ok()?))?;
        place.1.as_ref()
    }

    /// Whether it was there.
    fn remove(&mut self, id: MessageId) -> bool {
        let place = self.find(id).ok().and_then(|at| self.places.get_mut(at));
        let Some(message) = place.and_then(|(_, message)| message.take()) else {
            return false;
        };
        self.count -= 1;
        self.bytes -= message.len() as u64;
        true
    }

    fn clear(&mut self) {
        self.places.clear();
        self.count = 0;
        self.bytes = 0;
    }

    fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn iter(&self) -> impl Iterator<Item = (MessageId, &Message)> {
        let places = self.places.iter();
        places.filter_map(|(id, message)| Some((*id, message.as_ref()?)))
    }

    fn find(&self, id: MessageId) -> Result<usize, usize> {
        self.places.binary_search_by_key(&id, |(id, _)| *id)
    }
}

/// Has a row go. One that came with a message of this group is not in the file.
fn forget(changed: &mut Changed<u64>, message: MessageId, since: MessageId) {
    if message > since {
        changed.remove(&message.0);
    } else {
        changed.insert(message.0, None);
    }
}

fn write_rows(
    transaction: &WriteTransaction,
    table: Rows,
    changed: &Changed<u64>,
) -> Result<(), redb::Error> {
    if changed.is_empty() {
        return Ok(());
    }
    let mut table = transaction.open_table(table)?;
    for (key, row) in changed {
        match row {
            Some(row) => drop(table.insert(key, row.as_slice())?),
            None => drop(table.remove(key)?),
        }
    }
    Ok(())
}

fn sealed(kind: Kind, key: u64, body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut record = Vec::new();
    seal(kind, &key.to_be_bytes(), &mut record, body);
    record
}

/// The key of a subscription, for its checksum.
pub(crate) fn subscription_key(session: u64, filter: &str) -> Vec<u8> {
    let mut key = session.to_be_bytes().to_vec();
    key.extend_from_slice(filter.as_bytes());
    key
}

fn length(message: &Message) -> u32 {
    u32::try_from(message.len()).unwrap_or(u32::MAX)
}
