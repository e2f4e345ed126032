//! The short ways of the most frequent packets: each does what the long one would, or nothing.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests: what is not as expected is a failed test"
)]

mod rig;

use paloma_codec::{
    Ack, ConnAck, Packet, PacketRef, ProtocolVersion, PubAck, PubAckReason, Qos, ReceiveMaximum,
};
use paloma_session::{Gate, LogSeq, Receipt};
use rig::{Rig, Seen, connect, id, qos1};

use ProtocolVersion::{V3_1_1, V5};

/// Takes a PUBLISH in without an event; `None` if that is not its way.
fn take_publish(rig: &mut Rig, packet: &Packet) -> Option<Option<Receipt>> {
    let mut bytes = Vec::new();
    packet.encode(rig.connection.version(), &mut bytes).unwrap();
    let mut decoder = rig.input.clone();
    let Some((PacketRef::Publish(publish), _)) = decoder.decode(&bytes).unwrap() else {
        panic!("not a PUBLISH: {packet:?}");
    };
    let taken = rig.connection.handle_plain_publish(rig.now, &publish);
    taken.map(|(topic, receipt)| {
        assert_eq!(topic.as_str(), "t");
        receipt
    })
}

/// Takes a PUBACK in without an event; says whether that was its way.
fn take_pub_ack(rig: &mut Rig, number: u16, reason: PubAckReason) -> bool {
    let ack: PubAck = Ack::new(id(number), reason);
    let taken = rig
        .connection
        .handle_plain_pub_ack(rig.now, &mut rig.session, &ack);
    taken.is_some_and(|outbound| {
        assert_eq!(outbound.qos(), Qos::AtLeastOnce);
        true
    })
}

/// [MQTT-4.3.2-4] [MQTT-4.6.0-2]
#[test]
fn publishes_are_answered_in_their_order_whichever_way_they_and_their_answers_took() {
    for version in [V3_1_1, V5] {
        let mut rig = Rig::server(version);
        let first = take_publish(&mut rig, &qos1(3)).flatten().unwrap();
        let second = rig.receive(&qos1(1)).unwrap().receipt();
        let third = take_publish(&mut rig, &qos1(2)).flatten().unwrap();
        let second = rig.connection.acknowledge_next(second).unwrap_err();
        assert!(rig.connection.acknowledge_next(first).is_ok());
        rig.acknowledge(third, PubAckReason::Success, Gate::Open);
        // Another one waits for it: it is not to be forgotten.
        let second = rig.connection.acknowledge_next(second).unwrap_err();
        rig.acknowledge(second, PubAckReason::Success, Gate::Open);
        let sent = ["PUBACK 3 00", "PUBACK 1 00", "PUBACK 2 00"];
        assert_eq!(rig.sent_briefly(), sent, "{version:?}");
        assert_eq!(rig.connection.open_inbound(), 0);
    }
}

#[test]
fn a_receipt_of_an_earlier_connection_is_given_back() {
    let mut rig = Rig::server(V5);
    let receipt = take_publish(&mut rig, &qos1(1)).flatten().unwrap();
    let mut rig = rig.reconnected(&connect(V5));
    rig.sent();
    assert!(rig.connection.acknowledge_next(receipt).is_err());
    assert_eq!(rig.sent(), []);
}

/// [MQTT-3.3.4-7] [MQTT-3.3.4-9]
#[test]
fn more_exchanges_than_were_allowed_are_not_taken_in() {
    let conn_ack = ConnAck {
        receive_maximum: ReceiveMaximum::new(2).unwrap(),
        ..ConnAck::default()
    };
    let mut rig = Rig::server_with(&connect(V5), &conn_ack);
    assert!(matches!(take_publish(&mut rig, &qos1(1)), Some(Some(_))));
    assert!(matches!(take_publish(&mut rig, &qos1(2)), Some(Some(_))));
    assert!(take_publish(&mut rig, &qos1(3)).is_none());
    assert_eq!(rig.connection.open_inbound(), 2, "nothing was done");
}

/// [MQTT-3.3.4-9]
#[test]
fn a_plain_acknowledgement_makes_room_in_the_window() {
    for version in [V3_1_1, V5] {
        let mut rig = Rig::server(version);
        rig.queue_qos(Qos::AtLeastOnce);
        assert_eq!(rig.sent_briefly(), ["PUBLISH t 1"]);
        assert_eq!(rig.connection.unacknowledged(), 1);
        assert!(take_pub_ack(&mut rig, 1, PubAckReason::Success));
        assert!(!take_pub_ack(&mut rig, 1, PubAckReason::Success), "again");
        assert_eq!(rig.connection.unacknowledged(), 0);
        assert!(rig.session.is_empty());
    }
}

#[test]
fn acknowledgements_that_mean_more_are_left_to_the_long_way() {
    let mut rig = Rig::server(V5);
    rig.queue_qos(Qos::AtLeastOnce);
    rig.queue_qos(Qos::ExactlyOnce);
    assert_eq!(rig.sent_briefly(), ["PUBLISH t 1", "PUBLISH t 2"]);
    let quota = PubAckReason::QuotaExceeded;
    assert!(!take_pub_ack(&mut rig, 1, quota), "it refuses");
    assert!(!take_pub_ack(&mut rig, 2, PubAckReason::Success), "QoS 2");
    assert!(!take_pub_ack(&mut rig, 3, PubAckReason::Success), "unknown");
    assert_eq!(rig.session.window().len(), 2, "nothing was done");
    let acknowledged = rig.receive(&Packet::PubAck(Ack::new(id(1), quota)));
    assert_eq!(acknowledged, Ok(Seen::Acknowledged(id(1), quota)));
    // While what was in flight is sent again, its order is looked after elsewhere.
    rig.queue_qos(Qos::AtLeastOnce);
    rig.sent();
    let mut rig = rig.reconnected(&connect(V5));
    rig.committed = LogSeq::ZERO;
    assert!(!take_pub_ack(&mut rig, 3, PubAckReason::Success));
    let sent = ["CONNACK 00", "PUBLISH t 2 dup", "PUBLISH t 3 dup"];
    assert_eq!(rig.sent_briefly(), sent);
    assert!(take_pub_ack(&mut rig, 3, PubAckReason::Success));
}
