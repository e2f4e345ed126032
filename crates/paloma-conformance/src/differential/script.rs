//! What several clients do, legal and not, from a seed.

use paloma_codec::ProtocolVersion;

use crate::requests::{AS_PUBLISHED, IF_NEW, NEVER, NO_LOCAL};
use crate::wire;

/// How many clients a script has.
pub(super) const CLIENTS: usize = 3;
const STEPS: usize = 24;
/// Topics below a script's own level.
const TOPICS: [&str; 6] = ["a", "a/b", "a/b/c", "b", "b//c", "/"];
/// Filters below it.
const FILTERS: [&str; 9] = ["a", "a/b", "a/+", "a/#", "+/b", "b/+/c", "#", "+", "b//c"];

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// A new connection under the client's identifier; an earlier one, if still open, is taken over.
    Connect {
        /// Which client.
        client: usize,
        /// Whether its session begins anew and ends with the connection.
        clean: bool,
        /// QoS and RETAIN of a will.
        will: Option<(u8, bool)>,
    },
    /// SUBSCRIBE.
    Subscribe {
        /// Which client.
        client: usize,
        /// The filter.
        filter: &'static str,
        /// The options byte.
        options: u8,
    },
    /// UNSUBSCRIBE.
    Unsubscribe {
        /// Which client.
        client: usize,
        /// The filter.
        filter: &'static str,
    },
    /// PUBLISH, to the end of its exchange.
    Publish {
        /// Which client.
        client: usize,
        /// The topic.
        topic: &'static str,
        /// QoS.
        qos: u8,
        /// RETAIN.
        retain: bool,
        /// The number in the payload; none for an empty one.
        payload: Option<u32>,
    },
    /// From here on the client acknowledges nothing, or everything again.
    Hold {
        /// Which client.
        client: usize,
        /// Whether it stops.
        hold: bool,
    },
    /// DISCONNECT.
    Disconnect {
        /// Which client.
        client: usize,
    },
    /// The connection breaks.
    Cut {
        /// Which client.
        client: usize,
    },
    /// Bytes that no broker may accept.
    Illegal {
        /// Which client.
        client: usize,
        /// Which of the illegal ones.
        number: usize,
    },
}

/// A script.
#[derive(Debug, Clone)]
pub struct Script {
    /// Where it came from.
    pub seed: u64,
    /// The version of all its clients.
    pub version: ProtocolVersion,
    /// The steps.
    pub ops: Vec<Op>,
}

impl Script {
    /// The script of a seed.
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        let mut random = Random(seed);
        let version = match random.below(2) {
            0 => ProtocolVersion::V3_1_1,
            _ => ProtocolVersion::V5,
        };
        let mut ops: Vec<Op> = (0..CLIENTS)
            .map(|client| connect(&mut random, client))
            .collect();
        // A filter keeps its options for one client [MQTT-3.8.4-3], and a client has one QoS for all its filters, since
        // some of them overlap [MQTT311-3.3.5-1]: docs/differences.md.
        let mut kept = Vec::new();
        for _ in 0..CLIENTS {
            let qos = random.below_u8(3);
            for _ in FILTERS {
                kept.push(qos | options(&mut random, version));
            }
        }
        for step in 0..STEPS {
            let next = op(&mut random, version, step, &kept);
            // A takeover that resumes leaves the will in one of the two [MQTT311-3.1.2-8]: docs/differences.md.
            if let Op::Connect { client, .. } = next {
                ops.push(Op::Cut { client });
            }
            ops.push(next);
        }
        Self { seed, version, ops }
    }
}

fn connect(random: &mut Random, client: usize) -> Op {
    let will = (random.below(4) == 0).then(|| (random.below_u8(3), random.below(3) == 0));
    Op::Connect {
        client,
        clean: random.below(3) == 0,
        will,
    }
}

/// The options of a filter, apart from its QoS.
fn options(random: &mut Random, version: ProtocolVersion) -> u8 {
    if !version.is_v5() {
        return 0;
    }
    let handling = [0, IF_NEW, NEVER];
    let mut options = handling.get(random.below(3)).copied().unwrap_or_default();
    if random.below(4) == 0 {
        options |= NO_LOCAL;
    }
    if random.below(3) == 0 {
        options |= AS_PUBLISHED;
    }
    options
}

fn op(random: &mut Random, version: ProtocolVersion, step: usize, options: &[u8]) -> Op {
    let client = random.below(CLIENTS);
    match random.below(20) {
        0..=4 => {
            let number = random.below(FILTERS.len());
            let kept = options.get(client * FILTERS.len() + number);
            Op::Subscribe {
                client,
                filter: FILTERS.get(number).copied().unwrap_or("a"),
                options: kept.copied().unwrap_or_default(),
            }
        }
        5 => Op::Unsubscribe {
            client,
            filter: random.of(&FILTERS),
        },
        6..=12 => Op::Publish {
            client,
            topic: random.of(&TOPICS),
            qos: random.below_u8(3),
            retain: random.below(3) == 0,
            payload: (random.below(6) > 0).then(|| u32::try_from(step).unwrap_or(0)),
        },
        13 => Op::Hold {
            client,
            hold: random.below(2) == 0,
        },
        14 => Op::Disconnect { client },
        15 => Op::Cut { client },
        16 => Op::Illegal {
            client,
            number: random.below(illegal(version, "x").len()),
        },
        _ => connect(random, client),
    }
}

/// Bytes that end a connection and leave its will, which a second CONNECT does not everywhere [MQTT311-3.1.2-8], below a level of the script's own.
#[must_use]
pub(super) fn illegal(version: ProtocolVersion, level: &str) -> Vec<(&'static str, Vec<u8>)> {
    let none = wire::no_properties(version);
    let topic = format!("{level}/a");
    let topic = topic.as_bytes();
    let mut all = vec![
        ("QoS 3", wire::publish(0x36, topic, 1, &none, b"x")),
        (
            "a wildcard in a topic",
            wire::publish(0x30, b"a/+", 0, &none, b"x"),
        ),
        ("no topic", wire::publish(0x30, b"", 0, &none, b"x")),
        ("no UTF-8", wire::publish(0x30, b"a\xFF", 0, &none, b"x")),
        ("U+0000", wire::publish(0x30, b"a\0", 0, &none, b"x")),
        ("identifier 0", wire::publish(0x32, topic, 0, &none, b"x")),
        (
            "SUBSCRIBE with flags 0",
            wire::subscribe(0x80, 1, &none, &[(topic, 0)]),
        ),
        ("SUBSCRIBE of nothing", wire::subscribe(0x82, 1, &none, &[])),
        (
            "SUBSCRIBE with QoS 3",
            wire::subscribe(0x82, 1, &none, &[(topic, 3)]),
        ),
        (
            "SUBSCRIBE with identifier 0",
            wire::subscribe(0x82, 0, &none, &[(topic, 0)]),
        ),
        (
            "UNSUBSCRIBE of nothing",
            wire::unsubscribe(0xA2, 1, &none, &[]),
        ),
        (
            "UNSUBSCRIBE with flags 0",
            wire::unsubscribe(0xA0, 1, &none, &[topic]),
        ),
        ("PUBREL with flags 0", wire::ack(0x60, 1)),
        ("type 0", vec![0, 0]),
        (
            "a length of five bytes",
            vec![0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01],
        ),
    ];
    if version.is_v5() {
        let with = |property: &[u8]| wire::publish(0x30, topic, 0, &wire::block(&[property]), b"x");
        all.push(("alias 0", with(&[0x23, 0, 0])));
        all.push(("an alias that is too large", with(&[0x23, 0xFF, 0xFF])));
        all.push(("a property that there is not", with(&[0x7F, 0])));
        all.push(("a property of CONNECT", with(&[0x21, 0, 1])));
        let subscribe = wire::subscribe(0x82, 1, &[2, 0x0B, 0], &[(topic, 0)]);
        all.push(("subscription identifier 0", subscribe));
        all.push(("AUTH without a method", vec![0xF0, 2, 0x18, 0]));
    } else {
        all.push((
            "options of 5.0",
            wire::subscribe(0x82, 1, &[], &[(topic, 0x04)]),
        ));
        all.push(("AUTH", vec![0xF0, 0]));
    }
    all
}

/// SplitMix64: enough for choices, the same everywhere.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        let bound = bound as u64;
        usize::try_from(self.next() % bound).unwrap_or_default()
    }

    fn below_u8(&mut self, bound: u8) -> u8 {
        u8::try_from(self.below(usize::from(bound))).unwrap_or_default()
    }

    fn of(&mut self, all: &[&'static str]) -> &'static str {
        let number = self.below(all.len());
        all.get(number).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_one_script_and_seeds_differ() {
        assert_eq!(Script::of_seed(7).ops, Script::of_seed(7).ops);
        assert_ne!(Script::of_seed(7).ops, Script::of_seed(8).ops);
    }

    #[test]
    fn scripts_of_a_hundred_seeds_do_everything() {
        let ops: Vec<Op> = (0..100)
            .flat_map(|seed| Script::of_seed(seed).ops)
            .collect();
        let count = |is: fn(&Op) -> bool| ops.iter().filter(|op| is(op)).count();
        assert!(count(|op| matches!(op, Op::Illegal { .. })) > 50);
        assert!(count(|op| matches!(op, Op::Cut { .. })) > 50);
        assert!(count(|op| matches!(op, Op::Hold { hold: true, .. })) > 20);
        assert!(count(|op| matches!(op, Op::Publish { retain: true, .. })) > 100);
    }
}
