//! Property blocks: identifiers, shapes, and the walk over a block.

use alloc::string::String;

use bytes::Bytes;
use bytestring::ByteString;
use nom::bytes::complete::take;

use crate::read::{self, Parsed, broken};
use crate::{Authentication, DecodeError, DecodeLimits, Secret, UserProperties};

/// Property identifiers. All of them fit one byte.
pub(crate) mod id {
    pub(crate) const PAYLOAD_FORMAT_INDICATOR: u8 = 0x01;
    pub(crate) const MESSAGE_EXPIRY_INTERVAL: u8 = 0x02;
    pub(crate) const CONTENT_TYPE: u8 = 0x03;
    pub(crate) const RESPONSE_TOPIC: u8 = 0x08;
    pub(crate) const CORRELATION_DATA: u8 = 0x09;
    pub(crate) const SUBSCRIPTION_IDENTIFIER: u8 = 0x0B;
    pub(crate) const SESSION_EXPIRY_INTERVAL: u8 = 0x11;
    pub(crate) const ASSIGNED_CLIENT_IDENTIFIER: u8 = 0x12;
    pub(crate) const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub(crate) const AUTHENTICATION_METHOD: u8 = 0x15;
    pub(crate) const AUTHENTICATION_DATA: u8 = 0x16;
    pub(crate) const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
    pub(crate) const WILL_DELAY_INTERVAL: u8 = 0x18;
    pub(crate) const REQUEST_RESPONSE_INFORMATION: u8 = 0x19;
    pub(crate) const RESPONSE_INFORMATION: u8 = 0x1A;
    pub(crate) const SERVER_REFERENCE: u8 = 0x1C;
    pub(crate) const REASON_STRING: u8 = 0x1F;
    pub(crate) const RECEIVE_MAXIMUM: u8 = 0x21;
    pub(crate) const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub(crate) const TOPIC_ALIAS: u8 = 0x23;
    pub(crate) const MAXIMUM_QOS: u8 = 0x24;
    pub(crate) const RETAIN_AVAILABLE: u8 = 0x25;
    pub(crate) const USER_PROPERTY: u8 = 0x26;
    pub(crate) const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    pub(crate) const WILDCARD_SUBSCRIPTION_AVAILABLE: u8 = 0x28;
    pub(crate) const SUBSCRIPTION_IDENTIFIER_AVAILABLE: u8 = 0x29;
    pub(crate) const SHARED_SUBSCRIPTION_AVAILABLE: u8 = 0x2A;
}

/// How a property's value is laid out.
#[derive(Clone, Copy)]
enum Shape {
    Byte,
    U16,
    U32,
    VariableInt,
    /// Bytes or text behind a 16-bit length.
    Prefixed,
    Pair,
}

const fn shape(id: u8) -> Option<Shape> {
    match id {
        id::PAYLOAD_FORMAT_INDICATOR
        | id::REQUEST_PROBLEM_INFORMATION
        | id::REQUEST_RESPONSE_INFORMATION
        | id::MAXIMUM_QOS
        | id::RETAIN_AVAILABLE
        | id::WILDCARD_SUBSCRIPTION_AVAILABLE
        | id::SUBSCRIPTION_IDENTIFIER_AVAILABLE
        | id::SHARED_SUBSCRIPTION_AVAILABLE => Some(Shape::Byte),
        id::SERVER_KEEP_ALIVE | id::RECEIVE_MAXIMUM | id::TOPIC_ALIAS_MAXIMUM | id::TOPIC_ALIAS => {
            Some(Shape::U16)
        }
        id::MESSAGE_EXPIRY_INTERVAL
        | id::SESSION_EXPIRY_INTERVAL
        | id::WILL_DELAY_INTERVAL
        | id::MAXIMUM_PACKET_SIZE => Some(Shape::U32),
        id::SUBSCRIPTION_IDENTIFIER => Some(Shape::VariableInt),
        id::CONTENT_TYPE
        | id::RESPONSE_TOPIC
        | id::CORRELATION_DATA
        | id::ASSIGNED_CLIENT_IDENTIFIER
        | id::AUTHENTICATION_METHOD
        | id::AUTHENTICATION_DATA
        | id::RESPONSE_INFORMATION
        | id::SERVER_REFERENCE
        | id::REASON_STRING => Some(Shape::Prefixed),
        id::USER_PROPERTY => Some(Shape::Pair),
        _ => None,
    }
}

/// Properties that already stood in a block, to find those that stand twice.
#[derive(Default)]
struct Seen(u64);

impl Seen {
    fn insert(&mut self, id: u8) -> bool {
        let bit = 1_u64 << (id & 63);
        let new = self.0 & bit == 0;
        self.0 |= bit;
        new
    }
}

/// Reads a property block and hands each property's identifier and value to `property`. [PALOMA-5.0-prop-all]
///
/// `property` returns what is left behind the value it read, and fails with
/// [`not_allowed`] on identifiers that its packet does not have. Properties other than those in `repeatable` may
/// stand once.
pub(crate) fn block<'a>(
    input: &'a [u8],
    repeatable: &[u8],
    property: impl FnMut(u8, &'a [u8]) -> Parsed<'a, ()>,
) -> Parsed<'a, &'a [u8]> {
    let (rest, len) = read::variable_int(input)?;
    let (after, block) = take(len as usize)(rest)?;
    properties_of(block, repeatable, property)?;
    Ok((after, block))
}

/// Reads the properties of a block whose length was read before; see [`block`].
pub(crate) fn properties_of<'a>(
    block: &'a [u8],
    repeatable: &[u8],
    mut property: impl FnMut(u8, &'a [u8]) -> Parsed<'a, ()>,
) -> Result<(), nom::Err<read::Rule>> {
    let (mut rest, mut seen) = (block, Seen::default());
    while let [id, value @ ..] = rest {
        (rest, ()) = property(*id, value)?;
        if !seen.insert(*id) && !repeatable.contains(id) {
            return Err(broken(DecodeError::PropertyRepeated));
        }
    }
    Ok(())
}

/// The failure for an identifier that the packet at hand does not have.
pub(crate) const fn not_allowed<'a, T>(id: u8) -> Parsed<'a, T> {
    Err(broken(match shape(id) {
        Some(_) => DecodeError::PropertyNotAllowed,
        None => DecodeError::PropertyUnknown,
    }))
}

/// A byte that is 0 or 1.
pub(crate) fn flag(input: &[u8]) -> Parsed<'_, bool> {
    match read::byte(input)? {
        (rest, 0) => Ok((rest, false)),
        (rest, 1) => Ok((rest, true)),
        (_, _) => Err(broken(DecodeError::PropertyNotFlag)),
    }
}

/// A string, copied so that it does not pin the buffer it came from.
pub(crate) fn owned_text(input: &[u8]) -> Parsed<'_, ByteString> {
    let (rest, text) = read::text(input)?;
    Ok((rest, ByteString::from(String::from(text))))
}

/// Binary data, copied so that it does not pin the buffer it came from.
pub(crate) fn owned_binary(input: &[u8]) -> Parsed<'_, Bytes> {
    let (rest, bytes) = read::binary(input)?;
    Ok((rest, Bytes::copy_from_slice(bytes)))
}

/// A 16-bit integer that is not 0, as `T`.
pub(crate) fn non_zero_u16<T: TryFrom<u16>>(input: &[u8]) -> Parsed<'_, T> {
    let (rest, value) = read::u16(input)?;
    let value = T::try_from(value).map_err(|_| broken(DecodeError::PropertyZero))?;
    Ok((rest, value))
}

/// Counts the user properties of one packet against the limits.
pub(crate) struct UserPropertyBudget {
    count: u32,
    bytes: u32,
}

impl UserPropertyBudget {
    pub(crate) const fn new(limits: &DecodeLimits) -> Self {
        Self {
            count: limits.user_properties_max,
            bytes: limits.user_properties_bytes_max,
        }
    }

    /// Reads one pair, behind its identifier, without keeping it. [MQTT-1.5.7-1]
    pub(crate) fn read<'a>(&mut self, input: &'a [u8]) -> Parsed<'a, ()> {
        let (rest, _name) = read::text(input)?;
        let (rest, _value) = read::text(rest)?;
        let bytes = 1 + input.len() - rest.len();
        let bytes = u32::try_from(bytes)
            .ok()
            .and_then(|bytes| self.bytes.checked_sub(bytes));
        match (self.count.checked_sub(1), bytes) {
            (Some(count), Some(bytes)) => {
                *self = Self { count, bytes };
                Ok((rest, ()))
            }
            (_, _) => Err(broken(DecodeError::UserPropertiesTooMany)),
        }
    }

    /// Reads one pair, behind its identifier, and appends it to `into`.
    pub(crate) fn read_into<'a>(
        &mut self,
        input: &'a [u8],
        into: &mut UserProperties,
    ) -> Parsed<'a, ()> {
        let bytes_before = self.bytes;
        let (rest, ()) = self.read(input)?;
        // What is left of the packet bounds what can follow, and so does the limit.
        let bytes_hint = bytes_before.min(u32::try_from(1 + input.len()).unwrap_or(u32::MAX));
        let pair = input.get(..input.len() - rest.len()).unwrap_or_default();
        into.push_pair(pair, bytes_hint as usize);
        Ok((rest, ()))
    }
}

/// Gathers the two authentication properties, which may come in either order.
#[derive(Default)]
pub(crate) struct AuthenticationParts {
    method: Option<ByteString>,
    data: Option<Secret>,
}

impl AuthenticationParts {
    pub(crate) fn read_method<'a>(&mut self, input: &'a [u8]) -> Parsed<'a, ()> {
        set(&mut self.method, owned_text(input)?)
    }

    pub(crate) fn read_data<'a>(&mut self, input: &'a [u8]) -> Parsed<'a, ()> {
        let (rest, data) = owned_binary(input)?;
        set(&mut self.data, (rest, Secret::new(data)))
    }

    /// Data without a method is a protocol error.
    pub(crate) fn finish(self) -> Result<Option<Authentication>, DecodeError> {
        match (self.method, self.data) {
            (Some(method), data) => Ok(Some(Authentication { method, data })),
            (None, None) => Ok(None),
            (None, Some(_)) => Err(DecodeError::AuthenticationMethodMissing),
        }
    }
}

/// Stores a parsed value and passes on what follows it.
pub(crate) fn set<'a, T>(field: &mut Option<T>, (rest, value): (&'a [u8], T)) -> Parsed<'a, ()> {
    *field = Some(value);
    Ok((rest, ()))
}

/// One property of a validated block.
#[derive(Clone, Copy)]
pub(crate) struct RawProperty<'a> {
    pub(crate) id: u8,
    /// The value, a length prefix included.
    pub(crate) value: &'a [u8],
    /// Identifier and value.
    pub(crate) whole: &'a [u8],
}

impl<'a> RawProperty<'a> {
    pub(crate) fn u32(self) -> Option<u32> {
        Some(u32::from_be_bytes(self.value.try_into().ok()?))
    }

    pub(crate) fn binary(self) -> Option<&'a [u8]> {
        self.value.get(2..)
    }

    pub(crate) fn text(self) -> Option<&'a str> {
        core::str::from_utf8(self.binary()?).ok()
    }

    pub(crate) fn pair(self) -> Option<(&'a str, &'a str)> {
        let (rest, name) = read::binary(self.value).ok()?;
        let (_, value) = read::binary(rest).ok()?;
        Some((
            core::str::from_utf8(name).ok()?,
            core::str::from_utf8(value).ok()?,
        ))
    }
}

/// Walks a block that was validated before; ends early rather than panics if it was not.
#[derive(Clone, Copy)]
pub(crate) struct RawProperties<'a> {
    rest: &'a [u8],
}

impl<'a> RawProperties<'a> {
    pub(crate) const fn new(block: &'a [u8]) -> Self {
        Self { rest: block }
    }
}

impl<'a> Iterator for RawProperties<'a> {
    type Item = RawProperty<'a>;

    fn next(&mut self) -> Option<RawProperty<'a>> {
        let (id, after) = self.rest.split_first()?;
        let len = value_len(*id, after)?;
        let (whole, rest) = self.rest.split_at_checked(1 + len)?;
        let (value, _) = after.split_at_checked(len)?;
        self.rest = rest;
        Some(RawProperty {
            id: *id,
            value,
            whole,
        })
    }
}

fn value_len(id: u8, input: &[u8]) -> Option<usize> {
    Some(match shape(id)? {
        Shape::Byte => 1,
        Shape::U16 => 2,
        Shape::U32 => 4,
        Shape::VariableInt => input.len() - read::variable_int(input).ok()?.0.len(),
        Shape::Prefixed => input.len() - read::binary(input).ok()?.0.len(),
        Shape::Pair => {
            let (value, _) = read::binary(input).ok()?;
            input.len() - read::binary(value).ok()?.0.len()
        }
    })
}
