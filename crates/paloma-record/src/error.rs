//! What can be wrong with a record.

use std::fmt;

/// Why a record cannot be read on. Everything before the offset is as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordError {
    /// It does not begin as a record of this version begins.
    NotARecord,
    /// It ends within a block: the broker was killed, or the file was cut.
    CutShort {
        /// Where the block begins, in bytes.
        offset: u64,
    },
    /// A block is not what was written.
    Checksum {
        /// Where the block begins, in bytes.
        offset: u64,
    },
    /// A block is whole, and something in it is not what any recorder writes.
    Damaged {
        /// Where that begins, in bytes.
        offset: u64,
    },
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotARecord => f.write_str("not a record of this version"),
            Self::CutShort { offset } => {
                write!(f, "the record is cut short in the block at byte {offset}")
            }
            Self::Checksum { offset } => {
                write!(f, "the block at byte {offset} is not what was written")
            }
            Self::Damaged { offset } => write!(f, "what stands at byte {offset} is no input"),
        }
    }
}

impl std::error::Error for RecordError {}

/// Why a replay cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplayError {
    /// The record ends here.
    Record(RecordError),
    /// The core asked the rules otherwise than the one that was recorded.
    Rules {
        /// In this step.
        step: u64,
    },
    /// The core gave other outputs than the one that was recorded, in this step or since the hashes were last compared.
    Outputs {
        /// After this step.
        step: u64,
        /// The hash that was recorded.
        recorded: u64,
        /// The hash of this replay.
        replayed: u64,
    },
    /// The core panicked: if the recorded one did too, this is the crash.
    Panicked {
        /// In this step.
        step: u64,
    },
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record(error) => error.fmt(f),
            Self::Rules { step } => {
                write!(
                    f,
                    "step {step} asks the rules otherwise than when it was recorded"
                )
            }
            Self::Outputs {
                step,
                recorded,
                replayed,
            } => write!(
                f,
                "at step {step} the outputs are others than when it was recorded: {replayed:016x}, not {recorded:016x}"
            ),
            Self::Panicked { step } => write!(f, "the broker panics in step {step}"),
        }
    }
}

impl std::error::Error for ReplayError {}

impl From<RecordError> for ReplayError {
    fn from(error: RecordError) -> Self {
        Self::Record(error)
    }
}
