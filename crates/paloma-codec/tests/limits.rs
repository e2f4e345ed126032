//! What limits refuse, and what decoding costs.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

mod support;

use paloma_codec::{
    DecodeError, DecodeLimits, Decoder, DisconnectReason, Encode, EncodeError, Packet, PacketId,
    PacketRef, ProtocolVersion, PubAck, PubAckReason, Publish, SubAckReason, UserProperties,
};
use paloma_topic::{TopicLimits, TopicName};
use support::{From, block, decode, decode_with, encode, framed, prefixed, vectors};

const V5: ProtocolVersion = ProtocolVersion::V5;
const V4: ProtocolVersion = ProtocolVersion::V3_1_1;

fn check(from: From, limits: DecodeLimits, bytes: &[u8], expected: Result<(), DecodeError>) {
    let decoded = decode_with(V5, from, bytes, limits);
    assert_eq!(decoded.map(|packet| assert!(packet.is_some())), expected);
}

fn publish_with_user_properties(count: usize) -> Vec<u8> {
    let property = [b"\x26", &prefixed(b"name")[..], &prefixed(b"value")].concat();
    framed(
        0x30,
        &[&prefixed(b"t")[..], &block(&property.repeat(count)), b"hi"].concat(),
    )
}

#[test]
fn a_packet_above_the_limit_fails_before_its_body_is_there() {
    let limits = DecodeLimits {
        packet_bytes_max: 100,
        ..DecodeLimits::default()
    };
    let mut decoder = support::decoder(V5, From::Client, limits);
    assert!(decoder.decode(&[0x30, 98]).unwrap().is_none());
    assert_eq!(decoder.frame_len(&[0x30, 98]), Ok(Some(100)));
    let error = decoder.decode(&[0x30, 99]).unwrap_err();
    assert_eq!(error, DecodeError::PacketTooLarge);
    assert_eq!(error.reason(), DisconnectReason::PacketTooLarge);
    assert_eq!(
        decoder.frame_len(&[0x30, 99]),
        Err(DecodeError::PacketTooLarge)
    );
}

#[test]
fn a_connect_has_a_smaller_limit_than_what_follows_it() {
    let limits = DecodeLimits {
        connect_bytes_max: 16,
        ..DecodeLimits::default()
    };
    let mut decoder = Decoder::server(limits);
    assert_eq!(
        decoder.decode(&[0x10, 15]).unwrap_err(),
        DecodeError::PacketTooLarge
    );
    let connect = b"\x10\x0e\0\x04MQTT\x05\x02\0\0\0\0\x01c";
    assert!(decoder.decode(connect).unwrap().is_some());
    assert!(decoder.decode(&[0x30, 15]).unwrap().is_none());
}

#[test]
fn whoever_does_not_begin_with_connect_is_known_by_the_first_byte() {
    let tls = "\x16\x03\x01";
    for text in ["GET / HTTP/1.1", tls, "SSH-2.0", "\0"] {
        let mut decoder = Decoder::server(DecodeLimits::default());
        let error = decoder.decode(&text.as_bytes()[..1]).unwrap_err();
        let is_tls = text == tls;
        assert_eq!(error == DecodeError::FixedHeaderFlags, is_tls);
        assert_eq!(error == DecodeError::ConnectExpected, !is_tls);
        assert_eq!(error.conn_ack(V5), None);
    }
}

#[test]
fn a_claimed_size_reserves_nothing() {
    let limits = DecodeLimits::UNLIMITED;
    for first in [0x30, 0x82, 0xE0, 0xF0] {
        let mut decoder = support::decoder(V5, From::Client, limits);
        let header = [first, 0xFF, 0xFF, 0xFF, 0x7F];
        let info =
            allocation_counter::measure(|| assert!(decoder.decode(&header).unwrap().is_none()));
        assert_eq!(info.count_total, 0);
        assert_eq!(decoder.frame_len(&header), Ok(Some(268_435_460)));
    }
}

#[test]
fn a_topic_above_the_limit_is_refused() {
    let limits = DecodeLimits {
        topic: TopicLimits {
            bytes_max: 8,
            levels_max: 3,
        },
        ..DecodeLimits::default()
    };
    for (topic, fits) in [
        ("12345678", true),
        ("123456789", false),
        ("a/b/c", true),
        ("a/b/c/", false),
    ] {
        let publish = framed(0x30, &[&prefixed(topic.as_bytes())[..], b"\0"].concat());
        check(
            From::Client,
            limits,
            &publish,
            if fits {
                Ok(())
            } else {
                Err(DecodeError::TopicTooLarge)
            },
        );
        let body = [b"\0\x01\0", &prefixed(topic.as_bytes())[..], b"\0"].concat();
        let expected = if fits {
            Ok(())
        } else {
            Err(DecodeError::FilterTooLarge)
        };
        check(From::Client, limits, &framed(0x82, &body), expected);
        check(
            From::Client,
            limits,
            &framed(0xA2, &body[..body.len() - 1]),
            expected,
        );
    }
    assert_eq!(
        DecodeError::TopicTooLarge.reason(),
        DisconnectReason::TopicNameInvalid
    );
    assert_eq!(
        DecodeError::FilterTooLarge.reason(),
        DisconnectReason::TopicFilterInvalid
    );
}

#[test]
fn a_topic_of_slashes_alone_is_refused_without_recursion() {
    let topic = prefixed(&[b'/'; 65_535]);
    let limits = DecodeLimits {
        topic: TopicLimits {
            bytes_max: u16::MAX,
            levels_max: 128,
        },
        ..DecodeLimits::default()
    };
    let publish = framed(0x30, &[&topic[..], b"\0"].concat());
    check(
        From::Client,
        limits,
        &publish,
        Err(DecodeError::TopicTooLarge),
    );
    check(From::Client, DecodeLimits::UNLIMITED, &publish, Ok(()));
}

#[test]
fn client_id_and_will_have_limits_of_their_own() {
    let connect = |client_id: usize, will: usize| {
        let will = prefixed(&vec![b'w'; will]);
        let body = [
            b"\0\x04MQTT\x05\x06\0\0\0",
            &prefixed(&vec![b'c'; client_id])[..],
            b"\0\0\x01w",
            &will,
        ];
        framed(0x10, &body.concat())
    };
    let limits = DecodeLimits::default();
    check(From::First, limits, &connect(256, 32 * 1024), Ok(()));
    check(
        From::First,
        limits,
        &connect(257, 0),
        Err(DecodeError::ClientIdTooLong),
    );
    check(
        From::First,
        limits,
        &connect(1, 32 * 1024 + 1),
        Err(DecodeError::WillTooLarge),
    );
}

#[test]
fn user_properties_are_limited_by_count_and_by_bytes() {
    let limits = DecodeLimits::default();
    check(
        From::Client,
        limits,
        &publish_with_user_properties(64),
        Ok(()),
    );
    let too_many = Err(DecodeError::UserPropertiesTooMany);
    check(
        From::Client,
        limits,
        &publish_with_user_properties(65),
        too_many,
    );
    // A property of these takes 14 bytes.
    let limits = DecodeLimits {
        user_properties_bytes_max: 28,
        ..limits
    };
    check(
        From::Client,
        limits,
        &publish_with_user_properties(2),
        Ok(()),
    );
    check(
        From::Client,
        limits,
        &publish_with_user_properties(3),
        too_many,
    );
    assert_eq!(
        DecodeError::UserPropertiesTooMany.reason(),
        DisconnectReason::QuotaExceeded
    );
}

#[test]
fn twenty_thousand_user_properties_are_walked_once() {
    let bytes = publish_with_user_properties(20_000);
    let mut decoder = support::decoder(V5, From::Client, DecodeLimits::UNLIMITED);
    let info = allocation_counter::measure(|| {
        let Some((PacketRef::Publish(publish), _)) = decoder.decode(&bytes).unwrap() else {
            panic!("a PUBLISH");
        };
        assert_eq!(publish.properties.user_properties().count(), 20_000);
    });
    assert_eq!(info.count_total, 0);
}

/// Every prefix of `packet` waits, even where its body is already wrong, and costs no allocation; the whole is refused.
/// So the body is looked at once, when it is all there. A12
fn check_looked_at_once(packet: &[u8], rule: DecodeError) {
    let mut decoder = support::decoder(V5, From::Client, DecodeLimits::UNLIMITED);
    let info = allocation_counter::measure(|| {
        for end in 0..packet.len() {
            assert!(decoder.decode(&packet[..end]).unwrap().is_none(), "{end}");
        }
    });
    assert_eq!(info.count_total, 0);
    assert_eq!(decoder.decode(packet).unwrap_err(), rule);
}

#[test]
fn a_body_is_not_looked_at_before_it_is_whole() {
    let mut publish = publish_with_user_properties(20_000);
    publish[6] = b'#';
    check_looked_at_once(&publish, DecodeError::TopicWildcard);
    let filters = [b"\0\0\0", &b"\0\x01t\0".repeat(1_000)[..]].concat();
    check_looked_at_once(&framed(0x82, &filters), DecodeError::PacketIdZero);
    let mut large = b"\0\x01t\x02\x01\x02".to_vec();
    large.resize(1 << 20, b'x');
    check_looked_at_once(&framed(0x30, &large), DecodeError::PropertyNotFlag);
}

#[test]
fn filters_above_the_limit_are_counted_and_owed_an_answer() {
    let subscribe = |count: usize| {
        framed(
            0x82,
            &[b"\0\x01\0", &b"\0\x01t\0".repeat(count)[..]].concat(),
        )
    };
    for (count, stored, excess) in [
        (1, 1, 0),
        (1_024, 1_024, 0),
        (1_025, 1_024, 1),
        (21_845, 1_024, 20_821),
    ] {
        let Ok(Some((Packet::Subscribe(subscribe), _))) =
            decode(V5, From::Client, &subscribe(count))
        else {
            panic!("a SUBSCRIBE");
        };
        assert_eq!(
            (subscribe.filters.len(), subscribe.filters_excess),
            (stored, excess)
        );
    }
    let bad = framed(
        0x82,
        &[b"\0\x01\0", &b"\0\x01t\0".repeat(2_000)[..], b"\0\x02a#\0"].concat(),
    );
    check(
        From::Client,
        DecodeLimits::default(),
        &bad,
        Err(DecodeError::FilterInvalid),
    );
    let reasons = vec![SubAckReason::QuotaExceeded; 21_845];
    let ack = paloma_codec::SubAck::new(PacketId::MIN, reasons);
    assert!(ack.encoded_len(V5).is_ok());
}

#[test]
fn unsubscribe_has_a_limit_that_ends_the_connection() {
    let unsubscribe =
        |count: usize| framed(0xA2, &[b"\0\x01\0", &b"\0\x01t".repeat(count)[..]].concat());
    check(
        From::Client,
        DecodeLimits::default(),
        &unsubscribe(10_000),
        Ok(()),
    );
    let too_many = Err(DecodeError::FiltersTooMany);
    check(
        From::Client,
        DecodeLimits::default(),
        &unsubscribe(10_001),
        too_many,
    );
}

#[test]
fn the_usual_packets_decode_without_an_allocation() {
    let usual: [&[u8]; 8] = [
        b"\x30\x05\0\x01t\0x",
        b"\x32\x07\0\x01t\0\x01\0x",
        b"\x30\x10\0\x01t\x0b\x02\0\0\0\x01\x23\0\x01\x03\0\0x",
        b"\x40\x02\0\x01",
        b"\x50\x03\0\x01\x10",
        b"\x62\x02\0\x01",
        b"\x70\x02\0\x01",
        b"\xC0\0",
    ];
    let mut decoder = support::decoder(V5, From::Client, DecodeLimits::default());
    for bytes in usual {
        let info =
            allocation_counter::measure(|| assert!(decoder.decode(bytes).unwrap().is_some()));
        assert_eq!(info.count_total, 0, "{bytes:02x?}");
    }
}

#[test]
fn decoding_allocates_at_most_twice_its_input_beside_the_packet_itself() {
    // The boxed structs of a packet, and a filter's or a list's fixed part.
    const FIXED: u64 = 1_024;
    for vector in vectors() {
        let mut decoder = support::decoder(vector.version, vector.from, DecodeLimits::default());
        let info = allocation_counter::measure(|| drop(decoder.decode(&vector.bytes)));
        let input = vector.bytes.len() as u64;
        assert!(
            info.bytes_total <= 2 * input + FIXED,
            "{}: {info:?}",
            vector.name
        );
    }
    let will = prefixed(&[b'w'; 30_000]);
    let text = prefixed(&[b'u'; 15_000]);
    let connect = framed(
        0x10,
        &[
            b"\0\x04MQTT\x05\xC6\0\0\0\0\x01c\0\0\x01w",
            &will[..],
            &text,
            &text,
        ]
        .concat(),
    );
    let mut decoder = Decoder::server(DecodeLimits::default());
    let info = allocation_counter::measure(|| assert!(decoder.decode(&connect).unwrap().is_some()));
    assert!(info.bytes_total <= connect.len() as u64 + FIXED, "{info:?}");
}

#[test]
fn a_refused_packet_leaves_nothing_allocated() {
    for vector in vectors().iter().filter(|vector| !vector.is_valid()) {
        let mut decoder = support::decoder(vector.version, vector.from, DecodeLimits::default());
        let info = allocation_counter::measure(|| drop(decoder.decode(&vector.bytes)));
        assert_eq!(info.bytes_current, 0, "{}", vector.name);
    }
}

#[test]
fn a_message_is_one_allocation_whoever_shares_it() {
    let bytes = publish_with_user_properties(3);
    let mut decoder = support::decoder(V5, From::Client, DecodeLimits::default());
    let Some((PacketRef::Publish(publish), _)) = decoder.decode(&bytes).unwrap() else {
        panic!("a PUBLISH");
    };
    let topic = *publish.topic.name().unwrap();
    let mut scratch = Vec::with_capacity(1_024);
    let info = allocation_counter::measure(|| {
        let message = paloma_codec::Message::from_publish(topic, &publish, 1, 2, &mut scratch);
        let shared: [paloma_codec::Message; 8] = std::array::from_fn(|_| message.clone());
        assert!(shared.iter().all(|handle| handle.is_same(&message)));
    });
    assert_eq!(info.count_total, 1);
}

#[test]
fn a_payload_decoded_from_an_owned_buffer_is_not_copied() {
    let publish = Publish::new(TopicName::new("t").unwrap(), vec![7; 10_000].into());
    let bytes = encode(&Packet::Publish(Box::new(publish)), V5);
    let mut buffer = bytes::BytesMut::from(&bytes[..]);
    let payload_at = buffer.as_ptr() as usize + buffer.len() - 10_000;
    let mut decoder = support::decoder(V5, From::Client, DecodeLimits::default());
    let Some(Packet::Publish(publish)) = decoder.decode_owned(&mut buffer).unwrap() else {
        panic!("a PUBLISH");
    };
    assert_eq!(publish.payload.as_ptr() as usize, payload_at);
}

#[test]
fn explanations_give_way_to_the_receivers_size_in_order() {
    let mut ack = PubAck::new(PacketId::MIN, PubAckReason::QuotaExceeded);
    ack.reason_string = Some("full".into());
    ack.user_properties = UserProperties::new();
    ack.user_properties.push("queue", "1000").unwrap();
    for (size, expected) in [(100, 27), (27, 27), (26, 13), (13, 13), (12, 5), (5, 5)] {
        let mut out = Vec::new();
        ack.encode_within(V5, size, &mut out).unwrap();
        assert_eq!(out.len(), expected, "within {size}");
    }
    let mut out = Vec::new();
    assert_eq!(
        ack.encode_within(V5, 4, &mut out),
        Err(EncodeError::MaximumPacketSize)
    );
    ack.encode_within(V4, 4, &mut out).unwrap();
    assert_eq!(out, [0x40, 2, 0, 1]);
}

#[test]
fn what_is_in_the_buffer_already_does_not_count_for_a_packets_size() {
    let ack = PubAck::new(PacketId::MIN, PubAckReason::QuotaExceeded);
    for before in [0, 1, 100, 10_000] {
        let mut out = vec![7; before];
        ack.encode_within(V5, 5, &mut out).unwrap();
        assert_eq!(out[before..], [0x40, 3, 0, 1, 0x97]);
        assert_eq!(
            ack.encode_within(V5, 4, &mut out),
            Err(EncodeError::MaximumPacketSize)
        );
        assert_eq!(out.len(), before + 5, "a refused packet leaves nothing");
    }
}

#[test]
fn what_a_version_cannot_say_is_refused_or_left_out() {
    let mut out = Vec::new();
    let auth = Packet::Auth(Box::default());
    assert_eq!(auth.encode(V4, &mut out), Err(EncodeError::NotInVersion));
    let refused = paloma_codec::ConnAck::refused(paloma_codec::ConnAckReason::PacketTooLarge);
    assert_eq!(refused.encode(V4, &mut out), Err(EncodeError::NotInVersion));
    let alias = paloma_codec::TopicAlias::new(1).unwrap();
    let mut publish = Publish::new(TopicName::new("t").unwrap(), bytes::Bytes::new());
    publish.topic = paloma_codec::PublishTopic::Alias(alias);
    assert_eq!(publish.encode(V4, &mut out), Err(EncodeError::NotInVersion));
    assert_eq!(publish.encode(V5, &mut out), Ok(()));
    assert_eq!(out, [0x30, 6, 0, 0, 3, 0x23, 0, 1]);
}

#[test]
fn an_acknowledgement_is_as_short_as_its_general_form() {
    use paloma_codec::{AckKind, encode_ack};
    for version in support::VERSIONS {
        for reason in PubAckReason::ALL {
            let (mut short, mut general) = (Vec::new(), Vec::new());
            encode_ack(AckKind::PubAck(*reason), PacketId::MAX, version, &mut short);
            PubAck::new(PacketId::MAX, *reason)
                .encode(version, &mut general)
                .unwrap();
            assert_eq!(short, general);
            assert!(short.len() == 4 || version == V5 && *reason != PubAckReason::Success);
        }
    }
}
