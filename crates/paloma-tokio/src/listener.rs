//! What a listener is made of.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use paloma_broker::ListenerTerms;

use crate::network::Network;
use crate::proxy::ProxyProtocol;
use crate::tls::Tls;
use crate::websocket::WebSocket;

/// Who may connect to a Unix socket, unless configured otherwise: its owner.
const UNIX_MODE: u32 = 0o600;

/// A place where clients come in, with settings of its own. Its index in [`Config::listeners`](crate::Config::listeners),
/// or the one given to [`Listeners::add`](crate::Listeners::add), is the connection's
/// [`ConnectionInfo::listener`](paloma_broker::ConnectionInfo::listener).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Listener {
    /// What the log and metrics call it; `None` is the address where it listens.
    pub name: Option<String>,
    /// Where to listen.
    pub address: ListenAddress,
    /// Most connections through this listener at a time; further ones are closed at once. The limit
    /// `connections_max` holds for all listeners together.
    pub connections_max: usize,
    /// Present: TLS.
    pub tls: Option<Tls>,
    /// Present: a WebSocket carries the packets.
    pub websocket: Option<WebSocket>,
    /// Which PROXY header comes first; others than those who are trusted get no connection then.
    pub proxy_protocol: ProxyProtocol,
    /// Whose PROXY header or `X-Forwarded-For` is believed.
    pub trusted: Vec<Network>,
    /// What it asks of a CONNECT; `None` is what the broker asks of all.
    pub terms: Option<Arc<ListenerTerms>>,
}

impl Listener {
    /// Plain MQTT at `address`, without a limit of its own.
    #[must_use]
    pub const fn new(address: ListenAddress) -> Self {
        Self {
            name: None,
            address,
            connections_max: usize::MAX,
            tls: None,
            websocket: None,
            proxy_protocol: ProxyProtocol::Off,
            trusted: Vec::new(),
            terms: None,
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

    /// The same over a WebSocket.
    #[must_use]
    pub fn with_websocket(mut self, websocket: WebSocket) -> Self {
        self.websocket = Some(websocket);
        self
    }

    /// Whether the peer's word about others is believed. Whoever may use a Unix socket is trusted with it.
    pub(crate) fn trusts(&self, peer: Option<IpAddr>) -> bool {
        peer.is_none_or(|peer| self.trusted.iter().any(|network| network.contains(peer)))
    }

    /// The feature that it needs and that this build is without. Without `tls` nothing can be loaded for it.
    pub(crate) const fn lacks(&self) -> Option<&'static str> {
        if self.websocket.is_some() && !cfg!(feature = "websocket") {
            return Some("websocket");
        }
        None
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

impl ListenAddress {
    /// Whether a listener that listens there, on the port that it was given, has what this asks for.
    pub(crate) fn is_at(&self, place: &Self) -> bool {
        match (self, place) {
            (Self::Tcp(wanted), Self::Tcp(place)) if wanted.port() == 0 => {
                wanted.ip() == place.ip()
            }
            (Self::Tcp(_) | Self::Unix { .. }, Self::Tcp(_) | Self::Unix { .. }) => self == place,
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { path, .. } => write!(f, "unix:{}", path.display()),
        }
    }
}
