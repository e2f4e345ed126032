//! What the codec's targets share: decoders in the state that an input asks for, and what must hold of each packet.

use paloma_codec::{DecodeError, DecodeLimits, Decoder, Packet, ProtocolVersion};

/// A decoder by the first byte of the input: before CONNECT, after it, or of a client; by limits of two kinds.
pub(crate) fn decoder(choice: u8, version: ProtocolVersion) -> Decoder {
    let limits = if choice & 4 == 0 {
        DecodeLimits::default()
    } else {
        DecodeLimits::UNLIMITED
    };
    match choice & 3 {
        0 => Decoder::server(limits),
        1 => Decoder::client(version, limits),
        _ => {
            let mut decoder = Decoder::server(limits);
            let connect: &[u8] = match version {
                ProtocolVersion::V3_1 => b"\x10\x0f\0\x06MQIsdp\x03\x02\0\0\0\x01c",
                ProtocolVersion::V3_1_1 => b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01c",
                ProtocolVersion::V5 => b"\x10\x0e\0\x04MQTT\x05\x02\0\0\0\0\x01c",
            };
            let decoded = decoder.decode(connect);
            assert!(matches!(decoded, Ok(Some(_))));
            decoder
        }
    }
}

/// The version by the first byte of the input.
pub(crate) fn version(choice: u8) -> ProtocolVersion {
    match choice >> 3 & 3 {
        0 => ProtocolVersion::V3_1,
        1 => ProtocolVersion::V3_1_1,
        _ => ProtocolVersion::V5,
    }
}

/// Everything that decodes, and what ended it: a rule, or `None` when only part of a packet is left.
pub(crate) fn decode_all(
    decoder: &mut Decoder,
    mut input: &[u8],
    mut each: impl FnMut(&Decoder, Packet, &[u8]),
) -> Option<DecodeError> {
    loop {
        match decoder.decode(input) {
            Ok(Some((packet, used))) => {
                let packet = packet.into_owned();
                let (bytes, rest) = input
                    .split_at_checked(used)
                    .expect("no more is used than there was");
                each(decoder, packet, bytes);
                input = rest;
            }
            Ok(None) => return None,
            Err(error) => return Some(error),
        }
    }
}

/// A packet's encoding is never longer than what it came from, and decodes to the same packet.
pub(crate) fn check_round_trip(before: &Decoder, after: &Decoder, packet: &Packet, bytes: &[u8]) {
    let version = after
        .version()
        .expect("a packet has told the decoder its version");
    let mut canonical = Vec::new();
    packet
        .encode(version, &mut canonical)
        .expect("what was decoded can be said");
    assert_eq!(packet.encoded_len(version), Ok(canonical.len()));
    assert!(canonical.len() <= bytes.len(), "{packet:?}");
    let mut decoder = before.clone();
    let Ok(Some((again, used))) = decoder.decode(&canonical) else {
        panic!("{packet:?} does not decode from {canonical:02x?}");
    };
    assert_eq!(
        (again.into_owned(), used),
        (packet.clone(), canonical.len())
    );
}

/// Decodes a stream and checks each packet, however it ends.
pub(crate) fn check_stream(choice: u8, version: ProtocolVersion, input: &[u8]) {
    let mut decoder = decoder(choice, version);
    let mut before = decoder.clone();
    decode_all(&mut decoder, input, |after, packet, bytes| {
        // The excess is counted, not kept, so there is nothing to write it from.
        let is_whole = !matches!(&packet, Packet::Subscribe(packet) if packet.filters_excess > 0);
        if is_whole {
            check_round_trip(&before, after, &packet, bytes);
        }
        before = after.clone();
    });
}
