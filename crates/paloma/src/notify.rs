//! Word to the service manager, by systemd's protocol: a datagram to the socket that `NOTIFY_SOCKET` names.
//!
//! It is a few lines over std, so no library is used for it. Without the variable every call does nothing.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A way to the service manager, if there is one.
#[derive(Debug)]
pub(crate) struct Notifier {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// What the process's environment says.
    pub(crate) fn from_environment() -> Self {
        let socket = std::env::var_os("NOTIFY_SOCKET").and_then(|path| match open(&path) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::warn!(%error, "NOTIFY_SOCKET names no socket");
                None
            }
        });
        let own = std::process::id().to_string();
        let is_meant = std::env::var("WATCHDOG_PID").map_or(true, |pid| pid == own);
        let watchdog = std::env::var("WATCHDOG_USEC").ok();
        let watchdog = watchdog
            .and_then(|usec| usec.parse().ok())
            .filter(|usec| *usec > 0 && is_meant)
            .map(Duration::from_micros);
        Self { socket, watchdog }
    }

    /// The broker serves clients.
    pub(crate) fn ready(&self) {
        self.tell("READY=1");
    }

    /// The configuration is being read again; [`ready`](Self::ready) ends that.
    pub(crate) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = Duration::try_from(now).unwrap_or_default().as_micros();
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// The broker takes its leave.
    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// The broker makes turns.
    pub(crate) fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    /// How often to say that it is alive: twice in the time after which the manager gives up.
    pub(crate) fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog
            .filter(|_| self.socket.is_some())
            .map(|timeout| timeout / 2)
    }

    fn tell(&self, state: &str) {
        if let Some((socket, address)) = &self.socket
            && let Err(error) = socket.send_to_addr(state.as_bytes(), address)
        {
            tracing::warn!(%error, state, "the service manager does not listen");
        }
    }
}

fn open(path: &OsString) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(path)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}
