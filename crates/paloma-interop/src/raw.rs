//! A client that sends exactly the bytes it is given, and reads packets without judging them.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::PATIENCE;
use crate::peer::Version;
use crate::wire::{self, Connect};

/// A packet as it came: its first byte and its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Type and flags.
    pub first: u8,
    /// What Remaining Length counts.
    pub body: Vec<u8>,
}

/// A PUBLISH as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// DUP.
    pub dup: bool,
    /// Quality of service.
    pub qos: u8,
    /// RETAIN.
    pub retain: bool,
    /// Topic.
    pub topic: String,
    /// Packet identifier; 0 at QoS 0.
    pub id: u16,
    /// Properties without their length.
    pub properties: Vec<u8>,
    /// Payload.
    pub payload: Vec<u8>,
}

impl Frame {
    /// The packet identifier, for packets that begin with one.
    #[must_use]
    pub fn id(&self) -> u16 {
        u16::from_be_bytes([self.body[0], self.body[1]])
    }

    /// The reason code of an acknowledgement of a PUBLISH; left out means success.
    #[must_use]
    pub fn ack_reason(&self) -> u8 {
        self.body.get(2).copied().unwrap_or(0)
    }

    /// The reason code of a DISCONNECT; left out means success. `None` for other packets.
    #[must_use]
    pub fn disconnect_reason(&self) -> Option<u8> {
        (self.first == 0xE0).then(|| self.body.first().copied().unwrap_or(0))
    }

    /// The return or reason code of a CONNACK. `None` for other packets.
    #[must_use]
    pub fn connack_reason(&self) -> Option<u8> {
        (self.first == 0x20).then(|| self.body[1])
    }

    /// The codes of a SUBACK or UNSUBACK without properties.
    #[must_use]
    pub fn codes(&self, version: Version) -> &[u8] {
        let start = match version {
            Version::V311 => 2,
            Version::V5 => 2 + 1 + usize::from(self.body[2]),
        };
        &self.body[start..]
    }

    /// The parts of a PUBLISH. `None` for other packets.
    ///
    /// # Panics
    /// If the broker has sent a malformed one.
    #[must_use]
    pub fn publish(&self, version: Version) -> Option<Publish> {
        if self.first & 0xF0 != 0x30 {
            return None;
        }
        let mut rest = &self.body[..];
        let mut take = |count: usize| {
            let (taken, left) = rest.split_at(count);
            rest = left;
            taken
        };
        let length = take(2);
        let topic = take(usize::from(u16::from_be_bytes([length[0], length[1]])));
        let qos = self.first >> 1 & 3;
        let id = if qos == 0 {
            0
        } else {
            u16::from_be_bytes(take(2).try_into().unwrap())
        };
        let properties = match version {
            Version::V311 => &[],
            Version::V5 => {
                let mut length = 0;
                let mut shift = 0;
                loop {
                    let byte = take(1)[0];
                    length |= usize::from(byte & 0x7F) << shift;
                    shift += 7;
                    if byte & 0x80 == 0 {
                        break take(length);
                    }
                }
            }
        };
        Some(Publish {
            dup: self.first & 0x08 != 0,
            qos,
            retain: self.first & 0x01 != 0,
            topic: String::from_utf8(topic.to_vec()).unwrap(),
            id,
            properties: properties.to_vec(),
            payload: rest.to_vec(),
        })
    }
}

/// A connection and what has been read from it but not yet taken.
#[derive(Debug)]
pub struct RawClient {
    stream: TcpStream,
    version: Version,
    unread: Vec<u8>,
}

impl RawClient {
    /// Opens a connection and sends nothing.
    ///
    /// # Panics
    /// If it is refused.
    #[must_use]
    pub fn open(address: SocketAddr, version: Version) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        // A peer that does not read must not block a test for ever.
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self {
            stream,
            version,
            unread: Vec::new(),
        }
    }

    /// Connects with a clean session.
    #[must_use]
    pub fn connect(address: SocketAddr, version: Version, client_id: &str) -> Self {
        Self::connect_as(address, version, &Connect::new(version, client_id)).0
    }

    /// Connects as told, and returns Session Present too.
    ///
    /// # Panics
    /// If the broker refuses.
    #[must_use]
    pub fn connect_as(address: SocketAddr, version: Version, connect: &Connect) -> (Self, bool) {
        let mut client = Self::open(address, version);
        client.send(&connect.encode());
        let answer = client.frame();
        assert_eq!(
            answer.connack_reason(),
            Some(0),
            "CONNACK, not {answer:02x?}"
        );
        (client, answer.body[0] == 1)
    }

    /// The protocol version it speaks.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Another handle to the socket, for a thread that only sends.
    ///
    /// # Errors
    /// If the system has no descriptor for it.
    pub fn sender(&self) -> std::io::Result<TcpStream> {
        self.stream.try_clone()
    }

    /// Sends bytes, asserting that the connection takes them.
    ///
    /// # Panics
    /// If it does not.
    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes)
            .unwrap_or_else(|error| panic!("cannot send: {error}"));
    }

    /// Sends bytes to a peer that may have closed.
    ///
    /// # Errors
    /// What the socket says.
    pub fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends PUBLISH without properties.
    pub fn publish(&mut self, qos: u8, id: u16, topic: &str, payload: &[u8]) {
        self.send(&wire::publish(self.version, qos, id, topic, payload));
    }

    /// Subscribes and returns the codes of SUBACK.
    ///
    /// # Panics
    /// If something else is answered.
    pub fn subscribe(&mut self, filters: &[(&str, u8)]) -> Vec<u8> {
        self.send(&wire::subscribe(self.version, 0xFFFE, filters));
        loop {
            let frame = self.frame();
            if frame.first == 0x90 {
                return frame.codes(self.version).to_vec();
            }
            // Only retained messages may come before.
            assert_eq!(frame.first & 0xF0, 0x30, "{frame:02x?} before SUBACK");
        }
    }

    /// The next packet.
    ///
    /// # Panics
    /// If the connection ends instead.
    pub fn frame(&mut self) -> Frame {
        self.frame_or_end()
            .expect("a packet, but the connection has ended")
    }

    /// The next packet, or `None` at the end of the connection.
    ///
    /// # Panics
    /// If there is neither in time.
    pub fn frame_or_end(&mut self) -> Option<Frame> {
        self.frame_within(PATIENCE)
            .unwrap_or_else(|| panic!("neither a packet nor an end"))
    }

    /// The next packet, `Some(None)` at the end of the connection, or `None` when the time has passed.
    ///
    /// # Panics
    /// If the socket fails in another way than by ending.
    pub fn frame_within(&mut self, patience: Duration) -> Option<Option<Frame>> {
        let deadline = Instant::now() + patience;
        let mut buffer = [0; 64 * 1024];
        loop {
            if let Some(frame) = take_frame(&mut self.unread) {
                return Some(Some(frame));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            self.stream.set_read_timeout(Some(left)).unwrap();
            match self.stream.read(&mut buffer) {
                Ok(0) => return Some(None),
                Ok(count) => self.unread.extend_from_slice(&buffer[..count]),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    // The broker may close while bytes of ours are on their way to it.
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => return Some(None),
                    other => panic!("cannot read: {other}"),
                },
            }
        }
    }

    /// Every packet until the broker closes the connection.
    pub fn until_end(&mut self) -> Vec<Frame> {
        std::iter::from_fn(|| self.frame_or_end()).collect()
    }

    /// The next PUBLISH, acknowledged as its QoS asks. A PUBREL on the way is answered; other packets are passed over.
    pub fn message(&mut self) -> Publish {
        loop {
            let frame = self.frame();
            if frame.first == wire::PUBREL {
                self.send(&wire::ack(wire::PUBCOMP, frame.id()));
            }
            let Some(publish) = frame.publish(self.version) else {
                continue;
            };
            match publish.qos {
                0 => {}
                1 => self.send(&wire::ack(wire::PUBACK, publish.id)),
                _ => self.send(&wire::ack(wire::PUBREC, publish.id)),
            }
            return publish;
        }
    }

    /// The next PUBLISH, not acknowledged. Other packets are passed over.
    pub fn unacknowledged(&mut self) -> Publish {
        loop {
            if let Some(publish) = self.frame().publish(self.version) {
                return publish;
            }
        }
    }

    /// Publishes, and waits until the exchange is complete. Other packets are passed over.
    pub fn publish_fully(&mut self, qos: u8, id: u16, topic: &str, payload: &[u8]) {
        self.publish(qos, id, topic, payload);
        match qos {
            0 => {}
            1 => self.skip_to(wire::PUBACK, id),
            _ => {
                self.skip_to(wire::PUBREC, id);
                self.send(&wire::ack(wire::PUBREL, id));
                self.skip_to(wire::PUBCOMP, id);
            }
        }
    }

    /// Passes over packets up to an acknowledgement, by its first byte and identifier.
    ///
    /// # Panics
    /// If it carries an error.
    pub fn skip_to(&mut self, first: u8, id: u16) {
        loop {
            let frame = self.frame();
            if frame.first == first && frame.id() == id {
                assert!(frame.ack_reason() < 0x80, "{frame:02x?}");
                return;
            }
        }
    }

    /// Passes over everything up to the answer to a PINGREQ: what was sent before has been handled then.
    pub fn ping(&mut self) {
        self.send(&wire::PINGREQ);
        while self.frame().first != 0xD0 {}
    }

    /// Leaves without DISCONNECT, and waits until the broker has noticed.
    pub fn leave(mut self) {
        self.finish();
        self.until_end();
    }

    /// Sends no more, but still reads.
    pub fn finish(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}

/// Takes the first packet out of what was read, once it is whole.
///
/// # Panics
/// If its Remaining Length has more than four bytes.
pub fn take_frame(unread: &mut Vec<u8>) -> Option<Frame> {
    let mut length = 0;
    for position in 1..=4 {
        let byte = *unread.get(position)?;
        length |= usize::from(byte & 0x7F) << (7 * (position - 1));
        if byte & 0x80 == 0 {
            let end = position + 1 + length;
            if unread.len() < end {
                return None;
            }
            let body = unread[position + 1..end].to_vec();
            let first = unread[0];
            unread.drain(..end);
            return Some(Frame { first, body });
        }
    }
    panic!("the broker has sent a Remaining Length of more than four bytes");
}
