//! Somebody who keeps to no rule, as a stream of bytes.

use bytes::Bytes;
use paloma_codec::{
    Ack, Connect, Delivery, Disconnect, DisconnectReason, Packet, PacketId, ProtocolVersion,
    PubAckReason, PubCompReason, PubRecReason, PubRelReason, Publish, PublishTopic, Qos, Secret,
    Subscribe, SubscribeFilter, SubscribeOptions, TopicAlias, Unsubscribe, Will,
};
use paloma_topic::{Target, TopicName};

use crate::plan::{FILTERS, SHARED, TOPICS};
use crate::random::Random;
use crate::rules::{HOSTILE_TOPIC, HOSTILE_USER};
use crate::sayings::PASSWORD;

/// Everything that one hostile client sends: a login that may succeed or not, packets that may or may not be allowed in
/// any order, and at times a byte that is not what it was.
pub(crate) fn bytes(random: &mut Random, clients: usize) -> Vec<u8> {
    let version = random.one_of([ProtocolVersion::V5, ProtocolVersion::V3_1_1]);
    let mut bytes = Vec::new();
    if random.chance(85) {
        encode(&login(random, version, clients), version, &mut bytes);
    }
    for _ in 0..random.below(12) {
        encode(&packet(random, version), version, &mut bytes);
    }
    if random.chance(40) {
        let place = random.index(bytes.len());
        if let Some(byte) = bytes.get_mut(place) {
            *byte ^= 1 << random.below(8);
        }
    }
    if random.chance(20) {
        bytes.truncate(random.index(bytes.len()));
    }
    bytes
}

fn encode(packet: &Packet, version: ProtocolVersion, bytes: &mut Vec<u8>) {
    let before = bytes.len();
    if packet.encode(version, bytes).is_err() {
        bytes.truncate(before);
    }
}

fn login(random: &mut Random, version: ProtocolVersion, clients: usize) -> Packet {
    let client_id = if random.chance(40) {
        format!("c{}", random.index(clients))
    } else {
        format!("evil{}", random.below(3))
    };
    let is_clean = random.chance(50);
    let topic = random.one_of([HOSTILE_TOPIC, "a"]);
    let will = TopicName::new(topic.to_owned()).ok();
    let will = will.map(|topic| Will::new(topic, Bytes::from_static(b"gone")));
    Packet::Connect(Box::new(Connect {
        version,
        clean_start: is_clean,
        client_id: client_id.into(),
        username: Some(HOSTILE_USER.into()),
        password: Some(Secret::new(Bytes::from_static(PASSWORD))),
        session_expiry_seconds: match (version.is_v5(), is_clean) {
            (true, _) => random.one_of([0, 10, u32::MAX]),
            (false, true) => 0,
            (false, false) => u32::MAX,
        },
        keep_alive_seconds: random.one_of([0, 1, 65_535]),
        topic_alias_maximum: if version.is_v5() {
            random.one_of([0, 65_535])
        } else {
            0
        },
        will: will.filter(|_| random.chance(30)),
        ..Connect::default()
    }))
}

fn packet(random: &mut Random, version: ProtocolVersion) -> Packet {
    let id = PacketId::new(random.one_of([1, 1, 2, 65_535])).unwrap_or(PacketId::MIN);
    match random.below(11) {
        0..=3 => publish(random, version, id),
        4 => Packet::PubAck(Ack::new(id, PubAckReason::Success)),
        5 => Packet::PubRec(Ack::new(id, PubRecReason::Success)),
        6 => Packet::PubRel(Ack::new(id, PubRelReason::Success)),
        7 => Packet::PubComp(Ack::new(id, PubCompReason::Success)),
        8 => {
            let filter = match random.below(3) {
                0 => HOSTILE_TOPIC,
                1 => random.one_of(FILTERS),
                _ => random.one_of(SHARED),
            };
            let Ok(target) = Target::parse(filter.to_owned()) else {
                return Packet::PingReq;
            };
            let options = SubscribeOptions::new(Qos::ExactlyOnce);
            Packet::Subscribe(Subscribe::new(
                id,
                vec![SubscribeFilter { target, options }],
            ))
        }
        9 => match Target::parse(random.one_of(FILTERS).to_owned()) {
            Ok(target) => Packet::Unsubscribe(Unsubscribe::new(id, vec![target])),
            Err(_) => Packet::PingReq,
        },
        _ => random
            .one_of([Some(DisconnectReason::NormalDisconnection), None])
            .map_or(Packet::PingReq, |reason| {
                Packet::Disconnect(Box::new(Disconnect::new(reason)))
            }),
    }
}

fn publish(random: &mut Random, version: ProtocolVersion, id: PacketId) -> Packet {
    let topic = if random.chance(60) {
        HOSTILE_TOPIC
    } else {
        random.one_of(TOPICS)
    };
    let Ok(name) = TopicName::new(topic.to_owned()) else {
        return Packet::PingReq;
    };
    let mut publish = Publish::new(name.clone(), Bytes::from_static(b"evil"));
    publish.retain = random.chance(30);
    publish.delivery = random.one_of([
        Delivery::AtMostOnce,
        Delivery::AtLeastOnce { id, dup: false },
        Delivery::ExactlyOnce { id, dup: false },
        Delivery::ExactlyOnce { id, dup: true },
    ]);
    if version.is_v5()
        && random.chance(40)
        && let Some(alias) = TopicAlias::new(random.one_of([1, 2, 17, 65_535]))
    {
        publish.topic =
            random
                .one_of([true, false])
                .then_some(())
                .map_or(PublishTopic::Alias(alias), |()| PublishTopic::Define {
                    name,
                    alias,
                });
    }
    Packet::Publish(Box::new(publish))
}
