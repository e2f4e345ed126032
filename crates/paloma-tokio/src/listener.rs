//! What a listener is made of.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::tls::Tls;

/// Who may connect to a Unix socket, unless configured otherwise: its owner.
const UNIX_MODE: u32 = 0o600;

/// A place where clients come in, with settings of its own. Its index in [`Config::listeners`](crate::Config::listeners),
/// or the one given to [`Running::add_listener`](crate::Running::add_listener), is the connection's
/// [`ConnectionInfo::listener`](paloma_broker::ConnectionInfo::listener).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Listener {
    /// Where to listen.
    pub address: ListenAddress,
    /// Most connections through this listener at a time; further ones are closed at once. The limit
    /// `connections_max` holds for all listeners together.
    pub connections_max: usize,
    /// Present: TLS.
    pub tls: Option<Tls>,
}

impl Listener {
    /// Plain MQTT at `address`, without a limit of its own.
    #[must_use]
    pub const fn new(address: ListenAddress) -> Self {
        Self {
            address,
            connections_max: usize::MAX,
            tls: None,
        }
    }

    /// Plain TCP at `address`; port 0 takes a free one. An IPv6 address takes IPv6 connections only.
    #[must_use]
    pub const fn tcp(address: SocketAddr) -> Self {
        Self::new(ListenAddress::Tcp(address))
    }

    /// The same within TLS.
    #[must_use]
    pub fn with_tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// A Unix socket at `path` that its owner alone may connect to.
    #[must_use]
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self::new(ListenAddress::Unix {
            path: path.into(),
            mode: UNIX_MODE,
        })
    }
}

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket. A socket file that is there already is removed if nobody listens on it; the file is removed when
    /// the listener ends.
    Unix {
        /// Where the socket file is made; its directory has to exist.
        path: PathBuf,
        /// The permissions of the socket file: who may write may connect.
        mode: u32,
    },
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { path, .. } => write!(f, "unix:{}", path.display()),
        }
    }
}
