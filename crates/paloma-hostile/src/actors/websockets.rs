//! WebSockets: upgrades that are none, frames that are broken, tiny or for nobody.

use std::io::Write;
use std::net::TcpStream;
use std::thread;

use paloma_interop::peer::Version::V311;
use paloma_interop::websocket::{BINARY, CLOSE, PING, PONG, REQUEST, WebSocket, answer, frame};
use paloma_interop::wire::{self, Connect};

use crate::answer::Answer;
use crate::attack::Attack;
use crate::doors::knock;

/// First byte of a message's first part, and of a part that is neither first nor last.
const FIRST_PART: u8 = 0x02;
const MIDDLE_PART: u8 = 0x00;
const LAST_PART: u8 = 0x80;

/// Everything, in rotation.
pub(super) fn run(attack: &mut Attack<'_>) {
    for round in 0.. {
        if !attack.goes_on(round, 1) {
            return;
        }
        bad_upgrades(attack);
        unfinished_upgrades(attack);
        broken_frames(attack);
        pings(attack);
        crumbs(attack);
    }
}

/// Requests that a listener for MQTT refuses, with a word of HTTP.
fn bad_upgrades(attack: &mut Attack<'_>) {
    let without = |line: &str| REQUEST.replace(line, "");
    let requests = [
        "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
        REQUEST.replace("GET", "POST"),
        REQUEST.replace("/mqtt", "/other"),
        REQUEST.replace("Version: 13", "Version: 8"),
        without("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"),
        without("Upgrade: websocket\r\n"),
        REQUEST.replace("dGhlIHNhbXBsZSBub25jZQ==", "short"),
        REQUEST.replace("Protocol: mqtt", "Protocol: chat"),
        REQUEST.replace(
            "Host: localhost",
            "Host: localhost\r\nOrigin: https://evil.example",
        ),
        REQUEST.replace(
            "Host: localhost",
            &format!("Host: localhost\r\nX: {}", "x".repeat(20_000)),
        ),
        REQUEST.replace("Host: localhost", &"X: y\r\n".repeat(500)),
        "\0\u{1}\u{2}\u{3}\r\n\r\n".to_owned(),
    ];
    for _ in 0..attack.size(1, 20) {
        for request in &requests {
            attack.tally.attempts += 1;
            let mut stream = knock(attack.doors.websocket);
            let _ = stream.write_all(request.as_bytes());
            // A reset may overtake the answer where more was sent than was read.
            let said = answer(&mut stream).unwrap_or_default();
            attack
                .tally
                .require(said.is_empty() || said.starts_with("HTTP/1.1 4"), || {
                    format!("{:.40}…: {said:.40}", request)
                });
            attack.expect_closed(&format!("{request:.40}…"), &mut stream);
        }
    }
}

/// Half a request, and a header that goes on for ever.
fn unfinished_upgrades(attack: &mut Attack<'_>) {
    let mut crowd = Vec::new();
    for number in 0..attack.size(10, 300) {
        attack.tally.attempts += 1;
        let half = attack.random.between(0, REQUEST.len() - 1);
        let mut stream = knock(attack.doors.websocket);
        let _ = stream.write_all(&REQUEST.as_bytes()[..half]);
        if number % 5 == 0 {
            let _ = stream.write_all(&b"X: y\r\n".repeat(10_000));
        }
        crowd.push(stream);
    }
    for stream in &mut crowd {
        attack.expect_closed("half an upgrade", stream);
    }
}

/// Each is answered with a close frame and the end.
fn broken_frames(attack: &mut Attack<'_>) {
    let huge = [
        BINARY, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3, 4,
    ];
    let frames = [
        [&[BINARY, 2][..], &wire::PINGREQ].concat(),
        frame(0x81, b"text"),
        frame(0xC2, b"compressed"),
        frame(0x83, b"reserved"),
        frame(LAST_PART, b"of nothing"),
        frame(0x09, b"a ping in pieces"),
        frame(PING, &[0; 126]),
        [frame(FIRST_PART, b""), frame(FIRST_PART, b"")].concat(),
        huge.to_vec(),
        frame(CLOSE, &[3, 0xE8]),
    ];
    for _ in 0..attack.size(1, 20) {
        for bytes in &frames {
            attack.tally.attempts += 1;
            let Some(mut socket) = enter(attack, "broken") else {
                return;
            };
            let _ = socket.write_raw(bytes);
            let farewell = socket.frame();
            let is_farewell = matches!(farewell, Ok(Some((CLOSE, _))));
            attack.tally.require(is_farewell, || {
                format!("the frame {:02x?}…: {farewell:02x?}", &bytes[..2])
            });
            let end = socket.frame();
            attack.tally.require(!matches!(end, Ok(Some(_))), || {
                format!("{end:02x?} after a close frame")
            });
            attack.tally.count(Answer::Closed);
        }
    }
}

/// Pings by the thousand whose answers are read late: the broker may answer each, and holds no more of them than it must.
fn pings(attack: &mut Attack<'_>) {
    let count = attack.size(1_000, 20_000);
    attack.tally.attempts += count as u64;
    let Some(mut socket) = enter(attack, "pings") else {
        return;
    };
    let Ok(mut sender) = socket.get_ref().try_clone() else {
        return;
    };
    let flood = [
        frame(PING, &[7; 125]).repeat(count),
        frame(BINARY, &wire::PINGREQ),
    ]
    .concat();
    let pongs = thread::scope(|scope| {
        scope.spawn(move || {
            // What is cut off here is missed below.
            let _ = sender.write_all(&flood);
        });
        let mut pongs = 0;
        loop {
            match socket.frame() {
                Ok(Some((PONG, _))) => pongs += 1,
                Ok(Some((_, payload))) if payload == [0xD0, 0] => return Ok(pongs),
                other => return Err(other),
            }
        }
    });
    match pongs {
        Ok(pongs) => {
            attack.tally.count(Answer::Pong);
            attack.tally.require((1..=count).contains(&pongs), || {
                format!("{pongs} pongs to {count} pings")
            });
        }
        Err(other) => attack.tally.complain(format!("{other:02x?} amid pings")),
    }
}

/// A message in parts of one byte, with empty ones and pings between: slow, and right.
fn crumbs(attack: &mut Attack<'_>) {
    let Some(mut socket) = enter(attack, "crumbs") else {
        return;
    };
    let publish = wire::publish(V311, 0, 0, "crumbs", &vec![7; attack.size(2_000, 50_000)]);
    let packets = [&publish[..], &wire::PINGREQ].concat();
    attack.tally.attempts += packets.len() as u64;
    let mut bytes = frame(FIRST_PART, b"");
    for byte in packets.chunks(1) {
        bytes.extend(frame(MIDDLE_PART, byte));
        bytes.extend(frame(MIDDLE_PART, b""));
    }
    bytes.extend(frame(LAST_PART, b""));
    let _ = socket.write_raw(&bytes);
    match socket.frame() {
        Ok(Some((_, payload))) if payload == [0xD0, 0] => attack.tally.count(Answer::Pong),
        other => attack
            .tally
            .complain(format!("{other:02x?} to a message in crumbs")),
    }
}

/// A client that has connected; `None`, and a complaint, if it was not let in.
fn enter(attack: &mut Attack<'_>, id: &str) -> Option<WebSocket<TcpStream>> {
    let entered = WebSocket::open(knock(attack.doors.websocket)).and_then(|mut socket| {
        socket.write_raw(&frame(BINARY, &Connect::new(V311, id).encode()))?;
        let answer = socket.frame()?;
        Ok((socket, answer))
    });
    match entered {
        Ok((socket, Some((BINARY, connack)))) if connack == [0x20, 2, 0, 0] => Some(socket),
        other => {
            let other = other.map(|(_, answer)| answer);
            attack.tally.complain(format!("a WebSocket: {other:02x?}"));
            None
        }
    }
}
