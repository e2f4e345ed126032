//! Processes of the binary under test.
#![allow(dead_code, reason = "each test file uses its own part")]
#![expect(clippy::unwrap_used, reason = "a broken process ends the test")]

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};

pub(crate) fn paloma(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_paloma"));
    command
        .args(arguments)
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
            assert!(line.contains("nothing survives a restart"), "{line}");
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
