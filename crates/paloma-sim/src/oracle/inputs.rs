//! What goes into the broker, and what the oracle makes of it. It is told after the broker has been.

use paloma_broker::{CloseCause, ConnectionId};
use paloma_codec::{Connect, Disconnect, Packet, Publish, PublishTopic, Qos};
use paloma_session::Now;
use paloma_topic::TopicName;

use super::model::{
    Answer, AnswerKind, Expected, Gate, Held, Life, Link, Message, Retained, Verdict, Will,
};
use super::routing::Routed;
use super::{LARGE_BYTES, Oracle};
use crate::violation::Invariant;

/// Nanoseconds that a PUBLISH is held at most.
const HELD_FOR: u64 = 10_000_000_000;

/// What the broker's counters say of a packet that went in.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// It was a message that the broker had not seen before.
    pub(crate) is_published: bool,
    /// Messages dropped for want of room because of it.
    pub(crate) full_drops: u64,
    /// The store had no room for it.
    pub(crate) lacks_room: bool,
}

impl Oracle {
    /// A packet has gone in.
    pub(crate) fn packet_in(&mut self, now: Now, id: ConnectionId, packet: &Packet, seen: Seen) {
        self.tick += 1;
        self.full_drops += seen.full_drops;
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        if let Packet::Connect(connect) = packet {
            link.connect = Some((**connect).clone());
            link.version = connect.version;
            link.client_id = connect.client_id.to_string();
        }
        if link.is_hostile {
            return;
        }
        link.heard_at = now.monotonic.as_nanos();
        match packet {
            Packet::Publish(publish) => self.publish_in(now, id, publish, seen),
            Packet::PubAck(ack) => self.ended(now, id, ack.id.get(), false),
            Packet::PubRec(ack) => self.pub_rec_in(now, id, ack.id.get()),
            Packet::PubRel(ack) => self.pub_rel_in(id, ack.id.get()),
            Packet::PubComp(ack) => self.ended(now, id, ack.id.get(), true),
            Packet::Subscribe(subscribe) => self.subscribe_in(id, subscribe),
            Packet::Unsubscribe(unsubscribe) => self.unsubscribe_in(id, unsubscribe),
            Packet::PingReq => link.pings += 1,
            Packet::Disconnect(disconnect) => self.disconnect_in(now, id, disconnect),
            Packet::Connect(_)
            | Packet::ConnAck(_)
            | Packet::SubAck(_)
            | Packet::UnsubAck(_)
            | Packet::PingResp
            | Packet::Auth(_) => {}
        }
    }

    /// The store is behind: nothing more is read of a client that has sent something meanwhile.
    pub(crate) fn unread(&mut self, id: ConnectionId) {
        if let Some(link) = self.links.get_mut(&id) {
            link.is_unread = link.is_open;
        }
    }

    /// A client is read again; what it may have said meanwhile counts as said now.
    pub(crate) fn read_again(&mut self, now: Now, id: ConnectionId) {
        if let Some(link) = self.links.get_mut(&id)
            && std::mem::take(&mut link.is_unread)
        {
            link.heard_at = now.monotonic.as_nanos();
        }
    }

    /// Bytes have gone in that are no packet.
    pub(crate) fn invalid_in(&mut self, now: Now, id: ConnectionId) {
        if self.links.get(&id).is_some_and(|link| !link.is_hostile) {
            self.violated(
                now,
                Invariant::Protocol,
                "a client's packet was not understood",
            );
        }
    }

    /// The authenticator's word has gone in.
    pub(crate) fn authenticated(&mut self, now: Now, id: ConnectionId, is_allowed: bool) {
        self.tick += 1;
        let Some(link) = self.links.get_mut(&id).filter(|link| !link.is_hostile) else {
            return;
        };
        let Some(connect) = link.connect.clone() else {
            return;
        };
        let client_id = link.client_id.clone();
        let is_will_denied = connect
            .will
            .as_ref()
            .is_some_and(|will| !self.rules.may(&client_id, true, will.topic.as_str()));
        if !is_allowed || is_will_denied {
            link.expected = Expected::Refused;
            return;
        }
        self.admit(now, id, &client_id, &connect);
    }

    fn admit(&mut self, now: Now, id: ConnectionId, client_id: &str, connect: &Connect) {
        let earlier = self.state.sessions.get(client_id);
        let was_durable = earlier.is_some_and(|session| session.is_durable);
        if let Some(holder) = earlier.and_then(|session| session.connection) {
            if let Some(link) = self.links.get_mut(&holder) {
                link.is_ending = Some(CloseCause::TakenOver);
            }
            self.detach(now, holder);
        }
        if connect.clean_start {
            self.end_session(now, client_id);
        }
        let is_present = self.state.sessions.contains_key(client_id);
        self.instances += 1;
        let instance = self.instances;
        let will = connect.will.as_ref().map(|will| self.note_will(will));
        let expiry_seconds = connect
            .session_expiry_seconds
            .min(self.limits.session_expiry_seconds_max);
        let session = self.state.sessions.entry(client_id.to_owned()).or_default();
        if !is_present {
            session.instance = instance;
        }
        self.let_into.insert(id, session.instance);
        session.connection = Some(id);
        session.expiry_seconds = expiry_seconds;
        session.is_durable |= expiry_seconds > 0;
        session.will = will;
        session.will_at = None;
        session.expires_at = None;
        let gate = if session.is_durable || was_durable {
            Gate::NextBatch
        } else {
            Gate::Open
        };
        if let Some(link) = self.links.get_mut(&id) {
            link.is_open = true;
            link.heard_at = now.monotonic.as_nanos();
            link.expiry_seconds = expiry_seconds;
            link.expected = Expected::Accepted { is_present, gate };
        }
        self.resume(client_id);
    }

    /// What was in flight is to be sent again; what the rules forbid by now is not.
    fn resume(&mut self, client_id: &str) {
        let Some(session) = self.state.sessions.get_mut(client_id) else {
            return;
        };
        let mut handed_on = Vec::new();
        let (rules, messages) = (&self.rules, &self.messages);
        let (counts, instance) = (&mut self.exactly_once, session.instance);
        session.flights.retain_mut(|flight| {
            let topic = messages
                .get(&flight.copy.number)
                .map(|message| &*message.topic);
            if topic.is_none_or(|topic| rules.may(client_id, false, topic)) {
                return true;
            }
            if flight.copy.form.qos == Qos::ExactlyOnce {
                flight.is_received = true;
                // It may have come or not.
                if let Some((sent, came)) = counts.get_mut(&(instance, flight.copy.number)) {
                    *sent = *came;
                }
                return true;
            }
            handed_on.extend(flight.copy.shared);
            false
        });
        session.to_repeat = session.flights.iter().map(|flight| flight.id).collect();
        for place in handed_on {
            self.hand_on(place);
        }
    }

    /// The rules have changed: what waits to be sent again may be given up, unless they change back before that.
    pub(crate) fn rules_changed(&mut self) {
        for (client_id, session) in &mut self.state.sessions {
            for flight in &mut session.flights {
                let message = self.messages.get(&flight.copy.number);
                let is_allowed =
                    message.is_none_or(|message| self.rules.may(client_id, false, &message.topic));
                flight.is_unsure |= !is_allowed && session.to_repeat.contains(&flight.id);
            }
        }
    }

    fn note_will(&mut self, will: &paloma_codec::Will) -> Will {
        let number = number_of(&will.payload).unwrap_or_default();
        let topic = will.topic.as_str().to_owned();
        self.messages.insert(
            number,
            Message {
                topic: topic.clone(),
                qos: will.qos,
                is_empty: false,
                is_large: will.payload.len() >= LARGE_BYTES,
                life: None,
                earlier_lives: Vec::new(),
            },
        );
        Will {
            number,
            delay_seconds: will.delay_seconds,
            topic,
            retain: will.retain,
        }
    }

    fn publish_in(&mut self, now: Now, id: ConnectionId, publish: &Publish, seen: Seen) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let topic = link.topic_of(&publish.topic);
        let (client_id, is_v5) = (link.client_id.clone(), link.version.is_v5());
        let Some(session) = self.state.sessions.get_mut(&client_id) else {
            return;
        };
        let is_durable = session.is_durable;
        let qos = publish.delivery.qos();
        let packet = publish.delivery.id().map_or(0, |id| id.get());
        let is_repeat = qos == Qos::ExactlyOnce
            && if session.perhaps_received.remove(&packet) {
                !seen.is_published
            } else {
                session.received.contains(&packet)
            };
        if is_repeat == seen.is_published {
            let what = if is_repeat {
                "a repeated QoS 2 PUBLISH was taken for a new one"
            } else {
                "a new PUBLISH was taken for a repeated one"
            };
            return self.violated(
                now,
                Invariant::I2,
                format!("{what}: {packet} of {client_id}"),
            );
        }
        if is_repeat {
            let gate = gate_of(is_durable);
            return self.owe(id, AnswerKind::PubRec, packet, gate, vec![Verdict::Fine]);
        }
        if qos == Qos::ExactlyOnce {
            session.received.insert(packet);
        }
        let is_allowed = self.rules.may(&client_id, true, &topic);
        if !is_v5 && qos != Qos::AtMostOnce && is_allowed && seen.lacks_room {
            return self.hold(now, id, publish);
        }
        self.take_in(now, id, publish, seen);
    }

    /// A PUBLISH that is new goes its way.
    fn take_in(&mut self, now: Now, id: ConnectionId, publish: &Publish, seen: Seen) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let topic = link.topic_of(&publish.topic);
        let (client_id, is_v5) = (link.client_id.clone(), link.version.is_v5());
        let session = self.state.sessions.get(&client_id);
        let is_durable = session.is_some_and(|session| session.is_durable);
        let qos = publish.delivery.qos();
        let packet = publish.delivery.id().map_or(0, |id| id.get());
        let number = self.note_message(now, &topic, publish);
        let is_allowed = self.rules.may(&client_id, true, &topic);
        let mut routed = Routed::default();
        let mut is_stored = qos == Qos::ExactlyOnce && is_durable;
        let verdict = match (is_allowed, seen.lacks_room) {
            (false, _) => Verdict::Denied,
            (true, true) => Verdict::NoRoom,
            (true, false) => Verdict::Fine,
        };
        if verdict == Verdict::Fine {
            if publish.retain {
                is_stored |= self.retain(number, &topic, &client_id, publish.payload.is_empty());
            }
            routed = self.route(now, &client_id, number, publish.retain);
            is_stored |= routed.is_stored;
        }
        if qos == Qos::ExactlyOnce {
            let may_be_full = routed.recipients == 1 && seen.full_drops > 0;
            self.note_exchange(&client_id, packet, (is_v5, verdict, may_be_full));
        }
        // What was refused, or found no room, need not be in the commit.
        let gate = gate_of(is_stored && verdict == Verdict::Fine && seen.full_drops == 0);
        let kind = match qos {
            Qos::AtMostOnce => return,
            Qos::AtLeastOnce => AnswerKind::PubAck,
            Qos::ExactlyOnce => AnswerKind::PubRec,
        };
        self.owe(id, kind, packet, gate, vec![verdict]);
    }

    /// There is no room for a PUBLISH and no word for that before 5.0.
    fn hold(&mut self, now: Now, id: ConnectionId, publish: &Publish) {
        let packet = publish.delivery.id().map_or(0, |id| id.get());
        let tick = self.tick;
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        link.held = Some(Held {
            publish: publish.clone(),
            tick,
            until: now.monotonic.as_nanos() + HELD_FOR,
        });
        if publish.delivery.qos() == Qos::ExactlyOnce
            && let Some(session) = self.state.sessions.get_mut(&link.client_id)
        {
            session.refused.insert(packet);
        }
    }

    /// A connection ends with a PUBLISH that was held: it is as if that had never come.
    pub(super) fn forget_held(&mut self, id: ConnectionId) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let Some(packet) = link.held.take().and_then(|held| held.publish.delivery.id()) else {
            return;
        };
        if let Some(session) = self.state.sessions.get_mut(&link.client_id)
            && session.refused.remove(&packet.get())
        {
            session.received.remove(&packet.get());
        }
    }

    /// The store has room: what was held goes its way, and its client is heard again.
    pub(crate) fn room(&mut self, now: Now, full_drops: u64) {
        self.tick += 1;
        self.full_drops += full_drops;
        let links = self.links.iter_mut();
        let held = links.filter_map(|(id, link)| Some((link.held.take()?, *id)));
        let mut held: Vec<(Held, ConnectionId)> = held.collect();
        held.sort_by_key(|(held, _)| held.tick);
        for (Held { publish, .. }, id) in held {
            let Some(link) = self.links.get_mut(&id) else {
                continue;
            };
            link.heard_at = now.monotonic.as_nanos();
            if let Some(packet) = publish.delivery.id()
                && let Some(session) = self.state.sessions.get_mut(&link.client_id)
            {
                session.refused.remove(&packet.get());
            }
            let seen = Seen {
                is_published: true,
                full_drops,
                lacks_room: false,
            };
            self.take_in(now, id, &publish, seen);
        }
    }

    /// What the answer means for the packet id of a QoS 2 PUBLISH.
    fn note_exchange(
        &mut self,
        client_id: &str,
        packet: u16,
        (is_v5, verdict, may_be_full): (bool, Verdict, bool),
    ) {
        let Some(session) = self.state.sessions.get_mut(client_id) else {
            return;
        };
        match (verdict == Verdict::Fine, is_v5) {
            (false, false) => {
                session.refused.insert(packet);
            }
            // An error in PUBREC ends the exchange, so that its id is free at once.
            (false, true) => {
                session.received.remove(&packet);
            }
            (true, true) if may_be_full => {
                session.perhaps_received.insert(packet);
            }
            (true, _) => {}
        }
    }

    /// Takes note of a message that has arrived, perhaps not for the first time, and gives its number.
    fn note_message(&mut self, now: Now, topic: &str, publish: &Publish) -> u64 {
        let number = number_of(&publish.payload).unwrap_or_else(|| self.next_number());
        let mut message = message_of(now, topic, publish);
        if let Some(earlier) = self.messages.remove(&number) {
            message.earlier_lives = earlier.earlier_lives;
            message.earlier_lives.extend(earlier.life);
        }
        self.messages.insert(number, message);
        self.state.taken.insert(number);
        number
    }

    /// Whether anything changed that is stored.
    fn retain(&mut self, number: u64, topic: &str, author: &str, is_empty: bool) -> bool {
        let previous = self.state.retained.remove(topic);
        let tick = self.tick;
        if let Some(previous) = &previous {
            self.state.retained_until.insert(previous.number, tick);
        }
        // One that expires may be gone already.
        let was_there_for_certain = previous.is_some_and(|previous| {
            let message = self.messages.get(&previous.number);
            message.is_some_and(|message| message.life.is_none())
        });
        for session in self.state.sessions.values_mut() {
            for replay in &mut session.replays {
                replay.owed.remove(topic);
                // What is not there any more and then set anew may stand where the replay has yet to come.
                if is_empty || !was_there_for_certain {
                    replay.brought.remove(topic);
                }
            }
        }
        if is_empty {
            return was_there_for_certain;
        }
        let retained = Retained {
            number,
            author: author.to_owned(),
        };
        self.state.retained_until.remove(&number);
        self.state.retained.insert(topic.to_owned(), retained);
        true
    }

    /// Retains on behalf of a will.
    pub(super) fn retain_will(&mut self, will: &Will, author: &str) {
        self.retain(will.number, &will.topic, author, false);
    }

    pub(super) fn owe(
        &mut self,
        id: ConnectionId,
        kind: AnswerKind,
        packet: u16,
        gate: Gate,
        verdicts: Vec<Verdict>,
    ) {
        if let Some(link) = self.links.get_mut(&id) {
            link.answers.push_back(Answer {
                kind,
                id: packet,
                gate,
                verdicts,
            });
        }
    }

    fn pub_rec_in(&mut self, now: Now, id: ConnectionId, packet: u16) {
        let Some(client_id) = self.client_of(id) else {
            return;
        };
        let Some(session) = self.state.sessions.get_mut(&client_id) else {
            return;
        };
        let is_durable = session.is_durable;
        let Some(flight) = session
            .flights
            .iter_mut()
            .find(|flight| flight.id == packet)
        else {
            return;
        };
        if flight.copy.form.qos != Qos::ExactlyOnce {
            return self.violated(now, Invariant::Protocol, "PUBREC for a QoS 1 delivery");
        }
        flight.is_received = true;
        if let Some(link) = self.links.get_mut(&id) {
            link.releases.push_back((packet, gate_of(is_durable)));
        }
    }

    fn pub_rel_in(&mut self, id: ConnectionId, packet: u16) {
        let Some(client_id) = self.client_of(id) else {
            return;
        };
        let Some(session) = self.state.sessions.get_mut(&client_id) else {
            return;
        };
        session.received.remove(&packet);
        session.perhaps_received.remove(&packet);
        session.refused.remove(&packet);
        let gate = gate_of(session.is_durable);
        self.owe(id, AnswerKind::PubComp, packet, gate, vec![Verdict::Fine]);
    }

    /// PUBACK or PUBCOMP: the exchange is over.
    fn ended(&mut self, _now: Now, id: ConnectionId, packet: u16, is_complete: bool) {
        let Some(client_id) = self.client_of(id) else {
            return;
        };
        let Some(session) = self.state.sessions.get_mut(&client_id) else {
            return;
        };
        let place = session.flights.iter().position(|flight| {
            let is_exactly_once = flight.copy.form.qos == Qos::ExactlyOnce;
            flight.id == packet && is_exactly_once == is_complete
        });
        let Some(place) = place else {
            return;
        };
        let flight = session.flights.remove(place);
        session.to_repeat.retain(|other| *other != packet);
        if let Some(link) = self.links.get_mut(&id) {
            link.unacknowledged.remove(&packet);
        }
        if let Some(copy) = flight
            .copy
            .shared
            .and_then(|place| self.state.shared.get_mut(place))
        {
            copy.is_done = true;
        }
    }

    fn disconnect_in(&mut self, now: Now, id: ConnectionId, disconnect: &Disconnect) {
        if let Some(link) = self.links.get_mut(&id).filter(|link| link.is_open) {
            link.left = Some(disconnect.reason);
            if let Some(seconds) = disconnect.session_expiry_seconds {
                link.expiry_seconds = seconds;
            }
            link.is_ending = Some(CloseCause::Disconnected);
            link.answers.clear();
        }
        self.detach(now, id);
    }

    /// The client whose session this connection has.
    pub(super) fn client_of(&self, id: ConnectionId) -> Option<String> {
        let link = self.links.get(&id).filter(|link| link.is_open)?;
        Some(link.client_id.clone())
    }
}

impl Link {
    /// The topic that a client means, by its aliases.
    fn topic_of(&mut self, topic: &PublishTopic<TopicName>) -> String {
        match topic {
            PublishTopic::Name(name) => name.as_str().to_owned(),
            PublishTopic::Define { name, alias } => {
                self.aliases.insert(alias.get(), name.as_str().to_owned());
                name.as_str().to_owned()
            }
            PublishTopic::Alias(alias) => {
                self.aliases.get(&alias.get()).cloned().unwrap_or_default()
            }
        }
    }
}

pub(super) fn gate_of(is_stored: bool) -> Gate {
    if is_stored {
        Gate::NextBatch
    } else {
        Gate::Open
    }
}

/// The number that a payload begins with; an empty one has none.
pub(super) fn number_of(payload: &[u8]) -> Option<u64> {
    let digits: Vec<u8> = payload
        .iter()
        .copied()
        .take_while(u8::is_ascii_digit)
        .collect();
    String::from_utf8(digits).ok()?.parse().ok()
}

fn message_of(now: Now, topic: &str, publish: &Publish) -> Message {
    let stamp = now.wall.as_millis();
    let seconds = publish.properties.message_expiry_seconds;
    Message {
        topic: topic.to_owned(),
        qos: publish.delivery.qos(),
        is_empty: publish.payload.is_empty(),
        is_large: publish.payload.len() >= LARGE_BYTES,
        life: seconds.map(|seconds| Life { stamp, seconds }),
        earlier_lives: Vec::new(),
    }
}
