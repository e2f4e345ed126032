//! Packets, messages and secrets as a record has them: without what nobody should read in it, and as long as they were.

use std::borrow::Cow;

use bytes::Bytes;
use paloma_broker::wire::{Damaged, Reader, put_bytes, put_number};
use paloma_codec::{Message, Packet, PacketRef, Secret};

/// Bytes that were left out of one event, at most. A packet may have sixteen times as many, but then thirty bytes of a file would
/// stand for half a gigabyte of memory.
pub(crate) const LEFT_OUT_MAX: usize = 16 << 20;

/// What stands where something was left out.
const MASK: u8 = b'*';

/// Bytes of which the end may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) head: &'a [u8],
    /// So many bytes behind it are left out.
    pub(crate) masked: usize,
}

impl<'a> Frame<'a> {
    /// All of these bytes, or all but so many at their end.
    #[inline]
    pub(crate) fn new(bytes: &'a [u8], masked: usize) -> Self {
        let masked = masked.min(bytes.len());
        let head = bytes.get(..bytes.len() - masked).unwrap_or(bytes);
        Self { head, masked }
    }

    pub(crate) fn to_bytes(self) -> Cow<'a, [u8]> {
        if self.masked == 0 {
            return Cow::Borrowed(self.head);
        }
        let mut bytes = self.head.to_vec();
        bytes.resize(self.head.len() + self.masked, MASK);
        Cow::Owned(bytes)
    }
}

#[inline]
pub(crate) fn put_frame(out: &mut Vec<u8>, frame: Frame<'_>) {
    let lens = (u8::try_from(frame.masked), u8::try_from(frame.head.len()));
    if let (Ok(masked @ ..0x80), Ok(len @ ..0x80)) = lens {
        // The same, at once.
        out.extend_from_slice(&[masked, len]);
        return out.extend_from_slice(frame.head);
    }
    put_number(out, frame.masked as u64);
    put_bytes(out, frame.head);
}

pub(crate) fn read_frame<'a>(reader: &mut Reader<'a>) -> Result<Frame<'a>, Damaged> {
    let masked = reader.small::<usize>()?;
    let head = reader.bytes()?;
    reader.spend(masked)?;
    Ok(Frame { head, masked })
}

/// Whether secrets stand in the midst of a packet.
#[inline]
pub(crate) const fn has_secrets(packet: &PacketRef<'_>) -> bool {
    matches!(packet, PacketRef::Connect(_) | PacketRef::Auth(_))
}

/// A packet with secrets, encoded anew without them.
#[cold]
pub(crate) fn without_secrets(packet: &PacketRef<'_>, frame_len: usize) -> Vec<u8> {
    let mut packet = packet.clone().into_owned();
    let mut version = paloma_codec::ProtocolVersion::V5;
    if let Packet::Connect(connect) = &mut packet {
        version = connect.version;
        mask(&mut connect.password);
        if let Some(will) = &mut connect.will {
            will.payload = masked(will.payload.len());
        }
        if let Some(authentication) = &mut connect.authentication {
            mask(&mut authentication.data);
        }
    } else if let Packet::Auth(auth) = &mut packet
        && let Some(authentication) = &mut auth.authentication
    {
        mask(&mut authentication.data);
    }
    let mut bytes = Vec::with_capacity(frame_len);
    let encoded = packet.encode(version, &mut bytes);
    debug_assert!(encoded.is_ok(), "what was decoded can be encoded");
    bytes
}

fn mask(secret: &mut Option<Secret>) {
    if let Some(secret) = secret {
        *secret = Secret::new(masked(secret.len()));
    }
}

fn masked(len: usize) -> Bytes {
    Bytes::from(vec![MASK; len])
}

pub(crate) fn put_message(out: &mut Vec<u8>, message: &Message, with_secrets: bool) {
    // The payload is the end of a message's bytes.
    let left_out = if with_secrets {
        0
    } else {
        message.payload().len()
    };
    put_frame(out, Frame::new(message.as_bytes(), left_out));
}

pub(crate) fn read_message(reader: &mut Reader<'_>) -> Result<Message, Damaged> {
    Message::from_bytes(&read_frame(reader)?.to_bytes()).map_err(|_| Damaged)
}

pub(crate) fn put_secret(out: &mut Vec<u8>, secret: &Secret, with_secrets: bool) {
    let left_out = if with_secrets { 0 } else { secret.len() };
    put_frame(out, Frame::new(secret, left_out));
}

pub(crate) fn read_secret(reader: &mut Reader<'_>) -> Result<Secret, Damaged> {
    let bytes = read_frame(reader)?.to_bytes().into_owned();
    Ok(Secret::new(Bytes::from(bytes)))
}
