//! The file: a header, then blocks, each with its length and a checksum, so that what was written before a crash is whole.

use crate::error::RecordError;

/// What a record begins with; the number is that of the format.
pub const HEADER: &[u8; 16] = b"PALOMA RECORD 2\n";

/// Length and checksum before each block.
const PREFIX_BYTES: usize = 8;

/// Makes a block of what was taken from a [`Tap`](crate::Tap), to be appended to the file.
///
/// # Panics
/// When it is 4 GiB or larger, which no tap gives.
#[must_use]
pub fn seal(events: &[u8]) -> Vec<u8> {
    let len = u32::try_from(events.len()).expect("a tap bounds what it holds");
    let mut block = Vec::with_capacity(PREFIX_BYTES + events.len());
    block.extend_from_slice(&len.to_le_bytes());
    block.extend_from_slice(&crc32fast::hash(events).to_le_bytes());
    block.extend_from_slice(events);
    block
}

/// The blocks of a record that is in memory.
#[derive(Clone, Debug)]
pub(crate) struct Blocks<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Blocks<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, RecordError> {
        if !bytes.starts_with(HEADER) {
            return Err(RecordError::NotARecord);
        }
        Ok(Self {
            bytes,
            at: HEADER.len(),
        })
    }

    /// The next block and where its content begins; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, &'a [u8])>, RecordError> {
        let offset = self.at as u64;
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let cut = RecordError::CutShort { offset };
        let (prefix, rest) = rest.split_first_chunk::<PREFIX_BYTES>().ok_or(cut)?;
        let [a, b, c, d, e, f, g, h] = *prefix;
        let len = u32::from_le_bytes([a, b, c, d]) as usize;
        let sum = u32::from_le_bytes([e, f, g, h]);
        let content = rest.get(..len).ok_or(cut)?;
        if crc32fast::hash(content) != sum {
            return Err(RecordError::Checksum { offset });
        }
        let begins = self.at + PREFIX_BYTES;
        self.at = begins + len;
        Ok(Some((begins as u64, content)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Vec<u8> {
        [HEADER.as_slice(), &seal(b"one"), &seal(b"three")].concat()
    }

    /// How many blocks are whole, and what ends them.
    fn read(bytes: &[u8]) -> (usize, Option<RecordError>) {
        let mut blocks = match Blocks::new(bytes) {
            Ok(blocks) => blocks,
            Err(error) => return (0, Some(error)),
        };
        let mut count = 0;
        loop {
            match blocks.next() {
                Ok(Some(_)) => count += 1,
                Ok(None) => return (count, None),
                Err(error) => return (count, Some(error)),
            }
        }
    }

    #[test]
    fn a_record_that_is_cut_anywhere_is_read_up_to_there() {
        let record = record();
        assert_eq!(read(&record), (2, None));
        for end in 0..record.len() {
            let expected = match end {
                0..16 => (0, Some(RecordError::NotARecord)),
                16 => (0, None),
                17..27 => (0, Some(RecordError::CutShort { offset: 16 })),
                27 => (1, None),
                _ => (1, Some(RecordError::CutShort { offset: 27 })),
            };
            assert_eq!(read(&record[..end]), expected, "{end} bytes");
        }
    }

    #[test]
    fn a_flipped_bit_is_seen() {
        let record = record();
        for at in 0..record.len() {
            let mut flipped = record.clone();
            flipped[at] ^= 1;
            assert!(read(&flipped).1.is_some(), "byte {at}");
        }
    }
}
