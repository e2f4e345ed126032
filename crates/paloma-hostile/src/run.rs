//! The run: a broker, the canary, a turn for each actor, and what each turn did to the others.

use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use paloma_interop::broker::{Broker, Setup};
use paloma_interop::certificates::Certificates;
use paloma_interop::random::Random;
use paloma_load::probe;
use rustix::process::setpriority_process;

use crate::actors::{ACTORS, Actor};
use crate::answer::Tally;
use crate::attack::{Attack, Pace};
use crate::canary::{Canary, Latency};
use crate::doors::{Doors, LISTENERS, PASSWORDS};
use crate::report::Record;
use crate::sampler::{Sample, Sampler};

/// Sessions that the broker under attack may have.
pub(crate) const SESSIONS_MAX: usize = 3_000;
/// Retained messages that it may have.
pub(crate) const RETAINED_MAX: usize = 3_000;
/// How long it waits for a CONNECT.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long it waits for a socket that takes no bytes.
pub(crate) const STALL_TIMEOUT: Duration = Duration::from_secs(3);

/// Connections of one actor, and as many again in the broker.
const FILES_WANTED: u64 = 8_192;

/// How long memory may take to come back.
const SETTLE_MAX: Duration = Duration::from_secs(10);

/// What a broker may keep beyond 5 %: the allocator's own, which does not return to the system at once.
const SLACK_BYTES: u64 = 24 << 20;

/// How much less important than the canary the attackers' threads are to the system: on one machine it would otherwise wait
/// for them, and not for the broker.
const ATTACKER_NICE: i32 = 10;

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The broker's binary.
    pub program: PathBuf,
    /// Time for all turns together; `None` runs each actor's small, counted turn once.
    pub duration: Option<Duration>,
    /// The only actor, by name.
    pub only: Option<String>,
    /// Where everything random begins.
    pub seed: u64,
}

impl Plan {
    fn actors(&self) -> Vec<Actor> {
        let chosen = |actor: &&Actor| self.only.as_ref().is_none_or(|only| only == actor.name);
        ACTORS.iter().filter(chosen).copied().collect()
    }
}

/// What one turn of an actor did.
#[derive(Debug)]
pub struct Turn {
    /// The actor's name.
    pub name: &'static str,
    /// What it saw.
    pub tally: Tally,
    pub(crate) canary: Latency,
    pub(crate) sample: Sample,
    /// The broker's memory once it had come back, or 10 s after.
    pub bytes_after: u64,
    /// Whether it had come back.
    pub came_back: bool,
    /// How long the actor took.
    pub elapsed: Duration,
}

/// Runs the plan; `progress` is told each turn.
///
/// # Errors
/// If the machine refuses threads or sockets, or no actor has the plan's name. What the broker does wrong is in the record.
pub fn run(plan: &Plan, mut progress: impl FnMut(&Turn)) -> io::Result<Record> {
    let actors = plan.actors();
    if actors.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "no such actor"));
    }
    probe::raise_file_limit(FILES_WANTED);
    let mut field = Field::prepare(plan, actors.len())?;
    let mut record = Record::new(plan.seed, field.baseline_bytes);
    let mut random = Random::new(plan.seed);
    let end = plan.duration.map(|duration| Instant::now() + duration);
    for (number, actor) in actors.iter().cycle().enumerate() {
        let everybody_had_a_turn = number >= actors.len();
        if everybody_had_a_turn && end.is_none_or(|end| Instant::now() >= end) {
            break;
        }
        record.add_quiet(&field.rest());
        let turn = field.turn(actor, random.next_u64());
        progress(&turn);
        record.add(turn);
        if !field.broker.is_running() {
            break;
        }
    }
    field.end(&mut record);
    Ok(record)
}

/// The broker under attack and those who watch it.
struct Field<'a> {
    plan: &'a Plan,
    broker: Broker,
    doors: Doors,
    sampler: Sampler,
    canary: Canary,
    baseline_bytes: u64,
    rest: Duration,
    /// Time for one turn; counted turns have none.
    slot: Option<Duration>,
}

impl<'a> Field<'a> {
    fn prepare(plan: &'a Plan, actors: usize) -> io::Result<Self> {
        let certificates = Certificates::new();
        let mut setup = Setup {
            configuration: configuration(),
            files: certificates.files(),
            files_max: None,
        };
        setup.files.push(("passwords", PASSWORDS.to_owned()));
        let broker = Broker::of_program(&plan.program, &setup);
        let doors = Doors::of(&broker, &certificates);
        let sampler = Sampler::start(broker.pid());
        let canary = Canary::start(broker.address())?;
        // About half of the time is spent between the turns, until all is quiet again.
        let slot = plan.duration.map(|duration| {
            let share = duration / (2 * actors.max(1) as u32);
            share.clamp(Duration::from_millis(500), Duration::from_secs(15))
        });
        let rest = Duration::from_millis(if slot.is_some() { 2_000 } else { 200 });
        thread::sleep(rest);
        canary.take();
        let baseline_bytes = sampler.memory_bytes();
        Ok(Self {
            plan,
            broker,
            doors,
            sampler,
            canary,
            baseline_bytes,
            rest,
            slot,
        })
    }

    /// Leaves the canary alone for a while.
    fn rest(&mut self) -> Latency {
        self.canary.take();
        thread::sleep(self.rest);
        self.sampler.take();
        self.canary.take()
    }

    fn turn(&mut self, actor: &Actor, seed: u64) -> Turn {
        let begin = Instant::now();
        let attack = Attack {
            address: self.broker.address(),
            doors: &self.doors,
            program: &self.plan.program,
            random: Random::new(seed),
            pace: self
                .slot
                .map_or(Pace::Counted, |slot| Pace::Until(begin + slot)),
            tally: Tally::default(),
        };
        let tally = attack_with(actor, attack);
        let elapsed = begin.elapsed();
        let canary = self.canary.take();
        let sample = self.sampler.take();
        let (bytes_after, came_back) = self.settle();
        Turn {
            name: actor.name,
            tally,
            canary,
            sample,
            bytes_after,
            came_back,
            elapsed,
        }
    }

    /// Waits until memory has come back, or long enough.
    fn settle(&self) -> (u64, bool) {
        let most = (self.baseline_bytes / 20).max(SLACK_BYTES) + self.baseline_bytes;
        let begin = Instant::now();
        loop {
            let bytes = self.sampler.memory_bytes();
            if bytes <= most || begin.elapsed() >= SETTLE_MAX {
                return (bytes, bytes <= most);
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn end(mut self, record: &mut Record) {
        record.alive = self.broker.is_running();
        record.song = self.canary.stop();
        drop(self.sampler);
        record.clean_end = self.broker.terminate().success();
    }
}

/// Lets an actor loose in a thread of its own; a panic of its becomes a complaint.
fn attack_with(actor: &Actor, mut attack: Attack<'_>) -> Tally {
    let run = actor.run;
    let ended = thread::scope(|scope| {
        scope
            .spawn(move || {
                // Costs precision only where it is refused.
                let _unchanged = setpriority_process(None, ATTACKER_NICE);
                run(&mut attack);
                attack.tally
            })
            .join()
    });
    ended.unwrap_or_else(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let mut tally = Tally::default();
        tally.complain(format!("panicked: {}", message.unwrap_or_default()));
        tally
    })
}

/// Small limits where reaching large ones would take long; the defaults everywhere else.
fn configuration() -> String {
    format!(
        "{LISTENERS}\
         [limits]\n\
         sessions_max = {SESSIONS_MAX}\n\
         retained_messages_max = {RETAINED_MAX}\n\
         connect_timeout_ms = {}\n\
         stall_timeout_ms = {}\n\
         [log]\n\
         level = \"error\"\n",
        CONNECT_TIMEOUT.as_millis(),
        STALL_TIMEOUT.as_millis(),
    )
}
