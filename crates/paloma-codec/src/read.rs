//! Reading fields: nom in `complete` mode over exactly one packet's bytes.

use nom::error::{ErrorKind, ParseError};
use nom::number::complete::{be_u8, be_u16, be_u32};

use crate::{DecodeError, PacketId};

/// The error inside parsers. Running out of bytes is `Truncated`: the frame is complete, so more never come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule(pub(crate) DecodeError);

impl<I> ParseError<I> for Rule {
    #[inline]
    fn from_error_kind(_: I, _: ErrorKind) -> Self {
        Self(DecodeError::Truncated)
    }

    #[inline]
    fn append(_: I, _: ErrorKind, other: Self) -> Self {
        other
    }
}

/// What is left of the input, and what was read.
pub(crate) type Parsed<'a, T> = nom::IResult<&'a [u8], T, Rule>;

/// A failure that names its rule.
#[inline]
pub(crate) const fn broken(error: DecodeError) -> nom::Err<Rule> {
    nom::Err::Failure(Rule(error))
}

/// The rule behind a parser's failure.
pub(crate) fn rule(error: nom::Err<Rule>) -> DecodeError {
    match error {
        nom::Err::Error(Rule(rule)) | nom::Err::Failure(Rule(rule)) => rule,
        // Complete parsers never ask for more.
        nom::Err::Incomplete(_) => DecodeError::Truncated,
    }
}

/// One byte.
#[inline]
pub(crate) fn byte(input: &[u8]) -> Parsed<'_, u8> {
    be_u8(input)
}

/// A 16-bit integer.
#[inline]
pub(crate) fn u16(input: &[u8]) -> Parsed<'_, u16> {
    be_u16(input)
}

/// A 32-bit integer.
#[inline]
pub(crate) fn u32(input: &[u8]) -> Parsed<'_, u32> {
    be_u32(input)
}

/// A packet identifier. [MQTT-2.2.1-3] [MQTT311-2.3.1-1]
#[inline]
pub(crate) fn packet_id(input: &[u8]) -> Parsed<'_, PacketId> {
    let (rest, id) = u16(input)?;
    match PacketId::new(id) {
        Some(id) => Ok((rest, id)),
        None => Err(broken(DecodeError::PacketIdZero)),
    }
}

/// Binary data behind its 16-bit length.
#[inline]
pub(crate) fn binary(input: &[u8]) -> Parsed<'_, &[u8]> {
    let (rest, len) = u16(input)?;
    match rest.split_at_checked(len.into()) {
        Some((bytes, rest)) => Ok((rest, bytes)),
        None => Err(broken(DecodeError::Truncated)),
    }
}

/// A string behind its 16-bit length. U+FEFF stays where it stands. [MQTT-1.5.4-1] to [MQTT-1.5.4-3]
#[inline]
pub(crate) fn text(input: &[u8]) -> Parsed<'_, &str> {
    let (rest, bytes) = binary(input)?;
    let text = utf8(bytes).map_err(broken)?;
    if bytes.contains(&0) {
        return Err(broken(DecodeError::Utf8Null));
    }
    Ok((rest, text))
}

/// Well-formed UTF-8; U+0000 is left to the caller to find.
#[inline]
pub(crate) fn utf8(bytes: &[u8]) -> Result<&str, DecodeError> {
    core::str::from_utf8(bytes).map_err(|_| DecodeError::Utf8Invalid)
}

/// A variable byte integer of at most four bytes, in its shortest form. [MQTT-1.5.5-1]
#[inline]
pub(crate) fn variable_int(input: &[u8]) -> Parsed<'_, u32> {
    match parse_variable_int(input).map_err(broken)? {
        Some((value, rest)) => Ok((rest, value)),
        None => Err(broken(DecodeError::Truncated)),
    }
}

/// The value and what follows it; `None` while bytes are missing.
#[inline]
pub(crate) const fn parse_variable_int(input: &[u8]) -> Result<Option<(u32, &[u8])>, DecodeError> {
    match input {
        [a @ 0..=0x7F, rest @ ..] => Ok(Some((*a as u32, rest))),
        _ => parse_long_variable_int(input),
    }
}

const fn parse_long_variable_int(input: &[u8]) -> Result<Option<(u32, &[u8])>, DecodeError> {
    let (value, last, rest) = match input {
        [] | [_] => return Ok(None),
        [a, b @ 0..=0x7F, rest @ ..] => (low(*a, 0) | low(*b, 7), *b, rest),
        [_, _] => return Ok(None),
        [a, b, c @ 0..=0x7F, rest @ ..] => (low(*a, 0) | low(*b, 7) | low(*c, 14), *c, rest),
        [_, _, _] => return Ok(None),
        [a, b, c, d @ 0..=0x7F, rest @ ..] => (
            low(*a, 0) | low(*b, 7) | low(*c, 14) | low(*d, 21),
            *d,
            rest,
        ),
        [_, _, _, _, ..] => return Err(DecodeError::VariableIntTooLong),
    };
    // A last byte of zero adds nothing, so a shorter form exists.
    if last == 0 {
        Err(DecodeError::VariableIntNotMinimal)
    } else {
        Ok(Some((value, rest)))
    }
}

const fn low(byte: u8, shift: u32) -> u32 {
    ((byte & 0x7F) as u32) << shift
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &[u8], expected: Result<Option<u32>, DecodeError>) {
        let value = parse_variable_int(input).map(|parsed| parsed.map(|(value, _)| value));
        assert_eq!(value, expected, "{input:02x?}");
    }

    #[test]
    fn variable_ints_have_one_form() {
        check(&[0x00], Ok(Some(0)));
        check(&[0x7F], Ok(Some(127)));
        check(&[0x80, 0x01], Ok(Some(128)));
        check(&[0xFF, 0x7F], Ok(Some(16_383)));
        check(&[0x80, 0x80, 0x01], Ok(Some(16_384)));
        check(&[0xFF, 0xFF, 0xFF, 0x7F], Ok(Some(268_435_455)));
        check(&[0x80, 0x00], Err(DecodeError::VariableIntNotMinimal));
        check(&[0xFF, 0xFF, 0x00], Err(DecodeError::VariableIntNotMinimal));
        check(
            &[0x80, 0x80, 0x80, 0x00],
            Err(DecodeError::VariableIntNotMinimal),
        );
        check(
            &[0x80, 0x80, 0x80, 0x80],
            Err(DecodeError::VariableIntTooLong),
        );
        check(
            &[0xFF, 0xFF, 0xFF, 0xFF, 0x01],
            Err(DecodeError::VariableIntTooLong),
        );
    }

    #[test]
    fn an_unfinished_variable_int_waits() {
        for input in [&[][..], &[0x80], &[0x80, 0xFF], &[0x80, 0xFF, 0x80]] {
            check(input, Ok(None));
        }
    }
}
