//! Paloma's administration listener: metrics, health and readiness over HTTP.
#![doc = include_str!("../README.md")]

mod metrics;
mod server;
mod source;

pub use metrics::encode;
pub use server::serve;
pub use source::{Health, Snapshot, Source};
