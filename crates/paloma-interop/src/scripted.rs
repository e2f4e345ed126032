//! Client libraries of other languages, driven through a script by JSON lines.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use serde_json::{Map, Value, json};

use crate::peer::{
    Connect, Driver, Event, Incoming, Library, Outgoing, Properties, Subscription, Version,
};
use crate::tools::Tool;
use crate::transport::Endpoint;

/// Starts the agent script of `library` for one client.
///
/// # Panics
/// If the library is not installed, or is no scripted one.
#[must_use]
pub fn start(
    library: Library,
    endpoint: &Endpoint,
    version: Version,
) -> (Box<dyn Driver>, Receiver<Event>) {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients");
    let mut command = match library {
        Library::Paho => {
            let mut command = Command::new(Tool::Paho.find().expect("asked for before"));
            command.arg(scripts.join("python/agent.py"));
            command
        }
        Library::MqttJs => {
            let mut command = Command::new("node");
            command.env("NODE_PATH", Tool::MqttJs.find().expect("asked for before"));
            command.arg(scripts.join("node/agent.mjs"));
            command
        }
        Library::Rumqttc | Library::Own => panic!("{library:?} is driven in this process"),
    };
    command
        .arg(&endpoint.url)
        .arg(version.level().to_string())
        .args(&endpoint.authority);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdin = child.stdin.take();
    let stdout = child.stdout.take().unwrap();
    let (sender, events) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines() {
            let Ok(line) = line else { return };
            if sender.send(event(&line)).is_err() {
                return;
            }
        }
    });
    (Box::new(Script { child, stdin }), events)
}

/// The process of one agent script; killed when dropped.
#[derive(Debug)]
struct Script {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Script {
    fn command(&mut self, name: &str, mut fields: Value) {
        fields["do"] = json!(name);
        let stdin = self
            .stdin
            .as_mut()
            .expect("a script is not driven after it was cut");
        writeln!(stdin, "{fields}").unwrap_or_else(|error| panic!("the script is gone: {error}"));
    }
}

impl Driver for Script {
    fn connect(&mut self, connect: &Connect) {
        let mut fields = json!({
            "client_id": connect.client_id,
            "clean": connect.clean,
            "expiry": connect.expiry_seconds,
            "keep_alive": connect.keep_alive_seconds,
            "reconnect": connect.reconnect,
            "window": connect.window,
        });
        if let Some(will) = &connect.will {
            fields["will"] = outgoing(will);
        }
        if let Some((user, password)) = &connect.login {
            fields["user"] = json!(user);
            fields["password"] = json!(password);
        }
        if let Some(maximum) = connect.receive_maximum {
            fields["receive_maximum"] = json!(maximum);
        }
        if let Some(maximum) = connect.topic_alias_maximum {
            fields["topic_alias_maximum"] = json!(maximum);
        }
        self.command("connect", fields);
    }

    fn subscribe(&mut self, subscription: &Subscription) {
        let mut fields = json!({
            "filter": subscription.filter,
            "qos": subscription.qos,
            "no_local": subscription.no_local,
            "retain_as_published": subscription.retain_as_published,
            "retain_handling": subscription.retain_handling,
        });
        if let Some(id) = subscription.id {
            fields["subscription_id"] = json!(id);
        }
        self.command("subscribe", fields);
    }

    fn unsubscribe(&mut self, filter: &str) {
        self.command("unsubscribe", json!({ "filter": filter }));
    }

    fn publish(&mut self, message: &Outgoing) {
        self.command("publish", outgoing(message));
    }

    fn disconnect(&mut self) {
        self.command("disconnect", json!({}));
    }

    fn cut(&mut self) {
        self.stdin = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.cut();
    }
}

fn outgoing(message: &Outgoing) -> Value {
    let properties = &message.properties;
    let mut fields = json!({
        "topic": message.topic,
        "payload": to_hex(&message.payload),
        "qos": message.qos,
        "retain": message.retain,
        "user": properties.user,
    });
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            fields[name] = value;
        }
    };
    set(
        "response_topic",
        properties.response_topic.as_ref().map(|value| json!(value)),
    );
    set(
        "content_type",
        properties.content_type.as_ref().map(|value| json!(value)),
    );
    set(
        "correlation",
        properties
            .correlation
            .as_ref()
            .map(|value| json!(to_hex(value))),
    );
    set(
        "expiry",
        properties.expiry_seconds.map(|value| json!(value)),
    );
    set("format", properties.format.map(|value| json!(value)));
    set("alias", properties.alias.map(|value| json!(value)));
    set(
        "delay",
        properties.will_delay_seconds.map(|value| json!(value)),
    );
    fields
}

fn event(line: &str) -> Event {
    let fields: Map<String, Value> =
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"));
    match text(&fields, "event").as_deref() {
        Some("connected") => Event::Connected {
            session_present: fields["session_present"].as_bool().unwrap(),
        },
        Some("refused") => Event::Refused(number(&fields, "reason").unwrap()),
        Some("subscribed") => Event::Subscribed(numbers(&fields, "reasons")),
        Some("unsubscribed") => Event::Unsubscribed,
        Some("published") => Event::Published {
            reason: number(&fields, "reason").unwrap_or_default(),
        },
        Some("message") => Event::Message(incoming(&fields)),
        Some("closed") => Event::Closed(number(&fields, "reason")),
        _ => panic!("an event of no known kind: {line}"),
    }
}

fn incoming(fields: &Map<String, Value>) -> Incoming {
    let user = fields.get("user").and_then(Value::as_array);
    let pair = |pair: &Value| (string(&pair[0]), string(&pair[1]));
    Incoming {
        topic: text(fields, "topic").unwrap(),
        payload: from_hex(&text(fields, "payload").unwrap()),
        qos: number(fields, "qos").unwrap(),
        retain: fields["retain"].as_bool().unwrap(),
        properties: Properties {
            user: user
                .map(|pairs| pairs.iter().map(pair).collect())
                .unwrap_or_default(),
            response_topic: text(fields, "response_topic"),
            correlation: text(fields, "correlation").map(|hex| from_hex(&hex)),
            content_type: text(fields, "content_type"),
            expiry_seconds: number(fields, "expiry"),
            format: number(fields, "format"),
            alias: None,
            will_delay_seconds: None,
            subscription_ids: numbers(fields, "subscription_ids"),
        },
    }
}

fn string(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn text(fields: &Map<String, Value>, name: &str) -> Option<String> {
    fields
        .get(name)
        .filter(|value| !value.is_null())
        .map(string)
}

fn number<T: TryFrom<u64>>(fields: &Map<String, Value>, name: &str) -> Option<T> {
    T::try_from(fields.get(name)?.as_u64()?).ok()
}

fn numbers<T: TryFrom<u64>>(fields: &Map<String, Value>, name: &str) -> Vec<T> {
    let list = fields.get(name).and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(|value| T::try_from(value.as_u64()?).ok())
        .collect()
}

/// Bytes as hexadecimal digits, which survive JSON.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
            write!(hex, "{byte:02x}").unwrap();
            hex
        })
}

/// The bytes that hexadecimal digits stand for; spaces are passed over.
///
/// # Panics
/// If there is anything else among them.
#[must_use]
pub fn from_hex(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).unwrap() as u8)
        .collect();
    assert!(digits.len().is_multiple_of(2), "half a byte in {hex}");
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}
