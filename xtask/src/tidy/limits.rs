//! `docs/limits.md` has exactly the fields and defaults of the broker's `Limits`.

use std::{collections::BTreeMap, path::Path};

use crate::{
    failure::{Failure, Outcome},
    workspace,
};

const CODE: &str = "crates/paloma-broker/src/limits.rs";
const DOCS: &str = "docs/limits.md";

/// Defaults by key, both as written.
type Defaults = BTreeMap<String, String>;

pub(super) fn check() -> Outcome<Vec<String>> {
    if !workspace::root().join(CODE).exists() {
        return Ok(vec![format!("{CODE} is missing")]);
    }
    let code = in_code(&read(CODE)?);
    let docs = in_docs(&read(DOCS)?);
    Ok(compare(&code, &docs))
}

fn read(path: &'static str) -> Outcome<String> {
    let text = workspace::text(Path::new(path))?;
    text.ok_or(Failure::Format {
        what: path,
        problem: "not UTF-8".to_owned(),
    })
}

/// The lines `key: value,` of `impl Default for Limits`; a variant is written as its key in the configuration, and a
/// type's `MAX` as the word that stands for it there.
fn in_code(text: &str) -> Defaults {
    let body = text
        .split_once("impl Default for Limits")
        .map_or("", |(_, body)| body);
    let lines = body.lines().take_while(|line| *line != "}").map(str::trim);
    lines
        .filter_map(|line| line.strip_suffix(',')?.split_once(": "))
        .map(|(key, value)| {
            (
                key.to_owned(),
                value
                    .rsplit_once("::")
                    .map_or(value.to_owned(), |(_, v)| snake(v)),
            )
        })
        .collect()
}

fn snake(variant: &str) -> String {
    if variant == "MAX" {
        return "unlimited".to_owned();
    }
    let mut text = String::new();
    for letter in variant.chars() {
        if letter.is_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.extend(letter.to_lowercase());
    }
    text
}

/// The rows of tables whose first cell is a key in backquotes.
fn in_docs(text: &str) -> Defaults {
    text.lines()
        .filter_map(|line| {
            let (key, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
            let (default, _) = rest.split_once(" | ")?;
            Some((key.to_owned(), default.to_owned()))
        })
        .collect()
}

fn compare(code: &Defaults, docs: &Defaults) -> Vec<String> {
    let mut findings = Vec::new();
    if code.is_empty() {
        findings.push(format!("{CODE} has no defaults that tidy can read"));
    }
    for (key, value) in code {
        match docs.get(key) {
            None => findings.push(format!("{DOCS} has no row for {key}")),
            Some(written) if written != value => {
                findings.push(format!(
                    "{DOCS} gives {key} the default {written}; it is {value}"
                ));
            }
            Some(_) => {}
        }
    }
    for key in docs.keys().filter(|key| !code.contains_key(*key)) {
        findings.push(format!(
            "{DOCS} has a row for {key}, which is no field of Limits"
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "\
impl Default for Limits {
    fn default() -> Self {
        Self {
            packet_bytes_max: 2_000,
            queue_when_full: QueueWhenFull::DropNewest,
        }
    }
}
impl Other { fn f() { Self { other: 1, } } }
";

    fn check(docs: &str, findings: usize) {
        assert_eq!(
            compare(&in_code(CODE), &in_docs(docs)).len(),
            findings,
            "{docs}"
        );
    }

    #[test]
    fn equal_tables_pass() {
        check(
            "| `packet_bytes_max` | 2_000 | x |\n| `queue_when_full` | drop_newest | x |",
            0,
        );
    }

    #[test]
    fn missing_wrong_and_foreign_rows_are_found() {
        check("| `packet_bytes_max` | 2_000 | x |", 1);
        check(
            "| `packet_bytes_max` | 2_001 | x |\n| `queue_when_full` | drop_newest | x |",
            1,
        );
        check(
            "| `packet_bytes_max` | 2_000 | x |\n| `queue_when_full` | drop_newest | x |\n| `other` | 1 | x |",
            1,
        );
    }

    #[test]
    fn unreadable_code_is_found() {
        assert_eq!(
            compare(&in_code("struct Limits;"), &Defaults::new()).len(),
            1
        );
    }
}
