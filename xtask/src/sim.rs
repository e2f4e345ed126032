//! `cargo xtask sim`: the broker in simulated worlds.

use std::path::{Path, PathBuf};
use std::process::Command as Process;

use crate::{Command, failure::Outcome, process, workspace};

pub(crate) const COMMAND: Command = Command {
    name: "sim",
    arguments: "[--seeds N [--from S] [--record] | --seed S [--steps LIST] | --shrink S | --bites [TEXT] [--known | --record]]",
    about: "run the broker in simulated worlds, each drawn from a seed and judged by an oracle",
    details: "\
--seeds N     N seeds (2000), and those that failed once; the last line says what they add up to
--from S      the first of them (0)
--record      add the run to docs/records/sim.tsv; with --bites, write the seeds that show the faults to crates/paloma-sim/bites.txt
--seed S      one seed, with a line for everything that happens
--steps LIST  only these steps of its plan
--shrink S    leave out steps of a seed that fails for as long as it fails
--bites       seed each fault that the code can be built with, and count the seeds until the oracle sees it; with TEXT only
              those whose name contains it
--known       with --bites: each fault with the seed of crates/paloma-sim/bites.txt alone
--fault NAME  with --seed or --shrink: with this fault in the code
--era N       the worlds as they were drawn before something new came into them: see docs/simulation.md
--threads N   all cores by default

Fails on any violation, and on a fault that is not seen. See docs/simulation.md.",
    run: simulate,
};

/// Fast, and with the cores' own assertions on.
const PROFILE: &str = "sim";

/// Faults are in the code, to be chosen at run time; unless one is, none has an effect.
const FAULTY_FLAG: &str = "--cfg paloma_bites";

/// Seeds that every change is run with.
const SEEDS_IN_CI: &str = "2000";

fn simulate(arguments: &[String]) -> Outcome {
    run(&build()?, arguments)
}

fn build() -> Outcome<PathBuf> {
    let mut build = process::cargo(&["build", "--profile", PROFILE, "--quiet", "-p", "paloma-sim"]);
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    build.env("RUSTFLAGS", format!("{flags} {FAULTY_FLAG}"));
    process::run(&mut build)?;
    Ok(workspace::target().join(PROFILE).join("paloma-sim"))
}

fn run(program: &Path, arguments: &[String]) -> Outcome {
    let is = |option: &str| arguments.iter().any(|argument| argument == option);
    let mut command = Process::new(program);
    command.current_dir(workspace::root());
    let file = if is("--bites") {
        "crates/paloma-sim/bites.txt"
    } else {
        "docs/records/sim.tsv"
    };
    for argument in arguments {
        command.arg(argument);
        if argument == "--record" {
            command.arg(file);
        }
    }
    process::run(&mut command)
}

pub(crate) fn check() -> Outcome {
    let program = build()?;
    run(&program, &["--seeds".to_owned(), SEEDS_IN_CI.to_owned()])?;
    run(&program, &["--bites".to_owned(), "--known".to_owned()])
}
