//! The store itself.

mod checkpoints;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use paloma_broker::store::{
    Committed, LoadRequest, Loaded as LoadedQueue, Loss, MessageId, Recovered, Rested, SessionId,
    Space, Store, StoreBatch, StoreError, StoreOp, StoreUsage,
};
use paloma_broker::wire::Damaged;

use crate::backend::Bounds;
use crate::background::Background;
use crate::directory::Directory;
use crate::disk::{Disk, FileDisk};
use crate::engine::{Engine, MESSAGES, Wait};
use crate::error::OpenError;
use crate::group::Group;
use crate::load::{Loaded, load, look_first, prepare};
use crate::log::{LOG_MISSING, Log};
use crate::messages::MessageReader;
use crate::ops::Sheet;
use crate::options::{Durability, Options};
use crate::recovery::Recovery;

/// How long a full store waits before it looks for room again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How long no part of a queue is read before the file is made shorter: who waits for the next part would wait for that too.
const UNREAD: Duration = Duration::from_secs(1);

/// Most bytes in use of a store whose file is made shorter while a broker runs.
const SHORTEN_BYTES_MAX: u64 = 16 << 20;

/// What a session with a few subscriptions takes.
const SESSION_SHARE: u64 = 256;

/// A durable store: the engine's file, and the log with what it has not taken over.
pub struct RedbStore {
    engine: Arc<Engine>,
    loaded: Loaded,
    /// What the log has and the engine's file has not, but for what is being taken over.
    pending: Group,
    log: Option<Log>,
    background: Background,
    options: Options,
    disk: Arc<dyn Disk>,
    condition: Condition,
    /// Entries whose messages cannot be read; they go with the next commit.
    unreadable: Vec<(SessionId, MessageId)>,
    unreadable_count: u64,
    unsynced: Option<Duration>,
    committed_at: Duration,
    /// When a part of a queue was read last.
    read_at: Option<Duration>,
    /// When the log found no space last.
    no_room_at: Option<Duration>,
    space: Space,
    /// What the file took after it was last made shorter.
    shortened_to: u64,
    /// Bytes written before the engine was opened anew.
    written_before: u64,
    sheet: Sheet,
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
    pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<Self, OpenError> {
        let directory = Directory::lock(path.as_ref())?;
        Self::open_in(directory, options)
    }

    fn open_in(directory: Directory, options: &Options) -> Result<Self, OpenError> {
        let (file, log) = (directory.file(), directory.log());
        let is_new = !directory.has_file();
        let has_log = log.exists();
        let log_disk = FileDisk::open_log(&log)?;
        if is_new && has_log {
            // It was another store's, and must not be taken for one of this.
            log_disk
                .set_len(0)
                .and_then(|()| log_disk.sync())
                .map_err(|error| OpenError::io(&log, error))?;
        }
        let disk = if is_new {
            FileDisk::create(&file)?
        } else {
            FileDisk::open_old(&file)?
        };
        // Also of files that were there: whoever made them may have been killed before this.
        let synced = directory.sync();
        synced.map_err(|error| OpenError::io(&file, error))?;
        let mut store = Self::on_disk(Arc::new(disk), Some(Arc::new(log_disk)), options)?;
        if store.log_bytes() > 0 {
            let background = Background::with_thread();
            store.background = background.map_err(|error| OpenError::io(&file, error))?;
        }
        store._directory = Some(directory);
        Ok(store)
    }

    /// Opens the store on disks of one's own, which nobody else may use. Without one for the log every commit goes to the
    /// engine. No thread takes over what the log has while commits go on: that is done when a commit would have to wait for it, or by
    /// [`take_over`](Self::take_over).
    ///
    /// # Errors
    /// A later version wrote it, or it cannot be read.
    pub fn on_disk(
        disk: Arc<dyn Disk>,
        log: Option<Arc<dyn Disk>>,
        options: &Options,
    ) -> Result<Self, OpenError> {
        look_first(&disk)?;
        let syncs = options.durability != Durability::Os;
        let mut log = log.map(|disk| Log::new(disk, syncs));
        let engine = open_engine(&disk, options)?;
        prepare(&engine)?;
        let (loaded, pending) = read_all(&engine, log.as_mut(), false)?;
        let mut store = Self {
            engine: Arc::new(engine),
            loaded,
            pending,
            log,
            background: Background::without_thread(),
            options: *options,
            disk,
            condition: Condition::Well,
            unreadable: Vec::new(),
            unreadable_count: 0,
            unsynced: None,
            committed_at: (options.clock)(),
            read_at: None,
            no_room_at: None,
            space: Space::Free,
            shortened_to: 0,
            written_before: 0,
            sheet: Sheet::default(),
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

    /// Bytes of pages that records need, about.
    fn used_bytes(&self) -> u64 {
        let Loaded { index, records, .. } = &self.loaded;
        index.page_bytes() + index.session_count() * SESSION_SHARE + records.bytes()
    }

    /// Makes the file short again after a drain. The engine cuts off what is free at the end by itself, but few pages in use
    /// there are enough to stop it.
    fn shorten(&mut self) -> Result<(), StoreError> {
        if !self.is_log_empty() {
            self.checkpoint(false)?;
        }
        while self.engine_alone()?.compact()? {}
        self.shortened_to = self.engine.backend.allocated_bytes();
        Ok(())
    }

    /// How long until the file may be made shorter; `None` if it is not worth it, or so much is in use that it would take time.
    fn to_next_shortening(&self) -> Option<Duration> {
        let used = self.used_bytes();
        let may_commit = self.options.durability != Durability::None && !self.background.is_busy();
        if used > SHORTEN_BYTES_MAX || !may_commit {
            return None;
        }
        let allocated = self.engine.backend.allocated_bytes();
        let is_worth_it = allocated > self.options.reserve_bytes.saturating_add(used * 4)
            && allocated > self.shortened_to.saturating_mul(2);
        let unread = |at| UNREAD.saturating_sub((self.options.clock)().saturating_sub(at));
        is_worth_it.then(|| self.read_at.map_or(Duration::ZERO, unread))
    }

    fn room(&self) -> Space {
        let used = self.used_bytes();
        let bounds = Bounds {
            reserve_bytes: self.options.reserve_bytes,
            store_bytes_max: self.options.store_bytes_max,
        };
        let coming = self.pending.message_bytes() + self.background.message_bytes();
        self.engine.backend.room(&bounds, used, coming)
    }

    fn read_part(&mut self, request: &LoadRequest) -> Result<LoadedQueue, StoreError> {
        let Self {
            engine,
            loaded,
            pending,
            background,
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
                let message = pending.message(entry.message);
                let read = match message.or_else(|| background.message(entry.message)) {
                    Some(message) => Ok(message.clone()),
                    None => messages.read(entry.message)?,
                };
                match read {
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

    /// Takes note of a failed write. The index holds what the file does not; after a full disk it is read again.
    fn failed(&mut self, error: StoreError) -> StoreError {
        self.condition = if matches!(error, StoreError::Full) {
            self.space = Space::Full;
            Condition::ToReopen
        } else {
            Condition::Broken
        };
        self.engine.backend.latch();
        error
    }

    /// Takes note of a checkpoint that may have failed. Behind one that met a full disk things go on, once the engine is open again.
    fn failed_or_full(&mut self, outcome: Result<(), StoreError>) -> Result<(), StoreError> {
        match outcome.map_err(|error| self.failed(error)) {
            Err(StoreError::Full) => Ok(()),
            outcome => outcome,
        }
    }

    /// The engine, of which no checkpoint makes use.
    fn engine_alone(&mut self) -> Result<&mut Engine, StoreError> {
        let alone = Arc::get_mut(&mut self.engine);
        alone.ok_or_else(|| StoreError::Io(broken("a checkpoint is under way")))
    }

    /// Takes note of a checkpoint that is over, and opens the engine anew after a full disk.
    fn ensure_open(&mut self) -> Result<(), StoreError> {
        match self.condition {
            Condition::Well => {
                let outcome = self.note_checkpoint();
                if outcome.is_ok() {
                    return Ok(());
                }
                self.failed_or_full(outcome)?;
            }
            Condition::ToReopen => {}
            Condition::Broken => return Err(StoreError::Io(broken("the store has failed before"))),
            Condition::Closed => return Err(StoreError::Io(broken("the store is closed"))),
        }
        self.written_before += self.engine.backend.written_bytes();
        let log = self.log.as_mut();
        let reopened = open_engine(&self.disk, &self.options)
            .and_then(|engine| Ok((read_all(&engine, log, true)?, engine)));
        match reopened {
            Ok(((loaded, pending), engine)) => {
                self.engine = Arc::new(engine);
                self.loaded = loaded;
                self.pending = pending;
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
        if !self.is_log_empty() {
            self.checkpoint(false).map_err(|error| self.failed(error))?;
        }
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
        self.make_room().map_err(|error| self.failed(error))?;
        let seq = batches.last().map(|batch| batch.seq).unwrap_or_default();
        let mark = batches.last().map_or(self.loaded.mark, |batch| batch.mark);
        self.begin_sheet(&mark);
        let dequeue = |(session, message): &_| StoreOp::Dequeue(*session, *message);
        let unreadable: Vec<StoreOp> = self.unreadable.iter().map(dequeue).collect();
        let of_batches = batches.iter().map(|batch| batch.ops.as_slice());
        let mut is_changed = false;
        for ops in [unreadable.as_slice()].into_iter().chain(of_batches) {
            let index = &mut self.loaded.index;
            is_changed |= self.pending.add(ops, index, &mut self.sheet);
        }
        // A group that changes nothing promises nothing: there is nothing to wait for the disk for.
        if is_changed {
            self.keep(mark).map_err(|error| self.failed(error))?;
            self.unreadable.clear();
        }
        batches.clear();
        self.space = self.room();
        let space = self.space;
        Ok(Committed { seq, space })
    }

    fn read_queue(&mut self, request: &LoadRequest) -> Result<LoadedQueue, StoreError> {
        self.ensure_open()?;
        self.read_at = Some((self.options.clock)());
        match self.read_part(request) {
            // Not this, but the checkpoint that is under way has met a full disk.
            Err(StoreError::Full) => {
                let outcome = self.wait_for_checkpoint();
                self.failed_or_full(outcome)?;
                self.ensure_open()?;
                self.read_part(request)
            }
            outcome => outcome,
        }
    }

    fn rest(&mut self) -> Result<Rested, StoreError> {
        self.ensure_open()?;
        if self.to_next_sync() == Some(Duration::ZERO) {
            self.engine
                .write(Wait::Synced, |_| Ok(()))
                .map_err(|error| self.failed(error))?;
            self.unsynced = None;
        }
        if self.to_next_checkpoint() == Some(Duration::ZERO) {
            self.begin_checkpoint()
                .map_err(|error| self.failed(error))?;
        }
        // Who has no thread for it has the time.
        if self.is_at_rest() && self.background.drive() {
            self.ensure_open()?;
        }
        let mut shorten_after = self.to_next_shortening();
        if shorten_after == Some(Duration::ZERO) {
            self.shorten().map_err(|error| self.failed(error))?;
            shorten_after = None;
        }
        self.space = self.room();
        let space = self.space;
        let again_after = match space {
            Space::Full => Some(LOOK_AGAIN),
            Space::Free => {
                let checkpoint = self.to_next_checkpoint().into_iter();
                checkpoint.chain(shorten_after).min()
            }
        };
        Ok(Rested {
            space,
            again_after: self.to_next_sync().or(again_after),
        })
    }

    fn close(&mut self) -> Result<(), StoreError> {
        self.ensure_open()?;
        self.engine.backend.sync_from_here_on();
        if self.loaded.log.is_used() {
            self.checkpoint(true).map_err(|error| self.failed(error))?;
        }
        if let Some(log) = &mut self.log {
            log.close().map_err(StoreError::Io)?;
        }
        self.condition = Condition::Closed;
        self.engine_alone()?.close()
    }

    fn usage(&self) -> StoreUsage {
        let backend = &self.engine.backend;
        let log = self.log.as_ref();
        let log_bytes = log.map_or(0, Log::allocated_bytes);
        let log_written = log.map_or(0, Log::written_bytes);
        StoreUsage {
            messages: self.loaded.index.message_count(),
            entries: self.loaded.index.entry_count(),
            file_bytes: backend.file_bytes() + log_bytes,
            written_bytes: self.written_before + backend.written_bytes() + log_written,
            unreadable: self.unreadable_count,
        }
    }

    fn memory_bytes(&self) -> u64 {
        let Loaded { index, records, .. } = &self.loaded;
        let messages = self.pending.message_bytes() + self.background.message_bytes();
        index.memory_bytes() + records.memory_bytes() + messages
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

/// Everything that is committed: what the engine's file says, and what the log says beside it.
fn read_all(
    engine: &Engine,
    log: Option<&mut Log>,
    is_again: bool,
) -> Result<(Loaded, Group), OpenError> {
    let mut loaded = load(engine)?;
    let mut pending = Group::beside(&loaded.index);
    match log {
        Some(log) => {
            let base = loaded.records.newest();
            let contents = log.read(&loaded.log, base, is_again)?;
            loaded.replay_log(&contents, &mut pending);
        }
        None if loaded.log.is_used() => return Err(StoreError::Corrupt(LOG_MISSING).into()),
        None => {}
    }
    Ok((loaded, pending))
}

fn open_engine(disk: &Arc<dyn Disk>, options: &Options) -> Result<Engine, OpenError> {
    let syncs = options.durability != Durability::Os;
    Ok(Engine::open(Arc::clone(disk), syncs, options.cache_bytes)?)
}

fn broken(why: &'static str) -> std::io::Error {
    std::io::Error::other(why)
}
