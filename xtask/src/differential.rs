//! `cargo xtask differential`: generated scripts to Paloma and to mosquitto.

use crate::{
    Command,
    failure::{Failure, Outcome},
    process,
};

pub(crate) const COMMAND: Command = Command {
    name: "differential",
    arguments: "[--seeds N] [--first S]",
    about: "the same generated scripts to paloma and to mosquitto, whose reactions must not differ",
    details: "\
--seeds N   how many scripts (1000); the tests of the workspace play 60
--first S   the seed of the first (1)

Needs mosquitto, and is skipped without it. What may differ, and why, is in docs/differences.md.",
    run,
};

fn run(arguments: &[String]) -> Outcome {
    let usage = || Failure::Usage("cargo xtask differential [--seeds N] [--first S]".to_owned());
    let mut command = process::cargo(&[
        "test",
        "--quiet",
        "-p",
        "paloma-conformance",
        "--test",
        "differential",
        "--",
        "--nocapture",
    ]);
    command.env("PALOMA_DIFFERENTIAL_SEEDS", "1000");
    let mut rest = arguments.iter();
    while let Some(name) = rest.next() {
        let variable = match name.as_str() {
            "--seeds" => "PALOMA_DIFFERENTIAL_SEEDS",
            "--first" => "PALOMA_DIFFERENTIAL_FIRST",
            _ => return Err(usage()),
        };
        let value: u64 = rest
            .next()
            .and_then(|value| value.parse().ok())
            .ok_or_else(usage)?;
        command.env(variable, value.to_string());
    }
    process::run(&mut command)
}
