//! A store that forgets everything when the process ends.

use std::collections::BTreeMap;
use std::ops::Bound;

use hashbrown::HashMap;
use paloma_codec::Message;
use paloma_session::LogSeq;

use super::{
    LoadRequest, Loaded, MessageId, QueueEntry, SessionId, Store, StoreBatch, StoreError, StoreOp,
};

/// What a message and a queue entry cost beside the message's bytes.
const MESSAGE_BYTES: u64 = 96;
const ENTRY_BYTES: u64 = 96;

/// Keeps queues in memory and answers through the same port as a store on disk. Only what can be asked for again is
/// kept: messages that wait in a durable session's queue, counted by reference.
#[derive(Debug, Default)]
pub struct MemoryStore {
    queues: HashMap<SessionId, BTreeMap<MessageId, QueueEntry>, foldhash::fast::FixedState>,
    messages: HashMap<MessageId, (Message, u32), foldhash::fast::FixedState>,
    /// Bytes of the messages.
    bytes: u64,
    entries: u64,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Messages held for some queue.
    #[must_use]
    pub fn message_count(&self) -> usize {
        self.messages.len()
    }

    fn apply(&mut self, ops: Vec<StoreOp>) {
        // A retained message that nobody waits for has no entry in its batch and is dropped here: the core holds it.
        let mut arriving: Option<Message> = None;
        for op in ops {
            match op {
                StoreOp::PutMessage(message) => arriving = Some(message),
                StoreOp::Enqueue(session, entry) => self.enqueue(session, entry, arriving.as_ref()),
                StoreOp::Dequeue(session, message) => self.dequeue(session, message),
                StoreOp::DeleteSession(session) => {
                    for message in self.queues.remove(&session).unwrap_or_default().into_keys() {
                        self.entries -= 1;
                        self.release(message);
                    }
                }
                StoreOp::Assign(..)
                | StoreOp::MarkReceived(..)
                | StoreOp::PutReceived(..)
                | StoreOp::DeleteReceived(..)
                | StoreOp::PutSession(..)
                | StoreOp::PutSubscription(..)
                | StoreOp::DeleteSubscription(..)
                | StoreOp::PutRetained(..)
                | StoreOp::DeleteRetained(..) => {}
            }
        }
    }

    fn enqueue(&mut self, session: SessionId, entry: QueueEntry, arriving: Option<&Message>) {
        let id = entry.message;
        if let Some((_, references)) = self.messages.get_mut(&id) {
            *references += 1;
        } else if let Some(message) = arriving.filter(|message| message.id() == id.0) {
            self.bytes += message.len() as u64;
            self.messages.insert(id, (message.clone(), 1));
        } else {
            debug_assert!(false, "an entry refers to a message that was never put");
            return;
        }
        self.entries += 1;
        let previous = self.queues.entry(session).or_default().insert(id, entry);
        debug_assert!(previous.is_none(), "a session queues a message once");
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
}

impl Store for MemoryStore {
    fn commit(&mut self, batches: Vec<StoreBatch>) -> Result<LogSeq, StoreError> {
        let mut last = LogSeq::default();
        for batch in batches {
            last = batch.seq;
            self.apply(batch.ops);
        }
        Ok(last)
    }

    fn read_queue(&mut self, request: &LoadRequest) -> Result<Loaded, StoreError> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        let after = (Bound::Excluded(request.after), Bound::Unbounded);
        let queue = self.queues.get(&request.session);
        for (id, entry) in queue
            .iter()
            .flat_map(|queue| queue.range(after))
            .take(request.count as usize)
        {
            let Some((message, _)) = self.messages.get(id) else {
                return Err(StoreError::Corrupt("a queue entry without its message"));
            };
            bytes += message.len();
            if bytes > request.bytes as usize && !entries.is_empty() {
                break;
            }
            entries.push((entry.clone(), message.clone()));
        }
        Ok(Loaded {
            session: request.session,
            entries,
        })
    }

    fn memory_bytes(&self) -> u64 {
        let messages = self.messages.len() as u64;
        self.bytes + messages * MESSAGE_BYTES + self.entries * ENTRY_BYTES
    }

    fn is_blocking(&self) -> bool {
        false
    }
}
