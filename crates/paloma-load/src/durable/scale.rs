//! A store with very much in it: how long a start takes and in how much memory, and how a queue larger than memory is drained.

use std::fmt::Write as _;
use std::io::Read;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use super::server::{Keeper, Server};
use super::{Scratch, TOPIC};
use crate::crowd::{self, Crowd, Leaves};
use crate::engine::{self, Load, Mark, Outcome};
use crate::error::LoadError;
use crate::frames::each_frame;
use crate::packet::{self, Qos, Version, ack, first_byte};
use crate::plan::Shape;
use crate::{probe, setup};

/// What to put into the store, and what is asked of it then.
#[derive(Clone, Debug)]
pub struct Scale {
    /// A `paloma` binary.
    pub paloma: PathBuf,
    /// A directory on the disk that counts.
    pub directory: PathBuf,
    /// Queued messages of 200 bytes.
    pub messages: u32,
    /// Sessions that they wait for.
    pub sessions: u32,
    /// Messages of 1,000 bytes that one client drains.
    pub drained: u32,
    /// The most resident memory that the broker may need meanwhile.
    pub memory_bytes_max: u64,
    /// The longest that a start may take.
    pub ready_max: Duration,
}

pub(super) const PUBLISHERS: u32 = 50;

/// Of the messages that are queued for many.
const SMALL: usize = 200;

/// Of those that one client drains.
const LARGE: usize = 1_000;

/// How long a file may take to become short once its last message is gone.
const SHORTEN_PATIENCE: Duration = Duration::from_secs(60);

/// A store of nothing takes no more, its reserve included.
const EMPTY_BYTES_MAX: f64 = 136e6;

/// Fills, kills, starts and drains; the lines that say what came of it, and whether all was as asked.
///
/// # Errors
/// If the broker or the disk fails, or a message is lost.
pub fn run(scale: &Scale, mut progress: impl FnMut(&str)) -> Result<(String, bool), LoadError> {
    let mut report = Report::default();
    starts(scale, &mut report, &mut progress)?;
    drain(scale, &mut report, &mut progress)?;
    Ok((report.text, report.missed == 0))
}

/// A table under construction.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) text: String,
    missed: u32,
}

impl Default for Report {
    fn default() -> Self {
        let text = String::from("| | seen | asked |\n|---|---|---|\n");
        Self { text, missed: 0 }
    }
}

impl Report {
    pub(super) fn row(&mut self, what: &str, seen: &str) {
        let _infallible = writeln!(self.text, "| {what} | {seen} | |");
    }

    /// A row that has to be at most something.
    fn asked(&mut self, what: &str, seen: &str, asked: &str, is_met: bool) {
        let missed = if is_met { "" } else { " **missed**" };
        self.missed += u32::from(!is_met);
        let _infallible = writeln!(self.text, "| {what} | {seen}{missed} | ≤ {asked} |");
    }

    fn start(&mut self, what: &str, server: &Server, scale: &Scale) -> Result<(), LoadError> {
        let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
        let ready = server.ready_after;
        self.asked(
            &format!("first CONNACK {what}"),
            &seconds(ready),
            &seconds(scale.ready_max),
            ready <= scale.ready_max,
        );
        let pid = server.pid();
        let memory = mebibytes(probe::resident_bytes(pid)?);
        let peak = mebibytes(probe::resident_peak_bytes(pid)?);
        self.row("resident memory then", &format!("{memory}, {peak} at most"));
        Ok(())
    }
}

fn starts(
    scale: &Scale,
    report: &mut Report,
    progress: &mut impl FnMut(&str),
) -> Result<(), LoadError> {
    let scratch = Scratch::new(&scale.directory.join("scale"))?;
    let keeper = scale.keeper(Some("ack"));
    let server = keeper.start(&scratch.0)?;
    let begin = Instant::now();
    leave_sessions(&server, scale.sessions)?;
    let per_second = rate(scale.sessions, begin.elapsed());
    report.row(
        "sessions with a subscription each",
        &format!("{}, made at {per_second}", scale.sessions),
    );
    progress("filled sessions");
    let topics = scale.sessions;
    let publishers = PUBLISHERS.min(topics);
    let each = u64::from(scale.messages.div_ceil(publishers));
    let begin = Instant::now();
    let filled = engine::run(&Load {
        shape: Shape::Store { topics, publishers },
        messages_max: Some(each),
        payload_bytes: SMALL,
        ..load(&server)
    })?;
    let sent = whole(&filled)?;
    let per_second = rate(sent, begin.elapsed());
    report.row(
        "messages of 200 B queued for them",
        &format!("{sent}, at {per_second}"),
    );
    report.row("file", &mebibytes_of(&server, "paloma_store_file_bytes")?);
    progress("filled queues");
    server.kill()?;
    let server = keeper.start(&scratch.0)?;
    report.start("after `kill -9`", &server, scale)?;
    expect_entries(&server, sent)?;
    progress("started after a kill");
    let stopped = server.stop()?;
    report.row("clean stop", &format!("{:.2} s", stopped.as_secs_f64()));
    let server = keeper.start(&scratch.0)?;
    report.start("after a clean stop", &server, scale)?;
    expect_entries(&server, sent)?;
    // Whoever comes back first gets what waits for it, whole and in order.
    let waiting = each_queue(sent, topics, publishers);
    let taken = take(&server, "c0", waiting, LARGE)?;
    progress("started after a stop");
    let taken = format!("{waiting} messages in {:.2} s", taken.as_secs_f64());
    report.row("one of the clients comes back", &taken);
    Ok(())
}

/// So many clients come, subscribe to a topic each and go.
pub(super) fn leave_sessions(server: &Server, sessions: u32) -> Result<(), LoadError> {
    crowd::open(&Crowd {
        target: server.target(),
        pid: None,
        connections: sessions,
        concurrency: 500,
        rate: None,
        leaves: Leaves::Subscription,
        settle: Duration::ZERO,
    })?;
    Ok(())
}

/// How many messages wait for the first client: its topic is the first of the first publisher, who goes round.
fn each_queue(sent: u32, topics: u32, publishers: u32) -> u64 {
    let of_publisher = topics.div_ceil(publishers);
    u64::from((sent / publishers).div_ceil(of_publisher))
}

fn drain(
    scale: &Scale,
    report: &mut Report,
    progress: &mut impl FnMut(&str),
) -> Result<(), LoadError> {
    let scratch = Scratch::new(&scale.directory.join("drain"))?;
    let in_memory = scale.keeper(None).start(&scratch.0)?;
    let count = fill(scale, &in_memory)?;
    let reference = take(&in_memory, "s0-0", count, LARGE)?;
    in_memory.kill()?;
    progress("drained a queue in memory");

    let keeper = scale.keeper(Some("ack"));
    let server = keeper.start(&scratch.0)?;
    fill(scale, &server)?;
    let full = server.metric("paloma_store_file_bytes")?;
    server.stop()?;
    let server = keeper.start(&scratch.0)?;
    let of = format!("{} of 1,000 B", count);
    report.row("messages queued for one client", &of);
    report.row("file", &mebibytes_float(full));
    let taken = take(&server, "s0-0", count, LARGE)?;
    progress("drained a queue in the store");
    let seconds = |time: Duration| time.as_secs_f64();
    let text = format!(
        "{}, {:.0} % of what a queue in memory gives",
        rate(u32::try_from(count).unwrap_or(u32::MAX), taken),
        seconds(reference) / seconds(taken) * 100.0
    );
    report.row("drained", &text);
    let peak = probe::resident_peak_bytes(server.pid())?;
    report.asked(
        "resident memory meanwhile, at most",
        &mebibytes(peak),
        &mebibytes(scale.memory_bytes_max),
        peak <= scale.memory_bytes_max,
    );
    let begin = Instant::now();
    let mut left = server.metric("paloma_store_file_bytes")?;
    while left > EMPTY_BYTES_MAX && begin.elapsed() < SHORTEN_PATIENCE {
        thread::sleep(Duration::from_millis(100));
        left = server.metric("paloma_store_file_bytes")?;
    }
    report.asked(
        "file after it, with its reserve",
        &mebibytes_float(left),
        &mebibytes_float(EMPTY_BYTES_MAX),
        left <= EMPTY_BYTES_MAX,
    );
    let passed = engine::run(&Load {
        shape: Shape::FanIn {
            publishers: PUBLISHERS,
        },
        messages_max: Some(u64::from(scale.drained.div_ceil(PUBLISHERS))),
        ..load(&server)
    })?;
    if passed.lost > 0 {
        return Err(LoadError::Scenario("a message was lost"));
    }
    let after = server.metric("paloma_store_file_bytes")?;
    report.asked(
        "file after as many that are taken as they come",
        &mebibytes_float(after),
        &mebibytes_float(EMPTY_BYTES_MAX),
        after <= EMPTY_BYTES_MAX,
    );
    Ok(())
}

/// Queues for one client that is away; says how many.
fn fill(scale: &Scale, server: &Server) -> Result<u64, LoadError> {
    super::leave_a_session(server)?;
    let filled = engine::run(&Load {
        shape: Shape::Publishers {
            publishers: PUBLISHERS,
        },
        messages_max: Some(u64::from(scale.drained.div_ceil(PUBLISHERS))),
        ..load(server)
    })?;
    whole(&filled).map(u64::from)
}

pub(super) fn load(server: &Server) -> Load {
    Load {
        target: server.target(),
        pid: None,
        shape: Shape::Publishers { publishers: 1 },
        topic: TOPIC.to_owned(),
        qos: Qos::AtLeastOnce,
        retain: false,
        payload_bytes: LARGE,
        window: 200,
        rate: None,
        messages_max: None,
        keeps_sessions: true,
        warm_up: Duration::ZERO,
        duration: Duration::ZERO,
        threads: 1,
    }
}

impl Scale {
    fn keeper(&self, durability: Option<&'static str>) -> Keeper {
        Keeper::Paloma {
            program: self.paloma.clone(),
            durability,
            limits: format!(
                "{}\nsessions_max = {}",
                super::LIMITS,
                u64::from(self.sessions) + 1_000
            ),
        }
    }
}

/// Comes back to a session and takes and acknowledges all that waits, in order; says how long that took.
fn take(
    server: &Server,
    name: &str,
    count: u64,
    payload_max: usize,
) -> Result<Duration, LoadError> {
    let target = server.target();
    let begin = Instant::now();
    let mut link = setup::connect_resumed(&target, name)?;
    let mut input = vec![0; 64 * (payload_max + 64)];
    let (mut kept, mut taken) = (0, 0);
    let mut next: Vec<u32> = Vec::new();
    let mut answers = Vec::new();
    while taken < count {
        let read = link.read(input.get_mut(kept..).unwrap_or(&mut []))?;
        if read == 0 {
            return Err(LoadError::Closed);
        }
        let filled = kept + read;
        let rest = each_frame(input.get(..filled).unwrap_or(&[]), |frame| {
            if frame.first == first_byte::CONNACK {
                return setup::connack(Version::V311, frame).map(|_| ());
            }
            let parts = packet::publish_parts(Version::V311, frame).ok_or(LoadError::Protocol)?;
            answers.extend_from_slice(&ack(first_byte::PUBACK, parts.id));
            taken += 1;
            let mark = Mark::parse(parts.payload).ok_or(LoadError::Protocol)?;
            in_order(&mut next, mark)
        })?;
        kept = rest.len();
        input.copy_within(filled - kept..filled, 0);
        setup::write(&mut link, &answers)?;
        answers.clear();
    }
    let elapsed = begin.elapsed();
    setup::leave(&mut link)?;
    Ok(elapsed)
}

/// Checks that a publisher's messages ascend; those of one topic may have others between them.
fn in_order(next: &mut Vec<u32>, mark: Mark) -> Result<(), LoadError> {
    let flow = usize::try_from(mark.flow).map_err(|_| LoadError::Protocol)?;
    if next.len() <= flow {
        next.resize(flow + 1, 0);
    }
    let expected = next.get_mut(flow).ok_or(LoadError::Protocol)?;
    if mark.sequence < *expected {
        return Err(LoadError::Scenario("messages came out of order"));
    }
    *expected = mark.sequence + 1;
    Ok(())
}

/// The store says how much it holds whenever it has nothing else to do.
pub(super) fn expect_entries(server: &Server, sent: u32) -> Result<(), LoadError> {
    let begin = Instant::now();
    while server.metric("paloma_store_entries")? < f64::from(sent) {
        if begin.elapsed() > SHORTEN_PATIENCE {
            return Err(LoadError::Scenario("a message was lost"));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// How many there were, all of which were acknowledged.
pub(super) fn whole(filled: &Outcome) -> Result<u32, LoadError> {
    if filled.lost > 0 {
        return Err(LoadError::Scenario("a message was not acknowledged"));
    }
    u32::try_from(filled.sent).map_err(|_| LoadError::Scenario("too many messages"))
}

pub(super) fn rate(count: u32, span: Duration) -> String {
    format!("{:.0}/s", f64::from(count) / span.as_secs_f64().max(1e-9))
}

pub(super) fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

fn mebibytes_float(bytes: f64) -> String {
    format!("{:.0} MiB", bytes / f64::from(1 << 20))
}

pub(super) fn mebibytes_of(server: &Server, metric: &str) -> Result<String, LoadError> {
    server.metric(metric).map(mebibytes_float)
}
