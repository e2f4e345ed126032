//! What an actor is given: the broker's address, a seeded generator, a measure of how long to go on, and a tally to fill.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Instant;

use paloma_interop::peer::Version::{self, V5, V311};
use paloma_interop::random::Random;
use paloma_interop::raw::RawClient;
use paloma_interop::wire::{self, Connect};

use crate::answer::{Answer, Tally};
use crate::doors::{self, Doors};

/// How long an actor goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// A fixed number of small rounds: the same on every machine.
    Counted,
    /// Full rounds until this time, and always one.
    Until(Instant),
}

/// One turn of an actor.
#[derive(Debug)]
pub struct Attack<'a> {
    /// Where the broker listens.
    pub address: SocketAddr,
    /// Where else.
    pub doors: &'a Doors,
    /// The broker's binary, for an actor that needs one of its own.
    pub program: &'a Path,
    /// What varies comes from here.
    pub random: Random,
    /// How long to go on.
    pub pace: Pace,
    /// What came of it.
    pub tally: Tally,
}

impl Attack<'_> {
    /// Whether to begin round `round`, counted from 0; a counted turn has `counted` of them.
    pub(crate) fn goes_on(&self, round: usize, counted: usize) -> bool {
        match self.pace {
            Pace::Counted => round < counted,
            Pace::Until(end) => round == 0 || Instant::now() < end,
        }
    }

    /// The size of a round: small in a counted turn.
    pub(crate) fn size(&self, counted: usize, full: usize) -> usize {
        match self.pace {
            Pace::Counted => counted,
            Pace::Until(_) => full,
        }
    }

    /// 3.1.1 or 5.0.
    pub(crate) fn version(&mut self) -> Version {
        *self.random.one_of(&Version::ALL)
    }

    /// Connects with a clean session; `None`, and a complaint, if the broker does not accept.
    pub(crate) fn connect(&mut self, version: Version, client_id: &str) -> Option<RawClient> {
        self.connect_as(version, &Connect::new(version, client_id))
    }

    /// Connects as told; `None`, and a complaint, if the broker does not accept.
    pub(crate) fn connect_as(&mut self, version: Version, connect: &Connect) -> Option<RawClient> {
        let mut client = RawClient::open(self.address, version);
        let sent = client.try_send(&connect.encode());
        let answer = Answer::next(&mut client);
        if sent.is_ok() && answer == Answer::ConnAck(0) {
            return Some(client);
        }
        let id = String::from_utf8_lossy(&connect.client_id);
        self.tally
            .expect(&format!("CONNECT of {id}"), answer, &[Answer::ConnAck(0)]);
        None
    }

    /// Ends a session that would outlive its connection.
    pub(crate) fn forget_session(&mut self, client_id: &str) {
        if let Some(mut client) = self.connect(V311, client_id) {
            let _ = client.try_send(&wire::DISCONNECT);
        }
    }

    /// Whether what was sent before has been handled: PINGREQ is answered. Everything on the way is counted by `each`.
    pub(crate) fn ping(
        &mut self,
        client: &mut RawClient,
        mut each: impl FnMut(&mut Tally, Answer),
    ) {
        if client.try_send(&wire::PINGREQ).is_err() {
            self.tally.complain("closed before PINGREQ".to_owned());
            return;
        }
        loop {
            match Answer::next(client) {
                Answer::Pong => return,
                end @ (Answer::Closed | Answer::Silence) => {
                    self.tally.expect("PINGREQ", end, &[Answer::Pong]);
                    return;
                }
                other => each(&mut self.tally, other),
            }
        }
    }

    /// What a peer that breaks a rule gets: DISCONNECT with one of `codes` in 5.0 and the end, in 3.1.1 just the end.
    pub(crate) fn expect_end(&mut self, what: &str, client: &mut RawClient, codes: &[u8]) {
        let first = Answer::next(client);
        let allowed: Vec<Answer> = match client.version() {
            V311 => vec![Answer::Closed],
            V5 => codes.iter().copied().map(Answer::Disconnect).collect(),
        };
        self.tally.expect(what, first, &allowed);
        if matches!(first, Answer::Disconnect(_)) {
            let last = Answer::next(client);
            self.tally.require(last == Answer::Closed, || {
                format!("{what}: {last} after DISCONNECT")
            });
        }
    }

    /// What whoever does not even get to a CONNECT gets: the end.
    pub(crate) fn expect_closed(&mut self, what: &str, stream: &mut TcpStream) {
        let answer = if doors::ends(stream) {
            Answer::Closed
        } else {
            Answer::Silence
        };
        self.tally.expect(what, answer, &[Answer::Closed]);
    }
}
