//! Retained messages on their way to new subscriptions, a few each turn.

use std::ops::ControlFlow;

use paloma_codec::{Message, Qos, SubscriptionId};
use paloma_session::{Now, Outbound, Pushed};
use paloma_topic::{Fault, FilterId};

use super::Broker;
use super::commits::Commits;
use crate::accounting::DropCause;
use crate::retained::{Replay, Retained, is_expired};
use crate::session::{SessionEntry, SessionKey};
use crate::store::{MessageId, QueueEntry, StoreOp};
use crate::tag::Tag;

/// Deliveries that a replay lets wait in a session's queue; it pauses until they have left.
const QUEUED_MAX: usize = 256;
/// Steps of one replay before the next one's turn.
const REPLAY_STEPS: usize = 256;

impl Broker {
    /// Begins to send the retained messages that a new subscription matches. [MQTT-3.3.1-9]
    pub(super) fn begin_replay(&mut self, key: SessionKey, filter: FilterId, replay: Replay) {
        if !self.retained.may_match(replay.filter.borrowed()) {
            return;
        }
        if let Some(session) = self.sessions.get_mut(key) {
            // A newer subscription to the same filter takes the place of the older one's rest.
            session.rare_mut().replays.insert(filter, replay);
            self.list_replays(key);
        }
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
            self.replaying.push_back(key);
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
            && let Some(key) = self.replaying.pop_front()
        {
            let room = self.replay_room(key);
            let Some(session) = self.sessions.get_mut(key) else {
                continue;
            };
            session.replay_listed = false;
            if room == 0 {
                continue; // Listed again when the queue has drained.
            }
            let Some((filter, mut replay)) = session.take_replay() else {
                continue;
            };
            let budget = REPLAY_STEPS.min(*steps);
            *steps -= budget;
            let progress = self.run_replay(now, key, &mut replay, budget, room);
            if progress != Progress::Through
                && let Some(session) = self.sessions.get_mut(key)
            {
                session.rare_mut().replays.insert(filter, replay);
            }
            if progress != Progress::NoRoom {
                self.list_replays(key);
            }
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
            ..
        } = self;
        let mut victims = Vec::new();
        let (qos, granted) = (replay.qos, replay.granted);
        let mut progress = Progress::Budget;
        let room_before = room;
        let is_through = retained.walk(
            replay.filter.borrowed(),
            &mut replay.cursor,
            budget,
            |found| {
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
                if outbound.qos() == Qos::ExactlyOnce && session.is_durable() {
                    outbound = own_copy(&outbound, *last_message + 1);
                }
                match offer(session, commits, outbound, replay.id, room, &mut victims) {
                    Offered::NoRoom => {
                        progress = Progress::NoRoom;
                        return ControlFlow::Break(());
                    }
                    Offered::Full => session.count_full(accounting),
                    Offered::Queued => *last_message = session.newest.0.max(*last_message),
                }
                room -= 1;
                accounting.copies += 1;
                ControlFlow::Continue(())
            },
        );
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
        group: None,
        is_stored: false,
    };
    Outbound::new(found.message.clone(), found.qos.min(qos))
        .with_retain(true) // [MQTT-3.3.1-8]
        .with_share(tag.pack())
}

/// The same delivery with a message of its own, which may stand in the session's stored queue beside the live one: with a
/// packet id that is stored, as every QoS 2 delivery of a stored session has.
fn own_copy(outbound: &Outbound, id: u64) -> Outbound {
    let message = outbound.message();
    let tag = Tag {
        group: None,
        is_stored: true,
    };
    Outbound::new(message.restamped(id, message.stamp()), outbound.qos())
        .with_retain(outbound.retain())
        .with_share(tag.pack())
}

fn replayed(message: &Message, id: Option<SubscriptionId>) -> QueueEntry {
    QueueEntry {
        message: MessageId(message.id()),
        bytes: u32::try_from(message.len()).unwrap_or(u32::MAX),
        qos: Qos::ExactlyOnce,
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
    let message = is_stored.then(|| outbound.message().clone());
    match queue.enqueue(outbound, id.as_slice(), |victim| victims.push(victim)) {
        Pushed::Stored => {
            if let Some(message) = message {
                session.newest = MessageId(message.id());
                let entry = replayed(&message, id);
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
