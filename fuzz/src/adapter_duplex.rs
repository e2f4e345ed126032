//! The adapter over in-memory pipes: clients that write in chunks, stall, send rubbish and break off, while a pair of
//! well-behaved ones exchanges numbered messages.

use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use bytes::BytesMut;
use paloma_codec::{
    Connect, DecodeLimits, Decoder, Delivery, Packet, PacketId, ProtocolVersion, Publish, Qos,
    Subscribe, SubscribeFilter, SubscribeOptions,
};
use paloma_tokio::{Broker, Config, Running};
use paloma_topic::{Target, TopicName};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::timeout;

/// Clients that misbehave.
const CLIENTS: usize = 4;

/// Steps of one input.
const STEPS_MAX: usize = 200;

/// The pair's own topic, which rubbish will not hit upon.
const PAIR_TOPIC: &str = "the well-behaved pair's own topic";

/// Longest pause of one step.
const PASS_MILLIS_MAX: u64 = 15_000;

/// Longer, on the paused clock, than anything that is allowed to take time.
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(Arbitrary, Debug)]
enum Step {
    /// A new connection, after the old one of this client was cut.
    Open { client: u8, is_v5: bool },
    /// A packet, written in chunks of this size.
    Send {
        client: u8,
        packet: Sendable,
        chunk: u8,
    },
    /// Bytes that may be anything.
    Rubbish { client: u8, bytes: Vec<u8> },
    /// Reads at most so many bytes; a client that never does is a slow reader.
    Read { client: u8, bytes: u16 },
    /// Breaks off.
    Cut { client: u8 },
    /// Lets the broker work.
    Rest { rounds: u8 },
    /// Lets time pass.
    Pass { millis: u16 },
    /// The well-behaved pair exchanges a message.
    Exchange,
}

#[derive(Arbitrary, Debug)]
enum Sendable {
    Connect {
        name: u8,
        clean_start: bool,
        keep_alive_seconds: u8,
    },
    Subscribe {
        filter: u8,
        qos: u8,
    },
    Publish {
        topic: u8,
        qos: u8,
        id: u8,
        retain: bool,
        len: u16,
    },
    Ping,
}

/// Panics when the pair is disturbed, when something panics inside the broker, or when anything is left behind.
pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O");
    runtime.block_on(async {
        let mut config = Config::new();
        config.broker.seed = [7; 32];
        config.broker.limits.stall_timeout_ms = 2_000;
        config.broker.limits.queue_messages_max = 50;
        let running = Broker::start(config).await.expect("it listens nowhere");
        let mut pair = Pair::new(&running).await;
        let mut clients: [Option<Client>; CLIENTS] = [const { None }; CLIENTS];
        for _ in 0..STEPS_MAX {
            if input.is_empty() {
                break;
            }
            let Ok(step) = Step::arbitrary(&mut input) else {
                break;
            };
            take(step, &running, &mut clients, &mut pair).await;
        }
        drop(clients);
        pair.exchange().await;
        drop(pair);
        let gone = async {
            while running.tables().connections > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, gone)
            .await
            .expect("every connection ends");
        assert_eq!(running.counts().panics, 0, "something panicked");
        timeout(PATIENCE, running.stop())
            .await
            .expect("it stops")
            .expect("it has not failed");
    });
}

async fn take(
    step: Step,
    running: &Running,
    clients: &mut [Option<Client>; CLIENTS],
    pair: &mut Pair,
) {
    let index = |client: u8| usize::from(client) % CLIENTS;
    match step {
        Step::Open { client, is_v5 } => {
            clients[index(client)] = running
                .connect()
                .ok()
                .map(|stream| Client::new(stream, is_v5));
        }
        Step::Send {
            client,
            packet,
            chunk,
        } => {
            if let Some(client) = &mut clients[index(client)] {
                let bytes = client.encode(&packet);
                client.write(&bytes, usize::from(chunk) + 1).await;
            }
        }
        Step::Rubbish { client, bytes } => {
            if let Some(client) = &mut clients[index(client)] {
                client.write(&bytes, 64).await;
            }
        }
        Step::Read { client, bytes } => {
            if let Some(client) = &mut clients[index(client)] {
                client.read(bytes.into()).await;
            }
        }
        Step::Cut { client } => clients[index(client)] = None,
        Step::Rest { rounds } => {
            for _ in 0..rounds % 8 {
                tokio::task::yield_now().await;
            }
        }
        Step::Pass { millis } => {
            // All steps together stay below the keep alive that the broker asks the pair for.
            tokio::time::sleep(Duration::from_millis(u64::from(millis) % PASS_MILLIS_MAX)).await;
        }
        Step::Exchange => pair.exchange().await,
    }
}

/// A client that takes its time and may say anything.
struct Client {
    stream: DuplexStream,
    version: ProtocolVersion,
    decoder: Decoder,
    arrived: BytesMut,
}

impl Client {
    fn new(stream: DuplexStream, is_v5: bool) -> Self {
        let version = if is_v5 {
            ProtocolVersion::V5
        } else {
            ProtocolVersion::V3_1_1
        };
        let decoder = Decoder::client(version, DecodeLimits::UNLIMITED);
        Self {
            stream,
            version,
            decoder,
            arrived: BytesMut::new(),
        }
    }

    fn encode(&self, packet: &Sendable) -> Vec<u8> {
        let mut bytes = Vec::new();
        // What cannot be said in this version is not sent.
        let _ = to_packet(packet, self.version).encode(self.version, &mut bytes);
        bytes
    }

    /// Writes in chunks, but waits no longer than a moment for a broker that does not read.
    async fn write(&mut self, bytes: &[u8], chunk: usize) {
        for chunk in bytes.chunks(chunk) {
            let written = timeout(Duration::from_millis(1), self.stream.write_all(chunk)).await;
            if !matches!(written, Ok(Ok(()))) {
                return;
            }
        }
    }

    /// Reads what is there; whatever the broker sends must be packets.
    async fn read(&mut self, bytes_max: usize) {
        let mut buffer = vec![0; bytes_max];
        let read = timeout(Duration::from_millis(1), self.stream.read(&mut buffer)).await;
        let Ok(Ok(count)) = read else {
            return;
        };
        self.arrived.extend_from_slice(&buffer[..count]);
        while let Some(_packet) = self
            .decoder
            .decode_owned(&mut self.arrived)
            .expect("the broker sends packets")
        {}
    }
}

fn to_packet(packet: &Sendable, version: ProtocolVersion) -> Packet {
    let names = ["a", "a/b", "b", PAIR_TOPIC];
    let filters = ["a", "a/#", "+/b", "#", "$share/g/a/b", PAIR_TOPIC];
    let id = |id: u8| PacketId::new(u16::from(id) + 1).expect("not zero");
    match *packet {
        Sendable::Connect {
            name,
            clean_start,
            keep_alive_seconds,
        } => Packet::Connect(Box::new(Connect {
            version,
            clean_start,
            keep_alive_seconds: keep_alive_seconds.into(),
            client_id: format!("client-{}", name % 4).into(),
            ..Connect::default()
        })),
        Sendable::Subscribe { filter, qos } => {
            let filter = filters[usize::from(filter) % filters.len()];
            subscribe(filter, Qos::from_bits(qos % 3).expect("below three"))
        }
        Sendable::Publish {
            topic,
            qos,
            id: number,
            retain,
            len,
        } => {
            // The pair's topic is its own.
            let topic = names[usize::from(topic) % (names.len() - 1)];
            let delivery = match qos % 3 {
                0 => Delivery::AtMostOnce,
                1 => Delivery::AtLeastOnce {
                    id: id(number),
                    dup: false,
                },
                _ => Delivery::ExactlyOnce {
                    id: id(number),
                    dup: false,
                },
            };
            publish(topic, vec![number; usize::from(len)], delivery, retain)
        }
        Sendable::Ping => Packet::PingReq,
    }
}

fn subscribe(filter: &str, qos: Qos) -> Packet {
    let target = Target::parse(filter).expect("a valid filter");
    let filter = SubscribeFilter {
        target,
        options: SubscribeOptions::new(qos),
    };
    Packet::Subscribe(Subscribe::new(
        PacketId::new(1).expect("not zero"),
        vec![filter],
    ))
}

fn publish(topic: &str, payload: Vec<u8>, delivery: Delivery, retain: bool) -> Packet {
    let topic = TopicName::new(topic).expect("a valid topic");
    Packet::Publish(Box::new(Publish {
        delivery,
        retain,
        ..Publish::new(topic, payload.into())
    }))
}

/// Two clients that do everything right.
struct Pair {
    publisher: Client,
    subscriber: Client,
    sent: u32,
}

impl Pair {
    async fn new(running: &Running) -> Self {
        let client = || Client::new(running.connect().expect("there is room"), true);
        let mut pair = Self {
            publisher: client(),
            subscriber: client(),
            sent: 0,
        };
        for (client, name) in [
            (&mut pair.publisher, "publisher"),
            (&mut pair.subscriber, "subscriber"),
        ] {
            let connect = Connect {
                client_id: name.into(),
                ..Connect::default()
            };
            client.send(&Packet::Connect(Box::new(connect))).await;
            assert!(matches!(client.receive().await, Packet::ConnAck(_)));
        }
        pair.subscriber
            .send(&subscribe(PAIR_TOPIC, Qos::AtMostOnce))
            .await;
        assert!(matches!(pair.subscriber.receive().await, Packet::SubAck(_)));
        pair
    }

    async fn exchange(&mut self) {
        self.sent += 1;
        let payload = self.sent.to_be_bytes();
        self.publisher
            .send(&publish(
                PAIR_TOPIC,
                payload.to_vec(),
                Delivery::AtMostOnce,
                false,
            ))
            .await;
        let Packet::Publish(message) = self.subscriber.receive().await else {
            panic!("only messages come");
        };
        assert_eq!(message.payload[..], payload);
    }
}

impl Client {
    async fn send(&mut self, packet: &Packet) {
        let mut bytes = Vec::new();
        packet
            .encode(self.version, &mut bytes)
            .expect("a valid packet");
        let written = timeout(PATIENCE, self.stream.write_all(&bytes)).await;
        written
            .expect("the broker reads")
            .expect("the connection lives");
    }

    async fn receive(&mut self) -> Packet {
        loop {
            if let Some(packet) = self
                .decoder
                .decode_owned(&mut self.arrived)
                .expect("the broker sends packets")
            {
                return packet;
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.arrived)).await;
            assert_ne!(
                read.expect("the broker writes").expect("a pipe"),
                0,
                "it has closed"
            );
        }
    }
}
