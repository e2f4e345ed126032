//! Retained messages without end.

use std::thread;
use std::time::{Duration, Instant};

use paloma_interop::peer::Version::V5;
use paloma_interop::raw::RawClient;
use paloma_interop::wire;

use crate::answer::{ANSWER_MAX, Answer};
use crate::attack::Attack;
use crate::run::RETAINED_MAX;

/// Nobody subscribes to what is published here: the broker may say so.
const TAKEN: [Answer; 2] = [Answer::PubAck(0), Answer::PubAck(0x10)];
const REFUSED: Answer = Answer::PubAck(0x97);

pub(super) fn run(attack: &mut Attack<'_>) {
    for round in 0.. {
        if !attack.goes_on(round, 1) {
            return;
        }
        let Some(mut client) = attack.connect(V5, "hoarder") else {
            return;
        };
        // Full, one too many, and free again once told so.
        fill(attack, &mut client, &wire::properties(&[]));
        clear(attack, &mut client);
        // Full of what expires in a second, and free again without being told.
        fill(
            attack,
            &mut client,
            &wire::properties(&[&[0x02, 0, 0, 0, 1]]),
        );
        wait_until_free(attack, &mut client);
        clear(attack, &mut client);
    }
}

/// Sets more retained messages than there is room for.
fn fill(attack: &mut Attack<'_>, client: &mut RawClient, block: &[u8]) {
    let mut refused = 0;
    let mut taken = 0;
    for number in 0..RETAINED_MAX + 100 {
        attack.tally.attempts += 1;
        let answer = set(client, block, number, &[b'x'; 200]);
        attack
            .tally
            .expect("a retained message", answer, &[TAKEN[0], TAKEN[1], REFUSED]);
        if answer == REFUSED {
            refused += 1;
        } else {
            taken += 1;
        }
    }
    // Those that expire may make room while the others come.
    let expires = block.len() > 1;
    attack
        .tally
        .require(expires || taken <= RETAINED_MAX && refused >= 100, || {
            format!("{taken} taken and {refused} refused, with room for {RETAINED_MAX}")
        });
}

fn clear(attack: &mut Attack<'_>, client: &mut RawClient) {
    for number in 0..RETAINED_MAX + 100 {
        let answer = set(client, &wire::properties(&[]), number, b"");
        attack
            .tally
            .expect("a retained message removed", answer, &TAKEN);
    }
}

fn wait_until_free(attack: &mut Attack<'_>, client: &mut RawClient) {
    let deadline = Instant::now() + ANSWER_MAX;
    thread::sleep(Duration::from_millis(1_500));
    loop {
        let answer = set(client, &wire::properties(&[]), RETAINED_MAX + 1, b"x");
        if answer != REFUSED || Instant::now() > deadline {
            attack
                .tally
                .expect("after the others expired", answer, &TAKEN);
            return;
        }
        thread::sleep(Duration::from_millis(100));
    }
}

fn set(client: &mut RawClient, block: &[u8], number: usize, payload: &[u8]) -> Answer {
    let topic = format!("hoard/{}/{number}", number % 100);
    let _ = client.try_send(&wire::publish_with(
        block,
        0x33,
        1,
        topic.as_bytes(),
        payload,
    ));
    Answer::next(client)
}
