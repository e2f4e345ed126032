//! The broker's process ends: what the next one has to know, and what may come again.
//!
//! Each batch that the broker hands to its store is a moment to which a crash can take it back. The oracle keeps its own state of
//! each of them from the last committed one on, and goes back to the one that survived.

use std::collections::{BTreeMap, VecDeque};

use paloma_codec::Qos;
use paloma_session::Now;

use super::Oracle;
use super::model::{Copy, Flight, Gate, Link, Replay, Session, State};

/// What the broker was to hold when it closed a batch.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    seq: u64,
    state: State,
    full_drops: u64,
    full_drops_found: u64,
}

impl Oracle {
    /// The broker has closed a batch.
    pub(super) fn take_snapshot(&mut self, seq: u64) {
        if self.expects_crashes {
            self.snapshots.push_back(Snapshot {
                seq,
                state: self.state.clone(),
                full_drops: self.full_drops,
                full_drops_found: self.full_drops_found,
            });
        }
    }

    /// What was before the last commit is never gone back to.
    pub(super) fn forget_snapshots(&mut self) {
        while self
            .snapshots
            .get(1)
            .is_some_and(|next| next.seq <= self.committed)
        {
            self.snapshots.pop_front();
        }
    }

    /// The process has ended and another one has started: `survived` is the last batch that the store has, if it has any of
    /// those that were not committed.
    pub(crate) fn crashed(&mut self, now: Now, survived: Option<u64>) {
        self.tick += 1;
        let seq = survived.unwrap_or(self.committed);
        let snapshots = std::mem::take(&mut self.snapshots).into_iter();
        let snapshot = snapshots.filter(|snapshot| snapshot.seq <= seq).last();
        let live = std::mem::take(&mut self.state);
        self.links.clear();
        self.let_into.clear();
        self.committed = 0;
        let snapshot = snapshot.unwrap_or_else(|| Snapshot {
            seq: 0,
            state: State::default(),
            full_drops: self.full_drops,
            full_drops_found: self.full_drops_found,
        });
        self.full_drops = snapshot.full_drops;
        self.full_drops_before = snapshot.full_drops;
        self.full_drops_found = snapshot.full_drops_found;
        self.state = snapshot.state.clone();
        self.state.taken.extend(&live.taken);
        // The next process writes from 1 on; until it has, the store is what it was.
        self.snapshots.push_back(Snapshot { seq: 0, ..snapshot });
        self.leave_groups_of_the_lost();
        self.state.sessions.retain(|_, session| session.is_durable);
        let mut ended = Vec::new();
        let retained = self.retained_over_a_crash(&live);
        for (client_id, session) in &mut self.state.sessions {
            recover(session, live.sessions.get(client_id), &retained);
            if session.expiry_seconds == 0 {
                ended.push((session.instance, client_id.clone()));
            }
        }
        self.free_shared();
        for client_id in self.state.sessions.keys().cloned().collect::<Vec<_>>() {
            self.set_timers(now, &client_id);
        }
        ended.sort_unstable();
        for (_, client_id) in ended {
            self.end_session(now, &client_id);
        }
    }

    /// The QoS of each retained message, and whether it is what the broker before this one had last.
    fn retained_over_a_crash(&self, live: &State) -> BTreeMap<String, (Qos, bool)> {
        let retained = self.state.retained.iter();
        let retained = retained.filter_map(|(topic, retained)| {
            let message = self.messages.get(&retained.number)?;
            let last = live.retained.get(topic);
            let is_last = last.is_some_and(|last| last.number == retained.number);
            Some((topic.clone(), (message.qos, is_last)))
        });
        retained.collect()
    }

    /// Sessions that are not stored are members of nothing any more.
    fn leave_groups_of_the_lost(&mut self) {
        let sessions = self.state.sessions.iter();
        let lost = sessions.filter(|(_, session)| !session.is_durable);
        let left: Vec<(String, String)> = lost
            .flat_map(|(client_id, session)| {
                let names = session.subscriptions.iter();
                let names = names.filter(|(_, subscription)| subscription.target.share().is_some());
                names.map(|(name, _)| (client_id.clone(), name.clone()))
            })
            .collect();
        for (client_id, name) in left {
            self.leave_group(&client_id, &name);
        }
    }

    /// Which member had what of a group is known of QoS 2 alone. All else may come to any of them once more, and need not: it may
    /// have been in no store.
    fn free_shared(&mut self) {
        let State {
            sessions, shared, ..
        } = &mut self.state;
        for copy in shared.iter_mut().filter(|copy| !copy.is_done) {
            copy.holder = None;
            copy.held_as = None;
            copy.is_handed_on = true;
            copy.is_excused = true;
        }
        for (client_id, session) in sessions {
            for flight in &session.flights {
                let place = flight.copy.shared;
                if let Some(copy) = place.and_then(|place| shared.get_mut(place)) {
                    copy.holder = Some((client_id.clone(), session.instance));
                    copy.held_as = Some(flight.copy.form.clone());
                }
            }
        }
    }

    /// Wills and expiry go on: of those who were connected from here, of others from where they were by the wall clock.
    fn set_timers(&mut self, now: Now, client_id: &str) {
        let delay_max = self.limits.will_delay_seconds_max;
        let Some(session) = self.state.sessions.get_mut(client_id) else {
            return;
        };
        let (at, wall) = (now.monotonic.as_nanos(), now.wall.as_millis());
        let after = |millis: u64| at + millis * 1_000_000;
        let delay = session.will.as_ref().map_or(0, |will| will.delay_seconds);
        let delay = u64::from(delay.min(delay_max).min(session.expiry_seconds)) * 1_000;
        let lifetime = u64::from(session.expiry_seconds) * 1_000;
        let was_connected = session.connection.take().is_some();
        if was_connected {
            session.left_wall = wall;
            session.will_due_wall = wall + delay;
        }
        let lived = wall.saturating_sub(session.left_wall);
        session.expires_at = Some(after(lifetime.saturating_sub(lived)));
        session.will_at = session.will.is_some().then(|| {
            let left = session.will_due_wall.saturating_sub(wall);
            after(left.min(delay))
        });
    }

    /// Whether a broker that has started again has yet to send what the one before it had sent or was about to send.
    pub(super) fn is_recovered(&self, client_id: &str) -> bool {
        let session = self.state.sessions.get(client_id);
        session.is_some_and(|session| session.is_recovered)
    }

    /// Whether a delivery that is said to be sent again may be one that only the broker before this one knew of. QoS 1 may
    /// come at any time then: its id is a new one, and it waits in the queue like any other.
    pub(super) fn is_unknown_repeat(&self, client_id: &str, packet: u16, qos: Qos) -> bool {
        let session = self.state.sessions.get(client_id);
        session.is_some_and(|session| {
            let may_be = match qos {
                Qos::AtLeastOnce => session.was_recovered,
                Qos::AtMostOnce | Qos::ExactlyOnce => session.is_recovered,
            };
            may_be && session.flight(packet).is_none()
        })
    }
}

impl Link {
    /// Whether it is in the middle of an exchange of AUTH packets.
    pub(super) fn is_answering(&self) -> bool {
        let connect = self.connect.as_ref();
        !self.is_open && connect.is_some_and(|connect| connect.authentication.is_some())
    }
}

/// What a session is after a crash: QoS 2 deliveries go on under their packet ids; those of QoS 1 may come again, whether under their
/// ids or not; whatever was not stored is gone.
fn recover(
    session: &mut Session,
    live: Option<&Session>,
    retained: &BTreeMap<String, (Qos, bool)>,
) {
    let live = live.filter(|live| live.instance == session.instance);
    let known: &[Flight] = live.map_or(&[], |live| &live.flights);
    let is_sent = |copy: &Copy| {
        let mut flights = known.iter();
        flights.any(|flight| flight.copy.number == copy.number && flight.copy.form == copy.form)
    };
    let mut waiting = VecDeque::new();
    let mut flights: Vec<Flight> = Vec::new();
    for flight in std::mem::take(&mut session.flights) {
        if flight.copy.form.qos == Qos::ExactlyOnce {
            flights.push(flight);
        } else if flight.copy.gate != Gate::Open {
            waiting.push_back(flight.copy);
        }
    }
    let stored = std::mem::take(&mut session.waiting).into_iter();
    let stored = stored.filter(|copy| copy.gate != Gate::Open);
    waiting.extend(stored.filter(|copy| copy.form.qos != Qos::ExactlyOnce || !is_sent(copy)));
    // What was sent since, in that order; a retained message had an entry of its own in the store.
    for flight in known {
        let is_new = flights.iter().all(|earlier| earlier.id != flight.id);
        if flight.copy.form.qos == Qos::ExactlyOnce && is_new {
            flights.push(Flight {
                is_received: false,
                is_unsure: false,
                ..flight.clone()
            });
        }
    }
    for copy in waiting
        .iter_mut()
        .chain(flights.iter_mut().map(|flight| &mut flight.copy))
    {
        copy.gate = Gate::Stored;
    }
    for replay in &mut session.replays {
        let mut replays = live.iter().flat_map(|live| &live.replays);
        let lived = replays.find(|other| {
            (other.since, other.qos, &other.target) == (replay.since, replay.qos, &replay.target)
        });
        recover_replay(replay, lived, retained);
    }
    for packet in std::mem::take(&mut session.refused) {
        session.received.remove(&packet);
    }
    session.to_repeat.clear();
    session.waiting = waiting;
    session.flights = flights;
    session.is_recovered = true;
    session.was_recovered = true;
}

/// What a replay has not brought at QoS 1 or 2 it brings after a crash, at QoS 1 also what it has brought since the store knew
/// of it. At QoS 0 nothing more comes, or once more.
fn recover_replay(
    replay: &mut Replay,
    lived: Option<&Replay>,
    retained: &BTreeMap<String, (Qos, bool)>,
) {
    let qos_of = |topic: &String| {
        let (qos, _) = retained.get(topic)?;
        Some(replay.qos.min(*qos)).filter(|qos| *qos != Qos::AtMostOnce)
    };
    replay.brought.retain(|topic| qos_of(topic).is_some());
    // What was sent at QoS 2 goes on after this crash, and is not missed after another one before the next commit.
    let came = lived.iter().flat_map(|lived| &lived.brought);
    let came = came.filter(|topic| {
        let is_last = retained.get(*topic).is_some_and(|(_, is_last)| *is_last);
        is_last && qos_of(topic) == Some(Qos::ExactlyOnce)
    });
    replay.brought.extend(came.cloned());
    replay.owed.retain(|topic| {
        let is_last = retained.get(topic).is_some_and(|(_, is_last)| *is_last);
        let has_come = lived.is_some_and(|lived| lived.brought.contains(topic));
        match qos_of(topic) {
            Some(Qos::ExactlyOnce) => is_last && !has_come,
            Some(Qos::AtLeastOnce) => is_last,
            Some(Qos::AtMostOnce) | None => false,
        }
    });
}
