//! What happens in a world, step by step, drawn before anything happens, so that steps can be left out to find a
//! shorter way to the same failure.

use paloma_codec::{Qos, RetainHandling, SubscribeOptions};

use crate::options::Options;
use crate::random::Random;

/// Topics that clients publish to.
pub(crate) const TOPICS: [&str; 6] = ["a", "a/b", "a/c", "b", "b/c/d", "shop/1"];

/// Filters that they subscribe to.
pub(crate) const FILTERS: [&str; 9] = [
    "a", "a/+", "a/#", "#", "b", "+/c/+", "shop/1", "+", "will/+",
];

/// The same, for groups.
pub(crate) const SHARED: [&str; 4] = [
    "$share/g/a/#",
    "$share/h/#",
    "$share/g/shop/1",
    "$share/g/b",
];

/// Seconds that a session outlives its connection.
const EXPIRIES: [u32; 4] = [0, 5, 60, 100_000];

/// One thing that happens.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Connect {
        clean: bool,
        expiry_seconds: u32,
        will: Option<PlannedWill>,
        receive_maximum: u16,
        wrong_password: bool,
    },
    /// DISCONNECT; with the will if so wished, and perhaps with another expiry.
    Leave {
        with_will: bool,
        expiry_seconds: Option<u32>,
    },
    Subscribe {
        filters: Vec<(&'static str, SubscribeOptions)>,
        id: Option<u32>,
    },
    Unsubscribe {
        filter: &'static str,
    },
    Publish {
        topic: &'static str,
        qos: Qos,
        retain: bool,
        is_empty: bool,
        is_large: bool,
        expiry_seconds: Option<u32>,
    },
    /// The connection breaks; either end may not notice.
    Cut {
        host_notices: bool,
        client_notices: bool,
    },
    /// The client reads nothing for a while.
    Stall {
        millis: u64,
    },
    /// Whether the client keeps its acknowledgements to itself.
    HoldAcks(bool),
    /// The broker's process ends, and another one starts after a while.
    Crash {
        millis: u64,
    },
    /// The store's next commit fails, and the process ends with it.
    FailStore,
    /// The store has no room for a while.
    FillStore {
        millis: u64,
    },
    /// Somebody who keeps to no rule connects and sends something.
    Hostile,
    /// The wall clock jumps.
    WallJump {
        millis: i64,
    },
    /// A rule is made or taken back.
    Rule {
        topic: &'static str,
        is_write: bool,
        is_denied: bool,
    },
    Wait {
        millis: u64,
    },
}

/// A will as planned.
#[derive(Clone, Debug)]
pub(crate) struct PlannedWill {
    pub(crate) topic: &'static str,
    pub(crate) qos: Qos,
    pub(crate) retain: bool,
    pub(crate) delay_seconds: u32,
}

/// A step: who does what after which pause.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// Its number in the plan, which stays when others are left out.
    pub(crate) number: usize,
    pub(crate) pause_us: u64,
    pub(crate) who: usize,
    pub(crate) action: Action,
}

const QOS: [Qos; 3] = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce];

/// Draws the whole plan. Each step has a stream of its own.
pub(crate) fn draw(seed: u64, options: &Options) -> Vec<Step> {
    let connects = (0..options.clients).map(|who| (who, true));
    let others = (options.clients..options.steps).map(|number| (number, false));
    connects
        .chain(others)
        .map(|(number, is_first)| {
            let mut random = Random::stream(seed, 1_000 + number as u64);
            let pause_us = 1 + random.below(options.gap_ms * 1_000);
            let who = if is_first {
                number
            } else {
                random.index(options.clients)
            };
            let action = if is_first {
                connect(&mut random, options)
            } else {
                draw_action(&mut random, options)
            };
            Step {
                number,
                pause_us,
                who,
                action,
            }
        })
        .collect()
}

fn draw_action(random: &mut Random, options: &Options) -> Action {
    if options.crashes && random.chance(4) {
        return if random.chance(25) {
            Action::FailStore
        } else {
            Action::Crash {
                millis: random.one_of([0, 10, 3_000, 70_000]),
            }
        };
    }
    if options.full_stores && random.chance(4) {
        return Action::FillStore {
            millis: random.one_of([5, 300, 20_000]),
        };
    }
    match random.below(100) {
        0..=8 => connect(random, options),
        9..=11 => Action::Leave {
            with_will: random.chance(40),
            expiry_seconds: random.chance(30).then(|| random.one_of(EXPIRIES)),
        },
        12..=31 => subscribe(random, options),
        32..=34 => Action::Unsubscribe {
            filter: filter(random, options),
        },
        35..=76 => publish(random, options),
        77..=84 if options.cuts => Action::Cut {
            host_notices: !options.half_open || random.chance(60),
            client_notices: !options.half_open || random.chance(60),
        },
        85..=86 if options.stalls => Action::Stall {
            millis: random.one_of([100, 2_000, 40_000]),
        },
        87..=89 if options.held_acks => Action::HoldAcks(random.chance(60)),
        90..=91 if options.hostile => Action::Hostile,
        92..=93 if options.wall_jumps => Action::WallJump {
            millis: random.one_of([
                3_600_000,
                -3_600_000,
                315_576_000_000,
                -315_576_000_000,
                7_000,
            ]),
        },
        94..=97 if options.rules => Action::Rule {
            topic: random.one_of(TOPICS),
            is_write: random.chance(30),
            is_denied: random.chance(60),
        },
        98 => Action::Wait {
            millis: random.one_of([1_000, 6_000, 61_000]),
        },
        _ => publish(random, options),
    }
}

fn connect(random: &mut Random, options: &Options) -> Action {
    let has_will = options.wills && random.chance(60);
    Action::Connect {
        clean: options.clean_starts && random.chance(35),
        expiry_seconds: random.one_of(EXPIRIES),
        will: has_will.then(|| PlannedWill {
            topic: random.one_of(["will/1", "will/2", "a/b"]),
            qos: random.one_of(QOS),
            retain: options.retained && random.chance(30),
            delay_seconds: random.one_of([0, 0, 3, 20]),
        }),
        receive_maximum: if options.narrows {
            random.one_of([1, 1, 2, 65_535])
        } else {
            random.one_of([1, 2, 7, 65_535])
        },
        wrong_password: options.wrong_passwords && random.chance(25),
    }
}

fn filter(random: &mut Random, options: &Options) -> &'static str {
    if options.shared && random.chance(50) {
        random.one_of(SHARED)
    } else {
        random.one_of(FILTERS)
    }
}

/// The identifier of every subscription to a group, by which the oracle knows its copies from all others.
fn shared_id(filter: &str) -> Option<u32> {
    let place = SHARED.iter().position(|shared| *shared == filter)?;
    u32::try_from(place + 11).ok()
}

fn subscribe(random: &mut Random, options: &Options) -> Action {
    let first = filter(random, options);
    let shared_id = shared_id(first);
    let mut filters = vec![(first, subscribe_options(random, shared_id.is_some()))];
    let more = if shared_id.is_some() {
        0
    } else {
        random.one_of([0, 0, 0, 1, 2])
    };
    for _ in 0..more {
        let filter = random.one_of(FILTERS);
        if filters.iter().all(|(other, _)| *other != filter) {
            filters.push((filter, subscribe_options(random, false)));
        }
    }
    let has_id = options.subscription_ids && random.chance(60);
    let id = has_id.then(|| u32::try_from(1 + random.below(5)).unwrap_or(1));
    Action::Subscribe {
        filters,
        id: shared_id.or(id),
    }
}

fn subscribe_options(random: &mut Random, is_shared: bool) -> SubscribeOptions {
    SubscribeOptions {
        qos: random.one_of(QOS),
        // A shared subscription may not say so. [MQTT-3.8.3-4]
        no_local: random.chance(20) && !is_shared,
        retain_as_published: random.chance(30),
        retain_handling: random.one_of([
            RetainHandling::Send,
            RetainHandling::SendIfNew,
            RetainHandling::DoNotSend,
        ]),
    }
}

fn publish(random: &mut Random, options: &Options) -> Action {
    let retain = options.retained && random.chance(30);
    // Groups' copies of empty messages could not be told apart.
    let is_empty = options.retained && !options.shared && random.chance(20);
    let expires = options.message_expiry && random.chance(40);
    Action::Publish {
        topic: random.one_of(TOPICS),
        qos: random.one_of(QOS),
        retain,
        is_empty,
        is_large: random.chance(if options.small_packets { 30 } else { 5 }),
        // Empty messages look alike, so that they live alike.
        expiry_seconds: (expires && !is_empty).then(|| random.one_of([1, 4, 30, 10_000])),
    }
}
