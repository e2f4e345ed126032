//! The directory of a store, which one process at a time may use.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::OpenError;

const FILE: &str = "paloma.redb";
const LOG: &str = "paloma.log";
const LOCK: &str = "lock";

/// Holds the lock for as long as it lives.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Makes the directory, with mode 0700, if there is none, and locks it.
    pub(crate) fn lock(path: &Path) -> Result<Self, OpenError> {
        let made: Vec<&Path> = path
            .ancestors()
            .take_while(|path| !path.as_os_str().is_empty() && !path.exists())
            .collect();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|error| OpenError::io(path, error))?;
        for path in made {
            // A power cut must not take the directory itself.
            sync_parent(path).map_err(|error| OpenError::io(path, error))?;
        }
        Self::lock_existing(path)
    }

    /// Locks a directory that has a store.
    pub(crate) fn lock_store(path: &Path) -> Result<Self, OpenError> {
        if !path.join(FILE).exists() {
            return Err(OpenError::Missing(path.to_owned()));
        }
        Self::lock_existing(path)
    }

    fn lock_existing(path: &Path) -> Result<Self, OpenError> {
        let lock_path = path.join(LOCK);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(|error| OpenError::io(&lock_path, error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // The number is for the message only.
                let _ = (&lock).take(20).read_to_string(&mut holder);
                return Err(OpenError::InUse {
                    path: path.to_owned(),
                    process: holder.trim().parse().ok(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(OpenError::io(&lock_path, error)),
        }
        write_holder(&mut lock).map_err(|error| OpenError::io(&lock_path, error))?;
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// The engine's file.
    pub(crate) fn file(&self) -> PathBuf {
        self.path.join(FILE)
    }

    /// Whether there is one.
    pub(crate) fn has_file(&self) -> bool {
        self.file().exists()
    }

    /// The log beside it.
    pub(crate) fn log(&self) -> PathBuf {
        self.path.join(LOG)
    }

    /// Has the names in the directory survive a power cut.
    pub(crate) fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    /// Another name in the directory, which nothing has yet.
    pub(crate) fn free_name(&self, suffix: &str) -> PathBuf {
        let mut number = 1_u32;
        loop {
            let path = self.path.join(format!("{FILE}.{suffix}-{number}"));
            if !path.exists() {
                return path;
            }
            number = number.saturating_add(1);
        }
    }
}

/// Has the name of a file or a directory survive a power cut.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

fn write_holder(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())
}
