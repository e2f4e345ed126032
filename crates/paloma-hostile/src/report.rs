//! What a run says: a line for each actor, the canary's latencies, and a verdict.

use std::fmt::{self, Write};
use std::time::Duration;

use serde_json::{Value, json};

use crate::answer::Tally;
use crate::canary::{Latency, Song, latency};
use crate::run::Turn;

/// Everything that a run has found.
#[derive(Debug)]
pub struct Record {
    /// Where everything random began.
    pub seed: u64,
    /// The broker's memory before anybody attacked.
    pub baseline_bytes: u64,
    /// A row for each actor that had a turn.
    pub rows: Vec<Row>,
    /// What became of the canary's messages.
    pub song: Song,
    /// Whether the broker lived to the end.
    pub alive: bool,
    /// Whether it ended with success when it was asked to.
    pub clean_end: bool,
    quiet: Latency,
}

/// All turns of one actor.
#[derive(Debug)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// Turns it had.
    pub turns: u32,
    /// What it saw.
    pub tally: Tally,
    /// Most memory of the broker during a turn.
    pub peak_bytes: u64,
    /// Most memory of the broker after a turn.
    pub bytes_after: u64,
    /// Turns after which memory did not come back.
    pub not_back: u32,
    /// Time of all turns.
    pub elapsed: Duration,
    /// The broker's CPU time in them.
    cpu_seconds: f64,
    canary: Latency,
}

impl Row {
    /// Cores that the broker kept busy.
    #[must_use]
    pub fn cores(&self) -> f64 {
        self.cpu_seconds / self.elapsed.as_secs_f64().max(1e-6)
    }
}

impl Record {
    pub(crate) fn new(seed: u64, baseline_bytes: u64) -> Self {
        Self {
            seed,
            baseline_bytes,
            rows: Vec::new(),
            song: Song::default(),
            alive: false,
            clean_end: false,
            quiet: latency(),
        }
    }

    pub(crate) fn add_quiet(&mut self, recorded: &Latency) {
        merge(&mut self.quiet, recorded);
    }

    pub(crate) fn add(&mut self, turn: Turn) {
        let place = self.rows.iter().position(|row| row.name == turn.name);
        let place = place.unwrap_or_else(|| {
            self.rows.push(Row {
                name: turn.name,
                turns: 0,
                tally: Tally::default(),
                peak_bytes: 0,
                bytes_after: 0,
                not_back: 0,
                elapsed: Duration::ZERO,
                cpu_seconds: 0.0,
                canary: latency(),
            });
            self.rows.len() - 1
        });
        let row = &mut self.rows[place];
        row.turns += 1;
        row.tally.add(turn.tally);
        row.peak_bytes = row.peak_bytes.max(turn.sample.peak_bytes);
        row.bytes_after = row.bytes_after.max(turn.bytes_after);
        row.not_back += u32::from(!turn.came_back);
        row.elapsed += turn.elapsed;
        row.cpu_seconds += turn.sample.cores * turn.elapsed.as_secs_f64();
        merge(&mut row.canary, &turn.canary);
    }

    /// What must not be, in words; empty is a pass.
    #[must_use]
    pub fn findings(&self) -> Vec<String> {
        let mut findings = Vec::new();
        if !self.alive {
            findings.push("the broker died".to_owned());
        } else if !self.clean_end {
            findings.push("the broker did not end with success".to_owned());
        }
        if !self.song.is_whole() {
            findings.push(format!("the canary: {:?}", self.song));
        }
        for row in &self.rows {
            let (name, unexpected) = (row.name, row.tally.unexpected);
            if unexpected > 0 {
                let told = row.tally.told.join("; ");
                findings.push(format!("{name}: {unexpected} unexpected: {told}"));
            }
            if row.not_back > 0 {
                let (now, before) = (mebibytes(row.bytes_after), mebibytes(self.baseline_bytes));
                findings.push(format!(
                    "{name}: {now:.1} MiB of memory 10 s after, {before:.1} before"
                ));
            }
            if row.tally.attempts == 0 {
                findings.push(format!("{name}: nothing was tried"));
            }
        }
        findings
    }

    /// One JSON object for each actor, and one for the whole.
    #[must_use]
    pub fn json_lines(&self) -> String {
        let mut lines = String::new();
        for row in &self.rows {
            let answers: Value = row
                .tally
                .answers
                .iter()
                .map(|(answer, count)| (answer.to_string(), Value::from(*count)))
                .collect();
            let line = json!({
                "actor": row.name,
                "turns": row.turns,
                "attempts": row.tally.attempts,
                "answers": answers,
                "unexpected": row.tally.unexpected,
                "seconds": row.elapsed.as_secs_f64(),
                "broker_cores": row.cores(),
                "broker_bytes_peak": row.peak_bytes,
                "broker_bytes_after": row.bytes_after,
                "canary_microseconds": microseconds(&row.canary),
                "notes": row.tally.notes,
            });
            // Writing to a string does not fail.
            let _ = writeln!(lines, "{line}");
        }
        let whole = json!({
            "seed": self.seed,
            "broker_bytes_before": self.baseline_bytes,
            "canary_microseconds_quiet": microseconds(&self.quiet),
            "canary_messages": self.song.sent,
            "canary_lost": self.song.lost,
            "broker_alive": self.alive,
            "broker_ended_with_success": self.clean_end,
            "findings": self.findings(),
        });
        let _ = writeln!(lines, "{whole}");
        lines
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quiet = &self.quiet;
        writeln!(
            f,
            "| actor | attempts | canary p50 / p99 / p99.9, µs | p99 to quiet | MiB peak / after | broker cores | answers |"
        )?;
        writeln!(f, "|---|---:|---:|---:|---:|---:|---|")?;
        let before = mebibytes(self.baseline_bytes);
        writeln!(
            f,
            "| (quiet) | | {} | 1.0 | {before:.1} | | |",
            quantiles(quiet)
        )?;
        let mut all = latency();
        for row in &self.rows {
            merge(&mut all, &row.canary);
            writeln!(
                f,
                "| {} | {} | {} | {:.1} | {:.1} / {:.1} | {:.2} | {} |",
                row.name,
                row.tally.attempts,
                quantiles(&row.canary),
                ratio(&row.canary, quiet),
                mebibytes(row.peak_bytes),
                mebibytes(row.bytes_after),
                row.cores(),
                answers(&row.tally),
            )?;
        }
        writeln!(
            f,
            "| (all) | | {} | {:.1} | | | |",
            quantiles(&all),
            ratio(&all, quiet)
        )?;
        writeln!(f)?;
        for row in &self.rows {
            for note in &row.tally.notes {
                writeln!(f, "{}: {note}", row.name)?;
            }
        }
        let song = &self.song;
        writeln!(
            f,
            "canary: {} messages, {} lost, {} repeated; seed {}",
            song.sent, song.lost, song.repeated, self.seed
        )?;
        let findings = self.findings();
        for finding in &findings {
            writeln!(f, "finding: {finding}")?;
        }
        match findings.len() {
            0 => f.write_str("verdict: passed"),
            count => write!(f, "verdict: FAILED, {count} finding(s)"),
        }
    }
}

fn answers(tally: &Tally) -> String {
    let mut text: Vec<String> = tally
        .answers
        .iter()
        .map(|(answer, count)| format!("{count} × {answer}"))
        .collect();
    if tally.unexpected > 0 {
        text.push(format!("**{} unexpected**", tally.unexpected));
    }
    text.join(", ")
}

fn merge(sum: &mut Latency, part: &Latency) {
    sum.add(part)
        .expect("histograms of one function have the same bounds");
}

#[expect(
    clippy::cast_precision_loss,
    reason = "latencies are far below 2^53 ns"
)]
fn at(latency: &Latency, quantile: f64) -> f64 {
    latency.value_at_quantile(quantile) as f64 / 1e3
}

#[expect(clippy::cast_precision_loss, reason = "memory is far below 2^53 bytes")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn quantiles(latency: &Latency) -> String {
    let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|quantile| at(latency, quantile));
    format!("{p50:.0} / {p99:.0} / {p999:.0}")
}

fn ratio(latency: &Latency, quiet: &Latency) -> f64 {
    at(latency, 0.99) / at(quiet, 0.99).max(1.0)
}

fn microseconds(latency: &Latency) -> Value {
    json!({ "p50": at(latency, 0.5), "p99": at(latency, 0.99), "p999": at(latency, 0.999) })
}
