//! Runs a plan against a broker: warm-up, a measured span, and a drain in which everything must arrive.

mod publisher;
mod subscriber;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::error::LoadError;
use crate::packet::Qos;
use crate::plan::{Plan, Shape};
use crate::probe;
use crate::setup;
use crate::target::Target;
use publisher::{MARK_BYTES, Publisher, Ring, Template};
#[cfg(feature = "compare")]
pub(crate) use subscriber::Mark;
use subscriber::Subscriber;
use worker::{Rules, Worker, WorkerOutcome};

/// How a load is run.
#[derive(Clone, Debug)]
pub struct Load {
    /// The broker.
    pub target: Target,
    /// Its process, if its CPU time and memory are to be read.
    pub pid: Option<u32>,
    /// Who publishes to whom.
    pub shape: Shape,
    /// Topic of publishers, or filter of subscribers, that are alone; `%i` stands for the connection's number.
    pub topic: String,
    /// QoS of messages and subscriptions.
    pub qos: Qos,
    /// Whether messages are retained.
    pub retain: bool,
    /// Bytes of each payload; at least 16.
    pub payload_bytes: usize,
    /// Messages of one publisher under way at once.
    pub window: u32,
    /// Messages per second of all publishers together: an open loop that does not wait for the broker.
    pub rate: Option<u32>,
    /// Each publisher's number of messages, instead of a time.
    pub messages_max: Option<u64>,
    /// Whether subscribers' sessions outlive their connections.
    pub keeps_sessions: bool,
    /// Time before the measured span.
    pub warm_up: Duration,
    /// The measured span.
    pub duration: Duration,
    /// Event loops; only pairs, and publishers or subscribers alone, use more than one.
    pub threads: u32,
}

/// What a run measured.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Length of the measured span.
    pub span: Duration,
    /// Messages delivered in the span; with no subscriber, messages sent and acknowledged.
    pub messages: u64,
    /// Messages sent over the whole run.
    pub sent: u64,
    /// Messages delivered over the whole run.
    pub delivered: u64,
    /// Messages that others overtook and that never came, and those that were still missing at the end.
    pub lost: u64,
    /// Messages that came again or after a later one.
    pub repeated: u64,
    /// The broker's CPU time in the span.
    pub broker_cpu: Option<Duration>,
    /// The broker's memory at the end of the span.
    pub broker_bytes: Option<u64>,
    /// This process's CPU time in the span.
    pub own_cpu: Duration,
    /// Threads that carried the load.
    pub threads: u32,
    /// From sending (in an open loop: from the scheduled time) to arrival, in nanoseconds.
    pub latency: Histogram<u64>,
    /// From sending a QoS 1 or 2 message to the end of its exchange, in nanoseconds; where nobody subscribes, and where sessions
    /// are kept.
    pub exchange: Histogram<u64>,
    /// The broker's memory before and after what the scenario makes it hold.
    pub memory: Option<Growth>,
}

/// Memory of the broker around a number of equal things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
    /// Bytes before.
    pub before: u64,
    /// Bytes after.
    pub after: u64,
    /// How many things were added.
    pub count: u64,
}

impl Growth {
    /// Bytes for each.
    #[must_use]
    pub const fn each(&self) -> u64 {
        match self
            .after
            .saturating_sub(self.before)
            .checked_div(self.count)
        {
            Some(each) => each,
            None => 0,
        }
    }
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    WarmUp,
    Measure,
    Drain,
}

/// What a worker and the thread that watches it share.
#[derive(Debug, Default)]
struct Counters {
    phase: AtomicU8,
    sent: AtomicU64,
    delivered: AtomicU64,
}

impl Counters {
    fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::WarmUp,
            1 => Phase::Measure,
            _ => Phase::Drain,
        }
    }

    fn enter(&self, phase: Phase) {
        let number = match phase {
            Phase::WarmUp => 0,
            Phase::Measure => 1,
            Phase::Drain => 2,
        };
        self.phase.store(number, Ordering::Relaxed);
    }

    fn publish(&self, sent: u64, delivered: u64) {
        self.sent.store(sent, Ordering::Relaxed);
        self.delivered.store(delivered, Ordering::Relaxed);
    }
}

/// Where a run stands, for whoever waits for it.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// What it is doing.
    pub step: &'static str,
    /// How far that is, from 0 to 1; unknown where a number of messages is the end.
    pub share: Option<f64>,
    /// Messages, or connections, so far.
    pub count: u64,
}

/// Connects, subscribes, publishes and measures.
///
/// # Errors
/// If the scenario is impossible or a connection fails. Lost messages are no error: they are in the [`Outcome`].
pub fn run(load: &Load) -> Result<Outcome, LoadError> {
    run_watched(load, &mut |_| {})
}

/// The same, and tells about ten times a second how far it is.
///
/// # Errors
/// As [`run`].
pub fn run_watched(load: &Load, watcher: &mut dyn FnMut(Progress)) -> Result<Outcome, LoadError> {
    if load.payload_bytes < MARK_BYTES {
        return Err(LoadError::Scenario("a payload has at least 16 bytes"));
    }
    if load.window == 0 || load.rate == Some(0) {
        return Err(LoadError::Scenario("window and rate are at least 1"));
    }
    let plans = load.shape.plans(&load.topic, load.threads)?;
    let count = plans
        .iter()
        .map(|p| p.publishers.len() + p.subscribers.len())
        .sum::<usize>();
    probe::raise_file_limit(u64::try_from(count).unwrap_or(u64::MAX) + 64);
    let mut opened = Vec::with_capacity(plans.len());
    let mut memory = None;
    for (number, plan) in plans.iter().enumerate() {
        opened.push(open(load, plan, number, &mut memory)?);
    }
    let start = Instant::now();
    let mut threads: Vec<Running> = Vec::with_capacity(plans.len());
    for (connections, plan) in opened.into_iter().zip(&plans) {
        threads.push(connections.start(load, plan, plans.len(), start)?);
    }
    let mut outcome = watch(load, threads, watcher)?;
    outcome.memory = memory.filter(|growth| growth.count > 0);
    Ok(outcome)
}

/// The connections of one plan before they move into their thread.
struct Opened {
    publishers: Vec<Publisher>,
    subscribers: Vec<Subscriber>,
    receive_maximum: u16,
}

fn open(
    load: &Load,
    plan: &Plan,
    number: usize,
    memory: &mut Option<Growth>,
) -> Result<Opened, LoadError> {
    let mut links = Vec::with_capacity(plan.subscribers.len());
    for index in 0..plan.subscribers.len() {
        let id = format!("s{number}-{index}");
        links.push(setup::connect_as(&load.target, &id, load.keeps_sessions)?.link);
    }
    let before = load.pid.map(probe::memory_bytes).transpose()?;
    let version = load.target.version;
    for (link, subscriber) in links.iter_mut().zip(&plan.subscribers) {
        setup::subscribe(link, version, &subscriber.filters, load.qos)?;
    }
    if let (Some(before), Some(pid)) = (before, load.pid) {
        let count: usize = plan.subscribers.iter().map(|s| s.filters.len()).sum();
        let after = probe::memory_bytes(pid)?;
        let count = u64::try_from(count).unwrap_or(0);
        *memory = Some(Growth {
            before,
            after,
            count,
        });
    }
    let mut subscribers = Vec::with_capacity(links.len());
    for (mut link, subscriber) in links.into_iter().zip(&plan.subscribers) {
        link.set_nonblocking()?;
        subscribers.push(Subscriber::new(link, subscriber.flows.clone()));
    }
    let mut publishers = Vec::with_capacity(plan.publishers.len());
    let mut receive_maximum = u16::MAX;
    for (flow, publisher) in (0u32..).zip(&plan.publishers) {
        let id = format!("p{number}-{flow}");
        let mut accepted = setup::connect(&load.target, &id)?;
        accepted.link.set_nonblocking()?;
        receive_maximum = receive_maximum.min(accepted.receive_maximum);
        let template = Template {
            version,
            qos: load.qos,
            retain: load.retain,
            payload_bytes: load.payload_bytes,
            flow,
        };
        let wanted = usize::try_from(load.window).unwrap_or(usize::MAX);
        let ring = Ring::new(template, &publisher.topics, wanted);
        publishers.push(Publisher::new(accepted.link, ring));
    }
    Ok(Opened {
        publishers,
        subscribers,
        receive_maximum,
    })
}

/// A worker's thread and its counters.
struct Running {
    thread: JoinHandle<Result<WorkerOutcome, LoadError>>,
    counters: Arc<Counters>,
}

impl Opened {
    fn start(
        self,
        load: &Load,
        plan: &Plan,
        threads: usize,
        start: Instant,
    ) -> Result<Running, LoadError> {
        let threads = u32::try_from(threads).unwrap_or(1);
        let per_worker = load
            .rate
            .map(|rate| 1e9 * f64::from(threads) / f64::from(rate));
        let window = u64::from(load.window);
        let rules = Rules {
            version: load.target.version,
            qos: load.qos,
            window,
            // An open loop is held back by what the broker announces alone.
            acknowledge_window: u64::from(self.receive_maximum).min(if load.rate.is_some() {
                u64::MAX
            } else {
                window
            }),
            deliveries_per_message: u64::from(plan.deliveries_per_message),
            interval_nanoseconds: per_worker,
            messages_max: load.messages_max,
            sample_mask: if load.rate.is_some() || load.window <= 4 {
                0
            } else {
                15
            },
            is_sparse: matches!(load.shape, Shape::Wildcards { .. }),
            is_listening: matches!(load.shape, Shape::Subscribers { .. }),
            is_timed_by_exchange: matches!(
                load.shape,
                Shape::Publishers { .. } | Shape::Store { .. }
            ),
            is_exchange_timed: load.keeps_sessions,
            start,
        };
        let counters = Arc::new(Counters::default());
        let worker = Worker::new(rules, counters.clone(), self.publishers, self.subscribers)?;
        let thread = thread::Builder::new()
            .name("load".to_owned())
            .spawn(move || worker.run())?;
        Ok(Running { thread, counters })
    }
}

/// Steps through the phases, reads clocks and counters at their edges, and adds up what the threads saw.
fn watch(
    load: &Load,
    threads: Vec<Running>,
    watcher: &mut dyn FnMut(Progress),
) -> Result<Outcome, LoadError> {
    let mut outcome = measure(load, &threads, watcher)?;
    for running in threads {
        let Ok(result) = running.thread.join() else {
            return Err(LoadError::Scenario("a thread of the load panicked"));
        };
        let part = result?;
        outcome.sent += part.sent;
        outcome.delivered += part.delivered;
        outcome.lost += part.lost + part.missing_at_end;
        outcome.repeated += part.repeated;
        // All count nanoseconds with three digits; the sums resize themselves.
        let added = (outcome.latency.add(part.latency)).and(outcome.exchange.add(part.exchange));
        added.map_err(|_| LoadError::Scenario("no histogram"))?;
    }
    Ok(outcome)
}

/// The warm-up and the measured span, at whose end all threads are told to drain.
fn measure(
    load: &Load,
    threads: &[Running],
    watcher: &mut dyn FnMut(Progress),
) -> Result<Outcome, LoadError> {
    let count = || {
        threads
            .iter()
            .map(|t| load.counted(&t.counters))
            .sum::<u64>()
    };
    let enter = |phase| threads.iter().for_each(|t| t.counters.enter(phase));
    let broker_cpu = || load.pid.map(probe::cpu_time).transpose();
    let is_counted = load.messages_max.is_some();
    // A thread that ends before its time has failed; one that has sent its number leaves the others theirs to send.
    let is_over = || {
        let mut ended = threads.iter().map(|t| t.thread.is_finished());
        if is_counted {
            ended.all(|ended| ended)
        } else {
            ended.any(|ended| ended)
        }
    };
    let mut tell = |step, share: f64| {
        watcher(Progress {
            step,
            share: (!is_counted).then_some(share),
            count: count(),
        });
    };

    if !is_counted {
        wait(load.warm_up, is_over, |share| tell("warm-up", share));
    }
    let (cpu_before, own_before) = (broker_cpu()?, probe::own_cpu_time());
    let messages_before = if is_counted { 0 } else { count() };
    let begin = Instant::now();
    enter(Phase::Measure);
    let longest = if is_counted {
        Duration::MAX
    } else {
        load.duration
    };
    wait(longest, is_over, |share| tell("measuring", share));
    let span = begin.elapsed();
    let messages_after = count();
    let (cpu_after, own_after) = (broker_cpu()?, probe::own_cpu_time());
    let broker_bytes = load.pid.map(probe::memory_bytes).transpose()?;
    enter(Phase::Drain);

    Ok(Outcome {
        span,
        messages: messages_after.saturating_sub(messages_before),
        sent: 0,
        delivered: 0,
        lost: 0,
        repeated: 0,
        broker_cpu: cpu_before
            .zip(cpu_after)
            .map(|(before, after)| after.saturating_sub(before)),
        broker_bytes,
        own_cpu: own_after.saturating_sub(own_before),
        threads: u32::try_from(threads.len()).unwrap_or(u32::MAX),
        latency: Histogram::new(3).map_err(|_| LoadError::Scenario("no histogram"))?,
        exchange: Histogram::new(3).map_err(|_| LoadError::Scenario("no histogram"))?,
        memory: None,
    })
}

impl Load {
    /// What counts as a message of this load: what nobody of ours receives counts when it is sent.
    fn counted(&self, counters: &Counters) -> u64 {
        let counter = match self.shape {
            Shape::Publishers { .. } | Shape::Store { .. } => &counters.sent,
            Shape::Pairs { .. }
            | Shape::FanOut { .. }
            | Shape::FanIn { .. }
            | Shape::Wildcards { .. }
            | Shape::Subscribers { .. } => &counters.delivered,
        };
        counter.load(Ordering::Relaxed)
    }
}

/// How often a watcher hears of the progress.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// Sleeps in short steps, so that a failed worker ends the wait; tells which share of the span is over.
fn wait(span: Duration, is_over: impl Fn() -> bool, mut tell: impl FnMut(f64)) {
    let begin = Instant::now();
    let mut next = WATCH_INTERVAL;
    while begin.elapsed() < span && !is_over() {
        let left = span.saturating_sub(begin.elapsed());
        thread::sleep(left.min(Duration::from_millis(10)));
        if begin.elapsed() >= next {
            next = begin.elapsed() + WATCH_INTERVAL;
            tell(begin.elapsed().as_secs_f64() / span.as_secs_f64());
        }
    }
}
