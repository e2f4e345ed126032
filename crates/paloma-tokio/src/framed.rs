//! Codecs for [`tokio_util::codec::Framed`], for programs that want a stream and a sink of packets.
//!
//! The broker itself does not use them: it decodes from a buffer that all connections of a thread share.
//!
//! ```
//! use paloma_codec::{Packet, ProtocolVersion};
//! use paloma_tokio::framed::MqttCodec;
//! use tokio_util::codec::Framed;
//!
//! let (here, _there) = tokio::io::duplex(1024);
//! let packets = Framed::new(here, MqttCodec::client(ProtocolVersion::V5));
//! # drop(packets);
//! ```

use std::fmt;
use std::io;

use bytes::BytesMut;
use paloma_codec::{
    DecodeError, DecodeLimits, Decoder, Encode, EncodeError, Packet, ProtocolVersion,
};
use tokio_util::codec;

/// Packets to bytes and back, for one end of one connection.
#[derive(Debug)]
pub struct MqttCodec {
    decoder: Decoder,
    packet_bytes_max: u32,
    scratch: Vec<u8>,
}

/// Why a [`Framed`](tokio_util::codec::Framed) with an [`MqttCodec`] ended.
#[derive(Debug)]
pub enum FramedError {
    /// The peer broke a rule.
    Decode(DecodeError),
    /// A packet cannot be written.
    Encode(EncodeError),
    /// The transport failed.
    Io(io::Error),
}

impl MqttCodec {
    /// The server's end: a CONNECT comes first and says which version follows. [MQTT-3.1.0-1]
    #[must_use]
    pub const fn server(limits: DecodeLimits) -> Self {
        Self::new(Decoder::server(limits))
    }

    /// The client's end of a connection with `version`, with the default limits.
    #[must_use]
    pub fn client(version: ProtocolVersion) -> Self {
        Self::client_with_limits(version, DecodeLimits::default())
    }

    /// The client's end of a connection with `version`.
    #[must_use]
    pub const fn client_with_limits(version: ProtocolVersion, limits: DecodeLimits) -> Self {
        Self::new(Decoder::client(version, limits))
    }

    const fn new(decoder: Decoder) -> Self {
        Self {
            decoder,
            packet_bytes_max: paloma_codec::PACKET_BYTES_MAX,
            scratch: Vec::new(),
        }
    }

    /// The version of the connection; in a server unknown before CONNECT.
    #[must_use]
    pub const fn version(&self) -> Option<ProtocolVersion> {
        self.decoder.version()
    }

    /// Sets the peer's Maximum Packet Size, in bytes. Packets that would pass it lose their user properties and reason
    /// string where the standard asks for that, or are [`EncodeError::MaximumPacketSize`]. [MQTT-3.1.2-24]
    pub const fn set_packet_bytes_max(&mut self, bytes: u32) {
        self.packet_bytes_max = bytes;
    }
}

impl codec::Decoder for MqttCodec {
    type Item = Packet;
    type Error = FramedError;

    fn decode(&mut self, source: &mut BytesMut) -> Result<Option<Packet>, FramedError> {
        self.decoder
            .decode_owned(source)
            .map_err(FramedError::Decode)
    }
}

impl codec::Encoder<Packet> for MqttCodec {
    type Error = FramedError;

    fn encode(&mut self, packet: Packet, out: &mut BytesMut) -> Result<(), FramedError> {
        codec::Encoder::<&Packet>::encode(self, &packet, out)
    }
}

impl codec::Encoder<&Packet> for MqttCodec {
    type Error = FramedError;

    /// A CONNECT is written in the version it names; a server that knows none yet answers in 5.0.
    fn encode(&mut self, packet: &Packet, out: &mut BytesMut) -> Result<(), FramedError> {
        let version = match packet {
            Packet::Connect(connect) => Some(connect.version),
            Packet::ConnAck(_)
            | Packet::Publish(_)
            | Packet::PubAck(_)
            | Packet::PubRec(_)
            | Packet::PubRel(_)
            | Packet::PubComp(_)
            | Packet::Subscribe(_)
            | Packet::SubAck(_)
            | Packet::Unsubscribe(_)
            | Packet::UnsubAck(_)
            | Packet::PingReq
            | Packet::PingResp
            | Packet::Disconnect(_)
            | Packet::Auth(_) => self.version(),
        };
        self.scratch.clear();
        packet
            .encode_within(
                version.unwrap_or(ProtocolVersion::V5),
                self.packet_bytes_max,
                &mut self.scratch,
            )
            .map_err(FramedError::Encode)?;
        out.extend_from_slice(&self.scratch);
        Ok(())
    }
}

impl fmt::Display for FramedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decode(error) => error.fmt(f),
            Self::Encode(error) => error.fmt(f),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for FramedError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Decode(error) => Some(error),
            Self::Encode(error) => Some(error),
            Self::Io(error) => Some(error),
        }
    }
}

impl From<io::Error> for FramedError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

#[cfg(test)]
mod tests;
