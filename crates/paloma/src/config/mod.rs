//! The configuration: file, then environment, then flags, with everything wrong found at once.

mod address;
mod auth;
mod keys;
mod limits;
mod listener;
mod mosquitto;
mod problem;
mod sections;
mod show;
#[cfg(test)]
mod tests;
mod transport;
mod value;

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};

use paloma_broker::Limits;
use paloma_tokio::Record;

use toml::de::{DeTable, DeValue};

pub(crate) use self::address::{Address, share_ports};
pub(crate) use self::auth::{AuthSettings, HttpSettings, JwtSettings};
use self::keys::{Source, nearest};
pub(crate) use self::listener::Listener;
pub(crate) use self::mosquitto::{Imported, import};
pub(crate) use self::problem::{Fault, Place, Problems};
use self::sections::{LOG_LEVELS, SECTIONS};
pub(crate) use self::show::show;
use self::value::Value;
use crate::memory;
use crate::parts;
use crate::store::Durability;

const FILE_BYTES_MAX: u64 = 1 << 20;
const LISTENERS_MAX: usize = 64;
const VARIABLE_PREFIX: &str = "PALOMA__";

/// What the broker is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) node_name: String,
    /// I/O runtimes.
    pub(crate) threads: usize,
    /// At least one.
    pub(crate) listeners: Vec<Listener>,
    /// For listeners that have none of their own.
    pub(crate) auth: AuthSettings,
    pub(crate) limits: Limits,
    pub(crate) store: StoreSettings,
    /// Deliver at the subscription's QoS even if the message was published at a lower one.
    pub(crate) upgrade_outgoing_qos: bool,
    /// Deliver a retained message only while its author may still write its topic.
    pub(crate) check_retain_source: bool,
    /// How often `$SYS` topics are published; 0 publishes none.
    pub(crate) sys_interval_seconds: u32,
    pub(crate) admin: Admin,
    pub(crate) record: RecordSettings,
    pub(crate) log_level: LogLevel,
    pub(crate) log_format: LogFormat,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node_name: "paloma".to_owned(),
            threads: 1,
            listeners: vec![Listener::new(default_address())],
            limits: default_limits(),
            store: StoreSettings::default(),
            auth: AuthSettings::default(),
            upgrade_outgoing_qos: false,
            check_retain_source: true,
            sys_interval_seconds: 10,
            admin: Admin::default(),
            record: RecordSettings::default(),
            log_level: LogLevel::Info,
            log_format: LogFormat::Text,
        }
    }
}

/// Where everything is kept that outlives the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoreSettings {
    /// There is no store.
    pub(crate) in_memory: bool,
    /// The store's directory.
    pub(crate) path: PathBuf,
    /// What an acknowledgement promises.
    pub(crate) durability: Durability,
    /// With [`Durability::Interval`]: how much time may be lost.
    pub(crate) interval_ms: u32,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            in_memory: !parts::STORE.is_built,
            path: PathBuf::from("paloma-data"),
            durability: Durability::Ack,
            interval_ms: 100,
        }
    }
}

impl StoreSettings {
    /// # Errors
    /// There is to be a store, and this build is without.
    fn need(&self) -> Result<(), Fault> {
        if !self.in_memory {
            parts::STORE.need()?;
        }
        Ok(())
    }
}

/// Where an operator's tools ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Admin {
    /// `None` listens nowhere.
    pub(crate) address: Option<Address>,
    /// Somebody chose it, so that it must be had.
    pub(crate) is_explicit: bool,
    /// The Unix socket of `paloma trace` and `paloma check --against-running`.
    pub(crate) control: Option<PathBuf>,
}

impl Default for Admin {
    fn default() -> Self {
        let address = Address::parse("127.0.0.1:18083").expect("a literal address and port");
        Self {
            address: Some(address).filter(|_| parts::ADMIN.is_built),
            is_explicit: false,
            control: None,
        }
    }
}

/// Where everything that the broker takes in is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordSettings {
    /// `None` records nothing.
    pub(crate) file: Option<PathBuf>,
    /// The record ends when it has so many bytes.
    pub(crate) bytes_max: u64,
    /// Payloads and secrets are recorded too.
    pub(crate) with_secrets: bool,
}

impl Default for RecordSettings {
    fn default() -> Self {
        Self {
            file: None,
            bytes_max: Record::BYTES_MAX,
            with_secrets: false,
        }
    }
}

fn default_limits() -> Limits {
    let mut limits = Limits::default();
    limits.memory_bytes_max = memory::share(memory::DEFAULT_PERCENT);
    limits
}

/// How much is logged: each level includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// What the flags of `paloma serve` say; it wins over file and environment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flags {
    /// Take the place of all configured listeners, if there are any.
    pub(crate) listen: Vec<String>,
    pub(crate) allow_anonymous: bool,
    /// The certificate and key of listeners with TLS.
    pub(crate) cert: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) data: Option<PathBuf>,
    pub(crate) in_memory: bool,
    pub(crate) log: Option<String>,
    pub(crate) record: Option<PathBuf>,
}

/// Reads `file`, if there is one, then the variables that begin with `PALOMA__`, then the flags. What is wrong in any of
/// them is noted, and means that the configuration is not to be used.
pub(crate) fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    flags: &Flags,
    problems: &mut Problems,
) -> Config {
    let text = file.map(|path| (path, read_file(path)));
    let readable = match &text {
        Some((path, Ok(text))) => Some((*path, text.as_str())),
        Some((path, Err(fault))) => {
            let path = (*path).to_owned();
            problems.push(Place::WholeFile { path }, "", fault.clone());
            None
        }
        None => None,
    };
    load_text(readable, environment, flags, problems)
}

/// The same with the text of the file.
pub(crate) fn load_text(
    file: Option<(&Path, &str)>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    flags: &Flags,
    problems: &mut Problems,
) -> Config {
    let mut config = Config::default();
    if let Some((path, text)) = file {
        apply_text(path, text, &mut config, problems);
    }
    apply_environment(environment, &mut config, problems);
    apply_flags(flags, &mut config, problems);
    check(&mut config, problems);
    config
}

/// Settles what one part of the configuration says about another, and notes what does not fit together.
fn check(config: &mut Config, problems: &mut Problems) {
    if let Some(certificate) = &config.auth.certificate {
        let mut is_asked_for = false;
        for listener in &mut config.listeners {
            is_asked_for |= listener.name_clients_by(certificate.identity);
        }
        if !is_asked_for {
            let rule = "it does nothing while no listener asks for certificates ([listener.tls] client_certificate)";
            let place = certificate.place.0.clone();
            problems.push(place, "auth.certificate", Fault::Text { rule });
        }
    }
    config.auth.check("auth", problems);
    listener::check_listeners(&config.listeners, &config.auth, problems);
}

fn default_address() -> Address {
    Address::parse("127.0.0.1:1883").expect("a literal address and port")
}

/// Turns a mosquitto.conf into a configuration of ours.
///
/// # Errors
/// The file cannot be read, or is larger than 1 MiB.
pub(crate) fn import_mosquitto(path: &Path) -> Result<Imported, Fault> {
    read_file(path).map(|text| import(&text))
}

fn read_file(path: &Path) -> Result<String, Fault> {
    let unreadable = |error: std::io::Error| Fault::Unreadable(error.to_string());
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(Fault::FileTooLarge {
            bytes_max: FILE_BYTES_MAX,
        });
    }
    Ok(text)
}

fn apply_text(path: &Path, text: &str, config: &mut Config, problems: &mut Problems) {
    let source = Source { path, text };
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let offset = error.span().map_or(text.len(), |span| span.start);
        problems.push(
            source.place(offset),
            "",
            Fault::Syntax(error.message().to_owned()),
        );
    }
    for (name, value) in document.get_ref() {
        let place = source.place(name.span().start);
        let name = name.get_ref().as_ref();
        if name == "listener" {
            apply_listeners(&source, value, config, problems);
            continue;
        }
        let Some((_, keys)) = SECTIONS.iter().find(|(section, _)| *section == name) else {
            problems.push(
                place,
                name,
                Fault::UnknownKey {
                    nearest: nearest_section(name),
                },
            );
            continue;
        };
        match value.get_ref().as_table() {
            Some(table) => {
                keys.read_table(&source, name, table, config, problems);
                if name == "auth" {
                    config.auth.read_tables(&source, name, table, problems);
                }
            }
            None => problems.push(place, name, not_a_table(value.get_ref(), "a table")),
        }
    }
}

fn apply_listeners<'a>(
    source: &Source<'_>,
    value: &'a toml::Spanned<DeValue<'a>>,
    config: &mut Config,
    problems: &mut Problems,
) {
    let expected = "tables that begin with [[listener]]";
    let Some(array) = value.get_ref().as_array() else {
        let place = source.place(value.span().start);
        problems.push(place, "listener", not_a_table(value.get_ref(), expected));
        return;
    };
    if array.len() > LISTENERS_MAX {
        let fault = Fault::OutOfRange {
            found: array.len().to_string(),
            least: 1,
            most: LISTENERS_MAX as u64,
        };
        problems.push(source.place(value.span().start), "listener", fault);
        return;
    }
    let mut listeners = Vec::with_capacity(array.len());
    for (index, entry) in array.iter().enumerate() {
        let offset = entry.span().start;
        let Some(table) = entry.get_ref().as_table() else {
            let fault = not_a_table(entry.get_ref(), expected);
            problems.push(source.place(offset), format!("listener[{index}]"), fault);
            continue;
        };
        let default = default_address();
        listeners.push(Listener::from_table(
            source, index, table, offset, &default, problems,
        ));
    }
    if !listeners.is_empty() {
        config.listeners = listeners;
    }
}

fn apply_environment(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    config: &mut Config,
    problems: &mut Problems,
) {
    for (variable, text) in environment {
        let variable = variable.to_string_lossy().into_owned();
        let Some(rest) = variable.strip_prefix(VARIABLE_PREFIX) else {
            continue;
        };
        let key = rest.to_ascii_lowercase().replace("__", ".");
        let result = match text.to_str() {
            Some(text) => apply_variable(&key, text, config),
            None => Err(Fault::Text {
                rule: "the text is not valid UTF-8",
            }),
        };
        if let Err(fault) = result {
            problems.push(Place::Environment { variable }, key, fault);
        }
    }
}

fn apply_variable(key: &str, text: &str, config: &mut Config) -> Result<(), Fault> {
    let (section, name) = key.split_once('.').unwrap_or((key, ""));
    if section == "listener" {
        let instead = "takes listeners from the file and from --listen only";
        return Err(Fault::NotSupportedYet { instead });
    }
    let (_, keys) = SECTIONS
        .iter()
        .find(|(known, _)| *known == section)
        .ok_or_else(|| Fault::UnknownKey {
            nearest: nearest_section(section),
        })?;
    match name.split_once('.').filter(|_| section == "auth") {
        Some((table, name)) => config.auth.set(table, name, &Value::Text(text)),
        None => keys.set(name, &Value::Text(text), config),
    }
}

fn apply_flags(flags: &Flags, config: &mut Config, problems: &mut Problems) {
    let flag = |flag| Place::Flag { flag };
    let mut listeners = Vec::with_capacity(flags.listen.len());
    for url in &flags.listen {
        match Listener::from_url(url, flags) {
            Ok(listener) => listeners.push(listener),
            Err(fault) => problems.push(flag("--listen"), "", fault),
        }
    }
    if !flags.listen.is_empty() {
        config.listeners = listeners;
    } else if flags.allow_anonymous {
        let rule = "only makes sense with --listen; in the file it is a key of the listener";
        problems.push(flag("--allow-anonymous"), "", Fault::Text { rule });
    }
    if let Some(path) = &flags.data {
        match parts::STORE.need() {
            Ok(()) => {
                config.store.in_memory = false;
                config.store.path.clone_from(path);
            }
            Err(part) => problems.push(flag("--data"), "", part.into()),
        }
    }
    config.store.in_memory |= flags.in_memory;
    if let Some(file) = &flags.record {
        match parts::RECORD.need() {
            Ok(()) => config.record.file = Some(file.clone()),
            Err(part) => problems.push(flag("--record"), "", part.into()),
        }
    }
    if let Some(level) = &flags.log {
        match Value::Text(level).choice(LOG_LEVELS) {
            Ok(level) => config.log_level = level,
            Err(fault) => problems.push(flag("--log"), "", fault),
        }
    }
}

fn nearest_section(name: &str) -> Option<&'static str> {
    nearest(
        SECTIONS
            .iter()
            .map(|(section, _)| *section)
            .chain(["listener"]),
        name,
    )
}

fn not_a_table(value: &DeValue<'_>, expected: &'static str) -> Fault {
    Fault::WrongType {
        expected,
        found: value.type_str(),
    }
}
