//! `paloma-crash`: what `cargo xtask crash` and its siblings run.
#![allow(clippy::print_stdout, reason = "what it finds is its output")]

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use paloma_crash::check::Verdict;
use paloma_crash::ledger::{self, Entry};
use paloma_crash::power::{self, Build, Campaign, Crash, Run as PowerRun};
use paloma_crash::process::full::{self, Small};
use paloma_crash::process::{self, Plan};
use paloma_store_redb::Durability;

#[derive(Debug, Parser)]
#[command(about = "Crashes, power cuts and broken disks under the Paloma broker")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Kill the real broker again and again under load.
    Run(Run),
    /// Cut the power of a simulated disk at every write and sync.
    Powercut(Powercut),
    /// Fill the real broker's disk again and again.
    Fill(Fill),
}

#[derive(Debug, Args)]
struct Record {
    /// Append the outcome to this file.
    #[arg(long)]
    record: Option<PathBuf>,
    /// The revision to note there.
    #[arg(long, default_value = "unknown")]
    commit: String,
}

#[derive(Debug, Args)]
struct Run {
    /// The broker.
    #[arg(long)]
    paloma: PathBuf,
    /// Kills in all.
    #[arg(long, default_value_t = 50)]
    cycles: u64,
    /// Series at a time.
    #[arg(long, default_value_t = 2)]
    parallel: usize,
    /// Where everything random begins.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The level of durability.
    #[arg(long, default_value = "ack")]
    durability: String,
    /// Where directories are made.
    #[arg(long)]
    root: Option<PathBuf>,
    #[command(flatten)]
    record: Record,
}

#[derive(Debug, Args)]
struct Fill {
    /// The broker.
    #[arg(long)]
    paloma: PathBuf,
    /// How often.
    #[arg(long, default_value_t = 50)]
    fills: u64,
    /// Size of the file system, of which the broker's reserve takes 64.
    #[arg(long, default_value_t = 112)]
    mebibytes: u32,
    /// Where the file system is mounted.
    #[arg(long)]
    root: Option<PathBuf>,
    #[command(flatten)]
    record: Record,
}

#[derive(Debug, Args)]
struct Powercut {
    /// States of the disk to look at.
    #[arg(long, default_value_t = 2_000)]
    states: u64,
    /// Runs at a time.
    #[arg(long, default_value_t = 2)]
    parallel: usize,
    /// Where everything random begins.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Steps of a run.
    #[arg(long, default_value_t = 4_000)]
    steps: u32,
    /// One operation of so many on the disk is looked at, in all runs but the first.
    #[arg(long, default_value_t = 20)]
    one_in: u64,
    /// The level of durability.
    #[arg(long, default_value = "ack")]
    durability: Durability,
    /// Kill the process, not the machine.
    #[arg(long)]
    kill: bool,
    #[command(flatten)]
    record: Record,
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(arguments) => run(arguments),
        Command::Powercut(arguments) => powercut(&arguments),
        Command::Fill(arguments) => fill(&arguments),
    }
}

fn powercut(arguments: &Powercut) -> ExitCode {
    let crash = if arguments.kill {
        Crash::Kill
    } else {
        Crash::PowerCut
    };
    let campaign = Campaign {
        first: PowerRun {
            build: Build::sound(arguments.durability, crash),
            seed: arguments.seed,
            steps: arguments.steps,
            one_in: arguments.one_in,
            goes_on: true,
        },
        states: arguments.states,
        parallel: arguments.parallel,
        stops_at_failure: true,
    };
    let findings = power::campaign(campaign, |seed, findings| {
        if !findings.verdict.is_clean() {
            println!(
                "seed {seed}: {} states, {}",
                findings.states, findings.verdict
            );
            for words in &findings.verdict.words {
                println!("    {words}");
            }
            if let Some(trace) = &findings.trace {
                let file = std::env::temp_dir().join(format!("powercut-{seed}.txt"));
                match fs::write(&file, trace) {
                    Ok(()) => println!("    first of them: {}", file.display()),
                    Err(error) => println!("    {}: {error}", file.display()),
                }
            }
        }
    });
    println!("operations on the disk: {}", findings.operations);
    conclude(
        "powercut",
        "states",
        arguments.seed,
        findings.states,
        &findings.verdict,
        &arguments.record,
    )
}

fn run(arguments: Run) -> ExitCode {
    let program = match arguments.paloma.canonicalize() {
        Ok(program) => program,
        Err(error) => {
            eprintln!("{}: {error}", arguments.paloma.display());
            return ExitCode::FAILURE;
        }
    };
    let plan = Plan {
        program,
        root: arguments.root.unwrap_or_else(std::env::temp_dir),
        durability: arguments.durability,
        cycles: arguments.cycles,
        parallel: arguments.parallel,
        seed: arguments.seed,
        stops_at_failure: true,
    };
    let (cycles, verdict) = process::run(&plan, |outcome| {
        let slowest = outcome.restarts.iter().max().copied().unwrap_or_default();
        println!(
            "seed {}: {} cycles, {}, slowest start {slowest:.0?}",
            outcome.seed, outcome.cycles, outcome.verdict
        );
        for words in &outcome.verdict.words {
            println!("    {words}");
        }
        if !outcome.verdict.is_clean() {
            println!("    directory and trace: {}", outcome.directory.display());
            println!(
                "    again: --seed {} --cycles {}",
                outcome.seed, outcome.cycles
            );
        }
    });
    conclude(
        "crash",
        "cycles",
        plan.seed,
        cycles,
        &verdict,
        &arguments.record,
    )
}

fn fill(arguments: &Fill) -> ExitCode {
    let program = match arguments.paloma.canonicalize() {
        Ok(program) => program,
        Err(error) => {
            eprintln!("{}: {error}", arguments.paloma.display());
            return ExitCode::FAILURE;
        }
    };
    let root = arguments.root.clone().unwrap_or_else(std::env::temp_dir);
    let place = root.join(format!("fill-{}", std::process::id()));
    let Some(mut small) = Small::mount(&place, arguments.mebibytes) else {
        eprintln!("{}: nothing may be mounted there", place.display());
        return ExitCode::FAILURE;
    };
    let filled = full::run(&program, &mut small, arguments.fills, |fill, resumed| {
        println!("fill {fill}: a message is taken {resumed:.1?} after there is room");
    });
    drop(small);
    let _ = fs::remove_dir(&place);
    for words in &filled.verdict.words {
        println!("    {words}");
    }
    let slowest = filled.resumed.iter().max().copied().unwrap_or_default();
    println!("the longest wait for a message to be taken: {slowest:.1?}");
    let (fills, verdict) = (filled.fills, &filled.verdict);
    conclude("fill", "fills", 0, fills, verdict, &arguments.record)
}

/// Records a run, prints its last line, and says whether all is well.
fn conclude(
    what: &str,
    unit: &str,
    seed: u64,
    states: u64,
    verdict: &Verdict,
    record: &Record,
) -> ExitCode {
    if let Some(file) = &record.record {
        let entry = Entry {
            what,
            commit: &record.commit,
            seed,
            states,
            verdict,
        };
        match ledger::append(file, entry) {
            Ok((states, acknowledged)) => {
                println!("in all recorded runs: {unit} {states}, acknowledged {acknowledged}");
            }
            Err(error) => {
                eprintln!("{}: {error}", file.display());
                return ExitCode::FAILURE;
            }
        }
    }
    println!("{unit} {states}, {verdict}");
    if verdict.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
