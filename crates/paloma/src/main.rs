//! The Paloma MQTT broker and its command line.

mod admin;
mod cli;
mod client;
mod config;
mod notify;
mod serve;

use std::process::ExitCode;

use crate::cli::{Command, ConfigArgs};
use crate::config::{Config, Flags};

/// The command line or the configuration is wrong.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let (cli, properties) = match cli::parse(std::env::args_os()) {
        Ok(parsed) => parsed,
        Err(error) => return usage(&error),
    };
    match cli.command {
        Command::Serve(arguments) => match configuration(&arguments) {
            Ok(config) => serve::serve(&config),
            Err(code) => code,
        },
        Command::Check(arguments) => check(&arguments),
        Command::Pub(arguments) => client::publish(&arguments, properties),
        Command::Sub(arguments) => client::subscribe(&arguments, properties),
    }
}

/// Prints what is wrong with the command line, or the help that was asked for.
fn usage(error: &clap::Error) -> ExitCode {
    // There is nobody left to tell if this fails.
    drop(error.print());
    let is_client = std::env::args_os()
        .nth(1)
        .is_some_and(|name| name == "pub" || name == "sub");
    match error.exit_code() {
        0 => ExitCode::SUCCESS,
        _ if is_client => ExitCode::FAILURE,
        _ => ExitCode::from(EXIT_USAGE),
    }
}

/// Says whether `paloma serve` would accept the same arguments.
fn check(arguments: &ConfigArgs) -> ExitCode {
    match configuration(arguments) {
        Ok(config) => {
            for listener in &config.listeners {
                eprintln!("paloma: would listen on tcp://{}", listener.address);
            }
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}

/// The configuration that the arguments, the environment and the file add up to. What is wrong with
/// it is printed.
fn configuration(arguments: &ConfigArgs) -> Result<Config, ExitCode> {
    let flags = Flags {
        listen: arguments.listen.clone(),
        allow_anonymous: arguments.allow_anonymous,
        data: arguments.data.clone(),
        log: arguments.log.clone(),
    };
    config::load(arguments.config.as_deref(), std::env::vars_os(), &flags).map_err(|problems| {
        eprintln!("{problems}");
        ExitCode::from(EXIT_USAGE)
    })
}
