//! paloma-client, driven in this process as rumqttc is.

use std::collections::HashMap;
use std::num::NonZeroU16;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use paloma_client::codec::{
    self, PayloadFormat, ProtocolVersion, PublishProperties, Qos, ReceiveMaximum, RetainHandling,
    Secret, Subscribe, SubscribeFilter, SubscribeOptions, SubscriptionId, UserProperties, Will,
};
use paloma_client::topic::{Target, TopicName};
use paloma_client::{
    Backoff, Client, ConnectionError, Messages, Options, Publication, PublishError, QueueLimits,
    Received, Remote, State,
};
use tokio::sync::{mpsc, oneshot};

use crate::peer::{Connect, Driver, Event, Incoming, Outgoing, Properties, Subscription, Version};
use crate::rumqttc::run;
use crate::transport::Endpoint;

/// Commands that may wait for the runtime.
const COMMANDS_MAX: usize = 10_000;

/// A client that will connect to `endpoint`.
#[must_use]
pub fn start(endpoint: &Endpoint, version: Version) -> (Box<dyn Driver>, Receiver<Event>) {
    let (sender, events) = channel();
    let (commands, waiting) = mpsc::channel(COMMANDS_MAX);
    let stop = run(carry_out(endpoint.connector(), version, waiting, sender));
    (
        Box::new(Own {
            commands,
            stop: Some(stop),
        }),
        events,
    )
}

/// The sending end of the commands, and what ends the runtime without a DISCONNECT.
#[derive(Debug)]
struct Own {
    commands: mpsc::Sender<Command>,
    stop: Option<oneshot::Sender<()>>,
}

#[derive(Debug)]
enum Command {
    Connect(Box<Connect>),
    Subscribe(Subscription),
    Unsubscribe(String),
    Publish(Outgoing),
    Disconnect,
}

impl Own {
    fn command(&self, command: Command) {
        self.commands
            .try_send(command)
            .unwrap_or_else(|error| panic!("paloma-client: {error}"));
    }
}

impl Driver for Own {
    fn connect(&mut self, connect: &Connect) {
        self.command(Command::Connect(Box::new(connect.clone())));
    }

    fn subscribe(&mut self, subscription: &Subscription) {
        self.command(Command::Subscribe(subscription.clone()));
    }

    fn unsubscribe(&mut self, filter: &str) {
        self.command(Command::Unsubscribe(filter.to_owned()));
    }

    fn publish(&mut self, message: &Outgoing) {
        self.command(Command::Publish(message.clone()));
    }

    fn disconnect(&mut self) {
        self.command(Command::Disconnect);
    }

    fn cut(&mut self) {
        self.stop = None;
    }
}

async fn carry_out(
    connector: Remote,
    version: Version,
    mut commands: mpsc::Receiver<Command>,
    events: Sender<Event>,
) {
    let Some(Command::Connect(connect)) = commands.recv().await else {
        return;
    };
    let (client, messages) = Client::start(connector, options(version, &connect));
    tokio::spawn(report_state(client.clone(), events.clone()));
    tokio::spawn(report_messages(messages, events.clone()));
    // The client chooses aliases by itself, so those of a scenario are resolved here.
    let mut aliases = HashMap::new();
    while let Some(command) = commands.recv().await {
        match command {
            Command::Connect(_) => panic!("a peer connects once"),
            Command::Subscribe(subscription) => {
                let answer = client
                    .subscribe_with(subscribe(&subscription))
                    .await
                    .unwrap();
                let codes = answer.reasons.iter().map(|reason| reason.code()).collect();
                let _ = events.send(Event::Subscribed(codes));
            }
            Command::Unsubscribe(filter) => {
                client
                    .unsubscribe(vec![Target::parse(filter).unwrap()])
                    .await
                    .unwrap();
                let _ = events.send(Event::Unsubscribed);
            }
            Command::Publish(mut message) => {
                if let Some(alias) = message.properties.alias.take() {
                    if message.topic.is_empty() {
                        message.topic.clone_from(&aliases[&alias]);
                    }
                    aliases.insert(alias, message.topic.clone());
                }
                let acknowledged = client.publish(publication(message)).await.unwrap();
                let events = events.clone();
                tokio::spawn(async move {
                    let reason = match acknowledged.await {
                        Ok(reason) => reason.code(),
                        Err(PublishError::Refused(reason)) => reason.code(),
                        Err(_) => 0x80,
                    };
                    let _ = events.send(Event::Published { reason });
                });
            }
            Command::Disconnect => client.disconnect().await,
        }
    }
}

async fn report_state(client: Client, events: Sender<Event>) {
    let mut states = client.watch();
    drop(client);
    loop {
        let event = match &*states.borrow_and_update() {
            State::Connecting => None,
            State::Connected(answer) => Some(Event::Connected {
                session_present: answer.session_present,
            }),
            State::Waiting { error, .. } | State::Ended(error) => Some(match error {
                ConnectionError::Refused { reason, .. } => Event::Refused(reason.code()),
                ConnectionError::Disconnected { reason, .. } => Event::Closed(Some(reason.code())),
                _ => Event::Closed(None),
            }),
        };
        if let Some(event) = event {
            let _ = events.send(event);
        }
        if states.changed().await.is_err() {
            return;
        }
    }
}

async fn report_messages(mut messages: Messages, events: Sender<Event>) {
    while let Some(message) = messages.recv().await {
        let _ = events.send(Event::Message(incoming(message)));
    }
}

fn options(version: Version, connect: &Connect) -> Options {
    let brief = Duration::from_millis(20);
    let receive_maximum = connect.receive_maximum.and_then(ReceiveMaximum::new);
    let v5 = version == Version::V5;
    // Before 5.0 a session either ends with its connection or never.
    let v311_expiry = if connect.clean { 0 } else { u32::MAX };
    let (username, password) = connect.login.clone().unzip();
    Options {
        connect: codec::Connect {
            version: if v5 {
                ProtocolVersion::V5
            } else {
                ProtocolVersion::V3_1_1
            },
            clean_start: connect.clean,
            keep_alive_seconds: connect.keep_alive_seconds,
            client_id: connect.client_id.as_str().into(),
            will: connect.will.as_ref().map(will),
            username: username.map(Into::into),
            password: password.map(|password| Secret::new(password.into_bytes().into())),
            session_expiry_seconds: if v5 {
                connect.expiry_seconds
            } else {
                v311_expiry
            },
            receive_maximum: receive_maximum.unwrap_or(ReceiveMaximum::MAX),
            topic_alias_maximum: connect.topic_alias_maximum.unwrap_or(0),
            ..codec::Connect::default()
        },
        reconnect: connect.reconnect.then_some(Backoff {
            first: brief,
            max: brief,
            attempts_max: None,
        }),
        // A half-open connection may swallow the CONNACK too.
        connect_timeout: Duration::from_secs(if connect.reconnect { 3 } else { 10 }),
        queue: QueueLimits {
            count_max: 100_000,
            ..QueueLimits::default()
        },
        in_flight_max: NonZeroU16::new(connect.window).map_or(1, NonZeroU16::get),
        ..Options::default()
    }
}

fn will(message: &Outgoing) -> Will {
    let topic = TopicName::new(message.topic.as_str()).unwrap();
    Will {
        qos: Qos::from_bits(message.qos).unwrap(),
        retain: message.retain,
        delay_seconds: message.properties.will_delay_seconds.unwrap_or(0),
        properties: outgoing(&message.properties),
        ..Will::new(topic, message.payload.clone().into())
    }
}

fn publication(message: Outgoing) -> Publication {
    let properties = outgoing(&message.properties);
    let topic = TopicName::new(message.topic).unwrap();
    let publication = Publication {
        properties,
        ..Publication::new(topic, message.payload)
    };
    publication
        .with_qos(Qos::from_bits(message.qos).unwrap())
        .with_retain(message.retain)
}

fn subscribe(subscription: &Subscription) -> Subscribe {
    let options = SubscribeOptions {
        qos: Qos::from_bits(subscription.qos).unwrap(),
        no_local: subscription.no_local,
        retain_as_published: subscription.retain_as_published,
        retain_handling: match subscription.retain_handling {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            _ => RetainHandling::DoNotSend,
        },
    };
    let target = Target::parse(subscription.filter.as_str()).unwrap();
    Subscribe {
        subscription_id: subscription.id.and_then(SubscriptionId::new),
        ..Subscribe::new(
            codec::PacketId::MIN,
            vec![SubscribeFilter { target, options }],
        )
    }
}

fn outgoing(properties: &Properties) -> PublishProperties {
    let mut user_properties = UserProperties::new();
    for (name, value) in &properties.user {
        user_properties.push(name, value).unwrap();
    }
    PublishProperties {
        payload_format: match properties.format {
            Some(1) => PayloadFormat::Utf8,
            _ => PayloadFormat::Bytes,
        },
        message_expiry_seconds: properties.expiry_seconds,
        content_type: properties.content_type.as_deref().map(Into::into),
        response_topic: properties
            .response_topic
            .as_deref()
            .map(|t| TopicName::new(t).unwrap()),
        correlation_data: properties.correlation.clone().map(Into::into),
        subscription_ids: Vec::new(),
        user_properties,
    }
}

fn incoming(message: Received) -> Incoming {
    let properties = message.properties;
    let user = properties.user_properties.iter();
    Incoming {
        topic: message.topic.as_str().to_owned(),
        payload: message.payload.to_vec(),
        qos: message.qos.bits(),
        retain: message.retain,
        properties: Properties {
            user: user
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            response_topic: properties
                .response_topic
                .map(|topic| topic.as_str().to_owned()),
            correlation: properties.correlation_data.map(|data| data.to_vec()),
            content_type: properties.content_type.map(|text| text.to_string()),
            expiry_seconds: properties.message_expiry_seconds,
            format: match properties.payload_format {
                PayloadFormat::Utf8 => Some(1),
                PayloadFormat::Bytes => None,
            },
            alias: None,
            will_delay_seconds: None,
            subscription_ids: properties
                .subscription_ids
                .iter()
                .map(|id| id.get())
                .collect(),
        },
    }
}
