//! How a client connects, and how much it holds.

use std::time::Duration;

use paloma_codec::Connect;
use paloma_session::QueueLimits;

use crate::Backoff;

/// Everything that is decided before a client starts. [MQTT-3.1.3-2]
///
/// The CONNECT is sent as it is given; it says version, client id, clean start, keep alive, will, credentials and
/// properties. After the first connection it changes in two places: a session that outlives its connection is resumed
/// instead of begun clean, and an id that the broker assigned is used again.
#[derive(Clone, Debug)]
pub struct Options {
    /// The CONNECT. Default: 5.0, clean start, a keep alive of 60 s, and an id of the broker's choice.
    pub connect: Connect,
    /// When to connect again after a connection is lost; `None` for never.
    pub reconnect: Option<Backoff>,
    /// Longest time from opening a stream to the CONNACK, and for leaving in good order. Default 10 s.
    pub connect_timeout: Duration,
    /// Largest packet accepted, in bytes. Default 16 MiB. A 5.0 broker keeps to it only if the CONNECT says so too.
    pub packet_bytes_max: u32,
    /// What may wait to be sent, in all; beyond it publishing waits. Default 1,000 messages and 8 MiB.
    pub queue: QueueLimits,
    /// Messages at QoS 1 and 2 that may be unacknowledged at once, if the broker does not say less. Default 32.
    pub in_flight_max: u16,
    /// Messages that may wait to be taken from [`Messages`](crate::Messages); beyond it nothing is read. Default 256.
    pub inbox_max: usize,
    /// Subscribe and unsubscribe requests that may be unanswered at once. Default 32.
    pub requests_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connect: Connect {
                keep_alive_seconds: 60,
                ..Connect::default()
            },
            reconnect: Some(Backoff::default()),
            connect_timeout: Duration::from_secs(10),
            packet_bytes_max: 16 * 1024 * 1024,
            queue: QueueLimits::default(),
            in_flight_max: 32,
            inbox_max: 256,
            requests_max: 32,
        }
    }
}

impl Options {
    /// Whether the session ends with its connection, so that there is nothing to resume. [MQTT-3.1.2-23]
    pub(crate) const fn is_session_brief(&self) -> bool {
        self.connect.session_expiry_seconds == 0
    }
}
