//! What the broker keeps of one connection.

use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use bytestring::ByteString;
use paloma_codec::{Connect, Message, ProtocolVersion, Qos};
use paloma_session::server::Handshake;
use paloma_session::{Connection, Monotonic, Now, Receipt};

use crate::auth::AuthRequest;
use crate::broker::FilterJob;
use crate::effect::Effect;
use crate::mount::MountPoint;
use crate::session::SessionKey;
use crate::slab::Key;
use crate::statistics::Sample;
use crate::timers::Deadline;

/// Names one connection for as long as the driver holds it; never names another one after that.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    index: u32,
    generation: u32,
}

impl ConnectionId {
    pub(crate) fn from_key(key: Key<ConnectionEntry>) -> Self {
        Self {
            index: key.index,
            generation: key.generation,
        }
    }

    pub(crate) fn key(self) -> Key<ConnectionEntry> {
        Key::from_parts(self.index, self.generation)
    }

    /// The id as a number, for a record of what happens.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        (self.generation as u64) << 32 | self.index as u64
    }

    /// The id that a number stands for; it may be that of no connection.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "each half is taken by itself"
        )]
        Self {
            index: bits as u32,
            generation: (bits >> 32) as u32,
        }
    }

    /// A small number, used again once the connection is closed: an index for the driver's own table.
    #[must_use]
    pub const fn index(self) -> usize {
        self.index as usize
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}.{}", self.index, self.generation)
    }
}

/// What carries a connection's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Transport {
    /// Plain TCP.
    #[default]
    Tcp,
    /// A Unix socket.
    Unix,
    /// TLS.
    Tls,
    /// A WebSocket.
    WebSocket,
    /// A WebSocket within TLS.
    SecureWebSocket,
    /// Bytes within the process.
    Memory,
}

impl Transport {
    /// Every transport, in the order of declaration.
    pub const ALL: [Self; 6] = [
        Self::Tcp,
        Self::Unix,
        Self::Tls,
        Self::WebSocket,
        Self::SecureWebSocket,
        Self::Memory,
    ];
}

/// What a listener asks of a CONNECT, where that is its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTerms {
    /// The versions that are spoken there; another one is refused with 0x84. [MQTT-3.1.2-2]
    pub versions: Vec<ProtocolVersion>,
    /// In place of [`BrokerConfig::allow_empty_client_id`](crate::BrokerConfig::allow_empty_client_id).
    pub allow_empty_client_id: bool,
    /// In place of [`BrokerConfig::client_id_prefix`](crate::BrokerConfig::client_id_prefix).
    pub client_id_prefix: String,
    /// What all names of its clients begin with, which they do not see.
    pub mount_point: MountPoint,
}

/// Where a connection comes from.
#[derive(Clone, Debug, Default)]
pub struct ConnectionInfo {
    /// The peer's address, if its transport has one.
    pub address: Option<IpAddr>,
    /// The listener's index in the configuration.
    pub listener: u16,
    /// What its listener asks of it; `None` is what the broker asks of all.
    pub terms: Option<Arc<ListenerTerms>>,
    /// What carries the bytes.
    pub transport: Transport,
    /// Who the peer is by the certificate that its transport has verified, or a trusted proxy did: the name that the
    /// listener takes from it. Text as the standard has it [MQTT-1.5.4-2], not empty, without control characters.
    pub certificate_name: Option<ByteString>,
    /// When the peer came, if its transport had work to do before [`Broker::open`](crate::Broker::open):
    /// `connect_timeout_ms` runs from there.
    pub accepted_at: Option<Monotonic>,
}

impl ConnectionInfo {
    /// Whether the peer is on this machine: on loopback, or without an address of its own.
    #[must_use]
    pub fn is_local(&self) -> bool {
        is_local(self.address)
    }

    /// The listener that it came in through; none if the bytes are within the process.
    #[must_use]
    pub fn door(&self) -> Option<u16> {
        door(self.transport, self.listener)
    }
}

fn is_local(address: Option<IpAddr>) -> bool {
    address.is_none_or(|address| address.to_canonical().is_loopback())
}

fn door(transport: Transport, listener: u16) -> Option<u16> {
    (transport != Transport::Memory).then_some(listener)
}

/// Where a connection comes from and the listener that it came in through, as far as there are any.
pub(crate) type Whence = (Option<IpAddr>, Option<u16>);

/// A [`ConnectionInfo`] as it is kept.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) address: Option<IpAddr>,
    pub(crate) listener: u16,
    pub(crate) transport: Transport,
    pub(crate) terms: Option<Arc<ListenerTerms>>,
    /// Few have one, and a text is four words.
    certificate_name: Option<Box<ByteString>>,
    accepted_at: Option<Deadline>,
}

impl Origin {
    pub(crate) fn of(info: ConnectionInfo) -> Self {
        Self {
            address: info.address,
            listener: info.listener,
            transport: info.transport,
            terms: info.terms,
            certificate_name: info.certificate_name.map(Box::new),
            accepted_at: info.accepted_at.map(Deadline::new),
        }
    }

    pub(crate) fn info(&self) -> ConnectionInfo {
        ConnectionInfo {
            address: self.address,
            listener: self.listener,
            terms: self.terms.clone(),
            transport: self.transport,
            certificate_name: self.certificate_name.as_deref().cloned(),
            accepted_at: self.accepted_at.map(Deadline::at),
        }
    }

    /// The address, and the listener: what notices tell of it.
    pub(crate) fn whence(&self) -> Whence {
        (self.address, door(self.transport, self.listener))
    }

    /// As [`ConnectionInfo::is_local`].
    pub(crate) fn is_local(&self) -> bool {
        is_local(self.address)
    }
}

/// How far a connection has come. States own what belongs to them.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Nothing but CONNECT may come.
    Handshake(Box<Handshake>),
    /// CONNECT is here; who it is from is being found out. Nothing is read meanwhile.
    Authenticating(Box<Pending>),
    /// CONNACK is under way or out.
    Open(Box<Open>),
    /// Only these bytes still go out.
    Closing(Vec<u8>),
}

/// A client whose CONNECT is here.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) handshake: Handshake,
    pub(crate) connect: Connect,
    pub(crate) client_id: ByteString,
    pub(crate) is_assigned: bool,
    /// What the authenticator was asked last.
    pub(crate) request: Option<Box<AuthRequest>>,
}

#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) protocol: Connection,
    pub(crate) session: SessionKey,
    /// For an admission that does not hold for ever.
    pub(crate) renewal: Option<Box<Renewal>>,
    /// What the authenticator was asked and has not answered.
    pub(crate) asked: Asked,
    /// A step of a re-authentication that waits until another question is answered.
    pub(crate) waiting: Option<Box<AuthRequest>>,
    /// A PUBLISH that waits for room in the store.
    pub(crate) held: Option<Box<Held>>,
    /// A SUBSCRIBE or an UNSUBSCRIBE that goes on in the next turn.
    pub(crate) filters: Option<Box<FilterJob>>,
}

/// A PUBLISH that was taken in, and neither routed nor answered.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) message: Message,
    pub(crate) qos: Qos,
    pub(crate) retain: bool,
    pub(crate) receipt: Receipt,
    /// When the connection is closed so that it comes again.
    pub(crate) until: Monotonic,
}

impl Open {
    /// A connection that has asked for nothing yet.
    pub(crate) fn new(
        protocol: Connection,
        session: SessionKey,
        renewal: Option<Box<Renewal>>,
    ) -> Self {
        Self {
            protocol,
            session,
            renewal,
            asked: Asked::Nothing,
            waiting: None,
            held: None,
            filters: None,
        }
    }

    /// Whether a PUBLISH has been held for too long.
    pub(crate) fn is_held_past(&self, now: Monotonic) -> bool {
        self.held.as_ref().is_some_and(|held| held.until <= now)
    }
}

/// A question to the authenticator about an open connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Nothing,
    Renewal,
    Reauthentication,
}

/// When an admission runs out, and what to ask before that.
#[derive(Debug)]
pub(crate) struct Renewal {
    pub(crate) ask_at: Monotonic,
    pub(crate) until: Monotonic,
    pub(crate) request: Box<AuthRequest>,
}

#[derive(Debug)]
pub(crate) struct ConnectionEntry {
    pub(crate) phase: Phase,
    pub(crate) origin: Origin,
    /// When CONNECT has to be here.
    pub(crate) connect_by: Monotonic,
    /// For when its one timer is armed, if it is.
    pub(crate) timer_at: Option<Deadline>,
    /// CONNECT, while the client is asked for the next step of its authentication.
    pub(crate) challenged: Option<Box<Pending>>,
    /// An [`Effect::Transmit`] of this turn already names it.
    pub(crate) is_transmit_due: bool,
    /// Why `may_read` said no, so that a [`Effect::Resume`](crate::Effect::Resume) is owed.
    pub(crate) pause: Option<Pause>,
    /// What the memory account has it down for.
    pub(crate) charged: u64,
    /// A message on its way to this connection that is being timed.
    pub(crate) sample: Option<Sample>,
}

impl ConnectionEntry {
    /// While the client is not read, for no fault of its own, it cannot be heard: what it may have said meanwhile counts as
    /// said now. [MQTT-3.1.2-22]
    pub(crate) fn excuse_silence(&mut self, now: Now) {
        if let Phase::Open(open) = &mut self.phase
            && self.pause.is_some_and(Pause::excuses_silence)
        {
            open.protocol.excuse_silence(now.monotonic);
        }
    }

    /// Names the connection, whose entry this is, in an [`Effect::Transmit`], once a turn.
    #[inline]
    pub(crate) fn mark_transmit(&mut self, id: ConnectionId, effects: &mut VecDeque<Effect>) {
        if !self.is_transmit_due {
            self.is_transmit_due = true;
            effects.push_back(Effect::Transmit(id));
        }
    }
}

/// What has to happen before more packets of a connection may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pause {
    /// The authenticator has to answer.
    Authenticator,
    /// The store has to catch up.
    Commit,
    /// Answers have to leave.
    Answers,
    /// The store has to have room again.
    Space,
    /// The filters of its last packet have to be done.
    Filters,
}

impl Pause {
    /// Whether what has to happen is not the client's to do, so that nobody can say that it is silent.
    pub(crate) const fn excuses_silence(self) -> bool {
        match self {
            Self::Authenticator | Self::Commit | Self::Space | Self::Filters => true,
            Self::Answers => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::principal::Principal;
    use crate::session::SessionEntry;

    #[test]
    fn clients_are_small() {
        // Each client costs one of each, and those that are away one of the first two.
        let sizes = [
            ("session", size_of::<SessionEntry>(), 256),
            ("principal", size_of::<Principal>(), 88),
            ("connection", size_of::<ConnectionEntry>(), 120),
            ("open", size_of::<Open>(), 184),
        ];
        for (what, size, size_max) in sizes {
            assert!(size <= size_max, "{what}: {size} bytes");
        }
    }
}
