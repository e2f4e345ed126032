//! `cargo xtask fuzz`: fuzzing campaigns on stable, and the replay of what they found.

use std::{
    fs,
    path::Path,
    process::Command as Process,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use crate::{
    Command,
    failure::{Failure, Outcome},
    process, workspace,
};

pub(crate) const COMMAND: Command = Command {
    name: "fuzz",
    arguments: "[--minutes N] [--keep] [TARGET…]",
    about: "fuzz the named targets, or all of them, for some minutes each",
    details: "\
--minutes N   minutes for each target, 5 unless told
--keep        do not fuzz: add to fuzz/corpus/TARGET what earlier campaigns grew, the smallest input for each new edge

Needs `cargo install cargo-fuzz` and a C++ compiler. RUSTC_BOOTSTRAP=1 is set, so stable will do. A campaign begins with
fuzz/corpus/TARGET and grows fuzz/target/corpus/TARGET, which the next one begins with too; findings go to fuzz/artifacts.",
    run: run_campaigns,
};

/// Runs every target over its committed corpus; needs neither libFuzzer nor a sanitizer.
pub(crate) fn replay() -> Outcome {
    process::run(&mut process::cargo(&[
        "test",
        "--manifest-path",
        "fuzz/Cargo.toml",
    ]))
}

/// Seconds for each target in CI.
const BRIEF_SECONDS: u32 = 15;

/// Fuzzes every target for some seconds, as many at a time as there are cores, beginning with the committed corpora.
///
/// Without a sanitizer, which finds nothing in crates without unsafe code and would make the build the longest part: the
/// targets' assertions, overflow checks, time and memory limits judge.
pub(crate) fn fuzz_briefly() -> Outcome {
    if !process::has_tool("cargo-fuzz")? {
        println!("skipped: cargo-fuzz is not installed");
        return Ok(());
    }
    process::run(&mut cargo_fuzz(&["build", "--sanitizer", "none"]))?;
    let targets = targets_in(&workspace::root().join("fuzz/fuzz_targets"))?;
    let next = AtomicUsize::new(0);
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let findings: Vec<String> = thread::scope(|scope| {
        let handles: Vec<_> = (0..workers)
            .map(|_| scope.spawn(|| fuzz_in_turn(&targets, &next)))
            .collect();
        let join = |handle: thread::ScopedJoinHandle<'_, Vec<String>>| {
            let panicked = |_| vec!["a worker panicked".to_owned()];
            handle.join().unwrap_or_else(panicked)
        };
        handles.into_iter().flat_map(join).collect()
    });
    Failure::unless_empty("fuzz", findings)
}

/// Takes one target after the other until there are no more; returns what was found.
fn fuzz_in_turn(targets: &[String], next: &AtomicUsize) -> Vec<String> {
    let mut findings = Vec::new();
    while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
        let outcome = corpora(target).and_then(|[grown, seeds]| {
            let time = format!("-max_total_time={BRIEF_SECONDS}");
            let words = ["run", "--sanitizer", "none", target, &grown, &seeds, "--"];
            process::capture(cargo_fuzz(&words).arg(&time).args(LIMITS))
        });
        match outcome {
            Ok(output) => {
                let log = String::from_utf8_lossy(&output.stderr);
                let last = log.lines().rfind(|line| line.starts_with("Done"));
                println!("{target}: {}", last.unwrap_or("did not end well"));
                if !output.status.success() {
                    findings.push(format!("{target}: {}\n{log}", output.status));
                }
            }
            Err(failure) => findings.push(format!("{target}: {failure}")),
        }
    }
    findings
}

/// What counts as a finding besides a panic: an input that takes longer, in seconds, or more memory.
const LIMITS: [&str; 2] = ["-timeout=5", "-rss_limit_mb=512"];

/// What is kept of a campaign: what reaches code that nothing else reached, however often.
const KEPT: [&str; 2] = ["-merge=1", "-use_counters=0"];

/// `cargo fuzz` with libFuzzer in the targets, on stable.
fn cargo_fuzz(words: &[&str]) -> Process {
    let (command, rest) = words.split_at(words.len().min(1));
    let mut cargo = process::cargo(&["fuzz"]);
    cargo.args(command).args(["--features", "libfuzzer"]);
    cargo.args(rest).env("RUSTC_BOOTSTRAP", "1");
    cargo
}

/// The corpus that a campaign grows, and the committed one: libFuzzer writes to the first and only reads the second.
fn corpora(target: &str) -> Outcome<[String; 2]> {
    let grown = format!("fuzz/target/corpus/{target}");
    let path = workspace::root().join(&grown);
    fs::create_dir_all(&path).map_err(Failure::file(&path))?;
    Ok([grown, format!("fuzz/corpus/{target}")])
}

fn run_campaigns(arguments: &[String]) -> Outcome {
    let Plan {
        minutes,
        keeps,
        mut targets,
    } = parse(arguments)?;
    let known = targets_in(&workspace::root().join("fuzz/fuzz_targets"))?;
    if let Some(unknown) = targets.iter().find(|target| !known.contains(target)) {
        return Err(Failure::Usage(format!(
            "no target `{unknown}`; there are: {}",
            known.join(" ")
        )));
    }
    if targets.is_empty() {
        targets = known;
    }
    let time = format!("-max_total_time={}", minutes * 60);
    let mut findings = Vec::new();
    for target in &targets {
        let [grown, seeds] = corpora(target)?;
        let mut command;
        if keeps {
            println!("== {target}, kept");
            command = cargo_fuzz(&["run", target, &seeds, &grown, "--"]);
            command.args(KEPT);
        } else {
            println!("== {target}, {minutes} min");
            command = cargo_fuzz(&["run", target, &grown, &seeds, "--"]);
            command.arg(&time).args(LIMITS);
        }
        if let Err(failure) = process::run(&mut command) {
            findings.push(format!("{target}: {failure}"));
        }
    }
    Failure::unless_empty("fuzz", findings)
}

/// What a command line asks for.
struct Plan {
    minutes: u64,
    keeps: bool,
    targets: Vec<String>,
}

fn parse(arguments: &[String]) -> Outcome<Plan> {
    let mut minutes = 5;
    let mut keeps = false;
    let mut targets = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        if argument == "--minutes" {
            let value = arguments
                .next()
                .and_then(|value| value.parse().ok())
                .filter(|n| (1..=10_000).contains(n));
            minutes = value.ok_or_else(|| {
                Failure::Usage("--minutes takes a number from 1 to 10000".to_owned())
            })?;
        } else if argument == "--keep" {
            keeps = true;
        } else if argument.starts_with('-') {
            return Err(Failure::Usage(format!(
                "no option `{argument}`; see `cargo xtask fuzz --help`"
            )));
        } else {
            targets.push(argument.clone());
        }
    }
    Ok(Plan {
        minutes,
        keeps,
        targets,
    })
}

fn targets_in(directory: &Path) -> Outcome<Vec<String>> {
    let mut targets = Vec::new();
    if !directory.exists() {
        return Ok(targets);
    }
    for entry in fs::read_dir(directory).map_err(Failure::file(directory))? {
        let path = entry.map_err(Failure::file(directory))?.path();
        if let Some(stem) = path
            .file_stem()
            .filter(|_| path.extension().is_some_and(|e| e == "rs"))
        {
            targets.push(stem.to_string_lossy().into_owned());
        }
    }
    targets.sort();
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Option<(u64, bool, &[&str])>) {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let plan = parse(&arguments).ok();
        let parsed = plan.map(|plan| (plan.minutes, plan.keeps, plan.targets));
        let owned = |targets: &[&str]| targets.iter().map(|t| (*t).to_owned()).collect();
        let expected = expected.map(|(minutes, keeps, targets)| (minutes, keeps, owned(targets)));
        assert_eq!(parsed, expected, "{line}");
    }

    #[test]
    fn command_line_is_read() {
        check("", Some((5, false, &[])));
        check("--minutes 2 a b", Some((2, false, &["a", "b"])));
        check("a --minutes 2", Some((2, false, &["a"])));
        check("--keep a", Some((5, true, &["a"])));
    }

    #[test]
    fn wrong_command_lines_are_refused() {
        check("--minutes", None);
        check("--minutes 0", None);
        check("--minutes x", None);
        check("--hours 2", None);
    }
}
