//! `cargo xtask mutants`: a random sample of changed checks, each of which some test has to notice.

use std::path::Path;

use crate::{
    Command,
    failure::{Failure, Outcome},
    process, workspace,
};

pub(crate) const COMMAND: Command = Command {
    name: "mutants",
    arguments: "[--sample N] [--seed S] [-p CRATE…]",
    about: "changes checks at random, one at a time, and fails on a change that no test notices",
    details: "\
--sample N   how many changes (300)
--seed S     which ones (1)
-p CRATE     of these crates, in place of paloma-topic, -codec, -session and -broker

Around cargo-mutants (`cargo install cargo-mutants --locked`), which makes the list and applies each change to a copy of the tree;
the tests are those of the changed crate. A sample of 300 takes hours on a small machine. Results are in target/mutants.out.",
    run,
};

/// Where the protocol is.
const CRATES: [&str; 4] = [
    "paloma-topic",
    "paloma-codec",
    "paloma-session",
    "paloma-broker",
];
/// Changes that no test can notice, by a part of their name.
const EXCLUDED: &str = "xtask/mutants-exceptions.txt";

fn run(arguments: &[String]) -> Outcome {
    let usage =
        || Failure::Usage("cargo xtask mutants [--sample N] [--seed S] [-p CRATE…]".to_owned());
    let (mut sample, mut seed, mut crates) = (300, 1, Vec::new());
    let mut rest = arguments.iter();
    while let Some(name) = rest.next() {
        let value = rest.next().ok_or_else(usage)?;
        match name.as_str() {
            "--sample" => sample = value.parse().map_err(|_| usage())?,
            "--seed" => seed = value.parse().map_err(|_| usage())?,
            "-p" => crates.push(value.as_str()),
            _ => return Err(usage()),
        }
    }
    if crates.is_empty() {
        crates.extend(CRATES);
    }
    if !process::capture(&mut process::cargo(&["mutants", "--version"]))?
        .status
        .success()
    {
        return Err(Failure::Usage(
            "cargo-mutants is not installed: `cargo install cargo-mutants --locked`".to_owned(),
        ));
    }
    let packages: Vec<&str> = crates.iter().flat_map(|name| ["-p", name]).collect();
    let mut list = process::cargo(&["mutants", "--list"]);
    let text = process::stdout(list.args(&packages))?;
    let exceptions = workspace::text(Path::new(EXCLUDED))?.unwrap_or_default();
    let exceptions: Vec<&str> = exceptions
        .lines()
        .filter_map(|line| line.split('\t').next())
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let mutants: Vec<&str> = text
        .lines()
        .filter(|name| !exceptions.iter().any(|part| name.contains(part)))
        .collect();
    let chosen = choose(&mutants, sample, seed);
    println!("{} of {} changes, seed {seed}", chosen.len(), mutants.len());
    let mut command = process::cargo(&["mutants", "--no-shuffle", "--output", "target"]);
    command.args(&packages);
    for name in chosen {
        command.args(["--re", &format!("^{}$", escaped(name))]);
    }
    process::run(&mut command)
}

/// So many of them, in their order, the same ones for the same seed.
fn choose<'a>(all: &[&'a str], sample: usize, seed: u64) -> Vec<&'a str> {
    let mut state = seed;
    let mut left = all.len();
    let mut wanted = sample.min(left);
    let mut chosen = Vec::with_capacity(wanted);
    for name in all {
        // Selection sampling: each of those left is taken with the chance that fills the sample.
        let draw = next(&mut state) % (left as u64);
        if draw < wanted as u64 {
            chosen.push(*name);
            wanted -= 1;
        }
        left -= 1;
    }
    chosen
}

/// SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A regular expression that matches this text alone.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$#&-~".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_of_its_size_and_of_its_seed() {
        let names: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(choose(&all, 10, 1).len(), 10);
        assert_eq!(choose(&all, 10, 1), choose(&all, 10, 1));
        assert_ne!(choose(&all, 10, 1), choose(&all, 10, 2));
        assert_eq!(choose(&all, 1_000, 1), all);
        assert!(choose(&[], 10, 1).is_empty());
    }

    #[test]
    fn names_are_matched_as_they_stand() {
        assert_eq!(
            escaped("a.rs:1:2: replace + with - in <impl T>::f(x)"),
            r"a\.rs:1:2: replace \+ with \- in <impl T>::f\(x\)"
        );
    }
}
