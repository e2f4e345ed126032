//! Numbers, texts and options as bytes: for what writes the core's types down, a store or a record.
//!
//! Numbers are LEB128, texts and nested bytes have their length before them, what may be absent has a flag.

use std::fmt;

use bytestring::ByteString;

/// Bytes that are not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged;

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("these are not the bytes that were written")
    }
}

impl std::error::Error for Damaged {}

/// Writes a number: a byte for each seven bits that it has.
#[inline]
pub fn put_number(out: &mut Vec<u8>, mut value: u64) {
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

/// Writes a number that may be negative, near zero for the most part.
#[inline]
pub fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_number(
        out,
        (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned(),
    );
}

/// Writes bytes behind their length.
#[inline]
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Writes a text behind its length.
#[inline]
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    put_bytes(out, text.as_bytes());
}

/// Writes a flag, and what is there if it is set.
#[inline]
pub fn put_option<T>(out: &mut Vec<u8>, value: Option<T>, put: impl FnOnce(&mut Vec<u8>, T)) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

/// Reads from the front. Nothing is reserved for what is only announced.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    allowance: usize,
}

impl<'a> Reader<'a> {
    /// Reads these bytes.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            allowance: 0,
        }
    }

    /// From here on, what is read may stand for so many bytes that are not there.
    pub const fn allow(&mut self, bytes: usize) {
        self.allowance = bytes;
    }

    /// Takes from what was [allowed](Self::allow): a few bytes must not stand for any amount of memory.
    ///
    /// # Errors
    /// That is more than is left of it.
    pub fn spend(&mut self, bytes: usize) -> Result<(), Damaged> {
        self.allowance = self.allowance.checked_sub(bytes).ok_or(Damaged)?;
        Ok(())
    }

    /// Whether nothing is left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Bytes that are left.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.rest.len()
    }

    /// The next byte, which stays.
    #[must_use]
    pub fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// Something is.
    pub const fn finish(self) -> Result<(), Damaged> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(Damaged)
        }
    }

    /// One byte.
    ///
    /// # Errors
    /// Nothing is left.
    pub fn byte(&mut self) -> Result<u8, Damaged> {
        let (byte, rest) = self.rest.split_first().ok_or(Damaged)?;
        self.rest = rest;
        Ok(*byte)
    }

    /// A number of [`put_number`].
    ///
    /// # Errors
    /// It has no end, or more than 64 bits.
    pub fn number(&mut self) -> Result<u64, Damaged> {
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

    /// A number of [`put_signed`].
    ///
    /// # Errors
    /// As those of [`number`](Self::number).
    pub fn signed(&mut self) -> Result<i64, Damaged> {
        let value = self.number()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// A number that fits a smaller type.
    ///
    /// # Errors
    /// As those of [`number`](Self::number), or it does not fit.
    pub fn small<T: TryFrom<u64>>(&mut self) -> Result<T, Damaged> {
        T::try_from(self.number()?).map_err(|_| Damaged)
    }

    /// A byte that is 0 or 1.
    ///
    /// # Errors
    /// It is neither, or not there.
    pub fn flag(&mut self) -> Result<bool, Damaged> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            2.. => Err(Damaged),
        }
    }

    /// So many bytes.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Damaged> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(Damaged)?;
        self.rest = rest;
        Ok(bytes)
    }

    /// As many bytes as the array has.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        self.take(N)?.try_into().map_err(|_| Damaged)
    }

    /// Bytes of [`put_bytes`].
    ///
    /// # Errors
    /// Fewer are left than their length says.
    pub fn bytes(&mut self) -> Result<&'a [u8], Damaged> {
        let len = self.small::<usize>()?;
        self.take(len)
    }

    /// A text of [`put_text`].
    ///
    /// # Errors
    /// As those of [`bytes`](Self::bytes), or it is no UTF-8.
    pub fn text(&mut self) -> Result<ByteString, Damaged> {
        let text = std::str::from_utf8(self.bytes()?).map_err(|_| Damaged)?;
        Ok(ByteString::from(text))
    }

    /// What [`put_option`] wrote.
    ///
    /// # Errors
    /// Those of the flag and of `read`.
    pub fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Damaged>,
    ) -> Result<Option<T>, Damaged> {
        self.flag()?.then(|| read(self)).transpose()
    }

    /// As many as a number before them says.
    ///
    /// # Errors
    /// Those of the number and of `read`.
    pub fn list<T>(
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
            assert_eq!(reader.finish(), Ok(()));
        }
        assert_eq!(Reader::new(&[0xff; 10]).number(), Err(Damaged));
        assert_eq!(Reader::new(&[0x80, 0x02]).small::<u8>(), Err(Damaged));
    }

    #[test]
    fn what_is_not_there_is_allowed_up_to_a_number() {
        let mut reader = Reader::new(&[]);
        assert_eq!(reader.spend(1), Err(Damaged));
        reader.allow(2);
        assert_eq!((reader.spend(2), reader.spend(1)), (Ok(()), Err(Damaged)));
    }
}
