//! The broker under load, and how its connections begin.

use std::net::SocketAddr;
#[cfg(feature = "tls")]
use std::sync::Arc;

use crate::packet::Version;

/// Whom to connect to, over what, and as whom.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where the broker listens.
    pub address: SocketAddr,
    /// Its name, as certificates and the `Host` of a WebSocket have it.
    pub host: String,
    /// Protocol of all connections.
    pub version: Version,
    /// User name of all connections.
    pub username: Option<String>,
    /// Their password.
    pub password: Option<Vec<u8>>,
    /// What every client id begins with: two loads with one prefix would take over each other's sessions.
    pub id_prefix: String,
    /// Present: TLS carries everything.
    #[cfg(feature = "tls")]
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Present: a WebSocket at this path carries the packets.
    #[cfg(feature = "websocket")]
    pub websocket_path: Option<String>,
}

impl Target {
    /// A broker on bare TCP that asks nobody for a name.
    #[must_use]
    pub fn new(address: SocketAddr, version: Version) -> Self {
        Self {
            address,
            host: address.ip().to_string(),
            version,
            username: None,
            password: None,
            id_prefix: "load".to_owned(),
            #[cfg(feature = "tls")]
            tls: None,
            #[cfg(feature = "websocket")]
            websocket_path: None,
        }
    }
}
