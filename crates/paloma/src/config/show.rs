//! What is in force, written as a configuration file that says the same.

use std::fmt::{Display, Write};

use paloma_broker::{Limits, QueueWhenFull};

use super::listener::PROTOCOLS;
use super::sections::LOG_LEVELS;
use super::transport::Shown;
use super::{Config, Listener, LogFormat};
use crate::memory;
use crate::parts;

/// Writes every key with the value in force. Passwords and keys are in files of their own, which are named here and not
/// read; the query of a URL, which may be a secret, is hidden.
pub(crate) fn show(config: &Config) -> String {
    let mut page = Page::default();
    page.table("[node]");
    page.text("name", &config.node_name);
    page.bare("threads", config.threads);
    page.table("[store]");
    page.bare("in_memory", config.store.in_memory);
    if parts::STORE.is_built {
        page.text("path", &config.store.path.to_string_lossy());
        page.text("durability", config.store.durability.name());
        page.bare("interval_ms", config.store.interval_ms);
    }
    for listener in &config.listeners {
        show_listener(&mut page, listener);
    }
    page.table("[auth]");
    config.auth.show_keys(&mut page);
    config.auth.show_tables("auth", &mut page);
    page.table("[limits]");
    show_limits(&mut page, &config.limits);
    page.table("[behaviour]");
    page.bare("upgrade_outgoing_qos", config.upgrade_outgoing_qos);
    page.bare("check_retain_source", config.check_retain_source);
    page.table("[sys]");
    page.bare("interval_seconds", config.sys_interval_seconds);
    page.table("[admin]");
    let admin = config.admin.address.as_ref();
    page.text(
        "address",
        &admin.map(ToString::to_string).unwrap_or_default(),
    );
    let control = config.admin.control.as_ref();
    page.text(
        "control",
        &control.map_or_else(String::new, |path| path.display().to_string()),
    );
    page.table("[record]");
    let file = config.record.file.as_ref();
    page.text(
        "file",
        &file.map_or_else(String::new, |path| path.display().to_string()),
    );
    page.bare("bytes_max", config.record.bytes_max);
    page.bare("with_secrets", config.record.with_secrets);
    page.table("[log]");
    let level = LOG_LEVELS
        .iter()
        .find(|(_, level)| *level == config.log_level);
    page.text("level", level.map_or("info", |(name, _)| name));
    let format = match config.log_format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    };
    page.text("format", format);
    page.0
}

fn show_listener(page: &mut Page, listener: &Listener) {
    page.table("[[listener]]");
    page.text("name", &listener.name);
    page.text("address", &listener.address.to_string());
    let transport = if listener.transport.is_websocket {
        "websocket"
    } else {
        "tcp"
    };
    page.text("transport", transport);
    page.text("socket_mode", &format!("{:04o}", listener.socket_mode));
    let protocols = PROTOCOLS
        .iter()
        .filter(|(_, version)| listener.protocols.contains(version));
    let protocols: Vec<String> = protocols.map(|(name, _)| quoted(name)).collect();
    page.bare("protocols", format_args!("[{}]", protocols.join(", ")));
    page.bare("allow_anonymous", listener.allow_anonymous);
    page.bare("allow_empty_client_id", listener.allow_empty_client_id);
    page.text("client_id_prefix", &listener.client_id_prefix);
    if let Some(connections_max) = listener.connections_max {
        page.bounded("connections_max", connections_max, usize::MAX);
    }
    listener.auth.show_keys(page);
    page.text("mount_point", listener.mount_point.as_str());
    listener.auth.show_tables("listener", page);
    for (table, keys) in listener.transport.tables() {
        page.table(&format!("[listener.{table}]"));
        for (key, values) in keys {
            match values {
                Shown::Text(text) => page.text(key, &text),
                Shown::List(texts) => {
                    let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
                    page.bare(key, format_args!("[{}]", texts.join(", ")));
                }
            }
        }
    }
}

fn show_limits(page: &mut Page, limits: &Limits) {
    let l = limits;
    page.bare("packet_bytes_max", l.packet_bytes_max);
    page.bare("connect_bytes_max", l.connect_bytes_max);
    page.bare("connect_timeout_ms", l.connect_timeout_ms);
    page.bare("keep_alive_seconds_max", l.keep_alive_seconds_max);
    page.bare("keep_alive_enforce_v3", l.keep_alive_enforce_v3);
    page.bare("receive_maximum", l.receive_maximum);
    page.bare("inflight_max", l.inflight_max);
    page.bounded("inflight_bytes_max", l.inflight_bytes_max, u32::MAX);
    page.bare("topic_alias_maximum", l.topic_alias_maximum);
    page.bounded("topic_alias_bytes_max", l.topic_alias_bytes_max, u32::MAX);
    page.bare("client_id_bytes_max", l.client_id_bytes_max);
    page.bare("will_bytes_max", l.will_bytes_max);
    page.bounded("user_properties_max", l.user_properties_max, u16::MAX);
    page.bounded(
        "user_properties_bytes_max",
        l.user_properties_bytes_max,
        u32::MAX,
    );
    page.bounded("connections_max", l.connections_max, u32::MAX);
    page.bare("qos_max", l.qos_max);
    page.bare("retain_available", l.retain_available);
    page.bounded("queue_messages_max", l.queue_messages_max, u32::MAX);
    page.bounded("queue_bytes_max", l.queue_bytes_max, u32::MAX);
    page.bare("queue_qos0", l.queue_qos0);
    let when_full = match l.queue_when_full {
        QueueWhenFull::DropNewest => "drop_newest",
        QueueWhenFull::DropOldest => "drop_oldest",
    };
    page.text("queue_when_full", when_full);
    let memory = l.queue_memory_messages_max;
    page.bounded("queue_memory_messages_max", memory, u32::MAX);
    let expiry = l.session_expiry_seconds_max;
    page.bounded("session_expiry_seconds_max", expiry, u32::MAX);
    page.bounded("sessions_max", l.sessions_max, u32::MAX);
    let subscriptions = l.subscriptions_per_client_max;
    page.bounded("subscriptions_per_client_max", subscriptions, u32::MAX);
    let levels = l.wildcard_levels_per_client_max;
    page.bounded("wildcard_levels_per_client_max", levels, u32::MAX);
    let filters = l.filters_per_subscribe_max;
    page.bounded("filters_per_subscribe_max", filters, u16::MAX);
    page.bounded("topic_levels_max", l.topic_levels_max, u16::MAX);
    page.bare("topic_bytes_max", l.topic_bytes_max);
    page.bounded("retained_messages_max", l.retained_messages_max, u32::MAX);
    page.bounded("retained_bytes_max", l.retained_bytes_max, u64::MAX);
    page.bare("outbound_buffer_bytes_max", l.outbound_buffer_bytes_max);
    page.bare("stall_timeout_ms", l.stall_timeout_ms);
    page.bounded("will_delay_seconds_max", l.will_delay_seconds_max, u32::MAX);
    let rate = l.connections_per_second_max;
    page.bounded("connections_per_second_max", rate, u32::MAX);
    let rate = l.connections_per_second_per_address_max;
    page.bounded("connections_per_second_per_address_max", rate, u32::MAX);
    page.bare("rate_limit_loopback", l.rate_limit_loopback);
    let failures = l.failed_logins_per_minute_max;
    page.bounded("failed_logins_per_minute_max", failures, u32::MAX);
    page.bounded("store_bytes_max", l.store_bytes_max, u64::MAX);
    page.bounded("uncommitted_bytes_max", l.uncommitted_bytes_max, u64::MAX);
    match (1..=100).find(|percent| memory::share(*percent) == l.memory_bytes_max) {
        Some(percent) => page.bare("memory_percent_max", percent),
        None => page.text("memory_percent_max", "unlimited"),
    }
}

/// A configuration file that grows.
#[derive(Default)]
pub(super) struct Page(pub(super) String);

impl Page {
    pub(super) fn table(&mut self, header: &str) {
        let gap = if self.0.is_empty() { "" } else { "\n" };
        self.line(format_args!("{gap}{header}"));
    }

    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.line(format_args!("{key} = {}", quoted(value)));
    }

    pub(super) fn bare(&mut self, key: &str, value: impl Display) {
        self.line(format_args!("{key} = {value}"));
    }

    /// A number that stands for no bound at all when it is `unlimited`.
    fn bounded<N: Display + PartialEq>(&mut self, key: &str, value: N, unlimited: N) {
        if value == unlimited {
            self.text(key, "unlimited");
        } else {
            self.bare(key, value);
        }
    }

    pub(super) fn line(&mut self, line: impl Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{line}");
    }
}

/// A TOML string of one line.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            _ if letter.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(letter));
            }
            _ => out.push(letter),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Flags;
    use crate::config::tests::load_text;

    fn check(config: &Config) {
        let page = show(config);
        let mut again = load_text(&page, &[], &Flags::default()).unwrap();
        assert_eq!(show(&again), page);
        // A listener knows where it was written.
        again.listeners.clone_from(&config.listeners);
        assert_eq!(again, *config, "{page}");
    }

    #[test]
    fn what_is_shown_says_the_same() {
        let mut config = Config {
            node_name: "n-1".to_owned(),
            ..Config::default()
        };
        config.limits.retained_bytes_max = u64::MAX;
        config.limits.queue_when_full = QueueWhenFull::DropOldest;
        config.limits.receive_maximum = u16::MAX;
        config.sys_interval_seconds = 7;
        config.admin.is_explicit = true;
        if parts::JSON_LOGS.is_built {
            config.log_format = LogFormat::Json;
        }
        check(&config);
        config.admin.address = None;
        check(&config);
    }

    #[cfg(feature = "websocket")]
    #[test]
    fn what_carries_the_packets_is_shown() {
        let text = "[[listener]]\naddress = 'unix:/run/p'\nsocket_mode = '0660'\ntransport = 'websocket'\n\
                    [listener.websocket]\npath = ''\norigins = ['https://a.example', 'https://b.example']\n\
                    [listener.proxy_protocol]\nversion = '2'\ntrusted = ['10.0.0.0/8']\n";
        let config = load_text(text, &[], &Flags::default()).unwrap();
        let page = show(&config);
        for line in [
            "address = \"unix:/run/p\"",
            "socket_mode = \"0660\"",
            "transport = \"websocket\"",
            "origins = [\"https://a.example\", \"https://b.example\"]",
            "version = \"2\"",
            "trusted = [\"10.0.0.0/8\"]",
        ] {
            assert!(page.contains(line), "{line} in {page}");
        }
        let again = load_text(&page, &[], &Flags::default()).unwrap();
        assert_eq!(show(&again), page);
    }

    #[cfg(feature = "store")]
    #[test]
    fn every_key_of_the_example_is_shown() {
        use crate::config::sections::SECTIONS;

        let example = include_str!("../../paloma.toml");
        let page = show(&Config::default());
        for (section, _) in SECTIONS {
            assert!(page.contains(&format!("[{section}]")), "{section}");
        }
        for line in example.lines().filter(|line| !line.starts_with(['#', '['])) {
            let Some((key, _)) = line.split_once(" = ") else {
                continue;
            };
            assert!(page.contains(&format!("\n{key} = ")), "{key} in {page}");
        }
    }

    #[test]
    fn a_text_of_any_letters_is_one_toml_string() {
        assert_eq!(quoted("a\"b\\c\nd"), r#""a\"b\\c\u000Ad""#);
    }
}
