//! What the codec's test suites share: the vector table, and one way to decode a packet of any side and version.
#![allow(dead_code, reason = "each suite uses its part")]

pub(crate) mod strategies;

use std::path::{Path, PathBuf};

use paloma_codec::{DecodeError, DecodeLimits, Decoder, Packet, ProtocolVersion};

/// All versions.
pub(crate) const VERSIONS: [ProtocolVersion; 3] = [
    ProtocolVersion::V3_1,
    ProtocolVersion::V3_1_1,
    ProtocolVersion::V5,
];

/// Who sent the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    First,
    Client,
    Server,
}

/// A line of the vector table.
#[derive(Debug)]
pub(crate) struct Vector {
    pub(crate) file: PathBuf,
    pub(crate) name: String,
    pub(crate) version: ProtocolVersion,
    pub(crate) from: From,
    pub(crate) bytes: Vec<u8>,
    pub(crate) canonical: Option<Vec<u8>>,
    pub(crate) statements: String,
    pub(crate) expected: String,
}

impl Vector {
    pub(crate) fn is_valid(&self) -> bool {
        !self.expected.starts_with('!')
    }
}

/// Every vector of every file.
pub(crate) fn vectors() -> Vec<Vector> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "tsv"));
    files.sort();
    files.iter().flat_map(|file| read(file)).collect()
}

fn read(file: &Path) -> Vec<Vector> {
    let text = std::fs::read_to_string(file).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| vector(file, line)).collect()
}

fn vector(file: &Path, line: &str) -> Vector {
    let columns: Vec<&str> = line.split('\t').collect();
    let [name, version, from, bytes, canonical, statements, expected] = columns[..] else {
        panic!("{}: seven columns in {line:?}", file.display());
    };
    Vector {
        file: file.to_owned(),
        name: name.to_owned(),
        version: match version {
            "3.1" => ProtocolVersion::V3_1,
            "3.1.1" => ProtocolVersion::V3_1_1,
            "5.0" => ProtocolVersion::V5,
            _ => panic!("{name}: version {version:?}"),
        },
        from: match from {
            "first" => From::First,
            "client" => From::Client,
            "server" => From::Server,
            _ => panic!("{name}: from {from:?}"),
        },
        bytes: hex(bytes),
        canonical: (canonical != "=").then(|| hex(canonical)),
        statements: statements.to_owned(),
        expected: expected.to_owned(),
    }
}

/// Bytes of hex digits.
pub(crate) fn hex(digits: &str) -> Vec<u8> {
    let digits = digits.as_bytes();
    assert!(digits.len().is_multiple_of(2));
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// A decoder in the state that these bytes come in.
pub(crate) fn decoder(version: ProtocolVersion, from: From, limits: DecodeLimits) -> Decoder {
    match from {
        From::First => Decoder::server(limits),
        From::Server => Decoder::client(version, limits),
        From::Client => {
            let mut decoder = Decoder::server(limits);
            let connect = match version {
                ProtocolVersion::V3_1 => &b"\x10\x0f\0\x06MQIsdp\x03\x02\0\0\0\x01c"[..],
                ProtocolVersion::V3_1_1 => b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01c",
                ProtocolVersion::V5 => b"\x10\x0e\0\x04MQTT\x05\x02\0\0\0\0\x01c",
            };
            assert!(decoder.decode(connect).unwrap().is_some());
            decoder
        }
    }
}

/// Decodes with the default limits; see [`decode_with`].
pub(crate) fn decode(
    version: ProtocolVersion,
    from: From,
    bytes: &[u8],
) -> Result<Option<(Packet, usize)>, DecodeError> {
    decode_with(version, from, bytes, DecodeLimits::default())
}

/// Decodes the first packet of `bytes` and copies it out.
pub(crate) fn decode_with(
    version: ProtocolVersion,
    from: From,
    bytes: &[u8],
    limits: DecodeLimits,
) -> Result<Option<(Packet, usize)>, DecodeError> {
    let decoded = decoder(version, from, limits).decode(bytes)?;
    Ok(decoded.map(|(packet, used)| (packet.into_owned(), used)))
}

/// Encodes into a new buffer.
pub(crate) fn encode(packet: &Packet, version: ProtocolVersion) -> Vec<u8> {
    let mut out = Vec::new();
    packet.encode(version, &mut out).unwrap();
    assert_eq!(packet.encoded_len(version), Ok(out.len()));
    out
}

/// A packet of this first byte around `body`.
pub(crate) fn framed(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    packet.extend(variable_int(body.len()));
    packet.extend_from_slice(body);
    packet
}

/// The shortest form of a variable byte integer.
pub(crate) fn variable_int(mut value: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while value > 127 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// Bytes behind their 16-bit length.
pub(crate) fn prefixed(bytes: &[u8]) -> Vec<u8> {
    let mut out = u16::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    out.extend_from_slice(bytes);
    out
}

/// A property block around encoded properties.
pub(crate) fn block(properties: &[u8]) -> Vec<u8> {
    let mut out = variable_int(properties.len());
    out.extend_from_slice(properties);
    out
}
