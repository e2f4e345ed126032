//! The engine's storage: a [`Disk`] with a reserve, a switch for syncs, and a memory of what went wrong.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use paloma_broker::store::Space;
use paloma_topic::Fault;
use redb::StorageBackend;

use crate::disk::Disk;

/// The reserve is given back in steps of this.
const STEP: u64 = 1 << 20;

/// What is written at leisure is synced in pieces of this: a sync of the log that comes meanwhile waits for one of them.
const PIECE: u64 = 128 << 10;

/// What a database needs that holds nothing.
const UNCOUNTED: u64 = 256 << 10;

/// What failed first; nothing works after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The medium is full, reserve and all.
    Full,
    /// It fails.
    Io(io::ErrorKind),
}

/// A handle; the engine holds another.
#[derive(Clone, Debug)]
pub(crate) struct Backend(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    disk: Arc<dyn Disk>,
    /// Whether a sync reaches the disk.
    syncs: AtomicBool,
    /// Whether it is synced in pieces, and what was written since the last one.
    has_leisure: AtomicBool,
    unsynced: AtomicU64,
    state: Mutex<State>,
    written: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    failure: Option<Failure>,
    /// Bytes held in reserve.
    reserved: u64,
    /// The device cannot hold any.
    is_without_reserve: bool,
}

/// How full the store may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Space to keep ready.
    pub(crate) reserve_bytes: u64,
    /// Most bytes in use.
    pub(crate) store_bytes_max: u64,
}

impl Backend {
    /// Takes over a disk as the last process left it.
    pub(crate) fn new(disk: Arc<dyn Disk>, syncs: bool) -> io::Result<Self> {
        let state = State {
            reserved: disk.reserved()?,
            ..State::default()
        };
        Ok(Self(Arc::new(Inner {
            disk,
            syncs: AtomicBool::new(syncs),
            has_leisure: AtomicBool::new(false),
            unsynced: AtomicU64::new(0),
            state: Mutex::new(state),
            written: AtomicU64::new(0),
        })))
    }

    pub(crate) fn failure(&self) -> Option<Failure> {
        self.state().failure
    }

    /// Has everything fail from here on: what is in memory must not reach the disk.
    pub(crate) fn latch(&self) {
        let failure = Failure::Io(io::ErrorKind::Other);
        self.state().failure.get_or_insert(failure);
    }

    /// Has syncs reach the disk, whatever the level.
    pub(crate) fn sync_from_here_on(&self) {
        self.0.syncs.store(true, Ordering::Relaxed);
    }

    /// Whether others need the disk while this writes: it takes longer then, and they wait less.
    pub(crate) fn set_leisure(&self, has_leisure: bool) {
        self.0.has_leisure.store(has_leisure, Ordering::Relaxed);
    }

    /// Bytes written.
    pub(crate) fn written_bytes(&self) -> u64 {
        self.0.written.load(Ordering::Relaxed)
    }

    /// Bytes that the file takes.
    pub(crate) fn allocated_bytes(&self) -> u64 {
        self.0.disk.allocated().unwrap_or_default()
    }

    /// Bytes that the file and its reserve take.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.allocated_bytes().saturating_add(self.state().reserved)
    }

    /// Keeps the reserve whole, and says whether there is room. `used_bytes` is what records need: the engine puts new ones
    /// where old ones were, so that a drained store has room without its file becoming any shorter. `coming_bytes` of that are not in
    /// the file yet.
    pub(crate) fn room(&self, bounds: &Bounds, used_bytes: u64, coming_bytes: u64) -> Space {
        let mut state = self.state();
        let Ok(allocated) = self.0.disk.allocated() else {
            return Space::Full;
        };
        let allocated = allocated.saturating_add(coming_bytes);
        // Pages that lost some of their records are not full, branches are not counted, and a commit needs new pages before
        // it frees old ones.
        let used_bytes = used_bytes.saturating_add(used_bytes / 4 + UNCOUNTED);
        let inside = allocated.saturating_sub(used_bytes);
        if state.failure.is_some() || allocated - inside >= bounds.store_bytes_max {
            return Space::Full;
        }
        if state.reserved < bounds.reserve_bytes && !state.is_without_reserve {
            match self.0.disk.reserve(bounds.reserve_bytes) {
                Ok(()) => state.reserved = bounds.reserve_bytes,
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                    state.is_without_reserve = true;
                }
                Err(_) if state.reserved.saturating_add(inside) < bounds.reserve_bytes => {
                    return Space::Full;
                }
                Err(_) => {}
            }
        }
        Space::Free
    }

    /// Writes, with what the reserve gives back if there is no other space.
    fn write_somehow(&self, disk: &dyn Disk, offset: u64, data: &[u8]) -> io::Result<()> {
        loop {
            let error = match disk.write(offset, data) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let mut state = self.state();
            if !is_full(error.kind()) || state.reserved == 0 {
                return Err(error);
            }
            let step = STEP.max(data.len() as u64);
            state.reserved = state.reserved.saturating_sub(step);
            disk.reserve(state.reserved)?;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses after a failure, and remembers one.
    fn watched<T>(&self, work: impl FnOnce(&dyn Disk) -> io::Result<T>) -> io::Result<T> {
        if self.failure().is_some() {
            return Err(io::Error::other("the store has failed before"));
        }
        let outcome = work(&*self.0.disk);
        if let Err(error) = &outcome {
            let kind = error.kind();
            let failure = if is_full(kind) {
                Some(Failure::Full)
            } else if kind == io::ErrorKind::UnexpectedEof {
                // The file is shorter than it says: that is damage, not a failing device.
                None
            } else {
                Some(Failure::Io(kind))
            };
            let mut state = self.state();
            state.failure = state.failure.or(failure);
        }
        outcome
    }
}

pub(crate) fn is_full(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.watched(|disk| disk.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.watched(|disk| disk.read(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.watched(|disk| disk.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        if !self.0.syncs.load(Ordering::Relaxed) || Fault::SyncSkipped.is_on() {
            return Ok(());
        }
        self.0.unsynced.store(0, Ordering::Relaxed);
        self.watched(|disk| disk.sync())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.watched(|disk| self.write_somehow(disk, offset, data))?;
        let len = data.len() as u64;
        self.0.written.fetch_add(len, Ordering::Relaxed);
        let unsynced = self.0.unsynced.fetch_add(len, Ordering::Relaxed) + len;
        if unsynced >= PIECE && self.0.has_leisure.load(Ordering::Relaxed) {
            // More than the engine asks for, which relies on nothing that is not synced.
            self.sync_data()?;
        }
        Ok(())
    }
}
