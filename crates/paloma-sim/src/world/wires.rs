//! Bytes on their way between the two ends.

use paloma_broker::{CloseCause, ConnectionId};

use super::{Happening, MICROSECOND, World};
use crate::clients::Outcome;
use crate::host::Wish;

/// How soon somebody looks again whether a socket that is not read has ended, in nanoseconds.
const LOOK_AGAIN: u64 = 10_000_000;

impl World {
    pub(super) fn latency(&mut self, number: usize) -> u64 {
        let range = if self.is_calm {
            (1, 500)
        } else {
            self.options.latency_us
        };
        self.wires
            .get_mut(&number)
            .map_or(0, |wire| wire.random.within(range) * MICROSECOND)
    }

    pub(super) fn write_down(&mut self, id: ConnectionId) {
        let Some(number) = self.host.socket(id).map(|socket| socket.wire) else {
            return;
        };
        let arrives_at = self.at() + self.latency(number);
        let now = self.at();
        let window = self.options.window_bytes;
        let (Some(socket), Some(wire)) = (self.host.socket_mut(id), self.wires.get_mut(&number))
        else {
            return;
        };
        let taken = wire.down.write(&socket.out, arrives_at, window);
        socket.out.drain(..taken);
        let was_blocked = socket.blocked_since.is_some();
        socket.blocked_since = if socket.out.is_empty() {
            None
        } else if taken > 0 {
            Some(now)
        } else {
            socket.blocked_since.or(Some(now))
        };
        let is_newly_blocked = socket.blocked_since.is_some() && !was_blocked;
        let readable_at = wire.down.readable_at();
        if taken > 0
            && let Some(at) = readable_at
        {
            self.happen_at(
                at.max(arrives_at),
                Happening::Arrive {
                    wire: number,
                    at_host: false,
                },
            );
        }
        if is_newly_blocked {
            let at = now + self.stall_timeout();
            self.happen_at(at, Happening::StallCheck(id));
        }
        if taken > 0 {
            self.with_host(|host, around| host.writable(around, id));
            let wrote_more = self
                .host
                .wishes
                .iter()
                .any(|wish| matches!(wish, Wish::Write(other) if *other == id));
            if wrote_more {
                self.host
                    .wishes
                    .retain(|wish| !matches!(wish, Wish::Write(other) if *other == id));
                self.write_down(id);
            }
        }
    }

    fn stall_timeout(&self) -> u64 {
        u64::from(self.options.stall_timeout_ms) * 1_000_000
    }

    pub(super) fn check_stall(&mut self, id: ConnectionId) {
        let Some(since) = self.host.socket(id).and_then(|socket| socket.blocked_since) else {
            return;
        };
        let due = since + self.stall_timeout();
        if due > self.at() {
            self.happen_at(due, Happening::StallCheck(id));
        } else {
            self.with_host(|host, around| host.close(around, id, CloseCause::Stalled));
        }
    }

    pub(super) fn write_up(&mut self, who: usize) {
        let now = self.now;
        let Some(client) = self.clients.get_mut(who) else {
            return;
        };
        client.flush_out(now);
        let Some(number) = client.wire.filter(|_| !client.out.is_empty()) else {
            return;
        };
        let arrives_at = self.at() + self.latency(number);
        let window = self.options.window_bytes;
        let (Some(client), Some(wire)) = (self.clients.get_mut(who), self.wires.get_mut(&number))
        else {
            return;
        };
        let taken = wire.up.write(&client.out, arrives_at, window);
        client.out.drain(..taken);
        if taken > 0
            && let Some(at) = wire.up.readable_at()
        {
            self.happen_at(
                at.max(arrives_at),
                Happening::Arrive {
                    wire: number,
                    at_host: true,
                },
            );
        }
    }

    pub(super) fn arrive(&mut self, number: usize, at_host: bool) {
        let now = self.at();
        let partial = self.options.partial_reads;
        let Some(wire) = self.wires.get_mut(&number) else {
            return;
        };
        let (host, name, client) = (wire.host, wire.name, wire.client);
        let known = wire.let_into;
        let bytes_max = if partial && wire.random.chance(50) {
            1 + wire.random.index(24)
        } else {
            usize::MAX
        };
        let again_at = now + wire.random.below(2_000) * MICROSECOND;
        let pipe = if at_host {
            &mut wire.up
        } else {
            &mut wire.down
        };
        let bytes = pipe.read(now, bytes_max, again_at);
        if let Some(at) = pipe.readable_at() {
            self.happen_at(
                at.max(now),
                Happening::Arrive {
                    wire: number,
                    at_host,
                },
            );
        }
        if bytes.is_empty() {
            return;
        }
        if at_host {
            if let Some(id) = host {
                self.with_host(|host, around| host.read(around, id, &bytes));
            }
            return;
        }
        let let_into = known.or_else(|| name.and_then(|id| self.oracle.let_into(id)));
        if let Some(who) = client
            && let Some(client) = self.clients.get_mut(who)
            && client.wire == Some(number)
            && client.read(self.now, &mut self.oracle, let_into, &bytes) == Outcome::Close
        {
            self.client_closes(who);
        }
        // Whatever was read made room for more.
        if let Some(id) = host {
            self.write_down(id);
        }
    }

    pub(super) fn closed(&mut self, number: usize, at_host: bool) {
        let Some(wire) = self.wires.get_mut(&number) else {
            return;
        };
        let pipe = if at_host { &wire.up } else { &wire.down };
        if let Some(at) = pipe.readable_at() {
            let now = self.at();
            if at <= now {
                self.arrive(number, at_host);
            }
            let at = at.max(now) + MICROSECOND;
            return self.happen_at(
                at,
                Happening::Closed {
                    wire: number,
                    at_host,
                },
            );
        }
        if at_host {
            let is_unread = |id| self.host.socket(id).is_some_and(|socket| socket.is_unread);
            if wire.host.is_some_and(is_unread) {
                let at = self.at() + LOOK_AGAIN;
                return self.happen_at(
                    at,
                    Happening::Closed {
                        wire: number,
                        at_host,
                    },
                );
            }
            if let Some(id) = wire.host {
                self.with_host(|host, around| host.close(around, id, CloseCause::SocketClosed));
            }
            return;
        }
        let who = wire.client;
        if let Some(who) = who
            && self
                .clients
                .get(who)
                .is_some_and(|client| client.wire == Some(number))
        {
            self.client_closes(who);
        }
    }

    /// The client closes its socket: the broker gets what is under way, and then learns of it.
    pub(super) fn client_closes(&mut self, who: usize) {
        let Some(client) = self.clients.get_mut(who) else {
            return;
        };
        let (number, rest) = (client.wire, std::mem::take(&mut client.out));
        client.end_connection();
        let Some(number) = number else {
            return;
        };
        let arrives_at = self.at() + self.latency(number);
        if let Some(wire) = self.wires.get_mut(&number) {
            wire.up.write(&rest, arrives_at, usize::MAX);
            wire.up.is_broken = true;
            wire.down.is_broken = true;
            if let Some(at) = wire.up.readable_at() {
                self.happen_at(
                    at,
                    Happening::Arrive {
                        wire: number,
                        at_host: true,
                    },
                );
            }
        }
        self.notice(number, true);
        // Most clients try again by themselves.
        if !self.is_leaving && (self.is_calm || self.random.chance(70)) {
            let wait = if self.is_calm {
                100_000
            } else {
                10_000 + self.random.below(3_000_000)
            };
            self.happen_at(self.at() + wait * MICROSECOND, Happening::Reconnect(who));
        }
    }

    /// The broker closes its socket: the client gets what is under way, and then learns of it.
    pub(super) fn host_closes(&mut self, number: usize, farewell: &[u8]) {
        let arrives_at = self.at() + self.latency(number);
        let Some(wire) = self.wires.get_mut(&number) else {
            return;
        };
        wire.host = None;
        wire.down.write(farewell, arrives_at, usize::MAX);
        wire.up.is_broken = true;
        let is_broken = std::mem::replace(&mut wire.down.is_broken, true);
        if let Some(at) = wire.down.readable_at() {
            self.happen_at(
                at,
                Happening::Arrive {
                    wire: number,
                    at_host: false,
                },
            );
        }
        if !is_broken {
            self.notice(number, false);
        }
    }
}
