//! What a client without I/O is to whoever drives it.

use paloma_interop::random::Random;
use paloma_interop::raw::Frame;

use crate::history::{Event, History};

/// What a client acts upon.
#[derive(Debug)]
pub struct Stage<'a> {
    /// Where it writes what it does and sees.
    pub history: &'a mut History,
    /// What it decides by.
    pub random: &'a mut Random,
    /// Where its bytes go.
    pub out: &'a mut Vec<u8>,
}

impl Stage<'_> {
    /// Adds to the history.
    pub fn add(&mut self, event: Event) {
        self.history.add(event);
    }

    /// True once in so many times.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.random.between(0, times) == 0
    }
}

/// Whether a client keeps its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It does.
    Stay,
    /// It closes the socket without a word.
    Cut,
    /// It has said goodbye and waits for the broker to close.
    Leave,
}

/// A client: the driver opens a connection, has it [`connect`](Self::connect), gives it the frames that come and calls
/// [`poke`](Self::poke) now and then, until the connection ends.
pub trait Client {
    /// Its client id.
    fn name(&self) -> &str;

    /// Writes CONNECT on a new connection.
    fn connect(&mut self, stage: &mut Stage<'_>);

    /// Takes a packet of the broker.
    fn handle(&mut self, frame: &Frame, stage: &mut Stage<'_>) -> Then;

    /// Does something of its own, perhaps.
    fn poke(&mut self, stage: &mut Stage<'_>) -> Then;

    /// The connection has ended, whoever ended it.
    fn handle_closed(&mut self, stage: &mut Stage<'_>);

    /// From now on it does only what it must to come to rest.
    fn calm(&mut self);

    /// Whether it owes nothing and is connected.
    fn is_at_rest(&self) -> bool;
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Off,
    /// CONNECT was sent.
    Opening,
    Open,
    /// DISCONNECT was sent.
    Leaving,
}

/// What a client knows of its session in the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Absent,
    Present,
    /// The answer to the CONNECT that makes it never came.
    Open,
}

impl Known {
    /// Notes what CONNACK says, and what it had to say.
    pub(crate) fn handle_present(&mut self, client: &str, present: bool, stage: &mut Stage<'_>) {
        let expected = match self {
            Self::Absent => false,
            Self::Present => true,
            Self::Open => present,
        };
        stage.add(Event::Connected {
            client: client.to_owned(),
            present,
            expected,
        });
        *self = Self::Present;
    }

    /// CONNECT was sent, and no CONNACK came.
    pub(crate) fn handle_unanswered(&mut self) {
        if *self == Self::Absent {
            *self = Self::Open;
        }
    }
}
