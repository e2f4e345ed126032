//! Shared subscriptions: one message to one member.

mod support;

use std::sync::Arc;

use paloma_broker::{Action, BrokerConfig, DropCause};
use paloma_codec::{
    Connect, DisconnectReason, Packet, Qos, ReceiveMaximum, SubAckReason, SubscribeOptions,
    UnsubAckReason,
};
use support::{
    Handle, Rules, World, acknowledgement, message, publish_packet, qos1, qos2, texts, v5,
};

const SHARED: &str = "$share/g/t";

/// A publisher and members of one group, whose sessions last an hour.
fn group(members: usize, change: impl FnOnce(&mut BrokerConfig)) -> (World, Handle, Vec<Handle>) {
    let mut world = World::with(change);
    let publisher = world.client("p");
    let members = (0..members)
        .map(|n| {
            let (client, _) = world.durable(&format!("m{n}"));
            world.subscribe(client, SHARED, Qos::ExactlyOnce);
            client
        })
        .collect();
    (world, publisher, members)
}

/// The member ends its session as it leaves.
fn leave_for_good(world: &mut World, client: Handle) {
    let disconnect = paloma_codec::Disconnect {
        session_expiry_seconds: Some(0),
        ..paloma_codec::Disconnect::new(DisconnectReason::NormalDisconnection)
    };
    world.send(client, Packet::Disconnect(Box::new(disconnect)));
}

#[test]
fn each_message_goes_to_one_member_and_all_get_their_part() {
    // [MQTT-4.8.2-1] [MQTT-4.8.2-3]
    let (mut world, publisher, members) = group(4, |_| {});
    for n in 0..100 {
        world.publish(publisher, "t", &n.to_string());
    }
    let parts: Vec<_> = members
        .iter()
        .map(|member| world.payloads(*member))
        .collect();
    assert!(parts.iter().all(|part| part.len() == 25), "{parts:?}");
    let mut all: Vec<_> = parts.concat();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 100);
}

#[test]
fn groups_and_plain_subscriptions_each_get_their_own() {
    // [MQTT-4.8.2-2]
    let (mut world, publisher, members) = group(1, |_| {});
    world.subscribe(members[0], "$share/other/t", Qos::ExactlyOnce);
    world.subscribe(members[0], "t", Qos::ExactlyOnce);
    for make in [qos1, qos2] {
        world.publish_qos(publisher, "t", "x", make(1));
        assert_eq!(world.take_all(members[0]).len(), 3);
        world.drain(publisher);
        world.send(publisher, support::pub_rel(support::id(1)));
    }
    assert_eq!((world.broker.queued(), world.store.message_count()), (0, 0));
}

#[test]
fn a_member_with_a_full_window_is_passed_over() {
    let (mut world, publisher, members) = group(2, |config| config.limits.inflight_max = 3);
    for n in 1..=6 {
        world.publish_qos(publisher, "t", &n.to_string(), qos1(n));
    }
    // The first acknowledges all it gets, the second nothing.
    let mut taken = world.take_all(members[0]).len();
    for n in 7..=26 {
        world.publish_qos(publisher, "t", &n.to_string(), qos1(n));
        taken += world.take_all(members[0]).len();
    }
    assert_eq!(world.publishes(members[1]).len(), 3);
    assert_eq!(taken, 23);
}

#[test]
fn a_member_that_takes_more_at_a_time_gets_more() {
    let mut world = World::new();
    let publisher = world.client("p");
    let members = [4, 16].map(|maximum| {
        let (client, _) = world.connect(Connect {
            receive_maximum: ReceiveMaximum::new(maximum).unwrap(),
            ..v5(&format!("m{maximum}"))
        });
        world.subscribe(client, SHARED, Qos::AtLeastOnce);
        client
    });
    for n in 1..=20 {
        world.publish_qos(publisher, "t", "x", qos1(n));
    }
    let parts = members.map(|member| world.publishes(member).len());
    assert_eq!(parts, [4, 16]);
}

#[test]
fn what_a_member_did_not_acknowledge_goes_to_another_when_its_session_ends() {
    // [MQTT-4.8.2-5] G8
    let (mut world, publisher, members) = group(2, |config| config.limits.inflight_max = 4);
    world.cut(members[1]);
    for n in 1..=8 {
        world.publish_qos(publisher, "t", &n.to_string(), qos1(n));
    }
    let sent = world.publishes(members[0]);
    assert_eq!(sent.len(), 4, "the rest is queued");
    let (second, _) = world.durable("m1");
    leave_for_good(&mut world, members[0]);
    let mut taken = texts(&world.take_all(second));
    taken.sort();
    assert_eq!(taken, (1..=8).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(world.broker.accounting().dropped_total(), 0);
    assert_eq!((world.broker.queued(), world.store.message_count()), (0, 0));
}

#[test]
fn a_qos_2_message_under_way_stays_with_its_member() {
    // [MQTT-4.8.2-4] G8
    let (mut world, publisher, members) = group(1, |config| config.limits.inflight_max = 1);
    world.publish_qos(publisher, "t", "sent", qos2(1));
    world.publish_qos(publisher, "t", "queued", qos2(2));
    assert_eq!(world.payloads(members[0]), ["sent"]);
    let (second, _) = world.durable("second");
    world.subscribe(second, SHARED, Qos::ExactlyOnce);
    world.cut(members[0]);
    assert!(world.publishes(second).is_empty(), "the session goes on");
    world.advance(3_600);
    assert_eq!(texts(&world.take_all(second)), ["queued"]);
    assert_eq!(world.dropped(DropCause::SessionEnded), 1);
}

/// A message published with RETAIN at QoS 2, meant for a member with the first terms, and handed on to one with the second. Gives its
/// QoS and RETAIN there.
fn handed_on(first: SubscribeOptions, second: SubscribeOptions, is_durable: bool) -> (Qos, bool) {
    let mut world = World::new();
    let publisher = world.client("p");
    let [first, second] = [("first", first), ("second", second)].map(|(name, options)| {
        let client = if is_durable {
            world.durable(name).0
        } else {
            world.client(name)
        };
        world.subscribe_with(client, SHARED, options, |_| {});
        client
    });
    world.set_reading(first, false);
    world.set_reading(second, false);
    let publish = paloma_codec::Publish {
        delivery: qos2(1),
        retain: true,
        ..message("t", "x")
    };
    world.send(publisher, publish_packet(publish));
    leave_for_good(&mut world, first);
    world.set_reading(second, true);
    let taken = world.take_all(second);
    assert_eq!((world.broker.queued(), world.store.message_count()), (0, 0));
    let [publish] = taken.as_slice() else {
        panic!("it comes once: {taken:?}");
    };
    (publish.delivery.qos(), publish.retain)
}

#[test]
fn a_message_handed_on_goes_by_the_terms_of_the_member_who_gets_it() {
    // [MQTT-4.8.2-3] [MQTT-3.8.4-8] [MQTT-3.3.1-12] [MQTT-3.3.1-13]
    for is_durable in [false, true] {
        for from in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
            for to in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
                for (keeps, kept) in [(false, false), (false, true), (true, false), (true, true)] {
                    let options = |qos, retain_as_published| SubscribeOptions {
                        retain_as_published,
                        ..SubscribeOptions::new(qos)
                    };
                    let got = handed_on(options(from, keeps), options(to, kept), is_durable);
                    assert_eq!(got, (to, kept), "from {from:?} {keeps}");
                }
            }
        }
    }
}

#[test]
fn a_message_handed_on_may_meet_a_copy_of_itself() {
    let (mut world, publisher, members) = group(1, |_| {});
    let (second, _) = world.durable("second");
    world.subscribe(second, "t", Qos::AtLeastOnce);
    world.publish_qos(publisher, "t", "x", qos1(1));
    world.subscribe(second, SHARED, Qos::AtLeastOnce);
    leave_for_good(&mut world, members[0]);
    let copies = world.publishes(second);
    assert_eq!(texts(&copies), ["x", "x"]);
    let acks = copies.iter().filter_map(acknowledgement).collect();
    world.send_all(second, acks);
    assert_eq!((world.broker.queued(), world.store.message_count()), (0, 0));
}

#[test]
fn a_message_of_a_group_that_is_gone_goes_to_no_other_group() {
    // I1
    let (mut world, publisher, members) = group(1, |_| {});
    let [leaver] = members[..] else {
        panic!("one member")
    };
    world.publish_qos(publisher, "t", "x", qos1(1));
    assert_eq!(world.payloads(leaver), ["x"]);
    world.unsubscribe(leaver, SHARED);
    let other = world.client("other");
    world.subscribe(other, "$share/h/#", Qos::ExactlyOnce);
    leave_for_good(&mut world, leaver);
    assert!(world.payloads(other).is_empty());
    assert_eq!(world.dropped(DropCause::SessionEnded), 1);
}

#[test]
fn a_message_handed_on_keeps_to_the_limit_of_a_queue_that_is_partly_in_the_store() {
    // I7
    let (mut world, publisher, members) = group(2, |config| {
        config.limits.queue_messages_max = 3;
        config.limits.queue_memory_messages_max = 1;
    });
    let [leaver, heir] = members[..] else {
        panic!("two members")
    };
    world.subscribe(heir, "u", Qos::AtLeastOnce);
    world.cut(heir);
    world.publish_qos(publisher, "t", "x", qos1(1));
    assert_eq!(world.payloads(leaver), ["x"]);
    for n in 1..=3 {
        world.publish_qos(publisher, "u", &n.to_string(), qos1(1));
    }
    leave_for_good(&mut world, leaver);
    let waiting = world.broker.session("m1").map(|session| session.waiting);
    assert_eq!(waiting, Some(3));
    assert_eq!(world.dropped(DropCause::QueueFull), 1);
    let (heir, _) = world.durable("m1");
    assert_eq!(texts(&world.take_all(heir)), ["1", "2", "3"]);
}

#[test]
fn an_absent_member_is_used_when_nobody_else_is_there() {
    let (mut world, publisher, members) = group(2, |_| {});
    world.cut(members[0]);
    for n in 1..=4 {
        world.publish_qos(publisher, "t", &n.to_string(), qos1(n));
    }
    assert_eq!(world.take_all(members[1]).len(), 4);
    world.cut(members[1]);
    for n in 5..=8 {
        world.publish_qos(publisher, "t", &n.to_string(), qos1(n));
    }
    let mut taken = Vec::new();
    for n in 0..2 {
        let (client, _) = world.durable(&format!("m{n}"));
        taken.extend(texts(&world.take_all(client)));
    }
    taken.sort();
    assert_eq!(taken, ["5", "6", "7", "8"]);
}

#[test]
fn qos_0_that_did_not_leave_goes_to_another_member() {
    let (mut world, publisher, members) = group(2, |_| {});
    world.set_reading(members[0], false);
    for n in 0..10 {
        world.publish(publisher, "t", &n.to_string());
    }
    world.cut(members[0]);
    assert_eq!(world.payloads(members[1]).len(), 10);
}

#[test]
fn a_shared_and_a_plain_subscription_end_each_alone() {
    // [MQTT-3.10.4-1] G8
    let (mut world, publisher, members) = group(1, |_| {});
    let client = members[0];
    world.subscribe(client, "t", Qos::AtMostOnce);
    assert_eq!(world.unsubscribe(client, SHARED), UnsubAckReason::Success);
    world.publish(publisher, "t", "x");
    assert_eq!(world.payloads(client).len(), 1);
    world.subscribe(client, SHARED, Qos::AtMostOnce);
    assert_eq!(world.unsubscribe(client, "t"), UnsubAckReason::Success);
    world.publish(publisher, "t", "x");
    assert_eq!(world.payloads(client).len(), 1);
    for (filter, expected) in [
        ("$share/other/t", UnsubAckReason::NoSubscriptionExisted),
        (SHARED, UnsubAckReason::Success),
        (SHARED, UnsubAckReason::NoSubscriptionExisted),
    ] {
        assert_eq!(world.unsubscribe(client, filter), expected);
    }
    assert_eq!(world.broker.tables().subscriptions, 0);
}

#[test]
fn a_shared_subscription_gets_no_retained_messages() {
    let mut world = World::new();
    let client = world.client("c");
    world.retain(client, "t", "x");
    world.subscribe(client, SHARED, Qos::AtMostOnce);
    assert!(world.publishes(client).is_empty());
}

#[test]
fn a_member_that_may_not_read_is_passed_over() {
    // D4 I4
    let rules = Arc::new(Rules::default());
    let authorizer = Arc::clone(&rules);
    let (mut world, publisher, members) = group(2, |config| config.authorizer = authorizer);
    rules.deny("m0", Action::Read, "t");
    for n in 0..10 {
        world.publish(publisher, "t", &n.to_string());
    }
    assert!(world.payloads(members[0]).is_empty());
    assert_eq!(world.payloads(members[1]).len(), 10);
    // Not even the inner filter may be subscribed to.
    let options = SubscribeOptions::new(Qos::AtMostOnce);
    let reasons = world.subscribe_with(members[0], "$share/other/t", options, |_| {});
    assert_eq!(reasons, [SubAckReason::NotAuthorized]);
    rules.deny("m1", Action::Read, "t");
    world.publish(publisher, "t", "x");
    assert_eq!(world.dropped(DropCause::NoGroupMember), 1);
}

#[test]
fn a_large_group_of_busy_members_still_takes_everything() {
    let (mut world, publisher, members) = group(200, |config| config.limits.inflight_max = 1);
    let packets = (0..600_u16).map(|n| {
        publish_packet(paloma_codec::Publish {
            delivery: qos1(n + 1),
            ..message("t", &n.to_string())
        })
    });
    let (bulk, _) = world.connect(support::v3("bulk", true));
    world.send_all(bulk, packets.collect());
    let mut taken = 0;
    for member in members {
        taken += world.take_all(member).len();
    }
    assert_eq!(taken, 600);
    let _ = publisher;
}

#[test]
fn what_is_handed_on_to_one_who_has_it_in_a_long_queue_comes_twice() {
    let mut world = World::with(|config| {
        config.limits.queue_memory_messages_max = 4;
        config.limits.inflight_max = 2;
    });
    let publisher = world.client("p");
    let (both, _) = world.durable("both");
    world.subscribe(both, "t", Qos::AtLeastOnce);
    world.subscribe(both, SHARED, Qos::AtLeastOnce);
    let member = world.client("member");
    world.subscribe(member, SHARED, Qos::AtLeastOnce);
    // Whoever is away gets what its own filter matches, half of it in the store only; the group's goes to who is there.
    world.cut(both);
    for n in 1..=8 {
        world.publish_qos(publisher, "t", &n.to_string(), qos1(n));
    }
    world.cut(member);
    let (both, _) = world.durable("both");
    let mut taken = texts(&world.take_all(both));
    taken.sort_unstable();
    let twice: Vec<_> = (1..=8)
        .flat_map(|n: u16| [n.to_string(), n.to_string()])
        .collect();
    assert_eq!(taken, twice);
    assert_eq!((world.broker.queued(), world.store.message_count()), (0, 0));
}
