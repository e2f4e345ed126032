//! `cargo xtask bench-gate`: instructions per unit of work, counted under callgrind, against committed references.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::Command as Process,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use crate::{
    Command,
    failure::{Failure, Outcome},
    process, workspace,
};

pub(crate) const COMMAND: Command = Command {
    name: "bench-gate",
    arguments: "[--update] [PREFIX]",
    about: "count instructions under callgrind and compare with benches/instructions.tsv",
    details: "\
--update   write the counts as the new references (of the scenarios that were run)
PREFIX     only scenarios whose name begins so, for instance `codec/`

Fails where a count is more than 5 % and 25 instructions above its reference. The tolerance covers another version of the
C library, whose memcpy is counted too, and what the compiler chooses to inline, which code elsewhere may change; the same
program repeats itself within 0.1 %. A count as far below is printed as a gain to be secured with --update. Another compiler
counts differently: the references name theirs.",
    run: |arguments| {
        let update = arguments.iter().any(|argument| argument == "--update");
        let prefix = arguments.iter().find(|argument| !argument.starts_with('-'));
        gate(prefix.map_or("", String::as_str), update)
    },
};

const TOLERANCE_PERCENT: f64 = 5.0;
/// Small counts move by this much when the compiler inlines differently.
const TOLERANCE_INSTRUCTIONS: f64 = 25.0;
const REFERENCES: &str = "benches/instructions.tsv";
/// The function of paloma-bench inside which callgrind counts.
const COUNTED_REGION: &str = "*paloma_counted_region*";

/// Instructions per unit, by scenario.
pub(crate) type Counts = BTreeMap<String, f64>;

pub(crate) fn check() -> Outcome {
    gate("", false)
}

fn gate(prefix: &str, update: bool) -> Outcome {
    if !process::has_tool("valgrind")? {
        println!("SKIPPED: valgrind is not installed");
        return Ok(());
    }
    process::run(&mut process::cargo(&[
        "build",
        "--locked",
        "--release",
        "-p",
        "paloma-bench",
        "--bin",
        "instructions",
    ]))?;
    let mut scenarios = list_scenarios(&mut Process::new(program()))?;
    scenarios.retain(|scenario| scenario.name.starts_with(prefix));
    let counts = count_all(&scenarios, || Process::new(program()))?;
    let path = workspace::root().join(REFERENCES);
    let text = fs::read_to_string(&path).unwrap_or_default();
    let mut references = parse_references(&text);
    if update {
        references.retain(|name, _| !name.starts_with(prefix));
        references.extend(counts);
        return fs::write(&path, write_references(&references, &compiler()?))
            .map_err(Failure::file(&path));
    }
    references.retain(|name, _| name.starts_with(prefix));
    let findings = compare(&references, &counts);
    if !findings.is_empty() && !text.contains(&compiler()?) {
        println!(
            "the references were counted with another compiler than this one, {}",
            compiler()?
        );
    }
    Failure::unless_empty("bench-gate", findings)
}

/// A line of the list that a program of counted work prints.
pub(crate) struct Scenario {
    pub(crate) name: String,
    /// Units handled inside the counted region.
    units: f64,
}

/// Reads the list that `command` prints: name, units of a call, calls.
pub(crate) fn list_scenarios(command: &mut Process) -> Outcome<Vec<Scenario>> {
    let text = process::stdout(command)?;
    let parsed: Option<Vec<Scenario>> = text
        .lines()
        .map(|line| {
            let mut fields = line.split('\t');
            let name = fields.next()?.to_owned();
            let units: f64 = fields.next()?.parse().ok()?;
            let calls: f64 = fields.next()?.parse().ok()?;
            Some(Scenario {
                name,
                units: units * calls,
            })
        })
        .collect();
    parsed.ok_or(Failure::Format {
        what: "list of scenarios",
        problem: text,
    })
}

fn program() -> PathBuf {
    workspace::target().join("release/instructions")
}

/// Counts on all cores: other work on the machine changes the time, not the count. `program` gives the command that runs the
/// scenario of the name that follows.
pub(crate) fn count_all(
    scenarios: &[Scenario],
    program: impl Fn() -> Process + Sync,
) -> Outcome<Counts> {
    let next = AtomicUsize::new(0);
    let counts = Mutex::new(Ok(Counts::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(scenario) = scenarios.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let counted = count(scenario, &program());
                    let mut counts = counts
                        .lock()
                        .expect("no thread panics while it holds this lock");
                    match (counts.as_mut(), counted) {
                        (Ok(counts), Ok(count)) => {
                            counts.insert(scenario.name.clone(), count);
                        }
                        (Ok(_), Err(failure)) => *counts = Err(failure),
                        (Err(_), _) => return,
                    }
                }
            });
        }
    });
    counts
        .into_inner()
        .expect("no thread panics while it holds this lock")
}

fn count(scenario: &Scenario, program: &Process) -> Outcome<f64> {
    let directory = workspace::target().join("callgrind");
    fs::create_dir_all(&directory).map_err(Failure::file(&directory))?;
    let out = directory.join(scenario.name.replace(['/', ' ', '|', ','], "_"));
    let mut command = Process::new("valgrind");
    command
        .args([
            "--quiet",
            "--tool=callgrind",
            &format!("--toggle-collect={COUNTED_REGION}"),
        ])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program.get_program())
        .args(program.get_args())
        .arg(&scenario.name);
    process::stdout(&mut command)?;
    let text = fs::read_to_string(&out).map_err(Failure::file(&out))?;
    let problem = format!("no count for {} in {}", scenario.name, out.display());
    total(&text)
        .map(|total| total / scenario.units)
        .ok_or(Failure::Format {
            what: "callgrind",
            problem,
        })
}

/// The instructions in callgrind's output file; none if nothing was counted.
fn total(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| {
        line.strip_prefix("summary:")
            .or_else(|| line.strip_prefix("totals:"))
    })?;
    line.trim().parse().ok().filter(|total| *total > 0.0)
}

pub(crate) fn compiler() -> Outcome<String> {
    Ok(process::stdout(Process::new("rustc").arg("--version"))?
        .trim()
        .to_owned())
}

fn parse_references(text: &str) -> Counts {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once('\t'))
        .filter_map(|(name, count)| Some((name.to_owned(), count.parse().ok()?)))
        .collect()
}

fn write_references(references: &Counts, compiler: &str) -> String {
    let mut text = format!(
        "# Instructions per unit, written by `cargo xtask bench-gate --update` with {compiler}.\n"
    );
    for (name, count) in references {
        text.push_str(&format!("{name}\t{count:.1}\n"));
    }
    text
}

/// Prints all counts and returns what the gate refuses.
fn compare(references: &Counts, counts: &Counts) -> Vec<String> {
    let mut findings = Vec::new();
    println!(
        "{:<44} {:>12} {:>12} {:>8}",
        "scenario", "reference", "counted", "change"
    );
    for (name, count) in counts {
        let Some(reference) = references.get(name) else {
            findings.push(format!(
                "{name} has no reference: cargo xtask bench-gate --update"
            ));
            continue;
        };
        let change = (count / reference - 1.0) * 100.0;
        let matters = (count - reference).abs() > TOLERANCE_INSTRUCTIONS;
        let gain = if matters && change < -TOLERANCE_PERCENT {
            "  a gain: secure it with --update"
        } else {
            ""
        };
        println!("{name:<44} {reference:>12.1} {count:>12.1} {change:>+7.1}%{gain}");
        if matters && change > TOLERANCE_PERCENT {
            findings.push(format!(
                "{name}: {count:.1} instructions, {change:+.1} % against {reference:.1}"
            ));
        }
    }
    for name in references.keys().filter(|name| !counts.contains_key(*name)) {
        findings.push(format!(
            "{name} has a reference but is no scenario any more"
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(entries: &[(&str, f64)]) -> Counts {
        entries
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect()
    }

    fn check(reference: &[(&str, f64)], counted: &[(&str, f64)], findings: usize) {
        assert_eq!(
            compare(&counts(reference), &counts(counted)).len(),
            findings
        );
    }

    #[test]
    fn more_than_the_tolerance_is_refused_and_less_is_not() {
        check(&[("a", 1000.0)], &[("a", 1049.0)], 0);
        check(&[("a", 1000.0)], &[("a", 1051.0)], 1);
        check(&[("a", 1000.0)], &[("a", 500.0)], 0);
        check(&[("a", 100.0)], &[("a", 124.0)], 0);
        check(&[("a", 100.0)], &[("a", 126.0)], 1);
    }

    #[test]
    fn scenarios_and_references_must_match() {
        check(&[], &[("a", 1.0)], 1);
        check(&[("a", 1.0)], &[], 1);
    }

    #[test]
    fn references_survive_being_written_and_read() {
        let references = counts(&[("codec/x", 12.5), ("topic/y", 1000.0)]);
        assert_eq!(
            parse_references(&write_references(&references, "rustc 1.2.3")),
            references
        );
    }

    #[test]
    fn callgrind_total_is_found_and_zero_is_not_a_count() {
        assert_eq!(total("events: Ir\nsummary: 1234\nfn=x\n"), Some(1234.0));
        assert_eq!(total("totals: 7\n"), Some(7.0));
        assert_eq!(total("summary: 0\n"), None);
        assert_eq!(total("fn=x\n"), None);
    }
}
