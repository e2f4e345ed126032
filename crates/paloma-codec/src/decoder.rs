//! Decoding: from bytes to the packet at their start.

use alloc::boxed::Box;

use bytes::{Bytes, BytesMut};
use paloma_topic::TopicNameRef;

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
use crate::{
    Ack, DecodeError, DecodeLimits, Packet, PacketId, PacketRef, PacketType, ProtocolVersion,
    PubAckReason, PubCompReason, PubRecReason, PubRelReason,
};

/// Turns the bytes of one direction of one connection into packets.
///
/// It holds the version and the limits, never bytes: the caller keeps what has not been used. A packet is looked
/// into once it is complete; until then a call costs a look at its fixed header.
#[derive(Clone, Debug)]
pub struct Decoder {
    limits: DecodeLimits,
    state: State,
}

/// How far the decoder of a connection has come: all there is to it beside its limits, for callers that keep those once
/// for all their connections.
#[derive(Clone, Copy, Debug)]
pub struct DecoderState(State);

impl DecoderState {
    /// A server's, before CONNECT.
    pub const SERVER: Self = Self(State::AwaitConnect { answer: None });

    /// As [`Decoder::version`].
    #[must_use]
    pub const fn version(self) -> Option<ProtocolVersion> {
        match self.0 {
            State::AwaitConnect { answer } => answer,
            State::Open { version, .. } => Some(version),
        }
    }
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
    #[must_use]
    pub const fn server(limits: DecodeLimits) -> Self {
        Self {
            limits,
            state: State::AwaitConnect { answer: None },
        }
    }

    /// Decodes what a server sends to a client that connected with `version`.
    #[must_use]
    pub const fn client(version: ProtocolVersion, limits: DecodeLimits) -> Self {
        Self {
            limits,
            state: State::Open {
                role: Role::Client,
                version,
            },
        }
    }

    /// Goes on where another decoder was.
    #[must_use]
    pub const fn resume(limits: DecodeLimits, DecoderState(state): DecoderState) -> Self {
        Self { limits, state }
    }

    /// Where it is, to [`resume`](Self::resume) from.
    #[must_use]
    pub const fn state(&self) -> DecoderState {
        DecoderState(self.state)
    }

    /// The version of the connection. In a server it is `None` before CONNECT, or if a CONNECT failed too early to
    /// tell; if it failed later, it is the version that the answer has to be in.
    #[must_use]
    pub const fn version(&self) -> Option<ProtocolVersion> {
        self.state().version()
    }

    /// The limits.
    #[must_use]
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
        self.decode_after(input, None)
    }

    /// Like [`decode`](Self::decode), for packets that follow one another in a buffer: the topic of a PUBLISH is not
    /// checked again if it is `known`, the topic of an earlier one that this decoder gave.
    ///
    /// # Errors
    /// As those of [`decode`](Self::decode).
    #[inline]
    pub fn decode_after<'a>(
        &mut self,
        input: &'a [u8],
        known: Option<TopicNameRef<'a>>,
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
        if header.first >> 4 == PacketType::Publish as u8 {
            return match publish(header.first & 0x0F, body, known, &context) {
                Ok(publish) => Ok(Some((PacketRef::Publish(publish), header.packet_len))),
                Err(error) => Err(read::rule(error)),
            };
        }
        if let Some(packet) = short_ack(header.first, body) {
            return Ok(Some((packet, header.packet_len)));
        }
        decode_body(header.first, body, header.packet_len, &context)
    }

    /// Like [`decode_after`](Self::decode_after), with the packet and how many bytes it took handed to `put`: the most frequent
    /// ones are written where that puts them, and not moved there. Any other is, which costs it some 40 instructions more.
    ///
    /// # Errors
    /// As those of [`decode`](Self::decode).
    #[inline]
    pub fn decode_to<'a, R>(
        &mut self,
        input: &'a [u8],
        known: Option<TopicNameRef<'a>>,
        put: impl FnOnce(PacketRef<'a>, usize) -> R,
    ) -> Result<Option<R>, DecodeError> {
        let State::Open { role, version } = self.state else {
            let decoded = self.decode_connect(input)?;
            return Ok(decoded.map(|(packet, len)| put(packet, len)));
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
        if header.first >> 4 == PacketType::Publish as u8 {
            return match publish(header.first & 0x0F, body, known, &context) {
                Ok(publish) => Ok(Some(put(PacketRef::Publish(publish), header.packet_len))),
                Err(error) => Err(read::rule(error)),
            };
        }
        if let Some(packet) = short_ack(header.first, body) {
            return Ok(Some(put(packet, header.packet_len)));
        }
        let decoded = decode_body(header.first, body, header.packet_len, &context)?;
        Ok(decoded.map(|(packet, len)| put(packet, len)))
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

/// Types whose flags are 0010, by number; all others have 0000. [MQTT-2.1.3-1] [MQTT311-2.2.2-1]
const FLAGGED: u16 = mask(&[
    PacketType::PubRel,
    PacketType::Subscribe,
    PacketType::Unsubscribe,
]);

/// Types that a client sends once it has connected. CONNECT is among them, and refused by name.
const FROM_CLIENT: u16 = mask(&[
    PacketType::Connect,
    PacketType::PubAck,
    PacketType::PubRec,
    PacketType::PubRel,
    PacketType::PubComp,
    PacketType::Subscribe,
    PacketType::Unsubscribe,
    PacketType::PingReq,
    PacketType::Disconnect,
    PacketType::Auth,
]);

/// Types that a 5.0 server sends.
const FROM_SERVER: u16 = FROM_SERVER_V3 | mask(&[PacketType::Disconnect, PacketType::Auth]);

/// Types that a server sends before 5.0.
const FROM_SERVER_V3: u16 = mask(&[
    PacketType::ConnAck,
    PacketType::PubAck,
    PacketType::PubRec,
    PacketType::PubRel,
    PacketType::PubComp,
    PacketType::SubAck,
    PacketType::UnsubAck,
    PacketType::PingResp,
]);

const fn mask(types: &[PacketType]) -> u16 {
    let (mut mask, mut rest) = (0, types);
    while let [packet_type, after @ ..] = rest {
        mask |= 1 << *packet_type as u8;
        rest = after;
    }
    mask
}

/// An acknowledgement that says nothing but success, in all versions: what nearly all of them are.
#[inline]
fn short_ack<'a>(first: u8, body: &[u8]) -> Option<PacketRef<'a>> {
    let [high, low] = *body else {
        return None;
    };
    let id = PacketId::new(u16::from_be_bytes([high, low]))?;
    match first {
        0x40 => Some(PacketRef::PubAck(Ack::new(id, PubAckReason::Success))),
        0x50 => Some(PacketRef::PubRec(Ack::new(id, PubRecReason::Success))),
        0x62 => Some(PacketRef::PubRel(Ack::new(id, PubRelReason::Success))),
        0x70 => Some(PacketRef::PubComp(Ack::new(id, PubCompReason::Success))),
        _ => None,
    }
}

/// Decodes everything but PUBLISH, which has its own way because it borrows.
///
/// Returns what `decode` does, so that a packet is put where the caller wants it and not moved there.
fn decode_body<'a>(
    first: u8,
    body: &'a [u8],
    packet_len: usize,
    context: &Context<'_>,
) -> Result<Option<(PacketRef<'a>, usize)>, DecodeError> {
    // Both sides send these four, in all versions, and more often than others.
    let packet = match first {
        0x40 => PacketRef::PubAck(whole(ack(body, context))?),
        0x50 => PacketRef::PubRec(whole(ack(body, context))?),
        0x62 => PacketRef::PubRel(whole(ack(body, context))?),
        0x70 => PacketRef::PubComp(whole(ack(body, context))?),
        _ => return decode_rare(first, body, packet_len, context),
    };
    Ok(Some((packet, packet_len)))
}

fn decode_rare<'a>(
    first: u8,
    body: &'a [u8],
    packet_len: usize,
    context: &Context<'_>,
) -> Result<Option<(PacketRef<'a>, usize)>, DecodeError> {
    let packet = match packet_type(first, context)? {
        PacketType::Connect => return Err(DecodeError::ConnectRepeated),
        PacketType::ConnAck => PacketRef::ConnAck(Box::new(whole(conn_ack(body, context))?)),
        PacketType::Publish => return Err(DecodeError::PacketTypeReserved),
        PacketType::PubAck => PacketRef::PubAck(whole(ack(body, context))?),
        PacketType::PubRec => PacketRef::PubRec(whole(ack(body, context))?),
        PacketType::PubRel => PacketRef::PubRel(whole(ack(body, context))?),
        PacketType::PubComp => PacketRef::PubComp(whole(ack(body, context))?),
        PacketType::Subscribe => PacketRef::Subscribe(whole(subscribe(body, context))?),
        PacketType::SubAck => PacketRef::SubAck(Box::new(whole(sub_ack(body, context))?)),
        PacketType::Unsubscribe => PacketRef::Unsubscribe(whole(unsubscribe(body, context))?),
        PacketType::UnsubAck => PacketRef::UnsubAck(Box::new(whole(unsub_ack(body, context))?)),
        PacketType::PingReq | PacketType::PingResp if !body.is_empty() => {
            return Err(DecodeError::TrailingBytes);
        }
        PacketType::PingReq => PacketRef::PingReq,
        PacketType::PingResp => PacketRef::PingResp,
        PacketType::Disconnect => {
            PacketRef::Disconnect(Box::new(whole(disconnect(body, context))?))
        }
        PacketType::Auth => PacketRef::Auth(Box::new(whole(auth(body, context))?)),
    };
    Ok(Some((packet, packet_len)))
}

/// The type of a packet, if this side may receive it with these flags. [MQTT-2.1.3-1] [MQTT311-2.2.2-1]
#[inline]
fn packet_type(first: u8, context: &Context<'_>) -> Result<PacketType, DecodeError> {
    let (number, flags) = (first >> 4, first & 0x0F);
    let is_v5 = context.version.is_v5();
    let Some(packet_type) = PacketType::of_first_byte(first) else {
        return Err(DecodeError::PacketTypeReserved);
    };
    if packet_type == PacketType::Auth && !is_v5 {
        return Err(DecodeError::PacketTypeReserved);
    }
    let is_flagged = FLAGGED >> number & 1 != 0;
    // 3.1 marks resent requests with DUP.
    let is_resent = is_flagged && flags == 0b1010 && context.version == ProtocolVersion::V3_1;
    if flags != u8::from(is_flagged) << 1 && !is_resent {
        return Err(DecodeError::FixedHeaderFlags);
    }
    let may_come = match context.role {
        Role::Server => FROM_CLIENT,
        Role::Client if is_v5 => FROM_SERVER,
        Role::Client => FROM_SERVER_V3,
    };
    if may_come >> number & 1 == 0 {
        return Err(DecodeError::WrongDirection);
    }
    Ok(packet_type)
}

/// What was read, if it was all there is.
#[inline]
fn whole<T>(parsed: Parsed<'_, T>) -> Result<T, DecodeError> {
    match parsed {
        Ok(([], value)) => Ok(value),
        Ok(([_, ..], _)) => Err(DecodeError::TrailingBytes),
        Err(error) => Err(read::rule(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is decoded from the bytes, or why nothing is, is the same in all ways.
    fn check(version: ProtocolVersion, input: &[u8]) {
        let mut decoder = Decoder::client(version, DecodeLimits::default());
        let by_hand = decoder.decode_to(input, None, |packet, len| (packet, len));
        let known = TopicNameRef::new("t").unwrap();
        let after = decoder.decode_to(input, Some(known), |packet, len| (packet, len));
        let expected = alloc::format!("{:?}", decoder.decode(input));
        assert_eq!(alloc::format!("{by_hand:?}"), expected, "{input:?}");
        assert_eq!(alloc::format!("{after:?}"), expected, "{input:?}");
    }

    #[test]
    fn a_packet_that_is_put_somewhere_is_the_packet_that_is_returned() {
        let inputs: &[&[u8]] = &[
            &[],
            &[0x30],
            &[0x30, 0x05, 0, 1, b't', 0, b'x', 0xC0],
            &[0x32, 0x07, 0, 1, b't', 0, 9, 0, b'x'],
            &[0x32, 0x07, 0, 1, b't', 0, 0, 0, b'x'],
            &[0x36, 0x07, 0, 1, b't', 0, 9, 0, b'x'],
            &[0x32, 0x07, 0, 1, b't', 0],
            &[0x40, 0x02, 0, 7, 0x40, 0x02],
            &[0x40, 0x02, 0, 0],
            &[0x40, 0x03, 0, 7, 0x10],
            &[0x50, 0x02, 0, 7],
            &[0x62, 0x02, 0, 7],
            &[0x70, 0x02, 0, 7],
            &[0x60, 0x02, 0, 7],
            &[0xD0, 0x00],
            &[0xD1, 0x00],
            &[0x10, 0x00],
            &[0x30, 0xFF, 0xFF, 0xFF, 0xFF],
        ];
        for version in [ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
            for input in inputs {
                check(version, input);
            }
        }
    }

    #[test]
    fn a_server_decodes_its_connect_in_either_way() {
        let connect = [&[0x10, 0x0D, 0, 4][..], b"MQTT", &[5, 2, 0, 60, 0, 0, 0]].concat();
        for input in [&connect[..], &connect[..5], &[0x30, 0x00]] {
            let server = Decoder::server(DecodeLimits::default());
            let (mut one, mut other) = (server.clone(), server);
            let put = one.decode_to(input, None, |packet, len| (packet, len));
            let returned = other.decode(input);
            assert_eq!(alloc::format!("{put:?}"), alloc::format!("{returned:?}"));
            assert_eq!(one.version(), other.version());
        }
    }
}
