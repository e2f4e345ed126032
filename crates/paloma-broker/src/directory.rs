//! Sessions by what they are called outside: by client id, and by number.

use std::hash::BuildHasher;

use foldhash::fast::SeedableRandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::session::{SessionEntry, SessionKey};
use crate::slab::Slab;
use crate::store::SessionId;

/// Finds sessions by their names, which stand in the sessions alone: a place of a table is eight bytes and not forty.
/// Only ever looked up, never iterated.
#[derive(Debug)]
pub(crate) struct Directory {
    by_client_id: HashTable<SessionKey>,
    by_number: HashTable<SessionKey>,
    hasher: SeedableRandomState,
}

impl Directory {
    pub(crate) fn new(seed: u64) -> Self {
        let shared = foldhash::SharedSeed::global_fixed();
        Self {
            by_client_id: HashTable::new(),
            by_number: HashTable::new(),
            hasher: SeedableRandomState::with_seed(seed, shared),
        }
    }

    /// The session that a client id stands for.
    pub(crate) fn client(
        &self,
        sessions: &Slab<SessionEntry>,
        client_id: &str,
    ) -> Option<SessionKey> {
        let hash = self.hasher.hash_one(client_id);
        let found = self.by_client_id.find(hash, |key| {
            sessions
                .get(*key)
                .is_some_and(|session| *session.principal.client_id == *client_id)
        });
        found.copied()
    }

    pub(crate) fn number(
        &self,
        sessions: &Slab<SessionEntry>,
        id: SessionId,
    ) -> Option<SessionKey> {
        let hash = self.hasher.hash_one(id);
        let found = self.by_number.find(hash, |key| {
            sessions.get(*key).is_some_and(|session| session.id == id)
        });
        found.copied()
    }

    /// Has a session found by its number.
    pub(crate) fn insert_number(&mut self, sessions: &Slab<SessionEntry>, key: SessionKey) {
        let hasher = &self.hasher;
        let id = |key: &SessionKey| sessions.get(*key).map(|session| session.id);
        let hash = hasher.hash_one(id(&key).unwrap_or_default());
        let rehash = |key: &SessionKey| hasher.hash_one(id(key).unwrap_or_default());
        debug_assert!(
            self.by_number
                .find(hash, |other| id(other) == id(&key))
                .is_none(),
            "a number is given once"
        );
        self.by_number.insert_unique(hash, key, rehash);
    }

    /// Has a session found by its client id. Gives the one that was found by it before.
    pub(crate) fn insert_client(
        &mut self,
        sessions: &Slab<SessionEntry>,
        key: SessionKey,
    ) -> Option<SessionKey> {
        let hasher = &self.hasher;
        let client_id = |key: &SessionKey| {
            let session = sessions.get(*key);
            session.map_or("", |session| &*session.principal.client_id)
        };
        let hash = hasher.hash_one(client_id(&key));
        let entry = self.by_client_id.entry(
            hash,
            |other| client_id(other) == client_id(&key),
            |other| hasher.hash_one(client_id(other)),
        );
        match entry {
            Entry::Occupied(mut entry) => Some(std::mem::replace(entry.get_mut(), key)),
            Entry::Vacant(entry) => {
                entry.insert(key);
                None
            }
        }
    }

    /// Forgets a session that is about to be removed.
    pub(crate) fn remove(&mut self, session: &SessionEntry, key: SessionKey) {
        let hash = self.hasher.hash_one(&*session.principal.client_id);
        if let Ok(found) = self.by_client_id.find_entry(hash, |other| *other == key) {
            found.remove();
        }
        let hash = self.hasher.hash_one(session.id);
        if let Ok(found) = self.by_number.find_entry(hash, |other| *other == key) {
            found.remove();
        }
    }
}
