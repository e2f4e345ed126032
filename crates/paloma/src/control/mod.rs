//! The control socket: what an operator asks a broker that runs, on the same machine and with the same rights.
//!
//! A connection is one question, a line of JSON, and its answer: lines of JSON, each `{"say": TEXT}`, or `{"end": CODE}` as
//! the last one. The socket is its owner's alone (mode 0600), and who asks has to be the broker's user or root: names and
//! topics of clients are nobody else's business.

mod ask;
mod say;
mod server;

pub(crate) use self::ask::{check, trace, why};
pub(crate) use self::server::{Request, bind, start};

/// All is well.
const END_WELL: u64 = 0;
/// The question could not be answered.
const END_FAILED: u64 = 1;
/// The configuration is wrong.
const END_WRONG: u64 = 2;
/// Somebody would be cut off or lose a right.
const END_AFFECTED: u64 = 3;
