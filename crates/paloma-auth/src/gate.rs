//! How many threads may do something costly at a time, and how many may wait for it.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Lets a few in at a time.
#[derive(Debug)]
pub(crate) struct Gate {
    state: Mutex<State>,
    left: Condvar,
    inside_max: usize,
    waiting_max: usize,
    wait_max: Duration,
}

#[derive(Debug, Default)]
struct State {
    inside: usize,
    waiting: usize,
}

/// A place inside; dropping it lets the next one in.
#[derive(Debug)]
pub(crate) struct Pass<'a>(&'a Gate);

/// Too many wait, or one waited too long.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Busy;

impl Gate {
    pub(crate) fn new(inside_max: usize, waiting_max: usize, wait_max: Duration) -> Self {
        Self {
            state: Mutex::default(),
            left: Condvar::new(),
            inside_max,
            waiting_max,
            wait_max,
        }
    }

    /// As many as there are cores.
    pub(crate) fn of_cores(waiting_max: usize, wait_max: Duration) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self::new(cores, waiting_max, wait_max)
    }

    /// Waits for a place.
    pub(crate) fn enter(&self) -> Result<Pass<'_>, Busy> {
        let mut state = self.lock();
        if state.inside >= self.inside_max {
            if state.waiting >= self.waiting_max {
                return Err(Busy);
            }
            state.waiting += 1;
            let is_full = |state: &mut State| state.inside >= self.inside_max;
            let waited = self.left.wait_timeout_while(state, self.wait_max, is_full);
            let (after, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = after;
            state.waiting -= 1;
            if timeout.timed_out() {
                return Err(Busy);
            }
        }
        state.inside += 1;
        Ok(Pass(self))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code of others runs under the lock, so the counts are whole even if a thread died.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.0.lock().inside -= 1;
        self.0.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn no_more_than_the_stated_number_is_inside() {
        let gate = Gate::new(2, 100, Duration::from_secs(600));
        let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let _pass = gate.enter().unwrap();
                        most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!((1..=2).contains(&most.load(Ordering::SeqCst)));
    }

    #[test]
    fn who_finds_too_many_waiting_is_sent_away() {
        let gate = Gate::new(1, 0, Duration::from_secs(600));
        let pass = gate.enter().unwrap();
        assert_eq!(gate.enter().unwrap_err(), Busy);
        drop(pass);
        assert!(gate.enter().is_ok());
    }

    #[test]
    fn who_waited_too_long_is_sent_away() {
        let gate = Gate::new(1, 1, Duration::from_millis(1));
        let pass = gate.enter().unwrap();
        assert_eq!(gate.enter().unwrap_err(), Busy);
        drop(pass);
        assert!(gate.enter().is_ok());
    }
}
