//! Two ends over an in-memory link with a virtual clock: a client and a server, each with one session.
//!
//! The link loses bytes only when it is cut, as TCP does. Everything that happens is checked against what was
//! published: nothing at QoS 1 and 2 is lost, QoS 2 comes once, order is kept, windows are never passed.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test harness: what is not as expected is a failed test"
)]
#![allow(dead_code, reason = "each program that includes it uses its part")]

use std::collections::VecDeque;
use std::time::Duration;

use paloma_codec::{
    ConnAck, Connect, DecodeLimits, Decoder, Message, MessageParts, PacketRef, ProtocolVersion,
    PubAckReason, PublishProperties, Qos, ReceiveMaximum,
};
use paloma_session::{
    Connection, Event, Gate, LogSeq, Monotonic, Now, Options, Outbound, Pushed, QueueLimits,
    Receipt, Session, Transmit, TransmitStatus, Wall, client, server,
};
use paloma_topic::TopicNameRef;

/// One end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// It sends CONNECT.
    Client,
    /// It answers.
    Server,
}

/// Both ends.
pub(crate) const SIDES: [Side; 2] = [Side::Client, Side::Server];

/// All QoS.
pub(crate) const LEVELS: [Qos; 3] = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce];

/// What can happen.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    /// A message of this payload size is queued.
    Publish {
        side: Side,
        qos: Qos,
        topic: u8,
        bytes: u16,
    },
    /// One end writes to the link.
    Transmit(Side),
    /// The link carries this many bytes to an end.
    Deliver { side: Side, bytes: u16 },
    /// An end commits everything that it promised so far.
    Commit(Side),
    /// An end acknowledges one of the messages that it holds, not always the oldest.
    Acknowledge { side: Side, choice: u8 },
    /// Time passes.
    Wait { millis: u16 },
    /// The link breaks: of what is on it, each end still gets so many bytes.
    Cut { to_client: u16, to_server: u16 },
    /// The client connects again, if it is not connected.
    Connect,
}

/// How a pair is set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) version: ProtocolVersion,
    /// Receive Maximum of both ends.
    pub(crate) receive_maximum: u16,
    /// Topic Alias Maximum of both ends.
    pub(crate) alias_maximum: u16,
    /// Whether receivers acknowledge at once.
    pub(crate) acknowledge_at_once: bool,
    /// Whether answers wait for commits.
    pub(crate) gated: bool,
    pub(crate) keep_alive_seconds: u16,
    /// How many exchanges each end opens at a time, if the other allows it.
    pub(crate) in_flight_max: u16,
}

impl Setup {
    fn options(&self) -> Options {
        Options {
            in_flight_max: ReceiveMaximum::new(self.in_flight_max).unwrap(),
            in_flight_bytes_max: u32::MAX,
            ..Options::default()
        }
    }
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            version: ProtocolVersion::V5,
            receive_maximum: 8,
            alias_maximum: 4,
            acknowledge_at_once: true,
            gated: false,
            keep_alive_seconds: 60,
            in_flight_max: 32,
        }
    }
}

/// The protocol state of one end.
enum Phase {
    Away,
    Connecting(client::Handshake),
    Accepting(server::Handshake),
    Open(Connection),
}

/// One end and what it has seen.
pub(crate) struct End {
    side: Side,
    phase: Phase,
    pub(crate) session: Session,
    decoder: Decoder,
    /// Bytes on the link to this end.
    link: VecDeque<u8>,
    /// Bytes of a packet that is not complete.
    input: Vec<u8>,
    transmit: Transmit,
    held: Vec<Receipt>,
    gate: LogSeq,
    committed: LogSeq,
    /// Serial numbers of what was published to the other end, by QoS.
    pub(crate) published: [Vec<u64>; 3],
    /// Serial numbers of what came, by QoS.
    pub(crate) delivered: [Vec<u64>; 3],
    /// Serial numbers of our messages whose exchange ended.
    pub(crate) finished: Vec<u64>,
    /// Messages that were published above QoS 0 and then given up, by the serial number.
    pub(crate) lost: Vec<u64>,
    /// How many bytes this end wrote.
    pub(crate) bytes_written: u64,
}

/// Two ends and the link between them.
pub(crate) struct Pair {
    pub(crate) setup: Setup,
    pub(crate) client: End,
    pub(crate) server: End,
    pub(crate) now: Now,
    serial: u64,
}

impl Pair {
    /// Two ends that are not connected.
    pub(crate) fn new(setup: Setup) -> Self {
        Self {
            setup,
            client: End::new(Side::Client),
            server: End::new(Side::Server),
            now: Now::new(
                Monotonic::from_millis(1),
                Wall::from_millis(1_700_000_000_000),
            ),
            serial: 0,
        }
    }

    /// Two ends that are connected.
    pub(crate) fn connected(setup: Setup) -> Self {
        let mut pair = Self::new(setup);
        pair.connect(true);
        pair.settle();
        pair
    }

    pub(crate) fn end(&mut self, side: Side) -> &mut End {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    fn ends(&mut self, side: Side) -> (&mut End, &mut End) {
        match side {
            Side::Client => (&mut self.client, &mut self.server),
            Side::Server => (&mut self.server, &mut self.client),
        }
    }

    /// One thing happens.
    pub(crate) fn apply(&mut self, op: Op) {
        match op {
            Op::Publish {
                side,
                qos,
                topic,
                bytes,
            } => self.publish(side, qos, topic, bytes),
            Op::Transmit(side) => self.transmit(side),
            Op::Deliver { side, bytes } => self.deliver(side, usize::from(bytes)),
            Op::Commit(side) => {
                let end = self.end(side);
                end.committed = end.gate;
            }
            Op::Acknowledge { side, choice } => self.end(side).acknowledge_one(choice),
            Op::Wait { millis } => self.wait(millis),
            Op::Cut {
                to_client,
                to_server,
            } => {
                self.deliver(Side::Client, usize::from(to_client));
                self.deliver(Side::Server, usize::from(to_server));
                self.cut();
            }
            Op::Connect => self.connect(false),
        }
        self.check_windows();
    }

    /// Queues a message; its payload begins with its serial number.
    pub(crate) fn publish(&mut self, side: Side, qos: Qos, topic: u8, bytes: u16) {
        self.serial += 1;
        let (serial, stamp) = (self.serial, self.now.wall.as_millis());
        let topic = format!("a/topic/with/some/levels/{qos}/{}", topic % 8);
        let mut payload = serial.to_be_bytes().to_vec();
        payload.resize(payload.len() + usize::from(bytes), 0);
        let parts = MessageParts {
            id: serial,
            stamp,
            topic: TopicNameRef::new(&topic).unwrap(),
            properties: &PublishProperties::default(),
            payload: &payload,
        };
        let message = Message::new(&parts, &mut Vec::new()).unwrap();
        let end = self.end(side);
        let pushed = end
            .session
            .enqueue(Outbound::new(message, qos), &[], |_| {});
        assert!(matches!(pushed, Pushed::Stored), "the queue has room");
        end.published[usize::from(qos.bits())].push(serial);
    }

    /// One end writes all that it may.
    pub(crate) fn transmit(&mut self, side: Side) {
        let now = self.now;
        let (end, other) = self.ends(side);
        loop {
            end.transmit.clear();
            let status = end.poll_transmit(now);
            end.bytes_written += end.transmit.len() as u64;
            for piece in end.transmit.pieces() {
                other.link.extend(piece);
            }
            for dropped in end.transmit.dropped() {
                end.lost.push(dropped.outbound.message().id());
            }
            match status {
                TransmitStatus::Full => {}
                TransmitStatus::Drained => return,
                TransmitStatus::Close => panic!("{side:?} gave up"),
            }
        }
    }

    /// The link carries up to `bytes` to an end.
    pub(crate) fn deliver(&mut self, side: Side, bytes: usize) {
        let (now, setup) = (self.now, self.setup);
        let end = self.end(side);
        let bytes = bytes.min(end.link.len());
        end.input.extend(end.link.drain(..bytes));
        end.handle_input(now, &setup);
    }

    /// The link breaks, and both ends notice.
    pub(crate) fn cut(&mut self) {
        for side in SIDES {
            let end = self.end(side);
            end.link.clear();
            end.input.clear();
            if let Phase::Open(connection) = std::mem::replace(&mut end.phase, Phase::Away) {
                let _ = connection.handle_closed(&mut end.session);
            }
        }
    }

    /// The client connects, if it is not connected.
    pub(crate) fn connect(&mut self, clean_start: bool) {
        if !matches!(self.client.phase, Phase::Away) {
            return;
        }
        self.cut();
        let setup = self.setup;
        let connect = Connect {
            version: setup.version,
            clean_start,
            client_id: "c".into(),
            keep_alive_seconds: setup.keep_alive_seconds,
            session_expiry_seconds: u32::MAX,
            receive_maximum: ReceiveMaximum::new(setup.receive_maximum).unwrap(),
            topic_alias_maximum: setup.alias_maximum,
            ..Connect::default()
        };
        let limits = DecodeLimits::default();
        self.client.phase = Phase::Connecting(client::Handshake::new(&connect).unwrap());
        self.client.decoder = Decoder::client(setup.version, limits);
        self.server.phase = Phase::Accepting(server::Handshake::new());
        self.server.decoder = Decoder::server(limits);
    }

    /// Time passes, and both ends look at their timers.
    fn wait(&mut self, millis: u16) {
        self.now = self
            .now
            .saturating_add(Duration::from_millis(u64::from(millis)));
        let now = self.now;
        for side in SIDES {
            let end = self.end(side);
            let Phase::Open(connection) = &mut end.phase else {
                continue;
            };
            if connection.handle_timeout(now.monotonic) == paloma_session::Timeout::Expired {
                self.cut();
                return;
            }
        }
    }

    /// Faults stop: both ends go on until nothing moves.
    pub(crate) fn settle(&mut self) {
        self.connect(false);
        for _ in 0..100_000 {
            let mut moved = 0;
            for side in SIDES {
                let written = self.end(side).bytes_written;
                self.apply(Op::Commit(side));
                self.transmit(side);
                moved += usize::from(self.end(side).bytes_written > written);
            }
            for side in SIDES {
                moved += self.end(side).link.len();
                self.deliver(side, usize::MAX);
                moved += self.end(side).held.len();
                while !self.end(side).held.is_empty() {
                    self.end(side).acknowledge_one(1);
                }
            }
            if moved == 0 {
                return;
            }
        }
        panic!("the two ends never come to rest");
    }

    /// Everything that must hold once all is delivered.
    pub(crate) fn check_complete(&self) {
        for (from, to) in [(&self.client, &self.server), (&self.server, &self.client)] {
            let [_, sent_qos1, sent_qos2] = &from.published;
            let [_, got_qos1, got_qos2] = &to.delivered;
            assert_eq!(sent_qos2, got_qos2, "QoS 2: each once, in order");
            assert_eq!(
                *sent_qos1,
                first_occurrences(got_qos1),
                "QoS 1: each, in order"
            );
            assert!(
                from.session.is_empty(),
                "no exchange is open: {:?}",
                from.session
            );
            assert_eq!(from.lost, [0; 0]);
            let mut finished = from.finished.clone();
            finished.sort_unstable();
            let mut above_qos0 = [sent_qos1.as_slice(), sent_qos2].concat();
            above_qos0.sort_unstable();
            assert_eq!(finished, above_qos0, "each exchange ended once");
        }
        self.check_so_far();
    }

    /// Everything that must hold at any time.
    pub(crate) fn check_so_far(&self) {
        for (from, to) in [(&self.client, &self.server), (&self.server, &self.client)] {
            let [sent_qos0, sent_qos1, sent_qos2] = &from.published;
            let [got_qos0, got_qos1, got_qos2] = &to.delivered;
            assert!(
                is_subsequence(got_qos0, sent_qos0),
                "QoS 0: at most once, in order"
            );
            assert!(
                sent_qos1.starts_with(&first_occurrences(got_qos1)),
                "QoS 1: in order"
            );
            assert!(
                sent_qos2.starts_with(got_qos2),
                "QoS 2: at most once, in order"
            );
        }
    }

    fn check_windows(&self) {
        for end in [&self.client, &self.server] {
            let Phase::Open(connection) = &end.phase else {
                continue;
            };
            if self.setup.version.is_v5() {
                assert!(connection.open_inbound() <= self.setup.receive_maximum);
            }
        }
    }
}

impl End {
    fn new(side: Side) -> Self {
        let limits = QueueLimits {
            count_max: u32::MAX,
            ..QueueLimits::default()
        };
        Self {
            side,
            phase: Phase::Away,
            session: Session::new(limits),
            decoder: Decoder::server(DecodeLimits::default()),
            link: VecDeque::new(),
            input: Vec::new(),
            // Small budgets and thresholds, so that both limits are met often.
            transmit: Transmit::new(256, 64),
            held: Vec::new(),
            gate: LogSeq::ZERO,
            committed: LogSeq::ZERO,
            published: Default::default(),
            delivered: Default::default(),
            finished: Vec::new(),
            lost: Vec::new(),
            bytes_written: 0,
        }
    }

    /// Bytes that are on the link to this end.
    pub(crate) fn link_len(&self) -> usize {
        self.link.len()
    }

    fn poll_transmit(&mut self, now: Now) -> TransmitStatus {
        match &mut self.phase {
            Phase::Away => TransmitStatus::Drained,
            Phase::Connecting(handshake) => handshake.poll_transmit(&mut self.transmit),
            Phase::Accepting(handshake) => handshake.poll_transmit(&mut self.transmit),
            Phase::Open(connection) => {
                let session = &mut self.session;
                connection.poll_transmit(now, self.committed, session, &mut self.transmit)
            }
        }
    }

    fn handle_input(&mut self, now: Now, setup: &Setup) {
        let input = std::mem::take(&mut self.input);
        let mut rest = input.as_slice();
        while let Some((packet, used)) = self.decoder.decode(rest).unwrap() {
            rest = &rest[used..];
            self.handle_packet(now, setup, packet);
        }
        self.input = rest.to_vec();
    }

    fn handle_packet(&mut self, now: Now, setup: &Setup, packet: PacketRef<'_>) {
        match std::mem::replace(&mut self.phase, Phase::Away) {
            Phase::Away => {}
            Phase::Connecting(handshake) => self.handle_answer(now, setup, handshake, packet),
            Phase::Accepting(handshake) => self.handle_request(now, setup, handshake, packet),
            Phase::Open(connection) => {
                self.phase = Phase::Open(connection);
                self.handle_open(now, setup, packet);
            }
        }
    }

    fn handle_answer(
        &mut self,
        now: Now,
        setup: &Setup,
        mut handshake: client::Handshake,
        packet: PacketRef<'_>,
    ) {
        let event = handshake.handle_packet(packet).unwrap();
        let client::HandshakeEvent::Accepted(conn_ack) = event else {
            panic!("accepted, not {event:?}");
        };
        let connection = handshake
            .open(now, &mut self.session, &conn_ack, setup.options(), |_| {})
            .unwrap();
        self.phase = Phase::Open(connection);
    }

    fn handle_request(
        &mut self,
        now: Now,
        setup: &Setup,
        mut handshake: server::Handshake,
        packet: PacketRef<'_>,
    ) {
        let event = handshake.handle_packet(packet).unwrap();
        let server::HandshakeEvent::Connect(connect) = event else {
            panic!("CONNECT, not {event:?}");
        };
        let conn_ack = ConnAck {
            session_present: !connect.clean_start && self.session.is_established(),
            receive_maximum: ReceiveMaximum::new(setup.receive_maximum).unwrap(),
            topic_alias_maximum: setup.alias_maximum,
            ..ConnAck::default()
        };
        let gate = self.next_gate(setup);
        let connection = handshake
            .accept(now, &mut self.session, &conn_ack, setup.options(), gate)
            .unwrap();
        self.phase = Phase::Open(connection);
    }

    fn handle_open(&mut self, now: Now, setup: &Setup, packet: PacketRef<'_>) {
        let gate = self.next_gate(setup);
        let Phase::Open(connection) = &mut self.phase else {
            return;
        };
        let event = connection.handle_packet(now, &mut self.session, packet, gate);
        match event.unwrap_or_else(|violation| panic!("{:?}: {violation}", self.side)) {
            Event::Publish(inbound) => {
                let qos = inbound.publish.delivery.qos();
                let name = inbound.topic.name().as_str();
                assert!(name.contains(&qos.to_string()), "{name} belongs to {qos}");
                let serial = inbound.publish.payload.first_chunk().unwrap();
                self.delivered[usize::from(qos.bits())].push(u64::from_be_bytes(*serial));
                let Some(receipt) = inbound.receipt else {
                    return;
                };
                if setup.acknowledge_at_once {
                    let session = &mut self.session;
                    connection.acknowledge(session, receipt, PubAckReason::Success, gate);
                } else {
                    self.held.push(receipt);
                }
            }
            Event::Acknowledged {
                outbound, reason, ..
            } => {
                assert_eq!(reason, PubAckReason::Success);
                self.finished.push(outbound.message().id());
            }
            Event::Completed { message, .. } => self.finished.push(message),
            Event::None | Event::Released(_) | Event::Received { .. } => {}
            event @ (Event::Subscribe(_)
            | Event::Unsubscribe(_)
            | Event::SubAck(_)
            | Event::UnsubAck(_)
            | Event::Auth(_)
            | Event::Disconnect(_)) => panic!("nobody sends this: {event:?}"),
        }
    }

    fn acknowledge_one(&mut self, choice: u8) {
        if self.held.is_empty() {
            return;
        }
        let receipt = self.held.swap_remove(usize::from(choice) % self.held.len());
        if let Phase::Open(connection) = &mut self.phase {
            let session = &mut self.session;
            connection.acknowledge(session, receipt, PubAckReason::Success, Gate::Open);
        }
    }

    fn next_gate(&mut self, setup: &Setup) -> Gate {
        if !setup.gated {
            return Gate::Open;
        }
        self.gate = LogSeq(self.gate.0 + 1);
        Gate::Until(self.gate)
    }
}

fn first_occurrences(serials: &[u64]) -> Vec<u64> {
    let mut seen = std::collections::BTreeSet::new();
    serials
        .iter()
        .copied()
        .filter(|serial| seen.insert(*serial))
        .collect()
}

fn is_subsequence(part: &[u64], whole: &[u64]) -> bool {
    let mut whole = whole.iter();
    part.iter().all(|serial| whole.any(|other| other == serial))
}
