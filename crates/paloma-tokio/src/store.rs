//! The thread of a store that blocks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{io, mem, thread};

use paloma_broker::store::{LoadRequest, Rested, Space, Store, StoreBatch, StoreError};
use paloma_broker::{Reply, StoreStatistics};

use crate::failure::Failure;
use crate::shared::Shared;

/// Most batches, and bytes of batches, in one commit; a batch alone may be larger.
const GROUP_MAX: usize = 4_096;
const GROUP_BYTES_MAX: u64 = 8 * 1_024 * 1_024;

/// How long what nobody waits for waits for company: acknowledgements from subscribers above all, which ride along with the
/// next message's commit.
const RIDE_ALONG: Duration = Duration::from_millis(20);

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
    is_closed: bool,
}

/// Why the thread stopped waiting.
enum Woken {
    Jobs(Vec<Job>),
    TimeToRest,
    Closed,
}

impl StoreQueue {
    pub(crate) fn commit(&self, batch: StoreBatch) {
        self.push(Job::Commit(batch));
    }

    pub(crate) fn load(&self, request: LoadRequest) {
        self.push(Job::Load(request));
    }

    fn push(&self, job: Job) {
        self.state().jobs.push(job);
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

    /// All that waits, as soon as something does.
    fn take(&self, rest_after: Option<Duration>) -> Woken {
        let rest_at = rest_after.map(|after| Instant::now() + after);
        let mut state = self.state();
        loop {
            if !state.jobs.is_empty() {
                return Woken::Jobs(mem::take(&mut state.jobs));
            }
            if state.is_closed {
                return Woken::Closed;
            }
            let Some(rest_at) = rest_at else {
                state = (self.0.changed.wait(state)).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = rest_at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Woken::TimeToRest;
            }
            let waited = self.0.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
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
            let mut worker = Worker {
                queue,
                store,
                shared,
                group: Vec::new(),
                group_bytes: 0,
                commit_by: None,
                space: Space::Free,
            };
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
    /// When a group that nobody waits for is committed at the latest.
    commit_by: Option<Instant>,
    /// What the core was told last.
    space: Space,
}

impl Worker {
    /// Commits all that waits as one group; a read comes after everything that was queued before it.
    fn run(&mut self) -> Result<(), StoreError> {
        loop {
            let rest_after = self.rest()?;
            let now = Instant::now();
            let commit_after = self.commit_by.map(|at| at.saturating_duration_since(now));
            match self
                .queue
                .take(rest_after.into_iter().chain(commit_after).min())
            {
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
        let mut is_awaited = false;
        for job in jobs {
            match job {
                Job::Commit(batch) => {
                    is_awaited |= batch.is_awaited;
                    let bytes = self.group_bytes.saturating_add(batch.bytes);
                    if self.group.len() >= GROUP_MAX || bytes > GROUP_BYTES_MAX {
                        self.commit()?;
                    }
                    self.group_bytes = self.group_bytes.saturating_add(batch.bytes);
                    self.group.push(batch);
                }
                Job::Load(request) => {
                    self.commit()?;
                    let loaded = self.store.read_queue(&request)?;
                    self.reply(Reply::Loaded(loaded));
                }
            }
        }
        if is_awaited {
            return self.commit();
        }
        if !self.group.is_empty() {
            self.commit_by
                .get_or_insert_with(|| Instant::now() + RIDE_ALONG);
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        self.commit_by = None;
        if self.group.is_empty() {
            return Ok(());
        }
        let batches = self.group.len() as u64;
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
        self.queue.figures().note_commit(
            (batches, operations),
            mem::take(&mut self.group_bytes),
            begun.elapsed(),
        );
        self.group.clear();
        self.reply(Reply::Committed(committed.seq));
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
        self.queue.figures().usage = self.store.usage();
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

    fn reply(&self, reply: Reply) {
        if let Some(shared) = self.shared.upgrade() {
            shared.reply(reply);
        }
    }
}
