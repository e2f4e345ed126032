//! User names and passwords from a file.

mod cache;
mod hash;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytestring::ByteString;
use paloma_broker::{AuthOutcome, AuthRequest, Identity};
use paloma_codec::ConnAckReason;
use paloma_session::{Monotonic, Now};

use cache::Cache;
use hash::StoredHash;

use crate::gate::Gate;
use crate::{Method, Problems, Verdict, file, lines};

/// Most logins that wait until a core is free to hash.
const WAITING_MAX: usize = 10_000;
/// Longest password that is looked for among the remembered ones before its turn, in bytes.
const REMEMBERED_BYTES_MAX: usize = 4_096;
/// Longest wait for a core, after which the client is told that the broker is busy.
const WAIT_MAX: Duration = Duration::from_secs(120);

/// The users of a password file.
#[derive(Debug)]
pub struct PasswordFile {
    users: HashMap<ByteString, StoredHash>,
    /// The users in order, so that the choice of a stand-in does not hang on the table's.
    names: Vec<ByteString>,
}

/// Checks user name and password of CONNECT against a password file.
///
/// A user that is not in the file is left to the next method, but only after the hash of some user of the file was
/// computed: how long an answer takes does not tell who exists. As many hashes as there are cores are computed at a
/// time. Credentials that were right are remembered for a minute under a keyed hash.
#[derive(Debug)]
pub struct Passwords {
    path: PathBuf,
    file: RwLock<Arc<PasswordFile>>,
    cache: Mutex<Cache>,
    gate: Gate,
    work: Work,
}

#[derive(Debug, Default)]
struct Work {
    hashes: AtomicU64,
    units: AtomicU64,
    remembered: AtomicU64,
}

/// What checking passwords has cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PasswordWork {
    /// Hashes that were computed.
    pub hashes: u64,
    /// Their cost: KiB × passes of argon2, iterations of PBKDF2.
    pub units: u64,
    /// Logins that were remembered, so that no hash was computed.
    pub remembered: u64,
}

impl PasswordFile {
    /// Reads a password file: `user:hash` lines with argon2id, or with mosquitto's `$6$` and `$7$`; blank lines and lines
    /// that begin with `#` say nothing.
    ///
    /// # Errors
    /// Everything that is wrong with the file, by line: hashes that are malformed or too costly, users twice, a file without
    /// users.
    pub fn read(path: &Path) -> Result<Self, Problems> {
        Self::parse(path, &file::read(path)?)
    }

    /// Reads the text of a password file; `path` is for messages only.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn parse(path: &Path, text: &str) -> Result<Self, Problems> {
        let users = lines::parse(path, text, StoredHash::parse)?;
        let mut names: Vec<ByteString> = users.keys().cloned().collect();
        names.sort_unstable();
        Ok(Self { users, names })
    }

    /// The users' names in order.
    #[must_use]
    pub fn users(&self) -> &[ByteString] {
        &self.names
    }

    /// Whether this is the user's password. Costs one hash, and nothing for a user who is not there: for tools, not for
    /// strangers.
    #[must_use]
    pub fn is_password(&self, user: &str, password: &[u8]) -> bool {
        let stored = self.users.get(user);
        stored.is_some_and(|stored| stored.verify(password))
    }

    /// Whether the file has this user.
    #[must_use]
    pub fn has_user(&self, user: &str) -> bool {
        self.users.contains_key(user)
    }

    /// Whether both files have this user, with the same hash: whoever knew the password then knows it still.
    #[must_use]
    pub fn has_same_password(&self, other: &Self, user: &str) -> bool {
        match (self.users.get(user), other.users.get(user)) {
            (Some(own), Some(others)) => own.fingerprint() == others.fingerprint(),
            (_, _) => false,
        }
    }
}

/// Sets a user's password: an argon2id line in the file, which is made with mode 0600 if there is none.
///
/// # Errors
/// A user name or password that cannot be, or a file that cannot be written.
pub fn set_password(path: &Path, user: &str, password: &[u8]) -> Result<(), Problems> {
    let hash = hash::make(password).map_err(|fault| Problems::one(path, fault))?;
    lines::set(path, user, &hash)
}

/// Removes a user's line from a password file or a SCRAM file.
///
/// # Errors
/// No such user, or a file that cannot be written.
pub fn remove_user(path: &Path, user: &str) -> Result<(), Problems> {
    lines::remove(path, user)
}

impl Passwords {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// As [`PasswordFile::read`].
    pub fn read(path: &Path) -> Result<Self, Problems> {
        Self::new(path, PasswordFile::read(path)?)
    }

    /// Checks against a file that has been read from `path`, or is to be read from there at the next
    /// [`reload`](Self::reload).
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn new(path: &Path, file: impl Into<Arc<PasswordFile>>) -> Result<Self, Problems> {
        let cache = Cache::new().map_err(|fault| Problems::one(path, fault))?;
        Ok(Self {
            path: path.to_owned(),
            file: RwLock::new(file.into()),
            cache: Mutex::new(cache),
            gate: Gate::of_cores(WAITING_MAX, WAIT_MAX),
            work: Work::default(),
        })
    }

    /// Reads the file again.
    ///
    /// # Errors
    /// As [`PasswordFile::read`]; the users stay as they were.
    pub fn reload(&self) -> Result<(), Problems> {
        self.replace(PasswordFile::read(&self.path)?);
        Ok(())
    }

    /// Puts other users in force: the second half of a reload of several files, all of which have been read.
    pub fn replace(&self, file: impl Into<Arc<PasswordFile>>) {
        *self.file.write().unwrap_or_else(PoisonError::into_inner) = file.into();
    }

    /// The users in force.
    #[must_use]
    pub fn current(&self) -> Arc<PasswordFile> {
        Arc::clone(&self.file.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What was done so far.
    #[must_use]
    pub fn work(&self) -> PasswordWork {
        PasswordWork {
            hashes: self.work.hashes.load(Ordering::Relaxed),
            units: self.work.units.load(Ordering::Relaxed),
            remembered: self.work.remembered.load(Ordering::Relaxed),
        }
    }

    /// Whether these credentials were right a short while ago, and are so still.
    fn remembers(&self, now: Monotonic, user: &str, password: &[u8]) -> bool {
        let file = self.current();
        let is_known = file.users.get(user).is_some_and(|stored| {
            self.with_cache(|cache| {
                let entry = cache.entry(user, password, stored.fingerprint());
                cache.contains(now, &entry)
            })
        });
        if is_known {
            self.work.remembered.fetch_add(1, Ordering::Relaxed);
        }
        is_known
    }

    fn check(&self, now: Monotonic, user: &str, password: &[u8]) -> Verdict {
        let file = self.current();
        let stand_in = self.with_cache(|cache| cache.pick(user, file.names.len()));
        let stand_in = file.names.get(stand_in).map_or("", |name| name);
        // One path for users and strangers: only the last line tells them apart.
        let is_user = file.users.contains_key(user);
        let Some(stored) = file.users.get(if is_user { user } else { stand_in }) else {
            return Verdict::NotMine;
        };
        let entry = self.with_cache(|cache| cache.entry(user, password, stored.fingerprint()));
        if self.with_cache(|cache| cache.contains(now, &entry)) {
            self.work.remembered.fetch_add(1, Ordering::Relaxed);
            return Verdict::Decided(AuthOutcome::allow(identity(user)));
        }
        let Ok(pass) = self.gate.enter() else {
            return Verdict::Decided(AuthOutcome::Deny(ConnAckReason::ServerBusy));
        };
        let is_right = stored.verify(password);
        drop(pass);
        self.work.hashes.fetch_add(1, Ordering::Relaxed);
        self.work.units.fetch_add(stored.work(), Ordering::Relaxed);
        match (is_user, is_right) {
            (true, true) => {
                self.with_cache(|cache| cache.insert(now, entry));
                Verdict::Decided(AuthOutcome::allow(identity(user)))
            }
            (true, false) => {
                Verdict::Decided(AuthOutcome::Deny(ConnAckReason::BadUserNameOrPassword))
            }
            (false, _) => Verdict::NotMine,
        }
    }

    fn with_cache<T>(&self, use_it: impl FnOnce(&mut Cache) -> T) -> T {
        use_it(&mut self.cache.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Method for Passwords {
    fn judge(&self, now: Now, request: &AuthRequest) -> Verdict {
        match credentials(request) {
            None => Verdict::NotMine,
            Some((user, password)) => self.check(now.monotonic, user, password),
        }
    }

    fn judge_at_once(&self, now: Now, request: &AuthRequest) -> Option<Verdict> {
        let Some((user, password)) = credentials(request) else {
            return Some(Verdict::NotMine);
        };
        // To look for a very long one takes time as well.
        let is_right =
            password.len() <= REMEMBERED_BYTES_MAX && self.remembers(now.monotonic, user, password);
        is_right.then(|| Verdict::Decided(AuthOutcome::allow(identity(user))))
    }
}

/// User name and password; `None` if neither is there, or the client proves itself otherwise.
fn credentials(request: &AuthRequest) -> Option<(&str, &[u8])> {
    let (user, password) = (request.username.as_deref(), request.password.as_deref());
    let is_there = request.method.is_none() && (user.is_some() || password.is_some());
    is_there.then(|| (user.unwrap_or_default(), password.unwrap_or_default()))
}

fn identity(user: &str) -> Identity {
    Identity {
        user: Some(user.into()),
    }
}
