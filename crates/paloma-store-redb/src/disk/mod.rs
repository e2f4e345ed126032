//! What the engine's file and the log are kept on: real files, or a simulated disk.

mod file;
mod image;
mod random;
pub mod sim;

use std::{fmt, io};

pub use file::FileDisk;

/// One file that grows, is written at any place and is synced.
///
/// Errors are latched by the store: after the first it uses the disk no more, unless that is full.
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Length of the file in bytes.
    ///
    /// # Errors
    /// The device fails.
    fn len(&self) -> io::Result<u64>;

    /// Whether nothing was ever written.
    ///
    /// # Errors
    /// The device fails.
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }

    /// Fills `out` from `offset` on.
    ///
    /// # Errors
    /// The device fails, or the file ends before `out` is full.
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;

    /// Writes all of `data` at `offset`.
    ///
    /// # Errors
    /// The device fails or is full; what was written then is unknown.
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Cuts or extends the file; what is new is zero. Extending takes no space.
    ///
    /// # Errors
    /// The device fails.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Returns once all that was written survives a power cut.
    ///
    /// # Errors
    /// The device fails. What was written before may be lost, and a second call will not bring it back.
    fn sync(&self) -> io::Result<()>;

    /// Bytes of space that the file takes; holes take none.
    ///
    /// # Errors
    /// The device fails.
    fn allocated(&self) -> io::Result<u64>;

    /// Bytes of space that are held in reserve beside the file.
    ///
    /// # Errors
    /// The device fails.
    fn reserved(&self) -> io::Result<u64>;

    /// Holds exactly so many bytes in reserve. Fewer than before gives the difference back, so that writes find it.
    ///
    /// # Errors
    /// [`StorageFull`](io::ErrorKind::StorageFull) if there are not so many, and what was held still is;
    /// [`Unsupported`](io::ErrorKind::Unsupported) if the device cannot hold any.
    fn reserve(&self, bytes: u64) -> io::Result<()>;
}
