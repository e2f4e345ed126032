//! What must hold, and what was found not to.

use std::fmt;

/// What must hold in every world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// Who is owed a message gets it, as published and as granted, unless that is counted as dropped; nobody else does.
    I1,
    /// QoS 2 comes exactly once.
    I2,
    /// Order per publisher, topic and QoS; answers in the order of what they answer.
    I3,
    /// Nothing is delivered that the rules forbid.
    I4,
    /// Packet ids are unique in flight, and Receive Maximum is kept.
    I5,
    /// Session Present tells the truth, and a session has one connection.
    I6,
    /// Everything stays within its limit.
    I7,
    /// A will is sent once or not at all, by the rules.
    I8,
    /// The counters add up.
    I9,
    /// Once faults stop, what is owed is delivered and every exchange ends.
    I10,
    /// Recovery opens what a crash leaves, and nothing acknowledged is lost.
    I11,
    /// The same seed gives the same trace.
    I12,
    /// After everyone has left, every table is empty.
    I13,
    /// The broker never panics, and says nothing that the protocol forbids.
    Protocol,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One of them did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which one.
    pub invariant: Invariant,
    /// Nanoseconds of the world's life.
    pub at: u64,
    /// What was seen, in a sentence.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = crate::trace::Seconds(self.at);
        write!(
            f,
            "{:?} at {}: {}",
            self.invariant,
            at.to_string().trim_start(),
            self.what
        )
    }
}
