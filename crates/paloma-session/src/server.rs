//! The server's side of a connection until CONNACK.

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytestring::ByteString;
use paloma_codec::{
    Auth, AuthReason, ConnAck, ConnAckReason, Connect, DecodeError, Disconnect, Encode, PacketRef,
    ProtocolVersion,
};

use crate::connection::{Agreed, Connection};
use crate::gate::Gate;
use crate::keep_alive::KeepAlive;
use crate::requests::RequestError;
use crate::session::Session;
use crate::terms::{Options, Role, Terms};
use crate::time::Now;
use crate::transmit::{Transmit, TransmitStatus};
use crate::violation::Violation;

/// A connection on which CONNECT, and perhaps AUTH, is still being exchanged.
///
/// It waits as long as the caller wants before [`Handshake::challenge`], [`Handshake::refuse`] or [`Handshake::accept`].
/// A client may send more before its CONNACK; the caller holds that back until the connection is open.
#[derive(Debug)]
pub struct Handshake {
    state: State,
    pending: Vec<u8>,
}

#[derive(Debug)]
enum State {
    /// CONNECT has to come.
    Expecting,
    /// The caller has to decide.
    Deciding(Box<Asked>),
    /// The client has to answer an AUTH.
    Challenged(Box<Asked>),
    /// Refused or broken.
    Over,
}

/// What of CONNECT concerns the connection.
#[derive(Debug)]
struct Asked {
    version: ProtocolVersion,
    terms: Terms,
    keep_alive_seconds: u16,
    session_expiry_seconds: u32,
    will_delay_seconds: Option<u32>,
    method: Option<ByteString>,
}

/// What a packet of the handshake asks of the caller.
#[derive(Debug)]
pub enum HandshakeEvent {
    /// Decide, at once or later.
    Connect(Box<Connect>),
    /// The answer to the last challenge: decide again.
    Auth(Box<Auth>),
    /// The client gives up: close.
    Disconnect(Box<Disconnect>),
}

impl Default for Handshake {
    fn default() -> Self {
        Self::new()
    }
}

impl Handshake {
    /// Waits for CONNECT. How long is the caller's decision.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            state: State::Expecting,
            pending: Vec::new(),
        }
    }

    /// Takes one packet in.
    ///
    /// # Errors
    /// The packet is not the client's to send at this step. See [`Handshake::handle_violation`].
    pub fn handle_packet(&mut self, packet: PacketRef<'_>) -> Result<HandshakeEvent, Violation> {
        match (&mut self.state, packet) {
            (State::Expecting, PacketRef::Connect(connect)) => {
                self.state = State::Deciding(Box::new(Asked::by(&connect)));
                Ok(HandshakeEvent::Connect(connect))
            }
            (State::Expecting, _) => Err(Violation::ConnectExpected),
            (_, PacketRef::Connect(_)) => Err(Violation::ConnectRepeated),
            (_, PacketRef::Disconnect(disconnect)) => {
                self.state = State::Over;
                Ok(HandshakeEvent::Disconnect(disconnect))
            }
            (State::Challenged(_), PacketRef::Auth(auth)) => self.handle_auth(auth),
            (State::Deciding(_) | State::Over, PacketRef::Auth(_)) => Err(Violation::AuthOutOfStep),
            (State::Deciding(_) | State::Challenged(_) | State::Over, _) => {
                Err(Violation::BeforeConnAck)
            }
        }
    }

    /// Bytes came in that are no packet: refuses with the reason that belongs to the error, where the client can be told
    /// one. `version` is what [`Decoder::version`](paloma_codec::Decoder::version) says after the error: a CONNECT that failed
    /// behind its version is answered in its own words.
    pub fn handle_invalid(&mut self, error: DecodeError, version: Option<ProtocolVersion>) {
        let Some(version) = self.version().or(version) else {
            self.state = State::Over;
            return;
        };
        match error.conn_ack(version) {
            Some(reason) => self.refuse_in(version, &ConnAck::refused(reason)),
            None => self.state = State::Over,
        }
    }

    /// The client broke a rule: refuses, where it can be told why. [MQTT-3.1.4-2]
    pub fn handle_violation(&mut self, violation: Violation) {
        let reason = ConnAckReason::from_code(violation.reason().code());
        match (self.version(), reason) {
            (Some(ProtocolVersion::V5), Some(reason)) => self.refuse(&ConnAck::refused(reason)),
            (_, _) => self.state = State::Over,
        }
    }

    /// Asks the client for more: an AUTH 0x18. [MQTT-4.12.0-2]
    ///
    /// # Errors
    /// [`RequestError::NotAllowed`] if no decision is due, the client named no method [MQTT-4.12.0-6], or the packet is
    /// another one; [`RequestError::Encode`] if the client takes no packet of its size.
    pub fn challenge(&mut self, mut auth: Auth) -> Result<(), RequestError> {
        let State::Deciding(asked) = &self.state else {
            return Err(RequestError::NotAllowed);
        };
        if auth.reason != AuthReason::ContinueAuthentication || !asked.is_method(&auth) {
            return Err(RequestError::NotAllowed);
        }
        if !asked.terms.problem_information {
            auth.reason_string = None;
            auth.user_properties = paloma_codec::UserProperties::new();
        }
        let limit = asked.terms.packet_bytes_max;
        auth.encode_within(asked.version, limit, &mut self.pending)
            .map_err(RequestError::Encode)?;
        self.state = match core::mem::replace(&mut self.state, State::Over) {
            State::Deciding(asked) => State::Challenged(asked),
            other @ (State::Expecting | State::Challenged(_) | State::Over) => other,
        };
        Ok(())
    }

    /// Refuses the client: CONNACK, where its version has a code for the reason, then close. [MQTT-3.2.2-7]
    /// [MQTT-3.1.4-6] [MQTT-4.12.0-4]
    pub fn refuse(&mut self, conn_ack: &ConnAck) {
        self.refuse_in(self.version().unwrap_or(ProtocolVersion::V5), conn_ack);
    }

    /// Lets the client in, on the terms that `conn_ack` announces: what it says of Receive Maximum, packet size,
    /// aliases, QoS, RETAIN, keep alive and session expiry is what holds. Before 5.0 only keep alive and session expiry do,
    /// unannounced. [MQTT-3.1.4-5]
    ///
    /// `gate` has to cover the last commit that concerns the session, as the replay waits for nothing else. Without
    /// `session_present` the session has to be empty [MQTT-3.2.2-2]. `None` if there is nobody to let in.
    pub fn accept(
        self,
        now: Now,
        session: &mut Session,
        conn_ack: &ConnAck,
        options: Options,
        gate: Gate,
    ) -> Option<Connection> {
        let State::Deciding(asked) = self.state else {
            return None;
        };
        debug_assert!(
            conn_ack.reason == ConnAckReason::Success,
            "a refusal opens nothing"
        );
        debug_assert!(
            conn_ack.session_present || (session.window.is_empty() && session.received.is_empty()),
            "a new session has no exchanges"
        );
        let keep_alive_seconds = conn_ack
            .server_keep_alive_seconds
            .unwrap_or(asked.keep_alive_seconds);
        let agreed = Agreed {
            role: Role::Server,
            version: asked.version,
            ours: Terms::of_server(conn_ack, asked.version),
            theirs: asked.terms,
            options,
            keep_alive: KeepAlive::server(keep_alive_seconds, now.monotonic),
            session_expiry_seconds: conn_ack
                .session_expiry_seconds
                .unwrap_or(asked.session_expiry_seconds),
            session_expiry_asked: asked.session_expiry_seconds != 0,
            will_delay_seconds: asked.will_delay_seconds,
            method: asked.method,
        };
        let mut connection = Connection::new(agreed, session);
        connection.open_with(conn_ack, gate);
        Some(connection)
    }

    /// Writes a challenge or a refusal. [`TransmitStatus::Close`] once there is nobody to let in.
    pub fn poll_transmit(&mut self, out: &mut Transmit) -> TransmitStatus {
        out.out().append(&mut self.pending);
        match self.state {
            State::Over => TransmitStatus::Close,
            State::Expecting | State::Deciding(_) | State::Challenged(_) => TransmitStatus::Drained,
        }
    }

    /// The version that CONNECT named.
    #[must_use]
    pub fn version(&self) -> Option<ProtocolVersion> {
        match &self.state {
            State::Deciding(asked) | State::Challenged(asked) => Some(asked.version),
            State::Expecting | State::Over => None,
        }
    }

    fn refuse_in(&mut self, version: ProtocolVersion, conn_ack: &ConnAck) {
        let limit = match &self.state {
            State::Deciding(asked) | State::Challenged(asked) => asked.terms.packet_bytes_max,
            State::Expecting => Terms::UNSAID.packet_bytes_max,
            State::Over => return,
        };
        // One that cannot be written is not: closing says enough.
        conn_ack
            .encode_within(version, limit, &mut self.pending)
            .ok();
        self.state = State::Over;
    }

    fn handle_auth(&mut self, auth: Box<Auth>) -> Result<HandshakeEvent, Violation> {
        let State::Challenged(asked) = core::mem::replace(&mut self.state, State::Over) else {
            return Err(Violation::AuthOutOfStep);
        };
        let verdict = match auth.reason {
            AuthReason::ContinueAuthentication if asked.is_method(&auth) => Ok(()),
            AuthReason::ContinueAuthentication => Err(Violation::AuthMethodChanged),
            AuthReason::Success | AuthReason::ReAuthenticate => Err(Violation::AuthOutOfStep),
        };
        self.state = State::Deciding(asked);
        verdict.map(|()| HandshakeEvent::Auth(auth))
    }
}

impl Asked {
    fn by(connect: &Connect) -> Self {
        Self {
            version: connect.version,
            terms: Terms::of_client(connect),
            keep_alive_seconds: connect.keep_alive_seconds,
            session_expiry_seconds: connect.session_expiry_seconds,
            will_delay_seconds: connect.will.as_ref().map(|will| will.delay_seconds),
            method: connect
                .authentication
                .as_ref()
                .map(|named| named.method.clone()),
        }
    }

    fn is_method(&self, auth: &Auth) -> bool {
        let method = auth.authentication.as_ref().map(|named| &named.method);
        method.is_some() && method == self.method.as_ref()
    }
}
