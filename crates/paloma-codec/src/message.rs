//! A message encoded once, to be sent to any number of receivers.

#[cfg(not(target_has_atomic = "ptr"))]
use alloc::rc::Rc as Shared;
#[cfg(target_has_atomic = "ptr")]
use alloc::sync::Arc as Shared;
use alloc::vec::Vec;
use core::fmt;

use paloma_topic::TopicNameRef;

use crate::properties::id;
use crate::publish_properties::{check_forwarded, write_forwarded};
use crate::secret::Hidden;
use crate::write::{Sink, VARIABLE_INT_MAX, Writer, variable_int_len};
use crate::{
    Delivery, EncodeError, Head, MessagePool, PropertiesRef, ProtocolVersion, PublishProperties,
    PublishRef, TopicForm, Will,
};

/// A PUBLISH shared by all its receivers: one allocation, 16 bytes a handle.
///
/// Holds what is the same for every receiver: topic, the properties that are forwarded, payload; and three
/// numbers of the caller's: an `id`, a `stamp` (when it came, in the caller's unit) and the expiry. What differs is
/// in [`Head`].
#[derive(Clone)]
pub struct Message {
    /// Header, topic, property tail, payload.
    bytes: Shared<[u8]>,
}

const ID: usize = 0;
const STAMP: usize = 8;
/// Four bytes of expiry, then four bytes of the tail's length.
const EXPIRY: usize = 16;
const TOPIC_LEN: usize = 24;
const HAS_EXPIRY: usize = 26;
const HEADER_LEN: usize = 27;

/// Length of the longest packet that [`Message::encode_short_head`] begins: one whose Remaining Length is a single byte.
pub const SHORT_PACKET_LEN_MAX: usize = 2 + 0x7F;

/// Bytes that are no [`Message`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageError;

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not the bytes of a message")
    }
}

impl core::error::Error for MessageError {}

/// What a message of the program's own is made of.
#[derive(Clone, Copy)]
pub struct MessageParts<'a> {
    /// The caller's number for it.
    pub id: u64,
    /// When it came to be.
    pub stamp: u64,
    /// Where it is published.
    pub topic: TopicNameRef<'a>,
    /// Its properties; subscription identifiers are left out.
    pub properties: &'a PublishProperties,
    /// What is published.
    pub payload: &'a [u8],
}

impl fmt::Debug for MessageParts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageParts")
            .field("id", &self.id)
            .field("stamp", &self.stamp)
            .field("topic", &self.topic)
            .field("properties", &self.properties)
            .field("payload", &Hidden(self.payload.len()))
            .finish()
    }
}

impl Message {
    /// Copies what a received PUBLISH forwards. `topic` is its topic, aliases resolved.
    ///
    /// `scratch` is cleared and used to put the message together; its capacity is what makes one allocation enough.
    pub fn from_publish(
        topic: TopicNameRef<'_>,
        publish: &PublishRef<'_>,
        id: u64,
        stamp: u64,
        scratch: &mut Vec<u8>,
    ) -> Self {
        let pool = &mut MessagePool::closed();
        Self::from_publish_behind(("", topic), publish, (id, stamp), scratch, pool)
    }

    /// The same for a client all of whose names stand behind `mount`, and with an allocation of `pool` if it has one:
    /// `topic` has the mount already, a Response Topic gets it here. One that is too long with it is left out.
    #[inline]
    pub fn from_publish_behind(
        (mount, topic): (&str, TopicNameRef<'_>),
        publish: &PublishRef<'_>,
        (id, stamp): (u64, u64),
        scratch: &mut Vec<u8>,
        pool: &mut MessagePool,
    ) -> Self {
        if publish.properties.is_empty()
            && let Some(message) = Self::in_place(topic, publish.payload, (id, stamp), pool)
        {
            return message;
        }
        Self::copied_from((mount, topic), publish, (id, stamp), scratch, pool)
    }

    /// A message of any kind.
    fn copied_from(
        (mount, topic): (&str, TopicNameRef<'_>),
        publish: &PublishRef<'_>,
        (id, stamp): (u64, u64),
        scratch: &mut Vec<u8>,
        pool: &mut MessagePool,
    ) -> Self {
        begin(id, stamp, topic, scratch);
        let mut expiry = None;
        for property in publish.properties.iter() {
            match property.id {
                id::MESSAGE_EXPIRY_INTERVAL => expiry = property.u32(),
                id::TOPIC_ALIAS | id::SUBSCRIPTION_IDENTIFIER => {}
                id::PAYLOAD_FORMAT_INDICATOR if property.value == [0] => {}
                id::RESPONSE_TOPIC if !mount.is_empty() => {
                    let own = property.value.get(2..).unwrap_or_default();
                    response_topic(mount.as_bytes(), own, scratch);
                }
                _ => scratch.extend_from_slice(property.whole),
            }
        }
        put_together(topic, expiry, publish.payload, scratch);
        Self::of_bytes(scratch, pool)
    }

    /// A message without properties, written where one of its length was.
    #[inline]
    fn in_place(
        topic: TopicNameRef<'_>,
        payload: &[u8],
        (id, stamp): (u64, u64),
        pool: &mut MessagePool,
    ) -> Option<Self> {
        let topic = topic.as_str().as_bytes();
        let mut message = pool.take(HEADER_LEN + topic.len() + payload.len())?;
        let bytes = Shared::get_mut(&mut message.bytes)?;
        let (header, rest) = bytes.split_first_chunk_mut::<HEADER_LEN>()?;
        *header = header_of(id, stamp, topic);
        let (topic_at, payload_at) = rest.split_at_mut_checked(topic.len())?;
        topic_at.copy_from_slice(topic);
        payload_at.copy_from_slice(payload);
        Some(message)
    }

    /// The same bytes as a message.
    fn of_bytes(bytes: &[u8], pool: &mut MessagePool) -> Self {
        if let Some(mut message) = pool.take(bytes.len())
            && let Some(place) = Shared::get_mut(&mut message.bytes)
        {
            place.copy_from_slice(bytes);
            return message;
        }
        Self {
            bytes: Shared::from(bytes),
        }
    }

    /// How many handles hold the message: what each of them costs is its share of the one allocation.
    #[must_use]
    pub fn holders(&self) -> usize {
        Shared::strong_count(&self.bytes)
    }

    /// Makes a message of the program's own.
    ///
    /// # Errors
    /// A property cannot be written: too long, or U+0000 in a string.
    pub fn new(parts: &MessageParts<'_>, scratch: &mut Vec<u8>) -> Result<Self, EncodeError> {
        begin(parts.id, parts.stamp, parts.topic, scratch);
        let mut writer = Writer::new(scratch);
        write_forwarded(parts.properties, &mut writer);
        writer.finish()?;
        let expiry = parts.properties.message_expiry_seconds;
        Ok(finish(parts.topic, expiry, parts.payload, scratch))
    }

    /// Makes the message that a will publishes. [MQTT-3.1.2-8]
    ///
    /// # Errors
    /// A property cannot be written, which no decoded will's can.
    pub fn from_will(
        will: &Will,
        id: u64,
        stamp: u64,
        scratch: &mut Vec<u8>,
    ) -> Result<Self, EncodeError> {
        let parts = MessageParts {
            id,
            stamp,
            topic: will.topic.borrowed(),
            properties: &will.properties,
            payload: &will.payload,
        };
        Self::new(&parts, scratch)
    }

    /// The same message under another number and with another arrival, from which its lifetime counts: what a will is
    /// when it is published.
    #[must_use]
    pub fn restamped(&self, id: u64, stamp: u64) -> Self {
        let mut bytes = self.bytes.to_vec();
        for (at, value) in [(ID, id), (STAMP, stamp)] {
            if let Some(field) = bytes.get_mut(at..at + 8) {
                field.copy_from_slice(&value.to_le_bytes());
            }
        }
        Self {
            bytes: Shared::from(bytes),
        }
    }

    /// The message as a receiver sees it all of whose names stand behind `prefix`: topic and Response Topic without it. A
    /// Response Topic elsewhere is left out, since the receiver could not answer there. `None` if the topic is elsewhere.
    #[must_use]
    pub fn without_prefix(&self, prefix: &str) -> Option<Self> {
        let parts = self.parts()?;
        let topic = parts.topic.strip_prefix(prefix.as_bytes())?;
        let topic = TopicNameRef::new(core::str::from_utf8(topic).ok()?).ok()?;
        let mut bytes = Vec::with_capacity(self.bytes.len());
        begin(self.id(), self.stamp(), topic, &mut bytes);
        for property in self.properties().iter() {
            if property.id != id::RESPONSE_TOPIC {
                bytes.extend_from_slice(property.whole);
                continue;
            }
            let whole = property.value.get(2..).unwrap_or_default();
            if let Some(own) = whole.strip_prefix(prefix.as_bytes())
                && !own.is_empty()
            {
                response_topic(&[], own, &mut bytes);
            }
        }
        Some(finish(
            topic,
            self.expiry_seconds(),
            parts.payload,
            &mut bytes,
        ))
    }

    /// Takes back the bytes of [`as_bytes`](Self::as_bytes), checking that they are a message's.
    ///
    /// # Errors
    /// They are not.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MessageError> {
        if bytes.len() < HEADER_LEN {
            return Err(MessageError);
        }
        let message = Self {
            bytes: Shared::from(bytes),
        };
        let parts = message.parts().ok_or(MessageError)?;
        let text = core::str::from_utf8(parts.topic).map_err(|_| MessageError)?;
        TopicNameRef::new(text).map_err(|_| MessageError)?;
        check_forwarded(parts.tail).map_err(|_| MessageError)?;
        Ok(message)
    }

    /// The message as bytes, for a store of the same version of this crate.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The caller's number for it.
    #[must_use]
    pub fn id(&self) -> u64 {
        u64::from_le_bytes(self.field(ID))
    }

    /// When it came, in the caller's unit.
    #[must_use]
    pub fn stamp(&self) -> u64 {
        u64::from_le_bytes(self.field(STAMP))
    }

    /// Its lifetime from `stamp` on, in seconds, if it has one. [MQTT-3.3.2-5]
    #[must_use]
    pub fn expiry_seconds(&self) -> Option<u32> {
        let [has_expiry] = self.field(HAS_EXPIRY);
        (has_expiry != 0).then(|| u32::from_le_bytes(self.field(EXPIRY)))
    }

    /// Where it is published. Checks the name anew; [`topic_bytes`](Self::topic_bytes) does not.
    #[expect(
        clippy::missing_panics_doc,
        reason = "no message is made without a valid topic"
    )]
    #[must_use]
    pub fn topic(&self) -> TopicNameRef<'_> {
        core::str::from_utf8(self.topic_bytes())
            .ok()
            .and_then(|text| TopicNameRef::new(text).ok())
            .expect("a message is made with a valid topic only")
    }

    /// Where it is published, as bytes.
    #[must_use]
    pub fn topic_bytes(&self) -> &[u8] {
        self.parts().map_or(&[], |parts| parts.topic)
    }

    /// The properties that are forwarded: neither alias nor expiry nor subscription identifiers.
    #[must_use]
    pub fn properties(&self) -> PropertiesRef<'_> {
        PropertiesRef::over(self.parts().map_or(&[], |parts| parts.tail))
    }

    /// What is published.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.parts().map_or(&[], |parts| parts.payload)
    }

    /// Bytes it occupies, without the allocator's and the reference counts' share.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a message has a header, so it is never empty"
    )]
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether two handles share one allocation.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Shared::ptr_eq(&self.bytes, &other.bytes)
    }

    /// Length of the PUBLISH that `head` makes of it, payload and fixed header included.
    #[inline]
    #[must_use]
    pub fn packet_len(&self, version: ProtocolVersion, head: &Head<'_>) -> usize {
        let (body_len, _) = self
            .parts()
            .map_or((0, 0), |parts| parts.lengths(version, head));
        1 + variable_int_len(body_len) + body_len
    }

    /// Appends everything but the payload, which has to follow and is returned.
    ///
    /// The caller has compared [`packet_len`](Self::packet_len) with the receiver's Maximum Packet Size
    /// [MQTT-3.1.2-24], and with [`PACKET_BYTES_MAX`](crate::PACKET_BYTES_MAX) where there is none.
    pub fn encode_head(
        &self,
        version: ProtocolVersion,
        head: &Head<'_>,
        out: &mut Vec<u8>,
    ) -> &[u8] {
        let Some(parts) = self.parts() else {
            return &[];
        };
        let (body_len, properties_len) = parts.lengths(version, head);
        debug_assert!(
            body_len <= VARIABLE_INT_MAX,
            "the caller compared packet_len"
        );
        let names = !version.is_v5() || !matches!(head.topic, TopicForm::Alias(_));
        let topic = if names { parts.topic } else { &[] };
        out.reserve(24 + topic.len() + properties_len);
        let mut out = Writer::new(out);
        out.byte(head.delivery.first_byte(head.retain));
        out.variable_int(body_len);
        out.binary(topic);
        if let Some(id) = head.delivery.id() {
            out.u16(id.get());
        }
        if version.is_v5() {
            out.variable_int(properties_len);
            if properties_len > 0 {
                write_properties(head, parts.tail, &mut out);
            }
        }
        parts.payload
    }

    /// The same for the most frequent head: by name, without expiry and identifiers. `None`, and nothing is written, if the
    /// message has properties or its packet is longer than [`SHORT_PACKET_LEN_MAX`].
    // Most deliveries come through here: as a call it costs 40 instructions more.
    #[inline(always)]
    pub fn encode_short_head(
        &self,
        version: ProtocolVersion,
        (delivery, retain): (Delivery, bool),
        out: &mut Vec<u8>,
    ) -> Option<&[u8]> {
        let parts = self.parts().filter(|parts| parts.tail.is_empty())?;
        let id = delivery.id();
        let id_len = if id.is_some() { 2 } else { 0 };
        let block_len = usize::from(version.is_v5());
        let body_len = 2 + parts.topic.len() + id_len + block_len + parts.payload.len();
        let len = u8::try_from(body_len).ok().filter(|len| *len <= 0x7F)?;
        let [t0, t1] = u16::try_from(parts.topic.len()).ok()?.to_be_bytes();
        out.reserve(2 + body_len);
        out.extend_from_slice(&[delivery.first_byte(retain), len, t0, t1]);
        out.extend_from_slice(parts.topic);
        if let Some(id) = id {
            out.extend_from_slice(&id.get().to_be_bytes());
        }
        if version.is_v5() {
            out.push(0);
        }
        Some(parts.payload)
    }

    /// Topic, property tail and payload; always there in a message that was made here.
    #[inline]
    fn parts(&self) -> Option<Parts<'_>> {
        let (header, rest) = self.bytes.split_first_chunk::<HEADER_LEN>()?;
        let [.., t0, t1, t2, t3, n0, n1, _] = *header;
        let tail_len = u32::from_le_bytes([t0, t1, t2, t3]) as usize;
        let topic_len = usize::from(u16::from_le_bytes([n0, n1]));
        let (topic, rest) = rest.split_at_checked(topic_len)?;
        let (tail, payload) = rest.split_at_checked(tail_len)?;
        Some(Parts {
            topic,
            tail,
            payload,
        })
    }

    /// A field of the header.
    fn field<const N: usize>(&self, at: usize) -> [u8; N] {
        let field = self.bytes.get(at..).and_then(|bytes| bytes.first_chunk());
        field.copied().unwrap_or([0; N])
    }
}

/// The variable parts of a message.
#[derive(Clone, Copy)]
struct Parts<'a> {
    topic: &'a [u8],
    tail: &'a [u8],
    payload: &'a [u8],
}

impl Parts<'_> {
    /// Lengths of the packet's body and of its property block, without the block's own length.
    #[inline]
    fn lengths(self, version: ProtocolVersion, head: &Head<'_>) -> (usize, usize) {
        let id_len = if head.delivery.id().is_some() { 2 } else { 0 };
        let fixed_len = 2 + id_len + self.payload.len();
        if !version.is_v5() {
            return (fixed_len + self.topic.len(), 0);
        }
        let (topic_len, alias_len) = match head.topic {
            TopicForm::Name => (self.topic.len(), 0),
            TopicForm::Define(_) => (self.topic.len(), 3),
            TopicForm::Alias(_) => (0, 3),
        };
        let expiry_len = if head.expiry_seconds.is_some() { 5 } else { 0 };
        let ids = head.subscription_ids.iter();
        let ids_len: usize = ids.map(|id| 1 + variable_int_len(id.get() as usize)).sum();
        let properties_len = alias_len + expiry_len + ids_len + self.tail.len();
        let body_len = fixed_len + topic_len + variable_int_len(properties_len) + properties_len;
        (body_len, properties_len)
    }
}

/// Writes the receiver's own properties, then those of the message.
fn write_properties(head: &Head<'_>, tail: &[u8], out: &mut Writer<'_>) {
    if let TopicForm::Define(alias) | TopicForm::Alias(alias) = head.topic {
        out.byte(id::TOPIC_ALIAS);
        out.u16(alias.get());
    }
    if let Some(seconds) = head.expiry_seconds {
        out.byte(id::MESSAGE_EXPIRY_INTERVAL);
        out.u32(seconds);
    }
    for subscription in head.subscription_ids {
        out.byte(id::SUBSCRIPTION_IDENTIFIER);
        out.variable_int(subscription.get() as usize);
    }
    out.raw(tail);
}

impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Message {}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("id", &self.id())
            .field("stamp", &self.stamp())
            .field("topic", &self.topic())
            .field("expiry_seconds", &self.expiry_seconds())
            .field("properties", &self.properties())
            .field("payload", &Hidden(self.payload().len()))
            .finish()
    }
}

/// Writes header and topic; [`finish`] fills in the expiry and the length of the tail.
#[inline]
fn begin(id: u64, stamp: u64, topic: TopicNameRef<'_>, scratch: &mut Vec<u8>) {
    let topic = topic.as_str().as_bytes();
    scratch.clear();
    scratch.extend_from_slice(&header_of(id, stamp, topic));
    scratch.extend_from_slice(topic);
}

/// The header of a message without expiry and tail.
#[inline]
fn header_of(id: u64, stamp: u64, topic: &[u8]) -> [u8; HEADER_LEN] {
    let topic_len = u16::try_from(topic.len()).unwrap_or(u16::MAX);
    debug_assert_eq!(
        usize::from(topic_len),
        topic.len(),
        "a topic name fits its length"
    );
    let mut header = [0; HEADER_LEN];
    header[ID..STAMP].copy_from_slice(&id.to_le_bytes());
    header[STAMP..EXPIRY].copy_from_slice(&stamp.to_le_bytes());
    header[TOPIC_LEN..HAS_EXPIRY].copy_from_slice(&topic_len.to_le_bytes());
    header
}

/// Writes a Response Topic of two parts, unless it is too long.
fn response_topic(prefix: &[u8], own: &[u8], scratch: &mut Vec<u8>) {
    if let Ok(len) = u16::try_from(prefix.len() + own.len()) {
        scratch.push(id::RESPONSE_TOPIC);
        scratch.extend_from_slice(&len.to_be_bytes());
        scratch.extend_from_slice(prefix);
        scratch.extend_from_slice(own);
    }
}

/// Writes the fields of the header that [`begin`] left at zero.
fn fill_in(tail_len: usize, expiry: Option<u32>, scratch: &mut [u8]) {
    let [t0, t1, t2, t3] = u32::try_from(tail_len).unwrap_or(u32::MAX).to_le_bytes();
    let [e0, e1, e2, e3] = expiry.unwrap_or(0).to_le_bytes();
    if let Some(fields) = scratch.get_mut(EXPIRY..TOPIC_LEN) {
        fields.copy_from_slice(&[e0, e1, e2, e3, t0, t1, t2, t3]);
    }
    if let Some(has_expiry) = scratch.get_mut(HAS_EXPIRY) {
        *has_expiry = u8::from(expiry.is_some());
    }
}

fn finish(
    topic: TopicNameRef<'_>,
    expiry: Option<u32>,
    payload: &[u8],
    scratch: &mut Vec<u8>,
) -> Message {
    put_together(topic, expiry, payload, scratch);
    Message {
        bytes: Shared::from(scratch.as_slice()),
    }
}

/// Completes what [`begin`] began.
#[inline]
fn put_together(
    topic: TopicNameRef<'_>,
    expiry: Option<u32>,
    payload: &[u8],
    scratch: &mut Vec<u8>,
) {
    let tail_len = scratch.len() - HEADER_LEN - topic.as_str().len();
    if tail_len > 0 || expiry.is_some() {
        fill_in(tail_len, expiry, scratch);
    }
    scratch.extend_from_slice(payload);
}
