//! One end against a peer that says anything: a byte of setup, then packets as the peer writes them.
//!
//! Whatever comes, nothing panics, windows and tables stay in bounds, and what the end writes decodes.

use paloma_codec::{
    ConnAck, Connect, DecodeLimits, Decoder, Message, MessageParts, PacketRef, ProtocolVersion,
    PubAckReason, PublishProperties, Qos, ReceiveMaximum,
};
use paloma_session::{
    Connection, Event, Gate, LogSeq, Now, Options, Outbound, QueueLimits, Session, Transmit,
    TransmitStatus, client, server,
};
use paloma_topic::TopicNameRef;

const RECEIVE_MAXIMUM: u16 = 4;
const LEVELS: [Qos; 3] = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce];

/// Feeds the packets to one end, connection after connection, on one session.
pub fn run(data: &[u8]) {
    let Some((flags, mut rest)) = data.split_first() else {
        return;
    };
    let version = match flags & 1 {
        0 => ProtocolVersion::V5,
        _ => ProtocolVersion::V3_1_1,
    };
    let limits = QueueLimits {
        count_max: 8,
        ..QueueLimits::default()
    };
    let mut session = Session::new(limits);
    session.set_established();
    // A violation ends a connection; the rest of the bytes goes to the next one.
    while !rest.is_empty() {
        let before = rest.len();
        rest = connection(*flags, version, &mut session, rest);
        assert!(rest.len() < before, "a connection consumes something");
    }
}

/// One connection; returns the bytes that it did not read.
fn connection<'a>(
    flags: u8,
    version: ProtocolVersion,
    session: &mut Session,
    input: &'a [u8],
) -> &'a [u8] {
    let now = Now::default();
    let is_server = flags & 2 == 0;
    let (mut connection, mut decoder, mut checker) = if is_server {
        open_server(version, session)
    } else {
        open_client(version, session)
    };
    let mut out = Transmit::default();
    let mut rest = input;
    let mut turn = 0;
    while let Ok(Some((packet, used))) = decoder.decode(rest) {
        rest = &rest[used..];
        turn += 1;
        enqueue(session, LEVELS[turn % 3]);
        match connection.handle_packet(now, session, packet, Gate::Until(LogSeq(turn as u64))) {
            Ok(Event::Publish(inbound)) => {
                if let Some(receipt) = inbound.receipt {
                    let reason = PubAckReason::ALL[turn % PubAckReason::ALL.len()];
                    connection.acknowledge(session, receipt, reason, Gate::Open);
                }
            }
            Ok(_) => {}
            Err(violation) => connection.abort(violation.reason()),
        }
        out.clear();
        let committed = LogSeq(turn as u64 - u64::from(flags >> 7));
        let status = connection.poll_transmit(now, committed, session, &mut out);
        check(&connection, session, &out, &mut checker);
        if status == TransmitStatus::Close {
            break;
        }
    }
    let _ = connection.handle_closed(session);
    // Bytes that are no packet end the connection; the next one begins behind them.
    if rest.len() == input.len() {
        &rest[1..]
    } else {
        rest
    }
}

fn open_server(version: ProtocolVersion, session: &mut Session) -> (Connection, Decoder, Decoder) {
    let connect = connect(version);
    let mut bytes = Vec::new();
    let packet = paloma_codec::Packet::Connect(Box::new(connect));
    packet
        .encode(version, &mut bytes)
        .expect("a plain CONNECT has a form in every version");
    let mut decoder = Decoder::server(DecodeLimits::default());
    let (packet, _) = decoder
        .decode(&bytes)
        .expect("our own packet")
        .expect("and whole");
    let mut handshake = server::Handshake::new();
    handshake
        .handle_packet(packet)
        .expect("CONNECT comes first");
    let connection = handshake
        .accept(
            Now::default(),
            session,
            &conn_ack(),
            Options::default(),
            Gate::Open,
        )
        .expect("a decision is due");
    (
        connection,
        decoder,
        Decoder::client(version, DecodeLimits::default()),
    )
}

fn open_client(version: ProtocolVersion, session: &mut Session) -> (Connection, Decoder, Decoder) {
    let mut handshake = client::Handshake::new(&connect(version)).expect("a plain CONNECT");
    let mut out = Transmit::default();
    let _ = handshake.poll_transmit(&mut out);
    let mut checker = Decoder::server(DecodeLimits::default());
    checker.decode(out.bytes()).expect("our own packet");
    handshake
        .handle_packet(PacketRef::ConnAck(Box::new(conn_ack())))
        .expect("CONNACK comes first");
    let connection = handshake
        .open(
            Now::default(),
            session,
            &conn_ack(),
            Options::default(),
            |_| {},
        )
        .expect("the session is known");
    (
        connection,
        Decoder::client(version, DecodeLimits::default()),
        checker,
    )
}

fn connect(version: ProtocolVersion) -> Connect {
    Connect {
        version,
        client_id: "c".into(),
        clean_start: false,
        session_expiry_seconds: u32::MAX,
        receive_maximum: ReceiveMaximum::new(RECEIVE_MAXIMUM).expect("not zero"),
        topic_alias_maximum: 2,
        ..Connect::default()
    }
}

fn conn_ack() -> ConnAck {
    ConnAck {
        session_present: true,
        receive_maximum: ReceiveMaximum::new(RECEIVE_MAXIMUM).expect("not zero"),
        topic_alias_maximum: 2,
        ..ConnAck::default()
    }
}

fn enqueue(session: &mut Session, qos: Qos) {
    let parts = MessageParts {
        id: 1,
        stamp: 0,
        topic: TopicNameRef::new("t").expect("a topic"),
        properties: &PublishProperties::default(),
        payload: b"x",
    };
    let message = Message::new(&parts, &mut Vec::new()).expect("a small message");
    let _ = session.enqueue(Outbound::new(message, qos), &[], |_| {});
}

fn check(connection: &Connection, session: &Session, out: &Transmit, checker: &mut Decoder) {
    if connection.version().is_v5() {
        assert!(connection.open_inbound() <= RECEIVE_MAXIMUM);
        assert!(connection.unacknowledged() as usize <= session.window().len());
    }
    assert!(session.queue().len() <= 8);
    let mut rest = out.bytes();
    while !rest.is_empty() {
        let (_, used) = checker.decode(rest).expect("valid").expect("whole");
        rest = &rest[used..];
    }
}
