//! The scenarios of the comparison, each a row of its tables.

use std::time::Duration;

use crate::broker::RunningBroker;
use crate::crowd::{self, Crowd, Leaves};
use crate::engine::{self, Load, Outcome};
use crate::error::LoadError;
use crate::packet::Qos::{self, AtLeastOnce, AtMostOnce, ExactlyOnce};
use crate::packet::Version::{self, V5, V311};
use crate::plan::Shape;
use crate::report::Report;
use crate::retained;
use crate::target::Target;

/// One row of the comparison.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name in the tables.
    pub name: &'static str,
    /// The series it is a step of: what its cost should not grow with.
    pub series: Option<&'static str>,
    work: Work,
}

#[derive(Clone, Copy, Debug)]
enum Work {
    Flow(Flow),
    Store {
        topics: u32,
    },
    Replay {
        topics: u32,
    },
    Connect {
        connections: u32,
    },
    Idle {
        connections: u32,
    },
    /// A flow beside sessions whose clients are away.
    Beside {
        sessions: u32,
        flow: Flow,
    },
}

#[derive(Clone, Copy, Debug)]
struct Flow {
    shape: Shape,
    version: Version,
    qos: Qos,
    payload_bytes: usize,
    window: u32,
    rate: Option<u32>,
}

/// Flows of 64-byte payloads over 3.1.1; other scenarios say how they differ.
const fn flow(shape: Shape, qos: Qos, window: u32) -> Flow {
    Flow {
        shape,
        version: V311,
        qos,
        payload_bytes: 64,
        window,
        rate: None,
    }
}

const FEW: Shape = Shape::Pairs { pairs: 50 };
const MANY: Shape = Shape::Pairs { pairs: 200 };
const FAN_OUT: Shape = Shape::FanOut { subscribers: 1000 };
const FAN_IN: Shape = Shape::FanIn { publishers: 200 };

const fn wildcards(filters: u32) -> Shape {
    Shape::Wildcards {
        filters,
        // As many at each step: with more of them, fewer messages go out in one write, which is another cost.
        subscribers: 50,
        publishers: 10,
    }
}

const fn row(name: &'static str, work: Work) -> Scenario {
    Scenario {
        name,
        series: None,
        work,
    }
}

const fn step(series: &'static str, name: &'static str, work: Work) -> Scenario {
    Scenario {
        name,
        series: Some(series),
        work,
    }
}

const fn connections(pairs: u32) -> Work {
    Work::Flow(flow(Shape::Pairs { pairs }, AtMostOnce, 10))
}

const fn beside(sessions: u32) -> Work {
    Work::Beside {
        sessions,
        flow: flow(FEW, AtMostOnce, 100),
    }
}

// What grows in a series; the names of its steps have how many before it.
const BY_FILTERS: &str = "wildcard filters";
const BY_CONNECTIONS: &str = "connections";
const BY_SESSIONS: &str = "sessions";

/// How many there are in a step of a series, as its name has it; empty if it does not say.
#[must_use]
pub fn extent<'a>(series: &str, step: &'a str) -> &'a str {
    let before = step.split_once(series).map_or("", |(before, _)| before);
    before.trim_end().rsplit(' ').next().unwrap_or_default()
}

/// All scenarios, in the order of the tables.
pub const SCENARIOS: &[Scenario] = &[
    row(
        "50 pairs, 64 B, QoS 0, window 100, 3.1.1",
        Work::Flow(flow(FEW, AtMostOnce, 100)),
    ),
    row(
        "50 pairs, 64 B, QoS 0, window 100, 5.0",
        Work::Flow(Flow {
            version: V5,
            ..flow(FEW, AtMostOnce, 100)
        }),
    ),
    row(
        "50 pairs, 64 B, QoS 1, window 100",
        Work::Flow(flow(FEW, AtLeastOnce, 100)),
    ),
    row(
        "50 pairs, 64 B, QoS 2, window 20",
        Work::Flow(flow(FEW, ExactlyOnce, 20)),
    ),
    row(
        "50 pairs, 4 KiB, QoS 0, window 20",
        Work::Flow(Flow {
            payload_bytes: 4096,
            ..flow(FEW, AtMostOnce, 20)
        }),
    ),
    row(
        "200 pairs, 64 B, QoS 0, window 1",
        Work::Flow(flow(MANY, AtMostOnce, 1)),
    ),
    row(
        "200 pairs, 64 B, QoS 1, window 1",
        Work::Flow(flow(MANY, AtLeastOnce, 1)),
    ),
    row(
        "fan-out 1 to 1,000, QoS 0, window 4",
        Work::Flow(flow(FAN_OUT, AtMostOnce, 4)),
    ),
    row(
        "fan-out 1 to 1,000, QoS 1, window 4",
        Work::Flow(flow(FAN_OUT, AtLeastOnce, 4)),
    ),
    row(
        "fan-in 200 to 1, QoS 0, window 1",
        Work::Flow(flow(FAN_IN, AtMostOnce, 1)),
    ),
    step(
        BY_FILTERS,
        "10,000 wildcard filters, 3 matches, window 20",
        Work::Flow(flow(wildcards(10_000), AtMostOnce, 20)),
    ),
    step(
        BY_FILTERS,
        "100,000 wildcard filters, 3 matches, window 20",
        Work::Flow(flow(wildcards(100_000), AtMostOnce, 20)),
    ),
    step(
        BY_FILTERS,
        "1,000,000 wildcard filters, 3 matches, window 20",
        Work::Flow(flow(wildcards(1_000_000), AtMostOnce, 20)),
    ),
    row(
        "open loop, 50 pairs, 20,000 messages/s",
        Work::Flow(Flow {
            rate: Some(20_000),
            ..flow(FEW, AtMostOnce, 100)
        }),
    ),
    row(
        "100,000 retained: store, QoS 1",
        Work::Store { topics: 100_000 },
    ),
    row(
        "100,000 retained: replay, QoS 0",
        Work::Replay { topics: 100_000 },
    ),
    row(
        "connect 10,000",
        Work::Connect {
            connections: 10_000,
        },
    ),
    row(
        "idle 10,000",
        Work::Idle {
            connections: 10_000,
        },
    ),
    step(
        BY_CONNECTIONS,
        "10 connections, QoS 0, window 10",
        connections(5),
    ),
    step(
        BY_CONNECTIONS,
        "100 connections, QoS 0, window 10",
        connections(50),
    ),
    step(
        BY_CONNECTIONS,
        "1,000 connections, QoS 0, window 10",
        connections(500),
    ),
    step(
        BY_CONNECTIONS,
        "10,000 connections, QoS 0, window 10",
        connections(5_000),
    ),
    step(BY_SESSIONS, "50 pairs beside 100 sessions", beside(100)),
    step(
        BY_SESSIONS,
        "50 pairs beside 10,000 sessions",
        beside(10_000),
    ),
    step(
        BY_SESSIONS,
        "50 pairs beside 1,000,000 sessions",
        beside(1_000_000),
    ),
];

impl Scenario {
    /// Whether it needs wildcards or retained messages, which the reference server has not.
    #[must_use]
    pub const fn needs_broker(&self) -> bool {
        match self.work {
            Work::Flow(flow) => matches!(flow.shape, Shape::Wildcards { .. }),
            Work::Store { .. } | Work::Replay { .. } | Work::Beside { .. } => true,
            Work::Connect { .. } | Work::Idle { .. } => false,
        }
    }

    /// Whether it prepares a million of something, which takes far longer than the measurement.
    #[must_use]
    pub const fn is_large(&self) -> bool {
        match self.work {
            Work::Flow(Flow {
                shape: Shape::Wildcards { filters: held, .. },
                ..
            })
            | Work::Beside { sessions: held, .. } => held >= 1_000_000,
            Work::Flow(_)
            | Work::Store { .. }
            | Work::Replay { .. }
            | Work::Connect { .. }
            | Work::Idle { .. } => false,
        }
    }

    /// The protocol it needs a listener for.
    pub(crate) const fn version(&self) -> Version {
        match self.work {
            Work::Flow(flow) | Work::Beside { flow, .. } => flow.version,
            Work::Store { .. } | Work::Replay { .. } | Work::Connect { .. } | Work::Idle { .. } => {
                V311
            }
        }
    }

    /// Runs it once for `duration`, where its length is a choice.
    ///
    /// # Errors
    /// If the broker refuses something, closes a connection or stops answering.
    pub fn measure(&self, broker: &RunningBroker, duration: Duration) -> Result<Report, LoadError> {
        let (unit, held) = match self.work {
            Work::Flow(_) => ("message", "subscription"),
            Work::Store { .. } | Work::Replay { .. } => ("message", "retained message"),
            Work::Connect { .. } | Work::Idle { .. } => ("connection", "connection"),
            Work::Beside { .. } => ("message", "session"),
        };
        let outcome = match self.work {
            Work::Flow(flow) => engine::run(&flow.load(broker, duration))?,
            Work::Store { topics } => retained::store(&store(topics).load(broker, duration))?,
            Work::Replay { topics } => {
                retained::store(&store(topics).load(broker, duration))?;
                retained::replay(&store(topics).load(broker, duration))?
            }
            Work::Connect { connections } => {
                crowd::open(&crowd(broker, connections, Duration::ZERO))?
            }
            Work::Idle { connections } => {
                crowd::open(&crowd(broker, connections, Duration::from_secs(2)))?
            }
            Work::Beside { sessions, flow } => {
                let left = crowd::open(&Crowd {
                    leaves: Leaves::Session,
                    ..crowd(broker, sessions, Duration::from_secs(1))
                })?;
                Outcome {
                    memory: left.memory,
                    ..engine::run(&flow.load(broker, duration))?
                }
            }
        };
        Ok(Report {
            scenario: self.name.to_owned(),
            unit,
            held,
            outcome,
        })
    }
}

const fn store(topics: u32) -> Flow {
    flow(
        Shape::Store {
            topics,
            publishers: 10,
        },
        AtLeastOnce,
        100,
    )
}

impl Flow {
    fn load(self, broker: &RunningBroker, duration: Duration) -> Load {
        Load {
            target: Target::new(broker.address(), self.version),
            pid: Some(broker.pid()),
            shape: self.shape,
            topic: String::new(),
            qos: self.qos,
            retain: false,
            payload_bytes: self.payload_bytes,
            window: self.window,
            rate: self.rate,
            messages_max: None,
            keeps_sessions: false,
            warm_up: duration / 4,
            duration,
            threads: 1,
        }
    }
}

fn crowd(broker: &RunningBroker, connections: u32, settle: Duration) -> Crowd {
    Crowd {
        target: Target::new(broker.address(), V311),
        pid: Some(broker.pid()),
        connections,
        concurrency: 100,
        rate: None,
        leaves: Leaves::Connection,
        settle,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_fit_a_table() {
        let mut names: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SCENARIOS.len());
        assert!(names.iter().all(|name| !name.contains('|')));
    }

    #[test]
    fn a_series_has_more_than_one_step_and_keeps_together() {
        let mut seen: Vec<&str> = Vec::new();
        for series in SCENARIOS.iter().filter_map(|scenario| scenario.series) {
            if seen.last() != Some(&series) {
                assert!(!seen.contains(&series), "{series}");
                seen.push(series);
            }
        }
        for series in seen {
            let steps = SCENARIOS.iter().filter(|s| s.series == Some(series));
            let counts: Vec<u64> = steps
                .map(|step| extent(series, step.name).replace(',', "").parse().unwrap())
                .collect();
            assert!(counts.len() > 1 && counts.is_sorted(), "{series}");
        }
    }

    #[test]
    fn the_reference_server_is_spared_what_it_cannot_do() {
        let spared: Vec<_> = SCENARIOS.iter().filter(|s| s.needs_broker()).collect();
        assert_eq!(spared.len(), 8);
    }
}
