//! Clients that keep to the rules: the client role of the session crate, and a program on top that counts.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use bytes::Bytes;
use paloma_codec::{
    Auth, AuthReason, Connect, DecodeLimits, Decoder, Disconnect, DisconnectReason, Message,
    MessageParts, PacketId, PacketRef, ProtocolVersion, PubAckReason, PublishProperties, Qos,
    ReceiveMaximum, Secret, Subscribe, SubscribeFilter, SubscriptionId, Unsubscribe,
};
use paloma_session::{
    Connection, Event, Gate, LogSeq, Now, Options as SessionOptions, Outbound, QueueLimits,
    Receipt, Session, Timeout, Transmit, TransmitStatus, client,
};
use paloma_topic::{Target, TopicNameRef};

use crate::oracle::{Oracle, SMALL_PACKET_BYTES};
use crate::plan::{Action, PlannedWill};
use crate::sayings::{ANSWER, PASSWORD, payload_of, riddle, will_of};
use crate::violation::Invariant;

/// Messages that a client keeps while it is away.
const OFFLINE_MESSAGES_MAX: usize = 40;

/// Nanoseconds that a client waits for CONNACK.
const CONNECT_WAIT: u64 = 20_000_000_000;

enum Phase {
    Away,
    Connecting {
        handshake: client::Handshake,
        since: u64,
    },
    Open(Connection),
}

/// One client, its session and its socket.
pub(crate) struct SimClient {
    pub(crate) id: String,
    version: ProtocolVersion,
    has_small_packets: bool,
    has_aliases: bool,
    /// It logs in by an exchange of AUTH packets.
    pub(crate) answers_riddles: bool,
    keep_alive_seconds: u16,
    phase: Phase,
    session: Session,
    decoder: Decoder,
    input: Vec<u8>,
    /// Encoded and not taken by the network.
    pub(crate) out: Vec<u8>,
    transmit: Transmit,
    /// The world's number of the connection.
    pub(crate) wire: Option<usize>,
    held: Vec<Receipt>,
    pub(crate) holds_acks: bool,
    expiry_seconds: u32,
    receive_maximum: u16,
    will: Option<PlannedWill>,
    /// A clean start was asked for and has not been heard of.
    wants_clean: bool,
    /// The broker's session that this one belongs to.
    instance: Option<u64>,
    /// Messages by the number that their exchange has.
    numbers: BTreeMap<u64, u64>,
}

/// What a client wants of the world after something happened to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Nothing,
    /// The connection is over on this side.
    Close,
}

impl SimClient {
    pub(crate) fn new(
        index: usize,
        version: ProtocolVersion,
        has_small_packets: bool,
        has_aliases: bool,
        keep_alive_seconds: u16,
    ) -> Self {
        let limits = QueueLimits {
            count_max: u32::MAX,
            ..QueueLimits::default()
        };
        Self {
            id: format!("c{index}"),
            version,
            has_small_packets: has_small_packets && version.is_v5(),
            has_aliases,
            answers_riddles: false,
            keep_alive_seconds,
            phase: Phase::Away,
            session: Session::new(limits),
            decoder: Decoder::client(version, DecodeLimits::default()),
            input: Vec::new(),
            out: Vec::new(),
            transmit: Transmit::new(2_048, 64),
            wire: None,
            held: Vec::new(),
            holds_acks: false,
            expiry_seconds: 0,
            receive_maximum: u16::MAX,
            will: None,
            wants_clean: false,
            instance: None,
            numbers: BTreeMap::new(),
        }
    }

    pub(crate) fn is_away(&self) -> bool {
        matches!(self.phase, Phase::Away)
    }

    /// Whether no exchange of its own is open.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.session.is_empty()
    }

    // ---- what the plan wants ---------------------------------------------------------------------------------------

    /// Takes the plan's word for what the next connections are like.
    pub(crate) fn set_terms(
        &mut self,
        expiry: u32,
        receive_maximum: u16,
        will: Option<PlannedWill>,
    ) {
        self.expiry_seconds = expiry;
        self.receive_maximum = receive_maximum;
        self.will = will;
    }

    /// Changes how many messages the next connections take at once.
    pub(crate) fn set_receive_maximum(&mut self, receive_maximum: u16) {
        self.receive_maximum = receive_maximum;
    }

    pub(crate) fn without_will(&mut self) {
        self.will = None;
    }

    /// Begins a connection over a new wire. The number is the will's.
    pub(crate) fn connect(
        &mut self,
        now: Now,
        wire: usize,
        is_clean: bool,
        is_password_wrong: bool,
        will_number: u64,
    ) {
        self.end_connection();
        // What was given up stays given up.
        let is_clean = is_clean || self.wants_clean;
        self.wants_clean |= is_clean && !is_password_wrong;
        let is_v5 = self.version.is_v5();
        let expiry_seconds = match (is_v5, is_clean) {
            (true, _) => self.expiry_seconds,
            (false, true) => 0,
            (false, false) => u32::MAX,
        };
        let password: &[u8] = if is_password_wrong {
            b"wrong"
        } else {
            PASSWORD
        };
        let connect = Connect {
            version: self.version,
            clean_start: is_clean,
            keep_alive_seconds: self.keep_alive_seconds,
            client_id: self.id.clone().into(),
            will: self
                .will
                .as_ref()
                .and_then(|will| will_of(will, will_number, is_v5)),
            username: Some(self.id.replace('c', "u").into()),
            password: Some(Secret::new(Bytes::copy_from_slice(password))),
            session_expiry_seconds: expiry_seconds,
            receive_maximum: if is_v5 {
                ReceiveMaximum::new(self.receive_maximum).unwrap_or_default()
            } else {
                ReceiveMaximum::MAX
            },
            maximum_packet_size: self
                .has_small_packets
                .then(|| NonZeroU32::new(SMALL_PACKET_BYTES))
                .flatten(),
            topic_alias_maximum: if self.has_aliases && is_v5 { 2 } else { 0 },
            authentication: (self.answers_riddles && is_v5).then(|| riddle(b"")),
            ..Connect::default()
        };
        if is_clean && !is_password_wrong {
            // Asking for a clean start is giving up what was.
            self.session.restart(|_| {});
            self.instance = None;
        }
        let Ok(handshake) = client::Handshake::new(&connect) else {
            return;
        };
        // The broker may have made a session whose CONNACK was lost.
        self.session.set_established();
        self.decoder = Decoder::client(self.version, DecodeLimits::default());
        let since = now.monotonic.as_nanos();
        self.phase = Phase::Connecting { handshake, since };
        self.wire = Some(wire);
    }

    /// What the plan has the client do while it is connected, or nothing if it is not.
    pub(crate) fn act(&mut self, now: Now, oracle: &mut Oracle, action: &Action) -> Outcome {
        match action {
            Action::Leave {
                with_will,
                expiry_seconds,
            } => self.leave(*with_will, *expiry_seconds),
            Action::Subscribe { filters, id } => {
                let filters = filters.iter().filter_map(|(filter, options)| {
                    let target = Target::parse((*filter).to_owned()).ok()?;
                    if !self.version.is_v5() && target.share().is_some() {
                        return None; // Without an identifier, the oracle could not tell its copies from others.
                    }
                    let mut options = *options;
                    if !self.version.is_v5() {
                        options = paloma_codec::SubscribeOptions::new(options.qos);
                    }
                    Some(SubscribeFilter { target, options })
                });
                let mut subscribe = Subscribe::new(PacketId::MIN, filters.collect());
                subscribe.subscription_id = id
                    .filter(|_| self.version.is_v5())
                    .and_then(SubscriptionId::new);
                if let Phase::Open(connection) = &mut self.phase
                    && !subscribe.filters.is_empty()
                {
                    // All ids are never in use here.
                    let _ = connection.subscribe(&mut self.session, subscribe);
                }
                Outcome::Nothing
            }
            Action::Unsubscribe { filter } => {
                if let (Phase::Open(connection), Ok(target)) =
                    (&mut self.phase, Target::parse((*filter).to_owned()))
                {
                    let unsubscribe = Unsubscribe::new(PacketId::MIN, vec![target]);
                    let _ = connection.unsubscribe(&mut self.session, unsubscribe);
                }
                Outcome::Nothing
            }
            Action::Publish { .. } => {
                self.publish(now, oracle, action);
                Outcome::Nothing
            }
            Action::HoldAcks(holds) => {
                self.holds_acks = *holds;
                if !holds {
                    self.acknowledge_held();
                }
                Outcome::Nothing
            }
            Action::Connect { .. }
            | Action::Cut { .. }
            | Action::Stall { .. }
            | Action::Hostile
            | Action::WallJump { .. }
            | Action::Rule { .. }
            | Action::Crash { .. }
            | Action::FailStore
            | Action::FillStore { .. }
            | Action::Wait { .. } => Outcome::Nothing,
        }
    }

    pub(crate) fn leave(&mut self, with_will: bool, expiry_seconds: Option<u32>) -> Outcome {
        let Phase::Open(connection) = &mut self.phase else {
            return Outcome::Nothing;
        };
        let is_v5 = self.version.is_v5();
        connection.disconnect(&Disconnect {
            reason: if with_will && is_v5 {
                DisconnectReason::DisconnectWithWillMessage
            } else {
                DisconnectReason::NormalDisconnection
            },
            session_expiry_seconds: expiry_seconds.filter(|_| is_v5),
            ..Disconnect::default()
        });
        self.flush_out(Now::default());
        Outcome::Close
    }

    /// Publishes an empty retained message.
    pub(crate) fn delete_retained(&mut self, now: Now, oracle: &mut Oracle, topic: &str) {
        let deletion = Message::new(
            &MessageParts {
                id: oracle.next_number(),
                stamp: now.wall.as_millis(),
                topic: match TopicNameRef::new(topic) {
                    Ok(topic) => topic,
                    Err(_) => return,
                },
                properties: &PublishProperties::default(),
                payload: &[],
            },
            &mut Vec::new(),
        );
        if let Ok(message) = deletion {
            let outbound = Outbound::new(message, Qos::AtLeastOnce).with_retain(true);
            let _ = self.session.enqueue(outbound, &[], |_| {});
        }
    }

    fn publish(&mut self, now: Now, oracle: &mut Oracle, action: &Action) {
        let Action::Publish {
            topic,
            qos,
            retain,
            is_empty,
            is_large,
            expiry_seconds,
        } = action
        else {
            return;
        };
        if self.session.queue().len() >= OFFLINE_MESSAGES_MAX {
            return;
        }
        let number = oracle.next_number();
        let payload = payload_of(number, *is_empty, *is_large);
        let properties = PublishProperties {
            message_expiry_seconds: expiry_seconds.filter(|_| self.version.is_v5()),
            ..PublishProperties::default()
        };
        let Ok(topic) = TopicNameRef::new(topic) else {
            return;
        };
        let parts = MessageParts {
            id: number,
            stamp: now.wall.as_millis(),
            topic,
            properties: &properties,
            payload: &payload,
        };
        if let Ok(message) = Message::new(&parts, &mut Vec::new()) {
            if !is_empty {
                self.numbers.insert(number, number);
            }
            let outbound = Outbound::new(message, *qos).with_retain(*retain);
            let _ = self.session.enqueue(outbound, &[], |_| {});
        }
    }

    // ---- what happens to it ----------------------------------------------------------------------------------------

    pub(crate) fn read(
        &mut self,
        now: Now,
        oracle: &mut Oracle,
        let_into: Option<u64>,
        bytes: &[u8],
    ) -> Outcome {
        let mut input = std::mem::take(&mut self.input);
        input.extend_from_slice(bytes);
        let mut rest = input.as_slice();
        let mut outcome = Outcome::Nothing;
        while outcome == Outcome::Nothing && !self.is_away() {
            let mut decoder = self.decoder.clone();
            match decoder.decode(rest) {
                Ok(Some((packet, used))) => {
                    rest = rest.get(used..).unwrap_or_default();
                    outcome = self.handle_packet(now, oracle, let_into, packet);
                }
                Ok(None) => break,
                Err(error) => {
                    let what = format!("{} cannot read what it got: {error}", self.id);
                    oracle.violated(now, Invariant::Protocol, what);
                    outcome = Outcome::Close;
                }
            }
        }
        self.input = rest.to_vec();
        outcome
    }

    fn handle_packet(
        &mut self,
        now: Now,
        oracle: &mut Oracle,
        let_into: Option<u64>,
        packet: PacketRef<'_>,
    ) -> Outcome {
        match std::mem::replace(&mut self.phase, Phase::Away) {
            Phase::Away => Outcome::Nothing,
            Phase::Connecting { handshake, .. } => {
                self.handle_answer(now, oracle, let_into, handshake, packet)
            }
            Phase::Open(connection) => {
                self.phase = Phase::Open(connection);
                self.handle_open(now, oracle, packet)
            }
        }
    }

    fn handle_answer(
        &mut self,
        now: Now,
        oracle: &mut Oracle,
        let_into: Option<u64>,
        mut handshake: client::Handshake,
        packet: PacketRef<'_>,
    ) -> Outcome {
        let ack = match handshake.handle_packet(packet) {
            Ok(client::HandshakeEvent::Accepted(ack)) => ack,
            Ok(client::HandshakeEvent::Auth(_)) => {
                let answer = Auth {
                    reason: AuthReason::ContinueAuthentication,
                    authentication: Some(riddle(ANSWER)),
                    ..Auth::default()
                };
                if handshake.answer(&answer).is_err() {
                    return Outcome::Close;
                }
                let since = now.monotonic.as_nanos();
                self.phase = Phase::Connecting { handshake, since };
                return Outcome::Nothing;
            }
            Ok(client::HandshakeEvent::Refused(_) | client::HandshakeEvent::Disconnect(_)) => {
                return Outcome::Close;
            }
            Err(violation) => {
                oracle.violated(
                    now,
                    Invariant::Protocol,
                    format!("{}: {violation}", self.id),
                );
                return Outcome::Close;
            }
        };
        self.wants_clean = false;
        if self.instance != let_into {
            // An attempt that the client never heard of has made another session; nothing of the old one is left.
            self.session.restart(|_| {});
            self.session.set_established();
        }
        self.instance = let_into;
        let options = SessionOptions {
            aliases_max: if self.has_aliases { 8 } else { 0 },
            ..SessionOptions::default()
        };
        match handshake.open(now, &mut self.session, &ack, options, |_| {}) {
            Ok(connection) => {
                self.phase = Phase::Open(connection);
                Outcome::Nothing
            }
            Err(violation) => {
                oracle.violated(
                    now,
                    Invariant::Protocol,
                    format!("{}: {violation}", self.id),
                );
                Outcome::Close
            }
        }
    }

    fn handle_open(&mut self, now: Now, oracle: &mut Oracle, packet: PacketRef<'_>) -> Outcome {
        let Phase::Open(connection) = &mut self.phase else {
            return Outcome::Nothing;
        };
        let event = connection.handle_packet(now, &mut self.session, packet, Gate::Open);
        let event = match event {
            Ok(event) => event,
            Err(violation) => {
                oracle.violated(
                    now,
                    Invariant::Protocol,
                    format!("{}: {violation}", self.id),
                );
                return Outcome::Close;
            }
        };
        match event {
            Event::Publish(inbound) => {
                let qos = inbound.publish.delivery.qos();
                let whom = (self.id.as_str(), self.instance.unwrap_or_default());
                oracle.delivered(now, whom, inbound.publish.payload, qos);
                if let Some(receipt) = inbound.receipt {
                    self.held.push(receipt);
                }
                if !self.holds_acks {
                    self.acknowledge_held();
                }
            }
            Event::Acknowledged {
                outbound, reason, ..
            } => {
                let number = self.numbers.remove(&outbound.message().id());
                if let Some(number) = number.filter(|_| !reason.is_error()) {
                    oracle.acknowledged(now, &self.id, number);
                }
            }
            Event::Received { outbound, .. } => {
                if let Some(number) = self.numbers.remove(&outbound.message().id()) {
                    oracle.acknowledged(now, &self.id, number);
                }
            }
            Event::Disconnect(_) => return Outcome::Close,
            Event::None
            | Event::Released(_)
            | Event::Completed { .. }
            | Event::SubAck(_)
            | Event::UnsubAck(_)
            | Event::Subscribe(_)
            | Event::Unsubscribe(_)
            | Event::Auth(_) => {}
        }
        Outcome::Nothing
    }

    pub(crate) fn acknowledge_held(&mut self) {
        for receipt in std::mem::take(&mut self.held) {
            if let Phase::Open(connection) = &mut self.phase {
                let reason = PubAckReason::Success;
                connection.acknowledge(&mut self.session, receipt, reason, Gate::Open);
            }
        }
    }

    /// The connection is over, as far as the client knows.
    pub(crate) fn end_connection(&mut self) {
        if let Phase::Open(connection) = std::mem::replace(&mut self.phase, Phase::Away) {
            let _ = connection.handle_closed(&mut self.session);
        }
        self.held.clear();
        self.input.clear();
        self.out.clear();
        self.wire = None;
    }

    // ---- time and bytes --------------------------------------------------------------------------------------------

    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        match &self.phase {
            Phase::Away => None,
            Phase::Connecting { since, .. } => Some(since + CONNECT_WAIT),
            Phase::Open(connection) => connection.poll_timeout().map(|(at, _)| at.as_nanos()),
        }
    }

    pub(crate) fn timeout(&mut self, now: Now) -> Outcome {
        match &mut self.phase {
            Phase::Away => Outcome::Nothing,
            Phase::Connecting { since, .. } => {
                if now.monotonic.as_nanos() >= *since + CONNECT_WAIT {
                    Outcome::Close
                } else {
                    Outcome::Nothing
                }
            }
            Phase::Open(connection) => match connection.handle_timeout(now.monotonic) {
                Timeout::Expired => Outcome::Close,
                Timeout::Early | Timeout::Ping => Outcome::Nothing,
            },
        }
    }

    /// Writes what there is to write into `out`.
    pub(crate) fn flush_out(&mut self, now: Now) {
        while self.out.len() < 4_096 {
            self.transmit.clear();
            let status = match &mut self.phase {
                Phase::Away => return,
                Phase::Connecting { handshake, .. } => handshake.poll_transmit(&mut self.transmit),
                Phase::Open(connection) => {
                    let session = &mut self.session;
                    connection.poll_transmit(now, LogSeq::ZERO, session, &mut self.transmit)
                }
            };
            for piece in self.transmit.pieces() {
                self.out.extend_from_slice(piece);
            }
            if status != TransmitStatus::Full {
                return;
            }
        }
    }
}
