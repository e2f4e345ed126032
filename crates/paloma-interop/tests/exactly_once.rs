//! QoS 1 and 2 byte by byte: replays, lost acknowledgements, packet identifiers, windows.

use std::collections::BTreeSet;

use paloma_interop::broker::{Broker, skips_other_brokers};
use paloma_interop::peer::Version::{self, V5, V311};
use paloma_interop::raw::{Publish, RawClient};
use paloma_interop::wire::{self, Connect, PUBACK, PUBCOMP, PUBREC, PUBREL};

/// Runs `test` in both versions, each with a broker of its own.
fn check(limits: &[(&str, u64)], test: impl Fn(&Broker, Version)) {
    for version in Version::ALL {
        let broker = Broker::with_limits(limits);
        test(&broker, version);
        broker.stop();
    }
}

fn subscriber(broker: &Broker, version: Version, filter: &str, qos: u8) -> RawClient {
    let mut subscriber = RawClient::connect(broker.address(), version, "subscriber");
    assert_eq!(subscriber.subscribe(&[(filter, qos), ("end", 2)]), [qos, 2]);
    subscriber
}

/// The payloads of all messages until the one on `end`, which `publisher` sends for it.
fn payloads(publisher: &mut RawClient, subscriber: &mut RawClient) -> Vec<Vec<u8>> {
    publisher.publish_fully(1, 999, "end", b"");
    let mut payloads = Vec::new();
    loop {
        let message = subscriber.message();
        if message.topic == "end" {
            return payloads;
        }
        payloads.push(message.payload);
    }
}

fn duplicate(version: Version, qos: u8, id: u16, topic: &str, payload: &[u8]) -> Vec<u8> {
    let block = wire::empty_properties(version);
    wire::publish_with(&block, 0x38 | qos << 1, id, topic.as_bytes(), payload)
}

fn resume(broker: &Broker, version: Version, client_id: &str) -> RawClient {
    let connect = Connect::persistent(version, client_id);
    let (client, present) = RawClient::connect_as(broker.address(), version, &connect);
    assert!(present, "the session of {client_id} is there");
    client
}

fn persistent(broker: &Broker, version: Version, client_id: &str) -> RawClient {
    let connect = Connect::persistent(version, client_id);
    let (client, present) = RawClient::connect_as(broker.address(), version, &connect);
    assert!(!present, "no session of {client_id} yet");
    client
}

#[test]
fn five_thousand_publishes_in_one_write_arrive_once() {
    if skips_other_brokers("it delivers fewer than it acknowledges") {
        return;
    }
    const COUNT: u16 = 5_000;
    let roomy = [("queue_messages_max", 20_000)];
    let broker = Broker::with_limits(&roomy);
    for version in Version::ALL {
        let mut subscriber = subscriber(&broker, version, "flood", 2);
        let mut publisher = RawClient::connect(broker.address(), V311, "publisher");
        let each = |make: &dyn Fn(u16) -> Vec<u8>| (1..=COUNT).flat_map(make).collect::<Vec<u8>>();
        publisher.send(&each(&|id| {
            wire::publish(V311, 2, id, "flood", &id.to_be_bytes())
        }));
        for id in 1..=COUNT {
            publisher.skip_to(PUBREC, id);
        }
        publisher.send(&each(&|id| wire::ack(PUBREL, id)));
        for id in 1..=COUNT {
            publisher.skip_to(PUBCOMP, id);
        }
        let received = payloads(&mut publisher, &mut subscriber);
        let expected: Vec<Vec<u8>> = (1..=COUNT).map(|id| id.to_be_bytes().to_vec()).collect();
        assert!(
            received == expected,
            "{} of {COUNT} in order",
            received.len()
        );
    }
    broker.stop();
}

#[test]
fn each_of_65_535_open_exchanges_gets_its_answer() {
    let broker = Broker::with_limits(&[("queue_messages_max", 100_000)]);
    let mut publisher = RawClient::connect(broker.address(), V311, "publisher");
    for id in 1..=u16::MAX {
        publisher.send(&wire::publish(V311, 2, id, "nobody", b""));
        if id % 500 == 0 {
            publisher.skip_to(PUBREC, id);
        }
    }
    publisher.skip_to(PUBREC, u16::MAX);
    for id in (1..=u16::MAX).rev() {
        publisher.send(&wire::ack(PUBREL, id));
        if id % 500 == 0 {
            publisher.skip_to(PUBCOMP, id);
        }
    }
    publisher.skip_to(PUBCOMP, 1);
    broker.stop();
}

#[test]
fn a_replayed_publish_is_answered_and_delivered_once() {
    if skips_other_brokers("it closes the connection on a replay") {
        return;
    }
    check(&[], |broker, version| {
        let mut subscriber = subscriber(broker, version, "replay", 2);
        let mut publisher = persistent(broker, version, "publisher");
        publisher.publish(2, 7, "replay", b"once");
        publisher.skip_to(PUBREC, 7);
        for _ in 0..3 {
            publisher.send(&duplicate(version, 2, 7, "replay", b"once"));
            publisher.skip_to(PUBREC, 7);
        }
        drop(publisher);
        let mut publisher = resume(broker, version, "publisher");
        publisher.send(&duplicate(version, 2, 7, "replay", b"once"));
        publisher.skip_to(PUBREC, 7);
        publisher.send(&wire::ack(PUBREL, 7));
        publisher.skip_to(PUBCOMP, 7);
        assert_eq!(
            payloads(&mut publisher, &mut subscriber),
            [b"once"],
            "{version:?}"
        );
        // Released, the identifier stands for a new message.
        publisher.publish_fully(2, 7, "replay", b"another");
        assert_eq!(
            payloads(&mut publisher, &mut subscriber),
            [b"another"],
            "{version:?}"
        );
    });
}

#[test]
fn a_duplicate_that_was_never_seen_is_delivered() {
    check(&[], |broker, version| {
        let mut subscriber = subscriber(broker, version, "unseen", 2);
        let mut publisher = RawClient::connect(broker.address(), version, "publisher");
        publisher.send(&duplicate(version, 1, 1, "unseen", b"at least once"));
        publisher.skip_to(PUBACK, 1);
        publisher.send(&duplicate(version, 2, 2, "unseen", b"exactly once"));
        publisher.skip_to(PUBREC, 2);
        publisher.send(&wire::ack(PUBREL, 2));
        publisher.skip_to(PUBCOMP, 2);
        let received = payloads(&mut publisher, &mut subscriber);
        assert_eq!(
            received,
            [b"at least once".to_vec(), b"exactly once".to_vec()],
            "{version:?}"
        );
    });
}

#[test]
fn a_message_without_its_pubrec_is_sent_again_with_dup_and_the_same_identifier() {
    check(&[], |broker, version| {
        let mut publisher = RawClient::connect(broker.address(), version, "publisher");
        for qos in 1..=2 {
            let name = format!("sleeper-{qos}");
            let mut sleeper = persistent(broker, version, &name);
            sleeper.subscribe(&[("again", qos)]);
            publisher.publish_fully(qos, 1, "again", b"first");
            let first = sleeper.unacknowledged();
            assert!(!first.dup);
            sleeper.leave();
            publisher.publish_fully(qos, 2, "again", b"second");
            let mut sleeper = resume(broker, version, &name);
            let again = sleeper.unacknowledged();
            assert_eq!(
                again,
                Publish {
                    dup: true,
                    ..first.clone()
                },
                "{version:?}"
            );
            let second = sleeper.unacknowledged();
            assert_eq!(
                (second.payload.as_slice(), second.dup),
                (&b"second"[..], false)
            );
            assert_ne!(
                second.id, first.id,
                "an identifier in flight is not used again"
            );
        }
    });
}

#[test]
fn an_owed_pubrel_is_sent_again_and_its_publish_is_not() {
    check(&[], |broker, version| {
        let mut publisher = RawClient::connect(broker.address(), version, "publisher");
        let mut sleeper = persistent(broker, version, "sleeper");
        sleeper.subscribe(&[("owed", 2), ("end", 1)]);
        publisher.publish_fully(2, 1, "owed", b"once");
        let first = sleeper.unacknowledged();
        sleeper.send(&wire::ack(PUBREC, first.id));
        sleeper.skip_to(PUBREL, first.id);
        drop(sleeper);
        for _ in 0..2 {
            let mut sleeper = resume(broker, version, "sleeper");
            let frame = sleeper.frame();
            assert_eq!((frame.first, frame.id()), (PUBREL, first.id), "{version:?}");
            drop(sleeper);
        }
        let mut sleeper = resume(broker, version, "sleeper");
        sleeper.skip_to(PUBREL, first.id);
        sleeper.send(&wire::ack(PUBCOMP, first.id));
        assert_eq!(
            payloads(&mut publisher, &mut sleeper),
            [[0_u8; 0]; 0],
            "{version:?}"
        );
        drop(sleeper);
        let mut sleeper = resume(broker, version, "sleeper");
        assert_eq!(
            payloads(&mut publisher, &mut sleeper),
            [[0_u8; 0]; 0],
            "{version:?}"
        );
    });
}

#[test]
fn identifiers_in_flight_are_never_used_again_after_a_resume() {
    const WINDOW: usize = 20;
    let limits = [
        ("inflight_max", WINDOW as u64),
        ("queue_messages_max", 1_000),
    ];
    if skips_other_brokers("its window is another") {
        return;
    }
    check(&limits, |broker, version| {
        let mut publisher = RawClient::connect(broker.address(), version, "publisher");
        let mut sleeper = persistent(broker, version, "sleeper");
        sleeper.subscribe(&[("ids", 2)]);
        for number in 0..200_u16 {
            let qos = if number % 2 == 0 { 1 } else { 2 };
            publisher.publish_fully(qos, 1 + number, "ids", &number.to_be_bytes());
        }
        let mut received = BTreeSet::new();
        while received.len() < 200 {
            // Takes a window, acknowledges part of it, and leaves.
            let mut open: Vec<Publish> = Vec::new();
            while open.len() < WINDOW.min(200 - received.len()) {
                let frame = sleeper.frame();
                if frame.first == PUBREL {
                    sleeper.send(&wire::ack(PUBCOMP, frame.id()));
                } else if let Some(publish) = frame.publish(version) {
                    assert!(
                        open.iter().all(|other| other.id != publish.id),
                        "{publish:?}"
                    );
                    open.push(publish);
                }
            }
            for publish in open.iter().take(WINDOW / 2) {
                received.insert(publish.payload.clone());
                let ack = if publish.qos == 1 { PUBACK } else { PUBREC };
                sleeper.send(&wire::ack(ack, publish.id));
            }
            sleeper.ping();
            drop(sleeper);
            sleeper = resume(broker, version, "sleeper");
        }
    });
}

#[test]
fn an_unknown_pubrel_is_answered() {
    check(&[], |broker, version| {
        let mut client = RawClient::connect(broker.address(), version, "client");
        client.send(&wire::ack(PUBREL, 77));
        let frame = client.frame();
        assert_eq!((frame.first, frame.id()), (PUBCOMP, 77));
        if version == V5 && !skips_other_brokers("its reason code may be success") {
            assert_eq!(frame.ack_reason(), 0x92);
        }
    });
}

#[test]
fn a_receiver_gets_no_more_than_its_receive_maximum() {
    if skips_other_brokers("it may send one too many") {
        return;
    }
    let broker = Broker::start();
    let mut connect = Connect::new(V5, "narrow");
    connect.properties = wire::properties(&[&[0x21, 0, 3]]);
    let (mut narrow, _) = RawClient::connect_as(broker.address(), V5, &connect);
    narrow.subscribe(&[("window", 2)]);
    let mut publisher = RawClient::connect(broker.address(), V311, "publisher");
    for number in 1..=9_u8 {
        publisher.publish_fully(1 + number % 2, number.into(), "window", &[number]);
    }
    // Each PINGRESP says that nothing more came before it.
    let mut numbers = Vec::new();
    let mut open = std::collections::VecDeque::new();
    while numbers.len() < 9 {
        narrow.send(&wire::PINGREQ);
        loop {
            let frame = narrow.frame();
            if frame.first == 0xD0 {
                break;
            }
            if frame.first == PUBREL {
                open.retain(|message: &Publish| message.id != frame.id());
                narrow.send(&wire::ack(PUBCOMP, frame.id()));
            } else if let Some(message) = frame.publish(V5) {
                numbers.push(message.payload[0]);
                open.push_back(message);
                assert!(open.len() <= 3, "{open:?}");
            }
        }
        if let Some(message) = open.iter().find(|message| message.qos == 1).cloned() {
            narrow.send(&wire::ack(PUBACK, message.id));
            open.retain(|other| other.id != message.id);
        } else if let Some(message) = open.front() {
            narrow.send(&wire::ack(PUBREC, message.id));
        }
    }
    assert_eq!(numbers, (1..=9).collect::<Vec<u8>>());
    broker.stop();
}

#[test]
fn a_message_larger_than_the_receiver_takes_is_dropped_and_its_exchange_completed() {
    let broker = Broker::start();
    let mut connect = Connect::new(V5, "small");
    connect.properties = wire::properties(&[&[0x27, 0, 0, 0, 64]]);
    let (mut small, _) = RawClient::connect_as(broker.address(), V5, &connect);
    small.subscribe(&[("size", 2), ("end", 1)]);
    let mut publisher = RawClient::connect(broker.address(), V5, "publisher");
    publisher.publish_fully(1, 1, "size", &[b'x'; 100]);
    publisher.publish_fully(2, 2, "size", &[b'x'; 100]);
    publisher.publish_fully(1, 3, "size", b"fits");
    assert_eq!(payloads(&mut publisher, &mut small), [b"fits"]);
    broker.stop();
}

#[test]
fn a_clean_start_never_gets_the_old_queue() {
    check(&[], |broker, version| {
        let mut publisher = RawClient::connect(broker.address(), version, "publisher");
        let mut sleeper = persistent(broker, version, "sleeper");
        sleeper.subscribe(&[("old", 1), ("end", 1)]);
        sleeper.leave();
        publisher.publish_fully(1, 1, "old", b"old");
        let mut connect = Connect::persistent(version, "sleeper");
        connect.flags |= 0x02;
        let (mut sleeper, present) = RawClient::connect_as(broker.address(), version, &connect);
        assert!(!present);
        sleeper.subscribe(&[("old", 1), ("end", 1)]);
        assert_eq!(
            payloads(&mut publisher, &mut sleeper),
            [[0_u8; 0]; 0],
            "{version:?}"
        );
    });
}

#[test]
fn what_a_leaving_member_has_not_acknowledged_goes_to_another_once() {
    if skips_other_brokers("it hands nothing on") {
        return;
    }
    let broker = Broker::start();
    let filter = [("$share/crew/work", 1), ("end", 1)];
    let mut leaving = RawClient::connect(broker.address(), V5, "leaving");
    leaving.subscribe(&filter);
    let mut publisher = RawClient::connect(broker.address(), V5, "publisher");
    for number in 1..=5_u8 {
        publisher.publish_fully(1, number.into(), "work", &[number]);
        leaving.unacknowledged();
    }
    let mut staying = RawClient::connect(broker.address(), V5, "staying");
    staying.subscribe(&filter);
    leaving.send(&wire::DISCONNECT);
    leaving.until_end();
    let mut received: Vec<u8> = (0..5).map(|_| staying.message().payload[0]).collect();
    received.sort_unstable();
    assert_eq!(received, [1, 2, 3, 4, 5]);
    assert_eq!(payloads(&mut publisher, &mut staying), [[0_u8; 0]; 0]);
    broker.stop();
}
