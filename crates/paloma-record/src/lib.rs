//! What a broker took in, written down so that another one can be driven to the same state.
#![doc = include_str!("../README.md")]

mod describe;
mod digest;
mod error;
mod event;
mod file;
mod recorder;
mod redact;
mod replay;
mod rules;
mod state;
mod tap;

pub use error::{RecordError, ReplayError};
pub use file::{HEADER, seal};
pub use recorder::{Ended, Settings};
pub use replay::{Replay, Step, check};
pub use tap::Tap;
