//! How a store is opened.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// What an acknowledgement promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// What was acknowledged survives a power cut: each group is synced before it.
    #[default]
    Ack,
    /// It survives the end of the process, `kill -9` included; a power cut may lose anything, up to the whole store.
    Os,
    /// The last [`interval`](Options::interval) may be lost, also with the process; everything before survives a power cut.
    Interval,
    /// It survives a clean stop only.
    None,
}

impl Durability {
    /// Every level, the strongest first.
    pub const ALL: [Self; 4] = [Self::Ack, Self::Os, Self::Interval, Self::None];

    /// Its name in configurations.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ack => "ack",
            Self::Os => "os",
            Self::Interval => "interval",
            Self::None => "none",
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that no level has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownDurability;

impl fmt::Display for UnknownDurability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the durability is one of ack, os, interval, none")
    }
}

impl std::error::Error for UnknownDurability {}

impl FromStr for Durability {
    type Err = UnknownDurability;

    fn from_str(name: &str) -> Result<Self, UnknownDurability> {
        let mut all = Self::ALL.into_iter();
        all.find(|level| level.name() == name)
            .ok_or(UnknownDurability)
    }
}

/// How a store is opened. [`Options::default`] is what `paloma serve` does without a configuration.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What an acknowledgement promises.
    pub durability: Durability,
    /// With [`Durability::Interval`]: how much time may be lost.
    pub interval: Duration,
    /// Space that is kept ready, so that a full medium can still be emptied.
    pub reserve_bytes: u64,
    /// Above so many bytes the store says that it is full.
    pub store_bytes_max: u64,
    /// Length of each of the log's halves, in whole pages, 32 MiB at most: so much is committed by being appended to one before
    /// the engine's file takes it over, while groups go to the other. A group of more than a sixteenth of it goes to the file at
    /// once. 0 is no log, and only `Ack` and `Os` use one.
    pub log_bytes: u64,
    /// Most memory for pages of the file.
    pub cache_bytes: usize,
    /// The time since whenever, never going back: [`Interval`](Durability::Interval) is measured by it, and how long the store
    /// has been at rest.
    pub clock: fn() -> Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            durability: Durability::Ack,
            interval: Duration::from_millis(100),
            reserve_bytes: 64 << 20,
            store_bytes_max: 8 << 30,
            log_bytes: 4 << 20,
            cache_bytes: 64 << 20,
            clock: since_start,
        }
    }
}

/// The time since the first call.
fn since_start() -> Duration {
    use std::sync::OnceLock;

    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        for level in Durability::ALL {
            assert_eq!(level.to_string().parse(), Ok(level));
        }
        assert_eq!("always".parse::<Durability>(), Err(UnknownDurability));
    }
}
