//! The bytes of a simulated file; holes take no memory and copies share what they have in common.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::{cmp, io};

const CHUNK: usize = 4_096;

#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    len: u64,
    chunks: BTreeMap<u64, Arc<[u8; CHUNK]>>,
}

impl Image {
    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        let mut image = Self::default();
        image.write(0, bytes);
        image
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Bytes that are no holes.
    pub(super) fn allocated(&self) -> u64 {
        self.chunks.len() as u64 * CHUNK as u64
    }

    /// Bytes that a write would add to them.
    pub(super) fn missing(&self, offset: u64, len: usize) -> u64 {
        let missing = pieces(offset, len).filter(|(chunk, ..)| !self.chunks.contains_key(chunk));
        missing.count() as u64 * CHUNK as u64
    }

    pub(super) fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(out.len() as u64);
        if end.is_none_or(|end| end > self.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (chunk, inside, outside) in pieces(offset, out.len()) {
            let Some(out) = out.get_mut(outside) else {
                continue;
            };
            match self.chunks.get(&chunk).and_then(|bytes| bytes.get(inside)) {
                Some(bytes) => out.copy_from_slice(bytes),
                None => out.fill(0),
            }
        }
        Ok(())
    }

    /// Writes, and makes the file as long as that needs.
    pub(super) fn write(&mut self, offset: u64, data: &[u8]) {
        self.len = cmp::max(self.len, offset.saturating_add(data.len() as u64));
        for (chunk, inside, outside) in pieces(offset, data.len()) {
            let bytes = self
                .chunks
                .entry(chunk)
                .or_insert_with(|| Arc::new([0; CHUNK]));
            if let Some(bytes) = Arc::make_mut(bytes).get_mut(inside)
                && let Some(data) = data.get(outside)
            {
                bytes.copy_from_slice(data);
            }
        }
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            let (chunk, at) = split(len);
            self.chunks.split_off(&(chunk + u64::from(at > 0)));
            if let Some(bytes) = self.chunks.get_mut(&chunk)
                && let Some(tail) = Arc::make_mut(bytes).get_mut(at..)
            {
                tail.fill(0);
            }
        }
        self.len = len;
    }

    pub(super) fn flip(&mut self, offset: u64, mask: u8) {
        if offset >= self.len {
            return;
        }
        let (chunk, at) = split(offset);
        let bytes = self
            .chunks
            .entry(chunk)
            .or_insert_with(|| Arc::new([0; CHUNK]));
        if let Some(byte) = Arc::make_mut(bytes).get_mut(at) {
            *byte ^= mask;
        }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.len).unwrap_or(usize::MAX)];
        let read = self.read(0, &mut bytes);
        debug_assert!(read.is_ok(), "an image can be read up to its length");
        bytes
    }
}

/// Chunk of an offset, and the place in it.
fn split(offset: u64) -> (u64, usize) {
    let chunk = CHUNK as u64;
    let at = usize::try_from(offset % chunk).unwrap_or(0);
    (offset / chunk, at)
}

/// The parts of a range that lie in one chunk each: its number, the range in it, the range in the caller's bytes.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, Range<usize>, Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let (chunk, at) = split(offset + done as u64);
        let count = cmp::min(CHUNK - at, len - done);
        let piece = (chunk, at..at + count, done..done + count);
        done += count;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_and_holes_are_zero() {
        let mut image = Image::default();
        image.write(4_090, b"over the edge");
        assert_eq!(image.len(), 4_103);
        let mut out = [1; 15];
        image.read(4_088, &mut out).unwrap();
        assert_eq!(&out, b"\0\0over the edge");
        assert!(image.read(4_100, &mut out).is_err());
    }

    #[test]
    fn what_was_cut_off_is_zero_when_the_file_grows_again() {
        let mut image = Image::from_bytes(b"abcdef");
        image.set_len(3);
        image.set_len(6);
        assert_eq!(image.to_bytes(), b"abc\0\0\0");
    }

    #[test]
    fn copies_do_not_share_changes() {
        let image = Image::from_bytes(b"abc");
        let mut copy = image.clone();
        copy.flip(0, 0x20);
        assert_eq!(
            (image.to_bytes(), copy.to_bytes()),
            (b"abc".to_vec(), b"Abc".to_vec())
        );
    }
}
