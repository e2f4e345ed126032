//! The keys that say who may come in and what they may do there: `[auth]` with its tables, and a listener's own.

use std::path::PathBuf;
use std::time::Duration;

use paloma_auth::JwtRules;
use paloma_tokio::CertificateIdentity;
use toml::de::DeTable;

use super::keys::{Key, Source, find, nearest, put};
use super::problem::{Fault, Place, Problems};
use super::show::Page;
use super::transport::IDENTITIES;
use super::value::Value;
use crate::parts::{self, NotBuilt};

/// The tables of `[auth]`; a listener has all but the last, which is a part of its TLS.
const TABLES: &[&str] = &["jwt", "http", "scram", "certificate"];

/// # Errors
/// A table is about what this build is without.
fn need(table: &str) -> Result<(), NotBuilt> {
    match table {
        "jwt" => parts::JWT.need(),
        "http" => parts::HTTP.need(),
        "certificate" => parts::TLS.need(),
        _ => Ok(()),
    }
}

/// How clients prove who they are, and where it is written what they may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AuthSettings {
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) acl_file: Option<PathBuf>,
    pub(crate) jwt: Option<JwtSettings>,
    pub(crate) http: Option<HttpSettings>,
    pub(crate) scram: Option<ScramSettings>,
    /// What becomes the user name of a client with a certificate, where its listener does not say.
    pub(crate) certificate: Option<CertificateSettings>,
}

/// `[auth.jwt]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct JwtSettings {
    /// A shared secret for HS256.
    pub(crate) secret_file: Option<PathBuf>,
    /// Public keys in PEM, a JWK or a JWKS.
    pub(crate) key_file: Option<PathBuf>,
    pub(crate) rules: JwtRules,
    pub(super) place: Written,
}

/// `[auth.http]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpSettings {
    pub(crate) url: String,
    /// Its one line goes along as a bearer token.
    pub(crate) token_file: Option<PathBuf>,
    /// One of its certificates has to vouch for the service.
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) timeout: Duration,
    pub(crate) requests_max: usize,
    pub(crate) waiting_max: usize,
    /// How long an answer holds that does not say so.
    pub(crate) ttl: Option<Duration>,
    pub(super) place: Written,
}

/// `[auth.scram]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ScramSettings {
    pub(crate) file: Option<PathBuf>,
    pub(super) place: Written,
}

/// `[auth.certificate]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CertificateSettings {
    pub(crate) identity: CertificateIdentity,
    pub(super) place: Written,
}

/// Where a table was written, which makes no two of them different.
#[derive(Clone, Debug)]
pub(super) struct Written(pub(super) Place);

impl Default for Written {
    fn default() -> Self {
        Self(Place::Default)
    }
}

impl PartialEq for Written {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Written {}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            url: String::new(),
            token_file: None,
            ca_file: None,
            timeout: Duration::from_secs(2),
            requests_max: 16,
            waiting_max: 256,
            ttl: Some(Duration::from_secs(300)),
            place: Written::default(),
        }
    }
}

impl Default for CertificateSettings {
    fn default() -> Self {
        Self {
            identity: CertificateIdentity::CommonName,
            place: Written::default(),
        }
    }
}

impl AuthSettings {
    /// Each of these, and in place of those that are not there the others.
    pub(crate) fn or(&self, others: &Self) -> Self {
        fn or<T: Clone>(own: Option<&T>, other: Option<&T>) -> Option<T> {
            own.or(other).cloned()
        }
        Self {
            password_file: or(self.password_file.as_ref(), others.password_file.as_ref()),
            acl_file: or(self.acl_file.as_ref(), others.acl_file.as_ref()),
            jwt: or(self.jwt.as_ref(), others.jwt.as_ref()),
            http: or(self.http.as_ref(), others.http.as_ref()),
            scram: or(self.scram.as_ref(), others.scram.as_ref()),
            certificate: or(self.certificate.as_ref(), others.certificate.as_ref()),
        }
    }

    /// Whether a client can prove who it is, other than by a certificate.
    pub(crate) const fn knows_names(&self) -> bool {
        self.password_file.is_some()
            || self.jwt.is_some()
            || self.http.is_some()
            || self.scram.is_some()
    }

    /// Reads the tables within `[auth]` or a `[[listener]]`.
    pub(super) fn read_tables<'a>(
        &mut self,
        source: &Source<'_>,
        prefix: &str,
        table: &'a DeTable<'a>,
        problems: &mut Problems,
    ) {
        for name in TABLES {
            let Some((key, value)) = table.get_key_value(*name) else {
                continue;
            };
            let inner = value.get_ref().as_table();
            let Some(inner) = inner.filter(|_| need(name).is_ok()) else {
                // Said by the key of this name.
                continue;
            };
            let place = Written(source.place(key.span().start));
            let prefix = format!("{prefix}.{name}");
            match *name {
                "jwt" => {
                    let jwt = self.jwt.insert(JwtSettings::default());
                    jwt.place = place;
                    source.read_table(&prefix, inner, JWT, jwt, problems);
                }
                "http" => {
                    let http = self.http.insert(HttpSettings::default());
                    http.place = place;
                    source.read_table(&prefix, inner, HTTP, http, problems);
                }
                "scram" => {
                    let scram = self.scram.insert(ScramSettings::default());
                    scram.place = place;
                    source.read_table(&prefix, inner, SCRAM, scram, problems);
                }
                _ => {
                    let certificate = self.certificate.insert(CertificateSettings::default());
                    certificate.place = place;
                    source.read_table(&prefix, inner, CERTIFICATE, certificate, problems);
                }
            }
        }
    }

    /// Sets one key of a table from elsewhere: `jwt.issuer`.
    pub(super) fn set(&mut self, table: &str, key: &str, value: &Value<'_>) -> Result<(), Fault> {
        need(table)?;
        match table {
            "jwt" => (find(JWT, key)?.set)(self.jwt.get_or_insert_default(), value),
            "http" => (find(HTTP, key)?.set)(self.http.get_or_insert_default(), value),
            "scram" => (find(SCRAM, key)?.set)(self.scram.get_or_insert_default(), value),
            "certificate" => {
                let certificate = self.certificate.get_or_insert_default();
                (find(CERTIFICATE, key)?.set)(certificate, value)
            }
            _ => Err(Fault::UnknownKey {
                nearest: nearest(TABLES.iter().copied(), table),
            }),
        }
    }

    /// Notes what is wrong with the keys of each table together.
    pub(super) fn check(&self, prefix: &str, problems: &mut Problems) {
        let mut note = |Written(place): &Written, table: &str, rule| {
            let key = format!("{prefix}.{table}");
            problems.push(place.clone(), key, Fault::Text { rule });
        };
        if let Some(jwt) = &self.jwt {
            match (&jwt.secret_file, &jwt.key_file) {
                (Some(_), Some(_)) => note(
                    &jwt.place,
                    "jwt",
                    "it has `secret_file` or `key_file`, not both",
                ),
                (None, None) => note(&jwt.place, "jwt", "it needs `secret_file` or `key_file`"),
                (Some(_), None) | (None, Some(_)) => {}
            }
        }
        if let Some(http) = &self.http {
            if http.url.is_empty() {
                note(&http.place, "http", "it needs a `url`");
            } else if http.ca_file.is_some() && !http.url.starts_with("https://") {
                note(&http.place, "http", "`ca_file` does nothing without https");
            }
        }
        if let Some(scram) = &self.scram
            && scram.file.is_none()
        {
            note(&scram.place, "scram", "it needs a `file`");
        }
    }

    /// Writes the keys and tables that say the same; `table` is what the tables' names begin with.
    pub(super) fn show_keys(&self, page: &mut Page) {
        page.text("password_file", &shown(self.password_file.as_ref()));
        page.text("acl_file", &shown(self.acl_file.as_ref()));
    }

    /// Writes the tables; their names begin with `prefix`.
    pub(super) fn show_tables(&self, prefix: &str, page: &mut Page) {
        if let Some(jwt) = &self.jwt {
            page.table(&format!("[{prefix}.jwt]"));
            page.text("secret_file", &shown(jwt.secret_file.as_ref()));
            page.text("key_file", &shown(jwt.key_file.as_ref()));
            page.text("issuer", jwt.rules.issuer.as_deref().unwrap_or_default());
            page.text(
                "audience",
                jwt.rules.audience.as_deref().unwrap_or_default(),
            );
            page.text("user_claim", &jwt.rules.user_claim);
            page.text("acl_claim", &jwt.rules.acl_claim);
            page.bare("leeway_seconds", jwt.rules.leeway.as_secs());
        }
        if let Some(http) = &self.http {
            page.table(&format!("[{prefix}.http]"));
            page.text("url", &without_secrets(&http.url));
            page.text("token_file", &shown(http.token_file.as_ref()));
            page.text("ca_file", &shown(http.ca_file.as_ref()));
            page.bare("timeout_ms", http.timeout.as_millis());
            page.bare("requests_max", http.requests_max);
            page.bare("waiting_max", http.waiting_max);
            match http.ttl {
                Some(ttl) => page.bare("ttl_seconds", ttl.as_secs()),
                None => page.text("ttl_seconds", "unlimited"),
            }
        }
        if let Some(scram) = &self.scram {
            page.table(&format!("[{prefix}.scram]"));
            page.text("file", &shown(scram.file.as_ref()));
        }
        if let Some(certificate) = &self.certificate {
            page.table(&format!("[{prefix}.certificate]"));
            let names = IDENTITIES.iter();
            let mut names = names.filter(|(_, identity)| *identity == certificate.identity);
            page.text("identity", names.next().map_or("none", |(name, _)| name));
        }
    }
}

fn shown(path: Option<&PathBuf>) -> String {
    path.map_or_else(String::new, |path| path.display().to_string())
}

/// A URL whose query, which may be a key to the service, is hidden.
fn without_secrets(url: &str) -> String {
    match url.split_once('?') {
        Some((before, _)) => format!("{before}?hidden"),
        None => url.to_owned(),
    }
}

/// The path of a file; an empty one is none.
pub(super) fn path(value: &Value<'_>) -> Result<Option<PathBuf>, Fault> {
    let text = value.text()?;
    if text.contains('\0') {
        let rule = "a path has no NUL character";
        return Err(Fault::Text { rule });
    }
    Ok((!text.is_empty()).then(|| PathBuf::from(text)))
}

/// A text of a token; an empty one is none.
fn claim(value: &Value<'_>) -> Result<Option<String>, Fault> {
    let text = value.text()?;
    if text.len() > 1_024 || text.chars().any(char::is_control) {
        let rule = "it has at most 1024 bytes and no control characters";
        return Err(Fault::Text { rule });
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

fn claim_name(value: &Value<'_>) -> Result<String, Fault> {
    let rule = "a claim has a name";
    claim(value)?.ok_or(Fault::Text { rule })
}

const JWT: &[Key<JwtSettings>] = &[
    Key {
        name: "secret_file",
        set: |jwt, value| put(&mut jwt.secret_file, path(value)),
    },
    Key {
        name: "key_file",
        set: |jwt, value| put(&mut jwt.key_file, path(value)),
    },
    Key {
        name: "issuer",
        set: |jwt, value| put(&mut jwt.rules.issuer, claim(value)),
    },
    Key {
        name: "audience",
        set: |jwt, value| put(&mut jwt.rules.audience, claim(value)),
    },
    Key {
        name: "user_claim",
        set: |jwt, value| put(&mut jwt.rules.user_claim, claim_name(value)),
    },
    Key {
        name: "acl_claim",
        set: |jwt, value| put(&mut jwt.rules.acl_claim, claim_name(value)),
    },
    Key {
        name: "leeway_seconds",
        set: |jwt, value| {
            let seconds = value.number(0, 300);
            put(&mut jwt.rules.leeway, seconds.map(Duration::from_secs))
        },
    },
];

const HTTP: &[Key<HttpSettings>] = &[
    Key {
        name: "url",
        set: |http, value| {
            let url = value.text()?;
            let rest = url
                .strip_prefix("http://")
                .or_else(|| url.strip_prefix("https://"));
            let host = rest.and_then(|rest| rest.split(['/', '?']).next());
            let is_clean = url.bytes().all(|byte| byte.is_ascii_graphic());
            match host {
                Some(host) if host.contains('@') => Err(Fault::Text {
                    rule: "a password has no place in a URL: name a token_file",
                }),
                Some(host) if !host.is_empty() && is_clean && url.len() <= 2_048 => {
                    if url.starts_with("https://") {
                        parts::HTTPS.need()?;
                    }
                    put(&mut http.url, Ok(url.to_owned()))
                }
                Some(_) | None => Err(Fault::Text {
                    rule: "it begins with http:// or https:// and a host",
                }),
            }
        },
    },
    Key {
        name: "token_file",
        set: |http, value| put(&mut http.token_file, path(value)),
    },
    Key {
        name: "ca_file",
        set: |http, value| put(&mut http.ca_file, path(value)),
    },
    Key {
        name: "timeout_ms",
        set: |http, value| {
            let millis = value.number(1, 60_000);
            put(&mut http.timeout, millis.map(Duration::from_millis))
        },
    },
    Key {
        name: "requests_max",
        set: |http, value| put(&mut http.requests_max, value.number(1, 256)),
    },
    Key {
        name: "waiting_max",
        set: |http, value| put(&mut http.waiting_max, value.number(0, 65_536)),
    },
    Key {
        name: "ttl_seconds",
        set: |http, value| {
            let seconds = value.number_or_unlimited(10, 31_536_000, u64::MAX);
            let ttl = |seconds| (seconds != u64::MAX).then(|| Duration::from_secs(seconds));
            put(&mut http.ttl, seconds.map(ttl))
        },
    },
];

const SCRAM: &[Key<ScramSettings>] = &[Key {
    name: "file",
    set: |scram, value| put(&mut scram.file, path(value)),
}];

const CERTIFICATE: &[Key<CertificateSettings>] = &[Key {
    name: "identity",
    set: |certificate, value| put(&mut certificate.identity, value.choice(IDENTITIES)),
}];
