//! What an idle connection costs over each transport. A suite of its own, since it counts what its thread allocates.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers fail as their tests do"
)]
#![allow(dead_code, reason = "each suite uses its part of the support modules")]

#[path = "support/certificates.rs"]
mod certificates;
mod support;
#[path = "support/websocket.rs"]
mod websocket;

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use certificates::{Authority, Directory, secure};
use paloma_tokio::websocket::WebSocket;
use paloma_tokio::{Listener, Tls, TlsFiles};
use support::{VERSIONS, config, connect, start};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;

/// Enough that what the tables grow by does not show.
const CONNECTIONS: usize = 64;

/// What one over TCP may take of the heap: what it takes, and a twentieth.
const PLAIN_BYTES_MAX: usize = 1_396;

fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

async fn join<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    is_websocket: bool,
    id: usize,
) -> S {
    let packet = paloma_codec::Packet::Connect(Box::new(connect(VERSIONS[1], &format!("c{id}"))));
    let mut bytes = Vec::new();
    packet
        .encode(VERSIONS[1], &mut bytes)
        .expect("a valid packet");
    if is_websocket {
        stream = websocket::by_hand(stream).await;
        bytes = websocket::frame(0x82, &bytes);
    }
    stream.write_all(&bytes).await.expect("the broker reads");
    stream.read_u8().await.expect("a CONNACK");
    stream
}

/// Clients on a thread of their own, so that their memory is not counted.
fn clients(
    address: SocketAddr,
    connector: Option<TlsConnector>,
    is_websocket: bool,
    first: usize,
    done: oneshot::Receiver<()>,
) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        runtime().block_on(async {
            let mut plain = Vec::new();
            let mut secured = Vec::new();
            for id in first..first + CONNECTIONS {
                let stream = TcpStream::connect(address).await.expect("it listens");
                match &connector {
                    None => plain.push(join(stream, is_websocket, id).await),
                    Some(connector) => {
                        let stream = secure(connector, stream).await.expect("let in");
                        secured.push(join(stream, is_websocket, id).await);
                    }
                }
            }
            let _ = done.await;
        });
    })
}

/// Bytes that the broker's thread holds for one idle connection.
fn bytes_per_connection(tls: Option<(&Tls, &Authority)>, is_websocket: bool) -> usize {
    let runtime = runtime();
    let mut listener = Listener::tcp(([127, 0, 0, 1], 0).into());
    listener.tls = tls.map(|(tls, _)| tls.clone());
    listener.websocket = is_websocket.then(WebSocket::new);
    let mut config = config();
    config.listeners.push(listener);
    let running = runtime.block_on(start(config));
    let address = running.local_addresses()[0];
    let until = |count| {
        runtime.block_on(async {
            while running.tables().sessions < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            // What their handshakes leave behind goes with the next turns of the loop.
            tokio::time::sleep(Duration::from_millis(20)).await;
        });
    };
    let connector = || {
        let application = if is_websocket {
            &b"http/1.1"[..]
        } else {
            b"mqtt"
        };
        tls.map(|(_, authority)| authority.connector(None, application))
    };
    let (end_first, first_ends) = oneshot::channel();
    let first = clients(address, connector(), is_websocket, 0, first_ends);
    until(CONNECTIONS);
    let (end_second, second_ends) = oneshot::channel();
    let second = clients(address, connector(), is_websocket, CONNECTIONS, second_ends);
    let charged_before = running.memory_bytes();
    let measured = allocation_counter::measure(|| until(2 * CONNECTIONS));
    let charged = running.memory_bytes() - charged_before;
    let taken = u64::try_from(measured.bytes_current).expect("it grew");
    assert!(
        (taken..taken * 13 / 10).contains(&charged),
        "{charged} bytes charged for {CONNECTIONS} connections that take {taken} and what the allocator adds"
    );
    for end in [end_first, end_second] {
        let _ = end.send(());
    }
    for thread in [first, second] {
        thread.join().expect("clients are fine");
    }
    usize::try_from(measured.bytes_current).expect("it grew") / CONNECTIONS
}

#[test]
fn idle_connections_are_small_and_keep_no_buffers() {
    let directory = Directory::new("idle");
    let authority = Authority::new("tests");
    let server = authority.server(1);
    let files = TlsFiles::new(
        directory.write("server.pem", &server.pem),
        directory.write("server.key", &server.key_pem),
    );
    let tls = Tls::load(files).expect("good files");
    let plain = bytes_per_connection(None, false);
    let websocket = bytes_per_connection(None, true);
    let secured = bytes_per_connection(Some((&tls, &authority)), false);
    let both = bytes_per_connection(Some((&tls, &authority)), true);
    eprintln!(
        "bytes of an idle connection and its session: TCP {plain}, WebSocket {websocket}, TLS {secured}, secure WebSocket {both}"
    );
    assert!(plain <= PLAIN_BYTES_MAX, "{plain}");
    assert!(websocket <= plain + 1_024, "{websocket}, plain {plain}");
    assert!(secured <= plain + 16 * 1_024, "{secured}, plain {plain}");
    assert!(both <= secured + 1_024, "{both}, TLS {secured}");
}
