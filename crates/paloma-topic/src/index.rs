//! Ids by hash, in a table that grows a small part at a time.

use alloc::vec::Vec;
use core::{fmt, mem};

use hashbrown::HashTable;

use crate::hash::Hashed;

/// Ids of a segment on average, above which there is one segment more: the most that an insertion moves is twice that.
const FILL: usize = 2_048;

/// Bits of a hash that choose the segment lie above those that choose the place in it.
const SEGMENT_SHIFT: u32 = 14;

/// Segments that the bits of a hash can tell apart. Beyond 268 million ids segments become larger.
const SEGMENTS_MAX: usize = 1 << (u32::BITS - SEGMENT_SHIFT);

/// Its ids, each with its hash.
type Segment = HashTable<(Hashed, u32)>;

/// Finds ids by hash. The ids stand for entries of another table, which knows the keys.
///
/// It keeps each id's hash, at eight bytes an entry: growing touches nothing but the index, and a lookup follows an id
/// only when 32 bits agree.
///
/// No insertion or removal takes long, however many ids there are: the index is made of segments, of which one is split in
/// two when all of them together have become too full (linear hashing), and each of which is a hash table of a few thousand
/// places. A single table would move a million entries when it doubles, which takes 10 ms.
///
/// It cannot be gone through, so that nobody depends on its order.
#[derive(Clone, Default)]
pub struct Index {
    segments: Vec<Segment>,
    /// One below the number of segments rounded up to a power of two; 0 without any.
    mask: usize,
    len: usize,
}

impl Index {
    /// An empty index, which takes no memory of the heap.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            segments: Vec::new(),
            mask: 0,
            len: 0,
        }
    }

    /// How many ids there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no ids.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Looks an id up among those whose hash is the same.
    #[inline]
    pub fn find(&self, hash: Hashed, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let found = self
            .segment(hash)?
            .find(hash.widen(), |&(other, id)| other == hash && is_it(id));
        found.map(|&(_, id)| id)
    }

    /// Adds an id that is not there, under no other hash either.
    pub fn insert(&mut self, hash: Hashed, id: u32) {
        if self.len >= self.segments.len() * FILL && self.segments.len() < SEGMENTS_MAX {
            self.split();
        }
        self.len += 1;
        self.put(hash, id);
    }

    /// Has another id in the place of one that is there, of the same hash.
    pub fn replace(&mut self, hash: Hashed, id: u32, by: u32) {
        let found = self.segment_mut(hash).and_then(|segment| {
            segment.find_mut(hash.widen(), |&(other, place)| other == hash && place == id)
        });
        debug_assert!(found.is_some(), "an id that is replaced was inserted");
        if let Some(found) = found {
            found.1 = by;
        }
    }

    /// Takes an id out, and gives memory back when most of it is unused.
    pub fn remove(&mut self, hash: Hashed, id: u32) {
        let Some(segment) = self.segment_mut(hash) else {
            debug_assert!(false, "an id that is removed was inserted");
            return;
        };
        let found = segment.find_entry(hash.widen(), |&(_, other)| other == id);
        debug_assert!(found.is_ok(), "an id that is removed was inserted");
        let Ok(entry) = found else {
            return;
        };
        entry.remove();
        if segment.len() < segment.capacity() / 8 {
            segment.shrink_to(segment.len() * 2, |&(hash, _)| hash.widen());
        }
        self.len -= 1;
        if self.segments.len() > 1 && self.len < self.segments.len() * FILL / 4 {
            self.merge();
        }
    }

    /// The segment that a hash belongs to: by its bits below the next power of two, or one bit less where there is no such
    /// segment yet. `None` without any.
    #[inline]
    fn segment(&self, hash: Hashed) -> Option<&Segment> {
        let place = hash.high(SEGMENT_SHIFT) & self.mask;
        // Found at once most of the time, and always in an index of one segment.
        match self.segments.get(place) {
            Some(segment) => Some(segment),
            None => self.segments.get(place & (self.mask >> 1)),
        }
    }

    fn segment_mut(&mut self, hash: Hashed) -> Option<&mut Segment> {
        let mut place = hash.high(SEGMENT_SHIFT) & self.mask;
        if place >= self.segments.len() {
            place &= self.mask >> 1;
        }
        self.segments.get_mut(place)
    }

    fn put(&mut self, hash: Hashed, id: u32) {
        if let Some(segment) = self.segment_mut(hash) {
            segment.insert_unique(hash.widen(), (hash, id), |&(hash, _)| hash.widen());
        }
    }

    /// Adds a segment, and moves there what belongs to it: all of that was in one other.
    fn split(&mut self) {
        let parted = parted_by(self.segments.len()).and_then(|half| self.segments.get_mut(half));
        let capacity = parted.as_ref().map_or(0, |parted| parted.len() / 2);
        let parted = parted.map(|parted| mem::replace(parted, HashTable::with_capacity(capacity)));
        self.segments.push(HashTable::with_capacity(capacity));
        self.mask = self.segments.len().next_power_of_two() - 1;
        for (hash, id) in parted.into_iter().flatten() {
            self.put(hash, id);
        }
    }

    /// Takes the last segment away, and moves what is in it to where a split had it from.
    fn merge(&mut self) {
        let Some(last) = self.segments.pop() else {
            return;
        };
        self.mask = self.segments.len().next_power_of_two() - 1;
        for (hash, id) in last {
            self.put(hash, id);
        }
        if self.segments.len() < self.segments.capacity() / 4 {
            self.segments.shrink_to(self.segments.len() * 2);
        }
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

/// The segment that one of this number takes its ids from; the first has none.
const fn parted_by(segment: usize) -> Option<usize> {
    match segment.checked_ilog2() {
        Some(highest) => Some(segment & !(1 << highest)),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(count: u32) -> Index {
        let mut index = Index::new();
        for id in 0..count {
            index.insert(Hashed::of_number(id.into()), id);
        }
        index
    }

    fn check(index: &Index, ids: impl IntoIterator<Item = u32>, are_there: bool) {
        for id in ids {
            let found = index.find(Hashed::of_number(id.into()), |other| other == id);
            assert_eq!(found, are_there.then_some(id));
        }
    }

    #[test]
    fn what_was_inserted_is_found_however_often_the_index_was_split() {
        for count in [0, 1, 1_024, 1_025, 2_049, 3_073, 4_097, 5_000, 70_000] {
            let index = numbered(count);
            assert_eq!(index.segments.len(), (count as usize).div_ceil(FILL));
            assert_eq!(index.len(), count as usize);
            check(&index, 0..count, true);
            check(&index, count..count + 1_000, false);
        }
    }

    #[test]
    fn segments_are_small_whatever_the_number_of_ids() {
        let index = numbered(300_000);
        let longest = index.segments.iter().map(HashTable::len).max().unwrap();
        assert!(longest < 3 * FILL, "{longest}");
    }

    #[test]
    fn hashes_of_one_value_stay_together_and_are_told_apart_by_their_ids() {
        let mut index = numbered(2_000);
        let hash = Hashed::of_number(7);
        for id in 10_000..20_000 {
            index.insert(hash, id);
        }
        assert_eq!(index.find(hash, |id| id == 15_000), Some(15_000));
        index.replace(hash, 15_000, 5);
        assert_eq!(index.find(hash, |id| id == 15_000), None);
        assert_eq!(index.find(hash, |id| id == 5), Some(5));
        index.remove(hash, 5);
        assert_eq!(index.find(hash, |id| id == 5), None);
        check(&index, 0..2_000, true);
    }

    #[test]
    fn memory_is_given_back_as_ids_go() {
        let mut index = numbered(70_000);
        for id in 0..69_990 {
            index.remove(Hashed::of_number(id.into()), id);
        }
        check(&index, 0..69_990, false);
        check(&index, 69_990..70_000, true);
        assert_eq!((index.len(), index.segments.len(), index.mask), (10, 1, 0));
        assert!(index.segments.capacity() < 8);
        assert!(index.segments[0].capacity() < 100);
        for id in 69_990..70_000 {
            index.remove(Hashed::of_number(id.into()), id);
        }
        assert!(index.segments[0].capacity() < 8);
        assert!(index.is_empty());
    }
}
