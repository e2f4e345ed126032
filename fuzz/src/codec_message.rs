//! Bytes of a head, then a PUBLISH: kept as a message, it reaches every receiver with what its publisher said.

use paloma_codec::{
    DecodeLimits, Decoder, Delivery, Encode, Head, Message, Packet, PacketId, PacketRef,
    ProtocolVersion, Publish, PublishTopic, SubscriptionId, TopicAlias, TopicForm,
};
use paloma_topic::TopicName;

/// Decodes the PUBLISH, keeps it, writes heads of every form, and encodes it within a size.
pub fn run(data: &[u8]) {
    let [form, size, input @ ..] = data else {
        return;
    };
    let mut decoder = Decoder::client(ProtocolVersion::V5, DecodeLimits::UNLIMITED);
    let Ok(Some((PacketRef::Publish(publish), used))) = decoder.decode(input) else {
        return;
    };
    let name = TopicName::new("resolved/name").expect("a valid topic");
    let topic = publish.topic.name().copied().unwrap_or(name.borrowed());
    let message = Message::from_publish(topic, &publish, 1, 2, &mut Vec::new());
    assert_eq!(Message::from_bytes(message.as_bytes()), Ok(message.clone()));
    assert_eq!(message.topic(), topic);
    assert_eq!(message.payload(), publish.payload);

    let ids: Vec<SubscriptionId> = publish.properties.subscription_ids().collect();
    let alias = TopicAlias::new(u16::from(*size) + 1).expect("not zero");
    let id = PacketId::new(u16::from(*size) + 1).expect("not zero");
    let head = Head {
        delivery: match form & 3 {
            0 => Delivery::AtMostOnce,
            1 => Delivery::AtLeastOnce {
                id,
                dup: form & 4 != 0,
            },
            _ => Delivery::ExactlyOnce {
                id,
                dup: form & 4 != 0,
            },
        },
        retain: form & 8 != 0,
        topic: match form >> 4 & 3 {
            0 => TopicForm::Name,
            1 => TopicForm::Define(alias),
            _ => TopicForm::Alias(alias),
        },
        expiry_seconds: message.expiry_seconds(),
        subscription_ids: &ids,
    };
    let mut expected = publish.into_owned();
    expected.delivery = head.delivery;
    expected.retain = head.retain;
    expected.topic = match head.topic {
        TopicForm::Name => PublishTopic::Name(topic.to_owned()),
        TopicForm::Define(alias) => PublishTopic::Define {
            name: topic.to_owned(),
            alias,
        },
        TopicForm::Alias(alias) => PublishTopic::Alias(alias),
    };
    check(&message, ProtocolVersion::V5, &head, &expected);
    let mut plain = Publish::new(topic.to_owned(), expected.payload);
    plain.delivery = head.delivery;
    plain.retain = head.retain;
    check(&message, ProtocolVersion::V3_1_1, &head, &plain);

    let mut out = Vec::new();
    match publish.encode_within(ProtocolVersion::V5, u32::from(*size), &mut out) {
        Ok(()) => assert!(out.len() <= usize::from(*size) && out.len() <= used),
        Err(_) => assert!(out.is_empty()),
    }
}

fn check(message: &Message, version: ProtocolVersion, head: &Head<'_>, expected: &Publish) {
    let mut packet = Vec::new();
    let payload = message.encode_head(version, head, &mut packet);
    packet.extend_from_slice(payload);
    assert_eq!(packet.len(), message.packet_len(version, head));
    let mut decoder = Decoder::client(version, DecodeLimits::UNLIMITED);
    let Ok(Some((decoded, used))) = decoder.decode(&packet) else {
        panic!("{head:?} does not decode from {packet:02x?}");
    };
    assert_eq!(used, packet.len());
    assert_eq!(
        decoded.into_owned(),
        Packet::Publish(Box::new(expected.clone()))
    );
}
