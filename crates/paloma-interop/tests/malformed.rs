//! Malformed packets on the wire: each gets the standard's reason code (5.0) or a closed socket (3.1.1), and a pair of
//! other clients never notices.

#![allow(
    clippy::indexing_slicing,
    reason = "places are drawn from a list that has them"
)]

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use paloma_interop::broker::{Broker, skips_other_brokers};
use paloma_interop::canary::Canary;
use paloma_interop::malformed::{self, Case, Delivery, When};
use paloma_interop::peer::Version;
use paloma_interop::raw::RawClient;
use paloma_interop::transport::Transport;
use paloma_interop::wire;

/// Connections at a time: most of one's time is waiting for the other side.
const SIDE_BY_SIDE: usize = 8;

/// Bytes of what is sent byte by byte: 300,000 writes would test the loopback interface.
const BYTE_BY_BYTE_MAX: usize = 70_000;

/// Sends every case in every way of delivery, with the canary beside it, and reports all that went wrong at once.
fn check(cases: &[Case]) {
    if skips_other_brokers("it accepts some of these packets") {
        return;
    }
    let mut broker = Broker::start();
    let canary = Canary::start(broker.address());
    let address = broker.address();
    let ways: Vec<(&Case, Delivery)> = cases
        .iter()
        .enumerate()
        .flat_map(|(number, case)| {
            let ways = if Transport::under_test().is_secure() {
                way_in_turn(number, case)
            } else {
                every_way(case)
            };
            ways.into_iter().map(move |way| (case, way))
        })
        .collect();
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some((case, way)) = ways.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(what) = malformed::check(address, case, *way) {
                let mut wrong = wrong.lock().expect("no panic");
                wrong.push(format!(
                    "{} in {:?}, {way:?}: {what}",
                    case.name, case.version
                ));
                // Each answer that does not come costs its deadline.
                if wrong.len() > 10 {
                    break;
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(work);
        }
    });
    broker.assert_alive();
    canary.stop();
    let wrong = wrong.into_inner().expect("no panic");
    assert!(
        wrong.is_empty(),
        "{} wrong answers:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    eprintln!("{} cases in {} connections", cases.len(), ways.len());
    broker.stop();
}

/// Split at each of its places, whole, and byte by byte.
fn every_way(case: &Case) -> Vec<Delivery> {
    let splits = malformed::splits(&case.bytes).into_iter();
    let mut ways: Vec<Delivery> = splits.map(Delivery::Split).collect();
    ways.push(Delivery::Whole);
    if case.bytes.len() <= BYTE_BY_BYTE_MAX {
        ways.push(Delivery::ByteByByte);
    }
    ways
}

/// Whole, byte by byte, or split at one of its places, each in its turn: where every connection shakes hands, more would test
/// the handshakes.
fn way_in_turn(number: usize, case: &Case) -> Vec<Delivery> {
    let splits = malformed::splits(&case.bytes);
    let way = match number % 3 {
        0 if case.bytes.len() <= BYTE_BY_BYTE_MAX => Delivery::ByteByByte,
        1 if !splits.is_empty() => Delivery::Split(splits[number * 7 % splits.len()]),
        _ => Delivery::Whole,
    };
    vec![way]
}

#[test]
fn integers_that_are_too_long() {
    check(&malformed::integers());
}

#[test]
fn properties_that_may_not_be_there() {
    check(&malformed::properties());
}

#[test]
fn publishes_that_contradict_themselves() {
    check(&malformed::publishes());
}

#[test]
fn packets_in_the_wrong_direction_or_before_connect() {
    check(&malformed::directions());
}

#[test]
fn connects_that_are_wrong() {
    check(&malformed::connects());
}

#[test]
fn subscriptions_that_are_wrong() {
    check(&malformed::subscriptions());
}

#[test]
fn shared_subscriptions_that_are_wrong() {
    check(&malformed::shared_subscriptions());
}

#[test]
fn packets_truncated_at_every_byte() {
    check(&malformed::truncations());
}

#[test]
fn flags_that_no_packet_may_have() {
    check(&malformed::flags());
}

#[test]
fn properties_of_other_packets() {
    check(&malformed::foreign_properties());
}

#[test]
fn bytes_after_the_end_of_a_packet() {
    check(&malformed::trailing_bytes());
}

#[test]
fn strings_that_are_not_utf8_in_every_place() {
    check(&malformed::strings());
}

#[test]
fn a_client_that_leaves_inside_a_packet_leaves_nothing_behind() {
    let broker = Broker::start();
    let canary = Canary::start(broker.address());
    let mut witness = RawClient::connect(broker.address(), Version::V5, "witness");
    witness.subscribe(&[("a/#", 0), ("text", 0)]);
    for case in malformed::prefixes() {
        let mut client = match case.when {
            When::First => RawClient::open(broker.address(), case.version),
            When::Connected => RawClient::connect(broker.address(), case.version, "leaving"),
        };
        client.send(&case.bytes);
        client.finish();
        assert_eq!(
            client.until_end(),
            [],
            "{} in {:?}",
            case.name,
            case.version
        );
    }
    // No PUBLISH was complete, so the first message is this one.
    let mut publisher = RawClient::connect(broker.address(), Version::V5, "publisher");
    publisher.publish(1, 1, "text", b"complete");
    assert_eq!(witness.message().payload, b"complete");
    canary.stop();
    broker.stop();
}

#[test]
fn bytes_behind_a_violation_are_not_looked_at() {
    let broker = Broker::start();
    let mut witness = RawClient::connect(broker.address(), Version::V5, "witness");
    witness.subscribe(&[("#", 0)]);
    for version in Version::ALL {
        // The Remaining Length ends inside the topic, so what follows is no packet although it looks like one.
        let smuggled = wire::publish(version, 0, 0, "smuggled", b"");
        let short = [&[0x30, 0x03, 0x00, 0x09, b'a'][..], &smuggled].concat();
        let mut client = RawClient::connect(broker.address(), version, "smuggler");
        client.send(&short);
        client.until_end();
    }
    let mut publisher = RawClient::connect(broker.address(), Version::V5, "publisher");
    publisher.publish(0, 0, "honest", b"");
    assert_eq!(witness.message().topic, "honest");
    broker.stop();
}

#[test]
fn a_packet_is_split_at_each_of_its_places() {
    assert_eq!(malformed::splits(&[0; 5]), [1, 2, 3, 4]);
    assert!(malformed::splits(&[0]).is_empty());
    let long = malformed::splits(&[0; 5_000]);
    assert!(long.iter().all(|place| (1..5_000).contains(place)));
    assert!(long.contains(&1) && long.contains(&4_999));
}

#[test]
fn there_are_enough_cases() {
    let counts = [
        malformed::integers().len(),
        malformed::properties().len(),
        malformed::publishes().len(),
        malformed::directions().len(),
        malformed::connects().len(),
        malformed::subscriptions().len(),
        malformed::shared_subscriptions().len(),
        malformed::truncations().len(),
        malformed::prefixes().len(),
        malformed::flags().len(),
        malformed::foreign_properties().len(),
        malformed::trailing_bytes().len(),
        malformed::strings().len(),
    ];
    let total: usize = counts.iter().sum();
    eprintln!("{total} malformed cases: {counts:?}");
    assert!(total >= 2_500, "{total} of 2,500");
}

#[test]
fn many_filters_in_one_packet_are_answered_one_by_one() {
    let broker = Broker::start();
    for version in Version::ALL {
        for count in [1, 127, 128, 1_000] {
            let names: Vec<String> = (0..count).map(|number| format!("many/{number}")).collect();
            let filters: Vec<(&str, u8)> = names.iter().map(|name| (name.as_str(), 1)).collect();
            let mut client = RawClient::connect(broker.address(), version, "many");
            assert_eq!(client.subscribe(&filters), vec![1; count], "{version:?}");
        }
        // More than one packet may hold by default: each refused, or the packet.
        let filters = vec![("a", 1); 65_535 / 3];
        let mut client = RawClient::connect(broker.address(), version, "too-many");
        client.send(&wire::subscribe(version, 1, &filters));
        match client.frame_or_end() {
            None => assert_eq!(version, Version::V311),
            Some(frame) if frame.first == 0x90 => {
                assert_eq!(frame.codes(version).len(), filters.len());
            }
            Some(frame) => assert_eq!(frame.disconnect_reason(), Some(0x97)),
        }
    }
    broker.stop();
}
