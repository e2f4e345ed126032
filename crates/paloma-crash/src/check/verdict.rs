//! What a judgement comes to.

use std::fmt;

/// Violations that are put into words; all are counted.
const WORDS_MAX: usize = 40;

/// What is wrong with a history, and how much was right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Messages that the broker had taken over.
    pub acknowledged: u64,
    /// Messages that it gave to subscribers, repetitions included.
    pub received: u64,
    /// Acknowledged but not delivered; lost sessions and retained messages too.
    pub lost: u64,
    /// Delivered more often than allowed.
    pub duplicated: u64,
    /// Delivered out of order.
    pub reordered: u64,
    /// Anything else.
    pub wrong: u64,
    /// What happened, with the time in the history.
    pub words: Vec<String>,
    /// The times at which messages that are lost were acknowledged, ascending.
    pub lost_at: Vec<usize>,
}

impl Verdict {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.lost + self.duplicated + self.reordered + self.wrong == 0
    }

    /// Adds the figures of another run.
    pub fn add(&mut self, other: &Self) {
        self.acknowledged += other.acknowledged;
        self.received += other.received;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.wrong += other.wrong;
        let room = WORDS_MAX.saturating_sub(self.words.len());
        self.words.extend(other.words.iter().take(room).cloned());
    }

    pub(super) fn say(&mut self, words: String) {
        if self.words.len() < WORDS_MAX {
            self.words.push(words);
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            acknowledged,
            lost,
            duplicated,
            reordered,
            wrong,
            ..
        } = self;
        write!(
            f,
            "acknowledged {acknowledged}, lost {lost}, duplicated {duplicated}, reordered {reordered}, wrong {wrong}"
        )
    }
}
