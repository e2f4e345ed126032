//! Processes of the binary under test.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "each test file uses its own part; a broken process ends the test, a missing one is said"
)]

pub(crate) mod site;
pub(crate) mod tools;

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Time for what must be said; far more than it takes.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn paloma(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_paloma"));
    command
        .args(arguments)
        // Tests of the store say where it is.
        .env("PALOMA__STORE__IN_MEMORY", "true")
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// Starts a broker; gives its process, the rest of what it says, and its addresses.
pub(crate) fn start(
    arguments: &[&str],
    listeners: usize,
) -> (Child, BufReader<ChildStderr>, Vec<String>) {
    start_command(&mut paloma(arguments), listeners)
}

/// The same with a command of the test's own, whose stderr is piped.
pub(crate) fn start_command(
    command: &mut Command,
    listeners: usize,
) -> (Child, BufReader<ChildStderr>, Vec<String>) {
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut addresses = Vec::new();
    while addresses.len() < listeners {
        let mut line = String::new();
        assert_ne!(
            lines.read_line(&mut line).unwrap(),
            0,
            "the broker has ended"
        );
        if let Some((_, rest)) = line.split_once("listening on ") {
            let says_where =
                line.contains("nothing survives a restart") || line.contains("store: ");
            assert!(says_where, "{line}");
            let url = rest.split_whitespace().next().unwrap();
            // Other schemes are kept.
            addresses.push(url.strip_prefix("tcp://").unwrap_or(url).to_owned());
        }
    }
    (child, lines, addresses)
}

pub(crate) fn signal(child: &Child, name: &str) {
    let status = Command::new("kill")
        .args([name, &child.id().to_string()])
        .status();
    assert!(status.unwrap().success());
}

/// What a broker says, line by line; waiting for it has an end.
#[derive(Debug)]
pub(crate) struct Lines(Receiver<String>);

impl Lines {
    pub(crate) fn of(reader: impl BufRead + Send + 'static) -> Self {
        // As many as it says, or the broker would wait for whoever reads its log.
        let (sender, receiver) = channel();
        thread::spawn(move || {
            let lines = reader.lines().map_while(Result::ok);
            lines.map(|line| sender.send(line)).find(Result::is_err)
        });
        Self(receiver)
    }

    /// Everything up to a line with one of these words.
    #[track_caller]
    pub(crate) fn until(&self, words: &[&str]) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut said = String::new();
        loop {
            match self
                .0
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => {
                    said.push_str(&line);
                    said.push('\n');
                    if words.iter().any(|word| line.contains(word)) {
                        return said;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("{words:?} is not said: {said}"),
                Err(RecvTimeoutError::Disconnected) => panic!("the broker has ended: {said}"),
            }
        }
    }

    /// Everything up to the broker's end.
    pub(crate) fn rest(self) -> String {
        let mut said = String::new();
        for line in self.0 {
            said.push_str(&line);
            said.push('\n');
        }
        said
    }
}
