//! A store as JSON lines.

use std::io::{self, Write};
use std::path::Path;

use paloma_broker::store::{Loss, StoreError};

use super::dump::dump;
use super::json::to_json;
use super::source::{Source, Tolerance};
use crate::error::OpenError;

/// What can go wrong with one line.
enum Failure {
    Store(StoreError),
    Write(io::Error),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Writes everything that can be read, one JSON object a line, and says what cannot.
///
/// Each object has a `type`: `mark` (the highest numbers that were given out), `session`, `received` (QoS 2 ids of its
/// client), `will`, `subscription`; then each `message`, with the `entry`, `retained` and `fan_out` lines that need it right
/// behind. Payloads and correlation data are base64, times are milliseconds since 1970.
///
/// # Errors
/// The store is in use, missing or cannot be read, or `out` cannot be written.
pub fn export(path: &Path, out: &mut dyn Write) -> Result<Vec<Loss>, OpenError> {
    let (directory, mut source) = Source::at(path, Tolerance::Strict)?;
    let mut each = |line| {
        let mut text = to_json(&line).to_string();
        text.push('\n');
        out.write_all(text.as_bytes()).map_err(Failure::Write)
    };
    let losses = match dump(&mut source, &mut each) {
        Ok(losses) => losses,
        Err(Failure::Store(error)) => return Err(error.into()),
        Err(Failure::Write(error)) => return Err(OpenError::Output(error)),
    };
    out.flush().map_err(OpenError::Output)?;
    source.engine.close()?;
    drop(directory);
    Ok(losses.into_vec())
}
