//! A store that forgets everything when the process ends.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;

use hashbrown::HashMap;
use paloma_codec::{Message, PacketId};
use paloma_session::LogSeq;

use super::kept::{Keep, Kept};
use super::op::{FanOutRecord, MessageId, QueueEntry, SessionId, StoreBatch, StoreOp};
use super::recovery::{FlightRecord, FlightState, QueueSummary, Recovered};
use super::{Committed, LoadRequest, Loaded, Space, Store, StoreError, StoreUsage};

/// What a message and a queue entry cost beside the message's bytes.
const MESSAGE_BYTES: u64 = 96;
const ENTRY_BYTES: u64 = 112;

/// Keeps queues in memory and answers through the same port as a store on disk.
///
/// A [`new`](Self::new) one holds only what can be asked for again while the process lives: messages that wait in a durable
/// session's queue, counted by reference. A [`recoverable`](Self::recoverable) one holds everything, so that a test can
/// start another broker from it, or from a clone that was taken at any commit.
#[derive(Clone, Default)]
pub struct MemoryStore {
    queues: HashMap<SessionId, BTreeMap<MessageId, Place>, foldhash::fast::FixedState>,
    messages: HashMap<MessageId, (Message, u32), foldhash::fast::FixedState>,
    fan_outs: BTreeMap<MessageId, (FanOutRecord, Option<SessionId>)>,
    /// Bytes of the messages.
    bytes: u64,
    entries: u64,
    kept: Option<Box<dyn Keep>>,
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Counts: all of it would be as long as the queues.
        f.debug_struct("MemoryStore")
            .field("messages", &self.messages.len())
            .field("entries", &self.entries)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// An entry, and how far its delivery has come.
#[derive(Clone, Debug)]
struct Place {
    entry: QueueEntry,
    flight: Option<Assigned>,
}

#[derive(Clone, Copy, Debug)]
struct Assigned {
    packet: PacketId,
    is_received: bool,
}

impl MemoryStore {
    /// An empty store of queues.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store that a broker can be recovered from.
    #[must_use]
    pub fn recoverable() -> Self {
        Self {
            kept: Some(Box::<Kept>::default()),
            ..Self::default()
        }
    }

    /// Messages held for some queue.
    #[must_use]
    pub fn message_count(&self) -> usize {
        self.messages.len()
    }

    fn apply(&mut self, batch: StoreBatch) {
        // A message that nothing but a retained topic refers to is dropped here: that record has its own handle.
        let mut arriving: Option<Message> = None;
        for op in batch.ops {
            if let Some(kept) = &mut self.kept {
                kept.apply(&op);
            }
            match op {
                StoreOp::PutMessage(message) => arriving = Some(message),
                StoreOp::Enqueue(session, entry) => self.enqueue(session, entry, arriving.as_ref()),
                StoreOp::Dequeue(session, message) => self.dequeue(session, message),
                StoreOp::Assign(session, message, packet) => {
                    self.assign(session, message, packet, false);
                }
                StoreOp::MarkReceived(session, message, packet) => {
                    self.assign(session, message, packet, true);
                }
                StoreOp::DeleteSession(session) => {
                    for message in self.queues.remove(&session).unwrap_or_default().into_keys() {
                        self.entries -= 1;
                        self.release(message);
                    }
                }
                StoreOp::PutFanOut(record) => {
                    let message = record.message;
                    if self.refer(message, arriving.as_ref()) {
                        self.fan_outs.insert(message, (record, None));
                    }
                }
                StoreOp::AdvanceFanOut(message, session) => {
                    if let Some((_, after)) = self.fan_outs.get_mut(&message) {
                        *after = Some(session);
                    }
                }
                StoreOp::DeleteFanOut(message) => {
                    if self.fan_outs.remove(&message).is_some() {
                        self.release(message);
                    }
                }
                StoreOp::PutReceived(..)
                | StoreOp::DeleteReceived(..)
                | StoreOp::PutSession(..)
                | StoreOp::PutSubscription(..)
                | StoreOp::DeleteSubscription(..)
                | StoreOp::PutWill(..)
                | StoreOp::DeleteWill(_)
                | StoreOp::PutRetained(_)
                | StoreOp::DeleteRetained(_) => {}
            }
        }
        if let Some(kept) = &mut self.kept {
            kept.set_mark(batch.mark);
        }
    }

    fn enqueue(&mut self, session: SessionId, entry: QueueEntry, arriving: Option<&Message>) {
        let id = entry.message;
        let queue = self.queues.get(&session);
        if queue.is_some_and(|queue| queue.contains_key(&id)) || !self.refer(id, arriving) {
            return;
        }
        self.entries += 1;
        let place = Place {
            entry,
            flight: None,
        };
        self.queues.entry(session).or_default().insert(id, place);
    }

    /// Counts one more reference to a message; false if it is not here.
    fn refer(&mut self, id: MessageId, arriving: Option<&Message>) -> bool {
        if let Some((_, references)) = self.messages.get_mut(&id) {
            *references += 1;
        } else if let Some(message) = arriving.filter(|message| message.id() == id.0) {
            self.bytes += message.len() as u64;
            self.messages.insert(id, (message.clone(), 1));
        } else {
            debug_assert!(false, "something refers to a message that was never put");
            return false;
        }
        true
    }

    fn assign(&mut self, session: SessionId, id: MessageId, packet: PacketId, is_received: bool) {
        if let Some(place) = self
            .queues
            .get_mut(&session)
            .and_then(|queue| queue.get_mut(&id))
        {
            place.flight = Some(Assigned {
                packet,
                is_received,
            });
        }
    }

    fn dequeue(&mut self, session: SessionId, message: MessageId) {
        let Some(queue) = self.queues.get_mut(&session) else {
            return;
        };
        if queue.remove(&message).is_none() {
            return;
        }
        self.entries -= 1;
        if queue.is_empty() {
            self.queues.remove(&session);
        }
        self.release(message);
    }

    fn release(&mut self, id: MessageId) {
        let Some((_, references)) = self.messages.get_mut(&id) else {
            return;
        };
        *references -= 1;
        if *references == 0
            && let Some((message, _)) = self.messages.remove(&id)
        {
            self.bytes -= message.len() as u64;
        }
    }

    fn message(&self, id: MessageId) -> Result<Message, StoreError> {
        let held = self.messages.get(&id);
        held.map(|(message, _)| message.clone())
            .ok_or(StoreError::Corrupt("a queue entry without its message"))
    }

    pub(super) fn recover_queue(
        &self,
        session: SessionId,
        each: &mut dyn FnMut(Recovered),
    ) -> Result<(), StoreError> {
        let Some(queue) = self.queues.get(&session) else {
            return Ok(());
        };
        for Place { entry, flight } in queue.values() {
            let Some(flight) = flight else {
                continue;
            };
            let state = if flight.is_received {
                FlightState::Received
            } else {
                FlightState::Assigned(self.message(entry.message)?)
            };
            let record = FlightRecord {
                packet: flight.packet,
                entry: entry.clone(),
                state,
            };
            each(Recovered::Flight(session, record));
        }
        let waiting = queue.values().filter(|place| place.flight.is_none());
        if let Some(summary) = QueueSummary::over(waiting.map(|place| &place.entry)) {
            each(Recovered::Queue(session, summary));
        }
        Ok(())
    }

    pub(super) fn recover_fan_outs(
        &self,
        each: &mut dyn FnMut(Recovered),
    ) -> Result<(), StoreError> {
        for (id, (record, after)) in &self.fan_outs {
            let message = self.message(*id)?;
            each(Recovered::FanOut(record.clone(), message, *after));
        }
        Ok(())
    }
}

impl Store for MemoryStore {
    fn recover(&mut self, each: &mut dyn FnMut(Recovered)) -> Result<(), StoreError> {
        match self.kept.as_deref() {
            Some(kept) => kept.recover(self, each),
            None => Ok(()),
        }
    }

    fn commit(&mut self, group: &mut Vec<StoreBatch>) -> Result<Committed, StoreError> {
        let mut seq = LogSeq::default();
        for batch in group.drain(..) {
            seq = batch.seq;
            self.apply(batch);
        }
        let space = Space::Free;
        Ok(Committed { seq, space })
    }

    fn read_queue(&mut self, request: &LoadRequest) -> Result<Loaded, StoreError> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        let after = (Bound::Excluded(request.after), Bound::Unbounded);
        let queue = self.queues.get(&request.session);
        for (id, place) in queue
            .iter()
            .flat_map(|queue| queue.range(after))
            .filter(|(_, place)| place.flight.is_none())
            .take(request.count as usize)
        {
            let message = self.message(*id)?;
            bytes += message.len();
            if bytes > request.bytes as usize && !entries.is_empty() {
                break;
            }
            entries.push((place.entry.clone(), message));
        }
        Ok(Loaded {
            session: request.session,
            entries,
        })
    }

    fn usage(&self) -> StoreUsage {
        StoreUsage {
            messages: self.messages.len() as u64,
            entries: self.entries,
            ..StoreUsage::default()
        }
    }

    fn memory_bytes(&self) -> u64 {
        let messages = self.messages.len() as u64;
        self.bytes + messages * MESSAGE_BYTES + self.entries * ENTRY_BYTES
    }

    fn is_blocking(&self) -> bool {
        false
    }
}
