//! What a store gives back when a broker starts.

use paloma_codec::{Message, PacketId};

use super::op::{
    FanOutRecord, Mark, MessageId, QueueEntry, RetainedRecord, SessionId, SessionRecord,
    SubscriptionRecord, WillRecord,
};

/// One thing that a store still has. See [`Store::recover`](super::Store::recover) for their order.
#[derive(Clone, Debug)]
pub enum Recovered {
    /// The mark of the last batch.
    Mark(Mark),
    /// A session. Everything else of it comes right behind, in the order of these variants.
    Session(SessionId, SessionRecord),
    /// Its will.
    Will(SessionId, WillRecord),
    /// One of its subscriptions.
    Subscription(SessionId, SubscriptionRecord),
    /// The id of a QoS 2 PUBLISH of its client that was not released.
    Received(SessionId, PacketId),
    /// An entry that has a packet id, in ascending order of messages. Only these come with their messages.
    Flight(SessionId, FlightRecord),
    /// Its entries that have none, summed up; left out if there are none.
    Queue(SessionId, QueueSummary),
    /// A retained message. They come behind all sessions.
    Retained(RetainedRecord),
    /// A fan-out that did not come to its end, its message, and the last session that has its entry. They come last, in
    /// ascending order of messages.
    FanOut(FanOutRecord, Message, Option<SessionId>),
    /// Something that cannot be read any more, for whatever it is worth to an operator. May come at any place.
    Lost(Loss),
}

/// What cannot be read any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Which kind of record, in the plural.
    pub what: &'static str,
    /// How many of them.
    pub count: u64,
}

/// An outbound exchange that was begun, or may have been.
#[derive(Clone, Debug)]
pub struct FlightRecord {
    /// The packet id it goes under.
    pub packet: PacketId,
    /// How it is delivered.
    pub entry: QueueEntry,
    /// How far it has come.
    pub state: FlightState,
}

/// How far an outbound exchange has come.
#[derive(Clone, Debug)]
pub enum FlightState {
    /// The PUBLISH may have been sent.
    Assigned(Message),
    /// PUBREC was seen: PUBREL is owed.
    Received,
}

/// The part of a session's queue that was not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueSummary {
    /// Entries.
    pub count: u64,
    /// [`QueueEntry::bytes`] of all of them.
    pub bytes: u64,
    /// The first entry's message.
    pub first: MessageId,
    /// The last entry's message.
    pub last: MessageId,
}

impl QueueSummary {
    /// The sum over entries that come in ascending order; `None` over none.
    pub fn over<'a>(entries: impl IntoIterator<Item = &'a QueueEntry>) -> Option<Self> {
        let mut sum: Option<Self> = None;
        for entry in entries {
            let sum = sum.get_or_insert(Self {
                count: 0,
                bytes: 0,
                first: entry.message,
                last: entry.message,
            });
            sum.count += 1;
            sum.bytes += u64::from(entry.bytes);
            sum.last = sum.last.max(entry.message);
        }
        sum
    }
}
