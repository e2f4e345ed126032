//! What a broker is started with.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use paloma_broker::{AllowAll, Authenticator, BrokerConfig, MemoryStore, Store};

use crate::listener::Listener;
use crate::record_config::Record;

/// Longest that [`Running::stop`](crate::Running::stop) waits for clients, unless configured otherwise.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Everything that [`Broker::start`](crate::Broker::start) and [`serve`](crate::serve) need.
///
/// [`Config::new`] listens nowhere, keeps everything in memory and lets everybody do everything; change what should be
/// otherwise. Limits, behaviour and the authorizer are in [`Config::broker`].
pub struct Config {
    /// The core's own configuration: limits, behaviour, authorizer.
    pub broker: BrokerConfig,
    /// Where clients come in. May be empty: see [`Running::connect`](crate::Running::connect).
    pub listeners: Vec<Listener>,
    /// Finds out who a client is.
    pub authenticator: Arc<dyn Authenticator>,
    /// Keeps what must outlive the process. A store that blocks gets a thread of its own.
    pub store: Box<dyn Store>,
    /// How many I/O runtimes [`serve`](crate::serve) runs, and how many flushers share the connections when embedded;
    /// at most 64. Default 1.
    pub threads: NonZeroUsize,
    /// Longest that a graceful stop waits for clients to take what they are still owed. Default 5 s.
    pub stop_timeout: Duration,
    /// Where everything that the core takes in is recorded. Default nowhere.
    pub record: Option<Record>,
}

impl Config {
    /// The defaults, with a seed from the operating system.
    #[must_use]
    pub fn new() -> Self {
        Self::with_broker(BrokerConfig::new(random_seed()))
    }

    /// The defaults, over a core configured by the caller, its seed included.
    #[must_use]
    pub fn with_broker(broker: BrokerConfig) -> Self {
        Self {
            broker,
            listeners: Vec::new(),
            authenticator: Arc::new(AllowAll),
            store: Box::new(MemoryStore::new()),
            threads: NonZeroUsize::MIN,
            stop_timeout: STOP_TIMEOUT,
            record: None,
        }
    }

    /// Adds plain TCP at `address`; port 0 takes a free one. An IPv6 address takes IPv6 connections only.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listeners.push(Listener::tcp(address));
        self
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The seed stays out: client ids that the broker assigns could be guessed from it.
        f.debug_struct("Config")
            .field("limits", &self.broker.limits)
            .field("listeners", &self.listeners)
            .field("authenticator", &self.authenticator)
            .field("store", &self.store)
            .field("threads", &self.threads)
            .field("stop_timeout", &self.stop_timeout)
            .field("record", &self.record)
            .finish_non_exhaustive()
    }
}

/// A seed that strangers cannot guess.
///
/// # Panics
/// When the operating system has no randomness to give: nothing secret can be made then.
fn random_seed() -> [u8; 32] {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).expect("the operating system gives random bytes");
    seed
}
