//! How long the core is held: for a message, and by the longest turns. `cargo bench -p paloma-bench --bench lock`.
//!
//! An adapter decodes before it takes the core's lock. Under it are the turn, and then the pull of what is to be written.
#![expect(
    clippy::print_stdout,
    reason = "what it measures is for whoever started it"
)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use paloma_bench::by_hand::{NOW, carry_out, computing, median};
use paloma_broker::{Broker, BrokerConfig, ConnectionId, ConnectionInfo};
use paloma_codec::{
    Connect, Decoder, Packet, PacketId, PacketRef, ProtocolVersion, Publish, Qos, Subscribe,
    SubscribeFilter, SubscribeOptions,
};
use paloma_session::{Now, Transmit, TransmitStatus};
use paloma_topic::{Target, TopicName};

/// So many filters, and how they look.
struct Filters {
    name: &'static str,
    count: usize,
    filter: fn(usize) -> String,
}

const FILTERS: &[Filters] = &[
    Filters {
        name: "of 1,000,000",
        count: 1_000_000,
        filter: |number| format!("home/{number}/+/state"),
    },
    Filters {
        name: "exact, of 1,000,000",
        count: 1_000_000,
        filter: |number| format!("home/{number}/lamp/state"),
    },
    Filters {
        name: "shared, of 250,000",
        count: 250_000,
        filter: |number| format!("$share/group/home/{number}/+/state"),
    },
];

/// How often a turn with messages is measured.
const SAMPLES: usize = 20_001;

fn main() {
    println!("core held for a message of 64 bytes to one subscriber, median of {SAMPLES}, ns");
    for (name, topics, count) in [
        ("alone in its turn", 1, 1),
        ("50 in a turn", 1, 50),
        ("50 in a turn, on 50 topics", 50, 50),
    ] {
        let (turn, pull) = held_for_a_message(topics, count);
        println!("{name:<28} turn {turn:>7.1}  pull {pull:>7.1}");
    }
    println!("longest turn, in computing time");
    let longest = |name: &str, time: Duration| println!("{name:<52} {time:>10.1?}");
    longest("$SYS, everything changed", sys_turn());
    longest("one of 100,000 that connect", longest_connect(100_000));
    longest(
        "one of 100,000 that subscribe to one filter",
        longest_of_one_filter(100_000),
    );
    longest(
        "one of a memory round over 100,000 sessions",
        longest_of_round(100_000),
    );
    for filters in FILTERS {
        let name = format!("one SUBSCRIBE of 100 filters, {}", filters.name);
        longest(&name, longest_subscribe(filters));
    }
    longest(
        "one of 1,000,000 that is retained",
        longest_retained(1_000_000),
    );
}

/// Nanoseconds for one message: in the turn that takes it in, and in the pull.
fn held_for_a_message(topics: usize, count: usize) -> (f64, f64) {
    let mut core = Core::new();
    let mut subscriber = core.connect("subscriber");
    core.subscribe(&mut subscriber, &["site/+/device/#".to_owned()]);
    let mut publisher = core.connect("publisher");
    let mut input = Vec::new();
    for number in 0..count {
        let topic = TopicName::new(format!("site/7/device/{}/state", 100 + number % topics));
        let topic = topic.expect("a valid topic");
        let publish = Publish::new(topic, Bytes::from_static(&[b'x'; 64]));
        encode(Packet::Publish(Box::new(publish)), &mut input);
    }
    let clock = median((0..SAMPLES).map(|_| Instant::now().elapsed()).collect());
    let (mut turns, mut pulls) = (Vec::new(), Vec::new());
    for _ in 0..SAMPLES {
        let packets = publisher.decode(&input);
        let start = Instant::now();
        core.turn(publisher.id, packets);
        turns.push(start.elapsed().saturating_sub(clock));
        let start = Instant::now();
        let bytes = core.pull();
        pulls.push(start.elapsed().saturating_sub(clock));
        assert!(bytes > 64 * count, "the subscriber got all of it");
    }
    let each =
        |times| median(times).as_secs_f64() * 1e9 / f64::from(u32::try_from(count).unwrap_or(1));
    (each(turns), each(pulls))
}

/// The turn that publishes all topics of `$SYS`.
fn sys_turn() -> Duration {
    let mut config = BrokerConfig::new([1; 32]);
    config.sys_interval_seconds = 10;
    let mut core = Core::with(config);
    core.connect("client");
    let mut now = NOW.monotonic;
    let mut longest = Duration::ZERO;
    for number in 0..30 {
        core.connect(&format!("client-{number}"));
        now = now.saturating_add(Duration::from_secs(10));
        let at = Now::new(now, NOW.wall);
        longest = longest.max(computing(|| {
            core.broker.handle_timeout(at);
            core.broker.finish_turn(at);
        }));
        core.carry_out();
    }
    longest
}

fn longest_connect(count: usize) -> Duration {
    let mut core = Core::new();
    let mut longest = Duration::ZERO;
    for number in 0..count {
        core.connect(&format!("client-{number}"));
        longest = longest.max(std::mem::take(&mut core.longest));
    }
    longest
}

fn longest_of_round(count: usize) -> Duration {
    let mut core = Core::new();
    for number in 0..count {
        core.connect(&format!("client-{number}"));
    }
    // Longer than a round may be put off.
    let now = NOW.monotonic.saturating_add(Duration::from_secs(11));
    let turns = (0..2 * count / 512)
        .map(|_| computing(|| core.broker.finish_turn(Now::new(now, NOW.wall))));
    turns.max().unwrap_or_default()
}

fn longest_of_one_filter(count: usize) -> Duration {
    let mut core = Core::new();
    let mut longest = Duration::ZERO;
    for number in 0..count {
        let mut client = core.connect(&format!("client-{number}"));
        core.longest = Duration::ZERO;
        core.subscribe(&mut client, &["news".to_owned()]);
        longest = longest.max(core.longest);
    }
    longest
}

fn longest_subscribe(filters: &Filters) -> Duration {
    let mut core = Core::new();
    let filters: Vec<String> = (0..filters.count).map(filters.filter).collect();
    let mut longest = Duration::ZERO;
    for (number, own) in filters.chunks(2_000).enumerate() {
        let mut client = core.connect(&format!("client-{number}"));
        core.longest = Duration::ZERO;
        for filters in own.chunks(100) {
            core.subscribe(&mut client, filters);
        }
        longest = longest.max(core.longest);
    }
    longest
}

fn longest_retained(count: usize) -> Duration {
    let mut core = Core::new();
    let mut client = core.connect("client");
    core.longest = Duration::ZERO;
    for number in 0..count {
        let topic = TopicName::new(format!("home/{number}/state")).expect("a valid topic");
        let mut publish = Publish::new(topic, Bytes::from_static(&[b'x'; 16]));
        publish.retain = true;
        core.hand(&mut client, Packet::Publish(Box::new(publish)));
    }
    core.longest
}

fn encode(packet: Packet, out: &mut Vec<u8>) {
    packet
        .encode(ProtocolVersion::V5, out)
        .expect("a packet that 5.0 can say");
}

/// One connection's receiving side.
struct Client {
    id: ConnectionId,
    decoder: Decoder,
}

impl Client {
    fn decode<'a>(&mut self, bytes: &'a [u8]) -> Vec<PacketRef<'a>> {
        let (mut rest, mut packets) = (bytes, Vec::new());
        while let Some((packet, used)) = self.decoder.decode(rest).expect("valid packets") {
            packets.push(packet);
            rest = rest.get(used..).expect("no more is used than there was");
        }
        packets
    }
}

/// A broker, and what an adapter does for it.
struct Core {
    broker: Broker,
    /// Connections that have something to send.
    dirty: Vec<ConnectionId>,
    out: Transmit,
    /// The longest turn of [`Core::hand`].
    longest: Duration,
}

impl Core {
    fn new() -> Self {
        let mut config = BrokerConfig::new([1; 32]);
        config.sys_interval_seconds = 0;
        Self::with(config)
    }

    fn with(mut config: BrokerConfig) -> Self {
        config.limits.connections_max = 1_000_000;
        config.limits.retained_messages_max = 1_000_000;
        config.limits.retained_bytes_max = u64::MAX;
        config.limits.connections_per_second_max = 1_000_000;
        config.limits.connections_per_second_per_address_max = 1_000_000;
        Self {
            broker: Broker::new(config),
            dirty: Vec::new(),
            out: Transmit::default(),
            longest: Duration::ZERO,
        }
    }

    fn connect(&mut self, client_id: &str) -> Client {
        let id = self.broker.open(NOW, ConnectionInfo::default());
        let mut client = Client {
            id: id.expect("within the limits"),
            decoder: Decoder::server(self.broker.decode_limits()),
        };
        let connect = Connect {
            client_id: client_id.into(),
            ..Connect::default()
        };
        self.hand(&mut client, Packet::Connect(Box::new(connect)));
        client
    }

    fn subscribe(&mut self, client: &mut Client, filters: &[String]) {
        let options = SubscribeOptions::new(Qos::AtMostOnce);
        let filters = filters.iter().map(|filter| SubscribeFilter {
            target: Target::parse(filter.clone()).expect("a valid filter"),
            options,
        });
        let id = PacketId::new(1).expect("not zero");
        let subscribe = Subscribe::new(id, filters.collect());
        self.hand(client, Packet::Subscribe(subscribe));
    }

    /// Hands a packet to the broker and goes on until it has done everything.
    fn hand(&mut self, client: &mut Client, packet: Packet) {
        let mut bytes = Vec::new();
        encode(packet, &mut bytes);
        let mut packets = client.decode(&bytes);
        loop {
            let packets = std::mem::take(&mut packets);
            let time = computing(|| self.turn(client.id, packets));
            self.longest = self.longest.max(time);
            self.pull();
            if self.broker.may_read(client.id) {
                return;
            }
        }
    }

    /// One turn, as an adapter takes it under its lock.
    fn turn(&mut self, id: ConnectionId, packets: Vec<PacketRef<'_>>) {
        for packet in packets {
            self.broker.handle_packet(NOW, id, packet);
            if !self.broker.may_read(id) {
                break;
            }
        }
        self.broker.finish_turn(NOW);
        self.carry_out();
    }

    fn carry_out(&mut self) {
        while let Some(effect) = self.broker.poll_effect() {
            self.dirty.extend(carry_out(&mut self.broker, effect));
        }
    }

    /// What a flusher does under the lock; gives the bytes that it would write.
    fn pull(&mut self) -> usize {
        let mut bytes = 0;
        for id in std::mem::take(&mut self.dirty) {
            loop {
                self.out.clear();
                let status = self.broker.poll_transmit(NOW, id, &mut self.out);
                bytes += self.out.len();
                if status != TransmitStatus::Full {
                    break;
                }
            }
        }
        bytes
    }
}
