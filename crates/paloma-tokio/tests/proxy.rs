//! PROXY headers: believed of those who are listed, required where they are on.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers fail as their tests do"
)]
#![allow(dead_code, reason = "each suite uses its part of the support module")]

mod support;

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use paloma_broker::{AuthOutcome, AuthRequest, Authenticator, Identity};
use paloma_codec::Packet;
use paloma_tokio::proxy::ProxyProtocol;
use paloma_tokio::{Listener, Running};
use support::{PATIENCE, Peer, VERSIONS, config, connect, start, tcp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

const V5: paloma_codec::ProtocolVersion = VERSIONS[1];

/// Notes who comes.
#[derive(Debug, Default)]
struct Notes(Mutex<Vec<(Option<IpAddr>, Option<String>)>>);

impl Authenticator for Notes {
    fn authenticate(&self, request: &AuthRequest) -> AuthOutcome {
        let name = request.info.certificate_name.as_ref();
        let noted = (request.info.address, name.map(ToString::to_string));
        self.0.lock().unwrap().push(noted);
        AuthOutcome::allow(Identity::ANONYMOUS)
    }
}

async fn start_proxied(version: ProxyProtocol, trusted: &str) -> (Running, Arc<Notes>) {
    let notes = Arc::<Notes>::default();
    let mut listener = Listener::tcp(([127, 0, 0, 1], 0).into());
    listener.proxy_protocol = version;
    listener.trusted = vec![trusted.parse().unwrap()];
    let mut config = config();
    config.broker.limits.connect_timeout_ms = 500;
    config.authenticator = notes.clone();
    config.listeners.push(listener);
    (start(config).await, notes)
}

fn v2(name: &str) -> Vec<u8> {
    let name = [
        &[0x22, 0, u8::try_from(name.len()).unwrap()],
        name.as_bytes(),
    ]
    .concat();
    let tls = [
        &[
            0x20,
            0,
            u8::try_from(5 + name.len()).unwrap(),
            7,
            0,
            0,
            0,
            0,
        ],
        &name[..],
    ]
    .concat();
    let rest = [&[192, 0, 2, 7, 127, 0, 0, 1, 0, 1, 0, 2], &tls[..]].concat();
    let len = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11", &len[..], &rest[..]].concat()
}

async fn check(version: ProxyProtocol, header: &[u8], source: &str, name: Option<&str>) {
    let (running, notes) = start_proxied(version, "127.0.0.0/8").await;
    let mut hello = header.to_vec();
    let packet = Packet::Connect(Box::new(connect(V5, "c")));
    packet.encode(V5, &mut hello).unwrap();
    for piece in [1, 16, hello.len()] {
        let mut peer = Peer::new(tcp(&running).await, V5);
        for bytes in hello.chunks(piece) {
            peer.stream.write_all(bytes).await.unwrap();
        }
        assert!(matches!(peer.receive().await, Some(Packet::ConnAck(_))));
        let expected = (Some(source.parse().unwrap()), name.map(str::to_owned));
        assert_eq!(notes.0.lock().unwrap().pop(), Some(expected));
    }
}

#[tokio::test]
async fn header_says_where_a_client_comes_from_and_who_it_is() {
    check(
        ProxyProtocol::V1,
        b"PROXY TCP4 192.0.2.7 127.0.0.1 1 2\r\n",
        "192.0.2.7",
        None,
    )
    .await;
    check(ProxyProtocol::V1, b"PROXY UNKNOWN\r\n", "127.0.0.1", None).await;
    check(
        ProxyProtocol::V2,
        &v2("meter 7"),
        "192.0.2.7",
        Some("meter 7"),
    )
    .await;
}

async fn check_refused(version: ProxyProtocol, trusted: &str, bytes: &[u8]) {
    let (running, notes) = start_proxied(version, trusted).await;
    let mut stream = tcp(&running).await;
    // It may be closed while we still write.
    let _ = stream.write_all(bytes).await;
    let end = timeout(PATIENCE, stream.read(&mut [0; 8]))
        .await
        .expect("an end");
    assert!(matches!(end, Ok(0) | Err(_)), "{bytes:?}");
    assert_eq!(running.counts().handshakes_failed, 1);
    assert!(notes.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn header_is_required_and_of_listed_peers_only() {
    let line = b"PROXY TCP4 192.0.2.7 127.0.0.1 1 2\r\n";
    let mut hello = Vec::new();
    let packet = Packet::Connect(Box::new(connect(V5, "c")));
    packet.encode(V5, &mut hello).unwrap();
    check_refused(ProxyProtocol::V1, "10.0.0.0/8", line).await;
    check_refused(ProxyProtocol::V2, "10.0.0.0/8", &v2("x")).await;
    check_refused(ProxyProtocol::V1, "127.0.0.1", &hello).await;
    check_refused(ProxyProtocol::V2, "127.0.0.1", &hello).await;
    check_refused(ProxyProtocol::V2, "127.0.0.1", line).await;
    check_refused(ProxyProtocol::V1, "127.0.0.1", &v2("x")).await;
    check_refused(ProxyProtocol::V2, "127.0.0.1", &v2("a\nb")).await;
    check_refused(ProxyProtocol::V1, "127.0.0.1", b"PROXY TCP4 192.").await;
    check_refused(ProxyProtocol::V2, "127.0.0.1", &v2("x")[..20]).await;
}
