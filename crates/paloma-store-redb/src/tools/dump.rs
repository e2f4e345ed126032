//! Everything that a store holds, line by line, in an order in which it can be put back.

use paloma_broker::store::{
    FanOutRecord, Mark, MessageId, Owner, QueueEntry, RetainedRecord, SessionId, SessionRecord,
    Store, StoreBatch, StoreError, StoreOp, SubscriptionRecord, WillRecord,
};
use paloma_codec::{Message, PacketId, Qos};
use paloma_session::LogSeq;

use super::source::Source;
use crate::engine::{RETAINED, SESSIONS, WILLS};
use crate::group::subscription_key;
use crate::journal::Flight;
use crate::load::{Losses, MESSAGES_LOST, RETAINED_LOST, SUBSCRIPTIONS_LOST, WILLS_LOST};
use crate::record::{Kind, open};
use crate::rows;
use crate::store::RedbStore;

/// Ops of a batch, about.
const BATCH: usize = 512;

/// One thing.
#[derive(Clone, Debug)]
pub(super) enum Line {
    Mark(Mark),
    Session(SessionId, SessionRecord),
    Will(SessionId, WillRecord),
    Subscription(SessionId, SubscriptionRecord),
    Received(SessionId, PacketId),
    /// What refers to it comes right behind.
    Message(Message),
    Entry(SessionId, QueueEntry, Option<Flight>),
    Retained(Qos, Option<Owner>),
    FanOut(FanOutRecord, Option<SessionId>),
}

/// Gives everything that can be read to `each`, and says what cannot.
pub(super) fn dump<E: From<StoreError>>(
    source: &mut Source,
    each: &mut dyn FnMut(Line) -> Result<(), E>,
) -> Result<Losses, E> {
    let mut losses = source.loaded.losses.clone();
    each(Line::Mark(source.loaded.mark))?;
    for (id, record) in source.rows(SESSIONS)? {
        // Damaged ones are among the losses already.
        if let Ok(record) = open(Kind::Session, &id.to_be_bytes(), &record).and_then(rows::session)
        {
            each(Line::Session(SessionId(id), record))?;
            let session = source.loaded.index.session(SessionId(id));
            for packet in session
                .map(|session| session.received())
                .unwrap_or_default()
            {
                each(Line::Received(SessionId(id), *packet))?;
            }
        }
    }
    for (id, record) in source.rows(WILLS)? {
        match open(Kind::Will, &id.to_be_bytes(), &record).and_then(rows::will) {
            Ok(record) => each(Line::Will(SessionId(id), record))?,
            Err(_) => losses.add(WILLS_LOST, 1),
        }
    }
    for (id, filter, record) in source.subscriptions()? {
        let body = open(Kind::Subscription, &subscription_key(id, &filter), &record);
        match body.and_then(|body| rows::subscription(&filter, body)) {
            Ok(record) => each(Line::Subscription(SessionId(id), record))?,
            Err(_) => losses.add(SUBSCRIPTIONS_LOST, 1),
        }
    }
    messages(source, &mut losses, each)?;
    Ok(losses)
}

/// Who needs a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    Entry(SessionId),
    Retained,
    FanOut,
}

fn messages<E: From<StoreError>>(
    source: &mut Source,
    losses: &mut Losses,
    each: &mut dyn FnMut(Line) -> Result<(), E>,
) -> Result<(), E> {
    let needs = needs(source);
    let retained = source.rows(RETAINED)?;
    for needs in needs.chunk_by(|(one, _), (other, _)| one == other) {
        let Some((id, _)) = needs.first() else {
            continue;
        };
        let Some(message) = source.message(*id)? else {
            losses.add(MESSAGES_LOST, 1);
            continue;
        };
        each(Line::Message(message))?;
        let index = &source.loaded.index;
        for (_, need) in needs {
            let line = match need {
                Need::Entry(session) => index
                    .session(*session)
                    .and_then(|session| session.entry_of(*id))
                    .map(|(entry, flight)| Line::Entry(*session, entry, flight)),
                Need::Retained => {
                    let at = retained.binary_search_by_key(&id.0, |(key, _)| *key);
                    let record = at.ok().and_then(|at| retained.get(at));
                    let row = record.and_then(|(_, record)| {
                        let body = open(Kind::Retained, &id.0.to_be_bytes(), record);
                        body.and_then(rows::retained).ok()
                    });
                    if row.is_none() {
                        losses.add(RETAINED_LOST, 1);
                    }
                    row.map(|row| Line::Retained(row.qos, row.author))
                }
                Need::FanOut => {
                    let row = index.fan_outs.get(id);
                    row.map(|row| Line::FanOut(row.record.clone(), row.after))
                }
            };
            if let Some(line) = line {
                each(line)?;
            }
        }
    }
    Ok(())
}

/// Who needs which message, by message.
fn needs(source: &Source) -> Vec<(MessageId, Need)> {
    let index = &source.loaded.index;
    let mut needs = Vec::new();
    for id in index.session_ids() {
        let session = index.session(id);
        for (entry, _) in session.into_iter().flat_map(|session| session.entries()) {
            needs.push((entry.message, Need::Entry(id)));
        }
    }
    needs.extend(index.retained.values().map(|id| (*id, Need::Retained)));
    needs.extend(index.fan_outs.keys().map(|id| (*id, Need::FanOut)));
    needs.sort_unstable();
    needs
}

/// Puts lines into a store.
#[derive(Debug)]
pub(super) struct Filler<'a> {
    store: &'a mut RedbStore,
    ops: Vec<StoreOp>,
    mark: Mark,
    message: Option<Message>,
    seq: u64,
    /// Lines that were put.
    pub(super) lines: u64,
}

/// A line without the message before it that it refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Orphan;

impl<'a> Filler<'a> {
    pub(super) fn new(store: &'a mut RedbStore) -> Self {
        Self {
            store,
            ops: Vec::new(),
            mark: Mark::default(),
            message: None,
            seq: 0,
            lines: 0,
        }
    }

    /// Puts a line, in one of the next commits.
    pub(super) fn put(&mut self, line: Line) -> Result<Result<(), Orphan>, StoreError> {
        self.lines += 1;
        let message = self.message.clone();
        let is_mine = |id: MessageId| message.as_ref().is_some_and(|message| message.id() == id.0);
        match line {
            Line::Mark(mark) => self.mark = mark,
            Line::Session(id, record) => self.ops.push(StoreOp::PutSession(id, record)),
            Line::Will(id, record) => self.ops.push(StoreOp::PutWill(id, record)),
            Line::Subscription(id, record) => {
                self.ops.push(StoreOp::PutSubscription(id, record));
            }
            Line::Received(id, packet) => self.ops.push(StoreOp::PutReceived(id, packet)),
            Line::Message(message) => {
                if self.ops.len() >= BATCH {
                    self.commit()?;
                }
                self.ops.push(StoreOp::PutMessage(message.clone()));
                self.message = Some(message);
            }
            Line::Entry(id, entry, flight) => {
                if !is_mine(entry.message) {
                    return Ok(Err(Orphan));
                }
                let message = entry.message;
                self.ops.push(StoreOp::Enqueue(id, entry));
                if let Some(flight) = flight {
                    self.ops.push(if flight.is_received {
                        StoreOp::MarkReceived(id, message, flight.packet)
                    } else {
                        StoreOp::Assign(id, message, flight.packet)
                    });
                }
            }
            Line::Retained(qos, author) => {
                let Some(message) = message else {
                    return Ok(Err(Orphan));
                };
                self.ops.push(StoreOp::PutRetained(RetainedRecord {
                    message,
                    qos,
                    author,
                }));
            }
            Line::FanOut(record, after) => {
                if !is_mine(record.message) {
                    return Ok(Err(Orphan));
                }
                let message = record.message;
                self.ops.push(StoreOp::PutFanOut(record));
                if let Some(after) = after {
                    self.ops.push(StoreOp::AdvanceFanOut(message, after));
                }
            }
        }
        Ok(Ok(()))
    }

    /// Commits what is left.
    pub(super) fn finish(mut self) -> Result<u64, StoreError> {
        self.commit()?;
        Ok(self.lines)
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        self.seq += 1;
        let batch = StoreBatch {
            seq: LogSeq(self.seq),
            mark: self.mark,
            ops: std::mem::take(&mut self.ops),
            ..StoreBatch::default()
        };
        self.store.commit(&mut vec![batch])?;
        Ok(())
    }
}
