//! The keys of `[[listener]]`, and what listeners must be to each other.

use paloma_broker::{ListenerTerms, MountPoint};
use paloma_codec::ProtocolVersion;
use paloma_tokio::CertificateIdentity;
use toml::de::DeTable;

use super::Flags;
use super::address::Address;
use super::auth::{AuthSettings, path};
use super::keys::{Key, Source, put};
use super::problem::{Fault, Place, Problems};
use super::transport::Transport;
use crate::parts;

/// A place to listen for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listener {
    pub(crate) name: String,
    pub(crate) address: Address,
    /// Whether clients that do not say who they are may connect from other machines.
    pub(crate) allow_anonymous: bool,
    /// Those that are spoken here, in order.
    pub(crate) protocols: Vec<ProtocolVersion>,
    pub(crate) allow_empty_client_id: bool,
    /// Put before client ids that the broker assigns.
    pub(crate) client_id_prefix: String,
    /// What all names of its clients begin with, which they do not see.
    pub(crate) mount_point: MountPoint,
    /// Most connections through this listener; `None` for no limit of its own.
    pub(crate) connections_max: Option<usize>,
    /// Permissions of a Unix socket.
    pub(crate) socket_mode: u32,
    pub(crate) transport: Transport,
    /// Take the place of those of `[auth]`.
    pub(crate) auth: AuthSettings,
    /// Where the address was given, and in which key.
    place: Place,
    key: String,
    /// Where the name was given, if it was.
    name_place: Option<Place>,
    /// What was given as the address is none, which has been said.
    is_nowhere: bool,
}

impl Listener {
    /// A listener with every value at its default.
    pub(super) fn new(address: Address) -> Self {
        Self {
            name: "default".to_owned(),
            address,
            allow_anonymous: false,
            protocols: PROTOCOLS.iter().map(|(_, version)| *version).collect(),
            allow_empty_client_id: true,
            client_id_prefix: String::new(),
            mount_point: MountPoint::default(),
            connections_max: None,
            socket_mode: 0o600,
            transport: Transport::default(),
            auth: AuthSettings::default(),
            place: Place::Default,
            key: "listener.address".to_owned(),
            name_place: None,
            is_nowhere: false,
        }
    }

    /// The listener of one `--listen URL`, with the other flags.
    pub(super) fn from_url(url: &str, flags: &Flags) -> Result<Self, Fault> {
        let url = Address::parse_url(url)?;
        let certificate = flags.cert.clone().zip(flags.key.clone());
        let transport = Transport::from_scheme(url.scheme, url.path, certificate)?;
        Ok(Self {
            name: url.address.to_string(),
            allow_anonymous: flags.allow_anonymous,
            transport,
            place: Place::Flag { flag: "--listen" },
            key: String::new(),
            ..Self::new(url.address)
        })
    }

    /// The listener of one `[[listener]]`, the `index`th.
    pub(super) fn from_table<'a>(
        source: &Source<'_>,
        index: usize,
        table: &'a DeTable<'a>,
        offset: usize,
        default: &Address,
        problems: &mut Problems,
    ) -> Self {
        let prefix = format!("listener[{index}]");
        let mut listener = Self {
            place: source.place(offset),
            key: format!("{prefix}.address"),
            ..Self::new(default.clone())
        };
        source.read_table(&prefix, table, KEYS, &mut listener, problems);
        let transport = &mut listener.transport;
        transport.read_tables(source, &prefix, table, problems);
        let auth = &mut listener.auth;
        auth.read_tables(source, &prefix, table, problems);
        if let Some(address) = table.get("address") {
            listener.place = source.place(address.span().start);
            let text = address.get_ref().as_str();
            listener.is_nowhere = text.is_none_or(|text| Address::parse(text).is_err());
        }
        match table.get("name") {
            Some(name) => listener.name_place = Some(source.place(name.span().start)),
            None => listener.name = listener.address.to_string(),
        }
        listener
    }

    /// Where it would listen.
    pub(crate) fn url(&self) -> String {
        let (is_unix, place) = match &self.address {
            Address::Tcp { .. } => (false, self.address.to_string()),
            Address::Unix { path } => (true, path.display().to_string()),
        };
        format!("{}://{place}", self.transport.scheme(is_unix))
    }

    /// What it asks of a CONNECT.
    pub(crate) fn terms(&self) -> ListenerTerms {
        ListenerTerms {
            versions: self.protocols.clone(),
            allow_empty_client_id: self.allow_empty_client_id,
            client_id_prefix: self.client_id_prefix.clone(),
            mount_point: self.mount_point.clone(),
        }
    }

    /// Names clients by their certificates as `[auth.certificate]` says. True if it asks for certificates.
    pub(super) fn name_clients_by(&mut self, identity: CertificateIdentity) -> bool {
        self.transport.name_clients_by(identity)
    }

    /// Whether its clients can prove who they are.
    pub(crate) fn knows_names(&self, auth: &AuthSettings) -> bool {
        self.auth.or(auth).knows_names() || self.transport.names_clients()
    }

    /// Whether other machines may reach it: clients prove who they are, or somebody said that they need not.
    pub(crate) fn may_be_reached(&self, auth: &AuthSettings) -> bool {
        self.allow_anonymous || self.knows_names(auth)
    }

    /// Whether clients need not say who they are. Without any names to check, this machine's own need not.
    pub(crate) fn lets_anybody_in(&self, auth: &AuthSettings) -> bool {
        self.allow_anonymous || !self.knows_names(auth)
    }
}

/// Notes what is wrong between listeners, and between each of them and strangers.
pub(super) fn check_listeners(
    listeners: &[Listener],
    auth: &AuthSettings,
    problems: &mut Problems,
) {
    for (index, listener) in listeners.iter().enumerate() {
        listener.auth.check(&format!("listener[{index}]"), problems);
        let is_anonymous = listener.lets_anybody_in(auth);
        for (place, table, fault) in listener.transport.check(is_anonymous) {
            let place = place.unwrap_or_else(|| listener.place.clone());
            let prefix = listener.key.strip_suffix("address").unwrap_or_default();
            problems.push(place, format!("{prefix}{table}"), fault);
        }
        let mut note = |fault| problems.push(listener.place.clone(), listener.key.clone(), fault);
        if !listener.may_be_reached(auth) && !listener.address.is_loopback() {
            note(Fault::AnonymousBeyondLoopback {
                address: listener.address.to_string(),
            });
        }
        let mut earlier = listeners.iter().take(index);
        let is_in_its_way =
            |other: &Listener| !other.is_nowhere && other.address.excludes(&listener.address);
        if !listener.is_nowhere && earlier.clone().any(is_in_its_way) {
            note(Fault::Twice {
                what: "the address",
                found: listener.address.to_string(),
            });
        }
        if let Some(place) = &listener.name_place
            && earlier.any(|other| other.name == listener.name)
        {
            let fault = Fault::Twice {
                what: "the name",
                found: listener.name.clone(),
            };
            problems.push(place.clone(), format!("listener[{index}].name"), fault);
        }
    }
}

/// What a listener can speak.
pub(super) const PROTOCOLS: &[(&str, ProtocolVersion)] = &[
    ("3.1", ProtocolVersion::V3_1),
    ("3.1.1", ProtocolVersion::V3_1_1),
    ("5.0", ProtocolVersion::V5),
];

const KEYS: &[Key<Listener>] = &[
    Key {
        name: "name",
        set: |listener, value| {
            let name = value.text()?;
            if name.is_empty() || name.len() > 64 || name.chars().any(char::is_control) {
                let rule = "a name has 1 to 64 bytes without control characters";
                return Err(Fault::Text { rule });
            }
            put(&mut listener.name, Ok(name.to_owned()))
        },
    },
    Key {
        name: "address",
        set: |listener, value| put(&mut listener.address, value.text().and_then(Address::parse)),
    },
    Key {
        name: "transport",
        set: |listener, value| {
            let transports = [("tcp", false), ("websocket", true)];
            let is_websocket = value.choice(&transports)?;
            if is_websocket {
                parts::WEBSOCKET.need()?;
            }
            put(&mut listener.transport.is_websocket, Ok(is_websocket))
        },
    },
    Key {
        name: "socket_mode",
        set: |listener, value| {
            let rule = "a mode is written in octal, as \"0660\"";
            let mode = u32::from_str_radix(value.text()?, 8).ok();
            let mode = mode.filter(|mode| *mode <= 0o777);
            put(&mut listener.socket_mode, mode.ok_or(Fault::Text { rule }))
        },
    },
    Key {
        name: "protocols",
        set: |listener, value| {
            let wanted = value.texts()?;
            let is_known = |name: &&&str| PROTOCOLS.iter().any(|(known, _)| *known == **name);
            if let Some(unknown) = wanted.iter().find(|name| !is_known(name)) {
                return Err(Fault::NotOneOf {
                    found: (*unknown).to_owned(),
                    choices: PROTOCOLS.iter().map(|(name, _)| *name).collect(),
                });
            }
            if wanted.is_empty() {
                let rule = "a listener speaks one protocol at least";
                return Err(Fault::Text { rule });
            }
            let wanted = PROTOCOLS.iter().filter(|(name, _)| wanted.contains(name));
            listener.protocols = wanted.map(|(_, version)| *version).collect();
            Ok(())
        },
    },
    Key {
        name: "allow_anonymous",
        set: |listener, value| put(&mut listener.allow_anonymous, value.switch()),
    },
    Key {
        name: "allow_empty_client_id",
        set: |listener, value| put(&mut listener.allow_empty_client_id, value.switch()),
    },
    Key {
        name: "client_id_prefix",
        set: |listener, value| {
            let prefix = value.text()?;
            if prefix.len() > 64 || prefix.chars().any(char::is_control) {
                let rule = "a prefix has at most 64 bytes without control characters";
                return Err(Fault::Text { rule });
            }
            put(&mut listener.client_id_prefix, Ok(prefix.to_owned()))
        },
    },
    Key {
        name: "connections_max",
        set: |listener, value| {
            let number = value.number_or_unlimited(1, u64::from(u32::MAX), usize::MAX);
            put(&mut listener.connections_max, number.map(Some))
        },
    },
    Key {
        name: "password_file",
        set: |listener, value| put(&mut listener.auth.password_file, path(value)),
    },
    Key {
        name: "acl_file",
        set: |listener, value| put(&mut listener.auth.acl_file, path(value)),
    },
    Key {
        name: "mount_point",
        set: |listener, value| {
            let mount = MountPoint::new(value.text()?).map_err(Fault::MountPoint);
            put(&mut listener.mount_point, mount)
        },
    },
    // Read by `AuthSettings::read_tables`.
    Key {
        name: "jwt",
        set: |_, value| value.table_of(parts::JWT),
    },
    Key {
        name: "http",
        set: |_, value| value.table_of(parts::HTTP),
    },
    Key {
        name: "scram",
        set: |_, value| value.table(),
    },
    // Read by `Transport::read_tables`.
    Key {
        name: "tls",
        set: |_, value| value.table_of(parts::TLS),
    },
    Key {
        name: "websocket",
        set: |_, value| value.table(),
    },
    Key {
        name: "proxy_protocol",
        set: |_, value| value.table(),
    },
];
