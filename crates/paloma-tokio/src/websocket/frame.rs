//! Frames from a client, taken apart in place. [RFC 6455, section 5]

use std::mem;

/// Longest payload of a control frame.
const CONTROL_BYTES_MAX: usize = 125;

/// Two bytes, eight of length, four of mask.
const HEADER_BYTES_MAX: usize = 14;

/// Reads a client's frames. Bounded by itself: it holds at most one header and one control frame.
#[derive(Debug)]
pub struct FrameDecoder {
    message_bytes_max: u64,
    /// Payload bytes of the message that is under way, with those that its current frame has announced.
    message: Option<u64>,
    state: State,
    control: [u8; CONTROL_BYTES_MAX],
    control_len: usize,
    is_pong_due: bool,
    end: Option<End>,
}

#[derive(Debug)]
enum State {
    Header {
        bytes: [u8; HEADER_BYTES_MAX],
        len: usize,
    },
    Payload {
        kind: Kind,
        left: u64,
        /// The mask, turned so that it begins with the next byte.
        mask: [u8; 4],
    },
}

impl State {
    const START: Self = Self::Header {
        bytes: [0; HEADER_BYTES_MAX],
        len: 0,
    };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Data { is_final: bool },
    Close,
    Ping,
    Pong,
}

/// Why no more comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client closed, with this code if it gave one.
    Closed(Option<u16>),
    /// The client broke the rules.
    Violation(FrameViolation),
}

impl End {
    /// The status code of our own close frame.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Closed(Some(code)) => code,
            Self::Closed(None) => 1000,
            Self::Violation(violation) => violation.code(),
        }
    }
}

/// What a client's frames did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameViolation {
    /// A frame without a mask.
    Unmasked,
    /// Reserved bits, an unknown opcode, a length in more bytes than it needs, a control frame that is too long or
    /// in pieces, a close frame of one byte or with a code that nobody may send.
    Malformed,
    /// A continuation of nothing, or a new message inside another.
    OutOfOrder,
    /// Text: MQTT is binary [MQTT-6.0.0-1].
    Text,
    /// A message above the limit.
    TooLarge,
}

impl FrameViolation {
    /// The status code of the close frame that answers it.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Unmasked | Self::Malformed | Self::OutOfOrder => 1002,
            Self::Text => 1003,
            Self::TooLarge => 1009,
        }
    }
}

impl FrameDecoder {
    /// Refuses messages above `message_bytes_max`.
    #[must_use]
    pub const fn new(message_bytes_max: u64) -> Self {
        Self {
            message_bytes_max,
            message: None,
            state: State::START,
            control: [0; CONTROL_BYTES_MAX],
            control_len: 0,
            is_pong_due: false,
            end: None,
        }
    }

    /// Takes in what was read, leaves the payload of data frames at the front of `bytes`, and says how long that is.
    /// What comes behind the [`end`](Self::end) is ignored. [MQTT-6.0.0-2]
    pub fn decode(&mut self, bytes: &mut [u8]) -> usize {
        let (mut at, mut kept) = (0, 0);
        while at < bytes.len() && self.end.is_none() {
            match mem::replace(&mut self.state, State::START) {
                State::Header {
                    bytes: mut header,
                    mut len,
                } => {
                    if let (Some(slot), Some(byte)) = (header.get_mut(len), bytes.get(at)) {
                        *slot = *byte;
                    }
                    len += 1;
                    at += 1;
                    match self.handle_header(&header, len) {
                        Ok(Some(state)) => self.state = state,
                        Ok(None) => self.state = State::Header { bytes: header, len },
                        Err(violation) => self.end = Some(End::Violation(violation)),
                    }
                }
                State::Payload { kind, left, mask } => {
                    let here = usize::try_from(left)
                        .unwrap_or(usize::MAX)
                        .min(bytes.len() - at);
                    kept += self.handle_payload(bytes, at, kept, here, kind, mask);
                    at += here;
                    let mut mask = mask;
                    mask.rotate_left(here % 4);
                    let left = left - here as u64;
                    self.state = State::Payload { kind, left, mask };
                }
            }
            self.finish_frame();
        }
        kept
    }

    /// Why no more comes, once that is so.
    #[must_use]
    pub const fn end(&self) -> Option<End> {
        self.end
    }

    /// The payload of the pong that is due: the last ping's. Earlier ones need no answer of their own.
    pub fn take_pong(&mut self) -> Option<&[u8]> {
        if !mem::take(&mut self.is_pong_due) {
            return None;
        }
        self.control.get(..self.control_len)
    }

    /// Looks at a header as it grows; gives the state behind it once it is whole.
    fn handle_header(
        &mut self,
        header: &[u8; HEADER_BYTES_MAX],
        len: usize,
    ) -> Result<Option<State>, FrameViolation> {
        if len < 2 {
            return Ok(None);
        }
        let &[first, second, ..] = header;
        if first & 0x70 != 0 {
            return Err(FrameViolation::Malformed);
        }
        if second & 0x80 == 0 {
            return Err(FrameViolation::Unmasked);
        }
        let is_final = first & 0x80 != 0;
        let short = second & 0x7F;
        let kind = self.kind(first & 0x0F, is_final, short)?;
        let length_bytes = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let whole = 2 + length_bytes + 4;
        if len < whole {
            return Ok(None);
        }
        let announced = header.get(2..2 + length_bytes).unwrap_or(&[]);
        let left = announced
            .iter()
            .fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        let left = match short {
            126 if left < 126 => return Err(FrameViolation::Malformed),
            127 if left <= 0xFFFF || left >> 63 != 0 => return Err(FrameViolation::Malformed),
            126 | 127 => left,
            short => u64::from(short),
        };
        if let Kind::Data { .. } = kind {
            let message = self.message.unwrap_or(0).saturating_add(left);
            if message > self.message_bytes_max {
                return Err(FrameViolation::TooLarge);
            }
            self.message = Some(message);
        } else if kind != Kind::Pong {
            self.control_len = 0;
            self.is_pong_due = false;
        }
        let mut mask = [0; 4];
        for (slot, byte) in mask.iter_mut().zip(header.iter().skip(2 + length_bytes)) {
            *slot = *byte;
        }
        Ok(Some(State::Payload { kind, left, mask }))
    }

    fn kind(&self, opcode: u8, is_final: bool, short: u8) -> Result<Kind, FrameViolation> {
        let is_control = opcode & 0x08 != 0;
        if is_control && (!is_final || usize::from(short) > CONTROL_BYTES_MAX) {
            return Err(FrameViolation::Malformed);
        }
        match (opcode, self.message) {
            (0, Some(_)) | (2, None) => Ok(Kind::Data { is_final }),
            (0, None) | (2, Some(_)) => Err(FrameViolation::OutOfOrder),
            (1, _) => Err(FrameViolation::Text),
            (8, _) => Ok(Kind::Close),
            (9, _) => Ok(Kind::Ping),
            (10, _) => Ok(Kind::Pong),
            _ => Err(FrameViolation::Malformed),
        }
    }

    /// Takes `here` bytes of a frame from `at`; returns how many of them it has put at `kept`.
    fn handle_payload(
        &mut self,
        bytes: &mut [u8],
        at: usize,
        kept: usize,
        here: usize,
        kind: Kind,
        mask: [u8; 4],
    ) -> usize {
        match kind {
            Kind::Data { .. } => {
                bytes.copy_within(at..at + here, kept);
                unmask(bytes.get_mut(kept..kept + here).unwrap_or(&mut []), mask);
                here
            }
            Kind::Close | Kind::Ping => {
                let from = bytes.get_mut(at..at + here).unwrap_or(&mut []);
                unmask(from, mask);
                let room = self.control.iter_mut().skip(self.control_len);
                for (slot, byte) in room.zip(from) {
                    *slot = *byte;
                }
                self.control_len += here;
                0
            }
            Kind::Pong => 0,
        }
    }

    /// Ends the frame whose last byte is here.
    fn finish_frame(&mut self) {
        let State::Payload { kind, left: 0, .. } = self.state else {
            return;
        };
        self.state = State::START;
        match kind {
            Kind::Data { is_final: true } => self.message = None,
            Kind::Data { is_final: false } | Kind::Pong => {}
            Kind::Ping => self.is_pong_due = true,
            Kind::Close => {
                self.end = Some(close(self.control.get(..self.control_len).unwrap_or(&[])))
            }
        }
    }
}

fn close(payload: &[u8]) -> End {
    match payload {
        [] => End::Closed(None),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            let may_be_sent = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
            if may_be_sent && std::str::from_utf8(reason).is_ok() {
                End::Closed(Some(code))
            } else {
                End::Violation(FrameViolation::Malformed)
            }
        }
        [_] => End::Violation(FrameViolation::Malformed),
    }
}

fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let (chunks, rest) = bytes.as_chunks_mut::<4>();
    let word = u32::from_ne_bytes(mask);
    for chunk in chunks {
        *chunk = (u32::from_ne_bytes(*chunk) ^ word).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

/// Writes the header of a frame from the server; returns how long it is.
pub(super) fn write_header(opcode: u8, len: usize, out: &mut [u8; 10]) -> usize {
    let [first, second, rest @ ..] = out;
    *first = 0x80 | opcode;
    if let Ok(len @ 0..=125) = u8::try_from(len) {
        *second = len;
        return 2;
    }
    let (short, bytes) = match u16::try_from(len) {
        Ok(len) => (126, &len.to_be_bytes()[..]),
        Err(_) => (127, &(len as u64).to_be_bytes()[..]),
    };
    *second = short;
    for (slot, byte) in rest.iter_mut().zip(bytes) {
        *slot = *byte;
    }
    2 + bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut header = [0; 10];
        let len = write_header(0, payload.len(), &mut header);
        let mut bytes = header[..len].to_vec();
        bytes[0] = first;
        bytes[1] |= 0x80;
        bytes.extend(MASK);
        bytes.extend(
            payload
                .iter()
                .zip(MASK.iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
        bytes
    }

    /// Decodes whole, split in two at every byte, and byte by byte: always the same.
    fn check(bytes: &[u8], payload: &[u8], pong: Option<&[u8]>, end: Option<End>) {
        for cut in 0..=bytes.len() {
            let (first, second) = bytes.split_at(cut);
            check_pieces(&[first, second], payload, pong, end);
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        check_pieces(&single, payload, pong, end);
    }

    fn check_pieces(pieces: &[&[u8]], payload: &[u8], pong: Option<&[u8]>, end: Option<End>) {
        let mut decoder = FrameDecoder::new(1_000);
        let mut found = Vec::new();
        for piece in pieces {
            let mut piece = piece.to_vec();
            let len = decoder.decode(&mut piece);
            found.extend_from_slice(&piece[..len]);
        }
        assert_eq!(found, payload);
        assert_eq!(decoder.end(), end);
        assert_eq!(decoder.take_pong(), pong);
        assert_eq!(decoder.take_pong(), None);
    }

    fn refuse(bytes: &[u8], violation: FrameViolation) {
        let mut ok = frame(0x82, b"before");
        ok.extend(bytes);
        check(&ok, b"before", None, Some(End::Violation(violation)));
    }

    #[test]
    fn payload_comes_out_wherever_frames_are_split() {
        check(&frame(0x82, b"one packet"), b"one packet", None, None);
        check(&frame(0x82, b""), b"", None, None);
        let long = vec![7; 300];
        check(&frame(0x82, &long), &long, None, None);
        let message = [
            frame(0x02, b"ab"),
            frame(0x00, b""),
            frame(0x80, b"cde"),
            frame(0x82, b"f"),
        ];
        check(&message.concat(), b"abcdef", None, None);
        let unfinished = frame(0x82, b"packet");
        check(&unfinished[..unfinished.len() - 3], b"pac", None, None);
    }

    #[test]
    fn control_frames_come_between_pieces_and_only_the_last_ping_is_due() {
        let mixed = [
            frame(0x02, b"ab"),
            frame(0x89, b"first"),
            frame(0x8A, b"unasked"),
            frame(0x89, b"last"),
            frame(0x80, b"c"),
        ];
        check(&mixed.concat(), b"abc", Some(b"last"), None);
        check(&frame(0x89, b""), b"", Some(b""), None);
        check(&frame(0x89, &[1; 125]), b"", Some(&[1; 125]), None);
    }

    #[test]
    fn many_small_frames_are_one_message_or_many() {
        let empty = frame(0x82, b"").repeat(1_000);
        check_pieces(&[&empty], b"", None, None);
        let mut bytes = frame(0x02, b"");
        bytes.extend(frame(0x00, b"x").repeat(1_000));
        check_pieces(&[&bytes], &[b'x'; 1_000], None, None);
        bytes.extend(frame(0x00, b"x"));
        let end = Some(End::Violation(FrameViolation::TooLarge));
        check_pieces(&[&bytes], &[b'x'; 1_000], None, end);
    }

    #[test]
    fn close_is_the_end_and_what_follows_is_ignored() {
        let mut bytes = frame(0x82, b"a");
        bytes.extend(frame(0x88, b""));
        bytes.extend(frame(0x82, b"b"));
        check(&bytes, b"a", None, Some(End::Closed(None)));
        check(
            &frame(0x88, &[3, 0xE9, b'x']),
            b"",
            None,
            Some(End::Closed(Some(1001))),
        );
        for bad in [&[3][..], &[3, 0xED], &[0, 1], &[3, 0xE8, 0xFF]] {
            check(
                &frame(0x88, bad),
                b"",
                None,
                Some(End::Violation(FrameViolation::Malformed)),
            );
        }
    }

    #[test]
    fn rules_are_enforced() {
        refuse(&[0x82, 0x01, b'x'], FrameViolation::Unmasked);
        refuse(&frame(0xC2, b"x"), FrameViolation::Malformed);
        refuse(&frame(0x92, b"x"), FrameViolation::Malformed);
        refuse(&frame(0xA2, b"x"), FrameViolation::Malformed);
        for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
            refuse(&frame(0x80 | opcode, b"x"), FrameViolation::Malformed);
        }
        refuse(&frame(0x81, b"text"), FrameViolation::Text);
        refuse(&frame(0x80, b"x"), FrameViolation::OutOfOrder);
        refuse(
            &[frame(0x02, b""), frame(0x82, b"")].concat(),
            FrameViolation::OutOfOrder,
        );
        refuse(&frame(0x09, b"in pieces"), FrameViolation::Malformed);
        refuse(&frame(0x89, &[0; 126]), FrameViolation::Malformed);
        refuse(&frame(0x82, &[0; 1_001]), FrameViolation::TooLarge);
        let length = |bytes: &[u8]| [&[0x82], bytes, &MASK[..]].concat();
        refuse(&length(&[0xFE, 0, 125]), FrameViolation::Malformed);
        refuse(
            &length(&[0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF]),
            FrameViolation::Malformed,
        );
        refuse(
            &length(&[0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0]),
            FrameViolation::Malformed,
        );
        let huge = [0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
        refuse(&length(&huge), FrameViolation::TooLarge);
    }

    #[test]
    fn decoder_is_small() {
        let size = size_of::<FrameDecoder>();
        assert!(size <= 224, "{size}");
    }
}
