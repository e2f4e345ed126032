//! How a record is laid out: a checksum, then its body.
//!
//! The checksum is over the table, the key and the body, so that neither a flipped bit nor a record in another's place is
//! taken for what was written. Numbers in bodies are LEB128, strings and nested bytes have their length before them.

use bytestring::ByteString;
use crc32fast::Hasher;

/// Bytes of the checksum.
const SUM: usize = 4;

/// A record that is not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Damaged;

/// The tables; the number is part of each record's checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Session = 1,
    Subscription = 2,
    Will = 3,
    Retained = 4,
    FanOut = 5,
    Message = 6,
    Journal = 7,
}

/// Makes a record in `out`, which is cleared.
pub(crate) fn seal(kind: Kind, key: &[u8], out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    out.clear();
    out.extend_from_slice(&[0; SUM]);
    body(out);
    if let Some((place, body)) = out.split_at_mut_checked(SUM) {
        place.copy_from_slice(&sum(kind, key, body));
    }
}

/// The body of a record.
pub(crate) fn open<'a>(kind: Kind, key: &[u8], record: &'a [u8]) -> Result<&'a [u8], Damaged> {
    let (place, body) = record.split_at_checked(SUM).ok_or(Damaged)?;
    if place != sum(kind, key, body) {
        return Err(Damaged);
    }
    Ok(body)
}

fn sum(kind: Kind, key: &[u8], body: &[u8]) -> [u8; SUM] {
    let mut hasher = Hasher::new();
    hasher.update(&[kind as u8]);
    hasher.update(key);
    hasher.update(body);
    hasher.finalize().to_le_bytes()
}

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

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Writes a value that may be absent as a flag and the value.
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

/// Reads a body from its front.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(body: &'a [u8]) -> Self {
        Self(body)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
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

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Damaged> {
        let len = self.small::<usize>()?;
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(Damaged)?;
        self.0 = rest;
        Ok(bytes)
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

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// Checks that nothing is left.
    pub(crate) fn finish(self) -> Result<(), Damaged> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(Damaged)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flip_is_seen() {
        let mut record = Vec::new();
        seal(Kind::Message, b"key", &mut record, |body| {
            body.extend_from_slice(b"body");
        });
        assert_eq!(open(Kind::Message, b"key", &record), Ok(&b"body"[..]));
        for at in 0..record.len() {
            for bit in 0..8 {
                let mut flipped = record.clone();
                flipped[at] ^= 1 << bit;
                assert_eq!(open(Kind::Message, b"key", &flipped), Err(Damaged));
            }
            assert_eq!(open(Kind::Message, b"key", &record[..at]), Err(Damaged));
        }
    }

    #[test]
    fn a_record_in_another_place_is_seen() {
        let mut record = Vec::new();
        seal(Kind::Message, b"key", &mut record, |_| {});
        assert_eq!(open(Kind::Message, b"kez", &record), Err(Damaged));
        assert_eq!(open(Kind::Will, b"key", &record), Err(Damaged));
    }

    #[test]
    fn numbers_come_back_and_overlong_ones_do_not() {
        for value in [0, 1, 127, 128, 16_384, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            put_number(&mut out, value);
            let mut reader = Reader::new(&out);
            assert_eq!(reader.number(), Ok(value));
            assert_eq!(reader.finish(), Ok(()));
        }
        let mut reader = Reader::new(&[0xff; 10]);
        assert_eq!(reader.number(), Err(Damaged));
        assert_eq!(Reader::new(&[0x80, 0x02]).small::<u8>(), Err(Damaged));
    }
}
