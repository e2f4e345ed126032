//! The store itself.

use std::fmt;
use std::mem;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use paloma_broker::store::{
    Committed, FlightRecord, FlightState, LoadRequest, Loaded as LoadedQueue, Loss, Mark,
    MessageId, Recovered, Rested, RetainedRecord, SessionId, Space, Store, StoreBatch, StoreError,
    StoreUsage,
};
use paloma_broker::wire::Damaged;
use redb::{ReadTransaction, ReadableTableMetadata, Table};

use crate::backend::Bounds;
use crate::directory::Directory;
use crate::disk::{Disk, FileDisk};
use crate::engine::{Engine, JOURNAL, MESSAGES, RETAINED, SESSIONS, SUBSCRIPTIONS, WILLS, Wait};
use crate::error::OpenError;
use crate::group::{Group, subscription_key};
use crate::index::Index;
use crate::journal::{JournalOp, Ops, put_mark, put_op};
use crate::load::{
    FAN_OUTS_LOST, Loaded, Losses, MESSAGES_LOST, RETAINED_LOST, SUBSCRIPTIONS_LOST, WILLS_LOST,
    load, look_first, prepare,
};
use crate::messages::{MessageReader, MessageTable, read_message};
use crate::options::{Durability, Options};
use crate::record::{Kind, open, seal};
use crate::rows;

/// How long a full store waits before it looks for room again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Most bytes in use of a store whose file is made shorter while a broker runs.
const SHORTEN_BYTES_MAX: u64 = 16 << 20;

/// What a session with a few subscriptions takes.
const SESSION_SHARE: u64 = 256;

/// A durable store in one file.
pub struct RedbStore {
    engine: Engine,
    loaded: Loaded,
    options: Options,
    disk: Arc<dyn Disk>,
    condition: Condition,
    /// Entries whose messages cannot be read; they go with the next commit.
    unreadable: Vec<(SessionId, MessageId)>,
    unreadable_count: u64,
    unsynced: Option<Duration>,
    space: Space,
    /// What the file took after it was last made shorter.
    shortened_to: u64,
    /// Bytes written before the engine was opened anew.
    written_before: u64,
    record: Vec<u8>,
    /// Keeps others out.
    _directory: Option<Directory>,
}

impl fmt::Debug for RedbStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not what is loaded, which grows with the sessions.
        f.debug_struct("RedbStore")
            .field("options", &self.options)
            .field("condition", &self.condition)
            .field("unreadable_count", &self.unreadable_count)
            .field("space", &self.space)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Well,
    /// A commit met a full disk: what is in memory is more than what is in the file.
    ToReopen,
    /// Nothing may be written or acknowledged any more.
    Broken,
    Closed,
}

impl RedbStore {
    /// Opens the store in a directory, or makes one.
    ///
    /// # Errors
    /// Another process has it, a later version wrote it, or it cannot be read.
    pub fn open(path: &Path, options: &Options) -> Result<Self, OpenError> {
        let directory = Directory::lock(path)?;
        Self::open_in(directory, options)
    }

    pub(crate) fn open_in(directory: Directory, options: &Options) -> Result<Self, OpenError> {
        let file = directory.file();
        let disk = if directory.has_file() {
            FileDisk::open_old(&file)?
        } else {
            let disk = FileDisk::create(&file)?;
            let synced = directory.sync();
            synced.map_err(|error| OpenError::io(&file, error))?;
            disk
        };
        let mut store = Self::on_disk(Arc::new(disk), options)?;
        store._directory = Some(directory);
        Ok(store)
    }

    /// Opens the store on a disk of one's own, which nobody else may use.
    ///
    /// # Errors
    /// A later version wrote it, or it cannot be read.
    pub fn on_disk(disk: Arc<dyn Disk>, options: &Options) -> Result<Self, OpenError> {
        look_first(&disk)?;
        let engine = open_engine(&disk, options)?;
        prepare(&engine)?;
        let loaded = load(&engine)?;
        let mut store = Self {
            engine,
            loaded,
            options: *options,
            disk,
            condition: Condition::Well,
            unreadable: Vec::new(),
            unreadable_count: 0,
            unsynced: None,
            space: Space::Free,
            shortened_to: 0,
            written_before: 0,
            record: Vec::new(),
            _directory: None,
        };
        store.space = store.room();
        Ok(store)
    }

    /// What could not be read when it was opened, messages apart: those are not read until they are wanted.
    #[must_use]
    pub fn losses(&self) -> Vec<Loss> {
        self.loaded.losses.clone().into_vec()
    }

    /// Whether it holds nothing at all.
    pub(crate) fn is_empty(&self) -> bool {
        let index = &self.loaded.index;
        index.session_count() == 0 && index.message_count() == 0
    }

    /// Writes a group that was applied to the index already.
    fn write(&mut self, group: &mut Group, mark: Mark) -> Result<(), StoreError> {
        let Loaded { index, log, .. } = &self.loaded;
        let cleaned = log.to_clean(group.journal.len() as u64, index.journal_bytes());
        let key = log.next();
        let wait = self.wait();
        let record = &mut self.record;
        self.engine.write(wait, |transaction| {
            group.write(transaction)?;
            let mut ops = mem::take(&mut group.journal);
            let mut journal = transaction.open_table(JOURNAL)?;
            clean(&mut journal, log.oldest(cleaned), index, &mut ops)?;
            seal(Kind::Journal, &key.to_be_bytes(), record, |out| {
                put_mark(out, &mark);
                out.extend_from_slice(&ops);
            });
            journal.insert(key, record.as_slice())?;
            Ok(())
        })?;
        self.loaded.log.drop_oldest(cleaned);
        self.loaded.log.push(key, self.record.len());
        self.loaded.mark = mark;
        match wait {
            Wait::Synced => self.unsynced = None,
            Wait::No => {
                let now = (self.options.clock)();
                self.unsynced.get_or_insert(now);
            }
        }
        Ok(())
    }

    /// Whether the next commit waits for the disk.
    fn wait(&self) -> Wait {
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
    fn to_next_sync(&self) -> Option<Duration> {
        let since = self.unsynced?;
        if self.options.durability != Durability::Interval {
            return None;
        }
        let age = (self.options.clock)().saturating_sub(since);
        Some(self.options.interval.saturating_sub(age))
    }

    /// Bytes of pages that records need, about.
    fn used_bytes(&self) -> u64 {
        let Loaded { index, log, .. } = &self.loaded;
        index.page_bytes() + index.session_count() * SESSION_SHARE + log.bytes()
    }

    /// Makes the file short again after a drain. The engine cuts off what is free at the end by itself, but few pages in use
    /// there are enough to stop it. Only when so little is in use that moving it takes no time.
    fn shorten(&mut self) -> Result<(), StoreError> {
        let used = self.used_bytes();
        let allocated = self.engine.backend.allocated_bytes();
        let is_worth_it = allocated > self.options.reserve_bytes.saturating_add(used * 4)
            && allocated > self.shortened_to.saturating_mul(2);
        if used > SHORTEN_BYTES_MAX || !is_worth_it {
            return Ok(());
        }
        while self.engine.compact()? {}
        self.shortened_to = self.engine.backend.allocated_bytes();
        Ok(())
    }

    fn room(&self) -> Space {
        let used = self.used_bytes();
        let bounds = Bounds {
            reserve_bytes: self.options.reserve_bytes,
            store_bytes_max: self.options.store_bytes_max,
        };
        self.engine.backend.room(&bounds, used)
    }

    /// Takes note of a failed write. The index holds what the file does not; after a full disk it is read again.
    fn failed(&mut self, error: StoreError) -> StoreError {
        self.condition = if matches!(error, StoreError::Full) {
            Condition::ToReopen
        } else {
            Condition::Broken
        };
        self.engine.backend.latch();
        error
    }

    /// Opens the engine anew after a full disk.
    fn ensure_open(&mut self) -> Result<(), StoreError> {
        match self.condition {
            Condition::Well => return Ok(()),
            Condition::ToReopen => {}
            Condition::Broken => return Err(StoreError::Io(broken("the store has failed before"))),
            Condition::Closed => return Err(StoreError::Io(broken("the store is closed"))),
        }
        self.written_before += self.engine.backend.written_bytes();
        let reopened =
            open_engine(&self.disk, &self.options).and_then(|engine| Ok((load(&engine)?, engine)));
        match reopened {
            Ok((loaded, engine)) => {
                self.engine = engine;
                self.loaded = loaded;
                self.unsynced = None;
                self.condition = Condition::Well;
                Ok(())
            }
            Err(OpenError::Store(StoreError::Full)) => Err(StoreError::Full),
            Err(error) => {
                self.condition = Condition::Broken;
                Err(if let OpenError::Store(error) = error {
                    error
                } else {
                    StoreError::Corrupt("it cannot be opened again")
                })
            }
        }
    }
}

impl Store for RedbStore {
    fn recover(&mut self, each: &mut dyn FnMut(Recovered)) -> Result<(), StoreError> {
        self.ensure_open()?;
        let mut recovery = Recovery {
            loaded: &self.loaded,
            losses: self.loaded.losses.clone(),
            unreadable: Vec::new(),
            each,
        };
        self.engine.read(|transaction| recovery.run(transaction))?;
        for loss in recovery.losses.iter() {
            (recovery.each)(Recovered::Lost(loss));
        }
        self.unreadable_count += recovery.unreadable.len() as u64;
        self.unreadable.append(&mut recovery.unreadable);
        Ok(())
    }

    fn commit(&mut self, batches: &mut Vec<StoreBatch>) -> Result<Committed, StoreError> {
        self.ensure_open()?;
        let mut group = Group::default();
        let mut seq = paloma_session::LogSeq::default();
        let mut mark = self.loaded.mark;
        for (session, message) in &self.unreadable {
            let op = JournalOp::Dequeue(*session, *message);
            group.note(&mut self.loaded.index, op);
        }
        for batch in &*batches {
            group.add(batch, &mut self.loaded.index);
            seq = batch.seq;
            mark = batch.mark;
        }
        // A group that changes nothing promises nothing: there is nothing to wait for the disk for.
        if !group.is_empty() {
            self.write(&mut group, mark)
                .map_err(|error| self.failed(error))?;
            self.unreadable.clear();
        }
        batches.clear();
        self.space = self.room();
        let space = self.space;
        Ok(Committed { seq, space })
    }

    fn read_queue(&mut self, request: &LoadRequest) -> Result<LoadedQueue, StoreError> {
        self.ensure_open()?;
        let Self {
            engine,
            loaded,
            unreadable,
            unreadable_count,
            ..
        } = self;
        let mut entries = Vec::new();
        let mut bytes = 0_u64;
        engine.read(|transaction| {
            let table = transaction.open_table(MESSAGES)?;
            let mut messages = MessageReader::new(&table);
            let session = loaded.index.session(request.session);
            let waiting = session
                .into_iter()
                .flat_map(|session| session.waiting_after(request.after));
            for entry in waiting {
                bytes += u64::from(entry.bytes);
                let is_more = bytes > u64::from(request.bytes) && !entries.is_empty();
                if is_more || entries.len() >= request.count as usize {
                    break;
                }
                match messages.read(entry.message)? {
                    Ok(message) => entries.push((entry, message)),
                    Err(Damaged) => {
                        bytes -= u64::from(entry.bytes);
                        unreadable.push((request.session, entry.message));
                        *unreadable_count += 1;
                    }
                }
            }
            Ok(())
        })?;
        Ok(LoadedQueue {
            session: request.session,
            entries,
        })
    }

    fn rest(&mut self) -> Result<Rested, StoreError> {
        self.ensure_open()?;
        if self.to_next_sync() == Some(Duration::ZERO) {
            self.engine
                .write(Wait::Synced, |_| Ok(()))
                .map_err(|error| self.failed(error))?;
            self.unsynced = None;
        }
        if self.options.durability != Durability::None {
            self.shorten().map_err(|error| self.failed(error))?;
        }
        self.space = self.room();
        let space = self.space;
        let again_after = match space {
            Space::Full => Some(LOOK_AGAIN),
            Space::Free => None,
        };
        Ok(Rested {
            space,
            again_after: self.to_next_sync().or(again_after),
        })
    }

    fn close(&mut self) -> Result<(), StoreError> {
        self.ensure_open()?;
        self.engine.backend.sync_from_here_on();
        self.condition = Condition::Closed;
        self.engine.close()
    }

    fn usage(&self) -> StoreUsage {
        let backend = &self.engine.backend;
        StoreUsage {
            messages: self.loaded.index.message_count(),
            entries: self.loaded.index.entry_count(),
            file_bytes: backend.file_bytes(),
            written_bytes: self.written_before + backend.written_bytes(),
            unreadable: self.unreadable_count,
        }
    }

    fn memory_bytes(&self) -> u64 {
        self.loaded.index.memory_bytes() + self.loaded.log.memory_bytes()
    }
}

impl Drop for RedbStore {
    fn drop(&mut self) {
        // What was not closed ends as a killed process would: the file says what it said last.
        if self.condition != Condition::Closed {
            self.engine.backend.latch();
        }
    }
}

fn open_engine(disk: &Arc<dyn Disk>, options: &Options) -> Result<Engine, OpenError> {
    let syncs = options.durability != Durability::Os;
    Ok(Engine::open(Arc::clone(disk), syncs, options.cache_bytes)?)
}

fn broken(why: &'static str) -> std::io::Error {
    std::io::Error::other(why)
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

/// Gives back what a store holds.
struct Recovery<'a> {
    loaded: &'a Loaded,
    losses: Losses,
    unreadable: Vec<(SessionId, MessageId)>,
    each: &'a mut dyn FnMut(Recovered),
}

impl Recovery<'_> {
    fn run(&mut self, transaction: &ReadTransaction) -> Result<(), redb::Error> {
        (self.each)(Recovered::Mark(self.loaded.mark));
        let messages = transaction.open_table(MESSAGES)?;
        self.sessions(transaction, &messages)?;
        self.retained(transaction, &messages)?;
        for (id, row) in &self.loaded.index.fan_outs {
            match read_message(&messages, *id)? {
                Ok(message) => {
                    (self.each)(Recovered::FanOut(row.record.clone(), message, row.after));
                }
                Err(Damaged) => self.losses.add(FAN_OUTS_LOST, 1),
            }
        }
        Ok(())
    }

    fn sessions(
        &mut self,
        transaction: &ReadTransaction,
        messages: &MessageTable,
    ) -> Result<(), redb::Error> {
        let sessions = transaction.open_table(SESSIONS)?;
        let wills = transaction.open_table(WILLS)?;
        let subscriptions = transaction.open_table(SUBSCRIPTIONS)?;
        let (mut wills_seen, mut subscriptions_seen) = (0, 0);
        for row in sessions.range::<u64>(..)? {
            let (id, record) = row?;
            let id = SessionId(id.value());
            let key = id.0.to_be_bytes();
            let Ok(session) = open(Kind::Session, &key, record.value()).and_then(rows::session)
            else {
                // It was counted when the store was opened.
                continue;
            };
            (self.each)(Recovered::Session(id, session));
            let will = wills.get(id.0)?;
            if let Some(Ok(will)) =
                will.map(|record| open(Kind::Will, &key, record.value()).and_then(rows::will))
            {
                (self.each)(Recovered::Will(id, will));
                wills_seen += 1;
            }
            let until = id.0.saturating_add(1);
            for row in subscriptions.range((id.0, "")..(until, ""))? {
                let (key, record) = row?;
                let filter = key.value().1;
                let subscription = open(
                    Kind::Subscription,
                    &subscription_key(id.0, filter),
                    record.value(),
                )
                .and_then(|body| rows::subscription(filter, body));
                if let Ok(subscription) = subscription {
                    (self.each)(Recovered::Subscription(id, subscription));
                    subscriptions_seen += 1;
                }
            }
            self.queue(id, messages)?;
        }
        let lost = wills.len()?.saturating_sub(wills_seen);
        self.losses.add(WILLS_LOST, lost);
        let lost = subscriptions.len()?.saturating_sub(subscriptions_seen);
        self.losses.add(SUBSCRIPTIONS_LOST, lost);
        Ok(())
    }

    fn queue(&mut self, id: SessionId, messages: &MessageTable) -> Result<(), redb::Error> {
        let Some(session) = self.loaded.index.session(id) else {
            return Ok(());
        };
        for packet in session.received() {
            (self.each)(Recovered::Received(id, *packet));
        }
        for (entry, flight) in session.flights() {
            let state = if flight.is_received {
                FlightState::Received
            } else {
                match read_message(messages, entry.message)? {
                    Ok(message) => FlightState::Assigned(message),
                    Err(Damaged) => {
                        self.losses.add(MESSAGES_LOST, 1);
                        self.unreadable.push((id, entry.message));
                        continue;
                    }
                }
            };
            let packet = flight.packet;
            let record = FlightRecord {
                packet,
                entry,
                state,
            };
            (self.each)(Recovered::Flight(id, record));
        }
        if let Some(summary) = session.summary() {
            (self.each)(Recovered::Queue(id, summary));
        }
        Ok(())
    }

    fn retained(
        &mut self,
        transaction: &ReadTransaction,
        messages: &MessageTable,
    ) -> Result<(), redb::Error> {
        let table = transaction.open_table(RETAINED)?;
        for id in self.loaded.index.retained.values() {
            let key = id.0.to_be_bytes();
            let record = table.get(id.0)?;
            let row = record.ok_or(Damaged).and_then(|record| {
                open(Kind::Retained, &key, record.value()).and_then(rows::retained)
            });
            match (row, read_message(messages, *id)?) {
                (Ok(row), Ok(message)) => (self.each)(Recovered::Retained(RetainedRecord {
                    message,
                    qos: row.qos,
                    author: row.author,
                })),
                _ => self.losses.add(RETAINED_LOST, 1),
            }
        }
        Ok(())
    }
}
