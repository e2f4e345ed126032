//! Clients that come and go, and clients that take each other's place.

use std::time::{Duration, Instant};

use paloma_interop::peer::Version::{self, V5, V311};
use paloma_interop::raw::RawClient;
use paloma_interop::wire::{self, Connect};

use crate::answer::Answer;
use crate::attack::Attack;
use crate::canary;

/// Two sockets take one client id from each other, amid SUBSCRIBE, UNSUBSCRIBE and PUBLISH.
pub(super) fn run(attack: &mut Attack<'_>) {
    let mut held: Option<RawClient> = None;
    let mut waited = canary::latency();
    for round in 0.. {
        if !attack.goes_on(round, 500) {
            break;
        }
        attack.tally.attempts += 1;
        let version = attack.version();
        let mut connect = Connect::persistent(version, "contested");
        if attack.random.between(0, 4) == 0 {
            connect.flags |= 0x02;
        }
        let begin = Instant::now();
        let taken = attack.connect_as(version, &connect);
        waited.saturating_record(begin.elapsed().as_nanos() as u64);
        let Some(mut client) = taken else {
            break;
        };
        if let Some(loser) = held.take() {
            judge(attack, loser);
        }
        for _ in 0..attack.random.between(0, 4) {
            let bytes = match attack.random.between(0, 3) {
                0 => wire::subscribe(version, 1, &[("war/#", 2)]),
                1 => wire::unsubscribe(version, 1, &["war/#"]),
                _ => wire::publish(version, 1, 1, "war/cry", b"mine"),
            };
            let _ = client.try_send(&bytes);
        }
        if attack.random.between(0, 2) == 0 {
            let _ = client.frame_within(Duration::from_millis(1));
        }
        held = Some(client);
    }
    drop(held);
    attack.forget_session("contested");
    let (p99, most) = (waited.value_at_quantile(0.99), waited.max());
    attack.tally.notes = vec![format!(
        "taking over: p99 {} µs, at most {} µs",
        p99 / 1_000,
        most / 1_000
    )];
}

/// Whoever lost the session is told so in 5.0, and closed.
fn judge(attack: &mut Attack<'_>, mut loser: RawClient) {
    let mut told = false;
    loop {
        match Answer::next(&mut loser) {
            Answer::Closed => break,
            Answer::Disconnect(0x8E) => told = true,
            answer @ (Answer::Silence | Answer::ConnAck(_) | Answer::Disconnect(_)) => {
                attack.tally.expect("the loser", answer, &[Answer::Closed]);
                return;
            }
            // What it had asked for before.
            _ => {}
        }
    }
    let must_be_told = loser.version() == V5;
    attack
        .tally
        .require(told == must_be_told, || "closed without 0x8E".to_owned());
    attack.tally.count(if told {
        Answer::Disconnect(0x8E)
    } else {
        Answer::Closed
    });
}

/// Whole lives of clients, as fast as they go.
pub(super) fn churn(attack: &mut Attack<'_>) {
    for round in 0.. {
        if !attack.goes_on(round, 300) {
            return;
        }
        attack.tally.attempts += 1;
        let version: Version = attack.version();
        let id = format!("churn-{}", attack.random.between(0, 1_000));
        let Some(mut client) = attack.connect(version, &id) else {
            return;
        };
        let topic = format!("churn/{}", attack.random.between(0, 100));
        let bytes = [
            wire::subscribe(version, 1, &[(&topic, 0)]),
            wire::publish(version, 1, 1, "churn/unheard", b"x"),
        ]
        .concat();
        let _ = client.try_send(&bytes);
        let suback = Answer::next(&mut client);
        attack
            .tally
            .expect("SUBSCRIBE", suback, &[Answer::SubAck(0)]);
        let puback = Answer::next(&mut client);
        let unheard = if version == V311 { 0 } else { 0x10 };
        attack.tally.expect(
            "PUBLISH",
            puback,
            &[Answer::PubAck(0), Answer::PubAck(unheard)],
        );
        if attack.random.between(0, 2) == 0 {
            let _ = client.try_send(&wire::DISCONNECT);
            let end = Answer::next(&mut client);
            attack.tally.expect("DISCONNECT", end, &[Answer::Closed]);
        }
    }
}
