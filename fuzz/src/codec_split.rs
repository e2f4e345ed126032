//! A choice of side, version and chunk sizes, then a stream: in chunks it means what it means whole.

use bytes::BytesMut;
use paloma_codec::{DecodeError, Decoder, Packet};

use crate::codec::{decode_all, decoder, version};

/// Decodes the stream whole, in chunks of one size, byte by byte, and from an owned buffer.
pub fn run(data: &[u8]) {
    let [choice, chunk, input @ ..] = data else {
        return;
    };
    let start = decoder(*choice, version(*choice));
    let (mut whole, mut decoder) = (Vec::new(), start.clone());
    let end = decode_all(&mut decoder, input, |_, packet, _| whole.push(packet));
    let whole = (whole, end);
    for size in [usize::from(*chunk).max(1), 1] {
        assert_eq!(
            in_chunks(start.clone(), input, size),
            whole,
            "chunks of {size}"
        );
    }
    assert_eq!(owned(start, input, usize::from(*chunk).max(1)), whole);
}

type Outcome = (Vec<Packet>, Option<DecodeError>);

fn in_chunks(mut decoder: Decoder, input: &[u8], size: usize) -> Outcome {
    let (mut buffer, mut packets) = (Vec::new(), Vec::new());
    for chunk in input.chunks(size) {
        buffer.extend_from_slice(chunk);
        let mut used = 0;
        let end = decode_all(&mut decoder, &buffer, |_, packet, bytes| {
            packets.push(packet);
            used += bytes.len();
        });
        if end.is_some() {
            return (packets, end);
        }
        buffer.drain(..used);
    }
    (packets, None)
}

fn owned(mut decoder: Decoder, input: &[u8], size: usize) -> Outcome {
    let (mut buffer, mut packets) = (BytesMut::new(), Vec::new());
    for chunk in input.chunks(size) {
        buffer.extend_from_slice(chunk);
        loop {
            match decoder.decode_owned(&mut buffer) {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => break,
                Err(error) => return (packets, Some(error)),
            }
        }
    }
    (packets, None)
}
