//! Lets clients in by the rules of the listener that they came through.

#[cfg(feature = "control")]
mod rehearsal;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use paloma_auth::{
    Certificates, Chain, HttpHook, Jwt, JwtKeys, JwtRules, ListenerAuth, Method, PasswordFile,
    Passwords, Problems, Scram, ScramFile,
};
use paloma_broker::{Authenticator, Authorizer, Identity};

use super::files::{Door, Security};
use super::rules::Rules;
use crate::config::Config;
use crate::few::Few;

/// The login methods and rules in force.
///
/// They are replaced as a whole, never in part: a login is judged by all of the old or all of the new.
#[derive(Debug)]
pub(crate) struct Gatekeeper {
    chain: Arc<Chain>,
    state: Mutex<State>,
    /// Of sessions that nobody has logged in to since they were stored.
    default_rules: Arc<Rules>,
}

#[derive(Debug, Default)]
struct State {
    /// By the number under which the listener is open.
    realms: Few<u16, Realm>,
    passwords: Few<PathBuf, Arc<Passwords>>,
    scram: Few<PathBuf, Arc<Scram>>,
    hooks: Vec<Arc<HttpHook>>,
}

/// What holds for the clients of one listener.
#[derive(Debug)]
struct Realm {
    passwords: Option<Arc<Passwords>>,
    scram: Option<Arc<Scram>>,
    jwt: Option<(Arc<JwtKeys>, JwtRules)>,
    hook: Option<Arc<HttpHook>>,
    takes_certificates: bool,
    allow_anonymous: bool,
    rules: Arc<Rules>,
}

/// Other files, with all that has to be made for them and may fail. Nothing has changed yet.
#[derive(Debug)]
pub(crate) struct Prepared {
    security: Security,
    /// Without realms, whose listeners are not known yet.
    next: State,
    /// Files that take the place of others.
    passwords: Vec<(Arc<Passwords>, Arc<PasswordFile>)>,
    scram: Vec<(Arc<Scram>, Arc<ScramFile>)>,
}

/// Who has lost the right to be connected when other files came into force.
#[derive(Debug)]
pub(crate) struct Expulsions {
    /// By listener.
    before: Few<u16, Welcome>,
    after: Few<u16, Welcome>,
    /// Tokens and hooks may judge otherwise, so that whoever they let in has to be asked about again.
    pub(crate) concern_admissions: bool,
}

/// Who may come in through a listener.
#[derive(Debug)]
struct Welcome {
    passwords: Option<Arc<PasswordFile>>,
    scram: Option<Arc<ScramFile>>,
    allow_anonymous: bool,
    takes_certificates: bool,
}

impl Gatekeeper {
    /// A gatekeeper of listeners that are open under the numbers of `doors`; each value is the listener's place in
    /// the configuration.
    ///
    /// # Errors
    /// As for [`prepare`](Self::prepare).
    pub(crate) fn new(security: Security, doors: &Few<u16, usize>) -> Result<Self, Problems> {
        let gatekeeper = Self {
            chain: Arc::new(Chain::new(
                Vec::new(),
                security.failed_logins_per_minute_max,
            )),
            state: Mutex::default(),
            default_rules: Arc::new(Rules::new(security.default_policy())),
        };
        let prepared = gatekeeper.prepare(security)?;
        gatekeeper.apply(prepared, doors);
        Ok(gatekeeper)
    }

    /// Makes whatever other files need, all that can fail. Nothing changes.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub(crate) fn prepare(&self, security: Security) -> Result<Prepared, Problems> {
        self.lock().prepare(security)
    }

    /// Puts other files in force, for the listeners that are open from here on. The caller tells the broker that its rules
    /// have changed, and sends away whom this expels.
    pub(crate) fn apply(&self, prepared: Prepared, doors: &Few<u16, usize>) -> Expulsions {
        let failures_max = prepared.security.failed_logins_per_minute_max;
        let default_policy = prepared.security.default_policy();
        let mut state = self.lock();
        let before = state.welcomes();
        let concern_admissions = state.apply(prepared, doors);
        self.default_rules.replace(default_policy);
        let realms = state.realms.iter();
        let listeners = realms.map(|(number, realm)| (*number, realm.listener()));
        self.chain.replace(listeners, failures_max);
        Expulsions {
            before,
            after: state.welcomes(),
            concern_admissions,
        }
    }

    /// Decides who a client is, by the listener that it comes through.
    pub(crate) fn authenticator(&self) -> Arc<dyn Authenticator> {
        Arc::<Chain>::clone(&self.chain)
    }

    /// What the core asks about sessions whose client has not come in through here.
    pub(crate) fn default_rules(&self) -> Arc<dyn Authorizer> {
        Arc::<Rules>::clone(&self.default_rules)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Prepared {
    /// Says what is allowed and should be known.
    pub(crate) fn warn(&self, config: &Config) {
        self.security.warn(config);
    }
}

impl State {
    fn prepare(&self, security: Security) -> Result<Prepared, Problems> {
        let mut next = Self::default();
        let (mut passwords, mut scram) = (Vec::new(), Vec::new());
        for (path, file) in security.passwords() {
            let checker = match self.passwords.get(path) {
                Some(known) => {
                    passwords.push((Arc::clone(known), Arc::clone(file)));
                    Arc::clone(known)
                }
                None => Arc::new(Passwords::new(path, Arc::clone(file))?),
            };
            next.passwords.insert(path.clone(), checker);
        }
        for (path, file) in security.scram() {
            let checker = match self.scram.get(path) {
                Some(known) => {
                    scram.push((Arc::clone(known), Arc::clone(file)));
                    Arc::clone(known)
                }
                None => Arc::new(Scram::new(path, Arc::clone(file))?),
            };
            next.scram.insert(path.clone(), checker);
        }
        for hook in security.hooks() {
            if next.hook(hook).is_none() {
                // One that was there keeps its connections and its count of requests.
                let hook = self.hook(hook).unwrap_or(hook);
                next.hooks.push(Arc::clone(hook));
            }
        }
        Ok(Prepared {
            security,
            next,
            passwords,
            scram,
        })
    }

    /// True if tokens or hooks may judge otherwise than before.
    fn apply(&mut self, prepared: Prepared, doors: &Few<u16, usize>) -> bool {
        let Prepared {
            security,
            mut next,
            passwords,
            scram,
        } = prepared;
        for (checker, file) in passwords {
            checker.replace(file);
        }
        for (checker, file) in scram {
            checker.replace(file);
        }
        for (number, place) in doors {
            let Some(door) = security.door(*place) else {
                continue;
            };
            let realm = next.realm(self, *number, &security, door);
            next.realms.insert(*number, realm);
        }
        let judges_alike = self.realms.iter().all(|(number, old)| {
            let new = next.realms.get(number);
            new.is_none_or(|new| old.judges_admissions_by(new.jwt.as_ref(), new.hook.as_ref()))
        });
        *self = next;
        !judges_alike
    }

    /// What holds at one listener from here on, with what can be kept of before.
    fn realm(&self, before: &Self, number: u16, security: &Security, door: &Door) -> Realm {
        let policy = security.policy(door);
        let rules = match before.realms.get(&number) {
            Some(open) => {
                open.rules.replace(policy);
                Arc::clone(&open.rules)
            }
            None => Arc::new(Rules::new(policy)),
        };
        let passwords = door
            .password_file()
            .and_then(|path| self.passwords.get(path));
        let scram = door.scram_file().and_then(|path| self.scram.get(path));
        Realm {
            passwords: passwords.cloned(),
            scram: scram.cloned(),
            jwt: security.jwt(door),
            hook: door.hook.as_ref().and_then(|hook| self.hook(hook)).cloned(),
            takes_certificates: door.takes_certificates,
            allow_anonymous: door.allow_anonymous,
            rules,
        }
    }

    /// The hook that asks like this one, if there is one.
    fn hook(&self, like: &HttpHook) -> Option<&Arc<HttpHook>> {
        self.hooks.iter().find(|hook| hook.asks_like(like))
    }

    fn welcomes(&self) -> Few<u16, Welcome> {
        let realms = self.realms.iter();
        realms
            .map(|(number, realm)| (*number, realm.welcome()))
            .collect()
    }
}

impl Realm {
    fn welcome(&self) -> Welcome {
        Welcome {
            passwords: self.passwords.as_ref().map(|passwords| passwords.current()),
            scram: self.scram.as_ref().map(|scram| scram.current()),
            allow_anonymous: self.allow_anonymous,
            takes_certificates: self.takes_certificates,
        }
    }

    /// Whether tokens and hooks that let somebody in would do so with these as well.
    fn judges_admissions_by(
        &self,
        jwt: Option<&(Arc<JwtKeys>, JwtRules)>,
        hook: Option<&Arc<HttpHook>>,
    ) -> bool {
        let has_same_keys = match (&self.jwt, jwt) {
            (None, None) => true,
            (Some((keys, rules)), Some((others, other_rules))) => {
                keys.are_same(others) && rules == other_rules
            }
            (Some(_), None) | (None, Some(_)) => false,
        };
        let asks_alike = match (&self.hook, hook) {
            (None, None) => true,
            (Some(hook), Some(other)) => hook.asks_like(other),
            (Some(_), None) | (None, Some(_)) => false,
        };
        has_same_keys && asks_alike
    }

    fn listener(&self) -> ListenerAuth {
        let mut methods: Vec<Arc<dyn Method>> = Vec::new();
        if self.takes_certificates {
            methods.push(Arc::new(Certificates));
        }
        if let Some(scram) = &self.scram {
            methods.push(Arc::<Scram>::clone(scram));
        }
        if let Some((keys, rules)) = &self.jwt {
            methods.push(Arc::new(Jwt::new(Arc::clone(keys), rules.clone())));
        }
        if let Some(passwords) = &self.passwords {
            methods.push(Arc::<Passwords>::clone(passwords));
        }
        // Whatever gets so far is decided there.
        if let Some(hook) = &self.hook {
            methods.push(Arc::<HttpHook>::clone(hook));
        }
        ListenerAuth {
            methods,
            allow_anonymous: self.allow_anonymous,
            rules: Some(Arc::<Rules>::clone(&self.rules)),
        }
    }
}

impl Expulsions {
    /// Whether a client that is connected would not be let in again as it was: its listener is gone, its user was taken out of
    /// the file or has another password, certificates name nobody any more, or it has no name and needs one. Whom tokens and
    /// hooks let in they are asked about themselves.
    pub(crate) fn concern(&self, listener: u16, identity: &Identity) -> bool {
        self.reason(listener, identity).is_some()
    }

    fn reason(&self, listener: u16, identity: &Identity) -> Option<&'static str> {
        let Some(after) = self.after.get(&listener) else {
            return Some("its listener is closed");
        };
        let Some(user) = &identity.user else {
            return (!after.allow_anonymous).then_some("it has no user name and needs one");
        };
        let before = self.before.get(&listener)?;
        let passwords = before.passwords.as_ref().filter(|file| file.has_user(user));
        let scram = before.scram.as_ref().filter(|file| file.has_user(user));
        let has_password = passwords.is_none_or(|before| {
            let after = after.passwords.as_ref();
            after.is_some_and(|after| before.has_same_password(after, user))
        });
        let has_scram = scram.is_none_or(|before| {
            let after = after.scram.as_ref();
            after.is_some_and(|after| before.has_same_password(after, user))
        });
        if !has_password || !has_scram {
            return Some("its password is another or its user is gone");
        }
        // Who is in no file came in by other means.
        let is_in_a_file = passwords.is_some() || scram.is_some();
        let lost_name = !is_in_a_file && before.takes_certificates && !after.takes_certificates;
        lost_name.then_some("certificates name nobody any more")
    }
}
