//! Packet ids that deliveries of QoS 2 have before they are sent.

use alloc::collections::VecDeque;
use core::mem;

use paloma_codec::{PacketId, Qos};
use paloma_topic::Fault;

use crate::gate::LogSeq;
use crate::outbound::Outbound;
use crate::session::Session;
use crate::window::SendWindow;

/// The ids of a session whose QoS 2 deliveries are stored together with the id they go under, so that one that is
/// repeated after a crash is repeated under the id by which its receiver knows it.
///
/// They belong to the first QoS 2 deliveries of the queue, in its order, without gaps. When one that has an id ends unsent, those
/// behind it wait for the commit that holds its end: were they sent before that, a crash could bring it back behind them.
#[derive(Debug, Default)]
pub(crate) struct Assigned {
    /// Those of deliveries that left the queue unsent are among them until they are passed over.
    ids: VecDeque<Id>,
    /// There may be deliveries without an id.
    has_more: bool,
    /// Something waits for [`NEXT`].
    is_held: bool,
    /// The commit that deliveries which are sent again wait for.
    replay_gate: LogSeq,
}

/// The commit that the caller names next, which holds all that has ended by then.
const NEXT: LogSeq = LogSeq(u64::MAX);

#[derive(Clone, Copy, Debug)]
struct Id {
    /// [`Message::id`](paloma_codec::Message::id) of the delivery's message.
    message: u64,
    /// The commit that holds it.
    gate: LogSeq,
    packet: PacketId,
}

impl Assigned {
    /// Forgets the first ids up to that of `message`, which were not sent. False if it has none: then nothing changes.
    fn pass_to(&mut self, message: u64, window: &mut SendWindow) -> bool {
        let place = self.ids.iter().position(|id| id.message == message);
        for stale in self.ids.drain(..place.unwrap_or(0)) {
            window.give_back(stale.packet);
        }
        place.is_some()
    }

    /// Forgets the id of a delivery that left the queue unsent, so that one behind it gets one. Those behind it wait for its end.
    #[inline(never)]
    pub(crate) fn forget(&mut self, outbound: &Outbound, window: &mut SendWindow) {
        if outbound.qos() != Qos::ExactlyOnce {
            return;
        }
        let message = outbound.message().id();
        let place = self.ids.iter().position(|id| id.message == message);
        if let Some(place) = place
            && let Some(stale) = self.ids.remove(place)
        {
            window.give_back(stale.packet);
            self.hold(place);
        }
    }

    /// Has those from `place` on wait for the next commit.
    #[cold]
    #[inline(never)]
    fn hold(&mut self, place: usize) {
        for id in self.ids.iter_mut().skip(place) {
            id.gate = NEXT;
            self.is_held = true;
        }
    }

    /// What waits for the next commit waits for this one; says whether anything does.
    fn release(&mut self, gate: LogSeq) -> bool {
        if !mem::take(&mut self.is_held) {
            return false;
        }
        let gates = self.ids.iter_mut().map(|id| &mut id.gate);
        for held in gates.chain([&mut self.replay_gate]) {
            if *held == NEXT {
                *held = gate;
            }
        }
        true
    }

    /// Forgets all ids from `place` on.
    fn truncate(&mut self, place: usize, window: &mut SendWindow) {
        for stale in self.ids.drain(place.min(self.ids.len())..) {
            window.give_back(stale.packet);
        }
    }
}

impl Session {
    /// From here on a QoS 2 delivery is sent only once it has an id from [`assign_ids`](Self::assign_ids) and the commit
    /// that holds it is durable; what is behind it in the queue waits with it. For sessions that are stored.
    pub fn keep_ids(&mut self) {
        self.assigned.get_or_insert_default();
    }

    /// Whether there may be QoS 2 deliveries without an id while fewer than half of `ahead_max` have one, or some that wait for
    /// the end of one before them.
    #[must_use]
    pub fn wants_ids(&self, ahead_max: usize) -> bool {
        let assigned = self.assigned.as_deref();
        assigned.is_some_and(|assigned| {
            let has_few = assigned.ids.len() < ahead_max.div_ceil(2);
            assigned.is_held || (assigned.has_more && has_few)
        })
    }

    /// Gives packet ids to the first QoS 2 deliveries of the queue until `ahead_max` of them have one, and tells `sink` each
    /// new one with its message. They may be sent once the log is durable up to `gate`, the commit that is to hold what `sink`
    /// was told and every end of a delivery up to here; whether something waits for it is returned. Call it when such deliveries
    /// were queued or [`wants_ids`](Self::wants_ids) says so. Costs a look at each delivery up to the last that gets one.
    pub fn assign_ids(
        &mut self,
        ahead_max: usize,
        gate: LogSeq,
        mut sink: impl FnMut(u64, PacketId),
    ) -> bool {
        let Some(assigned) = self.assigned.as_deref_mut() else {
            return false;
        };
        let mut is_waiting = assigned.release(gate);
        let mut place = 0;
        for outbound in self.queue.iter() {
            if outbound.qos() != Qos::ExactlyOnce {
                continue;
            }
            let message = outbound.message().id();
            if assigned
                .ids
                .get(place)
                .is_some_and(|id| id.message == message)
            {
                place += 1;
                continue;
            }
            let known = assigned.ids.iter().skip(place);
            if let Some(stale) = known.take(ahead_max).position(|id| id.message == message) {
                for stale in assigned.ids.drain(place..place.saturating_add(stale)) {
                    self.window.give_back(stale.packet);
                }
                place += 1;
                continue;
            }
            assigned.truncate(place, &mut self.window);
            assigned.has_more = true;
            if place >= ahead_max {
                return is_waiting;
            }
            let Some(packet) = self.window.reserve() else {
                return is_waiting;
            };
            assigned.ids.push_back(Id {
                message,
                gate,
                packet,
            });
            sink(message, packet);
            is_waiting = true;
            place += 1;
        }
        assigned.truncate(place, &mut self.window);
        assigned.has_more = false;
        is_waiting
    }

    /// Whether the first delivery of the queue waits for an id or for the commit that holds it.
    #[inline]
    pub(crate) fn waits_for_id(&self, outbound: &Outbound, committed: LogSeq) -> bool {
        let Some(assigned) = self.assigned.as_deref() else {
            return false;
        };
        if outbound.qos() != Qos::ExactlyOnce {
            return false;
        }
        let message = outbound.message().id();
        let mut ids = assigned.ids.iter();
        ids.find(|id| id.message == message)
            .is_none_or(|id| id.gate > committed && !Fault::QosTwoDoesNotWait.is_on())
    }

    /// The id of the first delivery of the queue; it is reserved in the window.
    pub(crate) fn take_first_id(&mut self) -> Option<PacketId> {
        let assigned = self.assigned.as_deref_mut()?;
        let first = self.queue.front()?;
        if first.qos() != Qos::ExactlyOnce
            || !assigned.pass_to(first.message().id(), &mut self.window)
        {
            return None;
        }
        assigned.ids.pop_front().map(|id| id.packet)
    }

    /// The first delivery of the queue is over without having been sent.
    pub(crate) fn forget_first_id(&mut self) {
        if let Some(packet) = self.take_first_id() {
            self.window.give_back(packet);
            self.hold_queue();
        }
    }

    /// The first delivery of the queue is over, its id taken, without having been sent.
    pub(crate) fn hold_queue(&mut self) {
        if let Some(assigned) = self.assigned.as_deref_mut() {
            assigned.hold(0);
        }
    }

    /// A QoS 2 delivery that an earlier connection began is over, which its receiver may not know. All that is sent again waits
    /// for the commit that holds it, and the queue too.
    pub(crate) fn hold_replay(&mut self) {
        if let Some(assigned) = self.assigned.as_deref_mut() {
            assigned.hold(0);
            assigned.replay_gate = NEXT;
            assigned.is_held = true;
        }
    }

    /// Whether what an earlier connection began waits for the end of something before it.
    pub(crate) fn holds_replay(&self, committed: LogSeq) -> bool {
        let assigned = self.assigned.as_deref();
        assigned.is_some_and(|assigned| assigned.replay_gate > committed)
    }

    /// How many deliveries at the front of the queue are not to give way to others: those whose ids are stored, while they may be
    /// sent. Otherwise a queue that is always full would have its first delivery wait for ever for the ends of those before it.
    pub(crate) fn spared(&self) -> usize {
        let assigned = self.assigned.as_deref().filter(|_| self.is_connected);
        assigned.map_or(0, |assigned| assigned.ids.len())
    }

    /// Forgets all ids that were not sent.
    pub(crate) fn forget_ids_ahead(&mut self) {
        if let Some(assigned) = self.assigned.as_deref_mut() {
            assigned.truncate(0, &mut self.window);
            assigned.has_more = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use paloma_codec::{Message, MessageParts, PublishProperties};
    use paloma_topic::TopicNameRef;

    use super::*;
    use crate::queue::{Pushed, QueueLimits};

    fn outbound(message: u64, qos: Qos) -> Outbound {
        let parts = MessageParts {
            id: message,
            stamp: 0,
            topic: TopicNameRef::new("t").unwrap(),
            properties: &PublishProperties::default(),
            payload: &[],
        };
        Outbound::new(Message::new(&parts, &mut Vec::new()).unwrap(), qos)
    }

    fn session(messages: &[(u64, Qos)]) -> Session {
        let mut session = Session::new(QueueLimits::default());
        session.keep_ids();
        for (message, qos) in messages {
            let pushed = session.enqueue(outbound(*message, *qos), &[], |_| {});
            assert!(matches!(pushed, Pushed::Stored));
        }
        session
    }

    /// Assigns, and compares the messages that got an id and those ids.
    fn check(session: &mut Session, ahead_max: usize, seq: u64, expected: &[(u64, u16)]) {
        let mut given = Vec::new();
        let _ = session.assign_ids(ahead_max, LogSeq(seq), |message, packet| {
            given.push((message, packet.get()));
        });
        assert_eq!(given, expected);
    }

    /// Takes the first delivery and gives its id.
    fn take(session: &mut Session) -> Option<u16> {
        let id = session.take_first_id();
        session.pop().unwrap();
        let id = id?;
        session.window.give_back(id);
        Some(id.get())
    }

    #[test]
    fn the_first_deliveries_of_qos_2_get_ids_and_each_once() {
        let (one, two) = (Qos::AtLeastOnce, Qos::ExactlyOnce);
        let mut session = session(&[(1, two), (2, one), (3, two), (4, two)]);
        check(&mut session, 2, 5, &[(1, 1), (3, 2)]);
        check(&mut session, 2, 6, &[]);
        assert!(!session.wants_ids(2));
        assert_eq!(take(&mut session), Some(1));
        assert!(!session.wants_ids(2), "not before half of them are gone");
        assert_eq!(take(&mut session), None, "QoS 1 has none");
        assert_eq!(take(&mut session), Some(2));
        assert!(session.wants_ids(2));
        check(&mut session, 2, 7, &[(4, 3)]);
        assert!(!session.wants_ids(2));
    }

    #[test]
    fn a_delivery_waits_for_an_id_and_for_the_commit_that_holds_it() {
        let mut session = session(&[(1, Qos::ExactlyOnce)]);
        let first = outbound(1, Qos::ExactlyOnce);
        assert!(session.waits_for_id(&first, LogSeq(9)));
        check(&mut session, 1, 5, &[(1, 1)]);
        assert!(session.waits_for_id(&first, LogSeq(4)));
        assert!(!session.waits_for_id(&first, LogSeq(5)));
        assert!(!session.waits_for_id(&outbound(2, Qos::AtLeastOnce), LogSeq::ZERO));
    }

    #[test]
    fn what_is_behind_a_delivery_that_ends_unsent_waits_for_a_commit_of_its_own() {
        let all: Vec<_> = (1..=3).map(|message| (message, Qos::ExactlyOnce)).collect();
        let ends: [fn(&mut Session); 3] = [
            |session| {
                session.forget_first_id();
                session.pop().unwrap();
            },
            |session| {
                session.next_id().unwrap();
                session.hold_queue();
                session.pop().unwrap();
            },
            |session| session.take_queued(|outbound| outbound.message().id() == 1, |_| {}),
        ];
        for end in ends {
            let mut session = session(&all);
            check(&mut session, 3, 5, &[(1, 1), (2, 2), (3, 3)]);
            end(&mut session);
            let second = outbound(2, Qos::ExactlyOnce);
            assert!(session.waits_for_id(&second, LogSeq(5)) && session.wants_ids(2));
            let is_waiting = session.assign_ids(3, LogSeq(6), |_, _| panic!("they have theirs"));
            assert!(is_waiting && !session.wants_ids(2));
            assert!(session.waits_for_id(&second, LogSeq(5)));
            assert!(!session.waits_for_id(&second, LogSeq(6)));
            assert_eq!((take(&mut session), take(&mut session)), (Some(2), Some(3)));
        }
    }

    #[test]
    fn what_is_before_a_delivery_that_ends_unsent_waits_for_nothing() {
        let all: Vec<_> = (1..=3).map(|message| (message, Qos::ExactlyOnce)).collect();
        let mut session = session(&all);
        check(&mut session, 3, 5, &[(1, 1), (2, 2), (3, 3)]);
        session.take_queued(|outbound| outbound.message().id() == 2, |_| {});
        assert!(!session.waits_for_id(&outbound(1, Qos::ExactlyOnce), LogSeq(5)));
        assert!(session.waits_for_id(&outbound(3, Qos::ExactlyOnce), LogSeq(5)));
        assert!(!session.holds_replay(LogSeq::ZERO));
    }

    #[test]
    fn what_is_sent_again_waits_for_the_commit_that_is_named_next() {
        let mut session = session(&[]);
        session.hold_replay();
        assert!(session.wants_ids(1) && session.holds_replay(LogSeq(9)));
        assert!(session.assign_ids(1, LogSeq(10), |_, _| {}));
        assert!(session.holds_replay(LogSeq(9)) && !session.holds_replay(LogSeq(10)));
    }

    #[test]
    fn a_session_that_keeps_no_ids_waits_for_none() {
        let mut session = Session::new(QueueLimits::default());
        assert!(!session.waits_for_id(&outbound(1, Qos::ExactlyOnce), LogSeq::ZERO));
        check(&mut session, 9, 1, &[]);
    }

    #[test]
    fn ids_of_deliveries_that_left_unsent_are_free_again() {
        let all: Vec<_> = (1..=6).map(|message| (message, Qos::ExactlyOnce)).collect();
        for gone in [&[1, 2][..], &[2, 3], &[3, 4], &[4], &[1, 2, 3, 4]] {
            let mut session = session(&all);
            check(&mut session, 4, 1, &[(1, 1), (2, 2), (3, 3), (4, 4)]);
            session.take_queued(|outbound| gone.contains(&outbound.message().id()), |_| {});
            // What is left of the first four keeps its ids; the next ones get others.
            let mut given = Vec::new();
            let is_waiting = session.assign_ids(9, LogSeq(2), |message, _| given.push(message));
            assert!(is_waiting);
            assert_eq!(given, [5, 6], "{gone:?}");
            for message in (1..=4).filter(|message| !gone.contains(message)) {
                assert_eq!(take(&mut session), u16::try_from(message).ok());
            }
            assert!(take(&mut session).is_some() && take(&mut session).is_some());
            session.compact();
            assert_eq!(session.window.heap_bytes(), 0, "no id is kept");
        }
    }

    #[test]
    fn no_id_that_is_kept_is_given_to_another_flight() {
        let mut session = session(&[(1, Qos::ExactlyOnce), (2, Qos::ExactlyOnce)]);
        check(&mut session, 9, 1, &[(1, 1), (2, 2)]);
        let begin = |session: &mut Session| {
            let flight = crate::window::Flight::Subscribe { filters: 1 };
            session.window.begin(flight).unwrap().get()
        };
        assert_eq!(begin(&mut session), 3);
        // The ring of ids comes round.
        for _ in 0..70_000 {
            let id = begin(&mut session);
            assert!(id > 3);
            session.window.end(PacketId::new(id).unwrap()).unwrap();
        }
        session.end(|_| {});
        assert!(session.window.is_empty());
    }

    #[test]
    fn a_delivery_that_is_taken_off_the_queue_leaves_its_id_to_the_next() {
        let mut session = session(&[(1, Qos::ExactlyOnce), (2, Qos::ExactlyOnce)]);
        check(&mut session, 1, 1, &[(1, 1)]);
        assert!(!session.wants_ids(1));
        session.take_queued(|outbound| outbound.message().id() == 1, |_| {});
        assert!(session.wants_ids(1));
        check(&mut session, 1, 2, &[(2, 2)]);
    }

    #[test]
    fn ids_of_deliveries_that_were_passed_over_go_and_the_others_stay() {
        let all: Vec<_> = (1..=4).map(|message| (message, Qos::ExactlyOnce)).collect();
        let mut session = session(&all);
        check(&mut session, 3, 1, &[(1, 1), (2, 2), (3, 3)]);
        // It leaves the front of the queue, and nobody says what became of its id.
        session.pop().unwrap();
        check(&mut session, 3, 2, &[(4, 4)]);
        for id in 2..=4 {
            assert_eq!(take(&mut session), Some(id));
        }
    }
}
