//! From a new socket to a session: CONNECT, authentication, takeover, resume.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use paloma_codec::{
    Auth, AuthReason, Authentication, ConnAck, ConnAckReason, Connect, DecodeError,
    DisconnectReason, Message, PacketRef, ProtocolVersion, Qos, ReceiveMaximum, Secret,
};
use paloma_session::server::{Handshake, HandshakeEvent};
use paloma_session::{Gate, Now, Options, Session, Transmit};
use paloma_topic::{Fault, TopicNameRef};

use super::Broker;
use super::audit::connect_bytes;
use crate::auth::{Action, Admission, AuthOutcome, AuthRequest};
use crate::connection::{
    ConnectionEntry, ConnectionId, ConnectionInfo, ListenerTerms, Open, Origin, Pending, Phase,
    Renewal, Whence,
};
use crate::effect::{CloseCause, Effect};
use crate::memory::SESSION_BYTES;
use crate::mount::MountPoint;
use crate::notice::{Notice, Offence};
use crate::principal::Principal;
use crate::session::{SessionEntry, SessionKey, Will};
use crate::store::{SessionId, StoreOp};

/// Bytes of a refusal or a challenge; they hold one small packet.
const HANDSHAKE_BYTES: usize = 4 * 1024;

/// What a client's CONNECT found of an earlier session.
#[derive(Clone, Copy, Debug)]
struct Earlier {
    /// It goes on.
    is_present: bool,
    /// The store knew it.
    was_stored: bool,
}

impl Broker {
    pub(super) fn insert_connection(&mut self, now: Now, info: ConnectionInfo) -> ConnectionId {
        self.traffic.connections_opened += 1;
        let wait = Duration::from_millis(self.limits.connect_timeout_ms.into());
        let accepted_at = info.accepted_at.unwrap_or(now.monotonic);
        let connect_by = accepted_at.saturating_add(wait);
        let phase = Phase::Handshake(Box::new(Handshake::new()));
        let entry = ConnectionEntry {
            phase,
            origin: Origin::of(info),
            connect_by,
            timer_at: None,
            challenged: None,
            is_transmit_due: false,
            pause: None,
            charged: 0,
            sample: None,
        };
        let id = ConnectionId::from_key(self.connections.insert(entry));
        self.charge_connection(id);
        self.arm_connection(id, Some(connect_by));
        id
    }

    /// A packet before CONNACK.
    pub(super) fn handle_early_packet(&mut self, id: ConnectionId, packet: PacketRef<'_>) {
        let Some(entry) = self.connections.get_mut(id.key()) else {
            return;
        };
        let Phase::Handshake(handshake) = &mut entry.phase else {
            return; // The driver was told not to read.
        };
        match handshake.handle_packet(packet) {
            Ok(HandshakeEvent::Connect(connect)) => self.begin_authentication(id, *connect),
            Ok(HandshakeEvent::Auth(auth)) => self.continue_authentication(id, *auth),
            Ok(HandshakeEvent::Disconnect(_)) => {
                self.close_early(id, Vec::new(), CloseCause::Disconnected, None);
            }
            Err(violation) => {
                handshake.handle_violation(violation);
                let offence = Offence::Violation(violation);
                self.end_handshake(id, CloseCause::Violation, Some(offence));
            }
        }
    }

    /// The bytes before CONNACK are no packet.
    pub(super) fn refuse_invalid(
        &mut self,
        id: ConnectionId,
        error: DecodeError,
        version: Option<ProtocolVersion>,
    ) {
        if let Some(entry) = self.connections.get_mut(id.key())
            && let Phase::Handshake(handshake) = &mut entry.phase
        {
            handshake.handle_invalid(error, version);
            let offence = Offence::Malformed(error);
            self.end_handshake(id, CloseCause::Malformed, Some(offence));
        }
    }

    /// Closes a connection whose handshake has nothing more to do than to say why.
    fn end_handshake(&mut self, id: ConnectionId, cause: CloseCause, offence: Option<Offence>) {
        let mut farewell = Transmit::new(HANDSHAKE_BYTES, usize::MAX);
        if let Some(entry) = self.connections.get_mut(id.key())
            && let Phase::Handshake(handshake) = &mut entry.phase
        {
            let _ = handshake.poll_transmit(&mut farewell);
        }
        self.traffic.count_early(farewell.len());
        self.close_early(id, farewell.take_bytes(), cause, offence);
    }

    fn refuse_client(
        &mut self,
        id: ConnectionId,
        client_id: Option<ByteString>,
        mut handshake: Handshake,
        reason: ConnAckReason,
    ) {
        self.traffic.count_connect_refused(reason);
        let entry = self.connections.get(id.key());
        let whence = entry.map(|entry| entry.origin.whence());
        let (address, listener) = whence.unwrap_or_default();
        self.notices.push(Notice::Refused {
            client_id,
            address,
            listener,
            reason,
        });
        handshake.refuse(&ConnAck::refused(reason));
        if let Some(entry) = self.connections.get_mut(id.key()) {
            entry.phase = Phase::Handshake(Box::new(handshake));
        }
        self.end_handshake(id, CloseCause::Refused, None);
    }

    // ---- who is it ----------------------------------------------------------------------------------------------

    fn begin_authentication(&mut self, id: ConnectionId, connect: Connect) {
        let Some(entry) = self.connections.get_mut(id.key()) else {
            return;
        };
        let closed = Phase::Closing(Vec::new());
        let Phase::Handshake(handshake) = std::mem::replace(&mut entry.phase, closed) else {
            return;
        };
        let terms = entry.origin.terms.clone();
        if let Err(reason) = self.check_connect(&connect, terms.as_deref()) {
            return self.refuse_client(id, Some(connect.client_id), *handshake, reason);
        }
        self.memory.take(connect_bytes(&connect));
        let is_assigned = connect.client_id.is_empty();
        let client_id = if is_assigned {
            let prefix = terms.as_ref().map(|terms| terms.client_id_prefix.as_str());
            self.client_ids.next(prefix)
        } else {
            // Copied: the packet's bytes would live as long as the session.
            ByteString::from(&*connect.client_id)
        };
        let method = connect
            .authentication
            .as_ref()
            .map(|named| (named.method.clone(), named.data.clone().unwrap_or_default()));
        let pending = Pending {
            handshake: *handshake,
            connect,
            client_id,
            is_assigned,
            request: None,
        };
        self.ask_authenticator(id, pending, method);
    }

    fn ask_authenticator(
        &mut self,
        id: ConnectionId,
        mut pending: Pending,
        method: Option<(ByteString, Secret)>,
    ) {
        let Some(entry) = self.connections.get_mut(id.key()) else {
            return;
        };
        let request = Box::new(AuthRequest {
            connection: id,
            info: entry.origin.info(),
            version: pending.connect.version,
            client_id: pending.client_id.clone(),
            username: pending.connect.username.clone(),
            password: pending.connect.password.clone(),
            method,
        });
        // Kept in case the answer holds for a while only.
        pending.request = Some(request.clone());
        entry.phase = Phase::Authenticating(Box::new(pending));
        self.effects.push_back(Effect::Authenticate(id, request));
    }

    /// What of CONNECT is refused whoever sent it.
    fn check_connect(
        &self,
        connect: &Connect,
        terms: Option<&ListenerTerms>,
    ) -> Result<(), ConnAckReason> {
        if terms.is_some_and(|terms| !terms.versions.contains(&connect.version)) {
            return Err(ConnAckReason::UnsupportedProtocolVersion); // [MQTT-3.1.2-2]
        }
        let may_be_empty = terms.map_or(self.allow_empty_client_id, |t| t.allow_empty_client_id);
        if connect.client_id.is_empty() && !may_be_empty {
            return Err(ConnAckReason::ClientIdentifierNotValid); // [MQTT-3.1.3-8]
        }
        if self.is_closed_to(&connect.client_id) {
            return Err(ConnAckReason::ServerBusy);
        }
        let Some(will) = &connect.will else {
            return Ok(());
        };
        if will.qos.bits() > self.limits.qos_max {
            return Err(ConnAckReason::QosNotSupported); // [MQTT-3.2.2-12]
        }
        if will.retain && !self.limits.retain_available {
            return Err(ConnAckReason::RetainNotSupported); // [MQTT-3.2.2-13]
        }
        Ok(())
    }

    fn continue_authentication(&mut self, id: ConnectionId, auth: Auth) {
        let Some(entry) = self.connections.get_mut(id.key()) else {
            return;
        };
        let Some(waiting) = entry.challenged.take() else {
            return;
        };
        let closed = Phase::Closing(Vec::new());
        let Phase::Handshake(handshake) = std::mem::replace(&mut entry.phase, closed) else {
            return;
        };
        let method = auth
            .authentication
            .map(|named| (named.method, named.data.unwrap_or_default()));
        self.ask_authenticator(
            id,
            Pending {
                handshake: *handshake,
                ..*waiting
            },
            method,
        );
    }

    /// The authenticator has decided.
    pub(super) fn handle_authenticated(
        &mut self,
        now: Now,
        id: ConnectionId,
        outcome: AuthOutcome,
    ) {
        let Some(entry) = self.connections.get_mut(id.key()) else {
            return; // Gone meanwhile.
        };
        if let Phase::Open(_) = entry.phase {
            return self.handle_renewed(now, id, outcome);
        }
        let closed = Phase::Closing(Vec::new());
        let pending = match std::mem::replace(&mut entry.phase, closed) {
            Phase::Authenticating(pending) => *pending,
            other @ (Phase::Handshake(_) | Phase::Open(_) | Phase::Closing(_)) => {
                entry.phase = other;
                return;
            }
        };
        match outcome {
            AuthOutcome::Allow(admission) => self.admit(now, id, pending, *admission),
            AuthOutcome::Deny(reason) => self.refuse_client(
                id,
                Some(pending.client_id.clone()),
                pending.handshake,
                reason,
            ),
            AuthOutcome::Continue(data) => self.challenge(id, pending, data),
        }
        self.resume(now, id);
    }

    fn challenge(&mut self, id: ConnectionId, mut pending: Pending, data: Secret) {
        let Some(named) = &pending.connect.authentication else {
            return self.refuse_client(
                id,
                Some(pending.client_id.clone()),
                pending.handshake,
                ConnAckReason::BadAuthenticationMethod,
            );
        };
        let authentication = Authentication {
            method: named.method.clone(),
            data: Some(data),
        };
        let auth = Auth {
            reason: AuthReason::ContinueAuthentication,
            authentication: Some(authentication),
            ..Auth::default()
        };
        if pending.handshake.challenge(auth).is_err() {
            return self.refuse_client(
                id,
                Some(pending.client_id.clone()),
                pending.handshake,
                ConnAckReason::UnspecifiedError,
            );
        }
        let handshake = std::mem::take(&mut pending.handshake);
        if let Some(entry) = self.connections.get_mut(id.key()) {
            entry.phase = Phase::Handshake(Box::new(handshake));
            entry.challenged = Some(Box::new(pending));
        }
        self.mark_transmit(id);
    }

    // ---- the session --------------------------------------------------------------------------------------------

    /// The client is who it says: it gets its session, unless that belongs to somebody else. Nothing has changed
    /// before this point.
    fn admit(&mut self, now: Now, id: ConnectionId, mut pending: Pending, admission: Admission) {
        let principal = match self.principal_of(id, &mut pending, &admission) {
            Ok(principal) => principal,
            Err(reason) => {
                let client_id = Some(pending.client_id.clone());
                return self.refuse_client(id, client_id, pending.handshake, reason);
            }
        };
        let client_id = &pending.client_id;
        let existing = self.directory.client(&self.sessions, client_id);
        let is_foreign = existing
            .and_then(|key| self.sessions.get(key))
            .is_some_and(|session| session.principal.identity != principal.identity);
        if is_foreign {
            let reason = ConnAckReason::ClientIdentifierNotValid;
            return self.refuse_client(
                id,
                Some(pending.client_id.clone()),
                pending.handshake,
                reason,
            );
        }
        if existing.is_none() && self.sessions.len() >= self.limits.sessions_max as usize {
            return self.refuse_client(
                id,
                Some(pending.client_id.clone()),
                pending.handshake,
                ConnAckReason::QuotaExceeded,
            );
        }
        let was_stored = existing
            .and_then(|key| self.sessions.get(key))
            .is_some_and(SessionEntry::is_durable);
        if let Some(key) = existing {
            // First of all, so that a will that the takeover sends is judged by the rules of today.
            self.change_principal(key, Arc::clone(&principal));
            self.take_over(now, key, pending.connect.clean_start);
        }
        // Taking over may have ended the session.
        let existing = self.directory.client(&self.sessions, client_id);
        let key = match existing {
            Some(key) => key,
            None => self.make_session(principal),
        };
        self.purge_if_stale(key);
        self.purge_flights(key);
        let earlier = Earlier {
            is_present: existing.is_some(),
            was_stored,
        };
        self.open_session(now, id, key, pending, admission, earlier);
    }

    /// Who the client is from here on. Its will gets the names that everybody knows.
    fn principal_of(
        &self,
        id: ConnectionId,
        pending: &mut Pending,
        admission: &Admission,
    ) -> Result<Arc<Principal>, ConnAckReason> {
        let origin = self.connections.get(id.key()).map(|entry| &entry.origin);
        let terms = origin.and_then(|origin| origin.terms.as_ref());
        let principal = Principal {
            client_id: (&*pending.client_id).into(),
            identity: admission.identity.clone(),
            rules: admission.rules.clone(),
            mount: terms.map_or_else(MountPoint::default, |terms| terms.mount_point.clone()),
            is_local: origin.is_some_and(Origin::is_local),
        };
        if let Some(will) = &mut pending.connect.will {
            if !principal.mount.mount_will(will) {
                return Err(ConnAckReason::TopicNameInvalid);
            }
            if !principal.may(&*self.authorizer, Action::Write, will.topic.borrowed()) {
                return Err(ConnAckReason::NotAuthorized);
            }
        }
        Ok(Arc::new(principal))
    }

    /// Ends what an earlier connection of the same client id still has. [MQTT-3.1.4-3]
    fn take_over(&mut self, now: Now, key: SessionKey, clean_start: bool) {
        let earlier = self
            .sessions
            .get(key)
            .and_then(|session| session.connection);
        if let Some(earlier) = earlier.filter(|_| !Fault::TakeoverForgotten.is_on()) {
            let reason = Some(DisconnectReason::SessionTakenOver);
            self.end_open(now, earlier, CloseCause::TakenOver, reason);
        }
        if clean_start && !Fault::CleanStartIgnored.is_on() {
            self.end_session(now, key); // [MQTT-3.1.2-4]
        }
    }

    fn make_session(&mut self, principal: Arc<Principal>) -> SessionKey {
        self.last_session += 1;
        let id = SessionId(self.last_session);
        let protocol = Session::new(Arc::clone(&self.queue_limits));
        let key = self
            .sessions
            .insert(SessionEntry::new(id, principal, protocol));
        if let Some(session) = self.sessions.get_mut(key) {
            self.memory.charge(&mut session.charged, SESSION_BYTES);
        }
        self.directory.insert_client(&self.sessions, key);
        self.directory.insert_number(&self.sessions, key);
        key
    }

    /// [MQTT-3.1.2-5] [MQTT-3.1.2-6] [MQTT-3.1.4-4] [MQTT-3.1.3-2] [MQTT-4.1.0-1]
    fn open_session(
        &mut self,
        now: Now,
        id: ConnectionId,
        key: SessionKey,
        pending: Pending,
        admission: Admission,
        earlier: Earlier,
    ) {
        let conn_ack = self.conn_ack(&pending, &admission, earlier.is_present);
        let Pending {
            handshake,
            connect,
            request,
            ..
        } = pending;
        let renewal = request.and_then(|request| Renewal::of(now, &admission, || request));
        let expiry_seconds = conn_ack
            .session_expiry_seconds
            .unwrap_or(connect.session_expiry_seconds);
        let (receive_maximum, version) = (connect.receive_maximum, connect.version);
        let will = self.will_of(connect);
        let options = self.options();
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        session.connection = Some(id);
        session.is_told_full = false;
        session.window_maximum = receive_maximum.get().min(self.limits.inflight_max);
        session.expiry_seconds = expiry_seconds;
        // A store that knows the session holds a part of its queue, so that it stays there until its end.
        session.is_stored |= expiry_seconds > 0;
        // A will that waited for its delay is not sent: the client is back. [MQTT-3.1.3-9]
        session.will = will;
        // A CONNACK that says that there is no session waits until the store has forgotten it.
        let is_stored = session.is_durable() || earlier.was_stored;
        let gate = if is_stored && !Fault::ConnAckTooSoon.is_on() {
            self.commits.gate()
        } else {
            Gate::Open
        };
        if session.is_durable() && !Fault::SessionNotStored.is_on() {
            self.commits
                .push(StoreOp::PutSession(session.id, session.record(None)));
        }
        session.disarm(key, &mut self.timers);
        let protocol = handshake.accept(now, &mut session.protocol, &conn_ack, options, gate);
        let (Some(mut protocol), Some(entry)) = (protocol, self.connections.get_mut(id.key()))
        else {
            return;
        };
        let principal = Arc::clone(&session.principal);
        if !principal.mount.is_none() {
            protocol.set_mount(principal.mount.text());
        }
        let whence = entry.origin.whence();
        entry.phase = Phase::Open(Box::new(Open::new(protocol, key, renewal)));
        self.note_connected(&principal, whence, version, earlier.is_present);
        self.store_will(key, None);
        self.assign_ids(key);
        self.answered(id, is_stored);
        self.arm_open(id);
    }

    /// Counts a client that was let in, and tells of it.
    fn note_connected(
        &mut self,
        principal: &Principal,
        (address, listener): Whence,
        version: ProtocolVersion,
        is_resumed: bool,
    ) {
        self.connected += 1;
        self.traffic.clients_accepted += 1;
        self.traffic.clients_maximum = self.traffic.clients_maximum.max(self.connected as u64);
        self.notices.push(Notice::Connected {
            client_id: principal.client_id(),
            user: principal.identity.user.clone(),
            address,
            listener,
            version,
            is_resumed,
        });
    }

    /// The broker's own limits on a connection, which the client is not told.
    fn options(&self) -> Options {
        Options {
            in_flight_max: ReceiveMaximum::new(self.limits.inflight_max).unwrap_or_default(),
            in_flight_bytes_max: self.limits.inflight_bytes_max,
            aliases_max: self.limits.topic_alias_maximum,
            alias_bytes_max: self.limits.topic_alias_bytes_max,
            ..Options::default()
        }
    }

    /// The terms on which the client is let in: everything that differs from the standard's defaults is said.
    /// [MQTT-3.1.3-7]
    fn conn_ack(&self, pending: &Pending, admission: &Admission, is_present: bool) -> ConnAck {
        let Pending {
            connect,
            client_id,
            is_assigned,
            ..
        } = pending;
        let limits = &self.limits;
        let keep_alive = connect.keep_alive_seconds;
        let is_too_long = keep_alive == 0 || keep_alive > limits.keep_alive_seconds_max;
        let is_enforced = connect.version.is_v5() || limits.keep_alive_enforce_v3;
        let expiry = connect.session_expiry_seconds;
        let authentication = connect.authentication.as_ref();
        ConnAck {
            session_present: is_present || Fault::SessionAlwaysPresent.is_on(),
            authentication: authentication.map(|named| Authentication {
                method: named.method.clone(),
                data: admission.data.clone(),
            }),
            session_expiry_seconds: (expiry > limits.session_expiry_seconds_max)
                .then_some(limits.session_expiry_seconds_max),
            receive_maximum: ReceiveMaximum::new(limits.receive_maximum).unwrap_or_default(),
            maximum_qos: Qos::from_bits(limits.qos_max).unwrap_or(Qos::ExactlyOnce),
            retain_available: limits.retain_available,
            maximum_packet_size: NonZeroU32::new(limits.packet_bytes_max),
            assigned_client_id: is_assigned.then(|| client_id.clone()),
            topic_alias_maximum: limits.topic_alias_maximum,
            server_keep_alive_seconds: (is_too_long && is_enforced)
                .then_some(limits.keep_alive_seconds_max),
            response_information: connect
                .request_response_information
                .then(|| ByteString::from(format!("response/{client_id}")))
                // A client id with wildcards begins no topic.
                .filter(|text| TopicNameRef::new(text).is_ok()),
            ..ConnAck::default()
        }
    }

    /// [MQTT-3.1.2-14]
    fn will_of(&mut self, connect: Connect) -> Option<Box<Will>> {
        let will = connect.will?;
        let (qos, retain, delay_seconds) = (will.qos, will.retain, will.delay_seconds);
        let message = Message::from_will(&will, 0, 0, &mut self.scratch);
        let message = message.expect("a decoded will's properties can be written");
        Some(Box::new(Will {
            message,
            qos,
            retain,
            delay_seconds,
        }))
    }
}
