//! What a connection does with PUBLISHes and acknowledgements that come in. QoS 2 release is here.

use alloc::boxed::Box;

use paloma_codec::{
    AckKind, Delivery, PacketId, PacketRef, PubAck, PubAckReason, PubComp, PubCompReason, PubRec,
    PubRecReason, PubRel, PubRelReason, PublishRef, PublishTopic, Qos, SubAck, UnsubAck,
};
use paloma_topic::{Fault, TopicNameRef};

use crate::answers::Ack;
use crate::connection::{Connection, Early};
use crate::event::{Event, Inbound, InboundTopic, Receipt, Step};
use crate::gate::Gate;
use crate::outbound::Outbound;
use crate::session::Session;
use crate::terms::Role;
use crate::time::Now;
use crate::violation::Violation;
use crate::window::Flight;

impl Connection {
    /// Answers a PUBLISH: PUBACK or PUBREC with `reason`, behind `gate` and behind the answers to all earlier
    /// PUBLISHes of its QoS [MQTT-4.6.0-2] [MQTT-4.6.0-3], in whatever order receipts are given back. [MQTT-4.3.2-4]
    /// [MQTT-4.3.2-5] [MQTT-4.3.3-8] [MQTT-4.5.0-2]
    ///
    /// A reason of 0x80 or above ends a QoS 2 exchange in 5.0 [MQTT-4.3.3-9]; 3.1.1 cannot say it, so there the exchange goes on.
    /// A receipt of an earlier connection has no effect: the peer repeats that PUBLISH.
    pub fn acknowledge(
        &mut self,
        session: &mut Session,
        receipt: Receipt,
        reason: PubAckReason,
        gate: Gate,
    ) {
        if receipt.connection != self.number || !self.is_live() {
            return;
        }
        let refused = reason.is_error() && self.version.is_v5();
        let ack = match receipt.qos {
            Qos::AtMostOnce => return,
            Qos::AtLeastOnce => Ack {
                kind: AckKind::PubAck(reason),
                id: receipt.id,
                frees: true,
            },
            Qos::ExactlyOnce => {
                if refused {
                    session.received.remove(receipt.id);
                }
                let reason = PubRecReason::from_code(reason.code());
                let kind = AckKind::PubRec(reason.unwrap_or(PubRecReason::UnspecifiedError));
                Ack {
                    kind,
                    id: receipt.id,
                    frees: refused,
                }
            }
        };
        self.answer_in_order(receipt.qos, receipt.place, ack, gate);
    }

    /// Answers a PUBLISH with success, if that is to be written next of all answers of its QoS and waits for nothing: the most
    /// frequent case of [`Connection::acknowledge`].
    ///
    /// # Errors
    /// The receipt, where it is any other case.
    #[inline]
    pub fn acknowledge_next(&mut self, receipt: Receipt) -> Result<(), Receipt> {
        if receipt.connection != self.number
            || receipt.place != self.receipts_of(receipt.qos).answered
            || self.rare.is_some()
            || !self.is_live()
        {
            return Err(receipt);
        }
        let is_last = receipt.qos == Qos::AtLeastOnce;
        let ack = Ack {
            kind: if is_last {
                AckKind::PubAck(PubAckReason::Success)
            } else {
                AckKind::PubRec(PubRecReason::Success)
            },
            id: receipt.id,
            frees: is_last,
        };
        self.push_answer(receipt.qos, ack, Gate::Open);
        Ok(())
    }

    /// Takes in a PUBLISH that asks nothing of the session (QoS 0 or 1, not retained, under its name) and gives its topic, and
    /// the receipt of one at QoS 1: what [`Connection::handle_packet`] would do with the most frequent packets, without an
    /// event. Any other is not taken in.
    #[inline]
    pub fn handle_plain_publish<'a>(
        &mut self,
        now: Now,
        publish: &PublishRef<'a>,
    ) -> Option<(TopicNameRef<'a>, Option<Receipt>)> {
        let PublishTopic::Name(name) = publish.topic else {
            return None;
        };
        if publish.retain || !self.is_live() {
            return None;
        }
        let receipt = match publish.delivery {
            Delivery::AtMostOnce => None,
            Delivery::AtLeastOnce { id, .. } if self.has_place_for(Qos::AtLeastOnce) => {
                Some(self.open_exchange(id, Qos::AtLeastOnce))
            }
            Delivery::AtLeastOnce { .. } | Delivery::ExactlyOnce { .. } => return None,
        };
        self.keep_alive.received(now.monotonic);
        Some((name, receipt))
    }

    /// The same for QoS 2. One that comes again is not taken in.
    #[inline]
    pub fn handle_plain_exactly_once<'a>(
        &mut self,
        now: Now,
        session: &mut Session,
        publish: &PublishRef<'a>,
    ) -> Option<(TopicNameRef<'a>, Receipt)> {
        let (Delivery::ExactlyOnce { id, .. }, PublishTopic::Name(name)) =
            (publish.delivery, publish.topic)
        else {
            return None;
        };
        let is_plain = !publish.retain && self.rare.is_none() && self.is_live();
        if !is_plain || !self.has_place_for(Qos::ExactlyOnce) || !session.received.insert(id) {
            return None;
        }
        self.keep_alive.received(now.monotonic);
        Some((name, self.open_exchange(id, Qos::ExactlyOnce)))
    }

    /// Whether the peer may open an exchange of `qos`, whatever else is open.
    const fn has_place_for(&self, qos: Qos) -> bool {
        self.ours.maximum_qos.bits() >= qos.bits()
            && self.open_inbound < self.ours.receive_maximum.get()
    }

    /// Takes in a PUBACK that is no refusal, for a QoS 1 delivery, while nothing is sent again: what
    /// [`Connection::handle_packet`] would do with the most frequent acknowledgement, without an event. Any other is not
    /// taken in.
    #[inline]
    pub fn handle_plain_pub_ack(
        &mut self,
        now: Now,
        session: &mut Session,
        ack: &PubAck,
    ) -> Option<Outbound> {
        if self.has_replay() || ack.reason.is_error() || !self.is_live() {
            return None;
        }
        let (outbound, is_on_this_connection) = session.window.end_qos1(ack.id)?;
        self.keep_alive.received(now.monotonic);
        if is_on_this_connection {
            self.unacknowledged = self.unacknowledged.saturating_sub(1);
        }
        Some(session.finish(outbound))
    }

    /// Takes in a PUBREC, PUBREL or PUBCOMP that goes on with an exchange, while nothing is sent again, for a session of which
    /// nothing is stored: what [`Connection::handle_packet`] would do with an open gate, without an event.
    #[inline]
    pub fn handle_plain_step(
        &mut self,
        now: Now,
        session: &mut Session,
        packet: &PacketRef<'_>,
    ) -> Option<Step> {
        if self.has_replay() || self.rare.is_some() || !self.is_live() {
            return None;
        }
        let step = if let PacketRef::PubRec(ack) = packet {
            let flight = session.window.get(ack.id);
            let is_publish = matches!(flight, Some(Flight::Publish(outbound)) if outbound.qos() == Qos::ExactlyOnce);
            let is_taken = is_publish && !ack.reason.is_error();
            let received = is_taken.then(|| self.received(session, ack.id, Gate::Open));
            received.flatten().map(Step::Received)
        } else if let PacketRef::PubRel(ack) = packet {
            session.received.contains(ack.id).then(|| {
                self.handle_pub_rel(session, ack, Gate::Open);
                Step::Released
            })
        } else if let PacketRef::PubComp(ack) = packet {
            let flight = session.window.get(ack.id);
            matches!(flight, Some(Flight::Released { .. })).then(|| {
                self.end_flight(session, ack.id);
                Step::Completed
            })
        } else {
            None
        };
        if step.is_some() {
            self.keep_alive.received(now.monotonic);
        }
        step
    }

    pub(crate) fn handle_publish<'a>(
        &mut self,
        session: &mut Session,
        publish: PublishRef<'a>,
        gate: Gate,
    ) -> Result<Event<'a>, Violation> {
        let qos = publish.delivery.qos();
        if qos > self.ours.maximum_qos {
            return Err(Violation::QosNotSupported);
        }
        if publish.retain && !self.ours.retain_available {
            return Err(Violation::RetainNotSupported);
        }
        self.check_receive_maximum(session, publish.delivery)?;
        let topic = self.resolve_topic(&publish)?;
        let receipt = match publish.delivery {
            Delivery::AtMostOnce => None,
            Delivery::AtLeastOnce { id, .. } => Some(self.open_exchange(id, qos)),
            Delivery::ExactlyOnce { id, .. } => {
                if !session.received.insert(id) && !Fault::DedupSkipped.is_on() {
                    self.repeat_pub_rec(id, gate);
                    return Ok(Event::None);
                }
                Some(self.open_exchange(id, qos))
            }
        };
        Ok(Event::Publish(Inbound {
            publish,
            topic,
            receipt,
        }))
    }

    pub(crate) fn handle_pub_ack(
        &mut self,
        session: &mut Session,
        ack: &PubAck,
    ) -> Result<Event<'static>, Violation> {
        match session.window.get(ack.id) {
            // Nothing in the standard answers it: the exchange may have ended with an earlier session.
            None => Ok(Event::None),
            Some(Flight::Publish(outbound)) if outbound.qos() == Qos::AtLeastOnce => {
                Ok(self.acknowledged(session, ack.id, ack.reason))
            }
            Some(_) => Err(Violation::AckOfWrongKind),
        }
    }

    pub(crate) fn handle_pub_rec(
        &mut self,
        session: &mut Session,
        ack: &PubRec,
        gate: Gate,
    ) -> Result<Event<'static>, Violation> {
        let refused = ack.reason.is_error();
        match session.window.get(ack.id) {
            None => {
                if !refused {
                    self.queue_pub_rel(ack.id, PubRelReason::PacketIdentifierNotFound, gate);
                }
                Ok(Event::None)
            }
            Some(Flight::Publish(outbound)) if outbound.qos() == Qos::ExactlyOnce => {
                if refused {
                    let reason = PubAckReason::from_code(ack.reason.code());
                    let reason = reason.unwrap_or(PubAckReason::UnspecifiedError);
                    return Ok(self.acknowledged(session, ack.id, reason));
                }
                let received = self.received(session, ack.id, gate);
                Ok(received.map_or(Event::None, |outbound| Event::Received {
                    id: ack.id,
                    outbound,
                }))
            }
            // The peer has lost our PUBREL, or refuses what it took: either way it is told again that we go on.
            Some(Flight::Released { .. }) => {
                self.queue_pub_rel(ack.id, PubRelReason::Success, gate);
                Ok(Event::None)
            }
            Some(Flight::Publish(_) | Flight::Subscribe { .. } | Flight::Unsubscribe { .. }) => {
                Err(Violation::AckOfWrongKind)
            }
        }
    }

    /// The peer gives an id of its own free. Unknown ids are answered too: the exchange may have ended with a PUBCOMP
    /// that was lost. [MQTT-4.3.3-11] [MQTT-4.3.3-12] [MQTT-4.3.3-13]
    pub(crate) fn handle_pub_rel(
        &mut self,
        session: &mut Session,
        ack: &PubRel,
        gate: Gate,
    ) -> Event<'static> {
        let known = session.received.remove(ack.id);
        let reason = match known {
            true => PubCompReason::Success,
            false => PubCompReason::PacketIdentifierNotFound,
        };
        let frees = known && !self.is_carried(ack.id);
        let kind = AckKind::PubComp(reason);
        self.queue_ack(
            Ack {
                kind,
                id: ack.id,
                frees,
            },
            gate,
        );
        if known {
            Event::Released(ack.id)
        } else {
            Event::None
        }
    }

    pub(crate) fn handle_pub_comp(
        &mut self,
        session: &mut Session,
        ack: &PubComp,
    ) -> Result<Event<'static>, Violation> {
        match session.window.get(ack.id) {
            None => Ok(Event::None),
            Some(&Flight::Released { message, share }) => {
                self.end_flight(session, ack.id);
                Ok(Event::Completed {
                    id: ack.id,
                    message,
                    share,
                    reason: ack.reason,
                })
            }
            Some(Flight::Publish(_) | Flight::Subscribe { .. } | Flight::Unsubscribe { .. }) => {
                Err(Violation::AckOfWrongKind)
            }
        }
    }

    pub(crate) fn handle_sub_ack(
        &mut self,
        session: &mut Session,
        ack: Box<SubAck>,
    ) -> Result<Event<'static>, Violation> {
        self.only_at(Role::Client)?;
        match session.window.get(ack.id) {
            None => return Ok(Event::None),
            Some(Flight::Subscribe { filters }) if usize::from(*filters) == ack.reasons.len() => {}
            Some(Flight::Subscribe { .. }) => return Err(Violation::AckCountWrong),
            Some(Flight::Publish(_) | Flight::Released { .. } | Flight::Unsubscribe { .. }) => {
                return Err(Violation::AckOfWrongKind);
            }
        }
        session.window.end(ack.id);
        Ok(Event::SubAck(ack))
    }

    pub(crate) fn handle_unsub_ack(
        &mut self,
        session: &mut Session,
        ack: Box<UnsubAck>,
    ) -> Result<Event<'static>, Violation> {
        self.only_at(Role::Client)?;
        // Before 5.0 an UNSUBACK has no codes.
        let counted =
            |filters: u16| !self.version.is_v5() || usize::from(filters) == ack.reasons.len();
        match session.window.get(ack.id) {
            None => return Ok(Event::None),
            Some(Flight::Unsubscribe { filters }) if counted(*filters) => {}
            Some(Flight::Unsubscribe { .. }) => return Err(Violation::AckCountWrong),
            Some(Flight::Publish(_) | Flight::Released { .. } | Flight::Subscribe { .. }) => {
                return Err(Violation::AckOfWrongKind);
            }
        }
        session.window.end(ack.id);
        Ok(Event::UnsubAck(ack))
    }

    /// Whether the peer may open one more exchange. Before 5.0 it may open all. [MQTT-3.3.4-7] [MQTT-3.3.4-9]
    fn check_receive_maximum(
        &self,
        session: &Session,
        delivery: Delivery,
    ) -> Result<(), Violation> {
        let opens = match delivery {
            Delivery::AtMostOnce => false,
            Delivery::AtLeastOnce { .. } => true,
            Delivery::ExactlyOnce { id, .. } => {
                !session.received.contains(id)
                    || self
                        .rare
                        .as_ref()
                        .is_some_and(|rare| rare.carried.contains(id))
            }
        };
        let full = self.open_inbound >= self.ours.receive_maximum.get();
        if opens && full && self.version.is_v5() {
            return Err(Violation::ReceiveMaximumExceeded);
        }
        Ok(())
    }

    /// [MQTT-3.3.2-10] [MQTT-3.3.2-12]
    fn resolve_topic<'a>(
        &mut self,
        publish: &PublishRef<'a>,
    ) -> Result<InboundTopic<'a>, Violation> {
        let (alias, name) = match publish.topic {
            PublishTopic::Name(name) => return Ok(InboundTopic::Named(name)),
            PublishTopic::Alias(alias) => (alias, None),
            PublishTopic::Define { name, alias } => (alias, Some(name)),
        };
        if alias.get() > self.ours.alias_maximum {
            return Err(Violation::AliasTooLarge);
        }
        let bytes_max = self.options.alias_bytes_max as usize;
        let aliases = &mut self.rare_mut().inbound;
        match name {
            Some(name) => {
                aliases
                    .define(alias, name, bytes_max)
                    .map_err(|_| Violation::AliasBytesExceeded)?;
                Ok(InboundTopic::Named(name))
            }
            None => aliases
                .resolve(alias)
                .map(InboundTopic::Aliased)
                .ok_or(Violation::AliasUnknown),
        }
    }

    fn open_exchange(&mut self, id: PacketId, qos: Qos) -> Receipt {
        if self.version.is_v5() {
            self.open_inbound = self.open_inbound.saturating_add(1);
        }
        let connection = self.number;
        let receipts = self.receipts_of(qos);
        let place = receipts.given;
        receipts.given = place.wrapping_add(1);
        Receipt {
            id,
            qos,
            place,
            connection,
        }
    }

    /// A QoS 2 PUBLISH came again: the answer does too, and nothing else. [MQTT-4.3.3-10]
    fn repeat_pub_rec(&mut self, id: PacketId, gate: Gate) {
        if self.is_carried(id) {
            self.open_inbound = self.open_inbound.saturating_add(1);
        }
        let kind = AckKind::PubRec(PubRecReason::Success);
        self.queue_ack(
            Ack {
                kind,
                id,
                frees: false,
            },
            gate,
        );
    }

    /// Whether this exchange was left open by an earlier connection and is no part of the quota; from here on it is.
    fn is_carried(&mut self, id: PacketId) -> bool {
        self.rare
            .as_mut()
            .is_some_and(|rare| rare.carried.remove(id))
    }

    fn answer_in_order(&mut self, qos: Qos, place: u32, ack: Ack, gate: Gate) {
        if place != self.receipts_of(qos).answered {
            self.rare_mut().early.push(Early {
                qos,
                place,
                ack,
                gate,
            });
            return;
        }
        self.push_answer(qos, ack, gate);
        while let Some((ack, gate)) = self.take_early(qos) {
            self.push_answer(qos, ack, gate);
        }
    }

    /// The answer whose turn it is, if it was given before its turn.
    fn take_early(&mut self, qos: Qos) -> Option<(Ack, Gate)> {
        let turn = self.receipts_of(qos).answered;
        let early = &mut self.rare.as_mut()?.early;
        let next = early
            .iter()
            .position(|early| early.qos == qos && early.place == turn)?;
        let Early { ack, gate, .. } = early.swap_remove(next);
        Some((ack, gate))
    }

    fn push_answer(&mut self, qos: Qos, ack: Ack, gate: Gate) {
        let receipts = self.receipts_of(qos);
        receipts.answered = receipts.answered.wrapping_add(1);
        self.queue_ack(ack, gate);
    }

    /// A PUBACK, or a PUBREC that refuses: the exchange is over. [MQTT-4.4.0-2]
    fn acknowledged(
        &mut self,
        session: &mut Session,
        id: PacketId,
        reason: PubAckReason,
    ) -> Event<'static> {
        match self.end_flight(session, id) {
            Some(Flight::Publish(outbound)) => Event::Acknowledged {
                id,
                outbound: session.finish(outbound),
                reason,
            },
            Some(
                Flight::Released { .. } | Flight::Subscribe { .. } | Flight::Unsubscribe { .. },
            )
            | None => Event::None,
        }
    }

    /// A PUBREC: the message is the peer's, the id is ours until PUBCOMP.
    fn received(&mut self, session: &mut Session, id: PacketId, gate: Gate) -> Option<Outbound> {
        let outbound = session.window.release(id)?;
        // If the PUBLISH went out on an earlier connection only, this PUBREL is the flight's first packet on this one, and
        // the replay must not send another before the gate opens.
        if !session.window.is_on_this_connection(id) {
            session.window.mark_on_this_connection(id);
            self.unacknowledged = self.unacknowledged.saturating_add(1);
        }
        if !Fault::PubRelForgotten.is_on() {
            self.queue_pub_rel(id, PubRelReason::Success, gate);
        }
        Some(session.finish(outbound))
    }

    /// [MQTT-4.6.0-4]
    fn queue_pub_rel(&mut self, id: PacketId, reason: PubRelReason, gate: Gate) {
        let kind = AckKind::PubRel(reason);
        self.queue_ack(
            Ack {
                kind,
                id,
                frees: false,
            },
            gate,
        );
    }

    /// [MQTT-4.3.3-13]
    pub(crate) fn end_flight(&mut self, session: &mut Session, id: PacketId) -> Option<Flight> {
        if self.replay == Some(id) {
            self.replay = session.window.after(id);
        }
        if session.window.is_on_this_connection(id) {
            self.unacknowledged = self.unacknowledged.saturating_sub(1);
        }
        session.window.end(id)
    }
}
