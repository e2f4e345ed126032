//! One connection's bytes, whatever carries them: TCP, TLS, or a WebSocket over either.

use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpStream;

use crate::target::Target;

/// How long a broker may take for one answer to a link that waits.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection that may still have to introduce itself: see `is_ready`.
#[derive(Debug)]
pub struct Link(Carrier);

#[derive(Debug)]
enum Carrier {
    Stream(Stream),
    #[cfg(feature = "websocket")]
    WebSocket(Box<websocket::WebSocket>),
}

/// What carries bytes without messages.
#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    #[cfg(feature = "tls")]
    Tls(Box<tls::Tls>),
}

impl Link {
    /// Connects and waits until packets may be written. Its reads and writes block.
    ///
    /// # Errors
    /// If there is no connection, or what carries packets there refuses it.
    pub fn connect(target: &Target) -> io::Result<Self> {
        let socket = std::net::TcpStream::connect(target.address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        let mut link = Self::over(TcpStream::from_std(socket), target)?;
        // Since it waits, only its patience can keep it from being ready.
        if link.is_ready()? {
            Ok(link)
        } else {
            Err(io::ErrorKind::TimedOut.into())
        }
    }

    /// Begins to connect and waits for nothing.
    pub(crate) fn start(target: &Target) -> io::Result<Self> {
        Self::over(TcpStream::connect(target.address)?, target)
    }

    /// Reads and writes give up rather than wait, from here on.
    pub(crate) fn set_nonblocking(&mut self) -> io::Result<()> {
        Ok(rustix::io::ioctl_fionbio(self.socket(), true)?)
    }

    pub(crate) fn set_nodelay(&mut self) -> io::Result<()> {
        self.socket().set_nodelay(true)
    }

    /// When it closes, nothing of it stays behind in the kernel: a million connections would use up all ports.
    pub(crate) fn set_no_linger(&mut self) -> io::Result<()> {
        let at_once = Some(Duration::ZERO);
        Ok(rustix::net::sockopt::set_socket_linger(
            self.socket(),
            at_once,
        )?)
    }

    pub(crate) fn peer(&mut self) -> io::Result<SocketAddr> {
        self.socket().peer_addr()
    }

    /// For the event loop.
    pub(crate) fn socket(&mut self) -> &mut TcpStream {
        match &mut self.0 {
            Carrier::Stream(stream) => stream.socket(),
            #[cfg(feature = "websocket")]
            Carrier::WebSocket(socket) => socket.stream().socket(),
        }
    }

    /// Whether packets may be written. Until then it goes on with what comes before them, as far as the socket lets it.
    pub(crate) fn is_ready(&mut self) -> io::Result<bool> {
        match &mut self.0 {
            Carrier::Stream(stream) => stream.is_ready(),
            #[cfg(feature = "websocket")]
            Carrier::WebSocket(socket) => Ok(socket.stream().is_ready()? && socket.is_upgraded()?),
        }
    }

    /// Whether bytes it took are still to be written.
    #[inline]
    pub(crate) fn has_pending(&self) -> bool {
        match &self.0 {
            Carrier::Stream(Stream::Tcp(_)) => false,
            #[cfg(feature = "tls")]
            Carrier::Stream(Stream::Tls(tls)) => tls.has_pending(),
            #[cfg(feature = "websocket")]
            Carrier::WebSocket(socket) => socket.has_pending(),
        }
    }

    /// Whether a read that leaves room in its buffer has emptied the socket.
    #[inline]
    pub(crate) fn is_emptied_by_short_read(&self) -> bool {
        matches!(self.0, Carrier::Stream(Stream::Tcp(_)))
    }

    #[cfg_attr(
        not(any(feature = "tls", feature = "websocket")),
        expect(
            clippy::unnecessary_wraps,
            unused_variables,
            reason = "bare TCP asks nothing of the target"
        )
    )]
    fn over(socket: TcpStream, target: &Target) -> io::Result<Self> {
        #[cfg(feature = "tls")]
        let stream = match &target.tls {
            Some(config) => Stream::Tls(Box::new(tls::Tls::new(config, &target.host, socket)?)),
            None => Stream::Tcp(socket),
        };
        #[cfg(not(feature = "tls"))]
        let stream = Stream::Tcp(socket);
        #[cfg(feature = "websocket")]
        if let Some(path) = &target.websocket_path {
            let host = format!("{}:{}", target.host, target.address.port());
            let socket = websocket::WebSocket::new(stream, &host, path);
            return Ok(Self(Carrier::WebSocket(Box::new(socket))));
        }
        Ok(Self(Carrier::Stream(stream)))
    }
}

impl Read for Link {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Carrier::Stream(stream) => stream.read(buffer),
            #[cfg(feature = "websocket")]
            Carrier::WebSocket(socket) => socket.read(buffer),
        }
    }
}

impl Write for Link {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Carrier::Stream(stream) => stream.write(bytes),
            #[cfg(feature = "websocket")]
            Carrier::WebSocket(socket) => socket.write(bytes),
        }
    }

    /// One system call on TCP; elsewhere the first part that is not empty.
    #[inline]
    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match &mut self.0 {
            Carrier::Stream(Stream::Tcp(socket)) => socket.write_vectored(parts),
            #[cfg(any(feature = "tls", feature = "websocket"))]
            carrier => match (carrier, parts.iter().find(|part| !part.is_empty())) {
                (_, None) => Ok(0),
                (Carrier::Stream(stream), Some(part)) => stream.write(part),
                #[cfg(feature = "websocket")]
                (Carrier::WebSocket(socket), Some(part)) => socket.write(part),
            },
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Carrier::Stream(stream) => stream.flush(),
            #[cfg(feature = "websocket")]
            Carrier::WebSocket(socket) => socket.flush(),
        }
    }
}

impl Stream {
    fn socket(&mut self) -> &mut TcpStream {
        match self {
            Self::Tcp(socket) => socket,
            #[cfg(feature = "tls")]
            Self::Tls(tls) => tls.socket(),
        }
    }

    #[cfg_attr(
        not(feature = "tls"),
        expect(clippy::unnecessary_wraps, reason = "TCP is ready when connected")
    )]
    fn is_ready(&mut self) -> io::Result<bool> {
        match self {
            Self::Tcp(_) => Ok(true),
            #[cfg(feature = "tls")]
            Self::Tls(tls) => tls.is_ready(),
        }
    }
}

impl Read for Stream {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.read(buffer),
            #[cfg(feature = "tls")]
            Self::Tls(tls) => tls.read(buffer),
        }
    }
}

impl Write for Stream {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.write(bytes),
            #[cfg(feature = "tls")]
            Self::Tls(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(_) => Ok(()),
            #[cfg(feature = "tls")]
            Self::Tls(tls) => tls.flush(),
        }
    }
}

/// Whether it succeeded; not if the socket has no room, or nothing to read.
#[cfg(any(feature = "tls", feature = "websocket"))]
fn unless_blocked(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(feature = "tls")]
mod tls {
    //! TLS by rustls, which leaves the socket to its caller.

    use std::io::{self, Read, Write};
    use std::sync::Arc;

    use mio::net::TcpStream;
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection};

    use super::unless_blocked;

    #[derive(Debug)]
    pub(super) struct Tls {
        session: ClientConnection,
        socket: TcpStream,
    }

    impl Tls {
        pub(super) fn new(
            config: &Arc<ClientConfig>,
            host: &str,
            socket: TcpStream,
        ) -> io::Result<Self> {
            let name = host.trim_start_matches('[').trim_end_matches(']');
            let name = ServerName::try_from(name.to_owned())
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
            let session = ClientConnection::new(Arc::clone(config), name).map_err(broken)?;
            Ok(Self { session, socket })
        }

        pub(super) fn socket(&mut self) -> &mut TcpStream {
            &mut self.socket
        }

        pub(super) fn has_pending(&self) -> bool {
            self.session.wants_write()
        }

        pub(super) fn is_ready(&mut self) -> io::Result<bool> {
            loop {
                let is_written = unless_blocked(self.push())?;
                if !self.session.is_handshaking() {
                    return Ok(is_written);
                }
                if !is_written || !unless_blocked(self.pull())? {
                    return Ok(false);
                }
            }
        }

        /// Writes records that are ready.
        fn push(&mut self) -> io::Result<()> {
            while self.session.wants_write() {
                self.session.write_tls(&mut self.socket)?;
            }
            Ok(())
        }

        /// Reads records that have come.
        fn pull(&mut self) -> io::Result<()> {
            if self.session.read_tls(&mut self.socket)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.session.process_new_packets().map_err(broken)?;
            Ok(())
        }
    }

    impl Read for Tls {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            loop {
                match self.session.reader().read(buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.pull()?,
                    other => return other,
                }
            }
        }
    }

    impl Write for Tls {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = self.session.writer().write(bytes)?;
            let is_written = unless_blocked(self.push())?;
            if taken == 0 && !bytes.is_empty() && !is_written {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            self.push()
        }
    }

    fn broken(error: rustls::Error) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

#[cfg(feature = "websocket")]
mod websocket {
    //! WebSocket messages by tungstenite, behind an upgrade that does not wait.

    use std::io::{self, Read, Write};

    use tungstenite::handshake::client::generate_key;
    use tungstenite::handshake::derive_accept_key;
    use tungstenite::protocol::{Role, WebSocketConfig};
    use tungstenite::{Bytes, Error, Message};

    use super::{Stream, unless_blocked};

    /// Bytes in one message at most; packets may cross the border of messages.
    const MESSAGE_BYTES_MAX: usize = 64 * 1024;
    /// Kept for each connection; there may be thousands.
    const READ_BUFFER_BYTES: usize = 4 * 1024;
    /// An answer to the upgrade is far smaller.
    const ANSWER_BYTES_MAX: usize = 16 * 1024;

    #[derive(Debug)]
    pub(super) struct WebSocket {
        socket: tungstenite::WebSocket<Stream>,
        upgrade: Option<Upgrade>,
        /// What was not read yet of the last message.
        rest: Bytes,
        has_pending: bool,
    }

    /// The HTTP request before the first message, and its answer.
    #[derive(Debug)]
    struct Upgrade {
        request: Vec<u8>,
        written: usize,
        answer: Vec<u8>,
        accept: String,
    }

    impl WebSocket {
        pub(super) fn new(stream: Stream, host: &str, path: &str) -> Self {
            let key = generate_key();
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
            );
            // Messages are written by `flush` alone, so that a message is never both taken and refused.
            let config = WebSocketConfig::default()
                .read_buffer_size(READ_BUFFER_BYTES)
                .write_buffer_size(usize::MAX - 1)
                .max_write_buffer_size(usize::MAX);
            Self {
                socket: tungstenite::WebSocket::from_raw_socket(stream, Role::Client, Some(config)),
                upgrade: Some(Upgrade {
                    request: request.into_bytes(),
                    written: 0,
                    answer: Vec::new(),
                    accept: derive_accept_key(key.as_bytes()),
                }),
                rest: Bytes::new(),
                has_pending: false,
            }
        }

        pub(super) fn stream(&mut self) -> &mut Stream {
            self.socket.get_mut()
        }

        pub(super) const fn has_pending(&self) -> bool {
            self.has_pending
        }

        pub(super) fn is_upgraded(&mut self) -> io::Result<bool> {
            if let Some(upgrade) = &mut self.upgrade {
                if !unless_blocked(upgrade.proceed(self.socket.get_mut()))? {
                    return Ok(false);
                }
                self.upgrade = None;
            }
            Ok(true)
        }
    }

    impl Upgrade {
        fn proceed(&mut self, stream: &mut Stream) -> io::Result<()> {
            while let Some(rest) = self.request.get(self.written..).filter(|r| !r.is_empty()) {
                self.written += stream.write(rest)?;
            }
            stream.flush()?;
            while !self.answer.ends_with(b"\r\n\r\n") {
                let mut input = [0; 1024];
                let read = stream.read(&mut input)?;
                if read == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.answer
                    .extend_from_slice(input.get(..read).unwrap_or(&[]));
                if self.answer.len() > ANSWER_BYTES_MAX {
                    return Err(refused());
                }
            }
            // Nothing follows: a broker has nothing to say before the CONNECT.
            let answer = str::from_utf8(&self.answer).map_err(|_| refused())?;
            let mut lines = answer.split("\r\n");
            let is_switching = lines
                .next()
                .is_some_and(|status| status.split(' ').nth(1) == Some("101"));
            let is_ours = lines
                .filter_map(|line| line.split_once(':'))
                .any(|(name, value)| {
                    name.eq_ignore_ascii_case("sec-websocket-accept") && value.trim() == self.accept
                });
            if is_switching && is_ours {
                Ok(())
            } else {
                Err(refused())
            }
        }
    }

    fn refused() -> io::Error {
        io::Error::new(
            io::ErrorKind::ConnectionRefused,
            "the server does not switch to a WebSocket there",
        )
    }

    impl Read for WebSocket {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            while self.rest.is_empty() {
                match self.socket.read() {
                    Ok(Message::Binary(bytes)) => self.rest = bytes,
                    Ok(Message::Close(_)) => return Ok(0),
                    Ok(
                        Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_),
                    ) => {}
                    Err(error) => return plain(error).map(|()| 0),
                }
            }
            let read = self.rest.len().min(buffer.len());
            if let Some(place) = buffer.get_mut(..read) {
                place.copy_from_slice(&self.rest.split_to(read));
            }
            Ok(read)
        }
    }

    impl Write for WebSocket {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.flush()?;
            let part = bytes.get(..MESSAGE_BYTES_MAX).unwrap_or(bytes);
            let message = Message::Binary(Bytes::copy_from_slice(part));
            if let Err(error) = self.socket.write(message) {
                plain(error)?;
            }
            self.has_pending = true;
            unless_blocked(self.flush())?;
            Ok(part.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            if self.has_pending {
                if let Err(error) = self.socket.flush() {
                    plain(error)?;
                }
                self.has_pending = false;
            }
            Ok(())
        }
    }

    /// The end of a connection is none of its errors here.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "whatever else the library may find wrong with what came in"
    )]
    fn plain(error: Error) -> io::Result<()> {
        match error {
            Error::Io(error) => Err(error),
            Error::ConnectionClosed | Error::AlreadyClosed => Ok(()),
            other => Err(io::Error::new(io::ErrorKind::InvalidData, other)),
        }
    }
}
