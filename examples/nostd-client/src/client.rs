//! The whole client: a loop around a session that owns no socket and no clock.

use alloc::vec::Vec;

use paloma_codec::{Connect, DecodeLimits, Decoder, Disconnect, Message, MessageParts, Qos};
use paloma_session::{
    Connection, Event, Gate, LogSeq, Monotonic, Now, Options, Outbound, Pushed, QueueLimits,
    Session, Timeout, Transmit, Wall, client,
};
use paloma_topic::TopicNameRef;

const CLIENT_ID: &str = "nostd-client";
const TOPIC: &str = "device/reading";
const KEEP_ALIVE_SECONDS: u16 = 30;

/// How long the broker may take for everything, in milliseconds.
const PATIENCE_MILLIS: u64 = 60_000;

/// The largest packet that is taken from the broker, in bytes.
const PACKET_BYTES_MAX: usize = 512;

/// What the device provides.
pub(crate) trait Device {
    /// Bytes from the connection; 0 if there are none yet, `None` if it is gone.
    fn read(&mut self, bytes: &mut [u8]) -> Option<usize>;

    /// Sends all bytes, or says that the connection is gone.
    fn write(&mut self, bytes: &[u8]) -> bool;

    /// Milliseconds on a clock that never goes back.
    fn millis(&self) -> u64;
}

/// Why the broker does not have the message for certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Failure {
    /// A null pointer, or a payload that does not fit a packet.
    Argument = 1,
    /// The connection is gone.
    Gone = 2,
    /// The broker did not let us in, or did not take the message.
    Refused = 3,
    /// The broker broke the protocol.
    Violation = 4,
    /// The broker did not answer in time.
    Timeout = 5,
}

/// Connects, publishes, waits for PUBACK, disconnects.
pub(crate) fn publish(device: &mut impl Device, payload: &[u8]) -> Result<(), Failure> {
    let mut link = Link::new(device);
    let mut session = Session::new(QueueLimits {
        count_max: 1,
        ..QueueLimits::default()
    });
    session_with(&mut session, payload)?;
    let mut connection = link.connect(&mut session)?;
    let taken = link.deliver(&mut connection, &mut session);
    connection.disconnect(&Disconnect::default());
    link.transmit(&mut connection, &mut session)?;
    taken
}

fn session_with(session: &mut Session, payload: &[u8]) -> Result<(), Failure> {
    let parts = MessageParts {
        id: 1,
        stamp: 0,
        topic: TopicNameRef::new(TOPIC).map_err(|_| Failure::Argument)?,
        properties: &Default::default(),
        payload,
    };
    let message = Message::new(&parts, &mut Vec::new()).map_err(|_| Failure::Argument)?;
    match session.enqueue(Outbound::new(message, Qos::AtLeastOnce), &[], |_| {}) {
        Pushed::Stored => Ok(()),
        Pushed::Full(_) => Err(Failure::Argument),
    }
}

/// The connection's bytes.
struct Link<'d, D> {
    device: &'d mut D,
    decoder: Decoder,
    input: Vec<u8>,
    out: Transmit,
    since: u64,
}

impl<'d, D: Device> Link<'d, D> {
    fn new(device: &'d mut D) -> Self {
        let limits = DecodeLimits {
            packet_bytes_max: PACKET_BYTES_MAX as u32,
            ..DecodeLimits::default()
        };
        let since = device.millis();
        Self {
            device,
            decoder: Decoder::client(Connect::default().version, limits),
            input: Vec::with_capacity(PACKET_BYTES_MAX),
            out: Transmit::new(PACKET_BYTES_MAX, usize::MAX),
            since,
        }
    }

    fn connect(&mut self, session: &mut Session) -> Result<Connection, Failure> {
        let connect = Connect {
            client_id: CLIENT_ID.into(),
            keep_alive_seconds: KEEP_ALIVE_SECONDS,
            maximum_packet_size: core::num::NonZeroU32::new(PACKET_BYTES_MAX as u32),
            ..Connect::default()
        };
        let mut handshake = client::Handshake::new(&connect).map_err(|_| Failure::Argument)?;
        let _ = handshake.poll_transmit(&mut self.out);
        self.write()?;
        let conn_ack = loop {
            self.read()?;
            let Some((packet, used)) = self
                .decoder
                .decode(&self.input)
                .map_err(|_| Failure::Violation)?
            else {
                continue;
            };
            let event = handshake
                .handle_packet(packet)
                .map_err(|_| Failure::Violation)?;
            self.input.drain(..used);
            match event {
                client::HandshakeEvent::Accepted(conn_ack) => break conn_ack,
                client::HandshakeEvent::Refused(_)
                | client::HandshakeEvent::Disconnect(_)
                | client::HandshakeEvent::Auth(_) => return Err(Failure::Refused),
            }
        };
        handshake
            .open(self.now(), session, &conn_ack, Options::default(), |_| {})
            .map_err(|_| Failure::Violation)
    }

    /// Until the broker has the message.
    fn deliver(
        &mut self,
        connection: &mut Connection,
        session: &mut Session,
    ) -> Result<(), Failure> {
        loop {
            self.transmit(connection, session)?;
            if !self.out.dropped().is_empty() {
                return Err(Failure::Refused);
            }
            self.read()?;
            let now = self.now();
            if connection.handle_timeout(now.monotonic) == Timeout::Expired {
                return Err(Failure::Timeout);
            }
            let decoded = self
                .decoder
                .decode(&self.input)
                .map_err(|_| Failure::Violation)?;
            let Some((packet, used)) = decoded else {
                continue;
            };
            let event = connection
                .handle_packet(now, session, packet, Gate::Open)
                .map_err(|_| Failure::Violation)?;
            match event {
                Event::Acknowledged { reason, .. } if reason.is_error() => {
                    return Err(Failure::Refused);
                }
                Event::Acknowledged { .. } => return Ok(()),
                Event::Disconnect(_) => return Err(Failure::Gone),
                _ => {}
            }
            self.input.drain(..used);
        }
    }

    fn transmit(
        &mut self,
        connection: &mut Connection,
        session: &mut Session,
    ) -> Result<(), Failure> {
        self.out.clear();
        let now = self.now();
        let _ = connection.poll_transmit(now, LogSeq::ZERO, session, &mut self.out);
        self.write()
    }

    fn write(&mut self) -> Result<(), Failure> {
        if self.out.is_empty() || self.device.write(self.out.bytes()) {
            return Ok(());
        }
        Err(Failure::Gone)
    }

    /// Takes what the device has; after it there may be a packet.
    fn read(&mut self) -> Result<(), Failure> {
        let mut bytes = [0; 64];
        let read = self.device.read(&mut bytes).ok_or(Failure::Gone)?;
        self.input
            .extend_from_slice(bytes.get(..read).ok_or(Failure::Gone)?);
        if self.device.millis().saturating_sub(self.since) > PATIENCE_MILLIS {
            return Err(Failure::Timeout);
        }
        Ok(())
    }

    fn now(&self) -> Now {
        let millis = self.device.millis();
        Now::new(Monotonic::from_millis(millis), Wall::from_millis(millis))
    }
}
