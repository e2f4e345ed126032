//! Where the broker is, and streams to it.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::websocket::{self, WebSocket};

/// How long a socket may take for a write, or for a connection.
const SOCKET_SECONDS: u64 = 20;

/// A blocking stream of bytes to the broker.
pub trait Stream: Read + Write + Send {
    /// The longest that a read may wait.
    ///
    /// # Errors
    /// The socket's.
    fn set_patience(&mut self, patience: Duration) -> io::Result<()>;

    /// Cuts the connection without a word of MQTT.
    fn cut(&mut self);

    /// Sends no more, without a word of MQTT, and still reads.
    fn finish(&mut self);
}

/// A broker's address and transport.
#[derive(Clone)]
pub enum Target {
    /// `host:port` over TCP.
    Tcp(String),
    /// `host:port` over TLS, and the name in its certificate.
    Tls {
        /// `host:port`.
        address: String,
        /// What the certificate must be for.
        host: String,
        /// Whom to trust.
        config: Arc<ClientConfig>,
    },
    /// A socket's path.
    Unix(PathBuf),
    /// WebSocket over TCP.
    WebSocket {
        /// `host:port`.
        address: String,
        /// The request's path.
        path: String,
    },
}

impl Target {
    /// TLS with the authorities of a PEM file.
    ///
    /// # Errors
    /// The file holds no certificates.
    pub fn tls(host: &str, port: u16, ca: &Path) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        let certificates = CertificateDer::pem_file_iter(ca).map_err(io::Error::other)?;
        for certificate in certificates {
            let certificate = certificate.map_err(io::Error::other)?;
            roots.add(certificate).map_err(io::Error::other)?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self::Tls {
            address: format!("{host}:{port}"),
            host: host.to_owned(),
            config: Arc::new(config),
        })
    }

    /// From `ws://host:port/path`; the path may be left out.
    ///
    /// # Errors
    /// It is none.
    pub fn web_socket(url: &str) -> io::Result<Self> {
        let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "not ws://HOST:PORT/PATH");
        let rest = url.strip_prefix("ws://").ok_or_else(invalid)?;
        let (address, path) = match rest.split_once('/') {
            Some((address, path)) => (address, format!("/{path}")),
            None => (rest, "/mqtt".to_owned()),
        };
        if !address.contains(':') {
            return Err(invalid());
        }
        Ok(Self::WebSocket {
            address: address.to_owned(),
            path,
        })
    }

    /// Opens a stream.
    ///
    /// # Errors
    /// The broker is not there, or its transport refuses.
    pub fn open(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Self::Tcp(address) => Ok(Box::new(tcp(address)?)),
            Self::Tls {
                address,
                host,
                config,
            } => {
                let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
                let session =
                    ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
                Ok(Box::new(StreamOwned::new(session, tcp(address)?)))
            }
            Self::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_write_timeout(Some(Duration::from_secs(SOCKET_SECONDS)))?;
                Ok(Box::new(stream))
            }
            Self::WebSocket { address, path } => {
                let mut stream = tcp(address)?;
                let head = websocket::upgrade(&mut stream, address, path, &["mqtt"])?;
                websocket::check_upgrade(&head)?;
                Ok(Box::new(WebSocket::new(stream)))
            }
        }
    }

    /// The WebSocket's address and path, for tests of its frames.
    #[must_use]
    pub fn web_socket_parts(&self) -> Option<(&str, &str)> {
        match self {
            Self::WebSocket { address, path } => Some((address, path)),
            Self::Tcp(_) | Self::Tls { .. } | Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Tls { address, .. } => write!(f, "tls://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::WebSocket { address, path } => write!(f, "ws://{address}{path}"),
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A TCP stream that sends small writes at once.
///
/// # Errors
/// The broker is not there.
pub fn tcp(address: &str) -> io::Result<TcpStream> {
    let address = address
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))?;
    let patience = Duration::from_secs(SOCKET_SECONDS);
    let stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(patience))?;
    Ok(stream)
}

impl Stream for TcpStream {
    fn set_patience(&mut self, patience: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(patience))
    }

    fn cut(&mut self) {
        let _closed = self.shutdown(Shutdown::Both);
    }

    fn finish(&mut self) {
        let _closed = self.shutdown(Shutdown::Write);
    }
}

impl Stream for UnixStream {
    fn set_patience(&mut self, patience: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(patience))
    }

    fn cut(&mut self) {
        let _closed = self.shutdown(Shutdown::Both);
    }

    fn finish(&mut self) {
        let _closed = self.shutdown(Shutdown::Write);
    }
}

impl Stream for StreamOwned<ClientConnection, TcpStream> {
    fn set_patience(&mut self, patience: Duration) -> io::Result<()> {
        self.sock.set_read_timeout(Some(patience))
    }

    fn cut(&mut self) {
        let _closed = self.sock.shutdown(Shutdown::Both);
    }

    fn finish(&mut self) {
        let _closed = self.sock.shutdown(Shutdown::Write);
    }
}
