//! Wrong passwords, in the name of one address and of thousands.

use std::thread;
use std::time::{Duration, Instant};

use paloma_interop::peer::Version::{self, V5, V311};
use paloma_interop::raw::RawClient;
use paloma_interop::wire::{self, Connect};

use crate::answer::{ANSWER_MAX, Answer};
use crate::attack::Attack;

/// Who knows the password, and never says a wrong one.
const GOOD_ADDRESS: &str = "192.0.2.1";

/// What a wrong password may get: not that one, too many of them, or nobody has time to look.
const REFUSALS_V5: [Answer; 4] = [
    Answer::ConnAck(0x86),
    Answer::ConnAck(0x97),
    Answer::ConnAck(0x89),
    Answer::Closed,
];
/// The same in 3.1.1. Closed: more newcomers in a second than `connections_per_second_max`.
const REFUSALS_V311: [Answer; 3] = [Answer::ConnAck(4), Answer::ConnAck(3), Answer::Closed];

/// Floods of logins that all fail; whoever knows the password gets in afterwards, at the latest.
pub(super) fn run(attack: &mut Attack<'_>) {
    for round in 0.. {
        if !attack.goes_on(round, 1) {
            return;
        }
        let begin = Instant::now();
        let mut clients = Vec::new();
        for number in 0..attack.size(40, 600) {
            attack.tally.attempts += 1;
            clients.push(knock_wrongly(attack, number));
        }
        for client in &mut clients {
            let allowed: &[Answer] = match client.version() {
                V5 => &REFUSALS_V5,
                V311 => &REFUSALS_V311,
            };
            let answer = Answer::next(client);
            attack.tally.expect("a wrong password", answer, allowed);
        }
        let elapsed = begin.elapsed().as_millis();
        drop(clients);
        let waited = knock_rightly(attack);
        attack.tally.notes = vec![format!(
            "all refused in {elapsed} ms; the right password was let in {} ms later",
            waited.as_millis()
        )];
    }
}

/// Half of them from one address, the other half from wherever; names that exist and that do not.
fn knock_wrongly(attack: &mut Attack<'_>, number: usize) -> RawClient {
    let address = if number.is_multiple_of(2) {
        "198.51.100.7".to_owned()
    } else {
        let random = attack.random.next_u64().to_be_bytes();
        format!("198.18.{}.{}", random[0], random[1])
    };
    let user = match number % 3 {
        0 => "ann".to_owned(),
        1 => format!("user-{}", attack.random.next_u64()),
        _ => "x".repeat(attack.random.between(1, 4_000)),
    };
    let password = "wrong".repeat(attack.random.between(1, 1_000));
    let version = attack.version();
    knock(attack, version, &address, &user, &password)
}

/// Until it is let in; the broker may be busy with the others for a while.
fn knock_rightly(attack: &mut Attack<'_>) -> Duration {
    let begin = Instant::now();
    loop {
        let mut client = knock(attack, V5, GOOD_ADDRESS, "ann", "right");
        match Answer::next(&mut client) {
            accepted @ Answer::ConnAck(0) => {
                attack.tally.count(accepted);
                let _ = client.try_send(&wire::DISCONNECT);
                return begin.elapsed();
            }
            Answer::ConnAck(0x89) | Answer::Closed if begin.elapsed() < ANSWER_MAX => {
                thread::sleep(Duration::from_millis(50));
            }
            other => {
                attack
                    .tally
                    .complain(format!("the right password: {other}"));
                return begin.elapsed();
            }
        }
    }
}

/// A PROXY header that tells where it comes from, and a CONNECT with a password.
fn knock(
    attack: &Attack<'_>,
    version: Version,
    address: &str,
    user: &str,
    password: &str,
) -> RawClient {
    let mut connect = Connect::new(version, "");
    connect.flags |= 0xC0;
    connect.rest = [wire::string(user), wire::string(password)].concat();
    let header = format!("PROXY TCP4 {address} 127.0.0.1 4711 1883\r\n");
    let mut client = RawClient::open(attack.doors.locked, version);
    // One write: a broker that has closed already is no finding here.
    let _ = client.try_send(&[header.as_bytes(), &connect.encode()].concat());
    client
}
