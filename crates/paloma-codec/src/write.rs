//! Writing fields: one description of a packet serves for its bytes, and for its length alone.

use alloc::vec::Vec;

use crate::EncodeError;

/// Largest value of a variable byte integer.
pub(crate) const VARIABLE_INT_MAX: usize = 268_435_455;

/// Where fields go: a buffer, or a counter that also checks them.
pub(crate) trait Sink {
    /// Appends bytes as they are.
    fn raw(&mut self, bytes: &[u8]);

    /// Appends bytes behind their 16-bit length.
    fn binary(&mut self, bytes: &[u8]);

    /// Appends a string behind its 16-bit length.
    fn text(&mut self, text: &str);

    /// Remembers that the packet cannot be written.
    fn refuse(&mut self, error: EncodeError);

    /// Appends what is described behind its length, a variable byte integer.
    fn block(&mut self, describe: impl FnOnce(&mut Self))
    where
        Self: Sized;

    /// Appends text that is known to be short enough and without U+0000 behind its 16-bit length.
    #[inline]
    fn verified(&mut self, text: &str) {
        self.binary(text.as_bytes());
    }

    fn byte(&mut self, value: u8) {
        self.raw(&[value]);
    }

    fn u16(&mut self, value: u16) {
        self.raw(&value.to_be_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.raw(&value.to_be_bytes());
    }

    /// Appends a variable byte integer in its shortest form. [MQTT-1.5.5-1]
    fn variable_int(&mut self, value: usize) {
        if value > VARIABLE_INT_MAX {
            self.refuse(EncodeError::PacketTooLarge);
        }
        let mut rest = value & VARIABLE_INT_MAX;
        while rest > 0x7F {
            self.byte(low_byte(rest) | 0x80);
            rest >>= 7;
        }
        self.byte(low_byte(rest));
    }
}

/// Writes and checks fields. Lengths that stand before what they measure are filled in behind it, so that a packet is
/// described once.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    out: &'a mut Vec<u8>,
    refused: Option<EncodeError>,
}

impl<'a> Writer<'a> {
    /// Appends to `out`.
    #[inline]
    pub(crate) const fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, refused: None }
    }

    /// Bytes in the buffer.
    pub(crate) const fn position(&self) -> usize {
        self.out.len()
    }

    /// The first thing that forbids what was written.
    pub(crate) const fn finish(&self) -> Result<(), EncodeError> {
        match self.refused {
            None => Ok(()),
            Some(error) => Err(error),
        }
    }

    /// Leaves room for the length of what follows, which takes `len_bytes` if the guess holds. Returns where.
    #[inline]
    pub(crate) fn begin_length(&mut self, len_bytes: usize) -> usize {
        for _ in 0..len_bytes {
            self.out.push(0);
        }
        self.out.len()
    }

    /// Fills in the length of everything behind `start`, which [`begin_length`](Self::begin_length) with `len_bytes` returned.
    #[inline]
    pub(crate) fn end_length(&mut self, start: usize, len_bytes: usize) {
        let len = self.out.len() - start;
        match self.out.get_mut(start - len_bytes) {
            Some(field) if len <= 0x7F && len_bytes == 1 => *field = low_byte(len),
            Some(_) | None => self.end_long_length(start, len_bytes),
        }
    }

    fn end_long_length(&mut self, start: usize, len_bytes: usize) {
        let (mut field, mut used) = ([0; 4], 0);
        let len = self.out.len() - start;
        if len > VARIABLE_INT_MAX {
            self.refuse(EncodeError::PacketTooLarge);
        }
        let mut rest = len & VARIABLE_INT_MAX;
        for byte in &mut field {
            used += 1;
            *byte = low_byte(rest) & 0x7F;
            rest >>= 7;
            if rest == 0 {
                break;
            }
            *byte |= 0x80;
        }
        let field = field.into_iter().take(used);
        self.out.splice(start - len_bytes..start, field);
    }
}

impl Sink for Writer<'_> {
    #[inline]
    fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    #[inline]
    fn binary(&mut self, bytes: &[u8]) {
        match u16::try_from(bytes.len()) {
            Ok(len) => self.u16(len),
            Err(_) => self.refuse(EncodeError::FieldTooLong),
        }
        self.out.extend_from_slice(bytes);
    }

    #[inline]
    fn text(&mut self, text: &str) {
        if text.as_bytes().contains(&0) {
            self.refuse(EncodeError::StringNull);
        }
        self.binary(text.as_bytes());
    }

    #[cold]
    fn refuse(&mut self, error: EncodeError) {
        self.refused.get_or_insert(error);
    }

    #[inline]
    fn block(&mut self, describe: impl FnOnce(&mut Self)) {
        let start = self.begin_length(1);
        describe(self);
        self.end_length(start, 1);
    }

    #[inline]
    fn byte(&mut self, value: u8) {
        self.out.push(value);
    }
}

/// Counts bytes and checks fields, without writing anything.
#[derive(Debug, Default)]
pub(crate) struct Count {
    len: usize,
    refused: Option<EncodeError>,
}

impl Count {
    /// The bytes counted, or the first thing that forbids writing them.
    pub(crate) const fn finish(&self) -> Result<usize, EncodeError> {
        match self.refused {
            None => Ok(self.len),
            Some(error) => Err(error),
        }
    }
}

impl Sink for Count {
    fn raw(&mut self, bytes: &[u8]) {
        self.len = self.len.saturating_add(bytes.len());
    }

    fn binary(&mut self, bytes: &[u8]) {
        if let Err(error) = check_binary(bytes) {
            self.refuse(error);
        }
        self.len = self.len.saturating_add(2 + bytes.len());
    }

    fn text(&mut self, text: &str) {
        if let Err(error) = check_text(text) {
            self.refuse(error);
        }
        self.len = self.len.saturating_add(2 + text.len());
    }

    fn refuse(&mut self, error: EncodeError) {
        self.refused.get_or_insert(error);
    }

    fn block(&mut self, describe: impl FnOnce(&mut Self)) {
        let before = self.len;
        describe(self);
        let len = self.len.saturating_sub(before);
        if len > VARIABLE_INT_MAX {
            self.refuse(EncodeError::PacketTooLarge);
        }
        self.len = self.len.saturating_add(variable_int_len(len));
    }
}

/// Bytes that a variable byte integer takes, 1 to 4.
#[inline]
pub(crate) const fn variable_int_len(value: usize) -> usize {
    match value {
        0..=127 => 1,
        128..=16_383 => 2,
        16_384..=2_097_151 => 3,
        _ => 4,
    }
}

const fn low_byte(value: usize) -> u8 {
    value.to_le_bytes()[0]
}

/// Refuses what 16 bits of length cannot say.
pub(crate) const fn check_binary(bytes: &[u8]) -> Result<(), EncodeError> {
    if bytes.len() > 0xFFFF {
        Err(EncodeError::FieldTooLong)
    } else {
        Ok(())
    }
}

/// Refuses strings that no peer may see. [MQTT-1.5.4-2]
pub(crate) fn check_text(text: &str) -> Result<(), EncodeError> {
    check_binary(text.as_bytes())?;
    if text.as_bytes().contains(&0) {
        Err(EncodeError::StringNull)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counting_and_writing_agree_on_variable_ints() {
        for value in [
            0,
            127,
            128,
            16_383,
            16_384,
            2_097_151,
            2_097_152,
            VARIABLE_INT_MAX,
        ] {
            let (mut count, mut out) = (Count::default(), Vec::new());
            count.variable_int(value);
            Writer::new(&mut out).variable_int(value);
            assert_eq!(count.finish(), Ok(out.len()));
            assert_eq!(variable_int_len(value), out.len());
        }
    }

    #[test]
    fn a_length_is_filled_in_behind_what_it_measures() {
        for (len, guess) in [
            (0, 1),
            (127, 1),
            (128, 1),
            (128, 2),
            (16_383, 1),
            (16_384, 2),
        ] {
            let mut expected = alloc::vec![7];
            Writer::new(&mut expected).variable_int(len);
            expected.resize(expected.len() + len, 9);
            let mut out = alloc::vec![7];
            let mut writer = Writer::new(&mut out);
            let start = writer.begin_length(guess);
            writer.raw(&alloc::vec![9; len]);
            writer.end_length(start, guess);
            assert_eq!(writer.finish(), Ok(()));
            assert!(out == expected, "{len} bytes, {guess} for their length");
        }
    }

    #[test]
    fn counting_and_writing_agree_on_blocks() {
        for len in [0, 1, 127, 128, 20_000] {
            let bytes = alloc::vec![1; len];
            let (mut count, mut out) = (Count::default(), Vec::new());
            count.block(|sink| sink.raw(&bytes));
            Writer::new(&mut out).block(|sink| sink.raw(&bytes));
            assert_eq!(count.finish(), Ok(out.len()));
        }
    }

    #[test]
    fn counting_and_writing_find_what_may_not_be_written() {
        macro_rules! check {
            ($fill:expr, $expected:expr) => {
                let (mut count, mut out) = (Count::default(), Vec::new());
                $fill(&mut count);
                assert_eq!(count.finish(), Err($expected));
                let mut writer = Writer::new(&mut out);
                $fill(&mut writer);
                assert_eq!(writer.finish(), Err($expected));
            };
        }
        fn null(sink: &mut impl Sink) {
            sink.text("a\0");
        }
        fn long(sink: &mut impl Sink) {
            sink.binary(&[0; 65_536]);
        }
        fn large(sink: &mut impl Sink) {
            sink.variable_int(VARIABLE_INT_MAX + 1);
        }
        check!(null, EncodeError::StringNull);
        check!(long, EncodeError::FieldTooLong);
        check!(large, EncodeError::PacketTooLarge);
    }

    #[test]
    fn what_is_longer_than_its_length_can_say_is_refused() {
        // The room for the length, and what it measures: so much that four bytes stay four and nothing is moved.
        let mut out = alloc::vec![0; 4 + VARIABLE_INT_MAX + 1 + (1 << 21)];
        let mut writer = Writer::new(&mut out);
        writer.end_length(4, 4);
        assert_eq!(writer.finish(), Err(EncodeError::PacketTooLarge));
    }
}
