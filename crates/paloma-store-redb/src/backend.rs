//! The engine's storage: a [`Disk`] with a reserve, a switch for syncs, and a memory of what went wrong.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use paloma_broker::store::Space;
use redb::StorageBackend;

use crate::disk::Disk;

/// Space is taken in steps of this, where there is so much.
const STEP: u64 = 4 << 20;

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
    state: Mutex<State>,
    written: AtomicU64,
}

/// Everything below `allocated` has its space; beyond it is taken before it is written.
#[derive(Debug)]
struct State {
    /// What the engine takes for the file's length; most of it may be a hole.
    len: u64,
    /// The end of what was ever written, or may have been.
    end: u64,
    allocated: u64,
    /// The device promises space.
    can_allocate: bool,
    failure: Option<Failure>,
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
        let len = disk.len()?;
        Ok(Self(Arc::new(Inner {
            disk,
            syncs: AtomicBool::new(syncs),
            state: Mutex::new(State {
                len,
                end: len,
                allocated: 0,
                can_allocate: true,
                failure: None,
            }),
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

    /// Bytes written.
    pub(crate) fn written_bytes(&self) -> u64 {
        self.0.written.load(Ordering::Relaxed)
    }

    /// Bytes that the file takes, its reserve included.
    pub(crate) fn file_bytes(&self) -> u64 {
        let state = self.state();
        state.end.max(state.allocated)
    }

    /// Keeps the reserve whole, and says whether there is room. `used_bytes` is what records need; the engine puts new ones
    /// where old ones were, so that a drained store has room without its file becoming any shorter.
    pub(crate) fn room(&self, bounds: &Bounds, used_bytes: u64) -> Space {
        let mut state = self.state();
        if state.failure.is_some() {
            return Space::Full;
        }
        // Pages are two thirds full at worst, on average.
        let used_bytes = used_bytes.saturating_add(used_bytes / 2);
        let inside = state.end.saturating_sub(used_bytes);
        if state.end - inside >= bounds.store_bytes_max {
            return Space::Full;
        }
        let wanted = state.end.saturating_add(bounds.reserve_bytes);
        if state.allocated < wanted {
            let outcome = self
                .allocate(&mut state, wanted.saturating_add(STEP))
                .or_else(|_| self.allocate(&mut state, wanted));
            if outcome.is_err() {
                let ready = state.allocated.saturating_sub(state.end);
                if ready.saturating_add(inside) < bounds.reserve_bytes {
                    return Space::Full;
                }
            }
        }
        Space::Free
    }

    fn allocate(&self, state: &mut State, end: u64) -> io::Result<()> {
        if !state.can_allocate {
            return Ok(());
        }
        match self.0.disk.allocate(end) {
            Ok(()) => state.allocated = state.allocated.max(end),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => state.can_allocate = false,
            Err(error) => return Err(error),
        }
        Ok(())
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

fn is_full(kind: io::ErrorKind) -> bool {
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
        self.watched(|disk| disk.set_len(len))?;
        let mut state = self.state();
        // A file that is cut loses what was taken beyond its end as well.
        if len < state.len {
            state.end = state.end.min(len);
            state.allocated = state.allocated.min(len);
        }
        state.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        if !self.0.syncs.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.watched(|disk| disk.sync())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = offset.saturating_add(data.len() as u64);
        self.watched(|disk| {
            let mut state = self.state();
            if end > state.allocated {
                self.allocate(&mut state, end.saturating_add(STEP))
                    .or_else(|_| self.allocate(&mut state, end))?;
            }
            state.end = state.end.max(end);
            drop(state);
            disk.write(offset, data)
        })?;
        self.0
            .written
            .fetch_add(data.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}
