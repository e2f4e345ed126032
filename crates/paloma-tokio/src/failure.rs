//! Why a broker had to stop.

use std::fmt;
use std::io;
use std::sync::Arc;

use paloma_broker::StoreError;

/// Why a broker cannot go on. Whatever it acknowledged before is as safe as its store made it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Failure {
    /// The core panicked inside a turn, so its state may be half changed.
    Panicked,
    /// The store failed: nothing more may be acknowledged.
    Store(Arc<StoreError>),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked => f.write_str("the broker panicked"),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Panicked => None,
            Self::Store(error) => Some(&**error),
        }
    }
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        Self::other(failure)
    }
}
