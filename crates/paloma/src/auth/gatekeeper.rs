//! Lets clients in by the rules of the listener that they came through.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use paloma_auth::{Certificates, Chain, ListenerAuth, Method, PasswordFile, Passwords, Problems};
use paloma_broker::{Authenticator, Authorizer, Identity};

use super::files::Security;
use super::rules::Rules;

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
    realms: BTreeMap<u16, Realm>,
    passwords: BTreeMap<PathBuf, Arc<Passwords>>,
}

/// What holds for the clients of one listener.
#[derive(Debug)]
struct Realm {
    passwords: Option<Arc<Passwords>>,
    takes_certificates: bool,
    allow_anonymous: bool,
    rules: Arc<Rules>,
}

/// Who has lost the right to be connected when other files came into force.
#[derive(Debug)]
pub(crate) struct Expulsions {
    /// The users whose password was in a file before, by listener.
    before: BTreeMap<u16, Arc<PasswordFile>>,
    after: BTreeMap<u16, Welcome>,
}

/// Who may come in through a listener.
#[derive(Debug)]
struct Welcome {
    users: Option<Arc<PasswordFile>>,
    allow_anonymous: bool,
}

impl Gatekeeper {
    /// A gatekeeper of listeners that are open under the numbers of `doors`; each value is the listener's place in
    /// the configuration.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub(crate) fn new(security: Security, doors: &BTreeMap<u16, usize>) -> Result<Self, Problems> {
        let gatekeeper = Self {
            chain: Arc::new(Chain::new(
                Vec::new(),
                security.failed_logins_per_minute_max,
            )),
            state: Mutex::default(),
            default_rules: Arc::new(Rules::new(security.default_policy())),
        };
        gatekeeper.apply(security, doors)?;
        Ok(gatekeeper)
    }

    /// Puts other files in force, for the listeners that are open from here on. The caller tells the broker that its rules
    /// have changed, and sends away whom this expels.
    ///
    /// # Errors
    /// The system gives no random bytes; nothing has changed then.
    pub(crate) fn apply(
        &self,
        security: Security,
        doors: &BTreeMap<u16, usize>,
    ) -> Result<Expulsions, Problems> {
        let failures_max = security.failed_logins_per_minute_max;
        let default_policy = security.default_policy();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = state.users();
        state.apply(security, doors)?;
        self.default_rules.replace(default_policy);
        let realms = state.realms.iter();
        let listeners = realms.map(|(number, realm)| (*number, realm.listener()));
        self.chain.replace(listeners, failures_max);
        Ok(Expulsions {
            before,
            after: state.welcomes(),
        })
    }

    /// Decides who a client is, by the listener that it comes through.
    pub(crate) fn authenticator(&self) -> Arc<dyn Authenticator> {
        Arc::<Chain>::clone(&self.chain)
    }

    /// What the core asks about sessions whose client has not come in through here.
    pub(crate) fn default_rules(&self) -> Arc<dyn Authorizer> {
        Arc::<Rules>::clone(&self.default_rules)
    }
}

impl State {
    fn apply(
        &mut self,
        mut security: Security,
        doors: &BTreeMap<u16, usize>,
    ) -> Result<(), Problems> {
        // What can fail comes first.
        let mut passwords = BTreeMap::new();
        let mut replaced = Vec::new();
        for (path, file) in security.take_passwords() {
            let known = self.passwords.get(&path).map(Arc::clone);
            let checker = match known {
                Some(known) => {
                    replaced.push((Arc::clone(&known), file));
                    known
                }
                None => Arc::new(Passwords::new(&path, file)?),
            };
            passwords.insert(path, checker);
        }
        for (checker, file) in replaced {
            checker.replace(file);
        }
        let mut realms = BTreeMap::new();
        for (number, place) in doors {
            let Some(door) = security.door(*place) else {
                continue;
            };
            let policy = security.policy(door);
            let rules = match self.realms.get(number) {
                Some(open) => {
                    open.rules.replace(policy);
                    Arc::clone(&open.rules)
                }
                None => Arc::new(Rules::new(policy)),
            };
            let realm = Realm {
                passwords: door
                    .password_file()
                    .and_then(|path| passwords.get(path).cloned()),
                takes_certificates: door.takes_certificates,
                allow_anonymous: door.allow_anonymous,
                rules,
            };
            realms.insert(*number, realm);
        }
        *self = Self { realms, passwords };
        Ok(())
    }

    fn users(&self) -> BTreeMap<u16, Arc<PasswordFile>> {
        let of = |(number, realm): (&u16, &Realm)| Some((*number, realm.users()?));
        self.realms.iter().filter_map(of).collect()
    }

    fn welcomes(&self) -> BTreeMap<u16, Welcome> {
        let of = |(number, realm): (&u16, &Realm)| {
            let welcome = Welcome {
                users: realm.users(),
                allow_anonymous: realm.allow_anonymous,
            };
            (*number, welcome)
        };
        self.realms.iter().map(of).collect()
    }
}

impl Realm {
    fn users(&self) -> Option<Arc<PasswordFile>> {
        self.passwords.as_ref().map(|passwords| passwords.current())
    }

    fn listener(&self) -> ListenerAuth {
        let mut methods: Vec<Arc<dyn Method>> = Vec::new();
        if self.takes_certificates {
            methods.push(Arc::new(Certificates));
        }
        if let Some(passwords) = &self.passwords {
            methods.push(Arc::<Passwords>::clone(passwords));
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
    /// the file or has another password, or it has no name and needs one.
    pub(crate) fn concern(&self, listener: u16, identity: &Identity) -> bool {
        let Some(welcome) = self.after.get(&listener) else {
            return true;
        };
        let Some(user) = &identity.user else {
            return !welcome.allow_anonymous;
        };
        // Who was not in the file came in by other means, which the file says nothing about.
        let Some(before) = self
            .before
            .get(&listener)
            .filter(|users| users.has_user(user))
        else {
            return false;
        };
        !welcome
            .users
            .as_ref()
            .is_some_and(|users| before.has_same_password(users, user))
    }
}
