//! The world: one queue of events on one virtual clock, and everything that is random drawn from one seed.

mod crash;
mod steps;
mod wires;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use paloma_broker::store::Space;
use paloma_broker::{Broker, BrokerConfig, ConnectionId, QueueWhenFull};
use paloma_codec::ProtocolVersion;
use paloma_session::{Monotonic, Now, Wall};

use crate::clients::{Outcome, SimClient};
use crate::host::{Host, Surroundings, Wish};
use crate::keeper::{Keeper, Medium};
use crate::options::Options;
use crate::oracle::Oracle;
use crate::pipe::Pipe;
use crate::plan::Step;
use crate::random::Random;
use crate::rules::Rules;
use crate::trace::Trace;
use crate::violation::Invariant;

/// Where the wall clock begins: well after the epoch, so that it can jump back ten years.
const WALL_START_MILLIS: u64 = 1_700_000_000_000;

/// The clients' and the broker's time to come to rest once faults have stopped.
const CALM: u64 = 60 * SECOND;

/// Longer than any session lives.
const LEAVE: u64 = 41 * 24 * 3_600 * SECOND;

/// A wall clock that goes back by more than this, or forward by more than the other, was set: the broker's own time goes on
/// as if it had not been.
const BELIEVED_BACK: i64 = 3_600_000;
const BELIEVED_FORWARD: i64 = 366 * 24 * 3_600_000;

const SECOND: u64 = 1_000_000_000;
const MICROSECOND: u64 = 1_000;

/// Something that happens at a time.
#[derive(Clone, Copy, Debug)]
enum Happening {
    /// Bytes reach the broker's or the client's end of a wire.
    Arrive {
        wire: usize,
        at_host: bool,
    },
    /// One end learns that the wire is closed.
    Closed {
        wire: usize,
        at_host: bool,
    },
    Committed,
    Authenticated(ConnectionId),
    /// Has the socket been blocked for too long?
    StallCheck(ConnectionId),
    Reconnect(usize),
    /// The store has room again.
    Room,
    /// The broker hears of rules that have changed.
    RulesTold,
}

/// A connection between two ends.
#[derive(Debug)]
struct Wire {
    up: Pipe,
    down: Pipe,
    /// The broker's name for it, while its socket is open.
    host: Option<ConnectionId>,
    /// The same, for as long as anybody asks.
    name: Option<ConnectionId>,
    /// The session that it was let into by a broker that is gone.
    let_into: Option<u64>,
    /// The client at the other end, unless that is somebody hostile.
    client: Option<usize>,
    random: Random,
}

/// What a run comes to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Nanoseconds of simulated life, without the time that is let pass at its end.
    pub(crate) nanos: u64,
    pub(crate) faults: u64,
    pub(crate) messages: u64,
}

pub(crate) struct World {
    options: Options,
    /// What every broker of this world is made with.
    config: BrokerConfig,
    now: Now,
    host: Host,
    pub(crate) oracle: Oracle,
    pub(crate) trace: Trace,
    rules: Arc<Rules>,
    clients: Vec<SimClient>,
    wires: BTreeMap<usize, Wire>,
    next_wire: usize,
    happenings: BTreeMap<(u64, u64), Happening>,
    serial: u64,
    seed: u64,
    random: Random,
    is_calm: bool,
    is_leaving: bool,
    /// What the wall clock is ahead of the other one.
    wall_offset_millis: u64,
    /// How much of that the broker takes for a clock that was set.
    disbelieved_millis: i64,
    pub(crate) counts: Counts,
}

impl World {
    pub(crate) fn new(seed: u64, options: Options, wants_lines: bool) -> Self {
        let mut random = Random::stream(seed, 2);
        let rules = Arc::new(Rules::default());
        let mut config = config_of(&options, random.seed());
        let oracle_limits = config.limits.clone();
        config.authorizer = Arc::clone(&rules) as Arc<dyn paloma_broker::Authorizer>;
        let clients = (0..options.clients).map(|index| {
            let version = if random.chance(options.v3_percent) {
                ProtocolVersion::V3_1_1
            } else {
                ProtocolVersion::V5
            };
            let has_small_packets = options.small_packets && random.chance(40);
            let keep_alive = options.keep_alive_seconds;
            SimClient::new(
                index,
                version,
                has_small_packets,
                options.aliases,
                keep_alive,
            )
        });
        let mut clients: Vec<SimClient> = clients.collect();
        for client in &mut clients {
            client.answers_riddles = options.riddles;
        }
        let medium = match (options.crashes, options.real_store) {
            (false, _) => Medium::Memory,
            (true, false) => Medium::Simulated,
            (true, true) => Medium::Disk,
        };
        let keeper = Keeper::new(medium, Random::stream(seed, 4)).expect("an empty disk opens");
        let mut oracle = Oracle::new(oracle_limits, Arc::clone(&rules));
        oracle.expects_crashes = options.crashes;
        let transmit_bytes = random.one_of([64, 1_024, 65_536]);
        let commits_at_once = options.commit_us == (0, 0);
        Self {
            host: Host::new(
                Broker::new(config.clone()),
                keeper,
                commits_at_once,
                transmit_bytes,
            ),
            oracle,
            config,
            trace: Trace::new(wants_lines),
            now: Now::new(
                Monotonic::from_millis(1_000),
                Wall::from_millis(WALL_START_MILLIS),
            ),
            options,
            rules,
            clients,
            wires: BTreeMap::new(),
            next_wire: 0,
            happenings: BTreeMap::new(),
            serial: 0,
            seed,
            random,
            is_calm: false,
            is_leaving: false,
            wall_offset_millis: WALL_START_MILLIS,
            disbelieved_millis: 0,
            counts: Counts::default(),
        }
    }

    pub(crate) fn at(&self) -> u64 {
        self.now.monotonic.as_nanos()
    }

    fn believed(&self) -> Now {
        let wall = self.now.wall.as_millis();
        let believed = wall.saturating_add_signed(-self.disbelieved_millis);
        Now::new(self.now.monotonic, Wall::from_millis(believed))
    }

    fn is_over(&self) -> bool {
        self.oracle.violation().is_some()
    }

    // ---- the whole -------------------------------------------------------------------------------------------------

    /// Lives through the plan, then a while without faults, then until nothing is left.
    pub(crate) fn live(&mut self, plan: &[Step]) {
        for step in plan {
            let until = self.at() + step.pause_us * MICROSECOND;
            self.run_until(until);
            if self.is_over() {
                break;
            }
            self.take_step(step);
            self.settle();
        }
        self.counts.nanos = self.at();
        if !self.is_over() {
            self.calm_down();
        }
        if !self.is_over() {
            self.counts.nanos = self.at();
            self.leave();
        }
        self.counts.messages += self.host.broker.accounting().published;
    }

    fn calm_down(&mut self) {
        self.trace.line(self.now.monotonic.as_nanos(), || {
            "---- faults stop".to_owned()
        });
        self.cut_those_who_hold();
        self.is_calm = true;
        self.host.keeper.fails_next = false;
        self.set_space(Space::Free);
        for wire in self.wires.keys().copied().collect::<Vec<_>>() {
            self.heal(wire);
        }
        for client in &mut self.clients {
            client.holds_acks = false;
            client.acknowledge_held();
        }
        self.settle();
        self.run_until(self.at() + 5 * SECOND);
        for who in 0..self.clients.len() {
            if self.clients.get(who).is_some_and(SimClient::is_away) {
                self.reconnect(who);
            }
        }
        self.run_until(self.at() + CALM);
        if self.is_over() {
            return;
        }
        self.oracle
            .check_liveness(self.believed(), &self.host.broker);
        for client in &self.clients {
            if !client.is_at_rest() && self.oracle.violation().is_none() {
                let what = format!("{} has an exchange that nobody ends", client.id);
                self.oracle.violated(self.now, Invariant::I10, what);
            }
        }
    }

    /// Everybody leaves, what is retained is deleted, and time passes.
    fn leave(&mut self) {
        self.rules.clear();
        self.host.broker.handle_rules_changed(self.now);
        self.settle();
        let mut topics = self.oracle.retained_topics();
        topics.push(crate::rules::HOSTILE_TOPIC.to_owned());
        for topic in topics {
            if let Some(client) = self.clients.first_mut() {
                client.delete_retained(self.now, &mut self.oracle, &topic);
            }
            self.settle();
            self.run_until(self.at() + SECOND);
        }
        self.run_until(self.at() + 20 * SECOND);
        self.is_leaving = true;
        for who in 0..self.clients.len() {
            if let Some(client) = self.clients.get_mut(who)
                && client.leave(false, None) == Outcome::Close
            {
                self.client_closes(who);
            }
        }
        self.settle();
        self.run_until(self.at() + LEAVE);
        if self.is_over() {
            return;
        }
        self.oracle.check_empty(self.believed(), &self.host.broker);
        let left = self.host.stored_messages();
        if left > 0 {
            let what = format!("{left} messages left in the store");
            self.oracle.violated(self.now, Invariant::I13, what);
        }
    }

    /// Lets time pass and does what is due.
    fn run_until(&mut self, end: u64) {
        // More than any world has work for.
        for _ in 0..2_000_000 {
            if self.is_over() {
                return;
            }
            let next = self.next_at().filter(|at| *at <= end);
            self.move_to(next.unwrap_or(end));
            if next.is_none() {
                return;
            }
            self.do_what_is_due();
            self.settle();
        }
        let what = "the world never comes to rest";
        self.oracle.violated(self.now, Invariant::I10, what);
    }

    fn next_at(&self) -> Option<u64> {
        let happening = self.happenings.keys().next().map(|(at, _)| *at);
        let broker = self.host.broker.poll_timeout().map(Monotonic::as_nanos);
        let clients = self.clients.iter().filter_map(SimClient::poll_timeout);
        clients.chain(happening).chain(broker).min()
    }

    fn move_to(&mut self, at: u64) {
        let span = at.saturating_sub(self.at());
        self.now = self.now.saturating_add(Duration::from_nanos(span));
        // Milliseconds are cut off each time; the wall clock follows the monotonic one all the same.
        let millis = self.now.monotonic.as_nanos() / 1_000_000 + self.wall_offset_millis;
        self.now.wall = Wall::from_millis(millis);
    }

    fn do_what_is_due(&mut self) {
        if self.host.is_due(self.now) {
            let mut around = Surroundings {
                now: self.now,
                believed: self.believed(),
                oracle: &mut self.oracle,
                trace: &mut self.trace,
            };
            self.host.timeout(&mut around);
        }
        while let Some(entry) = self.happenings.first_entry()
            && entry.key().0 <= self.now.monotonic.as_nanos()
        {
            let happening = entry.remove();
            self.happen(happening);
        }
        for who in 0..self.clients.len() {
            let at = self.at();
            let Some(client) = self.clients.get_mut(who) else {
                continue;
            };
            let is_due = client.poll_timeout().is_some_and(|due| due <= at);
            if is_due && client.timeout(self.now) == Outcome::Close {
                self.client_closes(who);
            }
        }
    }

    fn happen_at(&mut self, at: u64, happening: Happening) {
        self.serial += 1;
        self.happenings.insert((at, self.serial), happening);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrive { wire, at_host } => self.arrive(wire, at_host),
            Happening::Closed { wire, at_host } => self.closed(wire, at_host),
            Happening::Committed => {
                self.with_host(Host::commit);
                if self.host.wants_commit() {
                    self.begin_commit();
                }
            }
            Happening::Authenticated(id) => self.with_host(|host, around| {
                host.authenticate(around, id);
            }),
            Happening::StallCheck(id) => self.check_stall(id),
            Happening::Room => self.set_space(Space::Free),
            Happening::RulesTold => self.host.broker.handle_rules_changed(self.now),
            Happening::Reconnect(who) => {
                if self.clients.get(who).is_some_and(SimClient::is_away) {
                    self.reconnect(who);
                }
            }
        }
    }

    fn with_host<T>(&mut self, act: impl FnOnce(&mut Host, &mut Surroundings<'_>) -> T) -> T {
        let mut around = Surroundings {
            now: self.now,
            believed: self.believed(),
            oracle: &mut self.oracle,
            trace: &mut self.trace,
        };
        act(&mut self.host, &mut around)
    }

    fn set_space(&mut self, space: Space) {
        self.with_host(|host, around| host.set_space(around, space));
    }

    /// Ends the broker's turn, and has everybody write what there is to write.
    fn settle(&mut self) {
        self.with_host(|host, around| host.turn(around));
        let wishes: VecDeque<Wish> = std::mem::take(&mut self.host.wishes);
        for wish in wishes {
            match wish {
                Wish::Write(id) => self.write_down(id),
                Wish::Close { wire, farewell } => self.host_closes(wire, &farewell),
                Wish::Authenticate(id) => {
                    let wait = self.wait(self.options.authentication_us);
                    self.happen_at(self.at() + wait, Happening::Authenticated(id));
                }
                Wish::Commit => self.begin_commit(),
                Wish::Crash => {
                    self.crash(0);
                    break;
                }
            }
        }
        for who in 0..self.clients.len() {
            self.write_up(who);
        }
    }

    fn begin_commit(&mut self) {
        let wait = self.wait(self.options.commit_us);
        if wait > SECOND {
            self.counts.faults += 1;
        }
        self.happen_at(self.at() + wait, Happening::Committed);
    }

    /// A time to wait; short once faults have stopped.
    fn wait(&mut self, range_us: (u64, u64)) -> u64 {
        let range = if self.is_calm { (1, 200) } else { range_us };
        self.random.within(range) * MICROSECOND
    }
}

/// What the brokers of a world are made with.
fn config_of(options: &Options, seed: [u8; 32]) -> BrokerConfig {
    let mut config = BrokerConfig::new(seed);
    let limits = &mut config.limits;
    limits.queue_messages_max = options.queue_messages_max;
    limits.queue_memory_messages_max = options.queue_memory_messages_max;
    limits.queue_qos0 = options.queue_qos0;
    if options.drop_oldest {
        limits.queue_when_full = QueueWhenFull::DropOldest;
    }
    limits.inflight_max = options.inflight_max;
    limits.receive_maximum = options.receive_maximum;
    limits.outbound_buffer_bytes_max = options.outbound_buffer_bytes_max;
    limits.stall_timeout_ms = options.stall_timeout_ms;
    limits.uncommitted_bytes_max = options.uncommitted_bytes_max;
    limits.connections_per_second_max = u32::MAX;
    limits.connections_per_second_per_address_max = u32::MAX;
    // None is imposed, so that the oracle knows what was agreed.
    limits.keep_alive_seconds_max = u16::MAX;
    config
}
