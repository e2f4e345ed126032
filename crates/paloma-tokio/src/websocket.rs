//! WebSockets for listeners: the upgrade and the frames as pure functions and values, and the transport made of them.
//!
//! There is no buffer: bytes are unmasked where the connection read them, and written from where they are. Nothing is
//! compressed, and no extension is negotiated.

#[cfg(feature = "websocket")]
mod frame;
#[cfg(feature = "websocket")]
mod stream;
#[cfg(not(feature = "websocket"))]
#[path = "websocket/no_stream.rs"]
mod stream;
#[cfg(feature = "websocket")]
mod upgrade;

#[cfg(feature = "websocket")]
pub use frame::{End, FrameDecoder, FrameViolation};
pub(crate) use stream::{ServeError, serve};
#[cfg(feature = "websocket")]
pub use upgrade::{Request, UpgradeError, read_request};

/// The WebSocket side of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WebSocket {
    /// The path that requests have to name, without a query; empty for any.
    pub path: String,
    /// From which web pages a browser may connect.
    pub origins: Origins,
}

impl WebSocket {
    /// At `/mqtt`, for pages of the same host.
    #[must_use]
    pub fn new() -> Self {
        Self {
            path: "/mqtt".to_owned(),
            origins: Origins::SameHost,
        }
    }
}

impl Default for WebSocket {
    fn default() -> Self {
        Self::new()
    }
}

/// From which web pages a browser may connect. Requests without an Origin are not from a web page, and are let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// Those whose host is the Host of the request.
    SameHost,
    /// These alone, written as `https://host` or `https://host:port`.
    Listed(Vec<String>),
    /// All. Any web page can then reach a broker on its visitor's machine: only for listeners where everybody has to
    /// say who they are.
    Any,
}
