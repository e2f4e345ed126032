//! What the core wants of its store: at once from one that answers at once, or by way of its thread.

use std::sync::Arc;

use paloma_broker::store::{LoadRequest, StoreBatch};
use paloma_broker::{Reply, Statistics};
use paloma_session::Now;

use crate::failure::Failure;
use crate::shared::{Core, Shared};

impl Core {
    pub(crate) fn persist(&mut self, shared: &Arc<Shared>, now: Now, batch: StoreBatch) -> bool {
        let Some(store) = &mut self.store else {
            if let Some(queue) = &shared.store {
                queue.commit(batch);
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
            if let Some(queue) = &shared.store {
                queue.load(request);
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
