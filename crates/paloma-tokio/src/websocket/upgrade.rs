//! The request that turns HTTP into a WebSocket, and its answer. [RFC 6455, section 4]

use std::fmt;
use std::net::IpAddr;

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use super::{Origins, WebSocket};

/// Longest header of a request.
pub(super) const HEADER_BYTES_MAX: usize = 8 * 1024;

/// Most fields of a header.
const FIELDS_MAX: usize = 64;

/// What the key is hashed with.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The sub-protocols that carry MQTT, the better first [MQTT-6.0.0-3]; the second is that of 3.1's clients.
const PROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

/// A request that is granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    accept: String,
    protocol: &'static str,
    /// Whom proxies say they forward for, the nearest last; up to the first entry, from the end, that is no address.
    pub forwarded_for: Vec<IpAddr>,
}

impl Request {
    /// The answer that grants it [MQTT-6.0.0-4].
    #[must_use]
    pub fn answer(&self) -> String {
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: {}\r\n\r\n",
            self.accept, self.protocol
        )
    }
}

/// Why a request is not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpgradeError {
    /// Not HTTP/1.1, or not a request for a WebSocket.
    Malformed,
    /// A header of more than 8 KiB or 64 fields.
    TooLarge,
    /// No GET.
    Method,
    /// Another path than the listener's.
    Path,
    /// A web page that may not connect.
    Origin,
    /// Another version of the WebSocket protocol than 13.
    Version,
    /// No sub-protocol that carries MQTT [MQTT-6.0.0-3].
    Protocol,
}

impl UpgradeError {
    /// The answer that refuses it.
    #[must_use]
    pub fn answer(self) -> String {
        let (status, field) = match self {
            Self::Malformed | Self::Protocol => ("400 Bad Request", ""),
            Self::TooLarge => ("431 Request Header Fields Too Large", ""),
            Self::Method => ("405 Method Not Allowed", "Allow: GET\r\n"),
            Self::Path => ("404 Not Found", ""),
            Self::Origin => ("403 Forbidden", ""),
            Self::Version => ("426 Upgrade Required", "Sec-WebSocket-Version: 13\r\n"),
        };
        format!("HTTP/1.1 {status}\r\n{field}Connection: close\r\nContent-Length: 0\r\n\r\n")
    }
}

impl fmt::Display for UpgradeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "not a request for a WebSocket",
            Self::TooLarge => "the request's header is too large",
            Self::Method => "the request is no GET",
            Self::Path => "the request names another path",
            Self::Origin => "web pages of this origin may not connect",
            Self::Version => "another version of the WebSocket protocol",
            Self::Protocol => "no sub-protocol that carries MQTT",
        })
    }
}

impl std::error::Error for UpgradeError {}

/// Reads a request, once its header is whole, and says where that ends; `None` while it is not.
///
/// # Errors
/// It cannot be granted.
pub fn read_request(
    bytes: &[u8],
    listener: &WebSocket,
) -> Result<Option<(Request, usize)>, UpgradeError> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    let limited = bytes.get(..HEADER_BYTES_MAX).unwrap_or(bytes);
    match request.parse(limited) {
        Ok(httparse::Status::Complete(end)) => {
            let request = judge(&request, listener)?;
            Ok(Some((request, end)))
        }
        Ok(httparse::Status::Partial) if bytes.len() >= HEADER_BYTES_MAX => {
            Err(UpgradeError::TooLarge)
        }
        Ok(httparse::Status::Partial) => Ok(None),
        Err(httparse::Error::TooManyHeaders) => Err(UpgradeError::TooLarge),
        Err(_) => Err(UpgradeError::Malformed),
    }
}

fn judge(
    request: &httparse::Request<'_, '_>,
    listener: &WebSocket,
) -> Result<Request, UpgradeError> {
    let fields: &[httparse::Header<'_>] = request.headers;
    if request.method != Some("GET") {
        return Err(UpgradeError::Method);
    }
    if request.version != Some(1) {
        return Err(UpgradeError::Malformed);
    }
    let target = request.path.unwrap_or_default();
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    if !listener.path.is_empty() && path != listener.path {
        return Err(UpgradeError::Path);
    }
    let host = only(fields, "host")?.ok_or(UpgradeError::Malformed)?;
    if !lists(fields, "upgrade").any(|word| word.eq_ignore_ascii_case("websocket"))
        || !lists(fields, "connection").any(|word| word.eq_ignore_ascii_case("upgrade"))
    {
        return Err(UpgradeError::Malformed);
    }
    if only(fields, "sec-websocket-version")? != Some("13") {
        return Err(UpgradeError::Version);
    }
    if let Some(origin) = only(fields, "origin")?
        && !may_connect(&listener.origins, origin, host)
    {
        return Err(UpgradeError::Origin);
    }
    let key = only(fields, "sec-websocket-key")?
        .filter(|key| is_key(key))
        .ok_or(UpgradeError::Malformed)?;
    let protocol = PROTOCOLS
        .into_iter()
        .find(|known| lists(fields, "sec-websocket-protocol").any(|offered| offered == *known))
        .ok_or(UpgradeError::Protocol)?;
    Ok(Request {
        accept: accept(key),
        protocol,
        forwarded_for: forwarded_for(fields),
    })
}

/// The value of a field that may stand once.
fn only<'a>(fields: &[httparse::Header<'a>], name: &str) -> Result<Option<&'a str>, UpgradeError> {
    let mut found = fields
        .iter()
        .filter(|field| field.name.eq_ignore_ascii_case(name));
    let Some(field) = found.next() else {
        return Ok(None);
    };
    if found.next().is_some() {
        return Err(UpgradeError::Malformed);
    }
    let value = std::str::from_utf8(field.value).map_err(|_| UpgradeError::Malformed)?;
    Ok(Some(value.trim()))
}

/// The words of a field that is a list, from all places where it stands.
fn lists<'a>(fields: &[httparse::Header<'a>], name: &str) -> impl Iterator<Item = &'a str> {
    let values = fields
        .iter()
        .filter(move |field| field.name.eq_ignore_ascii_case(name));
    values
        .map(|field| std::str::from_utf8(field.value).unwrap_or_default())
        .flat_map(|value| value.split(',').map(str::trim))
}

fn may_connect(origins: &Origins, origin: &str, host: &str) -> bool {
    match origins {
        Origins::Any => true,
        Origins::Listed(listed) => listed
            .iter()
            .any(|known| known.eq_ignore_ascii_case(origin)),
        Origins::SameHost => origin
            .split_once("://")
            .is_some_and(|(_, authority)| name(authority).eq_ignore_ascii_case(name(host))),
    }
}

/// The host without its port.
fn name(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// 16 bytes in base64.
fn is_key(key: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    key.len() == 24
        && key
            .strip_suffix("==")
            .is_some_and(|digits| digits.bytes().all(is_digit))
}

fn accept(key: &str) -> String {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key.as_bytes(), GUID].concat());
    base64(hash.as_ref())
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |index| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let digit = DIGITS.get((bits >> (18 - 6 * place) & 63) as usize);
            let is_filled = place <= chunk.len();
            text.push(char::from(*digit.filter(|_| is_filled).unwrap_or(&b'=')));
        }
    }
    text
}

fn forwarded_for(fields: &[httparse::Header<'_>]) -> Vec<IpAddr> {
    let entries: Vec<&str> = lists(fields, "x-forwarded-for").collect();
    let mut addresses: Vec<IpAddr> = entries
        .into_iter()
        .rev()
        .map_while(|entry| entry.parse::<IpAddr>().ok())
        .map(|address| address.to_canonical())
        .collect();
    addresses.reverse();
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "GET /mqtt HTTP/1.1\r\nHost: broker.example:8080\r\nUpgrade: WebSocket\r\n\
        Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

    fn check_with(text: &str, origins: Origins, path: &str, expected: Result<(), UpgradeError>) {
        let listener = WebSocket {
            path: path.to_owned(),
            origins,
        };
        for end in 0..text.len() {
            let early = read_request(&text.as_bytes()[..end], &listener);
            assert!(
                matches!(early, Ok(None)) || expected.is_err(),
                "{end} of {text}"
            );
        }
        let found = read_request(format!("{text}behind").as_bytes(), &listener);
        match expected {
            Ok(()) => assert_eq!(found.unwrap().unwrap().1, text.len()),
            Err(error) => assert_eq!(found.unwrap_err(), error, "{text}"),
        }
    }

    fn check(from: &str, to: &str, expected: Result<(), UpgradeError>) {
        assert!(GOOD.contains(from));
        let text = GOOD.replace(from, to);
        check_with(&text, Origins::SameHost, "/mqtt", expected);
    }

    #[test]
    fn request_is_answered_as_the_standard_shows() {
        let (request, _) = read_request(GOOD.as_bytes(), &WebSocket::new())
            .unwrap()
            .unwrap();
        assert_eq!(request.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(
            request
                .answer()
                .contains("Sec-WebSocket-Protocol: mqtt\r\n")
        );
        assert!(!request.answer().contains("Extensions"));
    }

    #[test]
    fn requests_that_are_none_are_refused() {
        use UpgradeError::{Malformed, Method, Path, Protocol, Version};

        check("GET", "GET", Ok(()));
        check("/mqtt", "/mqtt?token=1", Ok(()));
        check("GET", "POST", Err(Method));
        check("HTTP/1.1", "HTTP/1.0", Err(Malformed));
        check("/mqtt", "/", Err(Path));
        check("/mqtt", "/mqtt/", Err(Path));
        check("Host: ", "X: ", Err(Malformed));
        check("Host: ", "Host: other\r\nHost: ", Err(Malformed));
        check("WebSocket", "h2c", Err(Malformed));
        check("keep-alive, Upgrade", "keep-alive", Err(Malformed));
        check(": 13", ": 8", Err(Version));
        check("Key: dG", "Key: d", Err(Malformed));
        check("dGhl", "d*hl", Err(Malformed));
        check("Protocol: mqtt", "Protocol: chat, mqtt5", Err(Protocol));
        check("Sec-WebSocket-Protocol", "X", Err(Protocol));
        check("Protocol: mqtt", "Protocol: chat,mqttv3.1", Ok(()));
        check("GET /mqtt HTTP/1.1\r\n", "\x16\x03\x01 ", Err(Malformed));
    }

    #[test]
    fn header_is_bounded() {
        let many = "X: y\r\n".repeat(FIELDS_MAX);
        check("Host", &format!("{many}Host"), Err(UpgradeError::TooLarge));
        let fits = "X: y\r\n".repeat(FIELDS_MAX - 6);
        check("Host", &format!("{fits}Host"), Ok(()));
        let long = format!("X: {}\r\n", "y".repeat(HEADER_BYTES_MAX - GOOD.len() - 5));
        check("Host", &format!("{long}Host"), Ok(()));
        check(
            "Host",
            &format!("X: y{long}Host"),
            Err(UpgradeError::TooLarge),
        );
    }

    #[test]
    fn web_pages_connect_from_where_they_may() {
        let listed = || Origins::Listed(vec!["https://app.example".to_owned()]);
        let forbidden = Err(UpgradeError::Origin);
        for (origin, same_host, in_list) in [
            ("http://broker.example", Ok(()), forbidden),
            ("https://BROKER.example:8443", Ok(()), forbidden),
            ("https://app.example", forbidden, Ok(())),
            ("http://app.example", forbidden, forbidden),
            ("http://broker.example.evil", forbidden, forbidden),
            ("http://evil/broker.example", forbidden, forbidden),
            ("null", forbidden, forbidden),
            ("", forbidden, forbidden),
        ] {
            let text = GOOD.replace("Host", &format!("Origin: {origin}\r\nHost"));
            check_with(&text, Origins::SameHost, "", same_host);
            check_with(&text, listed(), "", in_list);
            check_with(&text, Origins::Any, "", Ok(()));
        }
        check_with(GOOD, listed(), "", Ok(()));
    }

    #[test]
    fn forwarded_addresses_are_read_from_the_end() {
        let listener = WebSocket::new();
        let text = GOOD.replace(
            "Host",
            "X-Forwarded-For: 1.1.1.1, evil, 2.2.2.2\r\nX-Forwarded-For: ::1\r\nHost",
        );
        let (request, _) = read_request(text.as_bytes(), &listener).unwrap().unwrap();
        let expected: [IpAddr; 2] = ["2.2.2.2".parse().unwrap(), "::1".parse().unwrap()];
        assert_eq!(request.forwarded_for, expected);
    }
}
