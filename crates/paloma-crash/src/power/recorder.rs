//! A simulated disk that keeps what a crash at each of its operations would have left.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use paloma_interop::random::Random;
use paloma_store_redb::disk::{Disk, sim::SimDisk};

/// What stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The machine: what was not synced is lost, kept, torn or out of order.
    PowerCut,
    /// The process: whatever was written is there.
    Kill,
}

/// What becomes of a sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syncs {
    /// It reaches the disk.
    All,
    /// None does, as if the call were missing.
    None,
    /// Only one of so many does.
    OneIn(u64),
}

/// A disk over a [`SimDisk`]. Clones are handles to the same one, and there is one for each of its files.
#[derive(Clone, Debug)]
pub struct Recorder {
    /// The handle of the file.
    disk: SimDisk,
    syncs: Syncs,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    crash: Crash,
    /// One operation of so many is looked at; 0 is none.
    one_in: u64,
    random: Random,
    /// Writes, changes of length and syncs so far.
    operations: u64,
    sync_calls: u64,
    survivors: Vec<SimDisk>,
    slow: Slow,
}

/// Syncs that take long, in the time of whoever drives the store.
#[derive(Debug)]
struct Slow {
    /// One sync of so many; 0 is none.
    one_in: usize,
    random: Random,
    /// The one since somebody asked last, and the disk as it was before it.
    last: Option<(Duration, SimDisk)>,
}

impl Recorder {
    /// A recorder of a disk that keeps one state of `one_in`.
    #[must_use]
    pub fn new(disk: SimDisk, crash: Crash, syncs: Syncs, one_in: u64, seed: u64) -> Self {
        Self {
            disk,
            syncs,
            state: Arc::new(Mutex::new(State {
                crash,
                one_in,
                random: Random::new(seed),
                operations: 0,
                sync_calls: 0,
                survivors: Vec::new(),
                slow: Slow {
                    one_in: 0,
                    random: Random::new(seed ^ 0x5103),
                    last: None,
                },
            })),
        }
    }

    /// Has one sync of so many take long from here on; 0 is none.
    pub fn slow_down(&self, one_in: usize) {
        self.state().slow.one_in = one_in;
    }

    /// How long a slow sync has taken since the last call, and what it has found: a disk on which nothing of it has happened. Of
    /// several, the first.
    #[must_use]
    pub fn take_slow(&self) -> Option<(Duration, SimDisk)> {
        self.state().slow.last.take()
    }

    /// The same for the second file, with other syncs.
    #[must_use]
    pub fn log(&self, syncs: Syncs) -> Self {
        Self {
            disk: self.disk.log(),
            syncs,
            state: Arc::clone(&self.state),
        }
    }

    /// What crashes since the last call would have left.
    #[must_use]
    pub fn take_survivors(&self) -> Vec<SimDisk> {
        std::mem::take(&mut self.state().survivors)
    }

    /// What a crash now leaves.
    #[must_use]
    pub fn survivor(&self) -> SimDisk {
        self.survivor_of(&self.disk)
    }

    /// What a crash would leave of a disk that is as this one was before.
    #[must_use]
    pub fn survivor_of(&self, disk: &SimDisk) -> SimDisk {
        let mut state = self.state();
        let seed = state.random.next_u64();
        match state.crash {
            Crash::PowerCut => disk.fork_after_power_cut(seed),
            Crash::Kill => disk.written(seed),
        }
    }

    /// Writes, changes of length and syncs so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    fn look(&self) {
        let is_chosen = {
            let mut state = self.state();
            state.operations += 1;
            state.one_in > 0 && state.random.next_u64().is_multiple_of(state.one_in)
        };
        if is_chosen {
            let survivor = self.survivor();
            self.state().survivors.push(survivor);
        }
    }

    /// Perhaps the sync that begins takes long.
    fn dawdle(&self) {
        let mut state = self.state();
        let Slow {
            one_in,
            random,
            last,
        } = &mut state.slow;
        if *one_in > 0 && last.is_none() && random.between(0, *one_in) == 0 {
            let millis = *random.one_of(&[40, 900, 2_500, 8_000]);
            let seed = random.next_u64();
            *last = Some((Duration::from_millis(millis), self.disk.fork(seed)));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for Recorder {
    fn len(&self) -> io::Result<u64> {
        self.disk.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.read(offset, out)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.write(offset, data)?;
        self.look();
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.set_len(len)?;
        self.look();
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.dawdle();
        let is_real = {
            let mut state = self.state();
            state.sync_calls += 1;
            match self.syncs {
                Syncs::All => true,
                Syncs::None => false,
                Syncs::OneIn(count) => state.sync_calls.is_multiple_of(count),
            }
        };
        if is_real {
            self.disk.sync()?;
        }
        self.look();
        Ok(())
    }

    fn allocated(&self) -> io::Result<u64> {
        self.disk.allocated()
    }

    fn reserved(&self) -> io::Result<u64> {
        self.disk.reserved()
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        self.disk.reserve(bytes)
    }
}
