//! What happened, as a hash, and as lines for whoever wants to read them.

use std::fmt;

const OFFSET: u64 = 0xCBF2_9CE4_8422_2325;
const PRIME: u64 = 0x0100_0000_01B3;

/// Collects what happens in a world.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    pub(crate) fn new(wants_lines: bool) -> Self {
        Self {
            hash: OFFSET,
            lines: wants_lines.then(Vec::new),
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }

    /// Mixes in something that happened at a time.
    pub(crate) fn mix(&mut self, at: u64, kind: u8, who: usize, bytes: &[u8]) {
        let head = at.to_le_bytes();
        let who = (who as u64).to_le_bytes();
        for byte in head.iter().chain([&kind]).chain(&who).chain(bytes) {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
    }

    /// Adds a line if anybody reads them.
    pub(crate) fn line(&mut self, at: u64, text: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{} {}", Seconds(at), text()));
        }
    }
}

/// Nanoseconds as seconds.
pub(crate) struct Seconds(pub(crate) u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>6}.{:06}",
            self.0 / 1_000_000_000,
            self.0 / 1_000 % 1_000_000
        )
    }
}
