//! What the adapter counts itself.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::running::Counts;

/// Counted since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) panics: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) accept_errors: AtomicU64,
    pub(crate) stalled: AtomicU64,
    pub(crate) handshakes_failed: AtomicU64,
    pub(crate) records_ended: AtomicU64,
}

impl Counters {
    pub(crate) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// All of them at this moment.
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            panics: self.panics.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            accept_errors: self.accept_errors.load(Ordering::Relaxed),
            stalled: self.stalled.load(Ordering::Relaxed),
            handshakes_failed: self.handshakes_failed.load(Ordering::Relaxed),
            records_ended: self.records_ended.load(Ordering::Relaxed),
        }
    }
}
