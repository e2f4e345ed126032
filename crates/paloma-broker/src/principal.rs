//! Who a session acts for, and the one place where the rules are asked.

use std::sync::Arc;

use bytestring::ByteString;
use paloma_topic::{Fault, TopicFilterRef, TopicNameRef};

use crate::auth::{Action, Authorizer, Grant, Identity};
use crate::mount::MountPoint;
use crate::store::Owner;

/// Who acts: shared by a session and by what it leaves behind.
#[derive(Debug)]
pub(crate) struct Principal {
    pub(crate) client_id: Box<str>,
    pub(crate) identity: Identity,
    /// Rules that the authenticator gave for this client alone; `None` for those of everybody.
    pub(crate) rules: Option<Arc<dyn Authorizer>>,
    /// What all names that it uses stand behind.
    pub(crate) mount: MountPoint,
    /// It came from this machine, over loopback, a Unix socket or within the process.
    pub(crate) is_local: bool,
}

impl Principal {
    /// What is stored of it.
    pub(crate) fn owner(&self) -> Owner {
        Owner {
            client_id: self.client_id(),
            user: self.identity.user.clone(),
            has_own_rules: self.rules.is_some(),
        }
    }

    /// The client id, to keep beside the session.
    pub(crate) fn client_id(&self) -> ByteString {
        ByteString::from(&*self.client_id)
    }

    fn rules<'a>(&'a self, everybody: &'a dyn Authorizer) -> &'a dyn Authorizer {
        self.rules.as_deref().unwrap_or(everybody)
    }

    /// Whether this client may do `action` with `topic`, by its own rules or those of everybody. Every path asks here:
    /// publish, will, retained, live delivery, queue, replay, shared. The broker's own topics are nobody's to write.
    pub(crate) fn may(
        &self,
        everybody: &dyn Authorizer,
        action: Action,
        topic: TopicNameRef<'_>,
    ) -> bool {
        if topic.is_reserved() && (action == Action::Write || !self.may_read_reserved(everybody)) {
            return false;
        }
        if !self.mount.reaches(topic.as_str()) {
            return false;
        }
        self.rules(everybody)
            .is_allowed(&self.identity, &self.client_id, action, topic)
    }

    /// Whether the rules are asked about the broker's own topics at all. What the rules do not decide about belongs to
    /// those who have proved to be somebody, and to this machine.
    fn may_read_reserved(&self, everybody: &dyn Authorizer) -> bool {
        self.is_local || self.identity.user.is_some() || self.rules(everybody).covers_reserved()
    }

    /// Whether this client may get a message, given what its subscription was granted and in which epoch.
    pub(crate) fn may_receive(
        &self,
        everybody: &dyn Authorizer,
        granted: (Grant, u16),
        topic: TopicNameRef<'_>,
    ) -> bool {
        let (grant, epoch) = granted;
        match grant {
            Grant::AllAllowed if epoch == self.epoch(everybody) || Fault::OldGrantsKept.is_on() => {
                true
            }
            Grant::Denied if epoch == self.epoch(everybody) => false,
            // The rules have changed since, or tell topics of one filter apart.
            Grant::AllAllowed | Grant::CheckEach | Grant::Denied => {
                self.may(everybody, Action::Read, topic)
            }
        }
    }

    /// What this client may read of the topics that `filter` matches, and the epoch in which that holds.
    pub(crate) fn grant(
        &self,
        everybody: &dyn Authorizer,
        filter: TopicFilterRef<'_>,
    ) -> (Grant, u16) {
        // Read first: rules that another thread replaces meanwhile then belong to a later epoch, and are asked again.
        let epoch = self.epoch(everybody);
        if filter.as_str().starts_with('$') && !self.may_read_reserved(everybody) {
            return (Grant::Denied, epoch);
        }
        if !self.mount.reaches(filter.as_str()) {
            return (Grant::Denied, epoch);
        }
        let grant = self
            .rules(everybody)
            .grant(&self.identity, &self.client_id, filter);
        match grant {
            // `house/#` matches `house`, and `house/$x`, which are out of reach behind `house/`.
            Grant::AllAllowed if !self.mount.is_none() => (Grant::CheckEach, epoch),
            Grant::AllAllowed | Grant::CheckEach | Grant::Denied => (grant, epoch),
        }
    }

    /// Whether what it may receive changes with everybody's rules only, so that it can be remembered by their epoch.
    pub(crate) fn follows_everybody(&self) -> bool {
        self.rules.is_none() && self.mount.is_none()
    }

    pub(crate) fn epoch(&self, everybody: &dyn Authorizer) -> u16 {
        self.rules(everybody).epoch()
    }

    /// Whether both follow the same rules, so that what one was granted holds for the other.
    pub(crate) fn has_rules_of(&self, other: &Self) -> bool {
        if self.is_local != other.is_local || self.mount != other.mount {
            return false;
        }
        match (&self.rules, &other.rules) {
            (None, None) => true,
            (Some(own), Some(others)) => Arc::ptr_eq(own, others),
            (Some(_), None) | (None, Some(_)) => false,
        }
    }
}

/// The rules of a client that had some of its own before the broker was started, until it comes back.
pub(crate) fn unknown_rules() -> Arc<dyn Authorizer> {
    Arc::new(UnknownRules)
}

/// Lets everything be kept for a client whose rights are not known before its next login. Nothing is delivered by it: what
/// waits is looked through under the rules that come with the login.
#[derive(Debug)]
struct UnknownRules;

impl Authorizer for UnknownRules {
    fn is_allowed(
        &self,
        _identity: &Identity,
        _client_id: &str,
        _action: Action,
        _topic: TopicNameRef<'_>,
    ) -> bool {
        true
    }

    fn grant(&self, _identity: &Identity, _client_id: &str, _filter: TopicFilterRef<'_>) -> Grant {
        Grant::AllAllowed
    }
}
