//! A workload made of small numbers, and what a store holds as text that can be compared.
#![allow(dead_code, reason = "each test uses a part")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::wildcard_enum_match_arm,
    reason = "test support"
)]

use std::sync::Arc;

use bytestring::ByteString;
use paloma_broker::MemoryStore;
use paloma_broker::store::{
    FanOutRecord, FlightState, LoadRequest, Mark, MessageId, Owner, QueueEntry, Recovered,
    RetainedRecord, SessionId, SessionRecord, Store, StoreBatch, StoreOp, SubscriptionRecord,
    WillRecord,
};
use paloma_codec::{Message, MessageParts, PacketId, PublishProperties, Qos, SubscriptionId};
use paloma_session::{LogSeq, Wall};
use paloma_store_redb::disk::sim::SimDisk;
use paloma_store_redb::{OpenError, Options, RedbStore};
use paloma_topic::TopicNameRef;

/// What is done, who with, and how much of it.
pub(crate) type Step = (u8, u8, u8);

/// Small numbers that depend on a seed.
pub(crate) fn steps(seed: u64, count: usize) -> Vec<Step> {
    let mut state = seed;
    let mut byte = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..count).map(|_| (byte(), byte(), byte())).collect()
}

/// Options with little memory, a small reserve, and a log that is soon full.
pub(crate) fn small() -> Options {
    Options {
        reserve_bytes: 1 << 20,
        log_bytes: 64 << 10,
        cache_bytes: 1 << 20,
        ..Options::default()
    }
}

pub(crate) fn open(disk: &SimDisk) -> RedbStore {
    open_with(disk, &small()).unwrap()
}

pub(crate) fn open_with(disk: &SimDisk, options: &Options) -> Result<RedbStore, OpenError> {
    RedbStore::on_disk(Arc::new(disk.clone()), Some(Arc::new(disk.log())), options)
}

pub(crate) fn message(id: u64, topic: &str, payload: &[u8]) -> Message {
    let parts = MessageParts {
        id,
        stamp: 1_700_000_000_000 + id,
        topic: TopicNameRef::new(topic).unwrap(),
        properties: &PublishProperties::default(),
        payload,
    };
    Message::new(&parts, &mut Vec::new()).unwrap()
}

pub(crate) fn entry(message: &Message, qos: Qos) -> QueueEntry {
    QueueEntry {
        message: MessageId(message.id()),
        bytes: u32::try_from(message.len()).unwrap(),
        qos,
        retain: false,
        subscription_ids: Vec::new(),
        share: None,
    }
}

pub(crate) fn session_record(client: &str) -> SessionRecord {
    SessionRecord {
        owner: Owner {
            client_id: client.into(),
            ..Owner::default()
        },
        expiry_seconds: u32::MAX,
        disconnected_at: None,
        maybe_sent: MessageId(0),
    }
}

/// Makes batches as the core would, with some that refer to what is not there.
#[derive(Debug, Default)]
pub(crate) struct Workload {
    mark: Mark,
    seq: u64,
    sessions: Vec<Live>,
}

#[derive(Debug)]
struct Live {
    id: SessionId,
    queue: Vec<MessageId>,
}

impl Workload {
    /// One batch.
    pub(crate) fn batch(&mut self, steps: &[Step]) -> StoreBatch {
        let mut ops = Vec::new();
        for step in steps {
            self.step(*step, &mut ops);
        }
        self.seq += 1;
        self.mark.wall = Wall::from_millis(1_700_000_000_000 + self.seq);
        StoreBatch {
            seq: LogSeq(self.seq),
            mark: self.mark,
            ops,
            ..StoreBatch::default()
        }
    }

    fn step(&mut self, (kind, who, what): Step, ops: &mut Vec<StoreOp>) {
        if self.sessions.is_empty() || kind < 12 {
            self.mark.session.0 += 1;
            let id = self.mark.session;
            self.sessions.push(Live {
                id,
                queue: Vec::new(),
            });
            let record = session_record(&format!("client-{}", id.0));
            ops.push(StoreOp::PutSession(id, record));
            return;
        }
        let at = usize::from(who) % self.sessions.len();
        match kind {
            12..110 => self.publish(kind, who, what, ops),
            110..190 => {
                let live = &mut self.sessions[at];
                if !live.queue.is_empty() {
                    let message = live
                        .queue
                        .remove(usize::from(what) % live.queue.len().min(4));
                    ops.push(StoreOp::Dequeue(live.id, message));
                }
            }
            190..205 => {
                let live = &self.sessions[at];
                if let Some(message) = live.queue.get(usize::from(what) % 8) {
                    let packet = PacketId::new(u16::from(what) + 1).unwrap();
                    ops.push(if what % 3 == 0 {
                        StoreOp::MarkReceived(live.id, *message, packet)
                    } else {
                        StoreOp::Assign(live.id, *message, packet)
                    });
                }
            }
            205..222 => {
                let id = self.sessions[at].id;
                let packet = PacketId::new(u16::from(what) % 8 + 1).unwrap();
                ops.push(if what & 16 == 0 {
                    StoreOp::PutReceived(id, packet)
                } else {
                    StoreOp::DeleteReceived(id, packet)
                });
            }
            222..236 => subscribe(self.sessions[at].id, what, ops),
            236..242 => change_will(self.sessions[at].id, what, ops),
            242..248 => {
                let mut record = session_record(&format!("client-{}", self.sessions[at].id.0));
                record.disconnected_at = Some(Wall::from_millis(u64::from(what)));
                record.maybe_sent = MessageId(u64::from(what) * 77);
                record.owner.user = (what & 1 == 1).then(|| ByteString::from("user"));
                ops.push(StoreOp::PutSession(self.sessions[at].id, record));
            }
            248..251 => {
                let live = self.sessions.swap_remove(at);
                ops.push(StoreOp::DeleteSession(live.id));
            }
            _ => {
                // Nothing of this is there.
                let gone = SessionId(u64::MAX);
                ops.push(StoreOp::Dequeue(gone, MessageId(1)));
                ops.push(StoreOp::DeleteSession(gone));
                ops.push(StoreOp::DeleteRetained("never".into()));
                ops.push(StoreOp::DeleteFanOut(MessageId(u64::MAX)));
                let id = self.sessions[at].id;
                ops.push(StoreOp::Dequeue(id, MessageId(u64::MAX)));
            }
        }
    }

    fn publish(&mut self, kind: u8, who: u8, what: u8, ops: &mut Vec<StoreOp>) {
        self.mark.message.0 += 1;
        let id = self.mark.message.0;
        let topic = format!("topic/{}", what % 16);
        let size = if what < 4 {
            5_000 * usize::from(what)
        } else {
            usize::from(what)
        };
        let payload: Vec<u8> = (0..size).map(|at| (at as u64 * 31 + id) as u8).collect();
        let message = message(id, &topic, &payload);
        let qos = Qos::from_bits(kind % 2 + 1).unwrap();
        ops.push(StoreOp::PutMessage(message.clone()));
        let mut is_needed = false;
        let count = usize::from(who % 5).min(self.sessions.len());
        for offset in 0..count {
            let at = (usize::from(who) + offset) % self.sessions.len();
            let live = &mut self.sessions[at];
            let mut entry = entry(&message, qos);
            if what & 7 == 7 {
                entry.retain = true;
                entry.subscription_ids = vec![SubscriptionId::new(u32::from(what) + 1).unwrap()];
                entry.share = (what & 8 == 8).then(|| ByteString::from("$share/a/topic/#"));
            }
            live.queue.push(entry.message);
            ops.push(StoreOp::Enqueue(live.id, entry));
            is_needed = true;
        }
        if kind & 7 == 3 {
            let author = (what & 1 == 1).then(|| Owner {
                client_id: "author".into(),
                user: Some("user".into()),
                has_own_rules: what & 2 == 2,
            });
            ops.push(StoreOp::PutRetained(RetainedRecord {
                message,
                qos,
                author,
            }));
            is_needed = true;
        }
        if kind & 7 == 4 {
            ops.push(StoreOp::DeleteRetained(topic.into()));
        }
        if kind & 15 == 5 || !is_needed {
            ops.push(StoreOp::PutFanOut(FanOutRecord {
                message: MessageId(id),
                qos,
                retain: false,
                origin: Some(SessionId(3)),
                sessions_until: self.mark.session,
            }));
            ops.push(StoreOp::AdvanceFanOut(
                MessageId(id),
                SessionId(u64::from(who)),
            ));
        }
        if kind & 3 == 1 {
            ops.push(StoreOp::DeleteFanOut(MessageId(id.saturating_sub(3))));
        }
    }
}

fn subscribe(id: SessionId, what: u8, ops: &mut Vec<StoreOp>) {
    let filter = ByteString::from(format!("filter/{}/#", what % 6));
    ops.push(if what & 32 == 0 {
        StoreOp::PutSubscription(
            id,
            SubscriptionRecord {
                filter,
                options: what & 3,
                id: SubscriptionId::new(u32::from(what)),
                replay_after: (what & 64 != 0).then(|| format!("filter/{}", what % 7).into()),
            },
        )
    } else {
        StoreOp::DeleteSubscription(id, filter)
    });
}

fn change_will(id: SessionId, what: u8, ops: &mut Vec<StoreOp>) {
    ops.push(if what & 3 == 0 {
        StoreOp::DeleteWill(id)
    } else {
        StoreOp::PutWill(
            id,
            WillRecord {
                message: message(0, "will", &[what]),
                qos: Qos::AtLeastOnce,
                retain: what & 4 == 4,
                delay_seconds: u32::from(what),
                due_at: (what & 8 == 8).then(|| Wall::from_millis(u64::from(what))),
            },
        )
    });
}

/// Everything that a store holds, payloads included.
pub(crate) fn contents(store: &mut dyn Store) -> Vec<String> {
    let mut all = Vec::new();
    let mut queues = Vec::new();
    store
        .recover(&mut |recovered| {
            if let Recovered::Queue(id, _) = &recovered {
                queues.push(*id);
            }
            all.push(shown(&recovered));
        })
        .unwrap();
    for session in queues {
        let mut after = MessageId(0);
        loop {
            let request = LoadRequest {
                session,
                after,
                count: 7,
                bytes: 3_000,
            };
            let loaded = store.read_queue(&request).unwrap();
            let Some((entry, _)) = loaded.entries.last() else {
                break;
            };
            after = entry.message;
            for (entry, message) in &loaded.entries {
                all.push(format!("{session:?} {entry:?} {:?}", message.as_bytes()));
            }
        }
    }
    all
}

fn shown(recovered: &Recovered) -> String {
    let message = match recovered {
        Recovered::Will(_, will) => Some(&will.message),
        Recovered::Retained(record) => Some(&record.message),
        Recovered::FanOut(_, message, _) => Some(message),
        Recovered::Flight(_, flight) => match &flight.state {
            FlightState::Assigned(message) => Some(message),
            FlightState::Received => None,
        },
        _ => None,
    };
    format!("{recovered:?} {:?}", message.map(Message::as_bytes))
}

/// A store on a simulated disk, the model beside it, and what the model held after each commit.
pub(crate) struct Pair {
    pub(crate) workload: Workload,
    pub(crate) model: MemoryStore,
    pub(crate) history: Vec<Vec<String>>,
}

impl Default for Pair {
    fn default() -> Self {
        let mut model = MemoryStore::recoverable();
        let history = vec![contents(&mut model)];
        Self {
            workload: Workload::default(),
            model,
            history,
        }
    }
}

impl Pair {
    /// Makes the next group and applies it to the model.
    pub(crate) fn group(&mut self, steps: &[Step]) -> Vec<StoreBatch> {
        let batches: Vec<StoreBatch> = steps
            .chunks(3)
            .map(|steps| self.workload.batch(steps))
            .collect();
        self.model.commit(&mut batches.clone()).unwrap();
        self.history.push(contents(&mut self.model));
        batches
    }

    pub(crate) fn now(&self) -> &[String] {
        self.history.last().unwrap()
    }
}
