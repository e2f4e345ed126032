//! WebSockets: frames that are split, mixed, wrong and too many; upgrades that are refused.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers fail as their tests do"
)]
#![allow(dead_code, reason = "each suite uses its part of the support modules")]

mod support;
#[path = "support/websocket.rs"]
mod websocket;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use paloma_broker::{AuthOutcome, AuthRequest, Authenticator, ConnectionInfo, Identity, Transport};
use paloma_codec::{Delivery, Packet, Qos};
use paloma_tokio::websocket::{Origins, WebSocket};
use paloma_tokio::{Config, Listener, Running};
use support::{PATIENCE, Peer, VERSIONS, config, connect, publish, start, tcp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use websocket::{REQUEST, answer, by_hand, frame, library};

const V5: paloma_codec::ProtocolVersion = VERSIONS[1];

fn websocket_config() -> Config {
    let mut config = config();
    let listener = Listener::tcp(([127, 0, 0, 1], 0).into()).with_websocket(WebSocket::new());
    config.listeners.push(listener);
    config
}

fn bytes_of(packet: &Packet) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(V5, &mut bytes).expect("a valid packet");
    bytes
}

fn hello(id: &str) -> Vec<u8> {
    bytes_of(&Packet::Connect(Box::new(connect(V5, id))))
}

/// The next frame from the broker: its first byte and its payload.
async fn next_frame(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let read = async {
        let first = stream.read_u8().await.expect("a frame");
        let len = match stream.read_u8().await.expect("a length") {
            126 => usize::from(stream.read_u16().await.expect("a length")),
            len => usize::from(len),
        };
        let mut payload = vec![0; len];
        stream.read_exact(&mut payload).await.expect("a payload");
        (first, payload)
    };
    timeout(PATIENCE, read).await.expect("a frame comes")
}

/// The broker answers with a close frame of this code, and is gone.
async fn check_close(running: &Running, bytes: &[u8], code: u16) {
    let mut stream = by_hand(tcp(running).await).await;
    stream.write_all(&frame(0x82, &hello("c"))).await.unwrap();
    assert_eq!(next_frame(&mut stream).await.0, 0x82);
    stream.write_all(bytes).await.unwrap();
    assert_eq!(
        next_frame(&mut stream).await,
        (0x88, code.to_be_bytes().to_vec())
    );
    let end = timeout(PATIENCE, stream.read(&mut [0; 8]))
        .await
        .expect("an end");
    assert!(matches!(end, Ok(0) | Err(_)));
}

#[tokio::test]
async fn packets_are_whole_wherever_frames_are_split() {
    let running = start(websocket_config()).await;
    let mut subscriber = Peer::join(library(tcp(&running).await).await, V5, "s").await;
    subscriber.subscribe("t", Qos::AtMostOnce).await;
    let packets = [
        hello("p"),
        bytes_of(&publish("t", "payload", Delivery::AtMostOnce)),
    ]
    .concat();
    for cut in 0..=packets.len() {
        let mut stream = by_hand(tcp(&running).await).await;
        let (first, second) = packets.split_at(cut);
        stream.write_all(&frame(0x02, first)).await.unwrap();
        stream.write_all(&frame(0x80, second)).await.unwrap();
        assert_eq!(subscriber.message().await.unwrap(), "payload");
    }
    let whole = frame(0x82, &packets);
    for cut in 0..=whole.len() {
        let mut stream = by_hand(tcp(&running).await).await;
        let (first, second) = whole.split_at(cut);
        stream.write_all(first).await.unwrap();
        tokio::task::yield_now().await;
        stream.write_all(second).await.unwrap();
        assert_eq!(subscriber.message().await.unwrap(), "payload");
    }
}

#[tokio::test]
async fn request_and_first_packets_may_come_together_or_byte_by_byte() {
    let running = start(websocket_config()).await;
    let all = [REQUEST.as_bytes(), &frame(0x82, &hello("c"))].concat();
    for piece in [1, 7, all.len()] {
        let mut stream = tcp(&running).await;
        for bytes in all.chunks(piece) {
            stream.write_all(bytes).await.unwrap();
        }
        assert!(answer(&mut stream).await.starts_with("HTTP/1.1 101 "));
        assert_eq!(next_frame(&mut stream).await.1[0], 0x20, "a CONNACK");
    }
}

#[tokio::test]
async fn broken_frames_are_answered_with_their_code() {
    let running = start(websocket_config()).await;
    check_close(&running, &[0x82, 2, 0xC0, 0], 1002).await;
    check_close(&running, &frame(0x81, b"text"), 1003).await;
    check_close(&running, &frame(0xC2, b""), 1002).await;
    check_close(&running, &frame(0x83, b""), 1002).await;
    check_close(&running, &frame(0x80, b""), 1002).await;
    check_close(&running, &[0x89, 0xFE, 0, 126, 0, 0, 0, 0], 1002).await;
    check_close(
        &running,
        &[0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        1002,
    )
    .await;
    check_close(
        &running,
        &[0x82, 0xFF, 0x7F, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        1009,
    )
    .await;
    check_close(&running, &frame(0x88, &[3, 0xE8]), 1000).await;
    check_close(&running, &frame(0x88, &[0x0F, 0xA0]), 4000).await;
}

#[tokio::test]
async fn empty_frames_and_frames_of_one_byte_are_fine() {
    let running = start(websocket_config()).await;
    let mut stream = by_hand(tcp(&running).await).await;
    let mut bytes = frame(0x82, b"").repeat(1_000);
    let packet = bytes_of(&publish("t", vec![7; 10_000], Delivery::AtMostOnce));
    let message = [hello("c"), packet, bytes_of(&Packet::PingReq)].concat();
    bytes.extend(frame(0x02, b""));
    for byte in message {
        bytes.extend(frame(0x00, &[byte]));
        if bytes.len().is_multiple_of(50) {
            bytes.extend(frame(0x8A, b"unasked"));
        }
    }
    bytes.extend(frame(0x80, b""));
    stream.write_all(&bytes).await.unwrap();
    // In one frame or in two.
    let mut answer = Vec::new();
    while !answer.ends_with(&[0xD0, 0]) {
        answer.extend(next_frame(&mut stream).await.1);
    }
    assert_eq!(answer.first(), Some(&0x20));
}

#[tokio::test]
async fn pings_are_answered_and_a_flood_only_now_and_then() {
    let running = start(websocket_config()).await;
    let mut stream = by_hand(tcp(&running).await).await;
    stream.write_all(&frame(0x89, b"hello")).await.unwrap();
    assert_eq!(next_frame(&mut stream).await, (0x8A, b"hello".to_vec()));
    let flood = frame(0x89, &[1; 125]).repeat(10_000);
    let (mut read, mut write) = stream.into_split();
    let writing = tokio::spawn(async move {
        write.write_all(&flood).await.expect("the broker reads");
        write
            .write_all(&frame(0x82, &hello("c")))
            .await
            .expect("the broker reads");
        write
    });
    let mut answer = Vec::new();
    // CONNACK ends it.
    while !answer.windows(2).any(|bytes| bytes == [0x82, 0x20]) && !answer.ends_with(&[0x20]) {
        let count = timeout(PATIENCE, read.read_buf(&mut answer))
            .await
            .expect("bytes")
            .unwrap();
        assert!(count > 0);
        if answer
            .windows(3)
            .any(|bytes| bytes[0] == 0x82 && bytes[2] == 0x20)
        {
            break;
        }
    }
    assert!(answer.len() < 10_000 * 127 / 4, "{}", answer.len());
    drop(writing.await.unwrap());
}

async fn check_refused(running: &Running, from: &str, to: &str, status: &str) {
    let mut stream = tcp(running).await;
    let request = REQUEST.replacen(from, to, 1);
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = timeout(PATIENCE, answer(&mut stream))
        .await
        .expect("an answer");
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {status} ")),
        "{answer}"
    );
    assert!(!answer.to_ascii_lowercase().contains("paloma"));
    let end = timeout(PATIENCE, stream.read(&mut [0; 8]))
        .await
        .expect("an end");
    assert!(matches!(end, Ok(0) | Err(_)));
}

#[tokio::test]
async fn upgrades_are_refused_by_status() {
    let running = start(websocket_config()).await;
    check_refused(&running, "/mqtt", "/other", "404").await;
    check_refused(&running, "GET", "PUT", "405").await;
    check_refused(&running, "Protocol: mqtt", "Protocol: chat", "400").await;
    check_refused(&running, "Sec-WebSocket-Protocol: mqtt\r\n", "", "400").await;
    check_refused(&running, "Version: 13", "Version: 7", "426").await;
    check_refused(
        &running,
        "Host",
        "Origin: http://evil.example\r\nHost",
        "403",
    )
    .await;
    check_refused(
        &running,
        "Host",
        &format!("{}Host", "A: b\r\n".repeat(64)),
        "431",
    )
    .await;
    check_refused(
        &running,
        "Host",
        &format!("A: {}\r\nHost", "b".repeat(8_192)),
        "431",
    )
    .await;
    let counted = async {
        while running.counts().handshakes_failed != 8 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, counted)
        .await
        .expect("each is counted once");
    let same = REQUEST.replace("Host", "Origin: http://LOCALHOST:8080\r\nHost");
    let extended = same.replace(
        "Host",
        "Sec-WebSocket-Extensions: permessage-deflate\r\nHost",
    );
    let mut stream = tcp(&running).await;
    stream.write_all(extended.as_bytes()).await.unwrap();
    let answer = answer(&mut stream).await;
    assert!(
        answer.starts_with("HTTP/1.1 101 ") && !answer.contains("deflate"),
        "{answer}"
    );
}

#[tokio::test]
async fn origins_are_those_of_the_list_or_any() {
    let mut config = websocket_config();
    let mut listed = WebSocket::new();
    listed.origins = Origins::Listed(vec!["https://app.example".to_owned()]);
    config.listeners[0].websocket = Some(listed);
    let running = start(config).await;
    check_refused(&running, "Host", "Origin: http://localhost\r\nHost", "403").await;
    let mut stream = tcp(&running).await;
    let good = REQUEST.replace("Host", "Origin: https://app.example\r\nHost");
    stream.write_all(good.as_bytes()).await.unwrap();
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 101 "));
}

#[tokio::test]
async fn half_an_upgrade_is_closed_at_the_connect_timeout() {
    let mut config = websocket_config();
    config.broker.limits.connect_timeout_ms = 100;
    let running = start(config).await;
    for half in [0, 1, REQUEST.len() - 1, REQUEST.len()] {
        let since = tokio::time::Instant::now();
        let mut stream = tcp(&running).await;
        stream.write_all(&REQUEST.as_bytes()[..half]).await.unwrap();
        let mut bytes = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes))
            .await
            .expect("an end");
        assert!(since.elapsed() >= Duration::from_millis(99));
    }
    assert_eq!(running.counts().handshakes_failed, 3);
}

/// Notes where clients come from.
#[derive(Debug, Default)]
struct Notes(Mutex<Vec<ConnectionInfo>>);

impl Authenticator for Notes {
    fn authenticate(&self, request: &AuthRequest) -> AuthOutcome {
        self.0.lock().unwrap().push(request.info.clone());
        AuthOutcome::allow(Identity::ANONYMOUS)
    }
}

async fn check_forwarded(trusted: &[&str], field: &str, expected: &str) {
    let notes = Arc::<Notes>::default();
    let mut config = websocket_config();
    config.authenticator = notes.clone();
    let trusted = trusted.iter().map(|network| network.parse().unwrap());
    config.listeners[0].trusted = trusted.collect();
    let running = start(config).await;
    let mut stream = tcp(&running).await;
    let request = REQUEST.replace("Host", &format!("{field}Host"));
    stream.write_all(request.as_bytes()).await.unwrap();
    answer(&mut stream).await;
    stream.write_all(&frame(0x82, &hello("c"))).await.unwrap();
    next_frame(&mut stream).await;
    let info = notes.0.lock().unwrap().pop().unwrap();
    assert_eq!(info.address, Some(expected.parse().unwrap()), "{field}");
    assert_eq!(info.transport, Transport::WebSocket);
}

#[tokio::test]
async fn forwarded_address_is_believed_of_trusted_peers_only() {
    let chain = "X-Forwarded-For: 6.6.6.6, 192.0.2.1, 10.0.0.9\r\n";
    check_forwarded(&[], chain, "127.0.0.1").await;
    check_forwarded(&["10.0.0.0/8"], chain, "127.0.0.1").await;
    check_forwarded(&["127.0.0.1"], chain, "10.0.0.9").await;
    check_forwarded(&["127.0.0.0/8", "10.0.0.0/8"], chain, "192.0.2.1").await;
    check_forwarded(&["0.0.0.0/0"], chain, "6.6.6.6").await;
    check_forwarded(&["127.0.0.1"], "", "127.0.0.1").await;
    check_forwarded(&["127.0.0.1"], "X-Forwarded-For: unknown\r\n", "127.0.0.1").await;
}
