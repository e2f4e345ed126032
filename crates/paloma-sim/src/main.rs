//! `paloma-sim`: runs seeds and says what it found. `cargo xtask sim` builds and calls it.
#![expect(clippy::print_stdout, reason = "what a run finds is its output")]

mod bites;
mod ledger;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use clap::Parser;
use paloma_sim::{ERA, Report, Run, kept_seeds, run, shrink};

/// Runs Paloma's broker in simulated worlds.
#[derive(Debug, Parser)]
#[command(name = "paloma-sim", disable_version_flag = true)]
struct Arguments {
    /// Run so many seeds, and those that failed once.
    #[arg(long, value_name = "N", group = "many", conflicts_with_all = ["seed", "shrink"])]
    seeds: Option<u64>,
    /// The first of them.
    #[arg(long, value_name = "S", default_value_t = 0)]
    from: u64,
    /// Run one seed and print what happens in it.
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Live in the worlds that seeds made in an earlier era, as seeds.txt says it of those that failed once.
    #[arg(long, value_name = "N", default_value_t = ERA)]
    era: u32,
    /// With `--seed`: take only these steps of its plan, as `--shrink` prints them.
    #[arg(long, value_name = "STEPS", value_delimiter = ',', requires = "seed")]
    steps: Vec<String>,
    /// Leave out steps of a seed that fails as long as it fails the same way, and print what is left.
    #[arg(long, value_name = "S")]
    shrink: Option<u64>,
    /// Run each fault that is seeded in the code until a seed shows it; only those with TEXT in their name, if it is given.
    #[arg(
        long,
        value_name = "TEXT",
        num_args = 0..=1,
        default_missing_value = "",
        group = "many",
        conflicts_with_all = ["seeds", "seed", "shrink"]
    )]
    bites: Option<String>,
    /// Run each fault with the seed that is known to show it, and no other.
    #[arg(long, requires = "bites", conflicts_with = "record")]
    known: bool,
    /// Have this fault in the code, for `--seed` and `--shrink`.
    #[arg(long, value_name = "FAULT")]
    fault: Option<String>,
    /// Use so many threads.
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Add the run to this ledger; with `--bites`, write the seeds that show the faults there.
    #[arg(long, value_name = "FILE", requires = "many")]
    record: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // A panic in the code under test is reported as a violation, with its seed.
    std::panic::set_hook(Box::new(|_| {}));
    if let Some(only) = &arguments.bites {
        if arguments.known {
            return bites::run_known();
        }
        let record = arguments.record.as_deref();
        return bites::run_all(only, threads_of(&arguments), record);
    }
    if let Some(name) = &arguments.fault
        && !bites::choose(name)
    {
        eprintln!("{name} is no fault that this build has");
        return ExitCode::FAILURE;
    }
    match (arguments.seed, arguments.shrink) {
        (Some(seed), _) => run_one(seed, arguments.era, &arguments.steps),
        (None, Some(seed)) => shrink_one(seed, arguments.era),
        (None, None) => run_many(&arguments),
    }
}

fn run_one(seed: u64, era: u32, steps: &[String]) -> ExitCode {
    let Some(steps) = parse_steps(steps) else {
        eprintln!("steps are numbers and ranges, such as 3,7-12");
        return ExitCode::FAILURE;
    };
    let report = run(&Run {
        seed,
        era,
        steps: (!steps.is_empty()).then_some(steps),
        wants_lines: true,
    });
    print_trace(&report);
    exit_code(report.violation.is_none())
}

fn shrink_one(seed: u64, era: u32) -> ExitCode {
    let Some((steps, _)) = shrink(seed, era) else {
        println!("seed {seed} holds");
        return ExitCode::SUCCESS;
    };
    let numbers = format_steps(&steps);
    let report = run(&Run {
        seed,
        era,
        steps: Some(steps),
        wants_lines: true,
    });
    print_trace(&report);
    let era = if era == ERA {
        String::new()
    } else {
        format!(" --era {era}")
    };
    println!("again: cargo xtask sim --seed {seed}{era} --steps {numbers}");
    ExitCode::FAILURE
}

fn print_trace(report: &Report) {
    println!("seed {}: {}", report.seed, report.options);
    for line in &report.lines {
        println!("{line}");
    }
    println!("trace {:016x}", report.trace);
    match &report.violation {
        Some(violation) => println!("VIOLATION {violation}"),
        None => println!("holds"),
    }
}

pub(crate) fn print_line(line: &str) {
    println!("{line}");
}

/// What a run of many seeds adds up to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sum {
    pub(crate) seeds: u64,
    pub(crate) nanos: u64,
    pub(crate) faults: u64,
    pub(crate) messages: u64,
    pub(crate) violations: u64,
}

impl Sum {
    fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.nanos += report.nanos;
        self.faults += report.faults;
        self.messages += report.messages;
        self.violations += u64::from(report.violation.is_some());
    }
}

fn threads_of(arguments: &Arguments) -> usize {
    let threads = arguments.threads;
    threads
        .or_else(|| thread::available_parallelism().ok())
        .map_or(1, NonZeroUsize::get)
}

fn run_many(arguments: &Arguments) -> ExitCode {
    let count = arguments.seeds.unwrap_or(2_000);
    let threads = threads_of(arguments);
    let kept = kept_seeds();
    let start = Instant::now();
    let next = AtomicU64::new(0);
    let sum = Mutex::new(Sum::default());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let run_of = |seed, era| Run {
                        seed,
                        era,
                        ..Run::default()
                    };
                    let wanted = match place.checked_sub(kept.len() as u64) {
                        Some(number) if number >= count => return,
                        Some(number) => run_of(arguments.from + number, arguments.era),
                        None => match usize::try_from(place).ok().and_then(|at| kept.get(at)) {
                            Some(kept) => run_of(kept.seed, kept.era),
                            None => return,
                        },
                    };
                    let report = run(&wanted);
                    if let Some(violation) = &report.violation {
                        println!("seed {}: {violation}\n  {}", report.seed, report.options);
                    }
                    sum.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .add(&report);
                }
            });
        }
    });
    let sum = *sum.lock().unwrap_or_else(PoisonError::into_inner);
    let seconds = start.elapsed().as_secs_f64();
    if let Some(file) = &arguments.record
        && let Err(error) = ledger::record(file, arguments.from, &sum)
    {
        eprintln!("{}: {error}", file.display());
        return ExitCode::FAILURE;
    }
    println!(
        "{} seeds ({} kept), {:.1} hours simulated, {} messages, {} faults, {} violations, {:.0} seeds/s on {threads} threads",
        sum.seeds,
        kept.len(),
        hours(sum.nanos),
        sum.messages,
        sum.faults,
        sum.violations,
        rate(sum.seeds, seconds),
    );
    exit_code(sum.violations == 0)
}

#[expect(clippy::cast_precision_loss, reason = "for reading only")]
fn hours(nanos: u64) -> f64 {
    nanos as f64 / 3.6e12
}

#[expect(clippy::cast_precision_loss, reason = "for reading only")]
fn rate(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds.max(1e-9)
}

fn exit_code(is_good: bool) -> ExitCode {
    if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Numbers and ranges, both ends included.
fn parse_steps(parts: &[String]) -> Option<Vec<usize>> {
    let mut steps = Vec::new();
    for part in parts {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        steps.extend(first.parse::<usize>().ok()?..=last.parse().ok()?);
    }
    Some(steps)
}

fn format_steps(steps: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for step in steps {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == *step => *last = *step,
            Some(_) | None => parts.push((*step, *step)),
        }
    }
    let parts = parts.iter().map(|(first, last)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    });
    parts.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_read_as_they_are_written() {
        let steps = vec![1, 2, 3, 7, 9, 10];
        assert_eq!(format_steps(&steps), "1-3,7,9-10");
        let parts: Vec<String> = "1-3,7,9-10".split(',').map(str::to_owned).collect();
        assert_eq!(parse_steps(&parts), Some(steps));
        assert_eq!(parse_steps(&["x".to_owned()]), None);
    }
}
