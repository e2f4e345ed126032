//! The reference server: it forwards PUBLISH bytes by exact topic and acknowledges, and does nothing else.
//!
//! No broker can be cheaper than this on the same system calls, so measurements are given as multiples of it. It trusts
//! its clients: no limits, no wildcards, no sessions, packet ids passed through.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::error::LoadError;
use crate::frames::Scratch;
use crate::packet::{self, Frame, Version, ack, first_byte};

/// A connection keeps an empty output buffer up to this size.
const KEPT_BYTES: usize = 64 * 1024;

const LISTENER: Token = Token(usize::MAX);

/// The server before it runs.
#[derive(Debug)]
pub struct Floor {
    poll: Poll,
    listener: TcpListener,
    state: State,
}

#[derive(Debug, Default)]
struct State {
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    topics: HashMap<Vec<u8>, usize>,
    /// The subscribers of each topic, by its number.
    routes: Vec<Vec<usize>>,
    unwritten: Vec<usize>,
}

#[derive(Debug)]
struct Connection {
    socket: TcpStream,
    version: Version,
    is_listed: bool,
    partial: Vec<u8>,
    output: Vec<u8>,
    written: usize,
    /// The topic this connection published on last, and its number.
    last: Option<Box<(Vec<u8>, usize)>>,
}

impl Floor {
    /// Binds a listener.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub fn bind(address: SocketAddr) -> Result<Self, LoadError> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind(address)?;
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            poll,
            listener,
            state: State::default(),
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// If the socket cannot tell.
    pub fn address(&self) -> Result<SocketAddr, LoadError> {
        Ok(self.listener.local_addr()?)
    }

    /// Serves until the process ends.
    ///
    /// # Errors
    /// If polling or accepting fails.
    pub fn run(mut self) -> Result<(), LoadError> {
        let mut events = Events::with_capacity(1024);
        let mut scratch = Scratch::new();
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            for event in &events {
                if event.token() == LISTENER {
                    self.accept()?;
                    continue;
                }
                if event.is_readable() {
                    self.state.read(event.token().0, &mut scratch);
                }
                if event.is_writable() {
                    self.state.list(event.token().0);
                }
            }
            self.state.write_all();
        }
    }

    fn accept(&mut self) -> Result<(), LoadError> {
        loop {
            let mut socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            socket.set_nodelay(true)?;
            let index = self
                .state
                .free
                .pop()
                .unwrap_or(self.state.connections.len());
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll
                .registry()
                .register(&mut socket, Token(index), interest)?;
            self.state.insert(index, socket);
        }
    }
}

impl State {
    fn insert(&mut self, index: usize, socket: TcpStream) {
        let connection = Connection {
            socket,
            version: Version::V311,
            is_listed: false,
            partial: Vec::new(),
            output: Vec::new(),
            written: 0,
            last: None,
        };
        match self.connections.get_mut(index) {
            Some(slot) => *slot = Some(connection),
            None => self.connections.push(Some(connection)),
        }
    }

    fn read(&mut self, index: usize, scratch: &mut Scratch) {
        let Some(mut connection) = self.connections.get_mut(index).and_then(Option::take) else {
            return;
        };
        let mut partial = std::mem::take(&mut connection.partial);
        let Connection {
            socket,
            version,
            last,
            output,
            ..
        } = &mut connection;
        let result = scratch.read(socket, true, &mut partial, |frame| {
            match frame.first & 0xF0 {
                first_byte::PUBLISH => self.forward(index, frame, last, output),
                first_byte::PUBACK | first_byte::PUBCOMP => Ok(()),
                first_byte::PUBREC => answer(output, first_byte::PUBREL, frame),
                0x60 => answer(output, first_byte::PUBCOMP, frame),
                0x80 => self.subscribe(index, *version, frame, output),
                first_byte::CONNECT => {
                    *version = accept_connect(frame, output);
                    Ok(())
                }
                first_byte::PINGREQ => {
                    output.extend_from_slice(&[first_byte::PINGRESP, 0]);
                    Ok(())
                }
                _ => Err(LoadError::Closed),
            }
        });
        connection.partial = partial;
        let has_output = !connection.output.is_empty();
        if result.is_err() {
            self.free.push(index);
            self.routes
                .iter_mut()
                .for_each(|route| route.retain(|to| *to != index));
            return;
        }
        if let Some(slot) = self.connections.get_mut(index) {
            *slot = Some(connection);
        }
        if has_output {
            self.list(index);
        }
    }

    fn forward(
        &mut self,
        index: usize,
        frame: &Frame<'_>,
        last: &mut Option<Box<(Vec<u8>, usize)>>,
        output: &mut Vec<u8>,
    ) -> Result<(), LoadError> {
        let (length, rest) = frame
            .body
            .split_first_chunk::<2>()
            .ok_or(LoadError::Protocol)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (topic, rest) = rest.split_at_checked(length).ok_or(LoadError::Protocol)?;
        let kind = match frame.first >> 1 & 3 {
            0 => None,
            1 => Some(first_byte::PUBACK),
            _ => Some(first_byte::PUBREC),
        };
        if let Some(kind) = kind {
            let id = packet::packet_id(rest).ok_or(LoadError::Protocol)?;
            output.extend_from_slice(&ack(kind, id));
        }
        let route = match last {
            Some(last) if last.0 == topic => last.1,
            _ => {
                let route = self.route(topic);
                *last = Some(Box::new((topic.to_vec(), route)));
                route
            }
        };
        let Self {
            routes,
            connections,
            unwritten,
            ..
        } = self;
        for to in routes.get(route).into_iter().flatten() {
            if *to == index {
                output.extend_from_slice(frame.whole);
            } else if let Some(Some(receiver)) = connections.get_mut(*to) {
                receiver.output.extend_from_slice(frame.whole);
                if !receiver.is_listed {
                    receiver.is_listed = true;
                    unwritten.push(*to);
                }
            }
        }
        Ok(())
    }

    fn subscribe(
        &mut self,
        index: usize,
        version: Version,
        frame: &Frame<'_>,
        output: &mut Vec<u8>,
    ) -> Result<(), LoadError> {
        let (id, mut rest) = frame
            .body
            .split_first_chunk::<2>()
            .ok_or(LoadError::Protocol)?;
        let mut body = id.to_vec();
        if version == Version::V5 {
            let (length, used) = packet::variable_integer(rest).map_err(|_| LoadError::Protocol)?;
            rest = rest.get(used + length..).ok_or(LoadError::Protocol)?;
            body.push(0);
        }
        while let Some((length, after)) = rest.split_first_chunk::<2>() {
            let length = usize::from(u16::from_be_bytes(*length));
            let (filter, after) = after.split_at_checked(length).ok_or(LoadError::Protocol)?;
            let (options, after) = after.split_first().ok_or(LoadError::Protocol)?;
            let route = self.route(filter);
            if let Some(route) = self.routes.get_mut(route) {
                route.push(index);
            }
            body.push(options & 3);
            rest = after;
        }
        output.extend_from_slice(&packet::frame(first_byte::SUBACK, &body));
        Ok(())
    }

    fn route(&mut self, topic: &[u8]) -> usize {
        if let Some(route) = self.topics.get(topic) {
            return *route;
        }
        self.topics.insert(topic.to_vec(), self.routes.len());
        self.routes.push(Vec::new());
        self.routes.len() - 1
    }

    fn list(&mut self, index: usize) {
        if let Some(Some(connection)) = self.connections.get_mut(index)
            && !connection.is_listed
            && !connection.output.is_empty()
        {
            connection.is_listed = true;
            self.unwritten.push(index);
        }
    }

    /// One write per connection that has something; what a full socket leaves waits for its event.
    fn write_all(&mut self) {
        while let Some(index) = self.unwritten.pop() {
            let Some(Some(connection)) = self.connections.get_mut(index) else {
                continue;
            };
            connection.is_listed = false;
            let rest = connection.output.get(connection.written..).unwrap_or(&[]);
            // A broken socket raises a read event as well, which removes the connection.
            connection.written += connection.socket.write(rest).unwrap_or(0);
            if connection.written == connection.output.len() {
                connection.written = 0;
                connection.output.clear();
                connection.output.shrink_to(KEPT_BYTES);
            }
        }
    }
}

/// Answers a CONNECT and tells its protocol by the level, which follows a name of four bytes.
fn accept_connect(frame: &Frame<'_>, output: &mut Vec<u8>) -> Version {
    if frame.body.get(6) == Some(&5) {
        output.extend_from_slice(&[first_byte::CONNACK, 3, 0, 0, 0]);
        return Version::V5;
    }
    output.extend_from_slice(&[first_byte::CONNACK, 2, 0, 0]);
    Version::V311
}

fn answer(output: &mut Vec<u8>, first: u8, frame: &Frame<'_>) -> Result<(), LoadError> {
    let id = packet::packet_id(frame.body).ok_or(LoadError::Protocol)?;
    output.extend_from_slice(&ack(first, id));
    Ok(())
}
