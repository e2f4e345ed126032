//! The turn's store batch, and who waits for which commit.

use std::collections::VecDeque;

use paloma_session::{Gate, LogSeq, Now};

use super::Broker;
use crate::connection::ConnectionId;
use crate::effect::Effect;
use crate::store::{Mark, Space, StoreBatch, StoreOp};

/// What a change costs in a batch beside its message.
const OP_BYTES: u64 = 64;

/// Batches on their way to the store.
#[derive(Debug, Default)]
pub(crate) struct Commits {
    batch: StoreBatch,
    /// Some answer of this turn waits for the batch, so that it is sealed even without changes.
    is_awaited: bool,
    last_sealed: LogSeq,
    committed: LogSeq,
    in_store: VecDeque<(LogSeq, u64)>,
    bytes_in_store: u64,
    waiting: VecDeque<(LogSeq, ConnectionId)>,
    space: Space,
}

impl Commits {
    pub(crate) fn committed(&self) -> LogSeq {
        self.committed
    }

    pub(crate) fn set_space(&mut self, space: Space) {
        self.space = space;
    }

    pub(crate) fn is_store_full(&self) -> bool {
        self.space == Space::Full
    }

    /// The number that this turn's batch will have.
    pub(crate) fn next_seq(&self) -> LogSeq {
        LogSeq(self.last_sealed.0 + 1)
    }

    /// Bytes handed to the store or about to be.
    pub(crate) fn bytes_waiting(&self) -> u64 {
        self.bytes_in_store + self.batch.bytes
    }

    pub(crate) fn push(&mut self, op: StoreOp) {
        self.batch.bytes += OP_BYTES;
        let message = match &op {
            StoreOp::PutMessage(message) => Some(message),
            StoreOp::PutRetained(record) => Some(&record.message),
            StoreOp::PutWill(_, record) => Some(&record.message),
            StoreOp::Enqueue(..)
            | StoreOp::Dequeue(..)
            | StoreOp::Assign(..)
            | StoreOp::MarkReceived(..)
            | StoreOp::PutReceived(..)
            | StoreOp::DeleteReceived(..)
            | StoreOp::PutSession(..)
            | StoreOp::DeleteSession(_)
            | StoreOp::PutSubscription(..)
            | StoreOp::DeleteSubscription(..)
            | StoreOp::DeleteWill(_)
            | StoreOp::DeleteRetained(_)
            | StoreOp::PutFanOut(_)
            | StoreOp::AdvanceFanOut(..)
            | StoreOp::DeleteFanOut(_) => None,
        };
        self.batch.bytes += message.map_or(0, |message| message.len() as u64);
        self.batch.ops.push(op);
    }

    /// The gate of an answer that promises what this turn's batch holds.
    pub(crate) fn gate(&self) -> Gate {
        Gate::Until(self.next_seq())
    }

    /// Has `id` told to transmit once this turn's batch is committed.
    pub(crate) fn wait(&mut self, id: ConnectionId) {
        self.is_awaited = true;
        let seq = self.next_seq();
        if self.waiting.back() != Some(&(seq, id)) {
            self.waiting.push_back((seq, id));
        }
    }

    /// Whether the turn has changes that were not handed over yet.
    pub(crate) fn is_open(&self) -> bool {
        !self.batch.ops.is_empty()
    }

    /// Closes the batch, if it holds anything or anybody waits for it.
    pub(crate) fn seal(&mut self, mark: impl FnOnce() -> Mark) -> Option<StoreBatch> {
        if self.batch.ops.is_empty() && !self.is_awaited {
            return None;
        }
        self.last_sealed = self.next_seq();
        let mut batch = std::mem::take(&mut self.batch);
        batch.is_awaited = std::mem::take(&mut self.is_awaited);
        batch.seq = self.last_sealed;
        batch.mark = mark();
        self.bytes_in_store += batch.bytes;
        self.in_store.push_back((batch.seq, batch.bytes));
        Some(batch)
    }

    fn confirm(&mut self, seq: LogSeq) {
        self.committed = self.committed.max(seq);
        while let Some(&(sealed, bytes)) = self.in_store.front()
            && sealed <= seq
        {
            self.bytes_in_store -= bytes;
            self.in_store.pop_front();
        }
    }

    fn pop_waiting(&mut self) -> Option<ConnectionId> {
        let (seq, id) = *self.waiting.front()?;
        if seq > self.committed {
            return None;
        }
        self.waiting.pop_front();
        Some(id)
    }
}

impl Broker {
    /// A batch is durable: answers that waited for it may go, and publishers are read again.
    pub(super) fn handle_committed(&mut self, now: Now, seq: LogSeq) {
        self.commits.confirm(seq);
        while let Some(id) = self.commits.pop_waiting() {
            self.mark_transmit(id);
        }
        if self.commits.bytes_waiting() <= self.limits.uncommitted_bytes_max {
            for id in std::mem::take(&mut self.paused) {
                self.resume(now, id);
            }
            self.unpark_replays();
        }
    }

    /// Tells the driver to read on if it was told not to.
    pub(super) fn resume(&mut self, now: Now, id: ConnectionId) {
        if let Some(entry) = self.connections.get_mut(id.key())
            && entry.pause.is_some()
        {
            entry.excuse_silence(now);
            entry.pause = None;
            self.effects.push_back(Effect::Resume(id));
        }
    }
}
