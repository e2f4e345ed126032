//! Reading the files that say who may do what, all of them before any is put in force.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use paloma_auth::{AclRules, PasswordFile};

use super::rules::Policy;
use crate::config::{AuthFiles, Config, Fault, Place, Problems};

/// Everybody may write the file.
const WRITABLE_BY_OTHERS: u32 = 0o002;
/// Everybody may read the file.
const READABLE_BY_OTHERS: u32 = 0o004;

/// What a configuration and its files say about who may do what. All files are sound.
#[derive(Debug)]
pub(crate) struct Security {
    /// By path, each read once however many listeners name it.
    passwords: BTreeMap<PathBuf, PasswordFile>,
    rules: BTreeMap<PathBuf, Arc<AclRules>>,
    /// Of clients whose listener is not known: sessions that were stored.
    default: AuthFiles,
    pub(super) failed_logins_per_minute_max: u32,
    /// One for each listener of the configuration.
    doors: Vec<Door>,
}

/// How one listener lets clients in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Door {
    files: AuthFiles,
    pub(super) allow_anonymous: bool,
    /// Certificates say who clients are.
    pub(super) takes_certificates: bool,
}

impl Door {
    pub(super) const fn password_file(&self) -> Option<&PathBuf> {
        self.files.password_file.as_ref()
    }
}

impl Security {
    /// Reads every file that the configuration names. What is wrong with them is added to `problems`.
    pub(crate) fn read(config: &Config, problems: &mut Problems) -> Self {
        let mut security = Self {
            passwords: BTreeMap::new(),
            rules: BTreeMap::new(),
            default: config.auth.clone(),
            failed_logins_per_minute_max: config.limits.failed_logins_per_minute_max,
            doors: Vec::with_capacity(config.listeners.len()),
        };
        security.read_files("auth", &config.auth, problems);
        for (index, listener) in config.listeners.iter().enumerate() {
            security.read_files(&format!("listener[{index}]"), &listener.auth, problems);
            security.doors.push(Door {
                files: listener.auth.or(&config.auth),
                allow_anonymous: listener.lets_anybody_in(&config.auth),
                takes_certificates: listener.transport.names_clients(),
            });
        }
        security
    }

    fn read_files(&mut self, section: &str, files: &AuthFiles, problems: &mut Problems) {
        if let Some(path) = &files.password_file
            && !self.passwords.contains_key(path)
        {
            let key = format!("{section}.password_file");
            if let Some(file) = read(path, &key, PasswordFile::read, problems) {
                self.passwords.insert(path.clone(), file);
            }
        }
        if let Some(path) = &files.acl_file
            && !self.rules.contains_key(path)
        {
            let key = format!("{section}.acl_file");
            if let Some(file) = read(path, &key, AclRules::read, problems) {
                self.rules.insert(path.clone(), Arc::new(file));
            }
        }
    }

    /// What an operator should know although nothing is wrong.
    pub(crate) fn warn(&self, config: &Config) {
        for path in self.passwords.keys() {
            // Not refused: that is how mosquitto's tool leaves them.
            if mode(path) & READABLE_BY_OTHERS != 0 {
                let path = path.display();
                tracing::warn!(%path, "every user of this machine may read the passwords' hashes; `chmod 600` hides them");
            }
        }
        for (door, listener) in self.doors.iter().zip(&config.listeners) {
            if door.files.acl_file.is_none() && listener.knows_names(&config.auth) {
                tracing::warn!(
                    listener = listener.name,
                    "clients have names but there is no acl_file: who is let in may use every topic that does not begin with $"
                );
            }
        }
    }

    pub(super) fn door(&self, place: usize) -> Option<&Door> {
        self.doors.get(place)
    }

    pub(super) fn take_passwords(&mut self) -> BTreeMap<PathBuf, PasswordFile> {
        std::mem::take(&mut self.passwords)
    }

    pub(super) fn policy(&self, door: &Door) -> Policy {
        self.policy_of(&door.files, door.takes_certificates)
    }

    /// For clients whose listener is not known.
    pub(super) fn default_policy(&self) -> Policy {
        self.policy_of(&self.default, false)
    }

    fn policy_of(&self, files: &AuthFiles, takes_certificates: bool) -> Policy {
        let rules = files
            .acl_file
            .as_ref()
            .and_then(|path| self.rules.get(path));
        match rules {
            Some(rules) => Policy::Rules(Arc::clone(rules)),
            None if files.knows_names() || takes_certificates => Policy::Open,
            None => Policy::Everything,
        }
    }
}

/// Permissions; none of a file that is not there, which is reported by whoever reads it.
fn mode(path: &Path) -> u32 {
    fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode() & 0o777)
}

/// Reads one file, which not everybody may write.
fn read<T>(
    path: &Path,
    key: &str,
    parse: fn(&Path) -> Result<T, paloma_auth::Problems>,
    problems: &mut Problems,
) -> Option<T> {
    let whole = || Place::WholeFile {
        path: path.to_owned(),
    };
    let mode = mode(path);
    if mode & WRITABLE_BY_OTHERS != 0 {
        problems.push(whole(), key, Fault::WritableByOthers { mode });
    }
    match parse(path) {
        Ok(file) => Some(file),
        Err(found) => {
            for problem in found.as_slice() {
                let place = problem.line.map_or_else(whole, |line| Place::Line {
                    path: path.to_owned(),
                    line,
                });
                problems.push(place, key, Fault::Security(problem.fault.to_string()));
            }
            None
        }
    }
}
