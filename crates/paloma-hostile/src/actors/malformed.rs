//! Every malformed packet of the interop suite, in a seeded order and cut in a seeded way.

use paloma_interop::malformed::{self, Case, Delivery, When};
use paloma_interop::raw::RawClient;
use paloma_interop::wire;

use crate::answer::Answer;
use crate::attack::Attack;

/// Cases longer than this are not sent byte by byte: that would test the loopback interface.
const BYTE_BY_BYTE_MAX: usize = 2_000;

pub(super) fn run(attack: &mut Attack<'_>) {
    let cases = all();
    let prefixes = malformed::prefixes();
    let start = attack.random.between(0, cases.len());
    // An odd stride through a list of another length meets all of it, in an order that mixes the classes.
    let stride = coprime(cases.len(), attack.random.between(1, cases.len()));
    for round in 0.. {
        if !attack.goes_on(round, 400) {
            break;
        }
        let case = &cases[(start + round * stride) % cases.len()];
        attack.tally.attempts += 1;
        match malformed::check(attack.address, case, delivery(attack, case)) {
            Ok(()) => attack.tally.count(Answer::AsAsked),
            Err(what) => attack.tally.complain(format!("{}: {what}", case.name)),
        }
        if round % 4 == 0 {
            let prefix = &prefixes[attack.random.between(0, prefixes.len())];
            leave_inside(attack, prefix);
        }
    }
}

fn all() -> Vec<Case> {
    [
        malformed::connects(),
        malformed::directions(),
        malformed::integers(),
        malformed::properties(),
        malformed::publishes(),
        malformed::shared_subscriptions(),
        malformed::subscriptions(),
        malformed::flags(),
        malformed::foreign_properties(),
        malformed::strings(),
        malformed::trailing_bytes(),
        malformed::truncations(),
    ]
    .concat()
}

fn delivery(attack: &mut Attack<'_>, case: &Case) -> Delivery {
    match attack.random.between(0, 3) {
        0 if case.bytes.len() <= BYTE_BY_BYTE_MAX => Delivery::ByteByByte,
        1 if case.bytes.len() > 1 => Delivery::Split(attack.random.between(1, case.bytes.len())),
        _ => Delivery::Whole,
    }
}

/// Goes away in the middle of a packet: there is nothing to answer.
fn leave_inside(attack: &mut Attack<'_>, prefix: &Case) {
    attack.tally.attempts += 1;
    let mut client = RawClient::open(attack.address, prefix.version);
    if prefix.when == When::Connected {
        let connect = wire::Connect::new(prefix.version, "leaving");
        let _ = client.try_send(&connect.encode());
        let answer = Answer::next(&mut client);
        attack
            .tally
            .expect("CONNECT", answer, &[Answer::ConnAck(0)]);
    }
    let _ = client.try_send(&prefix.bytes);
    client.finish();
    let answer = Answer::next(&mut client);
    attack.tally.expect(&prefix.name, answer, &[Answer::Closed]);
}

fn coprime(length: usize, from: usize) -> usize {
    (from..)
        .find(|step| divisor(length, *step) == 1)
        .unwrap_or(1)
}

fn divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stride_meets_every_case() {
        let count = all().len();
        let with_prefixes = count + malformed::prefixes().len();
        assert!(with_prefixes >= 2_500, "{with_prefixes} cases");
        for from in [1, 2, count / 2, count - 1] {
            let stride = coprime(count, from);
            let mut met = vec![false; count];
            for round in 0..count {
                met[round * stride % count] = true;
            }
            assert!(met.iter().all(|met| *met), "{stride} of {count}");
        }
    }
}
