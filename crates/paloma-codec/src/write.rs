//! Writing fields: one description of a packet serves both for its length and for its bytes.

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

impl Sink for Vec<u8> {
    #[inline]
    fn raw(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    #[inline]
    fn binary(&mut self, bytes: &[u8]) {
        debug_assert!(
            bytes.len() <= 0xFFFF,
            "fields are counted before they are written"
        );
        self.u16(u16::try_from(bytes.len()).unwrap_or(u16::MAX));
        self.extend_from_slice(bytes);
    }

    #[inline]
    fn text(&mut self, text: &str) {
        self.binary(text.as_bytes());
    }

    fn refuse(&mut self, error: EncodeError) {
        debug_assert!(false, "{error}: a packet is counted before it is written");
    }

    #[inline]
    fn byte(&mut self, value: u8) {
        self.push(value);
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
            out.variable_int(value);
            assert_eq!(count.finish(), Ok(out.len()));
            assert_eq!(variable_int_len(value), out.len());
        }
    }

    #[test]
    fn counting_finds_what_may_not_be_written() {
        let check = |fill: &dyn Fn(&mut Count), expected| {
            let mut count = Count::default();
            fill(&mut count);
            assert_eq!(count.finish(), Err(expected));
        };
        check(&|count| count.text("a\0"), EncodeError::StringNull);
        check(
            &|count| count.binary(&[0; 65_536]),
            EncodeError::FieldTooLong,
        );
        check(
            &|count| count.variable_int(VARIABLE_INT_MAX + 1),
            EncodeError::PacketTooLarge,
        );
    }
}
