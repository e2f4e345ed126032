//! Writing what a tick has caused: one flusher for each runtime thread.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use paloma_session::{Transmit, TransmitStatus};

use crate::counters::Counters;
use crate::lane::wake_behind_sockets;
use crate::links::{Link, Writer, Wrote};
use crate::shared::Shared;
use crate::socket::{Backlog, Pieces};

/// Most connections written before other tasks get their turn.
pub(crate) const LINKS_PER_PASS: usize = 128;

/// Bytes written before other tasks get their turn, but for the last connection's.
const BYTES_PER_PASS: usize = 256 * 1024;

/// From so many bytes on, a connection's output waits for its own turn if the pass has none left for it.
const BULK_BYTES: usize = 64 * 1024;

/// The flusher of one shard. It is woken when the first connection becomes dirty and so runs behind the tasks that
/// were runnable by then: what they cause for the same connections goes out in the same writes.
pub(crate) async fn run(shared: Arc<Shared>, shard: u16, is_shared_queue: bool) {
    let mut was_deferred = false;
    let pass = poll_fn(|cx| {
        let Some(own) = shared.shards.get(usize::from(shard)) else {
            return Poll::Ready(());
        };
        own.flusher.register(cx.waker());
        // A multi-threaded runtime runs a woken task next; one more step puts it behind the others.
        if is_shared_queue && !was_deferred {
            was_deferred = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        was_deferred = false;
        if flush(&shared, shard, LINKS_PER_PASS) {
            was_deferred = true;
            wake_behind_sockets(cx.waker());
        }
        Poll::Pending
    });
    tokio::task::unconstrained(pass).await;
}

/// Writes to dirty connections of `shard` until none is left, or as many were written to as a pass may have, or it is full;
/// true when some are left.
pub(crate) fn flush(shared: &Arc<Shared>, shard: u16, links_max: usize) -> bool {
    // The owner's waker is the one that counts: it is woken by hand if the socket is full, and asks again.
    let mut cx = Context::from_waker(Waker::noop());
    let mut transmit = shared.take_transmit(shard);
    let mut done: Option<(Arc<Link>, Wrote)> = None;
    let mut is_first = true;
    let mut has_more = false;
    let mut bytes_left = BYTES_PER_PASS;
    // A pass is short, so one look at the clock does for all its connections.
    let now = shared.clock.now();
    for pass in 0..=links_max {
        // One lock for each connection: the last one's end and the next one's beginning.
        let next = shared.look_at(|core| {
            if let Some((link, wrote)) = done.take() {
                core.links
                    .wrote(now.monotonic, &link, Writer::Flusher, wrote);
            }
            if core.is_failed() {
                return None;
            }
            if pass == links_max || bytes_left == 0 {
                has_more = core.links.has_dirty(shard.into());
                return None;
            }
            let link = core.links.next_dirty(shard.into())?;
            let encoded = core.poll_transmit(now, link.id, &mut transmit);
            Some((link, encoded))
        });
        let Some((link, encoded)) = next else {
            break;
        };
        is_first = false;
        let wrote = match encoded {
            Ok(status) => write_in_pass(&mut cx, &link, &transmit, status, &mut bytes_left),
            Err(_) => Wrote::Panicked,
        };
        count_panic(shared, &link, &wrote);
        done = Some((link, wrote));
    }
    shared.return_transmit(shard, transmit);
    if !is_first {
        // Pulling may have given the core something to do: a queue to refill, a drop to store.
        shared.take_turn(|_, _| (), |wakes| shared.wake(wakes));
    }
    has_more
}

/// Writes what the pass has room for. Bulk that it has no room for is left to its owner, who takes it to the lane.
fn write_in_pass(
    cx: &mut Context<'_>,
    link: &Link,
    transmit: &Transmit,
    status: TransmitStatus,
    bytes_left: &mut usize,
) -> Wrote {
    let pieces = pieces(transmit);
    let len = pieces.len();
    if len >= BULK_BYTES && len > *bytes_left {
        return Wrote::Blocked {
            backlog: Box::new(Backlog::new(pieces, 0)),
            progressed: true,
        };
    }
    *bytes_left = bytes_left.saturating_sub(len);
    write(cx, link, transmit, status)
}

fn pieces(transmit: &Transmit) -> Pieces<'_> {
    Pieces {
        bytes: transmit.bytes(),
        large: transmit.large(),
    }
}

/// Writes from a thread's buffer. What the socket does not take becomes its owner's backlog.
pub(crate) fn write(
    cx: &mut Context<'_>,
    link: &Link,
    transmit: &Transmit,
    status: TransmitStatus,
) -> Wrote {
    if transmit.is_empty() {
        return Wrote::All(status);
    }
    let pieces = pieces(transmit);
    let mut written = 0;
    let result = catch_unwind(AssertUnwindSafe(|| {
        link.socket
            .poll_write(cx, pieces, &mut written, pieces.len())
    }));
    match result {
        Ok(Poll::Ready(Ok(()))) => Wrote::All(status),
        Ok(Poll::Ready(Err(_))) => Wrote::Failed,
        Ok(Poll::Pending) => Wrote::Blocked {
            backlog: Box::new(Backlog::new(pieces, written)),
            progressed: written > 0,
        },
        Err(_) => Wrote::Panicked,
    }
}

/// Goes on with a backlog, from its owner: a part of it, behind which the others come first.
pub(crate) fn continue_write(
    cx: &mut Context<'_>,
    link: &Link,
    mut backlog: Box<Backlog>,
) -> Wrote {
    let (result, progressed) = backlog.poll_write(cx, &link.socket, BYTES_PER_PASS);
    match result {
        Poll::Ready(Ok(())) if !backlog.is_written() => {
            wake_behind_sockets(cx.waker());
            Wrote::Blocked {
                backlog,
                progressed,
            }
        }
        // What waits behind the backlog is found out by the next pull.
        Poll::Ready(Ok(())) => Wrote::All(TransmitStatus::Full),
        Poll::Ready(Err(_)) => Wrote::Failed,
        Poll::Pending => Wrote::Blocked {
            backlog,
            progressed,
        },
    }
}

pub(crate) fn count_panic(shared: &Shared, link: &Link, wrote: &Wrote) {
    if matches!(wrote, Wrote::Panicked) {
        Counters::count(&shared.counters.panics);
        tracing::error!(connection = ?link.id, "panic while encoding or writing; the connection is closed");
    }
}
