//! redb, with its errors and panics turned into ours.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use paloma_broker::store::StoreError;
use redb::{
    Builder, Database, ReadTransaction, ReadableDatabase, TableDefinition, WriteTransaction,
};

use crate::backend::{Backend, Failure};
use crate::disk::Disk;

pub(crate) type Rows = TableDefinition<'static, u64, &'static [u8]>;

pub(crate) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(crate) const MESSAGES: Rows = TableDefinition::new("messages");
pub(crate) const JOURNAL: Rows = TableDefinition::new("journal");
pub(crate) const SESSIONS: Rows = TableDefinition::new("sessions");
pub(crate) const WILLS: Rows = TableDefinition::new("wills");
pub(crate) const RETAINED: Rows = TableDefinition::new("retained");
pub(crate) const FAN_OUTS: Rows = TableDefinition::new("fan_outs");
pub(crate) const SUBSCRIPTIONS: TableDefinition<'_, (u64, &str), &[u8]> =
    TableDefinition::new("subscriptions");

/// The tables of rows by number, [`SUBSCRIPTIONS`] apart.
pub(crate) const NUMBERED: [Rows; 6] = [MESSAGES, JOURNAL, SESSIONS, WILLS, RETAINED, FAN_OUTS];

/// Of the engine's file.
const MAGIC_LEN: usize = 9;
const HEADER_LEN: usize = 4_096;
/// More than a new database has.
const UNBORN_BYTES_MAX: u64 = 8 << 20;
/// Enough for a look at one row.
const PEEK_CACHE_BYTES: usize = 256 << 10;

/// The database. Its file may be damaged in ways that make it panic, so every use is behind [`guarded`].
#[derive(Debug)]
pub(crate) struct Engine {
    /// Gone once it is closed.
    database: Option<Database>,
    pub(crate) backend: Backend,
}

/// Whether a commit waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    Synced,
    /// It is part of the next one that does.
    No,
}

impl Engine {
    /// Opens what is on the disk, or makes a new database on an empty one.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        syncs: bool,
        cache_bytes: usize,
    ) -> Result<Self, StoreError> {
        if is_unborn(&*disk).map_err(StoreError::Io)? {
            disk.set_len(0).map_err(StoreError::Io)?;
        }
        let backend = Backend::new(disk, syncs).map_err(StoreError::Io)?;
        let handle = backend.clone();
        let database = guarded(&backend, move || {
            let mut builder = Builder::new();
            builder.set_cache_size(cache_bytes);
            Ok(builder.create_with_backend(handle)?)
        })?;
        Ok(Self {
            database: Some(database),
            backend,
        })
    }

    /// Runs `work` over what is on the disk and writes nothing. `None` if there is nothing, or it cannot be read as it is:
    /// after a kill the engine mends its file first.
    pub(crate) fn peek<T>(
        disk: &Arc<dyn Disk>,
        work: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<Option<T>, StoreError> {
        if disk.len().map_err(StoreError::Io)? == 0 {
            return Ok(None);
        }
        let backend = Backend::new(Arc::clone(disk), false).map_err(StoreError::Io)?;
        let handle = backend.clone();
        let peeked = guarded(&backend, move || {
            let mut builder = Builder::new();
            builder.set_cache_size(PEEK_CACHE_BYTES);
            let database = builder.open_read_only_with_backend(handle)?;
            work(&database.begin_read()?)
        });
        match peeked {
            Ok(seen) => Ok(Some(seen)),
            Err(StoreError::Io(error)) => Err(StoreError::Io(error)),
            Err(_) => Ok(None),
        }
    }

    /// Runs `work` in a transaction and commits it.
    pub(crate) fn write<T>(
        &self,
        wait: Wait,
        work: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        guarded(&self.backend, || {
            let mut transaction = self.database()?.begin_write()?;
            if wait == Wait::No {
                transaction.set_durability(redb::Durability::None)?;
            }
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        })
    }

    /// Runs `work` over what was committed last.
    pub(crate) fn read<T>(
        &self,
        work: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        guarded(&self.backend, || work(&self.database()?.begin_read()?))
    }

    /// Walks the whole file; false if it had to be mended.
    pub(crate) fn check(&mut self) -> Result<bool, StoreError> {
        let Self { database, backend } = self;
        guarded(backend, || {
            let database = database.as_mut().ok_or(redb::Error::DatabaseClosed)?;
            Ok(database.check_integrity()?)
        })
    }

    /// Moves what lies at the file's end into its gaps; false if there was nothing to gain.
    pub(crate) fn compact(&mut self) -> Result<bool, StoreError> {
        let Self { database, backend } = self;
        guarded(backend, || {
            let database = database.as_mut().ok_or(redb::Error::DatabaseClosed)?;
            Ok(database.compact()?)
        })
    }

    /// Makes everything durable and leaves the file as one that needs no repair.
    pub(crate) fn close(&mut self) -> Result<(), StoreError> {
        let database = self.database.take();
        guarded(&self.backend, || {
            if let Some(database) = database {
                database.close()?;
            }
            Ok(())
        })
    }

    fn database(&self) -> Result<&Database, redb::Error> {
        self.database.as_ref().ok_or(redb::Error::DatabaseClosed)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let database = self.database.take();
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(database)));
        if dropped.is_err() {
            self.backend.latch();
        }
    }
}

/// Whether a file was being made when its process ended. The engine writes its magic number once all else of an empty
/// database is synced, so such a file has none and nothing behind its header.
fn is_unborn(disk: &dyn Disk) -> io::Result<bool> {
    let len = disk.len()?;
    if len == 0 || len > UNBORN_BYTES_MAX {
        return Ok(false);
    }
    let mut bytes = vec![0; usize::try_from(len).unwrap_or_default()];
    disk.read(0, &mut bytes)?;
    let is_zero = |range: Option<&[u8]>| range.unwrap_or_default().iter().all(|byte| *byte == 0);
    let magic = bytes.get(..MAGIC_LEN.min(bytes.len()));
    Ok(is_zero(magic) && is_zero(bytes.get(HEADER_LEN..)))
}

/// Says what an error means, by what the disk has said.
fn guarded<T>(
    backend: &Backend,
    work: impl FnOnce() -> Result<T, redb::Error>,
) -> Result<T, StoreError> {
    let error = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(done)) => return Ok(done),
        Ok(Err(error)) => error,
        Err(_) => {
            backend.latch();
            return Err(StoreError::Corrupt("its file made the engine panic"));
        }
    };
    Err(match (backend.failure(), error) {
        (Some(Failure::Full), _) => StoreError::Full,
        (_, redb::Error::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
            StoreError::Corrupt("its file is none of the engine's")
        }
        (_, redb::Error::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            StoreError::Corrupt("its file is shorter than it says")
        }
        (_, redb::Error::Io(error)) => StoreError::Io(error),
        (Some(Failure::Io(kind)), _) => StoreError::Io(kind.into()),
        (None, redb::Error::UpgradeRequired(_)) => {
            StoreError::Corrupt("its file is of another version of the engine")
        }
        (None, redb::Error::TableDoesNotExist(_)) => {
            StoreError::Corrupt("a table of its file is missing")
        }
        (None, _) => StoreError::Corrupt("the engine's pages are damaged"),
    })
}
