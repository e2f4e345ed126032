//! `cargo xtask ci`: everything that must pass before a change lands, and `cargo xtask test`, its middle.

use std::time::{Duration, Instant};

use crate::{
    Command, bench_gate, examples,
    failure::{Failure, Outcome},
    features, fuzz, licences, nostd, process, sim, spec, tidy, workspace,
};

pub(crate) const COMMAND: Command = Command {
    name: "ci",
    arguments: "[STEP…]",
    about: "everything that must pass before a change lands, or the named steps of it",
    details: "\
Runs all steps even if one fails, prints each with its time, lists the failed ones at the end, and ends with
`N passed, M failed`. Steps, in this order: format tidy spec licences clippy test transports doctest doc fuzz-replay fuzz sim nostd
features package examples bench-gate.",
    run: run_ci,
};

pub(crate) const TEST: Command = Command {
    name: "test",
    arguments: "[ARGUMENT…]",
    about: "all tests and doc tests of the workspace",
    details: "Arguments are passed on to `cargo test`, for instance a test's name.",
    run: |arguments| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        run_tests(&arguments)?;
        run_doctests(&arguments)
    },
};

/// A step of `ci`.
struct Step {
    name: &'static str,
    run: fn() -> Outcome,
}

/// Cheap steps that often fail come first.
const STEPS: &[Step] = &[
    Step {
        name: "format",
        run: check_format,
    },
    Step {
        name: "tidy",
        run: tidy::check,
    },
    Step {
        name: "spec",
        run: spec::check,
    },
    Step {
        name: "licences",
        run: licences::check,
    },
    Step {
        name: "clippy",
        run: run_clippy,
    },
    Step {
        name: "test",
        run: || run_tests(&[]),
    },
    Step {
        name: "transports",
        run: run_over_transports,
    },
    Step {
        name: "doctest",
        run: || run_doctests(&[]),
    },
    Step {
        name: "doc",
        run: build_docs,
    },
    Step {
        name: "fuzz-replay",
        run: fuzz::replay,
    },
    Step {
        name: "fuzz",
        run: fuzz::fuzz_briefly,
    },
    Step {
        name: "sim",
        run: sim::check,
    },
    Step {
        name: "nostd",
        run: nostd::check,
    },
    Step {
        name: "features",
        run: features::check,
    },
    Step {
        name: "package",
        run: package,
    },
    Step {
        name: "examples",
        run: examples::check,
    },
    Step {
        name: "bench-gate",
        run: bench_gate::check,
    },
];

fn run_ci(names: &[String]) -> Outcome {
    if let Some(unknown) = names
        .iter()
        .find(|name| !STEPS.iter().any(|step| step.name == **name))
    {
        return Err(Failure::Usage(format!(
            "no step `{unknown}`; see `cargo xtask ci --help`"
        )));
    }
    let start = Instant::now();
    let chosen = STEPS
        .iter()
        .filter(|step| names.is_empty() || names.iter().any(|name| name == step.name));
    let results: Vec<(&str, Duration, Outcome)> = chosen.map(run_step).collect();
    println!("\n== summary, {}", seconds(start.elapsed()));
    for (name, time, outcome) in &results {
        println!(
            "{} {name:<12} {:>8}",
            if outcome.is_ok() { "passed" } else { "FAILED" },
            seconds(*time)
        );
    }
    let failures: Vec<String> = results
        .iter()
        .filter_map(|(name, _, outcome)| {
            outcome
                .as_ref()
                .err()
                .map(|failure| format!("{name}: {failure}"))
        })
        .collect();
    for failure in &failures {
        println!("\n{failure}");
    }
    println!(
        "\n{} passed, {} failed",
        results.len() - failures.len(),
        failures.len()
    );
    if failures.is_empty() {
        Ok(())
    } else {
        std::process::exit(1)
    }
}

fn run_step(step: &Step) -> (&'static str, Duration, Outcome) {
    println!("\n== {}", step.name);
    let start = Instant::now();
    let outcome = (step.run)();
    let time = start.elapsed();
    let word = if outcome.is_ok() { "passed" } else { "FAILED" };
    println!("== {} {word} in {}", step.name, seconds(time));
    (step.name, time, outcome)
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn check_format() -> Outcome {
    process::run(&mut process::cargo(&["fmt", "--all", "--check"]))?;
    let mut manifests = workspace::example_manifests()?;
    manifests.push("fuzz/Cargo.toml".to_owned());
    for manifest in &manifests {
        process::run(&mut process::cargo(&[
            "fmt",
            "--check",
            "--manifest-path",
            manifest,
        ]))?;
    }
    Ok(())
}

fn run_clippy() -> Outcome {
    let main = [
        "clippy",
        "--locked",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    process::run(&mut process::cargo(&main))?;
    // The broker as its users build it: in the workspace, every crate has the features that all others want of it.
    for features in [&[][..], &["--no-default-features"]] {
        let mut broker = process::cargo(&["clippy", "--locked", "-p", "paloma"]);
        process::run(broker.args(features).args(["--", "-D", "warnings"]))?;
    }
    let fuzz = [
        "clippy",
        "--manifest-path",
        "fuzz/Cargo.toml",
        "--lib",
        "--tests",
        "--",
        "-D",
        "warnings",
    ];
    process::run(&mut process::cargo(&fuzz))
}

/// Not `--all-targets`: running criterion's benches without optimisation takes long and shows nothing. The binaries are built
/// first, since tests of other packages start them.
fn run_tests(arguments: &[&str]) -> Outcome {
    process::run(&mut process::cargo(&[
        "build",
        "--locked",
        "--workspace",
        "--bins",
    ]))?;
    let all = [
        "test",
        "--locked",
        "--workspace",
        "--lib",
        "--bins",
        "--tests",
        "--examples",
    ];
    process::run(process::cargo(&all).args(arguments))
}

/// Suites that run again over each other transport than TCP.
const OVER_ALL: [&str; 7] = [
    "clients_own",
    "clients_rumqttc",
    "command_lines",
    "exactly_once",
    "home_automation",
    "malformed",
    "wills",
];

/// The other transports, and what runs over them besides: the libraries in other languages, whose tests take longest.
const OVER: [(&str, &[&str]); 4] = [
    ("tls", &["clients_mqttjs", "clients_paho"]),
    ("ws", &["clients_mqttjs", "clients_paho"]),
    ("wss", &[]),
    ("unix", &["clients_paho"]),
];

fn run_over_transports() -> Outcome {
    for (transport, suites) in OVER {
        println!("over {transport}");
        let mut command = process::cargo(&["test", "--locked", "-p", "paloma-interop"]);
        for suite in OVER_ALL.iter().chain(suites) {
            command.args(["--test", suite]);
        }
        process::run(command.env("PALOMA_TEST_TRANSPORT", transport))?;
    }
    Ok(())
}

fn run_doctests(arguments: &[&str]) -> Outcome {
    process::run(process::cargo(&["test", "--locked", "--workspace", "--doc"]).args(arguments))
}

fn build_docs() -> Outcome {
    let mut command = process::cargo(&["doc", "--locked", "--workspace", "--no-deps"]);
    process::run(command.env("RUSTDOCFLAGS", "-D warnings"))
}

/// Without the verifying build: the same sources were just built, and it would build every crate a second time.
fn package() -> Outcome {
    let arguments = [
        "package",
        "--locked",
        "--workspace",
        "--no-verify",
        "--allow-dirty",
        "--quiet",
    ];
    process::run(&mut process::cargo(&arguments))
}
