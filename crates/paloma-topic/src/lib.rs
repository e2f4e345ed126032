//! MQTT topic names, topic filters, matching and a wildcard trie.
//!
#![doc = include_str!("../README.md")]
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod error;
mod fault;
mod filter;
mod hash;
mod index;
mod level;
mod limits;
mod map;
mod name;
mod pages;
mod short;
mod slab;
mod target;
#[cfg(test)]
mod testing;
mod text;
mod trie;
mod wild;

pub use error::TopicError;
#[doc(hidden)]
pub use fault::Fault;
pub use filter::{TopicFilter, TopicFilterRef};
pub use hash::{HashSeed, Hashed, Hashing};
pub use index::Index;
pub use limits::TopicLimits;
pub use map::{Cursor, TopicMap, Walk};
pub use name::{TopicName, TopicNameRef};
pub use pages::Pages;
pub use target::{ShareName, ShareNameRef, Target, TargetRef};
pub use trie::{FilterId, FilterTrie};
