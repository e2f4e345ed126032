//! What holds for connections that are on their way in.

use std::sync::Arc;
use std::time::Duration;

use paloma_broker::Broker;
use paloma_codec::DecodeLimits;

/// The bounds on connections that are on their way in.
#[derive(Clone, Debug)]
pub(crate) struct Arrivals {
    /// Shared by all connections that come while they hold.
    pub(crate) decode_limits: Arc<DecodeLimits>,
    /// Most connections in all.
    pub(crate) connections_max: usize,
    /// How long a client has from its arrival to its CONNECT.
    pub(crate) connect_timeout: Duration,
}

impl Arrivals {
    pub(crate) fn of(broker: &Broker) -> Self {
        let limits = broker.limits();
        Self {
            decode_limits: Arc::new(broker.decode_limits()),
            connections_max: limits.connections_max as usize,
            connect_timeout: Duration::from_millis(limits.connect_timeout_ms.into()),
        }
    }
}
