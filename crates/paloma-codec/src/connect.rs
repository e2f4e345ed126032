//! CONNECT: who the client is, what it leaves behind, what it accepts.

use core::fmt;
use core::num::NonZeroU32;

use bytes::Bytes;
use bytestring::ByteString;
use paloma_topic::TopicName;

use crate::decoder::Context;
use crate::encode::{
    Body, Keep, PropertyBlock, flag_property, property_block, text_property, u16_property,
    u32_property,
};
use crate::properties::{
    AuthenticationParts, UserPropertyBudget, block, flag, id, non_zero_u16, not_allowed,
    owned_binary, owned_text, set,
};
use crate::publish::topic_name;
use crate::publish_properties::{payload_format, write_forwarded};
use crate::read::{self, Parsed, broken};
use crate::secret::Hidden;
use crate::write::Sink;
use crate::{
    DecodeError, EncodeError, ProtocolVersion, PublishProperties, Qos, ReceiveMaximum, Secret,
    UserProperties,
};

const CLEAN_START: u8 = 0x02;
const WILL: u8 = 0x04;
const WILL_RETAIN: u8 = 0x20;
const PASSWORD: u8 = 0x40;
const USERNAME: u8 = 0x80;

/// The first packet of a client. [MQTT-3.1.0-1]
///
/// A 3.1.1 CONNECT decodes to the same model: Clean Session becomes [`clean_start`](Self::clean_start), and
/// without it the session never expires, which is what 3.1.1 means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// The version all packets of the connection follow.
    pub version: ProtocolVersion,
    /// Whether an existing session is discarded. [MQTT-3.1.2-4]
    pub clean_start: bool,
    /// Longest silence of the client in seconds; 0 for no limit. [MQTT-3.1.2-22]
    pub keep_alive_seconds: u16,
    /// Names the session; empty to let the server choose. [MQTT-3.1.3-6]
    pub client_id: ByteString,
    /// What the server publishes when the client is gone. [MQTT-3.1.2-8]
    pub will: Option<Will>,
    /// User name. [MQTT-3.1.3-12]
    pub username: Option<ByteString>,
    /// Password; before 5.0 never without a user name. [MQTT-3.1.2-19] [MQTT311-3.1.2-22]
    pub password: Option<Secret>,
    /// Seconds the session outlives the connection: 0 ends with it, `u32::MAX` never expires. [MQTT-3.1.2-23]
    pub session_expiry_seconds: u32,
    /// How many QoS 1 and 2 messages the client takes at a time. [MQTT-3.3.4-9]
    pub receive_maximum: ReceiveMaximum,
    /// Largest packet the client accepts, in bytes. [MQTT-3.1.2-24]
    pub maximum_packet_size: Option<NonZeroU32>,
    /// Largest topic alias the client accepts; 0 forbids aliases. [MQTT-3.1.2-26] [MQTT-3.1.2-27]
    pub topic_alias_maximum: u16,
    /// Whether the client asks for Response Information. [MQTT-3.1.2-28]
    pub request_response_information: bool,
    /// Whether the client wants reason strings and user properties on every packet. [MQTT-3.1.2-29]
    pub request_problem_information: bool,
    /// Begins an extended authentication. [MQTT-3.1.2-30]
    pub authentication: Option<Authentication>,
    /// User properties.
    pub user_properties: UserProperties,
}

impl Default for Connect {
    /// A 5.0 client with a clean start, an identifier to be assigned, and nothing else.
    fn default() -> Self {
        Self {
            version: ProtocolVersion::V5,
            clean_start: true,
            keep_alive_seconds: 0,
            client_id: ByteString::new(),
            will: None,
            username: None,
            password: None,
            session_expiry_seconds: 0,
            receive_maximum: ReceiveMaximum::MAX,
            maximum_packet_size: None,
            topic_alias_maximum: 0,
            request_response_information: false,
            request_problem_information: true,
            authentication: None,
            user_properties: UserProperties::new(),
        }
    }
}

/// A message that the server publishes for a client that is gone. [MQTT-3.1.2-7]
#[derive(Clone, PartialEq, Eq)]
pub struct Will {
    /// Where it is published. [MQTT-3.1.3-11]
    pub topic: TopicName,
    /// What is published; at most 65,535 bytes.
    pub payload: Bytes,
    /// At which QoS. [MQTT-3.1.2-12]
    pub qos: Qos,
    /// Whether it is retained. [MQTT-3.1.2-15]
    pub retain: bool,
    /// Seconds between the end of the connection and the publication. [MQTT-3.1.3-9]
    pub delay_seconds: u32,
    /// The message's properties [MQTT-3.1.3-10]; subscription identifiers among them are not written.
    pub properties: PublishProperties,
}

impl Will {
    /// A will of QoS 0, not retained, without properties.
    pub fn new(topic: TopicName, payload: Bytes) -> Self {
        Self {
            topic,
            payload,
            qos: Qos::AtMostOnce,
            retain: false,
            delay_seconds: 0,
            properties: PublishProperties::default(),
        }
    }
}

impl fmt::Debug for Will {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Will")
            .field("topic", &self.topic)
            .field("payload", &Hidden(self.payload.len()))
            .field("qos", &self.qos)
            .field("retain", &self.retain)
            .field("delay_seconds", &self.delay_seconds)
            .field("properties", &self.properties)
            .finish()
    }
}

/// The method of an extended authentication, and its data.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Authentication {
    /// Names the method.
    pub method: ByteString,
    /// What the method says at this step.
    pub data: Option<Secret>,
}

/// What stands before the payload of a CONNECT, enough to know how to answer a bad one.
pub(crate) struct Preamble<'a> {
    pub(crate) version: ProtocolVersion,
    pub(crate) rest: &'a [u8],
}

/// Reads protocol name and level.
///
/// A level that is not known fails with the version in whose words the answer has to be. [MQTT-3.1.2-2]
pub(crate) fn preamble(
    body: &[u8],
) -> Result<Preamble<'_>, (DecodeError, Option<ProtocolVersion>)> {
    let early = |error| (read::rule(error), None);
    let (rest, name) = read::binary(body).map_err(early)?;
    if name != b"MQTT" && name != b"MQIsdp" {
        return Err((DecodeError::ProtocolName, None));
    }
    let (rest, level) = read::byte(rest).map_err(early)?;
    let version = match (name, level) {
        (b"MQIsdp", 3) => ProtocolVersion::V3_1,
        (b"MQTT", 4) => ProtocolVersion::V3_1_1,
        (b"MQTT", 5) => ProtocolVersion::V5,
        (_, _) => {
            // Bridges set the highest bit above the level they mean.
            let is_later = level & 0x7F > ProtocolVersion::V3_1_1.level();
            let answer = if is_later {
                ProtocolVersion::V5
            } else {
                ProtocolVersion::V3_1_1
            };
            return Err((DecodeError::ProtocolLevel, Some(answer)));
        }
    };
    Ok(Preamble { version, rest })
}

/// Reads what follows the preamble. [MQTT-3.1.3-3] [MQTT-3.1.3-4] [MQTT-3.1.3-5] [MQTT311-3.1.3-4] [MQTT311-3.1.3-5]
/// [MQTT311-3.1.3-7]
pub(crate) fn connect<'a>(input: &'a [u8], context: &Context<'_>) -> Parsed<'a, Connect> {
    let (rest, flags) = read::byte(input)?;
    let (will_qos, username_follows) = check_flags(flags, context.version).map_err(broken)?;
    let (rest, keep_alive_seconds) = read::u16(rest)?;
    let mut connect = Connect {
        version: context.version,
        clean_start: flags & CLEAN_START != 0,
        keep_alive_seconds,
        ..Connect::default()
    };
    let mut rest = rest;
    if context.version.is_v5() {
        (rest, ()) = properties(rest, context, &mut connect)?;
    } else if !connect.clean_start {
        connect.session_expiry_seconds = u32::MAX;
    }
    let (rest, client_id) = read::text(rest)?;
    check_client_id(client_id, &connect, context).map_err(broken)?;
    connect.client_id = ByteString::from(client_id);
    let mut rest = rest;
    if let Some(qos) = will_qos {
        let parsed = will(rest, context, qos, flags & WILL_RETAIN != 0)?;
        rest = parsed.0;
        connect.will = Some(parsed.1);
    }
    if username_follows {
        (rest, ()) = set(&mut connect.username, owned_text(rest)?)?;
    }
    if flags & PASSWORD != 0 {
        let (after, password) = owned_binary(rest)?;
        connect.password = Some(Secret::new(password));
        rest = after;
    }
    Ok((rest, connect))
}

/// The will's QoS if there is a will, and whether a user name follows.
fn check_flags(flags: u8, version: ProtocolVersion) -> Result<(Option<Qos>, bool), DecodeError> {
    if flags & 0x01 != 0 {
        return Err(DecodeError::ConnectFlagReserved);
    }
    let will_qos = Qos::from_bits(flags >> 3 & 0x03).ok_or(DecodeError::WillQosThree)?;
    let has_will = flags & WILL != 0;
    if !has_will && (will_qos != Qos::AtMostOnce || flags & WILL_RETAIN != 0) {
        return Err(DecodeError::WillFlagsWithoutWill);
    }
    let has_username = flags & USERNAME != 0;
    if flags & PASSWORD != 0 && !has_username && !version.is_v5() {
        return Err(DecodeError::PasswordWithoutUsername);
    }
    Ok((has_will.then_some(will_qos), has_username))
}

fn check_client_id(
    client_id: &str,
    connect: &Connect,
    context: &Context<'_>,
) -> Result<(), DecodeError> {
    if client_id.len() > usize::from(context.limits.client_id_bytes_max) {
        return Err(DecodeError::ClientIdTooLong);
    }
    let may_be_empty = match context.version {
        ProtocolVersion::V3_1 => false,
        ProtocolVersion::V3_1_1 => connect.clean_start,
        ProtocolVersion::V5 => true,
    };
    if client_id.is_empty() && !may_be_empty {
        return Err(DecodeError::ClientIdEmpty);
    }
    Ok(())
}

fn properties<'a>(input: &'a [u8], context: &Context<'_>, connect: &mut Connect) -> Parsed<'a, ()> {
    let mut budget = UserPropertyBudget::new(context.limits);
    let mut authentication = AuthenticationParts::default();
    let (rest, _) =
        block(input, &[id::USER_PROPERTY], |id, value| match id {
            id::SESSION_EXPIRY_INTERVAL => read::u32(value)
                .map(|(rest, seconds)| (rest, connect.session_expiry_seconds = seconds)),
            id::RECEIVE_MAXIMUM => {
                non_zero_u16(value).map(|(rest, maximum)| (rest, connect.receive_maximum = maximum))
            }
            id::MAXIMUM_PACKET_SIZE => set(&mut connect.maximum_packet_size, packet_size(value)?),
            id::TOPIC_ALIAS_MAXIMUM => read::u16(value)
                .map(|(rest, maximum)| (rest, connect.topic_alias_maximum = maximum)),
            id::REQUEST_RESPONSE_INFORMATION => flag(value)
                .map(|(rest, asked)| (rest, connect.request_response_information = asked)),
            id::REQUEST_PROBLEM_INFORMATION => {
                flag(value).map(|(rest, asked)| (rest, connect.request_problem_information = asked))
            }
            id::AUTHENTICATION_METHOD => authentication.read_method(value),
            id::AUTHENTICATION_DATA => authentication.read_data(value),
            id::USER_PROPERTY => budget.read_into(value, &mut connect.user_properties),
            _ => not_allowed(id),
        })?;
    connect.authentication = authentication.finish().map_err(broken)?;
    Ok((rest, ()))
}

/// A Maximum Packet Size, which is not 0.
pub(crate) fn packet_size(input: &[u8]) -> Parsed<'_, NonZeroU32> {
    let (rest, size) = read::u32(input)?;
    match NonZeroU32::new(size) {
        Some(size) => Ok((rest, size)),
        None => Err(broken(DecodeError::PropertyZero)),
    }
}

fn will<'a>(input: &'a [u8], context: &Context<'_>, qos: Qos, retain: bool) -> Parsed<'a, Will> {
    let mut rest = input;
    let (mut delay_seconds, mut properties) = (0, PublishProperties::default());
    if context.version.is_v5() {
        (rest, ()) = will_properties(rest, context, &mut delay_seconds, &mut properties)?;
    }
    let (rest, topic) = topic_name(rest, &context.limits.topic)?;
    let (rest, payload) = read::binary(rest)?;
    if payload.len() > usize::from(context.limits.will_payload_bytes_max) {
        return Err(broken(DecodeError::WillTooLarge));
    }
    let topic = topic.to_owned();
    let payload = Bytes::copy_from_slice(payload);
    Ok((
        rest,
        Will {
            topic,
            payload,
            qos,
            retain,
            delay_seconds,
            properties,
        },
    ))
}

/// Reads the will's properties, which precede its topic. [MQTT-3.1.3-1]
fn will_properties<'a>(
    input: &'a [u8],
    context: &Context<'_>,
    delay_seconds: &mut u32,
    will: &mut PublishProperties,
) -> Parsed<'a, ()> {
    let mut budget = UserPropertyBudget::new(context.limits);
    let (rest, _) = block(input, &[id::USER_PROPERTY], |id, value| match id {
        id::WILL_DELAY_INTERVAL => {
            read::u32(value).map(|(rest, seconds)| (rest, *delay_seconds = seconds))
        }
        id::PAYLOAD_FORMAT_INDICATOR => {
            payload_format(value).map(|(rest, format)| (rest, will.payload_format = format))
        }
        id::MESSAGE_EXPIRY_INTERVAL => set(&mut will.message_expiry_seconds, read::u32(value)?),
        id::CONTENT_TYPE => set(&mut will.content_type, owned_text(value)?),
        id::RESPONSE_TOPIC => {
            let (rest, topic) = topic_name(value, &context.limits.topic)?;
            set(&mut will.response_topic, (rest, topic.to_owned()))
        }
        id::CORRELATION_DATA => set(&mut will.correlation_data, owned_binary(value)?),
        id::USER_PROPERTY => budget.read_into(value, &mut will.user_properties),
        _ => not_allowed(id),
    })?;
    Ok((rest, ()))
}

impl Body for Connect {
    fn first_byte(&self) -> u8 {
        0x10
    }

    /// Writes by [`Connect::version`], whatever the argument says: CONNECT is what announces the version.
    fn write(&self, _: ProtocolVersion, keep: Keep, sink: &mut impl Sink) {
        sink.verified(if self.version == ProtocolVersion::V3_1 {
            "MQIsdp"
        } else {
            "MQTT"
        });
        sink.byte(self.version.level());
        sink.byte(self.flags());
        sink.u16(self.keep_alive_seconds);
        if self.version.is_v5() {
            property_block(self, keep, sink);
        } else if self.password.is_some() && self.username.is_none() {
            sink.refuse(EncodeError::PasswordWithoutUsername);
        }
        sink.text(&self.client_id);
        if let Some(will) = &self.will {
            if self.version.is_v5() {
                property_block(will, keep, sink);
            }
            sink.verified(will.topic.as_str());
            sink.binary(&will.payload);
        }
        if let Some(username) = &self.username {
            sink.text(username);
        }
        if let Some(password) = &self.password {
            sink.binary(password);
        }
    }
}

impl Connect {
    /// [MQTT-3.1.2-9] [MQTT-3.1.2-16] [MQTT-3.1.2-17] [MQTT-3.1.2-18] [MQTT311-3.1.2-9] [MQTT311-3.1.2-18]
    /// [MQTT311-3.1.2-19] [MQTT311-3.1.2-20]
    fn flags(&self) -> u8 {
        let mut flags = 0;
        if self.clean_start {
            flags |= CLEAN_START;
        }
        if let Some(will) = &self.will {
            flags |= WILL | will.qos.bits() << 3;
            if will.retain {
                flags |= WILL_RETAIN;
            }
        }
        if self.password.is_some() {
            flags |= PASSWORD;
        }
        if self.username.is_some() {
            flags |= USERNAME;
        }
        flags
    }
}

impl PropertyBlock for Connect {
    fn write_properties(&self, _: Keep, sink: &mut impl Sink) {
        let expiry = (self.session_expiry_seconds != 0).then_some(self.session_expiry_seconds);
        u32_property(id::SESSION_EXPIRY_INTERVAL, expiry, sink);
        u16_property(
            id::RECEIVE_MAXIMUM,
            self.receive_maximum.get(),
            u16::MAX,
            sink,
        );
        let size = self.maximum_packet_size.map(NonZeroU32::get);
        u32_property(id::MAXIMUM_PACKET_SIZE, size, sink);
        u16_property(id::TOPIC_ALIAS_MAXIMUM, self.topic_alias_maximum, 0, sink);
        let response = self.request_response_information;
        flag_property(id::REQUEST_RESPONSE_INFORMATION, response, false, sink);
        let problem = self.request_problem_information;
        flag_property(id::REQUEST_PROBLEM_INFORMATION, problem, true, sink);
        write_authentication(self.authentication.as_ref(), sink);
        sink.raw(self.user_properties.encoded());
    }
}

impl PropertyBlock for Will {
    fn write_properties(&self, _: Keep, sink: &mut impl Sink) {
        let delay = (self.delay_seconds != 0).then_some(self.delay_seconds);
        u32_property(id::WILL_DELAY_INTERVAL, delay, sink);
        u32_property(
            id::MESSAGE_EXPIRY_INTERVAL,
            self.properties.message_expiry_seconds,
            sink,
        );
        write_forwarded(&self.properties, sink);
    }
}

/// Writes the two authentication properties.
pub(crate) fn write_authentication(authentication: Option<&Authentication>, sink: &mut impl Sink) {
    let Some(Authentication { method, data }) = authentication else {
        return;
    };
    text_property(id::AUTHENTICATION_METHOD, method, sink);
    if let Some(data) = data {
        sink.byte(id::AUTHENTICATION_DATA);
        sink.binary(data);
    }
}
