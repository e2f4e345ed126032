//! Who may do what: rules that the world changes while the broker runs, and the oracle asks too.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use paloma_broker::{Action, Authorizer, Grant, Identity};
use paloma_topic::{TopicFilterRef, TopicNameRef};

use crate::plan::TOPICS;

/// What hostile clients may use, and nobody else does.
pub(crate) const HOSTILE_TOPIC: &str = "evil";

/// The user that hostile clients log in as.
pub(crate) const HOSTILE_USER: &str = "mallory";

/// A topic that a client may not write or read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Denial {
    client_id: String,
    is_write: bool,
    topic: String,
}

#[derive(Debug, Default)]
struct State {
    denied: BTreeSet<Denial>,
    /// Every denial ever made, and the version that it came with.
    history: Vec<(u64, Denial)>,
    version: u64,
}

/// Allows everything but what is denied.
#[derive(Debug, Default)]
pub(crate) struct Rules(Mutex<State>);

impl Rules {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a rule or takes it back.
    pub(crate) fn set(&self, client_id: &str, is_write: bool, topic: &str, is_denied: bool) {
        let mut state = self.state();
        let denial = Denial {
            client_id: client_id.to_owned(),
            is_write,
            topic: topic.to_owned(),
        };
        state.version += 1;
        if is_denied {
            let version = state.version;
            state.history.push((version, denial.clone()));
            state.denied.insert(denial);
        } else {
            state.denied.remove(&denial);
        }
    }

    /// Takes everything back.
    pub(crate) fn clear(&self) {
        let mut state = self.state();
        state.version += 1;
        state.denied.clear();
    }

    /// Counts up with every change.
    pub(crate) fn version(&self) -> u64 {
        self.state().version
    }

    pub(crate) fn may(&self, client_id: &str, is_write: bool, topic: &str) -> bool {
        // Nobody else hears what hostile clients say.
        (is_write || topic != HOSTILE_TOPIC)
            && !self.state().denied.contains(&Denial {
                client_id: client_id.to_owned(),
                is_write,
                topic: topic.to_owned(),
            })
    }

    /// Whether the client was kept from reading the topic at any time after `version`.
    pub(crate) fn was_unreadable(&self, client_id: &str, topic: &str, version: u64) -> bool {
        let is_it = |denial: &Denial| {
            !denial.is_write && denial.client_id == client_id && denial.topic == topic
        };
        let state = self.state();
        state.denied.iter().any(is_it)
            || state
                .history
                .iter()
                .any(|(at, denial)| *at > version && is_it(denial))
    }

    /// Whether any rule about reading was made after `version`.
    pub(crate) fn changed_since(&self, version: u64) -> bool {
        self.version() > version
    }
}

fn is_hostile(identity: &Identity) -> bool {
    identity.user.as_deref() == Some(HOSTILE_USER)
}

impl Authorizer for Rules {
    fn is_allowed(
        &self,
        identity: &Identity,
        client_id: &str,
        action: Action,
        topic: TopicNameRef<'_>,
    ) -> bool {
        if is_hostile(identity) {
            return topic.as_str() == HOSTILE_TOPIC;
        }
        self.may(client_id, action == Action::Write, topic.as_str())
    }

    fn grant(&self, identity: &Identity, client_id: &str, filter: TopicFilterRef<'_>) -> Grant {
        if is_hostile(identity) {
            return if filter.as_str() == HOSTILE_TOPIC {
                Grant::AllAllowed
            } else {
                Grant::Denied
            };
        }
        let may_read = |topic: &str| self.may(client_id, false, topic);
        if !filter.has_wildcard() {
            return if may_read(filter.as_str()) {
                Grant::AllAllowed
            } else {
                Grant::Denied
            };
        }
        let is_partly_denied = TOPICS.iter().chain([&HOSTILE_TOPIC]).any(|topic| {
            !may_read(topic) && TopicNameRef::new(topic).is_ok_and(|name| filter.matches(name))
        });
        if is_partly_denied {
            Grant::CheckEach
        } else {
            Grant::AllAllowed
        }
    }

    fn epoch(&self) -> u16 {
        // Wraps: only whether it is another one counts, and no world changes its rules so often.
        u16::try_from(self.version() % 65_536).unwrap_or(0)
    }
}
