//! Who runs a checkpoint while commits go on: a thread, or whoever drives a store without one.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::{self, JoinHandle};

use paloma_broker::store::{MessageId, StoreError};
use paloma_codec::Message;

use crate::backend::Backend;
use crate::checkpoint::{Checkpoint, Written};
use crate::engine::Engine;
use crate::group::Group;

/// How much the thread gives way to those that serve connections, where they want all of the machine.
#[cfg(any(target_os = "linux", target_os = "android"))]
const NICE: i32 = 5;

type Outcome = Result<Written, StoreError>;

/// At most one checkpoint that is under way.
#[derive(Debug)]
pub(crate) struct Background {
    /// What it takes over: nobody may ask the engine's file for that yet.
    group: Option<Arc<Group>>,
    /// Where it writes.
    backend: Option<Backend>,
    runner: Runner,
}

#[derive(Debug)]
enum Runner {
    /// Nothing happens by itself.
    Here(Option<Job>, Option<Outcome>),
    Thread(Worker),
}

/// The engine is held no longer than the checkpoint is under way.
#[derive(Debug)]
struct Job {
    engine: Arc<Engine>,
    checkpoint: Checkpoint,
}

impl Background {
    pub(crate) fn without_thread() -> Self {
        Self {
            group: None,
            backend: None,
            runner: Runner::Here(None, None),
        }
    }

    pub(crate) fn with_thread() -> io::Result<Self> {
        Ok(Self {
            group: None,
            backend: None,
            runner: Runner::Thread(Worker::start()?),
        })
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.group.is_some()
    }

    /// A message that may not be in the engine's file yet.
    pub(crate) fn message(&self, id: MessageId) -> Option<&Message> {
        self.group.as_ref()?.message(id)
    }

    /// Bytes of such messages.
    pub(crate) fn message_bytes(&self) -> u64 {
        self.group.as_ref().map_or(0, |group| group.message_bytes())
    }

    /// Begins a checkpoint; none may be under way.
    pub(crate) fn begin(
        &mut self,
        engine: &Arc<Engine>,
        checkpoint: Checkpoint,
        group: Arc<Group>,
    ) -> Result<(), StoreError> {
        debug_assert!(!self.is_busy(), "one at a time");
        let engine = Arc::clone(engine);
        // Before it runs, so that whoever comes to wait for it is heard.
        engine.backend.set_leisure(true);
        self.backend = Some(engine.backend.clone());
        let job = Job { engine, checkpoint };
        match &mut self.runner {
            Runner::Here(next, _) => *next = Some(job),
            Runner::Thread(worker) => worker.begin(job)?,
        }
        self.group = Some(group);
        Ok(())
    }

    /// Runs it, unless there is a thread that does. False if there is nothing to run.
    pub(crate) fn drive(&mut self) -> bool {
        let Runner::Here(next, outcome) = &mut self.runner else {
            return false;
        };
        let Some(job) = next.take() else {
            return false;
        };
        *outcome = Some(job.run());
        true
    }

    /// How it went, once it is over.
    pub(crate) fn poll(&mut self) -> Option<Outcome> {
        self.group.as_ref()?;
        let outcome = match &mut self.runner {
            Runner::Here(_, outcome) => outcome.take(),
            Runner::Thread(worker) => worker.poll(),
        };
        if outcome.is_some() {
            self.end();
        }
        outcome
    }

    /// Waits until it is over, and says how it went; `None` if there is none.
    ///
    /// Nobody else commits meanwhile, so that it is in a hurry from here on.
    pub(crate) fn wait(&mut self) -> Option<Outcome> {
        self.group.as_ref()?;
        self.hurry();
        self.drive();
        let outcome = match &mut self.runner {
            Runner::Here(_, outcome) => outcome.take(),
            Runner::Thread(worker) => Some(worker.wait()),
        };
        self.end();
        outcome
    }

    fn end(&mut self) {
        self.hurry();
        self.group = None;
        self.backend = None;
    }

    /// What is written from here on, by a checkpoint or without one, is synced in one go.
    fn hurry(&self) {
        if let Some(backend) = &self.backend {
            backend.set_leisure(false);
        }
    }
}

impl Job {
    fn run(self) -> Outcome {
        self.checkpoint.run(&self.engine)
    }
}

/// A thread that ends with its handle, when what it has begun is over.
#[derive(Debug)]
struct Worker {
    /// Gone at the end.
    jobs: Option<SyncSender<Job>>,
    outcomes: Receiver<Outcome>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    fn start() -> io::Result<Self> {
        let (jobs, waiting) = sync_channel::<Job>(1);
        let (done, outcomes) = sync_channel(1);
        let thread = thread::Builder::new()
            .name("paloma-takeover".to_owned())
            .spawn(move || {
                give_way();
                for job in waiting {
                    let outcome = catch_unwind(AssertUnwindSafe(|| job.run()));
                    let outcome = outcome.unwrap_or_else(|_| Err(ended()));
                    if done.send(outcome).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Self {
            jobs: Some(jobs),
            outcomes,
            thread: Some(thread),
        })
    }

    fn begin(&mut self, job: Job) -> Result<(), StoreError> {
        let jobs = self.jobs.as_ref().ok_or_else(ended)?;
        jobs.send(job).map_err(|_| ended())
    }

    fn poll(&mut self) -> Option<Outcome> {
        match self.outcomes.try_recv() {
            Ok(outcome) => Some(outcome),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(ended())),
        }
    }

    fn wait(&mut self) -> Outcome {
        self.outcomes.recv().unwrap_or_else(|_| Err(ended()))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // It has said already how its work went.
            let _ = thread.join();
        }
    }
}

fn ended() -> StoreError {
    StoreError::Io(io::Error::other("the thread of checkpoints has ended"))
}

/// Nobody waits for a checkpoint as long as the log has room.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn give_way() {
    // Where that is not allowed it has to do as it is.
    let _ = rustix::process::setpriority_process(None, NICE);
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn give_way() {}
