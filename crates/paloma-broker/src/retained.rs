//! Retained messages, and the paced jobs that send them to new subscriptions.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytestring::ByteString;
use paloma_codec::{Message, Qos, SubscribeOptions, SubscriptionId};
use paloma_session::{Monotonic, Wall};
use paloma_topic::{
    Cursor, Fault, HashSeed, TopicFilter, TopicFilterRef, TopicMap, TopicNameRef, Walk,
};

use crate::auth::{Action, Authorizer, Grant};
use crate::limits::Limits;
use crate::principal::Principal;

/// The retained message of one topic.
#[derive(Clone, Debug)]
pub(crate) struct Retained {
    pub(crate) message: Message,
    pub(crate) qos: Qos,
    /// Who published it; `None` for the broker's own.
    pub(crate) author: Option<Arc<Principal>>,
    /// For when its expiry's timer is armed, if it has one.
    pub(crate) timer_at: Option<Monotonic>,
}

impl Retained {
    /// Whether its author may still write its topic, by the rules that `today` knows for the session of that client id:
    /// they may be others since the author's last login.
    pub(crate) fn may_author<'a>(
        &self,
        everybody: &dyn Authorizer,
        today: impl FnOnce(&str) -> Option<&'a Principal>,
    ) -> bool {
        let Some(author) = self.author.as_deref() else {
            return true;
        };
        let today = today(&author.client_id).filter(|today| today.identity == author.identity);
        let author = today.unwrap_or(author);
        author.may(everybody, Action::Write, self.message.topic())
    }
}

/// A limit keeps a new retained message out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RetainedFull;

/// Topics that a walk in their order remembers: of 100,000 retained messages, 13 parts are made, and each walks through all of
/// them.
const PART_MAX: usize = 8_192;

/// Sends the retained messages of one new subscription, a few at a time, each read at the moment it is queued, so
/// that a client never gets an older value after a newer one.
#[derive(Debug)]
pub(crate) struct Replay {
    pub(crate) filter: TopicFilter,
    pub(crate) course: Course,
    pub(crate) options: SubscribeOptions,
    pub(crate) id: Option<SubscriptionId>,
    /// What the rules said of the subscription, and in which epoch.
    pub(crate) granted: (Grant, u16),
    /// The store knows of it.
    pub(crate) is_marked: bool,
}

impl Replay {
    /// The replay of a subscription with these options, in the quickest order.
    pub(crate) fn new(
        filter: TopicFilter,
        options: SubscribeOptions,
        id: Option<SubscriptionId>,
        granted: (Grant, u16),
    ) -> Self {
        Self {
            filter,
            course: Course::Walk(Cursor::default()),
            options,
            id,
            granted,
            is_marked: false,
        }
    }

    /// Where it goes on after a restart, which its client is promised; `None` for one that ends with the process.
    pub(crate) fn stored_after(&self) -> Option<&ByteString> {
        match &self.course {
            Course::ByTopic(course) if self.options.qos != Qos::AtMostOnce => Some(&course.after),
            Course::ByTopic(_) | Course::Walk(_) => None,
        }
    }

    /// About how many bytes it remembers.
    pub(crate) fn heap_bytes(&self) -> usize {
        match &self.course {
            Course::ByTopic(course) => course.bytes,
            Course::Walk(_) => 0,
        }
    }

    /// Goes on, at most `budget` retained messages far; `each` may refuse one, which is then offered again. True at the end.
    pub(crate) fn go_on(
        &mut self,
        retained: &RetainedMessages,
        budget: usize,
        each: impl FnMut(&Retained) -> ControlFlow<()>,
    ) -> bool {
        let filter = self.filter.borrowed();
        match &mut self.course {
            Course::Walk(cursor) => retained.walk(filter, cursor, budget, each),
            Course::ByTopic(course) => course.go_on(retained, filter, budget, each),
        }
    }
}

/// In which order a replay comes by its messages, and how far it is.
#[derive(Debug)]
pub(crate) enum Course {
    /// As they lie, which is the quickest and different after a restart.
    Walk(Cursor),
    /// By topic, so that a topic says how far it is.
    ByTopic(Box<ByTopic>),
}

/// Topics in ascending order: a walk over all that match finds the next part of them, another one the part behind it.
#[derive(Debug, Default)]
pub(crate) struct ByTopic {
    /// The last topic that is done.
    after: ByteString,
    cursor: Cursor,
    /// The first topics behind that, as far as the walk has come.
    part: BTreeSet<Box<str>>,
    /// About how many bytes they are.
    bytes: usize,
    is_collected: bool,
    /// There are topics behind the part.
    has_more: bool,
}

impl ByTopic {
    pub(crate) fn behind(after: ByteString) -> Self {
        Self {
            after,
            ..Self::default()
        }
    }

    fn go_on(
        &mut self,
        retained: &RetainedMessages,
        filter: TopicFilterRef<'_>,
        budget: usize,
        mut each: impl FnMut(&Retained) -> ControlFlow<()>,
    ) -> bool {
        if !self.is_collected && !self.collect(retained, filter, budget) {
            return false;
        }
        for _ in 0..budget {
            let Some(topic) = self.part.first() else {
                let is_through = !self.has_more;
                *self = Self::behind(std::mem::take(&mut self.after));
                return is_through;
            };
            let found = TopicNameRef::new(topic).ok();
            if let Some(found) = found.and_then(|topic| retained.get(topic))
                && each(found).is_break()
            {
                return false;
            }
            if let Some(topic) = self.part.pop_first() {
                self.bytes -= topic_bytes(&topic);
                self.after = String::from(topic).into();
            }
        }
        false
    }

    /// Goes on with the walk; true at its end.
    fn collect(
        &mut self,
        retained: &RetainedMessages,
        filter: TopicFilterRef<'_>,
        budget: usize,
    ) -> bool {
        let Self {
            after,
            cursor,
            part,
            bytes,
            is_collected,
            has_more,
        } = self;
        *is_collected = retained.walk(filter, cursor, budget, |found| {
            let topic = found.message.topic().as_str();
            if topic <= &**after {
                return ControlFlow::Continue(());
            }
            let is_full = part.len() >= PART_MAX;
            *has_more |= is_full;
            if !is_full || part.last().is_some_and(|last| topic < &**last) {
                let is_new = part.insert(topic.into());
                *bytes += if is_new { topic_bytes(topic) } else { 0 };
                let excess = if is_full { part.pop_last() } else { None };
                *bytes -= excess.map_or(0, |topic| topic_bytes(&topic));
            }
            ControlFlow::Continue(())
        });
        *is_collected
    }
}

fn topic_bytes(topic: &str) -> usize {
    topic.len() + 2 * size_of::<Box<str>>()
}

pub(crate) struct RetainedMessages {
    topics: TopicMap<Retained>,
    bytes: u64,
}

impl fmt::Debug for RetainedMessages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetainedMessages")
            .field("count", &self.topics.len())
            .field("bytes", &self.bytes)
            .finish()
    }
}

impl RetainedMessages {
    pub(crate) fn new(seed: HashSeed) -> Self {
        Self {
            topics: TopicMap::new(seed),
            bytes: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.topics.len()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn get(&self, topic: TopicNameRef<'_>) -> Option<&Retained> {
        self.topics.get(topic)
    }

    /// Whether a walk could find anything: false for a filter without wildcards whose topic has no message.
    pub(crate) fn may_match(&self, filter: TopicFilterRef<'_>) -> bool {
        if filter.has_wildcard() {
            return self.len() > 0;
        }
        TopicNameRef::new(filter.as_str()).is_ok_and(|topic| self.get(topic).is_some())
    }

    /// Takes a message as its topic's retained one, in place of an earlier one, which is given back. [MQTT-3.3.1-5]
    pub(crate) fn put(
        &mut self,
        retained: Retained,
        limits: &Limits,
    ) -> Result<Option<Retained>, RetainedFull> {
        let message = retained.message.clone();
        let previous = self
            .topics
            .get(message.topic())
            .map(|previous| previous.message.len());
        let bytes = self.bytes - previous.unwrap_or(0) as u64 + message.len() as u64;
        let is_over = previous.is_none() && self.len() >= limits.retained_messages_max as usize;
        if is_over || bytes > limits.retained_bytes_max {
            return Err(RetainedFull);
        }
        if Fault::RetainedNotReplaced.is_on() && previous.is_some() {
            return Ok(None);
        }
        self.bytes = bytes;
        Ok(self.topics.insert(message.topic(), retained))
    }

    /// Forgets the topic's retained message and gives it back. [MQTT-3.3.1-6]
    pub(crate) fn remove(&mut self, topic: TopicNameRef<'_>) -> Option<Retained> {
        let retained = self.topics.remove(topic)?;
        self.bytes -= retained.message.len() as u64;
        Some(retained)
    }

    /// Notes for when the topic's timer is armed.
    pub(crate) fn set_timer(&mut self, topic: TopicNameRef<'_>, at: Option<Monotonic>) {
        if let Some(retained) = self.topics.get_mut(topic) {
            retained.timer_at = at;
        }
    }

    /// Goes on with a walk over the messages that match, at most `budget` steps far; `each` may refuse one, which is
    /// then offered again. True once the walk is through.
    pub(crate) fn walk(
        &self,
        filter: TopicFilterRef<'_>,
        cursor: &mut Cursor,
        budget: usize,
        mut each: impl FnMut(&Retained) -> ControlFlow<()>,
    ) -> bool {
        self.topics
            .try_walk(filter, cursor, budget, |_, retained| each(retained))
            == Walk::Done
    }
}

/// When a message may no longer be sent, in wall-clock time.
pub(crate) fn expires_at(message: &Message) -> Option<Wall> {
    let seconds = message.expiry_seconds()?;
    let millis = u64::from(seconds).saturating_mul(1_000);
    Some(Wall::from_millis(message.stamp().saturating_add(millis)))
}

/// Whether the message's expiry has passed. [MQTT-3.3.2-5]
pub(crate) fn is_expired(message: &Message, now: Wall) -> bool {
    expires_at(message).is_some_and(|at| at <= now)
}
