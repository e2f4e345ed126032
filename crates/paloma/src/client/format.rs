//! The format strings of `paloma sub -F`: mosquitto_sub's.

use std::fmt;
use std::io::Write;
use std::time::SystemTime;

use super::json;
use crate::utc::{LETTERS, Utc};

/// Widths above this are refused: a mistyped one would print nothing but blanks.
const WIDTH_MAX: usize = 10_000;

/// A message as the format strings see it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Printed<'a> {
    pub(crate) topic: &'a str,
    pub(crate) payload: &'a [u8],
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    /// Packet id; 0 for QoS 0.
    pub(crate) id: u16,
    pub(crate) payload_format: Option<u8>,
    pub(crate) expiry_seconds: Option<u32>,
    pub(crate) content_type: Option<&'a str>,
    pub(crate) response_topic: Option<&'a str>,
    pub(crate) correlation_data: Option<&'a [u8]>,
    pub(crate) subscription_ids: Vec<u32>,
    pub(crate) user_properties: Vec<(&'a str, &'a str)>,
}

/// A format string that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(Vec<u8>),
    Field {
        letter: char,
        layout: Layout,
    },
    /// A letter of `strftime`.
    Time(char),
    /// The payload, or `(null)` if it is empty.
    PayloadOrNull,
}

/// How wide a field is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Layout {
    is_left: bool,
    is_zero_padded: bool,
    width: usize,
    width_max: Option<usize>,
}

/// What is wrong with a format string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FormatError {
    /// No such letter after `%`.
    Field(char),
    /// No such letter after `@`.
    Time(char),
    /// No such letter after `\`.
    Escape(char),
    /// `%`, `@` or `\` at the end.
    Unfinished,
    /// A width above 10,000.
    TooWide,
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(letter) => write!(f, "invalid format specifier '%{letter}'"),
            Self::Time(letter) => write!(f, "invalid time specifier '@{letter}'"),
            Self::Escape(letter) => write!(f, "invalid escape '\\{letter}'"),
            Self::Unfinished => f.write_str("incomplete format specifier at the end"),
            Self::TooWide => write!(f, "a field is at most {WIDTH_MAX} characters wide"),
        }
    }
}

impl std::error::Error for FormatError {}

/// A message that cannot be printed as the format wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PayloadNotJson;

const FIELDS: &str = "%ACDEFIjJlmpPqRrStUxX";

impl Format {
    /// Only the payload.
    pub(crate) fn payload() -> Self {
        Self {
            pieces: vec![field('p')],
        }
    }

    /// Topic, blank, payload: `-v`.
    pub(crate) fn verbose() -> Self {
        Self {
            pieces: vec![
                field('t'),
                Piece::Literal(b" ".to_vec()),
                Piece::PayloadOrNull,
            ],
        }
    }

    /// Reads a format string.
    ///
    /// # Errors
    /// The first thing in it that means nothing.
    pub(crate) fn parse(text: &str) -> Result<Self, FormatError> {
        let mut pieces = Vec::new();
        let mut literal = Vec::new();
        let mut letters = text.chars().peekable();
        while let Some(letter) = letters.next() {
            let piece = match letter {
                '\\' => {
                    let escape = letters.next().ok_or(FormatError::Unfinished)?;
                    literal.push(escaped(escape).ok_or(FormatError::Escape(escape))?);
                    continue;
                }
                '@' => {
                    let letter = letters.next().ok_or(FormatError::Unfinished)?;
                    if !LETTERS.contains(letter) {
                        return Err(FormatError::Time(letter));
                    }
                    Piece::Time(letter)
                }
                '%' => {
                    let layout = Layout::parse(&mut letters)?;
                    let letter = letters.next().ok_or(FormatError::Unfinished)?;
                    if !FIELDS.contains(letter) {
                        return Err(FormatError::Field(letter));
                    }
                    Piece::Field { letter, layout }
                }
                other => {
                    literal.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes());
                    continue;
                }
            };
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            pieces.push(piece);
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Self { pieces })
    }

    /// Appends the message to `out`. All its times are `now`, in UTC.
    ///
    /// # Errors
    /// `%J` with a payload that is not JSON; `out` then holds what came before it.
    pub(crate) fn write(
        &self,
        message: &Printed<'_>,
        now: SystemTime,
        out: &mut Vec<u8>,
    ) -> Result<(), PayloadNotJson> {
        let now = Utc::new(now);
        for piece in &self.pieces {
            match piece {
                Piece::Literal(bytes) => out.extend_from_slice(bytes),
                Piece::Time(letter) => now.write_letter(*letter, out),
                Piece::PayloadOrNull if message.payload.is_empty() => {
                    out.extend_from_slice(b"(null)");
                }
                Piece::PayloadOrNull => out.extend_from_slice(message.payload),
                Piece::Field { letter: 'j', .. } => json::write(message, &now, false, out)?,
                Piece::Field { letter: 'J', .. } => json::write(message, &now, true, out)?,
                Piece::Field {
                    letter: 'p',
                    layout,
                } => layout.write(message.payload, false, out),
                Piece::Field { letter, layout } => {
                    write_field(*letter, *layout, message, &now, out)
                }
            }
        }
        Ok(())
    }
}

impl Layout {
    fn parse(letters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Self, FormatError> {
        let mut layout = Self::default();
        loop {
            if letters.next_if_eq(&'-').is_some() {
                layout.is_left = true;
            } else if letters.next_if_eq(&'0').is_some() {
                layout.is_zero_padded = true;
            } else {
                break;
            }
        }
        layout.width = parse_width(letters)?.unwrap_or(0);
        if letters.next_if_eq(&'.').is_some() {
            layout.width_max = Some(parse_width(letters)?.unwrap_or(0));
        }
        Ok(layout)
    }

    /// Writes a value as wide as it should be; only numbers are padded with zeros, and only texts cut.
    fn write(&self, value: &[u8], is_number: bool, out: &mut Vec<u8>) {
        let width = std::str::from_utf8(value).map_or(value.len(), |text| text.chars().count());
        let padding = self.width.saturating_sub(width);
        let fill = if self.is_zero_padded && is_number && !self.is_left {
            b'0'
        } else {
            b' '
        };
        if !self.is_left {
            out.resize(out.len() + padding, fill);
        }
        out.extend_from_slice(value);
        if self.is_left {
            out.resize(out.len() + padding, fill);
        }
    }

    fn write_text(&self, text: &str, out: &mut Vec<u8>) {
        let end = self
            .width_max
            .and_then(|width_max| text.char_indices().nth(width_max))
            .map_or(text.len(), |(end, _)| end);
        self.write(text.get(..end).unwrap_or(text).as_bytes(), false, out);
    }

    fn write_number(&self, number: impl fmt::Display, out: &mut Vec<u8>) {
        self.write(number.to_string().as_bytes(), true, out);
    }
}

fn write_field(letter: char, layout: Layout, message: &Printed<'_>, now: &Utc, out: &mut Vec<u8>) {
    match letter {
        '%' => out.push(b'%'),
        't' => layout.write_text(message.topic, out),
        'C' => layout.write_text(message.content_type.unwrap_or(""), out),
        'R' => layout.write_text(message.response_topic.unwrap_or(""), out),
        'I' => layout.write_text(&format!("{}+0000", now.date_time()), out),
        'D' => out.extend_from_slice(message.correlation_data.unwrap_or(&[])),
        'l' => layout.write_number(message.payload.len(), out),
        'm' => layout.write_number(message.id, out),
        'q' => out.extend_from_slice(message.qos.to_string().as_bytes()),
        'r' => out.push(if message.retain { b'1' } else { b'0' }),
        'E' => write_optional(message.expiry_seconds, layout, out),
        'F' => write_optional(message.payload_format, layout, out),
        'S' => {
            let ids: Vec<String> = message
                .subscription_ids
                .iter()
                .map(u32::to_string)
                .collect();
            layout.write(ids.join(" ").as_bytes(), true, out);
        }
        'P' => {
            let pairs = message.user_properties.iter();
            let pairs: Vec<String> = pairs.map(|(key, value)| format!("{key}:{value}")).collect();
            out.extend_from_slice(pairs.join(" ").as_bytes());
        }
        'U' => {
            let time = format!("{}.{:09}", now.unix_seconds, now.nanoseconds);
            out.extend_from_slice(time.as_bytes());
        }
        'x' => layout.write(hex(message.payload, false).as_bytes(), true, out),
        'X' => layout.write(hex(message.payload, true).as_bytes(), true, out),
        // A receiver resolves aliases before anybody can see them: `%A` stays empty.
        _ => layout.write(&[], true, out),
    }
}

fn write_optional(number: Option<impl fmt::Display>, layout: Layout, out: &mut Vec<u8>) {
    match number {
        Some(number) => layout.write_number(number, out),
        None => layout.write(&[], true, out),
    }
}

fn hex(bytes: &[u8], is_upper: bool) -> String {
    let mut hex = Vec::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let written = if is_upper {
            write!(hex, "{byte:02X}")
        } else {
            write!(hex, "{byte:02x}")
        };
        written.expect("a Vec takes every write");
    }
    String::from_utf8(hex).unwrap_or_default()
}

fn parse_width(
    letters: &mut std::iter::Peekable<std::str::Chars<'_>>,
) -> Result<Option<usize>, FormatError> {
    let mut width = None;
    while let Some(digit) = letters.peek().and_then(|letter| letter.to_digit(10)) {
        letters.next();
        let next = width.unwrap_or(0_usize) * 10 + digit as usize;
        if next > WIDTH_MAX {
            return Err(FormatError::TooWide);
        }
        width = Some(next);
    }
    Ok(width)
}

const fn field(letter: char) -> Piece {
    let layout = Layout {
        is_left: false,
        is_zero_padded: false,
        width: 0,
        width_max: None,
    };
    Piece::Field { letter, layout }
}

const fn escaped(letter: char) -> Option<u8> {
    Some(match letter {
        '\\' => b'\\',
        '0' => 0,
        'a' => 7,
        'e' => 27,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 11,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;

    fn message() -> Printed<'static> {
        Printed {
            topic: "home/küche",
            payload: b"{\"a\":1}",
            qos: 1,
            retain: true,
            id: 7,
            payload_format: Some(1),
            expiry_seconds: Some(60),
            content_type: Some("text/x"),
            response_topic: Some("re"),
            correlation_data: Some(&[0, 255]),
            subscription_ids: vec![3, 4],
            user_properties: vec![("k", "v"), ("k2", "v 2")],
        }
    }

    fn print(format: &str, message: &Printed<'_>) -> Result<Vec<u8>, PayloadNotJson> {
        let now = UNIX_EPOCH + Duration::new(1_470_818_943, 386_368_637);
        let mut out = Vec::new();
        Format::parse(format)
            .unwrap()
            .write(message, now, &mut out)?;
        Ok(out)
    }

    fn check(format: &str, expected: &str) {
        let out = print(format, &message()).unwrap();
        assert_eq!(String::from_utf8_lossy(&out), expected, "{format}");
    }

    #[test]
    fn fields_are_those_of_mosquitto_sub() {
        check("%t %p %q %r %l %m", "home/küche {\"a\":1} 1 1 7 7");
        check(
            "%%|%C|%E|%F|%R|%S|%P|%A",
            "%|text/x|60|1|re|3 4|k:v k2:v 2|",
        );
        check("%x %X", "7b2261223a317d 7B2261223A317D");
        check("%I %U", "2016-08-10T08:49:03+0000 1470818943.386368637");
        check("@Y-@m-@d @@ @s.@N", "2016-08-10 @ 1470818943.386368637");
        check("a\\n\\t\\\\\\e[0m\\0b", "a\n\t\\\u{1b}[0m\0b");
        assert_eq!(print("%D", &message()), Ok(vec![0, 255]));
    }

    #[test]
    fn an_empty_payload_is_named_beside_its_topic() {
        for (payload, expected) in [
            (&b"full"[..], &b"home/k\xC3\xBCche full"[..]),
            (b"", b"home/k\xC3\xBCche (null)"),
        ] {
            let mut out = Vec::new();
            let message = Printed {
                payload,
                ..message()
            };
            Format::verbose()
                .write(&message, UNIX_EPOCH, &mut out)
                .unwrap();
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn fields_have_widths() {
        check(
            "%12t|%-12t|%.4t|%6.4t|%4.20t",
            "  home/küche|home/küche  |home|  home|home/küche",
        );
        check(
            "%5l|%05l|%-5l|%-05l|%05E|%3m",
            "    7|00007|7    |7    |00060|  7",
        );
        check("%05t", "home/küche");
        check("%9p|%-9p|", "  {\"a\":1}|{\"a\":1}  |");
        check("%5q|%5r", "1|1");
    }

    #[test]
    fn absent_properties_are_empty() {
        let out = print("%C|%D|%E|%F|%R|%S|%P|%m", &Printed::default()).unwrap();
        assert_eq!(out, b"|||||||0");
    }

    #[test]
    fn json_says_everything() {
        check(
            "%j",
            "{\"tst\":\"2016-08-10T08:49:03.386368Z\",\"topic\":\"home/küche\",\"qos\":1,\
             \"retain\":1,\"payloadlen\":7,\"mid\":7,\"properties\":{\
             \"payload-format-indicator\":1,\"message-expiry-interval\":60,\
             \"content-type\":\"text/x\",\"response-topic\":\"re\",\
             \"correlation-data\":\"\\u0000\u{fffd}\",\"subscription-identifier\":[3,4],\
             \"user-properties\":{\"k\":\"v\",\"k2\":\"v 2\"}},\"payload\":\"{\\\"a\\\":1}\"}",
        );
        let plain = Printed {
            topic: "t",
            payload: b"[1]",
            ..Printed::default()
        };
        assert_eq!(
            print("%J", &plain).map(|out| String::from_utf8(out).unwrap()),
            Ok(
                "{\"tst\":\"2016-08-10T08:49:03.386368Z\",\"topic\":\"t\",\"qos\":0,\"retain\":0,\
                \"payloadlen\":3,\"payload\":[1]}"
                    .to_owned()
            )
        );
        let broken = Printed {
            payload: b"{",
            ..plain
        };
        assert_eq!(print("%J", &broken), Err(PayloadNotJson));
        assert!(print("%j", &broken).is_ok());
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(Format::parse("%y"), Err(FormatError::Field('y')));
        assert_eq!(Format::parse("@Q"), Err(FormatError::Time('Q')));
        assert_eq!(Format::parse("\\q"), Err(FormatError::Escape('q')));
        for unfinished in ["%", "%-05", "%5.", "@", "\\"] {
            assert_eq!(
                Format::parse(unfinished),
                Err(FormatError::Unfinished),
                "{unfinished}"
            );
        }
        assert_eq!(Format::parse("%10001t"), Err(FormatError::TooWide));
        assert_eq!(
            Format::parse("%1.99999999999999999999t"),
            Err(FormatError::TooWide)
        );
    }

    proptest! {
        #[test]
        fn no_format_makes_it_panic(text in "[%@\\\\0-9.a-zA-Z-]{0,12}", payload: Vec<u8>) {
            if let Ok(format) = Format::parse(&text) {
                let printed = Printed { payload: &payload, ..message() };
                let _ = format.write(&printed, UNIX_EPOCH, &mut Vec::new());
            }
        }
    }
}
