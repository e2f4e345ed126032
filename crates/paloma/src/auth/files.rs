//! Reading the files that say who may do what, all of them before any is put in force.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use paloma_auth::{AclRules, HttpHook, HttpHookConfig, JwtKeys, JwtRules, PasswordFile, ScramFile};

use super::rules::Policy;
use crate::config::{AuthSettings, Config, Fault, HttpSettings, JwtSettings, Place, Problems};
use crate::few::Few;

/// Everybody may write the file.
const WRITABLE_BY_OTHERS: u32 = 0o002;
/// Everybody may read the file.
const READABLE_BY_OTHERS: u32 = 0o004;
/// Largest file of a token or of certificates for a hook, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What a configuration and its files say about who may do what. All files are sound.
#[derive(Debug)]
pub(crate) struct Security {
    /// By path, each read once however many listeners name it.
    files: Files,
    /// Of clients whose listener is not known: sessions that were stored.
    default: AuthSettings,
    pub(super) failed_logins_per_minute_max: u32,
    /// One for each listener of the configuration.
    doors: Vec<Door>,
}

#[derive(Debug, Default)]
struct Files {
    passwords: Few<PathBuf, Arc<PasswordFile>>,
    scram: Few<PathBuf, Arc<ScramFile>>,
    keys: Few<PathBuf, Arc<JwtKeys>>,
    /// Shared secrets that tokens are signed with.
    secrets: Few<PathBuf, Arc<JwtKeys>>,
    rules: Few<PathBuf, Arc<AclRules>>,
}

/// How one listener lets clients in.
#[derive(Clone, Debug)]
pub(super) struct Door {
    settings: AuthSettings,
    pub(super) hook: Option<Arc<HttpHook>>,
    pub(super) allow_anonymous: bool,
    /// Certificates say who clients are.
    pub(super) takes_certificates: bool,
}

impl Door {
    pub(super) const fn password_file(&self) -> Option<&PathBuf> {
        self.settings.password_file.as_ref()
    }

    pub(super) fn scram_file(&self) -> Option<&PathBuf> {
        self.settings.scram.as_ref()?.file.as_ref()
    }
}

impl Security {
    /// Reads every file that the configuration names. What is wrong with them is added to `problems`.
    pub(crate) fn read(config: &Config, problems: &mut Problems) -> Self {
        let mut files = Files::default();
        files.read("auth", &config.auth, problems);
        let mut doors = Vec::with_capacity(config.listeners.len());
        let default_hook = read_hook("auth", config.auth.http.as_ref(), problems);
        for (index, listener) in config.listeners.iter().enumerate() {
            let section = format!("listener[{index}]");
            files.read(&section, &listener.auth, problems);
            let own_hook = read_hook(&section, listener.auth.http.as_ref(), problems);
            doors.push(Door {
                settings: listener.auth.or(&config.auth),
                hook: own_hook.or_else(|| default_hook.clone()),
                allow_anonymous: listener.lets_anybody_in(&config.auth),
                takes_certificates: listener.transport.names_clients(),
            });
        }
        Self {
            files,
            default: config.auth.clone(),
            failed_logins_per_minute_max: config.limits.failed_logins_per_minute_max,
            doors,
        }
    }

    /// What an operator should know although nothing is wrong.
    pub(crate) fn warn(&self, config: &Config) {
        for path in self.files.passwords.keys().chain(self.files.scram.keys()) {
            // Not refused: that is how mosquitto's tool leaves them.
            if mode(path) & READABLE_BY_OTHERS != 0 {
                let path = path.display();
                tracing::warn!(%path, "every user of this machine may read the passwords' hashes; `chmod 600` hides them");
            }
        }
        let hooks = self.doors.iter().filter_map(|door| door.hook.as_ref());
        if hooks
            .clone()
            .any(|hook| crosses_a_network_in_clear(&hook.config().url))
        {
            tracing::warn!(
                "[auth.http] sends passwords in clear to another machine: https hides them"
            );
        }
        for (door, listener) in self.doors.iter().zip(&config.listeners) {
            if door.settings.acl_file.is_none() && listener.knows_names(&config.auth) {
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

    /// One for each listener that has one; several may ask alike.
    pub(super) fn hooks(&self) -> impl Iterator<Item = &Arc<HttpHook>> {
        self.doors.iter().filter_map(|door| door.hook.as_ref())
    }

    pub(super) const fn passwords(&self) -> &Few<PathBuf, Arc<PasswordFile>> {
        &self.files.passwords
    }

    pub(super) const fn scram(&self) -> &Few<PathBuf, Arc<ScramFile>> {
        &self.files.scram
    }

    /// The keys that a listener's tokens are checked by, and what they have to say.
    pub(super) fn jwt(&self, door: &Door) -> Option<(Arc<JwtKeys>, JwtRules)> {
        let jwt = door.settings.jwt.as_ref()?;
        let (path, is_secret) = key_file(jwt)?;
        let keys = if is_secret {
            self.files.secrets.get(path)?
        } else {
            self.files.keys.get(path)?
        };
        Some((Arc::clone(keys), jwt.rules.clone()))
    }

    pub(super) fn policy(&self, door: &Door) -> Policy {
        self.policy_of(&door.settings, door.takes_certificates)
    }

    /// For clients whose listener is not known.
    pub(super) fn default_policy(&self) -> Policy {
        self.policy_of(&self.default, false)
    }

    fn policy_of(&self, settings: &AuthSettings, takes_certificates: bool) -> Policy {
        let rules = settings
            .acl_file
            .as_ref()
            .and_then(|path| self.files.rules.get(path));
        match rules {
            Some(rules) => Policy::Rules(Arc::clone(rules)),
            None if settings.knows_names() || takes_certificates => Policy::Open,
            None => Policy::Everything,
        }
    }
}

impl Files {
    /// Reads those that are named here and have not been read yet.
    fn read(&mut self, section: &str, settings: &AuthSettings, problems: &mut Problems) {
        let key = |name: &str| format!("{section}.{name}");
        if let Some(path) = &settings.password_file {
            let key = key("password_file");
            let parse = |path: &Path| PasswordFile::read(path).map(Arc::new);
            read_once(&mut self.passwords, path, &key, parse, problems);
        }
        if let Some(path) = settings
            .scram
            .as_ref()
            .and_then(|scram| scram.file.as_ref())
        {
            let key = key("scram.file");
            let parse = |path: &Path| ScramFile::read(path).map(Arc::new);
            read_once(&mut self.scram, path, &key, parse, problems);
        }
        if let Some((path, is_secret)) = settings.jwt.as_ref().and_then(key_file) {
            let key = key(if is_secret {
                "jwt.secret_file"
            } else {
                "jwt.key_file"
            });
            let parse = if is_secret {
                JwtKeys::read_secret
            } else {
                JwtKeys::read
            };
            let parse = |path: &Path| parse(path).map(Arc::new);
            let read = if is_secret {
                &mut self.secrets
            } else {
                &mut self.keys
            };
            read_once(read, path, &key, parse, problems);
            if read.get(path).is_some_and(|keys| keys.hold_a_secret()) {
                check_secret(path, &key, problems);
            }
        }
        if let Some(path) = &settings.acl_file {
            let key = key("acl_file");
            let parse = |path: &Path| AclRules::read(path).map(Arc::new);
            read_once(&mut self.rules, path, &key, parse, problems);
        }
    }
}

/// The file of a listener's keys, and whether it is a shared secret.
fn key_file(jwt: &JwtSettings) -> Option<(&PathBuf, bool)> {
    let secret = jwt.secret_file.as_ref().map(|path| (path, true));
    secret.or(jwt.key_file.as_ref().map(|path| (path, false)))
}

/// A hook, with what its files say.
fn read_hook(
    section: &str,
    settings: Option<&HttpSettings>,
    problems: &mut Problems,
) -> Option<Arc<HttpHook>> {
    let settings = settings.filter(|settings| !settings.url.is_empty())?;
    let mut hook = HttpHookConfig::new(settings.url.as_str());
    hook.timeout = settings.timeout;
    hook.requests_max = settings.requests_max;
    hook.waiting_max = settings.waiting_max;
    hook.ttl = settings.ttl;
    if let Some(path) = &settings.token_file {
        let key = format!("{section}.http.token_file");
        check_secret(path, &key, problems);
        let token = read_bytes(path, &key, problems)?;
        hook.bearer_token = Some(String::from_utf8_lossy(token.trim_ascii()).into_owned());
    }
    if let Some(path) = &settings.ca_file {
        hook.roots = Some(read_bytes(
            path,
            &format!("{section}.http.ca_file"),
            problems,
        )?);
    }
    match HttpHook::new(hook) {
        Ok(hook) => Some(Arc::new(hook)),
        Err(error) => {
            let wrong = match error {
                paloma_auth::HttpHookError::Token => settings.token_file.as_ref(),
                paloma_auth::HttpHookError::Roots => settings.ca_file.as_ref(),
                paloma_auth::HttpHookError::Url
                | paloma_auth::HttpHookError::Zero
                | paloma_auth::HttpHookError::NoRoots
                | paloma_auth::HttpHookError::NotBuilt => None,
            };
            let place = wrong.map_or(Place::Default, |path| Place::WholeFile {
                path: path.clone(),
            });
            let fault = Fault::Security(error.to_string());
            problems.push(place, format!("{section}.http"), fault);
            None
        }
    }
}

fn crosses_a_network_in_clear(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://") else {
        return false;
    };
    let place = rest.split(['/', '?']).next().unwrap_or_default();
    let host = match place.strip_prefix('[') {
        Some(address) => address.split(']').next(),
        None => place.split(':').next(),
    };
    let host = host.unwrap_or_default();
    let is_loopback = |address: IpAddr| address.is_loopback();
    host != "localhost" && !host.parse().is_ok_and(is_loopback)
}

/// Permissions; none of a file that is not there, which is reported by whoever reads it.
fn mode(path: &Path) -> u32 {
    fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode() & 0o777)
}

/// Notes it if not only those who are meant to may read a file of secrets.
fn check_secret(path: &Path, key: &str, problems: &mut Problems) {
    let mode = mode(path);
    if mode & READABLE_BY_OTHERS != 0 {
        let path = path.to_owned();
        problems.push(
            Place::WholeFile { path },
            key,
            Fault::ReadableByOthers { mode },
        );
    }
}

fn read_bytes(path: &Path, key: &str, problems: &mut Problems) -> Option<Vec<u8>> {
    let fault = match fs::metadata(path) {
        Ok(metadata) if metadata.len() > FILE_BYTES_MAX => Fault::FileTooLarge {
            bytes_max: FILE_BYTES_MAX,
        },
        Ok(_) => match fs::read(path) {
            Ok(bytes) => return Some(bytes),
            Err(error) => Fault::Unreadable(error.to_string()),
        },
        Err(error) => Fault::Unreadable(error.to_string()),
    };
    let path = path.to_owned();
    problems.push(Place::WholeFile { path }, key, fault);
    None
}

/// Reads one file, which not everybody may write, unless it has been read.
fn read_once<T>(
    read: &mut Few<PathBuf, T>,
    path: &Path,
    key: &str,
    parse: impl Fn(&Path) -> Result<T, paloma_auth::Problems>,
    problems: &mut Problems,
) {
    if read.contains_key(path) {
        return;
    }
    let whole = || Place::WholeFile {
        path: path.to_owned(),
    };
    let mode = mode(path);
    if mode & WRITABLE_BY_OTHERS != 0 {
        problems.push(whole(), key, Fault::WritableByOthers { mode });
    }
    match parse(path) {
        Ok(file) => {
            read.insert(path.to_owned(), file);
        }
        Err(found) => {
            for problem in found.as_slice() {
                let place = problem.line.map_or_else(whole, |line| Place::Line {
                    path: path.to_owned(),
                    line,
                });
                problems.push(place, key, Fault::Security(problem.fault.to_string()));
            }
        }
    }
}
