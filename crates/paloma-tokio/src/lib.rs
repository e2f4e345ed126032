//! Paloma on tokio: listeners, connections, timers, and a broker to embed.
#![doc = include_str!("../README.md")]

mod clock;
mod config;
mod connection;

mod flush;
pub mod framed;
mod input;
mod links;
mod listen;
mod running;
mod shared;
mod socket;
mod store;
mod timer;
mod wake;

pub use config::{Config, Listener};
pub use running::{Broker, Counts, Running, serve};
pub use shared::Failure;
pub use socket::Stream;
