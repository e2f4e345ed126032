//! Floods to clients that are away.

use paloma_interop::peer::Version::{V5, V311};
use paloma_interop::raw::RawClient;
use paloma_interop::wire::{self, Connect};

use crate::answer::Answer;
use crate::attack::Attack;

/// Clients that are away.
const COUNT: usize = 10;

/// What their queues hold unless configured otherwise.
const QUEUE_MESSAGES_MAX: u64 = 1_000;

pub(super) fn run(attack: &mut Attack<'_>) {
    for round in 0.. {
        if !attack.goes_on(round, 1) {
            return;
        }
        let ids: Vec<String> = (0..COUNT).map(|number| format!("away-{number}")).collect();
        for id in &ids {
            let connect = Connect::persistent(V5, id);
            let Some(mut client) = attack.connect_as(V5, &connect) else {
                return;
            };
            let _ = client.try_send(&wire::subscribe(V5, 1, &[("away", 1)]));
            let answer = Answer::next(&mut client);
            attack
                .tally
                .expect("SUBSCRIBE", answer, &[Answer::SubAck(1)]);
            let _ = client.try_send(&wire::DISCONNECT);
        }
        let sent = attack.size(2_000, 20_000);
        flood(attack, sent);
        for id in &ids {
            attack.tally.attempts += 1;
            drain(attack, id);
            attack.forget_session(id);
        }
    }
}

fn flood(attack: &mut Attack<'_>, count: usize) {
    let Some(mut publisher) = attack.connect(V311, "flood") else {
        return;
    };
    let mut payload = vec![b'x'; 1_024];
    for number in 0..count {
        payload[..8].copy_from_slice(&(number as u64).to_be_bytes());
        let id = (number % 60_000 + 1) as u16;
        let _ = publisher.try_send(&wire::publish(V311, 1, id, "away", &payload));
        if number % 100 == 99 || number + 1 == count {
            attack.ping(&mut publisher, |tally, answer| {
                tally.expect("PUBLISH", answer, &[Answer::PubAck(0)]);
            });
        }
    }
}

/// Takes what has waited: as much as a queue holds, in order.
fn drain(attack: &mut Attack<'_>, id: &str) {
    let Some(mut client) = attack.connect_as(V5, &Connect::persistent(V5, id)) else {
        return;
    };
    let (mut received, mut last) = (0, None);
    while received < QUEUE_MESSAGES_MAX {
        let Some(number) = next(&mut client) else {
            break;
        };
        if last.is_some_and(|last| number <= last) {
            attack.tally.complain(format!("{number} after {last:?}"));
        }
        last = Some(number);
        received += 1;
        attack.tally.count(Answer::Publish);
    }
    attack.ping(&mut client, |tally, answer| {
        tally.expect("beyond a full queue", answer, &[]);
    });
    attack.tally.require(received == QUEUE_MESSAGES_MAX, || {
        format!("{received} messages of a full queue of {QUEUE_MESSAGES_MAX}")
    });
}

/// The number of the next message, which is acknowledged.
fn next(client: &mut RawClient) -> Option<u64> {
    let frame = client.frame_within(crate::answer::ANSWER_MAX).flatten()?;
    let publish = frame.publish(V5)?;
    client.try_send(&wire::ack(wire::PUBACK, publish.id)).ok()?;
    publish
        .payload
        .first_chunk()
        .map(|number| u64::from_be_bytes(*number))
}
