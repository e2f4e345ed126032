//! Subscribers that do not do their part.

use std::thread;
use std::time::Duration;

use paloma_interop::peer::Version::{V5, V311};
use paloma_interop::raw::RawClient;
use paloma_interop::wire;

use crate::answer::Answer;
use crate::attack::Attack;
use crate::run::STALL_TIMEOUT;

/// Bytes that no pair of socket buffers takes: a connection that got so much unread is stalled for sure.
const STALLS_BYTES: usize = 24 << 20;

/// How many subscribers misbehave at a time.
const COUNT: usize = 10;

/// Reads everything, acknowledges nothing: the window closes, the queue fills, the rest is dropped.
pub(super) fn never_acknowledge(attack: &mut Attack<'_>) {
    for round in 0.. {
        if !attack.goes_on(round, 1) {
            return;
        }
        let mut clients = subscribers(attack, "rude", 1);
        publish(attack, "rude", 1, attack.size(2_000, 20_000), 1_024);
        for client in &mut clients {
            let mut received: u64 = 0;
            attack.ping(client, |tally, answer| {
                received += u64::from(answer == Answer::Publish);
                tally.expect("without PUBACK", answer, &[Answer::Publish]);
            });
            attack.tally.require(received <= 32, || {
                format!("{received} messages sent without PUBACK")
            });
        }
    }
}

/// Reads nothing: the socket fills, and the connection is cut in the end.
pub(super) fn never_read(attack: &mut Attack<'_>) {
    for round in 0.. {
        if !attack.goes_on(round, 1) {
            return;
        }
        let clients = subscribers(attack, "deaf", 0);
        let payload = 4_096;
        let count = attack.size(STALLS_BYTES / 8, STALLS_BYTES) / payload;
        publish(attack, "deaf", 0, count, payload);
        if count * payload < STALLS_BYTES {
            continue;
        }
        thread::sleep(STALL_TIMEOUT * 2);
        for mut client in clients {
            let end = loop {
                let answer = Answer::next(&mut client);
                if answer != Answer::Publish {
                    break answer;
                }
            };
            attack
                .tally
                .expect("a stalled subscriber", end, &[Answer::Closed]);
        }
    }
}

/// One message of a mebibyte to very many: they share it, and each gets it whole when it reads at last.
pub(super) fn amplify(attack: &mut Attack<'_>) {
    for round in 0.. {
        if !attack.goes_on(round, 1) {
            return;
        }
        let mut clients = Vec::new();
        for number in 0..attack.size(50, 500) {
            clients.extend(subscriber(
                attack,
                &format!("amplified-{number}"),
                "amplified",
                0,
            ));
        }
        publish(attack, "amplified", 0, 1, 1 << 20);
        for client in &mut clients {
            let answer = Answer::next(client);
            attack
                .tally
                .expect("a shared message", answer, &[Answer::Publish]);
        }
    }
}

fn subscribers(attack: &mut Attack<'_>, topic: &str, qos: u8) -> Vec<RawClient> {
    (0..COUNT)
        .filter_map(|number| subscriber(attack, &format!("{topic}-{number}"), topic, qos))
        .collect()
}

fn subscriber(attack: &mut Attack<'_>, id: &str, topic: &str, qos: u8) -> Option<RawClient> {
    attack.tally.attempts += 1;
    let mut client = attack.connect(V5, id)?;
    let _ = client.try_send(&wire::subscribe(V5, 1, &[(topic, qos)]));
    let answer = Answer::next(&mut client);
    attack
        .tally
        .expect("SUBSCRIBE", answer, &[Answer::SubAck(qos)]);
    Some(client)
}

/// Publishes, reading the answers as they come so that nothing of ours is stuck.
fn publish(attack: &mut Attack<'_>, topic: &str, qos: u8, count: usize, payload_bytes: usize) {
    let Some(mut publisher) = attack.connect(V311, "loud") else {
        return;
    };
    let payload = vec![b'x'; payload_bytes];
    for number in 0..count {
        let id = (number % 60_000 + 1) as u16;
        if publisher
            .try_send(&wire::publish(V311, qos, id, topic, &payload))
            .is_err()
        {
            attack.tally.complain("the publisher was closed".to_owned());
            return;
        }
        if number % 100 == 99 || number + 1 == count {
            attack.ping(&mut publisher, |tally, answer| {
                tally.expect("PUBLISH", answer, &[Answer::PubAck(0)]);
            });
        }
    }
    // The last turns may still be on their way.
    thread::sleep(Duration::from_millis(50));
}
