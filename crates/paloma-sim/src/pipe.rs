//! One direction of one connection: bytes that arrive late, in parts, or not at all.

use std::collections::VecDeque;

/// Bytes under way.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    /// With when they arrive, in nanoseconds.
    chunks: VecDeque<(u64, Vec<u8>)>,
    len: usize,
    last_at: u64,
    /// What is written goes nowhere.
    pub(crate) is_broken: bool,
    /// The reader reads nothing before.
    pub(crate) stalled_until: u64,
}

impl Pipe {
    /// Takes as much of `bytes` as the window has room for, and says how much.
    pub(crate) fn write(&mut self, bytes: &[u8], arrives_at: u64, window_bytes: usize) -> usize {
        if self.is_broken {
            return bytes.len();
        }
        let room = window_bytes.saturating_sub(self.len);
        let part = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        if !part.is_empty() {
            self.last_at = self.last_at.max(arrives_at);
            self.len += part.len();
            self.chunks.push_back((self.last_at, part.to_vec()));
        }
        part.len()
    }

    /// When there is something to read next.
    pub(crate) fn readable_at(&self) -> Option<u64> {
        let (at, _) = self.chunks.front()?;
        Some((*at).max(self.stalled_until))
    }

    /// What has arrived, at most `bytes_max` of it; the rest is there `again_at`.
    pub(crate) fn read(&mut self, now: u64, bytes_max: usize, again_at: u64) -> Vec<u8> {
        if self.readable_at().is_none_or(|at| at > now) {
            return Vec::new();
        }
        let Some((_, mut chunk)) = self.chunks.pop_front() else {
            return Vec::new();
        };
        if chunk.len() > bytes_max {
            let rest = chunk.split_off(bytes_max);
            self.last_at = self.last_at.max(again_at);
            self.chunks.push_front((again_at, rest));
        }
        self.len -= chunk.len();
        chunk
    }

    /// Breaks: of what is under way, so many bytes still arrive.
    pub(crate) fn cut(&mut self, bytes: usize) {
        self.is_broken = true;
        let mut left = bytes;
        for (_, chunk) in &mut self.chunks {
            chunk.truncate(left);
            left -= chunk.len();
        }
        self.chunks.retain(|(_, chunk)| !chunk.is_empty());
        self.len = self.chunks.iter().map(|(_, chunk)| chunk.len()).sum();
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// When the last byte under way arrives.
    pub(crate) fn last_at(&self) -> u64 {
        self.last_at.max(self.stalled_until)
    }
}
