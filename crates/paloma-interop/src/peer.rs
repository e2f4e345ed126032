//! One interface to client libraries of every family, so that a scenario is written once.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::broker::Broker;
use crate::tools::Tool;
use crate::transport::Endpoint;
use crate::{PATIENCE, own, rumqttc, scripted};

/// A version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.0.
    V5,
}

impl Version {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V311, Self::V5];

    /// The Protocol Level byte of CONNECT.
    #[must_use]
    pub fn level(self) -> u8 {
        match self {
            Self::V311 => 4,
            Self::V5 => 5,
        }
    }
}

/// A client library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    /// Python's paho-mqtt.
    Paho,
    /// MQTT.js on Node.
    MqttJs,
    /// Rust's rumqttc.
    Rumqttc,
    /// paloma-client of this workspace.
    Own,
}

impl Library {
    /// Whether it can run here; a missing one is named in a printed line.
    #[must_use]
    pub fn is_available(self) -> bool {
        match self {
            Self::Paho => Tool::Paho.find().is_some(),
            Self::MqttJs => Tool::MqttJs.find().is_some(),
            Self::Rumqttc | Self::Own => true,
        }
    }

    /// A client that will connect to a broker over the transport under test.
    ///
    /// # Panics
    /// If the library is not available.
    #[must_use]
    pub fn peer_of(self, broker: &Broker, version: Version) -> Peer {
        self.peer_at(broker.endpoint(), version)
    }

    /// A client that will connect to `address` by TCP.
    ///
    /// # Panics
    /// If the library is not available.
    #[must_use]
    pub fn peer(self, address: SocketAddr, version: Version) -> Peer {
        self.peer_at(&Endpoint::tcp(address), version)
    }

    fn peer_at(self, endpoint: &Endpoint, version: Version) -> Peer {
        let (driver, events) = match self {
            Self::Paho | Self::MqttJs => scripted::start(self, endpoint, version),
            Self::Rumqttc => rumqttc::start(endpoint, version),
            Self::Own => own::start(endpoint, version),
        };
        Peer {
            name: format!("{self:?} {version:?}"),
            driver,
            events,
            unread: VecDeque::new(),
        }
    }
}

/// Properties of a PUBLISH or a will that travel from its sender to its receivers, and the sender's alias.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties {
    /// User properties in order.
    pub user: Vec<(String, String)>,
    /// Response Topic.
    pub response_topic: Option<String>,
    /// Correlation Data.
    pub correlation: Option<Vec<u8>>,
    /// Content Type.
    pub content_type: Option<String>,
    /// Message Expiry Interval in seconds.
    pub expiry_seconds: Option<u32>,
    /// Payload Format Indicator.
    pub format: Option<u8>,
    /// Topic Alias, as the sender sets it.
    pub alias: Option<u16>,
    /// Will Delay Interval in seconds.
    pub will_delay_seconds: Option<u32>,
    /// Subscription Identifiers, as a receiver gets them.
    pub subscription_ids: Vec<u32>,
}

/// A message on its way out: a PUBLISH or a will.
#[derive(Debug, Clone, Default)]
pub struct Outgoing {
    /// Topic; empty where an alias stands for it.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// Quality of service, 0 to 2.
    pub qos: u8,
    /// RETAIN.
    pub retain: bool,
    /// Properties; only in 5.0.
    pub properties: Properties,
}

impl Outgoing {
    /// A message without properties.
    #[must_use]
    pub fn new(topic: &str, payload: impl AsRef<[u8]>, qos: u8) -> Self {
        let payload = payload.as_ref().to_vec();
        Self {
            topic: topic.to_owned(),
            payload,
            qos,
            ..Self::default()
        }
    }

    /// The same with RETAIN.
    #[must_use]
    pub fn retained(self) -> Self {
        Self {
            retain: true,
            ..self
        }
    }

    /// The same with properties.
    #[must_use]
    pub fn with(self, properties: Properties) -> Self {
        Self { properties, ..self }
    }
}

/// A message that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// Topic.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// Quality of service.
    pub qos: u8,
    /// RETAIN.
    pub retain: bool,
    /// Properties; empty in 3.1.1.
    pub properties: Properties,
}

/// How to connect.
#[derive(Debug, Clone)]
pub struct Connect {
    /// Client identifier.
    pub client_id: String,
    /// Clean Session, or Clean Start.
    pub clean: bool,
    /// Session Expiry Interval of 5.0 in seconds.
    pub expiry_seconds: u32,
    /// Keep Alive.
    pub keep_alive_seconds: u16,
    /// Will.
    pub will: Option<Outgoing>,
    /// User name and password.
    pub login: Option<(String, String)>,
    /// Connect again, at once and for ever, when the connection is lost.
    pub reconnect: bool,
    /// How many QoS 1 and 2 messages the library may have on their way, where that can be set.
    pub window: u16,
    /// Receive Maximum to announce in 5.0.
    pub receive_maximum: Option<u16>,
    /// Topic Alias Maximum to announce in 5.0.
    pub topic_alias_maximum: Option<u16>,
}

impl Connect {
    /// A client that keeps nothing when it leaves.
    #[must_use]
    pub fn clean(client_id: &str) -> Self {
        Self {
            client_id: client_id.to_owned(),
            clean: true,
            expiry_seconds: 0,
            keep_alive_seconds: 60,
            will: None,
            login: None,
            reconnect: false,
            window: 20,
            receive_maximum: None,
            topic_alias_maximum: None,
        }
    }

    /// A client that resumes its session, kept for an hour.
    #[must_use]
    pub fn persistent(client_id: &str) -> Self {
        Self {
            clean: false,
            expiry_seconds: 3_600,
            ..Self::clean(client_id)
        }
    }

    /// The same with a will.
    #[must_use]
    pub fn with_will(self, will: Outgoing) -> Self {
        Self {
            will: Some(will),
            ..self
        }
    }

    /// The same with a user name and a password.
    #[must_use]
    pub fn with_login(self, user: &str, password: &str) -> Self {
        Self {
            login: Some((user.to_owned(), password.to_owned())),
            ..self
        }
    }
}

/// What to subscribe to, and how.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// Topic filter.
    pub filter: String,
    /// Maximum QoS.
    pub qos: u8,
    /// No Local.
    pub no_local: bool,
    /// Retain As Published.
    pub retain_as_published: bool,
    /// Retain Handling, 0 to 2.
    pub retain_handling: u8,
    /// Subscription Identifier.
    pub id: Option<u32>,
}

impl Subscription {
    /// A subscription with default options.
    #[must_use]
    pub fn new(filter: &str, qos: u8) -> Self {
        Self {
            filter: filter.to_owned(),
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: 0,
            id: None,
        }
    }
}

/// What a client library reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// CONNACK with success.
    Connected {
        /// Session Present.
        session_present: bool,
    },
    /// CONNACK with a refusal, if the library tells.
    Refused(u8),
    /// SUBACK with its reason codes.
    Subscribed(Vec<u8>),
    /// UNSUBACK.
    Unsubscribed,
    /// A message left (QoS 0) or its exchange is complete (QoS 1 and 2).
    Published {
        /// The reason code that ended it, where the library tells; else 0.
        reason: u8,
    },
    /// A message came in.
    Message(Incoming),
    /// The connection ended; with the server's DISCONNECT reason if there was one and the library tells.
    Closed(Option<u8>),
}

/// The commands a library must carry out; what comes of them arrives as [`Event`]s.
pub trait Driver: Send + fmt::Debug {
    /// Starts connecting.
    fn connect(&mut self, connect: &Connect);
    /// Sends SUBSCRIBE.
    fn subscribe(&mut self, subscription: &Subscription);
    /// Sends UNSUBSCRIBE.
    fn unsubscribe(&mut self, filter: &str);
    /// Sends PUBLISH and whatever completes it.
    fn publish(&mut self, message: &Outgoing);
    /// Sends DISCONNECT and closes.
    fn disconnect(&mut self);
    /// Loses the connection without DISCONNECT, for good.
    fn cut(&mut self);
}

/// A client of some library, with its events in order.
#[derive(Debug)]
pub struct Peer {
    name: String,
    driver: Box<dyn Driver>,
    events: Receiver<Event>,
    unread: VecDeque<Event>,
}

impl Peer {
    /// Connects, and returns Session Present.
    pub fn connect(&mut self, connect: &Connect) -> bool {
        self.driver.connect(connect);
        self.expect("CONNACK with success", |event| match event {
            Event::Connected { session_present } => Some(*session_present),
            _ => None,
        })
    }

    /// Connects in vain, and returns why as a code of 5.0, which some libraries give in 3.1.1 too.
    pub fn connect_in_vain(&mut self, connect: &Connect) -> u8 {
        self.driver.connect(connect);
        let code = self.expect("CONNACK with a refusal", |event| match event {
            Event::Refused(code) => Some(*code),
            _ => None,
        });
        match code {
            4 => 0x86,
            5 => 0x87,
            code => code,
        }
    }

    /// Subscribes with default options, asserting that the QoS is granted.
    pub fn subscribe(&mut self, filter: &str, qos: u8) {
        let granted = self.subscribe_as(&Subscription::new(filter, qos));
        assert_eq!(granted, vec![qos], "{} subscribes to {filter}", self.name);
    }

    /// Subscribes, and returns the reason codes.
    pub fn subscribe_as(&mut self, subscription: &Subscription) -> Vec<u8> {
        self.driver.subscribe(subscription);
        self.expect("SUBACK", |event| match event {
            Event::Subscribed(reasons) => Some(reasons.clone()),
            _ => None,
        })
    }

    /// Unsubscribes.
    pub fn unsubscribe(&mut self, filter: &str) {
        self.driver.unsubscribe(filter);
        self.expect("UNSUBACK", |event| {
            (*event == Event::Unsubscribed).then_some(())
        });
    }

    /// Publishes, and waits until the exchange is complete.
    pub fn publish(&mut self, message: &Outgoing) {
        self.start_publish(message);
        self.published();
    }

    /// Publishes without waiting.
    pub fn start_publish(&mut self, message: &Outgoing) {
        self.driver.publish(message);
    }

    /// Waits until one exchange is complete.
    pub fn published(&mut self) {
        let reason = self.completion();
        assert!(
            reason < 0x80,
            "{} publishes and gets {reason:#04x}",
            self.name
        );
    }

    /// Publishes, waits until the exchange is complete, and returns the reason code that ended it, where the library tells.
    pub fn publish_as(&mut self, message: &Outgoing) -> u8 {
        self.start_publish(message);
        self.completion()
    }

    /// Publishes many, at most `window` on their way at once: not every library minds a server's Receive Maximum.
    pub fn publish_all(&mut self, messages: impl IntoIterator<Item = Outgoing>, window: usize) {
        let mut open = 0;
        for message in messages {
            if open == window {
                self.published();
                open -= 1;
            }
            self.start_publish(&message);
            open += 1;
        }
        for _ in 0..open {
            self.published();
        }
    }

    /// The next message.
    pub fn message(&mut self) -> Incoming {
        self.expect("a message", |event| match event {
            Event::Message(message) => Some(message.clone()),
            _ => None,
        })
    }

    /// The payloads of messages up to and without the one on `topic`, which ends a phase of a test.
    pub fn messages_until(&mut self, topic: &str) -> Vec<Incoming> {
        let mut messages = Vec::new();
        loop {
            let message = self.message();
            if message.topic == topic {
                return messages;
            }
            messages.push(message);
        }
    }

    /// Waits until the connection has ended, and returns the server's reason if it gave one.
    pub fn closed(&mut self) -> Option<u8> {
        self.expect("the end of the connection", |event| match event {
            Event::Closed(reason) => Some(*reason),
            _ => None,
        })
    }

    /// Leaves with DISCONNECT.
    pub fn disconnect(&mut self) {
        self.driver.disconnect();
        self.closed();
    }

    /// Leaves without DISCONNECT.
    pub fn cut(mut self) {
        self.driver.cut();
    }

    /// The next event of any kind, unless there is none for `patience`.
    pub fn next_event(&mut self, patience: Duration) -> Option<Event> {
        self.unread
            .pop_front()
            .or_else(|| self.events.recv_timeout(patience).ok())
    }

    fn completion(&mut self) -> u8 {
        self.expect("completion", |event| match event {
            Event::Published { reason } => Some(*reason),
            _ => None,
        })
    }

    fn expect<T>(&mut self, what: &str, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
        for (position, event) in self.unread.iter().enumerate() {
            if let Some(found) = pick(event) {
                self.unread.remove(position);
                return found;
            }
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(event) => match pick(&event) {
                    Some(found) => return found,
                    None => self.unread.push_back(event),
                },
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("{}: no {what}; instead {:?}", self.name, self.unread)
                }
            }
        }
    }
}
