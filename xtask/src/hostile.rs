//! `cargo xtask hostile`: release builds of the broker and of those who attack it, then the attack.

use std::process::Command as Process;

use crate::{Command, failure::Outcome, process, workspace};

pub(crate) const COMMAND: Command = Command {
    name: "hostile",
    arguments: "[--minutes N] [--only ACTOR] [--seed S] [--json] [--list]",
    about: "attack paloma in every way it must survive, beside clients that must not notice",
    details: "\
--minutes N   full turns of all actors in rotation for so long; otherwise each has one small turn
--only ACTOR  that one alone
--seed S      where everything random begins (1)
--json        one JSON object for each actor and one for the whole, in place of a table
--list        the actors and what each does

Prints what was answered, the latency of the clients beside, the broker's memory and CPU, and a verdict; fails if the broker
died, one of their messages was lost, memory did not come back in 10 s, or an answer was not the expected one. See
docs/hostile.md.",
    run: attack,
};

fn attack(arguments: &[String]) -> Outcome {
    process::run(&mut process::cargo(&[
        "build",
        "--release",
        "--quiet",
        "-p",
        "paloma",
        "-p",
        "paloma-hostile",
    ]))?;
    let release = workspace::target().join("release");
    let mut command = Process::new(release.join("paloma-hostile"));
    command.arg("--paloma").arg(release.join("paloma"));
    process::run(command.args(arguments).current_dir(workspace::root()))
}
