//! The client on streams that keep what is written until they are flushed, as TLS and WebSockets do.
//!
//! Time is virtual: it jumps to the next timer whenever everybody waits.
#![expect(clippy::unwrap_used, reason = "a broken script ends the test")]

use std::future::Future;
use std::io;
use std::time::Duration;

use bytes::BytesMut;
use paloma_client::codec::{
    ConnAck, DecodeLimits, Decoder, Encode, Packet, ProtocolVersion, Publish, Qos,
};
use paloma_client::topic::TopicName;
use paloma_client::{Client, Connector, Messages, Options, Publication};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufStream, DuplexStream, duplex};
use tokio::time::{sleep, timeout};

/// Bytes that the stream takes before anybody reads at the other end.
const ROOM: usize = 256;

struct Once(Option<DuplexStream>);

impl Connector for Once {
    type Stream = BufStream<DuplexStream>;

    async fn connect(&mut self) -> io::Result<Self::Stream> {
        let near = self.0.take().ok_or(io::ErrorKind::ConnectionRefused)?;
        Ok(BufStream::with_capacity(4 * 1024, 16 * 1024, near))
    }
}

struct Peer {
    stream: DuplexStream,
    decoder: Decoder,
    input: BytesMut,
}

impl Peer {
    async fn recv(&mut self) -> Packet {
        loop {
            if let Some(packet) = self.decoder.decode_owned(&mut self.input).unwrap() {
                return packet;
            }
            assert_ne!(self.stream.read_buf(&mut self.input).await.unwrap(), 0);
        }
    }

    async fn send(&mut self, packet: impl Encode) {
        let mut bytes = Vec::new();
        packet.encode(ProtocolVersion::V5, &mut bytes).unwrap();
        self.stream.write_all(&bytes).await.unwrap();
    }
}

/// What comes at once, and not with the next ping.
async fn soon<T>(outcome: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(1), outcome).await.unwrap()
}

fn large() -> Publication {
    Publication::new(TopicName::new("t").unwrap(), vec![b'x'; 8 * ROOM]).with_qos(Qos::AtLeastOnce)
}

/// A client of which one message is on its way, too large for the stream while nobody reads there.
async fn stuck() -> (Client, Messages, Peer) {
    let (near, far) = duplex(ROOM);
    let mut peer = Peer {
        stream: far,
        decoder: Decoder::server(DecodeLimits::UNLIMITED),
        input: BytesMut::new(),
    };
    let options = Options {
        in_flight_max: 1,
        ..Options::default()
    };
    let accept = async {
        assert!(matches!(peer.recv().await, Packet::Connect(_)));
        peer.send(ConnAck::default()).await;
    };
    let (client, ()) = tokio::join!(Client::connect_with(Once(Some(near)), options), accept);
    let (client, messages) = client.unwrap();
    drop(client.publish(large()).await.unwrap());
    sleep(Duration::from_millis(1)).await;
    (client, messages, peer)
}

#[tokio::test(start_paused = true)]
async fn what_is_written_is_flushed_whatever_comes_in_between() {
    let (client, _messages, mut peer) = stuck().await;
    // The window is full: this one brings nothing to write.
    drop(client.publish(large()).await.unwrap());
    sleep(Duration::from_millis(1)).await;
    assert!(matches!(soon(peer.recv()).await, Packet::Publish(_)));
}

#[tokio::test(start_paused = true)]
async fn messages_come_in_while_others_are_being_flushed() {
    let (_client, mut messages, mut peer) = stuck().await;
    let news = Publish::new(TopicName::new("news").unwrap(), "now".into());
    peer.send(news).await;
    assert_eq!(soon(messages.recv()).await.unwrap().payload, "now");
}
