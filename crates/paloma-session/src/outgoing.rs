//! What a connection writes, and in which order.

use paloma_codec::{
    AckKind, Delivery, Head, Message, PacketId, PubRelReason, Qos, SHORT_PACKET_LEN_MAX,
    SubscriptionId, TopicForm, ack_len, encode_ack,
};
use paloma_topic::Fault;

use crate::alias::Choice;
use crate::answers::Ack;
use crate::connection::{Connection, Phase};
use crate::gate::{Gate, LogSeq};
use crate::outbound::Outbound;
use crate::session::Session;
use crate::terms::Role;
use crate::time::Now;
use crate::transmit::{DropCause, Transmit, TransmitStatus};
use crate::window::Flight;

const PINGREQ: [u8; 2] = [0xC0, 0];
const PINGRESP: [u8; 2] = [0xD0, 0];

/// What a PUBLISH is longer than its message at most, subscription identifiers apart: fixed header, topic length, packet
/// id, length of the properties, alias, expiry.
const HEAD_BYTES_MAX: usize = 5 + 2 + 2 + 4 + 3 + 5;

/// What a subscription identifier takes at most.
const ID_BYTES_MAX: usize = 5;

impl Connection {
    /// Writes what may leave, until the budget of `out` is used up.
    ///
    /// Order: answers and requests, first in first out, up to the first whose commit is later than `committed`, the
    /// CONNACK before anything else; pings, which wait for nothing; after a resume, what was in flight, in its order
    /// [MQTT-4.4.0-1] [MQTT-4.6.0-1]; then the queue, as far as the peer's window goes. Only PUBLISHes wait for the window
    /// [MQTT-3.3.4-10]. A replay waits for no commit but the CONNACK's, whose gate has to cover what the session
    /// saw last.
    pub fn poll_transmit(
        &mut self,
        now: Now,
        committed: LogSeq,
        session: &mut Session,
        out: &mut Transmit,
    ) -> TransmitStatus {
        let before = out.len();
        let status = self.transmit(now, committed, session, out);
        let after = out.len();
        if after > before {
            out.count_bytes(after - before);
            self.keep_alive.sent(now.monotonic);
        }
        status
    }

    /// Gives up what an earlier connection sent, this one is to send again, and `give_up` says yes to. A QoS 1 delivery
    /// goes to `taken`. One of QoS 2, which the peer may have begun to take in, goes to `released`, and only its PUBREL is
    /// sent.
    pub fn withhold_replay(
        &mut self,
        session: &mut Session,
        mut give_up: impl FnMut(&Outbound) -> bool,
        mut taken: impl FnMut(Outbound),
        mut released: impl FnMut(PacketId, Outbound),
    ) {
        let mut next = self.replay;
        while let Some(id) = next {
            next = session.window.after(id);
            let Some(Flight::Publish(outbound)) = session.window.get(id) else {
                continue;
            };
            if session.window.is_on_this_connection(id) || !give_up(outbound) {
                continue;
            }
            if outbound.qos() == Qos::ExactlyOnce {
                if let Some(outbound) = session.window.release(id) {
                    // A PUBREL that a crash takes back would be followed by the PUBLISH once more.
                    session.hold_replay();
                    released(id, session.finish(outbound));
                }
            } else if let Some(Flight::Publish(outbound)) = self.end_flight(session, id) {
                taken(session.finish(outbound));
            }
        }
    }

    fn transmit(
        &mut self,
        now: Now,
        committed: LogSeq,
        session: &mut Session,
        out: &mut Transmit,
    ) -> TransmitStatus {
        if self.phase == Phase::Closed {
            return TransmitStatus::Close;
        }
        self.write_answers(committed, out);
        match self.phase {
            Phase::Open => {}
            Phase::Opening => return TransmitStatus::Drained,
            Phase::Closing if out.is_full() => return TransmitStatus::Full,
            Phase::Closing => {
                let before = out.len();
                self.answers.finish(out.out());
                if out.len() > before {
                    out.count_others(1);
                }
                self.phase = Phase::Closed;
                return TransmitStatus::Close;
            }
            Phase::ClosingUnopened | Phase::Closed => {
                self.phase = Phase::Closed;
                return TransmitStatus::Close;
            }
        }
        self.write_pings(out);
        self.write_replay(now, committed, session, out);
        self.write_queue(now, committed, session, out);
        if out.is_full() {
            TransmitStatus::Full
        } else {
            TransmitStatus::Drained
        }
    }

    fn write_answers(&mut self, committed: LogSeq, out: &mut Transmit) {
        while !out.is_full()
            && let Some(run) = self.answers.take_ready(committed, out.out())
        {
            out.count_others(run.packets.into());
            self.open_inbound = self.open_inbound.saturating_sub(run.frees);
            if run.is_conn_ack() {
                let closes = self.phase == Phase::ClosingUnopened;
                self.phase = if closes { Phase::Closing } else { Phase::Open };
                // Many connections are silent from here on: what the CONNACK took goes back.
                self.answers.compact();
            }
        }
    }

    /// Puts an acknowledgement behind all other answers.
    #[inline]
    pub(crate) fn queue_ack(&mut self, ack: Ack, gate: Gate) {
        let form = (self.version, self.theirs.packet_bytes_max);
        self.answers.push_ack(ack, form, gate);
    }

    fn write_pings(&mut self, out: &mut Transmit) {
        let ping = match self.role {
            Role::Client => PINGREQ,
            Role::Server => PINGRESP,
        };
        while self.pings > 0 && !out.is_full() {
            self.pings -= 1;
            if self.theirs.packet_bytes_max >= 2 {
                out.out().extend_from_slice(&ping);
                out.count_others(1);
            }
        }
    }

    /// Sends again what an earlier connection left in flight: PUBLISHes with DUP, PUBRELs as they were. [MQTT-3.3.1-1]
    fn write_replay(
        &mut self,
        now: Now,
        committed: LogSeq,
        session: &mut Session,
        out: &mut Transmit,
    ) {
        while !out.is_full()
            && let Some(id) = self.replay
            && !session.holds_replay(committed)
        {
            let next = session.window.after(id);
            if !session.window.is_on_this_connection(id) && !self.send_again(now, session, id, out)
            {
                return;
            }
            self.replay = next;
        }
    }

    /// Whether the replay may go on: `false` if the window is full. [MQTT-4.3.3-6] [MQTT-4.3.3-7]
    fn send_again(
        &mut self,
        now: Now,
        session: &mut Session,
        id: PacketId,
        out: &mut Transmit,
    ) -> bool {
        match session.window.get(id) {
            Some(Flight::Publish(outbound)) => {
                if self.unacknowledged >= self.send_quota() {
                    return false;
                }
                let delivery = delivery_of(outbound.qos(), id, !Fault::DupForgotten.is_on());
                let expiry = outbound.remaining_seconds(now.wall);
                if let Err(cause) = self.put_publish(session, outbound, delivery, expiry, out) {
                    if delivery.qos() == Qos::ExactlyOnce {
                        session.hold_replay();
                    }
                    if let Some(Flight::Publish(outbound)) = self.end_flight(session, id) {
                        out.drop_delivery(session.finish(outbound), cause);
                    }
                    return true;
                }
                out.count(delivery.qos(), true);
            }
            Some(Flight::Released { .. }) => {
                let kind = AckKind::PubRel(PubRelReason::Success);
                // A peer that takes no packet this small gets none. [MQTT-3.1.2-25]
                if self.theirs.packet_bytes_max >= ack_len(kind, self.version) {
                    encode_ack(kind, id, self.version, out.out());
                    out.count_others(1);
                }
            }
            Some(Flight::Subscribe { .. } | Flight::Unsubscribe { .. }) | None => return true,
        }
        session.window.mark_on_this_connection(id);
        self.unacknowledged = self.unacknowledged.saturating_add(1);
        true
    }

    fn write_queue(
        &mut self,
        now: Now,
        committed: LogSeq,
        session: &mut Session,
        out: &mut Transmit,
    ) {
        let takes_short = self.takes_short(out);
        while !out.is_full()
            && let Some(front) = session.queue().front()
        {
            let begins_run = takes_short && front.qos() == Qos::AtMostOnce && front.is_plain();
            if begins_run && out.put_run(&mut session.queue, self.version) {
                continue;
            }
            let Some(front) = session.queue().front() else {
                return;
            };
            if !self.has_room_for(session, front) {
                return;
            }
            let expiry = front.remaining_seconds(now.wall);
            // Of many that are over before they are sent, none waits for the end of those before it.
            if expiry == Some(0) {
                self.drop_front_with_id(session, DropCause::Expired, out);
                continue;
            }
            if session.waits_for_id(front, committed) {
                if front.message().payload().len() < self.theirs.packet_bytes_max as usize {
                    return;
                }
                self.drop_front_with_id(session, DropCause::TooLarge, out);
                continue;
            }
            match front.qos() {
                Qos::AtMostOnce => self.send_once(session, expiry, out),
                Qos::AtLeastOnce | Qos::ExactlyOnce => self.send_first(session, expiry, out),
            }
        }
    }

    /// The first delivery of the queue ends unsent, and with it the id that it may have.
    #[cold]
    fn drop_front_with_id(&mut self, session: &mut Session, cause: DropCause, out: &mut Transmit) {
        session.forget_first_id();
        self.drop_front(session, cause, out);
    }

    /// The first delivery of the queue ends unsent.
    #[cold]
    fn drop_front(&mut self, session: &mut Session, cause: DropCause, out: &mut Transmit) {
        if let Some(outbound) = session.pop() {
            out.drop_delivery(session.finish(outbound), cause);
        }
    }

    /// Whether what is plain and short is written without further questions: the peer takes any packet as short, names are whole
    /// and without aliases, and no payload goes by reference.
    #[inline]
    fn takes_short(&self, out: &Transmit) -> bool {
        self.rare.is_none()
            && self.aliases_max() == 0
            && self.theirs.packet_bytes_max as usize >= SHORT_PACKET_LEN_MAX
            && out.copies_short()
    }

    /// The largest alias that we may define.
    fn aliases_max(&self) -> u16 {
        self.theirs.alias_maximum.min(self.options.aliases_max)
    }

    /// Sends the first delivery of the queue, which is of QoS 0.
    fn send_once(
        &mut self,
        session: &mut Session,
        expiry_seconds: Option<u32>,
        out: &mut Transmit,
    ) {
        let delivery = Delivery::AtMostOnce;
        let Some(outbound) = session.queue().front() else {
            return;
        };
        if let Err(cause) = self.put_publish(session, outbound, delivery, expiry_seconds, out) {
            return self.drop_front(session, cause, out);
        }
        if let Some(outbound) = session.pop() {
            out.count(Qos::AtMostOnce, false);
            let outbound = session.finish(outbound);
            out.pool_mut().recycle(outbound.into_message());
        }
    }

    /// Whether the window has room for this delivery, by number and by bytes.
    fn has_room_for(&self, session: &Session, outbound: &Outbound) -> bool {
        if outbound.qos() == Qos::AtMostOnce {
            return true;
        }
        let window = &session.window;
        let bytes = window
            .bytes()
            .saturating_add(outbound.message().len() as u64);
        let fits = bytes <= u64::from(self.options.in_flight_bytes_max) || window.bytes() == 0;
        self.has_window_for(session, outbound.qos()) && fits
    }

    /// Sends the first delivery of the queue, which is above QoS 0. [MQTT-4.3.2-2] [MQTT-4.3.3-2] [MQTT-3.3.1-1]
    /// [MQTT-3.3.1-3]
    #[inline]
    fn send_first(
        &mut self,
        session: &mut Session,
        expiry_seconds: Option<u32>,
        out: &mut Transmit,
    ) {
        let Some(id) = session.next_id() else {
            debug_assert!(false, "has_window_for said that an id is free");
            return;
        };
        let Some(outbound) = session.queue().front() else {
            return;
        };
        let (qos, dup) = (outbound.qos(), outbound.is_repeated());
        let delivery = delivery_of(qos, id, dup);
        if let Err(cause) = self.put_publish(session, outbound, delivery, expiry_seconds, out) {
            if qos == Qos::ExactlyOnce {
                session.hold_queue();
            }
            return self.drop_front(session, cause, out);
        }
        session.begin_first(id);
        self.unacknowledged = self.unacknowledged.saturating_add(1);
        out.count(qos, false);
    }

    /// Writes a PUBLISH if the peer takes it. An alias is registered only if it is written.
    fn put_publish(
        &mut self,
        session: &Session,
        outbound: &Outbound,
        delivery: Delivery,
        expiry_seconds: Option<u32>,
        out: &mut Transmit,
    ) -> Result<(), DropCause> {
        let theirs = &self.theirs;
        if outbound.qos() > theirs.maximum_qos || (outbound.retain() && !theirs.retain_available) {
            return Err(DropCause::NotSupported);
        }
        if outbound.is_plain()
            && self.takes_short(out)
            && out.put_short(outbound.message(), delivery, self.version)
        {
            return Ok(());
        }
        match &self.rare {
            Some(rare) if !rare.mount.is_empty() => {
                self.put_mounted(session, outbound, delivery, expiry_seconds, out)
            }
            Some(_) | None => {
                let message = outbound.message();
                self.put_message(session, (outbound, message), delivery, expiry_seconds, out)
            }
        }
    }

    /// Writes a PUBLISH without the mount point in its names.
    #[cold]
    fn put_mounted(
        &mut self,
        session: &Session,
        outbound: &Outbound,
        delivery: Delivery,
        expiry_seconds: Option<u32>,
        out: &mut Transmit,
    ) -> Result<(), DropCause> {
        let mount = self.rare.as_ref().map_or("", |rare| &rare.mount);
        let own = outbound.message().without_prefix(mount);
        let own = own.ok_or(DropCause::NotSupported)?;
        self.put_message(session, (outbound, &own), delivery, expiry_seconds, out)
    }

    /// The message as the peer knows it, for the delivery it is of.
    #[inline]
    fn put_message(
        &mut self,
        session: &Session,
        (outbound, message): (&Outbound, &Message),
        delivery: Delivery,
        expiry_seconds: Option<u32>,
        out: &mut Transmit,
    ) -> Result<(), DropCause> {
        let ids = session.subscription_ids(outbound);
        // A client must not send them. [MQTT-3.3.4-6]
        let subscription_ids: &[SubscriptionId] = match self.role {
            Role::Client => &[],
            Role::Server => ids.as_slice(),
        };
        let head = Head {
            delivery,
            retain: outbound.retain(),
            topic: TopicForm::Name,
            expiry_seconds,
            subscription_ids,
        };
        let (packet_bytes_max, version) = (self.theirs.packet_bytes_max as usize, self.version);
        let fits_for_certain =
            message.len() + HEAD_BYTES_MAX + ID_BYTES_MAX * subscription_ids.len()
                <= packet_bytes_max;
        let aliases_max = self.aliases_max();
        let fits = |head: &Head<'_>| {
            fits_for_certain || message.packet_len(version, head) <= packet_bytes_max
        };
        let choice = self.choose_alias(message, aliases_max, |topic| fits(&Head { topic, ..head }));
        let topic = choice.form();
        if choice == Choice::Name && !fits(&head) {
            return Err(DropCause::TooLarge);
        }
        let payload = message.encode_head(version, &Head { topic, ..head }, out.out());
        out.put_payload(message, payload);
        if choice != Choice::Name {
            self.rare_mut().outbound.sent(choice, message.topic_bytes());
        }
        Ok(())
    }

    /// How to name the topic; by name if the peer takes no alias, or no packet as large as one that defines it.
    fn choose_alias(
        &mut self,
        message: &Message,
        maximum: u16,
        fits: impl Fn(TopicForm) -> bool,
    ) -> Choice {
        if maximum == 0 {
            return Choice::Name;
        }
        let choice = self
            .rare_mut()
            .outbound
            .choose(message.topic_bytes(), maximum);
        if fits(choice.form()) {
            choice
        } else {
            Choice::Name
        }
    }
}

const fn delivery_of(qos: Qos, id: PacketId, dup: bool) -> Delivery {
    match qos {
        Qos::AtMostOnce => Delivery::AtMostOnce,
        Qos::AtLeastOnce => Delivery::AtLeastOnce { id, dup },
        Qos::ExactlyOnce => Delivery::ExactlyOnce { id, dup },
    }
}
