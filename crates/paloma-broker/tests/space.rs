//! A store without room: what is refused, what is held, what goes on.

mod support;

use paloma_broker::store::Space;
use paloma_broker::{CloseCause, Reply};
use paloma_codec::{
    Connect, Delivery, Packet, PubAckReason, PubRecReason, Publish, Qos, SubAckReason,
    SubscribeOptions,
};
use support::{
    Handle, World, id, message, pub_rel, publish_packet, qos1, qos2, texts, v3, v5, will,
};

fn tell(world: &mut World, space: Space) {
    world.broker.handle_reply(world.now, Reply::Space(space));
    world.settle();
}

/// A world with a durable subscriber of `t` that is online and one that is not, and a store without room.
fn full() -> (World, Handle) {
    let mut world = World::new();
    let (absent, _) = world.durable("absent");
    world.subscribe(absent, "t", Qos::ExactlyOnce);
    world.cut(absent);
    let (online, _) = world.durable("online");
    world.subscribe(online, "t", Qos::ExactlyOnce);
    tell(&mut world, Space::Full);
    (world, online)
}

fn pub_ack_reason(world: &mut World, client: Handle) -> Option<PubAckReason> {
    match world.next(client) {
        Some(Packet::PubAck(ack)) => Some(ack.reason),
        Some(Packet::PubRec(ack)) => PubAckReason::from_code(ack.reason.code()),
        Some(other) => panic!("{other:?}"),
        None => None,
    }
}

/// Publishes, with a session or without, and gives the answer and how many copies reached the online subscriber.
fn check(topic: &str, delivery: Delivery, retain: bool, expected: (Option<PubAckReason>, usize)) {
    let (mut world, online) = full();
    let publisher = world.client("p");
    let publish = Publish {
        delivery,
        retain,
        ..message(topic, "x")
    };
    world.send(publisher, publish_packet(publish));
    let reason = pub_ack_reason(&mut world, publisher);
    let copies = world.publishes(online).len();
    assert_eq!((reason, copies), expected, "{topic} {delivery:?} {retain}");
    let has_refused = reason == Some(PubAckReason::QuotaExceeded);
    assert_eq!(
        world.broker.accounting().store_refused,
        u64::from(has_refused)
    );
}

#[test]
fn what_would_have_to_be_stored_is_refused_and_everything_else_goes_on() {
    let refused = (Some(PubAckReason::QuotaExceeded), 0);
    check("t", qos1(1), false, refused);
    check("t", qos2(1), false, refused);
    check("nobody", qos1(1), true, refused);
    check("t", Delivery::AtMostOnce, false, (None, 1));
    let unmatched = Some(PubAckReason::NoMatchingSubscribers);
    check("nobody", qos1(1), false, (unmatched, 0));
    check("nobody", qos2(1), false, (unmatched, 0));
}

#[test]
fn an_id_whose_message_was_refused_is_free() {
    let (mut world, online) = full();
    let (publisher, _) = world.durable("p");
    world.publish_qos(publisher, "t", "refused", qos2(5));
    let refused = Some(PubAckReason::QuotaExceeded);
    assert_eq!(pub_ack_reason(&mut world, publisher), refused);
    tell(&mut world, Space::Free);
    world.publish_qos(publisher, "t", "taken", qos2(5));
    let Some(Packet::PubRec(ack)) = world.next(publisher) else {
        panic!("no PUBREC")
    };
    assert_eq!(ack.reason, PubRecReason::Success);
    assert_eq!(world.payloads(online), ["taken"]);
}

#[test]
fn acknowledgements_deletions_sessions_and_subscriptions_go_on() {
    let mut world = World::new();
    let (client, _) = world.durable("c");
    world.subscribe(client, "t", Qos::AtLeastOnce);
    let publisher = world.client("p");
    world.publish_qos(publisher, "t", "x", qos1(1));
    tell(&mut world, Space::Full);
    assert_eq!(world.take_all(client).len(), 1);
    assert_eq!(world.store.message_count(), 0);
    let options = SubscribeOptions::new(Qos::AtLeastOnce);
    let reasons = world.subscribe_with(client, "u", options, |_| {});
    assert_eq!(reasons, [SubAckReason::GrantedQos1]);
    assert!(!world.durable("new").1.session_present);
    world.disconnect_for_good(client);
    assert_eq!(world.crash().sessions, 1);
}

#[test]
fn a_client_that_cannot_be_refused_is_held_and_goes_on_when_there_is_room() {
    for delivery in [qos1(7), qos2(7)] {
        let (mut world, online) = full();
        let (publisher, _) = world.connect(v3("p", false));
        world.publish_qos(publisher, "t", "held", delivery);
        // Behind it, though nobody stores it.
        world.publish(publisher, "t", "next");
        world.advance(9);
        assert!(world.drain(publisher).is_empty());
        assert!(world.publishes(online).is_empty());
        assert!(!world.broker.may_read(world.connection(publisher)));
        tell(&mut world, Space::Free);
        assert_eq!(world.drain(publisher).len(), 1, "it is acknowledged");
        assert_eq!(world.payloads(online), ["held", "next"]);
        world.advance(30);
        assert_eq!(world.closed(publisher), None);
    }
}

#[test]
fn a_client_that_was_held_for_ten_seconds_is_closed_and_what_it_sends_again_is_new() {
    for delivery in [qos1(7), qos2(7)] {
        let (mut world, online) = full();
        let (publisher, _) = world.connect(v3("p", false));
        world.publish_qos(publisher, "t", "held", delivery);
        world.advance(11);
        assert_eq!(world.closed(publisher), Some(CloseCause::StoreFull));
        tell(&mut world, Space::Free);
        assert!(world.publishes(online).is_empty());
        let (publisher, ack) = world.connect(v3("p", false));
        assert!(ack.session_present);
        let again = match delivery {
            Delivery::ExactlyOnce { id, .. } => Delivery::ExactlyOnce { id, dup: true },
            Delivery::AtMostOnce | Delivery::AtLeastOnce { .. } => Delivery::AtLeastOnce {
                id: id(7),
                dup: true,
            },
        };
        world.publish_qos(publisher, "t", "held", again);
        assert_eq!(world.drain(publisher).len(), 1, "it is acknowledged");
        world.send(publisher, pub_rel(id(7)));
        assert_eq!(world.payloads(online), ["held"]);
    }
}

#[test]
fn a_held_client_that_leaves_by_itself_is_no_trouble() {
    let (mut world, online) = full();
    let (publisher, _) = world.connect(v3("p", false));
    world.publish_qos(publisher, "t", "held", qos2(7));
    world.cut(publisher);
    tell(&mut world, Space::Free);
    assert!(world.publishes(online).is_empty());
    let (publisher, _) = world.connect(v3("p", false));
    world.publish_qos(publisher, "t", "held", qos2(7));
    assert_eq!(texts(&world.publishes(online)), ["held"]);
}

#[test]
fn a_will_is_sent_from_the_reserve() {
    let (mut world, online) = full();
    let (client, _) = world.connect(Connect {
        will: Some(paloma_codec::Will {
            qos: Qos::AtLeastOnce,
            ..will("t", "will")
        }),
        ..v5("w")
    });
    world.cut(client);
    assert_eq!(world.payloads(online), ["will"]);
}

#[test]
fn retained_messages_that_a_subscription_would_have_stored_wait_for_room() {
    let mut world = World::new();
    let publisher = world.client("p");
    let retained = Publish {
        retain: true,
        delivery: qos1(1),
        ..message("t", "x")
    };
    world.send(publisher, publish_packet(retained));
    let (absent, _) = world.durable("absent");
    tell(&mut world, Space::Full);
    for filter in ["t", "+"] {
        world.subscribe(absent, filter, Qos::AtLeastOnce);
    }
    // At QoS 0 and for a session that is not stored they take no room there.
    let (durable, _) = world.durable("durable");
    world.subscribe(durable, "t", Qos::AtMostOnce);
    let client = world.client("c");
    world.subscribe(client, "t", Qos::AtLeastOnce);
    let count = |world: &mut World, client| world.take_all(client).len();
    assert_eq!(
        [absent, durable, client].map(|client| count(&mut world, client)),
        [0, 1, 1]
    );
    assert_eq!(world.store.message_count(), 0);
    tell(&mut world, Space::Free);
    assert_eq!(count(&mut world, absent), 2);
    tell(&mut world, Space::Full);
    tell(&mut world, Space::Free);
    assert_eq!(count(&mut world, absent), 0);
}
