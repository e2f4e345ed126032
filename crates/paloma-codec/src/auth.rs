//! AUTH: one step of an extended authentication, 5.0 only.

use bytestring::ByteString;

use crate::connect::write_authentication;
use crate::decoder::{Context, Role};
use crate::encode::{Body, Keep, PropertyBlock, explanation, property_block, property_block_len};
use crate::properties::{
    AuthenticationParts, UserPropertyBudget, block, id, not_allowed, owned_text, set,
};
use crate::read::{self, Parsed, broken};
use crate::write::Sink;
use crate::{
    AuthReason, Authentication, DecodeError, EncodeError, ProtocolVersion, UserProperties,
};

/// One step of an extended authentication. [MQTT-3.15.2-1]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Auth {
    /// Which step: clients never send success, servers never re-authenticate.
    pub reason: AuthReason,
    /// Method and data; the method may be missing only from a bare success.
    pub authentication: Option<Authentication>,
    /// For people to read. [MQTT-3.15.2-2]
    pub reason_string: Option<ByteString>,
    /// User properties. [MQTT-3.15.2-3]
    pub user_properties: UserProperties,
}

/// Reads an AUTH, which may be empty if it means success.
pub(crate) fn auth<'a>(input: &'a [u8], context: &Context<'_>) -> Parsed<'a, Auth> {
    let mut auth = Auth::default();
    let mut rest = input;
    if !input.is_empty() {
        let (after, code) = read::byte(input)?;
        auth.reason = AuthReason::from_code(code).ok_or(broken(DecodeError::ReasonCodeInvalid))?;
        (rest, ()) = properties(after, context, &mut auth)?;
    }
    match (auth.reason, context.role) {
        (AuthReason::Success, Role::Server) | (AuthReason::ReAuthenticate, Role::Client) => {
            Err(broken(DecodeError::ReasonCodeInvalid))
        }
        (_, _) => Ok((rest, auth)),
    }
}

fn properties<'a>(input: &'a [u8], context: &Context<'_>, auth: &mut Auth) -> Parsed<'a, ()> {
    let mut budget = UserPropertyBudget::new(context.limits);
    let mut authentication = AuthenticationParts::default();
    let (rest, _) = block(input, &[id::USER_PROPERTY], |id, value| match id {
        id::AUTHENTICATION_METHOD => authentication.read_method(value),
        id::AUTHENTICATION_DATA => authentication.read_data(value),
        id::REASON_STRING => set(&mut auth.reason_string, owned_text(value)?),
        id::USER_PROPERTY => budget.read_into(value, &mut auth.user_properties),
        _ => not_allowed(id),
    })?;
    auth.authentication = authentication.finish().map_err(broken)?;
    if auth.authentication.is_none() {
        return Err(broken(DecodeError::AuthenticationMethodMissing));
    }
    Ok((rest, ()))
}

impl Body for Auth {
    fn first_byte(&self) -> u8 {
        0xF0
    }

    fn write(&self, version: ProtocolVersion, keep: Keep, sink: &mut impl Sink) {
        if !version.is_v5() {
            sink.refuse(EncodeError::NotInVersion);
        }
        let is_bare =
            self.reason == AuthReason::Success && property_block_len(self, keep, sink) == 0;
        if is_bare {
            return;
        }
        if self.authentication.is_none() {
            sink.refuse(EncodeError::AuthenticationMethodMissing);
        }
        sink.byte(self.reason.code());
        property_block(self, keep, sink);
    }
}

impl PropertyBlock for Auth {
    fn write_properties(&self, keep: Keep, sink: &mut impl Sink) {
        write_authentication(self.authentication.as_ref(), sink);
        explanation(
            self.reason_string.as_ref(),
            &self.user_properties,
            keep,
            sink,
        );
    }
}
