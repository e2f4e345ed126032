//! Files and tests that the docs name exist, and the release profile is what the docs promise.

use std::path::{Path, PathBuf};

use super::source::Source;
use crate::{failure::Outcome, workspace};

/// The page that says where everything is.
const MAP: &str = "docs/ARCHITECTURE.md";
/// Pages whose tables end with the tests of each row.
const TESTED: &[(&str, &str)] = &[
    ("docs/cases.md", ""),
    ("docs/limits.md", ""),
    ("docs/v311-differences.md", "broker/v311::"),
];
/// What the release profile keeps: a peer's numbers are checked, and a panic can be caught.
const PROFILE: &[&str] = &["overflow-checks = true", "panic = \"unwind\""];

pub(super) fn check(sources: &[Source]) -> Outcome<Vec<String>> {
    let files = workspace::files()?;
    let read = |path: &str| workspace::text(Path::new(path)).map(Option::unwrap_or_default);
    let mut findings = missing_files(&read(MAP)?, &files);
    for (page, prefix) in TESTED {
        findings.extend(
            missing_tests(&read(page)?, prefix, sources)
                .into_iter()
                .map(|problem| format!("{page}: {problem}")),
        );
    }
    findings.extend(missing_settings(&read("Cargo.toml")?));
    Ok(findings)
}

/// What stands between backticks.
fn code_spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn missing_files(page: &str, files: &[PathBuf]) -> Vec<String> {
    let exists = |name: &str| {
        let directory = name.strip_suffix('/');
        files.iter().any(|file| match directory {
            Some(directory) => file
                .ancestors()
                .skip(1)
                .any(|path| path.ends_with(directory)),
            None => file.ends_with(name),
        })
    };
    code_spans(page)
        .filter(|name| {
            let is_file = Path::new(name).extension().is_some_and(|end| end == "rs");
            is_file || (name.ends_with('/') && !name.starts_with('/'))
        })
        .filter(|name| !exists(name))
        .map(|name| format!("{MAP} names `{name}`, which does not exist"))
        .collect()
}

/// Rows of tables without tests, and tests that are not where the row says. A test is written `crate/file::name`,
/// without `paloma-` and with the prefix left out.
fn missing_tests(page: &str, prefix: &str, sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    let lines = page.lines();
    let rows = lines
        .clone()
        .zip(lines.skip(1).chain([""]))
        .filter(|(line, next)| line.starts_with("| ") && !next.starts_with("|-"));
    for (row, _) in rows {
        let last = row.trim_end_matches([' ', '|']).rsplit('|').next();
        let mut tests = code_spans(last.unwrap_or_default()).peekable();
        if tests.peek().is_none() {
            findings.push(format!("a row without a test: {row}"));
        }
        findings.extend(
            tests
                .map(|test| format!("{prefix}{test}"))
                .filter(|test| !is_test(test, sources))
                .map(|test| format!("there is no test `{test}`")),
        );
    }
    findings
}

fn is_test(name: &str, sources: &[Source]) -> bool {
    let Some(((package, file), function)) = name
        .split_once("::")
        .and_then(|(place, function)| Some((place.split_once('/')?, function)))
    else {
        return false;
    };
    let function = format!("fn {function}(");
    sources.iter().any(|source| {
        let is_named = |part: &str| source.path.iter().any(|found| found == part);
        (is_named(&format!("paloma-{package}")) || is_named(package))
            && (source.path.with_extension("").ends_with(file) || is_named(file))
            && source.code.contains(&function)
    })
}

fn missing_settings(manifest: &str) -> Vec<String> {
    let profile = manifest
        .split_once("[profile.release]\n")
        .map_or("", |(_, rest)| rest.split("\n[").next().unwrap_or(rest));
    PROFILE
        .iter()
        .filter(|setting| !profile.lines().any(|line| line == **setting))
        .map(|setting| format!("Cargo.toml: the release profile lacks `{setting}`"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_do_not_exist_are_found() {
        let files = [
            "crates/paloma-codec/src/frame.rs",
            "crates/paloma/src/config/mod.rs",
        ];
        let files = files.map(PathBuf::from);
        let page =
            "`frame.rs` `paloma-codec/src/frame.rs` `paloma/src/config/` `rame.rs` `x/` `/metrics`";
        let found = missing_files(page, &files);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found
                .iter()
                .all(|one| one.contains("`rame.rs`") || one.contains("`x/`"))
        );
    }

    #[test]
    fn tests_that_do_not_exist_are_found() {
        let text = "//! x\nfn it_works() {}\n";
        let sources = [Source::new(
            PathBuf::from("crates/paloma-codec/tests/limits.rs"),
            text,
        )];
        let head = "| id | test |\n|---|---|\n";
        for (row, problems) in [
            ("| A1 | `codec/limits::it_works` |", 0),
            ("| A1 | `codec/limits::it_work` |", 1),
            (
                "| A1 | `codec/vectors::it_works` `topic/limits::it_works` |",
                2,
            ),
            ("| A1 | |", 1),
            ("| `A1` | none |", 1),
        ] {
            let found = missing_tests(&format!("{head}{row}\n"), "", &sources);
            assert_eq!(found.len(), problems, "{row}: {found:?}");
        }
    }

    #[test]
    fn a_release_profile_without_its_settings_is_found() {
        let full = "[profile.release]\noverflow-checks = true\npanic = \"unwind\"\n";
        assert_eq!(missing_settings(full), Vec::<String>::new());
        assert_eq!(missing_settings("[profile.release]\nlto = true\n").len(), 2);
        assert_eq!(missing_settings(&full.replace("release", "dev")).len(), 2);
    }
}
