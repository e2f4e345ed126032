//! One open connection: what it takes in, what it is told, when it is over.

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytestring::ByteString;
use paloma_codec::{ConnAck, DisconnectReason, PacketId, PacketRef, ProtocolVersion, Qos};
use paloma_topic::Fault;

use crate::alias::{InboundAliases, OutboundAliases};
use crate::answers::{Ack, Answers};
use crate::authentication::Reauthentication;
use crate::event::Event;
use crate::gate::Gate;
use crate::keep_alive::{KeepAlive, Timeout, TimeoutReason};
use crate::received::ReceivedIds;
use crate::session::Session;
use crate::terms::{Options, Role, Terms};
use crate::time::{Monotonic, Now};
use crate::violation::Violation;

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
    pub(crate) session_expiry_seconds: u32,
    /// Whether CONNECT asked for a session that outlives the connection.
    pub(crate) session_expiry_asked: bool,
    pub(crate) will_delay_seconds: Option<u32>,
    pub(crate) left: Option<DisconnectReason>,
    pub(crate) rare: Option<Box<Rare>>,
}

/// What is written and taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing may precede the CONNACK that waits. [MQTT-3.2.0-1]
    Opening,
    /// The same, and there is nothing to come after it; without it not even a DISCONNECT. [MQTT-3.14.0-1]
    ClosingUnopened,
    Open,
    /// Only what is ready and a last packet are still written.
    Closing,
    /// Nothing is. [MQTT-3.14.4-1]
    Closed,
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
    /// What all topics towards the peer begin with, and is left out.
    pub(crate) mount: ByteString,
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

impl Connection {
    pub(crate) fn new(agreed: Agreed, session: &mut Session) -> Self {
        let number = session.begin_connection();
        if Fault::DedupLostOnResume.is_on() && agreed.role == Role::Server {
            session.received.clear();
        }
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
            replay: session
                .window
                .first()
                .filter(|_| !Fault::ReplayForgotten.is_on()),
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
        if self.answers.push_conn_ack(conn_ack, form, gate).is_err() {
            // A client that leaves no room for the CONNACK cannot be served. [MQTT-3.1.2-24]
            self.phase = Phase::Closed;
        }
    }

    // Inputs.

    /// Takes one packet in. What the protocol answers by itself (PUBREL, PUBCOMP, PINGRESP, PUBREC to a repeat) is
    /// queued behind `gate`; PINGRESP waits for nothing. After a DISCONNECT either way, packets mean nothing.
    /// [MQTT-3.3.4-1] [MQTT-4.9.0-3]
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
        if !self.is_live() {
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

    /// The timer that [`Connection::poll_timeout`] asked for has fired. On [`Timeout::Expired`] abort with
    /// [`DisconnectReason::KeepAliveTimeout`] and close.
    pub fn handle_timeout(&mut self, now: Monotonic) -> Timeout {
        if !self.is_live() {
            return Timeout::Early;
        }
        let timeout = self.keep_alive.check(now);
        if timeout == Timeout::Ping {
            self.request_ping(now);
        }
        timeout
    }

    /// The caller did not read from the peer until `now`, for reasons of its own: it cannot know that the peer was silent.
    pub const fn excuse_silence(&mut self, now: Monotonic) {
        self.keep_alive.received(now);
    }

    // Outputs. `poll_transmit` is in the module `outgoing`.

    /// When to call [`Connection::handle_timeout`], and why. It moves with traffic, always later: a caller may keep an armed
    /// timer and look again when it fires.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Monotonic, TimeoutReason)> {
        self.is_live().then(|| self.keep_alive.poll_timeout())?
    }

    /// Whether there is room for the answers of more packets. `false` only while answers wait for a commit or for
    /// the socket, so that it turns true without further input.
    #[must_use]
    pub fn may_read(&self) -> bool {
        self.answers.len() < self.options.answers_max as usize
    }

    /// Whether [`Connection::may_read`] stays true when one more answer is given.
    #[inline]
    #[must_use]
    pub fn has_room_for_two_answers(&self) -> bool {
        // An answer may let go of others that were given before their turn.
        self.rare.is_none() && self.answers.len() + 1 < self.options.answers_max as usize
    }

    /// Bytes of heap that the connection owns: answers that wait, alias tables.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let rare = self.rare.as_ref().map_or(0, |rare| {
            size_of::<Rare>()
                .saturating_add(rare.inbound.heap_bytes())
                .saturating_add(rare.outbound.heap_bytes())
                .saturating_add(rare.carried.heap_bytes())
        });
        self.answers.heap_bytes().saturating_add(rare)
    }

    /// How many answers wait for a commit or for the socket.
    #[must_use]
    pub fn answers_waiting(&self) -> usize {
        self.answers.len()
    }

    /// Whether a queued delivery of `qos` could be sent at once, as far as the peer's window goes.
    #[must_use]
    pub fn has_window_for(&self, session: &Session, qos: Qos) -> bool {
        let extra = u16::from(Fault::WindowOffByOne.is_on());
        let quota = self.send_quota().saturating_add(extra);
        let open = self.replay.is_none() && self.unacknowledged < quota;
        qos == Qos::AtMostOnce || (open && !session.window.is_exhausted())
    }

    /// Whether deliveries of an earlier connection are still to be sent again. They wait for the peer's window like any other.
    #[must_use]
    pub const fn has_replay(&self) -> bool {
        self.replay.is_some()
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

    /// Whether packets still mean something.
    pub(crate) const fn is_live(&self) -> bool {
        match self.phase {
            Phase::Opening | Phase::Open => true,
            Phase::ClosingUnopened | Phase::Closing | Phase::Closed => false,
        }
    }

    /// Server role: leaves `mount` out of all topics and response topics towards the peer. A message whose topic does not
    /// begin with it is not sent.
    pub fn set_mount(&mut self, mount: ByteString) {
        self.rare_mut().mount = mount;
    }

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

    /// [MQTT-3.12.4-1]
    fn handle_ping_req(&mut self, session: &mut Session) -> Result<Event<'static>, Violation> {
        self.only_at(Role::Server)?;
        self.pings = self.pings.saturating_add(1);
        // A client pings because it has nothing else to say: time to give memory back.
        session.compact();
        self.answers.compact();
        Ok(Event::None)
    }
}
