//! Every scenario against every broker in rotation, and tables of the medians.

use std::fmt::Write;
use std::time::Duration;

use crate::broker::Candidate;
use crate::error::LoadError;
use crate::plot;
use crate::probe;
use crate::report::Report;
use crate::scenario::{SCENARIOS, Scenario, extent};

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
    /// Whether scenarios of a million things, each of which is run once, are left out.
    pub spares_large: bool,
}

/// The runs of one scenario: for each candidate, its reports.
#[derive(Debug)]
pub struct Row {
    /// The scenario's name.
    pub name: &'static str,
    /// The series it is a step of.
    pub series: Option<&'static str>,
    /// One list per candidate, in order; empty where it cannot take part or failed.
    pub reports: Vec<Vec<Report>>,
}

/// Runs everything. `progress` gets a line per run.
///
/// A broker that fails in a scenario has an empty cell there; its error is a line of the progress.
pub fn run(comparison: &Comparison, mut progress: impl FnMut(&str)) -> Vec<Row> {
    let wanted = |s: &Scenario| {
        comparison.only.as_ref().is_none_or(|o| s.name.contains(o))
            && !(comparison.spares_large && s.is_large())
    };
    let mut rows = Vec::new();
    for scenario in SCENARIOS.iter().filter(|scenario| wanted(scenario)) {
        let mut row = Row {
            name: scenario.name,
            series: scenario.series,
            reports: Vec::new(),
        };
        row.reports
            .resize_with(comparison.candidates.len(), Vec::new);
        let rounds = if scenario.is_large() {
            1
        } else {
            comparison.rounds
        };
        for _ in 0..rounds {
            for (candidate, reports) in comparison.candidates.iter().zip(&mut row.reports) {
                if scenario.needs_broker() && !candidate.is_broker() {
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
    if let Some(growth) = &report.outcome.memory
        && growth.count >= HELD_MIN
    {
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
    scenario: &Scenario,
) -> Result<Report, LoadError> {
    let cores = probe::cores();
    let broker = match cores.as_slice() {
        [first, second, ..] if comparison.is_pinned => {
            probe::bind_to(&[*first]);
            let broker = candidate.start(scenario.version());
            probe::bind_to(&[*second]);
            broker
        }
        _ => candidate.start(scenario.version()),
    };
    let result = broker.and_then(|broker| scenario.measure(&broker, comparison.duration));
    probe::bind_to(&cores);
    result
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
    growth(&mut text, comparison, rows);
    text
}

/// The broker's CPU for each message, as bars on a logarithmic scale.
#[must_use]
pub fn plot(comparison: &Comparison, rows: &[Row]) -> String {
    let bars: Vec<_> = rows
        .iter()
        .map(|row| (row.name, row.medians(Report::broker_microseconds)))
        .filter(|(_, medians)| medians.iter().any(Option::is_some))
        .collect();
    plot::draw("Broker CPU, µs each", &comparison.names(), &bars)
}

/// By how much the cost of a message grows from the first step of each series to the last.
fn growth(text: &mut String, comparison: &Comparison, rows: &[Row]) {
    let mut series: Vec<&str> = rows.iter().filter_map(|row| row.series).collect();
    series.dedup();
    let mut lines = String::new();
    for series in series {
        let mut steps = rows.iter().filter(|row| row.series == Some(series));
        let (Some(first), Some(last)) = (steps.next(), steps.next_back()) else {
            continue;
        };
        let (from, to) = (extent(series, first.name), extent(series, last.name));
        let _infallible = write!(lines, "| {series}, {from} to {to} |");
        let first = first.medians(Report::broker_microseconds);
        let last = last.medians(Report::broker_microseconds);
        for (first, last) in first.into_iter().zip(last) {
            let cell = first.zip(last).map(|(first, last)| last / first);
            let cell = cell.map_or("–".to_owned(), |ratio| format!("{ratio:.2}"));
            let _infallible = write!(lines, " {cell} |");
        }
        lines.push('\n');
    }
    if !lines.is_empty() {
        let names = comparison.names();
        let (head, rule) = (names.join(" | "), "---|".repeat(names.len() + 1));
        let title = "Growth of broker CPU each, last step ÷ first";
        let _infallible = write!(
            text,
            "\n**{title}**\n\n| series | {head} |\n|{rule}\n{lines}"
        );
    }
}

impl Comparison {
    fn names(&self) -> Vec<&str> {
        self.candidates.iter().map(|c| c.name.as_str()).collect()
    }
}

impl Row {
    fn medians(&self, figure: Figure) -> Vec<Option<f64>> {
        let reports = self.reports.iter();
        reports
            .map(|r| median(r.iter().filter_map(figure).collect()))
            .collect()
    }
}

fn latency_microseconds(report: &Report, quantile: f64) -> Option<f64> {
    report
        .latency(quantile)
        .map(|latency| latency.as_secs_f64() * 1e6)
}

/// Fewer things than this do not show in a broker's memory.
const HELD_MIN: u64 = 10_000;

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
    let names = comparison.names();
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
        let medians = row.medians(figure);
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
pub(crate) fn number(value: f64) -> String {
    match value {
        v if v < 10.0 => format!("{v:.2}"),
        v if v < 100.0 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

/// The middle one, or the mean of the middle two.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
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
    fn numbers_keep_three_digits() {
        assert_eq!(
            [0.1234, 12.34, 1234.5].map(number),
            ["0.12", "12.3", "1234"]
        );
    }
}
