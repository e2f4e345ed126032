//! The command line of the hostile clients.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use paloma_hostile::{ACTORS, Plan, Turn, run};

/// Attacks a broker of its own in every way it knows, and watches what that does to others.
#[derive(Parser)]
#[command(name = "paloma-hostile")]
struct Arguments {
    /// The `paloma` binary.
    #[arg(long)]
    paloma: PathBuf,
    /// Minutes for all actors together; without it each has one small, counted turn.
    #[arg(long)]
    minutes: Option<f64>,
    /// The only actor.
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(ACTORS.iter().map(|actor| actor.name)))]
    only: Option<String>,
    /// Where everything random begins.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One JSON object per line in place of the table.
    #[arg(long)]
    json: bool,
    /// Prints the actors and what each does.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    match act(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            let _closed = writeln!(io::stderr(), "paloma-hostile: {error}");
            ExitCode::FAILURE
        }
    }
}

fn act(arguments: &Arguments) -> io::Result<ExitCode> {
    let mut out = io::stdout();
    if arguments.list {
        for actor in ACTORS {
            writeln!(out, "{:<12} {}", actor.name, actor.about)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let duration = arguments
        .minutes
        .map(|minutes| Duration::from_secs_f64(minutes.clamp(0.1, 10_000.0) * 60.0));
    let plan = Plan {
        program: arguments.paloma.canonicalize()?,
        duration,
        only: arguments.only.clone(),
        seed: arguments.seed,
    };
    let record = run(&plan, tell)?;
    if arguments.json {
        write!(out, "{}", record.json_lines())?;
    } else {
        writeln!(out, "{record}")?;
    }
    Ok(if record.findings().is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Progress, for whoever waits for minutes.
fn tell(turn: &Turn) {
    let tally = &turn.tally;
    let line = format!(
        "{:<12} {:>8} attempts {:>4} unexpected {:>7.1} s",
        turn.name,
        tally.attempts,
        tally.unexpected,
        turn.elapsed.as_secs_f64()
    );
    let _closed = writeln!(io::stderr(), "{line}");
}
