//! `topic-grep FILTER… < topics`: prints the topics that match, each with the filters that it matches.

use std::{
    env,
    error::Error,
    io::{self, BufRead, Write},
};

use paloma_topic::{FilterTrie, HashSeed, TopicFilter, TopicNameRef};

fn main() -> Result<(), Box<dyn Error>> {
    // A program that strangers feed draws this at random.
    let mut filters = FilterTrie::new(HashSeed::new(1));
    for text in env::args().skip(1) {
        let filter = TopicFilter::new(text.clone()).map_err(|error| format!("{text}: {error}"))?;
        filters.insert(filter.borrowed(), text);
    }
    let mut out = io::stdout().lock();
    let mut matched = 0_u64;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let topic = TopicNameRef::new(&line).map_err(|error| format!("{line}: {error}"))?;
        let mut found = String::new();
        filters.for_each_match(topic, |filter| {
            found.push('\t');
            found.push_str(filter);
        });
        if !found.is_empty() {
            matched += 1;
            writeln!(out, "{line}{found}")?;
        }
    }
    writeln!(out, "{matched} matched")?;
    Ok(())
}
