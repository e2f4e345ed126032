//! Keep alive for both roles, lazily: traffic only stores a time, which is looked at when the timer fires.

use core::time::Duration;
use paloma_topic::Fault;

use crate::time::Monotonic;

/// Which timer of a connection is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimeoutReason {
    /// The client may have been silent for one and a half keep alive periods. [MQTT-3.1.2-22]
    KeepAlive,
    /// The client may have nothing else to send and owe a PINGREQ. [MQTT-3.1.2-20]
    PingDue,
    /// The server may have left a PINGREQ unanswered.
    PingResponse,
}

/// What a fired timer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Timeout {
    /// There was traffic meanwhile (or the timer was early): arm it again for the new `poll_timeout`.
    Early,
    /// A PINGREQ was queued: transmit, and arm the timer again.
    Ping,
    /// The peer is gone: close as if the network had failed. [MQTT-3.1.2-22]
    Expired,
}

/// Watches one connection's silence. An interval of zero watches nothing.
#[derive(Clone, Copy, Debug)]
pub struct KeepAlive {
    watch: Watch,
    interval_seconds: u16,
}

#[derive(Clone, Copy, Debug)]
enum Watch {
    Off,
    /// Server role: when the client was last heard.
    Silence {
        heard: Monotonic,
    },
    /// Client role: when something was last sent.
    Sending {
        sent: Monotonic,
    },
    /// Client role: a PINGREQ is queued or on its way; when it was asked for.
    Pinging {
        asked: Monotonic,
        wait_seconds: u16,
    },
}

impl KeepAlive {
    /// The server's side: the client owes a packet every `interval_seconds`; 0 means none is owed. [MQTT-3.2.2-22]
    #[must_use]
    pub const fn server(interval_seconds: u16, now: Monotonic) -> Self {
        let watch = match interval_seconds {
            0 => Watch::Off,
            _ => Watch::Silence { heard: now },
        };
        Self {
            watch,
            interval_seconds,
        }
    }

    /// The client's side: a packet is owed every `interval_seconds`; 0 means none is owed. [MQTT-3.1.2-21]
    #[must_use]
    pub const fn client(interval_seconds: u16, now: Monotonic) -> Self {
        let watch = match interval_seconds {
            0 => Watch::Off,
            _ => Watch::Sending { sent: now },
        };
        Self {
            watch,
            interval_seconds,
        }
    }

    /// The interval in force, in seconds; 0 for none.
    #[must_use]
    pub const fn interval_seconds(&self) -> u16 {
        self.interval_seconds
    }

    /// A packet came in.
    pub const fn received(&mut self, now: Monotonic) {
        if let Watch::Silence { heard } = &mut self.watch {
            *heard = now;
        }
    }

    /// A packet went out. A PINGREQ that waits for its answer keeps waiting.
    pub const fn sent(&mut self, now: Monotonic) {
        if let Watch::Sending { sent } = &mut self.watch {
            *sent = now;
        }
    }

    /// The PINGRESP came in. Says whether one was waited for.
    pub const fn answered(&mut self, now: Monotonic) -> bool {
        if let Watch::Pinging { .. } = self.watch {
            self.watch = Watch::Sending { sent: now };
            return true;
        }
        false
    }

    /// A PINGREQ is about to be sent: from here on its answer is waited for.
    pub const fn pinging(&mut self, now: Monotonic, wait_seconds: u16) {
        if let Watch::Sending { .. } = self.watch {
            self.watch = Watch::Pinging {
                asked: now,
                wait_seconds,
            };
        }
    }

    /// When to look again, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Monotonic, TimeoutReason)> {
        let interval = Duration::from_secs(u64::from(self.interval_seconds));
        match self.watch {
            Watch::Off => None,
            Watch::Silence { .. } if Fault::KeepAliveForgotten.is_on() => None,
            Watch::Silence { heard } => {
                let grace = interval.saturating_add(interval / 2);
                Some((heard.saturating_add(grace), TimeoutReason::KeepAlive))
            }
            Watch::Sending { sent } => {
                Some((sent.saturating_add(interval), TimeoutReason::PingDue))
            }
            Watch::Pinging {
                asked,
                wait_seconds,
            } => {
                let wait = Duration::from_secs(u64::from(wait_seconds));
                Some((asked.saturating_add(wait), TimeoutReason::PingResponse))
            }
        }
    }

    /// What it means that the time is `now`. Never [`Timeout::Expired`] before the full period is over.
    #[must_use]
    pub fn check(&self, now: Monotonic) -> Timeout {
        match self.poll_timeout() {
            Some((due, reason)) if now >= due => match reason {
                TimeoutReason::KeepAlive | TimeoutReason::PingResponse => Timeout::Expired,
                TimeoutReason::PingDue => Timeout::Ping,
            },
            Some(_) | None => Timeout::Early,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Monotonic {
        Monotonic::from_millis(millis)
    }

    /// [MQTT-3.1.2-22]
    #[test]
    fn a_silent_client_expires_after_one_and_a_half_periods_and_not_before() {
        let mut keep_alive = KeepAlive::server(1, at(0));
        keep_alive.received(at(500));
        assert_eq!(
            keep_alive.poll_timeout(),
            Some((at(2_000), TimeoutReason::KeepAlive))
        );
        assert_eq!(keep_alive.check(at(1_999)), Timeout::Early);
        assert_eq!(keep_alive.check(at(2_000)), Timeout::Expired);
    }

    #[test]
    fn an_interval_of_zero_never_expires() {
        for keep_alive in [KeepAlive::server(0, at(0)), KeepAlive::client(0, at(0))] {
            assert_eq!(keep_alive.poll_timeout(), None);
            assert_eq!(keep_alive.check(at(u64::MAX)), Timeout::Early);
        }
    }

    /// [MQTT-3.1.2-20]
    #[test]
    fn a_client_pings_when_it_sent_nothing_for_one_period() {
        let mut keep_alive = KeepAlive::client(10, at(0));
        keep_alive.sent(at(4_000));
        assert_eq!(keep_alive.check(at(13_999)), Timeout::Early);
        assert_eq!(keep_alive.check(at(14_000)), Timeout::Ping);
        keep_alive.pinging(at(14_000), 5);
        assert_eq!(keep_alive.check(at(18_999)), Timeout::Early);
        assert_eq!(keep_alive.check(at(19_000)), Timeout::Expired);
        assert!(keep_alive.answered(at(18_000)));
        assert_eq!(keep_alive.check(at(19_000)), Timeout::Early);
        assert!(!keep_alive.answered(at(18_000)));
    }
}
