//! Reading files with a bound, and replacing them whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::random;
use crate::{Fault, Problems};

/// Largest file that is read, in bytes.
pub(crate) const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Reads a text file of at most [`FILE_BYTES_MAX`] bytes.
pub(crate) fn read(path: &Path) -> Result<String, Problems> {
    let bytes = read_bytes(path)?;
    String::from_utf8(bytes).map_err(|_| Problems::one(path, Fault::NotUtf8))
}

/// Reads a file of at most [`FILE_BYTES_MAX`] bytes.
pub(crate) fn read_bytes(path: &Path) -> Result<Vec<u8>, Problems> {
    let io = |error| Problems::one(path, Fault::Io(error));
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(io)?;
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(io)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Problems::one(path, Fault::FileTooLarge(FILE_BYTES_MAX)));
    }
    Ok(bytes)
}

/// Replaces `path` by `text` so that a reader sees the old or the new content whole. A new file gets mode 0600; one
/// that was there keeps owner, group and mode, less what others may do with it.
pub(crate) fn replace(path: &Path, text: &str) -> Result<(), Problems> {
    let suffix = random::hex8().map_err(|fault| Problems::one(path, fault))?;
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{suffix}.new"));
    let temporary = PathBuf::from(name);
    let written = write_and_rename(&temporary, path, text);
    if written.is_err() {
        // What is left of the attempt; the error that matters is the first one.
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(|error| Problems::one(path, Fault::Io(error)))
}

fn write_and_rename(temporary: &Path, path: &Path, text: &str) -> io::Result<()> {
    let mut file = create_private(temporary)?;
    file.write_all(text.as_bytes())?;
    // Symbolic links stay: what they point at is replaced.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    #[cfg(unix)]
    keep_owner(&file, &target)?;
    // With what was just said of its owner, whom a power cut would have locked out.
    file.sync_all()?;
    fs::rename(temporary, &target)?;
    let directory = target
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

/// Whoever could read the file before, a broker that is another user for one, can do so still.
#[cfg(unix)]
fn keep_owner(file: &File, replaced: &Path) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};

    let Ok(before) = fs::metadata(replaced) else {
        return Ok(());
    };
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (before.uid(), before.gid()) {
        fchown(file, Some(before.uid()), Some(before.gid()))?;
    }
    file.set_permissions(fs::Permissions::from_mode(before.mode() & 0o770))
}

fn create_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
