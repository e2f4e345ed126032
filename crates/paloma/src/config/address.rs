//! Where a listener listens.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use super::problem::Fault;

/// A place to listen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// A host name or IP address, and a port; port 0 lets the operating system choose.
    Tcp { host: String, port: u16 },
    /// A Unix socket at an absolute path.
    Unix { path: PathBuf },
}

/// What the URL of `--listen` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListenUrl<'a> {
    pub(crate) scheme: &'a str,
    pub(crate) address: Address,
    /// Of a WebSocket, if it is there.
    pub(crate) path: Option<&'a str>,
}

/// Whether no port can be open on both. An IP address that stands for all of this machine's takes its port on each of them; IPv4
/// and IPv6 are apart.
pub(crate) fn share_ports(ip: IpAddr, other: IpAddr) -> bool {
    ip.is_ipv4() == other.is_ipv4()
        && (ip == other || ip.is_unspecified() || other.is_unspecified())
}

impl Address {
    /// Reads `host:port`, `[v6]:port` or `unix:/path`.
    pub(crate) fn parse(text: &str) -> Result<Self, Fault> {
        let fault = || Fault::Address {
            found: text.to_owned(),
        };
        if let Some(path) = text.strip_prefix("unix:") {
            return Self::unix(path).ok_or_else(fault);
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(fault)?;
        let is_host = match host.strip_prefix('[') {
            Some(v6) => v6
                .strip_suffix(']')
                .is_some_and(|v6| matches!(v6.parse(), Ok(IpAddr::V6(_)))),
            None => is_host_name(host),
        };
        let is_port = !port.is_empty() && port.bytes().all(|digit| digit.is_ascii_digit());
        let port = port
            .parse()
            .ok()
            .filter(|_| is_host && is_port)
            .ok_or_else(fault)?;
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        Ok(Self::Tcp { host, port })
    }

    /// The kernel takes 107 bytes at most.
    fn unix(path: &str) -> Option<Self> {
        let is_fine = path.len() > 1 && path.len() < 108 && path.starts_with('/');
        (is_fine && !path.contains('\0')).then(|| Self::Unix { path: path.into() })
    }

    /// Reads the URL of `--listen`.
    pub(crate) fn parse_url(text: &str) -> Result<ListenUrl<'_>, Fault> {
        let fault = || Fault::Url {
            found: text.to_owned(),
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(fault)?;
        let (address, path) = match scheme {
            "unix" => (Self::unix(rest), None),
            "tcp" | "mqtt" | "tls" | "mqtts" => (
                Self::parse(rest.strip_suffix('/').unwrap_or(rest)).ok(),
                None,
            ),
            "ws" | "wss" => match rest.find('/') {
                Some(slash) => {
                    let (host, path) = rest.split_at(slash);
                    (Self::parse(host).ok(), Some(path))
                }
                None => (Self::parse(rest).ok(), None),
            },
            _ => (None, None),
        };
        let address = address.ok_or_else(fault)?;
        Ok(ListenUrl {
            scheme,
            address,
            path,
        })
    }

    /// What a TCP socket is bound to.
    pub(crate) fn host_and_port(&self) -> Option<(&str, u16)> {
        match self {
            Self::Tcp { host, port } => Some((host, *port)),
            Self::Unix { .. } => None,
        }
    }

    /// Whether listeners with both would be in each other's way.
    pub(crate) fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tcp { port: 0, .. }, Self::Tcp { port: 0, .. }) => false,
            (
                Self::Tcp { host, port },
                Self::Tcp {
                    host: other,
                    port: other_port,
                },
            ) => {
                let ips = host.parse().ok().zip(other.parse().ok());
                let is_one_ip = ips.is_some_and(|(ip, other)| share_ports(ip, other));
                port == other_port && (host == other || is_one_ip)
            }
            _ => self == other,
        }
    }

    /// Whether only this machine reaches it. A name other than `localhost` may mean anything.
    pub(crate) fn is_loopback(&self) -> bool {
        let Self::Tcp { host, .. } = self else {
            return true;
        };
        match host.parse::<IpAddr>() {
            Ok(address) => address.to_canonical().is_loopback(),
            Err(_) => host.eq_ignore_ascii_case("localhost"),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix { path } => write!(f, "unix:{}", path.display()),
        }
    }
}

fn is_host_name(host: &str) -> bool {
    let is_allowed = |letter: u8| letter.is_ascii_alphanumeric() || b".-_".contains(&letter);
    !host.is_empty() && host.len() <= 253 && host.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<(&str, u16, bool)>) {
        let address = Address::parse(text).ok();
        let found = address.as_ref().map(|address| match address {
            Address::Tcp { host, port } => (host.as_str(), *port, address.is_loopback()),
            Address::Unix { path } => (path.to_str().unwrap(), 0, address.is_loopback()),
        });
        assert_eq!(found, expected, "{text}");
        if let Some(address) = &address {
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn addresses_are_host_and_port() {
        check("127.0.0.1:1883", Some(("127.0.0.1", 1883, true)));
        check("127.9.9.9:0", Some(("127.9.9.9", 0, true)));
        check("0.0.0.0:1883", Some(("0.0.0.0", 1883, false)));
        check("localhost:1883", Some(("localhost", 1883, true)));
        check(
            "broker.example:65535",
            Some(("broker.example", 65_535, false)),
        );
        check("[::1]:1883", Some(("::1", 1883, true)));
        check("[::]:1883", Some(("::", 1883, false)));
        check("[::ffff:127.0.0.1]:1", Some(("::ffff:127.0.0.1", 1, true)));
        check("unix:/run/paloma.sock", Some(("/run/paloma.sock", 0, true)));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            ":",
            ":1883",
            "localhost",
            "localhost:",
            "a b:1",
            "::1:1883",
            "[::1]",
            "[1.2.3.4]:1",
            "[x]:1",
            "localhost:65536",
            "localhost:-1",
            "localhost:+1",
            "local/host:1",
            "[::1:1",
            "unix:",
            "unix:/",
            "unix:relative",
            "unix://host/path/that/is/longer/than/a/socket/may/be/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn an_address_of_all_interfaces_takes_the_port_of_each() {
        let check = |one: &str, other: &str, expected: bool| {
            let (one, other) = (Address::parse(one).unwrap(), Address::parse(other).unwrap());
            assert_eq!(one.excludes(&other), expected, "{one} {other}");
            assert_eq!(other.excludes(&one), expected, "{other} {one}");
        };
        check("127.0.0.1:1883", "127.0.0.1:1883", true);
        check("127.0.0.1:1883", "127.0.0.1:1884", false);
        check("127.0.0.1:1883", "127.0.0.2:1883", false);
        check("127.0.0.1:1883", "0.0.0.0:1883", true);
        check("[::1]:1883", "[::]:1883", true);
        check("[::]:1883", "0.0.0.0:1883", false);
        check("0.0.0.0:0", "0.0.0.0:0", false);
        check("localhost:1883", "localhost:1883", true);
        check("unix:/a", "unix:/a", true);
        check("unix:/a", "127.0.0.1:1883", false);
    }

    #[test]
    fn a_listen_url_has_a_scheme() {
        let check = |text, scheme: &str, address: &str, path: Option<&str>| {
            let url = Address::parse_url(text).unwrap();
            let found = (url.scheme, url.address.to_string(), url.path);
            assert_eq!(found, (scheme, address.to_owned(), path));
        };
        check("tcp://127.0.0.1:1883", "tcp", "127.0.0.1:1883", None);
        check("mqtt://[::1]:1883/", "mqtt", "[::1]:1883", None);
        check("tls://h:8883", "tls", "h:8883", None);
        check("ws://h:80", "ws", "h:80", None);
        check("wss://h:443/a/b", "wss", "h:443", Some("/a/b"));
        check("unix:///run/p.sock", "unix", "unix:/run/p.sock", None);
        let url = Address::parse_url;
        for wrong in [
            "unix://run/p.sock",
            "ws://h/mqtt",
            "127.0.0.1:1883",
            "tcp:/h:1",
            "http://h:1",
            "tcp://h",
            "tcp://h:1/x",
        ] {
            assert!(matches!(url(wrong), Err(Fault::Url { .. })), "{wrong}");
        }
    }
}
