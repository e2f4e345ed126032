//! `cargo xtask spec`: which code and which tests stand behind each statement of the standards.

mod citations;
mod statements;
mod table;

use std::{fs, path::Path};

use crate::{
    Command,
    failure::{Failure, Outcome},
    tidy, workspace,
};
use citations::Citations;
use statements::Statements;

pub(crate) const COMMAND: Command = Command {
    name: "spec",
    arguments: "[--check]",
    about: "traces every statement of both standards to code and tests",
    details: "\
--check   write nothing, and fail if the table is out of date

Reads the statements in docs/spec and their citations in code, tests and vectors, and writes docs/spec-coverage.md. Fails on a
statement that has no code or no test for a role that it binds, and on a citation of what does not exist. See docs/spec/README.md.",
    run: |arguments| match arguments {
        [] => trace(false),
        [only] if only == "--check" => trace(true),
        _ => Err(Failure::Usage("cargo xtask spec [--check]".to_owned())),
    },
};

const TABLE: &str = "docs/spec-coverage.md";

pub(crate) fn check() -> Outcome {
    trace(true)
}

fn trace(is_check: bool) -> Outcome {
    let statements = Statements::read()?;
    let mut citations = Citations::default();
    for source in tidy::sources()? {
        citations.read_source(&source);
    }
    for path in workspace::files()? {
        if path.starts_with("crates") && path.extension().is_some_and(|end| end == "tsv") {
            let text = workspace::text(&path)?.unwrap_or_default();
            citations.read_vectors(&path, &text);
        }
    }
    let mut findings = citations.unknown(&statements);
    findings.extend(statements.useless_notes());
    let (text, untraced) = table::write(&statements, &citations);
    findings.extend(untraced);
    let path = workspace::root().join(TABLE);
    if is_check {
        let is_current = workspace::text(Path::new(TABLE))?.is_some_and(|old| old == text);
        if !is_current {
            findings.push(format!("{TABLE} is out of date; run `cargo xtask spec`"));
        }
    } else {
        fs::write(&path, text).map_err(Failure::file(&path))?;
    }
    Failure::unless_empty("spec", findings)
}
