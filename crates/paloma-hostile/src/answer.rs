//! What a broker answers, counted, and held against what it should have answered.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use paloma_interop::raw::{Frame, RawClient};

/// How long one answer may take: ten times what a busy machine needs.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Unexpected answers that are told in words; the rest is only counted.
const TOLD_MAX: usize = 5;

/// One answer, as far as an attacker tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// CONNACK with its code.
    ConnAck(u8),
    /// DISCONNECT with its code.
    Disconnect(u8),
    /// One code of a SUBACK.
    SubAck(u8),
    /// PUBACK with its code.
    PubAck(u8),
    /// PUBREC with its code.
    PubRec(u8),
    /// PINGRESP.
    Pong,
    /// A message.
    Publish,
    /// Any other packet, by its first byte.
    Packet(u8),
    /// The connection ended.
    Closed,
    /// Nothing, and the connection stays open.
    Silence,
    /// What the case at hand asks for, whatever that is.
    AsAsked,
}

impl Answer {
    /// The next packet or end of a connection, within `patience`.
    #[must_use]
    pub fn within(client: &mut RawClient, patience: Duration) -> Self {
        match client.frame_within(patience) {
            None => Self::Silence,
            Some(None) => Self::Closed,
            Some(Some(frame)) => Self::of(&frame, client),
        }
    }

    /// The next packet or end of a connection.
    #[must_use]
    pub fn next(client: &mut RawClient) -> Self {
        Self::within(client, ANSWER_MAX)
    }

    fn of(frame: &Frame, client: &RawClient) -> Self {
        match frame.first {
            0x20 => Self::ConnAck(frame.connack_reason().unwrap_or(0)),
            0x40 => Self::PubAck(frame.ack_reason()),
            0x50 => Self::PubRec(frame.ack_reason()),
            0x90 => Self::SubAck(frame.codes(client.version()).first().copied().unwrap_or(0)),
            0xD0 => Self::Pong,
            0xE0 => Self::Disconnect(frame.disconnect_reason().unwrap_or(0)),
            first if first & 0xF0 == 0x30 => Self::Publish,
            first => Self::Packet(first),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConnAck(code) => write!(f, "CONNACK {code:#04x}"),
            Self::Disconnect(code) => write!(f, "DISCONNECT {code:#04x}"),
            Self::SubAck(code) => write!(f, "SUBACK {code:#04x}"),
            Self::PubAck(code) => write!(f, "PUBACK {code:#04x}"),
            Self::PubRec(code) => write!(f, "PUBREC {code:#04x}"),
            Self::Pong => f.write_str("PINGRESP"),
            Self::Publish => f.write_str("PUBLISH"),
            Self::Packet(first) => write!(f, "packet {first:#04x}"),
            Self::Closed => f.write_str("closed"),
            Self::Silence => f.write_str("still open"),
            Self::AsAsked => f.write_str("as the case asks"),
        }
    }
}

/// What came of one actor's turns.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Things tried: connections, packets or cases, as the actor counts.
    pub attempts: u64,
    /// Answers by kind.
    pub answers: BTreeMap<Answer, u64>,
    /// Answers, and other things, that were not as they must be.
    pub unexpected: u64,
    /// The first few of them in words.
    pub told: Vec<String>,
    /// Figures worth a word, not judged.
    pub notes: Vec<String>,
}

impl Tally {
    /// Counts an answer that must be one of `allowed`.
    pub fn expect(&mut self, what: &str, answer: Answer, allowed: &[Answer]) {
        self.count(answer);
        if !allowed.contains(&answer) {
            self.complain(format!("{what}: {answer}"));
        }
    }

    /// Counts an answer.
    pub fn count(&mut self, answer: Answer) {
        *self.answers.entry(answer).or_default() += 1;
    }

    /// Notes something that must not be.
    pub fn complain(&mut self, what: String) {
        self.unexpected += 1;
        if self.told.len() < TOLD_MAX {
            self.told.push(what);
        }
    }

    /// Complains unless `holds`.
    pub fn require(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.complain(what());
        }
    }

    /// Adds another turn's.
    pub fn add(&mut self, other: Self) {
        self.attempts += other.attempts;
        self.unexpected += other.unexpected;
        for (answer, count) in other.answers {
            *self.answers.entry(answer).or_default() += count;
        }
        let room = TOLD_MAX.saturating_sub(self.told.len());
        self.told.extend(other.told.into_iter().take(room));
        // Figures of the last turn stand for all.
        if !other.notes.is_empty() {
            self.notes = other.notes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_not_allowed_is_counted_and_told() {
        let mut tally = Tally::default();
        tally.expect("x", Answer::Closed, &[Answer::Closed, Answer::Pong]);
        assert_eq!((tally.unexpected, tally.told.len()), (0, 0));
        tally.expect("x", Answer::Disconnect(0x81), &[Answer::Closed]);
        assert_eq!(tally.told, ["x: DISCONNECT 0x81"]);
        assert_eq!(tally.answers.values().sum::<u64>(), 2);
    }

    #[test]
    fn sums_keep_counts_and_the_first_complaints() {
        let mut sum = Tally::default();
        for number in 0..TOLD_MAX + 3 {
            let mut turn = Tally {
                attempts: 2,
                ..Tally::default()
            };
            turn.expect(&number.to_string(), Answer::Silence, &[]);
            sum.add(turn);
        }
        assert_eq!((sum.attempts, sum.unexpected), (16, 8));
        assert_eq!(sum.told.len(), TOLD_MAX);
        assert_eq!(sum.answers.get(&Answer::Silence), Some(&8));
    }
}
