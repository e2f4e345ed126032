//! What must hold of every packet and of every input.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

mod support;

use bytes::{Buf, BytesMut};
use paloma_codec::{
    DecodeError, DecodeLimits, Encode, Head, Message, MessageParts, Packet, PacketRef,
    ProtocolVersion, Publish, PublishProperties, PublishTopic, TopicForm,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use support::strategies::{any_packet, client_packets, publish_properties, publish_v5, topic};
use support::{From, decode, decode_with, decoder, encode, vectors};

/// Packets that a server gets on one connection, after CONNECT.
fn conversation() -> impl Strategy<Value = (ProtocolVersion, Vec<Packet>)> {
    let version = prop_oneof![
        Just(ProtocolVersion::V3_1),
        Just(ProtocolVersion::V3_1_1),
        Just(ProtocolVersion::V5),
    ];
    version.prop_flat_map(|version| (Just(version), vec(client_packets(version), 1..8)))
}

/// What a server decodes from bytes that arrive in these chunks.
fn decode_chunks(version: ProtocolVersion, chunks: &[&[u8]]) -> Result<Vec<Packet>, DecodeError> {
    let mut decoder = decoder(version, From::Client, DecodeLimits::default());
    let (mut buffer, mut packets) = (Vec::new(), Vec::new());
    for chunk in chunks {
        buffer.extend_from_slice(chunk);
        let mut rest = buffer.as_slice();
        while let Some((packet, used)) = decoder.decode(rest)? {
            packets.push(packet.into_owned());
            rest = &rest[used..];
        }
        buffer = rest.to_vec();
    }
    assert!(buffer.is_empty());
    Ok(packets)
}

proptest! {
    #[test]
    fn decoding_undoes_encoding((version, from, packet) in any_packet()) {
        let bytes = encode(&packet, version);
        let decoded = decode(version, from, &bytes);
        prop_assert_eq!(decoded, Ok(Some((packet, bytes.len()))));
    }

    #[test]
    fn a_borrowed_packet_encodes_as_its_owned_form((version, from, packet) in any_packet()) {
        let bytes = encode(&packet, version);
        let mut decoder = decoder(version, from, DecodeLimits::default());
        let (borrowed, _) = decoder.decode(&bytes).unwrap().unwrap();
        let mut again = Vec::new();
        borrowed.encode(version, &mut again).unwrap();
        prop_assert_eq!(again, bytes);
    }

    #[test]
    fn a_topic_that_is_known_changes_nothing(
        (version, packets) in conversation(),
        repeats in 1..3_usize,
    ) {
        let bytes: Vec<u8> = packets
            .iter()
            .flat_map(|packet| encode(packet, version).repeat(repeats))
            .collect();
        let mut decoder = decoder(version, From::Client, DecodeLimits::default());
        let (mut rest, mut known, mut decoded) = (bytes.as_slice(), None, Vec::new());
        while let Some((packet, used)) = decoder.decode_after(rest, known).unwrap() {
            if let PacketRef::Publish(publish) = &packet {
                known = publish.topic.name().copied().or(known);
            }
            decoded.push(packet.into_owned());
            rest = &rest[used..];
        }
        let sent: Vec<Packet> = packets
            .iter()
            .flat_map(|packet| std::iter::repeat_n(packet.clone(), repeats))
            .collect();
        prop_assert_eq!(decoded, sent);
    }

    #[test]
    fn a_stream_means_the_same_however_it_is_split(
        (version, packets) in conversation(),
        cuts in vec(any::<Index>(), 0..6),
    ) {
        let bytes: Vec<u8> =
            packets.iter().flat_map(|packet| encode(packet, version)).collect();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        prop_assert_eq!(decode_chunks(version, &chunks), Ok(packets.clone()));
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(decode_chunks(version, &single), Ok(packets));
    }

    #[test]
    fn the_owned_form_gives_the_same_packets((version, packets) in conversation()) {
        let mut decoder = decoder(version, From::Client, DecodeLimits::default());
        let mut buffer = BytesMut::new();
        for packet in &packets {
            buffer.extend_from_slice(&encode(packet, version));
        }
        for packet in &packets {
            let decoded = decoder.decode_owned(&mut buffer);
            prop_assert_eq!(decoded.as_ref(), Ok(&Some(packet.clone())));
        }
        prop_assert!(!buffer.has_remaining());
        prop_assert_eq!(decoder.decode_owned(&mut buffer), Ok(None));
    }

    #[test]
    fn any_bytes_decode_to_something_or_to_a_rule(
        bytes in vec(any::<u8>(), 0..64),
        first in any::<u8>(),
        from in prop_oneof![Just(From::First), Just(From::Client), Just(From::Server)],
    ) {
        let mut framed = support::framed(first, &bytes);
        for version in support::VERSIONS {
            check_any(version, from, &bytes);
            check_any(version, from, &framed);
        }
        framed.truncate(framed.len() / 2);
        check_any(ProtocolVersion::V5, from, &framed);
    }

    #[test]
    fn a_valid_packet_with_one_byte_changed_decodes_to_something_or_to_a_rule(
        which in any::<Index>(), at in any::<Index>(), byte in any::<u8>(),
    ) {
        let vectors = vectors();
        let vector = &vectors[which.index(vectors.len())];
        let mut bytes = vector.bytes.clone();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        check_any(vector.version, vector.from, &bytes);
    }

    #[test]
    fn a_packet_within_a_size_is_within_it_and_still_the_packet(
        (version, from, packet) in any_packet(), spare in 0..400_u32,
    ) {
        let whole = encode(&packet, version);
        let mut out = vec![0xAA];
        match packet.encode_within(version, spare, &mut out) {
            Ok(()) => {
                prop_assert!(out.len() - 1 <= spare as usize);
                let (short, _) = decode(version, from, &out[1..]).unwrap().unwrap();
                prop_assert_eq!(short.packet_type(), packet.packet_type());
                if whole.len() <= spare as usize {
                    prop_assert_eq!(&out[1..], whole);
                }
            }
            Err(_) => {
                prop_assert_eq!(out, vec![0xAA]);
                prop_assert!(whole.len() > spare as usize);
            }
        }
    }

    #[test]
    fn a_message_says_to_each_receiver_what_its_publisher_said(
        (_, publish) in publish_v5(), name in topic(), retain in any::<bool>(),
    ) {
        let bytes = encode(&Packet::Publish(Box::new(publish.clone())), ProtocolVersion::V5);
        let mut server = decoder(ProtocolVersion::V5, From::Server, DecodeLimits::default());
        let Some((PacketRef::Publish(borrowed), _)) = server.decode(&bytes).unwrap() else {
            unreachable!()
        };
        let mut scratch = Vec::new();
        let message = Message::from_publish(name.borrowed(), &borrowed, 7, 8, &mut scratch);
        let head = Head {
            delivery: publish.delivery,
            retain,
            topic: publish.topic.alias().map_or(TopicForm::Name, TopicForm::Define),
            expiry_seconds: publish.properties.message_expiry_seconds,
            subscription_ids: &publish.properties.subscription_ids,
        };
        let topic = match head.topic {
            TopicForm::Define(alias) => PublishTopic::Define { name: name.clone(), alias },
            TopicForm::Name | TopicForm::Alias(_) => PublishTopic::Name(name.clone()),
        };
        let expected = Publish { retain, topic, ..publish.clone() };
        check_message(&message, ProtocolVersion::V5, &head, &expected);

        let plain = Publish {
            delivery: expected.delivery,
            retain,
            ..Publish::new(name, expected.payload)
        };
        check_message(&message, ProtocolVersion::V3_1_1, &head, &plain);
        prop_assert_eq!(Message::from_bytes(message.as_bytes()), Ok(message.clone()));
        prop_assert_eq!((message.id(), message.stamp()), (7, 8));
        prop_assert_eq!(message.expiry_seconds(), head.expiry_seconds);
    }

    #[test]
    fn a_message_of_parts_is_the_message_of_the_same_publish(
        properties in publish_properties(), name in topic(), payload in vec(any::<u8>(), 0..64),
    ) {
        let mut publish = Publish::new(name.clone(), payload.clone().into());
        publish.properties = properties.clone();
        let bytes = encode(&Packet::Publish(Box::new(publish)), ProtocolVersion::V5);
        let mut server = decoder(ProtocolVersion::V5, From::Server, DecodeLimits::default());
        let Some((PacketRef::Publish(borrowed), _)) = server.decode(&bytes).unwrap() else {
            unreachable!()
        };
        let mut scratch = Vec::new();
        let received = Message::from_publish(name.borrowed(), &borrowed, 1, 2, &mut scratch);
        let parts = MessageParts {
            id: 1,
            stamp: 2,
            topic: name.borrowed(),
            properties: &properties,
            payload: &payload,
        };
        prop_assert_eq!(Message::new(&parts, &mut scratch), Ok(received));
    }

    #[test]
    fn bytes_that_are_no_message_are_refused_or_harmless(bytes in vec(any::<u8>(), 0..96)) {
        if let Ok(message) = Message::from_bytes(&bytes) {
            prop_assert_eq!(message.as_bytes(), &bytes);
            let shown = format!("{message:?}");
            prop_assert!(shown.starts_with("Message"));
        }
    }
}

fn check_message(message: &Message, version: ProtocolVersion, head: &Head<'_>, expected: &Publish) {
    let mut packet = Vec::new();
    let payload = message.encode_head(version, head, &mut packet);
    packet.extend_from_slice(payload);
    assert_eq!(packet.len(), message.packet_len(version, head));
    check_short_head(message, version, head);
    let (decoded, _) = decode(version, From::Server, &packet).unwrap().unwrap();
    assert_eq!(decoded, Packet::Publish(Box::new(expected.clone())));
}

/// A short head is written or not, and is the same as any other.
fn check_short_head(message: &Message, version: ProtocolVersion, head: &Head<'_>) {
    let plain = Head {
        topic: TopicForm::Name,
        expiry_seconds: None,
        subscription_ids: &[],
        ..*head
    };
    let mut expected = Vec::new();
    let payload = message.encode_head(version, &plain, &mut expected);
    let (own, mut short) = ((head.delivery, head.retain), Vec::new());
    let is_short = message.packet_len(version, &plain) <= 129;
    if is_short && message.properties().into_owned() == PublishProperties::default() {
        let written = message.encode_short_head(version, own, &mut short);
        assert_eq!((written, short), (Some(payload), expected));
    } else {
        assert_eq!(message.encode_short_head(version, own, &mut short), None);
        assert!(short.is_empty());
    }
}

/// Whatever decodes must be what its encoding decodes to.
fn check_any(version: ProtocolVersion, from: From, bytes: &[u8]) {
    for limits in [DecodeLimits::default(), DecodeLimits::UNLIMITED] {
        let Ok(Some((packet, used))) = decode_with(version, from, bytes, limits) else {
            continue;
        };
        assert!(used <= bytes.len());
        let version = if let Packet::Connect(connect) = &packet {
            connect.version
        } else {
            version
        };
        let canonical = encode(&packet, version);
        assert!(canonical.len() <= used, "an encoding is the shortest");
        let again = decode_with(version, from, &canonical, limits);
        assert_eq!(again, Ok(Some((packet, canonical.len()))));
    }
}
