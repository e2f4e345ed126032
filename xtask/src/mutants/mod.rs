//! `cargo xtask mutants`: a random sample of changed checks, each of which some test has to notice.

mod judge;
mod list;
mod rewrite;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::{
    Command,
    failure::{Failure, Outcome},
    process, workspace,
};
use judge::Answer;
use tree::{Program, Tree};

pub(crate) const COMMAND: Command = Command {
    name: "mutants",
    arguments: "[--sample N] [--seed S] [-p CRATE…] [--only TEXT…] [--jobs N] [--resume] [--alone] [--record]",
    about: "changes checks at random, one at a time, and fails on a change that no test notices",
    details: "\
--sample N   how many changes (300)
--seed S     which ones, and in which order (1)
-p CRATE     of these crates, in place of paloma-topic, -codec, -session and -broker
--only TEXT  of those with this in their name
--jobs N     programs of tests at a time (2)
--resume     take over what a run of the same sample that was cut short has judged
--alone      only what has to be built alone, beside a run that has built everything else
--record     append the outcome to docs/records/mutants.tsv, and what nobody noticed to docs/records/mutants-unnoticed.tsv

cargo-mutants (`cargo install cargo-mutants --locked`) makes the list of changes. One build has all of a sample in it, each behind
a question whether it is the one that is wanted, so that a change costs a run of tests and no build; what does not compile that way
is built alone. First the changed crate's own tests, then, for what they did not notice, those of the crates above it, the
simulation's seeds and the suite of both standards against the binary. See \"Changed checks\" in docs/ARCHITECTURE.md.
Results are in target/mutants/results.tsv.",
    run,
};

/// Where the protocol is, from the bottom up.
const CRATES: [&str; 4] = [
    "paloma-topic",
    "paloma-codec",
    "paloma-session",
    "paloma-broker",
];
/// Whose tests play whole brokers.
const ABOVE: [&str; 2] = ["paloma-sim", "paloma-conformance"];
/// Percent of changes that have to be noticed.
const ENOUGH: usize = 90;
const RECORD: &str = "docs/records/mutants.tsv";
const RECORD_TITLE: &str =
    "commit\tseed\tsample\tunviable\tcaught\tcaught_above\ttimed_out\tharmless\tmissed\tpercent\n";
const UNNOTICED: &str = "docs/records/mutants-unnoticed.tsv";
const UNNOTICED_TITLE: &str = "commit\tseed\tverdict\tchange\n";

struct Options {
    sample: usize,
    seed: u64,
    crates: Vec<&'static str>,
    only: Vec<String>,
    jobs: usize,
    is_resumed: bool,
    is_alone: bool,
    is_recorded: bool,
}

fn options(arguments: &[String]) -> Outcome<Options> {
    let usage = || Failure::Usage(format!("cargo xtask mutants {}", COMMAND.arguments));
    let mut options = Options {
        sample: 300,
        seed: 1,
        crates: Vec::new(),
        only: Vec::new(),
        jobs: 2,
        is_resumed: false,
        is_alone: false,
        is_recorded: false,
    };
    let mut rest = arguments.iter();
    while let Some(name) = rest.next() {
        let switch = match name.as_str() {
            "--resume" => Some(&mut options.is_resumed),
            "--alone" => Some(&mut options.is_alone),
            "--record" => Some(&mut options.is_recorded),
            _ => None,
        };
        if let Some(switch) = switch {
            *switch = true;
            continue;
        }
        let value = rest.next().ok_or_else(usage)?;
        match name.as_str() {
            "--sample" => options.sample = value.parse().map_err(|_| usage())?,
            "--seed" => options.seed = value.parse().map_err(|_| usage())?,
            "--jobs" => options.jobs = value.parse().map_err(|_| usage())?,
            "--only" => options.only.push(value.clone()),
            "-p" => {
                let known = CRATES.into_iter().find(|known| known == value);
                options.crates.push(known.ok_or_else(usage)?);
            }
            _ => return Err(usage()),
        }
    }
    if options.crates.is_empty() {
        options.crates.extend(CRATES);
    }
    Ok(options)
}

fn run(arguments: &[String]) -> Outcome {
    let options = options(arguments)?;
    let revision = options.is_recorded.then(revision).transpose()?;
    let mut all = list::all(&options.crates)?;
    if !options.only.is_empty() {
        all.retain(|mutant| options.only.iter().any(|text| mutant.name.contains(text)));
    }
    let count = all.len();
    let chosen = list::choose(all, options.sample, options.seed);
    println!("{} of {count} changes, seed {}", chosen.len(), options.seed);
    let exceptions = list::exceptions()?;
    let tree = Tree::new(&CRATES, chosen)?;
    let mut trial = Trial::new(tree, exceptions, options.jobs, options.is_resumed)?;
    if !options.is_alone {
        trial.judge_asleep()?;
    }
    trial.judge_alone()?;
    let tally = Tally::of(&trial.verdicts);
    println!("{tally}");
    if let Some(revision) = revision {
        let row = tally.row(&revision, options.seed);
        append(RECORD, RECORD_TITLE, &row)?;
        append(
            UNNOTICED,
            UNNOTICED_TITLE,
            &trial.unnoticed_rows(&revision, options.seed),
        )?;
    }
    let missed = trial.verdicts.iter();
    let missed = missed.filter(|(_, verdict)| **verdict == Verdict::Missed);
    let missed = missed.map(|(number, _)| trial.tree.mutant(*number).name.clone());
    Failure::unless_empty("mutants", missed.collect())?;
    if tally.percent() < ENOUGH as f64 {
        return Err(Failure::Findings {
            check: "mutants",
            findings: vec![format!("fewer than {ENOUGH} % were noticed")],
        });
    }
    Ok(())
}

/// The commit that is judged. What is not committed could not be judged again.
fn revision() -> Outcome<String> {
    let git = |arguments: &[&str]| {
        let mut git = std::process::Command::new("git");
        process::stdout(git.args(arguments).current_dir(workspace::root()))
    };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    let changed = changed.lines().map(|line| format!("not committed: {line}"));
    Failure::unless_empty("mutants", changed.collect())?;
    Ok(git(&["rev-parse", "--short", "HEAD"])?.trim().to_owned())
}

/// Adds rows at the end of a file that begins with its title.
fn append(path: &str, title: &str, rows: &str) -> Outcome {
    let path = workspace::root().join(path);
    let text = if path.exists() {
        fs::read_to_string(&path).map_err(Failure::file(&path))?
    } else {
        title.to_owned()
    };
    fs::write(&path, text + rows).map_err(Failure::file(&path))
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// A test of its crate noticed it.
    Caught(String),
    /// A test of a crate above did.
    CaughtAbove(String),
    TimedOut,
    /// It is no program.
    Unviable,
    /// Nothing noticed it, and the list of exceptions says why that is no harm.
    Harmless,
    Missed,
}

impl Verdict {
    /// Its name, and who noticed.
    fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Caught(by) => ("caught", by),
            Self::CaughtAbove(by) => ("caught above", by),
            Self::TimedOut => ("timed out", ""),
            Self::Unviable => ("unviable", ""),
            Self::Harmless => ("harmless", ""),
            Self::Missed => ("missed", ""),
        }
    }

    /// Who noticed stands above the change's crate, or does not.
    fn seen_above(mut self, is_above: bool) -> Self {
        if let Self::Caught(by) = &mut self
            && is_above
        {
            return Self::CaughtAbove(std::mem::take(by));
        }
        self
    }

    /// The one with this name.
    fn of_parts(what: &str, by: &str) -> Option<Self> {
        match what {
            "caught" => Some(Self::Caught(by.to_owned())),
            "caught above" => Some(Self::CaughtAbove(by.to_owned())),
            "timed out" => Some(Self::TimedOut),
            "unviable" => Some(Self::Unviable),
            "harmless" => Some(Self::Harmless),
            "missed" => Some(Self::Missed),
            _ => None,
        }
    }
}

/// By the numbers of changes.
type Verdicts = Vec<(u32, Verdict)>;

/// A sample while it is judged.
struct Trial {
    tree: Tree,
    exceptions: Vec<String>,
    jobs: usize,
    /// The crates' own programs of tests, the fastest first.
    programs: Vec<Program>,
    verdicts: BTreeMap<u32, Verdict>,
    results: PathBuf,
    began: Instant,
}

impl Trial {
    fn new(
        mut tree: Tree,
        exceptions: Vec<String>,
        jobs: usize,
        is_resumed: bool,
    ) -> Outcome<Self> {
        let results = workspace::target().join("mutants/results.tsv");
        let verdicts = if is_resumed {
            let text = fs::read_to_string(&results).map_err(Failure::file(&results))?;
            judged_before(&text, &tree)
        } else {
            fs::write(&results, "").map_err(Failure::file(&results))?;
            BTreeMap::new()
        };
        let mut programs = Vec::new();
        if verdicts.len() < tree.numbers().count() {
            tree.settle(&["check", "--keep-going"], &CRATES)?;
            programs = tree.settle(&["test", "--no-run"], &CRATES)?;
        }
        if is_resumed {
            println!("{} were judged before", verdicts.len());
        } else {
            programs = baseline(programs, None)?;
        }
        Ok(Self {
            programs,
            tree,
            exceptions,
            jobs,
            verdicts,
            results,
            began: Instant::now(),
        })
    }

    /// Those without a verdict.
    fn open(&self) -> impl Iterator<Item = u32> {
        let numbers = self.tree.numbers();
        numbers.filter(|number| !self.verdicts.contains_key(number))
    }

    /// Judges what is in the copy already.
    fn judge_asleep(&mut self) -> Outcome {
        let asleep: Vec<u32> = self.open().filter(|n| self.tree.is_asleep(*n)).collect();
        let (caught, left) = self.judge(&asleep, &|number| self.own(number), None)?;
        self.verdicts.extend(caught);
        println!("{} are left for the crates above", left.len());
        if left.is_empty() {
            return Ok(());
        }
        let (caught, left) = self.judge(&left, &|number| self.higher(number), None)?;
        self.verdicts.extend(above(caught));
        if left.is_empty() {
            return Ok(());
        }
        let programs = self.tree.settle(&["test", "--no-run"], &ABOVE)?;
        let broker = self.tree.settle_broker()?;
        let programs = baseline(wanted(programs), Some(&broker))?;
        let left: Vec<u32> = left
            .into_iter()
            .filter(|n| self.tree.is_asleep(*n))
            .collect();
        let (caught, left) = self.judge(&left, &|_| programs.clone(), Some(&broker))?;
        self.verdicts.extend(above(caught));
        for number in left {
            let verdict = self.unnoticed(number);
            self.note(number, &verdict)?;
            self.verdicts.insert(number, verdict);
        }
        Ok(())
    }

    /// Makes and judges one at a time what could not sleep: by the crates and the simulation, not by the binary, whose build takes
    /// longer than all others.
    fn judge_alone(&mut self) -> Outcome {
        let alone: Vec<u32> = self
            .open()
            .filter(|number| !self.tree.is_asleep(*number))
            .collect();
        println!("{} are built alone", alone.len());
        for number in alone {
            self.tree.make(number)?;
            let verdict = self.judge_made(number)?;
            self.note(number, &verdict)?;
            self.verdicts.insert(number, verdict);
            self.tree.unmake()?;
        }
        Ok(())
    }

    fn judge_made(&self, number: u32) -> Outcome<Verdict> {
        let own = self.own(number);
        let is_own = |program: &Program| own.iter().any(|other| other.path == program.path);
        let mut programs = self.sharpest_first(own.clone());
        programs.extend(self.sharpest_first(self.higher(number)));
        for program in programs {
            let Some(made) = self.tree.build_program(&program)? else {
                return Ok(Verdict::Unviable);
            };
            if let Some(verdict) = noticed(&made, None, None)? {
                return Ok(verdict.seen_above(!is_own(&program)));
            }
        }
        for package in ABOVE.into_iter().take(1) {
            let Some(programs) = self.tree.build(&[package])? else {
                return Ok(Verdict::Unviable);
            };
            if let Some(verdict) = noticed(&wanted(programs), None, None)? {
                return Ok(verdict.seen_above(true));
            }
        }
        Ok(self.unnoticed(number))
    }

    /// Where each has to be built first: those that have noticed most come first.
    fn sharpest_first(&self, mut programs: Vec<Program>) -> Vec<Program> {
        programs.sort_by_cached_key(|program| {
            let prefix = format!("{}::", program.name);
            let verdicts = self.verdicts.values();
            let noticed = verdicts.filter(|verdict| verdict.parts().1.starts_with(&prefix));
            std::cmp::Reverse(noticed.count())
        });
        programs
    }

    fn own(&self, number: u32) -> Vec<Program> {
        let package = &self.tree.mutant(number).package;
        let own = self.programs.iter();
        own.filter(|program| program.package == *package)
            .cloned()
            .collect()
    }

    fn higher(&self, number: u32) -> Vec<Program> {
        let package = &self.tree.mutant(number).package;
        let higher: Vec<&str> = CRATES
            .into_iter()
            .skip_while(|name| name != package)
            .skip(1)
            .collect();
        let programs = self.programs.iter();
        programs
            .filter(|program| higher.contains(&program.package.as_str()))
            .cloned()
            .collect()
    }

    fn unnoticed(&self, number: u32) -> Verdict {
        let name = &self.tree.mutant(number).name;
        if self.exceptions.iter().any(|part| name.contains(part)) {
            Verdict::Harmless
        } else {
            Verdict::Missed
        }
    }

    /// Runs programs against each of these changes, several changes at a time. Returns those that were noticed, and those that
    /// were not.
    fn judge(
        &self,
        numbers: &[u32],
        programs: &(dyn Fn(u32) -> Vec<Program> + Sync),
        broker: Option<&Path>,
    ) -> Outcome<(Verdicts, Vec<u32>)> {
        let taken = AtomicUsize::new(0);
        let (caught, failure) = (Mutex::new(Vec::new()), Mutex::new(None));
        let work = || -> Outcome {
            while let Some(number) = numbers.get(taken.fetch_add(1, Ordering::Relaxed)) {
                if let Some(verdict) = noticed(&programs(*number), Some(*number), broker)? {
                    self.note(*number, &verdict)?;
                    caught.lock().expect("no panic").push((*number, verdict));
                }
            }
            Ok(())
        };
        thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                scope.spawn(|| {
                    if let Err(error) = work() {
                        failure.lock().expect("no panic").get_or_insert(error);
                    }
                });
            }
        });
        if let Some(failure) = failure.into_inner().expect("no panic") {
            return Err(failure);
        }
        let caught = caught.into_inner().expect("no panic");
        let known: BTreeSet<u32> = caught.iter().map(|(number, _)| *number).collect();
        let left = numbers.iter().copied();
        let left = left.filter(|number| !known.contains(number)).collect();
        Ok((caught, left))
    }

    /// What is recorded of those that nobody noticed.
    fn unnoticed_rows(&self, revision: &str, seed: u64) -> String {
        let unnoticed = self
            .verdicts
            .iter()
            .filter(|(_, verdict)| matches!(verdict, Verdict::Harmless | Verdict::Missed));
        let rows = unnoticed.map(|(number, verdict)| {
            let name = &self.tree.mutant(*number).name;
            format!("{revision}\t{seed}\t{}\t{name}\n", verdict.parts().0)
        });
        rows.collect()
    }

    /// Says it at once: a run that is cut short has shown something too.
    fn note(&self, number: u32, verdict: &Verdict) -> Outcome {
        let (what, by) = verdict.parts();
        let name = &self.tree.mutant(number).name;
        let seconds = self.began.elapsed().as_secs();
        println!("{seconds:>5} s  {number:>4}  {what:<12}  {name}  {by}");
        let file = OpenOptions::new().append(true).open(&self.results);
        let written = file.and_then(|mut file| writeln!(file, "{number}\t{what}\t{name}\t{by}"));
        written.map_err(Failure::file(&self.results))
    }
}

/// What a run that was cut short has said, if its changes had the same numbers and names.
fn judged_before(results: &str, tree: &Tree) -> BTreeMap<u32, Verdict> {
    let judged = results.lines().filter_map(|line| {
        let mut parts = line.split('\t');
        let number = parts.next()?.parse().ok()?;
        let (what, name, by) = (parts.next()?, parts.next()?, parts.next()?);
        let is_same =
            tree.numbers().any(|known| known == number) && tree.mutant(number).name == name;
        let verdict = Verdict::of_parts(what, by)?;
        is_same.then_some((number, verdict))
    });
    judged.collect()
}

/// The first of these programs that notices a change.
fn noticed(
    programs: &[Program],
    change: Option<u32>,
    broker: Option<&Path>,
) -> Outcome<Option<Verdict>> {
    for program in programs {
        match judge::run(program, change, broker)? {
            Answer::Passed => {}
            Answer::Failed(by) => return Ok(Some(Verdict::Caught(by))),
            Answer::TimedOut => return Ok(Some(Verdict::TimedOut)),
        }
    }
    Ok(None)
}

/// Runs programs without a change, which they have to pass. Returns them with the fastest first.
fn baseline(programs: Vec<Program>, broker: Option<&Path>) -> Outcome<Vec<Program>> {
    let mut timed: Vec<(Duration, Program)> = Vec::new();
    for program in programs {
        let start = Instant::now();
        let answer = judge::run(&program, None, broker)?;
        let took = start.elapsed();
        println!("{took:>9.1?}  {} {}", program.package, program.name);
        if answer != Answer::Passed {
            return Err(Failure::Findings {
                check: "mutants",
                findings: vec![format!("without any change: {answer:?}")],
            });
        }
        timed.push((took, program));
    }
    timed.sort_by_key(|(took, _)| *took);
    Ok(timed.into_iter().map(|(_, program)| program).collect())
}

/// Of the crates that play whole brokers, the tests that do.
fn wanted(mut programs: Vec<Program>) -> Vec<Program> {
    programs
        .retain(|program| !program.package.ends_with("-conformance") || program.name == "paloma");
    programs
}

fn above(verdicts: Verdicts) -> Verdicts {
    let above = verdicts.into_iter();
    above
        .map(|(number, verdict)| (number, verdict.seen_above(true)))
        .collect()
}

/// How many changes came to which end.
struct Tally(BTreeMap<&'static str, usize>);

impl Tally {
    fn of(verdicts: &BTreeMap<u32, Verdict>) -> Self {
        let mut counts = BTreeMap::new();
        for verdict in verdicts.values() {
            *counts.entry(verdict.parts().0).or_default() += 1;
        }
        Self(counts)
    }

    fn count(&self, what: &str) -> usize {
        self.0.get(what).copied().unwrap_or_default()
    }

    fn viable(&self) -> usize {
        self.0.values().sum::<usize>() - self.count("unviable")
    }

    /// Of the changes that are programs, how many were noticed: by a test that failed, or by one that came to no end.
    fn percent(&self) -> f64 {
        let caught = self.viable() - self.count("missed") - self.count("harmless");
        let share = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        100.0 * share(caught) / share(self.viable().max(1))
    }

    /// What is recorded of it.
    fn row(&self, revision: &str, seed: u64) -> String {
        let sample: usize = self.0.values().sum();
        let counts = [
            "unviable",
            "caught",
            "caught above",
            "timed out",
            "harmless",
            "missed",
        ];
        let counts = counts.map(|what| self.count(what).to_string()).join("\t");
        let percent = self.percent();
        format!("{revision}\t{seed}\t{sample}\t{counts}\t{percent:.1}\n")
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} of {} changes are programs: {} caught by their crate, {} above it, {} timed out, {} harmless, {} missed: {:.1} %",
            self.viable(),
            self.0.values().sum::<usize>(),
            self.count("caught"),
            self.count("caught above"),
            self.count("timed out"),
            self.count("harmless"),
            self.count("missed"),
            self.percent(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_that_are_no_programs_do_not_count() {
        let by = || "a test".to_owned();
        let verdicts = [
            Verdict::Caught(by()),
            Verdict::CaughtAbove(by()),
            Verdict::TimedOut,
            Verdict::Unviable,
            Verdict::Missed,
        ];
        let tally = Tally::of(&(1..).zip(verdicts).collect());
        assert_eq!(tally.viable(), 4);
        assert!((tally.percent() - 75.0).abs() < 0.001);
        assert_eq!(
            tally.row("c0ffee", 6),
            "c0ffee\t6\t5\t1\t1\t1\t1\t0\t1\t75.0\n"
        );
    }

    #[test]
    fn a_verdict_is_read_as_it_was_written() {
        let by = || "a test".to_owned();
        for verdict in [
            Verdict::Caught(by()),
            Verdict::CaughtAbove(by()),
            Verdict::TimedOut,
            Verdict::Unviable,
            Verdict::Harmless,
            Verdict::Missed,
        ] {
            let (what, by) = verdict.parts();
            assert_eq!(Verdict::of_parts(what, by), Some(verdict.clone()));
        }
        assert_eq!(Verdict::of_parts("", ""), None);
    }

    #[test]
    fn a_crate_that_is_not_of_the_protocol_is_refused() {
        assert!(options(&["-p".to_owned(), "paloma-auth".to_owned()]).is_err());
        assert_eq!(
            options(&[]).ok().map(|options| options.crates),
            Some(CRATES.to_vec())
        );
    }
}
