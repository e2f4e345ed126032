//! Proof that the oracle sees: each seeded fault is run until a seed shows it.

use std::process::ExitCode;

#[cfg(paloma_bites)]
use crate::{exit_code, print_line};

/// Seeds within which a fault has to be seen.
#[cfg(paloma_bites)]
const SEEDS_MAX: u64 = 1_000;

/// Runs every fault whose name contains `only`, and prints a row for each. Fails if one is not seen.
#[cfg(paloma_bites)]
pub(crate) fn run_all(only: &str, threads: usize) -> ExitCode {
    use paloma_topic::Fault;

    print_line("| fault | caught by | seeds |");
    print_line("|---|---|---|");
    let (mut caught, mut missed) = (0, 0);
    for (fault, about) in Fault::ALL {
        let name = format!("{fault:?}");
        if !name.contains(only) {
            continue;
        }
        Fault::choose(Some(fault));
        let outcome = first_violation(threads);
        Fault::choose(None);
        match outcome {
            Some((seeds, invariant)) => {
                caught += 1;
                print_line(&format!("| {about} (`{name}`) | {invariant} | {seeds} |"));
            }
            None => {
                missed += 1;
                print_line(&format!(
                    "| {about} (`{name}`) | **nothing** | {SEEDS_MAX} |"
                ));
            }
        }
    }
    print_line(&format!("{caught} faults caught, {missed} missed"));
    exit_code(missed == 0 && caught > 0)
}

/// Has the fault of this name in the code from here on.
#[cfg(paloma_bites)]
pub(crate) fn choose(name: &str) {
    let mut faults = paloma_topic::Fault::ALL.iter();
    let fault = faults.find(|(fault, _)| format!("{fault:?}") == name);
    paloma_topic::Fault::choose(fault.map(|(fault, _)| *fault));
}

/// How many seeds it takes until one fails, and what does not hold in it.
#[cfg(paloma_bites)]
fn first_violation(threads: usize) -> Option<(u64, String)> {
    use std::sync::Mutex;
    use std::sync::PoisonError;
    use std::sync::atomic::{AtomicU64, Ordering};

    use paloma_sim::{Run, run};

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
                    if first.as_ref().is_none_or(|(seeds, _)| seed < *seeds - 1) {
                        *first = Some((seed + 1, violation.invariant.to_string()));
                    }
                }
            });
        }
    });
    first.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// This build has no faults.
#[cfg(not(paloma_bites))]
pub(crate) fn run_all(_only: &str, _threads: usize) -> ExitCode {
    eprintln!("this build has no faults in it: `cargo xtask sim --bites` makes one that has");
    ExitCode::FAILURE
}
