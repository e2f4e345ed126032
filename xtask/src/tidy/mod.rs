//! `cargo xtask tidy`: the house rules that neither the compiler nor clippy checks.

mod commands;
mod layers;
mod limits;
mod names;
mod prose;
mod rules;
mod sizes;
pub(crate) mod source;

use std::{collections::BTreeSet, path::PathBuf};

use crate::{
    Command,
    failure::{Failure, Outcome},
    workspace,
};
use source::Source;

pub(crate) const COMMAND: Command = Command {
    name: "tidy",
    arguments: "[--shrink]",
    about: "house rules: layers, sizes, purity of the cores, module docs, READMEs",
    details: "\
--shrink   lower the numbers in xtask/tidy-exceptions.txt to what is needed, and drop what is not

The rules: crates depend downward only; files of at most 600 lines and functions of at most 70, tests apart, with the
exceptions in xtask/tidy-exceptions.txt, which may only shrink; a `//!` line first in every file; no ignored tests, no
`todo!`, no unbounded channels, no paths of somebody's machine; the cores name no clock, socket, file or thread; every
crate has a README, whose examples are whole programs; relative links and their anchors lead somewhere; every page of docs is
linked from another one; the README's table of tests has no empty cell; docs/limits.md has the fields and defaults of
`Limits`; files, tests, chores and flags that the docs name exist; release builds check arithmetic.",
    run: |arguments| match arguments {
        [] => check(),
        [only] if only == "--shrink" => sizes::shrink(&sources()?),
        _ => Err(Failure::Usage("cargo xtask tidy [--shrink]".to_owned())),
    },
};

pub(crate) fn check() -> Outcome {
    let sources = sources()?;
    let packages = workspace::packages("Cargo.toml")?;
    let mut findings = layers::check(&packages);
    findings.extend(commands::check(&packages)?);
    findings.extend(sizes::check(&sources)?);
    for source in &sources {
        findings.extend(rules::check(source));
    }
    findings.extend(prose::check()?);
    findings.extend(limits::check()?);
    findings.extend(names::check(&sources)?);
    Failure::unless_empty("tidy", findings)
}

/// All Rust files of the repository.
pub(crate) fn sources() -> Outcome<Vec<Source>> {
    let mut sources = Vec::new();
    for path in workspace::files()?
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
    {
        let text = workspace::text(&path)?.ok_or_else(|| Failure::Format {
            what: "source",
            problem: format!("{} is not UTF-8", path.display()),
        })?;
        sources.push(Source::new(path, &text));
    }
    let test_modules: BTreeSet<PathBuf> = sources.iter().flat_map(Source::test_modules).collect();
    for source in &mut sources {
        source.is_test |= source
            .path
            .ancestors()
            .any(|path| test_modules.contains(&path.with_extension("")));
    }
    Ok(sources)
}
