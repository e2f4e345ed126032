//! What the two ends announced, and what is kept of it: aliases, packet sizes, expiry, problem information.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "helpers of tests: what is not as expected is a failed test"
)]

mod rig;

use std::num::NonZeroU32;
use std::time::Duration;

use paloma_codec::{
    Ack, ConnAck, Connect, Delivery, Packet, ProtocolVersion, PubAckReason, PubRecReason,
    PubRelReason, Publish, PublishTopic, Qos, SubAck, SubAckReason, SubscriptionId, TopicAlias,
    UnsubAck, UnsubAckReason, UserProperties,
};
use paloma_session::{
    DropCause, Gate, Outbound, Pushed, QueueLimits, Session, TransmitStatus, Violation,
};
use paloma_topic::TopicName;
use rig::{Rig, Seen, connect, id, message, publish, qos1, qos2, start};

use ProtocolVersion::{V3_1_1, V5};

fn alias(value: u16) -> TopicAlias {
    TopicAlias::new(value).unwrap()
}

fn aliased(topic: PublishTopic<TopicName>) -> Packet {
    let packet = Publish::new(TopicName::new("unused").unwrap(), "x".into());
    Packet::Publish(Box::new(Publish { topic, ..packet }))
}

fn define(topic: &str, number: u16) -> Packet {
    let name = TopicName::new(topic).unwrap();
    aliased(PublishTopic::Define {
        name,
        alias: alias(number),
    })
}

fn by_alias(number: u16) -> Packet {
    aliased(PublishTopic::Alias(alias(number)))
}

/// A server whose client takes packets up to this size.
fn narrow(packet_bytes_max: u32) -> Rig {
    let maximum_packet_size = NonZeroU32::new(packet_bytes_max);
    Rig::server_with(
        &Connect {
            maximum_packet_size,
            ..connect(V5)
        },
        &ConnAck::default(),
    )
}

fn dropped(rig: &Rig) -> Vec<DropCause> {
    rig.out
        .dropped()
        .iter()
        .map(|dropped| dropped.cause)
        .collect()
}

// Inbound aliases.

/// [MQTT-3.3.2-12] [MQTT-3.3.2-10]
#[test]
fn every_alias_up_to_the_announced_maximum_is_accepted_in_both_roles() {
    let conn_ack = ConnAck {
        topic_alias_maximum: 3,
        ..ConnAck::default()
    };
    let connect = Connect {
        topic_alias_maximum: 3,
        ..connect(V5)
    };
    for mut rig in [
        Rig::server_with(&connect, &conn_ack),
        Rig::client_with(&connect, &conn_ack),
    ] {
        for number in 1..=3 {
            let topic = format!("topic/{number}");
            assert_eq!(rig.receive(&define(&topic, number)).unwrap().topic(), topic);
            assert_eq!(rig.receive(&by_alias(number)).unwrap().topic(), topic);
        }
        rig.receive(&define("other", 2)).unwrap();
        assert_eq!(rig.receive(&by_alias(2)).unwrap().topic(), "other");
        assert_eq!(rig.receive(&define("t", 4)), Err(Violation::AliasTooLarge));
    }
}

/// Case B10.
#[test]
fn an_alias_that_was_not_announced_or_not_defined_is_a_violation() {
    let mut rig = Rig::server(V5);
    let violation = rig.receive(&define("t", 1)).unwrap_err();
    assert_eq!(
        (violation, violation.reason().code()),
        (Violation::AliasTooLarge, 0x94)
    );
    let conn_ack = ConnAck {
        topic_alias_maximum: 1,
        ..ConnAck::default()
    };
    let mut rig = Rig::server_with(&connect(V5), &conn_ack);
    let violation = rig.receive(&by_alias(1)).unwrap_err();
    assert_eq!(
        (violation, violation.reason().code()),
        (Violation::AliasUnknown, 0x82)
    );
}

/// Case B10.
#[test]
fn aliased_topics_are_bounded_by_bytes() {
    let conn_ack = ConnAck {
        topic_alias_maximum: u16::MAX,
        ..ConnAck::default()
    };
    let mut rig = Rig::server_with(&connect(V5), &conn_ack);
    let long = "x".repeat(4_096);
    for number in 1..=16 {
        rig.receive(&define(&long, number)).unwrap();
    }
    assert_eq!(
        rig.receive(&define("t", 17)),
        Err(Violation::AliasBytesExceeded)
    );
}

/// Case B10. [MQTT-3.3.2-7]
#[test]
fn aliases_end_with_their_connection() {
    let mut rig = Rig::server_with(
        &Connect {
            topic_alias_maximum: 1,
            ..connect(V5)
        },
        &ConnAck {
            topic_alias_maximum: 1,
            ..ConnAck::default()
        },
    );
    rig.receive(&define("t", 1)).unwrap();
    rig.queue(Outbound::new(
        message("long/topic", b"", None),
        Qos::AtLeastOnce,
    ));
    assert_eq!(rig.sent_briefly(), ["PUBLISH long/topic=1 1"]);
    let mut rig = rig.reconnected(&connect(V5));
    assert_eq!(rig.receive(&by_alias(1)), Err(Violation::AliasTooLarge));
    assert_eq!(
        rig.sent_briefly(),
        ["CONNACK 00", "PUBLISH long/topic 1 dup"]
    );
}

// Outbound aliases.

/// [MQTT-3.1.2-26] [MQTT-3.1.2-27] [MQTT-3.2.2-17] [MQTT-3.2.2-18] [MQTT-3.3.2-9] [MQTT-3.3.2-11]
#[test]
fn aliases_up_to_the_peers_maximum_are_used_and_none_without() {
    for (maximum, expected) in [
        (0, ["PUBLISH a 0", "PUBLISH a 0", "PUBLISH b 0"]),
        (1, ["PUBLISH a=1 0", "PUBLISH =1 0", "PUBLISH b 0"]),
        (2, ["PUBLISH a=1 0", "PUBLISH =1 0", "PUBLISH b=2 0"]),
    ] {
        let connect = Connect {
            topic_alias_maximum: maximum,
            ..connect(V5)
        };
        let conn_ack = ConnAck {
            topic_alias_maximum: maximum,
            ..ConnAck::default()
        };
        for mut rig in [
            Rig::server_with(&connect, &ConnAck::default()),
            Rig::client_with(&rig::connect(V5), &conn_ack),
        ] {
            for topic in ["a", "a", "b"] {
                rig.queue(Outbound::new(message(topic, b"", None), Qos::AtMostOnce));
            }
            assert_eq!(rig.sent_briefly(), expected);
        }
    }
}

/// Decision 5: an alias is registered only if its PUBLISH goes out, and the size is that of the final form.
#[test]
fn an_alias_definition_that_does_not_fit_is_sent_as_a_name_or_not_at_all() {
    let connect = Connect {
        topic_alias_maximum: 1,
        maximum_packet_size: NonZeroU32::new(20),
        ..connect(V5)
    };
    let mut rig = Rig::server_with(&connect, &ConnAck::default());
    // 2 + 2 + 5 + 1 bytes and the payload; a definition is 3 more.
    for payload in [11, 10, 7, 10] {
        let message = message("topic", &vec![0; payload], None);
        rig.queue(Outbound::new(message, Qos::AtMostOnce));
    }
    assert_eq!(
        rig.sent_briefly(),
        ["PUBLISH topic 0", "PUBLISH topic=1 0", "PUBLISH =1 0"]
    );
    assert_eq!(dropped(&rig), [DropCause::TooLarge]);
}

// Packet size.

/// Case G12. [MQTT-3.1.2-24] [MQTT-3.1.2-25]
#[test]
fn a_message_too_large_for_its_receiver_is_dropped_and_takes_no_room() {
    let mut rig = narrow(30);
    for qos in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
        rig.queue(Outbound::new(message("t", &[0; 40], None), qos));
    }
    rig.queue_qos(Qos::AtLeastOnce);
    let sent = rig.sent_briefly();
    assert_eq!(sent.len(), 1, "the small one alone: {sent:?}");
    assert_eq!(dropped(&rig), [DropCause::TooLarge; 3]);
    assert_eq!(rig.session.window().len(), 1);
    assert_eq!(rig.connection.unacknowledged(), 1);
}

#[test]
fn a_repeat_too_large_for_the_new_connection_ends_its_exchange() {
    let mut rig = Rig::server(V5);
    rig.queue(Outbound::new(
        message("t", &[0; 40], None),
        Qos::AtLeastOnce,
    ));
    rig.queue_qos(Qos::AtLeastOnce);
    rig.sent();
    let maximum_packet_size = NonZeroU32::new(30);
    let mut rig = rig.reconnected(&Connect {
        maximum_packet_size,
        ..connect(V5)
    });
    assert_eq!(rig.sent_briefly(), ["CONNACK 00", "PUBLISH t 2 dup"]);
    assert_eq!(dropped(&rig), [DropCause::TooLarge]);
    assert_eq!(rig.session.window().len(), 1);
}

/// [MQTT-3.9.2-1] [MQTT-3.9.2-2] [MQTT-3.11.2-1]
#[test]
fn every_packet_keeps_within_the_peers_maximum_packet_size() {
    let mut rig = narrow(8);
    let text = Some("a reason in many words".into());
    let reasons = vec![SubAckReason::GrantedQos0];
    let ack = SubAck {
        reason_string: text.clone(),
        ..SubAck::new(id(1), reasons)
    };
    rig.connection.answer_subscribe(ack, Gate::Open);
    let reasons = vec![UnsubAckReason::Success];
    let ack = UnsubAck {
        reason_string: text,
        ..UnsubAck::new(id(2), reasons)
    };
    rig.connection.answer_unsubscribe(ack, Gate::Open);
    let many = SubAck::new(id(3), vec![SubAckReason::GrantedQos0; 9]);
    rig.connection.answer_subscribe(many, Gate::Open);
    assert_eq!(rig.sent_briefly(), ["SUBACK 1", "UNSUBACK 2"]);
    assert!(rig.out.len() <= 16);
}

#[test]
fn a_peer_that_takes_four_bytes_gets_no_reason_codes() {
    let mut rig = narrow(4);
    // Not even its CONNACK fits. [MQTT-3.1.2-24]
    assert_eq!(rig.transmit(), TransmitStatus::Close);
    assert!(rig.out.is_empty());
    let maximum_packet_size = NonZeroU32::new(4);
    let conn_ack = ConnAck {
        maximum_packet_size,
        ..ConnAck::default()
    };
    let mut rig = Rig::client_with(&connect(V5), &conn_ack);
    for packet in [
        Packet::PubRel(Ack::new(id(1), PubRelReason::Success)),
        Packet::PubRec(Ack::new(id(2), PubRecReason::Success)),
    ] {
        rig.receive(&packet).unwrap();
    }
    let receipt = rig.receive(&qos1(3)).unwrap().receipt();
    rig.acknowledge(receipt, PubAckReason::Success, Gate::Open);
    assert_eq!(rig.sent_briefly(), ["PUBACK 3 00"]);
}

// Problem information.

/// [MQTT-3.1.2-29]
#[test]
fn problem_information_is_withheld_from_a_client_that_does_not_ask_for_it() {
    for (request_problem_information, expected) in [(false, false), (true, true)] {
        let connect = Connect {
            request_problem_information,
            ..connect(V5)
        };
        let mut rig = Rig::server_with(&connect, &ConnAck::default());
        let mut user_properties = UserProperties::new();
        user_properties.push("name", "value").unwrap();
        let ack = SubAck {
            reason_string: Some("why".into()),
            user_properties: user_properties.clone(),
            ..SubAck::new(id(1), vec![SubAckReason::GrantedQos0])
        };
        rig.connection.answer_subscribe(ack, Gate::Open);
        let ack = UnsubAck {
            reason_string: Some("why".into()),
            user_properties,
            ..UnsubAck::new(id(1), vec![UnsubAckReason::Success])
        };
        rig.connection.answer_unsubscribe(ack, Gate::Open);
        let told = |packet: &Packet| match packet {
            Packet::SubAck(ack) => ack.reason_string.is_some() && !ack.user_properties.is_empty(),
            Packet::UnsubAck(ack) => ack.reason_string.is_some() && !ack.user_properties.is_empty(),
            other => panic!("an answer, not {other:?}"),
        };
        let sent: Vec<bool> = rig.sent().iter().map(told).collect();
        assert_eq!(sent, [expected; 2]);
    }
}

// Expiry.

fn expiry_of(packet: &Packet) -> Option<u32> {
    match packet {
        Packet::Publish(publish) => publish.properties.message_expiry_seconds,
        other => panic!("a PUBLISH, not {other:?}"),
    }
}

/// Case G11. [MQTT-3.3.2-6] [MQTT-3.3.2-5]
#[test]
fn expiry_counts_down_while_a_message_waits_and_ends_it() {
    for (millis, expected) in [
        (0, Some(10)),
        (999, Some(10)),
        (1_000, Some(9)),
        (9_999, Some(1)),
        (10_000, None),
        (100_000, None),
    ] {
        let mut rig = Rig::server(V5);
        for qos in [Qos::AtMostOnce, Qos::AtLeastOnce] {
            rig.queue(Outbound::new(message("t", b"x", Some(10)), qos));
        }
        rig.now = start().saturating_add(Duration::from_millis(millis));
        let sent = rig.sent();
        match expected {
            Some(seconds) => {
                assert_eq!(
                    sent.iter().filter_map(expiry_of).collect::<Vec<_>>(),
                    [seconds; 2]
                );
            }
            None => {
                assert_eq!(sent, []);
                assert_eq!(dropped(&rig), [DropCause::Expired; 2]);
                assert!(rig.session.is_empty());
            }
        }
    }
}

#[test]
fn an_expired_message_does_not_reach_a_3_1_1_client_either() {
    let mut rig = Rig::server(V3_1_1);
    rig.queue(Outbound::new(message("t", b"x", Some(10)), Qos::AtMostOnce));
    rig.now = start().saturating_add(Duration::from_secs(10));
    assert_eq!(rig.sent(), []);
    assert_eq!(dropped(&rig), [DropCause::Expired]);
}

/// [MQTT-4.3.3-7] [MQTT-4.3.3-13]
#[test]
fn a_delivery_that_was_begun_goes_on_after_its_expiry() {
    let mut rig = Rig::server(V5);
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
        rig.queue(Outbound::new(message("t", b"x", Some(10)), qos));
    }
    rig.sent();
    let mut rig = rig.reconnected(&connect(V5));
    rig.now = start().saturating_add(Duration::from_secs(3_600));
    assert_eq!(
        rig.sent_briefly(),
        ["CONNACK 00", "PUBLISH t 1 dup", "PUBLISH t 2 dup"]
    );
}

// What the server can do.

/// [MQTT-3.2.2-11] [MQTT-3.2.2-14]
#[test]
fn a_client_sends_nothing_that_the_server_announced_not_to_take() {
    let conn_ack = ConnAck {
        maximum_qos: Qos::AtLeastOnce,
        retain_available: false,
        ..ConnAck::default()
    };
    let mut rig = Rig::client_with(&connect(V5), &conn_ack);
    rig.queue_qos(Qos::ExactlyOnce);
    rig.queue(Outbound::new(message("t", b"x", None), Qos::AtMostOnce).with_retain(true));
    rig.queue_qos(Qos::AtLeastOnce);
    assert_eq!(rig.sent().len(), 1);
    assert_eq!(dropped(&rig), [DropCause::NotSupported; 2]);
}

#[test]
fn a_client_that_sends_what_was_announced_as_not_supported_is_a_violation() {
    let conn_ack = ConnAck {
        maximum_qos: Qos::AtLeastOnce,
        retain_available: false,
        ..ConnAck::default()
    };
    let mut rig = Rig::server_with(&connect(V5), &conn_ack);
    assert_eq!(rig.receive(&qos2(1)), Err(Violation::QosNotSupported));
    let topic = TopicName::new("t").unwrap();
    let retained = Publish {
        retain: true,
        ..Publish::new(topic, "x".into())
    };
    let retained = Packet::Publish(Box::new(retained));
    assert_eq!(rig.receive(&retained), Err(Violation::RetainNotSupported));
    rig.receive(&qos1(1)).unwrap();
}

// Subscription identifiers.

fn subscription_ids(packet: &Packet) -> Vec<u32> {
    match packet {
        Packet::Publish(publish) => publish
            .properties
            .subscription_ids
            .iter()
            .map(|id| id.get())
            .collect(),
        other => panic!("a PUBLISH, not {other:?}"),
    }
}

/// [MQTT-3.3.4-3] [MQTT-3.3.4-4]
#[test]
fn a_delivery_carries_the_identifiers_of_all_its_subscriptions_also_when_repeated() {
    let mut rig = Rig::server(V5);
    let lists: [&[u32]; 5] = [&[], &[268_435_455], &[1, 2, 3], &[], &[4, 5]];
    for list in lists {
        let ids: Vec<_> = list
            .iter()
            .map(|id| SubscriptionId::new(*id).unwrap())
            .collect();
        let outbound = Outbound::new(message("t", b"x", None), Qos::AtLeastOnce);
        assert!(matches!(
            rig.session.enqueue(outbound, &ids, |_| {}),
            Pushed::Stored
        ));
    }
    let sent = rig.sent();
    assert_eq!(sent.iter().map(subscription_ids).collect::<Vec<_>>(), lists);
    let mut rig = rig.reconnected(&connect(V5));
    let repeated = rig.sent().split_off(1);
    assert_eq!(
        repeated.iter().map(subscription_ids).collect::<Vec<_>>(),
        lists
    );
    for number in 1..=5 {
        let ack = Packet::PubAck(Ack::new(id(number), PubAckReason::Success));
        rig.receive(&ack).unwrap();
    }
    assert!(rig.session.is_empty());
}

/// [MQTT-3.3.4-6]
#[test]
fn a_client_sends_no_subscription_identifiers() {
    let mut rig = Rig::client(V5);
    let outbound = Outbound::new(message("t", b"x", None), Qos::AtMostOnce);
    let ids = [SubscriptionId::new(1).unwrap()];
    assert!(matches!(
        rig.session.enqueue(outbound, &ids, |_| {}),
        Pushed::Stored
    ));
    assert_eq!(
        rig.sent().iter().map(subscription_ids).collect::<Vec<_>>(),
        [[0; 0]]
    );
}

// Large payloads.

#[test]
fn a_large_payload_goes_by_reference_between_the_packets_around_it() {
    let mut rig = Rig::server(V5);
    let large = message("t", &[7; 10_000], None);
    rig.queue_qos(Qos::AtMostOnce);
    rig.queue(Outbound::new(large.clone(), Qos::AtMostOnce));
    rig.queue_qos(Qos::AtMostOnce);
    assert_eq!(rig.sent().len(), 3);
    let [(_, sent)] = rig.out.large() else {
        panic!("one large payload");
    };
    assert!(sent.is_same(&large), "no payload is copied");
    assert!(rig.out.bytes().len() < 100);
    assert_eq!(
        rig.out.pieces().map(<[u8]>::len).sum::<usize>(),
        rig.out.len()
    );
}

#[test]
fn a_session_without_any_connection_keeps_its_queue_in_bounds() {
    let limits = QueueLimits {
        count_max: 2,
        ..QueueLimits::default()
    };
    let mut session = Session::new(limits);
    let mut shed = Vec::new();
    for (topic, qos) in [
        ("a", Qos::AtMostOnce),
        ("b", Qos::AtLeastOnce),
        ("c", Qos::AtLeastOnce),
    ] {
        let outbound = Outbound::new(message(topic, b"x", None), qos);
        let _ = session.enqueue(outbound, &[], |victim| {
            shed.push(victim.message().topic().as_str().to_owned());
        });
    }
    assert_eq!(shed, ["a"]);
    assert_eq!(session.queue().len(), 2);
}

#[test]
fn a_publish_without_alias_names_its_topic() {
    let mut rig = Rig::server(V5);
    let seen = rig
        .receive(&publish("plain", Delivery::AtMostOnce))
        .unwrap();
    assert!(matches!(&seen, Seen::Publish { receipt: None, .. }));
    assert_eq!(seen.topic(), "plain");
}
