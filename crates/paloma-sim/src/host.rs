//! The broker's side of the world: what an adapter does, with sockets, a store and an authenticator that are simulated.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};
use paloma_broker::store::{LoadRequest, Mark, Space};
use paloma_broker::{
    AuthOutcome, AuthRequest, Broker, BrokerConfig, CloseCause, ConnectionId, ConnectionInfo,
    DropCause, Effect, Identity, Reply, StoreBatch, StoreError,
};
use paloma_codec::{ConnAckReason, DecodeLimits, Decoder, Packet, Secret};
use paloma_session::{Now, Transmit, TransmitStatus};

use crate::keeper::Keeper;
use crate::oracle::{Oracle, Seen};
use crate::rules::HOSTILE_USER;
use crate::sayings::{ANSWER, CHALLENGE, PASSWORD};
use crate::trace::Trace;
use crate::violation::Invariant;

/// What the host sees and touches beside itself.
pub(crate) struct Surroundings<'w> {
    pub(crate) now: Now,
    /// The same as far as the broker believes its wall clock.
    pub(crate) believed: Now,
    pub(crate) oracle: &'w mut Oracle,
    pub(crate) trace: &'w mut Trace,
}

impl Surroundings<'_> {
    fn at(&self) -> u64 {
        self.now.monotonic.as_nanos()
    }
}

/// One socket as the adapter has it.
#[derive(Debug)]
pub(crate) struct Socket {
    /// The world's number for it.
    pub(crate) wire: usize,
    decoder: Decoder,
    input: Vec<u8>,
    /// Nothing is read until the store has caught up, not even that there is nothing more to come.
    pub(crate) is_unread: bool,
    /// What came cannot be understood, so nothing more is read.
    is_deaf: bool,
    /// Encoded and not taken by the network.
    pub(crate) out: Vec<u8>,
    /// The broker has more for it.
    wants_pull: bool,
    /// Since when the network has taken nothing of what waits.
    pub(crate) blocked_since: Option<u64>,
    /// Reads what the broker writes, as its client will.
    tap: Option<Decoder>,
}

/// Something the world has to do for the host.
#[derive(Debug)]
pub(crate) enum Wish {
    /// The socket has bytes to write.
    Write(ConnectionId),
    /// The socket is closed once these bytes are written.
    Close { wire: usize, farewell: Vec<u8> },
    /// The authenticator was asked.
    Authenticate(ConnectionId),
    /// The store has something to commit.
    Commit,
    /// The store has failed, and the process ends with it.
    Crash,
}

#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) broker: Broker,
    pub(crate) keeper: Keeper,
    sockets: BTreeMap<ConnectionId, Socket>,
    batches: VecDeque<StoreBatch>,
    /// What the store is committing.
    committing: Vec<StoreBatch>,
    loads: VecDeque<LoadRequest>,
    asked: BTreeMap<ConnectionId, AuthRequest>,
    /// Whether the store answers within the turn.
    pub(crate) commits_at_once: bool,
    out_bytes_max: usize,
    transmit: Transmit,
    /// The store has failed: nothing more is committed before the process ends.
    has_failed: bool,
    pub(crate) wishes: VecDeque<Wish>,
}

impl Host {
    pub(crate) fn new(
        broker: Broker,
        keeper: Keeper,
        commits_at_once: bool,
        transmit_bytes: usize,
    ) -> Self {
        let out_bytes_max = broker.limits().outbound_buffer_bytes_max as usize;
        Self {
            broker,
            keeper,
            sockets: BTreeMap::new(),
            batches: VecDeque::new(),
            committing: Vec::new(),
            loads: VecDeque::new(),
            asked: BTreeMap::new(),
            commits_at_once,
            out_bytes_max,
            transmit: Transmit::new(transmit_bytes, 64),
            has_failed: false,
            wishes: VecDeque::new(),
        }
    }

    pub(crate) fn socket(&self, id: ConnectionId) -> Option<&Socket> {
        self.sockets.get(&id)
    }

    pub(crate) fn socket_mut(&mut self, id: ConnectionId) -> Option<&mut Socket> {
        self.sockets.get_mut(&id)
    }

    // ---- inputs ----------------------------------------------------------------------------------------------------

    pub(crate) fn open(
        &mut self,
        around: &mut Surroundings<'_>,
        wire: usize,
        is_hostile: bool,
    ) -> Option<ConnectionId> {
        let id = self
            .broker
            .open(around.now, ConnectionInfo::default())
            .ok()?;
        around.oracle.opened(around.believed, id, is_hostile);
        let socket = Socket {
            wire,
            decoder: Decoder::server(self.broker.decode_limits()),
            input: Vec::new(),
            is_unread: false,
            is_deaf: false,
            out: Vec::new(),
            wants_pull: false,
            blocked_since: None,
            tap: None,
        };
        self.sockets.insert(id, socket);
        Some(id)
    }

    pub(crate) fn read(&mut self, around: &mut Surroundings<'_>, id: ConnectionId, bytes: &[u8]) {
        if let Some(socket) = self.sockets.get_mut(&id) {
            socket.input.extend_from_slice(bytes);
            self.feed(around, id);
        }
    }

    fn feed(&mut self, around: &mut Surroundings<'_>, id: ConnectionId) {
        let Some(socket) = self.sockets.get_mut(&id) else {
            return;
        };
        let input = std::mem::take(&mut socket.input);
        let mut rest = input.as_slice();
        while !socket.is_deaf && self.broker.may_read(id) {
            match socket.decoder.decode(rest) {
                Ok(None) => break,
                Ok(Some((packet, used))) => {
                    let bytes = rest.get(..used).unwrap_or_default();
                    rest = rest.get(used..).unwrap_or_default();
                    around.trace.mix(around.at(), 1, socket.wire, bytes);
                    let owned = packet.clone().into_owned();
                    if let Packet::Connect(connect) = &owned {
                        let limits = DecodeLimits {
                            packet_bytes_max: u32::MAX,
                            ..DecodeLimits::default()
                        };
                        socket.tap = Some(Decoder::client(connect.version, limits));
                    }
                    let (at, wire) = (around.at(), socket.wire);
                    around.trace.line(at, || format!("#{wire:<3} > {owned:#}"));
                    let before = counts(&self.broker);
                    self.broker.handle_packet(around.now, id, packet);
                    let after = counts(&self.broker);
                    let seen = Seen {
                        is_published: after.0 > before.0,
                        full_drops: after.1 - before.1,
                        lacks_room: after.2 > before.2,
                    };
                    around.oracle.packet_in(around.believed, id, &owned, seen);
                }
                Err(error) => {
                    let version = socket.decoder.version();
                    socket.is_deaf = true;
                    self.broker.handle_invalid(around.now, id, error, version);
                    around.oracle.invalid_in(around.believed, id);
                }
            }
        }
        socket.input = rest.to_vec();
        let uncommitted = self.broker.tables().uncommitted_bytes;
        socket.is_unread = uncommitted > self.broker.limits().uncommitted_bytes_max;
        if socket.is_unread {
            around.oracle.unread(id);
        }
    }

    /// The socket is closed, by its peer or by us.
    pub(crate) fn close(
        &mut self,
        around: &mut Surroundings<'_>,
        id: ConnectionId,
        cause: CloseCause,
    ) {
        let Some(socket) = self.sockets.remove(&id) else {
            return;
        };
        around.trace.mix(around.at(), 2, socket.wire, &[]);
        let (at, wire) = (around.at(), socket.wire);
        around.trace.line(at, || format!("#{wire:<3} | {cause}"));
        around.oracle.closed(around.believed, id);
        self.broker.handle_closed(around.now, id, cause);
        self.wishes.push_back(Wish::Close {
            wire: socket.wire,
            farewell: Vec::new(),
        });
    }

    pub(crate) fn authenticate(&mut self, around: &mut Surroundings<'_>, id: ConnectionId) {
        let Some(request) = self.asked.remove(&id) else {
            return;
        };
        let password = request.password.as_ref().map(|secret| &**secret.as_bytes());
        let user = request.username.clone().unwrap_or_default();
        let is_stranger = user == HOSTILE_USER
            && request.client_id.starts_with('c')
            && around.oracle.instance(&request.client_id).is_none();
        let is_known = user == HOSTILE_USER || user.starts_with('u');
        let is_allowed = password == Some(PASSWORD) && is_known && !is_stranger;
        let is_first = request
            .method
            .as_ref()
            .is_some_and(|(_, data)| &**data.as_bytes() != ANSWER);
        let outcome = if is_first {
            let challenge = Secret::new(Bytes::from_static(CHALLENGE));
            let reply = Reply::Authenticated(id, AuthOutcome::Continue(challenge));
            return self.broker.handle_reply(around.now, reply);
        } else if is_allowed {
            AuthOutcome::allow(Identity { user: Some(user) })
        } else {
            AuthOutcome::Deny(ConnAckReason::BadUserNameOrPassword)
        };
        self.broker
            .handle_reply(around.now, Reply::Authenticated(id, outcome));
        around.oracle.authenticated(around.believed, id, is_allowed);
    }

    /// The network has taken some of what waited, so that there is room for more.
    pub(crate) fn writable(&mut self, around: &mut Surroundings<'_>, id: ConnectionId) {
        if let Some(socket) = self.sockets.get(&id)
            && socket.wants_pull
        {
            self.pull(around, id);
        }
    }

    pub(crate) fn timeout(&mut self, around: &mut Surroundings<'_>) {
        around.oracle.timeout(around.believed);
        self.broker.handle_timeout(around.now);
    }

    pub(crate) fn is_due(&self, now: Now) -> bool {
        self.broker
            .poll_timeout()
            .is_some_and(|at| at <= now.monotonic)
    }

    // ---- the turn --------------------------------------------------------------------------------------------------

    /// Ends a turn: does what the broker asks until it asks for nothing more.
    pub(crate) fn turn(&mut self, around: &mut Surroundings<'_>) {
        for round in 0.. {
            if round == 100_000 {
                let what = "the broker never comes to rest";
                return around
                    .oracle
                    .violated(around.believed, Invariant::I10, what);
            }
            self.broker.finish_turn(around.now);
            let mut is_busy = false;
            let mut effects: VecDeque<Effect> = self.effects().collect();
            around.oracle.note_drops(&self.broker);
            // First of all: what follows belongs to the next batch.
            for effect in &effects {
                if let Effect::Persist(batch) = effect {
                    around.oracle.batch(batch.seq.0);
                }
            }
            while let Some(effect) = effects.pop_front() {
                is_busy = true;
                self.carry_out(around, effect);
                effects.extend(self.effects());
            }
            if self.commits_at_once && !self.batches.is_empty() && !self.has_failed {
                is_busy = true;
                self.begin_commit();
                self.commit(around);
            }
            if self.is_due(around.now) {
                self.timeout(around);
            } else if !is_busy {
                break;
            }
        }
        around.oracle.turn_ended(around.believed, &self.broker);
    }

    fn effects(&mut self) -> impl Iterator<Item = Effect> + '_ {
        std::iter::from_fn(|| self.broker.poll_effect())
    }

    fn carry_out(&mut self, around: &mut Surroundings<'_>, effect: Effect) {
        match effect {
            Effect::Transmit(id) => self.pull(around, id),
            Effect::Resume(id) => {
                around.oracle.read_again(around.believed, id);
                self.feed(around, id);
            }
            Effect::Close(id, cause) => {
                around.oracle.closing(around.believed, id, cause);
                if let Some(socket) = self.sockets.get_mut(&id) {
                    // Beyond the buffer's limit: it is the last.
                    socket.wants_pull = false;
                }
                self.pull_all(around, id);
                let farewell = self
                    .sockets
                    .get_mut(&id)
                    .map(|socket| std::mem::take(&mut socket.out));
                self.close(around, id, cause);
                if let Some(Wish::Close {
                    farewell: bytes, ..
                }) = self.wishes.back_mut()
                {
                    *bytes = farewell.unwrap_or_default();
                }
            }
            Effect::Authenticate(id, request) => {
                self.asked.insert(id, *request);
                self.wishes.push_back(Wish::Authenticate(id));
            }
            Effect::Persist(batch) => {
                self.batches.push_back(batch);
                if !self.commits_at_once && self.committing.is_empty() {
                    self.begin_commit();
                    self.wishes.push_back(Wish::Commit);
                }
            }
            Effect::Load(request) => {
                self.loads.push_back(request);
                self.load(around);
            }
        }
    }

    fn begin_commit(&mut self) {
        self.committing = self.batches.drain(..).collect();
    }

    /// The store has committed what waited; if more has come meanwhile, says so.
    pub(crate) fn commit(&mut self, around: &mut Surroundings<'_>) {
        if self.committing.is_empty() {
            return;
        }
        let mut batches = self.committing.clone();
        match self.keeper.commit(&mut batches) {
            Ok(seq) => {
                self.committing.clear();
                around.oracle.committed(seq.0);
                around.trace.mix(around.at(), 3, 0, &seq.0.to_le_bytes());
                self.broker.handle_reply(around.now, Reply::Committed(seq));
            }
            Err(error) => return self.fail(around, &error),
        }
        self.load(around);
    }

    /// The store is lost to this process.
    fn fail(&mut self, around: &mut Surroundings<'_>, error: &StoreError) {
        around
            .trace
            .line(around.at(), || format!("the store: {error}"));
        self.has_failed = true;
        self.wishes.push_back(Wish::Crash);
    }

    fn load(&mut self, around: &mut Surroundings<'_>) {
        while self.batches.is_empty()
            && self.committing.is_empty()
            && let Some(request) = self.loads.pop_front()
        {
            match self.keeper.read_queue(&request) {
                Ok(loaded) => self.broker.handle_reply(around.now, Reply::Loaded(loaded)),
                Err(error) => return self.fail(around, &error),
            }
        }
    }

    /// The store has room or has not.
    pub(crate) fn set_space(&mut self, around: &mut Surroundings<'_>, space: Space) {
        let before = counts(&self.broker);
        self.broker.handle_reply(around.now, Reply::Space(space));
        if space == Space::Free {
            let full_drops = counts(&self.broker).1 - before.1;
            around.oracle.room(around.believed, full_drops);
        }
    }

    /// The process is gone, and with it every socket; another one starts from what the store has. Says which batch of those
    /// that were under way survived, if any did, and what the store's mark is.
    pub(crate) fn restart(
        &mut self,
        config: &BrokerConfig,
        now: Now,
    ) -> Result<(Option<u64>, Mark), String> {
        self.sockets.clear();
        self.asked.clear();
        self.loads.clear();
        self.batches.clear();
        self.wishes.clear();
        self.has_failed = false;
        let group = std::mem::take(&mut self.committing);
        let restarted = self.keeper.restart(config, now, group)?;
        self.broker = restarted.broker;
        Ok((restarted.survived.map(|seq| seq.0), restarted.mark))
    }

    fn pull(&mut self, around: &mut Surroundings<'_>, id: ConnectionId) {
        loop {
            let Some(socket) = self.sockets.get_mut(&id) else {
                return;
            };
            if socket.out.len() >= self.out_bytes_max {
                socket.wants_pull = true;
                break;
            }
            socket.wants_pull = false;
            if self.pull_once(around, id) != TransmitStatus::Full {
                break;
            }
        }
        self.wishes.push_back(Wish::Write(id));
    }

    fn pull_all(&mut self, around: &mut Surroundings<'_>, id: ConnectionId) {
        while self.sockets.contains_key(&id) && self.pull_once(around, id) == TransmitStatus::Full {
        }
    }

    fn pull_once(&mut self, around: &mut Surroundings<'_>, id: ConnectionId) -> TransmitStatus {
        self.transmit.clear();
        let status = self
            .broker
            .poll_transmit(around.now, id, &mut self.transmit);
        let Some(socket) = self.sockets.get_mut(&id) else {
            return status;
        };
        let mut bytes = BytesMut::new();
        for piece in self.transmit.pieces() {
            bytes.extend_from_slice(piece);
        }
        if bytes.is_empty() {
            return status;
        }
        around.trace.mix(around.at(), 4, socket.wire, &bytes);
        socket.out.extend_from_slice(&bytes);
        let Some(tap) = &mut socket.tap else {
            return status;
        };
        let (at, wire) = (around.at(), socket.wire);
        loop {
            match tap.decode_owned(&mut bytes) {
                Ok(Some(packet)) => {
                    around.trace.line(at, || format!("#{wire:<3} < {packet:#}"));
                    around.oracle.packet_out(around.believed, id, &packet);
                }
                Ok(None) => break,
                Err(error) => {
                    let what = format!("the broker wrote what is no packet: {error}");
                    around
                        .oracle
                        .violated(around.believed, Invariant::Protocol, what);
                    break;
                }
            }
        }
        if !bytes.is_empty() && around.oracle.violation().is_none() {
            let what = "the broker wrote a part of a packet";
            around
                .oracle
                .violated(around.believed, Invariant::Protocol, what);
        }
        status
    }

    // ---- what is left ----------------------------------------------------------------------------------------------

    /// Whether more has come while the last commit was made.
    pub(crate) fn wants_commit(&mut self) -> bool {
        let wants = !self.batches.is_empty() && self.committing.is_empty();
        if wants {
            self.begin_commit();
        }
        wants
    }

    pub(crate) fn stored_messages(&self) -> usize {
        self.keeper.message_count()
    }
}

fn counts(broker: &Broker) -> (u64, u64, u64) {
    let accounting = broker.accounting();
    (
        accounting.published,
        accounting.dropped(DropCause::QueueFull),
        accounting.store_refused,
    )
}
