//! Walks over the topics that a filter matches, which can rest and go on.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::ControlFlow;

use super::{Node, ROOT, TopicMap};
use crate::filter::levels_match;
use crate::level::split_level;
use crate::slab::{NONE, to_id, to_usize};
use crate::{TopicFilterRef, TopicNameRef};

/// Where a walk over a [`TopicMap`] rests.
///
/// It holds no reference: the map may change while the walk rests. It belongs to one map and one filter;
/// with others, a walk is still sound, but what it visits is unspecified.
#[derive(Clone, Default)]
pub struct Cursor {
    /// The way from the root to the node whose children are being passed, one frame a node.
    frames: Vec<Frame>,
    /// Text of the way, and while a topic is visited, of that topic.
    topic: String,
    state: State,
}

/// Whether a walk has come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Walk {
    /// More may follow: the budget is used up, or the visitor stopped.
    Paused,
    /// Everything has been visited.
    Done,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Fresh,
    Under,
    Done,
}

/// A node on the way, whose own topic has been dealt with.
#[derive(Clone, Copy)]
struct Frame {
    /// Position of the next child to pass; for a literal level, how many lookups were made.
    next: u32,
    /// Where the filter's level for the node's children begins.
    filter_offset: u32,
    /// Length of the text up to and with this node.
    topic_len: u32,
}

/// What a frame's next child is.
enum Candidate {
    Child(u32),
    Vacant,
    End,
}

impl Cursor {
    /// A walk that has not begun.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the walk has come to its end.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cursor")
            .field("is_done", &self.is_done())
            .finish_non_exhaustive()
    }
}

impl<V> TopicMap<V> {
    /// Goes on with a walk over the topics that `filter` matches, for at most `budget` steps.
    ///
    /// A step passes one place of the tree, and a visit takes one, so that there are never more visits than steps;
    /// time between visits is bounded too. The map may change between calls: a topic that is there during
    /// the whole walk is visited exactly once; one that comes or goes meanwhile may or may not be. The
    /// value is the one at the time of the visit. A walk that is done stays done.
    ///
    /// As in [`TopicFilterRef::matches`], a leading wildcard passes no topic that begins with `$`
    /// [MQTT-4.7.2-1].
    pub fn walk(
        &self,
        filter: TopicFilterRef<'_>,
        cursor: &mut Cursor,
        budget: usize,
        mut visit: impl FnMut(TopicNameRef<'_>, &V),
    ) -> Walk {
        self.try_walk(filter, cursor, budget, |topic, value| {
            visit(topic, value);
            ControlFlow::Continue(())
        })
    }

    /// Like [`walk`](Self::walk), but the visitor may refuse a topic.
    ///
    /// On `Break` the walk pauses before that topic, and offers it again when it goes on.
    pub fn try_walk(
        &self,
        filter: TopicFilterRef<'_>,
        cursor: &mut Cursor,
        budget: usize,
        visit: impl FnMut(TopicNameRef<'_>, &V) -> ControlFlow<()>,
    ) -> Walk {
        match cursor.state {
            State::Fresh => {
                cursor.frames.push(Frame {
                    next: 0,
                    filter_offset: 0,
                    topic_len: 0,
                });
                cursor.state = State::Under;
            }
            State::Under => {}
            State::Done => return Walk::Done,
        }
        let node = self.resume(filter, cursor);
        let mut walker = Walker {
            map: self,
            filter: filter.as_str(),
            cursor,
            visit,
            node,
        };
        for _ in 0..budget {
            if walker.cursor.frames.is_empty() {
                break;
            }
            if walker.step().is_break() {
                return Walk::Paused;
            }
        }
        if cursor.frames.is_empty() {
            *cursor = Cursor {
                state: State::Done,
                ..Cursor::default()
            };
            return Walk::Done;
        }
        Walk::Paused
    }

    /// Finds the way again that the cursor remembers, as far as it still exists; returns its last node.
    ///
    /// Text is rebuilt, since another topic's node may stand where one on the way was.
    fn resume(&self, filter: TopicFilterRef<'_>, cursor: &mut Cursor) -> u32 {
        let mut id = ROOT;
        cursor.topic.clear();
        for depth in 1..cursor.frames.len() {
            let above = cursor.frames.get(depth - 1).copied();
            let child = above.and_then(|frame| self.child_on_way(filter.as_str(), frame, id));
            let Some(child) = child else {
                cursor.frames.truncate(depth);
                break;
            };
            push_levels(&mut cursor.topic, depth == 1, self.nodes.at(child).level());
            if let Some(frame) = cursor.frames.get_mut(depth) {
                frame.topic_len = to_id(cursor.topic.len());
            }
            id = child;
        }
        id
    }

    /// The child through which a frame's way goes on.
    fn child_on_way(&self, filter: &str, frame: Frame, id: u32) -> Option<u32> {
        let level = split_level(filter.get(to_usize(frame.filter_offset)..)?).0;
        let last = Frame {
            next: frame.next.checked_sub(1)?,
            ..frame
        };
        let Candidate::Child(child) = self.candidate(level, last, id) else {
            return None;
        };
        self.nodes.at(child).is_open_to(level).then_some(child)
    }

    fn candidate(&self, level: &str, frame: Frame, id: u32) -> Candidate {
        if !is_wildcard(level) {
            let child = if frame.next == 0 {
                self.child(id, level)
            } else {
                None
            };
            return child.map_or(Candidate::End, Candidate::Child);
        }
        let children = self.nodes.at(id).children.as_deref();
        match children.and_then(|children| children.at(frame.next)) {
            None => Candidate::End,
            Some(NONE) => Candidate::Vacant,
            Some(child) => Candidate::Child(child),
        }
    }
}

/// A walk that goes on.
struct Walker<'a, V, F> {
    map: &'a TopicMap<V>,
    filter: &'a str,
    cursor: &'a mut Cursor,
    visit: F,
    /// The node of the last frame.
    node: u32,
}

impl<V, F: FnMut(TopicNameRef<'_>, &V) -> ControlFlow<()>> Walker<'_, V, F> {
    /// Passes one child of the last frame's node, or leaves that node when none is left.
    fn step(&mut self) -> ControlFlow<()> {
        let Some(frame) = self.cursor.frames.last().copied() else {
            return ControlFlow::Continue(());
        };
        let offset = to_usize(frame.filter_offset);
        let level = self
            .filter
            .get(offset..)
            .map_or("", |rest| split_level(rest).0);
        match self.map.candidate(level, frame, self.node) {
            Candidate::End => {
                self.leave();
                return ControlFlow::Continue(());
            }
            Candidate::Vacant => self.advance(),
            Candidate::Child(child) if !self.map.nodes.at(child).is_open_to(level) => {
                self.advance()
            }
            Candidate::Child(child) => {
                let below = if level == "#" {
                    offset
                } else {
                    offset + level.len() + 1
                };
                self.cursor.topic.truncate(to_usize(frame.topic_len));
                self.pass(child, below)?;
            }
        }
        ControlFlow::Continue(())
    }

    /// Visits what a child holds itself, and enters it if the filter goes further.
    fn pass(&mut self, child: u32, filter_offset: usize) -> ControlFlow<()> {
        let node = self.map.nodes.at(child);
        let filter = self.filter.get(filter_offset..);
        let is_first = self.cursor.frames.len() == 1;
        push_levels(&mut self.cursor.topic, is_first, &node.text);
        // A folded tail is compared as a whole; without one, there is nothing left to compare.
        if levels_match(filter.map(str::as_bytes), node.tail().map(str::as_bytes))
            && let Some(value) = &node.value
        {
            (self.visit)(TopicNameRef::trusted(&self.cursor.topic), value)?;
        }
        self.advance();
        if filter.is_some() && node.children.is_some() {
            let frame = Frame {
                next: 0,
                filter_offset: to_id(filter_offset),
                topic_len: to_id(self.cursor.topic.len()),
            };
            self.cursor.frames.push(frame);
            self.node = child;
        }
        ControlFlow::Continue(())
    }

    fn advance(&mut self) {
        if let Some(frame) = self.cursor.frames.last_mut() {
            frame.next += 1;
        }
    }

    fn leave(&mut self) {
        self.cursor.frames.pop();
        self.node = self
            .map
            .nodes
            .get(self.node)
            .map_or(ROOT, |node| node.parent);
    }
}

impl<V> Node<V> {
    /// Whether a filter's level may pass this node as far as `$` goes. [MQTT-4.7.2-1]
    fn is_open_to(&self, level: &str) -> bool {
        self.parent != ROOT || !is_wildcard(level) || !self.text.starts_with('$')
    }
}

fn is_wildcard(level: &str) -> bool {
    level == "+" || level == "#"
}

/// Writes levels at the end of a topic.
fn push_levels(topic: &mut String, is_first: bool, levels: &str) {
    if !is_first {
        topic.push('/');
    }
    topic.push_str(levels);
}
