//! `cargo xtask load` and `cargo xtask idle-memory`: release builds of the broker and the load, then a run of them.

use std::process::Command as Process;

use crate::{Command, failure::Outcome, process, workspace};

pub(crate) const COMMAND: Command = Command {
    name: "load",
    arguments: "[--durable] [--quick] [OPTION…]",
    about: "compare paloma with the reference server and mosquitto in every load scenario",
    details: "\
--quick             one short run of each, without those that prepare a million of something
--durable           QoS 1 that is kept, beside the same disk's syncs, redb alone and mosquitto; takes the next four options only
--only TEXT         only scenarios whose name contains this
--rounds N          runs of each, of which the median counts (3)
--seconds S         measured in each run (2; 1 with --durable)
--directory DIR     on the disk that counts (target/durable)
--plot FILE         draws the broker's CPU for each message into an SVG file
--unpinned          let broker and load share all cores; otherwise each gets one
--broker NAME=LINE  another broker; {port} in its command line stands for the port

Prints tables in markdown: broker CPU, rate, latency and memory, with paloma's ratio to each of the others. mosquitto
takes part where it is installed, and so do rumqttd and mqttv5 (cargo install rumqttd mqttv5-cli). Scenarios that prepare a
million of something are run once.",
    run: |arguments| compare(arguments),
};

pub(crate) const IDLE_MEMORY: Command = Command {
    name: "idle-memory",
    arguments: "[OPTION…]",
    about: "measure what an idle connection costs `paloma serve` in memory, with 10,000 of them",
    details: "\
--connections N     how many (10000)
--protocol V        3.1.1 or 5.0

Prints the bytes for each and fails above 1,536. Needs 10,064 open files in each of two processes and raises the limit
where the system lets it.",
    run: |arguments| idle_memory(arguments),
};

pub(crate) const SCALE: Command = Command {
    name: "scale",
    arguments: "[--quick] [OPTION…]",
    about: "start and drain `paloma serve` with a million queued messages and 100,000 sessions",
    details: "\
--quick             1,000 sessions, 20,000 messages, 60,000 to drain
--sessions N        sessions with a subscription each (100000)
--messages N        messages of 200 bytes queued for them (1000000)
--drained N         messages of 1,000 bytes that one client drains (500000)
--memory MIB        resident memory that the broker may need meanwhile (256)
--ready SECONDS     the longest that a start may take (10)
--gigabytes N       only the starts of a store whose file has about so many
--directory DIR     on the disk that counts (target/durable)

Prints a table in markdown. Fails if a start takes longer, resident memory grows larger, the file stays long after the drain, or a
message is missing or out of order.",
    run: |arguments| scale(arguments),
};

/// What an idle connection may cost.
const IDLE_BYTES_MAX: &str = "1536";

fn compare(arguments: &[String]) -> Outcome {
    build()?;
    if arguments.iter().any(|argument| argument == "--durable") {
        return durable(arguments);
    }
    let mut command = load("compare");
    command.arg("--paloma").arg(paloma());
    if let Some(mosquitto) = mosquitto() {
        command.arg("--mosquitto").arg(mosquitto);
    }
    for (flag, program) in [("--rumqttd", "rumqttd"), ("--mqttv5", "mqttv5")] {
        if starts(program) {
            command.arg(flag).arg(program);
        }
    }
    for argument in arguments {
        match argument.as_str() {
            "--quick" => command.args(["--rounds", "1", "--seconds", "1", "--spare-large"]),
            other => command.arg(other),
        };
    }
    process::run(&mut command)
}

fn durable(arguments: &[String]) -> Outcome {
    let mut command = with_directory("durable", arguments);
    if let Some(mosquitto) = mosquitto() {
        command.arg("--mosquitto").arg(mosquitto);
    }
    for argument in arguments {
        match argument.as_str() {
            "--durable" => &mut command,
            "--quick" => command.args(["--rounds", "1", "--seconds", "0.5"]),
            other => command.arg(other),
        };
    }
    process::run(&mut command)
}

fn scale(arguments: &[String]) -> Outcome {
    build()?;
    let mut command = with_directory("scale", arguments);
    for argument in arguments {
        match argument.as_str() {
            "--quick" => command.args(QUICK_SCALE),
            other => command.arg(other),
        };
    }
    process::run(&mut command)
}

/// Seconds in place of minutes, also for a build without optimisation on a busy machine.
const QUICK_SCALE: [&str; 6] = [
    "--sessions",
    "1000",
    "--messages",
    "20000",
    "--drained",
    "60000",
];

/// A run over paloma in a directory of this workspace, unless another is named.
fn with_directory(what: &str, arguments: &[String]) -> Process {
    let mut command = load(what);
    command.arg("--paloma").arg(paloma());
    if !arguments.iter().any(|argument| argument == "--directory") {
        command
            .arg("--directory")
            .arg(workspace::target().join("durable"));
    }
    command
}

fn idle_memory(arguments: &[String]) -> Outcome {
    build()?;
    let mut command = load("idle");
    command.args(["--bytes-max", IDLE_BYTES_MAX, "--paloma"]);
    command.arg(paloma()).args(arguments);
    process::run(&mut command)
}

fn build() -> Outcome {
    process::run(&mut process::cargo(&[
        "build",
        "--release",
        "-p",
        "paloma",
        "-p",
        "paloma-load",
    ]))
}

fn load(scenario: &str) -> Process {
    let mut command = Process::new(workspace::target().join("release/paloma-load"));
    command.arg(scenario).current_dir(workspace::root());
    command
}

fn paloma() -> std::path::PathBuf {
    workspace::target().join("release/paloma")
}

/// A daemon that is often outside the search path of an ordinary user.
fn mosquitto() -> Option<&'static str> {
    [
        "mosquitto",
        "/usr/sbin/mosquitto",
        "/usr/local/sbin/mosquitto",
    ]
    .into_iter()
    .find(|program| starts(program))
}

/// Help ends with a code of each program's own choice; only whether it starts counts.
fn starts(program: &str) -> bool {
    Process::new(program)
        .arg("-h")
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .is_ok()
}
