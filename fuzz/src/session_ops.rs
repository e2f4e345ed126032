//! Two ends of a session over a link that breaks: four bytes of setup, then three bytes an operation.
//!
//! The harness is the one of paloma-session's own tests, with all its checks: nothing above QoS 0 is lost, QoS 2 comes
//! once, order is kept, windows are never passed, and in the end both ends come to rest.

#[path = "../../crates/paloma-session/tests/pair/mod.rs"]
mod pair;

use paloma_codec::ProtocolVersion;

use pair::{LEVELS, Op, Pair, SIDES, Setup, Side};

/// Operations of one run: enough for any state, few enough to be quick.
const OPS_MAX: usize = 1_000;

/// Runs the operations, then lets both ends come to rest.
pub fn run(data: &[u8]) {
    let Some(([flags, receive_maximum, alias_maximum, keep_alive], ops)) = data.split_first_chunk()
    else {
        return;
    };
    let version = match flags & 1 {
        0 => ProtocolVersion::V5,
        _ => ProtocolVersion::V3_1_1,
    };
    let mut pair = Pair::connected(Setup {
        version,
        receive_maximum: u16::from(*receive_maximum).max(1),
        alias_maximum: u16::from(*alias_maximum),
        acknowledge_at_once: flags & 2 == 0,
        gated: flags & 4 != 0,
        keep_alive_seconds: u16::from(*keep_alive),
        in_flight_max: 32,
    });
    for [code, a, b] in ops.as_chunks().0.iter().take(OPS_MAX) {
        pair.apply(op(*code, *a, *b));
        pair.check_so_far();
    }
    pair.settle();
    pair.check_complete();
}

fn op(code: u8, a: u8, b: u8) -> Op {
    let side = SIDES[usize::from(code >> 7)];
    // 255 stands for everything that is on the link.
    let bytes = |byte| {
        if byte == u8::MAX {
            u16::MAX
        } else {
            u16::from(byte)
        }
    };
    match code & 7 {
        0 => Op::Publish {
            side,
            qos: LEVELS[usize::from(a % 3)],
            topic: a / 3,
            bytes: u16::from(b),
        },
        1 => Op::Transmit(side),
        2 => Op::Deliver {
            side,
            bytes: bytes(a),
        },
        3 => Op::Commit(side),
        4 => Op::Acknowledge { side, choice: a },
        5 => Op::Wait {
            millis: u16::from_le_bytes([a, b]),
        },
        6 if side == Side::Client => Op::Cut {
            to_client: bytes(a),
            to_server: bytes(b),
        },
        _ => Op::Connect,
    }
}
