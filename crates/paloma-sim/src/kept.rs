//! Seeds that failed once. They are run again for ever.

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The seed.
    pub seed: u64,
    /// The era in which it failed.
    pub era: u32,
}

/// A line each: the era, the seed, and what was wrong behind a `#`.
const SEEDS: &str = include_str!("../seeds.txt");

/// All of them, in the order in which they were found.
#[must_use]
pub fn kept_seeds() -> Vec<Kept> {
    let lines = SEEDS
        .lines()
        .map(|line| line.split('#').next().unwrap_or(""));
    let kept = lines.filter_map(|line| {
        let (era, seed) = line.trim().split_once(' ')?;
        Some(Kept {
            seed: seed.parse().ok()?,
            era: era.parse().ok()?,
        })
    });
    kept.collect()
}
