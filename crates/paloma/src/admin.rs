//! The administration listener of `paloma serve`, and what it is asked for.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use paloma_admin::{Health, Snapshot, Source};
use paloma_tokio::{Listeners, Monitor};

use crate::config::Admin;

/// Binds the listener that the configuration names. An address that is taken is an error only if somebody chose it:
/// a second broker on a machine starts without.
///
/// # Errors
/// It cannot listen there.
pub(crate) fn bind(admin: &Admin) -> io::Result<Option<TcpListener>> {
    let Some(address) = &admin.address else {
        return Ok(None);
    };
    let bind = || {
        let addresses: Vec<SocketAddr> = address
            .host_and_port()
            .ok_or(io::ErrorKind::Unsupported)?
            .to_socket_addrs()?
            .collect();
        let listener = TcpListener::bind(addresses.as_slice())?;
        listener.set_nonblocking(true)?;
        io::Result::Ok(listener)
    };
    match bind() {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if !admin.is_explicit => {
            tracing::warn!(%address, %error, "no administration listener");
            Ok(None)
        }
        Err(error) => {
            let message = format!("cannot listen on {address} ([admin] address): {error}");
            Err(io::Error::new(error.kind(), message))
        }
    }
}

/// Answers on `listener`, as a task of the current runtime.
///
/// # Errors
/// The listener cannot be made the runtime's.
pub(crate) fn start(
    listener: TcpListener,
    running: &paloma_tokio::Running,
    node: &str,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    if !address.ip().to_canonical().is_loopback() {
        tracing::warn!(%address, "the administration listener can be reached from other machines and asks for no password");
    }
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let source = Arc::new(Running {
        monitor: running.monitor(),
        listeners: running.listeners().clone(),
        node: node.to_owned(),
    });
    tokio::spawn(paloma_admin::serve(listener, source));
    eprintln!("paloma: metrics on http://{address}/metrics");
    Ok(())
}

/// A broker that runs, as the listener knows it.
#[derive(Debug)]
struct Running {
    monitor: Monitor,
    listeners: Listeners,
    node: String,
}

impl Running {
    /// By the listener, the second at which its certificate expires.
    fn certificates(&self) -> Vec<(String, u64)> {
        let certificates = self.listeners.certificates().into_iter();
        certificates
            .map(|(listener, expires_at)| {
                let since_epoch = expires_at.duration_since(UNIX_EPOCH).unwrap_or_default();
                (listener.to_string(), since_epoch.as_secs())
            })
            .collect()
    }
}

impl Source for Running {
    fn snapshot(&self) -> Snapshot {
        let statistics = self.monitor.statistics();
        let counts = self.monitor.counts();
        let early = paloma_broker::Refusal::ALL.map(|refusal| statistics.traffic.refused(refusal));
        Snapshot {
            // The adapter counts the core's refusals too.
            listener_full: counts.refused.saturating_sub(early.iter().sum()),
            statistics,
            panics: counts.panics,
            accept_errors: counts.accept_errors,
            stalled: counts.stalled,
            handshakes_failed: counts.handshakes_failed,
            records_ended: counts.records_ended,
            certificates: self.certificates(),
            node: self.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    fn health(&self) -> Health {
        if self.monitor.failure().is_some() {
            Health::Failed
        } else if self.monitor.is_ready() {
            Health::Ready
        } else {
            Health::NotReady
        }
    }
}
