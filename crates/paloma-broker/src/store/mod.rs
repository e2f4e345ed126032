//! The store port: what must outlive the process, and in which groups.
//!
//! The core never waits for a store. It collects what a turn changed in one [`StoreBatch`], which is committed whole
//! or not at all, and holds back the answers that promise it until the driver reports the batch's [`LogSeq`] as
//! committed. A message is stored once, however many sessions wait for it, under the [`MessageId`] that the broker
//! counts up; a session's queue entry is the pair of session and message.

mod memory;

use std::fmt;

use bytestring::ByteString;
use paloma_codec::{Message, PacketId, Qos, SubscriptionId};
use paloma_session::LogSeq;

pub use memory::MemoryStore;

/// Number of a message, counted up over the life of the store; orders all queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub u64);

/// Number of a session, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// How one session is to get one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueEntry {
    /// The message.
    pub message: MessageId,
    /// The QoS it is delivered at.
    pub qos: Qos,
    /// The RETAIN flag it is delivered with.
    pub retain: bool,
    /// The identifiers of the subscriptions that matched.
    pub subscription_ids: Vec<SubscriptionId>,
}

/// One change that a commit makes durable.
#[derive(Clone, Debug)]
pub enum StoreOp {
    /// A message that at least one queue entry or retained topic of the same batch refers to.
    PutMessage(Message),
    /// The message is wanted by a session.
    Enqueue(SessionId, QueueEntry),
    /// The session is done with the message: delivered, expired or dropped.
    Dequeue(SessionId, MessageId),
    /// A QoS 1 or 2 message went under this packet id.
    Assign(SessionId, MessageId, PacketId),
    /// PUBREC was seen for it: only PUBREL is owed.
    MarkReceived(SessionId, MessageId, PacketId),
    /// A QoS 2 PUBLISH with this id was taken over from the client.
    PutReceived(SessionId, PacketId),
    /// Its PUBREL came.
    DeleteReceived(SessionId, PacketId),
    /// A session was made or its owner or expiry changed.
    PutSession(SessionId, SessionRecord),
    /// A session ended, with its queue, subscriptions and ids.
    DeleteSession(SessionId),
    /// A subscription was made or replaced.
    PutSubscription(SessionId, SubscriptionRecord),
    /// A subscription ended.
    DeleteSubscription(SessionId, ByteString),
    /// The message is the topic's retained message.
    PutRetained(MessageId, Qos),
    /// The topic has no retained message.
    DeleteRetained(ByteString),
}

/// What is stored of a session itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// Its client id.
    pub client_id: ByteString,
    /// The user it belongs to.
    pub user: Option<ByteString>,
    /// Seconds it lives without a connection; `None` is for ever.
    pub expiry_seconds: Option<u32>,
    /// When it lost its connection, in wall-clock milliseconds; `None` while it is connected.
    pub disconnected_at: Option<u64>,
}

/// What is stored of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionRecord {
    /// The filter as it was given, `$share/…` included.
    pub filter: ByteString,
    /// The options byte of SUBSCRIBE.
    pub options: u8,
    /// The Subscription Identifier, if it has one.
    pub id: Option<SubscriptionId>,
}

/// All that one turn changed; committed whole or not at all.
#[derive(Debug, Default)]
pub struct StoreBatch {
    /// The commit's number; batches come in ascending order.
    pub seq: LogSeq,
    /// The changes, in order.
    pub ops: Vec<StoreOp>,
    /// About how many bytes the batch holds; bounded by `uncommitted_bytes_max` over all batches in waiting.
    pub bytes: u64,
}

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
    /// Entries with their messages, in order.
    pub entries: Vec<(QueueEntry, Message)>,
}

/// Why a store could not do what it was asked.
#[derive(Debug)]
#[non_exhaustive]
pub enum StoreError {
    /// The medium is full; nothing of the batch was kept.
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
    /// Commits the batches, in order, as one group, and returns the last one's number once it is as durable as the
    /// store promises.
    ///
    /// # Errors
    /// Nothing of any of the batches is kept then.
    fn commit(&mut self, batches: Vec<StoreBatch>) -> Result<LogSeq, StoreError>;

    /// Reads the next part of a session's queue, as of the last commit.
    ///
    /// # Errors
    /// When a record cannot be read.
    fn read_queue(&mut self, request: &LoadRequest) -> Result<Loaded, StoreError>;

    /// Bytes of memory that the store holds and that grow with what it is given.
    fn memory_bytes(&self) -> u64 {
        0
    }

    /// Whether calls wait for a device, so that they must not be made on an I/O thread.
    fn is_blocking(&self) -> bool {
        true
    }
}
