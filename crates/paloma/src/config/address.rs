//! Where a listener listens.

use std::fmt;
use std::net::IpAddr;

use super::problem::Fault;

/// A host name or IP address, and a port; port 0 lets the operating system choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// Reads `host:port`, `[v6]:port`.
    pub(crate) fn parse(text: &str) -> Result<Self, Fault> {
        if text.starts_with("unix:") {
            return Err(Fault::NotSupportedYet {
                instead: "listens on TCP only",
            });
        }
        let fault = || Fault::Address {
            found: text.to_owned(),
        };
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
        Ok(Self { host, port })
    }

    /// Reads the URL of `--listen`.
    pub(crate) fn parse_url(text: &str) -> Result<Self, Fault> {
        let fault = || Fault::Url {
            found: text.to_owned(),
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(fault)?;
        match scheme {
            "tcp" | "mqtt" => {
                let rest = rest.strip_suffix('/').unwrap_or(rest);
                Self::parse(rest).map_err(|_| fault())
            }
            "tls" | "mqtts" | "ws" | "wss" | "unix" => Err(Fault::NotSupportedYet {
                instead: "listens on tcp:// only",
            }),
            _ => Err(fault()),
        }
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// Whether only this machine reaches it. A name other than `localhost` may mean anything.
    pub(crate) fn is_loopback(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) => address.is_loopback(),
            Ok(IpAddr::V6(address)) => {
                address.is_loopback()
                    || address
                        .to_ipv4_mapped()
                        .is_some_and(|address| address.is_loopback())
            }
            Err(_) => self.host.eq_ignore_ascii_case("localhost"),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
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
        let found = address
            .as_ref()
            .map(|a| (a.host(), a.port(), a.is_loopback()));
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
        ] {
            check(text, None);
        }
    }

    #[test]
    fn a_listen_url_has_a_scheme() {
        let url = |text| Address::parse_url(text).map(|address| address.to_string());
        assert_eq!(url("tcp://127.0.0.1:1883"), Ok("127.0.0.1:1883".to_owned()));
        assert_eq!(url("mqtt://[::1]:1883/"), Ok("[::1]:1883".to_owned()));
        for later in [
            "tls://h:1",
            "ws://h:1",
            "wss://h:1",
            "unix:///run/paloma.sock",
        ] {
            assert!(
                matches!(url(later), Err(Fault::NotSupportedYet { .. })),
                "{later}"
            );
        }
        for wrong in [
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
