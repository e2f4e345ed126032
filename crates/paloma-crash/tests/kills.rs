//! What a killed broker owes its clients, one thing at a time: the real binary, and clients that look at every packet.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test all through: a panic is how it reports"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use paloma_crash::process::{Server, ServerSpec};
use paloma_interop::broker::paloma;
use paloma_interop::peer::Version::V5;
use paloma_interop::raw::{Publish, RawClient};
use paloma_interop::wire::{self, Connect};

fn spec(name: &str) -> ServerSpec {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kills-{name}"));
    let _ = fs::remove_dir_all(&directory);
    ServerSpec::new(paloma(), &directory, "ack")
}

/// Connects a durable client, whose session is there or not.
fn durable(server: &Server, name: &str, is_present: bool) -> RawClient {
    let connect = Connect::persistent(V5, name);
    let (client, present) = RawClient::connect_as(server.address(), V5, &connect);
    assert_eq!(present, is_present, "session of {name}");
    client
}

fn killed(server: Server, spec: &ServerSpec) -> Server {
    server.kill();
    Server::start(spec)
}

#[test]
fn what_was_on_its_way_to_a_client_comes_again_with_dup() {
    // [MQTT-3.3.1-1] [MQTT-4.4.0-1]
    let spec = spec("dup");
    let mut server = Server::start(&spec);
    let mut subscriber = durable(&server, "subscriber", false);
    assert_eq!(subscriber.subscribe(&[("one", 1), ("two", 2)]), [1, 2]);
    let mut publisher = RawClient::connect(server.address(), V5, "publisher");
    publisher.publish_fully(1, 1, "one", b"at least once");
    publisher.publish_fully(2, 2, "two", b"exactly once");
    let before = [subscriber.unacknowledged(), subscriber.unacknowledged()];
    assert!(before.iter().all(|publish| !publish.dup));
    let id_of = |publishes: &[Publish], topic: &str| {
        let mut found = publishes.iter().filter(|publish| publish.topic == topic);
        found.next().map(|publish| publish.id)
    };
    for _ in 0..2 {
        server = killed(server, &spec);
        let mut subscriber = durable(&server, "subscriber", true);
        let again = [subscriber.unacknowledged(), subscriber.unacknowledged()];
        assert!(again.iter().all(|publish| publish.dup), "{again:?}");
        assert_eq!(id_of(&again, "two"), id_of(&before, "two"));
        assert!(id_of(&again, "one").is_some());
    }
    // What comes after it is new.
    let mut publisher = RawClient::connect(server.address(), V5, "publisher");
    publisher.publish_fully(1, 1, "one", b"new");
    let mut subscriber = durable(&server, "subscriber", true);
    let all: BTreeMap<Vec<u8>, bool> = (0..3)
        .map(|_| subscriber.message())
        .map(|publish| (publish.payload, publish.dup))
        .collect();
    let expected = [
        (&b"at least once"[..], true),
        (b"exactly once", true),
        (b"new", false),
    ];
    let expected = expected.map(|(payload, dup)| (payload.to_vec(), dup));
    assert_eq!(all, BTreeMap::from(expected));
    assert!(server.terminate().success());
}

#[test]
fn what_waited_for_a_client_that_had_left_comes_for_the_first_time() {
    let spec = spec("first");
    let server = Server::start(&spec);
    let mut subscriber = durable(&server, "subscriber", false);
    assert_eq!(subscriber.subscribe(&[("t", 1)]), [1]);
    subscriber.leave();
    let mut publisher = RawClient::connect(server.address(), V5, "publisher");
    publisher.publish_fully(1, 1, "t", b"x");
    let server = killed(server, &spec);
    let publish = durable(&server, "subscriber", true).message();
    assert_eq!((&publish.payload[..], publish.dup), (&b"x"[..], false));
    assert!(server.terminate().success());
}

#[test]
fn retained_messages_that_a_new_subscription_has_to_bring_come_after_the_kill() {
    // [MQTT-3.3.1-9]
    const TOPICS: u16 = 600;
    let spec = spec("retained");
    let server = Server::start(&spec);
    let mut publisher = RawClient::connect(server.address(), V5, "publisher");
    for number in 1..=TOPICS {
        let topic = format!("kept/{number}");
        let block = wire::empty_properties(V5);
        let packet = wire::publish_with(&block, 0x33, number, topic.as_bytes(), b"x");
        publisher.send(&packet);
        assert_eq!(publisher.frame().id(), number);
    }
    // It gets SUBACK and acknowledges nothing, so that only a part is under way.
    let mut subscriber = durable(&server, "subscriber", false);
    assert_eq!(subscriber.subscribe(&[("kept/+", 1)]), [1]);
    let server = killed(server, &spec);
    let mut subscriber = durable(&server, "subscriber", true);
    let mut missing: BTreeSet<String> = (1..=TOPICS).map(|n| format!("kept/{n}")).collect();
    while !missing.is_empty() {
        let publish = subscriber.message();
        assert!(publish.retain && publish.qos == 1, "{publish:?}");
        missing.remove(&publish.topic);
    }
    assert!(server.terminate().success());
}
