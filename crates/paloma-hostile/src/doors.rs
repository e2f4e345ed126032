//! The broker's other listeners: what stands there before the first packet is attacked too.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use paloma_interop::broker::Broker;
use paloma_interop::certificates::Certificates;
use rustls::ClientConfig;

use crate::answer::ANSWER_MAX;

/// `ann`'s password is `right`. As `paloma passwd` makes it, at its usual cost.
pub(crate) const PASSWORDS: &str = "ann:$argon2id$v=19$m=19456,t=2,p=1$OvAh3ZFxMWPxuynh0EYVMg$jyy5KjZJ98mAeUnmh6cCynwpft2fZ9ptBLeFO3WT0oo\n";

/// The listeners, the plain one first, as they stand in the broker's configuration.
pub(crate) const LISTENERS: &str = "\
[[listener]]
name = 'plain'
address = '127.0.0.1:0'
[[listener]]
name = 'locked'
address = '127.0.0.1:0'
password_file = 'passwords'
[listener.proxy_protocol]
version = 1
trusted = ['127.0.0.0/8']
[[listener]]
name = 'tls'
address = '127.0.0.1:0'
[listener.tls]
certificate = 'server.pem'
key = 'server.key'
[[listener]]
name = 'websocket'
address = '127.0.0.1:0'
transport = 'websocket'
[[listener]]
name = 'proxied'
address = '127.0.0.1:0'
[listener.proxy_protocol]
version = 2
trusted = ['127.0.0.0/8']
";

/// Where they are.
#[derive(Debug)]
pub struct Doors {
    /// Asks for a password, after a PROXY header of version 1: one machine can knock here in the name of many.
    pub(crate) locked: SocketAddr,
    pub(crate) tls: SocketAddr,
    pub(crate) websocket: SocketAddr,
    /// Wants a PROXY header of version 2.
    pub(crate) proxied: SocketAddr,
    /// Trusts the certificate behind `tls`.
    pub(crate) trust: Arc<ClientConfig>,
}

impl Doors {
    /// Those of a broker with [`LISTENERS`].
    pub(crate) fn of(broker: &Broker, certificates: &Certificates) -> Self {
        Self {
            locked: broker.listener(1),
            tls: broker.listener(2),
            websocket: broker.listener(3),
            proxied: broker.listener(4),
            trust: certificates.trust(),
        }
    }
}

/// A connection that gives up in the end.
pub(crate) fn knock(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the broker listens");
    let limits = (
        stream.set_read_timeout(Some(ANSWER_MAX)),
        stream.set_write_timeout(Some(ANSWER_MAX)),
    );
    assert!(
        limits.0.is_ok() && limits.1.is_ok(),
        "a socket has time limits"
    );
    stream
}

/// Whether the broker ends the connection in time; what it says before is passed over.
pub(crate) fn ends(stream: &mut TcpStream) -> bool {
    let deadline = Instant::now() + ANSWER_MAX;
    let mut buffer = [0; 4_096];
    while Instant::now() < deadline {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => match error.kind() {
                ErrorKind::Interrupted => {}
                ErrorKind::WouldBlock | ErrorKind::TimedOut => return false,
                _ => return true,
            },
        }
    }
    false
}

/// Whether exactly these bytes come next.
pub(crate) fn hears(stream: &mut impl Read, expected: &[u8]) -> bool {
    let mut bytes = vec![0; expected.len()];
    stream.read_exact(&mut bytes).is_ok() && bytes == expected
}

/// How long each of `count` pieces may take, so that all of them are sent before the time for CONNECT is over.
pub(crate) fn pause(count: usize) -> Duration {
    crate::run::CONNECT_TIMEOUT / (4 * count.max(1) as u32)
}
