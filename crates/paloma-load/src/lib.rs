//! Measures MQTT brokers: scenarios, the engine that runs them, reports, and a reference server.

pub mod broker;
pub mod compare;
pub mod crowd;
mod engine;
mod error;
pub mod floor;
mod frames;
pub mod packet;
mod plan;
pub mod probe;
pub mod report;
pub mod retained;
pub mod scenario;
pub mod setup;

pub use engine::{Growth, Load, Outcome, run};
pub use error::LoadError;
pub use plan::{Plan, PublisherPlan, Shape, SubscriberPlan};
