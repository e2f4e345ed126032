//! The real core and the real store in one thread, under a clock of our own.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use paloma_broker::store::{LoadRequest, Store, StoreBatch, StoreOp};
use paloma_broker::{
    AllowAll, Authenticator, Broker, BrokerConfig, CloseCause, ConnectionId, ConnectionInfo,
    Effect, Reply,
};
use paloma_codec::Decoder;
use paloma_interop::random::Random;
use paloma_session::{Monotonic, Now, Transmit, TransmitStatus, Wall};
use paloma_store_redb::disk::sim::SimDisk;
use paloma_store_redb::{Durability, Options, RedbStore};

use super::recorder::{Crash, Recorder, Syncs};

thread_local! {
    static CLOCK: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// A checkpoint that is under way happens before one call of the store of so many.
const TAKES_OVER_ONE_IN: usize = 4;

/// One sync of so many takes long.
const SLOW_ONE_IN: usize = 40;

/// When the first machine starts.
const WALL_START_MILLIS: u64 = 1_700_000_000_000;

/// How a machine is built, or broken.
#[derive(Clone, Copy, Debug)]
pub struct Build {
    /// The store's level.
    pub durability: Durability,
    /// What stops when it crashes.
    pub crash: Crash,
    /// What its disk does with a sync of the engine's file.
    pub syncs: Syncs,
    /// The same of the log.
    pub log_syncs: Syncs,
    /// The adapter says that a batch is committed as soon as it gets it.
    pub is_eager: bool,
    /// The adapter leaves out what the store is told of retained messages that are on their way to a new subscription.
    pub forgets_marks: bool,
}

impl Build {
    /// As it should be, at this level.
    #[must_use]
    pub const fn sound(durability: Durability, crash: Crash) -> Self {
        Self {
            durability,
            crash,
            syncs: Syncs::All,
            log_syncs: Syncs::All,
            is_eager: false,
            forgets_marks: false,
        }
    }
}

/// With [`Durability::Interval`]: what may be lost.
pub const INTERVAL: Duration = Duration::from_millis(100);

/// What the machine does towards a client.
#[derive(Debug)]
pub(crate) enum Towards {
    /// Bytes for it.
    Bytes(ConnectionId, Vec<u8>),
    /// Its connection ends.
    End(ConnectionId),
}

/// The store waits for a sync that takes long.
#[derive(Debug)]
struct Busy {
    until: Duration,
    /// What it will say then.
    reply: Option<Reply>,
    /// The disk as a crash finds it meanwhile.
    disk: SimDisk,
}

#[derive(Debug)]
enum Job {
    Commit(StoreBatch),
    Load(LoadRequest),
}

/// What clocks show.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clocks {
    /// The time since the first machine started; the store reads it from [`CLOCK`].
    pub(crate) elapsed: Duration,
    /// By how much the wall clock has been put forward in all.
    pub(crate) set_by_seconds: i64,
}

impl Clocks {
    /// Longest that the wall clock is ever off: it must not come before the epoch.
    const OFF_SECONDS_MAX: u64 = 30 * 366 * 24 * 3_600;

    /// The wall clock is set. False if that were too much, and nothing has happened.
    pub(crate) fn set(&mut self, by_seconds: i64) -> bool {
        let off = self.set_by_seconds + by_seconds;
        let may_be = off.unsigned_abs() <= Self::OFF_SECONDS_MAX;
        if may_be {
            self.set_by_seconds = off;
        }
        may_be
    }

    fn wall(self) -> Wall {
        let millis = WALL_START_MILLIS + self.elapsed.as_millis() as u64;
        Wall::from_millis(millis.wrapping_add_signed(self.set_by_seconds * 1_000))
    }
}

/// A broker, its store, and what waits between the two.
#[derive(Debug)]
pub(crate) struct Machine {
    broker: Broker,
    store: RedbStore,
    pub(crate) recorder: Recorder,
    build: Build,
    jobs: VecDeque<Job>,
    busy: Option<Busy>,
    now: Now,
    clocks: Clocks,
    /// When the store wants to be called while nothing waits.
    rest_at: Option<Duration>,
    towards: VecDeque<Towards>,
    out: Transmit,
    /// When the engine's file takes over what the log has, where that is under way.
    random: Random,
}

impl Machine {
    /// Starts on what a disk holds.
    ///
    /// # Errors
    /// Why the store does not open or cannot be recovered, in words.
    pub(crate) fn start(
        disk: SimDisk,
        build: Build,
        one_in: u64,
        clocks: Clocks,
        seed: u64,
    ) -> Result<Self, String> {
        let recorder = Recorder::new(disk, build.crash, build.syncs, one_in, seed);
        let options = Options {
            durability: build.durability,
            interval: INTERVAL,
            reserve_bytes: 1 << 20,
            // Full after a few dozen commits, and some groups are too large for it.
            log_bytes: 32 << 10,
            cache_bytes: 1 << 20,
            clock: || CLOCK.get(),
            ..Options::default()
        };
        CLOCK.set(clocks.elapsed);
        let log = Arc::new(recorder.log(build.log_syncs));
        let mut store = RedbStore::on_disk(Arc::new(recorder.clone()), Some(log), &options)
            .map_err(|error| format!("the store does not open: {error}"))?;
        let mut config = BrokerConfig::new([3; 32]);
        config.limits.queue_messages_max = 1_000_000;
        config.limits.queue_bytes_max = 1 << 30;
        config.limits.queue_memory_messages_max = 16;
        if seed.is_multiple_of(2) {
            // Soon enough reached for publishers to wait while a sync takes long.
            config.limits.uncommitted_bytes_max = 4_000;
        }
        config.limits.connections_per_second_max = u32::MAX;
        config.limits.connections_per_second_per_address_max = u32::MAX;
        let now = Now::new(Monotonic::from_millis(1_000), clocks.wall());
        let (broker, recovery) = Broker::recover(config, now, &mut store)
            .map_err(|error| format!("the broker does not recover: {error}"))?;
        if !recovery.lost.is_empty() {
            return Err(format!("recovery says that it lost {:?}", recovery.lost));
        }
        let mut machine = Self {
            broker,
            store,
            recorder,
            build,
            jobs: VecDeque::new(),
            busy: None,
            now,
            clocks,
            rest_at: Some(clocks.elapsed),
            towards: VecDeque::new(),
            out: Transmit::default(),
            random: Random::new(seed ^ 0x7A4E),
        };
        machine.settle();
        // Recovery is over before anybody comes.
        if one_in > 0 && build.durability == Durability::Ack {
            machine.recorder.slow_down(SLOW_ONE_IN);
        }
        Ok(machine)
    }

    /// Opens a connection.
    pub(crate) fn open(&mut self) -> Option<(ConnectionId, Decoder)> {
        let connection = self.broker.open(self.now, ConnectionInfo::default()).ok()?;
        let decoder = Decoder::server(self.broker.decode_limits());
        Some((connection, decoder))
    }

    /// Gives the broker what a client has sent, up to `most` packets in one turn, and returns how many bytes it took.
    pub(crate) fn feed(
        &mut self,
        connection: ConnectionId,
        decoder: &mut Decoder,
        bytes: &[u8],
        most: usize,
    ) -> usize {
        let mut taken = 0;
        for _ in 0..most {
            if !self.broker.may_read(connection) {
                break;
            }
            match decoder.decode(&bytes[taken..]) {
                Ok(Some((packet, used))) => {
                    self.broker.handle_packet(self.now, connection, packet);
                    taken += used;
                }
                Ok(None) => break,
                Err(error) => panic!("our own packet is not understood: {error}"),
            }
        }
        self.settle();
        taken
    }

    /// The client has closed its socket.
    pub(crate) fn close(&mut self, connection: ConnectionId) {
        self.broker
            .handle_closed(self.now, connection, CloseCause::SocketClosed);
        self.settle();
    }

    /// Lets time pass.
    pub(crate) fn advance(&mut self, by: Duration) {
        self.now = self.now.saturating_add(by);
        self.clocks.elapsed += by;
        let elapsed = self.clocks.elapsed;
        if let Some(busy) = self.busy.take_if(|busy| busy.until <= elapsed) {
            self.rest_at = Some(elapsed);
            if let Some(reply) = busy.reply {
                self.broker.handle_reply(self.now, reply);
            }
        }
        self.settle();
    }

    /// Sets the wall clock. False if that were too much, and nothing has happened.
    pub(crate) fn set_clock(&mut self, by_seconds: i64) -> bool {
        let is_set = self.clocks.set(by_seconds);
        self.now = Now::new(self.now.monotonic, self.clocks.wall());
        self.settle();
        is_set
    }

    /// What its clocks show.
    pub(crate) fn clocks(&self) -> Clocks {
        self.clocks
    }

    /// Whether the store has nothing to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.jobs.is_empty() && !self.is_busy()
    }

    /// Whether the store waits for a sync that takes long.
    pub(crate) fn is_busy(&self) -> bool {
        self.busy.is_some()
    }

    /// What a crash now leaves.
    pub(crate) fn survivor(&self) -> SimDisk {
        match &self.busy {
            Some(busy) => self.recorder.survivor_of(&busy.disk),
            None => self.recorder.survivor(),
        }
    }

    /// Has the store do up to so many of the things that wait, as one group up to the first load, or rest if nothing waits.
    ///
    /// # Errors
    /// What the store says, in words.
    pub(crate) fn work(&mut self, most: usize) -> Result<(), String> {
        if self.is_busy() {
            return Ok(());
        }
        // Another machine may have run in this thread meanwhile.
        CLOCK.set(self.clocks.elapsed);
        // What a thread does between any two calls.
        if self.random.between(0, TAKES_OVER_ONE_IN) == 0 {
            self.store.take_over();
        }
        let mut group = Vec::new();
        while group.len() < most
            && let Some(Job::Commit(_)) = self.jobs.front()
            && let Some(Job::Commit(batch)) = self.jobs.pop_front()
        {
            group.push(batch);
        }
        if !group.is_empty() {
            let committed = self
                .store
                .commit(&mut group)
                .map_err(|error| format!("a commit fails: {error}"))?;
            self.rest_at = Some(self.clocks.elapsed);
            let reply = Reply::Committed(committed.seq);
            self.reply_in_time((!self.build.is_eager).then_some(reply));
        } else if let Some(Job::Load(request)) = self.jobs.pop_front() {
            let loaded = self
                .store
                .read_queue(&request)
                .map_err(|error| format!("a load fails: {error}"))?;
            self.reply_in_time(Some(Reply::Loaded(loaded)));
        } else if self.rest_at.is_some_and(|at| at <= self.clocks.elapsed) {
            let rested = self
                .store
                .rest()
                .map_err(|error| format!("the store does not rest: {error}"))?;
            self.rest_at = rested.again_after.map(|after| self.clocks.elapsed + after);
            self.reply_in_time(None);
        }
        self.settle();
        Ok(())
    }

    /// Gives the broker what the store says: now, or when the sync is over that took long.
    fn reply_in_time(&mut self, reply: Option<Reply>) {
        match (self.recorder.take_slow(), reply) {
            (Some((time, disk)), reply) => {
                let until = self.clocks.elapsed + time;
                self.busy = Some(Busy { until, reply, disk });
            }
            (None, Some(reply)) => self.broker.handle_reply(self.now, reply),
            (None, None) => {}
        }
    }

    /// What the broker has for its clients, in order.
    pub(crate) fn poll_towards(&mut self) -> Option<Towards> {
        self.towards.pop_front()
    }

    /// Runs turns until the broker has nothing more to do now.
    fn settle(&mut self) {
        for turn in 0.. {
            assert!(turn < 1_000_000, "the broker never comes to rest");
            self.broker.finish_turn(self.now);
            let mut did_something = false;
            while let Some(effect) = self.broker.poll_effect() {
                did_something = true;
                self.carry_out(effect);
            }
            let timeout = self.broker.poll_timeout();
            if timeout.is_some_and(|at| at <= self.now.monotonic) {
                self.broker.handle_timeout(self.now);
            } else if !did_something {
                return;
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Transmit(connection) => self.pull(connection),
            // Whoever drives this tries again by itself.
            Effect::Resume(_) => {}
            Effect::Close(connection, cause) => {
                self.pull(connection);
                self.towards.push_back(Towards::End(connection));
                self.broker.handle_closed(self.now, connection, cause);
            }
            Effect::Authenticate(connection, request) => {
                let outcome = AllowAll.authenticate(&request);
                let reply = Reply::Authenticated(connection, outcome);
                self.broker.handle_reply(self.now, reply);
            }
            Effect::Persist(mut batch) => {
                let seq = batch.seq;
                if self.build.forgets_marks {
                    forget_marks(&mut batch);
                }
                self.jobs.push_back(Job::Commit(batch));
                if self.build.is_eager {
                    self.broker.handle_reply(self.now, Reply::Committed(seq));
                }
            }
            Effect::Load(request) => self.jobs.push_back(Job::Load(request)),
        }
    }

    fn pull(&mut self, connection: ConnectionId) {
        let mut bytes = Vec::new();
        loop {
            self.out.clear();
            let status = self
                .broker
                .poll_transmit(self.now, connection, &mut self.out);
            for piece in self.out.pieces() {
                bytes.extend_from_slice(piece);
            }
            if status != TransmitStatus::Full {
                break;
            }
        }
        if !bytes.is_empty() {
            self.towards.push_back(Towards::Bytes(connection, bytes));
        }
    }
}

fn forget_marks(batch: &mut StoreBatch) {
    for op in &mut batch.ops {
        if let StoreOp::PutSubscription(_, record) = op {
            record.replay_after = None;
        }
    }
}

/// How many things one call of the store does at most, by chance.
pub(crate) fn group_size(random: &mut Random) -> usize {
    *random.one_of(&[1, 2, 5, 1_000])
}
