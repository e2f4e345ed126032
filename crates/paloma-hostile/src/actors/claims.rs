//! First bytes that promise much, or are no CONNECT.

use paloma_interop::peer::Version::V5;
use paloma_interop::raw::RawClient;
use paloma_interop::wire::{self, PINGREQ};

use crate::answer::Answer;
use crate::attack::Attack;

/// Many connections at a time, each with a claim and five bytes; then claims that the limits allow, held until all are there.
pub(super) fn huge(attack: &mut Attack<'_>) {
    for round in 0.. {
        if !attack.goes_on(round, 1) {
            return;
        }
        let count = attack.size(100, 2_000);
        let mut clients: Vec<RawClient> = (0..count).map(|number| claim(attack, number)).collect();
        for client in &mut clients {
            let answer = Answer::next(client);
            let allowed = [Answer::Closed, Answer::ConnAck(0x95)];
            attack
                .tally
                .expect("a claim before CONNECT", answer, &allowed);
        }
        drop(clients);
        let mut clients = Vec::new();
        for number in 0..count {
            attack.tally.attempts += 1;
            let Some(mut client) = attack.connect(V5, &format!("claim-{number}")) else {
                return;
            };
            // A PUBLISH of 2 MiB less some bytes, of which five come; one in eight claims too much.
            if number % 8 == 0 {
                let _ = client.try_send(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F]);
                attack.expect_end("a claim of 268,435,455 bytes", &mut client, &[0x95]);
            } else {
                let _ = client.try_send(&[0x30, 0xF0, 0xFF, 0x7F, 0, 5, b'c', b'l', b'a']);
                clients.push(client);
            }
        }
    }
}

fn claim(attack: &mut Attack<'_>, number: usize) -> RawClient {
    attack.tally.attempts += 1;
    let mut client = RawClient::open(attack.address, V5);
    // CONNECT, PUBLISH, SUBSCRIBE.
    let first = [0x10, 0x30, 0x82][number % 3];
    let _ = client.try_send(&[first, 0xFF, 0xFF, 0xFF, 0x7F, 0, 4, b'M', b'Q', b'T']);
    client
}

/// Right packets and noise from strangers.
pub(super) fn not_connect(attack: &mut Attack<'_>) {
    for round in 0.. {
        if !attack.goes_on(round, 200) {
            return;
        }
        attack.tally.attempts += 1;
        let version = attack.version();
        let bytes = match attack.random.between(0, 6) {
            0 => wire::publish(version, 1, 7, "x", &[0; 4_000]),
            1 => wire::subscribe(version, 1, &[("#", 2)]),
            2 => PINGREQ.to_vec(),
            3 => b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            4 => b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
            _ => noise(attack),
        };
        let mut client = RawClient::open(attack.address, version);
        let _ = client.try_send(&bytes);
        client.finish();
        let answer = Answer::next(&mut client);
        attack
            .tally
            .expect(&format!("{:02x?}…", &bytes[..2]), answer, &[Answer::Closed]);
    }
}

/// Random bytes that begin with anything but CONNECT.
fn noise(attack: &mut Attack<'_>) -> Vec<u8> {
    let length = attack.random.between(2, 2_000);
    let mut bytes: Vec<u8> = (0..length)
        .map(|_| attack.random.next_u64() as u8)
        .collect();
    if bytes[0] & 0xF0 == 0x10 {
        bytes[0] ^= 0x80;
    }
    bytes
}
