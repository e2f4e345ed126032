//! How a connection ends, and what that means for will and session.

use alloc::borrow::Cow;
use alloc::boxed::Box;

use paloma_codec::{DecodeError, Disconnect, DisconnectReason};
use paloma_topic::Fault;

use crate::connection::{Connection, Phase};
use crate::event::Event;
use crate::session::Session;
use crate::terms::Role;
use crate::violation::Violation;

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

impl Connection {
    /// Bytes came in that are no packet: as [`Connection::abort`], with the reason that belongs to the error.
    pub fn handle_invalid(&mut self, error: DecodeError) {
        self.abort(error.reason());
    }

    /// The socket is gone: what that means for will and session. Nothing of the connection is needed any more.
    #[must_use]
    pub fn handle_closed(self, session: &mut Session) -> Closed {
        session.is_connected = false;
        session.compact();
        let will = match (self.will_delay_seconds, self.left) {
            (None, _) => WillFate::None,
            (Some(_), Some(DisconnectReason::NormalDisconnection))
                if !Fault::WillAfterGoodbye.is_on() =>
            {
                WillFate::Discard
            }
            (Some(delay), _) => WillFate::Publish {
                after_seconds: delay.min(self.session_expiry_seconds),
            },
        };
        Closed {
            will,
            session_expiry_seconds: self.session_expiry_seconds,
        }
    }

    /// Ends the connection from this side: answers that may leave are written, then this packet where the version
    /// and role have one, then [`TransmitStatus::Close`](crate::TransmitStatus::Close) is returned. Before its CONNACK a
    /// server sends none [MQTT-3.14.0-1]. Nothing more is taken in.
    ///
    /// A client's may change when the session ends, unless CONNECT said at once; a server's may not [MQTT-3.14.2-2], and such a
    /// change is left out.
    pub fn disconnect(&mut self, disconnect: &Disconnect) {
        self.phase = match self.phase {
            Phase::Opening => Phase::ClosingUnopened,
            Phase::Open => Phase::Closing,
            Phase::ClosingUnopened | Phase::Closing | Phase::Closed => return,
        };
        let may_tell = match self.role {
            _ if self.version.is_v5() => true,
            Role::Client => disconnect.reason == DisconnectReason::NormalDisconnection,
            Role::Server => false,
        };
        if may_tell {
            let form = (self.version, self.theirs.packet_bytes_max);
            let packet = self.with_legal_expiry(disconnect);
            // One that does not fit is not sent; closing says enough. [MQTT-3.14.2-3]
            self.answers.set_farewell(&*packet, form).ok();
        }
    }

    /// The packet with its session expiry if it may have one: not a server's [MQTT-3.14.2-2], and not from zero.
    fn with_legal_expiry<'d>(&mut self, disconnect: &'d Disconnect) -> Cow<'d, Disconnect> {
        let Some(seconds) = disconnect.session_expiry_seconds else {
            return Cow::Borrowed(disconnect);
        };
        if self.role == Role::Client && (self.session_expiry_asked || seconds == 0) {
            self.session_expiry_seconds = seconds;
            return Cow::Borrowed(disconnect);
        }
        Cow::Owned(Disconnect {
            session_expiry_seconds: None,
            ..disconnect.clone()
        })
    }

    /// Ends the connection because the peer broke a rule or went silent, with `reason` where the peer can be told; a client,
    /// which has fewer, gives the one that comes next. A will is published. [MQTT-4.13.1-1] [MQTT-4.13.2-1] [MQTT-3.14.4-2]
    pub fn abort(&mut self, reason: DisconnectReason) {
        let reason = match self.role {
            Role::Client => of_client(reason),
            Role::Server => reason,
        };
        self.disconnect(&Disconnect {
            reason,
            ..Disconnect::default()
        });
    }

    /// [PALOMA-5.0-expiry-from-zero]
    pub(crate) fn handle_disconnect(
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
}

/// What a client says where a server has this reason.
const fn of_client(reason: DisconnectReason) -> DisconnectReason {
    match reason {
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
        | DisconnectReason::PayloadFormatInvalid => reason,
        // Its packets are at fault: no server may send what it may refuse for these.
        DisconnectReason::BadAuthenticationMethod
        | DisconnectReason::TopicFilterInvalid
        | DisconnectReason::RetainNotSupported
        | DisconnectReason::QosNotSupported
        | DisconnectReason::SharedSubscriptionsNotSupported
        | DisconnectReason::SubscriptionIdentifiersNotSupported
        | DisconnectReason::WildcardSubscriptionsNotSupported => DisconnectReason::ProtocolError,
        // Nothing is wrong with what it sent, an unanswered PINGREQ among them: no other reason applies.
        DisconnectReason::NotAuthorized
        | DisconnectReason::ServerBusy
        | DisconnectReason::ServerShuttingDown
        | DisconnectReason::KeepAliveTimeout
        | DisconnectReason::SessionTakenOver
        | DisconnectReason::UseAnotherServer
        | DisconnectReason::ServerMoved
        | DisconnectReason::ConnectionRateExceeded
        | DisconnectReason::MaximumConnectTime => DisconnectReason::UnspecifiedError,
    }
}
