//! From a listener of the configuration to what the broker listens on.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use paloma_tokio::{ListenAddress, Tls};

use crate::config::{Address, Config, Listener, StoreSettings, share_ports};

/// One address to listen on.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// The listener's place in the configuration.
    pub(crate) place: usize,
    /// What the configuration says of it.
    pub(crate) settings: Listener,
    /// Its certificates are loaded.
    pub(crate) listener: paloma_tokio::Listener,
}

impl Wanted {
    /// Everything that the configuration listens on.
    ///
    /// # Errors
    /// A name that stands for no address, or not for what its listener allows; certificates that cannot be loaded.
    pub(crate) fn all(config: &Config) -> io::Result<Vec<Self>> {
        let mut wanted = Vec::new();
        for (place, settings) in config.listeners.iter().enumerate() {
            let transport = &settings.transport;
            let tls = transport.load_tls()?;
            let terms = Arc::new(settings.terms());
            for address in resolve(config, settings)? {
                let mut listener = paloma_tokio::Listener::new(address);
                listener.name = Some(settings.name.clone());
                listener.connections_max = settings.connections_max.unwrap_or(usize::MAX);
                listener.tls.clone_from(&tls);
                listener.websocket = transport.websocket();
                listener.proxy_protocol = transport.proxy_protocol;
                listener.trusted.clone_from(&transport.trusted);
                listener.terms = Some(Arc::clone(&terms));
                wanted.push(Self {
                    place,
                    settings: settings.clone(),
                    listener,
                });
            }
        }
        Ok(wanted)
    }

    /// The scheme of its address.
    pub(crate) const fn scheme(&self) -> &'static str {
        let is_unix = matches!(self.listener.address, ListenAddress::Unix { .. });
        self.settings.transport.scheme(is_unix)
    }

    /// Whether a listener that is open does what this one is to do, but for the content of its files.
    pub(crate) fn is_served_by(&self, open: &Self) -> bool {
        self.listener.address == open.listener.address
            && self.listener.connections_max == open.listener.connections_max
            && self.listener.terms == open.listener.terms
            && self.settings.transport.is_same(&open.settings.transport)
    }

    /// Whether it cannot be open beside a listener that has this address.
    pub(crate) fn excludes(&self, open: &ListenAddress) -> bool {
        match (&self.listener.address, open) {
            (ListenAddress::Tcp(own), ListenAddress::Tcp(other)) => {
                own.port() == other.port() && share_ports(own.ip(), other.ip())
            }
            (ListenAddress::Unix { path, .. }, ListenAddress::Unix { path: other, .. }) => {
                path == other
            }
            (ListenAddress::Tcp(_), ListenAddress::Unix { .. })
            | (ListenAddress::Unix { .. }, ListenAddress::Tcp(_)) => false,
        }
    }
}

/// A certificate is about to be over when it has no more than this.
const CERTIFICATE_DAYS: u64 = 14;

/// What an operator should know of a listener's certificate, though nothing is wrong with its file.
pub(crate) fn certificate_warning(tls: &Tls, now: SystemTime) -> Option<&'static str> {
    let soon = now + Duration::from_secs(CERTIFICATE_DAYS * 24 * 60 * 60);
    if !tls.is_valid_at(now) {
        return Some("its certificate has expired, or is not valid yet: clients refuse it");
    }
    (!tls.is_valid_at(soon)).then_some("its certificate expires within 14 days")
}

/// Says which certificates are over, or will be soon.
pub(crate) fn warn_of_certificates<'a>(wanted: impl IntoIterator<Item = &'a Wanted>) {
    let now = SystemTime::now();
    let mut last = None;
    for wanted in wanted {
        let Some(tls) = &wanted.listener.tls else {
            continue;
        };
        // A name may stand for several addresses.
        if last.replace(wanted.place) != Some(wanted.place)
            && let Some(warning) = certificate_warning(tls, now)
        {
            tracing::warn!(listener = wanted.settings.name, "{warning}");
        }
    }
}

/// Says on stderr where a listener listens, and where what it takes is kept.
pub(crate) fn announce(scheme: &str, address: &ListenAddress, store: &StoreSettings) {
    let version = env!("CARGO_PKG_VERSION");
    let place = match address {
        ListenAddress::Tcp(address) => address.to_string(),
        ListenAddress::Unix { path, .. } => path.display().to_string(),
    };
    if store.in_memory {
        eprintln!(
            "paloma {version} listening on {scheme}://{place} (in memory: nothing survives a restart)"
        );
    } else {
        let (path, level) = (store.path.display(), store.durability);
        eprintln!("paloma {version} listening on {scheme}://{place} (store: {path}, {level})");
    }
}

/// The addresses of a listener: all those that its name stands for.
fn resolve(config: &Config, listener: &Listener) -> io::Result<Vec<ListenAddress>> {
    let address = &listener.address;
    let (host, port) = match address {
        Address::Tcp { host, port } => (host.as_str(), *port),
        Address::Unix { path } => {
            return Ok(vec![ListenAddress::Unix {
                path: path.clone(),
                mode: listener.socket_mode,
            }]);
        }
    };
    let context = |error: io::Error| {
        io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
    };
    let addresses: Vec<SocketAddr> = (host, port).to_socket_addrs().map_err(context)?.collect();
    // `localhost` passed the check of the configuration by its name only.
    let stranger = addresses.iter().find(|address| !is_loopback(address));
    if let Some(stranger) = stranger.filter(|_| !listener.may_be_reached(&config.auth)) {
        let message = format!("{address} is {stranger} here, which is not loopback");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    Ok(addresses.into_iter().map(ListenAddress::Tcp).collect())
}

fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}
