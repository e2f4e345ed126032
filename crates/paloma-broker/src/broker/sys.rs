//! The `$SYS` topics, with mosquitto's names and meanings: what the broker counts, as retained messages of its own.
//!
//! Values are published at QoS 0, so that no queue and no store holds yesterday's, and only when they have changed.

use std::time::Duration;

use paloma_codec::{Message, MessageParts, PublishProperties, Qos};
use paloma_session::{Monotonic, Now};
use paloma_topic::TopicNameRef;

use super::Broker;
use super::publish::{Outcome, Routed};
use crate::retained::Retained;
use crate::statistics::Statistics;
use crate::timers::Timer;

const VERSION: &str = concat!("paloma version ", env!("CARGO_PKG_VERSION"));

/// Over how many minutes a load is averaged, and the topic's last level.
const AVERAGES: [(f64, &str); 3] = [(1.0, "1min"), (5.0, "5min"), (15.0, "15min")];

/// Part of a topic, and where its number stands.
type Value = (&'static str, fn(&Statistics) -> u64);

/// What loads are averaged of: the topic, and its counter.
const LOADS: [Value; 9] = [
    ("messages/received", |all| all.traffic.packets_received),
    ("messages/sent", |all| all.traffic.packets_sent),
    ("publish/received", |all| all.traffic.publish_received),
    ("publish/sent", |all| all.traffic.publish_sent),
    ("publish/dropped", |all| all.accounting.dropped_total()),
    ("bytes/received", |all| all.traffic.bytes_received),
    ("bytes/sent", |all| all.traffic.bytes_sent),
    ("sockets", |all| all.traffic.connections_opened),
    ("connections", |all| all.traffic.clients_accepted),
];

/// Topics under `$SYS/broker` and their values.
const VALUES: [Value; 24] = [
    ("clients/total", |all| all.tables.sessions as u64),
    ("clients/maximum", |all| all.traffic.clients_maximum),
    ("clients/connected", |all| all.tables.connected as u64),
    ("clients/active", |all| all.tables.connected as u64),
    ("clients/disconnected", absent),
    ("clients/inactive", absent),
    ("clients/expired", |all| all.traffic.sessions_expired),
    ("messages/received", |all| all.traffic.packets_received),
    ("messages/sent", |all| all.traffic.packets_sent),
    ("messages/stored", stored),
    ("store/messages/count", stored),
    ("retained messages/count", |all| all.tables.retained as u64),
    ("subscriptions/count", |all| all.tables.subscriptions as u64),
    ("shared_subscriptions/count", |all| all.tables.groups as u64),
    ("publish/messages/received", |all| {
        all.traffic.publish_received
    }),
    ("publish/messages/sent", |all| all.traffic.publish_sent),
    ("publish/messages/dropped", |all| {
        all.accounting.dropped_total()
    }),
    ("publish/bytes/received", |all| {
        all.traffic.publish_bytes_received
    }),
    ("publish/bytes/sent", |all| all.traffic.publish_bytes_sent),
    ("bytes/received", |all| all.traffic.bytes_received),
    ("bytes/sent", |all| all.traffic.bytes_sent),
    ("connections/refused", |all| all.traffic.refused_total()),
    ("connections/opened", |all| all.traffic.connections_opened),
    ("store/uncommitted/bytes", |all| {
        all.tables.uncommitted_bytes
    }),
];

/// Clients that are away and whose session goes on.
fn absent(all: &Statistics) -> u64 {
    all.tables.sessions.saturating_sub(all.tables.connected) as u64
}

/// Messages that are held, retained ones included.
fn stored(all: &Statistics) -> u64 {
    all.accounting.queued() + all.tables.retained as u64
}

/// What has to be known from one publication to the next.
#[derive(Debug)]
pub(super) struct Sys {
    interval: Duration,
    /// Unknown until the first publication.
    started: Option<Monotonic>,
    updated: Monotonic,
    loads: [Load; LOADS.len()],
}

#[derive(Clone, Copy, Debug, Default)]
struct Load {
    counted: u64,
    averages: [f64; AVERAGES.len()],
}

impl Load {
    /// Takes in what was counted since `minutes` ago: each average moves towards the rate of that time, the more the longer
    /// it was.
    fn update(&mut self, counted: u64, minutes: f64) {
        let difference = counted.saturating_sub(self.counted);
        self.counted = counted;
        #[expect(
            clippy::cast_precision_loss,
            reason = "an average needs no more than 53 bits"
        )]
        let rate = difference as f64 / minutes;
        for (average, (span, _)) in self.averages.iter_mut().zip(AVERAGES) {
            *average = rate + (-minutes / span).exp() * (*average - rate);
        }
    }
}

impl Sys {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval,
            started: None,
            updated: Monotonic::ZERO,
            loads: [Load::default(); LOADS.len()],
        }
    }

    /// Every topic under `$SYS/broker` with its value at this moment.
    fn update(&mut self, now: Monotonic, all: &Statistics) -> Vec<(String, String)> {
        let is_first = self.started.is_none();
        let started = *self.started.get_or_insert(now);
        let elapsed = now.since(self.updated);
        self.updated = now;
        let uptime = now.since(started).as_secs();
        let mut topics = vec![
            ("version".to_owned(), VERSION.to_owned()),
            ("uptime".to_owned(), format!("{uptime} seconds")),
        ];
        let values = VALUES.iter();
        topics.extend(values.map(|(name, value)| ((*name).to_owned(), value(all).to_string())));
        for ((name, value), load) in LOADS.iter().zip(&mut self.loads) {
            if !is_first && !elapsed.is_zero() {
                load.update(value(all), elapsed.as_secs_f64() / 60.0);
            }
            for (average, (_, span)) in load.averages.iter().zip(AVERAGES) {
                topics.push((format!("load/{name}/{span}"), format!("{average:.2}")));
            }
        }
        topics
    }
}

impl Broker {
    /// Publishes what has changed, and comes back after the interval.
    pub(super) fn handle_sys_timer(&mut self, now: Now) {
        let all = self.statistics();
        let Some(sys) = &mut self.sys else {
            return;
        };
        let topics = sys.update(now.monotonic, &all);
        let at = now.monotonic.saturating_add(sys.interval);
        self.timers.arm(at, Timer::Sys);
        for (name, value) in topics {
            self.publish_sys(now, &format!("$SYS/broker/{name}"), &value);
        }
    }

    fn publish_sys(&mut self, now: Now, topic: &str, value: &str) {
        let Ok(topic) = TopicNameRef::new(topic) else {
            debug_assert!(false, "{topic:?} is a topic");
            return;
        };
        let previous = self.retained.get(topic);
        if previous.is_some_and(|known| known.message.payload() == value.as_bytes()) {
            return;
        }
        let parts = MessageParts {
            id: self.next_message_id().0,
            stamp: now.wall.as_millis(),
            topic,
            properties: &PublishProperties::default(),
            payload: value.as_bytes(),
        };
        let Ok(message) = Message::new(&parts, &mut self.scratch) else {
            return;
        };
        let qos = Qos::AtMostOnce;
        let retained = Retained {
            message: message.clone(),
            qos,
            author: None,
            timer_at: None,
        };
        // Not stored: it is made anew after a restart. A full table keeps only later subscribers from it.
        let _ = self.retained.put(retained, &self.limits);
        self.collect_recipients(topic, None);
        if self.recipients.list.is_empty() {
            return;
        }
        let routed = Routed {
            origin: None,
            message,
            qos,
            retain: true,
            is_timed: false,
            more_ids: Vec::new(),
        };
        self.dispatch(routed, Outcome::default(), None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One reading of all topics, `seconds` after the clock's origin.
    fn check(sys: &mut Sys, seconds: u64, all: &Statistics, expected: &[(&str, &str)]) {
        let topics = sys.update(Monotonic::from_millis(seconds * 1_000), all);
        for (name, value) in expected {
            let found = topics.iter().find(|(topic, _)| topic == name);
            let found = found.map(|(_, found)| found.as_str());
            assert_eq!(found, Some(*value), "{name} after {seconds} s");
        }
    }

    #[test]
    fn loads_are_averages_per_minute_that_fade() {
        let mut sys = Sys::new(Duration::from_secs(10));
        let mut all = Statistics::default();
        check(&mut sys, 5, &all, &[("uptime", "0 seconds")]);
        all.traffic.packets_received = 600;
        let name = "load/messages/received/";
        let (one, five) = (&format!("{name}1min"), &format!("{name}5min"));
        check(
            &mut sys,
            65,
            &all,
            &[
                ("uptime", "60 seconds"),
                // 600 · (1 − 1/e) and 600 · (1 − e^−0.2)
                (one, "379.27"),
                (five, "108.76"),
                ("messages/received", "600"),
            ],
        );
        check(&mut sys, 125, &all, &[(one, "139.53"), (five, "89.05")]);
    }

    #[test]
    fn every_name_is_a_topic_and_stands_once() {
        let topics = Sys::new(Duration::ZERO).update(Monotonic::ZERO, &Statistics::default());
        let mut names: Vec<&str> = topics.iter().map(|(name, _)| name.as_str()).collect();
        assert!(names.iter().all(|name| TopicNameRef::new(name).is_ok()));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), topics.len());
    }
}
