//! A durable subscriber: it knows which QoS 2 messages it has, whatever happens to its connections.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use paloma_interop::peer::Version;
use paloma_interop::raw::Frame;
use paloma_interop::wire::{self, Connect, PUBACK, PUBCOMP, PUBREC, PUBREL};

use crate::cast::{self, Cast, LIFETIME_LONG};
use crate::client::{Client, Known, Link, Stage, Then};
use crate::history::Event;
use crate::message::Label;

/// The id of SUBSCRIBE and UNSUBSCRIBE, of which one at a time is unanswered.
const REQUEST_ID: u16 = 7;

/// A subscriber of the cast.
#[derive(Clone, Debug)]
pub struct Subscriber {
    index: u16,
    name: String,
    version: Version,
    receive_maximum: u16,
    filters: Vec<Wish>,
    is_lazy: bool,
    wipes: bool,
    /// The next CONNECT begins a new session.
    is_wiping: bool,
    /// QoS 2 exchanges up to their PUBREL, with what they carry. Part of the session.
    exchanges: BTreeMap<u16, Option<Label>>,
    /// Ids of this connection that the broker waits for.
    unacknowledged: BTreeSet<u16>,
    /// Acknowledgements that were not sent yet: first byte and id.
    owed: VecDeque<(u8, u16)>,
    /// The filter whose request is unanswered.
    request: Option<usize>,
    link: Link,
    known: Known,
    is_calm: bool,
}

#[derive(Clone, Debug)]
struct Wish {
    filter: cast::Filter,
    is_wanted: bool,
    is_on: bool,
}

impl Subscriber {
    /// A subscriber by its index.
    #[must_use]
    pub fn new(cast: &Cast, index: u16) -> Self {
        let subscriber = &cast.subscribers[usize::from(index)];
        let wish = |filter: &cast::Filter| Wish {
            filter: filter.clone(),
            is_wanted: true,
            is_on: false,
        };
        Self {
            index,
            name: format!("s{index}"),
            version: subscriber.version,
            receive_maximum: subscriber.receive_maximum,
            filters: subscriber.filters.iter().map(wish).collect(),
            is_lazy: subscriber.is_lazy,
            wipes: subscriber.wipes,
            is_wiping: false,
            exchanges: BTreeMap::new(),
            unacknowledged: BTreeSet::new(),
            owed: VecDeque::new(),
            request: None,
            link: Link::Off,
            known: Known::Absent,
            is_calm: false,
        }
    }

    fn handle_conn_ack(&mut self, frame: &Frame, stage: &mut Stage<'_>) -> Then {
        if frame.connack_reason() != Some(0) {
            return Then::Cut;
        }
        let present = frame.body[0] == 1;
        if self.is_wiping {
            self.known = Known::Absent;
        }
        self.known.handle_present(&self.name, present, stage);
        if !present {
            self.forget();
        }
        if std::mem::take(&mut self.is_wiping) {
            stage.add(Event::Wiped(self.index));
            if self.version == Version::V311 {
                // A clean session of 3.1.1 ends with its connection: the next one makes the durable session.
                self.known = Known::Absent;
                return Then::Cut;
            }
        }
        self.link = Link::Open;
        self.ask(stage);
        Then::Stay
    }

    fn forget(&mut self) {
        self.exchanges.clear();
        for wish in &mut self.filters {
            wish.is_on = false;
        }
    }

    /// Sends the next request, unless one is unanswered.
    fn ask(&mut self, stage: &mut Stage<'_>) {
        if self.request.is_some() {
            return;
        }
        let mut wishes = self.filters.iter();
        let Some(number) = wishes.position(|wish| wish.is_on != wish.is_wanted) else {
            return;
        };
        let wish = &self.filters[number];
        let filter = wish.filter.filter.as_str();
        if wish.is_wanted {
            stage.add(Event::Subscribing(self.index, number as u8));
            let filters = [(filter, wish.filter.qos)];
            stage
                .out
                .extend(wire::subscribe(self.version, REQUEST_ID, &filters));
        } else {
            stage.add(Event::Unsubscribing(self.index, number as u8));
            stage
                .out
                .extend(wire::unsubscribe(self.version, REQUEST_ID, &[filter]));
        }
        self.request = Some(number);
    }

    fn handle_answer(&mut self, frame: &Frame, stage: &mut Stage<'_>) {
        let is_sub_ack = frame.first == 0x90;
        let Some(number) = self.request.take() else {
            return self.foul("an answer to nothing", frame, stage);
        };
        let wish = &mut self.filters[number];
        if wish.is_wanted != is_sub_ack || frame.id() != REQUEST_ID {
            return self.foul("an answer to something else", frame, stage);
        }
        if is_sub_ack && frame.codes(self.version) != [wish.filter.qos] {
            return self.foul("a subscription is refused", frame, stage);
        }
        wish.is_on = is_sub_ack;
        stage.add(if is_sub_ack {
            Event::Subscribed(self.index, number as u8)
        } else {
            Event::Unsubscribed(self.index, number as u8)
        });
        self.ask(stage);
    }

    fn handle_publish(&mut self, frame: &Frame, stage: &mut Stage<'_>) {
        let Some(publish) = frame.publish(self.version) else {
            return self.foul("unexpected", frame, stage);
        };
        let label = Label::of(&publish.payload);
        if label.is_none() && !publish.payload.is_empty() {
            self.foul("a broken payload", frame, stage);
        }
        let id = publish.id;
        let mut is_repetition = false;
        if publish.qos > 0 {
            if !self.unacknowledged.insert(id) {
                self.foul("a packet id is used twice", frame, stage);
            }
            if self.unacknowledged.len() > usize::from(self.receive_maximum) {
                self.foul("the receive maximum is passed", frame, stage);
            }
        }
        if publish.qos == 2 {
            match self.exchanges.insert(id, label) {
                Some(before) if before == label => is_repetition = true,
                Some(_) => self.foul("the packet id of an open exchange is used", frame, stage),
                None => {}
            }
        } else if publish.qos == 1 && self.exchanges.contains_key(&id) {
            self.foul("the packet id of an open exchange is used", frame, stage);
        }
        if let Some(label) = label
            && !is_repetition
        {
            stage.add(Event::Received {
                subscriber: self.index,
                label,
                qos: publish.qos,
                dup: publish.dup,
                retain: publish.retain,
            });
        }
        match publish.qos {
            1 => self.owed.push_back((PUBACK, id)),
            2 => self.owed.push_back((PUBREC, id)),
            _ => {}
        }
    }

    fn pay(&mut self, count: usize, stage: &mut Stage<'_>) {
        for (first, id) in self.owed.drain(..count.min(self.owed.len())) {
            stage.out.extend(wire::ack(first, id));
            if first != PUBREC {
                self.unacknowledged.remove(&id);
            }
        }
    }

    fn foul(&self, what: &str, frame: &Frame, stage: &mut Stage<'_>) {
        let shown = &frame.body[..frame.body.len().min(40)];
        let first = frame.first;
        stage.add(Event::Foul(format!(
            "{}: {what}: {first:02x} {shown:02x?}",
            self.name
        )));
    }
}

impl Client for Subscriber {
    fn name(&self) -> &str {
        &self.name
    }

    fn connect(&mut self, stage: &mut Stage<'_>) {
        let mut connect = Connect::persistent(self.version, &self.name);
        connect.keep_alive = 0;
        if self.version == Version::V5 {
            let expiry = LIFETIME_LONG.to_be_bytes();
            let [high, low] = self.receive_maximum.to_be_bytes();
            connect.properties = wire::properties(&[&[0x11], &expiry, &[0x21, high, low]]);
        }
        if self.is_wiping {
            connect.flags |= 0x02;
            stage.add(Event::Wiping(self.index));
            self.forget();
        }
        self.link = Link::Opening;
        stage.out.extend(connect.encode());
    }

    fn handle(&mut self, frame: &Frame, stage: &mut Stage<'_>) -> Then {
        match frame.first {
            0x20 => return self.handle_conn_ack(frame, stage),
            0x90 | 0xB0 => self.handle_answer(frame, stage),
            PUBREL => {
                self.exchanges.remove(&frame.id());
                self.owed.push_back((PUBCOMP, frame.id()));
            }
            0xD0 => {}
            0xE0 => return Then::Cut,
            _ => self.handle_publish(frame, stage),
        }
        if !self.is_lazy || self.is_calm {
            self.pay(usize::MAX, stage);
        }
        Then::Stay
    }

    fn poke(&mut self, stage: &mut Stage<'_>) -> Then {
        if self.link != Link::Open {
            return Then::Stay;
        }
        if self.is_calm {
            self.pay(usize::MAX, stage);
            return Then::Stay;
        }
        if self.wipes && self.request.is_none() && stage.once_in(400) {
            self.is_wiping = true;
            return Then::Cut;
        }
        if stage.once_in(100) {
            return Then::Cut;
        }
        if self.is_lazy {
            let count = stage.random.between(0, 20);
            self.pay(count, stage);
        }
        if self.request.is_none() && stage.once_in(20) {
            for wish in &mut self.filters {
                if wish.filter.is_fickle && wish.is_on == wish.is_wanted {
                    wish.is_wanted = !wish.is_on;
                }
            }
            self.ask(stage);
        }
        Then::Stay
    }

    fn handle_closed(&mut self, _stage: &mut Stage<'_>) {
        if self.link == Link::Opening {
            self.known.handle_unanswered();
        }
        self.link = Link::Off;
        self.unacknowledged.clear();
        self.owed.clear();
        self.request = None;
    }

    fn calm(&mut self) {
        self.is_calm = true;
    }

    fn is_at_rest(&self) -> bool {
        self.link == Link::Open && self.exchanges.is_empty() && self.request.is_none()
    }
}
