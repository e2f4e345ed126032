//! In place of WebSockets where a build has none.

use std::fmt;
use std::net::IpAddr;

use tokio::io::{AsyncRead, AsyncWrite};

use super::WebSocket;

/// This is a build without the feature `websocket`.
#[derive(Debug)]
pub(crate) struct ServeError;

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("built without `websocket`")
    }
}

/// Never comes so far, since no listener for WebSockets is opened.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    _: S,
    _: &WebSocket,
    _: u64,
) -> Result<(S, Vec<IpAddr>), ServeError> {
    Err(ServeError)
}
