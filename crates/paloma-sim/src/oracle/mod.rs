//! An oracle that is naive on purpose: it is told what goes into the broker and what comes out, keeps lists of who
//! subscribed to what, and says when something comes out that should not, or does not that should.
//!
//! It knows nothing of tries, windows, spilled queues or paced jobs. Where the standard leaves the broker a choice (which
//! member of a group, which message gives way in a full queue) it accepts any choice that is counted.

mod crash;
mod ends;
mod inputs;
mod matching;
mod model;
mod outputs;
mod routing;
mod subscriptions;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use paloma_broker::{Broker, CloseCause, ConnectionId, DropCause, Limits};
use paloma_codec::ProtocolVersion;
use paloma_session::Now;

use crate::rules::Rules;
use crate::violation::{Invariant, Violation};

use crash::Snapshot;
pub(crate) use inputs::Seen;
use model::{Expected, Gate, Link, Message, State};

/// Payloads of at least so many bytes are large: no client with a small Maximum Packet Size takes them.
pub(crate) const LARGE_BYTES: usize = 600;

/// The Maximum Packet Size of clients that have a small one.
pub(crate) const SMALL_PACKET_BYTES: u32 = 400;

/// See the module.
#[derive(Debug)]
pub(crate) struct Oracle {
    limits: Limits,
    rules: Arc<Rules>,
    state: State,
    links: BTreeMap<ConnectionId, Link>,
    messages: BTreeMap<u64, Message>,
    /// How many copies of each message were sent to each session at QoS 2, and how many came to its client's program.
    exactly_once: BTreeMap<(u64, u64), (u32, u32)>,
    /// The session that each connection was let into.
    let_into: BTreeMap<ConnectionId, u64>,
    next_number: u64,
    /// The oracle's own clock: one for each input.
    tick: u64,
    instances: u64,
    committed: u64,
    /// Messages that the broker has dropped for want of room, and how many of them were found missing.
    full_drops: u64,
    full_drops_found: u64,
    /// What was dropped by the brokers before this one.
    full_drops_before: u64,
    /// The broker may be started again from its store.
    pub(crate) expects_crashes: bool,
    /// What the broker was to hold at each of its batches from the last committed one on.
    snapshots: VecDeque<Snapshot>,
    violation: Option<Violation>,
}

impl Oracle {
    pub(crate) fn new(limits: Limits, rules: Arc<Rules>) -> Self {
        Self {
            limits,
            rules,
            state: State::default(),
            links: BTreeMap::new(),
            messages: BTreeMap::new(),
            exactly_once: BTreeMap::new(),
            let_into: BTreeMap::new(),
            next_number: 0,
            tick: 0,
            instances: 0,
            committed: 0,
            full_drops: 0,
            full_drops_found: 0,
            full_drops_before: 0,
            expects_crashes: false,
            snapshots: VecDeque::new(),
            violation: None,
        }
    }

    /// The first thing that did not hold.
    pub(crate) fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// Takes note of something that does not hold; the first one counts.
    pub(crate) fn violated(&mut self, now: Now, invariant: Invariant, what: impl Into<String>) {
        self.violation.get_or_insert_with(|| Violation {
            invariant,
            at: now.monotonic.as_nanos(),
            what: what.into(),
        });
    }

    /// A number that no other message has.
    pub(crate) fn next_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// The instance of the client's session, if it has one.
    pub(crate) fn instance(&self, client_id: &str) -> Option<u64> {
        self.state
            .sessions
            .get(client_id)
            .map(|session| session.instance)
    }

    /// The instance of the session that the connection was let into.
    pub(crate) fn let_into(&self, id: ConnectionId) -> Option<u64> {
        self.let_into.get(&id).copied()
    }

    /// Topics with retained messages.
    pub(crate) fn retained_topics(&self) -> Vec<String> {
        self.state.retained.keys().cloned().collect()
    }

    // ---- connections and commits -----------------------------------------------------------------------------------

    pub(crate) fn opened(&mut self, now: Now, id: ConnectionId, is_hostile: bool) {
        let link = Link {
            is_hostile,
            connect: None,
            version: ProtocolVersion::V5,
            client_id: String::new(),
            expected: Expected::Nothing,
            is_open: false,
            is_ending: None,
            heard_at: now.monotonic.as_nanos(),
            expiry_seconds: 0,
            left: None,
            aliases: BTreeMap::new(),
            outbound_aliases: BTreeMap::new(),
            answers: Default::default(),
            releases: Default::default(),
            unacknowledged: Default::default(),
            pings: 0,
            held: None,
            is_unread: false,
        };
        self.links.insert(id, link);
    }

    /// The broker wants the connection closed.
    pub(crate) fn closing(&mut self, now: Now, id: ConnectionId, cause: CloseCause) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        if link.is_hostile {
            return;
        }
        let expected = link.is_ending.take();
        if link.is_open {
            let client_id = link.client_id.clone();
            return self.violated(
                now,
                Invariant::Protocol,
                format!("{client_id} kept to the rules and was closed: {cause}"),
            );
        }
        if let Some(expected) = expected
            && expected != cause
        {
            self.violated(
                now,
                Invariant::I6,
                format!("closed as {cause:?}, not as {expected:?}"),
            );
        }
    }

    /// The socket is gone; the broker is about to be told.
    pub(crate) fn closed(&mut self, now: Now, id: ConnectionId) {
        self.tick += 1;
        self.detach(now, id);
        self.links.remove(&id);
    }

    /// The turn's batch has got its number.
    pub(crate) fn batch(&mut self, seq: u64) {
        let number = |gate: &mut Gate| {
            if *gate == Gate::NextBatch {
                *gate = Gate::Batch(seq);
            }
        };
        for session in self.state.sessions.values_mut() {
            session
                .waiting
                .iter_mut()
                .for_each(|copy| number(&mut copy.gate));
        }
        for link in self.links.values_mut() {
            link.answers
                .iter_mut()
                .for_each(|answer| number(&mut answer.gate));
            link.releases.iter_mut().for_each(|(_, gate)| number(gate));
            if let Expected::Accepted { gate, .. } = &mut link.expected {
                number(gate);
            }
        }
        self.take_snapshot(seq);
    }

    pub(crate) fn committed(&mut self, seq: u64) {
        self.committed = self.committed.max(seq);
        self.forget_snapshots();
    }

    // ---- after each turn -------------------------------------------------------------------------------------------

    /// What must hold after every turn.
    pub(crate) fn turn_ended(&mut self, now: Now, broker: &Broker) {
        let accounting = broker.accounting();
        let queued = broker.queued();
        let accounted = accounting.delivered + accounting.dropped_total() + queued;
        if accounting.copies != accounted {
            self.violated(
                now,
                Invariant::I9,
                format!(
                    "{} copies, but {} delivered, {} dropped and {queued} queued",
                    accounting.copies,
                    accounting.delivered,
                    accounting.dropped_total()
                ),
            );
        }
        self.note_drops(broker);
        let unclosed = self
            .links
            .values()
            .find(|link| link.is_ending.is_some() && !link.is_hostile);
        if let Some(link) = unclosed {
            let what = format!(
                "the connection of {} should have been closed: {:?}",
                link.client_id, link.is_ending
            );
            self.violated(now, Invariant::I6, what);
        }
        self.check_limits(now, broker);
    }

    /// Takes note of how many messages were dropped for want of room by now.
    pub(crate) fn note_drops(&mut self, broker: &Broker) {
        let dropped = broker.accounting().dropped(DropCause::QueueFull);
        self.full_drops = self.full_drops_before + dropped;
    }

    fn check_limits(&mut self, now: Now, broker: &Broker) {
        let tables = broker.tables();
        let limits = self.limits.clone();
        if tables.retained > limits.retained_messages_max as usize {
            self.violated(now, Invariant::I7, "too many retained messages");
        }
        if tables.connections > limits.connections_max as usize {
            self.violated(now, Invariant::I7, "too many connections");
        }
        for client_id in self.state.sessions.keys().cloned().collect::<Vec<_>>() {
            let Some(view) = broker.session(&client_id) else {
                self.violated(
                    now,
                    Invariant::I13,
                    format!("the session of {client_id} is gone"),
                );
                continue;
            };
            if view.waiting > u64::from(limits.queue_messages_max) + self.excess_of(&client_id) {
                let what = format!("{} messages wait for {client_id}", view.waiting);
                self.violated(now, Invariant::I7, what);
            }
            if !self.is_recovered(&client_id)
                && view.in_flight > u64::from(limits.inflight_max).max(self.flights_of(&client_id))
            {
                let what = format!("{} exchanges with {client_id} are open", view.in_flight);
                self.violated(now, Invariant::I7, what);
            }
        }
    }

    /// What may wait beyond the limit of a queue since the broker has started again.
    fn excess_of(&self, client_id: &str) -> u64 {
        let session = self.state.sessions.get(client_id);
        let was_recovered = session.is_some_and(|session| session.was_recovered);
        u64::from(if was_recovered {
            self.limits.inflight_max
        } else {
            0
        })
    }

    fn flights_of(&self, client_id: &str) -> u64 {
        self.state
            .sessions
            .get(client_id)
            .map_or(0, |session| session.flights.len() as u64)
    }

    fn is_past(&self, gate: Gate) -> bool {
        match gate {
            Gate::Open | Gate::Stored => true,
            Gate::NextBatch => false,
            Gate::Batch(seq) => seq <= self.committed,
        }
    }
}
