//! The rounds of the memory account: what each session and connection holds.

use paloma_session::{Flight, Now, Outbound};

use super::Broker;
use crate::connection::{ConnectionEntry, ConnectionId, Phase};
use crate::memory::{
    CONNECTION_BYTES, Cursor, MESSAGE_BYTES, Pressure, RETAINED_BYTES, SESSION_BYTES,
    SUBSCRIPTION_BYTES, TIMER_BYTES, transport_bytes,
};
use crate::session::SessionEntry;

impl Broker {
    /// About how many bytes of memory the broker holds, its driver's buffers and an in-memory store included; messages
    /// that several sessions share are counted once. Costs nothing to ask; `memory_bytes_max` is judged by it.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.memory.bytes()
    }

    /// Takes in how many bytes the driver holds for this broker: what sockets have not taken, packets that have come in
    /// part, and what a store keeps in memory.
    pub fn set_outside_bytes(&mut self, bytes: u64) {
        self.memory.set_outside(bytes);
    }

    /// Whether nothing that takes memory may be published.
    pub(super) fn is_full(&self) -> bool {
        self.memory.pressure(self.limits.memory_bytes_max) >= Pressure::Publishes
    }

    /// Whether nobody may be let in whose session would be a new one. A client whose session is kept may come: it alone
    /// can empty its queue.
    pub(super) fn is_closed_to(&self, client_id: &str) -> bool {
        self.memory.pressure(self.limits.memory_bytes_max) == Pressure::Connections
            && self.directory.client(&self.sessions, client_id).is_none()
    }

    /// Goes on with the account's round, if one is due.
    pub(super) fn run_audit(&mut self, now: Now) {
        self.memory.set_tables(self.table_bytes());
        let max = self.limits.memory_bytes_max;
        let Some((cursor, mut steps)) = self.memory.begin(now.monotonic, max) else {
            return;
        };
        let mut next = Some(cursor);
        while steps > 0
            && let Some(cursor) = next
        {
            next = match cursor {
                Cursor::Session(index) => Some(self.audit_session(index, &mut steps)),
                Cursor::Connection(index) => self.audit_connection(index, &mut steps),
            };
        }
        self.memory.pause(now.monotonic, next);
    }

    fn audit_session(&mut self, index: u32, steps: &mut usize) -> Cursor {
        let Self {
            sessions, memory, ..
        } = self;
        if index as usize >= sessions.places() {
            return Cursor::Connection(0);
        }
        *steps = steps.saturating_sub(1);
        if let Some(session) = sessions.at_mut(index) {
            let held = session.protocol.queue().len() + session.protocol.window().len();
            *steps = steps.saturating_sub(held);
            let bytes = session.memory_bytes();
            memory.charge(&mut session.charged, bytes);
        }
        Cursor::Session(index + 1)
    }

    fn audit_connection(&mut self, index: u32, steps: &mut usize) -> Option<Cursor> {
        let Self {
            connections,
            memory,
            ..
        } = self;
        if index as usize >= connections.places() {
            return None;
        }
        *steps = steps.saturating_sub(1);
        if let Some(entry) = connections.at_mut(index) {
            let bytes = entry.memory_bytes();
            memory.charge(&mut entry.charged, bytes);
        }
        Some(Cursor::Connection(index + 1))
    }

    /// What the tables hold that know their size.
    fn table_bytes(&self) -> u64 {
        let subscriptions = self.subscriptions.len() + self.groups.members();
        self.subscriptions.heap_bytes() as u64
            + subscriptions as u64 * SUBSCRIPTION_BYTES
            + self.retained.bytes()
            + self.retained.len() as u64 * RETAINED_BYTES
            + self.timers.len() as u64 * TIMER_BYTES
            + self.commits.bytes_waiting()
            + self.messages.bytes() as u64
    }

    /// Charges a connection that is new with the least that it costs.
    pub(super) fn charge_connection(&mut self, id: ConnectionId) {
        if let Some(entry) = self.connections.get_mut(id.key()) {
            let bytes = CONNECTION_BYTES + transport_bytes(entry.origin.transport);
            self.memory.charge(&mut entry.charged, bytes);
        }
    }
}

impl SessionEntry {
    fn memory_bytes(&self) -> u64 {
        let window = self.protocol.window().iter();
        let sent = window.filter_map(|(_, flight)| match flight {
            Flight::Publish(outbound) => Some(outbound),
            Flight::Released { .. } | Flight::Subscribe { .. } | Flight::Unsubscribe { .. } => None,
        });
        let messages: u64 = self.protocol.queue().iter().chain(sent).map(share).sum();
        let will = self.will.as_ref().map_or(0, |will| will.message.len());
        let lists =
            self.filters.capacity() * 4 + self.rare.as_ref().map_or(0, |rare| rare.heap_bytes());
        SESSION_BYTES + messages + (self.protocol.heap_bytes() + will + lists) as u64
    }
}

/// The delivery's part of a message that others may hold too.
fn share(outbound: &Outbound) -> u64 {
    let message = outbound.message();
    (message.len() as u64 + MESSAGE_BYTES) / (message.holders() as u64).max(1)
}

impl ConnectionEntry {
    fn memory_bytes(&self) -> u64 {
        let pending = |pending: &crate::connection::Pending| connect_bytes(&pending.connect);
        let owned = match &self.phase {
            Phase::Handshake(_) => 0,
            Phase::Authenticating(waiting) => pending(waiting),
            Phase::Open(open) => {
                let held = open.held.as_ref().map_or(0, |held| held.message.len());
                let filters = open.filters.as_ref().map_or(0, |job| job.memory_bytes());
                (open.protocol.heap_bytes() + held) as u64 + filters
            }
            Phase::Closing(farewell) => farewell.capacity() as u64,
        };
        let fixed = CONNECTION_BYTES + transport_bytes(self.origin.transport);
        fixed + owned + self.challenged.as_deref().map_or(0, pending)
    }
}

/// What a CONNECT holds of its packet.
pub(super) fn connect_bytes(connect: &paloma_codec::Connect) -> u64 {
    // Its parts share the packet's bytes, which they came in; the password may be copied for the authenticator.
    let will = connect.will.as_ref();
    let will = will.map_or(0, |will| will.payload.len() + will.topic.as_str().len());
    let name = connect.username.as_ref().map_or(0, |name| name.len());
    let password = connect.password.as_ref().map_or(0, |secret| secret.len());
    (will + 2 * (name + password) + connect.client_id.len()) as u64
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use paloma_codec::{Message, MessageParts, PacketId, PublishProperties, Qos};
    use paloma_session::{Pushed, Session};
    use paloma_topic::TopicNameRef;

    use super::*;
    use crate::auth::Identity;
    use crate::mount::MountPoint;
    use crate::principal::Principal;
    use crate::session::Will;
    use crate::store::SessionId;

    fn message(bytes: usize) -> Message {
        let parts = MessageParts {
            id: 1,
            stamp: 0,
            topic: TopicNameRef::new("t").unwrap(),
            properties: &PublishProperties::default(),
            payload: &vec![b'x'; bytes],
        };
        Message::new(&parts, &mut Vec::new()).unwrap()
    }

    fn wait(session: &mut SessionEntry, message: Message) {
        let outbound = Outbound::new(message, Qos::AtLeastOnce);
        let pushed = session.protocol.enqueue(outbound, &[], |_| {});
        assert!(matches!(pushed, Pushed::Stored));
    }

    fn send(session: &mut SessionEntry, message: Message) {
        let outbound = Outbound::new(message, Qos::AtLeastOnce);
        let flight = Flight::Publish(outbound);
        let id = PacketId::new(1).unwrap();
        assert!(session.protocol.restore_flight(id, flight).is_ok());
    }

    fn leave_a_will(session: &mut SessionEntry, message: Message) {
        session.will = Some(Box::new(Will {
            message,
            qos: Qos::AtMostOnce,
            retain: false,
            delay_seconds: 0,
        }));
    }

    fn session() -> SessionEntry {
        let principal = Principal {
            client_id: "c".into(),
            identity: Identity::ANONYMOUS,
            rules: None,
            mount: MountPoint::default(),
            is_local: false,
        };
        SessionEntry::new(SessionId(1), Arc::new(principal), Session::default())
    }

    /// What a session takes from the allocator is what it is charged for, or little less than that.
    fn check(what: &str, hold: impl FnOnce(&mut SessionEntry)) {
        let mut session = session();
        // A little of everything is there before.
        session.filters.reserve(1);
        session.rare_mut().groups.reserve(1);
        wait(&mut session, message(1));
        leave_a_will(&mut session, message(1));
        let before = session.memory_bytes();
        let taken = allocation_counter::measure(|| hold(&mut session));
        let taken = u64::try_from(taken.bytes_current).unwrap();
        let charged = session.memory_bytes() - before;
        assert!(
            (taken * 9 / 10..taken * 3 / 2).contains(&charged),
            "{what}: {charged} charged, {taken} taken"
        );
    }

    #[test]
    fn a_session_is_charged_for_what_it_takes() {
        check("filters", |session| session.filters.reserve(1_000));
        check("groups", |session| session.rare_mut().groups.reserve(1_000));
        check("a will", |session| leave_a_will(session, message(9_000)));
        check("a sent message", |session| send(session, message(9_000)));
        check("waiting messages", |session| {
            for _ in 0..100 {
                wait(session, message(200));
            }
        });
    }

    #[test]
    fn those_who_hold_a_message_together_share_its_cost() {
        let (mut one, mut other) = (session(), session());
        let before = one.memory_bytes() + other.memory_bytes();
        let taken = allocation_counter::measure(|| {
            let message = message(9_000);
            wait(&mut one, message.clone());
            send(&mut other, message);
        });
        let taken = u64::try_from(taken.bytes_current).unwrap();
        let charged = one.memory_bytes() + other.memory_bytes() - before;
        assert!(
            (taken * 9 / 10..taken * 3 / 2).contains(&charged),
            "{charged} charged, {taken} taken"
        );
    }
}
