//! DISCONNECT: the last packet, and why.

use bytestring::ByteString;

use crate::decoder::{Context, Role};
use crate::encode::{
    Body, Keep, PropertyBlock, explanation, optional_text, property_block, property_block_len,
    u32_property,
};
use crate::properties::{UserPropertyBudget, block, id, not_allowed, owned_text, set};
use crate::read::{self, Parsed, broken};
use crate::write::Sink;
use crate::{DecodeError, DisconnectReason, ProtocolVersion, UserProperties};

/// Ends a connection in good order. [MQTT-3.14.4-1]
///
/// In 3.1.1 only clients send it, and it says nothing more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disconnect {
    /// Why. [MQTT-3.14.2-1]
    pub reason: DisconnectReason,
    /// Replaces the expiry of CONNECT, in seconds; from clients only. [MQTT-3.14.2-2]
    pub session_expiry_seconds: Option<u32>,
    /// For people to read. [MQTT-3.14.2-3]
    pub reason_string: Option<ByteString>,
    /// User properties. [MQTT-3.14.2-4]
    pub user_properties: UserProperties,
    /// Another server to use.
    pub server_reference: Option<ByteString>,
}

impl Disconnect {
    /// A DISCONNECT without further words.
    #[must_use]
    pub fn new(reason: DisconnectReason) -> Self {
        Self {
            reason,
            ..Self::default()
        }
    }
}

/// Reads a DISCONNECT. Reason and properties may be missing from the end on.
pub(crate) fn disconnect<'a>(input: &'a [u8], context: &Context<'_>) -> Parsed<'a, Disconnect> {
    let mut disconnect = Disconnect::default();
    if input.is_empty() || !context.version.is_v5() {
        return Ok((input, disconnect));
    }
    let (mut rest, code) = read::byte(input)?;
    disconnect.reason =
        DisconnectReason::from_code(code).ok_or(broken(DecodeError::ReasonCodeInvalid))?;
    if !rest.is_empty() {
        (rest, ()) = properties(rest, context, &mut disconnect)?;
    }
    Ok((rest, disconnect))
}

fn properties<'a>(
    input: &'a [u8],
    context: &Context<'_>,
    disconnect: &mut Disconnect,
) -> Parsed<'a, ()> {
    let mut budget = UserPropertyBudget::new(context.limits);
    let (rest, _) = block(input, &[id::USER_PROPERTY], |id, value| match id {
        id::SESSION_EXPIRY_INTERVAL if context.role == Role::Client => {
            Err(broken(DecodeError::SessionExpiryFromServer))
        }
        id::SESSION_EXPIRY_INTERVAL => {
            set(&mut disconnect.session_expiry_seconds, read::u32(value)?)
        }
        id::REASON_STRING => set(&mut disconnect.reason_string, owned_text(value)?),
        id::USER_PROPERTY => budget.read_into(value, &mut disconnect.user_properties),
        id::SERVER_REFERENCE => set(&mut disconnect.server_reference, owned_text(value)?),
        _ => not_allowed(id),
    })?;
    Ok((rest, ()))
}

impl Body for Disconnect {
    fn first_byte(&self) -> u8 {
        0xE0
    }

    fn write(&self, version: ProtocolVersion, keep: Keep, sink: &mut impl Sink) {
        if !version.is_v5() {
            return;
        }
        if property_block_len(self, keep, sink) > 0 {
            sink.byte(self.reason.code());
            property_block(self, keep, sink);
        } else if self.reason != DisconnectReason::NormalDisconnection {
            sink.byte(self.reason.code());
        }
    }
}

impl PropertyBlock for Disconnect {
    fn write_properties(&self, keep: Keep, sink: &mut impl Sink) {
        u32_property(
            id::SESSION_EXPIRY_INTERVAL,
            self.session_expiry_seconds,
            sink,
        );
        optional_text(id::SERVER_REFERENCE, self.server_reference.as_ref(), sink);
        explanation(
            self.reason_string.as_ref(),
            &self.user_properties,
            keep,
            sink,
        );
    }
}
