//! From arguments to the options of a client.

use std::ffi::OsStr;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::unix::ffi::OsStrExt;

use bytes::Bytes;
use paloma_client::codec::{
    Connect, Disconnect, PACKET_BYTES_MAX, PayloadFormat, ProtocolVersion, PublishProperties, Qos,
    ReceiveMaximum, Secret, UserProperties, Will,
};
use paloma_client::topic::TopicName;
use paloma_client::{Client, Messages, Options, Remote, State};

use super::property::{MessageProperties, Pairs, Properties};
use super::remote::Target;
use super::{Failure, Talk, Usage};
use crate::cli::{ConnectArgs, Version};

/// Inbound topic aliases that a 5.0 broker may use, if -D does not say.
const TOPIC_ALIAS_MAXIMUM: u16 = 16;

/// Everything that `pub` and `sub` have in common.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) options: Options,
    pub(super) properties: Properties,
    pub(super) talk: Talk,
    pub(super) is_v5: bool,
    /// Of the URL.
    pub(super) topic: Option<String>,
    remote: Remote,
}

impl Common {
    /// Options without a limit on what this process may hold beyond the protocol's own.
    pub(super) fn new(
        arguments: &ConnectArgs,
        properties: Option<Properties>,
    ) -> Result<Self, Usage> {
        let version = match arguments.broker.protocol_version {
            // As mosquitto's clients do.
            _ if properties.is_some() => ProtocolVersion::V5,
            Version::V31 => ProtocolVersion::V3_1,
            Version::V311 => ProtocolVersion::V3_1_1,
            Version::V5 => ProtocolVersion::V5,
        };
        let properties = properties.unwrap_or_default();
        let target = Target::new(&arguments.broker)?;
        let connect = connect(arguments, &properties, version, &target)?;
        let packet_bytes_max = properties.connect.packet_bytes_max;
        let mut options = Options {
            packet_bytes_max: packet_bytes_max.map_or(PACKET_BYTES_MAX, u32::from),
            connect,
            ..Options::default()
        };
        options.queue.bytes_max = u64::from(PACKET_BYTES_MAX) * 2;
        Ok(Self {
            options,
            properties,
            talk: Talk {
                is_debug: arguments.debug,
                is_quiet: arguments.quiet,
            },
            is_v5: version.is_v5(),
            topic: target.topic,
            remote: target.remote,
        })
    }

    pub(super) async fn connect(&self) -> Result<(Client, Messages), Failure> {
        let id = &self.options.connect.client_id;
        self.talk
            .debug(format_args!("Client '{id}' connecting to {}", self.remote));
        let (client, messages) =
            Client::connect_with(self.remote.clone(), self.options.clone()).await?;
        if let State::Connected(conn_ack) = client.state() {
            let id = conn_ack.assigned_client_id.as_ref().unwrap_or(id);
            let code = conn_ack.reason.code();
            self.talk
                .debug(format_args!("Client '{id}' received CONNACK ({code})"));
        }
        Ok((client, messages))
    }

    /// Leaves with the properties of `-D disconnect`.
    pub(super) async fn disconnect(&self, client: &Client) -> Result<(), Failure> {
        self.talk.debug(format_args!("sending DISCONNECT"));
        let disconnect = Disconnect {
            session_expiry_seconds: self.properties.disconnect_expiry_seconds,
            user_properties: user_properties(&self.properties.disconnect_user)?,
            ..Disconnect::default()
        };
        client.disconnect_with(disconnect).await;
        Ok(())
    }
}

fn connect(
    arguments: &ConnectArgs,
    properties: &Properties,
    version: ProtocolVersion,
    target: &Target,
) -> Result<Connect, Usage> {
    let is_v5 = version.is_v5();
    let client_id = match (&arguments.id, &arguments.id_prefix) {
        (Some(id), _) => id.clone(),
        (None, Some(prefix)) => format!("{prefix}{}", std::process::id()),
        (None, None) if arguments.disable_clean_session => return Err(Usage::NoId),
        (None, None) if is_v5 => String::new(),
        (None, None) => random_id(),
    };
    if arguments.session_expiry_interval.is_some() && !is_v5 {
        return Err(Usage::NotInVersion("-x"));
    }
    let username = arguments
        .broker
        .username
        .as_ref()
        .or(target.username.as_ref());
    let password = arguments.broker.password.as_deref();
    let password = password.or(target.password.as_deref().map(OsStr::new));
    if password.is_some() && username.is_none() && !is_v5 {
        return Err(Usage::PasswordWithoutUser);
    }
    let of_properties = properties.connect.session_expiry_seconds;
    if arguments.session_expiry_interval.is_some() && of_properties.is_some() {
        return Err(Usage::ExpiryTwice);
    }
    let unsaid = if arguments.disable_clean_session {
        u32::MAX
    } else {
        0
    };
    let default_aliases = if is_v5 { TOPIC_ALIAS_MAXIMUM } else { 0 };
    let said = &properties.connect;
    Ok(Connect {
        version,
        clean_start: !arguments.disable_clean_session,
        keep_alive_seconds: arguments.keepalive,
        client_id: client_id.into(),
        will: will(arguments, properties)?,
        username: username.cloned().map(Into::into),
        password: password.map(bytes).map(Secret::new),
        session_expiry_seconds: arguments
            .session_expiry_interval
            .or(of_properties)
            .unwrap_or(unsaid),
        receive_maximum: said
            .receive_maximum
            .map(ReceiveMaximum::from)
            .unwrap_or_default(),
        maximum_packet_size: said.packet_bytes_max,
        topic_alias_maximum: said.topic_alias_maximum.unwrap_or(default_aliases),
        request_response_information: said.request_response_information.unwrap_or(false),
        request_problem_information: said.request_problem_information.unwrap_or(true),
        authentication: None,
        user_properties: user_properties(&said.user)?,
    })
}

fn will(arguments: &ConnectArgs, properties: &Properties) -> Result<Option<Will>, Usage> {
    let Some(topic) = &arguments.will_topic else {
        let is_unsaid = properties.will == MessageProperties::default()
            && properties.will_delay_seconds.is_none();
        return if is_unsaid {
            Ok(None)
        } else {
            Err(Usage::WillPropertiesWithoutWill)
        };
    };
    let payload = arguments
        .will_payload
        .as_deref()
        .map(bytes)
        .unwrap_or_default();
    Ok(Some(Will {
        qos: qos(arguments.will_qos),
        retain: arguments.will_retain,
        delay_seconds: properties.will_delay_seconds.unwrap_or(0),
        properties: publish_properties(&properties.will)?,
        ..Will::new(topic_name(topic)?, payload)
    }))
}

pub(super) fn publish_properties(said: &MessageProperties) -> Result<PublishProperties, Usage> {
    Ok(PublishProperties {
        payload_format: match said.is_text {
            Some(true) => PayloadFormat::Utf8,
            Some(false) | None => PayloadFormat::Bytes,
        },
        message_expiry_seconds: said.expiry_seconds,
        content_type: said.content_type.clone().map(Into::into),
        response_topic: said.response_topic.as_deref().map(topic_name).transpose()?,
        correlation_data: said.correlation_data.clone().map(Bytes::from),
        subscription_ids: Vec::new(),
        user_properties: user_properties(&said.user)?,
    })
}

pub(super) fn user_properties(pairs: &Pairs) -> Result<UserProperties, Usage> {
    let mut properties = UserProperties::new();
    for (key, value) in pairs {
        properties.push(key, value).map_err(Usage::Property)?;
    }
    Ok(properties)
}

pub(super) fn topic_name(topic: &str) -> Result<TopicName, Usage> {
    TopicName::new(topic).map_err(|error| Usage::Topic(topic.to_owned(), error))
}

pub(super) const fn qos(number: u8) -> Qos {
    match number {
        0 => Qos::AtMostOnce,
        1 => Qos::AtLeastOnce,
        _ => Qos::ExactlyOnce,
    }
}

/// The bytes of an argument, which need not be text.
pub(super) fn bytes(argument: &OsStr) -> Bytes {
    Bytes::copy_from_slice(argument.as_bytes())
}

/// An id that nobody else is likely to have, short enough for every broker. [MQTT311-3.1.3-5]
fn random_id() -> String {
    let random = RandomState::new().build_hasher().finish();
    format!("paloma-{random:016x}")
}
