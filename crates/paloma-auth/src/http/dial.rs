//! TCP connections whose calls end by a deadline.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// A connection to a service, with or without TLS.
pub(super) trait Dialled: Read + Write + Send {
    /// What is below.
    fn tcp(&mut self) -> &mut Tcp;
}

/// A TCP connection that neither reads nor writes beyond its deadline.
pub(super) struct Tcp {
    stream: TcpStream,
    deadline: Instant,
}

impl Tcp {
    pub(super) fn set_deadline(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    /// Whether nothing has come, neither bytes nor an end.
    pub(super) fn is_idle(&self) -> bool {
        if self.stream.set_nonblocking(true).is_err() {
            return false;
        }
        let peeked = self.stream.peek(&mut [0]);
        let is_silent = peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        is_silent && self.stream.set_nonblocking(false).is_ok()
    }
}

impl Dialled for Tcp {
    fn tcp(&mut self) -> &mut Tcp {
        self
    }
}

impl Read for Tcp {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.stream.set_read_timeout(Some(left(self.deadline)?))?;
            match self.stream.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => return outcome,
            }
        }
    }
}

impl Write for Tcp {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(left(self.deadline)?))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Connects to the first of the host's addresses that answers.
///
/// # Errors
/// The last address's, or the resolver's.
pub(super) fn dial(host: &str, port: u16, deadline: Instant) -> io::Result<Tcp> {
    let mut addresses = resolve(host, port, deadline)?.into_iter().peekable();
    let mut failure = io::Error::from(io::ErrorKind::NotFound);
    while let Some(address) = addresses.next() {
        // One that says nothing leaves time for the others.
        let share = if addresses.peek().is_some() { 2 } else { 1 };
        match TcpStream::connect_timeout(&address, left(deadline)? / share) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(Tcp { stream, deadline });
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn resolve(host: &str, port: u16, deadline: Instant) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    // The system's resolver knows no deadline, so it is left behind when it passes.
    let (sender, receiver) = mpsc::sync_channel(1);
    let name = (host.to_owned(), port);
    thread::Builder::new().spawn(move || drop(sender.send(name.to_socket_addrs())))?;
    let addresses = receiver.recv_timeout(left(deadline)?);
    Ok(addresses.map_err(|_| io::ErrorKind::TimedOut)??.collect())
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    Ok(left)
}
