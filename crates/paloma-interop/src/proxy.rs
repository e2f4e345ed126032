//! A bad network: a loopback proxy that breaks connections where a seed says.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::random::Random;

/// What is wrong with the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Connections are closed.
    Cut(Breaks),
    /// As with `Cut`, but nobody is told: nothing is forwarded any more, in either direction.
    HalfOpen(Breaks),
    /// Each byte arrives this much later.
    Delay(Duration),
    /// Each byte is written alone.
    OneByte,
}

/// Where connections break: after a number of bytes in one direction, both drawn from the seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breaks {
    /// How many bytes pass first if it is the direction to the broker.
    pub up: Range<usize>,
    /// How many bytes pass first if it is the direction from the broker.
    pub down: Range<usize>,
    /// How many connections break before the network is whole.
    pub times: usize,
}

impl Breaks {
    /// Breaks anywhere among the first so many bytes, and in the first ones as often as in all that follow.
    #[must_use]
    pub fn anywhere(bytes_max: usize, times: usize) -> Self {
        Self {
            up: 1..bytes_max,
            down: 1..bytes_max,
            times,
        }
    }

    /// How many bytes pass in which direction.
    fn draw(&self, random: &mut Random) -> (Option<usize>, Option<usize>) {
        let is_up = random.between(0, 2) == 0;
        let bytes = if is_up { &self.up } else { &self.down };
        // Few bytes are as likely as many: the interesting places are in the first packets too.
        let spread = 1 << random.between(1, bytes.len().ilog2() as usize + 1);
        let left = Some(bytes.start + random.between(0, spread));
        if is_up { (left, None) } else { (None, left) }
    }
}

/// A proxy before one address; stopped when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    fault: Fault,
    seed: u64,
    stopped: AtomicBool,
    connections: AtomicUsize,
    /// Every socket ever opened, so that stopping can wake the threads that read them.
    sockets: Mutex<Vec<TcpStream>>,
}

/// One direction of one connection, and what is to happen to it.
#[derive(Debug)]
struct Link {
    from: TcpStream,
    to: TcpStream,
    /// Bytes until the connection breaks, if it is this direction that breaks it.
    left: Option<usize>,
    /// Set when a half-open connection has gone silent, for both directions.
    silent: Arc<AtomicBool>,
}

impl Proxy {
    /// Starts one on a free port.
    ///
    /// # Panics
    /// If no port can be listened on.
    #[must_use]
    pub fn start(target: SocketAddr, fault: Fault, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target,
            fault,
            seed,
            stopped: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            sockets: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming() {
                if accepting.stopped.load(Ordering::SeqCst) {
                    return;
                }
                if let Ok(client) = client {
                    // A broker that refuses shows as a closed connection, as it would without a proxy.
                    let _ = accepting.connect(client);
                }
            }
        });
        Self { address, shared }
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections there have been.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Cuts every connection that is open.
    ///
    /// # Panics
    /// If a thread of the proxy has panicked.
    pub fn cut_all(&self) {
        for socket in self.shared.sockets.lock().unwrap().drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.cut_all();
        // Wakes the accepting thread, which then sees that it is to stop.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn connect(&self, client: TcpStream) -> io::Result<()> {
        let number = self.connections.fetch_add(1, Ordering::SeqCst);
        let broker = TcpStream::connect(self.target)?;
        client.set_nodelay(true)?;
        broker.set_nodelay(true)?;
        {
            let mut sockets = self.sockets.lock().unwrap();
            sockets.push(client.try_clone()?);
            sockets.push(broker.try_clone()?);
        }
        let mut random = Random::new(
            self.seed
                .wrapping_mul(1_000_003)
                .wrapping_add(number as u64),
        );
        let (up_left, down_left) = match &self.fault {
            Fault::Cut(breaks) | Fault::HalfOpen(breaks) if number < breaks.times => {
                breaks.draw(&mut random)
            }
            _ => (None, None),
        };
        let silent = Arc::new(AtomicBool::new(false));
        let up = Link {
            from: client.try_clone()?,
            to: broker.try_clone()?,
            left: up_left,
            silent: Arc::clone(&silent),
        };
        let down = Link {
            from: broker,
            to: client,
            left: down_left,
            silent,
        };
        for link in [up, down] {
            let fault = self.fault.clone();
            thread::spawn(move || {
                // An error is a side that has gone, which is what this proxy is for.
                let _ = match fault {
                    Fault::None => forward_breaking(link, false),
                    Fault::Cut(_) => forward_breaking(link, false),
                    Fault::HalfOpen(_) => forward_breaking(link, true),
                    Fault::Delay(delay) => forward_late(link, delay),
                    Fault::OneByte => forward_bytes(link),
                };
            });
        }
        Ok(())
    }
}

/// Forwards until the link's bytes are used up, then closes both sides, or goes silent if `half_open`.
fn forward_breaking(mut link: Link, half_open: bool) -> io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        let count = read(&mut link.from, &mut buffer);
        if link.silent.load(Ordering::SeqCst) {
            if count == 0 {
                // The other side is not told.
                return Ok(());
            }
            continue;
        }
        let passing = link.left.map_or(count, |left| left.min(count));
        let _ = link.to.write_all(&buffer[..passing]);
        link.left = link.left.map(|left| left - passing);
        let broken = link.left == Some(0);
        if broken && half_open {
            link.silent.store(true, Ordering::SeqCst);
        } else if broken || count == 0 {
            link.from.shutdown(Shutdown::Both)?;
            return link.to.shutdown(Shutdown::Both);
        }
    }
}

/// Forwards each chunk when its time has come; the end of the stream is late as well.
fn forward_late(mut link: Link, delay: Duration) -> io::Result<()> {
    let (sender, chunks): (Sender<(Instant, Vec<u8>)>, Receiver<_>) = channel();
    let mut to = link.to.try_clone()?;
    thread::spawn(move || {
        for (due, chunk) in chunks {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&chunk).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
    let mut buffer = [0; 16 * 1024];
    loop {
        let count = read(&mut link.from, &mut buffer);
        if count == 0 {
            return Ok(());
        }
        let due = Instant::now() + delay;
        if sender.send((due, buffer[..count].to_vec())).is_err() {
            return link.from.shutdown(Shutdown::Both);
        }
    }
}

/// Forwards each byte in a write of its own.
fn forward_bytes(mut link: Link) -> io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        let count = read(&mut link.from, &mut buffer);
        if count == 0 {
            return link.to.shutdown(Shutdown::Both);
        }
        for byte in &buffer[..count] {
            link.to.write_all(std::slice::from_ref(byte))?;
        }
    }
}

/// Reads some bytes; a broken connection is an ended one.
fn read(from: &mut TcpStream, buffer: &mut [u8]) -> usize {
    from.read(buffer).unwrap_or(0)
}
