//! The task of one connection: it owns the reading side, and the writing side while the socket is full.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use paloma_broker::CloseCause;
use paloma_codec::{Decoder, DecoderState};
use paloma_session::TransmitStatus;
use tokio::time::Instant;

use crate::counters::Counters;
use crate::flush;
use crate::input::{Flow, Input, READ_BYTES, Scratch};
use crate::lane::{Place, Stander, wake_behind_sockets};
use crate::links::{Farewell, Link, Signals, Writer, Wrote};
use crate::shared::Shared;

/// Most rounds of pulling a closing connection's last bytes.
const FAREWELL_ROUNDS: usize = 16;

thread_local! {
    /// In place while no connection of the thread is being polled; a panic loses it, and the next poll makes another.
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Packets are read.
    Reading,
    /// The core takes no packets for the time being.
    Paused,
    /// The peer is gone, which is still to be reported.
    Ended,
    /// The last bytes are being written.
    Closing(CloseCause),
    /// They are written; the peer has not ended its side yet, and would lose them if we closed on what it still sends.
    Lingering,
    /// Over.
    Closed,
}

/// Most reads in one poll.
const READS_MAX: u32 = 2;

/// One connection, as a future with nothing but its own state: no buffer while it is idle.
///
/// With one word more the runtime's task around it takes 256 bytes instead of 128.
pub(crate) struct ConnectionTask {
    shared: Arc<Shared>,
    link: Arc<Link>,
    decoder: DecoderState,
    /// Bytes were left with the link.
    has_held: bool,
    phase: Phase,
    /// It has kept its thread busy and may be about to again.
    is_busy: bool,
    place: Place,
}

impl ConnectionTask {
    pub(crate) fn new(shared: Arc<Shared>, link: Arc<Link>) -> Self {
        Self {
            shared,
            link,
            decoder: DecoderState::SERVER,
            has_held: false,
            phase: Phase::Reading,
            is_busy: false,
            place: Place::Free,
        }
    }

    /// Whether others should not wait for what it does next.
    fn is_minor(&self) -> bool {
        self.is_busy
            || self.phase == Phase::Ended
            || self.decoder.version().is_none()
            || self.link.signals().has(Signals::BLOCKED)
    }

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // A socket that a read has not filled the buffer from is empty; what stands on one, as WebSockets and TLS do, may
        // have given little of much.
        let mut reads = 0;
        loop {
            let signals = self.link.signals();
            if signals.has(Signals::ABORT) {
                self.end(CloseCause::SocketClosed);
                return Poll::Ready(());
            }
            match self.phase {
                Phase::Closing(cause) => ready!(self.poll_farewell(cx, cause)),
                Phase::Lingering => return self.poll_linger(cx),
                Phase::Ended => self.end(CloseCause::SocketClosed),
                Phase::Closed => return Poll::Ready(()),
                Phase::Reading | Phase::Paused if signals.has(Signals::CLOSE) => {
                    let cause = self.shared.look(|core, _| core.links.closing(self.link.id));
                    self.phase = Phase::Closing(cause.unwrap_or(CloseCause::SocketClosed));
                }
                Phase::Reading | Phase::Paused if signals.has(Signals::BLOCKED) => {
                    if !self.continue_write(cx) {
                        ready!(self.poll_read(cx));
                    }
                }
                Phase::Reading | Phase::Paused => {
                    if self.phase == Phase::Reading && reads == READS_MAX {
                        self.is_busy = true;
                        wake_behind_sockets(cx.waker());
                        return Poll::Pending;
                    }
                    reads += 1;
                    ready!(self.poll_read(cx));
                }
            }
        }
    }

    // ---- reading ------------------------------------------------------------------------------------------------

    /// Reads once, or goes on with what was held back. `Ready` when the phase may have changed.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.phase == Phase::Paused && !self.link.take(Signals::RESUME) {
            return Poll::Pending;
        }
        let mut scratch = SCRATCH.take().unwrap_or_else(|| Box::new(Scratch::new()));
        let outcome = if self.phase == Phase::Paused {
            Poll::Ready(Some(self.take_in(|input, shared, link| {
                input.handle_resume(shared, link, scratch.room())
            })))
        } else {
            self.poll_socket(cx, &mut scratch)
        };
        SCRATCH.set(Some(scratch));
        match ready!(outcome) {
            Some(Flow::Read) => self.phase = Phase::Reading,
            Some(Flow::Pause) => self.phase = Phase::Paused,
            Some(Flow::Rest) => {
                self.phase = Phase::Paused;
                self.is_busy = true;
                self.link.set(Signals::RESUME);
                wake_behind_sockets(cx.waker());
                return Poll::Pending;
            }
            None => {
                let was_minor = self.is_minor();
                self.phase = Phase::Ended;
                if !was_minor {
                    // Thousands may go at once: their ends go through the lane.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(())
    }

    /// One read and its turns; `None` at the end of the stream.
    fn poll_socket(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Poll<Option<Flow>> {
        let (buffer, room) = scratch.split();
        let count = match ready!(self.link.socket.poll_read(cx, buffer)) {
            Ok(0) | Err(_) => return Poll::Ready(None),
            Ok(count) => count,
        };
        let bytes = buffer.get(..count).unwrap_or(&[]);
        let flow =
            self.take_in(|input, shared, link| input.handle_bytes(shared, link, bytes, room));
        self.is_busy = count == READ_BYTES;
        if self.is_busy && flow == Flow::Read {
            // More waits for sure; the flusher and the other connections come first.
            wake_behind_sockets(cx.waker());
            return Poll::Pending;
        }
        Poll::Ready(Some(flow))
    }

    /// Has the input at work, from where it was left.
    fn take_in(&mut self, work: impl FnOnce(&mut Input<'_>, &Arc<Shared>, &Link) -> Flow) -> Flow {
        let Self { shared, link, .. } = self;
        let decoder = Decoder::resume(*link.limits, self.decoder);
        let held = std::mem::take(&mut self.has_held).then(|| link.owner.take());
        let mut input = Input::resume(decoder, held.flatten(), &shared.gauge);
        let flow = work(&mut input, shared, link);
        let (decoder, held) = input.suspend();
        self.decoder = decoder;
        if held.is_some() {
            self.has_held = true;
            link.owner.leave(held);
        }
        flow
    }

    // ---- writing ------------------------------------------------------------------------------------------------

    /// Goes on with the backlog; true when it is gone.
    fn continue_write(&mut self, cx: &mut Context<'_>) -> bool {
        self.link.take(Signals::BLOCKED);
        let link = &self.link;
        let Some(backlog) = self.shared.look(|core, _| core.links.take_backlog(link.id)) else {
            return true;
        };
        let wrote = flush::continue_write(cx, link, backlog);
        let is_blocked = matches!(wrote, Wrote::Blocked { .. });
        self.record(wrote);
        !is_blocked
    }

    fn record(&self, wrote: Wrote) {
        self.shared.look(|core, now| {
            core.links
                .wrote(now.monotonic, &self.link, Writer::Owner, wrote);
        });
    }

    /// Writes what a closing connection still has. `Ready` when there is no more to do for it.
    fn poll_farewell(&mut self, cx: &mut Context<'_>, cause: CloseCause) -> Poll<()> {
        let mut has_written = false;
        for _ in 0..FAREWELL_ROUNDS {
            self.link.take(Signals::CLOSE);
            let wrote = match self
                .shared
                .look(|core, _| core.links.take_farewell(self.link.id))
            {
                Farewell::Backlog(backlog) => flush::continue_write(cx, &self.link, backlog),
                Farewell::Pull => self.pull_farewell(cx),
                Farewell::Wait => return Poll::Pending,
                Farewell::Broken => break,
            };
            flush::count_panic(&self.shared, &self.link, &wrote);
            let is_last = matches!(wrote, Wrote::All(status) if status != TransmitStatus::Full);
            let is_blocked = matches!(wrote, Wrote::Blocked { .. });
            has_written |= matches!(wrote, Wrote::All(_));
            self.record(wrote);
            if is_blocked {
                return Poll::Pending;
            }
            if is_last {
                break;
            }
        }
        self.shared.closed(self.link.id, cause);
        self.phase = if has_written {
            Phase::Lingering
        } else {
            Phase::Closed
        };
        Poll::Ready(())
    }

    fn pull_farewell(&self, cx: &mut Context<'_>) -> Wrote {
        let link = &self.link;
        let mut transmit = self.shared.take_transmit(link.shard);
        let encoded = self
            .shared
            .look(|core, now| core.poll_transmit(now, link.id, &mut transmit));
        let wrote = match encoded {
            Ok(status) => flush::write(cx, link, &transmit, status),
            Err(_) => Wrote::Panicked,
        };
        self.shared.return_transmit(link.shard, transmit);
        wrote
    }

    /// Waits for the peer's end, throwing away what it sends; the timer cuts it short.
    fn poll_linger(&self, cx: &mut Context<'_>) -> Poll<()> {
        if ready!(self.link.socket.poll_shutdown(cx)).is_err() {
            return Poll::Ready(());
        }
        let mut sink = [0; 1024];
        loop {
            match ready!(self.link.socket.poll_read(cx, &mut sink)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
    }

    /// Reports the end, once.
    fn end(&mut self, cause: CloseCause) {
        if !matches!(self.phase, Phase::Lingering | Phase::Closed) {
            let known = self.shared.look(|core, _| core.links.closing(self.link.id));
            self.shared.closed(self.link.id, known.unwrap_or(cause));
        }
        self.phase = Phase::Closed;
    }
}

impl Future for ConnectionTask {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.link.owner.register(cx.waker());
        let shared = Arc::clone(&this.shared);
        let shard = shared.shards.get(usize::from(this.link.shard));
        let lane = shard
            .map(|shard| &shard.lane)
            .filter(|_| this.place == Place::Queued || this.is_minor());
        if let Some(lane) = lane
            && !lane.enter(Stander::Connection(this.link.id), &mut this.place, cx)
        {
            return Poll::Pending;
        }
        let entered = lane.map(|lane| (lane, Instant::now()));
        // Turns catch their own panics; what is caught here concerns this connection alone.
        let outcome = catch_unwind(AssertUnwindSafe(|| this.poll_open(cx)));
        if let Some((lane, at)) = entered {
            lane.leave(Stander::Connection(this.link.id), at.elapsed());
        }
        outcome.unwrap_or_else(|_| {
            Counters::count(&this.shared.counters.panics);
            tracing::error!(connection = ?this.link.id, "panic in a connection; it is closed");
            this.end(CloseCause::Internal);
            Poll::Ready(())
        })
    }
}

impl Drop for ConnectionTask {
    fn drop(&mut self) {
        // A runtime that is shut down drops its tasks without asking them.
        self.end(CloseCause::SocketClosed);
        if self.place == Place::Queued
            && let Some(shard) = self.shared.shards.get(usize::from(self.link.shard))
        {
            shard.lane.forget(Stander::Connection(self.link.id));
        }
        let decoder = Decoder::resume(*self.link.limits, self.decoder);
        drop(Input::resume(
            decoder,
            self.link.owner.take(),
            &self.shared.gauge,
        ));
        self.link.owner.clear();
        self.shared.release(self.link.listener);
    }
}

impl fmt::Debug for ConnectionTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionTask")
            .field("id", &self.link.id)
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_is_small() {
        // Each idle client costs one of each, and what the core and tokio keep.
        let (task, link) = (size_of::<ConnectionTask>(), size_of::<Link>());
        assert!(task <= 24, "{task} bytes");
        assert!(link <= 104, "{link} bytes");
    }
}
