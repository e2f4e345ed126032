//! Clients of one broker: a byte of setup, then three bytes a step.
//!
//! The players are those of paloma-broker's own tests, with all their checks. With an oracle: what was acknowledged
//! arrives, QoS 2 once, order is kept, Session Present tells the truth. Under changed limits and without regard for the
//! rules: the accounts add up at every step. In the end every table is empty.

#[path = "../../crates/paloma-broker/tests/play/mod.rs"]
mod play;
#[path = "../../crates/paloma-broker/tests/support/mod.rs"]
mod support;

use play::{CLIENTS, FILTERS, SHARED, Step, TOPICS};

/// Steps of one run: enough for any state, few enough to be quick.
const STEPS_MAX: usize = 300;

/// Values that limits are tried at.
const VALUES: [u32; 5] = [0, 1, 2, 40, u32::MAX];

/// Plays the steps and sees that all is well and, in the end, gone.
pub fn run(data: &[u8]) {
    let Some((setup, steps)) = data.split_first() else {
        return;
    };
    let steps = steps.as_chunks().0.iter().take(STEPS_MAX);
    let script: Vec<_> = steps.map(|[code, a, b]| step(*code, *a, *b)).collect();
    if setup & 1 == 0 {
        play::play(&script);
    } else {
        let setup = usize::from(setup >> 1);
        let value = VALUES[setup % VALUES.len()];
        play::play_limited(play::limited(&[(setup / VALUES.len() * 2, value)]), &script);
    }
}

fn step(code: u8, a: u8, b: u8) -> (usize, Step) {
    let pick = |byte: u8, count: usize| usize::from(byte) % count;
    let step = match code & 15 {
        0 | 1 => Step::Connect {
            clean: a & 1 != 0,
            will: a & 2 != 0,
            expiry: pick(b, 3),
        },
        2 => Step::Cut,
        3 => Step::Leave,
        4 | 5 => Step::Subscribe {
            filter: pick(a, FILTERS.len() + SHARED.len()),
            qos: b % 3,
        },
        6 => Step::Unsubscribe {
            filter: pick(a, FILTERS.len() + SHARED.len()),
        },
        7..=10 => Step::Publish {
            topic: pick(a, TOPICS.len()),
            qos: b % 3,
            retain: b & 64 != 0,
            empty: b & 128 != 0,
        },
        11 | 12 => Step::Take {
            acknowledged: usize::from(a % 8),
        },
        13 => Step::Read(a & 1 != 0),
        14 if a >= 0xC0 => Step::Crash,
        14 => Step::Commits(a & 1 != 0),
        _ => Step::Wait {
            millis: u64::from(a) * 50,
        },
    };
    (pick(code >> 4, CLIENTS), step)
}
