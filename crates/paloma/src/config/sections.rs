//! The keys of all tables but `[limits]` and `[[listener]]`.

use paloma_broker::Limits;
use toml::de::DeTable;

use super::auth::path;
use super::keys::{Key, Source, find, put};
use super::limits::LIMITS;
use super::problem::{Fault, Problems};
use super::value::Value;
use super::{Address, Config, LogFormat, LogLevel};
use crate::parts::{self, Part};
use crate::store::Durability;

/// The tables of the file that occur once.
pub(super) const SECTIONS: &[(&str, Keys)] = &[
    ("node", Keys::Config(NODE)),
    ("store", Keys::Config(STORE)),
    ("auth", Keys::Config(AUTH)),
    ("limits", Keys::Limits(LIMITS)),
    ("behaviour", Keys::Config(BEHAVIOUR)),
    ("sys", Keys::Config(SYS)),
    ("admin", Keys::Config(ADMIN)),
    ("record", Keys::Config(RECORD)),
    ("log", Keys::Config(LOG)),
];

/// The keys of one table, by what they set.
#[derive(Clone, Copy)]
pub(super) enum Keys {
    Config(&'static [Key<Config>]),
    Limits(&'static [Key<Limits>]),
}

impl Keys {
    /// Reads every entry of a table of the file.
    pub(super) fn read_table<'a>(
        self,
        source: &Source<'_>,
        section: &str,
        table: &'a DeTable<'a>,
        config: &mut Config,
        problems: &mut Problems,
    ) {
        match self {
            Self::Config(keys) => source.read_table(section, table, keys, config, problems),
            Self::Limits(keys) => {
                source.read_table(section, table, keys, &mut config.limits, problems);
            }
        }
    }

    /// Sets one key from elsewhere.
    pub(super) fn set(
        self,
        name: &str,
        value: &Value<'_>,
        config: &mut Config,
    ) -> Result<(), Fault> {
        match self {
            Self::Config(keys) => (find(keys, name)?.set)(config, value),
            Self::Limits(keys) => (find(keys, name)?.set)(&mut config.limits, value),
        }
    }

    #[cfg(test)]
    pub(super) fn names(self) -> Vec<&'static str> {
        match self {
            Self::Config(keys) => keys.iter().map(|key| key.name).collect(),
            Self::Limits(keys) => keys.iter().map(|key| key.name).collect(),
        }
    }
}

/// Refuses a value that asks for a part that is not there.
fn needed(is_asked_for: bool, part: Part) -> Result<(), Fault> {
    if is_asked_for {
        part.need()?;
    }
    Ok(())
}

pub(super) const LOG_LEVELS: &[(&str, LogLevel)] = &[
    ("off", LogLevel::Off),
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

/// The levels of durability, as `docs/durability.md` explains them.
const DURABILITIES: &[(&str, Durability)] = &[
    ("ack", Durability::Ack),
    ("os", Durability::Os),
    ("interval", Durability::Interval),
    ("none", Durability::None),
];

const NODE: &[Key<Config>] = &[
    Key {
        name: "name",
        set: |config, value| {
            let name = value.text()?;
            let is_allowed =
                |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
            if name.is_empty() || name.len() > 64 || !name.chars().all(is_allowed) {
                let rule = "a name has 1 to 64 letters, digits, `-`, `_` and `.`";
                return Err(Fault::Text { rule });
            }
            put(&mut config.node_name, Ok(name.to_owned()))
        },
    },
    Key {
        name: "threads",
        set: |config, value| put(&mut config.threads, value.number(1, 64)),
    },
];

const STORE: &[Key<Config>] = &[
    Key {
        name: "in_memory",
        set: |config, value| {
            put(&mut config.store.in_memory, value.switch())?;
            config.store.need()
        },
    },
    Key {
        name: "path",
        set: |config, value| {
            parts::STORE.need()?;
            match value.text()? {
                "" => Err(Fault::Text {
                    rule: "a directory has a name",
                }),
                path => put(&mut config.store.path, Ok(path.into())),
            }
        },
    },
    Key {
        name: "durability",
        set: |config, value| {
            parts::STORE.need()?;
            put(&mut config.store.durability, value.choice(DURABILITIES))
        },
    },
    Key {
        name: "interval_ms",
        set: |config, value| {
            parts::STORE.need()?;
            put(&mut config.store.interval_ms, value.number(1, 3_600_000))
        },
    },
];

const AUTH: &[Key<Config>] = &[
    Key {
        name: "password_file",
        set: |config, value| put(&mut config.auth.password_file, path(value)),
    },
    Key {
        name: "acl_file",
        set: |config, value| put(&mut config.auth.acl_file, path(value)),
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
    Key {
        name: "certificate",
        set: |_, value| value.table_of(parts::TLS),
    },
];

const BEHAVIOUR: &[Key<Config>] = &[
    Key {
        name: "upgrade_outgoing_qos",
        set: |config, value| put(&mut config.upgrade_outgoing_qos, value.switch()),
    },
    Key {
        name: "check_retain_source",
        set: |config, value| put(&mut config.check_retain_source, value.switch()),
    },
];

const SYS: &[Key<Config>] = &[Key {
    name: "interval_seconds",
    set: |config, value| put(&mut config.sys_interval_seconds, value.number(0, 86_400)),
}];

const ADMIN: &[Key<Config>] = &[
    Key {
        name: "address",
        set: |config, value| {
            let text = value.text()?;
            let address = match text {
                "" => None,
                _ => {
                    parts::ADMIN.need()?;
                    let address = Address::parse(text)?;
                    if address.host_and_port().is_none() {
                        let found = text.to_owned();
                        return Err(Fault::Address { found });
                    }
                    Some(address)
                }
            };
            config.admin.address = address;
            config.admin.is_explicit = true;
            Ok(())
        },
    },
    Key {
        name: "control",
        set: |config, value| {
            put(&mut config.admin.control, path(value))?;
            needed(config.admin.control.is_some(), parts::CONTROL)
        },
    },
];

const RECORD: &[Key<Config>] = &[
    Key {
        name: "file",
        set: |config, value| {
            put(&mut config.record.file, path(value))?;
            needed(config.record.file.is_some(), parts::RECORD)
        },
    },
    Key {
        name: "bytes_max",
        set: |config, value| put(&mut config.record.bytes_max, value.number(65_536, 1 << 40)),
    },
    Key {
        name: "with_secrets",
        set: |config, value| put(&mut config.record.with_secrets, value.switch()),
    },
];

const LOG: &[Key<Config>] = &[
    Key {
        name: "level",
        set: |config, value| put(&mut config.log_level, value.choice(LOG_LEVELS)),
    },
    Key {
        name: "format",
        set: |config, value| {
            let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
            put(&mut config.log_format, value.choice(&formats))?;
            needed(config.log_format == LogFormat::Json, parts::JSON_LOGS)
        },
    },
];
