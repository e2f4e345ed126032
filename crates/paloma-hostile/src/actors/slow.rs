//! Time: peers that take it, and peers that fall silent.

use std::thread;
use std::time::{Duration, Instant};

use paloma_interop::peer::Version::{self, V5, V311};
use paloma_interop::raw::RawClient;
use paloma_interop::wire::{self, Connect};

use crate::answer::{ANSWER_MAX, Answer};
use crate::attack::Attack;
use crate::canary;
use crate::run::CONNECT_TIMEOUT;

/// Connections without a CONNECT, while others connect as they should.
pub(super) fn half_connects(attack: &mut Attack<'_>) {
    for round in 0.. {
        if !attack.goes_on(round, 1) {
            return;
        }
        let connect = Connect::new(V5, "slow").encode();
        let begin = Instant::now();
        let mut clients = Vec::new();
        for number in 0..attack.size(100, 2_000) {
            attack.tally.attempts += 1;
            let mut client = RawClient::open(attack.address, V5);
            let sent = [0, 1, 2, connect.len() - 1][number % 4];
            let _ = client.try_send(&connect[..sent]);
            clients.push(client);
        }
        let all_there = Instant::now();
        connect_beside(attack);
        drip(&mut clients);
        for client in &mut clients {
            let answer = Answer::next(client);
            attack
                .tally
                .expect("half a CONNECT", answer, &[Answer::Closed]);
        }
        let shortest = begin.elapsed();
        attack.tally.require(shortest >= CONNECT_TIMEOUT, || {
            format!("all closed after {shortest:?}, before their time")
        });
        let longest = all_there.elapsed().as_millis();
        let note = format!("all closed {longest} ms after the last came");
        attack.tally.notes.push(note);
    }
}

/// A byte now and then to those that have sent nothing, or a byte: ten in all, of a CONNECT that claims sixteen.
fn drip(clients: &mut [RawClient]) {
    for _ in 0..10 {
        for pair in clients.chunks_mut(4).take(50) {
            for client in pair.iter_mut().take(2) {
                let _ = client.try_send(&[0x10]);
            }
        }
        thread::sleep(CONNECT_TIMEOUT / 20);
    }
}

/// A hundred good clients: how long each waits is noted.
fn connect_beside(attack: &mut Attack<'_>) {
    let mut waited = canary::latency();
    for number in 0..100 {
        let begin = Instant::now();
        if attack.connect(V311, &format!("good-{number}")).is_some() {
            attack.tally.count(Answer::ConnAck(0));
        }
        waited.saturating_record(begin.elapsed().as_nanos() as u64);
    }
    let p99 = waited.value_at_quantile(0.99) / 1_000;
    attack.tally.notes = vec![format!("good connects beside them: p99 {p99} µs")];
}

/// Clients that stop talking: they are cut, and their wills are sent.
pub(super) fn silent(attack: &mut Attack<'_>) {
    for round in 0.. {
        if !attack.goes_on(round, 1) {
            return;
        }
        let Some(mut witness) = attack.connect(V311, "witness") else {
            return;
        };
        let _ = witness.try_send(&wire::subscribe(V311, 1, &[("silent/+", 0)]));
        let answer = Answer::next(&mut witness);
        attack
            .tally
            .expect("SUBSCRIBE", answer, &[Answer::SubAck(0)]);
        let begin = Instant::now();
        let mut clients = Vec::new();
        let count = attack.size(20, 200);
        for number in 0..count {
            attack.tally.attempts += 1;
            let version = Version::ALL[number % 2];
            let id = format!("silent-{number}");
            let mut connect =
                Connect::new(version, &id).with_will(&format!("silent/{number}"), "gone", 0);
            connect.keep_alive = 1;
            clients.extend(attack.connect_as(version, &connect));
        }
        for client in &mut clients {
            attack.expect_end("a silent client", client, &[0x8D]);
        }
        let elapsed = begin.elapsed();
        attack
            .tally
            .require(elapsed >= Duration::from_millis(1_500), || {
                format!("all cut after {elapsed:?}, before 1.5 times the keep alive")
            });
        for _ in 0..clients.len() {
            let will = Answer::next(&mut witness);
            attack.tally.expect("a will", will, &[Answer::Publish]);
        }
        keep_alives(attack);
    }
}

/// No keep alive, or a very long one, is replaced in 5.0.
fn keep_alives(attack: &mut Attack<'_>) {
    for asked in [0, u16::MAX] {
        let connect = Connect {
            keep_alive: asked,
            ..Connect::new(V5, "patient")
        };
        let mut client = RawClient::open(attack.address, V5);
        let _ = client.try_send(&connect.encode());
        let replaced = client
            .frame_within(ANSWER_MAX)
            .flatten()
            .is_some_and(|frame| frame.body.windows(3).any(|part| part == [0x13, 0x0E, 0x10]));
        attack
            .tally
            .require(replaced, || format!("a keep alive of {asked} stands"));
    }
}
