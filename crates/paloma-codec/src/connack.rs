//! CONNACK: whether the server lets the client in, and on which terms.

use core::num::NonZeroU32;

use bytestring::ByteString;

use crate::connect::{packet_size, write_authentication};
use crate::decoder::Context;
use crate::encode::{
    Body, Keep, PropertyBlock, explanation, flag_property, optional_text, property_block,
    u16_property, u32_property,
};
use crate::properties::{
    AuthenticationParts, UserPropertyBudget, block, flag, id, non_zero_u16, not_allowed,
    owned_text, set,
};
use crate::read::{self, Parsed, broken};
use crate::write::Sink;
use crate::{
    Authentication, ConnAckReason, DecodeError, EncodeError, ProtocolVersion, Qos, ReceiveMaximum,
    UserProperties,
};

/// The server's answer to CONNECT. [MQTT-3.2.0-1]
///
/// The default accepts with everything at the standard's defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnAck {
    /// Whether the server had a session for the client; never with a refusal. [MQTT-3.2.2-3] [MQTT-3.2.2-6]
    pub session_present: bool,
    /// Accepted, or why not.
    pub reason: ConnAckReason,
    /// Seconds the session outlives the connection, if not what the client asked for.
    pub session_expiry_seconds: Option<u32>,
    /// How many QoS 1 and 2 messages the server takes at a time. [MQTT-3.3.4-7]
    pub receive_maximum: ReceiveMaximum,
    /// Highest QoS the server accepts in PUBLISH. [MQTT-3.2.2-9] [MQTT-3.2.2-11]
    pub maximum_qos: Qos,
    /// Whether the server retains messages. [MQTT-3.2.2-14]
    pub retain_available: bool,
    /// Largest packet the server accepts, in bytes. [MQTT-3.2.2-15]
    pub maximum_packet_size: Option<NonZeroU32>,
    /// The identifier for a client that sent an empty one. [MQTT-3.2.2-16]
    pub assigned_client_id: Option<ByteString>,
    /// Largest topic alias the server accepts; 0 forbids aliases. [MQTT-3.2.2-17] [MQTT-3.2.2-18]
    pub topic_alias_maximum: u16,
    /// For people to read. [MQTT-3.2.2-19]
    pub reason_string: Option<ByteString>,
    /// User properties. [MQTT-3.2.2-20]
    pub user_properties: UserProperties,
    /// Whether filters may have wildcards.
    pub wildcard_subscriptions_available: bool,
    /// Whether subscriptions may have identifiers.
    pub subscription_ids_available: bool,
    /// Whether subscriptions may be shared.
    pub shared_subscriptions_available: bool,
    /// The keep alive in seconds to use in place of the client's. [MQTT-3.2.2-21]
    pub server_keep_alive_seconds: Option<u16>,
    /// What response topics can be made of. [MQTT-3.1.2-28]
    pub response_information: Option<ByteString>,
    /// Another server to use.
    pub server_reference: Option<ByteString>,
    /// The last step of an extended authentication.
    pub authentication: Option<Authentication>,
}

impl ConnAck {
    /// A refusal without further words.
    #[must_use]
    pub fn refused(reason: ConnAckReason) -> Self {
        Self {
            reason,
            ..Self::default()
        }
    }
}

impl Default for ConnAck {
    fn default() -> Self {
        Self {
            session_present: false,
            reason: ConnAckReason::Success,
            session_expiry_seconds: None,
            receive_maximum: ReceiveMaximum::MAX,
            maximum_qos: Qos::ExactlyOnce,
            retain_available: true,
            maximum_packet_size: None,
            assigned_client_id: None,
            topic_alias_maximum: 0,
            reason_string: None,
            user_properties: UserProperties::new(),
            wildcard_subscriptions_available: true,
            subscription_ids_available: true,
            shared_subscriptions_available: true,
            server_keep_alive_seconds: None,
            response_information: None,
            server_reference: None,
            authentication: None,
        }
    }
}

pub(crate) fn conn_ack<'a>(input: &'a [u8], context: &Context<'_>) -> Parsed<'a, ConnAck> {
    let (rest, flags) = read::byte(input)?;
    let (rest, code) = read::byte(rest)?;
    let reason = if context.version.is_v5() {
        ConnAckReason::from_code(code)
    } else {
        ConnAckReason::from_v3_code(code)
    };
    let mut ack = ConnAck {
        reason: reason.ok_or(broken(DecodeError::ReasonCodeInvalid))?,
        ..ConnAck::default()
    };
    // In 3.1 the byte is reserved and says nothing.
    if context.version != ProtocolVersion::V3_1 {
        if flags > 1 {
            return Err(broken(DecodeError::ConnAckFlags));
        }
        ack.session_present = flags == 1;
    }
    if ack.session_present && ack.reason != ConnAckReason::Success {
        return Err(broken(DecodeError::SessionPresentWithError));
    }
    let mut rest = rest;
    if context.version.is_v5() {
        (rest, ()) = properties(rest, context, &mut ack)?;
    }
    Ok((rest, ack))
}

fn properties<'a>(input: &'a [u8], context: &Context<'_>, ack: &mut ConnAck) -> Parsed<'a, ()> {
    let mut budget = UserPropertyBudget::new(context.limits);
    let mut authentication = AuthenticationParts::default();
    let (rest, _) = block(input, &[id::USER_PROPERTY], |id, value| match id {
        id::SESSION_EXPIRY_INTERVAL => set(&mut ack.session_expiry_seconds, read::u32(value)?),
        id::RECEIVE_MAXIMUM => {
            non_zero_u16(value).map(|(rest, maximum)| (rest, ack.receive_maximum = maximum))
        }
        id::MAXIMUM_QOS => {
            maximum_qos(value).map(|(rest, maximum)| (rest, ack.maximum_qos = maximum))
        }
        id::RETAIN_AVAILABLE => {
            flag(value).map(|(rest, available)| (rest, ack.retain_available = available))
        }
        id::MAXIMUM_PACKET_SIZE => set(&mut ack.maximum_packet_size, packet_size(value)?),
        id::ASSIGNED_CLIENT_IDENTIFIER => set(&mut ack.assigned_client_id, owned_text(value)?),
        id::TOPIC_ALIAS_MAXIMUM => {
            read::u16(value).map(|(rest, maximum)| (rest, ack.topic_alias_maximum = maximum))
        }
        id::REASON_STRING => set(&mut ack.reason_string, owned_text(value)?),
        id::USER_PROPERTY => budget.read_into(value, &mut ack.user_properties),
        id::WILDCARD_SUBSCRIPTION_AVAILABLE => flag(value)
            .map(|(rest, available)| (rest, ack.wildcard_subscriptions_available = available)),
        id::SUBSCRIPTION_IDENTIFIER_AVAILABLE => {
            flag(value).map(|(rest, available)| (rest, ack.subscription_ids_available = available))
        }
        id::SHARED_SUBSCRIPTION_AVAILABLE => flag(value)
            .map(|(rest, available)| (rest, ack.shared_subscriptions_available = available)),
        id::SERVER_KEEP_ALIVE => set(&mut ack.server_keep_alive_seconds, read::u16(value)?),
        id::RESPONSE_INFORMATION => set(&mut ack.response_information, owned_text(value)?),
        id::SERVER_REFERENCE => set(&mut ack.server_reference, owned_text(value)?),
        id::AUTHENTICATION_METHOD => authentication.read_method(value),
        id::AUTHENTICATION_DATA => authentication.read_data(value),
        _ => not_allowed(id),
    })?;
    ack.authentication = authentication.finish().map_err(broken)?;
    Ok((rest, ()))
}

fn maximum_qos(input: &[u8]) -> Parsed<'_, Qos> {
    match read::byte(input)? {
        (rest, 0) => Ok((rest, Qos::AtMostOnce)),
        (rest, 1) => Ok((rest, Qos::AtLeastOnce)),
        (_, _) => Err(broken(DecodeError::MaximumQosInvalid)),
    }
}

impl Body for ConnAck {
    fn first_byte(&self) -> u8 {
        0x20
    }

    fn write(&self, version: ProtocolVersion, keep: Keep, sink: &mut impl Sink) {
        if self.session_present && self.reason != ConnAckReason::Success {
            sink.refuse(EncodeError::SessionPresentWithError);
        }
        let told = self.session_present && version != ProtocolVersion::V3_1;
        sink.byte(u8::from(told));
        if version.is_v5() {
            sink.byte(self.reason.code());
            property_block(self, keep, sink);
            return;
        }
        match self.reason.v3_code() {
            Some(code) => sink.byte(code),
            None => sink.refuse(EncodeError::NotInVersion),
        }
    }
}

impl PropertyBlock for ConnAck {
    fn write_properties(&self, keep: Keep, sink: &mut impl Sink) {
        u32_property(
            id::SESSION_EXPIRY_INTERVAL,
            self.session_expiry_seconds,
            sink,
        );
        u16_property(
            id::RECEIVE_MAXIMUM,
            self.receive_maximum.get(),
            u16::MAX,
            sink,
        );
        if self.maximum_qos != Qos::ExactlyOnce {
            sink.raw(&[id::MAXIMUM_QOS, self.maximum_qos.bits()]);
        }
        flag_property(id::RETAIN_AVAILABLE, self.retain_available, true, sink);
        let size = self.maximum_packet_size.map(NonZeroU32::get);
        u32_property(id::MAXIMUM_PACKET_SIZE, size, sink);
        optional_text(
            id::ASSIGNED_CLIENT_IDENTIFIER,
            self.assigned_client_id.as_ref(),
            sink,
        );
        u16_property(id::TOPIC_ALIAS_MAXIMUM, self.topic_alias_maximum, 0, sink);
        let wildcards = self.wildcard_subscriptions_available;
        flag_property(id::WILDCARD_SUBSCRIPTION_AVAILABLE, wildcards, true, sink);
        let ids = self.subscription_ids_available;
        flag_property(id::SUBSCRIPTION_IDENTIFIER_AVAILABLE, ids, true, sink);
        let shared = self.shared_subscriptions_available;
        flag_property(id::SHARED_SUBSCRIPTION_AVAILABLE, shared, true, sink);
        if let Some(seconds) = self.server_keep_alive_seconds {
            sink.byte(id::SERVER_KEEP_ALIVE);
            sink.u16(seconds);
        }
        // A server need not give it [MQTT-3.1.2-28]; without a CONNACK there is no connection.
        let information = self.response_information.as_ref();
        let information = information.filter(|_| keep != Keep::Needed);
        optional_text(id::RESPONSE_INFORMATION, information, sink);
        optional_text(id::SERVER_REFERENCE, self.server_reference.as_ref(), sink);
        write_authentication(self.authentication.as_ref(), sink);
        explanation(
            self.reason_string.as_ref(),
            &self.user_properties,
            keep,
            sink,
        );
    }
}
