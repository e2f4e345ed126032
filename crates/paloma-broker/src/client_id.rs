//! Client ids that the broker makes.

use bytestring::ByteString;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Draws ids of 128 bits from a cipher's stream, so that nobody who knows some can guess another one.
pub(crate) struct ClientIds {
    random: ChaCha20Rng,
    prefix: String,
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
        }
    }

    /// The next id, behind this prefix or that of the broker.
    pub(crate) fn next(&mut self, prefix: Option<&str>) -> ByteString {
        let (high, low) = (self.random.next_u64(), self.random.next_u64());
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
    fn the_same_seed_gives_the_same_ids() {
        let mut one = ClientIds::new([1; 32], String::new());
        let mut two = ClientIds::new([1; 32], String::new());
        assert_eq!(one.next(None), two.next(None));
    }
}
