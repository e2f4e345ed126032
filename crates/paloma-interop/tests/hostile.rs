//! Clients that claim, flood, stall and quarrel, while a pair of others goes on undisturbed.

use std::thread;
use std::time::{Duration, Instant};

use paloma_interop::broker::{Broker, skips_other_brokers};
use paloma_interop::canary::Canary;
use paloma_interop::peer::Version::{self, V5, V311};
use paloma_interop::random::Random;
use paloma_interop::raw::RawClient;
use paloma_interop::wire::{self, Connect, PUBREC};

/// Runs `test` beside a canary that must survive it, and the broker too.
fn check(limits: &[(&str, u64)], test: impl FnOnce(&Broker)) {
    let broker = Broker::with_limits(limits);
    let canary = Canary::start(broker.address());
    test(&broker);
    canary.stop();
    broker.stop();
}

/// The bytes by which the broker has grown since it had `before`.
fn growth(broker: &Broker, before: u64) -> u64 {
    broker.resident_bytes().saturating_sub(before)
}

/// How much a thousand connections may add to the broker; a thousand reservations of a claim would be far more.
const THOUSAND_CONNECTIONS_BYTES: u64 = 48 << 20;

#[test]
fn a_claim_of_268_435_455_bytes_reserves_nothing() {
    check(&[], |broker| {
        let before = broker.resident_bytes();
        let claims: Vec<RawClient> = (0..1_000)
            .map(|number| {
                let mut client = RawClient::open(broker.address(), V5);
                // CONNECT, PUBLISH, SUBSCRIBE.
                let first = [0x10, 0x30, 0x82][number % 3];
                let _ = client.try_send(&[first, 0xFF, 0xFF, 0xFF, 0x7F]);
                let _ = client.try_send(b"\0\x04MQT");
                client
            })
            .collect();
        let grown = growth(broker, before);
        eprintln!("1,000 claims cost {grown} bytes");
        assert!(grown < THOUSAND_CONNECTIONS_BYTES, "{grown} bytes");
        if !skips_other_brokers("it waits for as much as CONNECT may hold") {
            for mut client in claims {
                client.until_end();
            }
        }
    });
}

#[test]
fn a_claim_within_the_limit_reserves_nothing_either() {
    check(&[], |broker| {
        let before = broker.resident_bytes();
        let claims: Vec<RawClient> = (0..1_000)
            .map(|number| {
                let name = format!("claim-{number}");
                let mut client = RawClient::connect(broker.address(), V5, &name);
                // A PUBLISH of 2 MiB less some bytes, of which five come.
                client.send(&[0x30, 0xF0, 0xFF, 0x7F]);
                client.send(b"\0\x05clai");
                client
            })
            .collect();
        let grown = growth(broker, before);
        eprintln!("1,000 open claims cost {grown} bytes");
        assert!(grown < THOUSAND_CONNECTIONS_BYTES, "{grown} bytes");
        drop(claims);
    });
}

#[test]
fn a_packet_above_the_announced_maximum_is_refused() {
    if skips_other_brokers("its maximum is another") {
        return;
    }
    check(&[("packet_bytes_max", 100_000)], |broker| {
        let mut client = RawClient::connect(broker.address(), V5, "large");
        client.publish(1, 1, "large", &[0; 99_900]);
        client.skip_to(wire::PUBACK, 1);
        client.send(&[0x30, 0xA1, 0x8D, 0x06]);
        let frames = client.until_end();
        assert_eq!(
            frames.last().and_then(|last| last.disconnect_reason()),
            Some(0x95)
        );
    });
}

#[test]
fn a_flood_beyond_receive_maximum_is_refused() {
    if skips_other_brokers("it announces another") {
        return;
    }
    check(&[], |broker| {
        let mut client = RawClient::connect(broker.address(), V5, "flood");
        let flood: Vec<u8> = (1..=u16::MAX)
            .flat_map(|id| wire::publish(V5, 2, id, "flood", b""))
            .collect();
        let _ = client.try_send(&flood);
        let frames = client.until_end();
        let (last, answers) = frames.split_last().expect("at least DISCONNECT");
        assert_eq!(last.disconnect_reason(), Some(0x93), "{last:02x?}");
        assert!(answers.iter().all(|answer| answer.first == PUBREC));
        assert!(
            answers.len() <= 32,
            "{} answered of 32 allowed",
            answers.len()
        );
    });
}

#[test]
fn a_subscriber_that_never_reads_stalls_nobody() {
    const COUNT: u16 = 20_000;
    check(&[], |broker| {
        let mut deaf = RawClient::connect(broker.address(), V5, "deaf");
        deaf.subscribe(&[("loud", 1)]);
        let mut hearing = RawClient::connect(broker.address(), V311, "hearing");
        hearing.subscribe(&[("loud", 0)]);
        let before = broker.resident_bytes();
        let mut publisher = RawClient::connect(broker.address(), V311, "publisher");
        let payload = [b'x'; 1_024];
        for id in 1..=COUNT {
            publisher.publish((id % 2) as u8, id, "loud", &payload);
            if id % 100 == 0 {
                publisher.ping();
                while hearing.message().payload != payload {}
                hearing.ping();
            }
        }
        publisher.ping();
        let grown = growth(broker, before);
        eprintln!("{COUNT} KiB for a subscriber that does not read cost {grown} bytes");
        // Its queue of 1,000 messages, the bytes waiting for its socket, and slack.
        assert!(grown < 16 << 20, "{grown} bytes");
        drop(deaf);
    });
}

#[test]
fn slow_and_half_connects_are_closed() {
    if skips_other_brokers("its timeout cannot be set") {
        return;
    }
    let timeout = Duration::from_millis(500);
    check(&[("connect_timeout_ms", 500)], |broker| {
        let connect = Connect::new(V5, "slow").encode();
        for sent in [0, 1, 2, connect.len() - 1] {
            let before = Instant::now();
            let mut client = RawClient::open(broker.address(), V5);
            client.send(&connect[..sent]);
            assert_eq!(client.until_end(), [], "{sent} bytes of CONNECT");
            let elapsed = before.elapsed();
            assert!(
                elapsed >= timeout,
                "{sent} bytes of CONNECT: after {elapsed:?}"
            );
        }
        // A byte now and then does not buy time.
        let mut client = RawClient::open(broker.address(), V5);
        let will = "x".repeat(1_000);
        let long = Connect::new(V5, "slow")
            .with_will("will", &will, 0)
            .encode();
        let dripped = long.iter().take_while(|byte| {
            client.try_send(std::slice::from_ref(*byte)).is_ok()
                && client.frame_within(Duration::from_millis(20)).is_none()
        });
        assert!(
            dripped.count() < long.len(),
            "the connection was closed before its CONNECT was whole"
        );
    });
}

#[test]
fn a_thousand_silent_connections_keep_nobody_out() {
    check(&[], |broker| {
        let silent: Vec<RawClient> = (0..1_000)
            .map(|_| RawClient::open(broker.address(), V5))
            .collect();
        for number in 0..100 {
            let name = format!("good-{number}");
            let mut client = RawClient::connect(broker.address(), V311, &name);
            client.ping();
        }
        drop(silent);
    });
}

#[test]
fn two_clients_that_quarrel_over_one_session_end_with_one_of_them() {
    const TURNS: usize = 500;
    check(&[], |broker| {
        let address = broker.address();
        let rivals: Vec<_> = [1, 2]
            .map(|seed| {
                thread::spawn(move || {
                    let mut random = Random::new(seed);
                    for _ in 0..TURNS {
                        let version = *random.one_of(&Version::ALL);
                        let mut connect = Connect::persistent(version, "contested");
                        connect.flags |= (random.between(0, 4) == 0) as u8 * 0x02;
                        let mut client = RawClient::open(address, version);
                        let _ = client.try_send(&connect.encode());
                        for _ in 0..random.between(0, 4) {
                            let _ = match random.between(0, 3) {
                                0 => client.try_send(&wire::subscribe(version, 1, &[("war/#", 2)])),
                                1 => client.try_send(&wire::unsubscribe(version, 1, &["war/#"])),
                                _ => client.try_send(&wire::publish(version, 1, 1, "war/cry", b"")),
                            };
                        }
                        // Stays for a while, or leaves at once.
                        if random.between(0, 2) == 0 {
                            let _ = client.frame_within(Duration::from_millis(2));
                        }
                    }
                })
            })
            .into_iter()
            .collect();
        for rival in rivals {
            rival
                .join()
                .expect("a rival's socket always ends or answers");
        }
        let connect = Connect::new(V5, "contested");
        let (mut winner, present) = RawClient::connect_as(address, V5, &connect);
        assert!(!present);
        winner.subscribe(&[("peace", 1)]);
        winner.publish(1, 1, "peace", b"at last");
        assert_eq!(winner.message().payload, b"at last");
    });
}

#[test]
fn an_alias_does_not_outlive_its_connection() {
    check(&[], |broker| {
        let alias = wire::properties(&[&[0x23, 0, 1]]);
        let connect = Connect::persistent(V5, "aliased");
        let (mut client, _) = RawClient::connect_as(broker.address(), V5, &connect);
        client.send(&wire::publish_with(&alias, 0x32, 1, b"topic", b""));
        client.skip_to(wire::PUBACK, 1);
        client.send(&wire::publish_with(&alias, 0x32, 2, b"", b""));
        client.skip_to(wire::PUBACK, 2);
        drop(client);
        let (mut client, present) = RawClient::connect_as(broker.address(), V5, &connect);
        assert!(present);
        client.send(&wire::publish_with(&alias, 0x32, 3, b"", b""));
        let reason = client
            .until_end()
            .last()
            .and_then(|last| last.disconnect_reason());
        assert!(matches!(reason, Some(0x82 | 0x94)), "{reason:02x?}");
    });
}

#[test]
fn a_keep_alive_of_none_is_replaced_in_5_0() {
    if skips_other_brokers("it allows none") {
        return;
    }
    check(&[], |broker| {
        for asked in [0, u16::MAX] {
            let connect = Connect {
                keep_alive: asked,
                ..Connect::new(V5, "patient")
            };
            let mut client = RawClient::open(broker.address(), V5);
            client.send(&connect.encode());
            let frame = client.frame();
            assert_eq!(frame.connack_reason(), Some(0));
            let server_keep_alive = [0x13, 0x0E, 0x10];
            assert!(
                frame
                    .body
                    .windows(3)
                    .any(|bytes| bytes == server_keep_alive),
                "{frame:02x?}"
            );
        }
    });
}

#[test]
fn a_topic_too_long_or_too_deep_is_refused() {
    check(&[], |broker| {
        for topic in ["x".repeat(65_535), "/".repeat(65_535), "x/".repeat(200)] {
            let mut client = RawClient::connect(broker.address(), V5, "deep");
            client.send(&wire::publish(V5, 0, 0, &topic, b""));
            if !skips_other_brokers("its limits are others") {
                let frames = client.until_end();
                assert_eq!(
                    frames.last().and_then(|last| last.disconnect_reason()),
                    Some(0x90)
                );
            }
        }
    });
}
