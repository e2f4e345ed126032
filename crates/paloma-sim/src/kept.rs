//! Seeds that are run again for ever: those that failed once, and those that show the faults that code can be built with.

/// A seed that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The seed.
    pub seed: u64,
    /// The era in which it failed.
    pub era: u32,
}

/// A seed that shows a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bite {
    /// The fault's name.
    pub fault: String,
    /// The era in which the seed shows it.
    pub era: u32,
    /// The seed.
    pub seed: u64,
    /// What did not hold.
    pub invariant: String,
}

/// A line each: the era, the seed, and what was wrong behind a `#`.
const SEEDS: &str = include_str!("../seeds.txt");

/// A line each: the era, the seed, the fault, and what did not hold.
const BITES: &str = include_str!("../bites.txt");

const BITES_HEAD: &str = "\
# Which seed of which era shows which fault of crates/paloma-topic/src/fault.rs, and what does not hold in it. Written by
# `cargo xtask sim --bites --record`; `cargo xtask sim --bites --known` runs them.
";

fn lines(text: &str) -> impl Iterator<Item = &str> {
    let lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or("").trim());
    lines.filter(|line| !line.is_empty())
}

/// All that failed once, in the order in which they were found.
#[must_use]
pub fn kept_seeds() -> Vec<Kept> {
    let kept = lines(SEEDS).filter_map(|line| {
        let (era, seed) = line.split_once(' ')?;
        Some(Kept {
            seed: seed.parse().ok()?,
            era: era.parse().ok()?,
        })
    });
    kept.collect()
}

/// A seed for each fault.
#[must_use]
pub fn bites() -> Vec<Bite> {
    read_bites(BITES)
}

fn read_bites(text: &str) -> Vec<Bite> {
    let bites = lines(text).filter_map(|line| {
        let mut words = line.split(' ');
        let (era, seed, fault, invariant) =
            (words.next()?, words.next()?, words.next()?, words.next()?);
        Some(Bite {
            fault: fault.to_owned(),
            era: era.parse().ok()?,
            seed: seed.parse().ok()?,
            invariant: invariant.to_owned(),
        })
    });
    bites.collect()
}

/// The text of `bites.txt`.
#[must_use]
pub fn write_bites(bites: &[Bite]) -> String {
    let lines = bites.iter().map(|bite| {
        format!(
            "{} {} {} {}\n",
            bite.era, bite.seed, bite.fault, bite.invariant
        )
    });
    std::iter::once(BITES_HEAD.to_owned())
        .chain(lines)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_of_faults_are_read_as_they_are_written() {
        assert_eq!(write_bites(&read_bites(BITES)), BITES);
    }
}
