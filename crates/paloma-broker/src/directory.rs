//! Sessions by what they are called outside: by client id, and by number.

use paloma_topic::{HashSeed, Hashed, Hashing, Index};

use crate::session::{SessionEntry, SessionKey};
use crate::slab::Slab;
use crate::store::SessionId;

/// Finds sessions by their names, which stand in the sessions alone: a place of an index is eight bytes and not forty.
#[derive(Debug)]
pub(crate) struct Directory {
    by_client_id: Index,
    by_number: Index,
    hashing: Hashing,
}

impl Directory {
    pub(crate) fn new(seed: HashSeed) -> Self {
        Self {
            by_client_id: Index::new(),
            by_number: Index::new(),
            hashing: Hashing::new(seed),
        }
    }

    /// The session that a client id stands for.
    pub(crate) fn client(
        &self,
        sessions: &Slab<SessionEntry>,
        client_id: &str,
    ) -> Option<SessionKey> {
        let is_it = |session: &SessionEntry| *session.principal.client_id == *client_id;
        find(
            sessions,
            &self.by_client_id,
            self.hashing.text(client_id),
            is_it,
        )
    }

    pub(crate) fn number(
        &self,
        sessions: &Slab<SessionEntry>,
        id: SessionId,
    ) -> Option<SessionKey> {
        find(sessions, &self.by_number, hash(id), |session| {
            session.id == id
        })
    }

    /// Has a session found by its number.
    pub(crate) fn insert_number(&mut self, sessions: &Slab<SessionEntry>, key: SessionKey) {
        let Some(session) = sessions.get(key) else {
            return;
        };
        debug_assert!(
            self.number(sessions, session.id).is_none(),
            "a number is given once"
        );
        self.by_number.insert(hash(session.id), key.index);
    }

    /// Has a session found by its client id. Gives the one that was found by it before.
    pub(crate) fn insert_client(
        &mut self,
        sessions: &Slab<SessionEntry>,
        key: SessionKey,
    ) -> Option<SessionKey> {
        let client_id = &*sessions.get(key)?.principal.client_id;
        let hash = self.hashing.text(client_id);
        let earlier = self.client(sessions, client_id);
        match earlier {
            Some(earlier) => self.by_client_id.replace(hash, earlier.index, key.index),
            None => self.by_client_id.insert(hash, key.index),
        }
        earlier
    }

    /// Forgets a session that is about to be removed. Its client id may stand for another one already.
    pub(crate) fn remove(&mut self, session: &SessionEntry, key: SessionKey) {
        let client_id = self.hashing.text(&session.principal.client_id);
        if self
            .by_client_id
            .find(client_id, |index| index == key.index)
            .is_some()
        {
            self.by_client_id.remove(client_id, key.index);
        }
        self.by_number.remove(hash(session.id), key.index);
    }
}

/// Numbers are the broker's own.
const fn hash(id: SessionId) -> Hashed {
    Hashed::of_number(id.0)
}

/// The session of an index's entry for which `is_it` is true.
fn find(
    sessions: &Slab<SessionEntry>,
    index: &Index,
    hash: Hashed,
    is_it: impl Fn(&SessionEntry) -> bool,
) -> Option<SessionKey> {
    let found = index.find(hash, |index| sessions.at(index).is_some_and(&is_it))?;
    sessions.key_at(found)
}
