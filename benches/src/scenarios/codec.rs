//! Scenarios of `paloma-codec`: each packet type decoded and encoded in 5.0, PUBLISH in 3.1.1 too.

use std::hint::black_box;

use bytes::Bytes;
use paloma_codec::{
    Ack, Auth, AuthReason, Authentication, ConnAck, Connect, DecodeLimits, Decoder, Delivery,
    Disconnect, DisconnectReason, Head, Message, Packet, PacketId, PacketRef, ProtocolVersion,
    PubAckReason, PubCompReason, PubRecReason, PubRelReason, Publish, PublishTopic, Qos, SubAck,
    SubAckReason, Subscribe, SubscribeFilter, SubscribeOptions, TopicForm, UnsubAck,
    UnsubAckReason, Unsubscribe, Will,
};
use paloma_topic::{Target, TopicName};

use crate::{Scenario, Work};

use ProtocolVersion::{V3_1_1, V5};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::gated("codec/decode/connect", PACKETS, || decode(connect(), V5)),
    Scenario::gated("codec/decode/connack", PACKETS, || decode(conn_ack(), V5)),
    Scenario::gated("codec/decode/publish-qos0-v311", PACKETS, || {
        decode(qos0(), V3_1_1)
    }),
    Scenario::gated("codec/decode/publish-qos0", PACKETS, || decode(qos0(), V5)),
    Scenario::gated("codec/decode/publish-properties", PACKETS, || {
        decode(rich(), V5)
    }),
    Scenario::gated("codec/decode/puback", PACKETS, || decode(pub_ack(), V5)),
    Scenario::gated("codec/decode/pubrec", PACKETS, || decode(pub_rec(), V5)),
    Scenario::gated("codec/decode/pubrel", PACKETS, || decode(pub_rel(), V5)),
    Scenario::gated("codec/decode/pubcomp", PACKETS, || decode(pub_comp(), V5)),
    Scenario::gated("codec/decode/subscribe", PACKETS, || {
        decode(subscribe(), V5)
    }),
    Scenario::gated("codec/decode/suback", PACKETS, || decode(sub_ack(), V5)),
    Scenario::gated("codec/decode/unsubscribe", PACKETS, || {
        decode(unsubscribe(), V5)
    }),
    Scenario::gated("codec/decode/unsuback", PACKETS, || decode(unsub_ack(), V5)),
    Scenario::gated("codec/decode/pingreq", PACKETS, || {
        decode(Packet::PingReq, V5)
    }),
    Scenario::gated("codec/decode/pingresp", PACKETS, || {
        decode(Packet::PingResp, V5)
    }),
    Scenario::gated("codec/decode/disconnect", PACKETS, || {
        decode(disconnect(), V5)
    }),
    Scenario::gated("codec/decode/auth", PACKETS, || decode(auth(), V5)),
    // The same cost for each property, and for each byte that comes alone, however many there are.
    Scenario::gated("codec/decode/user-properties/2k", 2_000, || {
        decode_user_properties(2_000)
    }),
    Scenario::gated("codec/decode/user-properties/20k", 20_000, || {
        decode_user_properties(20_000)
    }),
    Scenario::gated("codec/decode/byte-by-byte/16k", 16 * 1_024, || {
        decode_byte_by_byte(16 * 1_024)
    }),
    Scenario::gated("codec/decode/byte-by-byte/1m", 1_024 * 1_024, || {
        decode_byte_by_byte(1_024 * 1_024)
    }),
    Scenario::gated("codec/encode/connect", PACKETS, || encode(connect(), V5)),
    Scenario::gated("codec/encode/connack", PACKETS, || encode(conn_ack(), V5)),
    Scenario::gated("codec/encode/publish-qos0-v311", PACKETS, || {
        encode(qos0(), V3_1_1)
    }),
    Scenario::gated("codec/encode/publish-qos0", PACKETS, || encode(qos0(), V5)),
    Scenario::gated("codec/encode/publish-properties", PACKETS, || {
        encode(rich(), V5)
    }),
    Scenario::gated("codec/encode/puback", PACKETS, || encode(pub_ack(), V5)),
    Scenario::gated("codec/encode/pubrec", PACKETS, || encode(pub_rec(), V5)),
    Scenario::gated("codec/encode/pubrel", PACKETS, || encode(pub_rel(), V5)),
    Scenario::gated("codec/encode/pubcomp", PACKETS, || encode(pub_comp(), V5)),
    Scenario::gated("codec/encode/subscribe", PACKETS, || {
        encode(subscribe(), V5)
    }),
    Scenario::gated("codec/encode/suback", PACKETS, || encode(sub_ack(), V5)),
    Scenario::gated("codec/encode/unsubscribe", PACKETS, || {
        encode(unsubscribe(), V5)
    }),
    Scenario::gated("codec/encode/unsuback", PACKETS, || encode(unsub_ack(), V5)),
    Scenario::gated("codec/encode/pingreq", PACKETS, || {
        encode(Packet::PingReq, V5)
    }),
    Scenario::gated("codec/encode/pingresp", PACKETS, || {
        encode(Packet::PingResp, V5)
    }),
    Scenario::gated("codec/encode/disconnect", PACKETS, || {
        encode(disconnect(), V5)
    }),
    Scenario::gated("codec/encode/auth", PACKETS, || encode(auth(), V5)),
    Scenario::gated("codec/message/from-publish", PACKETS, keep_message),
    Scenario::gated("codec/message/encode-head", PACKETS, encode_heads),
];

/// Packets that other libraries can say as well, each as bytes of its version.
///
/// # Panics
/// Never: each can be said in its version.
#[must_use]
pub fn common_packets() -> Vec<(&'static str, ProtocolVersion, Vec<u8>)> {
    [
        ("publish, 3.1.1", V3_1_1, qos0()),
        ("publish, 5.0", V5, qos0()),
        ("publish with properties, 5.0", V5, rich()),
        ("puback, 5.0", V5, pub_ack()),
        ("subscribe, 5.0", V5, subscribe()),
        ("connect with will, 5.0", V5, connect()),
    ]
    .into_iter()
    .map(|(name, version, packet)| {
        let mut bytes = Vec::new();
        packet
            .encode(version, &mut bytes)
            .expect("a packet that can be said in this version");
        (name, version, bytes)
    })
    .collect()
}

/// Packets that one call handles.
const PACKETS: u64 = 100;

/// Decodes a buffer that holds the packet a hundred times.
fn decode(packet: Packet, version: ProtocolVersion) -> Work {
    let mut one = Vec::new();
    packet
        .encode(version, &mut one)
        .expect("a packet that can be said in this version");
    let input: Vec<u8> = (0..PACKETS).flat_map(|_| one.iter().copied()).collect();
    let decoder = decoder(&packet, version);
    let is_connect = matches!(packet, Packet::Connect(_));
    Box::new(move || {
        let mut decoder = decoder.clone();
        let mut rest = black_box(input.as_slice());
        while let Some((packet, used)) = decoder.decode(rest).expect("a valid packet") {
            black_box(packet);
            rest = rest.get(used..).expect("no more is used than there was");
            // A server takes one CONNECT for each connection.
            if is_connect {
                decoder = Decoder::server(DecodeLimits::default());
            }
        }
        assert!(rest.is_empty());
    })
}

/// Decodes a PUBLISH of that many user properties, and looks at each.
fn decode_user_properties(count: usize) -> Work {
    let property = b"\x26\0\x04name\0\x05value";
    let mut body = b"\0\x01t".to_vec();
    put_variable_int(&mut body, count * property.len());
    body.extend(property.repeat(count));
    let input = publish_of(&body);
    let mut decoder = Decoder::client(V5, DecodeLimits::UNLIMITED);
    Box::new(move || {
        let decoded = decoder.decode(black_box(&input)).expect("a valid packet");
        let Some((PacketRef::Publish(publish), _)) = decoded else {
            return;
        };
        black_box(publish.properties.user_properties().count());
    })
}

/// Offers a PUBLISH anew with each byte of its payload, as one byte after another comes in.
fn decode_byte_by_byte(bytes: usize) -> Work {
    let mut body = b"\0\x01t\0".to_vec();
    body.resize(body.len() + bytes, b'x');
    let input = publish_of(&body);
    let first = input.len() - bytes;
    let mut decoder = Decoder::client(V5, DecodeLimits::UNLIMITED);
    Box::new(move || {
        for end in first..=input.len() {
            let so_far = input.get(..end).unwrap_or(&input);
            black_box(
                decoder
                    .decode(black_box(so_far))
                    .expect("no rule is broken"),
            );
        }
    })
}

/// A PUBLISH at QoS 0 with this body.
fn publish_of(body: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x30];
    put_variable_int(&mut packet, body.len());
    packet.extend_from_slice(body);
    packet
}

fn put_variable_int(out: &mut Vec<u8>, mut value: usize) {
    while value > 0x7F {
        out.push(u8::try_from(value & 0x7F).unwrap_or(0) | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap_or(0));
}

/// The side of a connection that may receive the packet.
fn decoder(packet: &Packet, version: ProtocolVersion) -> Decoder {
    let mut server = Decoder::server(DecodeLimits::default());
    match packet {
        Packet::Connect(_) => server,
        Packet::ConnAck(_)
        | Packet::SubAck(_)
        | Packet::UnsubAck(_)
        | Packet::PingResp
        | Packet::Auth(_) => Decoder::client(version, DecodeLimits::default()),
        Packet::Publish(_)
        | Packet::PubAck(_)
        | Packet::PubRec(_)
        | Packet::PubRel(_)
        | Packet::PubComp(_)
        | Packet::Subscribe(_)
        | Packet::Unsubscribe(_)
        | Packet::PingReq
        | Packet::Disconnect(_) => {
            let mut bytes = Vec::new();
            let connect = Connect {
                version,
                ..Connect::default()
            };
            Packet::Connect(Box::new(connect))
                .encode(version, &mut bytes)
                .expect("a valid CONNECT");
            server
                .decode(&bytes)
                .expect("a valid CONNECT")
                .expect("a whole CONNECT");
            server
        }
    }
}

fn encode(packet: Packet, version: ProtocolVersion) -> Work {
    let mut out = Vec::new();
    Box::new(move || {
        out.clear();
        for _ in 0..PACKETS {
            black_box(&packet)
                .encode(version, &mut out)
                .expect("a packet that can be said");
        }
        black_box(&out);
    })
}

/// What a broker does with a PUBLISH that outlives its turn.
fn keep_message() -> Work {
    let mut bytes = Vec::new();
    rich().encode(V5, &mut bytes).expect("a valid PUBLISH");
    let mut decoder = decoder(&rich(), V5);
    let mut scratch = Vec::new();
    Box::new(move || {
        let Some((PacketRef::Publish(publish), _)) = decoder.decode(&bytes).expect("valid") else {
            return;
        };
        let Some(topic) = publish.topic.name().copied() else {
            return;
        };
        for id in 0..PACKETS {
            black_box(Message::from_publish(topic, &publish, id, 0, &mut scratch));
        }
    })
}

/// What a broker does for each receiver of a message.
fn encode_heads() -> Work {
    let mut bytes = Vec::new();
    qos0().encode(V5, &mut bytes).expect("a valid PUBLISH");
    let mut decoder = decoder(&qos0(), V5);
    let Ok(Some((PacketRef::Publish(publish), _))) = decoder.decode(&bytes) else {
        return Box::new(|| {});
    };
    let message = Message::from_publish(topic().borrowed(), &publish, 1, 0, &mut Vec::new());
    let mut out = Vec::new();
    Box::new(move || {
        out.clear();
        for _ in 0..PACKETS {
            let head = Head {
                delivery: Delivery::AtLeastOnce {
                    id: PACKET_ID,
                    dup: false,
                },
                retain: false,
                topic: TopicForm::Name,
                expiry_seconds: None,
                subscription_ids: &[],
            };
            black_box(&message).encode_head(V5, black_box(&head), &mut out);
        }
        black_box(&out);
    })
}

const PACKET_ID: PacketId = PacketId::new(7).expect("not zero");

fn topic() -> TopicName {
    TopicName::new("site/7/device/712/state").expect("a valid topic")
}

fn target(text: &'static str) -> Target {
    Target::parse(text).expect("a valid filter")
}

fn connect() -> Packet {
    Packet::Connect(Box::new(Connect {
        keep_alive_seconds: 60,
        client_id: "device-712".into(),
        will: Some(Will::new(topic(), Bytes::from_static(b"offline"))),
        session_expiry_seconds: 3_600,
        ..Connect::default()
    }))
}

fn conn_ack() -> Packet {
    Packet::ConnAck(Box::new(ConnAck {
        topic_alias_maximum: 16,
        server_keep_alive_seconds: Some(60),
        ..ConnAck::default()
    }))
}

/// 64 bytes of payload at QoS 0 without properties: the commonest packet of all.
fn qos0() -> Packet {
    Packet::Publish(Box::new(Publish::new(
        topic(),
        Bytes::from_static(&[b'x'; 64]),
    )))
}

fn rich() -> Packet {
    let mut publish = Publish::new(topic(), Bytes::from_static(&[b'x'; 64]));
    publish.delivery = Delivery::AtLeastOnce {
        id: PACKET_ID,
        dup: false,
    };
    publish.topic = PublishTopic::Name(topic());
    publish.properties.message_expiry_seconds = Some(60);
    publish.properties.content_type = Some("application/json".into());
    publish.properties.response_topic = Some(topic());
    publish.properties.correlation_data = Some(Bytes::from_static(b"12345678"));
    publish
        .properties
        .user_properties
        .push("trace", "0123456789abcdef")
        .expect("short enough");
    Packet::Publish(Box::new(publish))
}

fn pub_ack() -> Packet {
    Packet::PubAck(Ack::new(PACKET_ID, PubAckReason::Success))
}

fn pub_rec() -> Packet {
    Packet::PubRec(Ack::new(PACKET_ID, PubRecReason::Success))
}

fn pub_rel() -> Packet {
    Packet::PubRel(Ack::new(PACKET_ID, PubRelReason::Success))
}

fn pub_comp() -> Packet {
    Packet::PubComp(Ack::new(PACKET_ID, PubCompReason::Success))
}

fn subscribe() -> Packet {
    let filters = ["site/+/device/712/#", "site/7/device/712/state"];
    let options = SubscribeOptions::new(Qos::AtLeastOnce);
    let filters = filters.map(|text| SubscribeFilter {
        target: target(text),
        options,
    });
    Packet::Subscribe(Subscribe::new(PACKET_ID, filters.to_vec()))
}

fn sub_ack() -> Packet {
    let reasons = vec![SubAckReason::GrantedQos1; 2];
    Packet::SubAck(Box::new(SubAck::new(PACKET_ID, reasons)))
}

fn unsubscribe() -> Packet {
    let filters = ["site/+/device/712/#", "site/7/device/712/state"].map(target);
    Packet::Unsubscribe(Unsubscribe::new(PACKET_ID, filters.to_vec()))
}

fn unsub_ack() -> Packet {
    let reasons = vec![UnsubAckReason::Success; 2];
    Packet::UnsubAck(Box::new(UnsubAck::new(PACKET_ID, reasons)))
}

fn disconnect() -> Packet {
    Packet::Disconnect(Box::new(Disconnect::new(
        DisconnectReason::NormalDisconnection,
    )))
}

fn auth() -> Packet {
    Packet::Auth(Box::new(Auth {
        reason: AuthReason::ContinueAuthentication,
        authentication: Some(Authentication {
            method: "SCRAM-SHA-256".into(),
            data: None,
        }),
        ..Auth::default()
    }))
}
