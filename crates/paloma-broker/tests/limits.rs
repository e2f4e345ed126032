//! Limits: at each of them all is well, one above it is refused as the table of limits says.

mod support;

use std::net::IpAddr;

use paloma_broker::{ConnectionId, ConnectionInfo, Refusal};
use paloma_codec::{
    ConnAckReason, DisconnectReason, Packet, ProtocolVersion, PublishTopic, Qos, SubAckReason,
    Subscribe, SubscribeFilter, SubscribeOptions, TopicAlias,
};
use support::{World, id, message, publish_packet, target, v3, v5};

#[test]
fn connections_are_bounded_and_their_places_used_again() {
    let mut world = World::with(|config| config.limits.connections_max = 2);
    let (first, _) = (world.client("a"), world.client("b"));
    assert!(world.try_open(ProtocolVersion::V5).is_none());
    let refused = world.broker.open(world.now, ConnectionInfo::default());
    assert_eq!(refused, Err(Refusal::TooManyConnections));
    world.cut(first);
    world.client("c");
}

#[test]
fn connections_have_small_numbers_which_no_two_have_at_a_time() {
    let mut world = World::new();
    let clients: Vec<_> = (0..4).map(|n| world.client(&n.to_string())).collect();
    let index = |world: &World, client| world.connection(client).index();
    let mut numbers: Vec<_> = clients.iter().map(|one| index(&world, *one)).collect();
    let given_up = numbers[2];
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2, 3]);
    world.cut(clients[2]);
    let next = world.client("next");
    assert_eq!(index(&world, next), given_up);
    assert_ne!(world.connection(next), world.connection(clients[2]));
    // As numbers for a record, which come back as they were.
    for client in [clients[0], clients[2], next] {
        let id = world.connection(client);
        assert_eq!(ConnectionId::from_bits(id.to_bits()), id);
    }
}

#[test]
fn new_connections_are_bounded_by_address_and_in_all() {
    let mut world = World::with(|config| {
        config.limits.connections_per_second_max = 3;
        config.limits.connections_per_second_per_address_max = 2;
    });
    let mut open = |last: u8| {
        let info = ConnectionInfo {
            address: Some(IpAddr::from([192, 0, 2, last])),
            ..ConnectionInfo::default()
        };
        world.broker.open(world.now, info).err()
    };
    assert_eq!([open(1), open(1)], [None, None]);
    assert_eq!(open(1), Some(Refusal::AddressRateExceeded));
    assert_eq!(open(2), None);
    assert_eq!(open(3), Some(Refusal::RateExceeded));
}

#[test]
fn sessions_are_bounded_for_new_clients_only() {
    // B4
    let mut world = World::with(|config| config.limits.sessions_max = 2);
    let (first, _) = world.durable("a");
    world.cut(first);
    world.client("b");
    for (connect, expected) in [
        (v5("c"), ConnAckReason::QuotaExceeded),
        (v3("d", false), ConnAckReason::ServerUnavailable),
    ] {
        assert_eq!(world.connect(connect).1.reason, expected);
    }
    assert!(world.durable("a").1.session_present);
}

#[test]
fn client_ids_are_bounded() {
    let mut world = World::with(|config| config.limits.client_id_bytes_max = 4);
    assert_eq!(world.connect(v5("1234")).1.reason, ConnAckReason::Success);
    assert_eq!(
        world.connect(v5("12345")).1.reason,
        ConnAckReason::ClientIdentifierNotValid
    );
}

fn check_topic(topic: &str, expected: Option<DisconnectReason>) {
    let mut world = World::with(|config| {
        config.limits.topic_bytes_max = 10;
        config.limits.topic_levels_max = 3;
    });
    let client = world.client("c");
    world.publish(client, topic, "x");
    assert_eq!(world.farewell(client), expected, "{topic}");
}

#[test]
fn topics_are_bounded_by_bytes_and_levels() {
    // B12
    let invalid = Some(DisconnectReason::TopicNameInvalid);
    check_topic("1234567890", None);
    check_topic("12345678901", invalid);
    check_topic("a/b/c", None);
    check_topic("a/b/c/d", invalid);
}

#[test]
fn filters_of_one_subscribe_are_bounded() {
    // [MQTT-3.8.4-6] A9
    let mut world = World::with(|config| config.limits.filters_per_subscribe_max = 2);
    let client = world.client("c");
    let filters = ["a", "b", "c"].map(|filter| SubscribeFilter {
        target: target(filter),
        options: SubscribeOptions::new(Qos::AtMostOnce),
    });
    world.send(
        client,
        Packet::Subscribe(Subscribe::new(id(1), filters.to_vec())),
    );
    let Some(Packet::SubAck(ack)) = world.next(client) else {
        panic!()
    };
    let granted = SubAckReason::GrantedQos0;
    assert_eq!(ack.reasons, [granted, granted, SubAckReason::QuotaExceeded]);
}

#[test]
fn topic_aliases_are_bounded() {
    // B10
    let mut world = World::with(|config| config.limits.topic_alias_maximum = 2);
    let client = world.client("c");
    for (alias, expected) in [(2, None), (3, Some(DisconnectReason::TopicAliasInvalid))] {
        let mut publish = message("t", "x");
        let name = publish.topic.name().cloned().unwrap();
        let alias = TopicAlias::new(alias).unwrap();
        publish.topic = PublishTopic::Define { name, alias };
        world.send(client, publish_packet(publish));
        assert_eq!(world.farewell(client), expected);
    }
}

#[test]
fn packets_are_bounded() {
    let mut world = World::with(|config| config.limits.packet_bytes_max = 1_000);
    let client = world.client("c");
    // Two bytes each of the fixed header's length and the topic's, one of the topic, one of the properties' length.
    world.publish(client, "t", &"x".repeat(1_000 - 7));
    assert_eq!(world.closed(client), None);
    world.publish(client, "t", &"x".repeat(1_000 - 6));
    assert_eq!(
        world.farewell(client),
        Some(DisconnectReason::PacketTooLarge)
    );
}

#[test]
fn subscriptions_are_granted_no_more_than_the_highest_qos() {
    let mut world = World::with(|config| config.limits.qos_max = 1);
    let client = world.client("c");
    let options = SubscribeOptions::new(Qos::ExactlyOnce);
    let reasons = world.subscribe_with(client, "t", options, |_| {});
    assert_eq!(reasons, [SubAckReason::GrantedQos1]);
    world.publish_qos(client, "t", "x", support::qos2(1));
    assert_eq!(
        world.farewell(client),
        Some(DisconnectReason::QosNotSupported)
    );
}
