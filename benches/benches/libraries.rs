//! Beside other libraries: the same packets decoded and encoded by each, and matching beside a scan.
//!
//! `cargo bench -p paloma-bench --bench libraries` tells times, `cargo xtask libraries` counts instructions.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "other packets of other libraries are not compared"
)]

use std::hint::black_box;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput};
use mqtt_protocol_core::mqtt::packet::{v3_1_1, v5_0};
use mqtt5_protocol::packet::MqttPacket;
use mqtt5_protocol::{FixedHeader, Packet as Mqtt5Packet};
use paloma_bench::{COUNTED, Work, common_packets, paloma_counted_region};
use paloma_codec::{Connect, DecodeLimits, Decoder, Packet, ProtocolVersion};
use paloma_topic::{FilterTrie, HashSeed, TopicFilter, TopicName};

/// Packets or topics that one call handles.
const UNITS: u64 = 100;

/// One row of one library.
struct Entry {
    /// `row|library`.
    name: String,
    prepare: Box<dyn Fn() -> Work>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("--list-work") => list(),
        Some("--work") => {
            let wanted = arguments.get(2);
            let found = entries().into_iter().find(|e| Some(&e.name) == wanted);
            let mut work = (found.expect("a name of --list-work").prepare)();
            work();
            paloma_counted_region(&mut work);
        }
        _ => time(),
    }
}

#[expect(clippy::print_stdout, reason = "the list is its output")]
fn list() {
    for entry in entries() {
        println!("{}\t{UNITS}\t{COUNTED}", entry.name);
    }
}

fn time() {
    let mut criterion = Criterion::default().configure_from_args();
    for entry in entries() {
        let (row, library) = entry.name.split_once('|').unwrap_or((&entry.name, ""));
        let mut group = criterion.benchmark_group(row);
        group.throughput(Throughput::Elements(UNITS));
        group.bench_function(library, |bencher| {
            let mut work = (entry.prepare)();
            bencher.iter(&mut work);
        });
        group.finish();
    }
    criterion.final_summary();
}

fn entries() -> Vec<Entry> {
    let mut entries = Vec::new();
    for (packet, version, bytes) in common_packets() {
        for library in LIBRARIES {
            let (decode, encode) = (library.decode, library.encode);
            let one = bytes.clone();
            entries.push(Entry {
                name: format!("decode {packet}|{}", library.name),
                prepare: Box::new(move || decode(version, one.clone())),
            });
            // Whoever encodes has an owned packet in any case.
            if library.name.ends_with("owned") {
                continue;
            }
            let one = bytes.clone();
            entries.push(Entry {
                name: format!("encode {packet}|{}", library.name),
                prepare: Box::new(move || encode(version, &one)),
            });
        }
    }
    // Rows stay together in the table whatever the order in which libraries were asked.
    entries.sort_by_key(|entry| entry.name.starts_with("encode"));
    for filters in [10, 1_000, 10_000] {
        for (name, prepare) in MATCHERS {
            entries.push(Entry {
                name: format!("match {filters} filters|{name}"),
                prepare: Box::new(move || prepare(filters)),
            });
        }
    }
    entries
}

/// What is compared of a library.
struct Library {
    name: &'static str,
    /// Takes the packet a hundred times from a buffer, as bytes come in.
    decode: fn(ProtocolVersion, Vec<u8>) -> Work,
    /// Writes the packet a hundred times.
    encode: fn(ProtocolVersion, &[u8]) -> Work,
}

const LIBRARIES: &[Library] = &[
    Library {
        name: "paloma-codec",
        decode: |version, one| paloma_decode(version, &one, false),
        encode: paloma_encode,
    },
    Library {
        name: "paloma-codec, owned",
        decode: |version, one| paloma_decode(version, &one, true),
        encode: paloma_encode,
    },
    Library {
        name: "mqttbytes",
        decode: mqttbytes_decode,
        encode: mqttbytes_encode,
    },
    Library {
        name: "mqtt-protocol-core",
        decode: core_decode,
        encode: core_encode,
    },
    Library {
        name: "mqtt5-protocol",
        decode: mqtt5_decode,
        encode: mqtt5_encode,
    },
];

fn repeated(one: &[u8]) -> Vec<u8> {
    (0..UNITS).flat_map(|_| one.iter().copied()).collect()
}

fn is_connect(one: &[u8]) -> bool {
    one.first() == Some(&0x10)
}

/// A server's decoder behind the CONNECT, or before it if that is what it is to decode.
fn decoder(version: ProtocolVersion, one: &[u8]) -> Decoder {
    let mut decoder = Decoder::server(DecodeLimits::default());
    if !is_connect(one) {
        let connect = Connect {
            version,
            ..Connect::default()
        };
        let mut bytes = Vec::new();
        Packet::Connect(Box::new(connect))
            .encode(version, &mut bytes)
            .expect("a valid CONNECT");
        decoder.decode(&bytes).expect("a valid CONNECT");
    }
    decoder
}

fn paloma_decode(version: ProtocolVersion, one: &[u8], is_owned: bool) -> Work {
    let input = repeated(one);
    let fresh = decoder(version, one);
    let is_connect = is_connect(one);
    Box::new(move || {
        let mut decoder = fresh.clone();
        let mut rest = black_box(input.as_slice());
        while let Some((packet, used)) = decoder.decode(rest).expect("a valid packet") {
            if is_owned {
                black_box(packet.into_owned());
            } else {
                black_box(packet);
            }
            rest = rest.get(used..).expect("no more is used than there was");
            if is_connect {
                decoder = fresh.clone();
            }
        }
        assert!(rest.is_empty());
    })
}

fn paloma_encode(version: ProtocolVersion, one: &[u8]) -> Work {
    let mut decoder = decoder(version, one);
    let decoded = decoder.decode(one).expect("a valid packet");
    let packet = decoded.expect("a whole packet").0.into_owned();
    let mut out = Vec::new();
    Box::new(move || {
        out.clear();
        for _ in 0..UNITS {
            black_box(&packet)
                .encode(version, &mut out)
                .expect("a packet that can be said");
        }
        black_box(&out);
    })
}

const BYTES_MAX: usize = 1 << 20;

fn mqttbytes_decode(version: ProtocolVersion, one: Vec<u8>) -> Work {
    let input = repeated(&one);
    let mut stream = BytesMut::new();
    Box::new(move || {
        stream.extend_from_slice(black_box(&input));
        while !stream.is_empty() {
            if version.is_v5() {
                black_box(mqttbytes::v5::read(&mut stream, BYTES_MAX).expect("a valid packet"));
            } else {
                black_box(mqttbytes::v4::read(&mut stream, BYTES_MAX).expect("a valid packet"));
            }
        }
    })
}

fn mqttbytes_encode(version: ProtocolVersion, one: &[u8]) -> Work {
    let mut stream = BytesMut::from(one);
    let mut out = BytesMut::new();
    if !version.is_v5() {
        let packet = mqttbytes::v4::read(&mut stream, BYTES_MAX).expect("a valid packet");
        let mqttbytes::v4::Packet::Publish(packet) = packet else {
            panic!("only PUBLISH is compared in 3.1.1");
        };
        return Box::new(move || {
            out.clear();
            for _ in 0..UNITS {
                black_box(black_box(&packet).write(&mut out).expect("it can be said"));
            }
        });
    }
    let packet = mqttbytes::v5::read(&mut stream, BYTES_MAX).expect("a valid packet");
    Box::new(move || {
        use mqttbytes::v5::Packet as P;
        out.clear();
        for _ in 0..UNITS {
            let written = match black_box(&packet) {
                P::Connect(packet) => packet.write(&mut out),
                P::Publish(packet) => packet.write(&mut out),
                P::PubAck(packet) => packet.write(&mut out),
                P::Subscribe(packet) => packet.write(&mut out),
                other => panic!("{other:?} is not compared"),
            };
            black_box(written.expect("it can be said"));
        }
    })
}

/// First byte and body of the packet at the start; its library leaves framing to others.
fn split(input: &[u8]) -> (u8, &[u8], &[u8]) {
    let (first, rest) = input.split_first().expect("a packet");
    let length_bytes = rest.iter().take_while(|byte| **byte >= 0x80).count() + 1;
    let (length, rest) = rest.split_at(length_bytes);
    let length = length
        .iter()
        .rev()
        .fold(0, |sum, byte| sum << 7 | usize::from(byte & 0x7F));
    let (body, rest) = rest.split_at(length);
    (*first, body, rest)
}

enum CorePacket {
    Publish4(v3_1_1::Publish),
    Publish5(v5_0::Publish),
    Puback(v5_0::Puback),
    Subscribe(v5_0::Subscribe),
    Connect(v5_0::Connect),
}

fn core_parse(version: ProtocolVersion, first: u8, body: &[u8]) -> CorePacket {
    let valid = "a valid packet";
    match (first >> 4, version.is_v5()) {
        (3, false) => {
            let parsed = v3_1_1::Publish::parse(first & 0x0F, Arc::from(body));
            CorePacket::Publish4(parsed.expect(valid).0)
        }
        (3, true) => {
            let parsed = v5_0::Publish::parse(first & 0x0F, Arc::from(body));
            CorePacket::Publish5(parsed.expect(valid).0)
        }
        (4, _) => CorePacket::Puback(v5_0::Puback::parse(body).expect(valid).0),
        (8, _) => CorePacket::Subscribe(v5_0::Subscribe::parse(body).expect(valid).0),
        _ => CorePacket::Connect(v5_0::Connect::parse(body).expect(valid).0),
    }
}

fn core_decode(version: ProtocolVersion, one: Vec<u8>) -> Work {
    let input = repeated(&one);
    Box::new(move || {
        let mut rest = black_box(input.as_slice());
        while !rest.is_empty() {
            let (first, body, after) = split(rest);
            black_box(core_parse(version, first, body));
            rest = after;
        }
    })
}

fn core_encode(version: ProtocolVersion, one: &[u8]) -> Work {
    let (first, body, _) = split(one);
    let packet = core_parse(version, first, body);
    Box::new(move || {
        for _ in 0..UNITS {
            black_box(match black_box(&packet) {
                CorePacket::Publish4(packet) => packet.to_continuous_buffer(),
                CorePacket::Publish5(packet) => packet.to_continuous_buffer(),
                CorePacket::Puback(packet) => packet.to_continuous_buffer(),
                CorePacket::Subscribe(packet) => packet.to_continuous_buffer(),
                CorePacket::Connect(packet) => packet.to_continuous_buffer(),
            });
        }
    })
}

fn mqtt5_read(version: ProtocolVersion, input: &mut Bytes) -> Mqtt5Packet {
    let header = FixedHeader::decode(input).expect("a valid header");
    let length = usize::try_from(header.remaining_length).expect("it fits");
    let mut body = input.split_to(length);
    let level = if version.is_v5() { 5 } else { 4 };
    let kind = header.packet_type;
    Mqtt5Packet::decode_from_body_with_version(kind, &header, &mut body, level)
        .expect("a valid packet")
}

fn mqtt5_decode(version: ProtocolVersion, one: Vec<u8>) -> Work {
    let input = Bytes::from(repeated(&one));
    Box::new(move || {
        let mut rest = black_box(&input).clone();
        while !rest.is_empty() {
            black_box(mqtt5_read(version, &mut rest));
        }
    })
}

fn mqtt5_encode(version: ProtocolVersion, one: &[u8]) -> Work {
    let packet = mqtt5_read(version, &mut Bytes::copy_from_slice(one));
    let mut out = BytesMut::new();
    Box::new(move || {
        out.clear();
        for _ in 0..UNITS {
            let written = match black_box(&packet) {
                Mqtt5Packet::Publish(packet) => packet.encode(&mut out),
                Mqtt5Packet::PubAck(packet) => packet.encode(&mut out),
                Mqtt5Packet::Subscribe(packet) => packet.encode(&mut out),
                Mqtt5Packet::Connect(packet) => packet.encode(&mut out),
                other => panic!("{other:?} is not compared"),
            };
            written.expect("it can be said");
        }
        black_box(&out);
    })
}

/// How the filters that match a topic are found.
type Matcher = (&'static str, fn(usize) -> Work);

const MATCHERS: &[Matcher] = &[
    ("paloma-topic, trie", match_trie),
    ("paloma-topic, scan", |filters| {
        let filters: Vec<TopicFilter> = (0..filters).map(filter).collect();
        let topics = topics(filters.len());
        Box::new(move || {
            for topic in &topics {
                for filter in &filters {
                    black_box(filter.matches(black_box(topic.borrowed())));
                }
            }
        })
    }),
    ("mqttbytes, scan", |filters| {
        scan(filters, mqttbytes::matches)
    }),
    ("mqtt5-protocol, scan", |filters| {
        scan(filters, mqtt5_protocol::topic_matching::matches)
    }),
];

/// One device's filter; one in five has a wildcard.
fn filter(device: usize) -> TopicFilter {
    let site = device / 100;
    let text = match device % 5 {
        0 => format!("site/{site}/+/{device}/#"),
        _ => format!("site/{site}/device/{device}/state"),
    };
    TopicFilter::new(text).expect("a valid filter")
}

fn topics(devices: usize) -> Vec<TopicName> {
    (0..UNITS)
        .zip((0_usize..).step_by(7_919))
        .map(|(_, place)| {
            let device = place % devices;
            let text = format!("site/{}/device/{device}/state", device / 100);
            TopicName::new(text).expect("a valid topic")
        })
        .collect()
}

fn match_trie(filters: usize) -> Work {
    let mut trie = FilterTrie::new(HashSeed::new(1));
    for device in 0..filters {
        trie.insert(filter(device).borrowed(), device);
    }
    let topics = topics(filters);
    Box::new(move || {
        for topic in &topics {
            trie.for_each_match(black_box(topic.borrowed()), |device| {
                black_box(device);
            });
        }
    })
}

fn scan(filters: usize, matches: fn(&str, &str) -> bool) -> Work {
    let topics = topics(filters);
    let filters: Vec<TopicFilter> = (0..filters).map(filter).collect();
    Box::new(move || {
        for topic in &topics {
            for filter in &filters {
                black_box(matches(black_box(topic.as_str()), filter.as_str()));
            }
        }
    })
}
