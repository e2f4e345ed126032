//! How long a turn holds the core for packets of very many filters: `cargo bench -p paloma-bench --bench filters`.
#![expect(
    clippy::print_stdout,
    reason = "what it measures is for whoever started it"
)]

use std::time::Duration;

use paloma_bench::by_hand::{NOW, carry_out, computing, median};
use paloma_broker::{Broker, BrokerConfig, ConnectionId, ConnectionInfo};
use paloma_codec::{
    Connect, Decoder, Packet, PacketId, ProtocolVersion, Qos, Subscribe, SubscribeFilter,
    SubscribeOptions, Unsubscribe,
};
use paloma_session::Transmit;
use paloma_topic::Target;

/// Filters of a packet.
const FILTERS: usize = 1_024;
/// How often each kind is measured.
const SAMPLES: usize = 31;

/// A client, and how its filters look.
struct Case {
    name: &'static str,
    is_durable: bool,
    /// Filters that it has beside those of the packet.
    held: usize,
    filter: fn(usize) -> String,
}

const CASES: &[Case] = &[
    Case {
        name: "exact",
        is_durable: false,
        held: 0,
        filter: |number| format!("home/{number}/lamp/state"),
    },
    Case {
        name: "wildcard, stored",
        is_durable: true,
        held: 0,
        filter: |number| format!("home/{number}/+/state"),
    },
    Case {
        name: "shared, stored",
        is_durable: true,
        held: 0,
        filter: |number| format!("$share/group/home/{number}/+/state"),
    },
    Case {
        name: "of 900 bytes, stored",
        is_durable: true,
        held: 0,
        filter: |number| format!("{number}/{}", "x".repeat(900)),
    },
    Case {
        name: "wildcard, of 10,000",
        is_durable: false,
        held: 8_976,
        filter: |number| format!("home/{number}/+/state"),
    },
    Case {
        name: "shared, of 10,000",
        is_durable: false,
        held: 8_976,
        filter: |number| format!("$share/group/home/{number}/+/state"),
    },
];

fn main() {
    println!("longest turn of a packet with {FILTERS} filters, median of {SAMPLES}");
    for case in CASES {
        let (subscribe, unsubscribe): (Vec<_>, Vec<_>) =
            (0..SAMPLES).map(|_| longest_turns(case)).unzip();
        println!(
            "{:<24} SUBSCRIBE {:>10.1?} UNSUBSCRIBE {:>10.1?}",
            case.name,
            median(subscribe),
            median(unsubscribe)
        );
    }
}

/// The longest turn of a SUBSCRIBE, and of the UNSUBSCRIBE from what was subscribed to first, which is looked for longest.
fn longest_turns(case: &Case) -> (Duration, Duration) {
    let mut client = Client::new(case.is_durable);
    let all: Vec<Target> = (0..case.held + FILTERS)
        .map(|number| Target::parse((case.filter)(number)).expect("a valid filter"))
        .collect();
    let (measured, held) = all.split_at(FILTERS);
    for filters in held.chunks(FILTERS) {
        client.hand(subscribe(filters));
    }
    let longest = client.hand(subscribe(measured));
    let first = held.get(..FILTERS).unwrap_or(measured);
    let id = PacketId::new(2).expect("not zero");
    let unsubscribe = Unsubscribe::new(id, first.to_vec());
    (longest, client.hand(Packet::Unsubscribe(unsubscribe)))
}

fn subscribe(filters: &[Target]) -> Packet {
    let options = SubscribeOptions::new(Qos::AtLeastOnce);
    let filters = filters.iter().cloned();
    let filters = filters.map(|target| SubscribeFilter { target, options });
    let id = PacketId::new(1).expect("not zero");
    Packet::Subscribe(Subscribe::new(id, filters.collect()))
}

/// A broker with one client.
struct Client {
    broker: Broker,
    id: ConnectionId,
    decoder: Decoder,
    out: Transmit,
}

impl Client {
    fn new(is_durable: bool) -> Self {
        let mut config = BrokerConfig::new([1; 32]);
        config.limits.wildcard_levels_per_client_max = u32::MAX;
        let mut broker = Broker::new(config);
        let id = broker.open(NOW, ConnectionInfo::default());
        let mut client = Self {
            id: id.expect("within the limits"),
            decoder: Decoder::server(broker.decode_limits()),
            broker,
            out: Transmit::default(),
        };
        let connect = Connect {
            client_id: "client".into(),
            session_expiry_seconds: if is_durable { 3_600 } else { 0 },
            ..Connect::default()
        };
        client.hand(Packet::Connect(Box::new(connect)));
        client
    }

    /// Hands a packet to the broker and runs turns until it reads the next one; gives the longest of them.
    fn hand(&mut self, packet: Packet) -> Duration {
        let mut bytes = Vec::new();
        packet
            .encode(ProtocolVersion::V5, &mut bytes)
            .expect("a packet that 5.0 can say");
        let decoded = self.decoder.decode(&bytes).expect("a valid packet");
        let (packet, _) = decoded.expect("a whole packet");
        let mut longest = computing(|| {
            self.broker.handle_packet(NOW, self.id, packet);
            self.broker.finish_turn(NOW);
        });
        loop {
            while let Some(effect) = self.broker.poll_effect() {
                if let Some(id) = carry_out(&mut self.broker, effect) {
                    self.out.clear();
                    // What it says is asked again when something more is to be sent.
                    let _ = self.broker.poll_transmit(NOW, id, &mut self.out);
                }
            }
            if self.broker.may_read(self.id) {
                return longest;
            }
            longest = longest.max(computing(|| self.broker.finish_turn(NOW)));
        }
    }
}
