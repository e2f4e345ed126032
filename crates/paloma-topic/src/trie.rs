//! An index from topics to the filters that match them.

use alloc::boxed::Box;
use alloc::string::String;
use core::fmt;

use crate::hash::{HashSeed, Hashing};
use crate::index::Index;
use crate::slab::{ID_END, Slab};
use crate::wild::WildTree;
use crate::{TopicFilterRef, TopicNameRef};

/// Marks the ids of filters with wildcards.
const WILD: u32 = ID_END;

/// What an entry of an index costs, room to grow included.
pub(crate) const INDEX_BYTES: usize = 16;

/// Names a filter of one [`FilterTrie`] in four bytes, as long as the filter is in it.
///
/// The id of a removed filter may be given to another one later. Ids depend on the order of insertions and
/// removals alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilterId(u32);

/// A map from topic filters to values, which finds the values of all filters that match a topic.
///
/// [`TopicFilterRef::matches`] is the definition of what is found. Filters without wildcards cost one hash
/// lookup for all of them together; filters with wildcards live in a tree, of which a match reaches at most
/// the nodes whose levels agree with the topic's. Nothing recurses, and matching allocates nothing.
///
/// Everything that comes out, ids and the order of matches included, is the same under every [`HashSeed`].
#[derive(Clone)]
pub struct FilterTrie<V> {
    hashing: Hashing,
    exact: Slab<Exact<V>>,
    exact_index: Index,
    /// Bytes of the texts in `exact`.
    exact_text: usize,
    wild: WildTree<V>,
}

#[derive(Clone)]
struct Exact<V> {
    text: Box<str>,
    value: V,
}

impl<V> FilterTrie<V> {
    /// An empty trie.
    #[must_use]
    pub fn new(seed: HashSeed) -> Self {
        Self {
            hashing: Hashing::new(seed),
            exact: Slab::new(),
            exact_index: Index::default(),
            exact_text: 0,
            wild: WildTree::new(),
        }
    }

    /// How many filters there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.exact.len() + self.wild.len()
    }

    /// Whether there are no filters.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// About how many bytes of heap the trie owns, what values own not counted. Costs nothing to ask.
    #[must_use]
    pub const fn heap_bytes(&self) -> usize {
        let each = size_of::<Exact<V>>() + INDEX_BYTES;
        self.exact.len() * each + self.exact_text + self.wild.heap_bytes()
    }

    /// The id of a filter that is there.
    #[must_use]
    pub fn id(&self, filter: TopicFilterRef<'_>) -> Option<FilterId> {
        match filter.as_name() {
            Some(name) => self.find_exact(name).map(FilterId),
            None => {
                let entry = self.wild.find(&self.hashing, filter.as_str())?;
                Some(FilterId(entry | WILD))
            }
        }
    }

    /// The value of exactly this filter.
    #[must_use]
    pub fn get(&self, filter: TopicFilterRef<'_>) -> Option<&V> {
        self.get_by_id(self.id(filter)?)
    }

    /// The value of exactly this filter, to change it.
    #[must_use]
    pub fn get_mut(&mut self, filter: TopicFilterRef<'_>) -> Option<&mut V> {
        self.get_mut_by_id(self.id(filter)?)
    }

    /// The value of the filter with this id.
    #[must_use]
    pub fn get_by_id(&self, id: FilterId) -> Option<&V> {
        match id.wild() {
            Some(entry) => self.wild.get(entry),
            None => self.exact.get(id.0).map(|exact| &exact.value),
        }
    }

    /// The value of the filter with this id, to change it.
    #[must_use]
    pub fn get_mut_by_id(&mut self, id: FilterId) -> Option<&mut V> {
        match id.wild() {
            Some(entry) => self.wild.get_mut(entry),
            None => self.exact.get_mut(id.0).map(|exact| &mut exact.value),
        }
    }

    /// Writes the text of the filter with this id at the end of `out`; `false` if there is none.
    ///
    /// Whoever keeps the id need not keep the text.
    #[must_use]
    pub fn write_filter(&self, id: FilterId, out: &mut String) -> bool {
        match (id.wild(), self.exact.get(id.0)) {
            (Some(entry), _) => self.wild.write_filter(entry, out),
            (None, Some(exact)) => {
                out.push_str(&exact.text);
                true
            }
            (None, None) => false,
        }
    }

    /// Sets a filter's value and returns the one it had.
    ///
    /// # Panics
    /// When there are 2³¹ filters already.
    pub fn insert(&mut self, filter: TopicFilterRef<'_>, value: V) -> Option<V> {
        if let Some(present) = self.get_mut(filter) {
            return Some(core::mem::replace(present, value));
        }
        self.add(filter, value);
        None
    }

    /// The filter's id and value; the value is made first if the filter is not there.
    ///
    /// # Panics
    /// When there are 2³¹ filters already.
    pub fn insert_with(
        &mut self,
        filter: TopicFilterRef<'_>,
        make: impl FnOnce() -> V,
    ) -> (FilterId, &mut V) {
        let id = match self.id(filter) {
            Some(id) => id,
            None => self.add(filter, make()),
        };
        (
            id,
            self.get_mut_by_id(id).expect("it was found or added above"),
        )
    }

    /// Takes a filter out and returns its value.
    pub fn remove(&mut self, filter: TopicFilterRef<'_>) -> Option<V> {
        self.remove_by_id(self.id(filter)?)
    }

    /// Takes the filter with this id out and returns its value.
    pub fn remove_by_id(&mut self, id: FilterId) -> Option<V> {
        if let Some(entry) = id.wild() {
            return self.wild.remove(&self.hashing, entry);
        }
        let exact = self.exact.remove(id.0)?;
        self.exact_text -= exact.text.len();
        self.exact_index
            .remove(self.hashing.text(&exact.text), id.0);
        Some(exact.value)
    }

    /// Calls `visit` with the value of each filter that matches `topic`, each once.
    ///
    /// The order is a function of the filters that are there, not of how they came: first the filter that is
    /// the topic itself, then shorter prefixes before longer, and a level as such before `+`.
    pub fn for_each_match(&self, topic: TopicNameRef<'_>, mut visit: impl FnMut(&V)) {
        if self.exact.len() > 0
            && let Some(exact) = self.find_exact(topic)
        {
            visit(&self.exact.at(exact).value);
        }
        if self.wild.len() > 0 {
            self.wild.for_each_match(&self.hashing, topic, &mut visit);
        }
    }

    fn find_exact(&self, name: TopicNameRef<'_>) -> Option<u32> {
        let text = name.as_str();
        self.exact_index.find(self.hashing.text(text), |id| {
            *self.exact.at(id).text == *text
        })
    }

    fn add(&mut self, filter: TopicFilterRef<'_>, value: V) -> FilterId {
        let text = filter.as_str();
        if filter.has_wildcard() {
            return FilterId(self.wild.insert(&self.hashing, text, value) | WILD);
        }
        self.exact_text += text.len();
        let id = self.exact.insert(Exact {
            text: Box::from(text),
            value,
        });
        self.exact_index.insert(self.hashing.text(text), id);
        FilterId(id)
    }
}

impl<V> fmt::Debug for FilterTrie<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FilterTrie")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl FilterId {
    /// The entry's id if the filter has wildcards.
    fn wild(self) -> Option<u32> {
        (self.0 & WILD != 0).then_some(self.0 & !WILD)
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::vec::Vec;

    use super::*;
    use crate::testing::in_small_stack;

    fn name(text: &str) -> TopicNameRef<'_> {
        TopicNameRef::new(text).unwrap()
    }

    fn filter(text: &str) -> TopicFilterRef<'_> {
        TopicFilterRef::new(text).unwrap()
    }

    fn trie_of(filters: &[&str], seed: u64) -> FilterTrie<String> {
        let mut trie = FilterTrie::new(HashSeed::new(seed));
        for text in filters {
            assert_eq!(trie.insert(filter(text), String::from(*text)), None);
        }
        trie
    }

    #[track_caller]
    fn check(filters: &[&str], topic: &str, expected: &[&str]) {
        let trie = trie_of(filters, 1);
        let mut found = Vec::new();
        trie.for_each_match(name(topic), |value| found.push(value.clone()));
        assert_eq!(found, expected, "{topic} against {filters:?}");
    }

    #[test]
    fn a_filter_keeps_the_value_set_last() {
        for text in ["a/b", "a/+", "a/#", "#", "+"] {
            let mut trie = FilterTrie::new(HashSeed::new(2));
            assert_eq!(trie.insert(filter(text), 1), None);
            assert_eq!(trie.insert(filter(text), 2), Some(1));
            let (id, value) = trie.insert_with(filter(text), || unreachable!());
            *value += 1;
            assert_eq!(trie.id(filter(text)), Some(id));
            assert_eq!((trie.get(filter(text)), trie.len()), (Some(&3), 1));
            assert_eq!(trie.remove(filter(text)), Some(3));
            assert_eq!((trie.remove(filter(text)), trie.is_empty()), (None, true));
        }
    }

    #[test]
    fn what_filters_cost_is_given_back_with_them() {
        let mut trie = FilterTrie::new(HashSeed::new(2));
        let empty = trie.heap_bytes();
        let mut grown = Vec::new();
        for text in ["a/long/filter", "b", "c/d"] {
            grown.push(trie.heap_bytes());
            trie.insert(filter(text), ());
            assert!(trie.heap_bytes() >= grown.last().unwrap() + text.len());
        }
        for text in ["c/d", "b", "a/long/filter"] {
            trie.remove(filter(text));
            assert_eq!(Some(trie.heap_bytes()), grown.pop(), "without {text}");
        }
        assert_eq!(trie.heap_bytes(), empty);
        let each = size_of::<Exact<()>>() + INDEX_BYTES;
        for n in 0..100 {
            trie.insert(filter(&std::format!("{n}")), ());
        }
        assert!(trie.heap_bytes() >= empty + 100 * each + 190);
    }

    #[test]
    fn matches_come_in_the_order_of_their_shape() {
        let filters = [
            "+/+", "#", "a/b", "a/+", "a/#", "+/b", "+/#", "a/b/#", "a/b/+", "b/b",
        ];
        let expected = ["a/b", "#", "a/#", "a/b/#", "a/+", "+/#", "+/b", "+/+"];
        check(&filters, "a/b", &expected);
        let mut reversed = filters;
        reversed.reverse();
        check(&reversed, "a/b", &expected);
    }

    #[test]
    fn a_multi_level_wildcard_finds_the_parent() {
        let filters = ["a/#", "a/+/#", "a/+", "+"];
        check(&filters, "a", &["a/#", "+"]);
        check(&filters, "a/b", &["a/#", "a/+", "a/+/#"]);
        check(&filters, "a/", &["a/#", "a/+", "a/+/#"]);
    }

    #[test]
    fn a_leading_wildcard_finds_no_reserved_topic() {
        // [MQTT-4.7.2-1] [MQTT311-4.7.2-1]
        let filters = ["#", "+", "+/#", "+/a", "$SYS/#", "$SYS/+", "$SYS/a"];
        check(&filters, "$SYS/a", &["$SYS/a", "$SYS/#", "$SYS/+"]);
        check(&filters, "$SYS", &["$SYS/#"]);
        check(&filters, "$other", &[]);
        check(&["+/$a/+", "+/+/b"], "/$a/b", &["+/$a/+", "+/+/b"]);
    }

    #[test]
    fn an_id_stands_for_its_filter() {
        let texts = [
            "a/b",
            "a/+",
            "a/+/c",
            "#",
            "a/#",
            "+",
            "+/",
            "/+",
            "//#",
            "a/b/+/d/#",
        ];
        let trie = trie_of(&texts, 3);
        for text in texts {
            let id = trie.id(filter(text)).unwrap();
            let mut written = String::new();
            assert!(trie.write_filter(id, &mut written));
            assert_eq!(written, text);
            assert_eq!(trie.get_by_id(id).map(String::as_str), Some(text));
        }
    }

    #[test]
    fn an_id_outlives_the_coming_and_going_of_others() {
        let mut trie = trie_of(&["a/b/c/+"], 4);
        let id = trie.id(filter("a/b/c/+")).unwrap();
        for other in ["a/b/#", "a/+", "a/b/c/#", "+/b/c/+"] {
            trie.insert(filter(other), String::new());
        }
        for other in ["a/b/#", "a/+", "a/b/c/#", "+/b/c/+"] {
            trie.remove(filter(other));
        }
        assert_eq!(trie.get_by_id(id).map(String::as_str), Some("a/b/c/+"));
        assert_eq!(trie.remove_by_id(id).as_deref(), Some("a/b/c/+"));
        assert_eq!(trie.get_by_id(id), None);
        assert_eq!(trie.remove_by_id(id), None);
        assert!(!trie.write_filter(id, &mut String::new()));
    }

    #[test]
    fn removal_frees_all_nodes() {
        let mut trie = FilterTrie::new(HashSeed::new(5));
        let texts: Vec<String> = (0..1_000)
            .map(|i| {
                format!(
                    "{}/+/{}/{i}{}",
                    i % 7,
                    i % 5,
                    if i % 2 == 0 { "" } else { "/#" }
                )
            })
            .collect();
        for text in &texts {
            trie.insert(filter(text), ());
        }
        for text in &texts {
            trie.remove(filter(text));
        }
        assert_eq!((trie.wild.node_count(), trie.len()), (1, 0));
    }

    #[test]
    fn a_lone_filter_costs_one_node() {
        let trie = trie_of(&["a/+/c/d/e", "b/+/+/#"], 6);
        assert_eq!(trie.wild.node_count(), 3);
    }

    #[test]
    fn the_order_of_matches_does_not_depend_on_the_seed() {
        let texts: Vec<String> = (0..64)
            .map(|bits| {
                let level = |bit: u32| if bits >> bit & 1 == 0 { "a" } else { "+" };
                let levels: Vec<&str> = (0..6).map(level).collect();
                levels.join("/")
            })
            .collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let orders: Vec<Vec<String>> = (0..8)
            .map(|seed| {
                let mut found = Vec::new();
                let topic = name("a/a/a/a/a/a");
                trie_of(&texts, seed).for_each_match(topic, |value| found.push(value.clone()));
                found
            })
            .collect();
        assert_eq!(orders[0].len(), 64);
        assert!(orders.windows(2).all(|pair| pair[0] == pair[1]));
    }

    #[test]
    fn deep_filters_need_no_deep_stack() {
        in_small_stack(|| {
            let deep = "/".repeat(65_535);
            let plus = format!("{}+", &deep[1..]);
            let hash = format!("{}#", &deep[1..]);
            let mut trie = trie_of(&[&plus, &hash, &deep], 7);
            let mut found = 0;
            trie.for_each_match(name(&deep), |_| found += 1);
            trie.for_each_match(name(&deep[1..]), |_| found += 1);
            assert_eq!(found, 4);
            for text in [&plus, &hash, &deep] {
                assert_eq!(trie.remove(filter(text)).as_ref(), Some(text));
            }
            assert_eq!(trie.wild.node_count(), 1);
        });
    }

    #[test]
    fn all_patterns_of_wildcards_over_128_levels_match() {
        in_small_stack(|| {
            let texts: Vec<String> = (0..1_000_u64)
                .map(|bits| {
                    let level = |bit: u64| {
                        if bits >> (bit % 10) & 1 == 0 {
                            "a"
                        } else {
                            "+"
                        }
                    };
                    let levels: Vec<&str> = (0..128).map(level).collect();
                    levels.join("/")
                })
                .collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let trie = trie_of(&texts, 8);
            let mut found = 0;
            trie.for_each_match(name(&["a"; 128].join("/")), |_| found += 1);
            assert_eq!(found, 1_000);
        });
    }
}
