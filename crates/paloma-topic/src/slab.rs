//! A table of values under small stable ids.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::mem;

/// An id that no value has.
pub(crate) const NONE: u32 = u32::MAX;

/// Ids stay below this, so that users have a bit for themselves.
pub(crate) const ID_END: u32 = 1 << 31;

/// Slots of a chunk.
const CHUNK: usize = 256;

/// Keeps values under ids that stay the same as long as the value is there.
///
/// Chunks, rather than one vector: growing never copies, and a chunk whose values have all gone is given
/// back. A free slot in the lowest chunk is used first, which empties the higher ones over time.
#[derive(Clone)]
pub(crate) struct Slab<T> {
    chunks: Vec<Chunk<T>>,
    /// Chunks with room.
    open: BTreeSet<u32>,
    len: usize,
}

#[derive(Clone)]
struct Chunk<T> {
    slots: Vec<Slot<T>>,
    /// Head of the list of vacant slots.
    vacant: u32,
    live: u32,
}

#[derive(Clone)]
enum Slot<T> {
    /// Holds the position of the next vacant slot in its chunk.
    Vacant(u32),
    Occupied(T),
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self {
            chunks: Vec::new(),
            open: BTreeSet::new(),
            len: 0,
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Adds a value.
    ///
    /// # Panics
    /// When there are 2³¹ values; at the size of a node they would fill 80 GiB.
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        let index = match self.open.first() {
            Some(&index) => index,
            None => self.add_chunk(),
        };
        let at = to_usize(index);
        let chunk = self.chunks.get_mut(at).expect("open chunks exist");
        let slot = chunk.insert(value, at == 0);
        if chunk.is_full() {
            self.open.remove(&index);
        }
        self.len += 1;
        join(index, slot)
    }

    /// Takes a value out.
    pub(crate) fn remove(&mut self, id: u32) -> Option<T> {
        let (index, slot) = split(id);
        let chunk = self.chunks.get_mut(index)?;
        let was_full = chunk.is_full();
        let value = chunk.remove(slot)?;
        self.len -= 1;
        if was_full {
            self.open.insert(to_id(index));
        }
        while self.chunks.last().is_some_and(|chunk| chunk.live == 0) {
            self.chunks.pop();
            self.open.remove(&to_id(self.chunks.len()));
        }
        if self.chunks.len() < self.chunks.capacity() / 4 {
            self.chunks.shrink_to(self.chunks.len() * 2);
        }
        Some(value)
    }

    pub(crate) fn get(&self, id: u32) -> Option<&T> {
        let (index, slot) = split(id);
        match self.chunks.get(index)?.slots.get(slot)? {
            Slot::Occupied(value) => Some(value),
            Slot::Vacant(_) => None,
        }
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        let (index, slot) = split(id);
        match self.chunks.get_mut(index)?.slots.get_mut(slot)? {
            Slot::Occupied(value) => Some(value),
            Slot::Vacant(_) => None,
        }
    }

    /// The value of an id that the holder's own invariants keep alive.
    pub(crate) fn at(&self, id: u32) -> &T {
        self.get(id).expect("the id of a value that is there")
    }

    /// The value of an id that the holder's own invariants keep alive.
    pub(crate) fn at_mut(&mut self, id: u32) -> &mut T {
        self.get_mut(id).expect("the id of a value that is there")
    }

    fn add_chunk(&mut self) -> u32 {
        let index = to_id(self.chunks.len());
        assert!(
            join(index, CHUNK - 1) < ID_END,
            "a slab holds at most 2³¹ values"
        );
        self.chunks.push(Chunk {
            slots: Vec::new(),
            vacant: NONE,
            live: 0,
        });
        self.open.insert(index);
        index
    }
}

impl<T> Chunk<T> {
    fn insert(&mut self, value: T, is_first: bool) -> usize {
        self.live += 1;
        let slot = to_usize(self.vacant);
        if let Some(vacant) = self.slots.get_mut(slot) {
            if let Slot::Vacant(next) = mem::replace(vacant, Slot::Occupied(value)) {
                self.vacant = next;
            }
            return slot;
        }
        // Small tables are the common case, so that only the first chunk grows from nothing.
        if !is_first && self.slots.capacity() == 0 {
            self.slots.reserve_exact(CHUNK);
        }
        self.slots.push(Slot::Occupied(value));
        self.slots.len() - 1
    }

    fn remove(&mut self, slot: usize) -> Option<T> {
        let place = self.slots.get_mut(slot)?;
        if matches!(place, Slot::Vacant(_)) {
            return None;
        }
        let taken = mem::replace(place, Slot::Vacant(self.vacant));
        self.vacant = to_id(slot);
        self.live -= 1;
        if self.live == 0 {
            self.slots = Vec::new();
            self.vacant = NONE;
        }
        match taken {
            Slot::Occupied(value) => Some(value),
            Slot::Vacant(_) => None,
        }
    }

    const fn is_full(&self) -> bool {
        self.live as usize == CHUNK
    }
}

const fn split(id: u32) -> (usize, usize) {
    (to_usize(id) / CHUNK, to_usize(id) % CHUNK)
}

#[expect(clippy::cast_possible_truncation, reason = "the slot is below 256")]
const fn join(chunk: u32, slot: usize) -> u32 {
    chunk * CHUNK as u32 + slot as u32
}

/// Ids index tables in memory, so they fit in an address.
pub(crate) const fn to_usize(id: u32) -> usize {
    id as usize
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "tables are no longer than ID_END"
)]
pub(crate) const fn to_id(index: usize) -> u32 {
    debug_assert!(index < to_usize(ID_END));
    index as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_stay_while_their_values_do() {
        let mut slab = Slab::new();
        let ids: Vec<u32> = (0..1_000).map(|value| slab.insert(value)).collect();
        for &id in ids.iter().step_by(2) {
            slab.remove(id).unwrap();
        }
        for (value, &id) in ids.iter().enumerate() {
            assert_eq!(slab.get(id).copied(), (value % 2 == 1).then_some(value));
        }
        assert_eq!(slab.len(), 500);
    }

    #[test]
    fn vacant_slots_are_used_before_new_ones() {
        let mut slab = Slab::new();
        let ids: Vec<u32> = (0..600).map(|value| slab.insert(value)).collect();
        assert_eq!(slab.remove(ids[300]), Some(300));
        assert_eq!(slab.remove(ids[300]), None);
        assert_eq!(slab.remove(ids[10]), Some(10));
        assert_eq!(slab.insert(7), ids[10]);
        assert_eq!(slab.insert(8), ids[300]);
        assert_eq!(slab.insert(9), 600);
    }

    #[test]
    fn empty_chunks_are_given_back() {
        let mut slab = Slab::new();
        let ids: Vec<u32> = (0..2_000).map(|value| slab.insert(value)).collect();
        for &id in &ids[256..512] {
            slab.remove(id);
        }
        assert_eq!(slab.chunks[1].slots.capacity(), 0);
        assert_eq!(slab.insert(1), 256);
        for &id in &ids {
            slab.remove(id);
        }
        assert!(slab.chunks.is_empty() && slab.open.is_empty());
        assert!(slab.chunks.capacity() < 8);
        assert_eq!(slab.len(), 0);
    }
}
