//! A copy of the workspace that is changed and built in place of the original.
#![expect(
    clippy::indexing_slicing,
    reason = "numbers are those that the copy has given"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::{fs, process::Command};

use serde_json::Value;

use super::list::Mutant;
use super::rewrite::File;
use crate::{
    failure::{Failure, Outcome},
    process, workspace,
};

/// Asks the environment which change is wanted.
const SWITCH: &str = "\
//! Which change of the code is active.
use std::sync::LazyLock;

static CHOSEN: LazyLock<u32> = LazyLock::new(|| {
    std::env::var(\"PALOMA_MUTANT\").map_or(0, |number| number.parse().unwrap_or(0))
});

/// Whether it is this one.
#[inline(never)]
pub fn active(number: u32) -> bool {
    *CHOSEN == number
}
";

/// Tests run hundreds of times: ours are worth optimising, what they stand on is built already.
const PROFILES: &str = "
[profile.dev.package.\"*\"]
opt-level = 0
[profile.dev.package.paloma-mutant]
opt-level = 3
";

/// In front of a function that has to stay constant, in the list of what was refused.
const CONSTANT: &str = "const fn ";

/// Changes that do not compile asleep, by their names, as the last run found out.
fn refused() -> PathBuf {
    workspace::target().join("mutants/refused.txt")
}

/// A program of tests.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) package: String,
    pub(super) name: String,
    pub(super) path: PathBuf,
    /// Where it expects to run.
    pub(super) directory: PathBuf,
}

/// The copy, with the changes that are in it.
pub(super) struct Tree {
    root: PathBuf,
    files: BTreeMap<String, File>,
    /// By number; the number of the first is 1.
    mutants: Vec<Mutant>,
    /// Those that sleep in the copy. The others are made one at a time.
    asleep: BTreeSet<u32>,
    /// Where they are, by file.
    places: BTreeMap<String, Vec<(u32, Range<usize>)>>,
    /// Functions that constants call.
    constants: BTreeSet<String>,
}

impl Tree {
    /// Copies the workspace; what is there already and the same keeps its age, so that it is not built again.
    pub(super) fn new(crates: &[&str], mutants: Vec<Mutant>) -> Outcome<Self> {
        let root = workspace::target().join("mutants/tree");
        let mut files = BTreeMap::new();
        let sources: Vec<String> = crates
            .iter()
            .map(|name| format!("crates/{name}/src/"))
            .collect();
        for path in workspace::files()? {
            let from = workspace::root().join(&path);
            let mut bytes = fs::read(&from).map_err(Failure::file(&from))?;
            let name = path.display().to_string();
            if sources.iter().any(|source| name.starts_with(source)) && name.ends_with(".rs") {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let file = File::parse(text).map_err(|problem| Failure::Format {
                    what: "a source file",
                    problem: format!("{name}: {problem}"),
                })?;
                files.insert(name, file);
                continue;
            }
            if name == "Cargo.toml" {
                bytes = String::from_utf8_lossy(&bytes)
                    .replace("[profile.dev]\n", "[profile.dev]\nopt-level = 1\n")
                    .into_bytes();
                bytes.extend(PROFILES.bytes());
            } else if crates
                .iter()
                .any(|one| name == format!("crates/{one}/Cargo.toml"))
            {
                bytes = String::from_utf8_lossy(&bytes)
                    .replace(
                        "\n[dependencies]\n",
                        "\n[dependencies]\npaloma-mutant = { path = \"../paloma-mutant\" }\n",
                    )
                    .into_bytes();
            } else if name.contains("/tests/") && name.ends_with(".rs") {
                bytes = fewer_cases(&String::from_utf8_lossy(&bytes)).into_bytes();
            } else if name == "Cargo.lock" && root.join(&path).exists() {
                // Cargo has added the switch to it.
                continue;
            }
            write(&root.join(&path), &bytes)?;
        }
        let manifest = "[package]\nname = \"paloma-mutant\"\nedition = \"2024\"\n";
        let switch = root.join("crates/paloma-mutant");
        write(&switch.join("Cargo.toml"), manifest.as_bytes())?;
        write(&switch.join("src/lib.rs"), SWITCH.as_bytes())?;
        // What the compiler refused the last time it would refuse again.
        let refused = fs::read_to_string(refused()).unwrap_or_default();
        let refused: BTreeSet<&str> = refused.lines().collect();
        let numbered = (1..).zip(&mutants);
        let asleep = numbered
            .filter(|(_, mutant)| !refused.contains(&*mutant.name))
            .map(|(number, _)| number)
            .collect();
        let constants = refused
            .iter()
            .filter_map(|line| line.strip_prefix(CONSTANT));
        Ok(Self {
            root,
            files,
            asleep,
            places: BTreeMap::new(),
            constants: constants.map(str::to_owned).collect(),
            mutants,
        })
    }

    pub(super) fn mutant(&self, number: u32) -> &Mutant {
        &self.mutants[number as usize - 1]
    }

    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> + use<> {
        let count = u32::try_from(self.mutants.len()).unwrap_or(u32::MAX);
        1..=count
    }

    /// Whether it can be judged without another build.
    pub(super) fn is_asleep(&self, number: u32) -> bool {
        self.asleep.contains(&number)
    }

    /// Builds with all changes asleep that can be: each that the compiler does not accept so is left to be made alone. Returns the
    /// programs of tests that were built.
    pub(super) fn settle(&mut self, command: &[&str], packages: &[&str]) -> Outcome<Vec<Program>> {
        loop {
            self.write_all()?;
            let (programs, errors) = self.cargo(command, packages)?;
            if errors.is_empty() {
                self.remember()?;
                return Ok(programs);
            }
            let before = (self.asleep.len(), self.constants.len());
            for error in &errors {
                self.blame(error);
            }
            let after = (self.asleep.len(), self.constants.len());
            println!(
                "{} errors: {} changes asleep, {} functions constant",
                errors.len(),
                after.0,
                after.1
            );
            if before == after {
                return Err(Failure::Findings {
                    check: "mutants",
                    findings: errors.iter().map(rendered).collect(),
                });
            }
        }
    }

    /// Writes down what the compiler has refused, for the next time.
    fn remember(&self) -> Outcome {
        let alone = self.numbers().filter(|number| !self.is_asleep(*number));
        let names = alone.map(|number| format!("{}\n", self.mutant(number).name));
        let constants = self.constants.iter();
        let constants = constants.map(|name| format!("{CONSTANT}{name}\n"));
        let text: String = names.chain(constants).collect();
        write(&refused(), text.as_bytes())
    }

    fn write_all(&mut self) -> Outcome {
        for (name, file) in &self.files {
            let numbered: Vec<(u32, &Mutant)> = (1..)
                .zip(&self.mutants)
                .filter(|(number, mutant)| self.asleep.contains(number) && mutant.file == *name)
                .collect();
            let rewritten = file.with_all(&numbered, &self.constants);
            for other in rewritten.others {
                self.asleep.remove(&other);
            }
            self.places.insert(name.clone(), rewritten.places);
            write(&self.root.join(name), rewritten.text.as_bytes())?;
        }
        Ok(())
    }

    /// What an error of the compiler says against the changes that are in the text.
    fn blame(&mut self, error: &Value) {
        let code = error.pointer("/code/code").and_then(Value::as_str);
        let message = error.get("message").and_then(Value::as_str);
        if code == Some("E0015")
            && let Some(name) = message.and_then(called)
            && name != "active"
        {
            self.constants.insert(name);
            return;
        }
        let spans = error.get("spans").and_then(Value::as_array);
        let spans: Vec<Place> = spans.into_iter().flatten().filter_map(Place::of).collect();
        // What points into the text of a change is its fault. Else it is that of what is on the same line, or in the same function.
        let pointed = spans.iter().flat_map(|span| span.changes(&self.places));
        let mut guilty: Vec<u32> = pointed.collect();
        for range in [Mutant::line as fn(&Mutant) -> _, |mutant| mutant.function] {
            if guilty.is_empty() {
                let mutants = (1..).zip(&self.mutants).filter(|(number, mutant)| {
                    let is_in =
                        |span: &Place| mutant.file == span.file && span.is_in(range(mutant));
                    self.asleep.contains(number) && spans.iter().any(is_in)
                });
                guilty.extend(mutants.map(|(number, _)| number));
            }
        }
        for number in guilty {
            self.asleep.remove(&number);
        }
    }

    /// Builds the tests of these packages with what is in the copy now. None if it does not compile.
    pub(super) fn build(&self, packages: &[&str]) -> Outcome<Option<Vec<Program>>> {
        let (programs, errors) = self.cargo(&["test", "--no-run"], packages)?;
        Ok(errors.is_empty().then_some(programs))
    }

    /// Builds one program of tests with what is in the copy now. None if it does not compile.
    pub(super) fn build_program(&self, program: &Program) -> Outcome<Option<Vec<Program>>> {
        let command = if program.name == program.package.replace('-', "_") {
            vec!["test", "--no-run", "--lib"]
        } else {
            vec!["test", "--no-run", "--test", &program.name]
        };
        let (programs, errors) = self.cargo(&command, &[&program.package])?;
        Ok(errors.is_empty().then_some(programs))
    }

    /// The broker's binary, at a place of its own.
    pub(super) fn settle_broker(&mut self) -> Outcome<PathBuf> {
        self.settle(&["build", "--bin", "paloma"], &["paloma"])?;
        let built = workspace::target().join("debug/paloma");
        let broker = workspace::target().join("mutants/paloma");
        // What runs cannot be written over.
        let _ = fs::remove_file(&broker);
        fs::copy(&built, &broker).map_err(Failure::file(&built))?;
        Ok(broker)
    }

    /// Makes one change in the copy, in place of all others of its file.
    pub(super) fn make(&self, number: u32) -> Outcome {
        let mutant = self.mutant(number);
        let Some(file) = self.files.get(&mutant.file) else {
            return Ok(());
        };
        let text = file.with_one(mutant, &self.constants);
        write(&self.root.join(&mutant.file), text.as_bytes())
    }

    /// Takes it back.
    pub(super) fn unmake(&mut self) -> Outcome {
        self.write_all()
    }

    fn cargo(&self, command: &[&str], packages: &[&str]) -> Outcome<(Vec<Program>, Vec<Value>)> {
        let mut cargo: Command = process::cargo(command);
        cargo.current_dir(&self.root);
        cargo.args(["--message-format=json", "--quiet"]);
        cargo.env("CARGO_TARGET_DIR", workspace::target());
        cargo.args(packages.iter().flat_map(|name| ["-p", name]));
        let output = process::capture(&mut cargo)?;
        let (mut programs, mut errors) = (Vec::new(), Vec::new());
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let Ok(value) = serde_json::from_str::<Value>(line) else {
                continue;
            };
            programs.extend(program(&value));
            errors.extend(error(value));
        }
        if !output.status.success() && errors.is_empty() {
            return Err(Failure::Program {
                line: format!("cargo {}", command.join(" ")),
                problem: String::from_utf8_lossy(&output.stderr).into_owned(),
            });
        }
        Ok((programs, errors))
    }
}

/// Where an error is.
struct Place {
    file: String,
    line: usize,
    start: usize,
    is_primary: bool,
}

impl Place {
    fn of(span: &Value) -> Option<Self> {
        let number = |key| usize::try_from(span.get(key)?.as_u64()?).ok();
        Some(Self {
            file: span.get("file_name")?.as_str()?.to_owned(),
            line: number("line_start")?,
            start: number("byte_start")?,
            is_primary: span.get("is_primary")?.as_bool()?,
        })
    }

    fn changes(&self, places: &BTreeMap<String, Vec<(u32, Range<usize>)>>) -> Vec<u32> {
        let places = places.get(&self.file).filter(|_| self.is_primary);
        let here = places.into_iter().flatten();
        let here = here.filter(|(_, place)| place.contains(&self.start));
        here.map(|(number, _)| *number).collect()
    }

    fn is_in(&self, (first, last): (usize, usize)) -> bool {
        (first..=last).contains(&self.line)
    }
}

fn program(value: &Value) -> Option<Program> {
    let path = value.get("executable")?.as_str()?;
    let manifest = Path::new(value.get("manifest_path")?.as_str()?);
    let directory = manifest.parent()?;
    let is_test = value.pointer("/profile/test")?.as_bool()?;
    is_test.then_some(())?;
    Some(Program {
        package: directory.file_name()?.to_str()?.to_owned(),
        name: value.pointer("/target/name")?.as_str()?.to_owned(),
        path: PathBuf::from(path),
        directory: directory.to_owned(),
    })
}

fn error(mut value: Value) -> Option<Value> {
    let message = value.get_mut("message")?.take();
    let is_error = message.get("level")?.as_str()? == "error";
    // The last one only counts the others.
    let has_place = !message.get("spans")?.as_array()?.is_empty();
    (is_error && has_place).then_some(message)
}

fn rendered(error: &Value) -> String {
    let text = error.get("rendered").and_then(Value::as_str);
    text.unwrap_or("an error without a text").to_owned()
}

/// The function that a message names: the last part of the path between its first backticks.
fn called(message: &str) -> Option<String> {
    let path = message.split('`').nth(1)?;
    let name = path.rsplit("::").next()?;
    let end = name.find(|c: char| c != '_' && !c.is_alphanumeric());
    Some(name.get(..end.unwrap_or(name.len()))?.to_owned())
}

/// Tests of properties with an eighth of their cases: a changed check shows in the first ones, and each survivor plays all.
fn fewer_cases(text: &str) -> String {
    let mut fewer = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = ["with_cases(", " cases: "]
        .iter()
        .filter_map(|mark| Some(rest.find(mark)? + mark.len()))
        .min()
    {
        let (before, number) = rest.split_at(at);
        let digits = number.find(|c: char| !c.is_ascii_digit());
        let (number, behind) = number.split_at(digits.unwrap_or(number.len()));
        fewer.push_str(before);
        fewer.push_str(number);
        if !number.is_empty() {
            fewer.push_str(" / 8");
        }
        rest = behind;
    }
    fewer + rest
}

/// Writes what is not there yet.
fn write(path: &Path, bytes: &[u8]) -> Outcome {
    if fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(Failure::file(parent))?;
    }
    fs::write(path, bytes).map_err(Failure::file(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_what_is_called() {
        let message = "cannot call non-const associated function `a::B::<u8>::new` in constants";
        assert_eq!(called(message).as_deref(), Some("new"));
        let message =
            "cannot call non-const function `paloma_mutant::active` in constant functions";
        assert_eq!(called(message).as_deref(), Some("active"));
        assert_eq!(called("no name"), None);
    }

    #[test]
    fn properties_are_tried_with_fewer_cases() {
        assert_eq!(
            fewer_cases("X { cases: 300, ..d } X::with_cases(64); let cases: Vec"),
            "X { cases: 300 / 8, ..d } X::with_cases(64 / 8); let cases: Vec"
        );
    }
}
