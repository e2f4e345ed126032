//! Real clients over a network that breaks: nothing acknowledged is lost, and nothing at QoS 2 comes twice.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use paloma_interop::broker::{Broker, skips_other_brokers};
use paloma_interop::peer::Library::{self, MqttJs, Own, Paho};
use paloma_interop::peer::{Connect, Event, Outgoing, Peer, Version};
use paloma_interop::proxy::{Breaks, Fault, Proxy};
use paloma_interop::random::Random;

/// Messages at each of QoS 1 and 2.
const COUNT: usize = 500;
/// How long one case may take at most: far more than it needs.
const CASE_MAX: Duration = Duration::from_secs(120);

/// Lets all of a case's messages be on their way, so that a slow network costs round trips once and not 50 times.
const ROOMY: [(&str, u64); 3] = [
    ("receive_maximum", 2_000),
    ("inflight_max", 2_000),
    ("queue_messages_max", 10_000),
];

/// What lies between the clients and the broker, and how much they have on their way.
struct Network {
    near: Fault,
    far: Fault,
    window: usize,
}

/// Sends both kinds of messages from one client to another, and counts what arrives.
fn check(library: Library, version: Version, network: &Network, seed: u64) {
    if !library.is_available() {
        return;
    }
    let deadline = Instant::now() + CASE_MAX;
    let broker = Broker::with_limits(&ROOMY);
    let half_open = matches!(network.far, Fault::HalfOpen(_));
    let impatient = |client_id: &str| Connect {
        reconnect: true,
        window: 2_000,
        // A half-open connection is found by keep alive, so it must be short.
        keep_alive_seconds: if half_open { 1 } else { 30 },
        ..Connect::persistent(client_id)
    };
    // The session and its subscription are made on a good network: no library repeats a lost SUBSCRIBE.
    let mut subscriber = library.peer(broker.address(), version);
    subscriber.connect(&Connect::persistent("subscriber"));
    subscriber.subscribe("bad/#", 2);
    subscriber.disconnect();

    let near = Proxy::start(broker.address(), network.near.clone(), seed);
    let far = Proxy::start(broker.address(), network.far.clone(), seed + 1);
    let mut subscriber = library.peer(far.address(), version);
    subscriber.connect(&impatient("subscriber"));
    let mut publisher = library.peer(near.address(), version);
    publisher.connect(&impatient("publisher"));

    let mut random = Random::new(seed + 2);
    let mut waiting = (0..COUNT).flat_map(|number| {
        let payload = format!("{number} {}", "x".repeat(random.between(0, 200)));
        [1, 2].map(|qos| Outgoing::new(&format!("bad/{qos}"), &payload, qos))
    });
    let mut copies = HashMap::new();
    let (mut started, mut published) = (0, 0);
    while copies.len() < 2 * COUNT || published < 2 * COUNT {
        assert!(
            Instant::now() < deadline,
            "{published} of {} complete and {} arrived over {} and {} connections",
            2 * COUNT,
            copies.len(),
            near.connections(),
            far.connections(),
        );
        for message in waiting.by_ref().take(published + network.window - started) {
            publisher.start_publish(&message);
            started += 1;
        }
        published += completed(&mut publisher);
        receive(&mut subscriber, &mut copies);
    }
    // Whatever is still to be repeated comes before this.
    publisher.start_publish(&Outgoing::new("bad/end", "0", 2));
    while !copies.contains_key(&("bad/end".to_owned(), 0)) {
        assert!(Instant::now() < deadline, "the end mark does not arrive");
        receive(&mut subscriber, &mut copies);
    }
    if skips_other_brokers("mosquitto repeats a PUBLISH whose PUBREC it has seen") {
        return;
    }
    let twice: Vec<_> = copies
        .iter()
        .filter(|((t, _), n)| t == "bad/2" && **n > 1)
        .collect();
    assert!(
        twice.is_empty(),
        "QoS 2 messages that came more than once: {twice:?}"
    );
    if half_open || matches!(network.far, Fault::Cut(_)) {
        let bad = near.connections() > 3 && far.connections() > 3;
        assert!(
            bad,
            "{} and {} connections",
            near.connections(),
            far.connections()
        );
    }
    eprintln!(
        "{} and {} connections",
        near.connections(),
        far.connections()
    );
    broker.stop();
}

/// How many exchanges the publisher has completed since it was asked last.
fn completed(publisher: &mut Peer) -> usize {
    let mut count = 0;
    while let Some(event) = publisher.next_event(Duration::ZERO) {
        if let Event::Published { reason } = event {
            // 0x92 answers a PUBREL whose PUBCOMP was lost with its connection.
            let complete = reason < 0x80 || reason == 0x92;
            assert!(complete, "a PUBLISH was refused with {reason:#04x}");
            count += 1;
        }
    }
    count
}

/// Counts what the subscriber has received; waits a little for the first.
fn receive(subscriber: &mut Peer, copies: &mut HashMap<(String, usize), usize>) {
    let mut patience = Duration::from_millis(20);
    while let Some(event) = subscriber.next_event(patience) {
        patience = Duration::ZERO;
        if let Event::Message(message) = event {
            let payload = String::from_utf8_lossy(&message.payload).into_owned();
            let number = payload
                .split_once(' ')
                .map_or(0, |(number, _)| number.parse().expect("a number first"));
            *copies.entry((message.topic, number)).or_insert(0) += 1;
        }
    }
}

/// Breaks connections with a few messages in flight.
///
/// If a connection breaks while paho resumes its session, and the next does too, paho sends a PUBLISH again whose
/// PUBREC it has seen. So its publisher's connections break after that, and others break anywhere.
fn breaking(library: Library, times: usize, fault: fn(Breaks) -> Fault) -> Network {
    let anywhere = Breaks::anywhere(4_096, times);
    let near = match library {
        Paho => Breaks {
            up: 4_096..8_192,
            down: 256..512,
            times,
        },
        MqttJs | Own | Library::Rumqttc => anywhere.clone(),
    };
    Network {
        near: fault(near),
        far: fault(anywhere),
        window: 20,
    }
}

/// Breaks connections with everything in flight, for what can take it.
fn breaking_all(library: Library, times: usize, fault: fn(Breaks) -> Fault) -> Network {
    let window = if library == Paho { 20 } else { 2 * COUNT };
    Network {
        window,
        ..breaking(library, times, fault)
    }
}

/// Has everything in flight, so that a slow network costs round trips only once.
fn slow(fault: Fault) -> Network {
    Network {
        near: fault.clone(),
        far: fault,
        window: 2 * COUNT,
    }
}

/// One test a library, version and fault; a macro because the test harness wants a function of its own for each.
macro_rules! faults {
    ($module:ident, $library:expr, $version:expr) => {
        mod $module {
            use super::*;

            #[test]
            fn nothing_is_lost_when_connections_are_cut() {
                check($library, $version, &breaking($library, 30, Fault::Cut), 11);
            }

            #[test]
            fn nothing_is_lost_when_connections_with_much_in_flight_are_cut() {
                check(
                    $library,
                    $version,
                    &breaking_all($library, 30, Fault::Cut),
                    4_711,
                );
            }

            #[test]
            fn nothing_is_lost_when_connections_are_half_open() {
                check(
                    $library,
                    $version,
                    &breaking_all($library, 4, Fault::HalfOpen),
                    3,
                );
            }

            #[test]
            fn nothing_is_lost_over_a_slow_network() {
                let delay = Fault::Delay(Duration::from_millis(500));
                check($library, $version, &slow(delay), 1);
            }

            #[test]
            fn nothing_is_lost_when_each_byte_comes_alone() {
                check($library, $version, &slow(Fault::OneByte), 1);
            }
        }
    };
}

faults!(paho_v311, Paho, Version::V311);
faults!(paho_v5, Paho, Version::V5);
faults!(mqttjs_v311, MqttJs, Version::V311);
faults!(mqttjs_v5, MqttJs, Version::V5);
faults!(own_v311, Own, Version::V311);
faults!(own_v5, Own, Version::V5);
