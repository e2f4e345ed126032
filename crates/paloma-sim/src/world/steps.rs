//! The steps of the plan.

use paloma_broker::store::Space;

use super::{BELIEVED_BACK, BELIEVED_FORWARD, Happening, MICROSECOND, Wire, World};
use crate::clients::Outcome;
use crate::hostile;
use crate::pipe::Pipe;
use crate::plan::{Action, Step};
use crate::random::Random;

impl World {
    pub(super) fn take_step(&mut self, step: &Step) {
        let who = step.who;
        let name = self.clients.get(who).map(|client| client.id.clone());
        self.trace.line(self.now.monotonic.as_nanos(), || {
            let name = name.unwrap_or_default();
            format!("step {} {name}: {:?}", step.number, step.action)
        });
        match &step.action {
            Action::Connect { .. } => self.connect_as(who, &step.action),
            Action::Cut {
                host_notices,
                client_notices,
            } => self.cut(who, *host_notices, *client_notices),
            Action::Stall { millis } => {
                let until = self.at() + millis * 1_000_000;
                let wire = self.clients.get(who).and_then(|client| client.wire);
                if let Some(wire) = wire.and_then(|wire| self.wires.get_mut(&wire)) {
                    wire.down.stalled_until = until;
                    self.counts.faults += 1;
                }
            }
            Action::Hostile => self.attack(step),
            Action::WallJump { millis } => self.set_wall(*millis),
            Action::Rule {
                topic,
                is_write,
                is_denied,
            } => {
                let client_id = format!("c{who}");
                self.rules.set(&client_id, *is_write, topic, *is_denied);
                if self.options.late_rules {
                    let wait = self.random.below(3_000_000) * MICROSECOND;
                    self.happen_at(self.at() + wait, Happening::RulesTold);
                } else {
                    self.host.broker.handle_rules_changed(self.now);
                }
                self.oracle.rules_changed();
                self.counts.faults += 1;
            }
            Action::Crash { millis } => self.crash(*millis),
            Action::FailStore => {
                self.host.keeper.fails_next = true;
                self.counts.faults += 1;
            }
            Action::FillStore { millis } => {
                self.set_space(Space::Full);
                self.counts.faults += 1;
                self.happen_at(self.at() + millis * 1_000_000, Happening::Room);
            }
            Action::Wait { millis } => {
                let until = self.at() + millis * 1_000_000;
                self.run_until(until);
            }
            Action::Leave { .. }
            | Action::Subscribe { .. }
            | Action::Unsubscribe { .. }
            | Action::Publish { .. }
            | Action::HoldAcks(_) => {
                let Some(client) = self.clients.get_mut(who) else {
                    return;
                };
                if client.act(self.now, &mut self.oracle, &step.action) == Outcome::Close {
                    self.client_closes(who);
                }
            }
        }
    }

    fn connect_as(&mut self, who: usize, action: &Action) {
        let Action::Connect {
            clean,
            expiry_seconds,
            will,
            receive_maximum,
            wrong_password,
        } = action
        else {
            return;
        };
        let Some(client) = self.clients.get_mut(who) else {
            return;
        };
        if !client.is_away() {
            if !self.options.takeovers {
                return;
            }
            self.counts.faults += 1;
        }
        client.set_terms(*expiry_seconds, *receive_maximum, will.clone());
        self.connect(who, *clean, *wrong_password);
    }

    fn set_wall(&mut self, millis: i64) {
        let is_believed = (-BELIEVED_BACK..=BELIEVED_FORWARD).contains(&millis);
        if self.options.crashes && !is_believed {
            // The broker's own time then goes on with an error of a millisecond, by which sessions would expire too early here.
            return;
        }
        self.oracle.note_expired(self.believed());
        self.wall_offset_millis = self.wall_offset_millis.saturating_add_signed(millis);
        if !is_believed {
            self.disbelieved_millis += millis;
        }
        self.move_to(self.at());
        self.oracle.note_expired(self.believed());
        self.counts.faults += 1;
    }

    pub(super) fn connect(&mut self, who: usize, is_clean: bool, is_password_wrong: bool) {
        // The earlier socket, if there is one, stays open for all the broker knows.
        let wire = self.open_wire(Some(who));
        let number = self.oracle.next_number();
        let now = self.now;
        if let (Some(wire), Some(client)) = (wire, self.clients.get_mut(who)) {
            client.connect(now, wire, is_clean, is_password_wrong, number);
        }
    }

    pub(super) fn reconnect(&mut self, who: usize) {
        if self.is_calm
            && let Some(client) = self.clients.get_mut(who)
        {
            // A will may be forbidden by now.
            client.without_will();
        }
        if self.options.narrows {
            let receive_maximum = self.random.one_of([1, 2, 65_535]);
            if let Some(client) = self.clients.get_mut(who) {
                client.set_receive_maximum(receive_maximum);
            }
        }
        self.connect(who, false, false);
    }

    fn open_wire(&mut self, client: Option<usize>) -> Option<usize> {
        let number = self.next_wire;
        self.next_wire += 1;
        let is_hostile = client.is_none();
        let host = self.with_host(|host, around| host.open(around, number, is_hostile))?;
        let wire = Wire {
            up: Pipe::default(),
            down: Pipe::default(),
            host: Some(host),
            name: Some(host),
            let_into: None,
            client,
            random: Random::stream(self.seed, 1_000_000 + number as u64),
        };
        self.wires.insert(number, wire);
        Some(number)
    }

    fn attack(&mut self, step: &Step) {
        let mut random = Random::stream(self.seed, 500_000 + step.number as u64);
        let bytes = hostile::bytes(&mut random, self.clients.len());
        let Some(number) = self.open_wire(None) else {
            return;
        };
        self.counts.faults += 1;
        let at = self.at() + random.below(50_000) * MICROSECOND;
        if let Some(wire) = self.wires.get_mut(&number) {
            wire.up.write(&bytes, at, usize::MAX);
        }
        self.happen_at(
            at,
            Happening::Arrive {
                wire: number,
                at_host: true,
            },
        );
        let closed_at = at + random.below(20_000) * 1_000 * MICROSECOND;
        self.happen_at(
            closed_at,
            Happening::Closed {
                wire: number,
                at_host: true,
            },
        );
    }

    fn cut(&mut self, who: usize, host_notices: bool, client_notices: bool) {
        let Some(number) = self.clients.get(who).and_then(|client| client.wire) else {
            return;
        };
        let Some(wire) = self.wires.get_mut(&number) else {
            return;
        };
        self.counts.faults += 1;
        let up = wire.random.index(wire.up.len() + 1);
        wire.up.cut(up);
        let down = wire.random.index(wire.down.len() + 1);
        wire.down.cut(down);
        if host_notices {
            self.notice(number, true);
        }
        if client_notices {
            self.notice(number, false);
        }
    }

    /// In worlds where windows shrink, everybody who keeps acknowledgements comes back once more.
    pub(super) fn cut_those_who_hold(&mut self) {
        for who in 0..self.clients.len() {
            let holds = self
                .clients
                .get(who)
                .is_some_and(|client| client.holds_acks);
            if self.options.narrows && holds {
                self.cut(who, true, true);
            }
        }
    }

    /// One end learns that the wire is closed, once it has read what still arrives.
    pub(super) fn notice(&mut self, number: usize, at_host: bool) {
        let now = self.at();
        let latency = self.latency(number);
        let Some(wire) = self.wires.get(&number) else {
            return;
        };
        let pipe = if at_host { &wire.up } else { &wire.down };
        let at = pipe.last_at().max(now + latency) + MICROSECOND;
        self.happen_at(
            at,
            Happening::Closed {
                wire: number,
                at_host,
            },
        );
    }

    /// Faults stop: whoever has not noticed that a wire is broken does.
    pub(super) fn heal(&mut self, number: usize) {
        let Some(wire) = self.wires.get_mut(&number) else {
            return;
        };
        let was_stalled = std::mem::take(&mut wire.down.stalled_until) > 0;
        let is_broken = wire.up.is_broken || wire.down.is_broken || wire.client.is_none();
        let is_left = wire
            .client
            .and_then(|who| self.clients.get(who))
            .is_none_or(|client| client.wire != Some(number));
        if was_stalled {
            self.happen_at(
                self.at(),
                Happening::Arrive {
                    wire: number,
                    at_host: false,
                },
            );
        }
        if is_broken || is_left {
            self.notice(number, true);
            self.notice(number, false);
        }
    }
}
