//! What a message costs in allocations, once everybody's buffers have grown to their size.

use allocation_counter::measure;
use paloma_broker::{
    AllowAll, Authenticator, Broker, BrokerConfig, ConnectionId, ConnectionInfo, Effect,
    MemoryStore, Reply, Store,
};
use paloma_codec::{
    Connect, Decoder, Delivery, Packet, PacketId, ProtocolVersion, PubAck, PubAckReason, Publish,
    Qos, Subscribe, SubscribeFilter, SubscribeOptions,
};
use paloma_session::{Monotonic, Now, Transmit, TransmitStatus, Wall};
use paloma_topic::{Target, TopicName};

const RECEIVERS: usize = 100;

/// A broker with one publisher and many subscribers, driven without allocating anything itself.
struct Bench {
    broker: Broker,
    store: MemoryStore,
    now: Now,
    out: Transmit,
    /// Decodes what clients send; all have said CONNECT.
    decoder: Decoder,
    publisher: ConnectionId,
    receivers: Vec<ConnectionId>,
}

impl Bench {
    fn new(qos: Qos) -> Self {
        let broker = Broker::new(BrokerConfig::new([3; 32]));
        let decoder = Decoder::server(broker.decode_limits());
        let now = Now::new(Monotonic::from_millis(1), Wall::from_millis(1));
        let info = ConnectionInfo::default();
        let mut bench = Self {
            broker,
            store: MemoryStore::new(),
            now,
            out: Transmit::new(1 << 20, 1 << 12),
            decoder,
            publisher: Broker::new(BrokerConfig::new([0; 32]))
                .open(now, info)
                .expect("it is empty"),
            receivers: Vec::new(),
        };
        bench.publisher = bench.connect("publisher");
        for n in 0..RECEIVERS {
            let receiver = bench.connect(&format!("receiver {n}"));
            let target = Target::parse("a/topic").expect("it is valid");
            let filter = SubscribeFilter {
                target,
                options: SubscribeOptions::new(qos),
            };
            let subscribe = Packet::Subscribe(Subscribe::new(id(1), vec![filter]));
            bench.send(receiver, &bytes(&subscribe));
            bench.receivers.push(receiver);
        }
        bench
    }

    fn connect(&mut self, client_id: &str) -> ConnectionId {
        let connection = self
            .broker
            .open(self.now, ConnectionInfo::default())
            .expect("there is room");
        self.decoder = Decoder::server(self.broker.decode_limits());
        let connect = Connect {
            client_id: client_id.to_owned().into(),
            ..Connect::default()
        };
        self.send(connection, &bytes(&Packet::Connect(Box::new(connect))));
        connection
    }

    fn send(&mut self, connection: ConnectionId, packets: &[u8]) {
        let mut rest = packets;
        while let Ok(Some((packet, used))) = self.decoder.decode(rest) {
            self.broker.handle_packet(self.now, connection, packet);
            rest = rest.get(used..).unwrap_or_default();
        }
        assert!(rest.is_empty(), "every packet is whole and valid");
        self.settle();
    }

    fn settle(&mut self) {
        self.broker.finish_turn(self.now);
        while let Some(effect) = self.broker.poll_effect() {
            match effect {
                Effect::Transmit(connection) => {
                    self.out.clear();
                    let status = self
                        .broker
                        .poll_transmit(self.now, connection, &mut self.out);
                    assert_eq!(status, TransmitStatus::Drained);
                }
                Effect::Authenticate(connection, request) => {
                    let outcome = AllowAll.authenticate(&request);
                    self.broker
                        .handle_reply(self.now, Reply::Authenticated(connection, outcome));
                    self.broker.finish_turn(self.now);
                }
                Effect::Persist(batch) => {
                    let committed = self
                        .store
                        .commit(&mut vec![batch])
                        .expect("memory does not fail");
                    self.broker
                        .handle_reply(self.now, Reply::Committed(committed.seq));
                }
                Effect::Resume(_) | Effect::Close(..) | Effect::Load(_) => {}
            }
        }
    }

    /// Every receiver acknowledges the message it got under `id`.
    fn acknowledge_all(&mut self, id: PacketId) {
        let mut ack = [0x40, 2, 0, 0];
        ack[2..].copy_from_slice(&id.get().to_be_bytes());
        let receivers = std::mem::take(&mut self.receivers);
        for receiver in &receivers {
            self.send(*receiver, &ack);
        }
        self.receivers = receivers;
    }
}

fn id(value: u16) -> PacketId {
    PacketId::new(value).expect("it is not zero")
}

fn bytes(packet: &Packet) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet
        .encode(ProtocolVersion::V5, &mut bytes)
        .expect("it is valid");
    bytes
}

fn publish(delivery: Delivery, payload_bytes: usize) -> Vec<u8> {
    let topic = TopicName::new("a/topic").expect("it is valid");
    let publish = Publish {
        delivery,
        ..Publish::new(topic, vec![7; payload_bytes].into())
    };
    bytes(&Packet::Publish(Box::new(publish)))
}

#[test]
fn a_qos_0_message_for_many_is_allocated_once_and_deliveries_not_at_all() {
    let mut bench = Bench::new(Qos::AtMostOnce);
    let packet = publish(Delivery::AtMostOnce, 64);
    for _ in 0..3 {
        bench.send(bench.publisher, &packet);
    }
    let cost = measure(|| bench.send(bench.publisher, &packet));
    assert!(cost.count_total <= 1, "{cost:?}");
}

#[test]
fn a_qos_1_message_for_many_is_allocated_once_and_acknowledgements_not_at_all() {
    let mut bench = Bench::new(Qos::AtLeastOnce);
    for n in 1..=40 {
        let delivery = Delivery::AtLeastOnce {
            id: id(1),
            dup: false,
        };
        bench.send(bench.publisher, &publish(delivery, 64));
        bench.acknowledge_all(id(n));
    }
    let packet = publish(
        Delivery::AtLeastOnce {
            id: id(1),
            dup: false,
        },
        64,
    );
    let cost = measure(|| {
        bench.send(bench.publisher, &packet);
        bench.acknowledge_all(id(41));
    });
    assert!(cost.count_total <= 1, "{cost:?}");
    assert_eq!(bench.broker.queued(), 0, "every message was acknowledged");
}

#[test]
fn a_large_payload_is_copied_once_however_many_get_it() {
    let mut bench = Bench::new(Qos::AtMostOnce);
    let packet = publish(Delivery::AtMostOnce, 100_000);
    for _ in 0..3 {
        bench.send(bench.publisher, &packet);
    }
    let cost = measure(|| bench.send(bench.publisher, &packet));
    assert!(cost.count_total <= 1, "{cost:?}");
    assert!(cost.bytes_total < 100_000 + 1_000, "{cost:?}");
}

#[test]
fn pings_and_a_receivers_refusals_allocate_nothing() {
    let mut bench = Bench::new(Qos::AtMostOnce);
    let ping = bytes(&Packet::PingReq);
    let unknown = bytes(&Packet::PubAck(PubAck::new(id(77), PubAckReason::Success)));
    bench.send(bench.publisher, &ping);
    bench.send(bench.publisher, &unknown);
    let cost = measure(|| {
        bench.send(bench.publisher, &ping);
        bench.send(bench.publisher, &unknown);
    });
    assert_eq!(cost.count_total, 0, "{cost:?}");
}

#[test]
fn a_message_takes_the_allocation_of_one_that_is_over() {
    for (qos, ids) in [(Qos::AtMostOnce, 1), (Qos::AtLeastOnce, 41)] {
        let mut bench = Bench::new(qos);
        let delivery = match qos {
            Qos::AtMostOnce => Delivery::AtMostOnce,
            Qos::AtLeastOnce | Qos::ExactlyOnce => Delivery::AtLeastOnce {
                id: id(1),
                dup: false,
            },
        };
        let packet = publish(delivery, 64);
        for n in 1..=40 {
            bench.send(bench.publisher, &packet);
            bench.acknowledge_all(id(n));
        }
        let cost = measure(|| {
            bench.send(bench.publisher, &packet);
            bench.acknowledge_all(id(ids));
        });
        assert_eq!(cost.count_total, 0, "{qos:?}: {cost:?}");
    }
}
