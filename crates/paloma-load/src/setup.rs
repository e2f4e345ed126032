//! Connects and subscribes, one connection after the other, before anything is measured.

use std::io::{Read, Write};

use crate::error::LoadError;
use crate::link::Link;
use crate::packet::{self, Frame, Hello, Qos, Scan, Version, first_byte};
use crate::target::Target;

/// Filters in one SUBSCRIBE: far below what any broker refuses.
const FILTERS_PER_SUBSCRIBE: usize = 100;

/// Brokers keep a timer for it, as for everybody's; it is longer than any load, whose connections send no pings.
const KEEP_ALIVE_SECONDS: u16 = u16::MAX;

/// A connection whose CONNECT was accepted. Its reads and writes wait.
#[derive(Debug)]
pub struct Accepted {
    /// The connection, with nothing left unread.
    pub link: Link,
    /// How many QoS 1 and 2 PUBLISHes the broker takes unacknowledged; 65,535 where it does not say.
    pub receive_maximum: u16,
}

/// Connects as the client of this name, behind the target's prefix, and waits for the CONNACK.
///
/// # Errors
/// If the socket fails, or the broker refuses, closes or answers something else.
pub fn connect(target: &Target, name: &str) -> Result<Accepted, LoadError> {
    connect_as(target, name, false)
}

/// The same, with a session that outlives the connection or without.
///
/// # Errors
/// As [`connect`].
pub fn connect_as(target: &Target, name: &str, keeps_session: bool) -> Result<Accepted, LoadError> {
    let mut link = Link::connect(target)?;
    write(&mut link, &hello(target, name, keeps_session))?;
    let receive_maximum = read_frame(&mut link, |frame| connack(target.version, frame))?;
    Ok(Accepted {
        link,
        receive_maximum,
    })
}

/// Connects to a session that is there. The CONNACK is left unread: what waits may come right behind it.
#[cfg(feature = "compare")]
pub(crate) fn connect_resumed(target: &Target, name: &str) -> Result<Link, LoadError> {
    let mut link = Link::connect(target)?;
    write(&mut link, &hello(target, name, true))?;
    Ok(link)
}

/// The CONNECT of a client of this load.
pub(crate) fn hello(target: &Target, name: &str, keeps_session: bool) -> Vec<u8> {
    packet::connect(&Hello {
        version: target.version,
        client_id: &format!("{}-{name}", target.id_prefix),
        keep_alive_seconds: KEEP_ALIVE_SECONDS,
        username: target.username.as_deref(),
        password: target.password.as_deref(),
        keeps_session,
    })
}

/// Writes all of it to a link that waits.
pub(crate) fn write(link: &mut Link, bytes: &[u8]) -> Result<(), LoadError> {
    link.write_all(bytes)?;
    Ok(link.flush()?)
}

/// Ends a connection and leaves its session.
#[cfg(feature = "compare")]
pub(crate) fn leave(link: &mut Link) -> Result<(), LoadError> {
    write(link, &packet::DISCONNECT)?;
    // The broker closes it once it has dealt with all that came before.
    let mut rest = [0; 64];
    while link.read(&mut rest)? > 0 {}
    Ok(())
}

/// Subscribes to every filter and waits until all are granted.
///
/// # Errors
/// As [`connect`]; a filter granted at a lower QoS counts as refused.
pub fn subscribe(
    link: &mut Link,
    version: Version,
    filters: &[String],
    qos: Qos,
) -> Result<(), LoadError> {
    for (index, chunk) in filters.chunks(FILTERS_PER_SUBSCRIBE).enumerate() {
        let id = u16::try_from(index % 60_000 + 1).unwrap_or(1);
        write(link, &packet::subscribe(version, id, chunk, qos))?;
        read_frame(link, |frame| suback(version, frame, chunk.len(), qos))?;
    }
    Ok(())
}

/// Reads exactly one packet from a link that waits and hands it on.
fn read_frame<T>(
    link: &mut Link,
    take: impl FnOnce(&Frame<'_>) -> Result<T, LoadError>,
) -> Result<T, LoadError> {
    let mut input = [0; 4096];
    let mut filled = 0;
    loop {
        let free = input.get_mut(filled..).filter(|free| !free.is_empty());
        let read = link.read(free.ok_or(LoadError::Protocol)?)?;
        if read == 0 {
            return Err(LoadError::Closed);
        }
        filled += read;
        let filled_part = input.get(..filled).unwrap_or(&input);
        match packet::scan(filled_part) {
            Scan::Whole(frame) if frame.whole.len() == filled => return take(&frame),
            Scan::Partial => {}
            Scan::Whole(_) | Scan::Malformed => return Err(LoadError::Protocol),
        }
    }
}

/// Checks a CONNACK and returns its Receive Maximum.
pub(crate) fn connack(version: Version, frame: &Frame<'_>) -> Result<u16, LoadError> {
    let (first_byte::CONNACK, [_flags, code, rest @ ..]) = (frame.first, frame.body) else {
        return Err(LoadError::Protocol);
    };
    if *code != 0 {
        return Err(LoadError::Refused(*code));
    }
    if version == Version::V311 {
        return Ok(u16::MAX);
    }
    let (length, used) = packet::variable_integer(rest).map_err(|_| LoadError::Protocol)?;
    let properties = rest.get(used..used + length).ok_or(LoadError::Protocol)?;
    receive_maximum(properties).ok_or(LoadError::Protocol)
}

/// Walks over a CONNACK's properties; `None` if one is unknown or cut.
fn receive_maximum(mut properties: &[u8]) -> Option<u16> {
    let text_bytes = |at: &[u8]| packet::packet_id(at).map(|length| 2 + usize::from(length));
    while let Some((id, rest)) = properties.split_first() {
        let value_bytes = match id {
            0x21 => return packet::packet_id(rest),
            0x11 | 0x27 => 4,
            0x13 | 0x22 => 2,
            0x24 | 0x25 | 0x28..=0x2A => 1,
            0x12 | 0x15 | 0x16 | 0x1A | 0x1C | 0x1F => text_bytes(rest)?,
            0x26 => {
                let name_bytes = text_bytes(rest)?;
                name_bytes + text_bytes(rest.get(name_bytes..)?)?
            }
            _ => return None,
        };
        properties = rest.get(value_bytes..)?;
    }
    Some(u16::MAX)
}

pub(crate) fn suback(
    version: Version,
    frame: &Frame<'_>,
    count: usize,
    qos: Qos,
) -> Result<(), LoadError> {
    if frame.first != first_byte::SUBACK {
        return Err(LoadError::Protocol);
    }
    let mut rest = frame.body.get(2..).ok_or(LoadError::Protocol)?;
    if version == Version::V5 {
        let (length, used) = packet::variable_integer(rest).map_err(|_| LoadError::Protocol)?;
        rest = rest.get(used + length..).ok_or(LoadError::Protocol)?;
    }
    if rest.len() != count {
        return Err(LoadError::Protocol);
    }
    match rest.iter().find(|code| **code != qos.bits()) {
        Some(code) => Err(LoadError::Refused(*code)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receive_maximum_is_found_behind_other_properties() {
        let check = |properties: &[u8], expected| assert_eq!(receive_maximum(properties), expected);
        check(&[], Some(u16::MAX));
        check(&[0x22, 0, 16, 0x12, 0, 1, b'x', 0x21, 0, 32], Some(32));
        check(
            &[0x26, 0, 1, b'n', 0, 1, b'v', 0x27, 0, 1, 0, 0, 0x21, 1, 0],
            Some(256),
        );
        check(&[0x99], None);
        check(&[0x12, 0, 9, b'x'], None);
    }

    #[test]
    fn a_refusal_carries_its_code() {
        let body = [0, 0x87, 0];
        let frame = Frame {
            first: first_byte::CONNACK,
            body: &body,
            whole: &body,
        };
        assert!(matches!(
            connack(Version::V5, &frame),
            Err(LoadError::Refused(0x87))
        ));
    }
}
