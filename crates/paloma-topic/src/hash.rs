//! Seeded hashing, and the hash index that the trie and the map are built on.

use core::fmt;
use core::hash::Hasher as _;

use foldhash::SharedSeed;
use foldhash::fast::FoldHasher;
use hashbrown::HashTable;

/// What a table's hashing starts from.
///
/// Peers choose the topics and filters, so a broker draws the seed at random, once a start, and keeps it to
/// itself: whoever knows it can make every lookup slow. Nothing that this crate answers, and no order in
/// which it answers, depends on the seed, so tests and simulations may use any.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HashSeed(u64);

impl HashSeed {
    /// Takes a random number.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }
}

impl fmt::Debug for HashSeed {
    /// Keeps the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashSeed(..)")
    }
}

/// Hash functions of one seed. Short hashes suffice: a lookup always compares what it finds.
#[derive(Clone)]
pub(crate) struct Hashing {
    // Held here, not taken from a global, so that its words are as secret as the seed.
    shared: SharedSeed,
    first: u64,
}

impl Hashing {
    pub(crate) const fn new(seed: HashSeed) -> Self {
        Self {
            shared: SharedSeed::from_u64(seed.0),
            first: seed.0.rotate_left(32),
        }
    }

    /// The hash of a whole text.
    pub(crate) fn text(&self, text: &str) -> Hash {
        let mut hasher = FoldHasher::with_seed(self.first, &self.shared);
        hasher.write(text.as_bytes());
        Hash::of(hasher.finish())
    }

    /// The hash of a level below a node.
    pub(crate) fn edge(&self, parent: u32, level: &[u8]) -> Hash {
        let mut hasher = FoldHasher::with_seed(self.first, &self.shared);
        hasher.write(level);
        hasher.write_u32(parent);
        Hash::of(hasher.finish())
    }
}

/// A hash as the index keeps it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hash(u32);

impl Hash {
    #[expect(clippy::cast_possible_truncation, reason = "half of a hash is a hash")]
    const fn of(hash: u64) -> Self {
        Self((hash ^ (hash >> 32)) as u32)
    }

    /// Spreads the bits, since a hash table takes some from both ends.
    fn widen(self) -> u64 {
        u64::from(self.0).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }
}

/// Finds ids by hash; hides the table, so that nobody can depend on its order.
///
/// It keeps each id's hash: growing then touches nothing but the table, and a lookup follows an id
/// only when 32 bits agree.
#[derive(Clone, Default)]
pub(crate) struct Index(HashTable<(Hash, u32)>);

impl Index {
    /// Looks an id up.
    pub(crate) fn find(&self, hash: Hash, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let found = self
            .0
            .find(hash.widen(), |&(other, id)| other == hash && is_it(id));
        found.map(|&(_, id)| id)
    }

    /// Adds an id that is not there.
    pub(crate) fn insert(&mut self, hash: Hash, id: u32) {
        self.0
            .insert_unique(hash.widen(), (hash, id), |&(hash, _)| hash.widen());
    }

    /// Takes an id out, and gives memory back when most of it is unused.
    pub(crate) fn remove(&mut self, hash: Hash, id: u32) {
        let found = self.0.find_entry(hash.widen(), |&(_, other)| other == id);
        debug_assert!(found.is_ok(), "an id that is removed was inserted");
        if let Ok(entry) = found {
            entry.remove();
        }
        if self.0.len() < self.0.capacity() / 8 {
            self.0
                .shrink_to(self.0.len() * 2, |&(hash, _)| hash.widen());
        }
    }
}
