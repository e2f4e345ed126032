//! The broker itself: its tables, and the turn that everything happens in.

mod audit;
mod commits;
mod connect;
mod deliver;
mod end;
mod estate;
mod events;
mod explain;
mod fan_out;
mod filters;
mod ids;
mod one;
mod operator;
mod publish;
mod recipients;
mod recover;
mod renewal;
mod replay;
mod retain;
mod rules;
mod space;
mod subscribe;
mod sys;
mod tables;
mod traced;
mod transmit;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use paloma_codec::{DecodeError, DecodeLimits, MessagePool, PacketRef, ProtocolVersion, Qos};
use paloma_session::{LogSeq, Monotonic, Now, QueueLimits, Transmit, TransmitStatus, WallClock};
use paloma_topic::{Fault, HashSeed, TopicLimits};

use crate::accounting::Accounting;
use crate::auth::{AllowAll, Authorizer};
use crate::client_id::ClientIds;
use crate::connection::{ConnectionEntry, ConnectionId, ConnectionInfo, Pause, Phase};
use crate::directory::Directory;
use crate::effect::{CloseCause, Effect, Refusal, Reply};
use crate::limits::Limits;
use crate::memory::Memory;
use crate::notice::{Notice, Notices};
use crate::rate::ConnectionRate;
use crate::retained::RetainedMessages;
use crate::session::{SessionEntry, SessionKey};
use crate::shared::Groups;
use crate::slab::Slab;
use crate::statistics::{Histogram, Traffic};
use crate::store::{Mark, MessageId, SessionId};
use crate::subscriptions::Subscriptions;
use crate::timers::{Due, Timer, Timers};

pub use explain::SessionView;
pub(crate) use filters::FilterJob;
pub use operator::Client;
pub use recover::Recovery;
pub use tables::Tables;

use commits::Commits;
use end::Departure;
use estate::Estates;
use fan_out::FanOuts;
use filters::FilterJobs;
use recipients::{Recipient, Recipients};
use replay::Replays;
use sys::Sys;

/// Steps that paced jobs may take in one turn: retained messages looked at, sessions reached by a large fan-out.
const JOB_STEPS_PER_TURN: usize = 2_048;

/// Bytes of messages that are over and kept for their allocations: more than are under way between two writes.
const SPARE_MESSAGES_BYTES_MAX: usize = 256 * 1024;

/// Timers that one call handles; what else is due waits for the next one.
const TIMERS_PER_CALL: usize = 256;

/// Choices where the standards leave room.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Behaviour {
    /// Deliver at the subscription's QoS even if the message was published with a lower one.
    pub upgrade_outgoing_qos: bool,
    /// Send a retained message to new subscribers only while its author may still write the topic. On by default.
    pub check_retain_source: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            upgrade_outgoing_qos: false,
            check_retain_source: true,
        }
    }
}

impl Behaviour {
    /// The QoS at which a message of `qos` goes to one of its recipients. [MQTT-3.8.4-8]
    fn delivery_qos(&self, qos: Qos, recipient: &Recipient) -> Qos {
        if self.upgrade_outgoing_qos || Fault::QosRaised.is_on() {
            recipient.qos
        } else {
            qos.min(recipient.qos)
        }
    }
}

/// Everything a [`Broker`] is made with.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BrokerConfig {
    /// Bounds on everything.
    pub limits: Limits,
    /// Choices.
    pub behaviour: Behaviour,
    /// What clients may do.
    pub authorizer: Arc<dyn Authorizer>,
    /// Put before client ids that the broker assigns.
    pub client_id_prefix: String,
    /// Whether a client may leave its client id to the broker.
    pub allow_empty_client_id: bool,
    /// How often `$SYS` topics are published, in seconds; 0 publishes none, and is the default of a library.
    pub sys_interval_seconds: u32,
    /// Seeds the hash tables and the assigned client ids. A broker that strangers reach takes it from a
    /// cryptographic source, since client ids must not be guessable; a simulation takes it from its own seed.
    pub seed: [u8; 32],
}

impl BrokerConfig {
    /// Defaults, everybody allowed, with the given seed.
    #[must_use]
    pub fn new(seed: [u8; 32]) -> Self {
        Self {
            limits: Limits::default(),
            behaviour: Behaviour::default(),
            authorizer: Arc::new(AllowAll),
            client_id_prefix: String::new(),
            allow_empty_client_id: true,
            sys_interval_seconds: 0,
            seed,
        }
    }
}

/// An MQTT broker as one value. The crate's page says how to drive it.
#[derive(Debug)]
pub struct Broker {
    limits: Limits,
    /// Those of a session's queue, which all sessions of their time share.
    queue_limits: Arc<QueueLimits>,
    behaviour: Behaviour,
    authorizer: Arc<dyn Authorizer>,
    allow_empty_client_id: bool,
    client_ids: ClientIds,
    connections: Slab<ConnectionEntry>,
    sessions: Slab<SessionEntry>,
    directory: Directory,
    subscriptions: Subscriptions,
    groups: Groups,
    retained: RetainedMessages,
    timers: Timers,
    sys: Option<Sys>,
    rate: ConnectionRate,
    accounting: Accounting,
    traffic: Traffic,
    notices: Notices,
    latency: Histogram,
    /// When the message came that was last chosen to be timed.
    sampled_at: Monotonic,
    /// Sessions whose client is connected.
    connected: usize,
    commits: Commits,
    memory: Memory,
    fan_outs: FanOuts,
    filter_jobs: FilterJobs,
    estates: Estates,
    replays: Replays,
    /// Sessions that have ended and are to be taken off their filters.
    departures: VecDeque<Departure>,
    /// Sessions whose subscriptions are to be granted anew.
    regranting: VecDeque<SessionKey>,
    effects: VecDeque<Effect>,
    /// Connections that are not read until the store has caught up.
    paused: Vec<ConnectionId>,
    /// Connections with a PUBLISH that waits for room in the store; some may have closed since.
    holding: Vec<ConnectionId>,
    /// Sessions whose queue in memory runs low, to be loaded behind the turn's batch.
    to_load: Vec<SessionKey>,
    recipients: Recipients,
    scratch: Vec<u8>,
    /// Allocations of messages that are over.
    messages: MessagePool,
    last_message: u64,
    last_session: u64,
    wall: WallClock,
    is_stopping: bool,
}

impl Broker {
    /// A broker without clients.
    #[must_use]
    pub fn new(config: BrokerConfig) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = config.seed;
        let seed = HashSeed::new(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
        let mut timers = Timers::default();
        let sys = (config.sys_interval_seconds > 0).then(|| {
            // Due at once: the first call of `handle_timeout` brings the time.
            timers.arm(Monotonic::ZERO, Timer::Sys);
            Sys::new(Duration::from_secs(config.sys_interval_seconds.into()))
        });
        Self {
            client_ids: ClientIds::new(config.seed, config.client_id_prefix),
            queue_limits: Arc::new(deliver::queue_limits(&config.limits)),
            limits: config.limits,
            behaviour: config.behaviour,
            authorizer: config.authorizer,
            allow_empty_client_id: config.allow_empty_client_id,
            connections: Slab::default(),
            sessions: Slab::default(),
            directory: Directory::new(seed),
            subscriptions: Subscriptions::new(seed),
            groups: Groups::new(seed),
            retained: RetainedMessages::new(seed),
            timers,
            sys,
            rate: ConnectionRate::default(),
            accounting: Accounting::default(),
            traffic: Traffic::default(),
            notices: Notices::default(),
            latency: Histogram::default(),
            sampled_at: Monotonic::ZERO,
            connected: 0,
            commits: Commits::default(),
            memory: Memory::default(),
            fan_outs: FanOuts::default(),
            filter_jobs: FilterJobs::default(),
            estates: Estates::default(),
            replays: Replays::default(),
            departures: VecDeque::new(),
            regranting: VecDeque::new(),
            effects: VecDeque::new(),
            paused: Vec::new(),
            holding: Vec::new(),
            to_load: Vec::new(),
            recipients: Recipients::default(),
            scratch: Vec::new(),
            messages: MessagePool::new(SPARE_MESSAGES_BYTES_MAX),
            last_message: 0,
            last_session: 0,
            wall: WallClock::default(),
            is_stopping: false,
        }
    }

    /// The bounds that the connection's decoder has to keep.
    #[must_use]
    pub fn decode_limits(&self) -> DecodeLimits {
        let limits = &self.limits;
        DecodeLimits {
            packet_bytes_max: limits.packet_bytes_max,
            connect_bytes_max: limits.connect_bytes_max,
            topic: TopicLimits {
                bytes_max: limits.topic_bytes_max,
                levels_max: limits.topic_levels_max.into(),
            },
            user_properties_max: limits.user_properties_max.into(),
            user_properties_bytes_max: limits.user_properties_bytes_max,
            filters_per_subscribe_max: limits.filters_per_subscribe_max.into(),
            client_id_bytes_max: limits.client_id_bytes_max,
            will_payload_bytes_max: u16::try_from(limits.will_bytes_max).unwrap_or(u16::MAX),
            ..DecodeLimits::default()
        }
    }

    /// The bounds in force.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    // ---- inputs -------------------------------------------------------------------------------------------------

    /// Takes in a new connection, of which nothing has been read yet.
    ///
    /// # Errors
    /// When a limit on connections is reached; the driver closes the socket at once.
    pub fn open(&mut self, now: Now, info: ConnectionInfo) -> Result<ConnectionId, Refusal> {
        self.admit_peer(now, info.address)?;
        Ok(self.insert_connection(now, info))
    }

    /// Asks whether a connection from `address` may come in, and counts it against the rates: for a transport that has
    /// work to do before [`open_admitted`](Self::open_admitted).
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn admit_peer(&mut self, now: Now, address: Option<IpAddr>) -> Result<(), Refusal> {
        let outcome = self
            .check_room()
            .and_then(|()| self.rate.admit(now.monotonic, address, &self.limits));
        outcome.inspect_err(|refusal| self.traffic.count_refused(*refusal))
    }

    /// Takes in a connection that [`admit_peer`](Self::admit_peer) has let in.
    ///
    /// # Errors
    /// When the connections have become too many since, or the broker is stopping.
    pub fn open_admitted(
        &mut self,
        now: Now,
        info: ConnectionInfo,
    ) -> Result<ConnectionId, Refusal> {
        self.check_room()
            .inspect_err(|refusal| self.traffic.count_refused(*refusal))?;
        Ok(self.insert_connection(now, info))
    }

    fn check_room(&self) -> Result<(), Refusal> {
        if self.is_stopping {
            return Err(Refusal::ShuttingDown);
        }
        if self.connections.len() >= self.limits.connections_max as usize {
            return Err(Refusal::TooManyConnections);
        }
        Ok(())
    }

    /// Takes note of how many bytes the packets passed on since had. For the counters only.
    pub fn count_received_bytes(&mut self, bytes: usize) {
        self.traffic.bytes_received += bytes as u64;
    }

    /// Takes in one packet. True if the next one may be passed on for certain, as it may after most. Otherwise the driver
    /// asks [`may_read`](Self::may_read), passes nothing on after a no, and keeps the rest until [`Effect::Resume`].
    pub fn handle_packet(&mut self, now: Now, id: ConnectionId, mut packet: PacketRef<'_>) -> bool {
        self.handle_packet_in_place(now, id, &mut packet)
    }

    /// The same with a packet that is not moved if it is one of the most frequent. Of any other a PINGREQ is left behind.
    pub fn handle_packet_in_place(
        &mut self,
        now: Now,
        id: ConnectionId,
        packet: &mut PacketRef<'_>,
    ) -> bool {
        let now = self.wall.read(now);
        let Some(entry) = self.connections.get_mut(id.key()) else {
            return false;
        };
        self.traffic.packets_received += 1;
        if let Phase::Open(open) = &mut entry.phase {
            if let PacketRef::Publish(publish) = packet
                && let Some((topic, receipt)) = open.protocol.handle_plain_publish(now, publish)
            {
                let origin = open.session;
                let has_room = receipt.is_none() || open.protocol.has_room_for_two_answers();
                self.handle_publish(now, id, origin, (topic, publish), receipt);
                return has_room && self.takes_more();
            }
            if let Some(goes_on) = self.take_exchange(now, id, packet) {
                return goes_on;
            }
        }
        self.handle_rare_packet(now, id, std::mem::replace(packet, PacketRef::PingReq));
        false
    }

    fn handle_rare_packet(&mut self, now: Now, id: ConnectionId, packet: PacketRef<'_>) {
        let Some(entry) = self.connections.get(id.key()) else {
            return;
        };
        match &entry.phase {
            Phase::Open(_) => self.handle_open_packet(now, id, packet),
            Phase::Handshake(_) | Phase::Authenticating(_) => self.handle_early_packet(id, packet),
            Phase::Closing(_) => {}
        }
    }

    /// Takes in that the connection's bytes could not be decoded; `version` is what its decoder says after the error.
    pub fn handle_invalid(
        &mut self,
        now: Now,
        id: ConnectionId,
        error: DecodeError,
        version: Option<ProtocolVersion>,
    ) {
        let now = self.wall.read(now);
        self.end_invalid(now, id, error, version);
    }

    /// Takes in that the connection's socket is closed. The driver calls it exactly once for every connection that
    /// [`open`](Self::open) admitted, also after [`Effect::Close`].
    pub fn handle_closed(&mut self, now: Now, id: ConnectionId, cause: CloseCause) {
        let now = self.wall.read(now);
        self.arm_connection(id, None);
        if let Some(entry) = self.connections.remove(id.key()) {
            self.memory.release(entry.charged);
            self.traffic.count_closed(cause);
            let (phase, whence) = (entry.phase, entry.origin.whence());
            self.end_connection(now, id, (phase, whence), cause);
        }
    }

    /// Takes in the answer to an effect.
    pub fn handle_reply(&mut self, now: Now, reply: Reply) {
        let now = self.wall.read(now);
        match reply {
            Reply::Authenticated(id, outcome) => self.handle_authenticated(now, id, outcome),
            Reply::Committed(seq) => self.handle_committed(now, seq),
            Reply::Loaded(loaded) => self.handle_loaded(now, loaded),
            Reply::Space(space) => self.handle_space(now, space),
        }
    }

    /// Does what is due, a bounded part of it at a time: [`poll_timeout`](Self::poll_timeout) is in the past while more is.
    /// Call when it has passed; harmless at any time.
    pub fn handle_timeout(&mut self, now: Now) {
        let now = self.wall.read(now);
        for _ in 0..TIMERS_PER_CALL {
            let Some(due) = self.timers.pop_due(now.monotonic) else {
                return;
            };
            match due {
                Due::Timer(Timer::Connection(id)) => self.handle_connection_timer(now, id),
                Due::Timer(Timer::WillDelay(key)) => self.handle_will_timer(now, key),
                Due::Timer(Timer::SessionExpiry(key)) => self.handle_expiry_timer(now, key),
                Due::Timer(Timer::Sys) => self.handle_sys_timer(now),
                Due::Retained(topic) => self.handle_retained_timer(now, &topic),
            }
        }
    }

    /// Ends a turn: runs paced jobs within their budget and hands over what is to be stored.
    pub fn finish_turn(&mut self, now: Now) {
        let now = self.wall.read(now);
        let mut steps = JOB_STEPS_PER_TURN;
        self.run_filter_jobs(now);
        self.run_fan_outs(&mut steps);
        self.run_replays(now, &mut steps);
        self.run_regrants(&mut steps);
        self.run_departures(&mut steps);
        self.run_audit(now);
        let mark = || Mark {
            message: MessageId(self.last_message),
            session: SessionId(self.last_session),
            wall: now.wall,
        };
        if let Some(batch) = self.commits.seal(mark) {
            self.effects.push_back(Effect::Persist(batch));
        }
        // Behind the batch, since what is to be loaded may be in it.
        for key in std::mem::take(&mut self.to_load) {
            self.load_more(key);
        }
        self.load_estate();
    }

    /// Stops the broker: every client is sent DISCONNECT 0x8B and every connection closed; wills are sent by the rules
    /// as the connections end. No connection is opened from here on.
    pub fn shut_down(&mut self, now: Now) {
        let now = self.wall.read(now);
        self.is_stopping = true;
        let open: Vec<_> = self
            .connections
            .iter()
            .map(|(key, _)| ConnectionId::from_key(key))
            .collect();
        for id in open {
            self.end_for_shutdown(now, id);
        }
    }

    // ---- outputs ------------------------------------------------------------------------------------------------

    /// The next thing for the driver to do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Has [`take_notices`](Self::take_notices) filled from here on. Off at first, for drivers that never take them.
    pub fn want_notices(&mut self) {
        self.notices.is_wanted = true;
    }

    /// What happened to clients since the last call, in its order, and how many notices there was no room for. Take them
    /// at the end of each turn.
    pub fn take_notices(&mut self) -> (VecDeque<Notice>, u64) {
        self.notices.take()
    }

    /// Whether there is nothing to take.
    #[must_use]
    pub fn has_no_notices(&self) -> bool {
        self.notices.is_empty()
    }

    /// When [`handle_timeout`](Self::handle_timeout) and [`finish_turn`](Self::finish_turn) have to be called again
    /// if nothing happens before; now, while a paced job has more to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Monotonic> {
        let has_work = !self.replays.is_empty()
            || !self.fan_outs.is_empty()
            || !self.filter_jobs.is_empty()
            || !self.departures.is_empty()
            || !self.regranting.is_empty()
            // Writing dropped what had expired, or found a queue to be short.
            || self.commits.is_open()
            || !self.to_load.is_empty()
            || self.estates.is_waiting();
        if has_work {
            Some(Monotonic::default())
        } else {
            self.timers.next()
        }
    }

    /// Writes what the connection has to send into `out`, as much as `out` takes; the status says whether more waits.
    pub fn poll_transmit(
        &mut self,
        now: Now,
        id: ConnectionId,
        out: &mut Transmit,
    ) -> TransmitStatus {
        let now = self.wall.read(now);
        self.transmit(now, id, out)
    }

    /// Whether the next packet of this connection may be passed on. A no is followed by [`Effect::Resume`].
    pub fn may_read(&mut self, id: ConnectionId) -> bool {
        let is_full = self.commits.bytes_waiting() > self.limits.uncommitted_bytes_max;
        let Some(entry) = self.connections.get_mut(id.key()) else {
            return false;
        };
        match &entry.phase {
            Phase::Handshake(_) => true,
            Phase::Authenticating(_) => {
                entry.pause = Some(Pause::Authenticator);
                false
            }
            Phase::Closing(_) => false,
            Phase::Open(open) if open.held.is_some() => {
                entry.pause = Some(Pause::Space);
                false
            }
            Phase::Open(open) if open.filters.is_some() => {
                entry.pause = Some(Pause::Filters);
                false
            }
            Phase::Open(_) if is_full => {
                if entry.pause != Some(Pause::Commit) {
                    entry.pause = Some(Pause::Commit);
                    self.paused.push(id);
                }
                false
            }
            Phase::Open(open) if !open.protocol.may_read() => {
                entry.pause = Some(Pause::Answers);
                false
            }
            Phase::Open(_) => true,
        }
    }

    // ---- what is going on ---------------------------------------------------------------------------------------

    /// Where every message went.
    #[must_use]
    pub fn accounting(&self) -> &Accounting {
        &self.accounting
    }

    /// Whether [`shut_down`](Self::shut_down) was called.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.is_stopping
    }

    /// The latest batch that the store has confirmed.
    #[must_use]
    pub fn committed(&self) -> LogSeq {
        self.commits.committed()
    }

    /// Names the connection in an [`Effect::Transmit`], once a turn.
    fn mark_transmit(&mut self, id: ConnectionId) {
        if let Some(entry) = self.connections.get_mut(id.key()) {
            entry.mark_transmit(id, &mut self.effects);
        }
    }
}
