//! What an operator may want to read in a log. Never a payload, never a password.

use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;

use bytestring::ByteString;
use paloma_codec::{ConnAckReason, DecodeError, ProtocolVersion};
use paloma_session::Violation;

use crate::effect::CloseCause;
use crate::trace::Traces;

/// Notices that wait for the driver; further ones are counted only.
const WAITING_MAX: usize = 256;

/// Something that happened to a client. Client ids and user names are the peer's own words: escape them before they are
/// printed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// A client was let in.
    Connected {
        /// Its client id, assigned if it sent none.
        client_id: ByteString,
        /// Who it is; `None` for an anonymous client.
        user: Option<ByteString>,
        /// Where it comes from.
        address: Option<IpAddr>,
        /// The listener that it came in through: [`ConnectionInfo::door`](crate::ConnectionInfo::door).
        listener: Option<u16>,
        /// What it speaks.
        version: ProtocolVersion,
        /// It found its earlier session.
        is_resumed: bool,
    },
    /// A client that was let in is gone.
    Disconnected {
        /// Its client id.
        client_id: ByteString,
        /// Where it came from.
        address: Option<IpAddr>,
        /// The listener that it came in through: [`ConnectionInfo::door`](crate::ConnectionInfo::door).
        listener: Option<u16>,
        /// Why.
        cause: CloseCause,
        /// What it did wrong, if that is why.
        offence: Option<Offence>,
    },
    /// A CONNECT was refused.
    Refused {
        /// The client id that it named, if it came so far.
        client_id: Option<ByteString>,
        /// Where it came from.
        address: Option<IpAddr>,
        /// The listener that it came in through: [`ConnectionInfo::door`](crate::ConnectionInfo::door).
        listener: Option<u16>,
        /// What it was told.
        reason: ConnAckReason,
    },
    /// A connection ended without a client having been let in or refused.
    Unopened {
        /// Where it came from.
        address: Option<IpAddr>,
        /// The listener that it came in through: [`ConnectionInfo::door`](crate::ConnectionInfo::door).
        listener: Option<u16>,
        /// Why.
        cause: CloseCause,
        /// What it did wrong, if that is why.
        offence: Option<Offence>,
    },
    /// A session's queue is full and messages for it are dropped. Said once between two connects of its client.
    QueueFull {
        /// Its client id.
        client_id: ByteString,
    },
    /// A limit on retained messages keeps new ones out.
    RetainedFull {
        /// The client whose message it was.
        client_id: Option<ByteString>,
    },
}

/// What a peer did wrong, for whoever has to mend it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Offence {
    /// Its bytes are no packet, or one above a limit: [`CloseCause::Malformed`].
    Malformed(DecodeError),
    /// Its packet is forbidden there: [`CloseCause::Violation`].
    Violation(Violation),
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => error.fmt(f),
            Self::Violation(violation) => violation.fmt(f),
        }
    }
}

impl Notice {
    /// The client that it is about, if it got so far as to have a name.
    #[must_use]
    pub const fn client_id(&self) -> Option<&ByteString> {
        match self {
            Self::Connected { client_id, .. }
            | Self::Disconnected { client_id, .. }
            | Self::QueueFull { client_id } => Some(client_id),
            Self::Refused { client_id, .. } | Self::RetainedFull { client_id } => {
                client_id.as_ref()
            }
            Self::Unopened { .. } => None,
        }
    }

    /// The listener that the connection which it is about came in through, if it is about one.
    #[must_use]
    pub const fn listener(&self) -> Option<u16> {
        match self {
            Self::Connected { listener, .. }
            | Self::Disconnected { listener, .. }
            | Self::Refused { listener, .. }
            | Self::Unopened { listener, .. } => *listener,
            Self::QueueFull { .. } | Self::RetainedFull { .. } => None,
        }
    }
}

/// Notices for the driver, and how many there was no room for.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    pub(crate) is_wanted: bool,
    waiting: VecDeque<Notice>,
    lost: u64,
    /// Told of them too, and of more.
    pub(crate) traces: Traces,
}

impl Notices {
    pub(crate) fn push(&mut self, notice: Notice) {
        if !self.traces.is_off() {
            self.traces.note(&notice);
        }
        if !self.is_wanted {
            return;
        }
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push_back(notice);
        } else {
            self.lost += 1;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn take(&mut self) -> (VecDeque<Notice>, u64) {
        (
            std::mem::take(&mut self.waiting),
            std::mem::take(&mut self.lost),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_without_room_are_counted() {
        let mut notices = Notices {
            is_wanted: true,
            ..Notices::default()
        };
        for _ in 0..WAITING_MAX + 3 {
            notices.push(Notice::Connected {
                client_id: "c".into(),
                user: None,
                address: None,
                listener: None,
                version: ProtocolVersion::V5,
                is_resumed: false,
            });
        }
        let (waiting, lost) = notices.take();
        assert_eq!((waiting.len(), lost), (WAITING_MAX, 3));
    }
}
