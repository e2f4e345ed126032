//! Listening sockets: how they are bound, what they accept, and what they leave behind.

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
#[cfg(unix)]
use std::sync::Arc;
use std::task::{Context, Poll};

use socket2::{Domain, Protocol, SockRef, Socket as RawSocket, Type};
use tokio::net::TcpListener;
#[cfg(unix)]
use tokio::net::UnixListener;

use crate::listener::ListenAddress;
use crate::raw::{Raw, set_up_listening};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4_096;

/// A socket that listens.
pub(crate) enum Bound {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix {
        listener: UnixListener,
        /// Goes when the last listener with this socket goes.
        file: Arc<SocketFile>,
    },
}

impl Bound {
    /// Binds on the current runtime.
    pub(crate) fn bind(address: &ListenAddress) -> io::Result<Self> {
        let bound = match address {
            ListenAddress::Tcp(address) => bind_tcp(*address).map(Self::Tcp),
            #[cfg(unix)]
            ListenAddress::Unix { path, mode } => {
                bind_unix(path, *mode).and_then(|(listener, file)| {
                    Ok(Self::Unix {
                        listener: UnixListener::from_std(listener)?,
                        file: Arc::new(file),
                    })
                })
            }
            #[cfg(not(unix))]
            ListenAddress::Unix { .. } => Err(io::ErrorKind::Unsupported.into()),
        };
        bound.map_err(|error| {
            io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
        })
    }

    /// The same socket once more, with all who wait to be accepted; on the current runtime. None of a Unix socket whose file
    /// is not where it was.
    pub(crate) fn share(&self) -> io::Result<Option<Self>> {
        Ok(match self {
            Self::Tcp(listener) => {
                let socket = SockRef::from(listener).try_clone()?;
                Some(Self::Tcp(TcpListener::from_std(socket.into())?))
            }
            #[cfg(unix)]
            Self::Unix { listener, file } if file.is_there() => {
                let socket = SockRef::from(listener).try_clone()?;
                Some(Self::Unix {
                    listener: UnixListener::from_std(socket.into())?,
                    file: Arc::clone(file),
                })
            }
            #[cfg(unix)]
            Self::Unix { .. } => None,
        })
    }

    /// Where it listens, with the port that it was given.
    pub(crate) fn local_address(&self, wanted: &ListenAddress) -> io::Result<ListenAddress> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(ListenAddress::Tcp),
            #[cfg(unix)]
            Self::Unix { .. } => Ok(wanted.clone()),
        }
    }

    /// The next connection, and its peer's address if it has one.
    pub(crate) fn poll_accept(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(Raw, Option<SocketAddr>)>> {
        match self {
            Self::Tcp(listener) => listener
                .poll_accept(cx)
                .map_ok(|(stream, peer)| (Raw::Tcp(stream), Some(peer))),
            #[cfg(unix)]
            Self::Unix { listener, .. } => listener
                .poll_accept(cx)
                .map_ok(|(stream, _)| (Raw::Unix(stream), None)),
        }
    }
}

impl fmt::Debug for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Where it listens is said beside it, and how the system's types say it takes kilobytes of a binary.
        f.debug_struct("Bound").finish_non_exhaustive()
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = RawSocket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        // Both families on one port are two listeners, on every system alike.
        socket.set_only_v6(true)?;
    }
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    set_up_listening(&SockRef::from(&socket))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// The file of a Unix socket, removed when this is dropped, unless another has taken its place.
#[cfg(unix)]
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

#[cfg(unix)]
impl SocketFile {
    /// Whether it is where it was made, and no other one.
    fn is_there(&self) -> bool {
        identity(&self.path).is_ok_and(|found| found == self.identity)
    }
}

#[cfg(unix)]
impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_there() {
            // Nothing can be done about a failure, and a stale file does no harm: the next start removes it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(unix)]
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;

    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Listens on a Unix socket whose file has this mode before anybody can connect. A file that is there already is
/// removed if it is a socket on which nobody listens.
///
/// # Errors
/// Somebody listens there, or the file cannot be made.
#[cfg(unix)]
pub fn bind_unix(
    path: &Path,
    mode: u32,
) -> io::Result<(std::os::unix::net::UnixListener, SocketFile)> {
    use std::os::unix::fs::PermissionsExt;

    let address = socket2::SockAddr::unix(path)?;
    let socket = RawSocket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.bind(&address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_stale(path, &address)?;
            socket.bind(&address)?;
        }
        result => result?,
    }
    let file = SocketFile {
        path: path.to_owned(),
        identity: identity(path)?,
    };
    // Nobody can connect before the socket listens, so nobody slips in under other permissions.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    socket.listen(BACKLOG)?;
    Ok((socket.into(), file))
}

/// Removes a socket file on which nobody listens.
#[cfg(unix)]
fn remove_stale(path: &Path, address: &socket2::SockAddr) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;

    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        let message = "a file that is no socket is there";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
    }
    let probe = RawSocket::new(Domain::UNIX, Type::STREAM, None)?;
    // A backlog that is full is somebody who listens.
    probe.set_nonblocking(true)?;
    match probe.connect(address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Ok(()) | Err(_) => Err(io::ErrorKind::AddrInUse.into()),
    }
}
