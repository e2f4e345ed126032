//! The MQTT session protocol of one connection, both roles, without I/O.
#![doc = include_str!("../README.md")]
#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod client;
pub mod server;

mod alias;
mod answers;
mod assigned;
mod authentication;
mod connection;
mod ending;
mod event;
mod gate;
mod id_sets;
mod inbound;
mod keep_alive;
mod outbound;
mod outgoing;
mod queue;
mod received;
mod requests;
mod session;
mod terms;
mod time;
mod transmit;
mod violation;
mod wall;
mod window;

pub use connection::Connection;
pub use ending::{Closed, WillFate};
pub use event::{Event, Inbound, InboundTopic, Receipt, Step};
pub use gate::{Gate, LogSeq};
pub use keep_alive::{KeepAlive, Timeout, TimeoutReason};
pub use outbound::Outbound;
pub use queue::{Pushed, Queue, QueueLimits, WhenFull};
pub use received::ReceivedIds;
pub use requests::RequestError;
pub use session::{Leftover, Session, SubscriptionIdList};
pub use terms::{Options, Role, Terms};
pub use time::{Monotonic, Now, Wall};
pub use transmit::{Counts, DropCause, Dropped, Sent, Transmit, TransmitStatus};
pub use violation::Violation;
pub use wall::WallClock;
pub use window::{Flight, SendWindow};
