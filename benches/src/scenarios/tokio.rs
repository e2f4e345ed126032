//! Scenarios of `paloma-tokio`: a running broker on one thread, with clients on the same thread.

use ::tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use ::tokio::net::TcpStream;
use ::tokio::runtime::{Builder, Runtime};
use bytes::Bytes;
use paloma_codec::{
    Connect, Packet, PacketId, ProtocolVersion, Publish, Qos, Subscribe, SubscribeFilter,
    SubscribeOptions,
};
use paloma_tokio::{Broker, Config, Running};
use paloma_topic::{Target, TopicName};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{Scenario, Work};

// For the clock alone: what is to be known here is mostly the kernel's and the scheduler's.
pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::timed("tokio/duplex/1-to-1/single", 1, || {
        publish(Link::Duplex, 1, 1)
    }),
    Scenario::timed("tokio/duplex/1-to-1/batch-50", 50, || {
        publish(Link::Duplex, 1, 50)
    }),
    Scenario::timed("tokio/duplex/1-to-1000", 1_000, || {
        publish(Link::Duplex, 1_000, 1)
    }),
    Scenario::timed("tokio/loopback/1-to-1/single", 1, || {
        publish(Link::Loopback, 1, 1)
    }),
    Scenario::timed("tokio/loopback/1-to-1/batch-50", 50, || {
        publish(Link::Loopback, 1, 50)
    }),
    Scenario::timed("tokio/loopback/1-to-1000", 1_000, || {
        raise_file_limit();
        publish(Link::Loopback, 1_000, 1)
    }),
];

const TOPIC: &str = "site/7/device/712/state";

/// Files that a thousand connections need, both of whose ends are here, and room for the rest.
const FILES: u64 = 2_500;

fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < FILES) {
        let raised = Rlimit {
            current: Some(FILES),
            ..limit
        };
        setrlimit(Resource::Nofile, raised).expect("the hard limit allows as many");
    }
}

/// What carries the bytes.
#[derive(Clone, Copy)]
enum Link {
    Duplex,
    Loopback,
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

/// One write of `messages` with 64 bytes each, read to the last byte by every subscriber.
fn publish(link: Link, subscribers: usize, messages: usize) -> Work {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let running = start(&runtime);
    let mut readers: Vec<Box<dyn Stream>> = (0..subscribers)
        .map(|number| runtime.block_on(subscriber(&running, link, number)))
        .collect();
    let mut publisher = runtime.block_on(client(&running, link, "publisher"));
    let mut message = Vec::new();
    let topic = TopicName::new(TOPIC).expect("a valid topic");
    let publish = Publish::new(topic, Bytes::from_static(&[b'x'; 64]));
    encode(Packet::Publish(Box::new(publish)), &mut message);
    // Without aliases and identifiers the subscribers get the very bytes that the publisher sends.
    let input = message.repeat(messages);
    let mut buffer = vec![0; input.len()];
    Box::new(move || {
        // Kept until the work is dropped: the broker stops when this value goes.
        let _running = &running;
        runtime.block_on(async {
            publisher.write_all(&input).await.expect("the broker reads");
            for reader in &mut readers {
                reader
                    .read_exact(&mut buffer)
                    .await
                    .expect("the broker writes");
            }
        });
        assert!(buffer == input, "the bytes are those of the publisher");
    })
}

fn start(runtime: &Runtime) -> Running {
    let mut config = Config::new().listen(([127, 0, 0, 1], 0).into());
    config.broker.limits.connections_per_second_max = 1_000_000;
    config.broker.limits.connections_per_second_per_address_max = 1_000_000;
    runtime
        .block_on(Broker::start(config))
        .expect("the broker starts")
}

async fn client(running: &Running, link: Link, client_id: &str) -> Box<dyn Stream> {
    let mut stream: Box<dyn Stream> = match link {
        Link::Duplex => Box::new(running.connect().expect("the broker takes connections")),
        Link::Loopback => {
            let addresses = running.local_addresses();
            let address = *addresses.first().expect("one listener");
            let stream = TcpStream::connect(address)
                .await
                .expect("the broker listens");
            stream.set_nodelay(true).expect("a socket option");
            Box::new(stream)
        }
    };
    let connect = Connect {
        client_id: client_id.into(),
        ..Connect::default()
    };
    let mut bytes = Vec::new();
    encode(Packet::Connect(Box::new(connect)), &mut bytes);
    stream.write_all(&bytes).await.expect("the broker reads");
    skip_packet(&mut stream).await;
    stream
}

async fn subscriber(running: &Running, link: Link, number: usize) -> Box<dyn Stream> {
    let mut stream = client(running, link, &format!("subscriber-{number}")).await;
    let target = Target::parse(TOPIC).expect("a valid filter");
    let options = SubscribeOptions::new(Qos::AtMostOnce);
    let id = PacketId::new(1).expect("not zero");
    let subscribe = Subscribe::new(id, vec![SubscribeFilter { target, options }]);
    let mut bytes = Vec::new();
    encode(Packet::Subscribe(subscribe), &mut bytes);
    stream.write_all(&bytes).await.expect("the broker reads");
    skip_packet(&mut stream).await;
    stream
}

/// Reads CONNACK or SUBACK, which are shorter than 128 bytes.
async fn skip_packet(stream: &mut Box<dyn Stream>) {
    let mut header = [0; 2];
    stream.read_exact(&mut header).await.expect("an answer");
    let mut body = vec![0; usize::from(header[1])];
    stream.read_exact(&mut body).await.expect("a whole answer");
}

fn encode(packet: Packet, out: &mut Vec<u8>) {
    packet
        .encode(ProtocolVersion::V5, out)
        .expect("a packet that 5.0 can say");
}
