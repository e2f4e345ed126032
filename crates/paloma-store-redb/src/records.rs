//! Which journal records there are, and which are to be cleaned.

use std::collections::VecDeque;

/// The journal stays below this whatever it says.
const FREE_BYTES: u64 = 1 << 20;

/// So much is cleaned at once: cleaning in every commit would write the pages at the journal's beginning each time.
const CLEANED_BYTES: u64 = 8 << 10;

/// Keys and lengths of the journal's records, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Records {
    records: VecDeque<(u64, u32)>,
    bytes: u64,
    last: Option<u64>,
}

impl Records {
    /// The number of the last record; 0 if there is none.
    pub(crate) fn newest(&self) -> u64 {
        self.last.unwrap_or_default()
    }

    pub(crate) fn last(&self) -> Option<u64> {
        self.last
    }

    pub(crate) fn next(&self) -> u64 {
        self.last.map_or(1, |last| last.saturating_add(1))
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        self.records.capacity() as u64 * size_of::<(u64, u32)>() as u64
    }

    pub(crate) fn push(&mut self, key: u64, len: usize) {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        self.records.push_back((key, len));
        self.bytes += u64::from(len);
        self.last = Some(key);
    }

    /// How many of the oldest records are to be cleaned when `new_bytes` come, or fewer, and `live_bytes` of all are worth
    /// keeping. Twice what comes goes, so that the journal shrinks until half of it is worth keeping; small commits take turns.
    pub(crate) fn to_clean(&self, new_bytes: u64, live_bytes: u64) -> usize {
        let mut rest = self.bytes;
        let bound = live_bytes.saturating_mul(2).saturating_add(FREE_BYTES);
        let mut budget = new_bytes.saturating_mul(2).max(CLEANED_BYTES);
        if rest <= bound.saturating_add(CLEANED_BYTES) {
            return 0;
        }
        let mut count = 0;
        for (_, len) in &self.records {
            if rest <= bound || budget == 0 {
                break;
            }
            let len = u64::from(*len);
            rest = rest.saturating_sub(len);
            budget = budget.saturating_sub(len);
            count += 1;
        }
        count
    }

    /// The oldest records' keys.
    pub(crate) fn oldest(&self, count: usize) -> impl Iterator<Item = u64> {
        self.records.iter().take(count).map(|(key, _)| *key)
    }

    pub(crate) fn drop_oldest(&mut self, count: usize) {
        for (_, len) in self.records.drain(..count.min(self.records.len())) {
            self.bytes -= u64::from(len);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_stays_within_its_bound() {
        let live = 3 << 20;
        let mut records = Records::default();
        for _ in 0..100_000 {
            // Half of what is cleaned is written again.
            let cleaned = records.to_clean(1_000, live);
            let again: u64 =
                records.bytes() / 2 / records.records.len().max(1) as u64 * cleaned as u64;
            records.drop_oldest(cleaned);
            records.push(records.next(), 1_000 + usize::try_from(again).unwrap());
        }
        assert!(
            records.bytes() <= 2 * live + FREE_BYTES + CLEANED_BYTES + 10_000,
            "{}",
            records.bytes()
        );
        assert!(records.bytes() >= live);
    }

    #[test]
    fn a_small_journal_is_left_alone() {
        let mut records = Records::default();
        records.push(1, 1_000);
        assert_eq!(records.to_clean(1_000, 0), 0);
    }
}
