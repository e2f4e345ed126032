//! Requests of the caller's side, and its answers to the peer's.

use bytestring::ByteString;
use paloma_codec::{
    Encode, EncodeError, PacketId, SubAck, Subscribe, UnsubAck, Unsubscribe, UserProperties,
};

use crate::connection::{Connection, Phase};
use crate::gate::Gate;
use crate::session::Session;
use crate::terms::Role;
use crate::time::Monotonic;
use crate::window::Flight;

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
    /// Server role: answers a SUBSCRIBE, one reason for each of its filters, in their order [MQTT-3.8.4-6]. Dropped
    /// if it cannot be made to fit the client's Maximum Packet Size. [MQTT-3.1.2-25] [MQTT-2.2.1-6]
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

    pub(crate) fn request_ping(&mut self, now: Monotonic) {
        self.pings = self.pings.saturating_add(1);
        let wait = self
            .options
            .ping_wait_seconds
            .min(self.keep_alive.interval_seconds());
        self.keep_alive.pinging(now, wait);
    }

    pub(crate) fn request(&mut self, packet: &impl Encode) -> Result<(), RequestError> {
        if self.phase != Phase::Open {
            return Err(RequestError::Closed);
        }
        let form = (self.version, self.theirs.packet_bytes_max);
        self.answers
            .push_packet(packet, form, Gate::Open)
            .map_err(RequestError::Encode)
    }

    fn answer(&mut self, packet: &impl Encode, gate: Gate) {
        let form = (self.version, self.theirs.packet_bytes_max);
        if matches!(self.phase, Phase::Opening | Phase::Open) {
            self.answers.push_packet(packet, form, gate).ok();
        }
    }

    /// Removes what explains, if the client did not ask for problem information. [MQTT-3.1.2-29]
    pub(crate) fn withhold(
        &self,
        reason_string: &mut Option<ByteString>,
        properties: &mut UserProperties,
    ) {
        if !self.theirs.problem_information {
            *reason_string = None;
            *properties = UserProperties::new();
        }
    }
}

fn count_of(filters: usize) -> u16 {
    u16::try_from(filters).unwrap_or(u16::MAX)
}
