//! A store as JSON lines.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use paloma_broker::store::{Loss, StoreError};

use super::dump::dump;
use super::json::to_json;
use super::source::{Source, Tolerance};
use crate::directory::sync_parent;
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

/// The same to a new file, which holds what clients sent and so is its owner's alone. It survives a power cut: what it says may
/// be deleted next.
///
/// # Errors
/// As [`export`], or the file is there already or cannot be made.
pub fn export_to_file(path: &Path, file: &Path) -> Result<Vec<Loss>, OpenError> {
    let at = |error| OpenError::io(file, error);
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .map_err(at)?;
    let lost = export(path, &mut BufWriter::new(&made))?;
    let kept = made.sync_all().and_then(|()| sync_parent(file));
    kept.map_err(at)?;
    Ok(lost)
}
