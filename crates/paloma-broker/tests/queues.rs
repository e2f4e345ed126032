//! Messages that wait: for a client to come back, for its window, for the store.

mod support;

use std::num::NonZeroU32;

use paloma_broker::store::{LoadRequest, MessageId, SessionId};
use paloma_broker::{BrokerConfig, CloseCause, DropCause, QueueWhenFull, Store};
use paloma_codec::{
    Ack, Connect, Delivery, DisconnectReason, Packet, PubAckReason, PubRecReason, Publish, Qos,
    ReceiveMaximum,
};
use support::{
    Handle, World, acknowledgement, id, message, pub_ack, pub_comp, pub_rec, pub_rel,
    publish_packet, qos1, qos2, texts, v3, v5,
};

/// A durable client that subscribed to `t` at QoS 2 and is gone, and a publisher.
fn absent(change: impl FnOnce(&mut BrokerConfig)) -> (World, Handle) {
    let mut world = World::with(change);
    let (client, _) = world.durable("c");
    world.subscribe(client, "t", Qos::ExactlyOnce);
    world.cut(client);
    let publisher = world.client("p");
    (world, publisher)
}

fn numbers(range: impl IntoIterator<Item = u32>) -> Vec<String> {
    range.into_iter().map(|n| n.to_string()).collect()
}

/// Publishes one message of each number at QoS 1, each in a turn of its own.
fn publish_numbers(world: &mut World, publisher: Handle, range: impl IntoIterator<Item = u32>) {
    for n in range {
        world.publish_qos(publisher, "t", &n.to_string(), qos1(1));
    }
}

/// Connects again and takes all there is.
fn resume_and_take(world: &mut World) -> Vec<String> {
    let (client, ack) = world.durable("c");
    assert!(ack.session_present);
    let taken = world.take_all(client);
    world.cut(client);
    texts(&taken)
}

#[test]
fn messages_for_an_absent_client_wait_in_their_order() {
    // [MQTT-4.6.0-1] [MQTT-4.6.0-5] G14
    for make in [qos1, qos2] {
        let (mut world, publisher) = absent(|_| {});
        for n in 1..=50 {
            world.publish_qos(publisher, "t", &n.to_string(), make(n));
            world.send(publisher, pub_rel(id(n)));
        }
        assert_eq!(resume_and_take(&mut world), numbers(1..=50));
        assert_eq!(world.store.message_count(), 0);
    }
}

#[test]
fn qos_0_does_not_wait_for_an_absent_client_unless_told_to() {
    for queue_qos0 in [false, true] {
        let (mut world, publisher) = absent(|config| config.limits.queue_qos0 = queue_qos0);
        world.publish(publisher, "t", "x");
        assert_eq!(world.dropped(DropCause::Offline), u64::from(!queue_qos0));
        assert_eq!(resume_and_take(&mut world).len(), usize::from(queue_qos0));
    }
}

#[test]
fn a_clean_start_gets_nothing_of_an_old_queue() {
    // G7
    let (mut world, publisher) = absent(|_| {});
    publish_numbers(&mut world, publisher, 1..=3);
    let (client, _) = world.connect(Connect {
        session_expiry_seconds: 60,
        ..v5("c")
    });
    assert!(world.publishes(client).is_empty());
}

fn check_full(when_full: QueueWhenFull, memory: u32, expected: impl IntoIterator<Item = u32>) {
    let (mut world, publisher) = absent(|config| {
        config.limits.queue_messages_max = 10;
        config.limits.queue_when_full = when_full;
        config.limits.queue_memory_messages_max = memory;
    });
    publish_numbers(&mut world, publisher, 1..=30);
    assert_eq!(world.broker.queued(), 10);
    assert_eq!(world.dropped(DropCause::QueueFull), 20);
    assert_eq!(world.store.message_count(), 10);
    assert_eq!(resume_and_take(&mut world), numbers(expected));
    assert_eq!(world.store.message_count(), 0);
}

#[test]
fn a_full_queue_drops_by_its_policy_wherever_its_messages_wait() {
    for memory in [0, 1, 2, 4, 9, 10, 256] {
        check_full(QueueWhenFull::DropNewest, memory, 1..=10);
        check_full(QueueWhenFull::DropOldest, memory, 21..=30);
    }
}

#[test]
fn the_publisher_may_learn_that_the_only_queue_is_full() {
    let (mut world, publisher) = absent(|config| config.limits.queue_messages_max = 1);
    publish_numbers(&mut world, publisher, 1..=2);
    let packets = world.drain(publisher);
    let [Packet::PubAck(first), Packet::PubAck(second)] = packets.as_slice() else {
        panic!("{packets:?}")
    };
    assert_eq!(first.reason, PubAckReason::Success);
    assert_eq!(second.reason, PubAckReason::QuotaExceeded);
}

#[test]
fn a_queue_is_bounded_by_bytes_too() {
    // B7
    for memory in [1, 256] {
        let (mut world, publisher) = absent(|config| {
            config.limits.queue_bytes_max = 10_000;
            config.limits.queue_memory_messages_max = memory;
        });
        let payload = "x".repeat(1_000);
        for _ in 0..20 {
            world.publish_qos(publisher, "t", &payload, qos1(1));
        }
        assert_eq!(world.broker.queued(), 9);
        assert_eq!(world.dropped(DropCause::QueueFull), 11);
        assert_eq!(resume_and_take(&mut world).len(), 9);
    }
}

#[test]
fn qos_0_gives_way_first() {
    let mut world = World::with(|config| config.limits.queue_messages_max = 4);
    let client = world.client("c");
    world.subscribe(client, "t", Qos::AtLeastOnce);
    let publisher = world.client("p");
    world.set_reading(client, false);
    world.publish(publisher, "t", "zero");
    publish_numbers(&mut world, publisher, 1..=4);
    world.set_reading(client, true);
    assert_eq!(world.payloads(client), numbers(1..=4));
    assert_eq!(world.dropped(DropCause::QueueFull), 1);
}

fn check_spill(messages: u32, more: u32) {
    let (mut world, publisher) = absent(|config| {
        config.limits.queue_memory_messages_max = 8;
        config.limits.inflight_max = 4;
    });
    publish_numbers(&mut world, publisher, 1..=messages);
    let (client, _) = world.durable("c");
    let mut taken = Vec::new();
    let mut next = messages + 1..=messages + more;
    while let Some(packet) = world.next(client) {
        if let Packet::Publish(publish) = packet {
            taken.extend(texts(&[*publish.clone()]));
            if let Some(n) = next.next() {
                publish_numbers(&mut world, publisher, [n]);
            }
            world.acknowledge(client, &publish);
        }
    }
    assert_eq!(taken, numbers(1..=messages + more));
    assert_eq!(world.broker.queued(), 0);
    assert_eq!(world.store.message_count(), 0);
}

#[test]
fn a_long_queue_goes_through_the_store_and_stays_in_order() {
    check_spill(7, 0);
    check_spill(8, 0);
    check_spill(9, 0);
    check_spill(500, 0);
}

#[test]
fn a_long_queue_is_loaded_in_parts_as_large_as_they_may_be() {
    let (mut world, publisher) = absent(|config| config.limits.queue_memory_messages_max = 50);
    publish_numbers(&mut world, publisher, 1..=500);
    let before = world.loads_made;
    assert_eq!(resume_and_take(&mut world), numbers(1..=500));
    let loads = world.loads_made - before;
    assert!(loads <= 30, "{loads} loads of 450 messages");
    // By their bytes: one message comes however large it is.
    publish_numbers(&mut world, publisher, 1..=3);
    let mut load = |bytes: u32| {
        let request = LoadRequest {
            session: SessionId(1),
            after: MessageId(0),
            count: 10,
            bytes,
        };
        world.store.read_queue(&request).unwrap().entries
    };
    let all = load(u32::MAX);
    assert_eq!(all.len(), 3);
    let bytes = u32::try_from(all[0].1.len()).unwrap();
    let counts = [0, bytes, 2 * bytes - 1, 2 * bytes, 3 * bytes].map(|bytes| load(bytes).len());
    assert_eq!(counts, [1, 1, 1, 2, 3]);
}

/// Forty messages of a size, eight of which are in memory, for a client that takes four and acknowledges none.
fn check_ahead(payload_bytes: usize, loads: u32) {
    let (mut world, publisher) = absent(|config| {
        config.limits.queue_memory_messages_max = 8;
        config.limits.inflight_max = 4;
        config.limits.inflight_bytes_max = u32::MAX;
        config.limits.queue_bytes_max = u32::MAX;
    });
    let payload = "x".repeat(payload_bytes);
    for n in 1..=40 {
        world.publish_qos(publisher, "t", &payload, qos1(n));
    }
    let before = world.loads_made;
    let (client, _) = world.durable("c");
    let sent = world.publishes(client);
    assert_eq!((sent.len(), world.loads_made - before), (4, loads));
    for publish in &sent {
        world.acknowledge(client, publish);
    }
    assert_eq!(world.take_all(client).len(), 36);
    assert_eq!(world.broker.queued(), 0);
}

#[test]
fn a_part_of_a_queue_is_read_while_the_one_before_waits_in_memory() {
    check_ahead(10, 1);
    // Unless that is large.
    check_ahead(300_000, 0);
}

#[test]
fn messages_that_come_while_a_long_queue_is_loaded_come_behind_it() {
    check_spill(100, 300);
    check_spill(9, 50);
}

#[test]
fn a_long_queue_survives_its_client_coming_and_going() {
    let (mut world, publisher) = absent(|config| {
        config.limits.queue_memory_messages_max = 8;
        config.limits.inflight_max = 4;
    });
    publish_numbers(&mut world, publisher, 1..=100);
    let mut taken = Vec::new();
    while taken.len() < 100 {
        let (client, _) = world.durable("c");
        let publishes = world.publishes(client);
        assert!(publishes.len() <= 4);
        // Only the first is acknowledged before the connection breaks.
        taken.extend(texts(&publishes[..1]));
        world.acknowledge(client, &publishes[0]);
        world.cut(client);
    }
    assert_eq!(taken, numbers(1..=100));
    assert_eq!(world.store.message_count(), 0);
}

#[test]
fn messages_in_the_store_expire_there() {
    // [MQTT-3.3.2-5] G11
    let (mut world, publisher) = absent(|config| {
        config.limits.queue_memory_messages_max = 4;
    });
    for n in 1..=50_u32 {
        let mut publish = message("t", &n.to_string());
        publish.delivery = qos1(1);
        publish.properties.message_expiry_seconds = (n % 2 == 0).then_some(10);
        world.send(publisher, publish_packet(publish));
    }
    world.advance(10);
    assert_eq!(resume_and_take(&mut world), numbers((1..=50).step_by(2)));
    assert_eq!(world.dropped(DropCause::Expired), 25);
    assert_eq!(world.store.message_count(), 0);
}

#[test]
fn a_session_that_ends_with_a_long_queue_frees_the_store() {
    let (mut world, publisher) = absent(|config| {
        config.limits.queue_memory_messages_max = 4;
    });
    publish_numbers(&mut world, publisher, 1..=50);
    world.advance(3_600);
    assert_eq!(world.store.message_count(), 0);
    assert_eq!(world.dropped(DropCause::SessionEnded), 50);
    assert_eq!(world.broker.queued(), 0);
}

#[test]
fn a_session_that_gives_up_its_expiry_still_gets_its_long_queue() {
    let (mut world, publisher) = absent(|config| {
        config.limits.queue_memory_messages_max = 4;
    });
    publish_numbers(&mut world, publisher, 1..=50);
    let (client, ack) = world.connect(Connect {
        clean_start: false,
        ..v5("c")
    });
    assert!(ack.session_present);
    assert_eq!(texts(&world.take_all(client)), numbers(1..=50));
    world.cut(client);
    assert_eq!(world.store.message_count(), 0);
    assert_eq!(world.broker.tables().sessions, 1);
}

/// A durable client `c` on `many` and `few`, and enough others on `many` for a job of several turns.
fn world_with_crowd() -> (World, Handle, Handle) {
    crowd(false)
}

fn crowd(upgrades: bool) -> (World, Handle, Handle) {
    let mut world = World::with(|config| {
        config.limits.queue_memory_messages_max = 4;
        config.limits.inflight_max = 2;
        config.behaviour.upgrade_outgoing_qos = upgrades;
    });
    for n in 0..2_100 {
        let client = world.connect(v3(&format!("c{n}"), true)).0;
        world.subscribe(client, "many", Qos::AtMostOnce);
    }
    let (client, _) = world.durable("c");
    world.subscribe(client, "many", Qos::AtLeastOnce);
    world.subscribe(client, "few", Qos::AtLeastOnce);
    let publisher = world.client("p");
    (world, client, publisher)
}

fn at_least_once(topic: &str, n: u16) -> Packet {
    publish_packet(Publish {
        delivery: qos1(n),
        ..message(topic, &n.to_string())
    })
}

#[test]
fn a_large_fan_out_that_reaches_a_long_queue_late_is_neither_lost_nor_doubled() {
    for ahead in [1, 3, 4, 5, 9] {
        let (mut world, client, publisher) = world_with_crowd();
        world.cut(client);
        let mut packets = vec![at_least_once("many", 1)];
        packets.extend((2..=1 + ahead).map(|n| at_least_once("few", n)));
        packets.push(at_least_once("many", 2 + ahead));
        world.send_all(publisher, packets);
        let mut taken = resume_and_take(&mut world);
        taken.sort_by_key(|text| text.parse::<u32>().unwrap());
        assert_eq!(taken, numbers(1..=u32::from(ahead) + 2));
        assert_eq!(world.broker.queued(), 0);
        assert_eq!(world.store.message_count(), 0);
    }
}

#[test]
fn what_comes_while_the_store_has_nothing_more_is_not_taken_for_lost() {
    let (mut world, publisher) = absent(|config| config.limits.queue_memory_messages_max = 4);
    publish_numbers(&mut world, publisher, 1..=6);
    world.loads_at_once = false;
    let (client, _) = world.durable("c");
    // The sixth cannot be read.
    let is_damaged = |message| message == MessageId(6);
    let mut taken = Vec::new();
    for more in [None, Some(7), None, None] {
        let sent = world.publishes(client);
        sent.iter()
            .for_each(|publish| world.acknowledge(client, publish));
        taken.extend(texts(&sent));
        publish_numbers(&mut world, publisher, more);
        world.finish_load_without(is_damaged);
    }
    taken.extend(texts(&world.publishes(client)));
    assert_eq!(taken, ["1", "2", "3", "4", "5", "7"]);
    assert_eq!(world.dropped(DropCause::StoreLost), 1);
}

#[test]
fn a_large_fan_out_is_not_lost_where_the_store_begins_behind_it() {
    let (mut world, client, publisher) = world_with_crowd();
    world.cut(client);
    // Four wait in memory; the fifth comes to this client after the sixth, which waits in the store only.
    let mut packets: Vec<_> = (1..=4).map(|n| at_least_once("few", n)).collect();
    packets.push(at_least_once("many", 5));
    packets.push(at_least_once("few", 6));
    world.send_all(publisher, packets);
    let mut taken = resume_and_take(&mut world);
    taken.sort_unstable();
    assert_eq!(taken, numbers(1..=6));
    assert_eq!(world.dropped(DropCause::StoreLost), 0);
    assert_eq!(world.store.message_count(), 0);
}

#[test]
fn two_copies_of_a_large_fan_out_stay_two_wherever_the_store_begins() {
    for ahead in [2, 3] {
        let (mut world, client, publisher) = world_with_crowd();
        // The group's copy is queued at once, the other one when the fan-out comes to it.
        world.subscribe(client, "$share/g/many", Qos::AtLeastOnce);
        world.cut(client);
        let mut packets: Vec<_> = (1..=ahead).map(|n| at_least_once("few", n)).collect();
        packets.push(at_least_once("many", 10));
        packets.push(at_least_once("few", 11));
        world.send_all(publisher, packets);
        let mut taken = resume_and_take(&mut world);
        taken.sort_by_key(|text| text.parse::<u32>().unwrap());
        let expected = numbers((1..=ahead.into()).chain([10, 10, 11]));
        assert_eq!(taken, expected, "{ahead} ahead");
        assert_eq!(world.store.message_count(), 0);
    }
}

#[test]
fn a_large_fan_out_of_qos_0_is_nothing_to_the_store() {
    for upgrades in [false, true] {
        let (mut world, _, publisher) = crowd(upgrades);
        world.commits = false;
        world.publish(publisher, "many", "x");
        assert_eq!(!world.uncommitted.is_empty(), upgrades);
    }
}

#[test]
fn a_small_message_has_its_place_beside_a_long_queue() {
    let mut world = World::with(|config| {
        config.limits.queue_memory_messages_max = 4;
        config.limits.inflight_max = 2;
        config.limits.queue_bytes_max = 20_000;
    });
    let (client, _) = world.durable("c");
    world.subscribe(client, "t", Qos::AtLeastOnce);
    let publisher = world.client("p");
    let large = "x".repeat(1_000);
    for n in 1..=12 {
        world.publish_qos(publisher, "t", &large, qos1(n));
    }
    world.publish(publisher, "t", "small");
    assert_eq!(world.dropped(DropCause::QueueFull), 0);
    let taken = texts(&world.take_all(client));
    assert_eq!(taken.iter().filter(|text| *text == "small").count(), 1);
    assert_eq!(taken.len(), 13);
}

#[test]
fn a_queue_that_is_partly_in_the_store_may_be_filled_to_its_last_byte() {
    let play = |queue_bytes_max: u32| {
        let mut world = World::with(|config| {
            config.limits.queue_memory_messages_max = 4;
            config.limits.inflight_max = 2;
            config.limits.queue_bytes_max = queue_bytes_max;
        });
        let (client, _) = world.durable("c");
        world.subscribe(client, "t", Qos::AtLeastOnce);
        let publisher = world.client("p");
        for n in 10..22 {
            world.publish_qos(publisher, "t", &n.to_string(), qos1(n));
        }
        // Of the same size, and not stored.
        world.publish(publisher, "t", "22");
        let request = LoadRequest {
            session: SessionId(1),
            after: MessageId(0),
            count: 1,
            bytes: 0,
        };
        let each = world.store.read_queue(&request).unwrap().entries[0].1.len();
        (
            u32::try_from(each).unwrap(),
            world.dropped(DropCause::QueueFull),
        )
    };
    let (each, dropped) = play(u32::MAX);
    assert_eq!(dropped, 0);
    // Two are sent, four wait in memory with their places, six in the store, and one more is to find room.
    let whole = 11 * each + 4 * 24;
    assert_eq!([whole, whole - 1].map(play), [(each, 0), (each, 1)]);
}

#[test]
fn what_is_queued_while_its_elders_are_loaded_slowly_is_not_lost() {
    // A load that was asked for before a large fan-out reached the session is answered after.
    let (mut world, client, publisher) = world_with_crowd();
    world.cut(client);
    world.send_all(
        publisher,
        (1..=20).map(|n| at_least_once("few", n)).collect(),
    );
    world.loads_at_once = false;
    // The large one is older than the one that has its place in the store before it.
    world.send_all(
        publisher,
        vec![at_least_once("many", 21), at_least_once("few", 22)],
    );
    let (client, _) = world.durable("c");
    world.send_all(
        publisher,
        vec![at_least_once("many", 23), at_least_once("few", 24)],
    );
    world.finish_loads();
    let mut taken = texts(&world.take_all(client));
    taken.sort_by_key(|text| text.parse::<u32>().unwrap());
    assert_eq!(taken, numbers(1..=24));
    assert_eq!(world.store.message_count(), 0);
}

#[test]
fn the_clients_receive_maximum_is_never_passed() {
    // [MQTT-3.3.4-9] [MQTT-4.9.0-1] G13 I5
    let mut world = World::new();
    let (client, _) = world.connect(Connect {
        receive_maximum: ReceiveMaximum::new(3).unwrap(),
        ..v5("c")
    });
    world.subscribe(client, "t", Qos::ExactlyOnce);
    let publisher = world.client("p");
    publish_numbers(&mut world, publisher, 1..=10);
    let first = world.publishes(client);
    assert_eq!(texts(&first), numbers(1..=3));
    world.acknowledge(client, &first[1]);
    assert_eq!(texts(&world.publishes(client)), ["4"]);
    // QoS 0 does not wait.
    world.publish(publisher, "t", "zero");
    assert!(
        world.publishes(client).is_empty(),
        "it keeps its place in the queue"
    );
}

#[test]
fn the_brokers_own_window_bounds_a_client_that_names_none() {
    let mut world = World::with(|config| config.limits.inflight_max = 5);
    let (client, _) = world.connect(v3("c", true));
    world.subscribe(client, "t", Qos::AtLeastOnce);
    let publisher = world.client("p");
    publish_numbers(&mut world, publisher, 1..=20);
    assert_eq!(world.publishes(client).len(), 5);
}

#[test]
fn a_client_may_refuse_a_message_which_ends_its_exchange() {
    // [MQTT-4.4.0-2]
    let mut world = World::new();
    let (client, _) = world.durable("c");
    world.subscribe(client, "t", Qos::ExactlyOnce);
    let publisher = world.client("p");
    world.publish_qos(publisher, "t", "1", qos1(1));
    world.publish_qos(publisher, "t", "2", qos2(2));
    let publishes = world.publishes(client);
    let ids: Vec<_> = publishes
        .iter()
        .map(|one| one.delivery.id().unwrap())
        .collect();
    world.send(
        client,
        Packet::PubAck(Ack::new(ids[0], PubAckReason::QuotaExceeded)),
    );
    world.send(
        client,
        Packet::PubRec(Ack::new(ids[1], PubRecReason::NotAuthorized)),
    );
    assert_eq!(world.dropped(DropCause::RefusedByClient), 2);
    assert!(world.drain(client).is_empty());
    assert_eq!((world.broker.queued(), world.store.message_count()), (0, 0));
}

#[test]
fn a_message_above_the_clients_packet_size_is_dropped_and_the_rest_goes_on() {
    // [MQTT-3.1.2-24] [MQTT-3.1.2-25] G12
    let mut world = World::new();
    let (client, _) = world.connect(Connect {
        maximum_packet_size: NonZeroU32::new(100),
        session_expiry_seconds: 60,
        ..v5("c")
    });
    world.subscribe(client, "t", Qos::ExactlyOnce);
    let publisher = world.client("p");
    for (payload, delivery) in [
        ("x".repeat(200), qos1(1)),
        ("x".repeat(200), qos2(2)),
        ("x".repeat(200), Delivery::AtMostOnce),
        ("small".to_owned(), qos1(3)),
    ] {
        world.publish_qos(publisher, "t", &payload, delivery);
    }
    assert_eq!(texts(&world.take_all(client)), ["small"]);
    assert_eq!(world.dropped(DropCause::PacketTooLarge), 3);
    assert_eq!((world.broker.queued(), world.store.message_count()), (0, 0));
}

#[test]
fn a_message_ages_while_it_waits() {
    // [MQTT-3.3.2-6]
    let (mut world, publisher) = absent(|_| {});
    let mut publish = message("t", "x");
    publish.delivery = qos1(1);
    publish.properties.message_expiry_seconds = Some(100);
    world.send(publisher, publish_packet(publish));
    world.advance(30);
    let (client, _) = world.durable("c");
    let publishes = world.publishes(client);
    assert_eq!(publishes[0].properties.message_expiry_seconds, Some(70));
}

#[test]
fn what_was_in_flight_is_sent_again_with_its_id_and_before_the_rest() {
    // [MQTT-4.4.0-1] [MQTT-3.3.1-1] G3 G4
    let (mut world, publisher) = absent(|config| config.limits.inflight_max = 4);
    publish_numbers(&mut world, publisher, 1..=8);
    let (client, _) = world.durable("c");
    let first = world.publishes(client);
    world.cut(client);
    publish_numbers(&mut world, publisher, 9..=10);
    let (client, _) = world.durable("c");
    let again = world.publishes(client);
    assert_eq!(texts(&again), numbers(1..=4));
    for (first, again) in first.iter().zip(&again) {
        assert!(!first.delivery.is_dup() && again.delivery.is_dup());
        assert_eq!(first.delivery.id(), again.delivery.id());
    }
    for publish in again {
        world.acknowledge(client, &publish);
    }
    let rest = world.take_all(client);
    assert_eq!(texts(&rest), numbers(5..=10));
    assert!(rest.iter().all(|publish| !publish.delivery.is_dup()));
}

#[test]
fn what_is_sent_again_goes_on_as_a_smaller_window_opens() {
    // [MQTT-4.4.0-1] I10
    let (mut world, publisher) = absent(|_| {});
    publish_numbers(&mut world, publisher, 1..=3);
    let (client, _) = world.durable("c");
    assert_eq!(texts(&world.publishes(client)), numbers(1..=3));
    world.cut(client);
    let (client, _) = world.connect(Connect {
        clean_start: false,
        session_expiry_seconds: 3_600,
        receive_maximum: ReceiveMaximum::new(1).unwrap(),
        ..v5("c")
    });
    for n in 1..=3 {
        let again = world.publishes(client);
        assert_eq!(texts(&again), numbers([n]));
        assert!(again[0].delivery.is_dup());
        world.acknowledge(client, &again[0]);
    }
    assert_eq!(world.broker.queued(), 0);
}

#[test]
fn a_qos_2_message_from_a_client_is_taken_once_over_cuts() {
    // [MQTT-4.3.3-10] G1 G2 I2
    let mut world = World::new();
    let listener = world.client("l");
    world.subscribe(listener, "t", Qos::ExactlyOnce);
    let (client, _) = world.durable("c");
    world.publish_qos(client, "t", "x", qos2(7));
    for _ in 0..3 {
        let publish = Publish {
            delivery: Delivery::ExactlyOnce {
                id: id(7),
                dup: true,
            },
            ..message("t", "x")
        };
        let (client, _) = world.durable("c");
        world.send(client, publish_packet(publish));
        let packets = world.drain(client);
        assert!(
            matches!(packets.as_slice(), [Packet::PubRec(_)]),
            "{packets:?}"
        );
    }
    assert_eq!(texts(&world.take_all(listener)), ["x"]);
    let (client, _) = world.durable("c");
    world.send(client, pub_rel(id(7)));
    assert!(matches!(world.next(client), Some(Packet::PubComp(_))));
    // The id is free: the next message under it is another one, even if it says that it is not.
    let publish = Publish {
        delivery: Delivery::ExactlyOnce {
            id: id(7),
            dup: true,
        },
        ..message("t", "y")
    };
    world.send(client, publish_packet(publish));
    assert_eq!(texts(&world.take_all(listener)), ["y"]);
}

#[test]
fn a_qos_2_message_to_a_client_is_released_once_it_was_received() {
    // [MQTT-4.3.3-5] [MQTT-4.3.3-6] G3 I2
    let (mut world, publisher) = absent(|_| {});
    world.publish_qos(publisher, "t", "x", qos2(1));
    world.send(publisher, pub_rel(id(1)));
    let (client, _) = world.durable("c");
    let publish = world.publishes(client).remove(0);
    let packet = publish.delivery.id().unwrap();
    world.send(client, pub_rec(packet));
    world.cut(client);
    let (client, _) = world.durable("c");
    let packets = world.drain(client);
    assert!(
        matches!(packets.as_slice(), [Packet::PubRel(ack)] if ack.id == packet),
        "{packets:?}"
    );
    world.send(client, pub_comp(packet));
    assert_eq!((world.broker.queued(), world.store.message_count()), (0, 0));
}

#[test]
fn when_all_packet_ids_are_in_use_messages_wait() {
    // [MQTT-2.2.1-3] G4 B5
    let mut world = World::with(|config| {
        config.limits.inflight_max = u16::MAX;
        config.limits.inflight_bytes_max = u32::MAX;
        config.limits.queue_messages_max = 100_000;
        config.limits.queue_bytes_max = u32::MAX;
    });
    let (client, _) = world.connect(v3("c", true));
    world.subscribe(client, "t", Qos::AtLeastOnce);
    let publisher = world.connect(v3("p", true)).0;
    let packets =
        (0..65_540_u32).map(|n| at_least_once("t", u16::try_from(n % 65_535).unwrap() + 1));
    world.send_all(publisher, packets.collect());
    let first = world.publishes(client);
    assert_eq!(first.len(), 65_535);
    let mut ids: Vec<_> = first.iter().map(|publish| publish.delivery.id()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 65_535);
    let acks = first.iter().take(3).filter_map(acknowledgement).collect();
    world.send_all(client, acks);
    assert_eq!(world.publishes(client).len(), 3);
}

#[test]
fn a_client_that_passes_the_brokers_receive_maximum_is_closed() {
    // [MQTT-3.3.4-7] B5
    let mut world = World::with(|config| config.limits.receive_maximum = 3);
    let client = world.client("c");
    for n in 1..=3 {
        world.publish_qos(client, "t", "x", qos2(n));
    }
    assert_eq!(world.closed(client), None);
    world.publish_qos(client, "t", "x", qos2(4));
    assert_eq!(world.closed(client), Some(CloseCause::Violation));
    assert_eq!(
        world.farewell(client),
        Some(DisconnectReason::ReceiveMaximumExceeded)
    );
}

#[test]
fn a_3_1_1_client_may_leave_all_its_qos_2_exchanges_open() {
    // B5
    let mut world = World::new();
    let (client, _) = world.connect(v3("c", true));
    let all = (1..=u16::MAX).map(|n| {
        publish_packet(Publish {
            delivery: qos2(n),
            ..message("t", "x")
        })
    });
    world.send_all(client, all.collect());
    assert_eq!(world.drain(client).len(), usize::from(u16::MAX));
    world.send_all(client, (1..=u16::MAX).map(|n| pub_rel(id(n))).collect());
    assert_eq!(world.drain(client).len(), usize::from(u16::MAX));
}

#[test]
fn a_reader_that_does_not_read_holds_nobody_up_and_stays_bounded() {
    // B6 I7
    let mut world = World::with(|config| config.limits.queue_messages_max = 100);
    let (slow, quick) = (world.client("slow"), world.client("quick"));
    for client in [slow, quick] {
        world.subscribe(client, "t", Qos::AtMostOnce);
    }
    let publisher = world.client("p");
    world.set_reading(slow, false);
    for n in 0..1_000 {
        world.publish(publisher, "t", &n.to_string());
        assert!(world.broker.queued() <= 100);
    }
    assert_eq!(world.payloads(quick), numbers(0..1_000));
    assert_eq!(world.dropped(DropCause::QueueFull), 900);
    world.set_reading(slow, true);
    assert_eq!(world.payloads(slow), numbers(900..1_000));
}

#[test]
fn a_client_whose_answers_pile_up_is_read_again_once_it_takes_them() {
    // B6
    let mut world = World::new();
    let (client, _) = world.connect(v3("c", true));
    world.set_reading(client, false);
    let count = 70_000_u32;
    let packets = (0..count).map(|n| at_least_once("t", u16::try_from(n % 65_535).unwrap() + 1));
    world.send_all(client, packets.collect());
    assert!(world.broker.accounting().published < u64::from(count));
    world.set_reading(client, true);
    assert_eq!(world.broker.accounting().published, u64::from(count));
    assert_eq!(world.drain(client).len(), count as usize);
}

#[test]
fn acknowledgements_of_nothing_change_nothing() {
    // G5
    let mut world = World::new();
    let client = world.client("c");
    world.send(client, pub_ack(id(9)));
    world.send(client, pub_comp(id(9)));
    assert!(world.drain(client).is_empty());
    world.send(client, pub_rec(id(9)));
    world.send(client, pub_rel(id(9)));
    let packets = world.drain(client);
    assert!(
        matches!(packets.as_slice(), [Packet::PubRel(_), Packet::PubComp(_)]),
        "{packets:?}"
    );
    assert_eq!(world.closed(client), None);
}

#[test]
fn unacknowledged_bytes_towards_a_client_are_bounded_and_one_large_message_goes_alone() {
    let payload = "x".repeat(100);
    for (bytes_max, at_once) in [(1, 1), (250, 1), (300, 2), (10_000, 5)] {
        let (mut world, publisher) = absent(|config| config.limits.inflight_bytes_max = bytes_max);
        for n in 1..=5 {
            world.publish_qos(publisher, "t", &payload, qos1(n));
        }
        let (client, _) = world.durable("c");
        let first = world.publishes(client);
        assert_eq!(first.len(), at_once, "{bytes_max} bytes");
        world.cut(client);
        assert_eq!(resume_and_take(&mut world).len(), 5, "{bytes_max} bytes");
    }
}
