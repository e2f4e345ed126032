//! Two clients that exchange messages at a fixed rate while others misbehave.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use paloma_interop::PATIENCE;
use paloma_interop::peer::Version::{V5, V311};
use paloma_interop::raw::RawClient;
use paloma_interop::wire;

/// Time between two messages.
const BEAT: Duration = Duration::from_millis(5);

/// The sequence number that ends it.
const LAST: u64 = u64::MAX;

/// Nanoseconds, up to a minute.
pub(crate) type Latency = Histogram<u64>;

/// An empty histogram of latencies.
pub(crate) fn latency() -> Latency {
    Histogram::new_with_bounds(1_000, 60_000_000_000, 3).expect("the bounds make sense")
}

/// A QoS 1 publisher and subscriber, each in threads of its own.
#[derive(Debug)]
pub(crate) struct Canary {
    stop: Arc<AtomicBool>,
    recorded: Arc<Mutex<Latency>>,
    publisher: JoinHandle<Result<u64, String>>,
    acknowledged: JoinHandle<u64>,
    subscriber: JoinHandle<Heard>,
}

/// What the subscriber got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Heard {
    received: u64,
    repeated: u64,
    last_seen: bool,
}

/// What became of all messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Song {
    /// Messages published.
    pub sent: u64,
    /// Messages that never came.
    pub lost: u64,
    /// Messages that came again or out of order.
    pub repeated: u64,
    /// Messages whose PUBACK never came.
    pub unacknowledged: u64,
    /// Why it ended early, if it did.
    pub failure: Option<String>,
}

impl Song {
    /// Whether nothing at all was amiss.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.lost == 0 && self.repeated == 0 && self.unacknowledged == 0 && self.failure.is_none()
    }
}

impl Canary {
    /// Connects both and starts.
    pub(crate) fn start(address: SocketAddr) -> std::io::Result<Self> {
        let mut subscriber = RawClient::connect(address, V5, "canary-subscriber");
        subscriber.subscribe(&[("canary/song", 1)]);
        // 3.1.1, which has no Receive Maximum: the rate holds even while the broker is late.
        let publisher = RawClient::connect(address, V311, "canary-publisher");
        let sender = publisher.sender()?;
        let stop = Arc::new(AtomicBool::new(false));
        let recorded = Arc::new(Mutex::new(latency()));
        let start = Instant::now();
        let stopped = Arc::clone(&stop);
        let record = Arc::clone(&recorded);
        Ok(Self {
            stop,
            recorded,
            publisher: thread::spawn(move || publish(sender, start, &stopped)),
            acknowledged: thread::spawn(move || count_acknowledgements(publisher)),
            subscriber: thread::spawn(move || listen(subscriber, start, &record)),
        })
    }

    /// The latencies since the last call.
    pub(crate) fn take(&self) -> Latency {
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *recorded, latency())
    }

    /// Sends the last message, and waits for what is on its way.
    pub(crate) fn stop(self) -> Song {
        self.stop.store(true, Ordering::SeqCst);
        let died = || "a thread of the canary's panicked".to_owned();
        let published = self.publisher.join().unwrap_or_else(|_| Err(died()));
        let heard = self.subscriber.join().unwrap_or_default();
        let acknowledged = self.acknowledged.join().unwrap_or(0);
        let (sent, mut failure) = match published {
            Ok(sent) => (sent, None),
            Err(why) => (heard.received, Some(why)),
        };
        if failure.is_none() && !heard.last_seen {
            failure = Some("the subscriber's connection ended, or fell silent".to_owned());
        }
        Song {
            sent,
            lost: sent.saturating_sub(heard.received),
            repeated: heard.repeated,
            unacknowledged: sent.saturating_sub(acknowledged),
            failure,
        }
    }
}

/// Publishes by the clock; a message carries its number and the time when it was due.
fn publish(
    mut sender: std::net::TcpStream,
    start: Instant,
    stop: &AtomicBool,
) -> Result<u64, String> {
    let mut sent: u64 = 0;
    let mut due = start;
    loop {
        let last = stop.load(Ordering::SeqCst);
        let number = if last { LAST } else { sent };
        let stamp = due.duration_since(start).as_nanos() as u64;
        let payload = [number.to_be_bytes(), stamp.to_be_bytes()].concat();
        let id = (sent % 60_000 + 1) as u16;
        let packet = wire::publish(V311, 1, id, "canary/song", &payload);
        sender
            .write_all(&packet)
            .map_err(|error| format!("the publisher cannot send: {error}"))?;
        if last {
            return Ok(sent);
        }
        sent += 1;
        due += BEAT;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

/// Counts PUBACKs until there are none for a while after the last message, whose own is left out.
fn count_acknowledgements(mut publisher: RawClient) -> u64 {
    let mut count: u64 = 0;
    // Messages come every few milliseconds: silence means that the last one was sent.
    while let Some(Some(frame)) = publisher.frame_within(Duration::from_secs(5)) {
        count += u64::from(frame.first == wire::PUBACK);
    }
    count.saturating_sub(1)
}

fn listen(mut subscriber: RawClient, start: Instant, recorded: &Mutex<Latency>) -> Heard {
    let mut heard = Heard::default();
    let mut next = 0;
    while let Some(Some(frame)) = subscriber.frame_within(PATIENCE) {
        let Some(publish) = frame.publish(V5) else {
            continue;
        };
        let Some((number, stamp)) = read(&publish.payload) else {
            continue;
        };
        let late = (start.elapsed().as_nanos() as u64).saturating_sub(stamp);
        if subscriber
            .try_send(&wire::ack(wire::PUBACK, publish.id))
            .is_err()
        {
            return heard;
        }
        if number == LAST {
            heard.last_seen = true;
            return heard;
        }
        if number < next {
            heard.repeated += 1;
            continue;
        }
        next = number + 1;
        heard.received += 1;
        recorded
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .saturating_record(late);
    }
    heard
}

fn read(payload: &[u8]) -> Option<(u64, u64)> {
    let (number, rest) = payload.split_first_chunk()?;
    let stamp = rest.first_chunk()?;
    Some((u64::from_be_bytes(*number), u64::from_be_bytes(*stamp)))
}
