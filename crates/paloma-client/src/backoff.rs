//! How long to wait before the next attempt to connect.

use std::time::Duration;

/// Waits that double from attempt to attempt, each shortened by chance by up to a half, so that
/// clients that lost the same broker do not come back together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The first wait. Default 250 ms.
    pub first: Duration,
    /// The longest wait. Default 30 s.
    pub max: Duration,
    /// Attempts in a row that may fail before the client gives up. Default: any number.
    pub attempts_max: Option<u32>,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(250),
            max: Duration::from_secs(30),
            attempts_max: None,
        }
    }
}

/// The waits of one client.
#[derive(Clone, Debug)]
pub(crate) struct Waits {
    backoff: Backoff,
    failed: u32,
    random: u64,
}

impl Waits {
    /// The waits of `backoff`; `seed` makes the chance.
    pub(crate) const fn new(backoff: Backoff, seed: u64) -> Self {
        // The generator stays at zero for ever.
        Self {
            backoff,
            failed: 0,
            random: if seed == 0 { 1 } else { seed },
        }
    }

    /// A connection was made: the next wait is the first.
    pub(crate) const fn reset(&mut self) {
        self.failed = 0;
    }

    /// The wait before the next attempt, or none if there is to be none.
    pub(crate) fn next_wait(&mut self) -> Option<Duration> {
        if self
            .backoff
            .attempts_max
            .is_some_and(|attempts_max| self.failed >= attempts_max)
        {
            return None;
        }
        let doubled = self.backoff.first.saturating_mul(1 << self.failed.min(20));
        self.failed = self.failed.saturating_add(1);
        let longest = doubled.min(self.backoff.max);
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let percent = 50 + u32::try_from(self.random % 51).unwrap_or(0);
        Some(longest.saturating_mul(percent) / 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_less_at_most_a_half() {
        let mut waits = Waits::new(Backoff::default(), 42);
        for longest in [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000] {
            let wait = waits.next_wait().unwrap();
            let longest = Duration::from_millis(longest);
            assert!(
                wait <= longest && wait >= longest / 2,
                "{wait:?} of {longest:?}"
            );
        }
        waits.reset();
        assert!(waits.next_wait().unwrap() <= Duration::from_millis(250));
    }

    #[test]
    fn clients_differ() {
        let wait = |seed: u64| Waits::new(Backoff::default(), seed).next_wait();
        let mut waits: Vec<_> = (0..20)
            .map(|seed| wait(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(seed)))
            .collect();
        waits.sort_unstable();
        waits.dedup();
        assert!(waits.len() > 10);
    }

    #[test]
    fn attempts_end() {
        let backoff = Backoff {
            attempts_max: Some(2),
            ..Backoff::default()
        };
        let mut waits = Waits::new(backoff, 0);
        assert!(waits.next_wait().is_some());
        assert!(waits.next_wait().is_some());
        assert_eq!(waits.next_wait(), None);
        waits.reset();
        assert!(waits.next_wait().is_some());
    }

    #[test]
    fn the_longest_possible_waits_do_not_overflow() {
        let backoff = Backoff {
            first: Duration::MAX,
            max: Duration::MAX,
            attempts_max: None,
        };
        let mut waits = Waits::new(backoff, u64::MAX);
        for _ in 0..100 {
            assert!(waits.next_wait().is_some());
        }
    }
}
