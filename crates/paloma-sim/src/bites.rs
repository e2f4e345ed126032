//! Proof that the oracle sees: each seeded fault is run until a seed shows it, or with the seed that is known to.

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use paloma_sim::{Bite, ERA, Run, bites, run, write_bites};
use paloma_topic::Fault;

use crate::{exit_code, print_line};

/// Seeds within which a fault has to be seen.
const SEEDS_MAX: u64 = 2_000;

/// Has a fault in the code, or none, from here on; false if there is none of that name, or this build has none at all.
pub(crate) fn choose(name: &str) -> bool {
    let found = find(name);
    found.is_some_and(|fault| put_in(Some(fault)))
}

fn name_of(fault: Fault) -> String {
    format!("{fault:?}")
}

fn find(name: &str) -> Option<Fault> {
    let mut faults = Fault::ALL.iter().map(|(fault, _)| *fault);
    faults.find(|fault| name_of(*fault) == name)
}

#[cfg(paloma_bites)]
fn put_in(fault: Option<Fault>) -> bool {
    Fault::choose(fault);
    true
}

#[cfg(not(paloma_bites))]
fn put_in(_: Option<Fault>) -> bool {
    eprintln!("this build has no faults in it: `cargo xtask sim` makes one that has");
    false
}

/// Runs every fault whose name contains `only`, and prints a row for each, and writes the seeds to a file if there is one.
/// Fails if a fault is not seen.
pub(crate) fn run_all(only: &str, threads: usize, record: Option<&Path>) -> ExitCode {
    print_line("| fault | caught by | seeds |");
    print_line("|---|---|---|");
    let (mut caught, mut missed) = (Vec::new(), 0);
    for (fault, about) in Fault::ALL {
        let name = name_of(fault);
        if !name.contains(only) {
            continue;
        }
        if !put_in(Some(fault)) {
            return ExitCode::FAILURE;
        }
        let found = first_violation(threads);
        put_in(None);
        match found {
            Some((seed, invariant)) => {
                let seeds = seed + 1;
                print_line(&format!("| {about} (`{name}`) | {invariant} | {seeds} |"));
                caught.push(Bite {
                    fault: name,
                    era: ERA,
                    seed,
                    invariant,
                });
            }
            None => {
                missed += 1;
                print_line(&format!(
                    "| {about} (`{name}`) | **nothing** | {SEEDS_MAX} |"
                ));
            }
        }
    }
    print_line(&format!("{} faults caught, {missed} missed", caught.len()));
    if let Some(file) = record
        && let Err(error) = renew(file, &caught)
    {
        eprintln!("{}: {error}", file.display());
        return ExitCode::FAILURE;
    }
    exit_code(missed == 0 && !caught.is_empty())
}

/// Puts the seeds that were found in the place of those of the same faults.
fn renew(file: &Path, found: &[Bite]) -> io::Result<()> {
    let mut known = bites();
    known.retain(|bite| found.iter().all(|new| new.fault != bite.fault));
    known.extend_from_slice(found);
    let place = |bite: &Bite| find(&bite.fault).map(|fault| fault as u8);
    known.retain(|bite| place(bite).is_some());
    known.sort_by_key(place);
    fs::write(file, write_bites(&known))
}

/// Runs each fault with the one seed that is known to show it, and that seed without it. Fails where it does not.
pub(crate) fn run_known() -> ExitCode {
    let known = bites();
    let mut wrong = 0;
    for (fault, about) in Fault::ALL {
        let name = name_of(fault);
        let Some(bite) = known.iter().find(|bite| bite.fault == name) else {
            print_line(&format!("{name}: no seed is known that shows it"));
            wrong += 1;
            continue;
        };
        let live = || {
            let report = run(&Run {
                seed: bite.seed,
                era: bite.era,
                ..Run::default()
            });
            report.violation
        };
        if !put_in(Some(fault)) {
            return ExitCode::FAILURE;
        }
        let is_seen = live().is_some();
        put_in(None);
        if !is_seen {
            print_line(&format!(
                "{name} ({about}): seed {} does not show it any more, which it did by {}",
                bite.seed, bite.invariant
            ));
            wrong += 1;
        }
        if let Some(violation) = live() {
            print_line(&format!(
                "seed {} without any fault: {violation}",
                bite.seed
            ));
            wrong += 1;
        }
    }
    let all = Fault::ALL.len();
    if wrong > 0 {
        print_line(&format!(
            "{wrong} of {all} faults or their seeds are not as crates/paloma-sim/bites.txt says. If the code is meant to behave otherwise \
             in these worlds: `cargo xtask sim --bites --record` finds other seeds and writes them down"
        ));
    } else {
        print_line(&format!(
            "{all} faults, each seen by the seed that is known to show it"
        ));
    }
    exit_code(wrong == 0)
}

/// The first seed that fails, and what does not hold in it.
fn first_violation(threads: usize) -> Option<(u64, String)> {
    let next = AtomicU64::new(0);
    let first: Mutex<Option<(u64, String)>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let found = || first.lock().unwrap_or_else(PoisonError::into_inner);
                    if seed >= SEEDS_MAX || found().is_some() {
                        return;
                    }
                    let report = run(&Run {
                        seed,
                        ..Run::default()
                    });
                    let Some(violation) = report.violation else {
                        continue;
                    };
                    let mut first = found();
                    // Another thread may have been quicker with a later seed.
                    if first.as_ref().is_none_or(|(other, _)| seed < *other) {
                        *first = Some((seed, violation.invariant.to_string()));
                    }
                }
            });
        }
    });
    first.into_inner().unwrap_or_else(PoisonError::into_inner)
}
