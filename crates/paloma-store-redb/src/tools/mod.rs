//! What an operator can do with a store that no broker uses.

mod check;
mod dump;
mod export;
mod import;
mod json;
mod repair;
mod source;

pub use check::{Compacted, Report, Stats, check, compact, stats};
pub use export::{export, export_to_file};
pub use import::{Fault, ImportError, import};
pub use repair::{Repaired, repair};
