//! The table of connections: who has something to write, who is blocked, who is closing. Guarded by the core's lock.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use paloma_broker::{CloseCause, ConnectionId};
use paloma_codec::DecodeLimits;
use paloma_session::{Monotonic, TransmitStatus};
use paloma_topic::Pages;

use crate::gauge::{Charge, Gauge};
use crate::input::Held;
use crate::socket::{Backlog, Socket};
use crate::wake::WakeCell;

/// How long a closing connection may take to write its last bytes and to see the peer's end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection as its owner, its flusher and the core's table share it.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) socket: Socket,
    pub(crate) id: ConnectionId,
    /// Index of the shard whose runtime owns the connection.
    pub(crate) shard: u16,
    pub(crate) listener: u16,
    signals: AtomicU8,
    /// The bounds that its decoder keeps.
    pub(crate) limits: Arc<DecodeLimits>,
    /// The owner's task, and what it holds of a packet that has come in part.
    pub(crate) owner: WakeCell<Option<Box<Held>>>,
}

/// What the owner of a connection is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signals(u8);

impl Signals {
    /// The core lets packets in again.
    pub(crate) const RESUME: Self = Self(1);
    /// Write what is left, then close.
    pub(crate) const CLOSE: Self = Self(2);
    /// The socket was full: write the backlog when it has room.
    pub(crate) const BLOCKED: Self = Self(4);
    /// Close at once.
    pub(crate) const ABORT: Self = Self(8);

    pub(crate) const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl Link {
    pub(crate) fn new(
        socket: Socket,
        id: ConnectionId,
        (shard, listener): (u16, u16),
        limits: Arc<DecodeLimits>,
    ) -> Self {
        let signals = AtomicU8::new(0);
        Self {
            socket,
            id,
            shard,
            listener,
            signals,
            limits,
            owner: WakeCell::default(),
        }
    }

    pub(crate) fn signals(&self) -> Signals {
        Signals(self.signals.load(Ordering::Acquire))
    }

    /// Sets a signal without waking the owner.
    pub(crate) fn set(&self, signal: Signals) {
        self.signals.fetch_or(signal.0, Ordering::AcqRel);
    }

    /// Clears a signal and says whether it was set.
    pub(crate) fn take(&self, signal: Signals) -> bool {
        self.signals.fetch_and(!signal.0, Ordering::AcqRel) & signal.0 != 0
    }
}

/// Who writes to a connection's socket.
#[derive(Debug, Default)]
enum Output {
    /// Nobody: whoever comes next.
    #[default]
    Idle,
    /// Somebody is at it outside the lock, and looks again afterwards if asked to.
    Busy { again: bool },
    /// The socket was full; its owner goes on when there is room.
    Blocked(
        Box<Backlog>,
        #[expect(dead_code, reason = "kept for what its end does")] Option<Charge>,
    ),
    /// Writing failed. What the peer sent before may still be read.
    Broken,
}

#[derive(Debug)]
struct Slot {
    link: Arc<Link>,
    output: Output,
    /// Since when the socket has taken nothing; meaningful while blocked.
    blocked_at: Monotonic,
    closing: Option<CloseCause>,
    is_dirty: bool,
    is_watched: bool,
}

/// Who wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writer {
    /// The connection's own task.
    Owner,
    /// The flusher of its thread.
    Flusher,
}

/// How a writer's work ended.
#[derive(Debug)]
pub(crate) enum Wrote {
    /// All went out.
    All(TransmitStatus),
    /// The socket is full.
    Blocked {
        backlog: Box<Backlog>,
        progressed: bool,
    },
    /// The socket failed.
    Failed,
    /// Encoding or writing panicked.
    Panicked,
}

/// What the owner of a closing connection may do.
#[derive(Debug)]
pub(crate) enum Farewell {
    /// Write this first.
    Backlog(Box<Backlog>),
    /// Pull what the core still has, and write it.
    Pull,
    /// The flusher is writing and wakes the owner when done.
    Wait,
    /// Nothing can be written.
    Broken,
}

/// Whom to wake once the lock is released.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    pub(crate) shards: u64,
    pub(crate) timer: bool,
    pub(crate) store: bool,
    pub(crate) owners: Vec<Arc<Link>>,
}

/// The connections of one runtime thread that have something to write.
#[derive(Debug, Default)]
struct Dirty {
    queue: VecDeque<Arc<Link>>,
    /// Packets taken in on this thread since the queue was last empty.
    packets: usize,
}

#[derive(Debug)]
pub(crate) struct Links {
    slots: Pages<Option<Slot>>,
    dirty: Box<[Dirty]>,
    /// Connections to be looked at for a stall, in the order of time; each at most once.
    stalls: VecDeque<(Monotonic, Weak<Link>)>,
    stall_timeout: Duration,
    /// Closing connections and when to cut them, in the order of time.
    closings: VecDeque<(Monotonic, Weak<Link>)>,
    wakes: Wakes,
    gauge: Gauge,
}

impl Links {
    pub(crate) fn new(shards: usize, stall_timeout: Duration, gauge: Gauge) -> Self {
        Self {
            slots: Pages::new(),
            dirty: (0..shards).map(|_| Dirty::default()).collect(),
            stalls: VecDeque::new(),
            stall_timeout,
            closings: VecDeque::new(),
            wakes: Wakes::default(),
            gauge,
        }
    }

    pub(crate) fn insert(&mut self, link: Arc<Link>) {
        let index = link.id.index();
        while index >= self.slots.len() {
            self.slots.push(None);
        }
        if let Some(slot) = self.slots.get_mut(index) {
            debug_assert!(slot.is_none(), "an index is free before it is used again");
            let blocked_at = Monotonic::ZERO;
            let output = Output::Idle;
            *slot = Some(Slot {
                link,
                output,
                blocked_at,
                closing: None,
                is_dirty: false,
                is_watched: false,
            });
        }
    }

    /// Forgets a connection; false if it was forgotten before.
    pub(crate) fn remove(&mut self, id: ConnectionId) -> bool {
        if self.slot(id).is_none() {
            return false;
        }
        if let Some(slot) = self.slots.get_mut(id.index()) {
            *slot = None;
        }
        true
    }

    fn slot(&mut self, id: ConnectionId) -> Option<&mut Slot> {
        self.slots
            .get_mut(id.index())?
            .as_mut()
            .filter(|slot| slot.link.id == id)
    }

    fn signal(&mut self, link: Arc<Link>, signal: Signals) {
        link.set(signal);
        self.wakes.owners.push(link);
    }

    pub(crate) fn take_wakes(&mut self) -> Wakes {
        std::mem::take(&mut self.wakes)
    }

    pub(crate) fn wake_timer(&mut self) {
        self.wakes.timer = true;
    }

    pub(crate) fn wake_store(&mut self) {
        self.wakes.store = true;
    }

    // ---- what the core wants ------------------------------------------------------------------------------------

    /// Has the connection's flusher look at it.
    pub(crate) fn mark_dirty(&mut self, id: ConnectionId) {
        let Some(slot) = self.slot(id) else {
            return;
        };
        if slot.is_dirty || slot.closing.is_some() {
            return;
        }
        slot.is_dirty = true;
        let link = Arc::clone(&slot.link);
        let shard = usize::from(link.shard);
        if let Some(dirty) = self.dirty.get_mut(shard) {
            if dirty.queue.is_empty() {
                self.wakes.shards |= 1 << shard;
            }
            dirty.queue.push_back(link);
        }
    }

    /// Has the owner read on.
    pub(crate) fn resume(&mut self, id: ConnectionId) {
        if let Some(slot) = self.slot(id) {
            let link = Arc::clone(&slot.link);
            self.signal(link, Signals::RESUME);
        }
    }

    /// Has the owner write what is left, and close.
    pub(crate) fn close(&mut self, now: Monotonic, id: ConnectionId, cause: CloseCause) {
        let Some(slot) = self.slot(id) else {
            return;
        };
        if slot.closing.is_some() {
            return;
        }
        slot.closing = Some(cause);
        let link = Arc::clone(&slot.link);
        self.closings
            .push_back((now.saturating_add(CLOSE_TIMEOUT), Arc::downgrade(&link)));
        self.signal(link, Signals::CLOSE);
    }

    /// Forgets what was to be written and cuts every connection: the broker has failed.
    pub(crate) fn give_up(&mut self) {
        for dirty in &mut self.dirty {
            dirty.queue.clear();
        }
        self.abort_all();
    }

    /// Cuts every connection, those that are closing already included.
    pub(crate) fn abort_all(&mut self) {
        let open = self
            .slots
            .iter()
            .flatten()
            .map(|slot| Arc::clone(&slot.link));
        let closing = self.closings.iter().filter_map(|(_, link)| link.upgrade());
        let links: Vec<_> = open.chain(closing).collect();
        for link in links {
            self.signal(link, Signals::ABORT);
        }
    }

    // ---- who writes ---------------------------------------------------------------------------------------------

    /// Takes the next connection of `shard` that may be written, and makes the caller its writer.
    pub(crate) fn next_dirty(&mut self, shard: usize) -> Option<Arc<Link>> {
        loop {
            let dirty = self.dirty.get_mut(shard)?;
            let Some(link) = dirty.queue.pop_front() else {
                dirty.packets = 0;
                return None;
            };
            let Some(slot) = self.slot(link.id) else {
                continue;
            };
            slot.is_dirty = false;
            match &mut slot.output {
                _ if slot.closing.is_some() => {}
                output @ Output::Idle => {
                    *output = Output::Busy { again: false };
                    return Some(link);
                }
                Output::Busy { again } => *again = true,
                Output::Blocked(..) | Output::Broken => {}
            }
        }
    }

    /// Whether a connection of `shard` has something to write.
    pub(crate) fn has_dirty(&self, shard: usize) -> bool {
        self.dirty
            .get(shard)
            .is_some_and(|dirty| !dirty.queue.is_empty())
    }

    /// Counts packets taken in on `shard`'s thread; true once so many have come that they should be flushed.
    pub(crate) fn count_packets(&mut self, shard: u16, count: usize, flush_after: usize) -> bool {
        let Some(dirty) = self.dirty.get_mut(usize::from(shard)) else {
            return false;
        };
        dirty.packets = if dirty.queue.is_empty() {
            0
        } else {
            dirty.packets + count
        };
        dirty.packets >= flush_after
    }

    /// Makes the owner the writer of its backlog, if it has one.
    pub(crate) fn take_backlog(&mut self, id: ConnectionId) -> Option<Box<Backlog>> {
        let slot = self.slot(id)?;
        match std::mem::take(&mut slot.output) {
            Output::Blocked(backlog, _) => {
                slot.output = Output::Busy { again: false };
                Some(backlog)
            }
            other @ (Output::Idle | Output::Busy { .. } | Output::Broken) => {
                slot.output = other;
                None
            }
        }
    }

    /// Makes the owner of a closing connection its writer, if nobody else is.
    pub(crate) fn take_farewell(&mut self, id: ConnectionId) -> Farewell {
        let Some(slot) = self.slot(id) else {
            return Farewell::Broken;
        };
        match std::mem::take(&mut slot.output) {
            Output::Idle => {
                slot.output = Output::Busy { again: false };
                Farewell::Pull
            }
            Output::Blocked(backlog, _) => {
                slot.output = Output::Busy { again: false };
                Farewell::Backlog(backlog)
            }
            Output::Busy { .. } => {
                slot.output = Output::Busy { again: true };
                Farewell::Wait
            }
            Output::Broken => {
                slot.output = Output::Broken;
                Farewell::Broken
            }
        }
    }

    /// Takes back what [`next_dirty`](Self::next_dirty), [`take_backlog`](Self::take_backlog) or
    /// [`take_farewell`](Self::take_farewell) gave. An owner that was blocked has left its waker with the socket.
    pub(crate) fn wrote(&mut self, now: Monotonic, link: &Arc<Link>, writer: Writer, wrote: Wrote) {
        let charge = match &wrote {
            Wrote::Blocked { backlog, .. } => Some(self.gauge.charge(backlog.memory_bytes())),
            Wrote::All(_) | Wrote::Failed | Wrote::Panicked => None,
        };
        let Some(slot) = self.slot(link.id) else {
            return;
        };
        let was_asked = matches!(slot.output, Output::Busy { again: true });
        let is_closing = slot.closing.is_some();
        match wrote {
            Wrote::All(status) => {
                slot.output = Output::Idle;
                slot.blocked_at = Monotonic::ZERO;
                if is_closing && was_asked {
                    self.signal(Arc::clone(link), Signals::CLOSE);
                } else if was_asked || status == TransmitStatus::Full {
                    self.mark_dirty(link.id);
                }
            }
            Wrote::Blocked {
                backlog,
                progressed,
            } => {
                if progressed || slot.blocked_at == Monotonic::ZERO {
                    slot.blocked_at = now;
                }
                slot.output = Output::Blocked(backlog, charge);
                let first = !std::mem::replace(&mut slot.is_watched, true);
                if first {
                    self.watch(now, link);
                }
                match writer {
                    Writer::Owner => link.set(Signals::BLOCKED),
                    Writer::Flusher => self.signal(Arc::clone(link), Signals::BLOCKED),
                }
            }
            Wrote::Failed => {
                slot.output = Output::Broken;
                // A peer that is gone is noticed by reading, after everything it sent; one that only stopped
                // listening is cut.
                self.closings
                    .push_back((now.saturating_add(CLOSE_TIMEOUT), Arc::downgrade(link)));
                if is_closing {
                    self.signal(Arc::clone(link), Signals::CLOSE);
                }
            }
            Wrote::Panicked => {
                slot.output = Output::Broken;
                self.close(now, link.id, CloseCause::Internal);
            }
        }
    }

    // ---- time ---------------------------------------------------------------------------------------------------

    fn watch(&mut self, from: Monotonic, link: &Arc<Link>) {
        let at = from.saturating_add(self.stall_timeout);
        let place = self.stalls.partition_point(|(other, _)| *other <= at);
        self.stalls.insert(place, (at, Arc::downgrade(link)));
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Monotonic> {
        let stall = self.stalls.front().map(|(at, _)| *at);
        let closing = self.closings.front().map(|(at, _)| *at);
        stall.into_iter().chain(closing).min()
    }

    /// Cuts what has stalled or takes too long to close; returns how many stalled.
    pub(crate) fn handle_timeout(&mut self, now: Monotonic) -> u64 {
        while let Some((at, link)) = self.closings.front()
            && *at <= now
        {
            let link = link.upgrade();
            self.closings.pop_front();
            if let Some(link) = link {
                self.signal(link, Signals::ABORT);
            }
        }
        let mut stalled = 0;
        while self.stalls.front().is_some_and(|(at, _)| *at <= now) {
            stalled += u64::from(self.look_at_stall(now));
        }
        stalled
    }

    fn look_at_stall(&mut self, now: Monotonic) -> bool {
        let Some(link) = self.stalls.pop_front().and_then(|(_, link)| link.upgrade()) else {
            return false;
        };
        let timeout = self.stall_timeout;
        let Some(slot) = self.slot(link.id) else {
            return false;
        };
        let blocked_at = slot.blocked_at;
        let is_blocked = matches!(slot.output, Output::Blocked(..) | Output::Busy { .. });
        if !is_blocked || blocked_at == Monotonic::ZERO {
            slot.is_watched = false;
            return false;
        }
        if blocked_at.saturating_add(timeout) > now {
            self.watch(blocked_at, &link);
            return false;
        }
        slot.closing.get_or_insert(CloseCause::Stalled);
        self.signal(link, Signals::ABORT);
        true
    }

    /// Why the core or the adapter ends this connection, if one of them does.
    pub(crate) fn closing(&mut self, id: ConnectionId) -> Option<CloseCause> {
        self.slot(id)?.closing
    }
}
