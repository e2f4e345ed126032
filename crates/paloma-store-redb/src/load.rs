//! Reads everything but messages into an index.

use paloma_broker::store::{Loss, Mark, MessageId, SessionId, StoreError};
use redb::{ReadTransaction, ReadableTableMetadata};

use crate::engine::{
    Engine, FAN_OUTS, JOURNAL, MESSAGES, META, NUMBERED, RETAINED, SESSIONS, SUBSCRIPTIONS, Wait,
};
use crate::error::OpenError;
use crate::index::Index;
use crate::journal::{JournalOp, Ops};
use crate::log::Log;
use crate::record::{Damaged, Kind, open};
use crate::rows;

/// The format of everything that is written. A change that an older version cannot read counts it up.
pub(crate) const FORMAT: u64 = 1;

/// Where [`META`] has the format.
pub(crate) const FORMAT_KEY: &str = "format";

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
    pub(crate) log: Log,
    pub(crate) mark: Mark,
    pub(crate) losses: Losses,
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
    let found = engine.read(|transaction| {
        let format = transaction.open_table(META)?.get(FORMAT_KEY)?;
        Ok(format.map_or(0, |format| format.value()))
    })?;
    match found {
        FORMAT => Ok(()),
        found if found > FORMAT => Err(OpenError::NewerFormat {
            found,
            known: FORMAT,
        }),
        _ => Err(OpenError::Store(StoreError::Corrupt(
            "its format is missing",
        ))),
    }
}

/// Reads it all.
pub(crate) fn load(engine: &Engine) -> Result<Loaded, OpenError> {
    let loaded = engine.read(|transaction| {
        let mut loaded = Loaded::default();
        loaded.sessions(transaction)?;
        loaded.retained(transaction)?;
        loaded.fan_outs(transaction)?;
        loaded.journal(transaction)?;
        let held = transaction.open_table(MESSAGES)?.len()?;
        let needed = loaded.index.message_count();
        loaded.losses.add("messages", needed.saturating_sub(held));
        Ok(loaded)
    })?;
    Ok(loaded)
}

impl Loaded {
    fn sessions(&mut self, transaction: &ReadTransaction) -> Result<(), redb::Error> {
        let table = transaction.open_table(SESSIONS)?;
        let mut seen = 0;
        for row in table.range::<u64>(..)? {
            let (id, record) = row?;
            let id = id.value();
            let session =
                open(Kind::Session, &id.to_be_bytes(), record.value()).and_then(rows::session);
            if session.is_ok() {
                self.index.add_session(SessionId(id));
                seen += 1;
            }
        }
        self.losses
            .add("sessions", table.len()?.saturating_sub(seen));
        Ok(())
    }

    fn retained(&mut self, transaction: &ReadTransaction) -> Result<(), redb::Error> {
        let table = transaction.open_table(RETAINED)?;
        let mut seen = 0;
        for row in table.range::<u64>(..)? {
            let (id, record) = row?;
            let id = MessageId(id.value());
            let row =
                open(Kind::Retained, &id.0.to_be_bytes(), record.value()).and_then(rows::retained);
            if let Ok(row) = row {
                self.index.retained.insert(row.topic, id);
                self.index.refer(id, row.bytes);
                seen += 1;
            }
        }
        let lost = table.len()?.saturating_sub(seen);
        self.losses.add("retained messages", lost);
        Ok(())
    }

    fn fan_outs(&mut self, transaction: &ReadTransaction) -> Result<(), redb::Error> {
        let table = transaction.open_table(FAN_OUTS)?;
        let mut seen = 0;
        for row in table.range::<u64>(..)? {
            let (id, record) = row?;
            let id = MessageId(id.value());
            let row = open(Kind::FanOut, &id.0.to_be_bytes(), record.value())
                .and_then(|body| rows::fan_out(id, body));
            if let Ok(row) = row {
                self.index.refer(id, row.bytes);
                self.index.fan_outs.insert(id, row);
                seen += 1;
            }
        }
        let lost = table.len()?.saturating_sub(seen);
        self.losses.add("unfinished fan-outs", lost);
        Ok(())
    }

    /// Replays the journal. The keys of its records have no gaps.
    fn journal(&mut self, transaction: &ReadTransaction) -> Result<(), redb::Error> {
        let table = transaction.open_table(JOURNAL)?;
        let (mut seen, mut gaps) = (0_u64, 0_u64);
        for row in table.range::<u64>(..)? {
            let (key, record) = row?;
            let (key, record) = (key.value(), record.value());
            if let Some(last) = self.log.last() {
                gaps = gaps.saturating_add(key.saturating_sub(last).saturating_sub(1));
            }
            self.log.push(key, record.len());
            if self.replay(key, record).is_ok() {
                seen += 1;
            }
        }
        let lost = table.len()?.saturating_sub(seen).saturating_add(gaps);
        self.losses.add("journal records", lost);
        Ok(())
    }

    fn replay(&mut self, key: u64, record: &[u8]) -> Result<(), Damaged> {
        let body = open(Kind::Journal, &key.to_be_bytes(), record)?;
        let (mark, ops) = Ops::new(body)?;
        self.mark = mark;
        let mut freed = Vec::new();
        for op in ops {
            self.replay_op(&op?, &mut freed);
        }
        Ok(())
    }

    fn replay_op(&mut self, op: &JournalOp, freed: &mut Vec<MessageId>) {
        // What a message's last reader freed is gone from the file as well.
        self.index.apply(op, freed);
        freed.clear();
    }
}
