//! The PROXY protocol: who a proxy speaks for, in front of everything else. Both versions, as pure functions.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytestring::ByteString;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::certificate_name::checked;

/// Longest header of version 1, with its end of line.
const V1_BYTES_MAX: usize = 107;

/// Shortest: `PROXY UNKNOWN` and the end of line. What follows at once may be more of it or not.
const V1_BYTES_MIN: usize = 15;

/// Signature, command, family and length of version 2.
const V2_FIXED_BYTES: usize = 16;

/// Longest rest of version 2 that is read. A certificate may be in it; a name is all that we take.
const V2_BYTES_MAX: usize = 16 * 1024;

const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

const TLV_CRC32C: u8 = 0x03;
const TLV_TLS: u8 = 0x20;
const TLV_TLS_COMMON_NAME: u8 = 0x22;

/// The client showed a certificate, on this connection or when its TLS session began.
const TLS_CERTIFICATE: u8 = 0x02 | 0x04;

/// Which header comes before everything else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// None.
    #[default]
    Off,
    /// That of version 1, a line of text; without it there is no connection.
    V1,
    /// That of version 2, in binary; likewise.
    V2,
}

/// What a header says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyHeader {
    /// Whom the proxy speaks for; `None` if it speaks for itself or does not know.
    pub source: Option<IpAddr>,
    /// The common name of the client's certificate, if the proxy has verified one.
    pub certificate_name: Option<ByteString>,
}

/// Why a header cannot be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyError {
    /// Not a header of the version that is expected.
    Malformed,
    /// Longer than any header needs to be.
    TooLarge,
    /// Its checksum is wrong.
    Checksum,
    /// The name in it is not proper text.
    Name,
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "not a PROXY header of the version that is expected",
            Self::TooLarge => "the PROXY header is too long",
            Self::Checksum => "the PROXY header's checksum is wrong",
            Self::Name => "the name in the PROXY header is not proper text",
        })
    }
}

impl std::error::Error for ProxyError {}

impl From<ProxyError> for io::Error {
    fn from(error: ProxyError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// Reads a header and not a byte more.
pub(crate) async fn read<S: AsyncRead + Unpin>(
    stream: &mut S,
    version: ProxyProtocol,
) -> io::Result<ProxyHeader> {
    match version {
        ProxyProtocol::Off => Ok(ProxyHeader::default()),
        ProxyProtocol::V1 => {
            let mut line = vec![0; V1_BYTES_MIN];
            stream.read_exact(&mut line).await?;
            while !line.ends_with(b"\r\n") {
                if line.len() == V1_BYTES_MAX {
                    return Err(ProxyError::TooLarge.into());
                }
                line.push(stream.read_u8().await?);
            }
            Ok(read_v1(&line)?)
        }
        ProxyProtocol::V2 => {
            let mut header = vec![0; V2_FIXED_BYTES];
            stream.read_exact(&mut header).await?;
            let len = v2_len(&header)?;
            // Bounded: it is checked before it is reserved.
            header.resize(V2_FIXED_BYTES + len, 0);
            let rest = header.get_mut(V2_FIXED_BYTES..).unwrap_or(&mut []);
            stream.read_exact(rest).await?;
            Ok(read_v2(&header)?)
        }
    }
}

/// Reads a header of version 1, its end of line included.
///
/// # Errors
/// It is not one.
pub fn read_v1(line: &[u8]) -> Result<ProxyHeader, ProxyError> {
    if line.len() > V1_BYTES_MAX {
        return Err(ProxyError::TooLarge);
    }
    let text = line
        .strip_suffix(b"\r\n")
        .and_then(|line| std::str::from_utf8(line).ok())
        .and_then(|line| line.strip_prefix("PROXY "))
        .filter(|line| !line.contains(['\r', '\n']))
        .ok_or(ProxyError::Malformed)?;
    let mut words = text.split(' ');
    let family = words.next();
    if family == Some("UNKNOWN") {
        return Ok(ProxyHeader::default());
    }
    let mut address = || -> Option<IpAddr> {
        match family? {
            "TCP4" => words.next()?.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => words.next()?.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let source = address().ok_or(ProxyError::Malformed)?;
    address().ok_or(ProxyError::Malformed)?;
    for _ in 0..2 {
        words
            .next()
            .filter(|port| is_port(port))
            .ok_or(ProxyError::Malformed)?;
    }
    if words.next().is_some() {
        return Err(ProxyError::Malformed);
    }
    Ok(ProxyHeader {
        source: Some(source.to_canonical()),
        certificate_name: None,
    })
}

fn is_port(text: &str) -> bool {
    let is_padded = text.len() > 1 && text.starts_with('0');
    !is_padded && text.bytes().all(|digit| digit.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

/// How many bytes follow the first 16 of a header of version 2.
///
/// # Errors
/// They do not begin one, or it is longer than 16 KiB.
pub fn v2_len(header: &[u8]) -> Result<usize, ProxyError> {
    let Some(&[command, family, high, low]) = header
        .strip_prefix(V2_SIGNATURE)
        .and_then(|rest| rest.first_chunk())
    else {
        return Err(ProxyError::Malformed);
    };
    if !matches!(command, 0x20 | 0x21) || family >> 4 > 3 || family & 0x0F > 2 {
        return Err(ProxyError::Malformed);
    }
    let len = usize::from(u16::from_be_bytes([high, low]));
    if len > V2_BYTES_MAX {
        return Err(ProxyError::TooLarge);
    }
    Ok(len)
}

/// Reads a header of version 2, the whole of it.
///
/// # Errors
/// It is not one, or cannot be believed.
pub fn read_v2(header: &[u8]) -> Result<ProxyHeader, ProxyError> {
    let len = v2_len(header)?;
    let rest = header.get(V2_FIXED_BYTES..).unwrap_or(&[]);
    let [.., command, family, _, _] = header.get(..V2_FIXED_BYTES).unwrap_or(&[]) else {
        return Err(ProxyError::Malformed);
    };
    if rest.len() != len {
        return Err(ProxyError::Malformed);
    }
    let address_bytes = match family >> 4 {
        1 => 12,
        2 => 36,
        3 => 216,
        // Unspecified: what is there is not to be looked at.
        _ => len,
    };
    let (addresses, fields) = rest
        .split_at_checked(address_bytes)
        .ok_or(ProxyError::Malformed)?;
    let source = match family >> 4 {
        1 => addresses
            .first_chunk::<4>()
            .map(|bytes| IpAddr::from(*bytes)),
        2 => addresses
            .first_chunk::<16>()
            .map(|bytes| IpAddr::from(*bytes)),
        _ => None,
    };
    let certificate_name = read_fields(header, fields)?;
    if *command == 0x20 {
        // The proxy speaks for itself: it looks whether we are there.
        return Ok(ProxyHeader::default());
    }
    Ok(ProxyHeader {
        source: source.map(|address| address.to_canonical()),
        certificate_name,
    })
}

/// Checks the fields behind the addresses; gives the name in the certificate.
fn read_fields(header: &[u8], mut fields: &[u8]) -> Result<Option<ByteString>, ProxyError> {
    let mut name = None;
    while !fields.is_empty() {
        let behind = fields.len();
        let (kind, value) = field(&mut fields)?;
        match kind {
            TLV_CRC32C => {
                let expected = value.try_into().map_err(|_| ProxyError::Malformed)?;
                let at = header.len() - behind + 3;
                if crc32c(header, at) != u32::from_be_bytes(expected) {
                    return Err(ProxyError::Checksum);
                }
            }
            TLV_TLS => {
                if name.is_some() {
                    return Err(ProxyError::Malformed);
                }
                name = read_tls(value)?;
            }
            _ => {}
        }
    }
    Ok(name)
}

/// The name in a certificate that the proxy has verified.
fn read_tls(value: &[u8]) -> Result<Option<ByteString>, ProxyError> {
    let Some((&[client, verify @ ..], mut fields)) = value.split_first_chunk::<5>() else {
        return Err(ProxyError::Malformed);
    };
    let mut name = None;
    while !fields.is_empty() {
        let (kind, value) = field(&mut fields)?;
        if kind == TLV_TLS_COMMON_NAME && name.replace(value).is_some() {
            return Err(ProxyError::Malformed);
        }
    }
    let is_verified = client & TLS_CERTIFICATE != 0 && verify == [0; 4];
    name.filter(|_| is_verified)
        .map(|name| {
            let text = std::str::from_utf8(name).map_err(|_| ProxyError::Name)?;
            checked(text).map_err(|_| ProxyError::Name)
        })
        .transpose()
}

fn field<'a>(fields: &mut &'a [u8]) -> Result<(u8, &'a [u8]), ProxyError> {
    let (&[kind, high, low], rest) = fields.split_first_chunk().ok_or(ProxyError::Malformed)?;
    let len = usize::from(u16::from_be_bytes([high, low]));
    let (value, rest) = rest.split_at_checked(len).ok_or(ProxyError::Malformed)?;
    *fields = rest;
    Ok((kind, value))
}

/// CRC-32C of the header, with the four bytes of the checksum itself, at `at`, taken as zero.
fn crc32c(header: &[u8], at: usize) -> u32 {
    let mut crc = u32::MAX;
    for (index, byte) in header.iter().enumerate() {
        let byte = if (at..at + 4).contains(&index) {
            0
        } else {
            *byte
        };
        crc ^= u32::from(byte);
        for _ in 0..8 {
            let is_odd = crc & 1 != 0;
            crc >>= 1;
            if is_odd {
                crc ^= 0x82F6_3B78;
            }
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_v1(line: &str, expected: Result<Option<&str>, ProxyError>) {
        let expected = expected.map(|source| ProxyHeader {
            source: source.map(|address| address.parse().unwrap()),
            certificate_name: None,
        });
        assert_eq!(read_v1(line.as_bytes()), expected, "{line:?}");
    }

    #[test]
    fn lines_of_version_1_are_read() {
        check_v1(
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 65535\r\n",
            Ok(Some("192.0.2.1")),
        );
        check_v1(
            "PROXY TCP6 2001:db8::1 ::1 0 1883\r\n",
            Ok(Some("2001:db8::1")),
        );
        check_v1(
            "PROXY TCP6 ::ffff:192.0.2.1 ::1 0 1883\r\n",
            Ok(Some("192.0.2.1")),
        );
        check_v1("PROXY UNKNOWN\r\n", Ok(None));
        check_v1("PROXY UNKNOWN ffff:f...f:ffff 65535\r\n", Ok(None));
    }

    #[test]
    fn other_lines_are_refused() {
        for line in [
            "",
            "PROXY\r\n",
            "PROXY \r\n",
            "proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
            "PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY UNKNOWN\r\n\r\n",
        ] {
            check_v1(line, Err(ProxyError::Malformed));
        }
        check_v1(
            &format!("PROXY UNKNOWN {}\r\n", "x".repeat(100)),
            Err(ProxyError::TooLarge),
        );
    }

    fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
        let len = u16::try_from(value.len()).unwrap().to_be_bytes();
        [&[kind][..], &len, value].concat()
    }

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let len = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [V2_SIGNATURE, &[command, family], &len, rest].concat()
    }

    const ADDRESSES: &[u8] = &[192, 0, 2, 1, 192, 0, 2, 2, 0, 1, 0, 2];

    fn tcp4(fields: &[u8]) -> Vec<u8> {
        v2(0x21, 0x11, &[ADDRESSES, fields].concat())
    }

    fn tls(client: u8, verify: u8, name: &[u8]) -> Vec<u8> {
        let value = [
            &[client, 0, 0, 0, verify][..],
            &tlv(0x21, b"TLSv1.3"),
            &tlv(0x22, name),
        ]
        .concat();
        tlv(TLV_TLS, &value)
    }

    fn check_v2(header: &[u8], expected: Result<(Option<&str>, Option<&str>), ProxyError>) {
        let expected = expected.map(|(source, name)| ProxyHeader {
            source: source.map(|address| address.parse().unwrap()),
            certificate_name: name.map(Into::into),
        });
        assert_eq!(read_v2(header), expected, "{header:?}");
    }

    #[test]
    fn headers_of_version_2_are_read() {
        let source = Some("192.0.2.1");
        check_v2(&tcp4(&[]), Ok((source, None)));
        check_v2(&tcp4(&tlv(0xEE, b"of our own")), Ok((source, None)));
        let mut six = [0; 36];
        six[..4].copy_from_slice(&[0x20, 1, 0x0D, 0xB8]);
        check_v2(&v2(0x21, 0x21, &six), Ok((Some("2001:db8::"), None)));
        check_v2(&v2(0x21, 0x31, &[0; 216]), Ok((None, None)));
        check_v2(&v2(0x21, 0x00, b"anything"), Ok((None, None)));
        check_v2(&v2(0x20, 0x11, ADDRESSES), Ok((None, None)));
        check_v2(&v2(0x20, 0x00, &[]), Ok((None, None)));
    }

    #[test]
    fn name_of_a_verified_certificate_is_taken() {
        let source = Some("192.0.2.1");
        check_v2(
            &tcp4(&tls(0x07, 0, "zähler".as_bytes())),
            Ok((source, Some("zähler"))),
        );
        check_v2(&tcp4(&tls(0x05, 0, b"meter")), Ok((source, Some("meter"))));
        check_v2(&tcp4(&tls(0x01, 0, b"meter")), Ok((source, None)));
        check_v2(&tcp4(&tls(0x07, 1, b"meter")), Ok((source, None)));
        for bad in [&b""[..], b"a\0b", b"a\nb", b"\xFF"] {
            check_v2(&tcp4(&tls(0x07, 0, bad)), Err(ProxyError::Name));
        }
        let twice = tls(0x07, 0, b"a").repeat(2);
        check_v2(&tcp4(&twice), Err(ProxyError::Malformed));
        // A health check has no client.
        let local = v2(0x20, 0x11, &[ADDRESSES, &tls(0x07, 0, b"a")].concat());
        check_v2(&local, Ok((None, None)));
    }

    #[test]
    fn checksum_is_verified() {
        let mut header = tcp4(&[tlv(TLV_CRC32C, &[0; 4]), tlv(0xEE, b"x")].concat());
        let at = V2_FIXED_BYTES + ADDRESSES.len() + 3;
        check_v2(&header, Err(ProxyError::Checksum));
        let crc = crc32c(&header, at).to_be_bytes();
        header[at..at + 4].copy_from_slice(&crc);
        check_v2(&header, Ok((Some("192.0.2.1"), None)));
        assert_eq!(crc32c(b"123456789", 9), 0xE306_9283);
        check_v2(&tcp4(&tlv(TLV_CRC32C, &[0; 3])), Err(ProxyError::Malformed));
    }

    #[test]
    fn broken_headers_are_refused_at_every_byte() {
        let whole = tcp4(&tls(0x07, 0, b"meter"));
        for end in 0..whole.len() {
            check_v2(&whole[..end], Err(ProxyError::Malformed));
        }
        check_v2(&[&whole[..], b"x"].concat(), Err(ProxyError::Malformed));
        for (command, family) in [(0x11, 0x11), (0x22, 0x11), (0x21, 0x41), (0x21, 0x13)] {
            check_v2(&v2(command, family, ADDRESSES), Err(ProxyError::Malformed));
        }
        check_v2(&v2(0x21, 0x11, &ADDRESSES[1..]), Err(ProxyError::Malformed));
        check_v2(
            &v2(0x21, 0x00, &[0; V2_BYTES_MAX + 1]),
            Err(ProxyError::TooLarge),
        );
        for field in [
            &[0xEE][..],
            &[0xEE, 0],
            &[0xEE, 0, 1],
            &[TLV_TLS, 0, 4, 0, 0, 0, 0],
        ] {
            check_v2(&tcp4(field), Err(ProxyError::Malformed));
        }
    }
}
