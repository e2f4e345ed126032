//! The part of the trie that holds filters with wildcards.

use crate::Fault;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::mem;

use crate::TopicNameRef;
use crate::filter::levels_match;
use crate::hash::{Hash, Hashing, Index};
use crate::level::{last_level_offset, split_level};
use crate::slab::{NONE, Slab};
use crate::trie::INDEX_BYTES;

/// The node that stands for no level at all; it is always there.
const ROOT: u32 = 0;

/// A tree of filters, one node a level, in which a lone tail of levels stays folded into one node.
///
/// Literal children are found through one index for the whole tree; a `+` child and a `#` entry are fields
/// of the node, so an entry costs about a node, whatever the filter's depth. A tail is unfolded level by level
/// when another filter shares its beginning, and is not folded again while any filter is left below it.
#[derive(Clone)]
pub(crate) struct WildTree<V> {
    nodes: Slab<Node>,
    edges: Index,
    entries: Slab<Entry<V>>,
    /// Bytes of the filters' texts.
    text: usize,
}

#[derive(Clone)]
struct Node {
    /// The node's own level; in a leaf, then possibly a `/` and the folded tail.
    text: Box<str>,
    parent: u32,
    /// The child for the level `+`.
    plus: u32,
    /// The entry of the filter that ends here, or in a leaf at the end of its tail.
    entry: u32,
    /// The entry of the filter that ends with a `#` below this node.
    entry_below: u32,
    /// How many children the index holds.
    literals: u32,
}

#[derive(Clone)]
struct Entry<V> {
    node: u32,
    text_len: u32,
    value: V,
}

/// A node that a match has reached, and the part of the topic that is left.
#[derive(Clone, Copy)]
struct Reached {
    node: u32,
    /// Bytes of the node's own level.
    level_len: usize,
    /// Where the next level of the topic begins; one past the end if there is none.
    offset: usize,
}

impl<V> WildTree<V> {
    pub(crate) fn new() -> Self {
        let mut nodes = Slab::new();
        let root = nodes.insert(Node::new("", NONE));
        debug_assert_eq!(root, ROOT);
        Self {
            nodes,
            edges: Index::default(),
            entries: Slab::new(),
            text: 0,
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Nodes, entries, and the texts as they were inserted; common beginnings are counted as often as they are there.
    pub(crate) const fn heap_bytes(&self) -> usize {
        let nodes = self.nodes.len() * (size_of::<Node>() + INDEX_BYTES);
        nodes + self.entries.len() * size_of::<Entry<V>>() + self.text
    }

    pub(crate) fn get(&self, entry: u32) -> Option<&V> {
        self.entries.get(entry).map(|entry| &entry.value)
    }

    pub(crate) fn get_mut(&mut self, entry: u32) -> Option<&mut V> {
        self.entries.get_mut(entry).map(|entry| &mut entry.value)
    }

    /// Looks a filter up.
    pub(crate) fn find(&self, hashing: &Hashing, filter: &str) -> Option<u32> {
        let (mut id, mut rest) = (ROOT, Some(filter));
        let entry = loop {
            let node = self.nodes.at(id);
            if let Some(tail) = node.tail() {
                break if rest == Some(tail) { node.entry } else { NONE };
            }
            match rest {
                None => break node.entry,
                Some("#") => break node.entry_below,
                Some(text) => {
                    let (level, next) = split_level(text);
                    id = self.child(hashing, id, level)?;
                    rest = next;
                }
            }
        };
        (entry != NONE).then_some(entry)
    }

    /// Adds a filter that is not there.
    pub(crate) fn insert(&mut self, hashing: &Hashing, filter: &str, value: V) -> u32 {
        let text_len = u32::try_from(filter.len()).unwrap_or(u32::MAX);
        self.text += text_len as usize;
        let entry = self.entries.insert(Entry {
            node: ROOT,
            text_len,
            value,
        });
        let (mut id, mut rest) = (ROOT, filter);
        loop {
            self.unfold(hashing, id);
            if rest == "#" {
                self.attach(id, entry, true);
                return entry;
            }
            let (level, next) = split_level(rest);
            let Some(child) = self.child(hashing, id, level) else {
                let leaf = self.add_child(hashing, id, rest);
                self.attach(leaf, entry, false);
                return entry;
            };
            id = child;
            let Some(next) = next else {
                self.unfold(hashing, id);
                self.attach(id, entry, false);
                return entry;
            };
            rest = next;
        }
    }

    /// Takes an entry out, and with it the nodes that nothing else needs.
    pub(crate) fn remove(&mut self, hashing: &Hashing, entry: u32) -> Option<V> {
        let Entry {
            node: mut id,
            text_len,
            value,
        } = self.entries.remove(entry)?;
        self.text -= text_len as usize;
        let node = self.nodes.at_mut(id);
        if node.entry == entry {
            node.entry = NONE;
        } else {
            debug_assert_eq!(node.entry_below, entry, "an entry hangs on its node");
            node.entry_below = NONE;
        }
        while id != ROOT && self.nodes.at(id).is_unused() {
            id = self.remove_node(hashing, id);
        }
        Some(value)
    }

    /// Writes an entry's filter at the end of `out`; `false` if there is no such entry.
    pub(crate) fn write_filter(&self, entry: u32, out: &mut String) -> bool {
        let Some(Entry { node, .. }) = self.entries.get(entry) else {
            return false;
        };
        let mut id = *node;
        let mut parts = Vec::new();
        if self.nodes.at(id).entry_below == entry {
            parts.push("#");
        }
        while id != ROOT {
            let node = self.nodes.at(id);
            parts.push(&*node.text);
            id = node.parent;
        }
        for (position, part) in parts.into_iter().rev().enumerate() {
            if position > 0 {
                out.push('/');
            }
            out.push_str(part);
        }
        true
    }

    /// Calls `visit` with the value of each filter that matches `topic`.
    ///
    /// A depth-first walk that turns round at the end of each branch and climbs by parent: it needs no stack and
    /// reaches each node at most once.
    pub(crate) fn for_each_match(
        &self,
        hashing: &Hashing,
        topic: TopicNameRef<'_>,
        visit: &mut impl FnMut(&V),
    ) {
        let mut reached = Reached {
            node: ROOT,
            level_len: 0,
            offset: 0,
        };
        loop {
            let next = self.descend(hashing, topic, reached, visit);
            match next.or_else(|| self.turn(topic, reached)) {
                Some(next) => reached = next,
                None => return,
            }
        }
    }

    /// Visits what ends at a node, and finds the first child to go on with.
    fn descend(
        &self,
        hashing: &Hashing,
        topic: TopicNameRef<'_>,
        reached: Reached,
        visit: &mut impl FnMut(&V),
    ) -> Option<Reached> {
        let Reached {
            node: id,
            level_len,
            offset,
        } = reached;
        let node = self.nodes.at(id);
        let rest = topic.as_str().get(offset..);
        if let Some(tail) = node.text.get(level_len + 1..) {
            if levels_match(Some(tail), rest) {
                self.visit_entry(node.entry, visit);
            }
            return None;
        }
        let Some(rest) = rest else {
            self.visit_entry(node.entry, visit);
            if !Fault::HashMissesParent.is_on() {
                self.visit_entry(node.entry_below, visit);
            }
            return None;
        };
        if may_use_wildcard(id, topic) {
            self.visit_entry(node.entry_below, visit);
        }
        let level = split_level(rest).0;
        let offset = offset + level.len() + 1;
        if node.literals > 0
            && let Some(child) = self.literal_child(hashing, id, level)
        {
            return Some(Reached {
                node: child,
                level_len: level.len(),
                offset,
            });
        }
        self.plus_child(id, topic, offset)
    }

    /// Finds the nearest branch not yet taken: a `+` beside the way back to the root.
    fn turn(&self, topic: TopicNameRef<'_>, reached: Reached) -> Option<Reached> {
        let Reached {
            node: mut id,
            mut offset,
            ..
        } = reached;
        while id != ROOT {
            let parent = self.nodes.at(id).parent;
            if self.nodes.at(parent).plus != id
                && !Fault::PlusNotTried.is_on()
                && let Some(plus) = self.plus_child(parent, topic, offset)
            {
                return Some(plus);
            }
            id = parent;
            let above = topic.as_str().get(..offset - 1).unwrap_or_default();
            offset = last_level_offset(above);
        }
        None
    }

    fn plus_child(&self, id: u32, topic: TopicNameRef<'_>, offset: usize) -> Option<Reached> {
        let plus = self.nodes.at(id).plus;
        let is_open = plus != NONE && may_use_wildcard(id, topic);
        is_open.then_some(Reached {
            node: plus,
            level_len: 1,
            offset,
        })
    }

    fn visit_entry(&self, entry: u32, visit: &mut impl FnMut(&V)) {
        if entry != NONE {
            visit(&self.entries.at(entry).value);
        }
    }

    fn child(&self, hashing: &Hashing, parent: u32, level: &str) -> Option<u32> {
        if level == "+" {
            let plus = self.nodes.at(parent).plus;
            return (plus != NONE).then_some(plus);
        }
        self.literal_child(hashing, parent, level)
    }

    fn literal_child(&self, hashing: &Hashing, parent: u32, level: &str) -> Option<u32> {
        self.edges.find(hashing.edge(parent, level), |id| {
            let node = self.nodes.at(id);
            node.parent == parent && node.has_level(level)
        })
    }

    /// Hangs a new leaf below a node; its text may be several levels.
    fn add_child(&mut self, hashing: &Hashing, parent: u32, text: &str) -> u32 {
        let id = self.nodes.insert(Node::new(text, parent));
        let level = split_level(text).0;
        if level == "+" {
            self.nodes.at_mut(parent).plus = id;
        } else {
            self.edges.insert(hashing.edge(parent, level), id);
            self.nodes.at_mut(parent).literals += 1;
        }
        id
    }

    /// Takes a node out and returns its parent.
    fn remove_node(&mut self, hashing: &Hashing, id: u32) -> u32 {
        let node = self
            .nodes
            .remove(id)
            .expect("a node on the way to the root is there");
        let parent = node.parent;
        if self.nodes.at(parent).plus == id {
            self.nodes.at_mut(parent).plus = NONE;
        } else {
            self.edges.remove(edge_hash(hashing, &node), id);
            self.nodes.at_mut(parent).literals -= 1;
        }
        parent
    }

    fn attach(&mut self, id: u32, entry: u32, below: bool) {
        self.entries.at_mut(entry).node = id;
        let node = self.nodes.at_mut(id);
        let place = if below {
            &mut node.entry_below
        } else {
            &mut node.entry
        };
        debug_assert_eq!(*place, NONE, "only a filter that is not there is inserted");
        *place = entry;
    }

    /// Moves a leaf's tail into a child of its own, so that the leaf can have other children.
    fn unfold(&mut self, hashing: &Hashing, id: u32) {
        let node = self.nodes.at_mut(id);
        let Some(tail) = node.tail().map(Box::<str>::from) else {
            return;
        };
        node.text = Box::from(split_level(&node.text).0);
        let entry = mem::replace(&mut node.entry, NONE);
        if &*tail == "#" {
            self.attach(id, entry, true);
        } else {
            let child = self.add_child(hashing, id, &tail);
            self.attach(child, entry, false);
        }
    }

    #[cfg(test)]
    pub(crate) fn node_count(&self) -> usize {
        self.nodes.len()
    }
}

impl Node {
    fn new(text: &str, parent: u32) -> Self {
        let text = Box::from(text);
        Self {
            text,
            parent,
            plus: NONE,
            entry: NONE,
            entry_below: NONE,
            literals: 0,
        }
    }

    /// The folded levels below the node's own.
    fn tail(&self) -> Option<&str> {
        split_level(&self.text).1
    }

    fn has_level(&self, level: &str) -> bool {
        let after = self.text.strip_prefix(level);
        after.is_some_and(|after| after.is_empty() || after.starts_with('/'))
    }

    const fn is_unused(&self) -> bool {
        self.entry == NONE && self.entry_below == NONE && self.plus == NONE && self.literals == 0
    }
}

/// Whether a wildcard below this node may stand for the topic's next level. [MQTT-4.7.2-1]
fn may_use_wildcard(id: u32, topic: TopicNameRef<'_>) -> bool {
    id != ROOT || !topic.is_reserved()
}

fn edge_hash(hashing: &Hashing, node: &Node) -> Hash {
    hashing.edge(node.parent, split_level(&node.text).0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_costs_two_cache_lines_at_most() {
        assert_eq!(size_of::<Node>(), 40);
        assert_eq!(size_of::<Entry<u32>>(), 12);
    }

    #[test]
    fn each_node_counts_with_all_that_it_takes() {
        let mut tree = WildTree::new();
        let hashing = Hashing::new(crate::HashSeed::new(1));
        let empty = tree.heap_bytes();
        for n in 0..100 {
            tree.insert(&hashing, &std::format!("{n}/+"), n);
        }
        let grown = tree.heap_bytes() - empty;
        let each = size_of::<Node>() + INDEX_BYTES + size_of::<Entry<i32>>();
        assert!(grown >= 100 * each, "{grown} bytes for 100 nodes");
    }
}
