//! The log: groups that were committed and are not in the engine's file.
//!
//! A group is one record, appended and synced. When the engine has taken over what the records say, the next group is written
//! over the first of them. What is a record and what is left of an older one, the [`Stamp`] tells: it has the number of the
//! journal's last record, which every transaction that takes something over counts up. Either that is there and the records
//! before it count no more, or it is not and they do. The file is laid out with zeros before it is used and never gets longer then, so that a sync has nothing to
//! write but the records.

use std::hash::{BuildHasher, Hasher as _, RandomState};
use std::io;
use std::ops::Range;
use std::sync::Arc;

use crc32fast::Hasher;
use paloma_broker::store::StoreError;
use paloma_topic::Fault;

use crate::backend::is_full;
use crate::disk::Disk;
use crate::ops::Sheet;

/// Before the body: its length, the sum over all else, the stamp, the record's number.
pub(crate) const HEADER: usize = 32;
const SUMMED_FROM: usize = 8;

/// Records begin at multiples of this.
const ALIGN: usize = 8;

/// No log is longer.
pub(crate) const LOG_BYTES_MAX: u64 = 64 << 20;

/// Why a store is refused whose file says that there is a log, and there is none.
pub(crate) const LOG_MISSING: &str = "its log is missing or cut off";

/// Zeros are written in pieces of this: the system counts all of a large piece as written whenever a byte of it is.
const STEP: u64 = 4 << 10;

/// What tells the records that count from what is left of others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// The number of the journal's last record: what the log says comes on top of that.
    pub(crate) base: u64,
    /// Payloads in older records are what clients have sent: who cannot know this cannot send a record.
    pub(crate) salt: u64,
}

/// A number that nobody knows beforehand.
pub(crate) fn new_salt() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// What the engine's file says of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogState {
    /// It may hold records.
    pub(crate) is_used: bool,
    pub(crate) salt: u64,
    /// Its file is that long at least, and laid out.
    pub(crate) bytes: u64,
}

impl LogState {
    fn stamp(&self, base: u64) -> Stamp {
        Stamp {
            base,
            salt: self.salt,
        }
    }
}

/// What a log holds.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    bytes: Vec<u8>,
    records: Vec<Range<usize>>,
    /// Where the last record ends.
    end: u64,
    /// The number of the next one.
    next: u64,
    /// Records that are damaged or missing before one that is whole.
    pub(crate) lost: u64,
}

impl Contents {
    /// The bodies of its records, in order.
    pub(crate) fn bodies(&self) -> impl Iterator<Item = &[u8]> {
        let of = |range: &Range<usize>| self.bytes.get(range.clone());
        self.records.iter().filter_map(of)
    }

    /// Finds the records with this stamp. What cannot be read is the end, as a crash leaves it, unless a later record is
    /// whole: each was synced before the next was written.
    fn scan(bytes: Vec<u8>, stamp: Stamp) -> Self {
        let mut contents = Self {
            next: 1,
            ..Self::default()
        };
        let mut at = 0;
        loop {
            let next = contents.next;
            let is_next = |header: &Header| header.stamp == stamp && header.number == next;
            let is_later = |header: &Header| header.stamp == stamp && header.number > next;
            let found = record_at(&bytes, at, is_next).or_else(|| {
                (at..bytes.len())
                    .step_by(ALIGN)
                    .find_map(|at| record_at(&bytes, at, is_later))
            });
            let Some(found) = found else { break };
            contents.lost = contents.lost.saturating_add(found.number - next);
            contents.next = found.number.saturating_add(1);
            at = found.body.end.next_multiple_of(ALIGN);
            contents.end = at as u64;
            contents.records.push(found.body);
        }
        contents.bytes = bytes;
        contents
    }
}

/// The log's file and what comes next in it.
#[derive(Debug)]
pub(crate) struct Log {
    disk: Arc<dyn Disk>,
    /// Whether an append waits for the disk.
    syncs: bool,
    state: LogState,
    stamp: Stamp,
    end: u64,
    next: u64,
    written: u64,
}

impl Log {
    pub(crate) fn new(disk: Arc<dyn Disk>, syncs: bool) -> Self {
        Self {
            disk,
            syncs,
            state: LogState::default(),
            stamp: Stamp::default(),
            end: 0,
            next: 1,
            written: 0,
        }
    }

    /// Whether everything is in the engine's file.
    pub(crate) fn is_empty(&self) -> bool {
        self.end == 0
    }

    /// Bytes written.
    pub(crate) fn written_bytes(&self) -> u64 {
        self.written
    }

    /// Bytes that the file takes.
    pub(crate) fn allocated_bytes(&self) -> u64 {
        self.disk.allocated().unwrap_or_default()
    }

    /// Reads what counts of it, and goes on behind that. Of a log that is read again after the engine met a full disk, what
    /// lies behind its end does not count.
    pub(crate) fn read(
        &mut self,
        state: &LogState,
        base: u64,
        is_again: bool,
    ) -> Result<Contents, StoreError> {
        let until = if is_again { self.end } else { LOG_BYTES_MAX };
        let contents = read(&*self.disk, state, base, until)?;
        self.begin(state, base);
        self.end = contents.end;
        self.next = contents.next.max(1);
        Ok(contents)
    }

    /// Writes zeros where a log of so many bytes has not been yet; false if it may not grow, or there is no space for it.
    pub(crate) fn lay_out(&mut self, bytes: u64, may_grow: bool) -> io::Result<bool> {
        let len = self.disk.len()?;
        let begun = self.state.bytes.min(len);
        if begun >= bytes {
            return Ok(true);
        }
        if !may_grow {
            return Ok(false);
        }
        let zeros = vec![0; usize::try_from(STEP).unwrap_or_default()];
        let mut at = begun;
        while at < bytes {
            let count = STEP.min(bytes - at);
            let piece = usize::try_from(count)
                .ok()
                .and_then(|count| zeros.get(..count));
            match self.disk.write(at, piece.unwrap_or(&zeros)) {
                Ok(()) => at += count,
                Err(error) if is_full(error.kind()) => {
                    // Others need what it got.
                    self.disk.set_len(begun)?;
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        self.written += at - begun;
        self.sync()?;
        Ok(true)
    }

    /// Begins anew: the engine's file says this, and nothing that the log holds counts any more.
    pub(crate) fn begin(&mut self, state: &LogState, base: u64) {
        self.state = *state;
        self.stamp = state.stamp(base);
        self.end = 0;
        self.next = 1;
    }

    /// Appends a record and waits until it is on the disk; false if there is no space for it.
    pub(crate) fn append(&mut self, sheet: &mut Sheet) -> io::Result<bool> {
        let record = &mut sheet.bytes;
        let Ok(len) = u32::try_from(record.len() - HEADER) else {
            return Ok(false);
        };
        record.resize(record.len().next_multiple_of(ALIGN), 0);
        let until = self.end.saturating_add(record.len() as u64);
        if !self.state.is_used || until > self.state.bytes {
            return Ok(false);
        }
        let header = Header {
            len,
            sum: 0,
            stamp: self.stamp,
            number: self.next,
        };
        header.put(record);
        match self.disk.write(self.end, record) {
            Ok(()) => {}
            Err(error) if is_full(error.kind()) => return Ok(false),
            Err(error) => return Err(error),
        }
        self.written += record.len() as u64;
        self.sync()?;
        self.end = until;
        self.next = self.next.saturating_add(1);
        Ok(true)
    }

    /// Leaves nothing unsynced, whatever the level.
    pub(crate) fn close(&mut self) -> io::Result<()> {
        self.disk.sync()
    }

    fn sync(&self) -> io::Result<()> {
        if !self.syncs || Fault::SyncSkipped.is_on() {
            return Ok(());
        }
        self.disk.sync()
    }
}

/// What counts of a log that is `until` bytes long at most.
fn read(disk: &dyn Disk, state: &LogState, base: u64, until: u64) -> Result<Contents, StoreError> {
    if later_stamp(disk, base)?.is_some() {
        return Err(StoreError::Corrupt("its file is older than its log"));
    }
    if !state.is_used {
        return Ok(Contents::default());
    }
    if disk.len().map_err(StoreError::Io)? < state.bytes {
        return Err(StoreError::Corrupt(LOG_MISSING));
    }
    let bytes = bytes_of(disk, state.bytes.min(until)).map_err(StoreError::Io)?;
    Ok(Contents::scan(bytes, state.stamp(base)))
}

/// All that can be read of a log, whatever is wrong with it or with the engine's file.
pub(crate) fn salvage(
    disk: Option<&dyn Disk>,
    state: &LogState,
    base: u64,
) -> Result<Contents, StoreError> {
    let is_missing = Contents {
        lost: u64::from(state.is_used),
        ..Contents::default()
    };
    let Some(disk) = disk else {
        return Ok(is_missing);
    };
    let later = later_stamp(disk, base)?;
    if later.is_none() && !state.is_used {
        return Ok(Contents::default());
    }
    let len = disk.len().map_err(StoreError::Io)?;
    let bytes = bytes_of(disk, len.min(LOG_BYTES_MAX)).map_err(StoreError::Io)?;
    let mut contents = Contents::scan(bytes, later.unwrap_or(state.stamp(base)));
    // What lay between the file and the log, or behind what is left of it.
    contents.lost += u64::from(later.is_some() || len < state.bytes);
    Ok(contents)
}

/// The stamp of the first record, if it is on top of what the engine's file does not have: that has gone back to what it was.
fn later_stamp(disk: &dyn Disk, base: u64) -> Result<Option<Stamp>, StoreError> {
    let len = disk.len().map_err(StoreError::Io)?.min(LOG_BYTES_MAX);
    let head = bytes_of(disk, len.min(HEADER as u64)).map_err(StoreError::Io)?;
    let is_later = |header: &Header| header.stamp.base > base;
    let Some(header) = Header::of(&head).filter(is_later) else {
        return Ok(None);
    };
    let end = u64::from(header.len).saturating_add(HEADER as u64);
    let bytes = bytes_of(disk, len.min(end)).map_err(StoreError::Io)?;
    Ok(record_at(&bytes, 0, is_later).map(|_| header.stamp))
}

fn bytes_of(disk: &dyn Disk, len: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(len).unwrap_or_default()];
    disk.read(0, &mut bytes)?;
    Ok(bytes)
}

#[derive(Clone, Copy, Debug)]
struct Header {
    /// Of the body.
    len: u32,
    sum: u32,
    stamp: Stamp,
    number: u64,
}

impl Header {
    fn of(bytes: &[u8]) -> Option<Self> {
        let (len, rest) = bytes.split_first_chunk()?;
        let (sum, rest) = rest.split_first_chunk()?;
        let (base, rest) = rest.split_first_chunk()?;
        let (salt, rest) = rest.split_first_chunk()?;
        let (number, _) = rest.split_first_chunk()?;
        Some(Self {
            len: u32::from_le_bytes(*len),
            sum: u32::from_le_bytes(*sum),
            stamp: Stamp {
                base: u64::from_le_bytes(*base),
                salt: u64::from_le_bytes(*salt),
            },
            number: u64::from_le_bytes(*number),
        })
    }

    /// Writes it before a body, with the sum.
    fn put(&self, record: &mut [u8]) {
        let len = self.len.to_le_bytes();
        put_at(record, 0, &len);
        put_at(record, 8, &self.stamp.base.to_le_bytes());
        put_at(record, 16, &self.stamp.salt.to_le_bytes());
        put_at(record, 24, &self.number.to_le_bytes());
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
    number: u64,
    body: Range<usize>,
}

/// The record at a place, if it is whole and wanted.
fn record_at(bytes: &[u8], at: usize, is_wanted: impl Fn(&Header) -> bool) -> Option<Found> {
    let header = Header::of(bytes.get(at..)?).filter(is_wanted)?;
    let body = at + HEADER..(at + HEADER).checked_add(header.len as usize)?;
    let summed = bytes.get(at + SUMMED_FROM..body.end)?;
    (sum(header.len, summed) == header.sum).then_some(Found {
        number: header.number,
        body,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::SimDisk;
    use paloma_broker::store::{Mark, SessionId, StoreOp};

    const BYTES: u64 = 64 << 10;

    const STATE: LogState = LogState {
        is_used: true,
        salt: 77,
        bytes: BYTES,
    };

    fn sheet(number: u64) -> Sheet {
        let mut sheet = Sheet::default();
        sheet.begin(&Mark::default(), 10_000);
        for id in 0..number {
            sheet.put(&StoreOp::DeleteSession(SessionId(id)), false);
        }
        sheet
    }

    fn log(disk: &SimDisk) -> Log {
        Log::new(Arc::new(disk.clone()), true)
    }

    /// A log with so many records, each one op longer than the one before.
    fn filled(disk: &SimDisk, base: u64, count: u64) -> Log {
        let mut log = log(disk);
        assert!(log.lay_out(BYTES, true).unwrap());
        log.begin(&STATE, base);
        for number in 0..count {
            assert!(log.append(&mut sheet(number)).unwrap());
        }
        log
    }

    fn lens(contents: &Contents) -> Vec<usize> {
        contents.bodies().map(<[u8]>::len).collect()
    }

    /// Reads a log on top of the first transaction, and says how many records are whole and how many are lost.
    fn check(bytes: &[u8]) -> (usize, u64) {
        let disk = SimDisk::with_bytes(bytes, 1);
        let contents = log(&disk).read(&STATE, 1, false).unwrap();
        (contents.records.len(), contents.lost)
    }

    #[test]
    fn records_come_back_and_more_follow() {
        let disk = SimDisk::new(1);
        drop(filled(&disk, 1, 20));
        let mut log = log(&disk);
        let contents = log.read(&STATE, 1, false).unwrap();
        assert_eq!(contents.lost, 0);
        let bodies: Vec<Vec<u8>> = (0..20)
            .map(|number| sheet(number).bytes[HEADER..].to_vec())
            .collect();
        assert_eq!(contents.bodies().collect::<Vec<_>>(), bodies);
        assert!(log.append(&mut sheet(3)).unwrap());
        assert_eq!(check(&disk.to_bytes()), (21, 0));
    }

    #[test]
    fn older_records_do_not_count() {
        let disk = SimDisk::new(1);
        drop(filled(&disk, 1, 20));
        drop(filled(&disk, 2, 5));
        let contents = log(&disk).read(&STATE, 2, false).unwrap();
        assert_eq!(lens(&contents).len(), 5);
        let contents = log(&disk).read(&STATE, 3, false).unwrap();
        assert_eq!((contents.records.len(), contents.lost), (0, 0));
        let unused = LogState {
            is_used: false,
            ..STATE
        };
        let contents = log(&disk).read(&unused, 2, false).unwrap();
        assert_eq!((contents.records.len(), contents.lost), (0, 0));
    }

    #[test]
    fn a_torn_end_is_the_end_and_a_hole_is_a_loss() {
        let disk = SimDisk::new(1);
        let log = filled(&disk, 1, 20);
        let end = usize::try_from(log.end).unwrap();
        let whole = disk.to_bytes();
        for at in (0..end).step_by(3) {
            for bit in [0, 7] {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                let is_last = at >= end - sheet(19).bytes.len().next_multiple_of(ALIGN);
                match check(&bytes) {
                    // What is behind a body says nothing.
                    (20, 0) => {}
                    (19, 1) => {}
                    (19, 0) => assert!(is_last, "{at}"),
                    outcome => panic!("{at}: {outcome:?}"),
                }
            }
        }
        let mut bytes = whole;
        bytes[HEADER + 200..end - 200].fill(0);
        let (whole, lost) = check(&bytes);
        assert_eq!(whole as u64 + lost, 20);
        assert!(lost > 5, "{lost}");
    }

    #[test]
    fn a_log_that_is_cut_off_is_refused() {
        let disk = SimDisk::new(1);
        drop(filled(&disk, 1, 20));
        disk.set_len(BYTES / 2).unwrap();
        let refused = log(&disk).read(&STATE, 1, false).unwrap_err();
        assert!(matches!(refused, StoreError::Corrupt(_)), "{refused}");
        let contents = salvage(Some(&disk), &STATE, 1).unwrap();
        assert_eq!((contents.records.len(), contents.lost), (20, 1));
        assert_eq!(salvage(None, &STATE, 1).unwrap().lost, 1);
    }

    #[test]
    fn a_file_that_is_older_than_its_log_is_refused() {
        let disk = SimDisk::new(1);
        drop(filled(&disk, 5, 20));
        for is_used in [true, false] {
            let state = LogState { is_used, ..STATE };
            let refused = log(&disk).read(&state, 4, false).unwrap_err();
            assert!(refused.to_string().contains("older than its log"));
            let contents = salvage(Some(&disk), &state, 4).unwrap();
            assert_eq!((contents.records.len(), contents.lost), (20, 1));
        }
    }

    #[test]
    fn what_does_not_fit_is_not_written() {
        let disk = SimDisk::new(1);
        let mut log = filled(&disk, 1, 0);
        let mut count = 0;
        while log.append(&mut sheet(2_000)).unwrap() {
            count += 1;
        }
        assert!(count > 5 && disk.len().unwrap() == BYTES);
        assert_eq!(check(&disk.to_bytes()), (count, 0));
    }

    #[test]
    fn a_full_disk_keeps_no_part_of_it() {
        let disk = SimDisk::new(1);
        disk.set_capacity(BYTES / 2);
        let mut log = log(&disk);
        assert!(!log.lay_out(BYTES, true).unwrap());
        assert_eq!(disk.allocated().unwrap(), 0);
        disk.set_capacity(BYTES);
        assert!(log.lay_out(BYTES, true).unwrap());
    }

    #[test]
    fn a_payload_that_looks_like_a_record_is_none() {
        let disk = SimDisk::new(1);
        drop(filled(&disk, 1, 20));
        let foreign = disk.to_bytes();
        let disk = SimDisk::new(1);
        let mut log = filled(&disk, 1, 3);
        // What an older record had at this place, from somebody who guessed everything but the salt.
        let salted = LogState { salt: 78, ..STATE };
        log.begin(&salted, 1);
        for number in 0..3 {
            assert!(log.append(&mut sheet(number)).unwrap());
        }
        let at = usize::try_from(log.end).unwrap();
        disk.write(log.end, &foreign[at..at + 400]).unwrap();
        let contents = log.read(&salted, 1, false).unwrap();
        assert_eq!((contents.records.len(), contents.lost), (3, 0));
        // It would have been one with it.
        let contents = Contents::scan(foreign, STATE.stamp(1));
        assert_eq!((contents.records.len(), contents.lost), (20, 0));
    }
}
