//! What a run says: as text for people, as JSON for programs.

use std::fmt::{self, Write};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::engine::Outcome;

/// Above this share of its cores the load itself may be what is slow.
const OWN_SHARE_MAX: f64 = 0.95;

/// Below this share of a core the broker still had something left.
const BROKER_SHARE_BUSY: f64 = 0.9;

/// An outcome with its name.
#[derive(Clone, Debug)]
pub struct Report {
    /// The scenario in words.
    pub scenario: String,
    /// What is counted: `message`, `connection`.
    pub unit: &'static str,
    /// What the broker's memory grew by: `subscription`, `connection`, `retained message`.
    pub held: &'static str,
    /// What was measured.
    pub outcome: Outcome,
}

impl Report {
    /// Microseconds of the broker's CPU for each message or connection.
    #[must_use]
    pub fn broker_microseconds(&self) -> Option<f64> {
        let cpu = self.outcome.broker_cpu?;
        (self.outcome.messages > 0).then(|| cpu.as_secs_f64() * 1e6 / self.count())
    }

    /// Messages or connections a second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        self.count() / self.seconds()
    }

    /// Cores the broker kept busy.
    #[must_use]
    pub fn broker_share(&self) -> Option<f64> {
        self.outcome
            .broker_cpu
            .map(|cpu| cpu.as_secs_f64() / self.seconds())
    }

    /// Share of its own threads' time that the load needed.
    #[must_use]
    pub fn own_share(&self) -> f64 {
        self.outcome.own_cpu.as_secs_f64() / self.seconds() / f64::from(self.outcome.threads)
    }

    /// Whether the load was busy all the time while the broker was not, so that the rate says nothing about the broker.
    #[must_use]
    pub fn is_own_bottleneck(&self) -> bool {
        self.own_share() > OWN_SHARE_MAX
            && self
                .broker_share()
                .is_none_or(|share| share < BROKER_SHARE_BUSY)
    }

    /// Latency at a quantile between 0 and 1, if any was recorded.
    #[must_use]
    pub fn latency(&self, quantile: f64) -> Option<Duration> {
        let latency = &self.outcome.latency;
        (!latency.is_empty()).then(|| Duration::from_nanos(latency.value_at_quantile(quantile)))
    }

    /// One JSON object in one line.
    #[must_use]
    pub fn json(&self) -> String {
        let o = &self.outcome;
        let mut object = Object::default();
        object.text("scenario", &self.scenario);
        object.text("unit", self.unit);
        object.number("span_seconds", self.seconds());
        object.number("count", self.count());
        object.number("per_second", self.per_second());
        object.whole("sent", o.sent);
        object.whole("delivered", o.delivered);
        object.whole("lost", o.lost);
        object.whole("repeated", o.repeated);
        if let (Some(cost), Some(share)) = (self.broker_microseconds(), self.broker_share()) {
            object.number("broker_cpu_microseconds_each", cost);
            object.number("broker_cores", share);
        }
        object.number("own_share", self.own_share());
        object.raw(
            "own_bottleneck",
            if self.is_own_bottleneck() {
                "true"
            } else {
                "false"
            },
        );
        for (name, quantile) in QUANTILES {
            if let Some(latency) = self.latency(quantile) {
                object.number(
                    &format!("latency_{name}_microseconds"),
                    latency.as_secs_f64() * 1e6,
                );
            }
        }
        if let Some(bytes) = o.broker_bytes {
            object.whole("broker_bytes", bytes);
        }
        if let Some(growth) = &o.memory {
            object.text("held", self.held);
            object.whole("held_count", growth.count);
            object.whole("broker_bytes_before", growth.before);
            object.whole("broker_bytes_after", growth.after);
            object.whole("broker_bytes_each", growth.each());
        }
        object.end()
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of a run are far below 2^53"
    )]
    fn count(&self) -> f64 {
        self.outcome.messages as f64
    }

    fn seconds(&self) -> f64 {
        self.outcome.span.as_secs_f64().max(1e-9)
    }
}

const QUANTILES: [(&str, f64); 6] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p99", 0.99),
    ("p99_9", 0.999),
    ("p99_99", 0.9999),
    ("max", 1.0),
];

/// Columns of the longest bar of a histogram.
const BAR_COLUMNS: u64 = 40;

/// The recorded latencies, one line for each doubling: its upper end, how many, and a bar.
fn histogram(f: &mut fmt::Formatter<'_>, latency: &Histogram<u64>) -> fmt::Result {
    let most = latency
        .iter_log(1_000, 2.0)
        .map(|step| step.count_since_last_iteration())
        .max()
        .unwrap_or(0)
        .max(1);
    for step in latency.iter_log(1_000, 2.0) {
        let count = step.count_since_last_iteration();
        if count == 0 {
            continue;
        }
        let end = Duration::from_nanos(step.value_iterated_to() + 1);
        let columns = (count * BAR_COLUMNS).div_ceil(most);
        let bar = "#".repeat(usize::try_from(columns).unwrap_or(0));
        writeln!(f, "  {:>10} {count:>10} {bar}", in_words(end))?;
    }
    Ok(())
}

/// A short form in the unit that fits.
fn in_words(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 1e-3 {
        format!("< {:.0} µs", seconds * 1e6)
    } else if seconds < 1.0 {
        format!("< {:.1} ms", seconds * 1e3)
    } else {
        format!("< {seconds:.1} s")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let o = &self.outcome;
        writeln!(f, "{}", self.scenario)?;
        writeln!(
            f,
            "  {} {}s in {:.2} s: {:.0} a second",
            o.messages,
            self.unit,
            self.seconds(),
            self.per_second()
        )?;
        if let (Some(cost), Some(share)) = (self.broker_microseconds(), self.broker_share()) {
            let unit = self.unit;
            writeln!(
                f,
                "  broker: {cost:.3} µs of CPU a {unit}, {share:.2} cores busy"
            )?;
        }
        if let Some(growth) = o.memory.filter(|growth| growth.each() > 0) {
            let (count, held, each) = (growth.count, self.held, growth.each());
            writeln!(f, "  broker: {each} bytes a {held} ({count} of them)")?;
        }
        writeln!(
            f,
            "  load: {:.0} % of its own time",
            self.own_share() * 100.0
        )?;
        if let Some(bytes) = o.broker_bytes {
            writeln!(f, "  broker: {:.1} MiB of memory", mebibytes(bytes))?;
        }
        for (name, quantile) in QUANTILES {
            if let Some(latency) = self.latency(quantile) {
                let name = name.replace('_', ".");
                writeln!(f, "  latency {name}: {:.1} µs", latency.as_secs_f64() * 1e6)?;
            }
        }
        histogram(f, &o.latency)?;
        if o.lost > 0 || o.repeated > 0 {
            writeln!(
                f,
                "  LOST {} and repeated {} of {} sent",
                o.lost, o.repeated, o.sent
            )?;
        }
        if self.is_own_bottleneck() {
            writeln!(
                f,
                "  NOTE the load was the bottleneck: the rate is no limit of the broker"
            )?;
        }
        Ok(())
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a tenth of a MiB is all that is shown"
)]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// A flat JSON object under construction.
#[derive(Default)]
struct Object {
    text: String,
}

impl Object {
    fn text(&mut self, name: &str, value: &str) {
        let mut quoted = String::from("\"");
        for c in value.chars() {
            match c {
                '"' | '\\' => quoted.extend(['\\', c]),
                c if u32::from(c) < 0x20 => {
                    let _infallible = write!(quoted, "\\u{:04x}", u32::from(c));
                }
                c => quoted.push(c),
            }
        }
        quoted.push('"');
        self.raw(name, &quoted);
    }

    fn number(&mut self, name: &str, value: f64) {
        self.raw(name, &format!("{value:.6}"));
    }

    fn whole(&mut self, name: &str, value: u64) {
        self.raw(name, &value.to_string());
    }

    fn raw(&mut self, name: &str, value: &str) {
        self.text.push(if self.text.is_empty() { '{' } else { ',' });
        let _infallible = write!(self.text, "\"{name}\":{value}");
    }

    fn end(mut self) -> String {
        self.text.push('}');
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Growth;

    fn report(own_cpu: Duration, broker_cpu: Option<Duration>) -> Report {
        let mut latency = Histogram::new(3).expect("three digits are fine");
        for microseconds in 1..=1000 {
            latency.record(microseconds * 1000).expect("resizes itself");
        }
        Report {
            scenario: "a \"quoted\" name".to_owned(),
            unit: "message",
            held: "connection",
            outcome: Outcome {
                span: Duration::from_secs(2),
                messages: 1_000_000,
                sent: 1_000_000,
                delivered: 1_000_000,
                lost: 0,
                repeated: 0,
                broker_cpu,
                broker_bytes: Some(3 << 19),
                own_cpu,
                threads: 1,
                exchange: Histogram::new(3).expect("three digits are fine"),
                latency,
                memory: Some(Growth {
                    before: 1000,
                    after: 21_000,
                    count: 10,
                }),
            },
        }
    }

    #[test]
    fn rates_and_costs_are_per_message() {
        let report = report(Duration::from_secs(1), Some(Duration::from_millis(500)));
        assert_eq!(report.broker_microseconds(), Some(0.5));
        assert!((report.per_second() - 500_000.0).abs() < 1e-6);
        assert!((report.own_share() - 0.5).abs() < 1e-9);
        let p99 = report.latency(0.99).expect("recorded");
        assert!((985_000..=995_000).contains(&p99.as_nanos()), "{p99:?}");
    }

    #[test]
    fn a_busy_load_beside_an_idle_broker_names_itself() {
        let check = |own, broker: Option<u64>, expected| {
            let report = report(
                Duration::from_millis(own),
                broker.map(Duration::from_millis),
            );
            assert_eq!(
                report.is_own_bottleneck(),
                expected,
                "own {own} ms, broker {broker:?}"
            );
        };
        check(1_990, Some(1_000), true);
        check(1_990, None, true);
        check(1_990, Some(1_950), false);
        check(1_000, Some(1_000), false);
    }

    #[test]
    fn text_has_a_bar_for_each_doubling() {
        let text = report(Duration::from_secs(1), None).to_string();
        let bars: Vec<&str> = text.lines().filter(|line| line.ends_with('#')).collect();
        assert_eq!(bars.len(), 10, "{text}");
        let longest = format!("< 512 µs        256 {}", "#".repeat(21));
        assert!(text.contains(&longest), "{text}");
        assert!(text.contains("1.5 MiB of memory"), "{text}");
    }

    #[test]
    fn json_is_one_flat_object() {
        let json = report(Duration::from_secs(1), Some(Duration::from_secs(1))).json();
        assert!(json.starts_with("{\"scenario\":\"a \\\"quoted\\\" name\",\"unit\":\"message\","));
        assert!(json.contains(",\"broker_bytes_each\":2000}"), "{json}");
        assert!(json.contains("\"own_bottleneck\":false"), "{json}");
        assert!(!json.contains('\n'));
    }
}
