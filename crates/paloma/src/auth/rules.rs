//! The rules of one listener's clients, which are replaced while they are asked.

use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

#[cfg(feature = "control")]
use paloma_auth::LostRight;
use paloma_auth::{AclRules, OpenTopics};
use paloma_broker::{Action, AllowAll, Authorizer, Grant, Identity};
use paloma_topic::{TopicFilterRef, TopicNameRef};

/// What decides about topics.
#[derive(Clone, Debug)]
pub(crate) enum Policy {
    /// Nothing is configured: what the broker itself does not forbid.
    Everything,
    /// Clients have names but there are no rules: what does not begin with `$`.
    Open,
    /// What a rule allows and none denies.
    Rules(Arc<AclRules>),
}

impl Policy {
    /// What a client loses when another policy takes the place of this one.
    #[cfg(feature = "control")]
    pub(super) fn lost(
        &self,
        after: &Self,
        identity: &Identity,
        client_id: &str,
    ) -> Vec<LostRight> {
        self.rules().lost(&after.rules(), identity, client_id)
    }

    /// The same as rules, of which some have to stand for what there are none about.
    #[cfg(feature = "control")]
    fn rules(&self) -> Arc<AclRules> {
        match self {
            Self::Everything | Self::Open => Arc::new(AclRules::open()),
            Self::Rules(rules) => Arc::clone(rules),
        }
    }

    /// Whether its [`authorizer`](Self::authorizer) says yes to everything.
    const fn allows_all(&self) -> bool {
        match self {
            Self::Everything => true,
            Self::Open | Self::Rules(_) => false,
        }
    }

    pub(super) fn authorizer(&self) -> &dyn Authorizer {
        match self {
            Self::Everything => &AllowAll,
            Self::Open => &OpenTopics,
            Self::Rules(rules) => &**rules,
        }
    }
}

/// A policy that can be replaced. Sessions hold it, so it stays the same value for as long as its listener is open.
#[derive(Debug)]
pub(crate) struct Rules {
    policy: RwLock<Policy>,
    /// Whether that is [`Policy::Everything`], which is asked for each message and needs no lock to say so. Changed with it.
    allows_all: AtomicBool,
    /// Counts up *behind* the policy: whoever keeps a grant reads it first and asks afterwards.
    epoch: AtomicU16,
}

impl Rules {
    pub(crate) fn new(policy: Policy) -> Self {
        Self {
            allows_all: AtomicBool::new(policy.allows_all()),
            policy: RwLock::new(policy),
            epoch: AtomicU16::new(0),
        }
    }

    pub(crate) fn replace(&self, policy: Policy) {
        let mut current = self.policy.write().unwrap_or_else(PoisonError::into_inner);
        self.allows_all
            .store(policy.allows_all(), Ordering::Release);
        *current = policy;
        drop(current);
        self.epoch.fetch_add(1, Ordering::Release);
    }

    #[cfg(feature = "control")]
    pub(super) fn policy(&self) -> Policy {
        let policy = self.policy.read().unwrap_or_else(PoisonError::into_inner);
        policy.clone()
    }

    fn ask<T>(&self, question: impl FnOnce(&dyn Authorizer) -> T) -> T {
        let policy = self.policy.read().unwrap_or_else(PoisonError::into_inner);
        question(policy.authorizer())
    }
}

impl Authorizer for Rules {
    fn is_allowed(
        &self,
        identity: &Identity,
        client_id: &str,
        action: Action,
        topic: TopicNameRef<'_>,
    ) -> bool {
        self.allows_all.load(Ordering::Acquire)
            || self.ask(|rules| rules.is_allowed(identity, client_id, action, topic))
    }

    fn grant(&self, identity: &Identity, client_id: &str, filter: TopicFilterRef<'_>) -> Grant {
        self.ask(|rules| rules.grant(identity, client_id, filter))
    }

    fn covers_reserved(&self) -> bool {
        self.ask(|rules| rules.covers_reserved())
    }

    fn epoch(&self) -> u16 {
        self.epoch.load(Ordering::Acquire)
    }
}
