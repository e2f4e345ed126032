//! What the oracle believes the broker to hold: lists, and nothing clever.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use paloma_broker::{CloseCause, ConnectionId};
use paloma_codec::{Connect, DisconnectReason, ProtocolVersion, Publish, Qos, SubscribeOptions};
use paloma_topic::Target;

/// A message, by its number.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) qos: Qos,
    pub(crate) is_empty: bool,
    pub(crate) is_large: bool,
    pub(crate) life: Option<Life>,
    /// The lives of earlier arrivals, if its publisher has repeated it.
    pub(crate) earlier_lives: Vec<Life>,
}

/// From when and for how long a message may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    /// When it came, in wall-clock milliseconds.
    pub(crate) stamp: u64,
    pub(crate) seconds: u32,
}

impl Life {
    /// Whether it may be said to have so many seconds left. The broker's own time goes by milliseconds.
    pub(crate) fn may_have_left(self, wall: u64, seconds: u64) -> bool {
        [wall.saturating_sub(2), wall, wall + 2]
            .into_iter()
            .any(|wall| self.seconds_left(wall) == seconds)
    }

    pub(crate) fn is_over(self, wall: u64) -> bool {
        self.seconds_left(wall) == 0
    }

    pub(crate) fn seconds_left(self, wall: u64) -> u64 {
        let waited = wall.saturating_sub(self.stamp) / 1_000;
        u64::from(self.seconds).saturating_sub(waited)
    }
}

/// What a matching subscription makes of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) qos: Qos,
    pub(crate) retain: bool,
    pub(crate) ids: Vec<u32>,
}

/// A message on its way to one session.
#[derive(Clone, Debug)]
pub(crate) struct Copy {
    pub(crate) number: u64,
    pub(crate) form: Form,
    /// Of its arrival; a message that its publisher repeats has another.
    pub(crate) life: Option<Life>,
    /// The version of the rules when it was queued.
    pub(crate) rules_version: u64,
    /// It was past its expiry at some time since it was queued.
    pub(crate) has_expired: bool,
    /// The commit that it is in, if it is stored.
    pub(crate) gate: Gate,
    /// It is the copy of a group, by its place among the shared copies.
    pub(crate) shared: Option<usize>,
}

/// A QoS 1 or 2 delivery that its receiver has not finished with.
#[derive(Clone, Debug)]
pub(crate) struct Flight {
    pub(crate) id: u16,
    pub(crate) copy: Copy,
    /// PUBREC has come.
    pub(crate) is_received: bool,
    /// It was forbidden while it waited to be sent again, so that it may have been given up.
    pub(crate) is_unsure: bool,
}

impl Flight {
    /// Whether it may have been given up without a word to its receiver.
    pub(crate) fn may_be_gone(&self) -> bool {
        self.is_unsure && self.copy.form.qos == Qos::AtLeastOnce
    }
}

/// One subscription.
#[derive(Clone, Debug)]
pub(crate) struct Subscription {
    pub(crate) target: Target,
    pub(crate) options: SubscribeOptions,
    pub(crate) id: Option<u32>,
}

/// Retained messages that a subscription was made for.
#[derive(Clone, Debug)]
pub(crate) struct Replay {
    pub(crate) target: Target,
    pub(crate) qos: Qos,
    pub(crate) id: Option<u32>,
    /// When it was made, on the oracle's own clock.
    pub(crate) since: u64,
    /// The version of the rules at that time.
    pub(crate) rules_version: u64,
    /// Topics that it brought.
    pub(crate) brought: BTreeSet<String>,
    /// Topics that it has to bring, while nothing comes between.
    pub(crate) owed: BTreeSet<String>,
    /// It is the rest of an earlier one, by the terms of a subscription that has taken the place of its own.
    pub(crate) is_rest: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Will {
    pub(crate) number: u64,
    pub(crate) delay_seconds: u32,
    pub(crate) topic: String,
    pub(crate) retain: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Session {
    /// Never the same for two sessions.
    pub(crate) instance: u64,
    pub(crate) connection: Option<ConnectionId>,
    pub(crate) expiry_seconds: u32,
    pub(crate) is_durable: bool,
    pub(crate) subscriptions: BTreeMap<String, Subscription>,
    /// What this session has asked of each group it was ever in.
    pub(crate) group_forms: BTreeMap<String, Vec<Subscription>>,
    pub(crate) replays: Vec<Replay>,
    pub(crate) will: Option<Will>,
    pub(crate) will_at: Option<u64>,
    pub(crate) expires_at: Option<u64>,
    pub(crate) waiting: VecDeque<Copy>,
    pub(crate) flights: Vec<Flight>,
    /// QoS 2 ids of the client's whose PUBREL has not come.
    pub(crate) received: BTreeSet<u16>,
    /// Those of them whose exchange may have ended because the one receiver's queue was full.
    pub(crate) perhaps_received: BTreeSet<u16>,
    /// Those of them that were refused without a word, as 3.1.1 has it, or are held: the store knows nothing of them.
    pub(crate) refused: BTreeSet<u16>,
    /// Flights that are to be sent again before anything new is.
    pub(crate) to_repeat: VecDeque<u16>,
    /// When its client left, and when its will is due, by the wall clock as far as that is believed.
    pub(crate) left_wall: u64,
    pub(crate) will_due_wall: u64,
    /// The broker has started again from its store, and what it had sent or was about to send comes first.
    pub(crate) is_recovered: bool,
    /// That has happened once: what was in flight may wait again, beyond the limit of the queue.
    pub(crate) was_recovered: bool,
}

impl Session {
    pub(crate) fn flight(&self, id: u16) -> Option<&Flight> {
        self.flights.iter().find(|flight| flight.id == id)
    }

    /// Takes the copy at a place off the list, and those of its QoS before it, which were passed over.
    pub(crate) fn take_waiting(&mut self, place: usize) -> Option<(Copy, Vec<Copy>)> {
        let copy = self.waiting.remove(place)?;
        let mut passed = Vec::new();
        let mut position = 0;
        self.waiting.retain(|other| {
            let is_passed = position < place && other.form.qos == copy.form.qos;
            position += 1;
            if is_passed {
                passed.push(other.clone());
            }
            !is_passed
        });
        Some((copy, passed))
    }
}

/// What is expected of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnswerKind {
    PubAck,
    PubRec,
    PubComp,
    SubAck,
    UnsubAck,
}

/// A commit that something waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Gate {
    #[default]
    Open,
    /// The batch of this turn, which has no number yet.
    NextBatch,
    Batch(u64),
    /// In the store since before the broker was started.
    Stored,
}

#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) kind: AnswerKind,
    pub(crate) id: u16,
    pub(crate) gate: Gate,
    /// What it has to say of each thing that it answers.
    pub(crate) verdicts: Vec<Verdict>,
}

/// What becomes of something that a client asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Fine,
    /// The rules forbid it.
    Denied,
    /// The store has no room for it.
    NoRoom,
}

/// What CONNACK has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    Nothing,
    Accepted { is_present: bool, gate: Gate },
    Refused,
}

/// One connection.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) is_hostile: bool,
    pub(crate) connect: Option<Connect>,
    pub(crate) version: ProtocolVersion,
    pub(crate) client_id: String,
    pub(crate) expected: Expected,
    /// CONNACK said yes, and the session is this connection's.
    pub(crate) is_open: bool,
    /// The broker has to close it before the turn ends.
    pub(crate) is_ending: Option<CloseCause>,
    pub(crate) heard_at: u64,
    pub(crate) expiry_seconds: u32,
    pub(crate) left: Option<DisconnectReason>,
    pub(crate) aliases: BTreeMap<u16, String>,
    pub(crate) outbound_aliases: BTreeMap<u16, String>,
    pub(crate) answers: VecDeque<Answer>,
    /// PUBRELs owed to PUBRECs of this connection.
    pub(crate) releases: VecDeque<(u16, Gate)>,
    /// Deliveries sent on this connection and not acknowledged.
    pub(crate) unacknowledged: BTreeSet<u16>,
    pub(crate) pings: u32,
    /// What the store had no room for and its client cannot be told of. Nothing more is read then.
    pub(crate) held: Option<Held>,
    /// Nothing is read until the store has caught up.
    pub(crate) is_unread: bool,
}

/// A PUBLISH that is held.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) publish: Publish,
    /// Counts up, so that those that were held first go first.
    pub(crate) tick: u64,
    /// When its connection is closed if there is no room by then.
    pub(crate) until: u64,
}

/// A group's copy of a message.
#[derive(Clone, Debug)]
pub(crate) struct SharedCopy {
    pub(crate) number: u64,
    pub(crate) target: String,
    pub(crate) retain: bool,
    pub(crate) life: Option<Life>,
    pub(crate) rules_version: u64,
    /// Client and instance of the session that it was sent to.
    pub(crate) holder: Option<(String, u64)>,
    /// In which form.
    pub(crate) held_as: Option<Form>,
    /// It was with somebody before, so that its form may be the earlier one's.
    pub(crate) is_handed_on: bool,
    pub(crate) is_done: bool,
    /// Something has happened since that may have ended it.
    pub(crate) is_excused: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Retained {
    pub(crate) number: u64,
    pub(crate) author: String,
}

/// Everything that a broker holds beyond a connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) sessions: BTreeMap<String, Session>,
    /// Members of each group by client id.
    pub(crate) groups: BTreeMap<String, BTreeSet<String>>,
    pub(crate) shared: Vec<SharedCopy>,
    pub(crate) retained: BTreeMap<String, Retained>,
    /// Until when a retained message was its topic's, on the oracle's own clock.
    pub(crate) retained_until: BTreeMap<u64, u64>,
    /// Numbers of the messages that were taken in.
    pub(crate) taken: BTreeSet<u64>,
}
