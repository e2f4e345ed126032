//! A child process whose lines can be awaited, and which never outlives its test.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::patience::Patience;
use crate::{PATIENCE, eventually};

/// How long a child may go on that does something all the time and does not come to what is waited for.
const PATIENCE_IN_ALL: Duration = Duration::from_secs(600);

/// How often a child is looked at that says nothing.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Where a line was printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// A running child process; killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<(Stream, String)>,
    log: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// Starts `command` with all three streams connected.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(command: &mut Command) -> Self {
        let name = format!("{:?}", command.get_program());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let (sender, lines) = channel();
        let log = Arc::new(Mutex::new(Vec::new()));
        let out = child.stdout.take().unwrap();
        let err = child.stderr.take().unwrap();
        read_lines(out, Stream::Out, sender.clone(), Arc::clone(&log));
        read_lines(err, Stream::Err, sender, Arc::clone(&log));
        let stdin = child.stdin.take();
        Self {
            name,
            child,
            stdin,
            lines,
            log,
        }
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes one line to the child's standard input.
    ///
    /// # Panics
    /// If the child reads no more.
    pub fn write_line(&mut self, line: &str) {
        let stdin = self
            .stdin
            .as_mut()
            .expect("standard input is open until it is closed here");
        writeln!(stdin, "{line}").unwrap_or_else(|error| panic!("{}: {error}", self.name));
        stdin.flush().unwrap();
    }

    /// Ends the child's standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// The next line, or `None` when both streams have ended.
    ///
    /// # Panics
    /// If there is none before `deadline`.
    pub fn next_line(&mut self, deadline: Instant) -> Option<(Stream, String)> {
        match self
            .lines
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no line from {} in time", self.name),
        }
    }

    /// The first line that `pick` accepts; others are passed over. How long that takes is the machine's business, as long as
    /// the child does something or waits to be let.
    ///
    /// # Panics
    /// If the child ends before, if it sleeps for [`PATIENCE`] without a line, or if there is none within ten minutes.
    pub fn find_line<T>(&mut self, what: &str, pick: impl FnMut(&str) -> Option<T>) -> T {
        let patience = Patience::new(self.pid(), PATIENCE, PATIENCE_IN_ALL);
        self.find_line_within(patience, what, pick)
    }

    fn find_line_within<T>(
        &mut self,
        mut patience: Patience,
        what: &str,
        mut pick: impl FnMut(&str) -> Option<T>,
    ) -> T {
        loop {
            match self.lines.recv_timeout(LOOK_EVERY) {
                Ok((_, line)) => {
                    patience.renew();
                    if let Some(found) = pick(&line) {
                        return found;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("{} ended before: {what}", self.name);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if let Some(why) = patience.end() {
                let last = self.log.lock().unwrap().last().cloned();
                let last = last.unwrap_or_else(|| "nothing".to_owned());
                panic!(
                    "{} {why} before: {what}. It has said last: {last}",
                    self.name
                );
            }
        }
    }

    /// Waits until that many of all lines so far are such as `is_counted` says; passes none over.
    ///
    /// # Panics
    /// If there are fewer for [`PATIENCE`].
    pub fn await_lines(&self, count: usize, what: &str, is_counted: impl Fn(&str) -> bool) {
        eventually(&format!("{}: {count} × {what}", self.name), || {
            let log = self.log.lock().unwrap();
            let counted = log.iter().filter(|line| is_counted(line)).count();
            (counted >= count).then_some(())
        });
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    pub fn terminate(&mut self) -> ExitStatus {
        let kill = format!("kill -TERM {}", self.child.id());
        let sent = Command::new("sh").args(["-c", &kill]).status().unwrap();
        assert!(
            sent.success(),
            "{} had ended before it was asked to",
            self.name
        );
        self.wait()
    }

    /// Waits until it has ended by itself, with the patience of [`find_line`](Self::find_line).
    ///
    /// # Panics
    /// If it does not.
    pub fn wait(&mut self) -> ExitStatus {
        let mut patience = Patience::new(self.pid(), PATIENCE, PATIENCE_IN_ALL);
        for round in 1_u32.. {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            if round.is_multiple_of(20)
                && let Some(why) = patience.end()
            {
                panic!("{} {why} and does not end", self.name);
            }
            thread::sleep(Duration::from_millis(5));
        }
        unreachable!("patience ends before");
    }

    /// Ends it at once, as a crash would (SIGKILL): its sockets are closed by the system.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Everything it printed on one stream until it ended.
    pub fn rest_of(&mut self, stream: Stream) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        let mut rest = Vec::new();
        while let Some((from, line)) = self.next_line(deadline) {
            if from == stream {
                rest.push(line);
            }
        }
        rest
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            thread::sleep(Duration::from_millis(50));
            let log = self.log.lock().unwrap();
            let skipped = log.len().saturating_sub(40);
            eprintln!("--- last lines of {} (pid {}):", self.name, self.child.id());
            for line in &log[skipped..] {
                eprintln!("    {line}");
            }
        }
    }
}

fn read_lines(
    source: impl Read + Send + 'static,
    stream: Stream,
    lines: Sender<(Stream, String)>,
    log: Arc<Mutex<Vec<String>>>,
) {
    thread::spawn(move || {
        for line in BufReader::new(source).split(b'\n') {
            let Ok(line) = line else { return };
            let line = String::from_utf8_lossy(&line).into_owned();
            log.lock().unwrap().push(line.clone());
            let _ = lines.send((stream, line));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(script: &str, asleep_max: Duration, in_all: Duration) -> String {
        let mut child = Process::start(Command::new("sh").args(["-c", script]));
        let patience = Patience::new(child.pid(), asleep_max, in_all);
        child.find_line_within(patience, "the end", |line| {
            line.starts_with("end").then(|| line.to_owned())
        })
    }

    const SHORT: Duration = Duration::from_millis(300);
    const LONG: Duration = Duration::from_secs(300);

    #[test]
    fn who_is_at_work_is_waited_for() {
        // For longer than it may sleep, itself or below another one.
        let work = "i=0; while [ $i -lt 700000 ]; do i=$((i+1)); done; echo end $i";
        assert_eq!(find(work, SHORT, LONG), "end 700000");
        let below = format!("sh -c '{work}'; true");
        assert_eq!(find(&below, SHORT, LONG), "end 700000");
    }

    #[test]
    #[should_panic(expected = "before: the end. It has said last: begun")]
    fn who_sleeps_is_given_up() {
        let _ = find("echo begun; exec sleep 1000", SHORT, LONG);
    }

    #[test]
    #[should_panic(expected = "is never done before: the end")]
    fn who_never_comes_to_an_end_is_given_up() {
        let _ = find("while :; do :; done", LONG, SHORT);
    }
}
