//! Credentials that were verified a short while ago.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::time::Duration;

use paloma_session::Monotonic;
use ring::hmac;

use crate::{Fault, random};

/// How long a credential counts as verified.
pub(crate) const VALID: Duration = Duration::from_secs(60);
/// Most credentials kept; the oldest makes room.
pub(crate) const ENTRIES_MAX: usize = 1_024;

/// Verified credentials under a keyed hash, never in plain.
pub(crate) struct Cache {
    key: hmac::Key,
    until: HashMap<Credentials, Monotonic>,
    /// In the order in which they were verified, so also in the order in which they run out.
    order: VecDeque<Credentials>,
}

/// The keyed hash of a user, a password and the stored hash that it fits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Credentials([u8; 32]);

impl Cache {
    pub(crate) fn new() -> Result<Self, Fault> {
        Ok(Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &random::bytes::<32>()?),
            until: HashMap::new(),
            order: VecDeque::new(),
        })
    }

    /// The entry of these credentials. The stored hash is part of it, so that a changed password ends it.
    pub(crate) fn entry(&self, user: &str, password: &[u8], fingerprint: &[u8]) -> Credentials {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [user.as_bytes(), fingerprint, password] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut entry = [0; 32];
        entry.copy_from_slice(context.sign().as_ref());
        Credentials(entry)
    }

    /// A number below `count` that is always the same for one name and cannot be foretold.
    pub(crate) fn pick(&self, name: &str, count: usize) -> usize {
        let tag = hmac::sign(&self.key, name.as_bytes());
        let fold = |rest: usize, byte: &u8| (rest * 256 + usize::from(*byte)) % count.max(1);
        tag.as_ref().iter().fold(0, fold)
    }

    pub(crate) fn contains(&self, now: Monotonic, entry: &Credentials) -> bool {
        self.until.get(entry).is_some_and(|until| now < *until)
    }

    pub(crate) fn insert(&mut self, now: Monotonic, credentials: Credentials) {
        if self.contains(now, &credentials) {
            return; // verified twice at the same time
        }
        while let Some(oldest) = self.order.front() {
            let is_over = self.until.get(oldest).is_none_or(|until| *until <= now);
            if !is_over && self.order.len() < ENTRIES_MAX {
                break;
            }
            self.until.remove(oldest);
            self.order.pop_front();
        }
        self.until.insert(credentials, now.saturating_add(VALID));
        self.order.push_back(credentials);
    }

    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cache({} entries)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_lasts_for_its_time_and_not_longer() {
        let mut cache = Cache::new().unwrap();
        let entry = cache.entry("ann", b"secret", b"hash");
        let start = Monotonic::from_nanos(5);
        assert!(!cache.contains(start, &entry));
        cache.insert(start, entry);
        let end = start.saturating_add(VALID);
        assert!(cache.contains(Monotonic::from_nanos(end.as_nanos() - 1), &entry));
        assert!(!cache.contains(end, &entry));
    }

    #[test]
    fn user_password_and_stored_hash_all_count() {
        let mut cache = Cache::new().unwrap();
        let entry = cache.entry("ann", b"secret", b"hash");
        cache.insert(Monotonic::default(), entry);
        for (user, password, hash) in [
            ("ann", "secre", "hash"),
            ("an", "nsecret", "hash"),
            ("ann", "secret", "other"),
            ("bob", "secret", "hash"),
        ] {
            let other = cache.entry(user, password.as_bytes(), hash.as_bytes());
            assert!(!cache.contains(Monotonic::default(), &other));
        }
    }

    #[test]
    fn the_oldest_entry_makes_room() {
        let mut cache = Cache::new().unwrap();
        let entries: Vec<Credentials> = (0..=ENTRIES_MAX)
            .map(|n| cache.entry(&n.to_string(), b"", b""))
            .collect();
        for entry in &entries {
            cache.insert(Monotonic::default(), *entry);
            cache.insert(Monotonic::default(), *entry);
        }
        assert_eq!(cache.len(), ENTRIES_MAX);
        assert!(!cache.contains(Monotonic::default(), &entries[0]));
        assert!(cache.contains(Monotonic::default(), &entries[1]));
        assert!(cache.contains(Monotonic::default(), &entries[ENTRIES_MAX]));
    }
}
