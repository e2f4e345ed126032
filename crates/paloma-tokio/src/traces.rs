//! What traces are told, from the turn in which it happened to whoever reads it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use paloma_broker::{TraceId, TraceTarget, Traced};
use tokio::sync::mpsc;

use crate::shared::Shared;

/// Events that wait for the reader of one trace; what happens while they are so many is counted only.
const WAITING_MAX: usize = 4_096;

/// The readers of the traces under way.
#[derive(Debug, Default)]
pub(crate) struct Traces {
    readers: Mutex<Vec<Reader>>,
}

#[derive(Debug)]
struct Reader {
    id: TraceId,
    sender: mpsc::Sender<Traced>,
    lost: Arc<AtomicU64>,
}

/// What happens to one client or on one topic, while it happens. Dropping it ends the trace.
pub struct Trace {
    shared: Arc<Shared>,
    id: TraceId,
    receiver: mpsc::Receiver<Traced>,
    lost: Arc<AtomicU64>,
}

impl Traces {
    /// Passes on what a turn has told. Never waits: a reader that is slow loses what comes meanwhile.
    pub(crate) fn tell(&self, (traced, lost): (VecDeque<Traced>, u64)) {
        let readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        for reader in &*readers {
            let mut lost = lost;
            for event in traced.iter().filter(|event| event.is_for(reader.id)) {
                lost += u64::from(reader.sender.try_send(event.clone()).is_err());
            }
            reader.lost.fetch_add(lost, Ordering::Relaxed);
        }
    }

    fn add(&self, reader: Reader) {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        readers.push(reader);
    }

    fn remove(&self, id: TraceId) {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        readers.retain(|reader| reader.id != id);
    }
}

impl Trace {
    /// Begins a trace; `None` if as many as may be are under way, or the broker has failed.
    pub(crate) fn begin(
        shared: &Arc<Shared>,
        target: TraceTarget,
        wants_payloads: bool,
    ) -> Option<Self> {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&lost);
        // Within the turn, so that no event comes before its reader.
        let id = shared.turn(|core, _| {
            let id = core.broker.begin_trace(target, wants_payloads)?;
            shared.traces.add(Reader {
                id,
                sender,
                lost: counter,
            });
            Some(id)
        });
        Some(Self {
            shared: Arc::clone(shared),
            id: id.flatten()?,
            receiver,
            lost,
        })
    }

    /// Waits for the next event.
    pub async fn next(&mut self) -> Option<Traced> {
        self.receiver.recv().await
    }

    /// How many events there was no room for since this was asked last.
    pub fn take_lost(&mut self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        self.shared.traces.remove(self.id);
        self.shared.turn(|core, _| core.broker.end_trace(self.id));
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
