//! What survives the socket: plain data.

use alloc::boxed::Box;
use alloc::sync::Arc;

use paloma_codec::{PacketId, Qos, SubscriptionId};

use crate::assigned::Assigned;
use crate::id_sets::IdSets;
use crate::outbound::{Ids, Outbound};
use crate::queue::{Pushed, Queue, QueueLimits};
use crate::received::ReceivedIds;
use crate::window::{Flight, SendWindow};

/// One client's protocol state, on either side: exchanges in flight both ways and deliveries that wait.
///
/// It holds neither subscriptions nor a name; those are the caller's.
#[derive(Debug, Default)]
pub struct Session {
    pub(crate) window: SendWindow,
    pub(crate) received: ReceivedIds,
    pub(crate) queue: Queue,
    /// Of a session that keeps ids.
    pub(crate) assigned: Option<Box<Assigned>>,
    id_sets: Option<Box<IdSets>>,
    limits: Arc<QueueLimits>,
    /// How many connections it has had.
    connections: u32,
    /// Whether a resume is possible: an exchange with the peer has begun.
    established: bool,
    /// Whether the last of them is there.
    pub(crate) is_connected: bool,
}

/// A delivery that a session leaves behind.
#[derive(Debug)]
pub struct Leftover {
    /// The delivery.
    pub outbound: Outbound,
    /// The packet id, if it was sent: the receiver may have it.
    pub sent_as: Option<PacketId>,
}

impl Session {
    /// A session without any state. Whoever has many hands the same limits to all.
    #[must_use]
    pub fn new(limits: impl Into<Arc<QueueLimits>>) -> Self {
        Self {
            limits: limits.into(),
            ..Self::default()
        }
    }

    /// Puts a delivery at the end of the queue, with the identifiers of all subscriptions that it is for
    /// [MQTT-3.3.4-3]. What gives way to it goes to `shed`: QoS 0 first, the oldest first; while a connection is there, one that
    /// has a packet id only where there is no other.
    pub fn enqueue(
        &mut self,
        mut outbound: Outbound,
        ids: &[SubscriptionId],
        mut shed: impl FnMut(Outbound),
    ) -> Pushed {
        let id_sets = &mut self.id_sets;
        outbound.set_ids(match ids {
            [] => Ids::None,
            [id] => Ids::One(*id),
            [_, _, ..] => id_sets.get_or_insert_default().keep(ids),
        });
        if !self.has_room_for(&outbound) {
            return self.enqueue_full(outbound, &mut shed);
        }
        self.queue.store(outbound);
        Pushed::Stored
    }

    /// The same where something has to give way, or there is no room.
    #[cold]
    #[inline(never)]
    fn enqueue_full(&mut self, outbound: Outbound, shed: &mut dyn FnMut(Outbound)) -> Pushed {
        let spared = self.spared();
        let (assigned, window) = (&mut self.assigned, &mut self.window);
        let id_sets = &mut self.id_sets;
        let forget = |mut victim| {
            forget_ids(id_sets, &mut victim);
            if let Some(assigned) = assigned {
                assigned.forget(&victim, window);
            }
            shed(victim);
        };
        match self.queue.push(outbound, &self.limits, spared, forget) {
            Pushed::Stored => Pushed::Stored,
            Pushed::Full(mut outbound) => {
                forget_ids(&mut self.id_sets, &mut outbound);
                Pushed::Full(outbound)
            }
        }
    }

    /// Takes out the delivery that gives way as in [`Session::enqueue`] where none of QoS 0 is left to.
    pub fn take_oldest(&mut self) -> Option<Outbound> {
        let mut oldest = self.queue.take_oldest(self.spared())?;
        forget_ids(&mut self.id_sets, &mut oldest);
        if let Some(assigned) = &mut self.assigned {
            assigned.forget(&oldest, &mut self.window);
        }
        Some(oldest)
    }

    /// Puts a [`Leftover`] to the front of the queue, beyond its limits if need be, to be sent as if it never was: for a peer
    /// that has lost the session. Of several the last one comes first.
    pub fn put_back(&mut self, outbound: Outbound) {
        self.queue.push_front(outbound);
    }

    /// As [`Session::enqueue`] with one identifier at most, if nothing has to give way.
    ///
    /// # Errors
    /// The delivery, where something would have to.
    // Within its one caller the delivery is put together where it waits: written in pieces and read back at once as a whole, it
    // would stall.
    #[inline(always)]
    pub fn enqueue_in_room(
        &mut self,
        mut outbound: Outbound,
        id: Option<SubscriptionId>,
    ) -> Result<(), Outbound> {
        if !self.has_room_for(&outbound) {
            return Err(outbound);
        }
        outbound.set_ids(id.map_or(Ids::None, Ids::One));
        self.queue.store(outbound);
        Ok(())
    }

    /// Whether `outbound` could be queued without anything giving way.
    #[inline(always)]
    #[must_use]
    pub fn has_room_for(&self, outbound: &Outbound) -> bool {
        self.queue.has_room_for(outbound, &self.limits)
    }

    /// Changes the limits of the queue. What is queued beyond them stays.
    pub fn set_limits(&mut self, limits: impl Into<Arc<QueueLimits>>) {
        self.limits = limits.into();
    }

    /// The limits of the queue.
    #[must_use]
    pub fn limits(&self) -> &QueueLimits {
        &self.limits
    }

    /// Deliveries that were not begun.
    #[must_use]
    pub const fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Exchanges that this side began.
    #[must_use]
    pub const fn window(&self) -> &SendWindow {
        &self.window
    }

    /// QoS 2 exchanges that the peer began.
    #[must_use]
    pub const fn received(&self) -> &ReceivedIds {
        &self.received
    }

    /// The identifiers of the subscriptions that a delivery of this session is for.
    #[must_use]
    pub fn subscription_ids<'a>(&'a self, outbound: &'a Outbound) -> SubscriptionIdList<'a> {
        match outbound.ids() {
            Ids::None => SubscriptionIdList::Slice(&[]),
            Ids::One(id) => SubscriptionIdList::One([id]),
            Ids::Several(place) => SubscriptionIdList::Slice(
                self.id_sets
                    .as_ref()
                    .map_or(&[], |sets| sets.several(place)),
            ),
        }
    }

    /// Takes out what `take` says yes to among deliveries that were not begun, oldest first: how a shared
    /// subscription's messages are handed on.
    pub fn take_queued(
        &mut self,
        mut take: impl FnMut(&Outbound) -> bool,
        mut sink: impl FnMut(Outbound),
    ) {
        self.take_queued_to(&mut take, &mut sink);
    }

    /// The same once, for all callers.
    #[inline(never)]
    fn take_queued_to(
        &mut self,
        take: &mut dyn FnMut(&Outbound) -> bool,
        sink: &mut dyn FnMut(Outbound),
    ) {
        let id_sets = &mut self.id_sets;
        let (assigned, window) = (&mut self.assigned, &mut self.window);
        self.queue.take_if(take, |mut outbound| {
            forget_ids(id_sets, &mut outbound);
            if let Some(assigned) = assigned {
                assigned.forget(&outbound, window);
            }
            sink(outbound);
        });
    }

    /// The peer has lost the session, or was told to: exchanges both ways are over, unfinished deliveries go to
    /// `sink` in their order (QoS 2 deliveries whose PUBREC came are the peer's and do not), the queue stays.
    /// [MQTT-3.2.2-5] [MQTT-3.1.2-4] [MQTT-4.1.0-1]
    pub fn restart(&mut self, mut sink: impl FnMut(Leftover)) {
        while let Some(id) = self.window.first() {
            if let Some(Flight::Publish(outbound)) = self.window.end(id) {
                let outbound = self.finish(outbound);
                sink(Leftover {
                    outbound,
                    sent_as: Some(id),
                });
            }
        }
        self.received.clear();
        self.established = false;
    }

    /// Takes back what `take` says yes to among PUBLISHes in flight, oldest first, and frees their ids. Only between two
    /// connections: the receiver is not told.
    pub fn take_flights(
        &mut self,
        mut take: impl FnMut(&Outbound) -> bool,
        mut sink: impl FnMut(Outbound),
    ) {
        let mut next = self.window.first();
        while let Some(id) = next {
            next = self.window.after(id);
            let is_taken = match self.window.get(id) {
                Some(Flight::Publish(outbound)) => take(outbound),
                Some(
                    Flight::Released { .. } | Flight::Subscribe { .. } | Flight::Unsubscribe { .. },
                )
                | None => false,
            };
            if is_taken && let Some(Flight::Publish(outbound)) = self.window.end(id) {
                let outbound = self.finish(outbound);
                sink(outbound);
            }
        }
    }

    /// Gives up what `give_up` says yes to among QoS 2 PUBLISHes in flight: their PUBREL follows on the next connection
    /// instead of the message, as if PUBREC had come. A receiver that has the message finishes it, one that has not
    /// answers PUBCOMP for an id it does not know [MQTT-4.3.3-11], and the id is free for both. Only between two
    /// connections.
    pub fn release_flights(
        &mut self,
        mut give_up: impl FnMut(&Outbound) -> bool,
        mut sink: impl FnMut(PacketId, Outbound),
    ) {
        let mut next = self.window.first();
        while let Some(id) = next {
            next = self.window.after(id);
            let is_given_up = match self.window.get(id) {
                Some(Flight::Publish(outbound)) => {
                    outbound.qos() == Qos::ExactlyOnce && give_up(outbound)
                }
                Some(
                    Flight::Released { .. } | Flight::Subscribe { .. } | Flight::Unsubscribe { .. },
                )
                | None => false,
            };
            if is_given_up && let Some(outbound) = self.window.release(id) {
                let outbound = self.finish(outbound);
                sink(id, outbound);
            }
        }
    }

    /// The session ends: hands over all its deliveries, those in flight first, each in its order, and is as new after.
    pub fn end(&mut self, mut sink: impl FnMut(Leftover)) {
        self.restart(&mut sink);
        self.forget_ids_ahead();
        while let Some(outbound) = self.queue.pop() {
            let outbound = self.finish(outbound);
            sink(Leftover {
                outbound,
                sent_as: None,
            });
        }
        self.compact();
    }

    /// Puts an exchange of ours back as it was stored; oldest first.
    ///
    /// # Errors
    /// The exchange, if its id is in use.
    pub fn restore_flight(&mut self, id: PacketId, flight: Flight) -> Result<(), Flight> {
        self.established = true;
        self.window.restore(id, flight)
    }

    /// Puts a PUBLISH back as it was stored, with its subscription identifiers; oldest first. It goes out with DUP on the next
    /// connection.
    ///
    /// # Errors
    /// The exchange, if its packet id is in use.
    pub fn restore_publish(
        &mut self,
        id: PacketId,
        mut outbound: Outbound,
        ids: &[SubscriptionId],
    ) -> Result<(), Flight> {
        outbound.set_ids(match ids {
            [] => Ids::None,
            [id] => Ids::One(*id),
            [_, _, ..] => self.id_sets.get_or_insert_default().keep(ids),
        });
        self.restore_flight(id, Flight::Publish(outbound))
    }

    /// Forgets a QoS 2 PUBLISH of the peer's that was not answered and is not going to be: when it comes again, it is a new
    /// one.
    pub fn forget_received(&mut self, id: PacketId) {
        self.received.remove(id);
    }

    /// Puts an open QoS 2 exchange of the peer's back as it was stored.
    pub fn restore_received(&mut self, id: PacketId) {
        self.established = true;
        self.received.insert(id);
    }

    /// Says that the peer has this session too, so that a resume is expected: set by the first connection, and by
    /// a caller that rebuilds a stored session.
    pub const fn set_established(&mut self) {
        self.established = true;
    }

    /// Whether the peer has this session too.
    #[must_use]
    pub const fn is_established(&self) -> bool {
        self.established
    }

    /// Whether nothing is in flight either way and nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.window.is_empty() && self.received.is_empty() && self.queue.is_empty()
    }

    /// Bytes that the session owns beside itself, messages not counted.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.window.heap_bytes() + self.received.heap_bytes() + self.queue.heap_bytes()
    }

    /// Gives back memory that an idle session does not need. A PINGREQ does this too.
    pub fn compact(&mut self) {
        self.window.compact();
        self.received.compact();
        self.queue.compact();
        if self.id_sets.as_ref().is_some_and(|sets| sets.is_empty()) {
            self.id_sets = None;
        }
    }

    /// A connection begins. Returns its number.
    pub(crate) fn begin_connection(&mut self) -> u32 {
        self.connections = self.connections.wrapping_add(1);
        self.established = true;
        self.is_connected = true;
        self.window.change_connection();
        self.connections
    }

    pub(crate) const fn connection(&self) -> u32 {
        self.connections
    }

    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Outbound> {
        self.queue.pop()
    }

    /// The packet id under which the first delivery of the queue goes out at once, or not at all.
    #[inline]
    pub(crate) fn next_id(&mut self) -> Option<PacketId> {
        if self.assigned.is_some()
            && let Some(id) = self.take_first_id()
        {
            self.window.give_back(id);
            return Some(id);
        }
        self.window.next_id()
    }

    /// Moves the first delivery of the queue to the window, as the newest.
    #[inline]
    pub(crate) fn begin_first(&mut self, id: PacketId) {
        let queue = &mut self.queue;
        self.window
            .begin_with(id, || queue.pop_to_place().map(Flight::Publish));
    }

    /// The delivery is over: its identifiers are forgotten.
    #[inline]
    pub(crate) fn finish(&mut self, mut outbound: Outbound) -> Outbound {
        forget_ids(&mut self.id_sets, &mut outbound);
        outbound
    }
}

/// Subscription identifiers of one delivery.
#[derive(Clone, Copy, Debug)]
pub enum SubscriptionIdList<'a> {
    /// One.
    One([SubscriptionId; 1]),
    /// None, or several.
    Slice(&'a [SubscriptionId]),
}

impl SubscriptionIdList<'_> {
    /// The identifiers.
    #[must_use]
    pub const fn as_slice(&self) -> &[SubscriptionId] {
        match self {
            Self::One(id) => id,
            Self::Slice(ids) => ids,
        }
    }
}

#[inline]
fn forget_ids(id_sets: &mut Option<Box<IdSets>>, outbound: &mut Outbound) {
    if let Some(sets) = id_sets {
        sets.forget(outbound.ids());
    }
    outbound.set_ids(Ids::None);
}
