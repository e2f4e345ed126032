//! A slot for the waker of the one task that waits for something.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// The waker of one task. The task registers first and looks at what it waits for afterwards; whoever changes that
/// calls [`wake`](Self::wake) afterwards, so that nothing is missed.
///
/// The task may leave something of its own here, which spares it a lock for that.
#[derive(Debug, Default)]
pub(crate) struct WakeCell<T = ()>(Mutex<(Option<Waker>, T)>);

impl<T: Default> WakeCell<T> {
    pub(crate) fn register(&self, waker: &Waker) {
        let (slot, _) = &mut *self.lock();
        match slot {
            Some(known) => known.clone_from(waker),
            None => *slot = Some(waker.clone()),
        }
    }

    /// Leaves something until it is taken.
    pub(crate) fn leave(&self, own: T) {
        self.lock().1 = own;
    }

    /// Takes what was left.
    pub(crate) fn take(&self) -> T {
        std::mem::take(&mut self.lock().1)
    }

    /// Wakes the task; it stays registered.
    pub(crate) fn wake(&self) {
        if let (Some(waker), _) = &*self.lock() {
            waker.wake_by_ref();
        }
    }

    /// Forgets the task, so that its memory can go.
    pub(crate) fn clear(&self) {
        self.lock().0 = None;
    }

    fn lock(&self) -> MutexGuard<'_, (Option<Waker>, T)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
