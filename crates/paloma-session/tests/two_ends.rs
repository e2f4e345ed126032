//! A client and a server over a link that breaks: what must hold whatever happens.

mod pair;

use pair::{LEVELS, Op, Pair, SIDES, Setup, Side};
use paloma_codec::{ProtocolVersion, Qos};
use proptest::prelude::*;

const VERSIONS: [ProtocolVersion; 2] = [ProtocolVersion::V3_1_1, ProtocolVersion::V5];

fn publish_all(pair: &mut Pair, count: u8) {
    for number in 0..count {
        for side in SIDES {
            for qos in LEVELS {
                pair.publish(side, qos, number, u16::from(number) * 8);
            }
        }
    }
}

#[test]
fn messages_of_every_qos_arrive_both_ways_in_both_versions() {
    for version in VERSIONS {
        let mut pair = Pair::connected(Setup {
            version,
            ..Setup::default()
        });
        publish_all(&mut pair, 40);
        pair.settle();
        pair.check_complete();
        for end in [&pair.client, &pair.server] {
            assert_eq!(
                end.delivered[0].len(),
                40,
                "a link that holds loses no QoS 0 message"
            );
        }
    }
}

/// Cases G1 to G4: at every byte of a whole exchange, in both directions.
#[test]
fn a_cut_at_any_byte_loses_nothing_and_repeats_nothing_at_qos_2() {
    for version in VERSIONS {
        for keep in 0..400 {
            let mut pair = Pair::connected(Setup {
                version,
                gated: true,
                ..Setup::default()
            });
            for side in SIDES {
                pair.publish(side, Qos::AtLeastOnce, 0, 4);
                pair.publish(side, Qos::ExactlyOnce, 1, 4);
                pair.publish(side, Qos::ExactlyOnce, 2, 4);
            }
            let mut left = keep;
            for _ in 0..4 {
                for side in SIDES {
                    pair.apply(Op::Commit(side));
                    pair.transmit(side);
                }
                for side in SIDES {
                    let bytes = pair.end(side).link_len().min(left);
                    left -= bytes;
                    pair.deliver(side, bytes);
                }
            }
            pair.cut();
            pair.settle();
            pair.check_complete();
        }
    }
}

/// Case G13.
#[test]
fn a_receive_maximum_of_one_is_kept_across_cuts() {
    let mut pair = Pair::connected(Setup {
        receive_maximum: 1,
        ..Setup::default()
    });
    publish_all(&mut pair, 10);
    for keep in 0..60 {
        for side in SIDES {
            pair.transmit(side);
            pair.deliver(side, keep);
        }
        pair.cut();
        pair.connect(false);
    }
    pair.settle();
    pair.check_complete();
}

/// Case B5: a 3.1.1 peer has no window.
#[test]
fn five_thousand_qos_2_publishes_of_a_3_1_1_peer_in_one_write_all_arrive_once() {
    let version = ProtocolVersion::V3_1_1;
    let setup = Setup {
        version,
        in_flight_max: u16::MAX,
        gated: true,
        ..Setup::default()
    };
    let mut pair = Pair::connected(setup);
    for _ in 0..5_000 {
        pair.publish(Side::Client, Qos::ExactlyOnce, 0, 0);
    }
    pair.transmit(Side::Client);
    pair.deliver(Side::Server, usize::MAX);
    assert_eq!(pair.server.delivered[2].len(), 5_000);
    assert_eq!(pair.server.session.received().len(), 5_000);
    pair.settle();
    pair.check_complete();
}

/// Case G4: ids 1 to 65,535, then wait.
#[test]
fn the_65_536th_open_exchange_waits_for_an_id() {
    let version = ProtocolVersion::V3_1_1;
    let setup = Setup {
        version,
        in_flight_max: u16::MAX,
        ..Setup::default()
    };
    let mut pair = Pair::connected(setup);
    for _ in 0..65_540 {
        pair.publish(Side::Client, Qos::ExactlyOnce, 0, 0);
    }
    pair.transmit(Side::Client);
    assert_eq!(pair.client.session.window().len(), 65_535);
    assert_eq!(pair.client.session.queue().len(), 5);
    pair.cut();
    pair.settle();
    pair.check_complete();
}

fn side() -> impl Strategy<Value = Side> {
    prop::sample::select(SIDES.to_vec())
}

fn op() -> impl Strategy<Value = Op> {
    let bytes = || prop_oneof![0_u16..40, Just(u16::MAX)];
    prop_oneof![
        4 => (side(), prop::sample::select(LEVELS.to_vec()), any::<u8>(), 0_u16..200)
            .prop_map(|(side, qos, topic, bytes)| Op::Publish { side, qos, topic, bytes }),
        6 => side().prop_map(Op::Transmit),
        6 => (side(), bytes()).prop_map(|(side, bytes)| Op::Deliver { side, bytes }),
        2 => side().prop_map(Op::Commit),
        2 => (side(), any::<u8>()).prop_map(|(side, choice)| Op::Acknowledge { side, choice }),
        1 => (0_u16..40_000).prop_map(|millis| Op::Wait { millis }),
        1 => (bytes(), bytes()).prop_map(|(to_client, to_server)| Op::Cut { to_client, to_server }),
        2 => Just(Op::Connect),
    ]
}

fn setup() -> impl Strategy<Value = Setup> {
    (
        prop::sample::select(VERSIONS.to_vec()),
        1_u16..10,
        0_u16..5,
        any::<bool>(),
        any::<bool>(),
        0_u16..60,
    )
        .prop_map(
            |(version, receive_maximum, alias_maximum, acknowledge_at_once, gated, keep_alive)| {
                Setup {
                    version,
                    receive_maximum,
                    alias_maximum,
                    acknowledge_at_once,
                    gated,
                    keep_alive_seconds: keep_alive,
                    ..Setup::default()
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Invariants I2, I3, I5 and I10 of two ends.
    #[test]
    fn whatever_happens_everything_arrives_in_the_end(
        setup in setup(),
        ops in prop::collection::vec(op(), 0..300),
    ) {
        let mut pair = Pair::connected(setup);
        for op in ops {
            pair.apply(op);
            pair.check_so_far();
        }
        pair.settle();
        pair.check_complete();
    }
}
