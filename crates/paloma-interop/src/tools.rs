//! Programs the tests need and a machine may lack.

use std::env;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Set to 1 where every tool is installed: a missing one then fails the test instead of skipping it.
pub const REQUIRE: &str = "PALOMA_REQUIRE_TOOLS";

/// A program or an installed client that some tests cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// `mosquitto_pub`.
    MosquittoPub,
    /// `mosquitto_sub`.
    MosquittoSub,
    /// The Python interpreter of the environment that `setup.sh` makes, paho-mqtt in it.
    Paho,
    /// Chromium, which needs no display.
    Chromium,
    /// The scanner of TLS servers, as Debian names it.
    Testssl,
    /// The directory of node modules that `setup.sh` makes, MQTT.js in it.
    MqttJs,
}

impl Tool {
    /// Where it is; or `None` after a printed line, and the test is to pass without having run.
    ///
    /// # Panics
    /// If it is missing although tools are required here.
    #[must_use]
    pub fn find(self) -> Option<PathBuf> {
        let found = match self {
            Self::MosquittoPub => in_path("mosquitto_pub"),
            Self::MosquittoSub => in_path("mosquitto_sub"),
            Self::Chromium => ["chromium", "chromium-browser", "google-chrome"]
                .into_iter()
                .find_map(in_path),
            Self::Testssl => ["testssl", "testssl.sh"].into_iter().find_map(in_path),
            Self::Paho => existing(installed().join("python/bin/python3")),
            Self::MqttJs => {
                in_path("node").and_then(|_| existing(installed().join("node/node_modules")))
            }
        };
        if found.is_none() {
            let required = env::var_os(REQUIRE).is_some_and(|value| value == "1");
            assert!(!required, "{self:?} is missing and {REQUIRE}=1");
            say(&format!(
                "skipped: {self:?} is missing (see crates/paloma-interop/setup.sh)"
            ));
        }
        found
    }
}

/// A line that is seen whether or not the test passes: what is printed is kept from whoever reads of a success.
pub fn say(line: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    drop(writeln!(std::io::stderr(), "{test}: {line}"));
}

/// The directory of this build's profile (`target/debug`), which holds the binaries beside the tests.
///
/// # Panics
/// If the test does not run from a target directory.
#[must_use]
pub fn profile_directory() -> PathBuf {
    let test = env::current_exe().unwrap();
    let deps = test.parent().unwrap();
    assert!(
        deps.ends_with("deps"),
        "a test runs from target/<profile>/deps"
    );
    deps.parent().unwrap().to_owned()
}

/// The path of a program in `PATH` or in one of the directories for daemons.
#[must_use]
pub fn in_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let daemons = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(daemons)
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

fn installed() -> PathBuf {
    profile_directory()
        .parent()
        .map(|target| target.join("interop"))
        .unwrap()
}

fn existing(path: impl AsRef<Path>) -> Option<PathBuf> {
    path.as_ref().exists().then(|| path.as_ref().to_owned())
}
