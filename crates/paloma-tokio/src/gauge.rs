//! Bytes that connections hold outside the core, for its memory account.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What all connections of one broker hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gauge(Arc<AtomicU64>);

impl Gauge {
    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Somebody who held `before` bytes holds `after` now.
    pub(crate) fn change(&self, before: usize, after: usize) {
        if after > before {
            self.0.fetch_add((after - before) as u64, Ordering::Relaxed);
        } else if before > after {
            self.0.fetch_sub((before - after) as u64, Ordering::Relaxed);
        }
    }

    /// Counts bytes for as long as what is returned lives.
    pub(crate) fn charge(&self, bytes: usize) -> Charge {
        self.change(0, bytes);
        Charge {
            gauge: self.clone(),
            bytes,
        }
    }
}

/// Bytes that are counted until this is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    gauge: Gauge,
    bytes: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.gauge.change(self.bytes, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_goes_with_what_it_is_for() {
        let gauge = Gauge::default();
        let charge = gauge.charge(100);
        gauge.change(0, 7);
        assert_eq!(gauge.bytes(), 107);
        drop(charge);
        gauge.change(7, 3);
        assert_eq!(gauge.bytes(), 3);
    }
}
