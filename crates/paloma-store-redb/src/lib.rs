//! Paloma's durable store: redb behind the broker's store port.
#![doc = include_str!("../README.md")]

mod backend;
mod background;
mod checkpoint;
mod directory;
pub mod disk;
mod engine;
mod error;
mod group;
mod index;
mod journal;
mod load;
mod log;
mod messages;
mod ops;
mod options;
mod record;
mod records;
mod recovery;
mod references;
mod rows;
mod store;
pub mod tools;

pub use error::OpenError;
pub use options::{Durability, Options, UnknownDurability};
pub use store::RedbStore;
