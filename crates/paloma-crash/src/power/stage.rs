//! Clients in front of a machine: what is on the way between them, and who acts next.

use paloma_broker::ConnectionId;
use paloma_codec::Decoder;
use paloma_interop::random::Random;
use paloma_interop::raw::take_frame;

use super::machine::{Machine, Towards};
use crate::cast::Cast;
use crate::client::{Client, Stage, Then};
use crate::history::History;
use crate::publisher::Publisher;
use crate::subscriber::Subscriber;
use crate::watcher::Watcher;

/// Seconds of every other publisher: some are silent for longer while a sync is slow, and their wills are sent.
const KEEP_ALIVE: u16 = 2;

/// Any client, as a value that can be copied for another outcome of a crash.
#[derive(Clone, Debug)]
pub(crate) enum Player {
    Publisher(Publisher),
    Subscriber(Subscriber),
    Watcher(Watcher),
}

impl Player {
    fn client(&mut self) -> &mut dyn Client {
        match self {
            Self::Publisher(client) => client,
            Self::Subscriber(client) => client,
            Self::Watcher(client) => client,
        }
    }

    fn is_at_rest(&self) -> bool {
        match self {
            Self::Publisher(client) => client.is_at_rest(),
            Self::Subscriber(client) => client.is_at_rest(),
            Self::Watcher(client) => client.is_at_rest(),
        }
    }
}

/// What is on the way between a client and the broker.
#[derive(Debug)]
struct Wire {
    connection: ConnectionId,
    decoder: Decoder,
    to_broker: Vec<u8>,
    to_client: Vec<u8>,
    /// The broker has closed: what is on the way still comes.
    has_ended: bool,
}

/// The clients and their history.
#[derive(Debug)]
pub(crate) struct Ensemble {
    pub(crate) history: History,
    pub(crate) random: Random,
    players: Vec<Player>,
    wires: Vec<Option<Wire>>,
}

impl Ensemble {
    /// Everybody of a cast, nobody connected.
    pub(crate) fn new(cast: &Cast, seed: u64) -> Self {
        let publishers = 0..cast.publishers.len() as u16;
        let subscribers = 0..cast.subscribers.len() as u16;
        let players: Vec<Player> = publishers
            .map(|index| {
                let publisher = Publisher::new(cast, index);
                let seconds = if index.is_multiple_of(2) {
                    KEEP_ALIVE
                } else {
                    0
                };
                Player::Publisher(publisher.with_keep_alive(seconds))
            })
            .chain(subscribers.map(|index| Player::Subscriber(Subscriber::new(cast, index))))
            .collect();
        Self {
            history: History::new(),
            random: Random::new(seed),
            wires: players.iter().map(|_| None).collect(),
            players,
        }
    }

    /// The same clients in another outcome of a crash at this moment: what was on its way to a client has come or not.
    pub(crate) fn after_crash(&self, seed: u64) -> Self {
        let mut copy = Self {
            history: self.history.clone(),
            random: Random::new(seed),
            players: self.players.clone(),
            wires: self.players.iter().map(|_| None).collect(),
        };
        for (index, wire) in self.wires.iter().enumerate() {
            let Some(wire) = wire else { continue };
            if copy.random.between(0, 2) == 0 {
                let mut unread = wire.to_client.clone();
                copy.take_frames(index, &mut unread, &mut Vec::new(), usize::MAX);
            }
            copy.act(index, &mut Vec::new(), |client, stage| {
                client.handle_closed(stage);
                Then::Stay
            });
        }
        copy
    }

    /// Somebody does something.
    pub(crate) fn step(&mut self, machine: &mut Machine) {
        let index = self.random.between(0, self.players.len());
        if self.wires[index].is_none() {
            if self.random.between(0, 3) == 0 {
                self.connect(index, machine);
            }
        } else {
            match self.random.between(0, 3) {
                0 => self.poke(index, machine),
                1 => drop(self.send(index, machine, 3)),
                _ => drop(self.receive(index, machine, 3)),
            }
        }
        self.deliver(machine);
    }

    /// Everybody does what they can. True if anything happened.
    pub(crate) fn round(&mut self, machine: &mut Machine) -> bool {
        let before = self.history.events().len();
        let mut moved = false;
        for index in 0..self.players.len() {
            if self.wires[index].is_none() {
                self.connect(index, machine);
                moved = true;
            }
            self.poke(index, machine);
            moved |= self.send(index, machine, usize::MAX);
            self.deliver(machine);
            moved |= self.receive(index, machine, usize::MAX);
            self.deliver(machine);
        }
        moved || self.history.events().len() != before
    }

    pub(crate) fn calm(&mut self) {
        for player in &mut self.players {
            player.client().calm();
        }
    }

    pub(crate) fn is_at_rest(&self) -> bool {
        self.players.iter().all(Player::is_at_rest)
    }

    /// Brings a reader of retained messages in.
    pub(crate) fn push_watcher(&mut self, watcher: Watcher) {
        self.players.push(Player::Watcher(watcher));
        self.wires.push(None);
    }

    /// Takes it out again.
    pub(crate) fn pop_watcher(&mut self, machine: &mut Machine) {
        if let Some(Some(wire)) = self.wires.pop() {
            machine.close(wire.connection);
        }
        if let Some(Player::Watcher(watcher)) = self.players.pop() {
            watcher.finish(&mut self.history);
        }
    }

    fn connect(&mut self, index: usize, machine: &mut Machine) {
        let Some((connection, decoder)) = machine.open() else {
            return;
        };
        let mut to_broker = Vec::new();
        self.act(index, &mut to_broker, |client, stage| {
            client.connect(stage);
            Then::Stay
        });
        self.wires[index] = Some(Wire {
            connection,
            decoder,
            to_broker,
            to_client: Vec::new(),
            has_ended: false,
        });
    }

    fn poke(&mut self, index: usize, machine: &mut Machine) {
        let mut out = Vec::new();
        let then = self.act(index, &mut out, |client, stage| client.poke(stage));
        self.follow(index, machine, &out, then);
    }

    fn send(&mut self, index: usize, machine: &mut Machine, most: usize) -> bool {
        let Some(wire) = &mut self.wires[index] else {
            return false;
        };
        if wire.has_ended || wire.to_broker.is_empty() {
            return false;
        }
        let bytes = std::mem::take(&mut wire.to_broker);
        let taken = machine.feed(wire.connection, &mut wire.decoder, &bytes, most);
        wire.to_broker = bytes[taken..].to_vec();
        taken > 0
    }

    fn receive(&mut self, index: usize, machine: &mut Machine, most: usize) -> bool {
        let Some(wire) = &mut self.wires[index] else {
            return false;
        };
        let mut unread = std::mem::take(&mut wire.to_client);
        let has_ended = wire.has_ended;
        let before = unread.len();
        let mut out = Vec::new();
        let then = self.take_frames(index, &mut unread, &mut out, most);
        let moved = unread.len() != before;
        let is_over = has_ended && unread.is_empty();
        if let Some(wire) = &mut self.wires[index] {
            wire.to_client = unread;
        }
        self.follow(index, machine, &out, if is_over { Then::Cut } else { then });
        moved || is_over
    }

    fn follow(&mut self, index: usize, machine: &mut Machine, out: &[u8], then: Then) {
        let Some(wire) = &mut self.wires[index] else {
            return;
        };
        wire.to_broker.extend_from_slice(out);
        if then != Then::Cut {
            return;
        }
        let (connection, has_ended) = (wire.connection, wire.has_ended);
        self.wires[index] = None;
        self.act(index, &mut Vec::new(), |client, stage| {
            client.handle_closed(stage);
            Then::Stay
        });
        if !has_ended {
            machine.close(connection);
        }
    }

    /// Puts what the broker has for clients on its way.
    fn deliver(&mut self, machine: &mut Machine) {
        while let Some(towards) = machine.poll_towards() {
            let connection = match &towards {
                Towards::Bytes(connection, _) | Towards::End(connection) => *connection,
            };
            let mut wires = self.wires.iter_mut().flatten();
            let Some(wire) = wires.find(|wire| wire.connection == connection) else {
                continue;
            };
            match towards {
                Towards::Bytes(_, bytes) => wire.to_client.extend(bytes),
                Towards::End(_) => wire.has_ended = true,
            }
        }
    }

    fn take_frames(
        &mut self,
        index: usize,
        unread: &mut Vec<u8>,
        out: &mut Vec<u8>,
        most: usize,
    ) -> Then {
        let mut taken = 0;
        while taken < most
            && let Some(frame) = take_frame(unread)
        {
            taken += 1;
            let then = self.act(index, out, |client, stage| client.handle(&frame, stage));
            if then != Then::Stay {
                return then;
            }
        }
        Then::Stay
    }

    fn act(
        &mut self,
        index: usize,
        out: &mut Vec<u8>,
        what: impl FnOnce(&mut dyn Client, &mut Stage<'_>) -> Then,
    ) -> Then {
        let mut stage = Stage {
            history: &mut self.history,
            random: &mut self.random,
            out,
        };
        what(self.players[index].client(), &mut stage)
    }
}
