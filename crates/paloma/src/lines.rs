//! Lines of the log on their way out. Whoever reads them there may be slow, or read no more: nobody in here waits for that.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Most bytes of lines that wait to be written, and as many again that are being written. Lines beyond are lost, and counted.
const WAITING_BYTES_MAX: usize = 256 * 1024;

/// How long the end of the process waits for the last lines to go out.
const FAREWELL: Duration = Duration::from_secs(5);

/// Takes lines, each in one write, which never blocks; a thread of its own writes them out in their order.
#[derive(Clone)]
pub(crate) struct Lines(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    came: Condvar,
    went: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    /// Lines that found no room since the last batch.
    lost: u64,
    is_writing: bool,
}

impl Lines {
    /// Starts the thread; `tell` is told, there, how many lines have been lost behind the batch that it has just written.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(crate) fn start(
        mut out: impl Write + Send + 'static,
        tell: impl Fn(u64) + Send + 'static,
    ) -> io::Result<Self> {
        let lines = Self(Arc::default());
        let shared = Arc::clone(&lines.0);
        let write = move || {
            loop {
                let (batch, lost) = shared.next();
                // Where nobody can read any more there is nobody to tell.
                let _closed = out.write_all(&batch).and_then(|()| out.flush());
                if lost > 0 {
                    tell(lost);
                }
            }
        };
        thread::Builder::new()
            .name("paloma-log".to_owned())
            .spawn(write)?;
        Ok(lines)
    }

    /// Waits until all lines are out, but not long for a reader that does not read.
    pub(crate) fn finish(&self) {
        let has_more = |state: &mut State| state.is_writing || !state.waiting.is_empty();
        let waited = self
            .0
            .went
            .wait_timeout_while(self.0.state(), FAREWELL, has_more);
        drop(waited);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to write next, once there is something, and how many lines came behind it in vain.
    fn next(&self) -> (Vec<u8>, u64) {
        let mut state = self.state();
        state.is_writing = false;
        self.went.notify_all();
        let mut state = self
            .came
            .wait_while(state, |state| state.waiting.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        state.is_writing = true;
        (
            std::mem::take(&mut state.waiting),
            std::mem::take(&mut state.lost),
        )
    }
}

impl Write for Lines {
    /// Takes a line, whole or not at all.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = self.0.state();
        if state.waiting.len() + line.len() <= WAITING_BYTES_MAX {
            state.waiting.extend_from_slice(line);
            self.0.came.notify_one();
        } else {
            state.lost = state.lost.saturating_add(1);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// Gives what it is to write, and blocks until it is let go.
    struct Stalls(Sender<Vec<u8>>, Receiver<()>);

    impl Write for Stalls {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.send(bytes.to_vec());
            let _ = self.1.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_stalls_holds_nobody_up_and_costs_the_lines_beyond_the_bound() {
        let (written, batches) = channel();
        let (let_go, held) = channel();
        let (tell, told) = channel();
        let mut lines = Lines::start(Stalls(written, held), move |lost| {
            let _ = tell.send(lost);
        })
        .unwrap();
        lines.write_all(b"first\n").unwrap();
        assert_eq!(batches.recv_timeout(PATIENCE).unwrap(), b"first\n");
        // It is held in its write: these wait, and those beyond the bound are lost.
        let line = [b'x'; 1_024];
        let room = WAITING_BYTES_MAX / line.len();
        for _ in 0..room + 3 {
            lines.write_all(&line).unwrap();
        }
        lines.finish();
        let_go.send(()).unwrap();
        let batch = batches.recv_timeout(PATIENCE).unwrap();
        assert_eq!(batch.len(), WAITING_BYTES_MAX);
        let_go.send(()).unwrap();
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), 3);
        lines.write_all(b"last\n").unwrap();
        assert_eq!(batches.recv_timeout(PATIENCE).unwrap(), b"last\n");
        drop(let_go);
        lines.finish();
        assert!(told.try_recv().is_err(), "told once");
    }
}
