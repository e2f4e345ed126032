//! The engine against the reference server on loopback: every message is counted exactly once.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use paloma_load::crowd::{self, Crowd, Leaves};
use paloma_load::floor::Floor;
use paloma_load::packet::{Qos, Version};
use paloma_load::{Load, LoadError, Outcome, Shape, Target, run};

fn floor() -> SocketAddr {
    let floor = Floor::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("loopback has ports");
    let address = floor.address().expect("bound");
    // The server has no end; the test process takes it along.
    thread::spawn(move || floor.run());
    address
}

fn load(shape: Shape) -> Load {
    Load {
        target: Target::new(floor(), Version::V311),
        pid: None,
        shape,
        topic: "load/alone/%i".to_owned(),
        qos: Qos::AtMostOnce,
        retain: false,
        payload_bytes: 64,
        window: 10,
        rate: None,
        messages_max: Some(100),
        keeps_sessions: false,
        warm_up: Duration::ZERO,
        duration: Duration::ZERO,
        threads: 1,
    }
}

fn check(load: &Load, sent: u64, delivered: u64) -> Outcome {
    let outcome = run(load).expect("the reference server takes everything");
    assert_eq!(
        (outcome.sent, outcome.delivered),
        (sent, delivered),
        "{load:?}"
    );
    assert_eq!((outcome.lost, outcome.repeated), (0, 0), "{load:?}");
    outcome
}

#[test]
fn pairs_deliver_every_message_in_both_versions_at_every_qos() {
    for version in [Version::V311, Version::V5] {
        for qos in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
            let mut load = load(Shape::Pairs { pairs: 5 });
            load.target.version = version;
            load.qos = qos;
            check(&load, 500, 500);
        }
    }
}

#[test]
fn one_message_in_flight_is_enough_to_finish() {
    check(
        &Load {
            window: 1,
            ..load(Shape::Pairs { pairs: 3 })
        },
        300,
        300,
    );
}

#[test]
fn threads_share_the_pairs() {
    check(
        &Load {
            threads: 2,
            ..load(Shape::Pairs { pairs: 5 })
        },
        500,
        500,
    );
}

#[test]
fn payloads_larger_than_any_buffer_arrive() {
    let load = Load {
        payload_bytes: 600_000,
        window: 3,
        messages_max: Some(7),
        ..load(Shape::Pairs { pairs: 2 })
    };
    check(&load, 14, 14);
}

#[test]
fn fan_out_counts_each_subscriber() {
    check(&load(Shape::FanOut { subscribers: 20 }), 100, 2_000);
}

#[test]
fn fan_in_keeps_the_flows_apart() {
    check(&load(Shape::FanIn { publishers: 20 }), 2_000, 2_000);
}

#[test]
fn open_loop_sends_what_the_schedule_says() {
    let load = Load {
        rate: Some(10_000),
        messages_max: Some(50),
        ..load(Shape::Pairs { pairs: 4 })
    };
    check(&load, 200, 200);
}

#[test]
fn a_timed_run_stops_and_leaves_nothing_behind() {
    let load = Load {
        messages_max: None,
        duration: Duration::from_millis(50),
        ..load(Shape::Pairs { pairs: 4 })
    };
    let outcome = run(&load).expect("the reference server takes everything");
    assert!(outcome.sent > 0);
    assert_eq!(
        (outcome.delivered, outcome.lost, outcome.repeated),
        (outcome.sent, 0, 0)
    );
    assert!(!outcome.latency.is_empty());
}

#[test]
fn a_message_that_never_comes_is_lost() {
    // The reference server knows no wildcards, so nothing comes back.
    let shape = Shape::Wildcards {
        filters: 3,
        subscribers: 3,
        publishers: 1,
    };
    let outcome = run(&Load {
        messages_max: Some(2),
        ..load(shape)
    })
    .expect("connects");
    assert_eq!((outcome.sent, outcome.delivered, outcome.lost), (2, 0, 6));
}

#[test]
fn a_crowd_is_let_in_completely() {
    let crowd = Crowd {
        target: Target::new(floor(), Version::V5),
        pid: Some(std::process::id()),
        connections: 200,
        concurrency: 20,
        rate: None,
        leaves: Leaves::Connection,
        settle: Duration::ZERO,
    };
    let outcome = crowd::open(&crowd).expect("the reference server takes everyone");
    assert_eq!((outcome.messages, outcome.latency.len()), (200, 200));
    assert_eq!(outcome.memory.map(|growth| growth.count), Some(200));
}

#[test]
fn a_crowd_by_the_clock_takes_its_time() {
    let crowd = Crowd {
        target: Target::new(floor(), Version::V311),
        pid: None,
        connections: 20,
        concurrency: 20,
        rate: Some(100),
        leaves: Leaves::Session,
        settle: Duration::ZERO,
    };
    let outcome = crowd::open(&crowd).expect("the reference server takes everyone");
    assert_eq!(outcome.latency.len(), 20);
    assert!(outcome.span >= Duration::from_millis(190), "{outcome:?}");
}

#[test]
fn publishers_alone_time_their_exchanges() {
    for (qos, timed) in [
        (Qos::AtMostOnce, 0),
        (Qos::AtLeastOnce, 300),
        (Qos::ExactlyOnce, 300),
    ] {
        let load = Load {
            qos,
            ..load(Shape::Publishers { publishers: 3 })
        };
        let outcome = check(&load, 300, 0);
        assert_eq!(outcome.latency.len(), timed, "{qos:?}");
        assert_eq!(outcome.messages, 300, "{qos:?}");
    }
}

#[test]
fn subscribers_alone_count_what_others_publish() {
    let target = Target::new(floor(), Version::V311);
    let subscribers = Load {
        target: Target {
            id_prefix: "listener".to_owned(),
            ..target.clone()
        },
        topic: "load/alone/1".to_owned(),
        messages_max: None,
        duration: Duration::from_millis(800),
        ..load(Shape::Subscribers { subscribers: 2 })
    };
    let counting = thread::spawn(move || run(&subscribers).expect("nothing is refused"));
    // The subscribers are there long before this; a message that they still missed would not be counted.
    thread::sleep(Duration::from_millis(200));
    let publishers = Load {
        target,
        ..load(Shape::Publishers { publishers: 3 })
    };
    check(&publishers, 300, 0);
    let outcome = counting.join().expect("no panic");
    assert!((1..=200).contains(&outcome.delivered), "{outcome:?}");
    assert_eq!((outcome.lost, outcome.sent), (0, 0));
}

#[test]
fn a_payload_without_room_for_its_mark_is_refused() {
    let load = Load {
        payload_bytes: 15,
        ..load(Shape::Pairs { pairs: 1 })
    };
    assert!(matches!(run(&load), Err(LoadError::Scenario(_))));
}
