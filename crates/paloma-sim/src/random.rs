//! Everything that is drawn by lot, from streams that do not disturb each other.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A stream of random choices.
#[derive(Clone, Debug)]
pub(crate) struct Random(ChaCha8Rng);

impl Random {
    /// The stream `salt` of a seed. Streams are independent, so that leaving a step out of a plan leaves the others as
    /// they were.
    pub(crate) fn stream(seed: u64, salt: u64) -> Self {
        let mut bytes = [0; 32];
        let (first, rest) = bytes.split_at_mut(8);
        first.copy_from_slice(&seed.to_le_bytes());
        if let Some(second) = rest.first_chunk_mut() {
            *second = salt.to_le_bytes();
        }
        Self(ChaCha8Rng::from_seed(bytes))
    }

    /// A number below `bound`; 0 for a bound of 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        // The bias of the remainder does not matter for bounds this small.
        self.0.next_u64().checked_rem(bound).unwrap_or(0)
    }

    /// A number of the range, both ends included.
    pub(crate) fn within(&mut self, (low, high): (u64, u64)) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// A small index.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    /// True so many times in a hundred.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of several.
    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        from.get(self.index(from.len())).copied()
    }

    /// One of several, the first if there is a choice of none.
    pub(crate) fn one_of<T: Copy, const N: usize>(&mut self, from: [T; N]) -> T {
        let [first, ..] = from.as_slice() else {
            unreachable!("nobody chooses from nothing");
        };
        self.pick(&from).unwrap_or(*first)
    }

    /// 32 bytes for somebody else's generator.
    pub(crate) fn seed(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.0.fill_bytes(&mut bytes);
        bytes
    }
}
