//! Paloma on tokio: listeners, connections, timers, and a broker to embed.
#![doc = include_str!("../README.md")]

mod arrivals;
mod authentications;
mod bound;
mod certificate_name;
mod clock;
mod config;
mod connection;
mod control;
mod counters;
mod establish;
mod failure;
mod flush;
pub mod framed;
mod gauge;
mod input;
mod lane;
mod links;
mod listen;
mod listener;
mod listeners;
mod monitor;
mod network;
pub mod proxy;
mod raw;
#[cfg(feature = "record")]
mod record;
#[cfg(not(feature = "record"))]
#[path = "no_record.rs"]
mod record;
mod record_config;
mod report;
mod running;
mod shared;
mod socket;
mod store;
mod stored;
mod timer;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "no_tls.rs"]
mod tls;
mod tls_files;
mod traces;
mod wake;
pub mod websocket;

pub use paloma_broker as broker;
pub use paloma_codec as codec;

#[cfg(unix)]
pub use bound::{SocketFile, bind_unix};
pub use certificate_name::NameError;
pub use config::Config;
pub use control::{Client, Control};
pub use failure::Failure;
pub use listener::{ListenAddress, Listener};
pub use listeners::Listeners;
pub use monitor::Monitor;
pub use network::{Network, NetworkError};
pub use record_config::Record;
pub use running::{Broker, Counts, Running, serve};
pub use socket::Stream;
pub use tls::{Tls, TlsError};
pub use tls_files::{CertificateIdentity, ClientAuthority, ClientCertificates, TlsFiles};
pub use traces::Trace;
