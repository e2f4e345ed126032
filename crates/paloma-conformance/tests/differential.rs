//! Paloma beside mosquitto: generated scripts, and every difference is a failure. And what the suite finds in mosquitto.
//!
//! `PALOMA_DIFFERENTIAL_SEEDS` says how many scripts, `PALOMA_DIFFERENTIAL_FIRST` from which seed on.

mod support;

use std::env;
use std::fs;
use std::process::Command;
use std::time::Duration;

use paloma_conformance::differential::{Script, play};
use paloma_conformance::{Outcome, Plan, Setting, Target, run, run_name, sections};
use paloma_interop::broker::{Broker, Kind};
use paloma_interop::process::Process;
use paloma_interop::tools::in_path;
use support::free_port;

const SEEDS: u64 = 60;

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

fn setting(address: &str, run: &str) -> Setting {
    Setting {
        target: Target::Tcp(address.to_owned()),
        run: run.to_owned(),
        answer: Duration::from_secs(30),
        quiet: Duration::from_millis(100),
        test: Duration::from_secs(300),
    }
}

/// mosquitto on a free port, with the defaults that its users have.
fn mosquitto() -> Option<(Process, String)> {
    mosquitto_of_version().map(|(process, address, _)| (process, address))
}

/// The same, with its version.
fn mosquitto_of_version() -> Option<(Process, String, String)> {
    let Some(program) = in_path("mosquitto") else {
        let required = env::var("PALOMA_REQUIRE_TOOLS").is_ok_and(|value| value == "1");
        assert!(!required, "mosquitto is not installed");
        eprintln!("skipped: mosquitto is not installed");
        return None;
    };
    let port = free_port();
    let file = env::temp_dir().join(format!(
        "paloma-differential-{}-{port}.conf",
        std::process::id()
    ));
    let text = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\nlog_dest stderr\n"
    );
    fs::write(&file, text).expect("a file");
    let mut process = Process::start(Command::new(program).arg("-c").arg(&file));
    // `mosquitto version 2.0.11 starting`, then the same with `running`.
    let version = process.find_line("it runs", |line| {
        let (_, rest) = line
            .strip_suffix(" running")?
            .split_once("mosquitto version ")?;
        Some(rest.to_owned())
    });
    fs::remove_file(&file).expect("our file");
    Some((process, format!("127.0.0.1:{port}"), version))
}

/// The first step in which the two differ.
fn difference(ours: &[String], theirs: &[String]) -> Option<String> {
    let longest = ours.len().max(theirs.len());
    (0..longest).find_map(|at| {
        let (our, their) = (ours.get(at), theirs.get(at));
        (our != their).then(|| {
            let none = "nothing more".to_owned();
            format!(
                "  paloma:    {}\n  mosquitto: {}",
                our.unwrap_or(&none),
                their.unwrap_or(&none)
            )
        })
    })
}

#[test]
fn paloma_and_mosquitto_react_alike_to_generated_scripts() {
    if Kind::under_test() != Kind::Paloma {
        eprintln!("skipped: another broker is under test");
        return;
    }
    let Some((mut process, address)) = mosquitto() else {
        return;
    };
    let broker = Broker::start();
    let run = run_name();
    let ours = setting(&broker.address().to_string(), &run);
    let theirs = setting(&address, &run);
    let first = number("PALOMA_DIFFERENTIAL_FIRST", 1);
    let mut differences = Vec::new();
    let seeds = number("PALOMA_DIFFERENTIAL_SEEDS", SEEDS);
    for seed in first..first + seeds {
        let script = Script::of_seed(seed);
        let both = std::thread::scope(|scope| {
            let other = scope.spawn(|| play(&script, &theirs));
            (play(&script, &ours), other.join().expect("no panic"))
        });
        let found = match both {
            (Ok(our), Ok(their)) => difference(&our, &their),
            (our, their) => Some(format!(
                "  paloma:    {:?}\n  mosquitto: {:?}",
                our.err(),
                their.err()
            )),
        };
        if let Some(found) = found {
            differences.push(format!("seed {seed} in {:?}:\n{found}", script.version));
        }
    }
    process.kill();
    broker.stop();
    assert!(
        differences.is_empty(),
        "{} of {seeds} scripts differ:\n{}",
        differences.len(),
        differences.join("\n")
    );
    eprintln!("{seeds} scripts, no difference");
}

/// The tests that the first table of the page names.
fn listed() -> Vec<&'static str> {
    const PAGE: &str = include_str!("../../../docs/differences.md");
    let rows = PAGE
        .lines()
        .filter(|line| line.starts_with("| MQTT") || line.starts_with("| PALOMA"));
    let last = rows.filter_map(|row| row.trim_end_matches([' ', '|']).rsplit('|').next());
    last.flat_map(|tests| tests.split('`').skip(1).step_by(2))
        .collect()
}

/// A suite that finds nothing in anybody is not sharp enough.
#[test]
fn the_suite_finds_in_mosquitto_what_the_page_lists() {
    let sections = sections();
    let names: Vec<&str> = sections
        .iter()
        .flat_map(|section| section.tests.iter().map(|test| test.name))
        .collect();
    for name in listed() {
        assert!(names.contains(&name), "the suite has no test {name}");
    }
    let Some((mut process, address, version)) = mosquitto_of_version() else {
        return;
    };
    if version != "2.0.11" {
        eprintln!("skipped: the page is about mosquitto 2.0.11, not {version}");
        process.kill();
        return;
    }
    let plan = Plan {
        setting: Setting {
            answer: Duration::from_secs(5),
            ..setting(&address, &run_name())
        },
        version: None,
        only: None,
        parallel: 48,
    };
    let records = run(&plan, &sections, |_, _, _| {}).expect("the broker is there");
    process.kill();
    let missed: Vec<&str> = listed()
        .into_iter()
        .filter(|name| {
            let mut runs = records.iter().filter(|record| record.name == *name);
            !runs.any(|record| matches!(record.outcome, Outcome::Failed(_)))
        })
        .collect();
    assert!(missed.is_empty(), "passed, although listed: {missed:?}");
}
