//! Messages that are kept for later subscribers, for as long as they live.

use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use paloma_codec::{Message, Qos};
use paloma_session::{Monotonic, Now};
use paloma_topic::{Fault, TopicNameRef};

use super::Broker;
use super::publish::Outcome;
use crate::notice::Notice;
use crate::retained::{self, Retained, RetainedFull};
use crate::session::SessionKey;
use crate::store::{RetainedRecord, StoreOp};

impl Broker {
    /// Takes the message as retained, or forgets the topic's if it is empty. [MQTT-3.3.1-5] [MQTT-3.3.1-6]
    /// [MQTT-3.3.1-7]
    pub(super) fn retain(
        &mut self,
        now: Now,
        message: &Message,
        qos: Qos,
        origin: Option<SessionKey>,
        outcome: &mut Outcome,
    ) -> Result<(), RetainedFull> {
        let topic = message.topic();
        if message.payload().is_empty() {
            if let Some(previous) = self.retained.remove(topic) {
                self.disarm_retained(topic, &previous);
                self.commits
                    .push(StoreOp::DeleteRetained(ByteString::from(topic.as_str())));
                outcome.is_stored = true;
            }
            return Ok(());
        }
        let author = origin.and_then(|key| self.sessions.get(key));
        let author = author.map(|session| Arc::clone(&session.principal));
        let record = RetainedRecord {
            message: message.clone(),
            qos,
            author: author.as_ref().map(|principal| principal.owner()),
        };
        let retained = Retained {
            message: message.clone(),
            qos,
            author,
            timer_at: None,
        };
        let previous = match self.retained.put(retained, &self.limits) {
            Ok(previous) => previous,
            Err(full) => {
                self.accounting.retained_refused += 1;
                let author = origin.and_then(|key| self.sessions.get(key));
                self.notices.push(Notice::RetainedFull {
                    client_id: author.map(|session| session.principal.client_id()),
                });
                return Err(full);
            }
        };
        if let Some(previous) = previous {
            self.disarm_retained(topic, &previous);
        }
        if !Fault::RetainedNotStored.is_on() {
            self.commits.push(StoreOp::PutRetained(record));
        }
        outcome.is_stored = true;
        if let Some(seconds) = message.expiry_seconds() {
            let at = now
                .monotonic
                .saturating_add(Duration::from_secs(seconds.into()));
            self.arm_retained(topic, at);
        }
        Ok(())
    }

    pub(super) fn arm_retained(&mut self, topic: TopicNameRef<'_>, at: Monotonic) {
        self.retained.set_timer(topic, Some(at));
        self.timers
            .arm_retained(at, ByteString::from(topic.as_str()));
    }

    fn disarm_retained(&mut self, topic: TopicNameRef<'_>, previous: &Retained) {
        if let Some(at) = previous.timer_at {
            self.timers
                .disarm_retained(at, ByteString::from(topic.as_str()));
        }
    }

    pub(super) fn handle_retained_timer(&mut self, now: Now, topic: &ByteString) {
        let Ok(name) = TopicNameRef::new(topic) else {
            return;
        };
        let Some(message) = self.retained.get(name).map(|retained| &retained.message) else {
            return;
        };
        if retained::is_expired(message, now.wall) {
            self.retained.remove(name);
            self.commits.push(StoreOp::DeleteRetained(topic.clone()));
        } else if let Some(at) = retained::expires_at(message) {
            // The wall clock was set back.
            let left = Duration::from_millis(at.millis_since(now.wall).max(1));
            self.arm_retained(name, now.monotonic.saturating_add(left));
        }
    }
}
