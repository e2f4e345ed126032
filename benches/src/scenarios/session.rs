//! Scenarios of `paloma-session`: a client and a server that hand each other bytes.

use std::sync::Arc;

use bytes::Bytes;
use paloma_codec::{
    ConnAck, Connect, DecodeLimits, Decoder, Message, MessageParts, ProtocolVersion, PubAckReason,
    PublishProperties, Qos,
};
use paloma_session::{
    Connection, Event, Gate, LogSeq, Monotonic, Now, Options, Outbound, QueueLimits, Session,
    Transmit, Wall, client, server,
};
use paloma_topic::TopicName;

use crate::{Scenario, Work};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::gated("session/open", 1, || {
        let limits = Arc::default();
        Box::new(move || drop(Pair::new(&limits)))
    }),
    Scenario::gated("session/round-trip/qos0", MESSAGES, || {
        round_trips(Qos::AtMostOnce)
    }),
    Scenario::gated("session/round-trip/qos1", MESSAGES, || {
        round_trips(Qos::AtLeastOnce)
    }),
    Scenario::gated("session/round-trip/qos2", MESSAGES, || {
        round_trips(Qos::ExactlyOnce)
    }),
    Scenario::gated("session/ping", 1, ping),
];

/// Messages that one call carries from the client to the server: a full default window.
const MESSAGES: u64 = 32;

/// Time does not pass here.
const NOW: Now = Now::new(Monotonic::from_millis(1), Wall::from_millis(1));

/// Encodes, decodes, acknowledges and completes a window of messages of 64 bytes.
fn round_trips(qos: Qos) -> Work {
    let topic = TopicName::new("site/7/device/712/state").expect("a valid topic");
    let parts = MessageParts {
        id: 1,
        stamp: 1,
        topic: topic.borrowed(),
        properties: &PublishProperties::default(),
        payload: &Bytes::from_static(&[b'x'; 64]),
    };
    let message = Message::new(&parts, &mut Vec::new()).expect("a valid message");
    let mut pair = Pair::new(&Arc::default());
    Box::new(move || {
        for _ in 0..MESSAGES {
            let outbound = Outbound::new(message.clone(), qos);
            let _ = pair.client.session.enqueue(outbound, &[], |_| {});
        }
        pair.settle();
        assert!(
            pair.client.session.window().is_empty(),
            "every exchange is complete"
        );
    })
}

fn ping() -> Work {
    let mut pair = Pair::new(&Arc::default());
    Box::new(move || {
        pair.client.connection.ping(NOW.monotonic);
        pair.settle();
    })
}

/// One end of a connection.
struct End {
    connection: Connection,
    session: Session,
    decoder: Decoder,
}

/// Both ends and the buffer between them.
struct Pair {
    client: End,
    server: End,
    wire: Transmit,
}

impl Pair {
    /// Goes through CONNECT and CONNACK, with the limits that all sessions of a broker share.
    fn new(limits: &Arc<QueueLimits>) -> Self {
        let connect = Connect {
            client_id: "device-712".into(),
            ..Connect::default()
        };
        let mut asking = client::Handshake::new(&connect).expect("a valid CONNECT");
        let mut wire = Transmit::default();
        let _ = asking.poll_transmit(&mut wire);

        let mut decoder = Decoder::server(DecodeLimits::default());
        let mut deciding = server::Handshake::new();
        let (packet, _) = decoder.decode(wire.bytes()).expect("valid").expect("whole");
        deciding.handle_packet(packet).expect("a CONNECT");
        let mut session = Session::new(Arc::clone(limits));
        let connection = deciding
            .accept(
                NOW,
                &mut session,
                &ConnAck::default(),
                Options::default(),
                Gate::Open,
            )
            .expect("somebody to let in");
        let mut server = End {
            connection,
            session,
            decoder,
        };

        wire.clear();
        server.transmit(&mut wire);
        let mut decoder = Decoder::client(ProtocolVersion::V5, DecodeLimits::default());
        let (packet, _) = decoder.decode(wire.bytes()).expect("valid").expect("whole");
        let Ok(client::HandshakeEvent::Accepted(conn_ack)) = asking.handle_packet(packet) else {
            unreachable!("the server accepts everybody")
        };
        let mut session = Session::new(Arc::clone(limits));
        let connection = asking
            .open(NOW, &mut session, &conn_ack, Options::default(), |_| {})
            .expect("a new session on both ends");
        Self {
            client: End {
                connection,
                session,
                decoder,
            },
            server,
            wire,
        }
    }

    /// Carries bytes to and fro until nobody has any.
    fn settle(&mut self) {
        loop {
            let to_server = carry(&mut self.client, &mut self.server, &mut self.wire);
            let to_client = carry(&mut self.server, &mut self.client, &mut self.wire);
            if !to_server && !to_client {
                return;
            }
        }
    }
}

impl End {
    fn transmit(&mut self, wire: &mut Transmit) {
        let _ = self
            .connection
            .poll_transmit(NOW, LogSeq(0), &mut self.session, wire);
    }
}

/// Whether there was anything to carry.
fn carry(from: &mut End, to: &mut End, wire: &mut Transmit) -> bool {
    wire.clear();
    from.transmit(wire);
    let mut rest = wire.bytes();
    let has_bytes = !rest.is_empty();
    while let Some((packet, used)) = to.decoder.decode(rest).expect("what the other end wrote") {
        let event = to
            .connection
            .handle_packet(NOW, &mut to.session, packet, Gate::Open)
            .expect("what the other end may send");
        if let Event::Publish(inbound) = event
            && let Some(receipt) = inbound.receipt
        {
            to.connection
                .acknowledge(&mut to.session, receipt, PubAckReason::Success, Gate::Open);
        }
        rest = rest.get(used..).expect("no more is used than there was");
    }
    has_bytes
}
