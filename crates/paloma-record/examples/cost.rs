//! What a message costs in the core with its inputs recorded and without: `cargo run --release -p paloma-record --example cost`.
//!
//! One client publishes, another one receives, as in `paloma bench pairs`, without sockets. Rounds with and without a record
//! alternate; the medians are printed.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "it measures time, and the figures are its output"
)]

use std::error::Error;
use std::time::Instant;

use paloma_broker::{
    AuthOutcome, BrokerConfig, ConnectionId, ConnectionInfo, Effect, MemoryStore, Reply,
};
use paloma_broker::{Identity, Store};
use paloma_codec::{
    Connect, DecodeLimits, Decoder, Packet, PacketId, ProtocolVersion, Publish, Qos, Subscribe,
    SubscribeFilter, SubscribeOptions,
};
use paloma_record::{Settings, Tap, seal};
use paloma_session::{Monotonic, Now, Transmit, Wall};
use paloma_topic::{Target, TopicName};

const ROUNDS: usize = 15;
const MESSAGES: u32 = 100_000;
/// Messages of one turn, as they come in one read.
const BATCH: u32 = 16;
const PAYLOAD_BYTES: usize = 64;

type Outcome<T> = Result<T, Box<dyn Error>>;

struct Host {
    tap: Tap,
    now: Now,
    store: MemoryStore,
    transmit: Transmit,
    part: Vec<u8>,
    recorded: usize,
}

impl Host {
    fn new(settings: Option<Settings>) -> Outcome<Self> {
        let now = Now::new(
            Monotonic::from_millis(1),
            Wall::from_millis(1_700_000_000_000),
        );
        let mut store = MemoryStore::new();
        let (tap, _) = Tap::recover(BrokerConfig::new([7; 32]), now, &mut store, settings)?;
        Ok(Self {
            tap,
            now,
            store,
            transmit: Transmit::new(262_144, 4_096),
            part: Vec::new(),
            recorded: 0,
        })
    }

    fn pass(&mut self, id: ConnectionId, decoder: &mut Decoder, bytes: &[u8]) -> Outcome<()> {
        let mut rest = bytes;
        while let Some((mut packet, len)) = decoder.decode(rest)? {
            let (frame, others) = rest.split_at(len);
            self.tap.handle_packet(self.now, id, &mut packet, frame);
            let _ = self.tap.may_read(id);
            rest = others;
        }
        self.tap.count_received_bytes(bytes.len());
        Ok(())
    }

    /// Ends a turn and writes what it caused.
    fn settle(&mut self) -> Outcome<()> {
        self.tap.finish_turn(self.now);
        let mut dirty = Vec::new();
        while let Some(effect) = self.tap.poll_effect() {
            match effect {
                Effect::Transmit(id) => dirty.push(id),
                Effect::Authenticate(id, _) => {
                    let outcome = AuthOutcome::allow(Identity::ANONYMOUS);
                    self.tap
                        .handle_reply(self.now, Reply::Authenticated(id, outcome));
                }
                Effect::Persist(batch) => {
                    let committed = self.store.commit(&mut vec![batch])?;
                    self.tap
                        .handle_reply(self.now, Reply::Committed(committed.seq));
                }
                Effect::Resume(_) | Effect::Close(..) | Effect::Load(_) => {}
            }
        }
        self.tap.end_turn();
        for id in dirty {
            self.transmit.clear();
            let _ = self.tap.poll_transmit(self.now, id, &mut self.transmit);
        }
        if self.tap.is_record_ripe() {
            self.tap.take_record(&mut self.part);
            self.recorded += std::hint::black_box(seal(&self.part)).len();
        }
        Ok(())
    }

    fn join(&mut self, client_id: &str) -> Outcome<(ConnectionId, Decoder)> {
        let id = self.tap.open(self.now, ConnectionInfo::default())?;
        let mut decoder = Decoder::server(DecodeLimits::default());
        let connect = Connect {
            client_id: client_id.into(),
            ..Connect::default()
        };
        let bytes = encode(&Packet::Connect(Box::new(connect)))?;
        self.pass(id, &mut decoder, &bytes)?;
        self.settle()?;
        Ok((id, decoder))
    }
}

fn encode(packet: &Packet) -> Outcome<Vec<u8>> {
    let mut bytes = Vec::new();
    packet.encode(ProtocolVersion::V5, &mut bytes)?;
    Ok(bytes)
}

/// Nanoseconds and recorded bytes a message.
fn round(settings: Option<Settings>) -> Outcome<(f64, f64)> {
    let mut host = Host::new(settings)?;
    let (reader, mut decoder) = host.join("reader")?;
    let filter = SubscribeFilter {
        target: Target::parse("bench/0".to_owned())?,
        options: SubscribeOptions::new(Qos::AtMostOnce),
    };
    let number = PacketId::new(1).ok_or("not zero")?;
    let subscribe = encode(&Packet::Subscribe(Subscribe::new(number, vec![filter])))?;
    host.pass(reader, &mut decoder, &subscribe)?;
    host.settle()?;
    let (writer, mut decoder) = host.join("writer")?;
    let publish = Publish::new(TopicName::new("bench/0")?, vec![b'x'; PAYLOAD_BYTES].into());
    let one = encode(&Packet::Publish(Box::new(publish)))?;
    let batch = one.repeat(BATCH as usize);
    let start = Instant::now();
    for turn in 0..MESSAGES / BATCH {
        host.now.monotonic = Monotonic::from_nanos(2_000_000 + u64::from(turn) * 10_000);
        host.pass(writer, &mut decoder, &batch)?;
        host.settle()?;
    }
    let nanos = start.elapsed().as_secs_f64() * 1e9;
    let recorded = u32::try_from(host.recorded).unwrap_or(u32::MAX);
    Ok((
        nanos / f64::from(MESSAGES),
        f64::from(recorded) / f64::from(MESSAGES),
    ))
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}

fn main() -> Outcome<()> {
    let settings = Settings::new(u64::MAX, 262_144, 4_096);
    let (mut without, mut with, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        without.push(round(None)?.0);
        let (nanos, recorded) = round(Some(settings))?;
        with.push(nanos);
        bytes.push(recorded);
    }
    let (without, with) = (median(without), median(with));
    println!(
        "without {without:.0} ns a message, with {with:.0} ns, {:.0} ns more",
        with - without
    );
    println!("{:.1} bytes recorded a message", median(bytes));
    Ok(())
}
