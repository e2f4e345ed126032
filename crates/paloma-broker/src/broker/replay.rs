//! Retained messages on their way to new subscriptions, a few each turn.

use std::collections::VecDeque;
use std::mem;
use std::ops::ControlFlow;

use bytestring::ByteString;
use paloma_codec::{Message, Qos, SubscribeOptions, SubscriptionId};
use paloma_session::{Now, Outbound, Pushed};
use paloma_topic::{Fault, FilterId};

use super::Broker;
use super::commits::Commits;
use crate::accounting::DropCause;
use crate::auth::Grant;
use crate::memory::MESSAGE_BYTES;
use crate::retained::{ByTopic, Course, Replay, Retained, is_expired};
use crate::session::{SessionEntry, SessionKey};
use crate::store::{MessageId, QueueEntry, StoreOp, SubscriptionRecord};
use crate::tag::Tag;

/// Deliveries that a replay lets wait in a session's queue; it pauses until they have left.
const QUEUED_MAX: usize = 256;
/// Steps of one replay before the next one's turn.
const REPLAY_STEPS: usize = 256;

/// Sessions with retained messages to be queued.
#[derive(Debug, Default)]
pub(super) struct Replays {
    /// Those whose turn it is, each once.
    listed: VecDeque<SessionKey>,
    /// Those that were listed and wait for the store to take more.
    parked: Vec<SessionKey>,
    /// Replays that began in this turn: what is left of them at its end has to be stored.
    begun: Vec<(SessionKey, FilterId)>,
}

impl Replays {
    pub(super) fn is_empty(&self) -> bool {
        self.listed.is_empty() && self.begun.is_empty()
    }
}

impl Broker {
    /// Begins to send the retained messages that a new subscription matches. [MQTT-3.3.1-9]
    ///
    /// The client of a stored session is told that it has the subscription, and so that it gets them: those at QoS 1 and 2
    /// become part of its stored queue as they come, and how far that has come stands with the subscription. What a turn
    /// can do at once costs the store nothing more than its messages.
    pub(super) fn begin_replay(&mut self, key: SessionKey, filter: FilterId, mut replay: Replay) {
        let may_match = self.retained.may_match(replay.filter.borrowed());
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        if !may_match {
            return session.forget_replay(filter);
        }
        if session.is_durable() && replay.options.qos != Qos::AtMostOnce {
            replay.course = Course::ByTopic(Box::default());
            self.replays.begun.push((key, filter));
        }
        // A newer subscription to the same filter takes the place of the older one's rest.
        session.rare_mut().replays.insert(filter, replay);
        self.list_replays(key);
    }

    /// A subscription is replaced by one that has no retained messages sent: those that are on their way for the earlier one go
    /// on by the terms of the new one. Says what the store is to know of them.
    pub(super) fn change_replay(
        &mut self,
        key: SessionKey,
        filter: FilterId,
        (options, id, granted): (SubscribeOptions, Option<SubscriptionId>, (Grant, u16)),
    ) -> Option<ByteString> {
        let replay = self.sessions.get_mut(key)?.replay_mut(filter)?;
        if matches!(replay.course, Course::Walk(_)) {
            return None; // Nothing is promised of it, and it goes on as it began.
        }
        (replay.options, replay.id, replay.granted) = (options, id, granted);
        let after = replay.stored_after().cloned();
        if after.is_none() || !replay.is_marked {
            replay.is_marked = false;
            self.replays.begun.push((key, filter));
            return None;
        }
        after
    }

    /// Goes on with a replay behind a restart, once the client is there.
    pub(super) fn resume_replay(
        &mut self,
        key: SessionKey,
        filter: FilterId,
        mut replay: Replay,
        after: &ByteString,
    ) {
        if let Some(session) = self.sessions.get_mut(key) {
            replay.course = Course::ByTopic(Box::new(ByTopic::behind(after.clone())));
            replay.is_marked = true;
            session.rare_mut().replays.insert(filter, replay);
        }
    }

    /// The store takes more again.
    pub(super) fn unpark_replays(&mut self) {
        if !self.is_store_behind() {
            let parked = mem::take(&mut self.replays.parked);
            self.replays.listed.extend(parked);
        }
    }

    /// Whether the store is to be given nothing that can wait.
    fn is_store_behind(&self) -> bool {
        self.commits.is_store_full()
            || self.commits.bytes_waiting() > self.limits.uncommitted_bytes_max
    }

    /// Lists the session for the next round if it has replays and room for them.
    pub(super) fn list_replays(&mut self, key: SessionKey) {
        let room = self.replay_room(key);
        if let Some(session) = self.sessions.get_mut(key)
            && room > 0
            && session.has_replays()
            && !session.replay_listed
        {
            session.replay_listed = true;
            self.replays.listed.push_back(key);
        }
    }

    /// How many retained messages may be queued for the session now.
    fn replay_room(&self, key: SessionKey) -> usize {
        let Some(session) = self.sessions.get(key) else {
            return 0;
        };
        if session.connection.is_none() || session.spill.is_some() {
            return 0;
        }
        let max = QUEUED_MAX.min(self.limits.queue_messages_max as usize);
        max.saturating_sub(session.protocol.queue().len())
    }

    /// Goes on with the replays, `steps` retained messages far, session after session.
    pub(super) fn run_replays(&mut self, now: Now, steps: &mut usize) {
        while *steps > 0
            && let Some(key) = self.replays.listed.pop_front()
        {
            let room = self.replay_room(key);
            let is_behind = self.is_store_behind();
            let Some(session) = self.sessions.get_mut(key) else {
                continue;
            };
            let next = session.next_replay();
            if is_behind && next.is_some_and(|next| next.stored_after().is_some()) {
                self.replays.parked.push(key);
                continue;
            }
            session.replay_listed = false;
            if room == 0 {
                continue; // Listed again when the queue has drained.
            }
            let Some((filter, mut replay)) = session.take_replay() else {
                continue;
            };
            let budget = REPLAY_STEPS.min(*steps);
            *steps -= budget;
            let before = replay.stored_after().cloned();
            let progress = self.run_replay(now, key, &mut replay, budget, room);
            if progress == Progress::Through {
                self.mark_replay(key, &replay, None);
            } else {
                let after = replay.stored_after().cloned();
                if after != before {
                    self.mark_replay(key, &replay, after);
                }
                if let Some(session) = self.sessions.get_mut(key) {
                    session.rare_mut().replays.insert(filter, replay);
                }
            }
            if progress != Progress::NoRoom {
                self.list_replays(key);
            }
        }
        self.mark_begun();
    }

    /// Has the store know what is left of the replays that began in this turn, in the batch of their subscriptions.
    fn mark_begun(&mut self) {
        for (key, filter) in mem::take(&mut self.replays.begun) {
            let session = self.sessions.get_mut(key);
            let Some(replay) = session.and_then(|session| session.replay_mut(filter)) else {
                continue;
            };
            let after = replay.stored_after().cloned();
            if after.is_none() || mem::replace(&mut replay.is_marked, true) {
                continue;
            }
            let record = replay_record(replay, after);
            if !Fault::RetainedOnTheirWayForgotten.is_on() {
                self.push_for(key, |session| StoreOp::PutSubscription(session, record));
            }
        }
    }

    /// Has the store know how far a replay has come that it knows of; `None` is its end.
    fn mark_replay(&mut self, key: SessionKey, replay: &Replay, after: Option<ByteString>) {
        if replay.is_marked && !Fault::RetainedOnTheirWayForgotten.is_on() {
            let record = replay_record(replay, after);
            self.push_for(key, |session| StoreOp::PutSubscription(session, record));
        }
    }

    fn run_replay(
        &mut self,
        now: Now,
        key: SessionKey,
        replay: &mut Replay,
        budget: usize,
        mut room: usize,
    ) -> Progress {
        let Self {
            retained,
            sessions,
            directory,
            authorizer,
            accounting,
            behaviour,
            commits,
            last_message,
            memory,
            ..
        } = self;
        let mut victims = Vec::new();
        let (qos, granted, id) = (replay.options.qos, replay.granted, replay.id);
        let mut progress = Progress::Budget;
        let room_before = room;
        let is_through = replay.go_on(retained, budget, |found| {
            let today = |client_id: &str| {
                let session = sessions.get(directory.client(sessions, client_id)?)?;
                Some(&*session.principal)
            };
            if behaviour.check_retain_source && !found.may_author(&**authorizer, today) {
                return ControlFlow::Continue(());
            }
            let Some(session) = sessions.get_mut(key) else {
                return ControlFlow::Break(());
            };
            let principal = &session.principal;
            let may_receive = Fault::RulesSkippedForRetained.is_on()
                || principal.may_receive(&**authorizer, granted, found.message.topic());
            if !may_receive || is_expired(&found.message, now.wall) {
                return ControlFlow::Continue(());
            }
            let mut outbound = outbound_of(found, qos);
            if outbound.qos() != Qos::AtMostOnce && session.is_durable() {
                outbound = own_copy(&outbound, *last_message + 1);
            }
            let is_own = Tag::unpack(outbound.share()).is_stored;
            let bytes = outbound.message().len() as u64 + MESSAGE_BYTES;
            match offer(session, commits, outbound, id, room, &mut victims) {
                Offered::NoRoom => {
                    progress = Progress::NoRoom;
                    return ControlFlow::Break(());
                }
                Offered::Full => session.count_full(accounting),
                Offered::Queued => *last_message = session.newest.0.max(*last_message),
            }
            if is_own {
                memory.take(bytes);
            }
            room -= 1;
            accounting.copies += 1;
            ControlFlow::Continue(())
        });
        self.finish_offers(key, &victims, room < room_before);
        if is_through {
            Progress::Through
        } else {
            progress
        }
    }

    fn finish_offers(&mut self, key: SessionKey, victims: &[Outbound], has_queued: bool) {
        for victim in victims {
            self.drop_copy(key, victim, DropCause::QueueFull);
        }
        if has_queued {
            self.assign_ids(key);
        }
        // Without anything new, the next transmit would only ask for more again.
        let session = self.sessions.get(key).filter(|_| has_queued);
        if let Some(connection) = session.and_then(|session| session.connection) {
            self.mark_transmit(connection);
        }
    }
}

/// A retained message on its way to a subscription of this QoS, which the store knows as retained and not as queued.
fn outbound_of(found: &Retained, qos: Qos) -> Outbound {
    let tag = Tag {
        share: None,
        is_stored: false,
    };
    Outbound::new(found.message.clone(), found.qos.min(qos))
        .with_retain(true) // [MQTT-3.3.1-8]
        .with_share(tag.pack())
}

/// The subscription of a replay as it is stored.
fn replay_record(replay: &Replay, replay_after: Option<ByteString>) -> SubscriptionRecord {
    SubscriptionRecord {
        filter: replay.filter.clone().into_inner(),
        options: replay.options.bits(),
        id: replay.id,
        replay_after,
    }
}

/// The same delivery with a message of its own, which may stand in the session's stored queue beside the live one.
fn own_copy(outbound: &Outbound, id: u64) -> Outbound {
    let message = outbound.message();
    let tag = Tag {
        share: None,
        is_stored: true,
    };
    Outbound::new(message.restamped(id, message.stamp()), outbound.qos())
        .with_retain(outbound.retain())
        .with_share(tag.pack())
}

fn replayed(message: &Message, qos: Qos, id: Option<SubscriptionId>) -> QueueEntry {
    QueueEntry {
        message: MessageId(message.id()),
        bytes: u32::try_from(message.len()).unwrap_or(u32::MAX),
        qos,
        retain: true,
        subscription_ids: id.into_iter().collect(),
        share: None,
    }
}

/// What became of a retained message that a queue was offered.
enum Offered {
    Queued,
    /// Nothing gave way to it, not even in an empty queue.
    Full,
    /// It is offered again when the queue has drained.
    NoRoom,
}

fn offer(
    session: &mut SessionEntry,
    commits: &mut Commits,
    outbound: Outbound,
    id: Option<SubscriptionId>,
    room: usize,
    victims: &mut Vec<Outbound>,
) -> Offered {
    let queue = &mut session.protocol;
    // One that does not fit an empty queue never will.
    let fits = queue.has_room_for(&outbound);
    if room == 0 || (!fits && !queue.queue().is_empty()) {
        return Offered::NoRoom;
    }
    let is_stored = Tag::unpack(outbound.share()).is_stored;
    let qos = outbound.qos();
    let message = is_stored.then(|| outbound.message().clone());
    match queue.enqueue(outbound, id.as_slice(), |victim| victims.push(victim)) {
        Pushed::Stored => {
            if let Some(message) = message {
                session.newest = MessageId(message.id());
                let entry = replayed(&message, qos, id);
                commits.push(StoreOp::PutMessage(message));
                commits.push(StoreOp::Enqueue(session.id, entry));
            }
            Offered::Queued
        }
        Pushed::Full(_) => Offered::Full,
    }
}

/// How far a replay came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Through,
    /// Its steps are used up.
    Budget,
    /// It goes on when the queue has drained.
    NoRoom,
}
