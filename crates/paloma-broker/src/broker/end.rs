//! Connections end, wills are sent, sessions expire.

use std::time::Duration;

use paloma_codec::{Disconnect, DisconnectReason, Qos};
use paloma_session::{Flight, Monotonic, Now, Outbound, Timeout, Transmit, Wall, WillFate};

use super::Broker;
use super::publish::{Outcome, Routed};
use super::renewal::earlier;
use crate::accounting::DropCause;
use crate::auth::Action;
use crate::connection::{ConnectionId, Open, Phase, Whence};
use crate::effect::{CloseCause, Effect};
use crate::notice::{Notice, Offence};
use crate::session::{SessionEntry, SessionKey, Will};
use crate::shared::{GroupKey, Left};
use crate::store::{MessageId, StoreOp};
use crate::tag::{Share, Tag};
use crate::timers::{Deadline, Timer};
use paloma_topic::{Fault, FilterId};

/// Bytes of answers and deliveries that a connection that is being ended still gets.
const FAREWELL_BYTES: usize = 64 * 1024;

/// Subscriptions that a session which ends is taken off at once; what is left is a job.
const DEPARTURE_STEPS_AT_ONCE: usize = 64;

/// A session that has ended but is still on the filters and in the groups named here.
#[derive(Debug)]
pub(super) struct Departure {
    session: SessionKey,
    filters: Vec<FilterId>,
    groups: Vec<GroupKey>,
}

/// How long an authenticator may take beyond the connect timeout.
const AUTHENTICATION_WAIT: Duration = Duration::from_secs(120);

impl Broker {
    // ---- connections --------------------------------------------------------------------------------------------

    /// Ends an open connection from the broker's side: what may leave leaves, with `reason` in a DISCONNECT behind
    /// it where the client knows such a packet. The session is free at once; the socket follows.
    pub(super) fn end_open(
        &mut self,
        now: Now,
        id: ConnectionId,
        cause: CloseCause,
        reason: Option<DisconnectReason>,
    ) {
        self.end_open_for(now, id, (cause, None), reason);
    }

    /// The client sent what is no packet, or one that is forbidden there. [MQTT311-4.8.0-2]
    pub(super) fn end_offending(&mut self, now: Now, id: ConnectionId, offence: Offence) {
        let (cause, reason) = match offence {
            Offence::Malformed(error) => (CloseCause::Malformed, error.reason()),
            Offence::Violation(violation) => (CloseCause::Violation, violation.reason()),
        };
        self.end_open_for(now, id, (cause, Some(offence)), Some(reason));
    }

    fn end_open_for(
        &mut self,
        now: Now,
        id: ConnectionId,
        (cause, offence): (CloseCause, Option<Offence>),
        reason: Option<DisconnectReason>,
    ) {
        let Some(entry) = self.connections.get_mut(id.key()) else {
            return;
        };
        let phase = std::mem::replace(&mut entry.phase, Phase::Closing(Vec::new()));
        let Phase::Open(mut open) = phase else {
            entry.phase = phase;
            return;
        };
        let mut farewell = Transmit::new(FAREWELL_BYTES, usize::MAX);
        if let Some(session) = self.sessions.get_mut(open.session) {
            let committed = self.commits.committed();
            if cause == CloseCause::ShuttingDown {
                // The wills of those who were sent away before, for example: there is no other time for them.
                let _ = open.protocol.poll_transmit(
                    now,
                    committed,
                    &mut session.protocol,
                    &mut farewell,
                );
            }
            if let Some(reason) = reason {
                open.protocol.disconnect(&Disconnect {
                    reason,
                    ..Disconnect::default()
                });
            }
            // Whatever the status says: this is the last that is written.
            let _ =
                open.protocol
                    .poll_transmit(now, committed, &mut session.protocol, &mut farewell);
        }
        self.account_transmit(open.session, &mut farewell, 0, 0);
        if let Some(entry) = self.connections.get_mut(id.key()) {
            entry.phase = Phase::Closing(farewell.take_bytes());
        }
        let whence = self.connections.get(id.key());
        let whence = whence.map(|entry| entry.origin.whence());
        self.note_client_gone(open.session, whence.unwrap_or_default(), (cause, offence));
        self.detach(now, id, *open);
        self.mark_transmit(id);
        self.effects.push_back(Effect::Close(id, cause));
    }

    /// Closes a connection that has nothing more to say.
    pub(super) fn close_early(
        &mut self,
        id: ConnectionId,
        farewell: Vec<u8>,
        cause: CloseCause,
        offence: Option<Offence>,
    ) {
        let Some(entry) = self.connections.get_mut(id.key()) else {
            return;
        };
        entry.phase = Phase::Closing(farewell);
        let (address, listener) = entry.origin.whence();
        if cause != CloseCause::Refused {
            self.notices.push(Notice::Unopened {
                address,
                listener,
                cause,
                offence,
            });
        }
        self.mark_transmit(id);
        self.effects.push_back(Effect::Close(id, cause));
    }

    fn note_client_gone(
        &mut self,
        key: SessionKey,
        (address, listener): Whence,
        (cause, offence): (CloseCause, Option<Offence>),
    ) {
        if let Some(session) = self.sessions.get(key) {
            self.notices.push(Notice::Disconnected {
                client_id: session.principal.client_id(),
                address,
                listener,
                cause,
                offence,
            });
        }
    }

    pub(super) fn end_for_shutdown(&mut self, now: Now, id: ConnectionId) {
        let Some(entry) = self.connections.get(id.key()) else {
            return;
        };
        match entry.phase {
            Phase::Open(_) => {
                let reason = Some(DisconnectReason::ServerShuttingDown);
                self.end_open(now, id, CloseCause::ShuttingDown, reason);
            }
            Phase::Handshake(_) | Phase::Authenticating(_) => {
                self.close_early(id, Vec::new(), CloseCause::ShuttingDown, None);
            }
            Phase::Closing(_) => {}
        }
    }

    /// The socket is gone; `phase` is what the connection had come to.
    pub(super) fn end_connection(
        &mut self,
        now: Now,
        id: ConnectionId,
        (phase, whence): (Phase, Whence),
        cause: CloseCause,
    ) {
        match phase {
            Phase::Open(open) => {
                self.note_client_gone(open.session, whence, (cause, None));
                self.detach(now, id, *open);
            }
            Phase::Handshake(_) | Phase::Authenticating(_) => {
                let (address, listener) = whence;
                self.notices.push(Notice::Unopened {
                    address,
                    listener,
                    cause,
                    offence: None,
                });
            }
            Phase::Closing(_) => {}
        }
    }

    pub(super) fn handle_connection_timer(&mut self, now: Now, id: ConnectionId) {
        let Some(entry) = self.connections.get_mut(id.key()) else {
            return;
        };
        entry.timer_at = None;
        entry.excuse_silence(now);
        match &mut entry.phase {
            Phase::Handshake(_) | Phase::Authenticating(_) => {
                // Waiting for the authenticator is not the client's fault.
                let grace = match entry.phase {
                    Phase::Authenticating(_) => AUTHENTICATION_WAIT,
                    Phase::Handshake(_) | Phase::Open(_) | Phase::Closing(_) => Duration::ZERO,
                };
                let at = entry.connect_by.saturating_add(grace);
                if now.monotonic < at {
                    self.arm_connection(id, Some(at));
                } else {
                    self.close_early(id, Vec::new(), CloseCause::ConnectTimeout, None);
                }
            }
            Phase::Open(open) if open.is_held_past(now.monotonic) => {
                self.end_open(now, id, CloseCause::StoreFull, None);
            }
            Phase::Open(open) => match open.protocol.handle_timeout(now.monotonic) {
                Timeout::Expired => {
                    let reason = Some(DisconnectReason::KeepAliveTimeout);
                    self.end_open(now, id, CloseCause::KeepAliveTimeout, reason);
                }
                Timeout::Early | Timeout::Ping => {
                    if self.renew_admission(now, id) {
                        self.arm_open(id);
                    }
                }
            },
            Phase::Closing(_) => {}
        }
    }

    /// Sets the timer of an open connection: its keep alive, or the end of its admission.
    pub(super) fn arm_open(&mut self, id: ConnectionId) {
        let Some(entry) = self.connections.get(id.key()) else {
            return;
        };
        let at = match &entry.phase {
            Phase::Open(open) => {
                let keep_alive = open.protocol.poll_timeout().map(|(at, _)| at);
                let renewal = open.renewal.as_ref().map(|renewal| renewal.ask_at);
                let held = open.held.as_ref().map(|held| held.until);
                earlier(earlier(keep_alive, renewal), held)
            }
            Phase::Handshake(_) | Phase::Authenticating(_) | Phase::Closing(_) => None,
        };
        self.arm_connection(id, at);
    }

    /// Sets the connection's one timer, or takes it back.
    pub(super) fn arm_connection(&mut self, id: ConnectionId, at: Option<Monotonic>) {
        let Some(entry) = self.connections.get_mut(id.key()) else {
            return;
        };
        if let Some(earlier) = std::mem::replace(&mut entry.timer_at, at.map(Deadline::new)) {
            self.timers.disarm(earlier.at(), Timer::Connection(id));
        }
        if let Some(at) = at {
            self.timers.arm(at, Timer::Connection(id));
        }
    }

    // ---- sessions -----------------------------------------------------------------------------------------------

    /// The session loses its connection: what that means for its will, its queue and its life.
    fn detach(&mut self, now: Now, id: ConnectionId, mut open: Open) {
        let key = open.session;
        self.forget_held(&mut open);
        let Some(session) = self
            .sessions
            .get_mut(key)
            .filter(|session| session.connection == Some(id))
        else {
            return;
        };
        session.connection = None;
        self.connected = self.connected.saturating_sub(1);
        let closed = open.protocol.handle_closed(&mut session.protocol);
        let expiry_seconds = closed
            .session_expiry_seconds
            .min(self.limits.session_expiry_seconds_max);
        match closed.will {
            WillFate::None | WillFate::Discard => {
                session.will = None;
                self.store_will(key, None);
            }
            WillFate::Publish { after_seconds } => {
                let delay = after_seconds
                    .min(self.limits.will_delay_seconds_max)
                    .min(expiry_seconds);
                if delay == 0 || Fault::WillDelayIgnored.is_on() {
                    self.send_will(now, key);
                } else {
                    let at = now
                        .monotonic
                        .saturating_add(Duration::from_secs(delay.into()));
                    session.rare_mut().will_at = Some(at);
                    self.timers.arm(at, Timer::WillDelay(key));
                    let due_at = now.wall.as_millis() + u64::from(delay) * 1_000;
                    self.store_will(key, Some(Wall::from_millis(due_at)));
                }
            }
        }
        if expiry_seconds == 0 {
            return self.end_session(now, key);
        }
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        session.expiry_seconds = expiry_seconds;
        let at = now
            .monotonic
            .saturating_add(Duration::from_secs(expiry_seconds.into()));
        session.expires_at = Some(Deadline::new(at));
        let record = session.record(Some(now.wall));
        self.commits.push(StoreOp::PutSession(session.id, record));
        self.timers.arm(at, Timer::SessionExpiry(key));
        self.store_ids_in_flight(key);
        self.drop_qos0(key);
    }

    /// QoS 0 messages do not wait for a client to come back, unless `queue_qos0` says so.
    fn drop_qos0(&mut self, key: SessionKey) {
        if self.limits.queue_qos0 {
            return;
        }
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let mut taken = Vec::new();
        session.protocol.take_queued(
            |outbound| outbound.qos() == Qos::AtMostOnce,
            |outbound| taken.push(outbound),
        );
        for outbound in taken {
            let cause = DropCause::ConnectionLost;
            self.hand_on_or_drop(&outbound, true, cause, &mut Outcome::default());
        }
    }

    /// Sends the session's will, if it may still be sent. [MQTT-3.1.2-10]
    fn send_will(&mut self, now: Now, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        if let Some(at) = session.take_will_at() {
            self.timers.disarm(at, Timer::WillDelay(key));
        }
        let Some(will) = session.will.take() else {
            return;
        };
        let Will {
            message,
            qos,
            retain,
            delay_seconds: _,
        } = *will;
        let is_allowed = session
            .principal
            .may(&*self.authorizer, Action::Write, message.topic());
        if is_allowed {
            // Its lifetime begins where it is published. [MQTT-3.3.2-5]
            let message = message.restamped(self.next_message_id().0, now.wall.as_millis());
            self.publish_own(now, Some(key), message, qos, retain);
        } else {
            self.accounting.refused += 1;
        }
        self.store_will(key, None);
    }

    /// Has the store know the will that the session has, or that it has none. In the batch of whatever sent it.
    pub(super) fn store_will(&mut self, key: SessionKey, due_at: Option<Wall>) {
        let Some(session) = self
            .sessions
            .get_mut(key)
            .filter(|session| session.is_stored)
        else {
            return;
        };
        let record = session.will_record(due_at);
        let had_one = std::mem::replace(&mut session.has_stored_will, record.is_some());
        let id = session.id;
        match record {
            Some(_) if Fault::WillNotStored.is_on() => {}
            Some(record) => self.commits.push(StoreOp::PutWill(id, record)),
            None if had_one => self.commits.push(StoreOp::DeleteWill(id)),
            None => {}
        }
    }

    pub(super) fn handle_will_timer(&mut self, now: Now, key: SessionKey) {
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        match session.will_at() {
            // The client is back, or the timer belongs to an earlier connection's will.
            Some(at) if at <= now.monotonic && session.connection.is_none() => {
                self.send_will(now, key)
            }
            Some(_) | None => {}
        }
    }

    pub(super) fn handle_expiry_timer(&mut self, now: Now, key: SessionKey) {
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        match session.expires_at.map(Deadline::at) {
            Some(_) if Fault::ExpiryForgotten.is_on() => {}
            Some(at) if at <= now.monotonic && session.connection.is_none() => {
                self.traffic.sessions_expired += 1;
                self.end_session(now, key);
            }
            Some(_) | None => {}
        }
    }

    /// The session ends: its will is sent [MQTT-3.1.3-9], its place in every table is free, and what it shared with
    /// others is handed on. [MQTT-4.8.2-4] [MQTT-4.8.2-5]
    pub(super) fn end_session(&mut self, now: Now, key: SessionKey) {
        self.send_will(now, key);
        if let Some(session) = self.sessions.get(key) {
            self.directory.remove(session, key);
        }
        let Some(mut session) = self.sessions.remove(key) else {
            return;
        };
        self.subscriptions.note_changed_session();
        self.memory.release(session.charged);
        if session.is_durable() {
            self.delete_session(&mut session);
        }
        session.disarm(key, &mut self.timers);
        self.departures.push_back(Departure {
            session: key,
            filters: std::mem::take(&mut session.filters),
            groups: std::mem::take(&mut session.rare.take().unwrap_or_default().groups),
        });
        if self.departures.len() == 1 {
            let mut steps = DEPARTURE_STEPS_AT_ONCE;
            self.run_departures(&mut steps);
        }
        self.drop_leftovers(session);
    }

    /// Takes sessions that have ended off their filters, `steps` far. Until then they are found there and passed over.
    pub(super) fn run_departures(&mut self, steps: &mut usize) {
        while *steps > 0
            && let Some(departure) = self.departures.front_mut()
        {
            *steps -= 1;
            let key = departure.session;
            if let Some(filter) = departure.filters.pop() {
                self.subscriptions.remove(filter, key);
            } else if let Some(group) = departure.groups.pop() {
                if let Left::LastMember(filter) = self.groups.leave(group, key) {
                    self.subscriptions.remove_group(filter.borrowed(), group);
                }
            } else {
                self.departures.pop_front();
            }
        }
    }

    fn drop_leftovers(&mut self, mut session: SessionEntry) {
        let spilled = session.spill.take().map_or(0, |spill| spill.count);
        for _ in 0..spilled {
            self.accounting.count_drop(DropCause::SessionEnded);
        }
        // The client has these: it only did not confirm the exchange's end.
        let released = session.protocol.window().iter();
        let released = released.filter(|(_, flight)| matches!(flight, Flight::Released { .. }));
        self.accounting.delivered += released.count() as u64;
        let mut leftovers = Vec::new();
        session.protocol.end(|leftover| leftovers.push(leftover));
        for leftover in leftovers {
            let outbound = leftover.outbound;
            let may_go_on = leftover.sent_as.is_none() || outbound.qos() != Qos::ExactlyOnce;
            let cause = DropCause::SessionEnded;
            self.hand_on_or_drop(&outbound, may_go_on, cause, &mut Outcome::default());
        }
    }

    /// A delivery that its session will not make: a shared one goes to another member of its group if it `may_go_on`.
    /// [MQTT-4.8.2-6]
    pub(super) fn hand_on_or_drop(
        &mut self,
        outbound: &Outbound,
        may_go_on: bool,
        cause: DropCause,
        outcome: &mut Outcome,
    ) {
        let may_go_on = may_go_on && !Fault::SharedNotHandedOn.is_on();
        let share = Tag::unpack(outbound.share()).share.filter(|_| may_go_on);
        let group = share.and_then(|share| self.groups.find_by_number(share.group));
        match share.zip(group) {
            Some((share, group)) => self.hand_on((group, share), outbound, outcome),
            None => self.accounting.count_drop(cause),
        }
    }

    /// Gives a shared message that its member could not finish to another member of the group, by that one's terms.
    /// [MQTT-3.8.4-8] [MQTT-3.3.1-13]
    fn hand_on(
        &mut self,
        (group, share): (GroupKey, Share),
        outbound: &Outbound,
        outcome: &mut Outcome,
    ) {
        // It stays the same copy: what choosing and delivering count is one too many.
        self.accounting.copies -= 1;
        self.recipients.clear();
        self.choose_group_member(group, outbound.message().topic());
        let Some(mut recipient) = self.recipients.list.pop() else {
            return;
        };
        // It may have got it as a subscriber of its own, or as a member of another group.
        let message = MessageId(outbound.message().id());
        recipient.is_second_copy = self
            .sessions
            .get(recipient.session)
            .is_some_and(|session| session.may_hold(message));
        let routed = Routed {
            message: outbound.message().clone(),
            qos: share.qos,
            retain: share.retain,
            is_timed: false,
            origin: None,
            more_ids: Vec::new(),
        };
        self.deliver(&routed, &recipient, outcome);
    }
}
