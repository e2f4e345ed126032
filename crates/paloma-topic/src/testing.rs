//! Helpers that several suites of this crate share.

use std::thread;

/// Runs `work` on a thread whose stack of 256 KiB would not survive recursion over levels.
#[track_caller]
pub(crate) fn in_small_stack(work: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new()
        .stack_size(256 * 1024)
        .spawn(work)
        .unwrap();
    thread.join().unwrap();
}
