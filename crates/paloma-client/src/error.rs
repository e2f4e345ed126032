//! What can go wrong, and whose word it is.

use std::fmt;
use std::io;
use std::sync::Arc;

use bytestring::ByteString;
use paloma_codec::{
    ConnAckReason, DecodeError, DisconnectReason, EncodeError, PubAckReason, PubCompReason,
};
use paloma_session::{DropCause, RequestError as Unsent, Violation};

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The stream could not be opened, or broke.
    Io(IoError),
    /// The broker closed the stream without a word.
    Closed,
    /// No CONNACK within the connect timeout.
    TimedOut,
    /// The broker did not answer a PINGREQ.
    KeepAlive,
    /// The broker refused the connection.
    Refused {
        /// Its reason.
        reason: ConnAckReason,
        /// The same in its own words, if it had any.
        reason_string: Option<ByteString>,
    },
    /// The broker ended the connection.
    Disconnected {
        /// Its reason.
        reason: DisconnectReason,
        /// The same in its own words, if it had any.
        reason_string: Option<ByteString>,
    },
    /// The broker sent bytes that are no packet.
    Invalid(DecodeError),
    /// The broker sent a packet that it may not send there.
    Violation(Violation),
    /// The CONNECT has no valid form in its version.
    Options(EncodeError),
    /// The broker asks for an exchange of authentication data, which this client cannot have.
    AuthenticationAsked,
    /// The client was told to leave.
    Requested,
}

impl ConnectionError {
    /// Whether another attempt could end differently without anybody changing anything.
    ///
    /// A session that was taken over is not taken back: two clients with the same id would do it for ever.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::Io(_) | Self::Closed | Self::TimedOut | Self::KeepAlive => true,
            Self::Invalid(_) | Self::Violation(_) => true,
            Self::Options(_) | Self::AuthenticationAsked | Self::Requested => false,
            Self::Refused { reason, .. } => matches!(
                reason,
                ConnAckReason::UnspecifiedError
                    | ConnAckReason::ImplementationSpecificError
                    | ConnAckReason::ServerUnavailable
                    | ConnAckReason::ServerBusy
                    | ConnAckReason::QuotaExceeded
                    | ConnAckReason::ConnectionRateExceeded
            ),
            Self::Disconnected { reason, .. } => !matches!(
                reason,
                DisconnectReason::SessionTakenOver
                    | DisconnectReason::NotAuthorized
                    | DisconnectReason::AdministrativeAction
                    | DisconnectReason::UseAnotherServer
                    | DisconnectReason::ServerMoved
                    | DisconnectReason::BadAuthenticationMethod
            ),
        }
    }
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = |f: &mut fmt::Formatter<'_>, text: &Option<ByteString>| match text {
            Some(text) => write!(f, " ({text})"),
            None => Ok(()),
        };
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Closed => f.write_str("the broker closed the connection"),
            Self::TimedOut => f.write_str("the broker did not answer in time"),
            Self::KeepAlive => f.write_str("the broker did not answer a ping"),
            Self::Refused {
                reason,
                reason_string,
            } => {
                write!(f, "the broker refused the connection: {reason}")?;
                words(f, reason_string)
            }
            Self::Disconnected {
                reason,
                reason_string,
            } => {
                write!(f, "the broker ended the connection: {reason}")?;
                words(f, reason_string)
            }
            Self::Invalid(error) => write!(f, "the broker sent an invalid packet: {error}"),
            Self::Violation(violation) => write!(f, "the broker broke the protocol: {violation}"),
            Self::Options(error) => write!(f, "the CONNECT cannot be sent: {error}"),
            Self::AuthenticationAsked => f.write_str("the broker asks for authentication data"),
            Self::Requested => f.write_str("the client was told to leave"),
        }
    }
}

impl std::error::Error for ConnectionError {}

impl From<io::Error> for ConnectionError {
    fn from(error: io::Error) -> Self {
        Self::Io(IoError(Arc::new(error)))
    }
}

/// An error of the stream, shared by all who are told. Two are equal if their kinds are.
#[derive(Clone, Debug)]
pub struct IoError(Arc<io::Error>);

impl IoError {
    /// The kind of the error.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        self.0.kind()
    }
}

impl PartialEq for IoError {
    fn eq(&self, other: &Self) -> bool {
        self.kind() == other.kind()
    }
}

impl Eq for IoError {}

impl fmt::Display for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a message was not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishError {
    /// The broker refused the message.
    Refused(PubAckReason),
    /// The broker knew the message no more when it was to be released; it may have been published or not.
    Unknown(PubCompReason),
    /// The message has no valid form.
    Invalid(EncodeError),
    /// The message alone is larger than [`Options::queue`](crate::Options::queue) allows.
    LargerThanQueue,
    /// The message was given up before it was sent.
    Dropped(DropCause),
    /// A QoS 2 message was in flight when the broker lost the session; it may have been published or not.
    SessionLost,
    /// The client has ended.
    Ended,
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reason) => write!(f, "the broker refused the message: {reason}"),
            Self::Unknown(reason) => write!(f, "the broker lost track of the message: {reason}"),
            Self::Invalid(error) => write!(f, "the message cannot be sent: {error}"),
            Self::LargerThanQueue => f.write_str("the message is larger than the queue"),
            Self::Dropped(cause) => write!(f, "the message was not sent: {cause}"),
            Self::SessionLost => f.write_str("the broker lost the session"),
            Self::Ended => f.write_str("the client has ended"),
        }
    }
}

impl std::error::Error for PublishError {}

/// Why a subscribe or unsubscribe request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// It cannot be sent.
    Unsent(Unsent),
    /// The client has ended.
    Ended,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsent(error) => write!(f, "the request cannot be sent: {error}"),
            Self::Ended => f.write_str("the client has ended"),
        }
    }
}

impl std::error::Error for RequestError {}
