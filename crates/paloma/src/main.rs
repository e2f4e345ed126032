//! The Paloma MQTT broker and its command line.

mod cli;
mod config;
mod serve;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command, ConfigArgs};
use crate::config::{Config, Flags};

/// The command line or the configuration is wrong.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(arguments) => match configuration(&arguments) {
            Ok(config) => serve::serve(&config),
            Err(code) => code,
        },
        Command::Check(arguments) => check(&arguments),
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
