//! Which commit of the caller's log an answer waits for.

/// A position in the caller's log of commits. The first commit is 1: 0 means that nothing was committed yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogSeq(pub u64);

impl LogSeq {
    /// Before the first commit.
    pub const ZERO: Self = Self(0);
}

/// When an answer may leave: at once, or when the log is committed up to a position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Gate {
    /// It vouches for nothing that is stored.
    #[default]
    Open,
    /// It vouches for state in this commit, so it waits until the commit is durable.
    Until(LogSeq),
}

impl Gate {
    /// Whether an answer behind this gate may leave once the log is durable up to `committed`.
    #[must_use]
    pub const fn is_open(self, committed: LogSeq) -> bool {
        self.seq().0 <= committed.0
    }

    /// The later of two gates.
    #[must_use]
    pub const fn max(self, other: Self) -> Self {
        if self.seq().0 >= other.seq().0 {
            self
        } else {
            other
        }
    }

    /// The commit waited for; [`LogSeq::ZERO`] when open, so that a queued gate costs eight bytes.
    pub(crate) const fn seq(self) -> LogSeq {
        match self {
            Self::Open => LogSeq::ZERO,
            Self::Until(seq) => seq,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_opens_with_its_own_commit_and_not_before() {
        assert!(Gate::Open.is_open(LogSeq::ZERO));
        assert!(!Gate::Until(LogSeq(7)).is_open(LogSeq(6)));
        assert!(Gate::Until(LogSeq(7)).is_open(LogSeq(7)));
        assert_eq!(
            Gate::Open.max(Gate::Until(LogSeq(1))),
            Gate::Until(LogSeq(1))
        );
    }
}
