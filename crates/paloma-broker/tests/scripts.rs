//! Random scripts of several clients: nobody loses, doubles or misorders anything, whatever the order of things, and
//! no limit makes the broker fail.

mod play;
mod support;

use play::{CLIENTS, FILTERS, LIMITS, SHARED, Step, TOPICS, limited, play, play_limited};
use proptest::prelude::*;
use support::World;

fn step() -> impl Strategy<Value = (usize, Step)> {
    let step = prop_oneof![
        4 => (any::<bool>(), 0..3_usize, any::<bool>())
            .prop_map(|(clean, expiry, will)| Step::Connect { clean, expiry, will }),
        2 => Just(Step::Cut),
        1 => Just(Step::Leave),
        4 => (0..FILTERS.len() + SHARED.len(), 0..3_u8)
            .prop_map(|(filter, qos)| Step::Subscribe { filter, qos }),
        1 => (0..FILTERS.len() + SHARED.len()).prop_map(|filter| Step::Unsubscribe { filter }),
        10 => (0..TOPICS.len(), 0..3_u8, prop::bool::weighted(0.2), prop::bool::weighted(0.1))
            .prop_map(|(topic, qos, retain, empty)| Step::Publish { topic, qos, retain, empty }),
        5 => (0..8_usize).prop_map(|acknowledged| Step::Take { acknowledged }),
        1 => any::<bool>().prop_map(Step::Read),
        1 => any::<bool>().prop_map(Step::Commits),
        1 => (0..12_000_u64).prop_map(|millis| Step::Wait { millis }),
        1 => Just(Step::Crash),
    ];
    (0..CLIENTS, step)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// I1 I2 I3 I5 I6 I9 I12 I13
    #[test]
    fn clients_that_keep_to_the_rules_get_what_they_are_owed(
        script in prop::collection::vec(step(), 0..120)
    ) {
        let trace = play(&script);
        prop_assert_eq!(trace, play(&script), "I12");
    }

    /// I7 I9 I13 H1
    #[test]
    fn no_limit_makes_the_broker_fail(
        changes in prop::collection::vec(
            (0..LIMITS.len(), prop_oneof![Just(0), Just(1), Just(2), Just(40), Just(u32::MAX)]),
            0..4,
        ),
        script in prop::collection::vec(step(), 0..80)
    ) {
        play_limited(limited(&changes), &script);
    }
}

#[test]
fn every_limit_at_its_ends_is_survived() {
    // H1
    let script: Vec<_> = (0..200_usize)
        .map(|n| {
            let steps = [
                Step::Connect {
                    clean: n % 7 == 0,
                    expiry: n % 3,
                    will: n % 2 == 0,
                },
                Step::Subscribe {
                    filter: n % 8,
                    qos: 2,
                },
                Step::Publish {
                    topic: n % 4,
                    qos: 2,
                    retain: n % 3 == 0,
                    empty: false,
                },
                Step::Publish {
                    topic: n % 3,
                    qos: 1,
                    retain: false,
                    empty: n % 5 == 0,
                },
                Step::Take {
                    acknowledged: n % 4,
                },
                Step::Wait { millis: 500 },
            ];
            (n / 6 % CLIENTS, steps[n % 6].clone())
        })
        .collect();
    for change in LIMITS {
        for value in [0, 1, u32::MAX] {
            play_limited(
                World::with(|config| change(&mut config.limits, value)),
                &script,
            );
        }
    }
}
