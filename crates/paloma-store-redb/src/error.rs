//! Why a store cannot be opened.

use std::path::{Path, PathBuf};
use std::{fmt, io};

use paloma_broker::store::StoreError;

/// Why a store cannot be opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it.
    InUse {
        /// The directory.
        path: PathBuf,
        /// The process, if it says so.
        process: Option<u32>,
    },
    /// There is no store.
    Missing(PathBuf),
    /// A later version wrote it.
    NewerFormat {
        /// Its format.
        found: u64,
        /// The newest one that this version knows.
        known: u64,
    },
    /// A file or directory cannot be used.
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// What it holds cannot be written out.
    Output(io::Error),
    /// It cannot be read.
    Store(StoreError),
}

impl OpenError {
    pub(crate) fn io(path: &Path, error: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            error,
        }
    }
}

impl From<StoreError> for OpenError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse { path, process } => {
                write!(f, "the store in {} is in use", path.display())?;
                match process {
                    Some(process) => write!(f, " by process {process}"),
                    None => Ok(()),
                }
            }
            Self::Missing(path) => write!(f, "there is no store in {}", path.display()),
            Self::NewerFormat { found, known } => write!(
                f,
                "the store has format {found}, and this version reads up to {known}: a later version wrote it"
            ),
            Self::Io { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Output(error) => write!(f, "the output cannot be written: {error}"),
            Self::Store(error @ StoreError::Corrupt(_)) => {
                write!(
                    f,
                    "{error}; see `paloma store check` and `paloma store repair`"
                )
            }
            Self::Store(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } | Self::Output(error) => Some(error),
            Self::Store(error) => Some(error),
            Self::InUse { .. } | Self::Missing(_) | Self::NewerFormat { .. } => None,
        }
    }
}
