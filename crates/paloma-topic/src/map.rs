//! Values under topic names, looked up by filter: what retained messages are kept in.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use core::{fmt, mem};

use crate::TopicNameRef;
use crate::hash::{HashSeed, Hashing};
use crate::index::Index;
use crate::level::split_level;
use crate::pages::Pages;
use crate::slab::{NONE, Slab, to_id, to_usize};

mod walk;

pub use walk::{Cursor, Walk};

/// The node that stands for no level at all; it is always there.
const ROOT: u32 = 0;

/// A map from topic names to values, which can be walked by filter a few steps at a time.
///
/// A tree with one node a level, in which a lone tail of levels stays folded into one node: a topic that
/// shares no beginning with others costs one node, however deep it is. Looking a topic up takes one hash
/// lookup a level, walking takes time in proportion to what the filter's levels reach. Nothing recurses.
///
/// The order of a walk depends on the insertions and removals so far, never on the [`HashSeed`].
#[derive(Clone)]
pub struct TopicMap<V> {
    hashing: Hashing,
    nodes: Slab<Node<V>>,
    edges: Index,
    len: usize,
}

#[derive(Clone)]
struct Node<V> {
    /// The node's own level; in a leaf, then possibly a `/` and the folded tail.
    text: Box<str>,
    parent: u32,
    /// Where the parent's children have this node.
    position: u32,
    children: Option<Box<Children>>,
    /// The value of the topic that ends here, or in a leaf at the end of its tail.
    value: Option<V>,
}

/// The children of a node, each at a position that is its own as long as it lives.
///
/// That is what makes a cursor out of a few numbers: whatever comes and goes beside it, a child that
/// stays is passed exactly once. Vacant positions are used again, the lowest first.
#[derive(Clone, Default)]
struct Children {
    ids: Pages<u32>,
    vacant: BTreeSet<u32>,
}

impl<V> TopicMap<V> {
    /// An empty map.
    #[must_use]
    pub fn new(seed: HashSeed) -> Self {
        let mut nodes = Slab::new();
        let root = nodes.insert(Node::new("", NONE));
        debug_assert_eq!(root, ROOT);
        Self {
            hashing: Hashing::new(seed),
            nodes,
            edges: Index::default(),
            len: 0,
        }
    }

    /// How many topics there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no topics.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value of a topic.
    #[must_use]
    pub fn get(&self, topic: TopicNameRef<'_>) -> Option<&V> {
        let id = self.find(topic)?;
        self.nodes.at(id).value.as_ref()
    }

    /// The value of a topic, to change it.
    #[must_use]
    pub fn get_mut(&mut self, topic: TopicNameRef<'_>) -> Option<&mut V> {
        let id = self.find(topic)?;
        self.nodes.at_mut(id).value.as_mut()
    }

    /// Sets a topic's value and returns the one it had.
    ///
    /// # Panics
    /// When there are 2³¹ nodes already; they would fill 80 GiB.
    pub fn insert(&mut self, topic: TopicNameRef<'_>, value: V) -> Option<V> {
        let id = match self.find(topic) {
            Some(id) => id,
            None => self.add(topic),
        };
        let before = self.nodes.at_mut(id).value.replace(value);
        self.len += usize::from(before.is_none());
        before
    }

    /// Takes a topic out and returns its value, and frees the nodes that no other topic needs.
    pub fn remove(&mut self, topic: TopicNameRef<'_>) -> Option<V> {
        let mut id = self.find(topic)?;
        let value = self.nodes.at_mut(id).value.take()?;
        self.len -= 1;
        while id != ROOT && self.nodes.at(id).is_unused() {
            id = self.remove_node(id);
        }
        Some(value)
    }

    /// The node of a topic; its value may be missing.
    fn find(&self, topic: TopicNameRef<'_>) -> Option<u32> {
        let (mut id, mut rest) = (ROOT, Some(topic.as_str()));
        loop {
            if let Some(tail) = self.nodes.at(id).tail() {
                return (rest == Some(tail)).then_some(id);
            }
            let Some(text) = rest else {
                return Some(id);
            };
            let (level, next) = split_level(text);
            id = self.child(id, level)?;
            rest = next;
        }
    }

    /// Makes the node of a topic that is not there.
    fn add(&mut self, topic: TopicNameRef<'_>) -> u32 {
        let (mut id, mut rest) = (ROOT, topic.as_str());
        loop {
            self.unfold(id);
            let (level, next) = split_level(rest);
            let Some(child) = self.child(id, level) else {
                return self.add_child(id, rest);
            };
            id = child;
            let Some(next) = next else {
                self.unfold(id);
                return id;
            };
            rest = next;
        }
    }

    fn child(&self, parent: u32, level: &str) -> Option<u32> {
        self.edges
            .find(self.hashing.edge(parent, level.as_bytes()), |id| {
                let node = self.nodes.at(id);
                node.parent == parent && node.level() == level
            })
    }

    /// Hangs a new leaf below a node; its text may be several levels.
    fn add_child(&mut self, parent: u32, text: &str) -> u32 {
        let id = self.nodes.insert(Node::new(text, parent));
        let position = self
            .nodes
            .at_mut(parent)
            .children
            .get_or_insert_default()
            .add(id);
        self.nodes.at_mut(id).position = position;
        self.edges.insert(
            self.hashing.edge(parent, split_level(text).0.as_bytes()),
            id,
        );
        id
    }

    /// Takes a node out and returns its parent.
    fn remove_node(&mut self, id: u32) -> u32 {
        let node = self
            .nodes
            .remove(id)
            .expect("a node on the way to the root is there");
        self.edges
            .remove(self.hashing.edge(node.parent, node.level().as_bytes()), id);
        let children = &mut self.nodes.at_mut(node.parent).children;
        if let Some(present) = children {
            present.remove(node.position);
            if present.ids.is_empty() {
                *children = None;
            }
        }
        node.parent
    }

    /// Moves a leaf's tail into a child of its own, so that the leaf can have other children.
    ///
    /// The leaf keeps its position, so a walk that has passed the topic does not meet it again, and one
    /// that has not still will.
    fn unfold(&mut self, id: u32) {
        let node = self.nodes.at_mut(id);
        let Some(tail) = node.tail().map(Box::<str>::from) else {
            return;
        };
        node.text = Box::from(node.level());
        let value = node.value.take();
        let child = self.add_child(id, &tail);
        self.nodes.at_mut(child).value = value;
    }
}

impl<V> fmt::Debug for TopicMap<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicMap")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl<V> Node<V> {
    fn new(text: &str, parent: u32) -> Self {
        Self {
            text: Box::from(text),
            parent,
            position: 0,
            children: None,
            value: None,
        }
    }

    fn level(&self) -> &str {
        split_level(&self.text).0
    }

    /// The folded levels below the node's own.
    fn tail(&self) -> Option<&str> {
        split_level(&self.text).1
    }

    const fn is_unused(&self) -> bool {
        self.value.is_none() && self.children.is_none()
    }
}

impl Children {
    /// Takes a child in and returns its position.
    fn add(&mut self, id: u32) -> u32 {
        if let Some(position) = self.vacant.pop_first() {
            if let Some(place) = self.ids.get_mut(to_usize(position)) {
                *place = id;
            }
            return position;
        }
        self.ids.push(id);
        to_id(self.ids.len() - 1)
    }

    fn remove(&mut self, position: u32) {
        if let Some(place) = self.ids.get_mut(to_usize(position)) {
            let id = mem::replace(place, NONE);
            debug_assert_ne!(id, NONE, "a position is given back once");
            self.vacant.insert(position);
        }
        while self.ids.last() == Some(&NONE) {
            self.ids.pop();
            self.vacant.remove(&to_id(self.ids.len()));
        }
    }

    /// The position's child; `None` past the last, and [`NONE`] where there was one.
    fn at(&self, position: u32) -> Option<u32> {
        self.ids.get(to_usize(position)).copied()
    }
}

#[cfg(test)]
mod tests;
