//! A slot for the waker of the one task that waits for something.

use std::sync::{Mutex, PoisonError};
use std::task::Waker;

/// The waker of one task. The task registers first and looks at what it waits for afterwards; whoever changes that
/// calls [`wake`](Self::wake) afterwards, so that nothing is missed.
#[derive(Debug, Default)]
pub(crate) struct WakeCell(Mutex<Option<Waker>>);

impl WakeCell {
    pub(crate) fn register(&self, waker: &Waker) {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *slot {
            Some(known) => known.clone_from(waker),
            None => *slot = Some(waker.clone()),
        }
    }

    /// Wakes the task; it stays registered.
    pub(crate) fn wake(&self) {
        let slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waker) = &*slot {
            waker.wake_by_ref();
        }
    }

    /// Forgets the task, so that its memory can go.
    pub(crate) fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
