//! A broker with its store and any number of clients, driven by hand on a virtual clock.
#![allow(dead_code, reason = "each test file uses its own part")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "this module is a test: what should not happen may panic"
)]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use paloma_broker::store::{LoadRequest, Loaded, MessageId};
use paloma_broker::{
    Action, AllowAll, AuthOutcome, AuthRequest, Authenticator, Authorizer, Broker, BrokerConfig,
    CloseCause, ConnectionId, ConnectionInfo, DropCause, Effect, Grant, Identity, MemoryStore,
    Recovery, Reply, Store,
};
use paloma_codec::{
    Ack, ConnAck, Connect, DecodeLimits, Decoder, Delivery, Disconnect, DisconnectReason, Packet,
    PacketId, ProtocolVersion, PubAckReason, PubCompReason, PubRecReason, PubRelReason, Publish,
    Qos, SubAckReason, Subscribe, SubscribeFilter, SubscribeOptions, UnsubAckReason, Unsubscribe,
    Will,
};
use paloma_session::{Monotonic, Now, Transmit, TransmitStatus, Wall};
use paloma_topic::{Target, TopicFilterRef, TopicName, TopicNameRef};

/// A point in time well after both clocks' origins.
const START_MILLIS: u64 = 1_700_000_000_000;

pub(crate) struct World {
    pub(crate) broker: Broker,
    pub(crate) config: BrokerConfig,
    pub(crate) store: MemoryStore,
    pub(crate) now: Now,
    /// Whether batches are committed as they come; otherwise they wait in `uncommitted`.
    pub(crate) commits: bool,
    pub(crate) uncommitted: VecDeque<paloma_broker::StoreBatch>,
    /// Whether all sessions are added up after each step; for a crowd that takes too long.
    pub(crate) adds_up: bool,
    /// Turns that one call runs at most, where a test looks at work that takes several.
    pub(crate) turns_max: usize,
    /// Loads that wait for the batches before them.
    loads: VecDeque<LoadRequest>,
    /// How many there have been.
    pub(crate) loads_made: u32,
    /// Whether what was loaded reaches the broker at once; otherwise it waits in `loaded`.
    pub(crate) loads_at_once: bool,
    loaded: VecDeque<Loaded>,
    /// Whether the authenticator answers at once, as `AllowAll` or with the user's name; otherwise requests wait in `asked`.
    pub(crate) authenticates: bool,
    pub(crate) asked: VecDeque<(ConnectionId, AuthRequest)>,
    /// Rules of their own that clients get at login, by client id.
    pub(crate) own_rules: BTreeMap<String, Arc<dyn Authorizer>>,
    /// A hash of all bytes that the broker sent, with their receivers and in their order.
    pub(crate) trace: u64,
    clients: Vec<Client>,
}

struct Client {
    connection: ConnectionId,
    version: ProtocolVersion,
    /// What the broker's side decodes with.
    server: Decoder,
    decoder: Decoder,
    bytes: BytesMut,
    inbox: VecDeque<Packet>,
    closed: Option<CloseCause>,
    /// Reads what the broker sends only while this is set.
    reads: bool,
    held: Vec<Packet>,
}

/// One client of a [`World`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handle(usize);

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut BrokerConfig)) -> Self {
        let mut config = BrokerConfig::new([7; 32]);
        change(&mut config);
        Self {
            broker: Broker::new(config.clone()),
            config,
            store: MemoryStore::recoverable(),
            now: Now::new(
                Monotonic::from_millis(1_000),
                Wall::from_millis(START_MILLIS),
            ),
            commits: true,
            uncommitted: VecDeque::new(),
            adds_up: true,
            turns_max: usize::MAX,
            loads: VecDeque::new(),
            loads_made: 0,
            loads_at_once: true,
            loaded: VecDeque::new(),
            authenticates: true,
            asked: VecDeque::new(),
            own_rules: BTreeMap::new(),
            trace: 0xCBF2_9CE4_8422_2325,
            clients: Vec::new(),
        }
    }

    // ---- clients ----

    /// Opens a connection on which nothing was sent yet.
    pub(crate) fn open(&mut self, version: ProtocolVersion) -> Handle {
        self.try_open(version).unwrap()
    }

    pub(crate) fn try_open(&mut self, version: ProtocolVersion) -> Option<Handle> {
        self.open_from(version, ConnectionInfo::default())
    }

    /// Opens a connection from somewhere.
    pub(crate) fn open_from(
        &mut self,
        version: ProtocolVersion,
        info: ConnectionInfo,
    ) -> Option<Handle> {
        let connection = self.broker.open(self.now, info).ok()?;
        let limits = DecodeLimits {
            packet_bytes_max: u32::MAX,
            ..DecodeLimits::default()
        };
        self.clients.push(Client {
            connection,
            version,
            server: Decoder::server(self.broker.decode_limits()),
            decoder: Decoder::client(version, limits),
            bytes: BytesMut::new(),
            inbox: VecDeque::new(),
            closed: None,
            reads: true,
            held: Vec::new(),
        });
        Some(Handle(self.clients.len() - 1))
    }

    /// Connects and gives the CONNACK.
    pub(crate) fn connect(&mut self, connect: Connect) -> (Handle, ConnAck) {
        let client = self.open(connect.version);
        self.send(client, Packet::Connect(Box::new(connect)));
        match self.next(client) {
            Some(Packet::ConnAck(ack)) => (client, *ack),
            other => panic!("expected CONNACK, got {other:?}"),
        }
    }

    /// A 5.0 client with a clean start.
    pub(crate) fn client(&mut self, client_id: &str) -> Handle {
        self.connect(v5(client_id)).0
    }

    /// A 5.0 client whose session lasts an hour.
    pub(crate) fn durable(&mut self, client_id: &str) -> (Handle, ConnAck) {
        self.connect(Connect {
            clean_start: false,
            session_expiry_seconds: 3_600,
            ..v5(client_id)
        })
    }

    pub(crate) fn send(&mut self, client: Handle, packet: Packet) {
        self.send_all(client, vec![packet]);
    }

    /// Sends packets in one turn.
    pub(crate) fn send_all(&mut self, client: Handle, packets: Vec<Packet>) {
        self.clients[client.0].held.extend(packets);
        self.feed(client);
        self.settle();
    }

    fn feed(&mut self, client: Handle) {
        let Client {
            connection,
            version,
            ..
        } = self.clients[client.0];
        let held = std::mem::take(&mut self.clients[client.0].held);
        let mut rest = held.into_iter();
        while self.broker.may_read(connection)
            && let Some(packet) = rest.next()
        {
            let mut bytes = Vec::new();
            packet.encode(version, &mut bytes).unwrap();
            match self.clients[client.0].server.decode(&bytes) {
                Ok(Some((packet, used))) => {
                    assert_eq!(used, bytes.len());
                    self.broker.handle_packet(self.now, connection, packet);
                }
                Ok(None) => panic!("a whole packet was not decoded"),
                Err(error) => {
                    let version = self.clients[client.0].server.version();
                    self.broker
                        .handle_invalid(self.now, connection, error, version);
                }
            }
        }
        self.clients[client.0].held = rest.collect();
    }

    /// The socket breaks.
    pub(crate) fn cut(&mut self, client: Handle) {
        if self.closed(client).is_some() {
            return;
        }
        let connection = self.clients[client.0].connection;
        self.broker
            .handle_closed(self.now, connection, CloseCause::SocketClosed);
        self.clients[client.0].closed = Some(CloseCause::SocketClosed);
        self.settle();
    }

    /// Stops or begins to read what the broker sends.
    pub(crate) fn set_reading(&mut self, client: Handle, reads: bool) {
        self.clients[client.0].reads = reads;
        if reads {
            self.pull(client);
            self.settle();
        }
    }

    pub(crate) fn next(&mut self, client: Handle) -> Option<Packet> {
        self.clients[client.0].inbox.pop_front()
    }

    pub(crate) fn drain(&mut self, client: Handle) -> Vec<Packet> {
        self.clients[client.0].inbox.drain(..).collect()
    }

    /// The PUBLISHes that have come, everything else left out.
    pub(crate) fn publishes(&mut self, client: Handle) -> Vec<Publish> {
        let packets = self.drain(client).into_iter();
        packets
            .filter_map(|packet| match packet {
                Packet::Publish(publish) => Some(*publish),
                _ => None,
            })
            .collect()
    }

    /// Why the broker says that it closes the connection.
    pub(crate) fn farewell(&mut self, client: Handle) -> Option<DisconnectReason> {
        let mut packets = self.drain(client).into_iter();
        packets.find_map(|packet| match packet {
            Packet::Disconnect(disconnect) => Some(disconnect.reason),
            _ => None,
        })
    }

    /// The payloads that have come, as text.
    pub(crate) fn payloads(&mut self, client: Handle) -> Vec<String> {
        texts(&self.publishes(client))
    }

    pub(crate) fn closed(&self, client: Handle) -> Option<CloseCause> {
        self.clients[client.0].closed
    }

    pub(crate) fn connection(&self, client: Handle) -> ConnectionId {
        self.clients[client.0].connection
    }

    pub(crate) fn dropped(&self, cause: DropCause) -> u64 {
        self.broker.accounting().dropped(cause)
    }

    /// Answers the oldest question to the authenticator.
    pub(crate) fn answer(&mut self, outcome: AuthOutcome) {
        let (connection, _) = self.asked.pop_front().unwrap();
        self.broker
            .handle_reply(self.now, Reply::Authenticated(connection, outcome));
        self.settle();
    }

    // ---- what clients do often ----

    pub(crate) fn subscribe(&mut self, client: Handle, filter: &str, qos: Qos) {
        let reasons = self.subscribe_with(client, filter, SubscribeOptions::new(qos), |_| {});
        assert_eq!(reasons, [SubAckReason::granted(qos)]);
    }

    pub(crate) fn subscribe_with(
        &mut self,
        client: Handle,
        filter: &str,
        options: SubscribeOptions,
        change: impl FnOnce(&mut Subscribe),
    ) -> Vec<SubAckReason> {
        let target = target(filter);
        let mut subscribe = Subscribe::new(id(9_999), vec![SubscribeFilter { target, options }]);
        change(&mut subscribe);
        self.send(client, Packet::Subscribe(subscribe));
        // Retained messages may come in the same turn, but not before the answer in a fresh world.
        let inbox = &mut self.clients[client.0].inbox;
        let place = inbox
            .iter()
            .position(|packet| matches!(packet, Packet::SubAck(_)))
            .unwrap();
        match inbox.remove(place) {
            Some(Packet::SubAck(ack)) => ack.reasons,
            other => panic!("expected SUBACK, got {other:?}"),
        }
    }

    pub(crate) fn publish(&mut self, client: Handle, topic: &str, payload: &str) {
        self.send(client, publish_packet(message(topic, payload)));
    }

    pub(crate) fn publish_qos(
        &mut self,
        client: Handle,
        topic: &str,
        payload: &str,
        delivery: Delivery,
    ) {
        let publish = Publish {
            delivery,
            ..message(topic, payload)
        };
        self.send(client, publish_packet(publish));
    }

    pub(crate) fn retain(&mut self, client: Handle, topic: &str, payload: &str) {
        let publish = Publish {
            retain: true,
            ..message(topic, payload)
        };
        self.send(client, publish_packet(publish));
    }

    pub(crate) fn unsubscribe(&mut self, client: Handle, filter: &str) -> UnsubAckReason {
        let target = target(filter);
        let unsubscribe = Unsubscribe::new(id(9_998), vec![target]);
        self.send(client, Packet::Unsubscribe(unsubscribe));
        let inbox = &mut self.clients[client.0].inbox;
        let place = inbox
            .iter()
            .position(|packet| matches!(packet, Packet::UnsubAck(_)))
            .unwrap();
        match inbox.remove(place) {
            Some(Packet::UnsubAck(ack)) => ack.reasons[0],
            other => panic!("expected UNSUBACK, got {other:?}"),
        }
    }

    pub(crate) fn disconnect(&mut self, client: Handle, reason: DisconnectReason) {
        self.send(
            client,
            Packet::Disconnect(Box::new(Disconnect::new(reason))),
        );
    }

    /// Leaves, and ends the session with it.
    pub(crate) fn disconnect_for_good(&mut self, client: Handle) {
        let disconnect = Disconnect {
            session_expiry_seconds: Some(0),
            ..Disconnect::new(DisconnectReason::NormalDisconnection)
        };
        self.send(client, Packet::Disconnect(Box::new(disconnect)));
    }

    /// Acknowledges a PUBLISH of QoS 1, or begins to at QoS 2.
    pub(crate) fn acknowledge(&mut self, client: Handle, publish: &Publish) {
        if let Some(packet) = acknowledgement(publish) {
            self.send(client, packet);
        }
    }

    /// Takes everything that comes, acknowledging it to the end, and gives the PUBLISHes.
    pub(crate) fn take_all(&mut self, client: Handle) -> Vec<Publish> {
        let mut taken = Vec::new();
        while let Some(packet) = self.next(client) {
            match packet {
                Packet::Publish(publish) => {
                    self.acknowledge(client, &publish);
                    taken.push(*publish);
                }
                Packet::PubRel(ack) => self.send(client, pub_comp(ack.id)),
                _ => {}
            }
        }
        taken
    }

    // ---- the driver ----

    /// Moves both clocks on and does what is due.
    pub(crate) fn advance(&mut self, seconds: u64) {
        self.advance_millis(seconds * 1_000);
    }

    pub(crate) fn advance_millis(&mut self, millis: u64) {
        let target = self.now.saturating_add(Duration::from_millis(millis));
        while let Some(at) = self.broker.poll_timeout()
            && at <= target.monotonic
        {
            if at > self.now.monotonic {
                self.now = self.now.saturating_add(at.since(self.now.monotonic));
            }
            self.broker.handle_timeout(self.now);
            self.settle();
        }
        self.now = target;
        self.broker.handle_timeout(self.now);
        self.settle();
    }

    /// Runs turns until the broker has nothing more to do now.
    pub(crate) fn settle(&mut self) {
        // More turns than any test has work for: a broker that never rests.
        for turn in 0.. {
            assert!(turn < 1_000_000, "the broker never comes to rest");
            if turn >= self.turns_max {
                break;
            }
            self.broker.finish_turn(self.now);
            let mut did_something = false;
            while let Some(effect) = self.broker.poll_effect() {
                did_something = true;
                self.carry_out(effect);
            }
            let is_due = self
                .broker
                .poll_timeout()
                .is_some_and(|at| at <= self.now.monotonic);
            if is_due {
                self.broker.handle_timeout(self.now);
            } else if !did_something {
                break;
            }
        }
        self.broker.set_outside_bytes(self.store.memory_bytes());
        if self.adds_up {
            self.check_invariants();
        }
    }

    pub(crate) fn check_invariants(&self) {
        let accounting = self.broker.accounting();
        let accounted = accounting.delivered + accounting.dropped_total() + self.broker.queued();
        assert_eq!(
            accounting.copies, accounted,
            "copies = delivered + dropped + queued: {accounting:?}"
        );
        assert_eq!(accounting.queued(), self.broker.queued());
        assert!(self.broker.tables().connected <= self.broker.tables().connections);
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Transmit(connection) => {
                if let Some(client) = self.client_of(connection) {
                    self.pull(client);
                }
            }
            Effect::Resume(connection) => {
                if let Some(client) = self.client_of(connection) {
                    self.feed(client);
                }
            }
            Effect::Close(connection, cause) => {
                if let Some(client) = self.client_of(connection) {
                    self.pull(client);
                    self.clients[client.0].closed = Some(cause);
                }
                self.broker.handle_closed(self.now, connection, cause);
            }
            Effect::Authenticate(connection, request) => {
                self.asked.push_back((connection, *request));
                if self.authenticates {
                    let (connection, request) = self.asked.pop_front().unwrap();
                    let mut outcome = match &request.username {
                        None => AllowAll.authenticate(&request),
                        user => {
                            let identity = Identity { user: user.clone() };
                            AuthOutcome::allow(identity)
                        }
                    };
                    if let AuthOutcome::Allow(admission) = &mut outcome {
                        admission.rules = self.own_rules.get(&*request.client_id).cloned();
                    }
                    self.broker
                        .handle_reply(self.now, Reply::Authenticated(connection, outcome));
                }
            }
            Effect::Persist(batch) => {
                self.uncommitted.push_back(batch);
                if self.commits {
                    self.commit_quietly();
                }
            }
            Effect::Load(request) => {
                self.loads_made += 1;
                self.loads.push_back(request);
                if self.uncommitted.is_empty() {
                    self.load();
                }
            }
        }
    }

    /// The process dies and starts again: what was not committed is lost, and so is every connection.
    pub(crate) fn crash(&mut self) -> Recovery {
        self.crash_for(Duration::from_millis(1))
    }

    /// The same, and it takes so long until the broker runs again.
    pub(crate) fn crash_for(&mut self, pause: Duration) -> Recovery {
        self.uncommitted.clear();
        self.loads.clear();
        self.loaded.clear();
        self.asked.clear();
        for client in &mut self.clients {
            client.closed.get_or_insert(CloseCause::SocketClosed);
            client.held.clear();
        }
        // Another process has another origin of its monotonic clock.
        let wall = self.now.saturating_add(pause).wall;
        self.now = Now::new(Monotonic::from_millis(7), wall);
        let (broker, recovery) =
            Broker::recover(self.config.clone(), self.now, &mut self.store).unwrap();
        self.broker = broker;
        self.commits = true;
        self.settle();
        recovery
    }

    /// Commits the oldest batch that waits, and does what follows.
    pub(crate) fn commit_one(&mut self) {
        let rest = self.uncommitted.split_off(1);
        self.commit_quietly();
        self.uncommitted = rest;
        self.settle();
    }

    /// Commits what waits, and does what follows.
    pub(crate) fn commit(&mut self) {
        self.commit_quietly();
        self.settle();
    }

    fn commit_quietly(&mut self) {
        let mut batches: Vec<_> = self.uncommitted.drain(..).collect();
        if !batches.is_empty() {
            let seq = self.store.commit(&mut batches).unwrap().seq;
            self.broker.handle_reply(self.now, Reply::Committed(seq));
        }
        self.load();
    }

    fn load(&mut self) {
        while let Some(request) = self.loads.pop_front() {
            self.loaded
                .push_back(self.store.read_queue(&request).unwrap());
        }
        while self.loads_at_once
            && let Some(loaded) = self.loaded.pop_front()
        {
            self.broker.handle_reply(self.now, Reply::Loaded(loaded));
        }
    }

    /// Hands over what one load came to, without the messages that the store finds damaged.
    pub(crate) fn finish_load_without(&mut self, is_damaged: fn(MessageId) -> bool) {
        let mut loaded = self.loaded.pop_front().unwrap();
        loaded
            .entries
            .retain(|(entry, _)| !is_damaged(entry.message));
        self.broker.handle_reply(self.now, Reply::Loaded(loaded));
        self.settle();
    }

    /// Hands over what was loaded, and does so at once from here on.
    pub(crate) fn finish_loads(&mut self) {
        self.loads_at_once = true;
        self.load();
        self.settle();
    }

    fn client_of(&self, connection: ConnectionId) -> Option<Handle> {
        let is_it = |client: &Client| client.connection == connection && client.closed.is_none();
        self.clients.iter().position(is_it).map(Handle)
    }

    fn pull(&mut self, client: Handle) {
        let Client {
            connection, reads, ..
        } = self.clients[client.0];
        if !reads {
            return;
        }
        let mut out = Transmit::default();
        loop {
            out.clear();
            let status = self.broker.poll_transmit(self.now, connection, &mut out);
            let client = &mut self.clients[client.0];
            for byte in out.pieces().flatten() {
                let mixed = self.trace ^ u64::from(*byte);
                self.trace = mixed.wrapping_mul(0x0100_0000_01B3);
            }
            self.trace = self.trace.rotate_left(5) ^ client.connection.index() as u64;
            for piece in out.pieces() {
                client.bytes.extend_from_slice(piece);
            }
            if status != TransmitStatus::Full {
                break;
            }
        }
        let client = &mut self.clients[client.0];
        while let Some(packet) = client.decoder.decode_owned(&mut client.bytes).unwrap() {
            client.inbox.push_back(packet);
        }
    }
}

pub(crate) fn id(value: u16) -> PacketId {
    PacketId::new(value).unwrap()
}

pub(crate) fn qos1(value: u16) -> Delivery {
    Delivery::AtLeastOnce {
        id: id(value),
        dup: false,
    }
}

pub(crate) fn qos2(value: u16) -> Delivery {
    Delivery::ExactlyOnce {
        id: id(value),
        dup: false,
    }
}

pub(crate) fn v5(client_id: &str) -> Connect {
    Connect {
        client_id: client_id.to_owned().into(),
        ..Connect::default()
    }
}

pub(crate) fn v3(client_id: &str, clean: bool) -> Connect {
    Connect {
        version: ProtocolVersion::V3_1_1,
        clean_start: clean,
        session_expiry_seconds: if clean { 0 } else { u32::MAX },
        ..v5(client_id)
    }
}

pub(crate) fn message(topic: &str, payload: &str) -> Publish {
    let topic = TopicName::new(topic.to_owned()).unwrap();
    Publish::new(topic, Bytes::copy_from_slice(payload.as_bytes()))
}

pub(crate) fn publish_packet(publish: Publish) -> Packet {
    Packet::Publish(Box::new(publish))
}

pub(crate) fn will(topic: &str, payload: &str) -> Will {
    let topic = TopicName::new(topic.to_owned()).unwrap();
    Will::new(topic, Bytes::copy_from_slice(payload.as_bytes()))
}

/// What a client says next about a PUBLISH that it got.
pub(crate) fn acknowledgement(publish: &Publish) -> Option<Packet> {
    match publish.delivery {
        Delivery::AtMostOnce => None,
        Delivery::AtLeastOnce { id, .. } => Some(pub_ack(id)),
        Delivery::ExactlyOnce { id, .. } => Some(pub_rec(id)),
    }
}

pub(crate) fn pub_ack(id: PacketId) -> Packet {
    Packet::PubAck(Ack::new(id, PubAckReason::Success))
}

pub(crate) fn pub_rec(id: PacketId) -> Packet {
    Packet::PubRec(Ack::new(id, PubRecReason::Success))
}

pub(crate) fn pub_rel(id: PacketId) -> Packet {
    Packet::PubRel(Ack::new(id, PubRelReason::Success))
}

pub(crate) fn pub_comp(id: PacketId) -> Packet {
    Packet::PubComp(Ack::new(id, PubCompReason::Success))
}

/// Denies topics that begin with the user's or client's name in `denied`, until told otherwise.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    /// Client id and topic.
    pub(crate) denied: std::sync::Mutex<Vec<(String, Action, String)>>,
    pub(crate) epoch: std::sync::atomic::AtomicU16,
}

impl Rules {
    pub(crate) fn deny(&self, client_id: &str, action: Action, topic: &str) {
        let rule = (client_id.to_owned(), action, topic.to_owned());
        self.denied.lock().unwrap().push(rule);
        self.epoch
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }

    pub(crate) fn allow_all(&self) {
        self.denied.lock().unwrap().clear();
        self.epoch
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

impl Authorizer for Rules {
    fn is_allowed(
        &self,
        _: &Identity,
        client_id: &str,
        action: Action,
        topic: TopicNameRef<'_>,
    ) -> bool {
        let denied = self.denied.lock().unwrap();
        !denied.iter().any(|(who, what, where_)| {
            who == client_id && *what == action && where_ == topic.as_str()
        })
    }

    fn grant(&self, _: &Identity, client_id: &str, filter: TopicFilterRef<'_>) -> Grant {
        let denied = self.denied.lock().unwrap();
        let of_client: Vec<_> = denied
            .iter()
            .filter(|(who, what, _)| who == client_id && *what == Action::Read)
            .collect();
        if of_client
            .iter()
            .any(|(_, _, topic)| topic == filter.as_str())
        {
            Grant::Denied
        } else if of_client.is_empty() {
            Grant::AllAllowed
        } else {
            Grant::CheckEach
        }
    }

    fn epoch(&self) -> u16 {
        self.epoch.load(std::sync::atomic::Ordering::Relaxed)
    }
}

pub(crate) fn target(filter: &str) -> Target {
    Target::parse(filter.to_owned()).unwrap()
}

/// The payloads, as text.
pub(crate) fn texts(publishes: &[Publish]) -> Vec<String> {
    publishes
        .iter()
        .map(|publish| String::from_utf8(publish.payload.to_vec()).unwrap())
        .collect()
}
