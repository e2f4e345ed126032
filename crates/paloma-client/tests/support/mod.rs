//! A broker that says only what the test tells it to, at the other end of an in-memory stream.
#![expect(clippy::unwrap_used, reason = "a broken script ends the test")]

use std::io;

use bytes::BytesMut;
use paloma_client::codec::{
    ConnAck, Connect, DecodeLimits, Decoder, Delivery, Encode, Packet, PacketId, ProtocolVersion,
    PubAck, PubAckReason, Publish, PublishTopic, Qos, SubscribeFilter, SubscribeOptions,
};
use paloma_client::topic::{Target, TopicName};
use paloma_client::{Client, ConnectionError, Connector, Messages, Options, Publication};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;

/// Hands the far end of each new stream to the test.
#[derive(Debug)]
pub(crate) struct Duplexes(mpsc::Sender<DuplexStream>);

/// Where the test finds the streams that the client opens.
#[derive(Debug)]
pub(crate) struct Peers(mpsc::Receiver<DuplexStream>);

/// The far end of one stream.
#[derive(Debug)]
pub(crate) struct Peer {
    stream: DuplexStream,
    decoder: Decoder,
    input: BytesMut,
    version: ProtocolVersion,
}

pub(crate) fn streams() -> (Duplexes, Peers) {
    let (sender, receiver) = mpsc::channel(1);
    (Duplexes(sender), Peers(receiver))
}

impl Connector for Duplexes {
    type Stream = DuplexStream;

    async fn connect(&mut self) -> io::Result<DuplexStream> {
        let (near, far) = duplex(64 * 1024);
        self.0
            .send(far)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        Ok(near)
    }
}

impl Peers {
    /// The next stream, on which the client has sent its CONNECT.
    pub(crate) async fn next(&mut self) -> (Peer, Connect) {
        let stream = self.0.recv().await.unwrap();
        let decoder = Decoder::server(DecodeLimits::UNLIMITED);
        let version = ProtocolVersion::V5;
        let mut peer = Peer {
            stream,
            decoder,
            input: BytesMut::new(),
            version,
        };
        let Packet::Connect(connect) = peer.recv().await else {
            panic!("a CONNECT comes first");
        };
        peer.version = connect.version;
        (peer, *connect)
    }

    /// The next stream, accepted with the session present or not.
    pub(crate) async fn accept(&mut self, session_present: bool) -> (Peer, Connect) {
        let (mut peer, connect) = self.next().await;
        peer.send(ConnAck {
            session_present,
            ..ConnAck::default()
        })
        .await;
        (peer, connect)
    }

    /// Whether the client has opened another stream.
    pub(crate) fn is_empty(&mut self) -> bool {
        self.0.try_recv().is_err()
    }
}

impl Peer {
    /// The next packet of the client.
    pub(crate) async fn recv(&mut self) -> Packet {
        self.try_recv().await.unwrap()
    }

    /// The next packet, or none if the client has closed the stream.
    pub(crate) async fn try_recv(&mut self) -> Option<Packet> {
        loop {
            if let Some(packet) = self.decoder.decode_owned(&mut self.input).unwrap() {
                return Some(packet);
            }
            if self.stream.read_buf(&mut self.input).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    pub(crate) async fn recv_publish(&mut self) -> Publish {
        let Packet::Publish(publish) = self.recv().await else {
            panic!("a PUBLISH was expected");
        };
        *publish
    }

    pub(crate) async fn send(&mut self, packet: impl Encode) {
        let mut bytes = Vec::new();
        packet.encode(self.version, &mut bytes).unwrap();
        self.send_bytes(&bytes).await;
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Acknowledges a PUBLISH of QoS 1.
    pub(crate) async fn send_pub_ack(&mut self, publish: &Publish) {
        let id = publish.delivery.id().unwrap();
        self.send(PubAck::new(id, PubAckReason::Success)).await;
    }
}

/// Options that need no second thought in a test.
pub(crate) fn options() -> Options {
    let mut options = Options::default();
    options.connect.client_id = "me".into();
    options.connect.session_expiry_seconds = 3_600;
    options
}

/// A client that is connected, and its peer.
pub(crate) async fn connected(options: Options) -> (Client, Messages, Peers, Peer) {
    let (duplexes, mut peers) = streams();
    let (client, (peer, _)) =
        tokio::join!(Client::connect_with(duplexes, options), peers.accept(false));
    let (client, messages) = client.unwrap();
    (client, messages, peers, peer)
}

/// Why a first connection fails when the peer does this.
pub(crate) async fn failure<F: Future<Output = Peer>>(
    options: Options,
    act: impl FnOnce(Peer) -> F,
) -> ConnectionError {
    let (duplexes, mut peers) = streams();
    let answer = async {
        let (peer, _) = peers.next().await;
        // Kept until the client has made up its mind.
        act(peer).await
    };
    let (outcome, _peer) = tokio::join!(Client::connect_with(duplexes, options), answer);
    outcome.unwrap_err()
}

pub(crate) fn topic(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

pub(crate) fn filter(filter: &str, qos: Qos) -> SubscribeFilter {
    let target = Target::parse(filter).unwrap();
    SubscribeFilter {
        target,
        options: SubscribeOptions::new(qos),
    }
}

pub(crate) fn message(payload: &str, qos: Qos) -> Publication {
    Publication::new(topic("t"), payload.to_owned()).with_qos(qos)
}

/// A PUBLISH of the broker's.
pub(crate) fn publish(payload: &str, delivery: Delivery) -> Packet {
    let mut publish = Publish::new(topic("t"), payload.to_owned().into());
    publish.delivery = delivery;
    Packet::Publish(Box::new(publish))
}

pub(crate) fn packet_id(id: u16) -> PacketId {
    PacketId::new(id).unwrap()
}

/// The payload and the topic, which is always named on a first connection.
pub(crate) fn text(publish: &Publish) -> &str {
    assert!(matches!(
        publish.topic,
        PublishTopic::Name(_) | PublishTopic::Define { .. }
    ));
    std::str::from_utf8(&publish.payload).unwrap()
}
