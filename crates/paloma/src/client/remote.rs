//! Which broker the arguments name, and what else their URL says.

use paloma_client::{Remote, Tls, TlsFiles, UrlError};

use super::Usage;
use crate::cli::BrokerArgs;

/// A broker, and what a URL says besides.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) remote: Remote,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) topic: Option<String>,
}

impl Target {
    pub(crate) fn new(arguments: &BrokerArgs) -> Result<Self, Usage> {
        let mut target = match &arguments.url {
            Some(url) => Self::from_url(url)?,
            None => Self::from_host(arguments)?,
        };
        let Some(ca) = &arguments.cafile else {
            if target.remote.is_secure() {
                return Err(Usage::NoAuthorities);
            }
            return Ok(target);
        };
        let files = TlsFiles {
            ca: ca.clone(),
            certificate: arguments.cert.clone().zip(arguments.key.clone()),
            is_any_host: arguments.insecure,
        };
        target.remote = target
            .remote
            .with_tls(Tls::load(&files).map_err(Usage::Tls)?);
        Ok(target)
    }

    fn from_host(arguments: &BrokerArgs) -> Result<Self, Usage> {
        let (scheme, default_port) = match arguments.cafile {
            Some(_) => ("mqtts", 8883),
            None => ("mqtt", 1883),
        };
        let host = &arguments.host;
        let is_v6 = host.contains(':') && !host.starts_with('[');
        let (open, close) = if is_v6 { ("[", "]") } else { ("", "") };
        let port = arguments.port.unwrap_or(default_port);
        let remote = Remote::new(&format!("{scheme}://{open}{host}{close}:{port}"));
        Ok(Self {
            remote: remote.map_err(Usage::Url)?,
            username: None,
            password: None,
            topic: None,
        })
    }

    fn from_url(url: &str) -> Result<Self, Usage> {
        let (scheme, rest) = url
            .split_once("://")
            .ok_or(Usage::Url(UrlError::Malformed))?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        let (username, password) = match user.map(|user| user.split_once(':').ok_or(user)) {
            None => (None, None),
            Some(Err(user)) => (Some(decoded(user)?), None),
            Some(Ok((user, password))) => (Some(decoded(user)?), Some(decoded(password)?)),
        };
        let is_topic = matches!(scheme, "mqtt" | "mqtts" | "tcp" | "tls") && path.len() > 1;
        let topic = path.strip_prefix('/').filter(|_| is_topic);
        Ok(Self {
            remote: Remote::new(&format!("{scheme}://{host}{path}")).map_err(Usage::Url)?,
            username,
            password,
            topic: topic.map(decoded).transpose()?,
        })
    }
}

/// Puts bytes in place of `%` and two digits.
fn decoded(text: &str) -> Result<String, Usage> {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(2).ok_or(Usage::UrlEncoding)?;
        let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let byte = u8::from_str_radix(digits, 16).ok().filter(|_| is_hex);
        bytes.push(byte.ok_or(Usage::UrlEncoding)?);
        bytes.extend(rest.as_bytes());
    }
    String::from_utf8(bytes).map_err(|_| Usage::UrlEncoding)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, place: &str, user: Option<(&str, Option<&str>)>, topic: Option<&str>) {
        let target = Target::from_url(url).unwrap();
        assert_eq!(target.remote.to_string(), place);
        let found = target.username.as_deref();
        assert_eq!(found.map(|name| (name, target.password.as_deref())), user);
        assert_eq!(target.topic.as_deref(), topic);
    }

    #[test]
    fn urls_say_broker_user_and_topic() {
        check("mqtt://h", "h:1883", None, None);
        check("mqtt://u@h/", "h:1883", Some(("u", None)), None);
        check(
            "mqtts://u:p%40%3A@h:1/a/b%23",
            "h:1",
            Some(("u", Some("p@:"))),
            Some("a/b#"),
        );
        check(
            "ws://u:p@[::1]/path",
            "[::1]:80",
            Some(("u", Some("p"))),
            None,
        );
        check("unix:///run/s", "/run/s", None, None);
    }

    #[test]
    fn other_urls_are_refused() {
        for url in [
            "h",
            "http://h",
            "mqtt://",
            "mqtt://%@h",
            "mqtt://%4@h",
            "mqtt://h/%FF",
            "mqtt://h/%+1",
        ] {
            assert!(Target::from_url(url).is_err(), "{url}");
        }
    }
}
