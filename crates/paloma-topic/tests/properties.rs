//! What must hold of the trie and the map under any sequence of operations.

use std::collections::{BTreeMap, BTreeSet};

use paloma_topic::{
    Cursor, FilterTrie, HashSeed, Hashed, Hashing, Index, Pages, TopicFilter, TopicMap, TopicName,
    TopicNameRef, Walk,
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

/// Steps of many ids each, since an index of few has one segment.
#[derive(Clone, Debug)]
enum IndexStep {
    Insert(u32),
    Remove(u32),
    /// So many ids go, and others come in their places.
    Replace(u32),
}

fn index_step() -> impl Strategy<Value = IndexStep> {
    prop_oneof![
        3 => (0_u32..4_000).prop_map(IndexStep::Insert),
        2 => (0_u32..4_000).prop_map(IndexStep::Remove),
        1 => (0_u32..500).prop_map(IndexStep::Replace),
    ]
}

/// An index of which some ids have the same hash, and what it should hold.
struct Indexed {
    index: Index,
    hashing: Hashing,
    /// Each id with its key.
    model: BTreeMap<u32, u32>,
    last: u32,
}

impl Indexed {
    fn hash(&self, key: u32) -> Hashed {
        self.hashing.text(&key.to_string())
    }

    fn take_step(&mut self, step: &IndexStep) {
        match *step {
            IndexStep::Insert(count) => {
                for _ in 0..count {
                    self.last += 1;
                    let key = self.last / 2;
                    self.index.insert(self.hash(key), self.last);
                    self.model.insert(self.last, key);
                }
            }
            IndexStep::Remove(count) => {
                for _ in 0..count {
                    // Now the oldest, now the newest.
                    let gone = match self.model.len() % 2 {
                        0 => self.model.pop_first(),
                        _ => self.model.pop_last(),
                    };
                    if let Some((id, key)) = gone {
                        self.index.remove(self.hash(key), id);
                    }
                }
            }
            IndexStep::Replace(count) => {
                for _ in 0..count {
                    if let Some((id, key)) = self.model.pop_first() {
                        self.last += 1;
                        self.index.replace(self.hash(key), id, self.last);
                        self.model.insert(self.last, key);
                    }
                }
            }
        }
    }

    fn check(&self) {
        assert_eq!(self.index.len(), self.model.len());
        for (&id, &key) in &self.model {
            let found = self.index.find(self.hash(key), |other| other == id);
            assert_eq!(found, Some(id));
        }
        for id in self.last + 1..self.last + 100 {
            assert_eq!(self.index.find(self.hash(id), |other| other == id), None);
        }
    }
}

#[derive(Clone, Debug)]
enum PagesStep {
    Push(usize),
    Pop(usize),
    Change(usize),
}

fn pages_step() -> impl Strategy<Value = PagesStep> {
    prop_oneof![
        3 => (0_usize..2_000).prop_map(PagesStep::Push),
        2 => (0_usize..2_000).prop_map(PagesStep::Pop),
        2 => any::<usize>().prop_map(PagesStep::Change),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn pages_hold_what_a_vector_holds(steps in vec(pages_step(), 0..40)) {
        let (mut pages, mut model) = (Pages::new(), Vec::new());
        for step in steps {
            match step {
                PagesStep::Push(count) => {
                    for value in 0..count {
                        pages.push(value);
                        model.push(value);
                    }
                }
                PagesStep::Pop(count) => {
                    for _ in 0..count {
                        prop_assert_eq!(pages.pop(), model.pop());
                    }
                }
                PagesStep::Change(place) => {
                    let place = place % (model.len() + 1);
                    let changed = pages.get_mut(place).map(|value| std::mem::replace(value, 9));
                    let expected = model.get_mut(place).map(|value| std::mem::replace(value, 9));
                    prop_assert_eq!(changed, expected);
                }
            }
            prop_assert_eq!((pages.len(), pages.is_empty()), (model.len(), model.is_empty()));
            prop_assert_eq!((pages.get(model.len()), pages.last()), (None, model.last()));
            prop_assert!(pages.iter().eq(&model));
        }
    }

    #[test]
    fn the_index_finds_what_a_plain_map_has(
        seed in any::<u64>(),
        steps in vec(index_step(), 0..20),
    ) {
        let mut indexed = Indexed {
            index: Index::new(),
            hashing: Hashing::new(HashSeed::new(seed)),
            model: BTreeMap::new(),
            last: 0,
        };
        for step in &steps {
            indexed.take_step(step);
            indexed.check();
        }
    }
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
