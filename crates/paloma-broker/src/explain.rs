//! Why a client gets a message, or does not: the answer to an operator's question, as values and in plain words.

use std::fmt;

use bytestring::ByteString;
use paloma_codec::Qos;
use paloma_session::Monotonic;

use crate::accounting::DropCause;

/// What [`Broker::explain`](crate::Broker::explain) found: what stands between messages on one topic and one client, at one
/// moment. Printed, it is a line for each thing found, the verdict first.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explanation {
    /// The client that was asked about.
    pub client_id: ByteString,
    /// The topic that was asked about.
    pub topic: ByteString,
    /// In which state its session is.
    pub session: SessionState,
    /// Filters that the session is subscribed to, shared ones included.
    pub filters: usize,
    /// Those of them that match the topic, with what is granted by each.
    pub matches: Vec<FilterMatch>,
    /// What would keep a message on the topic away, or hold it up. Empty if nothing would.
    pub obstacles: Vec<Obstacle>,
    /// Messages on the topic that are on their way to the client.
    pub on_the_way: OnTheWay,
    /// What this session was not given since it was made, on whatever topic, cause by cause.
    pub dropped: Vec<(DropCause, u32)>,
}

/// In which state the session of a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// There is none: the client never came, or its session has ended.
    None,
    /// The client is away, and its session waits for it.
    Away {
        /// When it ends; `None` is never.
        until: Option<Monotonic>,
    },
    /// The client is connected.
    Connected,
}

/// A filter of the session that matches the topic.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FilterMatch {
    /// The filter as it was subscribed to, `$share/…` included.
    pub filter: ByteString,
    /// The highest QoS it delivers at.
    pub qos: Qos,
    /// Messages of the client itself do not come back by it. [MQTT-3.8.3-3]
    pub no_local: bool,
    /// How many share it: each message goes to one of them.
    pub members: Option<usize>,
    /// Whether the rules let the client have what is published on the topic by it.
    pub is_allowed: bool,
}

/// Something that keeps a message away from the client, or holds it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Obstacle {
    /// The client has no session.
    NoSession,
    /// No filter of the session matches the topic.
    NoFilter,
    /// The rules forbid the client to read the topic.
    NotAuthorized,
    /// By every filter that matches and is allowed, the client's own messages do not come back.
    NoLocal,
    /// Every filter that matches is shared, so that others get a part of the messages.
    SharedOnly,
    /// The client is away: QoS 0 messages are dropped, all others wait.
    Away,
    /// The session's queue is full.
    QueueFull {
        /// Messages that wait.
        messages: u64,
        /// Bytes of them.
        bytes: u64,
    },
    /// The client has not acknowledged as many messages as it may be sent, so that QoS 1 and 2 messages wait.
    WindowFull {
        /// Messages that are not acknowledged.
        in_flight: u64,
    },
    /// Packets that are larger are not sent to this client, by its Maximum Packet Size. [MQTT-3.1.2-24]
    MaximumPacketSize {
        /// The largest packet, in bytes.
        bytes: u32,
    },
}

impl Obstacle {
    /// Whether it keeps every message on the topic away, whoever publishes it and at whatever QoS.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::NoSession | Self::NoFilter | Self::NotAuthorized | Self::QueueFull { .. } => true,
            Self::NoLocal
            | Self::SharedOnly
            | Self::Away
            | Self::WindowFull { .. }
            | Self::MaximumPacketSize { .. } => false,
        }
    }
}

/// Messages on one topic on their way to one client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OnTheWay {
    /// They wait to be sent, in memory.
    pub waiting: u64,
    /// Of those, the ones whose expiry has passed: they are dropped when their turn comes. [MQTT-3.3.2-5]
    pub expired: u64,
    /// They were sent and are not acknowledged.
    pub in_flight: u64,
    /// Messages of any topic that wait in the store, which is not looked into.
    pub in_store: u64,
}

impl Explanation {
    /// Whether a message that anybody else publishes on the topic now would be given to the client's session.
    #[must_use]
    pub fn is_delivered(&self) -> bool {
        !self.obstacles.iter().any(|obstacle| obstacle.is_final())
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (client, topic) = (&*self.client_id, &*self.topic);
        if self.is_delivered() {
            writeln!(f, "{client:?} gets what is published on {topic:?}")?;
        } else {
            writeln!(f, "{client:?} does not get what is published on {topic:?}")?;
        }
        writeln!(f, "- {}", self.session)?;
        for found in &self.matches {
            writeln!(f, "- {found}")?;
        }
        for obstacle in &self.obstacles {
            if *obstacle == Obstacle::NoFilter {
                writeln!(f, "- none of its {} filters matches", self.filters)?;
            } else if *obstacle != Obstacle::NoSession {
                writeln!(f, "- {obstacle}")?;
            }
        }
        write!(f, "{}", self.on_the_way)?;
        for (cause, count) in &self.dropped {
            writeln!(
                f,
                "- {count} dropped on any topic so far: {}",
                reason(*cause)
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for SessionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("it has no session: it never came, or its session has ended"),
            Self::Away { until: None } => f.write_str("it is away, and its session waits for ever"),
            Self::Away { until: Some(until) } => {
                let seconds = until.as_nanos() / 1_000_000_000;
                write!(
                    f,
                    "it is away, and its session waits until {seconds} s of the broker's time"
                )
            }
            Self::Connected => f.write_str("it is connected"),
        }
    }
}

impl fmt::Display for FilterMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (filter, qos) = (&*self.filter, self.qos as u8);
        write!(f, "its filter {filter:?} matches, at QoS {qos} at most")?;
        if let Some(members) = self.members {
            write!(f, ", and {members} share it")?;
        }
        if self.no_local {
            f.write_str(", without its own messages (No Local)")?;
        }
        f.write_str(if self.is_allowed {
            "; the rules allow it"
        } else {
            "; the rules forbid it"
        })
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSession => f.write_str("there is no session"),
            Self::NoFilter => f.write_str("no filter matches"),
            Self::NotAuthorized => f.write_str("the rules forbid it to read the topic"),
            Self::NoLocal => f.write_str("what it publishes itself does not come back (No Local)"),
            Self::SharedOnly => f.write_str("others of its group get a part of the messages"),
            Self::Away => f.write_str("while it is away QoS 0 is dropped, and QoS 1 and 2 wait"),
            Self::QueueFull { messages, bytes } => {
                write!(f, "its queue is full: {messages} messages, {bytes} bytes")
            }
            Self::WindowFull { in_flight } => {
                write!(
                    f,
                    "{in_flight} messages are not acknowledged: QoS 1 and 2 wait"
                )
            }
            Self::MaximumPacketSize { bytes } => {
                write!(
                    f,
                    "packets above {bytes} bytes are dropped (Maximum Packet Size)"
                )
            }
        }
    }
}

impl fmt::Display for OnTheWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (self.waiting, "wait to be sent"),
            (self.expired, "of those have expired"),
            (self.in_flight, "are sent and not acknowledged"),
            (self.in_store, "of any topic wait in the store"),
        ];
        for (count, what) in parts.into_iter().filter(|(count, _)| *count > 0) {
            writeln!(f, "- {count} {what}")?;
        }
        Ok(())
    }
}

const fn reason(cause: DropCause) -> &'static str {
    match cause {
        DropCause::QueueFull => "the queue was full",
        DropCause::Offline => "QoS 0, and the client was away",
        DropCause::Expired => "the message had expired",
        DropCause::PacketTooLarge => "larger than the client's Maximum Packet Size",
        DropCause::SessionEnded => "the session ended",
        DropCause::NotAuthorized => "the rules forbade it",
        DropCause::NoGroupMember => "nobody of the group could take it",
        DropCause::RefusedByClient => "the client refused it",
        DropCause::ConnectionLost => "the connection was lost",
        DropCause::StoreLost => "the store has lost it",
    }
}
