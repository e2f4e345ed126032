//! `cargo xtask crash`, `powercut` and `fill`: release builds of the broker and of what takes the ground from under it, then a
//! run.

use std::process::Command as Process;

use crate::{Command, failure::Outcome, process, workspace};

pub(crate) const CRASH: Command = Command {
    name: "crash",
    arguments: "[--cycles N] [--parallel P] [--seed S] [--durability LEVEL] [--record]",
    about: "kill paloma with -9 under load, again and again, and check what its clients saw",
    details: "\
--cycles N          kills (50)
--parallel P        brokers at a time (2)
--seed S            where everything random begins (1)
--durability LEVEL  ack, os, interval or none; a level that may lose is reported as losing
--record            append the outcome to docs/records/crash.tsv

The last line has cycles, acknowledged, lost, duplicated, reordered and whatever else was wrong; fails on any. What fails
leaves its directory and a trace. See docs/durability.md.",
    run: |arguments| run("run", true, arguments),
};

pub(crate) const POWERCUT: Command = Command {
    name: "powercut",
    arguments: "[--states N] [--parallel P] [--seed S] [--durability LEVEL] [--kill] [--record]",
    about: "cut the power of a simulated disk under core and store, and check what their clients saw",
    details: "\
--states N          states of the disk to look at (2000)
--parallel P        runs at a time (2)
--seed S            where everything random begins (1)
--steps N           steps of a run (4000)
--one-in N          one operation on the disk of so many is looked at, in all runs but the first (20)
--durability LEVEL  ack, os, interval or none; a level that may lose is reported as losing
--kill              end the process instead: whatever was written is there
--record            append the outcome to docs/records/crash.tsv

Fails as `crash` does. What fails leaves a trace.",
    run: |arguments| run("powercut", false, arguments),
};

pub(crate) const FILL: Command = Command {
    name: "fill",
    arguments: "[--fills N] [--record]",
    about: "fill the disk under paloma again and again, and check that nothing is lost or damaged",
    details: "\
--fills N           how often (50)
--mebibytes N       size of the file system in memory that is filled (112), which the user has to be allowed to mount
--record            append the outcome to docs/records/crash.tsv

Prints after how long each time a message is taken again. Fails as `crash` does.",
    run: |arguments| run("fill", true, arguments),
};

const LEDGER: &str = "docs/records/crash.tsv";

fn run(what: &str, with_broker: bool, arguments: &[String]) -> Outcome {
    let mut build = process::cargo(&["build", "--release", "--quiet", "-p", "paloma-crash"]);
    if with_broker {
        build.args(["-p", "paloma"]);
    }
    process::run(&mut build)?;
    let release = workspace::target().join("release");
    let mut command = Process::new(release.join("paloma-crash"));
    command.arg(what).current_dir(workspace::root());
    if with_broker {
        command.arg("--paloma").arg(release.join("paloma"));
    }
    for argument in arguments {
        match argument.as_str() {
            "--record" => command.args(["--record", LEDGER, "--commit", &revision()]),
            other => command.arg(other),
        };
    }
    process::run(&mut command)
}

/// What is checked out, for the record.
fn revision() -> String {
    let git = Process::new("git")
        .args(["rev-parse", "--short", "HEAD"])
        .current_dir(workspace::root())
        .output();
    match git {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        Ok(_) | Err(_) => "unknown".to_owned(),
    }
}
