//! A disk in memory that knows what was synced, and can lose the rest.
//!
//! [`SimDisk`] stands in for a file wherever a [`Disk`] is wanted. It is deterministic: seed and calls decide what
//! happens. Handles are clones of each other; a power cut makes a *new* disk with what survived, and the old one
//! stays off, so that a store that was using it can be dropped at leisure without touching the survivor.
//!
//! There are two files on it, each with syncs of its own: [`SimDisk::log`] is a handle of the second. Power, space, faults
//! and counts are the disk's, so that both are cut at the same instant.
//!
//! ```
//! use paloma_store_redb::disk::{Disk, sim::SimDisk};
//!
//! let disk = SimDisk::new(7);
//! disk.write(0, b"kept")?;
//! disk.sync()?;
//! disk.write(0, b"lost, or torn, or kept: the seed decides")?;
//! let survivor = disk.after_power_cut(1);
//! assert!(survivor.len()? >= 4);
//! assert!(disk.write(0, b"x").is_err());
//! # std::io::Result::Ok(())
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{io, mem};

use super::Disk;
use super::image::Image;
use super::random::{Random, mix};

/// What a device writes whole or not at all.
const SECTOR: u64 = 512;

/// What happens at one write, change of length or sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails. A write may have reached the medium in part; after a sync that failed, whatever waited for it has
    /// either reached the medium or never will, as with the page cache of Linux.
    Io,
    /// There is no space for it.
    NoSpace,
    /// The power goes off during it; everything fails from here on.
    PowerCut,
    /// One bit of what is written is wrong, and nothing says so.
    Flip,
    /// It takes so long, which [`SimDisk::busy`] counts.
    Slow(Duration),
}

/// How often a disk was asked for what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
    /// Bytes in them.
    pub bytes_written: u64,
    /// Changes of length.
    pub resizes: u64,
    /// Syncs.
    pub syncs: u64,
}

/// A simulated disk; see the [module](self).
#[derive(Clone, Debug)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    which: Which,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    File,
    Log,
}

/// One of the files.
#[derive(Clone, Debug, Default)]
struct Area {
    /// What a power cut leaves for certain.
    durable: Image,
    /// What reads see.
    visible: Image,
    /// What leads from one to the other, in order.
    pending: Vec<Change>,
    /// A sync failed: reads see more than `durable` and `pending` hold.
    has_forgotten: bool,
}

#[derive(Debug)]
struct State {
    random: Random,
    file: Area,
    log: Area,
    reserved: u64,
    capacity: u64,
    is_off: bool,
    faults: BTreeMap<u64, Fault>,
    read_faults: BTreeMap<u64, Fault>,
    next_sync_fails: bool,
    counts: Counts,
    busy: Duration,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: u64, data: Vec<u8> },
    SetLen(u64),
}

impl SimDisk {
    /// An empty disk without a limit.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::over(Area::default(), Area::default(), seed)
    }

    /// A disk that holds `bytes`, synced.
    #[must_use]
    pub fn with_bytes(bytes: &[u8], seed: u64) -> Self {
        Self::with_files(bytes, &[], seed)
    }

    /// A disk whose two files hold this, synced.
    #[must_use]
    pub fn with_files(file: &[u8], log: &[u8], seed: u64) -> Self {
        let area = |bytes| Area::synced(Image::from_bytes(bytes));
        Self::over(area(file), area(log), seed)
    }

    /// A handle of the second file.
    #[must_use]
    pub fn log(&self) -> Self {
        Self {
            state: Arc::clone(&self.state),
            which: Which::Log,
        }
    }

    fn over(file: Area, log: Area, seed: u64) -> Self {
        let state = Arc::new(Mutex::new(State {
            random: Random::new(seed),
            file,
            log,
            reserved: 0,
            capacity: u64::MAX,
            is_off: false,
            faults: BTreeMap::new(),
            read_faults: BTreeMap::new(),
            next_sync_fails: false,
            counts: Counts::default(),
            busy: Duration::ZERO,
        }));
        Self {
            state,
            which: Which::File,
        }
    }

    /// Has `fault` happen at the given operation, counted as [`operations`](Self::operations) does.
    pub fn schedule(&self, operation: u64, fault: Fault) {
        self.state().faults.insert(operation, fault);
    }

    /// Has `fault` happen at the given read, counted from 0; a flip is in what is read only.
    pub fn schedule_read(&self, read: u64, fault: Fault) {
        self.state().read_faults.insert(read, fault);
    }

    /// Has the next sync fail, whenever it comes.
    pub fn fail_next_sync(&self) {
        self.state().next_sync_fails = true;
    }

    /// Writes, changes of length and syncs so far: the number of the next one.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state().counts.operations()
    }

    /// How often it was asked for what.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.state().counts
    }

    /// Time that slow operations took in all.
    #[must_use]
    pub fn busy(&self) -> Duration {
        self.state().busy
    }

    /// Bytes that there are for the files and the reserve; what is taken already stays.
    pub fn set_capacity(&self, bytes: u64) {
        self.state().capacity = bytes;
    }

    /// Whether anything was written that no sync has covered.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        let state = self.state();
        !(state.file.pending.is_empty() && state.log.pending.is_empty())
    }

    /// Turns a bit of this file on the medium over, for good.
    pub fn flip_bit(&self, offset: u64, bit: u8) {
        let mut state = self.state();
        let mask = 1 << (bit % 8);
        let area = state.area(self.which);
        area.durable.flip(offset, mask);
        area.visible.flip(offset, mask);
    }

    /// Everything that reads of this file see.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.state().area(self.which).visible.to_bytes()
    }

    /// Turns this disk off for good and returns what a power cut leaves of it: all that was synced, and of the rest
    /// what `seed` decides, whole, torn at sectors, or out of order.
    #[must_use]
    pub fn after_power_cut(&self, seed: u64) -> Self {
        self.cut_power();
        self.fork_after_power_cut(seed)
    }

    /// The same without turning this disk off, to look at many outcomes of one moment.
    #[must_use]
    pub fn fork_after_power_cut(&self, seed: u64) -> Self {
        let state = self.state();
        let mut random = Random::new(seed);
        let mut left = |area: &Area| {
            let image = survivor(&area.durable, &area.pending, &mut random);
            Area::synced(image)
        };
        let (file, log) = (left(&state.file), left(&state.log));
        let disk = Self::over(file, log, random.next());
        {
            let mut next = disk.state();
            next.reserved = state.reserved;
            next.capacity = state.capacity;
        }
        disk
    }

    /// The same disk once more: what was not synced still is not, and what happens to one is nothing to the other.
    #[must_use]
    pub fn fork(&self, seed: u64) -> Self {
        let state = self.state();
        let disk = Self::over(state.file.clone(), state.log.clone(), seed);
        {
            let mut next = disk.state();
            next.reserved = state.reserved;
            next.capacity = state.capacity;
        }
        disk
    }

    /// A disk that holds, synced, everything that reads of this one see.
    #[must_use]
    pub fn written(&self, seed: u64) -> Self {
        let state = self.state();
        let area = |area: &Area| Area::synced(area.visible.clone());
        Self::over(area(&state.file), area(&state.log), seed)
    }

    /// Turns this disk off for good and returns one for the next process: the last one was killed, the machine was
    /// not, so that everything written is there and what was not synced still is not.
    #[must_use]
    pub fn after_kill(&self) -> Self {
        self.cut_power();
        let seed = self.state().random.next();
        self.fork(seed)
    }

    /// Turns the disk off: everything fails from here on.
    pub fn cut_power(&self) {
        self.state().is_off = true;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Area {
    fn synced(image: Image) -> Self {
        Self {
            durable: image.clone(),
            visible: image,
            ..Self::default()
        }
    }

    fn apply(&mut self, change: Change) {
        apply(&mut self.visible, &change);
        self.pending.push(change);
    }
}

impl Counts {
    /// Writes, changes of length and syncs.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.writes + self.resizes + self.syncs
    }
}

impl State {
    fn area(&mut self, which: Which) -> &mut Area {
        match which {
            Which::File => &mut self.file,
            Which::Log => &mut self.log,
        }
    }

    fn check_power(&self) -> io::Result<()> {
        if self.is_off {
            return Err(io::Error::other("the power is off"));
        }
        Ok(())
    }

    /// Makes a change and returns how it went.
    fn change(&mut self, which: Which, fault: Option<Fault>, mut change: Change) -> io::Result<()> {
        match fault {
            Some(Fault::NoSpace) => return Err(io::ErrorKind::StorageFull.into()),
            Some(Fault::Io) => {
                // In part: a power cut later tears it further.
                self.tear(&mut change);
                self.area(which).apply(change);
                return Err(io_error());
            }
            Some(Fault::PowerCut) => {
                self.area(which).apply(change);
                self.is_off = true;
                return self.check_power();
            }
            Some(Fault::Flip) => self.flip(&mut change),
            Some(Fault::Slow(time)) => self.busy += time,
            None => {}
        }
        self.area(which).apply(change);
        Ok(())
    }

    fn tear(&mut self, change: &mut Change) {
        if let Change::Write { data, .. } = change {
            let kept = self.random.below(data.len() as u64 / SECTOR + 1) * SECTOR;
            data.truncate(usize::try_from(kept).unwrap_or(0));
        }
    }

    fn flip(&mut self, change: &mut Change) {
        if let Change::Write { data, .. } = change {
            let at = self.random.below(data.len() as u64);
            if let Some(byte) = usize::try_from(at).ok().and_then(|at| data.get_mut(at)) {
                *byte ^= 1 << self.random.below(8);
            }
        }
    }

    /// Checks that there is space for `bytes` more.
    fn check_space(&self, bytes: u64) -> io::Result<()> {
        let taken = self.file.visible.allocated() + self.log.visible.allocated() + self.reserved;
        if bytes > 0 && taken.saturating_add(bytes) > self.capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl Disk for SimDisk {
    fn len(&self) -> io::Result<u64> {
        let mut state = self.state();
        state.check_power()?;
        Ok(state.area(self.which).visible.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.state();
        state.check_power()?;
        let read = state.counts.reads;
        state.counts.reads += 1;
        let fault = state.read_faults.remove(&read);
        state.area(self.which).visible.read(offset, out)?;
        match fault {
            Some(Fault::Io | Fault::NoSpace) => return Err(io_error()),
            Some(Fault::PowerCut) => {
                state.is_off = true;
                return state.check_power();
            }
            Some(Fault::Flip) => {
                let at = state.random.below(out.len() as u64);
                if let Some(byte) = usize::try_from(at).ok().and_then(|at| out.get_mut(at)) {
                    *byte ^= 1 << state.random.below(8);
                }
            }
            Some(Fault::Slow(time)) => state.busy += time,
            None => {}
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        state.check_power()?;
        let operation = state.counts.operations();
        state.counts.writes += 1;
        state.counts.bytes_written += data.len() as u64;
        let fault = state.faults.remove(&operation);
        let missing = state.area(self.which).visible.missing(offset, data.len());
        state.check_space(missing)?;
        let data = data.to_vec();
        state.change(self.which, fault, Change::Write { offset, data })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        state.check_power()?;
        let operation = state.counts.operations();
        state.counts.resizes += 1;
        let fault = state.faults.remove(&operation);
        state.change(self.which, fault, Change::SetLen(len))
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state();
        state.check_power()?;
        let operation = state.counts.operations();
        state.counts.syncs += 1;
        let mut fault = state.faults.remove(&operation);
        if mem::take(&mut state.next_sync_fails) {
            fault = Some(Fault::Io);
        }
        match fault {
            Some(Fault::Io | Fault::NoSpace) => {
                let State {
                    random, file, log, ..
                } = &mut *state;
                let area = match self.which {
                    Which::File => file,
                    Which::Log => log,
                };
                area.has_forgotten = true;
                for change in area.pending.drain(..).filter(|_| random.coin()) {
                    apply(&mut area.durable, &change);
                }
                return Err(io_error());
            }
            Some(Fault::PowerCut) => {
                state.is_off = true;
                return state.check_power();
            }
            Some(Fault::Slow(time)) => state.busy += time,
            Some(Fault::Flip) | None => {}
        }
        let area = state.area(self.which);
        if area.has_forgotten {
            for change in area.pending.drain(..) {
                apply(&mut area.durable, &change);
            }
        } else {
            area.durable = area.visible.clone();
            area.pending.clear();
        }
        Ok(())
    }

    fn allocated(&self) -> io::Result<u64> {
        let mut state = self.state();
        state.check_power()?;
        Ok(state.area(self.which).visible.allocated())
    }

    fn reserved(&self) -> io::Result<u64> {
        let state = self.state();
        state.check_power()?;
        Ok(state.reserved)
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.state();
        state.check_power()?;
        state.check_space(bytes.saturating_sub(state.reserved))?;
        state.reserved = bytes;
        Ok(())
    }
}

fn io_error() -> io::Error {
    io::Error::other("the device failed")
}

fn apply(image: &mut Image, change: &Change) {
    match change {
        Change::Write { offset, data } => image.write(*offset, data),
        Change::SetLen(len) => image.set_len(*len),
    }
}

/// What a power cut leaves of `pending` over `durable`.
fn survivor(durable: &Image, pending: &[Change], random: &mut Random) -> Image {
    let count = pending.len() as u64;
    let mut keep: Box<dyn FnMut(u64, u64) -> bool> = match random.below(5) {
        0 => Box::new(|_, _| false),
        1 => Box::new(|_, _| true),
        2 => {
            // In order up to some change, which is torn.
            let last = random.below(count);
            let seed = random.next();
            Box::new(move |change, sector| {
                change < last || change == last && mix(seed ^ sector) & 1 == 1
            })
        }
        3 => {
            let seed = random.next();
            let threshold = random.next();
            Box::new(move |change, _| mix(seed ^ change) < threshold)
        }
        _ => {
            // Each sector has its own last change: order holds within a sector only.
            let seed = random.next();
            Box::new(move |change, sector| change < mix(seed ^ sector) % (count + 1))
        }
    };
    let mut image = durable.clone();
    let mut len = durable.len();
    for (number, change) in (0..).zip(pending) {
        match change {
            Change::Write { offset, data } => {
                for (sector, at, piece) in sectors(*offset, data) {
                    if keep(number, sector) {
                        image.write(at, piece);
                    }
                }
                if keep(number, u64::MAX) {
                    len = len.max(offset.saturating_add(data.len() as u64));
                }
            }
            Change::SetLen(new) if keep(number, u64::MAX) => {
                image.set_len(*new);
                len = *new;
            }
            Change::SetLen(_) => {}
        }
    }
    // What lies beyond a length that was not kept cannot be seen.
    image.set_len(len);
    image
}

/// The sectors that a write touches: number, offset and bytes of each part.
fn sectors(offset: u64, data: &[u8]) -> impl Iterator<Item = (u64, u64, &[u8])> {
    let mut at = offset;
    let mut rest = data;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let room = usize::try_from(SECTOR - at % SECTOR).unwrap_or(usize::MAX);
        let (piece, after) = rest.split_at(room.min(rest.len()));
        let sector = (at / SECTOR, at, piece);
        at += piece.len() as u64;
        rest = after;
        Some(sector)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk_with(synced: &[u8], pending: &[u8]) -> SimDisk {
        let disk = SimDisk::new(1);
        disk.write(0, synced).unwrap();
        disk.sync().unwrap();
        disk.write(0, pending).unwrap();
        disk
    }

    #[test]
    fn what_was_synced_survives_every_power_cut() {
        for seed in 0..100 {
            let disk = disk_with(&[1; 2_048], &[1; 4_096]);
            let bytes = disk.after_power_cut(seed).to_bytes();
            assert!(bytes.len() >= 2_048);
            assert!(bytes[..2_048].iter().all(|byte| *byte == 1), "seed {seed}");
        }
    }

    #[test]
    fn what_was_not_synced_is_lost_kept_torn_and_reordered() {
        let disk = disk_with(&[0; 4_096], &[1; 4_096]);
        disk.write(0, &[2; 4_096]).unwrap();
        let outcomes: Vec<Vec<u8>> = (0..200)
            .map(|seed| {
                let bytes = disk.fork_after_power_cut(seed).to_bytes();
                bytes
                    .chunks(512)
                    .map(|sector| {
                        assert!(sector.iter().all(|byte| *byte == sector[0]), "torn sector");
                        sector[0]
                    })
                    .collect()
            })
            .collect();
        let any = |wanted: fn(&[u8]) -> bool| outcomes.iter().any(|outcome| wanted(outcome));
        assert!(any(|sectors| sectors.iter().all(|sector| *sector == 0)));
        assert!(any(|sectors| sectors.iter().all(|sector| *sector == 2)));
        assert!(any(|sectors| sectors.contains(&0) && sectors.contains(&1)));
        assert!(any(
            |sectors| sectors.starts_with(&[0]) && sectors.ends_with(&[2])
        ));
        assert!(any(
            |sectors| sectors.starts_with(&[2]) && sectors.ends_with(&[0])
        ));
    }

    #[test]
    fn the_same_seed_gives_the_same_disk() {
        let outcome = |seed| {
            disk_with(&[0; 9_000], &[1; 9_000])
                .after_power_cut(seed)
                .to_bytes()
        };
        for seed in 0..20 {
            assert_eq!(outcome(seed), outcome(seed));
        }
    }

    #[test]
    fn a_kill_loses_nothing_that_was_written() {
        let disk = disk_with(b"old", b"new").after_kill();
        assert_eq!(disk.to_bytes(), b"new");
        assert!(disk.is_dirty());
        let olds = (0..50).filter(|seed| disk.fork_after_power_cut(*seed).to_bytes() == b"old");
        assert!(olds.count() > 0, "it was not synced for all that");
    }

    #[test]
    fn a_failed_sync_cannot_be_made_good_by_a_second_one() {
        let disk = disk_with(&[0; 512], &[1; 512]);
        for sector in 1..64 {
            disk.write(sector * 512, &[1; 512]).unwrap();
        }
        disk.schedule(disk.operations(), Fault::Io);
        disk.sync().unwrap_err();
        disk.sync().unwrap();
        let bytes = disk.after_power_cut(0).to_bytes();
        assert!(bytes.contains(&0) || bytes.len() < 64 * 512);
    }

    #[test]
    fn each_file_has_its_own_syncs_and_one_power_cut_takes_both() {
        let outcomes: Vec<(u8, u8)> = (0..100)
            .map(|seed| {
                let disk = disk_with(&[0; 512], &[1; 512]);
                let log = disk.log();
                log.write(0, &[0; 512]).unwrap();
                log.sync().unwrap();
                log.write(0, &[1; 512]).unwrap();
                let next = disk.after_power_cut(seed);
                log.write(0, &[2; 512]).unwrap_err();
                (next.to_bytes()[0], next.log().to_bytes()[0])
            })
            .collect();
        for outcome in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            assert!(outcomes.contains(&outcome), "{outcome:?}");
        }
        let disk = disk_with(&[0; 512], &[1; 512]);
        disk.log().sync().unwrap();
        assert!(disk.is_dirty(), "a sync of one file is none of the other");
        assert_eq!(disk.log().len().unwrap(), 0);
        assert_eq!(disk.operations(), disk.log().operations());
    }

    #[test]
    fn nothing_works_once_the_power_is_off() {
        let disk = SimDisk::new(0);
        disk.schedule(1, Fault::PowerCut);
        disk.write(0, b"a").unwrap();
        disk.write(1, b"b").unwrap_err();
        disk.sync().unwrap_err();
        disk.read(0, &mut [0]).unwrap_err();
    }

    #[test]
    fn a_full_disk_takes_what_the_reserve_gives_back() {
        let disk = SimDisk::new(0);
        disk.set_capacity(3 * 4_096);
        disk.reserve(4_096).unwrap();
        disk.write(1 << 30, &[1; 4_096]).unwrap();
        disk.write(0, &[1; 4_096]).unwrap();
        let full = disk.write(4_096, &[1]).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        disk.write(0, &[2; 4_096]).unwrap();
        disk.reserve(0).unwrap();
        disk.write(4_096, &[1]).unwrap();
        assert!(disk.reserve(1).is_err());
        disk.set_len(4_096).unwrap();
        disk.reserve(2 * 4_096).unwrap();
        assert_eq!(disk.allocated().unwrap(), 4_096);
    }

    #[test]
    fn flips_and_delays_are_silent() {
        let disk = SimDisk::new(0);
        disk.schedule(0, Fault::Flip);
        disk.schedule(1, Fault::Slow(Duration::from_secs(1)));
        disk.write(0, &[0; 8]).unwrap();
        disk.sync().unwrap();
        let ones: u32 = disk.to_bytes().iter().map(|byte| byte.count_ones()).sum();
        assert_eq!((ones, disk.busy()), (1, Duration::from_secs(1)));
    }
}
