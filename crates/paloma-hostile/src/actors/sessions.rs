//! What CONNECT alone can make a broker keep.

use std::thread;
use std::time::Duration;

use paloma_interop::peer::Version::{self, V5, V311};
use paloma_interop::raw::RawClient;
use paloma_interop::wire::{self, Connect};

use crate::answer::Answer;
use crate::attack::Attack;
use crate::run::SESSIONS_MAX;

/// CONNECT with a will, and gone.
pub(super) fn wills(attack: &mut Attack<'_>) {
    let payload = "x".repeat(32 * 1024);
    for round in 0.. {
        if !attack.goes_on(round, 300) {
            return;
        }
        attack.tally.attempts += 1;
        let version = attack.version();
        let length = attack.random.between(0, payload.len());
        let qos = attack.random.between(0, 3) as u8;
        let id = format!("will-{}", attack.random.between(0, 64));
        let connect =
            Connect::new(version, &id).with_will("wills/unwanted", &payload[..length], qos);
        let mut client = RawClient::open(attack.address, version);
        let sent = client.try_send(&connect.encode());
        if sent.is_err() || attack.random.between(0, 3) == 0 {
            // Gone before the answer.
            continue;
        }
        let answer = Answer::next(&mut client);
        attack
            .tally
            .expect("CONNECT with a will", answer, &[Answer::ConnAck(0)]);
        if attack.random.between(0, 2) == 0 {
            let _ = client.try_send(&wire::DISCONNECT);
        }
    }
}

/// Sessions for ever, until there is no more room; then gives the room back.
pub(super) fn random_ids(attack: &mut Attack<'_>) {
    for round in 0.. {
        if !attack.goes_on(round, 1) {
            return;
        }
        let mut accepted = Vec::new();
        let mut refused = 0;
        for _ in 0..SESSIONS_MAX + 200 {
            attack.tally.attempts += 1;
            let version = attack.version();
            let id = format!("{:016x}", attack.random.next_u64());
            match connect_for_ever(attack, version, &id) {
                Answer::ConnAck(0) if refused > 0 => {
                    attack.tally.complain("accepted above the limit".to_owned());
                    accepted.push(id);
                }
                Answer::ConnAck(0) => accepted.push(id),
                _ => refused += 1,
            }
        }
        let count = accepted.len();
        attack
            .tally
            .require(count <= SESSIONS_MAX && refused >= 200, || {
                format!(
                    "{count} sessions accepted and {refused} refused, with room for {SESSIONS_MAX}"
                )
            });
        attack.tally.notes = vec![format!("{count} sessions, then {refused} refused")];
        for id in accepted {
            attack.forget_session(&id);
        }
    }
}

fn connect_for_ever(attack: &mut Attack<'_>, version: Version, id: &str) -> Answer {
    let mut connect = Connect::persistent(version, id);
    if version == V5 {
        connect.properties = wire::properties(&[&[0x11, 0xFF, 0xFF, 0xFF, 0xFF]]);
    }
    let mut client = RawClient::open(attack.address, version);
    let _ = client.try_send(&connect.encode());
    let answer = Answer::next(&mut client);
    let full = match version {
        V311 => Answer::ConnAck(3),
        V5 => Answer::ConnAck(0x97),
    };
    attack
        .tally
        .expect("a new session", answer, &[Answer::ConnAck(0), full]);
    answer
}

/// Sessions that expire after a second, with subscriptions and queues; they must be gone without being asked for.
pub(super) fn expiring(attack: &mut Attack<'_>) {
    let payload = [b'x'; 1_024];
    for round in 0.. {
        if !attack.goes_on(round, 1) {
            return;
        }
        let ids: Vec<String> = (0..attack.size(50, 500))
            .map(|_| format!("{:016x}", attack.random.next_u64()))
            .collect();
        let mut connect = Connect::persistent(V5, "");
        connect.properties = wire::properties(&[&[0x11, 0, 0, 0, 1]]);
        for id in &ids {
            attack.tally.attempts += 1;
            connect.client_id = id.as_bytes().to_vec();
            let Some(mut client) = attack.connect_as(V5, &connect) else {
                return;
            };
            let _ = client.try_send(&wire::subscribe(V5, 1, &[("expiring/#", 1)]));
            let answer = Answer::next(&mut client);
            attack
                .tally
                .expect("SUBSCRIBE", answer, &[Answer::SubAck(1)]);
        }
        let Some(mut publisher) = attack.connect(V311, "expiring-publisher") else {
            return;
        };
        for id in 1..=20 {
            let _ = publisher.try_send(&wire::publish(V311, 1, id, "expiring/x", &payload));
        }
        attack.ping(&mut publisher, |tally, answer| {
            tally.expect("PUBLISH", answer, &[Answer::PubAck(0)]);
        });
        // Not before its time, and the machine may be late.
        thread::sleep(Duration::from_millis(3_000));
        for id in ids.iter().step_by(10) {
            connect.client_id = id.as_bytes().to_vec();
            let mut client = RawClient::open(attack.address, V5);
            let _ = client.try_send(&connect.encode());
            let present = client
                .frame_within(crate::answer::ANSWER_MAX)
                .flatten()
                .is_none_or(|frame| frame.body.first() != Some(&0));
            attack
                .tally
                .require(!present, || "an expired session is present".to_owned());
        }
    }
}
