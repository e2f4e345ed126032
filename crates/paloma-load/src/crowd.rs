//! Many connections that only connect: how fast that is, and what each costs while it is idle.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::engine::{Growth, Outcome};
use crate::error::LoadError;
use crate::packet::{self, Scan, Version};
use crate::{probe, setup};

/// How many connections to open, and how.
#[derive(Clone, Debug)]
pub struct Crowd {
    /// The broker.
    pub address: SocketAddr,
    /// Its process, if its CPU time and memory are to be read.
    pub pid: Option<u32>,
    /// Protocol of all connections.
    pub version: Version,
    /// Connections in all.
    pub connections: u32,
    /// Connections on their way at once.
    pub concurrency: u32,
    /// Time between the last CONNACK and the second look at the broker's memory.
    pub settle: Duration,
}

/// Without an answer for so long, the broker has given up.
const PATIENCE: Duration = Duration::from_secs(15);

/// Opens the connections, holds them all, and looks at the broker before and after.
///
/// # Errors
/// If a connection fails or is refused.
pub fn open(crowd: &Crowd) -> Result<Outcome, LoadError> {
    if crowd.connections == 0 || crowd.concurrency == 0 {
        return Err(LoadError::Scenario("a crowd has at least one connection"));
    }
    let needed = u64::from(crowd.connections) + 64;
    if probe::raise_file_limit(needed) < needed {
        return Err(LoadError::Scenario(
            "the system's limit of open files is too low",
        ));
    }
    // What the first connection ever makes a broker load is not counted as the price of each.
    drop(setup::connect(
        crowd.address,
        crowd.version,
        "crowd-first",
        600,
    )?);
    thread::sleep(Duration::from_millis(100));
    let before = crowd.pid.map(probe::memory_bytes).transpose()?;
    let cpu_before = crowd.pid.map(probe::cpu_time).transpose()?;
    let own_before = probe::own_cpu_time();
    let begin = Instant::now();
    let mut storm = Storm::new(crowd)?;
    storm.run()?;
    let span = begin.elapsed();
    let own_cpu = probe::own_cpu_time().saturating_sub(own_before);
    let cpu_after = crowd.pid.map(probe::cpu_time).transpose()?;
    thread::sleep(crowd.settle);
    let after = crowd.pid.map(probe::memory_bytes).transpose()?;
    let count = u64::from(crowd.connections);
    storm.close();
    Ok(Outcome {
        span,
        messages: count,
        sent: count,
        delivered: count,
        lost: 0,
        repeated: 0,
        broker_cpu: cpu_before
            .zip(cpu_after)
            .map(|(before, after)| after.saturating_sub(before)),
        own_cpu,
        threads: 1,
        latency: storm.latency,
        memory: before.zip(after).map(|(before, after)| Growth {
            before,
            after,
            count,
        }),
    })
}

/// A crowd on its way in.
struct Storm<'a> {
    crowd: &'a Crowd,
    poll: Poll,
    /// In order of their tokens.
    sockets: Vec<Entry>,
    accepted: usize,
    latency: Histogram<u64>,
}

struct Entry {
    socket: TcpStream,
    begin: Instant,
    input: Vec<u8>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Connecting,
    AwaitConnAck,
    Accepted,
}

impl<'a> Storm<'a> {
    fn new(crowd: &'a Crowd) -> Result<Self, LoadError> {
        Ok(Self {
            crowd,
            poll: Poll::new()?,
            sockets: Vec::new(),
            accepted: 0,
            latency: Histogram::new_with_bounds(1, 60_000_000_000, 3)
                .map_err(|_| LoadError::Scenario("no histogram"))?,
        })
    }

    fn run(&mut self) -> Result<(), LoadError> {
        let wanted = usize::try_from(self.crowd.connections).unwrap_or(usize::MAX);
        let concurrency = usize::try_from(self.crowd.concurrency).unwrap_or(usize::MAX);
        let mut events = Events::with_capacity(1024);
        let mut progress = Instant::now();
        while self.accepted < wanted {
            while self.sockets.len() < wanted.min(self.accepted.saturating_add(concurrency)) {
                self.start_one()?;
            }
            match self
                .poll
                .poll(&mut events, Some(Duration::from_millis(100)))
            {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            for event in &events {
                progress = Instant::now();
                self.handle_event(event.token().0)?;
            }
            if progress.elapsed() > PATIENCE {
                return Err(LoadError::Stalled("connecting"));
            }
        }
        Ok(())
    }

    fn start_one(&mut self) -> Result<(), LoadError> {
        let begin = Instant::now();
        let mut socket = TcpStream::connect(self.crowd.address)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(&mut socket, Token(self.sockets.len()), interest)?;
        self.sockets.push(Entry {
            socket,
            begin,
            input: Vec::new(),
            state: State::Connecting,
        });
        Ok(())
    }

    fn handle_event(&mut self, index: usize) -> Result<(), LoadError> {
        let Some(entry) = self.sockets.get_mut(index) else {
            return Ok(());
        };
        if entry.state == State::Connecting && entry.socket.peer_addr().is_ok() {
            entry.socket.set_nodelay(true)?;
            let id = format!("crowd-{index}");
            // The first bytes of a connection always fit into its empty buffer.
            entry
                .socket
                .write_all(&packet::connect(self.crowd.version, &id, 600))?;
            entry.state = State::AwaitConnAck;
        }
        if entry.state == State::Accepted {
            return match entry.socket.read(&mut [0; 16]) {
                Ok(0) => Err(LoadError::Closed),
                Ok(_) => Err(LoadError::Protocol),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
                Err(error) => Err(error.into()),
            };
        }
        let mut input = [0; 256];
        match entry.socket.read(&mut input) {
            Ok(0) => return Err(LoadError::Closed),
            Ok(read) => entry
                .input
                .extend_from_slice(input.get(..read).unwrap_or(&[])),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        match packet::scan(&entry.input) {
            Scan::Whole(frame) => setup::connack(self.crowd.version, &frame)?,
            Scan::Partial => return Ok(()),
            Scan::Malformed => return Err(LoadError::Protocol),
        };
        entry.state = State::Accepted;
        entry.input = Vec::new();
        self.accepted += 1;
        let nanoseconds = u64::try_from(entry.begin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.latency.saturating_record(nanoseconds);
        Ok(())
    }

    fn close(&mut self) {
        for entry in &mut self.sockets {
            // The broker's answer to the end of a connection is not part of the measurement.
            let _unsent = entry.socket.write(&packet::DISCONNECT);
        }
    }
}
