//! Programs that options name, found before anything runs.

use std::env;
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{self, Path, PathBuf};

use clap::builder::{PathBufValueParser, TypedValueParser};

/// The value of an option that names a program.
pub(crate) fn parser() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|program| find(&program))
}

/// Where a program is, whatever directory it is started in: brokers have one of their own. A bare name is looked up in
/// `PATH`, as the shell does.
///
/// # Errors
/// Nothing that can be run has this name.
pub(crate) fn find(program: &Path) -> Result<PathBuf, NoProgram> {
    let search = env::var_os("PATH").unwrap_or_default();
    candidates(program, &search)
        .find(|path| is_program(path))
        .ok_or_else(|| NoProgram(program.to_owned()))
}

fn candidates(program: &Path, search: &OsStr) -> impl Iterator<Item = PathBuf> {
    let is_bare =
        program.components().count() == 1 && program.file_name() == Some(program.as_os_str());
    let places: Vec<PathBuf> = if is_bare {
        env::split_paths(search).collect()
    } else {
        vec![PathBuf::new()]
    };
    let program = OsString::from(program);
    // Links stay what they are: some programs go by the name that they are started under.
    let paths = places.into_iter().map(move |place| place.join(&program));
    paths.filter_map(|path| path::absolute(path).ok())
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// There is no such program.
#[derive(Debug)]
pub(crate) struct NoProgram(PathBuf);

impl fmt::Display for NoProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no program {}", self.0.display())
    }
}

impl Error for NoProgram {}
