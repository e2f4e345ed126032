//! Wills on the wire: never early, never twice, never after DISCONNECT.

use std::time::{Duration, Instant};

use paloma_interop::broker::{Broker, skips_other_brokers};
use paloma_interop::peer::Version::{self, V5};
use paloma_interop::raw::RawClient;
use paloma_interop::wire::{self, Connect};

const TOPIC: &str = "will/mortal";

/// A 5.0 CONNECT with a session expiry and a will with a delay, both in seconds.
fn mortal(expiry: u8, delay: u8) -> Connect {
    let mut connect = Connect::new(V5, "mortal");
    connect.flags = 0x04 | 1 << 3;
    connect.properties = wire::properties(&[&[0x11, 0, 0, 0, expiry]]);
    connect.rest = wire::properties(&[&[0x18, 0, 0, 0, delay]]);
    connect
        .rest
        .extend([wire::string(TOPIC), wire::string("gone")].concat());
    connect
}

fn witness(broker: &Broker) -> RawClient {
    let mut witness = RawClient::connect(broker.address(), V5, "witness");
    assert_eq!(witness.subscribe(&[("will/#", 1)]), [1]);
    witness
}

/// Asserts that the witness has got nothing so far: whatever was sent to it stands before the mark.
fn assert_nothing(broker: &Broker, witness: &mut RawClient) {
    let mut publisher = RawClient::connect(broker.address(), V5, "publisher");
    publisher.publish_fully(1, 1, "will/mark", b"");
    let message = witness.message();
    assert_eq!(message.topic, "will/mark", "{message:?}");
}

fn assert_will(witness: &mut RawClient) {
    let message = witness.message();
    assert_eq!(
        (message.topic.as_str(), message.payload.as_slice()),
        (TOPIC, &b"gone"[..])
    );
}

#[test]
fn a_delayed_will_is_never_early() {
    let broker = Broker::start();
    let mut witness = witness(&broker);
    let (client, _) = RawClient::connect_as(broker.address(), V5, &mortal(100, 2));
    let cut = Instant::now();
    client.leave();
    assert_nothing(&broker, &mut witness);
    assert_will(&mut witness);
    assert!(
        cut.elapsed() >= Duration::from_secs(2),
        "after {:?}",
        cut.elapsed()
    );
    broker.stop();
}

#[test]
fn a_will_comes_with_the_end_of_the_session_if_that_is_before_its_delay() {
    let broker = Broker::start();
    let mut witness = witness(&broker);
    let (client, _) = RawClient::connect_as(broker.address(), V5, &mortal(1, 100));
    let cut = Instant::now();
    client.leave();
    assert_will(&mut witness);
    assert!(
        cut.elapsed() >= Duration::from_secs(1),
        "after {:?}",
        cut.elapsed()
    );
    broker.stop();
}

#[test]
fn a_client_that_comes_back_within_the_delay_keeps_its_will_to_itself() {
    let broker = Broker::start();
    let mut witness = witness(&broker);
    let (client, _) = RawClient::connect_as(broker.address(), V5, &mortal(100, 100));
    client.leave();
    let (mut client, present) = RawClient::connect_as(broker.address(), V5, &mortal(100, 0));
    assert!(present);
    assert_nothing(&broker, &mut witness);
    // The will of the second connection, which has no delay, is the one that counts.
    client.finish();
    client.until_end();
    assert_will(&mut witness);
    assert_nothing(&broker, &mut witness);
    broker.stop();
}

#[test]
fn a_clean_start_ends_the_session_and_publishes_its_delayed_will() {
    if skips_other_brokers("it forgets that will") {
        return;
    }
    let broker = Broker::start();
    let mut witness = witness(&broker);
    let (client, _) = RawClient::connect_as(broker.address(), V5, &mortal(100, 100));
    client.leave();
    assert_nothing(&broker, &mut witness);
    let _client = RawClient::connect(broker.address(), V5, "mortal");
    assert_will(&mut witness);
    broker.stop();
}

#[test]
fn a_silent_client_is_given_one_and_a_half_times_its_keep_alive() {
    for version in Version::ALL {
        let broker = Broker::start();
        let mut witness = witness(&broker);
        let mut connect = Connect::new(version, "silent").with_will(TOPIC, "gone", 1);
        connect.keep_alive = 1;
        let before = Instant::now();
        let (mut client, _) = RawClient::connect_as(broker.address(), version, &connect);
        let frames = client.until_end();
        assert!(
            before.elapsed() >= Duration::from_millis(1_500),
            "after {:?}",
            before.elapsed()
        );
        if version == V5 && !skips_other_brokers("it may close without a word") {
            assert_eq!(
                frames.last().and_then(|last| last.disconnect_reason()),
                Some(0x8D)
            );
        }
        assert_will(&mut witness);
        broker.stop();
    }
}

#[test]
fn a_client_that_pings_is_not_silent() {
    let broker = Broker::start();
    let mut connect = Connect::new(V5, "pinging").with_will(TOPIC, "gone", 1);
    connect.keep_alive = 1;
    let mut witness = witness(&broker);
    let (mut client, _) = RawClient::connect_as(broker.address(), V5, &connect);
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        client.ping();
        std::thread::sleep(Duration::from_millis(300));
    }
    assert_nothing(&broker, &mut witness);
    broker.stop();
}

#[test]
fn disconnect_discards_the_will_unless_it_asks_for_it() {
    for version in Version::ALL {
        let broker = Broker::start();
        let mut witness = witness(&broker);
        let connect = Connect::new(version, "polite").with_will(TOPIC, "gone", 1);
        let (mut client, _) = RawClient::connect_as(broker.address(), version, &connect);
        client.send(&wire::DISCONNECT);
        assert_eq!(client.until_end(), []);
        assert_nothing(&broker, &mut witness);
        if version == V5 {
            let (mut client, _) = RawClient::connect_as(broker.address(), version, &connect);
            client.send(&wire::packet(0xE0, &[4]));
            assert_eq!(client.until_end(), []);
            assert_will(&mut witness);
        }
        broker.stop();
    }
}

#[test]
fn a_violation_publishes_the_will() {
    for version in Version::ALL {
        let broker = Broker::start();
        let mut witness = witness(&broker);
        let connect = Connect::new(version, "wrong").with_will(TOPIC, "gone", 1);
        let (mut client, _) = RawClient::connect_as(broker.address(), version, &connect);
        client.send(&wire::packet(0x36, b"\0\x01a\0\x01"));
        client.until_end();
        assert_will(&mut witness);
        broker.stop();
    }
}

#[test]
fn a_refused_connect_has_no_will() {
    let broker = Broker::start();
    let mut witness = witness(&broker);
    let mut connect = Connect::new(V5, "refused").with_will(TOPIC, "gone", 1);
    // Reserved flag.
    connect.flags |= 1;
    let mut client = RawClient::open(broker.address(), V5);
    client.send(&connect.encode());
    client.until_end();
    assert_nothing(&broker, &mut witness);
    broker.stop();
}
