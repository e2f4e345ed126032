//! From an accepted socket to a transport: what has to be said before the first packet.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use paloma_broker::{ConnectionInfo, Refusal, Transport};
use paloma_session::Monotonic;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout_at;

use crate::certificate_name::NameError;
use crate::counters::Counters;
use crate::listen::attach;
use crate::listener::{ListenAddress, Listener};
use crate::proxy::{self, ProxyProtocol};
use crate::raw::Raw;
use crate::shared::{Admission, Shared};
use crate::socket::{Socket, Stream};
use crate::tls::Tls;
use crate::websocket::{self, ServeError, WebSocket};

/// A socket that has been accepted.
pub(crate) struct Arrival {
    pub(crate) raw: Raw,
    /// The peer's own address, if it has one.
    pub(crate) peer: Option<IpAddr>,
    pub(crate) listener: Arc<Listener>,
    /// The listener's index.
    pub(crate) index: u16,
    /// Whose runtime it lives on.
    pub(crate) shard: u16,
    pub(crate) accepted_at: Monotonic,
}

/// What is spoken within TLS, as its application protocol says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Application {
    Mqtt,
    Http,
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum Failure {
    Refused(Refusal),
    Stranger,
    Proxy(io::Error),
    #[cfg_attr(
        not(feature = "tls"),
        expect(dead_code, reason = "there is no TLS that could fail")
    )]
    Tls(io::Error),
    #[cfg_attr(
        not(feature = "tls"),
        expect(dead_code, reason = "names come with TLS")
    )]
    Name(NameError),
    WebSocket(ServeError),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Stranger => f.write_str("the peer is not trusted with PROXY headers"),
            Self::Proxy(error) | Self::Tls(error) => error.fmt(f),
            Self::Name(error) => error.fmt(f),
            Self::WebSocket(error) => error.fmt(f),
        }
    }
}

impl Listener {
    /// Whether packets may come at once.
    pub(crate) const fn is_plain(&self) -> bool {
        let is_bare = self.tls.is_none() && self.websocket.is_none();
        is_bare && matches!(self.proxy_protocol, ProxyProtocol::Off)
    }

    fn info(&self, index: u16, address: Option<IpAddr>) -> ConnectionInfo {
        let transport = match (&self.tls, &self.websocket, &self.address) {
            (Some(_), Some(_), _) => Transport::SecureWebSocket,
            (None, Some(_), _) => Transport::WebSocket,
            (Some(_), None, _) => Transport::Tls,
            (None, None, ListenAddress::Tcp(_)) => Transport::Tcp,
            (None, None, ListenAddress::Unix { .. }) => Transport::Unix,
        };
        ConnectionInfo {
            address,
            listener: index,
            terms: self.terms.clone(),
            transport,
            ..ConnectionInfo::default()
        }
    }
}

impl Arrival {
    /// Opens the connection, of which nothing has to be known first.
    pub(crate) fn attach(self, shared: &Arc<Shared>) -> Result<(), Refusal> {
        let info = self.listener.info(self.index, self.peer);
        attach(
            shared,
            self.raw.into_socket(),
            self.shard,
            info,
            Admission::Needed,
        )
    }

    /// Shakes hands as the listener wants it, and opens the connection; all within the time for CONNECT.
    pub(crate) async fn establish(self, shared: Arc<Shared>) {
        let (peer, index) = (self.peer, self.index);
        let by = self
            .accepted_at
            .saturating_add(shared.arrivals().connect_timeout);
        let outcome = timeout_at(shared.clock.instant(by), self.shake_hands(&shared)).await;
        match outcome {
            Ok(Ok(())) => {}
            // Counted where it was made.
            Ok(Err(Failure::Refused(_))) => {}
            Ok(Err(error)) => {
                Counters::count(&shared.counters.handshakes_failed);
                tracing::debug!(
                    address = peer.map(tracing::field::display),
                    listener = shared.reporter.name(Some(index)).as_deref(),
                    %error,
                    "handshake failed"
                );
            }
            Err(_) => {
                Counters::count(&shared.counters.handshakes_failed);
                tracing::debug!(
                    address = peer.map(tracing::field::display),
                    listener = shared.reporter.name(Some(index)).as_deref(),
                    "handshake took too long"
                );
            }
        }
    }

    async fn shake_hands(self, shared: &Arc<Shared>) -> Result<(), Failure> {
        let mut info = self.listener.info(self.index, self.peer);
        info.accepted_at = Some(self.accepted_at);
        let Self {
            mut raw, listener, ..
        } = self;
        if listener.proxy_protocol != ProxyProtocol::Off {
            if !listener.trusts(info.address) {
                return Err(Failure::Stranger);
            }
            let header = proxy::read(&mut raw, listener.proxy_protocol).await;
            let header = header.map_err(Failure::Proxy)?;
            info.address = header.source.or(info.address);
            info.certificate_name = header.certificate_name;
        }
        // A trusted peer is a proxy: whom it speaks for is asked for below.
        let is_proxied = listener.websocket.is_some()
            && !listener.trusted.is_empty()
            && listener.trusts(info.address);
        if !is_proxied {
            shared.admit(&info).map_err(Failure::Refused)?;
        }
        let socket = match (&listener.tls, &listener.websocket) {
            (None, None) => raw.into_socket(),
            (Some(tls), None) => {
                Socket::stream(secure(tls, Application::Mqtt, raw, &mut info).await?)
            }
            (None, Some(websocket)) => {
                upgrade(shared, &listener, websocket, raw, &mut info).await?
            }
            (Some(tls), Some(websocket)) => {
                let stream = secure(tls, Application::Http, raw, &mut info).await?;
                upgrade(shared, &listener, websocket, stream, &mut info).await?
            }
        };
        if is_proxied {
            shared.admit(&info).map_err(Failure::Refused)?;
        }
        attach(shared, socket, self.shard, info, Admission::Given).map_err(Failure::Refused)
    }
}

/// A WebSocket over a stream; notes whom a trusted proxy forwards for.
async fn upgrade<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    shared: &Shared,
    listener: &Listener,
    websocket: &WebSocket,
    stream: S,
    info: &mut ConnectionInfo,
) -> Result<Socket, Failure> {
    let message_bytes_max = shared.arrivals().decode_limits.packet_bytes_max.into();
    let (stream, forwarded_for) = websocket::serve(stream, websocket, message_bytes_max)
        .await
        .map_err(Failure::WebSocket)?;
    // Each proxy adds whom it heard from: the last one that we do not trust is who we do not know more about.
    for address in forwarded_for.iter().rev() {
        if listener.trusted.is_empty() || !listener.trusts(info.address) {
            break;
        }
        info.address = Some(*address);
    }
    Ok(Socket::stream(stream))
}

/// TLS over a socket; notes who the peer is.
async fn secure(
    tls: &Tls,
    application: Application,
    raw: Raw,
    info: &mut ConnectionInfo,
) -> Result<impl Stream + Unpin + use<>, Failure> {
    let (stream, name) = tls.accept(application, raw).await?;
    info.certificate_name = name.or(info.certificate_name.take());
    Ok(stream)
}
