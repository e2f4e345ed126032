//! Two clients and the real broker over streams that break all the time.
#![expect(clippy::unwrap_used, reason = "whatever fails ends the test")]

use std::collections::HashMap;
use std::io;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use paloma_client::codec::{ProtocolVersion, Qos, SubscribeFilter, SubscribeOptions};
use paloma_client::topic::{Target, TopicName};
use paloma_client::{Backoff, Client, Connector, Options, Publication};
use paloma_tokio::{Broker, Config, Running};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

const MESSAGES: usize = 500;

/// Streams to a broker that break after some number of bytes.
struct Lossy {
    broker: Arc<Running>,
    random: u64,
    connections: Arc<AtomicUsize>,
}

/// A stream that breaks when its bytes are used up.
struct Brittle {
    stream: DuplexStream,
    bytes: usize,
}

impl Lossy {
    /// Up to 512, and often hardly more than a CONNECT.
    fn next_bytes(&mut self) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let most = if self.random.is_multiple_of(4) {
            128
        } else {
            512
        };
        usize::try_from(self.random >> 8).unwrap_or(0) % most
    }
}

impl Connector for Lossy {
    type Stream = Brittle;

    async fn connect(&mut self) -> io::Result<Brittle> {
        self.connections.fetch_add(1, Ordering::Relaxed);
        let stream = self
            .broker
            .connect()
            .map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(Brittle {
            stream,
            bytes: self.next_bytes(),
        })
    }
}

impl Brittle {
    fn spend(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    fn check(&self) -> io::Result<()> {
        if self.bytes == 0 {
            Err(io::ErrorKind::ConnectionReset.into())
        } else {
            Ok(())
        }
    }
}

impl AsyncRead for Brittle {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check()?;
        let mut bytes = [0; 512];
        let room = buffer.remaining().min(self.bytes).min(bytes.len());
        let mut part = ReadBuf::new(bytes.get_mut(..room).unwrap_or_default());
        let polled = Pin::new(&mut self.stream).poll_read(context, &mut part);
        buffer.put_slice(part.filled());
        let count = part.filled().len();
        self.spend(count);
        polled
    }
}

impl AsyncWrite for Brittle {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        let part = bytes.get(..self.bytes).unwrap_or(bytes);
        let polled = Pin::new(&mut self.stream).poll_write(context, part);
        if let Poll::Ready(Ok(count)) = polled {
            self.spend(count);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

fn options(id: &'static str, version: ProtocolVersion) -> Options {
    let mut options = Options::default();
    options.connect.version = version;
    options.connect.client_id = id.into();
    // An earlier attempt may have left a session: it is resumed from the first connection on.
    options.connect.clean_start = false;
    options.connect.session_expiry_seconds = u32::MAX;
    // More would be sent again and again by connections too short for their acknowledgements.
    options.in_flight_max = 8;
    options.connect.maximum_packet_size = NonZeroU32::new(1 << 20);
    options.reconnect = Some(Backoff {
        first: Duration::ZERO,
        max: Duration::ZERO,
        attempts_max: None,
    });
    options
}

/// Sends messages from one client to another, and counts how often each has arrived.
async fn check(version: ProtocolVersion, qos: Qos, seed: u64) {
    let mut config = Config::new();
    config.broker.limits.connections_per_second_max = u32::MAX;
    let broker = Arc::new(Broker::start(config).await.unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let lossy = |random| Lossy {
        broker: Arc::clone(&broker),
        random,
        connections: Arc::clone(&connections),
    };
    let (subscriber, mut messages) = Client::start(lossy(seed), options("subscriber", version));
    let target = Target::parse("t/#").unwrap();
    let filter = SubscribeFilter {
        target,
        options: SubscribeOptions::new(qos),
    };
    let ack = subscriber.subscribe(vec![filter]).await.unwrap();
    assert!(!ack.reasons.iter().any(|reason| reason.is_error()));

    let (publisher, inbox) =
        Client::start(lossy(seed ^ 0xABCD_EF01), options("publisher", version));
    drop(inbox);
    let publishing = tokio::spawn(async move {
        let mut acknowledgements = Vec::new();
        for number in 0..MESSAGES {
            let topic = TopicName::new(format!("t/{}", number % 7)).unwrap();
            let message = Publication::new(topic, number.to_string()).with_qos(qos);
            acknowledgements.push(publisher.publish(message).await.unwrap());
        }
        for acknowledgement in acknowledgements {
            acknowledgement.await.unwrap();
        }
    });
    let mut arrived: HashMap<usize, usize> = HashMap::new();
    while arrived.len() < MESSAGES {
        let message = messages.recv().await.unwrap();
        let number = std::str::from_utf8(&message.payload)
            .unwrap()
            .parse()
            .unwrap();
        *arrived.entry(number).or_default() += 1;
    }
    publishing.await.unwrap();
    let connections = connections.load(Ordering::Relaxed);
    assert!(
        connections > 30,
        "{connections} connections put nothing to the test"
    );
    if qos == Qos::ExactlyOnce {
        assert!(
            arrived.values().all(|count| *count == 1),
            "a message came twice"
        );
    }
}

/// Seeds, with both versions in turn.
fn runs() -> impl Iterator<Item = (u64, ProtocolVersion)> {
    (1..=2).map(|seed| seed * 0x9E37_79B9_7F4A).zip(
        [ProtocolVersion::V5, ProtocolVersion::V3_1_1]
            .into_iter()
            .cycle(),
    )
}

#[tokio::test]
async fn no_message_is_lost_at_qos_1() {
    for (seed, version) in runs() {
        check(version, Qos::AtLeastOnce, seed).await;
    }
}

#[tokio::test]
async fn each_message_comes_once_at_qos_2() {
    for (seed, version) in runs() {
        check(version, Qos::ExactlyOnce, seed).await;
    }
}
