//! Client ids that the broker makes.

use bytestring::ByteString;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Draws ids of 128 bits from a cipher's stream, so that nobody who knows some can guess another one.
pub(crate) struct ClientIds {
    random: ChaCha20Rng,
    prefix: String,
    /// Taken in place of the next two numbers of the stream.
    given: Option<[u64; 2]>,
}

impl std::fmt::Debug for ClientIds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientIds")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl ClientIds {
    pub(crate) fn new(seed: [u8; 32], prefix: String) -> Self {
        Self {
            random: ChaCha20Rng::from_seed(seed),
            prefix,
            given: None,
        }
    }

    /// What the next id is made of.
    pub(crate) fn peek(&self) -> [u64; 2] {
        let mut random = self.random.clone();
        self.given
            .unwrap_or_else(|| [random.next_u64(), random.next_u64()])
    }

    /// Has the next id made of these.
    pub(crate) const fn give(&mut self, numbers: [u64; 2]) {
        self.given = Some(numbers);
    }

    /// The next id, behind this prefix or that of the broker.
    pub(crate) fn next(&mut self, prefix: Option<&str>) -> ByteString {
        let [high, low] = match self.given.take() {
            Some(numbers) => numbers,
            None => [self.random.next_u64(), self.random.next_u64()],
        };
        let prefix = prefix.unwrap_or(&self.prefix);
        ByteString::from(format!("{prefix}{high:016x}{low:016x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_128_bits_after_the_prefix_and_differ() {
        let mut ids = ClientIds::new([7; 32], "site-".into());
        let (first, second) = (ids.next(None), ids.next(None));
        assert_ne!(first, second);
        assert_eq!(first.strip_prefix("site-").map(str::len), Some(32));
        let third = ids.next(Some("door-"));
        assert_eq!(third.strip_prefix("door-").map(str::len), Some(32));
    }

    #[test]
    fn what_is_given_is_taken_once_in_place_of_the_seeds_own() {
        let mut one = ClientIds::new([1; 32], String::new());
        let mut two = ClientIds::new([2; 32], String::new());
        two.give(one.peek());
        assert_eq!(one.next(None), two.next(None));
        assert_ne!(one.next(None), two.next(None));
    }

    #[test]
    fn the_same_seed_gives_the_same_ids() {
        let mut one = ClientIds::new([1; 32], String::new());
        let mut two = ClientIds::new([1; 32], String::new());
        assert_eq!(one.next(None), two.next(None));
    }
}
