//! One thread of the load: an event loop over its publishers and subscribers.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use super::publisher::Publisher;
use super::subscriber::{Arrival, Inbox, Mark, Subscriber};
use super::{Counters, Phase};
use crate::error::LoadError;
use crate::frames::Scratch;
use crate::packet::{self, Frame, Qos, Version, ack, first_byte};

/// After this long without a message while draining, the rest counts as lost; a disk may take its time.
const DRAIN_PATIENCE: Duration = Duration::from_secs(2);
const DRAIN_PATIENCE_DURABLE: Duration = Duration::from_secs(30);

const TIMER: Token = Token(usize::MAX);

/// What a worker keeps to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) version: Version,
    pub(crate) qos: Qos,
    /// Messages of one publisher between it and its slowest subscriber, at most.
    pub(crate) window: u64,
    /// QoS 1 and 2 messages that one publisher leaves unacknowledged, at most.
    pub(crate) acknowledge_window: u64,
    pub(crate) deliveries_per_message: u64,
    /// Nanoseconds between two messages of this worker in an open loop.
    pub(crate) interval_nanoseconds: Option<f64>,
    /// Each publisher stops after this many.
    pub(crate) messages_max: Option<u64>,
    /// Latency is recorded for sequence numbers that are 0 under this mask.
    pub(crate) sample_mask: u32,
    /// Whether one flow's messages go to different subscribers.
    pub(crate) is_sparse: bool,
    /// Whether the messages are somebody else's, so that they are counted and nothing is read in them.
    pub(crate) is_listening: bool,
    /// Whether nobody subscribes, so that the end of an exchange is what a publisher waits for.
    pub(crate) is_timed_by_exchange: bool,
    /// Whether exchanges are timed although somebody subscribes.
    pub(crate) is_exchange_timed: bool,
    /// Zero of all stamps.
    pub(crate) start: Instant,
}

/// What a worker saw over its whole life.
#[derive(Debug)]
pub(crate) struct WorkerOutcome {
    pub(crate) sent: u64,
    pub(crate) delivered: u64,
    pub(crate) lost: u64,
    pub(crate) repeated: u64,
    pub(crate) missing_at_end: u64,
    pub(crate) latency: Histogram<u64>,
    pub(crate) exchange: Histogram<u64>,
}

/// One event loop with its connections.
#[derive(Debug)]
pub(crate) struct Worker {
    rules: Rules,
    poll: Poll,
    publishers: Vec<Publisher>,
    subscribers: Vec<Subscriber>,
    timer: Option<OwnedFd>,
    /// Publishers that something happened to since they last sent.
    listed: Vec<usize>,
    counters: Arc<Counters>,
    outcome: WorkerOutcome,
    scratch: Scratch,
    /// Nanoseconds since `rules.start`, read once per event.
    now: u64,
    is_measuring: bool,
}

impl Worker {
    pub(crate) fn new(
        rules: Rules,
        counters: Arc<Counters>,
        mut publishers: Vec<Publisher>,
        mut subscribers: Vec<Subscriber>,
    ) -> Result<Self, LoadError> {
        let poll = Poll::new()?;
        let links = publishers.iter_mut().map(|p| &mut p.link);
        let links = links.chain(subscribers.iter_mut().map(|s| &mut s.link));
        for (index, link) in links.enumerate() {
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry()
                .register(link.socket(), Token(index), interest)?;
        }
        let timer = rules.interval_nanoseconds.map(timer).transpose()?;
        if let Some(timer) = &timer {
            let source = timer.as_raw_fd();
            poll.registry()
                .register(&mut SourceFd(&source), TIMER, Interest::READABLE)?;
        }
        let latency = Histogram::new_with_bounds(1, 60_000_000_000, 3);
        let latency = latency.map_err(|_| LoadError::Scenario("the histogram has no bounds"))?;
        let exchange = latency.clone();
        Ok(Self {
            rules,
            poll,
            publishers,
            subscribers,
            timer,
            listed: Vec::new(),
            counters,
            outcome: WorkerOutcome {
                sent: 0,
                delivered: 0,
                lost: 0,
                repeated: 0,
                missing_at_end: 0,
                latency,
                exchange,
            },
            scratch: Scratch::new(),
            now: 0,
            is_measuring: false,
        })
    }

    /// Runs until the phase says so and what is under way has arrived, or never will.
    pub(crate) fn run(mut self) -> Result<WorkerOutcome, LoadError> {
        let mut events = Events::with_capacity(1024);
        let mut last_progress = (0, Instant::now());
        self.list_all();
        loop {
            let phase = self.counters.phase();
            // Where a number of messages is the end, all of them count.
            self.is_measuring = phase == Phase::Measure || self.rules.messages_max.is_some();
            self.send(phase)?;
            self.outcome.sent = self.publishers.iter().map(|p| p.sent).sum();
            self.counters
                .publish(self.outcome.sent, self.outcome.delivered);
            if phase == Phase::Drain && self.rules.is_listening {
                break;
            }
            if phase == Phase::Drain || self.rules.messages_max.is_some() {
                let seen = self.outcome.delivered + self.outcome.sent;
                if last_progress.0 != seen {
                    last_progress = (seen, Instant::now());
                }
                let patience = if self.rules.is_exchange_timed {
                    DRAIN_PATIENCE_DURABLE
                } else {
                    DRAIN_PATIENCE
                };
                if self.is_finished(phase) || last_progress.1.elapsed() > patience {
                    break;
                }
            }
            let pause = if self.listed.is_empty() {
                Duration::from_millis(10)
            } else {
                Duration::ZERO
            };
            match self.poll.poll(&mut events, Some(pause)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            for event in &events {
                self.handle_event(event.token(), event.is_readable())?;
            }
        }
        self.outcome.missing_at_end = self.missing();
        if self.rules.is_timed_by_exchange {
            self.outcome.latency = self.outcome.exchange.clone();
        }
        for publisher in &mut self.publishers {
            publisher.push_control(&packet::DISCONNECT);
            publisher.flush()?;
        }
        for subscriber in &mut self.subscribers {
            subscriber.inbox.push_answer(&packet::DISCONNECT);
            subscriber.flush()?;
        }
        Ok(self.outcome)
    }

    fn handle_event(&mut self, token: Token, is_readable: bool) -> Result<(), LoadError> {
        self.now = nanoseconds_since(self.rules.start);
        if token == TIMER {
            let mut expirations = [0; 8];
            if let Some(timer) = &self.timer {
                // Only the wake counts; how often the timer fired follows from the clock.
                let _expired = rustix::io::read(timer, &mut expirations);
            }
            self.list_all();
            return Ok(());
        }
        let publishers = self.publishers.len();
        if token.0 < publishers {
            if is_readable {
                self.read_publisher(token.0)?;
            }
            list(&mut self.publishers, &mut self.listed, token.0);
            return Ok(());
        }
        self.read_subscriber(token.0 - publishers, is_readable)
    }

    fn read_publisher(&mut self, index: usize) -> Result<(), LoadError> {
        let Some(publisher) = self.publishers.get_mut(index) else {
            return Ok(());
        };
        let mut partial = std::mem::take(&mut publisher.partial);
        let mut closed = 0;
        let mut releases = Vec::new();
        let link = &mut publisher.link;
        let is_short_all = link.is_emptied_by_short_read();
        let result = self
            .scratch
            .read(link, is_short_all, &mut partial, |frame| {
                match frame.first {
                    first_byte::PUBACK | first_byte::PUBCOMP => closed += 1,
                    first_byte::PUBREC => {
                        let id = packet::packet_id(frame.body).ok_or(LoadError::Protocol)?;
                        releases.extend_from_slice(&ack(first_byte::PUBREL, id));
                    }
                    first_byte::DISCONNECT => return Err(LoadError::Closed),
                    _ => return Err(LoadError::Protocol),
                }
                Ok(())
            });
        publisher.partial = partial;
        publisher.unacknowledged = publisher.unacknowledged.saturating_sub(closed);
        // Acknowledgements keep the order of what they acknowledge. [MQTT-4.6.0-2]
        let ended = usize::try_from(closed).unwrap_or(usize::MAX);
        let ended = ended.min(publisher.begun.len());
        for begun in publisher.begun.drain(..ended) {
            if self.is_measuring {
                let exchange = &mut self.outcome.exchange;
                exchange.saturating_record(self.now.saturating_sub(begun));
            }
        }
        if !releases.is_empty() {
            publisher.push_control(&releases);
        }
        result
    }

    fn read_subscriber(&mut self, index: usize, is_readable: bool) -> Result<(), LoadError> {
        let Some(subscriber) = self.subscribers.get_mut(index) else {
            return Ok(());
        };
        if is_readable {
            let mut partial = std::mem::take(&mut subscriber.partial);
            let link = &mut subscriber.link;
            let is_short_all = link.is_emptied_by_short_read();
            let mut receiver = Receiver {
                rules: &self.rules,
                inbox: &mut subscriber.inbox,
                publishers: &mut self.publishers,
                listed: &mut self.listed,
                outcome: &mut self.outcome,
                now: self.now,
                is_measuring: self.is_measuring,
            };
            let result = self.scratch.read(link, is_short_all, &mut partial, |f| {
                receiver.handle_frame(f)
            });
            subscriber.partial = partial;
            result?;
        }
        Ok(subscriber.flush()?)
    }

    /// Lets every listed publisher send what its window, or the schedule, allows.
    fn send(&mut self, phase: Phase) -> Result<(), LoadError> {
        self.now = nanoseconds_since(self.rules.start);
        let all = self.publishers.len();
        let mut unstoppable = Vec::new();
        while let Some(index) = self.listed.pop() {
            let Some(publisher) = self.publishers.get_mut(index) else {
                continue;
            };
            publisher.is_listed = false;
            if publisher.is_blocked() {
                publisher.flush()?;
            }
            let may_send = phase != Phase::Drain;
            let due = if may_send {
                self.rules.due(publisher, index, all, self.now)
            } else {
                0
            };
            let count = publisher
                .room()
                .min(usize::try_from(due).unwrap_or(usize::MAX));
            let (rules, now) = (self.rules, self.now);
            let is_timed = (rules.is_timed_by_exchange || rules.is_exchange_timed)
                && rules.qos != Qos::AtMostOnce;
            publisher.push_messages(count, rules.qos, is_timed, |sequence| {
                rules.stamp(sequence, index, all, now)
            });
            publisher.flush()?;
            // Nothing that comes in would ever list it again.
            if rules.is_unanswered() && count > 0 && !publisher.is_blocked() {
                unstoppable.push(index);
            }
        }
        for index in unstoppable {
            list(&mut self.publishers, &mut self.listed, index);
        }
        Ok(())
    }

    fn list_all(&mut self) {
        for index in 0..self.publishers.len() {
            list(&mut self.publishers, &mut self.listed, index);
        }
    }

    fn is_finished(&self, phase: Phase) -> bool {
        let limit = self.rules.messages_max;
        let all_sent = phase == Phase::Drain
            || self
                .publishers
                .iter()
                .all(|p| limit.is_some_and(|limit| p.sent >= limit));
        let settled = |p: &Publisher| p.unacknowledged == 0 && !p.is_blocked();
        all_sent && self.publishers.iter().all(settled) && self.missing() == 0
    }

    /// Messages that did not arrive, or where nobody of ours receives any, that were not acknowledged.
    fn missing(&self) -> u64 {
        let each = self.rules.deliveries_per_message;
        if each == 0 {
            return self.publishers.iter().map(|p| p.unacknowledged).sum();
        }
        self.publishers
            .iter()
            .map(|p| (p.sent * each).saturating_sub(p.received))
            .sum()
    }
}

impl Rules {
    /// How many messages a publisher may send at this moment.
    fn due(&self, publisher: &Publisher, index: usize, all: usize, now: u64) -> u64 {
        let mut due = match self.interval_nanoseconds {
            Some(interval) => scheduled(now, index, all, interval).saturating_sub(publisher.sent),
            None if self.deliveries_per_message == 0 => self.window,
            None => {
                let arrived = match self.deliveries_per_message {
                    1 => publisher.received,
                    each => publisher.received / each,
                };
                self.window
                    .saturating_sub(publisher.sent.saturating_sub(arrived))
            }
        };
        if self.qos != Qos::AtMostOnce {
            due = due.min(
                self.acknowledge_window
                    .saturating_sub(publisher.unacknowledged),
            );
        }
        match self.messages_max {
            Some(limit) => due.min(limit.saturating_sub(publisher.sent)),
            None => due,
        }
    }

    /// Whether only the socket holds a publisher back.
    const fn is_unanswered(&self) -> bool {
        self.is_timed_by_exchange
            && matches!(self.qos, Qos::AtMostOnce)
            && self.interval_nanoseconds.is_none()
    }

    /// The stamp of a message: when it leaves, or in an open loop when it should have left.
    fn stamp(&self, sequence: u64, index: usize, all: usize, now: u64) -> u64 {
        match self.interval_nanoseconds {
            Some(interval) => schedule_time(sequence, index, all, interval),
            None => now,
        }
    }
}

/// How many messages publisher `index` of `all` should have sent at `now`: they take turns, `interval` apart.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a schedule of some minutes in nanoseconds is exact in 53 bits and never negative"
)]
fn scheduled(now: u64, index: usize, all: usize, interval: f64) -> u64 {
    let turns = now as f64 / interval - index as f64;
    if turns < 0.0 {
        0
    } else {
        (turns / all as f64) as u64 + 1
    }
}

/// When message `sequence` of publisher `index` of `all` is to be sent.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a schedule of some minutes in nanoseconds is exact in 53 bits and never negative"
)]
fn schedule_time(sequence: u64, index: usize, all: usize, interval: f64) -> u64 {
    ((sequence as f64 * all as f64 + index as f64) * interval) as u64
}

/// What the frames of one subscriber change.
struct Receiver<'a> {
    rules: &'a Rules,
    inbox: &'a mut Inbox,
    publishers: &'a mut Vec<Publisher>,
    listed: &'a mut Vec<usize>,
    outcome: &'a mut WorkerOutcome,
    now: u64,
    is_measuring: bool,
}

impl Receiver<'_> {
    #[inline]
    fn handle_frame(&mut self, frame: &Frame<'_>) -> Result<(), LoadError> {
        match frame.first & 0xF0 {
            first_byte::PUBLISH => self.handle_publish(frame),
            0x60 => {
                let id = packet::packet_id(frame.body).ok_or(LoadError::Protocol)?;
                self.inbox.push_answer(&ack(first_byte::PUBCOMP, id));
                Ok(())
            }
            first_byte::DISCONNECT => Err(LoadError::Closed),
            _ => Err(LoadError::Protocol),
        }
    }

    #[inline]
    fn handle_publish(&mut self, frame: &Frame<'_>) -> Result<(), LoadError> {
        let parts = packet::publish_parts(self.rules.version, frame).ok_or(LoadError::Protocol)?;
        match parts.qos {
            0 => {}
            1 => self.inbox.push_answer(&ack(first_byte::PUBACK, parts.id)),
            _ => self.inbox.push_answer(&ack(first_byte::PUBREC, parts.id)),
        }
        if self.rules.is_listening {
            self.outcome.delivered += 1;
            return Ok(());
        }
        let mark = Mark::parse(parts.payload).ok_or(LoadError::Protocol)?;
        let arrival = self.inbox.arrive(mark, self.rules.is_sparse);
        let Arrival::After { missing } = arrival.ok_or(LoadError::Protocol)? else {
            self.outcome.repeated += 1;
            return Ok(());
        };
        self.outcome.delivered += 1;
        self.outcome.lost += u64::from(missing);
        let index = usize::try_from(mark.flow).map_err(|_| LoadError::Protocol)?;
        let publisher = self.publishers.get_mut(index).ok_or(LoadError::Protocol)?;
        publisher.received += 1 + u64::from(missing);
        list(self.publishers, self.listed, index);
        if self.is_measuring && mark.sequence & self.rules.sample_mask == 0 {
            self.outcome
                .latency
                .saturating_record(self.now.saturating_sub(mark.stamp));
        }
        Ok(())
    }
}

#[inline]
fn list(publishers: &mut [Publisher], listed: &mut Vec<usize>, index: usize) {
    if let Some(publisher) = publishers.get_mut(index)
        && !publisher.is_listed
    {
        publisher.is_listed = true;
        listed.push(index);
    }
}

/// A timer that fires as often as the schedule has something new, but not more than every 50 µs.
fn timer(interval: f64) -> Result<OwnedFd, LoadError> {
    let period = Duration::from_nanos(1).mul_f64(interval.clamp(50_000.0, 1_000_000.0));
    let period = Timespec {
        tv_sec: 0,
        tv_nsec: i64::from(period.subsec_nanos()),
    };
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK)?;
    let spec = Itimerspec {
        it_interval: period,
        it_value: period,
    };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &spec)?;
    Ok(timer)
}

fn nanoseconds_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishers_of_an_open_loop_take_turns() {
        let interval = 1_000.0;
        let at = |now| {
            (0..3)
                .map(|i| scheduled(now, i, 3, interval))
                .collect::<Vec<_>>()
        };
        assert_eq!(at(0), [1, 0, 0]);
        assert_eq!(at(1_000), [1, 1, 0]);
        assert_eq!(at(2_999), [1, 1, 1]);
        assert_eq!(at(3_000), [2, 1, 1]);
        assert_eq!(schedule_time(1, 0, 3, interval), 3_000);
        assert_eq!(schedule_time(0, 2, 3, interval), 2_000);
    }
}
