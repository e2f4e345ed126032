//! Seeded hashing.

use core::fmt;
use core::hash::Hasher as _;

use foldhash::SharedSeed;
use foldhash::fast::FoldHasher;

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

/// Hash functions of one seed, for an [`Index`](crate::Index).
#[derive(Clone)]
pub struct Hashing {
    // Held here, not taken from a global, so that its words are as secret as the seed.
    shared: SharedSeed,
    first: u64,
}

impl Hashing {
    /// The functions of this seed.
    #[must_use]
    pub const fn new(seed: HashSeed) -> Self {
        Self {
            shared: SharedSeed::from_u64(seed.0),
            first: seed.0.rotate_left(32),
        }
    }

    /// The hash of a whole text.
    #[must_use]
    pub fn text(&self, text: &str) -> Hashed {
        let mut hasher = FoldHasher::with_seed(self.first, &self.shared);
        hasher.write(text.as_bytes());
        Hashed::of(hasher.finish())
    }

    /// The hash of a level below a node.
    pub(crate) fn edge(&self, parent: u32, level: &[u8]) -> Hashed {
        let mut hasher = FoldHasher::with_seed(self.first, &self.shared);
        hasher.write(level);
        hasher.write_u32(parent);
        Hashed::of(hasher.finish())
    }
}

impl fmt::Debug for Hashing {
    /// Keeps the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hashing(..)")
    }
}

/// A hash as an [`Index`](crate::Index) keeps it. A short one suffices: a lookup always compares what it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hashed(u32);

impl Hashed {
    /// The hash of a number that no peer can choose, under every seed the same.
    #[must_use]
    pub const fn of_number(number: u64) -> Self {
        Self::of(spread(number))
    }

    #[expect(clippy::cast_possible_truncation, reason = "half of a hash is a hash")]
    const fn of(hash: u64) -> Self {
        Self((hash ^ (hash >> 32)) as u32)
    }

    /// Spreads the bits, since a hash table takes some from both ends.
    pub(crate) const fn widen(self) -> u64 {
        spread(self.0 as u64)
    }

    /// The bits above the lowest `shift`, which are no part of a place in a table of 2^`shift` places.
    pub(crate) const fn high(self, shift: u32) -> usize {
        (self.0 >> shift) as usize
    }
}

const fn spread(number: u64) -> u64 {
    number.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}
