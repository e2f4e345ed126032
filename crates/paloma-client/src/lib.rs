//! A small MQTT client on tokio, over the client role of paloma-session.
#![doc = include_str!("../README.md")]

mod backoff;
mod client;
mod clock;
mod connector;
mod error;
mod link;
mod message;
mod options;
mod pending;
mod remote;
mod task;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "websocket")]
mod websocket;

pub use paloma_codec as codec;
pub use paloma_topic as topic;

pub use backoff::Backoff;
pub use client::{Acknowledgement, Client, Messages, State};
pub use connector::{Connector, Tcp};
pub use error::{ConnectionError, IoError, PublishError, RequestError};
pub use message::{Publication, Received};
pub use options::Options;
pub use paloma_session::{DropCause, QueueLimits, Violation, WhenFull};
pub use remote::{Remote, RemoteStream, UrlError};
#[cfg(feature = "tls")]
pub use tls::{Tls, TlsFiles};
