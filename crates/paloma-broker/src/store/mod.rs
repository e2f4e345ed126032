//! The store port: what must outlive the process, and in which groups.
//!
//! The core never waits for a store. It collects what a turn changed in one [`StoreBatch`], which is committed whole
//! or not at all, and holds back what promises it until the driver reports the batch's [`LogSeq`] as committed. A
//! message is stored once, however many sessions wait for it, under the [`MessageId`] that the broker counts up; a
//! session's queue entry is the pair of session and message.
//!
//! Only sessions that outlive their connection are in the store, and for those everything: a broker that starts takes
//! it back with [`Broker::recover`](crate::Broker::recover). Messages of queues stay in the store and come when
//! their turn comes.
//!
//! **Space.** A store keeps a reserve, so that it can delete when its medium is full. Once it begins to use it, commits
//! succeed as before but say [`Space::Full`]: from there on the core takes over nothing that is to be stored, so that only
//! acknowledgements, deletions and changes of sessions still come, besides what is in waiting, which is bounded by
//! `uncommitted_bytes_max`. As soon as the reserve is whole again the store says [`Space::Free`].

mod kept;
mod memory;
mod op;
mod recovery;

use std::fmt;
use std::time::Duration;

use paloma_codec::Message;
use paloma_session::LogSeq;

pub use memory::MemoryStore;
pub use op::{
    FanOutRecord, Mark, MessageId, Owner, QueueEntry, RetainedRecord, SessionId, SessionRecord,
    StoreBatch, StoreOp, SubscriptionRecord, WillRecord,
};
pub use recovery::{FlightRecord, FlightState, Loss, QueueSummary, Recovered};

/// A request for the next part of a session's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadRequest {
    /// Whose queue.
    pub session: SessionId,
    /// Only entries after this one.
    pub after: MessageId,
    /// At most so many entries.
    pub count: u32,
    /// At most so many bytes of messages, but always one entry.
    pub bytes: u32,
}

/// The answer to a [`LoadRequest`].
#[derive(Debug)]
pub struct Loaded {
    /// Whose queue.
    pub session: SessionId,
    /// Entries with their messages, in ascending order of messages. What cannot be read is left out; none at all means that
    /// there are no more.
    pub entries: Vec<(QueueEntry, Message)>,
}

/// Whether a store takes more than it gives back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Space {
    /// There is room.
    #[default]
    Free,
    /// Only the reserve is left.
    Full,
}

/// The outcome of a group commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The last batch's number.
    pub seq: LogSeq,
    /// Whether more may come.
    pub space: Space,
}

/// The outcome of [`Store::rest`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rested {
    /// Whether more may come.
    pub space: Space,
    /// When to call again if nothing is committed before; `None` if there is nothing to do.
    pub again_after: Option<Duration>,
}

/// What a store says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreUsage {
    /// Messages held.
    pub messages: u64,
    /// Queue entries held.
    pub entries: u64,
    /// Bytes that its files occupy.
    pub file_bytes: u64,
    /// Bytes written to them since it was opened.
    pub written_bytes: u64,
    /// Messages that were wanted since it was opened and are not what was written; they were left out.
    pub unreadable: u64,
}

/// Why a store could not do what it was asked.
#[derive(Debug)]
#[non_exhaustive]
pub enum StoreError {
    /// The medium is full, reserve and all. Nothing of the group was kept, and the group may be offered again.
    Full,
    /// Reading or writing failed; nothing more may be acknowledged.
    Io(std::io::Error),
    /// What was read is not what was written.
    Corrupt(&'static str),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the store is full"),
            Self::Io(error) => write!(f, "the store failed: {error}"),
            Self::Corrupt(what) => write!(f, "the store is damaged: {what}"),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Full | Self::Corrupt(_) => None,
        }
    }
}

/// Where batches go. Calls may block: the driver makes them on a thread of the store's own unless
/// [`is_blocking`](Store::is_blocking) is false.
pub trait Store: Send + fmt::Debug {
    /// Gives everything that was committed to `each`: the [`Mark`](Recovered::Mark), each session with what belongs to it
    /// in ascending order of sessions, retained messages, unfinished fan-outs. Called once, before any commit. Queued
    /// messages are not read, so that its cost depends on the number of records and not on their size.
    ///
    /// # Errors
    /// When nothing can be relied upon. Single records that cannot be read are [`Recovered::Lost`] instead.
    fn recover(&mut self, each: &mut dyn FnMut(Recovered)) -> Result<(), StoreError>;

    /// Commits the batches, in order, as one group, and returns once the last one is as durable as the store
    /// promises. Empties `group`, which is never empty before.
    ///
    /// # Errors
    /// Nothing of any of the batches is kept then. After [`StoreError::Full`] `group` is as it was, and may be offered again
    /// when there is room; every other error is the last word of this store, which is not asked again.
    fn commit(&mut self, group: &mut Vec<StoreBatch>) -> Result<Committed, StoreError>;

    /// Reads the next part of a session's queue, as of the last commit. Entries that have a packet id are left out.
    ///
    /// # Errors
    /// When reading fails altogether. After [`StoreError::Full`], which what was begun before has met, it may be asked again.
    fn read_queue(&mut self, request: &LoadRequest) -> Result<Loaded, StoreError>;

    /// Does what is to be done while nothing waits: a store that syncs at intervals syncs, a full one looks whether there
    /// is room again. Called each time before the driver waits for something to do, so that it has to be quick where there is
    /// nothing to be done, and again after what it says, or a second while it is full.
    ///
    /// # Errors
    /// As for [`commit`](Self::commit).
    fn rest(&mut self) -> Result<Rested, StoreError> {
        Ok(Rested::default())
    }

    /// Makes durable whatever is not, at a clean stop. Nothing is asked of the store after it.
    ///
    /// # Errors
    /// When that fails.
    fn close(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// What it holds, as of the last commit.
    fn usage(&self) -> StoreUsage {
        StoreUsage::default()
    }

    /// Bytes of memory that the store holds and that grow with what it is given.
    fn memory_bytes(&self) -> u64 {
        0
    }

    /// Whether calls wait for a device, so that they must not be made on an I/O thread.
    fn is_blocking(&self) -> bool {
        true
    }
}
