//! The tables of a durable comparison.

use std::fmt::Write;

use hdrhistogram::Histogram;

use super::{AUTOSAVE_SECONDS, Case, Round, Run};
use crate::compare::{median, number};

/// One rotation in a line, for whoever waits.
pub(super) fn line(case: &Case, round: &Round) -> String {
    let paloma = &round.paloma;
    let mut line = format!(
        "{}: {:.0}/s in groups of {}, PUBACK p50 {:.3} ms, commit {:.3} ms; sync {:.3} ms; engine alone {:.0}/s, {:.3} ms",
        case.name(),
        paloma.per_second(),
        paloma.messages_per_commit(),
        milliseconds(&paloma.outcome.exchange, 0.5),
        paloma.commit_milliseconds().unwrap_or_default(),
        milliseconds(&round.single.latency, 0.5),
        round.engine.messages_per_second,
        round.engine.latency.mean() / 1e6,
    );
    for (run, seconds) in round.mosquitto.iter().zip(AUTOSAVE_SECONDS) {
        let _infallible = write!(line, "; mosquitto/{seconds} s {:.0}/s", run.per_second());
    }
    for run in [paloma].into_iter().chain(&round.mosquitto) {
        let (lost, repeated) = (run.outcome.lost, run.outcome.repeated);
        if lost + repeated > 0 {
            let _infallible = write!(line, ", LOST {lost}, REPEATED {repeated}");
        }
    }
    line
}

type Figure = fn(&Round) -> Option<f64>;

/// Columns that need no mosquitto; figures of one column share its cells.
const COLUMNS: [(&str, &[Figure]); 12] = [
    ("paloma, messages/s", &[|r| Some(r.paloma.per_second())]),
    ("redb alone", &[|r| Some(r.engine.messages_per_second)]),
    (
        "paloma ÷ redb",
        &[|r| Some(r.paloma.per_second() / r.engine.messages_per_second)],
    ),
    (
        "append and fdatasync",
        &[|r| Some(r.append.messages_per_second)],
    ),
    ("commits/s", &[|r| r.paloma.commits_per_second()]),
    ("messages a commit", &[|r| r.paloma.group()]),
    (
        "commit, redb's, ms",
        &[
            |r| r.paloma.commit_milliseconds(),
            |r| Some(r.engine.latency.mean() / 1e6),
        ],
    ),
    (
        "PUBACK p50, p99, p99.9, ms",
        &[
            |r| exchange(&r.paloma, 0.5),
            |r| exchange(&r.paloma, 0.99),
            |r| exchange(&r.paloma, 0.999),
        ],
    ),
    (
        "one sync p50, p99, ms",
        &[
            |r| Some(milliseconds(&r.single.latency, 0.5)),
            |r| Some(milliseconds(&r.single.latency, 0.99)),
        ],
    ),
    (
        "PUBACK ÷ sync",
        &[|r| Some(exchange(&r.paloma, 0.5)? / milliseconds(&r.single.latency, 0.5))],
    ),
    (
        "B written a message, redb's",
        &[|r| Some(r.paloma.bytes_each), |r| Some(r.engine.bytes_each)],
    ),
    ("CPU a message, µs", &[|r| r.paloma.cpu_microseconds()]),
];

type PeerFigure = fn(&Run) -> Option<f64>;

/// Columns of a mosquitto.
const PEER: [(&str, &[PeerFigure]); 3] = [
    ("messages/s", &[|run| Some(run.per_second())]),
    (
        "PUBACK p50, p99, ms",
        &[|run| exchange(run, 0.5), |run| exchange(run, 0.99)],
    ),
    ("B written", &[|run| Some(run.bytes_each)]),
];

/// A row for each case, of medians.
pub(super) fn speed(rows: &[(Case, Vec<Round>)], has_mosquitto: bool) -> String {
    let peers: &[u32] = if has_mosquitto {
        &AUTOSAVE_SECONDS
    } else {
        &[]
    };
    let mut text = String::from("\n| publishers × window, subscriber |");
    for (name, _) in COLUMNS {
        let _infallible = write!(text, " {name} |");
    }
    for seconds in peers {
        for (name, _) in PEER {
            let _infallible = write!(text, " mosquitto/{seconds} s, {name} |");
        }
    }
    let columns = 1 + COLUMNS.len() + peers.len() * PEER.len();
    let _infallible = writeln!(text, "\n|{}", "---|".repeat(columns));
    for (case, rounds) in rows {
        let _infallible = write!(text, "| {} |", case.name());
        for (_, figures) in COLUMNS {
            let medians = figures
                .iter()
                .map(|figure| rounds.iter().filter_map(figure));
            cell(&mut text, medians.map(Iterator::collect));
        }
        for peer in 0..peers.len() {
            let runs = || rounds.iter().filter_map(|round| round.mosquitto.get(peer));
            for (_, figures) in PEER {
                let medians = figures.iter().map(|figure| runs().filter_map(figure));
                cell(&mut text, medians.map(Iterator::collect));
            }
        }
        text.push('\n');
    }
    text
}

/// The medians of some figures.
pub(super) fn cell(text: &mut String, figures: impl Iterator<Item = Vec<f64>>) {
    let figure = |values| match median(values) {
        None => "–".to_owned(),
        Some(value) if value < 0.995 => format!("{value:.3}"),
        Some(value) => number(value),
    };
    let cells: Vec<String> = figures.map(figure).collect();
    let _infallible = write!(text, " {} |", cells.join(", "));
}

fn exchange(run: &Run, quantile: f64) -> Option<f64> {
    let exchange = &run.outcome.exchange;
    (!exchange.is_empty()).then(|| milliseconds(exchange, quantile))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "latencies in nanoseconds are far below 2^53"
)]
pub(super) fn milliseconds(latency: &Histogram<u64>, quantile: f64) -> f64 {
    latency.value_at_quantile(quantile) as f64 / 1e6
}
