//! `cargo xtask sim`: the broker in simulated worlds.

use std::process::Command as Process;

use crate::{Command, failure::Outcome, process, workspace};

pub(crate) const COMMAND: Command = Command {
    name: "sim",
    arguments: "[--seeds N [--from S] [--record] | --seed S [--steps LIST] | --shrink S | --bites [TEXT]]",
    about: "run the broker in simulated worlds, each drawn from a seed and judged by an oracle",
    details: "\
--seeds N     N seeds (2000), and those that failed once; the last line says what they add up to
--from S      the first of them (0)
--record      add the run to docs/records/sim.tsv
--seed S      one seed, with a line for everything that happens
--steps LIST  only these steps of its plan
--shrink S    leave out steps of a seed that fails for as long as it fails
--bites       seed each fault that the code can be built with, and count the seeds until the oracle sees it; with TEXT only
              those whose name contains it
--fault NAME  with --seed or --shrink: in a build that has this fault
--threads N   all cores by default

Fails on any violation, and on a fault that is not seen. See docs/simulation.md.",
    run: simulate,
};

/// Fast, and with the cores' own assertions on.
const PROFILE: &str = "sim";

/// Seeds that every change is run with.
const SEEDS_IN_CI: &str = "2000";

/// The same with faults to be seeded.
const FAULTY_PROFILE: &str = "bites";

/// What such a build is told by.
const FAULTY_FLAG: &str = "--cfg paloma_bites";

fn simulate(arguments: &[String]) -> Outcome {
    let is_faulty = arguments
        .iter()
        .any(|argument| argument == "--bites" || argument == "--fault");
    let profile = if is_faulty { FAULTY_PROFILE } else { PROFILE };
    let mut build = process::cargo(&["build", "--profile", profile, "--quiet", "-p", "paloma-sim"]);
    if is_faulty {
        let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
        build.env("RUSTFLAGS", format!("{flags} {FAULTY_FLAG}"));
    }
    process::run(&mut build)?;
    let program = workspace::target().join(profile).join("paloma-sim");
    let mut command = Process::new(program);
    command.current_dir(workspace::root());
    for argument in arguments {
        command.arg(argument);
        if argument == "--record" {
            command.arg("docs/records/sim.tsv");
        }
    }
    process::run(&mut command)
}

pub(crate) fn check() -> Outcome {
    simulate(&["--seeds".to_owned(), SEEDS_IN_CI.to_owned()])
}
