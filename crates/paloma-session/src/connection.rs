//! One open connection: what it takes in, what it is told, when it is over.

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytestring::ByteString;
use paloma_codec::{
    Auth, AuthReason, ConnAck, DecodeError, Disconnect, DisconnectReason, EncodeError, PacketId,
    PacketRef, ProtocolVersion, Qos, SubAck, Subscribe, UnsubAck, Unsubscribe, UserProperties,
};

use crate::alias::{InboundAliases, OutboundAliases};
use crate::answers::{Ack, Answers, Body};
use crate::event::Event;
use crate::gate::Gate;
use crate::keep_alive::{KeepAlive, Timeout, TimeoutReason};
use crate::received::ReceivedIds;
use crate::session::Session;
use crate::terms::{Options, Role, Terms};
use crate::time::{Monotonic, Now};
use crate::violation::Violation;
use crate::window::Flight;

/// The open phase of one connection, from CONNACK on, in either role. It dies with the socket; what outlives it
/// is in the [`Session`], which is an argument because a session has no connection most of the time.
///
/// To drive it: give it each packet ([`Connection::handle_packet`]), act on the event, and after a batch of inputs call
/// [`Connection::poll_transmit`] until it is not [`TransmitStatus::Full`](crate::TransmitStatus::Full); arm a timer for
/// [`Connection::poll_timeout`] and report it; call [`Connection::handle_closed`] when the socket is gone, whoever closed it.
///
/// After a [`Violation`] or an undecodable packet call [`Connection::abort`], transmit, and close.
#[derive(Debug)]
pub struct Connection {
    pub(crate) role: Role,
    pub(crate) version: ProtocolVersion,
    pub(crate) phase: Phase,
    pub(crate) reauthentication: Reauthentication,
    pub(crate) ours: Terms,
    pub(crate) theirs: Terms,
    pub(crate) options: Options,
    pub(crate) keep_alive: KeepAlive,
    pub(crate) answers: Answers,
    /// PUBLISHes of QoS 1 and 2 that came on this connection and whose last answer was not written.
    pub(crate) open_inbound: u16,
    /// Exchanges sent or sent again on this connection whose last answer did not come. [MQTT-4.9.0-2]
    pub(crate) unacknowledged: u16,
    /// The next flight to look at for sending it again after a resume; what is new waits behind.
    pub(crate) replay: Option<PacketId>,
    /// PINGRESPs that are owed, or PINGREQs that are asked for.
    pub(crate) pings: u16,
    /// Which connection of its session this is.
    pub(crate) number: u32,
    receipts_qos1: Receipts,
    receipts_qos2: Receipts,
    session_expiry_seconds: u32,
    /// Whether CONNECT asked for a session that outlives the connection.
    session_expiry_asked: bool,
    will_delay_seconds: Option<u32>,
    left: Option<DisconnectReason>,
    pub(crate) rare: Option<Box<Rare>>,
}

/// What is written and taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing may precede the CONNACK that waits. [MQTT-3.2.0-1]
    Opening,
    Open,
    /// Only what is ready and a last packet are still written.
    Closing,
    /// Nothing is. [MQTT-3.14.4-1]
    Closed,
}

/// Where a re-authentication stands. [MQTT-4.12.1-1]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reauthentication {
    /// CONNECT named no method.
    NotNegotiated,
    Idle,
    Running,
}

/// Receipts of one QoS, numbered in order of arrival.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Receipts {
    pub(crate) given: u32,
    pub(crate) answered: u32,
}

/// What few connections have.
#[derive(Debug, Default)]
pub(crate) struct Rare {
    pub(crate) inbound: InboundAliases,
    pub(crate) outbound: OutboundAliases,
    /// QoS 2 exchanges of the peer's that an earlier connection left open and that were not repeated on this one. They are no
    /// part of its quota.
    pub(crate) carried: ReceivedIds,
    /// Answers given out of order, which wait for earlier ones.
    pub(crate) early: Vec<Early>,
    pub(crate) method: ByteString,
}

/// An answer that was given before its turn.
#[derive(Debug)]
pub(crate) struct Early {
    pub(crate) qos: Qos,
    pub(crate) place: u32,
    pub(crate) ack: Ack,
    pub(crate) gate: Gate,
}

/// What a connection is built from, once both ends have agreed.
pub(crate) struct Agreed {
    pub(crate) role: Role,
    pub(crate) version: ProtocolVersion,
    pub(crate) ours: Terms,
    pub(crate) theirs: Terms,
    pub(crate) options: Options,
    pub(crate) keep_alive: KeepAlive,
    pub(crate) session_expiry_seconds: u32,
    pub(crate) session_expiry_asked: bool,
    pub(crate) will_delay_seconds: Option<u32>,
    pub(crate) method: Option<ByteString>,
}

/// What the end of a connection means for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// What becomes of the will. Always [`WillFate::None`] in the client role.
    pub will: WillFate,
    /// Seconds until the session ends: 0 ends it here, `u32::MAX` never does. [MQTT-4.1.0-2]
    pub session_expiry_seconds: u32,
}

/// What becomes of a will when its connection ends. [MQTT-3.1.2-8]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WillFate {
    /// There is none.
    None,
    /// The client left in peace. [MQTT-3.14.4-3]
    Discard,
    /// It is published after this many seconds unless the client is back by then [MQTT-3.1.3-9], or when the session ends.
    Publish {
        /// The Will Delay Interval, or the session's expiry if that is less.
        after_seconds: u32,
    },
}

/// Why a request of the caller's own side could not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// All 65,535 packet ids are in use: try again when an exchange has ended.
    IdsExhausted,
    /// The packet does not fit the peer's Maximum Packet Size [MQTT-3.2.2-15], or has no valid form in this version.
    Encode(EncodeError),
    /// The connection is closing.
    Closed,
    /// This role, or this step of an authentication, has no such packet.
    NotAllowed,
}

impl core::fmt::Display for RequestError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::IdsExhausted => f.write_str("all packet ids are in use"),
            Self::Encode(error) => error.fmt(f),
            Self::Closed => f.write_str("the connection is closing"),
            Self::NotAllowed => f.write_str("not this side's packet to send at this step"),
        }
    }
}

impl core::error::Error for RequestError {}

impl Connection {
    pub(crate) fn new(agreed: Agreed, session: &mut Session) -> Self {
        let number = session.begin_connection();
        let mut connection = Self {
            role: agreed.role,
            version: agreed.version,
            phase: Phase::Open,
            reauthentication: match agreed.method {
                Some(_) => Reauthentication::Idle,
                None => Reauthentication::NotNegotiated,
            },
            ours: agreed.ours,
            theirs: agreed.theirs,
            options: agreed.options,
            keep_alive: agreed.keep_alive,
            answers: Answers::default(),
            open_inbound: 0,
            unacknowledged: 0,
            replay: session.window.first(),
            pings: 0,
            number,
            receipts_qos1: Receipts::default(),
            receipts_qos2: Receipts::default(),
            session_expiry_seconds: agreed.session_expiry_seconds,
            session_expiry_asked: agreed.session_expiry_asked,
            will_delay_seconds: agreed.will_delay_seconds,
            left: None,
            rare: None,
        };
        if let Some(method) = agreed.method {
            connection.rare_mut().method = method;
        }
        if connection.version.is_v5() && !session.received.is_empty() {
            connection.rare_mut().carried = session.received.clone();
        }
        connection
    }

    pub(crate) fn open_with(&mut self, conn_ack: &ConnAck, gate: Gate) {
        let form = (self.version, self.theirs.packet_bytes_max);
        self.phase = Phase::Opening;
        if self
            .answers
            .push_packet(conn_ack, form, gate, Body::ConnAck)
            .is_err()
        {
            // A client that leaves no room for the CONNACK cannot be served. [MQTT-3.1.2-24]
            self.phase = Phase::Closing;
        }
    }

    // Inputs.

    /// Takes one packet in. What the protocol answers by itself (PUBREL, PUBCOMP, PINGRESP, PUBREC to a repeat) is
    /// queued behind `gate`; PINGRESP waits for nothing. After a DISCONNECT either way, packets mean nothing.
    ///
    /// # Errors
    /// The packet is not the peer's to send here; nothing was changed. See [`Connection::abort`].
    pub fn handle_packet<'a>(
        &mut self,
        now: Now,
        session: &mut Session,
        packet: PacketRef<'a>,
        gate: Gate,
    ) -> Result<Event<'a>, Violation> {
        debug_assert_eq!(
            session.connection(),
            self.number,
            "the session of this connection"
        );
        if matches!(self.phase, Phase::Closing | Phase::Closed) {
            return Ok(Event::None);
        }
        self.keep_alive.received(now.monotonic);
        match packet {
            PacketRef::Publish(publish) => self.handle_publish(session, publish, gate),
            PacketRef::PubAck(ack) => self.handle_pub_ack(session, &ack),
            PacketRef::PubRec(ack) => self.handle_pub_rec(session, &ack, gate),
            PacketRef::PubRel(ack) => Ok(self.handle_pub_rel(session, &ack, gate)),
            PacketRef::PubComp(ack) => self.handle_pub_comp(session, &ack),
            PacketRef::Subscribe(subscribe) => {
                self.only_at(Role::Server)?;
                Ok(Event::Subscribe(subscribe))
            }
            PacketRef::Unsubscribe(unsubscribe) => {
                self.only_at(Role::Server)?;
                Ok(Event::Unsubscribe(unsubscribe))
            }
            PacketRef::SubAck(ack) => self.handle_sub_ack(session, ack),
            PacketRef::UnsubAck(ack) => self.handle_unsub_ack(session, ack),
            PacketRef::PingReq => self.handle_ping_req(session),
            PacketRef::PingResp => {
                self.only_at(Role::Client)?;
                self.keep_alive.answered(now.monotonic);
                Ok(Event::None)
            }
            PacketRef::Disconnect(disconnect) => self.handle_disconnect(disconnect),
            PacketRef::Auth(auth) => self.handle_auth(auth),
            PacketRef::Connect(_) => Err(match self.role {
                Role::Server => Violation::ConnectRepeated,
                Role::Client => Violation::WrongDirection,
            }),
            PacketRef::ConnAck(_) => Err(match self.role {
                Role::Server => Violation::WrongDirection,
                Role::Client => Violation::ConnAckRepeated,
            }),
        }
    }

    /// Bytes came in that are no packet: as [`Connection::abort`], with the reason that belongs to the error.
    pub fn handle_invalid(&mut self, error: DecodeError) {
        self.abort(error.reason());
    }

    /// The timer that [`Connection::poll_timeout`] asked for has fired. On [`Timeout::Expired`] abort with
    /// [`DisconnectReason::KeepAliveTimeout`] and close.
    pub fn handle_timeout(&mut self, now: Monotonic) -> Timeout {
        if matches!(self.phase, Phase::Closing | Phase::Closed) {
            return Timeout::Early;
        }
        let timeout = self.keep_alive.check(now);
        if timeout == Timeout::Ping {
            self.request_ping(now);
        }
        timeout
    }

    /// The socket is gone: what that means for will and session. Nothing of the connection is needed any more.
    #[must_use]
    pub fn handle_closed(self, session: &mut Session) -> Closed {
        session.compact();
        let will = match (self.will_delay_seconds, self.left) {
            (None, _) => WillFate::None,
            (Some(_), Some(DisconnectReason::NormalDisconnection)) => WillFate::Discard,
            (Some(delay), _) => WillFate::Publish {
                after_seconds: delay.min(self.session_expiry_seconds),
            },
        };
        Closed {
            will,
            session_expiry_seconds: self.session_expiry_seconds,
        }
    }

    // Commands.

    /// Server role: answers a SUBSCRIBE, one reason for each of its filters, in their order [MQTT-3.8.4-6]. Dropped
    /// if it cannot be made to fit the client's Maximum Packet Size. [MQTT-3.1.2-25]
    pub fn answer_subscribe(&mut self, mut ack: SubAck, gate: Gate) {
        self.withhold(&mut ack.reason_string, &mut ack.user_properties);
        self.answer(&ack, gate);
    }

    /// Server role: answers an UNSUBSCRIBE, one reason for each of its filters, in their order. [MQTT-3.10.4-5]
    pub fn answer_unsubscribe(&mut self, mut ack: UnsubAck, gate: Gate) {
        self.withhold(&mut ack.reason_string, &mut ack.user_properties);
        self.answer(&ack, gate);
    }

    /// Client role: sends a SUBSCRIBE under an id of its own choice; the packet's is overwritten. Does not wait for the
    /// window of PUBLISHes [MQTT-3.3.4-8].
    ///
    /// # Errors
    /// See [`RequestError`]; nothing is sent.
    pub fn subscribe(
        &mut self,
        session: &mut Session,
        mut subscribe: Subscribe,
    ) -> Result<PacketId, RequestError> {
        let filters = count_of(subscribe.filters.len());
        let id = self.begin_request(session, Flight::Subscribe { filters })?;
        subscribe.id = id;
        self.request(&subscribe)
            .inspect_err(|_| drop(session.window.end(id)))?;
        Ok(id)
    }

    /// Client role: sends an UNSUBSCRIBE under an id of its own choice; the packet's is overwritten.
    ///
    /// # Errors
    /// See [`RequestError`]; nothing is sent.
    pub fn unsubscribe(
        &mut self,
        session: &mut Session,
        mut unsubscribe: Unsubscribe,
    ) -> Result<PacketId, RequestError> {
        let filters = count_of(unsubscribe.filters.len());
        let id = self.begin_request(session, Flight::Unsubscribe { filters })?;
        unsubscribe.id = id;
        self.request(&unsubscribe)
            .inspect_err(|_| drop(session.window.end(id)))?;
        Ok(id)
    }

    /// Client role: sends a PINGREQ, whether one is due or not.
    pub fn ping(&mut self, now: Monotonic) {
        if self.role == Role::Client {
            self.request_ping(now);
        }
    }

    /// Sends a step of a re-authentication. A server may continue or succeed while one runs; a client may begin one, and
    /// continue it when asked. Fails otherwise, and without a method in CONNECT [MQTT-4.12.0-6] [MQTT-4.12.0-7].
    ///
    /// # Errors
    /// See [`RequestError`]; nothing is sent.
    pub fn authenticate(&mut self, mut auth: Auth) -> Result<(), RequestError> {
        let next = match (self.reauthentication, self.role, auth.reason) {
            (Reauthentication::Running, _, AuthReason::ContinueAuthentication)
            | (Reauthentication::Idle, Role::Client, AuthReason::ReAuthenticate) => {
                Reauthentication::Running
            }
            (Reauthentication::Running, Role::Server, AuthReason::Success) => {
                Reauthentication::Idle
            }
            (_, _, _) => return Err(RequestError::NotAllowed),
        };
        if !self.is_method(&auth) {
            return Err(RequestError::NotAllowed);
        }
        self.withhold(&mut auth.reason_string, &mut auth.user_properties);
        self.request(&auth)?;
        self.reauthentication = next;
        Ok(())
    }

    /// Ends the connection from this side: answers that may leave are written, then this packet where the version
    /// and role have one, then [`TransmitStatus::Close`](crate::TransmitStatus::Close) is returned. Before its CONNACK a
    /// server sends none [MQTT-3.14.0-1]. Nothing more is taken in.
    pub fn disconnect(&mut self, disconnect: &Disconnect) {
        match self.phase {
            Phase::Closing | Phase::Closed => return,
            Phase::Opening => {
                self.answers.clear();
                self.phase = Phase::Closed;
                return;
            }
            Phase::Open => {}
        }
        let may_tell = match self.role {
            _ if self.version.is_v5() => true,
            Role::Client => disconnect.reason == DisconnectReason::NormalDisconnection,
            Role::Server => false,
        };
        if may_tell {
            let form = (self.version, self.theirs.packet_bytes_max);
            // One that does not fit is not sent; closing says enough. [MQTT-3.14.2-3]
            self.answers.set_farewell(disconnect, form).ok();
        }
        self.phase = Phase::Closing;
    }

    /// Ends the connection because the peer broke a rule or went silent, with `reason` where the peer can be told.
    /// A will is published.
    pub fn abort(&mut self, reason: DisconnectReason) {
        let reason = match self.role {
            Role::Client if !may_client_say(reason) => DisconnectReason::ProtocolError,
            Role::Client | Role::Server => reason,
        };
        self.disconnect(&Disconnect {
            reason,
            ..Disconnect::default()
        });
    }

    // Outputs. `poll_transmit` is in the module `outgoing`.

    /// When to call [`Connection::handle_timeout`], and why. It moves with traffic, always later: a caller may keep an armed
    /// timer and look again when it fires.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Monotonic, TimeoutReason)> {
        match self.phase {
            Phase::Opening | Phase::Open => self.keep_alive.poll_timeout(),
            Phase::Closing | Phase::Closed => None,
        }
    }

    /// Whether there is room for the answers of more packets. `false` only while answers wait for a commit or for
    /// the socket, so that it turns true without further input.
    #[must_use]
    pub fn may_read(&self) -> bool {
        self.answers.len() < self.options.answers_max as usize
    }

    /// How many answers wait for a commit or for the socket.
    #[must_use]
    pub fn answers_waiting(&self) -> usize {
        self.answers.len()
    }

    /// Whether a queued delivery of `qos` could be sent at once, as far as the peer's window goes.
    #[must_use]
    pub fn has_window_for(&self, session: &Session, qos: Qos) -> bool {
        let open = self.replay.is_none() && self.unacknowledged < self.send_quota();
        qos == Qos::AtMostOnce || (open && !session.window.is_exhausted())
    }

    /// Which end this is.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// The version that both ends speak.
    #[must_use]
    pub const fn version(&self) -> ProtocolVersion {
        self.version
    }

    /// What the peer accepts.
    #[must_use]
    pub const fn peer_terms(&self) -> &Terms {
        &self.theirs
    }

    /// The Authentication Method of CONNECT; empty if it named none.
    #[must_use]
    pub fn authentication_method(&self) -> ByteString {
        self.rare
            .as_ref()
            .map_or_else(ByteString::new, |rare| rare.method.clone())
    }

    /// The keep alive in force, in seconds; 0 for none.
    #[must_use]
    pub const fn keep_alive_seconds(&self) -> u16 {
        self.keep_alive.interval_seconds()
    }

    /// Seconds that the session would outlive the connection if it ended here.
    #[must_use]
    pub const fn session_expiry_seconds(&self) -> u32 {
        self.session_expiry_seconds
    }

    /// PUBLISHes of QoS 1 and 2 from the peer whose last answer was not written.
    #[must_use]
    pub const fn open_inbound(&self) -> u16 {
        self.open_inbound
    }

    /// Exchanges towards the peer that count against its Receive Maximum.
    #[must_use]
    pub const fn unacknowledged(&self) -> u16 {
        self.unacknowledged
    }

    // Private.

    pub(crate) fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    pub(crate) const fn receipts_of(&mut self, qos: Qos) -> &mut Receipts {
        match qos {
            Qos::AtMostOnce | Qos::AtLeastOnce => &mut self.receipts_qos1,
            Qos::ExactlyOnce => &mut self.receipts_qos2,
        }
    }

    /// How many exchanges towards the peer may be open. [MQTT-4.9.0-1]
    pub(crate) fn send_quota(&self) -> u16 {
        self.theirs
            .receive_maximum
            .min(self.options.in_flight_max)
            .get()
    }

    pub(crate) fn only_at(&self, role: Role) -> Result<(), Violation> {
        if self.role == role {
            Ok(())
        } else {
            Err(Violation::WrongDirection)
        }
    }

    fn handle_ping_req(&mut self, session: &mut Session) -> Result<Event<'static>, Violation> {
        self.only_at(Role::Server)?;
        self.pings = self.pings.saturating_add(1);
        // A client pings because it has nothing else to say: time to give memory back.
        session.compact();
        self.answers.compact();
        Ok(Event::None)
    }

    fn handle_disconnect(
        &mut self,
        disconnect: Box<Disconnect>,
    ) -> Result<Event<'static>, Violation> {
        if self.role == Role::Client && !self.version.is_v5() {
            return Err(Violation::DisconnectFromServer);
        }
        if let (Role::Server, Some(seconds)) = (self.role, disconnect.session_expiry_seconds) {
            if seconds != 0 && !self.session_expiry_asked {
                return Err(Violation::SessionExpiryFromZero);
            }
            self.session_expiry_seconds = seconds;
        }
        self.left = Some(disconnect.reason);
        self.answers.clear();
        self.phase = Phase::Closed;
        Ok(Event::Disconnect(disconnect))
    }

    fn handle_auth(&mut self, auth: Box<Auth>) -> Result<Event<'static>, Violation> {
        let next = match (self.reauthentication, self.role, auth.reason) {
            (Reauthentication::NotNegotiated, _, _) => return Err(Violation::AuthNotNegotiated),
            (_, _, _) if !self.is_method(&auth) => return Err(Violation::AuthMethodChanged),
            (Reauthentication::Running, _, AuthReason::ContinueAuthentication)
            | (Reauthentication::Idle, Role::Server, AuthReason::ReAuthenticate) => {
                Reauthentication::Running
            }
            (Reauthentication::Running, Role::Client, AuthReason::Success) => {
                Reauthentication::Idle
            }
            (Reauthentication::Running | Reauthentication::Idle, _, _) => {
                return Err(Violation::AuthOutOfStep);
            }
        };
        self.reauthentication = next;
        Ok(Event::Auth(auth))
    }

    /// Whether the packet names the method of CONNECT; a success may leave it out. [MQTT-4.12.0-5]
    fn is_method(&self, auth: &Auth) -> bool {
        let method = self.rare.as_ref().map_or("", |rare| &rare.method);
        match &auth.authentication {
            Some(authentication) => authentication.method == *method,
            None => auth.reason == AuthReason::Success,
        }
    }

    fn begin_request(
        &self,
        session: &mut Session,
        flight: Flight,
    ) -> Result<PacketId, RequestError> {
        if self.role != Role::Client {
            return Err(RequestError::NotAllowed);
        }
        if self.phase != Phase::Open {
            return Err(RequestError::Closed);
        }
        session
            .window
            .begin(flight)
            .map_err(|_| RequestError::IdsExhausted)
    }

    fn request_ping(&mut self, now: Monotonic) {
        self.pings = self.pings.saturating_add(1);
        let wait = self
            .options
            .ping_wait_seconds
            .min(self.keep_alive.interval_seconds());
        self.keep_alive.pinging(now, wait);
    }

    fn request(&mut self, packet: &impl paloma_codec::Encode) -> Result<(), RequestError> {
        if self.phase != Phase::Open {
            return Err(RequestError::Closed);
        }
        let form = (self.version, self.theirs.packet_bytes_max);
        self.answers
            .push_packet(packet, form, Gate::Open, Body::Packet)
            .map_err(RequestError::Encode)
    }

    fn answer(&mut self, packet: &impl paloma_codec::Encode, gate: Gate) {
        let form = (self.version, self.theirs.packet_bytes_max);
        if matches!(self.phase, Phase::Opening | Phase::Open) {
            self.answers
                .push_packet(packet, form, gate, Body::Packet)
                .ok();
        }
    }

    /// Removes what explains, if the client did not ask for problem information. [MQTT-3.1.2-29]
    fn withhold(&self, reason_string: &mut Option<ByteString>, properties: &mut UserProperties) {
        if !self.theirs.problem_information {
            *reason_string = None;
            *properties = UserProperties::new();
        }
    }
}

fn count_of(filters: usize) -> u16 {
    u16::try_from(filters).unwrap_or(u16::MAX)
}

/// Reasons that are not a server's alone to give.
const fn may_client_say(reason: DisconnectReason) -> bool {
    matches!(
        reason,
        DisconnectReason::NormalDisconnection
            | DisconnectReason::DisconnectWithWillMessage
            | DisconnectReason::UnspecifiedError
            | DisconnectReason::MalformedPacket
            | DisconnectReason::ProtocolError
            | DisconnectReason::ImplementationSpecificError
            | DisconnectReason::TopicNameInvalid
            | DisconnectReason::ReceiveMaximumExceeded
            | DisconnectReason::TopicAliasInvalid
            | DisconnectReason::PacketTooLarge
            | DisconnectReason::MessageRateTooHigh
            | DisconnectReason::QuotaExceeded
            | DisconnectReason::AdministrativeAction
            | DisconnectReason::PayloadFormatInvalid
    )
}
