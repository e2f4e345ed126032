//! What the broker keeps of one session beside its protocol state.

use std::collections::BTreeMap;
use std::sync::Arc;

use paloma_codec::{Message, Qos};
use paloma_session::{Flight, Monotonic, Session, Wall};

use paloma_topic::FilterId;

use crate::accounting::{Accounting, DropCause};
use crate::connection::ConnectionId;
use crate::principal::Principal;
use crate::retained::Replay;
use crate::shared::GroupKey;
use crate::slab::Key;
use crate::store::{MessageId, SessionId, SessionRecord, WillRecord};
use crate::timers::{Deadline, Timer, Timers};

pub(crate) type SessionKey = Key<SessionEntry>;

/// A will that has not been sent. Its message has neither number nor time yet.
#[derive(Debug)]
pub(crate) struct Will {
    pub(crate) message: Message,
    pub(crate) qos: Qos,
    pub(crate) retain: bool,
    pub(crate) delay_seconds: u32,
}

/// The part of a durable session's queue that is in the store only.
#[derive(Debug)]
pub(crate) struct Spill {
    /// Entries in the store behind the ones in memory.
    pub(crate) count: u32,
    pub(crate) bytes: u64,
    /// The last entry that was taken into memory; the store is asked for what follows.
    pub(crate) after: MessageId,
    /// The newest entry.
    pub(crate) last: MessageId,
    /// The newest entry when the load that is under way was asked for: one that finds nothing says nothing of what came behind.
    pub(crate) asked_to: MessageId,
    /// A load is under way.
    pub(crate) is_loading: bool,
    /// An entry came among older ones while they were being loaded: they have to be loaded again.
    pub(crate) is_stale: bool,
}

impl Spill {
    pub(crate) fn after(after: MessageId) -> Self {
        Self {
            count: 0,
            bytes: 0,
            after,
            last: after,
            asked_to: after,
            is_loading: false,
            is_stale: false,
        }
    }
}

#[derive(Debug)]
pub(crate) struct SessionEntry {
    pub(crate) id: SessionId,
    pub(crate) principal: Arc<Principal>,
    /// The epoch of the rules by which what is queued was last looked through.
    pub(crate) checked_epoch: u16,
    pub(crate) protocol: Session,
    pub(crate) connection: Option<ConnectionId>,
    /// Messages that the connected client takes unacknowledged.
    pub(crate) window_maximum: u16,
    /// Seconds that the session outlives its connection: 0 ends with it.
    pub(crate) expiry_seconds: u32,
    /// The store knows it.
    pub(crate) is_stored: bool,
    /// The filters subscribed to.
    pub(crate) filters: Vec<FilterId>,
    /// Levels of those filters and of its groups' that have wildcards.
    pub(crate) wildcard_levels: u32,
    /// What few sessions have.
    pub(crate) rare: Option<Box<Rare>>,
    pub(crate) will: Option<Box<Will>>,
    /// The store knows of a will.
    pub(crate) has_stored_will: bool,
    /// When the session ends unless a connection comes first.
    pub(crate) expires_at: Option<Deadline>,
    pub(crate) spill: Option<Box<Spill>>,
    /// The newest stored message that came into memory.
    pub(crate) newest: MessageId,
    /// The newest message that a broker that was killed may have sent it; see [`SessionRecord::maybe_sent`].
    pub(crate) maybe_sent: MessageId,
    /// The operator knows that its queue is full.
    pub(crate) is_told_full: bool,
    /// The broker's list of sessions with replays names this one.
    pub(crate) replay_listed: bool,
    /// The last routing that reached this session and its place among the recipients.
    pub(crate) routed: (u64, u32),
    /// What the memory account has it down for.
    pub(crate) charged: u64,
}

/// What few sessions have, apart so that all others are smaller.
#[derive(Debug, Default)]
pub(crate) struct Rare {
    /// The share groups joined.
    pub(crate) groups: Vec<GroupKey>,
    /// When a will that waits for its delay is due.
    pub(crate) will_at: Option<Monotonic>,
    /// Retained messages still to be queued, a job for each subscription. Looked up by filter, since one packet may end
    /// a thousand of thousands.
    pub(crate) replays: BTreeMap<FilterId, Replay>,
    /// What it was not given, by the place of the cause in [`DropCause::ALL`]; nothing for most.
    drops: Option<Box<[u32; DropCause::ALL.len()]>>,
}

impl Rare {
    /// About how many bytes it takes; of replays only the one under way has anything to speak of.
    pub(crate) fn heap_bytes(&self) -> usize {
        let replay = self.replays.first_key_value();
        size_of::<Self>()
            + self.groups.capacity() * size_of::<GroupKey>()
            + replay.map_or(0, |(_, replay)| replay.heap_bytes())
    }

    fn is_empty(&self) -> bool {
        self.groups.is_empty()
            && self.will_at.is_none()
            && self.replays.is_empty()
            && self.drops.is_none()
    }
}

impl SessionEntry {
    pub(crate) fn new(id: SessionId, principal: Arc<Principal>, protocol: Session) -> Self {
        Self {
            id,
            principal,
            checked_epoch: 0,
            protocol,
            connection: None,
            window_maximum: 0,
            expiry_seconds: 0,
            is_stored: false,
            filters: Vec::new(),
            wildcard_levels: 0,
            rare: None,
            will: None,
            has_stored_will: false,
            expires_at: None,
            spill: None,
            newest: MessageId(0),
            maybe_sent: MessageId(0),
            is_told_full: false,
            replay_listed: false,
            routed: (0, 0),
            charged: 0,
        }
    }

    /// Takes note of a message that it is not given.
    #[cold]
    pub(crate) fn note_drop(&mut self, cause: DropCause) {
        let drops = self.rare_mut().drops.get_or_insert_default();
        let place = DropCause::ALL.iter().position(|other| *other == cause);
        if let Some(count) = place.and_then(|place| drops.get_mut(place)) {
            *count = count.saturating_add(1);
        }
    }

    /// Counts a message that its full queue had no room for.
    pub(crate) fn count_full(&mut self, accounting: &mut Accounting) {
        accounting.count_drop(DropCause::QueueFull);
        self.note_drop(DropCause::QueueFull);
    }

    /// How often it was not given a message, and why.
    pub(crate) fn drops(&self) -> Vec<(DropCause, u32)> {
        let drops = self.rare.iter().filter_map(|rare| rare.drops.as_deref());
        let counts = drops.flatten().copied();
        let causes = DropCause::ALL.into_iter().zip(counts);
        causes.filter(|(_, count)| *count > 0).collect()
    }

    /// What is stored of it.
    pub(crate) fn record(&self, disconnected_at: Option<Wall>) -> SessionRecord {
        SessionRecord {
            owner: self.principal.owner(),
            expiry_seconds: self.expiry_seconds,
            disconnected_at,
            maybe_sent: self.maybe_sent,
        }
    }

    /// What is stored of its will; `due_at` is when it is to be sent.
    pub(crate) fn will_record(&self, due_at: Option<Wall>) -> Option<WillRecord> {
        let will = self.will.as_deref()?;
        Some(WillRecord {
            message: will.message.clone(),
            qos: will.qos,
            retain: will.retain,
            delay_seconds: will.delay_seconds,
            due_at,
        })
    }

    /// Whether its state is stored, since it was to outlive a connection, and so the process.
    pub(crate) fn is_durable(&self) -> bool {
        self.is_stored
    }

    /// Filters with so many levels are no longer subscribed to.
    pub(crate) fn drop_levels(&mut self, levels: u32) {
        self.wildcard_levels = self.wildcard_levels.saturating_sub(levels);
    }

    /// The share groups joined.
    pub(crate) fn groups(&self) -> &[GroupKey] {
        self.rare.as_ref().map_or(&[], |rare| &rare.groups)
    }

    /// Whether retained messages are still to be queued.
    pub(crate) fn has_replays(&self) -> bool {
        self.rare
            .as_ref()
            .is_some_and(|rare| !rare.replays.is_empty())
    }

    /// The replay of a subscription.
    pub(crate) fn replay_mut(&mut self, filter: FilterId) -> Option<&mut Replay> {
        self.rare.as_mut()?.replays.get_mut(&filter)
    }

    /// The next of the replays.
    pub(crate) fn next_replay(&self) -> Option<&Replay> {
        let replays = &self.rare.as_ref()?.replays;
        replays.first_key_value().map(|(_, replay)| replay)
    }

    /// The next of the replays. It is no longer among them.
    pub(crate) fn take_replay(&mut self) -> Option<(FilterId, Replay)> {
        let taken = self.rare.as_mut()?.replays.pop_first();
        self.tidy();
        taken
    }

    /// The subscription of a replay is gone.
    pub(crate) fn forget_replay(&mut self, filter: FilterId) {
        if let Some(rare) = &mut self.rare {
            rare.replays.remove(&filter);
            self.tidy();
        }
    }

    /// When a will that waits for its delay is due.
    pub(crate) fn will_at(&self) -> Option<Monotonic> {
        self.rare.as_ref()?.will_at
    }

    /// The will waits no longer.
    pub(crate) fn take_will_at(&mut self) -> Option<Monotonic> {
        let at = self.rare.as_mut()?.will_at.take();
        self.tidy();
        at
    }

    /// What few sessions have; whoever takes the last of it away calls [`tidy`](Self::tidy).
    pub(crate) fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Gives back what there is nothing in.
    pub(crate) fn tidy(&mut self) {
        self.rare.take_if(|rare| rare.is_empty());
    }

    /// Nothing of this session is due any more.
    pub(crate) fn disarm(&mut self, key: SessionKey, timers: &mut Timers) {
        if let Some(at) = self.take_will_at() {
            timers.disarm(at, Timer::WillDelay(key));
        }
        if let Some(at) = self.expires_at.take() {
            timers.disarm(at.at(), Timer::SessionExpiry(key));
        }
    }

    /// Messages waiting and their bytes, in memory and in the store.
    pub(crate) fn waiting(&self) -> (u64, u64) {
        let (count, bytes) = self
            .spill
            .as_ref()
            .map_or((0, 0), |spill| (u64::from(spill.count), spill.bytes));
        let queue = self.protocol.queue();
        (queue.len() as u64 + count, queue.bytes() + bytes)
    }

    /// Whether a delivery of the message may be waiting or unacknowledged already. It is asked when a message is handed on,
    /// and looks at every delivery that is in memory.
    pub(crate) fn may_hold(&self, message: MessageId) -> bool {
        let is_spilled = self
            .spill
            .as_ref()
            .is_some_and(|spill| spill.after < message && message <= spill.last);
        is_spilled || self.held_messages().any(|held| held == message)
    }

    /// Messages that are in memory, waiting or unacknowledged.
    pub(crate) fn held_messages(&self) -> impl Iterator<Item = MessageId> + '_ {
        let waiting = self.protocol.queue().iter();
        let in_flight = self.protocol.window().iter();
        let in_flight = in_flight.filter_map(|(_, flight)| match flight {
            Flight::Publish(outbound) => Some(outbound.message().id()),
            Flight::Released { message, .. } => Some(*message),
            Flight::Subscribe { .. } | Flight::Unsubscribe { .. } => None,
        });
        let waiting = waiting.map(|outbound| outbound.message().id());
        waiting.chain(in_flight).map(MessageId)
    }

    /// Messages waiting or unacknowledged.
    pub(crate) fn queued(&self) -> u64 {
        self.waiting().0 + self.protocol.window().len() as u64
    }
}
