//! A new file with everything of an old one that can be read.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use paloma_broker::store::{Loss, Store, StoreBatch, StoreError};

use super::check::check_source;
use super::dump::{Filler, dump};
use super::source::{Source, Tolerance};
use crate::directory::Directory;
use crate::disk::FileDisk;
use crate::error::OpenError;
use crate::load::{LOG_LOST, Losses};
use crate::ops;
use crate::options::Options;
use crate::store::RedbStore;

/// What a repair did.
#[derive(Debug)]
pub struct Repaired {
    /// Where the damaged file is, with its log beside it; `None` if there was nothing to repair.
    pub set_aside: Option<PathBuf>,
    /// The engine could not even open the file: the store is empty.
    pub is_unreadable: bool,
    /// What could not be read.
    pub lost: Vec<Loss>,
    /// Things that were carried over.
    pub kept: u64,
}

/// Checks a store, and if it is damaged or holds messages that nobody needs, writes what can be read to a new file. The old
/// one stays beside it under another name, and the broker can start again whatever has happened.
///
/// # Errors
/// The store is in use, missing or of a later version, or the new file cannot be written.
pub fn repair(path: &Path) -> Result<Repaired, OpenError> {
    let directory = Directory::lock_store(path)?;
    let source = match Source::open(&directory, Tolerance::Salvage) {
        Ok(source) => Some(source),
        Err(OpenError::Store(StoreError::Corrupt(_))) => None,
        Err(error) => return Err(error),
    };
    let Some(mut source) = source else {
        return swap(&directory, None);
    };
    // A check that cannot come to its end says that there is something to repair.
    if let Ok(report) = check_source(&mut source)
        && report.is_whole()
        && report.orphans == 0
        && source.log.lost == 0
        && source.take_log().is_ok()
    {
        source.engine.close()?;
        return Ok(Repaired {
            set_aside: None,
            is_unreadable: false,
            lost: Vec::new(),
            kept: 0,
        });
    }
    drop(source);
    let source = Source::open(&directory, Tolerance::Salvage)?;
    swap(&directory, Some(source))
}

/// Puts a new file in the place of the old one.
fn swap(directory: &Directory, source: Option<Source>) -> Result<Repaired, OpenError> {
    let file = directory.file();
    let fresh = directory.free_name("repaired");
    let is_unreadable = source.is_none();
    let (lost, kept) = match source {
        Some(source) => fill(&fresh, source)?,
        None => (Vec::new(), 0),
    };
    let set_aside = directory.free_name("damaged");
    fs::rename(&file, &set_aside).map_err(|error| OpenError::io(&file, error))?;
    if !is_unreadable {
        fs::rename(&fresh, &file).map_err(|error| OpenError::io(&fresh, error))?;
    }
    // Last: the new file does not know its records, and if it is repaired again they say nothing that is not there.
    let log = directory.log();
    if log.exists() {
        let mut aside = set_aside.clone().into_os_string();
        aside.push(".log");
        fs::rename(&log, &aside).map_err(|error| OpenError::io(&log, error))?;
    }
    directory
        .sync()
        .map_err(|error| OpenError::io(&file, error))?;
    Ok(Repaired {
        set_aside: Some(set_aside),
        is_unreadable,
        lost,
        kept,
    })
}

fn fill(fresh: &Path, mut source: Source) -> Result<(Vec<Loss>, u64), OpenError> {
    let disk = FileDisk::open(fresh).map_err(|error| OpenError::io(fresh, error))?;
    let options = Options {
        // The new file has the old one's reserve once it has its name.
        reserve_bytes: 0,
        ..Options::default()
    };
    let mut store = RedbStore::on_disk(Arc::new(disk), None, &options)?;
    let mut filler = Filler::new(&mut store);
    let mut losses = dump(&mut source, &mut |line| {
        // A dump gives each message before what refers to it.
        filler.put(line).map(|_| ())
    })?;
    let mut kept = filler.finish()?;
    kept += fill_from_log(&mut store, &source, &mut losses)?;
    store.close()?;
    drop(source);
    let mut reserve = fresh.as_os_str().to_owned();
    reserve.push(".reserve");
    fs::remove_file(&reserve).map_err(|error| OpenError::io(Path::new(&reserve), error))?;
    Ok((losses.into_vec(), kept))
}

/// Does again what was done behind the last state that the old file has, and says how much that is.
fn fill_from_log(
    store: &mut RedbStore,
    source: &Source,
    losses: &mut Losses,
) -> Result<u64, StoreError> {
    let mut kept = 0;
    let mut lost = source.log.lost;
    for body in source.log.bodies() {
        let Ok((mark, ops)) = ops::read(body) else {
            lost += 1;
            continue;
        };
        kept += ops.len() as u64;
        let batch = StoreBatch {
            mark,
            ops,
            ..StoreBatch::default()
        };
        store.commit(&mut vec![batch])?;
    }
    losses.add(LOG_LOST, lost);
    Ok(kept)
}
