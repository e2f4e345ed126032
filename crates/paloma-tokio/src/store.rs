//! The thread of a store that blocks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::{io, mem, thread};

use paloma_broker::Reply;
use paloma_broker::store::{LoadRequest, Store, StoreBatch, StoreError};

use crate::failure::Failure;
use crate::shared::Shared;

/// Most batches in one commit; the bytes in all are bounded by `uncommitted_bytes_max`.
const GROUP_MAX: usize = 4_096;

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
}

#[derive(Debug, Default)]
struct State {
    jobs: Vec<Job>,
    is_closed: bool,
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

    /// All that waits, once something does; nothing when it never will.
    fn take(&self) -> Vec<Job> {
        let mut state = self.state();
        while state.jobs.is_empty() && !state.is_closed {
            state = self
                .0
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        mem::take(&mut state.jobs)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
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
                store,
                shared,
                group: Vec::new(),
            };
            let outcome = catch_unwind(AssertUnwindSafe(|| worker.run(&queue)));
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
    store: Box<dyn Store>,
    shared: Weak<Shared>,
    group: Vec<StoreBatch>,
}

impl Worker {
    /// Commits all that waits as one group; a read comes after everything that was queued before it.
    fn run(&mut self, queue: &StoreQueue) -> Result<(), StoreError> {
        loop {
            let jobs = queue.take();
            if jobs.is_empty() {
                return Ok(());
            }
            for job in jobs {
                match job {
                    Job::Commit(batch) => self.group.push(batch),
                    Job::Load(request) => {
                        self.commit()?;
                        let loaded = self.store.read_queue(&request)?;
                        self.reply(Reply::Loaded(loaded));
                    }
                }
                if self.group.len() >= GROUP_MAX {
                    self.commit()?;
                }
            }
            self.commit()?;
        }
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        if self.group.is_empty() {
            return Ok(());
        }
        let committed = self.store.commit(&mut self.group)?;
        self.reply(Reply::Committed(committed.seq));
        Ok(())
    }

    fn reply(&self, reply: Reply) {
        if let Some(shared) = self.shared.upgrade() {
            shared.reply(reply);
        }
    }
}
