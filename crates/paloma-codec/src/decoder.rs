//! Decoding: from bytes to the packet at their start.

use alloc::boxed::Box;

use bytes::{Bytes, BytesMut};

use crate::ack::ack;
use crate::auth::auth;
use crate::connack::conn_ack;
use crate::connect::{connect, preamble};
use crate::disconnect::disconnect;
use crate::frame;
use crate::publish::publish;
use crate::read::{self, Parsed};
use crate::subscribe::{sub_ack, subscribe};
use crate::unsubscribe::{unsub_ack, unsubscribe};
use crate::{DecodeError, DecodeLimits, Packet, PacketRef, PacketType, ProtocolVersion};

/// Turns the bytes of one direction of one connection into packets.
///
/// It holds the version and the limits, never bytes: the caller keeps what has not been used. A packet is looked
/// into once it is complete; until then a call costs a look at its fixed header.
#[derive(Clone, Debug)]
pub struct Decoder {
    limits: DecodeLimits,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// In a server, before CONNECT.
    AwaitConnect { answer: Option<ProtocolVersion> },
    Open {
        role: Role,
        version: ProtocolVersion,
    },
}

/// Which side of the connection decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Server,
    Client,
}

/// What parsers of bodies need to know.
#[derive(Clone, Copy)]
pub(crate) struct Context<'l> {
    pub(crate) role: Role,
    pub(crate) version: ProtocolVersion,
    pub(crate) limits: &'l DecodeLimits,
}

impl Decoder {
    /// Decodes what a client sends: a CONNECT, then packets of the version it names. [MQTT-3.1.0-1]
    pub const fn server(limits: DecodeLimits) -> Self {
        Self {
            limits,
            state: State::AwaitConnect { answer: None },
        }
    }

    /// Decodes what a server sends to a client that connected with `version`.
    pub const fn client(version: ProtocolVersion, limits: DecodeLimits) -> Self {
        Self {
            limits,
            state: State::Open {
                role: Role::Client,
                version,
            },
        }
    }

    /// The version of the connection. In a server it is `None` before CONNECT, or if a CONNECT failed too early to
    /// tell; if it failed later, it is the version that the answer has to be in.
    pub const fn version(&self) -> Option<ProtocolVersion> {
        match self.state {
            State::AwaitConnect { answer } => answer,
            State::Open { version, .. } => Some(version),
        }
    }

    /// The limits.
    pub const fn limits(&self) -> &DecodeLimits {
        &self.limits
    }

    /// Length of the packet at the start of `input`, fixed header included; `None` until enough of it is there.
    ///
    /// An adapter that gets `None` from [`decode`](Self::decode) learns here how many bytes to wait for.
    ///
    /// # Errors
    /// What can be told from the fixed header: a malformed length, a packet above the limit.
    pub fn frame_len(&self, input: &[u8]) -> Result<Option<usize>, DecodeError> {
        frame::frame_len(input, self.packet_bytes_max())
    }

    /// Decodes the packet at the start of `input` and says how many bytes it took; `None` if it is not complete.
    ///
    /// # Errors
    /// The rule that the packet broke. The connection has to end; decoding on is pointless.
    #[inline]
    pub fn decode<'a>(
        &mut self,
        input: &'a [u8],
    ) -> Result<Option<(PacketRef<'a>, usize)>, DecodeError> {
        let State::Open { role, version } = self.state else {
            return self.decode_connect(input);
        };
        let Some(header) = frame::split(input, self.limits.packet_bytes_max)? else {
            return Ok(None);
        };
        let Some(body) = header.rest.get(..header.body_len) else {
            return Ok(None);
        };
        let context = Context {
            role,
            version,
            limits: &self.limits,
        };
        let packet = if header.first >> 4 == PacketType::Publish as u8 {
            PacketRef::Publish(publish(header.first & 0x0F, body, &context).map_err(read::rule)?)
        } else {
            decode_body(header.first, body, &context)?
        };
        Ok(Some((packet, header.packet_len)))
    }

    /// Decodes the packet at the start of `buffer` and takes its bytes out; `None` if it is not complete.
    ///
    /// A PUBLISH's payload goes on sharing the buffer's storage and is not copied; everything else is. Whoever keeps
    /// small payloads for long should copy them, or they pin the whole buffer.
    ///
    /// # Errors
    /// The rule that the packet broke; `buffer` is as it was.
    pub fn decode_owned(&mut self, buffer: &mut BytesMut) -> Result<Option<Packet>, DecodeError> {
        let Some((packet, len)) = self.decode(buffer)? else {
            return Ok(None);
        };
        let mut payload_at = None;
        let mut packet = packet.into_owned_with(|publish| {
            payload_at = Some(len - publish.payload.len());
            publish.into_owned_with(Bytes::new())
        });
        let frame = buffer.split_to(len).freeze();
        if let (Packet::Publish(publish), Some(at)) = (&mut packet, payload_at) {
            publish.payload = frame.slice(at..);
        }
        Ok(Some(packet))
    }

    const fn packet_bytes_max(&self) -> u32 {
        match self.state {
            State::AwaitConnect { .. } => self.limits.connect_bytes_max,
            State::Open { .. } => self.limits.packet_bytes_max,
        }
    }

    #[cold]
    fn decode_connect<'a>(
        &mut self,
        input: &'a [u8],
    ) -> Result<Option<(PacketRef<'a>, usize)>, DecodeError> {
        // The first byte alone gives away whoever does not speak MQTT.
        match input.first() {
            None => return Ok(None),
            Some(0x10) => {}
            Some(0x11..=0x1F) => return Err(DecodeError::FixedHeaderFlags),
            Some(_) => return Err(DecodeError::ConnectExpected),
        }
        let Some(header) = frame::split(input, self.limits.connect_bytes_max)? else {
            return Ok(None);
        };
        let Some(body) = header.rest.get(..header.body_len) else {
            return Ok(None);
        };
        let preamble = preamble(body).map_err(|(error, answer)| {
            self.state = State::AwaitConnect { answer };
            error
        })?;
        let version = preamble.version;
        self.state = State::AwaitConnect {
            answer: Some(version),
        };
        let context = Context {
            role: Role::Server,
            version,
            limits: &self.limits,
        };
        let packet = whole(connect(preamble.rest, &context))?;
        self.state = State::Open {
            role: Role::Server,
            version,
        };
        Ok(Some((
            PacketRef::Connect(Box::new(packet)),
            header.packet_len,
        )))
    }
}

fn decode_body(
    first: u8,
    body: &[u8],
    context: &Context<'_>,
) -> Result<PacketRef<'static>, DecodeError> {
    let packet_type = PacketType::of_first_byte(first).ok_or(DecodeError::PacketTypeReserved)?;
    check_type(packet_type, first & 0x0F, context)?;
    Ok(match packet_type {
        PacketType::Connect => return Err(DecodeError::ConnectRepeated),
        PacketType::ConnAck => PacketRef::ConnAck(Box::new(whole(conn_ack(body, context))?)),
        // PUBLISH has its own way, which borrows.
        PacketType::Publish => return Err(DecodeError::PacketTypeReserved),
        PacketType::PubAck => PacketRef::PubAck(whole(ack(body, context))?),
        PacketType::PubRec => PacketRef::PubRec(whole(ack(body, context))?),
        PacketType::PubRel => PacketRef::PubRel(whole(ack(body, context))?),
        PacketType::PubComp => PacketRef::PubComp(whole(ack(body, context))?),
        PacketType::Subscribe => PacketRef::Subscribe(whole(subscribe(body, context))?),
        PacketType::SubAck => PacketRef::SubAck(Box::new(whole(sub_ack(body, context))?)),
        PacketType::Unsubscribe => PacketRef::Unsubscribe(whole(unsubscribe(body, context))?),
        PacketType::UnsubAck => PacketRef::UnsubAck(Box::new(whole(unsub_ack(body, context))?)),
        PacketType::PingReq => whole(Ok((body, PacketRef::PingReq)))?,
        PacketType::PingResp => whole(Ok((body, PacketRef::PingResp)))?,
        PacketType::Disconnect => {
            PacketRef::Disconnect(Box::new(whole(disconnect(body, context))?))
        }
        PacketType::Auth => PacketRef::Auth(Box::new(whole(auth(body, context))?)),
    })
}

/// Whether this side may receive the type, with these flags. [MQTT-2.1.3-1] [MQTT311-2.2.2-1]
fn check_type(
    packet_type: PacketType,
    flags: u8,
    context: &Context<'_>,
) -> Result<(), DecodeError> {
    // 3.1 marks resent requests with DUP.
    let is_resent = context.version == ProtocolVersion::V3_1 && flags == 0b1010;
    let (flags_are_right, by_client, by_server) = match packet_type {
        PacketType::Publish => (true, true, true),
        PacketType::PubRel => (flags == 0b0010 || is_resent, true, true),
        PacketType::Subscribe | PacketType::Unsubscribe => {
            (flags == 0b0010 || is_resent, true, false)
        }
        PacketType::Connect | PacketType::PingReq => (flags == 0, true, false),
        PacketType::ConnAck | PacketType::SubAck | PacketType::UnsubAck | PacketType::PingResp => {
            (flags == 0, false, true)
        }
        PacketType::PubAck | PacketType::PubRec | PacketType::PubComp => (flags == 0, true, true),
        PacketType::Disconnect => (flags == 0, true, context.version.is_v5()),
        PacketType::Auth if !context.version.is_v5() => {
            return Err(DecodeError::PacketTypeReserved);
        }
        PacketType::Auth => (flags == 0, true, true),
    };
    let may_come = match context.role {
        Role::Server => by_client,
        Role::Client => by_server,
    };
    if !flags_are_right {
        return Err(DecodeError::FixedHeaderFlags);
    }
    if may_come {
        Ok(())
    } else {
        Err(DecodeError::WrongDirection)
    }
}

/// What was read, if it was all there is.
fn whole<T>(parsed: Parsed<'_, T>) -> Result<T, DecodeError> {
    match parsed.map_err(read::rule)? {
        ([], value) => Ok(value),
        ([_, ..], _) => Err(DecodeError::TrailingBytes),
    }
}
