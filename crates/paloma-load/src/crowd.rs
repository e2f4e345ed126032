//! Many connections that only connect: how fast that is, and what each, or the session it leaves, costs the broker.

use std::io::{self, Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token};

use crate::engine::{Growth, Outcome, Progress};
use crate::error::LoadError;
use crate::link::Link;
use crate::packet::{self, Qos, Scan};
use crate::target::Target;
use crate::{plan, probe, setup};

/// How many connections to open, and how.
#[derive(Clone, Debug)]
pub struct Crowd {
    /// The broker.
    pub target: Target,
    /// Its process, if its CPU time and memory are to be read.
    pub pid: Option<u32>,
    /// Connections in all.
    pub connections: u32,
    /// Connections on their way at once.
    pub concurrency: u32,
    /// Connections a second, begun by the clock; their latency counts from when each was due.
    pub rate: Option<u32>,
    /// What is left of each.
    pub leaves: Leaves,
    /// Time between the last CONNACK and the second look at the broker's memory.
    pub settle: Duration,
}

/// What is left of a connection when the next one comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaves {
    /// The connection itself: all stay open until the last is.
    Connection,
    /// A session that outlives it: each ends as soon as it is accepted.
    Session,
    /// The same with a subscription of QoS 1 to the topic of its number in [`Shape::Store`](crate::Shape::Store).
    Subscription,
}

/// Without an answer for so long, the broker has given up.
const PATIENCE: Duration = Duration::from_secs(15);

/// Opens the connections and looks at the broker before and after.
///
/// # Errors
/// If a connection fails or is refused.
pub fn open(crowd: &Crowd) -> Result<Outcome, LoadError> {
    gather(crowd, &mut |_| {}).map(|(outcome, _)| outcome)
}

/// The same, and tells about ten times a second how far it is.
///
/// # Errors
/// As [`open`].
pub fn open_watched(
    crowd: &Crowd,
    watcher: &mut dyn FnMut(Progress),
) -> Result<Outcome, LoadError> {
    gather(crowd, watcher).map(|(outcome, _)| outcome)
}

/// A crowd that is there; it leaves when this is dropped.
#[derive(Debug)]
pub(crate) struct Gathered(Vec<Link>);

impl Drop for Gathered {
    fn drop(&mut self) {
        for link in &mut self.0 {
            // The broker's answer to the end of a connection is not part of any measurement.
            let _unsent = link.write(&packet::DISCONNECT).and_then(|_| link.flush());
        }
    }
}

/// Opens the connections and keeps them open where they stay.
pub(crate) fn gather(
    crowd: &Crowd,
    watcher: &mut dyn FnMut(Progress),
) -> Result<(Outcome, Gathered), LoadError> {
    if crowd.connections == 0 || crowd.concurrency == 0 || crowd.rate == Some(0) {
        return Err(LoadError::Scenario("a crowd has at least one connection"));
    }
    let at_once = match crowd.leaves {
        Leaves::Connection => crowd.connections,
        Leaves::Session | Leaves::Subscription => crowd.concurrency,
    };
    let needed = u64::from(at_once) + 64;
    if probe::raise_file_limit(needed) < needed {
        return Err(LoadError::Scenario(
            "the system's limit of open files is too low",
        ));
    }
    // What the first connection ever makes a broker load is not counted as the price of each.
    drop(setup::connect(&crowd.target, "first")?);
    thread::sleep(Duration::from_millis(100));
    let before = crowd.pid.map(probe::memory_bytes).transpose()?;
    let cpu_before = crowd.pid.map(probe::cpu_time).transpose()?;
    let own_before = probe::own_cpu_time();
    let mut storm = Storm::new(crowd)?;
    storm.run(watcher)?;
    let span = storm.begin.elapsed();
    let own_cpu = probe::own_cpu_time().saturating_sub(own_before);
    let cpu_after = crowd.pid.map(probe::cpu_time).transpose()?;
    thread::sleep(crowd.settle);
    let after = crowd.pid.map(probe::memory_bytes).transpose()?;
    let count = u64::from(crowd.connections);
    let outcome = Outcome {
        span,
        messages: count,
        sent: count,
        delivered: count,
        lost: 0,
        repeated: 0,
        broker_cpu: cpu_before
            .zip(cpu_after)
            .map(|(before, after)| after.saturating_sub(before)),
        broker_bytes: after,
        own_cpu,
        threads: 1,
        latency: storm.latency,
        exchange: Histogram::new(3).map_err(|_| LoadError::Scenario("no histogram"))?,
        memory: before.zip(after).map(|(before, after)| Growth {
            before,
            after,
            count,
        }),
    };
    let entries = storm.entries.into_iter().flatten();
    Ok((outcome, Gathered(entries.map(|entry| entry.link).collect())))
}

/// A crowd on its way in.
struct Storm<'a> {
    crowd: &'a Crowd,
    poll: Poll,
    begin: Instant,
    /// In order of their tokens; none where one has left.
    entries: Vec<Option<Entry>>,
    accepted: usize,
    latency: Histogram<u64>,
}

struct Entry {
    link: Link,
    due: Instant,
    input: Vec<u8>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Connecting,
    Introducing,
    AwaitConnAck,
    Accepted,
}

impl<'a> Storm<'a> {
    fn new(crowd: &'a Crowd) -> Result<Self, LoadError> {
        Ok(Self {
            crowd,
            poll: Poll::new()?,
            begin: Instant::now(),
            entries: Vec::new(),
            accepted: 0,
            latency: Histogram::new_with_bounds(1, 60_000_000_000, 3)
                .map_err(|_| LoadError::Scenario("no histogram"))?,
        })
    }

    fn run(&mut self, watcher: &mut dyn FnMut(Progress)) -> Result<(), LoadError> {
        let wanted = usize::try_from(self.crowd.connections).unwrap_or(usize::MAX);
        let mut events = Events::with_capacity(1024);
        let mut progress = Instant::now();
        let mut told = Instant::now();
        while self.accepted < wanted {
            let pause = self.start_due(wanted)?;
            match self.poll.poll(&mut events, Some(pause)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            for event in &events {
                progress = Instant::now();
                self.handle_event(event.token().0)?;
            }
            if progress.elapsed() > PATIENCE {
                return Err(LoadError::Stalled("connecting"));
            }
            if told.elapsed() > Duration::from_millis(100) {
                told = Instant::now();
                let count = u64::try_from(self.accepted).unwrap_or(u64::MAX);
                let wanted = f64::from(self.crowd.connections);
                let accepted = u32::try_from(self.accepted).unwrap_or(u32::MAX);
                watcher(Progress {
                    step: "connecting",
                    share: Some(f64::from(accepted) / wanted),
                    count,
                });
            }
        }
        Ok(())
    }

    /// Starts every connection whose time has come, and says how long to wait for the next.
    fn start_due(&mut self, wanted: usize) -> Result<Duration, LoadError> {
        let longest = Duration::from_millis(100);
        let concurrency = usize::try_from(self.crowd.concurrency).unwrap_or(usize::MAX);
        let end = wanted.min(self.accepted.saturating_add(concurrency));
        while self.entries.len() < end {
            let due = match self.crowd.rate {
                None => Instant::now(),
                Some(rate) => {
                    let started = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
                    let after =
                        Duration::from_secs(1).mul_f64(f64::from(started) / f64::from(rate));
                    let left = after.saturating_sub(self.begin.elapsed());
                    if !left.is_zero() {
                        return Ok(left.min(longest));
                    }
                    self.begin + after
                }
            };
            self.start_one(due)?;
        }
        Ok(longest)
    }

    fn start_one(&mut self, due: Instant) -> Result<(), LoadError> {
        let mut link = Link::start(&self.crowd.target)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(link.socket(), Token(self.entries.len()), interest)?;
        self.entries.push(Some(Entry {
            link,
            due,
            input: Vec::new(),
            state: State::Connecting,
        }));
        Ok(())
    }

    fn handle_event(&mut self, index: usize) -> Result<(), LoadError> {
        let Some(Some(entry)) = self.entries.get_mut(index) else {
            return Ok(());
        };
        if !entry.proceed(self.crowd, index)? {
            return Ok(());
        }
        self.accepted += 1;
        let nanoseconds = u64::try_from(entry.due.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.latency.saturating_record(nanoseconds);
        if self.crowd.leaves != Leaves::Connection
            && let Some(mut entry) = self.entries.get_mut(index).and_then(Option::take)
        {
            entry.link.set_no_linger()?;
            entry.link.write_all(&packet::DISCONNECT)?;
            entry.link.flush()?;
        }
        Ok(())
    }
}

impl Entry {
    /// Goes on as far as the socket lets it; tells whether the connection has just been accepted.
    fn proceed(&mut self, crowd: &Crowd, index: usize) -> Result<bool, LoadError> {
        if self.state == State::Connecting {
            if self.link.peer().is_err() {
                return match self.link.socket().take_error()? {
                    Some(error) => Err(error.into()),
                    None => Ok(false),
                };
            }
            self.link.set_nodelay()?;
            self.state = State::Introducing;
        }
        if self.state == State::Introducing {
            if !self.link.is_ready()? {
                return Ok(false);
            }
            let keeps_session = crowd.leaves != Leaves::Connection;
            let mut first = setup::hello(&crowd.target, &format!("c{index}"), keeps_session);
            if crowd.leaves == Leaves::Subscription {
                // A client may go on before it is accepted. [MQTT-3.1.4-6]
                let filter = [plan::stored_topic(u32::try_from(index).unwrap_or(u32::MAX))];
                let version = crowd.target.version;
                first.extend(packet::subscribe(version, 1, &filter, Qos::AtLeastOnce));
            }
            // The first bytes of a connection always fit into its empty buffer.
            self.link.write_all(&first)?;
            self.state = State::AwaitConnAck;
        }
        unless_full(self.link.flush())?;
        self.await_answers(crowd)
    }

    /// Waits for the CONNACK, and for the SUBACK behind it.
    fn await_answers(&mut self, crowd: &Crowd) -> Result<bool, LoadError> {
        let version = crowd.target.version;
        let mut input = [0; 256];
        loop {
            match self.link.read(&mut input) {
                Ok(0) => return Err(LoadError::Closed),
                Ok(_) if self.state == State::Accepted => return Err(LoadError::Protocol),
                Ok(read) => self
                    .input
                    .extend_from_slice(input.get(..read).unwrap_or(&[])),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error.into()),
            }
            let behind = match packet::scan(&self.input) {
                Scan::Whole(frame) => {
                    setup::connack(version, &frame)?;
                    self.input.get(frame.whole.len()..).unwrap_or(&[])
                }
                Scan::Partial => continue,
                Scan::Malformed => return Err(LoadError::Protocol),
            };
            if crowd.leaves == Leaves::Subscription {
                match packet::scan(behind) {
                    Scan::Whole(frame) => setup::suback(version, &frame, 1, Qos::AtLeastOnce)?,
                    Scan::Partial => continue,
                    Scan::Malformed => return Err(LoadError::Protocol),
                }
            }
            self.state = State::Accepted;
            self.input = Vec::new();
            return Ok(true);
        }
    }
}

fn unless_full(result: io::Result<()>) -> Result<(), LoadError> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        other => Ok(other?),
    }
}
