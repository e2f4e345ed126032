//! Writing down: every input as it comes, into a buffer that the adapter carries away.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use paloma_broker::store::Recovered;
use paloma_broker::{Authorizer, BrokerConfig, ConnectionId};
use paloma_codec::PacketRef;
use paloma_session::Now;

use crate::digest::Digest;
use crate::event::{Pen, kind};
use crate::file::HEADER;
use crate::redact::{Frame, has_secrets, without_secrets};
use crate::rules::{Answers, Recorded, RuleBook};
use crate::state::{put_recovered, put_start};

/// Bytes that wait to be carried away before the record ends: a disk that is too slow, or a store with too much in it.
const WAITING_BYTES_MAX: usize = 32 * 1024 * 1024;

/// From so many bytes on they are worth a write.
const RIPE_BYTES: usize = 64 * 1024;

/// How to record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// The record ends when it has so many bytes.
    pub bytes_max: u64,
    /// Payloads, passwords, authentication data and the seed of client ids are recorded too.
    pub with_secrets: bool,
    /// What the adapter's output buffers are made with: see [`Transmit::new`](paloma_session::Transmit::new).
    pub transmit_bytes: usize,
    /// The same.
    pub large_bytes_min: usize,
}

impl Settings {
    /// Without secrets, at most so many bytes.
    #[must_use]
    pub const fn new(bytes_max: u64, transmit_bytes: usize, large_bytes_min: usize) -> Self {
        Self {
            bytes_max,
            with_secrets: false,
            transmit_bytes,
            large_bytes_min,
        }
    }
}

/// Why a record ended while its broker went on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// It has as many bytes as it may have.
    Full,
    /// Too much waits to be written.
    TooSlow,
}

impl Ended {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Full => 0,
            Self::TooSlow => 1,
        }
    }

    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Full),
            1 => Some(Self::TooSlow),
            _ => None,
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "it has as many bytes as it may have",
            Self::TooSlow => "more waited to be written than may wait",
        })
    }
}

/// Writes down what a core takes in.
#[derive(Debug)]
pub(crate) struct Recorder {
    pub(crate) pen: Pen,
    pub(crate) settings: Settings,
    pub(crate) digest: Digest,
    pub(crate) answers: Arc<Answers>,
    pub(crate) rules: RuleBook,
    /// Bytes carried away, each block's frame not counted.
    taken: u64,
    outside: u64,
    pub(crate) ended: Option<Ended>,
}

impl Recorder {
    /// Begins with what the broker is made with, whose rules are recorded from here on.
    pub(crate) fn new(config: &mut BrokerConfig, now: Now, settings: Settings) -> Self {
        let answers = Arc::new(Answers::default());
        let mut pen = Pen::default();
        put_start(pen.event(kind::START), config, &settings);
        pen.time(now);
        let rules = Arc::clone(&config.authorizer);
        config.authorizer = Arc::new(Recorded::new(rules, &answers));
        Self {
            pen,
            settings,
            digest: Digest::default(),
            answers,
            rules: RuleBook::default(),
            taken: HEADER.len() as u64,
            outside: 0,
            ended: None,
        }
    }

    pub(crate) fn recovered(&mut self, recovered: &Recovered) {
        // What the rules were asked about the thing before stands behind that.
        self.answers.take(&mut self.pen.out);
        let out = self.pen.event(kind::RECOVERED);
        put_recovered(out, recovered, self.settings.with_secrets);
    }

    pub(crate) fn outside(&mut self, bytes: u64) {
        if bytes != self.outside {
            self.outside = bytes;
            paloma_broker::wire::put_number(self.pen.event(kind::OUTSIDE), bytes);
        }
    }

    /// A packet. A client that has no id will be given one that is made of these numbers.
    #[inline]
    pub(crate) fn packet(
        &mut self,
        now: Now,
        id: ConnectionId,
        (packet, frame): (&PacketRef<'_>, &[u8]),
        random: impl FnOnce() -> [u64; 2],
    ) {
        if let PacketRef::Connect(connect) = packet {
            self.digest.note_version(id, connect.version.is_v5());
            if connect.client_id.is_empty() {
                let out = self.pen.event(kind::RANDOM);
                let numbers = random();
                out.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
            }
        }
        self.pen.time(now);
        let redacted;
        let frame = if self.settings.with_secrets {
            Frame::new(frame, 0)
        } else if let PacketRef::Publish(publish) = packet {
            Frame::new(frame, publish.payload.len())
        } else if has_secrets(packet) {
            redacted = without_secrets(packet, frame.len());
            Frame::new(&redacted, 0)
        } else {
            Frame::new(frame, 0)
        };
        self.pen.packet(id, frame);
    }

    /// What the rules were asked while the last input was taken in.
    #[inline]
    pub(crate) fn after(&mut self) {
        self.answers.take(&mut self.pen.out);
    }

    pub(crate) fn is_ripe(&self) -> bool {
        self.pen.out.len() >= RIPE_BYTES
    }

    /// Between two turns: ends the record if it has grown too long.
    pub(crate) fn check_bounds(&mut self) {
        let waiting = self.pen.out.len();
        if self.ended.is_some() {
            return;
        }
        if self.taken + waiting as u64 >= self.settings.bytes_max {
            self.end(Ended::Full);
        } else if waiting >= WAITING_BYTES_MAX {
            self.end(Ended::TooSlow);
        }
    }

    fn end(&mut self, cause: Ended) {
        self.put_check();
        self.pen.event(kind::END).push(cause.code());
        self.mute();
        self.ended = Some(cause);
    }

    pub(crate) fn mute(&self) {
        self.answers.is_muted.store(true, Ordering::Relaxed);
    }

    /// What is to be written, between two turns; empty if nothing is.
    pub(crate) fn take(&mut self, into: &mut Vec<u8>) {
        into.clear();
        if self.pen.out.is_empty() {
            return;
        }
        if self.ended.is_none() {
            self.put_check();
        }
        self.pen.take(into);
        self.taken += into.len() as u64;
    }

    fn put_check(&mut self) {
        let value = self.digest.value();
        self.pen
            .event(kind::CHECK)
            .extend_from_slice(&value.to_le_bytes());
    }

    /// The rules that the core was given these in place of.
    pub(crate) fn original(&self, rules: &Arc<dyn Authorizer>) -> Option<Arc<dyn Authorizer>> {
        self.rules.original(rules)
    }
}
