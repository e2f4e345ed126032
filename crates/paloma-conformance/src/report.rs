//! What a run found, for people and for programs.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use paloma_codec::ProtocolVersion;
use serde_json::{Value, json};

use crate::run::{Outcome, Record};

/// A line for a test.
#[must_use]
pub fn line(record: &Record) -> String {
    let version = version_name(record.version);
    let (mark, why) = match &record.outcome {
        Outcome::Passed => ("ok  ", String::new()),
        Outcome::Failed(problem) => {
            let ids = record.statements.join(" ");
            ("FAIL", format!("\n       {problem}\n       {ids}"))
        }
        Outcome::NotApplicable(reason) => ("n/a ", format!(": {reason}")),
    };
    format!("{mark} {version:<5} {}{why}", record.name)
}

/// The table by section, the statements proved, and the sum.
#[must_use]
pub fn table(records: &[Record]) -> String {
    let mut sections: Vec<&str> = Vec::new();
    for record in records {
        if !sections.contains(&record.section) {
            sections.push(record.section);
        }
    }
    let mut text = format!(
        "{:<34} {:>7} {:>7} {:>7}\n",
        "section", "passed", "failed", "n/a"
    );
    for section in sections {
        let (passed, failed, not_applicable) =
            counts(records.iter().filter(|record| record.section == section));
        let _infallible = writeln!(
            text,
            "{section:<34} {passed:>7} {failed:>7} {not_applicable:>7}"
        );
    }
    let (passed, failed, not_applicable) = counts(records.iter());
    let _infallible = writeln!(
        text,
        "{:<34} {passed:>7} {failed:>7} {not_applicable:>7}",
        "all"
    );
    for (version, total) in [(ProtocolVersion::V3_1_1, 141), (ProtocolVersion::V5, 251)] {
        let proved: BTreeSet<&str> = records
            .iter()
            .filter(|record| record.version == version && record.outcome == Outcome::Passed)
            .flat_map(|record| record.statements.iter().copied())
            .filter(|id| id.starts_with("MQTT"))
            .collect();
        let _infallible = writeln!(
            text,
            "statements of {} with a test that passed: {} of {total}",
            version_name(version),
            proved.len()
        );
    }
    text
}

/// All records as JSON.
#[must_use]
pub fn json(target: &str, records: &[Record]) -> Value {
    let tests: Vec<Value> = records.iter().map(test).collect();
    let (passed, failed, not_applicable) = counts(records.iter());
    json!({
        "target": target,
        "passed": passed,
        "failed": failed,
        "not_applicable": not_applicable,
        "tests": tests,
    })
}

fn test(record: &Record) -> Value {
    let (outcome, why) = match &record.outcome {
        Outcome::Passed => ("passed", None),
        Outcome::Failed(problem) => ("failed", Some(problem)),
        Outcome::NotApplicable(reason) => ("not applicable", Some(reason)),
    };
    json!({
        "section": record.section,
        "name": record.name,
        "version": version_name(record.version),
        "statements": record.statements,
        "outcome": outcome,
        "why": why,
        "seconds": record.time.as_secs_f64(),
    })
}

/// Passed, failed and not applicable.
#[must_use]
pub fn counts<'a>(records: impl Iterator<Item = &'a Record>) -> (usize, usize, usize) {
    let mut all = (0, 0, 0);
    for record in records {
        match record.outcome {
            Outcome::Passed => all.0 += 1,
            Outcome::Failed(_) => all.1 += 1,
            Outcome::NotApplicable(_) => all.2 += 1,
        }
    }
    all
}

/// The version as its standard is called.
#[must_use]
pub fn version_name(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::V3_1 => "3.1",
        ProtocolVersion::V3_1_1 => "3.1.1",
        ProtocolVersion::V5 => "5.0",
    }
}
