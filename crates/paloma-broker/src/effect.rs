//! What the broker asks of its driver, and what the driver answers.

use std::fmt;

use crate::auth::{AuthOutcome, AuthRequest};
use crate::connection::ConnectionId;
use crate::store::{LoadRequest, Loaded, Space, StoreBatch};
use paloma_session::LogSeq;

/// Something the driver has to do. Effects of one input are bounded by that input.
#[derive(Debug)]
pub enum Effect {
    /// The connection has bytes to write: call [`Broker::poll_transmit`](crate::Broker::poll_transmit) for it, now or
    /// when its socket has room. At most once a turn for a connection.
    Transmit(ConnectionId),
    /// The connection may be read again after [`Broker::may_read`](crate::Broker::may_read) had said no.
    Resume(ConnectionId),
    /// Write what `poll_transmit` still gives for this connection, close its socket, then report
    /// [`Broker::handle_closed`](crate::Broker::handle_closed).
    Close(ConnectionId, CloseCause),
    /// Find out who this is and answer with [`Reply::Authenticated`].
    Authenticate(ConnectionId, Box<AuthRequest>),
    /// Give the batch to the store and answer [`Reply::Committed`] once it is as durable as configured. Batches are
    /// committed in the order in which they come.
    Persist(StoreBatch),
    /// Read the next part of a session's queue from the store, after all batches given before, and answer
    /// [`Reply::Loaded`].
    Load(LoadRequest),
}

/// An answer to an [`Effect`].
#[derive(Debug)]
pub enum Reply {
    /// To [`Effect::Authenticate`].
    Authenticated(ConnectionId, AuthOutcome),
    /// To [`Effect::Persist`]: this batch and all before it are committed.
    Committed(LogSeq),
    /// To [`Effect::Load`].
    Loaded(Loaded),
    /// What the store says of its room changed. Until it has said anything, there is room.
    Space(Space),
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseCause {
    /// The client sent DISCONNECT.
    Disconnected,
    /// The peer closed the socket, or it failed.
    SocketClosed,
    /// The client sent what cannot be a packet.
    Malformed,
    /// The client sent a packet that the protocol forbids here.
    Violation,
    /// Nothing came for one and a half keep alives. [MQTT-3.1.2-22]
    KeepAliveTimeout,
    /// No full CONNECT came in time. [MQTT-3.1.4-1]
    ConnectTimeout,
    /// Another connection took the session over. [MQTT-3.1.4-3]
    TakenOver,
    /// CONNECT was refused.
    Refused,
    /// The socket's buffer stayed full for too long.
    Stalled,
    /// The broker is stopping.
    ShuttingDown,
    /// An operator ended it.
    Administrative,
    /// The adapter's own code for this connection panicked.
    Internal,
    /// The store had no room for what a client published that cannot be told so.
    StoreFull,
}

impl CloseCause {
    /// Every cause, in the order of declaration.
    pub const ALL: [Self; 13] = [
        Self::Disconnected,
        Self::SocketClosed,
        Self::Malformed,
        Self::Violation,
        Self::KeepAliveTimeout,
        Self::ConnectTimeout,
        Self::TakenOver,
        Self::Refused,
        Self::Stalled,
        Self::ShuttingDown,
        Self::Administrative,
        Self::Internal,
        Self::StoreFull,
    ];

    /// The cause as a metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Disconnected => "disconnected",
            Self::SocketClosed => "socket_closed",
            Self::Malformed => "malformed",
            Self::Violation => "violation",
            Self::KeepAliveTimeout => "keep_alive_timeout",
            Self::ConnectTimeout => "connect_timeout",
            Self::TakenOver => "taken_over",
            Self::Refused => "refused",
            Self::Stalled => "stalled",
            Self::ShuttingDown => "shutting_down",
            Self::Administrative => "administrative",
            Self::Internal => "internal",
            Self::StoreFull => "store_full",
        }
    }
}

impl fmt::Display for CloseCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disconnected => "client disconnected",
            Self::SocketClosed => "socket closed",
            Self::Malformed => "malformed packet",
            Self::Violation => "protocol violation",
            Self::KeepAliveTimeout => "keep alive timeout",
            Self::ConnectTimeout => "connect timeout",
            Self::TakenOver => "session taken over",
            Self::Refused => "connect refused",
            Self::Stalled => "stalled",
            Self::ShuttingDown => "broker shutting down",
            Self::Administrative => "administrative action",
            Self::Internal => "internal error",
            Self::StoreFull => "store full",
        })
    }
}

/// Why a new connection is not even opened; the driver closes the socket at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// `connections_max` are open.
    TooManyConnections,
    /// `connections_per_second_max` is used up.
    RateExceeded,
    /// `connections_per_second_per_address_max` is used up for this address.
    AddressRateExceeded,
    /// The broker is stopping.
    ShuttingDown,
}

impl Refusal {
    /// Every refusal, in the order of declaration.
    pub const ALL: [Self; 4] = [
        Self::TooManyConnections,
        Self::RateExceeded,
        Self::AddressRateExceeded,
        Self::ShuttingDown,
    ];

    /// The refusal as a metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::TooManyConnections => "too_many_connections",
            Self::RateExceeded => "rate_exceeded",
            Self::AddressRateExceeded => "address_rate_exceeded",
            Self::ShuttingDown => "shutting_down",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooManyConnections => "too many connections",
            Self::RateExceeded => "connection rate exceeded",
            Self::AddressRateExceeded => "connection rate of this address exceeded",
            Self::ShuttingDown => "broker shutting down",
        })
    }
}

impl std::error::Error for Refusal {}
