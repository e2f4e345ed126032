//! What time it can be for the broker, by how the wall clock was set.

/// A step forward by more seconds than this, a leap year's, is not believed: no time has passed then.
const FORWARD_SECONDS_MAX: i64 = 366 * 24 * 3_600;
/// Nor is a step back by more than this.
const BACK_SECONDS_MAX: i64 = 3_600;

/// By how many seconds the broker's time can be ahead of one that nobody sets, over the time of a history. A broker that
/// starts compares the clock with the time of its last commit, which may be any that it had: an hour that was set together
/// with ten years counts when the ten years are gone again.
#[derive(Default)]
pub(super) struct Clock {
    /// Those of the machine's clock.
    set_by: i64,
    is_off: bool,
    /// Since when, and what the broker's can be, ascending.
    spans: Vec<(usize, Vec<i64>)>,
    /// What it can have been at any commit of this process or of the one it started from.
    marks: Vec<i64>,
}

impl Clock {
    pub(super) fn set(&mut self, time: usize, seconds: i64) {
        self.set_by += seconds;
        if self.is_off || !is_believed(seconds) {
            return;
        }
        let shifted = self.last().iter().map(|at| at + seconds).collect();
        self.enter(time, shifted);
    }

    pub(super) fn stop(&mut self) {
        self.is_off = true;
    }

    pub(super) fn start(&mut self, time: usize) {
        self.is_off = false;
        if self.marks.is_empty() {
            self.marks = self.last();
        }
        let set_by = self.set_by;
        let believed = |mark: &i64| match is_believed(set_by - mark) {
            true => set_by,
            false => *mark,
        };
        let mut found: Vec<i64> = self.marks.iter().map(believed).collect();
        found.sort_unstable();
        found.dedup();
        self.enter(time, found);
    }

    /// The most seconds that can have passed for something that has come to the broker at this time or later.
    pub(super) fn passed_since(&self, time: usize) -> i64 {
        let first = self.spans.partition_point(|(since, _)| *since <= time);
        let mut lowest = match first.checked_sub(1) {
            Some(before) => low(&self.spans[before].1),
            None => 0,
        };
        let mut most = 0;
        for (_, span) in &self.spans[first..] {
            most = most.max(span.last().copied().unwrap_or_default() - lowest);
            lowest = lowest.min(low(span));
        }
        most
    }

    fn last(&self) -> Vec<i64> {
        self.spans.last().map_or(vec![0], |(_, span)| span.clone())
    }

    fn enter(&mut self, time: usize, span: Vec<i64>) {
        if self.marks.is_empty() {
            self.marks = self.last();
        }
        self.marks.extend(&span);
        self.marks.sort_unstable();
        self.marks.dedup();
        self.spans.push((time, span));
    }
}

fn low(span: &[i64]) -> i64 {
    span.first().copied().unwrap_or_default()
}

fn is_believed(seconds: i64) -> bool {
    (-BACK_SECONDS_MAX..=FORWARD_SECONDS_MAX).contains(&seconds)
}
