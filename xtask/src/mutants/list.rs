//! What can be changed: the list of cargo-mutants, in an order drawn from a seed, and what no test can notice.

use std::path::Path;

use serde_json::Value;

use crate::{
    failure::{Failure, Outcome},
    process, workspace,
};

/// Changes that no test can notice, by a part of their name.
const EXCEPTIONS: &str = "xtask/mutants-exceptions.txt";

/// A kind of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Genre {
    FnValue,
    BinaryOperator,
    UnaryOperator,
    MatchArm,
    MatchArmGuard,
    StructField,
}

/// A change. Lines and columns count from one, and columns count characters.
#[derive(Clone, Debug)]
pub(super) struct Mutant {
    pub(super) name: String,
    pub(super) package: String,
    /// Relative to the root of the workspace.
    pub(super) file: String,
    pub(super) genre: Genre,
    pub(super) start: (usize, usize),
    pub(super) end: (usize, usize),
    /// The lines of the function around it.
    pub(super) function: (usize, usize),
    pub(super) replacement: String,
}

impl Mutant {
    /// What it changes: several changes can be possible there.
    pub(super) fn site(&self) -> (Genre, usize, usize) {
        (self.genre, self.start.0, self.start.1)
    }

    /// Its line, with the one of the brace in front of a body.
    pub(super) fn line(&self) -> (usize, usize) {
        (self.start.0.saturating_sub(1), self.start.0)
    }
}

/// All changes that cargo-mutants would make in these crates.
pub(super) fn all(crates: &[&str]) -> Outcome<Vec<Mutant>> {
    if !process::capture(&mut process::cargo(&["mutants", "--version"]))?
        .status
        .success()
    {
        return Err(Failure::Usage(
            "cargo-mutants is not installed: `cargo install cargo-mutants --locked`".to_owned(),
        ));
    }
    let mut list = process::cargo(&["mutants", "--list", "--json"]);
    let text = process::stdout(list.args(crates.iter().flat_map(|name| ["-p", name])))?;
    parse(&text).map_err(|problem| Failure::Format {
        what: "cargo mutants --list --json",
        problem,
    })
}

fn parse(text: &str) -> Result<Vec<Mutant>, String> {
    let list: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let list = list.as_array().ok_or("no list")?;
    list.iter()
        .map(|value| mutant(value).ok_or_else(|| format!("a change that is {value}")))
        .collect()
}

fn mutant(value: &Value) -> Option<Mutant> {
    let text = |key: &str| value.get(key)?.as_str().map(str::to_owned);
    let number = |pointer: &str| usize::try_from(value.pointer(pointer)?.as_u64()?).ok();
    Some(Mutant {
        name: text("name")?,
        package: text("package")?,
        file: text("file")?,
        genre: match text("genre")?.as_str() {
            "FnValue" => Genre::FnValue,
            "BinaryOperator" => Genre::BinaryOperator,
            "UnaryOperator" => Genre::UnaryOperator,
            "MatchArm" => Genre::MatchArm,
            "MatchArmGuard" => Genre::MatchArmGuard,
            "StructField" => Genre::StructField,
            _ => return None,
        },
        start: (number("/span/start/line")?, number("/span/start/column")?),
        end: (number("/span/end/line")?, number("/span/end/column")?),
        function: (
            number("/function/span/start/line").unwrap_or(1),
            number("/function/span/end/line").unwrap_or(usize::MAX),
        ),
        replacement: text("replacement")?,
    })
}

/// So many of them, in an order of the seed: the first ones of a sample are a sample too.
pub(super) fn choose<T>(mut all: Vec<T>, sample: usize, seed: u64) -> Vec<T> {
    let mut state = seed;
    for place in 0..all.len() {
        let left = (all.len() - place) as u64;
        let drawn = usize::try_from(next(&mut state) % left).unwrap_or_default();
        all.swap(place, place + drawn);
    }
    all.truncate(sample);
    all
}

/// SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Parts of names of changes that are harmless.
pub(super) fn exceptions() -> Outcome<Vec<String>> {
    let text = workspace::text(Path::new(EXCEPTIONS))?.unwrap_or_default();
    Ok(text
        .lines()
        .filter_map(|line| line.split('\t').next())
        .filter(|part| !part.is_empty() && !part.starts_with('#'))
        .map(str::to_owned)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_of_its_size_and_of_its_seed() {
        let all: Vec<u8> = (0..100).collect();
        let ten = choose(all.clone(), 10, 1);
        assert_eq!(ten.len(), 10);
        assert_eq!(ten, choose(all.clone(), 10, 1));
        assert_ne!(ten, choose(all.clone(), 10, 2));
        assert!(choose(all.clone(), 20, 1).starts_with(&ten));
        let mut whole = choose(all.clone(), 1_000, 1);
        whole.sort_unstable();
        assert_eq!(whole, all);
        assert!(choose(Vec::<u8>::new(), 10, 1).is_empty());
    }

    #[test]
    fn the_list_is_read() {
        let text = r#"[{"name": "a.rs:2:3: replace + with -", "package": "p", "file": "a.rs", "genre": "BinaryOperator",
            "function": {"span": {"start": {"line": 1, "column": 1}, "end": {"line": 4, "column": 2}}},
            "span": {"start": {"line": 2, "column": 3}, "end": {"line": 2, "column": 4}}, "replacement": "-"}]"#;
        let list = parse(text).unwrap();
        let [only] = &list[..] else {
            panic!("{list:?}");
        };
        assert_eq!(only.site(), (Genre::BinaryOperator, 2, 3));
        assert_eq!((only.end, only.function), ((2, 4), (1, 4)));
        assert!(parse(r#"[{"name": "a"}]"#).is_err());
    }
}
