//! Programs that tests need and a machine may lack, and what its kernel may not allow.

use std::env;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Says that a tool is missing, or fails where all of them are required.
#[track_caller]
pub(crate) fn skip(tool: &str) {
    let is_required = env::var_os("PALOMA_REQUIRE_TOOLS").is_some_and(|value| value == "1");
    assert!(!is_required, "{tool} is not installed");
    say(&format!("skipped: {tool} is not installed"));
}

/// Whether all of these programs are there. Says which is not, or fails where all of them are required.
#[track_caller]
pub(crate) fn has(programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| find(program).is_none());
    if let Some(program) = missing {
        skip(program);
    }
    missing.is_none()
}

/// The path of a program in `PATH` or in one of the directories for daemons.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let daemons = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(daemons)
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}

/// A line that is seen whether or not the test passes: what is printed is kept from whoever reads of a success.
pub(crate) fn say(line: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    drop(writeln!(std::io::stderr(), "{test}: {line}"));
}

/// The mosquitto broker, which Debian keeps where an ordinary user's PATH does not lead.
pub(crate) fn mosquitto() -> &'static Path {
    let program = Path::new("/usr/sbin/mosquitto");
    if program.exists() {
        program
    } else {
        Path::new("mosquitto")
    }
}
