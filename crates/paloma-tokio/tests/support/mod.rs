//! A client made of the codec alone, over any transport, and what the suites share.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use paloma_codec::{
    Ack, Connect, DecodeLimits, Decoder, Delivery, Packet, PacketId, ProtocolVersion, Publish, Qos,
    Subscribe, SubscribeFilter, SubscribeOptions,
};
use paloma_tokio::{Broker, Config, Running};
use paloma_topic::{Target, TopicName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Far longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const VERSIONS: [ProtocolVersion; 2] = [ProtocolVersion::V3_1_1, ProtocolVersion::V5];

pub(crate) struct Peer<S> {
    pub(crate) stream: S,
    pub(crate) version: ProtocolVersion,
    decoder: Decoder,
    buffer: BytesMut,
}

pub(crate) fn id(value: u16) -> PacketId {
    PacketId::new(value).expect("not zero")
}

pub(crate) fn config() -> Config {
    let mut config = Config::new();
    config.broker.limits.connections_per_second_max = 1_000_000;
    config.broker.limits.connections_per_second_per_address_max = 1_000_000;
    config
}

pub(crate) fn roomy(mut config: Config) -> Config {
    // Loss at a full queue is another suite's subject.
    config.broker.limits.queue_messages_max = 1_000_000;
    config.broker.limits.queue_bytes_max = 1 << 30;
    config
}

pub(crate) fn tcp_config() -> Config {
    config().listen(([127, 0, 0, 1], 0).into())
}

pub(crate) async fn start(config: Config) -> Running {
    Broker::start(config).await.expect("the broker starts")
}

pub(crate) fn connect(version: ProtocolVersion, client_id: &str) -> Connect {
    Connect {
        version,
        client_id: client_id.into(),
        ..Connect::default()
    }
}

pub(crate) fn publish(topic: &str, payload: impl Into<Bytes>, delivery: Delivery) -> Packet {
    let topic = TopicName::new(topic).expect("a valid topic");
    Packet::Publish(Box::new(Publish {
        delivery,
        ..Publish::new(topic, payload.into())
    }))
}

pub(crate) fn subscribe(filter: &str, qos: Qos) -> Packet {
    let target = Target::parse(filter).expect("a valid filter");
    let filter = SubscribeFilter {
        target,
        options: SubscribeOptions::new(qos),
    };
    Packet::Subscribe(Subscribe::new(id(1), vec![filter]))
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    pub(crate) fn new(stream: S, version: ProtocolVersion) -> Self {
        let decoder = Decoder::client(version, DecodeLimits::UNLIMITED);
        Self {
            stream,
            version,
            decoder,
            buffer: BytesMut::new(),
        }
    }

    /// Connects with a clean start and checks that the broker agrees.
    pub(crate) async fn join(stream: S, version: ProtocolVersion, client_id: &str) -> Self {
        let mut peer = Self::new(stream, version);
        peer.send(&Packet::Connect(Box::new(connect(version, client_id))))
            .await;
        let answer = peer.receive().await;
        assert!(
            matches!(&answer, Some(Packet::ConnAck(ack)) if !ack.reason.is_error()),
            "{answer:?}"
        );
        peer
    }

    pub(crate) fn encode(&self, packet: &Packet) -> Vec<u8> {
        let mut bytes = Vec::new();
        packet
            .encode(self.version, &mut bytes)
            .expect("a valid packet");
        bytes
    }

    pub(crate) async fn send(&mut self, packet: &Packet) {
        let bytes = self.encode(packet);
        self.stream
            .write_all(&bytes)
            .await
            .expect("the broker reads");
    }

    /// The next packet; `None` at the end of the stream.
    pub(crate) async fn receive(&mut self) -> Option<Packet> {
        timeout(PATIENCE, self.receive_patiently())
            .await
            .expect("a packet or the end comes")
    }

    async fn receive_patiently(&mut self) -> Option<Packet> {
        loop {
            let packet = self
                .decoder
                .decode_owned(&mut self.buffer)
                .expect("the broker is right");
            if packet.is_some() {
                return packet;
            }
            // A reset is an end too: the broker closed on what we went on sending.
            if self.stream.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// Whether nothing arrives for a moment.
    pub(crate) async fn is_silent(&mut self) -> bool {
        timeout(Duration::from_millis(50), self.receive_patiently())
            .await
            .is_err()
    }

    pub(crate) async fn subscribe(&mut self, filter: &str, qos: Qos) {
        self.send(&subscribe(filter, qos)).await;
        let answer = self.receive().await;
        assert!(matches!(answer, Some(Packet::SubAck(_))), "{answer:?}");
    }

    /// The payload of the next message, acknowledged if it has to be (QoS 1).
    pub(crate) async fn message(&mut self) -> Option<Bytes> {
        let packet = self.receive().await?;
        let Packet::Publish(publish) = packet else {
            panic!("no message: {packet:?}");
        };
        if let Delivery::AtLeastOnce { id, .. } = publish.delivery {
            self.send(&Packet::PubAck(Ack::new(
                id,
                paloma_codec::PubAckReason::Success,
            )))
            .await;
        }
        Some(publish.payload)
    }
}

pub(crate) fn duplex(running: &Running) -> DuplexStream {
    running.connect().expect("the broker lets clients in")
}

pub(crate) async fn tcp(running: &Running) -> TcpStream {
    let stream = TcpStream::connect(*running.local_addresses().first().expect("a listener"))
        .await
        .expect("it listens");
    stream.set_nodelay(true).expect("a socket");
    stream
}

/// A small generator: the same seed, the same run.
#[derive(Clone)]
pub(crate) struct Seeded(u64);

impl Seeded {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).expect("below a usize")
    }
}
