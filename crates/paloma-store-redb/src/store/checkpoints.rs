//! When the engine's file takes over what the log has.

use std::sync::Arc;
use std::time::Duration;

use paloma_broker::store::{Mark, Space, StoreError};

use super::RedbStore;
use crate::checkpoint::{self, Checkpoint, Written};
use crate::engine::Wait;
use crate::group::Group;
use crate::log::{LOG_BYTES_MAX, LOG_PAGE, Layout, Log, LogState, new_salt};
use crate::options::Durability;

/// How long nothing is committed before the engine's file takes over what the log has: a publisher that sends now and then does
/// not pay for that with each message.
const AT_REST: Duration = Duration::from_secs(1);

/// How soon somebody looks how a checkpoint went that nobody waits for.
const LOOK_AFTER: Duration = Duration::from_millis(20);

/// How long a log that found no space is done without.
const LAY_OUT_AGAIN: Duration = Duration::from_secs(60);

/// A record is at most this part of a half of the log: what is larger costs the engine less than twice the writing.
const RECORD_SHARE: u64 = 16;

/// What the engine's file will have to take over at once comes to about this part of a half: messages that nobody has taken,
/// and rows, of which a short record may have many.
const BURDEN_SHARE: u64 = 4;

/// While one checkpoint is under way the next one may get so many times as large, before commits wait.
const PATIENCE: u64 = 4;

impl RedbStore {
    /// Of a store on disks of one's own: has the engine's file take over what a checkpoint has begun with, as a thread would
    /// between any two calls. False if there is none under way.
    pub fn take_over(&mut self) -> bool {
        self.background.drive()
    }

    /// Makes durable what was applied to the index: in the log if it is not much, else in the engine's file.
    pub(super) fn keep(&mut self, mark: Mark) -> Result<(), StoreError> {
        self.committed_at = (self.options.clock)();
        self.loaded.mark = mark;
        if self.append()? {
            return Ok(());
        }
        self.checkpoint(false)
    }

    fn append(&mut self) -> Result<bool, StoreError> {
        if self.sheet.is_over() {
            return Ok(false);
        }
        let Some(log) = &mut self.log else {
            return Ok(false);
        };
        log.append(&mut self.sheet).map_err(StoreError::Io)
    }

    /// Has the log ready for a record, before anything of that is applied. Where its other half is free, what this one has is
    /// taken over behind the commits; else they wait for that.
    pub(super) fn make_room(&mut self) -> Result<(), StoreError> {
        let record_max = self.record_bytes_max();
        let Some(log) = self.log.as_ref().filter(|log| !log.is_empty()) else {
            return Ok(());
        };
        let burden_max = match self.log_bytes() / BURDEN_SHARE {
            _ if record_max == 0 => return Ok(()),
            share if self.background.is_busy() => share * PATIENCE,
            share => share,
        };
        if log.has_room(record_max) && self.pending.burden() <= burden_max {
            return Ok(());
        }
        self.wait_for_checkpoint()?;
        self.begin_checkpoint()
    }

    /// Turns to the other half of the log, and has the engine's file take over what this one has. Where both have something,
    /// it takes over all of it first.
    pub(super) fn begin_checkpoint(&mut self) -> Result<(), StoreError> {
        let wait = self.wait();
        let Self {
            engine,
            loaded,
            pending,
            log,
            background,
            ..
        } = self;
        let log = log.as_mut().filter(|log| log.may_turn());
        let Some(log) = log.filter(|_| wait == Wait::Synced) else {
            return self.checkpoint(false);
        };
        let last = log.base().saturating_add(1);
        let taken = std::mem::replace(pending, Group::beside(&loaded.index));
        let taken = Arc::new(taken);
        let state = loaded.log;
        let checkpoint = Checkpoint::of(engine, wait, loaded, Arc::clone(&taken), last, &state)?;
        log.turn();
        background.begin(engine, checkpoint, taken)
    }

    /// Has the engine's file take over everything, and the log begin anew; at the end, without being used any more.
    pub(super) fn checkpoint(&mut self, is_end: bool) -> Result<(), StoreError> {
        self.wait_for_checkpoint()?;
        let wait = if is_end { Wait::Synced } else { self.wait() };
        let next = self.next_log(is_end)?;
        let base = self.log.as_ref().map_or(0, Log::base);
        let mut last = base.max(self.loaded.records.newest()).saturating_add(1);
        if next.layout != self.loaded.log.layout && next.is_used() && !LogState::is_first(last) {
            last = last.saturating_add(1);
        }
        let Self {
            engine,
            loaded,
            pending,
            ..
        } = self;
        checkpoint::write(engine, wait, loaded, pending, last, &next)?;
        // Only here, when that is synced, may the records be written over.
        if let Some(log) = &mut self.log {
            log.begin(&next, self.loaded.records.newest());
        }
        match wait {
            Wait::Synced => self.unsynced = None,
            Wait::No => {
                let now = (self.options.clock)();
                self.unsynced.get_or_insert(now);
            }
        }
        Ok(())
    }

    /// Takes note of a checkpoint that is over.
    pub(super) fn note_checkpoint(&mut self) -> Result<(), StoreError> {
        let outcome = self.background.poll();
        self.note(outcome)
    }

    pub(super) fn wait_for_checkpoint(&mut self) -> Result<(), StoreError> {
        let outcome = self.background.wait();
        self.note(outcome)
    }

    fn note(&mut self, outcome: Option<Result<Written, StoreError>>) -> Result<(), StoreError> {
        let Some(outcome) = outcome else {
            return Ok(());
        };
        let Self { loaded, log, .. } = self;
        outcome?.note(&mut loaded.records);
        // Only here, when that is synced, may the half of the log that it took over be written over.
        if let Some(log) = log {
            log.note_taken(loaded.records.newest());
        }
        Ok(())
    }

    /// What the engine's file is to say of the log behind a checkpoint.
    fn next_log(&mut self, is_end: bool) -> Result<LogState, StoreError> {
        let state = self.loaded.log;
        let bytes = 2 * self.log_bytes();
        if is_end || bytes == 0 || !self.lay_out(bytes)? {
            return Ok(LogState {
                layout: Layout::Unused,
                ..state
            });
        }
        let begins = state.layout != Layout::Halves;
        Ok(LogState {
            layout: Layout::Halves,
            salt: if begins { new_salt() } else { state.salt },
            bytes,
        })
    }

    /// False if there is no space for the log.
    fn lay_out(&mut self, bytes: u64) -> Result<bool, StoreError> {
        let now = (self.options.clock)();
        let is_too_soon = self
            .no_room_at
            .is_some_and(|at| now.saturating_sub(at) < LAY_OUT_AGAIN);
        let may_grow = self.space == Space::Free && !is_too_soon;
        let Some(log) = &mut self.log else {
            return Ok(false);
        };
        let is_laid_out = log.lay_out(bytes, may_grow).map_err(StoreError::Io)?;
        if !is_laid_out && may_grow {
            self.no_room_at = Some(now);
        }
        Ok(is_laid_out)
    }

    /// How long a half of the log is to be; 0 if there is to be none.
    pub(super) fn log_bytes(&self) -> u64 {
        match self.options.durability {
            Durability::Ack | Durability::Os if self.log.is_some() => {
                self.options.log_bytes.min(LOG_BYTES_MAX / 2) / LOG_PAGE * LOG_PAGE
            }
            Durability::Ack | Durability::Os | Durability::Interval | Durability::None => 0,
        }
    }

    pub(super) fn is_log_empty(&self) -> bool {
        self.log.as_ref().is_none_or(Log::is_empty)
    }

    /// Begins a record of the log, if there can be one.
    pub(super) fn begin_sheet(&mut self, mark: &Mark) {
        let limit = usize::try_from(self.record_bytes_max()).unwrap_or(usize::MAX);
        self.sheet.begin(mark, limit);
    }

    /// How long a record may be; 0 if there can be none.
    fn record_bytes_max(&self) -> u64 {
        let LogState { layout, .. } = self.loaded.log;
        match layout {
            Layout::Halves => self.log_bytes().min(self.loaded.log.half_bytes()) / RECORD_SHARE,
            Layout::Unused | Layout::Whole => 0,
        }
    }

    /// How long the store has to be at rest until the engine's file takes over what the log has, or until somebody looks how that
    /// went; `None` if it has nothing, or there is nowhere to take it.
    pub(super) fn to_next_checkpoint(&self) -> Option<Duration> {
        if self.background.is_busy() {
            return Some(LOOK_AFTER);
        }
        if self.is_log_empty() || self.space == Space::Full {
            return None;
        }
        Some(AT_REST.saturating_sub(self.idle()))
    }

    pub(super) fn is_at_rest(&self) -> bool {
        self.idle() >= AT_REST
    }

    fn idle(&self) -> Duration {
        (self.options.clock)().saturating_sub(self.committed_at)
    }

    /// Whether the next commit waits for the disk.
    pub(super) fn wait(&self) -> Wait {
        match self.options.durability {
            Durability::Ack | Durability::Os => Wait::Synced,
            Durability::None => Wait::No,
            Durability::Interval => match self.to_next_sync() {
                Some(Duration::ZERO) => Wait::Synced,
                Some(_) | None => Wait::No,
            },
        }
    }

    /// How long what is not synced may still wait; `None` if there is nothing, or it may wait for ever.
    pub(super) fn to_next_sync(&self) -> Option<Duration> {
        let since = self.unsynced?;
        if self.options.durability != Durability::Interval {
            return None;
        }
        let age = (self.options.clock)().saturating_sub(since);
        Some(self.options.interval.saturating_sub(age))
    }
}
