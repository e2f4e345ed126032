//! How a test ends.

use std::fmt;
use std::io;
use std::panic::Location;

use paloma_codec::{DecodeError, EncodeError};

/// What a test returns: nothing, or why it stopped.
pub type Verdict<T = ()> = Result<T, Stop>;

/// Why a test did not get to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The broker did something else than the statement asks for.
    Failed {
        /// What was wanted, and what came.
        problem: String,
        /// Where in the suite.
        place: String,
    },
    /// The broker has said that it lacks what the test is about.
    NotApplicable(String),
}

impl Stop {
    /// A failure at the caller's place.
    #[track_caller]
    #[must_use]
    pub fn failed(problem: impl Into<String>) -> Self {
        Self::Failed {
            problem: problem.into(),
            place: place(),
        }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed { problem, place } => write!(f, "{problem} ({place})"),
            Self::NotApplicable(reason) => f.write_str(reason),
        }
    }
}

impl From<io::Error> for Stop {
    #[track_caller]
    fn from(error: io::Error) -> Self {
        Self::failed(format!("the connection: {error}"))
    }
}

impl From<EncodeError> for Stop {
    #[track_caller]
    fn from(error: EncodeError) -> Self {
        Self::failed(format!("the suite cannot encode its packet: {error}"))
    }
}

impl From<DecodeError> for Stop {
    #[track_caller]
    fn from(error: DecodeError) -> Self {
        Self::failed(format!("the broker has sent a malformed packet: {error}"))
    }
}

/// Fails unless both are the same.
///
/// # Errors
/// They differ.
#[track_caller]
pub fn same<T: fmt::Debug + PartialEq<U>, U: fmt::Debug>(what: &str, got: T, wanted: U) -> Verdict {
    if got == wanted {
        Ok(())
    } else {
        Err(Stop::failed(format!("{what} is {got:?}, not {wanted:?}")))
    }
}

/// Fails unless the condition holds.
///
/// # Errors
/// It does not.
#[track_caller]
pub fn ensure(holds: bool, problem: impl Into<String>) -> Verdict {
    if holds {
        Ok(())
    } else {
        Err(Stop::failed(problem))
    }
}

#[track_caller]
fn place() -> String {
    let at = Location::caller();
    let file = at.file().rsplit('/').next().unwrap_or_default();
    format!("{file}:{}", at.line())
}
