//! What was sent and not yet acknowledged, by packet id and in order of sending.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem;
use core::num::NonZeroU32;

use paloma_codec::{PacketId, Qos};
use paloma_topic::Fault;

use crate::outbound::Outbound;

/// Slots that a window keeps when it is compacted while empty: none; and the fewest it starts with.
const SLOTS_MIN: usize = 4;

/// Slots that an empty window may keep while its session is busy, 5 KiB of them: enough for windows of a hundred messages, which
/// would make room again each time they have been through.
const BUSY_SLOTS_MAX: usize = 128;

/// Slots of a table with one for each value of an id.
const SLOTS_MAX: usize = 1 << 16;

/// Exchanges that this side began: PUBLISHes above QoS 0 and, in the client role, SUBSCRIBE and UNSUBSCRIBE.
///
/// Ids go up and wrap, and none is given out while it is in use [MQTT-2.2.1-3] [MQTT-2.2.1-4]. An id names its slot by
/// its low bits, so that finding one is a single look; an id whose slot is taken is passed over. The table doubles when all its slots are
/// taken, up to one slot for each of the 65,535 ids, and is freed by [`SendWindow::compact`] when empty.
#[derive(Debug, Default)]
pub struct SendWindow {
    /// Sessions that nothing was sent to since have none.
    table: Option<Box<Table>>,
    /// The id given out last, while there is no table.
    last_id: Option<PacketId>,
}

#[derive(Debug, Default)]
struct Table {
    slots: Box<[Slot]>,
    count: u32,
    /// Ids that are kept for flights that have not begun.
    reserved: u16,
    /// Bytes of the messages that were not given up to the receiver.
    bytes: u64,
    /// The id given out last.
    last_id: Option<PacketId>,
    oldest: Option<PacketId>,
    newest: Option<PacketId>,
}

#[derive(Debug, Default)]
struct Slot {
    /// Free if none.
    id: Option<PacketId>,
    previous: Option<PacketId>,
    next: Option<PacketId>,
    /// Whether the flight was sent, or sent again, on the connection that is open.
    on_this_connection: bool,
    flight: Option<Flight>,
}

/// One exchange in flight.
#[derive(Debug)]
pub enum Flight {
    /// A PUBLISH that waits for PUBACK (QoS 1) or PUBREC (QoS 2). [MQTT-4.3.2-3] [MQTT-4.3.3-3]
    Publish(Outbound),
    /// A PUBREL that waits for PUBCOMP; the message was the receiver's from its PUBREC on. [MQTT-4.3.3-5]
    Released {
        /// [`Message::id`](paloma_codec::Message::id) of the message.
        message: u64,
        /// [`Outbound::share`] of the delivery.
        share: Option<NonZeroU32>,
    },
    /// A SUBSCRIBE that waits for SUBACK.
    Subscribe {
        /// How many filters it had, and so reason codes its answer has.
        filters: u16,
    },
    /// An UNSUBSCRIBE that waits for UNSUBACK.
    Unsubscribe {
        /// How many filters it had, and so reason codes its answer has.
        filters: u16,
    },
}

impl Flight {
    fn bytes(&self) -> u64 {
        match self {
            Self::Publish(outbound) => outbound.message().len() as u64,
            Self::Released { .. } | Self::Subscribe { .. } | Self::Unsubscribe { .. } => 0,
        }
    }

    /// Whether it belongs to the session and so outlives the connection: requests do not. [MQTT-4.4.0-1]
    #[must_use]
    pub const fn survives(&self) -> bool {
        match self {
            Self::Publish(_) | Self::Released { .. } => true,
            Self::Subscribe { .. } | Self::Unsubscribe { .. } => false,
        }
    }
}

impl SendWindow {
    /// An empty window, which owns nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many exchanges are in flight.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.as_ref().map_or(0, |table| table.count as usize)
    }

    /// Whether nothing is in flight.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether all 65,535 ids are in use, so that the next exchange has to wait.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.table
            .as_ref()
            .is_some_and(|table| table.is_exhausted())
    }

    /// Bytes of the messages in flight; a PUBREL holds none.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.table.as_ref().map_or(0, |table| table.bytes)
    }

    /// Bytes of heap that the window owns, messages not counted.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.table.as_ref().map_or(0, |table| {
            size_of::<Table>().saturating_add(size_of_val(&*table.slots))
        })
    }

    /// The flight under `id`.
    #[must_use]
    pub fn get(&self, id: PacketId) -> Option<&Flight> {
        self.slot(id)?.flight.as_ref()
    }

    /// All flights, in the order in which they were begun.
    pub fn iter(&self) -> impl Iterator<Item = (PacketId, &Flight)> {
        let mut next = self.first();
        core::iter::from_fn(move || {
            let id = next?;
            let slot = self.slot(id)?;
            next = slot.next;
            Some((id, slot.flight.as_ref()?))
        })
    }

    /// Begins a flight under the next free id, as the newest.
    ///
    /// # Errors
    /// The flight, while all ids are in use.
    pub fn begin(&mut self, flight: Flight) -> Result<PacketId, Flight> {
        let Some(id) = self.next_id() else {
            return Err(flight);
        };
        self.begin_as(id, flight);
        Ok(id)
    }

    /// The next free id, for a flight that begins at once or not at all: it is not given out again before all others.
    /// `None` while all are in use.
    #[inline]
    pub(crate) fn next_id(&mut self) -> Option<PacketId> {
        let table = self.table_mut();
        let id = table.next_free()?;
        table.last_id = Some(id);
        Some(id)
    }

    /// Begins a flight under an id that is free, as the newest.
    #[inline]
    pub(crate) fn begin_as(&mut self, id: PacketId, flight: Flight) {
        self.table_mut().link(id, || Some(flight));
    }

    /// The same with a flight that is made in its slot, if it is made.
    #[inline(always)]
    pub(crate) fn begin_with(&mut self, id: PacketId, make: impl FnOnce() -> Option<Flight>) {
        self.table_mut().link(id, make);
    }

    /// Keeps the next free id for a flight that begins later. `None` while all are in use.
    pub(crate) fn reserve(&mut self) -> Option<PacketId> {
        let table = self.table_mut();
        let id = table.next_free()?;
        let place = table.place(id);
        if let Some(slot) = table.slots.get_mut(place) {
            *slot = Slot {
                id: Some(id),
                ..Slot::default()
            };
        }
        table.reserved = table.reserved.saturating_add(1);
        table.last_id = Some(id);
        Some(id)
    }

    /// Frees an id that was kept.
    pub(crate) fn give_back(&mut self, id: PacketId) {
        if let Some(table) = &mut self.table
            && let Some(slot) = table.slot_mut(id)
            && slot.flight.is_none()
        {
            *slot = Slot::default();
            table.reserved = table.reserved.saturating_sub(1);
        }
    }

    /// Puts a flight back under the id that it had, as the newest: how a stored session is rebuilt, oldest first.
    ///
    /// # Errors
    /// The flight, if the id is in use.
    pub fn restore(&mut self, id: PacketId, flight: Flight) -> Result<(), Flight> {
        let table = self.table_mut();
        if table.slot(id).is_some() {
            return Err(flight);
        }
        while !table.has_room_for(id) {
            table.grow();
        }
        table.link(id, || Some(flight));
        table.last_id = table.last_id.max(Some(id));
        if let Some(slot) = table.slot_mut(id) {
            slot.on_this_connection = false;
        }
        Ok(())
    }

    /// Ends the flight under `id` and frees the id.
    pub fn end(&mut self, id: PacketId) -> Option<Flight> {
        let table = self.table.as_mut()?;
        let flight = table.take(id)?;
        if table.is_idle() {
            self.drained();
        }
        Some(flight)
    }

    /// Nothing is in flight any more: what a burst took goes back.
    fn drained(&mut self) {
        if let Some(table) = &self.table
            && table.slots.len() > BUSY_SLOTS_MAX
        {
            self.compact();
        }
    }

    /// Ends the QoS 1 PUBLISH under `id`, and says whether it was sent on the connection that is open. `None`, and nothing is
    /// done, if that is not what flies there.
    #[inline(always)]
    pub(crate) fn end_qos1(&mut self, id: PacketId) -> Option<(Outbound, bool)> {
        let table = self.table.as_mut()?;
        let slot = table.slot_mut(id)?;
        match &slot.flight {
            Some(Flight::Publish(outbound)) if outbound.qos() == Qos::AtLeastOnce => {}
            Some(_) | None => return None,
        }
        let is_on_this_connection = slot.on_this_connection;
        let Some(Flight::Publish(outbound)) = table.take(id) else {
            return None;
        };
        if table.is_idle() {
            self.drained();
        }
        Some((outbound, is_on_this_connection))
    }

    /// Gives back memory that an idle session does not need.
    pub fn compact(&mut self) {
        if let Some(table) = self.table.take_if(|table| table.is_idle()) {
            self.last_id = table.last_id;
        }
    }

    /// PUBREC came: the PUBLISH under `id` becomes a PUBREL. Returns the delivery if it was one.
    pub(crate) fn release(&mut self, id: PacketId) -> Option<Outbound> {
        self.table.as_mut()?.release(id)
    }

    /// The oldest flight's id.
    pub(crate) fn first(&self) -> Option<PacketId> {
        self.table.as_ref()?.oldest
    }

    /// The id of the flight begun after that of `id`.
    pub(crate) fn after(&self, id: PacketId) -> Option<PacketId> {
        self.slot(id)?.next
    }

    /// Whether the flight under `id` was sent on the connection that is open.
    pub(crate) fn is_on_this_connection(&self, id: PacketId) -> bool {
        self.slot(id).is_some_and(|slot| slot.on_this_connection)
    }

    /// Notes that the flight under `id` was sent on the connection that is open.
    pub(crate) fn mark_on_this_connection(&mut self, id: PacketId) {
        if let Some(slot) = self.slot_mut(id) {
            slot.on_this_connection = true;
        }
    }

    /// A new connection begins: nothing was sent on it yet, and requests of the old one are forgotten.
    pub(crate) fn change_connection(&mut self) {
        let mut id = self.first();
        while let Some(current) = id {
            id = self.after(current);
            if self.get(current).is_some_and(Flight::survives) {
                if let Some(slot) = self.slot_mut(current) {
                    slot.on_this_connection = false;
                }
            } else {
                self.end(current);
            }
        }
    }

    fn slot(&self, id: PacketId) -> Option<&Slot> {
        self.table.as_ref()?.slot(id)
    }

    fn slot_mut(&mut self, id: PacketId) -> Option<&mut Slot> {
        self.table.as_mut()?.slot_mut(id)
    }

    fn table_mut(&mut self) -> &mut Table {
        self.table.get_or_insert_with(|| {
            Box::new(Table {
                last_id: self.last_id,
                ..Table::default()
            })
        })
    }
}

impl Table {
    fn is_idle(&self) -> bool {
        self.count == 0 && self.reserved == 0
    }

    fn is_exhausted(&self) -> bool {
        self.count as usize + self.reserved as usize >= SLOTS_MAX - 1
    }

    /// Ends the flight under `id`. It is taken out of its slot in place: slots are not moved.
    #[inline(always)]
    fn take(&mut self, id: PacketId) -> Option<Flight> {
        let slot = self.slot_mut(id)?;
        let flight = slot.flight.take()?;
        slot.id = None;
        let (previous, next) = (slot.previous, slot.next);
        match previous.and_then(|previous| self.slot_mut(previous)) {
            Some(previous) => previous.next = next,
            None => self.oldest = next,
        }
        match next.and_then(|next| self.slot_mut(next)) {
            Some(next) => next.previous = previous,
            None => self.newest = previous,
        }
        self.count -= 1;
        self.bytes -= flight.bytes();
        Some(flight)
    }

    fn release(&mut self, id: PacketId) -> Option<Outbound> {
        let flight = self.slot_mut(id)?.flight.as_mut()?;
        let Flight::Publish(outbound) = flight else {
            return None;
        };
        let (message, share) = (outbound.message().id(), outbound.share());
        let bytes = outbound.message().len() as u64;
        let released = mem::replace(flight, Flight::Released { message, share });
        self.bytes -= bytes;
        match released {
            Flight::Publish(outbound) => Some(outbound),
            Flight::Released { .. } | Flight::Subscribe { .. } | Flight::Unsubscribe { .. } => None,
        }
    }

    /// [MQTT-4.3.2-1] [MQTT-4.3.3-1]
    fn next_free(&mut self) -> Option<PacketId> {
        if self.is_exhausted() {
            return None;
        }
        if Fault::IdReused.is_on() && self.oldest.is_some() {
            return self.oldest;
        }
        if self.count as usize + self.reserved as usize >= self.slots.len() {
            self.grow();
        }
        let mut id = self.last_id.map_or(PacketId::MIN, PacketId::next);
        while !self.has_room_for(id) {
            id = id.next();
        }
        Some(id)
    }

    fn has_room_for(&self, id: PacketId) -> bool {
        self.slots
            .get(self.place(id))
            .is_some_and(|slot| slot.id.is_none())
    }

    #[inline(always)]
    fn link(&mut self, id: PacketId, make: impl FnOnce() -> Option<Flight>) {
        let previous = self.newest;
        let place = self.place(id);
        let Some(slot) = self.slots.get_mut(place) else {
            return;
        };
        debug_assert!(slot.id.is_none(), "an id is never reused in flight");
        slot.flight = make();
        let Some(flight) = &slot.flight else {
            return;
        };
        let bytes = flight.bytes();
        slot.id = Some(id);
        slot.previous = previous;
        slot.next = None;
        slot.on_this_connection = true;
        match previous.and_then(|previous| self.slot_mut(previous)) {
            Some(previous) => previous.next = Some(id),
            None => self.oldest = Some(id),
        }
        self.newest = Some(id);
        self.count += 1;
        self.bytes += bytes;
    }

    /// Doubles the table. Ids that had slots of their own modulo n have them modulo 2n too.
    fn grow(&mut self) {
        let size = self
            .slots
            .len()
            .saturating_mul(2)
            .clamp(SLOTS_MIN, SLOTS_MAX);
        let mut slots = Vec::new();
        slots.resize_with(size, Slot::default);
        for slot in mem::take(&mut self.slots) {
            if let Some(id) = slot.id
                && let Some(place) = slots.get_mut(usize::from(id.get()) & (size - 1))
            {
                *place = slot;
            }
        }
        self.slots = slots.into_boxed_slice();
    }

    fn place(&self, id: PacketId) -> usize {
        usize::from(id.get()) & self.slots.len().wrapping_sub(1)
    }

    #[inline]
    fn slot(&self, id: PacketId) -> Option<&Slot> {
        self.slots
            .get(self.place(id))
            .filter(|slot| slot.id == Some(id))
    }

    #[inline]
    fn slot_mut(&mut self, id: PacketId) -> Option<&mut Slot> {
        let place = self.place(id);
        self.slots.get_mut(place).filter(|slot| slot.id == Some(id))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn request() -> Flight {
        Flight::Subscribe { filters: 1 }
    }

    fn id(value: u16) -> PacketId {
        PacketId::new(value).unwrap()
    }

    /// Case G4: ids are unique in flight, never 0, and run out at 65,535.
    #[test]
    fn all_ids_can_be_in_flight_and_none_is_given_twice() {
        let mut window = SendWindow::new();
        for value in 1..=u16::MAX {
            assert_eq!(window.begin(request()).unwrap(), id(value));
        }
        assert!(window.is_exhausted());
        assert!(window.begin(request()).is_err());
        window.end(id(40_000)).unwrap();
        assert_eq!(window.begin(request()).unwrap(), id(40_000));
        for value in 1..=u16::MAX {
            window.end(id(value)).unwrap();
        }
        assert!(window.is_empty());
        assert_eq!(window.heap_bytes(), 0);
    }

    #[test]
    fn one_old_flight_costs_no_table_of_all_ids() {
        let mut window = SendWindow::new();
        let old = window.begin(request()).unwrap();
        for _ in 0..200_000 {
            let id = window.begin(request()).unwrap();
            assert_ne!(id, old);
            window.end(id).unwrap();
        }
        assert!(window.heap_bytes() <= size_of::<Table>() + 4 * size_of::<Slot>());
    }

    #[test]
    fn a_restored_flight_keeps_its_id_and_no_new_one_gets_it() {
        let mut window = SendWindow::new();
        for value in [65_535, 3, 9] {
            window.restore(id(value), request()).unwrap();
        }
        assert!(window.restore(id(3), request()).is_err());
        let ids: Vec<_> = (0..5)
            .map(|_| window.begin(request()).unwrap().get())
            .collect();
        assert!(!ids.contains(&3) && !ids.contains(&9) && !ids.contains(&65_535));
        let order: Vec<_> = window.iter().map(|(id, _)| id.get()).collect();
        assert_eq!(order[..3], [65_535, 3, 9]);
        assert_eq!(order[3..], ids);
    }

    proptest! {
        /// Invariant I5.
        #[test]
        fn the_window_behaves_as_a_list_of_unique_ids(
            operations in prop::collection::vec(prop::option::of(any::<prop::sample::Index>()), 0..600),
        ) {
            let mut window = SendWindow::new();
            let mut model = VecDeque::new();
            for operation in operations {
                match operation {
                    Some(index) if !model.is_empty() => {
                        let id = model.remove(index.index(model.len())).unwrap();
                        prop_assert!(window.end(id).is_some());
                        prop_assert!(window.end(id).is_none());
                    }
                    Some(_) | None => {
                        let id = window.begin(request()).unwrap();
                        prop_assert!(!model.contains(&id));
                        model.push_back(id);
                    }
                }
                prop_assert_eq!(window.len(), model.len());
            }
            prop_assert!(window.iter().map(|(id, _)| id).eq(model.iter().copied()));
        }
    }
}
