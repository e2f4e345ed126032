//! The power goes at every write and every sync of a run, in this process and repeatably.
//!
//! A run is the real core and the real store over a disk that remembers what was synced, with a small cast before it, all
//! driven by one seed. While the store works no client does anything, so that every operation on the disk in
//! that time is a moment at which the power may have gone under the same clients: for each one that is chosen, a copy of the clients meets a
//! new broker on what the disk has kept, everybody comes to rest, and the history is judged.

mod machine;
mod recorder;
mod stage;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use paloma_interop::random::Random;
use paloma_store_redb::disk::sim::SimDisk;

use crate::cast::{Cast, Size};
use crate::check::{Verdict, check};
use crate::history::Event;
use crate::watcher::Watcher;

pub use machine::{Build, INTERVAL};
pub use recorder::{Crash, Recorder, Syncs};

use machine::{Clocks, Machine, group_size};
use stage::Ensemble;

/// Rounds within which everybody comes to rest.
const ROUNDS_MAX: u32 = 20_000;

/// Rounds in which nothing happens before they are given up on: half a minute of the machine's time.
const QUIET_MAX: u32 = 20;

/// By how many seconds the wall clock is set: an hour and ten years, either way.
const CLOCK_IS_SET_BY: [i64; 4] = [3_600, -3_600, 315_576_000, -315_576_000];

/// Milliseconds between two steps, less than so many: as it is, and while a sync takes long.
const PAUSE: usize = 3;
const SLOW_PAUSE: usize = 300;

/// One step of so many is looked at while a sync takes long.
const SLOW_LOOK_ONE_IN: usize = 5;

/// One step of so many sets the wall clock.
const CLOCK_IS_SET_ONE_IN: usize = 250;

/// One run.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// What is under test.
    pub build: Build,
    /// Where everything random begins.
    pub seed: u64,
    /// Steps of clients and store.
    pub steps: u32,
    /// One operation of so many on the disk is a crash.
    pub one_in: u64,
    /// Whether the run goes on behind a crash now and then, so that crashes add up.
    pub goes_on: bool,
}

/// What a run has shown.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// States of the disk that were looked at.
    pub states: u64,
    /// Those of them in which a sync was under way that took long, and clients had gone on.
    pub slow: u64,
    /// Operations on the disk that were seen.
    pub operations: u64,
    /// All judgements together.
    pub verdict: Verdict,
    /// For each state with losses: how long before the crash the oldest lost message was acknowledged.
    pub ages: Vec<Duration>,
    /// The history of the first state with which something is wrong.
    pub trace: Option<String>,
}

impl Findings {
    fn add(&mut self, other: &Self) {
        self.states += other.states;
        self.slow += other.slow;
        self.operations += other.operations;
        self.verdict.add(&other.verdict);
        self.ages.extend(&other.ages);
        if self.trace.is_none() {
            self.trace.clone_from(&other.trace);
        }
    }
}

/// A run under way.
struct Play {
    run: Run,
    cast: Cast,
    random: Random,
    /// Decides when the wall clock is set.
    setter: Random,
    machine: Machine,
    ensemble: Ensemble,
    /// The time at which the history was so long.
    times: Vec<(usize, Duration)>,
    crashes: u32,
    findings: Findings,
}

/// Plays a run.
#[must_use]
pub fn play(run: Run) -> Findings {
    let cast = Cast::new(run.seed, Size::SMALL);
    let mut random = Random::new(run.seed ^ 0x0FF);
    let disk = SimDisk::new(random.next_u64());
    let seed = random.next_u64();
    match Machine::start(disk, run.build, run.one_in, Clocks::default(), seed) {
        Ok(machine) => {
            // A crash while the store was being made is one of an empty broker: judged like all others.
            let mut play = Play {
                run,
                ensemble: Ensemble::new(&cast, run.seed),
                cast,
                random,
                setter: Random::new(run.seed ^ 0xC10C),
                machine,
                times: Vec::new(),
                crashes: 0,
                findings: Findings::default(),
            };
            play.look_at_crashes();
            play.run();
            play.findings
        }
        Err(words) => failed(&words),
    }
}

fn failed(words: &str) -> Findings {
    let mut findings = Findings::default();
    findings.verdict.wrong = 1;
    findings.verdict.words.push(words.to_owned());
    findings
}

impl Play {
    fn run(&mut self) {
        for _ in 0..self.run.steps {
            let len = self.ensemble.history.events().len();
            self.times.push((len, self.machine.clocks().elapsed));
            if self.setter.between(0, CLOCK_IS_SET_ONE_IN) == 0 {
                let by = *self.setter.one_of(&CLOCK_IS_SET_BY);
                set_clock(by, &mut self.machine, &mut self.ensemble);
            }
            if self.random.between(0, 12) == 0 {
                let most = group_size(&mut self.random);
                let worked = self.machine.work(most);
                self.look_at_crashes();
                if let Err(words) = worked {
                    self.findings.add(&failed(&words));
                    return;
                }
                if self.run.goes_on && self.random.between(0, 40) == 0 && !self.go_on() {
                    return;
                }
            } else {
                self.ensemble.step(&mut self.machine);
            }
            let pause_max = if self.machine.is_busy() {
                self.look_while_busy();
                SLOW_PAUSE
            } else {
                PAUSE
            };
            let pause = self.random.between(0, pause_max) as u64;
            self.machine.advance(Duration::from_millis(pause));
        }
        self.findings.operations += self.machine.recorder.operations();
        let survivor = self.machine.survivor();
        self.judge(survivor);
    }

    /// The power may go while a sync takes long.
    fn look_while_busy(&mut self) {
        if self.random.between(0, SLOW_LOOK_ONE_IN) == 0 {
            self.findings.slow += 1;
            let survivor = self.machine.survivor();
            self.judge(survivor);
        }
    }

    fn look_at_crashes(&mut self) {
        for survivor in self.machine.recorder.take_survivors() {
            self.judge(survivor);
        }
    }

    /// What everybody sees in the end if the power has gone and left this.
    fn judge(&mut self, survivor: SimDisk) {
        let elapsed = self.machine.clocks().elapsed;
        let mut ensemble = self.ensemble.after_crash(self.random.next_u64());
        ensemble.history.add(Event::Crashed(self.crashes + 1));
        let crashed_at = ensemble.history.events().len();
        ensemble.calm();
        let seed = self.random.next_u64();
        let later = self.later(&mut ensemble);
        ensemble.history.add(Event::Recovered(self.crashes + 1));
        let set_by = self.perhaps_set();
        let words = match Machine::start(survivor, self.run.build, 0, later, seed) {
            Ok(mut machine) => {
                if let Some(by) = set_by {
                    set_clock(by, &mut machine, &mut ensemble);
                }
                come_to_rest(&self.cast, &mut machine, &mut ensemble).err()
            }
            Err(words) => Some(words),
        };
        if let Some(words) = words {
            ensemble.history.add(Event::Foul(words));
        }
        let mut verdict = check(&self.cast, &ensemble.history);
        if !verdict.is_clean() {
            let trace = || format!("{:#?}\n{}", self.cast, ensemble.history.trace());
            self.findings.trace.get_or_insert_with(trace);
            for words in &mut verdict.words {
                words.insert_str(0, &format!("run {} crash at {crashed_at}: ", self.run.seed));
            }
        }
        if let Some(oldest) = verdict.lost_at.first() {
            let at = self.times.partition_point(|(len, _)| len <= oldest);
            let acknowledged = at
                .checked_sub(1)
                .map_or(Duration::ZERO, |at| self.times[at].1);
            self.findings
                .ages
                .push(elapsed.saturating_sub(acknowledged));
        }
        self.findings.states += 1;
        self.findings.verdict.add(&verdict);
    }

    /// What the clocks show when the machine is on again: its wall clock may have been set meanwhile.
    fn later(&mut self, ensemble: &mut Ensemble) -> Clocks {
        let mut clocks = self.machine.clocks();
        clocks.elapsed += Duration::from_millis(5);
        if let Some(by) = self.perhaps_set()
            && clocks.set(by)
        {
            ensemble.history.add(Event::ClockSet(by));
        }
        clocks
    }

    /// By how much the wall clock is set, one time in two.
    fn perhaps_set(&mut self) -> Option<i64> {
        let is_set = self.setter.between(0, 2) == 0;
        is_set.then(|| *self.setter.one_of(&CLOCK_IS_SET_BY))
    }

    /// The power goes, and the run goes on with what is left. False if it cannot.
    fn go_on(&mut self) -> bool {
        self.findings.operations += self.machine.recorder.operations();
        let survivor = self.machine.survivor();
        self.crashes += 1;
        let mut ensemble = self.ensemble.after_crash(self.random.next_u64());
        ensemble.history.add(Event::Crashed(self.crashes));
        let later = self.later(&mut ensemble);
        self.ensemble = ensemble;
        self.ensemble.history.add(Event::Recovered(self.crashes));
        let seed = self.random.next_u64();
        match Machine::start(survivor, self.run.build, self.run.one_in, later, seed) {
            Ok(machine) => self.machine = machine,
            Err(words) => {
                self.findings.add(&failed(&words));
                return false;
            }
        }
        // Crashes while it recovered.
        self.look_at_crashes();
        true
    }
}

/// The wall clock is set while the machine runs.
fn set_clock(by_seconds: i64, machine: &mut Machine, ensemble: &mut Ensemble) {
    // It may be noted for nothing, but not too late.
    let before = ensemble.history.events().len();
    ensemble.history.add(Event::ClockSet(by_seconds));
    if !machine.set_clock(by_seconds) {
        ensemble.history.events_mut().truncate(before);
    }
}

/// Everybody connects, takes what there is and finishes what is half done; before and after, somebody looks at the
/// retained messages.
fn come_to_rest(cast: &Cast, machine: &mut Machine, ensemble: &mut Ensemble) -> Result<(), String> {
    for watch in [1_000_001, 1_000_002] {
        if watch == 1_000_002 {
            rest(machine, ensemble)?;
        }
        ensemble.push_watcher(Watcher::new(cast, &ensemble.history, watch));
        let outcome = rest(machine, ensemble);
        ensemble.pop_watcher(machine);
        outcome?;
    }
    Ok(())
}

fn rest(machine: &mut Machine, ensemble: &mut Ensemble) -> Result<(), String> {
    let mut quiet = 0;
    for _ in 0..ROUNDS_MAX {
        let moved = ensemble.round(machine);
        let worked = !machine.is_idle();
        machine.work(usize::MAX)?;
        quiet = if moved || worked { 0 } else { quiet + 1 };
        if quiet >= 3 && ensemble.is_at_rest() {
            return Ok(());
        }
        if quiet >= QUIET_MAX {
            return Err("somebody waits for ever".to_owned());
        }
        // Whoever waits for the time waits longer and longer.
        machine.advance(Duration::from_millis(1 << quiet.min(12)));
    }
    Err("nobody ever comes to rest".to_owned())
}

/// Many runs, until so many states were looked at.
#[derive(Clone, Copy, Debug)]
pub struct Campaign {
    /// The first run; its seed counts up.
    pub first: Run,
    /// States wanted.
    pub states: u64,
    /// Runs at a time.
    pub parallel: usize,
    /// End with the first run that shows something.
    pub stops_at_failure: bool,
}

/// Runs a campaign; `tell` hears of each run.
///
/// # Panics
/// If a run does.
pub fn campaign(campaign: Campaign, tell: impl Fn(u64, &Findings) + Sync) -> Findings {
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let total = Mutex::new(Findings::default());
    thread::scope(|scope| {
        for _ in 0..campaign.parallel.max(1) {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    let mut run = campaign.first;
                    run.seed = run.seed.wrapping_add(number);
                    if number == 0 {
                        // The first run leaves no moment out.
                        run.one_in = run.one_in.min(1);
                        run.steps /= 4;
                    }
                    let findings = play(run);
                    tell(run.seed, &findings);
                    let mut total = total.lock().unwrap();
                    total.add(&findings);
                    let is_over = total.states >= campaign.states
                        || campaign.stops_at_failure && !total.verdict.is_clean();
                    if is_over {
                        stop.store(true, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    total.into_inner().unwrap()
}
