//! A mosquitto.conf as a configuration of ours, and what of it could not be carried over.

use super::address::Address;
use super::show::Page;
use crate::few::Few;

/// What became of a mosquitto.conf.
#[derive(Debug, Default)]
pub(crate) struct Imported {
    /// The configuration file.
    pub(crate) text: String,
    /// Lines that could not be carried over, or mean something else here, with why.
    pub(crate) notes: Vec<String>,
}

/// How a value of mosquitto's becomes one of ours.
#[derive(Clone, Copy)]
enum Form {
    /// A number; 0 has no meaning of its own.
    Number,
    /// A number; 0 is no bound at all, for which there is a word here.
    Unbounded,
    /// A number; 0 is no bound at all, for which the highest stands here.
    UpTo(u64),
    Switch,
    Text,
    /// A time with a unit, in seconds.
    Time,
}

/// The largest packet that the standards know.
const PACKET_BYTES: u64 = 268_435_455;

/// Options that hold for all listeners wherever they stand, unless `per_listener_settings` is true.
const SECURITY: &[&str] = &[
    "acl_file",
    "allow_anonymous",
    "allow_zero_length_clientid",
    "auto_id_prefix",
    "password_file",
];

/// Options that are a key of a table of ours: mosquitto's name, the table, the key, the form.
const OPTIONS: &[(&str, &str, &str, Form)] = &[
    ("acl_file", "auth", "acl_file", Form::Text),
    ("password_file", "auth", "password_file", Form::Text),
    (
        "check_retain_source",
        "behaviour",
        "check_retain_source",
        Form::Switch,
    ),
    (
        "upgrade_outgoing_qos",
        "behaviour",
        "upgrade_outgoing_qos",
        Form::Switch,
    ),
    (
        "max_inflight_bytes",
        "limits",
        "inflight_bytes_max",
        Form::Unbounded,
    ),
    (
        "max_inflight_messages",
        "limits",
        "inflight_max",
        Form::UpTo(65_535),
    ),
    (
        "max_keepalive",
        "limits",
        "keep_alive_seconds_max",
        Form::UpTo(65_535),
    ),
    (
        "max_packet_size",
        "limits",
        "packet_bytes_max",
        Form::UpTo(PACKET_BYTES),
    ),
    ("max_qos", "limits", "qos_max", Form::Number),
    (
        "max_queued_bytes",
        "limits",
        "queue_bytes_max",
        Form::Unbounded,
    ),
    (
        "max_queued_messages",
        "limits",
        "queue_messages_max",
        Form::Unbounded,
    ),
    (
        "max_topic_alias",
        "limits",
        "topic_alias_maximum",
        Form::Number,
    ),
    (
        "message_size_limit",
        "limits",
        "packet_bytes_max",
        Form::UpTo(PACKET_BYTES),
    ),
    (
        "persistent_client_expiration",
        "limits",
        "session_expiry_seconds_max",
        Form::Time,
    ),
    ("queue_qos0_messages", "limits", "queue_qos0", Form::Switch),
    (
        "retain_available",
        "limits",
        "retain_available",
        Form::Switch,
    ),
    ("persistence_location", "store", "path", Form::Text),
    ("sys_interval", "sys", "interval_seconds", Form::Number),
];

/// Options that are so here anyway, or have no meaning here.
const IMPLIED: &[&str] = &[
    "set_tcp_nodelay",
    "log_timestamp",
    "connection_messages",
    "per_listener_settings",
    "persistence_file",
    "autosave_interval",
    "autosave_on_changes",
    "websockets_headers_size",
];

/// Options that mosquitto has and this broker does not, with what to do instead.
const NOT_HERE: &[(&str, &str)] = &[
    ("connection", "bridges are not supported"),
    (
        "include_dir",
        "other files are not read: import each of them",
    ),
    (
        "log_dest",
        "the log goes to stderr: a service manager keeps it",
    ),
    ("pid_file", "a service manager knows the process"),
    ("plugin", "plugins are not supported"),
    ("auth_plugin", "plugins are not supported"),
    ("psk_file", "TLS with pre-shared keys is not supported"),
    ("user", "the service manager chooses the user"),
    (
        "log_type",
        "set [log] level: off, error, warn, info, debug or trace",
    ),
    ("tls_version", "TLS 1.2 and 1.3 are both spoken"),
    ("ciphers", "cipher suites are not configurable"),
    ("dhparamfile", "finite-field Diffie-Hellman is not used"),
    ("capath", "name one file as client_ca"),
    ("memory_limit", "set [limits] memory_percent_max"),
];

#[derive(Debug, Default)]
struct Listener {
    address: String,
    is_websocket: bool,
    allow_anonymous: Option<bool>,
    /// Keys of its table, ready to be written.
    keys: Few<&'static str, Value>,
    tls: Few<&'static str, Value>,
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Bare(String),
    Text(String),
}

#[derive(Default)]
struct Import {
    /// Of other tables than listeners', with the table in front.
    keys: Few<(&'static str, &'static str), Value>,
    listeners: Vec<Listener>,
    /// What the old `port` and `bind_address` say, and options before the first `listener`.
    default: Listener,
    port: Option<u16>,
    bind_address: Option<String>,
    is_in_memory: bool,
    is_in_bridge: bool,
    /// Each listener has the `SECURITY` options that stand behind it, and no others.
    is_per_listener: bool,
    notes: Vec<String>,
}

/// Turns the text of a mosquitto.conf into a configuration. Nothing is read but the text; whether files exist that it
/// names is not asked.
pub(crate) fn import(text: &str) -> Imported {
    let lines = (1..).zip(text.lines()).filter_map(|(number, line)| {
        let line = line.trim();
        let (option, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let is_option = !line.is_empty() && !line.starts_with('#');
        is_option.then(|| (number, option, value.trim()))
    });
    let is_per_listener =
        |(_, option, value): (_, &str, &str)| option == "per_listener_settings" && value == "true";
    let mut import = Import {
        is_in_memory: true,
        is_per_listener: lines.clone().any(is_per_listener),
        ..Import::default()
    };
    for (number, option, value) in lines {
        let number: usize = number;
        if let Err(why) = import.take(option, value) {
            import.notes.push(format!("line {number}: {option}: {why}"));
        }
    }
    import.finish()
}

impl Import {
    fn take(&mut self, option: &str, value: &str) -> Result<(), String> {
        if option == "connection" {
            self.is_in_bridge = true;
        }
        if self.is_in_bridge && option != "listener" {
            return Err("bridges are not supported".to_owned());
        }
        if self.take_listener(option, value)? || IMPLIED.contains(&option) {
            return Ok(());
        }
        if let Some((_, why)) = NOT_HERE.iter().find(|(name, _)| *name == option) {
            return Err((*why).to_owned());
        }
        let row = OPTIONS.iter().find(|(name, ..)| *name == option);
        let Some((_, table, key, form)) = row else {
            return Err("there is nothing like it here".to_owned());
        };
        let value = form.read(value)?;
        if *table == "auth" && self.is_per_listener {
            self.listener_of(option).keys.insert(key, value);
        } else {
            self.keys.insert((table, key), value);
        }
        Ok(())
    }

    /// The listener that an option is about; the default one stands for all of them as well.
    fn listener_of(&mut self, option: &str) -> &mut Listener {
        let is_for_all = !self.is_per_listener && SECURITY.contains(&option);
        match self.listeners.last_mut().filter(|_| !is_for_all) {
            Some(listener) => listener,
            None => &mut self.default,
        }
    }

    /// Takes an option that belongs to a listener; false if it is none.
    fn take_listener(&mut self, option: &str, value: &str) -> Result<bool, String> {
        match option {
            "listener" => {
                self.is_in_bridge = false;
                let address = address_of(value)?;
                self.listeners.push(Listener {
                    address,
                    ..Listener::default()
                });
                return Ok(true);
            }
            "port" => {
                self.port = Some(value.parse().map_err(|_| "it is a port".to_owned())?);
                return Ok(true);
            }
            "bind_address" => {
                self.bind_address = Some(value.to_owned());
                return Ok(true);
            }
            "persistence" => {
                self.is_in_memory = !switch(value)?;
                return Ok(true);
            }
            _ => {}
        }
        let listener = self.listener_of(option);
        let text = || Value::Text(value.to_owned());
        match option {
            "protocol" => match value {
                "mqtt" => {}
                "websockets" => listener.is_websocket = true,
                other => return Err(format!("`{other}` is not spoken here")),
            },
            "allow_anonymous" => listener.allow_anonymous = Some(switch(value)?),
            "allow_zero_length_clientid" => {
                let value = Form::Switch.read(value)?;
                listener.keys.insert("allow_empty_client_id", value);
            }
            "accept_protocol_versions" => {
                listener.keys.insert("protocols", protocols(value)?);
            }
            "auto_id_prefix" => listener.keys.insert("client_id_prefix", text()),
            "mount_point" => listener.keys.insert("mount_point", text()),
            "max_connections" if value == "-1" => {}
            "max_connections" => {
                let value = Form::Number.read(value)?;
                listener.keys.insert("connections_max", value);
            }
            "certfile" => listener.tls.insert("certificate", text()),
            "keyfile" => listener.tls.insert("key", text()),
            "cafile" => listener.tls.insert("client_ca", text()),
            "crlfile" => listener.tls.insert("crl", text()),
            "require_certificate" if switch(value)? => {
                let required = Value::Text("required".to_owned());
                listener.tls.insert("client_certificate", required);
            }
            "use_identity_as_username" if switch(value)? => {
                let identity = Value::Text("common_name".to_owned());
                listener.tls.insert("identity", identity);
            }
            "use_subject_as_username" if switch(value)? => {
                let identity = Value::Text("subject".to_owned());
                listener.tls.insert("identity", identity);
            }
            "require_certificate" | "use_identity_as_username" | "use_subject_as_username" => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn finish(mut self) -> Imported {
        let mut default = std::mem::take(&mut self.default);
        if !self.is_per_listener {
            for listener in &mut self.listeners {
                listener.allow_anonymous = default.allow_anonymous;
                for key in ["allow_empty_client_id", "client_id_prefix"] {
                    if let Some(value) = default.keys.get(key) {
                        listener.keys.insert(key, value.clone());
                    }
                }
            }
        }
        if self.listeners.is_empty() || self.port.is_some() {
            // Without a listener mosquitto serves this machine only, and anybody on it.
            let is_local = self.port.is_none() && self.bind_address.is_none();
            let host = self.bind_address.as_deref();
            let host = host.unwrap_or(if is_local { "127.0.0.1" } else { "0.0.0.0" });
            default.address = socket_address(host, self.port.unwrap_or(1883));
            let is_open = is_local && default.allow_anonymous.is_none();
            default.allow_anonymous = default.allow_anonymous.or(is_open.then_some(true));
            self.listeners.insert(0, default);
        }
        self.note_what_differs();
        let mut page = Page::default();
        page.line("# Made of a mosquitto.conf; `paloma check` says whether it is right.");
        page.table("[store]");
        if self.is_in_memory {
            page.bare("in_memory", true);
        }
        let keys = self.keys.iter();
        let (store, others): (Vec<_>, Vec<_>) = keys.partition(|((table, _), _)| *table == "store");
        if !self.is_in_memory {
            for ((_, key), value) in store {
                page.key(key, value);
            }
        }
        for (listener, number) in self.listeners.iter().zip(1..) {
            listener.write(number, &mut page);
        }
        let mut last = "";
        for ((table, key), value) in others {
            if last != *table {
                page.table(&format!("[{table}]"));
                last = table;
            }
            page.key(key, value);
        }
        Imported {
            text: page.0,
            notes: self.notes,
        }
    }
}

impl Import {
    /// Notes where a listener lets in others than it did.
    fn note_what_differs(&mut self) {
        let names_all = self.keys.contains_key(&("auth", "password_file"));
        for (listener, number) in self.listeners.iter().zip(1..) {
            let is_unix = listener.address.starts_with("unix:");
            let is_local = is_unix
                || Address::parse(&listener.address).is_ok_and(|address| address.is_loopback());
            let has_names = names_all
                || listener.keys.contains_key("password_file")
                || listener.tls.contains_key("identity");
            let mut note = |why: &str| {
                self.notes
                    .push(format!("listener-{number} ({}): {why}", listener.address))
            };
            if is_unix {
                note("its file is its owner's alone; set socket_mode for others");
            }
            if is_local && !has_names && listener.allow_anonymous != Some(true) {
                note("without a password_file anybody on this machine is let in");
            }
        }
    }
}

impl Listener {
    fn write(&self, number: usize, page: &mut Page) {
        page.table("[[listener]]");
        page.text("name", &format!("listener-{number}"));
        page.text("address", &self.address);
        if self.is_websocket {
            page.text("transport", "websocket");
        }
        page.bare("allow_anonymous", self.allow_anonymous.unwrap_or(false));
        page.keys(&self.keys);
        // A CA alone is for bridges.
        if self.tls.contains_key("certificate") {
            page.table("[listener.tls]");
            page.keys(&self.tls);
        }
    }
}

impl Page {
    fn keys(&mut self, keys: &Few<&'static str, Value>) {
        for (key, value) in keys {
            self.key(key, value);
        }
    }

    fn key(&mut self, key: &str, value: &Value) {
        match value {
            Value::Bare(value) => self.bare(key, value),
            Value::Text(value) => self.text(key, value),
        }
    }
}

impl Form {
    fn read(self, value: &str) -> Result<Value, String> {
        let number = || {
            value
                .parse::<u64>()
                .map_err(|_| "it is a number".to_owned())
        };
        Ok(match self {
            Self::Unbounded if number()? == 0 => Value::Text("unlimited".to_owned()),
            Self::UpTo(most) if number()? == 0 => Value::Bare(most.to_string()),
            Self::Number | Self::Unbounded | Self::UpTo(_) => Value::Bare(number()?.to_string()),
            Self::Switch => Value::Bare(switch(value)?.to_string()),
            Self::Text => Value::Text(value.to_owned()),
            Self::Time => Value::Bare(
                seconds(value)
                    .ok_or("it is a time, such as 14d")?
                    .to_string(),
            ),
        })
    }
}

fn switch(value: &str) -> Result<bool, String> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err("it is true or false".to_owned()),
    }
}

/// A number of hours, days, weeks, months or years, in seconds.
fn seconds(value: &str) -> Option<u64> {
    let unit = value.chars().last()?;
    let number: u64 = value.strip_suffix(unit)?.parse().ok()?;
    let hours = match unit {
        'h' => 1,
        'd' => 24,
        'w' => 24 * 7,
        'm' => 24 * 30,
        'y' => 24 * 365,
        _ => return None,
    };
    number.checked_mul(hours * 3_600)
}

/// What `listener` says: a port and perhaps a host, or 0 and the path of a Unix socket.
fn address_of(value: &str) -> Result<String, String> {
    let (port, host) = value.split_once(char::is_whitespace).unwrap_or((value, ""));
    let port: u16 = port.parse().map_err(|_| "it has a port".to_owned())?;
    Ok(match host.trim() {
        path if port == 0 && path.starts_with('/') => format!("unix:{path}"),
        "" => socket_address("0.0.0.0", port),
        host => socket_address(host, port),
    })
}

fn socket_address(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Mosquitto's numbers of versions, with commas between them.
fn protocols(value: &str) -> Result<Value, String> {
    let names = value.split(',').map(|version| match version.trim() {
        "3" => Ok("\"3.1\""),
        "4" => Ok("\"3.1.1\""),
        "5" => Ok("\"5.0\""),
        other => Err(format!("`{other}` is not spoken here")),
    });
    let names: Vec<&str> = names.collect::<Result<_, _>>()?;
    Ok(Value::Bare(format!("[{}]", names.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Flags;
    use crate::config::tests::load_text;

    /// Each line of `expected` stands in the result, in this order, and these are all the notes.
    fn check(text: &str, expected: &[&str], notes: &[&str]) {
        let imported = import(text);
        let mut lines = imported.text.lines();
        for line in expected {
            assert!(
                lines.any(|found| found == *line),
                "{line} in {}",
                imported.text
            );
        }
        assert_eq!(imported.notes, notes, "{}", imported.text);
    }

    #[test]
    fn a_file_without_a_listener_serves_this_machine() {
        check(
            "",
            &["in_memory = true", r#"address = "127.0.0.1:1883""#],
            &[],
        );
        let text = import("sys_interval 30\nmax_queued_messages 0\nmax_qos 1\n").text;
        let config = load_text(&text, &[], &Flags::default()).unwrap();
        assert_eq!(config.sys_interval_seconds, 30);
        assert_eq!(config.limits.queue_messages_max, u32::MAX);
        assert_eq!(config.limits.qos_max, 1);
    }

    #[test]
    fn listeners_keep_what_is_theirs() {
        check(
            "per_listener_settings true\npersistence true\n\
             persistence_location /var/lib/mosquitto/\n\
             listener 1883 127.0.0.1\nallow_anonymous true\n\
             listener 1884 ::1\npassword_file /etc/mosquitto/pw\n\
             listener 8883\ncertfile /c.pem\nkeyfile /k.pem\ncafile /ca.pem\nrequire_certificate true\n\
             use_identity_as_username true\nlistener 9001 ::1\nprotocol websockets\nmax_connections -1\n\
             listener 0 /run/mqtt.sock\n",
            &[
                r#"path = "/var/lib/mosquitto/""#,
                r#"address = "127.0.0.1:1883""#,
                "allow_anonymous = true",
                r#"address = "[::1]:1884""#,
                "allow_anonymous = false",
                r#"password_file = "/etc/mosquitto/pw""#,
                r#"address = "0.0.0.0:8883""#,
                "allow_anonymous = false",
                "[listener.tls]",
                r#"certificate = "/c.pem""#,
                r#"client_ca = "/ca.pem""#,
                r#"client_certificate = "required""#,
                r#"identity = "common_name""#,
                r#"address = "[::1]:9001""#,
                r#"transport = "websocket""#,
                r#"address = "unix:/run/mqtt.sock""#,
            ],
            &[
                "listener-4 ([::1]:9001): without a password_file anybody on this machine is let in",
                "listener-5 (unix:/run/mqtt.sock): its file is its owner's alone; set socket_mode for others",
                "listener-5 (unix:/run/mqtt.sock): without a password_file anybody on this machine is let in",
            ],
        );
    }

    /// That is mosquitto's default, and what stands behind one listener would let strangers in through the others.
    #[test]
    fn without_settings_for_each_listener_security_holds_for_all_of_them() {
        let text = "port 1883\nbind_address 127.0.0.1\nlistener 1884 127.0.0.1\nmount_point a/\n\
                    listener 1885\npassword_file /pw\nacl_file /acl\nallow_anonymous false\nauto_id_prefix x-\n";
        check(
            text,
            &[
                r#"address = "127.0.0.1:1883""#,
                r#"client_id_prefix = "x-""#,
                r#"address = "127.0.0.1:1884""#,
                r#"client_id_prefix = "x-""#,
                r#"mount_point = "a/""#,
                r#"address = "0.0.0.0:1885""#,
                "allow_anonymous = false",
                r#"client_id_prefix = "x-""#,
                "[auth]",
                r#"acl_file = "/acl""#,
                r#"password_file = "/pw""#,
            ],
            &[],
        );
        let text = import("listener 1\nlistener 2\nallow_anonymous true\n").text;
        assert_eq!(text.matches("allow_anonymous = true").count(), 2, "{text}");
        let text = import("per_listener_settings true\nallow_anonymous true\nlistener 1\n").text;
        assert!(!text.contains("allow_anonymous = true"), "{text}");
    }

    #[test]
    fn no_bound_is_the_highest_where_there_is_no_word_for_it() {
        let text = "max_inflight_messages 0\nmax_keepalive 0\nmessage_size_limit 0\n";
        let config = load_text(&import(text).text, &[], &Flags::default()).unwrap();
        let limits = &config.limits;
        assert_eq!(
            (limits.inflight_max, limits.keep_alive_seconds_max),
            (65_535, 65_535)
        );
        assert_eq!(limits.packet_bytes_max as u64, PACKET_BYTES);
    }

    #[test]
    fn what_cannot_be_carried_over_is_said_with_its_line() {
        check(
            "# a bridge\nconnection far\naddress far:1883\nlistener 1883\npersistent_client_expiration 2w\n\
             max_qos many\nsome_option 1\nuser mosquitto\n",
            &["session_expiry_seconds_max = 1209600"],
            &[
                "line 2: connection: bridges are not supported",
                "line 3: address: bridges are not supported",
                "line 6: max_qos: it is a number",
                "line 7: some_option: there is nothing like it here",
                "line 8: user: the service manager chooses the user",
            ],
        );
    }

    #[test]
    fn versions_become_protocols() {
        check(
            "listener 1883\naccept_protocol_versions 5, 4\nlistener 1884\naccept_protocol_versions 6\n",
            &["protocols = [\"5.0\", \"3.1.1\"]"],
            &["line 4: accept_protocol_versions: `6` is not spoken here"],
        );
    }

    #[test]
    fn a_value_cannot_leave_its_string() {
        let text = import("auto_id_prefix a\"\\b\n").text;
        let config = load_text(&text, &[], &Flags::default()).unwrap();
        assert_eq!(config.listeners[0].client_id_prefix, "a\"\\b");
    }
}
