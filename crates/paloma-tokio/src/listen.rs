//! Accepting connections, and starting their tasks.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use paloma_broker::{ConnectionInfo, Refusal};
use tokio::task::JoinSet;

use crate::bound::Bound;
use crate::connection::ConnectionTask;
use crate::counters::Counters;
use crate::establish::Arrival;
use crate::lane::{InLane, PORTION, wake_behind_sockets};
use crate::listener::Listener;
use crate::raw::Raw;
use crate::shared::{Admission, Shared};
use crate::socket::Socket;

/// How long accepting rests when there is no descriptor or memory for another connection.
const REST: Duration = Duration::from_millis(100);

/// Accepts the connections of one listener.
pub(crate) struct Acceptor {
    shared: Arc<Shared>,
    listener: Arc<Listener>,
    /// What its connections are told apart by.
    index: u16,
}

impl Acceptor {
    pub(crate) fn new(shared: Arc<Shared>, listener: Listener, index: u16) -> Self {
        let listener = Arc::new(listener);
        Self {
            shared,
            listener,
            index,
        }
    }

    /// Accepts connections for as long as it is polled. Handshakes that are under way end with it. [MQTT-4.2-1]
    pub(crate) async fn run(self, bound: &Bound) {
        let mut handshakes = JoinSet::new();
        loop {
            let error = poll_fn(|cx| self.poll_arrivals(cx, bound, &mut handshakes)).await;
            Counters::count(&self.shared.counters.accept_errors);
            tracing::warn!(listener = self.name().as_deref(), %error, "cannot accept connections at present");
            tokio::time::sleep(REST).await;
        }
    }

    /// Takes in whoever comes; ready when accepting has failed. A crowd comes in portions, between looks at the sockets.
    fn poll_arrivals(
        &self,
        cx: &mut Context<'_>,
        bound: &Bound,
        handshakes: &mut JoinSet<()>,
    ) -> Poll<io::Error> {
        while let Poll::Ready(Some(ended)) = handshakes.poll_join_next(cx) {
            if ended.is_err() {
                Counters::count(&self.shared.counters.panics);
                tracing::error!("panic in a handshake; its connection is closed");
            }
        }
        let begin = Instant::now();
        loop {
            match ready!(bound.poll_accept(cx)) {
                Ok((raw, peer)) => self.take_in(raw, peer, handshakes),
                Err(error) if is_about_one_peer(&error) => {}
                Err(error) => return Poll::Ready(error),
            }
            if begin.elapsed() >= PORTION {
                wake_behind_sockets(cx.waker());
                return Poll::Pending;
            }
        }
    }

    fn take_in(&self, raw: Raw, peer: Option<SocketAddr>, handshakes: &mut JoinSet<()>) {
        if self.is_full(handshakes.len()) {
            Counters::count(&self.shared.counters.refused);
            return;
        }
        let shard = self.shared.next_shard();
        let raw = match self.prepare(raw, shard) {
            Ok(raw) => raw,
            Err(error) => {
                // The peer may be gone already; nobody else is concerned.
                tracing::debug!(
                    address = peer.map(|peer| tracing::field::display(peer.ip().to_canonical())),
                    listener = self.name().as_deref(),
                    %error,
                    "connection lost while it was accepted"
                );
                return;
            }
        };
        let arrival = Arrival {
            raw,
            peer: peer.map(|peer| peer.ip().to_canonical()),
            listener: Arc::clone(&self.listener),
            index: self.index,
            shard,
            accepted_at: self.shared.clock.now().monotonic,
        };
        if self.listener.is_plain() {
            // A refusal is counted where it is made; the socket closes here.
            let _ = arrival.attach(&self.shared);
        } else if let Some(target) = self.shared.shards.get(usize::from(shard)) {
            let handshake = arrival.establish(Arc::clone(&self.shared));
            if let Some(handshake) = InLane::new(&self.shared, shard, handshake) {
                handshakes.spawn_on(handshake, &target.runtime);
            }
        }
    }

    /// What the log calls the listener.
    fn name(&self) -> Option<Arc<str>> {
        self.shared.reporter.name(Some(self.index))
    }

    /// Whoever shakes hands has a place among the connections, of the listener and in all.
    fn is_full(&self, handshakes: usize) -> bool {
        let shared = &self.shared;
        shared.connections_of(self.index).saturating_add(handshakes)
            >= self.listener.connections_max
            || handshakes > 0
                && shared.connections().saturating_add(handshakes)
                    >= shared.arrivals().connections_max
    }

    fn prepare(&self, raw: Raw, shard: u16) -> io::Result<Raw> {
        raw.set_up()?;
        match self.shared.shards.get(usize::from(shard)) {
            // Listeners live on the first one.
            Some(target) if shard != 0 => raw.hand_out(&target.runtime),
            _ => Ok(raw),
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

/// Opens a connection and starts its task.
pub(crate) fn attach(
    shared: &Arc<Shared>,
    socket: Socket,
    shard: u16,
    info: ConnectionInfo,
    admission: Admission,
) -> Result<(), Refusal> {
    let link = shared.open(socket, shard, info, admission)?;
    let task = ConnectionTask::new(Arc::clone(shared), link);
    if let Some(shard) = shared.shards.get(usize::from(shard)) {
        shard.runtime.spawn(task);
    }
    Ok(())
}
