//! Listening sockets and the connections they accept.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use paloma_broker::{ConnectionInfo, Refusal, Transport};
use socket2::{Domain, Protocol, SockRef, Socket as RawSocket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::connection::ConnectionTask;
use crate::shared::{Counters, Shared};
use crate::socket::Socket;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4_096;

/// How long accepting rests when there is no descriptor or memory for another connection.
const REST: Duration = Duration::from_millis(100);

/// When a silent peer is first probed, how often, and how many probes it may miss.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_RETRIES: u32 = 4;

/// Binds a listening socket on the current runtime.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = RawSocket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        // Both families on one port are two listeners, on every system alike.
        socket.set_only_v6(true)?;
    }
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts connections for as long as it is polled.
pub(crate) async fn run(
    shared: Arc<Shared>,
    listener: TcpListener,
    index: u16,
    connections_max: usize,
) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                if shared.connections_of(index) >= connections_max {
                    Counters::count(&shared.counters.refused);
                    continue;
                }
                if let Err(error) = accept(&shared, stream, peer, index) {
                    // The peer may be gone already; nobody else is concerned.
                    tracing::debug!(%peer, %error, "connection lost while it was accepted");
                }
            }
            Err(error) if is_about_one_peer(&error) => {}
            Err(error) => {
                Counters::count(&shared.counters.accept_errors);
                tracing::warn!(%error, "cannot accept connections at present");
                tokio::time::sleep(REST).await;
            }
        }
    }
}

fn is_about_one_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

fn accept(
    shared: &Arc<Shared>,
    stream: TcpStream,
    peer: SocketAddr,
    listener: u16,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL);
    #[cfg(not(windows))]
    let keepalive = keepalive.with_retries(KEEPALIVE_RETRIES);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    let shard = shared.next_shard();
    let stream = hand_out(shared, stream, shard)?;
    let info = ConnectionInfo {
        address: Some(peer.ip().to_canonical()),
        listener,
        transport: Transport::Tcp,
    };
    // A refusal is counted where it is made; the socket closes here.
    let _ = attach(shared, Socket::Tcp(stream), shard, info);
    Ok(())
}

/// Moves a socket to the runtime of its shard.
fn hand_out(shared: &Shared, stream: TcpStream, shard: u16) -> io::Result<TcpStream> {
    match shared.shards.get(usize::from(shard)) {
        // Listeners live on the first one.
        Some(target) if shard != 0 => {
            let stream = stream.into_std()?;
            let _context = target.runtime.enter();
            TcpStream::from_std(stream)
        }
        _ => Ok(stream),
    }
}

/// Opens a connection and starts its task.
pub(crate) fn attach(
    shared: &Arc<Shared>,
    socket: Socket,
    shard: u16,
    info: ConnectionInfo,
) -> Result<(), Refusal> {
    let link = shared.open(socket, shard, info)?;
    let task = ConnectionTask::new(Arc::clone(shared), link);
    if let Some(shard) = shared.shards.get(usize::from(shard)) {
        shard.runtime.spawn(task);
    }
    Ok(())
}
