//! Numbers, strings and options as bytes.
//!
//! Numbers are LEB128, strings and nested bytes have their length before them, what may be absent has a flag.

use bytestring::ByteString;

/// Bytes that are not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Damaged;

pub(crate) fn put_number(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = u8::try_from(value & 0x7f).unwrap_or_default();
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// A number that may be negative, near zero for the most part.
pub(crate) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_number(
        out,
        (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned(),
    );
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(crate) fn put_option<T>(
    out: &mut Vec<u8>,
    value: Option<T>,
    put: impl FnOnce(&mut Vec<u8>, T),
) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_bytes(out, text.as_bytes());
}

/// Bytes that were left out of one event, at most. A packet may have sixteen times as many, but then thirty bytes of a file would
/// stand for half a gigabyte of memory.
const LEFT_OUT_MAX: usize = 16 << 20;

/// Reads from the front.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(&'a [u8], usize);

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes, LEFT_OUT_MAX)
    }

    /// Another event begins.
    pub(crate) const fn begin(&mut self) {
        self.1 = LEFT_OUT_MAX;
    }

    /// So many bytes are to be put in the place of what was left out: a few bytes must not stand for any amount of memory.
    pub(crate) fn allow(&mut self, bytes: usize) -> Result<(), Damaged> {
        self.1 = self.1.checked_sub(bytes).ok_or(Damaged)?;
        Ok(())
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) const fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Damaged> {
        let (byte, rest) = self.0.split_first().ok_or(Damaged)?;
        self.0 = rest;
        Ok(*byte)
    }

    pub(crate) fn number(&mut self) -> Result<u64, Damaged> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let low = u64::from(byte & 0x7f);
            if shift == 63 && low > 1 {
                return Err(Damaged);
            }
            value |= low << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Damaged)
    }

    pub(crate) fn signed(&mut self) -> Result<i64, Damaged> {
        let value = self.number()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// A number that fits a smaller type.
    pub(crate) fn small<T: TryFrom<u64>>(&mut self) -> Result<T, Damaged> {
        T::try_from(self.number()?).map_err(|_| Damaged)
    }

    pub(crate) fn flag(&mut self) -> Result<bool, Damaged> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            2.. => Err(Damaged),
        }
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Damaged> {
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(Damaged)?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        self.take(N)?.try_into().map_err(|_| Damaged)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Damaged> {
        let len = self.small::<usize>()?;
        self.take(len)
    }

    pub(crate) fn text(&mut self) -> Result<ByteString, Damaged> {
        let text = std::str::from_utf8(self.bytes()?).map_err(|_| Damaged)?;
        Ok(ByteString::from(text))
    }

    pub(crate) fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Damaged>,
    ) -> Result<Option<T>, Damaged> {
        self.flag()?.then(|| read(self)).transpose()
    }

    /// As many as a number before them says. Nothing is reserved for what is only announced.
    pub(crate) fn list<T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, Damaged>,
    ) -> Result<Vec<T>, Damaged> {
        let count = self.number()?;
        let mut list = Vec::new();
        for _ in 0..count {
            list.push(read(self)?);
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_overlong_ones_do_not() {
        for value in [0, 1, 127, 128, 16_384, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            put_number(&mut out, value);
            put_signed(&mut out, value.cast_signed());
            let mut reader = Reader::new(&out);
            assert_eq!(reader.number(), Ok(value));
            assert_eq!(reader.signed(), Ok(value.cast_signed()));
            assert!(reader.is_empty());
        }
        assert_eq!(Reader::new(&[0xff; 10]).number(), Err(Damaged));
        assert_eq!(Reader::new(&[0x80, 0x02]).small::<u8>(), Err(Damaged));
    }
}
