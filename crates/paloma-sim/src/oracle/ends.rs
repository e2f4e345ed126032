//! What must have happened in the end, and what the clients themselves saw.

use paloma_broker::{Broker, Tables};
use paloma_codec::Qos;
use paloma_session::Now;

use super::Oracle;
use super::inputs::number_of;
use crate::violation::Invariant;

impl Oracle {
    /// A client's program was given a message.
    pub(crate) fn delivered(
        &mut self,
        now: Now,
        (client_id, instance): (&str, u64),
        payload: &[u8],
        qos: Qos,
    ) {
        let Some(number) = number_of(payload).filter(|_| qos == Qos::ExactlyOnce) else {
            return;
        };
        let counts = self.exactly_once.entry((instance, number)).or_default();
        counts.1 += 1;
        let (sent, came) = *counts;
        if came > sent {
            let what = format!("{number} came to {client_id} {came} times, sent {sent} times");
            self.violated(now, Invariant::I2, what);
        }
    }

    /// A client's program was told that its message arrived.
    pub(crate) fn acknowledged(&mut self, now: Now, client_id: &str, number: u64) {
        let is_empty = self
            .messages
            .get(&number)
            .is_none_or(|message| message.is_empty);
        if !is_empty && !self.state.taken.contains(&number) {
            let what = format!("{number} of {client_id} was acknowledged and is not there");
            self.violated(now, Invariant::I11, what);
        }
    }

    /// Faults have stopped for long enough: nothing is owed, and no exchange is open.
    pub(crate) fn check_liveness(&mut self, now: Now, broker: &Broker) {
        for (client_id, session) in self.state.sessions.clone() {
            let Some(id) = session.connection else {
                let what = format!("{client_id} did not come back");
                self.violated(now, Invariant::I10, what);
                continue;
            };
            for copy in &session.waiting {
                self.account_for(now, id, &client_id, copy);
            }
            if let Some(session) = self.state.sessions.get_mut(&client_id) {
                session.waiting.clear();
            }
            let mut open = session
                .flights
                .iter()
                .filter(|flight| !flight.may_be_gone());
            if let Some(flight) = open.next() {
                let what = format!("the exchange {} with {client_id} is open", flight.id);
                self.violated(now, Invariant::I10, what);
            }
            let replays = session.replays.iter();
            let replays = replays.filter(|replay| !self.rules.changed_since(replay.rules_version));
            let owed: Vec<_> = replays.flat_map(|replay| &replay.owed).collect();
            for topic in owed {
                if self.full_drops > self.full_drops_found {
                    self.full_drops_found += 1;
                    continue;
                }
                let what = format!("{client_id} did not get the retained message of {topic}");
                self.violated(now, Invariant::I1, what);
            }
            let waiting = broker.session(&client_id).map(|view| view.waiting);
            if waiting != Some(0) {
                let what = format!("{waiting:?} messages still wait for {client_id}");
                self.violated(now, Invariant::I10, what);
            }
        }
        let unanswered = self.links.values().find(|link| {
            link.is_open
                && !link.is_hostile
                && (!link.answers.is_empty() || !link.releases.is_empty())
        });
        if let Some(link) = unanswered {
            let what = format!(
                "{} still waits for an answer: {:?}",
                link.client_id, link.answers
            );
            self.violated(now, Invariant::I10, what);
        }
        self.check_shared(now);
        self.check_exactly_once(now);
    }

    fn check_shared(&mut self, now: Now) {
        if self.full_drops > 0 {
            return;
        }
        let missing: Vec<usize> = (0..self.state.shared.len())
            .filter(|place| self.is_missing(*place))
            .collect();
        for place in missing {
            if self.came_as_another(place) {
                continue;
            }
            if let Some(copy) = self.state.shared.get(place) {
                let what = format!("nobody of {} got {}", copy.target, copy.number);
                self.violated(now, Invariant::I1, what);
            }
        }
    }

    fn is_missing(&self, place: usize) -> bool {
        let Some(copy) = self.state.shared.get(place) else {
            return false;
        };
        let message = self.messages.get(&copy.number);
        let is_owed = message.is_some_and(|message| {
            message.qos != Qos::AtMostOnce && !message.is_large && message.life.is_none()
        });
        is_owed
            && !copy.is_done
            && !copy.is_excused
            && !self.rules.changed_since(copy.rules_version)
    }

    /// Each delivery at QoS 2 that was begun has reached its client's program, if the client kept its session.
    fn check_exactly_once(&mut self, now: Now) {
        for (client_id, session) in &self.state.sessions {
            let mut counts = self.exactly_once.iter();
            let missing = counts.find(|((instance, number), (sent, came))| {
                let is_empty = self
                    .messages
                    .get(number)
                    .is_none_or(|message| message.is_empty);
                *instance == session.instance && sent != came && !is_empty
            });
            let Some(((_, number), (sent, came))) = missing else {
                continue;
            };
            let what =
                format!("{number} was sent to {client_id} {sent} times and came {came} times");
            return self.violated(now, Invariant::I2, what);
        }
    }

    /// Everybody has left and time has passed.
    pub(crate) fn check_empty(&mut self, now: Now, broker: &Broker) {
        let tables = broker.tables();
        if tables != Tables::default() {
            self.violated(now, Invariant::I13, format!("{tables:?}"));
        }
        if broker.queued() != 0 {
            self.violated(
                now,
                Invariant::I13,
                format!("{} messages queued", broker.queued()),
            );
        }
        if !self.state.sessions.is_empty() {
            let what = format!("sessions left: {:?}", self.state.sessions.keys());
            self.violated(now, Invariant::I13, what);
        }
    }
}
