//! Steps that clients take, played to a broker: with an oracle for clients that keep to the rules, and without regard for
//! the rules under any limits.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "this module is a test: what should not happen may panic"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use paloma_broker::{Limits, QueueWhenFull, Tables};
use paloma_codec::{
    Connect, DisconnectReason, Packet, PacketId, ProtocolVersion, Publish, Qos, Subscribe,
    SubscribeFilter, SubscribeOptions, Unsubscribe, Will,
};

use super::support::{
    Handle, World, acknowledgement, id, message, pub_comp, pub_rel, publish_packet, qos1, qos2,
    target, texts, v5, will,
};

pub(crate) const CLIENTS: usize = 4;
pub(crate) const TOPICS: [&str; 4] = ["a", "a/b", "a/c", "b"];
pub(crate) const FILTERS: [&str; 5] = ["a", "a/+", "a/#", "#", "b"];
pub(crate) const SHARED: [&str; 3] = ["$share/g/a/#", "$share/h/#", "$share/g/b"];
const EXPIRIES: [u32; 3] = [0, 10, 1_000];

/// What one client does, or all of them.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Connect {
        clean: bool,
        expiry: usize,
        will: bool,
    },
    Cut,
    Leave,
    Subscribe {
        filter: usize,
        qos: u8,
    },
    Unsubscribe {
        filter: usize,
    },
    Publish {
        topic: usize,
        qos: u8,
        retain: bool,
        empty: bool,
    },
    /// Takes what came, and acknowledges so many of it.
    Take {
        acknowledged: usize,
    },
    Read(bool),
    Commits(bool),
    Wait {
        millis: u64,
    },
    /// The broker dies and starts again.
    Crash,
}

fn filter(index: usize) -> &'static str {
    FILTERS.iter().chain(&SHARED).nth(index).unwrap_or(&"#")
}

fn subscribe(index: usize, qos: u8) -> Packet {
    let options = SubscribeOptions::new(Qos::from_bits(qos).unwrap_or_default());
    let target = target(filter(index));
    Packet::Subscribe(Subscribe::new(
        id(60_000),
        vec![SubscribeFilter { target, options }],
    ))
}

// ---- with an oracle -------------------------------------------------------------------------------------------------

/// What is known of a client that keeps to the rules, and of the session that it should have.
#[derive(Default)]
struct Known {
    connection: Option<Handle>,
    /// It does not read for now, and so does not publish: it would not see its answers.
    is_deaf: bool,
    has_session: bool,
    expiry_seconds: u32,
    /// When the session ends, in milliseconds of the script.
    ends_at: Option<u64>,
    subscriptions: BTreeMap<usize, u8>,
    /// Numbers that it has to get, with their QoS and topic, by the promises of the broker.
    owed: BTreeMap<u32, (u8, usize)>,
    got: Vec<u32>,
    /// Of those, what may come again as if it were new: the broker that knew better has died.
    forgotten: BTreeSet<u32>,
    /// QoS 2 ids whose PUBREL has not come.
    received: BTreeSet<PacketId>,
}

impl Known {
    fn end_session(&mut self) {
        *self = Self {
            connection: self.connection.take(),
            ..Self::default()
        };
    }
}

struct Play {
    world: World,
    known: Vec<Known>,
    /// Milliseconds since the script began.
    elapsed: u64,
    number: u32,
}

impl Play {
    fn new() -> Self {
        Self {
            world: World::with(|config| {
                config.limits.inflight_max = 3;
                config.limits.queue_memory_messages_max = 3;
            }),
            known: (0..CLIENTS).map(|_| Known::default()).collect(),
            elapsed: 0,
            number: 0,
        }
    }

    fn play(&mut self, who: usize, step: &Step) {
        let connection = self.known[who].connection;
        match (step, connection) {
            (Step::Connect { clean, expiry, .. }, _) => {
                self.connect(who, *clean, EXPIRIES[*expiry])
            }
            (Step::Wait { millis }, _) => self.wait(*millis),
            (Step::Crash, _) => self.crash(),
            (Step::Cut, Some(client)) => {
                self.world.drain(client);
                self.world.cut(client);
                self.left(who);
            }
            (Step::Leave, Some(client)) => {
                self.world
                    .disconnect(client, DisconnectReason::NormalDisconnection);
                self.left(who);
            }
            (Step::Subscribe { filter, qos }, Some(client)) if *filter < FILTERS.len() => {
                self.world.send(client, subscribe(*filter, *qos));
                self.known[who].subscriptions.insert(*filter, *qos);
            }
            (Step::Unsubscribe { filter }, Some(client)) if *filter < FILTERS.len() => {
                let unsubscribe = Unsubscribe::new(id(1), vec![target(FILTERS[*filter])]);
                self.world.send(client, Packet::Unsubscribe(unsubscribe));
                self.known[who].subscriptions.remove(filter);
            }
            (Step::Publish { topic, qos, .. }, Some(client)) if !self.known[who].is_deaf => {
                self.publish(client, *topic, *qos)
            }
            (Step::Take { acknowledged }, Some(_)) => self.take(who, *acknowledged),
            (Step::Read(reads), Some(client)) => {
                self.known[who].is_deaf = !*reads;
                self.world.set_reading(client, *reads);
            }
            (_, _) => {}
        }
    }

    fn connect(&mut self, who: usize, clean: bool, expiry: u32) {
        if let Some(earlier) = self.known[who].connection {
            self.world.drain(earlier);
            self.left(who);
        }
        let (client, ack) = self.world.connect(Connect {
            clean_start: clean,
            session_expiry_seconds: expiry,
            ..v5(&format!("c{who}"))
        });
        let known = &mut self.known[who];
        if clean {
            known.end_session();
        }
        assert_eq!(ack.session_present, known.has_session, "I6");
        known.connection = Some(client);
        known.is_deaf = false;
        known.has_session = true;
        known.expiry_seconds = expiry;
        known.ends_at = None;
    }

    fn left(&mut self, who: usize) {
        let known = &mut self.known[who];
        known.connection = None;
        known.ends_at = Some(self.elapsed + u64::from(known.expiry_seconds) * 1_000);
        if known.expiry_seconds == 0 {
            known.end_session();
        }
    }

    fn crash(&mut self) {
        for who in 0..CLIENTS {
            if let Some(client) = self.known[who].connection {
                self.world.drain(client);
                self.left(who);
            }
            let known = &mut self.known[who];
            known.forgotten = known.got.iter().copied().collect();
        }
        self.world.crash_for(Duration::ZERO);
    }

    fn wait(&mut self, millis: u64) {
        self.elapsed += millis;
        self.world.advance_millis(millis);
        for known in &mut self.known {
            if known.ends_at.is_some_and(|at| at <= self.elapsed) {
                known.end_session();
            }
        }
    }

    fn publish(&mut self, client: Handle, topic: usize, qos: u8) {
        self.number += 1;
        let publish = |delivery| {
            publish_packet(Publish {
                delivery,
                ..message(TOPICS[topic], &self.number.to_string())
            })
        };
        let packets = match qos {
            0 => vec![publish(paloma_codec::Delivery::AtMostOnce)],
            1 => vec![publish(qos1(1))],
            _ => vec![publish(qos2(1)), pub_rel(id(1))],
        };
        self.world.send_all(client, packets);
        for known in self.known.iter_mut().filter(|known| known.has_session) {
            let name = paloma_topic::TopicName::new(TOPICS[topic]).unwrap();
            let matching = known
                .subscriptions
                .iter()
                .filter(|(filter, _)| target(FILTERS[**filter]).filter().matches(name.borrowed()));
            if let Some(granted) = matching.map(|(_, granted)| *granted).max() {
                known.owed.insert(self.number, (qos.min(granted), topic));
            }
        }
    }

    fn take(&mut self, who: usize, acknowledged: usize) {
        let Some(client) = self.known[who].connection else {
            return;
        };
        let mut left = acknowledged;
        let mut ids = BTreeSet::new();
        for packet in self.world.drain(client) {
            if let Packet::PubRel(ack) = packet {
                self.known[who].received.remove(&ack.id);
                self.world.send(client, pub_comp(ack.id));
            } else if let Packet::Publish(publish) = packet {
                if let Some(packet) = publish.delivery.id() {
                    assert!(ids.insert(packet), "I5: an id twice in flight");
                }
                self.took(who, &publish);
                if left > 0
                    && let Some(packet) = acknowledgement(&publish)
                {
                    left -= 1;
                    self.world.send(client, packet);
                }
            }
        }
    }

    fn took(&mut self, who: usize, publish: &Publish) {
        let known = &mut self.known[who];
        let number: u32 = texts(std::slice::from_ref(publish))
            .concat()
            .parse()
            .unwrap();
        let is_new = match publish.delivery.qos() {
            Qos::ExactlyOnce => publish
                .delivery
                .id()
                .is_some_and(|packet| known.received.insert(packet)),
            Qos::AtLeastOnce => {
                let may_repeat = publish.delivery.is_dup() || known.forgotten.contains(&number);
                !(may_repeat && known.got.contains(&number))
            }
            Qos::AtMostOnce => true,
        };
        if is_new {
            assert!(!known.got.contains(&number), "I2: {number} twice for {who}");
            let owed = known.owed.get(&number).copied();
            assert_eq!(
                owed.map(|(qos, _)| qos),
                Some(publish.delivery.qos().bits()),
                "{number} for {who}"
            );
            known.got.push(number);
        }
    }

    /// Everybody who has a session comes back and takes all there is.
    fn finish(&mut self) {
        for who in 0..CLIENTS {
            if self.known[who].has_session {
                let expiry = self.known[who].expiry_seconds;
                if self.known[who].connection.is_none() {
                    self.connect(who, false, expiry);
                }
                let client = self.known[who].connection.unwrap();
                self.world.set_reading(client, true);
                for _ in 0..500 {
                    self.take(who, usize::MAX);
                }
                // Those that were taken and not acknowledged are sent again on another connection alone.
                if expiry > 0 {
                    self.connect(who, false, expiry);
                    for _ in 0..500 {
                        self.take(who, usize::MAX);
                    }
                }
            }
            self.check(who);
        }
    }

    fn check(&self, who: usize) {
        let known = &self.known[who];
        for (number, (qos, _)) in &known.owed {
            let is_kept = *qos > 0 && known.has_session && known.expiry_seconds > 0;
            assert!(
                !is_kept || known.got.contains(number),
                "I1: {number} for {who}"
            );
        }
        for topic in 0..TOPICS.len() {
            for qos in 0..3 {
                let of = |number: &&u32| known.owed.get(number) == Some(&(qos, topic));
                let got: Vec<_> = known.got.iter().filter(of).collect();
                assert!(got.is_sorted(), "I3: {got:?} for {who}");
            }
        }
    }

    /// Everybody leaves and time passes.
    fn leave(&mut self) {
        for who in 0..CLIENTS {
            if let Some(client) = self.known[who].connection {
                self.world.cut(client);
            }
        }
        self.world.advance(10_000);
        assert_eq!(self.world.broker.tables(), Tables::default(), "I13");
        assert_eq!(self.world.store.message_count(), 0, "I13");
        assert_eq!(self.world.broker.queued(), 0, "I13");
    }
}

/// Plays with an oracle; gives a hash of all that the broker sent.
pub(crate) fn play(script: &[(usize, Step)]) -> u64 {
    let mut play = Play::new();
    for (who, step) in script {
        play.play(*who, step);
    }
    play.finish();
    play.leave();
    play.world.trace
}

// ---- without one, at every limit ------------------------------------------------------------------------------------

pub(crate) type Change = fn(&mut Limits, u32);

fn narrow(value: u32) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

/// Every limit, set to a value as far as its type goes.
pub(crate) const LIMITS: &[Change] = &[
    |limits, value| limits.packet_bytes_max = value,
    |limits, value| limits.connect_bytes_max = value,
    |limits, value| limits.connect_timeout_ms = value,
    |limits, value| limits.keep_alive_seconds_max = narrow(value),
    |limits, value| limits.keep_alive_enforce_v3 = value == 0,
    |limits, value| limits.receive_maximum = narrow(value),
    |limits, value| limits.inflight_max = narrow(value),
    |limits, value| limits.inflight_bytes_max = value,
    |limits, value| limits.topic_alias_maximum = narrow(value),
    |limits, value| limits.topic_alias_bytes_max = value,
    |limits, value| limits.client_id_bytes_max = narrow(value),
    |limits, value| limits.will_bytes_max = value,
    |limits, value| limits.user_properties_max = narrow(value),
    |limits, value| limits.user_properties_bytes_max = value,
    |limits, value| limits.connections_max = value,
    |limits, value| limits.qos_max = u8::try_from(value).unwrap_or(u8::MAX),
    |limits, value| limits.retain_available = value == 0,
    |limits, value| limits.queue_messages_max = value,
    |limits, value| limits.queue_bytes_max = value,
    |limits, value| limits.queue_qos0 = value == 0,
    |limits, _| limits.queue_when_full = QueueWhenFull::DropOldest,
    |limits, value| limits.queue_memory_messages_max = value,
    |limits, value| limits.session_expiry_seconds_max = value,
    |limits, value| limits.sessions_max = value,
    |limits, value| limits.subscriptions_per_client_max = value,
    |limits, value| limits.filters_per_subscribe_max = narrow(value),
    |limits, value| limits.topic_levels_max = narrow(value),
    |limits, value| limits.topic_bytes_max = narrow(value),
    |limits, value| limits.retained_messages_max = value,
    |limits, value| limits.retained_bytes_max = value.into(),
    |limits, value| limits.will_delay_seconds_max = value,
    |limits, value| limits.connections_per_second_max = value,
    |limits, value| limits.connections_per_second_per_address_max = value,
    |limits, value| limits.rate_limit_loopback = value == 0,
    |limits, value| limits.uncommitted_bytes_max = value.into(),
];

/// A broker with the numbered limits changed.
pub(crate) fn limited(changes: &[(usize, u32)]) -> World {
    World::with(|config| {
        config.limits.queue_memory_messages_max = 3;
        for (index, value) in changes {
            LIMITS[index % LIMITS.len()](&mut config.limits, *value);
        }
    })
}

/// Plays with no regard for what the broker says, and sees that it adds up and empties.
pub(crate) fn play_limited(mut world: World, script: &[(usize, Step)]) {
    let mut clients: [Option<Handle>; CLIENTS] = [None; CLIENTS];
    for (number, (who, step)) in script.iter().enumerate() {
        let connection = clients[*who];
        let payload = number.to_string();
        match (step, connection) {
            (
                Step::Connect {
                    clean,
                    expiry,
                    will: has_will,
                },
                _,
            ) => {
                let version = [ProtocolVersion::V5, ProtocolVersion::V3_1_1][*who % 2];
                clients[*who] = world.try_open(version);
                if let Some(client) = clients[*who] {
                    let connect = Connect {
                        version,
                        clean_start: *clean,
                        keep_alive_seconds: 5,
                        session_expiry_seconds: EXPIRIES[*expiry],
                        will: has_will.then(|| Will {
                            delay_seconds: EXPIRIES[*expiry] / 2,
                            qos: Qos::AtLeastOnce,
                            ..will("a/b", "gone")
                        }),
                        ..v5(&format!("c{who}"))
                    };
                    world.send(client, Packet::Connect(Box::new(connect)));
                }
            }
            (Step::Wait { millis }, _) => world.advance_millis(*millis),
            (Step::Crash, _) => {
                world.crash();
                clients = [None; CLIENTS];
            }
            (Step::Commits(commits), _) => {
                world.commits = *commits;
                world.commit();
            }
            (Step::Cut, Some(client)) => world.cut(client),
            (Step::Leave, Some(client)) => {
                world.disconnect(client, DisconnectReason::NormalDisconnection);
            }
            (Step::Subscribe { filter, qos }, Some(client)) => {
                world.send(client, subscribe(*filter, *qos));
            }
            (Step::Unsubscribe { filter: index }, Some(client)) => {
                let unsubscribe = Unsubscribe::new(id(1), vec![target(filter(*index))]);
                world.send(client, Packet::Unsubscribe(unsubscribe));
            }
            (
                Step::Publish {
                    topic,
                    qos,
                    retain,
                    empty,
                },
                Some(client),
            ) => {
                let mut publish = message(TOPICS[*topic], if *empty { "" } else { &payload });
                publish.retain = *retain;
                publish.properties.message_expiry_seconds = (number % 3 == 0).then_some(5);
                publish.delivery =
                    [paloma_codec::Delivery::AtMostOnce, qos1(1), qos2(1)][usize::from(*qos)];
                world.send_all(client, vec![publish_packet(publish), pub_rel(id(1))]);
            }
            (Step::Take { acknowledged }, Some(client)) => {
                let publishes = world.publishes(client);
                let acks = publishes.iter().take(*acknowledged);
                let acks = acks.filter_map(acknowledgement).collect();
                world.send_all(client, acks);
            }
            (Step::Read(reads), Some(client)) => world.set_reading(client, *reads),
            (_, None) => {}
        }
    }
    world.commits = true;
    world.commit();
    for client in clients.into_iter().flatten() {
        world.cut(client);
    }
    world.advance(5_000_000_000);
    let tables = world.broker.tables();
    assert_eq!(
        (tables.connections, tables.sessions, tables.subscriptions),
        (0, 0, 0),
        "I13"
    );
    assert_eq!(world.store.message_count(), 0, "I13");
    assert_eq!(world.broker.queued(), 0, "I13");
}
