//! Deliveries that wait for their receiver, bounded by count and bytes.

use alloc::collections::VecDeque;

use paloma_codec::{Message, Qos};
use paloma_topic::Fault;

use crate::outbound::{Outbound, OutboundOwn};

/// What one waiting delivery is charged beside its message's bytes.
const ENTRY_BYTES: u64 = size_of::<Outbound>() as u64;

/// Empty places that a queue may hold beside as many as are full.
const EMPTY_PLACES_MAX: usize = 4;

/// Empty room that a drained queue may keep while its session is busy, in entries, 3 KiB of them: enough for windows of a hundred
/// messages, which would make room again each time they have been through.
const BUSY_ENTRIES_MAX: usize = 128;

/// How much may wait, and what gives way when it is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// Most deliveries. Default 1,000.
    pub count_max: u32,
    /// Most bytes: each delivery counts its whole message, though messages are shared, plus 24. Default 8 MiB.
    pub bytes_max: u64,
    /// Which delivery gives way once no QoS 0 delivery is left to. Default [`WhenFull::DropOldest`].
    pub when_full: WhenFull,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self {
            count_max: 1_000,
            bytes_max: 8 * 1024 * 1024,
            when_full: WhenFull::DropOldest,
        }
    }
}

/// Which delivery gives way when a queue without QoS 0 deliveries is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// The one that waits longest, those that are about to be sent apart: see [`Session::enqueue`](crate::Session::enqueue).
    #[default]
    DropOldest,
    /// The one that comes.
    DropNewest,
}

/// What became of a pushed delivery.
#[derive(Debug)]
#[must_use]
pub enum Pushed {
    /// It waits.
    Stored,
    /// There is no room, and nothing that had to give way to it.
    Full(Outbound),
}

/// A bounded first-in, first-out queue of deliveries.
///
/// When it is full, the oldest QoS 0 delivery gives way first, a QoS 0 delivery that comes gives way to any other, and
/// after that [`WhenFull`] decides.
#[derive(Debug, Default)]
pub struct Queue {
    /// A place whose delivery gave way is empty until it comes to the front, so that giving way costs no shifting.
    places: VecDeque<Option<Outbound>>,
    /// Full places.
    count: u32,
    /// Full places of QoS 0.
    qos0: u32,
    /// Places at the front that hold no QoS 0 delivery for certain.
    qos0_from: usize,
    bytes: u64,
}

impl Queue {
    /// An empty queue, which owns nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            places: VecDeque::new(),
            count: 0,
            qos0: 0,
            qos0_from: 0,
            bytes: 0,
        }
    }

    /// How many deliveries wait.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether nothing waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The bytes charged for what waits.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of heap that the queue owns, messages not counted.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.places
            .capacity()
            .saturating_mul(size_of::<Option<Outbound>>())
    }

    /// Whether `outbound` fits without anything giving way.
    #[inline(always)]
    #[must_use]
    pub fn has_room_for(&self, outbound: &Outbound, limits: &QueueLimits) -> bool {
        let extra = u32::from(Fault::QueueOffByOne.is_on());
        self.count < limits.count_max.saturating_add(extra)
            && self.bytes.saturating_add(charge(outbound)) <= limits.bytes_max
    }

    /// Puts a delivery at the end. What gives way to it goes to `shed`: QoS 0 first, the oldest first, as
    /// [`take_oldest`](Self::take_oldest) has it.
    pub fn push(
        &mut self,
        outbound: Outbound,
        limits: &QueueLimits,
        spared: usize,
        mut shed: impl FnMut(Outbound),
    ) -> Pushed {
        if charge(&outbound) > limits.bytes_max || limits.count_max == 0 {
            return Pushed::Full(outbound);
        }
        while !self.has_room_for(&outbound, limits) {
            let victim = match (outbound.qos(), limits.when_full) {
                _ if self.qos0 > 0 => self.take_oldest_qos0(),
                (Qos::AtMostOnce, _) | (_, WhenFull::DropNewest) => None,
                (_, WhenFull::DropOldest) => self.take_oldest(spared),
            };
            let Some(victim) = victim else {
                return Pushed::Full(outbound);
            };
            shed(victim);
        }
        self.store(outbound);
        Pushed::Stored
    }

    /// The delivery that waits longest.
    #[must_use]
    pub fn front(&self) -> Option<&Outbound> {
        // The front is never an empty place: `settle` sees to it.
        self.places.front()?.as_ref()
    }

    /// Takes the delivery that waits longest.
    pub fn pop(&mut self) -> Option<Outbound> {
        self.pop_to_place()
    }

    /// The same for who puts it somewhere at once: without a call in between it is copied once.
    #[inline(always)]
    pub(crate) fn pop_to_place(&mut self) -> Option<Outbound> {
        let outbound = self.places.pop_front()??;
        self.qos0_from = self.qos0_from.saturating_sub(1);
        self.forget(&outbound);
        if self.places.len() != self.count as usize || self.is_empty() {
            self.settle();
        }
        Some(outbound)
    }

    /// Takes deliveries of QoS 0 off the front as long as `is_taken` says yes, hands them to `sink`, and says how many they were:
    /// a run of them is taken off the accounts once.
    #[inline]
    pub(crate) fn take_run(
        &mut self,
        mut is_taken: impl FnMut(&Outbound) -> bool,
        mut sink: impl FnMut(Outbound),
    ) -> u32 {
        let (mut count, mut bytes) = (0_u32, 0_u64);
        let mut is_next = |place: &mut Option<Outbound>| place.as_ref().is_some_and(&mut is_taken);
        while let Some(Some(outbound)) = self.places.pop_front_if(&mut is_next) {
            debug_assert_eq!(outbound.qos(), Qos::AtMostOnce, "no other is done with");
            count += 1;
            bytes = bytes.saturating_add(charge(&outbound));
            sink(outbound);
        }
        self.count -= count;
        self.qos0 -= count;
        self.bytes = self.bytes.saturating_sub(bytes);
        self.qos0_from = self.qos0_from.saturating_sub(count as usize);
        self.settle();
        count
    }

    /// Puts a delivery back to the front, beyond the limits if need be.
    pub fn push_front(&mut self, outbound: Outbound) {
        self.remember(&outbound);
        self.qos0_from = match outbound.qos() {
            Qos::AtMostOnce => 0,
            Qos::AtLeastOnce | Qos::ExactlyOnce => self.qos0_from.saturating_add(1),
        };
        self.places.push_front(Some(outbound));
    }

    /// Takes the delivery that waits longest behind so many that are spared, or half of them if there is none. Costs a move of each
    /// of those.
    #[cold]
    #[inline(never)]
    pub fn take_oldest(&mut self, spared: usize) -> Option<Outbound> {
        let place = if spared < self.places.len() {
            spared
        } else {
            self.places.len() / 2
        };
        let behind = self.places.iter().skip(place).position(Option::is_some);
        let place = behind.map_or(0, |behind| place.saturating_add(behind));
        if place == 0 {
            return self.pop();
        }
        let outbound = self.places.remove(place)??;
        if place < self.qos0_from {
            self.qos0_from -= 1;
        }
        self.forget(&outbound);
        self.settle();
        Some(outbound)
    }

    /// All that waits, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Outbound> {
        self.places.iter().flatten()
    }

    /// Takes out whatever `take` says yes to, oldest first, and hands it to `sink`.
    pub fn take_if(
        &mut self,
        mut take: impl FnMut(&Outbound) -> bool,
        mut sink: impl FnMut(Outbound),
    ) {
        for index in 0..self.places.len() {
            let Some(place) = self.places.get_mut(index) else {
                break;
            };
            if place.as_ref().is_some_and(&mut take)
                && let Some(outbound) = place.take()
            {
                self.forget(&outbound);
                sink(outbound);
            }
        }
        self.places.retain(Option::is_some);
        self.qos0_from = 0;
    }

    /// Gives back memory that an idle session does not need.
    pub fn compact(&mut self) {
        self.places.shrink_to_fit();
    }

    fn take_oldest_qos0(&mut self) -> Option<Outbound> {
        while let Some(place) = self.places.get_mut(self.qos0_from) {
            self.qos0_from += 1;
            if place
                .as_ref()
                .is_some_and(|outbound| outbound.qos() == Qos::AtMostOnce)
                && let Some(outbound) = place.take()
            {
                self.forget(&outbound);
                self.settle();
                return Some(outbound);
            }
        }
        debug_assert!(false, "a QoS 0 delivery is counted, so one is found");
        None
    }

    /// Puts a delivery that there is room for at the end.
    #[inline(always)]
    pub(crate) fn store(&mut self, outbound: Outbound) {
        if Fault::QueueReversed.is_on() {
            return self.push_front(outbound);
        }
        self.remember(&outbound);
        let (message, own) = outbound.into_parts();
        self.push_back(message, own);
    }

    /// Takes a delivery in parts, which fit into registers, and puts it together in its place: one that is written in pieces
    /// elsewhere and read at once as a whole, to be copied there, stalls.
    #[inline(never)]
    fn push_back(&mut self, message: Message, own: OutboundOwn) {
        let place = self.places.push_back_mut(None);
        *place = Some(Outbound::from_parts(message, own));
    }

    #[inline]
    fn remember(&mut self, outbound: &Outbound) {
        self.count += 1;
        self.qos0 += u32::from(outbound.qos() == Qos::AtMostOnce);
        self.bytes = self.bytes.saturating_add(charge(outbound));
    }

    #[inline]
    fn forget(&mut self, outbound: &Outbound) {
        self.count -= 1;
        self.qos0 -= u32::from(outbound.qos() == Qos::AtMostOnce);
        self.bytes = self.bytes.saturating_sub(charge(outbound));
    }

    /// Drops empty places at the front, and all of them when they are the greater part.
    fn settle(&mut self) {
        while let Some(None) = self.places.front() {
            self.places.pop_front();
            self.qos0_from = self.qos0_from.saturating_sub(1);
        }
        let full = self.count as usize;
        if full == 0 && self.places.capacity() > BUSY_ENTRIES_MAX {
            self.places.shrink_to(BUSY_ENTRIES_MAX);
        }
        if self.places.len() > full.saturating_mul(2).saturating_add(EMPTY_PLACES_MAX) {
            self.places.retain(Option::is_some);
            self.qos0_from = 0;
        }
    }
}

#[inline]
fn charge(outbound: &Outbound) -> u64 {
    ENTRY_BYTES.saturating_add(outbound.message().len() as u64)
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use paloma_codec::{Message, MessageParts, PublishProperties};
    use paloma_topic::TopicNameRef;
    use proptest::prelude::*;

    use super::*;

    const LEVELS: [Qos; 3] = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce];

    fn outbound(id: u64, qos: u8, bytes: usize) -> Outbound {
        let parts = MessageParts {
            id,
            stamp: 0,
            topic: TopicNameRef::new("t").unwrap(),
            properties: &PublishProperties::default(),
            payload: &std::vec![0; bytes],
        };
        let qos = LEVELS[usize::from(qos)];
        Outbound::new(Message::new(&parts, &mut Vec::new()).unwrap(), qos)
    }

    /// Pushes deliveries of these QoS, numbered from 0; returns what is left and what was dropped.
    fn check(count_max: u32, when_full: WhenFull, levels: &[u8], expected: (&[u64], &[u64])) {
        let limits = QueueLimits {
            count_max,
            when_full,
            ..QueueLimits::default()
        };
        let mut queue = Queue::new();
        let mut dropped = Vec::new();
        for (id, qos) in levels.iter().enumerate() {
            let pushed = queue.push(outbound(id as u64, *qos, 0), &limits, 0, |victim| {
                dropped.push(victim.message().id());
            });
            if let Pushed::Full(outbound) = pushed {
                dropped.push(outbound.message().id());
            }
        }
        let left: Vec<_> = queue
            .iter()
            .map(|outbound| outbound.message().id())
            .collect();
        assert_eq!((left.as_slice(), dropped.as_slice()), expected);
    }

    #[test]
    fn qos_0_gives_way_first_oldest_first_under_both_policies() {
        for when_full in [WhenFull::DropOldest, WhenFull::DropNewest] {
            check(3, when_full, &[1, 0, 0, 1, 2], (&[0, 3, 4], &[1, 2]));
            check(2, when_full, &[0, 0, 0, 0], (&[2, 3], &[0, 1]));
            check(2, when_full, &[1, 1, 0], (&[0, 1], &[2]));
        }
    }

    #[test]
    fn without_qos_0_the_policy_decides() {
        check(2, WhenFull::DropOldest, &[1, 2, 1], (&[1, 2], &[0]));
        check(2, WhenFull::DropNewest, &[1, 2, 1], (&[0, 1], &[2]));
    }

    #[test]
    fn the_oldest_behind_those_that_are_spared_gives_way() {
        for (spared, expected) in [(0, 0), (1, 1), (4, 4), (5, 2), (9, 2)] {
            let mut queue = Queue::new();
            for id in 0..5 {
                queue.store(outbound(id, 2, 0));
            }
            let oldest = queue.take_oldest(spared).unwrap();
            assert_eq!(oldest.message().id(), expected, "{spared}");
            assert_eq!(queue.len(), 4);
        }
        assert!(Queue::new().take_oldest(3).is_none());
    }

    #[test]
    fn a_message_larger_than_the_whole_queue_pushes_nothing_out() {
        let limits = QueueLimits {
            bytes_max: 1_000,
            ..QueueLimits::default()
        };
        let mut queue = Queue::new();
        let _ = queue.push(outbound(0, 0, 0), &limits, 0, |_| panic!("it fits"));
        let pushed = queue.push(outbound(1, 2, 1_000), &limits, 0, |_| {
            panic!("nothing gives way")
        });
        assert!(matches!(pushed, Pushed::Full(_)));
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn a_drained_queue_gives_its_memory_back() {
        let limits = QueueLimits::default();
        let mut queue = Queue::new();
        for id in 0..1_000 {
            let _ = queue.push(outbound(id, 1, 0), &limits, 0, |_| {});
        }
        while queue.pop().is_some() {}
        assert!(queue.heap_bytes() <= BUSY_ENTRIES_MAX * size_of::<Outbound>());
        queue.compact();
        assert_eq!((queue.heap_bytes(), queue.bytes()), (0, 0));
    }

    #[derive(Clone, Copy, Debug)]
    enum Op {
        Push(u8, usize),
        PushSparing(u8, usize),
        Pop,
        PushFront(u8),
        TakeQos(u8),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            6 => (0..3_u8, 0..300_usize).prop_map(|(qos, bytes)| Op::Push(qos, bytes)),
            2 => (0..3_u8, 0..25_usize).prop_map(|(qos, spared)| Op::PushSparing(qos, spared)),
            2 => Just(Op::Pop),
            1 => (0..3_u8).prop_map(Op::PushFront),
            1 => (0..3_u8).prop_map(Op::TakeQos),
        ]
    }

    proptest! {
        /// Invariants I7 and I9 of a queue: in bounds at every step, and received = delivered + queued + dropped.
        #[test]
        fn a_queue_stays_in_bounds_and_loses_count_of_nothing(
            drop_newest in any::<bool>(),
            ops in prop::collection::vec(op(), 0..400),
        ) {
            let when_full = if drop_newest { WhenFull::DropNewest } else { WhenFull::DropOldest };
            let limits = QueueLimits { count_max: 20, bytes_max: 4_000, when_full };
            let mut queue = Queue::new();
            let (mut pushed, mut gone) = (0, 0);
            for op in ops {
                match op {
                    Op::Push(qos, bytes) => {
                        pushed += 1;
                        let result = queue.push(outbound(pushed, qos, bytes), &limits, 0, |_| gone += 1);
                        gone += u64::from(matches!(result, Pushed::Full(_)));
                    }
                    Op::PushSparing(qos, spared) => {
                        pushed += 1;
                        let outbound = outbound(pushed, qos, 100);
                        let result = queue.push(outbound, &limits, spared, |_| gone += 1);
                        gone += u64::from(matches!(result, Pushed::Full(_)));
                    }
                    Op::Pop => gone += u64::from(queue.pop().is_some()),
                    Op::PushFront(qos) => {
                        if let Some(front) = queue.pop() {
                            let id = front.message().id();
                            queue.push_front(outbound(id, qos, 0));
                        }
                    }
                    Op::TakeQos(qos) => {
                        let qos = LEVELS[usize::from(qos)];
                        queue.take_if(|outbound| outbound.qos() == qos, |_| gone += 1);
                    }
                }
                prop_assert!(queue.len() <= 20 && queue.bytes() <= 4_000);
                prop_assert_eq!(pushed, gone + queue.len() as u64);
                let ids: Vec<_> = queue.iter().map(|outbound| outbound.message().id()).collect();
                prop_assert!(ids.is_sorted(), "order is kept");
                prop_assert_eq!(queue.front().map(|front| front.message().id()), ids.first().copied());
                let bytes: u64 = queue.iter().map(charge).sum();
                prop_assert_eq!(queue.bytes(), bytes);
            }
        }
    }

    #[test]
    fn a_queue_owns_a_place_for_each_delivery_until_it_is_idle() {
        let mut queue = Queue::new();
        assert_eq!(queue.heap_bytes(), 0);
        let limits = QueueLimits::default();
        for n in 0..100 {
            let pushed = queue.push(outbound(n, 1, 0), &limits, 0, |_| {});
            assert!(matches!(pushed, Pushed::Stored));
        }
        let full = 100 * size_of::<Outbound>();
        assert!(queue.heap_bytes() >= full);
        while queue.pop().is_some() {}
        queue.compact();
        assert!(queue.heap_bytes() < full);
    }

    #[test]
    fn a_delivery_may_fill_a_queue_by_itself() {
        let mut queue = Queue::new();
        let push = |bytes_max, queue: &mut Queue| {
            let limits = QueueLimits {
                bytes_max,
                ..QueueLimits::default()
            };
            let pushed = queue.push(outbound(1, 1, 500), &limits, 0, |_| {});
            (matches!(pushed, Pushed::Stored), queue.bytes())
        };
        let (_, charged) = push(u64::MAX, &mut queue);
        assert_eq!(push(charged, &mut Queue::new()), (true, charged));
        assert_eq!(push(charged - 1, &mut Queue::new()), (false, 0));
    }
}
