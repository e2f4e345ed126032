//! What the core wants of its store: at once from one that answers at once, or by way of its thread.

use std::sync::Arc;

use paloma_broker::store::{LoadRequest, StoreBatch};
use paloma_broker::{Reply, Statistics};
use paloma_session::Now;

use crate::failure::Failure;
use crate::flush;
use crate::links::Wakes;
use crate::shared::{Core, Shared};

/// Most connections that are written to by a thread that is not theirs.
const LINKS_HERE: usize = 2;

impl Core {
    pub(crate) fn persist(&mut self, shared: &Arc<Shared>, now: Now, batch: StoreBatch) -> bool {
        let Some(store) = &mut self.store else {
            if let Some(queue) = &shared.store
                && queue.commit(batch)
            {
                self.links.wake_store();
            }
            return false;
        };
        self.group.push(batch);
        match store.commit(&mut self.group) {
            Ok(committed) => self
                .broker
                .handle_reply(now, Reply::Committed(committed.seq)),
            Err(error) => self.failed = Some(Failure::Store(Arc::new(error))),
        }
        true
    }

    pub(crate) fn load(&mut self, shared: &Arc<Shared>, now: Now, request: LoadRequest) -> bool {
        let Some(store) = &mut self.store else {
            if let Some(queue) = &shared.store
                && queue.load(request)
            {
                self.links.wake_store();
            }
            return false;
        };
        match store.read_queue(&request) {
            Ok(loaded) => self.broker.handle_reply(now, Reply::Loaded(loaded)),
            Err(error) => self.failed = Some(Failure::Store(Arc::new(error))),
        }
        true
    }
}

impl Shared {
    pub(crate) fn reply(self: &Arc<Self>, reply: Reply) {
        self.turn(|core, now| core.broker.handle_reply(now, reply));
    }

    pub(crate) fn wake_store(&self) {
        if let Some(queue) = &self.store {
            queue.wake();
        }
    }

    /// A reply that hardly more than one connection waits for, from a thread with nothing better to do: it writes to the
    /// connection itself, which takes less time than waking another thread for it.
    pub(crate) fn reply_and_flush(self: &Arc<Self>, reply: Reply) {
        let flush = |mut wakes: Wakes| {
            let mut left = 0;
            for (index, shard) in (0..).zip(&self.shards) {
                if wakes.shards >> index & 1 == 1 {
                    let _context = shard.runtime.enter();
                    left |= u64::from(flush::flush(self, index, LINKS_HERE)) << index;
                }
            }
            wakes.shards = left;
            self.wake(wakes);
        };
        self.take_turn(|core, now| core.broker.handle_reply(now, reply), flush);
    }

    /// Has a store that answers at once make durable what is not, unless the broker has failed.
    pub(crate) fn close_store(&self) {
        let closed = self.look(|core, _| match &mut core.store {
            Some(store) if core.failed.is_none() => store.close(),
            Some(_) | None => Ok(()),
        });
        if let Err(error) = closed {
            self.fail(Failure::Store(Arc::new(error)));
        }
    }

    /// Everything that is counted, by the core and for the store.
    pub(crate) fn statistics(&self) -> Statistics {
        let mut statistics = self.look(|core, _| {
            let mut statistics = core.broker.statistics();
            if let Some(store) = &core.store {
                statistics.store.usage = store.usage();
            }
            statistics
        });
        if let Some(queue) = &self.store {
            let is_full = statistics.store.is_full;
            statistics.store = queue.statistics();
            statistics.store.is_full = is_full;
        }
        statistics
    }
}
