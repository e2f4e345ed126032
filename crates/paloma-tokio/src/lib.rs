//! Paloma on tokio: listeners, connections, timers, and a broker to embed.
#![doc = include_str!("../README.md")]

mod arrivals;
mod authentications;
mod bound;
mod clock;
mod config;
mod connection;
mod control;
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
mod record;
mod report;
mod running;
mod shared;
mod socket;
mod store;
mod stored;
mod timer;
mod tls;
mod traces;
mod wake;
pub mod websocket;

#[cfg(unix)]
pub use bound::{SocketFile, bind_unix};
pub use config::Config;
pub use control::{Client, Control};
pub use failure::Failure;
pub use listener::{ListenAddress, Listener};
pub use listeners::Listeners;
pub use monitor::Monitor;
pub use network::{Network, NetworkError};
pub use record::Record;
pub use running::{Broker, Counts, Running, serve};
pub use socket::Stream;
pub use tls::{
    CertificateIdentity, ClientAuthority, ClientCertificates, NameError, Tls, TlsError, TlsFiles,
};
pub use traces::Trace;
