//! The ledger: what all recorded runs add up to, a line for each.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use crate::Sum;

const HEAD: &str = "kind\tfirst\tcount\tsimulated_seconds\tmessages\tfaults\tviolations";

/// Adds a line to the ledger, and prints what it comes to.
pub(crate) fn record(file: &Path, first: u64, sum: &Sum) -> io::Result<()> {
    let is_new = !file.exists();
    let mut ledger = OpenOptions::new().create(true).append(true).open(file)?;
    if is_new {
        writeln!(ledger, "{HEAD}")?;
    }
    writeln!(
        ledger,
        "seeds\t{first}\t{}\t{}\t{}\t{}\t{}",
        sum.seeds,
        sum.nanos / 1_000_000_000,
        sum.messages,
        sum.faults,
        sum.violations
    )?;
    drop(ledger);
    let totals = totals(&fs::read_to_string(file)?);
    let [seeds, seconds, _, faults, violations] = totals;
    crate::print_line(&format!(
        "recorded: {seeds} seeds, {} days simulated, {faults} faults, {violations} violations in all",
        seconds / 86_400
    ));
    Ok(())
}

/// The sums of the columns behind the first two.
fn totals(text: &str) -> [u64; 5] {
    let mut totals = [0; 5];
    for line in text.lines().skip(1) {
        for (total, cell) in totals.iter_mut().zip(line.split('\t').skip(2)) {
            *total += cell.parse().unwrap_or(0);
        }
    }
    totals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ledger_adds_up() {
        let text = format!("{HEAD}\nseeds\t0\t2\t30\t4\t5\t0\nseeds\t2\t3\t40\t5\t6\t1\n");
        assert_eq!(totals(&text), [5, 70, 9, 11, 1]);
    }
}
