//! The committed record of runs.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use crate::check::Verdict;

const HEAD: &str = "what\tcommit\tseed\tstates\tacknowledged\tlost\tduplicated\treordered\twrong\n";

/// One run as a line of the ledger.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// `crash`, `powercut` or `fill`.
    pub what: &'a str,
    /// The revision that was tested.
    pub commit: &'a str,
    /// The seed.
    pub seed: u64,
    /// Kills, states of the disk, or fills.
    pub states: u64,
    /// What came out.
    pub verdict: &'a Verdict,
}

/// Appends a run, and returns how many states and acknowledged messages all runs of its kind have together.
///
/// # Errors
/// The file cannot be read or written.
pub fn append(file: &Path, entry: Entry<'_>) -> io::Result<(u64, u64)> {
    if let Some(parent) = file.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut ledger = OpenOptions::new().create(true).append(true).open(file)?;
    if ledger.metadata()?.len() == 0 {
        ledger.write_all(HEAD.as_bytes())?;
    }
    let Verdict {
        acknowledged,
        lost,
        duplicated,
        reordered,
        wrong,
        ..
    } = entry.verdict;
    let Entry {
        what,
        commit,
        seed,
        states,
        ..
    } = entry;
    writeln!(
        ledger,
        "{what}\t{commit}\t{seed}\t{states}\t{acknowledged}\t{lost}\t{duplicated}\t{reordered}\t{wrong}"
    )?;
    Ok(totals(&fs::read_to_string(file)?, what))
}

/// States and acknowledged messages of all runs of a kind.
#[must_use]
pub fn totals(ledger: &str, what: &str) -> (u64, u64) {
    let mut totals = (0, 0);
    for line in ledger.lines() {
        let columns: Vec<&str> = line.split('\t').collect();
        if let [kind, _, _, states, acknowledged, ..] = columns[..]
            && kind == what
        {
            totals.0 += states.parse::<u64>().unwrap_or(0);
            totals.1 += acknowledged.parse::<u64>().unwrap_or(0);
        }
    }
    totals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_a_kind_add_up() {
        let ledger = format!(
            "{HEAD}crash\tabc\t1\t50\t9000\t0\t0\t0\t0\npowercut\tabc\t1\t7\t8\t0\t0\t0\t0\ncrash\tdef\t2\t10\t1\t0\t0\t0\t0\n"
        );
        assert_eq!(totals(&ledger, "crash"), (60, 9_001));
        assert_eq!(totals(&ledger, "powercut"), (7, 8));
    }
}
