//! Runs tests against one change and says which of them noticed it.

use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::{ABOVE, tree::Program};
use crate::failure::{Failure, Outcome};

/// Seconds of a processor that a program of tests may use: several times what the slowest needs. Time on the clock says little on a
/// machine that does other things too.
const PROCESSOR: u32 = 15;
/// The same for those that play whole brokers, hundreds of them.
const PROCESSOR_ABOVE: u32 = 120;
/// What the shell ends with if it cannot start a program, or does not find it.
const NOT_RUN: [i32; 2] = [126, 127];
/// How long it may stand still.
const PATIENCE: Duration = Duration::from_secs(420);
/// Kibibytes of addresses: a change must not take the machine with it.
const MEMORY: u32 = 8 << 20;
/// What a process is ended with that has used up its time.
const OUT_OF_TIME: i32 = 24;

/// What tests said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// All of them passed.
    Passed,
    /// This one did not.
    Failed(String),
    /// They came to no end.
    TimedOut,
}

/// Runs a program of tests until the first fails, with a change or, for a baseline, with none.
pub(super) fn run(
    program: &Program,
    change: Option<u32>,
    broker: Option<&Path>,
) -> Outcome<Answer> {
    let answer = run_once(program, change, broker)?;
    if answer == Answer::Passed || !speaks_to_processes(program) {
        return Ok(answer);
    }
    // Processes that wait for each other can be late on a machine that does other things too: what is late once has not
    // shown anything.
    run_once(program, change, broker)
}

fn run_once(program: &Program, change: Option<u32>, broker: Option<&Path>) -> Outcome<Answer> {
    let seconds = if ABOVE.contains(&program.package.as_str()) {
        PROCESSOR_ABOVE
    } else {
        PROCESSOR
    };
    let limits = format!("ulimit -t {seconds}; ulimit -v {MEMORY}; exec \"$@\"");
    let mut command = Command::new("sh");
    command
        .args(["-c", &limits, "sh"])
        .arg(&program.path)
        .arg("--test-threads=1")
        .args(filter(program))
        .current_dir(&program.directory)
        .env("CARGO_MANIFEST_DIR", &program.directory)
        .env("PALOMA_MUTANT", change.unwrap_or(0).to_string())
        // The same cases for each change, and no minutes spent on the smallest that fails.
        .env("PROPTEST_RNG_SEED", "1")
        .env("PROPTEST_CASES", "32")
        .env("PROPTEST_MAX_SHRINK_ITERS", "0")
        .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "true")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0);
    if let Some(broker) = broker {
        command.env("PALOMA_BIN", broker);
    }
    let child = command.spawn().map_err(Failure::file(&program.path))?;
    watch(child, &program.name)
}

/// Of the suite that judges brokers, what judges one that works.
fn filter(program: &Program) -> Option<&'static str> {
    speaks_to_processes(program).then_some("paloma_passes_over_every_transport")
}

/// Whether its tests are about a broker that is a process of its own.
fn speaks_to_processes(program: &Program) -> bool {
    program.package == "paloma-conformance"
}

fn watch(mut child: Child, program: &str) -> Outcome<Answer> {
    let output = child.stdout.take();
    let (sender, receiver) = sync_channel(64);
    let reader = thread::spawn(move || {
        let lines = output
            .into_iter()
            .flat_map(|pipe| BufReader::new(pipe).lines());
        for line in lines.map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let deadline = Instant::now() + PATIENCE;
    let answer = loop {
        match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                if let Some(name) = failed(&line) {
                    break Some(Answer::Failed(format!("{program}::{name}")));
                }
            }
            Err(RecvTimeoutError::Timeout) => break Some(Answer::TimedOut),
            Err(RecvTimeoutError::Disconnected) => break None,
        }
    };
    if answer.is_some() {
        end(&child);
    }
    drop(receiver);
    let _ = reader.join();
    let status = child.wait().map_err(Failure::file(Path::new(program)))?;
    match (answer, status.code()) {
        (Some(answer), _) => Ok(answer),
        (None, Some(0)) => Ok(Answer::Passed),
        // What was never run has noticed nothing.
        (None, Some(code)) if NOT_RUN.contains(&code) => Err(Failure::Format {
            what: "program of tests",
            problem: format!("{program} cannot be run: {status}"),
        }),
        (None, _) if status.signal() == Some(OUT_OF_TIME) => Ok(Answer::TimedOut),
        (None, _) => Ok(Answer::Failed(format!("{program}: {status}"))),
    }
}

/// The test that a line says failed.
fn failed(line: &str) -> Option<&str> {
    let line = line.strip_suffix(" ... FAILED")?;
    line.strip_prefix("test ")
}

/// Ends a program and what it started: all of them are of its group.
fn end(child: &Child) {
    let group = format!("-{}", child.id());
    let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer_of(script: &str) -> Outcome<Answer> {
        let child = Command::new("sh")
            .args(["-c", script])
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        watch(child, "p")
    }

    fn check(script: &str, expected: &Answer) {
        assert_eq!(answer_of(script).unwrap(), *expected);
    }

    #[test]
    fn a_program_that_is_not_there_has_noticed_nothing() {
        assert!(answer_of("exec /nowhere/to/be/found 2>&1").is_err());
    }

    #[test]
    fn the_first_test_that_fails_ends_the_program() {
        let script = "echo 'test a::b ... ok'; echo 'test a::c ... FAILED'; sleep 1000";
        check(script, &Answer::Failed("p::a::c".to_owned()));
    }

    #[test]
    fn a_program_that_dies_has_failed_and_one_that_used_up_its_time_has_not() {
        check("echo 'test a ... ok'", &Answer::Passed);
        check("exit 3", &Answer::Failed("p: exit status: 3".to_owned()));
        check("kill -XCPU $$", &Answer::TimedOut);
    }
}
