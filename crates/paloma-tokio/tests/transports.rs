//! Every transport carries the protocol, keeps to its own rules, and fails alone.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers fail as their tests do"
)]
#![allow(dead_code, reason = "each suite uses its part of the support module")]

#[path = "support/certificates.rs"]
mod certificates;
mod support;
#[path = "support/websocket.rs"]
mod websocket;

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use certificates::{Authority, Directory, secure};
use paloma_codec::{Delivery, Packet, Qos};
use paloma_tokio::websocket::WebSocket;
use paloma_tokio::{ListenAddress, Listener, Running, Tls, TlsFiles};
use support::{PATIENCE, Peer, VERSIONS, config, connect, id, publish, start, tcp};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// Messages of all sizes go through two connections of one transport, both ways.
async fn check_traffic<S: AsyncRead + AsyncWrite + Unpin>(subscriber: S, publisher: S) {
    let version = VERSIONS[1];
    let mut subscriber = Peer::join(subscriber, version, "subscriber").await;
    subscriber.subscribe("t", Qos::AtLeastOnce).await;
    let mut publisher = Peer::join(publisher, version, "publisher").await;
    for len in [0, 1, 125, 126, 4_096, 65_535, 65_536, 300_000] {
        let delivery = Delivery::AtLeastOnce {
            id: id(1),
            dup: false,
        };
        let payload: Vec<u8> = (0..len)
            .map(|at| u8::try_from(at % 251).unwrap_or(0))
            .collect();
        publisher
            .send(&publish("t", payload.clone(), delivery))
            .await;
        assert_eq!(subscriber.message().await.expect("a message"), payload);
        publisher.receive().await.expect("a PUBACK");
    }
    // Many packets at once, in both directions.
    let packet = publisher.encode(&publish("t", "small", Delivery::AtMostOnce));
    tokio::io::AsyncWriteExt::write_all(&mut publisher.stream, &packet.repeat(500))
        .await
        .expect("the broker reads");
    for _ in 0..500 {
        assert_eq!(subscriber.message().await.expect("a message"), "small");
    }
}

async fn stop(running: Running) {
    timeout(PATIENCE, running.stop())
        .await
        .expect("it stops")
        .expect("it has not failed");
}

async fn until_gone<S: AsyncRead + Unpin>(mut stream: S) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is an end too.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes))
        .await
        .expect("the broker closes");
    bytes
}

// ---- all of them ----------------------------------------------------------------------------------------------------

async fn start_with(set: impl FnOnce(Listener) -> Listener) -> Running {
    let mut config = config();
    config
        .listeners
        .push(set(Listener::tcp(([127, 0, 0, 1], 0).into())));
    start(config).await
}

#[tokio::test]
async fn tls_carries_the_protocol() {
    let (tls, authority, _directory) = tls("traffic-tls");
    let running = start_with(|listener| listener.with_tls(tls)).await;
    let connector = authority.connector(None, b"mqtt");
    let connect = async || secure(&connector, tcp(&running).await).await.unwrap();
    check_traffic(connect().await, connect().await).await;
}

#[tokio::test]
async fn websocket_carries_the_protocol() {
    let running = start_with(|listener| listener.with_websocket(WebSocket::new())).await;
    let connect = async || websocket::library(tcp(&running).await).await;
    check_traffic(connect().await, connect().await).await;
}

#[tokio::test]
async fn secure_websocket_carries_the_protocol() {
    let (tls, authority, _directory) = tls("traffic-wss");
    let running =
        start_with(|listener| listener.with_tls(tls).with_websocket(WebSocket::new())).await;
    let connector = authority.connector(None, b"http/1.1");
    let connect = async || {
        let stream = secure(&connector, tcp(&running).await).await.unwrap();
        websocket::library(stream).await
    };
    check_traffic(connect().await, connect().await).await;
}

fn tls(name: &str) -> (Tls, Authority, Directory) {
    let directory = Directory::new(name);
    let authority = Authority::new("tests");
    let server = authority.server(1);
    let files = TlsFiles::new(
        directory.write("server.pem", &server.pem),
        directory.write("server.key", &server.key_pem),
    );
    (Tls::load(files).expect("good files"), authority, directory)
}

// ---- Unix sockets ---------------------------------------------------------------------------------------------------

async fn start_unix(path: &Path) -> Running {
    let mut config = config();
    config.listeners.push(Listener::unix(path));
    start(config).await
}

#[tokio::test]
async fn unix_socket_carries_the_protocol() {
    let directory = Directory::new("unix");
    let path = directory.path("s");
    let running = start_unix(&path).await;
    let connect = || UnixStream::connect(&path);
    check_traffic(connect().await.unwrap(), connect().await.unwrap()).await;
    stop(running).await;
    assert!(!path.exists(), "the socket file goes with its listener");
}

#[tokio::test]
async fn unix_socket_has_the_mode_that_was_asked_for() {
    use std::os::unix::fs::PermissionsExt;

    let directory = Directory::new("mode");
    for mode in [0o600, 0o660, 0o666] {
        let path = directory.path("s");
        let mut listener = Listener::unix(&path);
        listener.address = ListenAddress::Unix {
            path: path.clone(),
            mode,
        };
        let mut config = config();
        config.listeners.push(listener);
        let running = start(config).await;
        let found = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(found & 0o777, mode);
        stop(running).await;
    }
}

#[tokio::test]
async fn stale_socket_file_is_replaced() {
    let directory = Directory::new("stale");
    let path = directory.path("s");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "std leaves it behind");
    let running = start_unix(&path).await;
    UnixStream::connect(&path).await.unwrap();
    stop(running).await;
}

#[tokio::test]
async fn socket_file_in_use_and_other_files_stay() {
    let directory = Directory::new("used");
    let path = directory.path("s");
    let running = start_unix(&path).await;
    let refused = running.listeners().add(9, Listener::unix(&path));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::AddrInUse);
    UnixStream::connect(&path).await.unwrap();
    let file = directory.path("precious");
    std::fs::write(&file, "text").unwrap();
    assert!(running.listeners().add(9, Listener::unix(&file)).is_err());
    assert_eq!(std::fs::read(&file).unwrap(), b"text");
    stop(running).await;
}

// ---- listeners come and go ------------------------------------------------------------------------------------------

#[tokio::test]
async fn listeners_come_and_go_while_connections_stay() {
    let directory = Directory::new("reconfigure");
    let (first, second) = (directory.path("1"), directory.path("2"));
    let running = start_unix(&first).await;
    let stream = UnixStream::connect(&first).await.unwrap();
    let mut peer = Peer::join(stream, VERSIONS[1], "stays").await;
    let listeners = running.listeners().clone();
    listeners.add(1, Listener::unix(&second)).unwrap();
    assert_eq!(listeners.addresses().len(), 2);
    assert!(
        listeners
            .add(1, Listener::unix(directory.path("3")))
            .is_err()
    );
    assert!(listeners.remove(0).await);
    assert!(!listeners.remove(0).await);
    assert!(UnixStream::connect(&first).await.is_err());
    let stream = UnixStream::connect(&second).await.unwrap();
    Peer::join(stream, VERSIONS[1], "comes").await;
    peer.send(&Packet::PingReq).await;
    peer.receive().await.expect("a PINGRESP");
    listeners.add(0, Listener::unix(&first)).unwrap();
    UnixStream::connect(&first).await.unwrap();
    stop(running).await;
    assert!(listeners.add(5, Listener::unix(&first)).is_err());
}

#[tokio::test]
async fn who_comes_to_a_listener_that_is_bound_waits_until_it_takes_clients_in() {
    let directory = Directory::new("bound");
    let (first, second) = (directory.path("1"), directory.path("2"));
    let running = start_unix(&first).await;
    let listeners = running.listeners();
    listeners.bind(1, Listener::unix(&second)).unwrap();
    assert!(listeners.add(1, Listener::unix(&second)).is_err());
    let mut early = Peer::new(UnixStream::connect(&second).await.unwrap(), VERSIONS[1]);
    let hello = Packet::Connect(Box::new(connect(VERSIONS[1], "early")));
    early.send(&hello).await;
    assert!(early.is_silent().await);
    assert!(listeners.accept(1));
    assert!(matches!(early.receive().await, Some(Packet::ConnAck(_))));
    assert!(listeners.accept(1), "it does already");
    assert!(listeners.remove(1).await);
    assert!(!listeners.accept(1));
    // One that never took anybody in leaves nothing behind.
    listeners.bind(2, Listener::unix(&second)).unwrap();
    assert!(listeners.remove(2).await);
    assert!(!second.exists());
    stop(running).await;
}

#[tokio::test]
async fn who_waits_at_a_listener_is_taken_in_by_the_one_that_takes_its_socket_over() {
    let directory = Directory::new("taken-over");
    let path = directory.path("s");
    let running = start_unix(&path).await;
    let listeners = running.listeners();
    let anywhere = || Listener::tcp("127.0.0.1:0".parse().unwrap());
    let place = listeners.bind(1, anywhere()).unwrap();
    listeners.bind(2, Listener::new(place.clone())).unwrap_err();
    let ListenAddress::Tcp(address) = place else {
        panic!("a TCP listener is on TCP");
    };
    let tcp = TcpStream::connect(address).await.unwrap();
    let mut early = Peer::new(tcp, VERSIONS[1]);
    let hello = Packet::Connect(Box::new(connect(VERSIONS[1], "early")));
    early.send(&hello).await;
    // Nobody has been taken in before, and nobody is now.
    let taken_over = listeners.take_over(1, 2, anywhere()).unwrap();
    assert_eq!(taken_over, ListenAddress::Tcp(address));
    assert!(listeners.remove(1).await);
    assert!(early.is_silent().await);
    assert!(listeners.accept(2));
    assert!(matches!(early.receive().await, Some(Packet::ConnAck(_))));
    // One that takes clients in goes on until it is removed, and its socket and file for longer.
    listeners.take_over(0, 3, Listener::unix(&path)).unwrap();
    let stream = UnixStream::connect(&path).await.unwrap();
    Peer::join(stream, VERSIONS[1], "before").await;
    assert!(listeners.remove(0).await);
    let mut between = Peer::new(UnixStream::connect(&path).await.unwrap(), VERSIONS[1]);
    let hello = Packet::Connect(Box::new(connect(VERSIONS[1], "between")));
    between.send(&hello).await;
    assert!(listeners.accept(3));
    assert!(matches!(between.receive().await, Some(Packet::ConnAck(_))));
    assert!(listeners.remove(3).await);
    assert!(!path.exists());
    stop(running).await;
}

#[tokio::test]
async fn only_a_listener_with_the_same_address_is_taken_over() {
    let directory = Directory::new("not-taken-over");
    let path = directory.path("s");
    let running = start_unix(&path).await;
    let listeners = running.listeners();
    let kind = |from, listener| listeners.take_over(from, 9, listener).unwrap_err().kind();
    let tcp = || Listener::tcp("127.0.0.1:0".parse().unwrap());
    assert_eq!(kind(7, tcp()), ErrorKind::NotFound);
    assert_eq!(kind(0, tcp()), ErrorKind::InvalidInput);
    assert_eq!(
        kind(0, Listener::unix(directory.path("t"))),
        ErrorKind::InvalidInput
    );
    listeners.add(1, tcp()).unwrap();
    let elsewhere = Listener::tcp("127.0.0.2:0".parse().unwrap());
    assert_eq!(kind(1, elsewhere), ErrorKind::InvalidInput);
    assert_eq!(
        listeners
            .take_over(0, 1, Listener::unix(&path))
            .unwrap_err()
            .kind(),
        ErrorKind::AlreadyExists
    );
    // Others have the place of its file: nobody who connects there reaches it.
    std::fs::rename(&path, directory.path("moved")).unwrap();
    let other = std::os::unix::net::UnixListener::bind(&path).unwrap();
    assert_eq!(kind(0, Listener::unix(&path)), ErrorKind::AddrInUse);
    drop(other);
    listeners.take_over(0, 2, Listener::unix(&path)).unwrap();
    assert!(listeners.remove(0).await);
    UnixStream::connect(&path).await.unwrap();
    stop(running).await;
}

#[tokio::test]
async fn silent_connection_is_closed_at_the_connect_timeout() {
    let directory = Directory::new("silent");
    let mut config = config();
    config.broker.limits.connect_timeout_ms = 50;
    config.listeners.push(Listener::unix(directory.path("s")));
    let running = start(config).await;
    let stream = UnixStream::connect(directory.path("s")).await.unwrap();
    let start = tokio::time::Instant::now();
    assert_eq!(until_gone(stream).await, b"");
    assert!(start.elapsed() >= Duration::from_millis(49));
    stop(running).await;
}
