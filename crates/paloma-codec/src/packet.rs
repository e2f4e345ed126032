//! All fifteen packets, owned and borrowed.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use crate::encode::{Body, Keep};
use crate::write::Sink;
use crate::{
    Auth, ConnAck, Connect, Disconnect, EncodeError, ProtocolVersion, PubAck, PubComp, PubRec,
    PubRel, Publish, PublishRef, SubAck, Subscribe, UnsubAck, Unsubscribe,
};

/// The type of a packet, by its number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum PacketType {
    /// CONNECT.
    Connect = 1,
    /// CONNACK.
    ConnAck = 2,
    /// PUBLISH.
    Publish = 3,
    /// PUBACK.
    PubAck = 4,
    /// PUBREC.
    PubRec = 5,
    /// PUBREL.
    PubRel = 6,
    /// PUBCOMP.
    PubComp = 7,
    /// SUBSCRIBE.
    Subscribe = 8,
    /// SUBACK.
    SubAck = 9,
    /// UNSUBSCRIBE.
    Unsubscribe = 10,
    /// UNSUBACK.
    UnsubAck = 11,
    /// PINGREQ.
    PingReq = 12,
    /// PINGRESP.
    PingResp = 13,
    /// DISCONNECT.
    Disconnect = 14,
    /// AUTH, 5.0 only.
    Auth = 15,
}

impl PacketType {
    /// The type in the high half of a first byte; `None` for 0.
    #[must_use]
    pub const fn of_first_byte(first: u8) -> Option<Self> {
        Some(match first >> 4 {
            1 => Self::Connect,
            2 => Self::ConnAck,
            3 => Self::Publish,
            4 => Self::PubAck,
            5 => Self::PubRec,
            6 => Self::PubRel,
            7 => Self::PubComp,
            8 => Self::Subscribe,
            9 => Self::SubAck,
            10 => Self::Unsubscribe,
            11 => Self::UnsubAck,
            12 => Self::PingReq,
            13 => Self::PingResp,
            14 => Self::Disconnect,
            15 => Self::Auth,
            _ => return None,
        })
    }
}

impl fmt::Display for PacketType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "CONNECT",
            Self::ConnAck => "CONNACK",
            Self::Publish => "PUBLISH",
            Self::PubAck => "PUBACK",
            Self::PubRec => "PUBREC",
            Self::PubRel => "PUBREL",
            Self::PubComp => "PUBCOMP",
            Self::Subscribe => "SUBSCRIBE",
            Self::SubAck => "SUBACK",
            Self::Unsubscribe => "UNSUBSCRIBE",
            Self::UnsubAck => "UNSUBACK",
            Self::PingReq => "PINGREQ",
            Self::PingResp => "PINGRESP",
            Self::Disconnect => "DISCONNECT",
            Self::Auth => "AUTH",
        })
    }
}

// One list of variants for both forms, which differ in PUBLISH alone.
macro_rules! packets {
    ($(#[$meta:meta])* $name:ident $(<$life:lifetime>)?, $publish:ty) => {
        $(#[$meta])*
        #[derive(Clone, Debug)]
        pub enum $name $(<$life>)? {
            /// A client begins.
            Connect(Box<Connect>),
            /// The server lets it in, or not.
            ConnAck(Box<ConnAck>),
            /// A message.
            Publish($publish),
            /// Ends a QoS 1 exchange.
            PubAck(PubAck),
            /// The receiver of a QoS 2 PUBLISH has it.
            PubRec(PubRec),
            /// The sender of a QoS 2 PUBLISH forgets it.
            PubRel(PubRel),
            /// Ends a QoS 2 exchange.
            PubComp(PubComp),
            /// A client asks for messages.
            Subscribe(Subscribe),
            /// The answer to it.
            SubAck(Box<SubAck>),
            /// A client no longer wants them.
            Unsubscribe(Unsubscribe),
            /// The answer to it.
            UnsubAck(Box<UnsubAck>),
            /// A client asks whether the server is there.
            PingReq,
            /// It is.
            PingResp,
            /// The connection ends.
            Disconnect(Box<Disconnect>),
            /// A step of an extended authentication.
            Auth(Box<Auth>),
        }

        impl $(<$life>)? $name $(<$life>)? {
            /// The packet's type.
            pub const fn packet_type(&self) -> PacketType {
                match self {
                    Self::Connect(_) => PacketType::Connect,
                    Self::ConnAck(_) => PacketType::ConnAck,
                    Self::Publish(_) => PacketType::Publish,
                    Self::PubAck(_) => PacketType::PubAck,
                    Self::PubRec(_) => PacketType::PubRec,
                    Self::PubRel(_) => PacketType::PubRel,
                    Self::PubComp(_) => PacketType::PubComp,
                    Self::Subscribe(_) => PacketType::Subscribe,
                    Self::SubAck(_) => PacketType::SubAck,
                    Self::Unsubscribe(_) => PacketType::Unsubscribe,
                    Self::UnsubAck(_) => PacketType::UnsubAck,
                    Self::PingReq => PacketType::PingReq,
                    Self::PingResp => PacketType::PingResp,
                    Self::Disconnect(_) => PacketType::Disconnect,
                    Self::Auth(_) => PacketType::Auth,
                }
            }
        }

        impl $(<$life>)? Body for $name $(<$life>)? {
            fn first_byte(&self) -> u8 {
                match self {
                    Self::Connect(packet) => packet.first_byte(),
                    Self::ConnAck(packet) => packet.first_byte(),
                    Self::Publish(packet) => packet.first_byte(),
                    Self::PubAck(packet) => packet.first_byte(),
                    Self::PubRec(packet) => packet.first_byte(),
                    Self::PubRel(packet) => packet.first_byte(),
                    Self::PubComp(packet) => packet.first_byte(),
                    Self::Subscribe(packet) => packet.first_byte(),
                    Self::SubAck(packet) => packet.first_byte(),
                    Self::Unsubscribe(packet) => packet.first_byte(),
                    Self::UnsubAck(packet) => packet.first_byte(),
                    Self::PingReq => 0xC0,
                    Self::PingResp => 0xD0,
                    Self::Disconnect(packet) => packet.first_byte(),
                    Self::Auth(packet) => packet.first_byte(),
                }
            }

            fn write(&self, version: ProtocolVersion, keep: Keep, sink: &mut impl Sink) {
                match self {
                    Self::Connect(packet) => packet.write(version, keep, sink),
                    Self::ConnAck(packet) => packet.write(version, keep, sink),
                    Self::Publish(packet) => packet.write(version, keep, sink),
                    Self::PubAck(packet) => packet.write(version, keep, sink),
                    Self::PubRec(packet) => packet.write(version, keep, sink),
                    Self::PubRel(packet) => packet.write(version, keep, sink),
                    Self::PubComp(packet) => packet.write(version, keep, sink),
                    Self::Subscribe(packet) => packet.write(version, keep, sink),
                    Self::SubAck(packet) => packet.write(version, keep, sink),
                    Self::Unsubscribe(packet) => packet.write(version, keep, sink),
                    Self::UnsubAck(packet) => packet.write(version, keep, sink),
                    Self::PingReq | Self::PingResp => {}
                    Self::Disconnect(packet) => packet.write(version, keep, sink),
                    Self::Auth(packet) => packet.write(version, keep, sink),
                }
            }

            /// By the packet's own type, so that it is looked at once.
            #[inline]
            fn append(
                &self,
                version: ProtocolVersion,
                keep: Keep,
                packet_bytes_max: u32,
                out: &mut Vec<u8>,
            ) -> Result<(), EncodeError> {
                let max = packet_bytes_max;
                match self {
                    Self::Connect(packet) => packet.append(version, keep, max, out),
                    Self::ConnAck(packet) => packet.append(version, keep, max, out),
                    Self::Publish(packet) => packet.append(version, keep, max, out),
                    Self::PubAck(packet) => packet.append(version, keep, max, out),
                    Self::PubRec(packet) => packet.append(version, keep, max, out),
                    Self::PubRel(packet) => packet.append(version, keep, max, out),
                    Self::PubComp(packet) => packet.append(version, keep, max, out),
                    Self::Subscribe(packet) => packet.append(version, keep, max, out),
                    Self::SubAck(packet) => packet.append(version, keep, max, out),
                    Self::Unsubscribe(packet) => packet.append(version, keep, max, out),
                    Self::UnsubAck(packet) => packet.append(version, keep, max, out),
                    Self::PingReq | Self::PingResp => ping(self.first_byte(), max, out),
                    Self::Disconnect(packet) => packet.append(version, keep, max, out),
                    Self::Auth(packet) => packet.append(version, keep, max, out),
                }
            }
        }
    };
}

packets! {
    /// A packet that owns what it holds. `Debug` shows no payload and no password.
    #[derive(PartialEq, Eq)]
    Packet, Box<Publish>
}

packets! {
    /// A decoded packet: PUBLISH borrows from the input, all others own what little they hold.
    ///
    /// Acknowledgements and pings without properties allocate nothing.
    PacketRef<'a>, PublishRef<'a>
}

fn ping(first: u8, packet_bytes_max: u32, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    if packet_bytes_max < 2 {
        return Err(EncodeError::MaximumPacketSize);
    }
    out.extend_from_slice(&[first, 0]);
    Ok(())
}

impl PacketRef<'_> {
    /// Copies what is borrowed, so that the packet may outlive its buffer.
    pub fn into_owned(self) -> Packet {
        self.into_owned_with(|publish| publish.into_owned())
    }

    pub(crate) fn into_owned_with(self, own: impl FnOnce(PublishRef<'_>) -> Publish) -> Packet {
        match self {
            Self::Connect(packet) => Packet::Connect(packet),
            Self::ConnAck(packet) => Packet::ConnAck(packet),
            Self::Publish(packet) => Packet::Publish(Box::new(own(packet))),
            Self::PubAck(packet) => Packet::PubAck(packet),
            Self::PubRec(packet) => Packet::PubRec(packet),
            Self::PubRel(packet) => Packet::PubRel(packet),
            Self::PubComp(packet) => Packet::PubComp(packet),
            Self::Subscribe(packet) => Packet::Subscribe(packet),
            Self::SubAck(packet) => Packet::SubAck(packet),
            Self::Unsubscribe(packet) => Packet::Unsubscribe(packet),
            Self::UnsubAck(packet) => Packet::UnsubAck(packet),
            Self::PingReq => Packet::PingReq,
            Self::PingResp => Packet::PingResp,
            Self::Disconnect(packet) => Packet::Disconnect(packet),
            Self::Auth(packet) => Packet::Auth(packet),
        }
    }
}

impl Packet {
    /// Appends the packet to `out`; see [`Encode::encode`](crate::Encode::encode).
    ///
    /// # Errors
    /// The packet cannot be written in this version; `out` is as it was.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        crate::Encode::encode(self, version, out)
    }

    /// Length on the wire; see [`Encode::encoded_len`](crate::Encode::encoded_len).
    ///
    /// # Errors
    /// The packet cannot be written in this version.
    pub fn encoded_len(&self, version: ProtocolVersion) -> Result<usize, EncodeError> {
        crate::Encode::encoded_len(self, version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_borrowed_packet_fits_a_cache_line_and_its_tag() {
        assert!(
            size_of::<PacketRef<'_>>() <= 72,
            "{}",
            size_of::<PacketRef<'_>>()
        );
    }
}
