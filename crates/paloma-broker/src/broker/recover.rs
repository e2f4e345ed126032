//! A broker from what a store has kept.

use std::sync::Arc;
use std::time::Duration;

use paloma_codec::{PacketId, ProtocolVersion, SubscribeOptions};
use paloma_session::{Flight, Now, Session, Wall, WallClock};
use paloma_topic::{Fault, Target};

use super::deliver::outbound_of;
use super::{Broker, BrokerConfig};
use crate::auth::Identity;
use crate::limits::Limits;
use crate::memory::{MESSAGE_BYTES, SESSION_BYTES};
use crate::mount::MountPoint;
use crate::principal::{self, Principal};
use crate::retained::{self, Replay, Retained};
use crate::session::{SessionEntry, SessionKey, Spill, Will};
use crate::store::{
    FlightRecord, FlightState, Loss, Mark, MessageId, Owner, QueueSummary, Recovered,
    RetainedRecord, SessionId, SessionRecord, Store, StoreError, StoreOp, SubscriptionRecord,
    WillRecord,
};
use crate::subscriptions::Subscription;
use crate::tag::Tag;
use crate::timers::{Deadline, Timer};

/// What a broker has taken back from its store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// Sessions.
    pub sessions: u64,
    /// Their subscriptions.
    pub subscriptions: u64,
    /// Messages that wait in their queues, which stay in the store until they are wanted.
    pub queued: u64,
    /// Messages on their way to a client, whose packet ids are known.
    pub in_flight: u64,
    /// Retained messages.
    pub retained: u64,
    /// Messages that were being given to very many sessions, which goes on.
    pub fan_outs: u64,
    /// What is not there any more.
    pub lost: Vec<Loss>,
}

impl Broker {
    /// A broker that goes on where the one whose batches `store` has committed has stopped, at whichever of its commits
    /// that was. Takes as long as the store's [`recover`](Store::recover); nothing of it is a turn, so that
    /// [`finish_turn`](Self::finish_turn) and [`handle_timeout`](Self::handle_timeout) come next.
    ///
    /// Clients that were connected count as disconnected now: their wills and the expiry of their sessions run from here.
    /// Those who were not have aged by the time that has passed, as far as the wall clock can be believed: a step back of more
    /// than an hour or forward of more than a year is taken for a clock that was set, and no time has passed then.
    ///
    /// # Errors
    /// What the store says. There is no broker then.
    pub fn recover(
        config: BrokerConfig,
        now: Now,
        store: &mut dyn Store,
    ) -> Result<(Self, Recovery), StoreError> {
        let mut rebuild = Rebuild {
            broker: Self::new(config),
            now,
            current: None,
            ended: Vec::new(),
            report: Recovery::default(),
        };
        store.recover(&mut |recovered| rebuild.take(recovered))?;
        Ok(rebuild.finish())
    }
}

struct Rebuild {
    broker: Broker,
    now: Now,
    /// The session whose parts are coming.
    current: Option<(SessionId, SessionKey)>,
    /// Sessions that did not outlive their connection.
    ended: Vec<SessionKey>,
    report: Recovery,
}

impl Rebuild {
    fn take(&mut self, recovered: Recovered) {
        match recovered {
            Recovered::Mark(mark) => self.take_mark(mark),
            Recovered::Session(id, record) => self.take_session(id, record),
            Recovered::Will(id, record) => self.take_will(id, record),
            Recovered::Subscription(id, record) => self.take_subscription(id, &record),
            Recovered::Received(id, packet) => self.take_received(id, packet),
            Recovered::Flight(id, record) => self.take_flight(id, record),
            Recovered::Queue(id, summary) => self.take_queue(id, summary),
            Recovered::Retained(record) => self.take_retained(record),
            Recovered::FanOut(record, message, after) => {
                self.broker.resume_fan_out(&record, message, after);
                self.report.fan_outs += 1;
            }
            Recovered::Lost(loss) => self.report.lost.push(loss),
        }
    }

    fn finish(mut self) -> (Broker, Recovery) {
        for key in std::mem::take(&mut self.ended) {
            self.broker.end_session(self.now, key);
        }
        (self.broker, self.report)
    }

    fn lose(&mut self, what: &'static str) {
        match self.report.lost.iter_mut().find(|loss| loss.what == what) {
            Some(loss) => loss.count += 1,
            None => self.report.lost.push(Loss { what, count: 1 }),
        }
    }

    fn take_mark(&mut self, mark: Mark) {
        let broker = &mut self.broker;
        broker.last_message = broker.last_message.max(mark.message.0);
        broker.last_session = broker.last_session.max(mark.session.0);
        broker.wall = WallClock::since(mark.wall, self.now);
        self.now = broker.wall.read(self.now);
    }

    fn take_session(&mut self, id: SessionId, record: SessionRecord) {
        let (now, broker) = (self.now, &mut self.broker);
        let principal = Arc::new(principal_of(record.owner));
        let mut protocol = Session::new(Arc::clone(&broker.queue_limits));
        protocol.set_established();
        let mut session = SessionEntry::new(id, principal, protocol);
        session.is_stored = true;
        session.expiry_seconds = record.expiry_seconds;
        session.maybe_sent = match record.disconnected_at {
            Some(_) => record.maybe_sent,
            None => MessageId(broker.last_message),
        };
        let key = broker.sessions.insert(session);
        broker.last_session = broker.last_session.max(id.0);
        broker.directory.insert_number(&broker.sessions, key);
        self.current = Some((id, key));
        self.report.sessions += 1;
        let Some(session) = broker.sessions.get_mut(key) else {
            return;
        };
        broker.memory.charge(&mut session.charged, SESSION_BYTES);
        if record.expiry_seconds == 0 {
            self.ended.push(key);
            return;
        }
        let lived = match record.disconnected_at {
            Some(at) => Duration::from_millis(now.wall.millis_since(at)),
            None => {
                let record = session.record(Some(now.wall));
                broker.commits.push(StoreOp::PutSession(id, record));
                Duration::ZERO
            }
        };
        let lifetime = Duration::from_secs(record.expiry_seconds.into());
        let at = now.monotonic.saturating_add(lifetime.saturating_sub(lived));
        session.expires_at = Some(Deadline::new(at));
        broker.timers.arm(at, Timer::SessionExpiry(key));
        if let Some(earlier) = broker.directory.insert_client(&broker.sessions, key) {
            // A store does not have two; the newer one is the one that the client knows.
            self.ended.push(earlier);
        }
    }

    fn session(&mut self, id: SessionId) -> Option<(SessionKey, &mut SessionEntry)> {
        let (_, key) = self.current.filter(|(current, _)| *current == id)?;
        Some((key, self.broker.sessions.get_mut(key)?))
    }

    fn take_will(&mut self, id: SessionId, record: WillRecord) {
        if Fault::WillNotRecovered.is_on() {
            return;
        }
        let now = self.now;
        let delay_max = self.broker.limits.will_delay_seconds_max;
        let Some((key, session)) = self.session(id) else {
            return self.lose("wills");
        };
        let delay = record
            .delay_seconds
            .min(delay_max)
            .min(session.expiry_seconds);
        let left = match record.due_at {
            Some(at) => Duration::from_millis(at.millis_since(now.wall)),
            None => Duration::from_secs(delay.into()),
        };
        let left = left.min(Duration::from_secs(delay.into()));
        let at = now.monotonic.saturating_add(left);
        session.will = Some(Box::new(Will {
            message: record.message,
            qos: record.qos,
            retain: record.retain,
            delay_seconds: record.delay_seconds,
        }));
        session.has_stored_will = true;
        session.rare_mut().will_at = Some(at);
        self.broker.timers.arm(at, Timer::WillDelay(key));
        if record.due_at.is_none() {
            let left = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
            let due_at = Wall::from_millis(now.wall.as_millis().saturating_add(left));
            self.broker.store_will(key, Some(due_at));
        }
    }

    fn take_subscription(&mut self, id: SessionId, record: &SubscriptionRecord) {
        let target = Target::parse(record.filter.clone());
        let options = SubscribeOptions::from_bits(record.options, ProtocolVersion::V5);
        let (Ok(target), Ok(options)) = (target, options) else {
            return self.lose("subscriptions");
        };
        let Some((key, session)) = self.session(id) else {
            return self.lose("subscriptions");
        };
        if session.expiry_seconds == 0 {
            return; // It has ended.
        }
        let principal = Arc::clone(&session.principal);
        let granted = principal.grant(&*self.broker.authorizer, target.filter().borrowed());
        let subscription = Subscription::new(key, &options, record.id, granted);
        match &target {
            Target::Plain(filter) => {
                let (filter_id, _) = self.broker.add_subscription(filter, subscription);
                if let Some(after) = &record.replay_after {
                    let replay = Replay::new(filter.clone(), options, record.id, granted);
                    self.broker.resume_replay(key, filter_id, replay, after);
                }
            }
            Target::Shared { share, filter } => {
                self.broker.join_group(share, filter, subscription);
            }
        }
        self.report.subscriptions += 1;
    }

    fn take_received(&mut self, id: SessionId, packet: PacketId) {
        match self.session(id) {
            Some((_, session)) => session.protocol.restore_received(packet),
            None => self.lose("received packet ids"),
        }
    }

    fn take_flight(&mut self, id: SessionId, record: FlightRecord) {
        let FlightRecord {
            packet,
            entry,
            state,
        } = record;
        let restored = match state {
            FlightState::Assigned(message) => {
                self.broker
                    .memory
                    .take(message.len() as u64 + MESSAGE_BYTES);
                let outbound = outbound_of(&self.broker.groups, &entry, message);
                self.session(id).is_some_and(|(_, session)| {
                    let ids = &entry.subscription_ids;
                    session
                        .protocol
                        .restore_publish(packet, outbound, ids)
                        .is_ok()
                })
            }
            FlightState::Received => {
                let flight = Flight::Released {
                    message: entry.message.0,
                    share: Tag {
                        share: None,
                        is_stored: true,
                    }
                    .pack(),
                };
                self.session(id).is_some_and(|(_, session)| {
                    session.protocol.restore_flight(packet, flight).is_ok()
                })
            }
        };
        if !restored {
            return self.lose("messages in flight");
        }
        self.broker.accounting.copies += 1;
        self.report.in_flight += 1;
    }

    fn take_queue(&mut self, id: SessionId, summary: QueueSummary) {
        let Some((_, session)) = self.session(id) else {
            return self.lose("queues");
        };
        if Fault::QueueNotRecovered.is_on() {
            return;
        }
        let after = MessageId(summary.first.0.saturating_sub(1));
        session.newest = after;
        session.spill = Some(Box::new(Spill {
            count: u32::try_from(summary.count).unwrap_or(u32::MAX),
            bytes: summary.bytes,
            last: summary.last,
            ..Spill::after(after)
        }));
        self.broker.accounting.copies += summary.count;
        self.report.queued += summary.count;
    }

    fn take_retained(&mut self, record: RetainedRecord) {
        let message = record.message;
        let retained = Retained {
            message: message.clone(),
            qos: record.qos,
            author: record.author.map(|owner| Arc::new(principal_of(owner))),
            timer_at: None,
        };
        // What was acknowledged under other limits is kept under these.
        let limits = Limits {
            retained_messages_max: u32::MAX,
            retained_bytes_max: u64::MAX,
            ..Limits::default()
        };
        let _ = self.broker.retained.put(retained, &limits);
        if let Some(at) = retained::expires_at(&message) {
            let left = Duration::from_millis(at.millis_since(self.now.wall));
            let at = self.now.monotonic.saturating_add(left);
            self.broker.arm_retained(message.topic(), at);
        }
        self.report.retained += 1;
    }
}

/// Who a record belongs to. Rules that came with a login are not stored: until the client comes back, what it was granted
/// is not taken away, since all that waits for it is looked through again when it does.
fn principal_of(owner: Owner) -> Principal {
    Principal {
        client_id: (&*owner.client_id).into(),
        identity: Identity { user: owner.user },
        rules: owner.has_own_rules.then(principal::unknown_rules),
        // Not stored either; it comes with the login.
        mount: MountPoint::default(),
        is_local: false,
    }
}
