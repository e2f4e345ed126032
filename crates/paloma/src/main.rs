//! The Paloma MQTT broker and its command line.

#[cfg(feature = "admin")]
mod admin;
#[cfg(not(feature = "admin"))]
#[path = "no_admin.rs"]
mod admin;
mod auth;
#[cfg(feature = "bench")]
mod bench;
mod cli;
#[cfg(feature = "clients")]
mod client;
mod config;
#[cfg(feature = "control")]
mod control;
#[cfg(not(feature = "control"))]
#[path = "no_control.rs"]
mod control;
mod few;
mod lines;
mod listeners;
mod log;
mod memory;
mod notify;
mod parts;
mod passwd;
mod reload;
#[cfg(feature = "replay")]
mod replay;
mod serve;
#[cfg(feature = "store")]
mod store;
#[cfg(not(feature = "store"))]
#[path = "no_store.rs"]
mod store;
#[cfg(any(feature = "clients", feature = "control"))]
#[cfg_attr(
    not(feature = "clients"),
    expect(dead_code, reason = "only `sub` writes times in a format of one's own")
)]
mod utc;

use std::io::{ErrorKind, Write};
#[cfg(feature = "control")]
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use crate::auth::Security;
use crate::cli::{CheckArgs, Command, ConfigArgs, ConfigCommand};
use crate::config::{Config, Flags, Problems};
use crate::listeners::certificate_warning;

/// The command line or the configuration is wrong.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let parsed = match cli::parse(std::env::args_os()) {
        Ok(parsed) => parsed,
        Err(error) => return usage(&error),
    };
    match parsed.cli.command {
        Command::Serve(arguments) => match configuration(&arguments) {
            Ok((config, security)) => serve::serve(&arguments, &config, security),
            Err(code) => code,
        },
        Command::Check(arguments) => check(&arguments),
        #[cfg(feature = "control")]
        Command::Trace(arguments) => control::trace(&arguments),
        #[cfg(feature = "control")]
        Command::Why(arguments) => control::why(&arguments),
        #[cfg(feature = "replay")]
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Config(ConfigCommand::Show(arguments)) => match configuration(&arguments) {
            Ok((config, _)) => print(config::show(&config).as_bytes()),
            Err(code) => code,
        },
        Command::Config(ConfigCommand::ImportMosquitto { file }) => {
            match config::import_mosquitto(&file) {
                Ok(imported) => {
                    for note in &imported.notes {
                        eprintln!("{}: {note}", file.display());
                    }
                    print(imported.text.as_bytes())
                }
                Err(fault) => fail(&format_args!("{}: {fault}", file.display())),
            }
        }
        #[cfg(feature = "manual")]
        Command::Completions { shell } => {
            let mut script = Vec::new();
            cli::completions(shell, &mut script);
            print(&script)
        }
        #[cfg(feature = "manual")]
        Command::Man { dir } => {
            let mut page = Vec::new();
            match cli::manual(dir.as_deref(), &mut page) {
                Ok(()) => print(&page),
                Err(error) => fail(&error),
            }
        }
        Command::Passwd(arguments) => passwd::run(&arguments),
        #[cfg(feature = "store")]
        Command::Store(command) => store::run(&command),
        #[cfg(feature = "bench")]
        Command::Bench(command) => bench::run(&command),
        #[cfg(feature = "clients")]
        Command::Pub(arguments) => client::publish(&arguments, parsed.properties),
        #[cfg(feature = "clients")]
        Command::Sub(arguments) => client::subscribe(&arguments, parsed.properties),
    }
}

/// Prints all of `bytes`.
fn print(bytes: &[u8]) -> ExitCode {
    match std::io::stdout().write_all(bytes) {
        Ok(()) => ExitCode::SUCCESS,
        // Who reads only the beginning of it has what he wants.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("paloma: {error}");
    ExitCode::FAILURE
}

/// Prints what is wrong with the command line, or the help that was asked for.
fn usage(error: &clap::Error) -> ExitCode {
    let name = std::env::args_os().nth(1).unwrap_or_default();
    if let Err(part) = parts::need_command(&name.to_string_lossy()) {
        return usage_error(&format_args!("{}: {part}", name.display()));
    }
    // There is nobody left to tell if this fails.
    drop(error.print());
    let is_client = name == "pub" || name == "sub";
    match error.exit_code() {
        0 => ExitCode::SUCCESS,
        _ if is_client => ExitCode::FAILURE,
        _ => ExitCode::from(EXIT_USAGE),
    }
}

fn usage_error(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("paloma: {error}");
    ExitCode::from(EXIT_USAGE)
}

/// The control socket that a configuration names, if it does. The files that it names besides are not looked at.
#[cfg(feature = "control")]
fn control_socket(file: Option<&Path>) -> Result<Option<PathBuf>, ExitCode> {
    let mut problems = Problems::default();
    let config = config::load(file, std::env::vars_os(), &Flags::default(), &mut problems);
    problems.tidy();
    if problems.0.is_empty() {
        return Ok(config.admin.control);
    }
    eprintln!("{problems}");
    Err(ExitCode::from(EXIT_USAGE))
}

/// Says whether `paloma serve` would accept the same arguments, or what a broker that runs would make of them.
fn check(arguments: &CheckArgs) -> ExitCode {
    if arguments.against_running
        && let Err(part) = parts::CONTROL.need()
    {
        return usage_error(&format_args!("--against-running: {part}"));
    }
    match configuration(&arguments.config) {
        #[cfg(feature = "control")]
        Ok((config, _)) if arguments.against_running => {
            control::check(arguments.config.config.as_deref(), &config)
        }
        Ok((config, _)) => {
            for listener in &config.listeners {
                eprintln!("paloma: would listen on {}", listener.url());
                let tls = listener.transport.load_tls().ok().flatten();
                let now = SystemTime::now();
                if let Some(warning) = tls.and_then(|tls| certificate_warning(&tls, now)) {
                    eprintln!("paloma: {}: {warning}", listener.name);
                }
            }
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}

/// The configuration that the arguments, the environment and the file add up to, and what its files say. What is wrong
/// with it is printed.
fn configuration(arguments: &ConfigArgs) -> Result<(Config, Security), ExitCode> {
    read_configuration(arguments).map_err(|problems| {
        eprintln!("{problems}");
        ExitCode::from(EXIT_USAGE)
    })
}

/// The same for whoever tells what is wrong in their own way.
fn read_configuration(arguments: &ConfigArgs) -> Result<(Config, Security), Problems> {
    let flags = Flags {
        listen: arguments.listen.clone(),
        allow_anonymous: arguments.allow_anonymous,
        cert: arguments.cert.clone(),
        key: arguments.key.clone(),
        data: arguments.data.clone(),
        in_memory: arguments.in_memory,
        log: arguments.log.clone(),
        record: arguments.record.clone(),
    };
    let mut problems = Problems::default();
    let file = arguments.config.as_deref();
    let config = config::load(file, std::env::vars_os(), &flags, &mut problems);
    let security = Security::read(&config, &mut problems);
    problems.tidy();
    if problems.0.is_empty() {
        Ok((config, security))
    } else {
        Err(problems)
    }
}
