//! Measures MQTT brokers: shapes of traffic, the engine that runs them, and reports. With `compare` also several brokers in
//! rotation, and a reference server.
#![doc = include_str!("../README.md")]

#[cfg(feature = "compare")]
pub mod broker;
#[cfg(feature = "compare")]
pub mod compare;
pub mod crowd;
#[cfg(feature = "compare")]
pub mod durable;
mod engine;
mod error;
#[cfg(feature = "compare")]
pub mod floor;
mod frames;
pub mod link;
pub mod packet;
mod plan;
#[cfg(feature = "compare")]
mod plot;
pub mod probe;
pub mod report;
pub mod retained;
#[cfg(feature = "compare")]
pub mod scenario;
pub mod setup;
mod target;

pub use engine::{Growth, Load, Outcome, Progress, run, run_watched};
pub use error::LoadError;
pub use plan::{Plan, PublisherPlan, Shape, SubscriberPlan};
pub use target::Target;
