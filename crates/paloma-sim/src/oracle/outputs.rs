//! What comes out of the broker, packet by packet, and whether it should.

use paloma_broker::ConnectionId;
use paloma_codec::{ConnAck, Packet, PubRelReason, Publish, PublishTopic, Qos};
use paloma_session::Now;

use super::inputs::number_of;
use super::model::{AnswerKind, Copy, Expected, Flight, Life, Verdict};
use super::{Oracle, SMALL_PACKET_BYTES};
use crate::violation::Invariant;

impl Oracle {
    /// The broker has written a packet for this connection.
    pub(crate) fn packet_out(&mut self, now: Now, id: ConnectionId, packet: &Packet) {
        let Some(link) = self.links.get_mut(&id).filter(|link| !link.is_hostile) else {
            return;
        };
        match packet {
            Packet::ConnAck(ack) => self.conn_ack_out(now, id, ack),
            Packet::Publish(publish) => self.publish_out(now, id, publish),
            Packet::PubAck(ack) => {
                self.answer_out(
                    now,
                    id,
                    AnswerKind::PubAck,
                    ack.id.get(),
                    &[ack.reason.code()],
                );
            }
            Packet::PubRec(ack) => {
                self.answer_out(
                    now,
                    id,
                    AnswerKind::PubRec,
                    ack.id.get(),
                    &[ack.reason.code()],
                );
            }
            Packet::PubComp(ack) => {
                self.answer_out(now, id, AnswerKind::PubComp, ack.id.get(), &[]);
            }
            Packet::SubAck(ack) => {
                let codes: Vec<u8> = ack.reasons.iter().map(|reason| reason.code()).collect();
                self.answer_out(now, id, AnswerKind::SubAck, ack.id.get(), &codes);
            }
            Packet::UnsubAck(ack) => {
                self.answer_out(now, id, AnswerKind::UnsubAck, ack.id.get(), &[]);
            }
            Packet::PubRel(ack) => self.pub_rel_out(now, id, ack.id.get(), ack.reason),
            Packet::PingResp => match link.pings.checked_sub(1) {
                Some(left) => link.pings = left,
                None => self.violated(now, Invariant::Protocol, "PINGRESP without PINGREQ"),
            },
            Packet::Disconnect(_) if link.version.is_v5() => {}
            Packet::Auth(_) if link.is_answering() => {}
            Packet::Disconnect(_)
            | Packet::Connect(_)
            | Packet::Subscribe(_)
            | Packet::Unsubscribe(_)
            | Packet::PingReq
            | Packet::Auth(_) => {
                let what = format!("the broker sent {}", packet.packet_type());
                self.violated(now, Invariant::Protocol, what);
            }
        }
    }

    fn conn_ack_out(&mut self, now: Now, id: ConnectionId, ack: &ConnAck) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let client_id = link.client_id.clone();
        match std::mem::replace(&mut link.expected, Expected::Nothing) {
            Expected::Nothing => self.violated(now, Invariant::Protocol, "CONNACK out of place"),
            Expected::Refused if ack.reason.is_error() => {}
            Expected::Refused => {
                let what = format!("{client_id} was let in and should not have been");
                self.violated(now, Invariant::I4, what);
            }
            Expected::Accepted { .. } if ack.reason.is_error() => {
                let what = format!("{client_id} was refused: {:?}", ack.reason);
                self.violated(now, Invariant::Protocol, what);
            }
            Expected::Accepted { is_present, gate } => {
                if ack.session_present != is_present {
                    let what = format!("CONNACK told {client_id} session present: {}", !is_present);
                    self.violated(now, Invariant::I6, what);
                }
                if !self.is_past(gate) {
                    let what = format!("CONNACK of {client_id} left before its commit");
                    self.violated(now, Invariant::I11, what);
                }
            }
        }
    }

    fn answer_out(
        &mut self,
        now: Now,
        id: ConnectionId,
        kind: AnswerKind,
        packet: u16,
        codes: &[u8],
    ) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let (client_id, is_v5) = (link.client_id.clone(), link.version.is_v5());
        let Some(answer) = link.answers.pop_front() else {
            let what = format!("{kind:?} {packet} to {client_id}, who asked nothing");
            return self.violated(now, Invariant::Protocol, what);
        };
        if (answer.kind, answer.id) != (kind, packet) {
            let what = format!(
                "{kind:?} {packet} to {client_id} came before {:?} {}",
                answer.kind, answer.id
            );
            return self.violated(now, Invariant::I3, what);
        }
        if !self.is_past(answer.gate) {
            let what = format!("{kind:?} {packet} to {client_id} left before its commit");
            return self.violated(now, Invariant::I11, what);
        }
        let says_code = is_v5 || kind == AnswerKind::SubAck;
        for (verdict, code) in answer.verdicts.iter().zip(codes) {
            let says = match *code {
                0x87 => Verdict::Denied,
                // 3.1.1 has one code for all failures.
                0x80.. if !is_v5 => Verdict::Denied,
                // So is that of a queue without room, which is no fault of the store.
                0x97 if *verdict == Verdict::NoRoom => Verdict::NoRoom,
                _ => Verdict::Fine,
            };
            if says_code && *verdict != says {
                let what = format!("{kind:?} {packet} told {client_id} {code:#04x}");
                return self.violated(now, Invariant::I4, what);
            }
        }
        let is_error = codes.first().is_some_and(|code| *code >= 0x80);
        if kind == AnswerKind::PubRec
            && is_error
            && is_v5
            && let Some(session) = self.state.sessions.get_mut(&client_id)
            && session.perhaps_received.remove(&packet)
        {
            session.received.remove(&packet);
        }
    }

    fn pub_rel_out(&mut self, now: Now, id: ConnectionId, packet: u16, reason: PubRelReason) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let client_id = link.client_id.clone();
        if let Some(place) = link.releases.iter().position(|(other, _)| *other == packet) {
            let gate = link.releases.remove(place).map(|(_, gate)| gate);
            let session = self.state.sessions.get_mut(&client_id);
            if let Some(session) = session.filter(|session| session.connection == Some(id)) {
                session.to_repeat.retain(|other| *other != packet);
            }
            if gate.is_some_and(|gate| !self.is_past(gate)) {
                let what = format!("PUBREL {packet} to {client_id} left before its commit");
                self.violated(now, Invariant::I11, what);
            }
            return;
        }
        if reason == PubRelReason::PacketIdentifierNotFound {
            return;
        }
        let session = self.state.sessions.get(&client_id);
        if self.is_recovered(&client_id)
            && session.is_some_and(|session| session.flight(packet).is_none())
        {
            // It had an id and was never sent, and may not be any more.
            return;
        }
        self.repeated(now, &client_id, packet);
        let session = self.state.sessions.get(&client_id);
        let flight = session.and_then(|session| session.flight(packet));
        let is_received = flight.is_some_and(|flight| flight.is_received || flight.is_unsure);
        if !is_received {
            let what = format!("PUBREL {packet} to {client_id} before its PUBREC");
            self.violated(now, Invariant::I2, what);
        }
    }

    /// A flight is sent again: it has to be its turn.
    fn repeated(&mut self, now: Now, client_id: &str, packet: u16) {
        let Some(session) = self.state.sessions.get_mut(client_id) else {
            return;
        };
        while let Some(next) = session.to_repeat.pop_front() {
            if next == packet {
                return;
            }
            if session
                .flight(next)
                .is_some_and(|flight| !flight.may_be_gone())
            {
                let what = format!("{packet} was sent to {client_id} again before {next}");
                return self.violated(now, Invariant::I3, what);
            }
        }
        let what = format!("{packet} was sent to {client_id} again without a reason");
        self.violated(now, Invariant::I2, what);
    }

    fn publish_out(&mut self, now: Now, id: ConnectionId, publish: &Publish) {
        let Some((client_id, topic)) = self.receiver(now, id, publish) else {
            return;
        };
        if !self.rules.may(&client_id, false, &topic) {
            let what = format!("{client_id} got {topic}, which it may not read");
            return self.violated(now, Invariant::I4, what);
        }
        let number = number_of(&publish.payload);
        if let Some(packet) = publish.delivery.id() {
            let packet = packet.get();
            let is_again = publish.delivery.is_dup();
            if is_again && !self.is_unknown_repeat(&client_id, packet, publish.delivery.qos()) {
                return self.repeat_out(now, id, &client_id, packet, number);
            }
            if !is_again && !self.may_begin(now, &client_id, packet) {
                return;
            }
        }
        let sight = self.sight(id, &client_id, &topic, publish);
        let Some(owed) = self.find_owed(now, &sight) else {
            let what = format!(
                "{client_id} got {} on {topic}, {:?}, retain {}, ids {:?}: nobody owes it that",
                number.map_or_else(
                    || "an empty message".to_owned(),
                    |number| number.to_string()
                ),
                publish.delivery,
                publish.retain,
                publish.properties.subscription_ids
            );
            return self.violated(now, Invariant::I1, what);
        };
        let Some(copy) = self.take_owed(now, &sight, owed) else {
            return;
        };
        // What was begun in time may be ended later.
        if !publish.delivery.is_dup() {
            self.check_expiry(now, id, &copy, publish);
        }
        self.send(now, id, &client_id, copy, publish);
    }

    /// Whether something new may be sent under this packet id.
    fn may_begin(&mut self, now: Now, client_id: &str, packet: u16) -> bool {
        self.give_up_unsure(client_id);
        if let Some(session) = self.state.sessions.get_mut(client_id) {
            session.is_recovered = false;
        }
        let session = self.state.sessions.get(client_id);
        if session.is_some_and(|session| session.flight(packet).is_some()) {
            let what = format!("packet id {packet} to {client_id} is in use already");
            self.violated(now, Invariant::I5, what);
            return false;
        }
        if let Some(waiting) = session.and_then(|session| session.to_repeat.front()) {
            let what = format!("{client_id} got {packet} before {waiting} was sent again");
            self.violated(now, Invariant::I3, what);
            return false;
        }
        true
    }

    /// Something new is sent: what might have been given up has been.
    fn give_up_unsure(&mut self, client_id: &str) {
        let Some(session) = self.state.sessions.get_mut(client_id) else {
            return;
        };
        let mut handed_on = Vec::new();
        let to_repeat = &mut session.to_repeat;
        session.flights.retain(|flight| {
            let is_gone = flight.may_be_gone() && to_repeat.contains(&flight.id);
            if is_gone {
                to_repeat.retain(|id| *id != flight.id);
                handed_on.extend(flight.copy.shared);
            }
            !is_gone
        });
        for place in handed_on {
            self.hand_on(place);
        }
    }

    /// Whom a PUBLISH goes to, and on which topic.
    fn receiver(
        &mut self,
        now: Now,
        id: ConnectionId,
        publish: &Publish,
    ) -> Option<(String, String)> {
        let link = self.links.get_mut(&id)?;
        let client_id = link.client_id.clone();
        let maximum = link
            .connect
            .as_ref()
            .map_or(0, |connect| connect.topic_alias_maximum);
        let topic = match &publish.topic {
            PublishTopic::Name(name) => Some(name.as_str().to_owned()),
            PublishTopic::Define { name, alias } if alias.get() <= maximum => {
                let topic = name.as_str().to_owned();
                link.outbound_aliases.insert(alias.get(), topic.clone());
                Some(topic)
            }
            PublishTopic::Define { .. } => None,
            PublishTopic::Alias(alias) => link.outbound_aliases.get(&alias.get()).cloned(),
        };
        if !link.is_open {
            let what = format!("{client_id} gets messages on a connection that has ended");
            self.violated(now, Invariant::I6, what);
            return None;
        }
        if topic.is_none() {
            let what = format!("{client_id} was sent an alias that it does not know");
            self.violated(now, Invariant::I7, what);
        }
        Some((client_id, topic?))
    }

    fn repeat_out(
        &mut self,
        now: Now,
        id: ConnectionId,
        client_id: &str,
        packet: u16,
        number: Option<u64>,
    ) {
        let session = self.state.sessions.get(client_id);
        let flight = session.and_then(|session| session.flight(packet));
        let is_same = flight.is_some_and(|flight| {
            let is_empty = self
                .messages
                .get(&flight.copy.number)
                .is_some_and(|message| message.is_empty);
            let is_it = number == Some(flight.copy.number) || number.is_none() && is_empty;
            is_it && !flight.is_received
        });
        if !is_same {
            let what = format!("{client_id} got {number:?} again under id {packet}");
            return self.violated(now, Invariant::I2, what);
        }
        self.repeated(now, client_id, packet);
        self.count_in_flight(now, id, packet);
    }

    fn count_in_flight(&mut self, now: Now, id: ConnectionId, packet: u16) {
        let inflight_max = self.limits.inflight_max;
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        link.unacknowledged.insert(packet);
        let maximum = link
            .connect
            .as_ref()
            .filter(|connect| connect.version.is_v5())
            .map_or(u16::MAX, |connect| connect.receive_maximum.get())
            .min(inflight_max);
        let open = link.unacknowledged.len();
        if open > usize::from(maximum) {
            let what = format!("{open} unacknowledged messages at {}", link.client_id);
            self.violated(now, Invariant::I5, what);
        }
    }

    pub(super) fn takes_small_only(&self, id: ConnectionId) -> bool {
        let connect = self.links.get(&id).and_then(|link| link.connect.as_ref());
        connect
            .and_then(|connect| connect.maximum_packet_size)
            .is_some_and(|size| size.get() <= SMALL_PACKET_BYTES)
    }

    fn check_expiry(&mut self, now: Now, id: ConnectionId, copy: &Copy, publish: &Publish) {
        let Some(message) = self.messages.get(&copy.number) else {
            return;
        };
        let is_v5 = self.links.get(&id).is_some_and(|link| link.version.is_v5());
        let said = publish.properties.message_expiry_seconds.map(u64::from);
        // Copies of repeated arrivals look alike: any of their ages will do.
        let mut lives = copy
            .life
            .into_iter()
            .chain(message.life)
            .chain(message.earlier_lives.iter().copied())
            .peekable();
        if lives.peek().is_none() {
            return;
        }
        let wall = now.wall.as_millis();
        let lives: Vec<Life> = lives.collect();
        let fits = |life: &Life| {
            let is_said = said.is_some_and(|said| said > 0 && life.may_have_left(wall, said));
            if is_v5 { is_said } else { !life.is_over(wall) }
        };
        if !lives.iter().any(fits) {
            let left: Vec<u64> = lives.iter().map(|life| life.seconds_left(wall)).collect();
            let what = format!(
                "{} has {left:?} s to live and came with {said:?}",
                copy.number
            );
            self.violated(now, Invariant::I1, what);
        }
    }

    fn send(&mut self, now: Now, id: ConnectionId, client_id: &str, copy: Copy, publish: &Publish) {
        let Some(packet) = publish.delivery.id() else {
            return;
        };
        let packet = packet.get();
        if publish.delivery.qos() == Qos::ExactlyOnce && !self.is_past(copy.gate) {
            let what = format!(
                "{} left for {client_id} at QoS 2 before its commit",
                copy.number
            );
            self.violated(now, Invariant::I11, what);
        }
        if publish.delivery.qos() == Qos::ExactlyOnce
            && let Some(instance) = self.instance(client_id)
        {
            let counts = self
                .exactly_once
                .entry((instance, copy.number))
                .or_default();
            counts.0 += 1;
        }
        if let Some(session) = self.state.sessions.get_mut(client_id) {
            let flight = Flight {
                id: packet,
                copy,
                is_received: false,
                is_unsure: false,
            };
            // One that only the broker before this one knew of stands before those that are still to be sent again.
            let to_repeat = &session.to_repeat;
            let mut flights = session.flights.iter();
            let place = flights.position(|other| to_repeat.contains(&other.id));
            let place = place.unwrap_or(session.flights.len());
            session.flights.insert(place, flight);
        }
        self.count_in_flight(now, id, packet);
    }
}
