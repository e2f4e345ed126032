//! A file of the operating system.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use paloma_broker::store::StoreError;

use super::Disk;
use crate::error::OpenError;

/// A file, readable by its owner only, and another beside it that holds the reserve, if it is to have one.
#[derive(Debug)]
pub struct FileDisk {
    file: File,
    reserve: Option<File>,
}

impl FileDisk {
    /// Opens the file and its reserve, whose name ends in `.reserve`, or makes them with mode 0600.
    ///
    /// # Errors
    /// One of them cannot be opened for reading and writing.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut reserve = path.as_os_str().to_owned();
        reserve.push(".reserve");
        Ok(Self {
            file: open_private(path)?,
            reserve: Some(open_private(Path::new(&reserve))?),
        })
    }

    /// Opens the file of a log, which has no reserve, or makes it.
    ///
    /// # Errors
    /// It cannot be opened for reading and writing.
    pub(crate) fn open_log(path: &Path) -> Result<Self, OpenError> {
        let file = open_private(path).map_err(|error| OpenError::io(path, error))?;
        Ok(Self {
            file,
            reserve: None,
        })
    }

    /// Opens the file of a store that is there already. The reserve is held once everything else of a new store is on the
    /// disk, so that an empty file beside one has lost what it held.
    ///
    /// # Errors
    /// As [`open`](Self::open), or the file is empty.
    pub(crate) fn open_old(path: &Path) -> Result<Self, OpenError> {
        let at = |error| OpenError::io(path, error);
        let disk = Self::open(path).map_err(at)?;
        if disk.len().map_err(at)? == 0 && disk.reserved().map_err(at)? > 0 {
            return Err(StoreError::Corrupt("its file is empty").into());
        }
        Ok(disk)
    }

    /// Makes the file of a new store, beside whose name the reserve of another may lie.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) fn create(path: &Path) -> Result<Self, OpenError> {
        let at = |error| OpenError::io(path, error);
        let disk = Self::open(path).map_err(at)?;
        disk.reserve(0).map_err(at)?;
        Ok(disk)
    }
}

impl Disk for FileDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(look(&self.file)?.len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn allocated(&self) -> io::Result<u64> {
        Ok(look(&self.file)?.allocated)
    }

    fn reserved(&self) -> io::Result<u64> {
        let reserve = self.reserve.as_ref();
        reserve.map_or(Ok(0), |reserve| Ok(look(reserve)?.len))
    }

    /// Where the system or the file system cannot do it, nothing is held.
    fn reserve(&self, bytes: u64) -> io::Result<()> {
        let Some(reserve) = &self.reserve else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let held = self.reserved()?;
        if bytes <= held {
            return reserve.set_len(bytes);
        }
        allocate(reserve, bytes).inspect_err(|_| {
            // It may have got a part.
            let _ = reserve.set_len(held);
        })
    }
}

/// How large a file is, in bytes.
struct Size {
    len: u64,
    allocated: u64,
}

/// Looks how large a file is, and at nothing else. Linux writes a time of change that somebody has seen down anew with the next
/// write, so that asking for it makes each sync of the log wait for the file system's journal as well (ADR 27).
#[cfg(any(target_os = "linux", target_os = "android"))]
fn look(file: &File) -> io::Result<Size> {
    use rustix::fs::{AtFlags, StatxFlags, statx};
    use rustix::io::Errno;

    match statx(
        file,
        "",
        AtFlags::EMPTY_PATH,
        StatxFlags::SIZE | StatxFlags::BLOCKS,
    ) {
        Ok(seen) => Ok(Size {
            len: seen.stx_size,
            allocated: seen.stx_blocks.saturating_mul(BLOCK),
        }),
        // What a system of before 4.11 and some sandboxes say.
        Err(Errno::NOSYS | Errno::PERM) => look_at_all(file),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn look(file: &File) -> io::Result<Size> {
    look_at_all(file)
}

fn look_at_all(file: &File) -> io::Result<Size> {
    let seen = file.metadata()?;
    Ok(Size {
        len: seen.len(),
        allocated: seen.blocks().saturating_mul(BLOCK),
    })
}

/// What systems count the space of a file in.
const BLOCK: u64 = 512;

fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;

    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Err(io::ErrorKind::Unsupported.into()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn allocate(_file: &File, _bytes: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_as_large_as_the_system_says() {
        let name = format!("paloma-file-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let disk = FileDisk::open_log(&path).expect("a file can be made");
        let hole = 1 << 30;
        let written = disk.write(0, &[7; 9_000]).and_then(|()| disk.sync());
        written.and_then(|()| disk.set_len(hole)).expect("it works");
        let (seen, all) = (look(&disk.file), look_at_all(&disk.file));
        std::fs::remove_file(&path).expect("it is ours");
        let (seen, all) = (seen.expect("it works"), all.expect("it works"));
        assert_eq!((seen.len, seen.allocated), (all.len, all.allocated));
        assert_eq!(seen.len, hole);
        assert!((9_000..hole).contains(&seen.allocated), "a hole takes none");
    }
}
