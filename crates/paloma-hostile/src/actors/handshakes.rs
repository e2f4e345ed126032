//! What comes before the first packet where a listener asks for more: TLS, and PROXY headers.

use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::Instant;

use paloma_interop::certificates::{client, secure};
use paloma_interop::peer::Version::V311;
use paloma_interop::wire::{self, Connect};

use crate::answer::Answer;
use crate::attack::Attack;
use crate::doors::{hears, knock, pause};
use crate::run::CONNECT_TIMEOUT;

/// A CONNACK of 3.1.1 that accepts.
const ACCEPTED: [u8; 4] = [0x20, 2, 0, 0];

/// How far a peer goes before it falls silent.
const TLS_KINDS: usize = 8;

/// Handshakes that stop anywhere, are none, or are followed by nothing.
pub(super) fn half_tls(attack: &mut Attack<'_>) {
    for round in 0.. {
        if !attack.goes_on(round, 1) {
            return;
        }
        let begin = Instant::now();
        let mut crowd = Vec::new();
        for number in 0..attack.size(5 * TLS_KINDS, 100 * TLS_KINDS) {
            attack.tally.attempts += 1;
            crowd.push((
                number % TLS_KINDS,
                half_a_handshake(attack, number % TLS_KINDS),
            ));
        }
        tls_beside(attack);
        for (kind, stream) in &mut crowd {
            attack.expect_closed(&format!("half of TLS, kind {kind}"), stream);
        }
        let shortest = begin.elapsed();
        attack.tally.require(shortest >= CONNECT_TIMEOUT, || {
            format!("all closed after {shortest:?}, before their time")
        });
    }
}

fn half_a_handshake(attack: &mut Attack<'_>, kind: usize) -> TcpStream {
    let mut hello = Vec::new();
    client(&attack.doors.trust)
        .write_tls(&mut hello)
        .expect("memory takes everything");
    let half = attack.random.between(1, hello.len());
    let mut stream = knock(attack.doors.tls);
    let bytes = match kind {
        0 => Vec::new(),
        1 => hello[..half].to_vec(),
        2 => Connect::new(V311, "plain").encode(),
        3 => noise(attack),
        // A record of 16 KiB, and a handshake message of 16 MiB in it, of which nothing comes.
        4 => vec![0x16, 3, 1, 0x40, 0, 1, 0xFF, 0xFF, 0xFF],
        5 => hello,
        _ => return after_hands_are_shaken(attack, stream, kind == 6),
    };
    // The broker may have closed before all is written.
    let _ = stream.write_all(&bytes);
    stream
}

/// A whole handshake, and then no CONNECT, or half of one.
fn after_hands_are_shaken(
    attack: &mut Attack<'_>,
    stream: TcpStream,
    is_silent: bool,
) -> TcpStream {
    let mut secure = secure(&attack.doors.trust, stream);
    let connect = Connect::new(V311, "half").encode();
    let sent: &[u8] = if is_silent { &[] } else { &connect[..5] };
    let shaken = secure.conn.complete_io(&mut secure.sock);
    attack
        .tally
        .require(shaken.is_ok(), || format!("a handshake: {shaken:?}"));
    let _ = secure.write_all(sent);
    secure.sock
}

/// Twenty good clients.
fn tls_beside(attack: &mut Attack<'_>) {
    for number in 0..20 {
        let mut stream = secure(&attack.doors.trust, knock(attack.doors.tls));
        let connect = Connect::new(V311, &format!("secure-{number}")).encode();
        let is_in = stream.write_all(&connect).is_ok() && hears(&mut stream, &ACCEPTED);
        count_accepted(attack, "a good client over TLS", is_in);
        let _ = stream.write_all(&wire::DISCONNECT);
    }
}

/// Headers that are broken, unfinished, of the other version, or not there.
pub(super) fn proxy(attack: &mut Attack<'_>) {
    for round in 0.. {
        if !attack.goes_on(round, 1) {
            return;
        }
        let mut crowd = Vec::new();
        for number in 0..attack.size(100, 1_000) {
            attack.tally.attempts += 1;
            let is_binary = attack.random.between(0, 2) == 1;
            let bytes = bad_header(attack, number, is_binary);
            let door = if is_binary {
                attack.doors.proxied
            } else {
                attack.doors.locked
            };
            let mut stream = knock(door);
            let _ = stream.write_all(&bytes);
            crowd.push((bytes, stream));
        }
        proxied_beside(attack);
        for (bytes, stream) in &mut crowd {
            let start = &bytes[..bytes.len().min(20)];
            attack.expect_closed(&format!("the header {start:02x?}…"), stream);
        }
    }
}

/// Followed by a right CONNECT, so that whoever passes over a bad header is found out.
fn bad_header(attack: &mut Attack<'_>, number: usize, is_binary: bool) -> Vec<u8> {
    let connect = Connect::new(V311, "unknown").encode();
    let header = match number % 10 {
        0 => return noise(attack),
        1 => return Vec::new(),
        2 => Vec::new(),
        // Never ends.
        3 if is_binary => return [&SIGNATURE[..], &[0x21, 0x11, 0xFF, 0xFF, 1, 2, 3]].concat(),
        3 => return [b"PROXY TCP6 ", &b"1:"[..].repeat(500)[..]].concat(),
        4 if is_binary => b"PROXY TCP4 192.0.2.1 127.0.0.1 1 2\r\n".to_vec(),
        4 => v2(0x21, 0x11, &[192, 0, 2, 1, 127, 0, 0, 1, 0, 1, 0, 2]),
        // Half of the signature, a version and an address of the wrong length.
        5 if is_binary => return SIGNATURE[..7].to_vec(),
        6 if is_binary => v2(0x31, 0x11, &[192, 0, 2, 1, 127, 0, 0, 1, 0, 1, 0, 2]),
        7 if is_binary => v2(0x21, 0x11, &[192, 0, 2]),
        8 if is_binary => v2(0x2F, 0x11, &[0; 12]),
        // A part that is longer than all of them.
        _ if is_binary => v2(
            0x21,
            0x11,
            &[192, 0, 2, 1, 127, 0, 0, 1, 0, 1, 0, 2, 0x20, 0xFF, 0xFF, 7],
        ),
        5 => return b"PROXY TCP4 192.0.2".to_vec(),
        6 => b"PROXY TCP4 300.0.2.1 127.0.0.1 1 2\r\n".to_vec(),
        7 => b"PROXY TCP4 ::1 ::1 1 2\r\n".to_vec(),
        8 => b"PROXY TCP4 192.0.2.1 127.0.0.1 1 65536\r\n".to_vec(),
        _ => b"proxy tcp4 192.0.2.1 127.0.0.1 1 2\n".to_vec(),
    };
    [header, connect].concat()
}

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let len = (rest.len() as u16).to_be_bytes();
    [&SIGNATURE[..], &[command, family], &len, rest].concat()
}

/// Good headers, some of them byte by byte.
fn proxied_beside(attack: &mut Attack<'_>) {
    let header = v2(0x21, 0x11, &[192, 0, 2, 1, 127, 0, 0, 1, 0, 1, 0, 2]);
    for number in 0..20 {
        let connect = Connect::new(V311, &format!("proxied-{number}")).encode();
        let all = [&header[..], &connect].concat();
        let mut stream = knock(attack.doors.proxied);
        let piece = if number == 0 { 1 } else { all.len() };
        for bytes in all.chunks(piece) {
            let _ = stream.write_all(bytes);
            if piece == 1 {
                thread::sleep(pause(all.len()));
            }
        }
        let is_in = hears(&mut stream, &ACCEPTED);
        count_accepted(attack, "a good client behind a proxy", is_in);
        let _ = stream.write_all(&wire::DISCONNECT);
    }
}

fn count_accepted(attack: &mut Attack<'_>, what: &str, is_in: bool) {
    if is_in {
        attack.tally.count(Answer::ConnAck(0));
    } else {
        attack.tally.complain(format!("{what} was not let in"));
    }
}

/// Random bytes that are the beginning of nothing.
fn noise(attack: &mut Attack<'_>) -> Vec<u8> {
    let length = attack.random.between(1, 2_000);
    let mut bytes: Vec<u8> = (0..length)
        .map(|_| attack.random.next_u64() as u8)
        .collect();
    // Neither a record of TLS nor the first byte of a PROXY header.
    bytes[0] |= 0x80;
    bytes
}
