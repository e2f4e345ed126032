//! What a world's broker stores, and what is left of that when its process or its machine stops.

use std::sync::Arc;
use std::time::Duration;

use paloma_broker::store::{LoadRequest, Loaded, Mark, Recovered, StoreError};
use paloma_broker::{Broker, BrokerConfig, MemoryStore, Store, StoreBatch};
use paloma_session::{LogSeq, Now};
use paloma_store_redb::disk::sim::{Fault, SimDisk};
use paloma_store_redb::{Options, RedbStore};

use crate::random::Random;

/// Operations of a disk among which the power goes off, if it does during a commit: one to the log has two, and most that go
/// to the engine have fewer than so many.
const OPERATIONS: [u64; 2] = [2, 14];

/// What a world's store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Medium {
    /// Memory that is never lost.
    Memory,
    /// A medium of which a crash leaves every commit, and of the one that is under way a part of its batches.
    Simulated,
    /// The real store on a simulated disk.
    Disk,
}

/// The store. Beside a real one it keeps the same in memory, and compares the two after each crash.
#[derive(Debug)]
pub(crate) struct Keeper {
    /// All that was committed.
    model: MemoryStore,
    real: Option<Real>,
    random: Random,
    /// The next commit fails, and with it the process.
    pub(crate) fails_next: bool,
    /// A device has failed since the machine was started.
    has_failed: bool,
}

#[derive(Debug)]
struct Real {
    disk: SimDisk,
    store: RedbStore,
}

/// What a broker was made of after a crash.
pub(crate) struct Restarted {
    pub(crate) broker: Broker,
    /// The last batch that survived, if any of those that were under way did.
    pub(crate) survived: Option<LogSeq>,
    /// When it was made, by the broker's clock.
    pub(crate) mark: Mark,
}

impl Keeper {
    pub(crate) fn new(medium: Medium, random: Random) -> Result<Self, String> {
        let mut random = random;
        let real = match medium {
            Medium::Memory | Medium::Simulated => None,
            Medium::Disk => Some(Real::open(SimDisk::new(random.below(u64::MAX)))?),
        };
        let model = match medium {
            Medium::Memory => MemoryStore::new(),
            Medium::Simulated | Medium::Disk => MemoryStore::recoverable(),
        };
        Ok(Self {
            model,
            real,
            random,
            fails_next: false,
            has_failed: false,
        })
    }

    pub(crate) fn message_count(&self) -> usize {
        self.model.message_count()
    }

    /// Commits a group, or says why the process ends; then the group may be there or not.
    pub(crate) fn commit(&mut self, group: &mut Vec<StoreBatch>) -> Result<LogSeq, StoreError> {
        let fails = std::mem::take(&mut self.fails_next);
        let Some(real) = &mut self.real else {
            if fails {
                return Err(StoreError::Io(std::io::Error::other("the device failed")));
            }
            return Ok(self.model.commit(group)?.seq);
        };
        if fails {
            let operation = real.disk.operations() + operation_ahead(&mut self.random);
            real.disk.schedule(operation, Fault::Io);
            self.has_failed = true;
        }
        let mut copy = group.clone();
        real.store.commit(&mut copy)?;
        Ok(self.model.commit(group)?.seq)
    }

    pub(crate) fn read_queue(&mut self, request: &LoadRequest) -> Result<Loaded, StoreError> {
        match &mut self.real {
            Some(real) => real.store.read_queue(request),
            None => self.model.read_queue(request),
        }
    }

    /// The process ends while `group` is being committed, and another one starts.
    pub(crate) fn restart(
        &mut self,
        config: &BrokerConfig,
        now: Now,
        group: Vec<StoreBatch>,
    ) -> Result<Restarted, String> {
        match self.real.take() {
            Some(real) => self.restart_on(real, config, now, group),
            None => self.restart_in_memory(config, now, group),
        }
    }

    fn restart_in_memory(
        &mut self,
        config: &BrokerConfig,
        now: Now,
        mut group: Vec<StoreBatch>,
    ) -> Result<Restarted, String> {
        group.truncate(self.random.index(group.len() + 1));
        let survived = group.last().map(|batch| batch.seq);
        if !group.is_empty() {
            self.model.commit(&mut group).map_err(in_words)?;
        }
        let mut watched = Watched::new(&mut self.model);
        let broker = recover(config, now, &mut watched)?;
        Ok(Restarted {
            broker,
            survived,
            mark: watched.mark,
        })
    }

    fn restart_on(
        &mut self,
        mut real: Real,
        config: &BrokerConfig,
        now: Now,
        mut group: Vec<StoreBatch>,
    ) -> Result<Restarted, String> {
        if !group.is_empty() {
            let operation = real.disk.operations() + operation_ahead(&mut self.random);
            real.disk.schedule(operation, Fault::PowerCut);
            // Whether it fails or not: nobody was told.
            let _ = real.store.commit(&mut group.clone());
        }
        // After a device has failed, the same page cache may hold what no sync will ever write.
        let disk = if self.has_failed || self.random.chance(60) {
            real.disk.after_power_cut(self.random.below(u64::MAX))
        } else {
            real.disk.after_kill()
        };
        self.has_failed = false;
        drop(real);
        let mut real = Real::open(disk)?;
        let mut watched = Watched::new(&mut real.store);
        let broker = recover(config, now, &mut watched)?;
        let (found, mark) = (watched.contents, watched.mark);
        self.real = Some(real);
        let before = contents(&mut self.model)?;
        if found == before {
            return Ok(Restarted {
                broker,
                survived: None,
                mark,
            });
        }
        let survived = group.last().map(|batch| batch.seq);
        if !group.is_empty() {
            self.model.commit(&mut group).map_err(in_words)?;
        }
        let after = contents(&mut self.model)?;
        if found == after {
            return Ok(Restarted {
                broker,
                survived,
                mark,
            });
        }
        Err(difference(&found, &before))
    }
}

impl Real {
    fn open(disk: SimDisk) -> Result<Self, String> {
        let options = Options {
            reserve_bytes: 0,
            cache_bytes: 1 << 20,
            // Full now and then, and too small for some groups.
            log_bytes: 64 << 10,
            // Each commit is synced, and the store never rests.
            clock: || Duration::ZERO,
            ..Options::default()
        };
        let log = Arc::new(disk.log());
        let store = RedbStore::on_disk(Arc::new(disk.clone()), Some(log), &options)
            .map_err(|error| format!("the store does not open: {error}"))?;
        Ok(Self { disk, store })
    }
}

/// One of those that a commit is likely to have.
fn operation_ahead(random: &mut Random) -> u64 {
    let [log, engine] = OPERATIONS;
    let among = if random.chance(50) { log } else { engine };
    random.below(among)
}

fn recover(config: &BrokerConfig, now: Now, watched: &mut Watched<'_>) -> Result<Broker, String> {
    let (broker, recovery) = Broker::recover(config.clone(), now, watched).map_err(in_words)?;
    if !recovery.lost.is_empty() {
        return Err(format!("recovery says that it lost {:?}", recovery.lost));
    }
    Ok(broker)
}

fn in_words(error: StoreError) -> String {
    format!("the store failed: {error}")
}

fn contents(store: &mut MemoryStore) -> Result<Vec<String>, String> {
    let mut watched = Watched::new(store);
    watched.recover(&mut |_| {}).map_err(in_words)?;
    Ok(watched.contents)
}

fn difference(found: &[String], expected: &[String]) -> String {
    let missing = expected.iter().find(|line| !found.contains(line));
    let beyond = found.iter().find(|line| !expected.contains(line));
    format!("the store came back with {beyond:?} and without {missing:?}")
}

/// A store that tells what it recovers.
#[derive(Debug)]
struct Watched<'s> {
    store: &'s mut dyn Store,
    contents: Vec<String>,
    mark: Mark,
}

impl<'s> Watched<'s> {
    fn new(store: &'s mut dyn Store) -> Self {
        Self {
            store,
            contents: Vec::new(),
            mark: Mark::default(),
        }
    }
}

impl Store for Watched<'_> {
    fn recover(&mut self, each: &mut dyn FnMut(Recovered)) -> Result<(), StoreError> {
        let (contents, mark) = (&mut self.contents, &mut self.mark);
        self.store.recover(&mut |recovered| {
            if let Recovered::Mark(found) = &recovered {
                // That of the last batch, or of the last that had changes.
                *mark = *found;
            } else {
                contents.push(format!("{recovered:?}"));
            }
            each(recovered);
        })?;
        self.contents.sort_unstable();
        Ok(())
    }

    fn commit(
        &mut self,
        group: &mut Vec<StoreBatch>,
    ) -> Result<paloma_broker::store::Committed, StoreError> {
        self.store.commit(group)
    }

    fn read_queue(&mut self, request: &LoadRequest) -> Result<Loaded, StoreError> {
        self.store.read_queue(request)
    }
}
