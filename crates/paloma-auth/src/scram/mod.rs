//! SCRAM-SHA-256 as enhanced authentication. (RFC 5802, RFC 7677)

mod credential;
mod exchange;

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use paloma_broker::{Admission, AuthOutcome, AuthRequest, ConnectionId, Identity};
use paloma_codec::{ConnAckReason, Secret};
use paloma_session::{Monotonic, Now};
use ring::hmac;

use self::credential::Credential;
use self::exchange::Exchange;
use crate::{Fault, Method, Problems, Verdict, file, lines, random};

/// Authentication Method.
const NAME: &str = "SCRAM-SHA-256";
/// Most exchanges that wait for their second message; the oldest one makes room.
const EXCHANGES_MAX: usize = 4_096;
/// How long an exchange waits.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// The users of a SCRAM file.
#[derive(Debug)]
pub struct ScramFile(HashMap<ByteString, Credential>);

/// Authenticates by SCRAM-SHA-256: the password never crosses the wire, and the file cannot be used to log in.
///
/// Serves re-authentication as well. [MQTT-4.12.1-1] Channel binding is not offered. User names and passwords are
/// taken as ASCII, for which SASLprep changes nothing.
pub struct Scram {
    path: PathBuf,
    file: RwLock<Arc<ScramFile>>,
    /// Makes salts for users who do not exist, always the same for one name.
    salts: hmac::Key,
    exchanges: Mutex<HashMap<ConnectionId, Pending>>,
}

struct Pending {
    since: Monotonic,
    exchange: Exchange,
}

impl ScramFile {
    /// Reads a SCRAM file: lines of `user:SCRAM-SHA-256$iterations:salt$stored-key:server-key`.
    ///
    /// # Errors
    /// Everything that is wrong with the file, by line.
    pub fn read(path: &Path) -> Result<Self, Problems> {
        Self::parse(path, &file::read(path)?)
    }

    /// Reads the text of a SCRAM file; `path` is for messages only.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn parse(path: &Path, text: &str) -> Result<Self, Problems> {
        lines::parse(path, text, Credential::parse).map(Self)
    }

    /// Whether the file has this user.
    #[must_use]
    pub fn has_user(&self, user: &str) -> bool {
        self.0.contains_key(user)
    }

    /// Whether both files have this user, with the same credential: whoever knew the password then knows it still.
    #[must_use]
    pub fn has_same_password(&self, other: &Self, user: &str) -> bool {
        match (self.0.get(user), other.0.get(user)) {
            (Some(own), Some(others)) => own.stored_key == others.stored_key,
            (_, _) => false,
        }
    }
}

/// Sets a user's line in a SCRAM file, which is made with mode 0600 if there is none.
/// [`remove_user`](crate::remove_user) takes it out.
///
/// # Errors
/// A user name or password that cannot be, or a file that cannot be written.
pub fn set_scram_password(path: &Path, user: &str, password: &str) -> Result<(), Problems> {
    let made = if user.is_ascii() {
        Credential::make(password)
    } else {
        Err(Fault::NotAscii)
    };
    let credential = made.map_err(|fault| Problems::one(path, fault))?;
    lines::set(path, user, &credential.to_string())
}

impl Scram {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// As [`ScramFile::read`].
    pub fn read(path: &Path) -> Result<Self, Problems> {
        Self::new(path, ScramFile::read(path)?)
    }

    /// Checks against a file that has been read from `path`, or is to be read from there at the next
    /// [`reload`](Self::reload).
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn new(path: &Path, file: impl Into<Arc<ScramFile>>) -> Result<Self, Problems> {
        let salts = random::bytes::<32>().map_err(|fault| Problems::one(path, fault))?;
        Ok(Self {
            path: path.to_owned(),
            file: RwLock::new(file.into()),
            salts: hmac::Key::new(hmac::HMAC_SHA256, &salts),
            exchanges: Mutex::default(),
        })
    }

    /// Reads the file again.
    ///
    /// # Errors
    /// As [`ScramFile::read`]; the users stay as they were.
    pub fn reload(&self) -> Result<(), Problems> {
        self.replace(ScramFile::read(&self.path)?);
        Ok(())
    }

    /// Puts other users in force: the second half of a reload of several files, all of which have been read.
    pub fn replace(&self, file: impl Into<Arc<ScramFile>>) {
        *self.file.write().unwrap_or_else(PoisonError::into_inner) = file.into();
    }

    /// The users in force.
    #[must_use]
    pub fn current(&self) -> Arc<ScramFile> {
        Arc::clone(&self.file.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many exchanges wait for their second message.
    #[must_use]
    pub fn exchanges(&self) -> usize {
        self.with_exchanges(|exchanges| exchanges.len())
    }

    fn begin(&self, now: Monotonic, connection: ConnectionId, message: &str) -> AuthOutcome {
        let Ok(nonce) = random::bytes::<18>() else {
            return AuthOutcome::Deny(ConnAckReason::ServerUnavailable);
        };
        let file = self.current();
        let credential = |user: &str| match file.0.get(user) {
            Some(credential) => (credential.clone(), true),
            None => (Credential::stand_in(&self.salts, user), false),
        };
        let Some((exchange, challenge)) = Exchange::begin(message, &nonce, credential) else {
            return refused();
        };
        self.with_exchanges(|exchanges| {
            exchanges.retain(|_, pending| now.since(pending.since) < WAIT_MAX);
            if exchanges.len() >= EXCHANGES_MAX {
                let oldest = exchanges
                    .iter()
                    .min_by_key(|(id, pending)| (pending.since, **id));
                let oldest = oldest.map(|(id, _)| *id);
                oldest.and_then(|id| exchanges.remove(&id));
            }
            let pending = Pending {
                since: now,
                exchange,
            };
            exchanges.insert(connection, pending);
        });
        AuthOutcome::Continue(Secret::new(Bytes::from(challenge)))
    }

    fn finish(&self, now: Monotonic, connection: ConnectionId, message: &str) -> AuthOutcome {
        let pending = self.with_exchanges(|exchanges| exchanges.remove(&connection));
        let pending = pending.filter(|pending| now.since(pending.since) < WAIT_MAX);
        let finished = pending.and_then(|pending| pending.exchange.finish(message));
        let Some((user, proof)) = finished else {
            return refused();
        };
        AuthOutcome::Allow(Box::new(Admission {
            data: Some(Secret::new(Bytes::from(proof))),
            ..Admission::of(Identity { user: Some(user) })
        }))
    }

    fn with_exchanges<T>(
        &self,
        use_it: impl FnOnce(&mut HashMap<ConnectionId, Pending>) -> T,
    ) -> T {
        use_it(
            &mut self
                .exchanges
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }
}

impl Method for Scram {
    fn judge(&self, now: Now, request: &AuthRequest) -> Verdict {
        let Some((_, data)) = request.method.as_ref().filter(|(name, _)| *name == NAME) else {
            return Verdict::NotMine;
        };
        let (now, connection) = (now.monotonic, request.connection);
        Verdict::Decided(match str::from_utf8(data) {
            Ok(message) if message.starts_with("c=") => self.finish(now, connection, message),
            Ok(message) => self.begin(now, connection, message),
            Err(_) => refused(),
        })
    }

    fn is_blocking(&self) -> bool {
        false
    }
}

impl fmt::Debug for Scram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scram")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

const fn refused() -> AuthOutcome {
    AuthOutcome::Deny(ConnAckReason::BadUserNameOrPassword)
}
