//! Retained messages, and the paced jobs that send them to new subscriptions.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use paloma_codec::{Message, Qos, SubscriptionId};
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

/// Sends the retained messages of one new subscription, a few at a time, each read at the moment it is queued, so
/// that a client never gets an older value after a newer one.
#[derive(Debug)]
pub(crate) struct Replay {
    pub(crate) filter: TopicFilter,
    pub(crate) cursor: Cursor,
    pub(crate) qos: Qos,
    pub(crate) id: Option<SubscriptionId>,
    /// What the rules said of the subscription, and in which epoch.
    pub(crate) granted: (Grant, u16),
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
