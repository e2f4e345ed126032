//! What the disk itself does, and what the store's engine does with it when nothing is around it.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use redb::{Builder, Database, TableDefinition};

use crate::error::LoadError;
use crate::probe;

/// What a message with its topic is in the store: checksum, header, topic of 11 bytes, and 200 bytes of payload.
const RECORD_BYTES: usize = 4 + 27 + 11 + 200;

/// Most records that are appended by the clock in one piece.
const GROUP_MAX: usize = 1_000;

/// What an entry of a queue is in the store's journal.
const ENTRY_BYTES: usize = 16;

/// The journal is kept this long when nothing waits.
const JOURNAL_BYTES: usize = 1 << 20;

/// As the store's own.
const CACHE_BYTES: usize = 64 << 20;

const MESSAGES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("messages");
const JOURNAL: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("journal");

/// Commits of equal groups, one after the other.
#[derive(Debug)]
pub(crate) struct Commits {
    pub(crate) messages_per_second: f64,
    /// Of one commit, in nanoseconds.
    pub(crate) latency: Histogram<u64>,
    /// Written to the disk for each message.
    pub(crate) bytes_each: f64,
}

/// Appends groups of records to a file of its own and syncs after each.
pub(crate) fn append(
    directory: &Path,
    group: usize,
    duration: Duration,
) -> Result<Commits, LoadError> {
    let path = directory.join("append");
    let mut file = File::create(&path)?;
    let records = vec![7; group * RECORD_BYTES];
    let commits = repeat(group, duration, || {
        file.write_all(&records)?;
        Ok(file.sync_data()?)
    });
    fs::remove_file(path)?;
    commits
}

/// Appends records as fast as they come by the clock, as many together as have come during the sync before, until it is
/// told to end.
pub(crate) fn append_in_time(
    directory: &Path,
    rate: u32,
    is_over: &AtomicBool,
) -> Result<(), LoadError> {
    let path = directory.join("append");
    let mut file = File::create(&path)?;
    let records = vec![7; GROUP_MAX * RECORD_BYTES];
    let begin = Instant::now();
    let mut written = 0_u64;
    while !is_over.load(Ordering::Relaxed) {
        let come = begin.elapsed().as_micros() * u128::from(rate) / 1_000_000;
        let come = u64::try_from(come).unwrap_or(u64::MAX);
        let group = usize::try_from(come.saturating_sub(written)).unwrap_or(GROUP_MAX);
        if group == 0 {
            thread::sleep(Duration::from_secs(1) / rate);
            continue;
        }
        let group = group.min(GROUP_MAX);
        let records = records.get(..group * RECORD_BYTES).unwrap_or(&records);
        file.write_all(records)?;
        file.sync_data()?;
        written += group as u64;
    }
    Ok(fs::remove_file(path)?)
}

/// The same records as rows of the engine, and one row for what the store's journal would say of the group. With a
/// subscriber that is there, each group takes out the one before.
pub(crate) fn engine(
    directory: &Path,
    group: usize,
    is_taken: bool,
    duration: Duration,
) -> Result<Commits, LoadError> {
    let path = directory.join("engine");
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    let database = builder.create(&path).map_err(failed)?;
    let record = [7; RECORD_BYTES];
    let journal = vec![7; group * ENTRY_BYTES + 32];
    let journal_rows = (JOURNAL_BYTES / journal.len()).max(1) as u64;
    let (mut number, size) = (0_u64, group as u64);
    let commits = repeat(group, duration, || {
        let taken = is_taken.then_some(number.checked_sub(1)).flatten();
        let trimmed = is_taken.then_some(number.checked_sub(journal_rows));
        let change = Change {
            put: number * size..(number + 1) * size,
            taken: taken.map(|number| number * size..(number + 1) * size),
            number,
            trimmed: trimmed.flatten(),
        };
        number += 1;
        commit(&database, &change, &record, &journal).map_err(failed)
    });
    drop(database);
    fs::remove_file(path)?;
    commits
}

/// What one commit changes.
struct Change {
    put: std::ops::Range<u64>,
    taken: Option<std::ops::Range<u64>>,
    number: u64,
    trimmed: Option<u64>,
}

fn commit(
    database: &Database,
    change: &Change,
    record: &[u8],
    journal: &[u8],
) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut messages = transaction.open_table(MESSAGES)?;
        for id in change.taken.clone().into_iter().flatten() {
            messages.remove(id)?;
        }
        for id in change.put.clone() {
            messages.insert(id, record)?;
        }
        let mut rows = transaction.open_table(JOURNAL)?;
        rows.insert(change.number, journal)?;
        if let Some(old) = change.trimmed {
            rows.remove(old)?;
        }
    }
    transaction.commit()?;
    Ok(())
}

fn failed(error: impl Into<redb::Error>) -> LoadError {
    if let redb::Error::Io(error) = error.into() {
        return LoadError::Io(error);
    }
    LoadError::Scenario("the engine failed")
}

/// Fewest commits that a median is taken of.
const COMMITS_MIN: u64 = 20;

/// Commits for so long.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts of a run are far below 2^53"
)]
fn repeat(
    group: usize,
    duration: Duration,
    mut commit: impl FnMut() -> Result<(), LoadError>,
) -> Result<Commits, LoadError> {
    let mut latency = Histogram::new(3).map_err(|_| LoadError::Scenario("no histogram"))?;
    // The first ones make files, tables and their first pages.
    for _ in 0..3 {
        commit()?;
    }
    let written = probe::written_bytes(std::process::id())?;
    let begin = Instant::now();
    while begin.elapsed() < duration || latency.len() < COMMITS_MIN {
        let begun = Instant::now();
        commit()?;
        let nanoseconds = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        (latency.record(nanoseconds)).map_err(|_| LoadError::Scenario("no histogram"))?;
    }
    let messages = latency.len() as f64 * group as f64;
    let seconds = begin.elapsed().as_secs_f64();
    let written = probe::written_bytes(std::process::id())?.saturating_sub(written);
    Ok(Commits {
        messages_per_second: messages / seconds,
        latency,
        bytes_each: written as f64 / messages,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_commit_in_groups_and_leave_nothing() {
        let directory = std::env::temp_dir().join(format!("paloma-disk-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory can be made");
        let span = Duration::from_millis(1);
        for group in [1, 100] {
            let appended = append(&directory, group, span).expect("the disk works");
            let taken = engine(&directory, group, true, span).expect("the disk works");
            let kept = engine(&directory, group, false, span).expect("the disk works");
            let is_over = AtomicBool::new(true);
            append_in_time(&directory, 1_000, &is_over).expect("the disk works");
            for commits in [appended, taken, kept] {
                assert!(commits.latency.len() >= COMMITS_MIN);
                assert!(commits.messages_per_second > 0.0);
            }
        }
        let left = fs::read_dir(&directory).expect("it is there").count();
        fs::remove_dir_all(&directory).expect("it is ours");
        assert_eq!(left, 0);
    }
}
