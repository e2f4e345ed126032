//! `cargo xtask size`: bytes of the binary as it is handed out, and what each feature adds.

use std::fs;

use crate::{
    Command,
    failure::{Failure, Outcome},
    features, process, workspace,
};

pub(crate) const COMMAND: Command = Command {
    name: "size",
    arguments: "[--each | FEATURES…]",
    about: "build the broker as it is handed out, and say how large it is",
    details: "\
Builds the profile `dist` with all features and without any, prints the bytes of both binaries, and fails if one is above its
limit. Each build takes minutes.

--each      also with each feature alone, and what that adds to the build without any
FEATURES    in place of all that, builds with these alone; commas separate those of one build",
    run,
};

/// What the binary may have, in bytes.
const ALL_BYTES_MAX: u64 = 6_000_000;
const NONE_BYTES_MAX: u64 = 2_500_000;

fn run(arguments: &[String]) -> Outcome {
    let is_each = arguments.iter().any(|argument| argument == "--each");
    let named: Vec<&String> = arguments.iter().filter(|name| *name != "--each").collect();
    if is_each && !named.is_empty() {
        return Err(Failure::Usage(
            "--each stands for every feature; see `cargo xtask size --help`".to_owned(),
        ));
    }
    if !named.is_empty() {
        for features in named {
            let bytes = build(Some(features))?;
            println!("{bytes:>10}  {features}");
        }
        return Ok(());
    }
    let none = build(Some(""))?;
    println!("{none:>10}  without any");
    let mut findings = Vec::new();
    findings.extend(above("without any", none, NONE_BYTES_MAX));
    if is_each {
        for feature in features::of_the_broker()? {
            let bytes = build(Some(&feature))?;
            println!(
                "{bytes:>10}  {feature}: {} more",
                bytes.saturating_sub(none)
            );
        }
    }
    let all = build(None)?;
    println!("{all:>10}  all features");
    findings.extend(above("all features", all, ALL_BYTES_MAX));
    Failure::unless_empty("size", findings)
}

fn above(what: &str, bytes: u64, bytes_max: u64) -> Option<String> {
    (bytes > bytes_max)
        .then(|| format!("{what}: {bytes} bytes are more than the {bytes_max} it may have"))
}

/// Builds with these features alone, or as by default; gives the bytes of the binary.
fn build(features: Option<&str>) -> Outcome<u64> {
    let mut command = process::cargo(&[
        "build",
        "--locked",
        "--quiet",
        "--profile",
        "dist",
        "-p",
        "paloma",
    ]);
    if let Some(features) = features {
        command.args(["--no-default-features", "--features", features]);
    }
    process::run(&mut command)?;
    let binary = workspace::target().join("dist/paloma");
    let metadata = fs::metadata(&binary).map_err(Failure::file(&binary))?;
    Ok(metadata.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_above_its_limit_is_a_finding() {
        assert_eq!(above("x", 10, 10), None);
        let finding = above("x", 11, 10).unwrap();
        assert_eq!(finding, "x: 11 bytes are more than the 10 it may have");
    }
}
