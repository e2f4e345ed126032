//! rumqttc, driven in this process: one thread with its own runtime per client.

use std::fs;
use std::future::Future;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use rumqttc::v5::mqttbytes::v5 as v5_packets;
use rumqttc::{QoS, v5};
use tokio::sync::oneshot;

use crate::peer::{Connect, Driver, Event, Incoming, Outgoing, Properties, Subscription, Version};
use crate::transport::{self, Endpoint};

/// Commands that may wait in the library before its event loop takes them.
const REQUESTS_MAX: usize = 10_000;

/// A client that will connect to `endpoint`.
#[must_use]
pub fn start(endpoint: &Endpoint, version: Version) -> (Box<dyn Driver>, Receiver<Event>) {
    let (sender, events) = channel();
    let driver: Box<dyn Driver> = match version {
        Version::V311 => Box::new(Version4 {
            endpoint: endpoint.clone(),
            events: sender,
            client: None,
            stop: None,
        }),
        Version::V5 => Box::new(Version5 {
            endpoint: endpoint.clone(),
            events: sender,
            client: None,
            stop: None,
        }),
    };
    (driver, events)
}

/// Runs an event loop in a thread of its own until it is stopped, which drops the loop and closes its socket.
pub(crate) fn run(steps: impl Future<Output = ()> + Send + 'static) -> oneshot::Sender<()> {
    let (stop, stopped) = oneshot::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            tokio::select! {
                () = steps => {}
                _ = stopped => {}
            }
        });
    });
    stop
}

/// Host and port, or what the library takes for them.
fn place(endpoint: &Endpoint) -> (String, u16) {
    let host = match endpoint.transport {
        transport::Transport::Unix => endpoint.socket.display().to_string(),
        transport::Transport::WebSocket | transport::Transport::SecureWebSocket => {
            endpoint.url.clone()
        }
        transport::Transport::Tcp | transport::Transport::Tls => "127.0.0.1".to_owned(),
    };
    (host, endpoint.port)
}

/// How the library gets there.
fn way(endpoint: &Endpoint) -> rumqttc::Transport {
    let authority = || {
        let file = endpoint.authority.as_ref();
        fs::read(file.expect("whoever has a certificate has an authority")).unwrap()
    };
    match endpoint.transport {
        transport::Transport::Tcp => rumqttc::Transport::tcp(),
        transport::Transport::Tls => rumqttc::Transport::tls(authority(), None, None),
        transport::Transport::WebSocket => rumqttc::Transport::ws(),
        transport::Transport::SecureWebSocket => rumqttc::Transport::wss(authority(), None, None),
        transport::Transport::Unix => rumqttc::Transport::unix(),
    }
}

fn qos(number: u8) -> QoS {
    match number {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    }
}

fn v5_qos(number: u8) -> v5::mqttbytes::QoS {
    v5::mqttbytes::qos(number).unwrap()
}

/// The library's 3.1.1 client.
#[derive(Debug)]
struct Version4 {
    endpoint: Endpoint,
    events: Sender<Event>,
    client: Option<rumqttc::AsyncClient>,
    stop: Option<oneshot::Sender<()>>,
}

impl Version4 {
    fn client(&self) -> &rumqttc::AsyncClient {
        self.client.as_ref().expect("connected first")
    }
}

impl Driver for Version4 {
    fn connect(&mut self, connect: &Connect) {
        let (host, port) = place(&self.endpoint);
        let mut options = rumqttc::MqttOptions::new(&connect.client_id, host, port);
        options
            .set_transport(way(&self.endpoint))
            .set_clean_session(connect.clean)
            .set_keep_alive(Duration::from_secs(connect.keep_alive_seconds.into()))
            .set_inflight(connect.window)
            .set_max_packet_size(4 << 20, 4 << 20);
        if let Some((user, password)) = &connect.login {
            options.set_credentials(user, password);
        }
        if let Some(will) = &connect.will {
            options.set_last_will(rumqttc::LastWill::new(
                &will.topic,
                will.payload.clone(),
                qos(will.qos),
                will.retain,
            ));
        }
        let (client, mut event_loop) = rumqttc::AsyncClient::new(options, REQUESTS_MAX);
        let events = self.events.clone();
        let reconnect = connect.reconnect;
        self.client = Some(client);
        self.stop = Some(run(async move {
            loop {
                let happened = match event_loop.poll().await {
                    Ok(happened) => v4_event(happened),
                    Err(error) => {
                        let refusal = match error {
                            rumqttc::ConnectionError::ConnectionRefused(code) => Some(code as u8),
                            _ => None,
                        };
                        let _ = events.send(refusal.map_or(Event::Closed(None), Event::Refused));
                        if !reconnect {
                            return;
                        }
                        None
                    }
                };
                if let Some(event) = happened {
                    let _ = events.send(event);
                }
            }
        }));
    }

    fn subscribe(&mut self, subscription: &Subscription) {
        self.client()
            .try_subscribe(&subscription.filter, qos(subscription.qos))
            .unwrap();
    }

    fn unsubscribe(&mut self, filter: &str) {
        self.client().try_unsubscribe(filter).unwrap();
    }

    fn publish(&mut self, message: &Outgoing) {
        let payload = message.payload.clone();
        self.client()
            .try_publish(&message.topic, qos(message.qos), message.retain, payload)
            .unwrap();
    }

    fn disconnect(&mut self) {
        self.client().try_disconnect().unwrap();
    }

    fn cut(&mut self) {
        self.stop = None;
    }
}

fn v4_event(happened: rumqttc::Event) -> Option<Event> {
    use rumqttc::{Event as Happened, Packet};
    let packet = match happened {
        Happened::Outgoing(rumqttc::Outgoing::Publish(0)) => {
            return Some(Event::Published { reason: 0 });
        }
        Happened::Outgoing(_) => return None,
        Happened::Incoming(packet) => packet,
    };
    match packet {
        Packet::ConnAck(ack) => Some(Event::Connected {
            session_present: ack.session_present,
        }),
        Packet::PubAck(_) | Packet::PubComp(_) => Some(Event::Published { reason: 0 }),
        Packet::UnsubAck(_) => Some(Event::Unsubscribed),
        Packet::SubAck(ack) => {
            let reason = |code: &rumqttc::SubscribeReasonCode| match code {
                rumqttc::SubscribeReasonCode::Success(granted) => *granted as u8,
                rumqttc::SubscribeReasonCode::Failure => 0x80,
            };
            Some(Event::Subscribed(
                ack.return_codes.iter().map(reason).collect(),
            ))
        }
        Packet::Publish(publish) => Some(Event::Message(Incoming {
            topic: publish.topic,
            payload: publish.payload.to_vec(),
            qos: publish.qos as u8,
            retain: publish.retain,
            properties: Properties::default(),
        })),
        _ => None,
    }
}

/// The library's 5.0 client.
#[derive(Debug)]
struct Version5 {
    endpoint: Endpoint,
    events: Sender<Event>,
    client: Option<v5::AsyncClient>,
    stop: Option<oneshot::Sender<()>>,
}

impl Version5 {
    fn client(&self) -> &v5::AsyncClient {
        self.client.as_ref().expect("connected first")
    }

    fn options(&self, connect: &Connect) -> v5::MqttOptions {
        let (host, port) = place(&self.endpoint);
        let mut options = v5::MqttOptions::new(&connect.client_id, host, port);
        options
            .set_transport(way(&self.endpoint))
            .set_clean_start(connect.clean)
            .set_keep_alive(Duration::from_secs(connect.keep_alive_seconds.into()))
            .set_session_expiry_interval(Some(connect.expiry_seconds))
            .set_receive_maximum(connect.receive_maximum)
            .set_topic_alias_max(connect.topic_alias_maximum)
            .set_max_packet_size(Some(4 << 20))
            .set_outgoing_inflight_upper_limit(connect.window);
        if let Some((user, password)) = &connect.login {
            options.set_credentials(user, password);
        }
        if let Some(will) = &connect.will {
            let properties = v5_packets::LastWillProperties {
                delay_interval: will.properties.will_delay_seconds,
                payload_format_indicator: will.properties.format,
                message_expiry_interval: will.properties.expiry_seconds,
                content_type: will.properties.content_type.clone(),
                response_topic: will.properties.response_topic.clone(),
                correlation_data: will.properties.correlation.clone().map(Into::into),
                user_properties: will.properties.user.clone(),
            };
            options.set_last_will(v5_packets::LastWill::new(
                &will.topic,
                will.payload.clone(),
                v5_qos(will.qos),
                will.retain,
                Some(properties),
            ));
        }
        options
    }
}

impl Driver for Version5 {
    fn connect(&mut self, connect: &Connect) {
        let (client, mut event_loop) = v5::AsyncClient::new(self.options(connect), REQUESTS_MAX);
        let events = self.events.clone();
        let reconnect = connect.reconnect;
        self.client = Some(client);
        self.stop = Some(run(async move {
            loop {
                let happened = match event_loop.poll().await {
                    Ok(happened) => v5_event(happened),
                    Err(error) => {
                        let _ = events.send(v5_end(&error));
                        if !reconnect {
                            return;
                        }
                        None
                    }
                };
                if let Some(event) = happened {
                    let _ = events.send(event);
                }
            }
        }));
    }

    fn subscribe(&mut self, subscription: &Subscription) {
        let mut filter = v5_packets::Filter::new(&subscription.filter, v5_qos(subscription.qos));
        filter.nolocal = subscription.no_local;
        filter.preserve_retain = subscription.retain_as_published;
        filter.retain_forward_rule = match subscription.retain_handling {
            0 => v5_packets::RetainForwardRule::OnEverySubscribe,
            1 => v5_packets::RetainForwardRule::OnNewSubscribe,
            _ => v5_packets::RetainForwardRule::Never,
        };
        let properties = v5_packets::SubscribeProperties {
            id: subscription.id.map(|id| id as usize),
            user_properties: Vec::new(),
        };
        self.client()
            .try_subscribe_many_with_properties([filter], properties)
            .unwrap();
    }

    fn unsubscribe(&mut self, filter: &str) {
        self.client().try_unsubscribe(filter).unwrap();
    }

    fn publish(&mut self, message: &Outgoing) {
        let properties = v5_packets::PublishProperties {
            payload_format_indicator: message.properties.format,
            message_expiry_interval: message.properties.expiry_seconds,
            topic_alias: message.properties.alias,
            response_topic: message.properties.response_topic.clone(),
            correlation_data: message.properties.correlation.clone().map(Into::into),
            user_properties: message.properties.user.clone(),
            subscription_identifiers: Vec::new(),
            content_type: message.properties.content_type.clone(),
        };
        let payload = message.payload.clone();
        let quality = v5_qos(message.qos);
        self.client()
            .try_publish_with_properties(
                &message.topic,
                quality,
                message.retain,
                payload,
                properties,
            )
            .unwrap();
    }

    fn disconnect(&mut self) {
        self.client().try_disconnect().unwrap();
    }

    fn cut(&mut self) {
        self.stop = None;
    }
}

fn v5_end(error: &v5::ConnectionError) -> Event {
    match error {
        v5::ConnectionError::ConnectionRefused(code) => Event::Refused(match code {
            v5_packets::ConnectReturnCode::BadUserNamePassword => 0x86,
            v5_packets::ConnectReturnCode::NotAuthorized => 0x87,
            _ => 0x80,
        }),
        v5::ConnectionError::MqttState(v5::StateError::ServerDisconnect {
            reason_code, ..
        }) => Event::Closed(Some(*reason_code as u8)),
        _ => Event::Closed(None),
    }
}

fn v5_event(happened: v5::Event) -> Option<Event> {
    use v5_packets::{Packet, PubAckReason, PubRecReason, SubscribeReasonCode};
    let packet = match happened {
        v5::Event::Outgoing(rumqttc::Outgoing::Publish(0)) => {
            return Some(Event::Published { reason: 0 });
        }
        v5::Event::Outgoing(_) => return None,
        v5::Event::Incoming(packet) => packet,
    };
    match packet {
        Packet::ConnAck(ack) => Some(Event::Connected {
            session_present: ack.session_present,
        }),
        Packet::PubAck(ack) => Some(Event::Published {
            reason: match ack.reason {
                PubAckReason::Success | PubAckReason::NoMatchingSubscribers => 0,
                PubAckReason::NotAuthorized => 0x87,
                _ => 0x80,
            },
        }),
        // A refusal ends the exchange.
        Packet::PubRec(ack) => match ack.reason {
            PubRecReason::Success | PubRecReason::NoMatchingSubscribers => None,
            PubRecReason::NotAuthorized => Some(Event::Published { reason: 0x87 }),
            _ => Some(Event::Published { reason: 0x80 }),
        },
        Packet::PubComp(_) => Some(Event::Published { reason: 0 }),
        Packet::UnsubAck(_) => Some(Event::Unsubscribed),
        Packet::SubAck(ack) => {
            let reason = |code: &SubscribeReasonCode| match code {
                SubscribeReasonCode::Success(granted) => *granted as u8,
                SubscribeReasonCode::NotAuthorized => 0x87,
                _ => 0x80,
            };
            Some(Event::Subscribed(
                ack.return_codes.iter().map(reason).collect(),
            ))
        }
        Packet::Publish(publish) => Some(Event::Message(v5_message(publish))),
        _ => None,
    }
}

fn v5_message(publish: v5_packets::Publish) -> Incoming {
    let properties = publish.properties.unwrap_or_default();
    Incoming {
        topic: String::from_utf8(publish.topic.to_vec()).unwrap(),
        payload: publish.payload.to_vec(),
        qos: publish.qos as u8,
        retain: publish.retain,
        properties: Properties {
            user: properties.user_properties,
            response_topic: properties.response_topic,
            correlation: properties.correlation_data.map(|data| data.to_vec()),
            content_type: properties.content_type,
            expiry_seconds: properties.message_expiry_interval,
            format: properties.payload_format_indicator,
            alias: None,
            will_delay_seconds: None,
            subscription_ids: properties
                .subscription_identifiers
                .iter()
                .map(|id| *id as u32)
                .collect(),
        },
    }
}
