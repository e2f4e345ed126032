//! Packets put together by hand, right or wrong, without the codec that is under test.

use crate::peer::Version;

/// A packet: first byte, the shortest Remaining Length, body.
#[must_use]
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    [&[first], &varint(body.len())[..], body].concat()
}

/// A variable byte integer in its shortest form.
#[must_use]
pub fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = (value % 128) as u8;
        value /= 128;
        if value == 0 {
            bytes.push(byte);
            return bytes;
        }
        bytes.push(byte | 0x80);
    }
}

/// A string or binary data with its two-byte length.
#[must_use]
pub fn string(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let length = u16::try_from(bytes.len()).expect("a string of MQTT is at most 65,535 bytes");
    [&length.to_be_bytes()[..], bytes].concat()
}

/// A property block: its length, and the properties as given.
#[must_use]
pub fn properties(properties: &[&[u8]]) -> Vec<u8> {
    let block = properties.concat();
    [varint(block.len()), block].concat()
}

/// A User Property.
#[must_use]
pub fn user_property(name: &str, value: &str) -> Vec<u8> {
    [vec![0x26], string(name), string(value)].concat()
}

/// The parts of a CONNECT, each of which can be made wrong.
#[derive(Debug, Clone)]
pub struct Connect {
    /// Protocol Name.
    pub name: Vec<u8>,
    /// Protocol Level.
    pub level: u8,
    /// Connect Flags.
    pub flags: u8,
    /// Keep Alive.
    pub keep_alive: u16,
    /// The whole property block; nothing in 3.1.1.
    pub properties: Vec<u8>,
    /// Client identifier.
    pub client_id: Vec<u8>,
    /// Whatever follows it.
    pub rest: Vec<u8>,
}

impl Connect {
    /// A right one: clean, with a keep alive of a minute.
    #[must_use]
    pub fn new(version: Version, client_id: &str) -> Self {
        Self {
            name: b"MQTT".to_vec(),
            level: version.level(),
            flags: 0x02,
            keep_alive: 60,
            properties: empty_properties(version),
            client_id: client_id.as_bytes().to_vec(),
            rest: Vec::new(),
        }
    }

    /// One that resumes its session, kept for an hour.
    #[must_use]
    pub fn persistent(version: Version, client_id: &str) -> Self {
        let mut connect = Self {
            flags: 0,
            ..Self::new(version, client_id)
        };
        if version == Version::V5 {
            connect.properties = properties(&[&[0x11, 0, 0, 0x0E, 0x10]]);
        }
        connect
    }

    /// Adds a will without properties.
    #[must_use]
    pub fn with_will(mut self, topic: &str, payload: &str, qos: u8) -> Self {
        self.flags |= 0x04 | qos << 3;
        if self.level == 5 {
            self.rest.push(0);
        }
        self.rest.extend(string(topic));
        self.rest.extend(string(payload));
        self
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let body = [
            string(&self.name),
            vec![self.level, self.flags],
            self.keep_alive.to_be_bytes().to_vec(),
            self.properties.clone(),
            string(&self.client_id),
            self.rest.clone(),
        ];
        packet(0x10, &body.concat())
    }
}

/// A PUBLISH without properties; `id` counts only above QoS 0.
#[must_use]
pub fn publish(version: Version, qos: u8, id: u16, topic: &str, payload: &[u8]) -> Vec<u8> {
    publish_with(
        &empty_properties(version),
        0x30 | qos << 1,
        id,
        topic.as_bytes(),
        payload,
    )
}

/// A PUBLISH from its first byte and its whole property block.
#[must_use]
pub fn publish_with(block: &[u8], first: u8, id: u16, topic: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut body = string(topic);
    if first & 0x06 != 0 {
        body.extend(id.to_be_bytes());
    }
    body.extend(block);
    body.extend(payload);
    packet(first, &body)
}

/// A SUBSCRIBE without properties, each filter with its options byte.
#[must_use]
pub fn subscribe(version: Version, id: u16, filters: &[(&str, u8)]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    body.extend(empty_properties(version));
    for (filter, options) in filters {
        body.extend(string(filter));
        body.push(*options);
    }
    packet(0x82, &body)
}

/// An UNSUBSCRIBE without properties.
#[must_use]
pub fn unsubscribe(version: Version, id: u16, filters: &[&str]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    body.extend(empty_properties(version));
    for filter in filters {
        body.extend(string(filter));
    }
    packet(0xA2, &body)
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP with success, by their first byte.
#[must_use]
pub fn ack(first: u8, id: u16) -> Vec<u8> {
    packet(first, &id.to_be_bytes())
}

/// First byte of PUBACK.
pub const PUBACK: u8 = 0x40;
/// First byte of PUBREC.
pub const PUBREC: u8 = 0x50;
/// First byte of PUBREL.
pub const PUBREL: u8 = 0x62;
/// First byte of PUBCOMP.
pub const PUBCOMP: u8 = 0x70;
/// The acknowledgements of a PUBLISH by name and first byte.
pub const ACKS: [(&str, u8); 4] = [
    ("PUBACK", PUBACK),
    ("PUBREC", PUBREC),
    ("PUBREL", PUBREL),
    ("PUBCOMP", PUBCOMP),
];
/// PINGREQ.
pub const PINGREQ: [u8; 2] = [0xC0, 0];
/// DISCONNECT with success.
pub const DISCONNECT: [u8; 2] = [0xE0, 0];

/// The property block that says "none" in 5.0, and nothing in 3.1.1.
#[must_use]
pub fn empty_properties(version: Version) -> Vec<u8> {
    match version {
        Version::V311 => Vec::new(),
        Version::V5 => vec![0],
    }
}
