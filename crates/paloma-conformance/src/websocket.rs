//! The client's side of a WebSocket, by hand, so that its frames can be made wrong.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use crate::target::Stream;

/// The request's key; RFC 6455 gives the answer to it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Opcode of a text frame.
pub const TEXT: u8 = 0x1;
/// Opcode of a binary frame.
pub const BINARY: u8 = 0x2;
const CONTINUATION: u8 = 0x0;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// A WebSocket after its upgrade, as the stream of bytes in its binary frames.
#[derive(Debug)]
pub struct WebSocket {
    stream: TcpStream,
    /// What came and is not a whole frame yet.
    unread: Vec<u8>,
    /// What binary frames held and has not been read.
    ready: Vec<u8>,
    is_closed: bool,
}

impl WebSocket {
    /// Over a stream that has been upgraded.
    #[must_use]
    pub fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            unread: Vec::new(),
            ready: Vec::new(),
            is_closed: false,
        }
    }

    /// Sends one whole message of this opcode.
    ///
    /// # Errors
    /// The socket's.
    pub fn send(&mut self, opcode: u8, payload: &[u8]) -> io::Result<()> {
        self.stream.write_all(&frame(0x80 | opcode, payload))
    }

    /// Takes the whole frames that have come.
    fn take_frames(&mut self) -> io::Result<()> {
        while let Some((first, payload, used)) = parse(&self.unread) {
            self.unread.drain(..used);
            match first & 0x0F {
                BINARY | CONTINUATION => self.ready.extend(payload),
                PING => self.send(PONG, &payload)?,
                CLOSE => self.is_closed = true,
                PONG => {}
                other => {
                    let problem = format!("a frame of opcode {other} from the broker");
                    return Err(io::Error::new(ErrorKind::InvalidData, problem));
                }
            }
        }
        Ok(())
    }
}

impl Read for WebSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.ready.is_empty() {
                let count = self.ready.len().min(buffer.len());
                for (to, from) in buffer.iter_mut().zip(self.ready.drain(..count)) {
                    *to = from;
                }
                return Ok(count);
            }
            if self.is_closed {
                return Ok(0);
            }
            let mut chunk = [0; 16 * 1024];
            let count = self.stream.read(&mut chunk)?;
            if count == 0 {
                return Ok(0);
            }
            self.unread.extend(chunk.iter().take(count));
            self.take_frames()?;
        }
    }
}

impl Write for WebSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send(BINARY, bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for WebSocket {
    fn set_patience(&mut self, patience: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(patience))
    }

    fn cut(&mut self) {
        let _closed = self.stream.shutdown(Shutdown::Both);
    }

    fn finish(&mut self) {
        let _closed = self.stream.shutdown(Shutdown::Write);
    }
}

/// Asks for an upgrade and returns the head of the answer.
///
/// # Errors
/// The socket's, or an answer without an end.
pub fn upgrade(
    stream: &mut TcpStream,
    host: &str,
    path: &str,
    protocols: &[&str],
) -> io::Result<String> {
    let offered = if protocols.is_empty() {
        String::new()
    } else {
        format!("Sec-WebSocket-Protocol: {}\r\n", protocols.join(", "))
    };
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{offered}\r\n"
    );
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(request.as_bytes())?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > HEAD_BYTES_MAX || stream.read(&mut byte)? == 0 {
            return Err(io::Error::new(
                ErrorKind::UnexpectedEof,
                "no end of the answer to the upgrade",
            ));
        }
        head.extend(byte);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// Checks that the upgrade was agreed to.
///
/// # Errors
/// It was not.
pub fn check_upgrade(head: &str) -> io::Result<()> {
    let is_right = head.starts_with("HTTP/1.1 101") && head.contains(ACCEPT);
    if is_right {
        Ok(())
    } else {
        let line = head.lines().next().unwrap_or_default();
        Err(io::Error::new(
            ErrorKind::ConnectionRefused,
            format!("no upgrade: {line}"),
        ))
    }
}

/// The subprotocol that the broker has chosen.
#[must_use]
pub fn chosen_protocol(head: &str) -> Option<&str> {
    head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-protocol")
            .then(|| value.trim())
    })
}

/// A masked frame; the mask is fixed, which the protocol cannot see.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x5A, 0xC3, 0x0F, 0x99];
    let mut bytes = vec![first];
    if let Ok(small @ 0..=125) = u8::try_from(payload.len()) {
        bytes.push(0x80 | small);
    } else if let Ok(medium) = u16::try_from(payload.len()) {
        bytes.push(0x80 | 126);
        bytes.extend(medium.to_be_bytes());
    } else {
        bytes.push(0x80 | 127);
        bytes.extend((payload.len() as u64).to_be_bytes());
    }
    bytes.extend(MASK);
    bytes.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    bytes
}

/// First byte, payload and length of the frame at the start, if it is whole.
fn parse(bytes: &[u8]) -> Option<(u8, Vec<u8>, usize)> {
    let first = *bytes.first()?;
    let second = *bytes.get(1)?;
    let (start, length) = match second & 0x7F {
        126 => (
            4,
            usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
        ),
        127 => {
            let length = u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?);
            (10, usize::try_from(length).ok()?)
        }
        small => (2, usize::from(small)),
    };
    let end = start + length;
    Some((first, bytes.get(start..end)?.to_vec(), end))
}
