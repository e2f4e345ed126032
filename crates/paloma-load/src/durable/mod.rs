//! What it costs a broker to keep what it acknowledges, beside what the same disk does alone in the same run.

mod beside;
mod disk;
pub mod large;
pub mod scale;
mod server;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::engine::{self, Load, Outcome};
use crate::error::LoadError;
use crate::packet::{Qos, Version};
use crate::plan::Shape;
use crate::setup;
use disk::Commits;
use server::{Keeper, Server};

/// The payload of the goals.
const PAYLOAD_BYTES: usize = 200;

/// The one topic of all publishers; its length is part of the record that the disk gets when it is alone.
const TOPIC: &str = "load/fan-in";

/// What to measure, and how thoroughly.
#[derive(Clone, Debug)]
pub struct Durable {
    /// A `paloma` binary.
    pub paloma: PathBuf,
    /// A `mosquitto` binary.
    pub mosquitto: Option<PathBuf>,
    /// A directory on the disk that counts.
    pub directory: PathBuf,
    /// Runs of each case, of which the median counts.
    pub rounds: u32,
    /// Measured span of each run.
    pub duration: Duration,
    /// Only cases whose name contains this.
    pub only: Option<String>,
}

/// So many publishers of QoS 1, each with so many messages under way, to one subscriber with a session that lasts.
#[derive(Clone, Copy, Debug)]
struct Case {
    publishers: u32,
    window: u32,
    /// Whether the subscriber is there; otherwise all is queued.
    is_online: bool,
}

/// One run of a case.
#[derive(Debug)]
struct Run {
    outcome: Outcome,
    /// Bytes written to the disk for each message.
    bytes_each: f64,
    /// Of a broker that says so.
    committed: Option<Committed>,
}

/// What a broker says of its commits.
#[derive(Clone, Copy, Debug)]
struct Committed {
    count: f64,
    seconds: f64,
}

/// One rotation of a case.
#[derive(Debug)]
struct Round {
    paloma: Run,
    /// The disk alone, with one record a sync.
    single: Commits,
    /// The disk alone, with as many records a sync as a commit of paloma had.
    append: Commits,
    /// The engine alone, with as many.
    engine: Commits,
    /// mosquitto by its interval between saves.
    mosquitto: Vec<Run>,
}

/// What mosquitto is told: its default, and the shortest there is.
const AUTOSAVE_SECONDS: [u32; 2] = [1_800, 1];

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for is_online in [true, false] {
        for window in [1, 100] {
            for publishers in [1, 10, 100, 1_000] {
                cases.push(Case {
                    publishers,
                    window,
                    is_online,
                });
            }
        }
    }
    cases
}

impl Case {
    fn name(&self) -> String {
        let subscriber = if self.is_online { "online" } else { "offline" };
        format!("{} × {}, {subscriber}", self.publishers, self.window)
    }
}

/// Runs every case in rotation and gives the tables in markdown. `progress` gets a line per run.
///
/// # Errors
/// If a broker or the disk fails.
pub fn run(durable: &Durable, mut progress: impl FnMut(&str)) -> Result<String, LoadError> {
    let wanted = |case: &Case| {
        let only = durable.only.as_ref();
        only.is_none_or(|only| case.name().contains(only.as_str()))
    };
    let cases: Vec<Case> = cases().into_iter().filter(wanted).collect();
    let mut rows: Vec<(Case, Vec<Round>)> =
        cases.into_iter().map(|case| (case, Vec::new())).collect();
    for _ in 0..durable.rounds.max(1) {
        for (case, rounds) in &mut rows {
            let round = rotation(durable, *case)?;
            progress(&table::line(case, &round));
            rounds.push(round);
        }
    }
    let mut text = String::new();
    if !rows.is_empty() {
        text.push_str(&table::speed(&rows, durable.mosquitto.is_some()));
    }
    let only = durable.only.as_ref();
    if only.is_none_or(|only| beside::NAME.contains(only.as_str())) {
        text.push_str(&beside::run(durable, progress)?);
    }
    Ok(text)
}

fn rotation(durable: &Durable, case: Case) -> Result<Round, LoadError> {
    let paloma = one(durable, case, &durable.keeper(Some("ack")))?;
    let group = paloma.messages_per_commit();
    let span = durable.duration / 2;
    let alone = durable.directory.join("alone");
    fs::create_dir_all(&alone)?;
    let single = disk::append(&alone, 1, span)?;
    let append = disk::append(&alone, group, span)?;
    let engine = disk::engine(&alone, group, case.is_online, span)?;
    fs::remove_dir_all(&alone)?;
    let mut mosquitto = Vec::new();
    for autosave_seconds in AUTOSAVE_SECONDS {
        if let Some(program) = durable.mosquitto.clone() {
            let keeper = Keeper::Mosquitto {
                program,
                autosave_seconds,
            };
            mosquitto.push(one(durable, case, &keeper)?);
        }
    }
    Ok(Round {
        paloma,
        single,
        append,
        engine,
        mosquitto,
    })
}

impl Durable {
    fn keeper(&self, durability: Option<&'static str>) -> Keeper {
        Keeper::Paloma {
            program: self.paloma.clone(),
            durability,
            limits: LIMITS.to_owned(),
        }
    }

    /// A broker over an empty directory.
    fn start(&self, keeper: &Keeper) -> Result<(Server, Scratch), LoadError> {
        let scratch = Scratch::new(&self.directory.join("broker"))?;
        Ok((keeper.start(&scratch.0)?, scratch))
    }
}

/// Raised where a case would meet them: what is compared is work, not refusals.
const LIMITS: &str = "connections_max = 4000\n\
     inflight_max = 1000\n\
     receive_maximum = 1000\n\
     queue_messages_max = 50_000_000\n\
     queue_bytes_max = 4_000_000_000";

/// A directory that goes with its last user.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Scratch {
    fn new(path: &Path) -> Result<Self, LoadError> {
        if path.exists() {
            fs::remove_dir_all(path)?;
        }
        fs::create_dir_all(path)?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _left = fs::remove_dir_all(&self.0);
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of a run are far below 2^53"
)]
fn one(durable: &Durable, case: Case, keeper: &Keeper) -> Result<Run, LoadError> {
    let (server, _scratch) = durable.start(keeper)?;
    if !case.is_online {
        leave_a_session(&server)?;
    }
    let (committed_before, written_before) = (committed(&server)?, server.written_bytes()?);
    let outcome = engine::run(&load(case, &server, durable.duration))?;
    let sent = outcome.sent.max(1) as f64;
    let written = server.written_bytes()?.saturating_sub(written_before);
    let committed = committed(&server)?.zip(committed_before);
    Ok(Run {
        bytes_each: written as f64 / sent,
        committed: committed.map(|(after, before)| Committed {
            count: after.count - before.count,
            seconds: after.seconds - before.seconds,
        }),
        outcome,
    })
}

fn committed(server: &Server) -> Result<Option<Committed>, LoadError> {
    if !server.has_metrics() {
        return Ok(None);
    }
    Ok(Some(Committed {
        count: server.metric("paloma_store_commit_seconds_count")?,
        seconds: server.metric("paloma_store_commit_seconds_sum")?,
    }))
}

/// The one subscriber comes, subscribes and goes; what is published from here on waits for it.
fn leave_a_session(server: &Server) -> Result<(), LoadError> {
    let target = server.target();
    let mut link = setup::connect_as(&target, "s0-0", true)?.link;
    let filters = [TOPIC.to_owned()];
    setup::subscribe(&mut link, Version::V311, &filters, Qos::AtLeastOnce)?;
    setup::leave(&mut link)
}

fn load(case: Case, server: &Server, duration: Duration) -> Load {
    let Case {
        publishers,
        window,
        is_online,
    } = case;
    Load {
        target: server.target(),
        pid: Some(server.pid()),
        shape: if is_online {
            Shape::FanIn { publishers }
        } else {
            Shape::Publishers { publishers }
        },
        topic: TOPIC.to_owned(),
        qos: Qos::AtLeastOnce,
        retain: false,
        payload_bytes: PAYLOAD_BYTES,
        window,
        rate: None,
        messages_max: None,
        keeps_sessions: true,
        warm_up: duration / 4,
        duration,
        threads: 1,
    }
}

impl Run {
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of a run are far below 2^53"
    )]
    fn per_second(&self) -> f64 {
        self.outcome.messages as f64 / self.outcome.span.as_secs_f64().max(1e-9)
    }

    /// Over the whole run, as commits are counted.
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of a run are far below 2^53"
    )]
    fn group(&self) -> Option<f64> {
        let committed = self.committed.filter(|committed| committed.count > 0.0)?;
        Some(self.outcome.sent as f64 / committed.count)
    }

    /// The mean, in milliseconds.
    fn commit_milliseconds(&self) -> Option<f64> {
        let committed = self.committed.filter(|committed| committed.count > 0.0)?;
        Some(committed.seconds / committed.count * 1e3)
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a group is small and never negative"
    )]
    fn messages_per_commit(&self) -> usize {
        self.group().unwrap_or(1.0).round().max(1.0) as usize
    }

    fn commits_per_second(&self) -> Option<f64> {
        Some(self.per_second() / self.group()?)
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of a run are far below 2^53"
    )]
    fn cpu_microseconds(&self) -> Option<f64> {
        let cpu = self.outcome.broker_cpu?;
        Some(cpu.as_secs_f64() * 1e6 / self.outcome.messages.max(1) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_the_product_of_publishers_windows_and_presence() {
        let mut names: Vec<String> = cases().iter().map(Case::name).collect();
        assert_eq!(names.first().map(String::as_str), Some("1 × 1, online"));
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 16);
    }
}
