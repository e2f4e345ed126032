//! The subject of a certificate that has been verified, read strictly.

use std::fmt::Write;

use bytestring::ByteString;
use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

use crate::certificate_name::{NameError, checked};

/// 2.5.4.3
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// The attributes that RFC 4514 gives a short name.
const SHORT_NAMES: &[(&[u8], &str)] = &[
    (COMMON_NAME, "CN"),
    (&[0x55, 0x04, 0x06], "C"),
    (&[0x55, 0x04, 0x07], "L"),
    (&[0x55, 0x04, 0x08], "ST"),
    (&[0x55, 0x04, 0x09], "STREET"),
    (&[0x55, 0x04, 0x0A], "O"),
    (&[0x55, 0x04, 0x0B], "OU"),
    (
        &[0x09, 0x92, 0x26, 0x89, 0x93, 0xF2, 0x2C, 0x64, 0x01, 0x01],
        "UID",
    ),
    (
        &[0x09, 0x92, 0x26, 0x89, 0x93, 0xF2, 0x2C, 0x64, 0x01, 0x19],
        "DC",
    ),
];

const TAG_OBJECT_ID: u8 = 0x06;
const TAG_UTF8_STRING: u8 = 0x0C;
const TAG_PRINTABLE_STRING: u8 = 0x13;
const TAG_IA5_STRING: u8 = 0x16;
const TAG_SEQUENCE: u8 = 0x30;
const TAG_SET: u8 = 0x31;

/// The only common name of the subject.
pub(super) fn common_name(certificate: &CertificateDer<'_>) -> Result<ByteString, NameError> {
    with_subject(certificate, common_name_of)
}

/// The subject as RFC 4514 writes it.
pub(super) fn subject(certificate: &CertificateDer<'_>) -> Result<ByteString, NameError> {
    with_subject(certificate, subject_of)
}

fn with_subject(
    certificate: &CertificateDer<'_>,
    read: impl FnOnce(&[u8]) -> Result<ByteString, NameError>,
) -> Result<ByteString, NameError> {
    let certificate = EndEntityCert::try_from(certificate).map_err(|_| NameError::Malformed)?;
    read(certificate.subject())
}

fn common_name_of(subject: &[u8]) -> Result<ByteString, NameError> {
    let mut found = None;
    for attribute in attributes(subject)?.into_iter().flatten() {
        if attribute.kind == COMMON_NAME && found.replace(attribute.text()?).is_some() {
            return Err(NameError::Several);
        }
    }
    checked(found.ok_or(NameError::Missing)?)
}

fn subject_of(subject: &[u8]) -> Result<ByteString, NameError> {
    let mut text = String::new();
    // The most specific name comes last in a certificate and first on paper.
    for (index, set) in attributes(subject)?.iter().rev().enumerate() {
        for (place, attribute) in set.iter().enumerate() {
            match (index, place) {
                (0, 0) => {}
                (_, 0) => text.push(','),
                _ => text.push('+'),
            }
            attribute.write(&mut text)?;
        }
    }
    checked(&text)
}

/// One attribute of a name.
struct Attribute<'a> {
    kind: &'a [u8],
    tag: u8,
    value: &'a [u8],
}

impl<'a> Attribute<'a> {
    fn text(&self) -> Result<&'a str, NameError> {
        let is_possible = match self.tag {
            TAG_UTF8_STRING => true,
            TAG_PRINTABLE_STRING | TAG_IA5_STRING => self.value.is_ascii(),
            _ => false,
        };
        if !is_possible {
            return Err(NameError::Text);
        }
        std::str::from_utf8(self.value).map_err(|_| NameError::Text)
    }

    fn write(&self, out: &mut String) -> Result<(), NameError> {
        match SHORT_NAMES.iter().find(|(kind, _)| *kind == self.kind) {
            Some((_, name)) => out.push_str(name),
            None => write_object_id(self.kind, out)?,
        }
        out.push('=');
        let text = self.text()?;
        let last = text.chars().count().saturating_sub(1);
        for (index, letter) in text.chars().enumerate() {
            let is_special = matches!(letter, '"' | '+' | ',' | ';' | '<' | '>' | '\\')
                || (index == 0 && matches!(letter, ' ' | '#'))
                || (index == last && letter == ' ');
            if is_special {
                out.push('\\');
            }
            out.push(letter);
        }
        Ok(())
    }
}

fn write_object_id(kind: &[u8], out: &mut String) -> Result<(), NameError> {
    let mut arc: u32 = 0;
    let mut is_first = true;
    for byte in kind {
        arc = arc
            .checked_mul(128)
            .map(|arc| arc + u32::from(byte & 0x7F))
            .ok_or(NameError::Malformed)?;
        if byte & 0x80 != 0 {
            continue;
        }
        let written = if std::mem::take(&mut is_first) {
            let root = (arc / 40).min(2);
            write!(out, "{root}.{}", arc - root * 40)
        } else {
            write!(out, ".{arc}")
        };
        written.map_err(|_| NameError::Malformed)?;
        arc = 0;
    }
    Ok(())
}

/// The sets of attributes, in the certificate's order.
fn attributes(mut subject: &[u8]) -> Result<Vec<Vec<Attribute<'_>>>, NameError> {
    let mut sets = Vec::new();
    while !subject.is_empty() {
        let mut set = expect(&mut subject, TAG_SET)?;
        let mut attributes = Vec::new();
        while !set.is_empty() {
            let mut pair = expect(&mut set, TAG_SEQUENCE)?;
            let kind = expect(&mut pair, TAG_OBJECT_ID)?;
            let (tag, value) = element(&mut pair)?;
            if !pair.is_empty() {
                return Err(NameError::Malformed);
            }
            attributes.push(Attribute { kind, tag, value });
        }
        sets.push(attributes);
    }
    Ok(sets)
}

fn expect<'a>(input: &mut &'a [u8], wanted: u8) -> Result<&'a [u8], NameError> {
    match element(input)? {
        (tag, value) if tag == wanted => Ok(value),
        _ => Err(NameError::Malformed),
    }
}

/// Takes one DER element off the front.
fn element<'a>(input: &mut &'a [u8]) -> Result<(u8, &'a [u8]), NameError> {
    let (&[tag, first], rest) = input.split_first_chunk().ok_or(NameError::Malformed)?;
    let (len, rest) = match (first, rest) {
        (0..=0x7F, rest) => (usize::from(first), rest),
        (0x81, [len, rest @ ..]) => (usize::from(*len), rest),
        (0x82, [high, low, rest @ ..]) => (usize::from(u16::from_be_bytes([*high, *low])), rest),
        _ => return Err(NameError::Malformed),
    };
    let (value, rest) = rest.split_at_checked(len).ok_or(NameError::Malformed)?;
    *input = rest;
    Ok((tag, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF_O: &[u8] = &[0x55, 0x04, 0x0A];

    fn der(tag: u8, value: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag];
        let len = u16::try_from(value.len()).unwrap();
        match u8::try_from(len) {
            Ok(len @ 0..0x80) => bytes.push(len),
            Ok(len) => bytes.extend([0x81, len]),
            Err(_) => {
                bytes.push(0x82);
                bytes.extend(len.to_be_bytes());
            }
        }
        bytes.extend(value);
        bytes
    }

    fn part(kind: &[u8], tag: u8, value: &[u8]) -> Vec<u8> {
        let pair = [der(TAG_OBJECT_ID, kind), der(tag, value)].concat();
        der(TAG_SET, &der(TAG_SEQUENCE, &pair))
    }

    fn check(subject: &[u8], name: Result<&str, NameError>, whole: Result<&str, NameError>) {
        assert_eq!(common_name_of(subject).as_deref(), name.as_ref().copied());
        assert_eq!(subject_of(subject).as_deref(), whole.as_ref().copied());
    }

    #[test]
    fn names_are_read() {
        let cn = |text: &str| part(COMMON_NAME, TAG_UTF8_STRING, text.as_bytes());
        check(&cn("zähler 7"), Ok("zähler 7"), Ok("CN=zähler 7"));
        let two = [part(OF_O, TAG_PRINTABLE_STRING, b"A, B"), cn("x")].concat();
        check(&two, Ok("x"), Ok(r"CN=x,O=A\, B"));
        let odd = part(&[0x2A, 0x86, 0x48], TAG_IA5_STRING, b" #x ");
        check(&odd, Err(NameError::Missing), Ok(r"1.2.840=\ #x\ "));
        check(
            &cn(&"x".repeat(300)),
            Ok(&"x".repeat(300)),
            Ok(&format!("CN={}", "x".repeat(300))),
        );
    }

    #[test]
    fn names_that_two_readers_might_read_differently_are_refused() {
        let cn = |tag, text: &[u8]| part(COMMON_NAME, tag, text);
        let text = Err(NameError::Text);
        check(&cn(TAG_UTF8_STRING, b"a\0b"), text, text);
        check(&cn(TAG_UTF8_STRING, b"a\nb"), text, text);
        check(&cn(TAG_UTF8_STRING, b"\xC3\x28"), text, text);
        check(&cn(TAG_PRINTABLE_STRING, b"\xE4"), text, text);
        check(&cn(0x1E, b"\0a"), text, text);
        check(&cn(TAG_UTF8_STRING, &[b'x'; 1_025]), text, text);
        let twice = [cn(TAG_UTF8_STRING, b"a"), cn(TAG_UTF8_STRING, b"b")].concat();
        check(&twice, Err(NameError::Several), Ok("CN=b,CN=a"));
        let empty = cn(TAG_UTF8_STRING, b"");
        check(&empty, Err(NameError::Missing), Ok("CN="));
        check(b"", Err(NameError::Missing), Err(NameError::Missing));
    }

    #[test]
    fn broken_names_are_refused_at_every_byte() {
        let whole = part(COMMON_NAME, TAG_UTF8_STRING, b"name");
        for end in 1..whole.len() {
            let cut = whole.get(..end).unwrap();
            check(cut, Err(NameError::Malformed), Err(NameError::Malformed));
        }
    }
}
