//! Bytes put together by hand, for packets that the encoder refuses to write.

use paloma_codec::ProtocolVersion;

/// A packet: first byte, the shortest Remaining Length, body.
#[must_use]
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    [&[first], &variable_int(body.len())[..], body].concat()
}

/// A variable byte integer in its shortest form.
#[must_use]
pub fn variable_int(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(value % 128).unwrap_or_default();
        value /= 128;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// A string or binary data behind its two bytes of length; longer ones are cut, which no test relies on.
#[must_use]
pub fn text(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    let kept = bytes.iter().take(usize::from(length));
    length.to_be_bytes().iter().chain(kept).copied().collect()
}

/// A property block: its length, then the properties as they are.
#[must_use]
pub fn block(properties: &[&[u8]]) -> Vec<u8> {
    let all = properties.concat();
    [variable_int(all.len()), all].concat()
}

/// The block that says "none" in 5.0, and nothing before.
#[must_use]
pub fn no_properties(version: ProtocolVersion) -> Vec<u8> {
    if version.is_v5() { vec![0] } else { Vec::new() }
}

/// A CONNECT from its parts: protocol name, level, flags, what follows Keep Alive.
#[must_use]
pub fn connect(name: &str, level: u8, flags: u8, rest: &[u8]) -> Vec<u8> {
    let body = [text(name), vec![level, flags, 0, 60], rest.to_vec()].concat();
    packet(0x10, &body)
}

/// A CONNECT of this version with these flags and payload behind the properties.
#[must_use]
pub fn connect_with(version: ProtocolVersion, flags: u8, payload: &[&[u8]]) -> Vec<u8> {
    let rest = [no_properties(version), payload.concat()].concat();
    connect("MQTT", version.level(), flags, &rest)
}

/// A 5.0 CONNECT with this property block, clean, with a client identifier.
#[must_use]
pub fn connect_properties(client_id: &str, properties: &[&[u8]]) -> Vec<u8> {
    let rest = [block(properties), text(client_id)].concat();
    connect("MQTT", 5, 0x02, &rest)
}

/// A PUBLISH from its first byte; the identifier stands above QoS 0 only.
#[must_use]
pub fn publish(first: u8, topic: &[u8], id: u16, properties: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut body = text(topic);
    if first & 0x06 != 0 {
        body.extend(id.to_be_bytes());
    }
    body.extend(properties);
    body.extend(payload);
    packet(first, &body)
}

/// A SUBSCRIBE from its first byte: filters with their option bytes.
#[must_use]
pub fn subscribe(first: u8, id: u16, properties: &[u8], filters: &[(&[u8], u8)]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    body.extend(properties);
    for (filter, options) in filters {
        body.extend(text(filter));
        body.push(*options);
    }
    packet(first, &body)
}

/// An UNSUBSCRIBE from its first byte.
#[must_use]
pub fn unsubscribe(first: u8, id: u16, properties: &[u8], filters: &[&[u8]]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    body.extend(properties);
    for filter in filters {
        body.extend(text(filter));
    }
    packet(first, &body)
}

/// An acknowledgement of a PUBLISH that says nothing but its identifier.
#[must_use]
pub fn ack(first: u8, id: u16) -> Vec<u8> {
    packet(first, &id.to_be_bytes())
}

/// PINGREQ.
pub const PINGREQ: [u8; 2] = [0xC0, 0];
/// DISCONNECT that says nothing more.
pub const DISCONNECT: [u8; 2] = [0xE0, 0];
