//! The part of the trie that holds filters with wildcards.

use crate::Fault;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::mem;

use crate::TopicNameRef;
use crate::filter::levels_match;
use crate::hash::{Hashed, Hashing};
use crate::index::Index;
use crate::level::{last_level_offset, split_level_bytes};
use crate::short::ShortText;
use crate::slab::{NONE, Slab};
use crate::trie::INDEX_BYTES;

/// The node that stands for no level at all; it is always there.
const ROOT: u32 = 0;

/// A tree of filters, one node a level, in which a lone tail of levels stays folded into one node.
///
/// Literal children are found through one index for the whole tree; a `+` child and a `#` entry are fields
/// of the node, so an entry costs about a node, whatever the filter's depth. A tail is unfolded level by level
/// when another filter shares its beginning, and is not folded again while any filter is left below it.
///
/// In a large tree nearly every line of memory that a match touches is far away, and how many those are is what it
/// costs. A node is one, its text included if that is short; finding a child touches two of the index; a value is where
/// its entry is.
#[derive(Clone)]
pub(crate) struct WildTree<V> {
    nodes: Slab<Node>,
    edges: Index,
    entries: Slab<Entry<V>>,
    /// Bytes of the nodes' texts that are not in the nodes.
    text: usize,
}

#[derive(Clone)]
#[repr(align(64))]
struct Node {
    /// The node's own level; in a leaf, then possibly a `/` and the folded tail.
    text: ShortText,
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
        let root = nodes.insert(Node::new(b"", NONE));
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

    /// Nodes, what the index has of them, long texts and entries.
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
        let (mut id, mut rest) = (ROOT, Some(filter.as_bytes()));
        let entry = loop {
            let node = self.nodes.at(id);
            if let Some(tail) = node.tail() {
                break if rest == Some(tail) { node.entry } else { NONE };
            }
            match rest {
                None => break node.entry,
                Some(b"#") => break node.entry_below,
                Some(text) => {
                    let (level, next) = split_level_bytes(text);
                    id = self.child(hashing, id, level)?;
                    rest = next;
                }
            }
        };
        (entry != NONE).then_some(entry)
    }

    /// Adds a filter that is not there.
    pub(crate) fn insert(&mut self, hashing: &Hashing, filter: &str, value: V) -> u32 {
        let entry = self.entries.insert(Entry { node: ROOT, value });
        let (mut id, mut rest) = (ROOT, filter.as_bytes());
        loop {
            self.unfold(hashing, id);
            if rest == b"#" {
                self.attach(id, entry, true);
                return entry;
            }
            let (level, next) = split_level_bytes(rest);
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
            value,
        } = self.entries.remove(entry)?;
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
        let mut parts: Vec<&[u8]> = Vec::new();
        if self.nodes.at(id).entry_below == entry {
            parts.push(b"#");
        }
        while id != ROOT {
            let node = self.nodes.at(id);
            parts.push(node.text.as_bytes());
            id = node.parent;
        }
        for (position, part) in parts.into_iter().rev().enumerate() {
            if position > 0 {
                out.push('/');
            }
            out.push_str(str::from_utf8(part).expect("a text that was cut at '/' is text"));
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
        let rest = topic.as_str().as_bytes().get(offset..);
        if let Some(tail) = node.text.as_bytes().get(level_len + 1..) {
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
        let level = split_level_bytes(rest).0;
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
        node.plus_child(id, topic, offset)
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
            let node = self.nodes.at(parent);
            if node.plus != id
                && !Fault::PlusNotTried.is_on()
                && let Some(plus) = node.plus_child(parent, topic, offset)
            {
                return Some(plus);
            }
            id = parent;
            let above = topic.as_str().as_bytes();
            let above = above.get(..offset - 1).unwrap_or_default();
            offset = last_level_offset(above);
        }
        None
    }

    fn visit_entry(&self, entry: u32, visit: &mut impl FnMut(&V)) {
        if entry != NONE {
            visit(&self.entries.at(entry).value);
        }
    }

    fn child(&self, hashing: &Hashing, parent: u32, level: &[u8]) -> Option<u32> {
        if level == b"+" {
            let plus = self.nodes.at(parent).plus;
            return (plus != NONE).then_some(plus);
        }
        self.literal_child(hashing, parent, level)
    }

    fn literal_child(&self, hashing: &Hashing, parent: u32, level: &[u8]) -> Option<u32> {
        self.edges.find(hashing.edge(parent, level), |id| {
            let node = self.nodes.at(id);
            node.parent == parent && node.has_level(level)
        })
    }

    /// Hangs a new leaf below a node; its text may be several levels.
    fn add_child(&mut self, hashing: &Hashing, parent: u32, text: &[u8]) -> u32 {
        let node = Node::new(text, parent);
        self.text += node.text.heap_bytes();
        let id = self.nodes.insert(node);
        let level = split_level_bytes(text).0;
        if level == b"+" {
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
        self.text -= node.text.heap_bytes();
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
        let (level, Some(tail)) = split_level_bytes(node.text.as_bytes()) else {
            return;
        };
        let (text, tail) = (ShortText::new(level), Box::<[u8]>::from(tail));
        self.text -= node.text.heap_bytes();
        self.text += text.heap_bytes();
        node.text = text;
        let entry = mem::replace(&mut node.entry, NONE);
        if &*tail == b"#" {
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
    fn new(text: &[u8], parent: u32) -> Self {
        Self {
            text: ShortText::new(text),
            parent,
            plus: NONE,
            entry: NONE,
            entry_below: NONE,
            literals: 0,
        }
    }

    /// The folded levels below the node's own.
    fn tail(&self) -> Option<&[u8]> {
        split_level_bytes(self.text.as_bytes()).1
    }

    fn has_level(&self, level: &[u8]) -> bool {
        let after = self.text.as_bytes().strip_prefix(level);
        after.is_some_and(|after| after.is_empty() || after.starts_with(b"/"))
    }

    /// The child for `+`, where the topic's next level may be one. The node is told its own id.
    fn plus_child(&self, id: u32, topic: TopicNameRef<'_>, offset: usize) -> Option<Reached> {
        let is_open = self.plus != NONE && may_use_wildcard(id, topic);
        is_open.then_some(Reached {
            node: self.plus,
            level_len: 1,
            offset,
        })
    }

    const fn is_unused(&self) -> bool {
        self.entry == NONE && self.entry_below == NONE && self.plus == NONE && self.literals == 0
    }
}

/// Whether a wildcard below this node may stand for the topic's next level. [MQTT-4.7.2-1]
fn may_use_wildcard(id: u32, topic: TopicNameRef<'_>) -> bool {
    id != ROOT || !topic.is_reserved()
}

fn edge_hash(hashing: &Hashing, node: &Node) -> Hashed {
    hashing.edge(node.parent, split_level_bytes(node.text.as_bytes()).0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_one_cache_line() {
        assert_eq!((size_of::<Node>(), align_of::<Node>()), (64, 64));
        // A vacant place needs no room beside it.
        assert_eq!(size_of::<Option<Node>>(), 64);
        assert_eq!(size_of::<Entry<u32>>(), 8);
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
