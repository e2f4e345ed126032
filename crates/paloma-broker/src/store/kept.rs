//! What a recoverable in-memory store keeps beside queues.

use std::collections::{BTreeMap, BTreeSet};

use bytestring::ByteString;
use paloma_codec::PacketId;

use super::StoreError;
use super::memory::MemoryStore;
use super::op::{
    Mark, RetainedRecord, SessionId, SessionRecord, StoreOp, SubscriptionRecord, WillRecord,
};
use super::recovery::Recovered;

/// What a store keeps for the next broker. Behind a trait, so that a program that makes no recoverable store, such as the
/// broker itself, is not linked with what only those do.
pub(super) trait Keep: Send + Sync {
    /// Applies an op as far as it concerns what is kept.
    fn apply(&mut self, op: &StoreOp);

    fn set_mark(&mut self, mark: Mark);

    /// Gives everything in the order of [`Store::recover`](super::Store::recover), with the queues of this store.
    fn recover(
        &self,
        store: &MemoryStore,
        each: &mut dyn FnMut(Recovered),
    ) -> Result<(), StoreError>;

    fn boxed(&self) -> Box<dyn Keep>;
}

impl Clone for Box<dyn Keep> {
    fn clone(&self) -> Self {
        (**self).boxed()
    }
}

/// Records by their keys.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    mark: Mark,
    sessions: BTreeMap<SessionId, KeptSession>,
    retained: BTreeMap<ByteString, RetainedRecord>,
}

#[derive(Clone, Debug)]
struct KeptSession {
    record: SessionRecord,
    will: Option<WillRecord>,
    subscriptions: BTreeMap<ByteString, SubscriptionRecord>,
    received: BTreeSet<PacketId>,
}

impl Keep for Kept {
    fn apply(&mut self, op: &StoreOp) {
        match op {
            StoreOp::PutSession(id, record) => match self.sessions.get_mut(id) {
                Some(session) => session.record = record.clone(),
                None => {
                    let session = KeptSession {
                        record: record.clone(),
                        will: None,
                        subscriptions: BTreeMap::new(),
                        received: BTreeSet::new(),
                    };
                    self.sessions.insert(*id, session);
                }
            },
            StoreOp::DeleteSession(id) => {
                self.sessions.remove(id);
            }
            StoreOp::PutReceived(id, packet) => {
                self.change(*id, |session| session.received.insert(*packet));
            }
            StoreOp::DeleteReceived(id, packet) => {
                self.change(*id, |session| session.received.remove(packet));
            }
            StoreOp::PutSubscription(id, record) => {
                let filter = record.filter.clone();
                self.change(*id, |session| {
                    session.subscriptions.insert(filter, record.clone())
                });
            }
            StoreOp::DeleteSubscription(id, filter) => {
                self.change(*id, |session| session.subscriptions.remove(filter));
            }
            StoreOp::PutWill(id, will) => {
                self.change(*id, |session| session.will = Some(will.clone()));
            }
            StoreOp::DeleteWill(id) => self.change(*id, |session| session.will = None),
            StoreOp::PutRetained(record) => {
                let topic = ByteString::from(record.message.topic().as_str());
                self.retained.insert(topic, record.clone());
            }
            StoreOp::DeleteRetained(topic) => {
                self.retained.remove(topic);
            }
            StoreOp::PutMessage(_)
            | StoreOp::Enqueue(..)
            | StoreOp::Dequeue(..)
            | StoreOp::Assign(..)
            | StoreOp::MarkReceived(..)
            | StoreOp::PutFanOut(_)
            | StoreOp::AdvanceFanOut(..)
            | StoreOp::DeleteFanOut(_) => {}
        }
    }

    fn set_mark(&mut self, mark: Mark) {
        self.mark = mark;
    }

    fn recover(
        &self,
        store: &MemoryStore,
        each: &mut dyn FnMut(Recovered),
    ) -> Result<(), StoreError> {
        each(Recovered::Mark(self.mark));
        for (id, session) in &self.sessions {
            session.recover(*id, each);
            store.recover_queue(*id, each)?;
        }
        for record in self.retained.values() {
            each(Recovered::Retained(record.clone()));
        }
        store.recover_fan_outs(each)
    }

    fn boxed(&self) -> Box<dyn Keep> {
        Box::new(self.clone())
    }
}

impl Kept {
    fn change<R>(&mut self, id: SessionId, change: impl FnOnce(&mut KeptSession) -> R) {
        if let Some(session) = self.sessions.get_mut(&id) {
            change(session);
        }
    }
}

impl KeptSession {
    /// Gives the session and what belongs to it, its queue apart.
    fn recover(&self, id: SessionId, each: &mut dyn FnMut(Recovered)) {
        each(Recovered::Session(id, self.record.clone()));
        if let Some(will) = &self.will {
            each(Recovered::Will(id, will.clone()));
        }
        for record in self.subscriptions.values() {
            each(Recovered::Subscription(id, record.clone()));
        }
        for packet in &self.received {
            each(Recovered::Received(id, *packet));
        }
    }
}
