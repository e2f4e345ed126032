//! A publisher that keeps its session: it repeats what was not acknowledged, in order, under the same packet ids.

use std::collections::VecDeque;

use paloma_interop::peer::Version;
use paloma_interop::raw::Frame;
use paloma_interop::wire::{self, Connect, PUBACK, PUBCOMP, PUBREC, PUBREL};

use crate::cast::{self, Cast, Kind, LIFETIME_LONG};
use crate::client::{Client, Known, Link, Stage, Then};
use crate::history::Event;
use crate::message::{LABEL_BYTES, Label};

/// A publisher of the cast.
#[derive(Clone, Debug)]
pub struct Publisher {
    name: String,
    version: Version,
    window: usize,
    payload_bytes_max: usize,
    streams: Vec<Outlet>,
    will: Option<Outlet>,
    /// The broker has the will of this connection.
    owes_will: bool,
    flights: VecDeque<Flight>,
    link: Link,
    known: Known,
    keep_alive_seconds: u16,
    is_calm: bool,
}

/// A stream and the number of its next message.
#[derive(Clone, Debug)]
struct Outlet {
    stream: u16,
    topic: String,
    qos: u8,
    kind: Kind,
    lifetime_seconds: Option<u32>,
    next: u32,
}

#[derive(Clone, Debug)]
struct Flight {
    id: u16,
    label: Label,
    /// The PUBLISH without DUP.
    packet: Vec<u8>,
    qos: u8,
    is_released: bool,
}

impl Publisher {
    /// A publisher by its index.
    #[must_use]
    pub fn new(cast: &Cast, index: u16) -> Self {
        let publisher = &cast.publishers[usize::from(index)];
        let outlet = |number: u16| {
            let stream = &cast.streams[usize::from(number)];
            Outlet {
                stream: number,
                topic: stream.topic.clone(),
                qos: stream.qos,
                kind: stream.kind,
                lifetime_seconds: stream.lifetime_seconds,
                next: 0,
            }
        };
        Self {
            name: format!("p{index}"),
            version: publisher.version,
            window: publisher.window,
            payload_bytes_max: cast.payload_bytes_max,
            streams: publisher.streams.iter().copied().map(outlet).collect(),
            will: publisher.will.map(outlet),
            owes_will: false,
            flights: VecDeque::new(),
            link: Link::Off,
            known: Known::Absent,
            keep_alive_seconds: 0,
            is_calm: false,
        }
    }

    /// Asks the broker to send it away when it has been silent for half as long again. It never pings.
    #[must_use]
    pub fn with_keep_alive(mut self, seconds: u16) -> Self {
        self.keep_alive_seconds = seconds;
        self
    }

    fn publish(&mut self, stage: &mut Stage<'_>) {
        let id = (1..=u16::MAX)
            .find(|id| self.flights.iter().all(|flight| flight.id != *id))
            .expect("a window is smaller than that");
        let mut choice = stage.random.between(0, self.streams.len());
        if choice > 2 && !stage.once_in(3) {
            choice %= 3; // Most is what nobody retains.
        }
        let outlet = &mut self.streams[choice];
        let label = Label {
            stream: outlet.stream,
            number: outlet.next,
        };
        outlet.next += 1;
        let retain = outlet.kind == Kind::Retained;
        let payload = if retain && cast::is_deletion(label.number) {
            Vec::new()
        } else {
            let most = if stage.once_in(20) {
                self.payload_bytes_max
            } else {
                300
            };
            label.payload(stage.random.between(LABEL_BYTES, most + 1))
        };
        let first = 0x30 | outlet.qos << 1 | u8::from(retain);
        let block = match outlet.lifetime_seconds {
            Some(seconds) => wire::properties(&[&[0x02], &seconds.to_be_bytes()]),
            None => wire::empty_properties(self.version),
        };
        let packet = wire::publish_with(&block, first, id, outlet.topic.as_bytes(), &payload);
        stage.add(Event::Sent(label));
        stage.out.extend(&packet);
        self.flights.push_back(Flight {
            id,
            label,
            packet,
            qos: outlet.qos,
            is_released: false,
        });
    }

    /// [MQTT-4.4.0-1], [MQTT-4.6.0-1]
    fn resume(&mut self, stage: &mut Stage<'_>) {
        for flight in &self.flights {
            if flight.is_released {
                stage.out.extend(wire::ack(PUBREL, flight.id));
                continue;
            }
            stage.history.add(Event::Sent(flight.label));
            let at = stage.out.len();
            stage.out.extend(&flight.packet);
            stage.out[at] |= 0x08;
        }
    }

    fn handle_conn_ack(&mut self, frame: &Frame, stage: &mut Stage<'_>) -> Then {
        if frame.connack_reason() != Some(0) {
            return Then::Cut;
        }
        let present = frame.body[0] == 1;
        self.known.handle_present(&self.name, present, stage);
        self.link = Link::Open;
        self.owes_will = self.will.is_some();
        if present {
            self.resume(stage);
        } else {
            // With the session its half-done exchanges are gone; that it is gone is noted already.
            self.flights.clear();
        }
        Then::Stay
    }

    fn handle_pub_ack(&mut self, frame: &Frame, stage: &mut Stage<'_>) {
        let place = self.flights.iter().position(|flight| flight.qos == 1);
        match place.and_then(|at| self.flights.get(at)) {
            Some(flight) if flight.id == frame.id() => {
                stage.add(outcome(flight.label, frame));
                self.flights.remove(place.unwrap_or_default());
            }
            _ => self.foul("PUBACK out of order or for nothing", frame, stage),
        }
    }

    fn handle_pub_rec(&mut self, frame: &Frame, stage: &mut Stage<'_>) {
        let id = frame.id();
        let place = self
            .flights
            .iter()
            .position(|flight| flight.id == id && flight.qos == 2);
        let Some(at) = place else {
            return self.foul("PUBREC for nothing", frame, stage);
        };
        let flight = &mut self.flights[at];
        if !flight.is_released {
            stage.add(outcome(flight.label, frame));
            if frame.ack_reason() >= 0x80 {
                self.flights.remove(at);
                return;
            }
            flight.is_released = true;
        }
        stage.out.extend(wire::ack(PUBREL, id));
    }

    fn handle_pub_comp(&mut self, frame: &Frame, stage: &mut Stage<'_>) {
        let id = frame.id();
        let place = self
            .flights
            .iter()
            .position(|flight| flight.id == id && flight.is_released);
        match place {
            Some(at) => drop(self.flights.remove(at)),
            None => self.foul("PUBCOMP for nothing", frame, stage),
        }
    }

    fn foul(&self, what: &str, frame: &Frame, stage: &mut Stage<'_>) {
        stage.add(Event::Foul(format!("{}: {what}: {frame:02x?}", self.name)));
    }
}

impl Client for Publisher {
    fn name(&self) -> &str {
        &self.name
    }

    fn connect(&mut self, stage: &mut Stage<'_>) {
        let mut connect = Connect::persistent(self.version, &self.name);
        connect.keep_alive = if self.is_calm {
            0
        } else {
            self.keep_alive_seconds
        };
        if self.version == Version::V5 {
            connect.properties = wire::properties(&[&[0x11], &LIFETIME_LONG.to_be_bytes()]);
        }
        if let Some(will) = &mut self.will {
            let label = Label {
                stream: will.stream,
                number: will.next,
            };
            will.next += 1;
            stage.add(Event::Sent(label));
            connect.flags |= 0x04 | will.qos << 3;
            connect.rest = [
                wire::empty_properties(self.version),
                wire::string(&will.topic),
                wire::string(label.payload(LABEL_BYTES)),
            ]
            .concat();
        }
        self.link = Link::Opening;
        stage.out.extend(connect.encode());
    }

    fn handle(&mut self, frame: &Frame, stage: &mut Stage<'_>) -> Then {
        match frame.first {
            0x20 => return self.handle_conn_ack(frame, stage),
            PUBACK => self.handle_pub_ack(frame, stage),
            PUBREC => self.handle_pub_rec(frame, stage),
            PUBCOMP => self.handle_pub_comp(frame, stage),
            0xD0 => {}
            0xE0 => return Then::Cut,
            _ => self.foul("unexpected", frame, stage),
        }
        Then::Stay
    }

    fn poke(&mut self, stage: &mut Stage<'_>) -> Then {
        if self.link != Link::Open || self.is_calm {
            return Then::Stay;
        }
        if stage.once_in(300) {
            return Then::Cut;
        }
        if self.flights.is_empty() && stage.once_in(100) {
            self.link = Link::Leaving;
            self.owes_will = false;
            stage.out.extend(wire::DISCONNECT);
            return Then::Leave;
        }
        let room = self.window.saturating_sub(self.flights.len());
        for _ in 0..stage.random.between(0, room + 1) {
            self.publish(stage);
        }
        Then::Stay
    }

    fn handle_closed(&mut self, stage: &mut Stage<'_>) {
        if self.link == Link::Opening {
            self.known.handle_unanswered();
        }
        if self.owes_will
            && let Some(will) = &self.will
        {
            stage.add(Event::Acknowledged(Label {
                stream: will.stream,
                number: will.next - 1,
            }));
        }
        self.owes_will = false;
        self.link = Link::Off;
    }

    fn calm(&mut self) {
        self.is_calm = true;
    }

    fn is_at_rest(&self) -> bool {
        self.link == Link::Open && self.flights.is_empty()
    }
}

fn outcome(label: Label, frame: &Frame) -> Event {
    if frame.ack_reason() < 0x80 {
        Event::Acknowledged(label)
    } else {
        Event::Refused(label)
    }
}
