//! What an operator may ask of a running broker, from anywhere and for as long as it lives.

use std::fmt;
use std::sync::Arc;

use paloma_broker::Statistics;

use crate::failure::Failure;
use crate::running::Counts;
use crate::shared::Shared;

/// A handle to a broker's counters: cheap to clone, and harmless to keep after the broker has ended.
#[derive(Clone)]
pub struct Monitor {
    shared: Arc<Shared>,
}

impl Monitor {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Everything that the core counts, at one moment; takes the broker's lock once.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.shared.statistics()
    }

    /// What the adapter itself has counted.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.counters.counts()
    }

    /// Why the broker has failed, if it has.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        self.shared.failure.borrow().clone()
    }

    /// Whether clients are let in: the broker has not failed and is not stopping. Takes the broker's lock, so an answer
    /// also says that turns are being made.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.failure().is_none() && !self.shared.look(|core, _| core.broker.is_stopping())
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").finish_non_exhaustive()
    }
}
