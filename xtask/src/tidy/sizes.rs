//! Files and functions small enough to hold in the head, with a list of exceptions that may only shrink.

use std::{collections::BTreeMap, fs};

use super::source::Source;
use crate::{
    failure::{Failure, Outcome},
    workspace,
};

/// Lines of a file, tests apart.
const FILE_LINES_MAX: usize = 600;
/// Lines of a function, from `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;

const EXCEPTIONS: &str = "xtask/tidy-exceptions.txt";
const HEADER: &str = "\
# Files and functions larger than the rule, with their size in lines. The numbers may only shrink: tidy fails if one is
# larger than needed, and `cargo xtask tidy --shrink` lowers them. A new line needs a good reason in its commit.
";

/// Size in lines by `file PATH` or `function PATH NAME`.
type Sizes = BTreeMap<String, usize>;

pub(super) fn check(sources: &[Source]) -> Outcome<Vec<String>> {
    Ok(compare(&read()?, &oversized(sources)))
}

/// Lowers and drops exceptions; never raises or adds one.
pub(super) fn shrink(sources: &[Source]) -> Outcome {
    let found = oversized(sources);
    let mut text = HEADER.to_owned();
    for (what, size) in read()? {
        if let Some(found) = found.get(&what) {
            text.push_str(&format!("{what} {}\n", size.min(*found)));
        }
    }
    let path = workspace::root().join(EXCEPTIONS);
    fs::write(&path, text).map_err(Failure::file(&path))
}

fn read() -> Outcome<Sizes> {
    let path = workspace::root().join(EXCEPTIONS);
    let text = fs::read_to_string(&path).map_err(Failure::file(&path))?;
    parse(&text).map_err(|problem| Failure::Format {
        what: EXCEPTIONS,
        problem,
    })
}

fn parse(text: &str) -> Result<Sizes, String> {
    let lines = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines
        .map(|line| {
            let (what, size) = line.rsplit_once(' ').ok_or(line)?;
            Ok((what.to_owned(), size.parse().map_err(|_| line.to_owned())?))
        })
        .collect()
}

/// Everything above the rule. Functions of one name in one file count as the largest of them.
fn oversized(sources: &[Source]) -> Sizes {
    let mut sizes = Sizes::new();
    for source in sources.iter().filter(|source| !source.is_test) {
        let path = source.path.display();
        if source.lines() > FILE_LINES_MAX {
            sizes.insert(format!("file {path}"), source.lines());
        }
        for function in source.functions() {
            if function.lines > FUNCTION_LINES_MAX {
                let size = sizes
                    .entry(format!("function {path} {}", function.name))
                    .or_default();
                *size = function.lines.max(*size);
            }
        }
    }
    sizes
}

fn compare(exceptions: &Sizes, found: &Sizes) -> Vec<String> {
    let mut findings = Vec::new();
    for (what, size) in found {
        match exceptions.get(what) {
            None => findings.push(format!("{what} has {size} lines; split it")),
            Some(allowed) if size > allowed => {
                findings.push(format!(
                    "{what} grew from {allowed} to {size} lines; exceptions only shrink"
                ));
            }
            Some(allowed) if size < allowed => {
                findings.push(format!(
                    "{what} shrank from {allowed} to {size} lines: cargo xtask tidy --shrink"
                ));
            }
            Some(_) => {}
        }
    }
    for what in exceptions.keys().filter(|what| !found.contains_key(*what)) {
        findings.push(format!(
            "{what} needs no exception: cargo xtask tidy --shrink"
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn sizes(entries: &[(&str, usize)]) -> Sizes {
        entries
            .iter()
            .map(|(what, size)| ((*what).to_owned(), *size))
            .collect()
    }

    fn check(exceptions: &[(&str, usize)], found: &[(&str, usize)], findings: usize) {
        assert_eq!(compare(&sizes(exceptions), &sizes(found)).len(), findings);
    }

    #[test]
    fn exceptions_hold_exactly() {
        check(&[], &[], 0);
        check(&[("file a", 700)], &[("file a", 700)], 0);
    }

    #[test]
    fn new_grown_shrunken_and_needless_exceptions_are_found() {
        check(&[], &[("file a", 700)], 1);
        check(&[("file a", 700)], &[("file a", 701)], 1);
        check(&[("file a", 700)], &[("file a", 699)], 1);
        check(&[("file a", 700)], &[], 1);
    }

    #[test]
    fn long_files_and_functions_are_found_and_tests_are_not() {
        let body = "    x();\n".repeat(FUNCTION_LINES_MAX - 1);
        let long = format!("fn long() {{\n{body}}}\n");
        let name = PathBuf::from("crates/x/src/a.rs");
        let found = oversized(&[Source::new(name.clone(), &long)]);
        assert_eq!(
            found,
            sizes(&[("function crates/x/src/a.rs long", FUNCTION_LINES_MAX + 1)])
        );

        let file = "//\n".repeat(FILE_LINES_MAX + 1);
        assert_eq!(
            oversized(&[Source::new(name.clone(), &file)]),
            sizes(&[("file crates/x/src/a.rs", 601)])
        );

        let tests = format!("#[cfg(test)]\nmod tests {{\n{file}{long}}}\n");
        assert_eq!(oversized(&[Source::new(name, &tests)]), Sizes::new());
        assert_eq!(
            oversized(&[Source::new(PathBuf::from("crates/x/tests/a.rs"), &file)]),
            Sizes::new()
        );
    }

    #[test]
    fn list_is_read_and_nonsense_refused() {
        let text = "# x\n\nfile a 700\nfunction a f 80\n";
        assert_eq!(
            parse(text).unwrap(),
            sizes(&[("file a", 700), ("function a f", 80)])
        );
        assert!(parse("file a many").is_err());
    }
}
