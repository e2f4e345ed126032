//! An MQTT broker as one value: who gets what, without I/O.
//!
//! [`Broker`] owns sessions, subscriptions, retained messages, wills, timers and limits. It has no clock, socket,
//! thread or file: time and packets are arguments, and what should happen comes out as [`Effect`]s and as bytes in a
//! [`Transmit`](paloma_session::Transmit). Whoever drives it repeats one *turn*:
//!
//! 1. inputs: any number of [`Broker::handle_packet`], [`handle_reply`](Broker::handle_reply),
//!    [`handle_timeout`](Broker::handle_timeout), …;
//! 2. [`Broker::finish_turn`], which runs paced jobs and closes the turn's store batch;
//! 3. outputs: [`Broker::poll_effect`] until it is empty, [`Broker::poll_transmit`] for each connection named by
//!    [`Effect::Transmit`], and [`Broker::poll_timeout`] for when to come back.
#![doc = include_str!("../README.md")]

mod accounting;
mod auth;
mod broker;
mod client_id;
mod connection;
mod directory;
mod effect;
mod explain;
mod limits;
mod memory;
mod mount;
mod notice;
mod principal;
mod rate;
mod retained;
mod session;
mod shared;
mod slab;
mod statistics;
pub mod store;
mod subscriptions;
mod tag;
mod timers;
mod trace;
pub mod wire;

pub use accounting::{Accounting, DropCause};
pub use auth::{
    Action, Admission, AllowAll, AuthOutcome, AuthRequest, Authenticator, Authorizer, Grant,
    Identity,
};
pub use broker::{Behaviour, Broker, BrokerConfig, Client, Recovery, SessionView, Tables};
pub use connection::{ConnectionId, ConnectionInfo, ListenerTerms, Transport};
pub use effect::{CloseCause, Effect, Refusal, Reply};
pub use explain::{Explanation, FilterMatch, Obstacle, OnTheWay, SessionState};
pub use limits::{Limits, QueueWhenFull};
pub use mount::{MountPoint, MountPointError};
pub use notice::{Notice, Offence};
pub use statistics::{Histogram, Statistics, StoreStatistics, Traffic};
pub use store::{MemoryStore, Store, StoreBatch, StoreError};
pub use trace::{TraceEvent, TraceId, TraceTarget, Traced, Verdict};
