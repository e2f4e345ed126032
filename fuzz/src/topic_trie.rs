//! Lines of operations on a `FilterTrie`, compared after each with a list and `matches`.
//!
//! `+filter` inserts, `-filter` removes, `?topic` matches. Lines that are none of these are skipped.

use std::collections::BTreeMap;

use paloma_topic::{FilterId, FilterTrie, HashSeed, TopicFilterRef, TopicNameRef};

/// A filter's id and value, as the trie should know them.
type Model<'a> = BTreeMap<TopicFilterRef<'a>, (FilterId, usize)>;

/// Runs the operations and checks what each one answers.
pub fn run(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let mut trie = FilterTrie::new(HashSeed::new(data.len() as u64));
    let mut model = Model::new();
    for (value, line) in text.lines().enumerate() {
        if let Some(filter) = line.strip_prefix('+').and_then(filter) {
            let before = model.get(&filter).map(|&(_, value)| value);
            assert_eq!(trie.insert(filter, value), before);
            let id = trie.id(filter).expect("it was inserted above");
            model.insert(filter, (id, value));
        } else if let Some(filter) = line.strip_prefix('-').and_then(filter) {
            let before = model.remove(&filter).map(|(_, value)| value);
            assert_eq!(trie.remove(filter), before);
        } else if let Some(topic) = line.strip_prefix('?') {
            let Ok(topic) = TopicNameRef::new(topic) else {
                continue;
            };
            check_match(&trie, &model, topic);
        }
        assert_eq!(trie.len(), model.len());
    }
    check_ids(&trie, &model);
    for (filter, (id, value)) in model {
        assert_eq!(trie.remove_by_id(id), Some(value), "{filter}");
    }
    assert!(trie.is_empty());
}

fn filter(text: &str) -> Option<TopicFilterRef<'_>> {
    TopicFilterRef::new(text).ok()
}

fn check_match(trie: &FilterTrie<usize>, model: &Model<'_>, topic: TopicNameRef<'_>) {
    let mut found = Vec::new();
    trie.for_each_match(topic, |&value| found.push(value));
    found.sort_unstable();
    let matching = model.iter().filter(|(filter, _)| filter.matches(topic));
    let mut expected: Vec<usize> = matching.map(|(_, &(_, value))| value).collect();
    expected.sort_unstable();
    assert_eq!(found, expected, "{topic:?}");
}

/// An id that was right once is right as long as its filter is there.
fn check_ids(trie: &FilterTrie<usize>, model: &Model<'_>) {
    for (filter, &(id, value)) in model {
        let mut text = String::new();
        assert!(trie.write_filter(id, &mut text));
        assert_eq!(text, filter.as_str());
        assert_eq!(trie.get_by_id(id), Some(&value));
        assert_eq!(trie.id(*filter), Some(id));
    }
}
