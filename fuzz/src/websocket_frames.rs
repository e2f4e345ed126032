//! Frames of a WebSocket: wherever they are cut, the same payload and the same end come out, and no pong but to a ping.

use paloma_tokio::websocket::{End, FrameDecoder};

/// Bytes of a message are bounded by four times the first byte; the second one says where the stream is cut.
pub fn run(data: &[u8]) {
    let Some((&[limit, piece], bytes)) = data.split_first_chunk() else {
        return;
    };
    let limit = u64::from(limit) * 4;
    // Byte by byte every ping is answered.
    let finest = decode(bytes, limit, 1);
    assert!(finest.payload.len() <= bytes.len());
    for piece in [usize::from(piece), bytes.len()] {
        let coarse = decode(bytes, limit, piece);
        assert_eq!(coarse.payload, finest.payload, "in pieces of {piece}");
        assert_eq!(coarse.end, finest.end, "in pieces of {piece}");
        // Of several in one piece only the last needs an answer.
        let mut pongs = finest.pongs.iter();
        let are_some_of_them = coarse.pongs.iter().all(|pong| pongs.any(|one| one == pong));
        assert!(are_some_of_them, "{:?} of {:?}", coarse.pongs, finest.pongs);
    }
}

struct Outcome {
    payload: Vec<u8>,
    pongs: Vec<Vec<u8>>,
    end: Option<End>,
}

fn decode(bytes: &[u8], limit: u64, piece: usize) -> Outcome {
    let mut decoder = FrameDecoder::new(limit);
    let (mut payload, mut pongs) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(piece.max(1)) {
        let mut read = piece.to_vec();
        let kept = decoder.decode(&mut read);
        payload.extend(&read[..kept]);
        pongs.extend(decoder.take_pong().map(<[u8]>::to_vec));
    }
    Outcome {
        payload,
        pongs,
        end: decoder.end(),
    }
}
