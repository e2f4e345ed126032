//! Exchanges and aliases that are opened and never closed, and answers that nobody reads.

use std::time::Duration;

use paloma_interop::peer::Version::{V5, V311};
use paloma_interop::raw::RawClient;
use paloma_interop::wire;

use crate::answer::Answer;
use crate::attack::Attack;

/// What the broker announces unless it is configured otherwise.
const RECEIVE_MAXIMUM: u64 = 32;
const TOPIC_ALIAS_MAXIMUM: u16 = 16;

/// QoS 2 exchanges that are never completed.
pub(super) fn half_qos2(attack: &mut Attack<'_>) {
    for round in 0.. {
        if !attack.goes_on(round, 1) {
            return;
        }
        let last = attack.size(5_000, 65_535) as u16;
        attack.tally.attempts += 2;
        every_id(attack, last);
        whole_window(attack, last);
    }
}

/// 3.1.1 has no window: every identifier may be open, and the connection lives.
fn every_id(attack: &mut Attack<'_>, last: u16) {
    let Some(mut client) = attack.connect(V311, "half-v3") else {
        return;
    };
    let mut received: u64 = 0;
    let ids: Vec<u16> = (1..=last).collect();
    for chunk in ids.chunks(1_000) {
        let packets: Vec<u8> = chunk
            .iter()
            .flat_map(|id| wire::publish(V311, 2, *id, "half", b"x"))
            .collect();
        if client.try_send(&packets).is_err() {
            attack.tally.complain("closed amid identifiers".to_owned());
            return;
        }
        attack.ping(&mut client, |tally, answer| {
            received += 1;
            tally.expect("QoS 2", answer, &[Answer::PubRec(0)]);
        });
    }
    let sent = u64::from(last);
    attack
        .tally
        .require(received == sent, || format!("{received} PUBRECs of {sent}"));
}

/// 5.0: all in one write; more than the window is refused.
fn whole_window(attack: &mut Attack<'_>, last: u16) {
    let Some(mut client) = attack.connect(V5, "half-v5") else {
        return;
    };
    let packets: Vec<u8> = (1..=last)
        .flat_map(|id| wire::publish(V5, 2, id, "half", b"x"))
        .collect();
    let _ = client.try_send(&packets);
    let mut received: u64 = 0;
    loop {
        match Answer::next(&mut client) {
            answer @ Answer::PubRec(_) => {
                received += 1;
                attack.tally.count(answer);
            }
            answer => {
                let allowed = [Answer::Disconnect(0x93)];
                attack.tally.expect("beyond the window", answer, &allowed);
                break;
            }
        }
    }
    attack.tally.require(received <= RECEIVE_MAXIMUM, || {
        format!("{received} PUBRECs with a window of {RECEIVE_MAXIMUM}")
    });
}

/// Aliases, right and wrong.
pub(super) fn aliases(attack: &mut Attack<'_>) {
    for round in 0.. {
        if !attack.goes_on(round, 10) {
            return;
        }
        attack.tally.attempts += 1;
        let Some(mut client) = attack.connect(V5, "aliases") else {
            return;
        };
        let long = "t".repeat(4_000);
        let defined = 0x30;
        match attack.random.between(0, 5) {
            0 => refused(attack, &mut client, &aliased(defined, 0, "x"), &[0x94]),
            1 => {
                let alias = attack.random.between(17, 65_536) as u16;
                refused(attack, &mut client, &aliased(defined, alias, "x"), &[0x94]);
            }
            2 => refused(attack, &mut client, &aliased(defined, 9, ""), &[0x82, 0x94]),
            3 => refused(
                attack,
                &mut client,
                &aliased(defined, 1, &"t".repeat(65_535)),
                &[0x90],
            ),
            _ => {
                for number in 0..attack.size(500, 20_000) {
                    let alias = (number % usize::from(TOPIC_ALIAS_MAXIMUM)) as u16 + 1;
                    let topic = &long[..attack.random.between(1, long.len())];
                    let _ = client.try_send(&aliased(defined, alias, topic));
                }
                attack.ping(&mut client, |tally, answer| {
                    tally.expect("redefined aliases", answer, &[]);
                });
            }
        }
    }
}

fn refused(attack: &mut Attack<'_>, client: &mut RawClient, bytes: &[u8], codes: &[u8]) {
    let _ = client.try_send(bytes);
    attack.expect_end("an alias", client, codes);
}

fn aliased(first: u8, alias: u16, topic: &str) -> Vec<u8> {
    let [high, low] = alias.to_be_bytes();
    let block = wire::properties(&[&[0x23, high, low]]);
    wire::publish_with(&block, first, 0, topic.as_bytes(), b"x")
}

/// Thousands of PINGREQs, whose answers are read only afterwards.
pub(super) fn pings(attack: &mut Attack<'_>) {
    for round in 0.. {
        if !attack.goes_on(round, 3) {
            return;
        }
        attack.tally.attempts += 1;
        let count = 10_000;
        let version = attack.version();
        let Some(mut client) = attack.connect(version, "pings") else {
            return;
        };
        let _ = client.try_send(&wire::PINGREQ.repeat(count));
        let mut answered = 0;
        while answered < count {
            let answer = Answer::within(&mut client, Duration::from_secs(20));
            if answer != Answer::Pong {
                attack.tally.expect("PINGREQ", answer, &[Answer::Pong]);
                break;
            }
            attack.tally.count(answer);
            answered += 1;
        }
    }
}
