//! A store that is read only, as far as it can be.

use std::path::Path;
use std::sync::Arc;

use paloma_broker::store::{MessageId, StoreError};
use paloma_codec::Message;

use crate::checkpoint;
use crate::directory::Directory;
use crate::disk::{Disk, FileDisk};
use crate::engine::{
    Engine, FAN_OUTS, JOURNAL, MESSAGES, RETAINED, Rows, SESSIONS, SUBSCRIPTIONS, Wait,
};
use crate::error::OpenError;
use crate::group::Group;
use crate::load::{
    FAN_OUTS_LOST, JOURNAL_LOST, LOG_LOST, Loaded, RETAINED_LOST, SESSIONS_LOST, load, log_state,
    look_first, prepare,
};
use crate::log::{self, Contents, Layout, LogState};
use crate::messages::read_message;
use crate::options::Options;

/// What to do about pages, or records of the log, that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tolerance {
    /// Give up.
    Strict,
    /// Give up on pages, and report the log's records.
    Report,
    /// Go on with what lies before and behind them.
    Salvage,
}

/// An engine and what is known of its contents.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) engine: Engine,
    pub(super) loaded: Loaded,
    /// What the log has and the engine's file has not.
    pub(super) log: Contents,
    disk: Arc<dyn Disk>,
    tolerance: Tolerance,
}

impl Source {
    pub(super) fn open(directory: &Directory, tolerance: Tolerance) -> Result<Self, OpenError> {
        let disk = FileDisk::open_old(&directory.file())?;
        let log = directory.log();
        let log = if log.exists() {
            Some(FileDisk::open_log(&log)?)
        } else {
            None
        };
        let mut source = Self::on_disk(Arc::new(disk), tolerance)?;
        let log = log.as_ref().map(|log| log as &dyn Disk);
        let base = source.loaded.records.newest();
        source.log = log::salvage(log, &source.loaded.log, base)?;
        match tolerance {
            Tolerance::Strict | Tolerance::Report if source.log.lost == 0 => source.take_log()?,
            Tolerance::Strict => {
                return Err(StoreError::Corrupt("its log is damaged").into());
            }
            Tolerance::Report => {
                let lost = source.log.lost;
                source.loaded.losses.add(LOG_LOST, lost);
            }
            Tolerance::Salvage => {}
        }
        Ok(source)
    }

    /// Has the engine's file take over what the log has.
    pub(super) fn take_log(&mut self) -> Result<(), StoreError> {
        let state = self.loaded.log;
        if !state.is_used() {
            return Ok(());
        }
        let mut group = Group::beside(&self.loaded.index);
        self.loaded.replay_log(&self.log, &mut group);
        let unused = LogState {
            layout: Layout::Unused,
            ..state
        };
        let last = self.log.base.saturating_add(1);
        checkpoint::write(
            &self.engine,
            Wait::Synced,
            &mut self.loaded,
            &mut group,
            last,
            &unused,
        )
    }

    pub(super) fn at(path: &Path, tolerance: Tolerance) -> Result<(Directory, Self), OpenError> {
        let directory = Directory::lock_store(path)?;
        let source = Self::open(&directory, tolerance)?;
        Ok((directory, source))
    }

    fn on_disk(disk: Arc<dyn Disk>, tolerance: Tolerance) -> Result<Self, OpenError> {
        look_first(&disk)?;
        let engine = open_engine(&disk)?;
        prepare(&engine)?;
        let mut source = Self {
            engine,
            loaded: Loaded::default(),
            log: Contents::default(),
            disk,
            tolerance,
        };
        match load(&source.engine) {
            Ok(loaded) => source.loaded = loaded,
            Err(error) if tolerance != Tolerance::Salvage => return Err(error),
            Err(_) => {
                source.reopen()?;
                source.salvage()?;
            }
        }
        Ok(source)
    }

    /// Reads the tables as far as that goes.
    fn salvage(&mut self) -> Result<(), StoreError> {
        let log = match self.engine.read(log_state) {
            Ok(log) => log,
            Err(_) => {
                self.reopen()?;
                LogState::default()
            }
        };
        let mut loaded = Loaded {
            log,
            ..Loaded::default()
        };
        let mut lost = 0;
        for (key, record) in self.rows(SESSIONS)? {
            lost += u64::from(loaded.add_session(key, &record).is_err());
        }
        loaded.losses.add(SESSIONS_LOST, lost);
        lost = 0;
        for (key, record) in self.rows(RETAINED)? {
            lost += u64::from(loaded.add_retained(key, &record).is_err());
        }
        loaded.losses.add(RETAINED_LOST, lost);
        lost = 0;
        for (key, record) in self.rows(FAN_OUTS)? {
            lost += u64::from(loaded.add_fan_out(key, &record).is_err());
        }
        loaded.losses.add(FAN_OUTS_LOST, lost);
        lost = 0;
        for (key, record) in self.rows(JOURNAL)? {
            lost += loaded.gap_before(key);
            loaded.records.push(key, record.len());
            lost += u64::from(loaded.replay(key, &record).is_err());
        }
        loaded.losses.add(JOURNAL_LOST, lost);
        self.loaded = loaded;
        Ok(())
    }

    /// The rows of a table in ascending order; of one with pages that cannot be read, those before and behind them.
    pub(super) fn rows(&mut self, table: Rows) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        let mut rows = Vec::new();
        let forward = self.engine.read(|transaction| {
            for row in transaction.open_table(table)?.range::<u64>(..)? {
                let (key, record) = row?;
                rows.push((key.value(), record.value().to_vec()));
            }
            Ok(())
        });
        if !self.is_unreadable(forward)? {
            return Ok(rows);
        }
        let last = rows.last().map(|(key, _)| *key);
        let mut tail = Vec::new();
        let backward = self.engine.read(|transaction| {
            for row in transaction.open_table(table)?.range::<u64>(..)?.rev() {
                let (key, record) = row?;
                if last.is_some_and(|last| key.value() <= last) {
                    break;
                }
                tail.push((key.value(), record.value().to_vec()));
            }
            Ok(())
        });
        self.is_unreadable(backward)?;
        tail.reverse();
        rows.append(&mut tail);
        Ok(rows)
    }

    /// The rows of the table of subscriptions, in the same way.
    pub(super) fn subscriptions(&mut self) -> Result<Vec<(u64, String, Vec<u8>)>, StoreError> {
        let mut rows = Vec::new();
        let forward = self.engine.read(|transaction| {
            let table = transaction.open_table(SUBSCRIPTIONS)?;
            for row in table.range::<(u64, &str)>(..)? {
                let (key, record) = row?;
                let (session, filter) = key.value();
                rows.push((session, filter.to_owned(), record.value().to_vec()));
            }
            Ok(())
        });
        if !self.is_unreadable(forward)? {
            return Ok(rows);
        }
        let last = rows
            .last()
            .map(|(session, filter, _)| (*session, filter.clone()));
        let mut tail = Vec::new();
        let backward = self.engine.read(|transaction| {
            let table = transaction.open_table(SUBSCRIPTIONS)?;
            for row in table.range::<(u64, &str)>(..)?.rev() {
                let (key, record) = row?;
                let (session, filter) = key.value();
                let is_known = last
                    .as_ref()
                    .is_some_and(|(id, last)| (session, filter) <= (*id, last.as_str()));
                if is_known {
                    break;
                }
                tail.push((session, filter.to_owned(), record.value().to_vec()));
            }
            Ok(())
        });
        self.is_unreadable(backward)?;
        tail.reverse();
        rows.append(&mut tail);
        Ok(rows)
    }

    /// The numbers of all messages that can be listed.
    pub(super) fn message_ids(&mut self) -> Result<Vec<MessageId>, StoreError> {
        let mut ids = Vec::new();
        self.engine.read(|transaction| {
            for row in transaction.open_table(MESSAGES)?.range::<u64>(..)? {
                ids.push(MessageId(row?.0.value()));
            }
            Ok(())
        })?;
        Ok(ids)
    }

    /// A message, if it is what was written.
    pub(super) fn message(&mut self, id: MessageId) -> Result<Option<Message>, StoreError> {
        let read = self
            .engine
            .read(|transaction| read_message(&transaction.open_table(MESSAGES)?, id));
        match read {
            Ok(message) => Ok(message.ok()),
            Err(error) => self.is_unreadable(Err(error)).map(|_| None),
        }
    }

    /// Whether an outcome is one to go on after.
    fn is_unreadable(&mut self, outcome: Result<(), StoreError>) -> Result<bool, StoreError> {
        match outcome {
            Ok(()) => Ok(false),
            Err(StoreError::Corrupt(_)) if self.tolerance == Tolerance::Salvage => {
                self.reopen()?;
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    /// A panic in the engine is its end; a new one may get further.
    fn reopen(&mut self) -> Result<(), StoreError> {
        self.engine.backend.latch();
        self.engine = open_engine(&self.disk)?;
        Ok(())
    }
}

fn open_engine(disk: &Arc<dyn Disk>) -> Result<Engine, StoreError> {
    Engine::open(Arc::clone(disk), true, Options::default().cache_bytes)
}
