//! What is a record of a log, and which records count.

use std::io;
use std::ops::Range;

use crc32fast::Hasher;
use paloma_broker::store::StoreError;

use super::{ALIGN, HEADER, LOG_BYTES_MAX, LOG_MISSING, Layout, LogState, Stamp};
use crate::disk::Disk;

const SUMMED_FROM: usize = 8;

/// Why a store is refused whose file has gone back.
const FILE_OLDER: &str = "its file is older than its log";

/// What a log holds.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    bytes: Vec<u8>,
    pub(super) records: Vec<Range<usize>>,
    /// The number on top of which the last of them are.
    pub(crate) base: u64,
    pub(super) last: Part,
    /// What the half before the last one has, if both count.
    pub(super) before: Before,
    /// Records that are damaged or missing before one that is whole.
    pub(crate) lost: u64,
}

/// What a half holds.
#[derive(Debug, Default)]
pub(super) struct Part {
    records: Vec<Range<usize>>,
    /// Where the last record ends, from the half's beginning.
    pub(super) end: u64,
    /// How many records there are or were.
    pub(super) count: u64,
    /// What they say of the half before.
    after: u32,
    lost: u64,
}

/// Records of the half before, which were not in the engine's file when the one that is appended to began, and where they end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Before {
    pub(super) count: u32,
    pub(super) end: u64,
}

impl Contents {
    /// The bodies of its records, in order.
    pub(crate) fn bodies(&self) -> impl Iterator<Item = &[u8]> {
        let of = |range: &Range<usize>| self.bytes.get(range.clone());
        self.records.iter().filter_map(of)
    }

    /// Adds what a half holds behind the others.
    fn push(&mut self, base: u64, mut part: Part) {
        if base > self.base {
            // It says how many there were here: the last ones may be damaged as well.
            let missing = u64::from(part.after).saturating_sub(self.last.count);
            self.lost = self.lost.saturating_add(missing);
        }
        self.lost = self.lost.saturating_add(part.lost);
        self.before = Before {
            count: part.after,
            end: self.last.end,
        };
        self.records.append(&mut part.records);
        self.base = base;
        self.last = part;
    }
}

impl Part {
    /// Finds the records with this stamp. What cannot be read is the end, as a crash leaves it, unless a later record is
    /// whole: each was synced before the next was written.
    fn scan(bytes: &[u8], region: Range<u64>, stamp: Stamp) -> Self {
        let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
        let start = place(region.start);
        let bytes = bytes.get(..place(region.end)).unwrap_or(bytes);
        let mut part = Self::default();
        let mut at = start;
        loop {
            let next = part.count + 1;
            let is_next =
                |header: &Header| header.stamp == stamp && u64::from(header.number) == next;
            let is_later =
                |header: &Header| header.stamp == stamp && u64::from(header.number) > next;
            let found = record_at(bytes, at, is_next).or_else(|| {
                (at..bytes.len())
                    .step_by(ALIGN)
                    .find_map(|at| record_at(bytes, at, is_later))
            });
            let Some(found) = found else { break };
            part.count = u64::from(found.number);
            part.lost += part.count - next;
            part.after = found.after;
            at = found.body.end.next_multiple_of(ALIGN);
            part.end = at.saturating_sub(start) as u64;
            part.records.push(found.body);
        }
        part
    }
}

/// What counts of a log. The records on top of a number end where `until` says at the latest.
pub(super) fn read(
    disk: &dyn Disk,
    state: &LogState,
    base: u64,
    until: impl Fn(u64) -> u64,
) -> Result<Contents, StoreError> {
    if !later_stamps(disk, state, base)?.is_empty() {
        return Err(StoreError::Corrupt(FILE_OLDER));
    }
    let mut contents = Contents {
        base,
        ..Contents::default()
    };
    if !state.is_used() {
        return Ok(contents);
    }
    if disk.len().map_err(StoreError::Io)? < state.bytes {
        return Err(StoreError::Corrupt(LOG_MISSING));
    }
    contents.bytes = bytes_of(disk, state.bytes).map_err(StoreError::Io)?;
    let part = |base| {
        let mut region = state.region(base);
        region.end = region.end.min(region.start.saturating_add(until(base)));
        Part::scan(&contents.bytes, region, state.stamp(base))
    };
    let (first, second) = (part(base), part(base.saturating_add(1)));
    contents.push(base, first);
    if state.layout == Layout::Halves && !second.records.is_empty() {
        contents.push(base.saturating_add(1), second);
    }
    Ok(contents)
}

/// All that can be read of a log, whatever is wrong with it or with the engine's file.
pub(crate) fn salvage(
    disk: Option<&dyn Disk>,
    state: &LogState,
    base: u64,
) -> Result<Contents, StoreError> {
    let mut contents = Contents {
        base,
        ..Contents::default()
    };
    let Some(disk) = disk else {
        contents.lost = u64::from(state.is_used());
        return Ok(contents);
    };
    let later = later_stamps(disk, state, base)?;
    if later.is_empty() && !state.is_used() {
        return Ok(contents);
    }
    let len = disk.len().map_err(StoreError::Io)?;
    contents.bytes = bytes_of(disk, len.min(LOG_BYTES_MAX)).map_err(StoreError::Io)?;
    // In the order of what they are on top of.
    let mut parts = Vec::new();
    if state.is_used() {
        parts.push((state.stamp(base), state.region(base)));
    }
    if state.layout == Layout::Halves {
        let next = base.saturating_add(1);
        parts.push((state.stamp(next), state.region(next)));
    }
    for (stamp, start) in &later {
        if parts.iter().all(|(known, _)| known != stamp) {
            let place = parts.partition_point(|(known, _): &(Stamp, _)| known.base <= stamp.base);
            parts.insert(place, (*stamp, *start..len));
        }
    }
    for (stamp, region) in parts {
        let part = Part::scan(&contents.bytes, region, stamp);
        if !part.records.is_empty() {
            contents.push(stamp.base, part);
        }
    }
    // What lay between the file and the log, or behind what is left of it.
    contents.lost += u64::from(!later.is_empty() || len < state.bytes);
    Ok(contents)
}

/// The stamps of first records that are on top of what the engine's file does not have and will not have with its next
/// transaction: it has gone back to what it was. And where they are.
fn later_stamps(
    disk: &dyn Disk,
    state: &LogState,
    base: u64,
) -> Result<Vec<(Stamp, u64)>, StoreError> {
    let len = disk.len().map_err(StoreError::Io)?.min(LOG_BYTES_MAX);
    let next = state.stamp(base.saturating_add(1));
    let is_later = |header: &Header| {
        let is_next = state.layout == Layout::Halves && header.stamp == next && header.after > 0;
        header.stamp.base > base && !is_next
    };
    let mut later = Vec::new();
    if let Some(stamp) = first_stamp(disk, 0, len, is_later)? {
        later.push((stamp, 0));
    }
    // What is at the beginning nobody else has written there. In the middle may lie a payload.
    let half = match state.layout {
        Layout::Unused => len / 2,
        Layout::Whole => return Ok(later),
        Layout::Halves => state.half_bytes(),
    };
    let salt = match state.layout {
        Layout::Halves => Some(state.salt),
        Layout::Unused | Layout::Whole => later.first().map(|(stamp, _)| stamp.salt),
    };
    let is_known = |header: &Header| Some(header.stamp.salt) == salt && is_later(header);
    if let Some(stamp) = first_stamp(disk, half, len, is_known)? {
        later.push((stamp, half));
    }
    Ok(later)
}

/// The stamp of a record at a place, if it is whole and wanted.
fn first_stamp(
    disk: &dyn Disk,
    at: u64,
    len: u64,
    is_wanted: impl Fn(&Header) -> bool,
) -> Result<Option<Stamp>, StoreError> {
    if at.saturating_add(HEADER as u64) > len {
        return Ok(None);
    }
    let read = |count: u64| {
        let count = count.min(len - at);
        let mut bytes = vec![0; usize::try_from(count).unwrap_or_default()];
        disk.read(at, &mut bytes).map_err(StoreError::Io)?;
        Ok(bytes)
    };
    let head = read(HEADER as u64)?;
    let Some(header) = Header::of(&head).filter(&is_wanted) else {
        return Ok(None);
    };
    let bytes = read(u64::from(header.len).saturating_add(HEADER as u64))?;
    Ok(record_at(&bytes, 0, is_wanted).map(|_| header.stamp))
}

fn bytes_of(disk: &dyn Disk, len: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(len).unwrap_or_default()];
    disk.read(0, &mut bytes)?;
    Ok(bytes)
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    /// Of the body.
    pub(super) len: u32,
    pub(super) sum: u32,
    pub(super) stamp: Stamp,
    /// Counted from 1 in each half.
    pub(super) number: u32,
    /// How many records of the half before came before, which the engine's file did not have; 0 if it had everything.
    pub(super) after: u32,
}

impl Header {
    fn of(bytes: &[u8]) -> Option<Self> {
        let (len, rest) = bytes.split_first_chunk()?;
        let (sum, rest) = rest.split_first_chunk()?;
        let (base, rest) = rest.split_first_chunk()?;
        let (salt, rest) = rest.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let (after, _) = rest.split_first_chunk()?;
        Some(Self {
            len: u32::from_le_bytes(*len),
            sum: u32::from_le_bytes(*sum),
            stamp: Stamp {
                base: u64::from_le_bytes(*base),
                salt: u64::from_le_bytes(*salt),
            },
            number: u32::from_le_bytes(*number),
            after: u32::from_le_bytes(*after),
        })
    }

    /// Writes it before a body, with the sum.
    pub(super) fn put(&self, record: &mut [u8]) {
        let len = self.len.to_le_bytes();
        put_at(record, 0, &len);
        put_at(record, 8, &self.stamp.base.to_le_bytes());
        put_at(record, 16, &self.stamp.salt.to_le_bytes());
        put_at(record, 24, &self.number.to_le_bytes());
        put_at(record, 28, &self.after.to_le_bytes());
        let end = HEADER + self.len as usize;
        if let Some(summed) = record.get(SUMMED_FROM..end) {
            let sum = sum(self.len, summed);
            put_at(record, 4, &sum.to_le_bytes());
        }
    }
}

fn put_at(record: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = record.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

fn sum(len: u32, summed: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&len.to_le_bytes());
    hasher.update(summed);
    hasher.finalize()
}

struct Found {
    number: u32,
    after: u32,
    body: Range<usize>,
}

/// The record at a place, if it is whole and wanted.
fn record_at(bytes: &[u8], at: usize, is_wanted: impl Fn(&Header) -> bool) -> Option<Found> {
    let header = Header::of(bytes.get(at..)?).filter(is_wanted)?;
    let body = at + HEADER..(at + HEADER).checked_add(header.len as usize)?;
    let summed = bytes.get(at + SUMMED_FROM..body.end)?;
    (sum(header.len, summed) == header.sum).then_some(Found {
        number: header.number,
        after: header.after,
        body,
    })
}
