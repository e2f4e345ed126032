//! Exchanges of QoS 1 and 2, step by step.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "helpers of tests: what is not as expected is a failed test"
)]

mod rig;

use std::num::NonZeroU32;

use paloma_codec::{
    Ack, ConnAck, Connect, Delivery, Packet, PacketRef, ProtocolVersion, PubAckReason,
    PubCompReason, PubRecReason, PubRelReason, Qos, ReceiveMaximum, SubscriptionId,
};
use paloma_session::{Gate, LogSeq, Outbound, Pushed, TransmitStatus, Violation};
use rig::{Rig, Seen, connect, id, message, publish, qos1, qos2};

use ProtocolVersion::{V3_1_1, V5};

const VERSIONS: [ProtocolVersion; 2] = [V3_1_1, V5];

fn pub_ack(number: u16, reason: PubAckReason) -> Packet {
    Packet::PubAck(Ack::new(id(number), reason))
}

fn pub_rec(number: u16, reason: PubRecReason) -> Packet {
    Packet::PubRec(Ack::new(id(number), reason))
}

fn pub_rel(number: u16) -> Packet {
    Packet::PubRel(Ack::new(id(number), PubRelReason::Success))
}

fn pub_comp(number: u16) -> Packet {
    Packet::PubComp(Ack::new(id(number), PubCompReason::Success))
}

fn accept(rig: &mut Rig, packet: &Packet) {
    let receipt = rig.receive(packet).unwrap().receipt();
    rig.acknowledge(receipt, PubAckReason::Success, Gate::Open);
}

// Receiving.

/// [MQTT-4.3.2-4] [MQTT-4.3.3-8] [MQTT-4.3.3-11] [MQTT-2.2.1-5] [MQTT311-4.3.2-2] [MQTT311-4.3.3-2]
#[test]
fn each_publish_is_answered_as_its_qos_asks() {
    for version in VERSIONS {
        let mut rig = Rig::server(version);
        accept(&mut rig, &qos1(7));
        accept(&mut rig, &qos2(8));
        assert_eq!(rig.sent_briefly(), ["PUBACK 7 00", "PUBREC 8 00"]);
        assert_eq!(rig.receive(&pub_rel(8)), Ok(Seen::Released(id(8))));
        assert_eq!(rig.sent_briefly(), ["PUBCOMP 8 00"]);
    }
}

/// Case G1. [MQTT-4.3.3-10]
#[test]
fn a_repeated_qos_2_publish_is_answered_each_time_and_delivered_once() {
    for version in VERSIONS {
        let mut rig = Rig::server(version);
        accept(&mut rig, &qos2(1));
        for _ in 0..3 {
            assert_eq!(rig.receive(&qos2(1)), Ok(Seen::None));
        }
        assert_eq!(rig.sent_briefly(), ["PUBREC 1 00"; 4]);
        rig.receive(&pub_rel(1)).unwrap();
        accept(&mut rig, &qos2(1));
        assert_eq!(rig.sent_briefly(), ["PUBCOMP 1 00", "PUBREC 1 00"]);
    }
}

/// Case G1, across a reconnection, in both roles.
#[test]
fn a_qos_2_publish_repeated_after_a_resume_is_not_delivered_again() {
    for version in VERSIONS {
        let connect = connect(version);
        for mut rig in [Rig::server(version), Rig::client(version)] {
            accept(&mut rig, &qos2(1));
            let mut rig = rig.reconnected(&connect);
            rig.sent();
            let repeated = publish(
                "t",
                Delivery::ExactlyOnce {
                    id: id(1),
                    dup: true,
                },
            );
            assert_eq!(rig.receive(&repeated), Ok(Seen::None));
            assert_eq!(rig.sent_briefly(), ["PUBREC 1 00"]);
            assert_eq!(rig.receive(&pub_rel(1)), Ok(Seen::Released(id(1))));
        }
    }
}

/// Case G2. [MQTT-4.3.2-5] [MQTT-3.3.1-3]
#[test]
fn a_dup_that_was_never_seen_is_delivered() {
    for version in VERSIONS {
        let mut rig = Rig::server(version);
        accept(
            &mut rig,
            &publish(
                "t",
                Delivery::AtLeastOnce {
                    id: id(1),
                    dup: true,
                },
            ),
        );
        accept(
            &mut rig,
            &publish(
                "t",
                Delivery::ExactlyOnce {
                    id: id(2),
                    dup: true,
                },
            ),
        );
        assert_eq!(rig.sent_briefly(), ["PUBACK 1 00", "PUBREC 2 00"]);
    }
}

/// Case G5.
#[test]
fn an_unknown_pubrel_is_answered() {
    let mut rig = Rig::server(V5);
    assert_eq!(rig.receive(&pub_rel(9)), Ok(Seen::None));
    assert_eq!(rig.sent_briefly(), ["PUBCOMP 9 92"]);
    let mut rig = Rig::server(V3_1_1);
    assert_eq!(rig.receive(&pub_rel(9)), Ok(Seen::None));
    assert_eq!(rig.sent(), [pub_comp(9)]);
}

/// [MQTT-4.3.3-9]
#[test]
fn a_refused_qos_2_publish_ends_its_exchange() {
    let mut rig = Rig::server(V5);
    let receipt = rig.receive(&qos2(1)).unwrap().receipt();
    rig.acknowledge(receipt, PubAckReason::NotAuthorized, Gate::Open);
    assert_eq!(rig.sent_briefly(), ["PUBREC 1 87"]);
    assert_eq!(rig.connection.open_inbound(), 0);
    accept(&mut rig, &qos2(1));
}

/// A 3.1.1 PUBREC cannot refuse, so the client goes on with PUBREL.
#[test]
fn a_refused_qos_2_publish_of_a_3_1_1_client_stays_open() {
    let mut rig = Rig::server(V3_1_1);
    let receipt = rig.receive(&qos2(1)).unwrap().receipt();
    rig.acknowledge(receipt, PubAckReason::NotAuthorized, Gate::Open);
    assert_eq!(rig.sent(), [pub_rec(1, PubRecReason::Success)]);
    assert_eq!(rig.receive(&qos2(1)), Ok(Seen::None));
    assert_eq!(rig.receive(&pub_rel(1)), Ok(Seen::Released(id(1))));
}

/// Case B5. [MQTT-3.3.4-7]
#[test]
fn a_client_that_passes_the_receive_maximum_is_told_0x93() {
    let conn_ack = ConnAck {
        receive_maximum: ReceiveMaximum::new(2).unwrap(),
        ..ConnAck::default()
    };
    let mut rig = Rig::server_with(&connect(V5), &conn_ack);
    accept(&mut rig, &qos1(1));
    accept(&mut rig, &qos2(2));
    // The PUBACK is not written, so the client cannot know of the room yet.
    let violation = rig.receive(&qos1(3)).unwrap_err();
    assert_eq!(violation, Violation::ReceiveMaximumExceeded);
    assert_eq!(violation.reason().code(), 0x93);
    rig.sent();
    accept(&mut rig, &qos1(3));
    // QoS 0 needs no window.
    rig.receive(&publish("t", Delivery::AtMostOnce)).unwrap();
    rig.sent();
    // QoS 2 gives its place back with PUBCOMP, not with PUBREC.
    accept(&mut rig, &qos1(4));
    assert_eq!(
        rig.receive(&qos1(5)),
        Err(Violation::ReceiveMaximumExceeded)
    );
    rig.receive(&pub_rel(2)).unwrap();
    rig.sent();
    accept(&mut rig, &qos1(5));
    accept(&mut rig, &qos1(6));
}

#[test]
fn exchanges_left_open_by_an_earlier_connection_are_no_part_of_the_receive_maximum() {
    let receive_maximum = ReceiveMaximum::new(1).unwrap();
    let conn_ack = ConnAck {
        receive_maximum,
        session_present: true,
        ..ConnAck::default()
    };
    let mut session = paloma_session::Session::default();
    for number in 1..=3 {
        session.restore_received(id(number));
    }
    let mut rig = Rig::accept(&connect(V5), &conn_ack, session, Gate::Open);
    rig.sent();
    // Its PUBREL frees no place, as it took none.
    accept(&mut rig, &qos2(9));
    rig.receive(&pub_rel(1)).unwrap();
    rig.sent();
    assert_eq!(
        rig.receive(&qos1(8)),
        Err(Violation::ReceiveMaximumExceeded)
    );
    rig.receive(&pub_rel(9)).unwrap();
    rig.sent();
    // A repeat takes one.
    assert_eq!(rig.receive(&qos2(2)), Ok(Seen::None));
    assert_eq!(
        rig.receive(&qos2(3)),
        Err(Violation::ReceiveMaximumExceeded)
    );
    assert_eq!(
        rig.receive(&qos2(2)),
        Ok(Seen::None),
        "a second repeat takes no second place"
    );
    rig.receive(&pub_rel(2)).unwrap();
    rig.sent();
    assert_eq!(rig.receive(&qos2(3)), Ok(Seen::None));
}

/// [MQTT-4.6.0-2] [MQTT-4.6.0-3]
#[test]
fn acknowledgements_leave_in_the_order_of_their_publishes() {
    let mut rig = Rig::client(V5);
    let mut receipts: Vec<_> = [qos1(1), qos1(2), qos2(3), qos1(4), qos2(5)]
        .iter()
        .map(|packet| rig.receive(packet).unwrap().receipt())
        .collect();
    let first = receipts.remove(0);
    for receipt in receipts.into_iter().rev() {
        rig.acknowledge(receipt, PubAckReason::Success, Gate::Open);
    }
    assert_eq!(rig.sent_briefly(), ["PUBREC 3 00", "PUBREC 5 00"]);
    rig.acknowledge(first, PubAckReason::Success, Gate::Open);
    assert_eq!(
        rig.sent_briefly(),
        ["PUBACK 1 00", "PUBACK 2 00", "PUBACK 4 00"]
    );
}

#[test]
fn a_receipt_of_an_earlier_connection_acknowledges_nothing() {
    let mut rig = Rig::client(V5);
    let receipt = rig.receive(&qos1(1)).unwrap().receipt();
    let mut rig = rig.reconnected(&connect(V5));
    rig.acknowledge(receipt, PubAckReason::Success, Gate::Open);
    assert_eq!(rig.sent(), []);
}

// Gates.

/// [MQTT-4.6.0-2]
#[test]
fn an_answer_never_overtakes_an_earlier_one_whatever_its_gate() {
    let mut rig = Rig::server(V5);
    for (number, gate) in [
        (1, Gate::Until(LogSeq(2))),
        (2, Gate::Open),
        (3, Gate::Until(LogSeq(1))),
    ] {
        let receipt = rig.receive(&qos1(number)).unwrap().receipt();
        rig.acknowledge(receipt, PubAckReason::Success, gate);
    }
    rig.committed = LogSeq(1);
    assert_eq!(rig.sent(), []);
    assert_eq!(rig.connection.answers_waiting(), 3);
    rig.committed = LogSeq(2);
    assert_eq!(
        rig.sent_briefly(),
        ["PUBACK 1 00", "PUBACK 2 00", "PUBACK 3 00"]
    );
}

/// [MQTT-3.12.4-1]
#[test]
fn pingresp_and_publish_wait_for_no_commit() {
    let mut rig = Rig::server(V5);
    let receipt = rig.receive(&qos1(1)).unwrap().receipt();
    rig.acknowledge(receipt, PubAckReason::Success, Gate::Until(LogSeq(9)));
    rig.receive(&Packet::PingReq).unwrap();
    rig.queue_qos(Qos::AtLeastOnce);
    assert_eq!(rig.sent_briefly(), ["PINGRESP", "PUBLISH t 1"]);
}

#[test]
fn pubrel_and_pubcomp_wait_for_the_commit_that_they_vouch_for() {
    let mut rig = Rig::server(V5);
    rig.queue_qos(Qos::ExactlyOnce);
    accept(&mut rig, &qos2(5));
    rig.sent();
    let gate = Gate::Until(LogSeq(1));
    let received = pub_rec(1, PubRecReason::Success);
    assert_eq!(
        rig.receive_gated(&received, gate),
        Ok(Seen::Received(id(1)))
    );
    assert_eq!(
        rig.receive_gated(&pub_rel(5), gate),
        Ok(Seen::Released(id(5)))
    );
    assert_eq!(rig.sent(), []);
    rig.committed = LogSeq(1);
    assert_eq!(rig.sent_briefly(), ["PUBREL 1 00", "PUBCOMP 5 00"]);
}

#[test]
fn reading_stops_only_while_answers_wait() {
    let mut rig = Rig::server(V3_1_1);
    for _ in 0..65_536 {
        assert!(rig.connection.may_read());
        rig.receive(&pub_rel(1)).unwrap();
    }
    assert!(!rig.connection.may_read());
    while rig.transmit() == TransmitStatus::Full {}
    assert!(rig.connection.may_read());
}

// Sending.

/// [MQTT-4.3.2-1] [MQTT-4.3.2-2] [MQTT-4.3.3-1] [MQTT-4.3.3-2] [MQTT-4.3.3-4] [MQTT-4.3.1-1]
#[test]
fn each_delivery_goes_through_the_steps_of_its_qos() {
    for version in VERSIONS {
        for mut rig in [Rig::server(version), Rig::client(version)] {
            for qos in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
                rig.queue_qos(qos);
            }
            assert_eq!(
                rig.sent_briefly(),
                ["PUBLISH t 0", "PUBLISH t 1", "PUBLISH t 2"]
            );
            let (ok, done) = (PubAckReason::Success, PubCompReason::Success);
            assert_eq!(
                rig.receive(&pub_ack(1, ok)),
                Ok(Seen::Acknowledged(id(1), ok))
            );
            let received = pub_rec(2, PubRecReason::Success);
            assert_eq!(rig.receive(&received), Ok(Seen::Received(id(2))));
            assert_eq!(rig.sent_briefly(), ["PUBREL 2 00"]);
            assert_eq!(rig.receive(&pub_comp(2)), Ok(Seen::Completed(id(2), done)));
            assert!(rig.session.is_empty());
            assert_eq!(rig.connection.unacknowledged(), 0);
        }
    }
}

/// [MQTT-4.4.0-2]
#[test]
fn a_refusing_pubrec_ends_the_exchange_without_pubrel() {
    let mut rig = Rig::server(V5);
    rig.queue_qos(Qos::ExactlyOnce);
    rig.sent();
    let refused = pub_rec(1, PubRecReason::QuotaExceeded);
    let seen = rig.receive(&refused).unwrap();
    assert_eq!(seen, Seen::Acknowledged(id(1), PubAckReason::QuotaExceeded));
    assert_eq!(rig.sent(), []);
    assert!(rig.session.is_empty());
}

/// Case G5.
#[test]
fn unknown_acknowledgements_do_no_harm() {
    let mut rig = Rig::server(V5);
    assert_eq!(
        rig.receive(&pub_ack(1, PubAckReason::Success)),
        Ok(Seen::None)
    );
    assert_eq!(rig.receive(&pub_comp(1)), Ok(Seen::None));
    assert_eq!(
        rig.receive(&pub_rec(1, PubRecReason::QuotaExceeded)),
        Ok(Seen::None)
    );
    assert_eq!(
        rig.receive(&pub_rec(1, PubRecReason::Success)),
        Ok(Seen::None)
    );
    assert_eq!(rig.sent_briefly(), ["PUBREL 1 92"]);
    let mut rig = Rig::server(V3_1_1);
    assert_eq!(
        rig.receive(&pub_rec(1, PubRecReason::Success)),
        Ok(Seen::None)
    );
    assert_eq!(rig.sent(), [pub_rel(1)]);
}

/// Case G5.
#[test]
fn an_acknowledgement_of_the_wrong_kind_is_a_violation() {
    let mut rig = Rig::server(V5);
    rig.queue_qos(Qos::AtLeastOnce);
    rig.queue_qos(Qos::ExactlyOnce);
    rig.sent();
    for wrong in [
        pub_rec(1, PubRecReason::Success),
        pub_comp(1),
        pub_ack(2, PubAckReason::Success),
        pub_comp(2),
    ] {
        assert_eq!(
            rig.receive(&wrong),
            Err(Violation::AckOfWrongKind),
            "{wrong:?}"
        );
    }
    rig.receive(&pub_rec(2, PubRecReason::Success)).unwrap();
    let wrong = pub_ack(2, PubAckReason::Success);
    assert_eq!(rig.receive(&wrong), Err(Violation::AckOfWrongKind));
    assert_eq!(
        rig.receive(&pub_rec(2, PubRecReason::Success)),
        Ok(Seen::None)
    );
    assert_eq!(rig.sent_briefly(), ["PUBREL 2 00"; 2]);
}

/// [MQTT-3.1.2-24]
#[test]
fn subscription_identifiers_count_for_the_size_of_a_publish() {
    let ids: Vec<_> = (0..100)
        .map(|n| SubscriptionId::new(200_000_000 + n).unwrap())
        .collect();
    let mut sent = 0;
    for size_max in 50..700 {
        let connect = Connect {
            maximum_packet_size: NonZeroU32::new(size_max),
            ..connect(V5)
        };
        let mut rig = Rig::server_with(&connect, &ConnAck::default());
        let outbound = Outbound::new(message("t", b"x", None), Qos::AtMostOnce);
        let pushed = rig.session.enqueue(outbound, &ids, |_| {});
        assert!(matches!(pushed, Pushed::Stored));
        let _ = rig.transmit();
        assert!(rig.out.len() <= size_max as usize, "within {size_max}");
        sent += usize::from(!rig.out.is_empty());
    }
    assert!(sent > 100, "those with room for it are sent");
}

/// Case G13. [MQTT-3.3.4-9] [MQTT-3.3.4-10] [MQTT-4.9.0-2] [MQTT-4.9.0-3]
#[test]
fn the_peers_receive_maximum_holds_back_publishes_and_nothing_else() {
    let connect = Connect {
        receive_maximum: ReceiveMaximum::new(2).unwrap(),
        ..connect(V5)
    };
    let mut rig = Rig::server_with(&connect, &ConnAck::default());
    for _ in 0..3 {
        rig.queue_qos(Qos::ExactlyOnce);
    }
    assert_eq!(rig.sent_briefly(), ["PUBLISH t 1", "PUBLISH t 2"]);
    rig.receive(&pub_rec(1, PubRecReason::Success)).unwrap();
    rig.receive(&Packet::PingReq).unwrap();
    accept(&mut rig, &qos1(1));
    assert_eq!(
        rig.sent_briefly(),
        ["PUBREL 1 00", "PUBACK 1 00", "PINGRESP"]
    );
    rig.receive(&pub_comp(1)).unwrap();
    assert_eq!(rig.sent_briefly(), ["PUBLISH t 3"]);
    rig.receive(&pub_rec(2, PubRecReason::QuotaExceeded))
        .unwrap();
    rig.queue_qos(Qos::AtLeastOnce);
    assert_eq!(rig.sent_briefly(), ["PUBLISH t 4"]);
}

// Resuming.

/// Case G3. [MQTT-4.4.0-1] [MQTT-3.3.1-1] [MQTT-4.3.3-6] [MQTT-4.6.0-1] [MQTT311-4.4.0-1]
#[test]
fn a_resume_repeats_what_is_open_under_its_ids_and_in_its_order() {
    for version in VERSIONS {
        let connect = connect(version);
        for mut rig in [Rig::server(version), Rig::client(version)] {
            for qos in [
                Qos::AtLeastOnce,
                Qos::ExactlyOnce,
                Qos::ExactlyOnce,
                Qos::AtLeastOnce,
            ] {
                rig.queue_qos(qos);
            }
            rig.sent();
            rig.receive(&pub_rec(2, PubRecReason::Success)).unwrap();
            rig.receive(&pub_ack(4, PubAckReason::Success)).unwrap();
            for _ in 0..3 {
                rig = rig.reconnected(&connect);
                rig.queue_qos(Qos::AtMostOnce);
                let sent = rig.sent_briefly();
                let sent = sent
                    .strip_prefix(&["CONNACK 00".to_owned()])
                    .unwrap_or(&sent);
                assert_eq!(
                    sent,
                    [
                        "PUBLISH t 1 dup",
                        "PUBREL 2 00",
                        "PUBLISH t 3 dup",
                        "PUBLISH t 0"
                    ]
                );
            }
            // New exchanges take ids that none of the old ones has.
            rig.queue_qos(Qos::AtLeastOnce);
            let sent = rig.sent_briefly();
            assert!(!["PUBLISH t 1", "PUBLISH t 2", "PUBLISH t 3"].contains(&sent[0].as_str()));
        }
    }
}

/// Case G13.
#[test]
fn a_resume_keeps_the_receive_maximum_of_the_new_connection() {
    let mut rig = Rig::server(V5);
    for _ in 0..3 {
        rig.queue_qos(Qos::AtLeastOnce);
    }
    rig.sent();
    let narrow = Connect {
        receive_maximum: ReceiveMaximum::new(1).unwrap(),
        ..connect(V5)
    };
    let mut rig = rig.reconnected(&narrow);
    assert_eq!(rig.sent_briefly(), ["CONNACK 00", "PUBLISH t 1 dup"]);
    for number in 1..3 {
        rig.receive(&pub_ack(number, PubAckReason::Success))
            .unwrap();
        assert_eq!(
            rig.sent_briefly(),
            [format!("PUBLISH t {} dup", number + 1)]
        );
    }
}

#[test]
fn an_acknowledgement_that_comes_before_the_repeat_saves_the_repeat() {
    let mut rig = Rig::server(V5);
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce, Qos::ExactlyOnce] {
        rig.queue_qos(qos);
    }
    rig.sent();
    let mut rig = rig.reconnected(&connect(V5));
    rig.receive(&pub_ack(1, PubAckReason::Success)).unwrap();
    let gate = Gate::Until(LogSeq(1));
    rig.receive_gated(&pub_rec(2, PubRecReason::Success), gate)
        .unwrap();
    assert_eq!(rig.sent_briefly(), ["CONNACK 00", "PUBLISH t 3 dup"]);
    rig.committed = LogSeq(1);
    assert_eq!(rig.sent_briefly(), ["PUBREL 2 00"]);
    rig.receive(&pub_comp(2)).unwrap();
    rig.receive(&pub_rec(3, PubRecReason::Success)).unwrap();
    rig.receive(&pub_comp(3)).unwrap();
    assert_eq!(rig.connection.unacknowledged(), 0);
}

#[test]
fn nothing_precedes_the_connack_of_a_resume_that_waits_for_a_commit() {
    let mut rig = Rig::server(V5);
    rig.queue_qos(Qos::AtLeastOnce);
    rig.sent();
    let conn_ack = ConnAck {
        session_present: true,
        ..ConnAck::default()
    };
    let mut rig = Rig::accept(&connect(V5), &conn_ack, rig.session, Gate::Until(LogSeq(3)));
    rig.receive(&Packet::PingReq).unwrap();
    accept(&mut rig, &qos1(1));
    assert_eq!(rig.sent(), []);
    rig.committed = LogSeq(3);
    assert_eq!(
        rig.sent_briefly(),
        ["CONNACK 00", "PUBACK 1 00", "PINGRESP", "PUBLISH t 1 dup"]
    );
}

#[test]
fn packets_of_the_other_direction_are_violations() {
    let both = [PacketRef::PingReq, PacketRef::PingResp];
    for (rig, wrong) in [Rig::client(V5), Rig::server(V5)].iter_mut().zip(both) {
        assert_eq!(
            rig.handle(wrong, Gate::Open),
            Err(Violation::WrongDirection)
        );
    }
    let conn_ack = || PacketRef::ConnAck(Box::default());
    let connect = || PacketRef::Connect(Box::default());
    let handle = |mut rig: Rig, packet| rig.handle(packet, Gate::Open).unwrap_err();
    assert_eq!(
        handle(Rig::server(V5), connect()),
        Violation::ConnectRepeated
    );
    assert_eq!(
        handle(Rig::client(V5), connect()),
        Violation::WrongDirection
    );
    assert_eq!(
        handle(Rig::server(V5), conn_ack()),
        Violation::WrongDirection
    );
    assert_eq!(
        handle(Rig::client(V5), conn_ack()),
        Violation::ConnAckRepeated
    );
}
