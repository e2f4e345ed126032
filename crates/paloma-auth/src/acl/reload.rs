//! Rules that can be replaced while they are in use.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use paloma_broker::{Action, Authorizer, Grant, Identity};
use paloma_topic::{TopicFilterRef, TopicNameRef};

use super::AclRules;
use crate::Problems;

/// The rules of an ACL file, which can be read again while the broker runs.
///
/// A file that is broken changes nothing. The epoch counts up *behind* the rules: whoever keeps a grant reads the epoch
/// first and asks afterwards, so that a grant of older rules never carries the newer epoch.
#[derive(Debug)]
pub struct ReloadableRules {
    path: PathBuf,
    current: RwLock<Arc<AclRules>>,
    epoch: AtomicU16,
}

impl ReloadableRules {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// As [`AclRules::read`].
    pub fn read(path: &Path) -> Result<Self, Problems> {
        Ok(Self {
            current: RwLock::new(Arc::new(AclRules::read(path)?)),
            path: path.to_owned(),
            epoch: AtomicU16::new(0),
        })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file again.
    ///
    /// # Errors
    /// As [`AclRules::read`]; the rules stay as they were.
    pub fn reload(&self) -> Result<(), Problems> {
        self.replace(AclRules::read(&self.path)?);
        Ok(())
    }

    /// Puts other rules in force: the second half of a reload of several files, all of which have been read.
    pub fn replace(&self, rules: AclRules) {
        let rules = Arc::new(rules);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = rules;
        self.epoch.fetch_add(1, Ordering::Release);
    }

    /// The rules in force.
    #[must_use]
    pub fn current(&self) -> Arc<AclRules> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Authorizer for ReloadableRules {
    fn is_allowed(
        &self,
        identity: &Identity,
        client_id: &str,
        action: Action,
        topic: TopicNameRef<'_>,
    ) -> bool {
        let rules = self.current.read().unwrap_or_else(PoisonError::into_inner);
        rules.is_allowed(identity, client_id, action, topic)
    }

    fn grant(&self, identity: &Identity, client_id: &str, filter: TopicFilterRef<'_>) -> Grant {
        let rules = self.current.read().unwrap_or_else(PoisonError::into_inner);
        rules.grant(identity, client_id, filter)
    }

    fn epoch(&self) -> u16 {
        self.epoch.load(Ordering::Acquire)
    }
}
