//! The rules of one listener's clients, which are replaced while they are asked.

use std::sync::atomic::{AtomicU16, Ordering};
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
    /// Counts up *behind* the policy: whoever keeps a grant reads it first and asks afterwards.
    epoch: AtomicU16,
}

impl Rules {
    pub(crate) fn new(policy: Policy) -> Self {
        Self {
            policy: RwLock::new(policy),
            epoch: AtomicU16::new(0),
        }
    }

    pub(crate) fn replace(&self, policy: Policy) {
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = policy;
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
        self.ask(|rules| rules.is_allowed(identity, client_id, action, topic))
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
