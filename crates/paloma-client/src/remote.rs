//! A broker named by a URL, over whatever the URL says.

use std::fmt;
use std::io;
use std::path::PathBuf;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;

use crate::connector::Connector;
#[cfg(feature = "tls")]
use crate::tls::Tls;

/// Where a WebSocket is, if the URL does not say.
const WEBSOCKET_PATH: &str = "/mqtt";

/// Connects as a URL says: `mqtt://host`, `mqtts://host:8883`, `ws://host/path`, `wss://host/path`, `unix:///path`.
/// `tcp` and `tls` are other names for the first two.
#[derive(Clone, Debug)]
pub struct Remote {
    place: Place,
    is_websocket: bool,
    /// The path of a WebSocket.
    path: String,
    is_secure: bool,
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

/// Why a URL names no broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UrlError {
    /// Not of the form `scheme://host:port/path`.
    Malformed,
    /// A scheme that is not known, or that this build has no transport for.
    Scheme,
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "not a URL of the form scheme://host:port/path",
            Self::Scheme => {
                "the scheme is none of mqtt, mqtts, ws, wss, unix, or not in this build"
            }
        })
    }
}

impl std::error::Error for UrlError {}

/// A connection to a [`Remote`].
pub struct RemoteStream(Box<dyn Stream>);

impl fmt::Debug for RemoteStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RemoteStream")
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Remote {
    /// Reads a URL without user and password. A path of `mqtt` and `mqtts` is not looked at.
    ///
    /// # Errors
    /// It is none that can be connected to.
    pub fn new(url: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = url.split_once("://").ok_or(UrlError::Malformed)?;
        let (is_websocket, is_secure, default_port) = match scheme {
            "mqtt" | "tcp" => (false, false, 1883),
            "mqtts" | "tls" if cfg!(feature = "tls") => (false, true, 8883),
            "ws" if cfg!(feature = "websocket") => (true, false, 80),
            "wss" if cfg!(all(feature = "tls", feature = "websocket")) => (true, true, 443),
            "unix" if cfg!(unix) => {
                if !rest.starts_with('/') {
                    return Err(UrlError::Malformed);
                }
                return Ok(Self::at(Place::Unix(rest.into())));
            }
            _ => return Err(UrlError::Scheme),
        };
        let end = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (host, port) = split_port(authority, default_port).ok_or(UrlError::Malformed)?;
        let mut remote = Self::at(Place::Tcp {
            host: host.to_owned(),
            port,
        });
        remote.is_websocket = is_websocket;
        remote.is_secure = is_secure;
        if !path.is_empty() {
            path.clone_into(&mut remote.path);
        }
        Ok(remote)
    }

    fn at(place: Place) -> Self {
        Self {
            place,
            is_websocket: false,
            path: WEBSOCKET_PATH.to_owned(),
            is_secure: false,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// Whether the URL asks for TLS.
    #[must_use]
    pub const fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// Host and port as the URL has them; none of a Unix socket.
    #[must_use]
    pub fn host_and_port(&self) -> Option<(&str, u16)> {
        match &self.place {
            Place::Tcp { host, port } => Some((host, *port)),
            Place::Unix(_) => None,
        }
    }

    /// Path of the WebSocket that carries the packets, if one does.
    #[must_use]
    pub fn websocket_path(&self) -> Option<&str> {
        self.is_websocket.then_some(self.path.as_str())
    }

    /// What TLS trusts and shows, if the URL asks for TLS.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref().filter(|_| self.is_secure)
    }

    /// What TLS trusts and shows. Without it `mqtts` and `wss` cannot connect.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    async fn open(&self) -> io::Result<RemoteStream> {
        match &self.place {
            #[cfg(unix)]
            Place::Unix(path) => {
                let stream = UnixStream::connect(path).await?;
                Ok(RemoteStream(Box::new(stream)))
            }
            #[cfg(not(unix))]
            Place::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
            Place::Tcp { host, port } => {
                let bare = host.trim_start_matches('[').trim_end_matches(']');
                let stream = TcpStream::connect((bare, *port)).await?;
                stream.set_nodelay(true)?;
                #[cfg(feature = "tls")]
                if self.is_secure {
                    let message = "nothing is said about whom TLS trusts";
                    let tls = self
                        .tls
                        .as_ref()
                        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, message))?;
                    let stream = tls.connect(bare, self.is_websocket, stream).await?;
                    let stream = RemoteStream(Box::new(stream));
                    return self.upgrade(host, *port, stream).await;
                }
                let stream = RemoteStream(Box::new(stream));
                self.upgrade(host, *port, stream).await
            }
        }
    }

    #[cfg_attr(
        not(feature = "websocket"),
        expect(
            clippy::unused_async,
            unused_variables,
            reason = "nothing to wait for without WebSockets"
        )
    )]
    async fn upgrade(
        &self,
        host: &str,
        port: u16,
        stream: RemoteStream,
    ) -> io::Result<RemoteStream> {
        #[cfg(feature = "websocket")]
        if self.is_websocket {
            let url = format!("ws://{host}:{port}{}", self.path);
            let stream = crate::websocket::connect(&url, stream).await?;
            return Ok(RemoteStream(Box::new(stream)));
        }
        Ok(stream)
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Tcp { host, port } => write!(f, "{host}:{port}"),
            Place::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Connector for Remote {
    type Stream = RemoteStream;

    async fn connect(&mut self) -> io::Result<RemoteStream> {
        self.open().await
    }
}

/// Splits `host:port` or `[v6]:port`; the port may be missing.
fn split_port(authority: &str, default_port: u16) -> Option<(&str, u16)> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (authority, default_port),
    };
    let is_v6 = host.starts_with('[') && host.ends_with(']');
    (!host.is_empty() && (is_v6 || !host.contains([':', '@']))).then_some((host, port))
}

mod stream {
    //! Handing on to whatever is inside.

    use std::io::{self, IoSlice};
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::RemoteStream;

    impl AsyncRead for RemoteStream {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut *self.0).poll_read(cx, buffer)
        }
    }

    impl AsyncWrite for RemoteStream {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Pin::new(&mut *self.0).poll_write(cx, bytes)
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            Pin::new(&mut *self.0).poll_write_vectored(cx, slices)
        }

        fn is_write_vectored(&self) -> bool {
            self.0.is_write_vectored()
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut *self.0).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut *self.0).poll_shutdown(cx)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, expected: Result<&str, UrlError>) {
        let found = Remote::new(url).map(|remote| remote.to_string());
        assert_eq!(found, expected.map(str::to_owned), "{url}");
    }

    #[test]
    fn urls_name_brokers() {
        check("mqtt://localhost", Ok("localhost:1883"));
        check("tcp://[::1]:1884/topic", Ok("[::1]:1884"));
        check("mqtt://[::1]", Ok("[::1]:1883"));
        #[cfg(feature = "tls")]
        check("mqtts://h", Ok("h:8883"));
        #[cfg(feature = "websocket")]
        check("ws://h:8080/x", Ok("h:8080"));
        check("unix:///run/p.sock", Ok("/run/p.sock"));
        for wrong in [
            "h:1",
            "mqtt://",
            "mqtt://:1",
            "mqtt://::1",
            "mqtt://u@h",
            "mqtt://h:x",
            "unix://x",
        ] {
            check(wrong, Err(UrlError::Malformed));
        }
        check("http://h", Err(UrlError::Scheme));
    }
}
