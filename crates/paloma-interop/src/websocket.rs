//! The client's side of a WebSocket, written by hand: frames that are right or wrong, and a stream of bytes over right ones.

use std::io::{Error, ErrorKind, Read, Result, Write};

/// What a client says first.
pub const REQUEST: &str = "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Protocol: mqtt\r\n\r\n";

/// First byte of a whole message of bytes.
pub const BINARY: u8 = 0x82;
/// First byte of a close frame.
pub const CLOSE: u8 = 0x88;
/// First byte of a ping.
pub const PING: u8 = 0x89;
/// First byte of a pong.
pub const PONG: u8 = 0x8A;

/// What an upgrade's answer may have at most.
const ANSWER_BYTES_MAX: usize = 4_096;

/// A frame with a mask.
#[must_use]
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [1, 2, 3, 4];
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..=125 => bytes.push(0x80 | len as u8),
        len @ 126..=0xFFFF => {
            bytes.push(0xFE);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(0xFF);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    let masked = payload.iter().zip(MASK.iter().cycle());
    bytes.extend(masked.map(|(byte, mask)| byte ^ mask));
    bytes
}

/// A WebSocket that has been let in.
#[derive(Debug)]
pub struct WebSocket<S> {
    stream: S,
    /// As it came, not yet taken apart.
    raw: Vec<u8>,
    /// Payloads that nobody has read yet.
    payload: Vec<u8>,
}

impl<S: Read + Write> WebSocket<S> {
    /// Asks to be let in.
    ///
    /// # Errors
    /// `ConnectionRefused` with the answer's first line if it is another than 101; otherwise what the stream says.
    pub fn open(mut stream: S) -> Result<Self> {
        stream.write_all(REQUEST.as_bytes())?;
        let answer = answer(&mut stream)?;
        if !answer.starts_with("HTTP/1.1 101 ") {
            let line = answer.lines().next().unwrap_or_default().to_owned();
            return Err(Error::new(ErrorKind::ConnectionRefused, line));
        }
        Ok(Self {
            stream,
            raw: Vec::new(),
            payload: Vec::new(),
        })
    }

    /// What it stands on.
    pub const fn get_ref(&self) -> &S {
        &self.stream
    }

    /// The next frame, its first byte and payload; `None` at the end.
    ///
    /// # Errors
    /// What the stream says.
    pub fn frame(&mut self) -> Result<Option<(u8, Vec<u8>)>> {
        let mut buffer = [0; 16 * 1024];
        loop {
            if let Some(frame) = take_frame(&mut self.raw) {
                return Ok(Some(frame));
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(None),
                Ok(count) => self.raw.extend_from_slice(&buffer[..count]),
                // TLS that ends without a farewell.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// What the stream says.
    pub fn write_raw(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }
}

impl<S: Read + Write> Read for WebSocket<S> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        while self.payload.is_empty() {
            match self.frame()? {
                None | Some((CLOSE, _)) => return Ok(0),
                Some((PING, payload)) => self.write_raw(&frame(PONG, &payload))?,
                Some((PONG, _)) => {}
                Some((_, payload)) => self.payload = payload,
            }
        }
        let count = buffer.len().min(self.payload.len());
        buffer[..count].copy_from_slice(&self.payload[..count]);
        self.payload.drain(..count);
        Ok(count)
    }
}

impl<S: Read + Write> Write for WebSocket<S> {
    /// One frame for each call.
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.stream.write_all(&frame(BINARY, bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        self.stream.flush()
    }
}

/// The header of an upgrade's answer, read byte by byte so that nothing of what follows is taken.
///
/// # Errors
/// What the stream says.
pub fn answer(stream: &mut impl Read) -> Result<String> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") && bytes.len() < ANSWER_BYTES_MAX {
        if stream.read(&mut byte)? == 0 {
            break;
        }
        bytes.push(byte[0]);
    }
    String::from_utf8(bytes).map_err(|_| Error::from(ErrorKind::InvalidData))
}

/// The broker's frames carry no mask.
fn take_frame(raw: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let first = *raw.first()?;
    let (header, len) = match *raw.get(1)? {
        126 => {
            let len = raw.get(2..4)?.try_into().unwrap();
            (4, usize::from(u16::from_be_bytes(len)))
        }
        127 => {
            let len = raw.get(2..10)?.try_into().unwrap();
            (10, usize::try_from(u64::from_be_bytes(len)).unwrap())
        }
        len => (2, usize::from(len)),
    };
    let payload = raw.get(header..header + len)?.to_vec();
    raw.drain(..header + len);
    Some((first, payload))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn bytes_come_out_of_frames_of_every_length() {
        let mut raw = Vec::new();
        for (len, header) in [
            (3, vec![3]),
            (126, vec![126, 0, 126]),
            (65_536, vec![127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            raw.extend([&[BINARY], &header[..], &vec![7; len]].concat());
        }
        raw.extend([CLOSE, 0]);
        let mut socket = WebSocket {
            stream: Cursor::new(raw),
            raw: Vec::new(),
            payload: Vec::new(),
        };
        let mut bytes = Vec::new();
        socket.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, vec![7; 3 + 126 + 65_536]);
    }

    #[test]
    fn a_frame_names_its_length_and_hides_its_payload() {
        assert_eq!(frame(BINARY, b"\x01\x02"), [0x82, 0x82, 1, 2, 3, 4, 0, 0]);
        assert_eq!(frame(BINARY, &[0; 126])[..4], [0x82, 0xFE, 0, 126]);
        assert_eq!(
            frame(BINARY, &[0; 65_536])[1..10],
            [0xFF, 0, 0, 0, 0, 0, 1, 0, 0]
        );
    }
}
