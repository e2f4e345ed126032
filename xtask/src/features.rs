//! `cargo xtask features`: the broker with some of its features and without others.

use crate::{
    Command,
    failure::{Failure, Outcome},
    process, workspace,
};

pub(crate) const COMMAND: Command = Command {
    name: "features",
    arguments: "",
    about: "check the broker with sets of its features, and test it without any",
    details: "\
Of every two features some set has the one without the other, and the other without the one, so that nothing that a feature
needs can come from another one by chance. Without any, the binary has to name what it is without: its own tests and those
of `paloma serve` run on such a build.",
    run: |_| check(),
};

pub(crate) fn check() -> Outcome {
    let features = of_the_broker()?;
    for set in sets(&features) {
        let set = set.join(",");
        println!("with {set}");
        let arguments = [
            "clippy",
            "--locked",
            "-p",
            "paloma",
            "--no-default-features",
            "--features",
            &set,
            "--",
            "-D",
            "warnings",
        ];
        process::run(&mut process::cargo(&arguments))?;
    }
    println!("without any");
    let arguments = [
        "test",
        "--locked",
        "-p",
        "paloma",
        "--no-default-features",
        "--bin",
        "paloma",
        "--test",
        "serve",
    ];
    process::run(&mut process::cargo(&arguments))
}

/// The features of the binary, but for the list of defaults.
pub(crate) fn of_the_broker() -> Outcome<Vec<String>> {
    let packages = workspace::packages("Cargo.toml")?;
    let broker = packages
        .into_iter()
        .find(|package| package.name == "paloma")
        .ok_or(Failure::Format {
            what: "cargo metadata",
            problem: "no package `paloma`".to_owned(),
        })?;
    let features = broker.features.into_iter();
    Ok(features.filter(|feature| feature != "default").collect())
}

/// For each bit of the features' numbers those that have it, and those that have not.
fn sets(features: &[String]) -> Vec<Vec<&str>> {
    let bits = features.len().next_power_of_two().trailing_zeros();
    let chosen = |bit: u32, value: usize| {
        let numbered = features.iter().enumerate();
        let chosen = numbered.filter(|(number, _)| number >> bit & 1 == value);
        chosen.map(|(_, feature)| feature.as_str()).collect()
    };
    (0..bits)
        .flat_map(|bit| [chosen(bit, 0), chosen(bit, 1)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_every_two_features_each_is_once_without_the_other() {
        for count in [2, 3, 8, 14, 17] {
            let features: Vec<String> = (0..count).map(|n| format!("f{n}")).collect();
            let sets = sets(&features);
            for one in &features {
                for other in features.iter().filter(|other| *other != one) {
                    let has = |set: &[&str], name: &str| set.contains(&name);
                    let separates = |set: &Vec<&str>| has(set, one) && !has(set, other);
                    assert!(sets.iter().any(separates), "{one} without {other}");
                }
            }
        }
    }
}
