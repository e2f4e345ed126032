//! The chores of this workspace: `cargo xtask COMMAND`.
#![expect(clippy::print_stdout, reason = "what a chore finds is its output")]

mod bench_gate;
mod ci;
mod crash;
mod differential;
mod examples;
mod failure;
mod features;
mod fuzz;
mod hostile;
mod libraries;
mod licences;
mod load;
mod mutants;
mod nostd;
mod process;
mod sim;
mod size;
mod spec;
mod tidy;
mod workspace;

use std::{env, process::ExitCode};

use failure::{Failure, Outcome};

/// One chore.
struct Command {
    name: &'static str,
    /// What follows the name on the command line.
    arguments: &'static str,
    /// One line for the list.
    about: &'static str,
    /// What `--help` adds, in full lines.
    details: &'static str,
    run: fn(&[String]) -> Outcome,
}

const COMMANDS: &[Command] = &[
    ci::COMMAND,
    ci::TEST,
    tidy::COMMAND,
    spec::COMMAND,
    nostd::COMMAND,
    features::COMMAND,
    size::COMMAND,
    licences::COMMAND,
    examples::COMMAND,
    fuzz::COMMAND,
    bench_gate::COMMAND,
    libraries::COMMAND,
    load::COMMAND,
    load::IDLE_MEMORY,
    load::SCALE,
    hostile::COMMAND,
    sim::COMMAND,
    differential::COMMAND,
    mutants::COMMAND,
    crash::CRASH,
    crash::POWERCUT,
    crash::FILL,
];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Outcome {
    let Some((name, rest)) = arguments.split_first() else {
        print_help();
        return Ok(());
    };
    if ["-h", "--help", "help"].contains(&name.as_str()) {
        print_help();
        return Ok(());
    }
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        return Err(Failure::Usage(format!(
            "no command `{name}`; see `cargo xtask --help`"
        )));
    };
    // What follows `--` belongs to the tool that the command calls.
    let own = rest.iter().take_while(|argument| *argument != "--");
    if own
        .into_iter()
        .any(|argument| argument == "-h" || argument == "--help")
    {
        println!(
            "{}\n\ncargo xtask {} {}",
            command.about, command.name, command.arguments
        );
        println!("\n{}", command.details.trim_end());
        return Ok(());
    }
    (command.run)(rest)
}

fn print_help() {
    println!("The chores of this workspace\n\ncargo xtask COMMAND [--help]\n");
    for command in COMMANDS {
        println!("  {:<12} {}", command.name, command.about);
    }
    println!(
        "\nPALOMA_REQUIRE_TOOLS=1 makes a missing tool (valgrind, …) an error; else its check is skipped, loudly."
    );
}
