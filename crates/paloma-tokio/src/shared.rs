//! The broker behind its lock: one turn at a time, its effects carried out, its failures noticed.

use std::fmt;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use paloma_broker::store::{Store, StoreBatch};
use paloma_broker::{
    AuthOutcome, AuthRequest, Authenticator, CloseCause, ConnectionId, ConnectionInfo, Effect,
    Limits, Refusal, Reply,
};
use paloma_codec::ConnAckReason;
use paloma_session::{Monotonic, Now, Transmit, TransmitStatus};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use crate::arrivals::Arrivals;
use crate::authentications::Authentications;
use crate::clock::Clock;
use crate::counters::Counters;
use crate::failure::Failure;
use crate::gauge::Gauge;
use crate::lane::Lane;
use crate::links::{Link, Links, Wakes};
use crate::record::{RecordThread, Tap};
use crate::report::Reporter;
use crate::socket::Socket;
use crate::store::StoreQueue;
use crate::traces::Traces;
use crate::wake::WakeCell;

/// How often one turn goes round because answers to effects were at hand; what is left then is the next turn's.
const ROUNDS_PER_TURN: usize = 4;

/// Most packets in one turn, so that the lock is never held for long; and, give or take a turn, most packets taken in
/// on one thread before what they caused is written.
const FLUSH_AFTER_PACKETS: usize = 256;

/// Payloads from this size on are written from where they are.
pub(crate) const LARGE_BYTES_MIN: usize = 4 * 1024;

/// What all tasks of one broker share.
pub(crate) struct Shared {
    core: Mutex<Core>,
    pub(crate) shards: Box<[Shard]>,
    pub(crate) timer: WakeCell,
    pub(crate) clock: Clock,
    /// What connections hold outside the core.
    pub(crate) gauge: Gauge,
    /// What holds for connections that come from here on.
    arrivals: RwLock<Arrivals>,
    pub(crate) counters: Counters,
    pub(crate) reporter: Reporter,
    pub(crate) traces: Traces,
    pub(crate) failure: watch::Sender<Option<Failure>>,
    flush_after: usize,
    transmit_bytes: usize,
    authentications: Authentications,
    pub(crate) store: Option<StoreQueue>,
    pub(crate) record: RecordThread,
    runtime: Handle,
    /// Connection tasks that are alive, closing ones included.
    tasks: AtomicUsize,
    /// The same for each listener that has any.
    listeners: Mutex<Vec<(u16, usize)>>,
    all_gone: Notify,
    next_shard: AtomicUsize,
}

/// What one runtime thread owns.
pub(crate) struct Shard {
    pub(crate) runtime: Handle,
    pub(crate) flusher: WakeCell,
    /// Where work that others should not wait for waits itself.
    pub(crate) lane: Lane,
    /// The thread's output buffer while nobody uses it.
    transmit: Mutex<Option<Box<Transmit>>>,
}

/// What the lock guards.
pub(crate) struct Core {
    pub(crate) broker: Tap,
    pub(crate) links: Links,
    /// A store that answers at once.
    pub(crate) store: Option<Box<dyn Store>>,
    /// What it is given next; kept for its allocation.
    pub(crate) group: Vec<StoreBatch>,
    /// When the timer task will look in by itself.
    armed: Option<Monotonic>,
    /// A turn ended with something left to hand out.
    is_unsettled: bool,
    pub(crate) failed: Option<Failure>,
}

/// What a [`Shared`] is made of.
pub(crate) struct Parts {
    pub(crate) broker: Tap,
    /// The one that the core was made by.
    pub(crate) clock: Clock,
    pub(crate) authenticator: Arc<dyn Authenticator>,
    /// The store, if it answers at once.
    pub(crate) store: Option<Box<dyn Store>>,
    /// The way to the store's thread, if it does not.
    pub(crate) store_queue: Option<StoreQueue>,
    pub(crate) shards: Vec<Handle>,
    pub(crate) runtime: Handle,
}

/// Whether a connection still has to be admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Needed,
    /// [`Shared::admit`] said yes.
    Given,
}

impl Shared {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let limits = parts.broker.limits();
        let stall_timeout = Duration::from_millis(limits.stall_timeout_ms.into());
        let queue_messages_max = usize::try_from(limits.queue_messages_max).unwrap_or(usize::MAX);
        let outbound_bytes_max =
            usize::try_from(limits.outbound_buffer_bytes_max).unwrap_or(usize::MAX);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let new_shard = |runtime| Shard {
            runtime,
            flusher: WakeCell::default(),
            lane: Lane::default(),
            transmit: Mutex::default(),
        };
        let shards: Box<[Shard]> = parts.shards.into_iter().map(new_shard).collect();
        let gauge = Gauge::default();
        let links = Links::new(shards.len(), stall_timeout, gauge.clone());
        Arc::new(Self {
            shards,
            timer: WakeCell::default(),
            clock: parts.clock,
            gauge,
            arrivals: RwLock::new(Arrivals::of(&parts.broker)),
            counters: Counters::default(),
            reporter: Reporter::default(),
            traces: Traces::default(),
            failure: watch::Sender::new(None),
            // Between two flushes a session's queue may not fill up with what its socket would take.
            flush_after: FLUSH_AFTER_PACKETS.min(queue_messages_max / 4).max(1),
            transmit_bytes: outbound_bytes_max,
            authentications: Authentications::new(parts.authenticator, cores),
            store: parts.store_queue,
            record: RecordThread::default(),
            runtime: parts.runtime,
            tasks: AtomicUsize::new(0),
            listeners: Mutex::default(),
            all_gone: Notify::new(),
            next_shard: AtomicUsize::new(0),
            core: Mutex::new(Core {
                broker: parts.broker,
                links,
                store: parts.store,
                group: Vec::new(),
                armed: None,
                is_unsettled: false,
                failed: None,
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        // A panic in a turn is caught below and marks the broker failed; the lock itself stays usable.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- turns --------------------------------------------------------------------------------------------------

    /// Takes one turn: `input`, then everything that follows from it. `None` when the broker has failed. All who are in no
    /// message's way have one copy of it together.
    pub(crate) fn turn<R>(self: &Arc<Self>, input: impl FnOnce(&mut Core, Now) -> R) -> Option<R> {
        let (mut input, mut result) = (Some(input), None);
        self.turn_with(&mut |core, now| result = input.take().map(|input| input(core, now)))?;
        result
    }

    fn turn_with(self: &Arc<Self>, input: &mut dyn FnMut(&mut Core, Now)) -> Option<()> {
        self.take_turn(input, |wakes| self.wake(wakes))
    }

    /// A turn, and who has to be woken after it.
    pub(crate) fn take_turn<R>(
        self: &Arc<Self>,
        input: impl FnOnce(&mut Core, Now) -> R,
        wake: impl FnOnce(Wakes),
    ) -> Option<R> {
        let mut guard = self.lock();
        if guard.failed.is_some() {
            return None;
        }
        let now = self.clock.now();
        let core = &mut *guard;
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let result = input(core, now);
            core.settle(self, now);
            result
        }));
        if outcome.is_err() {
            core.failed = Some(Failure::Panicked);
        }
        let failed = core.failed.clone();
        if failed.is_some() {
            core.links.give_up();
        }
        core.broker.end_turn();
        let is_ripe = core.broker.is_record_ripe();
        let wakes = core.links.take_wakes();
        let notices = (!core.broker.has_no_notices()).then(|| core.broker.take_notices());
        let traced = (!core.broker.has_traced_nothing()).then(|| core.broker.take_traced());
        drop(guard);
        wake(wakes);
        if is_ripe {
            self.record.wake();
        }
        if let Some((notices, lost)) = notices {
            self.reporter.report(now.monotonic, notices, lost);
        }
        if let Some(traced) = traced {
            self.traces.tell(traced);
        }
        if let Some(failure) = failed {
            tracing::error!(%failure, "the broker has failed and stops");
            self.failure.send_replace(Some(failure));
            return None;
        }
        outcome.ok()
    }

    /// Looks at the state between turns. Nothing that gives the core work may be done here.
    pub(crate) fn look<R>(&self, f: impl FnOnce(&mut Core, Now) -> R) -> R {
        let now = self.clock.now();
        self.look_at(|core| f(core, now))
    }

    /// Like [`look`](Self::look), for who has read the clock.
    pub(crate) fn look_at<R>(&self, f: impl FnOnce(&mut Core) -> R) -> R {
        let mut guard = self.lock();
        let result = f(&mut guard);
        let wakes = guard.links.take_wakes();
        drop(guard);
        self.wake(wakes);
        result
    }

    pub(crate) fn wake(&self, wakes: Wakes) {
        let Wakes {
            mut shards,
            timer,
            store,
            owners,
        } = wakes;
        if store {
            self.wake_store();
        }
        while shards != 0 {
            let index = shards.trailing_zeros() as usize;
            shards &= shards - 1;
            if let Some(shard) = self.shards.get(index) {
                shard.flusher.wake();
            }
        }
        if timer {
            self.timer.wake();
        }
        for link in owners {
            link.owner.wake();
        }
    }

    /// Marks the broker failed from outside a turn.
    pub(crate) fn fail(&self, failure: Failure) {
        tracing::error!(%failure, "the broker has failed and stops");
        self.look(|core, _| {
            core.failed.get_or_insert(failure.clone());
            core.links.give_up();
        });
        self.failure.send_replace(Some(failure));
    }

    // ---- connections --------------------------------------------------------------------------------------------

    /// Takes in a connection for the runtime of `shard`.
    pub(crate) fn open(
        self: &Arc<Self>,
        socket: Socket,
        shard: u16,
        info: ConnectionInfo,
        admission: Admission,
    ) -> Result<Arc<Link>, Refusal> {
        let (listener, from) = (info.listener, (info.address, info.door()));
        let limits = self.arrivals().decode_limits;
        let opened = self.turn(|core, now| {
            let id = match admission {
                Admission::Needed => core.broker.open(now, info)?,
                Admission::Given => core.broker.open_admitted(now, info)?,
            };
            let link = Arc::new(Link::new(socket, id, (shard, listener), limits));
            core.links.insert(Arc::clone(&link));
            Ok(link)
        });
        let link = self.count_refusal(opened, from)?;
        self.tasks.fetch_add(1, Ordering::AcqRel);
        let mut counts = self.lock_listeners();
        match counts.iter_mut().find(|(number, _)| *number == listener) {
            Some((_, count)) => *count += 1,
            None => counts.push((listener, 1)),
        }
        drop(counts);
        Ok(link)
    }

    /// Asks whether a connection from `address` may come in, before its transport costs anything.
    pub(crate) fn admit(self: &Arc<Self>, info: &ConnectionInfo) -> Result<(), Refusal> {
        let admitted = self.turn(|core, now| core.broker.admit_peer(now, info.address));
        self.count_refusal(admitted, (info.address, info.door()))
    }

    fn count_refusal<T>(
        &self,
        outcome: Option<Result<T, Refusal>>,
        from: (Option<IpAddr>, Option<u16>),
    ) -> Result<T, Refusal> {
        let outcome = outcome.unwrap_or(Err(Refusal::ShuttingDown));
        outcome.inspect_err(|refusal| {
            Counters::count(&self.counters.refused);
            self.reporter.refused(from, *refusal);
        })
    }

    /// A connection's end, exactly once for each that was opened.
    pub(crate) fn closed(self: &Arc<Self>, id: ConnectionId, cause: CloseCause) {
        tracing::debug!(connection = ?id, %cause, "connection closed");
        let turn = self.turn(|core, now| {
            if core.links.remove(id) {
                core.broker.handle_closed(now, id, cause);
            }
        });
        if turn.is_none() {
            // The core is not asked any more, but its table still holds the socket.
            self.look(|core, _| core.links.remove(id));
        }
    }

    /// A connection's task has ended.
    pub(crate) fn release(&self, listener: u16) {
        let mut counts = self.lock_listeners();
        if let Some(place) = counts.iter().position(|(number, _)| *number == listener)
            && let Some((_, count)) = counts.get_mut(place)
        {
            *count -= 1;
            if *count == 0 {
                counts.swap_remove(place);
            }
        }
        drop(counts);
        if self.tasks.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.all_gone.notify_waiters();
        }
    }

    /// Connections that came in through a listener and are not gone.
    pub(crate) fn connections_of(&self, listener: u16) -> usize {
        let counts = self.lock_listeners();
        let count = counts.iter().find(|(number, _)| *number == listener);
        count.map_or(0, |(_, count)| *count)
    }

    fn lock_listeners(&self) -> MutexGuard<'_, Vec<(u16, usize)>> {
        (self.listeners.lock()).unwrap_or_else(PoisonError::into_inner)
    }

    /// Connections that are not gone.
    pub(crate) fn connections(&self) -> usize {
        self.tasks.load(Ordering::Acquire)
    }

    /// What holds for a connection that comes now.
    pub(crate) fn arrivals(&self) -> Arrivals {
        self.arrivals
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Other bounds from here on.
    pub(crate) fn set_limits(self: &Arc<Self>, limits: &Limits) {
        let limits = limits.clone();
        let arrivals = self.turn(|core, _| {
            core.broker.set_limits(limits);
            Arrivals::of(&core.broker)
        });
        if let Some(arrivals) = arrivals {
            *self
                .arrivals
                .write()
                .unwrap_or_else(PoisonError::into_inner) = arrivals;
        }
    }

    /// The runtime that the broker was started on.
    pub(crate) const fn runtime(&self) -> &Handle {
        &self.runtime
    }

    pub(crate) async fn all_gone(&self) {
        loop {
            let gone = self.all_gone.notified();
            if self.tasks.load(Ordering::Acquire) == 0 {
                return;
            }
            gone.await;
        }
    }

    /// The shard for the next connection, in turn.
    pub(crate) fn next_shard(&self) -> u16 {
        let index = self.next_shard.fetch_add(1, Ordering::Relaxed) % self.shards.len();
        u16::try_from(index).unwrap_or_default()
    }

    /// Packets of one thread after which their effects are written.
    pub(crate) fn flush_after(&self) -> usize {
        self.flush_after
    }

    // ---- output buffers -----------------------------------------------------------------------------------------

    /// The shard's output buffer, or a new one if it is in use.
    pub(crate) fn take_transmit(&self, shard: u16) -> Box<Transmit> {
        let kept = self.shards.get(usize::from(shard)).and_then(|shard| {
            shard
                .transmit
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take()
        });
        kept.unwrap_or_else(|| Box::new(Transmit::new(self.transmit_bytes, LARGE_BYTES_MIN)))
    }

    pub(crate) fn return_transmit(&self, shard: u16, mut transmit: Box<Transmit>) {
        transmit.clear();
        if let Some(shard) = self.shards.get(usize::from(shard)) {
            *shard
                .transmit
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Some(transmit);
        }
    }

    // ---- effects that wait --------------------------------------------------------------------------------------

    fn spawn_authentication(self: &Arc<Self>, id: ConnectionId, request: Box<AuthRequest>) {
        let shared = Arc::clone(self);
        self.runtime.spawn(async move {
            let judged = shared.authentications.judge(request).await;
            let outcome = judged.unwrap_or_else(|_| {
                Counters::count(&shared.counters.panics);
                tracing::error!(connection = ?id, "the authenticator panicked; the client is refused");
                AuthOutcome::Deny(ConnAckReason::UnspecifiedError)
            });
            shared.reply(Reply::Authenticated(id, outcome));
        });
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("shards", &self.shards.len())
            .finish_non_exhaustive()
    }
}

impl Core {
    /// Ends the turn: hands out what the inputs caused, and takes in the answers that are there at once.
    fn settle(&mut self, shared: &Arc<Shared>, now: Now) {
        self.is_unsettled = false;
        let mut rounds = 0;
        let stored = match (&self.store, &shared.store) {
            (Some(store), _) => store.memory_bytes(),
            (None, Some(queue)) => queue.memory_bytes(),
            (None, None) => 0,
        };
        self.broker
            .set_outside_bytes(shared.gauge.bytes().saturating_add(stored));
        loop {
            self.broker.finish_turn(now);
            let mut was_answered = false;
            while let Some(effect) = self.broker.poll_effect() {
                was_answered |= self.perform(shared, now, effect);
            }
            rounds += 1;
            if !was_answered {
                break;
            }
            if rounds == ROUNDS_PER_TURN {
                self.is_unsettled = true;
                break;
            }
        }
        let wanted = self.deadline();
        if wanted.is_some_and(|at| self.armed.is_none_or(|armed| at < armed)) {
            self.armed = wanted;
            self.links.wake_timer();
        }
    }

    /// Carries out one effect; true if its answer was at hand and has been given.
    fn perform(&mut self, shared: &Arc<Shared>, now: Now, effect: Effect) -> bool {
        match effect {
            Effect::Transmit(id) => self.links.mark_dirty(id),
            Effect::Resume(id) => self.links.resume(id),
            Effect::Close(id, cause) => self.links.close(now.monotonic, id, cause),
            Effect::Authenticate(id, request) => {
                return self.authenticate(shared, now, id, request);
            }
            Effect::Persist(batch) => return self.persist(shared, now, batch),
            Effect::Load(request) => return self.load(shared, now, request),
        }
        false
    }

    fn authenticate(
        &mut self,
        shared: &Arc<Shared>,
        now: Now,
        id: ConnectionId,
        request: Box<AuthRequest>,
    ) -> bool {
        let Some(outcome) = shared.authentications.judge_here(&request) else {
            shared.spawn_authentication(id, request);
            return false;
        };
        self.broker
            .handle_reply(now, Reply::Authenticated(id, outcome));
        true
    }

    /// When the next turn is due if nothing happens before.
    fn deadline(&self) -> Option<Monotonic> {
        if self.is_unsettled {
            return Some(Monotonic::ZERO);
        }
        self.broker
            .poll_timeout()
            .into_iter()
            .chain(self.links.poll_timeout())
            .min()
    }

    /// The timer's question: when to come back. It will, so nothing earlier needs to wake it.
    pub(crate) fn arm(&mut self) -> Option<Monotonic> {
        self.armed = if self.failed.is_some() {
            None
        } else {
            self.deadline()
        };
        self.armed
    }

    /// Encodes what a connection has to send. A panic is that connection's alone.
    pub(crate) fn poll_transmit(
        &mut self,
        now: Now,
        id: ConnectionId,
        transmit: &mut Transmit,
    ) -> std::thread::Result<TransmitStatus> {
        transmit.clear();
        catch_unwind(AssertUnwindSafe(|| {
            self.broker.poll_transmit(now, id, transmit)
        }))
    }

    pub(crate) fn is_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// Sends everybody away.
    pub(crate) fn shut_down(&mut self, now: Now) {
        self.broker.shut_down(now);
    }

    pub(crate) fn handle_timeout(&mut self, counters: &Counters, now: Now) {
        let stalled = self.links.handle_timeout(now.monotonic);
        counters.stalled.fetch_add(stalled, Ordering::Relaxed);
        self.broker.handle_timeout(now);
    }

    pub(crate) fn abort_all(&mut self) {
        self.links.abort_all();
    }
}
