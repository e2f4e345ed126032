//! One real end, and the other end played packet by packet.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test harness: what is not as expected is a failed test"
)]
#![allow(dead_code, reason = "each test program uses its part")]

use paloma_codec::{
    ConnAck, Connect, DecodeLimits, Decoder, Delivery, Message, MessageParts, Packet, PacketId,
    PacketRef, ProtocolVersion, PubAckReason, PubCompReason, Publish, PublishProperties,
    PublishTopic, Qos,
};
use paloma_session::{
    Connection, Event, Gate, LogSeq, Monotonic, Now, Options, Outbound, Pushed, QueueLimits,
    Receipt, Role, Session, Transmit, TransmitStatus, Violation, Wall, client, server,
};
use paloma_topic::{TopicName, TopicNameRef};

/// An open connection and its session.
pub(crate) struct Rig {
    pub(crate) connection: Connection,
    pub(crate) session: Session,
    pub(crate) now: Now,
    pub(crate) committed: LogSeq,
    pub(crate) out: Transmit,
    /// Decodes what the real end writes.
    decoder: Decoder,
    /// Decodes what the other end says, as the real end's caller would.
    pub(crate) input: Decoder,
}

/// An event without what it borrows.
#[derive(Debug)]
pub(crate) enum Seen {
    None,
    Publish {
        topic: String,
        receipt: Option<Receipt>,
    },
    Released(PacketId),
    Acknowledged(PacketId, PubAckReason),
    Received(PacketId),
    Completed(PacketId, PubCompReason),
    Other(Packet),
}

impl Seen {
    pub(crate) fn receipt(self) -> Receipt {
        match self {
            Self::Publish {
                receipt: Some(receipt),
                ..
            } => receipt,
            other => panic!("a PUBLISH with a receipt, not {other:?}"),
        }
    }

    pub(crate) fn topic(self) -> String {
        match self {
            Self::Publish { topic, .. } => topic,
            other => panic!("a PUBLISH, not {other:?}"),
        }
    }
}

impl PartialEq for Seen {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::None, Self::None) => true,
            (Self::Released(a), Self::Released(b)) | (Self::Received(a), Self::Received(b)) => {
                a == b
            }
            (Self::Acknowledged(a, b), Self::Acknowledged(c, d)) => (a, b) == (c, d),
            (Self::Completed(a, b), Self::Completed(c, d)) => (a, b) == (c, d),
            (_, _) => false,
        }
    }
}

pub(crate) fn id(value: u16) -> PacketId {
    PacketId::new(value).unwrap()
}

pub(crate) fn start() -> Now {
    Now::new(
        Monotonic::from_millis(1_000),
        Wall::from_millis(1_700_000_000_000),
    )
}

/// A CONNECT of this version that keeps its session.
pub(crate) fn connect(version: ProtocolVersion) -> Connect {
    Connect {
        version,
        client_id: "c".into(),
        clean_start: false,
        session_expiry_seconds: u32::MAX,
        ..Connect::default()
    }
}

/// A PUBLISH from the other end.
pub(crate) fn publish(topic: &str, delivery: Delivery) -> Packet {
    let topic = TopicName::new(topic).unwrap();
    Packet::Publish(Box::new(Publish {
        delivery,
        ..Publish::new(topic, "x".into())
    }))
}

/// A QoS 1 PUBLISH from the other end.
pub(crate) fn qos1(number: u16) -> Packet {
    publish(
        "t",
        Delivery::AtLeastOnce {
            id: id(number),
            dup: false,
        },
    )
}

/// A QoS 2 PUBLISH from the other end.
pub(crate) fn qos2(number: u16) -> Packet {
    publish(
        "t",
        Delivery::ExactlyOnce {
            id: id(number),
            dup: false,
        },
    )
}

/// A message of ours.
pub(crate) fn message(topic: &str, payload: &[u8], expiry_seconds: Option<u32>) -> Message {
    let properties = PublishProperties {
        message_expiry_seconds: expiry_seconds,
        ..Default::default()
    };
    let parts = MessageParts {
        id: 1,
        stamp: start().wall.as_millis(),
        topic: TopicNameRef::new(topic).unwrap(),
        properties: &properties,
        payload,
    };
    Message::new(&parts, &mut Vec::new()).unwrap()
}

impl Rig {
    /// The server's end, with a client that said nothing special.
    pub(crate) fn server(version: ProtocolVersion) -> Self {
        Self::server_with(&connect(version), &ConnAck::default())
    }

    /// The server's end; the CONNACK is written already.
    pub(crate) fn server_with(connect: &Connect, conn_ack: &ConnAck) -> Self {
        let mut rig = Self::accept(
            connect,
            conn_ack,
            Session::new(QueueLimits::default()),
            Gate::Open,
        );
        rig.sent();
        rig
    }

    /// The server's end as `accept` leaves it.
    pub(crate) fn accept(
        connect: &Connect,
        conn_ack: &ConnAck,
        mut session: Session,
        gate: Gate,
    ) -> Self {
        let mut bytes = Vec::new();
        Packet::Connect(Box::new(connect.clone()))
            .encode(connect.version, &mut bytes)
            .unwrap();
        let mut input = Decoder::server(DecodeLimits::default());
        let (packet, _) = input.decode(&bytes).unwrap().unwrap();
        let mut handshake = server::Handshake::new();
        handshake.handle_packet(packet).unwrap();
        let options = Options::default();
        let connection = handshake
            .accept(start(), &mut session, conn_ack, options, gate)
            .unwrap();
        Self {
            connection,
            session,
            now: start(),
            committed: LogSeq::ZERO,
            out: Transmit::default(),
            decoder: Decoder::client(connect.version, DecodeLimits::default()),
            input,
        }
    }

    /// The client's end, with a server that said nothing special.
    pub(crate) fn client(version: ProtocolVersion) -> Self {
        Self::client_with(&connect(version), &ConnAck::default())
    }

    /// The client's end.
    pub(crate) fn client_with(connect: &Connect, conn_ack: &ConnAck) -> Self {
        Self::open(connect, conn_ack, Session::new(QueueLimits::default())).unwrap()
    }

    /// The client's end, on a session of its own.
    pub(crate) fn open(
        connect: &Connect,
        conn_ack: &ConnAck,
        mut session: Session,
    ) -> Result<Self, Violation> {
        let mut handshake = client::Handshake::new(connect).unwrap();
        let mut out = Transmit::default();
        let _ = handshake.poll_transmit(&mut out);
        let mut decoder = Decoder::server(DecodeLimits::default());
        decoder.decode(out.bytes()).unwrap().unwrap();
        handshake.handle_packet(PacketRef::ConnAck(Box::new(conn_ack.clone())))?;
        let options = Options::default();
        let connection = handshake.open(start(), &mut session, conn_ack, options, |_| {})?;
        Ok(Self {
            connection,
            session,
            now: start(),
            committed: LogSeq::ZERO,
            out: Transmit::default(),
            decoder,
            input: Decoder::client(connect.version, DecodeLimits::default()),
        })
    }

    /// The socket breaks and the client comes back, as the same session.
    pub(crate) fn reconnected(self, connect: &Connect) -> Self {
        let (role, mut session) = (self.connection.role(), self.session);
        let _ = self.connection.handle_closed(&mut session);
        let conn_ack = ConnAck {
            session_present: true,
            ..ConnAck::default()
        };
        match role {
            Role::Server => Self::accept(connect, &conn_ack, session, Gate::Open),
            Role::Client => Self::open(connect, &conn_ack, session).unwrap(),
        }
    }

    /// The other end says something, in bytes.
    pub(crate) fn receive(&mut self, packet: &Packet) -> Result<Seen, Violation> {
        self.receive_gated(packet, Gate::Open)
    }

    /// The same, with what it asks for to be committed first.
    pub(crate) fn receive_gated(&mut self, packet: &Packet, gate: Gate) -> Result<Seen, Violation> {
        let mut bytes = Vec::new();
        packet
            .encode(self.connection.version(), &mut bytes)
            .unwrap();
        let mut input = self.input.clone();
        let (packet, _) = input.decode(&bytes).unwrap().unwrap();
        self.handle(packet, gate)
    }

    /// The same, with a packet that no decoder would let through.
    pub(crate) fn handle(&mut self, packet: PacketRef<'_>, gate: Gate) -> Result<Seen, Violation> {
        let event = self
            .connection
            .handle_packet(self.now, &mut self.session, packet, gate)?;
        Ok(match event {
            Event::None => Seen::None,
            Event::Publish(inbound) => Seen::Publish {
                topic: inbound.topic.name().as_str().to_owned(),
                receipt: inbound.receipt,
            },
            Event::Released(id) => Seen::Released(id),
            Event::Acknowledged { id, reason, .. } => Seen::Acknowledged(id, reason),
            Event::Received { id, .. } => Seen::Received(id),
            Event::Completed { id, reason, .. } => Seen::Completed(id, reason),
            Event::Subscribe(packet) => Seen::Other(Packet::Subscribe(packet)),
            Event::Unsubscribe(packet) => Seen::Other(Packet::Unsubscribe(packet)),
            Event::SubAck(packet) => Seen::Other(Packet::SubAck(packet)),
            Event::UnsubAck(packet) => Seen::Other(Packet::UnsubAck(packet)),
            Event::Auth(packet) => Seen::Other(Packet::Auth(packet)),
            Event::Disconnect(packet) => Seen::Other(Packet::Disconnect(packet)),
        })
    }

    /// Answers a PUBLISH.
    pub(crate) fn acknowledge(&mut self, receipt: Receipt, reason: PubAckReason, gate: Gate) {
        self.connection
            .acknowledge(&mut self.session, receipt, reason, gate);
    }

    /// Queues a delivery.
    pub(crate) fn queue(&mut self, outbound: Outbound) {
        let pushed = self.session.enqueue(outbound, &[], |_| {});
        assert!(matches!(pushed, Pushed::Stored));
    }

    /// Queues a message on topic `t`.
    pub(crate) fn queue_qos(&mut self, qos: Qos) {
        self.queue(Outbound::new(message("t", b"x", None), qos));
    }

    /// Writes, and says whether to go on.
    pub(crate) fn transmit(&mut self) -> TransmitStatus {
        self.out.clear();
        let session = &mut self.session;
        self.connection
            .poll_transmit(self.now, self.committed, session, &mut self.out)
    }

    /// Everything that the real end writes, decoded by the other end.
    pub(crate) fn sent(&mut self) -> Vec<Packet> {
        let _ = self.transmit();
        let bytes: Vec<u8> = self.out.pieces().flatten().copied().collect();
        let mut rest = bytes.as_slice();
        let mut packets = Vec::new();
        while let Some((packet, used)) = self.decoder.decode(rest).unwrap() {
            packets.push(packet.into_owned());
            rest = rest.get(used..).unwrap();
        }
        assert!(rest.is_empty(), "only whole packets are written");
        packets
    }

    /// The same, in short: type, packet id, reason code.
    pub(crate) fn sent_briefly(&mut self) -> Vec<String> {
        self.sent().iter().map(brief).collect()
    }
}

/// A packet in short.
pub(crate) fn brief(packet: &Packet) -> String {
    match packet {
        Packet::Publish(publish) => {
            let topic = match &publish.topic {
                PublishTopic::Name(name) => name.as_str().to_owned(),
                PublishTopic::Alias(alias) => format!("={alias}"),
                PublishTopic::Define { name, alias } => format!("{}={alias}", name.as_str()),
            };
            let dup = if publish.delivery.is_dup() {
                " dup"
            } else {
                ""
            };
            let id = publish.delivery.id().map_or(0, PacketId::get);
            format!("PUBLISH {topic} {id}{dup}")
        }
        Packet::PubAck(ack) => format!("PUBACK {} {:02x}", ack.id, ack.reason.code()),
        Packet::PubRec(ack) => format!("PUBREC {} {:02x}", ack.id, ack.reason.code()),
        Packet::PubRel(ack) => format!("PUBREL {} {:02x}", ack.id, ack.reason.code()),
        Packet::PubComp(ack) => format!("PUBCOMP {} {:02x}", ack.id, ack.reason.code()),
        Packet::SubAck(ack) => format!("SUBACK {}", ack.id),
        Packet::UnsubAck(ack) => format!("UNSUBACK {}", ack.id),
        Packet::Subscribe(request) => format!("SUBSCRIBE {}", request.id),
        Packet::Unsubscribe(request) => format!("UNSUBSCRIBE {}", request.id),
        Packet::Disconnect(disconnect) => format!("DISCONNECT {:02x}", disconnect.reason.code()),
        Packet::Auth(auth) => format!("AUTH {:02x}", auth.reason.code()),
        Packet::ConnAck(ack) => format!("CONNACK {:02x}", ack.reason.code()),
        Packet::Connect(_) => "CONNECT".to_owned(),
        Packet::PingReq => "PINGREQ".to_owned(),
        Packet::PingResp => "PINGRESP".to_owned(),
    }
}
