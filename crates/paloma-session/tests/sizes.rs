//! What an idle client costs, so that it never grows unseen.

mod rig;

use paloma_codec::{Ack, Packet, ProtocolVersion, PubAckReason, Qos};
use paloma_session::{Connection, Flight, Outbound, Session};
use rig::{Rig, id};

#[test]
fn an_idle_connection_and_its_session_take_a_few_hundred_bytes() {
    println!(
        "Connection {} B, Session {} B",
        size_of::<Connection>(),
        size_of::<Session>()
    );
    assert!(
        size_of::<Connection>() <= 240,
        "{}",
        size_of::<Connection>()
    );
    assert!(size_of::<Session>() <= 168, "{}", size_of::<Session>());
    assert_eq!(size_of::<Outbound>(), 24);
    assert_eq!(size_of::<Option<Outbound>>(), 24);
    assert!(size_of::<Flight>() <= 32);
}

#[test]
fn a_client_that_pings_owns_nothing_beside() {
    let mut rig = Rig::server(ProtocolVersion::V5);
    for _ in 0..20 {
        rig.queue_qos(Qos::AtLeastOnce);
    }
    rig.sent();
    for number in 1..=20 {
        rig.receive(&Packet::PubAck(Ack::new(id(number), PubAckReason::Success)))
            .unwrap();
    }
    assert!(
        rig.session.heap_bytes() > 0,
        "a busy session keeps its tables"
    );
    rig.receive(&Packet::PingReq).unwrap();
    assert_eq!(rig.session.heap_bytes(), 0);
}
