//! The keys of `[listener.tls]`, `[listener.websocket]` and `[listener.proxy_protocol]`: what carries the packets.

use std::path::PathBuf;

use paloma_tokio::proxy::ProxyProtocol;
use paloma_tokio::websocket::{Origins, WebSocket};
use paloma_tokio::{
    CertificateIdentity, ClientAuthority, ClientCertificates, Network, Tls, TlsFiles,
};
use toml::de::DeTable;

use super::keys::{Key, Source, put};
use super::problem::{Fault, Place, Problems};
use super::value::Value;
use crate::parts;

/// What carries the packets of a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Transport {
    pub(crate) is_websocket: bool,
    websocket: WebSocketKeys,
    pub(super) tls: Option<TlsKeys>,
    pub(crate) proxy_protocol: ProxyProtocol,
    /// Whose PROXY header and `X-Forwarded-For` are believed.
    pub(crate) trusted: Vec<Network>,
}

/// A value as it is written in the file.
#[derive(PartialEq, Eq)]
pub(super) enum Shown {
    Text(String),
    List(Vec<String>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct WebSocketKeys {
    path: String,
    origins: Vec<String>,
}

impl Default for WebSocketKeys {
    fn default() -> Self {
        Self {
            path: "/mqtt".to_owned(),
            origins: Vec::new(),
        }
    }
}

/// `[listener.tls]`; an empty path is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TlsKeys {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: PathBuf,
    asks_clients: Asks,
    crl: PathBuf,
    /// `None` where it is left to `[auth.certificate]`.
    identity: Option<CertificateIdentity>,
    /// Where the table begins, if it is in a file.
    place: Option<Place>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Asks {
    #[default]
    None,
    Optional,
    Required,
}

impl Transport {
    /// What `--listen` says by its scheme; the certificate is that of `--cert` and `--key`.
    pub(super) fn from_scheme(
        scheme: &str,
        path: Option<&str>,
        certificate: Option<(PathBuf, PathBuf)>,
    ) -> Result<Self, Fault> {
        let mut transport = Self {
            is_websocket: matches!(scheme, "ws" | "wss"),
            ..Self::default()
        };
        if transport.is_websocket {
            parts::WEBSOCKET.need()?;
        }
        if let Some(path) = path {
            path.clone_into(&mut transport.websocket.path);
        }
        if matches!(scheme, "tls" | "mqtts" | "wss") {
            parts::TLS.need()?;
            let rule = "TLS needs --cert FILE and --key FILE beside it";
            let (certificate, key) = certificate.ok_or(Fault::Text { rule })?;
            transport.tls = Some(TlsKeys {
                certificate,
                key,
                ..TlsKeys::default()
            });
        }
        Ok(transport)
    }

    /// Reads the tables within a `[[listener]]`.
    pub(super) fn read_tables<'a>(
        &mut self,
        source: &Source<'_>,
        prefix: &str,
        table: &'a DeTable<'a>,
        problems: &mut Problems,
    ) {
        let inner = |name: &str| table.get(name).and_then(|value| value.get_ref().as_table());
        let tls = inner("tls").filter(|_| parts::TLS.is_built);
        if let Some((table, value)) = tls.zip(table.get("tls")) {
            let mut tls = TlsKeys {
                place: Some(source.place(value.span().start)),
                ..TlsKeys::default()
            };
            let prefix = format!("{prefix}.tls");
            source.read_table(&prefix, table, TLS, &mut tls, problems);
            self.tls = Some(tls);
        }
        if let Some(table) = inner("websocket") {
            let prefix = format!("{prefix}.websocket");
            source.read_table(&prefix, table, WEBSOCKET, &mut self.websocket, problems);
        }
        if let Some(table) = inner("proxy_protocol") {
            let prefix = format!("{prefix}.proxy_protocol");
            source.read_table(&prefix, table, PROXY_PROTOCOL, self, problems);
        }
    }

    /// What is wrong with the keys together, the files that they name included: where, if it is known better than by
    /// the listener's place, in which table, and what.
    pub(super) fn check(&self, is_anonymous: bool) -> Vec<(Option<Place>, &'static str, Fault)> {
        let mut faults = Vec::new();
        if let Some(tls) = &self.tls {
            let fault = match tls.files().map(Tls::load) {
                Ok(Ok(_)) => None,
                Ok(Err(error)) => Some(Fault::Tls(error.to_string())),
                Err(rule) => Some(Fault::Text { rule }),
            };
            faults.extend(fault.map(|fault| (tls.place.clone(), "tls", fault)));
        }
        let takes_any_page = self.websocket.origins.iter().any(|origin| origin == "*");
        if self.is_websocket && takes_any_page && is_anonymous {
            let rule = "origins = [\"*\"] lets every web page in, and on this listener no client has to say who it is";
            faults.push((None, "websocket", Fault::Text { rule }));
        }
        if self.proxy_protocol != ProxyProtocol::Off && self.trusted.is_empty() {
            let rule = "PROXY headers are believed of trusted peers only: name them in `trusted`";
            faults.push((None, "proxy_protocol", Fault::Text { rule }));
        }
        faults
    }

    /// Names clients as `[auth.certificate]` says, if this listener asks them for certificates and says nothing itself. True
    /// if it asks.
    pub(super) fn name_clients_by(&mut self, identity: CertificateIdentity) -> bool {
        let Some(tls) = self
            .tls
            .as_mut()
            .filter(|tls| tls.asks_clients != Asks::None)
        else {
            return false;
        };
        tls.identity.get_or_insert(identity);
        true
    }

    /// Whether clients show certificates whose names become theirs.
    pub(crate) fn names_clients(&self) -> bool {
        let names = |tls: &TlsKeys| {
            tls.asks_clients != Asks::None && tls.identity() != CertificateIdentity::None
        };
        self.tls.as_ref().is_some_and(names)
    }

    /// The scheme of its address.
    pub(crate) const fn scheme(&self, is_unix: bool) -> &'static str {
        match (self.is_websocket, self.tls.is_some()) {
            (true, true) => "wss",
            (true, false) => "ws",
            (false, true) => "tls",
            (false, false) if is_unix => "unix",
            (false, false) => "tcp",
        }
    }

    /// Whether both say the same, wherever they say it.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.is_websocket == other.is_websocket && self.tables() == other.tables()
    }

    /// The tables that say the same, with their keys.
    pub(super) fn tables(&self) -> Vec<(&'static str, Vec<(&'static str, Shown)>)> {
        let mut tables = Vec::new();
        if let Some(tls) = &self.tls {
            let file = |path: &PathBuf| Shown::Text(path.display().to_string());
            let asks = match tls.asks_clients {
                Asks::None => "none",
                Asks::Optional => "optional",
                Asks::Required => "required",
            };
            let identity = match tls.identity() {
                CertificateIdentity::None => "none",
                CertificateIdentity::CommonName => "common_name",
                CertificateIdentity::Subject => "subject",
            };
            let keys = vec![
                ("certificate", file(&tls.certificate)),
                ("key", file(&tls.key)),
                ("client_ca", file(&tls.client_ca)),
                ("client_certificate", Shown::Text(asks.to_owned())),
                ("crl", file(&tls.crl)),
                ("identity", Shown::Text(identity.to_owned())),
            ];
            tables.push(("tls", keys));
        }
        let keys = vec![
            ("path", Shown::Text(self.websocket.path.clone())),
            ("origins", Shown::List(self.websocket.origins.clone())),
        ];
        tables.push(("websocket", keys));
        let version = match self.proxy_protocol {
            ProxyProtocol::Off => "off",
            ProxyProtocol::V1 => "1",
            ProxyProtocol::V2 => "2",
        };
        let trusted = self.trusted.iter().map(ToString::to_string).collect();
        let keys = vec![
            ("version", Shown::Text(version.to_owned())),
            ("trusted", Shown::List(trusted)),
        ];
        tables.push(("proxy_protocol", keys));
        tables
    }

    /// TLS with what the files hold now, if it is on.
    pub(crate) fn load_tls(&self) -> std::io::Result<Option<Tls>> {
        let Some(keys) = &self.tls else {
            return Ok(None);
        };
        let files = keys.files().map_err(std::io::Error::other)?;
        Ok(Some(Tls::load(files)?))
    }

    pub(crate) fn websocket(&self) -> Option<WebSocket> {
        if !self.is_websocket {
            return None;
        }
        let keys = &self.websocket;
        let mut websocket = WebSocket::new();
        websocket.path.clone_from(&keys.path);
        websocket.origins = if keys.origins.is_empty() {
            Origins::SameHost
        } else if keys.origins.iter().any(|origin| origin == "*") {
            Origins::Any
        } else {
            Origins::Listed(keys.origins.clone())
        };
        Some(websocket)
    }
}

impl TlsKeys {
    fn identity(&self) -> CertificateIdentity {
        self.identity.unwrap_or_default()
    }

    fn files(&self) -> Result<TlsFiles, &'static str> {
        let is_given = |path: &PathBuf| !path.as_os_str().is_empty();
        if !is_given(&self.certificate) || !is_given(&self.key) {
            return Err("TLS needs `certificate` and `key`");
        }
        let mut files = TlsFiles::new(&self.certificate, &self.key);
        let authority = ClientAuthority {
            ca: self.client_ca.clone(),
            crl: is_given(&self.crl).then(|| self.crl.clone()),
        };
        let asks = self.asks_clients;
        if asks == Asks::None && self.identity() != CertificateIdentity::None {
            return Err("`identity` needs `client_certificate` to be \"optional\" or \"required\"");
        }
        if asks == Asks::None && (is_given(&self.client_ca) || is_given(&self.crl)) {
            return Err("`client_ca` and `crl` do nothing while `client_certificate` is \"none\"");
        }
        if asks != Asks::None && !is_given(&self.client_ca) {
            return Err("`client_certificate` needs `client_ca`");
        }
        files.clients = match asks {
            Asks::None => ClientCertificates::None,
            Asks::Optional => ClientCertificates::Optional(authority),
            Asks::Required => ClientCertificates::Required(authority),
        };
        files.identity = self.identity();
        Ok(files)
    }
}

fn path(value: &Value<'_>) -> Result<PathBuf, Fault> {
    value.text().map(PathBuf::from)
}

/// What of a certificate becomes the user name.
pub(super) const IDENTITIES: &[(&str, CertificateIdentity)] = &[
    ("none", CertificateIdentity::None),
    ("common_name", CertificateIdentity::CommonName),
    ("subject", CertificateIdentity::Subject),
];

const TLS: &[Key<TlsKeys>] = &[
    Key {
        name: "certificate",
        set: |tls, value| put(&mut tls.certificate, path(value)),
    },
    Key {
        name: "key",
        set: |tls, value| put(&mut tls.key, path(value)),
    },
    Key {
        name: "client_ca",
        set: |tls, value| put(&mut tls.client_ca, path(value)),
    },
    Key {
        name: "client_certificate",
        set: |tls, value| {
            let choices = [
                ("none", Asks::None),
                ("optional", Asks::Optional),
                ("required", Asks::Required),
            ];
            put(&mut tls.asks_clients, value.choice(&choices))
        },
    },
    Key {
        name: "crl",
        set: |tls, value| put(&mut tls.crl, path(value)),
    },
    Key {
        name: "identity",
        set: |tls, value| put(&mut tls.identity, value.choice(IDENTITIES).map(Some)),
    },
];

const WEBSOCKET: &[Key<WebSocketKeys>] = &[
    Key {
        name: "path",
        set: |keys, value| {
            let path = value.text()?;
            if !path.is_empty() && (!path.starts_with('/') || path.contains(['?', ' '])) {
                let rule = "a path begins with `/` and has no query; \"\" accepts any";
                return Err(Fault::Text { rule });
            }
            put(&mut keys.path, Ok(path.to_owned()))
        },
    },
    Key {
        name: "origins",
        set: |keys, value| {
            let origins = value.texts()?;
            let is_origin = |origin: &&str| {
                *origin == "*"
                    || origin
                        .split_once("://")
                        .is_some_and(|(_, host)| !host.is_empty() && !host.contains('/'))
            };
            if !origins.iter().all(is_origin) {
                let rule =
                    "an origin is written as https://host or https://host:port; [\"*\"] is any";
                return Err(Fault::Text { rule });
            }
            let origins = origins.into_iter().map(str::to_owned).collect();
            put(&mut keys.origins, Ok(origins))
        },
    },
];

const PROXY_PROTOCOL: &[Key<Transport>] = &[
    Key {
        name: "version",
        set: |transport, value| {
            let choices = [
                ("off", ProxyProtocol::Off),
                ("1", ProxyProtocol::V1),
                ("2", ProxyProtocol::V2),
            ];
            let version = match value.number::<u8>(1, 2) {
                Ok(1) => Ok(ProxyProtocol::V1),
                Ok(_) => Ok(ProxyProtocol::V2),
                Err(Fault::WrongType { .. }) => value.choice(&choices),
                Err(fault) => Err(fault),
            };
            put(&mut transport.proxy_protocol, version)
        },
    },
    Key {
        name: "trusted",
        set: |transport, value| {
            let rule = "trusted peers are addresses, or networks as 10.0.0.0/8";
            let networks = value.texts()?.into_iter().map(str::parse);
            let networks = networks.collect::<Result<_, _>>();
            put(
                &mut transport.trusted,
                networks.map_err(|_| Fault::Text { rule }),
            )
        },
    },
];
