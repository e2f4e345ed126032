//! What may go wrong while a load is set up or runs.

use std::fmt;
use std::io;

/// Why a load could not be measured.
#[derive(Debug)]
pub enum LoadError {
    /// A socket, a file or a process failed.
    Io(io::Error),
    /// The broker answered CONNECT or SUBSCRIBE with this code.
    Refused(u8),
    /// The broker closed a connection that the load still needed.
    Closed,
    /// The broker sent something that is no MQTT packet, or none that fits here.
    Protocol,
    /// The scenario makes no sense; the text says why.
    Scenario(&'static str),
    /// Nothing was received for a long time during this step.
    Stalled(&'static str),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Refused(code) => write!(f, "the broker refused with code {code:#04x}"),
            Self::Closed => f.write_str("the broker closed a connection"),
            Self::Protocol => f.write_str("the broker sent an unexpected packet"),
            Self::Scenario(why) => f.write_str(why),
            Self::Stalled(step) => write!(f, "nothing moved any more while {step}"),
        }
    }
}

impl std::error::Error for LoadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Refused(_)
            | Self::Closed
            | Self::Protocol
            | Self::Scenario(_)
            | Self::Stalled(_) => None,
        }
    }
}

impl From<io::Error> for LoadError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            Self::Closed
        } else {
            Self::Io(error)
        }
    }
}

impl From<rustix::io::Errno> for LoadError {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Io(error.into())
    }
}
