//! What clients did and saw, in one order.
//!
//! All clients of a run write into one history, so that the place of an event in it is its time. An event about something
//! that a client sends stands before the bytes leave, one about something that it sees after they have come.

use std::fmt::{self, Write as _};

use crate::message::Label;

/// A subscriber, by its index in the cast.
pub type SubscriberIndex = u16;

/// Something that a client did or saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A publisher sends a message, for the first time or again. A will is sent by its CONNECT.
    Sent(Label),
    /// The broker has taken it over: PUBACK, or PUBREC, without an error. A will is owed when its connection has ended.
    Acknowledged(Label),
    /// The broker has refused it, and the publisher gives it up.
    Refused(Label),
    /// A subscriber sends SUBSCRIBE for one of its filters.
    Subscribing(SubscriberIndex, u8),
    /// SUBACK has come for it.
    Subscribed(SubscriberIndex, u8),
    /// A subscriber sends UNSUBSCRIBE for one of its filters.
    Unsubscribing(SubscriberIndex, u8),
    /// UNSUBACK has come for it.
    Unsubscribed(SubscriberIndex, u8),
    /// A subscriber sends a CONNECT with Clean Start.
    Wiping(SubscriberIndex),
    /// Its CONNACK has come.
    Wiped(SubscriberIndex),
    /// A message reached a subscriber's application. At QoS 2 repetitions that the client recognises are left out.
    Received {
        /// Who.
        subscriber: SubscriberIndex,
        /// Which.
        label: Label,
        /// The QoS it came with.
        qos: u8,
        /// DUP.
        dup: bool,
        /// RETAIN.
        retain: bool,
    },
    /// CONNACK has come with Session Present as `present`, where the client knows that it must be `expected`.
    Connected {
        /// The client id.
        client: String,
        /// What it says.
        present: bool,
        /// What is true.
        expected: bool,
    },
    /// A reader of retained messages sends its SUBSCRIBE.
    Watching(u32),
    /// It got one.
    Watched(u32, Label),
    /// It has waited for the rest in vain, or seen all.
    WatchEnded(u32),
    /// The broker was killed, for the so-manieth time.
    Crashed(u32),
    /// It runs again.
    Recovered(u32),
    /// The machine's wall clock was put forward, or back, by so many seconds, be it while nothing ran.
    ClockSet(i64),
    /// The broker broke the protocol, or a payload.
    Foul(String),
}

/// Events in the order in which they happened.
#[derive(Clone, Debug, Default)]
pub struct History {
    events: Vec<Event>,
}

impl History {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what happens now.
    pub fn add(&mut self, event: Event) {
        self.events.push(event);
    }

    /// All of it.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The same, to be doctored by tests of the checker.
    pub fn events_mut(&mut self) -> &mut Vec<Event> {
        &mut self.events
    }

    /// One line an event.
    #[must_use]
    pub fn trace(&self) -> String {
        let mut trace = String::new();
        for (time, event) in self.events.iter().enumerate() {
            writeln!(trace, "{time} {event}").expect("a string takes everything");
        }
        trace
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sent(label) => write!(f, "sent {label}"),
            Self::Acknowledged(label) => write!(f, "acknowledged {label}"),
            Self::Refused(label) => write!(f, "refused {label}"),
            Self::Subscribing(who, filter) => write!(f, "subscribing s{who} f{filter}"),
            Self::Subscribed(who, filter) => write!(f, "subscribed s{who} f{filter}"),
            Self::Unsubscribing(who, filter) => write!(f, "unsubscribing s{who} f{filter}"),
            Self::Unsubscribed(who, filter) => write!(f, "unsubscribed s{who} f{filter}"),
            Self::Wiping(who) => write!(f, "wiping s{who}"),
            Self::Wiped(who) => write!(f, "wiped s{who}"),
            Self::Received {
                subscriber,
                label,
                qos,
                dup,
                retain,
            } => {
                let dup = if *dup { " dup" } else { "" };
                let retain = if *retain { " retained" } else { "" };
                write!(f, "received s{subscriber} {label} q{qos}{dup}{retain}")
            }
            Self::Connected {
                client,
                present,
                expected,
            } => write!(f, "connected {client} present {present} of {expected}"),
            Self::Watching(watch) => write!(f, "watching w{watch}"),
            Self::Watched(watch, label) => write!(f, "watched w{watch} {label}"),
            Self::WatchEnded(watch) => write!(f, "watched-all w{watch}"),
            Self::Crashed(cycle) => write!(f, "crashed {cycle}"),
            Self::Recovered(cycle) => write!(f, "recovered {cycle}"),
            Self::ClockSet(seconds) => write!(f, "clock-set {seconds}"),
            Self::Foul(what) => write!(f, "foul {what}"),
        }
    }
}
