//! Where what a broker takes in is recorded.

use std::path::PathBuf;

/// Where a broker's inputs are recorded, for `paloma replay`.
///
/// A record begins with the broker and is bounded: when it is full it ends, with a warning, and the broker goes on. A file that is
/// there already is kept as `FILE.old`, in place of an older one, so that a broker that is started again after a crash does
/// not write over the record of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// The file.
    pub path: PathBuf,
    /// Its bytes at most.
    pub bytes_max: u64,
    /// Payloads, passwords and authentication data are recorded too, and the seed that client ids are made from.
    pub with_secrets: bool,
}

impl Record {
    /// The most bytes that a record has unless it is told otherwise: 256 MiB.
    pub const BYTES_MAX: u64 = 256 * 1024 * 1024;

    /// A record without secrets of the usual size.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self {
            path,
            bytes_max: Self::BYTES_MAX,
            with_secrets: false,
        }
    }
}
