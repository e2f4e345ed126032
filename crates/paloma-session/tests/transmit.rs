//! How much is encoded for one socket at a time.

mod rig;

use paloma_codec::{ProtocolVersion, Qos};
use paloma_session::{DropCause, Outbound, Transmit};
use rig::{Rig, message};

/// What a PUBLISH takes here, at QoS 0 in 3.1.1: three bytes of header, three of topic, and the payload.
const PACKET_BYTES: usize = 1_000;

/// How many packets of a kilobyte are encoded where `budget` bytes may wait for the socket, and `waiting` packets do.
fn check(budget: usize, large_bytes_min: usize, waiting: usize, expected: usize) {
    let mut rig = Rig::server(ProtocolVersion::V3_1_1);
    rig.out = Transmit::new(budget, large_bytes_min);
    let payload = vec![7; PACKET_BYTES - 6];
    for _ in 0..waiting {
        rig.queue(Outbound::new(message("t", &payload, None), Qos::AtMostOnce));
    }
    let _ = rig.transmit();
    assert_eq!(
        rig.out.len(),
        expected * PACKET_BYTES,
        "{waiting} under {budget}"
    );
}

#[test]
fn a_socket_gets_no_more_than_its_share_at_a_time() {
    // Copied, and by reference.
    for large_bytes_min in [usize::MAX, 1] {
        for waiting in [5, 6, 200] {
            check(5 * PACKET_BYTES, large_bytes_min, waiting, 5);
        }
        // The last one may pass it: whatever the limit, there is one.
        check(5 * PACKET_BYTES + 1, large_bytes_min, 200, 6);
        check(1, large_bytes_min, 200, 1);
    }
}

#[test]
fn a_drop_says_why() {
    for (cause, expected) in [
        (DropCause::Expired, "it expired before its delivery began"),
        (
            DropCause::TooLarge,
            "it is larger than the receiver accepts",
        ),
        (
            DropCause::NotSupported,
            "the receiver does not support its QoS or retaining",
        ),
    ] {
        assert_eq!(cause.to_string(), expected);
    }
}
