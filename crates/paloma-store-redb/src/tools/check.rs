//! Looking at a store, and making its file shorter.

use std::path::Path;

use paloma_broker::store::{Loss, StoreError};
use redb::ReadableTableMetadata;

use super::dump::dump;
use super::source::{Source, Tolerance};
use crate::engine::{SUBSCRIPTIONS, WILLS};
use crate::error::OpenError;

/// What a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Its format.
    pub format: u64,
    /// Sessions.
    pub sessions: u64,
    /// Their subscriptions.
    pub subscriptions: u64,
    /// Their wills.
    pub wills: u64,
    /// Queue entries.
    pub entries: u64,
    /// Messages, each once.
    pub messages: u64,
    /// Those that are retained.
    pub retained: u64,
    /// Fan-outs that did not come to their end.
    pub fan_outs: u64,
    /// Bytes of the journal of queues.
    pub journal_bytes: u64,
    /// Bytes that the file and its reserve take.
    pub file_bytes: u64,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What the store holds.
    pub stats: Stats,
    /// The engine had to mend its own records; nothing was lost by that.
    pub is_mended: bool,
    /// What cannot be read.
    pub lost: Vec<Loss>,
    /// Messages that nobody needs: they take space until a repair.
    pub orphans: u64,
}

impl Report {
    /// Whether everything is as it was written.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.lost.is_empty()
    }
}

/// Says what a store holds, without reading its messages.
///
/// # Errors
/// It is in use, missing, or cannot be read.
pub fn stats(path: &Path) -> Result<Stats, OpenError> {
    let (_directory, mut source) = Source::at(path, Tolerance::Strict)?;
    let stats = count(&source)?;
    source.engine.close()?;
    Ok(stats)
}

/// Reads everything and compares it with its checksums.
///
/// # Errors
/// It is in use, missing, of a later version, or so damaged that it cannot be read at all.
pub fn check(path: &Path) -> Result<Report, OpenError> {
    let (_directory, mut source) = Source::at(path, Tolerance::Report)?;
    let report = check_source(&mut source)?;
    source.engine.close()?;
    Ok(report)
}

pub(super) fn check_source(source: &mut Source) -> Result<Report, StoreError> {
    let is_mended = !source.engine.check()?;
    let mut each = |_| Ok::<_, StoreError>(());
    let losses = dump(source, &mut each)?;
    let held = source.message_ids()?;
    let index = &source.loaded.index;
    let orphans = held.iter().filter(|id| !index.has_message(**id)).count();
    Ok(Report {
        stats: count(source)?,
        is_mended,
        lost: losses.into_vec(),
        orphans: orphans as u64,
    })
}

fn count(source: &Source) -> Result<Stats, StoreError> {
    let index = &source.loaded.index;
    let (subscriptions, wills) = source.engine.read(|transaction| {
        let subscriptions = transaction.open_table(SUBSCRIPTIONS)?.len()?;
        Ok((subscriptions, transaction.open_table(WILLS)?.len()?))
    })?;
    Ok(Stats {
        format: source.loaded.log.layout.format(),
        sessions: index.session_count(),
        subscriptions,
        wills,
        entries: index.entry_count(),
        messages: index.message_count(),
        retained: index.retained.len() as u64,
        fan_outs: index.fan_outs.len() as u64,
        journal_bytes: source.loaded.records.bytes(),
        file_bytes: source.engine.backend.file_bytes(),
    })
}

/// What compaction did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// Bytes that the file and its reserve took before.
    pub before: u64,
    /// Bytes that they take.
    pub after: u64,
}

/// Makes the file as short as it can be.
///
/// # Errors
/// It is in use, missing, or cannot be read or written.
pub fn compact(path: &Path) -> Result<Compacted, OpenError> {
    let (_directory, mut source) = Source::at(path, Tolerance::Strict)?;
    let before = source.engine.backend.file_bytes();
    while source.engine.compact()? {}
    source.engine.close()?;
    let after = source.engine.backend.file_bytes();
    Ok(Compacted { before, after })
}
