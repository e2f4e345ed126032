//! Reads everything but messages into an index.

use std::sync::Arc;

use paloma_broker::store::{Loss, Mark, MessageId, SessionId, StoreError};
use paloma_broker::wire::Damaged;
use redb::{ReadTransaction, ReadableTableMetadata};

use crate::disk::Disk;
use crate::engine::{
    Engine, FAN_OUTS, JOURNAL, MESSAGES, META, NUMBERED, RETAINED, Rows, SESSIONS, SUBSCRIPTIONS,
    Wait,
};
use crate::error::OpenError;
use crate::group::Group;
use crate::index::Index;
use crate::journal::Ops;
use crate::log::{Contents, Layout, LogState};
use crate::ops::{self, Sheet};
use crate::record::{Kind, open};
use crate::records::Records;
use crate::rows;

/// The format of everything that is written, while the log is not in use; [`Layout`] has the others. A change that an older version
/// cannot read counts all of them up.
const FORMAT: u64 = Layout::Unused.format();

/// The last one that this version knows.
const FORMAT_MAX: u64 = Layout::Halves.format();

/// Where [`META`] has the format.
pub(crate) const FORMAT_KEY: &str = "format";

// Where it has the log's state.
pub(crate) const LOG_SALT_KEY: &str = "log salt";
pub(crate) const LOG_BYTES_KEY: &str = "log bytes";

// What losses are called.
pub(crate) const SESSIONS_LOST: &str = "sessions";
pub(crate) const WILLS_LOST: &str = "wills";
pub(crate) const SUBSCRIPTIONS_LOST: &str = "subscriptions";
pub(crate) const RETAINED_LOST: &str = "retained messages";
pub(crate) const FAN_OUTS_LOST: &str = "unfinished fan-outs";
pub(crate) const MESSAGES_LOST: &str = "messages";
pub(crate) const JOURNAL_LOST: &str = "journal records";
pub(crate) const LOG_LOST: &str = "log records";

/// What was lost, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Losses(Vec<Loss>);

impl Losses {
    pub(crate) fn add(&mut self, what: &'static str, count: u64) {
        if count == 0 {
            return;
        }
        match self.0.iter_mut().find(|loss| loss.what == what) {
            Some(loss) => loss.count += count,
            None => self.0.push(Loss { what, count }),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Loss> {
        self.0.iter().copied()
    }

    pub(crate) fn into_vec(self) -> Vec<Loss> {
        self.0
    }
}

/// What a store knows once it is open.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) index: Index,
    pub(crate) records: Records,
    pub(crate) mark: Mark,
    pub(crate) losses: Losses,
    pub(crate) log: LogState,
}

/// Makes the tables of a new file, or checks that this version can read the ones that are there.
pub(crate) fn prepare(engine: &Engine) -> Result<(), OpenError> {
    let tables = engine.read(|transaction| Ok(transaction.list_tables()?.count()))?;
    if tables == 0 {
        engine.write(Wait::Synced, |transaction| {
            for table in NUMBERED {
                transaction.open_table(table)?;
            }
            transaction.open_table(SUBSCRIPTIONS)?;
            transaction.open_table(META)?.insert(FORMAT_KEY, FORMAT)?;
            Ok(())
        })?;
        return Ok(());
    }
    match engine.read(format)? {
        0 => Err(OpenError::Store(StoreError::Corrupt(
            "its format is missing",
        ))),
        found => {
            refuse_later(found)?;
            if found < FORMAT {
                raise(engine, found)?;
            }
            Ok(())
        }
    }
}

/// Gives a file of an earlier format this one's number, before anything is written that only this one knows. What is in it is
/// read as it is: a subscription without a mark of the retained messages that are on their way has none.
fn raise(engine: &Engine, found: u64) -> Result<(), StoreError> {
    let format = Layout::of(found).format();
    engine.write(Wait::Synced, |transaction| {
        transaction.open_table(META)?.insert(FORMAT_KEY, format)?;
        Ok(())
    })
}

/// Looks at the format of what is on a disk before anything is written to it: what a later version left is not for this
/// one to tidy up. What cannot be seen so is seen by [`prepare`].
pub(crate) fn look_first(disk: &Arc<dyn Disk>) -> Result<(), OpenError> {
    Engine::peek(disk, format)?.map_or(Ok(()), refuse_later)
}

/// Zero if it has none.
fn format(transaction: &ReadTransaction) -> Result<u64, redb::Error> {
    let format = transaction.open_table(META)?.get(FORMAT_KEY)?;
    Ok(format.map_or(0, |format| format.value()))
}

fn refuse_later(found: u64) -> Result<(), OpenError> {
    if found > FORMAT_MAX {
        return Err(OpenError::NewerFormat {
            found,
            known: FORMAT_MAX,
        });
    }
    Ok(())
}

/// What the file says of the log; nothing if it was never used.
pub(crate) fn log_state(transaction: &ReadTransaction) -> Result<LogState, redb::Error> {
    let meta = transaction.open_table(META)?;
    let number =
        |key| -> Result<u64, redb::Error> { Ok(meta.get(key)?.map_or(0, |number| number.value())) };
    Ok(LogState {
        layout: Layout::of(number(FORMAT_KEY)?),
        salt: number(LOG_SALT_KEY)?,
        bytes: number(LOG_BYTES_KEY)?,
    })
}

/// Reads it all.
pub(crate) fn load(engine: &Engine) -> Result<Loaded, OpenError> {
    let loaded = engine.read(|transaction| {
        let mut loaded = Loaded {
            log: log_state(transaction)?,
            ..Loaded::default()
        };
        loaded.sessions(transaction)?;
        loaded.retained(transaction)?;
        loaded.fan_outs(transaction)?;
        loaded.journal(transaction)?;
        let held = transaction.open_table(MESSAGES)?.len()?;
        let needed = loaded.index.message_count();
        loaded
            .losses
            .add(MESSAGES_LOST, needed.saturating_sub(held));
        Ok(loaded)
    })?;
    Ok(loaded)
}

impl Loaded {
    fn sessions(&mut self, transaction: &ReadTransaction) -> Result<(), redb::Error> {
        let lost = each_row(transaction, SESSIONS, |id, record| {
            self.add_session(id, record)
        })?;
        self.losses.add(SESSIONS_LOST, lost);
        Ok(())
    }

    fn retained(&mut self, transaction: &ReadTransaction) -> Result<(), redb::Error> {
        let lost = each_row(transaction, RETAINED, |id, record| {
            self.add_retained(id, record)
        })?;
        self.losses.add(RETAINED_LOST, lost);
        Ok(())
    }

    fn fan_outs(&mut self, transaction: &ReadTransaction) -> Result<(), redb::Error> {
        let lost = each_row(transaction, FAN_OUTS, |id, record| {
            self.add_fan_out(id, record)
        })?;
        self.losses.add(FAN_OUTS_LOST, lost);
        Ok(())
    }

    /// Replays the journal. The keys of its records have no gaps.
    fn journal(&mut self, transaction: &ReadTransaction) -> Result<(), redb::Error> {
        let mut gaps = 0_u64;
        let lost = each_row(transaction, JOURNAL, |key, record| {
            gaps = gaps.saturating_add(self.gap_before(key));
            self.records.push(key, record.len());
            self.replay(key, record)
        })?;
        self.losses.add(JOURNAL_LOST, lost.saturating_add(gaps));
        Ok(())
    }

    pub(crate) fn add_session(&mut self, id: u64, record: &[u8]) -> Result<(), Damaged> {
        open(Kind::Session, &id.to_be_bytes(), record).and_then(rows::session)?;
        self.index.add_session(SessionId(id));
        Ok(())
    }

    pub(crate) fn add_retained(&mut self, id: u64, record: &[u8]) -> Result<(), Damaged> {
        let row = open(Kind::Retained, &id.to_be_bytes(), record).and_then(rows::retained)?;
        self.index.retained.insert(row.topic, MessageId(id));
        self.index.refer(MessageId(id), row.bytes);
        Ok(())
    }

    pub(crate) fn add_fan_out(&mut self, id: u64, record: &[u8]) -> Result<(), Damaged> {
        let body = open(Kind::FanOut, &id.to_be_bytes(), record)?;
        let id = MessageId(id);
        let row = rows::fan_out(id, body)?;
        self.index.refer(id, row.bytes);
        self.index.fan_outs.insert(id, row);
        Ok(())
    }

    /// Applies what a log says beside it to a group.
    pub(crate) fn replay_log(&mut self, contents: &Contents, group: &mut Group) {
        let mut lost = contents.lost;
        let mut none = Sheet::default();
        none.begin(&self.mark, 0);
        for body in contents.bodies() {
            let Ok((mark, ops)) = ops::read(body) else {
                lost += 1;
                continue;
            };
            group.add(&ops, &mut self.index, &mut none);
            self.mark = mark;
        }
        self.losses.add(LOG_LOST, lost);
    }

    /// How many records are missing between the last one and this.
    pub(crate) fn gap_before(&self, key: u64) -> u64 {
        let expected = self
            .records
            .last()
            .map_or(key, |last| last.saturating_add(1));
        key.saturating_sub(expected)
    }

    pub(crate) fn replay(&mut self, key: u64, record: &[u8]) -> Result<(), Damaged> {
        let body = open(Kind::Journal, &key.to_be_bytes(), record)?;
        let (mark, ops) = Ops::new(body)?;
        self.mark = mark;
        let mut freed = Vec::new();
        for op in ops {
            // What a message's last reader freed is gone from the file as well.
            self.index.apply(&op?, &mut freed);
            freed.clear();
        }
        Ok(())
    }
}

/// Gives each row of a table; how many were damaged or missing.
fn each_row(
    transaction: &ReadTransaction,
    table: Rows,
    mut each: impl FnMut(u64, &[u8]) -> Result<(), Damaged>,
) -> Result<u64, redb::Error> {
    let table = transaction.open_table(table)?;
    let mut seen = 0;
    for row in table.range::<u64>(..)? {
        let (key, record) = row?;
        seen += u64::from(each(key.value(), record.value()).is_ok());
    }
    Ok(table.len()?.saturating_sub(seen))
}
