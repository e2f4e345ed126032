//! The changes that a commit makes durable, and the records they write.

use bytestring::ByteString;
use paloma_codec::{Message, PacketId, Qos, SubscriptionId};
use paloma_session::{LogSeq, Wall};

/// Number of a message, counted up over the life of the store; orders all queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub u64);

/// Number of a session, never used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// One change that a commit makes durable.
///
/// Ops of one batch are applied in order, and an op may refer to what an earlier one of the same batch put. Every op is
/// idempotent, and one that refers to a session, message or entry that is not there changes nothing: the core does not
/// look whether the store still has what it deletes.
///
/// Each op says what waits for its commit. Whatever is not named there may reach clients before it.
#[derive(Clone, Debug)]
pub enum StoreOp {
    /// A message that something of the same batch refers to: a queue entry, a fan-out or a retained topic. It stays for as
    /// long as any of them is there. Putting one that is there changes nothing.
    PutMessage(Message),
    /// The message is wanted by a session. Its publisher's PUBACK or PUBREC waits.
    Enqueue(SessionId, QueueEntry),
    /// The session is done with the message, its packet id included: delivered, expired or dropped. Nothing waits, except a
    /// delivery under the same packet id, which has an op of its own.
    Dequeue(SessionId, MessageId),
    /// The message goes to the session's client under this packet id, or has gone already. A QoS 2 PUBLISH waits, so that
    /// it is repeated under the id by which the client knows it; QoS 1 does not.
    Assign(SessionId, MessageId, PacketId),
    /// PUBREC was seen for it: the message is the client's and only PUBREL is owed, which waits. [MQTT-4.3.3-4]
    MarkReceived(SessionId, MessageId, PacketId),
    /// A QoS 2 PUBLISH with this id was taken over from the client. PUBREC waits for it together with what the message
    /// caused, which is in the same batch.
    PutReceived(SessionId, PacketId),
    /// Its PUBREL came, or it was refused. PUBCOMP waits: an id that came back would swallow the next message under it.
    DeleteReceived(SessionId, PacketId),
    /// A session was made, or its record changed. CONNACK waits.
    PutSession(SessionId, SessionRecord),
    /// A session ended, with its queue, packet ids, subscriptions and will. The CONNACK of a Clean Start waits.
    DeleteSession(SessionId),
    /// A subscription was made or replaced, which SUBACK waits for; or its retained messages have come further, for which nothing
    /// waits.
    PutSubscription(SessionId, SubscriptionRecord),
    /// A subscription ended. UNSUBACK waits.
    DeleteSubscription(SessionId, ByteString),
    /// The session has this will, or it has become due. The CONNACK that takes it over waits.
    PutWill(SessionId, WillRecord),
    /// The session has no will: it was discarded, or sent by the same batch. The CONNACK of the client's return waits.
    DeleteWill(SessionId),
    /// The message is its topic's retained message, in place of an earlier one. Its publisher's answer waits.
    PutRetained(RetainedRecord),
    /// The topic has no retained message. The answer to an empty retained PUBLISH waits.
    DeleteRetained(ByteString),
    /// The message, which the same batch puts, is being given to so many sessions that it takes several batches. In the same
    /// batch stand the received id and all entries of share groups.
    PutFanOut(FanOutRecord),
    /// All sessions up to this one have their entries by this batch.
    AdvanceFanOut(MessageId, SessionId),
    /// Everybody has. The publisher's answer waits.
    DeleteFanOut(MessageId),
}

/// How one session is to get one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueEntry {
    /// The message.
    pub message: MessageId,
    /// [`Message::len`] of it, so that a queue can be summed up without reading messages.
    pub bytes: u32,
    /// The QoS it is delivered at.
    pub qos: Qos,
    /// The RETAIN flag it is delivered with.
    pub retain: bool,
    /// The identifiers of the subscriptions that matched.
    pub subscription_ids: Vec<SubscriptionId>,
    /// The shared subscription that it is for, as `$share/name/filter`: when the session ends it goes to another member.
    pub share: Option<ByteString>,
}

/// Who a session or a retained message belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// The client id.
    pub client_id: ByteString,
    /// The user that the authenticator vouched for.
    pub user: Option<ByteString>,
    /// The authenticator gave rules for this client alone, which are not stored.
    pub has_own_rules: bool,
}

/// What is stored of a session itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// Its client, and the user it belongs to.
    pub owner: Owner,
    /// Seconds it lives without a connection; 0xFFFFFFFF is for ever.
    pub expiry_seconds: u32,
    /// When it lost its connection; `None` while it is connected.
    pub disconnected_at: Option<Wall>,
    /// What waits for it up to this message may have been sent at QoS 1, under packet ids that went with a broker that was
    /// killed. While it is connected, that holds for everything besides.
    pub maybe_sent: MessageId,
}

/// What is stored of a subscription. Its session has at most one for each filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionRecord {
    /// The filter as it was given, `$share/…` included.
    pub filter: ByteString,
    /// The options byte of SUBSCRIBE.
    pub options: u8,
    /// The Subscription Identifier, if it has one.
    pub id: Option<SubscriptionId>,
    /// Retained messages are still on their way to it: those of topics behind this one, which is empty at first. What was
    /// sent of them at QoS 1 or 2 has queue entries by the same batch.
    pub replay_after: Option<ByteString>,
}

/// What is stored of a will.
#[derive(Clone, Debug)]
pub struct WillRecord {
    /// The message; its number and stamp are zero until it is published.
    pub message: Message,
    /// Its QoS.
    pub qos: Qos,
    /// Whether it is retained.
    pub retain: bool,
    /// The Will Delay Interval, in seconds.
    pub delay_seconds: u32,
    /// When it is to be published; `None` while the client is connected.
    pub due_at: Option<Wall>,
}

/// What is stored of a retained message.
#[derive(Clone, Debug)]
pub struct RetainedRecord {
    /// The message, whose topic is the record's key. A store may keep it here or refer to the one that was put.
    pub message: Message,
    /// The QoS it was published with.
    pub qos: Qos,
    /// Who published it; `None` for the broker's own.
    pub author: Option<Owner>,
}

/// What is stored of an unfinished fan-out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FanOutRecord {
    /// The message.
    pub message: MessageId,
    /// The QoS it was published with.
    pub qos: Qos,
    /// The RETAIN flag it was published with.
    pub retain: bool,
    /// The session that published it, for No Local.
    pub origin: Option<SessionId>,
    /// The newest session when it was published; later ones do not get it.
    pub sessions_until: SessionId,
}

/// What must never be used again, or gone behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The highest message number given out.
    pub message: MessageId,
    /// The highest session number given out.
    pub session: SessionId,
    /// The broker's time.
    pub wall: Wall,
}

/// All that one turn changed; committed whole or not at all.
#[derive(Clone, Debug, Default)]
pub struct StoreBatch {
    /// The commit's number; batches come in ascending order. It counts from 1 in every run of the broker.
    pub seq: LogSeq,
    /// Taken when the batch was closed; the last one committed is recovered, and may be that of the last batch with ops.
    pub mark: Mark,
    /// The changes, in order. A batch may have none: then it is waited for all the same.
    pub ops: Vec<StoreOp>,
    /// Something that a client is to be told waits for it. A batch for which nothing waits may ride along with a later one; the
    /// driver decides how long it may take.
    pub is_awaited: bool,
    /// About how many bytes the batch holds; bounded by `uncommitted_bytes_max` over all batches in waiting.
    pub bytes: u64,
}
