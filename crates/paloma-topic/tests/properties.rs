//! What must hold of the trie and the map under any sequence of operations.

use std::collections::{BTreeMap, BTreeSet};

use paloma_topic::{
    Cursor, FilterTrie, HashSeed, TopicFilter, TopicMap, TopicName, TopicNameRef, Walk,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Few and short levels, so that texts often share beginnings and often match.
fn topic() -> impl Strategy<Value = TopicName> {
    vec(select(vec!["a", "b", "", "ab", "$x"]), 1..5)
        .prop_map(|levels| levels.join("/"))
        .prop_filter_map("empty", |text| TopicName::new(text).ok())
}

fn filter() -> impl Strategy<Value = TopicFilter> {
    let levels = vec(select(vec!["a", "b", "", "$x", "+", "+"]), 0..5);
    (levels, any::<bool>())
        .prop_map(|(mut levels, below)| {
            levels.extend(below.then_some("#"));
            levels.join("/")
        })
        .prop_filter_map("empty", |text| TopicFilter::new(text).ok())
}

#[derive(Clone, Debug)]
enum TrieStep {
    Insert(TopicFilter),
    Remove(TopicFilter),
    Match(TopicName),
}

fn trie_step() -> impl Strategy<Value = TrieStep> {
    prop_oneof![
        3 => filter().prop_map(TrieStep::Insert),
        2 => filter().prop_map(TrieStep::Remove),
        3 => topic().prop_map(TrieStep::Match),
    ]
}

fn check_match(
    trie: &FilterTrie<usize>,
    model: &BTreeMap<TopicFilter, usize>,
    topic: TopicNameRef<'_>,
) {
    let mut found = Vec::new();
    trie.for_each_match(topic, |&value| found.push(value));
    found.sort_unstable();
    let matching = model.iter().filter(|(filter, _)| filter.matches(topic));
    let mut expected: Vec<usize> = matching.map(|(_, &value)| value).collect();
    expected.sort_unstable();
    assert_eq!(found, expected, "{topic}");
}

#[derive(Clone, Debug)]
enum MapStep {
    Insert(TopicName),
    Remove(TopicName),
    Walk(usize),
}

fn map_step() -> impl Strategy<Value = MapStep> {
    prop_oneof![
        2 => topic().prop_map(MapStep::Insert),
        2 => topic().prop_map(MapStep::Remove),
        3 => (1_usize..4).prop_map(MapStep::Walk),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_trie_finds_what_the_definition_says(
        seed in any::<u64>(),
        steps in vec(trie_step(), 0..80),
    ) {
        let mut trie = FilterTrie::new(HashSeed::new(seed));
        let mut model = BTreeMap::new();
        for (value, step) in steps.into_iter().enumerate() {
            match step {
                TrieStep::Insert(filter) => {
                    prop_assert_eq!(trie.insert(filter.borrowed(), value), model.insert(filter, value));
                }
                TrieStep::Remove(filter) => {
                    prop_assert_eq!(trie.remove(filter.borrowed()), model.remove(&filter));
                }
                TrieStep::Match(topic) => check_match(&trie, &model, topic.borrowed()),
            }
            prop_assert_eq!(trie.len(), model.len());
        }
        for (filter, value) in &model {
            let id = trie.id(filter.borrowed()).unwrap();
            let mut text = String::new();
            prop_assert!(trie.write_filter(id, &mut text));
            prop_assert_eq!(text.as_str(), filter.as_str());
            prop_assert_eq!(trie.get_by_id(id), Some(value));
        }
    }

    #[test]
    fn the_order_of_matches_depends_on_the_filters_alone(
        filters in vec(filter(), 0..40),
        topic in topic(),
    ) {
        let order = |filters: &mut dyn Iterator<Item = &TopicFilter>, seed| {
            let mut trie = FilterTrie::new(HashSeed::new(seed));
            for filter in filters {
                trie.insert(filter.borrowed(), filter.clone());
            }
            let mut found = Vec::new();
            trie.for_each_match(topic.borrowed(), |filter| found.push(filter.clone()));
            found
        };
        prop_assert_eq!(order(&mut filters.iter(), 1), order(&mut filters.iter().rev(), 2));
    }

    #[test]
    fn a_walk_finds_what_the_definition_says(
        topics in vec(topic(), 0..60),
        filter in filter(),
        budget in 1_usize..20,
    ) {
        let mut map = TopicMap::new(HashSeed::new(1));
        for topic in &topics {
            map.insert(topic.borrowed(), topic.clone());
        }
        let mut cursor = Cursor::new();
        let mut found = Vec::new();
        let mut walk = Walk::Paused;
        while walk == Walk::Paused {
            let before = found.len();
            walk = map.walk(filter.borrowed(), &mut cursor, budget, |topic, value| {
                assert_eq!(topic.as_str(), value.as_str());
                found.push(topic.to_owned());
            });
            prop_assert!(found.len() - before <= budget);
        }
        found.sort_unstable();
        let all: BTreeSet<&TopicName> = topics.iter().collect();
        let matching = all.into_iter().filter(|topic| filter.matches(topic.borrowed()));
        prop_assert_eq!(found.iter().collect::<Vec<_>>(), matching.collect::<Vec<_>>());
    }

    #[test]
    fn a_walk_over_a_changing_map_passes_each_lasting_topic_once(
        topics in vec(topic(), 0..40),
        filter in filter(),
        steps in vec(map_step(), 0..80),
    ) {
        let mut map = TopicMap::new(HashSeed::new(1));
        let mut present = BTreeSet::new();
        for (generation, topic) in topics.into_iter().enumerate() {
            map.insert(topic.borrowed(), generation);
            present.insert(topic);
        }
        let mut lasting: BTreeSet<TopicName> = present.clone();
        let mut cursor = Cursor::new();
        let mut visits = Vec::new();
        for step in steps.into_iter().chain([MapStep::Walk(10_000)]) {
            match step {
                MapStep::Insert(topic) => {
                    map.insert(topic.borrowed(), 0);
                    present.insert(topic);
                }
                MapStep::Remove(topic) => {
                    let removed = map.remove(topic.borrowed());
                    prop_assert_eq!(removed.is_some(), present.remove(&topic));
                    lasting.remove(&topic);
                }
                MapStep::Walk(budget) => {
                    let walk = map.walk(filter.borrowed(), &mut cursor, budget, |topic, _| {
                        assert!(filter.matches(topic), "{topic}");
                        assert!(present.contains(topic.as_str()), "{topic}");
                        visits.push(topic.to_owned());
                    });
                    prop_assert_eq!(cursor.is_done(), walk == Walk::Done);
                }
            }
            prop_assert_eq!(map.len(), present.len());
        }
        prop_assert!(cursor.is_done());
        let mut found = BTreeSet::new();
        let walk = map.walk(filter.borrowed(), &mut Cursor::new(), 10_000, |topic, _| {
            assert!(found.insert(topic.to_owned()), "{topic}");
        });
        prop_assert_eq!(walk, Walk::Done);
        present.retain(|topic| filter.matches(topic.borrowed()));
        prop_assert_eq!(found, present);
        for topic in lasting {
            let times = visits.iter().filter(|&visited| *visited == topic).count();
            prop_assert_eq!(times, usize::from(filter.matches(topic.borrowed())), "{}", topic);
        }
    }
}
