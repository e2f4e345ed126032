//! The short ways of the most frequent packets: each does what the long one would, or nothing.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests: what is not as expected is a failed test"
)]

mod rig;

use std::num::NonZeroU32;

use paloma_codec::{
    Ack, ConnAck, Connect, Packet, PacketRef, ProtocolVersion, PubAck, PubAckReason, PubCompReason,
    PubRecReason, PubRelReason, Qos, ReceiveMaximum, SHORT_PACKET_LEN_MAX, SubscriptionId,
};
use paloma_session::{
    Counts, Gate, LogSeq, Outbound, Pushed, Receipt, Sent, Step, Transmit, TransmitStatus,
};
use rig::{Rig, Seen, connect, id, message, qos1, qos2};

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

/// Takes a PUBLISH at QoS 2 in without an event; `None` if that is not its way.
fn take_qos2(rig: &mut Rig, number: u16) -> Option<Receipt> {
    let mut bytes = Vec::new();
    let version = rig.connection.version();
    qos2(number).encode(version, &mut bytes).unwrap();
    let mut decoder = rig.input.clone();
    let Some((PacketRef::Publish(publish), _)) = decoder.decode(&bytes).unwrap() else {
        panic!("not a PUBLISH");
    };
    let taken = rig
        .connection
        .handle_plain_exactly_once(rig.now, &mut rig.session, &publish);
    taken.map(|(_, receipt)| receipt)
}

/// Takes a step of an exchange in without an event, and says in a word which.
fn take_step(rig: &mut Rig, packet: PacketRef<'_>) -> &'static str {
    let step = rig
        .connection
        .handle_plain_step(rig.now, &mut rig.session, &packet);
    match step {
        None => "other",
        Some(Step::Received(outbound)) => {
            assert_eq!(outbound.qos(), Qos::ExactlyOnce);
            "received"
        }
        Some(Step::Released) => "released",
        Some(Step::Completed) => "completed",
    }
}

fn pub_rec(number: u16, reason: PubRecReason) -> PacketRef<'static> {
    PacketRef::PubRec(Ack::new(id(number), reason))
}

fn pub_rel(number: u16) -> PacketRef<'static> {
    PacketRef::PubRel(Ack::new(id(number), PubRelReason::Success))
}

fn pub_comp(number: u16) -> PacketRef<'static> {
    PacketRef::PubComp(Ack::new(id(number), PubCompReason::Success))
}

/// [MQTT-4.3.3-8] [MQTT-4.3.3-10] [MQTT-4.3.3-11]
#[test]
fn an_exchange_of_the_peers_is_taken_in_once_and_closed() {
    for version in [V3_1_1, V5] {
        let mut rig = Rig::server(version);
        let receipt = take_qos2(&mut rig, 7).unwrap();
        assert!(rig.connection.acknowledge_next(receipt).is_ok());
        assert!(take_qos2(&mut rig, 7).is_none(), "it comes again");
        assert_eq!(rig.receive(&qos2(7)), Ok(Seen::None));
        assert_eq!(rig.sent_briefly(), ["PUBREC 7 00", "PUBREC 7 00"]);
        assert_eq!(take_step(&mut rig, pub_rel(7)), "released");
        assert_eq!(take_step(&mut rig, pub_rel(7)), "other", "it is unknown");
        assert_eq!(rig.sent_briefly(), ["PUBCOMP 7 00"]);
        assert_eq!(rig.connection.open_inbound(), 0);
        assert!(take_qos2(&mut rig, 7).is_some(), "the id is free");
    }
}

/// [MQTT-4.3.3-4] [MQTT-4.3.3-5]
#[test]
fn an_exchange_of_ours_is_released_and_completed() {
    for version in [V3_1_1, V5] {
        let mut rig = Rig::server(version);
        rig.queue_qos(Qos::ExactlyOnce);
        assert_eq!(rig.sent_briefly(), ["PUBLISH t 1"]);
        assert_eq!(take_step(&mut rig, pub_comp(1)), "other", "too early");
        let received = pub_rec(1, PubRecReason::Success);
        assert_eq!(take_step(&mut rig, received.clone()), "received");
        assert_eq!(take_step(&mut rig, received), "other", "PUBREL was lost");
        assert_eq!(rig.sent_briefly(), ["PUBREL 1 00"]);
        assert_eq!(rig.connection.unacknowledged(), 1);
        assert_eq!(take_step(&mut rig, pub_comp(1)), "completed");
        assert_eq!(rig.connection.unacknowledged(), 0);
        assert!(rig.session.is_empty());
    }
}

#[test]
fn steps_that_mean_more_are_left_to_the_long_way() {
    let mut rig = Rig::server(V5);
    rig.queue_qos(Qos::ExactlyOnce);
    rig.queue_qos(Qos::AtLeastOnce);
    assert_eq!(rig.sent_briefly(), ["PUBLISH t 1", "PUBLISH t 2"]);
    let refused = pub_rec(1, PubRecReason::QuotaExceeded);
    assert_eq!(take_step(&mut rig, refused), "other");
    let wrong = pub_rec(2, PubRecReason::Success);
    assert_eq!(take_step(&mut rig, wrong), "other", "QoS 1");
    let unknown = pub_rec(3, PubRecReason::Success);
    assert_eq!(take_step(&mut rig, unknown), "other");
    assert_eq!(rig.session.window().len(), 2, "nothing was done");
    assert_eq!(rig.sent(), []);
    // What an earlier connection left open is no part of the quota, until it is repeated.
    let receipt = take_qos2(&mut rig, 9).unwrap();
    assert!(rig.connection.acknowledge_next(receipt).is_ok());
    rig.sent();
    let mut rig = rig.reconnected(&connect(V5));
    rig.sent();
    assert_eq!(take_step(&mut rig, pub_rel(9)), "other");
    assert!(take_qos2(&mut rig, 10).is_none());
}

/// What was written over all calls, and the accounts of it.
#[derive(Debug, PartialEq, Eq)]
struct Written {
    bytes: Vec<u8>,
    sent: Vec<Sent>,
    counts: Counts,
    dropped: usize,
    left: (usize, u64),
}

/// Deliveries of all kinds, plain and short ones among them in runs of several lengths.
fn deliveries() -> Vec<(Outbound, Option<SubscriptionId>)> {
    let mut all = Vec::new();
    for (number, len) in [0, 1, 64, 120, 121, 122, 123, 124, 125, 400]
        .into_iter()
        .enumerate()
    {
        let payload = vec![b'p'; len];
        let of = |topic, expiry| message(topic, &payload, expiry);
        let plain = || Outbound::new(of("t", None), Qos::AtMostOnce);
        all.extend((0..number).map(|_| (plain(), None)));
        all.push((plain().with_retain(true), None));
        all.push((plain(), None));
        all.push((plain(), SubscriptionId::new(7)));
        all.push((Outbound::new(of("t", Some(60)), Qos::AtMostOnce), None));
        all.push((Outbound::new(of("t", Some(0)), Qos::AtMostOnce), None));
        all.push((
            Outbound::new(of("longer/topic", None), Qos::AtMostOnce),
            None,
        ));
        all.push((Outbound::new(of("t", None), Qos::AtLeastOnce), None));
        all.push((plain(), None));
        all.push((Outbound::new(of("t", None), Qos::ExactlyOnce), None));
    }
    all
}

fn written(connect: &Connect, (budget_bytes, large_bytes_min): (usize, usize)) -> Written {
    let mut rig = Rig::server_with(connect, &ConnAck::default());
    rig.out = Transmit::new(budget_bytes, large_bytes_min);
    for (outbound, id) in deliveries() {
        let pushed = rig.session.enqueue(outbound, id.as_slice(), |_| {});
        assert!(matches!(pushed, Pushed::Stored));
    }
    let (mut bytes, mut sent, mut dropped) = (Vec::new(), Vec::new(), 0);
    loop {
        let status = rig.transmit();
        bytes.extend(rig.out.pieces().flatten().copied());
        sent.push(rig.out.sent());
        dropped += rig.out.dropped().len();
        if status != TransmitStatus::Full {
            break;
        }
    }
    let queue = rig.session.queue();
    Written {
        bytes,
        sent,
        counts: rig.out.take_counts(),
        dropped,
        left: (queue.len(), queue.bytes()),
    }
}

/// [MQTT-3.1.2-24] [MQTT-4.6.0-6]
#[test]
fn short_packets_are_written_and_counted_as_any_others() {
    for version in [V3_1_1, V5] {
        let plain = connect(version);
        let peers = [
            plain.clone(),
            Connect {
                maximum_packet_size: NonZeroU32::new(100),
                ..plain.clone()
            },
            Connect {
                topic_alias_maximum: 1,
                ..plain
            },
        ];
        for (peer, budget_bytes) in peers
            .iter()
            .flat_map(|peer| [(peer, 1), (peer, 300), (peer, usize::MAX)])
        {
            // Where a short packet could have a payload that goes by reference, none takes the short way.
            let long = written(peer, (budget_bytes, SHORT_PACKET_LEN_MAX));
            let short = written(peer, (budget_bytes, SHORT_PACKET_LEN_MAX + 1));
            assert_eq!(short, long, "{peer:?} {budget_bytes}");
            assert!(short.counts.publishes > 20 && short.dropped >= 10);
        }
    }
}
