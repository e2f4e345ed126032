//! MQTT topic names, topic filters, matching and a wildcard trie.
//!
#![doc = include_str!("../README.md")]
#![no_std]

extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

mod error;
mod filter;
mod limits;
mod name;
mod target;
#[cfg(test)]
mod testing;
mod text;

pub use error::TopicError;
pub use filter::{TopicFilter, TopicFilterRef};
pub use limits::TopicLimits;
pub use name::{TopicName, TopicNameRef};
pub use target::{ShareName, ShareNameRef, Target, TargetRef};
