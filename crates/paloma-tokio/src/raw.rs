//! What the operating system accepts, before anything is said over it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::runtime::Handle;

use crate::socket::Socket;

/// When a silent peer is first probed, how often, and how many probes it may miss.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_RETRIES: u32 = 4;

/// Whether a socket is accepted with the options of the one that listens: five system calls less for each connection.
const OPTIONS_ARE_INHERITED: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// A connected socket.
#[derive(Debug)]
pub(crate) enum Raw {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Raw {
    /// Sets the options that were not set where it was accepted.
    pub(crate) fn set_up(&self) -> io::Result<()> {
        match self {
            Self::Tcp(_) if OPTIONS_ARE_INHERITED => Ok(()),
            Self::Tcp(stream) => set_options(&SockRef::from(stream)),
            #[cfg(unix)]
            Self::Unix(_) => Ok(()),
        }
    }

    /// Moves the socket to another runtime.
    pub(crate) fn hand_out(self, target: &Handle) -> io::Result<Self> {
        match self {
            Self::Tcp(stream) => {
                let stream = stream.into_std()?;
                let _context = target.enter();
                TcpStream::from_std(stream).map(Self::Tcp)
            }
            #[cfg(unix)]
            Self::Unix(stream) => {
                let stream = stream.into_std()?;
                let _context = target.enter();
                UnixStream::from_std(stream).map(Self::Unix)
            }
        }
    }

    /// The same as a connection's transport.
    pub(crate) fn into_socket(self) -> Socket {
        match self {
            Self::Tcp(stream) => Socket::Tcp(stream),
            #[cfg(unix)]
            Self::Unix(stream) => Socket::Unix(stream),
        }
    }
}

/// Sets the options of a TCP socket before it listens, for all that it accepts. Where they do not go over,
/// [`Raw::set_up`] sets them.
pub(crate) fn set_up_listening(socket: &SockRef<'_>) -> io::Result<()> {
    if OPTIONS_ARE_INHERITED {
        set_options(socket)
    } else {
        Ok(())
    }
}

/// Small writes go out at once, and a peer that has vanished is found.
fn set_options(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL);
    #[cfg(not(windows))]
    let keepalive = keepalive.with_retries(KEEPALIVE_RETRIES);
    socket.set_tcp_keepalive(&keepalive)
}

impl AsyncRead for Raw {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Raw {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::bound::Bound;
    use crate::listener::ListenAddress;

    /// Cases C2 and C3: a peer that has vanished is found even if it promised no keep alive.
    #[tokio::test]
    async fn tcp_finds_vanished_peers_and_sends_small_writes_at_once() {
        let anywhere = ListenAddress::Tcp("127.0.0.1:0".parse().unwrap());
        let bound = Bound::bind(&anywhere).unwrap();
        let ListenAddress::Tcp(address) = bound.local_address(&anywhere).unwrap() else {
            unreachable!("it was bound over TCP");
        };
        let _client = TcpStream::connect(address).await.unwrap();
        let (raw, _) = poll_fn(|cx| bound.poll_accept(cx)).await.unwrap();
        raw.set_up().unwrap();
        let Raw::Tcp(stream) = raw else {
            unreachable!("it was made of TCP");
        };
        assert!(stream.nodelay().unwrap());
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_IDLE);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE_INTERVAL);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), KEEPALIVE_RETRIES);
    }
}
