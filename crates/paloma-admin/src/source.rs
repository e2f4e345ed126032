//! Where the answers come from.

use std::fmt;

use paloma_broker::Statistics;

/// What a broker and its adapter have counted, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// What the core counted.
    pub statistics: Statistics,
    /// Panics that ended one connection or one login.
    pub panics: u64,
    /// Connections closed at once because their listener was full.
    pub listener_full: u64,
    /// Times that accepting had to rest.
    pub accept_errors: u64,
    /// Connections cut because their socket took nothing for too long.
    pub stalled: u64,
    /// Connections that ended before their TLS or other handshake was through.
    pub handshakes_failed: u64,
    /// Records of what the broker takes in that ended before it did.
    pub records_ended: u64,
    /// By the name of each listener with TLS, when its certificate expires: seconds since 1970. No name comes twice.
    pub certificates: Vec<(String, u64)>,
    /// The broker's name.
    pub node: String,
    /// The broker's version.
    pub version: String,
}

/// How the broker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Clients are served.
    Ready,
    /// It is alive, and takes nobody in: it starts or stops.
    NotReady,
    /// It has failed and is about to end.
    Failed,
}

/// Gives an administration listener what it tells. Called on the listener's thread: answers are at hand or short work.
pub trait Source: fmt::Debug + Send + Sync + 'static {
    /// Everything that is counted, at this moment.
    fn snapshot(&self) -> Snapshot;

    /// How the broker is.
    fn health(&self) -> Health;
}
