//! Seeds that failed once. They are run again for ever.

/// One of them, with the steps that were left of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The seed.
    pub seed: u64,
    /// The steps that are taken; all of them if there is no list.
    pub steps: Option<Vec<usize>>,
}

/// A line each: the seed, and what was wrong behind a `#`.
const SEEDS: &str = include_str!("../seeds.txt");

/// All of them, in the order in which they were found.
#[must_use]
pub fn kept_seeds() -> Vec<Kept> {
    let lines = SEEDS
        .lines()
        .map(|line| line.split('#').next().unwrap_or(""));
    let kept = lines.filter_map(|line| {
        let seed = line.trim().parse().ok()?;
        Some(Kept { seed, steps: None })
    });
    kept.collect()
}
