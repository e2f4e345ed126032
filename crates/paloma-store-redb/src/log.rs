//! The log: groups that were committed and are not in the engine's file.
//!
//! A group is one record, appended and synced. The log has two halves: while the engine's file takes over what one of them
//! says, groups go to the other, and then the next ones are written over the first. What is a record and what is left of an older one,
//! the [`Stamp`] tells: it has the number of the journal's last record, which every transaction that takes something over
//! counts up. Either that is there and the records before it count no more, or it is not and they do. The records behind it have the
//! number that it will give: they count on top of both. The file is laid out with zeros before it is used and never gets
//! longer then, so that a sync has nothing to write but the records.

mod records;

use std::hash::{BuildHasher, Hasher as _, RandomState};
use std::io;
use std::ops::Range;
use std::sync::Arc;

use paloma_broker::store::StoreError;
use paloma_topic::Fault;

use crate::backend::is_full;
use crate::disk::Disk;
use crate::ops::Sheet;

use records::{Before, Header, read};
pub(crate) use records::{Contents, salvage};

/// Before the body: its length, the sum over all else, the stamp, the record's number, how many the half before it has.
pub(crate) const HEADER: usize = 32;

/// Records begin at multiples of this.
const ALIGN: usize = 8;

/// No log is longer.
pub(crate) const LOG_BYTES_MAX: u64 = 64 << 20;

/// Why a store is refused whose file says that there is a log, and there is none.
pub(crate) const LOG_MISSING: &str = "its log is missing or cut off";

/// Zeros are written in pieces of this: the system counts all of a large piece as written whenever a byte of it is.
pub(crate) const LOG_PAGE: u64 = 4 << 10;

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

/// How the log's file is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Layout {
    /// It holds nothing.
    #[default]
    Unused,
    /// As one piece, as it was before it had halves.
    Whole,
    /// Records on top of an even number are in the first half.
    Halves,
}

impl Layout {
    /// The format of a store whose log is used so: a version that does not know it would not miss what is there.
    pub(crate) const fn format(self) -> u64 {
        match self {
            Self::Unused => 3,
            Self::Whole => 4,
            Self::Halves => 5,
        }
    }

    /// What a format says, an earlier one among them.
    pub(crate) fn of(format: u64) -> Self {
        match format {
            2 | 4 => Self::Whole,
            5 => Self::Halves,
            _ => Self::Unused,
        }
    }
}

/// What the engine's file says of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogState {
    pub(crate) layout: Layout,
    pub(crate) salt: u64,
    /// Its file is that long at least, and laid out.
    pub(crate) bytes: u64,
}

impl LogState {
    pub(crate) fn is_used(&self) -> bool {
        self.layout != Layout::Unused
    }

    /// Length of a half.
    pub(crate) fn half_bytes(&self) -> u64 {
        self.bytes / 2
    }

    /// Whether a number is one that the first half is used on top of. That is how a log begins: the first record of its file is
    /// where is seen that the engine's file has gone back to before.
    pub(crate) fn is_first(base: u64) -> bool {
        base.is_multiple_of(2)
    }

    fn stamp(&self, base: u64) -> Stamp {
        Stamp {
            base,
            salt: self.salt,
        }
    }

    /// Where the records on top of a number are.
    fn region(&self, base: u64) -> Range<u64> {
        let half = self.half_bytes();
        match self.layout {
            Layout::Unused => 0..0,
            Layout::Whole => 0..self.bytes,
            Layout::Halves if Self::is_first(base) => 0..half,
            Layout::Halves => half..2 * half,
        }
    }
}

/// The log's file and what comes next in it.
#[derive(Debug)]
pub(crate) struct Log {
    disk: Arc<dyn Disk>,
    /// Whether an append waits for the disk.
    syncs: bool,
    state: LogState,
    /// Of the half that is appended to.
    stamp: Stamp,
    before: Before,
    /// Where it ends, from its beginning, and how many records it has.
    end: u64,
    count: u64,
    /// The number of the last transaction that is known to be synced.
    taken: u64,
    written: u64,
}

impl Log {
    pub(crate) fn new(disk: Arc<dyn Disk>, syncs: bool) -> Self {
        Self {
            disk,
            syncs,
            state: LogState::default(),
            stamp: Stamp::default(),
            before: Before::default(),
            end: 0,
            count: 0,
            taken: 0,
            written: 0,
        }
    }

    /// Whether everything is in the engine's file.
    pub(crate) fn is_empty(&self) -> bool {
        self.end == 0 && self.stamp.base == self.taken
    }

    /// The number on top of which the next record is.
    pub(crate) fn base(&self) -> u64 {
        self.stamp.base
    }

    /// Whether a record of so many bytes has room.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        let region = self.state.region(self.stamp.base);
        self.end.saturating_add(bytes) <= region.end - region.start
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
        let is_same = is_again && *state == self.state && base <= self.stamp.base;
        let contents = read(&*self.disk, state, base, |base| {
            if !is_same {
                u64::MAX
            } else if base == self.stamp.base {
                self.end
            } else if base.saturating_add(1) == self.stamp.base {
                self.before.end
            } else {
                0
            }
        })?;
        if !is_same {
            self.begin(state, contents.base);
            self.before = contents.before;
            self.end = contents.last.end;
            self.count = contents.last.count;
        }
        self.taken = base;
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
        let zeros = vec![0; usize::try_from(LOG_PAGE).unwrap_or_default()];
        let mut at = begun;
        while at < bytes {
            let count = LOG_PAGE.min(bytes - at);
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
        self.before = Before::default();
        self.end = 0;
        self.count = 0;
        self.taken = base;
    }

    /// Whether the half that is not appended to holds nothing that counts.
    pub(crate) fn may_turn(&self) -> bool {
        self.state.layout == Layout::Halves && self.stamp.base == self.taken
    }

    /// Goes on in the other half, on top of a transaction that takes over what this one says.
    pub(crate) fn turn(&mut self) {
        debug_assert!(self.may_turn(), "what is written over has to be taken over");
        self.before = Before {
            count: u32::try_from(self.count).unwrap_or(u32::MAX),
            end: self.end,
        };
        self.stamp.base = self.stamp.base.saturating_add(1);
        self.end = 0;
        self.count = 0;
    }

    /// A transaction is synced: the half before may be written over.
    pub(crate) fn note_taken(&mut self, base: u64) {
        self.taken = base;
    }

    /// Appends a record and waits until it is on the disk; false if there is no space for it.
    pub(crate) fn append(&mut self, sheet: &mut Sheet) -> io::Result<bool> {
        let record = &mut sheet.bytes;
        let Ok(len) = u32::try_from(record.len() - HEADER) else {
            return Ok(false);
        };
        let Ok(number) = u32::try_from(self.count + 1) else {
            return Ok(false);
        };
        record.resize(record.len().next_multiple_of(ALIGN), 0);
        let len_in_all = record.len() as u64;
        if self.state.layout != Layout::Halves || !self.has_room(len_in_all) {
            return Ok(false);
        }
        let header = Header {
            len,
            sum: 0,
            stamp: self.stamp,
            number,
            after: self.before.count,
        };
        header.put(record);
        let at = self.state.region(self.stamp.base).start + self.end;
        match self.disk.write(at, record) {
            Ok(()) => {}
            Err(error) if is_full(error.kind()) => return Ok(false),
            Err(error) => return Err(error),
        }
        self.written += len_in_all;
        self.sync()?;
        self.end += len_in_all;
        self.count += 1;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::SimDisk;
    use paloma_broker::store::{Mark, SessionId, StoreOp};

    const BYTES: u64 = 64 << 10;

    const STATE: LogState = LogState {
        layout: Layout::Halves,
        salt: 77,
        bytes: BYTES,
    };

    /// The numbers on top of which the first half is used, and the second.
    const FIRST: u64 = 2;
    const SECOND: u64 = 3;

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

    /// Reads a log whose first half is used, and says how many records are whole and how many are lost.
    fn check(bytes: &[u8]) -> (usize, u64) {
        let disk = SimDisk::with_bytes(bytes, 1);
        let contents = log(&disk).read(&STATE, FIRST, false).unwrap();
        (contents.records.len(), contents.lost)
    }

    /// What a log holds on top of a transaction.
    fn counts(disk: &SimDisk, state: &LogState, base: u64) -> (usize, u64) {
        let contents = log(disk).read(state, base, false).unwrap();
        (contents.records.len(), contents.lost)
    }

    fn is_refused(disk: &SimDisk, state: &LogState, base: u64) -> bool {
        let refused = log(disk).read(state, base, false);
        refused.is_err_and(|error| error.to_string().contains("older than its log"))
    }

    #[test]
    fn records_come_back_and_more_follow() {
        let disk = SimDisk::new(1);
        drop(filled(&disk, FIRST, 20));
        let mut log = log(&disk);
        let contents = log.read(&STATE, FIRST, false).unwrap();
        assert_eq!(contents.lost, 0);
        let bodies: Vec<Vec<u8>> = (0..20)
            .map(|number| sheet(number).bytes[HEADER..].to_vec())
            .collect();
        assert_eq!(contents.bodies().collect::<Vec<_>>(), bodies);
        assert!(log.append(&mut sheet(3)).unwrap());
        assert_eq!(check(&disk.to_bytes()), (21, 0));
    }

    #[test]
    fn both_halves_count_until_the_first_one_is_taken_over() {
        let disk = SimDisk::new(1);
        let mut turned = filled(&disk, FIRST, 20);
        turned.turn();
        assert!(!turned.may_turn() && !turned.is_empty());
        assert_eq!(counts(&disk, &STATE, FIRST), (20, 0));
        for number in 0..3 {
            assert!(turned.append(&mut sheet(number)).unwrap());
        }
        let mut again = log(&disk);
        let contents = again.read(&STATE, FIRST, false).unwrap();
        assert_eq!((contents.base, contents.lost), (SECOND, 0));
        let expected: Vec<usize> = (0..20).chain(0..3).map(|n| sheet(n).bytes.len()).collect();
        let found = lens(&contents);
        assert!(
            found.iter().map(|len| len + HEADER).eq(expected),
            "{found:?}"
        );
        assert!(!again.may_turn(), "it would be written over");
        // More come behind the second.
        assert!(again.append(&mut sheet(3)).unwrap());
        assert_eq!(counts(&disk, &STATE, FIRST), (24, 0));
        assert_eq!(counts(&disk, &STATE, SECOND), (4, 0));
        again.note_taken(SECOND);
        assert!(again.may_turn());
        again.turn();
        assert!(again.append(&mut sheet(1)).unwrap());
        assert_eq!(counts(&disk, &STATE, SECOND), (5, 0));
        assert!(
            is_refused(&disk, &STATE, FIRST),
            "the first was written over"
        );
    }

    #[test]
    fn what_the_first_half_has_lost_at_its_end_the_second_knows() {
        let disk = SimDisk::new(1);
        let mut turned = filled(&disk, FIRST, 20);
        let end = turned.end;
        turned.turn();
        assert!(turned.append(&mut sheet(0)).unwrap());
        disk.write(end - 100, &[0; 100]).unwrap();
        let (whole, lost) = counts(&disk, &STATE, FIRST);
        assert_eq!(whole as u64 + lost, 21);
        assert!(lost > 0);
        let contents = salvage(Some(&disk), &STATE, FIRST).unwrap();
        assert_eq!((contents.records.len(), contents.lost), (whole, lost));
    }

    #[test]
    fn what_the_engine_took_at_once_is_missed_in_a_file_that_has_gone_back() {
        let disk = SimDisk::new(1);
        let mut log = filled(&disk, FIRST, 5);
        // A group that was too large for the log.
        log.begin(&STATE, SECOND);
        assert_eq!(counts(&disk, &STATE, FIRST), (5, 0));
        assert!(log.append(&mut sheet(0)).unwrap());
        assert_eq!(counts(&disk, &STATE, SECOND), (1, 0));
        assert!(is_refused(&disk, &STATE, FIRST));
        let contents = salvage(Some(&disk), &STATE, FIRST).unwrap();
        assert_eq!((contents.records.len(), contents.lost), (6, 1));
    }

    #[test]
    fn a_log_without_halves_is_read_as_it_was_written() {
        let disk = SimDisk::new(1);
        drop(filled(&disk, FIRST, 20));
        let whole = LogState {
            layout: Layout::Whole,
            ..STATE
        };
        for (base, count) in [(FIRST, 20), (SECOND, 0)] {
            assert_eq!(counts(&disk, &whole, base), (count, 0));
            let contents = salvage(Some(&disk), &whole, base).unwrap();
            assert_eq!((contents.records.len(), contents.lost), (count, 0));
        }
        let mut old = log(&disk);
        old.read(&whole, FIRST, false).unwrap();
        assert!(!old.append(&mut sheet(0)).unwrap() && !old.may_turn());
    }

    #[test]
    fn older_records_do_not_count() {
        let disk = SimDisk::new(1);
        drop(filled(&disk, FIRST, 20));
        drop(filled(&disk, FIRST + 2, 5));
        assert_eq!(counts(&disk, &STATE, FIRST + 2), (5, 0));
        assert_eq!(counts(&disk, &STATE, FIRST + 3), (0, 0));
        assert_eq!(counts(&disk, &STATE, FIRST + 4), (0, 0));
        let unused = LogState {
            layout: Layout::Unused,
            ..STATE
        };
        assert_eq!(counts(&disk, &unused, FIRST + 2), (0, 0));
    }

    #[test]
    fn a_torn_end_is_the_end_and_a_hole_is_a_loss() {
        let disk = SimDisk::new(1);
        let log = filled(&disk, FIRST, 20);
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
        drop(filled(&disk, FIRST, 20));
        disk.set_len(BYTES / 2).unwrap();
        let refused = log(&disk).read(&STATE, FIRST, false).unwrap_err();
        assert!(matches!(refused, StoreError::Corrupt(_)), "{refused}");
        let contents = salvage(Some(&disk), &STATE, FIRST).unwrap();
        assert_eq!((contents.records.len(), contents.lost), (20, 1));
        assert_eq!(salvage(None, &STATE, FIRST).unwrap().lost, 1);
    }

    #[test]
    fn a_file_that_is_older_than_its_log_is_refused() {
        for (base, layout) in [
            (FIRST, Layout::Unused),
            (FIRST, Layout::Whole),
            (FIRST, Layout::Halves),
            (SECOND, Layout::Halves),
        ] {
            let disk = SimDisk::new(1);
            drop(filled(&disk, base, 20));
            let state = LogState { layout, ..STATE };
            for back in 1..=base {
                assert!(is_refused(&disk, &state, base - back), "{layout:?}, {back}");
                let contents = salvage(Some(&disk), &state, base - back).unwrap();
                assert_eq!((contents.records.len(), contents.lost), (20, 1));
            }
        }
    }

    #[test]
    fn a_payload_in_the_middle_is_no_first_record() {
        let disk = SimDisk::new(1);
        drop(filled(&disk, SECOND, 1));
        // Somebody who guessed everything but the salt.
        let salted = LogState { salt: 78, ..STATE };
        for base in [0, FIRST, SECOND, 9] {
            assert_eq!(counts(&disk, &salted, base), (0, 0));
        }
    }

    #[test]
    fn what_does_not_fit_is_not_written() {
        let disk = SimDisk::new(1);
        let mut log = filled(&disk, FIRST, 0);
        let mut count = 0;
        while log.append(&mut sheet(1_000)).unwrap() {
            count += 1;
        }
        assert!(count > 5 && disk.len().unwrap() == BYTES);
        assert_eq!(check(&disk.to_bytes()), (count, 0));
        let half = usize::try_from(STATE.half_bytes()).unwrap();
        assert!(disk.to_bytes()[half..].iter().all(|byte| *byte == 0));
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
        drop(filled(&disk, FIRST, 20));
        let foreign = disk.to_bytes();
        let disk = SimDisk::new(1);
        let mut log = filled(&disk, FIRST, 3);
        // What an older record had at this place, from somebody who guessed everything but the salt.
        let salted = LogState { salt: 78, ..STATE };
        log.begin(&salted, FIRST);
        for number in 0..3 {
            assert!(log.append(&mut sheet(number)).unwrap());
        }
        let at = usize::try_from(log.end).unwrap();
        disk.write(log.end, &foreign[at..at + 400]).unwrap();
        assert_eq!(counts(&disk, &salted, FIRST), (3, 0));
        // It would have been one with it.
        assert_eq!(check(&foreign), (20, 0));
    }
}
