//! Everything that is not in the engine's file goes there, in one transaction.

use std::mem;

use paloma_broker::store::{Mark, StoreError};
use redb::{Table, WriteTransaction};

use crate::engine::{Engine, JOURNAL, META, Wait};
use crate::group::Group;
use crate::index::Index;
use crate::journal::{Ops, put_mark, put_op};
use crate::load::{FORMAT, FORMAT_KEY, FORMAT_LOGGED, LOG_BYTES_KEY, LOG_SALT_KEY, Loaded};
use crate::log::LogState;
use crate::record::{Kind, open, seal};

/// Writes a group that is in the index already, and what the file is to say of the log from here on. The journal gets a record
/// in any case, so that what the log has says nothing any more.
pub(crate) fn write(
    engine: &Engine,
    wait: Wait,
    loaded: &mut Loaded,
    group: &mut Group,
    mark: Mark,
    log: &LogState,
) -> Result<(), StoreError> {
    let Loaded { index, records, .. } = &*loaded;
    let mut ops = group.take_journal(index);
    let cleaned = records.to_clean(ops.len() as u64, index.journal_bytes());
    let key = records.next();
    let mut record = Vec::new();
    engine.write(wait, |transaction| {
        group.write(transaction)?;
        let mut journal = transaction.open_table(JOURNAL)?;
        clean(&mut journal, records.oldest(cleaned), index, &mut ops)?;
        seal(Kind::Journal, &key.to_be_bytes(), &mut record, |out| {
            put_mark(out, &mark);
            out.extend_from_slice(&mem::take(&mut ops));
        });
        journal.insert(key, record.as_slice())?;
        drop(journal);
        if *log != loaded.log {
            write_state(transaction, log)?;
        }
        Ok(())
    })?;
    loaded.records.drop_oldest(cleaned);
    loaded.records.push(key, record.len());
    loaded.mark = mark;
    loaded.log = *log;
    *group = Group::beside(&loaded.index);
    Ok(())
}

fn write_state(transaction: &WriteTransaction, log: &LogState) -> Result<(), redb::Error> {
    let format = if log.is_used { FORMAT_LOGGED } else { FORMAT };
    let mut meta = transaction.open_table(META)?;
    meta.insert(FORMAT_KEY, format)?;
    meta.insert(LOG_SALT_KEY, log.salt)?;
    meta.insert(LOG_BYTES_KEY, log.bytes)?;
    Ok(())
}

/// Deletes old journal records, and appends what of them still counts.
fn clean(
    journal: &mut Table<'_, u64, &'static [u8]>,
    oldest: impl Iterator<Item = u64>,
    index: &Index,
    ops: &mut Vec<u8>,
) -> Result<(), redb::Error> {
    for key in oldest {
        let Some(record) = journal.remove(key)? else {
            continue;
        };
        let body = open(Kind::Journal, &key.to_be_bytes(), record.value());
        let Ok((_, old)) = body.and_then(Ops::new) else {
            continue;
        };
        for op in old.map_while(Result::ok) {
            if let Some(op) = index.still_counts(op) {
                put_op(ops, &op);
            }
        }
    }
    Ok(())
}
