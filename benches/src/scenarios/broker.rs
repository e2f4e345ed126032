//! Scenarios of `paloma-broker`: whole turns, from the publisher's bytes to the subscribers' bytes, through the tap that an
//! adapter has between itself and the core.

use std::hint::black_box;

use bytes::Bytes;
use paloma_broker::{
    AuthOutcome, BrokerConfig, ConnectionId, ConnectionInfo, Effect, Identity, MemoryStore, Reply,
};
use paloma_codec::{
    Ack, Connect, DecodeLimits, Decoder, Delivery, Packet, PacketId, PacketRef, ProtocolVersion,
    PubAckReason, PubCompReason, PubRecReason, PubRelReason, Publish, Qos, Subscribe,
    SubscribeFilter, SubscribeOptions, Unsubscribe,
};
use paloma_record::{Settings, Tap, seal};
use paloma_session::{Monotonic, Now, Transmit, TransmitStatus, Wall};
use paloma_topic::{Target, TopicName};

use crate::{Scenario, Work};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::gated("broker/turn/1-to-1/single", 1, || {
        publish(&World::one_to_one(0), 1)
    }),
    Scenario::gated("broker/turn/1-to-1/batch-50", 50, || {
        publish(&World::one_to_one(0), 50)
    }),
    Scenario::gated("broker/turn/1-to-1/batch-50-of-100k", 50, || {
        publish(&World::one_to_one(100_000), 50)
    }),
    Scenario::gated("broker/turn/1-to-1/qos1", 32, || {
        publish(&World::one_to_one_at(Qos::AtLeastOnce), 32)
    }),
    Scenario::gated("broker/turn/1-to-1/qos2", 20, || {
        publish(&World::one_to_one_at(Qos::ExactlyOnce), 20)
    }),
    Scenario::gated("broker/turn/1-to-1000/exact", 1_000, || {
        publish(&World::one_to_many(TOPIC, 1_000), 1)
    }),
    Scenario::gated("broker/turn/1-to-1000/wildcard", 1_000, || {
        publish(&World::one_to_many("site/+/device/#", 1_000), 1)
    }),
    // The same as without a record, and what that costs: `docs/adr/0011-a-record-begins-with-its-broker.md`.
    Scenario::gated("broker/turn/1-to-1/batch-50/recorded", 50, || {
        publish(&World::one_to_one(0).recorded(), 50)
    }),
    Scenario::gated("broker/turn/1-to-1/topics-50", 50, || {
        publish(&World::many_topics(), 50)
    }),
    Scenario::gated("broker/turn/1-to-1/topics-50/recorded", 50, || {
        publish(&World::many_topics().recorded(), 50)
    }),
    Scenario::gated("broker/turn/1-to-1/qos1/recorded", 32, || {
        publish(&World::one_to_one_at(Qos::AtLeastOnce).recorded(), 32)
    }),
    // Each message for three subscribers whose filters are far away from those of the one before.
    Scenario::gated("broker/turn/1-to-3/of-10k", 3 * FAR_BATCH as u64, || {
        publish_far(10_000)
    }),
    Scenario::timed("broker/turn/1-to-3/of-100k", 3 * FAR_BATCH as u64, || {
        publish_far(100_000)
    }),
    Scenario::timed("broker/turn/1-to-3/of-1M", 3 * FAR_BATCH as u64, || {
        publish_far(1_000_000)
    }),
    // Each with a walk over the retained messages before it: looking for one of them must not mean looking at all.
    Scenario::gated("broker/subscribe-unsubscribe/1000", 1_000, || {
        subscribe_and_unsubscribe(1_000)
    }),
];

/// Messages of a turn that are far apart, and turns before the first ones come again.
const FAR_BATCH: usize = 20;
const FAR_TURNS: usize = 3_000;
/// Subscribers who share very many filters.
const FAR_SUBSCRIBERS: usize = 500;
/// Filters of a SUBSCRIBE.
const FILTERS_PER_PACKET: usize = 100;

const TOPIC: &str = "site/7/device/712/state";

/// How a world is set up; building it is left to the scenario's preparation.
pub(super) struct World {
    filter: &'static str,
    qos: Qos,
    subscribers: usize,
    /// Subscriptions of somebody else, which do not match.
    bystanders: usize,
    /// Each message of a turn has a topic of its own.
    has_many_topics: bool,
    is_recorded: bool,
}

impl World {
    fn one_to_one(bystanders: usize) -> Self {
        Self {
            bystanders,
            ..Self::one_to_many(TOPIC, 1)
        }
    }

    fn one_to_one_at(qos: Qos) -> Self {
        Self {
            qos,
            ..Self::one_to_many(TOPIC, 1)
        }
    }

    /// Subscribers at QoS 1 who acknowledge nothing, all but the last.
    pub(super) fn one_to_many_unread(subscribers: usize) -> Self {
        Self {
            qos: Qos::AtLeastOnce,
            ..Self::one_to_many(TOPIC, subscribers)
        }
    }

    pub(super) fn one_to_many_exact(subscribers: usize) -> Self {
        Self::one_to_many(TOPIC, subscribers)
    }

    fn one_to_many(filter: &'static str, subscribers: usize) -> Self {
        Self {
            filter,
            qos: Qos::AtMostOnce,
            subscribers,
            bystanders: 0,
            has_many_topics: false,
            is_recorded: false,
        }
    }

    fn many_topics() -> Self {
        Self {
            has_many_topics: true,
            ..Self::one_to_many("site/+/device/#", 1)
        }
    }

    fn recorded(self) -> Self {
        Self {
            is_recorded: true,
            ..self
        }
    }
}

/// So many messages of 64 bytes, and what releases those of QoS 2.
pub(super) fn messages(world: &World, count: u16) -> Vec<u8> {
    let mut input = Vec::new();
    for id in 1..=count {
        let topic = if world.has_many_topics {
            TopicName::new(format!("site/7/device/{}/state", 100 + id))
        } else {
            TopicName::new(TOPIC)
        };
        let topic = topic.expect("a valid topic");
        let mut publish = Publish::new(topic, Bytes::from_static(&[b'x'; 64]));
        let id = PacketId::new(id).expect("not zero");
        publish.delivery = match world.qos {
            Qos::AtMostOnce => Delivery::AtMostOnce,
            Qos::AtLeastOnce => Delivery::AtLeastOnce { id, dup: false },
            Qos::ExactlyOnce => Delivery::ExactlyOnce { id, dup: false },
        };
        encode(Packet::Publish(Box::new(publish)), &mut input);
    }
    for id in (1..=count).filter_map(PacketId::new) {
        if world.qos == Qos::ExactlyOnce {
            let release = Ack::new(id, PubRelReason::Success);
            encode(Packet::PubRel(release), &mut input);
        }
    }
    input
}

/// One publisher sends `count` messages in one turn, and all that follows is done.
fn publish(world: &World, count: u16) -> Work {
    let mut driver = Driver::new(world);
    let mut publisher = driver.connect("publisher");
    let input = messages(world, count);
    let mut delivered = 0;
    Box::new(move || {
        driver.input(&mut publisher, &input);
        driver.settle();
        assert!(driver.bytes_out > delivered, "subscribers got something");
        delivered = driver.bytes_out;
    })
}

/// One publisher sends a batch in one turn, each message of which three of the subscribers get.
fn publish_far(filters: usize) -> Work {
    let mut driver = Driver::new(&World::one_to_many(TOPIC, 0));
    let groups = filters / 3;
    let all: Vec<String> = (0..groups).flat_map(super::filters_of_group).collect();
    for number in 0..FAR_SUBSCRIBERS {
        let mut socket = driver.connect(&format!("far-{number}"));
        let own: Vec<&String> = all.iter().skip(number).step_by(FAR_SUBSCRIBERS).collect();
        for filters in own.chunks(FILTERS_PER_PACKET) {
            driver.subscribe_all(&mut socket, filters, Qos::AtMostOnce);
        }
    }
    let mut publisher = driver.connect("publisher");
    let far: Vec<usize> = super::far_groups(groups)
        .take(FAR_BATCH * FAR_TURNS)
        .collect();
    let inputs: Vec<Vec<u8>> = far.chunks_exact(FAR_BATCH).map(far_messages).collect();
    let (mut turn, mut delivered) = (0, 0);
    Box::new(move || {
        let input = inputs.get(turn % inputs.len()).expect("below their number");
        turn += 1;
        driver.input(&mut publisher, input);
        driver.settle();
        assert!(driver.bytes_out > delivered, "subscribers got something");
        delivered = driver.bytes_out;
    })
}

fn far_messages(groups: &[usize]) -> Vec<u8> {
    let mut input = Vec::new();
    for &group in groups {
        let topic = TopicName::new(super::topic_of_group(group)).expect("a valid topic");
        let publish = Publish::new(topic, Bytes::from_static(&[b'x'; 64]));
        encode(Packet::Publish(Box::new(publish)), &mut input);
    }
    input
}

/// One client subscribes to `count` filters and unsubscribes from all of them.
fn subscribe_and_unsubscribe(count: usize) -> Work {
    let mut driver = Driver::new(&World::one_to_many(TOPIC, 1));
    let mut client = driver.connect("client");
    let topic = TopicName::new(TOPIC).expect("a valid topic");
    let mut retained = Publish::new(topic, Bytes::from_static(b"x"));
    retained.retain = true;
    let mut input = Vec::new();
    encode(Packet::Publish(Box::new(retained)), &mut input);
    driver.input(&mut client, &input);
    driver.settle();
    let targets: Vec<Target> = (0..count)
        .map(|number| Target::parse(format!("home/{number}/+/state")).expect("a valid filter"))
        .collect();
    let options = SubscribeOptions::new(Qos::AtMostOnce);
    let id = PacketId::new(1).expect("not zero");
    let filters = targets.iter().cloned();
    let filters = filters.map(|target| SubscribeFilter { target, options });
    let subscribe = Packet::Subscribe(Subscribe::new(id, filters.collect()));
    let packets = [
        subscribe,
        Packet::Unsubscribe(Unsubscribe::new(id, targets)),
    ];
    let inputs = packets.map(|packet| {
        let mut input = Vec::new();
        encode(packet, &mut input);
        input
    });
    Box::new(move || {
        for input in &inputs {
            driver.input(&mut client, input);
            driver.settle();
            // So many filters take several turns.
            while !driver.broker.may_read(client.id) {
                driver.settle();
            }
        }
    })
}

/// A connection as an adapter has it.
pub(super) struct Socket {
    id: ConnectionId,
    decoder: Decoder,
}

/// The broker and what an adapter does for it.
pub(super) struct Driver {
    pub(super) broker: Tap,
    out: Transmit,
    /// What was taken of the record.
    part: Vec<u8>,
    bytes_out: usize,
    /// The subscriber that acknowledges what it gets above QoS 0, and its side of the connection.
    acknowledging: Option<(Socket, Decoder)>,
    acks: Vec<u8>,
}

/// Time does not pass here.
pub(super) const NOW: Now = Now::new(Monotonic::from_millis(1), Wall::from_millis(1));

impl Driver {
    pub(super) fn new(world: &World) -> Self {
        let mut config = BrokerConfig::new([1; 32]);
        config.limits.connections_per_second_max = 100_000;
        config.limits.connections_per_second_per_address_max = 100_000;
        config.limits.subscriptions_per_client_max = 1_000_000;
        let settings = Settings::new(u64::MAX, 64 * 1024, 4 * 1024);
        let settings = world.is_recorded.then_some(settings);
        let (broker, _) = Tap::recover(config, NOW, &mut MemoryStore::new(), settings)
            .expect("a store without anything in it");
        let mut driver = Self {
            broker,
            out: Transmit::default(),
            part: Vec::new(),
            bytes_out: 0,
            acknowledging: None,
            acks: Vec::new(),
        };
        for number in 0..world.subscribers {
            let mut socket = driver.connect(&format!("subscriber-{number}"));
            driver.subscribe(&mut socket, world.filter, world.qos);
            if world.qos != Qos::AtMostOnce {
                let client = Decoder::client(ProtocolVersion::V5, DecodeLimits::default());
                driver.acknowledging = Some((socket, client));
            }
        }
        if world.bystanders > 0 {
            let mut socket = driver.connect("bystander");
            for number in 0..world.bystanders {
                let filter = format!("site/{}/device/{number}/command", number / 100);
                driver.subscribe(&mut socket, &filter, Qos::AtMostOnce);
            }
        }
        driver
    }

    pub(super) fn connect(&mut self, client_id: &str) -> Socket {
        let id = self
            .broker
            .open(NOW, ConnectionInfo::default())
            .expect("within the limits");
        let mut socket = Socket {
            id,
            decoder: Decoder::server(self.broker.decode_limits()),
        };
        let connect = Connect {
            client_id: client_id.into(),
            ..Connect::default()
        };
        let mut bytes = Vec::new();
        encode(Packet::Connect(Box::new(connect)), &mut bytes);
        self.input(&mut socket, &bytes);
        self.settle();
        socket
    }

    fn subscribe(&mut self, socket: &mut Socket, filter: &str, qos: Qos) {
        self.subscribe_all(socket, &[filter], qos);
    }

    /// One SUBSCRIBE, and as many turns as it takes.
    fn subscribe_all(&mut self, socket: &mut Socket, filters: &[impl AsRef<str>], qos: Qos) {
        let options = SubscribeOptions::new(qos);
        let id = PacketId::new(1).expect("not zero");
        let filters = filters.iter().map(|filter| SubscribeFilter {
            target: Target::parse(filter.as_ref().to_owned()).expect("a valid filter"),
            options,
        });
        let mut bytes = Vec::new();
        encode(
            Packet::Subscribe(Subscribe::new(id, filters.collect())),
            &mut bytes,
        );
        self.input(socket, &bytes);
        self.settle();
        while !self.broker.may_read(socket.id) {
            self.settle();
        }
    }

    /// What was read from a socket.
    pub(super) fn input(&mut self, socket: &mut Socket, bytes: &[u8]) {
        let mut rest = bytes;
        let mut topic = None;
        while let Some((mut packet, used)) = socket
            .decoder
            .decode_after(rest, topic)
            .expect("valid packets")
        {
            if let PacketRef::Publish(publish) = &packet {
                topic = publish.topic.name().copied().or(topic);
            }
            let (frame, others) = rest.split_at(used);
            let goes_on = self
                .broker
                .handle_packet(NOW, socket.id, &mut packet, frame);
            black_box(goes_on || self.broker.may_read(socket.id));
            rest = others;
        }
        self.broker.count_received_bytes(bytes.len());
    }

    /// Turns until the broker asks for nothing more; every commit succeeds at once.
    pub(super) fn settle(&mut self) {
        loop {
            self.broker.finish_turn(NOW);
            let mut is_quiet = true;
            while let Some(effect) = self.broker.poll_effect() {
                is_quiet = false;
                self.handle_effect(effect);
            }
            if let Some((mut socket, client)) = self.acknowledging.take() {
                let acks = std::mem::take(&mut self.acks);
                self.input(&mut socket, &acks);
                self.acknowledging = Some((socket, client));
                self.acks = acks;
                self.acks.clear();
            }
            self.broker.end_turn();
            if self.broker.is_record_ripe() {
                self.broker.take_record(&mut self.part);
                black_box(seal(&self.part));
            }
            if is_quiet {
                return;
            }
        }
    }

    fn handle_effect(&mut self, effect: Effect) {
        match effect {
            Effect::Transmit(id) => self.transmit(id),
            Effect::Authenticate(id, _) => {
                let outcome = AuthOutcome::allow(Identity::ANONYMOUS);
                self.broker
                    .handle_reply(NOW, Reply::Authenticated(id, outcome));
            }
            Effect::Persist(batch) => {
                self.broker.handle_reply(NOW, Reply::Committed(batch.seq));
            }
            Effect::Close(id, cause) => unreachable!("{id:?} is closed: {cause}"),
            Effect::Resume(_) | Effect::Load(_) => {}
        }
    }

    /// What is written to a socket; the acknowledging subscriber reads it.
    fn transmit(&mut self, id: ConnectionId) {
        loop {
            self.out.clear();
            let status = self.broker.poll_transmit(NOW, id, &mut self.out);
            self.bytes_out += self.out.len();
            if let Some((socket, client)) = &mut self.acknowledging
                && socket.id == id
            {
                acknowledge(client, self.out.bytes(), &mut self.acks);
            }
            if status != TransmitStatus::Full {
                return;
            }
        }
    }
}

/// Appends what answers each PUBLISH and PUBREL.
fn acknowledge(client: &mut Decoder, bytes: &[u8], acks: &mut Vec<u8>) {
    let mut rest = bytes;
    while let Some((packet, used)) = client.decode(rest).expect("what the broker wrote") {
        let answer = if let PacketRef::Publish(publish) = packet {
            match publish.delivery {
                Delivery::AtMostOnce => None,
                Delivery::AtLeastOnce { id, .. } => {
                    Some(Packet::PubAck(Ack::new(id, PubAckReason::Success)))
                }
                Delivery::ExactlyOnce { id, .. } => {
                    Some(Packet::PubRec(Ack::new(id, PubRecReason::Success)))
                }
            }
        } else if let PacketRef::PubRel(release) = packet {
            let completed = Ack::new(release.id, PubCompReason::Success);
            Some(Packet::PubComp(completed))
        } else {
            None
        };
        if let Some(answer) = answer {
            encode(answer, acks);
        }
        rest = rest.get(used..).expect("no more is used than there was");
    }
}

fn encode(packet: Packet, out: &mut Vec<u8>) {
    packet
        .encode(ProtocolVersion::V5, out)
        .expect("a packet that 5.0 can say");
}
