//! The commands that the pages show are there: chores with their flags, crates, tests, benches and examples.

use std::path::{Path, PathBuf};

use crate::{COMMANDS, failure::Outcome, workspace, workspace::Package};

/// What ends a command on its line.
const ENDS: &[&str] = &["&&", "||", "|", ">", ";", "#", "&"];
/// A flag of cargo's with what it names, and where that is below a package.
const TARGETS: &[(&str, &str)] = &[
    ("--test", "tests"),
    ("--bench", "benches"),
    ("--example", "examples"),
];

pub(super) fn check(packages: &[Package]) -> Outcome<Vec<String>> {
    let files = workspace::files()?;
    let members: Vec<&str> = packages
        .iter()
        .filter(|package| package.is_member)
        .map(|package| package.name.as_str())
        .collect();
    let mut findings = Vec::new();
    for page in files
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "md"))
    {
        let text = workspace::text(page)?.unwrap_or_default();
        for command in commands(&text) {
            let words: Vec<&str> = command.split_whitespace().collect();
            let problem = wrong_chore(&words).or_else(|| wrong_target(&words, &members, &files));
            if let Some(problem) = problem {
                let page = page.display();
                findings.push(format!("{page} shows `{command}`: {problem}"));
            }
        }
    }
    Ok(findings)
}

/// What begins with `cargo`, in blocks of code and between backquotes, up to where the command ends.
fn commands(page: &str) -> Vec<String> {
    let mut texts = Vec::new();
    let mut prose = String::new();
    let mut is_fenced = false;
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            is_fenced = !is_fenced;
        } else if is_fenced || line.starts_with("    ") {
            texts.push(line.to_owned());
        } else {
            prose.push_str(line);
            // A span may go on in the next line, and not in the next paragraph.
            prose.push_str(if line.is_empty() { "\n" } else { " " });
        }
    }
    for paragraph in prose.lines() {
        texts.extend(paragraph.split('`').skip(1).step_by(2).map(str::to_owned));
    }
    texts.iter().flat_map(|text| of_cargo(text)).collect()
}

fn of_cargo(text: &str) -> Vec<String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    words
        .split(|word| ENDS.contains(word))
        .filter_map(|words| {
            let at = words.iter().position(|word| *word == "cargo")?;
            Some(words.get(at..)?.join(" "))
        })
        .collect()
}

fn wrong_chore(words: &[&str]) -> Option<String> {
    let ["cargo", "xtask", name, rest @ ..] = words else {
        return None;
    };
    if name.starts_with('-') || name.chars().all(char::is_uppercase) {
        return None;
    }
    let Some(command) = COMMANDS.iter().find(|command| command.name == *name) else {
        return Some(format!("there is no chore `{name}`"));
    };
    let help = format!("{}\n{}\n--help", command.arguments, command.details);
    let is_known = |flag: &&&str| {
        let is_name = |letter: char| letter.is_alphanumeric() || letter == '-';
        help.split(|letter| !is_name(letter))
            .any(|word| word == **flag)
    };
    rest.iter()
        .take_while(|word| **word != "--")
        .filter(|word| word.starts_with("--"))
        .find(|flag| !is_known(flag))
        .map(|flag| format!("its --help has no {flag}"))
}

fn wrong_target(words: &[&str], members: &[&str], files: &[PathBuf]) -> Option<String> {
    let [
        "cargo",
        "build" | "run" | "test" | "bench" | "tree",
        rest @ ..,
    ] = words
    else {
        return None;
    };
    let own = rest.iter().take_while(|word| **word != "--");
    let pairs: Vec<(&str, &str)> = own
        .clone()
        .zip(own.skip(1))
        .map(|(flag, value)| (*flag, *value))
        .collect();
    let value = |flag: &str| {
        let pair = pairs.iter().find(|(found, _)| *found == flag);
        pair.map(|(_, value)| *value)
    };
    if let Some(manifest) = value("--manifest-path")
        && !files.iter().any(|file| file == Path::new(manifest))
    {
        return Some(format!("there is no {manifest}"));
    }
    let package = value("-p")?;
    if !members.contains(&package) {
        return Some(format!("there is no crate `{package}`"));
    }
    let root = match package {
        "paloma-bench" => PathBuf::from("benches"),
        other => Path::new("crates").join(other),
    };
    TARGETS.iter().find_map(|(flag, directory)| {
        let name = value(flag)?;
        let path = root.join(directory).join(name);
        let is_there =
            files.contains(&path.with_extension("rs")) || files.contains(&path.join("main.rs"));
        (!is_there).then(|| format!("{} is not there", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_in_blocks_and_in_sentences() {
        let page = "Do `cargo xtask\ntidy --shrink` or `x`:\n\n    cargo test -p a    # one\n\n```sh\n\
                    chrt 1 cargo bench && cargo run -p b > c\n```\n";
        let expected = [
            "cargo test -p a",
            "cargo bench",
            "cargo run -p b",
            "cargo xtask tidy --shrink",
        ];
        assert_eq!(commands(page), expected);
    }

    fn check(command: &str, expected: Option<&str>) {
        let words: Vec<&str> = command.split_whitespace().collect();
        let files = [
            "crates/paloma-a/tests/b.rs",
            "benches/benches/c.rs",
            "x/Cargo.toml",
        ];
        let files = files.map(PathBuf::from);
        let found = wrong_chore(&words)
            .or_else(|| wrong_target(&words, &["paloma-a", "paloma-bench"], &files));
        assert_eq!(found.as_deref(), expected, "{command}");
    }

    #[test]
    fn what_is_not_there_is_found() {
        check("cargo xtask tidy --shrink", None);
        check("cargo xtask COMMAND", None);
        check("cargo xtask tidi", Some("there is no chore `tidi`"));
        check(
            "cargo xtask tidy --shrin",
            Some("its --help has no --shrin"),
        );
        check("cargo test -p paloma-a --test b", None);
        check("cargo test -p paloma-a -- --test d", None);
        check("cargo bench -p paloma-bench --bench c", None);
        check("cargo run --manifest-path x/Cargo.toml", None);
        check(
            "cargo run --manifest-path y/Cargo.toml",
            Some("there is no y/Cargo.toml"),
        );
        check(
            "cargo test -p paloma-b",
            Some("there is no crate `paloma-b`"),
        );
        check(
            "cargo test -p paloma-a --test d",
            Some("crates/paloma-a/tests/d is not there"),
        );
    }
}
