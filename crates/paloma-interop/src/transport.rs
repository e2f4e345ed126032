//! What MQTT is carried over: every test can be run over each.
//!
//! `PALOMA_TEST_TRANSPORT=tls` (or `ws`, `wss`, `unix`) gives the broker under test one listener of that kind. Clients that
//! speak the transport themselves get its [`Endpoint`]; everybody else connects by TCP to a tunnel that speaks it for
//! them.

use std::env;
use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::thread;

use paloma_client::{Connector, Remote, Tls, TlsFiles};
use tokio::io::copy_bidirectional;
use tokio::runtime::Builder;
use tokio::sync::oneshot;

use crate::broker::Setup;
use crate::certificates::Certificates;

/// A way to carry packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// TCP as it is.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// WebSocket over TCP.
    WebSocket,
    /// WebSocket over TLS.
    SecureWebSocket,
    /// A Unix socket.
    Unix,
}

impl Transport {
    /// As the environment says; TCP unless told otherwise.
    ///
    /// # Panics
    /// If the environment names an unknown one.
    #[must_use]
    pub fn under_test() -> Self {
        match env::var("PALOMA_TEST_TRANSPORT").as_deref() {
            Err(_) | Ok("tcp") => Self::Tcp,
            Ok("tls") => Self::Tls,
            Ok("ws") => Self::WebSocket,
            Ok("wss") => Self::SecureWebSocket,
            Ok("unix") => Self::Unix,
            Ok(other) => {
                panic!("PALOMA_TEST_TRANSPORT is {other}, none of tcp, tls, ws, wss, unix")
            }
        }
    }

    /// Whether it is encrypted.
    #[must_use]
    pub fn is_secure(self) -> bool {
        matches!(self, Self::Tls | Self::SecureWebSocket)
    }

    fn scheme(self) -> &'static str {
        match self {
            Self::Tcp => "mqtt",
            Self::Tls => "mqtts",
            Self::WebSocket => "ws",
            Self::SecureWebSocket => "wss",
            Self::Unix => "unix",
        }
    }

    /// A broker with one listener of this kind.
    pub(crate) fn setup(self) -> Setup {
        let mut setup = Setup {
            configuration: "[[listener]]\nname = \"under test\"\n".to_owned(),
            ..Setup::default()
        };
        setup.configuration += match self {
            Self::Unix => "address = \"unix:DIRECTORY/broker.sock\"\n",
            Self::Tcp | Self::Tls => "address = \"127.0.0.1:0\"\n",
            Self::WebSocket | Self::SecureWebSocket => {
                "address = \"127.0.0.1:0\"\ntransport = \"websocket\"\n"
            }
        };
        if self.is_secure() {
            setup.configuration +=
                "[listener.tls]\ncertificate = \"server.pem\"\nkey = \"server.key\"\n";
            setup.files = Certificates::new().files();
        }
        setup
    }

    fn of_scheme(scheme: &str) -> Option<Self> {
        match scheme {
            "tcp" | "mqtt" => Some(Self::Tcp),
            "tls" | "mqtts" => Some(Self::Tls),
            "ws" => Some(Self::WebSocket),
            "wss" => Some(Self::SecureWebSocket),
            "unix" => Some(Self::Unix),
            _ => None,
        }
    }
}

/// Where a broker is found.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// How.
    pub transport: Transport,
    /// The whole of it as a URL.
    pub url: String,
    /// The port on 127.0.0.1; 0 for a Unix socket.
    pub port: u16,
    /// The path of a Unix socket.
    pub socket: PathBuf,
    /// Who signed the broker's certificate, if it has one.
    pub authority: Option<PathBuf>,
}

impl Endpoint {
    /// A broker that is found by TCP.
    #[must_use]
    pub fn tcp(address: SocketAddr) -> Self {
        Self::announced(&format!("tcp://{address}"), Path::new("/"))
    }

    /// A TCP port on which nobody listens: it was free a moment ago, and is not handed out again at once.
    ///
    /// # Panics
    /// If the system has no free port.
    #[must_use]
    pub fn of_nobody() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self::tcp(listener.local_addr().unwrap())
    }

    /// What a broker announced as `SCHEME://PLACE`; its files are in `directory`.
    ///
    /// # Panics
    /// If that is not what a listener is.
    #[must_use]
    pub fn announced(listener: &str, directory: &Path) -> Self {
        let (scheme, place) = listener.split_once("://").unwrap();
        let transport = Transport::of_scheme(scheme)
            .unwrap_or_else(|| panic!("a listener of no known kind: {listener}"));
        let address: Option<SocketAddr> = place.parse().ok();
        let socket = directory.join(place);
        let place = match address {
            Some(address) => address.to_string(),
            None => socket.display().to_string(),
        };
        let path = match transport {
            Transport::WebSocket | Transport::SecureWebSocket => "/mqtt",
            Transport::Tcp | Transport::Tls | Transport::Unix => "",
        };
        Self {
            transport,
            url: format!("{}://{place}{path}", transport.scheme()),
            port: address.map_or(0, |address| address.port()),
            socket,
            authority: transport.is_secure().then(|| directory.join("ca.pem")),
        }
    }

    /// What `paloma-client` connects with.
    ///
    /// # Panics
    /// If the authority's file is not what it should be.
    #[must_use]
    pub fn connector(&self) -> Remote {
        let remote = Remote::new(&self.url).unwrap();
        let Some(authority) = &self.authority else {
            return remote;
        };
        let files = TlsFiles {
            ca: authority.clone(),
            ..TlsFiles::default()
        };
        remote.with_tls(Tls::load(&files).unwrap())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

/// A TCP port on loopback whose connections go on to an endpoint over its transport. A connection that cannot go on is
/// closed, as one that is refused would be.
#[derive(Debug)]
pub(crate) struct Tunnel {
    pub(crate) address: SocketAddr,
    /// Ends the tunnel's runtime, and with it every connection.
    _stop: oneshot::Sender<()>,
}

impl Tunnel {
    pub(crate) fn start(endpoint: &Endpoint) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let connector = endpoint.connector();
        let (stop, stopped) = oneshot::channel();
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    () = accept(listener, connector) => {}
                    _ = stopped => {}
                }
            });
        });
        Self {
            address,
            _stop: stop,
        }
    }
}

async fn accept(listener: tokio::net::TcpListener, connector: Remote) {
    loop {
        let Ok((mut near, _)) = listener.accept().await else {
            continue;
        };
        let mut connector = connector.clone();
        tokio::spawn(async move {
            let _ = near.set_nodelay(true);
            if let Ok(mut far) = connector.connect().await {
                // How it ends is between the two.
                let _ = copy_bidirectional(&mut near, &mut far).await;
            }
        });
    }
}
