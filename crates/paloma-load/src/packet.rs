//! The few packets that a load needs, encoded once, and a scanner that finds frames without decoding them.

/// Which protocol the load speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.0.
    V5,
}

/// Quality of service of a scenario's messages and subscriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Qos {
    /// QoS 0.
    AtMostOnce,
    /// QoS 1.
    AtLeastOnce,
    /// QoS 2.
    ExactlyOnce,
}

impl Qos {
    /// The number on the wire.
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Self::AtMostOnce => 0,
            Self::AtLeastOnce => 1,
            Self::ExactlyOnce => 2,
        }
    }
}

/// First bytes of packets as they stand on the wire.
pub mod first_byte {
    /// CONNECT.
    pub const CONNECT: u8 = 0x10;
    /// CONNACK.
    pub const CONNACK: u8 = 0x20;
    /// PUBLISH without its flags.
    pub const PUBLISH: u8 = 0x30;
    /// PUBACK.
    pub const PUBACK: u8 = 0x40;
    /// PUBREC.
    pub const PUBREC: u8 = 0x50;
    /// PUBREL.
    pub const PUBREL: u8 = 0x62;
    /// PUBCOMP.
    pub const PUBCOMP: u8 = 0x70;
    /// SUBSCRIBE.
    pub const SUBSCRIBE: u8 = 0x82;
    /// SUBACK.
    pub const SUBACK: u8 = 0x90;
    /// PINGREQ.
    pub const PINGREQ: u8 = 0xC0;
    /// PINGRESP.
    pub const PINGRESP: u8 = 0xD0;
    /// DISCONNECT.
    pub const DISCONNECT: u8 = 0xE0;
}

/// Property of CONNECT: how long a session outlives its connection.
const SESSION_EXPIRY: u8 = 0x11;

/// A DISCONNECT without a reason code: a normal end in both versions.
pub const DISCONNECT: [u8; 2] = [first_byte::DISCONNECT, 0];

/// Who connects, and how.
#[derive(Clone, Copy, Debug)]
pub struct Hello<'a> {
    /// Protocol version.
    pub version: Version,
    /// Client id.
    pub client_id: &'a str,
    /// Keep alive in seconds.
    pub keep_alive_seconds: u16,
    /// User name.
    pub username: Option<&'a str>,
    /// Password; 3.1.1 allows it beside a user name only. [MQTT311-3.1.2-22]
    pub password: Option<&'a [u8]>,
    /// Whether the session outlives the connection, for ever; else it starts clean and ends with it.
    pub keeps_session: bool,
}

/// Encodes a CONNECT without a will.
#[must_use]
pub fn connect(hello: &Hello<'_>) -> Vec<u8> {
    let Hello {
        version,
        client_id,
        keep_alive_seconds,
        ..
    } = *hello;
    let mut body = Vec::with_capacity(32 + client_id.len());
    push_string(&mut body, "MQTT");
    body.push(match version {
        Version::V311 => 4,
        Version::V5 => 5,
    });
    body.push(
        u8::from(!hello.keeps_session) << 1
            | u8::from(hello.password.is_some()) << 6
            | u8::from(hello.username.is_some()) << 7,
    );
    body.extend_from_slice(&keep_alive_seconds.to_be_bytes());
    if hello.keeps_session && version == Version::V5 {
        body.extend_from_slice(&[5, SESSION_EXPIRY, 0xFF, 0xFF, 0xFF, 0xFF]);
    } else {
        push_no_properties(&mut body, version);
    }
    push_string(&mut body, client_id);
    if let Some(username) = hello.username {
        push_string(&mut body, username);
    }
    if let Some(password) = hello.password {
        push_bytes(&mut body, password);
    }
    frame(first_byte::CONNECT, &body)
}

/// Encodes a SUBSCRIBE for all filters at one QoS.
#[must_use]
pub fn subscribe(version: Version, id: u16, filters: &[String], qos: Qos) -> Vec<u8> {
    let mut body = Vec::with_capacity(8 + filters.iter().map(|f| f.len() + 3).sum::<usize>());
    body.extend_from_slice(&id.to_be_bytes());
    push_no_properties(&mut body, version);
    for filter in filters {
        push_string(&mut body, filter);
        body.push(qos.bits());
    }
    frame(first_byte::SUBSCRIBE, &body)
}

/// A PUBLISH and where the parts that differ from message to message stand in it.
#[derive(Clone, Debug)]
pub struct PublishTemplate {
    /// The whole packet.
    pub bytes: Vec<u8>,
    /// Offset of the packet id; 0 at QoS 0, where there is none.
    pub id_offset: usize,
    /// Offset of the payload.
    pub payload_offset: usize,
}

/// Encodes a PUBLISH of `payload_bytes` zeros, with packet id 1 where QoS asks for one.
#[must_use]
pub fn publish(
    version: Version,
    topic: &str,
    qos: Qos,
    retain: bool,
    payload_bytes: usize,
) -> PublishTemplate {
    let mut body = Vec::with_capacity(8 + topic.len() + payload_bytes);
    push_string(&mut body, topic);
    let mut id_offset = 0;
    if qos != Qos::AtMostOnce {
        id_offset = body.len();
        body.extend_from_slice(&1u16.to_be_bytes());
    }
    push_no_properties(&mut body, version);
    let payload_offset = body.len();
    body.resize(body.len() + payload_bytes, 0);
    let bytes = frame(
        first_byte::PUBLISH | qos.bits() << 1 | u8::from(retain),
        &body,
    );
    let head = bytes.len() - body.len();
    PublishTemplate {
        bytes,
        id_offset: if id_offset == 0 { 0 } else { id_offset + head },
        payload_offset: payload_offset + head,
    }
}

/// The four bytes of a PUBACK, PUBREC, PUBREL or PUBCOMP that reports success; both versions agree on them.
#[must_use]
pub const fn ack(first: u8, id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    [first, 2, high, low]
}

/// One whole packet found by [`scan`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Packet type and flags.
    pub first: u8,
    /// Everything after the Remaining Length.
    pub body: &'a [u8],
    /// The packet as a whole.
    pub whole: &'a [u8],
}

/// What stands at the start of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan<'a> {
    /// A whole packet.
    Whole(Frame<'a>),
    /// The start of one.
    Partial,
    /// A Remaining Length of more than four bytes.
    Malformed,
}

/// Looks for one packet at the start of `input`.
#[inline]
#[must_use]
pub fn scan(input: &[u8]) -> Scan<'_> {
    let Some((first, rest)) = input.split_first() else {
        return Scan::Partial;
    };
    let (length, length_bytes) = match variable_integer(rest) {
        Ok(found) => found,
        Err(NoInteger::Truncated) => return Scan::Partial,
        Err(NoInteger::TooLong) => return Scan::Malformed,
    };
    let head = 1 + length_bytes;
    let Some(whole) = input.get(..head + length) else {
        return Scan::Partial;
    };
    let Some(body) = whole.get(head..) else {
        return Scan::Partial;
    };
    Scan::Whole(Frame {
        first: *first,
        body,
        whole,
    })
}

/// The parts of a PUBLISH that a receiver looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishParts<'a> {
    /// Topic as bytes; not checked.
    pub topic: &'a [u8],
    /// Packet id; 0 at QoS 0.
    pub id: u16,
    /// QoS on the wire.
    pub qos: u8,
    /// The application's bytes.
    pub payload: &'a [u8],
}

/// Splits the body of a PUBLISH; `None` if it is shorter than it says.
#[inline]
#[must_use]
pub fn publish_parts<'a>(version: Version, frame: &Frame<'a>) -> Option<PublishParts<'a>> {
    let (length, rest) = frame.body.split_first_chunk::<2>()?;
    let (topic, mut rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    let qos = frame.first >> 1 & 3;
    let mut id = 0;
    if qos > 0 {
        let (bytes, after) = rest.split_first_chunk::<2>()?;
        id = u16::from_be_bytes(*bytes);
        rest = after;
    }
    if version == Version::V5 {
        let (length, used) = variable_integer(rest).ok()?;
        rest = rest.get(used + length..)?;
    }
    Some(PublishParts {
        topic,
        id,
        qos,
        payload: rest,
    })
}

/// The packet id at the start of an acknowledgement's body.
#[inline]
#[must_use]
pub fn packet_id(body: &[u8]) -> Option<u16> {
    body.first_chunk::<2>()
        .map(|bytes| u16::from_be_bytes(*bytes))
}

/// Why there is no variable byte integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoInteger {
    /// More bytes are needed.
    Truncated,
    /// Four bytes and no end.
    TooLong,
}

/// Reads a variable byte integer: its value and how many bytes it takes.
///
/// # Errors
/// [`NoInteger`] if the input ends inside it or it never ends.
#[inline]
pub fn variable_integer(input: &[u8]) -> Result<(usize, usize), NoInteger> {
    let mut value = 0;
    for (index, byte) in input.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok((value, index + 1));
        }
    }
    Err(if input.len() < 4 {
        NoInteger::Truncated
    } else {
        NoInteger::TooLong
    })
}

/// Puts a fixed header before `body`.
#[must_use]
pub fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(5 + body.len());
    out.push(first);
    let mut length = body.len();
    loop {
        let low = u8::try_from(length & 0x7F).unwrap_or(0);
        length >>= 7;
        if length == 0 {
            out.push(low);
            break;
        }
        out.push(low | 0x80);
    }
    out.extend_from_slice(body);
    out
}

fn push_string(out: &mut Vec<u8>, text: &str) {
    push_bytes(out, text.as_bytes());
}

fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend(bytes.iter().take(usize::from(length)));
}

fn push_no_properties(out: &mut Vec<u8>, version: Version) {
    if version == Version::V5 {
        out.push(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publish_template_names_the_offsets_of_id_and_payload() {
        let template = publish(Version::V5, "a/b", Qos::AtLeastOnce, true, 3);
        assert_eq!(
            template.bytes,
            [0x33, 11, 0, 3, b'a', b'/', b'b', 0, 1, 0, 0, 0, 0]
        );
        assert_eq!((template.id_offset, template.payload_offset), (7, 10));
        let Scan::Whole(frame) = scan(&template.bytes) else {
            panic!("one whole packet")
        };
        let parts = publish_parts(Version::V5, &frame).expect("well formed");
        assert_eq!(
            (parts.topic, parts.id, parts.qos, parts.payload),
            (&b"a/b"[..], 1, 1, &[0; 3][..])
        );
    }

    #[test]
    fn long_publish_has_a_remaining_length_of_two_bytes() {
        let template = publish(Version::V311, "t", Qos::AtMostOnce, false, 200);
        assert_eq!(template.bytes.get(..3), Some(&[0x30, 0xCB, 0x01][..]));
        assert_eq!((template.id_offset, template.payload_offset), (0, 6));
    }

    #[test]
    fn connect_and_subscribe_are_as_the_standard_writes_them() {
        assert_eq!(
            connect(&Hello {
                version: Version::V311,
                client_id: "c",
                keep_alive_seconds: 60,
                username: None,
                password: None,
                keeps_session: false,
            }),
            [
                0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 60, 0, 1, b'c'
            ]
        );
        assert_eq!(
            subscribe(Version::V5, 7, &["x".to_owned()], Qos::ExactlyOnce),
            [0x82, 7, 0, 7, 0, 0, 1, b'x', 2]
        );
    }

    #[test]
    fn scan_waits_for_every_byte_of_a_packet() {
        let packet = publish(Version::V311, "t", Qos::AtMostOnce, false, 300).bytes;
        for end in 0..packet.len() {
            assert_eq!(scan(&packet[..end]), Scan::Partial, "{end} bytes");
        }
        assert!(matches!(scan(&packet), Scan::Whole(frame) if frame.whole.len() == packet.len()));
        assert_eq!(scan(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1]), Scan::Malformed);
    }
}
