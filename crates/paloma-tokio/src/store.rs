//! The thread of a store that blocks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{io, mem, thread};

use paloma_broker::store::{
    LoadRequest, Loaded, MessageId, Rested, SessionId, Space, Store, StoreBatch, StoreError,
    StoreOp,
};
use paloma_broker::{Reply, StoreStatistics};

use crate::failure::Failure;
use crate::shared::Shared;

/// Most batches, and bytes of batches, in one commit; a batch alone may be larger.
const GROUP_MAX: usize = 4_096;
const GROUP_BYTES_MAX: u64 = 8 * 1_024 * 1_024;

/// How long what nobody waits for waits for company: acknowledgements from subscribers above all, which ride along with the
/// next message's commit.
const RIDE_ALONG: Duration = Duration::from_millis(20);

/// Who was answered by one commit is likely to send again at once. The next commit waits for as many as had waited for the last
/// one, but only for a fraction of what a commit takes, and not at all where that is too short to be slept.
const GATHER_FRACTION: u32 = 8;
const GATHER_MIN: Duration = Duration::from_micros(50);
const GATHER_MAX: Duration = Duration::from_millis(1);

/// How often a store that is full is looked after, unless it says otherwise.
const FULL_REST: Duration = Duration::from_secs(1);

#[derive(Debug)]
enum Job {
    Commit(StoreBatch),
    Load(LoadRequest),
}

/// The way to the store's thread. Its length is bounded by the core, which stops reading publishers when
/// `uncommitted_bytes_max` bytes wait, and asks for one part of a session's queue at a time.
#[derive(Clone, Debug, Default)]
pub(crate) struct StoreQueue(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
    statistics: Mutex<StoreStatistics>,
    memory_bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    jobs: Vec<Job>,
    /// Bytes of their batches.
    bytes: u64,
    /// How many of them somebody waits for.
    awaited: usize,
    /// When those that nobody waits for are committed at the latest.
    ride_by: Option<Instant>,
    is_closed: bool,
    /// While the thread waits: with so many jobs that somebody waits for it is woken. 0 while it has something to do.
    wakes_at: usize,
    /// Until when it waits at most.
    waits_until: Option<Instant>,
}

/// Why the thread stopped waiting.
enum Woken {
    /// With jobs that somebody waits for, or that have waited for long enough.
    Jobs(Vec<Job>),
    TimeToRest,
    Closed,
}

impl State {
    /// Adds a job; true if the thread has to be woken for it.
    fn push(&mut self, job: Job) -> bool {
        let mut is_urgent = false;
        match &job {
            Job::Commit(batch) => {
                self.bytes = self.bytes.saturating_add(batch.bytes);
                if batch.is_awaited {
                    self.awaited += 1;
                } else if self.ride_by.is_none() {
                    self.ride_by = Some(Instant::now() + RIDE_ALONG);
                }
            }
            Job::Load(_) => {
                self.awaited += 1;
                is_urgent = true;
            }
        }
        self.jobs.push(job);
        let is_wanted = is_urgent || self.awaited >= self.wakes_at || self.is_large();
        let would_be_late =
            (self.ride_by).is_some_and(|by| self.waits_until.is_none_or(|until| until > by));
        let has_to_wake = self.wakes_at > 0 && (is_wanted || would_be_late);
        if has_to_wake {
            self.wakes_at = 0;
        }
        has_to_wake
    }

    /// Whether there is enough for a commit of its own.
    fn is_large(&self) -> bool {
        self.jobs.len() >= GROUP_MAX || self.bytes >= GROUP_BYTES_MAX
    }

    fn is_due(&self) -> bool {
        let is_late = || self.ride_by.is_some_and(|by| by <= Instant::now());
        self.awaited > 0 || self.is_large() || is_late()
    }

    fn take(&mut self) -> Vec<Job> {
        self.bytes = 0;
        self.awaited = 0;
        self.ride_by = None;
        mem::take(&mut self.jobs)
    }
}

impl StoreQueue {
    /// Adds a batch; true if [`wake`](Self::wake) has to be called then, where no lock is held.
    #[must_use]
    pub(crate) fn commit(&self, batch: StoreBatch) -> bool {
        self.state().push(Job::Commit(batch))
    }

    /// Like [`commit`](Self::commit).
    #[must_use]
    pub(crate) fn load(&self, request: LoadRequest) -> bool {
        self.state().push(Job::Load(request))
    }

    /// Wakes the thread.
    pub(crate) fn wake(&self) {
        self.0.changed.notify_one();
    }

    /// Lets the thread end once it has done what it was given.
    pub(crate) fn close(&self) {
        self.state().is_closed = true;
        self.0.changed.notify_one();
    }

    /// What the store has done so far.
    pub(crate) fn statistics(&self) -> StoreStatistics {
        self.figures().clone()
    }

    /// Memory that the store holds, as it was when it rested last.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.0.memory_bytes.load(Ordering::Relaxed)
    }

    /// All that waits, as soon as somebody waits for some of it or it has waited for long enough.
    fn take(&self, rest_after: Option<Duration>, has_riders: bool) -> Woken {
        let begun = Instant::now();
        let rest_at = rest_after.map(|after| begun + after);
        // Where some came before, more will: they need not wake anybody.
        let look_at = has_riders.then(|| begun + RIDE_ALONG);
        let mut state = self.state();
        loop {
            state.wakes_at = 0;
            if state.is_due() || state.is_closed && !state.jobs.is_empty() {
                return Woken::Jobs(state.take());
            }
            if state.is_closed {
                return Woken::Closed;
            }
            let now = Instant::now();
            if rest_at.is_some_and(|at| at <= now) {
                return Woken::TimeToRest;
            }
            let look_at = look_at.filter(|at| *at > now);
            let until = [rest_at, state.ride_by, look_at];
            let until = until.into_iter().flatten().min();
            state.wakes_at = 1;
            state.waits_until = until;
            state = match until {
                Some(until) => {
                    let left = until.saturating_duration_since(now);
                    let waited = self.0.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => (self.0.changed.wait(state)).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// What comes until somebody waits for so many, or one is urgent, or the time is over.
    fn gather(&self, wanted: usize, until: Instant) -> Vec<Job> {
        let mut state = self.state();
        let is_urgent = |job: &Job| matches!(job, Job::Load(_));
        while state.awaited < wanted
            && !state.is_large()
            && !state.jobs.iter().any(is_urgent)
            && !state.is_closed
        {
            state.wakes_at = wanted;
            state.waits_until = Some(until);
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.0.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.wakes_at = 0;
        state.take()
    }

    /// Waits for a while; true if the queue was closed meanwhile.
    fn pause(&self, pause: Duration) -> bool {
        let waited =
            (self.0.changed).wait_timeout_while(self.state(), pause, |state| !state.is_closed);
        waited.unwrap_or_else(PoisonError::into_inner).0.is_closed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn figures(&self) -> MutexGuard<'_, StoreStatistics> {
        (self.0.statistics.lock()).unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the thread. It ends when the queue is closed, or with the store's first error.
pub(crate) fn spawn(
    queue: StoreQueue,
    store: Box<dyn Store>,
    shared: &Arc<Shared>,
) -> io::Result<JoinHandle<()>> {
    let shared = Arc::downgrade(shared);
    thread::Builder::new()
        .name("paloma-store".to_owned())
        .spawn(move || {
            let mut worker = Worker::new(queue, store, shared);
            let outcome = catch_unwind(AssertUnwindSafe(|| worker.run()));
            let failure = match outcome {
                Ok(Ok(())) => return,
                Ok(Err(error)) => Failure::Store(Arc::new(error)),
                Err(_) => Failure::Panicked,
            };
            if let Some(shared) = worker.shared.upgrade() {
                shared.fail(failure);
            }
        })
}

struct Worker {
    queue: StoreQueue,
    store: Box<dyn Store>,
    shared: Weak<Shared>,
    group: Vec<StoreBatch>,
    group_bytes: u64,
    /// Batches of the group that somebody waits for.
    awaited: usize,
    /// The same of the last group that had any.
    company: usize,
    /// What a commit takes, on a moving average.
    commit_time: Duration,
    /// When a group that nobody waits for, and that a read has left, is committed at the latest.
    commit_by: Option<Instant>,
    /// Whether the last group had batches that nobody waited for.
    has_riders: bool,
    /// What the core was told last.
    space: Space,
    /// Messages that could not be read, as far as the log says so.
    unreadable: u64,
}

impl Worker {
    fn new(queue: StoreQueue, store: Box<dyn Store>, shared: Weak<Shared>) -> Self {
        Self {
            queue,
            unreadable: store.usage().unreadable,
            store,
            shared,
            group: Vec::new(),
            group_bytes: 0,
            awaited: 0,
            company: 0,
            commit_time: Duration::ZERO,
            commit_by: None,
            has_riders: false,
            space: Space::Free,
        }
    }

    /// Commits all that waits as one group; a read comes after everything that was queued before it.
    fn run(&mut self) -> Result<(), StoreError> {
        loop {
            let rest_after = self.rest()?;
            let now = Instant::now();
            let commit_after = self.commit_by.map(|at| at.saturating_duration_since(now));
            let rest_after = rest_after.into_iter().chain(commit_after).min();
            match self.queue.take(rest_after, self.has_riders) {
                Woken::Jobs(jobs) => self.work(jobs)?,
                Woken::TimeToRest if self.commit_by.is_some_and(|at| at <= Instant::now()) => {
                    self.commit()?;
                }
                Woken::TimeToRest => {}
                Woken::Closed => {
                    self.commit()?;
                    return self.store.close();
                }
            }
        }
    }

    fn work(&mut self, jobs: Vec<Job>) -> Result<(), StoreError> {
        let has_read = jobs.iter().any(|job| matches!(job, Job::Load(_)));
        self.take_in(jobs)?;
        if self.awaited > 0 {
            self.gather()?;
        } else if has_read {
            if self.group.is_empty() {
                return Ok(());
            }
            // Who reads all the time never leaves the thread without a job: the group would grow, and each read looks through it.
            let now = Instant::now();
            if *self.commit_by.get_or_insert(now + RIDE_ALONG) > now {
                return Ok(());
            }
        }
        self.commit()
    }

    /// Waits a little for those who are about to wait for the same commit.
    fn gather(&mut self) -> Result<(), StoreError> {
        let patience = self.commit_time / GATHER_FRACTION;
        if patience < GATHER_MIN {
            return Ok(());
        }
        let until = Instant::now() + patience.min(GATHER_MAX);
        while self.awaited > 0 && self.awaited < self.company {
            let jobs = self.queue.gather(self.company - self.awaited, until);
            if jobs.is_empty() {
                break;
            }
            self.take_in(jobs)?;
        }
        Ok(())
    }

    /// Adds to the group, and reads.
    fn take_in(&mut self, jobs: Vec<Job>) -> Result<(), StoreError> {
        for job in jobs {
            match job {
                Job::Commit(batch) => {
                    let bytes = self.group_bytes.saturating_add(batch.bytes);
                    if self.group.len() >= GROUP_MAX || bytes > GROUP_BYTES_MAX {
                        self.commit()?;
                    }
                    self.group_bytes = self.group_bytes.saturating_add(batch.bytes);
                    self.awaited += usize::from(batch.is_awaited);
                    self.group.push(batch);
                }
                Job::Load(request) => {
                    let loaded = self.read(&request)?;
                    self.reply(Reply::Loaded(loaded));
                }
            }
        }
        Ok(())
    }

    /// Reads the next part of a queue as it is with everything that was queued before. What is committed is often enough, so
    /// that one long queue does not cut everybody's groups short.
    fn read(&mut self, request: &LoadRequest) -> Result<Loaded, StoreError> {
        if let Some(before) = committed_before(&self.group, request) {
            let mut loaded = self.read_queue(request)?;
            loaded
                .entries
                .retain(|(entry, _)| before.is_none_or(|before| entry.message < before));
            if !loaded.entries.is_empty() {
                return Ok(loaded);
            }
        }
        self.commit()?;
        self.read_queue(request)
    }

    fn read_queue(&mut self, request: &LoadRequest) -> Result<Loaded, StoreError> {
        loop {
            match self.store.read_queue(request) {
                Err(StoreError::Full) => self.wait_for_room()?,
                outcome => return outcome,
            }
        }
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        self.commit_by = None;
        let awaited = mem::take(&mut self.awaited);
        if awaited > 0 {
            self.company = awaited;
        }
        if self.group.is_empty() {
            return Ok(());
        }
        let batches = self.group.len() as u64;
        self.has_riders = self.group.len() > awaited;
        let operations = self.group.iter().map(|batch| batch.ops.len() as u64).sum();
        let begun = Instant::now();
        let committed = loop {
            match self.store.commit(&mut self.group) {
                Ok(committed) => break committed,
                // Nothing of it was kept, and nothing is acknowledged until it is.
                Err(StoreError::Full) => self.wait_for_room()?,
                Err(error) => return Err(error),
            }
        };
        let elapsed = begun.elapsed();
        self.commit_time = (self.commit_time * 3 + elapsed) / 4;
        self.queue.figures().note_commit(
            (batches, operations),
            mem::take(&mut self.group_bytes),
            elapsed,
        );
        self.group.clear();
        let reply = Reply::Committed(committed.seq);
        if awaited == 1 {
            self.reply_and_flush(reply);
        } else {
            self.reply(reply);
        }
        self.tell(committed.space);
        Ok(())
    }

    /// The medium had no room even for what was already taken in. A broker that is stopping does not wait for ever.
    fn wait_for_room(&mut self) -> Result<(), StoreError> {
        self.tell(Space::Full);
        if self.queue.pause(FULL_REST) {
            return Err(StoreError::Full);
        }
        Ok(())
    }

    /// Has the store do what is to be done while nothing waits, and says when again.
    fn rest(&mut self) -> Result<Option<Duration>, StoreError> {
        let rested = match self.store.rest() {
            Ok(rested) => rested,
            Err(StoreError::Full) => Rested {
                space: Space::Full,
                again_after: None,
            },
            Err(error) => return Err(error),
        };
        self.tell(rested.space);
        let usage = self.store.usage();
        if usage.unreadable > self.unreadable {
            // Messages are not read at the start, and so not missed then.
            let count = usage.unreadable - self.unreadable;
            tracing::error!(count, what = "messages", "lost from the store");
            self.unreadable = usage.unreadable;
        }
        self.queue.figures().usage = usage;
        let memory_bytes = self.store.memory_bytes();
        (self.queue.0.memory_bytes).store(memory_bytes, Ordering::Relaxed);
        let if_full = (rested.space == Space::Full).then_some(FULL_REST);
        Ok(rested.again_after.or(if_full))
    }

    fn tell(&mut self, space: Space) {
        if mem::replace(&mut self.space, space) == space {
            return;
        }
        match space {
            Space::Full => tracing::warn!(
                "the store is full: what would have to be stored is refused until there is room"
            ),
            Space::Free => tracing::info!("the store has room again"),
        }
        self.reply(Reply::Space(space));
    }

    fn reply_and_flush(&self, reply: Reply) {
        if let Some(shared) = self.shared.upgrade() {
            shared.reply_and_flush(reply);
        }
    }

    fn reply(&self, reply: Reply) {
        if let Some(shared) = self.shared.upgrade() {
            shared.reply(reply);
        }
    }
}

/// What a group that is not committed does to the answer to a request. `None`: it may be any. Otherwise entries below the
/// message, all of them if there is none, are what they will be after the commit: the group only adds behind them, and
/// takes away what was asked for before.
fn committed_before(group: &[StoreBatch], request: &LoadRequest) -> Option<Option<MessageId>> {
    let mut before: Option<MessageId> = None;
    for op in group.iter().flat_map(|batch| &batch.ops) {
        match touched(op) {
            Touched::Nothing => {}
            Touched::Session(session) if session != request.session => {}
            Touched::Session(_) => return None,
            Touched::Entry(session, _) | Touched::Added(session, _)
                if session != request.session => {}
            Touched::Entry(_, message) if message <= request.after => {}
            Touched::Entry(..) => return None,
            // Not what is asked for: its fan-out took so long that it went into memory.
            Touched::Added(_, message) if message <= request.after => {}
            Touched::Added(_, message) => {
                before = Some(before.map_or(message, |before| before.min(message)));
            }
        }
    }
    Some(before)
}

/// What of the queues an op changes.
enum Touched {
    Nothing,
    Added(SessionId, MessageId),
    Entry(SessionId, MessageId),
    /// All of a session's.
    Session(SessionId),
}

fn touched(op: &StoreOp) -> Touched {
    match op {
        StoreOp::Enqueue(session, entry) => Touched::Added(*session, entry.message),
        StoreOp::Dequeue(session, message)
        | StoreOp::Assign(session, message, _)
        | StoreOp::MarkReceived(session, message, _) => Touched::Entry(*session, *message),
        StoreOp::DeleteSession(session) => Touched::Session(*session),
        StoreOp::PutMessage(_)
        | StoreOp::PutSession(..)
        | StoreOp::PutReceived(..)
        | StoreOp::DeleteReceived(..)
        | StoreOp::PutSubscription(..)
        | StoreOp::DeleteSubscription(..)
        | StoreOp::PutWill(..)
        | StoreOp::DeleteWill(_)
        | StoreOp::PutRetained(_)
        | StoreOp::DeleteRetained(_)
        | StoreOp::PutFanOut(_)
        | StoreOp::AdvanceFanOut(..)
        | StoreOp::DeleteFanOut(_) => Touched::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use paloma_broker::store::{MemoryStore, QueueEntry};
    use paloma_codec::{Message, MessageParts, PacketId, PublishProperties, Qos};
    use paloma_topic::TopicNameRef;

    const SESSION: SessionId = SessionId(7);
    const OTHER: SessionId = SessionId(8);

    #[test]
    fn company_is_waited_for_until_it_is_there() {
        let check = |jobs: Vec<Job>, wanted| {
            let queue = StoreQueue::default();
            let pushing = queue.clone();
            let count = jobs.len();
            let pusher = thread::spawn(move || {
                for job in jobs {
                    push(&pushing, job);
                }
            });
            // Nothing but its company, or what is urgent, ends this wait.
            let until = Instant::now() + Duration::from_secs(3_600);
            let mut seen = queue.gather(wanted, until).len();
            pusher.join().expect("it only pushes");
            seen += queue.gather(0, until).len();
            assert_eq!(seen, count);
        };
        check(vec![batch(true), batch(true), batch(true)], 2);
        check(vec![batch(true), Job::Load(request())], 5);
        // Nobody waits for the first ones.
        check(vec![batch(false), batch(false), batch(true)], 1);
    }

    /// As a turn does.
    fn push(queue: &StoreQueue, job: Job) {
        if queue.state().push(job) {
            queue.wake();
        }
    }

    fn batch(is_awaited: bool) -> Job {
        Job::Commit(StoreBatch {
            is_awaited,
            ..StoreBatch::default()
        })
    }

    #[test]
    fn what_nobody_waits_for_wakes_only_who_would_come_too_late() {
        let soon = Instant::now() + RIDE_ALONG / 2;
        let late = Instant::now() + RIDE_ALONG * 1_000;
        let check = |waits_until, job, has_to_wake| {
            let mut state = State {
                wakes_at: 1,
                waits_until,
                ..State::default()
            };
            assert_eq!(state.push(job), has_to_wake);
            // Who is awake already looks by itself.
            assert!(!State::default().push(batch(true)));
            assert_eq!(state.wakes_at, u8::from(!has_to_wake).into());
        };
        check(Some(soon), batch(false), false);
        check(Some(late), batch(false), true);
        check(None, batch(false), true);
        check(Some(soon), batch(true), true);
        check(Some(soon), Job::Load(request()), true);
    }

    #[test]
    fn what_nobody_waits_for_rides_along_or_goes_in_its_time() {
        let queue = StoreQueue::default();
        let begun = Instant::now();
        push(&queue, batch(false));
        let Woken::Jobs(jobs) = queue.take(None, true) else {
            panic!("something waits");
        };
        assert!(jobs.len() == 1 && begun.elapsed() >= RIDE_ALONG);
        push(&queue, batch(false));
        push(&queue, batch(true));
        let hour = Some(Duration::from_secs(3_600));
        assert!(matches!(queue.take(hour, false), Woken::Jobs(jobs) if jobs.len() == 2));
        assert!(matches!(
            queue.take(Some(Duration::ZERO), true),
            Woken::TimeToRest
        ));
        // A full group does not wait.
        for _ in 0..GROUP_MAX {
            push(&queue, batch(false));
        }
        assert!(matches!(queue.take(hour, false), Woken::Jobs(jobs) if jobs.len() == GROUP_MAX));
    }

    #[test]
    fn who_always_reads_keeps_nothing_from_its_commit() {
        let store = Box::new(MemoryStore::default());
        let mut worker = Worker::new(StoreQueue::default(), store, Weak::new());
        // A read that finds nothing has everything committed first.
        let waiting = StoreBatch {
            ops: vec![StoreOp::PutMessage(message(11)), added(SESSION, 11)],
            is_awaited: true,
            ..StoreBatch::default()
        };
        let queued = worker.work(vec![Job::Commit(waiting)]);
        queued.expect("memory does not fail");
        let mut check = |commit_by, left| {
            worker.commit_by = commit_by;
            let jobs = vec![batch(false), Job::Load(request())];
            worker.work(jobs).expect("memory does not fail");
            assert_eq!(worker.group.len(), left);
        };
        let hour = Duration::from_secs(3_600);
        check(Some(Instant::now() + hour), 1);
        check(Some(Instant::now() + hour), 2);
        check(Some(Instant::now()), 0);
    }

    #[test]
    fn a_closed_queue_keeps_nobody_waiting() {
        let queue = StoreQueue::default();
        queue.close();
        let until = Instant::now() + Duration::from_secs(3_600);
        assert!(queue.gather(2, until).is_empty());
    }

    fn request() -> LoadRequest {
        LoadRequest {
            session: SESSION,
            after: MessageId(10),
            count: 100,
            bytes: 1_000,
        }
    }

    fn message(id: u64) -> Message {
        let parts = MessageParts {
            id,
            stamp: 1,
            topic: TopicNameRef::new("a/b").expect("it is one"),
            properties: &PublishProperties::default(),
            payload: b"1",
        };
        Message::new(&parts, &mut Vec::new()).expect("it is short")
    }

    /// A request behind message 10 beside a group of these ops.
    fn check(ops: Vec<StoreOp>, expected: Option<Option<u64>>) {
        let batches = ops.into_iter().map(|op| StoreBatch {
            ops: vec![op],
            ..StoreBatch::default()
        });
        let group: Vec<StoreBatch> = batches.collect();
        let expected = expected.map(|before| before.map(MessageId));
        assert_eq!(committed_before(&group, &request()), expected);
    }

    fn added(session: SessionId, message: u64) -> StoreOp {
        let entry = QueueEntry {
            message: MessageId(message),
            bytes: 1,
            qos: Qos::AtLeastOnce,
            retain: false,
            subscription_ids: Vec::new(),
            share: None,
        };
        StoreOp::Enqueue(session, entry)
    }

    #[test]
    fn a_group_that_adds_leaves_what_is_before_it() {
        check(vec![], Some(None));
        check(vec![added(OTHER, 11)], Some(None));
        check(vec![added(SESSION, 40), added(SESSION, 30)], Some(Some(30)));
        check(vec![added(SESSION, 9), added(SESSION, 30)], Some(Some(30)));
    }

    #[test]
    fn what_was_loaded_before_may_go() {
        let packet = PacketId::new(1).expect("it is one");
        let ops = vec![
            StoreOp::Dequeue(SESSION, MessageId(10)),
            StoreOp::Assign(SESSION, MessageId(3), packet),
            StoreOp::Dequeue(OTHER, MessageId(11)),
            StoreOp::DeleteSession(OTHER),
        ];
        check(ops, Some(None));
    }

    #[test]
    fn a_group_that_takes_away_what_is_asked_for_comes_first() {
        check(vec![StoreOp::Dequeue(SESSION, MessageId(11))], None);
        check(vec![StoreOp::DeleteSession(SESSION)], None);
    }
}
