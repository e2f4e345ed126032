//! The client's side of a connection until CONNACK.

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytestring::ByteString;
use paloma_codec::{
    Auth, AuthReason, ConnAck, Connect, Disconnect, Encode, EncodeError, PacketRef, ProtocolVersion,
};

use crate::connection::{Agreed, Connection};
use crate::keep_alive::KeepAlive;
use crate::requests::RequestError;
use crate::session::{Leftover, Session};
use crate::terms::{Options, Role, Terms};
use crate::time::Now;
use crate::transmit::{Transmit, TransmitStatus};
use crate::violation::Violation;

/// A connection on which CONNECT, and perhaps AUTH, is still being exchanged.
#[derive(Debug)]
pub struct Handshake {
    version: ProtocolVersion,
    terms: Terms,
    keep_alive_seconds: u16,
    session_expiry_seconds: u32,
    clean_start: bool,
    method: Option<ByteString>,
    state: State,
    pending: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// CONNACK or AUTH has to come.
    Waiting,
    /// The caller owes an AUTH.
    Challenged,
    Accepted,
    Over,
}

/// What a packet of the handshake asks of the caller.
#[derive(Debug)]
pub enum HandshakeEvent {
    /// The server lets us in: go on with [`Handshake::open`].
    Accepted(Box<ConnAck>),
    /// The server does not: close.
    Refused(Box<ConnAck>),
    /// The server asks for more: [`Handshake::answer`] it.
    Auth(Box<Auth>),
    /// The server gives up: close.
    Disconnect(Box<Disconnect>),
}

impl Handshake {
    /// Sends this CONNECT. How long to wait for its answer is the caller's decision.
    ///
    /// # Errors
    /// The packet cannot be encoded.
    pub fn new(connect: &Connect) -> Result<Self, EncodeError> {
        let mut pending = Vec::new();
        connect.encode(connect.version, &mut pending)?;
        Ok(Self {
            version: connect.version,
            terms: Terms::of_client(connect),
            keep_alive_seconds: connect.keep_alive_seconds,
            session_expiry_seconds: connect.session_expiry_seconds,
            clean_start: connect.clean_start,
            method: connect
                .authentication
                .as_ref()
                .map(|named| named.method.clone()),
            state: State::Waiting,
            pending,
        })
    }

    /// Takes one packet in.
    ///
    /// # Errors
    /// The packet is not the server's to send at this step: close.
    pub fn handle_packet(&mut self, packet: PacketRef<'_>) -> Result<HandshakeEvent, Violation> {
        match (self.state, packet) {
            (State::Waiting, PacketRef::ConnAck(conn_ack)) => self.handle_conn_ack(conn_ack),
            (State::Waiting, PacketRef::Auth(auth)) => self.handle_auth(auth),
            (State::Waiting | State::Challenged, PacketRef::Disconnect(disconnect))
                if self.version.is_v5() =>
            {
                self.state = State::Over;
                Ok(HandshakeEvent::Disconnect(disconnect))
            }
            (_, PacketRef::ConnAck(_)) => Err(Violation::ConnAckRepeated),
            (_, PacketRef::Auth(_)) => Err(Violation::AuthOutOfStep),
            (_, _) => Err(Violation::ConnAckExpected),
        }
    }

    /// Answers a challenge: an AUTH 0x18 with the same method. [MQTT-4.12.0-3]
    ///
    /// # Errors
    /// [`RequestError::NotAllowed`] if none is owed or it is another packet; [`RequestError::Encode`].
    pub fn answer(&mut self, auth: &Auth) -> Result<(), RequestError> {
        let allowed = self.state == State::Challenged
            && auth.reason == AuthReason::ContinueAuthentication
            && self.is_method(auth.authentication.as_ref().map(|named| &named.method));
        if !allowed {
            return Err(RequestError::NotAllowed);
        }
        auth.encode(self.version, &mut self.pending)
            .map_err(RequestError::Encode)?;
        self.state = State::Waiting;
        Ok(())
    }

    /// Opens the connection on the terms of the CONNACK that [`HandshakeEvent::Accepted`] gave.
    ///
    /// If the server has no session, what was in flight goes to `lost` in its order, and the session begins anew with its
    /// queue kept [MQTT-3.2.2-5]; whether to publish that again is the caller's decision.
    ///
    /// # Errors
    /// [`Violation::SessionUnknown`] if a 5.0 server has a session and we have none [MQTT-3.2.2-4] (see
    /// [`Session::set_established`]): close. [`Violation::ConnAckExpected`] if no CONNACK has accepted us.
    pub fn open(
        self,
        now: Now,
        session: &mut Session,
        conn_ack: &ConnAck,
        options: Options,
        lost: impl FnMut(Leftover),
    ) -> Result<Connection, Violation> {
        if self.state != State::Accepted {
            return Err(Violation::ConnAckExpected);
        }
        let has_session = session.is_established() && !self.clean_start;
        if conn_ack.session_present && !has_session && self.version.is_v5() {
            return Err(Violation::SessionUnknown);
        }
        if !conn_ack.session_present || self.clean_start {
            session.restart(lost);
        }
        let keep_alive_seconds = conn_ack
            .server_keep_alive_seconds
            .unwrap_or(self.keep_alive_seconds);
        let agreed = Agreed {
            role: Role::Client,
            version: self.version,
            ours: self.terms,
            theirs: Terms::of_server(conn_ack, self.version),
            options,
            keep_alive: KeepAlive::client(keep_alive_seconds, now.monotonic),
            session_expiry_seconds: conn_ack
                .session_expiry_seconds
                .unwrap_or(self.session_expiry_seconds),
            session_expiry_asked: self.session_expiry_seconds != 0,
            will_delay_seconds: None,
            method: self.method,
        };
        Ok(Connection::new(agreed, session))
    }

    /// Writes CONNECT or an answer. [`TransmitStatus::Close`] once the server has refused.
    pub fn poll_transmit(&mut self, out: &mut Transmit) -> TransmitStatus {
        out.out().append(&mut self.pending);
        match self.state {
            State::Over => TransmitStatus::Close,
            State::Waiting | State::Challenged | State::Accepted => TransmitStatus::Drained,
        }
    }

    fn handle_conn_ack(&mut self, conn_ack: Box<ConnAck>) -> Result<HandshakeEvent, Violation> {
        if conn_ack.reason.is_error() {
            self.state = State::Over;
            return Ok(HandshakeEvent::Refused(conn_ack));
        }
        let method = conn_ack.authentication.as_ref().map(|named| &named.method);
        if self.version.is_v5() && !self.is_method(method) {
            return Err(match self.method {
                Some(_) => Violation::AuthMethodChanged,
                None => Violation::AuthNotNegotiated,
            });
        }
        self.state = State::Accepted;
        Ok(HandshakeEvent::Accepted(conn_ack))
    }

    fn handle_auth(&mut self, auth: Box<Auth>) -> Result<HandshakeEvent, Violation> {
        if self.method.is_none() {
            return Err(Violation::AuthNotNegotiated);
        }
        if auth.reason != AuthReason::ContinueAuthentication {
            return Err(Violation::AuthOutOfStep);
        }
        if !self.is_method(auth.authentication.as_ref().map(|named| &named.method)) {
            return Err(Violation::AuthMethodChanged);
        }
        self.state = State::Challenged;
        Ok(HandshakeEvent::Auth(auth))
    }

    fn is_method(&self, method: Option<&ByteString>) -> bool {
        method == self.method.as_ref()
    }
}
