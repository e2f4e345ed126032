//! Every scenario against every broker in rotation, and tables of the medians.

use std::fmt::Write;
use std::time::Duration;

use crate::broker::{Candidate, RunningBroker};
use crate::crowd::{self, Crowd};
use crate::engine::{self, Load, Outcome};
use crate::error::LoadError;
use crate::packet::{Qos, Version};
use crate::plan::Shape;
use crate::report::Report;
use crate::{probe, retained};

/// What to compare, and how thoroughly.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Brokers in the order of their columns; ratios are those of the last one.
    pub candidates: Vec<Candidate>,
    /// Runs of each scenario against each broker, of which the median counts.
    pub rounds: u32,
    /// Measured span of each run.
    pub duration: Duration,
    /// Whether broker and load get a core each.
    pub is_pinned: bool,
    /// Only scenarios whose name contains this.
    pub only: Option<String>,
}

/// One row of the comparison.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name in the tables.
    pub name: &'static str,
    work: Work,
    /// Needs wildcards or retained messages, which the reference server has not.
    needs_broker: bool,
}

#[derive(Clone, Copy, Debug)]
enum Work {
    Flow {
        shape: Shape,
        version: Version,
        qos: Qos,
        payload: usize,
        window: u32,
        rate: u32,
    },
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
}

/// All scenarios, in the order of the tables.
#[must_use]
pub fn scenarios() -> Vec<Scenario> {
    use Qos::{AtLeastOnce, AtMostOnce, ExactlyOnce};
    use Version::{V5, V311};
    let flow = |name, shape, version, qos, payload, window| Scenario {
        name,
        work: Work::Flow {
            shape,
            version,
            qos,
            payload,
            window,
            rate: 0,
        },
        needs_broker: matches!(shape, Shape::Wildcards { .. }),
    };
    let other = |name, work, needs_broker| Scenario {
        name,
        work,
        needs_broker,
    };
    let few = Shape::Pairs { pairs: 50 };
    let many = Shape::Pairs { pairs: 200 };
    let fan_out = Shape::FanOut { subscribers: 1000 };
    let fan_in = Shape::FanIn { publishers: 200 };
    let wildcards = |filters| Shape::Wildcards {
        filters,
        subscribers: 50,
        publishers: 10,
    };
    let open_loop = Work::Flow {
        shape: few,
        version: V311,
        qos: AtMostOnce,
        payload: 64,
        window: 1,
        rate: 20_000,
    };
    vec![
        flow(
            "50 pairs, 64 B, QoS 0, window 100, 3.1.1",
            few,
            V311,
            AtMostOnce,
            64,
            100,
        ),
        flow(
            "50 pairs, 64 B, QoS 0, window 100, 5.0",
            few,
            V5,
            AtMostOnce,
            64,
            100,
        ),
        flow(
            "50 pairs, 64 B, QoS 1, window 100",
            few,
            V311,
            AtLeastOnce,
            64,
            100,
        ),
        flow(
            "50 pairs, 64 B, QoS 2, window 20",
            few,
            V311,
            ExactlyOnce,
            64,
            20,
        ),
        flow(
            "50 pairs, 4 KiB, QoS 0, window 20",
            few,
            V311,
            AtMostOnce,
            4096,
            20,
        ),
        flow(
            "200 pairs, 64 B, QoS 0, window 1",
            many,
            V311,
            AtMostOnce,
            64,
            1,
        ),
        flow(
            "200 pairs, 64 B, QoS 1, window 1",
            many,
            V311,
            AtLeastOnce,
            64,
            1,
        ),
        flow(
            "fan-out 1 to 1,000, QoS 0, window 4",
            fan_out,
            V311,
            AtMostOnce,
            64,
            4,
        ),
        flow(
            "fan-out 1 to 1,000, QoS 1, window 4",
            fan_out,
            V311,
            AtLeastOnce,
            64,
            4,
        ),
        flow(
            "fan-in 200 to 1, QoS 0, window 1",
            fan_in,
            V311,
            AtMostOnce,
            64,
            1,
        ),
        flow(
            "10,000 wildcard filters, 3 matches",
            wildcards(10_000),
            V311,
            AtMostOnce,
            64,
            20,
        ),
        flow(
            "100,000 wildcard filters, 3 matches",
            wildcards(100_000),
            V311,
            AtMostOnce,
            64,
            20,
        ),
        other("open loop, 50 pairs, 20,000 messages/s", open_loop, false),
        other(
            "100,000 retained: store, QoS 1",
            Work::Store { topics: 100_000 },
            true,
        ),
        other(
            "100,000 retained: replay, QoS 0",
            Work::Replay { topics: 100_000 },
            true,
        ),
        other(
            "connect 10,000",
            Work::Connect {
                connections: 10_000,
            },
            false,
        ),
        other(
            "idle 10,000",
            Work::Idle {
                connections: 10_000,
            },
            false,
        ),
    ]
}

/// The runs of one scenario: for each candidate, its reports.
#[derive(Debug)]
pub struct Row {
    /// The scenario's name.
    pub name: &'static str,
    /// One list per candidate, in order; empty where it cannot take part or failed.
    pub reports: Vec<Vec<Report>>,
}

/// Runs everything. `progress` gets a line per run.
///
/// A broker that fails in a scenario has an empty cell there; its error is a line of the progress.
pub fn run(comparison: &Comparison, mut progress: impl FnMut(&str)) -> Vec<Row> {
    let wanted = |s: &Scenario| comparison.only.as_ref().is_none_or(|o| s.name.contains(o));
    let mut rows = Vec::new();
    for scenario in scenarios().into_iter().filter(wanted) {
        let mut row = Row {
            name: scenario.name,
            reports: Vec::new(),
        };
        row.reports
            .resize_with(comparison.candidates.len(), Vec::new);
        for _ in 0..comparison.rounds {
            for (candidate, reports) in comparison.candidates.iter().zip(&mut row.reports) {
                if scenario.needs_broker && !candidate.is_broker() {
                    continue;
                }
                let line = match run_once(comparison, candidate, scenario) {
                    Ok(report) => {
                        let line = summary(&report);
                        reports.push(report);
                        line
                    }
                    Err(error) => format!("failed: {error}"),
                };
                progress(&format!("{} · {} · {line}", scenario.name, candidate.name));
            }
        }
        rows.push(row);
    }
    rows
}

fn summary(report: &Report) -> String {
    let cost = report.broker_microseconds().unwrap_or(0.0);
    let mut line = format!("{cost:.3} µs each, {:.0}/s", report.per_second());
    if let Some(latency) = report.latency(0.99) {
        let _infallible = write!(line, ", p99 {:.0} µs", latency.as_secs_f64() * 1e6);
    }
    if let Some(growth) = &report.outcome.memory {
        let _infallible = write!(line, ", {} B a {}", growth.each(), report.held);
    }
    if report.outcome.lost + report.outcome.repeated > 0 {
        let (lost, repeated) = (report.outcome.lost, report.outcome.repeated);
        let _infallible = write!(line, ", LOST {lost}, REPEATED {repeated}");
    }
    if report.is_own_bottleneck() {
        line.push_str(", load is the bottleneck");
    }
    line
}

fn run_once(
    comparison: &Comparison,
    candidate: &Candidate,
    scenario: Scenario,
) -> Result<Report, LoadError> {
    let cores = probe::cores();
    let broker = match cores.as_slice() {
        [first, second, ..] if comparison.is_pinned => {
            probe::bind_to(&[*first]);
            let broker = candidate.start();
            probe::bind_to(&[*second]);
            broker
        }
        _ => candidate.start(),
    };
    let result = broker.and_then(|broker| measure(comparison, scenario, &broker));
    probe::bind_to(&cores);
    result
}

fn measure(
    comparison: &Comparison,
    scenario: Scenario,
    broker: &RunningBroker,
) -> Result<Report, LoadError> {
    let load = |shape, version, qos, payload_bytes, window, rate: u32| Load {
        address: broker.address(),
        pid: Some(broker.pid()),
        shape,
        version,
        qos,
        retain: false,
        payload_bytes,
        window,
        rate: (rate > 0).then_some(rate),
        messages_max: None,
        warm_up: comparison.duration / 4,
        duration: comparison.duration,
        threads: 1,
    };
    let store = |topics| {
        let shape = Shape::Store {
            topics,
            publishers: 10,
        };
        load(shape, Version::V311, Qos::AtLeastOnce, 64, 100, 0)
    };
    let crowd = |connections, settle| Crowd {
        address: broker.address(),
        pid: Some(broker.pid()),
        version: Version::V311,
        connections,
        concurrency: 100,
        settle,
    };
    let (unit, held, outcome): (_, _, Outcome) = match scenario.work {
        Work::Flow {
            shape,
            version,
            qos,
            payload,
            window,
            rate,
        } => {
            let load = load(shape, version, qos, payload, window, rate);
            ("message", "subscription", engine::run(&load)?)
        }
        Work::Store { topics } => (
            "message",
            "retained message",
            retained::store(&store(topics))?,
        ),
        Work::Replay { topics } => {
            retained::store(&store(topics))?;
            (
                "message",
                "retained message",
                retained::replay(&store(topics))?,
            )
        }
        Work::Connect { connections } => (
            "connection",
            "connection",
            crowd::open(&crowd(connections, Duration::ZERO))?,
        ),
        Work::Idle { connections } => (
            "connection",
            "connection",
            crowd::open(&crowd(connections, Duration::from_secs(2)))?,
        ),
    };
    Ok(Report {
        scenario: scenario.name.to_owned(),
        unit,
        held,
        outcome,
    })
}

/// A figure of a report; `None` where it was not measured.
type Figure = fn(&Report) -> Option<f64>;

/// The tables in markdown: CPU, rate, latency and memory, each with the last candidate's ratio to the others.
#[must_use]
pub fn tables(comparison: &Comparison, rows: &[Row]) -> String {
    let mut text = String::new();
    let figures: [(&str, Figure); 6] = [
        ("Broker CPU, µs each", Report::broker_microseconds),
        ("Rate, each second", |report| Some(report.per_second())),
        ("Latency p50, µs", |report| {
            latency_microseconds(report, 0.5)
        }),
        ("Latency p99, µs", |report| {
            latency_microseconds(report, 0.99)
        }),
        ("Latency p99.9, µs", |report| {
            latency_microseconds(report, 0.999)
        }),
        ("Broker memory, bytes each", bytes_each),
    ];
    for (title, figure) in figures {
        let _infallible = writeln!(text, "\n**{title}**\n");
        table(&mut text, comparison, rows, figure);
    }
    text
}

fn latency_microseconds(report: &Report, quantile: f64) -> Option<f64> {
    report
        .latency(quantile)
        .map(|latency| latency.as_secs_f64() * 1e6)
}

/// Memory grows by something worth dividing by only where many equal things are held.
#[expect(
    clippy::cast_precision_loss,
    reason = "bytes of one connection are far below 2^53"
)]
fn bytes_each(report: &Report) -> Option<f64> {
    let growth = report
        .outcome
        .memory
        .filter(|growth| growth.count >= 10_000)?;
    Some(growth.each() as f64)
}

fn table(text: &mut String, comparison: &Comparison, rows: &[Row], figure: Figure) {
    let names: Vec<&str> = comparison
        .candidates
        .iter()
        .map(|c| c.name.as_str())
        .collect();
    let Some((subject, others)) = names.split_last() else {
        return;
    };
    let mut head = String::from("| scenario |");
    for name in &names {
        let _infallible = write!(head, " {name} |");
    }
    for other in others {
        let _infallible = write!(head, " {subject} ÷ {other} |");
    }
    let columns = 1 + names.len() + others.len();
    let _infallible = writeln!(text, "{head}\n|{}", "---|".repeat(columns));
    for row in rows {
        let medians: Vec<Option<f64>> = row
            .reports
            .iter()
            .map(|r| median(r.iter().filter_map(figure).collect()))
            .collect();
        if medians.iter().all(Option::is_none) {
            continue;
        }
        let mut line = format!("| {} |", row.name);
        for median in &medians {
            let _infallible = write!(line, " {} |", median.map_or("–".to_owned(), number));
        }
        if let Some((subject, others)) = medians.split_last() {
            for other in others {
                let ratio = subject.zip(*other).filter(|(_, other)| *other > 0.0);
                let cell = ratio.map_or("–".to_owned(), |(a, b)| format!("{:.2}", a / b));
                let _infallible = write!(line, " {cell} |");
            }
        }
        let _infallible = writeln!(text, "{line}");
    }
}

/// Three significant digits, or whole numbers.
fn number(value: f64) -> String {
    match value {
        v if v < 10.0 => format!("{v:.2}"),
        v if v < 100.0 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

/// The middle one, or the mean of the middle two.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = values.get(middle).copied()?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    values
        .get(middle - 1)
        .map(|lower| f64::midpoint(*lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_an_even_number_is_between_the_middle_two() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0]), Some(3.0));
        assert_eq!(median(vec![9.0, 1.0, 3.0]), Some(3.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 9.0]), Some(3.0));
    }

    #[test]
    fn scenario_names_are_unique_and_fit_a_table() {
        let mut names: Vec<_> = scenarios().into_iter().map(|s| s.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(names.iter().all(|name| !name.contains('|')));
    }

    #[test]
    fn numbers_keep_three_digits() {
        assert_eq!(
            [0.1234, 12.34, 1234.5].map(number),
            ["0.12", "12.3", "1234"]
        );
    }
}
