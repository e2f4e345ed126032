//! A client that does exactly what a test says, and takes nothing from the broker that was not asked for.

use std::collections::VecDeque;
use std::fmt;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use paloma_codec::{
    Ack, DecodeLimits, Decoder, Delivery, Disconnect, DisconnectReason, Encode, Packet, PacketId,
    ProtocolVersion, PubCompReason, PubRelReason, Publish,
};

use crate::target::Stream;
use crate::verdict::{Stop, Verdict, ensure, same};
use crate::wire;

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For an answer that is owed: much more than it takes.
    pub answer: Duration,
    /// For something that must not come, behind a PINGRESP that has.
    pub quiet: Duration,
    /// When the whole test must be over.
    pub deadline: Instant,
}

/// What a read has found.
#[derive(Debug)]
pub enum Found {
    /// A packet.
    Packet(Packet),
    /// The broker has closed the connection.
    End,
    /// Nothing in time.
    Nothing,
}

/// One connection.
pub struct Client {
    stream: Box<dyn Stream>,
    version: ProtocolVersion,
    decoder: Decoder,
    unread: BytesMut,
    /// Messages that came before the answer that a test waited for.
    held: VecDeque<Publish>,
    /// Of the packet that came last.
    last_first_byte: u8,
    next_id: u16,
    patience: Patience,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("version", &self.version)
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Over a stream on which nothing has been said.
    #[must_use]
    pub fn new(stream: Box<dyn Stream>, version: ProtocolVersion, patience: Patience) -> Self {
        Self {
            stream,
            version,
            decoder: Decoder::client(version, DecodeLimits::UNLIMITED),
            unread: BytesMut::new(),
            held: VecDeque::new(),
            last_first_byte: 0,
            next_id: 0,
            patience,
        }
    }

    /// A packet identifier that this client has not used yet.
    pub fn fresh_id(&mut self) -> PacketId {
        self.next_id = self.next_id.wrapping_add(1);
        PacketId::new(self.next_id).unwrap_or(PacketId::MIN)
    }

    /// The first byte of the packet that came last.
    #[must_use]
    pub fn last_first_byte(&self) -> u8 {
        self.last_first_byte
    }

    /// Sends a packet.
    ///
    /// # Errors
    /// It cannot be encoded, or the socket fails.
    #[track_caller]
    pub fn send(&mut self, packet: &impl Encode) -> Verdict {
        let mut bytes = Vec::new();
        packet.encode(self.version, &mut bytes)?;
        self.send_bytes(&bytes)
    }

    /// Sends bytes; a broker that has closed already is no error, since what came of it is read next.
    ///
    /// # Errors
    /// The socket fails in another way.
    #[track_caller]
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Verdict {
        match self
            .stream
            .write_all(bytes)
            .and_then(|()| self.stream.flush())
        {
            Ok(()) => Ok(()),
            Err(error) if is_end(error.kind()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// What comes within a time.
    ///
    /// # Errors
    /// The broker sends a malformed packet, or the socket fails.
    #[track_caller]
    pub fn read_within(&mut self, patience: Duration) -> Verdict<Found> {
        let until = (Instant::now() + patience).min(self.patience.deadline);
        let mut buffer = [0; 16 * 1024];
        loop {
            let first = self.unread.first().copied();
            if let Some(packet) = self.decoder.decode_owned(&mut self.unread)? {
                self.last_first_byte = first.unwrap_or_default();
                return Ok(Found::Packet(packet));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Found::Nothing);
            }
            self.stream
                .set_patience(left.max(Duration::from_millis(1)))?;
            match self.stream.read(&mut buffer) {
                Ok(0) => return self.at_end(),
                Ok(count) => self
                    .unread
                    .extend_from_slice(buffer.get(..count).unwrap_or_default()),
                Err(error) if is_patience(error.kind()) => {}
                Err(error) if is_end(error.kind()) => return self.at_end(),
                Err(error) => return Err(error.into()),
            }
        }
    }

    #[track_caller]
    fn at_end(&self) -> Verdict<Found> {
        ensure(
            self.unread.is_empty(),
            "the connection ended inside a packet",
        )?;
        Ok(Found::End)
    }

    /// The next packet, which has to come.
    ///
    /// # Errors
    /// None comes.
    #[track_caller]
    pub fn packet(&mut self) -> Verdict<Packet> {
        if let Some(publish) = self.held.pop_front() {
            return Ok(Packet::Publish(Box::new(publish)));
        }
        match self.read_within(self.patience.answer)? {
            Found::Packet(packet) => Ok(packet),
            Found::End => Err(Stop::failed("the broker closed the connection")),
            Found::Nothing => Err(Stop::failed("nothing came")),
        }
    }

    /// The answer that `take` wants. Messages on the way are held back for later; anything else is a failure.
    ///
    /// # Errors
    /// Another packet, or none, comes.
    #[track_caller]
    pub fn answer<T>(&mut self, what: &str, take: impl Fn(&Packet) -> Option<T>) -> Verdict<T> {
        loop {
            match self.read_within(self.patience.answer)? {
                Found::Packet(packet) => {
                    if let Some(taken) = take(&packet) {
                        return Ok(taken);
                    }
                    let Packet::Publish(publish) = packet else {
                        return Err(Stop::failed(format!("wanted {what}, got {packet:?}")));
                    };
                    self.held.push_back(*publish);
                }
                Found::End => {
                    return Err(Stop::failed(format!(
                        "wanted {what}, and the broker closed the connection"
                    )));
                }
                Found::Nothing => return Err(Stop::failed(format!("no {what} came"))),
            }
        }
    }

    /// The next packet, which has to be a PUBLISH; it is not acknowledged.
    ///
    /// # Errors
    /// It is none.
    #[track_caller]
    pub fn unacknowledged(&mut self) -> Verdict<Publish> {
        match self.packet()? {
            Packet::Publish(publish) => Ok(*publish),
            other => Err(Stop::failed(format!("wanted PUBLISH, got {other:?}"))),
        }
    }

    /// The next packet, which has to be a PUBLISH, acknowledged to the end as its QoS asks.
    ///
    /// # Errors
    /// It is none, or its exchange does not end.
    #[track_caller]
    pub fn message(&mut self) -> Verdict<Publish> {
        let publish = self.unacknowledged()?;
        self.acknowledge(&publish)?;
        Ok(publish)
    }

    /// Acknowledges a PUBLISH to the end.
    ///
    /// # Errors
    /// The exchange does not end.
    #[track_caller]
    pub fn acknowledge(&mut self, publish: &Publish) -> Verdict {
        match publish.delivery {
            Delivery::AtMostOnce => Ok(()),
            Delivery::AtLeastOnce { id, .. } => self.send_bytes(&wire::ack(0x40, id.get())),
            Delivery::ExactlyOnce { id, .. } => {
                self.send_bytes(&wire::ack(0x50, id.get()))?;
                let reason = self.pub_rel(id)?;
                same("PUBREL's reason", reason, PubRelReason::Success)?;
                self.send_bytes(&wire::ack(0x70, id.get()))
            }
        }
    }

    /// The next message, acknowledged, if one has come or comes within the time that counts as silence.
    ///
    /// # Errors
    /// Another packet comes, or the end.
    #[track_caller]
    pub fn message_if_any(&mut self) -> Verdict<Option<Publish>> {
        let publish = match self.held.pop_front() {
            Some(publish) => publish,
            None => match self.read_within(self.patience.quiet)? {
                Found::Nothing => return Ok(None),
                Found::Packet(Packet::Publish(publish)) => *publish,
                Found::Packet(other) => {
                    return Err(Stop::failed(format!("wanted PUBLISH, got {other:?}")));
                }
                Found::End => return Err(Stop::failed("the broker closed the connection")),
            },
        };
        self.acknowledge(&publish)?;
        Ok(Some(publish))
    }

    /// The payload of the next message, acknowledged.
    ///
    /// # Errors
    /// None comes.
    #[track_caller]
    pub fn payload(&mut self) -> Verdict<String> {
        let message = self.message()?;
        Ok(String::from_utf8_lossy(&message.payload).into_owned())
    }

    /// Fails unless the next messages have these payloads, in this order.
    ///
    /// # Errors
    /// They differ.
    #[track_caller]
    pub fn payloads(&mut self, wanted: &[&str]) -> Verdict {
        for payload in wanted {
            same("the payload", self.payload()?, *payload)?;
        }
        Ok(())
    }

    /// The reason of the PUBACK of this exchange.
    ///
    /// # Errors
    /// None comes.
    #[track_caller]
    pub fn pub_ack(&mut self, id: PacketId) -> Verdict<u8> {
        self.answer("PUBACK", |packet| match packet {
            Packet::PubAck(Ack {
                id: got, reason, ..
            }) if *got == id => Some(reason.code()),
            _ => None,
        })
    }

    /// The reason of the PUBREC of this exchange.
    ///
    /// # Errors
    /// None comes.
    #[track_caller]
    pub fn pub_rec(&mut self, id: PacketId) -> Verdict<u8> {
        self.answer("PUBREC", |packet| match packet {
            Packet::PubRec(Ack {
                id: got, reason, ..
            }) if *got == id => Some(reason.code()),
            _ => None,
        })
    }

    /// The reason of the PUBREL of this exchange.
    ///
    /// # Errors
    /// None comes.
    #[track_caller]
    pub fn pub_rel(&mut self, id: PacketId) -> Verdict<PubRelReason> {
        self.answer("PUBREL", |packet| match packet {
            Packet::PubRel(Ack {
                id: got, reason, ..
            }) if *got == id => Some(*reason),
            _ => None,
        })
    }

    /// The reason of the PUBCOMP of this exchange.
    ///
    /// # Errors
    /// None comes.
    #[track_caller]
    pub fn pub_comp(&mut self, id: PacketId) -> Verdict<PubCompReason> {
        self.answer("PUBCOMP", |packet| match packet {
            Packet::PubComp(Ack {
                id: got, reason, ..
            }) if *got == id => Some(*reason),
            _ => None,
        })
    }

    /// Asks for a PINGRESP: what was sent before has been read then.
    ///
    /// # Errors
    /// None comes.
    #[track_caller]
    pub fn ping(&mut self) -> Verdict {
        self.send_bytes(&wire::PINGREQ)?;
        self.answer("PINGRESP", |packet| {
            matches!(packet, Packet::PingResp).then_some(())
        })
    }

    /// Fails if anything comes, or has come, that was not asked for.
    ///
    /// # Errors
    /// Something does.
    #[track_caller]
    pub fn quiet(&mut self) -> Verdict {
        self.ping()?;
        if let Some(held) = self.held.front() {
            return Err(Stop::failed(format!("nothing should come, but {held:?}")));
        }
        match self.read_within(self.patience.quiet)? {
            Found::Nothing => Ok(()),
            Found::Packet(packet) => {
                Err(Stop::failed(format!("nothing should come, but {packet:?}")))
            }
            Found::End => Err(Stop::failed("the broker closed the connection")),
        }
    }

    /// Waits for the broker to close the connection. It may say why before that in 5.0, and nothing else.
    ///
    /// # Errors
    /// It stays open, or something else comes.
    #[track_caller]
    pub fn ends(&mut self) -> Verdict<Option<DisconnectReason>> {
        let mut said = None;
        loop {
            match self.read_within(self.patience.answer)? {
                Found::End => return Ok(said),
                Found::Packet(Packet::Disconnect(packet)) if said.is_none() => {
                    said = Some(packet.reason);
                }
                Found::Packet(packet) => {
                    return Err(Stop::failed(format!(
                        "the connection should end, but {packet:?} came"
                    )));
                }
                Found::Nothing => {
                    return Err(Stop::failed("the connection should end, but stays open"));
                }
            }
        }
    }

    /// Waits for the broker to close the connection; if it says why, with one of these reasons.
    ///
    /// # Errors
    /// It does not, or for another reason.
    #[track_caller]
    pub fn is_refused(&mut self, reasons: &[DisconnectReason]) -> Verdict {
        match self.ends()? {
            None => Ok(()),
            Some(reason) => ensure(
                reasons.contains(&reason),
                format!("DISCONNECT says {reason:?}, not one of {reasons:?}"),
            ),
        }
    }

    /// Leaves with DISCONNECT, and waits until the broker has taken it.
    ///
    /// # Errors
    /// The socket fails.
    #[track_caller]
    pub fn disconnect(self) -> Verdict {
        self.disconnect_with(&Disconnect::new(DisconnectReason::NormalDisconnection))
    }

    /// Leaves with this DISCONNECT, and waits until the broker has taken it.
    ///
    /// # Errors
    /// The socket fails.
    #[track_caller]
    pub fn disconnect_with(mut self, disconnect: &Disconnect) -> Verdict {
        self.send(disconnect)?;
        // Brokers need not close first, so that no end in time is none of theirs.
        let until = Instant::now() + Duration::from_secs(2);
        while Instant::now() < until {
            if let Found::End = self.read_within(Duration::from_secs(2))? {
                break;
            }
        }
        self.cut();
        Ok(())
    }

    /// Leaves without a word.
    pub fn cut(mut self) {
        self.stream.cut();
    }

    /// Leaves without a word, and waits until the broker has noticed, which it shows by closing too.
    pub fn hang_up(mut self) {
        self.stream.finish();
        let until = Instant::now() + self.patience.answer;
        while Instant::now() < until {
            // What it says meanwhile is said to nobody.
            if let Ok(Found::End) | Err(_) = self.read_within(self.patience.answer) {
                return;
            }
        }
    }

    /// Sends nothing for a while.
    pub fn wait(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

fn is_end(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::BrokenPipe
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::NotConnected
            | ErrorKind::UnexpectedEof
            | ErrorKind::WriteZero
    )
}

fn is_patience(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}
