//! Everything that is not in the engine's file goes there, in one transaction.

use std::sync::Arc;

use paloma_broker::store::{Mark, StoreError};
use redb::WriteTransaction;

use crate::engine::{Engine, JOURNAL, META, Wait};
use crate::group::Group;
use crate::index::Index;
use crate::journal::{Ops, put_mark, put_op};
use crate::load::{FORMAT_KEY, LOG_BYTES_KEY, LOG_SALT_KEY, Loaded};
use crate::log::LogState;
use crate::record::{Kind, open, seal};
use crate::records::Records;

/// What one transaction is to write. It shares nothing that changes, so that commits may go on meanwhile.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    group: Arc<Group>,
    wait: Wait,
    mark: Mark,
    /// The number of the first record that the journal gets, and of the last one, which has all the ops: one for each half of the
    /// log that is taken over, so that neither says anything any more.
    first: u64,
    last: u64,
    /// Old journal records that go, and what of them still counts.
    cleaned: Vec<u64>,
    kept: Vec<u8>,
    /// What the file is to say of the log from here on, if that is something else.
    log: Option<LogState>,
}

/// What a checkpoint did to the journal.
#[derive(Debug)]
pub(crate) struct Written {
    cleaned: usize,
    /// Numbers and lengths of what came.
    records: Vec<(u64, usize)>,
}

impl Checkpoint {
    /// Of a group that is in the index already, and of which the index holds nothing else.
    pub(crate) fn of(
        engine: &Engine,
        wait: Wait,
        loaded: &Loaded,
        group: Arc<Group>,
        last: u64,
        log: &LogState,
    ) -> Result<Self, StoreError> {
        let Loaded { index, records, .. } = loaded;
        let count = records.to_clean(group.journal_bytes(), index.journal_bytes());
        let cleaned: Vec<u64> = records.oldest(count).collect();
        let kept = kept(engine, &cleaned, index)?;
        Ok(Self {
            group,
            wait,
            mark: loaded.mark,
            first: records.next(),
            last,
            cleaned,
            kept,
            log: (*log != loaded.log).then_some(*log),
        })
    }

    /// Writes it, and waits for the disk if it is to.
    pub(crate) fn run(&self, engine: &Engine) -> Result<Written, StoreError> {
        let mut ops = self.group.journal();
        ops.extend_from_slice(&self.kept);
        let mut records = Vec::new();
        engine.write(self.wait, |transaction| {
            self.group.write(transaction)?;
            let mut journal = transaction.open_table(JOURNAL)?;
            for key in &self.cleaned {
                journal.remove(key)?;
            }
            let mut record = Vec::new();
            for key in self.first..=self.last {
                seal(Kind::Journal, &key.to_be_bytes(), &mut record, |out| {
                    put_mark(out, &self.mark);
                    if key == self.last {
                        out.extend_from_slice(&ops);
                    }
                });
                journal.insert(key, record.as_slice())?;
                records.push((key, record.len()));
            }
            drop(journal);
            if let Some(log) = &self.log {
                write_state(transaction, log)?;
            }
            Ok(())
        })?;
        Ok(Written {
            cleaned: self.cleaned.len(),
            records,
        })
    }
}

impl Written {
    /// Takes note of it.
    pub(crate) fn note(&self, journal: &mut Records) {
        journal.drop_oldest(self.cleaned);
        for (key, len) in &self.records {
            journal.push(*key, *len);
        }
    }
}

/// Writes all of a group, and waits until that is done.
pub(crate) fn write(
    engine: &Engine,
    wait: Wait,
    loaded: &mut Loaded,
    group: &mut Group,
    last: u64,
    log: &LogState,
) -> Result<(), StoreError> {
    let taken = Arc::new(std::mem::replace(group, Group::beside(&loaded.index)));
    let written = Checkpoint::of(engine, wait, loaded, taken, last, log)?.run(engine)?;
    written.note(&mut loaded.records);
    loaded.log = *log;
    Ok(())
}

fn write_state(transaction: &WriteTransaction, log: &LogState) -> Result<(), redb::Error> {
    let mut meta = transaction.open_table(META)?;
    meta.insert(FORMAT_KEY, log.layout.format())?;
    meta.insert(LOG_SALT_KEY, log.salt)?;
    meta.insert(LOG_BYTES_KEY, log.bytes)?;
    Ok(())
}

/// What of old journal records still counts.
fn kept(engine: &Engine, cleaned: &[u64], index: &Index) -> Result<Vec<u8>, StoreError> {
    let mut kept = Vec::new();
    if cleaned.is_empty() {
        return Ok(kept);
    }
    engine.read(|transaction| {
        let journal = transaction.open_table(JOURNAL)?;
        for key in cleaned {
            let Some(record) = journal.get(key)? else {
                continue;
            };
            let body = open(Kind::Journal, &key.to_be_bytes(), record.value());
            let Ok((_, old)) = body.and_then(Ops::new) else {
                continue;
            };
            for op in old.map_while(Result::ok) {
                if let Some(op) = index.still_counts(op) {
                    put_op(&mut kept, &op);
                }
            }
        }
        Ok(())
    })?;
    Ok(kept)
}
