//! JSON lines as a store.

use std::io::{BufRead, Read};
use std::path::Path;
use std::{fmt, io};

use paloma_broker::store::{Store, StoreError};

use super::dump::Filler;
use super::json::from_json;
use crate::error::OpenError;
use crate::options::Options;
use crate::store::RedbStore;

/// Longer than the largest message in base64, with all that may stand beside it.
const LINE_BYTES_MAX: u64 = 512 << 20;

/// Why an import stopped. What came before is in the store.
#[derive(Debug)]
#[non_exhaustive]
pub enum ImportError {
    /// The store cannot be opened.
    Open(OpenError),
    /// It holds something already.
    NotEmpty,
    /// The lines cannot be read.
    Read(io::Error),
    /// A line is not what an export writes.
    Line {
        /// Its number, from 1.
        number: u64,
        /// What is wrong with it.
        fault: Fault,
    },
    /// The store cannot be written.
    Store(StoreError),
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is longer than the largest message makes it.
    TooLong,
    /// It is no JSON.
    NoJson,
    /// It is no object.
    NoObject,
    /// This field is missing, or its value cannot be.
    Field(&'static str),
    /// The message that it refers to is not right before it.
    NoMessage,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => f.write_str("it is too long"),
            Self::NoJson => f.write_str("it is no JSON"),
            Self::NoObject => f.write_str("it is no JSON object"),
            Self::Field(name) => write!(f, "the field \"{name}\" is missing or wrong"),
            Self::NoMessage => f.write_str("the message that it refers to is not right before it"),
        }
    }
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(error) => write!(f, "{error}"),
            Self::NotEmpty => f.write_str("the store is not empty: import into a new directory"),
            Self::Read(error) => write!(f, "the lines cannot be read: {error}"),
            Self::Line { number, fault } => write!(f, "line {number}: {fault}"),
            Self::Store(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for ImportError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Open(error) => Some(error),
            Self::Read(error) => Some(error),
            Self::Store(error) => Some(error),
            Self::NotEmpty | Self::Line { .. } => None,
        }
    }
}

impl From<StoreError> for ImportError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Fills a new store with what an export wrote, and returns the number of lines.
///
/// # Errors
/// The store is not empty, a line cannot be understood, or something cannot be read or written.
pub fn import(path: &Path, lines: &mut dyn BufRead) -> Result<u64, ImportError> {
    let mut store = RedbStore::open(path, &Options::default()).map_err(ImportError::Open)?;
    if !store.is_empty() {
        return Err(ImportError::NotEmpty);
    }
    let mut filler = Filler::new(&mut store);
    let mut text = String::new();
    for number in 1.. {
        text.clear();
        let mut line = lines.take(LINE_BYTES_MAX);
        if line.read_line(&mut text).map_err(ImportError::Read)? == 0 {
            break;
        }
        let at = |fault| ImportError::Line { number, fault };
        if text.len() as u64 == LINE_BYTES_MAX {
            return Err(at(Fault::TooLong));
        }
        let value = serde_json::from_str(&text).map_err(|_| at(Fault::NoJson))?;
        let line = from_json(&value).map_err(at)?;
        filler.put(line)?.map_err(|_| at(Fault::NoMessage))?;
    }
    let count = filler.finish()?;
    store.close()?;
    Ok(count)
}
