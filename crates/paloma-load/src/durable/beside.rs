//! What QoS 0 traffic pays for durable traffic beside it.

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use super::disk;
use super::server::{Keeper, Server};
use super::table::{cell, milliseconds};
use super::{Durable, PAYLOAD_BYTES, TOPIC, leave_a_session};
use crate::engine::{self, Load, Outcome};
use crate::error::LoadError;
use crate::packet::Qos;
use crate::plan::Shape;
use crate::probe;

/// Its name among the cases.
pub(super) const NAME: &str = "QoS 0 beside";

/// Messages a second of either kind: enough to be measured, and too few to fill a core.
const RATE: u32 = 10_000;

/// What runs with QoS 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Company {
    Nothing,
    /// QoS 1 in memory.
    Memory,
    /// The same, and in the load's own process as many records appended and synced: what the disk costs whoever
    /// shares the machine with it.
    MemoryAndDisk,
    /// QoS 1 at a level of durability.
    Stored(&'static str),
}

const COLUMNS: [(&str, Company); 5] = [
    ("alone", Company::Nothing),
    ("beside QoS 1 in memory", Company::Memory),
    (
        "beside QoS 1 in memory and as many records synced by the load itself",
        Company::MemoryAndDisk,
    ),
    ("beside QoS 1 at `os`", Company::Stored("os")),
    ("beside QoS 1 at `ack`", Company::Stored("ack")),
];

/// What one run says of its QoS 0 part.
struct Sample {
    p50: f64,
    p99: f64,
    /// Of all threads but the store's two.
    cpu: f64,
    store_cpu: f64,
    /// How much of the run the host let this machine's cores not run, in per cent.
    stolen: f64,
}

type Thread<'scope, T> = ScopedJoinHandle<'scope, Result<T, LoadError>>;

type Figure = fn(&Sample) -> f64;

/// QoS 0 by the clock, alone and beside as much QoS 1 for a client that is away.
pub(super) fn run(durable: &Durable, mut progress: impl FnMut(&str)) -> Result<String, LoadError> {
    let mut samples: [Vec<Sample>; COLUMNS.len()] = Default::default();
    for _ in 0..durable.rounds.max(1) {
        for ((name, company), samples) in COLUMNS.into_iter().zip(&mut samples) {
            let sample = once(durable, company)?;
            progress(&format!(
                "QoS 0 {name}: p50 {:.3} ms, p99 {:.3} ms, {:.2} µs, store {:.2} µs, stolen {:.2} %",
                sample.p50, sample.p99, sample.cpu, sample.store_cpu, sample.stolen
            ));
            samples.push(sample);
        }
    }
    let mut text = format!("\n| QoS 0, {RATE} messages/s |");
    for (name, _) in COLUMNS {
        let _infallible = write!(text, " {name} |");
    }
    let _infallible = writeln!(text, "\n|{}", "---|".repeat(1 + COLUMNS.len()));
    let figures: [(&str, Figure); 5] = [
        ("latency p50, ms", |sample| sample.p50),
        ("latency p99, ms", |sample| sample.p99),
        (
            "CPU without the store's threads, µs a message of either kind",
            |sample| sample.cpu,
        ),
        (
            "CPU of the store's threads, µs a message of QoS 1",
            |sample| sample.store_cpu,
        ),
        ("time that the host took from the machine, %", |sample| {
            sample.stolen
        }),
    ];
    for (name, figure) in figures {
        let _infallible = write!(text, "| {name} |");
        for samples in &samples {
            let values = samples.iter().map(figure).collect();
            cell(&mut text, [values].into_iter());
        }
        text.push('\n');
    }
    Ok(text)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of a run are far below 2^53"
)]
fn once(durable: &Durable, company: Company) -> Result<Sample, LoadError> {
    let level = match company {
        Company::Stored(level) => Some(level),
        Company::Nothing | Company::Memory | Company::MemoryAndDisk => None,
    };
    let keeper: Keeper = durable.keeper(level);
    let (server, _scratch) = durable.start(&keeper)?;
    leave_a_session(&server)?;
    let pid = server.pid();
    let before = (probe::cpu_time(pid)?, store_time(pid)?);
    let (begin, stolen) = (Instant::now(), probe::stolen_time());
    let is_over = AtomicBool::new(false);
    let (plain, kept, synced) = thread::scope(|scope| {
        let durable_load = kept(&server, durable.duration);
        let beside =
            (company != Company::Nothing).then(|| scope.spawn(move || engine::run(&durable_load)));
        let disk = (company == Company::MemoryAndDisk)
            .then(|| scope.spawn(|| disk::append_in_time(&durable.directory, RATE, &is_over)));
        let plain = engine::run(&plain(&server, durable.duration));
        is_over.store(true, Ordering::Relaxed);
        (plain, joined(beside), joined(disk))
    });
    synced?;
    let (plain, kept): (Outcome, Option<Outcome>) = (plain?, kept?);
    let stolen = probe::stolen_time().saturating_sub(stolen).as_secs_f64();
    let cores = probe::cores().len().max(1) as f64;
    let stolen = 100.0 * stolen / cores / begin.elapsed().as_secs_f64();
    let (all, store) = (probe::cpu_time(pid)?, store_time(pid)?);
    let stored = store.saturating_sub(before.1);
    let rest = all.saturating_sub(before.0).saturating_sub(stored);
    let kept_sent = kept.map_or(0, |kept| kept.sent);
    let each = |time: Duration, count: u64| time.as_secs_f64() * 1e6 / count.max(1) as f64;
    Ok(Sample {
        p50: milliseconds(&plain.latency, 0.5),
        p99: milliseconds(&plain.latency, 0.99),
        cpu: each(rest, plain.sent + kept_sent),
        store_cpu: each(stored, kept_sent),
        stolen,
    })
}

fn joined<T>(thread: Option<Thread<'_, T>>) -> Result<Option<T>, LoadError> {
    let panicked = || Err(LoadError::Scenario("a thread of the load panicked"));
    let joined = thread.map(|thread| thread.join().unwrap_or_else(|_| panicked()));
    joined.transpose()
}

/// CPU time of the thread that commits, and of the one that takes over behind it.
fn store_time(pid: u32) -> Result<Duration, LoadError> {
    let commits = probe::thread_cpu_time(pid, "paloma-store")?;
    Ok(commits + probe::thread_cpu_time(pid, "paloma-takeover")?)
}

fn plain(server: &Server, duration: Duration) -> Load {
    let mut target = server.target();
    // Not the session that was left.
    "plain".clone_into(&mut target.id_prefix);
    Load {
        target,
        pid: None,
        shape: Shape::Pairs { pairs: 50 },
        topic: String::new(),
        qos: Qos::AtMostOnce,
        retain: false,
        payload_bytes: PAYLOAD_BYTES,
        window: 100,
        rate: Some(RATE),
        messages_max: None,
        keeps_sessions: false,
        warm_up: duration / 4,
        duration,
        threads: 1,
    }
}

fn kept(server: &Server, duration: Duration) -> Load {
    let mut load = plain(server, duration);
    load.target.id_prefix = "kept".to_owned();
    load.shape = Shape::Publishers { publishers: 100 };
    load.topic = TOPIC.to_owned();
    load.qos = Qos::AtLeastOnce;
    load
}
