//! The broker dies at every commit: clients that act on what they were told lose nothing, get nothing twice, and find
//! what they were promised.

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;

use paloma_broker::store::{Recovered, StoreOp};
use paloma_broker::{Action, BrokerConfig, DropCause, QueueWhenFull, Store};
use paloma_codec::{
    Connect, Delivery, Packet, PacketId, Publish, PublishProperties, Qos, RetainHandling,
    Subscribe, SubscribeFilter, SubscribeOptions, Unsubscribe,
};
use support::{
    Handle, Rules, World, acknowledgement, id, message, pub_ack, pub_comp, pub_rec, pub_rel,
    publish_packet, qos1, qos2, target, texts, v5, will,
};

fn durable(name: &str) -> Connect {
    Connect {
        clean_start: false,
        session_expiry_seconds: 3_600,
        ..v5(name)
    }
}

/// A client that receives, and remembers what the standard has it remember over connections and crashes of the broker.
struct Receiver {
    handle: Handle,
    /// QoS 2 ids that were not released. [MQTT-4.3.3-10]
    received: BTreeSet<PacketId>,
    taken: Vec<String>,
    /// SUBACKs that have come.
    answers: u32,
}

impl Receiver {
    fn new(world: &mut World, qos: Qos) -> Self {
        let receiver = Self::without_subscription(world);
        world.subscribe(receiver.handle, "t", qos);
        receiver
    }

    fn without_subscription(world: &mut World) -> Self {
        Self {
            handle: world.durable("receiver").0,
            received: BTreeSet::new(),
            taken: Vec::new(),
            answers: 0,
        }
    }

    fn ask(&self, world: &mut World, filter: &str, options: SubscribeOptions) {
        let target = target(filter);
        let filters = vec![SubscribeFilter { target, options }];
        world.send(
            self.handle,
            Packet::Subscribe(Subscribe::new(id(9_999), filters)),
        );
    }

    fn come_back(&mut self, world: &mut World) {
        self.handle = world.open(paloma_codec::ProtocolVersion::V5);
        world.send(self.handle, Packet::Connect(Box::new(durable("receiver"))));
    }

    /// Answers all that has come; says whether anything had.
    fn act(&mut self, world: &mut World) -> bool {
        let mut has_acted = false;
        while let Some(packet) = world.next(self.handle) {
            has_acted = true;
            match packet {
                Packet::Publish(publish) => self.take(world, &publish),
                Packet::PubRel(ack) => {
                    self.received.remove(&ack.id);
                    world.send(self.handle, pub_comp(ack.id));
                }
                Packet::ConnAck(ack) => assert!(ack.session_present),
                Packet::SubAck(_) => self.answers += 1,
                packet @ (Packet::Connect(_)
                | Packet::PubAck(_)
                | Packet::PubRec(_)
                | Packet::PubComp(_)
                | Packet::Subscribe(_)
                | Packet::Unsubscribe(_)
                | Packet::UnsubAck(_)
                | Packet::PingReq
                | Packet::PingResp
                | Packet::Disconnect(_)
                | Packet::Auth(_)) => panic!("{packet:?}"),
            }
        }
        has_acted
    }

    fn take(&mut self, world: &mut World, publish: &Publish) {
        let is_new = match publish.delivery {
            Delivery::ExactlyOnce { id, .. } => self.received.insert(id),
            Delivery::AtMostOnce | Delivery::AtLeastOnce { .. } => true,
        };
        if is_new {
            self.taken.extend(texts(std::slice::from_ref(publish)));
        }
        if let Some(answer) = acknowledgement(publish) {
            world.send(self.handle, answer);
        }
    }
}

/// What a sender waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Accepted,
    Completed,
}

/// A client that sends numbers one after another under the same packet id, and each again until it is told to stop.
struct Sender {
    handle: Handle,
    qos: Qos,
    number: u32,
    last: u32,
    step: Step,
}

impl Sender {
    fn new(world: &mut World, qos: Qos, last: u32) -> Self {
        let (handle, _) = world.durable("sender");
        Self {
            handle,
            qos,
            number: 1,
            last,
            step: Step::Accepted,
        }
    }

    fn come_back(&mut self, world: &mut World) {
        self.handle = world.open(paloma_codec::ProtocolVersion::V5);
        world.send(self.handle, Packet::Connect(Box::new(durable("sender"))));
    }

    fn publish(&mut self, world: &mut World, dup: bool) {
        let id = id(1);
        let publish = Publish {
            delivery: match self.qos {
                Qos::ExactlyOnce => Delivery::ExactlyOnce { id, dup },
                Qos::AtMostOnce | Qos::AtLeastOnce => Delivery::AtLeastOnce { id, dup },
            },
            ..message("t", &self.number.to_string())
        };
        world.send(self.handle, publish_packet(publish));
    }

    fn act(&mut self, world: &mut World) -> bool {
        let Some(packet) = world.next(self.handle) else {
            return false;
        };
        match (packet, self.step) {
            (Packet::ConnAck(ack), _) => {
                assert!(ack.session_present);
                match self.step {
                    Step::Accepted if self.number <= self.last => self.publish(world, true),
                    Step::Accepted => {}
                    Step::Completed => world.send(self.handle, pub_rel(id(1))),
                }
            }
            (Packet::PubRec(ack), Step::Accepted) => {
                assert!(!ack.reason.is_error(), "{:?}", ack.reason);
                self.step = Step::Completed;
                world.send(self.handle, pub_rel(id(1)));
            }
            (Packet::PubRec(_), Step::Completed) => {}
            (Packet::PubAck(_), Step::Accepted) | (Packet::PubComp(_), Step::Completed) => {
                self.step = Step::Accepted;
                self.number += 1;
                if self.number <= self.last {
                    self.publish(world, false);
                }
            }
            (packet, step) => panic!("{packet:?} at {step:?}"),
        }
        true
    }
}

/// Numbers on their way from a sender to a receiver; the broker dies with so many batches committed, and goes on. What the
/// last of them lets go has arrived, or is lost on the way. Gives what was taken, or nothing if there were not so many
/// batches.
fn numbers_over_a_crash(
    qos: Qos,
    (crash_after, has_arrived): (usize, bool),
    change: impl FnOnce(&mut BrokerConfig),
) -> Option<Vec<String>> {
    const LAST: u32 = 5;
    let mut world = World::with(change);
    let mut receiver = Receiver::new(&mut world, qos);
    let mut sender = Sender::new(&mut world, qos, LAST);
    world.commits = false;
    sender.publish(&mut world, false);
    let (mut committed, mut has_crashed) = (0, false);
    loop {
        let is_now = committed == crash_after && !has_crashed;
        let is_early = is_now && !has_arrived;
        if !is_early && (sender.act(&mut world) | receiver.act(&mut world)) {
            continue;
        }
        if is_now {
            has_crashed = true;
            world.crash();
            world.commits = false;
            receiver.come_back(&mut world);
            sender.come_back(&mut world);
            continue;
        }
        if world.uncommitted.is_empty() {
            break;
        }
        world.commit_one();
        committed += 1;
    }
    assert_eq!(sender.number, LAST + 1, "all are acknowledged");
    assert_eq!((world.broker.queued(), world.store.message_count()), (0, 0));
    assert!(receiver.received.is_empty());
    has_crashed.then_some(receiver.taken)
}

fn check_every_commit(qos: Qos, change: impl Fn(&mut BrokerConfig), check: impl Fn(Vec<String>)) {
    for has_arrived in [true, false] {
        let mut crashes = 0;
        while let Some(taken) = numbers_over_a_crash(qos, (crashes, has_arrived), &change) {
            check(taken);
            crashes += 1;
        }
        assert!(crashes > 10, "{crashes}");
    }
}

#[test]
fn exactly_once_stays_exactly_once_whichever_commit_was_the_last() {
    // [MQTT-4.3.3-2] [MQTT-4.3.3-4] [MQTT-4.3.3-8] [MQTT-4.3.3-11]
    let expected = ["1", "2", "3", "4", "5"];
    check_every_commit(
        Qos::ExactlyOnce,
        |_| {},
        |taken| assert_eq!(taken, expected),
    );
    // The same with a window of one and hardly a queue in memory.
    let narrow = |config: &mut BrokerConfig| {
        config.limits.inflight_max = 1;
        config.limits.queue_memory_messages_max = 1;
    };
    check_every_commit(Qos::ExactlyOnce, narrow, |taken| {
        assert_eq!(taken, expected)
    });
}

#[test]
fn at_least_once_loses_nothing_and_keeps_its_order_whichever_commit_was_the_last() {
    // [MQTT-4.3.2-2]
    check_every_commit(
        Qos::AtLeastOnce,
        |_| {},
        |mut taken| {
            let mut seen = BTreeSet::new();
            taken.retain(|text| seen.insert(text.clone()));
            assert_eq!(taken, ["1", "2", "3", "4", "5"]);
        },
    );
}

// ---- one line of the list of what is synced before what, each -----------------------------------------------------

/// A receiver of `t`, and nothing committed from here on.
fn stalled(qos: Qos) -> (World, Receiver) {
    let mut world = World::new();
    let receiver = Receiver::new(&mut world, qos);
    world.commits = false;
    (world, receiver)
}

fn finish(world: &mut World, receiver: &mut Receiver) {
    receiver.come_back(world);
    while receiver.act(world) {}
}

/// Sends a PUBLISH from a client without a session; says whether it was acknowledged.
fn publish(world: &mut World, payload: &str, delivery: Delivery) -> bool {
    let commits = std::mem::replace(&mut world.commits, true);
    let publisher = world.client("p");
    world.commits = commits;
    world.publish_qos(publisher, "t", payload, delivery);
    let packets = world.drain(publisher);
    packets
        .iter()
        .any(|packet| matches!(packet, Packet::PubAck(_) | Packet::PubRec(_)))
}

#[test]
fn what_expired_before_it_was_sent_does_not_come_behind_what_was() {
    let narrow = |config: &mut BrokerConfig| config.limits.inflight_max = 2;
    for crash_after in 0..3 {
        let mut world = World::with(narrow);
        let mut receiver = Receiver::new(&mut world, Qos::ExactlyOnce);
        let publisher = world.client("p");
        // The first two are on their way, and those behind them have their ids.
        for (number, expiry) in [(1, None), (2, None), (3, Some(10)), (4, None)] {
            let message = Publish {
                properties: PublishProperties {
                    message_expiry_seconds: expiry,
                    ..PublishProperties::default()
                },
                delivery: qos2(number),
                ..message("t", &number.to_string())
            };
            world.send(publisher, publish_packet(message));
        }
        world.advance(11);
        world.commits = false;
        for _ in 0..crash_after {
            while receiver.act(&mut world) {}
            world.commit();
        }
        while receiver.act(&mut world) {}
        world.crash();
        finish(&mut world, &mut receiver);
        assert!(receiver.taken.is_sorted(), "{:?}", receiver.taken);
        receiver.taken.retain(|text| text != "3");
        assert_eq!(receiver.taken, ["1", "2", "4"], "{crash_after}");
    }
}

/// Numbers at QoS 2, each in a turn; the large ones do not go into [`SMALL`].
fn send_numbers(world: &mut World, numbers: &[u16], large: &[u16]) {
    let publisher = world.client("p");
    for number in numbers {
        let length = if large.contains(number) { 200 } else { 1 };
        let payload = format!("{number:<length$}");
        world.publish_qos(publisher, "t", &payload, qos2(*number));
    }
}

/// A client that takes packets up to so many bytes only.
const SMALL: u32 = 100;

fn takes_only_small(receiver: &mut Receiver, world: &mut World) {
    receiver.handle = world.open(paloma_codec::ProtocolVersion::V5);
    let connect = Connect {
        maximum_packet_size: std::num::NonZeroU32::new(SMALL),
        ..durable("receiver")
    };
    world.send(receiver.handle, Packet::Connect(Box::new(connect)));
}

/// Takes what comes while so many times all that was changed is committed, and whatever comes then; then the broker dies, and
/// what is left comes to a client that takes anything.
fn die_after(world: &mut World, receiver: &mut Receiver, commits: usize) -> Vec<u32> {
    world.commits = false;
    for _ in 0..commits {
        while receiver.act(world) {}
        world.commit();
    }
    while receiver.act(world) {}
    world.crash();
    finish(world, receiver);
    let numbers = receiver.taken.iter().map(|text| text.trim().parse());
    let numbers: Vec<u32> = numbers.map(Result::unwrap).collect();
    assert!(numbers.is_sorted(), "{commits}: {numbers:?}");
    assert!(receiver.received.is_empty());
    numbers
}

#[test]
fn what_gave_way_in_a_full_queue_does_not_come_behind_what_was_sent() {
    // The queue is as long as the ids go, and longer.
    for queue_max in 1..6 {
        for crash_after in 0..8 {
            let mut world = World::with(|config| {
                config.limits.inflight_max = 3;
                config.limits.queue_messages_max = u32::from(queue_max);
                config.limits.queue_when_full = QueueWhenFull::DropOldest;
            });
            let mut receiver = Receiver::new(&mut world, Qos::ExactlyOnce);
            world.set_reading(receiver.handle, false);
            let all: Vec<u16> = (1..=queue_max).collect();
            send_numbers(&mut world, &all, &[]);
            let publisher = world.client("q");
            world.commits = false;
            let last = queue_max + 1;
            world.publish_qos(publisher, "t", &last.to_string(), qos2(last));
            world.set_reading(receiver.handle, true);
            let numbers = die_after(&mut world, &mut receiver, crash_after);
            let is_lost = numbers.len() < usize::from(queue_max);
            assert!(!is_lost, "{queue_max} {crash_after}: {numbers:?}");
        }
    }
}

#[test]
fn a_client_gets_on_while_its_full_queue_gives_way_without_end() {
    for queue_max in [2, 3, 20, 200] {
        let mut world = World::with(|config| {
            config.limits.inflight_max = 10;
            config.limits.queue_messages_max = queue_max;
            config.limits.queue_when_full = QueueWhenFull::DropOldest;
        });
        let mut receiver = Receiver::new(&mut world, Qos::ExactlyOnce);
        let publisher = world.client("p");
        world.commits = false;
        for number in 1..=3_000 {
            world.publish_qos(publisher, "t", &number.to_string(), qos2(number));
            // There is always something that was dropped and is not committed.
            while world.uncommitted.len() > 10 {
                world.commit_one();
            }
            for packet in world.drain(publisher) {
                if let Packet::PubRec(ack) = packet {
                    world.send(publisher, pub_rel(ack.id));
                }
            }
            while number % 25 == 0 && receiver.act(&mut world) {}
        }
        let numbers = receiver.taken.iter().map(|text| text.parse::<u32>());
        let numbers: Vec<_> = numbers.map(Result::unwrap).collect();
        assert!(numbers.is_sorted(), "{numbers:?}");
        let dropped = world.dropped(DropCause::QueueFull);
        assert!(dropped > 1_000, "{queue_max}: {dropped}");
        assert!(numbers.len() > 100, "{queue_max}: {}", numbers.len());
    }
}

#[test]
fn what_gives_way_for_a_client_that_is_away_is_the_oldest() {
    let mut world = World::with(|config| {
        config.limits.inflight_max = 2;
        config.limits.queue_messages_max = 4;
        config.limits.queue_when_full = QueueWhenFull::DropOldest;
    });
    let mut receiver = Receiver::new(&mut world, Qos::ExactlyOnce);
    send_numbers(&mut world, &[1, 2, 3, 4, 5, 6], &[]);
    world.cut(receiver.handle);
    send_numbers(&mut world, &[7, 8], &[]);
    finish(&mut world, &mut receiver);
    assert_eq!(receiver.taken, ["1", "2", "5", "6", "7", "8"]);
}

#[test]
fn what_was_too_large_does_not_come_behind_what_was_sent() {
    for crash_after in 0..6 {
        let mut world = World::with(|config| config.limits.inflight_max = 2);
        let mut receiver = Receiver::new(&mut world, Qos::ExactlyOnce);
        world.cut(receiver.handle);
        takes_only_small(&mut receiver, &mut world);
        send_numbers(&mut world, &[1, 2, 3, 4, 5, 6], &[3, 5]);
        let mut numbers = die_after(&mut world, &mut receiver, crash_after);
        numbers.retain(|number| ![3, 5].contains(number));
        assert_eq!(numbers, [1, 2, 4, 6], "{crash_after}");
    }
}

#[test]
fn what_is_not_to_be_sent_is_over_at_once_however_much_it_is() {
    for is_large in [false, true] {
        let mut world = World::with(|config| config.limits.queue_memory_messages_max = 1_000);
        let mut receiver = Receiver::new(&mut world, Qos::ExactlyOnce);
        world.cut(receiver.handle);
        if is_large {
            takes_only_small(&mut receiver, &mut world);
        } else {
            receiver.come_back(&mut world);
        }
        while receiver.act(&mut world) {}
        world.set_reading(receiver.handle, false);
        let publisher = world.client("p");
        for number in 1..=500 {
            let message = Publish {
                properties: PublishProperties {
                    message_expiry_seconds: (number < 500 && !is_large).then_some(10),
                    ..PublishProperties::default()
                },
                delivery: qos2(number),
                ..message(
                    "t",
                    &"x".repeat(if number < 500 && is_large { 200 } else { 1 }),
                )
            };
            world.send(publisher, publish_packet(message));
            world.send(publisher, pub_rel(id(number)));
        }
        assert_eq!(world.broker.queued(), 500);
        world.advance(11);
        world.commits = false;
        world.set_reading(receiver.handle, true);
        for _ in 0..2 {
            world.commit();
        }
        while receiver.act(&mut world) {}
        assert_eq!(receiver.taken, ["x"], "{is_large}");
    }
}

#[test]
fn what_is_too_large_to_be_sent_again_does_not_come_behind_what_was_sent() {
    for large in 3..=4 {
        for crash_after in 0..8 {
            let mut world = World::with(|config| config.limits.inflight_max = 2);
            let mut receiver = Receiver::new(&mut world, Qos::ExactlyOnce);
            send_numbers(&mut world, &[1, 2, 3, 4, 5, 6], &[large]);
            // What had its id by then counts as sent.
            world.crash();
            takes_only_small(&mut receiver, &mut world);
            let numbers = die_after(&mut world, &mut receiver, crash_after);
            let others = numbers.iter().filter(|number| **number != u32::from(large));
            assert_eq!(others.count(), 5, "{crash_after}: {numbers:?}");
        }
    }
}

#[test]
fn what_was_forbidden_when_it_was_to_be_sent_again_does_not_come_twice() {
    let rules = Arc::new(Rules::default());
    let authorizer = Arc::clone(&rules);
    let mut world = World::with(|config| config.authorizer = authorizer);
    let mut receiver = Receiver::new(&mut world, Qos::ExactlyOnce);
    send_numbers(&mut world, &[1, 2], &[]);
    // Its answers do not arrive.
    for publish in world.publishes(receiver.handle) {
        receiver.received.extend(publish.delivery.id());
        receiver.taken.extend(texts(&[publish]));
    }
    world.cut(receiver.handle);
    receiver.handle = world.open(paloma_codec::ProtocolVersion::V5);
    world.set_reading(receiver.handle, false);
    world.send(
        receiver.handle,
        Packet::Connect(Box::new(durable("receiver"))),
    );
    rules.deny("receiver", Action::Read, "t");
    world.commits = false;
    world.set_reading(receiver.handle, true);
    while receiver.act(&mut world) {}
    world.crash();
    rules.allow_all();
    finish(&mut world, &mut receiver);
    assert_eq!(receiver.taken, ["1", "2"]);
}

#[test]
fn what_was_forbidden_for_a_while_does_not_come_behind_what_was_sent() {
    for crash_after in 0..6 {
        let rules = Arc::new(Rules::default());
        let authorizer = Arc::clone(&rules);
        let mut world = World::with(|config| {
            config.limits.inflight_max = 2;
            config.authorizer = authorizer;
        });
        let mut receiver = Receiver::new(&mut world, Qos::ExactlyOnce);
        world.subscribe(receiver.handle, "u", Qos::ExactlyOnce);
        let publisher = world.client("p");
        for (number, topic) in [(1, "t"), (2, "t"), (3, "u"), (4, "t")] {
            world.publish_qos(publisher, topic, &number.to_string(), qos2(number));
        }
        world.commits = false;
        // While they are looked through, and not when the next one comes.
        rules.deny("receiver", Action::Read, "u");
        world.broker.handle_rules_changed(world.now);
        world.settle();
        while receiver.act(&mut world) {}
        rules.allow_all();
        world.broker.handle_rules_changed(world.now);
        world.settle();
        let mut numbers = die_after(&mut world, &mut receiver, crash_after);
        numbers.retain(|number| *number != 3);
        assert_eq!(numbers, [1, 2, 4], "{crash_after}");
    }
}

#[test]
fn an_acknowledged_message_is_there() {
    for (delivery, qos) in [(qos1(1), Qos::AtLeastOnce), (qos2(1), Qos::ExactlyOnce)] {
        for is_committed in [false, true] {
            let (mut world, mut receiver) = stalled(qos);
            world.cut(receiver.handle);
            world.commits = is_committed;
            let is_acknowledged = publish(&mut world, "x", delivery);
            assert_eq!(is_acknowledged, is_committed);
            world.crash();
            finish(&mut world, &mut receiver);
            assert_eq!(receiver.taken.len(), usize::from(is_acknowledged));
        }
    }
}

#[test]
fn an_id_that_a_client_knows_is_given_to_no_other_message() {
    let (mut world, mut receiver) = stalled(Qos::ExactlyOnce);
    publish(&mut world, "lost with the crash", qos2(1));
    // Whatever has come, under whichever id, is the client's from here on.
    receiver.act(&mut world);
    let before = receiver.taken.len();
    world.crash();
    assert!(publish(&mut world, "acknowledged", qos2(1)));
    finish(&mut world, &mut receiver);
    assert_eq!(receiver.taken[before..], ["acknowledged"]);
}

#[test]
fn a_message_whose_release_was_sent_is_not_sent_again() {
    let mut world = World::new();
    let mut receiver = Receiver::new(&mut world, Qos::ExactlyOnce);
    publish(&mut world, "x", qos2(1));
    world.commits = false;
    // PUBREC, and PUBCOMP if PUBREL comes.
    while receiver.act(&mut world) {}
    world.crash();
    finish(&mut world, &mut receiver);
    assert_eq!(receiver.taken, ["x"]);
    assert!(receiver.received.is_empty());
}

#[test]
fn an_id_that_was_refused_takes_the_next_message() {
    // [MQTT-4.3.3-9]
    let mut world = World::with(|config| config.limits.queue_messages_max = 1);
    let (receiver, _) = world.durable("r");
    world.subscribe(receiver, "t", Qos::ExactlyOnce);
    world.cut(receiver);
    let (publisher, _) = world.durable("p");
    world.publish_qos(publisher, "t", "one", qos2(5));
    world.publish_qos(publisher, "t", "two", qos2(6));
    let mut answers = world.drain(publisher).into_iter();
    assert!(answers.any(|packet| matches!(packet, Packet::PubRec(ack) if ack.reason.is_error())));
    world.crash();
    let (receiver, _) = world.durable("r");
    assert_eq!(texts(&world.take_all(receiver)), ["one"]);
    let (publisher, _) = world.durable("p");
    world.publish_qos(publisher, "t", "three", qos2(6));
    assert_eq!(texts(&world.take_all(receiver)), ["three"]);
}

#[test]
fn an_id_that_was_completed_takes_the_next_message() {
    let mut world = World::new();
    let mut receiver = Receiver::new(&mut world, Qos::ExactlyOnce);
    let (publisher, _) = world.durable("p");
    world.publish_qos(publisher, "t", "one", qos2(5));
    world.drain(publisher);
    world.commits = false;
    world.send(publisher, pub_rel(id(5)));
    let is_completed = !world.drain(publisher).is_empty();
    world.crash();
    let (publisher, _) = world.durable("p");
    if !is_completed {
        world.send(publisher, pub_rel(id(5)));
    }
    world.publish_qos(publisher, "t", "two", qos2(5));
    finish(&mut world, &mut receiver);
    assert_eq!(receiver.taken, ["one", "two"]);
}

#[test]
fn a_wiped_session_stays_wiped() {
    for is_committed in [false, true] {
        let (mut world, receiver) = stalled(Qos::AtLeastOnce);
        world.cut(receiver.handle);
        world.commits = true;
        publish(&mut world, "old", qos1(1));
        world.commits = is_committed;
        let client = world.open(paloma_codec::ProtocolVersion::V5);
        let wipe = Connect {
            clean_start: true,
            ..durable("receiver")
        };
        world.send(client, Packet::Connect(Box::new(wipe)));
        let is_told = !world.drain(client).is_empty();
        assert_eq!(is_told, is_committed);
        world.crash();
        let (client, ack) = world.durable("receiver");
        publish(&mut world, "new", qos1(1));
        let got = texts(&world.take_all(client));
        if is_told {
            assert!(ack.session_present, "the new session is there");
            assert_eq!(got, [""; 0], "and nothing of the old one");
        } else {
            assert_eq!(got, ["old", "new"]);
        }
    }
}

#[test]
fn a_session_that_was_announced_is_there() {
    for is_committed in [false, true] {
        let mut world = World::new();
        world.commits = is_committed;
        let client = world.open(paloma_codec::ProtocolVersion::V5);
        world.send(client, Packet::Connect(Box::new(durable("c"))));
        let is_told = !world.drain(client).is_empty();
        assert_eq!(is_told, is_committed);
        world.crash();
        assert_eq!(world.durable("c").1.session_present, is_told);
    }
}

#[test]
fn subscriptions_are_as_the_client_was_told() {
    let options = SubscribeOptions::new(Qos::AtLeastOnce);
    for (is_subscribe, is_committed) in [(true, false), (true, true), (false, false), (false, true)]
    {
        let mut world = World::new();
        let (client, _) = world.durable("receiver");
        if !is_subscribe {
            world.subscribe(client, "t", Qos::AtLeastOnce);
        }
        world.commits = is_committed;
        let target = target("t");
        let packet = if is_subscribe {
            Packet::Subscribe(Subscribe::new(
                id(1),
                vec![SubscribeFilter { target, options }],
            ))
        } else {
            Packet::Unsubscribe(Unsubscribe::new(id(1), vec![target]))
        };
        world.send(client, packet);
        let is_told = !world.drain(client).is_empty();
        assert_eq!(is_told, is_committed);
        world.crash();
        publish(&mut world, "x", qos1(1));
        let (client, _) = world.durable("receiver");
        let got = world.take_all(client).len();
        assert_eq!(got, usize::from(is_subscribe == is_told));
    }
}

#[test]
fn a_retained_message_that_was_acknowledged_is_retained() {
    for is_committed in [false, true] {
        let mut world = World::new();
        let publisher = world.client("p");
        world.commits = is_committed;
        let publish = Publish {
            retain: true,
            delivery: qos1(1),
            ..message("t", "x")
        };
        world.send(publisher, publish_packet(publish));
        let is_acknowledged = !world.drain(publisher).is_empty();
        assert_eq!(is_acknowledged, is_committed);
        world.crash();
        let client = world.client("c");
        world.subscribe(client, "t", Qos::AtMostOnce);
        assert_eq!(world.publishes(client).len(), usize::from(is_acknowledged));
    }
}

#[test]
fn a_will_that_was_taken_over_is_sent() {
    for is_committed in [false, true] {
        let (mut world, mut receiver) = stalled(Qos::AtLeastOnce);
        world.cut(receiver.handle);
        world.commits = is_committed;
        let client = world.open(paloma_codec::ProtocolVersion::V5);
        let connect = Connect {
            will: Some(paloma_codec::Will {
                qos: Qos::AtLeastOnce,
                ..will("t", "will")
            }),
            ..durable("w")
        };
        world.send(client, Packet::Connect(Box::new(connect)));
        let is_told = !world.drain(client).is_empty();
        assert_eq!(is_told, is_committed);
        world.crash();
        finish(&mut world, &mut receiver);
        assert_eq!(receiver.taken.len(), usize::from(is_told));
    }
}

// ---- very large fan-outs -----------------------------------------------------------------------------------------

const CROWD: usize = 4_200;

/// Sessions of `t` at QoS 2, all absent, and a publisher with a session.
fn crowd() -> (World, Handle) {
    let mut world = World::new();
    world.adds_up = false;
    for n in 0..CROWD {
        let (client, _) = world.durable(&format!("c{n}"));
        world.subscribe(client, "t", Qos::ExactlyOnce);
        world.cut(client);
    }
    let (publisher, _) = world.durable("p");
    (world, publisher)
}

/// Has everybody come for what waits; each has to get `expected` messages.
fn check_crowd(world: &mut World, expected: impl Fn(usize) -> usize) {
    for n in 0..CROWD {
        let (client, _) = world.durable(&format!("c{n}"));
        assert_eq!(world.take_all(client).len(), expected(n), "{n}");
        world.cut(client);
    }
    world.check_invariants();
    assert_eq!((world.broker.queued(), world.store.message_count()), (0, 0));
}

#[test]
fn a_fan_out_that_was_interrupted_reaches_everybody_once() {
    for committed in 0..3 {
        let (mut world, publisher) = crowd();
        world.commits = false;
        world.publish_qos(publisher, "t", "x", qos2(7));
        assert!(world.uncommitted.len() >= 3, "it takes several batches");
        for _ in 0..committed {
            world.commit_one();
        }
        assert!(
            world.drain(publisher).is_empty(),
            "its answer waits for the end"
        );
        let recovery = world.crash();
        assert_eq!(recovery.fan_outs, u64::from(committed > 0));
        // The publisher sends it again, and it is known or not.
        let (publisher, ack) = world.durable("p");
        assert!(ack.session_present);
        let delivery = Delivery::ExactlyOnce {
            id: id(7),
            dup: true,
        };
        world.publish_qos(publisher, "t", "x", delivery);
        let packets = world.drain(publisher);
        assert!(
            matches!(packets.as_slice(), [Packet::PubRec(_)]),
            "{packets:?}"
        );
        world.send(publisher, pub_rel(id(7)));
        check_crowd(&mut world, |_| 1);
        assert_eq!(world.crash().fan_outs, 0);
    }
}

#[test]
fn who_has_taken_a_message_before_the_crash_does_not_get_it_from_the_rest_of_its_fan_out() {
    let (mut world, publisher) = crowd();
    let (early, _) = world.durable("c0");
    world.turns_max = 1;
    world.publish_qos(publisher, "t", "x", qos2(7));
    // While the fan-out is under way, one of the first takes its copy to the end.
    let publish = world.publishes(early).remove(0);
    let packet = publish.delivery.id().unwrap();
    world.turns_max = 0;
    world.send(early, pub_rec(packet));
    world.send(early, pub_comp(packet));
    world.broker.finish_turn(world.now);
    world.turns_max = usize::MAX;
    let is_under_way = world.broker.queued() > 0;
    assert!(is_under_way);
    world.commits = true;
    let batches: Vec<_> = std::iter::from_fn(|| world.broker.poll_effect()).collect();
    for effect in batches {
        if let paloma_broker::Effect::Persist(batch) = effect {
            Store::commit(&mut world.store, &mut vec![batch]).unwrap();
        }
    }
    assert_eq!(world.crash().fan_outs, 1);
    check_crowd(&mut world, |n| usize::from(n != 0));
}

#[test]
fn acknowledgements_ride_along_and_hold_nothing_up() {
    let (mut world, receiver) = stalled(Qos::AtLeastOnce);
    // QoS 1 leaves before its commit.
    publish(&mut world, "x", qos1(1));
    let publish = world.publishes(receiver.handle).remove(0);
    world.send(receiver.handle, pub_ack(publish.delivery.id().unwrap()));
    world.commit();
    assert_eq!(world.broker.queued(), 0);
    world.crash();
    let (client, _) = world.durable("receiver");
    assert!(world.publishes(client).is_empty());
}

// ---- retained messages on their way to a new subscription -----------------------------------------------------------

const KEPT: u32 = 20;

/// A broker whose queues and windows take four messages, so that a replay takes many turns, with a retained number in each of so
/// many topics.
fn kept(qos: Qos, count: u32) -> World {
    let mut world = World::with(|config| {
        config.limits.queue_messages_max = 4;
        config.limits.inflight_max = 4;
    });
    let publisher = world.client("p");
    // Neither as they were published nor as they lie.
    for number in (0..count).rev() {
        retain(&mut world, publisher, qos, number, &number.to_string());
    }
    world
}

fn retain(world: &mut World, publisher: Handle, qos: Qos, topic: u32, payload: &str) {
    let delivery = if qos == Qos::AtLeastOnce {
        qos1(1)
    } else {
        qos2(1)
    };
    let publish = Publish {
        retain: true,
        delivery,
        ..message(&format!("t/{topic:05}"), payload)
    };
    world.send(publisher, publish_packet(publish));
    if qos == Qos::ExactlyOnce {
        world.send(publisher, pub_rel(id(1)));
    }
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

/// What the store says of replays that have not come to their end.
fn marks(world: &World) -> Vec<String> {
    let mut marks = Vec::new();
    let mut store = world.store.clone();
    let recovered = store.recover(&mut |recovered| {
        if let Recovered::Subscription(_, record) = recovered {
            marks.extend(record.replay_after.map(String::from));
        }
    });
    recovered.expect("a store in memory can always be read");
    marks
}

fn drop_repeated(mut taken: Vec<String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    taken.retain(|text| seen.insert(text.clone()));
    taken
}

/// Subscribes to what is retained, through a crash after so many batches. Gives what was taken, and how often the client had
/// to subscribe, or nothing if there were not so many batches.
fn replay_over_a_crash(
    qos: Qos,
    (crash_after, has_arrived): (usize, bool),
) -> Option<(Vec<String>, u32)> {
    let mut world = kept(qos, KEPT);
    let mut receiver = Receiver::without_subscription(&mut world);
    world.commits = false;
    let options = SubscribeOptions::new(qos);
    receiver.ask(&mut world, "t/+", options);
    let (mut committed, mut asked, mut has_crashed) = (0, 1, false);
    loop {
        let is_now = committed == crash_after && !has_crashed;
        let is_early = is_now && !has_arrived;
        if !is_early && receiver.act(&mut world) {
            continue;
        }
        if is_now {
            has_crashed = true;
            world.crash();
            world.commits = false;
            receiver.come_back(&mut world);
            if receiver.answers == 0 {
                asked += 1;
                receiver.ask(&mut world, "t/+", options);
            }
            continue;
        }
        if world.uncommitted.is_empty() {
            break;
        }
        world.commit_one();
        committed += 1;
    }
    assert!(marks(&world).is_empty(), "it has come to its end");
    assert_eq!((world.broker.queued(), world.store.message_count()), (0, 0));
    has_crashed.then_some((receiver.taken, asked))
}

#[test]
fn retained_messages_reach_a_new_subscription_whichever_commit_was_the_last() {
    // [MQTT-3.3.1-9]
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
        for has_arrived in [true, false] {
            let mut crashes = 0;
            while let Some((taken, asked)) = replay_over_a_crash(qos, (crashes, has_arrived)) {
                let is_exact = qos == Qos::ExactlyOnce && asked == 1;
                let taken = if is_exact {
                    taken
                } else {
                    drop_repeated(taken)
                };
                let is_same = taken == numbers(0..KEPT);
                assert!(is_same, "{qos:?} {crashes} {has_arrived}: {taken:?}");
                crashes += 1;
            }
            assert!(crashes > 10, "{crashes}");
        }
    }
}

/// A subscription at QoS 2 of which a part was taken and all that was committed.
fn half_done() -> (World, Receiver) {
    let mut world = kept(Qos::ExactlyOnce, KEPT);
    let mut receiver = Receiver::without_subscription(&mut world);
    receiver.ask(&mut world, "t/+", SubscribeOptions::new(Qos::ExactlyOnce));
    while receiver.taken.len() < 8 {
        let Some(packet) = world.next(receiver.handle) else {
            break;
        };
        if let Packet::Publish(publish) = &packet {
            receiver.take(&mut world, publish);
        } else if let Packet::PubRel(ack) = &packet {
            receiver.received.remove(&ack.id);
            world.send(receiver.handle, pub_comp(ack.id));
        }
    }
    assert_eq!(receiver.taken, numbers(0..8));
    assert_eq!(marks(&world).len(), 1);
    (world, receiver)
}

#[test]
fn a_client_that_left_in_the_middle_gets_the_rest_after_a_crash() {
    let (mut world, mut receiver) = half_done();
    world.cut(receiver.handle);
    for _ in 0..2 {
        world.crash();
    }
    finish(&mut world, &mut receiver);
    assert_eq!(receiver.taken, numbers(0..KEPT));
}

#[test]
fn what_changed_meanwhile_comes_as_it_is_and_what_was_cleared_does_not() {
    let (mut world, mut receiver) = half_done();
    world.cut(receiver.handle);
    world.crash();
    let publisher = world.client("p");
    retain(&mut world, publisher, Qos::ExactlyOnce, 18, "");
    retain(&mut world, publisher, Qos::ExactlyOnce, 19, "new");
    finish(&mut world, &mut receiver);
    let mut expected = numbers(0..18);
    // What was published to the subscription is its own, and waits in front of what is read later.
    let retained = receiver.taken.iter().filter(|text| !text.is_empty());
    let retained: Vec<_> = retained.cloned().collect();
    assert_eq!(retained.iter().filter(|text| *text == "new").count(), 2);
    expected.push("new".to_owned());
    let mut all: Vec<_> = drop_repeated(retained);
    all.sort_by_key(|text| text.parse::<u32>().unwrap_or(u32::MAX));
    assert_eq!(all, expected);
}

#[test]
fn an_unsubscription_ends_what_is_on_its_way_for_good() {
    let (mut world, mut receiver) = half_done();
    let unsubscribe = Unsubscribe::new(id(2), vec![target("t/+")]);
    world.send(receiver.handle, Packet::Unsubscribe(unsubscribe));
    assert!(marks(&world).is_empty());
    world.crash();
    finish(&mut world, &mut receiver);
    // What was queued by then is the client's.
    assert!(receiver.taken.len() <= 16, "{:?}", receiver.taken);
}

#[test]
fn a_subscription_that_replaces_another_has_the_rest_sent_by_its_own_terms() {
    for handling in [RetainHandling::SendIfNew, RetainHandling::DoNotSend] {
        let (mut world, mut receiver) = half_done();
        let options = SubscribeOptions {
            retain_handling: handling,
            ..SubscribeOptions::new(Qos::AtLeastOnce)
        };
        receiver.ask(&mut world, "t/+", options);
        assert_eq!(marks(&world).len(), 1);
        world.crash();
        receiver.come_back(&mut world);
        let mut last = None;
        while let Some(packet) = world.next(receiver.handle) {
            if let Packet::Publish(publish) = &packet {
                last = Some(publish.delivery.qos());
                receiver.take(&mut world, publish);
            } else if let Packet::PubRel(ack) = &packet {
                world.send(receiver.handle, pub_comp(ack.id));
            }
        }
        assert_eq!(drop_repeated(receiver.taken), numbers(0..KEPT));
        assert_eq!(last, Some(Qos::AtLeastOnce));
    }
}

#[test]
fn a_subscription_to_what_one_turn_can_send_costs_the_store_no_mark() {
    let mut world = kept(Qos::AtLeastOnce, 3);
    let receiver = Receiver::without_subscription(&mut world);
    world.commits = false;
    receiver.ask(&mut world, "t/+", SubscribeOptions::new(Qos::AtLeastOnce));
    let ops = world.uncommitted.iter().flat_map(|batch| &batch.ops);
    let puts = ops.filter(|op| matches!(op, StoreOp::PutSubscription(..)));
    assert_eq!(puts.count(), 1);
}

#[test]
fn more_retained_messages_than_a_part_come_once_each_in_the_order_of_their_topics() {
    const MANY: u32 = 10_000;
    let mut world = kept(Qos::AtLeastOnce, MANY);
    let mut receiver = Receiver::without_subscription(&mut world);
    receiver.ask(&mut world, "#", SubscribeOptions::new(Qos::AtLeastOnce));
    while receiver.act(&mut world) {}
    assert!(
        receiver.taken == numbers(0..MANY),
        "{}",
        receiver.taken.len()
    );
    assert!(marks(&world).is_empty());
}
